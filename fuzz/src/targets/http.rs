//! HTTP, on the server's and the client's side.

use std::sync::Arc;
use std::time::Instant;

use coreloop::bufpool::{Pool, PoolConfig, WriteQueue};
use coreloop::config::Limits;
use coreloop::conn::{Conn, NextMessage};
use coreloop::message::{
    Message, Metadata, Outgoing, OutgoingCall, OutgoingData, OutgoingReply, Refusal, ReplyExtras, Request,
    SendBody, method_hash,
};
use coreloop::status::{Code, Detail};
use coreloop::wire::{
    Broken, DirectoryEntry, Http, HttpClient, HttpMethod, MethodDirectory, Out, Protocol, Received, RoutesAt,
    ServerContext, StreamSupport,
};

use super::connection::spans_of;
use super::{BODY_MAX, cut, pieces_of};

/// The longest accepted head.
const HEAD_MAX: usize = 512;
/// The longest head that a client accepts; the fields are kept as metadata.
const CLIENT_HEAD_MAX: usize = 64 << 10;
/// Whether `100 Continue` is sent depends on the bytes that have arrived, so it is not part of the comparison.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Extras of the refusals: a number, entries that are fields, entries that are none, and a detail.
fn refusal_extras() -> ReplyExtras {
    let mut extras = ReplyExtras::retry_after(1500);
    extras.details = vec![Detail::new("a.B").form(2, b"{}".to_vec()).form(6, vec![8, 1])];
    for (key, value) in [("a", &b"b"[..]), ("a b", b"\n")] {
        extras.set_header(key, value).expect("it fits");
        extras.set_trailer(key, value).expect("it fits");
    }
    extras
}

struct Fuzzed;

impl MethodDirectory for Fuzzed {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let (is_idempotent, streams) = match name {
            "A.B" => (false, StreamSupport::Unary),
            "A.G" => (true, StreamSupport::Unary),
            "A.S" => (true, StreamSupport::ResultOnly),
            _ => return None,
        };
        Some(DirectoryEntry { hash: method_hash(name), is_idempotent, streams, takes_several: false })
    }

    fn has_service(&self, service: &str) -> bool {
        service == "A"
    }

    fn routes_at(&self, method: &str, path: &str) -> RoutesAt {
        let mut found = RoutesAt::default();
        if path == "/R" {
            found.allowed.insert(HttpMethod::Get);
            found.allowed.insert(HttpMethod::Post);
            found.hash = matches!(method, "GET" | "HEAD" | "POST").then_some(7);
        }
        found
    }

    fn date(&self) -> [u8; 29] {
        *b"Sun, 06 Nov 1994 08:49:37 GMT"
    }
}

/// The messages that one side received, and the bytes that it sent.
#[derive(Debug, Default, PartialEq)]
struct HttpTrace {
    received: Vec<(Message, Vec<u8>)>,
    sent: Vec<u8>,
    broken: Option<Broken>,
    has_ended: bool,
}

/// Runs one side, answering with `answer`; asserts that memory other than the held bytes stays within bounds.
fn trace<'a, W: Protocol<Message = Message>>(
    mut wire: W,
    head_max: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
    begin: impl Fn(&mut W, &mut Out<'_>),
    answer: impl Fn(&mut W, &Message, &[u8], &mut Out<'_>),
) -> HttpTrace {
    let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
    let (mut trace_so_far, mut held, mut bytes_min) = (HttpTrace::default(), Vec::new(), 0);
    begin(&mut wire, &mut Out { queue: &mut queue, pool: &mut pool });
    queue.clear(&mut pool);
    for piece in pieces {
        held.extend_from_slice(piece);
        while trace_so_far.broken.is_none() && !trace_so_far.has_ended && held.len() >= bytes_min {
            bytes_min = 0;
            match wire.receive(&held, &mut Out { queue: &mut queue, pool: &mut pool }) {
                Received::Message { mut message, consumed } => {
                    let mut bytes = Vec::new();
                    for span in spans_of(&message) {
                        bytes.push(b'|');
                        let from = if span.is_scratch() { wire.scratch() } else { &held[..consumed] };
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
                    trace_so_far.received.push((message, bytes));
                    held.drain(..consumed);
                }
                Received::Skip { consumed } => {
                    assert!(consumed > 0);
                    held.drain(..consumed);
                }
                Received::NeedMore { bytes_min: needed } => {
                    assert!(needed > held.len() && needed <= (64 << 10) + 1);
                    bytes_min = needed;
                }
                Received::Broken(why) => trace_so_far.broken = Some(why),
                Received::End => trace_so_far.has_ended = true,
            }
            assert!(wire.scratch().len() <= head_max + HEAD_MAX + BODY_MAX + 256);
        }
        while let Some(first) = queue.first() {
            let len = first.len();
            if first != CONTINUE {
                trace_so_far.sent.extend_from_slice(first);
            }
            queue.written(&mut pool, len);
        }
        while let Some(at) = trace_so_far.sent.windows(CONTINUE.len()).position(|window| window == CONTINUE) {
            trace_so_far.sent.drain(at..at + CONTINUE.len());
        }
    }
    trace_so_far
}

fn server_trace<'a>(side: &Arc<ServerContext>, pieces: impl Iterator<Item = &'a [u8]>) -> HttpTrace {
    let answer = |http: &mut Http, message: &Message, body: &[u8], out: &mut Out<'_>| match message {
        Message::Request(Request { id, .. }) | Message::Refused(Refusal { id, .. }) => {
            if http.stream_support() == StreamSupport::ResultOnly {
                let body = SendBody::Bytes(body);
                http.send(Outgoing::Data(OutgoingData { id: *id, codec: 2, compressed: false, body }), out);
            }
            let code = if matches!(message, Message::Request(_)) { Code::Ok } else { Code::Internal };
            let extras = refusal_extras();
            let extras = if code == Code::Ok { None } else { Some(&extras) };
            let (codec, compressed, queue_us, handler_us) = (2, false, 1, 2);
            let body = SendBody::Bytes(body);
            let id = *id;
            http.send(
                Outgoing::Reply(OutgoingReply {
                    id,
                    codec,
                    compressed,
                    code,
                    queue_us,
                    handler_us,
                    extras,
                    body,
                }),
                out,
            );
        }
        other => panic!("a server received {other:?}"),
    };
    trace(Http::server(side.clone()), HEAD_MAX, pieces, |_, _| {}, answer)
}

fn client_trace<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> HttpTrace {
    let begin = |client: &mut HttpClient, out: &mut Out<'_>| {
        for id in 0..4 {
            let (name, codec, compressed, schema, time_left_us) = ("A.B", 2, false, 0, 0);
            let body = SendBody::Bytes(b"1");
            let (method, one_way, metadata) = (0, id == 1, &[][..]);
            client.send(
                Outgoing::Request(OutgoingCall {
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
    trace(HttpClient::new("a".to_owned(), BODY_MAX), CLIENT_HEAD_MAX, pieces, begin, |_, _, _, _| {})
}

/// Passes bytes to a server's and a client's side of HTTP. The first byte counts cuts, as in [`super::frame`].
pub fn http(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let pieces = || pieces_of(stream, &cuts);
    let mut limits = Limits::default();
    limits.frame_bytes_max = BODY_MAX;
    limits.http_head_bytes_max = HEAD_MAX;
    let cors_origins = vec!["http://a".to_owned()];
    let side = Arc::new(ServerContext {
        cors_origins,
        site: Box::new(Fuzzed),
        ..ServerContext::bare(limits.clone())
    });
    let whole = server_trace(&side, [stream].into_iter());
    assert_eq!(server_trace(&side, pieces()), whole);
    assert_eq!(server_trace(&side, stream.chunks(1)), whole);
    let whole = client_trace([stream].into_iter());
    assert_eq!(client_trace(pieces()), whole);
    assert_eq!(client_trace(stream.chunks(1)), whole);
    through_a_connection(&limits, side, pieces());
}

/// Passes bytes through a connection. Asserts that memory stays within bounds and is returned.
fn through_a_connection<'a>(
    limits: &Limits,
    side: Arc<ServerContext>,
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
            conn.on_bytes(n, now);
            arrived += n;
            piece = &piece[n..];
        }
        loop {
            let (message, consumed) = match conn.next_message(&mut pool, now, limits) {
                NextMessage::Message { message, consumed } => (message, consumed),
                NextMessage::Answered | NextMessage::Unread => continue,
                NextMessage::Nothing => break,
            };
            drop(message);
            conn.consume(consumed);
        }
        conn.settle(&mut pool, now);
        conn.check(limits);
        let waiting = conn.out_len() + conn.protocol().held_bytes();
        assert!(pool.stats().outstanding_bytes as usize <= 4 * arrived + 2 * waiting + 8 * 1024);
        assert!(conn.protocol().held_bytes() <= 64 * arrived, "{} wait", conn.protocol().held_bytes());
    }
    conn.release(&mut pool);
    assert_eq!(pool.stats().outstanding, 0);
}
