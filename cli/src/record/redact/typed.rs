//! A method's argument by its description alone: bodies are read with it, and written again.

use std::cell::RefCell;
use std::sync::Arc;

use coreloop::codec::gob::GobType;
use coreloop::codec::{self, Codec, Description, Shape, gob};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _};
use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleVariant, Serializer,
};

use super::SecretNames;
use super::value::{RecordedValue, RedactSeed, all_for_good, for_good};

/// A shape with the `'static` names that serde requires.
#[derive(Debug)]
pub(super) enum NamedShape {
    Bool,
    Int {
        bits: u8,
        signed: bool,
    },
    Float {
        bits: u8,
    },
    Char,
    String,
    Bytes,
    Unit,
    /// Read as nothing: its content is unknown, so all of it could be a secret.
    Any,
    Option(Box<NamedShape>),
    Sequence(Box<NamedShape>),
    Tuple(Vec<NamedShape>),
    Map(Box<NamedShape>, Box<NamedShape>),
    Struct {
        name: &'static str,
        fields: &'static [&'static str],
        nodes: Vec<NamedShape>,
    },
    Enum {
        name: &'static str,
        variants: &'static [&'static str],
        contents: Vec<VariantContent>,
    },
    Recursive {
        levels: usize,
    },
}

/// The content of a variant.
#[derive(Debug)]
pub(super) enum VariantContent {
    Unit,
    One(NamedShape),
    /// A tuple or a struct.
    Many(NamedShape),
}

impl NamedShape {
    fn of(shape: &Shape) -> NamedShape {
        let boxed = |shape: &Shape| Box::new(NamedShape::of(shape));
        match shape {
            Shape::Bool => NamedShape::Bool,
            Shape::Int { bits, signed } => NamedShape::Int { bits: *bits, signed: *signed },
            Shape::Float { bits } => NamedShape::Float { bits: *bits },
            Shape::Char => NamedShape::Char,
            Shape::String => NamedShape::String,
            Shape::Bytes => NamedShape::Bytes,
            Shape::Unit => NamedShape::Unit,
            Shape::Any => NamedShape::Any,
            Shape::Option(inner) => NamedShape::Option(boxed(inner)),
            Shape::Sequence(inner) => NamedShape::Sequence(boxed(inner)),
            Shape::Tuple(shapes) => NamedShape::Tuple(shapes.iter().map(NamedShape::of).collect()),
            Shape::Map { key, value } => NamedShape::Map(boxed(key), boxed(value)),
            Shape::Struct { name, fields } => NamedShape::Struct {
                name: for_good(name),
                fields: all_for_good(fields.iter().map(|field| for_good(&field.name)).collect()),
                nodes: fields.iter().map(|field| NamedShape::of(&field.shape)).collect(),
            },
            Shape::Enum { name, variants } => NamedShape::Enum {
                name: for_good(name),
                variants: all_for_good(variants.iter().map(|variant| for_good(&variant.name)).collect()),
                contents: variants
                    .iter()
                    .map(|variant| VariantContent::of(variant.content.as_ref()))
                    .collect(),
            },
            Shape::Recursive { levels } => NamedShape::Recursive { levels: *levels },
        }
    }
}

impl VariantContent {
    fn of(shape: Option<&Shape>) -> VariantContent {
        match shape {
            None => VariantContent::Unit,
            Some(shape @ (Shape::Tuple(_) | Shape::Struct { .. })) => {
                VariantContent::Many(NamedShape::of(shape))
            }
            Some(shape) => VariantContent::One(NamedShape::of(shape)),
        }
    }
}

/// A node with the nodes that enclose it.
#[derive(Clone, Copy)]
pub(super) struct ShapePath<'a> {
    pub(super) node: &'a NamedShape,
    up: Option<&'a ShapePath<'a>>,
}

impl<'a> ShapePath<'a> {
    pub(super) fn inside<'b>(&'b self, node: &'b NamedShape) -> ShapePath<'b> {
        ShapePath { node, up: Some(self) }
    }

    /// Returns the enclosing node that a recursive node refers to; any other node is returned itself.
    pub(super) fn resolved(self) -> Option<ShapePath<'a>> {
        let NamedShape::Recursive { levels } = self.node else { return Some(self) };
        let mut place = self.up?;
        for _ in 0..*levels {
            place = place.up?;
        }
        Some(*place)
    }
}

/// The argument of a method, to be read and written by its description.
pub(super) struct TypedArgument {
    node: Arc<NamedShape>,
    /// `None`: the type has no form in gob.
    gob_type: Option<GobType>,
}

impl TypedArgument {
    pub(super) fn new(argument: &Description) -> TypedArgument {
        TypedArgument {
            node: Arc::new(NamedShape::of(argument.shape())),
            gob_type: gob::gob_type(argument).ok(),
        }
    }

    /// Returns the body without the values of the named fields; `None` if the body does not match the type.
    pub(super) fn blanked(&self, codec: Codec, body: &[u8], names: &Arc<SecretNames>) -> Option<Vec<u8>> {
        READING.set(Some((self.node.clone(), names.clone())));
        let read = codec::decode::<TypedSeed>(codec, body);
        READING.set(None);
        let TypedSeed(value) = read.ok()?;
        let written = TypedValue { value: &value, place: ShapePath { node: &self.node, up: None } };
        let mut out = Vec::with_capacity(body.len());
        match codec {
            Codec::Gob => gob::encode_as(&written, self.gob_type.as_ref()?, &mut out).ok()?,
            _ => codec::encode(codec, &written, &mut out).ok()?,
        }
        Some(out)
    }
}

thread_local! {
    /// The description for the body that is being read: serde's `Deserialize` takes no context.
    static READING: RefCell<Option<(Arc<NamedShape>, Arc<SecretNames>)>> = const { RefCell::new(None) };
}

/// The value of the body that is being read.
struct TypedSeed(RecordedValue);

impl<'de> Deserialize<'de> for TypedSeed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<TypedSeed, D::Error> {
        let reading = READING.with_borrow(Clone::clone);
        let Some((node, names)) = reading else { return Err(D::Error::custom("no description of the type")) };
        let place = ShapePath { node: &node, up: None };
        RedactSeed { place, names: &names }.deserialize(from).map(TypedSeed)
    }
}

/// A value with its node, to be written.
struct TypedValue<'a> {
    value: &'a RecordedValue,
    place: ShapePath<'a>,
}

impl Serialize for TypedValue<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mismatch = || S::Error::custom("a value that is not of its type");
        let place = self.place.resolved().ok_or_else(mismatch)?;
        let written = |value, node| TypedValue { value, place: place.inside(node) };
        match (place.node, self.value) {
            (NamedShape::Bool, RecordedValue::Bool(truth)) => to.serialize_bool(*truth),
            (NamedShape::Int { bits, signed: true }, RecordedValue::Int(number)) => {
                let number = *number;
                match bits {
                    8 => to.serialize_i8(number as i8),
                    16 => to.serialize_i16(number as i16),
                    32 => to.serialize_i32(number as i32),
                    64 => to.serialize_i64(number as i64),
                    _ => to.serialize_i128(number),
                }
            }
            (NamedShape::Int { bits, signed: false }, RecordedValue::Uint(number)) => {
                let number = *number;
                match bits {
                    8 => to.serialize_u8(number as u8),
                    16 => to.serialize_u16(number as u16),
                    32 => to.serialize_u32(number as u32),
                    64 => to.serialize_u64(number as u64),
                    _ => to.serialize_u128(number),
                }
            }
            (NamedShape::Float { bits: 32 }, RecordedValue::Float(number)) => {
                to.serialize_f32(*number as f32)
            }
            (NamedShape::Float { .. }, RecordedValue::Float(number)) => to.serialize_f64(*number),
            (NamedShape::Char, RecordedValue::Char(c)) => to.serialize_char(*c),
            (NamedShape::String, RecordedValue::Text(text)) => to.serialize_str(text),
            (NamedShape::Bytes, RecordedValue::Bytes(bytes)) => to.serialize_bytes(bytes),
            (NamedShape::Unit | NamedShape::Any, RecordedValue::Unit) => to.serialize_unit(),
            (NamedShape::Option(_), RecordedValue::None) => to.serialize_none(),
            (NamedShape::Option(inner), RecordedValue::Some(value)) => {
                to.serialize_some(&written(value, inner))
            }
            (NamedShape::Sequence(inner), RecordedValue::List(values)) => {
                let mut list = to.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&written(value, inner))?;
                }
                list.end()
            }
            (NamedShape::Tuple(nodes), RecordedValue::List(values)) => {
                let mut tuple = to.serialize_tuple(nodes.len())?;
                for (value, node) in values.iter().zip(nodes) {
                    tuple.serialize_element(&written(value, node))?;
                }
                tuple.end()
            }
            (NamedShape::Map(key, value), RecordedValue::Map(pairs)) => {
                let mut map = to.serialize_map(Some(pairs.len()))?;
                for (known, held) in pairs {
                    map.serialize_entry(&written(known, key), &written(held, value))?;
                }
                map.end()
            }
            (NamedShape::Struct { name, fields, nodes }, RecordedValue::Struct(read)) => {
                let mut object = to.serialize_struct(name, read.len())?;
                for (at, value) in read {
                    object.serialize_field(fields[*at], &written(value, &nodes[*at]))?;
                }
                object.end()
            }
            (NamedShape::Enum { name, variants, contents }, RecordedValue::Variant(at, held)) => {
                let (index, variant) = (*at as u32, variants[*at]);
                match (&contents[*at], &**held) {
                    (VariantContent::Unit, _) => to.serialize_unit_variant(name, index, variant),
                    (VariantContent::One(node), held) => {
                        to.serialize_newtype_variant(name, index, variant, &written(held, node))
                    }
                    (VariantContent::Many(node), held) => {
                        many(to, (name, index, variant), &place.inside(node), held)
                    }
                }
            }
            _ => Err(mismatch()),
        }
    }
}

/// Writes a variant that holds a tuple or a struct.
fn many<S: Serializer>(
    to: S,
    (name, index, variant): (&'static str, u32, &'static str),
    place: &ShapePath<'_>,
    held: &RecordedValue,
) -> Result<S::Ok, S::Error> {
    let written = |value, node| TypedValue { value, place: place.inside(node) };
    match (place.node, held) {
        (NamedShape::Tuple(nodes), RecordedValue::List(values)) => {
            let mut tuple = to.serialize_tuple_variant(name, index, variant, values.len())?;
            for (value, node) in values.iter().zip(nodes) {
                tuple.serialize_field(&written(value, node))?;
            }
            tuple.end()
        }
        (NamedShape::Struct { fields, nodes, .. }, RecordedValue::Struct(read)) => {
            let mut object = to.serialize_struct_variant(name, index, variant, read.len())?;
            for (at, value) in read {
                object.serialize_field(fields[*at], &written(value, &nodes[*at]))?;
            }
            object.end()
        }
        _ => Err(S::Error::custom("a value that is not of its type")),
    }
}
