//! The URLs of DNS: `dns://SERVER:PORT/NAME:PORT?KEY=VALUE`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::agent::dns::NameConfig;
use crate::discovery::parameters::duration;
use crate::discovery::target::{Target, TargetError};
use crate::wire::Scheme;

/// The port of name servers.
const DNS_PORT: u16 = 53;
/// The bounds of `timeout` and `attempts`.
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
const ATTEMPTS: (u64, u64) = (1, 10);

/// A parsed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DnsTarget {
    pub(super) name: String,
    /// The port of every instance; `None` if the records of the service say it.
    pub(super) port: Option<u16>,
    /// The scheme of the instances' addresses.
    pub(super) scheme: Option<String>,
    server: Option<SocketAddr>,
    timeout: Option<Duration>,
    attempts: Option<u32>,
}

impl DnsTarget {
    pub(super) fn parse(target: &Target) -> Result<DnsTarget, TargetError> {
        let error = |expected: &str| TargetError { url: target.to_string(), expected: expected.to_owned() };
        let server = match target.authority() {
            "" => None,
            authority => Some(server_of(authority).ok_or_else(|| {
                error("the IP address of a name server after dns://, with or without a port, or nothing")
            })?),
        };
        let mut parsed = DnsTarget {
            name: String::new(),
            port: None,
            scheme: None,
            server,
            timeout: None,
            attempts: None,
        };
        let mut is_service = target.path().starts_with('_');
        for (key, value) in target.parameters() {
            match key {
                "srv" if matches!(value, "" | "true") => is_service = true,
                "srv" if value == "false" => is_service = false,
                "srv" => return Err(error("srv without a value, or srv=false")),
                "scheme" if Scheme::ALL.iter().any(|scheme| scheme.name() == value) => {
                    parsed.scheme = Some(value.to_owned());
                }
                "scheme" => {
                    let names: Vec<&str> = Scheme::ALL.iter().map(|scheme| scheme.name()).collect();
                    return Err(error(&format!("a scheme of {}", names.join(", "))));
                }
                "timeout" => {
                    let timeout = duration(target, key, TIMEOUT_MAX, TIMEOUT_MIN, TIMEOUT_MAX)?;
                    parsed.timeout = Some(timeout);
                }
                "attempts" => {
                    let attempts = number(value, ATTEMPTS).ok_or_else(|| {
                        let (min, max) = ATTEMPTS;
                        error(&format!("attempts from {min} to {max}"))
                    })?;
                    parsed.attempts = Some(attempts as u32);
                }
                _ => {
                    let known = "parameters among srv, scheme, timeout and attempts";
                    return Err(error(&format!("{known}, not {key}")));
                }
            }
        }
        let path = target.path();
        let (name, port) = match path.rsplit_once(':') {
            Some((name, port)) if !is_service => {
                let port = number(port, (0, u64::from(u16::MAX))).ok_or_else(|| error("NAME:PORT"))?;
                (name, Some(port as u16))
            }
            None if is_service => (path, None),
            Some(_) => return Err(error("a name of services without a port, as the records have it")),
            None => return Err(error("NAME:PORT, or the name of services that begins with _")),
        };
        if name.is_empty() || name.contains('/') {
            return Err(error("one name after the server"));
        }
        Ok(DnsTarget { name: name.to_owned(), port, ..parsed })
    }

    /// Applies what the URL says to the system's configuration.
    pub(super) fn configure(&self, mut config: NameConfig) -> NameConfig {
        if let Some(server) = self.server {
            config.servers = vec![server];
        }
        config.timeout = self.timeout.unwrap_or(config.timeout);
        config.attempts = self.attempts.unwrap_or(config.attempts);
        config
    }
}

fn number(text: &str, (min, max): (u64, u64)) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && (min..=max).contains(number))
}

fn server_of(authority: &str) -> Option<SocketAddr> {
    let authority = match authority.strip_prefix("localhost") {
        Some(port) => format!("{}{port}", Ipv4Addr::LOCALHOST),
        None => authority.to_owned(),
    };
    if let Ok(server) = authority.parse::<SocketAddr>() {
        return Some(server);
    }
    let ip = authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&authority);
    Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, DNS_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<DnsTarget, String> {
        DnsTarget::parse(&Target::parse(url).unwrap()).map_err(|error| error.expected)
    }

    #[test]
    fn the_parts_of_a_url_are_found() {
        let target = parse("dns:///orders.example:6550").unwrap();
        assert_eq!((target.name.as_str(), target.port, target.server), ("orders.example", Some(6550), None));
        let target = parse("dns://10.0.0.1/orders:80?scheme=native&timeout=500ms&attempts=3").unwrap();
        assert_eq!(target.server, Some("10.0.0.1:53".parse().unwrap()));
        assert_eq!(target.scheme.as_deref(), Some("native"));
        let config = target.configure(NameConfig::default());
        assert_eq!(config.servers, ["10.0.0.1:53".parse().unwrap()]);
        assert_eq!((config.timeout, config.attempts), (Duration::from_millis(500), 3));
        for (url, server) in [
            ("dns://[::1]:5353/a:1", "[::1]:5353"),
            ("dns://[::1]/a:1", "[::1]:53"),
            ("dns://localhost:5353/a:1", "127.0.0.1:5353"),
        ] {
            assert_eq!(parse(url).unwrap().server, Some(server.parse().unwrap()), "{url}");
        }
    }

    #[test]
    fn services_have_their_ports_in_their_records() {
        for url in ["dns:///_orders._tcp.example", "dns:///orders.example?srv"] {
            assert_eq!(parse(url).unwrap().port, None, "{url}");
        }
        assert_eq!(parse("dns:///_odd:80?srv=false").unwrap().port, Some(80));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, expected) in [
            ("dns:///orders", "NAME:PORT"),
            ("dns:///orders:65536", "NAME:PORT"),
            ("dns:///orders:+1", "NAME:PORT"),
            ("dns:///:80", "one name"),
            ("dns:///a/b:80", "one name"),
            ("dns:///", "NAME:PORT"),
            ("dns://ns.example/orders:80", "the IP address"),
            ("dns:///_orders._tcp:80", "without a port"),
            ("dns:///orders:80?color=red", "not color"),
            ("dns:///orders:80?scheme=smtp", "a scheme of native"),
            ("dns:///orders:80?timeout=0s", "timeout from 10ms to 30s"),
            ("dns:///orders:80?attempts=x", "attempts from 1 to 10"),
            ("dns:///orders:80?srv=maybe", "srv without"),
        ] {
            let found = parse(url).unwrap_err();
            assert!(found.contains(expected), "{url}: {found}");
        }
    }
}
