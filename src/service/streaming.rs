//! Methods whose argument or result is a stream: their handlers over bytes, and the constructors of [`Method`].

use super::{CallShape, Handler, Method, RegisterError, Reply, finish, refuse_argument};
use crate::codec::{Argument, ReplyEncode, StreamItem};
use crate::context::{Context, Outcome};
use crate::status::Status;
use crate::stream::{HandlerStreams, Sink, Stream};

/// Takes the right to answer, which the sink of the call needs.
fn take_ticket(cx: &Context<'_>) -> Result<crate::context::Ticket, Status> {
    cx.take_ticket().ok_or_else(|| Status::internal("the reply was taken twice"))
}

/// Returns the outcome of a handler that could not be given its streams.
fn without_streams(result: Result<(), Status>) -> Outcome {
    result.map_or_else(Outcome::failed, |()| Outcome::Deferred)
}

/// Returns the handler of a method that takes one argument and sends a stream of messages.
pub(crate) fn server_stream<A: Argument, M: StreamItem>(
    handler: impl Fn(&Context<'_>, A::Value<'_>, Sink<M::Item>) -> Result<(), Status> + Send + Sync + 'static,
) -> Handler {
    Box::new(move |cx, codec, body, _out| {
        let argument = match A::decode(codec, body) {
            Ok(argument) => argument,
            Err(error) => return refuse_argument(cx, error),
        };
        let run = || {
            let mut streams = HandlerStreams::take(cx)?;
            let (sink, end) = streams.sink(take_ticket(cx)?, M::encode_item, false)?;
            cx.attach_stream(sink.response());
            end.returned(handler(cx, argument, sink));
            Ok(())
        };
        without_streams(run())
    })
}

/// Returns the handler of a method that takes a stream of messages and returns one result.
pub(crate) fn client_stream<M: StreamItem, R: ReplyEncode>(
    handler: impl Fn(&Context<'_>, Stream<M::Item>) -> Result<R::Value, Status> + Send + Sync + 'static,
) -> Handler {
    Box::new(move |cx, codec, _body, out| {
        let stream = HandlerStreams::take(cx).and_then(|mut streams| streams.incoming(M::decode_item));
        match stream {
            Ok(stream) => finish::<R>(cx, codec, handler(cx, stream), out),
            Err(status) => Outcome::failed(status),
        }
    })
}

/// Returns the handler of a method that takes a stream of messages and sends its one result later.
pub(crate) fn client_stream_deferring<M: StreamItem, R: ReplyEncode + 'static>(
    handler: impl Fn(&Context<'_>, Stream<M::Item>, Reply<R::Value>) + Send + Sync + 'static,
) -> Handler {
    Box::new(move |cx, codec, _body, _out| {
        let run = || {
            let stream = HandlerStreams::take(cx)?.incoming(M::decode_item)?;
            handler(cx, stream, Reply::take::<R>(cx, codec)?);
            Ok(())
        };
        without_streams(run())
    })
}

/// Returns the handler of a method that takes a stream of messages and sends a stream of messages.
pub(crate) fn bidirectional<M: StreamItem, N: StreamItem>(
    handler: impl Fn(&Context<'_>, Stream<M::Item>, Sink<N::Item>) -> Result<(), Status> + Send + Sync + 'static,
) -> Handler {
    Box::new(move |cx, _codec, _body, _out| {
        let run = || {
            let mut streams = HandlerStreams::take(cx)?;
            let stream = streams.incoming(M::decode_item)?;
            let (sink, end) = streams.sink(take_ticket(cx)?, N::encode_item, false)?;
            cx.attach_stream(sink.response());
            end.returned(handler(cx, stream, sink));
            Ok(())
        };
        without_streams(run())
    })
}

impl Method {
    /// Creates a pooled method that takes one argument and sends a stream of messages.
    ///
    /// The stream ends with the handler if the handler drops the sink, and otherwise with [`Sink::finish`]; an error
    /// of the handler ends it at once.
    ///
    /// ```
    /// use coreloop::codec::Plain;
    /// use coreloop::service::{Kind, Method};
    ///
    /// let count = Method::server_stream::<Plain<u32>, Plain<u32>>("Numbers.Count", |_cx, to, sink| {
    ///     for number in 1..=to {
    ///         sink.send(&number)?; // waits for the caller
    ///     }
    ///     Ok(())
    /// })?
    /// .kind(Kind::Blocking);
    /// let server = coreloop::Server::builder().method_of(count).listen("127.0.0.1:0").start()?;
    /// # drop(server);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn server_stream<A, M>(
        name: impl Into<String>,
        handler: impl Fn(&Context<'_>, A::Value<'_>, Sink<M::Item>) -> Result<(), Status> + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        A: Argument,
        M: StreamItem,
    {
        Ok(Method::new::<A, M>(name, server_stream::<A, M>(handler))?.streaming(CallShape::ServerStream))
    }

    /// Creates a pooled method that takes a stream of messages and returns one result.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn client_stream<M, R>(
        name: impl Into<String>,
        handler: impl Fn(&Context<'_>, Stream<M::Item>) -> Result<R::Value, Status> + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        M: StreamItem,
        R: ReplyEncode,
    {
        Ok(Method::new::<M, R>(name, client_stream::<M, R>(handler))?.streaming(CallShape::ClientStream))
    }

    /// Creates a pooled method that takes a stream of messages and sends its one result later, from any thread.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn client_stream_deferring<M, R>(
        name: impl Into<String>,
        handler: impl Fn(&Context<'_>, Stream<M::Item>, Reply<R::Value>) + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        M: StreamItem,
        R: ReplyEncode + 'static,
    {
        Ok(Method::new::<M, R>(name, client_stream_deferring::<M, R>(handler))?
            .streaming(CallShape::ClientStream))
    }

    /// Creates a pooled method that takes a stream of messages and sends a stream of messages.
    ///
    /// The stream of results ends as that of [`Method::server_stream`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn bidirectional<M, N>(
        name: impl Into<String>,
        handler: impl Fn(&Context<'_>, Stream<M::Item>, Sink<N::Item>) -> Result<(), Status>
        + Send
        + Sync
        + 'static,
    ) -> Result<Method, RegisterError>
    where
        M: StreamItem,
        N: StreamItem,
    {
        Ok(Method::new::<M, N>(name, bidirectional::<M, N>(handler))?.streaming(CallShape::Bidirectional))
    }

    /// Sets the shape. A streaming call may end after its handler.
    pub(crate) fn streaming(self, shape: CallShape) -> Method {
        Method { shape, may_defer: true, ..self }
    }
}
