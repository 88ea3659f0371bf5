//! What the system's configuration says about names: `/etc/resolv.conf` and `/etc/hosts`.
//!
//! The files are read where waiting is allowed, when a watch begins; the reactor gets the parsed result.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The most bytes that are read of a file; the rest of a larger one is ignored.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most name servers in use, as in glibc.
const SERVERS_MAX: usize = 3;
/// The most domains of the search list.
const SEARCH_MAX: usize = 32;
/// The upper bounds of the options, as in glibc.
const NDOTS_MAX: u32 = 15;
const TIMEOUT_MAX_S: u32 = 30;
const ATTEMPTS_MAX: u32 = 5;

/// The configuration of name resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameConfig {
    /// The name servers, in the order in which they are asked.
    pub(crate) servers: Vec<SocketAddr>,
    /// The domains that are appended to names.
    pub(crate) search: Vec<String>,
    /// A name with at least this number of dots is tried as it is first.
    pub(crate) ndots: usize,
    /// The time for the first answer of a server; each further round waits twice as long.
    pub(crate) timeout: Duration,
    /// How often each server is asked.
    pub(crate) attempts: u32,
    /// The names of `/etc/hosts`, in lower case.
    pub(crate) hosts: BTreeMap<String, Vec<IpAddr>>,
}

impl Default for NameConfig {
    fn default() -> NameConfig {
        NameConfig {
            servers: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53)],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(2),
            attempts: 2,
            hosts: BTreeMap::new(),
        }
    }
}

impl NameConfig {
    /// Reads the system's files. One that is missing counts as empty.
    pub(crate) fn read() -> NameConfig {
        NameConfig::parse(&read_file("/etc/resolv.conf"), &read_file("/etc/hosts"))
    }

    /// Parses the texts of `resolv.conf` and of `hosts`. Lines that are not understood are ignored, as by other
    /// resolvers.
    pub(crate) fn parse(resolv_conf: &str, hosts: &str) -> NameConfig {
        let mut config = NameConfig { servers: Vec::new(), ..NameConfig::default() };
        for line in resolv_conf.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    if let Some(server) = words.next().and_then(server_of)
                        && config.servers.len() < SERVERS_MAX
                    {
                        config.servers.push(server);
                    }
                }
                // The last of these lines counts.
                Some("search" | "domain") => {
                    let domains = words.map(normal).filter(|domain| !domain.is_empty());
                    config.search = domains.take(SEARCH_MAX).collect();
                }
                Some("options") => words.for_each(|option| config.set_option(option)),
                Some(_) | None => {}
            }
        }
        if config.servers.is_empty() {
            config.servers = NameConfig::default().servers;
        }
        for line in hosts.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
            for name in words {
                let addresses = config.hosts.entry(normal(name)).or_default();
                if !addresses.contains(&ip) {
                    addresses.push(ip);
                }
            }
        }
        config
    }

    fn set_option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = value.min(NDOTS_MAX) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, TIMEOUT_MAX_S))),
            "attempts" => self.attempts = value.clamp(1, ATTEMPTS_MAX),
            _ => {}
        }
    }

    /// Returns the full names to be looked up for a name, in order. A name with a dot at its end is tried as it is only.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        let own = normal(name);
        if name.ends_with('.') {
            return vec![own];
        }
        let searched = self.search.iter().map(|domain| format!("{own}.{domain}"));
        if own.matches('.').count() >= self.ndots {
            std::iter::once(own.clone()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(own.clone())).collect()
        }
    }
}

/// Returns the name in lower case, without a dot at its end.
pub(crate) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Parses the address of a name server, which may have an interface (`fe80::1%eth0`, which cannot be used without its
/// number) and no port.
fn server_of(word: &str) -> Option<SocketAddr> {
    let ip = word.parse::<IpAddr>().ok()?;
    Some(SocketAddr::new(ip, 53))
}

fn read_file(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error counts.
        let _ = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_parsed() {
        let config = NameConfig::parse(
            "# comment\nnameserver 10.0.0.1\nnameserver ::1\nnameserver nonsense\nnameserver 10.0.0.2\n\
             nameserver 10.0.0.3\ndomain old.example\nsearch A.example. b.example\n\
             options ndots:3 timeout:99 attempts:0 rotate edns0 ndots:x\nsortlist 1.2.3.4\n",
            "127.0.0.1 localhost LOCAL # comment\n::1 localhost\nnonsense name\n10.1.1.1\n",
        );
        let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53", "10.0.0.2:53"]);
        assert_eq!(config.search, ["a.example", "b.example"]);
        assert_eq!((config.ndots, config.timeout, config.attempts), (3, Duration::from_secs(30), 1));
        let both: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(config.hosts["localhost"], both);
        assert_eq!(config.hosts["local"], both[..1]);
        assert_eq!(config.hosts.len(), 2);
    }

    #[test]
    fn empty_files_mean_a_local_server() {
        assert_eq!(NameConfig::parse("", ""), NameConfig::default());
    }

    #[test]
    fn the_search_list_applies_by_the_number_of_dots() {
        let config = NameConfig::parse("search a.example b.example\noptions ndots:2", "");
        assert_eq!(config.candidates("x"), ["x.a.example", "x.b.example", "x"]);
        assert_eq!(config.candidates("x.y"), ["x.y.a.example", "x.y.b.example", "x.y"]);
        assert_eq!(config.candidates("X.y.z"), ["x.y.z", "x.y.z.a.example", "x.y.z.b.example"]);
        assert_eq!(config.candidates("x."), ["x"]);
    }
}
