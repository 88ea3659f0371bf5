//! The sending end of a stream.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread::ThreadId;

use coreloop_bufpool::Chunk;

use super::{Gate, StreamAction, StreamCommand, StreamOrigin};
use crate::codec::{Codec, CodecError};
use crate::conn::streams::{STREAM_WINDOW_BYTES, StreamMessage};
use crate::context::Ticket;
use crate::status::Status;
use crate::threads;

pub(crate) type EncodeMessage<T> = fn(&T, Codec, &mut Vec<u8>) -> Result<(), CodecError>;

/// Bytes that one sink may have on their way to the reactor, and one message.
const POSTED_BYTES_MAX: i64 = 64 * 1024;

/// Why a message was not sent.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum SinkError {
    /// The peer has not granted enough, or too many bytes wait for it. Wait until the sink is ready.
    NotReady,
    /// A blocking call on a thread that must not block.
    MustNotBlock,
    /// The stream has ended with this status: the caller has gone or given up, the deadline has passed, the server
    /// drains, or the call was finished.
    Ended(Status),
    /// The message cannot be encoded.
    Message(CodecError),
}

crate::error_text::debug_as_text!(SinkError);

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::NotReady => {
                f.write_str("the peer takes no more messages now: wait with send, on_ready or ready")
            }
            SinkError::MustNotBlock => f.write_str(
                "a blocking send on a thread that must not block: declare the method blocking, or use try_send",
            ),
            SinkError::Ended(status) => write!(f, "the stream has ended: {status}"),
            SinkError::Message(error) => write!(f, "the message cannot be encoded: {error}"),
        }
    }
}

impl std::error::Error for SinkError {}

impl From<SinkError> for Status {
    fn from(error: SinkError) -> Status {
        match error {
            SinkError::Ended(status) => status,
            SinkError::NotReady => Status::resource_exhausted(error.to_string()),
            SinkError::MustNotBlock => Status::internal(error.to_string()),
            SinkError::Message(error) => error.into(),
        }
    }
}

/// The handler of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandlerState {
    /// It runs on this thread.
    Running(ThreadId),
    /// It dropped the sink on its own thread: the call ends with the handler's result.
    SinkDropped,
    Returned,
}

type Callback = Box<dyn FnOnce() + Send>;

struct SinkState {
    /// The stream has ended: nothing can be sent.
    ended: Option<Status>,
    handler: HandlerState,
    /// The right to answer the call, until it is finished.
    ticket: Option<Ticket>,
    on_ready: Option<Callback>,
    waker: Option<Waker>,
    /// Threads wait in `send`.
    is_awaited: bool,
}

/// What a sink shares with the reactor.
pub(crate) struct SinkLink {
    origin: StreamOrigin,
    gate: Arc<Gate>,
    /// The stream's credit, less what was posted.
    balance: AtomicI64,
    /// Bytes posted that the reactor has not taken yet. The peer's credit alone is no bound for this process's memory.
    posted: AtomicI64,
    /// The peer grants no more: it has closed its sending half.
    is_last_credit: AtomicBool,
    state: Mutex<SinkState>,
    changed: Condvar,
}

impl SinkLink {
    pub(crate) fn new(origin: StreamOrigin, gate: Arc<Gate>) -> Arc<SinkLink> {
        Arc::new(SinkLink {
            origin,
            gate,
            balance: AtomicI64::new(i64::from(STREAM_WINDOW_BYTES)),
            posted: AtomicI64::new(0),
            is_last_credit: AtomicBool::new(false),
            state: Mutex::new(SinkState {
                ended: None,
                handler: HandlerState::Returned,
                ticket: None,
                on_ready: None,
                waker: None,
                is_awaited: false,
            }),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, SinkState> {
        // The lock is held for a few assignments, never across the user's code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_credit(&self) -> bool {
        self.balance.load(Ordering::SeqCst) > 0
            && self.posted.load(Ordering::SeqCst) < POSTED_BYTES_MAX
            && !self.gate.is_closed()
    }

    /// Adds credit from the peer (the reactor's side).
    pub(crate) fn add_credit(&self, bytes: u32) {
        self.balance.fetch_add(i64::from(bytes), Ordering::SeqCst);
        self.notify();
    }

    /// Takes note that the peer grants no more credit (the reactor's side). Returns whether the stream needs more now.
    pub(crate) fn close_credit(&self) -> bool {
        self.is_last_credit.store(true, Ordering::SeqCst);
        let state = self.state();
        let is_waiting = state.is_awaited || state.on_ready.is_some() || state.waker.is_some();
        is_waiting && self.balance.load(Ordering::SeqCst) <= 0
    }

    /// Ends the call if the sink needs credit that cannot come.
    fn need_credit(&self) {
        if self.is_last_credit.load(Ordering::SeqCst) && self.balance.load(Ordering::SeqCst) <= 0 {
            let StreamOrigin { port, address, .. } = &self.origin;
            let status = Status::cancelled("the caller closed its sending half and grants no more");
            port.post(StreamCommand { address: *address, action: StreamAction::Break(status) });
        }
    }

    /// Takes note that the reactor has taken a posted message (the reactor's side). Returns whether the sink may have
    /// become ready.
    pub(crate) fn on_taken(&self, frame_bytes: usize) -> bool {
        let before = self.posted.fetch_sub(frame_bytes as i64, Ordering::SeqCst);
        before >= POSTED_BYTES_MAX && before - (frame_bytes as i64) < POSTED_BYTES_MAX
    }

    /// Wakes the threads, futures and callbacks that wait, if the sink is ready or has ended (the reactor's side).
    pub(crate) fn notify(&self) {
        let (callback, waker) = {
            let mut state = self.state();
            if state.ended.is_none() && !self.has_credit() {
                return;
            }
            if state.is_awaited {
                self.changed.notify_all();
            }
            (state.on_ready.take(), state.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(callback) = callback {
            self.run(callback);
        }
    }

    fn run(&self, callback: Callback) {
        if self.origin.is_inline && threads::is_reactor() {
            callback();
        } else {
            self.origin.port.run_callback(callback);
        }
    }

    /// Ends the stream (the reactor's side): nothing more can be sent. The first status stays.
    pub(crate) fn end(&self, status: &Status) {
        self.state().ended.get_or_insert_with(|| status.clone());
        self.notify();
    }

    fn finish(&self, result: Result<(), Status>) {
        let ticket = {
            let mut state = self.state();
            let status = match &result {
                Ok(()) => Status::failed_precondition("the stream was finished before"),
                Err(status) => status.clone(),
            };
            state.ended.get_or_insert(status);
            state.ticket.take()
        };
        if let Some(ticket) = ticket {
            ticket.answer(result.map(|()| Chunk::default()));
        }
        self.notify();
    }
}

/// Reports the end of the handler that was given a sink. Dropped without a result, the handler has panicked.
pub struct HandlerEnd {
    link: Arc<SinkLink>,
    has_returned: bool,
}

impl HandlerEnd {
    /// Takes note of the handler's result. An error ends the call at once. After `Ok` the call ends with the sink, or
    /// now if the handler has dropped the sink.
    pub fn returned(mut self, result: Result<(), Status>) {
        self.has_returned = true;
        self.set(result);
    }

    fn set(&self, result: Result<(), Status>) {
        let is_dropped = std::mem::replace(&mut self.link.state().handler, HandlerState::Returned)
            == HandlerState::SinkDropped;
        if is_dropped || result.is_err() {
            self.link.finish(result);
        }
    }
}

impl Drop for HandlerEnd {
    fn drop(&mut self) {
        if !self.has_returned {
            self.set(Err(Status::internal("the handler panicked")));
        }
    }
}

/// Sends the messages of a stream, from any thread, also after the handler has returned.
///
/// A message is sent while the peer has granted credit and not too many bytes wait for it; otherwise the sink is not
/// ready. A stream ends with [`Sink::finish`], or with the handler's result if the handler drops the sink on its own
/// thread before it returns. A sink that is dropped anywhere else without `finish` ends the stream with `internal`,
/// so that a truncated stream never looks complete.
pub struct Sink<T> {
    link: Arc<SinkLink>,
    encode: EncodeMessage<T>,
}

impl<T> Sink<T> {
    pub(super) fn begin(
        link: Arc<SinkLink>,
        ticket: Ticket,
        encode: EncodeMessage<T>,
    ) -> (Sink<T>, HandlerEnd) {
        {
            let mut state = link.state();
            state.ticket = Some(ticket);
            state.handler = HandlerState::Running(std::thread::current().id());
        }
        let end = HandlerEnd { link: link.clone(), has_returned: false };
        (Sink { link, encode }, end)
    }

    /// Sends a message, and waits until the peer takes it: for methods that may block, and for threads of your own.
    ///
    /// # Errors
    ///
    /// [`SinkError::MustNotBlock`] on a thread of the server's that must not block, [`SinkError::Ended`] once the
    /// stream has ended, or [`SinkError::Message`].
    pub fn send(&self, message: &T) -> Result<(), SinkError> {
        if !threads::may_block() {
            return Err(SinkError::MustNotBlock);
        }
        let encoded = self.encoded(message)?;
        {
            let mut state = self.link.state();
            while state.ended.is_none() && !self.link.has_credit() {
                self.link.need_credit();
                state.is_awaited = true;
                state = self.link.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        self.post(encoded)
    }

    /// Sends a message if the sink is ready.
    ///
    /// # Errors
    ///
    /// [`SinkError::NotReady`], [`SinkError::Ended`] or [`SinkError::Message`]; nothing was sent.
    pub fn try_send(&self, message: &T) -> Result<(), SinkError> {
        if !self.link.has_credit() {
            let ended = self.link.state().ended.clone();
            if ended.is_none() {
                self.link.need_credit();
            }
            return Err(ended.map_or(SinkError::NotReady, SinkError::Ended));
        }
        let encoded = self.encoded(message)?;
        self.post(encoded)
    }

    fn encoded(&self, message: &T) -> Result<Chunk, SinkError> {
        let StreamOrigin { codec, rules, .. } = self.link.origin;
        let mut body = Vec::new();
        rules.apply(|| (self.encode)(message, codec, &mut body)).map_err(SinkError::Message)?;
        Ok(Chunk::from(body))
    }

    fn post(&self, body: Chunk) -> Result<(), SinkError> {
        if let Some(status) = &self.link.state().ended {
            return Err(SinkError::Ended(status.clone()));
        }
        let message = StreamMessage { body, compressed: false };
        let bytes = message.frame_bytes() as i64;
        self.link.balance.fetch_sub(bytes, Ordering::SeqCst);
        self.link.posted.fetch_add(bytes, Ordering::SeqCst);
        let StreamOrigin { port, address, .. } = &self.link.origin;
        port.post(StreamCommand { address: *address, action: StreamAction::Send(message) });
        Ok(())
    }

    /// Returns whether a message can be sent now.
    pub fn is_ready(&self) -> bool {
        self.link.has_credit() && self.link.state().ended.is_none()
    }

    /// Runs the function once the sink is ready or the stream has ended; now, if it is. A later function replaces one
    /// that still waits. It must not block.
    pub fn on_ready(&self, callback: impl FnOnce() + Send + 'static) {
        self.link.state().on_ready = Some(Box::new(callback));
        self.link.need_credit();
        self.link.notify();
    }

    /// Waits, as a future, until the sink is ready or the stream has ended.
    pub fn ready(&self) -> SinkReady<'_, T> {
        SinkReady { sink: self }
    }

    /// Ends the stream: with the last message if `result` is ok, and with an error otherwise. Only the first end of a
    /// stream counts.
    pub fn finish(&self, result: Result<(), Status>) {
        self.link.finish(result);
    }

    /// Returns how the stream has ended, if it has.
    pub fn ended(&self) -> Option<Status> {
        self.link.state().ended.clone()
    }
}

impl<T> Drop for Sink<T> {
    fn drop(&mut self) {
        {
            let mut state = self.link.state();
            if state.ticket.is_none() {
                return;
            }
            if state.handler == HandlerState::Running(std::thread::current().id()) {
                state.handler = HandlerState::SinkDropped;
                return;
            }
        }
        self.link.finish(Err(Status::internal("the sink was dropped before the stream was finished")));
    }
}

impl<T> fmt::Debug for Sink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("address", &self.link.origin.address).finish_non_exhaustive()
    }
}

/// The future of [`Sink::ready`].
pub struct SinkReady<'a, T> {
    sink: &'a Sink<T>,
}

impl<T> Future for SinkReady<'_, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let link = &self.sink.link;
        let mut state = link.state();
        if state.ended.is_some() || link.has_credit() {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        drop(state);
        link.need_credit();
        // Credit that came in between has found no waker.
        if link.has_credit() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T> fmt::Debug for SinkReady<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkReady")
    }
}
