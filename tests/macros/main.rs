//! `#[coreloop::service]`: what it generates, and what it says about mistakes.

#![allow(missing_docs)]

mod service;
