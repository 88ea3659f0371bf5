//! Balancing: shares, weights, affinity.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const ALL: [Balance; 5] =
    [Balance::P2c, Balance::RoundRobin, Balance::Weighted, Balance::LeastLoaded, Balance::ConsistentHash];

fn config(balance: Balance) -> FleetConfig {
    FleetConfig { balance, ..FleetConfig::default() }
}

fn weighted(weights: &[u32]) -> Vec<Instance> {
    weights.iter().enumerate().map(|(n, weight)| Instance::new(n.to_string()).weight(*weight)).collect()
}

/// Makes calls one after the other, with keys if that matters, and returns how many each endpoint got.
fn spread(world: &mut World, calls: u64) -> Vec<usize> {
    let ids = world.ids();
    let mut picked = Vec::new();
    for call in 0..calls {
        let endpoint = if world.fleet.config().balance == Balance::ConsistentHash {
            world.pick_for(call)
        } else {
            world.pick()
        };
        world.after(Duration::from_micros(100));
        world.end(endpoint, Outcome::Success, 100);
        picked.push(endpoint);
    }
    counts(&ids, &picked)
}

#[test]
fn equal_endpoints_get_equal_shares() {
    for balance in ALL {
        let mut world = World::with(config(balance), 7, 4);
        let counts = spread(&mut world, 20_000);
        for count in &counts {
            assert!((3_800..6_200).contains(count), "{balance:?}: {counts:?}");
        }
    }
}

#[test]
fn weights_are_respected_by_each_kind() {
    for balance in ALL {
        let mut world = World::of(config(balance), 3, &weighted(&[1, 2, 5]));
        let counts = spread(&mut world, 40_000);
        for (count, weight) in counts.iter().zip([1, 2, 5]) {
            let fair = 40_000 * weight / 8;
            assert!((fair * 7 / 10..fair * 14 / 10).contains(count), "{balance:?}: {counts:?}");
        }
    }
}

#[test]
fn round_robin_is_smooth() {
    let mut world = World::of(config(Balance::RoundRobin), 3, &weighted(&[1, 1, 2]));
    let ids = world.ids();
    let picked: Vec<EndpointId> = (0..400).map(|_| world.call(Outcome::Success)).collect();
    // In any eight picks in a row the shares are exact, but for one.
    for eight in picked.windows(8) {
        for (count, fair) in counts(&ids, eight).iter().zip([2_usize, 2, 4]) {
            assert!(count.abs_diff(fair) <= 1, "{eight:?}");
        }
    }
}

#[test]
fn a_weight_of_zero_takes_no_calls_while_another_endpoint_can() {
    for balance in ALL {
        let mut world = World::of(config(balance), 3, &weighted(&[0, 1]));
        assert_eq!(spread(&mut world, 500), [0, 500], "{balance:?}");
        world.set(&weighted(&[0]));
        assert_eq!(spread(&mut world, 500), [500], "{balance:?}");
    }
}

/// Runs calls at this rate, each of which takes as long as its endpoint takes, and returns the number for each.
fn run(
    world: &mut World,
    calls: usize,
    every_us: u64,
    took_us: impl Fn(usize, &mut Random) -> u64,
) -> Vec<usize> {
    let ids = world.ids();
    let mut ends: BTreeMap<(Instant, u64), (EndpointId, u64)> = BTreeMap::new();
    let mut picked = Vec::new();
    for call in 0..calls {
        world.after(Duration::from_micros(every_us));
        let now = world.now;
        while let Some((&(at, number), &(endpoint, took))) = ends.first_key_value()
            && at <= now
        {
            ends.remove(&(at, number));
            world.now = at;
            world.end(endpoint, Outcome::Success, took);
        }
        world.now = now;
        let endpoint = world.pick();
        let index = ids.iter().position(|id| *id == endpoint).unwrap();
        let took = took_us(index, &mut world.random);
        ends.insert((now + Duration::from_micros(took), call as u64), (endpoint, took));
        picked.push(endpoint);
    }
    for ((at, _), (endpoint, took)) in ends {
        world.now = world.now.max(at);
        world.end(endpoint, Outcome::Success, took);
    }
    counts(&ids, &picked)
}

#[test]
fn p2c_sends_few_calls_to_a_slow_endpoint_and_some_to_each() {
    let mut world = World::with(config(Balance::P2c), 5, 3);
    let counts = run(&mut world, 30_000, 100, |index, _| if index == 0 { 10_000 } else { 1_000 });
    assert!(counts[0] < 3_000, "{counts:?}");
    assert!(counts[0] > 50, "the slow one is starved: {counts:?}");
    assert!(counts[1].abs_diff(counts[2]) < 2_500, "{counts:?}");
}

#[test]
fn p2c_returns_to_an_endpoint_that_was_slow() {
    let mut world = World::with(config(Balance::P2c), 5, 3);
    run(&mut world, 10_000, 1_000, |index, _| if index == 0 { 50_000 } else { 1_000 });
    run(&mut world, 20_000, 1_000, |_, _| 1_000);
    let counts = run(&mut world, 9_000, 1_000, |_, _| 1_000);
    assert!(counts[0] > 2_000, "{counts:?}");
}

#[test]
fn methods_of_different_length_do_not_make_p2c_uneven() {
    // Each tenth call takes 1000 times as long as the others.
    let mut world = World::with(config(Balance::P2c), 5, 3);
    let ids = world.ids();
    let mut picked = Vec::new();
    for call in 0..30_000_u32 {
        let method = u32::from(call % 10 == 0);
        let took = Duration::from_micros(if method == 1 { 100_000 } else { 100 });
        let endpoint = world.fleet.pick(world.now, PickFor { method, ..PickFor::default() }).unwrap();
        world.after(Duration::from_millis(1));
        let outcome = Outcome::Success;
        world.fleet.on_attempt_end(
            world.now,
            &AttemptEnd { endpoint, method, outcome, took, load_us: None, retry_after: None },
        );
        picked.push(endpoint);
    }
    let counts = counts(&ids, &picked);
    for count in &counts {
        assert!((8_000..12_000).contains(count), "{counts:?}");
    }
}

#[test]
fn an_endpoint_that_fails_quickly_attracts_no_load_and_its_breaker_opens() {
    for balance in [Balance::P2c, Balance::LeastLoaded] {
        let mut world = World::with(config(balance), 5, 3);
        let ids = world.ids();
        let mut picked = Vec::new();
        // 500 calls in a second; the others take 5 ms.
        let mut ends: BTreeMap<(Instant, usize), EndpointId> = BTreeMap::new();
        for call in 0..5_000 {
            world.after(Duration::from_millis(2));
            while let Some((&(at, number), &endpoint)) = ends.first_key_value()
                && at <= world.now
            {
                ends.remove(&(at, number));
                world.end(endpoint, Outcome::Success, 5_000);
            }
            let endpoint = world.pick();
            picked.push(endpoint);
            if endpoint == ids[0] {
                world.end(endpoint, Outcome::Failure, 50);
            } else {
                ends.insert((world.now + Duration::from_millis(5), call), endpoint);
            }
        }
        let counts = counts(&ids, &picked);
        assert!(counts[0] < 250, "{balance:?}: {counts:?}");
        assert_eq!(world.view(ids[0]).breaker, "open", "{balance:?}: {counts:?}");
    }
}

#[test]
fn least_loaded_heeds_what_the_server_reports() {
    let mut world = World::with(config(Balance::LeastLoaded), 5, 2);
    let ids = world.ids();
    let mut picked = Vec::new();
    for _ in 0..1_000 {
        let endpoint = world.pick();
        world.after(Duration::from_millis(1));
        let load_us = Some(if endpoint == ids[0] { 50_000 } else { 0 });
        let (outcome, took) = (Outcome::Success, Duration::from_millis(1));
        world.fleet.on_attempt_end(
            world.now,
            &AttemptEnd { endpoint, method: 1, outcome, took, load_us, retry_after: None },
        );
        picked.push(endpoint);
    }
    let counts = counts(&ids, &picked);
    assert!(counts[0] < 60, "{counts:?}");
}

#[test]
fn calls_with_a_key_use_the_same_endpoint() {
    let mut world = World::with(config(Balance::ConsistentHash), 5, 10);
    let mut other = World::with(config(Balance::ConsistentHash), 99, 10);
    for key in 0..1_000 {
        let endpoint = world.pick_for(key);
        assert_eq!(world.pick_for(key), endpoint);
        let (a, b) = (world.view(endpoint), other.pick_for(key));
        assert_eq!(a.instance, other.view(b).instance, "two clients agree");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn few_keys_move_when_an_endpoint_comes_or_goes(count in 2..40_usize, gone in any::<u64>()) {
        const KEYS: u64 = 4_000;
        let config = FleetConfig { slow_start_ms: 0, ..config(Balance::ConsistentHash) };
        let mut world = World::with(config, 5, count);
        let places = |world: &mut World| -> Vec<String> {
            (0..KEYS).map(|key| { let id = world.pick_for(key); world.view(id).instance.id }).collect()
        };
        let before = places(&mut world);
        let gone = (gone % count as u64).to_string();
        let left: Vec<Instance> = (0..count).map(|n| n.to_string()).filter(|n| *n != gone).map(Instance::new).collect();
        world.set(&left);
        let after = places(&mut world);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        // Only the keys of the endpoint that is gone have moved: about 1/n of them.
        prop_assert_eq!(moved, before.iter().filter(|place| **place == gone).count());
        prop_assert!(moved < KEYS as usize * 2 / count, "{} of {} keys with {} endpoints", moved, KEYS, count);
        let all: Vec<Instance> = (0..count).map(|n| Instance::new(n.to_string())).collect();
        world.set(&all);
        prop_assert_eq!(places(&mut world), before);
    }
}

#[test]
fn a_key_whose_endpoint_was_tried_or_is_down_uses_the_next_of_the_ring() {
    let mut world = World::with(config(Balance::ConsistentHash), 5, 5);
    let first = world.pick_for(1);
    let tried = [first];
    let next = world.fleet.pick(world.now, PickFor { key: Some(1), tried: &tried, method: 0 }).unwrap();
    assert_ne!(next, first);
    world.fleet.on_connection(world.now, first, false);
    assert_eq!(world.pick_for(1), first, "a lost connection is made again");
    world.fleet.on_connection(world.now, first, false);
    assert_eq!(world.pick_for(1), next, "it cannot be reached");
}

/// Always picks the candidate with the largest id, or an index out of range.
#[derive(Debug)]
struct Largest {
    ends: usize,
    out_of_range: bool,
}

impl Balancer for Largest {
    fn pick(&mut self, _call: &PickFor<'_>, candidates: &Candidates<'_>) -> usize {
        assert_eq!(candidates.iter().count(), candidates.len());
        if self.out_of_range {
            return usize::MAX;
        }
        (0..candidates.len()).max_by_key(|index| candidates.get(*index).unwrap().id).unwrap()
    }

    fn on_end(&mut self, end: &AttemptEnd) {
        self.ends += 1;
        assert_eq!(end.outcome, Outcome::Success);
    }
}

#[test]
fn a_balancer_of_the_programs_own_picks_among_usable_and_untried_endpoints() {
    for out_of_range in [false, true] {
        let mut world = World::with(FleetConfig::default(), 5, 4);
        world.fleet =
            Fleet::new(FleetConfig::default(), 5).with_balancer(Box::new(Largest { ends: 0, out_of_range }));
        let instances: Vec<Instance> = (0..4).map(|n| Instance::new(n.to_string())).collect();
        world.set(&instances);
        let ids = world.ids();
        let picked = world.call(Outcome::Success);
        if !out_of_range {
            assert_eq!(picked, ids[3]);
        }
        let tried = [ids[3], ids[2]];
        let picked = world.fleet.pick(world.now, PickFor { tried: &tried, ..PickFor::default() }).unwrap();
        assert!(!tried.contains(&picked));
        assert!(format!("{:?}", world.fleet).contains("ends: 1"));
    }
}

#[test]
fn a_new_endpoint_gets_its_share_slowly() {
    for balance in ALL {
        let mut world = World::with(config(balance), 5, 2);
        spread(&mut world, 1_000);
        world.after(Duration::from_secs(60));
        let instances: Vec<Instance> = (0..3).map(|n| Instance::new(n.to_string())).collect();
        world.set(&instances);
        // 1000 calls take 0.1 s: at first a tenth of a third.
        let at_first = spread(&mut world, 1_000)[2];
        assert!(at_first < 120, "{balance:?}: {at_first}");
        assert!(at_first > 3, "{balance:?}: {at_first}");
        world.after(Duration::from_secs(5));
        let halfway = spread(&mut world, 1_000)[2];
        assert!(halfway > at_first, "{balance:?}: {halfway} after {at_first}");
        world.after(Duration::from_secs(5));
        let grown = spread(&mut world, 1_000)[2];
        assert!((230..450).contains(&grown), "{balance:?}: {grown}");
    }
}

#[test]
fn the_first_set_starts_at_once() {
    let world = World::with(FleetConfig::default(), 5, 3);
    assert!(world.fleet.view(world.now).iter().all(|view| view.growth_percent == 100));
}

#[test]
fn connected_endpoints_are_used_before_others_and_none_is_starved() {
    for balance in [Balance::P2c, Balance::RoundRobin, Balance::Weighted, Balance::LeastLoaded] {
        let mut world = World::with(config(balance), 5, 3);
        let ids = world.ids();
        world.fleet.on_connection(world.now, ids[0], false);
        let mut picked = Vec::new();
        for _ in 0..3_000 {
            world.after(Duration::from_millis(1));
            picked.push(world.call(Outcome::Success));
        }
        // In 3 s one call in about a second may find out whether it is back.
        let counts = counts(&ids, &picked);
        assert!((1..=12).contains(&counts[0]), "{balance:?}: {counts:?}");
    }
}

#[test]
fn without_any_connection_each_endpoint_is_used() {
    let mut world = World::new(FleetConfig::default(), 5);
    let instances: Vec<Instance> = (0..3).map(|n| Instance::new(n.to_string())).collect();
    world.fleet.set_instances(world.now, &instances);
    let picked: Vec<EndpointId> = (0..300).map(|_| world.call(Outcome::Success)).collect();
    assert!(counts(&world.ids(), &picked).iter().all(|count| *count > 30));
}

#[test]
fn a_thousand_endpoints_each_get_calls() {
    for balance in ALL {
        let mut world = World::with(config(balance), 5, 1_000);
        let counts = spread(&mut world, 40_000);
        assert!(counts.iter().all(|count| *count > 0), "{balance:?}");
    }
}
