//! A map keyed by type id. Most peers define a handful of types: a short list takes less room than a table, and
//! searching it is faster than hashing a key.
//!
//! Peers choose the ids, so entries beyond the list go to a keyed hash map.

use std::collections::HashMap;

/// The maximum number of ids in the list.
const FEW_MAX: usize = 16;

/// Values by id.
#[derive(Clone, Debug)]
pub(super) struct Ids<V> {
    few: Vec<(i32, V)>,
    /// All entries, once there are more than a few.
    #[allow(
        clippy::box_collection,
        reason = "most have none, and every idle connection has room for it thrice"
    )]
    many: Option<Box<HashMap<i32, V>>>,
}

impl<V> Default for Ids<V> {
    fn default() -> Ids<V> {
        Ids { few: Vec::new(), many: None }
    }
}

impl<V> Ids<V> {
    #[inline]
    pub(super) fn get(&self, id: i32) -> Option<&V> {
        match &self.many {
            None => self.few.iter().find(|(known, _)| *known == id).map(|(_, value)| value),
            Some(many) => many.get(&id),
        }
    }

    pub(super) fn contains(&self, id: i32) -> bool {
        self.get(id).is_some()
    }

    /// Inserts or replaces an entry.
    pub(super) fn insert(&mut self, id: i32, value: V) {
        if let Some(many) = &mut self.many {
            many.insert(id, value);
        } else if let Some((_, known)) = self.few.iter_mut().find(|(known, _)| *known == id) {
            *known = value;
        } else if self.few.len() < FEW_MAX {
            // Reserves exactly one entry, since an idle connection keeps the list.
            self.few.reserve_exact(1);
            self.few.push((id, value));
        } else {
            let mut many: HashMap<i32, V> = std::mem::take(&mut self.few).into_iter().collect();
            many.insert(id, value);
            self.many = Some(Box::new(many));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_match_a_hash_map(entries in proptest::collection::vec((-5..40i32, any::<u8>()), 0..80)) {
            let (mut ids, mut map) = (Ids::default(), HashMap::new());
            for (id, value) in entries {
                ids.insert(id, value);
                map.insert(id, value);
                for id in -6..41 {
                    prop_assert_eq!(ids.get(id), map.get(&id));
                    prop_assert_eq!(ids.contains(id), map.contains_key(&id));
                }
            }
        }
    }
}
