//! A call in flight: the handle of its caller, the promise of the reactor, and the slot that they share.
//!
//! The phase of the slot's [`CallCell`] determines which side owns its contents: the caller fills them before the call is
//! sent, the reactor owns them until it completes the call, then the caller takes the result. Slots return to the free
//! list of their thread: in steady state a call allocates nothing.

mod attempt;
mod cell;
mod draft;
mod ended;
mod response;
pub(super) mod sync;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use coreloop_bufpool::Chunk;

pub(super) use self::attempt::{EndedAttempt, EndedAttempts, FleetCall, ReplyBody, load_of, outcome_of};
use self::cell::{AbandonedCall, CallCell};
pub(super) use self::draft::{CallDraft, CallParts};
pub(super) use self::ended::AttemptSpan;
use self::sync::ContentsGuard;
use super::driving::OTHER_WAIT;
use super::endpoint::Endpoint;
use super::reply::{ReplyOutcome, completed};
use super::traced::CallAttemptTrace;
use super::{CallError, Times};
use crate::codec::{Codec, CodecError};
use crate::context::Scope;
use crate::extensions::CallExtensions;
use crate::message::{MetadataBuf, ReplyExtras};
use crate::status::Code;
use crate::stream::CallStreams;
use crate::threads;

/// Slots that a thread keeps for its next calls.
const FREE_SLOTS_MAX: usize = 64;
/// A slot whose buffer is larger than this is not kept.
const FREE_SLOT_BYTES_MAX: usize = 64 * 1024;

/// The state that a caller and the reactor share for one call.
pub(super) struct CallSlot {
    cell: CallCell<SlotContents>,
    /// The id under which the call is in flight, 0 if it is not. Only the reactor uses it.
    pub(super) id: AtomicU64,
}

#[derive(Default)]
pub(super) struct SlotContents {
    /// The argument, then the reply (unless that is in `shared`).
    pub(super) body: Vec<u8>,
    outcome: Option<Result<ReplyOutcome, CallError>>,
    shared: Option<Chunk>,
    /// Headers that preceded the reply.
    headers: Option<Box<MetadataBuf>>,
    /// The method's name, for errors in which the server could only give its hash.
    method_name: String,
    /// What interceptors have attached to the call.
    extensions: Option<Box<CallExtensions>>,
    /// When the call began, if there are interceptors.
    began: Option<Instant>,
    /// The hash of the call's key. Only the calls of fleets set it.
    key: Option<u64>,
}

impl CallSlot {
    fn new() -> CallSlot {
        CallSlot { cell: CallCell::new(), id: AtomicU64::new(0) }
    }

    /// Locks the contents, for the side that owns them in the current phase. Never waits.
    fn inside(&self) -> ContentsGuard<'_, SlotContents> {
        self.cell.contents()
    }

    /// Takes note of a call that is awaited otherwise than by driving its reactor.
    fn begin_wait(&self, endpoint: &Endpoint, awaited_by: usize) {
        if self.cell.begin_wait(awaited_by) {
            endpoint.driver_shared().begin_wait();
        }
    }

    /// Ends the wait, if the call is awaited.
    #[inline]
    fn end_wait(&self, endpoint: &Endpoint) {
        let awaited_by = self.cell.end_wait();
        if awaited_by != 0 {
            endpoint.driver_shared().end_wait(awaited_by);
        }
    }

    /// Takes note that the caller gives up the call. Returns whether it has not ended yet.
    pub(super) fn give_up(&self) -> bool {
        self.cell.give_up()
    }
}

thread_local! {
    static FREE_SLOTS: RefCell<Vec<Arc<CallSlot>>> = const { RefCell::new(Vec::new()) };
}

/// Returns a slot that has no other owner. `fill` gets the contents, with an empty body.
fn take_slot<R>(fill: impl FnOnce(&mut SlotContents) -> R) -> (Arc<CallSlot>, R) {
    let kept = FREE_SLOTS.try_with(|free| {
        let mut free = free.borrow_mut();
        // The reactor releases a slot just after it has woken the caller, so the oldest ones are usually free.
        let at = free.iter().take(4).position(|slot| Arc::strong_count(slot) == 1)?;
        Some(free.swap_remove(at))
    });
    let mut slot = kept.ok().flatten().unwrap_or_else(|| Arc::new(CallSlot::new()));
    if let Some(call_slot) = Arc::get_mut(&mut slot) {
        *call_slot.id.get_mut() = 0;
        let inside = call_slot.cell.reset();
        inside.body.clear();
        let filled = fill(inside);
        return (slot, filled);
    }
    let mut call_slot = CallSlot::new();
    let filled = fill(call_slot.cell.reset());
    (Arc::new(call_slot), filled)
}

/// Keeps a slot for the next calls of this thread, with its body if that was taken.
fn put_back(slot: Arc<CallSlot>, body: Option<Vec<u8>>) {
    // Frees what the slot held now, not when this thread makes its next call. That includes the executor's task.
    slot.cell.drop_waker();
    let is_large = {
        let mut inside = slot.inside();
        if let Some(body) = body {
            inside.body = body;
        }
        (inside.outcome, inside.shared, inside.headers) = (None, None, None);
        inside.body.capacity() > FREE_SLOT_BYTES_MAX
    };
    if !is_large {
        let _ = FREE_SLOTS.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < FREE_SLOTS_MAX {
                free.push(slot);
            }
        });
    }
}

/// What a promise stands for.
#[derive(Clone, Debug)]
pub(super) enum PromiseKind {
    /// A call, with a reply or one-way. The name is set for the protocols that send it; it is a thin pointer, since
    /// every message to the reactor has room for it.
    Call {
        name: Option<Arc<String>>,
        method: u32,
        schema: u32,
        codec: Codec,
        compressed: bool,
        one_way: bool,
        /// The server may run it twice.
        idempotent: bool,
    },
    /// A request to connect, completed when there is a connection.
    Reach,
}

impl PromiseKind {
    /// Returns whether it may be sent again when it may have run.
    pub(super) fn is_idempotent(&self) -> bool {
        match self {
            PromiseKind::Call { idempotent, .. } => *idempotent,
            PromiseKind::Reach => true,
        }
    }

    /// Returns the name of the method, for the protocols that send it.
    pub(super) fn name(&self) -> &str {
        match self {
            PromiseKind::Call { name: Some(name), .. } => name.as_str(),
            PromiseKind::Call { name: None, .. } | PromiseKind::Reach => "",
        }
    }
}

/// The call that a nested call was made for.
pub(super) struct ParentCall {
    pub(super) scope: Arc<Scope>,
    pub(super) place: u8,
    /// One number for all calls that were made with the same nested client.
    pub(super) group: u64,
}

pub(super) type ReplyCallback = Box<dyn FnOnce(Result<(ReplyOutcome, &[u8]), CallError>) + Send>;

/// The reactor's side of a call: it completes the caller's side exactly once. Dropping it fails the call, because the
/// client has ended or the batch was never sent.
pub(super) struct Promise {
    /// `None` once the call is completed.
    call_slot: Option<Arc<CallSlot>>,
    endpoint: Arc<Endpoint>,
    then: Option<ReplyCallback>,
    pub(super) what: PromiseKind,
    pub(super) deadline: Option<Instant>,
    pub(super) metadata: Option<Arc<MetadataBuf>>,
    pub(super) parent: Option<Arc<ParentCall>>,
    pub(super) body_bytes: usize,
    /// The call was put into a connection's write queue: the server may run it.
    pub(super) is_sent: bool,
    /// How often it was put into one.
    pub(super) tries: u8,
    /// Microseconds that were left when it was put into one, to measure the round trip; 0 if it is not measured.
    pub(super) left_us: u32,
    /// Headers have arrived.
    pub(super) has_headers: bool,
    /// The streams of a streaming call.
    streams: Option<Box<CallStreams>>,
    /// A callback or streams wait for it, and the driver counts that.
    is_awaited: bool,
    /// The attempts of the call, if it is one of a fleet and the reactor has it.
    fleet_call: Option<Box<FleetCall>>,
    /// The trace of the call.
    pub(super) trace: CallAttemptTrace,
}

impl Promise {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub(super) fn call_slot(&self) -> &Arc<CallSlot> {
        self.call_slot.as_ref().expect("taken only by what consumes the promise")
    }

    /// Makes it a streaming call. Its streams end with it.
    pub(super) fn set_streams(&mut self, streams: CallStreams) {
        self.streams = Some(Box::new(streams));
    }

    /// Returns the streams of a streaming call.
    #[inline]
    pub(super) fn streams(&self) -> Option<&CallStreams> {
        self.streams.as_deref()
    }

    /// Passes the result to this function, on the reactor's thread, instead of the slot.
    pub(super) fn call_then(&mut self, then: ReplyCallback) {
        self.then = Some(then);
    }

    /// Returns whether the result is not needed any more: the caller has abandoned the call, or the call that it was
    /// made for is cancelled.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_abandoned()
            || self.parent.as_ref().is_some_and(|parent| parent.scope.is_cancelled(parent.place))
    }

    /// Returns whether the caller has given up the call.
    pub(super) fn is_abandoned(&self) -> bool {
        self.call_slot().cell.is_abandoned()
    }

    /// Marks the call as passed to the reactor.
    pub(super) fn mark_sent(&mut self) {
        self.call_slot().cell.mark_sent();
        if self.then.is_some() || self.streams.is_some() {
            self.is_awaited = true;
            self.endpoint.driver_shared().begin_wait();
        }
    }

    /// Lends the argument to what writes it, which runs no code of the user's.
    pub(super) fn with_body<R>(&self, write: impl FnOnce(&[u8]) -> R) -> R {
        write(&self.call_slot().inside().body)
    }

    /// Completes the text of an error with what only the caller knows: the method's name in place of its hash if the
    /// method is unknown, the caller's types if the server expects others.
    #[cold]
    pub(super) fn completed(&self, code: Code, text: &[u8]) -> Option<String> {
        let PromiseKind::Call { method, schema, .. } = self.what else { return None };
        let text = std::str::from_utf8(text).ok()?;
        completed(code, text, (method, &self.call_slot().inside().method_name), schema)
    }

    /// Completes the call with a reply of these bytes. The returned waker, if any, must be woken.
    #[must_use = "a thread or task may wait for the result"]
    pub(super) fn complete(mut self, answer: ReplyOutcome, bytes: &[u8]) -> Option<Waker> {
        if self.fleet_call.is_some() {
            return self.end_attempt(Ok(answer), Some(bytes), None);
        }
        self.end(Ok(answer), Some(bytes), None)
    }

    /// Completes the call with a reply whose bytes are shared.
    #[must_use = "a thread or task may wait for the result"]
    pub(super) fn complete_shared(mut self, answer: ReplyOutcome, chunk: Chunk) -> Option<Waker> {
        if self.fleet_call.is_some() {
            return self.end_attempt(Ok(answer), None, Some(chunk));
        }
        self.end(Ok(answer), None, Some(chunk))
    }

    /// Completes the call with an error.
    pub(super) fn fail(mut self, error: CallError) {
        if self.fleet_call.is_some() {
            self.end_attempt(Err(error), None, None).into_iter().for_each(Waker::wake);
            return;
        }
        self.end(Err(error), None, None).into_iter().for_each(Waker::wake);
    }

    fn end(
        &mut self,
        outcome: Result<ReplyOutcome, CallError>,
        bytes: Option<&[u8]>,
        chunk: Option<Chunk>,
    ) -> Option<Waker> {
        if self.trace.is_open() {
            self.end_span(&outcome, chunk.as_deref().or(bytes));
        }
        let call_slot = self.call_slot.take()?;
        if std::mem::take(&mut self.is_awaited) {
            self.endpoint.driver_shared().end_wait(OTHER_WAIT);
        }
        match self.streams.take() {
            None => self.endpoint.leave(),
            Some(streams) => {
                self.endpoint.leave_stream();
                let body = chunk.as_deref().or(bytes).unwrap_or_default();
                if let Ok(ReplyOutcome { extras: Some(extras), .. }) = &outcome
                    && let Some(incoming) = &streams.incoming
                {
                    incoming.set_trailers(extras.trailers.clone());
                }
                streams.end_call(
                    outcome.as_ref().map_err(CallError::to_status).and_then(|answer| answer.status(body)),
                );
            }
        }
        if !self.endpoint.interceptors().is_empty() && matches!(self.what, PromiseKind::Call { .. }) {
            let reply_bytes = chunk.as_deref().or(bytes).unwrap_or_default().len();
            self.pass_end(&call_slot, &outcome, reply_bytes);
        }
        if let Some(then) = self.then.take() {
            let body = chunk.as_deref().or(bytes).unwrap_or_default();
            guarded(|| then(outcome.map(|answer| (answer, body))));
            return None;
        }
        let waker = call_slot.cell.complete(|inside| {
            if let Some(bytes) = bytes {
                inside.body.clear();
                inside.body.extend_from_slice(bytes);
            }
            inside.shared = chunk;
            inside.outcome = Some(outcome);
        });
        call_slot.end_wait(&self.endpoint);
        waker
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let Some(call_slot) = &self.call_slot else { return };
        if self.is_copy() {
            // The call that it is a copy of ends by itself.
            return;
        }
        let error = if call_slot.cell.is_unsent() {
            CallError::NotSent
        } else {
            let error = io::Error::new(io::ErrorKind::NotConnected, "the client's reactor has ended");
            CallError::Lost { error, may_have_run: self.is_sent }
        };
        self.end(Err(error), None, None).into_iter().for_each(Waker::wake);
    }
}

/// Runs a user's function on the reactor's thread and contains its panic, which the panic hook has reported.
pub(super) fn guarded(function: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(function));
}

/// Decodes a reply's bytes.
pub(super) type DecodeReply<T> = fn(Codec, &[u8]) -> Result<T, CodecError>;

/// A call in flight: wait for its result, or `await` it on any executor. Dropping the handle cancels the call and
/// notifies the server.
///
/// ```
/// # use coreloop::{Context, Server, Status};
/// use coreloop::client::{CallError, Client, InFlight};
/// use coreloop::codec::Codec;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .method("Math.Double", |_cx: &Context, number: i64| Ok(number * 2))
/// #     .listen("127.0.0.1:0").start()?;
/// # let address = server.addresses()[0].to_string();
/// let client = Client::connect(&address)?;
/// let first: InFlight<Vec<u8>> = client.start_bytes("Math.Double", Codec::Json, b"21");
/// let second = client.start_bytes("Math.Double", Codec::Json, b"1"); // both are on their way now
/// assert_eq!(first.wait()?, b"42");
/// assert_eq!(second.wait()?, b"2");
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the handle cancels the call"]
pub struct InFlight<T> {
    /// `None` once the result was taken, or if the call never started.
    call_slot: Option<Arc<CallSlot>>,
    endpoint: Option<Arc<Endpoint>>,
    early: Option<CallError>,
    decode: DecodeReply<T>,
    times: Times,
    /// Headers and trailers, once the result was taken.
    response: Option<Box<ReplyExtras>>,
}

impl<T> InFlight<T> {
    /// Returns the handle of a call that failed before it started.
    pub(super) fn failed(error: CallError, decode: DecodeReply<T>) -> InFlight<T> {
        let times = Times::default();
        InFlight { call_slot: None, endpoint: None, early: Some(error), decode, times, response: None }
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// The error of the call; [`CallError::NotSent`] at once if the call belongs to a batch that was not sent yet;
    /// [`CallError::OnReactor`] on the thread that drives the client, which cannot wait for its own work.
    pub fn wait(mut self) -> Result<T, CallError> {
        loop {
            if let Some(result) = self.wait_until(None) {
                return result;
            }
        }
    }

    /// Waits for the result for at most `timeout`. Returns `None` if it has not come by then; the call continues. The
    /// call also continues after [`CallError::NotSent`] and [`CallError::OnReactor`], which are returned as by
    /// [`InFlight::wait`].
    ///
    /// # Panics
    ///
    /// If the result was taken before.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<T, CallError>> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Returns the result, if it has come and was not taken. Never waits.
    pub fn try_take(&mut self) -> Option<Result<T, CallError>> {
        self.is_done().then(|| self.take())
    }

    /// Returns whether the result, or an error, can be taken. False once it was taken.
    pub fn is_done(&self) -> bool {
        self.call_slot.as_ref().map_or(self.early.is_some(), |call_slot| call_slot.cell.is_done())
    }

    /// Cancels the call and notifies the server. Dropping the handle does the same.
    pub fn cancel(self) {}

    fn wait_until(&mut self, until: Option<Instant>) -> Option<Result<T, CallError>> {
        loop {
            if self.is_done() {
                return Some(self.take());
            }
            let call_slot = self.call_slot.as_ref().expect("the answer was taken before");
            if call_slot.cell.is_unsent() {
                return Some(Err(CallError::NotSent));
            }
            let endpoint = self.endpoint.as_ref().expect("a call that was started has one");
            if endpoint.is_driven_here() {
                return Some(Err(CallError::OnReactor));
            }
            if until.is_none() && endpoint.driver_shared().drive_until(|| call_slot.cell.is_done()) {
                continue;
            }
            if threads::with_unparker(|waker| call_slot.cell.register(waker)) {
                continue;
            }
            // A wait with a limit is not driven: the limit may be finer than the poller's clock.
            let awaited_by = if until.is_none() { threads::mark() } else { OTHER_WAIT };
            call_slot.begin_wait(endpoint, awaited_by);
            match until {
                None => std::thread::park(),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        call_slot.end_wait(endpoint);
                        return None;
                    }
                    std::thread::park_timeout(left);
                }
            }
        }
    }

    fn take(&mut self) -> Result<T, CallError> {
        if let Some(error) = self.early.take() {
            return Err(error);
        }
        let call_slot = self.call_slot.take().expect("the answer was taken before");
        if let Some(endpoint) = &self.endpoint {
            // The wait may have begun just after the reactor had completed the call.
            call_slot.end_wait(endpoint);
        }
        let (outcome, body, shared, headers) = {
            let mut inside = call_slot.inside();
            let body = std::mem::take(&mut inside.body);
            (inside.outcome.take(), body, inside.shared.take(), inside.headers.take())
        };
        let outcome = outcome.expect("it is done");
        if let Ok(answer) = &outcome {
            self.times = answer.times;
            if headers.is_some() || answer.extras.is_some() {
                self.response = Some(answer.response(headers));
            }
        }
        // Without the lock: decoding may run the user's code.
        let result =
            outcome.and_then(|answer| answer.decode(shared.as_deref().unwrap_or(&body), self.decode));
        put_back(call_slot, Some(body));
        result
    }
}

impl<T> Future for InFlight<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, CallError>> {
        if !self.is_done() {
            let call_slot = self.call_slot.as_ref().expect("polled after it was ready");
            if !call_slot.cell.register(cx.waker()) {
                if let Some(endpoint) = &self.endpoint {
                    call_slot.begin_wait(endpoint, OTHER_WAIT);
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(self.take())
    }
}

impl<T> Drop for InFlight<T> {
    fn drop(&mut self) {
        let Some(call_slot) = self.call_slot.take() else { return };
        match call_slot.cell.abandon() {
            AbandonedCall::Done => {
                if let Some(endpoint) = &self.endpoint {
                    call_slot.end_wait(endpoint);
                }
                put_back(call_slot, None);
            }
            AbandonedCall::InFlight => {
                if let Some(endpoint) = &self.endpoint {
                    endpoint.cancel(call_slot);
                }
            }
            // `Batch::send` finds the call abandoned.
            AbandonedCall::Unsent => {}
        }
    }
}
