//! The fields of a struct: by name for structs and maps of Rust's, by position for tuples.
//!
//! The sender leaves out what is zero, so each of its type's fields that did not come is handed in as a zero. Fields
//! that its type has not are left to serde's defaults, until the type of Rust's says that it cannot do without: then
//! they are handed in as zeros from there on (see `Plan::learns_from`).

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::decode::Place;
use super::fault::Fault;
use super::number::Deltas;
use super::plan::Pair;
use super::run::Run;
use super::wire::At;
use super::zero::Zero;
use crate::codec::zero::ZeroContext as _;

/// Name and type of the fields on the wire.
pub(super) type WireFields = [(Box<str>, At)];

/// The field that comes next in the body.
#[derive(Clone, Copy, PartialEq)]
enum Coming {
    /// Its number has not been read.
    Unread,
    Field(usize),
    End,
}

/// The value of the key that was given last.
enum Value {
    Present(At),
    /// A zero, of this type on the wire.
    Zero(At),
    /// The zero of a field of Rust's that the wire has not.
    Absent(&'static str),
}

/// Which fields come, in the order of their numbers.
struct Walk<'t> {
    wire: &'t WireFields,
    deltas: Deltas,
    coming: Coming,
    /// The least number that was not handed out: never above that of the field that comes.
    next: usize,
}

impl<'t> Walk<'t> {
    fn new(wire: &'t WireFields) -> Walk<'t> {
        Walk { wire, deltas: Deltas::new(), coming: Coming::Unread, next: 0 }
    }

    /// The next field of the type, and whether the body has it.
    #[inline]
    fn step(&mut self, run: &mut Run<'_, '_>) -> Result<Option<(usize, bool)>, Fault> {
        if self.coming == Coming::Unread {
            self.coming = match self.deltas.next(&mut run.reader, self.wire.len())? {
                Some(field) => Coming::Field(field),
                None => Coming::End,
            };
        }
        let field = self.next;
        let is_present = self.coming == Coming::Field(field);
        if field == self.wire.len() {
            return Ok(None);
        }
        if is_present {
            self.coming = Coming::Unread;
        }
        self.next += 1;
        Ok(Some((field, is_present)))
    }

    /// Whoever was given the fields must have taken them all.
    fn end(&mut self, run: &mut Run<'_, '_>) -> Result<(), Fault> {
        match self.coming {
            Coming::End => Ok(()),
            Coming::Unread if self.deltas.next(&mut run.reader, self.wire.len())?.is_none() => Ok(()),
            _ => Err(Fault::text("not all fields of a struct were read")),
        }
    }
}

/// Fields by name.
pub(super) struct Fields<'r, 'de, 't, 'p> {
    run: &'r mut Run<'de, 't>,
    walk: Walk<'t>,
    /// How they go with a struct of Rust's; without one all are handed in.
    pair: Option<&'p Pair>,
    absent_next: usize,
    value: Option<Value>,
}

impl<'de, 't> Fields<'_, 'de, 't, '_> {
    /// All of them, for whoever asks for a map.
    pub(super) fn named<V: Visitor<'de>>(
        run: &mut Run<'de, 't>,
        wire: &'t WireFields,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut fields = Fields { run, walk: Walk::new(wire), pair: None, absent_next: 0, value: None };
        let value = visitor.visit_map(&mut fields)?;
        fields.walk.end(fields.run)?;
        Ok(value)
    }

    /// Those that a struct of Rust's has.
    pub(super) fn of_struct<V: Visitor<'de>>(
        run: &mut Run<'de, 't>,
        at: At,
        wire: &'t WireFields,
        (name, names): (&'static str, &'static [&'static str]),
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let pair = run.plan.pair::<V::Value>(at, names);
        // Go looks at this for whole values alone (encoding/gob decode.go, decodeValue), and so says it.
        if pair.is_disjoint && run.is_in_value() {
            return Err(Fault::said(format_args!(
                "type mismatch: no fields matched compiling decoder for {name}"
            )));
        }
        let walk = Walk::new(wire);
        let mut fields = Fields { run, walk, pair: Some(&pair), absent_next: 0, value: None };
        match visitor.visit_map(&mut fields) {
            Ok(value) => {
                fields.walk.end(fields.run)?;
                Ok(value)
            }
            Err(Fault::MissingField(name)) if !fields.run.fills_absent => Err(Fault::Absent(name)),
            Err(fault @ (Fault::MissingField(_) | Fault::DuplicateField(_))) => {
                let run = fields.run;
                run.learnt |= run.plan.learns_from(&fault, at, &pair, names);
                // It is about this struct, and must not be taken for one about a struct around it.
                Err(Fault::said(fault))
            }
            Err(fault) => Err(fault),
        }
    }
}

impl<'de> MapAccess<'de> for &mut Fields<'_, 'de, '_, '_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        while let Some((field, is_present)) = self.walk.step(self.run)? {
            let (wire_name, at) = &self.walk.wire[field];
            let known = self.pair.and_then(|pair| pair.names[field]);
            if !is_present && known.is_none() && self.pair.is_some() {
                continue;
            }
            self.value = Some(if is_present { Value::Present(*at) } else { Value::Zero(*at) });
            return match known {
                Some(name) => seed.deserialize(BorrowedStrDeserializer::<Fault>::new(name)),
                // Not a field as far as we know; the type passes over it, or takes or refuses it.
                None => {
                    let name: StrDeserializer<'_, Fault> = (**wire_name).into_deserializer();
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
        self.value = Some(Value::Absent(name));
        seed.deserialize(BorrowedStrDeserializer::<Fault>::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        match self.value.take() {
            Some(Value::Present(at)) => seed.deserialize(Place { run: self.run, at }),
            Some(Value::Zero(at)) => seed.deserialize(Zero { run: self.run, kind: Some(at) }),
            Some(Value::Absent(name)) => seed
                .deserialize(Zero { run: &mut *self.run, kind: None })
                .map_err(|fault| self.run.without_zero(name, fault)),
            None => Err(Fault::text("a value was asked for before its key")),
        }
    }
}

/// Fields by position: a tuple's, whatever they are called.
pub(super) struct Positions<'r, 'de, 't> {
    run: &'r mut Run<'de, 't>,
    walk: Walk<'t>,
    left: usize,
}

impl<'de, 't> Positions<'_, 'de, 't> {
    pub(super) fn read<V: Visitor<'de>>(
        run: &mut Run<'de, 't>,
        wire: &'t WireFields,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut positions = Positions { run, walk: Walk::new(wire), left: len };
        let value = visitor.visit_seq(&mut positions)?;
        positions.walk.end(positions.run)?;
        Ok(value)
    }
}

impl<'de> SeqAccess<'de> for &mut Positions<'_, 'de, '_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        match self.walk.step(self.run)? {
            Some((field, true)) => {
                seed.deserialize(Place { run: self.run, at: self.walk.wire[field].1 }).map(Some)
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
