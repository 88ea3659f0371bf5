//! When the replies that have gathered for a connection are written: the flush policy and its three triggers.
//!
//! At the end of the turn, since reading has said would-block by then; earlier, when so much has gathered that
//! the write queue nears its mark; later, when the user would rather have fewer, larger writes, but never later
//! than the delay that was set.

use std::time::{Duration, Instant};

/// The policy, as the configuration gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushPolicy {
    /// Write at once when this many bytes wait.
    pub high_mark_bytes: usize,
    /// Let replies gather this long beyond the turn; zero is not at all.
    pub delay: Duration,
}

impl FlushPolicy {
    /// In the middle of a turn, when more may come: whether `bytes` are written without waiting for its end.
    #[inline]
    pub fn is_full(&self, bytes: usize) -> bool {
        bytes >= self.high_mark_bytes
    }

    /// At the end of a turn: whether `bytes` that have gathered since `since` are to be written.
    #[inline]
    pub fn is_due(&self, bytes: usize, since: Instant, now: Instant) -> bool {
        self.is_full(bytes) || bytes > 0 && now.saturating_duration_since(since) >= self.delay
    }

    /// When what has gathered since `since` is due at the latest.
    pub fn due_at(&self, since: Instant) -> Instant {
        since + self.delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_delay_the_end_of_the_turn_flushes() {
        let policy = FlushPolicy { high_mark_bytes: 100, delay: Duration::ZERO };
        let now = Instant::now();
        assert!(!policy.is_full(99));
        assert!(policy.is_due(1, now, now));
        assert!(!policy.is_due(0, now, now));
    }

    #[test]
    fn the_mark_flushes_at_once() {
        let policy = FlushPolicy { high_mark_bytes: 100, delay: Duration::from_secs(1) };
        let now = Instant::now();
        assert!(policy.is_full(100));
        assert!(policy.is_due(100, now, now));
    }

    #[test]
    fn a_delay_holds_back_and_then_flushes() {
        let policy = FlushPolicy { high_mark_bytes: 100, delay: Duration::from_millis(10) };
        let since = Instant::now();
        assert!(!policy.is_due(50, since, since + Duration::from_millis(9)));
        assert!(policy.is_due(50, since, policy.due_at(since)));
    }
}
