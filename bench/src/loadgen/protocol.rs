//! What the generator must know of a protocol: how a call is written and how an answer is read. No sockets here.
//!
//! The native protocol is in this file, the others have one each. A further protocol is one more implementation of
//! [`Protocol`], and one more [`Speaks`](super::speech::Speaks).

pub mod gob;
pub mod http;
pub mod jsonrpc;

use std::borrow::Cow;
use std::sync::Arc;

use crate::frame::{self, Next};
use crate::request::Request;

/// One connection's half of a protocol. Each connection has its own, a clone of the first: state of a stream
/// (the order of answers, types that were sent once) lives in here, and [`reset`](Protocol::reset) forgets it.
pub trait Protocol: Clone + Send + 'static {
    /// Appends the call `id` with the request at that place.
    fn append(&mut self, request: usize, id: u64, out: &mut Vec<u8>);

    /// Reads what stands at the front of `bytes`.
    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Decoded<'a>;

    /// The server has closed the connection with these bytes left: an answer, if that is what ends one.
    fn at_end<'a>(&mut self, bytes: &'a [u8]) -> Option<Reply<'a>> {
        let _ = bytes;
        None
    }

    /// The connection is a new one.
    fn reset(&mut self);

    /// What must be said, and answered with [`Decoded::Greeted`], before the first call; mostly nothing.
    fn greeting(&self) -> &'static [u8] {
        b""
    }
}

/// What stands at the front of the bytes that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An answer.
    Reply(Reply<'a>),
    /// Nothing to do with any call: skip so many bytes.
    Skip(usize),
    /// The greeting is answered, and calls may be made; skip so many bytes.
    Greeted(usize),
    /// The server wants no new calls on this connection; skip so many bytes.
    Drain(usize),
    /// The beginning of something that is at least so long in all.
    NeedMore(usize),
    /// This cannot be read, and nothing after it.
    Broken(&'static str),
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// As the call had it.
    pub id: u64,
    /// 0 is ok; gRPC's numbers.
    pub status: u32,
    /// How long the call was queued, as the server says.
    pub queue_us: u32,
    /// How long it was in the handler, as the server says.
    pub handler_us: u32,
    /// The body; with a status other than 0 a message for people.
    pub body: &'a [u8],
    /// Bytes of the whole answer.
    pub len: usize,
}

/// What is called, for the protocols that build their calls themselves.
#[derive(Clone, Debug)]
pub struct Body {
    /// The full name of the method.
    pub method: String,
    /// The argument, encoded.
    pub bytes: Vec<u8>,
    /// The deadline that is stated, in µs; 0 is none.
    pub time_left_us: u32,
}

/// Text of an answer in JSON, where it stands if it can; an option of serde's would copy it.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The native protocol: frames that are built once, of which each call changes the id.
#[derive(Clone)]
pub struct Native {
    requests: Arc<[Request]>,
}

impl Native {
    /// With the requests of the mix, in its order.
    pub fn new(requests: Vec<Request>) -> Native {
        Native { requests: requests.into() }
    }
}

impl Protocol for Native {
    #[inline]
    fn append(&mut self, method: usize, id: u64, out: &mut Vec<u8>) {
        self.requests[method].append(id, out);
    }

    #[inline]
    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Decoded<'a> {
        let (header, body, len) = match frame::next(bytes) {
            Next::Frame { header, body, len } => (header, body, len),
            // What is no frame may announce anything: it must not be waited for.
            Next::Short { need } if frame::may_be_native(bytes) => return Decoded::NeedMore(need),
            Next::Broken if frame::is_native(bytes) => {
                return Decoded::Broken("a reply larger than 16 MiB");
            }
            Next::Short { .. } | Next::Broken => {
                return Decoded::Broken("the server does not speak native frames");
            }
        };
        if !frame::is_native(bytes) {
            return Decoded::Broken("the server does not speak native frames");
        }
        match header.kind {
            frame::REPLY => {
                let word =
                    |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
                Decoded::Reply(Reply {
                    id: header.call,
                    status: header.word,
                    queue_us: word(20),
                    handler_us: word(24),
                    body,
                    len,
                })
            }
            frame::PONG => Decoded::Skip(len),
            frame::DRAIN => Decoded::Drain(len),
            _ => Decoded::Broken("a frame that a server does not send"),
        }
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Header;

    /// What comes of bytes, however they are cut: answers as `id status queue handler body`, and `drain`.
    pub(super) fn at_every_split<P: Protocol>(make: impl Fn() -> P, bytes: &[u8]) -> Vec<String> {
        let whole = run(make(), &[bytes]);
        for cut in 0..=bytes.len() {
            assert_eq!(run(make(), &[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(run(make(), &bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
        whole
    }

    /// As a link reads.
    fn run<P: Protocol>(mut protocol: P, pieces: &[&[u8]]) -> Vec<String> {
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        for piece in pieces {
            let Decoded::NeedMore(need) = protocol.decode(&kept) else {
                panic!("{kept:?} is more than a part")
            };
            assert!(need > kept.len());
            kept.extend_from_slice(piece);
            let mut used = 0;
            loop {
                match protocol.decode(&kept[used..]) {
                    Decoded::Reply(Reply { id, status, queue_us, handler_us, body, len }) => {
                        let body = String::from_utf8_lossy(body);
                        seen.push(format!("{id} {status} {queue_us} {handler_us} {body}"));
                        used += len;
                    }
                    Decoded::Drain(len) => {
                        seen.push("drain".to_owned());
                        used += len;
                    }
                    Decoded::Skip(len) => used += len,
                    Decoded::Greeted(len) => {
                        seen.push("greeted".to_owned());
                        used += len;
                    }
                    Decoded::NeedMore(_) => break,
                    Decoded::Broken(why) => panic!("{why}: {}", kept[used..].escape_ascii()),
                }
            }
            kept.drain(..used);
        }
        assert!(kept.is_empty(), "{}", kept.escape_ascii());
        seen
    }

    fn native() -> Native {
        Native::new(vec![Request::new("Arith.AddFixed", "fixed", None, None).expect("known")])
    }

    fn reply(call: u64, status: u32, body: &[u8]) -> Vec<u8> {
        let body_bytes = body.len() as u32;
        let header =
            Header { kind: frame::REPLY, codec: 1, metadata_bytes: 8, call, word: status, body_bytes };
        let mut bytes = header.to_bytes().to_vec();
        bytes[20..24].copy_from_slice(&7_u32.to_le_bytes());
        bytes[24..28].copy_from_slice(&9_u32.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn replies_cut_at_every_byte_are_waited_for_and_then_read() {
        let bytes = [reply(5, 0, b"12345678"), reply(6, 12, b"no such")].concat();
        let mut protocol = native();
        let first = reply(5, 0, b"12345678").len();
        for cut in 0..=bytes.len() {
            let (at, known) = if cut < first { (0, cut) } else { (first, cut) };
            if cut >= first {
                let want =
                    Reply { id: 5, status: 0, queue_us: 7, handler_us: 9, body: b"12345678", len: first };
                assert_eq!(protocol.decode(&bytes[..cut]), Decoded::Reply(want));
            }
            match protocol.decode(&bytes[at..known]) {
                Decoded::NeedMore(need) => assert!(need > known - at && at + need <= bytes.len()),
                Decoded::Reply(second) => {
                    assert_eq!(cut, bytes.len());
                    assert_eq!((second.id, second.status, second.body), (6, 12, b"no such".as_slice()));
                }
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_native_frame_breaks_at_its_first_byte() {
        let mut protocol = native();
        for garbage in ["H", "HTTP/1.1 400 Bad Request\r\n\r\n", "\u{19}x"] {
            assert!(matches!(protocol.decode(garbage.as_bytes()), Decoded::Broken(_)), "{garbage}");
        }
        let mut huge = reply(1, 0, b"");
        huge[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(protocol.decode(&huge), Decoded::Broken(_)));
        let mut request = reply(1, 0, b"");
        request[3] = frame::REQUEST;
        assert!(matches!(protocol.decode(&request), Decoded::Broken(_)));
    }

    #[test]
    fn pongs_are_skipped_and_drains_are_heeded() {
        let mut protocol = native();
        let mut bytes = reply(0, 0, b"");
        bytes[3] = frame::PONG;
        assert_eq!(protocol.decode(&bytes), Decoded::Skip(40));
        bytes[3] = frame::DRAIN;
        assert_eq!(protocol.decode(&bytes), Decoded::Drain(40));
    }

    #[test]
    fn call_carries_its_id() {
        let mut out = Vec::new();
        native().append(0, 0x0102, &mut out);
        assert!(frame::is_native(&out));
        assert_eq!(out[8..16], 0x0102_u64.to_le_bytes());
    }
}
