//! Connections that have sent nothing yet: their number, and the oldest of them.

use std::collections::VecDeque;

use coreloop_poller::Key;

/// Queue entries of connections that are no longer silent are removed when they exceed the silent ones by this many.
const STALE_MAX: usize = 64;

/// The accepted connections of a reactor that have sent nothing yet. Each operation takes constant time on average.
#[derive(Debug, Default)]
pub(super) struct SilentConnections {
    /// In the order of accepting; includes connections that have sent something or have closed.
    queue: VecDeque<Key>,
    /// The number of silent connections in the queue.
    count: usize,
}

impl SilentConnections {
    /// Adds an accepted connection.
    pub(super) fn add(&mut self, key: Key) {
        self.queue.push_back(key);
        self.count += 1;
    }

    /// Takes note that a silent connection has sent something or has ended.
    pub(super) fn remove_one(&mut self) {
        debug_assert!(self.count > 0);
        self.count -= 1;
    }

    /// Returns the oldest silent connection, if there are more than `count_max`.
    pub(super) fn oldest_beyond(&mut self, count_max: usize, is_silent: impl Fn(Key) -> bool) -> Option<Key> {
        if self.count > count_max {
            while let Some(key) = self.queue.pop_front() {
                if is_silent(key) {
                    return Some(key);
                }
            }
        }
        if self.queue.len() > 2 * self.count + STALE_MAX {
            self.queue.retain(|key| is_silent(*key));
            self.queue.shrink_to(2 * self.count + STALE_MAX);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_oldest_silent_connection_is_found() {
        let mut silent = SilentConnections::default();
        let mut still = HashSet::new();
        let key = |slot| Key::new(slot, 1);
        // The first connection never sends anything; of the others all but every hundredth do.
        for slot in 0..10_000 {
            silent.add(key(slot));
            still.insert(key(slot));
            if slot > 0 && slot % 100 != 0 {
                still.remove(&key(slot));
                silent.remove_one();
            }
            assert_eq!(silent.oldest_beyond(100, |key| still.contains(&key)), None);
            assert!(silent.queue.len() <= 2 * silent.count + STALE_MAX);
        }
        assert_eq!(silent.count, 100);
        silent.add(key(10_000));
        still.insert(key(10_000));
        assert_eq!(silent.oldest_beyond(100, |key| still.contains(&key)), Some(key(0)));
        silent.remove_one();
        still.remove(&key(0));
        assert_eq!(silent.oldest_beyond(100, |key| still.contains(&key)), None);
    }
}
