//! Addresses: what a listener is bound to, and what a client dials.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on or to connect to: `host:port`, `unix:PATH`, or `memory:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host, by name or number, and a port.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// The name of an in-memory listener, within this process. A listener with the name `0` is given an unused one.
    Memory(String),
}

/// An address that is none of `host:port`, `unix:PATH` and `memory:NAME`.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressError {
    /// The rejected text.
    pub text: String,
}

crate::error_text::debug_as_text!(AddressError);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an address host:port, unix:PATH or memory:NAME; found {:?}", self.text)
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let broken = || AddressError { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(broken()) } else { Ok(Address::Unix(PathBuf::from(path))) };
        }
        if let Some(name) = text.strip_prefix("memory:") {
            return if name.is_empty() { Err(broken()) } else { Ok(Address::Memory(name.to_owned())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(broken)?;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        if host.is_empty() || !is_port {
            return Err(broken());
        }
        Ok(Address::Tcp(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(text) => f.write_str(text),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Memory(name) => write!(f, "memory:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_printed() {
        for text in ["127.0.0.1:6550", "[::1]:0", "localhost:80", "unix:/tmp/x.sock", "memory:orders"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "6550", ":6550", "host:", "host:65536", "host:+5", "unix:", "memory:"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError { text: text.to_owned() }));
        }
    }
}
