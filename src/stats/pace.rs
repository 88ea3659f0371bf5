//! Detects methods that are too quick to be timed individually.
//!
//! Reading the clock takes about 25 ns, a twentieth of a whole call at full load. So the calls of a method that takes
//! less than a microsecond, the unit of the protocol and the histograms, are timed together; when their mean exceeds
//! it, they are timed one by one again.

use std::time::Duration;

use coreloop_poller::os::thread_usage;

use super::own_time::OwnTime;

/// The number of exact timings after which a method's mean is used.
pub const EXACT_CALLS: u32 = 64;
/// A method with a mean below this is quick.
pub const QUICK: Duration = Duration::from_micros(1);

#[derive(Clone, Copy, Debug)]
struct MethodPace {
    /// Calls to be timed individually before the mean is checked; 0: the method is quick.
    exact_left: u32,
    sum: Duration,
}

const UNKNOWN: MethodPace = MethodPace { exact_left: EXACT_CALLS, sum: Duration::ZERO };

/// The pace of each method, as measured by one thread.
#[derive(Debug, Default)]
pub struct Paces {
    methods: Vec<MethodPace>,
    /// Present if times are to be those that the thread has run.
    own: Option<OwnTime>,
    /// Nanoseconds in which the thread ran calls since they were last taken.
    ran_ns: u64,
}

impl Paces {
    /// Creates the table for this many methods; it grows on demand.
    pub fn new(methods: usize) -> Paces {
        Paces { methods: vec![UNKNOWN; methods], ..Paces::default() }
    }

    /// Creates a table for a thread that may be preempted: [`Paces::own_time`] leaves such time out.
    pub fn of_own_time() -> Paces {
        Paces { own: Some(OwnTime::default()), ..Paces::default() }
    }

    /// Takes note of the time in which the thread ran calls.
    #[inline]
    pub fn note_ran(&mut self, took: Duration) {
        self.ran_ns += took.as_nanos() as u64;
    }

    /// Returns the nanoseconds in which the thread ran calls since the last time.
    pub fn take_ran_ns(&mut self) -> u64 {
        std::mem::take(&mut self.ran_ns)
    }

    /// Returns how much of a measured time this thread has run, if it is much longer than expected and of a thread that
    /// may be preempted.
    #[inline]
    pub fn own_time(&mut self, took: Duration, expected: Duration) -> Duration {
        self.own.as_mut().map_or(took, |own| own.of(took, expected, thread_usage))
    }

    /// Takes note that this thread parks because it has no work.
    pub fn note_park(&mut self) {
        if let Some(own) = &mut self.own {
            own.note_park();
        }
    }

    /// Returns whether the method is known to be quick.
    #[inline]
    pub fn is_quick(&self, method: u32) -> bool {
        self.methods.get(method as usize).is_some_and(|pace| pace.exact_left == 0)
    }

    /// Records a call that was timed individually.
    pub fn note_exact(&mut self, method: u32, took: Duration) {
        if self.methods.len() <= method as usize {
            self.methods.resize(method as usize + 1, UNKNOWN);
        }
        let pace = &mut self.methods[method as usize];
        pace.sum += took;
        pace.exact_left = pace.exact_left.saturating_sub(1);
        if pace.exact_left == 0 {
            let is_quick = pace.sum / EXACT_CALLS < QUICK;
            *pace = if is_quick { MethodPace { exact_left: 0, sum: Duration::ZERO } } else { UNKNOWN };
        }
    }

    /// Records the mean of calls that were timed together.
    pub fn note_mean(&mut self, method: u32, mean: Duration) {
        if mean >= QUICK
            && let Some(pace) = self.methods.get_mut(method as usize)
        {
            *pace = UNKNOWN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_quick_while_its_mean_is_low() {
        let mut paces = Paces::new(1);
        for _ in 0..EXACT_CALLS {
            assert!(!paces.is_quick(3));
            paces.note_exact(3, Duration::from_nanos(300));
        }
        assert!(paces.is_quick(3) && !paces.is_quick(0) && !paces.is_quick(4));
        paces.note_mean(3, Duration::from_nanos(999));
        assert!(paces.is_quick(3));
        paces.note_mean(3, QUICK);
        assert!(!paces.is_quick(3));
    }

    #[test]
    fn a_method_with_a_slow_mean_is_timed_call_by_call() {
        let mut paces = Paces::new(1);
        for _ in 0..10 * EXACT_CALLS {
            paces.note_exact(0, Duration::from_micros(5));
            assert!(!paces.is_quick(0));
        }
    }
}
