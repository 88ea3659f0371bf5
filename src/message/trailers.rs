//! The metadata that a server adds to replies by itself: how long a caller should wait before it calls again, and the
//! server's load. Values are decimal numbers.

use super::Metadata;

/// The key of the milliseconds after which a refused call may be repeated.
pub const RETRY_AFTER_MS: &str = "retry-after-ms";
/// The key of the microseconds for which a new call would wait for a worker.
pub const LOAD: &str = "load";
/// The key with which a request asks for [`LOAD`] in its reply.
pub const WANT_LOAD: &str = "want-load";

/// The bytes of both entries with the longest numbers and their padding.
pub const TRAILER_BYTES_MAX: usize = 48;

/// Encodes the entries that are given, without allocation: [`RETRY_AFTER_MS`], then [`LOAD`].
///
/// ```
/// use coreloop::Metadata;
/// use coreloop::message::trailers::{TRAILER_BYTES_MAX, encode};
///
/// let mut room = [0; TRAILER_BYTES_MAX];
/// let trailers = Metadata::check(encode(Some(250), None, &mut room))?;
/// assert_eq!(trailers.find("retry-after-ms"), Some(&b"250"[..]));
/// # Ok::<(), coreloop::message::MetadataError>(())
/// ```
pub fn encode(
    retry_after_ms: Option<u32>,
    load_us: Option<u32>,
    room: &mut [u8; TRAILER_BYTES_MAX],
) -> &[u8] {
    *room = [0; TRAILER_BYTES_MAX];
    let mut len = 0;
    for (key, number) in [(RETRY_AFTER_MS, retry_after_ms), (LOAD, load_us)] {
        let Some(number) = number else { continue };
        let (digits, start) = decimal(number);
        let value = &digits[start..];
        for part in [&[key.len() as u8], key.as_bytes(), &(value.len() as u16).to_le_bytes(), value] {
            room[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
    }
    &room[..len.next_multiple_of(8)]
}

/// Returns the digits of a number, and where they begin.
fn decimal(number: u32) -> ([u8; 10], usize) {
    let (mut digits, mut at, mut rest) = ([0; 10], 10, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return (digits, at);
        }
    }
}

/// Returns the value of the first entry with that key, if it is a decimal number. A number that does not fit counts as
/// the greatest that does.
pub fn number(trailers: Metadata<'_>, key: &str) -> Option<u32> {
    parse(trailers.find(key)?)
}

/// Reads a decimal number. One that does not fit counts as the greatest that does.
pub(crate) fn parse(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let append = |number: u32, digit: &u8| number.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
    Some(text.iter().fold(0, append))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::MetadataBuf;

    #[test]
    fn an_entry_has_the_documented_layout() {
        let mut room = [0xff; TRAILER_BYTES_MAX];
        assert_eq!(encode(Some(1500), None, &mut room), b"\x0eretry-after-ms\x04\x001500\0\0\0");
        assert_eq!(encode(None, Some(0), &mut room), b"\x04load\x01\x000");
        assert_eq!(encode(None, None, &mut room), b"");
        assert_eq!(encode(Some(u32::MAX), Some(u32::MAX), &mut room).len(), TRAILER_BYTES_MAX);
    }

    #[test]
    fn only_decimal_numbers_are_read() {
        for (text, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", Some(u32::MAX)),
            ("99999999999999999999999", Some(u32::MAX)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            (" 1", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn both_encodings_of_entries_agree(retry in any::<Option<u32>>(), load in any::<Option<u32>>()) {
            let mut entries = MetadataBuf::new();
            for (key, number) in [(RETRY_AFTER_MS, retry), (LOAD, load)] {
                if let Some(number) = number {
                    entries.push(key, number.to_string().as_bytes()).unwrap();
                }
            }
            let mut room = [0xff; TRAILER_BYTES_MAX];
            let encoded = encode(retry, load, &mut room);
            prop_assert_eq!(encoded, entries.as_bytes());
            let read = Metadata::check(encoded).unwrap();
            prop_assert_eq!((number(read, RETRY_AFTER_MS), number(read, LOAD)), (retry, load));
        }
    }
}
