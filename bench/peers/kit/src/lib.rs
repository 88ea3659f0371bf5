//! What the Rust peers of the comparison have in common.
//!
//! The types of the demo services, the command lines of servers and clients, and for clients the calls themselves: how
//! many are in flight or due, how long they took, what CPU time that cost. It knows no protocol: a peer brings its
//! server, and a [`Caller`] for its client. `bench/peers/README.md` is the contract.

#![deny(unsafe_code)]

pub mod client;
pub mod demo;
mod pace;
mod process;
pub mod server;
mod version;
pub mod window;

pub use client::{Call, Caller, Failure};
pub use demo::{Args, User};
pub use process::raise_files_limit;
pub use version::version_of;
pub use window::{Outcome, Phase, Window};
