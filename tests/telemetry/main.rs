//! Tests of what shows a program at work: spans, their export, metrics.

#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "log")]
mod log_events;
#[cfg(all(feature = "admin", feature = "demo"))]
mod metrics;
mod spans;
#[cfg(feature = "usdt")]
mod usdt;
#[cfg(feature = "tracing")]
mod with_tracing;
