//! Computes when the calls of an open loop are due, and which method each calls: at a rate, or from a list. It uses
//! neither clocks nor sockets.
//!
//! A schedule is fixed before the run and is not adjusted: a call that could not leave in time stays due at its
//! original time. So waiting calls need no memory: they are the part of the schedule not yet taken.

use std::sync::Arc;

/// A small random number generator (SplitMix64): the same seed gives the same run with every version.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Creates the sequence of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Returns the next number.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number above 0 and at most 1.
    #[inline]
    fn unit(&mut self) -> f64 {
        ((self.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

/// The spacing of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Even spacing.
    Fixed,
    /// The spacing of many independent callers: exponential gaps, drawn from the seed.
    Poisson,
    /// The recorded spacing.
    #[value(skip)]
    Recorded,
}

/// A call of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When the call is due, in ns from the start.
    pub due_ns: u64,
    /// The connection that makes it; the connections of one thread are numbered from 0.
    pub link: u32,
    /// The index of the request to send.
    pub request: u32,
    /// The index in the mix under which it is counted.
    pub method: u16,
}

/// The due times of one thread's calls, in ns from the start, in order.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    /// Fixed: the mean gap between the calls of all threads. Poisson: between the calls of this thread.
    gap_ns: f64,
    /// Fixed: this thread takes the calls `index`, `index + step` …
    index: u64,
    step: u64,
    random: Random,
    at_ns: f64,
    /// The calls, if they are listed; then `index` is the position of the next.
    list: Option<Arc<[Entry]>>,
}

impl Schedule {
    /// Creates the share of thread number `thread` of `threads` in `rate` calls per second.
    pub fn new(arrivals: Arrivals, rate: f64, thread: u64, threads: u64, seed: u64) -> Schedule {
        let gap_ns = match arrivals {
            Arrivals::Fixed => 1e9 / rate,
            // The union of independent Poisson streams is a Poisson stream with the sum of their rates.
            Arrivals::Poisson | Arrivals::Recorded => 1e9 / rate * threads as f64,
        };
        let mut schedule = Schedule {
            arrivals,
            gap_ns,
            index: thread,
            step: threads,
            random: Random::new(seed ^ thread.wrapping_mul(0xa076_1d64_78bd_642f)),
            at_ns: 0.0,
            list: None,
        };
        schedule.at_ns = match arrivals {
            Arrivals::Fixed => thread as f64 * gap_ns,
            Arrivals::Poisson | Arrivals::Recorded => schedule.exponential(),
        };
        schedule
    }

    /// Creates a schedule of these calls, which are in order of their times.
    pub fn listed(list: Arc<[Entry]>) -> Schedule {
        let mut schedule = Schedule {
            arrivals: Arrivals::Recorded,
            gap_ns: 0.0,
            index: 0,
            step: 1,
            random: Random::new(0),
            at_ns: 0.0,
            list: Some(list),
        };
        schedule.at_ns = schedule.listed_ns();
        schedule
    }

    /// Returns the next call, if the calls are listed.
    #[inline]
    pub fn entry(&self) -> Option<Entry> {
        self.list.as_ref()?.get(self.index as usize).copied()
    }

    /// Returns whether the calls are listed.
    #[inline]
    pub fn is_listed(&self) -> bool {
        self.list.is_some()
    }

    /// Returns when the next listed call is due; after the last one, never.
    fn listed_ns(&self) -> f64 {
        self.entry().map_or(f64::INFINITY, |entry| entry.due_ns as f64)
    }

    /// Returns when the next call is due.
    #[inline]
    pub fn next_ns(&self) -> u64 {
        self.at_ns as u64
    }

    /// Takes the next call.
    #[inline]
    pub fn advance(&mut self) {
        match self.arrivals {
            // Computed from the index and not by adding gaps, so that errors do not accumulate over a day of calls.
            Arrivals::Fixed => {
                self.index += self.step;
                self.at_ns = self.index as f64 * self.gap_ns;
            }
            Arrivals::Poisson => self.at_ns += self.exponential(),
            Arrivals::Recorded => {
                self.index += 1;
                self.at_ns = self.listed_ns();
            }
        }
    }

    /// Takes all calls due before `ns` and returns their number.
    pub fn take_before(&mut self, ns: u64) -> u64 {
        let mut taken = 0;
        while self.next_ns() < ns {
            self.advance();
            taken += 1;
        }
        taken
    }

    #[inline]
    fn exponential(&mut self) -> f64 {
        -self.random.unit().ln() * self.gap_ns
    }
}

/// Draws methods by weight.
#[derive(Clone, Debug)]
pub struct Picker {
    /// The cumulative sums of the weights.
    sums: Vec<u64>,
    random: Random,
}

impl Picker {
    /// Creates a picker. There is at least one weight, and all are above 0.
    pub fn new(weights: &[u32], seed: u64) -> Picker {
        let mut sum = 0;
        let sums = weights.iter().map(|weight| {
            sum += u64::from(*weight);
            sum
        });
        Picker { sums: sums.collect(), random: Random::new(seed) }
    }

    /// Returns the index of the next method among the weights.
    #[inline]
    pub fn pick(&mut self) -> usize {
        if self.sums.len() < 2 {
            return 0;
        }
        let all = self.sums[self.sums.len() - 1];
        let drawn = ((u128::from(self.random.draw()) * u128::from(all)) >> 64) as u64;
        self.sums.partition_point(|sum| *sum <= drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(mut schedule: Schedule, end_ns: u64) -> Vec<u64> {
        std::iter::from_fn(move || {
            let at = schedule.next_ns();
            schedule.advance();
            (at < end_ns).then_some(at)
        })
        .collect()
    }

    #[test]
    fn threads_share_evenly_spaced_calls() {
        let alone = times(Schedule::new(Arrivals::Fixed, 1000.0, 0, 1, 1), 1_000_000_000);
        assert_eq!(alone.len(), 1000);
        assert!(alone.windows(2).all(|pair| pair[1] - pair[0] == 1_000_000));
        let mut shared: Vec<u64> = (0..3)
            .flat_map(|thread| times(Schedule::new(Arrivals::Fixed, 1000.0, thread, 3, 1), 1_000_000_000))
            .collect();
        shared.sort_unstable();
        assert_eq!(shared, alone);
    }

    #[test]
    fn listed_calls_are_due_as_listed() {
        let entry = |due_ns, request| Entry { due_ns, link: 3, request, method: 0 };
        let list = [entry(0, 5), entry(10, 6), entry(10, 7)];
        let mut schedule = Schedule::listed(list.as_slice().into());
        assert_eq!((schedule.next_ns(), schedule.entry()), (0, Some(list[0])));
        schedule.advance();
        assert_eq!((schedule.take_before(11), schedule.entry(), schedule.next_ns()), (2, None, u64::MAX));
        schedule.advance();
        assert_eq!(schedule.next_ns(), u64::MAX);
        assert_eq!(Schedule::listed([].as_slice().into()).next_ns(), u64::MAX);
    }

    #[test]
    fn long_fixed_schedule_does_not_drift() {
        let mut schedule = Schedule::new(Arrivals::Fixed, 30_000.0, 0, 1, 1);
        assert_eq!(schedule.take_before(100_000_000_000), 3_000_000);
        assert_eq!(schedule.next_ns(), 100_000_000_000);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let all: Vec<Vec<u64>> = (0..2)
            .map(|thread| times(Schedule::new(Arrivals::Poisson, 10_000.0, thread, 2, 7), 20_000_000_000))
            .collect();
        assert_ne!(all[0][..10], all[1][..10], "threads have streams of their own");
        let gaps: Vec<f64> =
            all.iter().flat_map(|times| times.windows(2).map(|pair| (pair[1] - pair[0]) as f64)).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // 200 000 gaps with a fixed seed: 1 % is more than four standard errors.
        assert!((mean / 200_000.0 - 1.0).abs() < 0.01, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.01, "an exponential's deviation is its mean");
        assert_eq!(all[1], times(Schedule::new(Arrivals::Poisson, 10_000.0, 1, 2, 7), 20_000_000_000));
    }

    #[test]
    fn calls_not_taken_keep_their_due_time() {
        // A fake clock that does not advance for half a second: the calls of that time keep their times.
        let mut schedule = Schedule::new(Arrivals::Fixed, 100.0, 0, 1, 1);
        schedule.take_before(500_000_000);
        let resumed_ns = 1_000_000_000;
        let mut waits = Vec::new();
        while schedule.next_ns() < resumed_ns {
            waits.push(resumed_ns - schedule.next_ns());
            schedule.advance();
        }
        assert_eq!(waits.len(), 50);
        assert_eq!((waits[0], waits[49]), (500_000_000, 10_000_000));
    }

    #[test]
    fn methods_come_by_their_weights() {
        let mut picker = Picker::new(&[99, 1], 3);
        let mut counts = [0; 2];
        for _ in 0..100_000 {
            counts[picker.pick()] += 1;
        }
        // 1 000 expected with a deviation of 31; the seed is fixed.
        assert!((850..1150).contains(&counts[1]), "{counts:?}");
        let mut alone = Picker::new(&[5], 3);
        assert!((0..10).all(|_| alone.pick() == 0));
    }
}
