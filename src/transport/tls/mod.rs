//! TLS, below the connections and their protocols.
//!
//! [`engine`] is one session without I/O, [`stream`] a session with its socket, for a reactor and for a thread that may wait.
//! [`server`] and [`client`] hold what the sessions of a listener and of a client share: certificates, roots, tickets.
//! Certificates are read and checked by `files.rs`, off the reactors.

mod client;
#[cfg(all(feature = "client", feature = "bench-internals"))]
mod detached;
mod engine;
mod files;
#[cfg(all(feature = "server", feature = "bench-internals"))]
#[doc(hidden)]
pub mod fuzzed;
#[cfg(feature = "server")]
mod gate;
#[cfg(all(feature = "server", any(test, feature = "bench-internals")))]
mod pipe;
mod provider;
#[cfg(feature = "server")]
mod server;
mod stream;
#[cfg(feature = "server")]
mod tickets;

pub use client::{ClientTls, ClientTlsError, TlsClient};
#[cfg(all(feature = "client", feature = "bench-internals"))]
pub use detached::DetachedTls;
pub use files::{TlsFileError, TlsFileFault};
#[cfg(feature = "server")]
pub(crate) use server::{TlsAcceptor, TlsServer};
pub(crate) use stream::{Established, Socket, TlsStream};

#[cfg(all(test, feature = "server"))]
mod tests;
