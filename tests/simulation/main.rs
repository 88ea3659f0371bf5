//! Deterministic simulation: of a connection's two ends, and of a fleet of clients and servers.

#![allow(missing_docs)]

mod client;
mod fleet;
mod frames;
mod futures;
mod pair;
mod pipe;
mod relay;
mod rng;
mod server;
mod streams;

/// Reads a number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}
