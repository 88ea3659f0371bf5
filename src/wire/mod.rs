//! What the bytes of a connection mean: the trait [`Protocol`], and one file or folder for each protocol.
//!
//! A wire takes bytes and returns values; it knows no socket, no clock and no service (what it may ask of the server
//! stands in [`site`]). To add a protocol: write its `Protocol` here, give [`sniff`] the first bytes that tell it from the
//! others, and add it to [`ServerProtocol`], and to [`ClientProtocol`] for clients; nothing above this floor changes.

pub mod client_protocol;
pub mod directory;
pub mod foreign;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "jsonrpc")]
pub mod jsonrpc;
pub mod native;
#[cfg(feature = "netrpc")]
pub mod netrpc;
pub mod order;
pub mod sniff;

use std::fmt;
use std::sync::Arc;

use coreloop_bufpool::{Chunk, Pool, WriteQueue};

use crate::message::{Message, Outgoing, SendBody};
pub use client_protocol::{ClientProtocol, Scheme};
pub use directory::{DirectoryEntry, MethodDirectory, Page, ServerContext};
pub use foreign::ForeignProtocol;
#[cfg(feature = "http")]
pub use http::{Http, HttpClient};
#[cfg(feature = "jsonrpc")]
pub use jsonrpc::{JsonRpc, JsonRpcClient};
pub use native::Native;
#[cfg(feature = "netrpc")]
pub use netrpc::{NetRpc, NetRpcClient};
pub use sniff::{ProtocolId, ProtocolSet};

/// What a decoder makes of the bytes at hand.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<M> {
    /// A message, and how many bytes it took. Spans in it count from the first of those bytes.
    Message {
        /// The message.
        message: M,
        /// Bytes to consume.
        consumed: usize,
    },
    /// Bytes that say nothing (the rest of something refused): consume them and go on.
    Skip {
        /// Bytes to consume; at least 1.
        consumed: usize,
    },
    /// Not enough bytes yet: an answer, not an error.
    NeedMore {
        /// The least number of bytes, those at hand included, with which it is worth trying again.
        bytes_min: usize,
    },
    /// The bytes cannot be understood; the connection must end.
    Broken(Broken),
    /// The peer has said its last word, by the rules of the protocol: nothing more is read, what is owed goes out.
    End,
}

/// Why a peer's bytes cannot be understood any further: the peer's fault, and the end of the connection.
#[derive(Clone, PartialEq, Eq)]
pub enum Broken {
    /// The first bytes are of no protocol that this listener speaks.
    UnknownProtocol,
    /// The bytes are of a protocol that is known, but not spoken here.
    NotSpoken(&'static str),
    /// The first bytes from a server are of another protocol than that of the client.
    Foreign(ForeignProtocol),
    /// A native frame does not begin with `19 96`.
    Magic([u8; 2]),
    /// A native frame of another version.
    Version(u8),
    /// A frame larger than the limit, too large to be skipped.
    TooLarge {
        /// Bytes announced.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A kind of frame that only the other side may send.
    WrongDirection(u8),
    /// A protocol of the embedder's own says so.
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

/// Where a wire writes to: one connection's write queue, and the pool that feeds it.
pub struct Out<'a> {
    /// The connection's write queue.
    pub queue: &'a mut WriteQueue,
    /// The reactor's buffer pool.
    pub pool: &'a mut Pool,
}

impl Out<'_> {
    /// Copies bytes to the end of the queue.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.queue.put(self.pool, bytes);
    }

    /// Links a chunk to the end of the queue (or copies it, where that is cheaper).
    #[inline]
    pub fn link(&mut self, chunk: Chunk) {
        self.queue.link(self.pool, chunk);
    }

    /// Room for so many bytes in one piece, to be written in place, which then counts as appended; `None` where there is not
    /// as much, and [`put`](Out::put) is the way.
    #[inline]
    pub fn room(&mut self, bytes: usize) -> Option<&mut [u8]> {
        if self.queue.is_empty() { self.queue.first_room(self.pool, bytes) } else { self.queue.room(bytes) }
    }

    /// A head of four little-endian words and a body: written word by word where they end up, since a head that is
    /// put together elsewhere and copied as a whole would wait for its own stores.
    #[inline(always)]
    pub fn words_frame(&mut self, words: [u64; 4], body: SendBody<'_>) {
        if let SendBody::Bytes(bytes) = body
            && let Some(room) = self.queue.room(32 + bytes.len())
        {
            let (head, rest) = room.split_at_mut(32);
            for (room, word) in head.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                *room = word.to_le_bytes();
            }
            rest.copy_from_slice(bytes);
            return;
        }
        self.words_frame_slow(words, body);
    }

    #[inline(never)]
    fn words_frame_slow(&mut self, words: [u64; 4], body: SendBody<'_>) {
        let mut head = [0; 32];
        for (room, word) in head.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *room = word.to_le_bytes();
        }
        self.frame(&head, body);
    }

    /// A head and a body, the body linked if it is a chunk.
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

/// How a protocol tells the peer that the server drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainNotice {
    /// By a message of its own, which calls may cross: those are served for a short time.
    Message,
    /// By the next answer, which is the last.
    NextAnswer,
    /// Not at all: reading stops.
    None,
}

/// A protocol without I/O: bytes to messages, messages to bytes.
pub trait Protocol {
    /// What the peer says.
    type Message;
    /// What is said to the peer; it may borrow the bytes of its body.
    type Outgoing<'a>;

    /// Reads one message from the start of the bytes at hand.
    ///
    /// It is called again with the same bytes and more after [`Decoded::NeedMore`], so whatever it keeps must
    /// not depend on how the bytes were split. It reserves nothing from a declared length.
    fn decode(&mut self, input: &[u8]) -> Decoded<Self::Message>;

    /// The commonest message, if it stands whole at the start of the bytes: the same answer as that of
    /// [`Protocol::decode`], by a way short enough to be compiled into the loop that reads. `None` says nothing. After such
    /// a message the wire is not asked again before there are more bytes: one that is to say more ([`Decoded::End`])
    /// must not answer here.
    #[inline(always)]
    fn try_fast_decode(&mut self, input: &[u8]) -> Option<(Self::Message, usize)> {
        let _ = input;
        None
    }

    /// Writes one message.
    fn encode(&mut self, outgoing: Self::Outgoing<'_>, out: &mut Out<'_>);

    /// Asks the peer, if the protocol can, to send no new requests on this connection.
    fn encode_drain(&mut self, out: &mut Out<'_>) {
        let _ = out;
    }

    /// How the peer learns of a drain. While the protocol is undecided it counts as the first of these.
    fn drain_notice(&self) -> DrainNotice {
        DrainNotice::Message
    }

    /// What is being skipped is the rest of a message that was answered with an error: it has `linger_ms`.
    fn is_lingering(&self) -> bool {
        false
    }

    /// The bytes decoded so far end in the middle of something that is being skipped.
    fn is_inside_message(&self) -> bool {
        false
    }

    /// The bytes that [`Span::aside`](crate::message::Span::aside) counts in; they stay until the next decoding.
    #[inline]
    fn aside(&self) -> &[u8] {
        &[]
    }

    /// Bytes of answers that must wait for others before they may be written. They count like those of the write
    /// queue, so that a peer cannot pile them up behind one slow call.
    #[inline]
    fn held_bytes(&self) -> usize {
        0
    }

    /// The peer has closed its sending half: no byte follows those at hand. True if that by itself completes a message,
    /// which decoding then gives.
    #[inline]
    fn on_end(&mut self) -> bool {
        false
    }

    /// A peer that has closed its sending half is gone: in this protocol nobody stops asking and still reads. The
    /// connection ends at once, and its calls are given up as after a reset, which a close is not told from by the
    /// system as long as nothing is written.
    fn is_end_of_reading(&self) -> bool {
        false
    }

    /// What has begun is a head, which has a time of its own (`head_ms`).
    fn is_in_head(&self) -> bool {
        false
    }

    /// Tells the peer, if the protocol can, that it took too long with what it had begun. It is the last word.
    fn encode_late(&mut self, out: &mut Out<'_>) {
        let _ = out;
    }

    /// This end asks and the other one answers: once the peer can say nothing more that means anything, there is
    /// nobody to whom a last word is owed, and the connection ends at once.
    fn is_caller(&self) -> bool {
        false
    }

    /// The protocol has been decided (a wire that sniffs says no until it has).
    fn is_decided(&self) -> bool {
        true
    }
}

/// The wire of a server's connection: undecided until its first bytes have come, then one protocol for good.
#[derive(Debug)]
pub enum ServerProtocol {
    /// Too few bytes yet to tell which protocol it is.
    Sniffing {
        /// Those that the listener allows.
        allowed: ProtocolSet,
        /// What every protocol may have to know of the server.
        side: Arc<ServerContext>,
    },
    /// The native protocol.
    Native(Native),
    /// JSON-RPC.
    #[cfg(feature = "jsonrpc")]
    JsonRpc(Box<JsonRpc>),
    /// HTTP/1.1 with JSON bodies.
    #[cfg(feature = "http")]
    Http(Http),
    /// Go's net/rpc over gob.
    #[cfg(feature = "netrpc")]
    NetRpc(Box<NetRpc>),
}

/// Each protocol's answer to the same question; the first one is for a connection that has not decided.
macro_rules! each {
    ($speaks:expr, $undecided:expr, $wire:ident => $answer:expr) => {
        match $speaks {
            ServerProtocol::Sniffing { .. } => $undecided,
            ServerProtocol::Native($wire) => $answer,
            #[cfg(feature = "jsonrpc")]
            ServerProtocol::JsonRpc($wire) => $answer,
            #[cfg(feature = "http")]
            ServerProtocol::Http($wire) => $answer,
            #[cfg(feature = "netrpc")]
            ServerProtocol::NetRpc($wire) => $answer,
        }
    };
}

impl ServerProtocol {
    /// The protocol, once it has been decided.
    pub fn id(&self) -> Option<ProtocolId> {
        match self {
            ServerProtocol::Sniffing { .. } => None,
            ServerProtocol::Native(_) => Some(ProtocolId::Native),
            #[cfg(feature = "jsonrpc")]
            ServerProtocol::JsonRpc(_) => Some(ProtocolId::JsonRpc),
            #[cfg(feature = "http")]
            ServerProtocol::Http(_) => Some(ProtocolId::Http),
            #[cfg(feature = "netrpc")]
            ServerProtocol::NetRpc(_) => Some(ProtocolId::NetRpc),
        }
    }

    /// A connection that has said nothing yet.
    pub fn undecided(allowed: ProtocolSet, side: Arc<ServerContext>) -> ServerProtocol {
        ServerProtocol::Sniffing { allowed, side }
    }

    fn decide(&mut self, input: &[u8]) -> Decoded<Message> {
        let ServerProtocol::Sniffing { allowed, side } = self else {
            unreachable!("only an undecided connection decides")
        };
        let protocol = match sniff::sniff(input) {
            // Where HTTP alone is expected, what is no protocol at all is a malformed request, and is answered.
            sniff::Sniffed::Unknown if *allowed == ProtocolSet::only(ProtocolId::Http) => ProtocolId::Http,
            sniff::Sniffed::NeedMore => return Decoded::NeedMore { bytes_min: input.len() + 1 },
            sniff::Sniffed::Unknown => return Decoded::Broken(Broken::UnknownProtocol),
            sniff::Sniffed::Is(protocol) => protocol,
        };
        if !allowed.contains(protocol) {
            return Decoded::Broken(Broken::NotSpoken(protocol.name()));
        }
        *self = match protocol {
            ProtocolId::Native => ServerProtocol::Native(Native::server(side.limits.frame_bytes_max)),
            #[cfg(feature = "jsonrpc")]
            ProtocolId::JsonRpc => ServerProtocol::JsonRpc(Box::new(JsonRpc::server(side.clone()))),
            #[cfg(feature = "http")]
            ProtocolId::Http => {
                // Where gob is not allowed, there is no way round by CONNECT either.
                let grants_go_rpc = cfg!(feature = "netrpc") && allowed.contains(ProtocolId::NetRpc);
                ServerProtocol::Http(Http::server(side.clone()).granting_go_rpc(grants_go_rpc))
            }
            #[cfg(feature = "netrpc")]
            ProtocolId::NetRpc => ServerProtocol::NetRpc(Box::new(NetRpc::server(side.clone()))),
            other => return Decoded::Broken(Broken::NotSpoken(other.name())),
        };
        self.decode(input)
    }

    #[inline(never)]
    fn encode_other(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        // Nothing was asked of an undecided connection, so nothing is answered: what comes here is a notice that has
        // no form yet.
        each!(self, (), wire => wire.encode(outgoing, out));
    }
}

impl Protocol for ServerProtocol {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    #[inline(always)]
    fn try_fast_decode(&mut self, input: &[u8]) -> Option<(Message, usize)> {
        match self {
            ServerProtocol::Native(native) => native.try_fast_decode(input),
            _ => None,
        }
    }

    fn decode(&mut self, input: &[u8]) -> Decoded<Message> {
        #[cfg(all(feature = "http", feature = "netrpc"))]
        if let ServerProtocol::Http(http) = self
            && http.becomes_go_rpc()
            && http.held_bytes() == 0
        {
            // The answer that grants it is written; this byte is the first of the other protocol.
            *self = ServerProtocol::NetRpc(Box::new(NetRpc::server(http.side().clone())));
        }
        each!(self, self.decide(input), wire => wire.decode(input))
    }

    #[inline(always)]
    fn encode(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        match self {
            ServerProtocol::Native(native) => native.encode(outgoing, out),
            other => other.encode_other(outgoing, out),
        }
    }

    fn encode_drain(&mut self, out: &mut Out<'_>) {
        each!(self, (), wire => wire.encode_drain(out));
    }

    fn encode_late(&mut self, out: &mut Out<'_>) {
        each!(self, (), wire => wire.encode_late(out));
    }

    fn is_inside_message(&self) -> bool {
        each!(self, false, wire => wire.is_inside_message())
    }

    fn is_in_head(&self) -> bool {
        each!(self, false, wire => wire.is_in_head())
    }

    #[inline]
    fn aside(&self) -> &[u8] {
        each!(self, &[], wire => wire.aside())
    }

    #[inline]
    fn held_bytes(&self) -> usize {
        match self {
            #[cfg(feature = "http")]
            ServerProtocol::Http(http) => http.held_bytes(),
            _ => 0,
        }
    }

    fn on_end(&mut self) -> bool {
        each!(self, false, wire => wire.on_end())
    }

    fn is_end_of_reading(&self) -> bool {
        each!(self, false, wire => wire.is_end_of_reading())
    }

    fn drain_notice(&self) -> DrainNotice {
        each!(self, DrainNotice::Message, wire => wire.drain_notice())
    }

    fn is_lingering(&self) -> bool {
        each!(self, false, wire => wire.is_lingering())
    }

    fn is_decided(&self) -> bool {
        !matches!(self, ServerProtocol::Sniffing { .. })
    }
}
