//! [`Message`], the type that the layers exchange, and the metadata that travels with it.
//!
//! A protocol turns bytes into messages and messages into bytes; everything above uses messages only. Nothing here
//! depends on a protocol. Spans point into the receive buffer, so decoding copies nothing. What a protocol must first
//! assemble (headers as metadata, a body in chunks) is in its scratch buffer.

mod extras;
mod metadata;
mod priority;
pub mod trailers;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use coreloop_bufpool::Chunk;

use crate::status::Code;

pub use crate::codec_number::JsonDialect;
pub use extras::{DETAILS, HttpResponseHead, RESPONSE_METADATA_BYTES_MAX, ReplyExtras, SetMetadataError};
pub use metadata::{Metadata, MetadataBuf, MetadataError, MetadataTooLong};
pub use priority::Priority;

/// A part of a decoder's input: an offset from its start, and a length. Or a part of the protocol's scratch buffer,
/// which holds what the protocol has assembled ([`Protocol::scratch`](crate::wire::Protocol::scratch)).
///
/// One word: two halves that are stored separately and loaded together would stall on the store in every call.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Span(u64);

/// The bit of a start that selects the scratch buffer: the bytes before a body are far fewer than this.
const ASIDE: u32 = 1 << 31;

impl Span {
    /// Creates a span of `len` bytes from `start`.
    #[inline]
    pub const fn new(start: u32, len: u32) -> Span {
        Span(start as u64 | (len as u64) << 32)
    }

    /// Creates a span of `len` bytes from `start` in the scratch buffer.
    #[inline]
    pub const fn scratch(start: u32, len: u32) -> Span {
        Span::new(start | ASIDE, len)
    }

    /// Returns whether the bytes are in the scratch buffer.
    #[inline]
    pub const fn is_scratch(self) -> bool {
        self.0 as u32 & ASIDE != 0
    }

    /// Returns the offset of the first byte.
    #[inline]
    pub const fn start(self) -> usize {
        (self.0 as u32 & !ASIDE) as usize
    }

    /// Returns the number of bytes.
    #[inline]
    pub const fn len(self) -> usize {
        (self.0 >> 32) as usize
    }

    /// Returns whether the span has no bytes.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the span as a range of indices.
    #[inline]
    pub const fn range(self) -> Range<usize> {
        self.start()..self.start() + self.len()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.range().fmt(f)
    }
}

/// Returns the number that identifies a method on the wire: 32-bit FNV-1a of `Service.Method` in UTF-8 (Fowler, Noll,
/// Vo; draft-eastlake-fnv).
///
/// ```
/// assert_eq!(coreloop::protocol::method_hash("Arith.Multiply"), 0xfb82_3841);
/// ```
pub const fn method_hash(name: &str) -> u32 {
    fnv1a32(name.as_bytes())
}

/// Returns the 32-bit FNV-1a hash of some bytes.
///
/// ```
/// assert_eq!(coreloop::message::fnv1a32(b"foobar"), 0xbf9c_f968);
/// ```
pub const fn fnv1a32(bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// A decoded message from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// A call with its argument, which is complete.
    Request(Request),
    /// A call whose argument is a stream: its messages follow in [`Message::Data`]. The body of the request is empty.
    Open(Request),
    /// One message of a stream.
    Data(IncomingData),
    /// The caller sends no more messages for this call (the server's side).
    End {
        /// The id of the call.
        id: u64,
    },
    /// The peer can take that many more bytes of messages.
    Credit {
        /// The id of the stream's call; 0 is the connection.
        id: u64,
        /// Bytes, added to what the peer has granted before.
        bytes: u32,
    },
    /// Metadata that precedes a call's first message (the client's side).
    Headers {
        /// The id of the call.
        id: u64,
        /// The entries.
        metadata: Span,
    },
    /// What the peer grants and supports beyond the defaults. At most once, before any other message.
    Hello {
        /// The entries.
        metadata: Span,
    },
    /// A frame of a call broke a rule, and its end is known: the call, if it is in flight, ends with this status.
    CallBroken(BrokenCall),
    /// A request that the protocol can answer but not accept, or on the client's side a reply over the size limit:
    /// the connection stays open.
    Refused(Refusal),
    /// The caller gives up the call with this id.
    Cancel {
        /// The id of the call.
        id: u64,
    },
    /// The peer requests a pong.
    Ping {
        /// Echoed in the pong.
        id: u64,
    },
    /// The answer to a ping.
    Pong {
        /// The ping's id.
        id: u64,
    },
    /// An answer (the client's side).
    Reply(IncomingReply),
    /// The peer requests that no new requests are sent on this connection.
    Drain,
}

/// A decoded call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The caller's id, unique among its calls in flight on the connection.
    pub id: u64,
    /// Hash of `Service.Method` ([`method_hash`]).
    pub method: u32,
    /// The full name, if the caller sent it.
    pub name: Option<Span>,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The peer expects no answer.
    pub one_way: bool,
    /// Fingerprint of the argument and reply types; 0 if it is not stated.
    pub schema: u32,
    /// Time left when the caller sent the call, in microseconds; 0 is no deadline.
    pub time_left_us: u32,
    /// The metadata.
    pub metadata: Span,
    /// The body.
    pub body: Span,
}

/// Why a request is not accepted, with the parts of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The id to answer.
    pub id: u64,
    /// The codec of the answer.
    pub codec: u8,
    /// The peer expects no answer; the refusal is only counted.
    pub one_way: bool,
    /// The code of the answer.
    pub code: Code,
    /// What was expected and what was found.
    pub message: String,
}

/// One message of a stream as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncomingData {
    /// The id of the call.
    pub id: u64,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The encoded message.
    pub body: Span,
    /// The bytes that count against the windows: those of the frame's header and body.
    pub frame_bytes: u32,
}

/// A call whose peer broke a rule of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenCall {
    /// The id of the call.
    pub id: u64,
    /// How the call ends.
    pub code: Code,
    /// The rule, what was expected and what was found.
    pub message: String,
    /// Bytes that count against the connection's window, and are discarded.
    pub frame_bytes: u32,
}

/// An answer as a client decodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncomingReply {
    /// The id of the call.
    pub id: u64,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The number of the status code, as received.
    pub status: u32,
    /// Microseconds that the call was queued at the server.
    pub queue_us: u32,
    /// Microseconds that the handler took.
    pub handler_us: u32,
    /// The metadata: the reply's trailers, with HTTP the header fields. It was not checked: an inconsistent entry ends
    /// it.
    pub metadata: Span,
    /// The body; with a status other than ok, the message.
    pub body: Span,
}

/// The bytes of a body to send: borrowed and copied, or shared and linked.
#[derive(Debug)]
pub enum SendBody<'a> {
    /// Copied into the write queue.
    Bytes(&'a [u8]),
    /// Linked into the write queue, if it is large enough to be worth it.
    Chunk(Chunk),
}

impl SendBody<'_> {
    /// Returns the number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            SendBody::Bytes(bytes) => bytes.len(),
            SendBody::Chunk(chunk) => chunk.len(),
        }
    }

    /// Returns whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message to a peer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outgoing<'a> {
    /// An answer (the server's side).
    Reply(OutgoingReply<'a>),
    /// The answer to a ping.
    Pong {
        /// The ping's id.
        id: u64,
    },
    /// Requests that the peer sends no new requests on this connection.
    Drain,
    /// A call (the client's side).
    Request(OutgoingCall<'a>),
    /// A call whose argument is a stream: its messages follow. Its body is empty (the client's side).
    Open(OutgoingCall<'a>),
    /// One message of a stream.
    Data(OutgoingData<'a>),
    /// No more messages follow from the caller (the client's side).
    End {
        /// The id of the call.
        id: u64,
    },
    /// Lets the peer send that many more bytes of messages.
    Credit {
        /// The id of the stream's call; 0 is the connection.
        id: u64,
        /// Bytes, added to what was granted before.
        bytes: u32,
    },
    /// Metadata before the first message of a call (the server's side).
    Headers {
        /// The id of the call.
        id: u64,
        /// The number of the codec of the call.
        codec: u8,
        /// Encoded entries ([`MetadataBuf::as_bytes`]).
        metadata: &'a [u8],
    },
    /// What this side grants and supports beyond the defaults; the first message on a connection.
    Hello {
        /// Encoded entries ([`MetadataBuf::as_bytes`]).
        metadata: &'a [u8],
    },
    /// Gives up the call with this id.
    Cancel {
        /// The id of the call.
        id: u64,
    },
    /// Requests a pong.
    Ping {
        /// Echoed in the pong.
        id: u64,
    },
}

/// An answer to send.
#[derive(Debug)]
pub struct OutgoingReply<'a> {
    /// The id of the answered call.
    pub id: u64,
    /// The number of the body's codec: the request's.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// How the call ended.
    pub code: Code,
    /// Microseconds that the call was queued.
    pub queue_us: u32,
    /// Microseconds that the handler took.
    pub handler_us: u32,
    /// Headers, trailers, details and hints; `None` for almost every reply. A protocol without a place for them drops
    /// them.
    pub extras: Option<&'a ReplyExtras>,
    /// The result, or, with a code other than ok, the message in UTF-8.
    pub body: SendBody<'a>,
}

/// One message of a stream to send.
#[derive(Debug)]
pub struct OutgoingData<'a> {
    /// The id of the call.
    pub id: u64,
    /// The number of the codec of the call.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The encoded message.
    pub body: SendBody<'a>,
}

/// A call to send.
#[derive(Debug)]
pub struct OutgoingCall<'a> {
    /// Unique among the calls in flight on the connection.
    pub id: u64,
    /// `Service.Method`; empty if only the hash is known.
    pub name: &'a str,
    /// Hash of `Service.Method`.
    pub method: u32,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The caller expects no answer.
    pub one_way: bool,
    /// Fingerprint of the argument and reply types; 0 if it is not stated.
    pub schema: u32,
    /// Time left in microseconds; 0 is no deadline.
    pub time_left_us: u32,
    /// Encoded metadata ([`MetadataBuf::as_bytes`]).
    pub metadata: &'a [u8],
    /// The argument.
    pub body: SendBody<'a>,
}

/// Returns the encoding of a call's time left: microseconds, 0 for no deadline. A time that does not fit (over an
/// hour) is sent as no deadline: the caller ends the call itself.
pub fn time_left_us(left: Option<Duration>) -> u32 {
    left.map_or(0, |left| u32::try_from(left.as_micros()).map_or(0, |left_us| left_us.max(1)))
}
