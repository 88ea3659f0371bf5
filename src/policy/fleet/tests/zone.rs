//! Zones, regions and ejection.

use proptest::prelude::*;

use super::*;
use crate::policy::fleet::ejection::{self, Suspect};
use crate::policy::fleet::zone::{SHARE_WHOLE, ZoneWeights, is_in_region, share_in_zone};

fn in_zones(zones: &[&str]) -> Vec<Instance> {
    zones.iter().enumerate().map(|(n, zone)| Instance::new(n.to_string()).zone(*zone)).collect()
}

fn zone_config(zone: &str) -> FleetConfig {
    FleetConfig { zone: Some(zone.to_owned()), ..FleetConfig::default() }
}

/// Returns the number of calls that left the zone `a`, out of 1,000.
fn outside(world: &mut World) -> usize {
    let mut count = 0;
    for _ in 0..1_000 {
        world.after(Duration::from_micros(100));
        let id = world.call(Outcome::Success);
        count += usize::from(world.view(id).instance.zone.as_deref() != Some("a"));
    }
    count
}

#[test]
fn calls_stay_in_the_zone_while_enough_of_it_is_usable() {
    let zones = ["a", "a", "a", "a", "a", "b", "b", "b", "b", "b"];
    let mut world = World::of(zone_config("a"), 1, &in_zones(&zones));
    let ids = world.ids();
    assert_eq!(outside(&mut world), 0);
    let make_unreachable = |world: &mut World, id| {
        world.fleet.on_connection(world.now, id, false);
        world.fleet.on_connection(world.now, id, false);
    };
    // 80 % of the zone is usable.
    make_unreachable(&mut world, ids[0]);
    assert_eq!(outside(&mut world), 0);
    // 40 % of it is, of the 70 % that are needed: 43 % of the calls leave.
    make_unreachable(&mut world, ids[1]);
    make_unreachable(&mut world, ids[2]);
    let count = outside(&mut world);
    assert!((360..500).contains(&count), "{count}");
    assert!(world.fleet.take_events().contains(&FleetEvent::SpilledOver));
    // None is.
    make_unreachable(&mut world, ids[3]);
    make_unreachable(&mut world, ids[4]);
    assert!(outside(&mut world) > 900);
    for id in &ids[..5] {
        world.fleet.on_connection(world.now, *id, true);
    }
    assert_eq!(outside(&mut world), 0);
    assert!(world.fleet.take_events().contains(&FleetEvent::BackInZone));
}

#[test]
fn an_open_breaker_counts_as_not_usable() {
    let mut world = World::of(zone_config("a"), 1, &in_zones(&["a", "b"]));
    let local = world.ids()[0];
    for _ in 0..20 {
        assert_eq!(world.call(Outcome::Failure), local);
    }
    assert_eq!(outside(&mut world), 1_000);
}

/// When every breaker is open, half of the endpoints stay in use: calls do not all leave for those of another zone.
#[test]
fn what_stays_in_use_of_a_zone_is_used_when_everything_fails() {
    let mut world = World::of(zone_config("a"), 1, &in_zones(&["a", "a", "a", "b", "b", "b"]));
    for id in world.ids() {
        // Those with more failures are ejected.
        let failures = if matches!(&*world.view(id).instance.id, "0" | "4" | "5") { 40 } else { 20 };
        world.fleet.table.get_mut(id).unwrap().in_flight += failures;
        (0..failures).for_each(|_| world.end(id, Outcome::Failure, 100));
    }
    let in_use = |world: &World, zone: &str| {
        let views = world.fleet.view(world.now);
        let is_in_use =
            |view: &&EndpointView| !view.is_ejected && view.instance.zone.as_deref() == Some(zone);
        views.iter().filter(is_in_use).count()
    };
    world.call(Outcome::Success);
    assert_eq!((in_use(&world, "a"), in_use(&world, "b")), (2, 1));
    // 67 % of the zone is in use, of the 70 % that are needed.
    let count = outside(&mut world);
    assert!((10..100).contains(&count), "{count}");
}

#[test]
fn a_zone_without_instances_is_left() {
    let mut world = World::of(zone_config("a"), 1, &in_zones(&["b", "c"]));
    assert_eq!(outside(&mut world), 1_000);
    assert_eq!(world.fleet.stats().outside_zone, 1_000);
}

#[test]
fn without_spill_over_calls_fail_rather_than_leave_the_zone() {
    let config = FleetConfig { spill_over: false, ..zone_config("a") };
    let mut world = World::of(config, 1, &in_zones(&["a", "b"]));
    assert_eq!(outside(&mut world), 0);
    let change = world.set(&in_zones(&["b", "b"]));
    assert_eq!((change.added.len(), change.removed.len()), (0, 1));
    let none = world.fleet.pick(world.now, PickFor::default()).unwrap_err();
    assert_eq!(none, NoEndpoint::OutsideRegion { region: "a".into() });
}

#[test]
fn the_region_is_never_left() {
    let config = FleetConfig { must_stay_in: Some("eu".into()), ..FleetConfig::default() };
    let zones = ["eu-west", "eu/north", "eu", "europe", "us", ""];
    let mut world = World::of(config, 1, &in_zones(&zones));
    assert_eq!((world.fleet.stats().endpoints, world.fleet.stats().outside_region), (3, 3));
    for _ in 0..100 {
        let id = world.call(Outcome::Failure);
        assert!(is_in_region(world.view(id).instance.zone.as_deref(), "eu"));
    }
    let moved: Vec<Instance> = in_zones(&zones).into_iter().map(|instance| instance.zone("us")).collect();
    let change = world.set(&moved);
    assert_eq!((change.added.len(), change.removed.len()), (0, 3));
    let none = world.fleet.pick(world.now, PickFor::default()).unwrap_err();
    assert_eq!(none, NoEndpoint::OutsideRegion { region: "eu".into() });
    // An instance without a zone is in no region.
    world.set(&[Instance::new("x")]);
    assert!(world.fleet.pick(world.now, PickFor::default()).is_err());
}

#[test]
fn keys_leave_the_zone_each_as_a_whole() {
    let config = FleetConfig { balance: Balance::ConsistentHash, ..zone_config("a") };
    let mut world = World::of(config, 1, &in_zones(&["a", "a", "a", "b", "b"]));
    let down = world.ids()[0];
    world.fleet.on_connection(world.now, down, false);
    world.fleet.on_connection(world.now, down, false);
    let mut left = 0;
    for key in 0..1_000 {
        let first = world.pick_for(key);
        for _ in 0..3 {
            assert_eq!(world.pick_for(key), first);
        }
        left += usize::from(world.view(first).instance.zone.as_deref() == Some("b"));
    }
    // 67 % is usable of the 70 % that are needed.
    assert!((10..100).contains(&left), "{left}");
}

proptest! {
    #[test]
    fn the_share_grows_with_what_is_usable(zone in 1..1_000_000_u64, a in 0..1_000_000_u64, b in 0..1_000_000_u64, percent in 0..=100_u32) {
        let share = |usable: u64| share_in_zone(ZoneWeights { zone, usable: usable.min(zone) }, percent);
        prop_assert!(share(a.min(b)) <= share(a.max(b)));
        prop_assert_eq!(share(zone), SHARE_WHOLE);
        prop_assert_eq!(share(0), 0);
        let is_enough = a.min(zone) > 0 && u128::from(a.min(zone)) * 100 >= u128::from(zone) * u128::from(percent);
        prop_assert_eq!(share(a) == SHARE_WHOLE, is_enough);
    }

    #[test]
    fn at_most_the_share_is_ejected_and_those_with_the_most_failures(
        failures in proptest::collection::vec((any::<bool>(), 0..50_u32), 0..40),
        healthy in 0..40_usize,
        percent in 0..=100_u32,
    ) {
        let mut suspects: Vec<Suspect> = failures.iter().enumerate()
            .map(|(slot, (is_unhealthy, failures))| Suspect { is_unhealthy: *is_unhealthy, failures: *failures, slot: slot as u16 })
            .collect();
        let all = suspects.clone();
        let max = ejection::ejected_max(all.len() + healthy, percent);
        let ejected = ejection::choose(&mut suspects, max).to_vec();
        prop_assert!(ejected.len() * 100 <= (all.len() + healthy) * percent as usize);
        prop_assert_eq!(ejected.len(), all.len().min(max));
        let stays = all.iter().filter(|suspect| !ejected.contains(suspect));
        let rank = |suspect: &Suspect| (suspect.is_unhealthy, suspect.failures);
        if let (Some(worst), Some(best)) = (stays.map(rank).max(), ejected.iter().map(rank).min()) {
            prop_assert!(worst <= best);
        }
    }
}
