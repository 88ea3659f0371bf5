//! The outstanding calls of a connection: the peer's ids, and the form of the answers.
//!
//! The peer's ids are any text, and may be equal. The ids of messages are running numbers, with the slot in this
//! table in their lower half, so that an answer finds its slot without a search.

/// The dialect of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// JSON-RPC 1.0, as in Go.
    One,
    /// JSON-RPC 2.0.
    Two,
}

/// The longest id that is stored inline; a longer one is boxed.
const INLINE_MAX: usize = 22;

/// The source text of a peer's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerId {
    /// A short one; most ids are small numbers.
    Small {
        /// The used bytes.
        len: u8,
        /// The text, from the start.
        text: [u8; INLINE_MAX],
    },
    /// A long one.
    Large(Box<[u8]>),
}

impl PeerId {
    /// The id of an answer if the request's id is missing or unknown.
    pub(super) const NULL: PeerId = {
        let mut text = [0; INLINE_MAX];
        (text[0], text[1], text[2], text[3]) = (b'n', b'u', b'l', b'l');
        PeerId::Small { len: 4, text }
    };

    /// Copies the text.
    #[inline]
    pub(super) fn new(source: &[u8]) -> PeerId {
        if source.len() > INLINE_MAX {
            return PeerId::Large(source.into());
        }
        let mut text = [0; INLINE_MAX];
        text[..source.len()].copy_from_slice(source);
        PeerId::Small { len: source.len() as u8, text }
    }

    /// Returns the text.
    #[inline]
    pub(super) fn text(&self) -> &[u8] {
        match self {
            PeerId::Small { len, text } => &text[..*len as usize],
            PeerId::Large(text) => text,
        }
    }
}

/// An outstanding answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutstandingReply {
    /// The peer's id.
    pub(super) id: PeerId,
    /// The dialect of the request.
    pub(super) dialect: Dialect,
    /// The number of the error in 2.0, if it does not follow from the status code.
    pub(super) number: Option<i32>,
    /// The batch of the call, and its place in the batch.
    pub(super) batch: Option<(u32, u32)>,
}

#[derive(Debug)]
enum OutstandingSlot {
    /// The next free slot, or NO_SLOT.
    Free(u32),
    Taken(u32, OutstandingReply),
}

/// The end of the free list.
const NO_SLOT: u32 = u32::MAX;

/// Slots that a connection without calls keeps: enough for a usual pipeline, and little for an idle connection.
const KEPT: usize = 16;

/// The outstanding answers of one connection: at most one per request in flight, and one of a refusal.
#[derive(Debug)]
pub(super) struct OutstandingReplies {
    slots: Vec<OutstandingSlot>,
    free: u32,
    len: u32,
    /// Counts ids, and may wrap: the slot keeps ids distinct.
    turn: u32,
}

/// The bits of a turn that are used, so that the highest bit of an id is always 0.
const TURN_MASK: u32 = u32::MAX >> 1;

impl OutstandingReplies {
    /// Creates an empty table.
    pub(super) fn new() -> OutstandingReplies {
        OutstandingReplies { slots: Vec::new(), free: NO_SLOT, len: 0, turn: 0 }
    }

    /// Returns an id for a one-way call.
    pub(super) fn next_one_way(&mut self) -> u64 {
        self.turn = self.turn.wrapping_add(1) & TURN_MASK;
        u64::from(self.turn) << 32 | u64::from(NO_SLOT)
    }

    /// Adds an outstanding answer, and returns its id.
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

    /// Removes the answer with this id.
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
