//! The server's address: `host:port` or `unix:PATH`. `speech` handles the protocol prefix.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// The resolved address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix stream socket.
    Unix(PathBuf),
}

impl Target {
    /// Parses an address and resolves the name. An error is one line of text.
    pub fn resolve(text: &str) -> Result<Target, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            SockAddr::unix(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok(Target::Unix(path));
        }
        let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
            return Err(format!("`{text}` is no address: write host:port or unix:PATH"));
        };
        port.parse::<u16>().map_err(|_| format!("`{port}` is no port"))?;
        let found = text.to_socket_addrs().map_err(|error| format!("cannot find {host}: {error}"))?;
        // IPv4 first if a name has both versions: a server without a configured address listens on it.
        let mut found: Vec<SocketAddr> = found.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        found.first().copied().map(Target::Tcp).ok_or(format!("cannot find {host}: it has no address"))
    }

    /// Returns the host name for requests; for a Unix socket it is the local machine.
    pub fn host(&self) -> String {
        match self {
            Target::Tcp(address) => address.to_string(),
            Target::Unix(_) => "localhost".into(),
        }
    }

    /// Begins to connect. An epoll reports when that is done, `take_error` the result.
    pub fn begin_connect(&self) -> std::io::Result<Socket> {
        let (domain, address) = match self {
            Target::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Target::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if matches!(self, Target::Tcp(_)) {
            socket.set_tcp_nodelay(true)?;
        }
        match socket.connect(&address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
            result => result.map(|()| socket),
        }
    }
}

impl Target {
    /// Connects and closes again, to check whether something listens there.
    pub fn connect_once(&self, patience: Duration) -> std::io::Result<()> {
        let (domain, address) = match self {
            Target::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Target::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        match Socket::new(domain, Type::STREAM, None)?.connect_timeout(&address, patience) {
            // The backlog of a Unix socket is full: something listens.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => write!(f, "{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_kinds() {
        let tcp = Target::Tcp("127.0.0.1:6550".parse().expect("an address"));
        assert_eq!(tcp.host(), "127.0.0.1:6550");
        assert_eq!(Target::resolve("127.0.0.1:6550"), Ok(tcp));
        assert_eq!(Target::resolve("[::1]:9"), Ok(Target::Tcp("[::1]:9".parse().expect("an address"))));
        assert_eq!(Target::resolve("unix:/tmp/a b"), Ok(Target::Unix("/tmp/a b".into())));
    }

    #[test]
    fn an_invalid_address_is_an_error_of_one_line() {
        let long = format!("unix:/{}", "x".repeat(200));
        let cases = [
            ("6550", "is no address"),
            (":6550", "is no address"),
            ("localhost:many", "is no port"),
            ("localhost:70000", "is no port"),
            ("no such host:1", "cannot find no such host"),
            (&long, "unix"),
        ];
        for (text, want) in cases {
            let why = Target::resolve(text).expect_err(text);
            if text != long {
                assert!(why.contains(want), "{text}: {why}");
            }
            assert!(!why.contains('\n'));
        }
    }
}
