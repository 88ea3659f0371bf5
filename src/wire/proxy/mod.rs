//! The header of the PROXY protocol: what a proxy writes before the bytes of a connection, to name its client.
//!
//! Versions 1 and 2 of the specification (haproxy.org, proxy-protocol.txt). The parser (`parse`) decides about the bytes
//! alone; the transport that reads them is `transport/proxied.rs`. A listener that expects the header accepts nothing
//! else, so no protocol is ever mistaken for a header, or a header for a protocol.

#[cfg(feature = "server")]
mod parse;
#[cfg(all(test, feature = "server"))]
mod tests;

use std::fmt;
use std::io;

#[cfg(feature = "server")]
pub use parse::{HEADER_BYTES_MAX, ProxyHeader, parse};

use crate::error_text::{debug_as_text, shortened};

/// The most bytes of peer input in the text of an error.
const FOUND_BYTES_MAX: usize = 64;

/// Why a connection was not accepted on a listener that expects the PROXY protocol (`proxy_protocol.from`).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// The connection is not from one of the proxies; its bytes were not read.
    Unlisted,
    /// The first bytes are not those of a header.
    Missing {
        /// The first of them, with escapes.
        found: Box<str>,
    },
    /// The header is longer than it may be.
    TooLong {
        /// The limit in bytes: 107 in version 1, 4,096 in version 2.
        bytes_max: usize,
    },
    /// A part of the header is not as it must be.
    Malformed {
        /// What the part must be.
        expected: &'static str,
        /// The part, with escapes.
        found: Box<str>,
    },
    /// The connection ended within the header.
    Truncated,
    /// The header was not complete in time (`limits.first_bytes_ms`).
    Late,
}

debug_as_text!(ProxyHeaderError);

impl ProxyHeaderError {
    /// Returns the error that this error of a connection is made of, if it is one.
    pub(crate) fn of(error: &io::Error) -> Option<&ProxyHeaderError> {
        error.get_ref()?.downcast_ref()
    }

    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn into_error(self) -> io::Error {
        let kind = match self {
            ProxyHeaderError::Unlisted => io::ErrorKind::PermissionDenied,
            ProxyHeaderError::Truncated => io::ErrorKind::UnexpectedEof,
            ProxyHeaderError::Late => io::ErrorKind::TimedOut,
            ProxyHeaderError::Missing { .. }
            | ProxyHeaderError::TooLong { .. }
            | ProxyHeaderError::Malformed { .. } => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }
}

/// Returns bytes of a peer as text for an error.
#[cfg_attr(not(feature = "server"), allow(dead_code))]
fn found(bytes: &[u8]) -> Box<str> {
    let bytes = &bytes[..bytes.len().min(FOUND_BYTES_MAX)];
    shortened(&bytes.escape_ascii().to_string(), FOUND_BYTES_MAX).into()
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PROXY protocol: ")?;
        match self {
            ProxyHeaderError::Unlisted => {
                f.write_str("expected a connection from a proxy (proxy_protocol.from); found another peer")
            }
            ProxyHeaderError::Missing { found } => {
                write!(f, "expected a header of version 1 or 2 first; found \"{found}\"")
            }
            ProxyHeaderError::TooLong { bytes_max } => {
                write!(f, "expected a header of at most {bytes_max} bytes; found a longer one")
            }
            ProxyHeaderError::Malformed { expected, found } => {
                write!(f, "expected {expected}; found \"{found}\"")
            }
            ProxyHeaderError::Truncated => f.write_str("the connection ended within the header"),
            ProxyHeaderError::Late => {
                f.write_str("expected the whole header in time (first_bytes_ms); it is not complete")
            }
        }
    }
}

impl std::error::Error for ProxyHeaderError {}
