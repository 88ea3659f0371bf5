//! Tests of `#[coreloop::service]`: the generated code, and the errors for mistakes.

#![allow(missing_docs)]

mod codecs;
mod service;
