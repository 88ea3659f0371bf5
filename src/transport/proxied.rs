//! A connection whose first bytes are a header of the PROXY protocol: the header is read, and then nothing of this is
//! left in its way.
//!
//! The socket's bytes are looked at before they are taken, so that no byte behind the header is: what follows is read
//! by the connection itself, or by its TLS session.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use coreloop_poller::os::fds;

use super::Transport;
use crate::context::Peer;
use crate::wire::proxy::{HEADER_BYTES_MAX, ProxyHeaderError, parse};

/// A connection from a proxy.
#[derive(Debug)]
pub struct ProxiedTransport {
    pub(super) inner: Transport,
    state: HeaderState,
    until: Option<Instant>,
}

/// How far the header was read.
#[derive(Debug)]
enum HeaderState {
    /// The peer is none of the proxies: nothing is read.
    Unlisted,
    /// These bytes of it have arrived.
    Reading(Vec<u8>),
    /// It is complete, and has named this source.
    Complete(Option<Peer>),
    /// It was refused.
    Failed(ProxyHeaderError),
}

impl ProxiedTransport {
    pub(super) fn new(inner: Transport, is_listed: bool) -> ProxiedTransport {
        let state = if is_listed { HeaderState::Reading(Vec::new()) } else { HeaderState::Unlisted };
        ProxiedTransport { inner, state, until: None }
    }

    /// Returns whether a read has a result although no event reports the socket as readable.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.state, HeaderState::Unlisted)
    }

    pub(super) fn set_deadline(&mut self, until: Instant) {
        self.until = Some(until);
    }

    /// Returns when the header must be complete, while it is not.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.filter(|_| matches!(self.state, HeaderState::Reading(_)))
    }

    /// Returns the error of a header that was not complete in time.
    pub(super) fn late(&mut self) -> io::Error {
        self.state = HeaderState::Failed(ProxyHeaderError::Late);
        ProxyHeaderError::Late.into_error()
    }

    /// Returns whether the header is complete, and the source that it has named.
    pub(super) fn source(&self) -> Option<Option<Peer>> {
        match self.state {
            HeaderState::Complete(source) => Some(source),
            HeaderState::Unlisted | HeaderState::Reading(_) | HeaderState::Failed(_) => None,
        }
    }

    /// Reads what follows the header, once that is complete.
    #[cold]
    #[inline(never)]
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.state {
            HeaderState::Complete(_) => return self.inner.read(into),
            HeaderState::Unlisted => return Err(ProxyHeaderError::Unlisted.into_error()),
            HeaderState::Failed(error) => return Err(error.clone().into_error()),
            HeaderState::Reading(held) => match read_header(&mut self.inner, held) {
                Ok(Some(source)) => self.state = HeaderState::Complete(source),
                // A probe that connects and says nothing.
                Ok(None) => return Ok(0),
                Err(error) => {
                    if let Some(refused) = ProxyHeaderError::of(&error) {
                        self.state = HeaderState::Failed(refused.clone());
                    }
                    return Err(error);
                }
            },
        }
        self.inner.read(into)
    }
}

/// Reads the header as far as it has arrived. Returns the source that it names, or `None` if the connection ends before its
/// first byte.
fn read_header(socket: &mut Transport, held: &mut Vec<u8>) -> io::Result<Option<Option<Peer>>> {
    let mut input = [0; HEADER_BYTES_MAX];
    input[..held.len()].copy_from_slice(held);
    loop {
        // A header is complete or refused before it fills the space.
        let n = peek(socket, &mut input[held.len()..])?;
        if n == 0 {
            return match held.is_empty() {
                true => Ok(None),
                false => Err(ProxyHeaderError::Truncated.into_error()),
            };
        }
        let header = parse(&input[..held.len() + n]).map_err(ProxyHeaderError::into_error)?;
        let taken = header.map_or(n, |header| header.bytes - held.len());
        take(socket, &mut input[held.len()..held.len() + taken])?;
        match header {
            Some(header) => return Ok(Some(header.source)),
            None => held.extend_from_slice(&input[held.len()..held.len() + taken]),
        }
    }
}

/// Copies bytes that have arrived, and leaves them where they are.
fn peek(socket: &Transport, into: &mut [u8]) -> io::Result<usize> {
    match socket {
        Transport::Tcp(stream) => fds::peek(stream.as_fd(), into),
        Transport::Unix(stream) => fds::peek(stream.as_fd(), into),
        // Listeners of other kinds expect no header.
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Takes bytes that have arrived.
fn take(socket: &mut Transport, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match socket.read(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => into = &mut into[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 7 8\r\n";

    /// A connection of either kind, and its writing end.
    fn pairs() -> [(Transport, Box<dyn Write>); 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        to.set_nodelay(true).unwrap();
        let (from, _) = listener.accept().unwrap();
        from.set_nonblocking(true).unwrap();
        let (unix_to, unix_from) = UnixStream::pair().unwrap();
        unix_from.set_nonblocking(true).unwrap();
        [
            (Transport::Tcp(mio::net::TcpStream::from_std(from)), Box::new(to)),
            (Transport::Unix(mio::net::UnixStream::from_std(unix_from)), Box::new(unix_to)),
        ]
    }

    /// Reads until there is a result other than would-block.
    fn read(proxied: &mut ProxiedTransport, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match proxied.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                result => return result,
            }
        }
    }

    #[test]
    fn what_follows_the_header_is_left_for_the_connection() {
        for split in 0..=LINE.len() {
            for (from, mut to) in pairs() {
                let mut proxied = ProxiedTransport::new(from, true);
                to.write_all(&LINE[..split]).unwrap();
                if split < LINE.len() {
                    // Whatever has arrived of it, the connection has no bytes yet.
                    let error = proxied.read(&mut [0; 8]).unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                }
                to.write_all(&LINE[split..]).unwrap();
                to.write_all(LINE).unwrap();
                let mut bytes = [0; 5];
                assert_eq!(read(&mut proxied, &mut bytes).unwrap(), 5);
                assert_eq!(&bytes, b"PROXY");
                assert_eq!(proxied.source(), Some(Some(Peer::Tcp(([192, 0, 2, 1], 7).into()))));
                assert_eq!(proxied.deadline(), None);
            }
        }
    }

    #[test]
    fn an_end_is_an_error_within_the_header_alone() {
        for sent in [0, 1, 6, LINE.len() - 1, LINE.len()] {
            for (from, mut to) in pairs() {
                let mut proxied = ProxiedTransport::new(from, true);
                to.write_all(&LINE[..sent]).unwrap();
                drop(to);
                match read(&mut proxied, &mut [0; 8]) {
                    Ok(n) => assert!(n == 0 && (sent == 0 || sent == LINE.len())),
                    Err(error) => {
                        assert_eq!(ProxyHeaderError::of(&error), Some(&ProxyHeaderError::Truncated));
                        assert!((1..LINE.len()).contains(&sent));
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_read_of_a_peer_that_is_no_proxy() {
        for (from, mut to) in pairs() {
            to.write_all(LINE).unwrap();
            let mut proxied = ProxiedTransport::new(from, false);
            assert!(proxied.is_refused());
            let error = proxied.read(&mut [0; 64]).unwrap_err();
            assert_eq!(ProxyHeaderError::of(&error), Some(&ProxyHeaderError::Unlisted));
            let mut left = [0; 64];
            let n = proxied.inner.read(&mut left).unwrap();
            assert_eq!(&left[..n], LINE);
        }
    }
}
