//! A hash ring: the endpoint of a key, and the ones that follow it (Karger and others, "Consistent Hashing and Random
//! Trees", 1997; the number of points for each endpoint is that of libketama).

use crate::random::mix;

/// The points of an endpoint of mean weight, while there are few endpoints.
const POINTS_EACH: u64 = 160;

/// The points of all endpoints together, about.
const POINTS_MAX: u64 = 32_768;

/// The points that are visited for one key; after them, any permitted endpoint is used.
const STEPS_MAX: usize = 4_096;

/// A ring of the endpoints, by their slots in the table.
#[derive(Clone, Debug, Default)]
pub(in crate::policy::fleet) struct Ring {
    /// By ascending position.
    points: Vec<(u64, u16)>,
}

/// Returns a hash of a text that is the same in every process (FNV-1a, mixed).
pub(in crate::policy::fleet) fn hash_text(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

impl Ring {
    /// Makes a ring of endpoints: their slots, the hashes of their ids, and their weights. Two clients with the same
    /// instances have the same ring.
    pub fn fill(&mut self, endpoints: &[(u16, u64, u32)]) {
        self.points.clear();
        let total: u64 = endpoints.iter().map(|(_, _, weight)| u64::from(*weight)).sum();
        let count = endpoints.len() as u64;
        let all = (count * POINTS_EACH).min(POINTS_MAX.max(count));
        for (slot, hash, weight) in endpoints {
            let share = (all * u64::from(*weight)).checked_div(total).unwrap_or(all / count);
            let points = if *weight == 0 && total > 0 { 0 } else { share.max(1) };
            let point = |number: u64| (mix(hash.wrapping_add(mix(number + 1))), *slot);
            self.points.extend((0..points).map(point));
        }
        self.points.sort_unstable();
    }

    /// Returns the first permitted endpoint at or after the key's position.
    pub fn find(&self, key: u64, is_permitted: impl Fn(u16) -> bool) -> Option<u16> {
        let key = mix(key);
        let begin = self.points.partition_point(|(position, _)| *position < key);
        let (before, after) = self.points.split_at(begin);
        let steps = after.iter().chain(before).take(STEPS_MAX);
        steps.map(|(_, slot)| *slot).find(|slot| is_permitted(*slot))
    }
}
