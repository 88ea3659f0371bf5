//! The outstanding calls of a connection, with the peer's name and sequence number for each.
//!
//! The peer's numbers may be equal. The ids of messages are running numbers, with the slot in this table in their
//! lower half, so that an answer finds its slot without a search.

use slab::Slab;

use super::methods::MethodText;

/// Slots that a connection without calls keeps: enough for a usual pipeline, and little for an idle connection.
const KEPT: usize = 16;

/// An outstanding answer.
#[derive(Debug)]
pub(super) struct OutstandingCall {
    /// The method, which the answer repeats.
    pub(super) method: MethodText,
    /// The peer's sequence number.
    pub(super) seq: u64,
}

/// The outstanding answers of one connection: at most one per request in flight, and one of a refusal.
#[derive(Debug)]
pub(super) struct OutstandingCalls {
    outstanding: Slab<(u32, OutstandingCall)>,
    /// Counts ids, and may wrap: the slot keeps ids distinct.
    turn: u32,
}

impl Default for OutstandingCalls {
    fn default() -> OutstandingCalls {
        // A peer with one call at a time needs no more, and keeps one slot while idle.
        OutstandingCalls { outstanding: Slab::with_capacity(1), turn: 0 }
    }
}

impl OutstandingCalls {
    /// Whether no answer is outstanding.
    pub(super) fn is_empty(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Adds an outstanding answer, and returns its id.
    #[inline]
    pub(super) fn begin(&mut self, outstanding: OutstandingCall) -> u64 {
        self.turn = self.turn.wrapping_add(1);
        let place = self.outstanding.insert((self.turn, outstanding));
        u64::from(self.turn) << 32 | place as u64
    }

    /// Removes the answer with this id.
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
