//! A client of several servers, while they fail: real processes that are killed, stopped, drained, slowed down and made to
//! fail, behind fixed lists, files and real registries.
//!
//! Everything that is asserted is counted: calls that fail, runs of each call, attempts at each server. Times are printed:
//! `cargo test --release -p coreloop-cli --test failures -- --nocapture --test-threads=1`.

#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod crashes;
mod faults;
mod load;
mod long;
mod processes;
mod registries;
mod scale;
mod server;
mod zones;
