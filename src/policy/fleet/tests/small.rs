//! Quantiles, slow start, health checks, retries, hedges, settings.

use proptest::prelude::*;

use super::*;
use crate::policy::backoff::Backoff;
use crate::policy::fleet::quantile::Quantile;
use crate::policy::fleet::retry::after_attempt;
use crate::policy::fleet::slow_start::SlowStart;

proptest! {
    #[test]
    fn a_quantile_is_at_most_a_quarter_above_the_true_one(
        durations in proptest::collection::vec(1..60_000_000_u64, 32..1_000),
        percent in 50..=99_u32,
    ) {
        let mut quantile = Quantile::new();
        for duration in &durations {
            quantile.add(*duration, percent);
        }
        // The estimate is as of the last refresh, each 32.
        let refreshed = durations.len() - (durations.len() - 1) % 32;
        let mut known = durations[..refreshed].to_vec();
        known.sort_unstable();
        let exact = known[(known.len() * percent as usize).div_ceil(100) - 1];
        let estimate = quantile.estimate_us();
        prop_assert!(estimate > exact && estimate <= exact + exact / 4 + 5, "{estimate} for {exact}");
    }

    #[test]
    fn a_slow_start_grows_from_a_tenth_to_the_whole(ms in 1..1_000_000_u64, a in 0..2_000_000_u64, b in 0..2_000_000_u64) {
        let start = SlowStart::begin(5_000_000, ms);
        let growth = |at_ms: u64| start.growth(5_000_000 + at_ms * 1_000_000);
        prop_assert!(growth(a.min(b)) <= growth(a.max(b)));
        prop_assert_eq!(growth(0), 0.1);
        prop_assert_eq!(growth(ms), 1.0);
        let linear = (a as f32 / ms as f32).clamp(0.1, 1.0);
        prop_assert!((growth(a) - linear).abs() < 0.01);
    }

    #[test]
    fn a_retry_is_what_the_rules_permit(
        failed_before in 0..5_u8,
        is_attempt in any::<bool>(),
        is_refused in any::<bool>(),
        may_have_run in any::<bool>(),
        is_idempotent in any::<bool>(),
        is_retryable in any::<bool>(),
        retry_after_ms in proptest::option::of(0..20_000_u64),
        left_ms in proptest::option::of(0..20_000_u64),
        random in any::<u64>(),
    ) {
        let config = RetryConfig::default();
        let call = CallAttempts { failed: failed_before + 1, is_attempt, tried: Vec::new() };
        let failed = FailedAttempt {
            outcome: if is_refused { Outcome::Refused } else { Outcome::Failure },
            may_have_run, is_idempotent, is_retryable,
            retry_after: retry_after_ms.map(Duration::from_millis),
            left: left_ms.map(Duration::from_millis),
        };
        match after_attempt(&config, &call, &failed, random) {
            AfterAttempt::Retry(delay) => {
                prop_assert!(failed_before + 1 < 3 && is_retryable && (is_idempotent || !may_have_run));
                prop_assert!(!is_attempt || (!may_have_run && !is_refused));
                prop_assert!(left_ms.is_none_or(|left| delay < Duration::from_millis(left)));
                match failed.retry_after {
                    Some(asked) => {
                        prop_assert!(delay >= asked && delay <= asked + asked / 4);
                        prop_assert!(asked <= Duration::from_secs(10));
                    }
                    None => prop_assert!(delay <= config.backoff.bound(u32::from(call.failed))),
                }
            }
            AfterAttempt::End => {
                // With all the time in the world, and the shortest pause, the rules alone decide.
                let is_permitted = failed_before + 1 < 3 && is_retryable && (is_idempotent || !may_have_run)
                    && (!is_attempt || (!may_have_run && !is_refused))
                    && failed.retry_after.is_none_or(|asked| asked <= Duration::from_secs(10));
                let has_time = left_ms.is_none_or(|left| {
                    let longest = failed.retry_after.map_or(Duration::from_millis(50), |asked| asked + asked / 4);
                    longest < Duration::from_millis(left)
                });
                prop_assert!(!(is_permitted && has_time));
            }
        }
    }
}

#[test]
fn hedges_count_as_attempts() {
    let config = RetryConfig { backoff: Backoff { base_ms: 0, max_ms: 0 }, ..RetryConfig::default() };
    let failed = FailedAttempt {
        outcome: Outcome::Failure,
        may_have_run: false,
        is_idempotent: true,
        is_retryable: true,
        retry_after: None,
        left: None,
    };
    let tried = |count: u64| CallAttempts {
        tried: (0..count).map(EndpointId).collect(),
        failed: 1,
        is_attempt: false,
    };
    assert_eq!(after_attempt(&config, &tried(2), &failed, 0), AfterAttempt::Retry(Duration::ZERO));
    assert_eq!(after_attempt(&config, &tried(3), &failed, 0), AfterAttempt::End);
}

fn hedging() -> FleetConfig {
    FleetConfig { hedge: HedgeConfig { is_on: true, ..HedgeConfig::default() }, ..FleetConfig::default() }
}

#[test]
fn a_method_is_hedged_at_its_own_percentile() {
    let mut world = World::with(hedging(), 1, 2);
    for call in 0..99 {
        let endpoint = world.pick();
        world.end(endpoint, Outcome::Success, if call % 10 == 0 { 80_000 } else { 10_000 });
    }
    assert_eq!(world.fleet.hedge_after(1, true), None, "too few calls");
    for call in 0..101 {
        let endpoint = world.pick();
        world.end(endpoint, Outcome::Success, if call % 100 == 0 { 80_000 } else { 10_000 });
    }
    let after = world.fleet.hedge_after(1, true).unwrap();
    assert!((80_000..=100_000).contains(&after.as_micros()), "{after:?}");
    assert_eq!(world.fleet.hedge_after(1, false), None, "not idempotent");
    assert_eq!(world.fleet.hedge_after(2, true), None, "never called");
    assert_eq!(World::with(FleetConfig::default(), 1, 2).fleet.hedge_after(1, true), None, "off by default");
}

#[test]
fn a_quick_method_is_hedged_after_the_shortest_time() {
    let mut world = World::with(hedging(), 1, 2);
    for _ in 0..200 {
        world.call(Outcome::Success);
    }
    assert_eq!(world.fleet.hedge_after(1, true), Some(Duration::from_millis(1)));
}

#[test]
fn cancelled_losers_keep_the_percentile_up() {
    let mut world = World::with(hedging(), 1, 2);
    // 6 % of the attempts would take long, and are cancelled when a hedge has won.
    for call in 0..5_000 {
        let endpoint = world.pick();
        if call % 100 < 6 {
            world.end(endpoint, Outcome::Cancelled, 50_000);
        } else {
            world.end(endpoint, Outcome::Success, if call % 100 < 12 { 40_000 } else { 10_000 });
        }
    }
    let after = world.fleet.hedge_after(1, true).unwrap();
    assert!(after.as_micros() >= 40_000, "{after:?}");
}

#[test]
fn a_hedge_needs_another_endpoint_and_the_budget() {
    let config = FleetConfig { budget: BudgetConfig { percent: 0, per_second: 0, burst: 2 }, ..hedging() };
    let mut world = World::with(config.clone(), 1, 2);
    let first = world.pick();
    let mut call = CallAttempts { tried: vec![first], ..CallAttempts::default() };
    assert!(world.fleet.try_hedge(world.now, &mut call));
    let second = world.fleet.pick(world.now, PickFor { tried: &call.tried, ..PickFor::default() }).unwrap();
    assert_ne!(second, first);
    call.tried.push(second);
    assert!(!world.fleet.try_hedge(world.now, &mut call), "no third endpoint");
    let mut other = CallAttempts { tried: vec![first], ..CallAttempts::default() };
    let mut nested = CallAttempts { is_attempt: true, ..other.clone() };
    assert!(!world.fleet.try_hedge(world.now, &mut nested), "a caller further up repeats it");
    assert!(world.fleet.try_hedge(world.now, &mut other));
    assert!(!world.fleet.try_hedge(world.now, &mut other), "the budget is empty");
    let stats = world.fleet.stats();
    assert_eq!((stats.hedges, stats.budget_refusals), (2, 1));
    assert!(world.fleet.take_events().contains(&FleetEvent::BudgetEmpty));
}

#[test]
fn the_methods_that_are_known_apart_are_bounded() {
    let mut world = World::with(hedging(), 1, 1);
    for method in 0..1_000_u32 {
        let endpoint = world.pick();
        let (outcome, took) = (Outcome::Success, Duration::from_millis(1));
        world.fleet.on_attempt_end(
            world.now,
            &AttemptEnd { endpoint, method, outcome, took, load_us: None, retry_after: None },
        );
    }
    assert!(format!("{:?}", world.fleet).matches("Method {").count() <= methods::METHODS_MAX + 1);
}

/// Advances the time to the next check, and returns the endpoints that are due.
fn next_checks(world: &mut World) -> Vec<EndpointId> {
    world.now = world.fleet.next_at().expect("checks go on").max(world.now);
    world.fleet.take_due_checks(world.now)
}

#[test]
fn an_endpoint_without_answers_is_checked_and_one_with_answers_is_not() {
    let mut world = World::with(FleetConfig::default(), 1, 2);
    let ids = world.ids();
    let begin = world.now;
    let mut checked = Vec::new();
    while world.now < begin + Duration::from_secs(60) {
        for id in next_checks(&mut world) {
            checked.push(id);
            world.fleet.on_check_end(world.now, id, true);
        }
        // The first one has traffic.
        loop {
            let endpoint = world.pick();
            world.end(endpoint, if endpoint == ids[0] { Outcome::Success } else { Outcome::Cancelled }, 100);
            if endpoint == ids[0] {
                break;
            }
        }
    }
    let counts = counts(&ids, &checked);
    assert!(counts[0] <= 1, "{counts:?}");
    assert!((8..=20).contains(&counts[1]), "{counts:?}");
}

#[test]
fn failed_checks_eject_an_endpoint_and_one_success_returns_it() {
    let mut world = World::with(FleetConfig::default(), 1, 3);
    let ids = world.ids();
    let mut failures = 0;
    while failures < 2 {
        for id in next_checks(&mut world) {
            world.fleet.on_check_end(world.now, id, id != ids[0]);
            failures += u32::from(id == ids[0]);
        }
    }
    assert!(world.fleet.take_events().contains(&FleetEvent::Unhealthy("0".into())));
    assert!((0..200).all(|_| world.call(Outcome::Success) != ids[0]));
    assert!(world.view(ids[0]).is_ejected);
    // It is checked on, although it loses its connection.
    world.fleet.on_connection(world.now, ids[0], false);
    while !world.view(ids[0]).is_healthy {
        for id in next_checks(&mut world) {
            world.fleet.on_check_end(world.now, id, true);
        }
    }
    world.fleet.on_connection(world.now, ids[0], true);
    assert!(world.fleet.take_events().contains(&FleetEvent::Healthy("0".into())));
    world.after(Duration::from_secs(20));
    assert!((0..200).any(|_| world.call(Outcome::Success) == ids[0]));
}

#[test]
fn a_check_without_a_result_has_failed() {
    let mut world = World::with(FleetConfig::default(), 1, 1);
    let id = world.ids()[0];
    let mut checks = 0;
    while world.view(id).is_healthy {
        checks += next_checks(&mut world).len();
        assert!(checks < 10);
    }
    assert_eq!(checks, 3, "the second failure is noticed when the third check is due");
}

#[test]
fn checks_of_many_endpoints_are_spread() {
    let mut world = World::with(FleetConfig::default(), 1, 1_000);
    let begin = world.now;
    let (mut most, mut all) = (0, 0);
    while world.now < begin + Duration::from_secs(20) {
        let due = next_checks(&mut world);
        (most, all) = (most.max(due.len()), all + due.len());
        for id in due {
            world.fleet.on_check_end(world.now, id, true);
        }
    }
    assert!(most <= 40, "{most}");
    assert!((3_000..5_500).contains(&all), "{all}");
    // Nor after a pause of the whole process.
    world.after(Duration::from_secs(3_600));
    assert!(world.fleet.take_due_checks(world.now).len() <= 40);
    assert!(world.fleet.next_at().unwrap() > world.now, "the reactor may sleep until then");
}

#[test]
fn without_an_interval_nothing_is_checked() {
    let health = HealthConfig { interval_ms: 0, ..HealthConfig::default() };
    let mut world = World::with(FleetConfig { health, ..FleetConfig::default() }, 1, 3);
    assert_eq!(world.fleet.next_at(), None);
    world.after(Duration::from_secs(3_600));
    assert_eq!(world.fleet.take_due_checks(world.now), []);
}

#[test]
fn the_defaults_pass_and_other_values_are_named() {
    assert_eq!(FleetConfig::default().check(), Ok(()));
    let text = |config: FleetConfig| config.check().unwrap_err().to_string();
    let breaker = BreakerConfig { window_ms: 1, ..BreakerConfig::default() };
    let config = FleetConfig { breaker, ..FleetConfig::default() };
    assert_eq!(text(config), "breaker.window_ms: expected a value from 100 to 3600000; found 1");
    let config =
        FleetConfig { zone: Some("us".into()), must_stay_in: Some("eu".into()), ..FleetConfig::default() };
    assert_eq!(text(config), "zone: expected a zone of the region eu (must_stay_in); found us");
    let config = FleetConfig { must_stay_in: Some(String::new()), ..FleetConfig::default() };
    assert_eq!(text(config), "must_stay_in: expected a name; found an empty one");
    let retry = RetryConfig { backoff: Backoff { base_ms: 10, max_ms: 9 }, ..RetryConfig::default() };
    assert_eq!(
        FleetConfig { retry, ..FleetConfig::default() }.check().unwrap_err().field,
        "retry.backoff.max_ms"
    );
}

#[test]
fn each_code_has_an_outcome() {
    use crate::status::Code;
    let of = |outcome| -> Vec<Code> {
        Code::ALL.into_iter().filter(|code| Outcome::of(*code) == outcome).collect()
    };
    assert_eq!(
        of(Outcome::Failure),
        [Code::Unknown, Code::DeadlineExceeded, Code::Internal, Code::Unavailable, Code::DataLoss]
    );
    assert_eq!(of(Outcome::Refused), [Code::ResourceExhausted]);
    assert_eq!(of(Outcome::Cancelled), [Code::Cancelled]);
    assert_eq!(of(Outcome::Success).len(), 10);
}

const DOCS: &str = include_str!("../../../../docs/resilience.md");

#[test]
fn every_setting_has_its_row_in_the_docs() {
    // `Debug` names every field; the indentation of a nested one is that of its section and four more.
    let (mut path, mut rows): (Vec<String>, usize) = (Vec::new(), 0);
    for line in format!("{:#?}", FleetConfig::default()).lines() {
        let depth = (line.len() - line.trim_start().len()) / 4;
        let Some((name, value)) = line.trim_end_matches(',').trim_start().split_once(": ") else { continue };
        path.truncate(depth - 1);
        path.push(name.to_owned());
        if !value.ends_with('{') {
            let row = format!("| `{}` | {value} |", path.join("."));
            assert!(DOCS.contains(&row), "docs/resilience.md lacks the row {row}");
            rows += 1;
        }
    }
    let table = DOCS.split("| field of `FleetConfig` |").nth(1).unwrap().split("\n\n").next().unwrap();
    assert_eq!(table.lines().skip(2).count(), rows, "docs/resilience.md has rows for fields that are gone");
}

#[test]
fn every_code_is_in_the_table_of_failures() {
    let table = DOCS.split("## What counts as a failure").nth(1).unwrap().split("\n## ").next().unwrap();
    for code in crate::status::Code::ALL {
        let row =
            table.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{}`", code.name())));
        let means = match Outcome::of(code) {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Refused | Outcome::Cancelled => "neither",
        };
        let row = row.unwrap_or_else(|| panic!("no row for {code}"));
        assert!(row.rsplit('|').nth(1).unwrap().trim().starts_with(means), "{row}");
    }
}
