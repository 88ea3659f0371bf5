//! What is taken without a warning: private types behind a public client, helpers, macros, deprecated methods.

#![deny(warnings, missing_docs)]

use coreloop::{Bytes, Context, Reply, Sink, Status, Stream};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Private {
    n: i64,
}

/// A service.
pub struct Open;

#[coreloop::service]
impl Open {
    const LIMIT: i64 = 3;

    fn helper() -> i64 {
        Self::LIMIT
    }

    /// Documented.
    fn private(&self, _cx: &Context, argument: Private) -> Result<Private, Status> {
        Ok(Private { n: argument.n + Self::helper() })
    }

    fn undocumented(&self, _cx: &Context) -> std::result::Result<(), coreloop::Status> {
        Ok(())
    }

    #[rpc(pooled, idempotent, name = "SomethingElse")]
    #[deprecated]
    fn is_old(&self, _cx: &coreloop::Context<'_>, _bytes: Bytes) -> Result<Bytes, Status> {
        Ok(Bytes::default())
    }

    fn into_later(&self, _cx: &Context, n: i64, reply: Reply<i64>) {
        reply.send(Ok(n));
    }

    /// Documented.
    #[rpc(blocking)]
    fn watch(&self, _cx: &Context, argument: Private, sink: Sink<Private>) -> Result<(), Status> {
        Ok(sink.send(&argument)?)
    }

    #[deprecated]
    fn watch_all(&self, _cx: &Context, sink: coreloop::stream::Sink<i64>) -> Result<(), Status> {
        sink.finish(Ok(()));
        Ok(())
    }

    #[rpc(blocking)]
    fn import(&self, _cx: &Context, messages: Stream<Private>) -> Result<i64, Status> {
        messages.map(|message| message.map(|private| private.n)).sum()
    }

    fn import_later(&self, _cx: &Context, mut messages: Stream<Private>, reply: Reply<i64>) {
        let _ = messages.try_next();
        reply.send(Ok(0));
    }

    fn chat(&self, _cx: &Context, messages: Stream<String>, sink: Sink<Vec<u8>>) -> Result<(), Status> {
        drop((messages, sink));
        Ok(())
    }

    #[rpc(skip)]
    fn skipped<T>(&mut self, value: T) -> T {
        value
    }
}

/// An error.
pub struct OpenError;

impl From<OpenError> for Status {
    fn from(_error: OpenError) -> Status {
        Status::not_found("nothing")
    }
}

/// A contract.
#[coreloop::service(package = "a.b", rename_all = "camelCase")]
pub trait Documented: Send + Sync {
    /// A constant.
    const LIMIT: i64 = 3;

    /// Documented.
    #[rpc(inline, idempotent)]
    fn first(&self, cx: &Context, argument: i64) -> Result<i64, OpenError>;

    /// Documented.
    #[deprecated]
    fn second(&self, cx: &Context, long_name: String, #[rpc(rename = "n")] number: Bytes) -> Result<(), OpenError>;

    /// Documented.
    fn third(&self, _cx: &Context, sink: Sink<i64>) -> Result<(), Status> {
        sink.finish(Ok(()));
        Ok(())
    }

    /// Documented.
    #[rpc(skip)]
    fn helper() -> i64
    where
        Self: Sized,
    {
        Self::LIMIT
    }
}

#[coreloop::service]
trait Hidden {
    fn private(&self, cx: &Context, argument: Private) -> Result<Private, Status>;
}

struct Both;

impl Documented for Both {
    fn first(&self, _cx: &Context, argument: i64) -> Result<i64, OpenError> {
        Ok(argument + Self::helper())
    }

    fn second(&self, _cx: &Context, _long_name: String, _number: Bytes) -> Result<(), OpenError> {
        Err(OpenError)
    }
}

impl Hidden for Both {
    fn private(&self, _cx: &Context, argument: Private) -> Result<Private, Status> {
        Ok(argument)
    }
}

struct Itself;

/// An argument and a service in one.
#[derive(Clone, Serialize, Deserialize)]
struct Recursive(Vec<Recursive>);

#[coreloop::service(client_vis = "")]
impl Recursive {
    fn add(&self, _cx: &Context, other: Self) -> Result<Vec<Self>, Status> {
        Ok(vec![other, self.clone()])
    }

    fn chat(&self, _cx: &Context, messages: Stream<Self>, sink: Sink<Vec<Self>>) -> Result<(), Status> {
        drop((messages, sink));
        Ok(())
    }
}

macro_rules! service_of {
    ($service:ty, $argument:ty, $reply:ty, $context:ty, $bytes:ty, $stream:ty, $sink:ty, $message:ty, $result:ty) => {
        #[coreloop::service]
        impl $service {
            fn convert(&self, _cx: $context, argument: $argument) -> Result<$reply, Status> {
                Ok(argument.into())
            }

            fn bytes(&self, _cx: $context, bytes: $bytes) -> Result<Vec<u8>, Status> {
                Ok(bytes.to_vec())
            }

            fn chat(&self, _cx: $context, stream: $stream, sink: $sink) -> $result {
                drop((stream, sink));
                Ok(())
            }

            fn messages(&self, _cx: $context, stream: Stream<$message>, sink: Sink<$message>) -> $result {
                drop((stream, sink));
                Ok(())
            }
        }
    };
}

service_of!(Itself, i32, i64, &Context<'_>, &[u8], Stream<i32>, Sink<i64>, String, Result<(), Status>);

fn main() {
    let _ = coreloop::Server::builder().service(Open).service(Recursive(Vec::new())).service(Itself);
    let _ = coreloop::Server::builder().service(DocumentedServer::new(Both)).service(HiddenServer::new(Both));
    let mut open = Open;
    assert_eq!(open.skipped(1), 1);
    let _ = OpenClient::<coreloop::client::Direct>::into_later;
    let _ = OpenClient::<coreloop::client::Client>::import_later;
}
