//! Methods whose argument or result is a stream.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CallShape, Method, RegisterError, Reply, finish, refuse_argument};
use crate::codec::{Argument, ArgumentEncode, Codec, CodecError, Plain, ReplyEncode, decode};
use crate::context::{Context, Outcome};
use crate::status::Status;
use crate::stream::{HandlerStreams, Sink, Stream};

fn encode_message<T: Serialize + DeserializeOwned + 'static>(
    message: &T,
    codec: Codec,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    <Plain<T> as ArgumentEncode>::encode(message, codec, out)
}

fn decode_message<T: DeserializeOwned>(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
    decode(codec, body)
}

/// Takes the right to answer, which the sink of the call needs.
fn take_ticket(cx: &Context<'_>) -> Result<crate::context::Ticket, Status> {
    cx.take_ticket().ok_or_else(|| Status::internal("the reply was taken twice"))
}

/// Returns the outcome of a handler that could not be given its streams.
fn without_streams(result: Result<(), Status>) -> Outcome {
    result.map_or_else(Outcome::failed, |()| Outcome::Deferred)
}

impl Method {
    /// Creates a pooled method that takes one argument and sends a stream of messages, each encoded as `Plain<T>`.
    ///
    /// The stream ends with the handler if the handler drops the sink, and otherwise with [`Sink::finish`]; an error
    /// of the handler ends it at once.
    ///
    /// ```
    /// use coreloop::codec::Plain;
    /// use coreloop::service::{Kind, Method};
    ///
    /// let count = Method::server_stream::<Plain<u32>, u32>("Numbers.Count", |_cx, to, sink| {
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
    pub fn server_stream<A, T>(
        name: impl Into<String>,
        handler: impl Fn(&Context<'_>, A::Value<'_>, Sink<T>) -> Result<(), Status> + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        A: Argument,
        T: Serialize + DeserializeOwned + 'static,
    {
        let method = Method::new::<A, Plain<T>>(
            name,
            Box::new(move |cx, codec, body, _out| {
                let argument = match A::decode(codec, body) {
                    Ok(argument) => argument,
                    Err(error) => return refuse_argument(cx, error),
                };
                let run = || {
                    let mut streams = HandlerStreams::take(cx)?;
                    let (sink, end) = streams.sink::<T>(take_ticket(cx)?, encode_message::<T>)?;
                    end.returned(handler(cx, argument, sink));
                    Ok(())
                };
                without_streams(run())
            }),
        )?;
        Ok(method.streaming(CallShape::ServerStream))
    }

    /// Creates a pooled method that takes a stream of messages, each encoded as `Plain<T>`, and returns one result.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn client_stream<T, R>(
        name: impl Into<String>,
        handler: impl Fn(&Context<'_>, Stream<T>) -> Result<R::Value, Status> + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        T: DeserializeOwned + 'static,
        R: ReplyEncode,
    {
        let method = Method::new::<Plain<T>, R>(
            name,
            Box::new(move |cx, codec, _body, out| {
                let stream = HandlerStreams::take(cx)
                    .and_then(|mut streams| streams.incoming::<T>(decode_message::<T>));
                match stream {
                    Ok(stream) => finish::<R>(cx, codec, handler(cx, stream), out),
                    Err(status) => Outcome::failed(status),
                }
            }),
        )?;
        Ok(method.streaming(CallShape::ClientStream))
    }

    /// Creates a pooled method that takes a stream of messages and sends its one result later, from any thread.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn client_stream_deferring<T, R>(
        name: impl Into<String>,
        handler: impl Fn(&Context<'_>, Stream<T>, Reply<R::Value>) + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        T: DeserializeOwned + 'static,
        R: ReplyEncode + 'static,
    {
        let method = Method::new::<Plain<T>, R>(
            name,
            Box::new(move |cx, codec, _body, _out| {
                let run = || {
                    let stream = HandlerStreams::take(cx)?.incoming::<T>(decode_message::<T>)?;
                    handler(cx, stream, Reply::take::<R>(cx, codec)?);
                    Ok(())
                };
                without_streams(run())
            }),
        )?;
        Ok(method.streaming(CallShape::ClientStream))
    }

    /// Creates a pooled method that takes a stream of messages `T` and sends a stream of messages `U`.
    ///
    /// The stream of results ends as that of [`Method::server_stream`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn bidirectional<T, U>(
        name: impl Into<String>,
        handler: impl Fn(&Context<'_>, Stream<T>, Sink<U>) -> Result<(), Status> + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        T: DeserializeOwned + 'static,
        U: Serialize + DeserializeOwned + 'static,
    {
        let method = Method::new::<Plain<T>, Plain<U>>(
            name,
            Box::new(move |cx, _codec, _body, _out| {
                let run = || {
                    let mut streams = HandlerStreams::take(cx)?;
                    let stream = streams.incoming::<T>(decode_message::<T>)?;
                    let (sink, end) = streams.sink::<U>(take_ticket(cx)?, encode_message::<U>)?;
                    end.returned(handler(cx, stream, sink));
                    Ok(())
                };
                without_streams(run())
            }),
        )?;
        Ok(method.streaming(CallShape::Bidirectional))
    }

    /// Sets the shape. A streaming call may end after its handler.
    fn streaming(self, shape: CallShape) -> Method {
        Method { shape, may_defer: true, ..self }
    }
}
