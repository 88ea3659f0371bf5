//! The receiving end of a stream.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use coreloop_bufpool::Chunk;

use super::{StreamAction, StreamCommand, StreamOrigin};
use crate::codec::{Codec, CodecError, compress};
use crate::status::Status;
use crate::threads;

pub(crate) type DecodeMessage<T> = fn(Codec, &[u8]) -> Result<T, CodecError>;

/// What a [`Stream`] passes to a callback.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent<T> {
    /// The next message.
    Message(T),
    /// No more messages follow: the peer has ended its messages, or the call has ended with this status. It is the last
    /// event.
    End(Result<(), Status>),
}

/// A message that was received and not taken.
struct QueuedMessage {
    body: Chunk,
    compressed: bool,
    frame_bytes: u32,
}

/// A callback over encoded messages. It returns an error if a message cannot be decoded.
type RawCallback = Box<dyn FnMut(StreamEvent<&[u8]>) -> Result<(), Status> + Send>;

/// What takes the messages.
enum Consumer {
    /// Nothing waits.
    Idle,
    /// A future.
    Waker(Waker),
    /// A callback.
    Callback(RawCallback),
    /// The callback runs now, on some thread, which goes on with what arrives meanwhile.
    Running,
    /// The stream was dropped, or its last event was delivered.
    Gone,
}

struct IncomingState {
    queue: VecDeque<QueuedMessage>,
    ended: Option<Result<(), Status>>,
    consumer: Consumer,
    /// Threads wait in `next`.
    is_awaited: bool,
    /// Bytes taken and not reported yet.
    taken: u32,
}

/// What a stream shares with the reactor.
pub(crate) struct IncomingLink {
    origin: StreamOrigin,
    state: Mutex<IncomingState>,
    changed: Condvar,
}

/// The fate of a message that was pushed.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It waits to be taken.
    Queued,
    /// It was taken at once, or dropped.
    Taken,
    /// It was taken at once and cannot be used: the call ends with this status.
    Broken(Status),
}

/// Bytes that are taken before they are reported.
const TAKEN_BYTES_MIN: u32 = 32 * 1024;

impl IncomingLink {
    pub(crate) fn new(origin: StreamOrigin) -> Arc<IncomingLink> {
        Arc::new(IncomingLink {
            origin,
            state: Mutex::new(IncomingState {
                queue: VecDeque::new(),
                ended: None,
                consumer: Consumer::Idle,
                is_awaited: false,
                taken: 0,
            }),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, IncomingState> {
        // The lock is held for a few assignments, never across the user's code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, action: StreamAction) {
        self.origin.port.post(StreamCommand { address: self.origin.address, action });
    }

    /// Delivers a message (the reactor's side). A callback of an inline method takes it at once, without a copy.
    pub(crate) fn push(self: &Arc<Self>, body: &[u8], compressed: bool, frame_bytes: u32) -> Pushed {
        let mut state = self.state();
        if self.origin.is_inline && state.queue.is_empty() && matches!(state.consumer, Consumer::Callback(_))
        {
            let Consumer::Callback(mut callback) = std::mem::replace(&mut state.consumer, Consumer::Running)
            else {
                return Pushed::Taken;
            };
            drop(state);
            let result =
                self.decompressed(body, compressed, |body| call(&mut callback, StreamEvent::Message(body)));
            return match result {
                Ok(()) => {
                    self.put_back(callback);
                    Pushed::Taken
                }
                Err(status) => {
                    self.state().consumer = Consumer::Gone;
                    Pushed::Broken(status)
                }
            };
        }
        if matches!(state.consumer, Consumer::Gone) || state.ended.is_some() {
            return Pushed::Taken;
        }
        // A copy: a part of the receive buffer would keep all of the buffer.
        let body = Chunk::from(body.to_vec());
        state.queue.push_back(QueuedMessage { body, compressed, frame_bytes });
        self.wake(state);
        Pushed::Queued
    }

    /// Ends the stream (the reactor's side). What was received before can still be taken if the end is ok; an error
    /// drops it, and its bytes return with the end of the call. The first end stays.
    pub(crate) fn end(self: &Arc<Self>, result: Result<(), Status>) {
        let mut state = self.state();
        if state.ended.is_some() {
            // A call may fail after its peer has ended its messages: the error replaces what was not taken.
            if let Err(status) = result
                && !state.queue.is_empty()
            {
                state.queue.clear();
                state.ended = Some(Err(status));
            }
        } else {
            if result.is_err() {
                state.queue.clear();
            }
            state.ended = Some(result);
        }
        self.wake(state);
    }

    /// Wakes the consumer for a message or the end.
    fn wake(self: &Arc<Self>, mut state: MutexGuard<'_, IncomingState>) {
        if state.is_awaited {
            self.changed.notify_all();
        }
        match std::mem::replace(&mut state.consumer, Consumer::Idle) {
            Consumer::Waker(waker) => {
                drop(state);
                waker.wake();
            }
            Consumer::Callback(callback) => {
                state.consumer = Consumer::Running;
                drop(state);
                self.schedule(callback);
            }
            other => state.consumer = other,
        }
    }

    /// Runs the callback until nothing is left for it, on a thread that may run it.
    fn schedule(self: &Arc<Self>, callback: RawCallback) {
        let link = self.clone();
        if self.origin.is_inline && threads::is_reactor() {
            link.run(callback);
        } else {
            self.origin.port.run_callback(Box::new(move || link.run(callback)));
        }
    }

    fn run(self: &Arc<Self>, mut callback: RawCallback) {
        loop {
            match self.next_event() {
                Next::Message(message) => {
                    let result = self.decompressed(&message.body, message.compressed, |body| {
                        call(&mut callback, StreamEvent::Message(body))
                    });
                    if let Err(status) = result {
                        self.state().consumer = Consumer::Gone;
                        return self.post(StreamAction::Break(status));
                    }
                }
                Next::End(result) => {
                    self.state().consumer = Consumer::Gone;
                    let _ = call(&mut callback, StreamEvent::End(result));
                    return;
                }
                Next::Nothing => {
                    // What arrives from here on finds the callback, or is found by `put_back`.
                    return self.put_back(callback);
                }
            }
        }
    }

    /// Makes the callback wait for the next message, unless one has arrived meanwhile.
    fn put_back(self: &Arc<Self>, callback: RawCallback) {
        let mut state = self.state();
        if matches!(state.consumer, Consumer::Gone) {
            return;
        }
        let is_due = !state.queue.is_empty() || state.ended.is_some();
        state.consumer = Consumer::Callback(callback);
        if is_due {
            self.wake(state);
        }
    }

    /// Takes the next message, and reports what was taken if it is much or nothing is left.
    fn next_event(&self) -> Next {
        let mut state = self.state();
        let next = match state.queue.pop_front() {
            Some(message) => {
                state.taken += message.frame_bytes;
                Next::Message(message)
            }
            None => match &state.ended {
                Some(result) => Next::End(result.clone()),
                None => Next::Nothing,
            },
        };
        let is_due = state.taken >= TAKEN_BYTES_MIN || state.taken > 0 && matches!(next, Next::Nothing);
        let taken = if is_due { std::mem::take(&mut state.taken) } else { 0 };
        drop(state);
        if taken > 0 {
            self.post(StreamAction::Taken(taken));
        }
        next
    }

    fn decompressed<R>(
        &self,
        body: &[u8],
        compressed: bool,
        take: impl FnOnce(&[u8]) -> Result<R, Status>,
    ) -> Result<R, Status> {
        if !compressed {
            return take(body);
        }
        let mut out = Vec::new();
        compress::decompress(body, self.origin.message_bytes_max, &mut out).map_err(Status::from)?;
        take(&out)
    }

    /// Drops what was received: no one takes it.
    fn leave(&self) {
        let mut state = self.state();
        state.consumer = Consumer::Gone;
        let left = state.queue.drain(..).map(|message| message.frame_bytes).sum::<u32>();
        let taken = std::mem::take(&mut state.taken) + left;
        drop(state);
        if taken > 0 {
            self.post(StreamAction::Taken(taken));
        }
    }
}

enum Next {
    Message(QueuedMessage),
    End(Result<(), Status>),
    Nothing,
}

/// Calls the user's callback. A panic ends the call.
fn call(callback: &mut RawCallback, event: StreamEvent<&[u8]>) -> Result<(), Status> {
    catch_unwind(AssertUnwindSafe(|| callback(event))).unwrap_or_else(|payload| {
        // The payload's destructor may panic, and that panic would not be caught.
        std::mem::forget(payload);
        Err(Status::internal("the callback of a stream panicked"))
    })
}

/// Receives the messages of a stream, from any thread, also after the handler has returned. Dropping it drops the
/// messages that are left.
///
/// As an iterator it blocks: for methods that may block, and threads of your own. Elsewhere the iterator returns an
/// error that says so; use [`Stream::try_next`], [`Stream::next_message`] or [`Stream::for_each_message`].
pub struct Stream<T> {
    link: Arc<IncomingLink>,
    decode: DecodeMessage<T>,
    /// The last item was returned.
    is_over: bool,
}

impl<T> Stream<T> {
    pub(super) fn new(link: Arc<IncomingLink>, decode: DecodeMessage<T>) -> Stream<T> {
        Stream { link, decode, is_over: false }
    }

    fn item(&mut self, message: &QueuedMessage) -> Result<T, Status> {
        let StreamOrigin { codec, rules, .. } = self.link.origin;
        let decode = self.decode;
        let decoded = self.link.decompressed(&message.body, message.compressed, |body| {
            rules.apply(|| decode(codec, body)).map_err(Status::from)
        });
        if let Err(status) = &decoded {
            self.is_over = true;
            self.link.post(StreamAction::Break(status.clone()));
        }
        decoded
    }

    fn event(&mut self, next: Next) -> Option<StreamEvent<Result<T, Status>>> {
        match next {
            Next::Message(message) => Some(StreamEvent::Message(self.item(&message))),
            Next::End(result) => {
                self.is_over = true;
                Some(StreamEvent::End(result))
            }
            Next::Nothing => None,
        }
    }

    /// Returns the next message if it has arrived, `Ok(None)` at the end, and nothing if the peer may still send one.
    /// An error is the last item.
    pub fn try_next(&mut self) -> Poll<Option<Result<T, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next = self.link.next_event();
        match self.event(next) {
            Some(StreamEvent::Message(item)) => Poll::Ready(Some(item)),
            Some(StreamEvent::End(result)) => Poll::Ready(result.err().map(Err)),
            None => Poll::Pending,
        }
    }

    /// Returns the next message, as a future; `None` at the end. An error is the last item.
    pub fn next_message(&mut self) -> NextMessage<'_, T> {
        NextMessage { stream: self }
    }

    /// Calls the function with each message and with the end, and holds no thread in between.
    ///
    /// For an inline method the function runs on the reactor's thread, otherwise on a thread that the server has for
    /// callbacks. It must not block.
    pub fn for_each_message(mut self, mut callback: impl FnMut(StreamEvent<T>) + Send + 'static)
    where
        T: 'static,
    {
        if std::mem::replace(&mut self.is_over, true) {
            return callback(StreamEvent::End(Ok(())));
        }
        let decode = self.decode;
        let StreamOrigin { codec, rules, .. } = self.link.origin;
        let callback: RawCallback = Box::new(move |event| {
            match event {
                StreamEvent::Message(body) => match rules.apply(|| decode(codec, body)) {
                    Ok(message) => callback(StreamEvent::Message(message)),
                    Err(error) => {
                        let status = Status::from(error);
                        callback(StreamEvent::End(Err(status.clone())));
                        return Err(status);
                    }
                },
                StreamEvent::End(result) => callback(StreamEvent::End(result)),
            }
            Ok(())
        });
        self.link.put_back(callback);
    }
}

impl<T> Iterator for Stream<T> {
    type Item = Result<T, Status>;

    fn next(&mut self) -> Option<Result<T, Status>> {
        if !threads::may_block() && !self.is_over {
            self.is_over = true;
            return Some(Err(Status::internal(
                "waiting for a stream on a thread that must not block: declare the method blocking, or use \
                 for_each_message",
            )));
        }
        loop {
            if let Poll::Ready(item) = self.try_next() {
                return item;
            }
            let mut state = self.link.state();
            while state.queue.is_empty() && state.ended.is_none() {
                state.is_awaited = true;
                state = self.link.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl<T> Drop for Stream<T> {
    fn drop(&mut self) {
        // After the last item nothing is left, or a callback has it.
        if !self.is_over {
            self.link.leave();
        }
    }
}

impl<T> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("address", &self.link.origin.address).finish_non_exhaustive()
    }
}

/// The future of [`Stream::next_message`].
pub struct NextMessage<'a, T> {
    stream: &'a mut Stream<T>,
}

impl<T> Future for NextMessage<'_, T> {
    type Output = Option<Result<T, Status>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(item) = self.stream.try_next() {
            return Poll::Ready(item);
        }
        let mut state = self.stream.link.state();
        if state.queue.is_empty() && state.ended.is_none() {
            state.consumer = Consumer::Waker(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.stream.try_next()
    }
}

impl<T> fmt::Debug for NextMessage<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NextMessage")
    }
}
