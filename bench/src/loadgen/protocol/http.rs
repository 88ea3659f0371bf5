//! HTTP/1.1 with JSON bodies, in the form of the Connect protocol's unary calls: answers come in the order of the
//! calls.
//!
//! A request has the same bytes each time. Of an answer the head is parsed; of its body only the end is located,
//! unless it is an error.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use coreloop::Code;
use coreloop::MethodName;
use httparse::{EMPTY_HEADER, Header, Response, Status};
use serde::Deserialize;

use super::super::headers::{Entry, fields};
use super::{Body, Decoded, Protocol, Reply, Text};
use crate::frame::BODY_BYTES_MAX;

/// Maximum header fields of an answer, maximum bytes of its head, and maximum bytes of a line of chunked coding.
const HEADERS_MAX: usize = 96;
const HEAD_BYTES_MAX: usize = 64 << 10;
const CHUNK_LINE_BYTES_MAX: usize = 4 << 10;

/// The client's side of HTTP on one connection.
#[derive(Clone)]
pub struct Http {
    requests: Arc<[Vec<u8>]>,
    /// The calls without an answer, in order.
    pending: VecDeque<u64>,
    /// Whether the answer at the front is the last one and a drain has been reported for it.
    is_drain_reported: bool,
}

impl Http {
    /// Creates the protocol with the bodies of the mix in its order, for a server of that name, with these header
    /// fields. A field `Host` among them replaces the name.
    pub fn new(bodies: &[Body], host: &str, entries: &[Entry]) -> Http {
        let requests = bodies.iter().map(|body| request(body, host, entries)).collect();
        Http { requests, pending: VecDeque::new(), is_drain_reported: false }
    }

    /// Adds the requests of another, after the present ones.
    pub fn followed_by(mut self, other: &Http) -> Http {
        self.requests = self.requests.iter().chain(&*other.requests).cloned().collect();
        self
    }

    fn answer<'a>(&mut self, head: &Head, body: &'a [u8], len: usize) -> Decoded<'a> {
        if head.is_last && !self.is_drain_reported {
            // The drain is reported before the answer, so that no further call is made in its place.
            self.is_drain_reported = true;
            return Decoded::Drain(0);
        }
        let Some(id) = self.pending.pop_front() else {
            return Decoded::Broken("an answer that nothing was asked for");
        };
        let (status, body) = if head.status == 200 { (0, body) } else { failed(head.status, body) };
        Decoded::Reply(Reply { id, status, queue_us: head.queue_us, handler_us: head.handler_us, body, len })
    }
}

/// Builds the bytes of a call.
fn request(body: &Body, host: &str, entries: &[Entry]) -> Vec<u8> {
    // The mix contains only valid names.
    let path = MethodName::parse(&body.method).map_or_else(|_| "/".to_owned(), MethodName::http_path);
    let mut request = format!("POST {path} HTTP/1.1\r\n");
    if !entries.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request += &format!("Host: {host}\r\n");
    }
    request += &fields(entries);
    request += "Content-Type: application/json\r\nConnect-Protocol-Version: 1\r\n";
    if body.time_left_us > 0 {
        request += &format!("Connect-Timeout-Ms: {}\r\n", body.time_left_us.div_ceil(1000));
    }
    request += &format!("Content-Length: {}\r\n\r\n", body.bytes.len());
    let mut request = request.into_bytes();
    request.extend_from_slice(&body.bytes);
    request
}

impl Protocol for Http {
    #[inline]
    fn append(&mut self, method: usize, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.requests[method]);
        self.pending.push_back(id);
    }

    #[inline]
    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Decoded<'a> {
        let head = match Head::read(bytes) {
            Ok(Some(head)) => head,
            Ok(None) if bytes.len() > HEAD_BYTES_MAX => {
                return Decoded::Broken("an answer's head is too long");
            }
            Ok(None) => return Decoded::NeedMore(bytes.len() + 1),
            Err(why) => return Decoded::Broken(why),
        };
        match (head.status, head.framing) {
            (101, _) => Decoded::Broken("the server changes to another protocol"),
            (100..200, _) => Decoded::Skip(head.bytes),
            // A 408 on an idle connection announces its close (RFC 9110 section 15.5.9).
            (408, _) if head.is_last && self.pending.is_empty() => Decoded::Drain(bytes.len()),
            (204 | 304, _) => self.answer(&head, &[], head.bytes),
            (_, Framing::Length(length)) if length > BODY_BYTES_MAX => {
                Decoded::Broken("an answer larger than 16 MiB")
            }
            (_, Framing::Length(length)) => match bytes.get(head.bytes..head.bytes + length) {
                Some(body) => self.answer(&head, body, head.bytes + length),
                None => Decoded::NeedMore(head.bytes + length),
            },
            (_, Framing::Chunked) => match chunks(bytes, head.bytes) {
                Ok(Chunks::Whole { first, end }) => self.answer(&head, &bytes[first], end),
                Ok(Chunks::NeedMore(need)) => Decoded::NeedMore(need.max(bytes.len() + 1)),
                Err(why) => Decoded::Broken(why),
            },
            (_, Framing::UntilEnd) if bytes.len() - head.bytes > BODY_BYTES_MAX => {
                Decoded::Broken("an answer larger than 16 MiB")
            }
            // The end of the connection is the end of the answer (RFC 9112 section 6.3), and no call can follow.
            (_, Framing::UntilEnd) if !self.is_drain_reported => {
                self.is_drain_reported = true;
                Decoded::Drain(0)
            }
            (_, Framing::UntilEnd) => Decoded::NeedMore(bytes.len() + 1),
        }
    }

    fn at_end<'a>(&mut self, bytes: &'a [u8]) -> Option<Reply<'a>> {
        let head = Head::read(bytes).ok()??;
        if head.framing != Framing::UntilEnd || matches!(head.status, 100..200 | 204 | 304) {
            return None;
        }
        let id = self.pending.pop_front()?;
        let body = &bytes[head.bytes..];
        let (status, body) = if head.status == 200 { (0, body) } else { failed(head.status, body) };
        let (queue_us, handler_us, len) = (head.queue_us, head.handler_us, bytes.len());
        Some(Reply { id, status, queue_us, handler_us, body, len })
    }

    fn reset(&mut self) {
        self.pending.clear();
        self.is_drain_reported = false;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilEnd,
}

/// The parsed head of an answer.
struct Head {
    status: u16,
    framing: Framing,
    is_last: bool,
    queue_us: u32,
    handler_us: u32,
    /// Bytes of the head.
    bytes: usize,
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
        let mut fields = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = Response::new(&mut fields);
        let read = response.parse(bytes).map_err(|_| "the server does not speak HTTP/1.1")?;
        let Status::Complete(bytes) = read else { return Ok(None) };
        let mut head = Head {
            status: response.code.unwrap_or(0),
            framing: Framing::UntilEnd,
            is_last: response.version == Some(0),
            queue_us: 0,
            handler_us: 0,
            bytes,
        };
        for field in response.headers.iter() {
            head.take(field)?;
        }
        Ok(Some(head))
    }

    fn take(&mut self, field: &Header<'_>) -> Result<(), &'static str> {
        let value = field.value;
        // The length distinguishes most fields of most answers.
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let length = digits(value).ok_or("an answer's length is no number")?;
                match self.framing {
                    Framing::UntilEnd => self.framing = Framing::Length(length),
                    Framing::Length(known) if known == length => {}
                    _ => return Err("an answer has two lengths"),
                }
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.framing != Framing::UntilEnd || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err("an answer has two lengths, or an unknown coding");
                }
                self.framing = Framing::Chunked;
            }
            10 if field.name.eq_ignore_ascii_case("connection") => {
                for word in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.is_last |= word.eq_ignore_ascii_case(b"close");
                    // HTTP/1.0 states explicitly what is the default in 1.1.
                    self.is_last &= !word.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            13 if field.name.eq_ignore_ascii_case("server-timing") => {
                for metric in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    match metric.strip_prefix(b"queue;dur=") {
                        Some(ms) => self.queue_us = micros(ms),
                        None => {
                            let ms = metric.strip_prefix(b"handler;dur=");
                            self.handler_us = ms.map_or(self.handler_us, micros);
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Parses an integer of at most nine digits; rejects anything else.
fn digits(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number, digit| 10 * number + usize::from(digit - b'0')))
}

/// Parses milliseconds with decimals into microseconds; anything else is 0.
fn micros(text: &[u8]) -> u32 {
    let (whole, decimals) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let Some(whole) = digits(whole) else { return 0 };
    let decimal =
        |at: usize| decimals.get(at).filter(|digit| digit.is_ascii_digit()).map_or(0, |it| it - b'0');
    let below = 100 * u64::from(decimal(0)) + 10 * u64::from(decimal(1)) + u64::from(decimal(2));
    u32::try_from(1000 * whole as u64 + below).unwrap_or(u32::MAX)
}

enum Chunks {
    /// The position of the first chunk, and the end of the body.
    Whole {
        first: Range<usize>,
        end: usize,
    },
    NeedMore(usize),
}

/// Scans the chunked body at that position (RFC 9112 section 7.1).
fn chunks(bytes: &[u8], body_at: usize) -> Result<Chunks, &'static str> {
    let (mut at, mut first) = (body_at, None);
    let wrong = "an answer's chunks cannot be read";
    loop {
        let (line, size) = match httparse::parse_chunk_size(&bytes[at..]).map_err(|_| wrong)? {
            Status::Complete(found) => found,
            Status::Partial if bytes.len() - at > CHUNK_LINE_BYTES_MAX => return Err(wrong),
            Status::Partial => return Ok(Chunks::NeedMore(bytes.len() + 1)),
        };
        at += line;
        if size == 0 {
            let mut trailers = [EMPTY_HEADER; HEADERS_MAX];
            return match httparse::parse_headers(&bytes[at..], &mut trailers).map_err(|_| wrong)? {
                Status::Complete((len, _)) => {
                    Ok(Chunks::Whole { first: first.unwrap_or(at..at), end: at + len })
                }
                Status::Partial if bytes.len() - at > HEAD_BYTES_MAX => Err(wrong),
                Status::Partial => Ok(Chunks::NeedMore(bytes.len() + 1)),
            };
        }
        let room = BODY_BYTES_MAX.saturating_sub(at - body_at);
        let size = usize::try_from(size).ok().filter(|size| *size <= room);
        let end = at + size.ok_or("an answer larger than 16 MiB")?;
        first.get_or_insert(at..end);
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => at = end + 2,
            Some(_) => return Err(wrong),
            None => return Ok(Chunks::NeedMore(end + 2)),
        }
    }
}

/// An error of the Connect protocol.
#[derive(Deserialize)]
struct ConnectError<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
}

/// Returns the status of an answer that is not 200, and its message if it appears unescaped in the body.
#[cold]
fn failed(status: u16, body: &[u8]) -> (u32, &[u8]) {
    let error: Option<ConnectError<'_>> = serde_json::from_slice(body).ok();
    let named = error.as_ref().and_then(|error| Code::from_connect_name(&error.code));
    let code = match named.unwrap_or_else(|| Code::from_http_status(status)) {
        // An HTTP success other than 200 is not a valid answer to a call.
        Code::Ok => Code::Unknown,
        code => code,
    };
    let message = match error.and_then(|error| error.message) {
        Some(Text(Cow::Borrowed(text))) => text.as_bytes(),
        _ => body,
    };
    (code.number(), message)
}

#[cfg(test)]
mod tests {
    use super::super::tests::at_every_split;
    use super::*;

    fn http() -> Http {
        let body = Body { method: "Arith.Add".into(), bytes: b"{}".to_vec(), time_left_us: 1500 };
        Http::new(&[body], "h:1", &[])
    }

    fn pending(count: u64) -> Http {
        let mut http = http();
        (0..count).for_each(|id| http.append(0, id + 7, &mut Vec::new()));
        http
    }

    #[test]
    fn request_is_that_of_connect() {
        let mut out = Vec::new();
        http().append(0, 7, &mut out);
        let text = "POST /Arith/Add HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\n\
            Connect-Protocol-Version: 1\r\nConnect-Timeout-Ms: 2\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8(out).expect("text"), text);
    }

    #[test]
    fn an_answer_may_end_with_the_connection() {
        for (text, want) in [
            ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n13", (0, "13")),
            ("HTTP/1.0 200 OK\r\n\r\n", (0, "")),
            ("HTTP/1.1 503 Busy\r\n\r\nbusy", (14, "busy")),
        ] {
            let (mut http, bytes) = (pending(1), text.as_bytes());
            for known in 0..bytes.len() {
                let mut more = Decoded::Drain(0);
                while more == Decoded::Drain(0) {
                    more = http.decode(&bytes[..known]);
                }
                assert!(
                    matches!(more, Decoded::NeedMore(need) if need > known),
                    "{known} of {text}: {more:?}"
                );
            }
            let reply = http.at_end(bytes).expect("it is whole");
            assert_eq!(
                (reply.id, reply.status, reply.body, reply.len),
                (7, want.0, want.1.as_bytes(), bytes.len())
            );
            assert_eq!(http.at_end(bytes), None, "nothing more was asked for");
        }
        // Answers with a length of their own are incomplete here.
        for text in [
            "",
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n13",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ] {
            assert_eq!(pending(1).at_end(text.as_bytes()), None, "{text}");
        }
        let long = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'1'; BODY_BYTES_MAX + 1]].concat();
        assert!(matches!(pending(1).decode(&long), Decoded::Broken(_)));
    }

    #[test]
    fn split_answers_are_read_in_order() {
        let bytes = "HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer-Timing: queue;dur=0.012, handler;dur=1.5\r\n\r\n13\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nT: u\r\n\r\n\
            HTTP/1.1 501 Not Implemented\r\ncontent-length: 42\r\n\r\n{\"code\":\"unimplemented\",\"message\":\"no é\"}\
            HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy\
            HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let seen = at_every_split(|| pending(5), bytes.as_bytes());
        let want: [&str; 6] =
            ["7 0 12 1500 13", "8 0 0 0 abc", "9 12 0 0 no é", "10 14 0 0 busy", "drain", "11 0 0 0 "];
        assert_eq!(seen, want);
    }

    #[test]
    fn undecodable_or_unexpected_answers_break() {
        for (bytes, why) in [
            ("SSH-2.0 and more\r\n", "does not speak HTTP/1.1"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "two lengths"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "16 MiB"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "two lengths"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unknown coding"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", "16 MiB"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "chunks"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", "chunks"),
            ("HTTP/1.1 101 Switching\r\n\r\n", "another protocol"),
        ] {
            let mut http = pending(1);
            let Decoded::Broken(said) = http.decode(bytes.as_bytes()) else { panic!("{bytes}") };
            assert!(said.contains(why), "{bytes}: {said}");
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(http().decode(answer), Decoded::Broken("an answer that nothing was asked for"));
        let idle = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(http().decode(idle), Decoded::Drain(idle.len()));
    }

    #[test]
    fn a_new_connection_has_no_outstanding_calls() {
        let mut http = pending(3);
        http.reset();
        assert!(http.pending.is_empty());
    }
}
