//! Async methods: handlers that are futures, which an executor of the user's runs.
//!
//! The reactor admits a call, and spawns one future for it ([`AsyncCall`], [`Executor`]). Everything else happens when
//! the executor polls that future (`run.rs`): the argument is decoded, the handler called, the reply encoded. No thread is
//! held in between. `limit.rs` bounds how many futures there are.

mod ending;
mod limit;
mod run;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use coreloop_bufpool::Chunk;

pub(crate) use limit::{AsyncCalls, AsyncLimits, AsyncPermit};

use self::ending::CallEnding;
use self::run::AsyncRun;
use super::interceptor::chain::InterceptorChain;
use super::{CallShape, Kind, Method, RegisterError};
use crate::codec::{Argument, Body, Codec, ReplyEncode, StreamItem, ValueRules};
use crate::context::{Context, Outcome, OwnedContext, Peer, Ticket};
use crate::extensions::CallExtensions;
use crate::status::Status;
use crate::stream::{CallStreams, Sink, Stream};

/// The future of one call: it is ready when the call has ended.
pub type CallFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs the futures of calls: passes each to an executor, without waiting for it.
pub(crate) type Executor = Arc<dyn Fn(CallFuture) + Send + Sync>;

/// An async handler over bytes: makes the future of a call.
pub type AsyncHandler = Box<dyn Fn(AsyncCall) -> CallFuture + Send + Sync>;

/// A call of an async method, before its future is polled for the first time. Dropped, it answers `internal`.
pub struct AsyncCall {
    pub(crate) method: Arc<str>,
    pub(crate) deadline: Option<Instant>,
    /// The encoded metadata.
    pub(crate) metadata: Box<[u8]>,
    pub(crate) peer: Peer,
    pub(crate) extensions: Option<Arc<CallExtensions>>,
    pub(crate) shape: CallShape,
    /// Those that run with the handler, if there are any.
    pub(crate) interceptors: Option<Arc<InterceptorChain>>,
    pub(crate) codec: Codec,
    pub(crate) rules: ValueRules,
    pub(crate) compressed: bool,
    pub(crate) body: AsyncBody,
    /// Of a method with streams.
    pub(crate) streams: Option<CallStreams>,
    pub(crate) limits: CallLimits,
    pub(crate) ending: CallEnding,
}

/// The argument of an [`AsyncCall`].
pub(crate) enum AsyncBody {
    /// A copy.
    Owned(Vec<u8>),
    /// Shared with the buffer that it was read into.
    Chunk(Chunk),
}

impl AsyncBody {
    fn as_body(&self) -> Body<'_> {
        match self {
            AsyncBody::Owned(bytes) => Body::Slice(bytes),
            AsyncBody::Chunk(chunk) => Body::Chunk(chunk),
        }
    }
}

/// The limits of the server for the values of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    pub(crate) body_bytes_max: usize,
    pub(crate) reply_bytes_max: usize,
    pub(crate) depth_max: usize,
}

/// What the reactor knows of a call of an async method.
pub(crate) struct AsyncParts {
    pub(crate) deadline: Option<Instant>,
    pub(crate) metadata: Box<[u8]>,
    pub(crate) peer: Peer,
    pub(crate) extensions: Option<Arc<CallExtensions>>,
    /// The number of the codec, with the dialect of JSON.
    pub(crate) codec: u8,
    pub(crate) compressed: bool,
    pub(crate) body: AsyncBody,
    pub(crate) streams: Option<CallStreams>,
    pub(crate) ticket: Ticket,
    pub(crate) permit: AsyncPermit,
}

impl AsyncCall {
    pub(crate) fn new(
        method: Arc<str>,
        codec: Codec,
        rules: ValueRules,
        limits: CallLimits,
        parts: AsyncParts,
    ) -> AsyncCall {
        let AsyncParts { deadline, metadata, peer, extensions, compressed, body, .. } = parts;
        let AsyncParts { streams, ticket, permit, .. } = parts;
        let ending = CallEnding::new(ticket, permit);
        AsyncCall {
            method,
            deadline,
            metadata,
            peer,
            extensions,
            shape: CallShape::Unary,
            interceptors: None,
            codec,
            rules,
            compressed,
            body,
            streams,
            limits,
            ending,
        }
    }
}

/// Returns the handler of an async method with one argument and one result.
pub(crate) fn unary<A, R, T, F>(
    handler: impl Fn(OwnedContext, T) -> F + Send + Sync + 'static,
) -> AsyncHandler
where
    A: for<'a> Argument<Value<'a> = T>,
    R: ReplyEncode + 'static,
    F: Future<Output = Result<R::Value, Status>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |call| {
        let handler = handler.clone();
        Box::pin(async move {
            let (mut run, future) = AsyncRun::begin(call, |begun| {
                let argument = begun.argument(A::decode)?;
                Ok(handler(begun.cx, argument))
            });
            let mut future = pin!(future);
            if let Some(result) = run.drive(future.as_mut()).await {
                run.reply(result, R::encode);
            }
        })
    })
}

/// Returns the handler of an async method that takes one argument and sends a stream of messages.
pub(crate) fn server_stream<A, M, T, F>(
    handler: impl Fn(OwnedContext, T, Sink<M::Item>) -> F + Send + Sync + 'static,
) -> AsyncHandler
where
    A: for<'a> Argument<Value<'a> = T>,
    M: StreamItem,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |call| {
        let handler = handler.clone();
        Box::pin(async move {
            let (mut run, future) = AsyncRun::begin(call, |mut begun| {
                let argument = begun.argument(A::decode)?;
                let sink = begun.sink(M::encode_item)?;
                Ok(handler(begun.cx, argument, sink))
            });
            let mut future = pin!(future);
            if let Some(result) = run.drive(future.as_mut()).await {
                run.finish(result);
            }
        })
    })
}

/// Returns the handler of an async method that takes a stream of messages and returns one result.
pub(crate) fn client_stream<M, R, F>(
    handler: impl Fn(OwnedContext, Stream<M::Item>) -> F + Send + Sync + 'static,
) -> AsyncHandler
where
    M: StreamItem,
    R: ReplyEncode + 'static,
    F: Future<Output = Result<R::Value, Status>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |call| {
        let handler = handler.clone();
        Box::pin(async move {
            let (mut run, future) = AsyncRun::begin(call, |mut begun| {
                let stream = begun.stream(M::decode_item)?;
                Ok(handler(begun.cx, stream))
            });
            let mut future = pin!(future);
            if let Some(result) = run.drive(future.as_mut()).await {
                run.reply(result, R::encode);
            }
        })
    })
}

/// Returns the handler of an async method that takes a stream of messages and sends a stream of messages.
pub(crate) fn bidirectional<M, N, F>(
    handler: impl Fn(OwnedContext, Stream<M::Item>, Sink<N::Item>) -> F + Send + Sync + 'static,
) -> AsyncHandler
where
    M: StreamItem,
    N: StreamItem,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |call| {
        let handler = handler.clone();
        Box::pin(async move {
            let (mut run, future) = AsyncRun::begin(call, |mut begun| {
                let stream = begun.stream(M::decode_item)?;
                let sink = begun.sink(N::encode_item)?;
                Ok(handler(begun.cx, stream, sink))
            });
            let mut future = pin!(future);
            if let Some(result) = run.drive(future.as_mut()).await {
                run.finish(result);
            }
        })
    })
}

impl Method {
    /// Creates an async method: the handler returns a future, which the server's executor runs
    /// ([`ServerBuilder::executor`](crate::server::ServerBuilder::executor)). The argument owns what it holds.
    ///
    /// ```
    /// use coreloop::codec::Plain;
    /// use coreloop::service::Method;
    ///
    /// let double = Method::async_unary::<Plain<i64>, Plain<i64>, _, _>("Math.Double", |_cx, number| async move {
    ///     Ok(number * 2)
    /// })?;
    /// let server = coreloop::Server::builder()
    ///     .executor(|future| smol::spawn(future).detach())
    ///     .method_of(double)
    ///     .listen("127.0.0.1:0")
    ///     .start()?;
    /// # drop(server);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn async_unary<A, R, T, F>(
        name: impl Into<String>,
        handler: impl Fn(OwnedContext, T) -> F + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        A: for<'a> Argument<Value<'a> = T>,
        R: ReplyEncode + 'static,
        F: Future<Output = Result<R::Value, Status>> + Send + 'static,
    {
        Method::of_future::<A, R>(name, unary::<A, R, T, F>(handler))
    }

    /// Creates an async method that takes one argument and sends a stream of messages, which ends as that of
    /// [`Method::server_stream`] does. A sink that is dropped while the future is polled takes its result.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn async_server_stream<A, M, T, F>(
        name: impl Into<String>,
        handler: impl Fn(OwnedContext, T, Sink<M::Item>) -> F + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        A: for<'a> Argument<Value<'a> = T>,
        M: StreamItem,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let method = Method::of_future::<A, M>(name, server_stream::<A, M, T, F>(handler))?;
        Ok(method.streaming(CallShape::ServerStream))
    }

    /// Creates an async method that takes a stream of messages and returns one result.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn async_client_stream<M, R, F>(
        name: impl Into<String>,
        handler: impl Fn(OwnedContext, Stream<M::Item>) -> F + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        M: StreamItem,
        R: ReplyEncode + 'static,
        F: Future<Output = Result<R::Value, Status>> + Send + 'static,
    {
        let method = Method::of_future::<M, R>(name, client_stream::<M, R, F>(handler))?;
        Ok(method.streaming(CallShape::ClientStream))
    }

    /// Creates an async method that takes a stream of messages and sends a stream of messages.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub fn async_bidirectional<M, N, F>(
        name: impl Into<String>,
        handler: impl Fn(OwnedContext, Stream<M::Item>, Sink<N::Item>) -> F + Send + Sync + 'static,
    ) -> Result<Method, RegisterError>
    where
        M: StreamItem,
        N: StreamItem,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let method = Method::of_future::<M, N>(name, bidirectional::<M, N, F>(handler))?;
        Ok(method.streaming(CallShape::Bidirectional))
    }

    /// Creates a method from an async handler over bytes.
    pub(crate) fn of_future<A: Argument, R: ReplyEncode>(
        name: impl Into<String>,
        handler: AsyncHandler,
    ) -> Result<Method, RegisterError> {
        // The registry starts its calls, and runs none of them.
        let not_run = |_: &Context<'_>, _: Codec, _: Body<'_>, _: &mut Vec<u8>| {
            Outcome::failed(Status::internal("an async method runs on the executor of its server"))
        };
        let method = Method::new::<A, R>(name, Box::new(not_run))?.kind(Kind::Async).deferring();
        let name = method.name().into();
        Ok(Method { future: Some((name, handler)), ..method })
    }
}
