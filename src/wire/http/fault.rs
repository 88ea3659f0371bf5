//! The refusal of a request: its HTTP status, the code for the counters and the body, and whether the connection
//! continues.

use std::borrow::Cow;

use super::reply::AllowedMethods;
use crate::status::Code;

/// The reason why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestFault {
    /// The HTTP status.
    pub(super) status: u16,
    /// The code of the answer.
    pub(super) code: Code,
    /// What was expected and what was found.
    pub(super) message: Cow<'static, str>,
    /// The connection closes: the bytes after this request cannot be trusted, or are not worth reading.
    pub(super) closes: bool,
    /// The methods that the resource allows, for a 405.
    pub(super) allow: AllowedMethods,
}

impl RequestFault {
    /// Creates a fault after which the connection continues.
    pub(super) fn new(status: u16, code: Code, message: impl Into<Cow<'static, str>>) -> RequestFault {
        RequestFault { status, code, message: message.into(), closes: false, allow: AllowedMethods::Nothing }
    }

    /// 400, and the connection continues: the end of the request is known.
    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> RequestFault {
        RequestFault::new(400, Code::InvalidArgument, message)
    }

    /// 400, and the connection closes: the request is ambiguous.
    pub(super) fn malformed(message: impl Into<Cow<'static, str>>) -> RequestFault {
        RequestFault { closes: true, ..RequestFault::invalid(message) }
    }

    /// 415.
    pub(super) fn unsupported(message: impl Into<Cow<'static, str>>) -> RequestFault {
        RequestFault::new(415, Code::Unimplemented, message)
    }

    /// 413, and the connection closes.
    pub(super) fn too_large(bytes_max: usize) -> RequestFault {
        let message = format!("the body is over the limit of {bytes_max} bytes (frame_bytes_max)");
        RequestFault { closes: true, ..RequestFault::new(413, Code::ResourceExhausted, message) }
    }

    /// Makes the connection close as well.
    pub(super) fn and_close(self) -> RequestFault {
        RequestFault { closes: true, ..self }
    }
}
