//! Stacks and how often each was seen.

use std::collections::HashMap;

/// The most frames of a stack; what is further out is cut off.
pub(crate) const FRAMES_MAX: usize = 64;

/// Addresses, the innermost first. The first one is an instruction that was running; the others are addresses that calls
/// return to.
pub(crate) type Stack = Vec<usize>;

/// Numbers by stack and thread.
#[derive(Debug, Default)]
pub(crate) struct StackCounts {
    counts: HashMap<(u32, Stack), u64>,
    /// Samples whose stack found no place.
    pub(crate) left_out: u64,
}

/// The most different stacks of a profile: 64 frames of 8 bytes each, so 32 MiB at most.
const STACKS_MAX: usize = 65_536;

impl StackCounts {
    /// Counts a stack of a thread.
    pub(crate) fn add(&mut self, thread: u32, frames: &[usize]) {
        let key = (thread, frames.to_vec());
        if self.counts.len() >= STACKS_MAX && !self.counts.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        *self.counts.entry(key).or_default() += 1;
    }

    /// Returns thread, stack and count of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Stack, u64)> {
        self.counts.iter().map(|((thread, stack), count)| (*thread, stack, *count))
    }

    /// Returns the sum of the counts.
    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_counted_by_thread_and_bounded() {
        let mut counts = StackCounts::default();
        counts.add(1, &[1, 2]);
        counts.add(1, &[1, 2]);
        counts.add(2, &[1, 2]);
        let mut all: Vec<(u32, u64)> = counts.iter().map(|(thread, _, count)| (thread, count)).collect();
        all.sort_unstable();
        assert_eq!(all, [(1, 2), (2, 1)]);
        (0..STACKS_MAX + 5).for_each(|at| counts.add(3, &[at]));
        counts.add(1, &[1, 2]);
        assert_eq!((counts.left_out, counts.total()), (7, STACKS_MAX as u64 + 2));
    }
}
