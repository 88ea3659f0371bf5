//! Which protocol is spoken, and the run in it: dispatched once, so that each loop is compiled for its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::headers;
use super::mix::{Call, Content};
use super::protocol::gob::Gob;
use super::protocol::http::Http;
use super::protocol::jsonrpc::JsonRpc;
use super::protocol::{Body, Native};
use super::run::{self, Live, Measured, Plan};
use super::target::Target;

/// A protocol, by the name in front of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaks {
    /// coreloop's own frames.
    #[default]
    Native,
    /// Go's net/rpc.
    Gob,
    /// The same behind an HTTP CONNECT, as Go's `rpc.DialHTTP` has it.
    GobHttp,
    /// Go's net/rpc/jsonrpc, and JSON-RPC 2.0.
    #[serde(rename = "jsonrpc")]
    JsonRpc,
    /// HTTP/1.1 with JSON, in the manner of Connect.
    Http,
}

impl Speaks {
    /// All of them.
    pub const ALL: [Speaks; 5] =
        [Speaks::Native, Speaks::Gob, Speaks::GobHttp, Speaks::JsonRpc, Speaks::Http];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Speaks::Native => "native",
            Speaks::Gob => "gob",
            Speaks::GobHttp => "gob-http",
            Speaks::JsonRpc => "jsonrpc",
            Speaks::Http => "http",
        }
    }

    /// The codec of every body, where the protocol has but one.
    pub fn codec(self) -> Option<&'static str> {
        match self {
            Speaks::Native => None,
            Speaks::Gob | Speaks::GobHttp => Some("gob"),
            Speaks::JsonRpc | Speaks::Http => Some("json"),
        }
    }

    /// Parts an address from the protocol in front of it.
    pub fn split(address: &str) -> (Speaks, &str) {
        for speaks in Speaks::ALL {
            let rest = address.strip_prefix(speaks.name()).and_then(|rest| rest.strip_prefix(':'));
            // A host may have the name of a protocol: `http:80` is host and port.
            if let Some(rest) = rest.filter(|rest| rest.contains([':', '/'])) {
                return (speaks, rest.strip_prefix("//").map_or(rest, |rest| rest.trim_end_matches('/')));
            }
        }
        (Speaks::Native, address)
    }
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The calls of a mix, ready to be made in a protocol.
pub enum Speech {
    /// Of [`Speaks::Native`].
    Native(Native),
    /// Of [`Speaks::Gob`] and [`Speaks::GobHttp`].
    Gob(Box<Gob>),
    /// Of [`Speaks::JsonRpc`].
    JsonRpc(JsonRpc),
    /// Of [`Speaks::Http`].
    Http(Http),
}

impl Speech {
    /// Of calls that were made for this protocol, to that server, each with these headers or this metadata.
    pub fn new(
        speaks: Speaks,
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
        let is_complete = frames.len() == if speaks == Speaks::Native { calls.len() } else { 0 };
        if !is_complete {
            return Err(format!("the calls were not made for {speaks}:"));
        }
        Ok(match speaks {
            Speaks::Native => Speech::Native(Native::new(frames)),
            Speaks::Gob => Speech::Gob(Box::new(Gob::new(&bodies)?)),
            Speaks::GobHttp => Speech::Gob(Box::new(Gob::new(&bodies)?.behind_http())),
            Speaks::JsonRpc => Speech::JsonRpc(JsonRpc::new(&bodies)),
            Speaks::Http => Speech::Http(Http::new(&bodies, &target.host(), entries)),
        })
    }

    /// Runs the plan in it.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_stand_in_front_of_addresses() {
        for speaks in Speaks::ALL {
            assert_eq!(Speaks::split(&format!("{speaks}:a:1")), (speaks, "a:1"));
            assert_eq!(Speaks::split(&format!("{speaks}:unix:/a b")), (speaks, "unix:/a b"));
            // A host of that name.
            assert_eq!(Speaks::split(&format!("{speaks}:1")), (Speaks::Native, &*format!("{speaks}:1")));
        }
        assert_eq!(Speaks::split("http://a:1/"), (Speaks::Http, "a:1"));
        assert_eq!(Speaks::split("a:1"), (Speaks::Native, "a:1"));
    }
}
