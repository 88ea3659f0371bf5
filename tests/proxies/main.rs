//! Tests of the server behind proxies: the PROXY protocol, byte by byte and from HAProxy, nginx and curl.

#![allow(missing_docs)]
#![cfg(all(feature = "json", feature = "http", feature = "jsonrpc", feature = "netrpc"))]

#[cfg(feature = "tls-core")]
#[allow(dead_code, reason = "the tests of TLS use more of it")]
#[path = "../tls/authority.rs"]
mod authority;
#[path = "../common/mod.rs"]
mod common;
mod forwarded;
mod header;
mod programs;
mod refused;
mod served;
mod streams;
#[cfg(feature = "tls-core")]
mod tls;
