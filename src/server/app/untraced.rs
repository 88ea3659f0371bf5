//! In the place of `traced.rs` without the feature `trace`: no call is traced.

use std::convert::Infallible;
use std::time::Instant;

use super::end::EndedSpan;
use crate::config::TraceConfig;
use crate::extensions::CallExtensions;
use crate::message::Metadata;

pub(super) type TraceStart = Infallible;
pub(super) type CallTrace = Infallible;

pub(in crate::server) struct CallTracing;

impl CallTracing {
    pub(super) fn is_on(&self) -> bool {
        false
    }

    pub(super) fn configure(&mut self, _config: &TraceConfig) {}

    pub(super) fn look(&mut self, _metadata: &[u8]) -> Option<TraceStart> {
        None
    }

    pub(super) fn begin(
        &mut self,
        start: TraceStart,
        _metadata: Metadata<'_>,
        _arrived: Instant,
    ) -> Option<CallTrace> {
        match start {}
    }

    pub(super) fn end(&mut self, _ended: &EndedSpan<'_>, _extensions: Option<&CallExtensions>) {}

    pub(super) fn end_group(&mut self, _name: &str, _calls: u32, _began: Instant, _now: Instant) {}
}
