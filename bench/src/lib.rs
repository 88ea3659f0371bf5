//! The load generator, and the parts of the comparisons: a bare floor server, a bare client, and the accounting
//! around them.
//!
//! The binaries are thin. `versus` starts the floor and the client as children of itself, so that one `cargo run`
//! builds everything. The server is measured as a separate process, over a socket; only `loadgen` without an address
//! runs it in its own process, as a trial, and reports that.

pub mod base64;
pub mod console;
pub mod frame;
pub mod histogram;
pub mod request;

#[cfg(target_os = "linux")]
pub mod ablation;
#[cfg(target_os = "linux")]
pub mod compare;
#[cfg(target_os = "linux")]
pub mod drive;
#[cfg(target_os = "linux")]
pub mod epoll;
#[cfg(target_os = "linux")]
pub mod floor;
#[cfg(target_os = "linux")]
pub mod loadgen;
#[cfg(target_os = "linux")]
pub mod machine;
pub mod output;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
pub mod sheet;
#[cfg(target_os = "linux")]
pub mod syscalls;
pub mod table;
#[cfg(target_os = "linux")]
pub mod tuning;
#[cfg(target_os = "linux")]
pub mod versus;
