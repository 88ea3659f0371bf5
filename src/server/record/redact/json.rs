//! Redaction of JSON text: the values of certain keys lose their content and keep their kind.
//!
//! Everything else is copied byte by byte, including numbers that a reader would round and keys that it would
//! reorder.

use super::SecretNames;
use crate::json_text::{JsonFault, JsonReader, unescape};

/// The deepest nesting of containers; by default the codec reads no deeper one.
const DEPTH_MAX: usize = 128;

/// Returns the text without the secrets; `None` if it is not JSON.
pub(super) fn blanked(text: &[u8], names: &SecretNames) -> Option<Vec<u8>> {
    let reader = JsonReader::new(text, DEPTH_MAX);
    let mut walk = JsonRedaction { reader, text, copied: 0, out: Vec::with_capacity(text.len()), names };
    walk.value(false).ok()?;
    walk.reader.end().ok()?;
    walk.out.extend_from_slice(&text[walk.copied..]);
    Some(walk.out)
}

struct JsonRedaction<'t> {
    reader: JsonReader<'t>,
    text: &'t [u8],
    /// How much of the text is in `out`, or replaced by a blank there.
    copied: usize,
    out: Vec<u8>,
    names: &'t SecretNames,
}

impl JsonRedaction<'_> {
    /// Passes over a value; replaces a secret by a blank of its kind. Recurses at most as deep as the reader allows,
    /// [`DEPTH_MAX`].
    fn value(&mut self, is_secret: bool) -> Result<(), JsonFault> {
        match self.reader.next() {
            Some(b'{') => return self.members(is_secret),
            Some(b'[') if !is_secret => return self.elements(),
            _ => {}
        }
        let range = self.reader.value()?;
        if is_secret {
            let blank: &[u8] = match self.text[range.start] {
                b'"' => b"\"\"",
                // The number of elements may reveal something about them.
                b'[' => b"[]",
                b't' | b'f' => b"false",
                b'n' => b"null",
                _ => b"0",
            };
            self.out.extend_from_slice(&self.text[self.copied..range.start]);
            self.out.extend_from_slice(blank);
            self.copied = range.end;
        }
        Ok(())
    }

    fn members(&mut self, is_secret: bool) -> Result<(), JsonFault> {
        let mut goes_on = self.reader.opens(b'{', b'}')?;
        while goes_on {
            let key = self.reader.name()?;
            // Received as a reader decodes it: a character may be written as an escape.
            let mut name = String::new();
            unescape(&self.text[key], &mut name);
            self.value(is_secret || self.names.has(&name))?;
            goes_on = self.reader.goes_on(b'}')?;
        }
        Ok(())
    }

    fn elements(&mut self) -> Result<(), JsonFault> {
        let mut goes_on = self.reader.opens(b'[', b']')?;
        while goes_on {
            self.value(false)?;
            goes_on = self.reader.goes_on(b']')?;
        }
        Ok(())
    }
}
