//! Tests of the admin listener: its pages in their three forms, live calls, events, calls from the console, and what it
//! refuses. `browser` has those in Chromium.

#![allow(missing_docs)]
#![cfg(all(feature = "admin", feature = "demo"))]

mod browser;
#[path = "../common/mod.rs"]
mod common;
mod events;
mod guard;
mod live;
mod pages;
#[cfg(feature = "profile")]
mod profiles;
mod rig;
