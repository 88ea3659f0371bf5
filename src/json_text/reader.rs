//! A strict reader of JSON text (RFC 8259), which finds values and stores none.
//!
//! Requests are small and their arguments are decoded elsewhere, so a request costs one pass over its bytes and no
//! allocation. The reader never recurses; tests compare it with serde_json.

use std::ops::Range;

use super::nest::ContainerStack;

/// The reason why a text is not JSON, and the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JsonFault {
    /// The offset of the unexpected byte.
    pub(crate) at: usize,
    /// What was expected instead.
    pub(crate) expected: &'static str,
}

/// The expected text if the nesting is too deep.
const LESS_NESTING: &str = "less nesting";

impl JsonFault {
    /// Returns the error text, for a text whose arguments may have this nesting.
    #[cold]
    pub(crate) fn message(self, depth_max: usize) -> String {
        if self.expected == LESS_NESTING {
            return format!("parse error: nested deeper than {depth_max} (depth_max)");
        }
        format!("parse error: expected {} at byte {}", self.expected, self.at)
    }
}

/// A position in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The number of containers that may still be opened.
    depth_left: usize,
}

/// Whether a byte is JSON white space.
#[inline]
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Returns the length of the white space at the start.
#[inline]
pub(crate) fn space_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !is_space(*byte)).unwrap_or(bytes.len())
}

/// Whether the bytes are only white space.
#[inline]
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    space_len(bytes) == bytes.len()
}

/// Removes white space at both ends.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = &bytes[space_len(bytes)..];
    let end = bytes.iter().rposition(|byte| !is_space(*byte)).map_or(0, |at| at + 1);
    &bytes[..end]
}

/// Returns the number of bytes before the first one that needs a check inside a string (a quote, a backslash, a
/// control or non-ASCII character), in multiples of eight: up to seven more may need no check.
#[inline]
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    // Sets the high bit of each byte below `limit`, and possibly of others above the first such byte.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let (words, _) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = (quote | backslash | below(word, 0x20) | word) & HIGH;
        if found != 0 {
            return 8 * at + found.trailing_zeros() as usize / 8;
        }
    }
    8 * words.len()
}

impl<'a> JsonReader<'a> {
    /// Creates a reader of a text in which at most `depth_max` containers (at most [`ContainerStack::ROOM`]) may be
    /// open.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], depth_max: usize) -> JsonReader<'a> {
        JsonReader { bytes, at: 0, depth_left: depth_max }
    }

    /// Moves to a position in the outermost container; everything before it was read earlier.
    #[inline]
    pub(crate) fn move_inside(&mut self, at: usize) {
        self.at = at;
        self.depth_left -= 1;
    }

    /// Returns the position.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Returns a part of the text.
    #[inline]
    pub(crate) fn bytes_of(&self, range: Range<usize>) -> &'a [u8] {
        &self.bytes[range]
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[cold]
    fn fault<T>(&self, expected: &'static str) -> Result<T, JsonFault> {
        Err(JsonFault { at: self.at, expected })
    }

    /// Skips white space, and returns the next byte without consuming it.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if byte > b' ' || !is_space(byte) {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Skips white space, and consumes the next byte if it is the given one.
    #[inline]
    pub(crate) fn take(&mut self, wanted: u8) -> bool {
        let is_next = self.next() == Some(wanted);
        self.at += usize::from(is_next);
        is_next
    }

    /// Continues after a value in a container: returns true if another one follows, false if this was the last.
    #[inline]
    pub(crate) fn goes_on(&mut self, close: u8) -> Result<bool, JsonFault> {
        match self.next() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth_left += 1;
                Ok(false)
            }
            _ => self.fault("`,` or the closing bracket"),
        }
    }

    /// Consumes an opening bracket. Returns false if the container is empty; its closing bracket is then consumed,
    /// too.
    #[inline]
    pub(crate) fn opens(&mut self, open: u8, close: u8) -> Result<bool, JsonFault> {
        if !self.take(open) {
            return self.fault("an opening bracket");
        }
        if self.depth_left == 0 {
            return self.fault(LESS_NESTING);
        }
        let is_empty = self.take(close);
        self.depth_left -= usize::from(!is_empty);
        Ok(!is_empty)
    }

    /// Reads a member's name with its colon; the range is the text between the quotes.
    #[inline]
    pub(crate) fn name(&mut self) -> Result<Range<usize>, JsonFault> {
        self.next();
        let start = self.at;
        self.quoted_name()?;
        let end = self.at - 1;
        if !self.take(b':') {
            return self.fault("`:`");
        }
        Ok(start + 1..end)
    }

    #[inline]
    fn quoted_name(&mut self) -> Result<(), JsonFault> {
        if self.next() != Some(b'"') {
            return self.fault("a member's name");
        }
        self.string()
    }

    /// Reads a member's name with its colon, without its range.
    #[inline]
    fn any_name(&mut self) -> Result<(), JsonFault> {
        self.quoted_name()?;
        if self.take(b':') { Ok(()) } else { self.fault("`:`") }
    }

    /// Reads a member's name with its colon, if it is one of these in the usual form (`"name":`).
    #[inline(always)]
    pub(crate) fn usual_name(&mut self, names: &[&str]) -> Option<usize> {
        self.next();
        let rest = &self.bytes[self.at..];
        let which = names.iter().position(|name| rest.starts_with(name.as_bytes()))?;
        self.at += names[which].len();
        Some(which)
    }

    /// Checks that only white space is left.
    pub(crate) fn end(&mut self) -> Result<(), JsonFault> {
        if self.next().is_some() { self.fault("the end of the text") } else { Ok(()) }
    }

    /// Reads one complete value.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Range<usize>, JsonFault> {
        let first = self.next();
        let start = self.at;
        match first {
            Some(b'{' | b'[') => self.container()?,
            first => self.scalar(first)?,
        }
        Ok(start..self.at)
    }

    /// Reads a value that is no container and starts with this byte.
    #[inline]
    fn scalar(&mut self, first: Option<u8>) -> Result<(), JsonFault> {
        match first {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => self.fault("a value"),
        }
    }

    /// Reads a container, whose bracket is next.
    fn container(&mut self) -> Result<(), JsonFault> {
        let mut nest = ContainerStack::default();
        loop {
            match self.next() {
                Some(open @ (b'{' | b'[')) => {
                    // In ASCII, the code of a closing bracket is that of the opening one plus two.
                    if self.opens(open, open + 2)? {
                        nest.open(open == b'{', ContainerStack::ROOM);
                        if open == b'{' {
                            self.any_name()?;
                        }
                        continue;
                    }
                }
                first => self.scalar(first)?,
            }
            // A value has ended, and possibly the containers that it was the last value of.
            loop {
                let Some(is_object) = nest.innermost() else { return Ok(()) };
                if self.goes_on(if is_object { b'}' } else { b']' })? {
                    if is_object {
                        self.any_name()?;
                    }
                    break;
                }
                nest.close(is_object);
            }
        }
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), JsonFault> {
        if !self.bytes[self.at..].starts_with(word) {
            return self.fault("true, false or null");
        }
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<(), JsonFault> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.fault("a digit");
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<(), JsonFault> {
        let rest = &self.bytes[self.at..];
        let unsigned = if let [b'-', unsigned @ ..] = rest { unsigned } else { rest };
        let digits = unsigned.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Most numbers are integers.
        let end = rest.len() - unsigned.len() + digits;
        if matches!(unsigned.first(), Some(b'1'..=b'9')) && !matches!(rest.get(end), Some(b'.' | b'e' | b'E'))
        {
            self.at += end;
            return Ok(());
        }
        self.any_number()
    }

    #[inline(never)]
    fn any_number(&mut self) -> Result<(), JsonFault> {
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// Reads a string with its quotes, the first of which is next.
    #[inline]
    fn string(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        let end = start + 1 + plain_len(&self.bytes[start + 1..]);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(());
        }
        self.string_from(start, end)
    }

    /// Reads the rest of a string that started at `start`; the bytes before `at` are plain.
    #[inline(never)]
    fn string_from(&mut self, start: usize, at: usize) -> Result<(), JsonFault> {
        let mut is_ascii = true;
        self.at = at;
        loop {
            self.at += plain_len(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) | None => return self.fault("a character of a string, or its end"),
                Some(byte) => {
                    is_ascii &= byte < 0x80;
                    self.at += 1;
                }
            }
        }
        if !is_ascii && let Err(error) = std::str::from_utf8(&self.bytes[start + 1..self.at]) {
            self.at = start + 1 + error.valid_up_to();
            return self.fault("UTF-8");
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), JsonFault> {
        self.at += 1;
        let digits = match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            _ => return self.fault("an escape"),
        };
        self.at += 1;
        for _ in 0..digits {
            if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                return self.fault("a hexadecimal digit");
            }
            self.at += 1;
        }
        Ok(())
    }
}
