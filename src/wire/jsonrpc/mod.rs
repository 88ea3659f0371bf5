//! JSON-RPC on a plain stream, for server and client: 1.0 as in Go's net/rpc/jsonrpc, and 2.0 with batches.
//!
//! Messages are concatenated objects (or arrays of objects), with or without white space between them.
//! `json_text/frame.rs` finds the end of a message, `members.rs` reads it in place (`known.rs` skips a repeated
//! prefix), and `request.rs` checks it. Arguments and results pass through as bytes; no JSON value is built here.
//!
//! [`JsonRpc`] and [`JsonRpcClient`] are the two sides; start there.

#[cfg(feature = "server")]
mod answer;
#[cfg(feature = "server")]
mod batch;
#[cfg(all(feature = "http", feature = "server"))]
mod carried;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "server")]
mod deliver;
mod escape;
#[cfg(feature = "server")]
mod known;
mod members;
#[cfg(feature = "server")]
mod outstanding;
#[cfg(feature = "client")]
mod oversize;
#[cfg(feature = "server")]
mod request;
#[cfg(feature = "server")]
mod server;
mod sink;
#[cfg(test)]
mod tests;

use crate::codec_number::Codec;

#[cfg(all(feature = "http", feature = "server"))]
pub(super) use carried::{CarriedCalls, CarriedMessages};
#[cfg(feature = "client")]
pub use client::JsonRpcClient;
#[cfg(feature = "server")]
pub use request::ID_BYTES_MAX;
#[cfg(feature = "server")]
pub use server::JsonRpc;

/// The number of the JSON codec, the only one of this protocol.
const CODEC_JSON: u8 = Codec::Json.number();
/// The maximum length of a message regardless of the limit: a span's start has 31 bits.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;
