//! A strict reader of JSON text (RFC 8259): it says where values begin and end, and keeps none of them.
//!
//! Requests are small and their arguments are decoded elsewhere, so a request costs one pass over its bytes and no
//! allocation. It never recurses; what it accepts is held to serde_json by the tests.

use std::ops::Range;

use super::nest::ContainerStack;

/// Why a text is not JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JsonFault {
    /// Offset of the byte that does not fit.
    pub(crate) at: usize,
    /// What would have.
    pub(crate) expected: &'static str,
}

/// What is expected where a text is nested too deep.
const LESS_NESTING: &str = "less nesting";

impl JsonFault {
    /// The text of the error, for a text whose arguments may be nested as deep as this.
    #[cold]
    pub(crate) fn message(self, depth_max: usize) -> String {
        if self.expected == LESS_NESTING {
            return format!("parse error: nested deeper than {depth_max} (depth_max)");
        }
        format!("parse error: expected {} at byte {}", self.expected, self.at)
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Containers that may still be opened inside those that are.
    depth_left: usize,
}

/// JSON's white space.
#[inline]
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// How much white space the bytes begin with.
#[inline]
pub(crate) fn space_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !is_space(*byte)).unwrap_or(bytes.len())
}

/// Nothing but white space.
#[inline]
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    space_len(bytes) == bytes.len()
}

/// The bytes without white space around them.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = &bytes[space_len(bytes)..];
    let end = bytes.iter().rposition(|byte| !is_space(*byte)).map_or(0, |at| at + 1);
    &bytes[..end]
}

/// How many bytes stand in front of the first that needs a look inside a string (a quote, a backslash, a control
/// character, one that is not ASCII), by eights: up to seven that need none may be left.
#[inline]
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    // The high bit of each byte that is below `limit`, and maybe of others above the first such.
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
    /// At the start of a text, in which at most `depth_max` containers (at most [`ContainerStack::ROOM`]) may be open at once.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], depth_max: usize) -> JsonReader<'a> {
        JsonReader { bytes, at: 0, depth_left: depth_max }
    }

    /// Goes to a place in the outermost container, in front of which all was read before.
    #[inline]
    pub(crate) fn stand_inside(&mut self, at: usize) {
        self.at = at;
        self.depth_left -= 1;
    }

    /// Where it stands.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// A part of the text.
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

    /// Skips white space; the next byte, which stays.
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

    /// Takes this byte, if it is the next behind white space.
    #[inline]
    pub(crate) fn take(&mut self, wanted: u8) -> bool {
        let is_next = self.next() == Some(wanted);
        self.at += usize::from(is_next);
        is_next
    }

    /// Behind a value inside of brackets: true if another one follows, false if this was the last.
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

    /// Takes the opening bracket; true if something stands inside, false if it is closed at once.
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

    /// A member's name with its colon; the range is that of the text between the quotes.
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

    /// The same, without the text.
    #[inline]
    fn any_name(&mut self) -> Result<(), JsonFault> {
        self.quoted_name()?;
        if self.take(b':') { Ok(()) } else { self.fault("`:`") }
    }

    /// Takes a member's name with its colon, if it is one of these, written as most write it (`"name":`).
    #[inline(always)]
    pub(crate) fn usual_name(&mut self, names: &[&str]) -> Option<usize> {
        self.next();
        let rest = &self.bytes[self.at..];
        let which = names.iter().position(|name| rest.starts_with(name.as_bytes()))?;
        self.at += names[which].len();
        Some(which)
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), JsonFault> {
        if self.next().is_some() { self.fault("the end of the text") } else { Ok(()) }
    }

    /// One whole value.
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

    /// A value that is no container, and begins with this byte.
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

    /// A container, the bracket of which is next.
    fn container(&mut self) -> Result<(), JsonFault> {
        let mut nest = ContainerStack::default();
        loop {
            match self.next() {
                Some(open @ (b'{' | b'[')) => {
                    // The closing bracket stands two behind the opening one in ASCII.
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
            // A value has ended, and with it whatever it was the last of.
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
        // Most are integers.
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

    /// A string with its quotes, the first of which is next.
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

    /// The rest of a string that was begun at `start`: what precedes `at` is plain.
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
