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
pub(super) struct OwedReply {
    /// The method, which the answer names again.
    pub(super) method: MethodText,
    /// The peer's number.
    pub(super) seq: u64,
}

/// The answers that are owed on one connection. As many as requests may be in flight, and one that is refused.
#[derive(Debug)]
pub(super) struct OwedReplies {
    owed: Slab<(u32, OwedReply)>,
    /// Runs with each id, and may wrap: the place tells ids apart.
    turn: u32,
}

impl Default for OwedReplies {
    fn default() -> OwedReplies {
        // Who calls one after the other needs no more, and idles with it.
        OwedReplies { owed: Slab::with_capacity(1), turn: 0 }
    }
}

impl OwedReplies {
    /// Whether none is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Notes an answer that is owed; gives the id by which it comes.
    #[inline]
    pub(super) fn begin(&mut self, owed: OwedReply) -> u64 {
        self.turn = self.turn.wrapping_add(1);
        let place = self.owed.insert((self.turn, owed));
        u64::from(self.turn) << 32 | place as u64
    }

    /// The answer of that id is given.
    #[inline]
    pub(super) fn end(&mut self, id: u64) -> Option<OwedReply> {
        let (turn, place) = ((id >> 32) as u32, id as u32 as usize);
        if self.owed.get(place)?.0 != turn {
            return None;
        }
        let (_, owed) = self.owed.remove(place);
        if self.owed.is_empty() && self.owed.capacity() > KEPT {
            self.owed = Slab::new();
        }
        Some(owed)
    }
}
