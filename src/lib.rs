//! coreloop: an embeddable RPC server and client, one event loop per core, plain threads.
//!
//! # Start here
//!
//! A trait is the contract of a service: [`#[coreloop::service]`](macro@service) makes a server and a typed client of it.
//! On an `impl` block it makes a service of that type alone, the short form for one crate.
//!
//! ```
//! use coreloop::{Context, Server, Status};
//!
//! #[coreloop::service]
//! pub trait Shop {
//!     /// The price of a number of items, in cents.
//!     fn price(&self, cx: &Context, item: u32, count: u32) -> Result<u64, Status>;
//! }
//!
//! struct Apples;
//!
//! impl Shop for Apples {
//!     fn price(&self, _cx: &Context, item: u32, count: u32) -> Result<u64, Status> {
//!         if item == 7 { Ok(40 * u64::from(count)) } else { Err(Status::not_found("no such item")) }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder().service(ShopServer::new(Apples)).listen("127.0.0.1:0").start()?;
//! let shop = ShopClient::connect(&server.addresses()[0].to_string())?;
//! assert_eq!(shop.price(&7, &3)?, 120);
//! # Ok(())
//! # }
//! ```
//!
//! [`ServerBuilder::run`](server::ServerBuilder::run) in place of `start` serves until SIGTERM or Ctrl-C.
//! [`Client`](client::Client) is shared by threads, and its calls can be awaited in any executor; [`Direct`](client::Direct)
//! calls from one thread.
//!
//! # Guides
//!
//! They are in the folder `docs` of the source.
//!
//! | file | answers |
//! |---|---|
//! | `services.md` | contracts and services: names, arguments, where methods run, late replies, streams, async methods |
//! | `client.md` | calls: handles, callbacks, batches, timeouts, options, several servers, errors |
//! | `interceptors.md` | authentication, access logs, limits, and code of your own around calls |
//! | `embedding.md` | a server inside a program, broadcasts, protocols of your own, the bare event loop |
//! | `discovery.md` | the servers of a service by Consul, etcd, DNS or a file; servers that register themselves |
//! | `configuration.md` | every setting and limit |
//! | `operation.md` | drains, restarts without a lost call, systemd |
//! | `overload.md` | deadlines, fair order, refusals |
//! | `resilience.md` | several servers: balancing, circuit breakers, retries, hedging, health checks |
//! | `http.md`, `grpc.md`, `go-interop.md`, `wire.md` | the protocols |
//! | `features.md` | features, dependencies, what the tests cover |
//! | `architecture.md` | how it works: layers, invariants, the way of a request |
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `server`, `client` | the two roles (default) |
//! | `macros` | the attribute (default) |
//! | `json`, `gob` | codecs (default) |
//! | `http`, `jsonrpc`, `netrpc` | protocols: HTTP/1.1 with JSON, JSON-RPC, Go's net/rpc (default) |
//! | `signals` | `ServerBuilder::run` drains on SIGTERM and SIGINT (default) |
//! | `restart` | restarts that lose no connection, systemd's sockets and notices |
//! | `fixed`, `compact`, `messagepack`, `protobuf` | further codecs |
//! | `grpc` | gRPC over HTTP/2 |
//! | `lz4` | compressed bodies |
//! | `discovery` | the resolvers of Consul and etcd |
//! | `trace` | spans of calls, and trace headers |
//! | `tracing` | handlers run in spans of the `tracing` crate |
//! | `usdt` | probes at the begin and the end of calls |
//! | `metrics` | metrics in the formats of Prometheus and OpenMetrics |
//! | `otlp` | export of spans and metrics to an OpenTelemetry collector |
//! | `admin` | the admin listener: console, `/metrics` |
//! | `profile` | CPU, heap and thread profiles on the admin listener |
//! | `log` | events for the log of the program, through the `log` facade |
//! | `full` | all of the above except `tracing` and `usdt` |
//! | `config-file` | configuration from a TOML file, the environment and flags |
//!
//! # Options of a method
//!
//! `#[rpc(…)]` on a function of the trait or block; [the attribute](macro@service) documents all of them.
//!
//! | option | meaning |
//! |---|---|
//! | `inline` | runs on the event loop's thread: it must never block |
//! | none | runs on the worker pool |
//! | `blocking` | runs on a second pool that grows: it may block |
//! | `idempotent` | changes nothing: it may be called with GET, and repeated |
//! | `name = "…"` | the method's name, instead of its function's in PascalCase |
//! | `skip` | not a method |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "bench-internals"), deny(missing_debug_implementations))]
// Smaller builds have parts that only another feature, a test or a tool uses. What is unused is reported for the whole
// crate, which the checks of this repository build.
#![cfg_attr(
    not(all(feature = "demo", feature = "config-file", feature = "bench-internals")),
    allow(dead_code, unused_imports, unused_macros)
)]

#[cfg(all(feature = "tls-core", not(any(feature = "tls", feature = "tls-ring"))))]
compile_error!("the feature `tls-core` has no cryptography: turn on `tls` or `tls-ring` instead");

#[cfg(feature = "admin")]
mod admin;
#[cfg(feature = "agents")]
mod agent;
#[cfg(any(feature = "tls-core", feature = "gob", feature = "http", feature = "server"))]
mod calendar;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
mod codec_number;
pub mod config;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod conn;
#[cfg(not(feature = "bench-internals"))]
mod conn;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod context;
#[cfg(not(feature = "bench-internals"))]
mod context;
mod debug;
#[cfg(feature = "demo")]
pub mod demo;
pub mod discovery;
mod error_text;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod extensions;
#[cfg(not(feature = "bench-internals"))]
mod extensions;
#[cfg(all(feature = "server", feature = "client"))]
mod in_process;
#[cfg(feature = "json")]
mod json_text;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod log_events;
#[cfg(not(feature = "bench-internals"))]
mod log_events;
#[cfg(all(feature = "server", feature = "bench-internals"))]
#[doc(hidden)]
pub mod log_text;
#[cfg(all(feature = "server", not(feature = "bench-internals")))]
mod log_text;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod mailbox;
#[cfg(not(feature = "bench-internals"))]
mod mailbox;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod message;
#[cfg(not(feature = "bench-internals"))]
mod message;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod method_name;
#[cfg(not(feature = "bench-internals"))]
mod method_name;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod policy;
#[cfg(not(feature = "bench-internals"))]
mod policy;
pub mod protocol;
mod random;
pub mod reactor;
#[cfg(feature = "server")]
pub mod server;
pub mod service;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod stats;
#[cfg(not(feature = "bench-internals"))]
mod stats;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod status;
#[cfg(not(feature = "bench-internals"))]
mod status;
pub mod stream;
mod threads;
mod tls;
#[cfg(feature = "trace")]
pub mod trace;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod transport;
#[cfg(not(feature = "bench-internals"))]
mod transport;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod wire;
#[cfg(not(feature = "bench-internals"))]
mod wire;
#[cfg(all(feature = "server", feature = "bench-internals"))]
#[doc(hidden)]
pub mod workers;
#[cfg(all(feature = "server", not(feature = "bench-internals")))]
mod workers;

#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use coreloop_bufpool as bufpool;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use coreloop_poller as poller;

#[cfg(feature = "signals")]
pub use coreloop_poller::signals;

pub use codec::Bytes;
pub use context::{Context, OwnedContext, Peer};
#[cfg(feature = "macros")]
pub use coreloop_macros::service;
pub use extensions::Extensions;
pub use message::{Metadata, MetadataBuf, MetadataError, MetadataTooLong, Priority, SetMetadataError};
pub use method_name::{MethodName, MethodNameError};
#[cfg(feature = "server")]
pub use server::{Error, Server};
pub use service::Reply;
#[cfg(feature = "server")]
pub use service::Service;
#[cfg(feature = "server")]
pub use service::interceptor;
#[cfg(all(feature = "http", feature = "server"))]
pub use service::route;
pub use status::{Code, Detail, DetailsTooLarge, Status};
pub use stream::{Sink, Stream, StreamEvent};
#[cfg(feature = "tls-core")]
pub use tls::{CertifiedPeer, PeerCertificate};
pub use tls::{TlsFailure, TlsFailureKind, TlsSnapshot};

/// The items that the code generated by `#[coreloop::service]` refers to.
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
    #[cfg(feature = "discovery")]
    #[doc = include_str!("../docs/discovery.md")]
    mod discovery {}
    #[doc = include_str!("../docs/embedding.md")]
    mod embedding {}
    #[doc = include_str!("../docs/go-interop.md")]
    mod go_interop {}
    #[doc = include_str!("../docs/guide.md")]
    mod guide {}
    #[doc = include_str!("../docs/http.md")]
    mod http {}
    #[doc = include_str!("../docs/interceptors.md")]
    mod interceptors {}
    #[cfg(feature = "admin")]
    #[doc = include_str!("../docs/observability.md")]
    mod observability {}
    #[doc = include_str!("../docs/overload.md")]
    mod overload {}
    #[doc = include_str!("../docs/resilience.md")]
    mod resilience {}
    #[doc = include_str!("../docs/security.md")]
    mod security {}
    #[doc = include_str!("../docs/services.md")]
    mod services {}
    #[cfg(feature = "tls-core")]
    #[doc = include_str!("../docs/tls.md")]
    mod tls {}
    #[doc = include_str!("../docs/wire.md")]
    mod wire {}
}
