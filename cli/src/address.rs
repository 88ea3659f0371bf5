//! Addresses on the command line: `host:port` or `unix:PATH`, optionally with a protocol prefix.

use std::fmt;
use std::str::FromStr;

use coreloop::client::Scheme;
use coreloop::reactor::{Address, AddressError};

/// The address of a server, and the protocol to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The protocol.
    pub scheme: Scheme,
    address: Address,
}

impl Target {
    /// Returns the address without the protocol.
    pub fn plain(&self) -> String {
        self.address.to_string()
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let (scheme, plain) = Scheme::split(text);
        // The form that browsers and other programs use.
        let plain = plain.strip_prefix("//").map_or(plain, |rest| rest.trim_end_matches('/'));
        let address = plain.parse().map_err(|error: AddressError| error.to_string())?;
        Ok(Target { scheme, address })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme.name(), self.address)
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
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), whole);
        }
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
