//! The protocol of a client's connection, chosen by the scheme of the server's address.

#[cfg(any(feature = "jsonrpc", feature = "http", feature = "netrpc"))]
use crate::codec_number::Codec;
use crate::message::{JsonDialect, Message, Outgoing};
#[cfg(feature = "http")]
use crate::wire::HttpClient;
#[cfg(feature = "jsonrpc")]
use crate::wire::JsonRpcClient;
#[cfg(feature = "netrpc")]
use crate::wire::NetRpcClient;
use crate::wire::{NativeClient, Out, Protocol, Received};

/// A protocol that clients speak, named by the scheme of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// coreloop's own frames: `native:`, or no scheme.
    #[default]
    Native,
    /// JSON-RPC as Go's net/rpc/jsonrpc speaks it: `jsonrpc:`.
    #[cfg(feature = "jsonrpc")]
    JsonRpc,
    /// HTTP/1.1 with JSON bodies, as in the Connect protocol: `http:`.
    #[cfg(feature = "http")]
    Http,
    /// Go's net/rpc over gob: `gob:`.
    #[cfg(feature = "netrpc")]
    Gob,
    /// Go's net/rpc over gob after an HTTP CONNECT, as with Go's `rpc.DialHTTP`: `gob-http:`.
    #[cfg(feature = "netrpc")]
    GobHttp,
}

impl Scheme {
    /// The schemes that this build supports.
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

    /// Whether calls carry metadata. Native frames do, and HTTP does in header fields. Go's net/rpc and
    /// net/rpc/jsonrpc send only a method, an argument and a number.
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

    /// Whether the metadata of a reply are the header fields of a response of HTTP.
    pub(crate) fn has_fields(self) -> bool {
        match self {
            #[cfg(feature = "http")]
            Scheme::Http => true,
            Scheme::Native => false,
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => false,
            #[cfg(feature = "netrpc")]
            Scheme::Gob | Scheme::GobHttp => false,
        }
    }

    /// Whether the protocol can carry this metadata entry.
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

    /// Returns the scheme's name, as written in front of an address.
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

    /// Splits an address into its scheme and the rest.
    ///
    /// ```
    /// use coreloop::client::Scheme;
    /// assert_eq!(Scheme::split("native:localhost:1"), (Scheme::Native, "localhost:1"));
    /// // A host name may be equal to a scheme.
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

    /// Splits an address into its scheme, whether it has TLS, and the rest. `+tls` behind the scheme asks for TLS, and
    /// `https` is `http+tls`.
    ///
    /// ```
    /// use coreloop::client::Scheme;
    /// assert_eq!(Scheme::split_tls("native+tls:localhost:1"), (Scheme::Native, true, "localhost:1"));
    /// assert_eq!(Scheme::split_tls("native:localhost:1"), (Scheme::Native, false, "localhost:1"));
    /// ```
    pub fn split_tls(address: &str) -> (Scheme, bool, &str) {
        if let Some((prefix, rest)) = address.split_once(':')
            && rest.contains([':', '/'])
            && let Some(name) = if prefix == "https" { Some("http") } else { prefix.strip_suffix("+tls") }
            && let Some(scheme) = Scheme::ALL.iter().find(|scheme| scheme.name() == name)
        {
            return (*scheme, true, rest);
        }
        let (scheme, rest) = Scheme::split(address);
        (scheme, false, rest)
    }

    /// Returns the ids of the protocol that a server is offered over TLS (ALPN).
    pub(crate) fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Scheme::Native => &[b"coreloop"],
            #[cfg(feature = "http")]
            Scheme::Http => &[b"http/1.1"],
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => &[],
            #[cfg(feature = "netrpc")]
            Scheme::Gob => &[],
            // The connection begins with a request of HTTP.
            #[cfg(feature = "netrpc")]
            Scheme::GobHttp => &[b"http/1.1"],
        }
    }

    /// Returns the number of the codec of all bodies, if the protocol has only one codec.
    pub fn codec_number(self) -> Option<u8> {
        match self {
            Scheme::Native => None,
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => Some(Codec::Json.number()),
            #[cfg(feature = "http")]
            Scheme::Http => Some(Codec::Json.number()),
            #[cfg(feature = "netrpc")]
            Scheme::Gob | Scheme::GobHttp => Some(Codec::Gob.number()),
        }
    }

    /// Returns the form in which values are written in JSON bodies.
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

    /// Whether the dialer sends an HTTP CONNECT first ([`connect`](crate::wire::netrpc::connect)).
    #[cfg(feature = "netrpc")]
    pub fn is_behind_http(self) -> bool {
        self == Scheme::GobHttp
    }

    /// Whether replies arrive in the order of the calls. A slow call then delays the replies to later calls, and a
    /// server may close the connection after any reply.
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

    /// Whether the client can send a ping.
    pub fn can_ping(self) -> bool {
        self == Scheme::Native
    }

    /// Whether the health of a server can be checked by the call of `Health.Check`, with JSON.
    pub(crate) fn can_call_health(self) -> bool {
        match self {
            #[cfg(feature = "http")]
            Scheme::Http => true,
            #[cfg(feature = "jsonrpc")]
            Scheme::JsonRpc => true,
            Scheme::Native => false,
            #[cfg(feature = "netrpc")]
            Scheme::Gob | Scheme::GobHttp => false,
        }
    }
}

/// The protocol of a client's connection.
#[derive(Debug)]
pub enum ClientProtocol {
    /// The native protocol.
    Native(NativeClient),
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
    /// Creates the protocol of a new connection to `authority` (the address without its scheme).
    pub fn new(scheme: Scheme, authority: &str, frame_bytes_max: usize) -> ClientProtocol {
        #[cfg(not(feature = "http"))]
        let _ = authority;
        match scheme {
            Scheme::Native => ClientProtocol::Native(NativeClient::new(frame_bytes_max)),
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
    /// Whether the server still accepts calls on this connection, as far as its replies show.
    #[inline]
    pub fn takes_calls(&self) -> bool {
        match self {
            #[cfg(feature = "http")]
            ClientProtocol::Http(http) => http.takes_calls(),
            _ => true,
        }
    }
}

/// The value of the Host field; for a Unix socket and an in-memory connection it is `localhost`.
#[cfg(feature = "http")]
fn host_of(authority: &str) -> String {
    let has_host = !["unix:", "memory:"].iter().any(|kind| authority.starts_with(kind));
    if has_host { authority.to_owned() } else { "localhost".to_owned() }
}

/// Evaluates an expression for the protocol in use.
macro_rules! each {
    ($protocol:expr, $wire:ident => $answer:expr) => {
        match $protocol {
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

    fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Message> {
        each!(self, wire => wire.receive(input, out))
    }

    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        each!(self, wire => wire.send(outgoing, out));
    }

    fn send_drain(&mut self, out: &mut Out<'_>) {
        each!(self, wire => wire.send_drain(out));
    }

    fn is_inside_message(&self) -> bool {
        each!(self, wire => wire.is_inside_message())
    }

    fn is_in_head(&self) -> bool {
        each!(self, wire => wire.is_in_head())
    }

    fn scratch(&self) -> &[u8] {
        each!(self, wire => wire.scratch())
    }

    fn is_caller(&self) -> bool {
        true
    }

    fn on_end(&mut self) -> bool {
        each!(self, wire => wire.on_end())
    }
}
