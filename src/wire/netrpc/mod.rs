//! Go's net/rpc over gob, both ends: what `rpc.Dial` and `rpc.ServeConn` of Go's standard library speak.
//!
//! A stream of gob messages in each direction: for each call a header, then its body, with the definitions of types
//! before the first value that needs them. `head.rs` has the headers, `receive.rs` makes self-contained bodies out of
//! a stream, `send.rs` a stream out of such bodies, `connect.rs` the way in through HTTP. [`NetRpc`] and [`NetRpcClient`] are the two ends;
//! start there. It follows server.go and client.go of net/rpc.

mod client;
pub mod connect;
mod head;
mod methods;
mod outstanding;
mod receive;
mod send;
mod server;
#[cfg(test)]
mod tests;

pub use client::NetRpcClient;
pub use server::NetRpc;

/// The number of the gob codec; no other is spoken here.
const CODEC_GOB: u8 = 3;
/// The longest value whatever the limit says: a span begins within 31 bits.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// Memory that a connection keeps for its next message.
const KEEP_BYTES_MAX: usize = 4096;
