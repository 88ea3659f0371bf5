//! The calls whose answers are owed: what the peer called them, and in which form it wants to hear of them.
//!
//! The peer's ids are any text and need not differ; those that go up are numbers that run, with the place in this
//! table in their lower half, so that an answer finds its place without a search.

/// How the peer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// JSON-RPC 1.0, as Go has it.
    One,
    /// JSON-RPC 2.0.
    Two,
}

/// The longest id that is shorter as it is than in a box of its own.
const INLINE_MAX: usize = 22;

/// The source text of a peer's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerId {
    /// Most are small numbers.
    Small {
        /// Bytes that count.
        len: u8,
        /// The text, from the start.
        text: [u8; INLINE_MAX],
    },
    /// A long one.
    Large(Box<[u8]>),
}

impl PeerId {
    /// What stands for an id that is missing or cannot be told.
    pub(super) const NULL: PeerId = {
        let mut text = [0; INLINE_MAX];
        (text[0], text[1], text[2], text[3]) = (b'n', b'u', b'l', b'l');
        PeerId::Small { len: 4, text }
    };

    /// A copy of the text.
    #[inline]
    pub(super) fn new(source: &[u8]) -> PeerId {
        if source.len() > INLINE_MAX {
            return PeerId::Large(source.into());
        }
        let mut text = [0; INLINE_MAX];
        text[..source.len()].copy_from_slice(source);
        PeerId::Small { len: source.len() as u8, text }
    }

    /// The text.
    #[inline]
    pub(super) fn text(&self) -> &[u8] {
        match self {
            PeerId::Small { len, text } => &text[..*len as usize],
            PeerId::Large(text) => text,
        }
    }
}

/// An answer that is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutstandingReply {
    /// What the peer calls it.
    pub(super) id: PeerId,
    /// How the peer writes.
    pub(super) dialect: Dialect,
    /// The error's number in 2.0, where it is not the status code that tells it.
    pub(super) number: Option<i32>,
    /// The batch that it belongs to, and its place in there.
    pub(super) batch: Option<(u32, u32)>,
}

#[derive(Debug)]
enum OutstandingSlot {
    /// The next free slot, or NO_SLOT.
    Free(u32),
    Taken(u32, OutstandingReply),
}

/// Not a slot.
const NO_SLOT: u32 = u32::MAX;

/// Slots that a connection without calls keeps: enough for the usual pipeline, little for one that idles.
const KEPT: usize = 16;

/// The answers that are owed on one connection. As many as requests may be in flight, and one that is refused.
#[derive(Debug)]
pub(super) struct OutstandingReplies {
    slots: Vec<OutstandingSlot>,
    free: u32,
    len: u32,
    /// Runs with each id, and may wrap: the slot tells ids apart.
    turn: u32,
}

/// Of a turn only these bits are used, so that the highest bit of an id is always 0.
const TURN_MASK: u32 = u32::MAX >> 1;

impl OutstandingReplies {
    /// Nothing is owed.
    pub(super) fn new() -> OutstandingReplies {
        OutstandingReplies { slots: Vec::new(), free: NO_SLOT, len: 0, turn: 0 }
    }

    /// An id for a call that is not answered.
    pub(super) fn next_one_way(&mut self) -> u64 {
        self.turn = self.turn.wrapping_add(1) & TURN_MASK;
        u64::from(self.turn) << 32 | u64::from(NO_SLOT)
    }

    /// Notes an answer that is owed; gives the id by which it comes.
    #[inline]
    pub(super) fn begin(&mut self, outstanding: OutstandingReply) -> u64 {
        self.turn = self.turn.wrapping_add(1) & TURN_MASK;
        self.len += 1;
        let (slot, taken) = (self.free, OutstandingSlot::Taken(self.turn, outstanding));
        let slot = match self.slots.get_mut(slot as usize) {
            Some(free) => {
                if let OutstandingSlot::Free(next) = std::mem::replace(free, taken) {
                    self.free = next;
                }
                slot
            }
            None => {
                self.slots.push(taken);
                (self.slots.len() - 1) as u32
            }
        };
        u64::from(self.turn) << 32 | u64::from(slot)
    }

    /// The answer of that id is given.
    #[inline]
    pub(super) fn end(&mut self, id: u64) -> Option<OutstandingReply> {
        let (turn, slot) = ((id >> 32) as u32, id as u32);
        let place = self.slots.get_mut(slot as usize)?;
        if !matches!(place, OutstandingSlot::Taken(taken, _) if *taken == turn) {
            return None;
        }
        let OutstandingSlot::Taken(_, outstanding) =
            std::mem::replace(place, OutstandingSlot::Free(self.free))
        else {
            return None;
        };
        self.free = slot;
        self.len -= 1;
        if self.len == 0 && self.slots.capacity() > KEPT {
            self.slots = Vec::new();
            self.free = NO_SLOT;
        }
        Some(outstanding)
    }
}
