//! The wire of a client's connection: which protocol it speaks is known from its address.

use crate::message::{JsonDialect, Message, Outgoing};
#[cfg(feature = "http")]
use crate::wire::HttpClient;
#[cfg(feature = "jsonrpc")]
use crate::wire::JsonRpcClient;
#[cfg(feature = "netrpc")]
use crate::wire::NetRpcClient;
use crate::wire::{Decoded, Native, Out, Protocol};

/// A protocol that clients speak, by the name that stands in front of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// coreloop's own frames: `native:`, or nothing.
    #[default]
    Native,
    /// JSON-RPC as Go's net/rpc/jsonrpc speaks it: `jsonrpc:`.
    #[cfg(feature = "jsonrpc")]
    JsonRpc,
    /// HTTP/1.1 with JSON bodies, as the Connect protocol has it: `http:`.
    #[cfg(feature = "http")]
    Http,
    /// Go's net/rpc over gob: `gob:`.
    #[cfg(feature = "netrpc")]
    Gob,
    /// The same behind an HTTP CONNECT, as Go's `rpc.DialHTTP` has it: `gob-http:`.
    #[cfg(feature = "netrpc")]
    GobHttp,
}

/// The number of the JSON codec.
#[cfg(any(feature = "jsonrpc", feature = "http"))]
const JSON: u8 = 2;
/// The number of the gob codec.
#[cfg(feature = "netrpc")]
const GOB: u8 = 3;

impl Scheme {
    /// Every one that this build speaks.
    pub const ALL: &'static [Scheme] = &[
        Scheme::Native,
        #[cfg(feature = "jsonrpc")]
        Scheme::JsonRpc,
        #[cfg(feature = "http")]
        Scheme::Http,
        #[cfg(feature = "netrpc")]
        Scheme::Gob,
        #[cfg(feature = "netrpc")]
        Scheme::GobHttp,
    ];

    /// Whether the protocol has a place for metadata beside a call: native frames have, and HTTP in its header fields.
    /// What Go's net/rpc and net/rpc/jsonrpc send is a method, an argument and a number, and nothing else.
    pub fn carries_metadata(self) -> bool {
        match self {
            Scheme::Native => true,
            #[cfg(feature = "http")]
            Scheme::Http => true,
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => false,
            #[cfg(feature = "netrpc")]
            Scheme::Gob | Scheme::GobHttp => false,
        }
    }

    /// Whether that entry of metadata can travel by the protocol.
    pub fn fits_metadata(self, key: &str, value: &[u8]) -> bool {
        match self {
            #[cfg(feature = "http")]
            Scheme::Http => super::http::fits_field(key, value),
            other => {
                let _ = (key, value);
                other.carries_metadata()
            }
        }
    }

    /// The name, as it stands in front of an address.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Native => "native",
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => "jsonrpc",
            #[cfg(feature = "http")]
            Scheme::Http => "http",
            #[cfg(feature = "netrpc")]
            Scheme::Gob => "gob",
            #[cfg(feature = "netrpc")]
            Scheme::GobHttp => "gob-http",
        }
    }

    /// Parts an address from the protocol in front of it.
    ///
    /// ```
    /// use coreloop::wire::Scheme;
    /// assert_eq!(Scheme::split("native:localhost:1"), (Scheme::Native, "localhost:1"));
    /// // A host may have the name of a protocol.
    /// assert_eq!(Scheme::split("native:80"), (Scheme::Native, "native:80"));
    /// ```
    pub fn split(address: &str) -> (Scheme, &str) {
        for scheme in Scheme::ALL {
            let rest = address.strip_prefix(scheme.name()).and_then(|rest| rest.strip_prefix(':'));
            if let Some(rest) = rest.filter(|rest| rest.contains([':', '/'])) {
                return (*scheme, rest);
            }
        }
        (Scheme::Native, address)
    }

    /// The number of the codec of every body, where the protocol has but one.
    pub fn codec_number(self) -> Option<u8> {
        match self {
            Scheme::Native => None,
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => Some(JSON),
            #[cfg(feature = "http")]
            Scheme::Http => Some(JSON),
            #[cfg(feature = "netrpc")]
            Scheme::Gob | Scheme::GobHttp => Some(GOB),
        }
    }

    /// How the values of its JSON bodies are written.
    pub fn json_dialect(self) -> JsonDialect {
        match self {
            Scheme::Native => JsonDialect::Serde,
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => JsonDialect::GoRpc,
            #[cfg(feature = "http")]
            Scheme::Http => JsonDialect::Connect,
            #[cfg(feature = "netrpc")]
            Scheme::Gob | Scheme::GobHttp => JsonDialect::Serde,
        }
    }

    /// Whether a connection is asked for by an HTTP CONNECT first, by whoever dials
    /// ([`connect`](crate::wire::netrpc::connect)).
    #[cfg(feature = "netrpc")]
    pub fn is_behind_http(self) -> bool {
        self == Scheme::GobHttp
    }

    /// Whether replies come in the order of the calls: a slow call holds up the replies to those behind it, and a server
    /// may close the connection after any reply.
    pub fn has_ordered_replies(self) -> bool {
        match self {
            Scheme::Native => false,
            #[cfg(feature = "http")]
            Scheme::Http => true,
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => false,
            #[cfg(feature = "netrpc")]
            Scheme::Gob | Scheme::GobHttp => false,
        }
    }

    /// Whether it can ask a server for a sign of life.
    pub fn can_ping(self) -> bool {
        self == Scheme::Native
    }
}

/// A client's connection.
#[derive(Debug)]
pub enum ClientProtocol {
    /// The native protocol.
    Native(Native),
    /// JSON-RPC.
    #[cfg(feature = "jsonrpc")]
    JsonRpc(Box<JsonRpcClient>),
    /// HTTP/1.1 with JSON bodies.
    #[cfg(feature = "http")]
    Http(Box<HttpClient>),
    /// Go's net/rpc over gob.
    #[cfg(feature = "netrpc")]
    Gob(Box<NetRpcClient>),
}

impl ClientProtocol {
    /// A connection that has said nothing yet, to that authority (the address without its scheme).
    pub fn new(scheme: Scheme, authority: &str, frame_bytes_max: usize) -> ClientProtocol {
        #[cfg(not(feature = "http"))]
        let _ = authority;
        match scheme {
            Scheme::Native => ClientProtocol::Native(Native::client(frame_bytes_max)),
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => ClientProtocol::JsonRpc(Box::new(JsonRpcClient::new(frame_bytes_max))),
            #[cfg(feature = "http")]
            Scheme::Http => {
                ClientProtocol::Http(Box::new(HttpClient::new(host_of(authority), frame_bytes_max)))
            }
            #[cfg(feature = "netrpc")]
            Scheme::Gob | Scheme::GobHttp => {
                ClientProtocol::Gob(Box::new(NetRpcClient::new(frame_bytes_max)))
            }
        }
    }
}

impl ClientProtocol {
    /// Whether the server still takes calls on this connection, as far as it has said.
    #[inline]
    pub fn takes_calls(&self) -> bool {
        match self {
            #[cfg(feature = "http")]
            ClientProtocol::Http(http) => http.takes_calls(),
            _ => true,
        }
    }
}

/// What a request says of its host: that of a Unix socket is the machine itself.
#[cfg(feature = "http")]
fn host_of(authority: &str) -> String {
    if authority.starts_with("unix:") { "localhost".to_owned() } else { authority.to_owned() }
}

/// Each protocol's answer to the same question.
macro_rules! each {
    ($asks:expr, $wire:ident => $answer:expr) => {
        match $asks {
            ClientProtocol::Native($wire) => $answer,
            #[cfg(feature = "jsonrpc")]
            ClientProtocol::JsonRpc($wire) => $answer,
            #[cfg(feature = "http")]
            ClientProtocol::Http($wire) => $answer,
            #[cfg(feature = "netrpc")]
            ClientProtocol::Gob($wire) => $answer,
        }
    };
}

impl Protocol for ClientProtocol {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    fn decode(&mut self, input: &[u8]) -> Decoded<Message> {
        each!(self, wire => wire.decode(input))
    }

    fn encode(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        each!(self, wire => wire.encode(outgoing, out));
    }

    fn encode_drain(&mut self, out: &mut Out<'_>) {
        each!(self, wire => wire.encode_drain(out));
    }

    fn is_inside_message(&self) -> bool {
        each!(self, wire => wire.is_inside_message())
    }

    fn is_in_head(&self) -> bool {
        each!(self, wire => wire.is_in_head())
    }

    fn aside(&self) -> &[u8] {
        each!(self, wire => wire.aside())
    }

    fn is_caller(&self) -> bool {
        true
    }

    fn on_end(&mut self) -> bool {
        each!(self, wire => wire.on_end())
    }
}
