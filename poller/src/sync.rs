//! The atomics of the wake-up protocol: std's, or loom's for tests of interleavings.
//!
//! Built with `--cfg loom`, these work only inside `loom::model`; code that needs a real poller is excluded from such
//! builds. The protocol is in `wake.rs`.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
