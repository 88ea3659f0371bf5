//! The client's side: writes calls as Connect unary requests, and matches replies to them by order.

use std::collections::VecDeque;

use httparse::Status;

use super::call;
use super::chunks::{BodyPiece, ChunkFault, Chunks};
use super::error::{read_error, read_server_timing};
use super::framing::{Framing, is_json, with_fields};
use super::scan::{HeadScan, ScannedHead};
use super::{JSON, KEEP_BYTES_MAX};
use crate::message::trailers::{self, RETRY_AFTER_MS};
use crate::message::{
    DETAILS, IncomingReply, JsonDialect, Message, Metadata, MetadataBuf, Outgoing, OutgoingCall, Refusal,
    Span,
};
use crate::status::{Code, Detail};
use crate::wire::{Broken, ForeignProtocol, Out, Protocol, Received};

/// The maximum bytes of a reply's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The maximum number of fields of a reply.
const HEADERS_MAX: usize = 256;
/// The maximum number of interim responses to one request.
const INTERIM_MAX: u32 = 16;

/// The client's side of one HTTP/1.1 connection.
///
/// Calls are pipelined as `POST /Service/Method` with a JSON body; replies arrive in the same order. The caller
/// ensures that each call has a name, and an uncompressed JSON body: no other form is supported. HTTP cannot cancel a
/// call, so the reply to a canceled call is read and dropped, as is the reply to a one-way call. The caller chooses
/// how many calls to write before a reply, as long as [`HttpClient::takes_calls`] is true.
#[derive(Debug)]
pub struct HttpClient(Box<HttpClientInner>);

#[derive(Debug)]
struct HttpClientInner {
    /// The Host line, with its value.
    host: String,
    frame_bytes_max: usize,
    state: ReplyState,
    scan: HeadScan,
    /// No reply has been read yet.
    is_fresh: bool,
    /// Interim responses since the last reply.
    interims: u32,
    /// The calls without a reply, in order.
    pending: VecDeque<PendingRequest>,
    /// The previous reply was the last one.
    is_last: bool,
    /// The scratch bytes belong to a message that was already returned.
    is_scratch_stale: bool,
    /// The metadata of the reply, then a body that arrived in several pieces, or a message that was extracted from one.
    gathered: Vec<u8>,
}

/// A call that waits for its reply.
#[derive(Clone, Copy, Debug)]
struct PendingRequest {
    id: u64,
    /// The reply is dropped.
    is_ignored: bool,
}

/// The position in the stream of replies.
#[derive(Clone, Debug)]
enum ReplyState {
    /// Between replies, or in a head.
    Head,
    /// A body of known length.
    Body { head: ReplyHead, bytes: usize },
    /// A chunked body; nothing is kept of a refused one.
    Chunked { head: ReplyHead, chunks: Chunks, is_refused: bool },
    /// A body that ends with the connection, and whether the end has arrived.
    UntilEnd { head: ReplyHead, is_end: bool },
    /// A body that is skipped.
    Skip { bytes: u64 },
    /// The last reply was returned: the connection accepts no more calls.
    Last,
    /// No more input is read.
    Ended,
    /// The input was invalid.
    Broken(Broken),
}

/// The contents of a reply's head.
#[derive(Clone, Copy, Debug, Default)]
struct ReplyHead {
    status: u16,
    framing: Framing,
    is_http_10: bool,
    is_json: bool,
    is_encoded: bool,
    times: (u32, u32),
    /// The bytes of the metadata in the scratch buffer.
    metadata_bytes: u32,
}

fn broken(why: impl Into<String>) -> Broken {
    Broken::Other(why.into())
}

impl HttpClient {
    /// Creates the client's side for calls to `host` (a name or an address, with an optional port). Refuses a body
    /// over `frame_bytes_max` before storing any of it.
    pub fn new(host: String, frame_bytes_max: usize) -> HttpClient {
        let is_host = |byte: &u8| (b'!'..=b'~').contains(byte);
        // A host that is not valid in a field is omitted; an empty host is valid.
        let host = if host.as_bytes().iter().all(is_host) { host } else { String::new() };
        HttpClient(Box::new(HttpClientInner {
            host,
            frame_bytes_max,
            state: ReplyState::Head,
            scan: HeadScan::default(),
            is_fresh: true,
            interims: 0,
            pending: VecDeque::new(),
            is_last: false,
            is_scratch_stale: false,
            gathered: Vec::new(),
        }))
    }
}

impl HttpClient {
    /// Whether a call may be written: no reply so far was announced as the last one.
    pub fn takes_calls(&self) -> bool {
        !self.0.is_last
            && !matches!(self.0.state, ReplyState::Last | ReplyState::Ended | ReplyState::Broken(_))
    }
}

impl HttpClientInner {
    // Outgoing calls.

    fn request(&mut self, call: OutgoingCall<'_>, out: &mut Out<'_>) {
        self.pending.push_back(PendingRequest { id: call.id, is_ignored: call.one_way });
        call::write(&self.host, call, out);
    }

    fn cancel(&mut self, id: u64) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
            pending.is_ignored = true;
        }
    }

    // Incoming replies.

    fn decode(&mut self, input: &[u8]) -> Received<Message> {
        if self.is_scratch_stale {
            self.is_scratch_stale = false;
            self.gathered.clear();
            if self.gathered.capacity() > KEEP_BYTES_MAX {
                self.gathered = Vec::new();
            }
        }
        match self.state {
            ReplyState::Head if self.is_last => {
                self.state = ReplyState::Last;
                Received::Message { message: Message::Drain, consumed: 0 }
            }
            ReplyState::Head => self.head(input),
            ReplyState::Body { bytes, .. } if input.len() < bytes => Received::NeedMore { bytes_min: bytes },
            ReplyState::Body { head, bytes } => self.reply(&head, input, Span::new(0, bytes as u32), bytes),
            ReplyState::Chunked { head, chunks, is_refused } => self.chunked(head, chunks, is_refused, input),
            ReplyState::UntilEnd { head, is_end } => self.until_end(head, is_end, input),
            ReplyState::Skip { .. } if input.is_empty() => Received::NeedMore { bytes_min: 1 },
            ReplyState::Skip { bytes } => {
                let consumed = bytes.min(input.len() as u64);
                let left = bytes - consumed;
                self.state = if left == 0 { ReplyState::Head } else { ReplyState::Skip { bytes: left } };
                Received::Skip { consumed: consumed as usize }
            }
            ReplyState::Last => {
                self.state = ReplyState::Ended;
                Received::End
            }
            ReplyState::Ended => Received::End,
            ReplyState::Broken(ref why) => Received::Broken(why.clone()),
        }
    }

    #[cold]
    fn break_off(&mut self, why: Broken) -> Received<Message> {
        self.state = ReplyState::Broken(why.clone());
        Received::Broken(why)
    }

    fn head(&mut self, input: &[u8]) -> Received<Message> {
        if self.is_fresh && input.len() < 2 {
            return Received::NeedMore { bytes_min: 2 };
        }
        if self.is_fresh
            && let Some(met) = ForeignProtocol::at_start(input, &[ForeignProtocol::Http])
        {
            return self.break_off(Broken::Foreign(met));
        }
        let (bytes, lines) = match self.scan.go_on(input, HEAD_BYTES_MAX) {
            ScannedHead::NeedMore => return Received::NeedMore { bytes_min: input.len() + 1 },
            ScannedHead::Head { lines: 0, .. } => {
                return self.break_off(broken("a reply begins with an empty line"));
            }
            ScannedHead::Head { bytes, lines } => (bytes, lines),
            ScannedHead::Bad(_) => {
                return self
                    .break_off(broken("a reply's head holds a CR, LF or control character out of place"));
            }
            ScannedHead::TooLong { .. } => {
                return self.break_off(broken(format!("a reply's head is over {HEAD_BYTES_MAX} bytes")));
            }
        };
        self.scan = HeadScan::default();
        self.is_fresh = false;
        let mut metadata = MetadataBuf::reusing(std::mem::take(&mut self.gathered));
        match read_head(&input[..bytes], lines, &mut metadata) {
            Ok(head) => {
                self.gathered = metadata.into_bytes();
                self.after_head(head, bytes, input)
            }
            Err(why) => self.break_off(broken(why)),
        }
    }

    fn after_head(&mut self, head: ReplyHead, head_bytes: usize, input: &[u8]) -> Received<Message> {
        if head.status == 101 {
            return self.break_off(broken("the server changed the protocol without a request"));
        }
        if head.status < 200 {
            self.interims += 1;
            if self.interims > INTERIM_MAX {
                return self.break_off(broken("the server sent too many informational (1xx) replies"));
            }
            return Received::Skip { consumed: head_bytes };
        }
        self.interims = 0;
        self.is_last = head.framing.is_last(head.is_http_10);
        if head.status == 408 && self.is_last && !head.is_json {
            // This reply reports why an idle connection closes and belongs to no call: the server did not read a call
            // that crossed it (RFC 9110 section 15.5.9).
            self.state = ReplyState::Head;
            return self.decode(input);
        }
        if self.pending.is_empty() {
            return self.break_off(broken("a reply arrived without a request"));
        }
        let bytes_max = self.frame_bytes_max as u64;
        match head.framing {
            Framing { is_chunked: true, .. } if matches!(head.status, 204 | 304) => {
                self.break_off(broken("a reply that must not have a body has one"))
            }
            _ if matches!(head.status, 204 | 304) => self.reply(&head, &[], Span::default(), head_bytes),
            Framing { is_chunked: true, .. } => {
                // The limit is checked here, since a reply over the limit must be read to its end.
                let chunks = Chunks::new(u64::MAX, HEAD_BYTES_MAX as u64);
                self.state = ReplyState::Chunked { head, chunks, is_refused: false };
                Received::Skip { consumed: head_bytes }
            }
            Framing { length: Some(length), .. } if length > bytes_max => {
                self.state = ReplyState::Skip { bytes: length };
                self.refuse(Some(length), head_bytes)
            }
            Framing { length: Some(length), .. } => {
                let bytes = length as usize;
                if bytes <= input.len() - head_bytes {
                    let span = Span::new(head_bytes as u32, bytes as u32);
                    return self.reply(&head, input, span, head_bytes + bytes);
                }
                self.state = ReplyState::Body { head, bytes };
                Received::Skip { consumed: head_bytes }
            }
            Framing { length: None, .. } => {
                self.is_last = true;
                self.state = ReplyState::UntilEnd { head, is_end: false };
                Received::Skip { consumed: head_bytes }
            }
        }
    }

    /// Handles a reply over the limit: its call ends, its body is skipped. `bytes` is its length, if it was announced;
    /// what has arrived so far depends on how the connection was read, so it is not reported.
    fn refuse(&mut self, bytes: Option<u64>, consumed: usize) -> Received<Message> {
        let bytes_max = self.frame_bytes_max as u64;
        let message = match bytes {
            Some(bytes) => Broken::TooLarge { bytes, bytes_max }.to_string(),
            None => {
                format!("a body of unannounced length is over the limit of {bytes_max} (frame_bytes_max)")
            }
        };
        self.is_scratch_stale = true;
        match self.pending.pop_front() {
            Some(PendingRequest { id, is_ignored: false }) => {
                let (codec, one_way, code) = (JSON, false, Code::ResourceExhausted);
                let refusal = Refusal { id, codec, one_way, code, message };
                Received::Message { message: Message::Refused(refusal), consumed }
            }
            _ => Received::Skip { consumed },
        }
    }

    /// Returns a complete reply, whose body is in the input or in the scratch bytes. `consumed` may be 0 if its bytes
    /// were consumed before.
    fn reply(&mut self, head: &ReplyHead, input: &[u8], body: Span, consumed: usize) -> Received<Message> {
        self.state = ReplyState::Head;
        self.is_scratch_stale = true;
        let Some(PendingRequest { id, is_ignored: false }) = self.pending.pop_front() else {
            // If the connection has ended, no more bytes may be requested: the next state decides.
            return if consumed > 0 { Received::Skip { consumed } } else { self.decode(&[]) };
        };
        let mut metadata_bytes = head.metadata_bytes;
        let error = match head {
            ReplyHead { is_encoded: true, .. } => {
                let text = "the reply has a Content-Encoding that was not asked for";
                Some((Code::Internal, text.to_owned(), Vec::new()))
            }
            ReplyHead { status: 200, is_json: true, .. } => None,
            ReplyHead { status: 200, .. } => {
                let text = "the reply's Content-Type is not application/json";
                Some((Code::Unknown, text.to_owned(), Vec::new()))
            }
            ReplyHead { status, .. } => {
                let bytes = if body.is_scratch() { &self.gathered } else { input };
                Some(read_error(*status, &bytes[body.range()]))
            }
        };
        let (code, body) = match error {
            None => (Code::Ok, body),
            Some((code, message, details)) => {
                self.gathered.truncate(head.metadata_bytes as usize);
                if !details.is_empty() {
                    metadata_bytes = self.add_details(&details);
                }
                self.gathered.extend_from_slice(message.as_bytes());
                (code, Span::scratch(metadata_bytes, message.len() as u32))
            }
        };
        let answered = IncomingReply {
            id,
            codec: JsonDialect::Connect.codec_number(),
            compressed: false,
            status: code.number(),
            queue_us: head.times.0,
            handler_us: head.times.1,
            metadata: Span::scratch(0, metadata_bytes),
            body,
        };
        Received::Message { message: Message::Reply(answered), consumed }
    }

    /// Adds details to the metadata, which are all that is gathered. Returns the length of the metadata.
    #[cold]
    fn add_details(&mut self, details: &[Detail]) -> u32 {
        let mut metadata = MetadataBuf::of(Metadata::checked_before(&self.gathered));
        metadata.remove(DETAILS);
        // Beside the largest head that is read they may not fit.
        let _ = metadata.push(DETAILS, &Detail::encode_all(details));
        self.gathered.clear();
        self.gathered.extend_from_slice(metadata.as_bytes());
        metadata.as_bytes().len() as u32
    }

    /// Returns a reply whose body is in `gathered`.
    fn gathered_reply(&mut self, head: &ReplyHead, consumed: usize) -> Received<Message> {
        let span = Span::scratch(head.metadata_bytes, self.gathered_bytes(head) as u32);
        self.reply(head, &[], span, consumed)
    }

    /// Returns how much has arrived of a body that is gathered.
    fn gathered_bytes(&self, head: &ReplyHead) -> usize {
        self.gathered.len() - head.metadata_bytes as usize
    }

    fn chunked(
        &mut self,
        head: ReplyHead,
        mut chunks: Chunks,
        is_refused: bool,
        input: &[u8],
    ) -> Received<Message> {
        let mut at = 0;
        while at < input.len() {
            match chunks.next(&input[at..]) {
                Ok(BodyPiece::Data(bytes)) if is_refused => at += bytes,
                Ok(BodyPiece::End(bytes)) if is_refused => {
                    self.state = ReplyState::Head;
                    return Received::Skip { consumed: at + bytes };
                }
                Ok(BodyPiece::Data(bytes)) if bytes > self.frame_bytes_max - self.gathered_bytes(&head) => {
                    self.state = ReplyState::Chunked { head, chunks, is_refused: true };
                    return self.refuse(None, at + bytes);
                }
                Ok(BodyPiece::Data(bytes)) => {
                    self.gathered.extend_from_slice(&input[at..at + bytes]);
                    at += bytes;
                }
                Ok(BodyPiece::Framing(bytes)) => at += bytes,
                Ok(BodyPiece::End(bytes)) => return self.gathered_reply(&head, at + bytes),
                Err(fault) => {
                    return self.break_off(match fault {
                        ChunkFault::Malformed(what) => broken(what),
                        ChunkFault::TooLarge => broken("a reply's chunks have no end"),
                        ChunkFault::TooMuchFraming => broken("a reply's chunks are more framing than data"),
                    });
                }
            }
        }
        self.state = ReplyState::Chunked { head, chunks, is_refused };
        if at == 0 { Received::NeedMore { bytes_min: 1 } } else { Received::Skip { consumed: at } }
    }

    fn until_end(&mut self, head: ReplyHead, is_end: bool, input: &[u8]) -> Received<Message> {
        if input.len() > self.frame_bytes_max - self.gathered_bytes(&head) {
            // The rest ends only with the connection, which accepts no more calls anyway.
            self.state = ReplyState::Head;
            return self.refuse(None, input.len());
        }
        self.gathered.extend_from_slice(input);
        match input.len() {
            consumed if is_end => self.gathered_reply(&head, consumed),
            0 => Received::NeedMore { bytes_min: 1 },
            consumed => Received::Skip { consumed },
        }
    }
}

/// Reads the head of a reply. An ambiguous head is a fault. Fields that this protocol does not use itself are added to
/// the metadata.
fn read_head(head: &[u8], lines: usize, metadata: &mut MetadataBuf) -> Result<ReplyHead, String> {
    if lines - 1 > HEADERS_MAX {
        return Err(format!("a reply's head has more than {HEADERS_MAX} fields"));
    }
    with_fields!(lines, |fields| {
        let mut reply = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut reply, head, fields) {
            Ok(Status::Complete(bytes)) if bytes == head.len() => {}
            Ok(_) => return Err("a reply's head does not end where its lines do".to_owned()),
            Err(error) => return Err(format!("a reply's head is malformed: {error}")),
        }
        let is_http_10 = reply.version == Some(0);
        let mut response = ReplyHead { status: reply.code.unwrap_or(0), is_http_10, ..ReplyHead::default() };
        if response.status < 100 {
            return Err(format!("{} is no status", response.status));
        }
        for header in reply.headers.iter() {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if response.framing.take(header.name, header.value)? {
                continue;
            }
            if is("content-type") {
                response.is_json = is_json(header.value);
            } else if is("content-encoding") {
                response.is_encoded = !header.value.eq_ignore_ascii_case(b"identity");
            } else if is("server-timing") {
                read_server_timing(header.value, &mut response.times);
            } else if !is("date") {
                add_field(header.name, header.value, metadata);
            }
        }
        response.framing.check(is_http_10)?;
        if !metadata.as_bytes().is_empty() {
            add_retry_after(metadata);
            response.metadata_bytes = metadata.as_bytes().len() as u32;
        }
        Ok(response)
    })
}

/// Adds a field to the metadata. What exceeds their length is left out.
#[cold]
fn add_field(name: &str, value: &[u8], metadata: &mut MetadataBuf) {
    let _ = metadata.push(&name.to_ascii_lowercase(), value);
}

/// Adds the time after which a call may be repeated, if the server stated it only by the standard field: a number of
/// seconds, or a date, which is not read (RFC 9110 section 10.2.3).
#[cold]
fn add_retry_after(metadata: &mut MetadataBuf) {
    let view = metadata.view();
    if view.find(RETRY_AFTER_MS).is_none()
        && let Some(seconds) = trailers::number(view, "retry-after")
    {
        let ms = seconds.saturating_mul(1000).to_string();
        let _ = metadata.push(RETRY_AFTER_MS, ms.as_bytes());
    }
}

impl Protocol for HttpClient {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Message> {
        self.0.decode(input)
    }

    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        match outgoing {
            Outgoing::Request(call) => self.0.request(call, out),
            Outgoing::Cancel { id } => self.0.cancel(id),
            // A client sends no replies, and HTTP/1.1 has no form for the others.
            _ => {}
        }
    }

    fn is_inside_message(&self) -> bool {
        match self.0.state {
            ReplyState::Body { .. }
            | ReplyState::Chunked { .. }
            | ReplyState::UntilEnd { .. }
            | ReplyState::Skip { .. } => true,
            ReplyState::Head | ReplyState::Last | ReplyState::Ended | ReplyState::Broken(_) => false,
        }
    }

    fn scratch(&self) -> &[u8] {
        &self.0.gathered
    }

    fn on_end(&mut self) -> bool {
        match &mut self.0.state {
            ReplyState::UntilEnd { is_end, .. } => {
                *is_end = true;
                true
            }
            ReplyState::Head
            | ReplyState::Body { .. }
            | ReplyState::Chunked { .. }
            | ReplyState::Skip { .. }
            | ReplyState::Last
            | ReplyState::Ended
            | ReplyState::Broken(_) => false,
        }
    }

    fn is_in_head(&self) -> bool {
        matches!(self.0.state, ReplyState::Head) && self.0.scan.has_begun()
    }
}
