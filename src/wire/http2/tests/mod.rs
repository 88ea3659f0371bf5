//! Tests of the connection with a peer written by hand: frames in, frames out.

mod bounds;
mod flow;
mod frames;
mod heads;
mod rules;

use coreloop_bufpool::{Pool, PoolConfig, WriteQueue};

use super::frame::{FRAME_HEAD_BYTES, FrameHead};
use super::hpack::{FieldList, HpackDecoder, HpackEncoder, Indexing};
use super::*;
use crate::message::SendBody;
use crate::wire::Out;

/// A connection and the other end of it.
pub struct Peer {
    pub connection: Http2Connection,
    pub pool: Pool,
    pub queue: WriteQueue,
    pub encoder: HpackEncoder,
    pub decoder: HpackDecoder,
    /// The fault that has ended the connection.
    pub failed: Option<Http2Fault>,
}

/// A frame that the connection has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub head: FrameHead,
    pub payload: Vec<u8>,
}

impl Sent {
    pub fn frame(&self) -> Http2Frame<'_> {
        Http2Frame::parse(self.head, &self.payload).unwrap()
    }
}

pub fn print(frames: &[Http2Frame<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.print(&mut bytes));
    bytes
}

/// The fields of an ordinary request.
pub const REQUEST: [(&str, &str); 5] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/Echo/Echo"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
];

pub fn empty_settings() -> Http2Frame<'static> {
    Http2Frame::Settings(SettingEntries::new(&[]).unwrap())
}

impl Peer {
    /// A connection that has received nothing.
    pub fn fresh(limits: Http2Limits) -> Peer {
        Peer {
            connection: Http2Connection::server(limits),
            pool: Pool::new(PoolConfig::default()),
            queue: WriteQueue::new(),
            encoder: HpackEncoder::new(4096, 4096, true),
            decoder: HpackDecoder::new(4096),
            failed: None,
        }
    }

    /// A connection after the exchange of SETTINGS.
    pub fn new() -> Peer {
        Peer::with(Http2Limits::default())
    }

    pub fn with(limits: Http2Limits) -> Peer {
        let table_bytes = limits.header_table_bytes as usize;
        let mut peer = Peer::fresh(limits);
        peer.feed(PREFACE);
        peer.frames(&[empty_settings(), Http2Frame::SettingsAck]);
        peer.encoder.set_peer_max(table_bytes, table_bytes);
        let sent = peer.sent();
        assert!(matches!(sent[0].frame(), Http2Frame::Settings(_)));
        assert!(matches!(sent[1].frame(), Http2Frame::WindowUpdate { stream: 0, .. }));
        assert_eq!(sent[2].frame(), Http2Frame::SettingsAck);
        peer
    }

    /// Passes bytes to the connection, and returns the events.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Http2Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let mut out = Out { queue: &mut self.queue, pool: &mut self.pool };
            let consumed = match self.connection.receive(bytes, &mut out) {
                Http2Step::Event { event, consumed } => {
                    events.push(event);
                    consumed
                }
                Http2Step::Skip { consumed } => consumed,
                Http2Step::NeedMore { bytes_min } => {
                    assert!(bytes_min > bytes.len());
                    panic!("{} bytes do not suffice", bytes.len());
                }
                Http2Step::Failed(fault) => {
                    self.failed = Some(fault);
                    break;
                }
            };
            bytes = &bytes[consumed..];
        }
        events
    }

    pub fn frames(&mut self, frames: &[Http2Frame<'_>]) -> Vec<Http2Event> {
        self.feed(&print(frames))
    }

    /// Encodes fields with the peer's table.
    pub fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Omit, &mut block);
        }
        block
    }

    /// Sends HEADERS.
    pub fn headers(&mut self, stream: u32, fields: &[(&str, &str)], is_last: bool) -> Vec<Http2Event> {
        let block = self.block(fields);
        self.frames(&[headers(stream, &block, is_last)])
    }

    /// Opens a stream with an ordinary request.
    pub fn open(&mut self, stream: u32, is_last: bool) {
        let events = self.headers(stream, &REQUEST, is_last);
        assert!(matches!(&events[..], [Http2Event::Head { .. }]), "{events:?} {:?}", self.failed);
    }

    pub fn data(&mut self, stream: u32, data: &[u8], is_last: bool) -> Vec<Http2Event> {
        self.frames(&[Http2Frame::Data { stream, data, padding: None, is_last }])
    }

    pub fn with_out<R>(&mut self, act: impl FnOnce(&mut Http2Connection, &mut Out<'_>) -> R) -> R {
        act(&mut self.connection, &mut Out { queue: &mut self.queue, pool: &mut self.pool })
    }

    /// Answers with a head, a body and trailers.
    pub fn answer(&mut self, stream: u32, body: &[u8]) {
        self.with_out(|connection, out| {
            connection.send_head(stream, &[field(":status", "200")], false, out);
            let part = BodyPart { prefix: &[], body: SendBody::Bytes(body) };
            connection.send_data(stream, part, false, out);
            connection.send_trailers(stream, &[field("grpc-status", "0")], out);
        });
    }

    /// Takes what the connection has written.
    pub fn sent(&mut self) -> Vec<Sent> {
        let mut bytes = Vec::new();
        while let Some(first) = self.queue.first() {
            let n = first.len();
            bytes.extend_from_slice(first);
            self.queue.written(&mut self.pool, n);
        }
        let (mut rest, mut sent) = (&bytes[..], Vec::new());
        while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() {
            let head = FrameHead::read(head);
            let (payload, after) = after.split_at(head.length as usize);
            sent.push(Sent { head, payload: payload.to_vec() });
            rest = after;
        }
        assert!(rest.is_empty());
        sent
    }

    /// Decodes the fields of a block that the connection has written.
    pub fn fields(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let mut list = FieldList::new();
        self.decoder.decode(block, 1 << 20, &mut list).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        list.iter().map(|field| (text(field.name), text(field.value))).collect()
    }

    /// Asserts that the connection has ended with this code, in the fault and on the wire.
    pub fn assert_failed(&mut self, code: Http2Code) {
        match self.failed {
            Some(Http2Fault::Connection { code: found, .. }) => assert_eq!(found, code, "{:?}", self.failed),
            other => panic!("expected {code}, found {other:?}"),
        }
        let sent = self.sent();
        let Some(Http2Frame::GoAway { code: found, .. }) = sent.last().map(Sent::frame) else {
            panic!("no GOAWAY: {sent:?}")
        };
        assert_eq!(found, code);
        self.feed(b"more");
        assert!(self.sent().is_empty());
    }

    /// Asserts that the last frame written is this RST_STREAM, and that the connection continues.
    pub fn assert_reset(&mut self, stream: u32, code: Http2Code) {
        assert_eq!(self.failed, None);
        let sent = self.sent();
        assert_eq!(sent.last().map(Sent::frame), Some(Http2Frame::Reset { stream, code }), "{sent:?}");
        self.assert_continues();
    }

    pub fn assert_continues(&mut self) {
        self.frames(&[Http2Frame::Ping { is_ack: false, payload: [7; 8] }]);
        assert_eq!(self.failed, None);
        let sent = self.sent();
        assert_eq!(
            sent.iter().map(Sent::frame).collect::<Vec<_>>(),
            [Http2Frame::Ping { is_ack: true, payload: [7; 8] }]
        );
    }
}

pub fn field(name: &'static str, value: &'static str) -> OutField<'static> {
    OutField { name: name.as_bytes(), value: value.as_bytes(), indexing: Indexing::Add }
}

pub fn headers(stream: u32, block: &[u8], is_last: bool) -> Http2Frame<'_> {
    Http2Frame::Headers {
        stream,
        priority: None,
        fragment: block,
        padding: None,
        is_last,
        is_end_of_block: true,
    }
}
