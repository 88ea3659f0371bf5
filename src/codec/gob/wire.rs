//! Types on the wire: reads definitions from their messages, and builds the table that values are read with.
//!
//! A definition is a value of Go's wireType (type.go), which is known in advance. The table resolves ids to indexes,
//! including types that are only referenced so far: definitions may refer to later ones and to themselves. Nothing is
//! expanded, so types that double cost no more than their definitions. The meaning of values is in `decode.rs`.

use std::sync::Arc;

use super::fault::GobFault;
use super::ids::Ids;
use super::number::{FieldDeltas, GobReader};

/// The smallest id of a type that is not built in. Ids of this process start one above, as in Go's documentation.
pub const FIRST_USER_ID: i32 = 64;
/// The id of booleans.
pub const BOOL: i32 = 1;
/// The id of signed integers of every width.
pub const INT: i32 = 2;
/// The id of unsigned integers of every width.
pub const UINT: i32 = 3;
/// The id of floating-point numbers of either width.
pub const FLOAT: i32 = 4;
/// The id of byte strings.
pub const BYTES: i32 = 5;
/// The id of text.
pub const STRING: i32 = 6;
/// The id of complex numbers.
pub const COMPLEX: i32 = 7;
/// The id of interfaces: any value, with the name of its type.
pub const INTERFACE: i32 = 8;
/// The id of definitions.
pub const WIRE_TYPE: i32 = 16;

/// The definition of a type, as a message contains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The Go name of the type; empty if it has none.
    pub name: String,
    /// The structure of the type.
    pub form: DefinedType,
}

/// The structure of a defined type. It refers to other types by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefinedType {
    /// A fixed number of elements.
    Array {
        /// The type of the elements.
        elem: i32,
        /// The number of elements.
        len: u64,
    },
    /// Any number of elements.
    Slice {
        /// The type of the elements.
        elem: i32,
    },
    /// Any number of keys, each with a value.
    Map {
        /// The type of the keys.
        key: i32,
        /// The type of the values.
        elem: i32,
    },
    /// Named fields, in order.
    Struct {
        /// The name and type of each field.
        fields: Vec<(String, i32)>,
    },
    /// Bytes that a Go type encodes itself (GobEncoder, BinaryMarshaler).
    Opaque,
    /// Text that a Go type encodes itself (TextMarshaler).
    OpaqueText,
}

impl Definition {
    /// Returns the ids that it refers to, including repetitions.
    pub fn refers_to(&self) -> impl Iterator<Item = i32> + '_ {
        let (pair, fields) = match &self.form {
            DefinedType::Array { elem, .. } | DefinedType::Slice { elem } => ([Some(*elem), None], &[][..]),
            DefinedType::Map { key, elem } => ([Some(*key), Some(*elem)], &[][..]),
            DefinedType::Struct { fields } => ([None, None], &fields[..]),
            DefinedType::Opaque | DefinedType::OpaqueText => ([None, None], &[][..]),
        };
        pair.into_iter().flatten().chain(fields.iter().map(|(_, id)| *id))
    }

    /// Reads a wireType, which follows the id.
    pub(super) fn read(reader: &mut GobReader<'_>) -> Result<Definition, GobFault> {
        let mut deltas = FieldDeltas::new();
        let mut found = None;
        while let Some(field) = deltas.next(reader, 7)? {
            if found.is_some() {
                return Err(GobFault::text("a definition of two types at once"));
            }
            found = Some(read_form(reader, field)?);
        }
        found.ok_or_else(|| GobFault::text("a definition of nothing"))
    }
}

/// Reads the field of a wireType that is set: arrayType, sliceType, structType, mapType or one of three kinds of
/// gobEncoderType.
fn read_form(reader: &mut GobReader<'_>, which: usize) -> Result<Definition, GobFault> {
    let mut name = String::new();
    let (mut elem, mut key, mut len, mut fields) = (0, 0, 0, Vec::new());
    let mut deltas = FieldDeltas::new();
    let count = [3, 2, 2, 3, 1, 1, 1][which];
    while let Some(field) = deltas.next(reader, count)? {
        match (which, field) {
            (_, 0) => name = read_common(reader)?,
            (0 | 1, 1) => elem = reader.id()?,
            (0, 2) => {
                len = u64::try_from(reader.int()?)
                    .map_err(|_| GobFault::text("an array of negative length"))?;
            }
            (2, 1) => fields = read_fields(reader)?,
            (3, 1) => key = reader.id()?,
            (3, 2) => elem = reader.id()?,
            // `count` excludes all other pairs.
            _ => return Err(GobFault::text("a definition with unknown fields")),
        }
    }
    let form = match which {
        0 => DefinedType::Array { elem, len },
        1 => DefinedType::Slice { elem },
        2 => DefinedType::Struct { fields },
        3 => DefinedType::Map { key, elem },
        4 | 5 => DefinedType::Opaque,
        _ => DefinedType::OpaqueText,
    };
    let definition = Definition { name, form };
    if definition.refers_to().any(|id| id <= 0) {
        return Err(GobFault::text("a definition that refers to no type"));
    }
    Ok(definition)
}

/// Reads a CommonType: the name, and the id once more, which Go ignores as well.
fn read_common(reader: &mut GobReader<'_>) -> Result<String, GobFault> {
    let (mut name, mut deltas) = (String::new(), FieldDeltas::new());
    while let Some(field) = deltas.next(reader, 2)? {
        match field {
            0 => name = reader.text()?.to_string(),
            _ => drop(reader.int()?),
        }
    }
    Ok(name)
}

fn read_fields(reader: &mut GobReader<'_>) -> Result<Vec<(String, i32)>, GobFault> {
    let count = reader.count()?;
    let mut fields = Vec::new();
    for _ in 0..count {
        let (mut name, mut id, mut deltas) = (String::new(), 0, FieldDeltas::new());
        while let Some(field) = deltas.next(reader, 2)? {
            match field {
                0 => name = reader.text()?.to_string(),
                _ => id = reader.id()?,
            }
        }
        if name.is_empty() {
            return Err(GobFault::text("a field without a name"));
        }
        fields.push((name, id));
    }
    Ok(fields)
}

/// An index into a [`TypeTable`].
pub(super) type TypeIndex = u32;

/// The structure of a type, with its parts as indexes.
#[derive(Clone, Debug)]
pub(super) enum WireType {
    /// Referenced, but not defined so far.
    Undefined,
    Bool,
    Int,
    Uint,
    Float,
    Bytes,
    String,
    Complex,
    Interface,
    Array {
        elem: TypeIndex,
        len: u64,
    },
    Slice {
        elem: TypeIndex,
    },
    Map {
        key: TypeIndex,
        elem: TypeIndex,
    },
    /// Shared by copies of the table.
    Struct(Arc<[(Box<str>, TypeIndex)]>),
    Opaque {
        name: Box<str>,
    },
    OpaqueText,
}

/// The built-in types, ordered by id from 1: they come first in every table.
static BUILT_IN: [WireType; 8] = [
    WireType::Bool,
    WireType::Int,
    WireType::Uint,
    WireType::Float,
    WireType::Bytes,
    WireType::String,
    WireType::Complex,
    WireType::Interface,
];

/// A table with fewer types than this reserves no spare room, since an idle connection keeps it.
const SMALL: usize = 8;

/// Types by id: the built-in ones, the defined ones, and those that the definitions reference.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeTable {
    /// The types after the built-in ones.
    kinds: Vec<WireType>,
    places: Ids<TypeIndex>,
}

impl TypeTable {
    pub(super) fn new() -> TypeTable {
        TypeTable::default()
    }

    #[inline]
    pub(super) fn kind(&self, at: TypeIndex) -> &WireType {
        let at = at as usize;
        BUILT_IN.get(at).unwrap_or_else(|| &self.kinds[at - BUILT_IN.len()])
    }

    pub(super) fn len(&self) -> usize {
        BUILT_IN.len() + self.kinds.len()
    }

    /// Returns the index of a type that can be used: it is built in or defined.
    #[inline]
    pub(super) fn find(&self, id: i32) -> Option<TypeIndex> {
        let at =
            if (BOOL..=INTERFACE).contains(&id) { (id - 1) as TypeIndex } else { *self.places.get(id)? };
        (!matches!(self.kind(at), WireType::Undefined)).then_some(at)
    }

    /// Returns the index of a type; adds the type if it is missing.
    fn mention(&mut self, id: i32) -> TypeIndex {
        if (BOOL..=INTERFACE).contains(&id) {
            return (id - 1) as TypeIndex;
        }
        if let Some(at) = self.places.get(id) {
            return *at;
        }
        let next = self.len() as TypeIndex;
        self.places.insert(id, next);
        if self.kinds.len() < SMALL {
            self.kinds.reserve_exact(1);
        }
        self.kinds.push(WireType::Undefined);
        next
    }

    /// Adds a definition. Fails if the id is defined already or reserved by Go.
    pub(super) fn define(&mut self, id: i32, definition: &Definition) -> Result<(), GobFault> {
        if id < FIRST_USER_ID || self.find(id).is_some() {
            return Err(GobFault::said(format_args!("type {id} is defined twice")));
        }
        let at = self.mention(id);
        let kind = match &definition.form {
            DefinedType::Array { elem, len } => WireType::Array { elem: self.mention(*elem), len: *len },
            DefinedType::Slice { elem } => WireType::Slice { elem: self.mention(*elem) },
            DefinedType::Map { key, elem } => {
                WireType::Map { key: self.mention(*key), elem: self.mention(*elem) }
            }
            DefinedType::Struct { fields } => WireType::Struct(
                fields.iter().map(|(name, id)| (name.as_str().into(), self.mention(*id))).collect(),
            ),
            DefinedType::Opaque => WireType::Opaque { name: definition.name.as_str().into() },
            DefinedType::OpaqueText => WireType::OpaqueText,
        };
        self.kinds[at as usize - BUILT_IN.len()] = kind;
        Ok(())
    }

    /// Returns whether a value of this type may contain interfaces. Fails if a type that it refers to is not defined.
    pub(super) fn holds_interfaces(&self, root: TypeIndex) -> Result<bool, GobFault> {
        let mut seen = vec![false; self.len()];
        let mut open = vec![root];
        let mut holds = false;
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut seen[at as usize], true) {
                continue;
            }
            match self.kind(at) {
                WireType::Undefined => return Err(GobFault::text("a type that is never defined")),
                WireType::Interface => holds = true,
                WireType::Array { elem, .. } | WireType::Slice { elem } => open.push(*elem),
                WireType::Map { key, elem } => open.extend([*key, *elem]),
                WireType::Struct(fields) => open.extend(fields.iter().map(|(_, at)| *at)),
                _ => {}
            }
        }
        Ok(holds)
    }
}
