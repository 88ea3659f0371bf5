//! The scanner of JSON text (RFC 8259): finds values, checks that a text is JSON, and decodes strings.
//!
//! It builds no values and stores nothing. serde_json reads typed values in `codec/json.rs`, and a test checks that
//! both accept the same grammar. `reader.rs` reads a complete text, `frame.rs` finds the end of one that arrives in
//! pieces, `portable.rs` checks for JSON that every reader accepts.
#![cfg_attr(
    not(feature = "jsonrpc"),
    allow(dead_code, unused_imports, reason = "JSON-RPC uses all of it, the JSON codec a part")
)]

mod frame;
mod nest;
pub(crate) mod parts;
pub(crate) mod portable;
mod reader;
mod strings;
#[cfg(test)]
mod tests;

pub(crate) use frame::{FoundValue, ValueSearch};
pub(crate) use nest::ContainerStack;
pub(crate) use reader::{JsonFault, JsonReader, is_blank, plain_len, space_len, trim};
pub(crate) use strings::unescape;
