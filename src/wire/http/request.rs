//! Interprets a request's head: reads its fields, finds its target, and turns each fault into a [`RequestFault`].
//!
//! The body is not read here. The order of the checks is part of the protocol: framing, then whether the target
//! exists (404), then whether the method is allowed (405), then the rest of the request.

#[cfg(feature = "jsonrpc")]
mod json_rpc;
mod route;

use httparse::{Header, Status};

use super::chunks::is_token;
use super::fault::RequestFault;
use super::framing::{Framing, digits, is_hop_by_hop, is_json, list, with_fields};
use super::reply::{AllowedMethods, PendingResponse};
use super::target::CallTarget;
use super::{query, skip_bytes_max};
use crate::message::{JsonDialect, MetadataBuf, time_left_us};
use crate::method_name::MethodName;
use crate::status::Code;
use crate::wire::{DirectoryEntry, ServerContext, StreamSupport};

/// An interpreted head.
#[derive(Debug)]
pub(super) struct RequestHead {
    /// The part that the answer needs.
    pub(super) pending: PendingResponse,
    /// The body that follows the head.
    pub(super) body: BodyLength,
    /// The client waits for 100 (Continue) before it sends the body.
    pub(super) expects_continue: bool,
    /// The target of the request.
    pub(super) request_target: Result<RequestTarget, RequestFault>,
}

/// The length of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// This many bytes, possibly 0.
    Bytes(u64),
    /// A chunked body.
    Chunked,
}

/// The target of a request.
#[derive(Debug)]
pub(super) enum RequestTarget {
    /// The body is the argument of a method, or JSON-RPC.
    Call { target: CallTarget, time_left_us: u32, dialect: JsonDialect },
    /// A method is called by GET; its argument was copied from the query to the scratch buffer.
    CallByGet { method: u32, time_left_us: u32, dialect: JsonDialect },
    /// HEAD for a method whose result is a stream: the method is not run, since its stream might not end.
    StreamHead,
    /// OPTIONS.
    Options { is_preflight: bool },
    /// A switch to Go's net/rpc.
    GoRpc,
    /// The path of Go's net/rpc with another method than CONNECT.
    MustConnect,
}

/// The path of Go's net/rpc (net/rpc server.go, `DefaultRPCPath`).
const GO_RPC_PATH: &str = "/_goRPC_";
/// The Content-Type that `curl -d` sends for any body. It is read as JSON, but not from a browser page: any site can
/// send this type with the visitor's reach and without a preflight (a "simple" request, Fetch section 2.2.2), while
/// `application/json` requires one. Every browser sends the origin with a POST.
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// The fields that are interpreted here.
#[derive(Clone, Copy, Default)]
struct RequestFields<'a> {
    framing: Framing,
    host: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
    timeout: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    is_preflight: bool,
    /// The request is from a browser page: it has an origin (Fetch section 3.2) or Fetch Metadata (section 2.4).
    is_from_page: bool,
}

/// Reads a complete head. Appends its metadata to `metadata` and, for a GET, the argument to `argument`.
pub(super) fn read(
    side: &ServerContext,
    head: &[u8],
    lines: usize,
    metadata: &mut MetadataBuf,
    argument: &mut Vec<u8>,
) -> RequestHead {
    if lines - 1 > side.limits.http_headers_max {
        return reject(too_many(&format!("more than {} fields", side.limits.http_headers_max)));
    }
    with_fields!(lines, |fields| {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, fields) {
            Ok(Status::Complete(bytes)) if bytes == head.len() => {
                interpret(side, &request, metadata, argument)
            }
            Ok(_) => reject(RequestFault::malformed("the head does not end where its lines do")),
            Err(error) => reject(RequestFault::malformed(format!("the head is malformed: {error}"))),
        }
    })
}

/// A request that is refused as a whole; nothing in it is trusted.
pub(super) fn reject(fault: RequestFault) -> RequestHead {
    RequestHead {
        pending: PendingResponse::default(),
        body: BodyLength::Bytes(0),
        expects_continue: false,
        request_target: Err(fault.and_close()),
    }
}

/// 431, and the connection closes.
pub(super) fn too_many(what: &str) -> RequestFault {
    RequestFault::new(431, Code::ResourceExhausted, format!("the head has {what}")).and_close()
}

/// Checks that the input starts with an HTTP method, or with the beginning of one. Input of another protocol is thus
/// answered at once, even if its first line never ends.
pub(super) fn check_method(input: &[u8]) -> Result<(), RequestFault> {
    /// A longer method is checked with its complete line.
    const LOOKED_BYTES_MAX: usize = 64;
    let first = input.first().copied().unwrap_or_default();
    let looked = &input[..input.len().min(LOOKED_BYTES_MAX)];
    let mut method = looked.iter().copied().take_while(|byte| !matches!(byte, b' ' | b'\r'));
    match (first, method.all(is_token)) {
        // This may be an empty line.
        (b'\r', _) => Ok(()),
        (b' ', _) | (_, false) => {
            Err(RequestFault::malformed("the first line does not begin with a method of HTTP"))
        }
        (_, true) => Ok(()),
    }
}

/// Checks the form of a complete first line, CR and LF included. A fault is answered before more bytes arrive, since
/// a client of HTTP/0.9 sends none.
pub(super) fn check_first_line(line: &[u8]) -> Result<(), RequestFault> {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let version = parts.next().unwrap_or_default();
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(RequestFault::malformed("the first line does not begin with a method of HTTP"));
    }
    if target.is_empty() || parts.next().is_some() {
        return Err(RequestFault::malformed(
            "the first line is not a method, a target and a version, with one space between",
        ));
    }
    let Some(number) = version.strip_prefix(b"HTTP/") else {
        return Err(RequestFault::malformed("the first line does not end with a version of HTTP"));
    };
    if matches!(number, b"1.1" | b"1.0") {
        return Ok(());
    }
    // HTTP/2 and later have no minor version.
    let mut digits = number.splitn(2, |byte| *byte == b'.');
    if digits.all(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)) {
        let message = "expected HTTP/1.1 or HTTP/1.0, found another version";
        return Err(RequestFault::new(505, Code::Unimplemented, message).and_close());
    }
    Err(RequestFault::malformed("the first line does not end with a version of HTTP"))
}

fn interpret(
    side: &ServerContext,
    request: &httparse::Request<'_, '_>,
    metadata: &mut MetadataBuf,
    argument: &mut Vec<u8>,
) -> RequestHead {
    let is_http_10 = request.version == Some(0);
    let fields = match RequestFields::read(request.headers, is_http_10, metadata) {
        Ok(fields) => fields,
        Err(fault) => return reject(fault),
    };
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let pending = PendingResponse {
        status: 0,
        origin: fields.origin.map_or(0, |origin| allowed_origin(side, origin)),
        allow: AllowedMethods::Nothing,
        is_head: method == "HEAD",
        is_http_10,
        closes: fields.framing.is_last(is_http_10),
        is_interim: false,
        is_stream: false,
        is_raw: false,
    };
    let body = match (fields.framing.is_chunked, fields.framing.length) {
        (true, _) => BodyLength::Chunked,
        (false, length) => BodyLength::Bytes(length.unwrap_or(0)),
    };
    let is_expecting = fields.expect.is_some_and(|_| !is_http_10);
    let mut question =
        RequestHead { pending, body, expects_continue: false, request_target: Ok(RequestTarget::GoRpc) };
    question.request_target =
        request_target(side, (method, target), &fields, &mut question, metadata, argument);
    question.expects_continue = is_expecting && body != BodyLength::Bytes(0);
    question
}

/// Returns the index, plus 1, of an origin that may read answers; 0 if it may not.
fn allowed_origin(side: &ServerContext, origin: &[u8]) -> u16 {
    let may = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin;
    let at = side.cors_origins.iter().position(may);
    at.and_then(|at| u16::try_from(at + 1).ok()).unwrap_or(0)
}

impl<'a> RequestFields<'a> {
    fn read(
        headers: &[Header<'a>],
        is_http_10: bool,
        metadata: &mut MetadataBuf,
    ) -> Result<RequestFields<'a>, RequestFault> {
        let mut fields = RequestFields::default();
        metadata.clear();
        for Header { name, value } in headers {
            if !fields.take(name, value)? {
                push(metadata, name, value)?;
            }
        }
        if fields.framing.names_fields {
            // Fields that Connection names are not passed to the handler. They may precede or follow it.
            fields.without_named(headers, metadata)?;
        }
        fields.framing.check(is_http_10).map_err(RequestFault::malformed)?;
        match fields.host {
            None if !is_http_10 => return Err(RequestFault::malformed("HTTP/1.1 wants a Host")),
            Some(host) if !is_host(host) => return Err(RequestFault::malformed("the Host is no host")),
            _ => {}
        }
        Ok(fields)
    }

    /// Takes a field that is interpreted here. Returns false for metadata.
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<bool, RequestFault> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let slot = if is("host") {
            &mut self.host
        } else if is("content-type") {
            &mut self.content_type
        } else if is("content-encoding") {
            &mut self.content_encoding
        } else if is("expect") {
            &mut self.expect
        } else if is("connect-timeout-ms") {
            &mut self.timeout
        } else if is("connect-protocol-version") {
            &mut self.version
        } else if is("origin") {
            // It is passed to the handler as well.
            self.origin = Some(value);
            self.is_from_page = true;
            return Ok(false);
        } else if is("sec-fetch-site") {
            self.is_from_page = true;
            return Ok(false);
        } else if is("access-control-request-method") {
            self.is_preflight = true;
            return Ok(false);
        } else {
            return self.framing.take(name, value).map_err(RequestFault::malformed);
        };
        match slot.replace(value) {
            None => Ok(true),
            Some(_) => Err(RequestFault::malformed(format!("there are two {name} fields"))),
        }
    }

    /// Returns the form of JSON values. A client of the Connect protocol identifies itself by a field or in the
    /// query.
    fn dialect(&self, is_connect_query: bool) -> JsonDialect {
        match self.version.is_some() || is_connect_query {
            true => JsonDialect::Connect,
            false => JsonDialect::Serde,
        }
    }

    #[cold]
    fn without_named(
        &mut self,
        headers: &[Header<'a>],
        metadata: &mut MetadataBuf,
    ) -> Result<(), RequestFault> {
        metadata.clear();
        let options = || headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
        for Header { name, value } in headers {
            let is_named = options()
                .flat_map(|option| list(option.value))
                .any(|token| token.eq_ignore_ascii_case(name.as_bytes()));
            let mut none = RequestFields::default();
            // A client must not be able to take from the server what its proxy tells of it.
            let is_kept = ["forwarded", "x-forwarded-for"].iter().any(|kept| name.eq_ignore_ascii_case(kept));
            if (!is_named || is_kept) && !none.take(name, value)? {
                push(metadata, name, value)?;
            }
        }
        Ok(())
    }
}

/// Appends a field to the metadata, its name in lower case.
fn push(metadata: &mut MetadataBuf, name: &str, value: &[u8]) -> Result<(), RequestFault> {
    if is_hop_by_hop(name) {
        return Ok(());
    }
    let mut lower = [0; u8::MAX as usize];
    let Some(lower) = lower.get_mut(..name.len()) else {
        return Err(too_many("a field whose name is over 255 bytes"));
    };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    let lower = std::str::from_utf8(lower).unwrap_or_default();
    metadata.push(lower, value).map_err(|_| too_many("more fields than metadata can hold"))
}

/// Whether the characters are those of a host with an optional port (RFC 3986 section 3.2). An empty host is valid.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte))
}

/// Returns path and query of a target in one of the forms of RFC 9112 section 3.2, except `*` and the form of
/// CONNECT.
fn path_and_query(target: &str) -> Result<(&str, &str), RequestFault> {
    if !target.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'#') {
        let message = "the target has a character that must be percent-encoded there";
        return Err(RequestFault::malformed(message));
    }
    let path = if target.starts_with('/') {
        target
    } else {
        // A host here takes precedence over Host (RFC 9112 section 3.2.2); neither is used.
        let is = |scheme: &str| target.get(..scheme.len()).is_some_and(|at| at.eq_ignore_ascii_case(scheme));
        let Some(scheme) = ["http://", "https://"].into_iter().find(|scheme| is(scheme)) else {
            return Err(RequestFault::malformed("the target is neither a path nor an address of HTTP"));
        };
        let rest = &target[scheme.len()..];
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        if end == 0 || !is_host(&rest.as_bytes()[..end]) {
            return Err(RequestFault::malformed("the host of the request target is invalid"));
        }
        &rest[end..]
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// Returns the method that a path names.
fn method_at(side: &ServerContext, path: &str) -> Option<DirectoryEntry> {
    let mut buffer = [0; MethodName::BYTES_MAX];
    side.site.method(MethodName::from_http_path(path, &mut buffer)?.as_str())
}

#[cold]
fn not_found(side: &ServerContext, path: &str) -> RequestFault {
    let mut buffer = [0; MethodName::BYTES_MAX];
    let message = match MethodName::from_http_path(path, &mut buffer) {
        Some(name) if side.site.has_service(name.service()) => {
            format!("there is no method {name} here")
        }
        Some(name) => format!("there is no service {} here", name.service()),
        None => format!("there is nothing at {path}; methods are at /Service/Method"),
    };
    // The code is that of the native protocol, and the one that the Connect protocol infers from a bare 404.
    RequestFault::new(404, Code::Unimplemented, message)
}

fn request_target(
    side: &ServerContext,
    (method, target): (&str, &str),
    fields: &RequestFields<'_>,
    question: &mut RequestHead,
    metadata: &mut MetadataBuf,
    argument: &mut Vec<u8>,
) -> Result<RequestTarget, RequestFault> {
    let pending = &mut question.pending;
    let has_body = question.body != BodyLength::Bytes(0);
    let not_allowed = |allow| not_allowed(method, allow);
    match method {
        "GET" | "HEAD" | "POST" | "OPTIONS" | "PUT" | "DELETE" | "PATCH" | "TRACE" => {}
        "CONNECT" if target == GO_RPC_PATH && has_body => {
            return Err(RequestFault::malformed("CONNECT has no body"));
        }
        "CONNECT" if target == GO_RPC_PATH => return Ok(RequestTarget::GoRpc),
        // The answer to a CONNECT is not framed as others are; the connection cannot be reused.
        "CONNECT" => return Err(not_allowed(AllowedMethods::All).and_close()),
        _ => {
            let message = format!("unknown HTTP method {method}");
            return Err(RequestFault::new(501, Code::Unimplemented, message));
        }
    }
    let is_options = method == "OPTIONS";
    if target == "*" && is_options {
        pending.allow = AllowedMethods::All;
        return Ok(RequestTarget::Options { is_preflight: false });
    }
    let (path, query) = path_and_query(target)?;
    if path == GO_RPC_PATH {
        pending.allow = AllowedMethods::Connect;
        return Ok(RequestTarget::MustConnect);
    }
    #[cfg(feature = "jsonrpc")]
    if let Some(request_target) = json_rpc::request_target(side, method, path, fields, question) {
        return request_target;
    }
    let pending = &mut question.pending;
    let Some(found) = method_at(side, path) else {
        if let Some(target) = route::request_target(side, (method, target, path), fields, question, metadata)
        {
            return target;
        }
        if is_options && path == "/" {
            // Load balancers send this as a health check (HAProxy's `option httpchk`), with or without a console.
            question.pending.allow = AllowedMethods::All;
            return Ok(RequestTarget::Options { is_preflight: false });
        }
        return Err(not_found(side, path));
    };
    let allow = if found.is_idempotent { AllowedMethods::GetAndPost } else { AllowedMethods::Post };
    if is_options {
        pending.allow = allow;
        return Ok(RequestTarget::Options { is_preflight: fields.is_preflight && pending.origin != 0 });
    }
    let is_stream = found.streams == StreamSupport::ResultOnly;
    match method {
        "POST" | "GET" | "HEAD"
            if is_stream && pending.is_http_10 && (method == "POST" || found.is_idempotent) =>
        {
            Err(stream_requires_http_11())
        }
        "POST" => {
            pending.is_stream = is_stream;
            checked(side, fields, question)?;
            let time_left_us = called(fields)?;
            let dialect = fields.dialect(false);
            Ok(RequestTarget::Call { target: CallTarget::Method(found.hash), time_left_us, dialect })
        }
        "GET" | "HEAD" if found.is_idempotent => {
            if has_body {
                // RFC 9110 section 9.3.1: it has no meaning, and can hide a request from a recipient that ignores it.
                return Err(RequestFault::malformed("GET and HEAD have no body"));
            }
            let time_left_us = called(fields)?;
            let is_connect = query::argument(query, argument)?;
            if argument.len() > side.limits.frame_bytes_max {
                return Err(RequestFault::too_large(side.limits.frame_bytes_max));
            }
            if is_stream && method == "HEAD" {
                return Ok(RequestTarget::StreamHead);
            }
            question.pending.is_stream = is_stream;
            Ok(RequestTarget::CallByGet {
                method: found.hash,
                time_left_us,
                dialect: fields.dialect(is_connect),
            })
        }
        _ => Err(not_allowed(allow)),
    }
}

/// Refuses a stream over HTTP/1.0.
fn stream_requires_http_11() -> RequestFault {
    let message = "the result is a stream, which requires HTTP/1.1: a body that ends with the connection would look \
                   complete if the connection was lost";
    RequestFault::new(505, Code::Unimplemented, message)
}

fn not_allowed(method: &str, allow: AllowedMethods) -> RequestFault {
    let message = format!("{method} is not allowed here; the field Allow lists the methods that are");
    RequestFault { allow, ..RequestFault::new(405, Code::Unimplemented, message) }
}

/// Checks whether the announced body is acceptable, whatever it contains.
fn check_length(
    side: &ServerContext,
    fields: &RequestFields<'_>,
    question: &RequestHead,
) -> Result<(), RequestFault> {
    let &RequestHead { pending, body, .. } = question;
    if pending.is_http_10 && fields.framing.length.is_none() {
        // In HTTP/1.0 this could also be a body that ends with the connection.
        let fault =
            RequestFault::new(411, Code::InvalidArgument, "a POST in HTTP/1.0 requires a Content-Length");
        return Err(fault.and_close());
    }
    if let Some(expect) = fields.expect
        && !expect.eq_ignore_ascii_case(b"100-continue")
    {
        return Err(RequestFault::new(
            417,
            Code::Unimplemented,
            "unsupported expectation: expected 100-continue",
        ));
    }
    let bytes_max = side.limits.frame_bytes_max;
    if let BodyLength::Bytes(bytes) = body
        && bytes > bytes_max as u64
    {
        let closes = bytes > skip_bytes_max(&side.limits);
        return Err(RequestFault { closes, ..RequestFault::too_large(bytes_max) });
    }
    Ok(())
}

/// Checks whether the announced body is acceptable as JSON.
fn checked(
    side: &ServerContext,
    fields: &RequestFields<'_>,
    question: &RequestHead,
) -> Result<(), RequestFault> {
    check_length(side, fields, question)?;
    let is_bare_form = |media: &[u8]| media.eq_ignore_ascii_case(FORM) && !fields.is_from_page;
    // An empty body needs no type. A browser page can send such a POST without a preflight, too.
    let is_nothing = question.body == BodyLength::Bytes(0) && !fields.is_from_page;
    if !fields.content_type.map_or(is_nothing, |media| is_json(media) || is_bare_form(media)) {
        return Err(RequestFault::unsupported("Content-Type must be application/json"));
    }
    match fields.content_encoding {
        None => Ok(()),
        Some(coding) if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => {
            Err(RequestFault::unsupported("Content-Encoding must be identity: no other is supported here"))
        }
    }
}

/// Reads the fields of the Connect protocol, and returns the time left.
fn called(fields: &RequestFields<'_>) -> Result<u32, RequestFault> {
    if fields.version.is_some_and(|version| version != b"1") {
        return Err(RequestFault::invalid("Connect-Protocol-Version must be 1"));
    }
    time_left(fields)
}

fn time_left(fields: &RequestFields<'_>) -> Result<u32, RequestFault> {
    let Some(timeout) = fields.timeout else { return Ok(0) };
    let Some(millis) = digits(timeout, 10) else {
        return Err(RequestFault::invalid("Connect-Timeout-Ms must be 1 to 10 digits"));
    };
    Ok(time_left_us(Some(std::time::Duration::from_millis(millis))))
}
