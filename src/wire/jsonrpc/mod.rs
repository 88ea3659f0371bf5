//! JSON-RPC on a plain stream, for server and client: 1.0 as in Go's net/rpc/jsonrpc, and 2.0 with batches.
//!
//! Messages are concatenated objects (or arrays of objects), with or without white space between them.
//! `json_text/frame.rs` finds the end of a message, `members.rs` reads it in place (`known.rs` skips a repeated
//! prefix), and `request.rs` checks it. Arguments and results pass through as bytes; no JSON value is built here.
//!
//! [`JsonRpc`] and [`JsonRpcClient`] are the two sides; start there.

mod answer;
mod batch;
#[cfg(feature = "http")]
mod carried;
mod client;
mod deliver;
mod escape;
mod known;
mod members;
mod outstanding;
mod oversize;
mod request;
mod server;
mod sink;
#[cfg(test)]
mod tests;

use crate::codec_number::Codec;

#[cfg(feature = "http")]
pub(super) use carried::{CarriedCalls, CarriedMessages};
pub use client::JsonRpcClient;
pub use request::ID_BYTES_MAX;
pub use server::JsonRpc;

/// The number of the JSON codec, the only one of this protocol.
const CODEC_JSON: u8 = Codec::Json.number();
/// The maximum length of a message regardless of the limit: a span's start has 31 bits.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;
