//! Writes text as JSON strings.
//!
//! The form is that of Go's encoding/json (`appendString` in encode.go, with HTML escaped), so the bytes equal those
//! of a Go server. Every JSON reader accepts them.

use super::sink::ByteSink;

/// Returns the escape of a byte in a string; `None` if it is written unchanged.
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

/// Writes text as a JSON string, with quotes. Invalid UTF-8 becomes the replacement character.
pub(super) fn put_string(sink: &mut impl ByteSink, text: &[u8]) {
    sink.put(b"\"");
    for chunk in text.utf8_chunks() {
        put_escaped(sink, chunk.valid());
        if !chunk.invalid().is_empty() {
            sink.put("\u{fffd}".as_bytes());
        }
    }
    sink.put(b"\"");
}

fn put_escaped(sink: &mut impl ByteSink, text: &str) {
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
                // Some JavaScript parsers end a line at line and paragraph separators.
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
