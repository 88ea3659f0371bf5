//! Policies without I/O: pure functions and state machines, tested without a server.

pub mod backoff;
pub mod flush;
pub mod gather;
pub mod round_trip;
