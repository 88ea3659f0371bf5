//! Checks an envelope by the rules of its dialect. The result is a call, or a refusal with its error text.
//!
//! Without a `jsonrpc` member, or with `"1.0"`, a request is 1.0, checked as Go's server does (net/rpc/server.go
//! `readRequestHeader`, net/rpc/jsonrpc/server.go), with the same error texts; otherwise it is 2.0 by its
//! specification. A repeated known member is refused in both, since readers differ in which one counts.

use std::ops::Range;

use super::members::{JsonRpcMethod, Params, RequestMembers};
use super::outstanding::{Dialect, PeerId};
use crate::json_text::portable;
use crate::json_text::unescape;
use crate::status::{Code, jsonrpc};
use crate::wire::ServerContext;

/// The maximum bytes of a caller's id. A connection stores one id per call in flight.
pub const ID_BYTES_MAX: usize = 1024;

/// The maximum characters of a method's name in an error text.
const NAME_CHARS_MAX: usize = 256;

/// A checked request.
#[derive(Debug)]
pub(super) struct JudgedRequest {
    /// The dialect of the request.
    pub(super) dialect: Dialect,
    /// The id of the answer; `None` for a call without an answer.
    pub(super) id: Option<PeerId>,
    /// The action.
    pub(super) what: RequestAction,
}

/// The action for a request.
#[derive(Debug)]
pub(super) enum RequestAction {
    /// Call a method.
    Call {
        /// The method.
        method: JsonRpcMethod,
        /// The argument.
        argument: CalledArgument,
    },
    /// Refuse the request.
    Refuse(RequestRefusal),
}

/// The argument of a call.
#[derive(Debug)]
pub(super) struct CalledArgument {
    /// Its range; empty if there is none.
    pub(super) body: Range<usize>,
    /// Whether it is a list of several arguments by position.
    pub(super) has_positions: bool,
}

impl CalledArgument {
    fn one(body: Range<usize>) -> CalledArgument {
        CalledArgument { body, has_positions: false }
    }

    /// Returns the argument in a list of params: the first value, or the whole list where a method takes several
    /// arguments. One object is a struct of them, as Go's clients send it.
    fn in_list(
        method: JsonRpcMethod,
        bytes: &[u8],
        all: &Range<usize>,
        first: &Range<usize>,
        count: usize,
    ) -> CalledArgument {
        if method.takes_several && !(count == 1 && bytes[first.clone()].starts_with(b"{")) {
            return CalledArgument { body: all.clone(), has_positions: true };
        }
        CalledArgument::one(first.clone())
    }
}

/// A refusal.
#[derive(Debug)]
pub(super) struct RequestRefusal {
    /// The code for the counters.
    pub(super) code: Code,
    /// The number of the error in 2.0, if it does not follow from the code.
    pub(super) number: Option<i32>,
    /// The error text.
    pub(super) message: String,
}

impl RequestRefusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> RequestRefusal {
        RequestRefusal { code, number: None, message: message.into() }
    }

    /// The message is not a request.
    pub(super) fn invalid(message: impl Into<String>) -> RequestRefusal {
        let number = Some(jsonrpc::INVALID_REQUEST);
        RequestRefusal { code: Code::InvalidArgument, number, message: message.into() }
    }

    /// The message is not JSON.
    pub(super) fn parse(message: impl Into<String>) -> RequestRefusal {
        RequestRefusal { number: Some(jsonrpc::PARSE_ERROR), ..RequestRefusal::invalid(message) }
    }

    /// Makes a refusal that answers no particular request.
    pub(super) fn judged_in(self, dialect: Dialect) -> JudgedRequest {
        JudgedRequest { dialect, id: Some(PeerId::NULL), what: RequestAction::Refuse(self) }
    }
}

/// Reads a string without its quotes; `None` if the value is no string.
fn with_text<T>(value: &[u8], read: impl FnOnce(&str) -> T) -> Option<T> {
    let text = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if text.contains(&b'\\') {
        let mut plain = String::new();
        unescape(text, &mut plain);
        return Some(read(&plain));
    }
    // The reader has checked that it is UTF-8.
    std::str::from_utf8(text).ok().map(read)
}

fn clip(name: &str) -> &str {
    name.char_indices().nth(NAME_CHARS_MAX).map_or(name, |(at, _)| &name[..at])
}

/// Checks the request in these bytes.
#[inline]
pub(super) fn judge(
    members: &RequestMembers,
    bytes: &[u8],
    side: &ServerContext,
    in_batch: bool,
) -> JudgedRequest {
    let version = members.jsonrpc.clone().map(|version| Version::of(&bytes[version]));
    match version {
        None | Some(Version::One) if !in_batch => judge_one(members, bytes, side),
        version => judge_two(members, bytes, side, version == Some(Version::Two)),
    }
}

/// The value of a `jsonrpc` member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// `"1.0"`.
    One,
    /// `"2.0"`.
    Two,
    /// Anything else, such as `"2"`, `2.0` or `null`.
    Unknown,
}

impl Version {
    #[inline]
    fn of(value: &[u8]) -> Version {
        let of_text = |text: &str| match text {
            "1.0" => Version::One,
            "2.0" => Version::Two,
            _ => Version::Unknown,
        };
        if value == b"\"2.0\"" { Version::Two } else { with_text(value, of_text).unwrap_or(Version::Unknown) }
    }
}

fn judge_one(members: &RequestMembers, bytes: &[u8], side: &ServerContext) -> JudgedRequest {
    let dialect = Dialect::One;
    let id = members.id.clone().map_or(&b"null"[..], |id| &bytes[id]);
    if let Err(refused) = check_id(id) {
        return refused.judged_in(dialect);
    }
    let what = match &members.twice {
        Some(name) => Err(RequestRefusal::invalid(format!("jsonrpc: the member {name} occurs twice"))),
        None => call_one(members, bytes, side),
    };
    let what = what
        .map_or_else(RequestAction::Refuse, |(method, argument)| RequestAction::Call { method, argument });
    JudgedRequest { dialect, id: Some(PeerId::new(id)), what }
}

/// Checks a call of 1.0. Returns the method and the argument.
fn call_one(
    members: &RequestMembers,
    bytes: &[u8],
    side: &ServerContext,
) -> Result<(JsonRpcMethod, CalledArgument), RequestRefusal> {
    let method = match members.known {
        Some(called) => called,
        None => {
            let name = members.method.clone().map_or(&b"null"[..], |method| &bytes[method]);
            let find = |name: &str| side.site.method(name).ok_or_else(|| unknown_one(name, side));
            // In Go, a null name is an empty name.
            let name = if name == b"null" { b"\"\"" } else { name };
            let Some(found) = with_text(name, find) else {
                return Err(RequestRefusal::invalid("jsonrpc: the method is not a string"));
            };
            JsonRpcMethod::of(&found?)
        }
    };
    let kind = match &members.params {
        // Go ignores all but the first.
        Params::Listed { all, first, count } => {
            return Ok((method, CalledArgument::in_list(method, bytes, all, first, *count)));
        }
        Params::None => {
            return Err(RequestRefusal::new(Code::InvalidArgument, "jsonrpc: request body missing params"));
        }
        Params::Named(_) => "object",
        Params::Scalar(kind) => kind,
    };
    let message = format!("json: cannot unmarshal {kind} into Go value of type [1]interface {{}}");
    Err(RequestRefusal::new(Code::InvalidArgument, message))
}

#[cold]
fn unknown_one(name: &str, side: &ServerContext) -> RequestRefusal {
    RequestRefusal::new(Code::Unimplemented, side.unknown_method_in_go(name, clip(name)))
}

fn judge_two(members: &RequestMembers, bytes: &[u8], side: &ServerContext, is_two: bool) -> JudgedRequest {
    let dialect = Dialect::Two;
    let id = members.id.clone().map(|id| &bytes[id]);
    if let Some(id) = id
        && let Err(refused) = check_scalar_id(id)
    {
        return refused.judged_in(dialect);
    }
    let what = if !is_two {
        Err(RequestRefusal::invalid("invalid request: `jsonrpc` is not \"2.0\""))
    } else if let Some(name) = members.twice {
        Err(RequestRefusal::invalid(format!("invalid request: the member `{name}` occurs twice")))
    } else {
        call_two(members, bytes, side)
    };
    let id = id.map(PeerId::new);
    match what {
        Ok((method, argument)) => {
            JudgedRequest { dialect, id, what: RequestAction::Call { method, argument } }
        }
        // A message that is not a request is not a notification either, and is answered.
        Err(refused) if refused.number == Some(jsonrpc::INVALID_REQUEST) => {
            JudgedRequest { dialect, id: id.or(Some(PeerId::NULL)), what: RequestAction::Refuse(refused) }
        }
        Err(refused) => JudgedRequest { dialect, id, what: RequestAction::Refuse(refused) },
    }
}

fn long_id(len: usize) -> String {
    format!("invalid request: an id of {len} bytes, {ID_BYTES_MAX} is the limit")
}

/// An id is echoed unchanged, so it must be JSON that every reader accepts.
#[inline]
fn check_id(id: &[u8]) -> Result<(), RequestRefusal> {
    if id.len() > ID_BYTES_MAX {
        return Err(RequestRefusal::invalid(long_id(id.len())));
    }
    portable::check(id).map_err(|what| RequestRefusal::invalid(format!("invalid request: the id has {what}")))
}

#[inline]
fn check_scalar_id(id: &[u8]) -> Result<(), RequestRefusal> {
    match id.first() {
        Some(b'"' | b'-' | b'0'..=b'9' | b'n') => check_id(id),
        _ => {
            Err(RequestRefusal::invalid("invalid request: the id is neither a string nor a number nor null"))
        }
    }
}

/// Checks a call of 2.0. Returns the method and the argument.
fn call_two(
    members: &RequestMembers,
    bytes: &[u8],
    side: &ServerContext,
) -> Result<(JsonRpcMethod, CalledArgument), RequestRefusal> {
    let find = |name: &str| {
        let method = side.site.method(name).map(|method| JsonRpcMethod::of(&method));
        method.ok_or_else(|| {
            RequestRefusal::new(Code::Unimplemented, format!("method not found: {}", clip(name)))
        })
    };
    let found = match members.known {
        Some(called) => Some(Ok(called)),
        None => members.method.clone().and_then(|method| with_text(&bytes[method], find)),
    };
    let Some(found) = found else {
        return Err(RequestRefusal::invalid("invalid request: the method is missing, or not a string"));
    };
    // A missing method is reported before a fault in the argument.
    let method = found?;
    let argument = match &members.params {
        Params::None => CalledArgument::one(0..0),
        Params::Named(object) => CalledArgument::one(object.clone()),
        Params::Listed { all, first, count } if method.takes_several || *count <= 1 => {
            CalledArgument::in_list(method, bytes, all, first, *count)
        }
        Params::Listed { count, .. } => {
            let message = format!("invalid params: the method takes one argument, not {count}");
            return Err(RequestRefusal::new(Code::InvalidArgument, message));
        }
        Params::Scalar(kind) => {
            let message = format!("invalid request: params are an array or an object, not a {kind}");
            return Err(RequestRefusal::invalid(message));
        }
    };
    Ok((method, argument))
}
