//! The parser: from the first bytes of a connection to the source that they name, without I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{ProxyHeaderError, found};
use crate::context::Peer;

/// The most bytes of a header of version 1, with CR and LF (section 2.1).
const V1_BYTES_MAX: usize = 107;
const V1_START: &[u8] = b"PROXY ";

/// The most bytes of a header. Version 2 allows 65,551; what proxies send has some hundred.
pub const HEADER_BYTES_MAX: usize = 4096;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and transport, and the length of the rest (section 2.2).
const V2_FIXED_BYTES: usize = 16;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The length in bytes; what follows belongs to the connection itself.
    pub bytes: usize,
    /// The client of the proxy. `None` if the proxy speaks for itself (a health check) or does not know the client: the
    /// connection's own peer is what there is.
    pub source: Option<Peer>,
}

/// Parses the header at the start of a connection; `None` if its end has not arrived.
///
/// # Errors
///
/// The bytes are no header, or no valid one. No further bytes change that.
pub fn parse(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let begins = |start: &[u8]| {
        let len = input.len().min(start.len());
        input[..len] == start[..len]
    };
    if begins(V1_START) {
        parse_v1(input)
    } else if begins(V2_SIGNATURE) {
        parse_v2(input)
    } else {
        Err(ProxyHeaderError::Missing { found: found(&input[..input.len().min(V2_FIXED_BYTES)]) })
    }
}

fn malformed(expected: &'static str, part: &[u8]) -> ProxyHeaderError {
    ProxyHeaderError::Malformed { expected, found: found(part) }
}

// Version 1: one line of text.

fn parse_v1(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let too_long = Err(ProxyHeaderError::TooLong { bytes_max: V1_BYTES_MAX });
    let looked = &input[..input.len().min(V1_BYTES_MAX)];
    let line_end = looked.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let Some(end) = line_end else {
        return if input.len() < V1_BYTES_MAX { Ok(None) } else { too_long };
    };
    match (input[end], looked.get(end + 1)) {
        (b'\r', Some(b'\n')) => {
            let source = v1_source(&input[V1_START.len()..end])?;
            Ok(Some(ProxyHeader { bytes: end + 2, source }))
        }
        (b'\r', None) if end + 1 < V1_BYTES_MAX => Ok(None),
        (b'\r', None) => too_long,
        _ => Err(malformed("CR and LF at the end of the line, and nowhere else", &input[..end])),
    }
}

/// Reads `TCP4 SOURCE DESTINATION PORT PORT`, with one space between two fields.
fn v1_source(line: &[u8]) -> Result<Option<Peer>, ProxyHeaderError> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        // What follows says nothing (section 2.1).
        return Ok(None);
    }
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = || fields.next().unwrap_or_default();
    let (family, source, destination, port, to_port) = (next(), next(), next(), next(), next());
    let ip = match family {
        b"TCP4" => {
            let (expected, is) = ("an IPv4 address", address::<Ipv4Addr>);
            is(destination).ok_or_else(|| malformed(expected, destination))?;
            IpAddr::V4(is(source).ok_or_else(|| malformed(expected, source))?)
        }
        b"TCP6" => {
            let (expected, is) = ("an IPv6 address", address::<Ipv6Addr>);
            is(destination).ok_or_else(|| malformed(expected, destination))?;
            IpAddr::V6(is(source).ok_or_else(|| malformed(expected, source))?)
        }
        _ => return Err(malformed("TCP4, TCP6 or UNKNOWN", family)),
    };
    let number = |port: &[u8]| decimal(port).ok_or_else(|| malformed("a port from 0 to 65535", port));
    number(to_port)?;
    let source = SocketAddr::new(ip, number(port)?);
    match fields.next() {
        None => Ok(Some(Peer::Tcp(source))),
        Some(more) => Err(malformed("the end of the line after two ports", more)),
    }
}

/// Parses an address. The standard parser takes no leading zeros, signs or spaces.
fn address<A: FromStr>(text: &[u8]) -> Option<A> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Parses a port: digits alone, without leading zeros.
fn decimal(text: &[u8]) -> Option<u16> {
    if text.is_empty() || text.len() > 5 || text.len() > 1 && text[0] == b'0' {
        return None;
    }
    let digit = |value: u32, byte: &u8| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0'));
    text.iter().try_fold(0, digit).and_then(|port| u16::try_from(port).ok())
}

// Version 2: binary.

fn parse_v2(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let at = V2_SIGNATURE.len();
    let is_local = match input.get(at) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(malformed("version 2 with the command LOCAL or PROXY", &input[at..=at])),
    };
    let Some(family) = input.get(at + 1).copied() else { return Ok(None) };
    let addresses = match family {
        // The family is to be ignored with LOCAL (section 2.2).
        _ if is_local => 0,
        0x00 => 0,
        // Over TCP, or over UDP where the proxy speaks QUIC with its client.
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => {
            let expected = "the family UNSPEC, or IPv4, IPv6 or Unix with STREAM or DGRAM";
            return Err(malformed(expected, &input[at + 1..at + 2]));
        }
    };
    let Some(length) = input.get(at + 2..V2_FIXED_BYTES) else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if rest < addresses {
        return Err(malformed("a length that has room for the addresses of the family", length));
    }
    let bytes = V2_FIXED_BYTES + rest;
    if bytes > HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong { bytes_max: HEADER_BYTES_MAX });
    }
    // What follows the addresses (TLVs) is skipped.
    let Some(block) = input.get(V2_FIXED_BYTES..bytes) else { return Ok(None) };
    let source = match (addresses, block) {
        (12, [a, b, c, d, _, _, _, _, port_high, port_low, ..]) => {
            Some(tcp(Ipv4Addr::new(*a, *b, *c, *d).into(), [*port_high, *port_low]))
        }
        (36, block) => {
            let ip: Option<[u8; 16]> = block.get(..16).and_then(|ip| ip.try_into().ok());
            let port: Option<[u8; 2]> = block.get(32..34).and_then(|port| port.try_into().ok());
            ip.zip(port).map(|(ip, port)| tcp(Ipv6Addr::from(ip).into(), port))
        }
        (216, _) => Some(Peer::Unix),
        _ => None,
    };
    Ok(Some(ProxyHeader { bytes, source }))
}

fn tcp(ip: IpAddr, port: [u8; 2]) -> Peer {
    Peer::Tcp(SocketAddr::new(ip, u16::from_be_bytes(port)))
}
