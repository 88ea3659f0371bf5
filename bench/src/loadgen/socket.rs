//! The socket of a connection, with or without TLS. The sessions are the library's own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use coreloop::transport::DetachedTls;
use socket2::Socket;

use crate::epoll::Event;

/// A nonblocking socket. Dropping it closes it; a session that is complete ends with close_notify first.
pub struct Stream {
    kind: Kind,
    is_connected: bool,
}

enum Kind {
    Plain(Socket),
    Tls(Box<DetachedTls>),
}

impl Stream {
    /// Takes a socket whose connect was begun.
    pub fn plain(socket: Socket) -> Stream {
        Stream { kind: Kind::Plain(socket), is_connected: false }
    }

    /// Takes a session over such a socket.
    pub fn tls(session: DetachedTls) -> Stream {
        Stream { kind: Kind::Tls(Box::new(session)), is_connected: false }
    }

    fn socket(&self) -> &Socket {
        match &self.kind {
            Kind::Plain(socket) => socket,
            Kind::Tls(session) => session.socket(),
        }
    }

    /// Returns the descriptor to watch.
    pub fn fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }

    /// Handles an event while the connection is being made. Returns whether it can be used now; an error means that it
    /// never can.
    pub fn on_connecting(&mut self, event: Event) -> io::Result<bool> {
        if !self.is_connected {
            if !event.is_writable() && !event.is_ending() {
                return Ok(false);
            }
            self.socket().take_error()?.map_or(Ok(()), Err)?;
            self.is_connected = true;
        }
        match &mut self.kind {
            Kind::Plain(_) => Ok(true),
            Kind::Tls(session) => match session.drive() {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// Reads once.
    #[inline]
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Plain(socket) => socket.read(into),
            Kind::Tls(session) => session.read(into),
        }
    }

    /// Returns whether there is more to read although the last read has not filled its space.
    #[inline]
    pub fn holds_input(&self) -> bool {
        match &self.kind {
            Kind::Plain(_) => false,
            Kind::Tls(session) => session.holds_input(),
        }
    }

    /// Returns whether bytes wait for the socket that no write is going to be repeated for.
    #[inline]
    pub fn holds_output(&self) -> bool {
        match &self.kind {
            Kind::Plain(_) => false,
            Kind::Tls(session) => session.holds_output(),
        }
    }

    /// Writes as much of `out` as the socket takes, and removes it from `out`.
    #[inline]
    pub fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut written = 0;
        while written < out.len() {
            let result = match &mut self.kind {
                Kind::Plain(socket) => socket.write(&out[written..]),
                Kind::Tls(session) => session.write(&out[written..]),
            };
            match result {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if written == out.len() {
            out.clear();
        } else {
            out.drain(..written);
        }
        match &mut self.kind {
            Kind::Tls(session) if out.is_empty() && session.holds_output() => match session.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
                result => result,
            },
            Kind::Plain(_) | Kind::Tls(_) => Ok(()),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Kind::Tls(session) = &mut self.kind
            && self.is_connected
        {
            session.shutdown_write();
        }
    }
}
