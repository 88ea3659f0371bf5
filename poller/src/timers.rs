//! Timers without a clock: a hierarchical wheel that receives the time as an argument.
//!
//! At most one timer per slot of the caller's table, armed and cancelled in O(1) without allocating. The wheel never
//! reads the time and never calls back: it takes `now` and returns keys. The idea is Varghese and Lauck's ("Hashed
//! and Hierarchical Timing Wheels", SOSP 1987, scheme 7); `tests/timers.rs` compares it with a simple model.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::Key;

/// One tick, the wheel's resolution: 1 ms.
const TICK_NS: u64 = 1_000_000;
/// Bits of a tick's number per level.
const DIGIT_BITS: u32 = 6;
/// Lists per level; one bit each in the level's bitmap.
const DIGITS: usize = 1 << DIGIT_BITS;
/// Four levels cover 2²⁴ ticks: 4 hours 39 minutes. Later deadlines are in one extra list.
const LEVELS: usize = 4;
const WHEEL_BITS: u32 = DIGIT_BITS * LEVELS as u32;

/// Numbers of the lists: those of the levels, one after the other, then these two.
const FAR: u16 = (LEVELS * DIGITS) as u16;
const DUE: u16 = FAR + 1;
const LISTS: usize = DUE as usize + 1;
/// In no list: not armed.
const NOWHERE: u16 = u16::MAX;
/// The end of a list.
const NIL: u32 = u32::MAX;

/// A timing wheel of 1 ms resolution, with at most one timer per slot, named by [`Key`].
///
/// A deadline's tick number is read as four digits of base 64. A timer belongs to the level of the highest digit in
/// which it differs from the current tick, in the list of its digit there:
///
/// ```text
///              digit 3   digit 2   digit 1   digit 0      one step of level 0: 1 ms, 1: 64 ms,
///   current       0         5        12        40         2: 4 s, 3: 4 min 22 s
///   deadline      0         5        31         7      →  level 1, list 31
/// ```
///
/// So no list behind the current digit is ever occupied, the lowest occupied level has the next deadline, and a
/// bitmap per level finds it. When time advances, each list that it passes is emptied once: due timers are returned,
/// the rest is inserted again at a lower level. The cost of a long pause depends on its timers, not on its ticks.
///
/// Memory: 24 bytes for each slot up to the highest that was armed since [`shrink`](Timers::shrink), plus 1.1 KiB.
///
/// ```
/// use std::time::{Duration, Instant};
/// use coreloop_poller::{Key, Timers};
///
/// let start = Instant::now();
/// let mut timers = Timers::new(start);
/// timers.arm(Key::new(0, 0), start + Duration::from_millis(10));
/// timers.arm(Key::new(1, 0), start + Duration::from_secs(600));
/// assert_eq!(timers.next_at(), Some(start + Duration::from_millis(10)));
///
/// let mut fired = Vec::new();
/// timers.expire(start + Duration::from_millis(10), &mut fired);
/// assert_eq!(fired, [Key::new(0, 0)]);
/// assert_eq!(timers.len(), 1);
/// ```
pub struct Timers {
    origin: Instant,
    /// The current tick; all timers of this tick and of earlier ones were returned, or are in `DUE`.
    current: u64,
    /// Bit d of word l: list d of level l is not empty.
    occupied: [u64; LEVELS],
    /// The first slot of each list, or `NIL`.
    heads: [u32; LISTS],
    nodes: Vec<Node>,
    armed: usize,
}

/// The list node of one slot.
#[derive(Clone, Copy)]
struct Node {
    /// The deadline, since `origin`.
    at_ns: u64,
    generation: u32,
    /// `NIL` for the first node of its list.
    prev: u32,
    next: u32,
    /// The list, or `NOWHERE`; then the other fields have no meaning.
    list: u16,
}

const IDLE: Node = Node { at_ns: 0, generation: 0, prev: NIL, next: NIL, list: NOWHERE };

impl Timers {
    /// Creates a wheel without timers, at `now`. Deadlines before it count as `now`.
    pub fn new(now: Instant) -> Timers {
        Timers {
            origin: now,
            current: 0,
            occupied: [0; LEVELS],
            heads: [NIL; LISTS],
            nodes: Vec::new(),
            armed: 0,
        }
    }

    /// Sets the timer of `key` to `at`, replacing an earlier setting. O(1); allocates only if the slot is higher than
    /// any before.
    ///
    /// Also replaces the timer of an earlier entry in this slot. A key older than the one whose timer is set is
    /// ignored.
    pub fn arm(&mut self, key: Key, at: Instant) {
        let slot = key.slot();
        if slot >= self.nodes.len() {
            self.nodes.resize(slot + 1, IDLE);
        }
        let at_ns = self.since_origin_ns(at);
        let list = self.list_for(at_ns);
        let node = &mut self.nodes[slot];
        if node.list != NOWHERE {
            let ahead = key.generation().wrapping_sub(node.generation) as i32;
            if ahead < 0 {
                return;
            }
            if node.list == list {
                // Idle timers, postponed by every read, mostly stay in their list.
                node.at_ns = at_ns;
                node.generation = key.generation();
                return;
            }
            self.unlink(slot);
        } else {
            self.armed += 1;
        }
        let node = &mut self.nodes[slot];
        node.at_ns = at_ns;
        node.generation = key.generation();
        self.link(slot, list);
    }

    /// Cancels the timer of `key`, if one is set.
    pub fn cancel(&mut self, key: Key) {
        if self.node(key).is_some() {
            self.unlink(key.slot());
            self.armed -= 1;
        }
    }

    /// Returns the deadline of `key`, if its timer is set: exactly as it was armed (292 years at most).
    pub fn armed_at(&self, key: Key) -> Option<Instant> {
        self.node(key).map(|node| self.origin + Duration::from_nanos(node.at_ns))
    }

    /// Appends the keys of all timers that are due at `now` to `into`, in no particular order; they are no longer
    /// set. Never early; late by less than one tick. A `now` before an earlier one counts as the earlier one.
    pub fn expire(&mut self, now: Instant, into: &mut Vec<Key>) {
        let tick = self.since_origin_ns(now) / TICK_NS;
        if tick > self.current {
            self.advance(tick);
        }
        let mut slot = std::mem::replace(&mut self.heads[DUE as usize], NIL);
        while slot != NIL {
            let node = &mut self.nodes[slot as usize];
            into.push(Key::new(slot, node.generation));
            node.list = NOWHERE;
            self.armed -= 1;
            slot = node.next;
        }
    }

    /// Returns when to call [`expire`](Timers::expire) next; `None` without timers. A bound for the poll's timeout:
    /// never later than the earliest deadline plus one tick, but it can be earlier, when timers only change lists (at
    /// most four times in a timer's life, within the wheel). O(1).
    pub fn next_at(&self) -> Option<Instant> {
        if self.armed == 0 {
            return None;
        }
        let tick = if self.heads[DUE as usize] != NIL {
            self.current
        } else {
            match self.occupied.iter().position(|occupied| *occupied != 0) {
                Some(level) => {
                    let shift = DIGIT_BITS * level as u32;
                    let digit = self.occupied[level].trailing_zeros() as u64;
                    (self.current >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS)) | digit << shift
                }
                None => ((self.current >> WHEEL_BITS) + 1) << WHEEL_BITS,
            }
        };
        Some(self.origin + Duration::from_nanos(tick.saturating_mul(TICK_NS)))
    }

    /// Returns the number of timers that are set.
    #[inline]
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Returns whether no timer is set.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Frees the memory of slots behind the highest whose timer is set. O(slots); call it when idle, after many
    /// connections have closed.
    pub fn shrink(&mut self) {
        let keep = self.nodes.iter().rposition(|node| node.list != NOWHERE).map_or(0, |slot| slot + 1);
        self.nodes.truncate(keep);
        self.nodes.shrink_to_fit();
    }

    /// Returns the current size of the slot table in bytes.
    pub fn table_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
    }

    /// Advances time to `to`; the passed timers move into `DUE` or to a lower level.
    fn advance(&mut self, to: u64) {
        let from = std::mem::replace(&mut self.current, to);
        for level in 0..LEVELS {
            let shift = DIGIT_BITS * level as u32;
            let above = shift + DIGIT_BITS;
            // A timer is at this level because it shares all higher digits with `from`. If `to` does not, time has
            // passed the whole level; otherwise the lists up to and including the digit of `to`.
            let passed = if from >> above != to >> above {
                u64::MAX
            } else {
                u64::MAX >> (DIGITS as u64 - 1 - (to >> shift) % DIGITS as u64)
            };
            let mut lists = self.occupied[level] & passed;
            while lists != 0 {
                let digit = lists.trailing_zeros();
                lists &= lists - 1;
                // A timer that is not due shares the digit with `to`, so it moves to a lower level: no list is
                // visited twice.
                self.rehang((level * DIGITS) as u16 + digit as u16);
            }
        }
        if from >> WHEEL_BITS != to >> WHEEL_BITS {
            self.rehang(FAR);
        }
    }

    /// Empties a list, and inserts each of its timers again, relative to the current tick.
    fn rehang(&mut self, list: u16) {
        let mut slot = std::mem::replace(&mut self.heads[list as usize], NIL);
        self.note_empty(list);
        while slot != NIL {
            let Node { at_ns, next, .. } = self.nodes[slot as usize];
            self.link(slot as usize, self.list_for(at_ns));
            slot = next;
        }
    }

    /// Returns the list for a timer that is due at `at_ns`.
    #[inline]
    fn list_for(&self, at_ns: u64) -> u16 {
        // Rounded up here and down in `expire`: never early.
        let tick = at_ns.div_ceil(TICK_NS);
        if tick <= self.current {
            return DUE;
        }
        let level = (u64::BITS - 1 - (tick ^ self.current).leading_zeros()) / DIGIT_BITS;
        if level as usize >= LEVELS {
            return FAR;
        }
        let digit = (tick >> (DIGIT_BITS * level)) % DIGITS as u64;
        (level as usize * DIGITS) as u16 + digit as u16
    }

    #[inline]
    fn link(&mut self, slot: usize, list: u16) {
        let head = std::mem::replace(&mut self.heads[list as usize], slot as u32);
        let node = &mut self.nodes[slot];
        node.prev = NIL;
        node.next = head;
        node.list = list;
        if head != NIL {
            self.nodes[head as usize].prev = slot as u32;
        }
        if let Some(occupied) = self.occupied.get_mut(list as usize / DIGITS) {
            *occupied |= 1 << (list as usize % DIGITS);
        }
    }

    #[inline]
    fn unlink(&mut self, slot: usize) {
        let Node { prev, next, list, .. } = self.nodes[slot];
        self.nodes[slot].list = NOWHERE;
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        if prev != NIL {
            self.nodes[prev as usize].next = next;
        } else {
            self.heads[list as usize] = next;
            if next == NIL {
                self.note_empty(list);
            }
        }
    }

    #[inline]
    fn note_empty(&mut self, list: u16) {
        // `FAR` and `DUE` have no bit: their heads are checked instead.
        if let Some(occupied) = self.occupied.get_mut(list as usize / DIGITS) {
            *occupied &= !(1 << (list as usize % DIGITS));
        }
    }

    /// Returns the node of `key`, if its timer is set.
    #[inline]
    fn node(&self, key: Key) -> Option<&Node> {
        self.nodes.get(key.slot()).filter(|node| node.list != NOWHERE && node.generation == key.generation())
    }

    #[inline]
    fn since_origin_ns(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        // Half of the range, 292 years, so that it can be added to any Instant.
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX as u64)
    }

    /// Asserts the invariants: every armed slot is in exactly the list where it belongs.
    #[cfg(all(test, not(loom)))]
    fn check(&self) {
        let mut found = 0;
        for list in 0..LISTS as u16 {
            let head = self.heads[list as usize];
            if let Some(occupied) = self.occupied.get(list as usize / DIGITS) {
                assert_eq!(occupied >> (list as usize % DIGITS) & 1 == 1, head != NIL);
            }
            let (mut slot, mut prev) = (head, NIL);
            while slot != NIL {
                let node = self.nodes[slot as usize];
                assert_eq!((node.list, node.prev), (list, prev));
                assert_eq!(self.list_for(node.at_ns), list);
                found += 1;
                (prev, slot) = (slot, node.next);
            }
        }
        assert_eq!(found, self.armed);
        assert_eq!(found, self.nodes.iter().filter(|node| node.list != NOWHERE).count());
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers")
            .field("armed", &self.armed)
            .field("next_at", &self.next_at())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn fired(timers: &mut Timers, now: Instant) -> Vec<Key> {
        let mut into = Vec::new();
        timers.expire(now, &mut into);
        timers.check();
        into.sort();
        into
    }

    #[test]
    fn node_is_small() {
        assert_eq!(size_of::<Node>(), 24);
    }

    #[test]
    fn every_level_fires_on_its_tick() {
        let start = Instant::now();
        for shift in 0..40 {
            for delta in [-1i64, 0, 1] {
                let ticks = (1u64 << shift).saturating_add_signed(delta);
                let at = start + Duration::from_millis(ticks);
                let mut timers = Timers::new(start);
                timers.arm(Key::new(3, 9), at);
                timers.check();
                if ticks > 0 {
                    assert_eq!(fired(&mut timers, at - Duration::from_nanos(1)), []);
                }
                assert_eq!(fired(&mut timers, at), [Key::new(3, 9)]);
                assert!(timers.is_empty());
            }
        }
    }

    #[test]
    fn following_next_at_takes_few_steps() {
        let start = Instant::now();
        let at = start + Duration::from_secs(3600 * 30);
        let mut timers = Timers::new(start);
        timers.arm(Key::new(0, 0), at);
        let mut steps = 0;
        while let Some(next) = timers.next_at() {
            assert!(next <= at + MS);
            fired(&mut timers, next);
            steps += 1;
        }
        // Six times round the wheel (30 h), then down its levels.
        assert!(steps <= 6 + 1 + LEVELS, "{steps}");
    }

    #[test]
    fn deadline_in_the_past_fires_at_once() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        fired(&mut timers, start + 100 * MS);
        timers.arm(Key::new(0, 0), start + 50 * MS);
        timers.check();
        assert!(timers.next_at() <= Some(start + 100 * MS));
        assert_eq!(fired(&mut timers, start + 100 * MS), [Key::new(0, 0)]);
    }

    #[test]
    fn time_that_runs_backwards_does_no_harm() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        timers.arm(Key::new(0, 0), start + 200 * MS);
        fired(&mut timers, start + 100 * MS);
        assert_eq!(fired(&mut timers, start), []);
        assert_eq!(fired(&mut timers, start + 200 * MS), [Key::new(0, 0)]);
    }

    #[test]
    fn a_stale_key_does_not_affect_the_new_timer() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        for (old, new) in [(0, 1), (u32::MAX, 0)] {
            let (old, new) = (Key::new(5, old), Key::new(5, new));
            timers.arm(old, start + 10 * MS);
            timers.arm(new, start + 20 * MS);
            timers.cancel(old);
            timers.arm(old, start + 5 * MS);
            timers.check();
            assert_eq!(timers.armed_at(old), None);
            assert_eq!(timers.armed_at(new), Some(start + 20 * MS));
            timers.cancel(new);
            assert!(timers.is_empty());
        }
    }

    #[test]
    fn table_shrinks_to_the_highest_armed_slot() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        for slot in 0..1000 {
            timers.arm(Key::new(slot, 0), start + 10 * MS);
        }
        for slot in 10..1000 {
            timers.cancel(Key::new(slot, 0));
        }
        timers.shrink();
        timers.check();
        assert!(timers.table_bytes() <= 10 * 24 * 2);
        assert_eq!(fired(&mut timers, start + 10 * MS).len(), 10);
        timers.shrink();
        assert_eq!(timers.table_bytes(), 0);
    }

    #[test]
    fn far_future_saturates() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        if let Some(at) = start.checked_add(Duration::from_secs(1000 * 365 * 86_400)) {
            timers.arm(Key::new(0, 0), at);
            timers.check();
            assert!(timers.next_at() <= Some(at));
        }
    }
}
