//! Addresses as the command line takes them: `host:port` or `unix:PATH`, with the protocol in front if you like.

use std::fmt;
use std::str::FromStr;

use coreloop::reactor::{Address, AddressError};
use coreloop::wire::Scheme;

/// Where a server listens, and what it is spoken to in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The protocol.
    pub scheme: Scheme,
    address: Address,
}

impl Target {
    /// The address without the protocol.
    pub fn plain(&self) -> String {
        self.address.to_string()
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let (scheme, plain) = Scheme::split(text);
        // As browsers and other programs write it.
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
    fn an_address_may_say_in_what_it_is_spoken_to() {
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
    fn every_protocol_that_is_spoken_stands_in_front() {
        for scheme in Scheme::ALL {
            let target: Target = format!("{}:a:1", scheme.name()).parse().unwrap();
            assert_eq!((target.scheme, target.plain().as_str()), (*scheme, "a:1"));
        }
    }

    #[test]
    fn what_is_no_address_says_what_one_is() {
        for text in ["", "a", "a:", ":1", "a:65536", "unix:", "native:", "http://a", "jsonrpc:a:"] {
            assert!(text.parse::<Target>().unwrap_err().contains("host:port or unix:PATH"), "{text}");
        }
    }
}
