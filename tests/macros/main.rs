//! Tests of `#[coreloop::service]`: the generated code, and the errors for mistakes.

#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod arguments;
mod codecs;
mod contracts;
mod futures;
mod service;
mod streams;
mod versions;
