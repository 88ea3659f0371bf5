//! Calls that proxies have forwarded over HTTP: their peer is the client that a field names, not the proxy.
//!
//! Without `http.forwarded_from` there is nothing of this. With it every method is observed, so that its calls leave the fast
//! path, and only there the fields are looked at.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Cx, Dispatcher};
use crate::config::{Config, ForwardedField, Networks};
use crate::context::Peer;
use crate::extensions::{CallExtensions, Extensions};
use crate::message::{Metadata, Request};

/// Which proxies are believed, and which field they write.
#[derive(Debug)]
pub(in crate::server) struct Forwarding {
    proxies: Networks,
    field: ForwardedField,
}

/// The peer of a call that a proxy has forwarded; attached to it.
struct ForwardedPeer(Peer);

impl Forwarding {
    /// Returns what the configuration says; `None` if no proxy is believed.
    pub(in crate::server) fn of(config: &Config) -> Option<Arc<Forwarding>> {
        if config.http.forwarded_from.is_empty() {
            return None;
        }
        let proxies = Networks::new(&config.http.forwarded_from);
        Some(Arc::new(Forwarding { proxies, field: config.http.forwarded_field }))
    }

    /// Returns the client that the metadata of a request name.
    fn client(&self, metadata: Metadata<'_>) -> Option<SocketAddr> {
        let name = match self.field {
            ForwardedField::XForwardedFor => "x-forwarded-for",
            ForwardedField::Forwarded => "forwarded",
        };
        let values: Vec<&[u8]> =
            metadata.iter().filter(|(key, _)| *key == name).map(|(_, value)| value).collect();
        client(self.field, &values, &self.proxies)
    }
}

#[cfg(any(feature = "http", feature = "grpc"))]
fn client(field: ForwardedField, values: &[&[u8]], proxies: &Networks) -> Option<SocketAddr> {
    crate::wire::forwarded::client(field, values.iter().copied(), |ip| proxies.contains(ip))
}

/// No other protocol has such fields.
#[cfg(not(any(feature = "http", feature = "grpc")))]
fn client(_: ForwardedField, _: &[&[u8]], _: &Networks) -> Option<SocketAddr> {
    None
}

impl Dispatcher {
    /// Returns whether the peer of a connection is a proxy whose fields are believed.
    pub(super) fn is_from_proxy(&self, cx: &Cx<'_>) -> bool {
        let Some(forwarding) = &self.forwarding else { return false };
        let protocol = cx.protocol().id().map_or("", |protocol| protocol.name());
        matches!(protocol, "http" | "grpc") && forwarding.proxies.contains_peer(cx.peer())
    }

    /// Calls `f` while the peer is the client of the request, if a proxy has forwarded that.
    pub(super) fn with_client(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        f: impl FnOnce(&mut Dispatcher, &mut Cx<'_>),
    ) {
        if !self.is_from_proxy(cx) {
            return f(self, cx);
        }
        let own = cx.peer();
        let client = self
            .forwarding
            .as_ref()
            .and_then(|forwarding| forwarding.client(Metadata::checked_before(cx.bytes(request.metadata))));
        let peer = client.map_or(own, |client| own.at(client));
        self.attached.forwarded = Some(peer);
        cx.set_peer(peer);
        f(self, cx);
        cx.set_peer(own);
        self.attached.forwarded = None;
    }

    /// Attaches the peer to the call that is being dispatched, if a proxy has forwarded it: it may end when its connection,
    /// whose peer is the proxy, is all that is known of it otherwise.
    pub(super) fn attach_client(&mut self) {
        if let Some(peer) = self.attached.forwarded {
            self.attached.attach_value(ForwardedPeer(peer));
        }
    }
}

/// Returns the peer of a call: the one that a proxy has named, or that of its connection.
pub(super) fn peer_of(extensions: Option<&CallExtensions>, of_connection: Peer) -> Peer {
    let forwarded = Extensions::of(extensions).get::<ForwardedPeer>();
    forwarded.map_or(of_connection, |forwarded| forwarded.0)
}
