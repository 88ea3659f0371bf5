//! Sockets: addresses and streams. Hides the difference between TCP and Unix. Listening sockets are in `listener.rs`.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;
use std::str::FromStr;

use coreloop_poller::{Interest, Key, Poller};

/// An address to listen on or to connect to: `host:port`, or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host, by name or number, and a port.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// An address that is neither `host:port` nor `unix:PATH`.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressError {
    /// The rejected text.
    pub text: String,
}

crate::error_text::debug_as_text!(AddressError);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an address host:port or unix:PATH; found {:?}", self.text)
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
        }
    }
}

/// A connected nonblocking socket.
#[derive(Debug)]
pub enum NetStream {
    /// TCP.
    Tcp(mio::net::TcpStream),
    /// Unix.
    Unix(mio::net::UnixStream),
}

impl NetStream {
    #[inline]
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            NetStream::Tcp(stream) => stream.read(into),
            NetStream::Unix(stream) => stream.read(into),
        }
    }

    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            NetStream::Tcp(stream) => stream.write(bytes),
            NetStream::Unix(stream) => stream.write(bytes),
        }
    }

    #[inline]
    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            NetStream::Tcp(stream) => stream.write_vectored(slices),
            NetStream::Unix(stream) => stream.write_vectored(slices),
        }
    }

    /// Returns the pending error of the socket.
    pub(super) fn take_error(&self) -> io::ErrorKind {
        let error = match self {
            NetStream::Tcp(stream) => stream.take_error(),
            NetStream::Unix(stream) => stream.take_error(),
        };
        error.ok().flatten().map_or(io::ErrorKind::ConnectionReset, |error| error.kind())
    }

    pub(super) fn shutdown_write(&self) {
        // A peer that is already gone is not an error here: the following read reports it.
        let _ = match self {
            NetStream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            NetStream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    pub(super) fn register(&mut self, poller: &mut Poller, key: Key) -> io::Result<()> {
        // Registered once, for both directions: edge-triggered readiness costs nothing while it is not used.
        match self {
            NetStream::Tcp(stream) => poller.register(stream, key, Interest::BOTH),
            NetStream::Unix(stream) => poller.register(stream, key, Interest::BOTH),
        }
    }

    pub(super) fn deregister(&mut self, poller: &mut Poller) {
        let _ = match self {
            NetStream::Tcp(stream) => poller.deregister(stream),
            NetStream::Unix(stream) => poller.deregister(stream),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_printed() {
        for text in ["127.0.0.1:6550", "[::1]:0", "localhost:80", "unix:/tmp/x.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "6550", ":6550", "host:", "host:65536", "host:+5", "unix:"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError { text: text.to_owned() }));
        }
    }
}
