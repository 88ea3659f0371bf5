//! The time that a call itself took, where its thread did not run all the time.
//!
//! A worker may share its core with its reactor or with other programs. A call during which the thread was preempted for
//! milliseconds has not used that time, and its source must not be charged for it: the next calls of that source would
//! wait for as long. The system knows what a thread has used, but asking costs as much as a quick call, so it is asked
//! only when a call takes much longer than expected, and now and then to have a time to compare with.

use std::time::Duration;

use coreloop_poller::os::ThreadUsage;

/// A shorter time is taken as it is.
const SUSPECT_MIN: Duration = Duration::from_micros(200);
/// A time is in doubt if it is more than this many times the expected one.
const SUSPECT_FACTOR: u32 = 4;
/// The thread's usage is read again after this many measured times, or this much time in all.
const TIMES_MAX: u32 = 64;
const SUM_MAX: Duration = Duration::from_millis(1);

/// What one thread has used since the last reading.
#[derive(Debug, Default)]
pub struct OwnTime {
    before: Option<ThreadUsage>,
    /// How often the thread has parked, for lack of work, since then.
    parks: u64,
    times: u32,
    sum: Duration,
}

impl OwnTime {
    /// Takes note that the thread parks because it has no work.
    #[inline]
    pub fn note_park(&mut self) {
        self.parks += 1;
    }

    /// Takes note of a measured time, and returns how much of it the thread has run. If the thread has waited since the
    /// last reading other than for work, it may have been in this call, which then occupied it all the time.
    #[inline]
    pub fn of(
        &mut self,
        took: Duration,
        expected: Duration,
        read: impl FnOnce() -> Option<ThreadUsage>,
    ) -> Duration {
        let is_suspect = took >= SUSPECT_MIN && took > expected * SUSPECT_FACTOR;
        if !is_suspect && self.times < TIMES_MAX && self.sum < SUM_MAX {
            self.times += 1;
            self.sum += took;
            return took;
        }
        self.compare(took, is_suspect, read())
    }

    #[cold]
    fn compare(&mut self, took: Duration, is_suspect: bool, now: Option<ThreadUsage>) -> Duration {
        let (before, others) = (std::mem::replace(&mut self.before, now), self.sum);
        let parks = std::mem::take(&mut self.parks);
        (self.times, self.sum) = (0, Duration::ZERO);
        match (before, now) {
            (Some(before), Some(now)) if is_suspect && now.waits - before.waits <= parks => {
                now.cpu.saturating_sub(before.cpu).saturating_sub(others).min(took)
            }
            _ => took,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// A thread whose usage the test sets.
    #[derive(Default)]
    struct Thread {
        own: OwnTime,
        usage: ThreadUsage,
        reads: u32,
    }

    impl Thread {
        /// A call that runs for `runs_us`, while the thread does not run for `stopped_us`.
        fn call(&mut self, runs_us: u32, stopped_us: u32, expected_us: u32) -> Duration {
            self.usage.cpu += US * runs_us;
            let (usage, reads) = (self.usage, &mut self.reads);
            self.own.of(US * (runs_us + stopped_us), US * expected_us, || {
                *reads += 1;
                Some(usage)
            })
        }
    }

    #[test]
    fn time_in_which_the_thread_was_preempted_is_not_charged() {
        let mut thread = Thread::default();
        for _ in 0..=TIMES_MAX {
            assert_eq!(thread.call(2, 0, 2), US * 2);
        }
        assert_eq!(thread.reads, 1, "a reading to compare with");
        for _ in 0..10 {
            thread.call(2, 0, 2);
        }
        assert_eq!(thread.call(3, 4_000, 2), US * 3);
        assert_eq!(thread.reads, 2);
        assert_eq!(thread.call(3_000, 0, 2), US * 3_000, "a call that did run that long is charged for it");
    }

    #[test]
    fn a_call_that_waits_is_charged_for_the_time_that_it_occupies_its_thread() {
        let mut thread = Thread::default();
        thread.call(4_000, 0, 2);
        thread.usage.waits += 1;
        assert_eq!(thread.call(3, 4_000, 2), US * 4_003);
        // It has waited for work, too.
        thread.own.note_park();
        thread.usage.waits += 2;
        assert_eq!(thread.call(3, 4_000, 2), US * 4_003);
        thread.own.note_park();
        thread.usage.waits += 1;
        assert_eq!(thread.call(3, 4_000, 2), US * 3);
    }

    #[test]
    fn long_calls_that_are_expected_to_be_long_need_no_reading_of_their_own() {
        let mut thread = Thread::default();
        for _ in 0..100 {
            assert_eq!(thread.call(4_000, 1_000, 4_000), US * 5_000);
        }
        assert!(thread.reads <= 50, "{}", thread.reads);
    }

    #[test]
    fn without_a_reading_the_time_is_taken_as_it_is() {
        let mut own = OwnTime::default();
        assert_eq!(own.of(US * 9_000, US, || None), US * 9_000);
        assert_eq!(own.of(US * 9_000, US, || None), US * 9_000);
    }
}
