//! What is taken without a warning: private types behind a public client, helpers, macros, deprecated methods.

#![deny(warnings, missing_docs)]

use coreloop::{Bytes, Context, Reply, Status};
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

    #[rpc(skip)]
    fn skipped<T>(&mut self, value: T) -> T {
        value
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
}

macro_rules! service_of {
    ($service:ty, $argument:ty, $reply:ty, $context:ty, $bytes:ty) => {
        #[coreloop::service]
        impl $service {
            fn convert(&self, _cx: $context, argument: $argument) -> Result<$reply, Status> {
                Ok(argument.into())
            }

            fn bytes(&self, _cx: $context, bytes: $bytes) -> Result<Vec<u8>, Status> {
                Ok(bytes.to_vec())
            }
        }
    };
}

service_of!(Itself, i32, i64, &Context<'_>, &[u8]);

fn main() {
    let _ = coreloop::Server::builder().service(Open).service(Recursive(Vec::new())).service(Itself);
    let mut open = Open;
    assert_eq!(open.skipped(1), 1);
    let _ = OpenClient::<coreloop::client::Direct>::into_later;
}
