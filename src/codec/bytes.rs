//! Byte strings: the type [`Bytes`], and the markers [`Raw`] (borrowed) and [`RawBytes`] (shared).
//!
//! In the codec raw a byte string is the body itself. In text formats it is base64 (standard alphabet, padded), as in
//! Go's encoding/json; in the other formats it is bytes. No copy is made where the body is a chunk that can be
//! shared.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use coreloop_bufpool::Chunk;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(feature = "json")]
use super::ValueRules;
use super::describe::{DescribeError, Description, Shape};
use super::value::{Argument, ArgumentEncode, Body, ReplyDecode, ReplyEncode};
use super::{Codec, CodecError, decode, encode};

/// A byte string up to this size needs no allocation.
const SMALL_BYTES_MAX: usize = 62;
/// From this size on, the handler's vector becomes the body of the reply; below it, copying costs less than sharing.
const SHARE_BYTES_MIN: usize = 4096;

/// A byte string: inline if it is short, otherwise a shared part of the request or an owned vector.
///
/// ```
/// use coreloop::codec::Bytes;
/// let hello = Bytes::from(&b"hello"[..]);
/// assert_eq!(&hello[..], b"hello");
/// ```
#[derive(Clone)]
pub struct Bytes(BytesSource);

#[derive(Clone)]
enum BytesSource {
    Small { len: u8, bytes: [u8; SMALL_BYTES_MAX] },
    Shared(Chunk),
    Owned(Vec<u8>),
}

impl Bytes {
    /// Returns the bytes as a chunk: a chunk is returned as it is, a vector is converted without a copy.
    pub fn into_chunk(self) -> Chunk {
        match self.0 {
            BytesSource::Small { len, bytes } => Chunk::from(bytes[..usize::from(len)].to_vec()),
            BytesSource::Shared(chunk) => chunk,
            BytesSource::Owned(vec) => Chunk::from(vec),
        }
    }

    /// Returns the bytes as a vector: a vector is returned as it is, a chunk is copied.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            BytesSource::Small { len, bytes } => bytes[..usize::from(len)].to_vec(),
            BytesSource::Shared(chunk) => chunk.to_vec(),
            BytesSource::Owned(vec) => vec,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            BytesSource::Small { len, bytes } => &bytes[..usize::from(*len)],
            BytesSource::Shared(chunk) => chunk,
            BytesSource::Owned(vec) => vec,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes(BytesSource::Owned(Vec::new()))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(BytesSource::Owned(bytes))
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        if bytes.len() > SMALL_BYTES_MAX {
            return Bytes(BytesSource::Owned(bytes.to_vec()));
        }
        let mut small = [0; SMALL_BYTES_MAX];
        small[..bytes.len()].copy_from_slice(bytes);
        Bytes(BytesSource::Small { len: bytes.len() as u8, bytes: small })
    }
}

impl From<Chunk> for Bytes {
    fn from(chunk: Chunk) -> Bytes {
        Bytes(BytesSource::Shared(chunk))
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        AsBytes(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        FromBytes::deserialize(deserializer).map(|bytes| Bytes::from(bytes.0.into_owned()))
    }
}

/// Serializes a byte string, independent of the type that owns it.
struct AsBytes<'b>(&'b [u8]);

impl Serialize for AsBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[cfg(feature = "json")]
        if serializer.is_human_readable() {
            use base64::Engine as _;
            return serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(self.0));
        }
        serializer.serialize_bytes(self.0)
    }
}

/// A deserialized byte string, borrowed from the body where possible.
struct FromBytes<'de>(Cow<'de, [u8]>);

impl<'de> Deserialize<'de> for FromBytes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FromBytes<'de>, D::Error> {
        if deserializer.is_human_readable() {
            // Text, a list of numbers or null: only the format knows which.
            deserializer.deserialize_any(BytesVisitor { is_text: true })
        } else {
            deserializer.deserialize_bytes(BytesVisitor { is_text: false })
        }
    }
}

struct BytesVisitor {
    is_text: bool,
}

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = FromBytes<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_text { "a byte string as base64 text" } else { "a byte string" })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<FromBytes<'de>, E> {
        if !self.is_text {
            return Ok(FromBytes(Cow::Owned(text.as_bytes().to_vec())));
        }
        #[cfg(feature = "json")]
        {
            use base64::Engine as _;
            let engine = match ValueRules::current().is_proto_json() && text.contains(['-', '_']) {
                true => &PROTO_URL_SAFE,
                false if ValueRules::current().is_proto_json() => &PROTO_STANDARD,
                false => &base64::engine::general_purpose::STANDARD,
            };
            engine
                .decode(text)
                .map(|bytes| FromBytes(Cow::Owned(bytes)))
                .map_err(|error| E::custom(format_args!("expected base64 text: {error}")))
        }
        #[cfg(not(feature = "json"))]
        Err(E::custom("base64 text is read with the cargo feature `json` only"))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<FromBytes<'de>, E> {
        Ok(FromBytes(Cow::Owned(bytes.to_vec())))
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<FromBytes<'de>, E> {
        Ok(FromBytes(Cow::Borrowed(bytes)))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<FromBytes<'de>, E> {
        Ok(FromBytes(Cow::Owned(bytes)))
    }

    /// Go writes a nil slice as null.
    fn visit_unit<E: Error>(self) -> Result<FromBytes<'de>, E> {
        Ok(FromBytes(Cow::Borrowed(&[])))
    }

    fn visit_none<E: Error>(self) -> Result<FromBytes<'de>, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<FromBytes<'de>, A::Error> {
        let mut bytes = Vec::with_capacity(access.size_hint().unwrap_or(0).min(SHARE_BYTES_MIN));
        while let Some(byte) = access.next_element()? {
            bytes.push(byte);
        }
        Ok(FromBytes(Cow::Owned(bytes)))
    }
}

/// protobuf's JSON mapping accepts both alphabets, with or without padding.
#[cfg(feature = "json")]
const PROTO_BASE64: base64::engine::GeneralPurposeConfig = base64::engine::GeneralPurposeConfig::new()
    .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
#[cfg(feature = "json")]
const PROTO_STANDARD: base64::engine::GeneralPurpose =
    base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, PROTO_BASE64);
#[cfg(feature = "json")]
const PROTO_URL_SAFE: base64::engine::GeneralPurpose =
    base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, PROTO_BASE64);

fn accepts_bytes(codec: Codec) -> bool {
    codec == Codec::Raw || codec.takes_any_type() || codec == Codec::Protobuf && codec.is_compiled_in()
}

fn decode_bytes(codec: Codec, body: &[u8]) -> Result<Cow<'_, [u8]>, CodecError> {
    if codec == Codec::Raw {
        return Ok(Cow::Borrowed(body));
    }
    decode_other(codec, body)
}

/// Kept apart, so that a raw body is found by one comparison.
#[inline(never)]
fn decode_other(codec: Codec, body: &[u8]) -> Result<Cow<'_, [u8]>, CodecError> {
    match codec {
        #[cfg(feature = "protobuf")]
        Codec::Protobuf => Ok(super::protobuf::decode_bytes(body)?),
        other => decode::<FromBytes<'_>>(other, body).map(|bytes| bytes.0),
    }
}

fn encode_bytes(bytes: &[u8], codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if codec == Codec::Raw {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    encode_other(bytes, codec, out)
}

/// Kept apart, as [`decode_other`] is.
#[inline(never)]
fn encode_other(bytes: &[u8], codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
    match codec {
        #[cfg(feature = "gob")]
        Codec::Gob => super::gob::encode_bytes(bytes, out),
        #[cfg(feature = "protobuf")]
        Codec::Protobuf => {
            super::protobuf::encode_bytes(bytes, out);
            Ok(())
        }
        other => encode(other, &AsBytes(bytes), out),
    }
}

/// Borrowed byte strings: a handler takes `&[u8]` and returns a vector.
///
/// ```
/// use coreloop::codec::{Argument, Body, Codec, Raw};
/// let bytes = Raw::decode(Codec::Raw, Body::Slice(b"as it is")).unwrap();
/// assert_eq!(&*bytes, b"as it is");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Argument for Raw {
    type Value<'a> = Cow<'a, [u8]>;

    fn accepts(codec: Codec) -> bool {
        accepts_bytes(codec)
    }

    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<Cow<'a, [u8]>, CodecError> {
        decode_bytes(codec, body.as_slice())
    }

    fn describe() -> Result<Description, DescribeError> {
        Ok(Description::new(Shape::Bytes))
    }
}

impl ArgumentEncode for Raw {
    type Given = [u8];

    fn encode(value: &[u8], codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_bytes(value, codec, out)
    }
}

impl ReplyEncode for Raw {
    type Value = Vec<u8>;

    fn accepts(codec: Codec) -> bool {
        accepts_bytes(codec)
    }

    fn encode(value: Vec<u8>, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        RawBytes::encode_owned(Bytes::from(value), codec, out)
    }

    fn describe() -> Result<Description, DescribeError> {
        Ok(Description::new(Shape::Bytes))
    }
}

impl ReplyDecode for Raw {
    fn decode(codec: Codec, body: &[u8]) -> Result<Vec<u8>, CodecError> {
        decode_bytes(codec, body).map(Cow::into_owned)
    }
}

/// Shared byte strings: a handler takes an owned [`Bytes`], without a copy where the body is a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawBytes;

impl RawBytes {
    fn encode_owned(value: Bytes, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        match (codec, value.0) {
            (Codec::Raw, BytesSource::Shared(chunk)) => Ok(Some(chunk)),
            (Codec::Raw, BytesSource::Owned(vec)) if vec.len() >= SHARE_BYTES_MIN => {
                Ok(Some(Chunk::from(vec)))
            }
            (_, BytesSource::Small { len, bytes }) => {
                encode_bytes(&bytes[..usize::from(len)], codec, out).map(|()| None)
            }
            (_, BytesSource::Shared(chunk)) => encode_bytes(&chunk, codec, out).map(|()| None),
            (_, BytesSource::Owned(vec)) => encode_bytes(&vec, codec, out).map(|()| None),
        }
    }
}

impl Argument for RawBytes {
    type Value<'a> = Bytes;

    fn accepts(codec: Codec) -> bool {
        accepts_bytes(codec)
    }

    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<Bytes, CodecError> {
        match codec {
            Codec::Raw => Ok(match body {
                Body::Slice(bytes) => Bytes::from(bytes),
                Body::Chunk(chunk) => Bytes::from(chunk.clone()),
            }),
            other => decode_bytes(other, body.as_slice()).map(|bytes| Bytes::from(bytes.into_owned())),
        }
    }

    fn describe() -> Result<Description, DescribeError> {
        Ok(Description::new(Shape::Bytes))
    }
}

impl ArgumentEncode for RawBytes {
    type Given = [u8];

    fn encode(value: &[u8], codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_bytes(value, codec, out)
    }
}

impl ReplyEncode for RawBytes {
    type Value = Bytes;

    fn accepts(codec: Codec) -> bool {
        accepts_bytes(codec)
    }

    fn encode(value: Bytes, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        RawBytes::encode_owned(value, codec, out)
    }

    fn describe() -> Result<Description, DescribeError> {
        Ok(Description::new(Shape::Bytes))
    }
}

impl ReplyDecode for RawBytes {
    fn decode(codec: Codec, body: &[u8]) -> Result<Bytes, CodecError> {
        decode_bytes(codec, body).map(|bytes| Bytes::from(bytes.into_owned()))
    }
}

#[cfg(all(test, feature = "json", feature = "compact", feature = "messagepack"))]
mod tests {
    use super::*;

    #[test]
    fn json_has_base64_text_as_go_does() {
        // RFC 4648, section 10.
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            let mut body = Vec::new();
            encode(Codec::Json, &Bytes::from(bytes.as_bytes()), &mut body).unwrap();
            assert_eq!(body, format!("\"{text}\"").as_bytes());
            assert_eq!(decode::<Bytes>(Codec::Json, &body).unwrap(), Bytes::from(bytes.as_bytes()));
        }
        assert_eq!(decode::<Bytes>(Codec::Json, b"[1, 255]").unwrap(), Bytes::from(vec![1, 255]));
        assert_eq!(decode::<Bytes>(Codec::Json, b"null").unwrap(), Bytes::default());
        for wrong in ["\"Zg\"", "\"Zg=\"", "\"Zh==\"", "\"Z-_=\"", "\"Zg==\\n\"", "[256]", "7"] {
            assert!(decode::<Bytes>(Codec::Json, wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn raw_is_the_body_itself_and_is_not_copied() {
        let body = b"any bytes \xff";
        let borrowed = <Raw as Argument>::decode(Codec::Raw, Body::Slice(body)).unwrap();
        assert!(std::ptr::eq(borrowed.as_ptr(), body.as_ptr()));
        let chunk = Chunk::from(body.to_vec());
        let shared = <RawBytes as Argument>::decode(Codec::Raw, Body::Chunk(&chunk)).unwrap();
        assert!(std::ptr::eq(shared.as_ptr(), chunk.as_ptr()));
        let mut out = vec![1];
        let reply = <RawBytes as ReplyEncode>::encode(shared, Codec::Raw, &mut out).unwrap().unwrap();
        assert!(std::ptr::eq(reply.as_ptr(), chunk.as_ptr()));
        assert_eq!(out, [1]);
        assert_eq!(<Raw as ReplyEncode>::encode(vec![2], Codec::Raw, &mut out), Ok(None));
        assert_eq!(out, [1, 2]);
        let large = <Raw as ReplyEncode>::encode(vec![3; SHARE_BYTES_MIN], Codec::Raw, &mut out).unwrap();
        assert_eq!(large.map(|chunk| chunk.len()), Some(SHARE_BYTES_MIN));
    }

    #[test]
    fn byte_strings_round_trip_in_every_codec() {
        for codec in [Codec::Raw, Codec::Json, Codec::Compact, Codec::MessagePack] {
            let mut body = Vec::new();
            <Raw as ArgumentEncode>::encode(b"\0\xfe", codec, &mut body).unwrap();
            assert_eq!(&*<Raw as Argument>::decode(codec, Body::Slice(&body)).unwrap(), b"\0\xfe");
            assert_eq!(<RawBytes as ReplyDecode>::decode(codec, &body).unwrap(), Bytes::from(&b"\0\xfe"[..]));
            assert!(<Raw as Argument>::accepts(codec));
        }
        assert!(!<Raw as Argument>::accepts(Codec::Fixed));
        assert_eq!(<RawBytes as ReplyEncode>::describe().unwrap(), Description::of::<Bytes>().unwrap());
    }

    #[test]
    fn binary_codecs_lend_their_bytes() {
        for (codec, body) in [(Codec::Compact, &b"\x02hi"[..]), (Codec::MessagePack, b"\xc4\x02hi")] {
            let value = <Raw as Argument>::decode(codec, Body::Slice(body)).unwrap();
            assert!(matches!(value, Cow::Borrowed(b"hi")), "{codec}");
        }
    }
}
