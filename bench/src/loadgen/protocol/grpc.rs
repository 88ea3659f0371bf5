//! gRPC's unary calls over HTTP/2 with prior knowledge: answers come in any order.
//!
//! A request's header block has the same bytes each time: literals that enter no table. Of an answer only the status is
//! decoded; messages are counted for the window and skipped. The windows that this side grants are the largest
//! possible, and what they have to be given back leaves with the next call.

use std::collections::VecDeque;
use std::sync::Arc;

use coreloop::wire::http2::frame::{FRAME_BYTES_DEFAULT, FRAME_HEAD_BYTES, MAX_31_BITS};
use coreloop::wire::http2::hpack::{FieldList, HpackDecoder, HpackEncoder, Indexing};
use coreloop::wire::http2::settings::{TABLE_BYTES_DEFAULT, WINDOW_DEFAULT, payload_of, setting};
use coreloop::wire::http2::{FrameHead, Http2Frame, PREFACE, SettingEntries};
use coreloop::{Code, MethodName};

use super::super::headers::Entry;
use super::{Body, Decoded, Protocol, Reply};

/// Maximum bytes of an argument. A call leaves in two frames at once, so that 128 of them fit into the window that a
/// server grants without being asked.
const ARGUMENT_BYTES_MAX: usize = 256;
/// Calls in flight until the server announces its maximum (RFC 9113, section 6.5.2, recommends at least this many).
const STREAMS_MAX_DEFAULT: u32 = 100;
/// Received bytes are given back to the connection's window in portions of this size.
const CREDIT_BYTES: u32 = 1 << 20;
/// Maximum bytes of the head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The last stream of a connection: about a thousand million calls.
const STREAM_MAX: u32 = MAX_31_BITS;

/// A request: its header block, and its message with the prefix of five bytes.
#[derive(Clone, Debug)]
struct Request {
    head: Vec<u8>,
    message: Vec<u8>,
}

/// The client's side of gRPC on one connection.
pub struct Grpc {
    requests: Arc<[Request]>,
    decoder: HpackDecoder,
    fields: FieldList,
    /// The header block of an answer whose end has not arrived, and whether the stream ends with it.
    block: Option<(Vec<u8>, bool)>,
    /// The calls in flight by stream, from `first_stream` on in steps of two; `None` if it has ended.
    calls: VecDeque<Option<u64>>,
    first_stream: u32,
    in_flight: u32,
    streams_max: u32,
    /// What the server grants for message bytes, on the connection.
    window: i64,
    /// Received bytes that have not been given back.
    received: u32,
    /// Frames to send before the next call.
    owed: Vec<u8>,
}

impl Clone for Grpc {
    /// Returns the same calls for another connection.
    fn clone(&self) -> Grpc {
        Grpc::with(self.requests.clone())
    }
}

impl Grpc {
    /// Creates the protocol with the bodies of the mix in its order, for a server of that name, with this metadata.
    pub fn new(bodies: &[Body], host: &str, entries: &[Entry]) -> Result<Grpc, String> {
        let requests: Result<Vec<Request>, String> =
            bodies.iter().map(|body| request(body, host, entries)).collect();
        Ok(Grpc::with(requests?.into()))
    }

    /// Adds the requests of another, after the present ones.
    pub fn followed_by(&self, other: &Grpc) -> Grpc {
        Grpc::with(self.requests.iter().chain(&*other.requests).cloned().collect())
    }

    fn with(requests: Arc<[Request]>) -> Grpc {
        let mut grpc = Grpc {
            requests,
            decoder: HpackDecoder::new(TABLE_BYTES_DEFAULT as usize),
            fields: FieldList::new(),
            block: None,
            calls: VecDeque::new(),
            first_stream: 1,
            in_flight: 0,
            streams_max: STREAMS_MAX_DEFAULT,
            window: i64::from(WINDOW_DEFAULT),
            received: 0,
            owed: PREFACE.to_vec(),
        };
        let settings = payload_of([(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, MAX_31_BITS)]);
        // Two entries of six bytes each.
        let settings = SettingEntries::new(&settings).map(Http2Frame::Settings);
        settings.iter().for_each(|frame| frame.print(&mut grpc.owed));
        grpc.grant(MAX_31_BITS - WINDOW_DEFAULT);
        grpc
    }

    fn grant(&mut self, increment: u32) {
        Http2Frame::WindowUpdate { stream: 0, increment }.print(&mut self.owed);
    }

    /// Ends the call of a stream. `None` if the stream is not open.
    fn end(&mut self, stream: u32) -> Option<u64> {
        let at = stream.checked_sub(self.first_stream)? / 2;
        let id = self.calls.get_mut(at as usize)?.take()?;
        self.in_flight -= 1;
        while let Some(None) = self.calls.front() {
            self.calls.pop_front();
            self.first_stream += 2;
        }
        Some(id)
    }

    fn answer<'a>(&mut self, stream: u32, status: u32, len: usize) -> Decoded<'a> {
        match self.end(stream) {
            Some(id) => Decoded::Reply(Reply { id, status, queue_us: 0, handler_us: 0, body: b"", len }),
            None => Decoded::Skip(len),
        }
    }

    /// Decodes a whole header block. Returns the status in it.
    fn read_block(&mut self, block: &[u8]) -> Result<Option<u32>, &'static str> {
        self.fields.clear();
        let decoded = self.decoder.decode(block, HEAD_BYTES_MAX, &mut self.fields);
        decoded.map_err(|fault| fault.as_str())?;
        let value = |name: &[u8]| {
            let field = self.fields.iter().find(|field| field.name == name)?;
            std::str::from_utf8(field.value).ok()?.parse::<u32>().ok()
        };
        // An answer that does not come from gRPC has a status of HTTP only.
        let of_http = || value(b":status").filter(|status| *status != 200).map(|_| number(Code::Unknown));
        Ok(value(b"grpc-status").or_else(of_http))
    }

    fn on_block<'a>(&mut self, stream: u32, block: &[u8], is_last: bool, len: usize) -> Decoded<'a> {
        match self.read_block(block) {
            Err(why) => Decoded::Broken(why),
            Ok(status) if is_last => self.answer(stream, status.unwrap_or(number(Code::Unknown)), len),
            Ok(_) => Decoded::Skip(len),
        }
    }

    fn on_frame<'a>(&mut self, frame: Http2Frame<'_>, len: usize) -> Decoded<'a> {
        if self.block.is_some() && !matches!(frame, Http2Frame::Continuation { .. }) {
            return Decoded::Broken("a frame inside a header block");
        }
        match frame {
            Http2Frame::Data { stream, is_last, .. } => {
                self.received += (len - FRAME_HEAD_BYTES) as u32;
                if self.received >= CREDIT_BYTES {
                    let received = std::mem::take(&mut self.received);
                    self.grant(received);
                }
                // A stream that ends without trailers has no status.
                if is_last { self.answer(stream, number(Code::Unknown), len) } else { Decoded::Skip(len) }
            }
            Http2Frame::Headers { stream, fragment, is_last, is_end_of_block: true, .. } => {
                self.on_block(stream, fragment, is_last, len)
            }
            Http2Frame::Headers { fragment, is_last, .. } => {
                self.block = Some((fragment.to_vec(), is_last));
                Decoded::Skip(len)
            }
            Http2Frame::Continuation { stream, fragment, is_end_of_block } => {
                let Some((mut block, is_last)) = self.block.take() else {
                    return Decoded::Broken("CONTINUATION without a header block");
                };
                block.extend_from_slice(fragment);
                if is_end_of_block {
                    return self.on_block(stream, &block, is_last, len);
                }
                if block.len() > HEAD_BYTES_MAX {
                    return Decoded::Broken("an answer's head is too long");
                }
                self.block = Some((block, is_last));
                Decoded::Skip(len)
            }
            Http2Frame::Reset { stream, code } => {
                // As gRPC maps the codes of HTTP/2.
                let status = match code.0 {
                    7 => Code::Unavailable,
                    8 => Code::Cancelled,
                    11 => Code::ResourceExhausted,
                    12 => Code::PermissionDenied,
                    _ => Code::Internal,
                };
                self.answer(stream, number(status), len)
            }
            Http2Frame::Settings(entries) => {
                for (setting, value) in entries.iter() {
                    if setting == setting::MAX_CONCURRENT_STREAMS {
                        self.streams_max = value;
                    }
                }
                Http2Frame::SettingsAck.print(&mut self.owed);
                Decoded::Skip(len)
            }
            Http2Frame::Ping { is_ack: false, payload } => {
                Http2Frame::Ping { is_ack: true, payload }.print(&mut self.owed);
                Decoded::Skip(len)
            }
            Http2Frame::WindowUpdate { stream: 0, increment } => {
                self.window += i64::from(increment);
                Decoded::Skip(len)
            }
            Http2Frame::GoAway { .. } => Decoded::Drain(len),
            Http2Frame::PushPromise { .. } => Decoded::Broken("a pushed request, which was not allowed"),
            Http2Frame::Priority { .. }
            | Http2Frame::SettingsAck
            | Http2Frame::Ping { .. }
            | Http2Frame::WindowUpdate { .. }
            | Http2Frame::Unknown { .. } => Decoded::Skip(len),
        }
    }
}

fn number(code: Code) -> u32 {
    code as u32
}

fn request(body: &Body, host: &str, entries: &[Entry]) -> Result<Request, String> {
    if body.bytes.len() > ARGUMENT_BYTES_MAX {
        return Err(format!(
            "grpc: an argument has at most {ARGUMENT_BYTES_MAX} bytes here, and that of {} has {}",
            body.method,
            body.bytes.len()
        ));
    }
    // The mix contains only valid names.
    let path = MethodName::parse(&body.method).map_or_else(|_| "/".to_owned(), MethodName::http_path);
    // Without a table of its own the encoder writes literals, and the block is the same each time.
    let (mut encoder, mut head) = (HpackEncoder::new(0, 0, false), Vec::new());
    let mut field =
        |name: &str, value: &str| encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Omit, &mut head);
    field(":method", "POST");
    field(":scheme", "http");
    field(":path", &path);
    field(":authority", host);
    field("te", "trailers");
    if body.time_left_us > 0 {
        field("grpc-timeout", &timeout(body.time_left_us));
    }
    field("content-type", "application/grpc");
    for (name, value) in entries {
        field(&name.to_ascii_lowercase(), value);
    }
    let mut message = vec![0];
    message.extend_from_slice(&(body.bytes.len() as u32).to_be_bytes());
    message.extend_from_slice(&body.bytes);
    Ok(Request { head, message })
}

/// Formats a timeout: at most eight digits and a unit.
fn timeout(us: u32) -> String {
    if us < 100_000_000 { format!("{us}u") } else { format!("{}m", us.div_ceil(1000)) }
}

impl Protocol for Grpc {
    #[inline]
    fn append(&mut self, method: usize, id: u64, out: &mut Vec<u8>) {
        out.append(&mut self.owed);
        let stream = self.first_stream + 2 * self.calls.len() as u32;
        self.calls.push_back(Some(id));
        self.in_flight += 1;
        let Request { head, message } = &self.requests[method];
        self.window -= message.len() as i64;
        let (priority, padding, is_end_of_block) = (None, None, true);
        Http2Frame::Headers { stream, priority, fragment: head, padding, is_last: false, is_end_of_block }
            .print(out);
        Http2Frame::Data { stream, data: message, padding, is_last: true }.print(out);
    }

    #[inline]
    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Decoded<'a> {
        let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else {
            return Decoded::NeedMore(FRAME_HEAD_BYTES);
        };
        let head = FrameHead::read(head);
        // The default maximum, and none other is announced.
        if head.length > FRAME_BYTES_DEFAULT {
            return Decoded::Broken("no HTTP/2, or a frame larger than 16 KiB");
        }
        let len = FRAME_HEAD_BYTES + head.length as usize;
        let Some(payload) = rest.get(..head.length as usize) else {
            return Decoded::NeedMore(len);
        };
        match Http2Frame::parse(head, payload) {
            Ok(frame) => self.on_frame(frame, len),
            Err(_) => Decoded::Broken("an invalid frame of HTTP/2"),
        }
    }

    fn reset(&mut self) {
        *self = self.clone();
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.in_flight < self.streams_max
            && self.window >= (ARGUMENT_BYTES_MAX + 5) as i64
            && self.first_stream < STREAM_MAX - 2 * self.calls.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(time_left_us: u32) -> Body {
        Body { method: "peer.Users.List".into(), bytes: vec![8, 100], time_left_us }
    }

    fn grpc() -> Grpc {
        Grpc::new(&[body(50_000)], "host:1", &[("X-Key".into(), "v".into())]).expect("short")
    }

    /// Splits printed bytes into frames.
    fn frames(mut bytes: &[u8]) -> Vec<Http2Frame<'_>> {
        let mut frames = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() {
            let head = FrameHead::read(head);
            let (payload, rest) = rest.split_at(head.length as usize);
            frames.push(Http2Frame::parse(head, payload).expect("valid"));
            bytes = rest;
        }
        frames
    }

    fn printed(all: &[Http2Frame<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        all.iter().for_each(|frame| frame.print(&mut bytes));
        bytes
    }

    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let (mut encoder, mut out) = (HpackEncoder::new(4096, 4096, true), Vec::new());
        fields.iter().for_each(|(name, value)| {
            encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Omit, &mut out);
        });
        out
    }

    fn headers<'a>(stream: u32, fragment: &'a [u8], is_last: bool) -> Http2Frame<'a> {
        Http2Frame::Headers {
            stream,
            priority: None,
            fragment,
            padding: None,
            is_last,
            is_end_of_block: true,
        }
    }

    #[test]
    fn a_call_is_a_head_and_a_message() {
        let (mut grpc, mut out) = (grpc(), Vec::new());
        grpc.append(0, 7, &mut out);
        let sent = frames(out.strip_prefix(PREFACE).expect("a preface"));
        let [Http2Frame::Settings(_), Http2Frame::WindowUpdate { .. }, head, message] = sent.as_slice()
        else {
            panic!("{sent:?}");
        };
        let Http2Frame::Headers { stream: 1, fragment, is_last: false, .. } = head else {
            panic!("{head:?}")
        };
        let mut fields = FieldList::new();
        HpackDecoder::new(4096).decode(fragment, 1 << 16, &mut fields).expect("valid");
        let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|field| (field.name, field.value)).collect();
        assert!(fields.contains(&(b":path", b"/peer.Users/List")), "{fields:?}");
        assert!(fields.contains(&(b"grpc-timeout", b"50000u")) && fields.contains(&(b"x-key", b"v")));
        let data: &[u8] = &[0, 0, 0, 0, 2, 8, 100];
        assert_eq!(*message, Http2Frame::Data { stream: 1, data, padding: None, is_last: true });
        out.clear();
        grpc.append(0, 8, &mut out);
        assert!(matches!(frames(&out)[..], [Http2Frame::Headers { stream: 3, .. }, Http2Frame::Data { .. }]));
    }

    #[test]
    fn answers_in_any_order_at_every_split() {
        let (head, ok) = (block(&[(":status", "200")]), block(&[("grpc-status", "0")]));
        let refused = block(&[(":status", "200"), ("grpc-status", "8"), ("grpc-message", "full")]);
        let data = Http2Frame::Data { stream: 1, data: &[0; 9], padding: None, is_last: false };
        let reset = Http2Frame::Reset { stream: 5, code: coreloop::wire::http2::Http2Code(7) };
        let bytes = printed(&[
            headers(3, &refused, true),
            headers(1, &head, false),
            data,
            headers(1, &ok, true),
            reset,
            headers(3, &refused, true),
        ]);
        for split in 0..bytes.len() {
            let mut grpc = grpc();
            (0..3).for_each(|id| grpc.append(0, id, &mut Vec::new()));
            let (mut at, mut answers) = (0, Vec::new());
            for end in [split, bytes.len()] {
                loop {
                    match grpc.decode(&bytes[at..end]) {
                        Decoded::NeedMore(_) => break,
                        Decoded::Skip(len) => at += len,
                        Decoded::Reply(reply) => {
                            answers.push((reply.id, reply.status));
                            at += reply.len;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!((at, answers), (bytes.len(), vec![(1, 8), (0, 0), (2, 14)]), "split at {split}");
            assert_eq!((grpc.in_flight, grpc.calls.len(), grpc.first_stream), (0, 0, 7));
        }
    }

    #[test]
    fn the_limits_of_the_server_are_kept() {
        let mut grpc = grpc();
        let entries = payload_of([(setting::MAX_CONCURRENT_STREAMS, 2)]);
        let settings = Http2Frame::Settings(SettingEntries::new(&entries).expect("six bytes"));
        let ping = Http2Frame::Ping { is_ack: false, payload: [3; 8] };
        let bytes = printed(&[settings, ping]);
        let mut out = Vec::new();
        grpc.append(0, 0, &mut out);
        let Decoded::Skip(first) = grpc.decode(&bytes) else { panic!("settings") };
        assert!(matches!(grpc.decode(&bytes[first..]), Decoded::Skip(_)));
        assert!(grpc.has_room());
        out.clear();
        grpc.append(0, 1, &mut out);
        assert!(!grpc.has_room(), "two streams are open");
        let owed = frames(&out);
        assert_eq!(owed[..2], [Http2Frame::SettingsAck, Http2Frame::Ping { is_ack: true, payload: [3; 8] }]);
        grpc.streams_max = u32::MAX;
        grpc.window = 100;
        assert!(!grpc.has_room(), "the window is too small");
        let update = printed(&[Http2Frame::WindowUpdate { stream: 0, increment: 1000 }]);
        assert!(matches!(grpc.decode(&update), Decoded::Skip(_)) && grpc.has_room());
        grpc.reset();
        assert_eq!((grpc.in_flight, grpc.streams_max), (0, STREAMS_MAX_DEFAULT));
    }

    #[test]
    fn other_protocols_and_long_arguments_are_errors() {
        assert!(matches!(grpc().decode(b"HTTP/1.1 400 Bad Request\r\n"), Decoded::Broken(_)));
        let long = Body { bytes: vec![0; ARGUMENT_BYTES_MAX + 1], ..body(0) };
        assert!(Grpc::new(&[long], "", &[]).err().is_some_and(|why| why.contains("at most 256 bytes")));
        assert_eq!([timeout(99_999_999), timeout(u32::MAX)], ["99999999u", "4294968m"]);
    }
}
