//! What a protocol reads from its server: its methods and routes.
//!
//! Protocols that call methods by name have their own answers for unknown names (a 404, or Go's error texts), so they
//! look names up here. Native calls use hashes and need none of this.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::added::AddedProtocols;
#[cfg(feature = "http")]
use super::routes::RoutesAt;
use super::{ProtocolId, StreamSupport};
use crate::config::Limits;
#[cfg(any(feature = "jsonrpc", feature = "netrpc"))]
use crate::method_name::MethodName;

/// The key of the HTTP method in the metadata of a call of a route (the name is that of HTTP/2, RFC 9113 section 8.3.1).
#[cfg(any(feature = "http", feature = "grpc"))]
pub(crate) const ROUTE_METHOD: &str = ":method";
/// The key of path and query, as they were sent.
#[cfg(any(feature = "http", feature = "grpc"))]
pub(crate) const ROUTE_TARGET: &str = ":path";
/// The key of the head of a response that is a stream: its status in three digits, then its fields as lines.
#[cfg(feature = "http")]
pub(crate) const ROUTE_HEAD: &str = ":head";

/// A method, as protocols see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The hash that identifies it in calls ([`method_hash`](crate::message::method_hash) of its name).
    pub hash: u32,
    /// The method changes nothing, so it may be called by GET.
    pub is_idempotent: bool,
    /// Which streams a protocol must carry for it.
    pub streams: StreamSupport,
    /// The method has several arguments: a struct with a field for each, in JSON-RPC also a list.
    pub takes_several: bool,
}

/// The methods and routes of a server, as protocols see them.
pub trait MethodDirectory: Send + Sync {
    /// Returns the method with the name `Service.Method`.
    fn method(&self, name: &str) -> Option<DirectoryEntry>;

    /// Whether a service with this full name exists, package included.
    fn has_service(&self, service: &str) -> bool;

    /// Returns the hash of the route of the built-in page at a path: those are also served over HTTP/2.
    fn page(&self, path: &str) -> Option<u32> {
        let _ = path;
        None
    }

    /// Returns the routes at a path, among them that for an HTTP method; HEAD asks for that of GET. The built-in pages are
    /// among them.
    #[cfg(feature = "http")]
    fn routes_at(&self, method: &str, path: &str) -> RoutesAt {
        let _ = (method, path);
        RoutesAt::default()
    }

    /// Returns the current time as HTTP writes it (IMF-fixdate, RFC 9110 section 5.6.7).
    fn date(&self) -> [u8; 29];
}

/// What all connections of a server share: limits, CORS origins, methods and routes.
pub struct ServerContext {
    /// The limits.
    pub limits: Limits,
    /// Origins of other sites whose pages may call (CORS); `*` allows all, empty allows none.
    #[doc(hidden)]
    pub cors_origins: Vec<String>,
    /// Protocols beside those of this crate.
    #[doc(hidden)]
    pub added: AddedProtocols,
    /// The methods and routes.
    #[doc(hidden)]
    pub site: Box<dyn MethodDirectory>,
    /// Response headers, trailers and details that a protocol had no place for. Rare, and so counted by all reactors
    /// together.
    pub entries_dropped: AtomicU64,
    /// Connections by protocol.
    #[doc(hidden)]
    pub connections: ProtocolConnections,
}

/// The number of protocols, those that are not served included.
const PROTOCOLS: usize = ProtocolId::Added as usize + 1;

/// Counts connections by protocol. All reactors count together: a connection is rare beside its calls.
#[derive(Debug, Default)]
pub struct ProtocolConnections {
    begun: [AtomicU64; PROTOCOLS],
    ended: [AtomicU64; PROTOCOLS],
}

impl ProtocolConnections {
    /// Counts a connection whose protocol was recognized.
    pub(in crate::wire) fn begin(&self, protocol: ProtocolId) {
        self.begun[protocol as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection with this protocol that has closed.
    pub fn end(&self, protocol: ProtocolId) {
        self.ended[protocol as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns for each protocol its name, and how many connections were recognized and how many of these have closed; no
    /// zeros.
    pub fn counts(&self) -> Vec<(&'static str, u64, u64)> {
        let all = ProtocolId::ALL.iter().chain(&[ProtocolId::Added]);
        let counts = all.map(|protocol| {
            // First the ends, so that there are never more of them than beginnings.
            let ended = self.ended[*protocol as usize].load(Ordering::Acquire);
            (protocol.name(), self.begun[*protocol as usize].load(Ordering::Relaxed), ended)
        });
        counts.filter(|(_, begun, _)| *begun > 0).collect()
    }
}

impl fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerContext").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A directory without methods and routes.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyDirectory;

impl MethodDirectory for EmptyDirectory {
    fn method(&self, _name: &str) -> Option<DirectoryEntry> {
        None
    }

    fn has_service(&self, _service: &str) -> bool {
        false
    }

    fn date(&self) -> [u8; 29] {
        *b"Thu, 01 Jan 1970 00:00:00 GMT"
    }
}

impl ServerContext {
    /// Returns a context with limits only: no CORS origins, methods or routes.
    pub fn bare(limits: Limits) -> ServerContext {
        ServerContext {
            limits,
            cors_origins: Vec::new(),
            added: AddedProtocols::default(),
            site: Box::new(EmptyDirectory),
            entries_dropped: AtomicU64::new(0),
            connections: ProtocolConnections::default(),
        }
    }

    /// Counts response headers, trailers and details that a protocol has no place for.
    #[cold]
    pub(in crate::wire) fn note_dropped(&self, entries: usize) {
        self.entries_dropped.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// The text of Go's server for a call of an unknown method (net/rpc server.go, `readRequestHeader`). `shown` is
    /// the name as it appears in the text.
    #[cfg(any(feature = "jsonrpc", feature = "netrpc"))]
    #[cold]
    pub(in crate::wire) fn unknown_method_in_go(&self, name: &str, shown: &str) -> String {
        match MethodName::split(name) {
            None => format!("rpc: service/method request ill-formed: {shown}"),
            Some((service, _)) if self.site.has_service(service) => {
                format!("rpc: can't find method {shown}")
            }
            Some(_) => format!("rpc: can't find service {shown}"),
        }
    }
}
