//! Decodes the text between the quotes of a JSON string.

/// Appends the text between the quotes of a string that the reader has accepted. Half of a surrogate pair becomes the
/// replacement character, as in Go.
pub(crate) fn unescape(between_quotes: &[u8], into: &mut String) {
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

/// Decodes the character of `uXXXX`, possibly with a second half `\uXXXX`, and returns it with the length of the
/// escape.
fn unicode(escape: &[u8]) -> (char, usize) {
    let Some(first) = unit(escape) else { return (char::REPLACEMENT_CHARACTER, 1) };
    let second = escape.get(5..).and_then(|rest| rest.strip_prefix(b"\\")).and_then(unit);
    let pair = [first, second.unwrap_or(0)];
    match char::decode_utf16(pair).next() {
        Some(Ok(character)) => (character, if character as u32 > 0xffff { 11 } else { 5 }),
        _ => (char::REPLACEMENT_CHARACTER, 5),
    }
}

/// Whether a string, or the text between its quotes, contains an escape of half a surrogate pair without the other
/// half. Readers differ: they replace, keep or refuse it.
pub(crate) fn has_lone_surrogate(text: &[u8]) -> bool {
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
