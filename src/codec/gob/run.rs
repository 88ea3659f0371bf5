//! The reading of one body: where it stands, and what it may still cost.
//!
//! Depth is bounded for the sake of the stack, reservations by the bytes of the body. What is read is in `decode.rs`.

use super::fault::GobFault;
use super::number::GobReader;
use super::plan::Plan;
use super::skip::skip;
use super::wire::{TypeIndex, TypeTable};
use crate::codec::{Codec, DEPTH_MAX_DEFAULT, ValueRules, depth_max};

/// Containers, options and newtypes around one place: the last two take no bytes, so that a type which holds itself
/// through them alone would recurse for ever.
const STEPS_MAX: usize = 4 * DEPTH_MAX_DEFAULT;

/// The reading of one body.
pub(super) struct DecodeRun<'de, 't> {
    pub(super) reader: GobReader<'de>,
    pub(super) plan: &'t Plan,
    /// Containers around the place that is being read: below `depth_max`.
    depth: usize,
    depth_max: usize,
    /// Containers, options and newtypes around it: below STEPS_MAX.
    steps: usize,
    /// Elements that hints may still have reserved: all together never exceed the bytes of the body.
    reserve_left: usize,
    /// Fields of Rust's that the sender's type does not have are zero; otherwise they are an error.
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

    /// What is being read is the body's value or directly in it, and not deeper.
    pub(super) fn is_in_value(&self) -> bool {
        self.depth <= 1
    }

    /// Reads what is in a container.
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

    /// Reads what is in an option or a newtype.
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

    /// A count as a hint, cut down to what the bytes of the body could hold.
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
