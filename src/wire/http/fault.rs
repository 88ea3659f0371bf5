//! A request that is refused: the status of HTTP, the code for the counters and the body, and whether the connection
//! can go on.

use std::borrow::Cow;

use super::reply::AllowedMethods;
use crate::status::Code;

/// Why a request is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestFault {
    /// The status of HTTP.
    pub(super) status: u16,
    /// The code of the answer.
    pub(super) code: Code,
    /// What was expected and what came.
    pub(super) message: Cow<'static, str>,
    /// What comes after this request cannot be trusted, or is not worth reading.
    pub(super) closes: bool,
    /// What the resource allows, for a 405.
    pub(super) allow: AllowedMethods,
}

impl RequestFault {
    /// A fault after which the connection lives.
    pub(super) fn new(status: u16, code: Code, message: impl Into<Cow<'static, str>>) -> RequestFault {
        RequestFault { status, code, message: message.into(), closes: false, allow: AllowedMethods::Nothing }
    }

    /// 400, and the connection lives: the request ends where it says.
    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> RequestFault {
        RequestFault::new(400, Code::InvalidArgument, message)
    }

    /// 400, and the connection ends: it could be read two ways.
    pub(super) fn malformed(message: impl Into<Cow<'static, str>>) -> RequestFault {
        RequestFault { closes: true, ..RequestFault::invalid(message) }
    }

    /// 415.
    pub(super) fn unsupported(message: impl Into<Cow<'static, str>>) -> RequestFault {
        RequestFault::new(415, Code::Unimplemented, message)
    }

    /// 413; the connection ends.
    pub(super) fn too_large(bytes_max: usize) -> RequestFault {
        let message = format!("the body is over the limit of {bytes_max} bytes (frame_bytes_max)");
        RequestFault { closes: true, ..RequestFault::new(413, Code::ResourceExhausted, message) }
    }

    /// The same, and the connection ends.
    pub(super) fn and_close(self) -> RequestFault {
        RequestFault { closes: true, ..self }
    }
}
