//! Skips values with the types on the wire alone: fields that the receiver's type lacks, and whole values of which
//! only the end is needed.
//!
//! Skipping recurses with the value, so it has the same depth limit as decoding. Go defines a type that first occurs
//! inside an interface in place, in the middle of the value, which then continues in another message. Such
//! definitions are found here and passed to the [`ValueTypes`].

use super::fault::GobFault;
use super::number::{FieldDeltas, GobReader};
use super::wire::{Definition, TypeIndex, TypeTable, WireType};

/// The types that a value is read with.
pub(super) trait ValueTypes {
    fn table(&self) -> &TypeTable;

    /// Handles a definition inside a value; `raw` is its message without the length.
    fn on_definition(&mut self, id: i32, definition: Definition, raw: &[u8]) -> Result<(), GobFault>;
}

/// Complete types: definitions inside the value were collected before.
impl ValueTypes for &TypeTable {
    fn table(&self) -> &TypeTable {
        self
    }

    fn on_definition(&mut self, _id: i32, _definition: Definition, _raw: &[u8]) -> Result<(), GobFault> {
        Ok(())
    }
}

/// Types that grow with the value.
impl ValueTypes for TypeTable {
    fn table(&self) -> &TypeTable {
        self
    }

    fn on_definition(&mut self, id: i32, definition: Definition, _raw: &[u8]) -> Result<(), GobFault> {
        self.define(id, &definition)
    }
}

/// Skips the value of a message, after the type's id.
pub(super) fn skip_top<T: ValueTypes>(
    reader: &mut GobReader<'_>,
    types: &mut T,
    at: TypeIndex,
    depth_left: usize,
) -> Result<(), GobFault> {
    if !matches!(types.table().kind(at), WireType::Struct(_)) {
        read_single(reader)?;
    }
    skip(reader, types, at, depth_left)
}

/// Reads the zero that precedes a value which is neither a struct nor in a field.
pub(super) fn read_single(reader: &mut GobReader<'_>) -> Result<(), GobFault> {
    match reader.uint()? {
        0 => Ok(()),
        _ => Err(GobFault::text("expected a zero in front of a value that is no struct")),
    }
}

/// Skips one value. Fails if containers in it nest `depth_left` levels deep.
pub(super) fn skip<T: ValueTypes>(
    reader: &mut GobReader<'_>,
    types: &mut T,
    at: TypeIndex,
    depth_left: usize,
) -> Result<(), GobFault> {
    let inside = || depth_left.checked_sub(1).filter(|left| *left > 0).ok_or(GobFault::TooDeep);
    match types.table().kind(at) {
        WireType::Undefined => Err(GobFault::text("a value of a type that is never defined")),
        WireType::Bool | WireType::Int | WireType::Uint | WireType::Float => reader.uint().map(drop),
        WireType::Complex => reader.uint().and_then(|_| reader.uint()).map(drop),
        WireType::Bytes | WireType::String | WireType::Opaque { .. } | WireType::OpaqueText => {
            reader.bytes().map(drop)
        }
        WireType::Array { elem, len } => {
            let (elem, len) = (*elem, *len);
            let inside = inside()?;
            for _ in 0..array_count(reader, len)? {
                skip(reader, types, elem, inside)?;
            }
            Ok(())
        }
        WireType::Slice { elem } => {
            let elem = *elem;
            let inside = inside()?;
            for _ in 0..reader.count()? {
                skip(reader, types, elem, inside)?;
            }
            Ok(())
        }
        WireType::Map { key, elem } => {
            let (key, elem) = (*key, *elem);
            let inside = inside()?;
            for _ in 0..reader.count()? {
                skip(reader, types, key, inside)?;
                skip(reader, types, elem, inside)?;
            }
            Ok(())
        }
        WireType::Struct(fields) => {
            let count = fields.len();
            let inside = inside()?;
            let mut deltas = FieldDeltas::new();
            while let Some(field) = deltas.next(reader, count)? {
                if let WireType::Struct(fields) = types.table().kind(at) {
                    let field = fields[field].1;
                    skip(reader, types, field, inside)?;
                }
            }
            Ok(())
        }
        WireType::Interface => {
            let inside = inside()?;
            match read_interface(reader, types)? {
                Some((_, at)) => skip_top(reader, types, at, inside),
                None => Ok(()),
            }
        }
    }
}

/// Reads the number of an array's elements, and checks it against the number in the type.
pub(super) fn array_count(reader: &mut GobReader<'_>, len: u64) -> Result<usize, GobFault> {
    let count = reader.count()?;
    if count as u64 == len {
        Ok(count)
    } else {
        Err(GobFault::said(format_args!("{count} elements in an array of {len}")))
    }
}

/// Reads the start of an interface's value: the name of its concrete type, and the type; `None` for nil.
///
/// The definitions of new types are between the two. The length after the type is ignored: where a definition
/// interrupts the value, it counts only the bytes up to the definition.
pub(super) fn read_interface<'de, T: ValueTypes>(
    reader: &mut GobReader<'de>,
    types: &mut T,
) -> Result<Option<(&'de str, TypeIndex)>, GobFault> {
    let name = reader.text()?;
    if name.is_empty() {
        return Ok(None);
    }
    loop {
        if reader.left().is_empty() {
            reader.next_message()?;
        }
        let start = reader.left();
        let id = reader.id()?;
        if id > 0 {
            let at = types.table().find(id);
            let at = at.ok_or_else(|| GobFault::said(format_args!("type {id} is not defined")))?;
            reader.uint()?;
            return Ok(Some((name, at)));
        }
        let definition = Definition::read(reader)?;
        let raw = &start[..start.len() - reader.left().len()];
        types.on_definition(-id, definition, raw)?;
        if !reader.left().is_empty() {
            // Inside an outer interface, a length precedes the continuation.
            reader.uint()?;
        }
    }
}
