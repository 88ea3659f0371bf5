//! Tests of TLS over real sockets: this crate's own clients, certificates and their reload, bad handshakes, and other programs.

#![allow(missing_docs)]
#![cfg(all(feature = "tls-core", feature = "json", feature = "http"))]

mod alerts;
mod authority;
mod calls;
mod fixture;
mod flood;
mod handshakes;
mod identity;
mod peers;
mod reload;
