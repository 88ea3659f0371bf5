//! Clients. A [`Client`] is shared by many threads: it has any number of calls in flight on one connection (with
//! HTTP, on a pool of them), driven by a reactor. A [`Direct`] is one caller on one connection, on the caller's own
//! thread, for the lowest latency. The typed clients that `#[coreloop::service]` generates work over any [`Caller`]
//! or [`Starter`].
//!
//! A client may have several servers, which a resolver finds: `fleet.rs`, and [`ClientBuilder::fleet`].
//!
//! `builder.rs` builds a client, `shared.rs` starts calls, `streaming.rs` those with streams, `call_slot.rs` holds the two sides of one call, `app/` is
//! the reactor's side.

mod address;
mod app;
mod batch;
mod builder;
mod call_slot;
mod config;
mod direct;
mod driver;
mod driving;
#[cfg(feature = "json")]
mod dynamic;
mod endpoint;
mod error;
mod fleet;
mod interceptor;
#[cfg(feature = "metrics")]
mod metrics;
mod nested;
mod options;
mod pending;
mod port;
mod reply;
mod shared;
mod stated;
mod streaming;
#[cfg_attr(not(feature = "trace"), path = "untraced.rs")]
mod traced;

use std::sync::{Arc, OnceLock};

pub use crate::policy::backoff::Backoff;
pub use crate::policy::fleet::{
    AttemptEnd, Balance, Balancer, BreakerConfig, BudgetConfig, Candidate, Candidates, EndpointId,
    EndpointView, FleetConfig, FleetConfigError, FleetEvent, FleetStats, HealthConfig, HedgeConfig,
    NoEndpoint, Outcome, PickFor, RetryConfig,
};
#[cfg(feature = "tls-core")]
pub use crate::transport::{ClientTls, ClientTlsError, TlsFileError, TlsFileFault};
pub use crate::wire::Scheme;
pub use address::{BuildError, ToAddress};
pub use batch::Batch;
pub use builder::ClientBuilder;
pub use call_slot::InFlight;
pub use config::{ClientConfig, ClientConfigError, WhenFull};
pub use direct::{Direct, Times};
pub use driver::{ClientStats, Driver, DriverConfig};
#[cfg(feature = "json")]
pub use dynamic::DescriptionError;
pub use error::{CallError, WrongProtocol};
pub use fleet::Unavailable;
pub use interceptor::{ClientInterceptor, EndedClientCall, NewCall};
#[cfg(feature = "metrics")]
pub use metrics::ClientMetrics;
pub use options::CallOptions;
pub use reply::Response;
pub use shared::Client;
pub use streaming::{Chat, StreamCaller, Upload};

use crate::codec::{Argument, ArgumentEncode, Codec, ReplyDecode, ReplyEncode};
use crate::message::method_hash;

/// Identifies a method for its caller: its name, and the fingerprint of the types that the caller uses for it.
///
/// ```
/// use coreloop::client::MethodId;
/// static MULTIPLY: MethodId = MethodId::new("Arith.Multiply");
/// assert_eq!(MULTIPLY.name(), "Arith.Multiply");
/// ```
#[derive(Debug)]
pub struct MethodId {
    name: &'static str,
    hash: u32,
    is_idempotent: bool,
    schema: OnceLock<u32>,
    shared_name: OnceLock<Arc<String>>,
}

impl MethodId {
    /// Creates the id of the method of that name.
    pub const fn new(name: &'static str) -> MethodId {
        MethodId {
            name,
            hash: method_hash(name),
            is_idempotent: false,
            schema: OnceLock::new(),
            shared_name: OnceLock::new(),
        }
    }

    /// Marks the method as idempotent: a client may send a call again that may have run.
    pub const fn idempotent(mut self) -> MethodId {
        self.is_idempotent = true;
        self
    }

    /// Returns whether a call of the method may run twice.
    pub fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// Returns the full name, `Service.Method`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the name as calls in flight hold it, for the protocols that send it.
    fn shared_name(&self) -> Arc<String> {
        self.shared_name.get_or_init(|| Arc::new(self.name.to_owned())).clone()
    }

    /// Returns the hash that identifies the method on the wire.
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// Returns the fingerprint of the types, computed at the first call; 0 (not stated) if they cannot be described.
    pub fn schema<A: Argument, R: ReplyEncode>(&self) -> u32 {
        *self.schema.get_or_init(|| {
            let both = A::describe().and_then(|argument| Ok((argument, R::describe()?)));
            both.map_or(0, |(argument, reply)| stated::state(&argument, &reply))
        })
    }
}

/// Makes typed calls and waits for their replies.
pub trait Caller {
    /// Calls the method and waits for its reply.
    ///
    /// # Errors
    ///
    /// [`CallError::Status`] is the server's reply; every other error describes how far the call came.
    fn call<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<R::Value, CallError>;
}

/// Starts typed calls without waiting for their replies.
pub trait Starter {
    /// Starts a call; the handle returns its result.
    fn start<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> InFlight<R::Value>;

    /// Starts a call whose result is passed to a function. The function runs once, on the thread that drives the
    /// client, or on this one if the call could not be started: it must be quick and must not wait. Its panic is
    /// reported by the panic hook and contained.
    fn start_then<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
        then: impl FnOnce(Result<R::Value, CallError>) + Send + 'static,
    );

    /// Sends a one-way call. Whether it arrives, and its result, are not known.
    ///
    /// # Errors
    ///
    /// The call could not be passed to the reactor.
    fn start_one_way<A: ArgumentEncode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<(), CallError>;
}

impl<C: Caller> Caller for &C {
    fn call<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<R::Value, CallError> {
        C::call::<A, R>(self, method, argument)
    }
}

impl<S: Starter> Starter for &S {
    fn start<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> InFlight<R::Value> {
        S::start::<A, R>(self, method, argument)
    }

    fn start_then<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
        then: impl FnOnce(Result<R::Value, CallError>) + Send + 'static,
    ) {
        S::start_then::<A, R>(self, method, argument, then);
    }

    fn start_one_way<A: ArgumentEncode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<(), CallError> {
        S::start_one_way::<A>(self, method, argument)
    }
}

/// Returns the codec of a typed call: the chosen one if it is available, otherwise the best one that both types
/// accept.
fn codec_for(chosen: Option<Codec>, accepts: impl Fn(Codec) -> bool) -> Codec {
    let preferred = [Codec::Fixed, Codec::Raw, Codec::Compact, Codec::Json, Codec::MessagePack];
    let fits = |codec: &Codec| codec.is_compiled_in() && accepts(*codec);
    chosen.filter(fits).or_else(|| preferred.into_iter().find(fits)).unwrap_or(Codec::Json)
}
