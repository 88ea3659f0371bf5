//! Secrets in JSON text: what stands behind certain keys loses its content and keeps its kind.
//!
//! Everything else is copied as it is, number by number: what a reader would round or put in another order stays.

use super::SecretNames;
use crate::json_text::{JsonFault, JsonReader, unescape};

/// Containers within each other; the codec reads no deeper ones by default.
const DEPTH_MAX: usize = 128;

/// The text without the secrets; `None` if it is no JSON.
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
    /// How much of the text is in `out`, or has a blank there.
    copied: usize,
    out: Vec<u8>,
    names: &'t SecretNames,
}

impl JsonRedaction<'_> {
    /// Passes over a value; in place of a secret, writes a blank of its kind. It recurses as deep as the reader lets it,
    /// which is [`DEPTH_MAX`].
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
                // How many elements there are may say something of them.
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
            // As a reader sees it: a letter may be written as an escape.
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
