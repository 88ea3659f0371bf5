//! One end of a connection, nonblocking, of any kind.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use coreloop_poller::{Interest, Key, Poller};

#[cfg(feature = "agents")]
use super::datagrams::Datagrams;
use super::memory::MemoryStream;
#[cfg(feature = "server")]
use super::proxied::ProxiedTransport;
use super::readiness::ReadinessSender;
#[cfg(feature = "tls-core")]
use super::tls::{Established, Socket, TlsStream};
use crate::config::Limits;
use crate::context::Peer;
#[cfg(feature = "tls-core")]
use crate::tls::PeerEntry;

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
    /// TLS over one of the others.
    #[cfg(feature = "tls-core")]
    Tls(Box<TlsTransport>),
    /// One of the others behind a header of the PROXY protocol.
    #[cfg(feature = "server")]
    Proxied(Box<ProxiedTransport>),
}

/// A TLS session over a [`Transport`].
#[cfg(feature = "tls-core")]
#[derive(Debug)]
pub struct TlsTransport(pub(super) TlsStream<Transport>);

/// What a reactor learns when the handshake of a connection is complete.
#[derive(Debug)]
pub(crate) struct Secured {
    /// The negotiated protocol (ALPN).
    pub(crate) alpn: Option<Vec<u8>>,
    /// The peer, if it has presented a certificate.
    pub(crate) peer: Option<Peer>,
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
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => tls.0.read(into),
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => proxied.read(into),
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
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => tls.0.write_vectored(&[IoSlice::new(bytes)]),
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => proxied.inner.write(bytes),
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
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => tls.0.write_vectored(slices),
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => proxied.inner.write_vectored(slices),
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
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => return tls.0.socket().take_error(),
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => return proxied.inner.take_error(),
        };
        error.ok().flatten().map_or(io::ErrorKind::ConnectionReset, |error| error.kind())
    }

    pub(crate) fn shutdown_write(&mut self) {
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
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => {
                tls.0.shutdown_write();
                Ok(())
            }
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => {
                proxied.inner.shutdown_write();
                Ok(())
            }
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
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => tls.0.socket_mut().register(poller, polled, key, readiness),
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => proxied.inner.register(poller, polled, key, readiness),
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
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => {
                tls.0.socket_mut().deregister(poller);
                Ok(())
            }
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => {
                proxied.inner.deregister(poller);
                Ok(())
            }
        };
    }
}

/// What precedes the first bytes of the connection itself: a header of the PROXY protocol, a handshake of TLS.
impl Transport {
    /// Returns whether there is more to read although the last read did not fill its space.
    #[inline]
    pub(crate) fn holds_input(&self) -> bool {
        match self {
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => tls.0.holds_input(),
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => proxied.is_refused(),
            _ => false,
        }
    }

    /// Returns whether a header or a handshake is in progress.
    #[inline]
    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => tls.0.is_handshaking(),
            #[cfg(feature = "server")]
            Transport::Proxied(_) => true,
            _ => false,
        }
    }

    /// Sets when the header or the handshake must be complete, of a connection that was accepted now.
    pub(crate) fn set_handshake_deadline(&mut self, now: Instant, limits: &Limits) {
        let _ = (now, limits);
        match self {
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => tls.0.set_deadline(now + Duration::from_millis(limits.tls_handshake_ms)),
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => {
                proxied.set_deadline(now + Duration::from_millis(limits.first_bytes_ms));
            }
            _ => {}
        }
    }

    /// Returns when the header or the handshake must be complete, while it is not.
    #[inline]
    pub(crate) fn handshake_deadline(&self) -> Option<Instant> {
        match self {
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => tls.0.deadline(),
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => proxied.deadline(),
            _ => None,
        }
    }

    /// Returns why a connection ends whose header or handshake is not complete in time.
    pub(crate) fn late_handshake(&mut self) -> Option<io::Error> {
        match self {
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => Some(tls.0.late().into_error()),
            #[cfg(feature = "server")]
            Transport::Proxied(proxied) => Some(proxied.late()),
            _ => None,
        }
    }

    /// Once a header is complete: puts what is behind it in the place of this, and returns the peer that it has named, if
    /// it has named one.
    #[cfg(feature = "server")]
    pub(crate) fn take_source(&mut self) -> Option<Peer> {
        match self {
            #[cfg(feature = "tls-core")]
            Transport::Tls(tls) => tls.0.socket_mut().take_source(),
            Transport::Proxied(proxied) => {
                let source = proxied.source()?;
                // A placeholder, which goes with the rest of this.
                let (placeholder, _) = MemoryStream::pair();
                *self = std::mem::replace(&mut proxied.inner, Transport::Memory(Box::new(placeholder)));
                source
            }
            _ => None,
        }
    }

    /// Without listeners there are no headers.
    #[cfg(not(feature = "server"))]
    pub(crate) fn take_source(&mut self) -> Option<Peer> {
        None
    }
}

/// What concerns TLS alone: without it nothing here does anything.
#[cfg(feature = "tls-core")]
impl Transport {
    fn tls(&self) -> Option<&TlsStream<Transport>> {
        match self {
            Transport::Tls(tls) => Some(&tls.0),
            _ => None,
        }
    }

    #[inline]
    fn tls_mut(&mut self) -> Option<&mut TlsStream<Transport>> {
        match self {
            Transport::Tls(tls) => Some(&mut tls.0),
            _ => None,
        }
    }

    /// Returns whether bytes wait for the socket that no write is going to be repeated for.
    #[inline]
    pub(crate) fn holds_output(&self) -> bool {
        self.tls().is_some_and(TlsStream::holds_output)
    }

    /// Writes them.
    #[cold]
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.tls_mut().map_or(Ok(()), TlsStream::flush)
    }

    /// Returns, once, what is known when the handshake is complete. `peer` is the peer as it was known before.
    #[inline]
    pub(crate) fn take_secured(&mut self, peer: Peer) -> Option<Secured> {
        let tls = self.tls_mut()?;
        let Established { alpn } = tls.take_established()?;
        let certified = |entry: &PeerEntry| Peer::Certified(entry.peer(peer.address()));
        Some(Secured { alpn, peer: tls.entry().map(certified) })
    }

    /// Goes on with a client's handshake; `WouldBlock` until it is complete.
    pub(crate) fn drive_handshake(&mut self) -> io::Result<()> {
        self.tls_mut().map_or(Ok(()), TlsStream::drive)
    }

    /// Takes note that the connection is about to be closed.
    pub(crate) fn end(&mut self) {
        if let Some(tls) = self.tls_mut() {
            tls.end();
        }
    }
}

#[cfg(feature = "tls-core")]
impl Socket for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Transport::read(self, into)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Transport::write_vectored(self, slices)
    }

    fn shutdown_write(&mut self) {
        Transport::shutdown_write(self);
    }
}

/// Without TLS.
#[cfg(not(feature = "tls-core"))]
#[allow(clippy::unused_self, reason = "the same functions as with TLS")]
impl Transport {
    #[inline]
    pub(crate) fn holds_output(&self) -> bool {
        false
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    pub(crate) fn take_secured(&mut self, _peer: Peer) -> Option<Secured> {
        None
    }

    pub(crate) fn drive_handshake(&mut self) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn end(&mut self) {}
}
