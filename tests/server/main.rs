//! Tests of the server on real sockets: calls, limits, slow and hostile peers, drains.
//!
//! Tests that count descriptors or memory count the whole process, so every test here takes [`common::serial`].

#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "json")]
mod age;
mod async_methods;
mod auth;
mod broadcast;
mod cancel_deadline;
mod drain;
mod drain_silent;
mod drain_turns;
mod ends;
mod fairness;
mod flush;
#[cfg(all(feature = "grpc", feature = "json"))]
mod grpc;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_streams;
mod idle;
#[cfg(feature = "json")]
mod in_memory;
#[cfg(feature = "json")]
mod interceptors;
mod large_frames;
mod limits;
mod linger;
#[cfg(feature = "http")]
mod names;
mod native_bad_input;
mod overload;
mod reactors;
mod reply_limit;
#[cfg(all(feature = "http", feature = "jsonrpc"))]
mod route_streams;
#[cfg(all(feature = "http", feature = "jsonrpc"))]
mod routes;
mod silent;
mod slow_peers;
#[cfg(all(feature = "demo", target_os = "linux"))]
mod small;
mod stream_frames;
mod streams;
mod stress;
#[cfg(all(feature = "http", feature = "jsonrpc", feature = "macros"))]
mod values;
mod workers;
