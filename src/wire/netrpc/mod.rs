//! Go's net/rpc over gob, for server and client: the protocol of `rpc.Dial` and `rpc.ServeConn` in Go's standard
//! library.
//!
//! Each direction is a stream of gob messages: for each call a header and a body, with the definitions of types
//! before the first value that needs them. `head.rs` has the headers, `receive.rs` extracts self-contained bodies
//! from a stream, `send.rs` writes such bodies to a stream, `connect.rs` connects through HTTP. [`NetRpc`] and
//! [`NetRpcClient`] are the two sides; start there. The behavior is that of server.go and client.go in net/rpc.

#[cfg(feature = "client")]
mod client;
pub mod connect;
mod head;
#[cfg(feature = "server")]
mod methods;
#[cfg(feature = "server")]
mod outstanding;
mod receive;
mod send;
#[cfg(feature = "server")]
mod server;
#[cfg(test)]
mod tests;

use crate::codec_number::Codec;

#[cfg(feature = "client")]
pub use client::NetRpcClient;
#[cfg(feature = "server")]
pub use server::NetRpc;

/// The number of the gob codec, the only one of this protocol.
const CODEC_GOB: u8 = Codec::Gob.number();
/// The maximum length of a value regardless of the limit: a span's start has 31 bits.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// The maximum bytes that a connection keeps for its next message.
const KEEP_BYTES_MAX: usize = 4096;
