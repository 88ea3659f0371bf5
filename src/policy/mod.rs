//! Decisions without I/O: plain functions of the numbers at hand, tested as such.

pub mod backoff;
pub mod flush;
pub mod gather;
