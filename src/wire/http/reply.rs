//! Writes a server's answers: a head, built without allocation, and a body.

use coreloop_bufpool::Chunk;

use super::call::fits_response_field;
use super::plain;
use crate::message::trailers::{LOAD, RETRY_AFTER_MS};
use crate::message::{HttpResponseHead, Metadata, ReplyExtras, SendBody};
use crate::status::{Code, Detail};
use crate::wire::{HttpMethods, Out, ROUTE_HEAD, ServerContext, details};

/// The line that Go's `rpc.DialHTTP` expects (net/rpc server.go, `connected`).
pub(super) const GO_RPC: &[u8] = b"HTTP/1.0 200 Connected to Go RPC\n\n";
/// The interim response of RFC 9110 section 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The memory of a waiting answer in addition to its body.
const KEPT_BYTES: usize = 512;
/// The field that a response with the status 401 must have (RFC 9110 section 15.5.2); a handler or an interceptor may set
/// it.
const CHALLENGE: &str = "www-authenticate";
/// Seconds for which a browser may cache the answer to a preflight.
const PREFLIGHT_SECONDS: &[u8] = b"7200";

/// What a resource allows, for the field `Allow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AllowedMethods {
    /// The field is not written.
    #[default]
    Nothing,
    /// All methods that this server supports.
    All,
    /// A method that may change something.
    Post,
    /// An idempotent method.
    GetAndPost,
    /// The path of Go's net/rpc.
    Connect,
    /// The path of routes.
    Route(HttpMethods),
}

impl AllowedMethods {
    fn text(self) -> &'static [u8] {
        match self {
            // The names of a route's methods are written one by one.
            AllowedMethods::Nothing | AllowedMethods::Route(_) => b"",
            AllowedMethods::All | AllowedMethods::GetAndPost => b"GET, HEAD, POST, OPTIONS",
            AllowedMethods::Post => b"POST, OPTIONS",
            AllowedMethods::Connect => b"CONNECT",
        }
    }
}

/// The part of a request that its answer needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PendingResponse {
    /// The status of a refusal; 0 if the code decides.
    pub(super) status: u16,
    /// The index, plus 1, of the configured origin whose pages may read the answer; 0 is none.
    pub(super) origin: u16,
    /// What the resource allows, if the answer names it.
    pub(super) allow: AllowedMethods,
    /// HEAD: the body is omitted.
    pub(super) is_head: bool,
    /// The request is HTTP/1.0, where keeping the connection must be stated.
    pub(super) is_http_10: bool,
    /// The connection closes after this answer.
    pub(super) closes: bool,
    /// The answer is an interim response; another follows.
    pub(super) is_interim: bool,
    /// The result of the call is a stream.
    pub(super) is_stream: bool,
    /// The stream is that of a route: bytes as they are, instead of lines of JSON.
    pub(super) is_raw: bool,
}

/// An answer.
#[derive(Debug)]
pub(super) enum ServerResponse<'a> {
    /// The result of a call.
    Reply { code: Code, queue_us: u32, handler_us: u32, extras: Option<Box<ReplyExtras>>, body: SendBody<'a> },
    /// The result of a call that is a stream: metadata for the head, and the chunked body.
    Stream { fields: Vec<u8>, body: Chunk },
    /// The answers to a JSON-RPC message or batch.
    #[cfg(feature = "jsonrpc")]
    JsonRpc { body: Chunk },
    /// No answers: a body of JSON-RPC notifications only. The status is 200, since some clients accept no other.
    #[cfg(feature = "jsonrpc")]
    NoAnswers,
    /// The client may send the body.
    Continue,
    /// The connection switches to Go's net/rpc.
    GoRpc,
    /// The path of Go's net/rpc was requested with another method than CONNECT.
    MustConnect,
    /// The answer to OPTIONS.
    Options { is_preflight: bool },
}

impl ServerResponse<'_> {
    /// The bytes that the answer holds while it waits.
    pub(super) fn kept_bytes(&self) -> usize {
        KEPT_BYTES
            + match self {
                ServerResponse::Reply { extras, body, .. } => {
                    extras.as_ref().map_or(0, |extras| extras.bytes()) + body.len()
                }
                ServerResponse::Stream { fields, body } => fields.len() + body.len(),
                #[cfg(feature = "jsonrpc")]
                ServerResponse::JsonRpc { body } => body.len(),
                #[cfg(feature = "jsonrpc")]
                ServerResponse::NoAnswers => 0,
                ServerResponse::Continue
                | ServerResponse::GoRpc
                | ServerResponse::MustConnect
                | ServerResponse::Options { .. } => 0,
            }
    }
}

/// Writes the result of a call.
#[inline]
pub(super) fn write_end(
    side: &ServerContext,
    pending: &PendingResponse,
    code: Code,
    times_us: (u32, u32),
    extras: Option<&ReplyExtras>,
    body: SendBody<'_>,
    out: &mut Out<'_>,
) {
    if code == Code::Ok && extras.is_none() && plain::fits(side, pending, times_us) {
        plain::write_response(side, times_us, body, out);
    } else {
        write_with_any_head(side, pending, code, times_us, extras, body, out);
    }
}

/// Writes the result of a call with any head.
#[inline(never)]
pub(super) fn write_with_any_head(
    side: &ServerContext,
    pending: &PendingResponse,
    code: Code,
    (queue_us, handler_us): (u32, u32),
    extras: Option<&ReplyExtras>,
    body: SendBody<'_>,
    out: &mut Out<'_>,
) {
    if code == Code::Ok {
        if let Some(extras) = extras
            && let Some(http) = &extras.http
        {
            return write_route(side, pending, extras, http, body, out);
        }
        let mut head = ResponseHead::begin(side, pending, 200, out);
        head.content("application/json", body.len());
        head.server_timing(queue_us, handler_us);
        head.extras(side, extras);
        return head.end(side, pending, body);
    }
    let is_refusal = pending.status != 0;
    let status = if is_refusal { pending.status } else { code.http_status() };
    let status_details = extras.map_or(&[][..], |extras| &extras.details);
    let body = match &body {
        SendBody::Bytes(bytes) => error_body(code, bytes, status_details),
        SendBody::Chunk(chunk) => error_body(code, chunk, status_details),
    };
    let mut head = ResponseHead::begin(side, pending, status, out);
    head.content("application/json", body.len());
    if !is_refusal {
        head.server_timing(queue_us, handler_us);
    }
    if status == 401 && extras.is_none_or(|extras| extras.headers.view().find(CHALLENGE).is_none()) {
        head.put(b"WWW-Authenticate: Bearer\r\n");
    }
    head.extras(side, extras);
    head.end(side, pending, SendBody::Bytes(&body));
}

/// Writes the response of a route.
#[cold]
fn write_route(
    side: &ServerContext,
    pending: &PendingResponse,
    extras: &ReplyExtras,
    http: &HttpResponseHead,
    body: SendBody<'_>,
    out: &mut Out<'_>,
) {
    let mut head = ResponseHead::begin(side, pending, http.status, out);
    head.put(&http.fields);
    // A response with one of these has no body, and no length (RFC 9110 section 8.6). A handler may leave out the body of
    // the response to HEAD, whose length is then not known.
    let has_no_length = matches!(http.status, 204 | 304) || pending.is_head && body.is_empty();
    if !has_no_length {
        head.length(body.len());
    }
    head.extras(side, Some(extras));
    head.end(side, pending, body);
}

/// Writes the head of an answer that is a stream, with metadata as fields. Entries that cannot be fields are skipped.
#[cold]
pub(super) fn write_stream_head(
    side: &ServerContext,
    pending: &PendingResponse,
    fields: &[u8],
    out: &mut Out<'_>,
) {
    if pending.is_raw {
        return write_raw_stream_head(side, pending, Metadata::checked_before(fields), out);
    }
    let mut head = ResponseHead::begin(side, pending, 200, out);
    head.put(b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n");
    head.metadata(side, b"", Metadata::checked_before(fields));
    head.end(side, pending, SendBody::Bytes(&[]));
}

/// Writes the head of the response of a route that is a stream.
fn write_raw_stream_head(
    side: &ServerContext,
    pending: &PendingResponse,
    fields: Metadata<'_>,
    out: &mut Out<'_>,
) {
    // The digits of the status were written by the handler's side.
    let own = fields.find(ROUTE_HEAD).and_then(<[u8]>::split_first_chunk::<3>);
    let (digits, lines) = own.unwrap_or((b"200", b""));
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit.wrapping_sub(b'0')));
    let mut head = ResponseHead::begin(side, pending, status, out);
    head.put(lines);
    head.put(b"Transfer-Encoding: chunked\r\n");
    for (name, value) in fields.iter().filter(|(name, _)| *name != ROUTE_HEAD) {
        if fits_response_field(name, value) {
            head.put(name.as_bytes());
            head.field(b": ", value);
        } else {
            side.note_dropped(1);
        }
    }
    head.end(side, pending, SendBody::Bytes(&[]));
}

/// Writes an answer.
#[inline(never)]
pub(super) fn write_response(
    side: &ServerContext,
    pending: &PendingResponse,
    response: ServerResponse<'_>,
    out: &mut Out<'_>,
) {
    match response {
        ServerResponse::Continue => out.put(CONTINUE),
        ServerResponse::GoRpc => out.put(GO_RPC),
        ServerResponse::Reply { code, queue_us, handler_us, extras, body } => {
            write_end(side, pending, code, (queue_us, handler_us), extras.as_deref(), body, out);
        }
        ServerResponse::Stream { fields, body } => {
            write_stream_head(side, pending, &fields, out);
            if !pending.is_head {
                out.link(body);
            }
        }
        #[cfg(feature = "jsonrpc")]
        ServerResponse::JsonRpc { body } => {
            let mut head = ResponseHead::begin(side, pending, 200, out);
            head.content("application/json", body.len());
            head.end(side, pending, SendBody::Chunk(body));
        }
        #[cfg(feature = "jsonrpc")]
        ServerResponse::NoAnswers => {
            let mut head = ResponseHead::begin(side, pending, 200, out);
            head.put(b"Content-Length: 0\r\n");
            head.end(side, pending, SendBody::Bytes(&[]));
        }
        ServerResponse::MustConnect => {
            let body = b"405 must CONNECT\n";
            let mut head = ResponseHead::begin(side, pending, 405, out);
            head.content("text/plain; charset=utf-8", body.len());
            head.end(side, pending, SendBody::Bytes(body));
        }
        ServerResponse::Options { is_preflight } => {
            let mut head = ResponseHead::begin(side, pending, 204, out);
            if is_preflight {
                match pending.allow {
                    AllowedMethods::Route(methods) => {
                        head.methods(b"Access-Control-Allow-Methods: ", methods)
                    }
                    _ => head.put(b"Access-Control-Allow-Methods: GET, HEAD, POST"),
                }
                head.put(b"\r\n");
                // `*` includes every field name except Authorization (Fetch section 4.9).
                head.put(b"Access-Control-Allow-Headers: Content-Type, Connect-Protocol-Version, ");
                head.put(b"Connect-Timeout-Ms, Authorization, Traceparent, B3, *\r\n");
                head.field(b"Access-Control-Max-Age: ", PREFLIGHT_SECONDS);
            }
            head.end(side, pending, SendBody::Bytes(&[]));
        }
    }
}

/// Returns the body of an error in the Connect protocol.
fn error_body(code: Code, message: &[u8], status_details: &[Detail]) -> Vec<u8> {
    let mut body = Vec::with_capacity(48 + message.len());
    body.extend_from_slice(b"{\"code\":\"");
    body.extend_from_slice(code.connect_name().as_bytes());
    body.extend_from_slice(b"\",\"message\":");
    // Neither step can fail: every string has a JSON form, and a vector accepts all bytes.
    let _ = serde_json::to_writer(&mut body, &String::from_utf8_lossy(message));
    if !status_details.is_empty() {
        body.extend_from_slice(b",\"details\":");
        details::write(status_details, &mut body);
    }
    body.push(b'}');
    body
}

/// Returns the reason of a status (RFC 9110 section 15, and the registry of IANA); empty if it has none.
fn reason(status: u16) -> &'static [u8] {
    match status {
        200 => b"OK",
        201 => b"Created",
        202 => b"Accepted",
        203 => b"Non-Authoritative Information",
        204 => b"No Content",
        205 => b"Reset Content",
        206 => b"Partial Content",
        300 => b"Multiple Choices",
        301 => b"Moved Permanently",
        302 => b"Found",
        303 => b"See Other",
        304 => b"Not Modified",
        307 => b"Temporary Redirect",
        308 => b"Permanent Redirect",
        400 => b"Bad Request",
        401 => b"Unauthorized",
        402 => b"Payment Required",
        403 => b"Forbidden",
        404 => b"Not Found",
        405 => b"Method Not Allowed",
        406 => b"Not Acceptable",
        408 => b"Request Timeout",
        409 => b"Conflict",
        410 => b"Gone",
        411 => b"Length Required",
        412 => b"Precondition Failed",
        413 => b"Content Too Large",
        414 => b"URI Too Long",
        415 => b"Unsupported Media Type",
        416 => b"Range Not Satisfiable",
        417 => b"Expectation Failed",
        421 => b"Misdirected Request",
        422 => b"Unprocessable Content",
        425 => b"Too Early",
        428 => b"Precondition Required",
        429 => b"Too Many Requests",
        431 => b"Request Header Fields Too Large",
        451 => b"Unavailable For Legal Reasons",
        499 => b"Client Closed Request",
        500 => b"Internal Server Error",
        501 => b"Not Implemented",
        502 => b"Bad Gateway",
        503 => b"Service Unavailable",
        504 => b"Gateway Timeout",
        505 => b"HTTP Version Not Supported",
        507 => b"Insufficient Storage",
        _ => b"",
    }
}

/// The stack space for a head. It suffices unless names are long; the rest goes to the queue.
const HEAD_BYTES: usize = 384;

/// A head being written. It is collected on the stack, so that head and body enter the queue together.
struct ResponseHead<'a, 'b> {
    out: &'a mut Out<'b>,
    text: [u8; HEAD_BYTES],
    len: usize,
}

impl<'a, 'b> ResponseHead<'a, 'b> {
    fn begin(
        side: &ServerContext,
        pending: &PendingResponse,
        status: u16,
        out: &'a mut Out<'b>,
    ) -> ResponseHead<'a, 'b> {
        let mut head = ResponseHead { out, text: [0; HEAD_BYTES], len: 0 };
        if status == 200 {
            head.put(b"HTTP/1.1 200 OK\r\nDate: ");
        } else {
            head.status(status);
            head.put(b"\r\nDate: ");
        }
        head.put(&side.site.date());
        head.put(b"\r\n");
        match pending.allow {
            AllowedMethods::Nothing => {}
            AllowedMethods::Route(methods) => {
                head.methods(b"Allow: ", methods);
                head.put(b", OPTIONS\r\n");
            }
            allow => head.field(b"Allow: ", allow.text()),
        }
        if pending.status == 415 {
            // RFC 9110 section 15.5.16: the accepted codings.
            head.put(b"Accept-Encoding: identity\r\n");
        }
        head
    }

    fn status(&mut self, status: u16) {
        self.put(b"HTTP/1.1 ");
        self.number(status.into());
        self.put(b" ");
        self.put(reason(status));
    }

    fn methods(&mut self, name: &[u8], methods: HttpMethods) {
        self.put(name);
        for (index, method) in methods.names().enumerate() {
            self.put(if index == 0 { b"" } else { b", " });
            self.put(method.as_bytes());
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        match self.text[self.len..].get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.put_over(bytes),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_over(&mut self, bytes: &[u8]) {
        self.out.put(&self.text[..self.len]);
        self.len = 0;
        match self.text.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len = bytes.len();
            }
            None => self.out.put(bytes),
        }
    }

    #[inline(never)]
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.put(name);
        self.put(value);
        self.put(b"\r\n");
    }

    /// Writes what a reply carries besides its body as fields: headers as they are, trailers behind `Trailer-` as the
    /// Connect protocol has them. The time after which a call may be repeated is also written as the standard field, in
    /// whole seconds (RFC 9110 section 10.2.3).
    #[cold]
    fn extras(&mut self, side: &ServerContext, extras: Option<&ReplyExtras>) {
        let Some(extras) = extras else { return };
        self.metadata(side, b"", extras.headers.view());
        if let Some(ms) = extras.retry_after_ms {
            self.put(b"Retry-After: ");
            self.number(ms.div_ceil(1000) as usize);
            self.put(b"\r\n");
            self.number_field(RETRY_AFTER_MS, ms);
        }
        if let Some(us) = extras.load_us {
            self.number_field(LOAD, us);
        }
        self.metadata(side, b"Trailer-", extras.trailers.view());
    }

    fn number_field(&mut self, name: &str, number: u32) {
        self.put(name.as_bytes());
        self.put(b": ");
        self.number(number as usize);
        self.put(b"\r\n");
    }

    /// Writes metadata as fields. Entries that cannot be fields are left out, and counted.
    fn metadata(&mut self, side: &ServerContext, prefix: &[u8], entries: Metadata<'_>) {
        let mut dropped = 0;
        for (name, value) in entries.iter() {
            if fits_response_field(name, value) {
                self.put(prefix);
                self.put(name.as_bytes());
                self.field(b": ", value);
            } else {
                dropped += 1;
            }
        }
        if dropped > 0 {
            side.note_dropped(dropped);
        }
    }

    fn number(&mut self, number: usize) {
        let (mut digits, mut at, mut rest) = ([0; 20], 20, number);
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }

    fn content(&mut self, content_type: &str, bytes: usize) {
        self.field(b"Content-Type: ", content_type.as_bytes());
        self.length(bytes);
    }

    fn length(&mut self, bytes: usize) {
        self.put(b"Content-Length: ");
        self.number(bytes);
        self.put(b"\r\n");
    }

    /// Writes queue and handler times in milliseconds (W3C Server Timing).
    fn server_timing(&mut self, queue_us: u32, handler_us: u32) {
        self.put(b"Server-Timing: queue;dur=");
        self.millis(queue_us);
        self.put(b", handler;dur=");
        self.millis(handler_us);
        self.put(b"\r\n");
    }

    fn millis(&mut self, us: u32) {
        self.number(us as usize / 1000);
        let rest = us % 1000;
        let digit = |value: u32| b'0' + (value % 10) as u8;
        self.put(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }

    fn end(mut self, side: &ServerContext, pending: &PendingResponse, body: SendBody<'_>) {
        if !side.cors_origins.is_empty() {
            self.cross_origin(side, pending);
        }
        if pending.closes {
            self.put(b"Connection: close\r\n");
        } else if pending.is_http_10 {
            self.put(b"Connection: keep-alive\r\n");
        }
        self.put(b"\r\n");
        let body = if pending.is_head { SendBody::Bytes(&[]) } else { body };
        self.out.frame(&self.text[..self.len], body);
    }

    #[cold]
    fn cross_origin(&mut self, side: &ServerContext, pending: &PendingResponse) {
        if let Some(origin) =
            usize::from(pending.origin).checked_sub(1).and_then(|at| side.cors_origins.get(at))
        {
            self.field(b"Access-Control-Allow-Origin: ", origin.as_bytes());
            // `*` includes the headers and trailers that handlers set.
            self.put(b"Access-Control-Expose-Headers: Server-Timing, Retry-After, Retry-After-Ms, *\r\n");
        }
        if !side.cors_origins.iter().any(|origin| origin == "*") {
            self.put(b"Vary: Origin\r\n");
        }
    }
}
