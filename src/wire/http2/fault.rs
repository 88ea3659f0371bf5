//! The error codes of HTTP/2, and what a broken rule ends: the stream or the connection (RFC 9113 sections 5.4 and 7).

use std::fmt;

/// An error code, as RST_STREAM and GOAWAY carry it. Unknown codes are valid and have no special meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Http2Code(pub u32);

impl Http2Code {
    /// No error: a graceful end.
    pub const NO_ERROR: Http2Code = Http2Code(0);
    /// A rule was broken for which no other code is more specific.
    pub const PROTOCOL_ERROR: Http2Code = Http2Code(1);
    /// The endpoint failed by its own fault.
    pub const INTERNAL_ERROR: Http2Code = Http2Code(2);
    /// The peer sent more than the window allowed, or let a window overflow.
    pub const FLOW_CONTROL_ERROR: Http2Code = Http2Code(3);
    /// The settings were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Http2Code = Http2Code(4);
    /// A frame arrived for a stream that the peer had ended.
    pub const STREAM_CLOSED: Http2Code = Http2Code(5);
    /// A frame has an invalid size.
    pub const FRAME_SIZE_ERROR: Http2Code = Http2Code(6);
    /// The stream was refused before anything was done; it may be repeated.
    pub const REFUSED_STREAM: Http2Code = Http2Code(7);
    /// The stream is no longer needed.
    pub const CANCEL: Http2Code = Http2Code(8);
    /// A header block cannot be decoded, so the state of the compression is lost.
    pub const COMPRESSION_ERROR: Http2Code = Http2Code(9);
    /// A connection made by CONNECT failed.
    pub const CONNECT_ERROR: Http2Code = Http2Code(10);
    /// The peer causes load without use.
    pub const ENHANCE_YOUR_CALM: Http2Code = Http2Code(11);
    /// The security of the transport is insufficient.
    pub const INADEQUATE_SECURITY: Http2Code = Http2Code(12);
    /// The resource is available over HTTP/1.1 only.
    pub const HTTP_1_1_REQUIRED: Http2Code = Http2Code(13);

    /// Returns the name in RFC 9113, or `None` for an unknown code.
    pub fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(usize::try_from(self.0).ok()?).copied()
    }
}

impl fmt::Display for Http2Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}

impl fmt::Debug for Http2Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rule of HTTP/2 that the peer has broken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Http2Fault {
    /// The connection ends with GOAWAY.
    Connection {
        /// The code of the GOAWAY.
        code: Http2Code,
        /// What was found.
        why: &'static str,
    },
    /// The stream ends with RST_STREAM, and the connection continues.
    Stream {
        /// The stream.
        stream: u32,
        /// The code of the RST_STREAM.
        code: Http2Code,
        /// What was found.
        why: &'static str,
    },
}

crate::error_text::debug_as_text!(Http2Fault);

impl Http2Fault {
    /// A fault that ends the connection.
    pub(super) const fn connection(code: Http2Code, why: &'static str) -> Http2Fault {
        Http2Fault::Connection { code, why }
    }

    /// A fault that ends one stream.
    pub(super) const fn stream(stream: u32, code: Http2Code, why: &'static str) -> Http2Fault {
        Http2Fault::Stream { stream, code, why }
    }

    /// A broken rule that ends the connection and has no more specific code.
    pub(super) const fn protocol(why: &'static str) -> Http2Fault {
        Http2Fault::connection(Http2Code::PROTOCOL_ERROR, why)
    }

    /// A frame size that ends the connection.
    pub(super) const fn frame_size(why: &'static str) -> Http2Fault {
        Http2Fault::connection(Http2Code::FRAME_SIZE_ERROR, why)
    }
}

impl fmt::Display for Http2Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Http2Fault::Connection { code, why } => write!(f, "HTTP/2 {code}: {why}"),
            Http2Fault::Stream { stream, code, why } => write!(f, "HTTP/2 {code} on stream {stream}: {why}"),
        }
    }
}

impl std::error::Error for Http2Fault {}
