//! An adaptive budget: how long a thread polls before it sleeps.
//!
//! It reads no clock and does not spin; the spinning thread reports the result. Waking a thread on another core takes
//! 30 to 40 µs here, while a polling thread sees its work in 0.1 µs; with a single core, spinning only keeps the
//! thread that it waits for from running.

use std::time::Duration;

/// A spin budget: doubles when a spin found work, halves when it found none, and is zero with one allowed core.
///
/// It never falls below a 64th of the maximum, and after 64 empty spins at that minimum it tries the maximum once:
/// otherwise work at a steady interval, longer than the minimum and shorter than the maximum, would never be found
/// again. So idle spinning costs at most twice the minimum per sleep.
///
/// ```
/// use std::time::Duration;
/// use coreloop_poller::SpinBudget;
///
/// let mut spin = SpinBudget::new(Duration::from_micros(64), 4);
/// assert_eq!(spin.budget(), Duration::from_micros(1));
/// spin.on_hit();
/// assert_eq!(spin.budget(), Duration::from_micros(2));
/// assert_eq!(SpinBudget::new(Duration::from_micros(64), 1).budget(), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SpinBudget {
    max_ns: u64,
    /// min <= now_ns <= max_ns, with min from `least_ns()`; all three are zero if spinning is off.
    now_ns: u64,
    /// Consecutive empty spins at the minimum; when the count is full, a probe follows.
    empty_at_least: u8,
    /// This budget is a probe of the maximum: an empty spin resets it to the minimum at once.
    probing: bool,
}

impl SpinBudget {
    /// The minimum is the maximum divided by this.
    const STEPS: u64 = 64;
    /// Empty spins at the minimum before the maximum is tried once.
    const PROBE_AFTER: u8 = 64;

    /// Creates a budget of at most `max` for a thread that may use `cores_allowed` cores (see
    /// [`allowed_cores`](crate::os::allowed_cores)). It begins at the minimum, so that an idle server spends little.
    pub fn new(max: Duration, cores_allowed: usize) -> SpinBudget {
        let max_ns = if cores_allowed > 1 { u64::try_from(max.as_nanos()).unwrap_or(u64::MAX) } else { 0 };
        let mut spin = SpinBudget { max_ns, now_ns: 0, empty_at_least: 0, probing: false };
        spin.now_ns = spin.least_ns();
        spin
    }

    /// Returns how long the next spin may last; zero: sleep at once.
    #[inline]
    pub fn budget(&self) -> Duration {
        Duration::from_nanos(self.now_ns)
    }

    /// Records that a spin found work.
    #[inline]
    pub fn on_hit(&mut self) {
        self.now_ns = self.now_ns.saturating_mul(2).min(self.max_ns);
        self.empty_at_least = 0;
        self.probing = false;
    }

    /// Records that a spin found no work.
    #[inline]
    pub fn on_empty(&mut self) {
        let least_ns = self.least_ns();
        if self.probing {
            self.probing = false;
            self.now_ns = least_ns;
        } else if self.now_ns > least_ns {
            self.now_ns = (self.now_ns / 2).max(least_ns);
        } else {
            self.empty_at_least += 1;
            if self.empty_at_least == SpinBudget::PROBE_AFTER {
                self.empty_at_least = 0;
                self.probing = true;
                self.now_ns = self.max_ns;
            }
        }
    }

    #[inline]
    fn least_ns(&self) -> u64 {
        // At least 1 if spinning is on; doubling 0 would have no effect.
        (self.max_ns / SpinBudget::STEPS).max(1).min(self.max_ns)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_micros(50);

    #[test]
    fn hits_double_up_to_the_maximum() {
        let mut spin = SpinBudget::new(MAX, 2);
        for _ in 0..7 {
            spin.on_hit();
        }
        assert_eq!(spin.budget(), MAX);
        spin.on_hit();
        assert_eq!(spin.budget(), MAX);
        spin.on_empty();
        assert_eq!(spin.budget(), MAX / 2);
    }

    #[test]
    fn one_core_never_spins() {
        for cores in [0, 1] {
            let mut spin = SpinBudget::new(MAX, cores);
            for i in 0..1000 {
                assert_eq!(spin.budget(), Duration::ZERO);
                if i % 3 == 0 { spin.on_hit() } else { spin.on_empty() }
            }
        }
    }

    #[test]
    fn a_long_idle_phase_ends_with_a_hit() {
        for max_ns in [1, 2, 63, 64, 65, 50_000, u64::MAX] {
            let mut spin = SpinBudget::new(Duration::from_nanos(max_ns), 2);
            let mut probes = 0;
            for _ in 0..1000 {
                spin.on_empty();
                assert!(!spin.budget().is_zero());
                probes += (spin.budget().as_nanos() == max_ns as u128) as usize;
            }
            assert!(probes >= 1000 / 65);
            for _ in 0..70 {
                spin.on_hit();
            }
            assert_eq!(spin.budget(), Duration::from_nanos(max_ns));
        }
    }

    #[test]
    fn idling_costs_at_most_twice_the_minimum() {
        let mut spin = SpinBudget::new(Duration::from_micros(64), 2);
        let mut spent = Duration::ZERO;
        for _ in 0..65 * 100 {
            spent += spin.budget();
            spin.on_empty();
        }
        assert!(spent <= Duration::from_micros(2 * 65 * 100));
    }
}
