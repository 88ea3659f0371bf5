//! The demo services as tarpc has them, and the frame that server and client agree on.

// The attribute makes types for requests and replies that have no comments.
#![allow(missing_docs)]

use kit::{Args, User};
use serde_bytes::ByteBuf;

/// What a frame may hold; tarpc's own limit is 8 MiB, its documentation lifts it altogether.
pub const FRAME_BYTES_MAX: usize = usize::MAX;

/// The three methods of the comparison.
#[tarpc::service]
pub trait Demo {
    /// Sum of the two; wraps.
    async fn add(args: Args) -> i64;
    /// The bytes, as they came.
    async fn echo(bytes: ByteBuf) -> ByteBuf;
    /// The users 1 to n.
    async fn list(n: i64) -> Result<Vec<User>, String>;
}
