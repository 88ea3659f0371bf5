//! Recognizes the protocol of a connection by its first bytes, once.
//!
//! A table of patterns, preceded by one rule: a gob stream has no constant first byte but a known structure (the
//! length of a message, then the negative id of a type). A protocol that is recognized but not served (TLS) is listed
//! too, so that the operator sees its name instead of "unknown".

use super::server_protocol::STARTS as TABLE;
pub use super::server_protocol::{ProtocolId, ProtocolSet};

/// The result of looking at the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// The bytes are of this protocol.
    Is(ProtocolId),
    /// The bytes may still become one of several protocols.
    NeedMore,
    /// The bytes match no protocol.
    Unknown,
}

/// White space is examined up to this length.
const SPACE_MAX: usize = 64;
/// The longest method of a request that is recognized; registered methods have up to 17 characters.
const METHOD_BYTES_MAX: usize = 32;
/// The longest start of a request's target that is examined.
const TARGET_START: &[u8] = b"https://";
/// With this many bytes the protocol is decided: white space, a method and the space after it, and the start of a target.
pub const UNDECIDED_BYTES_MAX: usize = SPACE_MAX - 1 + METHOD_BYTES_MAX + 1 + TARGET_START.len();

/// Recognizes the protocol by the first bytes of a connection. The result does not depend on how the bytes are split.
pub fn sniff(input: &[u8]) -> Sniffed {
    // A gob length may be equal to the first byte of another protocol; the second byte never matches that protocol.
    match sniff_gob(input) {
        Sniffed::Unknown => {}
        sniffed => return sniffed,
    }
    let mut open = false;
    for &(pattern, protocol) in TABLE {
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

/// Recognizes the first line of a request whose method is unknown, or is known but followed by something unexpected,
/// and any request after empty lines (RFC 9112 section 2.2: they are ignored). HTTP then reports the fault. Returns
/// `None` if it cannot be a request.
fn sniff_http(input: &[u8]) -> Option<Sniffed> {
    let is_method = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_');
    let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    // JSON may follow them as well; `sniff_after_space` checks how many there may be.
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
        // Other protocols also have lines of a word and a space, but hardly ever one of these after it.
        (b' ', false) => [&b"/"[..], b"*", b"http://", TARGET_START].into_iter().find_map(|start| {
            let common = start.len().min(target.len());
            (start[..common] == target[..common]).then_some(match common == start.len() {
                true => Sniffed::Is(ProtocolId::Http),
                false => Sniffed::NeedMore,
            })
        }),
        _ => None,
    }
}

/// Recognizes a gob stream, which starts with the definition of a type: the message's length, then the type's id,
/// negated. Numbers below 128 take one byte; others are the negated count of their bytes, then the bytes. The lowest
/// bit of a negative number is set (encoding/gob, doc.go). Ids of defined types start at 64.
fn sniff_gob(input: &[u8]) -> Sniffed {
    /// The least length of a definition.
    const LENGTH_MIN: u64 = 8;
    let (length, rest) = match gob_uint(input, 3) {
        Ok(read) => read,
        Err(sniffed) => return sniffed,
    };
    if length < LENGTH_MIN {
        return Sniffed::Unknown;
    }
    match gob_uint(rest, 4) {
        // -64 is encoded as 127, and each further id adds two.
        Ok((id, _)) if id >= 127 && id % 2 == 1 => Sniffed::Is(ProtocolId::NetRpc),
        Ok(_) => Sniffed::Unknown,
        Err(sniffed) => sniffed,
    }
}

/// Reads a number of at most `bytes_max` bytes, and returns it with the rest.
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

/// Recognizes JSON after white space (RFC 8259 section 2). White space is examined up to `SPACE_MAX` bytes.
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
    fn each_pattern_is_recognized_only_when_complete() {
        for &(pattern, protocol) in TABLE {
            for cut in 0..pattern.len() {
                assert_eq!(sniff(&pattern[..cut]), Sniffed::NeedMore, "{pattern:?} cut at {cut}");
            }
            let mut longer = pattern.to_vec();
            longer.extend_from_slice(b"and more");
            assert_eq!(sniff(&longer), Sniffed::Is(protocol));
            // One byte may also be a gob length.
            if pattern.len() > 1 {
                assert_eq!(sniff(pattern), Sniffed::Is(protocol));
            }
        }
    }

    #[test]
    fn unknown_bytes_are_refused_at_the_first_wrong_byte() {
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
            // Telnet: a length, then a byte that is no id of a definition.
            b"\xff\xfb\x1f",
            b"\xff\xfd\x18",
            // Ids of built-in types, or of a value.
            b"\x30\x7d",
            b"\x30\xff\x80",
            b"\x30\xfb",
        ] {
            assert_eq!(sniff(input), Sniffed::Unknown, "{input:?}");
        }
        assert_eq!(sniff(&[b' '; 64]), Sniffed::Unknown);
    }

    #[test]
    fn any_method_is_http_also_after_empty_lines() {
        for request in [
            "BREW /",
            "PROPFIND *",
            "M-SEARCH *",
            "VERSION-CONTROL https://",
            "get http://",
            "PRI /",
            #[cfg(not(feature = "grpc"))]
            "PRI *",
            #[cfg(feature = "grpc")]
            "PRI * HTTP/1",
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
    fn json_may_follow_white_space() {
        assert_eq!(sniff(b"\r\n\r\n{"), Sniffed::Is(ProtocolId::JsonRpc));
        assert_eq!(sniff(b" \r\n\t"), Sniffed::NeedMore);
        assert_eq!(sniff(b" \r\n\t["), Sniffed::Is(ProtocolId::JsonRpc));
    }

    #[test]
    fn gob_is_recognized_with_any_length() {
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
