//! One call of an async method while an executor runs it: the beginning, each poll, and the reply.
//!
//! - Cancelling the call wakes the task, and the next poll drops the handler's future: on the executor's thread, because
//!   what a future holds may need its runtime to be dropped.
//! - A panic of the handler, of a destructor in its future, or of the encoding ends the call with `internal`.
//! - If the executor drops the future, at any time, [`CallEnding`] ends the call with `internal`.

use std::any::Any;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use coreloop_bufpool::Chunk;

use super::ending::CallEnding;
use super::{AsyncBody, AsyncCall, CallLimits};
use crate::codec::{self, Body, Codec, CodecError, ValueRules, compress};
use crate::context::{CallSignal, HandlerSpan, Outcome, OwnedContext, OwnedContextParts, SharedResponse};
use crate::error_text::panic_text;
use crate::log_events::log_event;
use crate::service::interceptor::chain::{CalledHandler, CalledMethod, InterceptorChain};
use crate::service::registry::compress_reply;
use crate::service::{CallShape, of_side};
use crate::status::Status;
use crate::stream::{DecodeMessage, EncodeMessage, HandlerStreams, Sink, Stream};
use crate::threads;

/// A call whose handler begins.
pub(super) struct Begun<'a> {
    pub(super) cx: OwnedContext,
    codec: Codec,
    rules: ValueRules,
    body: Body<'a>,
    streams: Option<HandlerStreams>,
    ending: &'a mut CallEnding,
}

impl<'a> Begun<'a> {
    /// Decodes the argument.
    pub(super) fn argument<T>(
        &self,
        decode: impl FnOnce(Codec, Body<'a>) -> Result<T, CodecError>,
    ) -> Result<T, Status> {
        let decoded = self.rules.apply(|| decode(self.codec, self.body));
        decoded.map_err(|error| of_side("argument", self.cx.method(), error))
    }

    /// Takes the stream of the caller's messages.
    pub(super) fn stream<T>(&mut self, decode: DecodeMessage<T>) -> Result<Stream<T>, Status> {
        self.streams.as_mut().ok_or_else(no_streams)?.incoming(decode)
    }

    /// Takes the sink, through which the call is answered from here on.
    pub(super) fn sink<T>(&mut self, encode: EncodeMessage<T>) -> Result<Sink<T>, Status> {
        let sink = self.ending.sink(self.streams.as_mut().ok_or_else(no_streams)?, encode)?;
        self.cx.attach_stream(sink.response());
        Ok(sink)
    }
}

#[cold]
fn no_streams() -> Status {
    Status::internal("the call has no streams")
}

/// A call that an executor runs.
pub(super) struct AsyncRun {
    ending: CallEnding,
    method: Arc<str>,
    deadline: Option<Instant>,
    codec: Codec,
    rules: ValueRules,
    limits: CallLimits,
    compressed: bool,
    span: HandlerSpan,
    /// The number of the call while a thread polls it.
    number: usize,
    /// Present once the call has begun.
    signal: Option<Arc<CallSignal>>,
    /// The waker that the signal has, and its place there.
    waker: Option<Waker>,
    waker_place: Option<usize>,
}

impl AsyncRun {
    /// Begins a call: calls the handler, which returns its future. `None` if the call has ended.
    pub(super) fn begin<F>(
        call: AsyncCall,
        handler: impl FnOnce(Begun<'_>) -> Result<F, Status>,
    ) -> (AsyncRun, Option<F>) {
        let AsyncCall { method, deadline, metadata, peer, extensions, codec, rules, compressed, .. } = call;
        let AsyncCall { body, streams, limits, shape, interceptors, mut ending, .. } = call;
        let streams = streams.map(|streams| HandlerStreams { streams });
        let number = streams.as_ref().map_or(HandlerStreams::NO_SINK, HandlerStreams::number);
        let began = Instant::now();
        let signal = ending.begin(began);
        let (scope, place) = ending.cancellation();
        let span = HandlerSpan::new(&method, extensions.as_ref());
        let cx = OwnedContext::new(OwnedContextParts {
            method: method.clone(),
            began,
            deadline,
            metadata,
            peer,
            extensions,
            scope: scope.clone(),
            place,
            signal: signal.clone(),
            response: SharedResponse::default(),
        });
        ending.attach(cx.clone());
        let mut run = AsyncRun {
            ending,
            method,
            deadline,
            codec,
            rules,
            limits,
            compressed,
            span,
            number,
            signal: Some(signal),
            waker: None,
            waker_place: None,
        };
        let body = match run.body(body, began) {
            Ok(body) => body,
            Err(status) => {
                run.ending.fail(status);
                return (run, None);
            }
        };
        if let Some(interceptors) = interceptors
            && !run.intercept(&interceptors, shape, &cx, body.as_body())
        {
            return (run, None);
        }
        let AsyncRun { ending, span, .. } = &mut run;
        let begun = Begun { cx, codec, rules, body: body.as_body(), streams, ending };
        let result = guarded(number, limits, || span.in_scope(|| handler(begun)));
        match result {
            Ok(Ok(future)) => (run, Some(future)),
            Ok(Err(status)) => {
                run.ending.fail(status);
                (run, None)
            }
            Err(payload) => {
                run.panicked(payload);
                (run, None)
            }
        }
    }

    /// Runs what interceptors do with the handler. Returns false if one of them has answered the call, or has refused it.
    fn intercept(
        &mut self,
        interceptors: &InterceptorChain,
        shape: CallShape,
        cx: &OwnedContext,
        body: Body<'_>,
    ) -> bool {
        if threads::is_reactor() && InterceptorChain::is_pending(cx.extensions()) {
            let text =
                "an interceptor decides on a worker, and the executor ran the call on the reactor's thread";
            self.ending.fail(Status::internal(text));
            return false;
        }
        let (is_wanted, mut out) = (Cell::new(false), Vec::new());
        let method = self.method.clone();
        let called = CalledMethod { name: &method, shape, handler: CalledHandler::Future(&is_wanted) };
        let (codec, rules) = (self.codec, self.rules);
        let outcome = guarded(self.number, self.limits, || {
            rules.apply(|| cx.borrowed(|cx| interceptors.run(called, cx, codec, body, &mut out)))
        });
        match outcome {
            Ok(Outcome::Deferred) if is_wanted.get() => return true,
            Ok(Outcome::Answer | Outcome::Compressed) => self.send(out, None),
            Ok(Outcome::Shared(chunk)) => self.send(out, Some(*chunk)),
            Ok(Outcome::Failed(status)) => self.ending.fail(*status),
            Ok(Outcome::Deferred | Outcome::Extended(_)) => {
                self.ending
                    .fail(Status::internal("an interceptor has deferred the answer of an async method"));
            }
            Err(payload) => self.panicked(payload),
        }
        false
    }

    /// Returns the decompressed body of a call that is worth running.
    fn body(&self, body: AsyncBody, now: Instant) -> Result<AsyncBody, Status> {
        if self.ending.is_cancelled() {
            return Err(Status::cancelled("the call was cancelled before it started"));
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Status::deadline_exceeded("the deadline passed while the call was queued"));
        }
        // A request whose argument follows has no body.
        if !self.compressed || body.as_body().as_slice().is_empty() {
            return Ok(body);
        }
        let mut out = Vec::new();
        compress::decompress(body.as_body().as_slice(), self.limits.body_bytes_max, &mut out)?;
        Ok(AsyncBody::Owned(out))
    }

    /// Runs the future of the handler, and returns its result. `None` if the call has ended otherwise.
    pub(super) async fn drive<F: Future>(&mut self, mut future: Pin<&mut Option<F>>) -> Option<F::Output> {
        /// Ends the call before the future is dropped, which may drop a sink with it.
        struct Driven<'a>(&'a mut AsyncRun, bool);
        impl Drop for Driven<'_> {
            fn drop(&mut self) {
                if !self.1 {
                    self.0.ending.abandon();
                }
            }
        }
        let mut driven = Driven(self, false);
        poll_fn(move |task| {
            let polled = driven.0.poll(future.as_mut(), task);
            driven.1 = polled.is_ready();
            polled
        })
        .await
    }

    fn poll<F: Future>(
        &mut self,
        mut future: Pin<&mut Option<F>>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Option<F::Output>> {
        if future.is_none() {
            return Poll::Ready(None);
        }
        let polled = match self.is_of_use(task.waker()) {
            true => {
                let future = future.as_mut();
                let poll = || future.as_pin_mut().map(|it| it.poll(task));
                guarded(self.number, self.limits, || self.span.in_scope(poll))
            }
            false => Ok(None),
        };
        if let Ok(Some(Poll::Pending)) = polled {
            return Poll::Pending;
        }
        let dropped = guarded(self.number, self.limits, || self.span.in_scope(|| future.set(None)));
        match (polled, dropped) {
            (Ok(Some(Poll::Ready(result))), Ok(())) => return Poll::Ready(Some(result)),
            (Err(payload), _) | (_, Err(payload)) => self.panicked(payload),
            (Ok(_), Ok(())) => {
                self.ending.fail(Status::cancelled("the caller cancelled the call or closed its connection"));
            }
        }
        Poll::Ready(None)
    }

    /// Arranges that the task is woken when the call is cancelled. Returns false if it is.
    fn is_of_use(&mut self, waker: &Waker) -> bool {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            if let Some(signal) = &self.signal {
                signal.register(&mut self.waker_place, waker);
            }
            self.waker = Some(waker.clone());
        }
        // After the waker is known to the signal: a cancellation from here on wakes the task.
        !self.ending.is_cancelled()
    }

    #[cold]
    fn panicked(&mut self, payload: Box<dyn Any + Send>) {
        self.ending.count_panic();
        let text = panic_text(payload);
        log_event!(HandlerPanicked { method: self.method.to_string(), text: text.clone() });
        self.ending.fail(Status::internal(format!("the handler panicked: {text}")));
    }

    /// Ends a call whose messages went through its sink.
    pub(super) fn finish(mut self, result: Result<(), Status>) {
        match result {
            Ok(()) => self.ending.finish(),
            Err(status) => self.ending.fail(status),
        }
    }

    /// Ends a call with its reply.
    pub(super) fn reply<T>(mut self, result: Result<T, Status>, encode: EncodeReply<T>) {
        let (codec, rules) = (self.codec, self.rules);
        let mut out = Vec::new();
        let encoded = match result {
            Ok(value) if self.is_awaited() => {
                guarded(self.number, self.limits, || rules.apply(|| encode(value, codec, &mut out)))
            }
            // The call has been answered.
            Ok(_) => return self.ending.fail(Status::cancelled("the call was cancelled while it ran")),
            Err(status) => return self.ending.fail(status),
        };
        match encoded {
            Ok(Ok(chunk)) => self.send(out, chunk),
            Ok(Err(error)) => self.ending.fail(of_side("reply", &self.method, error)),
            Err(payload) => self.panicked(payload),
        }
    }

    fn is_awaited(&self) -> bool {
        !self.ending.is_cancelled()
    }

    fn send(&mut self, mut out: Vec<u8>, chunk: Option<Chunk>) {
        let outcome = chunk.map_or(Outcome::Answer, |chunk| Outcome::Shared(Box::new(chunk)));
        let outcome = outcome.limit_reply(self.limits.reply_bytes_max, &self.method, &mut out, 0);
        let outcome = if self.compressed { compress_reply(outcome, &mut out, 0) } else { outcome };
        match outcome {
            Outcome::Failed(status) => self.ending.fail(*status),
            Outcome::Shared(chunk) => self.ending.answer(|ticket| ticket.answer(Ok(*chunk))),
            Outcome::Compressed => self.ending.answer(|ticket| ticket.answer_compressed(Chunk::from(out))),
            Outcome::Answer | Outcome::Deferred | Outcome::Extended(_) => {
                self.ending.answer(|ticket| ticket.answer(Ok(Chunk::from(out))));
            }
        }
    }
}

/// Runs a part of a handler, with the limits of the server's own threads, and catches its panic.
fn guarded<R>(number: usize, limits: CallLimits, part: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    // What the handler shares with other threads is behind its own locks, which poison; its future is dropped.
    catch_unwind(AssertUnwindSafe(|| {
        threads::while_polled(number, || codec::with_depth_max(limits.depth_max, part))
    }))
}

/// Appends the encoded reply to the buffer, or returns it as a chunk.
type EncodeReply<T> = fn(T, Codec, &mut Vec<u8>) -> Result<Option<Chunk>, CodecError>;
