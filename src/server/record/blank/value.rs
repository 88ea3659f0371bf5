//! A value of a type that is known by its description only: read and written through serde, as the type itself would be.
//!
//! serde wants names that live for ever. Those of types are few and the process's own, so each is kept once, for good.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::Names;
use super::typed::{Content, Node, Place};

/// A value, read.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i128),
    Uint(u128),
    Float(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Unit,
    None,
    Some(Box<Value>),
    /// A sequence or a tuple.
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// The fields that came, each with its number.
    Struct(Vec<(usize, Value)>),
    /// The number of the variant, and what it holds.
    Variant(usize, Box<Value>),
}

impl Value {
    /// What is left of it when it is a secret: something of the same type that says nothing.
    pub(super) fn blank(&mut self) {
        match self {
            Value::Bool(truth) => *truth = false,
            Value::Int(number) => *number = 0,
            Value::Uint(number) => *number = 0,
            Value::Float(number) => *number = 0.0,
            Value::Char(c) => *c = ' ',
            Value::Text(text) => text.clear(),
            Value::Bytes(bytes) => bytes.clear(),
            Value::Unit | Value::None => {}
            Value::Some(inner) | Value::Variant(_, inner) => inner.blank(),
            Value::List(values) => values.iter_mut().for_each(Value::blank),
            Value::Map(pairs) => pairs.clear(),
            Value::Struct(fields) => fields.iter_mut().for_each(|(_, value)| value.blank()),
        }
    }
}

/// A text that lives as long as the process: the same for the same.
pub(super) fn for_good(text: &str) -> &'static str {
    static KNOWN: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(text) {
        Some(kept) => kept,
        None => {
            let kept: &'static str = Box::leak(text.into());
            known.insert(kept);
            kept
        }
    }
}

/// A list of such.
pub(super) fn all_for_good(texts: Vec<&'static str>) -> &'static [&'static str] {
    static KNOWN: OnceLock<Mutex<HashSet<&'static [&'static str]>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(texts.as_slice()) {
        Some(kept) => kept,
        None => {
            let kept: &'static [&'static str] = Box::leak(texts.into_boxed_slice());
            known.insert(kept);
            kept
        }
    }
}

/// Reads what stands at a place, and blanks what has one of the names.
#[derive(Clone, Copy)]
pub(super) struct Seed<'a> {
    pub(super) place: Place<'a>,
    pub(super) names: &'a Names,
}

impl Seed<'_> {
    /// For what is inside of this.
    fn of<'b>(&'b self, node: &'b Node) -> Seed<'b> {
        Seed { place: self.place.inside(node), names: self.names }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let Some(place) = self.place.resolved() else {
            return Err(D::Error::custom("a description that leads nowhere"));
        };
        let this = Seed { place, ..self };
        match place.node {
            Node::Bool => from.deserialize_bool(this),
            Node::Int { bits: 8, signed: true } => from.deserialize_i8(this),
            Node::Int { bits: 16, signed: true } => from.deserialize_i16(this),
            Node::Int { bits: 32, signed: true } => from.deserialize_i32(this),
            Node::Int { bits: 64, signed: true } => from.deserialize_i64(this),
            Node::Int { signed: true, .. } => from.deserialize_i128(this),
            Node::Int { bits: 8, .. } => from.deserialize_u8(this),
            Node::Int { bits: 16, .. } => from.deserialize_u16(this),
            Node::Int { bits: 32, .. } => from.deserialize_u32(this),
            Node::Int { bits: 64, .. } => from.deserialize_u64(this),
            Node::Int { .. } => from.deserialize_u128(this),
            Node::Float { bits: 32 } => from.deserialize_f32(this),
            Node::Float { .. } => from.deserialize_f64(this),
            Node::Char => from.deserialize_char(this),
            Node::String => from.deserialize_string(this),
            Node::Bytes => from.deserialize_byte_buf(this),
            Node::Unit => from.deserialize_unit(this),
            Node::Any => from.deserialize_ignored_any(IgnoredAny).map(|_| Value::Unit),
            Node::Option(_) => from.deserialize_option(this),
            Node::Sequence(_) => from.deserialize_seq(this),
            Node::Tuple(nodes) => from.deserialize_tuple(nodes.len(), this),
            Node::Map(..) => from.deserialize_map(this),
            Node::Struct { name, fields, .. } => from.deserialize_struct(name, fields, this),
            Node::Enum { name, variants, .. } => from.deserialize_enum(name, variants, this),
            Node::Recursive { .. } => Err(D::Error::custom("a description that leads nowhere")),
        }
    }
}

macro_rules! visit {
    ($($method:ident $type:ty => $make:expr;)*) => {$(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<Value, E> {
            Ok($make(value))
        }
    )*};
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the method's argument")
    }

    visit! {
        visit_bool bool => Value::Bool;
        visit_f32 f32 => |number| Value::Float(f64::from(number));
        visit_f64 f64 => Value::Float;
        visit_char char => Value::Char;
        visit_string String => Value::Text;
        visit_byte_buf Vec<u8> => Value::Bytes;
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Value, E> {
        self.visit_i128(i128::from(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        self.visit_u128(u128::from(number))
    }

    fn visit_i128<E: serde::de::Error>(self, number: i128) -> Result<Value, E> {
        match self.place.node {
            Node::Int { signed: false, .. } => {
                u128::try_from(number).map(Value::Uint).map_err(|_| E::custom("a number below 0"))
            }
            _ => Ok(Value::Int(number)),
        }
    }

    fn visit_u128<E: serde::de::Error>(self, number: u128) -> Result<Value, E> {
        match self.place.node {
            Node::Int { signed: false, .. } => Ok(Value::Uint(number)),
            _ => i128::try_from(number).map(Value::Int).map_err(|_| E::custom("too large a number")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(match self.place.node {
            Node::Bytes => Value::Bytes(text.into()),
            _ => Value::Text(text.into()),
        })
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.into()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(if matches!(self.place.node, Node::Option(_)) { Value::None } else { Value::Unit })
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let Node::Option(inner) = self.place.node else { return Err(D::Error::custom("no option")) };
        Ok(Value::Some(Box::new(self.of(inner).deserialize(from)?)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        match self.place.node {
            Node::Sequence(inner) => {
                while let Some(value) = access.next_element_seed(self.of(inner))? {
                    values.push(value);
                }
            }
            Node::Tuple(nodes) => {
                for node in nodes {
                    let next = access.next_element_seed(self.of(node))?;
                    values.push(next.ok_or_else(|| A::Error::custom("a tuple ends early"))?);
                }
            }
            Node::Struct { fields, nodes, .. } => {
                let mut read = Vec::new();
                for (at, (name, node)) in fields.iter().zip(nodes).enumerate() {
                    let Some(mut value) = access.next_element_seed(self.of(node))? else {
                        break;
                    };
                    if self.names.has(name) {
                        value.blank();
                    }
                    read.push((at, value));
                }
                return Ok(Value::Struct(read));
            }
            // A byte string may travel as a list of numbers.
            Node::Bytes => {
                let mut bytes = Vec::new();
                while let Some(byte) = access.next_element()? {
                    bytes.push(byte);
                }
                return Ok(Value::Bytes(bytes));
            }
            _ => return Err(A::Error::custom("a list where there is none")),
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        match self.place.node {
            Node::Struct { fields, nodes, .. } => {
                let mut read = Vec::new();
                while let Some(key) = access.next_key::<String>()? {
                    let Some(at) = fields.iter().position(|name| *name == key) else {
                        // What the type does not know is not in the record either: it may be anything.
                        access.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let mut value = access.next_value_seed(self.of(&nodes[at]))?;
                    if self.names.has(&key) {
                        value.blank();
                    }
                    read.push((at, value));
                }
                Ok(Value::Struct(read))
            }
            Node::Map(key, value) => {
                let mut pairs = Vec::new();
                while let Some(known) = access.next_key_seed(self.of(key))? {
                    let mut value = access.next_value_seed(self.of(value))?;
                    if matches!(&known, Value::Text(text) if self.names.has(text)) {
                        value.blank();
                    }
                    pairs.push((known, value));
                }
                Ok(Value::Map(pairs))
            }
            _ => Err(A::Error::custom("a map where there is none")),
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let Node::Enum { variants, contents, .. } = self.place.node else {
            return Err(A::Error::custom("a variant where there is none"));
        };
        let (at, content) = access.variant_seed(VariantName(variants))?;
        let mut value = match &contents[at] {
            Content::Unit => content.unit_variant().map(|()| Value::Unit),
            Content::One(node) => content.newtype_variant_seed(self.of(node)),
            Content::Many(node) => match node {
                Node::Tuple(nodes) => content.tuple_variant(nodes.len(), self.of(node)),
                Node::Struct { fields, .. } => content.struct_variant(fields, self.of(node)),
                _ => Err(A::Error::custom("a description that leads nowhere")),
            },
        }?;
        if self.names.has(variants[at]) {
            value.blank();
        }
        Ok(Value::Variant(at, Box::new(value)))
    }
}

/// The number of a variant: by its name, or by its number where names do not travel.
struct VariantName(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for VariantName {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for VariantName {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a variant")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<usize, E> {
        usize::try_from(number)
            .ok()
            .filter(|at| *at < self.0.len())
            .ok_or_else(|| E::custom("the variant number is out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        self.0.iter().position(|known| *known == name).ok_or_else(|| E::custom("no such variant"))
    }
}
