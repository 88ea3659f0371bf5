//! The metadata of a call, in the layout of the native frame.

use std::fmt;

/// Metadata of a call: keys with values, read in place.
///
/// The layout is that of the native frame: `u8` key length, key, `u16` value length (little-endian), value;
/// zero padding to a multiple of 8.
#[derive(Clone, Copy, Default)]
pub struct Metadata<'a> {
    bytes: &'a [u8],
}

/// The error of metadata with inconsistent lengths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MetadataError {
    /// Offset of the invalid entry.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

crate::error_text::debug_as_text!(MetadataError);

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metadata entry at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for MetadataError {}

impl<'a> Metadata<'a> {
    /// Checks that the entries fill the bytes, according to their lengths.
    ///
    /// # Errors
    ///
    /// The first entry that exceeds the end, has a key that is not UTF-8, or is followed by padding that is not zero
    /// or not shorter than 8 bytes.
    pub fn check(bytes: &'a [u8]) -> Result<Metadata<'a>, MetadataError> {
        let mut at = 0;
        while at < bytes.len() {
            let broken = |what| Err(MetadataError { at, what });
            let rest = &bytes[at..];
            let key_len = rest[0] as usize;
            if key_len == 0 {
                if rest.len() >= 8 {
                    return broken("the padding is longer than 7 bytes");
                }
                if rest.iter().any(|byte| *byte != 0) {
                    return broken("the padding is not zero");
                }
                break;
            }
            let Some(key) = rest.get(1..1 + key_len) else { return broken("the key runs over the end") };
            if std::str::from_utf8(key).is_err() {
                return broken("the key is not UTF-8");
            }
            let Some(len) = rest.get(1 + key_len..3 + key_len) else {
                return broken("the value's length is missing");
            };
            let value_len = u16::from_le_bytes([len[0], len[1]]) as usize;
            if rest.len() < 3 + key_len + value_len {
                return broken("the value runs over the end");
            }
            at += 3 + key_len + value_len;
        }
        Ok(Metadata { bytes })
    }

    /// Wraps metadata that were checked before; an inconsistent entry ends the iteration.
    pub(crate) fn checked_before(bytes: &'a [u8]) -> Metadata<'a> {
        Metadata { bytes }
    }

    /// Iterates over the entries in the order in which they were sent.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (entry, after) = split_entry(rest)?;
            rest = after;
            Some(entry)
        })
    }

    /// Returns the value of the first entry with that key.
    pub fn find(self, key: &str) -> Option<&'a [u8]> {
        let mut rest = self.bytes;
        while let Some((name, value, after)) = split_bytes(rest) {
            if name == key.as_bytes() {
                return Some(value);
            }
            rest = after;
        }
        None
    }

    /// Returns whether there are no entries.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns the encoded entries with their padding.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may hold credentials, so only the keys are printed.
        f.debug_list().entries(self.iter().map(|(key, _)| key)).finish()
    }
}

/// The first entry, and the bytes after it.
type MetadataEntries<'a> = ((&'a str, &'a [u8]), &'a [u8]);

fn split_entry(bytes: &[u8]) -> Option<MetadataEntries<'_>> {
    let (key, value, after) = split_bytes(bytes)?;
    Some(((std::str::from_utf8(key).ok()?, value), after))
}

/// Returns the key and the value of the first entry, and the bytes after it.
fn split_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let key_len = *bytes.first()? as usize;
    if key_len == 0 {
        return None;
    }
    let key = bytes.get(1..1 + key_len)?;
    let len = bytes.get(1 + key_len..3 + key_len)?;
    let end = 3 + key_len + u16::from_le_bytes([len[0], len[1]]) as usize;
    Some((key, bytes.get(3 + key_len..end)?, &bytes[end..]))
}

/// A builder of encoded metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataBuf {
    bytes: Vec<u8>,
    /// The bytes of the entries, without the padding.
    entries_len: usize,
}

/// The error of an entry that does not fit: the key is empty or longer than 255 bytes, the value is longer than 65
/// 535 bytes, or all entries together are longer than 65 528.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MetadataTooLong {
    /// The length of the key, in bytes.
    pub key_len: usize,
    /// The length of the value, in bytes.
    pub value_len: usize,
}

crate::error_text::debug_as_text!(MetadataTooLong);

impl fmt::Display for MetadataTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a metadata key of {} bytes (1 to 255) with a value of {} bytes does not fit: all entries of a frame \
             take at most 65528 bytes",
            self.key_len, self.value_len
        )
    }
}

impl std::error::Error for MetadataTooLong {}

impl MetadataBuf {
    /// Creates metadata without entries.
    pub fn new() -> MetadataBuf {
        MetadataBuf::default()
    }

    /// Creates metadata without entries that use this memory.
    #[cfg(any(feature = "grpc", feature = "http"))]
    pub(crate) fn reusing(mut bytes: Vec<u8>) -> MetadataBuf {
        bytes.clear();
        MetadataBuf { bytes, entries_len: 0 }
    }

    /// Returns the encoded entries with their memory.
    #[cfg(any(feature = "grpc", feature = "http"))]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds an entry at the end.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLong`] if it does not fit; nothing is added then.
    pub fn push(&mut self, key: &str, value: &[u8]) -> Result<(), MetadataTooLong> {
        let too_long = MetadataTooLong { key_len: key.len(), value_len: value.len() };
        let (Ok(key_len), Ok(value_len)) = (u8::try_from(key.len()), u16::try_from(value.len())) else {
            return Err(too_long);
        };
        if key_len == 0 || self.entries_len + 3 + key.len() + value.len() > 65_528 {
            return Err(too_long);
        }
        self.bytes.truncate(self.entries_len);
        self.bytes.push(key_len);
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(&value_len.to_le_bytes());
        self.bytes.extend_from_slice(value);
        self.entries_len = self.bytes.len();
        self.bytes.resize(self.entries_len.next_multiple_of(8), 0);
        Ok(())
    }

    /// Replaces all entries with that key by one, at the end.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLong`] if it does not fit; nothing is changed then.
    pub fn set(&mut self, key: &str, value: &[u8]) -> Result<(), MetadataTooLong> {
        let mut changed = self.clone();
        changed.remove(key);
        changed.push(key, value)?;
        *self = changed;
        Ok(())
    }

    /// Removes all entries with that key.
    pub fn remove(&mut self, key: &str) {
        let mut kept = MetadataBuf::new();
        for (name, value) in self.view().iter().filter(|(name, _)| *name != key) {
            // They fitted before.
            let _ = kept.push(name, value);
        }
        *self = kept;
    }

    /// Copies checked entries.
    pub(crate) fn of(metadata: Metadata<'_>) -> MetadataBuf {
        let mut copied = MetadataBuf::new();
        for (key, value) in metadata.iter() {
            // They fitted before.
            let _ = copied.push(key, value);
        }
        copied
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries_len == 0
    }

    /// Removes all entries; the memory is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries_len = 0;
    }

    /// Returns the encoded entries, padded to a multiple of 8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns a view for reading the entries.
    pub fn view(&self) -> Metadata<'_> {
        Metadata { bytes: &self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_returned_in_order_and_padded() {
        let mut metadata = MetadataBuf::new();
        metadata.push("b3", b"1").unwrap();
        metadata.push("authorization", b"Bearer x").unwrap();
        assert_eq!(metadata.as_bytes().len() % 8, 0);
        let view = Metadata::check(metadata.as_bytes()).unwrap();
        assert_eq!(
            view.iter().collect::<Vec<_>>(),
            vec![("b3", &b"1"[..]), ("authorization", &b"Bearer x"[..])]
        );
        assert_eq!(view.find("b3"), Some(&b"1"[..]));
        assert_eq!(view.find("B3"), None);
        assert_eq!(format!("{view:?}"), r#"["b3", "authorization"]"#);
    }

    #[test]
    fn inconsistent_lengths_are_refused() {
        for (bytes, what) in [
            (&b"\x09b3\0\0\0\0\0"[..], "the key runs over the end"),
            (b"\x02b3\xff\xff\0\0\0", "the value runs over the end"),
            (b"\x06abcdef\x01", "the value's length is missing"),
            (b"\0\0\0\0\0\0\0\0", "the padding is longer than 7 bytes"),
            (b"\x01a\0\0\0\0\0\x01", "the padding is not zero"),
            (b"\x02\xff\xfe\0\0\0\0\0", "the key is not UTF-8"),
        ] {
            assert_eq!(Metadata::check(bytes).unwrap_err().what, what, "{bytes:?}");
        }
    }

    #[test]
    fn an_entry_that_does_not_fit_changes_nothing() {
        let mut metadata = MetadataBuf::new();
        assert!(metadata.push("", b"x").is_err());
        assert!(metadata.push(&"k".repeat(256), b"").is_err());
        assert!(metadata.push("k", &[0; 65_536]).is_err());
        metadata.push("k", &[7; 65_000]).unwrap();
        assert!(metadata.push("l", &[7; 600]).is_err());
        assert_eq!(metadata.view().iter().count(), 1);
    }

    #[test]
    fn an_entry_is_replaced_or_removed_with_its_namesakes() {
        let mut metadata = MetadataBuf::new();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            metadata.push(key, value.as_bytes()).unwrap();
        }
        metadata.set("a", b"4").unwrap();
        let entries = |metadata: &MetadataBuf| -> Vec<(String, Vec<u8>)> {
            metadata.view().iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect()
        };
        assert_eq!(entries(&metadata), [("b".to_owned(), b"2".to_vec()), ("a".to_owned(), b"4".to_vec())]);
        assert!(metadata.set("a", &[0; 65_536]).is_err());
        assert_eq!(metadata.view().find("a"), Some(&b"4"[..]));
        metadata.remove("b");
        metadata.remove("none");
        assert_eq!(entries(&metadata), [("a".to_owned(), b"4".to_vec())]);
        metadata.remove("a");
        assert!(metadata.as_bytes().is_empty());
    }

    proptest! {
        #[test]
        fn checked_metadata_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(metadata) = Metadata::check(&bytes) {
                let mut again = MetadataBuf::new();
                for (key, value) in metadata.iter() {
                    again.push(key, value).unwrap();
                }
                prop_assert_eq!(again.view().iter().collect::<Vec<_>>(), metadata.iter().collect::<Vec<_>>());
            }
        }
    }
}
