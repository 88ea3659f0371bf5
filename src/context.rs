//! What a handler can learn about its call besides the argument: deadline, cancellation, metadata, peer, and the
//! right to answer later.
//!
//! Async handlers have an [`OwnedContext`] instead.
//!
//! Calls that were handed over together share one [`Scope`]; each has a place in it, so that a cancellation costs a
//! bit and no allocation. A [`CompletionSink`] returns the answer; nothing here depends on its kind.

#[cfg(feature = "server")]
mod handler_span;
mod owned;
mod peer;
mod response;

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coreloop_bufpool::Chunk;
use coreloop_poller::Key;

#[cfg(feature = "server")]
pub(crate) use handler_span::HandlerSpan;
pub(crate) use owned::{CallSignal, OwnedContextParts};
pub use owned::{Cancelled, Expired, OwnedContext};
pub use peer::Peer;
pub(crate) use response::SharedResponse;
pub use response::StreamResponse;

use self::response::ResponseCell;
use crate::extensions::{CallExtensions, Extensions};
use crate::message::{Metadata, Priority, ReplyExtras};
use crate::stats::micros;
use crate::status::{Code, Status};

type CancelCallback = Box<dyn FnOnce() + Send>;

/// The most calls that share a scope: one bit each.
pub const SCOPE_PLACES: usize = 64;

/// The cancellation of up to 64 calls that were handed over together.
#[derive(Default)]
pub struct Scope {
    /// Bit n: the call at place n is cancelled.
    cancelled: AtomicU64,
    has_callbacks: AtomicBool,
    callbacks: Mutex<Vec<(u8, CancelCallback)>>,
}

impl Scope {
    /// Cancels the call at a place. Returns true if a thread other than the reactor's must now call
    /// [`Scope::run_callbacks`]: a handler may hold the lock that it takes, so a reactor's thread must not.
    pub fn cancel(&self, place: u8) -> bool {
        self.cancelled.fetch_or(1 << place, Ordering::SeqCst);
        self.has_callbacks.load(Ordering::SeqCst)
    }

    /// Returns whether the call at that place is cancelled.
    #[inline]
    pub fn is_cancelled(&self, place: u8) -> bool {
        self.cancelled.load(Ordering::Acquire) & (1 << place) != 0
    }

    /// Runs the cancellation callbacks of a place on this thread.
    pub fn run_callbacks(&self, place: u8) {
        let due: Vec<(u8, CancelCallback)> = {
            let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
            let (due, rest) = std::mem::take(&mut *callbacks).into_iter().partition(|(at, _)| *at == place);
            *callbacks = rest;
            due
        };
        for (_, callback) in due {
            callback();
        }
    }

    fn on_cancel(&self, place: u8, callback: CancelCallback) {
        self.callbacks.lock().unwrap_or_else(PoisonError::into_inner).push((place, callback));
        self.has_callbacks.store(true, Ordering::SeqCst);
        // The cancellation may have happened in between, without a thread that saw the callback.
        if self.cancelled.load(Ordering::SeqCst) & (1 << place) != 0 {
            self.run_callbacks(place);
        }
    }

    /// Resets an unshared scope. None of its calls may still be alive.
    pub fn reset(&mut self) {
        *self.cancelled.get_mut() = 0;
        if std::mem::take(self.has_callbacks.get_mut()) {
            self.callbacks.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({:#x})", self.cancelled.load(Ordering::Relaxed))
    }
}

/// How a handler ended its call. Two words, so that it is passed in registers: rare content is boxed.
#[derive(Debug)]
pub enum Outcome {
    /// Done: the body is what the handler appended to its buffer.
    Answer,
    /// Done: the body is that chunk.
    Shared(Box<Chunk>),
    /// Done: what the handler appended to its buffer is the compressed body.
    Compressed,
    /// The answer follows later, through the [`Ticket`] that was taken.
    Deferred,
    /// The call failed.
    Failed(Box<Status>),
    /// One of the others, with headers and trailers.
    Extended(Box<(Outcome, Box<ReplyExtras>)>),
}

impl Outcome {
    /// Creates the outcome of a failed call.
    #[cold]
    pub fn failed(status: impl Into<Status>) -> Outcome {
        Outcome::Failed(Box::new(status.into()))
    }

    /// The same outcome, or `resource_exhausted` where the body, or the text of a failure, has more than `bytes_max`
    /// bytes. An answer is what `out` holds from `start` on; a compressed one was checked before it was compressed.
    #[inline(never)]
    pub(crate) fn limit_reply(
        self,
        bytes_max: usize,
        method: &str,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Outcome {
        let bytes = match &self {
            Outcome::Answer => out.len() - start,
            Outcome::Shared(chunk) => chunk.len(),
            Outcome::Failed(status) => status.message.len(),
            // Extras are added to an outcome that was checked.
            Outcome::Compressed | Outcome::Deferred | Outcome::Extended(_) => return self,
        };
        if bytes <= bytes_max {
            return self;
        }
        out.truncate(start);
        // The memory that one reply needed is not kept for the next.
        out.shrink_to(start);
        Outcome::failed(reply_too_large(method, bytes, bytes_max))
    }
}

/// The failure of a call whose reply is over `reply_bytes_max`.
#[cold]
pub(crate) fn reply_too_large(method: &str, bytes: usize, bytes_max: usize) -> Status {
    Status::resource_exhausted(format!(
        "the reply of {method} has {bytes} bytes, over the limit of {bytes_max} (reply_bytes_max)"
    ))
}

/// The answer to a call that its handler deferred.
#[derive(Debug)]
pub struct DeferredReply {
    /// The connection.
    pub key: Key,
    /// The call's slot among those of the connection.
    pub slot: u32,
    /// The group that the call was handed over with.
    pub batch: u32,
    /// The result's bytes, or the failure.
    pub result: Result<Chunk, Status>,
    /// The bytes are compressed, and were within `reply_bytes_max` before.
    pub compressed: bool,
    /// Headers and trailers.
    pub extras: Option<Box<ReplyExtras>>,
    /// When the handler began.
    pub began: Instant,
    /// Microseconds that the call was queued.
    pub queue_us: u32,
}

/// Returns answers to the connections that wait for them.
pub trait CompletionSink: Send + Sync {
    /// Takes one deferred answer.
    fn late(&self, late: DeferredReply);

    /// Hands out what the server keeps for the handler of this call, once: the streams of a streaming call.
    fn take_attachment(&self, key: Key, slot: u32) -> Option<Box<dyn Any + Send>> {
        let _ = (key, slot);
        None
    }
}

/// The right to answer one call later. Dropping it without an answer answers `internal`.
pub struct Ticket {
    sink: Option<Arc<dyn CompletionSink>>,
    scope: Arc<Scope>,
    place: u8,
    key: Key,
    slot: u32,
    batch: u32,
    codec: u8,
    began: Instant,
    queue_us: u32,
    extras: Option<Box<ReplyExtras>>,
}

impl Ticket {
    /// Returns the number of the codec that the answer must use.
    pub fn codec(&self) -> u8 {
        self.codec
    }

    /// Returns whether the caller has gone or given up, or its deadline has passed.
    pub fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled(self.place)
    }

    /// Runs the function once the call is cancelled; at once, if it already is.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        self.scope.on_cancel(self.place, Box::new(callback));
    }

    /// Answers the call.
    pub fn answer(mut self, result: Result<Chunk, Status>) {
        self.send(result, false);
    }

    /// Answers the call with a compressed body.
    pub(crate) fn answer_compressed(mut self, body: Chunk) {
        self.send(Ok(body), true);
    }

    /// Creates the ticket of a call that is in flight and whose handler has not begun.
    pub(crate) fn of(deferral: &Deferral<'_>, scope: Arc<Scope>, place: u8, began: Instant) -> Ticket {
        let Deferral { sink, key, slot, batch, codec, queue_us } = *deferral;
        let sink = Some(sink.clone());
        Ticket { sink, scope, place, key, slot, batch, codec, began, queue_us, extras: None }
    }

    /// Takes note that the handler begins at `now`: until then the call was queued.
    pub(crate) fn begin(&mut self, now: Instant) {
        let waited_us = micros(now.saturating_duration_since(self.began));
        self.queue_us = self.queue_us.saturating_add(waited_us);
        self.began = now;
    }

    /// Returns the scope of the call's cancellation, and the place in it.
    pub(crate) fn cancellation(&self) -> (&Arc<Scope>, u8) {
        (&self.scope, self.place)
    }

    fn send(&mut self, result: Result<Chunk, Status>, compressed: bool) {
        if let Some(sink) = self.sink.take() {
            let extras = self.extras.take();
            let Ticket { key, slot, batch, began, queue_us, .. } = *self;
            sink.late(DeferredReply { key, slot, batch, result, compressed, extras, began, queue_us });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.send(Err(Status::internal("the handler dropped its reply without an answer")), false);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("key", &self.key).field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// Where a deferred answer goes.
#[derive(Clone, Copy)]
pub struct Deferral<'a> {
    /// The sink that takes the answer.
    pub sink: &'a Arc<dyn CompletionSink>,
    /// The connection.
    pub key: Key,
    /// The call's slot.
    pub slot: u32,
    /// The group that the call was handed over with.
    pub batch: u32,
    /// The number of the codec of the answer.
    pub codec: u8,
    /// Microseconds that the call was queued.
    pub queue_us: u32,
}

/// What a handler can learn about its call.
pub struct Context<'a> {
    method: &'a str,
    began: Instant,
    deadline: Option<Instant>,
    metadata: Metadata<'a>,
    peer: &'a Peer,
    scope: &'a Arc<Scope>,
    place: u8,
    deferral: Option<&'a Deferral<'a>>,
    extensions: Option<&'a Arc<CallExtensions>>,
    is_deferred: Cell<bool>,
    /// A cancellation unparks the handler's thread.
    wakes: Cell<bool>,
    response: ResponseCell,
}

/// The parts of a [`Context`].
pub struct ContextParts<'a> {
    /// `Service.Method`.
    pub method: &'a str,
    /// When the handler begins.
    pub began: Instant,
    /// The time at which the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The caller's metadata.
    pub metadata: Metadata<'a>,
    /// The calling peer.
    pub peer: &'a Peer,
    /// The scope of the call's cancellation.
    pub scope: &'a Arc<Scope>,
    /// The place in the scope.
    pub place: u8,
    /// Where a deferred answer goes; `None` if the call cannot be deferred.
    pub deferral: Option<&'a Deferral<'a>>,
    /// What interceptors have attached to the call.
    pub extensions: Option<&'a Arc<CallExtensions>>,
}

impl<'a> Context<'a> {
    /// Creates a context from its parts.
    #[doc(hidden)]
    #[inline]
    pub fn new(parts: ContextParts<'a>) -> Context<'a> {
        let ContextParts { method, began, deadline, metadata, peer, scope, place, deferral, extensions } =
            parts;
        Context {
            method,
            began,
            deadline,
            metadata,
            peer,
            scope,
            place,
            deferral,
            extensions,
            is_deferred: Cell::new(false),
            wakes: Cell::new(false),
            response: ResponseCell::new(),
        }
    }

    /// Returns `Service.Method`, as it was called.
    pub fn method(&self) -> &str {
        self.method
    }

    /// Returns the time at which the handler began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Returns the time at which the caller stops waiting; `None` if it waits without limit.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns how long the caller still waits: zero if its deadline has passed, `None` if it has none.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns whether the caller has gone or given up, or its deadline has passed: no caller waits for the answer.
    pub fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled(self.place)
    }

    /// Returns the scope and the place in it; `None` if the call cannot be cancelled while it runs.
    pub(crate) fn cancellation(&self) -> Option<(&Arc<Scope>, u8)> {
        self.deferral.map(|_| (self.scope, self.place))
    }

    /// Runs the function once the call is cancelled; at once, on this thread, if it already is. Otherwise it runs on
    /// the one thread reserved for such functions, so it must be quick. It does not run if the call ends before it is
    /// cancelled.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        // Without a deferral the call runs on the reactor's thread, where it cannot be cancelled: the callback is
        // dropped at once.
        if self.deferral.is_some() {
            self.scope.on_cancel(self.place, Box::new(callback));
        }
    }

    /// Sleeps, but no longer than the caller waits for the answer. For blocking methods.
    ///
    /// # Errors
    ///
    /// `cancelled` or `deadline_exceeded`, as soon as that is the case.
    pub fn sleep(&self, duration: Duration) -> Result<(), Status> {
        // A duration that overflows the clock is treated as none: the call sleeps until it is cancelled.
        let until = Instant::now().checked_add(duration);
        // Registered once for all sleeps of a call: a handler may sleep in a loop.
        if !self.wakes.replace(true) {
            let thread = std::thread::current();
            self.on_cancel(move || thread.unpark());
        }
        loop {
            let now = Instant::now();
            self.check(now)?;
            if until.is_some_and(|until| until <= now) {
                return Ok(());
            }
            match self.deadline.into_iter().chain(until).min() {
                Some(wake) => std::thread::park_timeout(wake.saturating_duration_since(now)),
                None => std::thread::park(),
            }
        }
    }

    /// Checks whether the answer is still of use at `now`.
    ///
    /// # Errors
    ///
    /// `deadline_exceeded` or `cancelled`.
    pub fn check(&self, now: Instant) -> Result<(), Status> {
        check_call(self.deadline, || self.is_cancelled(), now)
    }

    /// Returns the caller's metadata.
    pub fn metadata(&self) -> Metadata<'a> {
        self.metadata
    }

    /// Returns the priority that the caller has stated in its metadata.
    pub fn priority(&self) -> Priority {
        Priority::of(self.metadata)
    }

    /// Returns the calling peer.
    pub fn peer(&self) -> Peer {
        *self.peer
    }

    /// Returns the name of the authenticated caller, if an [interceptor](crate::interceptor) has set it.
    pub fn principal(&self) -> Option<&str> {
        self.extensions().principal()
    }

    /// Returns what [interceptors](crate::interceptor) have attached to the call.
    pub fn extensions(&self) -> Extensions<'_> {
        Extensions::of(self.extensions.map(|extensions| &**extensions))
    }

    pub(crate) fn call_extensions(&self) -> Option<&Arc<CallExtensions>> {
        self.extensions
    }

    /// Takes the right to answer later. `None` if it was taken before, or if the call cannot wait (a one-way call
    /// can: its answer is dropped).
    #[doc(hidden)]
    pub fn take_ticket(&self) -> Option<Ticket> {
        let deferral = self.deferral?;
        if self.is_deferred.replace(true) {
            return None;
        }
        let mut ticket = Ticket::of(deferral, self.scope.clone(), self.place, self.began);
        ticket.set_extras(self.take_extras());
        Some(ticket)
    }

    /// Takes what the server keeps for the handler of this call, once.
    pub(crate) fn take_attachment(&self) -> Option<Box<dyn Any + Send>> {
        let Deferral { sink, key, slot, .. } = *self.deferral?;
        sink.take_attachment(key, slot)
    }

    /// Returns whether the right to answer later was taken.
    pub fn is_deferred(&self) -> bool {
        self.is_deferred.get()
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("method", &self.method)
            .field("peer", &self.peer)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// Checks whether the answer of a call is still of use at `now`.
fn check_call(
    deadline: Option<Instant>,
    is_cancelled: impl FnOnce() -> bool,
    now: Instant,
) -> Result<(), Status> {
    match deadline {
        Some(deadline) if deadline <= now => Err(Status::deadline_exceeded(format!(
            "the deadline passed {} us ago",
            now.duration_since(deadline).as_micros()
        ))),
        _ if is_cancelled() => {
            Err(Status::cancelled("the caller cancelled the call or closed its connection"))
        }
        _ => Ok(()),
    }
}

/// Runs the handlers of methods.
pub trait RunMethod: Send + Sync + 'static {
    /// Returns `Service.Method` of the method with that index.
    fn name_of(&self, method: u32) -> &str;

    /// Called once on each thread that will run methods.
    fn begin_thread(&self) {}

    /// Runs the method on the body; the answer is appended to `out` or returned.
    fn run(&self, call: &RunCall<'_>, cx: &Context<'_>, out: &mut Vec<u8>) -> Outcome;

    /// Bytes of a reply's body at the most, before it is compressed. The caller of [`RunMethod::run`] holds the answer
    /// to it.
    fn reply_bytes_max(&self) -> usize {
        usize::MAX
    }
}

/// The input of a handler.
#[derive(Clone, Copy)]
pub struct RunCall<'a> {
    /// The method's index.
    pub method: u32,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The caller's metadata.
    pub metadata: Metadata<'a>,
    /// The body.
    pub body: &'a [u8],
    /// The body as a chunk, if it was not copied.
    pub chunk: Option<&'a Chunk>,
}

/// Returns the code under which a deferred answer is counted.
pub fn code_of(result: &Result<Chunk, Status>) -> Code {
    result.as_ref().map_or_else(|status| status.code, |_| Code::Ok)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_callback_runs_once_before_or_after_the_cancellation() {
        let scope = Scope::default();
        let (tx, rx) = mpsc::channel();
        let before = tx.clone();
        scope.on_cancel(3, Box::new(move || before.send("before").unwrap()));
        scope.on_cancel(4, Box::new(|| panic!("another place")));
        assert!(scope.cancel(3), "somebody must run the callback");
        assert!(rx.try_recv().is_err(), "but not the one who cancels");
        scope.run_callbacks(3);
        scope.run_callbacks(3);
        scope.on_cancel(3, Box::new(move || tx.send("after").unwrap()));
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["before", "after"]);
        assert!(scope.is_cancelled(3) && !scope.is_cancelled(4));
    }

    struct Answers(Mutex<Vec<DeferredReply>>);

    impl CompletionSink for Answers {
        fn late(&self, late: DeferredReply) {
            self.0.lock().unwrap().push(late);
        }
    }

    #[test]
    fn a_ticket_answers_once_even_when_dropped() {
        let answers = Arc::new(Answers(Mutex::new(Vec::new())));
        let sink: Arc<dyn CompletionSink> = answers.clone();
        let scope = Arc::new(Scope::default());
        let deferral =
            Deferral { sink: &sink, key: Key::new(1, 2), slot: 3, batch: 4, codec: 2, queue_us: 0 };
        let context = || {
            Context::new(ContextParts {
                method: "A.B",
                began: Instant::now(),
                deadline: None,
                metadata: Metadata::default(),
                peer: &Peer::Unix,
                scope: &scope,
                place: 0,
                deferral: Some(&deferral),
                extensions: None,
            })
        };
        let cx = context();
        let ticket = cx.take_ticket().unwrap();
        assert!(cx.take_ticket().is_none() && cx.is_deferred());
        ticket.answer(Ok(Chunk::from(vec![1])));
        drop(context().take_ticket());
        let answers = answers.0.lock().unwrap();
        let codes: Vec<Code> = answers.iter().map(|late| code_of(&late.result)).collect();
        assert_eq!(codes, [Code::Ok, Code::Internal]);
    }
}
