//! The protocol without sockets: a rig that acts as the client, the connection and the application.

mod bounds;
mod calls;
mod faults;

use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_bufpool::{Pool, PoolConfig, WriteQueue};

use super::*;
use crate::message::{
    HttpResponseHead, Metadata, OutgoingReply, Refusal, ReplyExtras, SendBody, Span, method_hash,
};
use crate::status::{Code, Detail};
use crate::wire::http2::frame::FRAME_HEAD_BYTES;
use crate::wire::http2::hpack::{FieldList, HpackDecoder, HpackEncoder, Indexing};
use crate::wire::http2::{FrameHead, Http2Code, Http2Frame, PREFACE, SettingEntries};
use crate::wire::{Broken, DirectoryEntry, MethodDirectory, StreamSupport};

/// The hash of the page at `/healthz`.
const PAGE: u32 = 8;
/// The largest message of these tests.
const MESSAGE_MAX: usize = 100_000;

struct GrpcTestDirectory;

impl MethodDirectory for GrpcTestDirectory {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let is_known = matches!(name, "Echo.Echo" | "Echo.Other" | "Echo.Chat");
        is_known.then_some(DirectoryEntry {
            hash: method_hash(name),
            takes_several: false,
            is_idempotent: false,
            streams: if name == "Echo.Chat" { StreamSupport::Both } else { StreamSupport::Unary },
        })
    }

    fn has_service(&self, service: &str) -> bool {
        service == "Echo"
    }

    fn page(&self, path: &str) -> Option<u32> {
        (path == "/healthz").then_some(PAGE)
    }

    fn date(&self) -> [u8; 29] {
        *b"Sun, 06 Nov 1994 08:49:37 GMT"
    }
}

fn limits() -> Limits {
    Limits { frame_bytes_max: MESSAGE_MAX, in_flight_bytes_max: 3 * MESSAGE_MAX, ..Limits::default() }
}

/// A message for the application, with the bytes of its spans.
#[derive(Clone, Debug, PartialEq)]
struct ReceivedMessage {
    message: Message,
    metadata: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// Everything that was written for one stream.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    head: Vec<(String, String)>,
    data: Vec<u8>,
    trailers: Vec<(String, String)>,
    is_ended: bool,
    reset: Option<Http2Code>,
}

impl Answer {
    fn field<'a>(&'a self, name: &str) -> Option<&'a str> {
        let mut fields = self.head.iter().chain(&self.trailers);
        fields.find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn status(&self) -> Option<&str> {
        self.field("grpc-status")
    }
}

struct Rig {
    wire: GrpcServer,
    limits: Limits,
    pool: Pool,
    queue: WriteQueue,
    encoder: HpackEncoder,
    decoder: HpackDecoder,
    now: Instant,
    unread: Vec<u8>,
    bytes_min: usize,
    received: Vec<ReceivedMessage>,
    broken: Option<Broken>,
}

/// The fields of an ordinary call.
const CALL: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/Echo/Echo"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];

/// The fields of an ordinary call, with this value in place of the known one, or an additional field.
fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut fields: Vec<(&str, &str)> = CALL.to_vec();
    match fields.iter_mut().find(|field| field.0 == name) {
        Some(field) => field.1 = value,
        None => fields.push((name, value)),
    }
    fields
}

/// A message with its prefix.
fn message(bytes: &[u8]) -> Vec<u8> {
    let mut prefixed = vec![0];
    prefixed.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    prefixed.extend_from_slice(bytes);
    prefixed
}

fn data(stream: u32, data: &[u8], is_last: bool) -> Http2Frame<'_> {
    Http2Frame::Data { stream, data, padding: None, is_last }
}

fn print(frames: &[Http2Frame<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.print(&mut bytes));
    bytes
}

impl Rig {
    fn new() -> Rig {
        Rig::with(limits())
    }

    /// A connection after the exchange of SETTINGS.
    fn with(limits: Limits) -> Rig {
        let mut rig = Rig::fresh(limits);
        rig.feed(&Rig::opening());
        rig.sent();
        rig
    }

    fn fresh(limits: Limits) -> Rig {
        let context =
            ServerContext { site: Box::new(GrpcTestDirectory), ..ServerContext::bare(limits.clone()) };
        Rig {
            wire: GrpcServer::server(Arc::new(context)),
            limits,
            pool: Pool::new(PoolConfig::default()),
            queue: WriteQueue::new(),
            encoder: HpackEncoder::new(1024, 4096, true),
            decoder: HpackDecoder::new(4096),
            now: Instant::now(),
            unread: Vec::new(),
            bytes_min: 0,
            received: Vec::new(),
            broken: None,
        }
    }

    /// What a client sends first.
    fn opening() -> Vec<u8> {
        let settings = Http2Frame::Settings(SettingEntries::new(&[]).unwrap());
        [&PREFACE[..], &print(&[settings, Http2Frame::SettingsAck])].concat()
    }

    fn with_out<R>(&mut self, act: impl FnOnce(&mut GrpcServer, &mut Out<'_>) -> R) -> R {
        act(&mut self.wire, &mut Out { queue: &mut self.queue, pool: &mut self.pool })
    }

    /// Passes bytes on, and answers refusals as the application does. Other messages are in `received`.
    fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while self.broken.is_none() && self.unread.len() >= self.bytes_min {
            let (now, limits) = (self.now, self.limits.clone());
            let unread = std::mem::take(&mut self.unread);
            let received = self.with_out(|wire, out| {
                wire.on_time(now, &limits, out);
                wire.receive(&unread, out)
            });
            self.unread = unread;
            self.bytes_min = 0;
            match received {
                Received::Message { message, consumed } => {
                    self.take(message);
                    self.unread.drain(..consumed);
                }
                Received::Skip { consumed } => drop(self.unread.drain(..consumed)),
                Received::NeedMore { bytes_min } => {
                    assert!(bytes_min > self.unread.len());
                    self.bytes_min = bytes_min;
                }
                Received::Broken(why) => self.broken = Some(why),
                Received::End => panic!("HTTP/2 has no such end"),
            }
        }
    }

    fn take(&mut self, message: Message) {
        let bytes = |rig: &Rig, span: Span| match span.is_scratch() {
            true => rig.wire.scratch()[span.range()].to_vec(),
            false => rig.unread[span.range()].to_vec(),
        };
        let (mut metadata, mut body) = (Vec::new(), Vec::new());
        if let Message::Request(request) = &message {
            let entries = bytes(self, request.metadata);
            let entries = Metadata::check(&entries).unwrap();
            metadata = entries.iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
            body = bytes(self, request.body);
        }
        if let Message::Refused(Refusal { id, codec, code, message, .. }) = &message {
            self.reply(*id, *codec, *code, message.as_bytes());
        }
        if let Message::Request(request) = &message
            && request.method == PAGE
        {
            self.answer_page(request.id, &metadata);
        }
        self.received.push(ReceivedMessage { message, metadata, body });
    }

    /// Answers a request for the page as the application does: without a token it is refused.
    fn answer_page(&mut self, id: u64, metadata: &[(String, Vec<u8>)]) {
        if !metadata.iter().any(|(key, _)| key == "authorization") {
            return self.reply(id, 0, Code::Unauthenticated, b"no token");
        }
        let fields = b"Content-Type: text/plain\r\nX-Odd:  a: b \r\n".to_vec();
        let http = Some(HttpResponseHead { status: 200, fields });
        let extras = ReplyExtras { http, ..ReplyExtras::default() };
        self.reply_with(id, 0, Code::Ok, Some(&extras), b"well");
    }

    fn reply(&mut self, id: u64, codec: u8, code: Code, body: &[u8]) {
        self.reply_with(id, codec, code, None, body);
    }

    fn reply_with(&mut self, id: u64, codec: u8, code: Code, extras: Option<&ReplyExtras>, body: &[u8]) {
        let body = SendBody::Bytes(body);
        let reply =
            OutgoingReply { id, codec, compressed: false, code, queue_us: 0, handler_us: 0, extras, body };
        self.with_out(|wire, out| wire.send(Outgoing::Reply(reply), out));
    }

    /// Answers a call with a message.
    fn ok(&mut self, stream: u32, body: &[u8]) {
        self.reply(u64::from(stream), 6, Code::Ok, body);
    }

    fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Add, &mut block);
        }
        block
    }

    /// Returns the bytes of HEADERS.
    fn head(&mut self, stream: u32, fields: &[(&str, &str)], is_last: bool) -> Vec<u8> {
        let block = self.block(fields);
        print(&[Http2Frame::Headers {
            stream,
            priority: None,
            fragment: &block,
            padding: None,
            is_last,
            is_end_of_block: true,
        }])
    }

    /// Sends an ordinary call.
    fn call(&mut self, stream: u32, body: &[u8]) {
        let head = self.head(stream, &CALL, false);
        self.feed(&head);
        self.feed(&print(&[data(stream, &message(body), true)]));
    }

    /// Sends a request, and returns its answer.
    fn exchange(&mut self, stream: u32, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let head = self.head(stream, fields, body.is_empty());
        self.feed(&head);
        if !body.is_empty() {
            self.feed(&print(&[data(stream, body, true)]));
        }
        self.answer(stream)
    }

    fn sent_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(first) = self.queue.first() {
            let n = first.len();
            bytes.extend_from_slice(first);
            self.queue.written(&mut self.pool, n);
        }
        bytes
    }

    /// Takes the frames that were written.
    fn sent(&mut self) -> Vec<(FrameHead, Vec<u8>)> {
        let bytes = self.sent_bytes();
        let (mut rest, mut sent) = (&bytes[..], Vec::new());
        while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() {
            let head = FrameHead::read(head);
            let (payload, after) = after.split_at(head.length as usize);
            sent.push((head, payload.to_vec()));
            rest = after;
        }
        assert!(rest.is_empty());
        sent
    }

    /// Takes what was written, all of which belongs to this stream or is credit.
    fn answer(&mut self, stream: u32) -> Answer {
        let mut answer = Answer::default();
        for (head, payload) in self.sent() {
            let frame = Http2Frame::parse(head, &payload).unwrap();
            if let Http2Frame::WindowUpdate { .. } = frame {
                continue;
            }
            assert_eq!(head.stream, stream, "{frame:?}");
            assert!(!answer.is_ended || matches!(frame, Http2Frame::Reset { .. }), "{frame:?} after the end");
            match frame {
                Http2Frame::Headers { fragment, is_last, .. } => {
                    let fields = self.fields(fragment);
                    if answer.head.is_empty() {
                        answer.head = fields;
                    } else {
                        assert!(is_last && answer.trailers.is_empty());
                        answer.trailers = fields;
                    }
                    answer.is_ended = is_last;
                }
                Http2Frame::Data { data, is_last, .. } => {
                    answer.data.extend_from_slice(data);
                    answer.is_ended = is_last;
                }
                Http2Frame::Reset { code, .. } => answer.reset = Some(code),
                other => panic!("{other:?}"),
            }
        }
        answer
    }

    fn fields(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let mut list = FieldList::new();
        self.decoder.decode(block, 1 << 20, &mut list).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        list.iter().map(|field| (text(field.name), text(field.value))).collect()
    }

    fn last(&self) -> &ReceivedMessage {
        self.received.last().expect("a message was received")
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let (now, limits) = (self.now, self.limits.clone());
        self.with_out(|wire, out| wire.on_time(now, &limits, out));
    }

    /// Asserts that the connection still serves calls.
    fn assert_serves(&mut self, stream: u32) {
        self.call(stream, b"still");
        assert_eq!((&self.last().body[..], &self.broken), (&b"still"[..], &None));
        self.ok(stream, b"here");
        let answer = self.answer(stream);
        assert_eq!((answer.data, answer.trailers.len()), (message(b"here"), 1));
    }
}
