//! The fields that define where a message ends and whether another follows (RFC 9112 sections 6 and 9), for requests
//! and replies. An ambiguous combination is a fault.

use super::chunks::is_token;

/// The framing that the fields of a head define.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Framing {
    /// The one Content-Length.
    pub(crate) length: Option<u64>,
    /// The one Transfer-Encoding, which is `chunked`.
    pub(crate) is_chunked: bool,
    /// `Connection: close`.
    pub(crate) close: bool,
    /// `Connection: keep-alive`.
    pub(crate) keep_alive: bool,
    /// `Connection` names fields that apply to the next hop only.
    pub(crate) names_fields: bool,
}

impl Framing {
    /// Takes a field if it concerns framing. Returns whether it did.
    pub(crate) fn take(&mut self, name: &str, value: &[u8]) -> Result<bool, &'static str> {
        if name.eq_ignore_ascii_case("content-length") {
            if self.length.is_some() {
                // Even if they are equal: a repeated length indicates that a proxy has merged messages.
                return Err("there are two Content-Length fields");
            }
            let Some(length) = digits(value, 19) else { return Err("Content-Length is not a number") };
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.is_chunked {
                return Err("there are two Transfer-Encoding fields");
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("unsupported Transfer-Encoding: expected chunked");
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            for token in list(value) {
                if token.eq_ignore_ascii_case(b"close") {
                    self.close = true;
                } else if token.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                } else {
                    self.names_fields = true;
                }
                if !token.iter().all(|byte| is_token(*byte)) {
                    return Err("Connection is not a list of tokens");
                }
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Checks the combination of the fields, once all are known.
    pub(crate) fn check(&self, is_http_10: bool) -> Result<(), &'static str> {
        if self.is_chunked && self.length.is_some() {
            return Err("there are both Content-Length and Transfer-Encoding");
        }
        if self.is_chunked && is_http_10 {
            return Err("HTTP/1.0 has no Transfer-Encoding");
        }
        Ok(())
    }

    /// Whether the connection ends after this message.
    pub(crate) fn is_last(&self, is_http_10: bool) -> bool {
        self.close || is_http_10 && !self.keep_alive
    }
}

/// Parses text of decimal digits only, with at most `digits_max` of them (at most 19, which cannot overflow).
pub(crate) fn digits(text: &[u8], digits_max: usize) -> Option<u64> {
    if text.is_empty() || text.len() > digits_max || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The members of a comma-separated list, without empty ones (RFC 9110 section 5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Removes spaces and tabs at both ends.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let is_black = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(is_black).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(is_black).map_or(start, |at| at + 1);
    &bytes[start..end]
}

/// Whether a field is always limited to one hop, regardless of `Connection` (RFC 9110 section 7.6.1).
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    ["keep-alive", "proxy-connection", "te", "trailer", "upgrade"]
        .iter()
        .any(|hop| name.eq_ignore_ascii_case(hop))
}

/// Whether the media type is application/json. Of its parameters only the charset matters, which must be UTF-8.
pub(crate) fn is_json(content_type: &[u8]) -> bool {
    let mut parts = content_type.split(|byte| *byte == b';').map(trim);
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case(b"application/json")) {
        return false;
    }
    parts.all(|parameter| {
        let mut halves = parameter.splitn(2, |byte| *byte == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        // The second spelling is not registered, but many clients send it.
        let is_utf_8 = value.eq_ignore_ascii_case(b"utf-8") || value.eq_ignore_ascii_case(b"utf8");
        !name.eq_ignore_ascii_case(b"charset") || is_utf_8
    })
}

/// Runs `with` with a table of fields for httparse, which parses a complete head whose lines were counted. A table of
/// the usual size is on the stack.
macro_rules! with_fields {
    ($lines:expr, |$fields:ident| $with:expr) => {{
        if $lines <= 65 {
            let $fields = &mut [const { std::mem::MaybeUninit::uninit() }; 64][..];
            $with
        } else {
            let $fields = &mut vec![std::mem::MaybeUninit::uninit(); $lines - 1][..];
            $with
        }
    }};
}
pub(crate) use with_fields;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &str)]) -> Result<Framing, &'static str> {
        let mut framing = Framing::default();
        for (name, value) in fields {
            assert!(framing.take(name, value.as_bytes())?, "{name}");
        }
        framing.check(false)?;
        Ok(framing)
    }

    #[test]
    fn one_length_or_chunks_and_nothing_else() {
        assert_eq!(of(&[("Content-Length", "007")]).unwrap().length, Some(7));
        assert!(of(&[("TRANSFER-ENCODING", "Chunked")]).unwrap().is_chunked);
        for fields in [
            &[("Content-Length", "")][..],
            &[("Content-Length", "+5")],
            &[("Content-Length", "-5")],
            &[("Content-Length", "0x5")],
            &[("Content-Length", "5, 5")],
            &[("Content-Length", "5 5")],
            &[("Content-Length", "18446744073709551616")],
            &[("Content-Length", "5"), ("content-length", "5")],
            &[("Content-Length", "5"), ("Content-Length", "6")],
            &[("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
            &[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
            &[("Transfer-Encoding", "gzip, chunked")],
            &[("Transfer-Encoding", "chunked, identity")],
            &[("Transfer-Encoding", "identity")],
            &[("Transfer-Encoding", "")],
            &[("Transfer-Encoding", "xchunked")],
            &[("Transfer-Encoding", "chunked;q=1")],
            &[("Transfer-Encoding", "\u{b}chunked")],
            &[("Connection", "close;")],
        ] {
            assert!(of(fields).is_err(), "{fields:?}");
        }
        let chunked = of(&[("Transfer-Encoding", "chunked")]).unwrap();
        assert!(chunked.check(true).is_err());
    }

    #[test]
    fn version_and_options_decide_whether_a_connection_lasts() {
        let last = |value, is_http_10| of(&[("Connection", value)]).unwrap().is_last(is_http_10);
        assert!(!last("", false) && last("", true));
        assert!(!last("Keep-Alive", true) && !last("keep-alive, x-a", false));
        assert!(last("x-a ,, CLOSE", false) && last("keep-alive, close", true));
    }
}
