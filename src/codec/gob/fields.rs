//! The fields of a struct: by name for structs and maps of Rust's, by position for tuples.
//!
//! The sender leaves out what is zero, so each of its type's fields that did not come is handed in as a zero. Fields
//! that its type has not are left to serde's defaults, until the type of Rust's says that it cannot do without: then
//! they are handed in as zeros from there on (see `Plan::learns_from`).

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

/// Name and type of the fields on the wire.
pub(super) type WireFields = [(Box<str>, TypeIndex)];

/// The field that comes next in the body.
#[derive(Clone, Copy, PartialEq)]
enum NextField {
    /// Its number has not been read.
    Unread,
    Field(usize),
    End,
}

/// The value of the key that was given last.
enum FieldSource {
    Present(TypeIndex),
    /// A zero, of this type on the wire.
    Zero(TypeIndex),
    /// The zero of a field of Rust's that the wire has not.
    Absent(&'static str),
}

/// Which fields come, in the order of their numbers.
struct FieldWalk<'t> {
    wire: &'t WireFields,
    deltas: FieldDeltas,
    coming: NextField,
    /// The least number that was not handed out: never above that of the field that comes.
    next: usize,
}

impl<'t> FieldWalk<'t> {
    fn new(wire: &'t WireFields) -> FieldWalk<'t> {
        FieldWalk { wire, deltas: FieldDeltas::new(), coming: NextField::Unread, next: 0 }
    }

    /// The next field of the type, and whether the body has it.
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

    /// Whoever was given the fields must have taken them all.
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
    /// How they go with a struct of Rust's; without one all are handed in.
    pair: Option<&'p StructMatch>,
    absent_next: usize,
    value: Option<FieldSource>,
}

impl<'de, 't> NamedFields<'_, 'de, 't, '_> {
    /// All of them, for whoever asks for a map.
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

    /// Those that a struct of Rust's has.
    pub(super) fn of_struct<V: Visitor<'de>>(
        run: &mut DecodeRun<'de, 't>,
        at: TypeIndex,
        wire: &'t WireFields,
        (name, names): (&'static str, &'static [&'static str]),
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        let pair = run.plan.pair::<V::Value>(at, names);
        // Go looks at this for whole values alone (encoding/gob decode.go, decodeValue), and so says it.
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
                // It is about this struct, and must not be taken for one about a struct around it.
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
                // Not a field as far as we know; the type passes over it, or takes or refuses it.
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

/// Fields by position: a tuple's, whatever they are called.
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
