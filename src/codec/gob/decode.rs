//! The deserializer: driven by the types on the wire, it visits a Rust type.
//!
//! Kinds must agree as in Go: a signed integer is not read into an unsigned one. Fields are matched by name. A value
//! that Go leaves out is passed on as a zero (`zero.rs`), so that no type needs serde defaults. The elements of
//! containers are in `access.rs` and `fields.rs`, enums in `variant.rs`.

use std::rc::Rc;

use serde::de::{Deserialize, Deserializer, Visitor};

use super::access::{ByteElements, ComplexParts, GobElements, GobEntries};
use super::fault::GobFault;
use super::fields::{NamedFields, PositionalFields};
use super::number::GobReader;
use super::plan::{Collector, Plan};
use super::run::DecodeRun;
use super::skip::{array_count, read_interface, read_single, skip_top};
use super::time;
use super::variant;
use super::wire::{TypeIndex, WireType};
use crate::codec::depth_max;

/// Decodes the value of a message (without its length).
///
/// The types are defined by the messages in `definitions`, and `plan` is the plan for those; the value may continue
/// in `after`.
pub(super) fn decode_value<'de, T: Deserialize<'de>>(
    mut plan: Rc<Plan>,
    definitions: &[u8],
    payload: &'de [u8],
    after: &'de [u8],
) -> Result<(T, &'de [u8]), GobFault> {
    let mut reader = GobReader::new(payload, after);
    let id = reader.id()?;
    let (mut at, holds_interfaces) = plan.root(id)?;
    if holds_interfaces {
        let mut collector = Collector::new(definitions)?;
        let mut first_pass = reader;
        skip_top(&mut first_pass, &mut collector, at, depth_max())?;
        let found = collector.found();
        if !found.is_empty() {
            plan = Plan::with(definitions, &found)?;
            at = plan.root(id)?.0;
        }
    }
    if !matches!(plan.table().kind(at), WireType::Struct(_)) {
        read_single(&mut reader)?;
    }
    loop {
        let mut run = DecodeRun::new(reader, &plan);
        match T::deserialize(ValueDecoder { run: &mut run, at }) {
            Ok(value) if run.reader.left().is_empty() => return Ok((value, run.reader.after())),
            Ok(_) => return Err(GobFault::said(format_args!("{} more bytes", run.reader.left().len()))),
            // Each repetition records a new need of a Rust type, so the loop ends.
            Err(_) if run.learnt => {}
            Err(_) if run.too_deep => return Err(GobFault::TooDeep),
            Err(fault) => return Err(fault),
        }
    }
}

/// The deserializer of one value on the wire.
pub(super) struct ValueDecoder<'r, 'de, 't> {
    pub(super) run: &'r mut DecodeRun<'de, 't>,
    pub(super) at: TypeIndex,
}

impl<'de, 't> ValueDecoder<'_, 'de, 't> {
    fn kind(&self) -> &'t WireType {
        self.run.table().kind(self.at)
    }

    /// Reads the value in an interface with the type that it names; nil is read as none.
    fn concrete<V: Visitor<'de>>(
        self,
        visitor: V,
        read: impl FnOnce(ValueDecoder<'_, 'de, 't>, V) -> Result<V::Value, GobFault>,
    ) -> Result<V::Value, GobFault> {
        let mut table = self.run.table();
        self.run.inside(|run| match read_interface(&mut run.reader, &mut table)? {
            Some((_, at)) => {
                if !matches!(run.table().kind(at), WireType::Struct(_)) {
                    read_single(&mut run.reader)?;
                }
                read(ValueDecoder { run, at }, visitor)
            }
            None => visitor.visit_none(),
        })
    }

    fn list<V: Visitor<'de>>(self, count: usize, elem: TypeIndex, visitor: V) -> Result<V::Value, GobFault> {
        self.run.inside(|run| {
            let reserve = run.reserve(count);
            let mut elements = GobElements { run, left: count, elem, reserve };
            let value = visitor.visit_seq(&mut elements)?;
            match elements.left {
                0 => Ok(value),
                left => Err(GobFault::said(format_args!("expected {} elements, {count} came", count - left))),
            }
        })
    }

    fn fields_as_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        let WireType::Struct(wire) = self.kind() else { return self.deserialize_any(visitor) };
        self.run.inside(|run| NamedFields::named(run, wire, visitor))
    }

    #[cold]
    pub(super) fn mismatch<R>(&self, expected: &str) -> Result<R, GobFault> {
        Err(GobFault::said(format_args!(
            "expected {expected}, the sender's type is {}",
            name_of(self.kind())
        )))
    }
}

fn name_of(kind: &WireType) -> &'static str {
    match kind {
        WireType::Undefined => "not defined",
        WireType::Bool => "a boolean",
        WireType::Int => "a signed integer",
        WireType::Uint => "an unsigned integer",
        WireType::Float => "a floating-point number",
        WireType::Bytes => "a byte string",
        WireType::String => "a string",
        WireType::Complex => "a complex number",
        WireType::Interface => "an interface",
        WireType::Array { .. } => "an array",
        WireType::Slice { .. } => "a slice",
        WireType::Map { .. } => "a map",
        WireType::Struct(_) => "a struct",
        WireType::Opaque { .. } => "the bytes of a GobEncoder",
        WireType::OpaqueText => "the text of a TextMarshaler",
    }
}

#[cold]
fn out_of_range<R>(number: impl std::fmt::Display, bits: u32) -> Result<R, GobFault> {
    Err(GobFault::said(format_args!("{number} is out of range for {bits} bits")))
}

macro_rules! integers {
    ($($method:ident $kind:ident $read:ident $visit:ident $type:ty, $expected:literal;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
            match self.kind() {
                WireType::$kind => {
                    let number = self.run.reader.$read()?;
                    match <$type>::try_from(number) {
                        Ok(number) => visitor.$visit(number),
                        Err(_) => out_of_range(number, <$type>::BITS),
                    }
                }
                WireType::Interface => self.concrete(visitor, |place, visitor| place.$method(visitor)),
                _ => self.mismatch($expected),
            }
        }
    )*};
}

macro_rules! wide_integers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
            match self.kind() {
                WireType::String => match self.run.reader.text().map(|text| (text, text.parse::<$type>()))? {
                    // Rust's parser accepts a plus sign, which no encoder writes.
                    (text, Ok(number)) if !text.starts_with('+') => visitor.$visit(number),
                    _ => Err(GobFault::text("expected an integer of at most 128 bits as decimal text")),
                },
                WireType::Int => {
                    let number = self.run.reader.int()?;
                    match <$type>::try_from(number) {
                        Ok(number) => visitor.$visit(number),
                        Err(_) => out_of_range(number, <$type>::BITS),
                    }
                }
                WireType::Uint => visitor.$visit(<$type>::from(self.run.reader.uint()?)),
                WireType::Interface => self.concrete(visitor, |place, visitor| place.$method(visitor)),
                _ => self.mismatch("an integer, or its decimal text"),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for ValueDecoder<'_, 'de, '_> {
    type Error = GobFault;

    integers! {
        deserialize_i8 Int int visit_i8 i8, "a signed integer";
        deserialize_i16 Int int visit_i16 i16, "a signed integer";
        deserialize_i32 Int int visit_i32 i32, "a signed integer";
        deserialize_i64 Int int visit_i64 i64, "a signed integer";
        deserialize_u8 Uint uint visit_u8 u8, "an unsigned integer";
        deserialize_u16 Uint uint visit_u16 u16, "an unsigned integer";
        deserialize_u32 Uint uint visit_u32 u32, "an unsigned integer";
        deserialize_u64 Uint uint visit_u64 u64, "an unsigned integer";
    }

    wide_integers! {
        deserialize_i128 visit_i128 i128;
        deserialize_u128 visit_u128 u128;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        let run = self.run;
        match run.table().kind(self.at) {
            WireType::Undefined => Err(GobFault::text("a value of a type that is never defined")),
            WireType::Bool => visitor.visit_bool(run.reader.uint()? != 0),
            WireType::Int => visitor.visit_i64(run.reader.int()?),
            WireType::Uint => visitor.visit_u64(run.reader.uint()?),
            WireType::Float => visitor.visit_f64(run.reader.float()?),
            WireType::Bytes | WireType::Opaque { .. } => visitor.visit_borrowed_bytes(run.reader.bytes()?),
            WireType::String | WireType::OpaqueText => visitor.visit_borrowed_str(run.reader.text()?),
            WireType::Complex => run.inside(|run| {
                let parts = [run.reader.float()?, run.reader.float()?];
                visitor.visit_seq(ComplexParts { parts, at: 0 })
            }),
            WireType::Array { elem, len } => {
                let count = array_count(&mut run.reader, *len)?;
                ValueDecoder { run, at: self.at }.list(count, *elem, visitor)
            }
            WireType::Slice { elem } => {
                let count = run.reader.count()?;
                ValueDecoder { run, at: self.at }.list(count, *elem, visitor)
            }
            WireType::Map { key, elem } => run.inside(|run| {
                let count = run.reader.count()?;
                let reserve = run.reserve(count);
                let mut entries = GobEntries { run, left: count, key: *key, elem: *elem, reserve };
                let value = visitor.visit_map(&mut entries)?;
                match entries.left {
                    0 => Ok(value),
                    left => Err(GobFault::said(format_args!("{left} entries of a map were not read"))),
                }
            }),
            WireType::Struct(_) => ValueDecoder { run, at: self.at }.fields_as_map(visitor),
            WireType::Interface => ValueDecoder { run, at: self.at }
                .concrete(visitor, |place, visitor| place.deserialize_any(visitor)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::Bool | WireType::Interface => self.deserialize_any(visitor),
            _ => self.mismatch("a boolean"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::Float => {
                let number = self.run.reader.float()?;
                // Infinity fits; a finite number that would become infinite does not. Precision may be lost, as in
                // Go.
                if number.is_finite() && number.abs() > f64::from(f32::MAX) {
                    return out_of_range(number, 32);
                }
                visitor.visit_f32(number as f32)
            }
            WireType::Interface => self.concrete(visitor, |place, visitor| place.deserialize_f32(visitor)),
            _ => self.mismatch("a floating-point number"),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::Float | WireType::Interface => self.deserialize_any(visitor),
            _ => self.mismatch("a floating-point number"),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::Int => {
                let number = self.run.reader.int()?;
                match u32::try_from(number).ok().and_then(char::from_u32) {
                    Some(letter) => visitor.visit_char(letter),
                    None => Err(GobFault::said(format_args!("{number} is not a character's number"))),
                }
            }
            WireType::String | WireType::Interface => self.deserialize_any(visitor),
            _ => self.mismatch("a character (a rune)"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::String => visitor.visit_borrowed_str(self.run.reader.text()?),
            WireType::OpaqueText | WireType::Interface => self.deserialize_any(visitor),
            _ => self.mismatch("a string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::Bytes => visitor.visit_borrowed_bytes(self.run.reader.bytes()?),
            WireType::Opaque { .. }
            | WireType::Array { .. }
            | WireType::Slice { .. }
            | WireType::Interface => self.deserialize_any(visitor),
            _ => self.mismatch("a byte string"),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        let at = self.at;
        if let WireType::Interface = self.kind()
            && let Some(0) = self.run.reader.left().first()
        {
            self.run.reader.uint()?;
            return visitor.visit_none();
        }
        self.run.through(|run| visitor.visit_some(ValueDecoder { run, at }))
    }

    /// Skips any value.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        self.run.skip(self.at)?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        let at = self.at;
        self.run.through(|run| visitor.visit_newtype_struct(ValueDecoder { run, at }))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::Bytes | WireType::Opaque { .. } => self.run.inside(|run| {
                let bytes = run.reader.bytes()?;
                // The bytes are present in the body, so a reservation of this many elements is bounded by what was
                // sent.
                let mut bits = ByteElements { bytes };
                let value = visitor.visit_seq(&mut bits)?;
                match bits.bytes.len() {
                    0 => Ok(value),
                    left => Err(GobFault::said(format_args!("{left} bytes more than expected"))),
                }
            }),
            WireType::Slice { .. } | WireType::Array { .. } | WireType::Complex | WireType::Interface => {
                self.deserialize_any(visitor)
            }
            _ => self.mismatch("a slice"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::Struct(wire) if wire.len() <= len => {
                self.run.inside(|run| PositionalFields::read(run, wire, len, visitor))
            }
            WireType::Struct(wire) => Err(GobFault::said(format_args!(
                "expected a tuple of {len}, the sender's struct has {} fields",
                wire.len()
            ))),
            WireType::Interface => {
                self.concrete(visitor, |place, visitor| place.deserialize_tuple(len, visitor))
            }
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::Map { .. } | WireType::Struct(_) | WireType::Interface => self.deserialize_any(visitor),
            _ => self.mismatch("a map"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        match self.kind() {
            WireType::Struct(wire) => {
                let at = self.at;
                self.run.inside(|run| NamedFields::of_struct(run, at, wire, (name, fields), visitor))
            }
            WireType::Opaque { name: wire_name } if name == time::NAME && **wire_name == *time::WIRE_NAME => {
                let parts = time::read(self.run.reader.bytes()?)?;
                self.run.inside(|_| visitor.visit_seq(parts.into_access()))
            }
            WireType::Interface => {
                self.concrete(visitor, |place, visitor| place.deserialize_struct(name, fields, visitor))
            }
            // A complex number is two floats, whatever the struct is.
            WireType::Complex if fields.len() == 2 => self.deserialize_any(visitor),
            _ => self.mismatch("a struct"),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        let at = self.at;
        let kind = self.kind();
        self.run.through(|run| variant::read(run, at, kind, visitor))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GobFault> {
        self.run.skip(self.at)?;
        visitor.visit_unit()
    }
}
