//! Reads and writes a struct's fields one by one, for the headers that a protocol puts before its bodies.
//!
//! Such a header needs no description and no allocation. Fields are identified by name, in any order; fields that are
//! not requested are skipped. Whole values of any type are handled in `decode.rs` and `encode.rs`.

use super::super::number::{FieldDeltas, GobReader, end_message, put_bytes, put_int, put_uint};
use super::super::skip::skip;
use super::super::types::IDS_MAX;
use super::super::wire::WireType;
use super::{Definitions, FIRST_USER_ID, GobMessage, StreamError};
use crate::codec::depth_max;

/// An id that no type in a body of this process has: for the header of a protocol.
pub const HEADER_ID: i32 = FIRST_USER_ID;
/// Another such id, for a struct without fields where a body is required but has no content.
pub const NOTHING_ID: i32 = IDS_MAX;

/// A field of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcHeaderField<'b> {
    /// Text; Go does not guarantee UTF-8.
    Text(&'b [u8]),
    /// An unsigned integer.
    Uint(u64),
    /// A value of another type, which was skipped.
    Other,
}

impl Definitions {
    /// Reads a struct and calls `on_field` for each field in `names`, with the index of the name.
    ///
    /// A type that has none of the names is refused, as in Go.
    #[inline]
    pub fn read_fields<'b>(
        &self,
        message: GobMessage<'b>,
        names: &[&str],
        mut on_field: impl FnMut(usize, RpcHeaderField<'b>),
    ) -> Result<(), StreamError> {
        let mut reader = GobReader::new(message.payload(), &[]);
        let id = reader.id()?;
        let mut table = self.table();
        let at = table.find(id).ok_or(StreamError::Undefined { id })?;
        let WireType::Struct(fields) = table.kind(at) else {
            return Err(StreamError::Malformed("a header that is no struct".into()));
        };
        let index_of = |field: &str| names.iter().position(|name| *name == field);
        let mut is_known = false;
        let mut deltas = FieldDeltas::new();
        while let Some(field) = deltas.next(&mut reader, fields.len())? {
            let (name, at) = &fields[field];
            let Some(index) = index_of(name) else {
                skip(&mut reader, &mut table, *at, depth_max())?;
                continue;
            };
            is_known = true;
            let field = match table.kind(*at) {
                WireType::String => RpcHeaderField::Text(reader.bytes()?),
                WireType::Uint => RpcHeaderField::Uint(reader.uint()?),
                _ => {
                    skip(&mut reader, &mut table, *at, depth_max())?;
                    RpcHeaderField::Other
                }
            };
            on_field(index, field);
        }
        // One present field is enough; if none is present, the type must have one of the names.
        if !is_known && !fields.iter().any(|(name, _)| index_of(name).is_some()) {
            return Err(StreamError::Malformed("a header with none of its fields".into()));
        }
        match reader.left() {
            [] => Ok(()),
            _ => Err(StreamError::Malformed("bytes behind a header".into())),
        }
    }
}

/// Writes the message of a struct's value, field by field; zeros are left out.
#[derive(Debug)]
pub struct StructWriter<'o> {
    out: &'o mut Vec<u8>,
    /// The start of the message.
    start: usize,
    /// The distance of the next field from the last one that was written.
    delta: u64,
}

impl<'o> StructWriter<'o> {
    /// Starts a value of the type with this id.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>, id: i32) -> StructWriter<'o> {
        let start = out.len();
        // Most messages are short: reserves one byte for the length.
        out.push(0);
        put_int(out, i64::from(id));
        StructWriter { out, start, delta: 1 }
    }

    #[inline]
    fn put_delta(&mut self) {
        put_uint(self.out, self.delta);
        self.delta = 1;
    }

    /// Writes the next field as text.
    #[inline]
    pub fn text(&mut self, text: &[u8]) {
        if text.is_empty() {
            self.delta += 1;
        } else {
            self.put_delta();
            put_bytes(self.out, text);
        }
    }

    /// Writes the next field as an unsigned integer.
    #[inline]
    pub fn uint(&mut self, number: u64) {
        if number == 0 {
            self.delta += 1;
        } else {
            self.put_delta();
            put_uint(self.out, number);
        }
    }

    /// Ends the struct and its message.
    #[inline]
    pub fn end(self) {
        self.out.push(0);
        end_message(self.out, self.start);
    }
}

/// Appends the message that defines a struct, as Go writes it (wireType and structType in type.go).
pub fn put_struct_definition(out: &mut Vec<u8>, id: i32, name: &str, fields: &[(&str, i32)]) {
    let start = out.len();
    out.push(0);
    put_int(out, -i64::from(id));
    // wireType has a structType, which starts with a CommonType: name and id.
    out.extend_from_slice(&[3, 1]);
    if !name.is_empty() {
        out.push(1);
        put_bytes(out, name.as_bytes());
        out.push(1);
    } else {
        out.push(2);
    }
    put_int(out, i64::from(id));
    out.push(0);
    if !fields.is_empty() {
        out.push(1);
        put_uint(out, fields.len() as u64);
        for (name, id) in fields {
            out.push(1);
            put_bytes(out, name.as_bytes());
            out.push(1);
            put_int(out, i64::from(*id));
            out.push(0);
        }
    }
    out.extend_from_slice(&[0, 0]);
    end_message(out, start);
}
