//! A table of tenants behind keys: the `slab` crate's slots, each with a generation.
//!
//! The generation is what makes a late answer to a closed connection miss: the slot may have a new tenant by
//! then, but the key names the old one. It never hands out a reference that outlives a borrow of the table, and
//! never moves a tenant. The key itself is in `key.rs`.

use slab::Slab;

use crate::Key;

/// A slab whose keys carry a generation, so that a late reply to a slot that has been reused does not find its
/// new tenant.
///
/// A lookup is a bounds check and a compare, in one cache line: the generation lies beside the value. A slot's
/// generation goes up by one when its tenant leaves; it wraps after 2³² tenants, and only then could a key
/// that was kept all this time find a stranger.
///
/// ```
/// use coreloop_poller::Slots;
///
/// let mut slots = Slots::new();
/// let old = slots.insert("old tenant");
/// slots.remove(old);
/// let new = slots.insert("new tenant");
/// assert_eq!(new.slot(), old.slot());
/// assert_eq!(slots.at(old), None);
/// assert_eq!(slots.at(new), Some(&"new tenant"));
/// ```
#[derive(Debug, Clone)]
pub struct Slots<T> {
    tenants: Slab<Tenant<T>>,
    /// By slot: the generation of the tenant, or of the next one where the slot is empty. At least as long as
    /// `tenants` ever was: what is forgotten here would let an old key find a stranger. Read and written only
    /// when tenants come and go.
    generations: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Tenant<T> {
    generation: u32,
    value: T,
}

impl<T> Slots<T> {
    /// An empty table. Allocates nothing.
    pub const fn new() -> Slots<T> {
        Slots { tenants: Slab::new(), generations: Vec::new() }
    }

    /// An empty table with room for `capacity` tenants.
    pub fn with_capacity(capacity: usize) -> Slots<T> {
        Slots { tenants: Slab::with_capacity(capacity), generations: Vec::with_capacity(capacity) }
    }

    /// How many tenants there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether there is no tenant.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// The key that the next [`insert`](Slots::insert) will give: for a tenant that must know its key, or must
    /// be registered under it, before it moves in.
    #[inline]
    pub fn next_key(&self) -> Key {
        let slot = self.tenants.vacant_key();
        let generation = self.generations.get(slot).copied().unwrap_or(0);
        Key::new(slot as u32, generation)
    }

    /// Takes a tenant in.
    ///
    /// # Panics
    ///
    /// With 2³² − 1 tenants, which is beyond any limit that a config can name.
    pub fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        let slot = self.tenants.insert(Tenant { generation: key.generation(), value });
        assert!(slot < u32::MAX as usize, "a table has at most 2^32 - 1 slots");
        if slot == self.generations.len() {
            self.generations.push(0);
        }
        key
    }

    /// Whether the tenant that `key` names is still there.
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        self.at(key).is_some()
    }

    /// The tenant that `key` names, if it is still there.
    #[inline]
    pub fn at(&self, key: Key) -> Option<&T> {
        match self.tenants.get(key.slot()) {
            Some(tenant) if tenant.generation == key.generation() => Some(&tenant.value),
            _ => None,
        }
    }

    /// The tenant that `key` names, if it is still there, to be changed.
    #[inline]
    pub fn at_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.tenants.get_mut(key.slot()) {
            Some(tenant) if tenant.generation == key.generation() => Some(&mut tenant.value),
            _ => None,
        }
    }

    /// Lets the tenant go; its key and all copies of it find nothing from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        if !self.contains(key) {
            return None;
        }
        self.generations[key.slot()] = key.generation().wrapping_add(1);
        Some(self.tenants.remove(key.slot()).value)
    }

    /// All tenants with their keys, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.tenants.iter().map(|(slot, tenant)| (Key::new(slot as u32, tenant.generation), &tenant.value))
    }

    /// All tenants with their keys, by slot, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.tenants
            .iter_mut()
            .map(|(slot, tenant)| (Key::new(slot as u32, tenant.generation), &mut tenant.value))
    }

    /// Appends all keys to `into`: for a walk during which tenants may come and go.
    pub fn keys_into(&self, into: &mut Vec<Key>) {
        into.extend(self.iter().map(|(key, _)| key));
    }

    /// Gives back the memory of empty slots behind the last tenant. Four bytes a slot are kept for good: the
    /// generation, without which an old key would find a stranger.
    pub fn shrink(&mut self) {
        self.tenants.shrink_to_fit();
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
    fn old_key_misses_the_new_tenant() {
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
        assert_eq!(slots.tenants.capacity(), 0);
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
    fn walks_give_every_tenant_once() {
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
