//! HTTP/1.1 with JSON bodies: the unary half of the Connect protocol, strict about framing, both ends of it.
//!
//! [`Http`] is a server's end, [`HttpClient`] a client's. `POST /Service/Method` is a call, `GET` one of a method
//! free of side effects; answers keep the order of their questions. `scan.rs` finds the end of a head, `request.rs`
//! says what it asks for, `chunks.rs` reads bodies in chunks, `reply.rs` writes, most of all by way of `plain.rs`. What
//! could be read two ways is answered 400, and ends the connection (RFC 9112 section 11.2).

mod call;
mod chunks;
mod client;
mod error;
mod fault;
mod framing;
mod known;
mod plain;
mod query;
mod reply;
mod request;
mod scan;
mod server;

use std::sync::Arc;

use self::server::HttpServerInner;
use crate::config::Limits;
use crate::message::{Message, Outgoing, OutgoingReply};
use crate::wire::{Decoded, DrainNotice, Out, Protocol, ServerContext};
pub(super) use call::fits_field;
pub use client::HttpClient;

/// The number of the codec JSON.
const JSON: u8 = 2;
/// A refused body of up to this many times the limit is skipped; a larger one is not worth the traffic.
const SKIP_FACTOR: u64 = 2;
/// The body of a request that was refused is read to its end up to this length; before a longer one the connection
/// ends.
fn skip_bytes_max(limits: &Limits) -> u64 {
    (SKIP_FACTOR * limits.frame_bytes_max as u64).min(limits.linger_bytes_max as u64)
}

/// Memory that a connection keeps for its next request.
const KEEP_BYTES_MAX: usize = 512;

/// A server's end of one connection that speaks HTTP/1.1 (and 1.0).
///
/// A box: most of a server's connections may speak something else.
#[derive(Debug)]
pub struct Http(Box<HttpServerInner>);

impl Http {
    /// The end that receives requests.
    pub fn server(side: Arc<ServerContext>) -> Http {
        Http(Box::new(HttpServerInner::new(side)))
    }

    /// Whether Go's net/rpc may be asked for. Without it, as if it were not known.
    pub fn granting_go_rpc(mut self, grants: bool) -> Http {
        self.0.grants_go_rpc = grants;
        self
    }

    /// What it shares with the other connections of its server.
    #[cfg(feature = "netrpc")]
    pub(super) fn side(&self) -> &Arc<ServerContext> {
        self.0.side()
    }

    /// The peer has asked for Go's net/rpc (`CONNECT /_goRPC_`), and that was granted: the next byte is of that
    /// protocol. It is true from the message on that granted it, whose answer is written by this end.
    #[inline]
    pub fn becomes_go_rpc(&self) -> bool {
        self.0.becomes_go_rpc()
    }
}

impl Protocol for Http {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    #[inline]
    fn decode(&mut self, input: &[u8]) -> Decoded<Message> {
        self.0.decode(input)
    }

    #[inline]
    fn encode(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        match outgoing {
            Outgoing::Reply(OutgoingReply {
                id,
                code,
                queue_us,
                handler_us,
                body,
                codec: _,
                compressed: _,
            }) => {
                self.0.reply(id, code, (queue_us, handler_us), body, out);
            }
            Outgoing::Prepared { .. } => self.0.write_ready(out),
            Outgoing::Drain => self.0.drain(),
            // A server asks nothing, and HTTP has no signs of life.
            Outgoing::Pong { .. }
            | Outgoing::Request(_)
            | Outgoing::Cancel { .. }
            | Outgoing::Ping { .. } => {}
        }
    }

    fn encode_drain(&mut self, _out: &mut Out<'_>) {
        self.0.drain();
    }

    fn drain_notice(&self) -> DrainNotice {
        // Go's net/rpc comes next, which has no notice.
        if self.0.becomes_go_rpc() { DrainNotice::None } else { DrainNotice::NextAnswer }
    }

    fn is_inside_message(&self) -> bool {
        self.0.is_inside_message()
    }

    fn is_lingering(&self) -> bool {
        self.0.is_lingering()
    }

    #[inline]
    fn aside(&self) -> &[u8] {
        self.0.aside()
    }

    #[inline]
    fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }

    fn is_in_head(&self) -> bool {
        self.0.is_in_head()
    }

    fn encode_late(&mut self, out: &mut Out<'_>) {
        self.0.late(out);
    }
}

#[cfg(test)]
mod tests;
