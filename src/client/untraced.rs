//! In the place of `traced.rs` without the feature `trace`: no call is traced.

use std::convert::Infallible;
use std::sync::Arc;

use crate::context::Peer;
use crate::message::MetadataBuf;
use crate::status::Code;
use crate::wire::Scheme;

pub(super) type ClientTracing = Infallible;

#[derive(Debug, Default)]
pub(super) struct CallAttemptTrace;

#[allow(dead_code, reason = "read by traced.rs")]
pub(super) struct AttemptSpan<'a> {
    pub(super) method: &'a str,
    pub(super) address: &'a str,
    pub(super) code: Code,
    pub(super) request_bytes: usize,
    pub(super) reply_bytes: usize,
}

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
