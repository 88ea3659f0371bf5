//! Selects the protocol and runs the plan in it; dispatched once, so that each loop is compiled for its protocol.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::headers;
use super::mix::{Call, Content};
use super::protocol::gob::Gob;
use super::protocol::grpc::Grpc;
use super::protocol::http::Http;
use super::protocol::jsonrpc::JsonRpc;
use super::protocol::{Body, Native};
use super::run::{self, Live, Measured, Plan};
use super::streams::{self, StreamCall};
use super::target::Target;
use super::trace;

/// A protocol, by its prefix in an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressProtocol {
    /// coreloop's own frames.
    #[default]
    Native,
    /// Go's net/rpc.
    Gob,
    /// Go's net/rpc behind an HTTP CONNECT, as `rpc.DialHTTP` uses it.
    GobHttp,
    /// Go's net/rpc/jsonrpc, and JSON-RPC 2.0.
    #[serde(rename = "jsonrpc")]
    JsonRpc,
    /// HTTP/1.1 with JSON, in the form of Connect.
    Http,
    /// gRPC over HTTP/2 with protobuf.
    Grpc,
}

impl AddressProtocol {
    /// All protocols.
    pub const ALL: [AddressProtocol; 6] = [
        AddressProtocol::Native,
        AddressProtocol::Gob,
        AddressProtocol::GobHttp,
        AddressProtocol::JsonRpc,
        AddressProtocol::Http,
        AddressProtocol::Grpc,
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            AddressProtocol::Native => "native",
            AddressProtocol::Gob => "gob",
            AddressProtocol::GobHttp => "gob-http",
            AddressProtocol::JsonRpc => "jsonrpc",
            AddressProtocol::Http => "http",
            AddressProtocol::Grpc => "grpc",
        }
    }

    /// Returns the codec of every body, if the protocol has only one.
    pub fn codec(self) -> Option<&'static str> {
        match self {
            AddressProtocol::Native => None,
            AddressProtocol::Gob | AddressProtocol::GobHttp => Some("gob"),
            AddressProtocol::JsonRpc | AddressProtocol::Http => Some("json"),
            AddressProtocol::Grpc => Some("protobuf"),
        }
    }

    /// Returns whether a call can state its deadline.
    pub fn carries_deadlines(self) -> bool {
        matches!(self, AddressProtocol::Native | AddressProtocol::Http | AddressProtocol::Grpc)
    }

    /// Returns whether an address is the URL of a resolver, such as `consul://…` or `static:a:1,b:2`.
    pub fn is_resolver_url(address: &str) -> bool {
        let (speaks, _, rest) = AddressProtocol::split(address);
        let scheme = coreloop::discovery::Target::scheme_of(rest);
        speaks == AddressProtocol::Native
            && scheme.is_some_and(|scheme| AddressProtocol::of_scheme(scheme).is_none())
    }

    /// Returns the protocol that a scheme names, and whether it has TLS: `+tls` behind a protocol asks for it, and `https` is
    /// `http+tls`.
    fn of_scheme(scheme: &str) -> Option<(AddressProtocol, bool)> {
        let (name, is_secured) = match scheme.strip_suffix("+tls") {
            Some(name) => (name, true),
            None if scheme == "https" => ("http", true),
            None => (scheme, false),
        };
        AddressProtocol::ALL
            .into_iter()
            .find(|speaks| speaks.name() == name)
            .map(|speaks| (speaks, is_secured))
    }

    /// Splits an address into its protocol, whether it has TLS, and the rest.
    pub fn split(address: &str) -> (AddressProtocol, bool, &str) {
        let split = address.split_once(':');
        // A host may have the name of a protocol: `http:80` is host and port.
        if let Some((scheme, rest)) = split.filter(|(_, rest)| rest.contains([':', '/']))
            && let Some((speaks, is_secured)) = AddressProtocol::of_scheme(scheme)
        {
            let rest = rest.strip_prefix("//").map_or(rest, |rest| rest.trim_end_matches('/'));
            return (speaks, is_secured, rest);
        }
        (AddressProtocol::Native, false, address)
    }

    /// Returns the ids of the protocol that a server is offered over TLS (ALPN).
    pub fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            AddressProtocol::Native => &[b"coreloop"],
            // A connection of net/rpc behind HTTP begins with a request of HTTP.
            AddressProtocol::Http | AddressProtocol::GobHttp => &[b"http/1.1"],
            AddressProtocol::Grpc => &[b"h2"],
            AddressProtocol::Gob | AddressProtocol::JsonRpc => &[],
        }
    }
}

impl fmt::Display for AddressProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The calls of a mix, encoded for a protocol.
pub enum Speech {
    /// Calls for [`AddressProtocol::Native`].
    Native(Native),
    /// Calls for [`AddressProtocol::Gob`] and [`AddressProtocol::GobHttp`].
    Gob(Box<Gob>),
    /// Calls for [`AddressProtocol::JsonRpc`].
    JsonRpc(JsonRpc),
    /// Calls for [`AddressProtocol::Http`].
    Http(Http),
    /// Calls for [`AddressProtocol::Grpc`].
    Grpc(Box<Grpc>),
    /// Streams, in [`AddressProtocol::Native`].
    Streams(Arc<StreamCall>),
}

impl Speech {
    /// Encodes calls that were made for this protocol, to that server, each with these headers or this metadata.
    pub fn new(
        speaks: AddressProtocol,
        calls: &[Call],
        target: &Target,
        entries: &[headers::Entry],
    ) -> Result<Speech, String> {
        let metadata = headers::metadata_bytes(entries);
        let (mut frames, mut bodies) = (Vec::new(), Vec::new());
        for call in calls {
            match &call.content {
                Content::Frame(request) => frames.push(request.clone().with_metadata(&metadata)),
                Content::Body(bytes) => bodies.push(Body {
                    method: call.method.clone(),
                    bytes: bytes.clone(),
                    time_left_us: call.time_left_us,
                }),
            }
        }
        let is_complete = frames.len() == if speaks == AddressProtocol::Native { calls.len() } else { 0 };
        if !is_complete {
            return Err(format!("the calls were not made for {speaks}:"));
        }
        Ok(match speaks {
            AddressProtocol::Native => Speech::Native(Native::new(frames)),
            AddressProtocol::Gob => Speech::Gob(Box::new(Gob::new(&bodies)?)),
            AddressProtocol::GobHttp => Speech::Gob(Box::new(Gob::new(&bodies)?.behind_http())),
            AddressProtocol::JsonRpc => Speech::JsonRpc(JsonRpc::new(&bodies)),
            AddressProtocol::Http => Speech::Http(Http::new(&bodies, &target.host(), entries)),
            AddressProtocol::Grpc => Speech::Grpc(Box::new(Grpc::new(&bodies, &target.host(), entries)?)),
        })
    }

    /// Encodes calls twice: each with these entries, and after all of them each as a traced call.
    pub fn with_traces(
        speaks: AddressProtocol,
        calls: &[Call],
        target: &Target,
        entries: &[headers::Entry],
    ) -> Result<Speech, String> {
        let traced = Speech::new(speaks, calls, target, &trace::entries(speaks, entries)?)?;
        Ok(match (Speech::new(speaks, calls, target, entries)?, traced) {
            (Speech::Native(calls), Speech::Native(traced)) => Speech::Native(calls.followed_by(&traced)),
            (Speech::Http(calls), Speech::Http(traced)) => Speech::Http(calls.followed_by(&traced)),
            (Speech::Grpc(calls), Speech::Grpc(traced)) => Speech::Grpc(Box::new(calls.followed_by(&traced))),
            _ => return Err(format!("{speaks}: cannot carry --trace")),
        })
    }

    /// Runs the plan in this protocol.
    pub fn measure(
        &self,
        plan: &Plan,
        stop: &Arc<AtomicBool>,
        progress: &mut dyn FnMut(&Live),
    ) -> Result<Measured, String> {
        match self {
            Speech::Native(native) => run::measure(plan, native, stop, progress),
            Speech::Gob(gob) => run::measure(plan, &**gob, stop, progress),
            Speech::JsonRpc(jsonrpc) => run::measure(plan, jsonrpc, stop, progress),
            Speech::Http(http) => run::measure(plan, http, stop, progress),
            Speech::Grpc(grpc) => run::measure(plan, &**grpc, stop, progress),
            Speech::Streams(call) => streams::measure(plan, call, stop, progress),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_begin_with_a_protocol() {
        for speaks in AddressProtocol::ALL {
            for (tls, is_secured) in [("", false), ("+tls", true)] {
                let prefix = format!("{speaks}{tls}");
                assert_eq!(AddressProtocol::split(&format!("{prefix}:a:1")), (speaks, is_secured, "a:1"));
                assert_eq!(
                    AddressProtocol::split(&format!("{prefix}:unix:/a b")),
                    (speaks, is_secured, "unix:/a b")
                );
            }
            // Here the name is a host.
            assert_eq!(
                AddressProtocol::split(&format!("{speaks}:1")),
                (AddressProtocol::Native, false, &*format!("{speaks}:1"))
            );
        }
        assert_eq!(AddressProtocol::split("http://a:1/"), (AddressProtocol::Http, false, "a:1"));
        assert_eq!(AddressProtocol::split("https://a:1/"), (AddressProtocol::Http, true, "a:1"));
        assert_eq!(AddressProtocol::split("https:a:1"), (AddressProtocol::Http, true, "a:1"));
        assert_eq!(AddressProtocol::split("a:1"), (AddressProtocol::Native, false, "a:1"));
    }

    #[test]
    fn a_resolver_url_is_no_address_of_a_protocol() {
        for url in [
            "static:a:1,b:2",
            "native+tls:static:a:1,b:2",
            "consul://127.0.0.1:8500/orders",
            "dns:///orders:1",
            "file:///e",
        ] {
            assert!(AddressProtocol::is_resolver_url(url), "{url}");
        }
        for address in ["a:1", "http://a:1/", "https://a:1/", "grpc:a:1", "unix:/a", "static.example:80"] {
            assert!(!AddressProtocol::is_resolver_url(address), "{address}");
        }
    }
}
