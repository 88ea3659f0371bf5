//! gRPC over HTTP/2, the server's side: unary calls, with prior knowledge of HTTP/2 (PROTOCOL-HTTP2.md of grpc).
//!
//! [`GrpcServer`] is the protocol; the frames are those of [`http2`](super::http2). `request.rs` interprets the head
//! of a request, `server.rs` collects its message, `reply.rs` writes answers. A request that is not gRPC gets an
//! answer of HTTP: a page, or an error with a text.

mod reply;
mod request;
mod server;

use std::sync::Arc;
use std::time::Instant;

use self::server::GrpcServerInner;
use crate::config::Limits;
use crate::message::{Message, Outgoing};
use crate::wire::{Out, Protocol, Received, ServerContext};

/// The server's side of one HTTP/2 connection.
///
/// The state is boxed, since most connections of a server may use another protocol.
#[derive(Debug)]
pub struct GrpcServer(Box<GrpcServerInner>);

impl GrpcServer {
    /// Creates the server's side.
    pub fn server(side: Arc<ServerContext>) -> GrpcServer {
        GrpcServer(Box::new(GrpcServerInner::new(side)))
    }

    /// Returns the bytes that the connection has allocated, without those of calls in flight and of held answers.
    #[cfg(test)]
    fn allocated_bytes(&self) -> usize {
        size_of::<GrpcServerInner>() + self.0.allocated_bytes()
    }
}

impl Protocol for GrpcServer {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    #[inline]
    fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Message> {
        self.0.receive(input, out)
    }

    #[inline]
    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        match outgoing {
            Outgoing::Reply(reply) => self.0.reply(reply, out),
            Outgoing::Headers { id, codec, metadata } => self.0.headers(id, codec, metadata, out),
            Outgoing::Drain => self.0.drain(out),
            // Streams are refused, pings are answered below, and a server sends no calls.
            _ => {}
        }
    }

    fn send_drain(&mut self, out: &mut Out<'_>) {
        self.0.drain(out);
    }

    fn send_last(&mut self, out: &mut Out<'_>) {
        self.0.finish_drain(out);
    }

    fn send_late(&mut self, out: &mut Out<'_>) {
        self.0.abort_late(out);
    }

    fn is_inside_message(&self) -> bool {
        self.0.is_inside_message()
    }

    fn is_in_head(&self) -> bool {
        self.0.is_in_head()
    }

    #[inline]
    fn scratch(&self) -> &[u8] {
        self.0.scratch()
    }

    fn is_end_of_reading(&self) -> bool {
        // No client reads answers after it has closed its half. A client that is gone cancels its calls.
        true
    }

    fn on_time(&mut self, now: Instant, limits: &Limits, out: &mut Out<'_>) {
        self.0.on_time(now, limits, out);
    }

    fn next_time(&self) -> Option<Instant> {
        self.0.next_time()
    }
}

#[cfg(test)]
mod tests;
