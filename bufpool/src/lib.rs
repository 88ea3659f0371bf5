//! Memory for one reactor thread: pooled receive buffers, shared slices that return to their pool from any thread,
//! and the queue of bytes that wait to be written.
//!
//! Nothing here depends on sockets, clocks, threads or protocols: the caller reads, writes and passes `now`. Read
//! [`Pool`] first (the owner of memory), then [`RecvBuf`] (bytes in), then [`WriteQueue`] (bytes out).
//!
//! ```text
//!   Pool ──lend──▶ Buf ──into_chunk / RecvBuf::cut──▶ Chunk ──clone──▶ Chunk … on any thread
//!    ▲              │                                   │
//!    │◀─give_back───┘ (owner's thread: no atomics)      │ last drop
//!    │◀─collect──────── bounded return lane ◀───────────┘
//! ```
//!
//! # Example
//!
//! A connection that echoes its input, without the socket:
//!
//! ```
//! use std::io::IoSlice;
//! use coreloop_bufpool::{Pool, PoolConfig, RecvBuf, WriteQueue};
//!
//! let mut pool = Pool::new(PoolConfig::default());
//! let mut received = RecvBuf::new();
//! let mut queue = WriteQueue::new();
//!
//! // A read: the kernel would fill this space.
//! let space = received.read_space(&mut pool, 64 * 1024);
//! space[..5].copy_from_slice(b"hello");
//! received.filled(5);
//!
//! // Decode and answer, then return the memory.
//! queue.put_pair(&mut pool, b"you said: ", received.bytes());
//! received.consume(5);
//! received.settle(&mut pool, 0);
//!
//! // The end of the turn: one vectored write.
//! let mut slices = [IoSlice::new(&[]); 64];
//! let count = queue.slices(&mut slices);
//! assert_eq!(count, 1);
//! assert_eq!(&*slices[0], b"you said: hello");
//! let written = queue.len();
//! queue.written(&mut pool, written);
//!
//! assert_eq!(pool.stats().outstanding, 0);
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod buf;
mod chunk;
mod class;
mod config;
mod pool;
mod recv;
mod sync;
mod write;

#[cfg(all(test, loom))]
mod loom_tests;

pub use crate::buf::Buf;
pub use crate::chunk::Chunk;
pub use crate::class::{CLASS_BYTES, capacity_for};
pub use crate::config::{PoolConfig, PoolStats};
pub use crate::pool::Pool;
pub use crate::recv::RecvBuf;
pub use crate::write::{LINK_BYTES_MIN, WriteQueue};
