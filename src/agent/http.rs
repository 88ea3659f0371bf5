//! HTTP/1.1 for agents, without I/O: requests to bytes, and the pieces of a response from bytes.
//!
//! The rules of framing are those of `wire/http`. A response that is ambiguous, or over a limit, is a fault, and its
//! connection must close. `http_client.rs` runs exchanges over a connection of an agent.

use std::fmt;

use httparse::Status;

use crate::wire::http::{BodyPiece, ChunkFault, Chunks, Framing, HeadScan, ScannedHead, with_fields};

/// The most bytes of a response's head.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most fields of a response.
const FIELDS_MAX: usize = 256;
/// The most interim (1xx) responses to one request.
const INTERIMS_MAX: u32 = 16;
/// The most bytes of a response's body that is taken as a whole.
pub(crate) const BODY_BYTES_MAX: u64 = 8 << 20;

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpRequest<'a> {
    /// The method.
    pub(crate) method: &'a str,
    /// The path and the query, encoded ([`encode`]).
    pub(crate) target: &'a str,
    /// Further fields. Names and values must be valid in a head ([`is_field_value`]).
    pub(crate) fields: &'a [(&'a str, &'a str)],
    /// The type of the body, such as `application/json`; the response's type is to be the same.
    pub(crate) content_type: &'a str,
    /// The body.
    pub(crate) body: &'a [u8],
}

impl<'a> HttpRequest<'a> {
    /// Creates a request with a body of JSON, or with none if it is empty.
    pub(crate) fn json(
        method: &'a str,
        target: &'a str,
        fields: &'a [(&'a str, &'a str)],
        body: &'a [u8],
    ) -> HttpRequest<'a> {
        HttpRequest { method, target, fields, content_type: "application/json", body }
    }

    /// Returns the bytes of the request.
    pub(crate) fn to_bytes(self, host: &str) -> Vec<u8> {
        let HttpRequest { method, target, fields, content_type, body } = self;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nAccept: {content_type}\r\n");
        for (name, value) in fields {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if !body.is_empty() || method != "GET" {
            head += &format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// Returns whether a text may be the value of a field.
pub(crate) fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.trim() == text
}

/// Returns a text as a part of a path or a query: everything but letters, digits and `-._~` is encoded (RFC 3986 section
/// 2.1).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// The head of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceivedHead {
    /// The status.
    pub(crate) status: u16,
    /// The fields that do not concern the framing, in their order.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

impl ReceivedHead {
    /// Returns the first field with that name.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice())
    }
}

/// A piece of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HttpPiece<'a> {
    /// The head.
    Head(ReceivedHead),
    /// Some of the body.
    Body(&'a [u8]),
    /// The end. The connection can be used again if `keeps`.
    End {
        /// Another request may follow.
        keeps: bool,
    },
}

/// Why a response cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpFault {
    /// It is not HTTP/1.1, or ambiguous.
    Malformed(&'static str),
    /// The head is over the limit.
    HeadTooLarge,
    /// The body is over this limit.
    BodyTooLarge(u64),
    /// The connection ended before the response.
    Incomplete,
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpFault::Malformed(what) => write!(f, "the response is not valid HTTP/1.1: {what}"),
            HttpFault::HeadTooLarge => {
                write!(f, "the response's head is over {HEAD_BYTES_MAX} bytes or {FIELDS_MAX} fields")
            }
            HttpFault::BodyTooLarge(bytes_max) => write!(f, "the response's body is over {bytes_max} bytes"),
            HttpFault::Incomplete => f.write_str("the connection ended before the response was complete"),
        }
    }
}

/// Reads one response.
#[derive(Debug)]
pub(crate) struct HttpReader {
    state: ReadState,
    scan: HeadScan,
    /// The bytes of a head that is not complete.
    held: Vec<u8>,
    interims: u32,
    body_bytes_max: u64,
}

#[derive(Clone, Copy, Debug)]
enum ReadState {
    /// In the head.
    Head,
    /// In a body with this many bytes left.
    Length { left: u64, keeps: bool },
    /// In a chunked body.
    Chunked { chunks: Chunks, keeps: bool },
    /// In a body that ends with the connection, with this many bytes so far.
    UntilEnd { bytes: u64 },
    /// After the end.
    Done,
}

/// What a head says of its body.
struct ParsedHead {
    head: ReceivedHead,
    framing: Framing,
    is_http_10: bool,
}

impl HttpReader {
    /// Creates a reader of a response whose body has at most this many bytes.
    pub(crate) fn new(body_bytes_max: u64) -> HttpReader {
        HttpReader {
            state: ReadState::Head,
            scan: HeadScan::default(),
            held: Vec::new(),
            interims: 0,
            body_bytes_max,
        }
    }

    /// Returns whether any byte of the response was read.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.state, ReadState::Head) || !self.held.is_empty() || self.interims > 0
    }

    /// Reads the first piece of `input`, and returns how much of the input is consumed. Without a piece, the whole input
    /// is. Must be called again until neither a piece nor input is left.
    pub(crate) fn next<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Option<HttpPiece<'a>>), HttpFault> {
        match &mut self.state {
            ReadState::Head => self.head(input),
            ReadState::Length { left: 0, keeps } => {
                let keeps = *keeps;
                self.state = ReadState::Done;
                Ok((0, Some(HttpPiece::End { keeps })))
            }
            _ if input.is_empty() => Ok((0, None)),
            ReadState::Length { left, .. } => {
                let bytes = (*left).min(input.len() as u64) as usize;
                *left -= bytes as u64;
                Ok((bytes, Some(HttpPiece::Body(&input[..bytes]))))
            }
            ReadState::Chunked { chunks, keeps } => match chunks.next(input) {
                Ok(BodyPiece::Data(bytes)) => Ok((bytes, Some(HttpPiece::Body(&input[..bytes])))),
                Ok(BodyPiece::Framing(bytes)) => Ok((bytes, None)),
                Ok(BodyPiece::End(bytes)) => {
                    let keeps = *keeps;
                    self.state = ReadState::Done;
                    Ok((bytes, Some(HttpPiece::End { keeps })))
                }
                Err(ChunkFault::Malformed(what)) => Err(HttpFault::Malformed(what)),
                Err(ChunkFault::TooLarge) => Err(HttpFault::BodyTooLarge(self.body_bytes_max)),
                Err(ChunkFault::TooMuchFraming) => {
                    Err(HttpFault::Malformed("the chunks have more framing than data"))
                }
            },
            ReadState::UntilEnd { bytes } => {
                *bytes = bytes.saturating_add(input.len() as u64);
                if *bytes > self.body_bytes_max {
                    return Err(HttpFault::BodyTooLarge(self.body_bytes_max));
                }
                Ok((input.len(), Some(HttpPiece::Body(input))))
            }
            ReadState::Done => Err(HttpFault::Malformed("bytes follow its end")),
        }
    }

    /// Takes note of the end of the connection. Returns whether that is the end of the response.
    pub(crate) fn on_end(&mut self) -> Result<bool, HttpFault> {
        match self.state {
            ReadState::UntilEnd { .. } => {
                self.state = ReadState::Done;
                Ok(true)
            }
            ReadState::Done => Ok(false),
            ReadState::Head | ReadState::Length { .. } | ReadState::Chunked { .. } => {
                Err(HttpFault::Incomplete)
            }
        }
    }

    fn head<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Option<HttpPiece<'a>>), HttpFault> {
        if input.is_empty() {
            return Ok((0, None));
        }
        let before = self.held.len();
        // No more than a head may have, and one byte to see that there is more.
        let taken = input.len().min((HEAD_BYTES_MAX + 1).saturating_sub(before));
        self.held.extend_from_slice(&input[..taken]);
        let (bytes, lines) = match self.scan.go_on(&self.held, HEAD_BYTES_MAX) {
            ScannedHead::NeedMore => return Ok((taken, None)),
            ScannedHead::Head { lines: 0, .. } => {
                return Err(HttpFault::Malformed("it begins with an empty line"));
            }
            ScannedHead::Head { bytes, lines } => (bytes, lines),
            ScannedHead::Bad(_) => {
                return Err(HttpFault::Malformed("its head has a control character, a bare CR or a bare LF"));
            }
            ScannedHead::TooLong { .. } => return Err(HttpFault::HeadTooLarge),
        };
        let ParsedHead { head, framing, is_http_10 } = parse_head(&self.held[..bytes], lines)?;
        self.scan = HeadScan::default();
        self.held = Vec::new();
        // The head ends in this input: all before it was consumed without finding an end.
        let consumed = bytes - before;
        if head.status < 200 {
            self.interims += 1;
            return match head.status {
                101 => Err(HttpFault::Malformed("it changes the protocol, which was not asked for")),
                _ if self.interims > INTERIMS_MAX => {
                    Err(HttpFault::Malformed("it has too many 1xx responses"))
                }
                _ => Ok((consumed, None)),
            };
        }
        let keeps = !framing.is_last(is_http_10);
        let has_no_body = matches!(head.status, 204 | 304);
        self.state = match framing {
            Framing { is_chunked: true, .. } if has_no_body => {
                return Err(HttpFault::Malformed("it has a body that it must not have"));
            }
            _ if has_no_body => ReadState::Length { left: 0, keeps },
            Framing { is_chunked: true, .. } => {
                ReadState::Chunked { chunks: Chunks::new(self.body_bytes_max, HEAD_BYTES_MAX as u64), keeps }
            }
            Framing { length: Some(length), .. } if length > self.body_bytes_max => {
                return Err(HttpFault::BodyTooLarge(self.body_bytes_max));
            }
            Framing { length: Some(left), .. } => ReadState::Length { left, keeps },
            Framing { length: None, .. } => ReadState::UntilEnd { bytes: 0 },
        };
        Ok((consumed, Some(HttpPiece::Head(head))))
    }
}

/// Parses a whole head with this number of lines.
fn parse_head(bytes: &[u8], lines: usize) -> Result<ParsedHead, HttpFault> {
    if lines - 1 > FIELDS_MAX {
        return Err(HttpFault::HeadTooLarge);
    }
    with_fields!(lines, |fields| {
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut response, bytes, fields) {
            Ok(Status::Complete(parsed)) if parsed == bytes.len() => {}
            Ok(_) | Err(_) => return Err(HttpFault::Malformed("its head is malformed")),
        }
        let is_http_10 = response.version == Some(0);
        let mut head = ReceivedHead { status: response.code.unwrap_or(0), fields: Vec::new() };
        if head.status < 100 {
            return Err(HttpFault::Malformed("it has no status"));
        }
        let mut framing = Framing::default();
        for field in response.headers.iter() {
            let concerns_framing = framing.take(field.name, field.value).map_err(HttpFault::Malformed)?;
            if field.name.eq_ignore_ascii_case("content-encoding") {
                return Err(HttpFault::Malformed("it has a Content-Encoding that was not asked for"));
            }
            if !concerns_framing {
                head.fields.push((field.name.to_owned(), field.value.to_vec()));
            }
        }
        framing.check(is_http_10).map_err(HttpFault::Malformed)?;
        Ok(ParsedHead { head, framing, is_http_10 })
    })
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
