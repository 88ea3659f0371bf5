//! How long a thread polls before it sleeps: a budget that learns.
//!
//! It holds no clock and does not spin; the spinning thread reports how it ended. Waking a thread on another core
//! takes 30 to 40 µs here, a thread that polls sees its work in 0.1 µs; with a single core, spinning only keeps
//! the one it waits for from running.

use std::time::Duration;

/// How long to poll without sleeping: doubles when a spin found work, halves when it ended empty, and is zero
/// with one allowed core.
///
/// It never falls below a 64th of the maximum, and after 64 empty spins there it tries the maximum once:
/// work that comes at a steady pace, longer than the least budget and shorter than the greatest, would otherwise
/// never be met again. So idle spinning costs at most twice the least budget per sleep.
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
    /// least_ns() <= now_ns <= max_ns; all three are zero where spinning is off.
    now_ns: u64,
    /// Empty spins in a row with the least budget; the last one before it wraps is followed by a probe.
    empty_at_least: u8,
    /// This budget is the maximum on trial: an empty end sends it back to the least at once.
    probing: bool,
}

impl SpinBudget {
    /// The least budget is the maximum divided by this.
    const STEPS: u64 = 64;
    /// Empty spins at the least budget before the maximum is tried once.
    const PROBE_AFTER: u8 = 64;

    /// A budget of at most `max` for a thread that may use `cores_allowed` cores (see
    /// [`allowed_cores`](crate::os::allowed_cores)). It begins at the least, so that an idle server pays little.
    pub fn new(max: Duration, cores_allowed: usize) -> SpinBudget {
        let max_ns = if cores_allowed > 1 { u64::try_from(max.as_nanos()).unwrap_or(u64::MAX) } else { 0 };
        let mut spin = SpinBudget { max_ns, now_ns: 0, empty_at_least: 0, probing: false };
        spin.now_ns = spin.least_ns();
        spin
    }

    /// How long the next spin may last; zero: sleep at once.
    #[inline]
    pub fn budget(&self) -> Duration {
        Duration::from_nanos(self.now_ns)
    }

    /// A spin found work.
    #[inline]
    pub fn on_hit(&mut self) {
        self.now_ns = self.now_ns.saturating_mul(2).min(self.max_ns);
        self.empty_at_least = 0;
        self.probing = false;
    }

    /// A spin ended with nothing found.
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
        // At least 1 where spinning is on, or doubling would lead nowhere.
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
    fn long_drought_is_survived() {
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
    fn drought_costs_at_most_twice_the_least() {
        let mut spin = SpinBudget::new(Duration::from_micros(64), 2);
        let mut spent = Duration::ZERO;
        for _ in 0..65 * 100 {
            spent += spin.budget();
            spin.on_empty();
        }
        assert!(spent <= Duration::from_micros(2 * 65 * 100));
    }
}
