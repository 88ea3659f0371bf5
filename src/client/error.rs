//! The errors of a call.

use std::fmt;
use std::io;
use std::time::Duration;

use super::address::BuildError;
#[cfg(feature = "json")]
use super::dynamic::DescriptionError;
use super::reply::completed;
use crate::codec::CodecError;
use crate::message::MetadataTooLong;
use crate::policy::fleet::NoEndpoint;
use crate::status::{Code, Status};
use crate::wire::{Broken, ForeignProtocol, Scheme};

/// Why a call has no result.
#[non_exhaustive]
pub enum CallError {
    /// The server replied with this status.
    Status(Status),
    /// The call's deadline passed on this side; the server may have run it.
    DeadlineExceeded,
    /// The argument could not be encoded; nothing was sent.
    Argument(CodecError),
    /// The server replied ok, but the reply could not be decoded.
    Reply(CodecError),
    /// The client could not be built: an address is not valid, a limit is out of range. No call was made.
    Build(BuildError),
    /// The call does not fit what the server says of its methods ([`Client::call_json`](super::Client::call_json)); nothing was
    /// sent.
    #[cfg(feature = "json")]
    NotDescribed(Box<DescriptionError>),
    /// The client could not connect to the address; nothing was sent.
    Connect(io::Error),
    /// No server of the client can take the call: nothing was sent.
    NoEndpoint(NoEndpoint),
    /// The connection failed.
    Lost {
        /// The error of the connection.
        error: io::Error,
        /// The server may have run the call: it was sent in part or whole.
        may_have_run: bool,
    },
    /// The server sent bytes that violate the protocol; the connection is closed. The server may have run the call.
    Broken(Broken),
    /// The peer at the address uses another protocol than the address names. It has not run the call.
    WrongProtocol(Box<WrongProtocol>),
    /// The server takes no new requests on this connection; nothing was sent. Connect again. (Only
    /// [`Direct`](super::Direct) returns this: a [`Client`](super::Client) reconnects by itself.)
    Draining,
    /// The server replied, but the client refused the reply: it is over `frame_bytes_max`, or has flags or metadata
    /// that this version does not know.
    ReplyRefused(Status),
    /// The call was cancelled: by its caller, or with the call that it was made for.
    Cancelled {
        /// The call was sent before it was cancelled.
        may_have_run: bool,
    },
    /// The client has as many calls in flight or waiting as its limits allow; nothing was sent.
    Full {
        /// The limit: `in_flight_max`, plus `waiting_max` where calls may wait.
        calls_max: usize,
    },
    /// The thread that waits is the one that drives the client; it would wait forever. Use a callback, or call from a
    /// method that is not inline.
    OnReactor,
    /// The call belongs to a batch that was not sent, or not yet.
    NotSent,
    /// The protocol of the address cannot transmit an entry of the client's metadata. As a header field of `http:` an
    /// entry needs a token for a name and a value without control characters, and must not be a field that HTTP or
    /// Connect sets itself; `jsonrpc:`, `gob:` and `gob-http:` transmit no metadata. Nothing was sent.
    Metadata {
        /// The protocol.
        scheme: Scheme,
        /// The entry's key.
        key: String,
    },
    /// The entries of the call's metadata do not fit into a frame together; nothing was sent.
    MetadataTooLong(MetadataTooLong),
    /// The argument is too large for a frame; nothing was sent.
    TooLarge {
        /// The size in bytes.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// A peer that replies in another protocol than the client's.
#[derive(Clone, PartialEq, Eq)]
pub struct WrongProtocol {
    /// The address, without its scheme.
    pub address: String,
    /// The protocol that the client uses there.
    pub scheme: Scheme,
    /// The protocol that the peer's first bytes belong to.
    pub met: ForeignProtocol,
}

crate::error_text::debug_as_text!(WrongProtocol);

impl fmt::Display for WrongProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongProtocol { address, scheme, met } = self;
        write!(f, "the peer at {address} does not speak {}: it answered with {met}", scheme.name())?;
        match met.scheme() {
            Some(other) => write!(f, "; use {}:{address}", other.name()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for WrongProtocol {}

impl CallError {
    /// Returns the error with what only the caller knows: the method's name, and the types behind the fingerprint that it
    /// has stated.
    pub(super) fn naming(self, hash: u32, name: &str, schema: u32) -> CallError {
        match self {
            CallError::Status(mut status) => {
                if let Some(text) = completed(status.code, &status.message, (hash, name), schema) {
                    status.message = text;
                }
                CallError::Status(status)
            }
            other => other,
        }
    }

    /// Returns the error for a connection whose bytes could not be decoded.
    pub(super) fn broken(why: Broken, scheme: Scheme, address: &str) -> CallError {
        match why {
            Broken::Foreign(met) => {
                CallError::WrongProtocol(Box::new(WrongProtocol { address: address.to_owned(), scheme, met }))
            }
            why => CallError::Broken(why),
        }
    }

    /// Returns the status code for this error.
    pub fn code(&self) -> Code {
        match self {
            CallError::Status(status) => status.code,
            CallError::DeadlineExceeded => Code::DeadlineExceeded,
            CallError::Argument(_) | CallError::Reply(_) => Code::Internal,
            CallError::Metadata { .. } | CallError::MetadataTooLong(_) => Code::InvalidArgument,
            CallError::Connect(_)
            | CallError::NoEndpoint(_)
            | CallError::Lost { .. }
            | CallError::Broken(_)
            | CallError::Draining => Code::Unavailable,
            CallError::TooLarge { .. } | CallError::Full { .. } => Code::ResourceExhausted,
            CallError::ReplyRefused(status) => status.code,
            #[cfg(feature = "json")]
            CallError::NotDescribed(error) => error.code(),
            CallError::Cancelled { .. } => Code::Cancelled,
            CallError::OnReactor | CallError::NotSent | CallError::WrongProtocol(_) | CallError::Build(_) => {
                Code::FailedPrecondition
            }
        }
    }

    /// Returns the error as a status: the server's own, or one that describes it.
    pub fn to_status(&self) -> Status {
        match self {
            CallError::Status(status) | CallError::ReplyRefused(status) => status.clone(),
            error => {
                let (code, text) = (error.code(), error.to_string());
                // A status begins with its code when it is shown.
                let named = text.strip_prefix(code.name()).and_then(|rest| rest.strip_prefix(": "));
                Status::new(code, named.unwrap_or(&text))
            }
        }
    }

    /// Returns the time after which the call may be repeated, if the server has stated it
    /// ([`Status::retry_after`]).
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Status(status) => status.retry_after(),
            _ => None,
        }
    }

    /// Returns whether the server may have run the call: if not, calling again repeats nothing.
    pub fn may_have_run(&self) -> bool {
        match self {
            CallError::Status(_)
            | CallError::DeadlineExceeded
            | CallError::Reply(_)
            | CallError::ReplyRefused(_)
            | CallError::OnReactor
            | CallError::Broken(_) => true,
            #[cfg(feature = "json")]
            CallError::NotDescribed(_) => false,
            CallError::Argument(_)
            | CallError::Build(_)
            | CallError::Connect(_)
            | CallError::NoEndpoint(_)
            | CallError::Draining
            | CallError::Full { .. }
            | CallError::NotSent
            | CallError::Metadata { .. }
            | CallError::MetadataTooLong(_)
            | CallError::WrongProtocol(_)
            | CallError::TooLarge { .. } => false,
            CallError::Lost { may_have_run, .. } | CallError::Cancelled { may_have_run } => *may_have_run,
        }
    }
}

crate::error_text::debug_as_text!(CallError);
/// Returns the error for a connection that a server has closed. A server that sent nothing at all may use another
/// protocol.
pub(super) fn closed(is_heard: bool, scheme: Scheme, address: &str) -> io::Error {
    let text = if is_heard {
        format!("the server at {address} closed the connection")
    } else {
        let name = scheme.name();
        format!("{address} closed the connection without an answer; it may not speak {name} there")
    };
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Status(status) => status.fmt(f),
            CallError::DeadlineExceeded => f.write_str("deadline_exceeded: no answer before the deadline of the \
                call"),
            CallError::Argument(error) => write!(f, "the argument cannot be encoded: {error}"),
            CallError::Reply(error) => write!(f, "the reply cannot be decoded: {error}"),
            CallError::Build(error) => write!(f, "failed_precondition: the client cannot be built: {error}"),
            #[cfg(feature = "json")]
            CallError::NotDescribed(error) => write!(f, "{}: {error}", error.code()),
            CallError::Connect(error) => write!(f, "unavailable: cannot connect: {error}"),
            CallError::NoEndpoint(NoEndpoint::NotResolved) => {
                f.write_str("unavailable: no server of the client is known yet")
            }
            CallError::NoEndpoint(NoEndpoint::OutsideRegion { region }) => {
                write!(f, "unavailable: the client has no server in the region {region:?} (must_stay_in)")
            }
            CallError::NoEndpoint(NoEndpoint::AllOpen) => {
                f.write_str("unavailable: the circuit breakers of all servers are open")
            }
            CallError::Lost { error, may_have_run: true } => {
                write!(f, "unavailable: the connection was lost after the call was sent: {error}")
            }
            CallError::Lost { error, may_have_run: false } => {
                write!(f, "unavailable: the connection was lost: {error}")
            }
            CallError::Broken(why) => write!(f, "the server violated the protocol: {why}"),
            CallError::WrongProtocol(why) => write!(f, "failed_precondition: {why}"),
            CallError::Draining => {
                f.write_str("unavailable: the server is draining and accepts no new requests on this connection")
            }
            CallError::ReplyRefused(status) => write!(f, "the client refused the reply: {status}"),
            CallError::Cancelled { .. } => f.write_str("cancelled: the call was cancelled by its caller, or \
                with the call on whose behalf it was made"),
            CallError::Full { calls_max } => {
                write!(f, "resource_exhausted: {calls_max} calls are in flight or waiting, the limit of the \
                    client (in_flight_max, waiting_max)")
            }
            CallError::OnReactor => f.write_str(
                "failed_precondition: a blocking call on the thread that drives the client would wait forever; \
                    use a callback",
            ),
            CallError::Metadata { scheme, key } if scheme.carries_metadata() => {
                write!(f, "invalid_argument: metadata {key:?} cannot be sent as a header field of {}", scheme.name())
            }
            CallError::Metadata { scheme, key } => {
                write!(f, "invalid_argument: {} transmits no metadata; found {key:?}", scheme.name())
            }
            CallError::NotSent => f.write_str("failed_precondition: the call's batch was not sent"),
            CallError::MetadataTooLong(error) => write!(f, "invalid_argument: {error}"),
            CallError::TooLarge { bytes, bytes_max } => {
                write!(f, "resource_exhausted: the argument has {bytes} bytes; the limit is {bytes_max}")
            }
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Their text is part of this error's own text.
            CallError::Status(status) | CallError::ReplyRefused(status) => status.source(),
            CallError::Argument(error) | CallError::Reply(error) => error.source(),
            CallError::Build(error) => error.source(),
            #[cfg(feature = "json")]
            CallError::NotDescribed(error) => error.source(),
            CallError::Connect(error) | CallError::Lost { error, .. } => error.source(),
            CallError::Broken(why) => why.source(),
            CallError::WrongProtocol(_)
            | CallError::NoEndpoint(_)
            | CallError::DeadlineExceeded
            | CallError::Draining
            | CallError::Cancelled { .. }
            | CallError::Full { .. }
            | CallError::OnReactor
            | CallError::NotSent
            | CallError::Metadata { .. }
            | CallError::MetadataTooLong(_)
            | CallError::TooLarge { .. } => None,
        }
    }
}

impl From<BuildError> for CallError {
    fn from(error: BuildError) -> CallError {
        CallError::Build(error)
    }
}

/// For a handler that makes calls: the error of its call, with the same code.
impl From<CallError> for Status {
    fn from(error: CallError) -> Status {
        match error {
            CallError::Status(status) => status,
            other => other.to_status(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../docs/client.md");

    #[test]
    fn every_error_has_its_row_in_the_docs() {
        let io = || io::Error::other("it failed");
        let codec = || CodecError::NotCompiledIn { codec: crate::codec::Codec::Json, feature: "json" };
        let all = [
            ("Status", CallError::Status(Status::internal("no"))),
            ("DeadlineExceeded", CallError::DeadlineExceeded),
            ("Argument", CallError::Argument(codec())),
            ("Reply", CallError::Reply(codec())),
            ("Build", CallError::Build(BuildError::OnlyNative { scheme: Scheme::Native })),
            ("NotDescribed", DescriptionError::Method { method: "A.B".to_owned(), nearest: None }.into()),
            ("Connect", CallError::Connect(io())),
            ("NoEndpoint", CallError::NoEndpoint(NoEndpoint::AllOpen)),
            ("Lost", CallError::Lost { error: io(), may_have_run: true }),
            ("Broken", CallError::Broken(Broken::Version(9))),
            (
                "WrongProtocol",
                CallError::broken(Broken::Foreign(ForeignProtocol::Http), Scheme::Native, "a:1"),
            ),
            ("Draining", CallError::Draining),
            ("ReplyRefused", CallError::ReplyRefused(Status::internal("no"))),
            ("Cancelled", CallError::Cancelled { may_have_run: true }),
            ("Full", CallError::Full { calls_max: 1 }),
            ("OnReactor", CallError::OnReactor),
            ("NotSent", CallError::NotSent),
            ("Metadata", CallError::Metadata { scheme: Scheme::Native, key: "b3".to_owned() }),
            ("MetadataTooLong", CallError::MetadataTooLong(MetadataTooLong { key_len: 0, value_len: 1 })),
            ("TooLarge", CallError::TooLarge { bytes: 2, bytes_max: 1 }),
        ];
        let table = DOCS.split("| `CallError` |").nth(1).unwrap().split("\n\n").next().unwrap();
        assert_eq!(table.lines().skip(2).count(), all.len(), "a row for each, and for no other");
        for (name, error) in all {
            let code = match error {
                CallError::Status(_) => "the server's".to_owned(),
                CallError::ReplyRefused(_) => "the refusal's".to_owned(),
                CallError::NotDescribed(_) => "by its kind".to_owned(),
                _ => format!("`{}`", error.code()),
            };
            let may_have_run = match error {
                CallError::Lost { .. } | CallError::Cancelled { .. } => "as it says",
                _ if error.may_have_run() => "yes",
                _ => "no",
            };
            let row = format!("| `{name}` | {code} | {may_have_run} | ");
            assert!(table.contains(&row), "docs/client.md lacks the row {row}");
        }
    }
}
