//! Lists of peers by their addresses: `10.0.0.0/8`, `::1`, `unix`.

use std::net::IpAddr;

use crate::context::Peer;

/// Peers by their addresses. An IPv4 address and the IPv6 address that it is mapped to (`::ffff:10.0.0.1`) are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks {
    /// The first address of each network, and the number of bits that its addresses share.
    ranges: Vec<(IpAddr, u32)>,
    has_unix: bool,
}

/// One entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkEntry {
    Range(IpAddr, u32),
    Unix,
}

impl Networks {
    /// Creates the list from texts that the configuration has admitted; others name no peer.
    pub(crate) fn new(texts: &[String]) -> Networks {
        let mut networks = Networks::default();
        for entry in texts.iter().filter_map(|text| network(text)) {
            match entry {
                NetworkEntry::Range(ip, bits) => networks.ranges.push((ip, bits)),
                NetworkEntry::Unix => networks.has_unix = true,
            }
        }
        networks
    }

    /// Returns whether an address is in one of the networks.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.ranges.iter().any(|(first, bits)| shares(ip, *first, *bits))
    }

    /// Returns whether the peer of a connection is in the list. The process itself, over an in-memory connection, is not.
    pub(crate) fn contains_peer(&self, peer: Peer) -> bool {
        match (peer, peer.address()) {
            (_, Some(address)) => self.contains(address.ip()),
            (Peer::Memory, None) => false,
            (_, None) => self.has_unix,
        }
    }
}

/// Returns whether the first `bits` bits of two addresses are the same.
fn shares(ip: IpAddr, first: IpAddr, bits: u32) -> bool {
    match (ip, first) {
        (IpAddr::V4(ip), IpAddr::V4(first)) => {
            (ip.to_bits() ^ first.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(first)) => {
            (ip.to_bits() ^ first.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Parses an entry: an address, a network as `ADDRESS/BITS` with zeros behind the bits, or `unix`.
pub(super) fn network(text: &str) -> Option<NetworkEntry> {
    if text == "unix" {
        return Some(NetworkEntry::Unix);
    }
    let (ip, bits) = match text.split_once('/') {
        Some((ip, bits)) => (ip, Some(bits)),
        None => (text, None),
    };
    let ip: IpAddr = ip.parse().ok()?;
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(width), number).filter(|bits| *bits <= width)?;
    // A network that is not its first address may be a slip of the pen.
    let is_first = match ip {
        IpAddr::V4(ip) => ip.to_bits().checked_shl(bits).unwrap_or(0) == 0,
        IpAddr::V6(ip) => ip.to_bits().checked_shl(bits).unwrap_or(0) == 0,
    };
    if !is_first {
        return None;
    }
    match ip.to_canonical() {
        IpAddr::V4(v4) if ip.is_ipv6() => Some(NetworkEntry::Range(v4.into(), bits.checked_sub(96)?)),
        ip => Some(NetworkEntry::Range(ip, bits)),
    }
}

/// Parses one to three digits without leading zeros.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = text == "0" || !text.starts_with('0');
    if is_plain && is_canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        assert!(texts.iter().all(|text| network(text).is_some()), "{texts:?}");
        Networks::new(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_are_compared_by_their_first_bits() {
        let list = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "::1", "::ffff:172.16.0.0/108"]);
        for inside in [
            "10.0.0.0",
            "10.255.255.255",
            "192.0.2.7",
            "::ffff:10.1.2.3",
            "2001:db8:7fff:ffff::",
            "::1",
            "172.31.0.1",
        ] {
            assert!(list.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in
            ["11.0.0.0", "9.255.255.255", "192.0.2.6", "2001:db8:8000::", "::2", "::", "172.32.0.0"]
        {
            assert!(!list.contains(outside.parse().unwrap()), "{outside}");
        }
        let all = networks(&["0.0.0.0/0"]);
        assert!(all.contains("255.0.0.1".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        assert!(networks(&["::/0"]).contains("fe80::1".parse().unwrap()));
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn peers_without_an_address_are_named() {
        let address = |ip: &str| Peer::Tcp(format!("{ip}:80").parse().unwrap());
        let list = networks(&["unix", "127.0.0.1"]);
        assert!(list.contains_peer(Peer::Unix) && list.contains_peer(address("127.0.0.1")));
        assert!(!list.contains_peer(Peer::Memory) && !list.contains_peer(address("127.0.0.2")));
        assert!(!networks(&["127.0.0.0/8"]).contains_peer(Peer::Unix));
    }

    #[test]
    fn other_texts_are_no_networks() {
        for text in [
            "",
            " ",
            "*",
            "localhost",
            "UNIX",
            "unix:/a",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.1/8",
            "10.0.0/8",
            "[::1]",
            "::1/129",
            "::1/64",
            "::/0000",
            "10.0.0.0/8/8",
            "127.0.0.1:80",
            "::ffff:0.0.0.0/95",
            "fe80::1%lo",
        ] {
            assert_eq!(network(text), None, "{text}");
        }
    }
}
