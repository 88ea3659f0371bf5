//! The fuzz targets: each takes any bytes and must neither panic, nor hold much more memory than it was given, nor
//! say something else when the same bytes come in other pieces.
//!
//! Nothing here knows the fuzzer, so that the kept corpus is run by a plain test, too.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use coreloop::bufpool::{Pool, PoolConfig};
use coreloop::codec::compress::{compress, decompress as decompress_into};
use coreloop::codec::gob::dynamic::decode_json;
use coreloop::codec::gob::stream::{DefinitionLimits, Definitions, StreamError, Taken};
use coreloop::codec::{self, Argument, Body, Bytes, Codec, Fixed, Raw};
use coreloop::config::Limits;
use coreloop::conn::{Conn, Next};
use coreloop::message::{Message, Metadata, MetadataBuf, Outgoing, Reply, SendBody, Span, method_hash};
use coreloop::status::Code;
use coreloop::wire::sniff::{Sniffed, sniff as tell};
use coreloop::wire::{
    Broken, Decoded, JsonRpc, JsonRpcClient, Native, NetRpc, NetRpcClient, Page, Protocols, ServerSide, Site,
    SiteMethod, Speaks, Wire,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A target: its name, and what it does with its input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 12] = [
    ("frame", frame),
    ("metadata", metadata),
    ("jsonrpc", jsonrpc),
    ("netrpc", netrpc),
    ("sniff", sniff),
    ("codec_json", codec_json),
    ("codec_compact", codec_compact),
    ("codec_messagepack", codec_messagepack),
    ("codec_gob", codec_gob),
    ("codec_fixed_raw", codec_fixed_raw),
    ("decompress", decompress),
    ("http", http::run),
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
                Decoded::End => unreachable!("the native protocol has no last word"),
            }
        }
    }
    story.left = if story.broken.is_none() { held.len() } else { 0 };
    story
}

/// The first byte counts cuts, each of two bytes; then the stream. Gives the stream, and where it is cut.
fn cut(input: &[u8]) -> Option<(&[u8], Vec<usize>)> {
    let (cuts, rest) = input.split_first()?;
    let (cuts, stream) = rest.split_at_checked(2 * (*cuts as usize % 8))?;
    let at = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]) as usize % (stream.len() + 1);
    let mut cuts: Vec<usize> = cuts.chunks_exact(2).map(at).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    Some((stream, cuts))
}

fn pieces_of<'a>(stream: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut from = 0;
    cuts.iter().map(move |cut| &stream[std::mem::replace(&mut from, *cut)..*cut])
}

/// Bytes to a server's and a client's end.
pub fn frame(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let pieces = || pieces_of(stream, &cuts);
    for side in [Native::server, Native::client] {
        let whole = story(side(BODY_MAX), [stream].into_iter());
        assert_eq!(story(side(BODY_MAX), pieces()), whole);
        assert_eq!(story(side(BODY_MAX), stream.chunks(1)), whole);
    }
    let side = Arc::new(ServerSide::bare(small_limits()));
    connection(Speaks::undecided(Protocols::SERVED, side), pieces(), |_| None);
}

fn small_limits() -> Limits {
    Limits { frame_bytes_max: BODY_MAX, in_flight_max: 4, ..Limits::default() }
}

/// An answer: the id, the code, the body.
type Answer = (u64, Code, Vec<u8>);

/// Bytes through a connection, and `answer` to each message: memory stays within bounds, and comes home. Gives what
/// was written, and whether the connection goes on.
fn connection<'a, W>(
    wire: W,
    pieces: impl Iterator<Item = &'a [u8]>,
    answer: impl Fn((Message, Vec<u8>)) -> Option<Answer>,
) -> (Vec<u8>, bool)
where
    W: for<'b> Wire<Message = Message, Outgoing<'b> = Outgoing<'b>>,
{
    let now = Instant::now();
    let limits = small_limits();
    let mut pool = Pool::new(PoolConfig::default());
    let mut conn = Conn::new(wire, now);
    let (mut arrived, mut written) = (0, Vec::new());
    for mut piece in pieces {
        arrived += piece.len();
        while !piece.is_empty() {
            let space = conn.space(&mut pool);
            let n = space.len().min(piece.len());
            space[..n].copy_from_slice(&piece[..n]);
            conn.on_bytes(n, &mut pool, now);
            piece = &piece[n..];
        }
        while let Next::Message { message, consumed } = conn.next_message() {
            let body = spans_of(&message).into_iter().flat_map(|span| conn.bytes_of(span)).copied().collect();
            conn.consume(consumed);
            if let Some((id, code, body)) = answer((message, body)) {
                let (compressed, queue_us, handler_us) = (false, 0, 0);
                let body = SendBody::Bytes(&body);
                let reply = Reply { id, codec: 2, compressed, code, queue_us, handler_us, body };
                conn.encode(Outgoing::Reply(reply), &mut pool, now, &limits);
            }
        }
        conn.settle(&mut pool, now);
        conn.check(&limits);
        while let Some(first) = conn.to_write(&mut pool).first().map(<[u8]>::to_vec) {
            conn.on_written(first.len(), &mut pool, now, &limits);
            written.extend(first);
        }
        assert!(pool.stats().outstanding_bytes as usize <= 4 * arrived + 1024);
    }
    let goes_on = conn.wants_read();
    conn.release(&mut pool);
    assert_eq!(pool.stats().outstanding, 0);
    (written, goes_on)
}

/// A site with one method.
struct EchoSite;

impl Site for EchoSite {
    fn method(&self, name: &str) -> Option<SiteMethod> {
        let hash = method_hash(name);
        (name == "Echo.Echo").then_some(SiteMethod { hash, is_free_of_side_effects: false })
    }

    fn has_service(&self, service: &str) -> bool {
        service == "Echo"
    }

    fn page(&self, _path: &str) -> Option<Page> {
        None
    }

    fn date(&self) -> [u8; 29] {
        [b' '; 29]
    }
}

/// Answers as a method that gives back its argument.
fn echo((message, body): (Message, Vec<u8>)) -> Option<Answer> {
    match message {
        Message::Request(request) => (!request.one_way).then_some((request.id, Code::Ok, body)),
        Message::Refused(refused) => {
            (!refused.one_way).then(|| (refused.id, refused.code, refused.message.into_bytes()))
        }
        other => unreachable!("{other:?} is not for a server"),
    }
}

/// JSON-RPC, to both ends; what the server answers is JSON, and its client understands it.
pub fn jsonrpc(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let server = || {
        let (limits, cors_origins) = (small_limits(), Vec::new());
        JsonRpc::server(Arc::new(ServerSide { limits, cors_origins, site: Box::new(EchoSite) }))
    };
    let whole = connection(server(), [stream].into_iter(), echo);
    assert_eq!(connection(server(), pieces_of(stream, &cuts), echo), whole);
    assert_eq!(connection(server(), stream.chunks(1), echo), whole);
    // Two bytes of an array can be answered by an error of some hundred, and an id that is echoed twice its length.
    assert!(whole.0.len() <= 160 * stream.len() + 1024, "{} for {}", whole.0.len(), stream.len());
    for line in whole.0.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        codec::decode::<IgnoredAny>(Codec::Json, line).unwrap_or_else(|error| {
            panic!("{} is not JSON: {error}", line.escape_ascii());
        });
    }

    for stream in [stream, &whole.0] {
        let heard = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let heard = std::cell::RefCell::new(Vec::new());
            let (_, goes_on) = connection(JsonRpcClient::new(BODY_MAX), pieces, |(message, body)| {
                let Message::Reply(reply) = message else { unreachable!("{message:?} is not for a client") };
                heard.borrow_mut().push((reply.id, reply.status, body));
                None
            });
            (heard.into_inner(), goes_on)
        };
        let whole = heard(&mut [stream].into_iter());
        assert_eq!(heard(&mut stream.chunks(1)), whole);
        assert_eq!(heard(&mut stream.chunks(7)), whole);
    }
}

/// Go's net/rpc, to both ends. A type may be defined in 64 bytes at most.
pub fn netrpc(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let server = || {
        let limits = Limits { gob_types_max: 16, gob_type_bytes_max: 64, ..small_limits() };
        NetRpc::server(Arc::new(ServerSide { limits, cors_origins: Vec::new(), site: Box::new(EchoSite) }))
    };
    let whole = connection(server(), [stream].into_iter(), echo);
    assert_eq!(connection(server(), pieces_of(stream, &cuts), echo), whole);
    assert_eq!(connection(server(), stream.chunks(1), echo), whole);
    // A call of four bytes can be echoed with the definitions of all types that it may hold, and with an error of its
    // own for each.
    assert!(whole.0.len() <= (16 * 64 + 160) * stream.len() + 1024, "{} for {}", whole.0.len(), stream.len());

    for stream in [stream, &whole.0] {
        let heard = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let heard = std::cell::RefCell::new(Vec::new());
            let (_, goes_on) = connection(NetRpcClient::new(BODY_MAX), pieces, |(message, body)| {
                let Message::Reply(reply) = message else { unreachable!("{message:?} is not for a client") };
                heard.borrow_mut().push((reply.id, reply.status, body));
                None
            });
            (heard.into_inner(), goes_on)
        };
        let whole = heard(&mut [stream].into_iter());
        assert_eq!(heard(&mut stream.chunks(1)), whole);
        assert_eq!(heard(&mut stream.chunks(7)), whole);
    }
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

/// gob bodies, also as JSON without a type, and the same bytes as a stream of a connection, whole and byte by byte.
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

/// A body as JSON. It is not made into gob again: each new type would take one of the process's ids for good.
fn shown(body: &[u8]) {
    if let Ok(value) = decode_json(body) {
        // What is shown is bounded by the bytes that it is shown of.
        assert!(value.to_string().len() <= (8 << 20) + 512 * body.len(), "{} bytes", body.len());
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

/// Bytes to a server's and a client's end of HTTP. The first byte counts cuts, as in [`frame`].
pub mod http {
    use std::borrow::Cow;

    use coreloop::bufpool::WriteQueue;
    use coreloop::message::{Call, Outgoing, Reply, SendBody, method_hash};
    use coreloop::status::Code;
    use coreloop::wire::{Http, HttpClient, Out, Page, Site, SiteMethod};

    use super::*;

    /// The longest head that is taken.
    const HEAD_MAX: usize = 512;
    /// A word to go on depends on what was there already, so it is no part of the story.
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

    struct Fuzzed;

    impl Site for Fuzzed {
        fn method(&self, name: &str) -> Option<SiteMethod> {
            let is_free_of_side_effects = match name {
                "A.B" => false,
                "A.G" => true,
                _ => return None,
            };
            Some(SiteMethod { hash: method_hash(name), is_free_of_side_effects })
        }

        fn has_service(&self, service: &str) -> bool {
            service == "A"
        }

        fn page(&self, path: &str) -> Option<Page> {
            let page = Page { content_type: "text/plain", body: Cow::Borrowed(b"page") };
            (path == "/page").then_some(page)
        }

        fn date(&self) -> [u8; 29] {
            *b"Sun, 06 Nov 1994 08:49:37 GMT"
        }
    }

    /// What one end has heard, and said to it.
    #[derive(Debug, Default, PartialEq)]
    struct HttpStory {
        heard: Vec<(Message, Vec<u8>)>,
        said: Vec<u8>,
        broken: Option<Broken>,
        has_ended: bool,
    }

    /// Tells the story of one end, answering as `answer` does; memory beside the bytes at hand stays within bounds.
    fn tell_it<'a, W: Wire<Message = Message>>(
        mut wire: W,
        pieces: impl Iterator<Item = &'a [u8]>,
        begin: impl Fn(&mut W, &mut Out<'_>),
        answer: impl Fn(&mut W, &Message, &[u8], &mut Out<'_>),
    ) -> HttpStory {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        let (mut story, mut held, mut bytes_min) = (HttpStory::default(), Vec::new(), 0);
        begin(&mut wire, &mut Out { queue: &mut queue, pool: &mut pool });
        queue.clear(&mut pool);
        for piece in pieces {
            held.extend_from_slice(piece);
            while story.broken.is_none() && !story.has_ended && held.len() >= bytes_min {
                bytes_min = 0;
                match wire.decode(&held) {
                    Decoded::Message { mut message, consumed } => {
                        let mut bytes = Vec::new();
                        for span in spans_of(&message) {
                            bytes.push(b'|');
                            let from = if span.is_aside() { wire.aside() } else { &held[..consumed] };
                            bytes.extend_from_slice(&from[span.range()]);
                        }
                        answer(&mut wire, &message, &bytes, &mut Out { queue: &mut queue, pool: &mut pool });
                        match &mut message {
                            Message::Request(request) => {
                                Metadata::check(bytes[1..].split_at(request.metadata.len()).0).unwrap();
                                request.id = 0;
                                (request.metadata, request.body) = Default::default();
                            }
                            Message::Reply(reply) => (reply.metadata, reply.body) = Default::default(),
                            Message::Refused(refusal) => refusal.id = 0,
                            _ => {}
                        }
                        if !matches!(message, Message::Prepared { .. }) {
                            story.heard.push((message, bytes));
                        }
                        held.drain(..consumed);
                    }
                    Decoded::Skip { consumed } => {
                        assert!(consumed > 0);
                        held.drain(..consumed);
                    }
                    Decoded::NeedMore { bytes_min: needed } => {
                        assert!(needed > held.len() && needed <= (64 << 10) + 1);
                        bytes_min = needed;
                    }
                    Decoded::Broken(why) => story.broken = Some(why),
                    Decoded::End => story.has_ended = true,
                }
                assert!(wire.aside().len() <= 2 * HEAD_MAX + BODY_MAX + 256);
            }
            while let Some(first) = queue.first() {
                let len = first.len();
                if first != CONTINUE {
                    story.said.extend_from_slice(first);
                }
                queue.written(&mut pool, len);
            }
            while let Some(at) = story.said.windows(CONTINUE.len()).position(|window| window == CONTINUE) {
                story.said.drain(at..at + CONTINUE.len());
            }
        }
        story
    }

    fn server_story<'a>(side: &Arc<ServerSide>, pieces: impl Iterator<Item = &'a [u8]>) -> HttpStory {
        let answer = |http: &mut Http, message: &Message, body: &[u8], out: &mut Out<'_>| match message {
            Message::Prepared { id } => http.encode(Outgoing::Prepared { id: *id }, out),
            Message::Request(coreloop::message::Request { id, .. })
            | Message::Refused(coreloop::message::Refusal { id, .. }) => {
                let code = if matches!(message, Message::Request(_)) { Code::Ok } else { Code::Internal };
                let (codec, compressed, queue_us, handler_us) = (2, false, 1, 2);
                let body = SendBody::Bytes(body);
                let id = *id;
                http.encode(
                    Outgoing::Reply(Reply { id, codec, compressed, code, queue_us, handler_us, body }),
                    out,
                );
            }
            other => panic!("a server heard {other:?}"),
        };
        tell_it(Http::server(side.clone()), pieces, |_, _| {}, answer)
    }

    fn client_story<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> HttpStory {
        let begin = |client: &mut HttpClient, out: &mut Out<'_>| {
            for id in 0..4 {
                let (name, codec, compressed, schema, time_left_us) = ("A.B", 2, false, 0, 0);
                let body = SendBody::Bytes(b"1");
                let (method, one_way, metadata) = (0, id == 1, &[][..]);
                client.encode(
                    Outgoing::Request(Call {
                        id,
                        name,
                        method,
                        codec,
                        compressed,
                        one_way,
                        schema,
                        time_left_us,
                        metadata,
                        body,
                    }),
                    out,
                );
            }
        };
        tell_it(HttpClient::new("a".to_owned(), BODY_MAX), pieces, begin, |_, _, _, _| {})
    }

    /// See the module.
    pub fn run(input: &[u8]) {
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
        let limits = Limits { frame_bytes_max: BODY_MAX, http_head_bytes_max: HEAD_MAX, ..Limits::default() };
        let cors_origins = vec!["http://a".to_owned()];
        let side = Arc::new(ServerSide { limits: limits.clone(), cors_origins, site: Box::new(Fuzzed) });
        let whole = server_story(&side, [stream].into_iter());
        assert_eq!(server_story(&side, pieces()), whole);
        assert_eq!(server_story(&side, stream.chunks(1)), whole);
        let whole = client_story([stream].into_iter());
        assert_eq!(client_story(pieces()), whole);
        assert_eq!(client_story(stream.chunks(1)), whole);
        through_a_connection(&limits, side, pieces());
    }

    /// Memory stays within bounds, and comes home.
    fn through_a_connection<'a>(
        limits: &Limits,
        side: Arc<ServerSide>,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) {
        let now = Instant::now();
        let mut pool = Pool::new(PoolConfig::default());
        let mut conn = Conn::new(Http::server(side), now);
        let mut arrived = 0;
        for mut piece in pieces {
            while !piece.is_empty() && conn.wants_read() {
                let space = conn.space(&mut pool);
                let n = space.len().min(piece.len());
                space[..n].copy_from_slice(&piece[..n]);
                conn.on_bytes(n, &mut pool, now);
                arrived += n;
                piece = &piece[n..];
            }
            while let Next::Message { message, consumed } = conn.next_message() {
                if let Message::Prepared { id } = message {
                    conn.encode(Outgoing::Prepared { id }, &mut pool, now, limits);
                }
                conn.consume(consumed);
            }
            conn.settle(&mut pool, now);
            conn.check(limits);
            let waiting = conn.out_len() + conn.wire().held_bytes();
            assert!(pool.stats().outstanding_bytes as usize <= 4 * arrived + 2 * waiting + 8 * 1024);
            assert!(conn.wire().held_bytes() <= 64 * arrived, "{} wait", conn.wire().held_bytes());
        }
        conn.release(&mut pool);
        assert_eq!(pool.stats().outstanding, 0);
    }
}
