//! The fields of a struct: by name for Rust structs and maps, by position for tuples.
//!
//! The sender leaves out zeros, so each absent field of the sender's type is passed on as a zero. Fields that the
//! sender's type lacks are left to serde's defaults, until the Rust type reports one as missing: from then on that
//! field is passed on as a zero (see `Plan::learns_from`).

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::decode::ValueDecoder;
use super::fault::GobFault;
use super::number::FieldDeltas;
use super::plan::StructMatch;
use super::run::DecodeRun;
use super::wire::TypeIndex;
use super::zero::Zero;
use crate::codec::zero::ZeroContext as _;

/// The names and types of the fields on the wire.
pub(super) type WireFields = [(Box<str>, TypeIndex)];

/// The next field in the body.
#[derive(Clone, Copy, PartialEq)]
enum NextField {
    /// Its number has not been read.
    Unread,
    Field(usize),
    End,
}

/// The source of the value for the last key.
enum FieldSource {
    Present(TypeIndex),
    /// A zero, of this type on the wire.
    Zero(TypeIndex),
    /// The zero of a field of the Rust type that the type on the wire lacks.
    Absent(&'static str),
}

/// Walks through the fields in the order of their numbers.
struct FieldWalk<'t> {
    wire: &'t WireFields,
    deltas: FieldDeltas,
    coming: NextField,
    /// The smallest number not returned yet: never above that of the next field in the body.
    next: usize,
}

impl<'t> FieldWalk<'t> {
    fn new(wire: &'t WireFields) -> FieldWalk<'t> {
        FieldWalk { wire, deltas: FieldDeltas::new(), coming: NextField::Unread, next: 0 }
    }

    /// Returns the next field of the type, and whether the body has it.
    #[inline]
    fn step(&mut self, run: &mut DecodeRun<'_, '_>) -> Result<Option<(usize, bool)>, GobFault> {
        if self.coming == NextField::Unread {
            self.coming = match self.deltas.next(&mut run.reader, self.wire.len())? {
                Some(field) => NextField::Field(field),
                None => NextField::End,
            };
        }
        let field = self.next;
        let is_present = self.coming == NextField::Field(field);
        if field == self.wire.len() {
            return Ok(None);
        }
        if is_present {
            self.coming = NextField::Unread;
        }
        self.next += 1;
        Ok(Some((field, is_present)))
    }

    /// Checks that all fields of the body were read.
    fn end(&mut self, run: &mut DecodeRun<'_, '_>) -> Result<(), GobFault> {
        match self.coming {
            NextField::End => Ok(()),
            NextField::Unread if self.deltas.next(&mut run.reader, self.wire.len())?.is_none() => Ok(()),
            _ => Err(GobFault::text("not all fields of a struct were read")),
        }
    }
}

/// Fields by name.
pub(super) struct NamedFields<'r, 'de, 't, 'p> {
    run: &'r mut DecodeRun<'de, 't>,
    walk: FieldWalk<'t>,
    /// The mapping to a Rust struct; without it all fields are passed on.
    pair: Option<&'p StructMatch>,
    absent_next: usize,
    value: Option<FieldSource>,
}

impl<'de, 't> NamedFields<'_, 'de, 't, '_> {
    /// Reads all fields, for a type that requests a map.
    pub(super) fn named<V: Visitor<'de>>(
        run: &mut DecodeRun<'de, 't>,
        wire: &'t WireFields,
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        let mut fields =
            NamedFields { run, walk: FieldWalk::new(wire), pair: None, absent_next: 0, value: None };
        let value = visitor.visit_map(&mut fields)?;
        fields.walk.end(fields.run)?;
        Ok(value)
    }

    /// Reads the fields that a Rust struct has.
    pub(super) fn of_struct<V: Visitor<'de>>(
        run: &mut DecodeRun<'de, 't>,
        at: TypeIndex,
        wire: &'t WireFields,
        (name, names): (&'static str, &'static [&'static str]),
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        let pair = run.plan.pair::<V::Value>(at, names);
        // Go checks this for whole values only (encoding/gob decode.go, decodeValue); the text of the error is Go's.
        if pair.is_disjoint && run.is_in_value() {
            return Err(GobFault::said(format_args!(
                "type mismatch: no fields matched compiling decoder for {name}"
            )));
        }
        let walk = FieldWalk::new(wire);
        let mut fields = NamedFields { run, walk, pair: Some(&pair), absent_next: 0, value: None };
        match visitor.visit_map(&mut fields) {
            Ok(value) => {
                fields.walk.end(fields.run)?;
                Ok(value)
            }
            Err(GobFault::MissingField(name)) if !fields.run.fills_absent => Err(GobFault::Absent(name)),
            Err(fault @ (GobFault::MissingField(_) | GobFault::DuplicateField(_))) => {
                let run = fields.run;
                run.learnt |= run.plan.learns_from(&fault, at, &pair, names);
                // The error is about this struct and must not be attributed to an enclosing one.
                Err(GobFault::said(fault))
            }
            Err(fault) => Err(fault),
        }
    }
}

impl<'de> MapAccess<'de> for &mut NamedFields<'_, 'de, '_, '_> {
    type Error = GobFault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, GobFault> {
        while let Some((field, is_present)) = self.walk.step(self.run)? {
            let (wire_name, at) = &self.walk.wire[field];
            let known = self.pair.and_then(|pair| pair.names[field]);
            if !is_present && known.is_none() && self.pair.is_some() {
                continue;
            }
            self.value = Some(if is_present { FieldSource::Present(*at) } else { FieldSource::Zero(*at) });
            return match known {
                Some(name) => seed.deserialize(BorrowedStrDeserializer::<GobFault>::new(name)),
                // An unknown name: the type ignores, accepts or refuses it.
                None => {
                    let name: StrDeserializer<'_, GobFault> = (**wire_name).into_deserializer();
                    seed.deserialize(name)
                }
            }
            .map(Some);
        }
        let pair = self.pair.filter(|_| self.run.fills_absent);
        let Some(name) = pair.and_then(|pair| pair.absent.get(self.absent_next)) else {
            return Ok(None);
        };
        self.absent_next += 1;
        self.value = Some(FieldSource::Absent(name));
        seed.deserialize(BorrowedStrDeserializer::<GobFault>::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, GobFault> {
        match self.value.take() {
            Some(FieldSource::Present(at)) => seed.deserialize(ValueDecoder { run: self.run, at }),
            Some(FieldSource::Zero(at)) => seed.deserialize(Zero { run: self.run, kind: Some(at) }),
            Some(FieldSource::Absent(name)) => seed
                .deserialize(Zero { run: &mut *self.run, kind: None })
                .map_err(|fault| self.run.without_zero(name, fault)),
            None => Err(GobFault::text("a value was asked for before its key")),
        }
    }
}

/// Fields by position, for tuples; names are ignored.
pub(super) struct PositionalFields<'r, 'de, 't> {
    run: &'r mut DecodeRun<'de, 't>,
    walk: FieldWalk<'t>,
    left: usize,
}

impl<'de, 't> PositionalFields<'_, 'de, 't> {
    pub(super) fn read<V: Visitor<'de>>(
        run: &mut DecodeRun<'de, 't>,
        wire: &'t WireFields,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        let mut positions = PositionalFields { run, walk: FieldWalk::new(wire), left: len };
        let value = visitor.visit_seq(&mut positions)?;
        positions.walk.end(positions.run)?;
        Ok(value)
    }
}

impl<'de> SeqAccess<'de> for &mut PositionalFields<'_, 'de, '_> {
    type Error = GobFault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, GobFault> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        match self.walk.step(self.run)? {
            Some((field, true)) => {
                seed.deserialize(ValueDecoder { run: self.run, at: self.walk.wire[field].1 }).map(Some)
            }
            Some((field, false)) => {
                let kind = Some(self.walk.wire[field].1);
                seed.deserialize(Zero { run: self.run, kind }).map(Some)
            }
            None => seed.deserialize(Zero { run: self.run, kind: None }).map(Some),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}
