//! The peer of a connection: its address, and the certificate that it has presented.

use std::fmt;
use std::net::SocketAddr;
#[cfg(feature = "tls-core")]
use std::sync::Arc;

#[cfg(feature = "tls-core")]
use crate::tls::{CertifiedPeer, PeerCertificate};

/// The peer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// A TCP connection from that address.
    Tcp(SocketAddr),
    /// A Unix socket; its peers have no address.
    Unix,
    /// The same process, over an in-memory connection.
    Memory,
    /// A peer that has presented a certificate over TLS.
    #[cfg(feature = "tls-core")]
    Certified(CertifiedPeer),
}

impl Peer {
    /// Returns the peer's address; `None` over a Unix socket or in memory.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Peer::Tcp(address) => Some(*address),
            Peer::Unix | Peer::Memory => None,
            #[cfg(feature = "tls-core")]
            Peer::Certified(peer) => peer.address(),
        }
    }

    /// Returns the same peer at another address: with its certificate, if it has presented one.
    #[cfg(feature = "server")]
    pub(crate) fn at(self, address: SocketAddr) -> Peer {
        match self {
            Peer::Tcp(_) | Peer::Unix | Peer::Memory => Peer::Tcp(address),
            #[cfg(feature = "tls-core")]
            Peer::Certified(peer) => Peer::Certified(peer.at(address)),
        }
    }

    /// Returns the certificate that the peer has presented, which was verified. It is known until the connection closes;
    /// `None` after that, and if there is none.
    #[cfg(feature = "tls-core")]
    pub fn certificate(&self) -> Option<Arc<PeerCertificate>> {
        match self {
            Peer::Certified(peer) => peer.certificate(),
            Peer::Tcp(_) | Peer::Unix | Peer::Memory => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(addr) => addr.fmt(f),
            Peer::Unix => f.write_str("unix"),
            Peer::Memory => f.write_str("memory"),
            #[cfg(feature = "tls-core")]
            Peer::Certified(peer) => peer.fmt(f),
        }
    }
}
