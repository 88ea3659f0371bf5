//! HTTP/1.1: a rig that acts as the connection and the app, and one test per rule.

mod client;
mod conn;
mod framing;
#[cfg(feature = "jsonrpc")]
mod json_rpc;
mod order;
mod rules;
mod split;
mod streams;
mod trailers;

use std::sync::Arc;

use coreloop_bufpool::{Pool, PoolConfig, WriteQueue};

use super::*;
use crate::config::Limits;
use crate::message::{
    HttpResponseHead, Metadata, OutgoingReply, Refusal, ReplyExtras, SendBody, Span, method_hash,
};
use crate::status::Code;
use crate::wire::{DirectoryEntry, HttpMethod, MethodDirectory, RoutesAt, StreamSupport};

/// The largest body of these tests.
const BODY_MAX: usize = 100;

/// Services with methods, one of which has a stream as its result, two pages, and routes below `/route/`.
struct HttpTestDirectory;

impl MethodDirectory for HttpTestDirectory {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let (is_idempotent, streams) = match name {
            "Arith.Multiply" | "a.b.C.Do" | "Wörter.Zählen" => (false, StreamSupport::Unary),
            "Users.Get" => (true, StreamSupport::Unary),
            "Users.Watch" => (true, StreamSupport::ResultOnly),
            _ => return None,
        };
        Some(DirectoryEntry { hash: method_hash(name), is_idempotent, streams, takes_several: false })
    }

    fn has_service(&self, service: &str) -> bool {
        matches!(service, "Arith" | "Users" | "a.b.C")
    }

    fn routes_at(&self, method: &str, path: &str) -> RoutesAt {
        let mut found = RoutesAt::default();
        if let Some(status) = page_status(path) {
            found.allowed.insert(HttpMethod::Get);
            found.hash = matches!(method, "GET" | "HEAD").then_some(u32::from(status));
        }
        if path.starts_with("/route/") {
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

/// Returns the status of the page at a path.
fn page_status(path: &str) -> Option<u16> {
    match path {
        "/page" => Some(200),
        "/down" => Some(503),
        _ => None,
    }
}

/// Returns what the app answers a request for a page with, besides its body.
fn page_extras(status: u16) -> ReplyExtras {
    let fields = b"Content-Type: text/plain\r\n".to_vec();
    ReplyExtras { http: Some(HttpResponseHead { status, fields }), ..ReplyExtras::default() }
}

fn limits() -> Limits {
    let (http_headers_max, http_head_bytes_max) = (8, 400);
    Limits { frame_bytes_max: BODY_MAX, http_headers_max, http_head_bytes_max, ..Limits::default() }
}

fn side_with(cors_origins: &[&str]) -> Arc<ServerContext> {
    let cors_origins = cors_origins.iter().map(|origin| (*origin).to_owned()).collect();
    Arc::new(ServerContext {
        cors_origins,
        site: Box::new(HttpTestDirectory),
        ..ServerContext::bare(limits())
    })
}

/// A message, and the bytes of its spans.
#[derive(Clone, Debug, PartialEq)]
struct ReceivedMessage {
    message: Message,
    metadata: Vec<u8>,
    body: Vec<u8>,
}

/// Acts as the connection around one side, and checks what it holds.
struct Rig<W> {
    wire: W,
    pool: Pool,
    queue: WriteQueue,
    held: Vec<u8>,
    bytes_min: usize,
    received: Vec<ReceivedMessage>,
    ended: bool,
    broken: Option<crate::wire::Broken>,
}

impl<W: Protocol<Message = Message> + for<'a> WireOut<'a>> Rig<W> {
    fn new(wire: W) -> Rig<W> {
        Rig {
            wire,
            pool: Pool::new(PoolConfig::default()),
            queue: WriteQueue::new(),
            held: Vec::new(),
            bytes_min: 0,
            received: Vec::new(),
            ended: false,
            broken: None,
        }
    }

    fn write_response(&mut self, outgoing: Outgoing<'_>) {
        self.wire.out(outgoing, &mut Out { queue: &mut self.queue, pool: &mut self.pool });
    }

    /// Returns the next message of the received bytes.
    fn next(&mut self) -> Option<ReceivedMessage> {
        while !self.ended && self.broken.is_none() && self.held.len() >= self.bytes_min {
            match self.wire.receive(&self.held, &mut Out { queue: &mut self.queue, pool: &mut self.pool }) {
                Received::Message { message, consumed } => {
                    let received = self.with_bytes(message);
                    self.held.drain(..consumed);
                    self.bytes_min = 0;
                    return Some(received);
                }
                Received::Skip { consumed } => {
                    self.held.drain(..consumed);
                    self.bytes_min = 0;
                }
                Received::NeedMore { bytes_min } => {
                    assert!(bytes_min > self.held.len(), "asked for bytes that were already received");
                    self.bytes_min = bytes_min;
                }
                Received::Broken(why) => self.broken = Some(why),
                Received::End => self.ended = true,
            }
        }
        None
    }

    fn with_bytes(&self, mut message: Message) -> ReceivedMessage {
        let of = |span: Span| {
            let bytes = if span.is_scratch() { self.wire.scratch() } else { &self.held[..] };
            bytes[span.range()].to_vec()
        };
        let (metadata, body) = match &mut message {
            Message::Request(request) => {
                let parts = (of(request.metadata), of(request.body));
                (request.metadata, request.body) = Default::default();
                parts
            }
            Message::Reply(reply) => {
                let parts = (of(reply.metadata), of(reply.body));
                (reply.metadata, reply.body) = Default::default();
                parts
            }
            _ => Default::default(),
        };
        ReceivedMessage { message, metadata, body }
    }

    /// Returns the bytes written since the last call.
    fn written(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(first) = self.queue.first() {
            let n = first.len();
            out.extend_from_slice(first);
            self.queue.written(&mut self.pool, n);
        }
        out
    }
}

/// `send` for protocols that share these tests.
trait WireOut<'a> {
    fn out(&mut self, outgoing: Outgoing<'a>, out: &mut Out<'_>);
}

impl<'a> WireOut<'a> for Http {
    fn out(&mut self, outgoing: Outgoing<'a>, out: &mut Out<'_>) {
        self.send(outgoing, out);
    }
}

impl<'a> WireOut<'a> for HttpClient {
    fn out(&mut self, outgoing: Outgoing<'a>, out: &mut Out<'_>) {
        self.send(outgoing, out);
    }
}

fn server() -> Rig<Http> {
    Rig::new(Http::server(side_with(&[])))
}

fn reply<'a>(id: u64, code: Code, body: &'a [u8]) -> Outgoing<'a> {
    let (codec, compressed, body) = (JSON, false, SendBody::Bytes(body));
    Outgoing::Reply(OutgoingReply {
        id,
        codec,
        compressed,
        code,
        queue_us: 12,
        handler_us: 34_567,
        extras: None,
        body,
    })
}

impl Rig<Http> {
    /// Feeds bytes and answers as the app does: the result of a call is its own body.
    fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        while let Some(received) = self.next() {
            match &received.message {
                Message::Request(request) => {
                    Metadata::check(&received.metadata).unwrap();
                    match request.method {
                        status @ (200 | 503) => self.answer_page(request.id, status as u16),
                        _ => self.write_response(reply(request.id, Code::Ok, &received.body)),
                    }
                }
                Message::Refused(refusal) => {
                    let Refusal { id, codec, code, ref message, .. } = *refusal;
                    let (compressed, queue_us, handler_us) = (false, 0, 0);
                    let body = SendBody::Bytes(message.as_bytes());
                    self.write_response(Outgoing::Reply(OutgoingReply {
                        id,
                        codec,
                        compressed,
                        code,
                        queue_us,
                        handler_us,
                        extras: None,
                        body,
                    }));
                }
                other => panic!("{other:?}"),
            }
            self.received.push(received);
        }
    }

    fn answer_page(&mut self, id: u64, status: u16) {
        let extras = page_extras(status);
        self.write_response(Outgoing::Reply(OutgoingReply {
            id,
            codec: crate::codec_number::Codec::Raw.number(),
            compressed: false,
            code: Code::Ok,
            queue_us: 0,
            handler_us: 0,
            extras: Some(&extras),
            body: SendBody::Bytes(b"# page"),
        }));
    }

    fn answers(&mut self) -> Vec<TestAnswer> {
        answers(&self.written())
    }
}

/// A reply as a lenient reader sees it.
#[derive(Clone, Debug, PartialEq)]
struct TestAnswer {
    status: u16,
    head: String,
    body: String,
}

impl TestAnswer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn closes(&self) -> bool {
        self.field("Connection") == Some("close")
    }
}

/// Splits a server's output into replies by Content-Length. HEAD must not be among the requests.
fn answers(mut bytes: &[u8]) -> Vec<TestAnswer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head that ends") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = TestAnswer { status, head, body: String::new() };
        let length = answer.field("Content-Length").map_or(0, |length| length.parse().unwrap());
        answer.body = String::from_utf8(bytes[end..end + length].to_vec()).unwrap();
        bytes = &bytes[end + length..];
        answers.push(answer);
    }
    answers
}

/// Returns a new connection's answers to these bytes, and whether it has ended.
fn ask(stream: impl AsRef<[u8]>) -> (Vec<TestAnswer>, bool) {
    let mut rig = server();
    rig.feed(stream.as_ref());
    (rig.answers(), rig.ended)
}

/// The status of each answer, and whether the connection has ended.
fn statuses(stream: impl AsRef<[u8]>) -> (Vec<u16>, bool) {
    let (answers, ended) = ask(stream);
    if ended {
        assert!(
            answers.last().is_none_or(TestAnswer::closes),
            "the last answer closes the connection: {answers:?}"
        );
    }
    (answers.into_iter().map(|answer| answer.status).collect(), ended)
}

/// A POST with this body and additional fields.
fn post(fields: &str, body: &str) -> String {
    format!(
        "POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
}
