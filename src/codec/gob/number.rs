//! Reads and writes gob's numbers and byte strings.
//!
//! An unsigned integer below 128 is one byte; a larger one is its negated byte count followed by its bytes, high byte
//! first (Go's encodeUint). Signed integers fold the sign into the low bit, floats are sent with their bytes
//! reversed. Types are in `wire.rs`.

use std::borrow::Cow;

use super::fault::GobFault;
use super::stream::{self, SplitItem};

/// The unread part of a message, and the bytes that follow the message.
#[derive(Clone, Copy)]
pub(super) struct GobReader<'de> {
    left: &'de [u8],
    /// A value with interfaces may continue in further messages (Go's decodeTypeSequence).
    after: &'de [u8],
}

impl<'de> GobReader<'de> {
    /// Returns a reader for the payload of one message; `after` is what follows it.
    pub(super) fn new(left: &'de [u8], after: &'de [u8]) -> GobReader<'de> {
        GobReader { left, after }
    }

    pub(super) fn left(&self) -> &'de [u8] {
        self.left
    }

    pub(super) fn after(&self) -> &'de [u8] {
        self.after
    }

    #[inline]
    pub(super) fn uint(&mut self) -> Result<u64, GobFault> {
        match self.left {
            [first, rest @ ..] if *first < 0x80 => {
                self.left = rest;
                Ok(u64::from(*first))
            }
            [first, rest @ ..] => {
                let count = usize::from(first.wrapping_neg());
                if count > 8 {
                    return Err(GobFault::text("an unsigned integer of more than eight bytes"));
                }
                let Some((bytes, rest)) = rest.split_at_checked(count) else {
                    return Err(ends_early());
                };
                self.left = rest;
                Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
            }
            [] => Err(ends_early()),
        }
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i64, GobFault> {
        self.uint().map(unfold)
    }

    #[inline]
    pub(super) fn float(&mut self) -> Result<f64, GobFault> {
        self.uint().map(|bits| f64::from_bits(bits.swap_bytes()))
    }

    /// Reads a count of items that take at least one byte each: never more than the bytes left.
    #[inline]
    pub(super) fn count(&mut self) -> Result<usize, GobFault> {
        let count = self.uint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.left.len() => Ok(count),
            _ => Err(lies(count, self.left.len())),
        }
    }

    /// Reads a byte string: its length, then its bytes.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'de [u8], GobFault> {
        let len = self.count()?;
        let (bytes, rest) = self.left.split_at(len);
        self.left = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'de str, GobFault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| GobFault::text("expected a string of UTF-8"))
    }

    /// Reads a type's id: positive for a value, negative for the definition of the type with the negated id.
    #[inline]
    pub(super) fn id(&mut self) -> Result<i32, GobFault> {
        let id = self.int()?;
        match i32::try_from(id) {
            // Excludes the smallest value, so that the id can be negated.
            Ok(id) if id != 0 && id != i32::MIN => Ok(id),
            _ => Err(no_id(id)),
        }
    }

    /// Continues with the next message. The current message must have been read to its end.
    pub(super) fn next_message(&mut self) -> Result<(), GobFault> {
        match stream::split(self.after, usize::MAX).map_err(GobFault::said)? {
            SplitItem::Message(message) => {
                *self = GobReader::new(message.payload(), &self.after[message.whole().len()..]);
                Ok(())
            }
            SplitItem::NeedMore { bytes_min } => {
                Err(GobFault::NeedMore { missing: bytes_min - self.after.len() })
            }
        }
    }
}

/// Reads the field numbers of a struct: each is the distance from the previous field, and zero ends the struct.
pub(super) struct FieldDeltas {
    /// The smallest number that the next field can have: at most the number of fields.
    next: usize,
}

impl FieldDeltas {
    pub(super) fn new() -> FieldDeltas {
        FieldDeltas { next: 0 }
    }

    #[inline]
    pub(super) fn next(
        &mut self,
        reader: &mut GobReader<'_>,
        fields: usize,
    ) -> Result<Option<usize>, GobFault> {
        let delta = reader.uint()?;
        if delta == 0 {
            return Ok(None);
        }
        let left = fields - self.next;
        match usize::try_from(delta) {
            Ok(delta) if delta <= left => {
                self.next += delta;
                Ok(Some(self.next - 1))
            }
            _ => Err(GobFault::text("a field number that the type does not have")),
        }
    }
}

#[cold]
fn ends_early() -> GobFault {
    GobFault::text("the body ends before the value does")
}

#[cold]
fn no_id(id: i64) -> GobFault {
    GobFault::What(Cow::Owned(format!("the type id {id} is none")))
}

#[cold]
fn lies(count: u64, left: usize) -> GobFault {
    GobFault::What(Cow::Owned(format!("a count of {count}, and {left} bytes are left")))
}

fn unfold(folded: u64) -> i64 {
    let number = (folded >> 1) as i64;
    if folded & 1 == 0 { number } else { !number }
}

#[inline]
pub(super) fn put_uint(out: &mut Vec<u8>, number: u64) {
    if number < 0x80 {
        out.push(number as u8);
    } else {
        let (bytes, from) = spelt(number);
        out.extend_from_slice(&bytes[from..]);
    }
}

#[inline]
pub(super) fn put_int(out: &mut Vec<u8>, number: i64) {
    // The low bit marks a complemented number.
    put_uint(out, (number << 1 ^ number >> 63) as u64);
}

#[inline]
pub(super) fn put_float(out: &mut Vec<u8>, number: f64) {
    put_uint(out, number.to_bits().swap_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Returns the encoding of an unsigned integer: the bytes from the returned index on.
#[inline]
pub fn number_bytes(number: u64) -> ([u8; 9], usize) {
    if number < 0x80 { ([number as u8; 9], 8) } else { spelt(number) }
}

/// Writes the length of a message into the byte reserved at its start, or makes more room.
#[inline]
pub(super) fn end_message(out: &mut Vec<u8>, start: usize) {
    let len = out.len() - start - 1;
    if len < 0x80 {
        out[start] = len as u8;
        return;
    }
    let (bytes, from) = spelt(len as u64);
    let (more, end) = (8 - from, out.len());
    out.resize(end + more, 0);
    out.copy_within(start + 1..end, start + 1 + more);
    out[start..=start + more].copy_from_slice(&bytes[from..]);
}

/// Inserts a number at a position that was passed before the number was known.
pub(super) fn insert_uint(out: &mut Vec<u8>, at: usize, number: u64) {
    let (bytes, from) = number_bytes(number);
    let len = out.len();
    out.resize(len + 9 - from, 0);
    out.copy_within(at..len, at + 9 - from);
    out[at..at + 9 - from].copy_from_slice(&bytes[from..]);
}

/// Returns the encoding of a number of 128 or more, from the returned index on.
fn spelt(number: u64) -> ([u8; 9], usize) {
    let mut bytes = [0; 9];
    bytes[1..].copy_from_slice(&number.to_be_bytes());
    let zeros = number.leading_zeros() as usize / 8;
    bytes[zeros] = (zeros as u8).wrapping_sub(8);
    (bytes, zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_gos_documentation() {
        // The examples in doc.go of Go's encoding/gob.
        let mut out = Vec::new();
        put_uint(&mut out, 0);
        put_uint(&mut out, 7);
        put_uint(&mut out, 256);
        put_int(&mut out, -129);
        put_float(&mut out, 17.0);
        assert_eq!(out, [0, 7, 0xfe, 1, 0, 0xfe, 1, 1, 0xfe, 0x31, 0x40]);
    }

    #[test]
    fn numbers_come_back() {
        for shift in 0..64 {
            for number in [1u64 << shift, (1 << shift) - 1, !(1 << shift), u64::MAX >> shift] {
                let mut out = Vec::new();
                put_uint(&mut out, number);
                let mut inserted = vec![1, 2];
                insert_uint(&mut inserted, 1, number);
                assert_eq!(inserted, [&[1], &out[..], &[2]].concat());
                put_int(&mut out, number as i64);
                put_float(&mut out, f64::from_bits(number));
                let mut reader = GobReader::new(&out, &[]);
                assert_eq!(reader.uint(), Ok(number));
                assert_eq!(reader.int(), Ok(number as i64));
                assert_eq!(reader.float().unwrap().to_bits(), number);
                assert!(reader.left().is_empty());
            }
        }
    }

    #[test]
    fn truncated_and_inconsistent_bytes_are_refused() {
        for wrong in [&[][..], &[0xff], &[0xf8, 1, 2, 3], &[0xf7, 1, 2, 3, 4, 5, 6, 7, 8, 9], &[0x80]] {
            assert!(GobReader::new(wrong, &[]).uint().is_err(), "{wrong:?}");
        }
        assert!(GobReader::new(&[3, 1, 2], &[]).bytes().is_err());
        assert!(GobReader::new(&[0xf8, 255, 255, 255, 255, 255, 255, 255, 255], &[]).count().is_err());
        assert!(GobReader::new(&[0xfc, 255, 255, 255, 255], &[]).id().is_err());
        assert!(GobReader::new(&[0], &[]).id().is_err());
    }
}
