//! Addresses on the command line: `host:port` or `unix:PATH`, optionally with a protocol prefix, or the URL of a resolver.

use std::fmt;
use std::str::FromStr;

use coreloop::client::Scheme;
use coreloop::discovery;
use coreloop::reactor::{Address, AddressError};

/// The address of a server, and the protocol to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The protocol. With a resolver URL each server's address names its own; bodies are JSON.
    pub scheme: Scheme,
    /// Whether the connection has TLS (`native+tls:`, `https:`).
    pub is_secured: bool,
    address: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    One(Address),
    /// All servers that a resolver names, by its URL.
    Fleet(String),
}

impl Target {
    /// Returns whether it is the URL of a resolver.
    pub fn is_fleet(&self) -> bool {
        matches!(self.address, Place::Fleet(_))
    }

    /// Returns the address without the protocol.
    pub fn plain(&self) -> String {
        match &self.address {
            Place::One(address) => address.to_string(),
            Place::Fleet(url) => url.clone(),
        }
    }
}

/// Returns whether a text is the URL of a resolver and not an address behind the name of a protocol.
fn is_resolver_url(text: &str) -> bool {
    let scheme = discovery::Target::scheme_of(text);
    scheme.is_some_and(|scheme| {
        let protocol = scheme.strip_suffix("+tls").unwrap_or(scheme);
        scheme != "https" && Scheme::ALL.iter().all(|other| other.name() != protocol)
    })
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        if is_resolver_url(text) {
            let url = discovery::Target::parse(text).map_err(|error| error.to_string())?;
            return Ok(Target {
                scheme: Scheme::Native,
                is_secured: false,
                address: Place::Fleet(url.to_string()),
            });
        }
        let (scheme, is_secured, plain) = Scheme::split_tls(text);
        // The form that browsers and other programs use.
        let plain = plain.strip_prefix("//").map_or(plain, |rest| rest.trim_end_matches('/'));
        let address = plain.parse().map_err(|error: AddressError| error.to_string())?;
        Ok(Target { scheme, is_secured, address: Place::One(address) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Place::One(address) => {
                write!(f, "{}{}:{address}", self.scheme.name(), if self.is_secured { "+tls" } else { "" })
            }
            Place::Fleet(url) => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_protocol_prefix() {
        for (text, whole) in [
            ("localhost:1", "native:localhost:1"),
            ("native:localhost:1", "native:localhost:1"),
            ("native:[::1]:2", "native:[::1]:2"),
            ("unix:/a b", "native:unix:/a b"),
            ("native:unix:/a", "native:unix:/a"),
            ("http:80", "native:http:80"),
            ("native:80", "native:native:80"),
            ("http:[::1]:80", "http:[::1]:80"),
            ("http://localhost:80/", "http:localhost:80"),
            ("jsonrpc:unix:/a", "jsonrpc:unix:/a"),
            ("native+tls:a:1", "native+tls:a:1"),
            ("https://localhost:80/", "http+tls:localhost:80"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn a_resolver_url_stays_as_it_is() {
        for url in ["static:a:1,b:2", "consul://127.0.0.1:8500/orders?zone=a", "file:///etc/orders"] {
            let target: Target = url.parse().unwrap();
            assert!(target.is_fleet(), "{url}");
            assert_eq!((target.scheme, target.to_string().as_str()), (Scheme::Native, url));
        }
        assert!(!"http://localhost:80/".parse::<Target>().unwrap().is_fleet());
        assert!("consul://a/b?=c".parse::<Target>().unwrap_err().contains("KEY=VALUE"));
    }

    #[test]
    fn every_protocol_is_accepted_as_a_prefix() {
        for scheme in Scheme::ALL {
            let target: Target = format!("{}:a:1", scheme.name()).parse().unwrap();
            assert_eq!((target.scheme, target.plain().as_str()), (*scheme, "a:1"));
        }
    }

    #[test]
    fn an_invalid_address_names_the_valid_forms() {
        for text in ["", "a", "a:", ":1", "a:65536", "unix:", "native:", "http://a", "jsonrpc:a:"] {
            assert!(
                text.parse::<Target>().unwrap_err().contains("host:port, unix:PATH or memory:NAME"),
                "{text}"
            );
        }
    }
}
