//! Redaction of JSON text: the values of certain keys lose their content and keep their kind.
//!
//! Everything else is copied byte by byte, including numbers that a reader would round and keys that it would
//! reorder. serde_json checks the text first, so that finding its values needs no other checks.

use serde::de::IgnoredAny;

use super::SecretNames;

/// The deepest nesting of containers; by default the codec reads no deeper one.
const DEPTH_MAX: usize = 128;

/// Returns the text without the secrets; `None` if it is not JSON, or nests too deep.
pub(super) fn blanked(text: &[u8], names: &SecretNames) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let text = text.as_bytes();
    let mut walk = JsonRedaction { text, at: 0, copied: 0, out: Vec::with_capacity(text.len()), names };
    walk.value(false, DEPTH_MAX)?;
    walk.out.extend_from_slice(&text[walk.copied..]);
    Some(walk.out)
}

/// A walk through a text that is JSON.
struct JsonRedaction<'t> {
    text: &'t [u8],
    at: usize,
    /// How much of the text is in `out`, or replaced by a blank there.
    copied: usize,
    out: Vec<u8>,
    names: &'t SecretNames,
}

impl JsonRedaction<'_> {
    /// Skips white space, and returns the next byte.
    fn next(&mut self) -> Option<u8> {
        let space = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace());
        self.at += space.count();
        self.text.get(self.at).copied()
    }

    /// Passes over a value; replaces a secret by a blank of its kind. Recurses at most as deep as `depth_left`, and
    /// returns `None` if the value nests deeper.
    fn value(&mut self, is_secret: bool, depth_left: usize) -> Option<()> {
        let first = self.next()?;
        let start = self.at;
        // Of a secret list even the number of elements may reveal something: it is replaced as a whole.
        let copied = (self.copied, self.out.len());
        match first {
            b'{' | b'[' => self.container(first, is_secret, depth_left.checked_sub(1)?)?,
            b'"' => self.string()?,
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
                let rest = &self.text[self.at..];
                self.at += rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
        let blank: &[u8] = match first {
            _ if !is_secret => return Some(()),
            // Its members are blanked.
            b'{' => return Some(()),
            b'"' => b"\"\"",
            b'[' => b"[]",
            b't' | b'f' => b"false",
            b'n' => b"null",
            _ => b"0",
        };
        self.copied = copied.0;
        self.out.truncate(copied.1);
        self.out.extend_from_slice(&self.text[self.copied..start]);
        self.out.extend_from_slice(blank);
        self.copied = self.at;
        Some(())
    }

    /// Passes over the members of an object, or the elements of a list.
    fn container(&mut self, open: u8, is_secret: bool, depth_left: usize) -> Option<()> {
        loop {
            self.at += 1;
            match self.next()? {
                b'}' | b']' => break,
                _ if open == b'[' => self.value(false, depth_left)?,
                _ => {
                    let start = self.at;
                    self.string()?;
                    // As a reader decodes it: a character may be written as an escape. A key that is not Unicode is
                    // none of the names.
                    let key = serde_json::from_slice::<String>(&self.text[start..self.at]);
                    let is_named = key.is_ok_and(|key| self.names.has(&key));
                    // The colon.
                    self.next()?;
                    self.at += 1;
                    self.value(is_secret || is_named, depth_left)?;
                }
            }
            if self.next()? != b',' {
                break;
            }
        }
        self.at += 1;
        Some(())
    }

    /// Passes over a string, whose first quote is next.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            self.at += 1;
            match self.text.get(self.at - 1)? {
                b'"' => return Some(()),
                b'\\' => self.at += 1,
                _ => {}
            }
        }
    }
}
