//! Calling others. [`Client`] is shared by many threads: any number of calls in flight on one connection (by HTTP on a
//! pool of them), driven by a reactor. [`Direct`] is one caller on one connection, on the caller's own thread: the lowest latency there is. The
//! typed clients that `#[coreloop::service]` makes sit on anything that is a [`Caller`] or a [`Starter`].
//!
//! `builder.rs` makes a client, `shared.rs` starts calls, `call_slot.rs` is what the caller and the reactor hold of one,
//! `app/` is the reactor's side.

mod app;
mod batch;
mod builder;
mod call_slot;
mod config;
mod direct;
mod driver;
mod endpoint;
mod error;
mod nested;
mod pending;
mod reply;
mod route;
mod shared;

use std::sync::{Arc, OnceLock};

pub use crate::policy::backoff::Backoff;
pub use batch::Batch;
pub use builder::ClientBuilder;
pub use call_slot::InFlight;
pub use config::{ClientConfig, ClientConfigError, WhenFull};
pub use direct::{Direct, Times};
pub use driver::{ClientStats, Driver, DriverConfig};
pub use error::{CallError, WrongProtocol};
pub use route::{Endpoints, Route};
pub use shared::Client;

use crate::codec::describe::{Description, fingerprint};
use crate::codec::{Argument, ArgumentEncode, Codec, ReplyDecode, ReplyEncode};
use crate::message::method_hash;

/// A method as its caller knows it: its name, and the fingerprint of the types that the caller has of it.
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
    /// The method of that name.
    pub const fn new(name: &'static str) -> MethodId {
        MethodId {
            name,
            hash: method_hash(name),
            is_idempotent: false,
            schema: OnceLock::new(),
            shared_name: OnceLock::new(),
        }
    }

    /// The same method, which may run twice for one call: a client may send a call again that may have run.
    pub const fn idempotent(mut self) -> MethodId {
        self.is_idempotent = true;
        self
    }

    /// Whether a call of it may run twice.
    pub fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// `Service.Method`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name as calls on their way hold it, for the protocols that call by it.
    fn shared_name(&self) -> Arc<String> {
        self.shared_name.get_or_init(|| Arc::new(self.name.to_owned())).clone()
    }

    /// The number by which it goes on the wire.
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// The fingerprint of the types, worked out at the first call; 0 (not stated) if they cannot be described.
    pub fn schema<A: Argument, R: ReplyEncode>(&self) -> u32 {
        *self.schema.get_or_init(|| {
            let both = A::describe().and_then(|argument| Ok((argument, R::describe()?)));
            both.map_or(0, |(argument, reply): (Description, Description)| fingerprint(&argument, &reply))
        })
    }
}

/// Whatever can carry a typed call to a server and its answer back.
pub trait Caller {
    /// Calls the method and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`CallError::Status`] is the server's answer; everything else says how far the call came.
    fn call<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<R::Value, CallError>;
}

/// Whatever can start typed calls without waiting for them.
pub trait Starter {
    /// Starts a call; what became of it is in the handle.
    fn start<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> InFlight<R::Value>;

    /// Starts a call whose answer goes to a function. That runs once, on the thread that brings the answers, or on this
    /// one if the call could not be started: it must be quick, and not wait. If it panics, that is reported as any
    /// panic is, and goes no further.
    fn start_then<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
        then: impl FnOnce(Result<R::Value, CallError>) + Send + 'static,
    );

    /// Sends a call that wants no answer. That it arrives, and what comes of it, is not known.
    ///
    /// # Errors
    ///
    /// It could not be handed over.
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

/// The codec of a typed call: the chosen one if it can be, otherwise the best that both sides take.
fn codec_for(chosen: Option<Codec>, accepts: impl Fn(Codec) -> bool) -> Codec {
    let preferred = [Codec::Fixed, Codec::Raw, Codec::Compact, Codec::Json, Codec::MessagePack];
    let fits = |codec: &Codec| codec.is_compiled_in() && accepts(*codec);
    chosen.filter(fits).or_else(|| preferred.into_iter().find(fits)).unwrap_or(Codec::Json)
}
