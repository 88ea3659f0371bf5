//! The state of a connection: requests whose message has not arrived, and what the application must learn.
//!
//! A message that arrives in one frame which ends the request is read in place. Otherwise it is collected; the
//! incomplete messages of all streams of a connection are bounded by `in_flight_bytes_max`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reply::{AnswerKind, PREFIX_BYTES, write_metadata, write_page, write_reply};
use super::request::{CallHead, GrpcFault, GrpcTarget, KnownPath, PROTOBUF, interpret};
use crate::codec_number::Codec;
use crate::config::Limits;
use crate::message::{Message, MetadataBuf, OutgoingReply, Refusal, Request, Span};
use crate::status::Code;
use crate::wire::http2::{Http2Code, Http2Connection, Http2Event, Http2Head, Http2Limits, Http2Step};
use crate::wire::{Broken, Out, Received, ServerContext};

/// The streams that a peer may have open, which is announced.
const STREAMS_MAX: u32 = 128;
/// The bytes of a buffer that are kept between requests.
const KEEP_BYTES_MAX: usize = 512;
/// Held answers are checked for stalls this often.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// A call whose request is not complete.
#[derive(Debug)]
struct IncomingCall {
    stream: u32,
    head: CallHead,
    /// When the head arrived: the time left counts from then on.
    began: Option<Instant>,
    /// The metadata, then what has arrived of the message and its prefix.
    bytes: Vec<u8>,
    metadata_bytes: usize,
}

impl IncomingCall {
    /// Returns the bytes of the message and its prefix.
    fn body(&self) -> &[u8] {
        self.bytes.get(self.metadata_bytes..).unwrap_or_default()
    }
}

/// The head of a call that was repeated, so that it is not interpreted each time.
#[derive(Debug)]
struct KnownCall {
    version: u32,
    head: CallHead,
    metadata: Box<[u8]>,
}

/// A request that is not gRPC, and is not complete. Its body is skipped, and then it is answered.
#[derive(Debug)]
struct OtherRequest {
    stream: u32,
    skipped: usize,
    answer: OtherAnswer,
}

/// The answer to a request that is not gRPC.
#[derive(Debug)]
enum OtherAnswer {
    /// That of the route of a page. `metadata` belongs to its call.
    Page {
        hash: u32,
        is_head: bool,
        metadata: Vec<u8>,
    },
    Fault(GrpcFault),
}

/// How the answer to a call differs from that to an ordinary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerForm {
    /// Its head is written ahead of it.
    Headed,
    /// It is the response of a page.
    Page { is_head: bool },
}

/// Returns the limits of the frames for those of the server.
fn http2_limits(limits: &Limits) -> Http2Limits {
    let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).min(i32::MAX as u32);
    Http2Limits {
        streams_max: STREAMS_MAX.min(bytes(limits.streams_max)),
        stream_window_bytes: bytes(limits.stream_window_bytes.max(64 << 10)),
        connection_window_bytes: bytes(limits.connection_window_bytes.max(1 << 20)),
        header_list_bytes_max: limits.http_head_bytes_max,
        held_bytes_max: limits.held_bytes_max,
        ..Http2Limits::default()
    }
}

/// The server's side of one connection.
#[derive(Debug)]
pub(super) struct GrpcServerInner {
    side: Arc<ServerContext>,
    connection: Http2Connection,
    known_path: KnownPath,
    known_call: Option<Box<KnownCall>>,
    /// The fields of the last call ([`Http2Connection::fields_version`]).
    version: u32,
    incoming: Vec<IncomingCall>,
    others: Vec<OtherRequest>,
    /// Bytes of incomplete messages.
    partial_bytes: usize,
    /// The metadata of the last request, and its message if it was collected.
    scratch: Vec<u8>,
    /// The streams whose answers differ from ordinary ones.
    forms: Vec<(u32, AnswerForm)>,
    is_draining: bool,
    now: Option<Instant>,
}

impl GrpcServerInner {
    pub(super) fn new(side: Arc<ServerContext>) -> GrpcServerInner {
        GrpcServerInner {
            connection: Http2Connection::server(http2_limits(&side.limits)),
            side,
            known_path: KnownPath::default(),
            known_call: None,
            version: 0,
            incoming: Vec::new(),
            others: Vec::new(),
            partial_bytes: 0,
            scratch: Vec::new(),
            forms: Vec::new(),
            is_draining: false,
            now: None,
        }
    }

    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.connection.allocated_bytes()
            + self.known_path.allocated_bytes()
            + self.known_call.as_ref().map_or(0, |known| size_of::<KnownCall>() + known.metadata.len())
            + self.incoming.capacity() * size_of::<IncomingCall>()
            + self.others.capacity() * size_of::<OtherRequest>()
            + self.scratch.capacity()
            + self.forms.capacity() * size_of::<(u32, AnswerForm)>()
    }

    #[inline]
    pub(super) fn scratch(&self) -> &[u8] {
        &self.scratch
    }

    pub(super) fn is_inside_message(&self) -> bool {
        !self.incoming.is_empty() || !self.others.is_empty() || self.connection.is_in_head()
    }

    pub(super) fn is_in_head(&self) -> bool {
        self.connection.is_in_head()
    }

    // Input.

    #[inline(never)]
    pub(super) fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Message> {
        // The message that used it has been taken.
        self.scratch.clear();
        if self.scratch.capacity() > KEEP_BYTES_MAX {
            self.scratch = Vec::new();
        }
        let (event, consumed) = match self.connection.receive(input, out) {
            Http2Step::Event { event, consumed } => (event, consumed),
            Http2Step::Skip { consumed } => {
                if self.is_draining {
                    // A drain that began before the peer's preface was read.
                    self.connection.drain(out);
                }
                return Received::Skip { consumed };
            }
            Http2Step::NeedMore { bytes_min } => return Received::NeedMore { bytes_min },
            Http2Step::Failed(fault) => return Received::Broken(Broken::Other(fault.to_string())),
        };
        let message = match event {
            Http2Event::Data { stream, start, bytes, is_last } => {
                self.on_data(stream, input, (start, bytes), is_last, out)
            }
            Http2Event::Head { stream, head, is_last } => self.on_head(stream, head, is_last),
            Http2Event::Trailers { stream } => self.on_request_end(stream),
            Http2Event::Reset { stream, .. } => self.on_reset(stream),
            Http2Event::HeadTooLarge { stream, is_last } => {
                let max = self.side.limits.http_head_bytes_max;
                let message = format!("the fields take more than {max} bytes (http_head_bytes_max)");
                let fault = GrpcFault::http(431, Code::ResourceExhausted, message);
                self.answer_other(stream, OtherAnswer::Fault(fault), is_last)
            }
        };
        match message {
            Some(message) => Received::Message { message, consumed },
            None => Received::Skip { consumed },
        }
    }

    #[inline]
    fn on_head(&mut self, stream: u32, head: Http2Head, is_last: bool) -> Option<Message> {
        let version = self.connection.fields_version();
        let mut bytes = std::mem::take(&mut self.scratch);
        if let Some(known) = self.known_call.as_ref().filter(|known| known.version == version && !is_last) {
            bytes.extend_from_slice(&known.metadata);
            let head = known.head;
            self.begin(stream, head, bytes);
            return None;
        }
        let GrpcServerInner { side, connection, known_path, .. } = self;
        let mut metadata = MetadataBuf::reusing(bytes);
        match interpret(side, known_path, connection.fields(), head, &mut metadata) {
            Ok(GrpcTarget::Call(_)) if is_last => Some(refuse(stream, no_message())),
            Ok(GrpcTarget::Call(head)) => {
                let bytes = metadata.into_bytes();
                // The connection has found the head to be repeated.
                let is_repeated = std::mem::replace(&mut self.version, version) == version;
                self.known_call =
                    is_repeated.then(|| Box::new(KnownCall { version, head, metadata: bytes[..].into() }));
                self.begin(stream, head, bytes);
                None
            }
            Ok(GrpcTarget::Page { hash, is_head }) => {
                let metadata = metadata.into_bytes();
                self.answer_other(stream, OtherAnswer::Page { hash, is_head, metadata }, is_last)
            }
            Err(fault) if fault.http_status != 0 => {
                self.answer_other(stream, OtherAnswer::Fault(fault), is_last)
            }
            // At once: the client of a streaming method may wait for an answer before it sends more.
            Err(fault) => Some(refuse(stream, fault)),
        }
    }

    /// A call whose message follows. `bytes` are its metadata.
    #[inline]
    fn begin(&mut self, stream: u32, head: CallHead, bytes: Vec<u8>) {
        if self.incoming.capacity() == 0 {
            // Most peers complete one request before the next, and an idle connection keeps this.
            self.incoming.reserve_exact(1);
        }
        let (began, metadata_bytes) = (self.now, bytes.len());
        self.incoming.push(IncomingCall { stream, head, began, bytes, metadata_bytes });
    }

    /// Answers a request that is not gRPC, once it has ended.
    #[cold]
    fn answer_other(&mut self, stream: u32, answer: OtherAnswer, is_last: bool) -> Option<Message> {
        if !is_last {
            self.others.push(OtherRequest { stream, skipped: 0, answer });
            return None;
        }
        match answer {
            OtherAnswer::Page { hash, is_head, metadata } => {
                self.forms.push((stream, AnswerForm::Page { is_head }));
                let metadata_bytes = metadata.len() as u32;
                self.scratch = metadata;
                Some(Message::Request(Request {
                    id: u64::from(stream),
                    method: hash,
                    name: None,
                    codec: Codec::Raw.number(),
                    compressed: false,
                    one_way: false,
                    schema: 0,
                    time_left_us: 0,
                    metadata: Span::scratch(0, metadata_bytes),
                    body: Span::scratch(metadata_bytes, 0),
                }))
            }
            OtherAnswer::Fault(fault) => Some(refuse(stream, fault)),
        }
    }

    /// Handles a part of the body, or the end, of a request that is not gRPC.
    #[cold]
    fn on_other(&mut self, stream: u32, bytes: usize, is_last: bool) -> Option<Message> {
        let place = self.others.iter().position(|other| other.stream == stream)?;
        let other = self.others.get_mut(place)?;
        other.skipped = other.skipped.saturating_add(bytes);
        // More is not worth the traffic.
        if !is_last && other.skipped <= self.side.limits.linger_bytes_max {
            return None;
        }
        let OtherRequest { stream, answer, .. } = self.others.swap_remove(place);
        if self.others.is_empty() {
            self.others = Vec::new();
        }
        self.answer_other(stream, answer, true)
    }

    #[inline]
    fn on_data(
        &mut self,
        stream: u32,
        input: &[u8],
        (start, bytes): (usize, usize),
        is_last: bool,
        out: &mut Out<'_>,
    ) -> Option<Message> {
        // Nothing that is received counts against the windows for long: what is kept has a limit of its own.
        self.connection.consume(stream, bytes, out);
        // The requests of a peer are few, and the last one to begin is usually the next to continue.
        let Some(place) = self.incoming.iter().rposition(|call| call.stream == stream) else {
            return self.on_other(stream, bytes, is_last);
        };
        let data = input.get(start..start + bytes).unwrap_or_default();
        let call = self.incoming.get_mut(place)?;
        if is_last && call.body().is_empty() && is_whole(data, self.side.limits.frame_bytes_max) {
            let body = Span::new((start + PREFIX_BYTES) as u32, (bytes - PREFIX_BYTES) as u32);
            return Some(self.deliver(place, Some(body)));
        }
        if self.partial_bytes + bytes > self.side.limits.in_flight_bytes_max {
            let max = self.side.limits.in_flight_bytes_max;
            let message = format!(
                "the incomplete messages of the connection are over {max} bytes (in_flight_bytes_max)"
            );
            return Some(self.refuse_incoming(place, GrpcFault::grpc(Code::ResourceExhausted, message)));
        }
        // Grows as bytes arrive: the prefix reserves nothing.
        call.bytes.extend_from_slice(data);
        self.partial_bytes += bytes;
        if let Err(fault) = check_partial(call.body(), self.side.limits.frame_bytes_max) {
            return Some(self.refuse_incoming(place, fault));
        }
        if is_last { self.on_request_end(stream) } else { None }
    }

    /// The request of a stream has ended.
    fn on_request_end(&mut self, stream: u32) -> Option<Message> {
        let Some(place) = self.incoming.iter().rposition(|call| call.stream == stream) else {
            return self.on_other(stream, 0, true);
        };
        let body = self.incoming.get(place)?.body();
        if is_whole(body, self.side.limits.frame_bytes_max) {
            return Some(self.deliver(place, None));
        }
        let fault = if body.is_empty() {
            no_message()
        } else {
            GrpcFault::grpc(Code::Internal, "the request ends inside its message")
        };
        Some(self.refuse_incoming(place, fault))
    }

    /// Passes a complete request to the application. Its message is in the input, or was collected.
    #[inline]
    fn deliver(&mut self, place: usize, in_place: Option<Span>) -> Message {
        let call = self.take(place);
        let metadata = Span::scratch(0, call.metadata_bytes as u32);
        let body = in_place.unwrap_or_else(|| {
            let start = call.metadata_bytes + PREFIX_BYTES;
            Span::scratch(start as u32, (call.bytes.len() - start) as u32)
        });
        self.scratch = call.bytes;
        let CallHead { method, codec, mut time_left_us } = call.head;
        if let (1.., Some(began), Some(now)) = (time_left_us, call.began, self.now) {
            let waited = u32::try_from(now.saturating_duration_since(began).as_micros()).unwrap_or(u32::MAX);
            // 0 would be no deadline.
            time_left_us = time_left_us.saturating_sub(waited).max(1);
        }
        Message::Request(Request {
            id: u64::from(call.stream),
            method,
            name: None,
            codec,
            compressed: false,
            one_way: false,
            schema: 0,
            time_left_us,
            metadata,
            body,
        })
    }

    #[inline]
    fn take(&mut self, place: usize) -> IncomingCall {
        let call = self.incoming.swap_remove(place);
        self.partial_bytes -= call.body().len();
        if self.incoming.is_empty() && self.incoming.capacity() > 4 {
            self.incoming = Vec::new();
        }
        call
    }

    #[cold]
    fn refuse_incoming(&mut self, place: usize, fault: GrpcFault) -> Message {
        let call = self.take(place);
        refuse(call.stream, fault)
    }

    #[cold]
    fn on_reset(&mut self, stream: u32) -> Option<Message> {
        self.forms.retain(|(formed, _)| *formed != stream);
        if let Some(place) = self.incoming.iter().rposition(|call| call.stream == stream) {
            // The application does not know of it.
            self.take(place);
            self.connection.close(stream);
            return None;
        }
        if let Some(place) = self.others.iter().position(|other| other.stream == stream) {
            self.others.swap_remove(place);
            self.connection.close(stream);
            return None;
        }
        Some(Message::Cancel { id: u64::from(stream) })
    }

    // Output.

    #[inline]
    pub(super) fn reply(&mut self, reply: OutgoingReply<'_>, out: &mut Out<'_>) {
        let stream = reply.id as u32;
        let mut is_headed = false;
        if let Some(place) = self.forms.iter().position(|(formed, _)| *formed == stream) {
            match self.forms.swap_remove(place).1 {
                AnswerForm::Headed => is_headed = true,
                AnswerForm::Page { is_head } => {
                    return write_page(&self.side, &mut self.connection, reply, is_head, out);
                }
            }
        }
        write_reply(&self.side, &mut self.connection, reply, is_headed, out);
    }

    /// Writes the head of an answer, with metadata, ahead of the answer.
    pub(super) fn headers(&mut self, id: u64, codec: u8, metadata: &[u8], out: &mut Out<'_>) {
        let stream = id as u32;
        if self.connection.is_open(stream) && !self.forms.iter().any(|(formed, _)| *formed == stream) {
            write_metadata(&self.side, &mut self.connection, stream, codec, metadata, out);
            self.forms.push((stream, AnswerForm::Headed));
        }
    }

    pub(super) fn drain(&mut self, out: &mut Out<'_>) {
        self.is_draining = true;
        self.connection.drain(out);
    }

    pub(super) fn finish_drain(&mut self, out: &mut Out<'_>) {
        self.connection.finish_drain(out);
    }

    pub(super) fn abort_late(&mut self, out: &mut Out<'_>) {
        self.connection.abort(Http2Code::NO_ERROR, "a request took too long to arrive", out);
    }

    // Time.

    #[inline(never)]
    pub(super) fn on_time(&mut self, now: Instant, limits: &Limits, out: &mut Out<'_>) {
        if self.now != Some(now) {
            self.now = Some(now);
            self.connection.on_time(now, Duration::from_millis(limits.write_stall_ms), out);
        }
    }

    pub(super) fn next_time(&self) -> Option<Instant> {
        if self.connection.held_bytes() == 0 {
            return None;
        }
        let stall = Duration::from_millis(self.side.limits.write_stall_ms);
        self.now.map(|now| now + STALL_CHECK.min(stall / 4).max(Duration::from_millis(1)))
    }
}

/// Returns the refusal of a stream's request. How it is answered is part of its id.
#[cold]
fn refuse(stream: u32, fault: GrpcFault) -> Message {
    let GrpcFault { http_status, names_encodings, code, message } = fault;
    let id = AnswerKind { http_status, names_encodings }.in_id(stream);
    Message::Refused(Refusal { id, codec: PROTOBUF, one_way: false, code, message })
}

#[cold]
fn no_message() -> GrpcFault {
    let message = "a unary call has one message in its request, found none";
    GrpcFault::grpc(Code::Unimplemented, message)
}

/// Returns the length that a prefix announces, unless the message is refused.
#[inline]
fn length(prefix: [u8; PREFIX_BYTES], bytes_max: usize) -> Result<usize, GrpcFault> {
    let [flag, length @ ..] = prefix;
    let length = u32::from_be_bytes(length) as usize;
    if flag == 0 && length <= bytes_max {
        return Ok(length);
    }
    Err(match flag {
        0 => {
            let message =
                format!("a message of {length} bytes is over the limit of {bytes_max} (frame_bytes_max)");
            GrpcFault::grpc(Code::ResourceExhausted, message)
        }
        1 => GrpcFault::grpc(Code::Internal, "a compressed message without grpc-encoding"),
        flag => {
            let message = format!("the first byte of a message: expected 0, found {flag}");
            GrpcFault::grpc(Code::Internal, message)
        }
    })
}

/// Whether the bytes are one message with its prefix, and nothing else.
#[inline]
fn is_whole(body: &[u8], bytes_max: usize) -> bool {
    body.split_first_chunk::<PREFIX_BYTES>()
        .is_some_and(|(prefix, message)| length(*prefix, bytes_max).is_ok_and(|bytes| bytes == message.len()))
}

/// Checks what has arrived of a message.
fn check_partial(body: &[u8], bytes_max: usize) -> Result<(), GrpcFault> {
    let Some((prefix, message)) = body.split_first_chunk::<PREFIX_BYTES>() else { return Ok(()) };
    if message.len() > length(*prefix, bytes_max)? {
        let message = "a unary call has one message in its request, found a second one";
        return Err(GrpcFault::grpc(Code::Unimplemented, message));
    }
    Ok(())
}
