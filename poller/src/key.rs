//! The name of a slot's tenant: slot and generation in 64 bits.
//!
//! A key is what one holds in place of a reference: it may outlive what it names, and then finds nothing. It
//! fits the kernel's user data (epoll, kqueue), so an event leads to its tenant without a table in between.
//! Keys are handed out by `slots.rs`.

use std::fmt;

/// A slot (low 32 bits) and the generation of its tenant (high 32 bits).
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
    /// The key that belongs to no slot: [`Slots`](crate::Slots) never hands it out, the poller keeps it for
    /// its bell.
    pub(crate) const BELL: Key = Key(u64::MAX);

    /// The key of the tenant `generation` of `slot`.
    #[inline]
    pub const fn new(slot: u32, generation: u32) -> Key {
        Key((generation as u64) << 32 | slot as u64)
    }

    /// Where in its table the tenant lives.
    #[inline]
    pub const fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    /// Which of the slot's tenants, in order of arrival, is meant. Wraps around after 2³².
    #[inline]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The key as one number, for a field that takes no more.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The key that [`to_bits`](Key::to_bits) made this number of.
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
