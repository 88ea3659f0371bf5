//! The two tables of HPACK: the static one, and the dynamic one of a connection's direction.

use std::collections::VecDeque;

use super::fields::FIELD_OVERHEAD;

/// The static table (RFC 7541 appendix A); index 1 is its first entry.
#[rustfmt::skip]
static STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""),
    ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""),
    ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""),
    ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
    ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""),
    ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

#[derive(Clone, Copy, Debug)]
struct TableEntry {
    start: u32,
    name_bytes: u32,
    value_bytes: u32,
}

impl TableEntry {
    fn bytes(self) -> usize {
        self.name_bytes as usize + self.value_bytes as usize
    }
}

/// Where a field was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableMatch {
    /// Name and value.
    Field(usize),
    /// The name only.
    Name(usize),
    Nothing,
}

/// The dynamic table of one direction, addressed together with the static one.
#[derive(Debug)]
pub struct DynamicTable {
    /// The bytes of the entries, oldest first, after those of evicted entries.
    bytes: Vec<u8>,
    /// Oldest first.
    entries: VecDeque<TableEntry>,
    /// As RFC 7541 counts it: the bytes, and 32 for each entry.
    size: usize,
    size_max: usize,
    changes: u64,
}

impl DynamicTable {
    /// Creates an empty table, without memory.
    pub const fn new(size_max: usize) -> DynamicTable {
        DynamicTable { bytes: Vec::new(), entries: VecDeque::new(), size: 0, size_max, changes: 0 }
    }

    /// Returns the size as RFC 7541 counts it: the bytes, and 32 for each entry.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the maximum size.
    pub fn size_max(&self) -> usize {
        self.size_max
    }

    /// Returns the number of changes so far. As long as it does not change, equal blocks have equal meanings.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns the bytes that the table has allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<TableEntry>()
    }

    /// Changes the maximum size, and evicts what is beyond it.
    pub fn set_size_max(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.changes += 1;
        self.evict(size_max);
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
            self.bytes = Vec::new();
        }
    }

    /// Removes all entries.
    pub fn empty(&mut self) {
        self.changes += 1;
        self.evict(0);
    }

    fn evict(&mut self, size_max: usize) {
        while self.size > size_max {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.size -= oldest.bytes() + FIELD_OVERHEAD;
        }
    }

    /// Inserts an entry as the newest. One that is larger than the table empties it.
    pub fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.changes += 1;
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        let Some(room) = self.size_max.checked_sub(size) else { return self.empty() };
        self.evict(room);
        let live_from = self.entries.front().map_or(self.bytes.len(), |oldest| oldest.start as usize);
        // Moving the live bytes once as many are dead costs each byte a move at most.
        if live_from > self.bytes.len() / 2 {
            self.bytes.drain(..live_from);
            for entry in &mut self.entries {
                entry.start -= live_from as u32;
            }
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        let (name_bytes, value_bytes) = (name.len() as u32, value.len() as u32);
        self.entries.push_back(TableEntry { start, name_bytes, value_bytes });
        self.size += size;
    }

    /// Returns the name and the value at an index of the combined tables, 1 being the first static entry.
    #[inline]
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if let Some((name, value)) = STATIC.get(index.checked_sub(1)?) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let age = index - STATIC.len();
        self.entries
            .len()
            .checked_sub(age)
            .and_then(|place| self.entries.get(place))
            .map(|entry| self.at(entry))
    }

    fn at(&self, entry: &TableEntry) -> (&[u8], &[u8]) {
        self.bytes[entry.start as usize..][..entry.bytes()].split_at(entry.name_bytes as usize)
    }

    /// Finds a field, or at least its name.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> TableMatch {
        let mut found = TableMatch::Nothing;
        for (i, (known, with)) in STATIC.iter().enumerate() {
            if known.as_bytes() == name {
                if with.as_bytes() == value {
                    return TableMatch::Field(i + 1);
                }
                if found == TableMatch::Nothing {
                    found = TableMatch::Name(i + 1);
                }
            }
        }
        for (age, entry) in self.entries.iter().rev().enumerate() {
            let (known, with) = self.at(entry);
            if known == name {
                let index = STATIC.len() + 1 + age;
                if with == value {
                    return TableMatch::Field(index);
                }
                if found == TableMatch::Nothing {
                    found = TableMatch::Name(index);
                }
            }
        }
        found
    }

    /// Returns the entries, newest first.
    #[cfg(test)]
    pub(super) fn newest_first(&self) -> Vec<(&[u8], &[u8])> {
        self.entries.iter().rev().map(|entry| self.at(entry)).collect()
    }
}
