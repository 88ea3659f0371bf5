//! What several layers must know of TLS: why a session failed, and the certificate of a peer.
//!
//! Nothing here opens or seals a record; that is in `transport/tls`. The certificates and the addresses of peers are in
//! a table of the process, so that a [`Peer`](crate::Peer) stays a small value that is copied for each call.

#[cfg(feature = "tls-core")]
mod certificate;
#[cfg(feature = "tls-core")]
mod der;
mod failure;
#[cfg(feature = "tls-core")]
mod peers;
mod snapshot;

#[cfg(feature = "tls-core")]
pub use certificate::PeerCertificate;
#[cfg(feature = "tls-core")]
pub(crate) use failure::TlsAlert;
pub use failure::{TlsFailure, TlsFailureKind};
#[cfg(feature = "tls-core")]
pub use peers::CertifiedPeer;
#[cfg(feature = "tls-core")]
pub(crate) use peers::PeerEntry;
pub use snapshot::TlsSnapshot;
