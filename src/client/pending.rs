//! The calls of one connection that wait for their replies, found by the id that the reply brings.
//!
//! An id is a running number and the slot it lies in, so a lookup is an index and a compare, and a reply to a call that
//! is over (cancelled, late, or answered before) is told from one that never was.

use super::call_slot::Promise;

/// Bits of an id that name the slot.
const SLOT_BITS: u32 = 20;
/// Calls that fit one connection.
pub(super) const PENDING_MAX: usize = 1 << SLOT_BITS;

/// What became of the id in a reply.
pub(super) enum PendingLookup {
    /// The call, which waits no longer.
    Call(Promise),
    /// There was such a call; it is over.
    Late,
    /// There was none.
    Unknown,
}

#[derive(Default)]
pub(super) struct PendingCalls {
    slots: Vec<PendingSlot>,
    free: Vec<u32>,
    /// The number of the last call; the first has 1.
    last: u64,
    /// The most slots that there ever were.
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

    /// Bytes of the arguments.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the call in and gives its id. There are fewer than [`PENDING_MAX`].
    pub(super) fn insert(&mut self, promise: Promise) -> u64 {
        debug_assert!(self.len() < PENDING_MAX);
        self.last += 1;
        self.bytes += promise.body_bytes;
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        let id = self.last << SLOT_BITS | u64::from(slot);
        let entry = PendingSlot { id, promise: Some(promise) };
        match self.slots.get_mut(slot as usize) {
            Some(free) => *free = entry,
            None => self.slots.push(entry),
        }
        self.slots_max = self.slots_max.max(self.slots.len());
        id
    }

    pub(super) fn at_mut(&mut self, id: u64) -> Option<&mut Promise> {
        let slot = self.slots.get_mut(id as usize & (PENDING_MAX - 1))?;
        if slot.id == id { slot.promise.as_mut() } else { None }
    }

    /// Takes the call out.
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

    /// Takes out every call for which `is_over` says so, with its id.
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

    /// What a burst has left behind is given back.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Promise> {
        self.slots.iter().filter_map(|slot| slot.promise.as_ref())
    }
}
