//! In the place of `traced.rs` without the feature `trace`: no call is traced.

use std::convert::Infallible;
use std::sync::Arc;

use super::call_slot::AttemptSpan;
use crate::context::Peer;
use crate::message::MetadataBuf;
use crate::wire::Scheme;

pub(super) type ClientTracing = Infallible;

#[derive(Debug, Default)]
pub(super) struct CallAttemptTrace;

impl CallAttemptTrace {
    pub(super) fn begin(
        _tracing: &Arc<ClientTracing>,
        _scheme: Scheme,
        _metadata: &mut Option<Arc<MetadataBuf>>,
    ) -> CallAttemptTrace {
        CallAttemptTrace
    }

    pub(super) fn begin_attempt(&mut self, _attempt: usize, _metadata: &mut Option<Arc<MetadataBuf>>) {}

    pub(super) fn copy(
        &mut self,
        _attempt: usize,
        _metadata: &mut Option<Arc<MetadataBuf>>,
    ) -> CallAttemptTrace {
        CallAttemptTrace
    }

    pub(super) fn set_peer(&mut self, _peer: impl FnOnce() -> Peer) {}

    pub(super) fn is_open(&self) -> bool {
        false
    }

    pub(super) fn end_attempt(&mut self, _ended: &AttemptSpan<'_>, _message: impl FnOnce() -> String) {}
}
