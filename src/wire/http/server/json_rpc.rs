//! JSON-RPC by POST: a request's body is a message or a batch, and its response has all answers.
//!
//! The calls of a body are returned one by one while the connection's later input waits, so the limits of a
//! connection apply to them as to any others. Their ids have a bit that no place in the order of responses has.

use std::ops::Range;

use coreloop_bufpool::Chunk;

use super::super::reply::{PendingResponse, ServerResponse};
use super::{HttpServerInner, RequestCall, RequestState};
use crate::message::{Message, ReplyExtras, SendBody, Span};
use crate::status::Code;
use crate::wire::jsonrpc::{CarriedCalls, CarriedMessages};
use crate::wire::{Out, Received};

/// The bit that marks ids of calls by JSON-RPC.
pub(super) const ID_BIT: u64 = 1 << 63;

/// A connection's state for JSON-RPC, allocated with the first such request.
#[derive(Debug)]
pub(super) struct JsonRpcBodies {
    calls: CarriedCalls,
    /// The body whose requests are being returned.
    current: Option<JsonRpcBody>,
}

/// A body whose requests are being returned.
#[derive(Debug)]
struct JsonRpcBody {
    messages: CarriedMessages,
    call: RequestCall,
    /// The start of the text in the scratch bytes; `None`: it is in the input, whose first byte is not consumed yet.
    scratch_at: Option<usize>,
    /// Bytes of the input to be consumed with the last request.
    len: usize,
    /// The number of them already consumed.
    consumed: usize,
    /// The response is the connection's last.
    closes: bool,
}

impl HttpServerInner {
    /// Starts a complete body. It is in the first `len` bytes of the input, or in the scratch bytes from `scratch_at`
    /// on; then `len` is the length of its end in the input.
    pub(super) fn begin_json_rpc(
        &mut self,
        call: RequestCall,
        scratch_at: Option<usize>,
        input: &[u8],
        len: usize,
        out: &mut Out<'_>,
    ) -> Received<Message> {
        let text = match scratch_at {
            Some(at) => &self.gathered[at..],
            None => input,
        };
        let mut messages = CarriedMessages::read(text, &self.side);
        let pending = PendingResponse { closes: call.pending.closes || self.is_draining, ..call.pending };
        let is_silent = messages.are_notifications();
        let place = self.take_place(pending);
        let bodies = self
            .json_rpc
            .get_or_insert_with(|| Box::new(JsonRpcBodies { calls: CarriedCalls::new(), current: None }));
        bodies.calls.begin(&mut messages, place, &self.side);
        bodies.current =
            Some(JsonRpcBody { messages, call, scratch_at, len, consumed: 0, closes: pending.closes });
        self.state = RequestState::JsonRpc;
        if is_silent {
            // Notifications have no answers: the response confirms their arrival, and the requests follow.
            self.keep(place, ServerResponse::NoAnswers);
            self.write_ready(out);
        }
        self.next_json_rpc()
    }

    /// Returns the remaining bytes of input of the current body.
    pub(super) fn json_rpc_bytes_left(&self) -> usize {
        let body = self.json_rpc.as_ref().and_then(|bodies| bodies.current.as_ref());
        body.map_or(0, |body| body.len - body.consumed)
    }

    /// Returns the next request of the current body.
    pub(super) fn next_json_rpc(&mut self) -> Received<Message> {
        let Some(bodies) = &mut self.json_rpc else { return Received::End };
        let JsonRpcBodies { calls, current } = &mut **bodies;
        let Some(body) = current else { return Received::End };
        let base = body.consumed;
        let in_place = |range: Range<usize>| match body.scratch_at {
            Some(at) => Span::scratch((at + range.start) as u32, range.len() as u32),
            None => Span::new((range.start - base) as u32, range.len() as u32),
        };
        let metadata = Span::scratch(0, self.metadata.as_bytes().len() as u32);
        let details = (body.call.time_left_us, metadata);
        let Some((mut message, end)) = calls.next(&mut body.messages, details, in_place) else {
            return Received::End;
        };
        match &mut message {
            Message::Request(request) => request.id |= ID_BIT,
            Message::Refused(refusal) => refusal.id |= ID_BIT,
            _ => {}
        }
        let is_last = body.messages.is_empty();
        if is_last {
            body.consumed = body.len;
        } else if body.scratch_at.is_none() {
            body.consumed = end;
        }
        let consumed = body.consumed - base;
        if is_last {
            self.state = if body.closes { RequestState::Ended } else { RequestState::Head };
            *current = None;
            self.is_scratch_stale = true;
        }
        Received::Message { message, consumed }
    }

    /// Handles a drain while a body is being returned: its remaining requests follow, then the connection closes.
    pub(super) fn end_after_json_rpc(&mut self) {
        if let Some(body) = self.json_rpc.as_mut().and_then(|bodies| bodies.current.as_mut()) {
            body.closes = true;
        }
    }

    /// Handles the result of a call by JSON-RPC. The last answer of a body sends all of them.
    #[inline(never)]
    pub(super) fn reply_json_rpc(
        &mut self,
        id: u64,
        code: Code,
        extras: Option<&ReplyExtras>,
        body: SendBody<'_>,
        out: &mut Out<'_>,
    ) {
        if let Some(bodies) = &mut self.json_rpc
            && let Some((place, text)) = bodies.calls.answer(id & !ID_BIT, (code, extras, body), &self.side)
        {
            self.keep(place, ServerResponse::JsonRpc { body: Chunk::from(text) });
            self.write_ready(out);
        }
    }
}
