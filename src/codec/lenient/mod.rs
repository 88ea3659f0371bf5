//! The second reading of a JSON or MessagePack body, where its caller's protocol lets fields be left out or null.
//!
//! The first reading is strict and costs nothing extra; only a body that does not fit comes here. What is missing or null
//! becomes serde's default if the type names one, else the zero of its type (`zero.rs`). With protobuf's JSON mapping,
//! numbers may be text. What serde reads through a buffer of its own (untagged, internally tagged and flattened types)
//! is seen as a whole only: inside it nothing is filled in.
//!
//! Here is the loop of readings and what it learns; `wrap.rs` has the deserializer, `fields.rs` structs, `wanted.rs` what
//! becomes of null and of numbers as text.

mod fields;
mod wanted;
mod wrap;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Error, Visitor};

use super::needs::{RustType, needs, note_need};
use super::rules::ValueRules;
use super::zero::{NO_ZERO, UntypedZero, ZeroContext};
use super::{Codec, CodecError, DEPTH_MAX_DEFAULT, depth_max};
use wrap::LenientSeed;

/// Readings of one body that find nulls and learn nothing. One finds all of them, unless a null is in place of a type
/// without a zero, where the reading ends; a body full of those must not cost a reading for each.
const NULL_READINGS_MAX: usize = 8;

/// One reading of a body.
pub(super) struct Reading {
    codec: Codec,
    fills_zeros: bool,
    is_proto_json: bool,
    /// Members of structs that are passed over, by their number: their value is null, and the struct may do without.
    passed_over: HashSet<u32>,
    /// The same, found in this reading.
    nulls: RefCell<Vec<u32>>,
    /// Members of structs that were met.
    members: Cell<u32>,
    /// Fields that were handed in, and were too many: they had come under another name.
    refused: RefCell<Vec<(RustType, &'static str)>>,
    /// The next reading will know more.
    has_learnt: Cell<bool>,
    /// What went wrong lies further in than the struct that hears of it.
    is_explained: Cell<bool>,
    /// The path of the field without a zero.
    without_zero: RefCell<Option<String>>,
}

impl Reading {
    /// What an error of this reading is to the caller.
    pub(super) fn refusal(&self, what: &str) -> CodecError {
        if let Some(field) = &*self.without_zero.borrow() {
            return CodecError::MissingField { codec: self.codec, field: field.clone(), fills_zeros: true };
        }
        refusal(self.codec, what, self.fills_zeros)
    }

    /// What reads a whole body.
    pub(super) fn seed<'de, T: Deserialize<'de>>(&self) -> impl DeserializeSeed<'de, Value = T> {
        LenientSeed { seed: PhantomData::<T>, reading: self, member: None }
    }

    fn is_refused(&self, rust: RustType, name: &'static str) -> bool {
        self.refused.borrow().contains(&(rust, name))
    }

    /// A field without a zero, from the inside out.
    fn note_without_zero(&self, field: &str) {
        if !self.has_learnt.get() {
            let mut path = self.without_zero.borrow_mut();
            *path = Some(match path.take() {
                Some(inner) => format!("{field}.{inner}"),
                None => field.to_owned(),
            });
        }
    }

    /// A struct was not satisfied with the fields that it was given.
    fn learn(&self, rust: RustType, fields: &'static [&'static str], error: &impl fmt::Display) {
        if !self.fills_zeros || self.is_explained.replace(true) {
            return;
        }
        let text = error.to_string();
        let named = |start: &str| {
            let name = text.strip_prefix(start)?.split('`').next()?;
            fields.iter().copied().find(|field| *field == name)
        };
        if let Some(name) = named(MISSING) {
            if !self.is_refused(rust, name) && note_need(rust, name) {
                self.has_learnt.set(true);
            }
        } else if let Some(name) = named("duplicate field `")
            && needs(rust).is_some_and(|needs| needs.contains(&name))
            && !self.is_refused(rust, name)
        {
            self.refused.borrow_mut().push((rust, name));
            self.has_learnt.set(true);
        }
    }
}

/// How serde's derive begins what it says of a field that is missing.
const MISSING: &str = "missing field `";

/// What an error's text is to the caller: a missing field by its name, with the rule that made it an error.
pub(super) fn refusal(codec: Codec, what: &str, fills_zeros: bool) -> CodecError {
    match what.strip_prefix(MISSING).and_then(|rest| rest.split('`').next()) {
        Some(field) => CodecError::MissingField { codec, field: field.to_owned(), fills_zeros },
        None => CodecError::Malformed { codec, what: what.to_owned() },
    }
}

/// Whether a second reading could take what the first refused.
pub(super) fn can_help(rules: ValueRules, codec: Codec) -> bool {
    rules.fills_zeros(codec) || (rules.is_proto_json() && codec == Codec::Json)
}

/// Reads a body until nothing more is learnt of its types.
pub(super) fn read_again<T>(
    rules: ValueRules,
    codec: Codec,
    mut read: impl FnMut(&Reading) -> Result<T, CodecError>,
) -> Result<T, CodecError> {
    let mut reading = Reading {
        codec,
        fills_zeros: rules.fills_zeros(codec),
        is_proto_json: rules.is_proto_json() && codec == Codec::Json,
        passed_over: HashSet::new(),
        nulls: RefCell::default(),
        members: Cell::new(0),
        refused: RefCell::default(),
        has_learnt: Cell::new(false),
        is_explained: Cell::new(false),
        without_zero: RefCell::default(),
    };
    let mut null_readings = 0;
    loop {
        let result = read(&reading);
        let nulls = reading.nulls.take();
        let has_learnt = reading.has_learnt.get();
        if nulls.is_empty() && (result.is_ok() || !has_learnt) {
            return result;
        }
        // What is learnt of types is kept, so that ends by itself.
        null_readings += usize::from(!has_learnt);
        if null_readings > NULL_READINGS_MAX {
            return result;
        }
        reading.passed_over.extend(nulls);
        reading.members.set(0);
        reading.has_learnt.set(false);
        reading.is_explained.set(false);
        reading.without_zero.take();
    }
}

/// The zeros that are handed into a reading.
struct ReadingZeros<'p, E> {
    reading: &'p Reading,
    containers: usize,
    /// Containers and newtypes: a type may hold itself through newtypes alone.
    steps: usize,
    error: PhantomData<E>,
}

impl<'p, E> ReadingZeros<'p, E> {
    fn new(reading: &'p Reading) -> ReadingZeros<'p, E> {
        ReadingZeros { reading, containers: 0, steps: 0, error: PhantomData }
    }
}

impl<'de, E: Error> ZeroContext<'de> for ReadingZeros<'_, E> {
    type Error = E;
    // Both codecs that come here hand byte strings, and all else that differs, to whatever asks.
    const IS_HUMAN_READABLE: bool = true;
    const SPECIAL: &'static str = "";

    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, E>) -> Result<R, E> {
        self.containers += 1;
        if self.containers >= depth_max() {
            return Err(E::custom(NO_ZERO));
        }
        let value = self.through(read);
        self.containers -= 1;
        value
    }

    fn through<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, E>) -> Result<R, E> {
        self.steps += 1;
        if self.steps >= DEPTH_MAX_DEFAULT {
            return Err(E::custom(NO_ZERO));
        }
        let value = read(self);
        self.steps -= 1;
        value
    }

    fn missing_field(&mut self, error: &mut E, fields: &[&'static str]) -> Option<&'static str> {
        if self.reading.is_explained.replace(true) {
            return None;
        }
        let text = error.to_string();
        let name = text.strip_prefix(MISSING)?.split('`').next()?;
        fields.iter().copied().find(|field| *field == name)
    }

    fn set_learnt(&mut self) {
        self.reading.has_learnt.set(true);
    }

    fn without_zero(&mut self, field: &str, error: E) -> E {
        self.reading.is_explained.set(true);
        self.reading.note_without_zero(field);
        error
    }

    fn untyped(&self, _kind: Option<u32>) -> UntypedZero {
        UntypedZero::Unit
    }

    fn special<V: Visitor<'de>>(visitor: V) -> Result<V::Value, E> {
        visitor.visit_unit()
    }
}

#[cfg(all(test, feature = "json"))]
mod tests;
