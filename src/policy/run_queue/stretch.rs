//! How much longer calls wait than the handlers before them take.

use std::time::{Duration, Instant};

/// The ratio is kept in units of 1/1024.
const ONE: u64 = 1024;
/// A wait changes the ratio by this fraction of the difference (1/64).
const DIVISOR: u64 = 64;
/// The ratio is between a quarter and this.
const MAX: u64 = 32 * ONE;
/// Shorter waits say nothing about the ratio: a turn of the reactor takes as long.
const WAIT_NS_MIN: u64 = 200_000;
/// Without a wait for this time, the ratio loses half of its difference from 1: an overload that has passed must not have
/// calls refused that would not wait for long.
const HALVED_AFTER: Duration = Duration::from_millis(500);

/// The ratio of the time that calls wait to the time that the handlers before them take: the workers' cores do other work
/// too, such as reading, writing, and refusing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    ratio: u64,
    /// When it was last changed, by a wait or by the time without one.
    changed: Option<Instant>,
}

impl Default for Stretch {
    fn default() -> Stretch {
        Stretch { ratio: ONE, changed: None }
    }
}

impl Stretch {
    /// Returns the nanoseconds in which the workers do that much work each.
    pub fn of(&self, work_ns: u64) -> u64 {
        work_ns.saturating_mul(self.ratio) / ONE
    }

    /// Takes note of how long a call has waited for the work before it.
    pub fn note_wait(&mut self, before_ns: u64, waited: Duration, now: Instant) {
        if before_ns < WAIT_NS_MIN {
            return;
        }
        let waited_ns = waited.as_nanos().min(1 << 40) as u64;
        let sample = (waited_ns * ONE / before_ns).clamp(ONE / 4, MAX);
        self.ratio = (self.ratio * (DIVISOR - 1) + sample).div_ceil(DIVISOR);
        self.changed = Some(now);
    }

    /// Takes note of the time that has passed without a wait.
    pub fn relax(&mut self, now: Instant) {
        let Some(changed) = self.changed else { return };
        let halvings = now.saturating_duration_since(changed).as_millis() / HALVED_AFTER.as_millis();
        if halvings > 0 {
            let difference = self.ratio as i64 - ONE as i64;
            self.ratio = (ONE as i64 + (difference >> halvings.min(63))) as u64;
            self.changed = Some(now);
        }
    }
}
