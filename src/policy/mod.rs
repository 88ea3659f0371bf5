//! Policies without I/O: pure functions and state machines, tested without a server.

pub mod backoff;
pub mod codel;
pub mod delay;
pub mod estimate;
pub mod fair;
pub mod flush;
pub mod gather;
pub mod gradient;
pub mod round_trip;
pub mod run_queue;
pub mod token_bucket;
