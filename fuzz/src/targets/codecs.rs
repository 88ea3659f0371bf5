//! Targets for bodies in every codec, and for compressed bodies.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use coreloop::codec::compress::{compress, decompress as decompress_into};
use coreloop::codec::gob::dynamic::decode_json;
use coreloop::codec::gob::stream::{DefinitionLimits, Definitions, ReceivedItem, StreamError};
use coreloop::codec::{self, Argument, Body, Bytes, Codec, Fixed, Raw};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A user, as in the demo services.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)]
pub struct User {
    #[serde(rename = "ID")]
    pub id: u64,
    pub name: String,
    pub age: u8,
    pub email: String,
    pub tags: Vec<String>,
    pub scores: BTreeMap<String, f64>,
}

/// One field of each kind that serde has.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Everything {
    Unit,
    Numbers(i8, u128, i64, f32),
    List(Vec<Everything>),
    Fields { maybe: Option<Box<Everything>>, letter: char, bytes: Bytes },
}

/// Asserts that a decoded value, encoded and decoded again, has the same bytes.
fn stable<T: DeserializeOwned + Serialize + Debug + 'static>(codec: Codec, input: &[u8]) {
    let Ok(value) = codec::decode::<T>(codec, input) else { return };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    codec::encode_plain(codec, &value, &mut first).unwrap();
    let again = codec::decode::<T>(codec, &first)
        .unwrap_or_else(|error| panic!("{value:?} was written as {}: {error}", first.escape_ascii()));
    codec::encode_plain(codec, &again, &mut second).unwrap();
    assert_eq!(first, second, "{value:?} became {again:?}");
}

fn any_type(codec: Codec, input: &[u8]) {
    stable::<User>(codec, input);
    stable::<Vec<User>>(codec, input);
    stable::<Everything>(codec, input);
    stable::<(i64, i64)>(codec, input);
    stable::<String>(codec, input);
    stable::<Bytes>(codec, input);
    stable::<f64>(codec, input);
    stable::<BTreeMap<String, Vec<Option<i32>>>>(codec, input);
    // Counts that must reserve nothing: lists of nothing, maps of nothing.
    let _ = codec::decode::<Vec<()>>(codec, input);
    let _ = codec::decode::<HashMap<u64, ()>>(codec, input);
    if codec.is_self_describing() {
        let _ = codec::decode::<IgnoredAny>(codec, input);
    }
    if let Ok(list) = codec::decode::<Vec<u64>>(codec, input) {
        assert!(list.capacity() <= 2 * input.len() + 16, "{} for {} bytes", list.capacity(), input.len());
    }
}

/// Decodes JSON bodies.
pub fn codec_json(input: &[u8]) {
    any_type(Codec::Json, input);
}

/// Decodes compact bodies.
pub fn codec_compact(input: &[u8]) {
    any_type(Codec::Compact, input);
}

/// Decodes MessagePack bodies.
pub fn codec_messagepack(input: &[u8]) {
    any_type(Codec::MessagePack, input);
}

/// Decodes gob bodies, also as JSON without a type, and the same bytes as a stream of a connection, whole and byte by
/// byte.
pub fn codec_gob(input: &[u8]) {
    any_type(Codec::Gob, input);
    shown(input);
    let whole = taken(input, [input.len()].into_iter());
    assert_eq!(taken(input, 1..=input.len()), whole);
    for body in whole.0 {
        any_type(Codec::Gob, &body);
        shown(&body);
    }
}

/// Shows a body as JSON. It is not encoded as gob again: each new type would take one of the process's ids
/// permanently.
fn shown(body: &[u8]) {
    if let Ok(value) = decode_json(body) {
        // The size of the output is bounded by the size of the input.
        assert!(value.to_string().len() <= (8 << 20) + 512 * body.len(), "{} bytes", body.len());
    }
}

/// Returns the bodies in a stream that grows step by step, and the error that broke it, if any.
fn taken(stream: &[u8], ends: impl Iterator<Item = usize>) -> (Vec<Vec<u8>>, Option<StreamError>) {
    let mut definitions = Definitions::new(DefinitionLimits::default());
    let (mut at, mut bodies, mut bytes_min) = (0, Vec::new(), 0);
    for end in ends {
        while end - at >= bytes_min {
            match definitions.take(&stream[at..end], 2048) {
                Ok(ReceivedItem::Definition { bytes }) => {
                    at += bytes;
                    bytes_min = 0;
                }
                Ok(ReceivedItem::Value { bytes, definitions, .. }) => {
                    bodies.push([&definitions, &stream[at..at + bytes]].concat());
                    at += bytes;
                    bytes_min = 0;
                }
                Ok(ReceivedItem::NeedMore { bytes_min: needed }) => {
                    assert!(needed > end - at);
                    bytes_min = needed;
                }
                Err(error) => return (bodies, Some(error)),
            }
        }
    }
    (bodies, None)
}

/// The example of the zerocopy article: 41 bytes.
#[derive(
    zerocopy::FromBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
    zerocopy::IntoBytes,
    Deserialize,
)]
#[serde(from = "(u64, [u8; 32], u8)")]
#[repr(C)]
pub struct Person {
    /// The number.
    pub id: zerocopy::little_endian::U64,
    /// The name, padded.
    pub name: [u8; 32],
    /// The age in years.
    pub age: u8,
}

impl From<(u64, [u8; 32], u8)> for Person {
    fn from((id, name, age): (u64, [u8; 32], u8)) -> Person {
        Person { id: id.into(), name, age }
    }
}

/// Decodes fixed-layout and raw bodies, which are borrowed from the input.
pub fn codec_fixed_raw(input: &[u8]) {
    match Fixed::<Person>::decode(Codec::Fixed, Body::Slice(input)) {
        Ok(person) => assert_eq!(zerocopy::IntoBytes::as_bytes(&*person), input),
        Err(_) => assert_ne!(input.len(), size_of::<Person>()),
    }
    let raw = <Raw as Argument>::decode(Codec::Raw, Body::Slice(input)).unwrap();
    assert_eq!(raw, input);
    for codec in [Codec::Json, Codec::Compact, Codec::MessagePack] {
        let _ = Fixed::<Person>::decode(codec, Body::Slice(input));
        let _ = <Raw as Argument>::decode(codec, Body::Slice(input));
    }
}

/// Decompresses bodies: the output stays within its limit, and compresses back.
pub fn decompress(input: &[u8]) {
    const OUTPUT_MAX: usize = 1 << 20;
    let mut out = Vec::new();
    let outcome = decompress_into(input, OUTPUT_MAX, &mut out);
    assert!(out.capacity() <= OUTPUT_MAX.min(255 * input.len() + 64));
    match outcome {
        Ok(()) => {
            let (mut small, mut again) = (Vec::new(), Vec::new());
            compress(&out, &mut small).unwrap();
            decompress_into(&small, OUTPUT_MAX, &mut again).unwrap();
            assert_eq!(again, out);
        }
        Err(_) => assert!(out.is_empty()),
    }
}
