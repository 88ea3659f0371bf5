//! The sending end of a stream.

mod response;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::ThreadId;

use coreloop_bufpool::Chunk;

use super::buffers::{buffer, recycle};
use super::ready::Readiness;
use super::rendezvous::Rendezvous;
use super::sink_error::SinkError;
use super::{Gate, StreamAction, StreamAddress, StreamCommand, StreamOrigin};
use crate::codec::{Codec, CodecError, ValueRules, compress};
use crate::conn::streams::{StreamBody, StreamMessage};
use crate::context::Ticket;
use crate::error_text::panic_text;
use crate::log_events::log_event;
use crate::message::ReplyExtras;
use crate::status::Status;
use crate::threads;

pub(crate) type EncodeMessage<T> = fn(&T, Codec, &mut Vec<u8>) -> Result<(), CodecError>;

/// Messages below this size are not compressed.
const COMPRESS_BYTES_MIN: usize = 1024;

/// The handler of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandlerState {
    /// It runs on this thread.
    Running(ThreadId),
    /// It is a future, which any thread may poll.
    Future,
    /// It dropped the sink on its own thread, or while it was polled: the call ends with the handler's result.
    SinkDropped,
    Returned,
}

pub(super) type Callback = Box<dyn FnOnce() + Send>;

/// What waits until a sink is ready or its stream has ended.
pub(super) enum SinkWaiter {
    /// A thread or a future.
    Waker(Waker),
    /// A callback of the user's.
    Callback(Callback),
    /// Code of this module, which is short and may run on any thread.
    Internal(Callback),
}

impl SinkWaiter {
    fn replaces(&self, earlier: &SinkWaiter) -> bool {
        match (self, earlier) {
            (SinkWaiter::Waker(waker), SinkWaiter::Waker(earlier)) => waker.will_wake(earlier),
            (SinkWaiter::Callback(_), SinkWaiter::Callback(_))
            | (SinkWaiter::Internal(_), SinkWaiter::Internal(_)) => true,
            (SinkWaiter::Waker(_) | SinkWaiter::Callback(_) | SinkWaiter::Internal(_), _) => false,
        }
    }
}

/// What a sink ends when it is finished.
enum SinkEnding {
    /// The call, which is answered.
    Answer(Ticket),
    /// The caller's messages.
    Messages,
}

struct SinkState {
    /// The stream has ended: nothing can be sent.
    ended: Option<Status>,
    handler: HandlerState,
    /// Until the sink is finished.
    ending: Option<SinkEnding>,
    /// Notified when the stream ends other than by its sink; an internal one with any end.
    on_cancel: Option<SinkWaiter>,
    /// The headers, until they are sent, and the trailers of a handler's response.
    extras: Option<Box<ReplyExtras>>,
}

/// What a sink shares with the reactor.
pub(crate) struct SinkLink {
    origin: StreamOrigin,
    ready: Readiness<SinkWaiter>,
    /// A caller's call is sent, and its sink is finished: the later of the two posts the end of the messages.
    sent_and_finished: Rendezvous,
    /// Messages, and their end, that are in the mailbox of the reactor.
    in_mailbox: AtomicUsize,
    /// The peer grants no more: nothing more is received from it.
    is_last_credit: AtomicBool,
    /// The sink was ready when a message was delivered into it: one may be sent even if the gate has closed since.
    has_permit: AtomicBool,
    /// The first message, or the headers, were posted. Always true for a caller's sink, which has no headers.
    has_begun: AtomicBool,
    state: Mutex<SinkState>,
}

impl SinkLink {
    /// Creates the link of a handler's sink, with the credit that the peer grants for a new stream.
    pub(crate) fn new(origin: StreamOrigin, gate: Arc<Gate>, credit_bytes: u32) -> Arc<SinkLink> {
        let link = SinkLink::with(origin, credit_bytes, None);
        link.ready.set_gate(gate);
        link
    }

    /// Creates the link of a caller's sink, which is not ready until [`SinkLink::open`].
    pub(crate) fn for_caller(origin: StreamOrigin) -> Arc<SinkLink> {
        SinkLink::with(origin, 0, Some(SinkEnding::Messages))
    }

    fn with(origin: StreamOrigin, credit_bytes: u32, ending: Option<SinkEnding>) -> Arc<SinkLink> {
        Arc::new(SinkLink {
            origin,
            ready: Readiness::new(i64::from(credit_bytes)),
            sent_and_finished: Rendezvous::new(),
            in_mailbox: AtomicUsize::new(0),
            is_last_credit: AtomicBool::new(false),
            has_permit: AtomicBool::new(false),
            has_begun: AtomicBool::new(ending.is_some()),
            state: Mutex::new(SinkState {
                ended: None,
                handler: HandlerState::Returned,
                ending,
                on_cancel: None,
                extras: None,
            }),
        })
    }

    /// Takes note that the call of a caller's sink was sent (the reactor's side).
    pub(crate) fn open(&self, address: StreamAddress, gate: Arc<Gate>, credit_bytes: u32) {
        let _ = self.origin.address.set(address);
        self.ready.set_gate(gate);
        if self.sent_and_finished.arrive() {
            self.post_in_order(StreamAction::End);
        } else {
            self.add_credit(credit_bytes);
        }
    }

    fn state(&self) -> MutexGuard<'_, SinkState> {
        // The lock is held for a few assignments, never across the user's code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the credit, in bytes.
    #[cfg(test)]
    pub(super) fn set_balance(&self, bytes: u32) {
        use crate::conn::streams::STREAM_WINDOW_BYTES;
        self.ready.add_credit(i64::from(bytes) - i64::from(STREAM_WINDOW_BYTES));
    }

    #[cfg(test)]
    pub(super) fn is_waiting(&self) -> bool {
        self.ready.is_waiting()
    }

    pub(super) fn origin(&self) -> &StreamOrigin {
        &self.origin
    }

    /// Returns a number that no other link has as long as this one lives.
    pub(super) fn number(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Returns whether this thread runs the handler.
    fn is_handled_here(&self, handler: HandlerState) -> bool {
        match handler {
            HandlerState::Running(thread) => thread == std::thread::current().id(),
            HandlerState::Future => threads::is_polled(self.number()),
            HandlerState::SinkDropped | HandlerState::Returned => false,
        }
    }

    /// Adds credit from the peer (the reactor's side).
    pub(crate) fn add_credit(&self, bytes: u32) {
        self.ready.add_credit(i64::from(bytes));
        self.notify();
    }

    /// Lets the sink send without credit from the peer: the gate alone bounds what waits (the reactor's side).
    pub(crate) fn lift_credit(&self) {
        self.ready.add_credit(i64::MAX / 2);
    }

    /// Takes note that the peer grants no more credit (the reactor's side). Returns whether the stream needs more now.
    pub(crate) fn close_credit(&self) -> bool {
        self.is_last_credit.store(true, Ordering::SeqCst);
        self.ready.is_waiting() && !self.ready.has_balance()
    }

    /// Ends the call if the sink needs credit that cannot come.
    fn need_credit(&self) {
        if self.is_last_credit.load(Ordering::SeqCst) && !self.ready.has_balance() {
            let status = Status::cancelled("the connection receives no more credit from the caller");
            self.origin.post(StreamAction::Break(status));
        }
    }

    /// Takes note that the reactor has taken a posted message (the reactor's side). Returns whether the sink may have
    /// become ready.
    pub(crate) fn on_taken(&self, frame_bytes: usize) -> bool {
        self.ready.on_taken(frame_bytes as i64)
    }

    /// Notifies what waits, if the sink is ready or has ended (the reactor's side).
    pub(crate) fn notify(&self) {
        for waiter in self.ready.take_waiters() {
            self.fire(waiter);
        }
    }

    /// Adds a waiter, and notifies all if the sink is ready or has ended.
    pub(super) fn wait(&self, waiter: SinkWaiter) {
        let waiters = self.ready.register(waiter, SinkWaiter::replaces);
        self.need_credit();
        for waiter in waiters {
            self.fire(waiter);
        }
    }

    fn fire(&self, waiter: SinkWaiter) {
        match waiter {
            SinkWaiter::Waker(waker) => waker.wake(),
            SinkWaiter::Callback(callback) if self.origin.is_inline && threads::is_reactor() => {
                // What the callback owned is dropped: a sink among it ends its call.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(callback)) {
                    let text = panic_text(payload);
                    log_event!(Panicked { what: "a callback of a sink", text });
                }
            }
            SinkWaiter::Callback(callback) => self.origin.port.run_callback(callback),
            SinkWaiter::Internal(callback) => callback(),
        }
    }

    /// Returns whether a message can be delivered into the sink: then one can be sent, even if the gate closes
    /// meanwhile. If the stream has ended, the sender learns that.
    pub(super) fn permit(&self) -> bool {
        if self.ready.is_ended() {
            return true;
        }
        let is_ready = self.ready.is_ready();
        if is_ready {
            self.has_permit.store(true, Ordering::Relaxed);
        }
        is_ready
    }

    /// Returns how the stream has ended, if it has.
    fn ended(&self) -> Option<Status> {
        if self.ready.is_ended() { self.state().ended.clone() } else { None }
    }

    /// Returns why nothing can be sent now.
    pub(super) fn check_ready(&self) -> Result<(), SinkError> {
        if let Some(status) = self.ended() {
            return Err(SinkError::Ended(status));
        }
        let has_permit = || self.has_permit.load(Ordering::Relaxed) && self.ready.has_balance();
        if self.ready.is_ready() || has_permit() { Ok(()) } else { Err(SinkError::NotReady) }
    }

    /// Posts a message to the reactor. Returns it if another thread has used the credit.
    pub(super) fn post(&self, message: StreamMessage) -> Result<(), StreamMessage> {
        if !self.ready.reserve(message.frame_bytes() as i64) {
            return Err(message);
        }
        if self.has_permit.load(Ordering::Relaxed) {
            self.has_permit.store(false, Ordering::Relaxed);
        }
        if !self.has_begun.load(Ordering::Acquire) {
            self.begin_response();
        }
        self.post_in_order(StreamAction::Send(message));
        Ok(())
    }

    /// Posts a command after all that were posted before. Those of other threads, and of this one before it ran a
    /// callback of the reactor, may still be in the mailbox.
    fn post_in_order(&self, action: StreamAction) {
        let Some(address) = self.origin.address.get() else { return };
        let mut command = StreamCommand { address: *address, action };
        if self.in_mailbox.load(Ordering::Acquire) == 0 {
            match self.origin.port.post_here(command) {
                Ok(()) => return,
                Err(again) => command = again,
            }
        }
        self.in_mailbox.fetch_add(1, Ordering::AcqRel);
        self.origin.port.post(command);
    }

    /// Takes note that the reactor has taken a command of the sink from the mailbox (the reactor's side).
    pub(crate) fn left_mailbox(&self) {
        self.in_mailbox.fetch_sub(1, Ordering::AcqRel);
    }

    /// Notifies the waiter once the stream ends other than by its sink, in place of an earlier one; now, if it has.
    pub(super) fn wait_for_cancel(&self, waiter: SinkWaiter) {
        let mut state = self.state();
        if state.ended.is_none() {
            let earlier = state.on_cancel.replace(waiter);
            drop(state);
            drop(earlier);
        } else if state.ending.is_some() || matches!(waiter, SinkWaiter::Internal(_)) {
            drop(state);
            self.fire(waiter);
        }
    }

    /// Ends the stream (the reactor's side): nothing more can be sent. The first status stays.
    pub(crate) fn end(&self, status: &Status) {
        let on_cancel = {
            let mut state = self.state();
            state.ended.get_or_insert_with(|| status.clone());
            self.ready.end();
            state.on_cancel.take()
        };
        self.notify();
        if let Some(on_cancel) = on_cancel {
            self.fire(on_cancel);
        }
    }

    pub(super) fn finish(&self, result: Result<(), Status>) {
        let (ending, on_cancel, was_ended, extras) = {
            let mut state = self.state();
            let status = match &result {
                Ok(()) => Status::failed_precondition("the stream was finished before"),
                Err(status) => status.clone(),
            };
            let was_ended = state.ended.is_some();
            state.ended.get_or_insert(status);
            self.ready.end();
            (state.ending.take(), state.on_cancel.take(), was_ended, state.extras.take())
        };
        match on_cancel {
            Some(waiter @ SinkWaiter::Internal(_)) => self.fire(waiter),
            Some(SinkWaiter::Waker(_) | SinkWaiter::Callback(_)) | None => {}
        }
        match (ending, result) {
            (Some(SinkEnding::Answer(mut ticket)), result) => {
                ticket.set_extras(extras);
                ticket.answer(result.map(|()| Chunk::default()));
            }
            // The call is over.
            (Some(SinkEnding::Messages), _) if was_ended => {}
            (Some(SinkEnding::Messages), Ok(())) => {
                // Before the call is sent, `open` posts it.
                if self.sent_and_finished.arrive() {
                    self.post_in_order(StreamAction::End);
                }
            }
            (Some(SinkEnding::Messages), Err(_)) => {
                if let Some(caller) = &self.origin.caller {
                    caller.cancel();
                }
            }
            (None, _) => {}
        }
        self.notify();
    }
}

/// Reports the end of the handler that was given a sink. Dropped without a result, the handler has panicked.
pub(crate) struct HandlerEnd {
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

impl fmt::Debug for HandlerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerEnd").field("has_returned", &self.has_returned).finish_non_exhaustive()
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
/// thread before it returns (an async handler: while its future is polled). A sink that is dropped anywhere else without
/// `finish` ends the stream with `internal`, so that a truncated stream never looks complete.
///
/// A caller's sink is ready once the call is sent. [`Sink::finish`] with `Ok` ends the caller's messages; with an error,
/// and when the sink is dropped without `finish`, the call is cancelled. Callbacks run on the client's thread.
pub struct Sink<T> {
    link: Arc<SinkLink>,
    encode: EncodeMessage<T>,
}

impl<T> Sink<T> {
    pub(super) fn begin(
        link: Arc<SinkLink>,
        mut ticket: Ticket,
        encode: EncodeMessage<T>,
        is_future: bool,
    ) -> (Sink<T>, HandlerEnd) {
        {
            let mut state = link.state();
            state.extras = ticket.take_extras();
            state.ending = Some(SinkEnding::Answer(ticket));
            state.handler = match is_future {
                true => HandlerState::Future,
                false => HandlerState::Running(std::thread::current().id()),
            };
        }
        let end = HandlerEnd { link: link.clone(), has_returned: false };
        (Sink { link, encode }, end)
    }

    pub(crate) fn for_caller(link: Arc<SinkLink>, encode: EncodeMessage<T>) -> Sink<T> {
        Sink { link, encode }
    }

    /// Sends a message, and waits until the peer takes it: for methods that may block, and for threads of your own.
    ///
    /// # Errors
    ///
    /// [`SinkError::MustNotBlock`] on a thread of the server's that must not block, [`SinkError::Ended`] once the
    /// stream has ended, [`SinkError::Message`] or [`SinkError::TooLarge`].
    pub fn send(&self, message: &T) -> Result<(), SinkError> {
        if !threads::may_block() {
            return Err(SinkError::MustNotBlock);
        }
        let mut encoded = self.encoded(message)?;
        loop {
            match self.link.check_ready() {
                Ok(()) => match self.link.post(encoded) {
                    Ok(()) => return Ok(()),
                    Err(again) => encoded = again,
                },
                Err(SinkError::NotReady) => {
                    // Notifies this thread too, if the sink is ready by now; a thread may also wake without reason.
                    self.link.wait(SinkWaiter::Waker(threads::with_unparker(Waker::clone)));
                    std::thread::park();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a message if the sink is ready.
    ///
    /// # Errors
    ///
    /// [`SinkError::NotReady`], [`SinkError::Ended`], [`SinkError::Message`] or [`SinkError::TooLarge`]; nothing was
    /// sent, and after an error other than the end the stream goes on.
    pub fn try_send(&self, message: &T) -> Result<(), SinkError> {
        if let Err(error) = self.link.check_ready() {
            if error == SinkError::NotReady {
                self.link.need_credit();
            }
            return Err(error);
        }
        let encoded = self.encoded(message)?;
        self.link.post(encoded).map_err(|_| SinkError::NotReady)
    }

    pub(super) fn encoded(&self, message: &T) -> Result<StreamMessage, SinkError> {
        let StreamOrigin { codec, rules, compresses, message_bytes_max: bytes_max, .. } = self.link.origin;
        let encoded = encode(self.encode, message, codec, rules, compresses)?;
        let message_bytes = encoded.body.len();
        if message_bytes > bytes_max {
            return Err(SinkError::TooLarge { message_bytes, bytes_max });
        }
        Ok(encoded)
    }

    /// Returns whether a message can be sent now.
    pub fn is_ready(&self) -> bool {
        !self.link.ready.is_ended() && self.link.ready.is_ready()
    }

    /// Runs the function once the sink is ready or the stream has ended; now, if it is. A later function replaces one
    /// that still waits. It must not block.
    pub fn on_ready(&self, callback: impl FnOnce() + Send + 'static) {
        self.link.wait(SinkWaiter::Callback(Box::new(callback)));
    }

    /// Ends the stream: with the last message if `result` is ok, and with an error otherwise. Only the first end of a
    /// stream counts.
    pub fn finish(&self, result: Result<(), Status>) {
        self.link.finish(result);
    }

    /// Returns how the stream has ended, if it has.
    pub fn ended(&self) -> Option<Status> {
        self.link.ended()
    }

    /// Returns whether the stream has ended other than by this sink: the caller has given up, the deadline has passed,
    /// or the connection is lost.
    pub fn is_cancelled(&self) -> bool {
        self.link.ready.is_ended() && self.link.state().ending.is_some()
    }

    /// Runs the function once the stream ends other than by this sink; now, if it has. A later function replaces one
    /// that still waits. It must not block, and is not run after [`Sink::finish`] or the drop of the sink.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        self.link.wait_for_cancel(SinkWaiter::Callback(Box::new(callback)));
    }

    pub(super) fn link(&self) -> &Arc<SinkLink> {
        &self.link
    }

    pub(super) fn encode_fn(&self) -> EncodeMessage<T> {
        self.encode
    }
}

/// Encodes a message, and compresses it if it `compresses` and that makes it smaller.
pub(super) fn encode<T>(
    encode: EncodeMessage<T>,
    message: &T,
    codec: Codec,
    rules: ValueRules,
    compresses: bool,
) -> Result<StreamMessage, SinkError> {
    let mut body = buffer();
    if let Err(error) = rules.apply(|| encode(message, codec, &mut body)) {
        recycle(StreamBody::Owned(body));
        return Err(SinkError::Message(error));
    }
    if compresses && body.len() >= COMPRESS_BYTES_MIN {
        let mut compressed = Vec::new();
        if compress::compress(&body, &mut compressed).is_ok() && compressed.len() < body.len() {
            recycle(StreamBody::Owned(body));
            return Ok(StreamMessage { body: StreamBody::Owned(compressed), compressed: true });
        }
    }
    Ok(StreamMessage { body: StreamBody::Owned(body), compressed: false })
}

impl<T> Drop for Sink<T> {
    fn drop(&mut self) {
        {
            let mut state = self.link.state();
            if state.ending.is_none() {
                return;
            }
            if self.link.is_handled_here(state.handler) {
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
