//! The calls whose answers are owed: the name and the number by which the peer knows them.
//!
//! The numbers are the peer's, and need not differ; the ids that go up run, with the place in this table in their
//! lower half, so that an answer finds its place without a search.

use slab::Slab;

use super::methods::MethodText;

/// Places that a connection without calls keeps: enough for the usual pipeline, little for one that idles.
const KEPT: usize = 16;

/// An answer that is owed.
#[derive(Debug)]
pub(super) struct OutstandingCall {
    /// The method, which the answer names again.
    pub(super) method: MethodText,
    /// The peer's number.
    pub(super) seq: u64,
}

/// The answers that are owed on one connection. As many as requests may be in flight, and one that is refused.
#[derive(Debug)]
pub(super) struct OutstandingCalls {
    outstanding: Slab<(u32, OutstandingCall)>,
    /// Runs with each id, and may wrap: the place tells ids apart.
    turn: u32,
}

impl Default for OutstandingCalls {
    fn default() -> OutstandingCalls {
        // Who calls one after the other needs no more, and idles with it.
        OutstandingCalls { outstanding: Slab::with_capacity(1), turn: 0 }
    }
}

impl OutstandingCalls {
    /// Whether none is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Notes an answer that is owed; gives the id by which it comes.
    #[inline]
    pub(super) fn begin(&mut self, outstanding: OutstandingCall) -> u64 {
        self.turn = self.turn.wrapping_add(1);
        let place = self.outstanding.insert((self.turn, outstanding));
        u64::from(self.turn) << 32 | place as u64
    }

    /// The answer of that id is given.
    #[inline]
    pub(super) fn end(&mut self, id: u64) -> Option<OutstandingCall> {
        let (turn, place) = ((id >> 32) as u32, id as u32 as usize);
        if self.outstanding.get(place)?.0 != turn {
            return None;
        }
        let (_, outstanding) = self.outstanding.remove(place);
        if self.outstanding.is_empty() && self.outstanding.capacity() > KEPT {
            self.outstanding = Slab::new();
        }
        Some(outstanding)
    }
}
