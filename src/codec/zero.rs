//! The zero value of any type that is read: the replacement for a field that a body lacks, or that is null.
//!
//! Numbers are 0, text and lists are empty, options are none, structs consist of zeros, and an enum without data is
//! its first variant. A type without a zero (an enum with data, a NonZero) causes an error that names the field. This
//! file reads no bytes; it recurses with the Rust type, within the limits of the body around it. A [`ZeroContext`] is
//! the reading of that body.

use std::rc::Rc;

use serde::de::value::{BorrowedStrDeserializer, U32Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::needs::{EnumZero, RustType, enum_zero, needs, note_enum, note_need};

/// The error for a missing value whose type has no zero.
pub(super) const NO_ZERO: &str = "its type has no zero value";

/// The zero for a type that accepts any value (`deserialize_any`).
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "gob"), allow(dead_code, reason = "only gob knows the sender's type"))]
pub(super) enum UntypedZero {
    Unit,
    Bool,
    Int,
    Uint,
    Float,
    Text,
    Bytes,
    List,
    Map,
}

/// The reading of a body that zeros are inserted into.
pub(super) trait ZeroContext<'de> {
    /// The error type of the reading.
    type Error: Error;
    /// The value of `is_human_readable` that types see.
    const IS_HUMAN_READABLE: bool;
    /// The name of the struct that is read from [`ZeroContext::special`] instead of from its fields.
    const SPECIAL: &'static str;

    /// Reads the content of a container.
    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, Self::Error>)
    -> Result<R, Self::Error>;

    /// Reads the content of a newtype.
    fn through<R>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<R, Self::Error>,
    ) -> Result<R, Self::Error>;

    /// Returns the field whose absence caused the error of the struct that was just read, if that is the cause. Marks
    /// the error, so that a surrounding struct does not take it for its own.
    fn missing_field(&mut self, error: &mut Self::Error, fields: &[&'static str]) -> Option<&'static str>;

    /// Records that a second reading will know more.
    fn set_learnt(&mut self);

    /// Returns the error for a field whose type has no zero; the error is unchanged if a second reading will know
    /// more.
    fn without_zero(&mut self, field: &str, error: Self::Error) -> Self::Error;

    /// Returns the zero of a type that accepts any value, where the sender's type is `kind`.
    fn untyped(&self, kind: Option<u32>) -> UntypedZero;

    /// Returns the zero of the special struct.
    fn special<V: Visitor<'de>>(visitor: V) -> Result<V::Value, Self::Error>;
}

/// A deserializer that yields the zero of the type that is read.
pub(super) struct Zero<'r, C> {
    pub(super) run: &'r mut C,
    /// The type on the wire, if it has the field and the codec numbers its types.
    pub(super) kind: Option<u32>,
}

macro_rules! zeros {
    ($($method:ident $visit:ident($($zero:expr)?);)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, C::Error> {
            visitor.$visit($($zero)?)
        }
    )*};
}

impl<'de, C: ZeroContext<'de>> Deserializer<'de> for Zero<'_, C> {
    type Error = C::Error;

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
        deserialize_seq visit_seq(EmptyContainer(std::marker::PhantomData));
        deserialize_map visit_map(EmptyContainer(std::marker::PhantomData));
    }

    fn is_human_readable(&self) -> bool {
        C::IS_HUMAN_READABLE
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, C::Error> {
        match self.run.untyped(self.kind) {
            UntypedZero::Unit => visitor.visit_unit(),
            UntypedZero::Bool => visitor.visit_bool(false),
            UntypedZero::Int => visitor.visit_i64(0),
            UntypedZero::Uint => visitor.visit_u64(0),
            UntypedZero::Float => visitor.visit_f64(0.0),
            UntypedZero::Text => visitor.visit_borrowed_str(""),
            UntypedZero::Bytes => visitor.visit_borrowed_bytes(&[]),
            UntypedZero::List => visitor.visit_seq(EmptyContainer(std::marker::PhantomData)),
            UntypedZero::Map => visitor.visit_map(EmptyContainer(std::marker::PhantomData)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, C::Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, C::Error> {
        let kind = self.kind;
        self.run.through(|run| visitor.visit_newtype_struct(Zero { run, kind }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, C::Error> {
        self.run.inside(|run| visitor.visit_seq(Zeros { run, left: len }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, C::Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, C::Error> {
        if name == C::SPECIAL {
            return self.run.inside(|_| C::special(visitor));
        }
        let rust = RustType::of::<V::Value>(fields);
        self.run.inside(|run| {
            let names = needs(rust);
            let zeros = ZeroFields { run: &mut *run, names: names.clone(), next: 0, name: "" };
            visitor.visit_map(zeros).map_err(|mut error| {
                if let Some(name) = run.missing_field(&mut error, fields) {
                    let has = names.is_some_and(|names| names.contains(&name));
                    if !has && note_need(rust, name) {
                        run.set_learnt();
                    }
                }
                error
            })
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, C::Error> {
        let rust = RustType::of::<V::Value>(variants);
        let known = enum_zero(rust);
        let (pick, probed) = match known {
            EnumZero::Unknown { next } => (next, Some((rust, variants.len()))),
            EnumZero::First => (0, None),
            EnumZero::None => return Err(C::Error::custom(NO_ZERO)),
        };
        self.run.inside(|run| visitor.visit_enum(ZeroVariant { run, pick, probed }))
    }
}

/// A variant of an enum: the first one, or one that is probed for content.
struct ZeroVariant<'r, C> {
    run: &'r mut C,
    pick: u32,
    /// The enum and the number of its variants, while its zero is unknown.
    probed: Option<(RustType, usize)>,
}

impl<'de, C: ZeroContext<'de>> EnumAccess<'de> for ZeroVariant<'_, C> {
    type Error = C::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), C::Error> {
        let index: U32Deserializer<C::Error> = self.pick.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de, C: ZeroContext<'de>> ZeroVariant<'_, C> {
    /// Records that a variant has content, so that the enum has no zero.
    fn refuse<R>(self) -> Result<R, C::Error> {
        if let Some((rust, _)) = self.probed {
            note_enum(rust, EnumZero::None);
        }
        Err(C::Error::custom(NO_ZERO))
    }
}

impl<'de, C: ZeroContext<'de>> VariantAccess<'de> for ZeroVariant<'_, C> {
    type Error = C::Error;

    fn unit_variant(self) -> Result<(), C::Error> {
        let Some((rust, count)) = self.probed else { return Ok(()) };
        let next = self.pick + 1;
        let known = if next as usize >= count { EnumZero::First } else { EnumZero::Unknown { next } };
        if note_enum(rust, known) {
            self.run.set_learnt();
        }
        Err(C::Error::custom("the enum's variants are still being looked at"))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _seed: S) -> Result<S::Value, C::Error> {
        self.refuse()
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, C::Error> {
        self.refuse()
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, C::Error> {
        self.refuse()
    }
}

/// A list or map without elements.
struct EmptyContainer<E>(std::marker::PhantomData<E>);

impl<'de, E: Error> SeqAccess<'de> for EmptyContainer<E> {
    type Error = E;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, _seed: S) -> Result<Option<S::Value>, E> {
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(0)
    }
}

impl<'de, E: Error> MapAccess<'de> for EmptyContainer<E> {
    type Error = E;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, _seed: S) -> Result<Option<S::Value>, E> {
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, _seed: S) -> Result<S::Value, E> {
        Err(E::custom("a value was asked for before its key"))
    }
}

/// The elements of a tuple.
struct Zeros<'r, C> {
    run: &'r mut C,
    left: usize,
}

impl<'de, C: ZeroContext<'de>> SeqAccess<'de> for Zeros<'_, C> {
    type Error = C::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, C::Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(Zero { run: self.run, kind: None }).map(Some)
    }
}

/// The required fields of a struct.
struct ZeroFields<'r, C> {
    run: &'r mut C,
    names: Option<Rc<[&'static str]>>,
    next: usize,
    /// The field whose value is read next.
    name: &'static str,
}

impl<'de, C: ZeroContext<'de>> MapAccess<'de> for ZeroFields<'_, C> {
    type Error = C::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, C::Error> {
        let Some(name) = self.names.as_ref().and_then(|names| names.get(self.next)) else { return Ok(None) };
        self.next += 1;
        self.name = name;
        seed.deserialize(BorrowedStrDeserializer::<C::Error>::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, C::Error> {
        let value = seed.deserialize(Zero { run: &mut *self.run, kind: None });
        value.map_err(|error| self.run.without_zero(self.name, error))
    }
}
