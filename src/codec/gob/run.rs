//! The reading of one body: its position, and its remaining budgets.
//!
//! Depth is limited to protect the stack, reservations are limited by the bytes of the body. Values are read in
//! `decode.rs`.

use super::fault::GobFault;
use super::number::GobReader;
use super::plan::Plan;
use super::skip::skip;
use super::wire::{TypeIndex, TypeTable};
use crate::codec::{Codec, DEPTH_MAX_DEFAULT, ValueRules, depth_max};

/// The limit for containers, options and newtypes around one place. Options and newtypes take no bytes, so a type
/// that contains itself only through them would recurse without end.
const STEPS_MAX: usize = 4 * DEPTH_MAX_DEFAULT;

/// The reading of one body.
pub(super) struct DecodeRun<'de, 't> {
    pub(super) reader: GobReader<'de>,
    pub(super) plan: &'t Plan,
    /// The number of containers around the current place: below `depth_max`.
    depth: usize,
    depth_max: usize,
    /// The number of containers, options and newtypes around it: below STEPS_MAX.
    steps: usize,
    /// The number of elements that hints may still reserve: all hints together never exceed the bytes of the body.
    reserve_left: usize,
    /// Whether Rust fields that the sender's type lacks are zero; otherwise they are an error.
    pub(super) fills_absent: bool,
    /// Whether a second reading will know more.
    pub(super) learnt: bool,
    pub(super) too_deep: bool,
}

impl<'de, 't> DecodeRun<'de, 't> {
    pub(super) fn new(reader: GobReader<'de>, plan: &'t Plan) -> DecodeRun<'de, 't> {
        DecodeRun {
            reader,
            plan,
            depth: 0,
            depth_max: depth_max(),
            steps: 0,
            reserve_left: reader.left().len() + reader.after().len(),
            fills_absent: ValueRules::current().fills_zeros(Codec::Gob),
            learnt: false,
            too_deep: false,
        }
    }

    pub(super) fn table(&self) -> &'t TypeTable {
        self.plan.table()
    }

    /// Returns whether the current place is the value of the body or directly inside it.
    pub(super) fn is_in_value(&self) -> bool {
        self.depth <= 1
    }

    /// Reads the content of a container.
    #[inline]
    pub(super) fn inside<R>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<R, GobFault>,
    ) -> Result<R, GobFault> {
        self.depth += 1;
        if self.depth >= self.depth_max {
            return Err(self.refuse_depth());
        }
        let value = self.through(read);
        self.depth -= 1;
        value
    }

    /// Reads the content of an option or a newtype.
    #[inline]
    pub(super) fn through<R>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<R, GobFault>,
    ) -> Result<R, GobFault> {
        self.steps += 1;
        if self.steps >= STEPS_MAX {
            return Err(self.refuse_depth());
        }
        let value = read(self);
        self.steps -= 1;
        value
    }

    #[cold]
    fn refuse_depth(&mut self) -> GobFault {
        self.too_deep = true;
        GobFault::TooDeep
    }

    /// Reduces a count to a hint that the bytes of the body can hold.
    pub(super) fn reserve(&mut self, count: usize) -> usize {
        let granted = count.min(self.reserve_left);
        self.reserve_left -= granted;
        granted
    }

    pub(super) fn skip(&mut self, at: TypeIndex) -> Result<(), GobFault> {
        let depth_left = self.depth_max - self.depth;
        let mut table = self.table();
        let skipped = skip(&mut self.reader, &mut table, at, depth_left);
        if skipped == Err(GobFault::TooDeep) {
            self.too_deep = true;
        }
        skipped
    }
}
