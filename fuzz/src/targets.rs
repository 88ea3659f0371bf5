//! The fuzz targets: each takes any bytes and must neither panic, nor hold much more memory than it was given, nor
//! say something else when the same bytes come in other pieces.
//!
//! Nothing here knows the fuzzer, so that the kept corpus is run by a plain test, too.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::time::Instant;

use coreloop::bufpool::{Pool, PoolConfig};
use coreloop::codec::compress::{compress, decompress as decompress_into};
use coreloop::codec::gob::stream::{DefinitionLimits, Definitions, StreamError, Taken};
use coreloop::codec::{self, Argument, Body, Bytes, Codec, Fixed, Raw};
use coreloop::conn::{Conn, Next};
use coreloop::message::{Message, Metadata, MetadataBuf, Span};
use coreloop::wire::sniff::{Sniffed, sniff as tell};
use coreloop::wire::{Broken, Decoded, Native, Protocols, Speaks, Wire};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A target: its name, and what it does with its input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 9] = [
    ("frame", frame),
    ("metadata", metadata),
    ("sniff", sniff),
    ("codec_json", codec_json),
    ("codec_compact", codec_compact),
    ("codec_messagepack", codec_messagepack),
    ("codec_gob", codec_gob),
    ("codec_fixed_raw", codec_fixed_raw),
    ("decompress", decompress),
];

/// The largest body that the frame target takes: small, so that the fuzzer finds both sides of the limit.
pub const BODY_MAX: usize = 256;

/// What a decoder said of a stream: each message with the bytes that its spans meant.
#[derive(Debug, Default, PartialEq)]
struct Story {
    heard: Vec<(Message, Vec<u8>)>,
    broken: Option<Broken>,
    left: usize,
}

fn spans_of(message: &Message) -> Vec<Span> {
    match message {
        Message::Request(request) => {
            [Some(request.metadata), Some(request.body), request.name].into_iter().flatten().collect()
        }
        Message::Reply(reply) => vec![reply.metadata, reply.body],
        _ => Vec::new(),
    }
}

fn story<'a>(mut native: Native, pieces: impl Iterator<Item = &'a [u8]>) -> Story {
    let (mut story, mut held, mut bytes_min) = (Story::default(), Vec::new(), 0);
    for piece in pieces {
        held.extend_from_slice(piece);
        while story.broken.is_none() && held.len() >= bytes_min {
            bytes_min = 0;
            match native.decode(&held) {
                Decoded::Message { message, consumed } => {
                    let bytes =
                        spans_of(&message).into_iter().flat_map(|span| &held[..consumed][span.range()]);
                    let bytes = bytes.copied().collect();
                    story.heard.push((message, bytes));
                    held.drain(..consumed);
                }
                Decoded::Skip { consumed } => {
                    assert!(consumed > 0);
                    held.drain(..consumed);
                }
                Decoded::NeedMore { bytes_min: needed } => {
                    assert!(needed > held.len() && needed <= 32 + 65_535 + BODY_MAX);
                    bytes_min = needed;
                }
                Decoded::Broken(why) => story.broken = Some(why),
            }
        }
    }
    story.left = if story.broken.is_none() { held.len() } else { 0 };
    story
}

/// Bytes to a server's and a client's end. The first byte counts cuts, each of two bytes; then the stream.
pub fn frame(input: &[u8]) {
    let Some((cuts, rest)) = input.split_first() else { return };
    let Some((cuts, stream)) = rest.split_at_checked(2 * (*cuts as usize % 8)) else { return };
    let at = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]) as usize % (stream.len() + 1);
    let mut cuts: Vec<usize> = cuts.chunks_exact(2).map(at).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let pieces = || {
        let mut from = 0;
        cuts.iter().map(move |cut| &stream[std::mem::replace(&mut from, *cut)..*cut])
    };
    for side in [Native::server, Native::client] {
        let whole = story(side(BODY_MAX), [stream].into_iter());
        assert_eq!(story(side(BODY_MAX), pieces()), whole);
        assert_eq!(story(side(BODY_MAX), stream.chunks(1)), whole);
    }
    connection(pieces());
}

/// The same through a connection: memory stays within bounds, and comes home.
fn connection<'a>(pieces: impl Iterator<Item = &'a [u8]>) {
    let now = Instant::now();
    let limits = coreloop::config::Limits::default();
    let mut pool = Pool::new(PoolConfig::default());
    let mut conn = Conn::new(Speaks::undecided(Protocols::SERVED, BODY_MAX), now);
    let mut arrived = 0;
    for mut piece in pieces {
        arrived += piece.len();
        while !piece.is_empty() {
            let space = conn.space(&mut pool);
            let n = space.len().min(piece.len());
            space[..n].copy_from_slice(&piece[..n]);
            conn.on_bytes(n, &mut pool, now);
            piece = &piece[n..];
        }
        while let Next::Message { consumed, .. } = conn.next_message() {
            conn.consume(consumed);
        }
        conn.settle(&mut pool, now);
        conn.check(&limits);
        assert!(pool.stats().outstanding_bytes as usize <= 4 * arrived + 1024);
    }
    conn.release(&mut pool);
    assert_eq!(pool.stats().outstanding, 0);
}

/// Metadata that pass the check read the same when they are written again.
pub fn metadata(input: &[u8]) {
    let Ok(metadata) = Metadata::check(input) else { return };
    let mut again = MetadataBuf::new();
    for (key, value) in metadata.iter() {
        // Only more than a frame can hold does not fit.
        if again.push(key, value).is_err() {
            assert!(input.len() > 65_528);
            return;
        }
        assert!(metadata.find(key).is_some());
    }
    let again = Metadata::check(again.as_bytes()).unwrap();
    assert!(again.iter().eq(metadata.iter()));
}

/// Once the first bytes have told the protocol, more of them tell nothing else.
pub fn sniff(input: &[u8]) {
    let mut decided = None;
    for len in 0..=input.len().min(128) {
        match (tell(&input[..len]), decided) {
            (Sniffed::NeedMore, None) => assert!(len < 64),
            (said, None) => decided = Some(said),
            (said, Some(before)) => assert_eq!(said, before),
        }
    }
}

/// A user as the demo services have it.
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

/// One of everything that serde knows.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Everything {
    Unit,
    Numbers(i8, u128, i64, f32),
    List(Vec<Everything>),
    Fields { maybe: Option<Box<Everything>>, letter: char, bytes: Bytes },
}

/// A value that decodes is written and read again without a change in its bytes.
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
    // Counts that reserve nothing: lists of nothing, maps of nothing.
    let _ = codec::decode::<Vec<()>>(codec, input);
    let _ = codec::decode::<HashMap<u64, ()>>(codec, input);
    if codec.is_self_describing() {
        let _ = codec::decode::<IgnoredAny>(codec, input);
    }
    if let Ok(list) = codec::decode::<Vec<u64>>(codec, input) {
        assert!(list.capacity() <= 2 * input.len() + 16, "{} for {} bytes", list.capacity(), input.len());
    }
}

/// JSON bodies.
pub fn codec_json(input: &[u8]) {
    any_type(Codec::Json, input);
}

/// Compact bodies.
pub fn codec_compact(input: &[u8]) {
    any_type(Codec::Compact, input);
}

/// MessagePack bodies.
pub fn codec_messagepack(input: &[u8]) {
    any_type(Codec::MessagePack, input);
}

/// gob bodies, and the same bytes as a stream of a connection, whole and byte by byte.
pub fn codec_gob(input: &[u8]) {
    any_type(Codec::Gob, input);
    let whole = taken(input, [input.len()].into_iter());
    assert_eq!(taken(input, 1..=input.len()), whole);
    for body in whole.0 {
        any_type(Codec::Gob, &body);
    }
}

/// The bodies in a stream of which more and more is there, and whether it broke.
fn taken(stream: &[u8], ends: impl Iterator<Item = usize>) -> (Vec<Vec<u8>>, Option<StreamError>) {
    let mut definitions = Definitions::new(DefinitionLimits::default());
    let (mut at, mut bodies, mut bytes_min) = (0, Vec::new(), 0);
    for end in ends {
        while end - at >= bytes_min {
            match definitions.take(&stream[at..end], 2048) {
                Ok(Taken::Definition { bytes }) => {
                    at += bytes;
                    bytes_min = 0;
                }
                Ok(Taken::Value { bytes, definitions, .. }) => {
                    bodies.push([&definitions, &stream[at..at + bytes]].concat());
                    at += bytes;
                    bytes_min = 0;
                }
                Ok(Taken::NeedMore { bytes_min: needed }) => {
                    assert!(needed > end - at);
                    bytes_min = needed;
                }
                Err(error) => return (bodies, Some(error)),
            }
        }
    }
    (bodies, None)
}

/// The article's example: 41 bytes.
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
    /// Number.
    pub id: zerocopy::little_endian::U64,
    /// Name, padded.
    pub name: [u8; 32],
    /// Years.
    pub age: u8,
}

impl From<(u64, [u8; 32], u8)> for Person {
    fn from((id, name, age): (u64, [u8; 32], u8)) -> Person {
        Person { id: id.into(), name, age }
    }
}

/// Fixed-layout and raw bodies lie where they came.
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

/// Compressed bodies: the output keeps to its limit, and compresses back.
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
