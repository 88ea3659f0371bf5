//! The wire protocols: the trait [`Protocol`], and one file or folder per protocol.
//!
//! A protocol turns bytes into values and back. It uses no socket, clock or service; what it reads from the server is
//! in [`directory`]. A protocol of this crate is one folder here and one row in `server_protocol.rs`, which names its
//! first bytes; clients have theirs in [`client_protocol`]. A program adds protocols of its own as [`AddedProtocol`].
//! The layers above do not change.

#[cfg(feature = "server")]
mod added;
#[cfg(feature = "client")]
pub mod client_protocol;
#[cfg(feature = "json")]
mod details;
#[cfg(feature = "server")]
pub mod directory;
pub mod foreign;
#[cfg(all(feature = "server", any(feature = "http", feature = "grpc")))]
pub mod forwarded;
#[cfg(all(feature = "grpc", feature = "server"))]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[cfg(all(feature = "grpc", feature = "server"))]
pub mod http2;
#[cfg(feature = "jsonrpc")]
pub mod jsonrpc;
pub mod native;
#[cfg(feature = "netrpc")]
pub mod netrpc;
pub mod order;
pub mod proxy;
#[cfg(all(feature = "http", feature = "server"))]
mod routes;
#[cfg(feature = "server")]
mod server_protocol;
#[cfg(feature = "server")]
pub mod sniff;

use std::fmt;
use std::time::Instant;

use coreloop_bufpool::{Chunk, Pool, WriteQueue};

use crate::config::Limits;
use crate::message::SendBody;
#[cfg(feature = "server")]
pub use added::{AddedProtocol, AddedProtocols};
#[cfg(feature = "client")]
pub use client_protocol::{ClientProtocol, Scheme};
#[cfg(all(feature = "server", feature = "http"))]
pub(crate) use directory::ROUTE_HEAD;
#[cfg(feature = "server")]
pub use directory::{DirectoryEntry, MethodDirectory, ServerContext};
#[cfg(all(feature = "server", any(feature = "http", feature = "grpc")))]
pub(crate) use directory::{ROUTE_METHOD, ROUTE_TARGET};
pub use foreign::ForeignProtocol;
#[cfg(all(feature = "grpc", feature = "server"))]
pub use grpc::GrpcServer;
#[cfg(all(feature = "http", feature = "server"))]
pub use http::Http;
#[cfg(all(feature = "http", feature = "client"))]
pub use http::HttpClient;
#[cfg(all(feature = "jsonrpc", feature = "server"))]
pub use jsonrpc::JsonRpc;
#[cfg(all(feature = "jsonrpc", feature = "client"))]
pub use jsonrpc::JsonRpcClient;
pub use native::{NativeClient, NativeServer};
#[cfg(all(feature = "netrpc", feature = "server"))]
pub use netrpc::NetRpc;
#[cfg(all(feature = "netrpc", feature = "client"))]
pub use netrpc::NetRpcClient;
#[cfg(all(feature = "http", feature = "server"))]
pub use routes::{HttpMethod, HttpMethods, RoutesAt};
#[cfg(feature = "server")]
pub use server_protocol::ServerProtocol;
#[cfg(feature = "server")]
pub use sniff::{ProtocolId, ProtocolSet};

/// The result of decoding the start of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<M> {
    /// A message and its length in bytes. Spans in it are relative to the first of those bytes.
    Message {
        /// The message.
        message: M,
        /// Bytes to consume.
        consumed: usize,
    },
    /// Bytes that are not for the application (a request that the protocol has answered itself, the rest of a refused
    /// message): consume them and continue.
    Skip {
        /// Bytes to consume. 0 means that only the protocol's state has changed.
        consumed: usize,
    },
    /// Not enough bytes yet. This is not an error.
    NeedMore {
        /// The least number of bytes, those already present included, at which decoding makes progress.
        bytes_min: usize,
    },
    /// The bytes are not valid; the connection must close.
    Broken(Broken),
    /// The peer has ended its input by the rules of the protocol: nothing more is read, outstanding output is
    /// written.
    End,
}

/// Why a peer's bytes cannot be decoded. The peer is at fault, and the connection closes.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Broken {
    /// The first bytes match no protocol of this listener.
    UnknownProtocol,
    /// The bytes match a known protocol that is not enabled on this listener.
    NotSpoken(&'static str),
    /// The first bytes from a server match another protocol than the client's.
    Foreign(ForeignProtocol),
    /// A native frame does not start with `19 96`.
    Magic([u8; 2]),
    /// A native frame has another version.
    Version(u8),
    /// A frame is over the limit and too large to skip.
    TooLarge {
        /// The announced bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A kind of frame that only the other side may send.
    WrongDirection(u8),
    /// An error of the embedder's own protocol.
    Other(String),
}

crate::error_text::debug_as_text!(Broken);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::UnknownProtocol => f.write_str("the first bytes match no protocol of this server"),
            Broken::NotSpoken(name) => write!(f, "{name} is not enabled on this listener"),
            Broken::Foreign(met) => write!(f, "the server's first bytes are {met}"),
            Broken::Magic([a, b]) => {
                write!(f, "expected a frame that begins with 19 96; found {a:02x} {b:02x}")
            }
            Broken::Version(version) => write!(f, "expected frame version 1; found {version}"),
            Broken::TooLarge { bytes, bytes_max } => {
                write!(f, "a body of {bytes} bytes is over the limit of {bytes_max} (frame_bytes_max)")
            }
            Broken::WrongDirection(kind) => {
                write!(f, "unexpected frame of kind {kind} on this side of the connection")
            }
            Broken::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Broken {}

/// Where a protocol writes: a connection's write queue, and the pool that supplies its buffers.
pub struct Out<'a> {
    /// The connection's write queue.
    #[doc(hidden)]
    pub queue: &'a mut WriteQueue,
    /// The reactor's buffer pool.
    #[doc(hidden)]
    pub pool: &'a mut Pool,
}

impl Out<'_> {
    /// Copies bytes to the end of the queue.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.queue.put(self.pool, bytes);
    }

    /// Links a chunk to the end of the queue, or copies it if that is cheaper.
    #[inline]
    pub fn link(&mut self, chunk: Chunk) {
        self.queue.link(self.pool, chunk);
    }

    /// Returns contiguous room for `bytes` bytes, to be written in place; it counts as appended. Returns `None` if
    /// there is too little room; then use [`put`](Out::put).
    #[inline]
    pub fn room(&mut self, bytes: usize) -> Option<&mut [u8]> {
        if self.queue.is_empty() { self.queue.first_room(self.pool, bytes) } else { self.queue.room(bytes) }
    }

    /// Writes a head and a body. A body that is a chunk is linked.
    pub fn frame(&mut self, head: &[u8], body: SendBody<'_>) {
        match body {
            SendBody::Bytes(bytes) => self.queue.put_pair(self.pool, head, bytes),
            SendBody::Chunk(chunk) => {
                self.queue.put(self.pool, head);
                self.queue.link(self.pool, chunk);
            }
        }
    }
}

/// How a protocol notifies the peer that the server drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainNotice {
    /// By a separate message. Calls that cross it are served for a short time.
    Message,
    /// By the next answer, which is the last.
    NextAnswer,
    /// Without notice: reading stops.
    None,
}

/// The streams that a call can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSupport {
    /// None: argument and result are one message each.
    Unary,
    /// The result may be a stream, and nothing is received before its end. So the caller grants no credit: the sink may
    /// send while not too many bytes wait to be written. It answers no pings either, and gives up by closing the
    /// connection.
    ResultOnly,
    /// Both sides may send streams, grant credit, and answer pings.
    Both,
}

/// A protocol without I/O: bytes to messages, and messages to bytes.
pub trait Protocol {
    /// What the peer sends.
    type Message;
    /// What is sent to the peer; it may borrow the bytes of its body.
    type Outgoing<'a>;

    /// Reads one message from the start of `input`.
    ///
    /// After [`Received::NeedMore`] it is called again with the same bytes and more, so its state must not depend on
    /// how the bytes were split. It reserves no memory for a declared length.
    fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Self::Message>;

    /// Decodes the most common message if it is complete at the start of the bytes. The result is that of
    /// [`Protocol::receive`], by a path short enough to be inlined into the read loop. `None` means no decision. After
    /// such a message the protocol is not called before more bytes arrive, so a protocol that has more to report
    /// ([`Received::End`]) must return `None` here.
    #[inline(always)]
    fn try_fast_receive(&mut self, input: &[u8]) -> Option<(Self::Message, usize)> {
        let _ = input;
        None
    }

    /// Writes one message.
    fn send(&mut self, outgoing: Self::Outgoing<'_>, out: &mut Out<'_>);

    /// Takes note of the protocol that both sides have agreed on in their TLS handshake (ALPN), before any of its bytes.
    fn on_negotiated(&mut self, alpn: &[u8]) {
        let _ = alpn;
    }

    /// Notifies the peer, if the protocol can, to send no new requests on this connection.
    fn send_drain(&mut self, out: &mut Out<'_>) {
        let _ = out;
    }

    /// Notifies the peer, if the protocol can, that nothing more is read, so that it knows which of its requests were
    /// accepted.
    fn send_last(&mut self, out: &mut Out<'_>) {
        let _ = out;
    }

    /// How the peer is notified of a drain. An undecided connection counts as [`DrainNotice::Message`].
    fn drain_notice(&self) -> DrainNotice {
        DrainNotice::Message
    }

    /// Whether the bytes being skipped are the rest of a message that was answered with an error; `linger_ms` limits
    /// it.
    fn is_lingering(&self) -> bool {
        false
    }

    /// Whether the bytes decoded so far end inside a message that is being skipped.
    fn is_inside_message(&self) -> bool {
        false
    }

    /// Returns the scratch bytes that [`Span::scratch`](crate::message::Span::scratch) refers to, valid until the next
    /// call of a decode function.
    #[inline]
    fn scratch(&self) -> &[u8] {
        &[]
    }

    /// Bytes of answers that wait for earlier answers. They count like those of the write queue, so that a peer
    /// cannot pile them up behind one slow call.
    #[inline]
    fn held_bytes(&self) -> usize {
        0
    }

    /// Handles the end of the peer's input: no more bytes follow. Returns true if the end itself completes a message,
    /// which the next decoding returns.
    #[inline]
    fn on_end(&mut self) -> bool {
        false
    }

    /// Whether a peer that has closed its sending half is gone, since no peer of this protocol half-closes and then
    /// reads. The connection closes at once, and its calls are given up as after a reset: as long as nothing is
    /// written, the system does not distinguish a close from a half-close.
    fn is_end_of_reading(&self) -> bool {
        false
    }

    /// Whether the message that has begun is still in its head, which has a deadline of its own (`head_ms`).
    fn is_in_head(&self) -> bool {
        false
    }

    /// Notifies the peer, if the protocol can, that the message it has begun is late. Nothing is written after it.
    fn send_late(&mut self, out: &mut Out<'_>) {
        let _ = out;
    }

    /// Takes note of the time: before each [`Protocol::receive`], and at [`Protocol::next_time`].
    #[inline]
    fn on_time(&mut self, now: Instant, limits: &Limits, out: &mut Out<'_>) {
        let _ = (now, limits, out);
    }

    /// Returns when [`Protocol::on_time`] must be called at the latest. `Some` means that the protocol holds answers
    /// until the peer grants credit. They have a limit of their own, and never stop the reading, since credit is read.
    #[inline]
    fn next_time(&self) -> Option<Instant> {
        None
    }

    /// Whether this end sends the requests. Once the peer can send nothing more that matters, no final message is
    /// necessary, and the connection closes at once.
    fn is_caller(&self) -> bool {
        false
    }

    /// Whether the protocol is known; false while the first bytes are undecided.
    fn is_decided(&self) -> bool {
        true
    }

    /// Whether the message at the start of the input waits unread while as many calls are in flight as may be: a request
    /// whose caller waits for any time. Other messages are received then, and requests among them are refused. Without
    /// input: whether every message waits.
    fn waits_unread(&self, input: &[u8]) -> bool {
        let _ = input;
        true
    }

    /// Returns which streams the call can have whose request was received last. [`StreamSupport::ResultOnly`] stays
    /// until the answer is written: no input is taken before.
    fn stream_support(&self) -> StreamSupport {
        StreamSupport::Unary
    }

    /// Whether nothing more is received or sent: every request is answered, or the answer of the last is cut off. The
    /// connection ends without waiting for the work of its calls.
    fn has_ended(&self) -> bool {
        false
    }
}

/// For tests of protocols that write nothing while they receive.
#[cfg(test)]
pub(crate) mod testing {
    use coreloop_bufpool::{Pool, PoolConfig, WriteQueue};

    use super::{Out, Protocol, Received};

    /// Receives without a connection.
    pub(crate) trait Decode: Protocol {
        /// Receives, and checks that nothing was written.
        fn decode(&mut self, input: &[u8]) -> Received<Self::Message> {
            let (mut queue, mut pool) = (WriteQueue::new(), Pool::new(PoolConfig::default()));
            let received = self.receive(input, &mut Out { queue: &mut queue, pool: &mut pool });
            assert!(queue.is_empty(), "written without a request of the application");
            received
        }
    }

    impl<P: Protocol> Decode for P {}
}
