//! Headers of both versions: each split, what is refused, and headers that were encoded.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::context::Peer;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// A header of version 2, with this command and family.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &length, block].concat()
}

fn v2_of(source: SocketAddr, destination: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut block = octets(source.ip());
    block.extend(octets(destination.ip()));
    block.extend(source.port().to_be_bytes());
    block.extend(destination.port().to_be_bytes());
    block.extend(tlvs);
    v2(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, &block)
}

fn addresses(text: &str) -> (SocketAddr, SocketAddr) {
    let (source, destination) = text.split_once(' ').unwrap();
    (source.parse().unwrap(), destination.parse().unwrap())
}

/// Parses with something behind the header, and every beginning of the header.
#[track_caller]
fn whole(header: &[u8]) -> Option<Peer> {
    for len in 0..header.len() {
        assert_eq!(parse(&header[..len]), Ok(None), "{:?}", header[..len].escape_ascii().to_string());
    }
    for behind in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", b"PROXY UNKNOWN\r\n"] {
        let read = parse(&[header, behind].concat()).unwrap().unwrap();
        assert_eq!(read.bytes, header.len());
        assert_eq!(read.source, parse(header).unwrap().unwrap().source);
    }
    parse(header).unwrap().unwrap().source
}

/// Returns the error, which comes with the first byte that is wrong, at the latest with the whole header.
#[track_caller]
fn refused(header: &[u8]) -> ProxyHeaderError {
    let mut errors = (0..=header.len()).filter_map(|len| match parse(&header[..len]) {
        Ok(None) => None,
        Ok(Some(read)) => panic!("{read:?} of {:?}", header[..len].escape_ascii().to_string()),
        Err(error) => Some(error),
    });
    let first = errors.next().expect("it is refused");
    let kind = std::mem::discriminant(&first);
    assert!(errors.all(|error| std::mem::discriminant(&error) == kind), "{first}");
    first
}

#[test]
fn headers_name_the_client_at_every_split() {
    for text in ["192.0.2.1:1 10.0.0.1:65535", "[2001:db8::1]:0 [::1]:443", "[::ffff:192.0.2.9]:7 [::]:8"] {
        let (source, destination) = addresses(text);
        assert_eq!(whole(&v1(source, destination)), Some(Peer::Tcp(source)));
        assert_eq!(whole(&v2_of(source, destination, b"")), Some(Peer::Tcp(source)));
        assert_eq!(
            whole(&v2_of(source, destination, b"\x03\0\x04abcd\x20\0\x05tls..")),
            Some(Peer::Tcp(source))
        );
    }
    assert_eq!(whole(&v2(0x21, 0x31, &[b'/'; 216])), Some(Peer::Unix));
    assert_eq!(whole(&v2(0x21, 0x12, &[7; 12])), Some(Peer::Tcp(([7, 7, 7, 7], 0x0707).into())));
}

#[test]
fn without_a_client_the_peer_stays() {
    for line in ["UNKNOWN", "UNKNOWN ", "UNKNOWN ffff:f::ffff not an address 1 2 3"] {
        assert_eq!(whole(format!("PROXY {line}\r\n").as_bytes()), None);
    }
    // LOCAL, whatever its family and addresses; and UNSPEC.
    for (command, family, block) in [
        (0x20, 0x00, &b""[..]),
        (0x20, 0x11, &[1; 12]),
        (0x20, 0x77, b"x"),
        (0x21, 0, b""),
        (0x21, 0, b"abc"),
    ] {
        assert_eq!(whole(&v2(command, family, block)), None);
    }
}

#[test]
fn other_first_bytes_are_no_header() {
    let tls = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], tls, b"\x19\x96", b"{}", b"PROXX", b"proxy ", b"\r\n\r\n\r"]
    {
        assert!(matches!(refused(bytes), ProxyHeaderError::Missing { .. }));
    }
    assert_eq!(
        refused(b"POST /x").to_string(),
        "PROXY protocol: expected a header of version 1 or 2 first; found \"PO\""
    );
}

#[test]
fn a_line_is_checked_strictly() {
    for line in [
        "TCP4 192.0.2.1 192.0.2.2 1",
        "TCP4 192.0.2.1 192.0.2.2 1 ",
        "TCP4 192.0.2.1 192.0.2.2 1 2 3",
        "TCP4 192.0.2.1 192.0.2.2 1 2 ",
        "TCP4  192.0.2.1 192.0.2.2 1 2",
        " TCP4 192.0.2.1 192.0.2.2 1 2",
        "TCP4\t192.0.2.1 192.0.2.2 1 2",
        "TCP4 192.0.2.01 192.0.2.2 1 2",
        "TCP4 192.0.2.256 192.0.2.2 1 2",
        "TCP4 192.0.2 192.0.2.2 1 2",
        "TCP4 0xc0.0.2.1 192.0.2.2 1 2",
        "TCP4 ::1 ::1 1 2",
        "TCP4 192.0.2.1 ::1 1 2",
        "TCP4 192.0.2.1 name 1 2",
        "TCP4 192.0.2.1 192.0.2.2 01 2",
        "TCP4 192.0.2.1 192.0.2.2 +1 2",
        "TCP4 192.0.2.1 192.0.2.2 -1 2",
        "TCP4 192.0.2.1 192.0.2.2 65536 2",
        "TCP4 192.0.2.1 192.0.2.2 1 65536",
        "TCP4 192.0.2.1 192.0.2.2 1 00",
        "TCP4 192.0.2.1 192.0.2.2 1 100000000000",
        "TCP6 192.0.2.1 192.0.2.2 1 2",
        "TCP6 fe80::1%eth0 ::1 1 2",
        "TCP6 [::1] ::1 1 2",
        "TCP6 :::1 ::1 1 2",
        "TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2",
        "UDP4 192.0.2.1 192.0.2.2 1 2",
        "tcp4 192.0.2.1 192.0.2.2 1 2",
        "UNKNOWNX",
        "",
    ] {
        let error = refused(format!("PROXY {line}\r\n").as_bytes());
        assert!(matches!(error, ProxyHeaderError::Malformed { .. }), "{line}: {error}");
    }
    for header in [&b"PROXY UNKNOWN\n"[..], b"PROXY UNKNOWN\rX", b"PROXY UNKNOWN\n\r\n", b"PROXY \xff\r\n"] {
        assert!(matches!(refused(header), ProxyHeaderError::Malformed { .. }));
    }
    let error = refused(b"PROXY TCP4 1.2.3.4 1.2.3.5 1 99999\r\n").to_string();
    assert_eq!(error, "PROXY protocol: expected a port from 0 to 65535; found \"99999\"");
}

#[test]
fn a_line_has_at_most_107_bytes() {
    let line = |bytes: usize| {
        let mut line = b"PROXY UNKNOWN ".to_vec();
        line.resize(bytes - 2, b'x');
        [line, b"\r\n".to_vec()].concat()
    };
    assert_eq!(whole(&line(107)), None);
    for bytes in [108, 109, 200] {
        assert_eq!(refused(&line(bytes)), ProxyHeaderError::TooLong { bytes_max: 107 });
    }
}

#[test]
fn version_2_is_checked_strictly() {
    for header in [
        v2(0x11, 0x11, &[1; 12]),
        v2(0x22, 0x11, &[1; 12]),
        v2(0x2f, 0x00, &[]),
        v2(0x21, 0x01, &[]),
        v2(0x21, 0x10, &[1; 12]),
        v2(0x21, 0x13, &[1; 12]),
        v2(0x21, 0x41, &[1; 216]),
        v2(0x21, 0x11, &[1; 11]),
        v2(0x21, 0x21, &[1; 35]),
        v2(0x21, 0x31, &[1; 215]),
    ] {
        assert!(matches!(refused(&header), ProxyHeaderError::Malformed { .. }));
    }
    assert_eq!(whole(&v2(0x20, 0x00, &[0; 4080])), None);
    for rest in [4081, 65_535] {
        assert_eq!(refused(&v2(0x20, 0x00, &vec![0; rest])), ProxyHeaderError::TooLong { bytes_max: 4096 });
    }
}

fn addr() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(SocketAddr::from),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_read(source in addr(), to in any::<(u32, u128, u16)>(), tlvs in prop::collection::vec(any::<u8>(), 0..99)) {
        let ip = if source.is_ipv4() { IpAddr::from(to.0.to_be_bytes()) } else { IpAddr::from(to.1.to_be_bytes()) };
        let destination = SocketAddr::new(ip, to.2);
        prop_assert_eq!(whole(&v1(source, destination)), Some(Peer::Tcp(source)));
        prop_assert_eq!(whole(&v2_of(source, destination, &tlvs)), Some(Peer::Tcp(source)));
    }

    #[test]
    fn more_bytes_never_change_what_was_decided(
        start in prop_oneof![Just(b"PROXY TCP4 1.2.3.4 ".to_vec()), Just(SIGNATURE.to_vec()), Just(Vec::new())],
        rest in prop::collection::vec(prop_oneof![Just(b' '), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(0x21), any::<u8>()], 0..200),
    ) {
        let input = [start, rest].concat();
        let mut decided: Option<bool> = None;
        for len in 0..=input.len() {
            let read = parse(&input[..len]);
            if let Ok(Some(header)) = &read {
                prop_assert!(header.bytes <= len && header.bytes <= HEADER_BYTES_MAX);
            }
            let now = match read { Ok(None) => None, Ok(Some(_)) => Some(true), Err(_) => Some(false) };
            prop_assert!(decided.is_none() || decided == now);
            decided = now;
        }
    }
}
