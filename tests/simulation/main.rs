//! Deterministic simulation of a connection's two ends.

#![allow(missing_docs)]

mod client;
mod pair;
mod pipe;
mod rng;
mod server;
