//! A connected UDP socket as a stream of framed datagrams, so that a connection of a reactor can carry it.
//!
//! Each datagram has its length in front, in two bytes and network order, as DNS has it over TCP (RFC 1035 section
//! 4.2.2). In the bytes that are read, the length `PADDING` marks a gap: its own length, in two bytes, and that many
//! bytes follow. It fills the space of a read that was not the last one, since a read that fills its space is repeated.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use mio::net::UdpSocket;

/// The largest datagram; a longer one is dropped. Four times what DNS servers send without being asked for more.
pub const DATAGRAM_BYTES_MAX: usize = 4096;
/// The length that marks a gap.
pub const PADDING: u16 = u16::MAX;
/// The bytes of a length.
const LENGTH_BYTES: usize = 2;

/// A connected UDP socket.
#[derive(Debug)]
pub struct Datagrams {
    pub(super) socket: UdpSocket,
}

impl Datagrams {
    /// Creates a socket that exchanges datagrams with one peer only.
    ///
    /// # Errors
    ///
    /// The system has no socket, or no way to the peer.
    pub fn connect(peer: SocketAddr) -> io::Result<Datagrams> {
        let any: SocketAddr = if peer.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(peer)?;
        Ok(Datagrams { socket })
    }

    /// Reads datagrams until there are no more or the space is full.
    pub(super) fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let mut at = 0;
        // Room for one more byte than a datagram may have, and for the mark of a gap after it.
        while space.len() - at > DATAGRAM_BYTES_MAX + 3 * LENGTH_BYTES {
            let body = at + LENGTH_BYTES;
            match self.socket.recv(&mut space[body..=body + DATAGRAM_BYTES_MAX]) {
                Ok(bytes) if bytes > DATAGRAM_BYTES_MAX => {}
                Ok(bytes) => {
                    space[at..body].copy_from_slice(&(bytes as u16).to_be_bytes());
                    at = body + bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What was read comes first; the reactor reads again if the error was another one.
                Err(error) if at == 0 => return Err(error),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(at),
                Err(_) => break,
            }
        }
        let gap = space.len() - at;
        let Some(rest) = gap.checked_sub(2 * LENGTH_BYTES).and_then(|rest| u16::try_from(rest).ok()) else {
            return Ok(at);
        };
        space[at..at + LENGTH_BYTES].copy_from_slice(&PADDING.to_be_bytes());
        space[at + LENGTH_BYTES..at + 2 * LENGTH_BYTES].copy_from_slice(&rest.to_be_bytes());
        space[at + 2 * LENGTH_BYTES..].fill(0);
        Ok(space.len())
    }

    /// Sends the whole datagrams at the start of the slices, and returns their bytes with the lengths. A datagram that
    /// the system refuses is lost, as one on the network may be.
    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let joined;
        let bytes = match slices {
            [one] => &one[..],
            _ => {
                joined = slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
                &joined[..]
            }
        };
        let mut at = 0;
        while let Some((length, rest)) = bytes[at..].split_first_chunk::<LENGTH_BYTES>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some(datagram) = rest.get(..length) else { break };
            match self.socket.send(datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if at == 0 { Err(error) } else { Ok(at) };
                }
                Ok(_) | Err(_) => at += LENGTH_BYTES + length,
            }
        }
        if at == 0 {
            // No whole datagram: the caller's own bytes are wrong, and waiting would not end.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected whole datagrams"));
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (std::net::UdpSocket, Datagrams) {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = Datagrams::connect(server.local_addr().unwrap()).unwrap();
        server.connect(client.socket.local_addr().unwrap()).unwrap();
        (server, client)
    }

    /// Splits what was read into datagrams, without gaps.
    fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
            let length = u16::from_be_bytes(*length);
            if length == PADDING {
                let gap = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                bytes = &rest[2 + gap..];
            } else {
                all.push(rest[..usize::from(length)].to_vec());
                bytes = &rest[usize::from(length)..];
            }
        }
        all
    }

    #[test]
    fn datagrams_keep_their_bounds() {
        let (server, mut client) = pair();
        let slices = [IoSlice::new(b"\0\x02ab\0\x03x"), IoSlice::new(b"yz\0"), IoSlice::new(b"\x01")];
        assert_eq!(client.write_vectored(&slices).unwrap(), 9);
        let mut into = [0; 16];
        assert_eq!(server.recv(&mut into).unwrap(), 2);
        assert_eq!(server.recv(&mut into).unwrap(), 3);
        for datagram in [&b"one"[..], b"", &[7; DATAGRAM_BYTES_MAX + 1], b"two"] {
            server.send(datagram).unwrap();
        }
        let mut space = vec![1; 64 << 10];
        let read = client.read(&mut space).unwrap();
        assert!(read < space.len());
        assert_eq!(split(&space[..read]), [&b"one"[..], b"", b"two"]);
        assert_eq!(client.read(&mut space).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_full_space_is_reported_as_full() {
        let (server, mut client) = pair();
        let sent: Vec<Vec<u8>> = (0..20_u8).map(|byte| vec![byte; 1000]).collect();
        for datagram in &sent {
            server.send(datagram).unwrap();
        }
        let (mut found, mut space) = (Vec::new(), vec![1; 8 << 10]);
        loop {
            match client.read(&mut space) {
                Ok(read) => {
                    found.extend(split(&space[..read]));
                    if read < space.len() {
                        break;
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert_eq!(found, sent);
    }
}
