//! What is known by a type's id: most peers define a handful, which a short list holds in less room than a table, and
//! is looked through sooner than a key is hashed.
//!
//! Ids are the peer's choice, so what does not fit the list goes to a keyed map.

use std::collections::HashMap;

/// Ids that are kept in the list.
const FEW_MAX: usize = 16;

/// Values by id.
#[derive(Clone, Debug)]
pub(super) struct Ids<V> {
    few: Vec<(i32, V)>,
    /// All of them, once they were more than a few.
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

    /// Adds one, or replaces it.
    pub(super) fn insert(&mut self, id: i32, value: V) {
        if let Some(many) = &mut self.many {
            many.insert(id, value);
        } else if let Some((_, known)) = self.few.iter_mut().find(|(known, _)| *known == id) {
            *known = value;
        } else if self.few.len() < FEW_MAX {
            // As much as there is, since a connection keeps it while it idles.
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
        fn it_knows_what_a_map_knows(entries in proptest::collection::vec((-5..40i32, any::<u8>()), 0..80)) {
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
