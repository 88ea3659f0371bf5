//! The atomics that the wake-up protocol uses: std's, or loom's when its interleavings are being tried.
//!
//! Built with `--cfg loom`, these work only inside `loom::model`; everything that needs a real poller stays out
//! of such builds. The protocol is in `wake.rs`.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
