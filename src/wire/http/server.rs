//! The server's side: decodes heads and bodies to messages, answers interim requests and OPTIONS itself, and writes all answers in the order of the requests.

mod bodies;
#[cfg(feature = "jsonrpc")]
mod json_rpc;
mod streams;

use std::sync::Arc;

use coreloop_bufpool::{Chunk, LINK_BYTES_MIN};

use self::streams::{HeldStream, StreamProgress};
use super::chunks::Chunks;
use super::fault::RequestFault;
use super::known::KnownRequestHead;
use super::reply::{AllowedMethods, PendingResponse, ServerResponse, write_end, write_response};
use super::request::{
    BodyLength, RequestHead, RequestTarget, check_first_line, check_method, read, reject, too_many,
};
use super::scan::{HeadScan, ScannedHead};
use super::target::{CallTarget, RequestCall};
use super::{JSON, KEEP_BYTES_MAX};
use crate::message::{Message, MetadataBuf, Refusal, ReplyExtras, Request, SendBody, Span};
use crate::status::Code;
use crate::wire::order::{OrderTicket, OrderedReplies};
use crate::wire::{Out, Received, ServerContext};

/// The bytes that Go's client sends (net/rpc client.go, `DialHTTPPath`), up to the two line feeds. These are the only
/// lines without a CR that are accepted.
const GO_CONNECT: &[u8] = b"CONNECT /_goRPC_ HTTP/1.0";

/// The position in the stream of requests.
#[derive(Clone, Copy, Debug)]
enum RequestState {
    /// Between requests, or in a head.
    Head,
    /// A call's body follows, and is read in place.
    Body { call: RequestCall, bytes: usize },
    /// A call's body arrives in chunks, and is collected in `gathered`.
    Chunked { call: RequestCall, chunks: Chunks },
    /// A body that is skipped.
    Skip { bytes: u64 },
    /// A chunked body that is skipped.
    SkipChunks { chunks: Chunks },
    /// The requests of a JSON-RPC body are being returned one by one.
    #[cfg(feature = "jsonrpc")]
    JsonRpc,
    /// The answer to the last request is a stream: no input is taken before it is written.
    Stream { id: u64, progress: StreamProgress },
    /// No more input is read.
    Ended,
    /// The next byte belongs to Go's net/rpc.
    GoRpc,
}

/// The server's side of one connection.
#[derive(Debug)]
pub(super) struct HttpServerInner {
    side: Arc<ServerContext>,
    /// A CONNECT to Go's net/rpc is granted.
    pub(super) grants_go_rpc: bool,
    state: RequestState,
    scan: HeadScan,
    /// An empty line came before the head; one is allowed (RFC 9112 section 2.2).
    is_after_blank: bool,
    /// The answer to the next new request is the last.
    is_draining: bool,
    /// The scratch bytes belong to a message that was already returned.
    is_scratch_stale: bool,
    /// The scratch bytes are in `gathered`; otherwise in `metadata`.
    is_gathered: bool,
    metadata: MetadataBuf,
    /// The last head, if it may be repeated.
    known: KnownRequestHead,
    /// Metadata, then a body that arrived in several pieces. Grows as bytes arrive, up to `frame_bytes_max`.
    gathered: Vec<u8>,
    order: OrderedReplies<PendingResponse, Box<ServerResponse<'static>>>,
    /// What the answer of [`RequestState::Stream`] holds before its turn.
    held_stream: HeldStream,
    /// Bytes of waiting answers.
    held_bytes: usize,
    #[cfg(feature = "jsonrpc")]
    json_rpc: Option<Box<json_rpc::JsonRpcBodies>>,
}

impl HttpServerInner {
    pub(super) fn new(side: Arc<ServerContext>) -> HttpServerInner {
        HttpServerInner {
            side,
            grants_go_rpc: true,
            state: RequestState::Head,
            scan: HeadScan::default(),
            is_after_blank: false,
            is_draining: false,
            is_scratch_stale: false,
            is_gathered: false,
            metadata: MetadataBuf::new(),
            known: KnownRequestHead::default(),
            gathered: Vec::new(),
            order: OrderedReplies::default(),
            held_stream: HeldStream::default(),
            held_bytes: 0,
            #[cfg(feature = "jsonrpc")]
            json_rpc: None,
        }
    }

    #[cfg(feature = "netrpc")]
    pub(super) fn side(&self) -> &Arc<ServerContext> {
        &self.side
    }

    pub(super) fn scratch(&self) -> &[u8] {
        if self.is_gathered { &self.gathered } else { self.metadata.as_bytes() }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn becomes_go_rpc(&self) -> bool {
        matches!(self.state, RequestState::GoRpc)
    }

    pub(super) fn is_inside_message(&self) -> bool {
        match self.state {
            RequestState::Body { .. }
            | RequestState::Chunked { .. }
            | RequestState::Skip { .. }
            | RequestState::SkipChunks { .. } => true,
            #[cfg(feature = "jsonrpc")]
            RequestState::JsonRpc => true,
            RequestState::Head | RequestState::Stream { .. } | RequestState::Ended | RequestState::GoRpc => {
                false
            }
        }
    }

    /// Whether the rest of a refused request is being read.
    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.state, RequestState::Skip { .. } | RequestState::SkipChunks { .. })
    }

    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.state, RequestState::Head) && self.scan.has_begun()
    }

    // Input.

    #[inline(never)]
    pub(super) fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Message> {
        if self.is_scratch_stale {
            self.release_scratch();
        }
        match self.state {
            RequestState::Head => self.head(input, out),
            RequestState::Body { bytes, .. } if input.len() < bytes => {
                Received::NeedMore { bytes_min: bytes }
            }
            #[cfg(feature = "jsonrpc")]
            RequestState::Body { call, bytes } if call.target == CallTarget::JsonRpc => {
                self.begin_json_rpc(call, None, &input[..bytes], bytes, out)
            }
            #[cfg(feature = "jsonrpc")]
            RequestState::JsonRpc if input.len() < self.json_rpc_bytes_left() => {
                Received::NeedMore { bytes_min: self.json_rpc_bytes_left() }
            }
            #[cfg(feature = "jsonrpc")]
            RequestState::JsonRpc => self.next_json_rpc(),
            RequestState::Body { call, bytes } => self.call(call, Span::new(0, bytes as u32), bytes),
            RequestState::Chunked { call, chunks } => self.chunked(call, chunks, input, out),
            RequestState::Skip { .. } | RequestState::SkipChunks { .. } if input.is_empty() => {
                Received::NeedMore { bytes_min: 1 }
            }
            RequestState::Skip { bytes } => {
                let consumed = bytes.min(input.len() as u64);
                let left = bytes - consumed;
                self.state = if left == 0 { RequestState::Head } else { RequestState::Skip { bytes: left } };
                Received::Skip { consumed: consumed as usize }
            }
            RequestState::SkipChunks { chunks } => self.skip_chunks(chunks, input),
            // A connection does not ask before the answer is written.
            RequestState::Stream { .. } => Received::NeedMore { bytes_min: input.len() + 1 },
            RequestState::Ended | RequestState::GoRpc => Received::End,
        }
    }

    /// Clears the scratch bytes, which are no longer used. Memory for one large request is not kept for the next.
    fn release_scratch(&mut self) {
        self.is_scratch_stale = false;
        self.is_gathered = false;
        self.gathered.clear();
        if self.gathered.capacity() > KEEP_BYTES_MAX {
            self.gathered = Vec::new();
        }
        if self.metadata.as_bytes().len() > KEEP_BYTES_MAX {
            self.metadata = MetadataBuf::new();
        }
    }

    fn head(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Message> {
        if !self.is_after_blank
            && let Some((call, body_bytes, bytes)) = self.known.begins(input)
        {
            self.scan = HeadScan::default();
            if body_bytes <= input.len() - bytes && call.target.takes_body_in_place() {
                return self.call(call, Span::new(bytes as u32, body_bytes as u32), bytes + body_bytes);
            }
            let body = BodyLength::Bytes(body_bytes as u64);
            return self.begin_call(call, body, false, (bytes, input.len()), out);
        }
        let bytes_max = self.side.limits.http_head_bytes_max;
        if self.scan.is_in_first_line()
            && let Err(fault) = check_method(input)
        {
            return self.refuse_head(fault, out);
        }
        let scanned = self.scan.go_on(input, bytes_max);
        // This precedes the checks of later bytes, so that the answer does not depend on how the bytes were split.
        if let Some(bytes) = self.scan.take_first_line()
            && let Err(fault) = check_first_line(&input[..bytes])
        {
            return self.refuse_head(fault, out);
        }
        match scanned {
            ScannedHead::NeedMore => Received::NeedMore { bytes_min: input.len() + 1 },
            ScannedHead::Head { bytes, lines: 0 } if !self.is_after_blank => {
                self.is_after_blank = true;
                self.scan = HeadScan::default();
                Received::Skip { consumed: bytes }
            }
            ScannedHead::Head { lines: 0, .. } => {
                self.refuse_head(RequestFault::malformed("more than one empty line before a request"), out)
            }
            ScannedHead::Head { bytes, lines } => {
                self.scan = HeadScan::default();
                self.is_after_blank = false;
                let HttpServerInner { side, metadata, gathered, known, .. } = self;
                let question = read(side, &input[..bytes], lines, metadata, gathered);
                known.remember(&input[..bytes], &question, metadata.as_bytes().len());
                self.begin_request(question, (bytes, input.len()), out)
            }
            ScannedHead::Bad(at) if input[..at] == *GO_CONNECT && input[at] == b'\n' => {
                match input.get(at + 1) {
                    None => Received::NeedMore { bytes_min: at + 2 },
                    Some(b'\n') => {
                        let request_target = Ok(RequestTarget::GoRpc);
                        self.begin_request(
                            RequestHead { request_target, ..reject(RequestFault::invalid("")) },
                            (at + 2, input.len()),
                            out,
                        )
                    }
                    Some(_) => self.refuse_head(RequestFault::malformed("lines end in CR and LF"), out),
                }
            }
            ScannedHead::Bad(_) => self.refuse_head(
                RequestFault::malformed("the head holds a CR, LF or control character out of place"),
                out,
            ),
            ScannedHead::TooLong { is_first_line: true } => {
                let message = format!(
                    "the first line is over the limit of {} bytes (http_head_bytes_max)",
                    self.side.limits.http_head_bytes_max
                );
                self.refuse_head(RequestFault::new(414, Code::ResourceExhausted, message), out)
            }
            ScannedHead::TooLong { is_first_line: false } => {
                let bytes_max = self.side.limits.http_head_bytes_max;
                self.refuse_head(too_many(&format!("over {bytes_max} bytes (http_head_bytes_max)")), out)
            }
        }
    }

    /// Refuses input that is not a head. Its end is unknown, so the connection closes.
    #[cold]
    fn refuse_head(&mut self, fault: RequestFault, out: &mut Out<'_>) -> Received<Message> {
        self.begin_request(reject(fault), (0, 0), out)
    }

    /// Handles a head of `head_bytes` bytes, in an input of `available` bytes.
    fn begin_request(
        &mut self,
        question: RequestHead,
        (head_bytes, available): (usize, usize),
        out: &mut Out<'_>,
    ) -> Received<Message> {
        let RequestHead { pending, body, expects_continue, request_target } = question;
        let response = match request_target {
            Ok(RequestTarget::Call { target, time_left_us, dialect }) => {
                let call = RequestCall { target, time_left_us, dialect, pending };
                return self.begin_call(call, body, expects_continue, (head_bytes, available), out);
            }
            Ok(RequestTarget::CallByGet { method, time_left_us, dialect }) => {
                let start = self.metadata.as_bytes().len();
                let bytes = self.gathered.len();
                // The metadata are short; the scratch bytes must be contiguous.
                self.gathered.splice(0..0, self.metadata.as_bytes().iter().copied());
                self.is_gathered = true;
                let body = Span::scratch(start as u32, bytes as u32);
                let target = CallTarget::Method(method);
                return self.call(RequestCall { target, time_left_us, dialect, pending }, body, head_bytes);
            }
            Ok(RequestTarget::GoRpc) if !self.grants_go_rpc => {
                let message = "Go's net/rpc is not enabled on this listener";
                let fault = RequestFault {
                    allow: AllowedMethods::All,
                    ..RequestFault::new(405, Code::Unimplemented, message)
                };
                return self.refuse(pending, fault.and_close(), body, expects_continue, head_bytes);
            }
            Ok(RequestTarget::MustConnect) if !self.grants_go_rpc => {
                let fault = RequestFault::new(404, Code::Unimplemented, "there is nothing at this path");
                let pending = PendingResponse { allow: AllowedMethods::Nothing, ..pending };
                return self.refuse(pending, fault, body, expects_continue, head_bytes);
            }
            Ok(RequestTarget::GoRpc) if !self.order.is_empty() => {
                // Earlier answers are still outstanding, and are not of that protocol.
                let fault =
                    RequestFault::malformed("CONNECT must be the only request in flight on its connection");
                return self.refuse(pending, fault, body, expects_continue, head_bytes);
            }
            Ok(RequestTarget::GoRpc) => {
                let pending = PendingResponse { closes: false, ..pending };
                self.answer(pending, ServerResponse::GoRpc, out);
                self.state = RequestState::GoRpc;
                return Received::Skip { consumed: head_bytes };
            }
            Ok(RequestTarget::Options { is_preflight }) => ServerResponse::Options { is_preflight },
            Ok(RequestTarget::StreamHead) => {
                // The argument was checked, and is not used.
                self.is_scratch_stale = true;
                ServerResponse::Stream { fields: Vec::new(), body: Chunk::default() }
            }
            Ok(RequestTarget::MustConnect) => ServerResponse::MustConnect,
            Err(fault) => return self.refuse(pending, fault, body, expects_continue, head_bytes),
        };
        let pending = self.pass_over(pending, body, expects_continue);
        self.answer(pending, response, out);
        Received::Skip { consumed: head_bytes }
    }

    /// Refuses a request whose head was read; the answer does not wait for the body.
    #[cold]
    fn refuse(
        &mut self,
        pending: PendingResponse,
        fault: RequestFault,
        body: BodyLength,
        expects_continue: bool,
        consumed: usize,
    ) -> Received<Message> {
        let RequestFault { status, code, message, closes, allow } = fault;
        let closes = pending.closes || closes;
        let pending = PendingResponse { status, allow, closes, is_stream: false, ..pending };
        let pending = self.pass_over(pending, body, expects_continue);
        let id = self.take_place(pending);
        self.is_scratch_stale = true;
        let message = message.into_owned();
        let refusal = Refusal { id, codec: JSON, one_way: false, code, message };
        Received::Message { message: Message::Refused(refusal), consumed }
    }

    /// Starts a call whose head was read. Returns its message at once if the body is complete.
    fn begin_call(
        &mut self,
        call: RequestCall,
        body: BodyLength,
        expects_continue: bool,
        (head_bytes, available): (usize, usize),
        out: &mut Out<'_>,
    ) -> Received<Message> {
        match body {
            // The body is checked where its first byte is the first of the input.
            #[cfg(feature = "jsonrpc")]
            BodyLength::Bytes(0) if call.target == CallTarget::JsonRpc => {
                return self.begin_json_rpc(call, None, &[], head_bytes, out);
            }
            #[cfg(feature = "jsonrpc")]
            BodyLength::Bytes(bytes) if call.target == CallTarget::JsonRpc => {
                self.state = RequestState::Body { call, bytes: bytes as usize };
            }
            BodyLength::Bytes(bytes) if bytes <= (available - head_bytes) as u64 => {
                let span = Span::new(head_bytes as u32, bytes as u32);
                return self.call(call, span, head_bytes + bytes as usize);
            }
            // The value is at most `frame_bytes_max`, which fits.
            BodyLength::Bytes(bytes) => self.state = RequestState::Body { call, bytes: bytes as usize },
            BodyLength::Chunked => {
                self.gathered.extend_from_slice(self.metadata.as_bytes());
                self.is_gathered = true;
                let bytes_max = self.side.limits.frame_bytes_max as u64;
                self.state = RequestState::Chunked { call, chunks: self.chunks(bytes_max) };
            }
        }
        if expects_continue && available == head_bytes {
            let pending = PendingResponse { is_interim: true, ..PendingResponse::default() };
            self.answer(pending, ServerResponse::Continue, out);
        }
        Received::Skip { consumed: head_bytes }
    }

    /// Returns a complete call.
    #[inline(always)]
    fn call(&mut self, call: RequestCall, body: Span, consumed: usize) -> Received<Message> {
        let RequestCall { target, time_left_us, dialect, mut pending } = call;
        pending.closes |= self.is_draining;
        let id = self.take_place(pending);
        self.state = match pending {
            PendingResponse { is_stream: true, is_raw, .. } => {
                self.held_stream.is_raw = is_raw;
                RequestState::Stream { id, progress: StreamProgress::Waiting }
            }
            PendingResponse { closes: true, .. } => RequestState::Ended,
            _ => RequestState::Head,
        };
        self.is_scratch_stale = true;
        let request = Request {
            id,
            method: target.method(),
            name: None,
            codec: target.codec_number(dialect),
            compressed: false,
            one_way: false,
            schema: 0,
            time_left_us,
            metadata: Span::scratch(0, self.metadata.as_bytes().len() as u32),
            body,
        };
        Received::Message { message: Message::Request(request), consumed }
    }

    // Output.

    /// Adds a request to the order; its place serves as its id.
    #[inline]
    fn take_place(&mut self, pending: PendingResponse) -> u64 {
        self.order.take_place(pending).number()
    }

    /// Answers a request without the application: at once, or after the answers that precede it.
    fn answer(&mut self, pending: PendingResponse, response: ServerResponse<'static>, out: &mut Out<'_>) {
        let id = self.take_place(pending);
        self.keep(id, response);
        self.write_ready(out);
    }

    fn keep(&mut self, id: u64, response: ServerResponse<'static>) {
        let bytes = response.kept_bytes();
        // `fill` fails only for an answer without a request, or a second one; it is dropped.
        if self.order.fill(OrderTicket::of(id), Box::new(response)).is_ok() {
            self.held_bytes += bytes;
        }
    }

    /// Writes or stores the result of the call with this id.
    #[inline]
    pub(super) fn reply(
        &mut self,
        id: u64,
        code: Code,
        (queue_us, handler_us): (u32, u32),
        extras: Option<&ReplyExtras>,
        body: SendBody<'_>,
        out: &mut Out<'_>,
    ) {
        #[cfg(feature = "jsonrpc")]
        if id & json_rpc::ID_BIT != 0 {
            return self.reply_json_rpc(id, code, extras, body, out);
        }
        if let RequestState::Stream { id: stream, progress } = self.state
            && stream == id
        {
            if code == Code::Ok {
                self.note_stream_extras(id, extras);
            }
            let response = (code != Code::Ok).then(|| {
                let (extras, body) = (extras.cloned().map(Box::new), kept(body));
                ServerResponse::Reply { code, queue_us, handler_us, extras, body }
            });
            return self.end_stream(id, progress, response, out);
        }
        if let Some(pending) = self.order.take_turn(OrderTicket::of(id)) {
            write_end(&self.side, &pending, code, (queue_us, handler_us), extras, body, out);
            return self.write_ready(out);
        }
        let (extras, body) = (extras.cloned().map(Box::new), kept(body));
        self.keep(id, ServerResponse::Reply { code, queue_us, handler_us, extras, body });
    }

    /// Writes the answers that are ready at the front.
    #[inline]
    pub(super) fn write_ready(&mut self, out: &mut Out<'_>) {
        while let Some((pending, response)) = self.order.next_ready() {
            self.held_bytes -= response.kept_bytes();
            write_response(&self.side, &pending, *response, out);
            if pending.is_stream {
                self.after_stream(pending.closes);
            }
        }
        if let RequestState::Stream { id, progress: StreamProgress::Waiting } = self.state {
            self.begin_held_stream(id, out);
        }
    }

    /// Accepts no new requests: the last accepted one closes the connection, or the next one if there is none.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        if let Some(last) = self.order.last_mut()
            // A request whose body was requested with 100 (Continue) is still answered.
            && !last.is_interim
            && !matches!(self.state, RequestState::GoRpc)
        {
            last.closes = true;
            if matches!(self.state, RequestState::Stream { .. }) {
                return;
            }
            #[cfg(feature = "jsonrpc")]
            if matches!(self.state, RequestState::JsonRpc) {
                return self.end_after_json_rpc();
            }
            self.state = RequestState::Ended;
        }
    }

    /// Writes 408 for a request that is late. With outstanding answers, the client would take it for one of them.
    pub(super) fn late(&mut self, out: &mut Out<'_>) {
        if matches!(self.state, RequestState::Stream { .. }) {
            // No request has begun.
            return;
        }
        let has_begun = match self.state {
            RequestState::Head => self.scan.has_begun(),
            RequestState::Body { .. } | RequestState::Chunked { .. } => true,
            #[cfg(feature = "jsonrpc")]
            RequestState::JsonRpc => false,
            RequestState::Skip { .. }
            | RequestState::SkipChunks { .. }
            | RequestState::Stream { .. }
            | RequestState::Ended
            | RequestState::GoRpc => false,
        };
        self.state = RequestState::Ended;
        if has_begun && self.order.is_empty() {
            let pending = PendingResponse { status: 408, closes: true, ..PendingResponse::default() };
            let body = SendBody::Bytes(b"the request took too long to arrive");
            let code = Code::DeadlineExceeded;
            write_end(&self.side, &pending, code, (0, 0), None, body, out);
        }
    }
}

/// Returns a body as it is kept until its turn.
fn kept(body: SendBody<'_>) -> SendBody<'static> {
    SendBody::Chunk(match body {
        SendBody::Chunk(chunk) if chunk.len() >= LINK_BYTES_MIN => chunk,
        // The answer may be a small part of a buffer that it would hold while it waits.
        SendBody::Chunk(chunk) => Chunk::from(chunk.to_vec()),
        SendBody::Bytes(bytes) => Chunk::from(bytes.to_vec()),
    })
}
