//! What a dial needs for TLS: the client's settings, the name of the server, and the protocols that it is offered.

#[cfg(feature = "tls-core")]
use super::stream::TlsTransport;
#[cfg(feature = "tls-core")]
pub use super::tls::TlsClient;
#[cfg(feature = "tls-core")]
use super::tls::{Socket, TlsStream};
use super::{Address, Transport};

/// The TLS of a client: there is none in a build without it.
#[cfg(not(feature = "tls-core"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsClient {}

/// The TLS of one dial.
#[derive(Clone, Debug)]
pub struct TlsDial {
    client: TlsClient,
    #[cfg_attr(not(feature = "tls-core"), allow(dead_code))]
    host: Option<String>,
    #[cfg_attr(not(feature = "tls-core"), allow(dead_code))]
    alpn: &'static [&'static [u8]],
}

impl TlsDial {
    /// Prepares TLS with the server at an address, which is offered these protocols (ALPN).
    #[cfg_attr(not(feature = "tls-core"), allow(unused_variables))]
    pub(crate) fn new(client: &TlsClient, address: &Address, alpn: &'static [&'static [u8]]) -> TlsDial {
        let host = match address {
            Address::Tcp(text) => text.rsplit_once(':').map(|(host, _)| host.to_owned()),
            Address::Unix(_) | Address::Memory(_) => None,
        };
        TlsDial { client: client.clone(), host, alpn }
    }

    #[cfg(feature = "tls-core")]
    pub(super) fn begin<S: Socket>(&self, socket: S) -> std::io::Result<TlsStream<S>> {
        self.client
            .secure(socket, self.host.as_deref(), self.alpn)
            .map_err(crate::tls::TlsFailure::into_error)
    }

    /// Adds TLS to a connection; its handshake begins.
    #[cfg(feature = "tls-core")]
    pub(crate) fn secure(&self, stream: Transport) -> std::io::Result<Transport> {
        Ok(Transport::Tls(Box::new(TlsTransport(self.begin(stream)?))))
    }

    #[cfg(not(feature = "tls-core"))]
    pub(crate) fn secure(&self, stream: Transport) -> std::io::Result<Transport> {
        self.unreachable(stream)
    }

    #[cfg(not(feature = "tls-core"))]
    pub(super) fn unreachable<T, U>(&self, _stream: T) -> U {
        match self.client {}
    }
}
