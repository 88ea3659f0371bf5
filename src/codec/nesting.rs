//! A guard around any serde deserializer that limits nesting, reservations and elements that take no bytes.
//!
//! The codecs count only part of what recurses (rmp-serde counts neither enums nor options, postcard nothing), and
//! pass declared lengths on as hints. So every container passes through here, including skipped ones. The guard reads
//! no bytes itself. `json.rs`, `compact.rs`, `messagepack.rs` and `added.rs` use it.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::{DEPTH_MAX_DEFAULT, depth_max};

/// The limit for containers, options and newtypes together. Options and newtypes take no bytes in some codecs, so a
/// type that contains itself only through them would recurse without end.
const STEPS_MAX: usize = 4 * DEPTH_MAX_DEFAULT;

/// The number of elements that a body may hold beyond its number of bytes, for elements that take none (units, empty
/// structs).
const FREE_ELEMENTS_MAX: usize = 1 << 16;

/// The budgets of one body.
pub(super) struct Guard {
    /// The number of elements that hints may still reserve: all hints together never exceed the bytes of the body.
    reserve_left: Cell<usize>,
    /// The number of elements that the body may still hold.
    elements_left: Cell<usize>,
    too_deep: Cell<bool>,
    depth_max: usize,
}

impl Guard {
    #[cfg(any(feature = "json", feature = "compact", feature = "messagepack"))]
    pub(super) fn for_body(body: &[u8]) -> Guard {
        Guard::for_len(body.len())
    }

    /// Creates the guard of a body with this many bytes.
    pub(super) fn for_len(len: usize) -> Guard {
        Guard {
            reserve_left: Cell::new(len),
            elements_left: Cell::new(len.saturating_add(FREE_ELEMENTS_MAX)),
            too_deep: Cell::new(false),
            depth_max: depth_max(),
        }
    }

    /// Returns whether the nesting limit ended the decoding.
    pub(super) fn was_too_deep(&self) -> bool {
        self.too_deep.get()
    }

    /// Reads the value under this guard.
    pub(super) fn run<'de, T: serde::de::Deserialize<'de>, D: Deserializer<'de>>(
        &self,
        inner: D,
    ) -> Result<T, D::Error> {
        T::deserialize(Guarded::<D, false, false> { inner, guard: self, containers: 0, steps: 0 })
    }

    /// Reads the value under this guard, with structs as maps keyed by field name. A list in place of a struct is
    /// refused: a later version may have its fields in another order, so positions are not reliable.
    #[cfg(any(feature = "json", feature = "messagepack"))]
    pub(super) fn run_named<'de, S: DeserializeSeed<'de>, D: Deserializer<'de>>(
        &self,
        seed: S,
        inner: D,
    ) -> Result<S::Value, D::Error> {
        seed.deserialize(Guarded::<D, true, false> { inner, guard: self, containers: 0, steps: 0 })
    }

    fn refuse_depth<E: Error>(&self) -> E {
        self.too_deep.set(true);
        E::custom("nested too deep")
    }

    /// Reduces a hint to what the bytes of the body can hold.
    fn hint(&self, declared: Option<usize>) -> Option<usize> {
        declared.map(|declared| {
            let granted = declared.min(self.reserve_left.get());
            self.reserve_left.set(self.reserve_left.get() - granted);
            granted
        })
    }

    fn count_element<E: Error>(&self) -> Result<(), E> {
        match self.elements_left.get().checked_sub(1) {
            Some(left) => {
                self.elements_left.set(left);
                Ok(())
            }
            None => Err(E::custom("more elements than the bytes of the body can hold")),
        }
    }
}

/// Returns the error for a list in place of a struct.
#[cold]
#[inline(never)]
fn refuse_list<E: Error>(expected: &dyn Expected) -> E {
    E::invalid_type(Unexpected::Seq, expected)
}

/// Wraps a serde object: a deserializer, a visitor, a seed, an access. With `NAMED`, structs are maps keyed by field
/// name; with `FIELDS`, the wrapped object is the visitor of such a struct.
struct Guarded<'g, X, const NAMED: bool, const FIELDS: bool = false> {
    inner: X,
    guard: &'g Guard,
    /// The number of containers around this place: always below the guard's `depth_max`.
    containers: usize,
    /// The number of containers, options and newtypes around this place: always < STEPS_MAX.
    steps: usize,
}

impl<'g, X, const NAMED: bool, const FIELDS: bool> Guarded<'g, X, NAMED, FIELDS> {
    /// Wraps `inner` at the same level.
    #[inline]
    fn beside<Y>(&self, inner: Y) -> Guarded<'g, Y, NAMED> {
        Guarded { inner, guard: self.guard, containers: self.containers, steps: self.steps }
    }

    /// Wraps the visitor of a struct's fields at the same level.
    #[inline]
    fn fields<Y>(&self, inner: Y) -> Guarded<'g, Y, NAMED, true> {
        Guarded { inner, guard: self.guard, containers: self.containers, steps: self.steps }
    }

    /// Wraps `inner` one container deeper.
    #[inline]
    fn inside<Y, E: Error>(&self, inner: Y) -> Result<Guarded<'g, Y, NAMED>, E> {
        let mut next = self.through(inner)?;
        next.containers += 1;
        if next.containers >= self.guard.depth_max { Err(self.guard.refuse_depth()) } else { Ok(next) }
    }

    /// Wraps `inner` one option or newtype deeper.
    #[inline]
    fn through<Y, E: Error>(&self, inner: Y) -> Result<Guarded<'g, Y, NAMED>, E> {
        let mut next = self.beside(inner);
        next.steps += 1;
        if next.steps >= STEPS_MAX { Err(self.guard.refuse_depth()) } else { Ok(next) }
    }
}

macro_rules! forward_deserialize {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.beside(visitor);
            self.inner.$method(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>, const NAMED: bool> Deserializer<'de> for Guarded<'_, D, NAMED> {
    type Error = D::Error;

    forward_deserialize! {
        deserialize_any deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_option deserialize_unit
        deserialize_seq deserialize_map deserialize_identifier
    }

    /// Reads a skipped value like any other, so that it is counted: serde_json would skip without a limit.
    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_any(visitor)
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.beside(visitor);
        self.inner.deserialize_unit_struct(name, visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.beside(visitor);
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.beside(visitor);
        self.inner.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.beside(visitor);
        self.inner.deserialize_tuple_struct(name, len, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.fields(visitor);
        self.inner.deserialize_struct(name, fields, visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.beside(visitor);
        self.inner.deserialize_enum(name, variants, visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! forward_visit {
    ($($method:ident($kind:ty))*) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>, const NAMED: bool, const FIELDS: bool> Visitor<'de>
    for Guarded<'_, V, NAMED, FIELDS>
{
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    forward_visit! {
        visit_bool(bool)
        visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128)
        visit_f32(f32) visit_f64(f64) visit_char(char)
        visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let inner = self.through(inner)?;
        self.inner.visit_some(inner)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let inner = self.through(inner)?;
        self.inner.visit_newtype_struct(inner)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        if NAMED && FIELDS {
            return Err(refuse_list(&self));
        }
        let access = self.inside(access)?;
        self.inner.visit_seq(access)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = self.inside(access)?;
        self.inner.visit_map(access)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = self.through(access)?;
        self.inner.visit_enum(access)
    }
}

impl<'de, S: DeserializeSeed<'de>, const NAMED: bool> DeserializeSeed<'de> for Guarded<'_, S, NAMED> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let inner = self.beside(inner);
        self.inner.deserialize(inner)
    }
}

impl<'de, A: SeqAccess<'de>, const NAMED: bool> SeqAccess<'de> for Guarded<'_, A, NAMED> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.beside(seed);
        let element = self.inner.next_element_seed(seed)?;
        if element.is_some() {
            self.guard.count_element()?;
        }
        Ok(element)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.guard.hint(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>, const NAMED: bool> MapAccess<'de> for Guarded<'_, A, NAMED> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.beside(seed);
        let key = self.inner.next_key_seed(seed)?;
        if key.is_some() {
            self.guard.count_element()?;
        }
        Ok(key)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.beside(seed);
        self.inner.next_value_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.guard.hint(self.inner.size_hint())
    }
}

impl<'de, 'g, A: EnumAccess<'de>, const NAMED: bool> EnumAccess<'de> for Guarded<'g, A, NAMED> {
    type Error = A::Error;
    type Variant = Guarded<'g, A::Variant, NAMED>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let Guarded { guard, containers, steps, .. } = self;
        let seed = self.beside(seed);
        let (value, inner) = self.inner.variant_seed(seed)?;
        Ok((value, Guarded { inner, guard, containers, steps }))
    }
}

impl<'de, A: VariantAccess<'de>, const NAMED: bool> VariantAccess<'de> for Guarded<'_, A, NAMED> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.inside(seed)?;
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.beside(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.fields(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}
