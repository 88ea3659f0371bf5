//! A list of header fields in one buffer, which is used again for each block.

use std::fmt;

/// What a field counts for beyond its bytes, in a header list and in a table (RFC 7541 section 4.1).
pub(super) const FIELD_OVERHEAD: usize = 32;
/// A buffer that has grown beyond this is freed when the list is cleared, so that an idle connection is small.
const KEPT_BYTES_MAX: usize = 1024;

/// One header field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeaderField<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Whether the peer has asked that no intermediary adds it to a table.
    pub is_sensitive: bool,
}

impl fmt::Debug for HeaderField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be tokens and cookies, which must not be logged.
        write!(f, "{}: {} bytes", self.name.escape_ascii(), self.value.len())
    }
}

#[derive(Clone, Copy, Debug)]
struct FieldSpan {
    start: u32,
    name_bytes: u32,
    value_bytes: u32,
    is_sensitive: bool,
}

/// A list of header fields, in order.
#[derive(Default)]
pub struct FieldList {
    pub(super) bytes: Vec<u8>,
    spans: Vec<FieldSpan>,
    list_bytes: usize,
}

impl FieldList {
    /// Creates an empty list, without memory.
    pub const fn new() -> FieldList {
        FieldList { bytes: Vec::new(), spans: Vec::new(), list_bytes: 0 }
    }

    /// Removes the fields. Keeps a small buffer.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.bytes.clear();
        self.list_bytes = 0;
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
            self.spans = Vec::new();
        }
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns the size as SETTINGS_MAX_HEADER_LIST_SIZE counts it: the bytes, and 32 for each field.
    pub fn list_bytes(&self) -> usize {
        self.list_bytes
    }

    /// Returns the bytes that the list has allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<FieldSpan>()
    }

    /// Returns a field by its place.
    pub fn get(&self, place: usize) -> Option<HeaderField<'_>> {
        self.spans.get(place).map(|span| self.field(span))
    }

    /// Returns the fields in order.
    pub fn iter(&self) -> impl Iterator<Item = HeaderField<'_>> {
        self.spans.iter().map(|span| self.field(span))
    }

    fn field(&self, span: &FieldSpan) -> HeaderField<'_> {
        let (name, value) = self.bytes[span.start as usize..]
            [..(span.name_bytes + span.value_bytes) as usize]
            .split_at(span.name_bytes as usize);
        HeaderField { name, value, is_sensitive: span.is_sensitive }
    }

    /// Adds a field.
    pub fn push(&mut self, name: &[u8], value: &[u8], is_sensitive: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.added(start, name.len(), is_sensitive);
    }

    /// Counts the bytes from `start` to the end of the buffer, which were appended to it, as a field.
    #[inline]
    pub(super) fn added(&mut self, start: usize, name_bytes: usize, is_sensitive: bool) {
        let value_bytes = self.bytes.len() - start - name_bytes;
        self.list_bytes += name_bytes + value_bytes + FIELD_OVERHEAD;
        // The decoder stores far fewer than 2^32 bytes.
        let (start, name_bytes, value_bytes) = (start as u32, name_bytes as u32, value_bytes as u32);
        self.spans.push(FieldSpan { start, name_bytes, value_bytes, is_sensitive });
    }
}

impl fmt::Debug for FieldList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
