//! The protocol trait of the generator: how a call is written and how an answer is read. No sockets here.
//!
//! The native protocol is in this file, each other protocol in its own. A further protocol requires one more
//! implementation of [`Protocol`], and one more [`AddressProtocol`](super::speech::AddressProtocol).

pub mod gob;
pub mod grpc;
pub mod http;
pub mod jsonrpc;

use std::borrow::Cow;
use std::sync::Arc;

use crate::frame::{self, Next};
use crate::request::Request;

/// The client's side of a protocol on one connection. Each connection has its own instance, a clone of the first: it
/// holds the state of a stream (the order of answers, types sent once), and [`reset`](Protocol::reset) clears it.
pub trait Protocol: Clone + Send + 'static {
    /// Appends the call `id` with the request at index `request`.
    fn append(&mut self, request: usize, id: u64, out: &mut Vec<u8>);

    /// Decodes the front of `bytes`.
    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Decoded<'a>;

    /// Handles the server's close with these bytes left: returns an answer if the close ends one.
    fn at_end<'a>(&mut self, bytes: &'a [u8]) -> Option<Reply<'a>> {
        let _ = bytes;
        None
    }

    /// Resets the state for a new connection.
    fn reset(&mut self);

    /// Returns whether the server's limits allow one more call. Most protocols announce none.
    fn has_room(&self) -> bool {
        true
    }

    /// Returns the bytes to send before the first call; the server must answer with [`Decoded::Greeted`]. Empty in
    /// most protocols.
    fn greeting(&self) -> &'static [u8] {
        b""
    }
}

/// What the front of the received bytes holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An answer.
    Reply(Reply<'a>),
    /// Bytes that belong to no call; skip this many.
    Skip(usize),
    /// The greeting is answered, and calls may be made; skip this many bytes.
    Greeted(usize),
    /// The server requests no new calls on this connection; skip this many bytes.
    Drain(usize),
    /// An incomplete unit that has at least this many bytes in total.
    NeedMore(usize),
    /// Neither this nor anything after it can be decoded.
    Broken(&'static str),
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The id of the call.
    pub id: u64,
    /// The status, in gRPC's numbers; 0 is ok.
    pub status: u32,
    /// Time of the call in the server's queue, as the server reports it.
    pub queue_us: u32,
    /// Time of the call in the handler, as the server reports it.
    pub handler_us: u32,
    /// The body; with a status other than 0, a message for people.
    pub body: &'a [u8],
    /// Bytes of the complete answer.
    pub len: usize,
}

/// A call's contents, for the protocols that build requests themselves.
#[derive(Clone, Debug)]
pub struct Body {
    /// The full name of the method.
    pub method: String,
    /// The encoded argument.
    pub bytes: Vec<u8>,
    /// The stated deadline, in µs; 0 for none.
    pub time_left_us: u32,
}

/// Text of a JSON answer, borrowed where possible; serde's `Option` would copy it.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The native protocol: frames that are built once; each call changes only the id.
#[derive(Clone)]
pub struct Native {
    requests: Arc<[Request]>,
}

impl Native {
    /// Creates the protocol with the requests of the mix, in its order.
    pub fn new(requests: Vec<Request>) -> Native {
        Native { requests: requests.into() }
    }

    /// Adds the requests of another, after the present ones.
    pub fn followed_by(&self, other: &Native) -> Native {
        Native { requests: self.requests.iter().chain(&*other.requests).cloned().collect() }
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
            // Bytes that cannot be a frame are rejected at once, so that a wrong announced length is not waited for.
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

    /// Returns the decoded results for every way to split the bytes: answers as `id status queue handler body`, and
    /// `drain`.
    pub(super) fn at_every_split<P: Protocol>(make: impl Fn() -> P, bytes: &[u8]) -> Vec<String> {
        let whole = run(make(), &[bytes]);
        for cut in 0..=bytes.len() {
            assert_eq!(run(make(), &[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(run(make(), &bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
        whole
    }

    /// Decodes the pieces as a link does.
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
    fn split_replies_are_read_when_complete() {
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
    fn a_wrong_first_byte_breaks() {
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
    fn pongs_are_skipped_and_drains_are_reported() {
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
