//! The calls of one connection that wait for their replies, found by the id in the reply.
//!
//! An id consists of a running number and the index of its slot, so a lookup is an index and a compare. A reply to a
//! call that is over (cancelled, late, or answered before) is distinguished from a reply to a call that never
//! existed.

use super::call_slot::Promise;

/// Bits of an id that hold the slot's index.
const SLOT_BITS: u32 = 20;
/// The most calls in flight on one connection.
pub(super) const PENDING_MAX: usize = 1 << SLOT_BITS;

/// The result of looking up a reply's id.
pub(super) enum PendingLookup {
    /// The call, which is removed.
    Call(Promise),
    /// The call is over.
    Late,
    /// There was no such call.
    Unknown,
}

#[derive(Default)]
pub(super) struct PendingCalls {
    slots: Vec<PendingSlot>,
    free: Vec<u32>,
    /// The number of the last call; the first has 1.
    last: u64,
    /// The most slots there have been.
    slots_max: usize,
    bytes: usize,
}

struct PendingSlot {
    id: u64,
    promise: Option<Promise>,
}

impl PendingCalls {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the total size of the arguments in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the id of the next call.
    pub(super) fn next_id(&self) -> u64 {
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        (self.last + 1) << SLOT_BITS | u64::from(slot)
    }

    /// Adds the call, with the id of [`PendingCalls::next_id`]. There must be fewer than [`PENDING_MAX`] calls.
    pub(super) fn insert(&mut self, promise: Promise) {
        debug_assert!(self.len() < PENDING_MAX);
        let entry = PendingSlot { id: self.next_id(), promise: Some(promise) };
        self.last += 1;
        self.bytes += entry.promise.as_ref().map_or(0, |promise| promise.body_bytes);
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize] = entry,
            None => {
                self.slots.push(entry);
                self.slots_max = self.slots_max.max(self.slots.len());
            }
        }
    }

    pub(super) fn at_mut(&mut self, id: u64) -> Option<&mut Promise> {
        let slot = self.slots.get_mut(id as usize & (PENDING_MAX - 1))?;
        if slot.id == id { slot.promise.as_mut() } else { None }
    }

    /// Removes the call and returns it.
    pub(super) fn take(&mut self, id: u64) -> PendingLookup {
        let index = id as usize & (PENDING_MAX - 1);
        if let Some(slot) = self.slots.get_mut(index)
            && slot.id == id
            && let Some(promise) = slot.promise.take()
        {
            self.free.push(index as u32);
            self.bytes -= promise.body_bytes;
            return PendingLookup::Call(promise);
        }
        let number = id >> SLOT_BITS;
        if number >= 1 && number <= self.last && index < self.slots_max {
            PendingLookup::Late
        } else {
            PendingLookup::Unknown
        }
    }

    /// Removes every call for which `is_over` returns true, and appends it with its id.
    pub(super) fn take_if(
        &mut self,
        mut is_over: impl FnMut(&Promise) -> bool,
        out: &mut Vec<(u64, Promise)>,
    ) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(promise) = slot.promise.take_if(|promise| is_over(promise)) {
                self.free.push(index as u32);
                self.bytes -= promise.body_bytes;
                out.push((slot.id, promise));
            }
        }
    }

    /// Frees the memory that a burst has left, if no call waits.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Promise> {
        self.slots.iter().filter_map(|slot| slot.promise.as_ref())
    }
}
