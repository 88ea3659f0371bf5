//! All policies together: updates, ejection, probes, and random histories under which the invariants hold.

use proptest::prelude::*;

use super::*;

#[test]
fn before_the_first_update_there_is_no_endpoint() {
    let mut world = World::new(FleetConfig::default(), 1);
    let pick = |world: &mut World| world.fleet.pick(world.now, PickFor::default());
    assert_eq!(pick(&mut world), Err(NoEndpoint::NotResolved));
    world.set(&[]);
    assert_eq!(pick(&mut world), Err(NoEndpoint::NotResolved));
    world.set(&[Instance::new("a")]);
    assert!(pick(&mut world).is_ok());
    assert_eq!(world.fleet.stats().no_endpoint, 2);
}

#[test]
fn an_update_adds_keeps_and_removes() {
    let mut world = World::of(FleetConfig::default(), 1, &[Instance::new("a"), Instance::new("b")]);
    let ids = world.ids();
    let kept = Instance::new("b").weight(7).zone("z").label("k", "v");
    let moved = Instance::new("a:2").id("a");
    let change = world.set(&[moved.clone(), kept.clone(), moved.clone()]);
    assert_eq!(change.removed, [ids[0]], "another address is another endpoint");
    assert_eq!(change.added.len(), 1);
    assert_eq!(world.view(ids[1]).instance, kept);
    let events = world.fleet.take_events();
    let appeared = |id: &str| FleetEvent::Appeared(id.into());
    assert_eq!(events[..2], [appeared("a"), appeared("b")]);
    assert_eq!(events[2..], [FleetEvent::Gone("a".into()), appeared("a")]);
    let change = world.set(&[]);
    assert_eq!((change.added.len(), change.removed.len()), (0, 0));
    assert_eq!(world.fleet.take_events(), [FleetEvent::EmptyUpdateIgnored]);
    assert_eq!(world.fleet.stats().endpoints, 2);
}

#[test]
fn an_attempt_may_end_after_its_endpoint_is_gone() {
    let mut world = World::with(FleetConfig::default(), 1, 1);
    let gone = world.pick();
    world.set(&[Instance::new("other")]);
    let other = world.pick();
    assert_ne!(gone, other, "an id is not used again");
    world.end(gone, Outcome::Failure, 100);
    assert_eq!(world.view(other).in_flight, 1);
    assert_eq!(world.view(other).ended, [0; 4]);
    world.fleet.on_connection(world.now, gone, true);
    world.fleet.on_check_end(world.now, gone, false);
}

#[test]
fn endpoints_are_bounded() {
    let instances: Vec<Instance> = (0..ENDPOINTS_MAX + 10).map(|n| Instance::new(n.to_string())).collect();
    let mut world = World::of(FleetConfig::default(), 1, &instances);
    assert_eq!(world.fleet.stats().endpoints as usize, ENDPOINTS_MAX);
    // The events are bounded too, and this one came first.
    let events = world.fleet.take_events();
    assert_eq!(events[0], FleetEvent::TooManyInstances(10));
    assert_eq!(events.len(), EVENTS_MAX);
    assert_eq!(world.fleet.stats().events_dropped as usize, ENDPOINTS_MAX + 1 - EVENTS_MAX);
}

/// Fails calls at these endpoints, and succeeds at others, until the breakers of these are open.
fn open_breakers(world: &mut World, broken: &[EndpointId]) {
    for _ in 0..100_000 {
        world.after(Duration::from_micros(500));
        let endpoint = world.pick();
        let outcome = if broken.contains(&endpoint) { Outcome::Failure } else { Outcome::Success };
        world.end(endpoint, outcome, 1_000);
        if broken.iter().all(|id| world.view(*id).breaker == "open") {
            return;
        }
    }
    panic!("the breakers did not open: {:?}", world.fleet.view(world.now));
}

#[test]
fn an_endpoint_with_an_open_breaker_gets_one_probe_at_a_time_and_returns() {
    let config = FleetConfig { balance: Balance::RoundRobin, ..FleetConfig::default() };
    let mut world = World::with(config, 1, 3);
    let ids = world.ids();
    open_breakers(&mut world, &ids[..1]);
    assert!((0..1_000).all(|_| world.call(Outcome::Success) != ids[0]));
    world.after(Duration::from_secs(67));
    for probe in 0..3 {
        let first = world.pick();
        assert_eq!(first, ids[0], "the next call is the probe");
        for _ in 0..100 {
            assert_ne!(world.call(Outcome::Success), ids[0], "one probe at a time");
        }
        assert_eq!(world.view(ids[0]).breaker, "half-open");
        world.end(first, Outcome::Success, 1_000);
        assert_eq!(world.fleet.stats().probes, probe + 1);
    }
    assert_eq!(world.view(ids[0]).breaker, "closed");
    assert!(world.view(ids[0]).growth_percent < 20, "it starts slowly");
    let events = world.fleet.take_events();
    assert!(events.contains(&FleetEvent::BreakerOpened("0".into())));
    assert!(events.contains(&FleetEvent::BreakerClosed("0".into())));
}

#[test]
fn at_most_half_of_the_endpoints_are_ejected() {
    let config = FleetConfig { balance: Balance::RoundRobin, ..FleetConfig::default() };
    for (count, broken, ejected) in [(1, 1, 0), (2, 2, 1), (3, 2, 1), (4, 2, 2), (5, 5, 2)] {
        let mut world = World::with(config.clone(), 1, count);
        let ids = world.ids();
        open_breakers(&mut world, &ids[..broken]);
        world.call(Outcome::Success);
        let views = world.fleet.view(world.now);
        assert_eq!(views.iter().filter(|view| view.is_ejected).count(), ejected, "{broken} of {count}");
        assert_eq!(world.fleet.stats().ejected as usize, ejected);
    }
}

#[test]
fn with_all_ejected_calls_fail_at_once_until_a_probe_is_due() {
    let breaker =
        BreakerConfig { ejected_max_percent: 100, successes_to_close: 1, ..BreakerConfig::default() };
    let mut world = World::with(FleetConfig { breaker, ..FleetConfig::default() }, 1, 1);
    let ids = world.ids();
    open_breakers(&mut world, &ids);
    let pick = |world: &mut World| world.fleet.pick(world.now, PickFor::default());
    assert_eq!(pick(&mut world), Err(NoEndpoint::AllOpen));
    world.after(Duration::from_secs(67));
    assert_eq!(pick(&mut world), Ok(ids[0]));
    assert_eq!(pick(&mut world), Err(NoEndpoint::AllOpen), "one probe");
    world.end(ids[0], Outcome::Success, 100);
    assert_eq!(world.view(ids[0]).breaker, "closed");
    assert_eq!(pick(&mut world), Ok(ids[0]));
}

#[test]
fn every_breaker_is_closed_75_s_after_the_faults_end() {
    for seed in 0..20 {
        let mut world = World::with(FleetConfig::default(), seed, 5);
        let ids = world.ids();
        open_breakers(&mut world, &ids);
        let end = world.now + Duration::from_secs(75);
        while world.now < end {
            world.after(Duration::from_millis(20));
            world.call(Outcome::Success);
        }
        let views = world.fleet.view(world.now);
        assert!(views.iter().all(|view| view.breaker == "closed" && !view.is_ejected), "{seed}: {views:?}");
    }
}

#[test]
fn rare_failures_among_many_calls_open_nothing() {
    let mut world = World::with(FleetConfig::default(), 1, 3);
    for _ in 0..200_000 {
        world.after(Duration::from_micros(20));
        let outcome = if world.random.below(1_000) == 0 { Outcome::Failure } else { Outcome::Success };
        world.call(outcome);
    }
    assert!(world.fleet.take_events().iter().all(|event| matches!(event, FleetEvent::Appeared(_))));
}

#[test]
fn a_retry_uses_another_endpoint_while_there_is_one() {
    for balance in [Balance::P2c, Balance::RoundRobin, Balance::Weighted, Balance::LeastLoaded] {
        let mut world = World::with(FleetConfig { balance, ..FleetConfig::default() }, 1, 3);
        for _ in 0..100 {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let id =
                    world.fleet.pick(world.now, PickFor { tried: &tried, ..PickFor::default() }).unwrap();
                assert!(!tried.contains(&id), "{balance:?}");
                world.end(id, Outcome::Refused, 10);
                tried.push(id);
            }
            let again = world.fleet.pick(world.now, PickFor { tried: &tried, ..PickFor::default() }).unwrap();
            world.end(again, Outcome::Refused, 10);
        }
    }
}

#[test]
fn when_everything_fails_the_amplification_is_bounded() {
    let mut world = World::with(FleetConfig::default(), 1, 3);
    let (mut calls, mut attempts) = (0_u64, 0_u64);
    // 500 calls in a second, for 10 s.
    for _ in 0..5_000 {
        world.after(Duration::from_millis(2));
        world.fleet.on_call(world.now);
        calls += 1;
        let mut call = CallAttempts::default();
        loop {
            let id =
                world.fleet.pick(world.now, PickFor { tried: &call.tried, ..PickFor::default() }).unwrap();
            attempts += 1;
            call.tried.push(id);
            world.end(id, Outcome::Failure, 1_000);
            let failed = FailedAttempt {
                outcome: Outcome::Failure,
                may_have_run: true,
                is_idempotent: true,
                is_retryable: true,
                retry_after: None,
                left: None,
            };
            if world.fleet.after_attempt(world.now, &mut call, &failed) == AfterAttempt::End {
                break;
            }
        }
    }
    let amplification = attempts as f64 / calls as f64;
    assert!((1.2..=1.25).contains(&amplification), "{amplification}");
    assert_eq!(world.fleet.stats().retries, attempts - calls);
    let reports = world.fleet.take_events().into_iter().filter(|event| *event == FleetEvent::BudgetEmpty);
    assert_eq!(reports.count(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<(u8, u32, u8)>),
    Pick { method: u32, key: Option<u64>, tried: u8 },
    End { which: u16, outcome: u8, took_us: u32, load_us: Option<u32> },
    Connection { which: u16, is_connected: bool },
    Checks,
    CheckEnd { which: u16, is_healthy: bool },
    Hedge,
    Pause(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let instance = (0..12_u8, 0..4_u32, 0..4_u8);
    let step = prop_oneof![
        2 => proptest::collection::vec(instance, 0..12).prop_map(Step::Set),
        20 => (0..4_u32, proptest::option::of(any::<u64>()), 0..4_u8)
            .prop_map(|(method, key, tried)| Step::Pick { method, key, tried }),
        20 => (any::<u16>(), 0..4_u8, any::<u32>(), proptest::option::of(any::<u32>()))
            .prop_map(|(which, outcome, took_us, load_us)| Step::End { which, outcome, took_us, load_us }),
        3 => (any::<u16>(), any::<bool>()).prop_map(|(which, is_connected)| Step::Connection { which, is_connected }),
        2 => Just(Step::Checks),
        3 => (any::<u16>(), any::<bool>()).prop_map(|(which, is_healthy)| Step::CheckEnd { which, is_healthy }),
        1 => Just(Step::Hedge),
        4 => prop_oneof![0..10_u32, 0..100_000_u32].prop_map(Step::Pause),
    ];
    proptest::collection::vec(step, 1..300)
}

fn instance(&(number, weight, zone): &(u8, u32, u8)) -> Instance {
    let instance = Instance::new(format!("10.0.0.{number}:1")).weight(weight);
    match zone {
        0 => instance,
        1 => instance.zone("eu-a"),
        2 => instance.zone("eu-b"),
        _ => instance.zone("us"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn the_invariants_hold_in_any_history(
        steps in steps(),
        balance in proptest::sample::select(vec![Balance::P2c, Balance::RoundRobin, Balance::Weighted, Balance::LeastLoaded, Balance::ConsistentHash]),
        zone in proptest::option::of(Just("eu-a")),
        region in proptest::option::of(Just("eu")),
        spill_over in any::<bool>(),
        ejected_max_percent in proptest::sample::select(vec![0_u32, 50, 100]),
        seed in any::<u64>(),
    ) {
        let config = FleetConfig {
            balance,
            zone: zone.map(str::to_owned),
            must_stay_in: region.map(str::to_owned),
            spill_over,
            breaker: BreakerConfig { failures_min: 3, ejected_max_percent, ..BreakerConfig::default() },
            hedge: HedgeConfig { is_on: true, samples_min: 10, ..HedgeConfig::default() },
            ..FleetConfig::default()
        };
        let mut world = World::new(config, seed);
        let mut in_flight: Vec<EndpointId> = Vec::new();
        let mut present: Vec<EndpointId> = Vec::new();
        let mut has_update = false;
        for step in steps {
            match step {
                Step::Set(set) => {
                    let instances: Vec<Instance> = set.iter().map(instance).collect();
                    let change = world.fleet.set_instances(world.now, &instances);
                    has_update |= !instances.is_empty();
                    present.retain(|id| !change.removed.contains(id));
                    for (id, _) in &change.added {
                        prop_assert!(!present.contains(id));
                        present.push(*id);
                    }
                    if instances.is_empty() {
                        prop_assert!(change.added.is_empty() && change.removed.is_empty());
                    }
                }
                Step::Pick { method, key, tried } => {
                    let tried: Vec<EndpointId> = present.iter().rev().take(usize::from(tried)).copied().collect();
                    match world.fleet.pick(world.now, PickFor { method, key, tried: &tried }) {
                        Ok(id) => {
                            prop_assert!(present.contains(&id));
                            let view = world.view(id);
                            let place = view.instance.zone.clone().unwrap_or_default();
                            prop_assert!(region.is_none() || place.starts_with("eu"));
                            prop_assert!(spill_over || zone.is_none() || Some(&place[..]) == zone);
                            prop_assert!(!view.is_ejected || view.breaker == "half-open");
                            in_flight.push(id);
                        }
                        Err(NoEndpoint::NotResolved) => prop_assert!(!has_update),
                        Err(NoEndpoint::OutsideRegion { .. }) => prop_assert!(present.is_empty() && has_update),
                        Err(NoEndpoint::AllOpen) => {
                            prop_assert!(!present.is_empty() && ejected_max_percent == 100);
                            prop_assert!(world.fleet.view(world.now).iter().all(|view| view.is_ejected));
                        }
                    }
                }
                Step::End { which, outcome, took_us, load_us } => {
                    if !in_flight.is_empty() {
                        let endpoint = in_flight.swap_remove(usize::from(which) % in_flight.len());
                        let outcome = [Outcome::Success, Outcome::Failure, Outcome::Refused, Outcome::Cancelled][usize::from(outcome)];
                        let took = Duration::from_micros(u64::from(took_us));
                        let retry_after = load_us.map(|load_us| Duration::from_micros(u64::from(load_us)));
                        let end = AttemptEnd { endpoint, method: 1, outcome, took, load_us, retry_after };
                        world.fleet.on_attempt_end(world.now, &end);
                    }
                }
                Step::Connection { which, is_connected } => {
                    if !present.is_empty() {
                        world.fleet.on_connection(world.now, present[usize::from(which) % present.len()], is_connected);
                    }
                }
                Step::Checks => {
                    for id in world.fleet.take_due_checks(world.now) {
                        prop_assert!(present.contains(&id));
                    }
                }
                Step::CheckEnd { which, is_healthy } => {
                    if !present.is_empty() {
                        world.fleet.on_check_end(world.now, present[usize::from(which) % present.len()], is_healthy);
                    }
                }
                Step::Hedge => {
                    let mut call = CallAttempts { tried: present.iter().take(2).copied().collect(), ..CallAttempts::default() };
                    if world.fleet.try_hedge(world.now, &mut call) {
                        let id = world.fleet.pick(world.now, PickFor { tried: &call.tried, ..PickFor::default() }).unwrap();
                        prop_assert!(!call.tried.contains(&id), "a hedge at the same endpoint");
                        in_flight.push(id);
                    }
                }
                Step::Pause(ms) => world.after(Duration::from_millis(u64::from(ms))),
            }
            world.fleet.check();
            for view in world.fleet.view(world.now) {
                let expected = in_flight.iter().filter(|id| **id == view.id).count();
                prop_assert_eq!(view.in_flight as usize, expected);
            }
            prop_assert_eq!(world.fleet.stats().endpoints as usize, present.len());
        }
        // No leak: what is in flight ends.
        for endpoint in in_flight.drain(..) {
            world.end(endpoint, Outcome::Success, 1);
        }
        prop_assert!(world.fleet.view(world.now).iter().all(|view| view.in_flight == 0));
    }
}
