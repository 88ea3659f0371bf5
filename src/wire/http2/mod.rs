//! HTTP/2 as a server receives it (RFC 9113), with its header compression (RFC 7541), without I/O.
//!
//! [`Http2Connection`] turns bytes into events and answers into bytes. It knows nothing of gRPC or of methods. What a
//! peer can make it hold is bounded by [`Http2Limits`].

pub mod budget;
pub mod connection;
pub mod fault;
pub mod flow;
pub mod frame;
pub mod head;
pub mod hpack;
pub mod settings;
mod streams;

pub use connection::{BodyPart, Http2Connection, Http2Event, Http2Limits, Http2Step, OutField, PREFACE};
pub use fault::{Http2Code, Http2Fault};
pub use frame::{FrameHead, Http2Frame, SettingEntries, StreamPriority};
pub use head::Http2Head;

#[cfg(test)]
mod tests;
