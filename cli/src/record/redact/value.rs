//! A value of a type that is known only by its description: read and written through serde, as the type itself would
//! be.
//!
//! serde requires `'static` names. Those of types are few and belong to the process, so each is leaked once.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::SecretNames;
use super::typed::{NamedShape, ShapePath, VariantContent};

/// A value that was read.
#[derive(Debug, PartialEq)]
pub(super) enum RecordedValue {
    Bool(bool),
    Int(i128),
    Uint(u128),
    Float(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Unit,
    None,
    Some(Box<RecordedValue>),
    /// A sequence or a tuple.
    List(Vec<RecordedValue>),
    Map(Vec<(RecordedValue, RecordedValue)>),
    /// The fields that were present, each with its index.
    Struct(Vec<(usize, RecordedValue)>),
    /// The index of the variant, and its content.
    Variant(usize, Box<RecordedValue>),
}

impl RecordedValue {
    /// Replaces the value by one of the same type that reveals nothing.
    pub(super) fn blank(&mut self) {
        match self {
            RecordedValue::Bool(truth) => *truth = false,
            RecordedValue::Int(number) => *number = 0,
            RecordedValue::Uint(number) => *number = 0,
            RecordedValue::Float(number) => *number = 0.0,
            RecordedValue::Char(c) => *c = ' ',
            RecordedValue::Text(text) => text.clear(),
            RecordedValue::Bytes(bytes) => bytes.clear(),
            RecordedValue::Unit | RecordedValue::None => {}
            RecordedValue::Some(inner) | RecordedValue::Variant(_, inner) => inner.blank(),
            RecordedValue::List(values) => values.iter_mut().for_each(RecordedValue::blank),
            RecordedValue::Map(pairs) => pairs.clear(),
            RecordedValue::Struct(fields) => fields.iter_mut().for_each(|(_, value)| value.blank()),
        }
    }
}

/// Returns a `'static` copy of a text; equal texts share one.
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

/// Returns a `'static` copy of a list of such texts.
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

/// Reads the value at a node, and blanks the named fields.
#[derive(Clone, Copy)]
pub(super) struct RedactSeed<'a> {
    pub(super) place: ShapePath<'a>,
    pub(super) names: &'a SecretNames,
}

impl RedactSeed<'_> {
    /// Returns the seed for a node inside this one.
    fn of<'b>(&'b self, node: &'b NamedShape) -> RedactSeed<'b> {
        RedactSeed { place: self.place.inside(node), names: self.names }
    }
}

impl<'de> DeserializeSeed<'de> for RedactSeed<'_> {
    type Value = RecordedValue;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<RecordedValue, D::Error> {
        let Some(place) = self.place.resolved() else {
            return Err(D::Error::custom("a description that leads nowhere"));
        };
        let this = RedactSeed { place, ..self };
        match place.node {
            NamedShape::Bool => from.deserialize_bool(this),
            NamedShape::Int { bits: 8, signed: true } => from.deserialize_i8(this),
            NamedShape::Int { bits: 16, signed: true } => from.deserialize_i16(this),
            NamedShape::Int { bits: 32, signed: true } => from.deserialize_i32(this),
            NamedShape::Int { bits: 64, signed: true } => from.deserialize_i64(this),
            NamedShape::Int { signed: true, .. } => from.deserialize_i128(this),
            NamedShape::Int { bits: 8, .. } => from.deserialize_u8(this),
            NamedShape::Int { bits: 16, .. } => from.deserialize_u16(this),
            NamedShape::Int { bits: 32, .. } => from.deserialize_u32(this),
            NamedShape::Int { bits: 64, .. } => from.deserialize_u64(this),
            NamedShape::Int { .. } => from.deserialize_u128(this),
            NamedShape::Float { bits: 32 } => from.deserialize_f32(this),
            NamedShape::Float { .. } => from.deserialize_f64(this),
            NamedShape::Char => from.deserialize_char(this),
            NamedShape::String => from.deserialize_string(this),
            NamedShape::Bytes => from.deserialize_byte_buf(this),
            NamedShape::Unit => from.deserialize_unit(this),
            NamedShape::Any => from.deserialize_ignored_any(IgnoredAny).map(|_| RecordedValue::Unit),
            NamedShape::Option(_) => from.deserialize_option(this),
            NamedShape::Sequence(_) => from.deserialize_seq(this),
            NamedShape::Tuple(nodes) => from.deserialize_tuple(nodes.len(), this),
            NamedShape::Map(..) => from.deserialize_map(this),
            NamedShape::Struct { name, fields, .. } => from.deserialize_struct(name, fields, this),
            NamedShape::Enum { name, variants, .. } => from.deserialize_enum(name, variants, this),
            NamedShape::Recursive { .. } => Err(D::Error::custom("a description that leads nowhere")),
        }
    }
}

macro_rules! visit {
    ($($method:ident $type:ty => $make:expr;)*) => {$(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<RecordedValue, E> {
            Ok($make(value))
        }
    )*};
}

impl<'de> Visitor<'de> for RedactSeed<'_> {
    type Value = RecordedValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the method's argument")
    }

    visit! {
        visit_bool bool => RecordedValue::Bool;
        visit_f32 f32 => |number| RecordedValue::Float(f64::from(number));
        visit_f64 f64 => RecordedValue::Float;
        visit_char char => RecordedValue::Char;
        visit_string String => RecordedValue::Text;
        visit_byte_buf Vec<u8> => RecordedValue::Bytes;
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<RecordedValue, E> {
        self.visit_i128(i128::from(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<RecordedValue, E> {
        self.visit_u128(u128::from(number))
    }

    fn visit_i128<E: serde::de::Error>(self, number: i128) -> Result<RecordedValue, E> {
        match self.place.node {
            NamedShape::Int { signed: false, .. } => {
                u128::try_from(number).map(RecordedValue::Uint).map_err(|_| E::custom("a number below 0"))
            }
            _ => Ok(RecordedValue::Int(number)),
        }
    }

    fn visit_u128<E: serde::de::Error>(self, number: u128) -> Result<RecordedValue, E> {
        match self.place.node {
            NamedShape::Int { signed: false, .. } => Ok(RecordedValue::Uint(number)),
            _ => i128::try_from(number).map(RecordedValue::Int).map_err(|_| E::custom("too large a number")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RecordedValue, E> {
        Ok(match self.place.node {
            NamedShape::Bytes => RecordedValue::Bytes(text.into()),
            _ => RecordedValue::Text(text.into()),
        })
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<RecordedValue, E> {
        Ok(RecordedValue::Bytes(bytes.into()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<RecordedValue, E> {
        Ok(if matches!(self.place.node, NamedShape::Option(_)) {
            RecordedValue::None
        } else {
            RecordedValue::Unit
        })
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<RecordedValue, E> {
        Ok(RecordedValue::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<RecordedValue, D::Error> {
        let NamedShape::Option(inner) = self.place.node else { return Err(D::Error::custom("no option")) };
        Ok(RecordedValue::Some(Box::new(self.of(inner).deserialize(from)?)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RecordedValue, A::Error> {
        let mut values = Vec::new();
        match self.place.node {
            NamedShape::Sequence(inner) => {
                while let Some(value) = access.next_element_seed(self.of(inner))? {
                    values.push(value);
                }
            }
            NamedShape::Tuple(nodes) => {
                for node in nodes {
                    let next = access.next_element_seed(self.of(node))?;
                    values.push(next.ok_or_else(|| A::Error::custom("a tuple ends early"))?);
                }
            }
            NamedShape::Struct { fields, nodes, .. } => {
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
                return Ok(RecordedValue::Struct(read));
            }
            // Byte strings may be encoded as a list of numbers.
            NamedShape::Bytes => {
                let mut bytes = Vec::new();
                while let Some(byte) = access.next_element()? {
                    bytes.push(byte);
                }
                return Ok(RecordedValue::Bytes(bytes));
            }
            _ => return Err(A::Error::custom("a list where there is none")),
        }
        Ok(RecordedValue::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RecordedValue, A::Error> {
        match self.place.node {
            NamedShape::Struct { fields, nodes, .. } => {
                let mut read = Vec::new();
                while let Some(key) = access.next_key::<String>()? {
                    let Some(at) = fields.iter().position(|name| *name == key) else {
                        // Fields that the type does not know are not recorded either: they may hold anything.
                        access.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let mut value = access.next_value_seed(self.of(&nodes[at]))?;
                    if self.names.has(&key) {
                        value.blank();
                    }
                    read.push((at, value));
                }
                Ok(RecordedValue::Struct(read))
            }
            NamedShape::Map(key, value) => {
                let mut pairs = Vec::new();
                while let Some(known) = access.next_key_seed(self.of(key))? {
                    let mut value = access.next_value_seed(self.of(value))?;
                    if matches!(&known, RecordedValue::Text(text) if self.names.has(text)) {
                        value.blank();
                    }
                    pairs.push((known, value));
                }
                Ok(RecordedValue::Map(pairs))
            }
            _ => Err(A::Error::custom("a map where there is none")),
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<RecordedValue, A::Error> {
        let NamedShape::Enum { variants, contents, .. } = self.place.node else {
            return Err(A::Error::custom("a variant where there is none"));
        };
        let (at, content) = access.variant_seed(VariantName(variants))?;
        let mut value = match &contents[at] {
            VariantContent::Unit => content.unit_variant().map(|()| RecordedValue::Unit),
            VariantContent::One(node) => content.newtype_variant_seed(self.of(node)),
            VariantContent::Many(node) => match node {
                NamedShape::Tuple(nodes) => content.tuple_variant(nodes.len(), self.of(node)),
                NamedShape::Struct { fields, .. } => content.struct_variant(fields, self.of(node)),
                _ => Err(A::Error::custom("a description that leads nowhere")),
            },
        }?;
        if self.names.has(variants[at]) {
            value.blank();
        }
        Ok(RecordedValue::Variant(at, Box::new(value)))
    }
}

/// The index of a variant: from its name, or from its number if names are not encoded.
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
