//! The messages of a streaming call: a [`Sink`] sends them, a [`Stream`] receives them.
//!
//! Both may be moved to any thread and may outlive the handler. Sinks and streams have three forms of use: blocking
//! (for methods that may block, and the user's own threads), not blocking, and with a callback or a future, which
//! holds no thread. What they buffer is bounded by the windows of the stream and of its connection
//! (`docs/wire.md`, "Streams").
//!
//! Nothing here knows a connection: commands go through a `StreamPort` to the reactor that owns it.

mod broadcast;
mod buffers;
mod events;
mod gate;
mod incoming;
mod outbox;
mod ready;
mod rendezvous;
mod sink;
mod sink_error;
mod sink_futures;
mod sync;
mod wait;

use std::fmt;
use std::sync::{Arc, OnceLock};

use coreloop_poller::Key;

pub use broadcast::{Broadcast, SlowSubscriber};
pub(crate) use gate::Gate;
pub use incoming::{Stream, StreamEvent, StreamNext};
pub(crate) use outbox::Outbox;
pub(crate) use sink::HandlerEnd;
pub use sink::Sink;
pub use sink_error::SinkError;
pub use sink_futures::{SinkReady, SinkSend};

pub(crate) use buffers::send_message;
pub(crate) use incoming::{DecodeMessage, IncomingLink, Pushed};
pub(crate) use sink::{EncodeMessage, SinkLink};

use crate::codec::{Codec, ValueRules};
use crate::conn::streams::{StreamKey, StreamMessage};
use crate::context::Ticket;
use crate::message::MetadataBuf;
use crate::status::Status;

/// A stream of a connection of a reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamAddress {
    /// The connection.
    pub connection: Key,
    /// The stream.
    pub stream: StreamKey,
}

/// What a sink or a stream asks of the reactor that owns its connection.
#[derive(Debug)]
pub(crate) struct StreamCommand {
    /// The stream.
    pub address: StreamAddress,
    /// What to do.
    pub action: StreamAction,
}

/// The action of a [`StreamCommand`].
#[derive(Debug)]
pub(crate) enum StreamAction {
    /// Send a message.
    Send(StreamMessage),
    /// Send the headers of the response, before the first message (the handler's side).
    Headers(Box<MetadataBuf>),
    /// Messages with that many bytes of data frames were taken.
    Taken(u64),
    /// End this side's messages, after those that were sent (the caller's side).
    End,
    /// End the call: the peer's messages cannot be used.
    Break(Status),
}

/// The way from sinks and streams to the reactor of their connection.
pub(crate) trait StreamPort: Send + Sync {
    /// Passes a command on through the mailbox of the reactor, without waiting.
    fn post(&self, command: StreamCommand);

    /// Passes a command on without the mailbox, if this thread is the reactor's and runs a callback. Returns the command
    /// otherwise.
    ///
    /// # Errors
    ///
    /// The command.
    fn post_here(&self, command: StreamCommand) -> Result<(), StreamCommand>;

    /// Runs a callback on a thread that may run the user's code, but may not block.
    fn run_callback(&self, callback: Box<dyn FnOnce() + Send>);

    /// Runs a task on the reactor's thread, in the scope of its outbox, without waiting. Not run if the reactor has
    /// ended.
    fn run_task(&self, task: Arc<dyn ReactorTask>);
}

/// A call with streams, for the caller's side of it.
pub(crate) trait CallHandle: Send + Sync {
    /// Gives up the call, if it has not ended, without waiting.
    fn cancel(&self);
}

/// Shared state with something to do on the thread of a reactor: the subscribers of a [`Broadcast`] there.
pub(crate) trait ReactorTask: Send + Sync {
    /// Does it. Returns true if it is to be called again, after the commands that it has posted.
    fn run(self: Arc<Self>) -> bool;
}

/// What both ends of a call's streams have in common.
#[derive(Clone)]
pub(crate) struct StreamOrigin {
    pub(crate) port: Arc<dyn StreamPort>,
    /// A caller's stream has none until its call is sent.
    pub(crate) address: OnceLock<StreamAddress>,
    /// The call, on the caller's side.
    pub(crate) caller: Option<Arc<dyn CallHandle>>,
    pub(crate) codec: Codec,
    pub(crate) rules: ValueRules,
    /// Messages are compressed where that makes them smaller, because the request was.
    pub(crate) compresses: bool,
    /// The most bytes of a message: of one to send, and of one that was received after it was decompressed.
    pub(crate) message_bytes_max: usize,
    /// Bytes that are taken before they are reported. All streams of a connection together stay within a part of its
    /// window: what was taken and not reported is credit that the peer lacks.
    pub(crate) report_bytes: u64,
    /// Callbacks run on the reactor's thread.
    pub(crate) is_inline: bool,
}

/// Returns the bytes that a stream takes before it reports them: what all streams of a connection have not reported
/// stays within a quarter of the connection's window.
pub(crate) fn report_bytes(
    connection_window_bytes: usize,
    stream_window_bytes: usize,
    streams_max: usize,
) -> u64 {
    let share = connection_window_bytes / 4 / streams_max.max(1);
    share.min(stream_window_bytes / 4) as u64
}

impl StreamOrigin {
    /// Passes a command on to the reactor. Before the call is sent there is nothing to act on.
    fn post(&self, action: StreamAction) {
        if let Some(address) = self.address.get() {
            let command = StreamCommand { address: *address, action };
            if let Err(command) = self.port.post_here(command) {
                self.port.post(command);
            }
        }
    }
}

/// The streams of one call: before its handler takes them, or as long as a caller's call lasts.
pub(crate) struct CallStreams {
    pub(crate) sink: Option<Arc<SinkLink>>,
    pub(crate) incoming: Option<Arc<IncomingLink>>,
}

impl CallStreams {
    /// Ends the streams of a caller's call that has ended with this result.
    pub(crate) fn end_call(&self, result: Result<(), Status>) {
        if let Some(sink) = &self.sink {
            let answered = || Status::failed_precondition("the server has answered the call");
            sink.end(&result.as_ref().err().cloned().unwrap_or_else(answered));
        }
        if let Some(incoming) = &self.incoming {
            incoming.end(result);
        }
    }
}

impl fmt::Debug for CallStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallStreams")
            .field("sends", &self.sink.is_some())
            .field("receives", &self.incoming.is_some())
            .finish()
    }
}

/// The streams of a call whose handler runs: what the handler's wrapper passes to it.
pub(crate) struct HandlerStreams {
    pub(crate) streams: CallStreams,
}

impl HandlerStreams {
    /// The number of a call without a sink, in place of [`HandlerStreams::number`].
    pub(crate) const NO_SINK: usize = 1;

    /// Returns the number of the call for [`while_polled`](crate::threads::while_polled).
    pub(crate) fn number(&self) -> usize {
        self.streams.sink.as_ref().map_or(HandlerStreams::NO_SINK, |sink| sink.number())
    }

    /// Takes the streams of the call that runs in this context.
    ///
    /// # Errors
    ///
    /// `internal` if they were taken before.
    pub(crate) fn take(cx: &crate::context::Context<'_>) -> Result<HandlerStreams, Status> {
        let attachment = cx.take_attachment().and_then(|any| any.downcast::<CallStreams>().ok());
        let streams =
            *attachment.ok_or_else(|| Status::internal("the streams of the call were taken twice"))?;
        Ok(HandlerStreams { streams })
    }

    /// Returns the sink for the handler, and what reports the handler's end. The call is answered through `ticket`. A
    /// handler that `is_future` may run on several threads.
    pub(crate) fn sink<T>(
        &mut self,
        ticket: Ticket,
        encode: sink::EncodeMessage<T>,
        is_future: bool,
    ) -> Result<(Sink<T>, HandlerEnd), Status> {
        let link = self.streams.sink.take().ok_or_else(|| Status::internal("the method sends no stream"))?;
        Ok(Sink::begin(link, ticket, encode, is_future))
    }

    /// Returns the stream for the handler.
    pub(crate) fn incoming<T>(&mut self, decode: incoming::DecodeMessage<T>) -> Result<Stream<T>, Status> {
        let link = self.streams.incoming.take();
        let link = link.ok_or_else(|| Status::internal("the method receives no stream"))?;
        Ok(Stream::new(link, decode))
    }
}

#[cfg(test)]
mod tests;
