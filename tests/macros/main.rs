//! Tests of `#[coreloop::service]`: the generated code, and the errors for mistakes.

#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod codecs;
mod service;
mod streams;
