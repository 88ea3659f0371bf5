//! A table of entries with keys: the `slab` crate's slots, each with a generation.
//!
//! The generation makes a late answer to a closed connection miss: the slot may have a new entry by then, but the key
//! names the old one. The table never returns a reference that outlives a borrow, and never moves an entry. The key
//! itself is in `key.rs`.

use slab::Slab;

use crate::Key;

/// A slab whose keys have a generation, so that a late reply to a reused slot does not find its new entry.
///
/// A lookup is a bounds check and a compare, in one cache line: the generation is stored beside the value. A slot's
/// generation increases by one when its entry is removed; it wraps after 2³² entries, and only then can a key that
/// was kept all this time find a wrong entry.
///
/// ```
/// use coreloop_poller::Slots;
///
/// let mut slots = Slots::new();
/// let old = slots.insert("old entry");
/// slots.remove(old);
/// let new = slots.insert("new entry");
/// assert_eq!(new.slot(), old.slot());
/// assert_eq!(slots.at(old), None);
/// assert_eq!(slots.at(new), Some(&"new entry"));
/// ```
#[derive(Debug, Clone)]
pub struct Slots<T> {
    entries: Slab<Entry<T>>,
    /// By slot: the generation of the entry, or of the next one if the slot is empty. At least as long as `entries`
    /// ever was: otherwise an old key could find a wrong entry. Read and written only on insert and remove.
    generations: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    generation: u32,
    value: T,
}

impl<T> Slots<T> {
    /// Creates an empty table. Allocates nothing.
    pub const fn new() -> Slots<T> {
        Slots { entries: Slab::new(), generations: Vec::new() }
    }

    /// Creates an empty table with room for `capacity` entries.
    pub fn with_capacity(capacity: usize) -> Slots<T> {
        Slots { entries: Slab::with_capacity(capacity), generations: Vec::with_capacity(capacity) }
    }

    /// Returns the number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the table is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the key that the next [`insert`](Slots::insert) will return, for an entry that contains its key, or
    /// must be registered under it, before it is inserted.
    #[inline]
    pub fn next_key(&self) -> Key {
        let slot = self.entries.vacant_key();
        let generation = self.generations.get(slot).copied().unwrap_or(0);
        Key::new(slot as u32, generation)
    }

    /// Inserts an entry and returns its key.
    ///
    /// # Panics
    ///
    /// Panics with 2³² − 1 entries, which is beyond any configurable limit.
    pub fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        let slot = self.entries.insert(Entry { generation: key.generation(), value });
        assert!(slot < u32::MAX as usize, "a table has at most 2^32 - 1 slots");
        if slot == self.generations.len() {
            self.generations.push(0);
        }
        key
    }

    /// Returns whether the entry of `key` is still in the table.
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        self.at(key).is_some()
    }

    /// Returns the entry of `key`, if it is still in the table.
    #[inline]
    pub fn at(&self, key: Key) -> Option<&T> {
        match self.entries.get(key.slot()) {
            Some(entry) if entry.generation == key.generation() => Some(&entry.value),
            _ => None,
        }
    }

    /// Returns the entry of `key` for changes, if it is still in the table.
    #[inline]
    pub fn at_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.slot()) {
            Some(entry) if entry.generation == key.generation() => Some(&mut entry.value),
            _ => None,
        }
    }

    /// Removes and returns the entry; its key and all copies of it find nothing from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        if !self.contains(key) {
            return None;
        }
        self.generations[key.slot()] = key.generation().wrapping_add(1);
        Some(self.entries.remove(key.slot()).value)
    }

    /// Iterates over all entries with their keys, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().map(|(slot, entry)| (Key::new(slot as u32, entry.generation), &entry.value))
    }

    /// Iterates over all entries with their keys, by slot, for changes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.entries
            .iter_mut()
            .map(|(slot, entry)| (Key::new(slot as u32, entry.generation), &mut entry.value))
    }

    /// Appends all keys to `into`, for an iteration during which entries may be inserted and removed.
    pub fn keys_into(&self, into: &mut Vec<Key>) {
        into.extend(self.iter().map(|(key, _)| key));
    }

    /// Frees the memory of empty slots behind the last entry. Four bytes per slot are never freed: the generation,
    /// without which an old key could find a wrong entry.
    pub fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn next_key_is_the_key_that_insert_gives() {
        let mut slots = Slots::new();
        let mut keys = Vec::new();
        for round in 0..4 {
            for i in 0..5 {
                let expected = slots.next_key();
                let key = slots.insert((round, i));
                assert_eq!(key, expected);
                keys.push(key);
            }
            for key in keys.drain(..).rev().skip(round) {
                assert!(slots.remove(key).is_some());
            }
        }
    }

    #[test]
    fn old_key_misses_the_new_entry() {
        let mut slots = Slots::new();
        let old = slots.insert(1);
        assert_eq!(slots.remove(old), Some(1));
        let new = slots.insert(2);
        assert_eq!((new.slot(), new.generation()), (old.slot(), old.generation() + 1));
        assert_eq!(slots.at(old), None);
        assert_eq!(slots.at_mut(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.at_mut(new), Some(&mut 2));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn old_key_misses_after_shrink() {
        let mut slots = Slots::new();
        let keys: Vec<Key> = (0..100).map(|i| slots.insert(i)).collect();
        for key in &keys {
            slots.remove(*key);
        }
        slots.shrink();
        assert_eq!(slots.entries.capacity(), 0);
        for i in 0..100 {
            slots.insert(i);
        }
        assert!(keys.iter().all(|key| !slots.contains(*key)));
    }

    #[test]
    fn generation_wraps() {
        let mut slots = Slots::new();
        let first = slots.insert('a');
        slots.remove(first);
        slots.generations[0] = u32::MAX;
        let last = slots.insert('b');
        assert_eq!(last.generation(), u32::MAX);
        slots.remove(last);
        assert_eq!(slots.insert('c').generation(), 0);
    }

    #[test]
    fn iterators_return_every_entry_once() {
        let mut slots = Slots::with_capacity(3);
        let keys: Vec<Key> = (0..3).map(|i| slots.insert(i)).collect();
        slots.remove(keys[1]);
        slots.iter_mut().for_each(|(_, value)| *value *= 10);
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(keys[0], &0), (keys[2], &20)]);
        let mut walk = Vec::new();
        slots.keys_into(&mut walk);
        assert_eq!(walk, [keys[0], keys[2]]);
    }

    #[test]
    fn unknown_slots_are_empty() {
        let slots: Slots<()> = Slots::default();
        assert!(slots.is_empty());
        assert_eq!(slots.at(Key::new(7, 0)), None);
        assert_eq!(slots.at(Key::BELL), None);
    }
}
