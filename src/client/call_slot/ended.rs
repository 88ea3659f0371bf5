//! The end of a call, as the interceptors of its client receive it.

use super::{CallSlot, Promise, ReplyOutcome};
use crate::client::CallError;
use crate::client::interceptor::{self, EndedClientCall};
use crate::extensions::Extensions;

impl Promise {
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
