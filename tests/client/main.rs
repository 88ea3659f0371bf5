//! Tests of the client against real servers and against peers that misbehave.

#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod bad_days;
mod bad_input;
mod bounds;
mod calls;
mod driving;
mod dynamic;
mod fleet;
mod futures;
#[cfg(all(feature = "netrpc", feature = "http"))]
mod gob_http;
mod hints;
#[cfg(all(feature = "http", feature = "jsonrpc", feature = "netrpc"))]
mod http_pool;
#[cfg(feature = "http")]
mod http_proxies;
#[cfg(all(feature = "http", feature = "jsonrpc"))]
mod interceptors;
mod limits;
mod metadata;
mod nested_calls;
mod options;
mod response;
mod stream_ends;
mod streams;
mod streams_raw;
mod trailers;
#[cfg(all(feature = "http", feature = "jsonrpc", feature = "netrpc"))]
mod wrong_peer;
