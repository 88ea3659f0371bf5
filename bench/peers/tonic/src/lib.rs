//! The demo services as gRPC has them, and what server and client agree on.
//!
//! `rpc.rs` is made from `peer.proto` by `generate`, so that building needs no protoc.

#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
pub mod rpc;

use kit::User;

/// HTTP/2's first window of a stream: a body of 256 KiB arrives without waiting for another. Its own is 64 KiB.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same for all streams of a connection, at 16 such bodies in flight.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A body of 256 KiB in one frame of data. Its own is 16 KiB.
pub const FRAME_BYTES_MAX: u32 = 512 << 10;

/// How many calls the server takes at once on a connection: as many as the kit's clients may want.
pub const STREAMS_MAX: u32 = 65_536;

impl From<User> for rpc::User {
    fn from(user: User) -> rpc::User {
        let User { id, name, age, email, tags, scores } = user;
        rpc::User { id, name, age: age.into(), email, tags, scores }
    }
}
