//! Addresses as callers give them, and why a client cannot be built.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::config::ClientConfigError;
use crate::discovery::DiscoveryError;
use crate::policy::fleet::FleetConfigError;
use crate::reactor::{Address, AddressError};
#[cfg(feature = "tls-core")]
use crate::transport::ClientTlsError;
use crate::wire::Scheme;

mod sealed {
    /// Keeps the trait to the types of this crate's choice.
    pub trait Sealed {}
}

/// The address of a server: text with an optional scheme (`host:port`, `unix:PATH`, `memory:NAME`, `http:host:port`), a
/// socket address, a host and a port, or what [`Server::addresses`](crate::Server::addresses) returns.
///
/// ```
/// use std::net::{Ipv6Addr, SocketAddr};
/// use coreloop::client::ToAddress;
///
/// assert_eq!("http:localhost:80".to_address(), "http:localhost:80");
/// assert_eq!(("localhost", 80).to_address(), "localhost:80");
/// assert_eq!((Ipv6Addr::LOCALHOST, 80).to_address(), "[::1]:80");
/// assert_eq!(SocketAddr::from(([127, 0, 0, 1], 80)).to_address(), "127.0.0.1:80");
/// ```
pub trait ToAddress: sealed::Sealed {
    /// Returns the address as text.
    fn to_address(&self) -> String;
}

macro_rules! addresses {
    ($($type:ty, $self:ident => $text:expr;)*) => {
        $(
            impl sealed::Sealed for $type {}

            impl ToAddress for $type {
                fn to_address(&$self) -> String {
                    $text
                }
            }
        )*
    };
}

addresses! {
    str, self => self.to_owned();
    String, self => self.clone();
    SocketAddr, self => self.to_string();
    Address, self => self.to_string();
    (&str, u16), self => host_and_port(self.0, self.1);
    (String, u16), self => host_and_port(&self.0, self.1);
    (IpAddr, u16), self => SocketAddr::from(*self).to_string();
    (std::net::Ipv4Addr, u16), self => SocketAddr::from(*self).to_string();
    (std::net::Ipv6Addr, u16), self => SocketAddr::from(*self).to_string();
}

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {}

impl<T: ToAddress + ?Sized> ToAddress for &T {
    fn to_address(&self) -> String {
        T::to_address(self)
    }
}

/// Writes a host and a port; an IPv6 address is put in brackets.
fn host_and_port(host: &str, port: u16) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Why a client cannot be built: its configuration is wrong, or the system has no thread for it. No call was made.
#[non_exhaustive]
pub enum BuildError {
    /// An address is not valid.
    Address(AddressError),
    /// A limit is out of range.
    Config(ClientConfigError),
    /// The addresses of one client name two protocols.
    Protocols {
        /// The protocol of the first address.
        first: Scheme,
        /// Another one.
        other: Scheme,
    },
    /// The address names a protocol that this client does not speak.
    OnlyNative {
        /// The protocol of the address.
        scheme: Scheme,
    },
    /// A setting of the client's fleet is not valid.
    Fleet(FleetConfigError),
    /// The address is the URL of a resolver, which cannot begin.
    Discovery(DiscoveryError),
    /// The thread of the client could not be started.
    Thread(io::Error),
    /// The TLS settings cannot be used.
    #[cfg(feature = "tls-core")]
    Tls(ClientTlsError),
    /// There are TLS settings, or some addresses of the client have TLS, and this one has none.
    WithoutTls {
        /// The address.
        address: String,
    },
    /// The address asks for TLS, and this build has none (feature `tls`).
    #[cfg(not(feature = "tls-core"))]
    TlsNotCompiledIn {
        /// The address.
        address: String,
    },
}

crate::error_text::debug_as_text!(BuildError);

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Address(error) => error.fmt(f),
            BuildError::Config(error) => error.fmt(f),
            BuildError::Protocols { first, other } => write!(
                f,
                "all addresses of a client must use one protocol; found {} and {}",
                first.name(),
                other.name()
            ),
            BuildError::OnlyNative { scheme } => {
                write!(f, "expected an address without a prefix or with native:; found {}:", scheme.name())
            }
            BuildError::Fleet(error) => error.fmt(f),
            BuildError::Discovery(error) => error.fmt(f),
            #[cfg(feature = "tls-core")]
            BuildError::Tls(error) => error.fmt(f),
            BuildError::WithoutTls { address } => write!(
                f,
                "expected an address with TLS (`native+tls:`, `https:`), as the settings or the other addresses of the \
                 client have it; found {address}"
            ),
            #[cfg(not(feature = "tls-core"))]
            BuildError::TlsNotCompiledIn { address } => {
                write!(f, "{address} asks for TLS, which is not compiled in (feature `tls`)")
            }
            BuildError::Thread(error) => write!(f, "the thread of the client cannot be started: {error}"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BuildError::Thread(error) => Some(error),
            BuildError::Discovery(error) => error.source(),
            #[cfg(feature = "tls-core")]
            BuildError::Tls(_) => None,
            #[cfg(not(feature = "tls-core"))]
            BuildError::TlsNotCompiledIn { .. } => None,
            // The text is this error's own.
            BuildError::Address(_)
            | BuildError::Config(_)
            | BuildError::Fleet(_)
            | BuildError::Protocols { .. }
            | BuildError::WithoutTls { .. }
            | BuildError::OnlyNative { .. } => None,
        }
    }
}

impl From<AddressError> for BuildError {
    fn from(error: AddressError) -> BuildError {
        BuildError::Address(error)
    }
}

#[cfg(feature = "tls-core")]
impl From<ClientTlsError> for BuildError {
    fn from(error: ClientTlsError) -> BuildError {
        BuildError::Tls(error)
    }
}

impl From<FleetConfigError> for BuildError {
    fn from(error: FleetConfigError) -> BuildError {
        BuildError::Fleet(error)
    }
}

impl From<DiscoveryError> for BuildError {
    fn from(error: DiscoveryError) -> BuildError {
        BuildError::Discovery(error)
    }
}

impl From<ClientConfigError> for BuildError {
    fn from(error: ClientConfigError) -> BuildError {
        BuildError::Config(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_kinds_become_text() {
        let address: Address = "unix:/tmp/a.sock".parse().unwrap();
        let text = String::from("gob:a:1");
        for (found, expected) in [
            (address.to_address(), "unix:/tmp/a.sock"),
            (address.to_address(), "unix:/tmp/a.sock"),
            (text.to_address(), "gob:a:1"),
            ((&&*text).to_address(), "gob:a:1"),
            (("::1", 7).to_address(), "[::1]:7"),
            (("a.example".to_owned(), 7).to_address(), "a.example:7"),
            ((IpAddr::from([10, 0, 0, 1]), 7).to_address(), "10.0.0.1:7"),
        ] {
            assert_eq!(found, expected);
        }
    }
}
