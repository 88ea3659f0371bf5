//! A struct's fields, read and written one by one: for the headers that a protocol puts in front of its bodies.
//!
//! Such a header needs no description and no allocation. Fields are told by their names, in any order; those that
//! nobody asks for are passed over. Whole values of any type are `decode.rs` and `encode.rs`.

use super::super::number::{FieldDeltas, GobReader, end_message, put_bytes, put_int, put_uint};
use super::super::skip::skip;
use super::super::types::IDS_MAX;
use super::super::wire::WireType;
use super::{Definitions, FIRST_USER_ID, GobMessage, StreamError};
use crate::codec::depth_max;

/// An id that no type in a body of ours has: for the header of a protocol.
pub const HEADER_ID: i32 = FIRST_USER_ID;
/// Another one, for a struct without fields where a body must be and says nothing.
pub const NOTHING_ID: i32 = IDS_MAX;

/// A field of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcHeaderField<'b> {
    /// Text; Go does not promise UTF-8.
    Text(&'b [u8]),
    /// An unsigned integer.
    Uint(u64),
    /// Something else, which was passed over.
    Other,
}

impl Definitions {
    /// Reads a struct: `on_field` gets those of its fields that have one of the names, by the name's index. A type
    /// with none of them is refused, as Go does it.
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
        // One that has come is enough; of what left all of them out the type must be asked.
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
    /// Where the message begins.
    start: usize,
    /// How far the next field is from the last that was written.
    delta: u64,
}

impl<'o> StructWriter<'o> {
    /// Begins a value of that type.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>, id: i32) -> StructWriter<'o> {
        let start = out.len();
        // Most messages are short: the room for their length.
        out.push(0);
        put_int(out, i64::from(id));
        StructWriter { out, start, delta: 1 }
    }

    #[inline]
    fn put_delta(&mut self) {
        put_uint(self.out, self.delta);
        self.delta = 1;
    }

    /// The next field, text.
    #[inline]
    pub fn text(&mut self, text: &[u8]) {
        if text.is_empty() {
            self.delta += 1;
        } else {
            self.put_delta();
            put_bytes(self.out, text);
        }
    }

    /// The next field, an unsigned integer.
    #[inline]
    pub fn uint(&mut self, number: u64) {
        if number == 0 {
            self.delta += 1;
        } else {
            self.put_delta();
            put_uint(self.out, number);
        }
    }

    /// There are no more fields.
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
    // wireType has a structType; that begins with a CommonType: name and id.
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
