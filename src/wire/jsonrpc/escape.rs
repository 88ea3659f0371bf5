//! Text into JSON strings and out of them.
//!
//! Written as Go's encoding/json writes it (`appendString` in encode.go, with HTML escaped), so that the bytes are
//! those that a Go server would have sent; every JSON reader understands them.

use super::sink::Sink;

/// How the byte is written inside a string; `None`: as it is.
fn escape_of(byte: u8) -> Option<&'static str> {
    Some(match byte {
        b'"' => "\\\"",
        b'\\' => "\\\\",
        b'\n' => "\\n",
        b'\r' => "\\r",
        b'\t' => "\\t",
        0x08 => "\\b",
        0x0c => "\\f",
        b'<' => "\\u003c",
        b'>' => "\\u003e",
        b'&' => "\\u0026",
        _ => return None,
    })
}

/// Writes text as a JSON string, with its quotes. What is not UTF-8 becomes the replacement character.
pub(super) fn put_string(sink: &mut impl Sink, text: &[u8]) {
    sink.put(b"\"");
    for chunk in text.utf8_chunks() {
        put_escaped(sink, chunk.valid());
        if !chunk.invalid().is_empty() {
            sink.put("\u{fffd}".as_bytes());
        }
    }
    sink.put(b"\"");
}

fn put_escaped(sink: &mut impl Sink, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let (mut from, mut at) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        let is_separator = byte == 0xe2 && matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9]));
        let len = if is_separator { 3 } else { 1 };
        let short = escape_of(byte);
        if short.is_some() || byte < 0x20 || is_separator {
            sink.put(&bytes[from..at]);
            if let Some(short) = short {
                sink.put(short.as_bytes());
            } else if is_separator {
                // Line and paragraph separators end a line in some readers of JavaScript.
                sink.put(if bytes[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
            } else {
                let digits = [HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]];
                sink.put(b"\\u00");
                sink.put(&digits);
            }
            from = at + len;
        }
        at += len;
    }
    sink.put(&bytes[from..]);
}

/// Appends the text that stands between the quotes of a string which the reader has accepted. Half of a surrogate
/// pair becomes the replacement character, as in Go.
pub(super) fn unescape(between_quotes: &[u8], into: &mut String) {
    let text = String::from_utf8_lossy(between_quotes);
    let mut rest = &*text;
    while let Some(at) = rest.find('\\') {
        into.push_str(&rest[..at]);
        let escape = &rest.as_bytes()[at + 1..];
        let (character, used) = match escape.first() {
            Some(b'u') => unicode(escape),
            Some(b'b') => ('\u{8}', 1),
            Some(b'f') => ('\u{c}', 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b't') => ('\t', 1),
            Some(byte) if byte.is_ascii() => (*byte as char, 1),
            _ => (char::REPLACEMENT_CHARACTER, 0),
        };
        into.push(character);
        rest = &rest[at + 1 + used..];
    }
    into.push_str(rest);
}

fn unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.get(..5)?.strip_prefix(b"u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | (*digit as char).to_digit(16)? as u16))
}

/// The character of `uXXXX`, or of that and a second half `\uXXXX`, and the bytes that it took.
fn unicode(escape: &[u8]) -> (char, usize) {
    let Some(first) = unit(escape) else { return (char::REPLACEMENT_CHARACTER, 1) };
    let second = escape.get(5..).and_then(|rest| rest.strip_prefix(b"\\")).and_then(unit);
    let pair = [first, second.unwrap_or(0)];
    match char::decode_utf16(pair).next() {
        Some(Ok(character)) => (character, if character as u32 > 0xffff { 11 } else { 5 }),
        _ => (char::REPLACEMENT_CHARACTER, 5),
    }
}

/// Whether a string, or the text between its quotes, has an escape of half a surrogate pair without the other half.
/// Readers replace it, keep it or refuse it.
pub(super) fn has_lone_surrogate(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[at + 1..];
        let used = match unit(escape) {
            Some(0xd800..=0xdfff) => match unicode(escape) {
                (char::REPLACEMENT_CHARACTER, _) => return true,
                (_, used) => used,
            },
            _ => 1,
        };
        rest = escape.get(used..).unwrap_or_default();
    }
    false
}
