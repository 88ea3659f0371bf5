//! The receiving end of a stream.

mod response;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use coreloop_bufpool::Chunk;

use super::sink::{Sink, SinkLink, SinkWaiter};
use super::{StreamAction, StreamAddress, StreamOrigin};
use crate::codec::{Codec, CodecError, compress};
use crate::error_text::panic_text;
use crate::log_events::log_event;
use crate::message::ReplyExtras;
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

/// A callback, and the sink that it fills: messages are delivered while the sink is ready.
struct MessageCallback {
    call: RawCallback,
    sink: Option<Arc<SinkLink>>,
}

impl MessageCallback {
    fn is_ready(&self) -> bool {
        self.sink.as_ref().is_none_or(|sink| sink.permit())
    }
}

/// What takes the messages.
enum Consumer {
    /// Nothing waits.
    Idle,
    /// A future.
    Waker(Waker),
    /// A callback that waits for a message.
    Callback(MessageCallback),
    /// A callback that waits until its sink is ready.
    Paused(MessageCallback),
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
    taken: u64,
    /// The headers and trailers of a response, on the caller's side.
    response: Option<Box<ReplyExtras>>,
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
                response: None,
            }),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, IncomingState> {
        // The lock is held for a few assignments, never across the user's code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, action: StreamAction) {
        self.origin.post(action);
    }

    /// Takes note that the call of a caller's stream was sent (the reactor's side).
    pub(crate) fn open(&self, address: StreamAddress) {
        let _ = self.origin.address.set(address);
    }

    /// Delivers a message (the reactor's side). A callback of an inline method takes it at once, without a copy.
    pub(crate) fn push(self: &Arc<Self>, body: &[u8], compressed: bool, frame_bytes: u32) -> Pushed {
        let mut state = self.state();
        if self.origin.is_inline
            && state.queue.is_empty()
            && matches!(&state.consumer, Consumer::Callback(callback) if callback.is_ready())
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
    /// drops it, and its bytes return with the end of the call. A caller takes what the handler has sent before an error.
    /// The first end stays.
    pub(crate) fn end(self: &Arc<Self>, result: Result<(), Status>) {
        let mut state = self.state();
        if self.origin.caller.is_some() {
            state.ended.get_or_insert(result);
        } else if state.ended.is_some() {
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
            // An end drops what the callback could not take, and needs no sink.
            Consumer::Paused(callback) if state.queue.is_empty() => {
                state.consumer = Consumer::Running;
                drop(state);
                self.schedule(callback);
            }
            other => state.consumer = other,
        }
    }

    /// Runs the callback until nothing is left for it, on a thread that may run it.
    fn schedule(self: &Arc<Self>, callback: MessageCallback) {
        let link = self.clone();
        if self.origin.is_inline && threads::is_reactor() {
            link.run(callback);
        } else {
            self.origin.port.run_callback(Box::new(move || link.run(callback)));
        }
    }

    fn run(self: &Arc<Self>, mut callback: MessageCallback) {
        loop {
            if !callback.is_ready() {
                match self.pause(callback) {
                    Some(ready) => callback = ready,
                    None => return,
                }
            }
            match self.next_event() {
                NextDelivery::Message(message) => {
                    let result = self.decompressed(&message.body, message.compressed, |body| {
                        call(&mut callback, StreamEvent::Message(body))
                    });
                    if let Err(status) = result {
                        return self.give_up(status);
                    }
                }
                NextDelivery::End(result) => {
                    self.state().consumer = Consumer::Gone;
                    let _ = call(&mut callback, StreamEvent::End(result));
                    return;
                }
                NextDelivery::Nothing => {
                    // What arrives from here on finds the callback, or is found by `put_back`.
                    return self.put_back(callback);
                }
            }
        }
    }

    /// Makes the callback wait: for its sink if there is a message for it, otherwise for a message. Returns the callback
    /// if only the end is left, which needs no sink.
    fn pause(self: &Arc<Self>, callback: MessageCallback) -> Option<MessageCallback> {
        let Some(sink) = callback.sink.clone() else { return Some(callback) };
        let mut state = self.state();
        if state.queue.is_empty() {
            if state.ended.is_some() {
                return Some(callback);
            }
            // Decided under the lock: a message that arrives now must not be delivered before the sink is ready.
            state.consumer = Consumer::Callback(callback);
            return None;
        }
        state.consumer = Consumer::Paused(callback);
        drop(state);
        let link = self.clone();
        // Runs at once if the sink is ready by now.
        sink.wait(SinkWaiter::Internal(Box::new(move || link.resume())));
        None
    }

    /// Goes on after the sink of a callback has become ready, or has ended.
    fn resume(self: &Arc<Self>) {
        let mut state = self.state();
        match std::mem::replace(&mut state.consumer, Consumer::Running) {
            Consumer::Paused(callback) => {
                drop(state);
                self.schedule(callback);
            }
            other => state.consumer = other,
        }
    }

    /// Makes the callback wait for the next message, unless one has arrived meanwhile.
    fn put_back(self: &Arc<Self>, callback: MessageCallback) {
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
    fn next_event(&self) -> NextDelivery {
        let mut state = self.state();
        let next = match state.queue.pop_front() {
            Some(message) => {
                state.taken += u64::from(message.frame_bytes);
                NextDelivery::Message(message)
            }
            None => match &state.ended {
                Some(result) => NextDelivery::End(result.clone()),
                None => NextDelivery::Nothing,
            },
        };
        let is_due = state.taken >= self.origin.report_bytes
            || state.taken > 0 && !matches!(next, NextDelivery::Message(_));
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

    /// Drops what was received: no one takes it. Returns whether the stream has ended.
    fn drop_rest(&self) -> bool {
        let mut state = self.state();
        state.consumer = Consumer::Gone;
        let left = state.queue.drain(..).map(|message| u64::from(message.frame_bytes)).sum::<u64>();
        let taken = std::mem::take(&mut state.taken) + left;
        let has_ended = state.ended.is_some();
        drop(state);
        if taken > 0 {
            self.post(StreamAction::Taken(taken));
        }
        has_ended
    }

    /// Drops what was received, and the call of a caller.
    fn leave(&self) {
        let has_ended = self.drop_rest();
        if let Some(caller) = self.origin.caller.as_ref().filter(|_| !has_ended) {
            caller.cancel();
        }
    }

    /// Ends the call: a message of its peer cannot be used.
    fn give_up(&self, status: Status) {
        self.drop_rest();
        self.post(StreamAction::Break(status));
    }
}

enum NextDelivery {
    Message(QueuedMessage),
    End(Result<(), Status>),
    Nothing,
}

/// Calls the user's callback. A panic ends the call.
fn call(callback: &mut MessageCallback, event: StreamEvent<&[u8]>) -> Result<(), Status> {
    catch_unwind(AssertUnwindSafe(|| (callback.call)(event))).unwrap_or_else(|payload| {
        log_event!(Panicked { what: "a callback of a stream", text: panic_text(payload) });
        Err(Status::internal("the callback of a stream panicked"))
    })
}

/// Receives the messages of a stream, from any thread, also after the handler has returned. Dropping it drops the
/// messages that are left; on the caller's side it cancels the call, if that has not ended.
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
    pub(crate) fn new(link: Arc<IncomingLink>, decode: DecodeMessage<T>) -> Stream<T> {
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
            self.link.give_up(status.clone());
        }
        decoded
    }

    fn event(&mut self, next: NextDelivery) -> Option<StreamEvent<Result<T, Status>>> {
        match next {
            NextDelivery::Message(message) => Some(StreamEvent::Message(self.item(&message))),
            NextDelivery::End(result) => {
                self.is_over = true;
                Some(StreamEvent::End(result))
            }
            NextDelivery::Nothing => None,
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
    pub fn next_message(&mut self) -> StreamNext<'_, T> {
        StreamNext { stream: self }
    }

    /// Calls the function with each message and with the end, and holds no thread in between.
    ///
    /// For an inline method the function runs on the reactor's thread, otherwise on a thread that the server has for
    /// callbacks. It must not block.
    pub fn for_each_message(self, callback: impl FnMut(StreamEvent<T>) + Send + 'static)
    where
        T: 'static,
    {
        self.deliver(callback, None);
    }

    /// Calls the function with the sink and each message while the sink is ready, and with the end; holds no thread in
    /// between. For each message one [`Sink::try_send`] finds the sink ready. While it is not, messages wait, and with
    /// them the peer: nothing is buffered beyond the windows.
    ///
    /// The function runs where that of [`Stream::for_each_message`] does.
    ///
    /// ```
    /// use coreloop::stream::{Sink, Stream, StreamEvent};
    ///
    /// /// Sends each message back.
    /// fn echo(messages: Stream<String>, sink: Sink<String>) {
    ///     messages.for_each_message_into(sink, |sink, event| match event {
    ///         StreamEvent::Message(text) => {
    ///             if let Err(error) = sink.try_send(&text) {
    ///                 sink.finish(Err(error.into()));
    ///             }
    ///         }
    ///         StreamEvent::End(result) => sink.finish(result),
    ///     });
    /// }
    /// ```
    pub fn for_each_message_into<U: 'static>(
        self,
        sink: Sink<U>,
        mut callback: impl FnMut(&Sink<U>, StreamEvent<T>) + Send + 'static,
    ) where
        T: 'static,
    {
        let link = sink.link().clone();
        self.deliver(move |event| callback(&sink, event), Some(link));
    }

    fn deliver(
        mut self,
        mut callback: impl FnMut(StreamEvent<T>) + Send + 'static,
        sink: Option<Arc<SinkLink>>,
    ) where
        T: 'static,
    {
        if std::mem::replace(&mut self.is_over, true) {
            return callback(StreamEvent::End(Ok(())));
        }
        let decode = self.decode;
        let StreamOrigin { codec, rules, .. } = self.link.origin;
        let call: RawCallback = Box::new(move |event| {
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
        self.link.put_back(MessageCallback { call, sink });
    }
}

impl<T> Iterator for Stream<T> {
    type Item = Result<T, Status>;

    fn next(&mut self) -> Option<Result<T, Status>> {
        if !threads::may_block() && !self.is_over {
            self.is_over = true;
            return Some(Err(Status::internal(
                "waiting for a stream on a thread that must not block: declare the method blocking, or use \
                 for_each_message or next_message",
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
pub struct StreamNext<'a, T> {
    stream: &'a mut Stream<T>,
}

impl<T> Future for StreamNext<'_, T> {
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

impl<T> fmt::Debug for StreamNext<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamNext")
    }
}
