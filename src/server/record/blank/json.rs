//! Secrets in JSON text: what stands behind certain keys loses its content and keeps its kind.
//!
//! Everything else is copied as it is, number by number: what a reader would round or put in another order stays.

use serde::de::IgnoredAny;

use super::Names;

/// Containers within each other; the codec reads no deeper ones by default.
const DEPTH_MAX: usize = 128;

/// The text without the secrets; `None` if it is no JSON.
pub(super) fn blanked(text: &[u8], names: &Names) -> Option<Vec<u8>> {
    // From here on it is known to be well-formed; how deep it nests was not looked at.
    serde_json::from_slice::<IgnoredAny>(text).ok()?;
    let mut walk = Walk { text, at: 0, depth: 0, out: Vec::with_capacity(text.len()), names };
    walk.value(false)?;
    walk.out.extend_from_slice(&text[walk.at..]);
    Some(walk.out)
}

struct Walk<'t> {
    text: &'t [u8],
    at: usize,
    /// Containers around this place: at most DEPTH_MAX.
    depth: usize,
    out: Vec<u8>,
    names: &'t Names,
}

impl<'t> Walk<'t> {
    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.copy();
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn copy(&mut self) {
        self.out.extend(self.text.get(self.at));
        self.at += 1;
    }

    /// Copies a value, or a blank of its kind.
    fn value(&mut self, is_secret: bool) -> Option<()> {
        self.space();
        match self.peek()? {
            b'{' => self.inside(|walk| walk.members(is_secret)),
            b'[' => self.inside(|walk| walk.elements(is_secret)),
            b'"' => {
                let string = self.string()?;
                self.out.extend_from_slice(if is_secret { b"\"\"" } else { string });
                Some(())
            }
            first => {
                let from = self.at;
                while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
                    self.at += 1;
                }
                let blank: &[u8] = match first {
                    b't' | b'f' => b"false",
                    b'n' => b"null",
                    _ => b"0",
                };
                let word = self.text.get(from..self.at).filter(|word| !word.is_empty())?;
                self.out.extend_from_slice(if is_secret { blank } else { word });
                Some(())
            }
        }
    }

    fn inside(&mut self, go: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        go(self)?;
        self.depth -= 1;
        Some(())
    }

    /// Passes over a string, quotes and all.
    fn string(&mut self) -> Option<&'t [u8]> {
        let from = self.at;
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(from..self.at)
    }

    fn members(&mut self, is_secret: bool) -> Option<()> {
        self.copy();
        loop {
            self.space();
            match self.peek()? {
                b'}' => {
                    self.copy();
                    return Some(());
                }
                b',' => self.copy(),
                _ => {
                    let key = self.string()?;
                    // As a reader sees it: a letter may be written as an escape.
                    let name: String = serde_json::from_slice(key).ok()?;
                    self.out.extend_from_slice(key);
                    self.space();
                    // The colon.
                    self.copy();
                    self.value(is_secret || self.names.has(&name))?;
                }
            }
        }
    }

    /// The elements of a secret are left out: how many there are may say something of it.
    fn elements(&mut self, is_secret: bool) -> Option<()> {
        let (before, kept) = (self.out.len(), self.at);
        self.copy();
        loop {
            self.space();
            match self.peek()? {
                b']' => {
                    self.copy();
                    break;
                }
                b',' => self.copy(),
                _ => self.value(is_secret)?,
            }
        }
        debug_assert!(self.at > kept);
        if is_secret {
            self.out.truncate(before);
            self.out.extend_from_slice(b"[]");
        }
        Some(())
    }
}
