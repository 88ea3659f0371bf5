//! Sockets: addresses, listeners, streams. TCP and Unix look alike from here on.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use coreloop_poller::{Interest, Key, Poller};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::context::Peer;

/// Connections that may wait to be accepted; the kernel cuts it to its own limit (`net.core.somaxconn`).
pub(super) const BACKLOG: i32 = 4096;

/// Where to listen or to connect: `host:port`, or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host, by name or number, and a port.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// An address that is neither `host:port` nor `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    /// What came.
    pub text: String,
}

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

enum ListenerKind {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener, PathBuf),
}

/// A socket that listens. A Unix socket's file is removed when it is dropped.
pub struct Listener {
    kind: ListenerKind,
}

impl Listener {
    /// Listens at the address. With `reuse_port`, several listeners share a TCP port and the kernel spreads the
    /// connections.
    ///
    /// A Unix socket's file that nobody listens on any more is replaced; any other file is left alone.
    ///
    /// # Errors
    ///
    /// What the system says, with the address.
    pub fn bind(address: &Address, reuse_port: bool) -> io::Result<Listener> {
        let kind = match address {
            Address::Tcp(text) => bind_tcp(text, reuse_port).map(ListenerKind::Tcp),
            Address::Unix(path) => bind_unix(path).map(|socket| ListenerKind::Unix(socket, path.clone())),
        };
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        Ok(Listener { kind: kind.map_err(named)? })
    }

    /// The address with the real port.
    pub fn local(&self) -> io::Result<Address> {
        match &self.kind {
            ListenerKind::Tcp(socket) => Ok(Address::Tcp(socket.local_addr()?.to_string())),
            ListenerKind::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    /// Accepts one connection.
    pub(super) fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.kind {
            ListenerKind::Tcp(socket) => {
                let (stream, addr) = socket.accept()?;
                // A reply is written when it is complete; waiting for more to put with it only adds delay.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Peer::Tcp(addr)))
            }
            ListenerKind::Unix(socket, _) => {
                let (stream, _) = socket.accept()?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }

    pub(super) fn register(&mut self, poller: &mut Poller, key: Key) -> io::Result<()> {
        match &mut self.kind {
            ListenerKind::Tcp(socket) => poller.register(socket, key, Interest::READABLE),
            ListenerKind::Unix(socket, _) => poller.register(socket, key, Interest::READABLE),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenerKind::Unix(_, path) = &self.kind {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_tcp(text: &str, reuse_port: bool) -> io::Result<mio::net::TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in text.to_socket_addrs()? {
        match bind_tcp_addr(addr, reuse_port) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_tcp_addr(addr: SocketAddr, reuse_port: bool) -> io::Result<mio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(BACKLOG)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

fn bind_unix(path: &Path) -> io::Result<mio::net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let addr = SockAddr::unix(path)?;
    match socket.bind(&addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
            std::fs::remove_file(path)?;
            socket.bind(&addr)?;
        }
        bound => bound?,
    }
    socket.listen(BACKLOG)?;
    let std: std::os::unix::net::UnixListener = std::os::fd::OwnedFd::from(socket).into();
    Ok(mio::net::UnixListener::from_std(std))
}

/// A socket's file behind which nobody listens.
fn is_abandoned(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && std::os::unix::net::UnixStream::connect(path).err().is_some_and(refused)
}

/// A connected nonblocking socket.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(mio::net::TcpStream),
    /// Unix.
    Unix(mio::net::UnixStream),
}

impl Stream {
    #[inline]
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }

    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    #[inline]
    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write_vectored(slices),
            Stream::Unix(stream) => stream.write_vectored(slices),
        }
    }

    /// Why the socket failed.
    pub(super) fn take_error(&self) -> io::ErrorKind {
        let error = match self {
            Stream::Tcp(stream) => stream.take_error(),
            Stream::Unix(stream) => stream.take_error(),
        };
        error.ok().flatten().map_or(io::ErrorKind::ConnectionReset, |error| error.kind())
    }

    pub(super) fn shutdown_write(&self) {
        // A peer that is gone already is not an error here: the read that follows says so.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    pub(super) fn register(&mut self, poller: &mut Poller, key: Key) -> io::Result<()> {
        // Once, for both: edge-triggered readiness costs nothing while nobody asks for it.
        match self {
            Stream::Tcp(stream) => poller.register(stream, key, Interest::BOTH),
            Stream::Unix(stream) => poller.register(stream, key, Interest::BOTH),
        }
    }

    pub(super) fn deregister(&mut self, poller: &mut Poller) {
        let _ = match self {
            Stream::Tcp(stream) => poller.deregister(stream),
            Stream::Unix(stream) => poller.deregister(stream),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_said_back() {
        for text in ["127.0.0.1:6550", "[::1]:0", "localhost:80", "unix:/tmp/x.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "6550", ":6550", "host:", "host:65536", "host:+5", "unix:"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError { text: text.to_owned() }));
        }
    }

    #[test]
    fn an_abandoned_socket_file_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address, false).unwrap();
        assert_eq!(Listener::bind(&address, false).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "not a socket").unwrap();
        assert!(Listener::bind(&address, false).is_err());
        assert!(path.exists(), "somebody's file is left alone");
    }
}
