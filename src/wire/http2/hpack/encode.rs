//! Encodes header blocks (RFC 7541 section 6).

use super::table::{DynamicTable, TableMatch};
use super::{huffman, integer};

/// What the peer's table and intermediaries do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// Added to the table: the field will be repeated with the same value.
    Add,
    /// Not added: the value changes from message to message.
    Omit,
    /// Never added, by no intermediary either: the value is a secret.
    Never,
}

/// The encoder of one connection.
#[derive(Debug)]
pub struct HpackEncoder {
    table: DynamicTable,
    /// The largest table that this side keeps, whatever the peer allows.
    own_max: usize,
    /// A change of the size that the next block begins with: the least size in between, and the last one.
    size_update: Option<(usize, usize)>,
    uses_huffman: bool,
}

impl HpackEncoder {
    /// Creates an encoder that keeps a table of at most `own_max` bytes, for a peer that allows `peer_max`. With
    /// `uses_huffman`, strings are compressed unless that makes them longer.
    pub fn new(own_max: usize, peer_max: usize, uses_huffman: bool) -> HpackEncoder {
        let size = own_max.min(peer_max);
        HpackEncoder {
            table: DynamicTable::new(size),
            own_max,
            // The peer evicts by its own maximum, so it must know of a smaller one.
            size_update: (size < peer_max).then_some((size, size)),
            uses_huffman,
        }
    }

    /// Returns the table.
    pub fn table(&self) -> &DynamicTable {
        &self.table
    }

    /// The peer has announced another maximum: the least value in its SETTINGS frame, and the last one.
    pub fn set_peer_max(&mut self, least: usize, last: usize) {
        let (least, last) = (least.min(self.own_max), last.min(self.own_max));
        if last == self.table.size_max() && least == last {
            return;
        }
        if least < self.table.size_max() {
            self.table.set_size_max(least);
        }
        self.table.set_size_max(last);
        let before = self.size_update.map_or(least, |(before, _)| before.min(least));
        self.size_update = Some((before, last));
    }

    /// Begins a block: appends the changes of the table's size.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((least, last)) = self.size_update.take() {
            if least < last {
                integer::write(least, 5, 0x20, out);
            }
            integer::write(last, 5, 0x20, out);
        }
    }

    /// Appends a field.
    pub fn field(&mut self, name: &[u8], value: &[u8], indexing: Indexing, out: &mut Vec<u8>) {
        let found = self.table.find(name, value);
        if let (TableMatch::Field(index), Indexing::Add | Indexing::Omit) = (found, indexing) {
            return integer::write(index, 7, 0x80, out);
        }
        let (prefix_bits, first) = match indexing {
            Indexing::Add => (6, 0x40),
            Indexing::Omit => (4, 0x00),
            Indexing::Never => (4, 0x10),
        };
        match found {
            TableMatch::Field(index) | TableMatch::Name(index) => {
                integer::write(index, prefix_bits, first, out)
            }
            TableMatch::Nothing => {
                out.push(first);
                self.string(name, out);
            }
        }
        self.string(value, out);
        if indexing == Indexing::Add {
            self.table.insert(name, value);
        }
    }

    fn string(&self, string: &[u8], out: &mut Vec<u8>) {
        if self.uses_huffman {
            let bytes = huffman::encoded_bytes(string);
            if bytes <= string.len() {
                integer::write(bytes, 7, 0x80, out);
                return huffman::encode(string, out);
            }
        }
        integer::write(string.len(), 7, 0, out);
        out.extend_from_slice(string);
    }
}
