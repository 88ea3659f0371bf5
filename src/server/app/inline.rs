//! Inline calls: run on the reactor's thread, and timed together if they are quick.

use std::time::Instant;

use coreloop_bufpool::{Chunk, LINK_BYTES_MIN};

use super::{CallEnd, Cx, Dispatcher, deadline_of, reply};
use crate::context::{Context, ContextParts, Deferral, Outcome, RunCall};
use crate::message::{Metadata, Request, SendBody};
use crate::service::{CallShape, Method, Registry};
use crate::stats::micros;
use crate::status::{Code, Status};
use crate::workers::batch::{CallNote, guarded, settle};

impl Dispatcher {
    /// Runs a method that is known to take less than a microsecond; such calls are timed together, not individually.
    #[inline(always)]
    pub(super) fn run_quick(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
    ) {
        if !self.timing.is_timing(index) {
            self.end_timing();
            self.timing.begin(index, Instant::now(), cx.now());
        }
        let began = self.timing.began;
        let queue_us = self.timing.queue_us;
        let deadline = deadline_of(request, cx.now());
        let (outcome, note) = self.run_here(registry, cx, request, index, method, began, deadline);
        self.timing.calls += 1;
        if let Outcome::Answer = outcome {
            self.timing.ok += 1;
            let body = SendBody::Bytes(&self.out);
            let ended = CallEnd { code: Code::Ok, queue_us, handler_us: 0, compressed: false, body };
            return reply(cx, request.id, request.codec, ended);
        }
        let times = CallEnd {
            code: Code::Ok,
            queue_us,
            handler_us: 0,
            compressed: false,
            body: SendBody::Bytes(&[]),
        };
        self.settle_inline(cx, request, index, outcome, note, times);
    }

    /// Handles every end of a quick call except the common one.
    #[cold]
    #[inline(never)]
    pub(super) fn settle_inline(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        outcome: Outcome,
        note: CallNote,
        times: CallEnd<'_>,
    ) {
        if note == CallNote::Panicked {
            self.stats.calls.panics.add(1);
        }
        let compressed = matches!(outcome, Outcome::Compressed);
        let (code, chunk) = settle(outcome, &mut self.out, 0);
        // An inline method that is not declared as deferring has no ticket to take.
        let code = code.unwrap_or(Code::Internal);
        let stats = &self.stats.methods[index as usize];
        if request.one_way {
            stats.one_way.add(1);
        } else {
            stats.answers[code as usize].add(1);
            let body = chunk.map_or(SendBody::Bytes(&self.out), SendBody::Chunk);
            reply(cx, request.id, request.codec, CallEnd { code, compressed, body, ..times });
        }
    }

    /// Counts the calls that were timed together.
    pub(super) fn end_timing(&mut self) {
        if self.timing.calls > 0 {
            let stats = &self.stats.methods[self.timing.method as usize];
            self.timing.end(Instant::now(), stats);
        }
    }

    #[inline(never)]
    pub(super) fn run_inline(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
    ) {
        self.end_timing();
        let began = self.clock.unwrap_or_else(Instant::now);
        let deadline = deadline_of(request, cx.now());
        let queue_us = micros(began.saturating_duration_since(cx.now()));
        if deadline.is_some_and(|deadline| deadline <= began) {
            self.clock = Some(began);
            return self.refuse_late(cx, request);
        }
        let (outcome, note) = self.run_here(registry, cx, request, index, method, began, deadline);
        let ended = Instant::now();
        self.clock = Some(ended);
        self.timing.note_exact(index, ended.duration_since(began));
        let handler_us = micros(ended.duration_since(began));
        let stats = &self.stats.methods[index as usize];
        stats.queue_us.record(queue_us);
        stats.handler_us.record(handler_us);
        let times =
            CallEnd { code: Code::Ok, queue_us, handler_us, compressed: false, body: SendBody::Bytes(&[]) };
        self.settle_inline(cx, request, index, outcome, note, times);
    }

    /// Runs an inline method on the reactor's thread; its reply is in `out`.
    #[inline(always)]
    #[allow(
        clippy::too_many_arguments,
        reason = "the one place where all that is known of a call comes together"
    )]
    pub(super) fn run_here(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        began: Instant,
        deadline: Option<Instant>,
    ) -> (Outcome, CallNote) {
        let chunk = shared_body(cx, request, method);
        self.out.clear();
        let metadata = match request.metadata.is_empty() {
            true => Metadata::default(),
            false => Metadata::checked_before(cx.bytes(request.metadata)),
        };
        let peer = cx.peer();
        let context = Context::new(ContextParts {
            method: method.name(),
            began,
            deadline,
            metadata,
            peer: &peer,
            scope: &self.inline_scope,
            place: 0,
            deferral: None,
        });
        let call = run_call(request, index, metadata, cx.bytes(request.body), chunk.as_ref());
        guarded(registry, &call, &context, &mut self.out)
    }

    #[cold]
    fn refuse_late(&mut self, cx: &mut Cx<'_>, request: &Request) {
        self.stats.calls.late_at_decode.add(1);
        self.refuse(cx, request, &Status::deadline_exceeded("the deadline passed before the call began"));
    }

    /// Runs an inline method that may defer its reply: its call is in flight from before it runs.
    pub(super) fn run_inline_deferring(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
    ) {
        if method.shape() != CallShape::Unary {
            return self.begin_streaming(registry, cx, request, index, method, false);
        }
        self.run_inline_admitted(registry, cx, request, index, method);
    }

    /// Runs an inline method whose call may go on after it has returned.
    pub(super) fn run_inline_admitted(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
    ) {
        let began = Instant::now();
        self.clock = None;
        let deadline = deadline_of(request, cx.now());
        if deadline.is_some_and(|deadline| deadline <= began) {
            return self.refuse_late(cx, request);
        }
        let number = self.begin_group();
        let (slot, _) = self.begin_call(cx, request, index, method, deadline, (number, 0));
        let chunk = shared_body(cx, request, method);
        let scope = self.groups[number as usize].scope.clone();
        let queue_us = micros(began.saturating_duration_since(cx.now()));
        self.out.clear();
        let ((outcome, note), commands) = {
            let metadata = Metadata::checked_before(cx.bytes(request.metadata));
            let deferral = Deferral {
                sink: &self.completions,
                key: cx.key(),
                slot,
                batch: number,
                codec: request.codec,
                queue_us,
            };
            let peer = cx.peer();
            let context = Context::new(ContextParts {
                method: method.name(),
                began,
                deadline,
                metadata,
                peer: &peer,
                scope: &scope,
                place: 0,
                deferral: Some(&deferral),
            });
            let call = run_call(request, index, metadata, cx.bytes(request.body), chunk.as_ref());
            let (outbox, out) = (&mut self.outbox, &mut self.out);
            outbox.scope(self.sink.owner(), || guarded(registry, &call, &context, out))
        };
        self.apply_all(cx, commands);
        if note == CallNote::Panicked {
            self.stats.calls.panics.add(1);
        }
        let compressed = matches!(outcome, Outcome::Compressed);
        let mut out = std::mem::take(&mut self.out);
        if let (Some(code), chunk) = settle(outcome, &mut out, 0) {
            let body = chunk.map_or(SendBody::Bytes(&out), SendBody::Chunk);
            let handler_us = micros(began.elapsed());
            self.end_call(cx, slot, CallEnd { code, queue_us, handler_us, compressed, body });
            drop(scope);
            self.complete(number, 1);
        }
        self.out = out;
    }
}

/// Returns the body as a chunk, for a method that may keep it, if it is large enough that sharing costs less than
/// copying.
#[inline]
fn shared_body(cx: &mut Cx<'_>, request: &Request, method: &Method) -> Option<Chunk> {
    (method.shares_body() && request.body.len() >= LINK_BYTES_MIN).then(|| cx.cut(request.body))
}

#[inline]
fn run_call<'a>(
    request: &Request,
    method: u32,
    metadata: Metadata<'a>,
    body: &'a [u8],
    chunk: Option<&'a Chunk>,
) -> RunCall<'a> {
    let Request { codec, compressed, .. } = *request;
    RunCall { method, codec, compressed, metadata, body, chunk }
}
