//! HPACK and HTTP/2.

use coreloop::bufpool::{Pool, PoolConfig, WriteQueue};
use coreloop::message::SendBody;
use coreloop::wire::Out;
use coreloop::wire::http2::hpack::{FieldList, HpackDecoder, HpackEncoder, Indexing, ListFit};
use coreloop::wire::http2::{
    BodyPart, Http2Connection, Http2Event, Http2Fault, Http2Limits, Http2Step, OutField, PREFACE,
};

use super::{BODY_MAX, cut, pieces_of};

/// The limits of the decoder: small, so that the fuzzer finds both sides of them.
const LIST_MAX: usize = 512;
const TABLE_MAX: usize = 256;

/// Blocks of one connection, each with its length in front. Whatever is decoded is encoded and decoded again, with
/// the same result.
pub fn hpack(input: &[u8]) {
    let (mut decoder, mut list) = (HpackDecoder::new(TABLE_MAX), FieldList::new());
    let mut encoder =
        HpackEncoder::new(TABLE_MAX / 2, TABLE_MAX, input.first().is_some_and(|first| first & 1 == 0));
    let mut again = HpackDecoder::new(TABLE_MAX);
    let mut rest = input;
    while let Some((length, after)) = rest.split_first() {
        let (block, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        list.clear();
        let fit = decoder.decode(block, LIST_MAX, &mut list);
        assert!(list.list_bytes() <= LIST_MAX && decoder.table().size() <= TABLE_MAX);
        assert!(list.allocated_bytes() <= 8 * LIST_MAX, "{}", list.allocated_bytes());
        assert!(decoder.table().allocated_bytes() <= 8 * TABLE_MAX);
        match fit {
            Err(_) => return,
            Ok(ListFit::TooLarge) => continue,
            Ok(ListFit::Whole) => {}
        }
        let mut encoded = Vec::new();
        encoder.begin(&mut encoded);
        for field in list.iter() {
            let indexing = match (field.is_sensitive, field.value.len() % 2) {
                (true, _) => Indexing::Never,
                (false, 0) => Indexing::Add,
                (false, _) => Indexing::Omit,
            };
            encoder.field(field.name, field.value, indexing, &mut encoded);
        }
        let mut second = FieldList::new();
        assert_eq!(again.decode(&encoded, LIST_MAX, &mut second), Ok(ListFit::Whole));
        assert!(
            second.iter().map(|field| (field.name, field.value)).eq(list.iter().map(|f| (f.name, f.value)))
        );
        assert_eq!(again.table().size(), encoder.table().size());
    }
}

/// What one connection did.
#[derive(Debug, Default, PartialEq)]
struct Http2Trace {
    events: Vec<(Http2Event, Vec<u8>)>,
    written: Vec<u8>,
    failed: Option<Http2Fault>,
}

fn field(name: &'static [u8], value: &'static [u8]) -> OutField<'static> {
    OutField { name, value, indexing: Indexing::Add }
}

/// Answers an event: whole requests get a body of their own length, so that some wait for credit.
fn answer(connection: &mut Http2Connection, event: &Http2Event, out: &mut Out<'_>) {
    let (stream, ends) = match *event {
        Http2Event::Head { stream, is_last, .. } => (stream, is_last),
        Http2Event::HeadTooLarge { stream, .. } => {
            return connection.send_head(stream, &[field(b":status", b"431")], true, out);
        }
        Http2Event::Data { stream, bytes, is_last, .. } => {
            connection.consume(stream, bytes, out);
            (stream, is_last)
        }
        Http2Event::Trailers { stream } => (stream, true),
        Http2Event::Reset { stream, .. } => return connection.close(stream),
    };
    if ends {
        connection.send_head(stream, &[field(b":status", b"200")], false, out);
        let body = vec![b'x'; 40 * (stream as usize % 4096)];
        let part = BodyPart { prefix: b"\0\0\0\0\0", body: SendBody::Bytes(&body) };
        connection.send_data(stream, part, false, out);
        connection.send_trailers(stream, &[field(b"grpc-status", b"0")], out);
    }
}

fn trace<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Http2Trace {
    let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
    let mut limits = Http2Limits::default();
    limits.streams_max = 4;
    limits.stream_window_bytes = BODY_MAX as u32;
    limits.header_list_bytes_max = 512;
    limits.held_bytes_max = 4096;
    limits.nuisances_per_second = 20;
    let mut connection = Http2Connection::server(limits);
    let (mut held, mut traced) = (Vec::new(), Http2Trace::default());
    for piece in pieces {
        held.extend_from_slice(piece);
        while traced.failed.is_none() {
            let mut out = Out { queue: &mut queue, pool: &mut pool };
            let consumed = match connection.receive(&held, &mut out) {
                Http2Step::Event { event, consumed } => {
                    answer(&mut connection, &event, &mut out);
                    let data = match event {
                        Http2Event::Data { start, bytes, .. } => held[start..start + bytes].to_vec(),
                        _ => Vec::new(),
                    };
                    traced.events.push((event, data));
                    consumed
                }
                Http2Step::Skip { consumed } => consumed,
                Http2Step::NeedMore { bytes_min } => {
                    assert!(bytes_min > held.len());
                    break;
                }
                Http2Step::Failed(fault) => {
                    traced.failed = Some(fault);
                    break;
                }
            };
            held.drain(..consumed);
            assert!(connection.streams() <= 4);
            // One answer may exceed the limit.
            assert!(connection.held_bytes() <= 4096 + 40 * 4096 + 5);
            assert!(connection.allocated_bytes() <= 32 << 10, "{}", connection.allocated_bytes());
            while let Some(first) = queue.first() {
                let n = first.len();
                traced.written.extend_from_slice(first);
                queue.written(&mut pool, n);
            }
        }
    }
    while let Some(first) = queue.first() {
        let n = first.len();
        traced.written.extend_from_slice(first);
        queue.written(&mut pool, n);
    }
    connection.release(&mut pool);
    queue.clear(&mut pool);
    drop(connection);
    pool.collect();
    assert_eq!(pool.stats().outstanding, 0);
    traced
}

/// Frames after the preface, whole and in pieces.
pub fn http2(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let whole = trace([PREFACE, stream].into_iter());
    assert_eq!(trace(std::iter::once(&PREFACE[..]).chain(pieces_of(stream, &cuts))), whole);
    // Without the preface the bytes are refused, or begin one.
    let bare = trace(std::iter::once(stream));
    assert!(bare.events.is_empty() || stream.starts_with(PREFACE));
}
