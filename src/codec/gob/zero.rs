//! The zero of whatever type is asked for: what Go leaves out of a body.
//!
//! Numbers are 0, text and lists empty, options none, structs all of zeros, enums their first variant. It reads no
//! bytes; it recurses with the type of Rust's, within the limits of the body around it.

use std::rc::Rc;

use serde::de::value::{BorrowedStrDeserializer, U32Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::fault::Fault;
use super::plan::{RustStruct, needs, note_need};
use super::run::Run;
use super::time;
use super::wire::{At, Kind};

pub(super) struct Zero<'r, 'de, 't> {
    pub(super) run: &'r mut Run<'de, 't>,
    /// The type on the wire, where it has the field.
    pub(super) kind: Option<At>,
}

macro_rules! zeros {
    ($($method:ident $visit:ident($($zero:expr)?);)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit($($zero)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Zero<'_, 'de, '_> {
    type Error = Fault;

    zeros! {
        deserialize_bool visit_bool(false);
        deserialize_i8 visit_i8(0);
        deserialize_i16 visit_i16(0);
        deserialize_i32 visit_i32(0);
        deserialize_i64 visit_i64(0);
        deserialize_i128 visit_i128(0);
        deserialize_u8 visit_u8(0);
        deserialize_u16 visit_u16(0);
        deserialize_u32 visit_u32(0);
        deserialize_u64 visit_u64(0);
        deserialize_u128 visit_u128(0);
        deserialize_f32 visit_f32(0.0);
        deserialize_f64 visit_f64(0.0);
        deserialize_char visit_char('\0');
        deserialize_str visit_borrowed_str("");
        deserialize_string visit_borrowed_str("");
        deserialize_identifier visit_borrowed_str("");
        deserialize_bytes visit_borrowed_bytes(&[]);
        deserialize_byte_buf visit_borrowed_bytes(&[]);
        deserialize_option visit_none();
        deserialize_unit visit_unit();
        deserialize_ignored_any visit_unit();
        deserialize_seq visit_seq(Nothing);
        deserialize_map visit_map(Nothing);
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.kind.map(|at| self.run.table().kind(at)) {
            Some(Kind::Bool) => visitor.visit_bool(false),
            Some(Kind::Int) => visitor.visit_i64(0),
            Some(Kind::Uint) => visitor.visit_u64(0),
            Some(Kind::Float) => visitor.visit_f64(0.0),
            Some(Kind::String | Kind::OpaqueText) => visitor.visit_borrowed_str(""),
            Some(Kind::Bytes) => visitor.visit_borrowed_bytes(&[]),
            Some(Kind::Slice { .. }) => visitor.visit_seq(Nothing),
            Some(Kind::Map { .. }) => visitor.visit_map(Nothing),
            // Nil pointers, and what the sender does not know.
            _ => visitor.visit_unit(),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let kind = self.kind;
        self.run.through(|run| visitor.visit_newtype_struct(Zero { run, kind }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.run.inside(|run| visitor.visit_seq(Zeros { run, left: len }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == time::NAME {
            return self.run.inside(|_| visitor.visit_seq(time::Parts::ZERO.into_access()));
        }
        let rust = RustStruct::of::<V::Value>(fields);
        self.run.inside(|run| {
            let names = needs(rust);
            match visitor.visit_map(ZeroFields { run: &mut *run, names: names.clone(), next: 0 }) {
                Err(Fault::MissingField(name)) => {
                    let has = names.is_some_and(|names| names.contains(&name));
                    run.learnt |= !has && fields.contains(&name) && note_need(rust, name);
                    Err(Fault::said(Fault::MissingField(name)))
                }
                other => other,
            }
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.run.inside(|run| visitor.visit_enum(Zero { run, kind: None }))
    }
}

/// The first variant.
impl<'de> EnumAccess<'de> for Zero<'_, 'de, '_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let first: U32Deserializer<Fault> = 0u32.into_deserializer();
        Ok((seed.deserialize(first)?, self))
    }
}

impl<'de> VariantAccess<'de> for Zero<'_, 'de, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_struct("", fields, visitor)
    }
}

/// A list or map without anything in it.
struct Nothing;

impl<'de> SeqAccess<'de> for Nothing {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, _seed: S) -> Result<Option<S::Value>, Fault> {
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(0)
    }
}

impl<'de> MapAccess<'de> for Nothing {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, _seed: S) -> Result<Option<S::Value>, Fault> {
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, _seed: S) -> Result<S::Value, Fault> {
        Err(Fault::text("a value was asked for before its key"))
    }
}

/// A tuple's elements.
struct Zeros<'r, 'de, 't> {
    run: &'r mut Run<'de, 't>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Zeros<'_, 'de, '_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(Zero { run: self.run, kind: None }).map(Some)
    }
}

/// A struct's fields, those that it cannot do without.
struct ZeroFields<'r, 'de, 't> {
    run: &'r mut Run<'de, 't>,
    names: Option<Rc<[&'static str]>>,
    next: usize,
}

impl<'de> MapAccess<'de> for ZeroFields<'_, 'de, '_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(name) = self.names.as_ref().and_then(|names| names.get(self.next)) else { return Ok(None) };
        self.next += 1;
        seed.deserialize(BorrowedStrDeserializer::<Fault>::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(Zero { run: self.run, kind: None })
    }
}
