//! The response that the handler of a route returns. Names and values of fields are checked when they are set, so that no
//! value can end a line or begin another response.

use std::fmt;

use crate::codec::Bytes;
use crate::message::{HttpResponseHead, RESPONSE_METADATA_BYTES_MAX};
use crate::status::Status;

/// The fields that concern the connection or the framing of the body, and the date: the server writes them.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// An HTTP response: a status, header fields, and a body.
///
/// ```
/// use coreloop::route::RouteResponse;
///
/// let response = RouteResponse::html("<p>hello</p>").header("Cache-Control", "max-age=60")?;
/// assert!(response.header("X-Name", "a\r\nSet-Cookie: b").is_err());
/// # Ok::<(), coreloop::route::RouteResponseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a response is sent when the handler returns it"]
pub struct RouteResponse {
    status: u16,
    /// Whole lines.
    fields: Vec<u8>,
    body: Bytes,
}

/// Why a response cannot be made.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteResponseError {
    /// The status is not one of a final response: 200 to 599.
    Status {
        /// The status.
        status: u16,
    },
    /// The name of a field is not a token (RFC 9110, section 5.1).
    Name {
        /// The name.
        name: String,
    },
    /// The server writes this field itself.
    Reserved {
        /// The name.
        name: String,
    },
    /// The value of a field has a control character other than a tab (RFC 9110, section 5.5).
    Value {
        /// The name of the field.
        name: String,
        /// The first such character.
        found: u8,
    },
    /// The fields are longer than 16 KiB.
    TooLong {
        /// The name of the field that does not fit.
        name: String,
    },
    /// A response with this status has no body (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5).
    Body {
        /// The status.
        status: u16,
    },
}

crate::error_text::debug_as_text!(RouteResponseError);

impl fmt::Display for RouteResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteResponseError::Status { status } => {
                write!(f, "status of a response: expected 200 to 599, found {status}")
            }
            RouteResponseError::Name { name } => write!(
                f,
                "name of a header field: expected letters, digits and !#$%&'*+-.^_`|~, found {name:?}"
            ),
            RouteResponseError::Reserved { name } => {
                write!(f, "header field {name}: expected a field that the server does not write itself")
            }
            RouteResponseError::Value { name, found } => write!(
                f,
                "value of the header field {name}: expected no control characters, found {:?}",
                char::from(*found)
            ),
            RouteResponseError::TooLong { name } => write!(
                f,
                "header field {name}: expected at most {RESPONSE_METADATA_BYTES_MAX} bytes of header fields"
            ),
            RouteResponseError::Body { status } => {
                write!(f, "body of a response with the status {status}: expected none")
            }
        }
    }
}

impl std::error::Error for RouteResponseError {}

/// For a handler that makes its response with `?`: an error of the handler.
impl From<RouteResponseError> for Status {
    fn from(error: RouteResponseError) -> Status {
        Status::internal(error.to_string())
    }
}

impl RouteResponse {
    /// Creates an empty response with a status.
    ///
    /// # Errors
    ///
    /// The status is not 200 to 599.
    pub fn new(status: u16) -> Result<RouteResponse, RouteResponseError> {
        RouteResponse::no_content().status(status)
    }

    fn of(content_type: &str, body: Bytes) -> RouteResponse {
        let fields = format!("Content-Type: {content_type}\r\n").into_bytes();
        RouteResponse { status: 200, fields, body }
    }

    /// A response of plain text, with the status 200.
    pub fn text(text: impl Into<String>) -> RouteResponse {
        RouteResponse::of("text/plain; charset=utf-8", Bytes::from(text.into().into_bytes()))
    }

    /// A response of HTML, with the status 200.
    pub fn html(text: impl Into<String>) -> RouteResponse {
        RouteResponse::of("text/html; charset=utf-8", Bytes::from(text.into().into_bytes()))
    }

    /// A response of JSON that was written before, with the status 200.
    pub fn json(text: impl Into<Bytes>) -> RouteResponse {
        RouteResponse::of("application/json", text.into())
    }

    /// An event stream (`text/event-stream`, HTML Standard section 9.2), with the status 200, which no cache keeps: the head
    /// of a response that is sent in pieces ([`RouteSink`](super::RouteSink)).
    pub fn event_stream() -> RouteResponse {
        let mut response = RouteResponse::of("text/event-stream", Bytes::default());
        response.fields.extend_from_slice(b"Cache-Control: no-store\r\n");
        response
    }

    /// An empty response with the status 204: success, and nothing to say.
    pub fn no_content() -> RouteResponse {
        RouteResponse { status: 204, fields: Vec::new(), body: Bytes::default() }
    }

    /// Sets the status, in place of 200.
    ///
    /// # Errors
    ///
    /// The status is not 200 to 599.
    pub fn status(self, status: u16) -> Result<RouteResponse, RouteResponseError> {
        match status {
            200..600 => Ok(RouteResponse { status, ..self }),
            status => Err(RouteResponseError::Status { status }),
        }
    }

    /// Adds a header field. `Content-Type` replaces the one before; other fields with the same name are kept, since a
    /// response may have several (`Set-Cookie`).
    ///
    /// # Errors
    ///
    /// The name or the value is not valid in HTTP, or the server writes this field itself ([`RouteResponseError`]).
    pub fn header(
        mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<RouteResponse, RouteResponseError> {
        let value = value.as_ref();
        let owned = || name.to_owned();
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(RouteResponseError::Name { name: owned() });
        }
        if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Err(RouteResponseError::Reserved { name: owned() });
        }
        if let Some(found) = value.iter().copied().find(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(RouteResponseError::Value { name: owned(), found });
        }
        if name.eq_ignore_ascii_case("content-type") {
            self.remove_field(name);
        }
        if self.fields.len() + name.len() + value.len() + 4 > RESPONSE_METADATA_BYTES_MAX {
            return Err(RouteResponseError::TooLong { name: owned() });
        }
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.fields.extend_from_slice(part);
        }
        Ok(self)
    }

    /// Sets the body: a vector, a slice, or a shared chunk, which is sent without a copy. State its type with
    /// `header("Content-Type", …)`.
    pub fn body(self, body: impl Into<Bytes>) -> RouteResponse {
        RouteResponse { body: body.into(), ..self }
    }

    fn remove_field(&mut self, name: &str) {
        let is_other = |line: &&[u8]| {
            let found = line.split(|byte| *byte == b':').next().unwrap_or_default();
            !found.eq_ignore_ascii_case(name.as_bytes())
        };
        self.fields =
            self.fields.split_inclusive(|byte| *byte == b'\n').filter(is_other).flatten().copied().collect();
    }

    /// Returns the head and the body as they are sent.
    pub(super) fn into_parts(self) -> Result<(HttpResponseHead, Bytes), Status> {
        let RouteResponse { status, fields, body } = self;
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            return Err(RouteResponseError::Body { status }.into());
        }
        Ok((HttpResponseHead { status, fields }, body))
    }
}

/// Whether a byte may be in the name of a field (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_can_end_a_line_or_change_the_framing() {
        let of = |name: &str, value: &[u8]| RouteResponse::no_content().header(name, value).map(|_| ());
        let owned = str::to_owned;
        for name in ["", "a b", "a:", "a\r\nb", "ä", "a\0", ":status"] {
            assert_eq!(of(name, b""), Err(RouteResponseError::Name { name: owned(name) }));
        }
        for name in ["Content-Length", "transfer-encoding", "CONNECTION", "Date", "Upgrade", "TE", "Trailer"]
        {
            assert_eq!(of(name, b""), Err(RouteResponseError::Reserved { name: owned(name) }));
        }
        for byte in (0..32).chain([127]).filter(|byte| *byte != b'\t') {
            let error = RouteResponseError::Value { name: owned("X"), found: byte };
            assert_eq!(of("X", &[b'a', byte]), Err(error));
        }
        assert_eq!(of("X", b"a\tb \xff\xc3\xa4"), Ok(()));
        let long = [b'a'; RESPONSE_METADATA_BYTES_MAX - 4];
        assert_eq!(of("X", &long), Err(RouteResponseError::TooLong { name: owned("X") }));
        assert_eq!(of("X", &long[1..]), Ok(()));
    }

    #[test]
    fn the_status_is_that_of_a_final_response() {
        for status in [0, 100, 101, 199, 600, 999] {
            assert_eq!(RouteResponse::new(status), Err(RouteResponseError::Status { status }));
            assert!(RouteResponse::text("").status(status).is_err());
        }
        for status in [204, 205, 304] {
            assert!(RouteResponse::text("a").status(status).unwrap().into_parts().is_err(), "{status}");
            assert!(RouteResponse::new(status).unwrap().into_parts().is_ok(), "{status}");
        }
    }

    #[test]
    fn fields_are_kept_as_lines() {
        let response = RouteResponse::json(&b"{}"[..]).status(201).unwrap();
        let response = response.header("Set-Cookie", "a=1").unwrap().header("Set-Cookie", "b=2").unwrap();
        let (head, body) = response.clone().into_parts().unwrap();
        assert_eq!((head.status, &body[..]), (201, &b"{}"[..]));
        let lines = "Content-Type: application/json\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n";
        assert_eq!(head.fields.escape_ascii().to_string(), lines.as_bytes().escape_ascii().to_string());
        let (head, _) = response.header("content-type", "image/png").unwrap().into_parts().unwrap();
        let lines = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\ncontent-type: image/png\r\n";
        assert_eq!(head.fields.escape_ascii().to_string(), lines.as_bytes().escape_ascii().to_string());
    }
}
