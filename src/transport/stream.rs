//! One end of a connection, nonblocking, of any kind.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use coreloop_poller::{Interest, Key, Poller};

#[cfg(feature = "agents")]
use super::datagrams::Datagrams;
use super::memory::MemoryStream;
use super::readiness::ReadinessSender;

/// A connected nonblocking transport.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Tcp(mio::net::TcpStream),
    /// A Unix socket.
    Unix(mio::net::UnixStream),
    /// In memory, within this process.
    Memory(Box<MemoryStream>),
    /// UDP with one peer, as framed datagrams.
    #[cfg(feature = "agents")]
    Udp(Box<Datagrams>),
}

impl Transport {
    #[inline]
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.read(into),
            Transport::Unix(stream) => stream.read(into),
            Transport::Memory(stream) => stream.read(into),
            #[cfg(feature = "agents")]
            Transport::Udp(datagrams) => datagrams.read(into),
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.write(bytes),
            Transport::Unix(stream) => stream.write(bytes),
            Transport::Memory(stream) => stream.write_vectored(&[IoSlice::new(bytes)]),
            #[cfg(feature = "agents")]
            Transport::Udp(datagrams) => datagrams.write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    #[inline]
    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.write_vectored(slices),
            Transport::Unix(stream) => stream.write_vectored(slices),
            Transport::Memory(stream) => stream.write_vectored(slices),
            #[cfg(feature = "agents")]
            Transport::Udp(datagrams) => datagrams.write_vectored(slices),
        }
    }

    /// Returns the pending error of the transport.
    pub(crate) fn take_error(&self) -> io::ErrorKind {
        let error = match self {
            Transport::Tcp(stream) => stream.take_error(),
            Transport::Unix(stream) => stream.take_error(),
            Transport::Memory(_) => Ok(None),
            #[cfg(feature = "agents")]
            Transport::Udp(datagrams) => datagrams.socket.take_error(),
        };
        error.ok().flatten().map_or(io::ErrorKind::ConnectionReset, |error| error.kind())
    }

    pub(crate) fn shutdown_write(&self) {
        // A peer that is already gone is not an error here: the following read reports it.
        let _ = match self {
            Transport::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Transport::Unix(stream) => stream.shutdown(Shutdown::Write),
            Transport::Memory(stream) => {
                stream.shutdown_write();
                Ok(())
            }
            #[cfg(feature = "agents")]
            Transport::Udp(_) => Ok(()),
        };
    }

    /// Reports readiness from now on, including what is ready already: through the poller under the key `polled`, or
    /// through `readiness` under `key`.
    pub(crate) fn register(
        &mut self,
        poller: &mut Poller,
        polled: Key,
        key: Key,
        readiness: &ReadinessSender,
    ) -> io::Result<()> {
        // Registered once, for both directions: edge-triggered readiness costs nothing while it is not used.
        match self {
            Transport::Tcp(stream) => poller.register(stream, polled, Interest::BOTH),
            Transport::Unix(stream) => poller.register(stream, polled, Interest::BOTH),
            Transport::Memory(stream) => {
                stream.register(key, readiness);
                Ok(())
            }
            #[cfg(feature = "agents")]
            Transport::Udp(datagrams) => poller.register(&mut datagrams.socket, polled, Interest::BOTH),
        }
    }

    pub(crate) fn deregister(&mut self, poller: &mut Poller) {
        let _ = match self {
            Transport::Tcp(stream) => poller.deregister(stream),
            Transport::Unix(stream) => poller.deregister(stream),
            Transport::Memory(stream) => {
                stream.deregister();
                Ok(())
            }
            #[cfg(feature = "agents")]
            Transport::Udp(datagrams) => poller.deregister(&mut datagrams.socket),
        };
    }
}
