//! JSON-RPC on a plain stream, both ends: 1.0 as Go's net/rpc/jsonrpc speaks it, and 2.0 with batches.
//!
//! Messages are objects (or arrays of them) one behind the other, with or without white space between them. The end
//! of one is found in `json_text/frame.rs`, what it says is read in place in `members.rs` (and not again where `known.rs` knows it),
//! and judged in `request.rs`. The argument goes up and the result goes out as the bytes that they are: no JSON value is
//! ever built here.
//! [`JsonRpc`] and [`JsonRpcClient`] are the two ends; start there.

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

#[cfg(feature = "http")]
pub(super) use carried::{CarriedCalls, CarriedMessages};
pub use client::JsonRpcClient;
pub use request::ID_BYTES_MAX;
pub use server::JsonRpc;

/// The number of the JSON codec; no other is spoken here.
const CODEC_JSON: u8 = 2;
/// The longest message whatever the limit says: a span begins within 31 bits.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;
