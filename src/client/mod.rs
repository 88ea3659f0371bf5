//! Calling others. [`Direct`] is one caller on one connection, on the caller's own thread: the lowest latency
//! there is. The typed clients that `#[coreloop::service]` makes sit on anything that is a [`Caller`].

mod direct;
mod error;

use std::sync::OnceLock;

pub use direct::{Direct, Times};
pub use error::CallError;

use crate::codec::describe::{Description, fingerprint};
use crate::codec::{Answer, AnswerDecode, Argument, ArgumentEncode};
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
    schema: OnceLock<u32>,
}

impl MethodId {
    /// The method of that name.
    pub const fn new(name: &'static str) -> MethodId {
        MethodId { name, hash: method_hash(name), schema: OnceLock::new() }
    }

    /// `Service.Method`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The number by which it goes on the wire.
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// The fingerprint of the types, worked out at the first call; 0 (not stated) if they cannot be described.
    pub fn schema<A: Argument, R: Answer>(&self) -> u32 {
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
    fn call<A: ArgumentEncode, R: AnswerDecode>(
        &mut self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<R::Value, CallError>;
}
