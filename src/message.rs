//! `Message`, the one currency between the floors, and the metadata that travels with it.
//!
//! A wire turns bytes into messages and messages into bytes; everything above speaks of messages only.
//! Nothing here knows a protocol. Spans point into the receive buffer, so decoding copies nothing; what a protocol
//! must put together first (headers as metadata, a body in chunks) stands aside, with the wire.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use coreloop_bufpool::Chunk;

use crate::status::Code;

/// A part of the bytes that a decoder was given: an offset from their start, and a length. Or a part of those that it
/// has put together by itself, which stand aside ([`Wire::aside`](crate::wire::Protocol::aside)).
///
/// One word: two halves, stored one by one and loaded as one, would wait for the store on the way of every call.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Span(u64);

/// The bit of a start that says where it counts from: what lies in front of a body is far smaller than this.
const ASIDE: u32 = 1 << 31;

impl Span {
    /// `len` bytes from `start` on.
    #[inline]
    pub const fn new(start: u32, len: u32) -> Span {
        Span(start as u64 | (len as u64) << 32)
    }

    /// `len` bytes from `start` on of what stands aside.
    #[inline]
    pub const fn aside(start: u32, len: u32) -> Span {
        Span::new(start | ASIDE, len)
    }

    /// The bytes stand aside.
    #[inline]
    pub const fn is_scratch(self) -> bool {
        self.0 as u32 & ASIDE != 0
    }

    /// Offset of the first byte.
    #[inline]
    pub const fn start(self) -> usize {
        (self.0 as u32 & !ASIDE) as usize
    }

    /// How many bytes.
    #[inline]
    pub const fn len(self) -> usize {
        (self.0 >> 32) as usize
    }

    /// No bytes.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The span as a range of indices.
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

/// The number by which a method goes on the wire: 32-bit FNV-1a of `Service.Method` in UTF-8
/// (Fowler, Noll, Vo; draft-eastlake-fnv).
///
/// ```
/// assert_eq!(coreloop::message::method_hash("Arith.Multiply"), 0xfb82_3841);
/// ```
pub const fn method_hash(name: &str) -> u32 {
    fnv1a32(name.as_bytes())
}

/// 32-bit FNV-1a.
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

/// What a peer said, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A call.
    Request(Request),
    /// A request that the wire can answer but not accept, or on the client's side a reply that is over the limit: the
    /// connection lives.
    Refused(Refusal),
    /// The caller gives up the call with this id.
    Cancel {
        /// The id of the call.
        id: u64,
    },
    /// The peer asks for a sign of life.
    Ping {
        /// Echoed in the pong.
        id: u64,
    },
    /// The sign of life.
    Pong {
        /// The ping's id.
        id: u64,
    },
    /// An answer (the client's side).
    Reply(IncomingReply),
    /// The peer wants no new requests on this connection.
    Drain,
    /// What was asked is answered by the wire itself (a page, an interim response): it goes out when
    /// [`Outgoing::Prepared`] is said.
    Prepared {
        /// The id of the question.
        id: u64,
    },
}

/// How a protocol's clients write their values in JSON, where that is not what serde says.
///
/// It follows a request to where its body is decoded and its reply encoded inside the codec's number: the numbers from
/// 128 on are never those of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JsonDialect {
    /// As serde says.
    #[default]
    Serde,
    /// As Go's encoding/json does, in JSON-RPC 1.0: zero values may be left out, nil pointers are null.
    GoRpc,
    /// As protobuf's JSON mapping does, in the Connect protocol: zero values are left out, NaN and 64-bit integers are
    /// text.
    Connect,
}

impl JsonDialect {
    /// The number of a request's codec: JSON in this dialect.
    pub const fn codec_number(self) -> u8 {
        match self {
            JsonDialect::Serde => JSON_CODEC,
            JsonDialect::GoRpc => 128,
            JsonDialect::Connect => 129,
        }
    }

    /// The number of a codec as frames have it, and the dialect, of the number in a request.
    #[inline]
    pub const fn split(codec: u8) -> (u8, JsonDialect) {
        match codec {
            128 => (JSON_CODEC, JsonDialect::GoRpc),
            129 => (JSON_CODEC, JsonDialect::Connect),
            _ => (codec, JsonDialect::Serde),
        }
    }
}

/// The number of JSON in a frame.
const JSON_CODEC: u8 = 2;

/// A call as it was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The caller's id, unique among its calls in flight on the connection.
    pub id: u64,
    /// Hash of `Service.Method` ([`method_hash`]).
    pub method: u32,
    /// Where the full name stands, if the caller gave it.
    pub name: Option<Span>,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// No answer is wanted.
    pub one_way: bool,
    /// Fingerprint of the argument and reply types; 0 is not stated.
    pub schema: u32,
    /// Time left, in microseconds, when the caller sent it; 0 is no deadline.
    pub time_left_us: u32,
    /// Where the metadata stand.
    pub metadata: Span,
    /// Where the body stands.
    pub body: Span,
}

/// Why a request is not accepted, with what is needed to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The id to answer.
    pub id: u64,
    /// The codec to answer in.
    pub codec: u8,
    /// No answer is wanted, only a count.
    pub one_way: bool,
    /// The code of the answer.
    pub code: Code,
    /// What was expected and what came.
    pub message: String,
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
    /// The status code's number, as it came.
    pub status: u32,
    /// Microseconds that the call was queued at the server.
    pub queue_us: u32,
    /// Microseconds that the handler took.
    pub handler_us: u32,
    /// Where the metadata stand.
    pub metadata: Span,
    /// Where the body stands; with a status other than ok, the message.
    pub body: Span,
}

/// The bytes of a body that is to be sent: borrowed and copied, or shared and linked.
#[derive(Debug)]
pub enum SendBody<'a> {
    /// Copied into the write queue.
    Bytes(&'a [u8]),
    /// Linked into the write queue, if it is large enough to be worth it.
    Chunk(Chunk),
}

impl SendBody<'_> {
    /// How many bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            SendBody::Bytes(bytes) => bytes.len(),
            SendBody::Chunk(chunk) => chunk.len(),
        }
    }

    /// No bytes at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is said to a peer.
#[derive(Debug)]
pub enum Outgoing<'a> {
    /// An answer (the server's side).
    Reply(OutgoingReply<'a>),
    /// A sign of life.
    Pong {
        /// The ping's id.
        id: u64,
    },
    /// No new requests on this connection, please.
    Drain,
    /// A call (the client's side).
    Request(OutgoingCall<'a>),
    /// The call with this id is given up.
    Cancel {
        /// The id of the call.
        id: u64,
    },
    /// A question for a sign of life.
    Ping {
        /// Comes back in the pong.
        id: u64,
    },
    /// What the wire has ready by itself for [`Message::Prepared`].
    Prepared {
        /// The id of the question.
        id: u64,
    },
}

/// An answer that is to be sent.
#[derive(Debug)]
pub struct OutgoingReply<'a> {
    /// The id of the call that it answers.
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
    /// The result, or with a code other than ok the message in UTF-8.
    pub body: SendBody<'a>,
}

/// A call that is to be sent.
#[derive(Debug)]
pub struct OutgoingCall<'a> {
    /// Unique among the calls in flight on the connection.
    pub id: u64,
    /// `Service.Method`; empty where only the hash is known.
    pub name: &'a str,
    /// Hash of `Service.Method`.
    pub method: u32,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// No answer is wanted.
    pub one_way: bool,
    /// Fingerprint of the argument and reply types; 0 is not stated.
    pub schema: u32,
    /// Time left in microseconds; 0 is no deadline.
    pub time_left_us: u32,
    /// Encoded metadata ([`MetadataBuf::as_bytes`]).
    pub metadata: &'a [u8],
    /// The argument.
    pub body: SendBody<'a>,
}

/// What a call's time left is on the wire: microseconds, 0 for no deadline. What does not fit (over an hour) goes
/// without one: the caller ends the call by itself.
pub fn time_left_us(left: Option<Duration>) -> u32 {
    left.map_or(0, |left| u32::try_from(left.as_micros()).map_or(0, |left_us| left_us.max(1)))
}

/// Metadata of a call: keys with values, read in place.
///
/// The layout is that of the native frame: `u8` key length, key, `u16` value length (little-endian), value;
/// zero padding to a multiple of 8.
#[derive(Clone, Copy, Default)]
pub struct Metadata<'a> {
    bytes: &'a [u8],
}

/// Metadata whose lengths do not add up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MetadataError {
    /// Offset of the entry at fault.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

crate::error_text::debug_as_text!(MetadataError);

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metadata entry at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for MetadataError {}

impl<'a> Metadata<'a> {
    /// Checks that the entries fill the bytes, as their lengths say.
    ///
    /// # Errors
    ///
    /// The first entry that runs over the end, has a key that is not UTF-8, or is followed by padding that is
    /// not zero or not shorter than 8 bytes.
    pub fn check(bytes: &'a [u8]) -> Result<Metadata<'a>, MetadataError> {
        let mut at = 0;
        while at < bytes.len() {
            let broken = |what| Err(MetadataError { at, what });
            let rest = &bytes[at..];
            let key_len = rest[0] as usize;
            if key_len == 0 {
                if rest.len() >= 8 {
                    return broken("the padding is longer than 7 bytes");
                }
                if rest.iter().any(|byte| *byte != 0) {
                    return broken("the padding is not zero");
                }
                break;
            }
            let Some(key) = rest.get(1..1 + key_len) else { return broken("the key runs over the end") };
            if std::str::from_utf8(key).is_err() {
                return broken("the key is not UTF-8");
            }
            let Some(len) = rest.get(1 + key_len..3 + key_len) else {
                return broken("the value's length is missing");
            };
            let value_len = u16::from_le_bytes([len[0], len[1]]) as usize;
            if rest.len() < 3 + key_len + value_len {
                return broken("the value runs over the end");
            }
            at += 3 + key_len + value_len;
        }
        Ok(Metadata { bytes })
    }

    /// Metadata that were checked before; an entry that does not add up ends the walk.
    pub(crate) fn checked_before(bytes: &'a [u8]) -> Metadata<'a> {
        Metadata { bytes }
    }

    /// The entries in the order in which they were sent.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (entry, after) = split_entry(rest)?;
            rest = after;
            Some(entry)
        })
    }

    /// The value of the first entry with that key.
    pub fn find(self, key: &str) -> Option<&'a [u8]> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// No entry at all.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// The encoded entries with their padding.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may hold credentials, so only the keys are shown.
        f.debug_list().entries(self.iter().map(|(key, _)| key)).finish()
    }
}

/// The first entry, and what follows it.
type MetadataEntries<'a> = ((&'a str, &'a [u8]), &'a [u8]);

fn split_entry(bytes: &[u8]) -> Option<MetadataEntries<'_>> {
    let key_len = *bytes.first()? as usize;
    if key_len == 0 {
        return None;
    }
    let key = std::str::from_utf8(bytes.get(1..1 + key_len)?).ok()?;
    let len = bytes.get(1 + key_len..3 + key_len)?;
    let end = 3 + key_len + u16::from_le_bytes([len[0], len[1]]) as usize;
    Some(((key, bytes.get(3 + key_len..end)?), &bytes[end..]))
}

/// Metadata being written.
#[derive(Clone, Debug, Default)]
pub struct MetadataBuf {
    bytes: Vec<u8>,
    /// Bytes of the entries, without the padding.
    entries_len: usize,
}

/// An entry that does not fit: the key is empty or longer than 255 bytes, the value longer than 65 535, or all
/// entries together longer than 65 528.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MetadataTooLong {
    /// Bytes of the key.
    pub key_len: usize,
    /// Bytes of the value.
    pub value_len: usize,
}

crate::error_text::debug_as_text!(MetadataTooLong);

impl fmt::Display for MetadataTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a metadata key of {} bytes (1 to 255) with a value of {} bytes does not fit: all entries of a frame \
             take at most 65528 bytes",
            self.key_len, self.value_len
        )
    }
}

impl std::error::Error for MetadataTooLong {}

impl MetadataBuf {
    /// No entries.
    pub fn new() -> MetadataBuf {
        MetadataBuf::default()
    }

    /// Adds an entry at the end.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLong`] if it does not fit; nothing is added then.
    pub fn push(&mut self, key: &str, value: &[u8]) -> Result<(), MetadataTooLong> {
        let too_long = MetadataTooLong { key_len: key.len(), value_len: value.len() };
        let (Ok(key_len), Ok(value_len)) = (u8::try_from(key.len()), u16::try_from(value.len())) else {
            return Err(too_long);
        };
        if key_len == 0 || self.entries_len + 3 + key.len() + value.len() > 65_528 {
            return Err(too_long);
        }
        self.bytes.truncate(self.entries_len);
        self.bytes.push(key_len);
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(&value_len.to_le_bytes());
        self.bytes.extend_from_slice(value);
        self.entries_len = self.bytes.len();
        self.bytes.resize(self.entries_len.next_multiple_of(8), 0);
        Ok(())
    }

    /// No entries any more; the memory is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries_len = 0;
    }

    /// The encoded entries, padded to a multiple of 8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The entries, to be read.
    pub fn view(&self) -> Metadata<'_> {
        Metadata { bytes: &self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_come_back_in_order_and_padded() {
        let mut metadata = MetadataBuf::new();
        metadata.push("b3", b"1").unwrap();
        metadata.push("authorization", b"Bearer x").unwrap();
        assert_eq!(metadata.as_bytes().len() % 8, 0);
        let view = Metadata::check(metadata.as_bytes()).unwrap();
        assert_eq!(
            view.iter().collect::<Vec<_>>(),
            vec![("b3", &b"1"[..]), ("authorization", &b"Bearer x"[..])]
        );
        assert_eq!(view.find("b3"), Some(&b"1"[..]));
        assert_eq!(view.find("B3"), None);
        assert_eq!(format!("{view:?}"), r#"["b3", "authorization"]"#);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for (bytes, what) in [
            (&b"\x09b3\0\0\0\0\0"[..], "the key runs over the end"),
            (b"\x02b3\xff\xff\0\0\0", "the value runs over the end"),
            (b"\x06abcdef\x01", "the value's length is missing"),
            (b"\0\0\0\0\0\0\0\0", "the padding is longer than 7 bytes"),
            (b"\x01a\0\0\0\0\0\x01", "the padding is not zero"),
            (b"\x02\xff\xfe\0\0\0\0\0", "the key is not UTF-8"),
        ] {
            assert_eq!(Metadata::check(bytes).unwrap_err().what, what, "{bytes:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut metadata = MetadataBuf::new();
        assert!(metadata.push("", b"x").is_err());
        assert!(metadata.push(&"k".repeat(256), b"").is_err());
        assert!(metadata.push("k", &[0; 65_536]).is_err());
        metadata.push("k", &[7; 65_000]).unwrap();
        assert!(metadata.push("l", &[7; 600]).is_err());
        assert_eq!(metadata.view().iter().count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_checked_without_a_panic_and_what_passes_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(metadata) = Metadata::check(&bytes) {
                let mut again = MetadataBuf::new();
                for (key, value) in metadata.iter() {
                    again.push(key, value).unwrap();
                }
                prop_assert_eq!(again.view().iter().collect::<Vec<_>>(), metadata.iter().collect::<Vec<_>>());
            }
        }
    }
}
