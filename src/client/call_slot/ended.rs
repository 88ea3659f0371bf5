//! The end of a call, as the interceptors of its client and its trace receive it.

use super::{CallSlot, Promise, ReplyOutcome};
use crate::client::CallError;
use crate::client::interceptor::{self, EndedClientCall};
use crate::extensions::Extensions;
use crate::status::Code;

/// The end of an attempt, for its span.
#[cfg_attr(not(feature = "trace"), allow(dead_code, reason = "no span is written"))]
pub(in crate::client) struct AttemptSpan<'a> {
    pub(in crate::client) method: &'a str,
    /// The address of the client.
    pub(in crate::client) address: &'a str,
    pub(in crate::client) code: Code,
    pub(in crate::client) request_bytes: usize,
    pub(in crate::client) reply_bytes: usize,
}

impl Promise {
    /// Writes the span of an attempt that has ended with this.
    #[cold]
    pub(super) fn end_span(&mut self, outcome: &Result<ReplyOutcome, CallError>, body: Option<&[u8]>) {
        let Some(call_slot) = self.call_slot.clone() else { return };
        let method = call_slot.inside().method_name.clone();
        let body = body.unwrap_or_default();
        let ended = AttemptSpan {
            method: &method,
            address: &self.endpoint.address,
            code: outcome.as_ref().map_or_else(|error| error.code(), ReplyOutcome::code),
            request_bytes: self.body_bytes,
            reply_bytes: body.len(),
        };
        self.trace.end_attempt(&ended, || match outcome {
            Ok(_) => String::from_utf8_lossy(body).into_owned(),
            Err(error) => error.to_string(),
        });
    }

    /// Takes note that the call is sent again, on another connection: that is another attempt.
    #[cold]
    pub(in crate::client) fn repeat_span(&mut self) {
        if self.trace.is_open() {
            let text = "the connection ended before the server had answered the call";
            let error = std::io::Error::new(std::io::ErrorKind::ConnectionAborted, text);
            self.end_span(&Err(CallError::Lost { error, may_have_run: true }), None);
            self.begin_span(usize::from(self.tries));
        }
    }

    /// Begins the span of an attempt that is made after another. `attempt` counts from 0.
    pub(in crate::client) fn begin_span(&mut self, attempt: usize) {
        self.trace.begin_attempt(attempt, &mut self.metadata);
    }

    /// Passes the end of the call to the interceptors.
    #[inline(never)]
    pub(super) fn pass_end(
        &self,
        call_slot: &CallSlot,
        outcome: &Result<ReplyOutcome, CallError>,
        reply_bytes: usize,
    ) {
        let (method_name, extensions, began) = {
            let mut inside = call_slot.inside();
            (std::mem::take(&mut inside.method_name), inside.extensions.take(), inside.began.take())
        };
        // Outside the lock: it runs the user's code.
        let end = EndedClientCall {
            method: &method_name,
            address: &self.endpoint.address,
            code: outcome.as_ref().map_or_else(|error| error.code(), ReplyOutcome::code),
            error: outcome.as_ref().err(),
            took: began.map(|began| began.elapsed()).unwrap_or_default(),
            request_bytes: self.body_bytes,
            reply_bytes,
            extensions: Extensions::of(extensions.as_deref()),
        };
        interceptor::on_end(self.endpoint.interceptors(), &end);
        call_slot.inside().method_name = method_name;
    }
}
