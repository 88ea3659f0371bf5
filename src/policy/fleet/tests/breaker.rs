//! The circuit breaker against a plain model that keeps every event.

use proptest::prelude::*;

use crate::policy::fleet::BreakerConfig;
use crate::policy::fleet::breaker::{Breaker, BreakerChange, BreakerEvent, BreakerState};

const MS: u64 = 1_000_000;

/// Every end with its time, and the state in words.
struct Model {
    ends: Vec<(u64, bool)>,
    state: BreakerState,
}

impl Model {
    /// Applies an event. `until_ns` is when the breaker under test would be half-open: its jitter is its own.
    fn next(
        &mut self,
        event: BreakerEvent,
        now: u64,
        until_ns: Option<u64>,
        config: &BreakerConfig,
    ) -> Option<BreakerChange> {
        if matches!(event, BreakerEvent::Success | BreakerEvent::Failure) {
            self.ends.push((now, event == BreakerEvent::Success));
        }
        let bucket = config.window_ms * MS / 10;
        let recent = self.ends.iter().filter(|(at, _)| at / bucket + 10 > now / bucket);
        let (successes, failures): (Vec<bool>, Vec<bool>) =
            recent.map(|(_, is_success)| *is_success).partition(|is_success| *is_success);
        let all = successes.len() + failures.len();
        let is_rate_low = successes.len() * 100 < all * config.success_min_percent as usize;
        let is_failing =
            config.failures_min > 0 && failures.len() >= config.failures_min as usize && is_rate_low;
        let opens = |model: &mut Model| {
            model.state = BreakerState::Open { until_ns: until_ns.expect("it opened too") };
            Some(BreakerChange::Opened)
        };
        match (self.state, event) {
            (BreakerState::Closed, BreakerEvent::Failure) if is_failing => opens(self),
            (BreakerState::Closed, _) => None,
            (BreakerState::Open { until_ns }, _) if now < until_ns => None,
            (BreakerState::Open { .. }, event) => {
                let probe_at_ns = (event == BreakerEvent::Picked).then_some(now);
                self.state = BreakerState::HalfOpen { successes: 0, probe_at_ns };
                Some(BreakerChange::HalfOpened)
            }
            (BreakerState::HalfOpen { .. }, BreakerEvent::Failure) => opens(self),
            (BreakerState::HalfOpen { successes, .. }, BreakerEvent::Success) => {
                if successes + 1 == config.successes_to_close {
                    self.state = BreakerState::Closed;
                    self.ends.clear();
                    return Some(BreakerChange::Closed);
                }
                self.state = BreakerState::HalfOpen { successes: successes + 1, probe_at_ns: None };
                None
            }
            (BreakerState::HalfOpen { successes, .. }, BreakerEvent::Picked) => {
                self.state = BreakerState::HalfOpen { successes, probe_at_ns: Some(now) };
                None
            }
            (BreakerState::HalfOpen { successes, .. }, BreakerEvent::Neither) => {
                self.state = BreakerState::HalfOpen { successes, probe_at_ns: None };
                None
            }
            (BreakerState::HalfOpen { .. }, BreakerEvent::Tick) => None,
        }
    }
}

fn events() -> impl Strategy<Value = Vec<(BreakerEvent, u64)>> {
    let event = prop_oneof![
        4 => Just(BreakerEvent::Success),
        4 => Just(BreakerEvent::Failure),
        1 => Just(BreakerEvent::Picked),
        1 => Just(BreakerEvent::Neither),
        1 => Just(BreakerEvent::Tick),
    ];
    let pause = prop_oneof![8 => 0..400_u64, 1 => 0..30_000_u64];
    proptest::collection::vec((event, pause), 0..400)
}

proptest! {
    #[test]
    fn the_breaker_does_what_the_model_does(
        events in events(),
        failures_min in 0..12_u32,
        success_min_percent in 0..=101_u32,
        window_ms in 100..5_000_u64,
        open_ms in 1..20_000_u64,
        open_jitter_percent in 0..=100_u32,
        successes_to_close in 1..4_u32,
        seed in any::<u64>(),
    ) {
        let config = BreakerConfig {
            failures_min, success_min_percent, window_ms, open_ms, open_jitter_percent, successes_to_close,
            ..BreakerConfig::default()
        };
        let mut breaker = Breaker::new(seed);
        let mut model = Model { ends: Vec::new(), state: BreakerState::Closed };
        let mut now = 0;
        for (event, pause_ms) in events {
            now += pause_ms * MS;
            let (next, change) = breaker.next(event, now, &config);
            // The same state, event and time give the same result.
            prop_assert_eq!((next, change), breaker.next(event, now, &config));
            breaker = next;
            let until_ns = match breaker.state() {
                BreakerState::Open { until_ns } => Some(until_ns),
                BreakerState::Closed | BreakerState::HalfOpen { .. } => None,
            };
            if change == Some(BreakerChange::Opened) {
                let longest = open_ms * MS + open_ms * MS * u64::from(open_jitter_percent) / 100;
                prop_assert!((now + open_ms * MS..=now + longest).contains(&until_ns.unwrap()));
            }
            prop_assert_eq!(change, model.next(event, now, until_ns, &config), "{:?} at {}", event, now);
            prop_assert_eq!(breaker.state(), model.state);
        }
    }
}

#[track_caller]
fn after(breaker: Breaker, event: BreakerEvent, at_ms: u64, config: &BreakerConfig) -> Breaker {
    breaker.next(event, at_ms * MS, config).0
}

#[test]
fn each_row_of_the_table_of_states() {
    // The table: 20 failures within 10 s; 60 s; a single probe.
    let config = BreakerConfig { successes_to_close: 1, open_jitter_percent: 0, ..BreakerConfig::default() };
    let mut breaker = Breaker::new(1);
    for failure in 0..19 {
        breaker = after(breaker, BreakerEvent::Failure, failure * 500, &config);
    }
    assert_eq!(breaker.name(9_000 * MS), "closed");
    breaker = after(breaker, BreakerEvent::Failure, 9_500, &config);
    assert_eq!(breaker.name(9_500 * MS), "open");
    breaker = after(breaker, BreakerEvent::Tick, 69_499, &config);
    assert!(!breaker.admits_probe(69_499 * MS, &config));
    breaker = after(breaker, BreakerEvent::Tick, 69_500, &config);
    assert!(breaker.admits_probe(69_500 * MS, &config));
    breaker = after(breaker, BreakerEvent::Picked, 69_500, &config);
    assert!(!breaker.admits_probe(69_600 * MS, &config), "one probe at a time");
    let closed = after(breaker, BreakerEvent::Success, 69_700, &config);
    assert!(closed.is_closed());
    let open = after(breaker, BreakerEvent::Failure, 69_700, &config);
    assert_eq!(open.name(69_700 * MS), "open");
}

#[test]
fn failures_that_are_spread_over_more_than_the_window_open_nothing() {
    let config = BreakerConfig::default();
    let mut breaker = Breaker::new(1);
    for failure in 0..1_000 {
        breaker = after(breaker, BreakerEvent::Failure, failure * 600, &config);
    }
    assert!(breaker.is_closed());
}

#[test]
fn many_failures_among_more_successes_open_nothing() {
    let config = BreakerConfig::default();
    let mut breaker = Breaker::new(1);
    for call in 0..100_000 {
        let event = if call % 25 == 0 { BreakerEvent::Failure } else { BreakerEvent::Success };
        breaker = after(breaker, event, call / 50, &config);
    }
    assert!(breaker.is_closed());
}

#[test]
fn refusals_and_cancellations_open_nothing() {
    let config = BreakerConfig::default();
    let mut breaker = Breaker::new(1);
    for call in 0..1_000 {
        breaker = after(breaker, BreakerEvent::Neither, call, &config);
    }
    assert_eq!(breaker, Breaker::new(1));
}

#[test]
fn a_probe_whose_end_never_comes_is_given_up() {
    let config = BreakerConfig { failures_min: 1, ..BreakerConfig::default() };
    let mut breaker = after(Breaker::new(1), BreakerEvent::Failure, 0, &config);
    breaker = after(breaker, BreakerEvent::Tick, 66_000, &config);
    breaker = after(breaker, BreakerEvent::Picked, 66_000, &config);
    assert!(!breaker.admits_probe(75_999 * MS, &config));
    assert!(breaker.admits_probe(76_000 * MS, &config));
}

#[test]
fn the_jitter_of_two_breakers_and_of_two_openings_differs() {
    let config = BreakerConfig { failures_min: 1, ..BreakerConfig::default() };
    let open = |seed| after(Breaker::new(seed), BreakerEvent::Failure, 0, &config);
    assert_ne!(open(1).state(), open(2).state());
    let half_open = after(open(1), BreakerEvent::Tick, 66_000, &config);
    let again = after(half_open, BreakerEvent::Failure, 66_000, &config);
    let wait = |breaker: Breaker, from_ms: u64| match breaker.state() {
        BreakerState::Open { until_ns } => until_ns - from_ms * MS,
        other => panic!("{other:?}"),
    };
    assert_ne!(wait(again, 66_000), wait(open(1), 0));
}

#[test]
fn a_clock_that_goes_back_is_harmless() {
    let config = BreakerConfig::default();
    let breaker = after(Breaker::new(1), BreakerEvent::Failure, 50_000, &config);
    let breaker = after(breaker, BreakerEvent::Failure, 1_000, &config);
    assert_eq!(breaker.failures(), 2);
}
