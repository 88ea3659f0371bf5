//! The table of the peers that have presented a certificate, one entry for each of their connections.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

use super::PeerCertificate;

static PEERS: Mutex<PeerTable> = Mutex::new(PeerTable { entries: Slab::new(), generation: 0 });

struct PeerTable {
    entries: Slab<(u32, Arc<PeerCertificate>)>,
    generation: u32,
}

fn table() -> MutexGuard<'static, PeerTable> {
    PEERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A peer that has presented a certificate, which was verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertifiedPeer {
    // Not a `SocketAddr`, so that a `Peer` is not larger for it.
    ip: Option<IpAddr>,
    port: u16,
    slot: u32,
    generation: u32,
}

impl CertifiedPeer {
    /// Returns the peer's address; `None` over a Unix socket or in memory.
    pub fn address(&self) -> Option<SocketAddr> {
        self.ip.map(|ip| SocketAddr::new(ip, self.port))
    }

    /// Returns the same certificate at another address.
    #[cfg(feature = "server")]
    pub(crate) fn at(self, address: SocketAddr) -> CertifiedPeer {
        CertifiedPeer { ip: Some(address.ip()), port: address.port(), ..self }
    }

    /// Returns the certificate; `None` once the connection has closed.
    pub fn certificate(&self) -> Option<Arc<PeerCertificate>> {
        let table = table();
        let (generation, certificate) = table.entries.get(self.slot as usize)?;
        (*generation == self.generation).then(|| certificate.clone())
    }
}

impl fmt::Debug for CertifiedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedPeer").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl fmt::Display for CertifiedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => address.fmt(f),
            None => f.write_str("local"),
        }
    }
}

/// Keeps the certificate of a connection in the table, until the connection closes.
#[derive(Debug)]
pub(crate) struct PeerEntry {
    slot: u32,
    generation: u32,
}

impl PeerEntry {
    pub(crate) fn new(certificate: PeerCertificate) -> PeerEntry {
        let mut table = table();
        table.generation = table.generation.wrapping_add(1);
        let generation = table.generation;
        let slot = table.entries.insert((generation, Arc::new(certificate)));
        PeerEntry { slot: slot as u32, generation }
    }

    pub(crate) fn peer(&self, address: Option<SocketAddr>) -> CertifiedPeer {
        CertifiedPeer {
            ip: address.map(|address| address.ip()),
            port: address.map_or(0, |address| address.port()),
            slot: self.slot,
            generation: self.generation,
        }
    }
}

impl Drop for PeerEntry {
    fn drop(&mut self) {
        let entry = table().entries.try_remove(self.slot as usize);
        // Freed without the lock.
        drop(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_known_while_its_connection_is_open() {
        let entry = PeerEntry::new(PeerCertificate::new(b"one"));
        let peer = entry.peer(Some(([127, 0, 0, 1], 7).into()));
        assert_eq!(peer.certificate().unwrap().der(), b"one");
        assert_eq!(peer.to_string(), "127.0.0.1:7");
        #[cfg(feature = "server")]
        {
            let forwarded = peer.at(([192, 0, 2, 1], 8).into());
            assert_eq!(forwarded.to_string(), "192.0.2.1:8");
            assert_eq!(forwarded.certificate().unwrap().der(), b"one");
        }
        drop(entry);
        let other = PeerEntry::new(PeerCertificate::new(b"two"));
        assert!(
            peer.certificate().is_none(),
            "the slot is used again, and the peer is not mistaken for another"
        );
        assert_eq!(other.peer(None).certificate().unwrap().der(), b"two");
    }

    #[test]
    fn a_peer_is_as_small_as_without_certificates() {
        assert_eq!(size_of::<crate::Peer>(), size_of::<SocketAddr>());
    }
}
