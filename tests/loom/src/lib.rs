//! The state that coreloop's threads share, in every interleaving and with every stale read that the memory model
//! allows: the mailbox, the cells of calls, sinks, streams and broadcast.
//!
//! The files are those of the root crate, included by path: the rest of that crate needs a real poller, which loom
//! cannot run. Run with `RUSTFLAGS="--cfg loom" cargo test -p coreloop-loom --release --lib`.

#![cfg(all(test, loom))]
#![allow(dead_code, reason = "the included files have functions that the tests do not need")]

mod call;
mod handover;
mod mailbox;
mod stream;

/// Runs a test in all interleavings with at most this many preemptions.
fn model(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}
