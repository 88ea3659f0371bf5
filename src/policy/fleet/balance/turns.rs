//! Weighted round robin: the endpoint with the earliest turn, at a cost that grows with the logarithm of their
//! number.
//!
//! Each endpoint has a turn in a virtual time; after it, its next turn is later by the inverse of its weight (earliest
//! deadline first, as in Envoy's weighted round robin).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The virtual time between two turns of an endpoint of weight 1.
const STEP: u64 = 1 << 20;

/// The turns of the endpoints of a list.
#[derive(Clone, Debug, Default)]
pub(in crate::policy::fleet) struct Turns {
    heap: BinaryHeap<Reverse<(u64, u16)>>,
    /// The turn of the last endpoint: the others have theirs at the same time or later.
    now: u64,
    /// Endpoints that were passed over in one choice.
    passed: Vec<Reverse<(u64, u16)>>,
}

impl Turns {
    /// Removes all, and returns the virtual time.
    pub fn clear(&mut self) -> u64 {
        self.heap.clear();
        std::mem::take(&mut self.now)
    }

    /// Adds an endpoint with a turn this long after now.
    pub fn push(&mut self, slot: u16, wait: u64) {
        self.heap.push(Reverse((self.now.saturating_add(wait), slot)));
    }

    /// Returns the time between two turns of an endpoint of this weight, which may be a fraction.
    pub fn step(weight: f32) -> u64 {
        ((STEP as f32 / weight) as u64).max(1)
    }

    /// Takes the permitted endpoint with the earliest turn, if there is one, and gives it its next turn.
    pub fn take(&mut self, is_permitted: impl Fn(u16) -> bool, weight: impl Fn(u16) -> f32) -> Option<u16> {
        let mut taken = None;
        while let Some(entry) = self.heap.pop() {
            let Reverse((turn, slot)) = entry;
            if is_permitted(slot) {
                // One that was passed over before may have an earlier turn than the others.
                self.now = self.now.max(turn);
                self.heap.push(Reverse((self.now.saturating_add(Turns::step(weight(slot))), slot)));
                taken = Some(slot);
                break;
            }
            self.passed.push(entry);
        }
        self.heap.extend(self.passed.drain(..));
        taken
    }

    /// Returns how long after now each endpoint has its turn.
    pub fn waits(&self) -> impl Iterator<Item = (u16, u64)> {
        self.heap.iter().map(|Reverse((turn, slot))| (*slot, turn.saturating_sub(self.now)))
    }
}
