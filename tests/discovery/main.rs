//! Tests of service discovery: watches and registrations on a reactor, against scripted and real registries.

#![allow(missing_docs)]

#[cfg(feature = "discovery")]
mod agents;
#[cfg(all(feature = "discovery", feature = "tls-core"))]
#[path = "../tls/authority.rs"]
#[allow(dead_code, reason = "the tests of TLS use the rest")]
mod authority;
#[cfg(feature = "discovery")]
mod common;
#[cfg(feature = "discovery")]
mod consul;
#[cfg(feature = "discovery")]
mod dns;
#[cfg(feature = "discovery")]
#[path = "../common/dnsmasq.rs"]
mod dnsmasq;
#[cfg(feature = "discovery")]
mod etcd;
#[cfg(feature = "discovery")]
mod files;
#[cfg(feature = "discovery")]
#[path = "../common/registries.rs"]
mod registries;
#[cfg(all(feature = "discovery", feature = "tls-core"))]
mod secured;
#[cfg(feature = "discovery")]
mod server;
#[cfg(feature = "discovery")]
#[path = "../common/watched.rs"]
mod watched;
