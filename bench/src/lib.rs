//! What the comparisons are made of: a bare floor server, a bare client, and the accounting around them.
//!
//! The binaries are thin; `versus` starts the floor and the client as children of itself, so that one
//! `cargo run` builds all it needs. Nothing here links the server: it is measured as a process, over TCP.

pub mod frame;
pub mod histogram;
pub mod request;

#[cfg(target_os = "linux")]
pub mod drive;
#[cfg(target_os = "linux")]
pub mod epoll;
#[cfg(target_os = "linux")]
pub mod floor;
#[cfg(target_os = "linux")]
pub mod machine;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
pub mod syscalls;
pub mod table;
#[cfg(target_os = "linux")]
pub mod versus;
