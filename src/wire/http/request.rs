//! What a head asks for: its fields are read, its target is found, and whatever is wrong with it becomes a [`Fault`].
//!
//! Nothing of the body is looked at here. The order of the checks is part of the protocol: framing first, then whether
//! there is such a thing (404), whether it may be asked so (405), and then what it is asked with.

use httparse::{Header, Status};

use super::fault::Fault;
use super::framing::{Framing, digits, is_hop_by_hop, list, with_fields};
use super::reply::{Allow, Asked};
use super::{SKIP_FACTOR, query};
use crate::message::{MetadataBuf, time_left_us};
use crate::status::Code;
use crate::wire::{Page, ServerSide, SiteMethod};

/// A head, understood.
#[derive(Debug)]
pub(super) struct Question {
    /// What is to be remembered for the answer.
    pub(super) asked: Asked,
    /// What follows the head.
    pub(super) body: BodyLength,
    /// The client waits for a word before it sends the body.
    pub(super) expects_continue: bool,
    /// What is asked for.
    pub(super) asks: Result<Asks, Fault>,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// So many bytes, which may be none.
    Bytes(u64),
    /// As many as its chunks say.
    Chunked,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asks {
    /// A method is called; its argument is the body.
    Call { method: u32, time_left_us: u32 },
    /// A method is called by GET; its argument is in the query and has been put aside.
    CallByGet { method: u32, time_left_us: u32 },
    /// A page.
    Page(Page),
    /// What may be asked.
    Options { is_preflight: bool },
    /// Another protocol, from here on.
    GoRpc,
    /// The path of that protocol, in another way.
    MustConnect,
}

/// The path of Go's net/rpc (net/rpc server.go, `DefaultRPCPath`).
const GO_RPC_PATH: &str = "/_goRPC_";
/// What `curl -d` says of its body, whatever that is. It is read as JSON, but from no page of a browser: there any
/// site can send this type with its visitor's reach and without being asked (a "simple" request, Fetch section 2.2.2),
/// where `application/json` needs a preflight. Every browser says with a POST where it comes from.
const FORM: &[u8] = b"application/x-www-form-urlencoded";
/// The longest `Service.Method` that is looked up.
const NAME_BYTES_MAX: usize = 256;

/// The fields that mean something here.
#[derive(Default)]
struct Fields<'a> {
    framing: Framing,
    host: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
    timeout: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    is_preflight: bool,
    /// A browser says where the request comes from (Fetch, section 3.2; Fetch Metadata, section 2.4).
    is_from_page: bool,
}

/// Reads a whole head. The metadata and, for a GET, the argument are put where they are wanted.
pub(super) fn read(
    side: &ServerSide,
    head: &[u8],
    lines: usize,
    metadata: &mut MetadataBuf,
    argument: &mut Vec<u8>,
) -> Question {
    if lines - 1 > side.limits.http_headers_max {
        return hopeless(too_many(&format!("more than {} fields", side.limits.http_headers_max)));
    }
    with_fields!(lines, |fields| {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, fields) {
            Ok(Status::Complete(bytes)) if bytes == head.len() => {
                understand(side, &request, metadata, argument)
            }
            Ok(_) => hopeless(Fault::malformed("the head does not end where its lines do")),
            Err(httparse::Error::Version) => hopeless(version_fault(head)),
            Err(error) => hopeless(Fault::malformed(format!("the head is malformed: {error}"))),
        }
    })
}

/// A question of which nothing can be trusted.
pub(super) fn hopeless(fault: Fault) -> Question {
    Question {
        asked: Asked::default(),
        body: BodyLength::Bytes(0),
        expects_continue: false,
        asks: Err(fault.and_close()),
    }
}

/// 431; the connection ends.
pub(super) fn too_many(what: &str) -> Fault {
    Fault::new(431, Code::ResourceExhausted, format!("the head has {what}")).and_close()
}

/// A version that is not spoken is one thing, a line that names none another.
fn version_fault(head: &[u8]) -> Fault {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    match (parts.next(), parts.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Fault::new(505, Code::Unimplemented, "HTTP/1.1 is spoken here, and HTTP/1.0").and_close()
        }
        _ => Fault::malformed("the first line does not end with a version of HTTP"),
    }
}

fn understand(
    side: &ServerSide,
    request: &httparse::Request<'_, '_>,
    metadata: &mut MetadataBuf,
    argument: &mut Vec<u8>,
) -> Question {
    let is_http_10 = request.version == Some(0);
    let fields = match Fields::read(request.headers, is_http_10, metadata) {
        Ok(fields) => fields,
        Err(fault) => return hopeless(fault),
    };
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let asked = Asked {
        status: 0,
        origin: fields.origin.map_or(0, |origin| allowed_origin(side, origin)),
        allow: Allow::Nothing,
        is_head: method == "HEAD",
        is_http_10,
        closes: fields.framing.is_last(is_http_10),
        is_interim: false,
    };
    let body = match (fields.framing.is_chunked, fields.framing.length) {
        (true, _) => BodyLength::Chunked,
        (false, length) => BodyLength::Bytes(length.unwrap_or(0)),
    };
    let is_expecting = fields.expect.is_some_and(|_| !is_http_10);
    let mut question = Question { asked, body, expects_continue: false, asks: Ok(Asks::GoRpc) };
    question.asks = asks(side, method, target, &fields, &mut question, argument);
    question.expects_continue = is_expecting && body != BodyLength::Bytes(0);
    question
}

/// The index of an origin that may read answers, and 1; 0 if it may not.
fn allowed_origin(side: &ServerSide, origin: &[u8]) -> u16 {
    let may = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin;
    let at = side.cors_origins.iter().position(may);
    at.and_then(|at| u16::try_from(at + 1).ok()).unwrap_or(0)
}

impl<'a> Fields<'a> {
    fn read(
        headers: &[Header<'a>],
        is_http_10: bool,
        metadata: &mut MetadataBuf,
    ) -> Result<Fields<'a>, Fault> {
        let mut fields = Fields::default();
        metadata.clear();
        for Header { name, value } in headers {
            if !fields.take(name, value)? {
                push(metadata, name, value)?;
            }
        }
        if fields.framing.names_fields {
            // What Connection names is not for the handler; it may stand before what it names, or behind.
            fields.without_named(headers, metadata)?;
        }
        fields.framing.check(is_http_10).map_err(Fault::malformed)?;
        match fields.host {
            None if !is_http_10 => return Err(Fault::malformed("HTTP/1.1 wants a Host")),
            Some(host) if !is_host(host) => return Err(Fault::malformed("the Host is no host")),
            _ => {}
        }
        Ok(fields)
    }

    /// Takes a field that means something here. False if it is metadata.
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<bool, Fault> {
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
            // The handler may want to know it, too.
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
            return self.framing.take(name, value).map_err(Fault::malformed);
        };
        match slot.replace(value) {
            None => Ok(true),
            Some(_) => Err(Fault::malformed(format!("there are two {name} fields"))),
        }
    }

    #[cold]
    fn without_named(&mut self, headers: &[Header<'a>], metadata: &mut MetadataBuf) -> Result<(), Fault> {
        metadata.clear();
        let options = || headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
        for Header { name, value } in headers {
            let is_named = options()
                .flat_map(|option| list(option.value))
                .any(|token| token.eq_ignore_ascii_case(name.as_bytes()));
            let mut none = Fields::default();
            if !is_named && !none.take(name, value)? {
                push(metadata, name, value)?;
            }
        }
        Ok(())
    }
}

/// A field becomes an entry of the metadata, its name in lower case.
fn push(metadata: &mut MetadataBuf, name: &str, value: &[u8]) -> Result<(), Fault> {
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

/// A host and perhaps a port, by their characters (RFC 3986 section 3.2); nothing is a host, too.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte))
}

/// Path and query of a target in one of the forms of RFC 9112 section 3.2, save `*` and that of CONNECT.
fn path_and_query(target: &str) -> Result<(&str, &str), Fault> {
    if !target.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'#') {
        return Err(Fault::malformed("the target holds a character that no target may hold"));
    }
    let path = if target.starts_with('/') {
        target
    } else {
        // What is said here of the host counts instead of Host (RFC 9112 section 3.2.2), and neither is used.
        let is = |scheme: &str| target.get(..scheme.len()).is_some_and(|at| at.eq_ignore_ascii_case(scheme));
        let Some(scheme) = ["http://", "https://"].into_iter().find(|scheme| is(scheme)) else {
            return Err(Fault::malformed("the target is neither a path nor an address of HTTP"));
        };
        let rest = &target[scheme.len()..];
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        if end == 0 || !is_host(&rest.as_bytes()[..end]) {
            return Err(Fault::malformed("the host of the request target is invalid"));
        }
        &rest[end..]
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// The method that a path names.
fn method_at(side: &ServerSide, path: &str) -> Option<SiteMethod> {
    let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
    let mut name = [0; NAME_BYTES_MAX];
    let name = name.get_mut(..service.len() + 1 + method.len())?;
    if service.contains('/') {
        return None;
    }
    name[..service.len()].copy_from_slice(service.as_bytes());
    name[service.len()] = b'.';
    name[service.len() + 1..].copy_from_slice(method.as_bytes());
    side.site.method(std::str::from_utf8(name).ok()?)
}

#[cold]
fn not_found(side: &ServerSide, path: &str) -> Fault {
    let of_service = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'));
    let message = match of_service {
        Some((service, method)) if side.site.has_service(service) => {
            format!("there is no method {service}.{method} here")
        }
        Some((service, _)) => format!("there is no service {service} here"),
        None => format!("there is nothing at {path}; methods are at /Service/Method"),
    };
    // The code says what the native protocol says, and what the Connect protocol infers from a bare 404.
    Fault::new(404, Code::Unimplemented, message)
}

fn asks(
    side: &ServerSide,
    method: &str,
    target: &str,
    fields: &Fields<'_>,
    question: &mut Question,
    argument: &mut Vec<u8>,
) -> Result<Asks, Fault> {
    let asked = &mut question.asked;
    let has_body = question.body != BodyLength::Bytes(0);
    let not_allowed = |allow| Fault {
        allow,
        ..Fault::new(
            405,
            Code::Unimplemented,
            "this HTTP method is not allowed here; \
            the Allow field lists those that are",
        )
    };
    match method {
        "GET" | "HEAD" | "POST" | "OPTIONS" | "PUT" | "DELETE" | "PATCH" | "TRACE" => {}
        "CONNECT" if target == GO_RPC_PATH && has_body => {
            return Err(Fault::malformed("CONNECT has no body"));
        }
        "CONNECT" if target == GO_RPC_PATH => return Ok(Asks::GoRpc),
        // The answer to a CONNECT is not framed as others are; the connection is of no further use.
        "CONNECT" => return Err(not_allowed(Allow::All).and_close()),
        _ => {
            let message = format!("unknown HTTP method {method}");
            return Err(Fault::new(501, Code::Unimplemented, message));
        }
    }
    let is_options = method == "OPTIONS";
    if target == "*" && is_options {
        asked.allow = Allow::All;
        return Ok(Asks::Options { is_preflight: false });
    }
    let (path, query) = path_and_query(target)?;
    if path == GO_RPC_PATH {
        asked.allow = Allow::Connect;
        return Ok(Asks::MustConnect);
    }
    let Some(found) = method_at(side, path) else {
        let page = side.site.page(path).ok_or_else(|| not_found(side, path))?;
        return match method {
            "GET" | "HEAD" => Ok(Asks::Page(page)),
            "OPTIONS" => {
                asked.allow = Allow::Get;
                Ok(Asks::Options { is_preflight: fields.is_preflight && asked.origin != 0 })
            }
            _ => Err(not_allowed(Allow::Get)),
        };
    };
    let allow = if found.is_free_of_side_effects { Allow::GetAndPost } else { Allow::Post };
    if is_options {
        asked.allow = allow;
        return Ok(Asks::Options { is_preflight: fields.is_preflight && asked.origin != 0 });
    }
    match method {
        "POST" => {
            if asked.is_http_10 && fields.framing.length.is_none() {
                // There it could also mean a body up to the end of the connection.
                let fault =
                    Fault::new(411, Code::InvalidArgument, "a POST in HTTP/1.0 requires a Content-Length");
                return Err(fault.and_close());
            }
            checked(side, fields, question.body)?;
            let time_left_us = called(fields)?;
            Ok(Asks::Call { method: found.hash, time_left_us })
        }
        "GET" | "HEAD" if found.is_free_of_side_effects => {
            if has_body {
                // RFC 9110 section 9.3.1: it has no meaning, and hides requests from those who do not look.
                return Err(Fault::malformed("GET and HEAD have no body"));
            }
            let time_left_us = called(fields)?;
            query::argument(query, argument)?;
            if argument.len() > side.limits.frame_bytes_max {
                return Err(Fault::too_large(side.limits.frame_bytes_max));
            }
            Ok(Asks::CallByGet { method: found.hash, time_left_us })
        }
        _ => Err(not_allowed(allow)),
    }
}

/// Whether a body may come as it is announced.
fn checked(side: &ServerSide, fields: &Fields<'_>, body: BodyLength) -> Result<(), Fault> {
    if let Some(expect) = fields.expect
        && !expect.eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Fault::new(417, Code::Unimplemented, "unsupported expectation: expected 100-continue"));
    }
    let bytes_max = side.limits.frame_bytes_max;
    if let BodyLength::Bytes(bytes) = body
        && bytes > bytes_max as u64
    {
        let closes = bytes > SKIP_FACTOR * bytes_max as u64;
        return Err(Fault { closes, ..Fault::too_large(bytes_max) });
    }
    let is_bare_form = |media: &[u8]| media.eq_ignore_ascii_case(FORM) && !fields.is_from_page;
    if !fields.content_type.is_some_and(|media| is_json(media) || is_bare_form(media)) {
        return Err(Fault::unsupported("Content-Type must be application/json"));
    }
    match fields.content_encoding {
        None => Ok(()),
        Some(coding) if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => Err(Fault::unsupported("Content-Encoding must be identity: no other is supported here")),
    }
}

/// What the fields of the Connect protocol say: the time left.
fn called(fields: &Fields<'_>) -> Result<u32, Fault> {
    if fields.version.is_some_and(|version| version != b"1") {
        return Err(Fault::invalid("Connect-Protocol-Version must be 1"));
    }
    let Some(timeout) = fields.timeout else { return Ok(0) };
    let Some(millis) = digits(timeout, 10) else {
        return Err(Fault::invalid("Connect-Timeout-Ms must be 1 to 10 digits"));
    };
    Ok(time_left_us(Some(std::time::Duration::from_millis(millis))))
}

/// The media type application/json; of its parameters only a charset matters, which must be that of JSON.
pub(super) fn is_json(content_type: &[u8]) -> bool {
    let mut parts = content_type.split(|byte| *byte == b';').map(super::framing::trim);
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case(b"application/json")) {
        return false;
    }
    parts.all(|parameter| {
        let mut halves = parameter.splitn(2, |byte| *byte == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        !name.eq_ignore_ascii_case(b"charset")
            || value.eq_ignore_ascii_case(b"utf-8")
            || value.eq_ignore_ascii_case(b"\"utf-8\"")
    })
}
