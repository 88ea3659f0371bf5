//! Outgoing connections: names are resolved and connections are awaited here, on the caller's thread.
//!
//! A reactor must not block on either, so a client dials on a thread that may block and hands the socket over.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::address::Address;
use super::blocking::{BlockingMemory, BlockingTransport};
use super::memory;
use crate::context::Peer;

/// Connects, within `timeout` for all addresses of the name together; `None` applies the system's timeout. Name
/// resolution cannot be interrupted, but its time counts.
///
/// The connection is blocking. TCP has TCP_NODELAY set: a request is written when it is complete, so a delay for small
/// writes would gain nothing.
///
/// # Errors
///
/// The system's error for the last address; `NotFound` if the name has no address; `TimedOut`; `ConnectionRefused` if
/// nothing in this process listens on a `memory:` address.
pub fn dial(address: &Address, timeout: Option<Duration>) -> io::Result<(BlockingTransport, Peer)> {
    match address {
        Address::Tcp(text) => {
            let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
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

fn dial_tcp(text: &str, until: Option<Instant>) -> io::Result<(Socket, SocketAddr)> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot resolve {text}: {error}"));
    let addresses: Vec<SocketAddr> = text.to_socket_addrs().map_err(named)?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("the name in {text} has no address"));
    for (index, addr) in addresses.iter().enumerate() {
        let left = match until {
            None => None,
            Some(until) => {
                // An address that never answers must leave time for the ones after it.
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
