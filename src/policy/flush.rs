//! The flush policy: when the replies gathered for a connection are written, and its three triggers.
//!
//! Replies are written at the end of the turn, when reads have returned would-block; earlier, when the write queue
//! reaches its mark; later, when a delay is configured in exchange for fewer, larger writes, but never later than
//! that delay.

use std::time::{Duration, Instant};

/// The policy, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushPolicy {
    /// Write at once when this many bytes wait.
    pub high_mark_bytes: usize,
    /// Replies gather this long beyond the turn; zero means not at all.
    pub delay: Duration,
}

impl FlushPolicy {
    /// Returns whether `bytes` are written in the middle of a turn, when more may follow.
    #[inline]
    pub fn is_full(&self, bytes: usize) -> bool {
        bytes >= self.high_mark_bytes
    }

    /// Returns whether `bytes` that have gathered since `since` are written at the end of a turn.
    #[inline]
    pub fn is_due(&self, bytes: usize, since: Instant, now: Instant) -> bool {
        self.is_full(bytes) || bytes > 0 && now.saturating_duration_since(since) >= self.delay
    }

    /// Returns the latest time at which the bytes gathered since `since` are written.
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
