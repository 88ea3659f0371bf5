//! Streaming calls of a [`Client`]: a caller's [`Sink`] sends the messages of the argument, its [`Stream`] receives those
//! of the result.

use std::sync::{Arc, OnceLock};

use super::call_slot::{CallDraft, CallSlot, InFlight};
use super::endpoint::Endpoint;
use super::reply::as_bytes;
use super::shared::{Client, MethodTarget, PreparedCall};
use super::{CallError, MethodId};
use crate::codec::{ArgumentEncode, Codec, CodecError, ReplyDecode, StreamItem, ValueRules};
use crate::config::MissingFields;
use crate::status::Status;
use crate::stream::{
    CallHandle, CallStreams, DecodeMessage, EncodeMessage, IncomingLink, Sink, SinkError, SinkLink, Stream,
    StreamOrigin, report_bytes,
};
use crate::wire::Scheme;

/// Makes typed streaming calls. The settings of the caller (timeout, metadata, codec) hold for each call as a whole.
///
/// A call ends with the server's answer, with its deadline, or when the caller drops its sink without
/// [`Sink::finish`] or its stream before the end, which cancels it.
pub trait StreamCaller {
    /// Calls a method that takes one argument and sends a stream. The error of the call is the last item of the
    /// stream.
    ///
    /// # Errors
    ///
    /// The call could not be started: the argument cannot be encoded, or the client has no room for it.
    fn server_stream<A: ArgumentEncode, M: StreamItem>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<Stream<M::Item>, CallError>;

    /// Calls a method that takes a stream and returns one result.
    ///
    /// # Errors
    ///
    /// The call could not be started: the client has no room for it.
    fn client_stream<M: StreamItem, R: ReplyDecode>(
        &self,
        method: &MethodId,
    ) -> Result<Upload<M::Item, R::Value>, CallError>;

    /// Calls a method that takes a stream and sends one.
    ///
    /// # Errors
    ///
    /// The call could not be started: the client has no room for it.
    fn bidirectional<M: StreamItem, N: StreamItem>(
        &self,
        method: &MethodId,
    ) -> Result<Chat<M::Item, N::Item>, CallError>;
}

impl<C: StreamCaller> StreamCaller for &C {
    fn server_stream<A: ArgumentEncode, M: StreamItem>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<Stream<M::Item>, CallError> {
        C::server_stream::<A, M>(self, method, argument)
    }

    fn client_stream<M: StreamItem, R: ReplyDecode>(
        &self,
        method: &MethodId,
    ) -> Result<Upload<M::Item, R::Value>, CallError> {
        C::client_stream::<M, R>(self, method)
    }

    fn bidirectional<M: StreamItem, N: StreamItem>(
        &self,
        method: &MethodId,
    ) -> Result<Chat<M::Item, N::Item>, CallError> {
        C::bidirectional::<M, N>(self, method)
    }
}

/// A call whose argument is a stream of `T`, and whose result is one `R`.
#[derive(Debug)]
#[must_use = "dropping it cancels the call"]
pub struct Upload<T, R> {
    messages: Sink<T>,
    reply: InFlight<R>,
}

impl<T, R> Upload<T, R> {
    /// Sends a message, and waits while the server takes no more.
    ///
    /// # Errors
    ///
    /// As [`Sink::send`].
    pub fn send(&self, message: &T) -> Result<(), SinkError> {
        self.messages.send(message)
    }

    /// Returns the sink of the argument's messages.
    pub fn messages(&self) -> &Sink<T> {
        &self.messages
    }

    /// Ends the messages and waits for the result.
    ///
    /// # Errors
    ///
    /// As [`InFlight::wait`].
    pub fn finish(self) -> Result<R, CallError> {
        self.messages.finish(Ok(()));
        self.reply.wait()
    }

    /// Returns both ends, to use them on different threads. Dropping one of them before its end cancels the call.
    pub fn split(self) -> (Sink<T>, InFlight<R>) {
        (self.messages, self.reply)
    }
}

/// A call whose argument is a stream of `T`, and whose result is a stream of `U`.
#[derive(Debug)]
#[must_use = "dropping it cancels the call"]
pub struct Chat<T, U> {
    messages: Sink<T>,
    replies: Stream<U>,
}

impl<T, U> Chat<T, U> {
    /// Sends a message, and waits while the server takes no more.
    ///
    /// # Errors
    ///
    /// As [`Sink::send`].
    pub fn send(&self, message: &T) -> Result<(), SinkError> {
        self.messages.send(message)
    }

    /// Returns the sink of the argument's messages.
    pub fn messages(&self) -> &Sink<T> {
        &self.messages
    }

    /// Returns the stream of the result's messages.
    pub fn replies(&mut self) -> &mut Stream<U> {
        &mut self.replies
    }

    /// Returns both ends, to use them on different threads. Dropping one of them before its end cancels the call.
    pub fn split(self) -> (Sink<T>, Stream<U>) {
        (self.messages, self.replies)
    }
}

/// A call that its sink or its stream can cancel.
struct StreamCall {
    endpoint: Arc<Endpoint>,
    call_slot: Arc<CallSlot>,
}

impl CallHandle for StreamCall {
    fn cancel(&self) {
        if self.call_slot.give_up() {
            self.endpoint.cancel(self.call_slot.clone());
        }
    }
}

/// A streaming call that is ready to be passed to the reactor.
struct PreparedStreaming {
    call: PreparedCall,
    origin: StreamOrigin,
    streams: CallStreams,
}

impl PreparedStreaming {
    fn sink<T>(&mut self, encode: EncodeMessage<T>) -> Sink<T> {
        let link = SinkLink::for_caller(self.origin.clone());
        self.streams.sink = Some(link.clone());
        Sink::for_caller(link, encode)
    }

    fn stream<T>(&mut self, decode: DecodeMessage<T>) -> Stream<T> {
        let link = IncomingLink::new(self.origin.clone());
        self.streams.incoming = Some(link.clone());
        Stream::new(link, decode)
    }

    /// Starts the call.
    fn start(self) -> (CallDraft, Arc<Endpoint>) {
        let PreparedCall { draft, endpoint, mut promise } = self.call;
        promise.set_streams(self.streams);
        endpoint.start(promise);
        (draft, endpoint)
    }
}

impl Client {
    fn streaming(
        &self,
        draft: Result<CallDraft, CallError>,
        target: MethodTarget<'_>,
    ) -> Result<PreparedStreaming, CallError> {
        if self.scheme() != Scheme::Native {
            let name = self.scheme().name();
            let text = format!("the client has streams with native frames only, not with {name}");
            return Err(CallError::Status(Status::unimplemented(text)));
        }
        let codec = target.codec;
        let call = self.prepare_streaming(draft, target)?;
        let (endpoint, call_slot) = (call.endpoint.clone(), call.draft.slot());
        let config = endpoint.config.clone();
        let report_bytes =
            report_bytes(config.connection_window_bytes, config.stream_window_bytes, config.streams_max);
        let origin = StreamOrigin {
            port: endpoint.port(),
            address: OnceLock::new(),
            caller: Some(Arc::new(StreamCall { endpoint, call_slot })),
            codec,
            rules: ValueRules::of(self.scheme().json_dialect(), MissingFields::ByProtocol),
            compresses: self.compresses(),
            message_bytes_max: config.frame_bytes_max,
            report_bytes,
            is_inline: true,
        };
        Ok(PreparedStreaming { call, origin, streams: CallStreams { sink: None, incoming: None } })
    }

    fn server_streaming<T>(
        &self,
        draft: Result<CallDraft, CallError>,
        target: MethodTarget<'_>,
        decode: DecodeMessage<T>,
    ) -> Result<Stream<T>, CallError> {
        let mut call = self.streaming(draft, target)?;
        let messages = call.stream(decode);
        call.start();
        Ok(messages)
    }

    fn upload<T, R>(
        &self,
        target: MethodTarget<'_>,
        encode: EncodeMessage<T>,
        decode: DecodeMessage<R>,
    ) -> Result<Upload<T, R>, CallError> {
        let mut call = self.streaming(self.empty_draft(target.codec), target)?;
        let messages = call.sink(encode);
        let (draft, endpoint) = call.start();
        Ok(Upload { messages, reply: draft.handle(endpoint, decode) })
    }

    fn chat<T, U>(
        &self,
        target: MethodTarget<'_>,
        encode: EncodeMessage<T>,
        decode: DecodeMessage<U>,
    ) -> Result<Chat<T, U>, CallError> {
        let mut call = self.streaming(self.empty_draft(target.codec), target)?;
        let chat = Chat { messages: call.sink(encode), replies: call.stream(decode) };
        call.start();
        Ok(chat)
    }

    /// Returns the draft of a call whose argument follows in messages.
    fn empty_draft(&self, codec: Codec) -> Result<CallDraft, CallError> {
        self.draft_of(codec, false, |_| Ok(()))
    }

    /// Calls a method by name that takes one encoded argument and sends a stream of encoded messages.
    ///
    /// # Errors
    ///
    /// As [`StreamCaller::server_stream`].
    pub fn server_stream_bytes(
        &self,
        method: &str,
        codec: Codec,
        argument: &[u8],
    ) -> Result<Stream<Vec<u8>>, CallError> {
        let draft = self.draft(codec, |out| {
            out.extend_from_slice(argument);
            Ok(())
        });
        let target = self.named_target(method, codec, false);
        self.server_streaming(draft, target, as_bytes)
    }

    /// Calls a method by name that takes a stream of encoded messages and returns one encoded result.
    ///
    /// # Errors
    ///
    /// As [`StreamCaller::client_stream`].
    pub fn client_stream_bytes(
        &self,
        method: &str,
        codec: Codec,
    ) -> Result<Upload<Vec<u8>, Vec<u8>>, CallError> {
        self.upload(self.named_target(method, codec, false), put_bytes, as_bytes)
    }

    /// Calls a method by name that takes a stream of encoded messages and sends one.
    ///
    /// # Errors
    ///
    /// As [`StreamCaller::bidirectional`].
    pub fn bidirectional_bytes(
        &self,
        method: &str,
        codec: Codec,
    ) -> Result<Chat<Vec<u8>, Vec<u8>>, CallError> {
        self.chat(self.named_target(method, codec, false), put_bytes, as_bytes)
    }
}

#[allow(clippy::ptr_arg, reason = "the type of the messages is `Vec<u8>`")]
fn put_bytes(message: &Vec<u8>, _codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.extend_from_slice(message);
    Ok(())
}

impl StreamCaller for Client {
    fn server_stream<A: ArgumentEncode, M: StreamItem>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<Stream<M::Item>, CallError> {
        let target = self.target::<A, M>(method);
        self.server_streaming(self.typed::<A>(target.codec, argument), target, M::decode_item)
    }

    fn client_stream<M: StreamItem, R: ReplyDecode>(
        &self,
        method: &MethodId,
    ) -> Result<Upload<M::Item, R::Value>, CallError> {
        self.upload(self.target::<M, R>(method), M::encode_item, R::decode)
    }

    fn bidirectional<M: StreamItem, N: StreamItem>(
        &self,
        method: &MethodId,
    ) -> Result<Chat<M::Item, N::Item>, CallError> {
        self.chat(self.target::<M, N>(method), M::encode_item, N::decode_item)
    }
}
