//! One end of a connection for a thread that may wait: that of a direct client.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::memory::MemoryStream;
#[cfg(feature = "tls-core")]
use super::tls::{Socket, TlsStream};
use super::tls_dial::TlsDial;

/// A connected transport whose operations wait. An operation that exceeds its timeout fails with `WouldBlock` or
/// `TimedOut`.
#[derive(Debug)]
pub enum BlockingTransport {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// In memory, within this process.
    Memory(BlockingMemory),
    /// TLS over one of the others.
    #[cfg(feature = "tls-core")]
    Tls(Box<BlockingTls>),
}

/// A TLS session over a [`BlockingTransport`].
#[cfg(feature = "tls-core")]
#[derive(Debug)]
pub struct BlockingTls(TlsStream<BlockingTransport>);

/// Ends the session, unless a write was left incomplete.
#[cfg(feature = "tls-core")]
impl Drop for BlockingTls {
    fn drop(&mut self) {
        if !self.0.holds_output() {
            self.0.shutdown_write();
        }
    }
}

#[cfg(feature = "tls-core")]
impl Socket for BlockingTransport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Read::read(self, into)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Write::write_vectored(self, slices)
    }

    fn shutdown_write(&mut self) {
        BlockingTransport::shutdown_write(self);
    }
}

impl BlockingTransport {
    /// Sets the timeout of each read and each write; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// The timeout is zero, or the system refuses it.
    pub fn set_timeouts(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            BlockingTransport::Tcp(stream) => {
                stream.set_read_timeout(timeout).and(stream.set_write_timeout(timeout))
            }
            BlockingTransport::Unix(stream) => {
                stream.set_read_timeout(timeout).and(stream.set_write_timeout(timeout))
            }
            BlockingTransport::Memory(memory) => memory.set_timeout(timeout),
            #[cfg(feature = "tls-core")]
            BlockingTransport::Tls(tls) => tls.0.socket_mut().set_timeouts(timeout),
        }
    }

    /// Sets whether operations return `WouldBlock` instead of waiting.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn set_nonblocking(&mut self, is_nonblocking: bool) -> io::Result<()> {
        match self {
            BlockingTransport::Tcp(stream) => stream.set_nonblocking(is_nonblocking),
            BlockingTransport::Unix(stream) => stream.set_nonblocking(is_nonblocking),
            BlockingTransport::Memory(memory) => {
                memory.is_nonblocking = is_nonblocking;
                Ok(())
            }
            #[cfg(feature = "tls-core")]
            BlockingTransport::Tls(tls) => tls.0.socket_mut().set_nonblocking(is_nonblocking),
        }
    }

    /// Ends the sending half: the peer reads what was written before, and then the end. A peer that is gone already
    /// is no error.
    pub fn shutdown_write(&mut self) {
        match self {
            BlockingTransport::Tcp(stream) => drop(stream.shutdown(Shutdown::Write)),
            BlockingTransport::Unix(stream) => drop(stream.shutdown(Shutdown::Write)),
            BlockingTransport::Memory(memory) => memory.stream.shutdown_write(),
            #[cfg(feature = "tls-core")]
            BlockingTransport::Tls(tls) => tls.0.shutdown_write(),
        }
    }

    /// Adds TLS to a connection, and waits until the handshake is complete.
    ///
    /// # Errors
    ///
    /// [`TlsFailure`](crate::TlsFailure), `TimedOut`, and the errors of the socket.
    pub(crate) fn secured(self, tls: &TlsDial, until: Option<Instant>) -> io::Result<BlockingTransport> {
        #[cfg(feature = "tls-core")]
        {
            let mut stream = tls.begin(self)?;
            loop {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| left.is_zero()) {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, TLS_LATE));
                }
                stream.socket_mut().set_timeouts(left)?;
                match stream.drive() {
                    Ok(()) => break,
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                        _ => return Err(error),
                    },
                }
            }
            stream.socket_mut().set_timeouts(None)?;
            Ok(BlockingTransport::Tls(Box::new(BlockingTls(stream))))
        }
        #[cfg(not(feature = "tls-core"))]
        {
            let _ = until;
            tls.unreachable(self)
        }
    }
}

impl Read for BlockingTransport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            BlockingTransport::Tcp(stream) => stream.read(into),
            BlockingTransport::Unix(stream) => stream.read(into),
            BlockingTransport::Memory(memory) => memory.read(into),
            #[cfg(feature = "tls-core")]
            BlockingTransport::Tls(tls) => tls.0.read(into),
        }
    }
}

impl Write for BlockingTransport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            BlockingTransport::Tcp(stream) => stream.write(bytes),
            BlockingTransport::Unix(stream) => stream.write(bytes),
            BlockingTransport::Memory(memory) => memory.write_vectored(&[IoSlice::new(bytes)]),
            #[cfg(feature = "tls-core")]
            BlockingTransport::Tls(tls) => tls.0.write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            BlockingTransport::Tcp(stream) => stream.write_vectored(slices),
            BlockingTransport::Unix(stream) => stream.write_vectored(slices),
            BlockingTransport::Memory(memory) => memory.write_vectored(slices),
            #[cfg(feature = "tls-core")]
            BlockingTransport::Tls(tls) => tls.0.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            BlockingTransport::Tcp(_) | BlockingTransport::Unix(_) | BlockingTransport::Memory(_) => Ok(()),
            #[cfg(feature = "tls-core")]
            BlockingTransport::Tls(tls) => tls.0.flush(),
        }
    }
}

/// The text of the error of a handshake that takes too long.
#[cfg(feature = "tls-core")]
const TLS_LATE: &str = "the TLS handshake was not complete within connect_timeout_ms";

/// An end of an in-memory connection whose operations wait.
#[derive(Debug)]
pub struct BlockingMemory {
    stream: MemoryStream,
    timeout: Option<Duration>,
    is_nonblocking: bool,
}

impl BlockingMemory {
    /// Wraps an end that no reactor drives.
    pub fn new(stream: MemoryStream) -> BlockingMemory {
        BlockingMemory { stream, timeout: None, is_nonblocking: false }
    }

    fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "expected a timeout above zero; found zero",
            ));
        }
        self.timeout = timeout;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wait_unless_ready(MemoryStream::wait_readable);
        self.stream.read(into)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.wait_unless_ready(MemoryStream::wait_writable);
        self.stream.write_vectored(slices)
    }

    /// Waits for at most the timeout; the operation that follows shows whether that was enough.
    fn wait_unless_ready(&self, wait: impl FnOnce(&MemoryStream, Option<Instant>)) {
        if !self.is_nonblocking {
            wait(&self.stream, self.timeout.and_then(|timeout| Instant::now().checked_add(timeout)));
        }
    }
}
