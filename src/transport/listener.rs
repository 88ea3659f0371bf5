//! Listeners: a socket for an address, several sockets that share a TCP port, or an in-memory listener.
//!
//! An address that another socket listens on is an error, even if the sockets of this process share the port. The
//! file of a Unix socket is in `unix_file.rs`.

mod adopt;
mod refuse;

use std::hash::BuildHasher;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use coreloop_poller::{Interest, Key, Poller};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub(crate) use self::adopt::Ownership;
use super::Transport;
use super::address::Address;
use super::memory::MemoryListener;
use super::proxied::ProxiedTransport;
use super::readiness::ReadinessSender;
#[cfg(feature = "tls-core")]
use super::stream::TlsTransport;
#[cfg(feature = "tls-core")]
use super::tls::TlsAcceptor;
use super::unix_file::{self, UnixSocketAccess, UnixSocketFile};
use crate::config::Networks;
use crate::context::Peer;

/// The length of the accept queue; the kernel reduces it to its own limit (`net.core.somaxconn`).
pub(crate) const BACKLOG: i32 = 4096;

/// How often an address is tried again when another process began to listen on it at the same moment.
const ATTEMPTS_MAX: u32 = 24;

enum ListenerKind {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener, UnixSocketFile),
    Memory(MemoryListener),
}

/// A listener. Dropping it removes the file of its Unix socket, unless the path refers to another file by
/// then, or another process listens there too.
pub struct Listener {
    kind: ListenerKind,
    ownership: Ownership,
    /// Set if connections begin with a header of the PROXY protocol: the peers that may write one.
    proxies: Option<Arc<Networks>>,
    /// Set if connections have TLS.
    #[cfg(feature = "tls-core")]
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Listens on an address. `access` determines which processes may connect to a Unix socket; TCP ignores it.
    ///
    /// The file of a Unix socket without a listener is replaced; any other file is left alone.
    ///
    /// # Errors
    ///
    /// The system's error, with the address: `AddrInUse` if another socket listens there.
    pub fn bind(address: &Address, access: &UnixSocketAccess) -> io::Result<Listener> {
        let kind = match address {
            Address::Tcp(text) => {
                first_that_binds(text, bind_alone).map(|socket| ListenerKind::Tcp(into_mio(socket)))
            }
            Address::Unix(path) => {
                unix_file::bind(path, access).map(|(socket, file)| ListenerKind::Unix(socket, file))
            }
            Address::Memory(name) => MemoryListener::bind(name, BACKLOG as usize).map(ListenerKind::Memory),
        };
        let kind = kind.map_err(|error| with_address(address, &error))?;
        Ok(Listener::new(kind, Ownership::default()))
    }

    /// Creates `count` listeners (at least one) on one TCP address, `host:port`; the kernel spreads the connections
    /// over them.
    ///
    /// # Errors
    ///
    /// The system's error, with the address: `AddrInUse` if a socket other than these listens there.
    pub fn bind_shared(address: &str, count: usize) -> io::Result<Vec<Listener>> {
        let bind = || {
            // The first socket listens without SO_REUSEPORT, so it fails if any other socket listens there. From then
            // on the port belongs to this process, and the rest join with the option set on all of them.
            let first = first_that_binds(address, bind_alone)?;
            if count > 1 {
                first.set_reuse_port(true)?;
            }
            let local = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
            let mut sockets = vec![first];
            while sockets.len() < count {
                sockets.push(bind_another(local)?);
            }
            Ok(sockets)
        };
        let sockets = bind().map_err(|error| with_address(&Address::Tcp(address.to_owned()), &error))?;
        let ownership = Ownership::default();
        let listener = |socket| Listener::new(ListenerKind::Tcp(into_mio(socket)), ownership.clone());
        Ok(sockets.into_iter().map(listener).collect())
    }

    fn new(kind: ListenerKind, ownership: Ownership) -> Listener {
        Listener {
            kind,
            ownership,
            proxies: None,
            #[cfg(feature = "tls-core")]
            tls: None,
        }
    }

    /// Expects a header of the PROXY protocol from the connections that are accepted from now on, and closes those of
    /// other peers than these.
    pub(crate) fn behind(mut self, proxies: Arc<Networks>) -> Listener {
        self.proxies = Some(proxies);
        self
    }

    /// Adds TLS to the connections that are accepted from now on.
    #[cfg(feature = "tls-core")]
    pub(crate) fn secured(mut self, tls: TlsAcceptor) -> Listener {
        self.tls = Some(tls);
        self
    }

    /// Returns whether a connection may be accepted: not if it has TLS, and too many handshakes are in progress.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        #[cfg(feature = "tls-core")]
        if let Some(tls) = &self.tls {
            return tls.has_room();
        }
        true
    }

    /// Returns the address with the actual port.
    pub fn local(&self) -> io::Result<Address> {
        match &self.kind {
            ListenerKind::Tcp(socket) => Ok(Address::Tcp(socket.local_addr()?.to_string())),
            ListenerKind::Unix(_, file) => Ok(Address::Unix(file.path().to_owned())),
            ListenerKind::Memory(listener) => Ok(Address::Memory(listener.name().to_owned())),
        }
    }

    /// Accepts one connection.
    pub fn accept(&self) -> io::Result<(Transport, Peer)> {
        let (mut stream, peer) = self.accept_plain()?;
        if let Some(proxies) = &self.proxies {
            let is_listed = proxies.contains_peer(peer);
            stream = Transport::Proxied(Box::new(ProxiedTransport::new(stream, is_listed)));
            if !is_listed {
                // Its first read refuses it: no session of TLS is needed for that.
                return Ok((stream, peer));
            }
        }
        #[cfg(feature = "tls-core")]
        if let Some(tls) = &self.tls {
            return Ok((Transport::Tls(Box::new(TlsTransport(tls.accept(stream)))), peer));
        }
        Ok((stream, peer))
    }

    fn accept_plain(&self) -> io::Result<(Transport, Peer)> {
        match &self.kind {
            ListenerKind::Tcp(socket) => {
                let (stream, addr) = socket.accept()?;
                // A reply is written when it is complete; waiting for more data would only add delay.
                let _ = stream.set_nodelay(true);
                Ok((Transport::Tcp(stream), Peer::Tcp(addr)))
            }
            ListenerKind::Unix(socket, _) => {
                let (stream, _) = socket.accept()?;
                Ok((Transport::Unix(stream), Peer::Unix))
            }
            ListenerKind::Memory(listener) => {
                Ok((Transport::Memory(Box::new(listener.accept()?)), Peer::Memory))
            }
        }
    }

    /// Reports waiting connections under this key: through the poller, or through `readiness`.
    pub(crate) fn register(
        &mut self,
        poller: &mut Poller,
        key: Key,
        readiness: &ReadinessSender,
    ) -> io::Result<()> {
        match &mut self.kind {
            ListenerKind::Tcp(socket) => poller.register(socket, key, Interest::READABLE),
            ListenerKind::Unix(socket, _) => poller.register(socket, key, Interest::READABLE),
            ListenerKind::Memory(listener) => {
                listener.register(key, readiness);
                Ok(())
            }
        }
    }
}

impl Listener {
    /// Ends the reports of waiting connections. The socket may live on in another process, or as a duplicate, and the
    /// poller would go on to report it.
    pub(crate) fn deregister(&mut self, poller: &mut Poller) {
        let _ = match &mut self.kind {
            ListenerKind::Tcp(socket) => poller.deregister(socket),
            ListenerKind::Unix(socket, _) => poller.deregister(socket),
            ListenerKind::Memory(_) => Ok(()),
        };
    }

    /// Lets no further connection arrive, before the last ones are accepted and the listener is closed.
    pub(crate) fn ignore_attempts(&self) {
        if let ListenerKind::Tcp(socket) = &self.kind {
            // Without it a connection may be reset that arrives at the last moment.
            let _ = refuse::ignore_attempts(socket);
        }
    }

    /// Returns whether connections that wait here are lost when this process closes it.
    pub(crate) fn is_ours(&self) -> bool {
        self.ownership.is_ours()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenerKind::Unix(_, file) = &self.kind
            && self.ownership.is_ours()
        {
            // The socket still listens here, so no other process takes the file for an abandoned one meanwhile.
            file.remove();
        }
    }
}

fn with_address(address: &Address, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

/// Binds the first address of a name that this machine has. An address in use ends the search: the next address of
/// the name would serve only some of the clients that use the name.
fn first_that_binds(text: &str, bind: impl Fn(SocketAddr) -> io::Result<Socket>) -> io::Result<Socket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in text.to_socket_addrs()? {
        match bind(addr) {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Listens on an address without any other listener.
fn bind_alone(addr: SocketAddr) -> io::Result<Socket> {
    let mut attempt = 1;
    loop {
        let socket = bound(addr, false)?;
        match socket.listen(BACKLOG) {
            // Two sockets that are both bound (SO_REUSEADDR allows it) and call listen at the same moment may both be
            // refused. If another socket listens already, the next attempt ends at bind.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS_MAX => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(socket),
        }
        drop(socket);
        back_off(attempt);
        attempt += 1;
    }
}

/// Listens on an address next to another socket of this process that shares its port.
fn bind_another(addr: SocketAddr) -> io::Result<Socket> {
    let mut attempt = 1;
    loop {
        let socket = bound(addr, true).and_then(|socket| socket.listen(BACKLOG).map(|()| socket));
        match socket {
            // The port is ours; another process is about to be refused at its first listen.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS_MAX => {}
            result => return result,
        }
        back_off(attempt);
        attempt += 1;
    }
}

fn bound(addr: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket)
}

/// Sleeps for a random time, at most 6.4 ms, so that processes that collided do not collide again.
fn back_off(attempt: u32) {
    let micros_max = 100 << attempt.min(6);
    let random = std::hash::RandomState::new().hash_one(attempt);
    std::thread::sleep(Duration::from_micros(random % micros_max));
}

fn into_mio(socket: Socket) -> mio::net::TcpListener {
    mio::net::TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn error_of<T>(result: io::Result<T>) -> io::ErrorKind {
        result.err().expect("an error").kind()
    }

    fn bind(address: &str) -> io::Result<Listener> {
        Listener::bind(&address.parse().unwrap(), &UnixSocketAccess::default())
    }

    #[test]
    fn a_port_in_use_is_an_error_whether_shared_or_not() {
        for host in ["127.0.0.1", "[::1]", "0.0.0.0"] {
            for (count, other) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
                let Ok(first) = Listener::bind_shared(&format!("{host}:0"), count) else {
                    eprintln!("skipped: this machine has no {host}");
                    continue;
                };
                assert_eq!(first.len(), count);
                let taken = first[0].local().unwrap().to_string();
                let error = Listener::bind_shared(&taken, other).err().unwrap();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{taken} {count} {other}");
                assert!(error.to_string().starts_with(&format!("cannot listen on {taken}: ")), "{error}");
                assert_eq!(error_of(bind(&taken)), io::ErrorKind::AddrInUse, "{taken} {count}");
                drop(first);
                assert_eq!(Listener::bind_shared(&taken, other).unwrap().len(), other);
            }
        }
    }

    #[test]
    fn an_address_within_a_shared_wildcard_is_in_use() {
        let all = Listener::bind_shared("0.0.0.0:0", 2).unwrap();
        let port = all[0].local().unwrap().to_string().rsplit_once(':').unwrap().1.to_owned();
        assert_eq!(
            error_of(Listener::bind_shared(&format!("127.0.0.1:{port}"), 2)),
            io::ErrorKind::AddrInUse
        );
    }

    #[test]
    fn a_name_in_use_does_not_move_to_its_next_address() {
        let first = Listener::bind_shared("localhost:0", 1).unwrap();
        let port = first[0].local().unwrap().to_string().rsplit_once(':').unwrap().1.to_owned();
        assert_eq!(
            error_of(Listener::bind_shared(&format!("localhost:{port}"), 2)),
            io::ErrorKind::AddrInUse
        );
    }

    #[test]
    fn a_shared_port_of_another_program_is_in_use() {
        let other = bound("127.0.0.1:0".parse().unwrap(), true).unwrap();
        other.listen(1).unwrap();
        let taken = other.local_addr().unwrap().as_socket().unwrap().to_string();
        assert_eq!(error_of(Listener::bind_shared(&taken, 2)), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn of_two_simultaneous_starts_exactly_one_listens() {
        for round in 0..200 {
            let free = bind("127.0.0.1:0").unwrap().local().unwrap().to_string();
            let counts = [1 + round % 3, 1 + round / 3 % 3];
            let barrier = Barrier::new(2);
            let start = |count: usize| {
                barrier.wait();
                let result = Listener::bind_shared(&free, count);
                barrier.wait();
                result
            };
            let results = std::thread::scope(|scope| {
                counts.map(|count| scope.spawn(move || start(count))).map(|thread| thread.join().unwrap())
            });
            let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
            assert_eq!(errors.len(), 1, "round {round}, {counts:?}: {errors:?}");
            assert_eq!(errors[0].kind(), io::ErrorKind::AddrInUse, "{}", errors[0]);
        }
    }

    #[test]
    fn connections_reach_every_socket_of_a_shared_port() {
        let listeners = Listener::bind_shared("127.0.0.1:0", 2).unwrap();
        let address = listeners[0].local().unwrap().to_string();
        // The kernel spreads by a hash of the ports: 64 connections reach only one of two sockets with probability
        // 2^-63.
        let _clients: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
        for listener in &listeners {
            assert!(listener.accept().is_ok());
        }
    }
}
