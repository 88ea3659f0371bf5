//! How many events of a kind are passed on: so that a flood of one kind leaves the log readable and the others in it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The events of a kind that are passed on in each window.
pub(super) const EVENTS_MAX: u32 = 20;
/// The length of a window.
pub(super) const WINDOW_MS: u64 = 10_000;

/// The limit of one kind. Any thread may ask it; none waits.
#[derive(Debug)]
pub(super) struct KindLimit {
    /// The number of the window in the upper half, and the events passed on in it in the lower half.
    state: AtomicU64,
    /// Events that were not passed on, and not reported yet.
    suppressed: AtomicU64,
}

impl KindLimit {
    pub(super) const fn new() -> KindLimit {
        KindLimit { state: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Decides whether an event at this time is passed on.
    pub(super) fn admit(&self, now_ms: u64) -> bool {
        let window = (now_ms / WINDOW_MS) << 32;
        let next = |state: u64| {
            let passed = if state & !u64::from(u32::MAX) == window { state as u32 } else { 0 };
            (passed < EVENTS_MAX).then_some(window | u64::from(passed + 1))
        };
        let is_admitted = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok();
        if !is_admitted {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        is_admitted
    }

    /// Returns how many events were not passed on since this was last asked.
    pub(super) fn take_suppressed(&self) -> u64 {
        self.suppressed.swap(0, Ordering::Relaxed)
    }
}

/// Returns the end of the window of this time.
pub(super) fn window_end_ms(now_ms: u64) -> u64 {
    (now_ms / WINDOW_MS + 1) * WINDOW_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_passes_on_so_many_and_counts_the_rest() {
        let limit = KindLimit::new();
        for window in [0, 1, 7] {
            let begin = window * WINDOW_MS;
            let admitted = (0..1000).filter(|event| limit.admit(begin + event)).count();
            assert_eq!(admitted, EVENTS_MAX as usize);
            assert_eq!(limit.take_suppressed(), 1000 - u64::from(EVENTS_MAX));
            assert_eq!(limit.take_suppressed(), 0);
            assert!(!limit.admit(begin + WINDOW_MS - 1), "the window has not ended");
            assert_eq!(limit.take_suppressed(), 1);
            assert_eq!(window_end_ms(begin + WINDOW_MS - 1), begin + WINDOW_MS);
        }
    }

    #[test]
    fn threads_share_the_limit() {
        let limit = KindLimit::new();
        let admitted: usize = std::thread::scope(|scope| {
            let run = || (0..500).filter(|_| limit.admit(5)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, EVENTS_MAX as usize);
        assert_eq!(limit.take_suppressed(), 2000 - u64::from(EVENTS_MAX));
    }
}
