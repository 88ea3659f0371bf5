//! The protocols of a server's connections: the table of those of this crate, and the enum made from it. Those that a
//! program adds are in `added.rs`.

use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "grpc")]
use super::GrpcServer;
#[cfg(feature = "http")]
use super::Http;
#[cfg(feature = "jsonrpc")]
use super::JsonRpc;
#[cfg(feature = "netrpc")]
use super::NetRpc;
use super::added::FoundAdded;
use super::sniff::{Sniffed, sniff};
use super::{Broken, DrainNotice, NativeServer, Out, Protocol, Received, ServerContext, StreamSupport};
use crate::config::Limits;
use crate::message::{Message, Outgoing, OutgoingReply, SendBody};

/// Defines the protocols: for each its name in [`ProtocolId`], the feature that compiles it, the name in configuration
/// and counters, the first bytes of a connection (no entry of any row is the start of another), the type of the server's
/// end, and how that is made.
macro_rules! protocols {
    ($(
        $(#[doc = $docs:literal])*
        $id:ident if $feature:meta, $name:literal, [$($start:literal),*], $end:ty, $make:expr;
    )*) => {
        /// A protocol that is recognized by its first bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ProtocolId {
            $($(#[doc = $docs])* $id,)*
            /// TLS: a handshake record, `16 03`. The transport serves it; where it does not, the operator sees its name.
            Tls,
            /// A protocol that the program has added ([`AddedProtocol`](crate::wire::AddedProtocol)).
            Added,
        }

        impl ProtocolId {
            /// The protocols of this crate, served or not.
            pub const ALL: &'static [ProtocolId] = &[$(ProtocolId::$id,)*];

            /// Returns the name used in configuration and counters.
            pub fn name(self) -> &'static str {
                match self {
                    $(ProtocolId::$id => $name,)*
                    ProtocolId::Tls => "tls",
                    ProtocolId::Added => "added",
                }
            }
        }

        impl ProtocolId {
            /// Returns the id by which the protocol is negotiated over TLS (ALPN), if it has one.
            pub fn alpn(self) -> Option<&'static str> {
                match self {
                    ProtocolId::Native => Some("coreloop"),
                    ProtocolId::Http => Some("http/1.1"),
                    ProtocolId::Grpc => Some("h2"),
                    ProtocolId::JsonRpc | ProtocolId::NetRpc | ProtocolId::Tls | ProtocolId::Added => None,
                }
            }
        }

        /// First bytes, and the protocol they announce.
        pub(super) const STARTS: &[(&[u8], ProtocolId)] =
            &[$($(($start, ProtocolId::$id),)*)* (b"\x16\x03", ProtocolId::Tls)];

        impl ProtocolSet {
            /// The protocols that this build serves.
            pub const SERVED: ProtocolSet = ProtocolSet(
                1 << ProtocolId::Added as u8 $(| (cfg!($feature) as u16) << ProtocolId::$id as u8)*
            );
        }

        /// The protocol of a server's connection: undecided until its first bytes arrive, then fixed.
        // With a representation the tag is a byte of its own. Otherwise it is in the niche of a field, and each `match`
        // takes five more instructions; every call has several.
        #[derive(Debug)]
        #[repr(u8)]
        pub enum ServerProtocol {
            /// Too few bytes to recognize the protocol.
            Sniffing {
                /// The protocols that the listener allows.
                allowed: ProtocolSet,
                /// What all connections of the server share.
                side: Arc<ServerContext>,
            },
            $(
                $(#[doc = $docs])*
                #[cfg($feature)]
                $id($end),
            )*
            /// A protocol that the program has added.
            Added(Box<dyn super::added::ServerEnd>),
        }

        impl ServerProtocol {
            /// Returns the protocol, once it is known.
            pub fn id(&self) -> Option<ProtocolId> {
                match self {
                    ServerProtocol::Sniffing { .. } => None,
                    $(#[cfg($feature)] ServerProtocol::$id(_) => Some(ProtocolId::$id),)*
                    ServerProtocol::Added(_) => Some(ProtocolId::Added),
                }
            }

            /// Creates the server's end of a protocol of this crate, if it is compiled in.
            fn make(id: ProtocolId, side: &Arc<ServerContext>, allowed: ProtocolSet) -> Option<ServerProtocol> {
                match id {
                    $(#[cfg($feature)] ProtocolId::$id => {
                        let make: fn(&Arc<ServerContext>, ProtocolSet) -> $end = $make;
                        Some(ServerProtocol::$id(make(side, allowed)))
                    })*
                    _ => None,
                }
            }
        }

        /// Evaluates an expression for the protocol in use; `$undecided` is the result for an undecided connection.
        macro_rules! each {
            ($protocol:expr, $undecided:expr, $wire:ident => $answer:expr) => {
                match $protocol {
                    ServerProtocol::Sniffing { .. } => $undecided,
                    $(#[cfg($feature)] ServerProtocol::$id($wire) => $answer,)*
                    ServerProtocol::Added($wire) => $answer,
                }
            };
        }
    };
}

protocols! {
    /// coreloop's own frames: `19 96`.
    Native if all(), "native", [b"\x19\x96"], NativeServer,
        |side, _| NativeServer::new(side.limits.frame_bytes_max);
    /// HTTP/1.1 with JSON bodies: a method and a space, also after an empty line or with an unknown method.
    Http if feature = "http", "http",
        [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"PATCH ", b"TRACE ", b"DELETE ", b"OPTIONS ", b"CONNECT "], Http,
        |side, allowed| {
            // If gob is not allowed, CONNECT does not grant it either.
            let grants_go_rpc = cfg!(feature = "netrpc") && allowed.contains(ProtocolId::NetRpc);
            Http::server(side.clone()).granting_go_rpc(grants_go_rpc)
        };
    /// JSON-RPC: `{` or `[`.
    JsonRpc if feature = "jsonrpc", "jsonrpc", [b"{", b"["], Box<JsonRpc>,
        |side, _| Box::new(JsonRpc::server(side.clone()));
    /// Go's net/rpc: gob's definition of a type, which `sniff` recognizes by its structure.
    NetRpc if feature = "netrpc", "gob", [], Box<NetRpc>, |side, _| Box::new(NetRpc::server(side.clone()));
    /// gRPC over HTTP/2 with prior knowledge: the start of its preface.
    Grpc if feature = "grpc", "grpc", [b"PRI * HTTP/2.0"], GrpcServer, |side, _| GrpcServer::server(side.clone());
}

/// A set of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolSet(u16);

impl ProtocolSet {
    /// Returns the set of one protocol.
    pub fn only(protocol: ProtocolId) -> ProtocolSet {
        ProtocolSet(1 << protocol as u8)
    }

    /// Returns the ids by which the protocols of the set that are compiled in are negotiated over TLS, the preferred first.
    #[cfg(feature = "tls-core")]
    pub(crate) fn alpn(self) -> Vec<Vec<u8>> {
        // Clients of gRPC offer HTTP/2 alone. Those that offer both expect that everything is served over either, and over
        // HTTP/2 only gRPC and pages are.
        let preferred = [ProtocolId::Native, ProtocolId::Http, ProtocolId::Grpc];
        let served =
            preferred.into_iter().filter(|id| self.contains(*id) && ProtocolSet::SERVED.contains(*id));
        served.filter_map(|id| id.alpn().map(|name| name.as_bytes().to_vec())).collect()
    }

    /// Whether the protocol is in the set.
    pub fn contains(self, protocol: ProtocolId) -> bool {
        self.0 & (1 << protocol as u8) != 0
    }
}

impl ServerProtocol {
    /// Creates the protocol of a connection that has received no bytes.
    pub fn undecided(allowed: ProtocolSet, side: Arc<ServerContext>) -> ServerProtocol {
        ServerProtocol::Sniffing { allowed, side }
    }

    /// Apart from the path of a message, which would save registers for it each time.
    #[cold]
    #[inline(never)]
    fn decide(&mut self, input: &[u8]) -> Received<Message> {
        let ServerProtocol::Sniffing { allowed, side } = self else {
            unreachable!("only an undecided connection decides")
        };
        if allowed.contains(ProtocolId::Added) {
            match side.added.find(input) {
                FoundAdded::None => {}
                FoundAdded::NeedMore => return Received::NeedMore { bytes_min: input.len() + 1 },
                FoundAdded::Is(added) => {
                    side.connections.begin(ProtocolId::Added);
                    *self = ServerProtocol::Added(added.make(side));
                    return Received::Skip { consumed: 0 };
                }
            }
        }
        let protocol = match sniff(input) {
            // If only HTTP is expected, bytes of no known protocol are a malformed request, and get an answer.
            Sniffed::Unknown if *allowed == ProtocolSet::only(ProtocolId::Http) => ProtocolId::Http,
            Sniffed::NeedMore => return Received::NeedMore { bytes_min: input.len() + 1 },
            Sniffed::Unknown => return Received::Broken(Broken::UnknownProtocol),
            // HTTP answers that it does not speak this version.
            Sniffed::Is(ProtocolId::Grpc)
                if !allowed.contains(ProtocolId::Grpc) && allowed.contains(ProtocolId::Http) =>
            {
                ProtocolId::Http
            }
            Sniffed::Is(protocol) => protocol,
        };
        if !allowed.contains(protocol) {
            return Received::Broken(Broken::NotSpoken(protocol.name()));
        }
        let Some(decided) = ServerProtocol::make(protocol, side, *allowed) else {
            return Received::Broken(Broken::NotSpoken(protocol.name()));
        };
        side.connections.begin(protocol);
        *self = decided;
        Received::Skip { consumed: 0 }
    }

    /// Continues with net/rpc a connection that HTTP has granted to it.
    #[cfg(all(feature = "http", feature = "netrpc"))]
    #[cold]
    #[inline(never)]
    fn become_go_rpc(&mut self) {
        if let ServerProtocol::Http(http) = self {
            let side = http.side().clone();
            side.connections.end(ProtocolId::Http);
            side.connections.begin(ProtocolId::NetRpc);
            *self = ServerProtocol::NetRpc(Box::new(NetRpc::server(side)));
        }
    }

    #[inline(never)]
    fn send_other(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        // An undecided connection has received no request, so there is nothing to answer: this is a notice, which has
        // no form yet.
        each!(self, (), wire => wire.send(outgoing, out));
    }
}

/// Returns the same message in a place of its own. What is passed by reference is stored in memory wherever it is made,
/// also for the native protocol, which needs it in registers only.
#[inline(always)]
fn rebuilt(outgoing: Outgoing<'_>) -> Outgoing<'_> {
    match outgoing {
        Outgoing::Reply(reply) => {
            let OutgoingReply { id, codec, compressed, code, queue_us, handler_us, extras, body } = reply;
            #[allow(clippy::needless_match, reason = "the same value, in another place")]
            let body = match body {
                SendBody::Bytes(bytes) => SendBody::Bytes(bytes),
                SendBody::Chunk(chunk) => SendBody::Chunk(chunk),
            };
            Outgoing::Reply(OutgoingReply { id, codec, compressed, code, queue_us, handler_us, extras, body })
        }
        other => other,
    }
}

impl Protocol for ServerProtocol {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    #[inline(always)]
    fn try_fast_receive(&mut self, input: &[u8]) -> Option<(Message, usize)> {
        match self {
            ServerProtocol::Native(native) => native.try_fast_receive(input),
            _ => None,
        }
    }

    /// Inlined into the read loop, without the `receive` of any protocol: those are `inline(never)`, since the stack
    /// frame and the saved registers of one would be a cost of the calls of all.
    #[inline(always)]
    fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Message> {
        #[cfg(all(feature = "http", feature = "netrpc"))]
        if let ServerProtocol::Http(http) = self
            && http.becomes_go_rpc()
            && http.held_bytes() == 0
        {
            // The answer that grants it is written; this byte is the first of the other protocol.
            self.become_go_rpc();
        }
        each!(self, self.decide(input), wire => wire.receive(input, out))
    }

    #[inline(always)]
    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        match self {
            ServerProtocol::Native(native) => native.send(outgoing, out),
            other => other.send_other(rebuilt(outgoing), out),
        }
    }

    #[cold]
    fn on_negotiated(&mut self, alpn: &[u8]) {
        let ServerProtocol::Sniffing { allowed, side } = self else { return };
        let named = |id: &&ProtocolId| id.alpn().is_some_and(|name| name.as_bytes() == alpn);
        let Some(id) = ProtocolId::ALL.iter().find(named) else { return };
        if let Some(decided) = ServerProtocol::make(*id, side, *allowed) {
            side.connections.begin(*id);
            *self = decided;
        }
    }

    fn send_drain(&mut self, out: &mut Out<'_>) {
        each!(self, (), wire => wire.send_drain(out));
    }

    fn send_last(&mut self, out: &mut Out<'_>) {
        each!(self, (), wire => wire.send_last(out));
    }

    #[inline(always)]
    fn on_time(&mut self, now: Instant, limits: &Limits, out: &mut Out<'_>) {
        match self {
            #[cfg(feature = "grpc")]
            ServerProtocol::Grpc(grpc) => grpc.on_time(now, limits, out),
            ServerProtocol::Added(added) => added.on_time(now, limits, out),
            _ => {}
        }
    }

    #[inline]
    fn next_time(&self) -> Option<Instant> {
        match self {
            #[cfg(feature = "grpc")]
            ServerProtocol::Grpc(grpc) => grpc.next_time(),
            ServerProtocol::Added(added) => added.next_time(),
            _ => None,
        }
    }

    fn send_late(&mut self, out: &mut Out<'_>) {
        each!(self, (), wire => wire.send_late(out));
    }

    fn is_inside_message(&self) -> bool {
        each!(self, false, wire => wire.is_inside_message())
    }

    fn is_in_head(&self) -> bool {
        each!(self, false, wire => wire.is_in_head())
    }

    #[inline]
    fn scratch(&self) -> &[u8] {
        each!(self, &[], wire => wire.scratch())
    }

    #[inline(always)]
    fn held_bytes(&self) -> usize {
        match self {
            #[cfg(feature = "http")]
            ServerProtocol::Http(http) => http.held_bytes(),
            ServerProtocol::Added(added) => added.held_bytes(),
            _ => 0,
        }
    }

    fn on_end(&mut self) -> bool {
        each!(self, false, wire => wire.on_end())
    }

    fn is_end_of_reading(&self) -> bool {
        each!(self, false, wire => wire.is_end_of_reading())
    }

    fn drain_notice(&self) -> DrainNotice {
        each!(self, DrainNotice::Message, wire => wire.drain_notice())
    }

    fn is_lingering(&self) -> bool {
        each!(self, false, wire => wire.is_lingering())
    }

    fn is_decided(&self) -> bool {
        !matches!(self, ServerProtocol::Sniffing { .. })
    }

    /// Only native frames are received out of turn: HTTP/1.1 answers in the order of the requests, JSON-RPC and net/rpc
    /// state no deadlines, and HTTP/2 has its own limit of streams.
    fn waits_unread(&self, input: &[u8]) -> bool {
        match self {
            ServerProtocol::Native(native) => native.waits_unread(input),
            _ => true,
        }
    }

    fn stream_support(&self) -> StreamSupport {
        each!(self, StreamSupport::Unary, wire => wire.stream_support())
    }

    fn has_ended(&self) -> bool {
        each!(self, false, wire => wire.has_ended())
    }
}
