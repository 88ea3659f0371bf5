//! A client's session over a socket of the caller, which the load generator polls itself. Behind the feature
//! `bench-internals`; not part of the public interface.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use super::client::TlsClient;
use super::stream::{Socket, TlsStream};
use crate::tls::TlsFailure;

impl Socket for socket2::Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Read::read(self, into)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Write::write_vectored(self, slices)
    }

    fn shutdown_write(&mut self) {
        // A peer that is already gone is not an error here: the following read reports it.
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// A client's session over a socket, which is nonblocking.
#[derive(Debug)]
pub struct DetachedTls(TlsStream<socket2::Socket>);

impl DetachedTls {
    /// Begins a session with a server that is offered these protocols (ALPN). The socket need not be connected yet.
    ///
    /// # Errors
    ///
    /// The host is no name that a certificate could have.
    pub fn new(
        client: &TlsClient,
        socket: socket2::Socket,
        host: Option<&str>,
        alpn: &[&[u8]],
    ) -> io::Result<DetachedTls> {
        client.secure(socket, host, alpn).map(DetachedTls).map_err(TlsFailure::into_error)
    }

    /// Returns the socket.
    pub fn socket(&self) -> &socket2::Socket {
        self.0.socket()
    }

    /// Goes on with the handshake on the connected socket; `WouldBlock` until it is complete.
    ///
    /// # Errors
    ///
    /// Those of the socket, and [`TlsFailure`].
    pub fn drive(&mut self) -> io::Result<()> {
        self.0.drive()
    }

    /// Reads plaintext.
    ///
    /// # Errors
    ///
    /// Those of the socket, and [`TlsFailure`].
    #[inline]
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }

    /// Writes plaintext. A write that would block is repeated with the same bytes, and more behind them.
    ///
    /// # Errors
    ///
    /// Those of the socket, and [`TlsFailure`].
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Returns whether there may be more to read although the last read has not filled its space.
    #[inline]
    pub fn holds_input(&self) -> bool {
        self.0.holds_input()
    }

    /// Returns whether sealed bytes wait for the socket.
    #[inline]
    pub fn holds_output(&self) -> bool {
        self.0.holds_output()
    }

    /// Writes them.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    /// Sends close_notify, as far as the socket takes it, and ends the sending half of the socket.
    pub fn shutdown_write(&mut self) {
        self.0.shutdown_write();
    }
}
