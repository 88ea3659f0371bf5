//! The one scanner of JSON text (RFC 8259): where values begin and end, whether a text is JSON, what a string says.
//!
//! It builds no values and keeps nothing; typed values are read by serde_json in `codec/json.rs`, and a test holds both to
//! the same grammar. `reader.rs` reads a text that is complete, `frame.rs` finds the end of one that comes in pieces,
//! `portable.rs` says which JSON every other reader takes, too.
#![cfg_attr(
    not(all(feature = "jsonrpc", feature = "record")),
    allow(dead_code, unused_imports, reason = "each feature uses a part")
)]

mod frame;
mod nest;
pub(crate) mod portable;
mod reader;
mod strings;
#[cfg(test)]
mod tests;

pub(crate) use frame::{FoundValue, ValueSearch};
pub(crate) use nest::ContainerStack;
pub(crate) use reader::{JsonFault, JsonReader, is_blank, plain_len, space_len, trim};
pub(crate) use strings::unescape;
