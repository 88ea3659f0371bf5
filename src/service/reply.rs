//! Deferred replies: a handler takes the reply of its call, moves it to any thread, and sends it there.

use std::fmt;

use coreloop_bufpool::Chunk;

use crate::codec::{Codec, CodecError, ReplyEncode, ValueRules};
use crate::context::{Context, Ticket};
use crate::message::SetMetadataError;
use crate::status::Status;

type Encode<T> = fn(T, Codec, &mut Vec<u8>) -> Result<Option<Chunk>, CodecError>;

/// The obligation to answer one call, from any thread. Dropped without an answer, it answers `internal`.
///
/// A method takes it as its last parameter and returns nothing:
///
/// ```
/// use coreloop::{Context, Reply, Server, Status};
///
/// struct Later;
///
/// #[coreloop::service]
/// impl Later {
///     fn double(&self, _cx: &Context, number: i64, reply: Reply<i64>) {
///         std::thread::spawn(move || reply.send(Ok(number * 2)));
///     }
/// }
/// # fn main() { let _ = Server::builder().service(Later); }
/// ```
pub struct Reply<T> {
    ticket: Ticket,
    codec: Codec,
    /// The rules of the call, kept because another thread does not have them.
    rules: ValueRules,
    encode: Encode<T>,
}

impl<T> Reply<T> {
    /// Takes the reply of the call; its value is encoded as `R`.
    ///
    /// # Errors
    ///
    /// `internal`, if the reply was taken before.
    pub fn take<R: ReplyEncode<Value = T>>(cx: &Context<'_>, codec: Codec) -> Result<Reply<T>, Status> {
        let ticket = cx.take_ticket().ok_or_else(|| Status::internal("the reply was taken twice"))?;
        Ok(Reply { ticket, codec, rules: ValueRules::current(), encode: R::encode })
    }

    /// Sends the reply.
    pub fn send(self, result: Result<T, Status>) {
        let Reply { ticket, codec, rules, encode } = self;
        let body = result.and_then(|value| {
            let mut out = Vec::new();
            let chunk = rules.apply(|| encode(value, codec, &mut out))?;
            Ok(chunk.unwrap_or_else(|| Chunk::from(out)))
        });
        ticket.answer(body);
    }

    /// Sets a response header ([`Context::set_header`]).
    ///
    /// # Errors
    ///
    /// The entry does not fit, or its key is reserved.
    pub fn set_header(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        self.ticket.set_header(key, value)
    }

    /// Sets a response trailer ([`Context::set_trailer`]).
    ///
    /// # Errors
    ///
    /// The entry does not fit, or its key is reserved.
    pub fn set_trailer(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        self.ticket.set_trailer(key, value)
    }

    /// Returns whether the caller has disconnected or cancelled the call, or its deadline has passed.
    pub fn is_cancelled(&self) -> bool {
        self.ticket.is_cancelled()
    }

    /// Runs the function when the call is cancelled; at once if it already is.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        self.ticket.on_cancel(callback);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
