//! The protocol of an agent's connections: bytes in, bytes out. What they mean is the agent's.

use crate::message::Span;
use crate::transport::{DATAGRAM_BYTES_MAX, PADDING};
use crate::wire::{Out, Protocol, Received};

/// Bytes of a stream as they came, or one datagram.
#[derive(Debug)]
pub(crate) enum LinkProtocol {
    /// TCP: any bytes.
    Stream,
    /// UDP: each datagram has its length in front (`transport/datagrams.rs`).
    Datagrams,
}

/// The bytes that were received.
pub(crate) struct ReceivedBytes(pub(super) Span);

/// The bytes to be sent: any of a stream, or one datagram.
pub(crate) struct OutgoingBytes<'a>(pub(super) &'a [u8]);

impl LinkProtocol {
    pub(super) fn stream() -> LinkProtocol {
        LinkProtocol::Stream
    }

    pub(super) fn datagrams() -> LinkProtocol {
        LinkProtocol::Datagrams
    }
}

/// Reads the length in front of a datagram or a gap.
fn length_at(input: &[u8], at: usize) -> Option<u16> {
    input.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

impl Protocol for LinkProtocol {
    type Message = ReceivedBytes;
    type Outgoing<'a> = OutgoingBytes<'a>;

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<ReceivedBytes> {
        let need = |bytes_min| Received::NeedMore { bytes_min };
        let message = |start: usize, bytes: usize| Received::Message {
            message: ReceivedBytes(Span::new(start as u32, bytes as u32)),
            consumed: start + bytes,
        };
        match self {
            LinkProtocol::Stream if input.is_empty() => need(1),
            LinkProtocol::Stream => message(0, input.len()),
            LinkProtocol::Datagrams => match (length_at(input, 0), length_at(input, 2)) {
                (None, _) => need(2),
                (Some(PADDING), None) => need(4),
                (Some(PADDING), Some(gap)) if input.len() < 4 + usize::from(gap) => {
                    need(4 + usize::from(gap))
                }
                (Some(PADDING), Some(gap)) => Received::Skip { consumed: 4 + usize::from(gap) },
                (Some(length), _) if input.len() < 2 + usize::from(length) => need(2 + usize::from(length)),
                (Some(length), _) => message(2, usize::from(length)),
            },
        }
    }

    fn send(&mut self, outgoing: OutgoingBytes<'_>, out: &mut Out<'_>) {
        match self {
            LinkProtocol::Stream => out.put(outgoing.0),
            LinkProtocol::Datagrams if outgoing.0.len() > DATAGRAM_BYTES_MAX => {}
            LinkProtocol::Datagrams => {
                out.put(&(outgoing.0.len() as u16).to_be_bytes());
                out.put(outgoing.0);
            }
        }
    }

    fn is_caller(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::Decode;

    #[test]
    fn datagrams_and_gaps_are_found_at_every_split() {
        let stream = b"\0\x03abc\xff\xff\0\x02xx\0\0\0\x01d";
        for split in 0..=stream.len() {
            let (mut held, mut found) = (Vec::new(), Vec::new());
            for piece in [&stream[..split], &stream[split..]] {
                held.extend_from_slice(piece);
                loop {
                    match LinkProtocol::Datagrams.decode(&held) {
                        Received::Message { message, consumed } => {
                            found.push(held[message.0.range()].to_vec());
                            held.drain(..consumed);
                        }
                        Received::Skip { consumed } => drop(held.drain(..consumed)),
                        Received::NeedMore { bytes_min } => {
                            assert!(bytes_min > held.len());
                            break;
                        }
                        Received::Broken(_) | Received::End => panic!("any bytes are valid"),
                    }
                }
            }
            assert_eq!(found, [&b"abc"[..], b"", b"d"]);
            assert!(held.is_empty());
        }
    }
}
