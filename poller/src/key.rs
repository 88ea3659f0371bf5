//! The key of a slot's entry: slot and generation in 64 bits.
//!
//! A key replaces a reference: it may outlive its entry, and then finds nothing. It fits the kernel's user data
//! (epoll, kqueue), so an event leads to its entry without another table. `slots.rs` creates the keys.

use std::fmt;

/// The key of an entry: a slot (low 32 bits) and the generation of the entry (high 32 bits).
///
/// ```
/// use coreloop_poller::Key;
///
/// let key = Key::new(12, 3);
/// assert_eq!((key.slot(), key.generation()), (12, 3));
/// assert_eq!(Key::from_bits(key.to_bits()), key);
/// assert_eq!(key.to_string(), "12.3");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u64);

impl Key {
    /// The key that belongs to no slot: [`Slots`](crate::Slots) never returns it; the poller uses it for its bell.
    pub(crate) const BELL: Key = Key(u64::MAX);

    /// Creates the key of the entry `generation` of `slot`.
    #[inline]
    pub const fn new(slot: u32, generation: u32) -> Key {
        Key((generation as u64) << 32 | slot as u64)
    }

    /// Returns the index of the entry in its table.
    #[inline]
    pub const fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    /// Returns the generation: the number of entries that the slot held before this one. Wraps around after 2³².
    #[inline]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the key as one number, for interfaces that take only a number.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Returns the key with this number, the inverse of [`to_bits`](Key::to_bits).
    #[inline]
    pub const fn from_bits(bits: u64) -> Key {
        Key(bits)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.generation())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn halves_do_not_touch() {
        for (slot, generation) in [(0, 0), (1, 0), (0, 1), (u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX)]
        {
            let key = Key::new(slot, generation);
            assert_eq!(key.slot(), slot as usize);
            assert_eq!(key.generation(), generation);
            assert_eq!(Key::from_bits(key.to_bits()), key);
        }
    }

    #[test]
    fn debug_and_display_read_slot_dot_generation() {
        assert_eq!(format!("{} {:?}", Key::new(12, 3), Key::new(0, u32::MAX)), "12.3 0.4294967295");
    }
}
