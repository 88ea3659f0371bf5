//! coreloop: an embeddable RPC server and client, one event loop per core, plain threads.
//!
//! A service is a plain impl over plain serde types; [`Server`] serves it, [`client::Client`] calls it for many threads
//! at once, and [`client::Direct`] for one:
//!
//! ```
//! use coreloop::client::Direct;
//! use coreloop::{Context, Server, Status};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(rename_all = "PascalCase")]
//! struct Args { a: i64, b: i64 }
//!
//! struct Arith;
//!
//! #[coreloop::service]
//! impl Arith {
//!     /// Product of the two.
//!     fn multiply(&self, _cx: &Context, args: Args) -> Result<i64, Status> { Ok(args.a * args.b) }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder().service(Arith).listen("127.0.0.1:0").start()?;
//! let address = server.addresses()[0].to_string();
//!
//! let client = ArithClient::new(Direct::connect(&address)?);
//! assert_eq!(client.multiply(&Args { a: 6, b: 7 })?, 42);
//! # Ok(())
//! # }
//! ```
//!
//! The floors, from the ground up; each imports lower ones only:
//!
//! | floor | modules |
//! |---|---|
//! | roles | [`server`], [`client`] |
//! | work | [`mod@service`], [`workers`] |
//! | the loop | [`reactor`] |
//! | a connection | [`conn`], [`mailbox`] |
//! | pure logic | [`wire`], [`codec`], [`policy`] |
//! | words | [`message`], [`method_name`], [`context`], [`status`], [`config`], [`stats`] |
//! | tools | [`poller`], [`bufpool`] |
#![forbid(unsafe_code)]

pub mod client;
pub mod codec;
pub mod config;
pub mod conn;
pub mod context;
#[cfg(feature = "demo")]
pub mod demo;
mod error_text;
#[cfg(feature = "json")]
mod json_text;
pub mod mailbox;
pub mod message;
pub mod method_name;
pub mod policy;
pub mod reactor;
pub mod server;
pub mod service;
pub mod stats;
pub mod status;
mod threads;
pub mod wire;
pub mod workers;

pub use coreloop_bufpool as bufpool;
pub use coreloop_poller as poller;

pub use codec::Bytes;
pub use context::Context;
#[cfg(feature = "macros")]
pub use coreloop_macros::service;
pub use method_name::MethodName;
pub use server::{Error, Server};
pub use service::{Reply, Service};
pub use status::{Code, Status};

/// What the code that `#[coreloop::service]` writes refers to.
#[doc(hidden)]
pub mod macro_support;

/// The Rust blocks of the documents, compiled and run with the other documentation tests.
#[cfg(doctest)]
mod readme_tests {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/architecture.md")]
    mod architecture {}
    #[doc = include_str!("../docs/client.md")]
    mod client {}
    #[doc = include_str!("../docs/configuration.md")]
    mod configuration {}
    #[doc = include_str!("../docs/embedding.md")]
    mod embedding {}
    #[doc = include_str!("../docs/go-interop.md")]
    mod go_interop {}
    #[doc = include_str!("../docs/http.md")]
    mod http {}
    #[doc = include_str!("../docs/services.md")]
    mod services {}
    #[doc = include_str!("../docs/wire.md")]
    mod wire {}
}
