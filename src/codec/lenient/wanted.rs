//! The kind of value that a type requests, and its replacement for null or for a number written as text.

use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::fields::{FieldsVisitor, Member};
use super::wrap::Lenient;
use super::{Reading, ReadingZeros};
use crate::codec::zero::Zero;

/// A type's request to the format, kept so that it can be repeated once it is known that the value is not null.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Str,
    String,
    Bytes,
    ByteBuf,
    Unit,
    UnitStruct(&'static str),
    Seq,
    Map,
    Tuple(usize),
    TupleStruct(&'static str, usize),
    Struct(&'static str, &'static [&'static str]),
    Enum(&'static str, &'static [&'static str]),
}

impl Wanted {
    pub(super) fn ask<'de, D: Deserializer<'de>, V: Visitor<'de>>(
        self,
        inner: D,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        match self {
            Wanted::Bool => inner.deserialize_bool(visitor),
            Wanted::I8 => inner.deserialize_i8(visitor),
            Wanted::I16 => inner.deserialize_i16(visitor),
            Wanted::I32 => inner.deserialize_i32(visitor),
            Wanted::I64 => inner.deserialize_i64(visitor),
            Wanted::I128 => inner.deserialize_i128(visitor),
            Wanted::U8 => inner.deserialize_u8(visitor),
            Wanted::U16 => inner.deserialize_u16(visitor),
            Wanted::U32 => inner.deserialize_u32(visitor),
            Wanted::U64 => inner.deserialize_u64(visitor),
            Wanted::U128 => inner.deserialize_u128(visitor),
            Wanted::F32 => inner.deserialize_f32(visitor),
            Wanted::F64 => inner.deserialize_f64(visitor),
            Wanted::Char => inner.deserialize_char(visitor),
            Wanted::Str => inner.deserialize_str(visitor),
            Wanted::String => inner.deserialize_string(visitor),
            Wanted::Bytes => inner.deserialize_bytes(visitor),
            Wanted::ByteBuf => inner.deserialize_byte_buf(visitor),
            Wanted::Unit => inner.deserialize_unit(visitor),
            Wanted::UnitStruct(name) => inner.deserialize_unit_struct(name, visitor),
            Wanted::Seq => inner.deserialize_seq(visitor),
            Wanted::Map => inner.deserialize_map(visitor),
            Wanted::Tuple(len) => inner.deserialize_tuple(len, visitor),
            Wanted::TupleStruct(name, len) => inner.deserialize_tuple_struct(name, len, visitor),
            Wanted::Struct(name, fields) => inner.deserialize_struct(name, fields, visitor),
            Wanted::Enum(name, variants) => inner.deserialize_enum(name, variants, visitor),
        }
    }

    /// Requests the value, which is present and not null.
    pub(super) fn ask_lenient<'de, D: Deserializer<'de>, V: Visitor<'de>>(
        self,
        inner: D,
        visitor: V,
        reading: &Reading,
    ) -> Result<V::Value, D::Error> {
        match self {
            Wanted::I8 | Wanted::I16 | Wanted::I32 | Wanted::I64 if reading.is_proto_json => {
                inner.deserialize_any(NumberVisitor { visitor, is_float: false })
            }
            Wanted::U8 | Wanted::U16 | Wanted::U32 | Wanted::U64 if reading.is_proto_json => {
                inner.deserialize_any(NumberVisitor { visitor, is_float: false })
            }
            Wanted::F32 | Wanted::F64 if reading.is_proto_json => {
                inner.deserialize_any(NumberVisitor { visitor, is_float: true })
            }
            Wanted::Unit | Wanted::UnitStruct(_) => inner.deserialize_any(UnitVisitor { visitor }),
            Wanted::Struct(_, fields) => self.ask(inner, FieldsVisitor { visitor, fields, reading }),
            _ => self.ask(inner, Lenient { inner: visitor, reading, member: None }),
        }
    }
}

/// Replaces null with a zero and, if the struct does not require the member, marks it as one to skip in the next
/// reading. Forwards any other value as requested.
pub(super) struct NullVisitor<'p, V> {
    pub(super) wanted: Wanted,
    pub(super) visitor: V,
    pub(super) reading: &'p Reading,
    pub(super) member: Option<Member>,
}

impl<'de, V: Visitor<'de>> NullVisitor<'_, V> {
    fn zero<E: Error>(self) -> Result<V::Value, E> {
        let NullVisitor { wanted, visitor, reading, member } = self;
        let passes_over = member.filter(|member| !member.is_needed);
        if let Some(member) = passes_over {
            reading.nulls.borrow_mut().push(member.number);
        }
        let mut run = ReadingZeros::new(reading);
        wanted.ask(Zero { run: &mut run, kind: None }, visitor).inspect_err(|_| match member {
            Some(member) if passes_over.is_none() => reading.note_without_zero(member.name),
            _ => {}
        })
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for NullVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.zero()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.zero()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.wanted.ask_lenient(inner, self.visitor, self.reading)
    }
}

/// A number, which may be written as text.
struct NumberVisitor<V> {
    visitor: V,
    is_float: bool,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for NumberVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.visitor.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.visitor.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        // The mapping allows an integer to be written as 1.0 or 1e3. Beyond 2^53 the integer would be ambiguous.
        if !self.is_float && value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            return self.visitor.visit_i64(value as i64);
        }
        self.visitor.visit_f64(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
            && text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        match text {
            "NaN" if self.is_float => return self.visitor.visit_f64(f64::NAN),
            "Infinity" if self.is_float => return self.visitor.visit_f64(f64::INFINITY),
            "-Infinity" if self.is_float => return self.visitor.visit_f64(f64::NEG_INFINITY),
            _ if !is_decimal => {}
            _ if self.is_float => {
                if let Ok(value) = text.parse() {
                    return self.visitor.visit_f64(value);
                }
            }
            _ => {
                if let Ok(value) = text.parse() {
                    return self.visitor.visit_i64(value);
                }
                if let Ok(value) = text.parse() {
                    return self.visitor.visit_u64(value);
                }
            }
        }
        self.visitor.visit_str(text)
    }
}

/// The unit value, which Go and protobuf write as an object without members.
struct UnitVisitor<V> {
    visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for UnitVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<V::Value, A::Error> {
        // Fields of a later version of the type are skipped, as in any struct.
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.visitor.visit_unit()
    }
}
