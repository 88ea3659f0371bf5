//! A call on its way: the handle that its caller keeps, the promise that the reactor keeps, and the cell between.
//!
//! The cell is locked by one side at a time, by its phase: the caller fills it before the call is sent, the reactor
//! owns it until it says `DONE`, then the caller takes the answer. So no thread ever waits for the lock, the reactor's
//! least of all. Cells go back to their thread's stock: in steady state a call allocates nothing.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use coreloop_bufpool::Chunk;

use super::endpoint::Endpoint;
use super::reply::{ReplyOutcome, with_method_name};
use super::{CallError, Times};
use crate::codec::{Codec, CodecError};
use crate::context::Scope;
use crate::message::MetadataBuf;

/// Cells that a thread keeps for its next calls.
const FREE_SLOTS_MAX: usize = 64;
/// A cell that carried more than this is not kept.
const FREE_SLOT_BYTES_MAX: usize = 64 * 1024;

/// Not handed over yet: it waits in a batch.
const UNSENT: u8 = 0;
/// With the reactor.
const SENT: u8 = 1;
/// Answered.
const DONE: u8 = 2;
/// Nobody waits for the answer.
const ABANDONED: u8 = 3;

/// The cell between a caller and the reactor.
pub(super) struct CallSlot {
    state: AtomicU8,
    /// The id under which the call is in flight, 0 if it is not: for the reactor alone.
    pub(super) id: AtomicU64,
    waker: AtomicWaker,
    inside: Mutex<SlotContents>,
}

#[derive(Default)]
pub(super) struct SlotContents {
    /// The argument, then the reply (unless that is shared).
    pub(super) body: Vec<u8>,
    outcome: Option<Result<ReplyOutcome, CallError>>,
    shared: Option<Chunk>,
    /// The method's name, for errors in which the server could name its hash alone.
    method_name: String,
}

impl CallSlot {
    fn new() -> CallSlot {
        CallSlot {
            state: AtomicU8::new(UNSENT),
            id: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            inside: Mutex::new(SlotContents::default()),
        }
    }

    /// The cell's inside, for the side whose phase it is: never waits.
    fn inside(&self) -> MutexGuard<'_, SlotContents> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }
}

thread_local! {
    static FREE_SLOTS: RefCell<Vec<Arc<CallSlot>>> = const { RefCell::new(Vec::new()) };
    static UNPARK: Waker = Waker::from(Arc::new(Unpark(std::thread::current())));
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// A cell that nobody else holds, with an empty body.
fn take_cell() -> Arc<CallSlot> {
    let kept = FREE_SLOTS.try_with(|free| {
        let mut free = free.borrow_mut();
        // The reactor lets go of a cell just after it has woken the caller; the oldest are free as a rule.
        let at = free.iter().take(4).position(|cell| Arc::strong_count(cell) == 1)?;
        Some(free.swap_remove(at))
    });
    let mut cell = kept.ok().flatten().unwrap_or_else(|| Arc::new(CallSlot::new()));
    if let Some(call_slot) = Arc::get_mut(&mut cell) {
        *call_slot.state.get_mut() = UNSENT;
        *call_slot.id.get_mut() = 0;
        let inside = call_slot.inside.get_mut().unwrap_or_else(PoisonError::into_inner);
        inside.body.clear();
        return cell;
    }
    Arc::new(CallSlot::new())
}

fn put_back(cell: Arc<CallSlot>) {
    // What it held ends here, and not when this thread makes its next call: the task of an executor, too.
    drop(cell.waker.take());
    let is_large = {
        let mut inside = cell.inside();
        (inside.outcome, inside.shared) = (None, None);
        inside.body.capacity() > FREE_SLOT_BYTES_MAX
    };
    if !is_large {
        let _ = FREE_SLOTS.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < FREE_SLOTS_MAX {
                free.push(cell);
            }
        });
    }
}

/// What a promise is for.
#[derive(Clone, Debug)]
pub(super) enum PromiseKind {
    /// A call that wants an answer, or that does not. The name is there for the protocols that call by it; thin, since
    /// every letter to the reactor has room for it.
    Call {
        name: Option<Arc<String>>,
        method: u32,
        schema: u32,
        codec: Codec,
        compressed: bool,
        one_way: bool,
        /// It may run twice.
        idempotent: bool,
    },
    /// To say that there is a connection.
    Reach,
}

impl PromiseKind {
    /// Whether it may be sent again when it may have run.
    pub(super) fn is_idempotent(&self) -> bool {
        match self {
            PromiseKind::Call { idempotent, .. } => *idempotent,
            PromiseKind::Reach => true,
        }
    }
}

/// The call that a nested one was made for.
pub(super) struct ParentCall {
    pub(super) scope: Arc<Scope>,
    pub(super) place: u8,
    /// One number for all calls that were made with the same nested client.
    pub(super) group: u64,
}

pub(super) type ReplyCallback = Box<dyn FnOnce(Result<(ReplyOutcome, &[u8]), CallError>) + Send>;

/// The reactor's side of a call: whatever becomes of it, the caller hears of it once. Dropped, it says that the client
/// has ended, or that its batch was never sent.
pub(super) struct Promise {
    /// `None` once the caller has heard.
    call_slot: Option<Arc<CallSlot>>,
    endpoint: Arc<Endpoint>,
    then: Option<ReplyCallback>,
    pub(super) what: PromiseKind,
    pub(super) deadline: Option<Instant>,
    pub(super) metadata: Option<Arc<MetadataBuf>>,
    pub(super) parent: Option<Arc<ParentCall>>,
    began: Option<Instant>,
    pub(super) body_bytes: usize,
    /// It was put into a connection's write queue: the server may run it.
    pub(super) is_sent: bool,
    /// How often it was.
    pub(super) tries: u8,
}

impl Promise {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub(super) fn call_slot(&self) -> &Arc<CallSlot> {
        self.call_slot.as_ref().expect("taken only by what consumes the promise")
    }

    /// The answer goes to this function, on the reactor's thread, and not to the cell.
    pub(super) fn call_then(&mut self, then: ReplyCallback) {
        self.then = Some(then);
    }

    /// Nobody waits for it any more: its caller has given it up, or the call that it was made for is cancelled.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_abandoned()
            || self.parent.as_ref().is_some_and(|parent| parent.scope.is_cancelled(parent.place))
    }

    /// Its handle was dropped.
    pub(super) fn is_abandoned(&self) -> bool {
        self.call_slot().state.load(Ordering::Acquire) == ABANDONED
    }

    /// The reactor has it now, or will in a moment.
    pub(super) fn mark_sent(&self) {
        // A batch's handle may have been dropped before the batch was sent.
        let _ = self.call_slot().state.compare_exchange(UNSENT, SENT, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The argument, to be written; given back with [`Promise::put_body`].
    pub(super) fn take_body(&self) -> Vec<u8> {
        std::mem::take(&mut self.call_slot().inside().body)
    }

    pub(super) fn put_body(&self, body: Vec<u8>) {
        self.call_slot().inside().body = body;
    }

    /// The text of an answer that says that there is no such method, with the method's name for its hash.
    #[cold]
    pub(super) fn named(&self, text: &[u8]) -> Option<String> {
        let PromiseKind::Call { method, .. } = self.what else { return None };
        let text = std::str::from_utf8(text).ok()?;
        with_method_name(text, method, &self.call_slot().inside().method_name)
    }

    /// The answer has come, with these bytes. Who waits for it is woken by whoever gets the waker.
    #[must_use = "a thread or task may wait for the result"]
    pub(super) fn complete(mut self, answer: ReplyOutcome, bytes: &[u8]) -> Option<Waker> {
        self.end(Ok(answer), Some(bytes), None)
    }

    /// The answer has come, and its bytes are shared.
    #[must_use = "a thread or task may wait for the result"]
    pub(super) fn complete_shared(mut self, answer: ReplyOutcome, chunk: Chunk) -> Option<Waker> {
        self.end(Ok(answer), None, Some(chunk))
    }

    /// There will be no answer.
    pub(super) fn fail(mut self, error: CallError) {
        self.end(Err(error), None, None).into_iter().for_each(Waker::wake);
    }

    fn end(
        &mut self,
        outcome: Result<ReplyOutcome, CallError>,
        bytes: Option<&[u8]>,
        chunk: Option<Chunk>,
    ) -> Option<Waker> {
        let call_slot = self.call_slot.take()?;
        self.endpoint.leave();
        if let Some(route) = self.endpoint.route() {
            let code = outcome.as_ref().map_or_else(|error| error.code(), ReplyOutcome::code);
            let took = self.began.map(|began| began.elapsed()).unwrap_or_default();
            guarded(|| route.on_end(self.endpoint.index, code, took));
        }
        if let Some(then) = self.then.take() {
            let body = chunk.as_deref().or(bytes).unwrap_or_default();
            guarded(|| then(outcome.map(|answer| (answer, body))));
            return None;
        }
        {
            let mut inside = call_slot.inside();
            if let Some(bytes) = bytes {
                inside.body.clear();
                inside.body.extend_from_slice(bytes);
            }
            inside.shared = chunk;
            inside.outcome = Some(outcome);
        }
        if call_slot.state.swap(DONE, Ordering::AcqRel) == ABANDONED {
            // What it held must not wait for the next call of a thread that may never make one.
            *call_slot.inside() = SlotContents::default();
            return None;
        }
        call_slot.waker.take()
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let Some(call_slot) = &self.call_slot else { return };
        let error = if call_slot.state.load(Ordering::Acquire) == UNSENT {
            CallError::NotSent
        } else {
            let error = io::Error::new(io::ErrorKind::NotConnected, "the client's reactor has ended");
            CallError::Lost { error, may_have_run: self.is_sent }
        };
        self.end(Err(error), None, None).into_iter().for_each(Waker::wake);
    }
}

/// A user's function on the reactor's thread: its panic is its own, and has been printed.
fn guarded(function: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(function));
}

/// What a call is made of, besides its argument.
pub(super) struct CallParts {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) what: PromiseKind,
    pub(super) deadline: Option<Instant>,
    pub(super) metadata: Option<Arc<MetadataBuf>>,
    pub(super) parent: Option<Arc<ParentCall>>,
}

/// A call being put together: the argument is written into its cell.
pub(super) struct CallDraft(Arc<CallSlot>);

impl CallDraft {
    pub(super) fn new() -> CallDraft {
        CallDraft(take_cell())
    }

    /// Lets `f` write the body.
    pub(super) fn fill<E>(&mut self, f: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<usize, E> {
        let mut body = std::mem::take(&mut self.0.inside().body);
        // Outside the lock: what it runs is the user's.
        let filled = f(&mut body);
        let len = body.len();
        self.0.inside().body = body;
        filled.map(|()| len)
    }

    /// The promise for the reactor.
    pub(super) fn promise(&self, method_name: &str, parts: CallParts) -> Promise {
        let CallParts { endpoint, what, deadline, metadata, parent } = parts;
        let body_bytes = {
            let mut inside = self.0.inside();
            inside.method_name.clear();
            inside.method_name.push_str(method_name);
            inside.body.len()
        };
        Promise {
            call_slot: Some(self.0.clone()),
            began: endpoint.route().is_some().then(Instant::now),
            endpoint,
            then: None,
            what,
            deadline,
            metadata,
            parent,
            body_bytes,
            is_sent: false,
            tries: 0,
        }
    }

    /// The handle for the caller.
    pub(super) fn handle<T>(self, endpoint: Arc<Endpoint>, decode: DecodeReply<T>) -> InFlight<T> {
        InFlight {
            call_slot: Some(self.0),
            endpoint: Some(endpoint),
            early: None,
            decode,
            times: Times::default(),
        }
    }

    /// It comes to nothing: the cell is kept for the next one.
    pub(super) fn discard(self) {
        put_back(self.0);
    }
}

/// How a reply's bytes become its value.
pub(super) type DecodeReply<T> = fn(Codec, &[u8]) -> Result<T, CodecError>;

/// A call in flight: wait for its answer, or `await` it on any executor. Dropped, the call is cancelled, and the server
/// is told.
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
    /// `None` once the answer was taken, or where there never was a call.
    call_slot: Option<Arc<CallSlot>>,
    endpoint: Option<Arc<Endpoint>>,
    early: Option<CallError>,
    decode: DecodeReply<T>,
    times: Times,
}

impl<T> InFlight<T> {
    /// A call that failed before it was one.
    pub(super) fn failed(error: CallError, decode: DecodeReply<T>) -> InFlight<T> {
        InFlight { call_slot: None, endpoint: None, early: Some(error), decode, times: Times::default() }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// What became of the call; [`CallError::NotSent`] at once if it belongs to a batch that was not sent yet;
    /// [`CallError::OnReactor`] on the thread that would have to bring the answer.
    pub fn wait(mut self) -> Result<T, CallError> {
        loop {
            if let Some(result) = self.wait_until(None) {
                return result;
            }
        }
    }

    /// Waits for the answer, but no longer than that; `None` if it has not come. The call goes on then, and also where
    /// this says [`CallError::NotSent`] or [`CallError::OnReactor`], as for [`InFlight::wait`].
    ///
    /// # Panics
    ///
    /// The answer was taken before.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<T, CallError>> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// The answer, if it has come and was not taken. Never waits.
    pub fn try_take(&mut self) -> Option<Result<T, CallError>> {
        self.is_done().then(|| self.take())
    }

    /// Whether the answer has come, or the error; no more once it was taken.
    pub fn is_done(&self) -> bool {
        self.call_slot.as_ref().map_or(self.early.is_some(), |call_slot| call_slot.is_done())
    }

    /// Gives the call up; the server is told. The same as to drop it.
    pub fn cancel(self) {}

    /// Where the time of the call went, as the server said with its answer. Zero before that was taken.
    pub fn times(&self) -> Times {
        self.times
    }

    fn wait_until(&mut self, until: Option<Instant>) -> Option<Result<T, CallError>> {
        loop {
            if self.is_done() {
                return Some(self.take());
            }
            let call_slot = self.call_slot.as_ref().expect("the answer was taken before");
            if call_slot.state.load(Ordering::Acquire) == UNSENT {
                return Some(Err(CallError::NotSent));
            }
            if self.endpoint.as_ref().is_some_and(|endpoint| endpoint.is_driven_here()) {
                return Some(Err(CallError::OnReactor));
            }
            UNPARK.with(|waker| call_slot.waker.register(waker));
            if call_slot.is_done() {
                continue;
            }
            match until {
                None => std::thread::park(),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
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
        let (outcome, body, shared) = {
            let mut inside = call_slot.inside();
            (inside.outcome.take(), std::mem::take(&mut inside.body), inside.shared.take())
        };
        let outcome = outcome.expect("it is done");
        if let Ok(answer) = &outcome {
            self.times = answer.times;
        }
        // Without the lock: what decodes may be the user's code.
        let result =
            outcome.and_then(|answer| answer.decode(shared.as_deref().unwrap_or(&body), self.decode));
        call_slot.inside().body = body;
        put_back(call_slot);
        result
    }
}

impl<T> Future for InFlight<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, CallError>> {
        if !self.is_done() {
            let call_slot = self.call_slot.as_ref().expect("polled after it was ready");
            call_slot.waker.register(cx.waker());
            // The answer may have come in between; then nobody wakes.
            if !call_slot.is_done() {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.take())
    }
}

impl<T> Drop for InFlight<T> {
    fn drop(&mut self) {
        let Some(call_slot) = self.call_slot.take() else { return };
        match call_slot.state.swap(ABANDONED, Ordering::AcqRel) {
            DONE => put_back(call_slot),
            SENT => {
                if let Some(endpoint) = &self.endpoint {
                    endpoint.cancel(call_slot);
                }
            }
            // In a batch that was not sent: whoever sends it sees that nobody waits.
            _ => {}
        }
    }
}

impl<T> fmt::Debug for InFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
