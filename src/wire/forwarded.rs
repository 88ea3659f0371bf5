//! The fields by which HTTP proxies tell the client of a request: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each proxy adds the address of its own peer at the end. So the fields are read from the end, as far as the addresses are
//! those of proxies that are believed: what precedes the first other address may be made up by the client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::ForwardedField;

/// Returns the client of a request by the values of the field, in the order in which they came: the last address that
/// belongs to no proxy. If all belong to proxies, or what precedes them is no address (`unknown`, `_hidden`, a malformed
/// value), it is the first of those that were reached; `None` if there is none. An address without a port has port 0.
pub fn client<'a>(
    field: ForwardedField,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Option<SocketAddr> {
    let mut reached = None;
    for value in values.rev() {
        let mut rest = Some(value);
        while let Some(value) = rest {
            let (before, element) = split_last(value, b',');
            rest = before;
            let node = match field {
                ForwardedField::XForwardedFor => trim(element),
                ForwardedField::Forwarded => match for_of(element) {
                    Some(node) => node,
                    None => return reached,
                },
            };
            let Some(address) = address(node) else { return reached };
            reached = Some(address);
            if !is_proxy(address.ip()) {
                return reached;
            }
        }
    }
    reached
}

/// Splits the text at the last separator that is in no quoted string. It is looked for from the end, so that a quote that was
/// opened before, and never closed, hides nothing that was added behind it.
fn split_last(text: &[u8], separator: u8) -> (Option<&[u8]>, &[u8]) {
    let mut is_quoted = false;
    for (at, byte) in text.iter().enumerate().rev() {
        if *byte == b'"' {
            let escapes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            // An escaped quote is in the string that is open.
            if !is_quoted || escapes % 2 == 0 {
                is_quoted = !is_quoted;
            }
        } else if *byte == separator && !is_quoted {
            return (Some(&text[..at]), &text[at + 1..]);
        }
    }
    (None, text)
}

/// Returns the value of `for` in an element of `Forwarded`, without its quotes; `None` if there is none, or several.
fn for_of(element: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(text) = rest {
        let (before, pair) = split_last(text, b';');
        rest = before;
        let pair = trim(pair);
        let Some(at) = pair.iter().position(|byte| *byte == b'=') else {
            if pair.is_empty() {
                continue;
            }
            return None;
        };
        if pair[..at].eq_ignore_ascii_case(b"for") && found.replace(&pair[at + 1..]).is_some() {
            return None;
        }
    }
    let value = found?;
    match value.strip_prefix(b"\"") {
        Some(rest) => rest.strip_suffix(b"\""),
        // A token has no colon and no bracket (RFC 9110, section 5.6.2).
        None => {
            Some(value).filter(|value| !value.iter().any(|byte| matches!(byte, b':' | b'[' | b']' | b'"')))
        }
    }
}

/// Parses an address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`, and, as some proxies write it,
/// `2001:db8::1`.
fn address(node: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(node).ok()?;
    let (ip, port): (IpAddr, Option<&str>) = if let Some(rest) = text.strip_prefix('[') {
        let (ip, behind) = rest.split_once(']')?;
        let port = match behind {
            "" => None,
            behind => Some(behind.strip_prefix(':')?),
        };
        (ip.parse::<Ipv6Addr>().ok()?.into(), port)
    } else {
        match text.split_once(':') {
            None => (text.parse::<Ipv4Addr>().ok()?.into(), None),
            Some((ip, port)) if !port.contains(':') => (ip.parse::<Ipv4Addr>().ok()?.into(), Some(port)),
            Some(_) => (text.parse::<Ipv6Addr>().ok()?.into(), None),
        }
    };
    let port = match port {
        None => 0,
        // `_hidden` is a port too (RFC 7239, section 6).
        Some(hidden) if hidden.starts_with('_') => 0,
        Some(digits) => {
            let is_number =
                (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten()?
        }
    };
    Some(SocketAddr::new(ip, port))
}

fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(byte)).map_or(begin, |at| at + 1);
    &text[begin..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Proxies are in 10.0.0.0/8 and at `fd00::1`.
    fn is_proxy(ip: IpAddr) -> bool {
        ip.to_string().starts_with("10.") || ip.to_string() == "fd00::1"
    }

    fn found(field: ForwardedField, values: &[&str]) -> String {
        let client = client(field, values.iter().map(|value| value.as_bytes()), is_proxy);
        client.map_or_else(|| "none".to_owned(), |client| client.to_string())
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        for (values, expected) in [
            (&["192.0.2.1"][..], "192.0.2.1:0"),
            (&["192.0.2.1:81"], "192.0.2.1:81"),
            (&["2001:db8::1"], "[2001:db8::1]:0"),
            (&["[2001:db8::1]"], "[2001:db8::1]:0"),
            (&["[2001:db8::1]:81"], "[2001:db8::1]:81"),
            // What the client itself has written comes first.
            (&["203.0.113.9, 192.0.2.1"], "192.0.2.1:0"),
            (&["203.0.113.9,192.0.2.1 ,\t10.0.0.1, fd00::1"], "192.0.2.1:0"),
            // Several lines are one list.
            (&["203.0.113.9", "192.0.2.1", "10.0.0.1"], "192.0.2.1:0"),
            (&["203.0.113.9, 192.0.2.1", "10.0.0.1, 10.0.0.2"], "192.0.2.1:0"),
            // All are proxies: the first of them.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3:0"),
            // What is no address ends the way; nothing before it is believed.
            (&["192.0.2.1, unknown, 10.0.0.2, 10.0.0.1"], "10.0.0.2:0"),
            (&["192.0.2.1, unknown"], "none"),
            (&["192.0.2.1, 10.0.0.1,"], "none"),
            (&["192.0.2.1, \"10.0.0.1\""], "none"),
            (&["192.0.2.01", "10.0.0.1"], "10.0.0.1:0"),
            (&["192.0.2.1:65536"], "none"),
            (&["192.0.2.1:+80"], "none"),
            (&["192.0.2.1:"], "none"),
            (&["[192.0.2.1]:80"], "none"),
            (&["[2001:db8::1]80"], "none"),
            (&["fe80::1%eth0"], "none"),
            (&["name.example"], "none"),
            (&[""], "none"),
            (&[], "none"),
        ] {
            assert_eq!(found(ForwardedField::XForwardedFor, values), expected, "{values:?}");
        }
    }

    #[test]
    fn forwarded_is_read_with_its_quotes_and_parameters() {
        for (values, expected) in [
            (&["for=192.0.2.1"][..], "192.0.2.1:0"),
            (&["FOR=\"192.0.2.1:81\";Proto=https"], "192.0.2.1:81"),
            (&["by=10.0.0.9; For=\"[2001:db8::1]:81\" ;host=\"a,b;for=1.2.3.4\""], "[2001:db8::1]:81"),
            (&["for=\"[2001:db8::1]\", for=10.0.0.1;by=10.0.0.2"], "[2001:db8::1]:0"),
            (&["for=\"[2001:db8::1]:_port\""], "[2001:db8::1]:0"),
            (&["for=203.0.113.9, for=192.0.2.1", "for=10.0.0.1"], "192.0.2.1:0"),
            (&["for=192.0.2.1, for=unknown, for=10.0.0.1"], "10.0.0.1:0"),
            (&["for=192.0.2.1, for=_hidden"], "none"),
            (&["for=192.0.2.1, proto=https"], "none"),
            (&["for=192.0.2.1;for=192.0.2.2"], "none"),
            (&["192.0.2.1"], "none"),
            (&["for=192.0.2.1:81"], "none"),
            (&["for=[2001:db8::1]"], "none"),
            (&["for=\"192.0.2.1"], "none"),
            (&["for = 192.0.2.1"], "none"),
            (&["for=\"192.0.2.1\\\"\""], "none"),
            // A quote that the client has left open hides nothing that a proxy adds.
            (&["for=\"x, for=192.0.2.1"], "192.0.2.1:0"),
            (&["for=\"x", "for=192.0.2.1, for=10.0.0.1"], "192.0.2.1:0"),
            (&["for=203.0.113.9;a=\"\\\", for=192.0.2.1;a=\"b\\\\\""], "192.0.2.1:0"),
        ] {
            assert_eq!(found(ForwardedField::Forwarded, values), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_client_writes_changes_nothing_of_what_its_proxy_adds(
            made_up in prop::collection::vec("[ -~]{0,40}", 0..4), is_joined in any::<bool>(),
        ) {
            for (field, added) in [
                (ForwardedField::XForwardedFor, "192.0.2.1"),
                (ForwardedField::Forwarded, "for=\"192.0.2.1\";proto=http"),
            ] {
                let mut values: Vec<String> = made_up.clone();
                match values.last_mut() {
                    Some(last) if is_joined => last.push_str(&format!(", {added}")),
                    _ => values.push(added.to_owned()),
                }
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                prop_assert_eq!(found(field, &values), "192.0.2.1:0");
            }
        }

        #[test]
        fn any_bytes_are_read(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4)) {
            for field in [ForwardedField::XForwardedFor, ForwardedField::Forwarded] {
                let _ = client(field, values.iter().map(Vec::as_slice), is_proxy);
            }
        }
    }
}
