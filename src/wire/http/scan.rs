//! Finds the end of a head without reading a byte twice.
//!
//! When a head arrives in pieces, only new bytes are read. The first invalid byte decides, so the result does not
//! depend on how the bytes were split.

/// The state of the search. A line ends with CR and LF only (RFC 9112 section 2.2 permits a recipient to be lenient,
/// but two recipients that are lenient in different ways can be played against each other).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadScan {
    /// Bytes read.
    looked: usize,
    /// Bytes of the current line, its CR included.
    line_bytes: usize,
    /// The last byte was a CR.
    is_cr: bool,
    /// Complete lines, including the first line.
    lines: usize,
    /// Bytes of the first line with its CR and LF, from its end until they are taken.
    first_line: Option<usize>,
}

/// The result of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScannedHead {
    /// A complete head.
    Head {
        /// Its length in bytes, with the empty line.
        bytes: usize,
        /// Its number of lines, without the empty one.
        lines: usize,
    },
    /// The head is not complete.
    NeedMore,
    /// The position of a byte that is not valid in a head.
    Bad(usize),
    /// The head is over the limit.
    TooLong {
        /// Whether the first line alone is over the limit.
        is_first_line: bool,
    },
}

impl HeadScan {
    /// Whether any byte of a head was read.
    pub(crate) fn has_begun(&self) -> bool {
        self.looked > 0
    }

    /// Whether the first line is not complete.
    pub(crate) fn is_in_first_line(&self) -> bool {
        self.lines == 0
    }

    /// Returns the length of the first line, once, after it has ended.
    pub(crate) fn take_first_line(&mut self) -> Option<usize> {
        self.first_line.take()
    }

    fn end_line(&mut self) {
        if self.lines == 0 {
            self.first_line = Some(self.looked);
        }
        self.lines += 1;
        self.line_bytes = 0;
    }

    /// Reads the new bytes. `input` starts at the start of the head.
    pub(crate) fn go_on(&mut self, input: &[u8], bytes_max: usize) -> ScannedHead {
        let end = input.len().min(bytes_max);
        while self.looked < end {
            if !self.is_cr {
                let plain = plain_len(&input[self.looked..end]);
                self.looked += plain;
                self.line_bytes += plain;
                if self.looked == end {
                    break;
                }
                if input[self.looked..end].starts_with(b"\r\n") {
                    self.looked += 2;
                    if self.line_bytes == 0 {
                        return ScannedHead::Head { bytes: self.looked, lines: self.lines };
                    }
                    self.end_line();
                    continue;
                }
            }
            // One of the two bytes is missing, or was read before.
            match (input[self.looked], self.is_cr) {
                (b'\n', true) => {
                    self.is_cr = false;
                    self.looked += 1;
                    if self.line_bytes == 1 {
                        return ScannedHead::Head { bytes: self.looked, lines: self.lines };
                    }
                    self.end_line();
                    continue;
                }
                (b'\r', false) => self.is_cr = true,
                (b'\t', false) => {}
                // Only LF may follow a CR, and no other control character is valid.
                _ => return ScannedHead::Bad(self.looked),
            }
            self.looked += 1;
            self.line_bytes += 1;
        }
        if end == bytes_max {
            ScannedHead::TooLong { is_first_line: self.lines == 0 }
        } else {
            ScannedHead::NeedMore
        }
    }
}

/// Returns the number of bytes before the first control character.
#[inline]
fn plain_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let controls = controls(u64::from_le_bytes(*word));
        if controls != 0 {
            return at * 8 + controls.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest.iter().take_while(|byte| **byte >= b' ' && **byte != 0x7f);
    words.len() * 8 + plain.count()
}

/// Marks the highest bit of each byte that is a control character (below a space, or DEL). The marks are correct up
/// to and including the first; later ones may be wrong because of the borrow (Warren, "Hacker's Delight", section
/// 6-1).
#[inline]
fn controls(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let del = word ^ (ONES * 0x7f);
    (below_space | del.wrapping_sub(ONES) & !del) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] =
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-Long: 0123456789012345678901234567890\t9\r\n\r\nmore";

    #[test]
    fn the_end_is_found_for_any_split() {
        let bytes = HEAD.len() - 4;
        for step in 1..HEAD.len() {
            let mut scan = HeadScan::default();
            let mut last = ScannedHead::NeedMore;
            for len in (step..HEAD.len() + step).step_by(step) {
                last = scan.go_on(&HEAD[..len.min(HEAD.len())], 1000);
                if last != ScannedHead::NeedMore {
                    break;
                }
            }
            assert_eq!(last, ScannedHead::Head { bytes, lines: 3 }, "in steps of {step}");
        }
    }

    #[test]
    fn no_byte_is_read_twice() {
        let mut scan = HeadScan::default();
        for len in 0..HEAD.len() - 4 {
            let mut seen = HEAD[..len].to_vec();
            let new = len.saturating_sub(1);
            seen[..new].fill(0);
            assert_eq!(scan.go_on(&seen, 1000), ScannedHead::NeedMore, "after {len} bytes");
        }
        assert_eq!(scan.go_on(HEAD, 1000), ScannedHead::Head { bytes: HEAD.len() - 4, lines: 3 });
    }

    #[test]
    fn the_first_control_character_is_found_at_any_position() {
        for byte in 0..=255_u8 {
            let is_control = byte < b' ' || byte == 0x7f;
            for after in [b'a', b' ', 0x80, 0xff, 0, 0x1f, 0x7f] {
                for at in 0..24 {
                    let mut bytes = [b'~'; 24];
                    bytes[at] = byte;
                    if let Some(next) = bytes.get_mut(at + 1) {
                        *next = after;
                    }
                    let plain = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
                    let expected = bytes.iter().position(|byte| !plain(byte)).unwrap_or(bytes.len());
                    assert_eq!(plain_len(&bytes), expected, "{byte:#04x} at {at}, then {after:#04x}");
                    assert!(!is_control || expected == at);
                }
            }
        }
    }

    #[test]
    fn a_lone_cr_lf_or_control_byte_is_found() {
        for (head, at) in [
            (&b"GET / HTTP/1.1\n"[..], 14),
            (b"GET / HTTP/1.1\r\nA: b\rc", 21),
            (b"GET / HTTP/1.1\r\nA: \0", 19),
            (b"GET /\x7f", 5),
            (b"GET / HTTP/1.1\r\nA: b\r\n\n", 22),
            (b"GET / HTTP/1.1\r\nA: b\r\r\n", 21),
        ] {
            for len in 0..=at {
                assert_eq!(HeadScan::default().go_on(&head[..len], 1000), ScannedHead::NeedMore);
            }
            assert_eq!(
                HeadScan::default().go_on(head, 1000),
                ScannedHead::Bad(at),
                "{}",
                head.escape_ascii()
            );
        }
    }

    #[test]
    fn a_head_is_limited_to_the_exact_byte() {
        let bytes = HEAD.len() - 4;
        assert_eq!(HeadScan::default().go_on(HEAD, bytes), ScannedHead::Head { bytes, lines: 3 });
        let too_long = |is_first_line| ScannedHead::TooLong { is_first_line };
        assert_eq!(HeadScan::default().go_on(HEAD, bytes - 1), too_long(false));
        assert_eq!(HeadScan::default().go_on(HEAD, 10), too_long(true));
        assert_eq!(HeadScan::default().go_on(&HEAD[..9], 10), ScannedHead::NeedMore);
    }
}
