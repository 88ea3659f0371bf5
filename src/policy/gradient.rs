//! Finds how many calls may be in flight before they only wait for each other.
//!
//! By Little's law a server that completes at most `c` calls/s, each in `t` seconds if it does not wait, has `c × t`
//! calls in flight when it is fully used; further calls wait. That number is not known, but calls that wait are
//! noticed: they take longer than the baseline, the time of calls that do not. As in Gradient2 of Netflix's
//! concurrency-limits (2018), the limit is multiplied by the ratio of the baseline to the present time, within a
//! tolerance, and headroom is added.
//!
//! Gradient2 uses a long-term mean of all calls as the baseline. During a lasting overload this mean includes the waits,
//! so the limit rises with it; and since single calls are compared, times that vary lower the limit more often than they
//! raise it. Here therefore:
//!
//! - The baseline is measured while few calls are in flight, as in Envoy's adaptive concurrency filter: under load the
//!   limit is halved for one measurement after every 64 windows, or earlier when the baseline looks wrong. At times of
//!   low load each window is a measurement.
//! - Means of at least 32 calls are compared, and a call counts for at most four times the baseline, so a few very slow
//!   calls have little effect.
//!
//! While more callers wait than may call, the mean of the limit is between 1 and 2 times `c × t`, plus at most 8; the
//! tests check that with a simulated queue, for times that are constant, vary, or contain outliers.
//!
//! All calls count alike, so the limit suits methods that take about the same time. There is no clock: while no call
//! ends, the limit stays as it is.

use std::time::Duration;

/// The least number of ends in a window. A longer one has as many ends as calls may be in flight, so that it covers
/// about the time of one call.
const WINDOW_ENDS_MIN: u32 = 32;
/// The baseline is measured again after this many windows.
const MEASURE_AFTER_WINDOWS: u32 = 64;
/// A baseline that differs from the last one by more than a quarter is measured again after this many windows.
const CONFIRM_AFTER_WINDOWS: u32 = 8;
/// A window that reduces the limit as far as one may counts as this many: if the calls themselves have become slower,
/// lower limits do not help, and a new baseline does.
const HALVING_WINDOWS: u32 = 8;
/// A call counts at most this many times the baseline.
const BASELINES_MAX: u64 = 4;
/// The share, as a divisor, by which a shorter mean lowers the baseline.
const BASELINE_DIVISOR: u64 = 8;
/// Factors are in units of 1/1024.
const ONE: u64 = 1024;
/// Calls may take 1.25 times the baseline before the limit is reduced.
const TOLERANCE: u64 = ONE * 5 / 4;
/// The target of one adjustment is at least half of the limit.
const GRADIENT_MIN: u64 = ONE / 2;
/// The limit is kept in units of 1/256 call.
const CALL: u64 = 256;

/// An adaptive limit on the calls in flight.
///
/// ```
/// use coreloop::policy::gradient::GradientLimit;
/// use std::time::Duration;
/// let mut gradient = GradientLimit::new(4, 1000);
/// assert_eq!(gradient.limit(), 4);
/// // As many calls as allowed are in flight, and they do not take longer as the limit rises.
/// (0..320).for_each(|_| gradient.on_end(Duration::from_millis(1), gradient.limit()));
/// assert!(gradient.limit() > 8);
/// ```
#[derive(Clone, Debug)]
pub struct GradientLimit {
    limit_min: u32,
    limit_max: u32,
    /// The limit of now: while the baseline is measured, half of the adjusted one.
    limit: u32,
    /// The adjusted limit, in units of 1/`CALL`.
    adjusted: u64,
    /// The mean time of a call that does not wait; 0 before the first window.
    baseline_ns: u64,
    window: EndWindow,
    phase: GradientPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GradientPhase {
    /// The limit is adjusted after each window; the baseline is measured after `windows_left` more.
    Adjusting { windows_left: u32 },
    /// The limit is halved. The calls that began before have ended after `ends_left` more ends.
    Draining { ends_left: u32 },
    /// The limit is halved; the mean of the next two windows is the new baseline.
    Measuring,
}

/// Calls that have ended since the last adjustment.
#[derive(Clone, Copy, Debug, Default)]
struct EndWindow {
    ends: u32,
    sum_ns: u64,
    in_flight_max: u32,
}

impl GradientLimit {
    /// Creates a limit that begins at `limit_min` and remains between `limit_min` and `limit_max`. A `limit_min` of 0 is
    /// 1, and a `limit_max` below `limit_min` is `limit_min`.
    pub fn new(limit_min: u32, limit_max: u32) -> GradientLimit {
        let limit_min = limit_min.max(1);
        GradientLimit {
            limit_min,
            limit_max: limit_max.max(limit_min),
            limit: limit_min,
            adjusted: u64::from(limit_min) * CALL,
            baseline_ns: 0,
            window: EndWindow::default(),
            phase: GradientPhase::Adjusting { windows_left: MEASURE_AFTER_WINDOWS },
        }
    }

    /// Returns how many calls may be in flight now.
    #[inline]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Records the end of a call: how long it `took` from its admission on, and the number of calls in flight before
    /// it ended, itself included.
    #[inline]
    pub fn on_end(&mut self, took: Duration, in_flight: u32) {
        if let GradientPhase::Draining { ends_left } = self.phase {
            self.phase = match ends_left {
                _ if in_flight > self.limit => GradientPhase::Draining { ends_left: self.limit },
                0 | 1 => GradientPhase::Measuring,
                _ => GradientPhase::Draining { ends_left: ends_left - 1 },
            };
            return;
        }
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let counted_max_ns = match self.baseline_ns {
            0 => u64::MAX,
            baseline_ns => baseline_ns.saturating_mul(BASELINES_MAX),
        };
        let window = &mut self.window;
        window.ends += 1;
        window.sum_ns = window.sum_ns.saturating_add(took_ns.min(counted_max_ns));
        window.in_flight_max = window.in_flight_max.max(in_flight);
        let ends = self.limit.max(WINDOW_ENDS_MIN);
        if window.ends >= ends
            && (window.ends >= ends.saturating_mul(2) || self.phase != GradientPhase::Measuring)
        {
            self.end_window();
        }
    }

    #[cold]
    fn end_window(&mut self) {
        let window = std::mem::take(&mut self.window);
        let mean_ns = (window.sum_ns / u64::from(window.ends)).max(1);
        match self.phase {
            // With few calls in flight the limit has no effect, so it does not change.
            GradientPhase::Adjusting { .. } if window.in_flight_max <= self.limit / 2 => {
                self.end_measurement(mean_ns);
            }
            GradientPhase::Adjusting { windows_left } => {
                let windows = self.adjust(mean_ns);
                if windows_left > windows {
                    self.phase = GradientPhase::Adjusting { windows_left: windows_left - windows };
                } else {
                    self.limit = (self.limit / 2).max(self.limit_min);
                    self.phase = GradientPhase::Draining { ends_left: self.limit };
                }
            }
            GradientPhase::Draining { .. } | GradientPhase::Measuring => {
                self.limit = (self.adjusted / CALL) as u32;
                self.end_measurement(mean_ns);
            }
        }
    }

    /// Sets the baseline. A baseline that differs from the last one is soon measured again: it may be wrong because of
    /// few samples, or because half of the limit was still too high.
    fn end_measurement(&mut self, mean_ns: u64) {
        let is_confirmed = mean_ns.abs_diff(self.baseline_ns) <= self.baseline_ns / 4;
        self.baseline_ns = mean_ns;
        let windows_left = if is_confirmed { MEASURE_AFTER_WINDOWS } else { CONFIRM_AFTER_WINDOWS };
        self.phase = GradientPhase::Adjusting { windows_left };
    }

    /// Adjusts the limit after a window, and returns how many windows it counts as towards the next measurement.
    fn adjust(&mut self, mean_ns: u64) -> u32 {
        let mut windows = 1;
        if self.baseline_ns == 0 {
            self.baseline_ns = mean_ns;
        } else if mean_ns < self.baseline_ns / 2 {
            // The baseline is from a time when calls took longer.
            self.baseline_ns = mean_ns;
            windows = MEASURE_AFTER_WINDOWS;
        } else if mean_ns < self.baseline_ns {
            self.baseline_ns -= (self.baseline_ns - mean_ns) / BASELINE_DIVISOR;
        }
        let gradient = self.baseline_ns.saturating_mul(TOLERANCE) / mean_ns;
        if gradient <= GRADIENT_MIN {
            windows = HALVING_WINDOWS;
        }
        // Headroom of √limit: a queue of about this length is needed to keep the server busy when arrivals vary.
        let headroom = (self.adjusted * CALL).isqrt();
        let target = self.adjusted * gradient.clamp(GRADIENT_MIN, ONE) / ONE + headroom;
        // The window contains calls from before the last adjustment, so only half of the way is taken.
        self.adjusted = ((self.adjusted + target) / 2)
            .clamp(u64::from(self.limit_min) * CALL, u64::from(self.limit_max) * CALL);
        self.limit = (self.adjusted / CALL) as u32;
        windows
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::{BinaryHeap, VecDeque};

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    const LIMIT_MAX: u32 = 10_000;
    const BASE_NS: f64 = 1e6;

    /// How the time of a call varies; the mean is near 1.
    #[derive(Clone, Copy, Debug)]
    enum Noise {
        Constant,
        /// Between half and one and a half of the mean.
        Uniform,
        Exponential,
        /// One call in a hundred takes fifty times as long.
        Outliers,
    }

    fn any_noise() -> impl Strategy<Value = Noise> {
        prop_oneof![
            Just(Noise::Constant),
            Just(Noise::Uniform),
            Just(Noise::Exponential),
            Just(Noise::Outliers)
        ]
    }

    /// A queue in front of `servers`, in order of arrival. As many calls as the limit allows are in flight, but at most
    /// `callers`; the capacity is then `servers` calls in flight.
    struct Simulation {
        gradient: GradientLimit,
        servers: usize,
        callers: u32,
        noise: Noise,
        base_ns: f64,
        random: u64,
        now_ns: u64,
        in_flight: u32,
        /// When each call that runs ends, and when it began to wait.
        running: BinaryHeap<Reverse<(u64, u64)>>,
        waiting: VecDeque<u64>,
        /// The sum of the servers' busy times.
        busy_ns: u64,
    }

    /// What a part of the simulation looked like.
    #[derive(Debug)]
    struct Summary {
        limit_least: u32,
        limit_mean: f64,
        limit_most: u32,
        /// The share of the servers' time in which they ran calls.
        utilization: f64,
    }

    impl Simulation {
        fn new(servers: usize, noise: Noise, seed: u64) -> Simulation {
            Simulation {
                gradient: GradientLimit::new(1, LIMIT_MAX),
                servers,
                callers: u32::MAX,
                noise,
                base_ns: BASE_NS,
                random: seed | 1,
                now_ns: 0,
                in_flight: 0,
                running: BinaryHeap::new(),
                waiting: VecDeque::new(),
                busy_ns: 0,
            }
        }

        /// Returns a number between 0 and 1, both excluded (xorshift).
        fn uniform(&mut self) -> f64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            ((self.random >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
        }

        fn service_ns(&mut self) -> u64 {
            let uniform = self.uniform();
            let factor = match self.noise {
                Noise::Constant => 1.0,
                Noise::Uniform => 0.5 + uniform,
                Noise::Exponential => -uniform.ln(),
                Noise::Outliers if uniform < 0.01 => 50.0,
                Noise::Outliers => 0.5 + self.uniform(),
            };
            (self.base_ns * factor) as u64 + 1
        }

        /// Admits what the limit allows, and ends one call.
        fn step(&mut self) {
            while self.in_flight < self.gradient.limit().min(self.callers) {
                self.in_flight += 1;
                self.waiting.push_back(self.now_ns);
            }
            while self.running.len() < self.servers
                && let Some(arrived_ns) = self.waiting.pop_front()
            {
                let service_ns = self.service_ns();
                self.running.push(Reverse((self.now_ns + service_ns, arrived_ns)));
            }
            let running = self.running.len() as u64;
            let Reverse((end_ns, arrived_ns)) = self.running.pop().expect("a call was admitted");
            self.busy_ns += running * (end_ns - self.now_ns);
            self.now_ns = end_ns;
            self.gradient.on_end(Duration::from_nanos(end_ns - arrived_ns), self.in_flight);
            self.in_flight -= 1;
        }

        /// Runs this many periods, each about the time from one measurement of the baseline to the next at capacity.
        fn run(&mut self, periods: u64) -> Summary {
            let steps = periods * u64::from(MEASURE_AFTER_WINDOWS) * (self.servers as u64 * 3 / 2).max(32);
            let (from_ns, busy_from_ns) = (self.now_ns, self.busy_ns);
            let (mut least, mut most, mut sum) = (u32::MAX, 0, 0);
            for _ in 0..steps {
                self.step();
                let limit = self.gradient.limit();
                (least, most, sum) = (least.min(limit), most.max(limit), sum + u64::from(limit));
            }
            Summary {
                limit_least: least,
                limit_mean: sum as f64 / steps as f64,
                limit_most: most,
                utilization: (self.busy_ns - busy_from_ns) as f64
                    / ((self.now_ns - from_ns) as f64 * self.servers as f64),
            }
        }
    }

    #[test]
    fn the_limits_of_the_limit_are_put_in_order() {
        assert_eq!(GradientLimit::new(0, 0).limit(), 1);
        let mut gradient = GradientLimit::new(8, 3);
        (0..10_000).for_each(|_| gradient.on_end(Duration::from_millis(1), 8));
        assert_eq!(gradient.limit(), 8);
    }

    #[test]
    fn without_waits_the_limit_rises_to_its_maximum() {
        let mut gradient = GradientLimit::new(1, 500);
        let mut most = 0;
        for _ in 0..50_000 {
            gradient.on_end(Duration::from_millis(1), gradient.limit());
            most = most.max(gradient.limit());
        }
        assert_eq!(most, 500);
    }

    #[test]
    fn the_limit_is_halved_for_a_measurement_and_then_restored() {
        let mut gradient = GradientLimit::new(1, 100);
        let end =
            |gradient: &mut GradientLimit, ms| gradient.on_end(Duration::from_millis(ms), gradient.limit());
        let ends = (0..100_000).take_while(|_| {
            end(&mut gradient, 1);
            matches!(gradient.phase, GradientPhase::Adjusting { .. })
        });
        assert!(ends.count() > 64 * 32);
        assert_eq!(gradient.limit(), 50);
        // Calls in flight beyond the halved limit, and as many again that may have waited for them, do not count.
        (60..=100).rev().for_each(|in_flight| gradient.on_end(Duration::from_secs(9), in_flight));
        (0..50).for_each(|_| gradient.on_end(Duration::from_secs(9), 50));
        assert_eq!(gradient.phase, GradientPhase::Measuring);
        (0..100).for_each(|_| end(&mut gradient, 2));
        assert_eq!((gradient.limit(), gradient.baseline_ns), (100, 2_000_000));
        assert_eq!(gradient.phase, GradientPhase::Adjusting { windows_left: CONFIRM_AFTER_WINDOWS });
    }

    #[test]
    fn the_baseline_is_soon_measured_again_if_calls_become_much_slower_or_faster() {
        for (ms, windows_max) in [(100, MEASURE_AFTER_WINDOWS / HALVING_WINDOWS), (1, 2)] {
            let mut gradient = GradientLimit::new(1, 32);
            let windows_until_measurement = |gradient: &mut GradientLimit, ms| {
                let ends = (0..100_000).take_while(|_| {
                    gradient.on_end(Duration::from_millis(ms), gradient.limit());
                    matches!(gradient.phase, GradientPhase::Adjusting { .. })
                });
                (ends.count() as u32 + 1).div_ceil(WINDOW_ENDS_MIN)
            };
            assert_eq!(windows_until_measurement(&mut gradient, 10), MEASURE_AFTER_WINDOWS);
            while !matches!(gradient.phase, GradientPhase::Adjusting { .. }) {
                gradient.on_end(Duration::from_millis(10), gradient.limit());
            }
            let windows = windows_until_measurement(&mut gradient, ms);
            assert!(windows <= windows_max, "{windows} windows at {ms} ms");
        }
    }

    #[test]
    fn a_limit_that_is_far_from_used_does_not_change() {
        let mut simulation = Simulation::new(64, Noise::Uniform, 1);
        simulation.run(2);
        while !matches!(simulation.gradient.phase, GradientPhase::Adjusting { .. }) {
            simulation.step();
        }
        let limit = simulation.gradient.limit();
        assert!(limit > 64, "{limit}");
        simulation.callers = limit / 4;
        // The first windows still contain calls from before.
        (0..4 * limit).for_each(|_| simulation.step());
        let limit = simulation.gradient.limit();
        let summary = simulation.run(4);
        assert_eq!((summary.limit_least, summary.limit_most), (limit, limit));
    }

    proptest! {
        // The bounds hold for nearly all courses of events, not for every one, so the cases are always the same.
        #![proptest_config(ProptestConfig { cases: 16, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn settles_near_the_capacity(servers in 1..80_usize, noise in any_noise(), seed in any::<u64>()) {
            let mut simulation = Simulation::new(servers, noise, seed);
            simulation.run(4);
            let summary = simulation.run(4);
            let capacity = servers as f64;
            prop_assert!(summary.limit_mean >= capacity, "{summary:?}");
            prop_assert!(summary.limit_mean <= 2.0 * capacity + 8.0, "{summary:?}");
            prop_assert!(summary.utilization >= 0.95, "{summary:?}");
            // Half of it for a measurement, and no collapse because of the noise.
            prop_assert!(f64::from(summary.limit_least) >= capacity / 4.0, "{summary:?}");
        }

        #[test]
        fn recovers_after_a_slow_phase(
            servers in 1..80_usize,
            noise in any_noise(),
            seed in any::<u64>(),
            slower in 2..100_u32,
            slow_periods in 1..4_u64,
        ) {
            let mut simulation = Simulation::new(servers, noise, seed);
            simulation.run(2);
            simulation.base_ns = BASE_NS * f64::from(slower);
            simulation.run(slow_periods);
            simulation.base_ns = BASE_NS;
            simulation.run(6);
            let (summary, capacity) = (simulation.run(2), servers as f64);
            prop_assert!(summary.utilization >= 0.9, "{summary:?}");
            prop_assert!((capacity..=3.0 * capacity + 8.0).contains(&summary.limit_mean), "{summary:?}");
        }

        #[test]
        fn a_long_slow_phase_does_not_keep_the_limit_low(
            servers in 1..80_usize, noise in any_noise(), seed in any::<u64>(), slower in 2..100_u32,
        ) {
            let mut simulation = Simulation::new(servers, noise, seed);
            simulation.run(2);
            simulation.base_ns = BASE_NS * f64::from(slower);
            simulation.run(4);
            let summary = simulation.run(2);
            prop_assert!(summary.utilization >= 0.9, "{summary:?}");
        }

        #[test]
        fn follows_the_capacity(
            before in 1..80_usize, after in 1..80_usize, noise in any_noise(), seed in any::<u64>(),
        ) {
            let mut simulation = Simulation::new(before, noise, seed);
            simulation.run(2);
            simulation.servers = after;
            simulation.run(8);
            let (summary, capacity) = (simulation.run(2), after as f64);
            prop_assert!(summary.utilization >= 0.9, "{summary:?}");
            prop_assert!((capacity..=3.0 * capacity + 8.0).contains(&summary.limit_mean), "{summary:?}");
        }

        #[test]
        fn rises_no_further_than_is_used(
            callers in 1..50_u32, noise in any_noise(), seed in any::<u64>(),
        ) {
            let mut simulation = Simulation::new(1_000, noise, seed);
            simulation.callers = callers;
            let summary = simulation.run(1);
            // One last rise begins just below twice the use.
            let used = f64::from(2 * callers);
            prop_assert!(f64::from(summary.limit_most) <= used + used.sqrt() / 2.0 + 1.0, "{summary:?}");
        }

        #[test]
        fn no_time_and_no_number_of_calls_leads_out_of_the_bounds(
            limit_min in any::<u32>(),
            limit_max in any::<u32>(),
            ends in proptest::collection::vec(
                (prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any::<Duration>()], any::<u32>()), 1..20
            ),
        ) {
            for (limit_min, limit_max) in [(limit_min, limit_max), (limit_min % 8, limit_max % 64)] {
                let mut gradient = GradientLimit::new(limit_min, limit_max);
                let (least, most) = (limit_min.max(1), limit_max.max(limit_min).max(1));
                for (took, in_flight) in ends.iter().cycle().take(5_000) {
                    gradient.on_end(*took, *in_flight);
                    prop_assert!((least..=most).contains(&gradient.limit()));
                }
            }
        }
    }
}
