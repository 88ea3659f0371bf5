//! A method's argument by its description alone: bodies are read with it, and written again.

use std::cell::RefCell;
use std::sync::Arc;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _};
use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleVariant, Serializer,
};

use super::Names;
use super::value::{Seed, Value, all_for_good, for_good};
use crate::codec::describe::Shape;
use crate::codec::gob::GobType;
use crate::codec::{self, Codec, Description, gob};

/// A shape with the names that serde wants.
#[derive(Debug)]
pub(super) enum Node {
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
    /// Read as nothing: what it holds is not known, so all of it could be a secret.
    Any,
    Option(Box<Node>),
    Sequence(Box<Node>),
    Tuple(Vec<Node>),
    Map(Box<Node>, Box<Node>),
    Struct {
        name: &'static str,
        fields: &'static [&'static str],
        nodes: Vec<Node>,
    },
    Enum {
        name: &'static str,
        variants: &'static [&'static str],
        contents: Vec<Content>,
    },
    Recursive {
        levels: usize,
    },
}

/// What a variant holds.
#[derive(Debug)]
pub(super) enum Content {
    Unit,
    One(Node),
    /// A tuple or a struct.
    Many(Node),
}

impl Node {
    fn of(shape: &Shape) -> Node {
        let boxed = |shape: &Shape| Box::new(Node::of(shape));
        match shape {
            Shape::Bool => Node::Bool,
            Shape::Int { bits, signed } => Node::Int { bits: *bits, signed: *signed },
            Shape::Float { bits } => Node::Float { bits: *bits },
            Shape::Char => Node::Char,
            Shape::String => Node::String,
            Shape::Bytes => Node::Bytes,
            Shape::Unit => Node::Unit,
            Shape::Any => Node::Any,
            Shape::Option(inner) => Node::Option(boxed(inner)),
            Shape::Sequence(inner) => Node::Sequence(boxed(inner)),
            Shape::Tuple(shapes) => Node::Tuple(shapes.iter().map(Node::of).collect()),
            Shape::Map { key, value } => Node::Map(boxed(key), boxed(value)),
            Shape::Struct { name, fields } => Node::Struct {
                name: for_good(name),
                fields: all_for_good(fields.iter().map(|field| for_good(&field.name)).collect()),
                nodes: fields.iter().map(|field| Node::of(&field.shape)).collect(),
            },
            Shape::Enum { name, variants } => Node::Enum {
                name: for_good(name),
                variants: all_for_good(variants.iter().map(|variant| for_good(&variant.name)).collect()),
                contents: variants.iter().map(|variant| Content::of(variant.content.as_ref())).collect(),
            },
            Shape::Recursive { levels } => Node::Recursive { levels: *levels },
        }
    }
}

impl Content {
    fn of(shape: Option<&Shape>) -> Content {
        match shape {
            None => Content::Unit,
            Some(shape @ (Shape::Tuple(_) | Shape::Struct { .. })) => Content::Many(Node::of(shape)),
            Some(shape) => Content::One(Node::of(shape)),
        }
    }
}

/// A node, and those around it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    up: Option<&'a Place<'a>>,
}

impl<'a> Place<'a> {
    pub(super) fn inside<'b>(&'b self, node: &'b Node) -> Place<'b> {
        Place { node, up: Some(self) }
    }

    /// The place that this one stands for, if it is one that says "as further out".
    pub(super) fn resolved(self) -> Option<Place<'a>> {
        let Node::Recursive { levels } = self.node else { return Some(self) };
        let mut place = self.up?;
        for _ in 0..*levels {
            place = place.up?;
        }
        Some(*place)
    }
}

/// The argument of a method, to be read and written by its description.
pub(super) struct Typed {
    node: Arc<Node>,
    /// `None`: it has no form in gob.
    gob_type: Option<GobType>,
}

impl Typed {
    pub(super) fn new(argument: &Description) -> Typed {
        Typed { node: Arc::new(Node::of(argument.shape())), gob_type: gob::gob_type(argument).ok() }
    }

    /// The body without what has one of the names; `None` if it is no body of the type.
    pub(super) fn blanked(&self, codec: Codec, body: &[u8], names: &Arc<Names>) -> Option<Vec<u8>> {
        READING.set(Some((self.node.clone(), names.clone())));
        let read = codec::decode::<Whole>(codec, body);
        READING.set(None);
        let Whole(value) = read.ok()?;
        let written = Written { value: &value, place: Place { node: &self.node, up: None } };
        let mut out = Vec::with_capacity(body.len());
        match codec {
            Codec::Gob => gob::encode_as(&written, self.gob_type.as_ref()?, &mut out).ok()?,
            _ => codec::encode(codec, &written, &mut out).ok()?,
        }
        Some(out)
    }
}

thread_local! {
    /// By what a body is being read: serde's `Deserialize` takes nothing along.
    static READING: RefCell<Option<(Arc<Node>, Arc<Names>)>> = const { RefCell::new(None) };
}

/// A value of the type that is being read.
struct Whole(Value);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Whole, D::Error> {
        let reading = READING.with_borrow(Clone::clone);
        let Some((node, names)) = reading else { return Err(D::Error::custom("no description of the type")) };
        let place = Place { node: &node, up: None };
        Seed { place, names: &names }.deserialize(from).map(Whole)
    }
}

/// A value at its place, to be written.
struct Written<'a> {
    value: &'a Value,
    place: Place<'a>,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mismatch = || S::Error::custom("a value that is not of its type");
        let place = self.place.resolved().ok_or_else(mismatch)?;
        let written = |value, node| Written { value, place: place.inside(node) };
        match (place.node, self.value) {
            (Node::Bool, Value::Bool(truth)) => to.serialize_bool(*truth),
            (Node::Int { bits, signed: true }, Value::Int(number)) => {
                let number = *number;
                match bits {
                    8 => to.serialize_i8(number as i8),
                    16 => to.serialize_i16(number as i16),
                    32 => to.serialize_i32(number as i32),
                    64 => to.serialize_i64(number as i64),
                    _ => to.serialize_i128(number),
                }
            }
            (Node::Int { bits, signed: false }, Value::Uint(number)) => {
                let number = *number;
                match bits {
                    8 => to.serialize_u8(number as u8),
                    16 => to.serialize_u16(number as u16),
                    32 => to.serialize_u32(number as u32),
                    64 => to.serialize_u64(number as u64),
                    _ => to.serialize_u128(number),
                }
            }
            (Node::Float { bits: 32 }, Value::Float(number)) => to.serialize_f32(*number as f32),
            (Node::Float { .. }, Value::Float(number)) => to.serialize_f64(*number),
            (Node::Char, Value::Char(c)) => to.serialize_char(*c),
            (Node::String, Value::Text(text)) => to.serialize_str(text),
            (Node::Bytes, Value::Bytes(bytes)) => to.serialize_bytes(bytes),
            (Node::Unit | Node::Any, Value::Unit) => to.serialize_unit(),
            (Node::Option(_), Value::None) => to.serialize_none(),
            (Node::Option(inner), Value::Some(value)) => to.serialize_some(&written(value, inner)),
            (Node::Sequence(inner), Value::List(values)) => {
                let mut list = to.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&written(value, inner))?;
                }
                list.end()
            }
            (Node::Tuple(nodes), Value::List(values)) => {
                let mut tuple = to.serialize_tuple(nodes.len())?;
                for (value, node) in values.iter().zip(nodes) {
                    tuple.serialize_element(&written(value, node))?;
                }
                tuple.end()
            }
            (Node::Map(key, value), Value::Map(pairs)) => {
                let mut map = to.serialize_map(Some(pairs.len()))?;
                for (known, held) in pairs {
                    map.serialize_entry(&written(known, key), &written(held, value))?;
                }
                map.end()
            }
            (Node::Struct { name, fields, nodes }, Value::Struct(read)) => {
                let mut object = to.serialize_struct(name, read.len())?;
                for (at, value) in read {
                    object.serialize_field(fields[*at], &written(value, &nodes[*at]))?;
                }
                object.end()
            }
            (Node::Enum { name, variants, contents }, Value::Variant(at, held)) => {
                let (index, variant) = (*at as u32, variants[*at]);
                match (&contents[*at], &**held) {
                    (Content::Unit, _) => to.serialize_unit_variant(name, index, variant),
                    (Content::One(node), held) => {
                        to.serialize_newtype_variant(name, index, variant, &written(held, node))
                    }
                    (Content::Many(node), held) => {
                        many(to, (name, index, variant), &place.inside(node), held)
                    }
                }
            }
            _ => Err(mismatch()),
        }
    }
}

/// A variant that holds a tuple or a struct.
fn many<S: Serializer>(
    to: S,
    (name, index, variant): (&'static str, u32, &'static str),
    place: &Place<'_>,
    held: &Value,
) -> Result<S::Ok, S::Error> {
    let written = |value, node| Written { value, place: place.inside(node) };
    match (place.node, held) {
        (Node::Tuple(nodes), Value::List(values)) => {
            let mut tuple = to.serialize_tuple_variant(name, index, variant, values.len())?;
            for (value, node) in values.iter().zip(nodes) {
                tuple.serialize_field(&written(value, node))?;
            }
            tuple.end()
        }
        (Node::Struct { fields, nodes, .. }, Value::Struct(read)) => {
            let mut object = to.serialize_struct_variant(name, index, variant, read.len())?;
            for (at, value) in read {
                object.serialize_field(fields[*at], &written(value, &nodes[*at]))?;
            }
            object.end()
        }
        _ => Err(S::Error::custom("a value that is not of its type")),
    }
}
