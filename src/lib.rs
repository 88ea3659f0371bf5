//! coreloop: an embeddable RPC server and client, one event loop per core, plain threads.
#![forbid(unsafe_code)]

pub mod codec;
pub mod config;
pub mod status;

pub use status::{Code, Status};
