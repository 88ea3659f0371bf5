//! The lenient second reading of a JSON or MessagePack body, for protocols that allow missing or null fields.
//!
//! The first reading is strict and costs nothing extra; only a body that it refuses is read here. A missing or null
//! value becomes serde's default if the type has one, else the zero of its type (`zero.rs`). With protobuf's JSON
//! mapping, numbers may be text. Content that serde reads through its own buffer (untagged, internally tagged and
//! flattened types) is visible only as a whole: nothing is filled in inside it.
//!
//! This file holds the loop of readings and what it learns; `wrap.rs` the deserializer, `fields.rs` structs,
//! `wanted.rs` the handling of null and of numbers as text.

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

/// The maximum number of readings of one body that find nulls and learn nothing. One reading finds all nulls, unless
/// a null replaces a type without a zero, where the reading ends; a body full of those must not cost one reading
/// each.
const NULL_READINGS_MAX: usize = 8;

/// One reading of a body.
pub(super) struct Reading {
    codec: Codec,
    fills_zeros: bool,
    is_proto_json: bool,
    /// The numbers of the struct members to skip: their value is null, and the struct does not require them.
    passed_over: HashSet<u32>,
    /// Members to skip that this reading found.
    nulls: RefCell<Vec<u32>>,
    /// The number of struct members read so far.
    members: Cell<u32>,
    /// Fields that were filled with a zero although the body had them under another name (duplicates).
    refused: RefCell<Vec<(RustType, &'static str)>>,
    /// Whether the next reading will know more.
    has_learnt: Cell<bool>,
    /// Whether the cause of the current error is inside a member, not in the struct that receives the error.
    is_explained: Cell<bool>,
    /// The path of the field without a zero.
    without_zero: RefCell<Option<String>>,
}

impl Reading {
    /// Converts an error of this reading to an error for the caller.
    pub(super) fn refusal(&self, what: &str) -> CodecError {
        if let Some(field) = &*self.without_zero.borrow() {
            return CodecError::MissingField { codec: self.codec, field: field.clone(), fills_zeros: true };
        }
        refusal(self.codec, what, self.fills_zeros)
    }

    /// Returns the seed that reads a whole body.
    pub(super) fn seed<'de, T: Deserialize<'de>>(&self) -> impl DeserializeSeed<'de, Value = T> {
        LenientSeed { seed: PhantomData::<T>, reading: self, member: None }
    }

    fn is_refused(&self, rust: RustType, name: &'static str) -> bool {
        self.refused.borrow().contains(&(rust, name))
    }

    /// Records a field without a zero, innermost first.
    fn note_without_zero(&self, field: &str) {
        if !self.has_learnt.get() {
            let mut path = self.without_zero.borrow_mut();
            *path = Some(match path.take() {
                Some(inner) => format!("{field}.{inner}"),
                None => field.to_owned(),
            });
        }
    }

    /// Learns from the error of a struct: a required field is missing, or a field is a duplicate.
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

/// The start of the error message that serde's derive reports for a missing field.
const MISSING: &str = "missing field `";

/// Converts the text of an error to an error for the caller: a missing field is reported by name, with the rule that
/// made it an error.
pub(super) fn refusal(codec: Codec, what: &str, fills_zeros: bool) -> CodecError {
    match what.strip_prefix(MISSING).and_then(|rest| rest.split('`').next()) {
        Some(field) => CodecError::MissingField { codec, field: field.to_owned(), fills_zeros },
        None => CodecError::Malformed { codec, what: what.to_owned() },
    }
}

/// Returns whether a second reading could accept what the first refused.
pub(super) fn can_help(rules: ValueRules, codec: Codec) -> bool {
    rules.fills_zeros(codec) || (rules.is_proto_json() && codec == Codec::Json)
}

/// Reads a body until nothing more is learned about its types.
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
        // Readings that learn end by themselves, since what is learned about types is kept.
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

/// Inserts zeros into a reading.
struct ReadingZeros<'p, E> {
    reading: &'p Reading,
    containers: usize,
    /// Containers and newtypes: a type may contain itself through newtypes alone.
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
    // JSON and MessagePack describe themselves: byte strings, and all else that differs, match any kind of request.
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
