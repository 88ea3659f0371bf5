//! Decisions without I/O: plain functions of their arguments, tested as such.

pub mod backoff;
pub mod flush;
pub mod gather;
