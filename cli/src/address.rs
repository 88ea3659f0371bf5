//! Addresses as the command line takes them: `host:port` or `unix:PATH`, with the protocol in front if you like.

use std::fmt;
use std::str::FromStr;

use coreloop::reactor::Address;

/// Protocols that have a name but no client here yet.
const OTHER_SCHEMES: [&str; 3] = ["gob", "jsonrpc", "http"];

/// Where a server listens, to be spoken to natively.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Address);

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let other = OTHER_SCHEMES.iter().find(|scheme| {
            // A host may have the name of a protocol: `http:80` is host and port, `http:a:80` is not.
            let rest = text.strip_prefix(**scheme).and_then(|rest| rest.strip_prefix(':'));
            rest.is_some_and(|rest| rest.contains([':', '/']))
        });
        if let Some(scheme) = other {
            return Err(format!(
                "this version speaks the native protocol only, not {scheme}: leave `{scheme}:` out"
            ));
        }
        let plain = text.strip_prefix("native:").filter(|rest| rest.contains(':')).unwrap_or(text);
        plain.parse().map(Target).map_err(|error: coreloop::reactor::AddressError| error.to_string())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_say_that_it_is_native() {
        for (text, plain) in [
            ("localhost:1", "localhost:1"),
            ("native:localhost:1", "localhost:1"),
            ("native:[::1]:2", "[::1]:2"),
            ("unix:/a b", "unix:/a b"),
            ("native:unix:/a", "unix:/a"),
            ("http:80", "http:80"),
            ("native:80", "native:80"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), plain);
        }
    }

    #[test]
    fn other_protocols_are_known_and_refused() {
        for text in ["gob:a:1", "jsonrpc:unix:/a", "http://a", "http:[::1]:80"] {
            assert!(text.parse::<Target>().unwrap_err().contains("native protocol only"), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_one_is() {
        for text in ["", "a", "a:", ":1", "a:65536", "unix:", "native:"] {
            assert!(text.parse::<Target>().unwrap_err().contains("host:port or unix:PATH"), "{text}");
        }
    }
}
