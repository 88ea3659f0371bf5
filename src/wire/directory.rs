//! What a protocol may ask of the server behind it: which methods there are, and pages about them.
//!
//! Protocols that call methods by name answer for names that are not there in their own way (a 404, an error text of
//! Go's), so they must know; the native one does without. Nothing here is asked of a native call.

use std::borrow::Cow;
use std::fmt;

use crate::config::Limits;
#[cfg(any(feature = "jsonrpc", feature = "netrpc"))]
use crate::method_name::MethodName;

/// A method, as a protocol needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The hash by which it is called ([`method_hash`](crate::message::method_hash) of its name).
    pub hash: u32,
    /// It changes nothing, so it may be called by GET.
    pub is_idempotent: bool,
}

/// A page that is served beside the methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status of HTTP: 200, or 503 where a probe fails.
    pub status: u16,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: Cow<'static, [u8]>,
}

/// The server, as its protocols see it.
pub trait MethodDirectory: Send + Sync {
    /// The method of that name, `Service.Method`.
    fn method(&self, name: &str) -> Option<DirectoryEntry>;

    /// Whether there is a service of that full name, package included.
    fn has_service(&self, service: &str) -> bool;

    /// The page at that path.
    fn page(&self, path: &str) -> Option<Page>;

    /// The time of day as HTTP writes it (IMF-fixdate, RFC 9110 section 5.6.7).
    fn date(&self) -> [u8; 29];
}

/// What every connection of a server shares: its limits and its site.
pub struct ServerContext {
    /// The limits.
    pub limits: Limits,
    /// Origins that pages of other hosts may call from (CORS), `*` for all; empty: none.
    pub cors_origins: Vec<String>,
    /// The methods and pages.
    pub site: Box<dyn MethodDirectory>,
}

impl fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSide").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A server without methods and pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyDirectory;

impl MethodDirectory for EmptyDirectory {
    fn method(&self, _name: &str) -> Option<DirectoryEntry> {
        None
    }

    fn has_service(&self, _service: &str) -> bool {
        false
    }

    fn page(&self, _path: &str) -> Option<Page> {
        None
    }

    fn date(&self) -> [u8; 29] {
        *b"Thu, 01 Jan 1970 00:00:00 GMT"
    }
}

impl ServerContext {
    /// The server side of protocols that ask for nothing but limits.
    pub fn bare(limits: Limits) -> ServerContext {
        ServerContext { limits, cors_origins: Vec::new(), site: Box::new(EmptyDirectory) }
    }

    /// What Go's server answers to a call of a method that it does not have (net/rpc server.go, `readRequestHeader`).
    /// `shown` is the name as the text is to have it.
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
