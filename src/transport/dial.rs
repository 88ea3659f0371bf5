//! Outgoing connections.
//!
//! A reactor connects without waiting: [`DialTarget`] is what it connects to, and `begin` starts one attempt, whose
//! end the reactor observes (`reactor/dials.rs`). Names are resolved elsewhere. [`dial`] does all of it on a thread
//! that may wait.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::address::Address;
use super::blocking::{BlockingMemory, BlockingTransport};
use super::memory;
use super::stream::Transport;
use super::tls_dial::TlsDial;
use crate::context::Peer;

/// What a reactor can connect to: an address without a name that would have to be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialTarget {
    /// The addresses of one host, which are tried in turn.
    Tcp(Vec<SocketAddr>),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// The name of an in-memory listener.
    Memory(String),
}

impl DialTarget {
    /// Returns what an address refers to, or `None` if it has a name that must be resolved. `localhost` is both loopback
    /// addresses, without a resolver (RFC 6761, section 6.3).
    pub fn of(address: &Address) -> Option<DialTarget> {
        match address {
            Address::Tcp(text) => {
                if let Ok(addr) = text.parse::<SocketAddr>() {
                    return Some(DialTarget::Tcp(vec![addr]));
                }
                let (host, port) = text.rsplit_once(':')?;
                let port = port.parse::<u16>().ok()?;
                let loopback = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];
                host.eq_ignore_ascii_case("localhost")
                    .then(|| DialTarget::Tcp(loopback.map(|ip| SocketAddr::new(ip, port)).to_vec()))
            }
            Address::Unix(path) => Some(DialTarget::Unix(path.clone())),
            Address::Memory(name) => Some(DialTarget::Memory(name.clone())),
        }
    }
}

/// What is exchanged on a new connection before its protocol begins: one request, and the answer to it.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// What is sent first.
    pub request: &'static [u8],
    /// Judges all bytes that were received so far; the flag says that no more follow. It bounds the answer.
    pub check: fn(&[u8], bool) -> OpeningReply,
    /// The text of the error if there is no answer in time.
    pub late: &'static str,
}

/// The state of the answer to an [`Opening`].
#[derive(Debug)]
pub enum OpeningReply {
    /// The answer is not complete.
    NeedMore,
    /// The protocol begins.
    Done,
    /// The connection cannot be used.
    Failed(io::Error),
}

/// Begins to connect to an address. TCP has TCP_NODELAY set: a request is written when it is complete, so a delay for
/// small writes would gain nothing.
///
/// # Errors
///
/// The system's error, if it is known at once.
pub(crate) fn begin(addr: SocketAddr) -> io::Result<Transport> {
    let stream = mio::net::TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(Transport::Tcp(stream))
}

/// Returns whether a connection that was begun is complete.
///
/// # Errors
///
/// The system's error.
pub(crate) fn outcome(stream: &Transport) -> io::Result<bool> {
    let Transport::Tcp(stream) = stream else { return Ok(true) };
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(peer) if stream.local_addr()? == peer => {
            // A port without a listener in the range of ephemeral ports: the system may choose it for this end, and the
            // socket is then connected to itself (RFC 9293, section 3.5, simultaneous open).
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nothing listens at this address"))
        }
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Connects to a Unix socket or to an in-memory listener, which takes no time: a full backlog is an error.
///
/// # Errors
///
/// The system's error; `ConnectionRefused` if nothing in this process listens at an in-memory address.
pub(crate) fn connect_locally(target: &DialTarget) -> io::Result<(Transport, Peer)> {
    match target {
        DialTarget::Unix(path) => Ok((Transport::Unix(mio::net::UnixStream::connect(path)?), Peer::Unix)),
        DialTarget::Memory(name) => Ok((Transport::Memory(Box::new(memory::connect(name)?)), Peer::Memory)),
        DialTarget::Tcp(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Returns the part of the time until `until` that the next of `others` addresses has: an address that never answers must
/// leave time for the ones after it.
pub(crate) fn share(now: Instant, until: Instant, addresses: usize) -> Duration {
    let addresses = u32::try_from(addresses.max(1)).unwrap_or(u32::MAX);
    until.saturating_duration_since(now) / addresses
}

/// Connects, within `timeout` for all addresses of the name together; `None` applies the system's timeout. Name
/// resolution cannot be interrupted, but its time counts. The connection is blocking.
///
/// # Errors
///
/// The system's error for the last address; `NotFound` if the name has no address; `TimedOut`; `ConnectionRefused` if
/// nothing in this process listens on a `memory:` address.
pub fn dial(address: &Address, timeout: Option<Duration>) -> io::Result<(BlockingTransport, Peer)> {
    dial_secured(address, None, timeout)
}

/// The same, with TLS if `tls` is given; the handshake is a part of it.
///
/// # Errors
///
/// Those of [`dial`], and [`TlsFailure`](crate::TlsFailure).
pub(crate) fn dial_secured(
    address: &Address,
    tls: Option<&TlsDial>,
    timeout: Option<Duration>,
) -> io::Result<(BlockingTransport, Peer)> {
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let (stream, peer) = dial_plain(address, until)?;
    match tls {
        None => Ok((stream, peer)),
        Some(tls) => Ok((stream.secured(tls, until)?, peer)),
    }
}

fn dial_plain(address: &Address, until: Option<Instant>) -> io::Result<(BlockingTransport, Peer)> {
    match address {
        Address::Tcp(text) => {
            let (socket, addr) = dial_tcp(text, until)?;
            Ok((BlockingTransport::Tcp(socket.into()), Peer::Tcp(addr)))
        }
        Address::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // With a full backlog a blocking connect may wait without end (connect(2)).
            socket.set_nonblocking(true)?;
            socket.connect(&SockAddr::unix(path)?)?;
            socket.set_nonblocking(false)?;
            Ok((BlockingTransport::Unix(OwnedFd::from(socket).into()), Peer::Unix))
        }
        Address::Memory(name) => {
            Ok((BlockingTransport::Memory(BlockingMemory::new(memory::connect(name)?)), Peer::Memory))
        }
    }
}

/// Resolves `host:port` by the system's resolver, which may take long.
///
/// # Errors
///
/// The resolver's; `NotFound` if the name has no address.
pub fn resolve(text: &str) -> io::Result<Vec<SocketAddr>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot resolve {text}: {error}"));
    let addresses: Vec<SocketAddr> = text.to_socket_addrs().map_err(named)?.collect();
    if addresses.is_empty() {
        return Err(no_address(text));
    }
    Ok(addresses)
}

/// Returns the error for a name without an address.
pub fn no_address(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the name in {text} has no address"))
}

fn dial_tcp(text: &str, until: Option<Instant>) -> io::Result<(Socket, SocketAddr)> {
    let addresses = resolve(text)?;
    let mut last = no_address(text);
    for (index, addr) in addresses.iter().enumerate() {
        let left = until.map(|until| share(Instant::now(), until, addresses.len() - index));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "not connected within connect_timeout_ms"));
        }
        match dial_one(*addr, left) {
            Ok(socket) => return Ok((socket, *addr)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn dial_one(addr: SocketAddr, timeout: Option<Duration>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    let target = SockAddr::from(addr);
    match timeout {
        Some(timeout) => socket.connect_timeout(&target, timeout)?,
        None => socket.connect(&target)?,
    }
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_have_to_be_resolved() {
        let target = |text: &str| DialTarget::of(&text.parse().unwrap());
        let tcp =
            |texts: &[&str]| Some(DialTarget::Tcp(texts.iter().map(|text| text.parse().unwrap()).collect()));
        assert_eq!(target("127.0.0.1:80"), tcp(&["127.0.0.1:80"]));
        assert_eq!(target("[::1]:80"), tcp(&["[::1]:80"]));
        assert_eq!(target("LocalHost:80"), tcp(&["[::1]:80", "127.0.0.1:80"]));
        assert_eq!(target("orders.example:80"), None);
        assert_eq!(target("unix:/tmp/x"), Some(DialTarget::Unix("/tmp/x".into())));
        assert_eq!(target("memory:x"), Some(DialTarget::Memory("x".to_owned())));
    }

    #[test]
    fn an_address_that_never_answers_leaves_time_for_the_others() {
        let now = Instant::now();
        let until = now + Duration::from_secs(6);
        assert_eq!(share(now, until, 3), Duration::from_secs(2));
        assert_eq!(share(now, until, 1), Duration::from_secs(6));
        assert_eq!(share(until, now, 2), Duration::ZERO);
    }
}
