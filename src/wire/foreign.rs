//! Recognizes another protocol than the expected one by the first two bytes that a client receives.

use std::fmt;

#[cfg(feature = "client")]
use super::Scheme;

/// A protocol that is recognized by a server's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignProtocol {
    /// coreloop's own frames.
    Native,
    /// HTTP/1.x.
    Http,
    /// A JSON text, as in JSON-RPC.
    Json,
    /// A TLS record.
    Tls,
    /// SSH.
    Ssh,
    /// The Redis protocol, with an error.
    Redis,
    /// An SMTP or FTP greeting.
    Greeting,
}

impl ForeignProtocol {
    /// Returns the protocol whose servers start with these two bytes; `None` if they match no known protocol.
    ///
    /// ```
    /// use coreloop::protocol::ForeignProtocol;
    /// assert_eq!(ForeignProtocol::of(*b"HT"), Some(ForeignProtocol::Http));
    /// assert_eq!(ForeignProtocol::of(*b"??"), None);
    /// ```
    pub fn of(first: [u8; 2]) -> Option<ForeignProtocol> {
        match first {
            super::native::MAGIC => Some(ForeignProtocol::Native),
            [b'H', b'T'] => Some(ForeignProtocol::Http),
            [b'{' | b'[', _] => Some(ForeignProtocol::Json),
            // An alert or a handshake record.
            [0x15 | 0x16, 0x03] => Some(ForeignProtocol::Tls),
            [b'S', b'S'] => Some(ForeignProtocol::Ssh),
            [b'-', b'A'..=b'Z'] => Some(ForeignProtocol::Redis),
            [b'2', b'2'] => Some(ForeignProtocol::Greeting),
            _ => None,
        }
    }

    /// Whether one of these protocols may start with this byte.
    #[cfg(feature = "jsonrpc")]
    pub(super) fn may_begin(byte: u8) -> bool {
        matches!(byte, 0x15 | 0x16 | 0x19 | b'H' | b'S' | b'-' | b'2')
    }

    /// Returns the protocol that `input` starts with, if it is recognized and not one of the expected ones.
    #[cfg(any(feature = "http", feature = "jsonrpc", feature = "netrpc"))]
    pub(super) fn at_start(input: &[u8], expected: &[ForeignProtocol]) -> Option<ForeignProtocol> {
        let found = ForeignProtocol::of(*input.first_chunk()?)?;
        (!expected.contains(&found)).then_some(found)
    }

    /// Returns the address scheme for this protocol, if this build supports it.
    #[cfg(feature = "client")]
    pub fn scheme(self) -> Option<Scheme> {
        match self {
            ForeignProtocol::Native => Some(Scheme::Native),
            #[cfg(feature = "http")]
            ForeignProtocol::Http => Some(Scheme::Http),
            #[cfg(feature = "jsonrpc")]
            ForeignProtocol::Json => Some(Scheme::JsonRpc),
            _ => None,
        }
    }
}

impl fmt::Display for ForeignProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ForeignProtocol::Native => "coreloop's native frames",
            ForeignProtocol::Http => "HTTP/1.x",
            ForeignProtocol::Json => "JSON",
            ForeignProtocol::Tls => "TLS",
            ForeignProtocol::Ssh => "SSH",
            ForeignProtocol::Redis => "the Redis protocol",
            ForeignProtocol::Greeting => "a greeting of SMTP or FTP",
        })
    }
}
