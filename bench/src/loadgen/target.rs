//! The server's address: `host:port` or `unix:PATH`, and the TLS of the connections to it. `speech` handles the protocol
//! prefix.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::socket::Stream;
use super::speech::AddressProtocol;
use super::tls::{TargetTls, TlsOptions};

/// The resolved address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub place: Place,
    /// Set if the connections have TLS.
    pub tls: Option<Box<TargetTls>>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix stream socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Target {
        Target { place: Place::Tcp(address), tls: None }
    }
}

impl Target {
    /// Parses an address with its protocol, resolves the name, and reads the files of its TLS. An error is one line of text.
    pub fn of(address: &str, tls: &TlsOptions) -> Result<(AddressProtocol, Target), String> {
        let (speaks, is_secured, text) = AddressProtocol::split(address);
        if !is_secured {
            tls.refuse(address)?;
        }
        let place = Place::resolve(text)?;
        let host = match &place {
            Place::Tcp(_) => text.rsplit_once(':').map_or(text, |(host, _)| host),
            Place::Unix(_) => "localhost",
        };
        let load = || TargetTls::load(tls.settings(), host, speaks.alpn()).map(Box::new);
        let tls = is_secured.then(load).transpose()?;
        Ok((speaks, Target { place, tls }))
    }

    /// Returns the host name for requests; for a Unix socket it is the local machine.
    pub fn host(&self) -> String {
        match &self.place {
            Place::Tcp(address) => address.to_string(),
            Place::Unix(_) => "localhost".into(),
        }
    }

    /// Returns the prefix of the address: the protocol, and whether it has TLS.
    pub fn scheme(&self, speaks: AddressProtocol) -> String {
        format!("{speaks}{}", if self.tls.is_some() { "+tls" } else { "" })
    }

    /// Begins to connect. An epoll reports when there is something to do, see [`Stream::on_connecting`].
    pub fn begin_connect(&self) -> std::io::Result<Stream> {
        let socket = self.place.begin_connect()?;
        match &self.tls {
            None => Ok(Stream::plain(socket)),
            Some(tls) => tls.begin(socket).map(Stream::tls),
        }
    }

    /// Connects and closes again, to check whether something listens there.
    pub fn connect_once(&self, patience: Duration) -> std::io::Result<()> {
        self.place.connect_once(patience)
    }
}

impl Place {
    /// Parses an address and resolves the name. An error is one line of text.
    pub fn resolve(text: &str) -> Result<Place, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            SockAddr::unix(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok(Place::Unix(path));
        }
        let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
            return Err(format!("`{text}` is no address: write host:port or unix:PATH"));
        };
        port.parse::<u16>().map_err(|_| format!("`{port}` is no port"))?;
        let found = text.to_socket_addrs().map_err(|error| format!("cannot find {host}: {error}"))?;
        // IPv4 first if a name has both versions: a server without a configured address listens on it.
        let mut found: Vec<SocketAddr> = found.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        found.first().copied().map(Place::Tcp).ok_or(format!("cannot find {host}: it has no address"))
    }

    /// Begins to connect. An epoll reports when that is done, `take_error` the result.
    fn begin_connect(&self) -> std::io::Result<Socket> {
        let (domain, address) = match self {
            Place::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Place::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if matches!(self, Place::Tcp(_)) {
            socket.set_tcp_nodelay(true)?;
        }
        match socket.connect(&address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
            result => result.map(|()| socket),
        }
    }

    /// Connects and closes again, to check whether something listens there.
    fn connect_once(&self, patience: Duration) -> std::io::Result<()> {
        let (domain, address) = match self {
            Place::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Place::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
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
        match &self.place {
            Place::Tcp(address) => write!(f, "{address}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_kinds() {
        let address: SocketAddr = "127.0.0.1:6550".parse().expect("an address");
        assert_eq!(Target::from(address).host(), "127.0.0.1:6550");
        assert_eq!(Place::resolve("127.0.0.1:6550"), Ok(Place::Tcp(address)));
        assert_eq!(Place::resolve("[::1]:9"), Ok(Place::Tcp("[::1]:9".parse().expect("an address"))));
        assert_eq!(Place::resolve("unix:/tmp/a b"), Ok(Place::Unix("/tmp/a b".into())));
    }

    #[test]
    fn tls_needs_an_address_that_asks_for_it_and_files_that_exist() {
        let options = TlsOptions { ca: Some("/no/such/ca.pem".into()), ..TlsOptions::default() };
        let why = Target::of("native:127.0.0.1:1", &options).expect_err("it has no TLS");
        assert!(why.contains("--ca") && why.contains("native:127.0.0.1:1 has no TLS"), "{why}");
        for address in ["native+tls:127.0.0.1:1", "https://127.0.0.1:1/", "gob+tls:unix:/tmp/a"] {
            let why = Target::of(address, &options).expect_err("there is no such file");
            assert!(why.contains("/no/such/ca.pem") && !why.contains('\n'), "{why}");
        }
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
            let why = Place::resolve(text).expect_err(text);
            if text != long {
                assert!(why.contains(want), "{text}: {why}");
            }
            assert!(!why.contains('\n'));
        }
    }
}
