//! HTTP/1.1 with JSON bodies: the unary part of the Connect protocol, with strict framing, for server and client; and,
//! for the server, streams of results as newline-delimited JSON.
//!
//! [`Http`] is the server's side, [`HttpClient`] the client's. `POST /Service/Method` calls a method, `GET` calls an
//! idempotent one; answers keep the order of the requests. `scan.rs` finds the end of a head, `request.rs` interprets
//! it, `chunks.rs` reads chunked bodies, `reply.rs` writes answers, most of them with `plain.rs`, and
//! `server/streams.rs` those that are streams. An ambiguous request is answered with 400, and closes the connection
//! (RFC 9112 section 11.2).

mod call;
mod chunks;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "server")]
mod fault;
mod framing;
#[cfg(feature = "server")]
mod known;
#[cfg(feature = "server")]
mod plain;
#[cfg(feature = "server")]
mod query;
#[cfg(feature = "server")]
mod reply;
#[cfg(feature = "server")]
mod request;
mod scan;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod target;

#[cfg(feature = "server")]
use std::sync::Arc;

#[cfg(feature = "server")]
use self::server::HttpServerInner;
use crate::codec_number::Codec;
use crate::config::Limits;
#[cfg(feature = "server")]
use crate::message::{Message, Outgoing, OutgoingData, OutgoingReply};
#[cfg(feature = "server")]
use crate::wire::{DrainNotice, Out, Protocol, Received, ServerContext, StreamSupport};
pub(super) use call::fits_field;
#[cfg(feature = "agents")]
pub(crate) use chunks::{BodyPiece, ChunkFault, Chunks};
#[cfg(feature = "client")]
pub use client::HttpClient;
#[cfg(feature = "agents")]
pub(crate) use framing::{Framing, with_fields};
#[cfg(feature = "agents")]
pub(crate) use scan::{HeadScan, ScannedHead};

/// The number of the JSON codec.
const JSON: u8 = Codec::Json.number();
/// A refused body of up to this many times the limit is skipped; a larger one is not worth the traffic.
const SKIP_FACTOR: u64 = 2;
/// The maximum length of a refused request's body that is read to its end. A longer one closes the connection.
fn skip_bytes_max(limits: &Limits) -> u64 {
    (SKIP_FACTOR * limits.frame_bytes_max as u64).min(limits.linger_bytes_max as u64)
}

/// The maximum bytes that a connection keeps for its next request.
const KEEP_BYTES_MAX: usize = 512;

/// The server's side of one HTTP/1.1 (or 1.0) connection.
///
/// The state is boxed, since most connections of a server may use another protocol.
#[cfg(feature = "server")]
#[derive(Debug)]
pub struct Http(Box<HttpServerInner>);

#[cfg(feature = "server")]
impl Http {
    /// Creates the server's side.
    pub fn server(side: Arc<ServerContext>) -> Http {
        Http(Box::new(HttpServerInner::new(side)))
    }

    /// Enables requests for Go's net/rpc. If disabled, its path is unknown.
    pub fn granting_go_rpc(mut self, grants: bool) -> Http {
        self.0.grants_go_rpc = grants;
        self
    }

    /// Returns what the connection shares with the others of its server.
    #[cfg(feature = "netrpc")]
    pub(super) fn side(&self) -> &Arc<ServerContext> {
        self.0.side()
    }

    /// Whether the peer has requested Go's net/rpc (`CONNECT /_goRPC_`) and it was granted: the next byte belongs to
    /// that protocol. True from the message that grants it; this protocol still writes the answer to that request.
    #[inline]
    pub fn becomes_go_rpc(&self) -> bool {
        self.0.becomes_go_rpc()
    }
}

#[cfg(feature = "server")]
impl Protocol for Http {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    #[inline]
    fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Message> {
        self.0.receive(input, out)
    }

    #[inline]
    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        match outgoing {
            Outgoing::Reply(OutgoingReply {
                id,
                code,
                queue_us,
                handler_us,
                extras,
                body,
                codec: _,
                compressed: _,
            }) => {
                self.0.reply(id, code, (queue_us, handler_us), extras, body, out);
            }
            Outgoing::Data(OutgoingData { id, body, codec: _, compressed: _ }) => {
                self.0.stream_message(id, body, out);
            }
            Outgoing::Headers { id, codec: _, metadata } => self.0.stream_headers(id, metadata),
            Outgoing::Drain => self.0.drain(),
            // A server sends no requests, and HTTP/1.1 has no form for the others.
            _ => {}
        }
    }

    fn send_drain(&mut self, _out: &mut Out<'_>) {
        self.0.drain();
    }

    fn drain_notice(&self) -> DrainNotice {
        // Go's net/rpc follows, which has no notice.
        if self.0.becomes_go_rpc() { DrainNotice::None } else { DrainNotice::NextAnswer }
    }

    fn is_inside_message(&self) -> bool {
        self.0.is_inside_message()
    }

    fn is_lingering(&self) -> bool {
        self.0.is_lingering()
    }

    #[inline]
    fn scratch(&self) -> &[u8] {
        self.0.scratch()
    }

    #[inline]
    fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }

    fn is_in_head(&self) -> bool {
        self.0.is_in_head()
    }

    fn send_late(&mut self, out: &mut Out<'_>) {
        self.0.late(out);
    }

    fn stream_support(&self) -> StreamSupport {
        self.0.stream_support()
    }

    fn has_ended(&self) -> bool {
        self.0.has_ended()
    }
}

#[cfg(test)]
mod tests;
