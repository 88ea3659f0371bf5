//! A list of endpoints from which one is drawn at random by weight.

use crate::random::Random;

/// Endpoints, by their slots in the table, and their weights.
#[derive(Clone, Debug, Default)]
pub(in crate::policy::fleet) struct DrawList {
    slots: Vec<u16>,
    /// The sum of the weights up to and with each.
    sums: Vec<u64>,
    /// The weight that all have, if they have the same.
    even: Option<u32>,
}

impl DrawList {
    pub fn clear(&mut self) {
        self.slots.clear();
        self.sums.clear();
        self.even = None;
    }

    /// Adds an endpoint; a weight of zero counts as one.
    pub fn push(&mut self, slot: u16, weight: u32) {
        let weight = weight.max(1);
        self.even = if self.slots.is_empty() || self.even == Some(weight) { Some(weight) } else { None };
        self.slots.push(slot);
        self.sums.push(self.total() + u64::from(weight));
    }

    fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    pub fn slots(&self) -> &[u16] {
        &self.slots
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the mean weight; 1 if there is no endpoint.
    pub fn mean_weight(&self) -> f32 {
        if self.slots.is_empty() { 1.0 } else { self.total() as f32 / self.slots.len() as f32 }
    }

    /// Returns whether all have the same weight.
    pub fn is_even(&self) -> bool {
        self.even.is_some()
    }

    /// Draws the index of one. There must be one.
    #[inline]
    fn draw(&self, random: &mut Random) -> usize {
        if self.even.is_some() {
            return random.below(self.slots.len() as u32) as usize;
        }
        let at = ((u128::from(random.next_u64()) * u128::from(self.total())) >> 64) as u64;
        self.sums.partition_point(|sum| *sum <= at)
    }

    /// Draws one that `is_permitted`, if there is any: at random for a few times, then the next of the list.
    #[inline]
    pub fn draw_permitted(&self, random: &mut Random, is_permitted: impl Fn(u16) -> bool) -> Option<u16> {
        const DRAWS: u32 = 8;
        if self.slots.is_empty() {
            return None;
        }
        let mut index = 0;
        for _ in 0..DRAWS {
            index = self.draw(random);
            if is_permitted(self.slots[index]) {
                return Some(self.slots[index]);
            }
        }
        let (before, after) = self.slots.split_at(index);
        after.iter().chain(before).copied().find(|slot| is_permitted(*slot))
    }
}
