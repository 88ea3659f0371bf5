//! Decodes header blocks (RFC 7541 section 6).

use std::fmt;

use super::fields::{FIELD_OVERHEAD, FieldList};
use super::table::DynamicTable;
use super::{huffman, integer};

/// Why a header block cannot be decoded. The state of the compression is lost, so the connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HpackFault {
    /// The block ends inside a field, or an integer is over 2^31 - 1.
    Integer,
    /// A string is longer than the rest of the block.
    StringLength,
    /// A string has an invalid Huffman code or padding.
    Huffman,
    /// An index is 0, or beyond both tables.
    Index,
    /// A change of the table's size is over the announced maximum, or follows a field.
    SizeUpdate,
}

crate::error_text::debug_as_text!(HpackFault);

impl HpackFault {
    /// Returns what was found.
    pub const fn as_str(self) -> &'static str {
        match self {
            HpackFault::Integer => "a header block ends early, or has an integer over 2^31 - 1",
            HpackFault::StringLength => "a string is longer than its header block",
            HpackFault::Huffman => "a string has an invalid Huffman code or padding",
            HpackFault::Index => "an index is 0 or beyond the tables",
            HpackFault::SizeUpdate => "a change of the table's size is too large or in the wrong place",
        }
    }
}

impl fmt::Display for HpackFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for HpackFault {}

/// Whether a header list was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFit {
    /// All fields are in the list.
    Whole,
    /// The list is over the limit. The block was decoded to its end, so that the table is right, but only fields
    /// within the limit are stored.
    TooLarge,
}

/// The decoder of one connection's peer.
#[derive(Debug)]
pub struct HpackDecoder {
    table: DynamicTable,
    /// The maximum that was announced to the peer and acknowledged.
    announced: usize,
    /// For fields that are over the limit and still belong in the table.
    scratch: Vec<u8>,
}

/// One string of a block, not decoded yet.
#[derive(Clone, Copy)]
struct RawString<'a> {
    bytes: &'a [u8],
    is_huffman: bool,
}

impl RawString<'_> {
    /// Appends at most `bytes_max` bytes. Returns the whole length.
    #[inline]
    fn decode(self, bytes_max: usize, out: &mut Vec<u8>) -> Result<usize, HpackFault> {
        if self.is_huffman {
            return huffman::decode(self.bytes, bytes_max, out).map_err(|_| HpackFault::Huffman);
        }
        out.extend_from_slice(&self.bytes[..self.bytes.len().min(bytes_max)]);
        Ok(self.bytes.len())
    }
}

#[inline]
fn string(bytes: &[u8]) -> Result<(RawString<'_>, &[u8]), HpackFault> {
    let is_huffman = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let (length, rest) = integer::read(bytes, 7).ok_or(HpackFault::Integer)?;
    let (bytes, rest) = rest.split_at_checked(length).ok_or(HpackFault::StringLength)?;
    Ok((RawString { bytes, is_huffman }, rest))
}

impl HpackDecoder {
    /// Creates a decoder whose table has at most `table_bytes`, until another maximum is acknowledged.
    pub const fn new(table_bytes: usize) -> HpackDecoder {
        HpackDecoder { table: DynamicTable::new(table_bytes), announced: table_bytes, scratch: Vec::new() }
    }

    /// Returns the table.
    pub fn table(&self) -> &DynamicTable {
        &self.table
    }

    /// The peer has acknowledged another maximum of the table. If it lowers the current one, the next block should
    /// begin with a change of the size (RFC 7541 section 4.2). RFC 9113 section 4.3.1 makes its absence an error, but
    /// nginx (`grpc_pass`) leaves it out: until it comes, the table keeps the size that both sides know.
    pub fn acknowledged(&mut self, table_bytes: usize) {
        self.announced = table_bytes;
    }

    /// Decodes a whole block and adds its fields to `into`, as long as the list has at most `list_bytes_max` bytes
    /// (counted with 32 for each field).
    pub fn decode(
        &mut self,
        block: &[u8],
        list_bytes_max: usize,
        into: &mut FieldList,
    ) -> Result<ListFit, HpackFault> {
        let (mut rest, mut fit, mut is_begin) = (block, ListFit::Whole, true);
        while let Some(&first) = rest.first() {
            if first & 0xe0 == 0x20 {
                if !is_begin {
                    return Err(HpackFault::SizeUpdate);
                }
                rest = self.size_update(rest)?;
                continue;
            }
            is_begin = false;
            let fits;
            (fits, rest) = if first & 0x80 != 0 {
                self.indexed(rest, list_bytes_max, into)?
            } else {
                self.literal(first, rest, list_bytes_max, into)?
            };
            if !fits {
                fit = ListFit::TooLarge;
            }
        }
        Ok(fit)
    }

    fn size_update<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], HpackFault> {
        let (size, rest) = integer::read(bytes, 5).ok_or(HpackFault::Integer)?;
        if size > self.announced {
            return Err(HpackFault::SizeUpdate);
        }
        if size != self.table.size_max() {
            self.table.set_size_max(size);
        }
        Ok(rest)
    }

    #[inline]
    fn indexed<'a>(
        &mut self,
        bytes: &'a [u8],
        list_bytes_max: usize,
        into: &mut FieldList,
    ) -> Result<(bool, &'a [u8]), HpackFault> {
        let (index, rest) = integer::read(bytes, 7).ok_or(HpackFault::Integer)?;
        let (name, value) = self.table.get(index).ok_or(HpackFault::Index)?;
        let fits = into.list_bytes() + name.len() + value.len() + FIELD_OVERHEAD <= list_bytes_max;
        if fits {
            into.push(name, value, false);
        }
        Ok((fits, rest))
    }

    fn literal<'a>(
        &mut self,
        first: u8,
        bytes: &'a [u8],
        list_bytes_max: usize,
        into: &mut FieldList,
    ) -> Result<(bool, &'a [u8]), HpackFault> {
        let is_added = first & 0x40 != 0;
        let prefix_bits = if is_added { 6 } else { 4 };
        let (index, mut rest) = integer::read(bytes, prefix_bits).ok_or(HpackFault::Integer)?;
        let mut named = None;
        if index == 0 {
            let (literal, after) = string(rest)?;
            (named, rest) = (Some(literal), after);
        }
        let (value, rest) = string(rest)?;

        // A field that fits in neither the list nor the table needs no byte of memory beyond the larger limit.
        let left = list_bytes_max.saturating_sub(into.list_bytes());
        let bytes_max = if is_added { left.max(self.table.size_max()) } else { left };
        let mut buffer = std::mem::take(&mut self.scratch);
        buffer.clear();
        let decoded = (|| {
            let name_bytes = match named {
                Some(name) => name.decode(bytes_max, &mut buffer)?,
                None => {
                    let (name, _) = self.table.get(index).ok_or(HpackFault::Index)?;
                    buffer.extend_from_slice(name);
                    name.len()
                }
            };
            let value_max = bytes_max.saturating_sub(name_bytes);
            Ok((name_bytes, value.decode(value_max, &mut buffer)?))
        })();
        let (name_bytes, value_bytes) = decoded?;
        let size = name_bytes.saturating_add(value_bytes).saturating_add(FIELD_OVERHEAD);
        let fits = size <= left;
        if fits {
            let (name, value) = buffer.split_at(name_bytes);
            into.push(name, value, first & 0xf0 == 0x10);
        }
        if is_added {
            match buffer.split_at_checked(name_bytes) {
                Some((name, value)) if size <= self.table.size_max() => self.table.insert(name, value),
                // Too large an entry empties the table.
                _ => self.table.empty(),
            }
        }
        if buffer.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = buffer;
        }
        Ok((fits, rest))
    }
}

/// A scratch buffer that has grown beyond this is freed after its block.
const SCRATCH_BYTES_MAX: usize = 512;
