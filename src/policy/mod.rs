//! Policies without I/O: pure functions and state machines, tested without a server.

pub mod backoff;
#[cfg(feature = "server")]
pub mod codel;
#[cfg(feature = "server")]
pub mod delay;
#[cfg(feature = "server")]
pub mod estimate;
#[cfg(feature = "server")]
pub mod fair;
pub mod fleet;
pub mod flush;
pub mod gather;
#[cfg(feature = "server")]
pub mod gradient;
#[cfg(feature = "client")]
pub mod round_trip;
#[cfg(feature = "server")]
pub mod run_queue;
#[cfg(feature = "server")]
pub mod token_bucket;
pub mod work_pool;
