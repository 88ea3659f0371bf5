//! Inline calls: run on the reactor's thread, and timed together if they are quick.

use std::time::Instant;

use coreloop_bufpool::{Chunk, LINK_BYTES_MIN};

use super::end::{CallEnd, EndingCall, load_us, wants_load};
use super::{Cx, Dispatcher, deadline_of};
use crate::conn::calls::WorkPlace;
use crate::context::{Context, ContextParts, Deferral, Outcome, RunCall};
use crate::message::{Metadata, ReplyExtras, Request, SendBody};
use crate::service::interceptor::EndPlace;
use crate::service::{Method, Registry};
use crate::stats::micros;
use crate::status::{Code, Status};
use crate::workers::batch::{CallNote, SettledCall, guarded, settle};

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
        if !self.ends.timing.is_timing(index) {
            self.ends.end_group();
            self.ends.timing.begin(index, Instant::now(), cx.now());
        }
        let began = self.ends.timing.began;
        let queue_us = self.ends.timing.queue_us;
        let deadline = deadline_of(request, cx.now());
        let (outcome, note) = self.run_here(registry, cx, request, index, method, began, deadline);
        if let Outcome::Answer = outcome
            && !wants_load(cx, request)
        {
            return self.ends.end_quick(cx, request, queue_us, &self.out);
        }
        self.end_quick_slow(cx, request, index, outcome, note, queue_us);
    }

    /// Handles every end of a quick call except the common one.
    #[cold]
    #[inline(never)]
    fn end_quick_slow(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        outcome: Outcome,
        note: CallNote,
        queue_us: u32,
    ) {
        self.ends.count_work(note);
        let mut settled = settle(outcome, &mut self.out, 0);
        if wants_load(cx, request) {
            settled.extras.get_or_insert_default().load_us = Some(load_us(self.run_queue.load_ns()));
        }
        let extras = settled.extras.take();
        let ended = inline_end(settled, &self.out, extras.as_deref(), queue_us, 0);
        self.ends.end_quick_slow(cx, request, index, ended);
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
        self.ends.end_group();
        let began = self.clock.unwrap_or_else(Instant::now);
        let deadline = deadline_of(request, cx.now());
        let queue_us = micros(began.saturating_duration_since(cx.now()));
        if deadline.is_some_and(|deadline| deadline <= began) {
            self.clock = Some(began);
            return self.refuse_late(cx, request, index);
        }
        let (outcome, note) = self.run_here(registry, cx, request, index, method, began, deadline);
        let ended = Instant::now();
        self.clock = Some(ended);
        self.ends.timing.note_exact(index, ended.duration_since(began));
        let handler_us = micros(ended.duration_since(began));
        self.ends.count_work(note);
        let call = EndingCall::of_request(request, Some(index)).with(self.attached.get());
        let mut settled = settle(outcome, &mut self.out, 0);
        let extras = settled.extras.take();
        let ended = inline_end(settled, &self.out, extras.as_deref(), queue_us, handler_us);
        if wants_load(cx, request) {
            return self.ends.end_with_load(cx, call, ended, self.run_queue.load_ns());
        }
        self.ends.end(cx, call, ended);
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
            extensions: self.attached.get(),
        });
        let call = run_call(request, index, metadata, cx.bytes(request.body), chunk.as_ref());
        guarded(registry, &call, &context, &mut self.out)
    }

    #[cold]
    fn refuse_late(&mut self, cx: &mut Cx<'_>, request: &Request, index: u32) {
        let status = Status::deadline_exceeded("the deadline passed before the call began");
        self.refuse_at(cx, request, Some(index), EndPlace::LateAtDecode, &status);
    }

    /// Runs an inline method whose call may go on after it has returned: with a deferred reply, or with streams. The
    /// call is in flight from before it runs.
    pub(super) fn run_inline_deferring(
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
            return self.refuse_late(cx, request, index);
        }
        let number = self.begin_group(1);
        let work = WorkPlace::Batch { number, place: 0 };
        let (slot, _) = self.begin_call(cx, request, index, method, deadline, work);
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
                extensions: self.attached.get(),
            });
            let call = run_call(request, index, metadata, cx.bytes(request.body), chunk.as_ref());
            let (outbox, out) = (&mut self.outbox, &mut self.out);
            outbox.scope(self.sink.owner(), || guarded(registry, &call, &context, out))
        };
        self.ends.count_work(note);
        self.apply_all(cx, commands);
        let mut out = std::mem::take(&mut self.out);
        if let SettledCall { code: Some(code), chunk, compressed, extras } = settle(outcome, &mut out, 0) {
            let body = chunk.map_or(SendBody::Bytes(&out), SendBody::Chunk);
            let handler_us = micros(began.elapsed());
            let place = EndPlace::Inline;
            self.end_work(
                cx,
                slot,
                CallEnd { place, code, queue_us, handler_us, compressed, extras: extras.as_deref(), body },
            );
            drop(scope);
            self.complete(number, 1);
        }
        self.out = out;
    }
}

/// Returns the end of an inline call that cannot be deferred.
#[inline]
fn inline_end<'a>(
    settled: SettledCall,
    out: &'a [u8],
    extras: Option<&'a ReplyExtras>,
    queue_us: u32,
    handler_us: u32,
) -> CallEnd<'a> {
    let SettledCall { code, chunk, compressed, .. } = settled;
    // A method that is not declared as deferring has no ticket to take.
    let code = code.unwrap_or(Code::Internal);
    let body = chunk.map_or(SendBody::Bytes(out), SendBody::Chunk);
    CallEnd { place: EndPlace::Inline, code, queue_us, handler_us, compressed, extras, body }
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
