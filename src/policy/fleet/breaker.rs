//! The circuit breaker of one endpoint: a pure function of state, event and time.
//!
//! Closed, it counts the attempts of a window and opens when both the number and the share of failures are too large.
//! Open, it waits; half-open, it admits one probe at a time, and a few successes in a row close it (Michael Nygard,
//! "Release It!", 2007). Whether an endpoint with an open breaker is used anyway, because too many are open, is decided
//! in `ejection.rs`.

use crate::random::mix;

/// The settings of the circuit breakers. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// Failed attempts within [`BreakerConfig::window_ms`] at which a breaker may open. Default 20; 0 disables breakers.
    /// Too small: a few failures by chance eject an endpoint. Too large: an endpoint with few calls is never ejected.
    pub failures_min: u32,

    /// The window in which attempts are counted. Default 10 000, from 100 to 3 600 000; it advances in tenths. Too small:
    /// [`BreakerConfig::failures_min`] is never reached. Too large: failures long ago open a breaker.
    pub window_ms: u64,

    /// The success rate in the window, in percent, below which a breaker opens if there are enough failures. Default 95,
    /// from 0 to 100; 101 opens it by the number of failures alone. Too small: an endpoint that fails often stays in use.
    /// Too large: an endpoint with many calls opens with few failures.
    pub success_min_percent: u32,

    /// The time that a breaker is open before it admits a probe. Default 60 000. Too small: a broken endpoint gets probes,
    /// which fail, all the time. Too large: one that has recovered is not used.
    pub open_ms: u64,

    /// The largest random addition to [`BreakerConfig::open_ms`], in percent of it, so that the clients of an endpoint do
    /// not probe it at the same time. Default 10, from 0 to 100.
    pub open_jitter_percent: u32,

    /// Probes in a row that must succeed to close a half-open breaker. Default 3, at least 1. Too small: one success by
    /// chance closes it. Too large: an endpoint with few calls stays half-open.
    pub successes_to_close: u32,

    /// The time after which a probe without an end is given up, so that the next one is admitted. Default 10 000. Too
    /// small: slow methods put several probes in flight. Too large: a lost probe delays the recovery.
    pub probe_timeout_ms: u64,

    /// The share of the endpoints that may be ejected at the same time, by breakers and by health checks together, in
    /// percent, rounded down. Default 50, from 0 to 100. At the limit: the endpoints with the fewest failures stay in use
    /// though they would be ejected. Too small: broken endpoints get calls. Too large: the remaining endpoints are
    /// overloaded; with 100, calls fail at once when all are ejected.
    pub ejected_max_percent: u32,
}

impl Default for BreakerConfig {
    fn default() -> BreakerConfig {
        BreakerConfig {
            failures_min: 20,
            window_ms: 10_000,
            success_min_percent: 95,
            open_ms: 60_000,
            open_jitter_percent: 10,
            successes_to_close: 3,
            probe_timeout_ms: 10_000,
            ejected_max_percent: 50,
        }
    }
}

const NS_PER_MS: u64 = 1_000_000;

/// The buckets of a window.
const BUCKETS: usize = 10;

/// The successes and failures of the last [`BUCKETS`] buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    /// The number of the newest bucket since the beginning of time.
    newest: u64,
    successes: [u32; BUCKETS],
    failures: [u32; BUCKETS],
    successes_sum: u32,
    failures_sum: u32,
}

impl Window {
    const EMPTY: Window = Window {
        newest: 0,
        successes: [0; BUCKETS],
        failures: [0; BUCKETS],
        successes_sum: 0,
        failures_sum: 0,
    };

    /// Makes the bucket of this number the newest. An older one, after a clock that went back, changes nothing.
    #[inline]
    fn advance(&mut self, number: u64) {
        if number > self.newest {
            self.drop_expired(number);
        }
    }

    fn drop_expired(&mut self, number: u64) {
        let expired = (number - self.newest).min(BUCKETS as u64);
        for step in 1..=expired {
            let bucket = ((self.newest + step) % BUCKETS as u64) as usize;
            self.successes_sum -= self.successes[bucket];
            self.failures_sum -= self.failures[bucket];
            self.successes[bucket] = 0;
            self.failures[bucket] = 0;
        }
        self.newest = number;
    }

    #[inline]
    fn add(&mut self, is_success: bool) {
        let bucket = (self.newest % BUCKETS as u64) as usize;
        let (counts, sum) = if is_success {
            (&mut self.successes, &mut self.successes_sum)
        } else {
            (&mut self.failures, &mut self.failures_sum)
        };
        // The sum is at least each of its buckets: where it does not overflow, they do not.
        if *sum < u32::MAX {
            *sum += 1;
            counts[bucket] += 1;
        }
    }
}

/// The state of a breaker without its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakerState {
    /// Attempts run.
    Closed,
    /// None runs until this time.
    Open {
        /// In nanoseconds.
        until_ns: u64,
    },
    /// One runs at a time.
    HalfOpen {
        /// Successes in a row.
        successes: u32,
        /// When the probe in flight began, in nanoseconds.
        probe_at_ns: Option<u64>,
    },
}

/// What happens to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakerEvent {
    /// Time has passed.
    Tick,
    /// An attempt begins.
    Picked,
    /// An attempt succeeded.
    Success,
    /// An attempt failed.
    Failure,
    /// An attempt ended that says nothing: it was refused by a limit, or cancelled.
    Neither,
}

/// A change of the state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakerChange {
    Opened,
    HalfOpened,
    Closed,
}

/// A circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Breaker {
    state: BreakerState,
    window: Window,
    /// Failures in the window when it opened last.
    failures_at_open: u32,
    /// From which the jitter of the next opening is drawn.
    seed: u64,
}

impl Breaker {
    /// Creates a closed breaker. Its jitter depends on the seed.
    pub fn new(seed: u64) -> Breaker {
        Breaker { state: BreakerState::Closed, window: Window::EMPTY, failures_at_open: 0, seed }
    }

    /// Returns the breaker after an event, and what has changed. Times are in nanoseconds.
    #[inline]
    pub fn next(
        mut self,
        event: BreakerEvent,
        now_ns: u64,
        config: &BreakerConfig,
    ) -> (Breaker, Option<BreakerChange>) {
        self.window.advance(now_ns / (config.window_ms * NS_PER_MS / BUCKETS as u64));
        let is_end = matches!(event, BreakerEvent::Success | BreakerEvent::Failure);
        if is_end {
            self.window.add(event == BreakerEvent::Success);
        }
        let change = match self.state {
            BreakerState::Closed if event == BreakerEvent::Failure && self.is_failing(config) => {
                Some(self.open(now_ns, config))
            }
            BreakerState::Closed => None,
            BreakerState::Open { until_ns } if now_ns >= until_ns => {
                self.state = BreakerState::HalfOpen { successes: 0, probe_at_ns: None };
                // The end of an attempt that began before is no probe; the begin of one is.
                if event == BreakerEvent::Picked {
                    self.state = BreakerState::HalfOpen { successes: 0, probe_at_ns: Some(now_ns) };
                }
                Some(BreakerChange::HalfOpened)
            }
            BreakerState::Open { .. } => None,
            BreakerState::HalfOpen { successes, .. } => match event {
                BreakerEvent::Tick => None,
                BreakerEvent::Picked => {
                    self.state = BreakerState::HalfOpen { successes, probe_at_ns: Some(now_ns) };
                    None
                }
                BreakerEvent::Success if successes + 1 >= config.successes_to_close => {
                    self.state = BreakerState::Closed;
                    self.window = Window { newest: self.window.newest, ..Window::EMPTY };
                    Some(BreakerChange::Closed)
                }
                BreakerEvent::Success => {
                    self.state = BreakerState::HalfOpen { successes: successes + 1, probe_at_ns: None };
                    None
                }
                // An end without a probe in flight is that of an attempt from before: a failure still counts.
                BreakerEvent::Failure => Some(self.open(now_ns, config)),
                BreakerEvent::Neither => {
                    self.state = BreakerState::HalfOpen { successes, probe_at_ns: None };
                    None
                }
            },
        };
        (self, change)
    }

    fn is_failing(&self, config: &BreakerConfig) -> bool {
        let (failures, successes) =
            (u64::from(self.window.failures_sum), u64::from(self.window.successes_sum));
        config.failures_min != 0
            && failures >= u64::from(config.failures_min)
            && successes * 100 < (successes + failures) * u64::from(config.success_min_percent)
    }

    fn open(&mut self, now_ns: u64, config: &BreakerConfig) -> BreakerChange {
        self.seed = mix(self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let open_ns = config.open_ms.saturating_mul(NS_PER_MS);
        let jitter = u128::from(open_ns) * u128::from(config.open_jitter_percent) / 100;
        let jitter_ns = ((jitter * u128::from(self.seed)) >> 64) as u64;
        self.state =
            BreakerState::Open { until_ns: now_ns.saturating_add(open_ns).saturating_add(jitter_ns) };
        self.failures_at_open = self.window.failures_sum;
        BreakerChange::Opened
    }

    /// Returns the state.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Returns whether it is closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    /// Returns whether it is half-open and admits a probe now.
    pub fn admits_probe(&self, now_ns: u64, config: &BreakerConfig) -> bool {
        let timeout_ns = config.probe_timeout_ms * NS_PER_MS;
        match self.state {
            BreakerState::HalfOpen { probe_at_ns: Some(at_ns), .. } => {
                now_ns >= at_ns.saturating_add(timeout_ns)
            }
            BreakerState::HalfOpen { probe_at_ns: None, .. } => true,
            BreakerState::Closed | BreakerState::Open { .. } => false,
        }
    }

    /// Returns the failures by which endpoints are ranked: those of the window now, or when the breaker opened.
    pub fn failures(&self) -> u32 {
        self.window.failures_sum.max(self.failures_at_open)
    }

    /// Returns the state's name.
    pub fn name(&self, now_ns: u64) -> &'static str {
        match self.state {
            BreakerState::Closed => "closed",
            BreakerState::Open { until_ns } if now_ns < until_ns => "open",
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. } => "half-open",
        }
    }
}
