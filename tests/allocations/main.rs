//! Tests of what calls allocate in the steady state.
//!
//! The counters cover the whole process, so every test here takes [`counting::serial`].

#![allow(missing_docs)]

#[path = "../common/counting.rs"]
mod counting;
#[cfg(any(feature = "http", feature = "jsonrpc", feature = "netrpc"))]
#[path = "../common/one_method.rs"]
mod one_method;

mod client;
mod codecs;
#[cfg(feature = "grpc")]
mod grpc_idle;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "jsonrpc")]
mod jsonrpc;
#[cfg(feature = "netrpc")]
mod netrpc;
#[cfg(feature = "netrpc")]
mod netrpc_idle;
mod server;
mod streams;
#[cfg(feature = "tls-core")]
mod tls_idle;
