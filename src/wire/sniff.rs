//! Which protocol speaks: the first bytes of a connection decide, once.
//!
//! A table of patterns, and in front of it one rule: a gob stream has no constant first byte, but a shape (the length of
//! a message, then a type's negative id). A protocol that is recognised but not served (TLS) has a name here all the
//! same, so that the operator reads what knocked instead of "unknown".

/// A protocol that can be told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ProtocolId {
    /// The native frame: `19 96`.
    Native,
    /// HTTP/1.1: a method and a space; also after an empty line, and methods that are not known.
    Http,
    /// JSON-RPC: `{` or `[`.
    JsonRpc,
    /// TLS: a handshake record, `16 03`.
    Tls,
    /// Go's net/rpc: gob's definition of a type.
    NetRpc,
}

impl ProtocolId {
    /// The name, as configuration and counters spell it.
    pub fn name(self) -> &'static str {
        match self {
            ProtocolId::Native => "native",
            ProtocolId::Http => "http",
            ProtocolId::JsonRpc => "jsonrpc",
            ProtocolId::Tls => "tls",
            ProtocolId::NetRpc => "gob",
        }
    }
}

/// A set of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolSet(u8);

impl ProtocolSet {
    /// Every protocol that this version serves.
    pub const SERVED: ProtocolSet = ProtocolSet(
        1 << ProtocolId::Native as u8
            | (cfg!(feature = "jsonrpc") as u8) << ProtocolId::JsonRpc as u8
            | (cfg!(feature = "http") as u8) << ProtocolId::Http as u8
            | (cfg!(feature = "netrpc") as u8) << ProtocolId::NetRpc as u8,
    );

    /// The set of one protocol.
    pub fn only(protocol: ProtocolId) -> ProtocolSet {
        ProtocolSet(1 << protocol as u8)
    }

    /// Whether the protocol is in the set.
    pub fn contains(self, protocol: ProtocolId) -> bool {
        self.0 & (1 << protocol as u8) != 0
    }
}

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// It is this one.
    Is(ProtocolId),
    /// It could still become one of several.
    NeedMore,
    /// It is none.
    Unknown,
}

/// First bytes, and the protocol they announce. None is the beginning of another.
const TABLE: [(&[u8], ProtocolId); 13] = [
    (&[0x19, 0x96], ProtocolId::Native),
    (&[0x16, 0x03], ProtocolId::Tls),
    (b"GET ", ProtocolId::Http),
    (b"POST ", ProtocolId::Http),
    (b"PUT ", ProtocolId::Http),
    (b"HEAD ", ProtocolId::Http),
    (b"PATCH ", ProtocolId::Http),
    (b"TRACE ", ProtocolId::Http),
    (b"DELETE ", ProtocolId::Http),
    (b"OPTIONS ", ProtocolId::Http),
    (b"CONNECT ", ProtocolId::Http),
    (b"{", ProtocolId::JsonRpc),
    (b"[", ProtocolId::JsonRpc),
];

/// White space is looked at up to this length.
const SPACE_MAX: usize = 64;

/// Tells the protocol by the first bytes of a connection. The same bytes split anywhere give the same answer.
pub fn sniff(input: &[u8]) -> Sniffed {
    // A length may be any first byte of another protocol; the second byte never is that protocol's.
    match sniff_gob(input) {
        Sniffed::Unknown => {}
        told => return told,
    }
    let mut open = false;
    for (pattern, protocol) in TABLE {
        let common = pattern.len().min(input.len());
        if pattern[..common] == input[..common] {
            if common == pattern.len() {
                return Sniffed::Is(protocol);
            }
            open = true;
        }
    }
    if open { Sniffed::NeedMore } else { sniff_http(input).unwrap_or_else(|| sniff_after_space(input)) }
}

/// The first line of a request whose method is not in the table, or is known and followed by the wrong thing, and any
/// request after empty lines (RFC 9112, section 2.2: they are ignored). What is wrong with it, HTTP answers. `None` if it
/// cannot be a request.
fn sniff_http(input: &[u8]) -> Option<Sniffed> {
    /// Registered methods have up to 17 characters.
    const METHOD_BYTES_MAX: usize = 32;
    let is_method = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_');
    let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    // JSON may follow them as well; the longer way knows how many there may be.
    let line = &input[blank..];
    if line.is_empty() || blank >= SPACE_MAX {
        return None;
    }
    let method_len = line.iter().take_while(|byte| is_method(**byte)).count();
    if !(1..=METHOD_BYTES_MAX).contains(&method_len) {
        return None;
    }
    let Some((end, target)) = line[method_len..].split_first() else { return Some(Sniffed::NeedMore) };
    let is_known = TABLE.iter().any(|(pattern, protocol)| {
        *protocol == ProtocolId::Http && pattern[..pattern.len() - 1] == line[..method_len]
    });
    match (end, is_known) {
        (b' ' | b'\t' | b'\r' | b'\n', true) => Some(Sniffed::Is(ProtocolId::Http)),
        // Lines of other protocols begin with a word and a space as well, but hardly with one of these behind it.
        (b' ', false) => [&b"/"[..], b"*", b"http://", b"https://"].into_iter().find_map(|start| {
            let common = start.len().min(target.len());
            (start[..common] == target[..common]).then_some(match common == start.len() {
                true => Sniffed::Is(ProtocolId::Http),
                false => Sniffed::NeedMore,
            })
        }),
        _ => None,
    }
}

/// A gob stream begins with a type's definition: the message's length, then the type's id, negated. Numbers below 128
/// are one byte, others their bytes behind the negated count of these; the lowest bit of a negative one is set
/// (encoding/gob, doc.go). Ids of types that are defined begin at 64.
fn sniff_gob(input: &[u8]) -> Sniffed {
    /// The least that a definition takes.
    const LENGTH_MIN: u64 = 8;
    let (length, rest) = match gob_uint(input, 3) {
        Ok(read) => read,
        Err(sniffed) => return sniffed,
    };
    if length < LENGTH_MIN {
        return Sniffed::Unknown;
    }
    match gob_uint(rest, 4) {
        // Minus 64 is 127, and each further id two more.
        Ok((id, _)) if id >= 127 && id % 2 == 1 => Sniffed::Is(ProtocolId::NetRpc),
        Ok(_) => Sniffed::Unknown,
        Err(sniffed) => sniffed,
    }
}

/// A number of at most so many bytes, and what follows it.
fn gob_uint(input: &[u8], bytes_max: usize) -> Result<(u64, &[u8]), Sniffed> {
    let (first, rest) = input.split_first().ok_or(Sniffed::NeedMore)?;
    if *first < 0x80 {
        return Ok((u64::from(*first), rest));
    }
    let count = usize::from(first.wrapping_neg());
    if count > bytes_max {
        return Err(Sniffed::Unknown);
    }
    let (bytes, rest) = rest.split_at_checked(count).ok_or(Sniffed::NeedMore)?;
    Ok((bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)), rest))
}

/// JSON may stand after white space (RFC 8259, section 2). As much of it as a head may be long is looked at.
fn sniff_after_space(input: &[u8]) -> Sniffed {
    match input.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        None if input.len() < SPACE_MAX => Sniffed::NeedMore,
        Some(at) if at > 0 && at < SPACE_MAX && matches!(input[at], b'{' | b'[') => {
            Sniffed::Is(ProtocolId::JsonRpc)
        }
        _ => Sniffed::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_is_told_whole_and_open_before() {
        for (pattern, protocol) in TABLE {
            for cut in 0..pattern.len() {
                assert_eq!(sniff(&pattern[..cut]), Sniffed::NeedMore, "{pattern:?} cut at {cut}");
            }
            let mut longer = pattern.to_vec();
            longer.extend_from_slice(b"and more");
            assert_eq!(sniff(&longer), Sniffed::Is(protocol));
            // One byte may be a length, too.
            if pattern.len() > 1 {
                assert_eq!(sniff(pattern), Sniffed::Is(protocol));
            }
        }
    }

    #[test]
    fn strangers_are_strangers_at_their_first_wrong_byte() {
        for input in [
            &b"\x19\x97"[..],
            b"\x00",
            b"\x07",
            b"\x80",
            b"\xfc",
            b"SSH-2",
            b"EHLO m",
            b"HELP\r",
            b"GETX x",
            b"get\t",
            b"POSTAL hx",
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG",
            b" GET /",
            b"\r\nHELP\r",
            b"\x16\x02",
            b" x",
            // Telnet: a length, then what is no id of a definition.
            b"\xff\xfb\x1f",
            b"\xff\xfd\x18",
            // Ids that are built in, or of a value.
            b"\x30\x7d",
            b"\x30\xff\x80",
            b"\x30\xfb",
        ] {
            assert_eq!(sniff(input), Sniffed::Unknown, "{input:?}");
        }
        assert_eq!(sniff(&[b' '; 64]), Sniffed::Unknown);
    }

    #[test]
    fn a_request_is_told_by_any_method_and_after_empty_lines() {
        for request in [
            "BREW /",
            "PROPFIND *",
            "M-SEARCH *",
            "VERSION-CONTROL https://",
            "get http://",
            "PRI *",
            "GETX /",
            "GET\t",
            "POST\r",
            "HEAD\n",
            "\r\nGET ",
            "\r\n\r\nBREW /",
            "\n\nOPTIONS ",
        ] {
            let request = request.as_bytes();
            for cut in 0..request.len() {
                assert_eq!(sniff(&request[..cut]), Sniffed::NeedMore, "{request:?} cut at {cut}");
            }
            assert_eq!(sniff(request), Sniffed::Is(ProtocolId::Http), "{request:?}");
        }
    }

    #[test]
    fn json_may_stand_after_white_space() {
        assert_eq!(sniff(b"\r\n\r\n{"), Sniffed::Is(ProtocolId::JsonRpc));
        assert_eq!(sniff(b" \r\n\t"), Sniffed::NeedMore);
        assert_eq!(sniff(b" \r\n\t["), Sniffed::Is(ProtocolId::JsonRpc));
    }

    #[test]
    fn gob_is_told_whatever_letter_its_length_is() {
        let lengths = (8..=127).map(|length| vec![length]);
        let lengths =
            lengths.chain([vec![0xff, 200], vec![0xfe, 1, 0], vec![0xfd, 0, 4, 0], vec![0xff, 0x7f]]);
        let ids = [&[0x7f][..], &[0xff, 0x81], &[0xff, 0xff], &[0xfe, 0x40, 0x01], &[0xfd, 1, 0, 1]];
        for length in lengths {
            for id in ids {
                let start = [&length[..], id].concat();
                for cut in 0..start.len() {
                    assert_eq!(sniff(&start[..cut]), Sniffed::NeedMore, "{start:?} cut at {cut}");
                }
                assert_eq!(sniff(&start), Sniffed::Is(ProtocolId::NetRpc), "{start:?}");
            }
        }
    }
}
