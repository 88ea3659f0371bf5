//! Connecting to others: names are looked up and connections awaited here, on the caller's thread.
//!
//! A reactor must not do either, so a client dials on a thread that may wait and hands the socket over.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::socket::{Address, NetStream};
use crate::context::Peer;

/// Connects, and waits for that as long as `timeout` allows, all addresses of the name together; `None` is as long as
/// the system does. Looking the name up cannot be cut short, but what it took counts.
///
/// The socket is a blocking one without delay for small writes (TCP_NODELAY): a request is written when it is complete,
/// and there is nothing to wait for.
///
/// # Errors
///
/// What the system says of the last address; `NotFound` if the name has none; `TimedOut`.
pub fn dial(address: &Address, timeout: Option<Duration>) -> io::Result<(Socket, Peer)> {
    match address {
        Address::Tcp(text) => dial_tcp(text, timeout.and_then(|timeout| Instant::now().checked_add(timeout))),
        Address::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // A full backlog makes a blocking connect wait without end (connect(2)).
            socket.set_nonblocking(true)?;
            socket.connect(&SockAddr::unix(path)?)?;
            socket.set_nonblocking(false)?;
            Ok((socket, Peer::Unix))
        }
    }
}

fn dial_tcp(text: &str, until: Option<Instant>) -> io::Result<(Socket, Peer)> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot resolve {text}: {error}"));
    let addresses: Vec<SocketAddr> = text.to_socket_addrs().map_err(named)?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("the name in {text} has no address"));
    for (index, addr) in addresses.iter().enumerate() {
        let left = match until {
            None => None,
            Some(until) => {
                // One that never answers must leave time for those after it.
                let others = (addresses.len() - index) as u32;
                let left = until.saturating_duration_since(Instant::now()) / others;
                if left.is_zero() {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "not connected within connect_timeout_ms",
                    ));
                }
                Some(left)
            }
        };
        match dial_one(*addr, left) {
            Ok(socket) => return Ok((socket, Peer::Tcp(*addr))),
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

impl NetStream {
    /// A connected socket, for a reactor to drive.
    ///
    /// # Errors
    ///
    /// It cannot be made nonblocking.
    pub fn from_socket(socket: Socket, peer: Peer) -> io::Result<NetStream> {
        socket.set_nonblocking(true)?;
        Ok(match peer {
            Peer::Tcp(_) => NetStream::Tcp(mio::net::TcpStream::from_std(socket.into())),
            Peer::Unix => {
                let std: std::os::unix::net::UnixStream = std::os::fd::OwnedFd::from(socket).into();
                NetStream::Unix(mio::net::UnixStream::from_std(std))
            }
        })
    }
}
