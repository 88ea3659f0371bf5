//! Protocols of a program's own: [`Protocol`] turns the bytes of a connection into messages and back, without I/O.
//!
//! Two things take one. A [`Reactor`](crate::reactor::Reactor) drives it with an app, whatever its messages are. A server
//! serves it beside its own protocols if its messages are [`Message`] and [`Outgoing`] (`AddedProtocol`, feature
//! `server`). `docs/embedding.md` has both.

pub use coreloop_bufpool::Chunk;

pub use crate::message::{
    BrokenCall, IncomingData, IncomingReply, Message, Outgoing, OutgoingCall, OutgoingData, OutgoingReply,
    Refusal, Request, SendBody, Span, method_hash,
};
#[cfg(feature = "server")]
pub use crate::wire::{AddedProtocol, ServerContext};
pub use crate::wire::{Broken, DrainNotice, ForeignProtocol, Out, Protocol, Received, StreamSupport};
