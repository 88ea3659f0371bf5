//! Tests of the pauses that servers ask for: they delay the calls to that endpoint, and no others.

use super::*;

/// Ends an attempt that the server has refused, and decides what follows.
fn refuse(world: &mut World, call: &mut CallAttempts, endpoint: EndpointId, asked_ms: u64) -> AfterAttempt {
    let retry_after = Some(Duration::from_millis(asked_ms));
    let (outcome, took) = (Outcome::Refused, Duration::from_micros(50));
    let end = AttemptEnd { endpoint, method: 1, outcome, took, load_us: None, retry_after };
    world.fleet.on_attempt_end(world.now, &end);
    let failed = FailedAttempt {
        outcome,
        may_have_run: false,
        is_idempotent: false,
        is_retryable: true,
        retry_after,
        left: None,
    };
    world.fleet.after_attempt(world.now, call, &failed)
}

/// Makes an attempt of a call.
fn attempt(world: &mut World, call: &mut CallAttempts) -> EndpointId {
    let pick = PickFor { tried: &call.tried, ..PickFor::default() };
    let endpoint = world.fleet.pick(world.now, pick).unwrap();
    call.tried.push(endpoint);
    endpoint
}

const BALANCES: [Balance; 5] =
    [Balance::P2c, Balance::RoundRobin, Balance::Weighted, Balance::LeastLoaded, Balance::ConsistentHash];

fn with(balance: Balance, count: usize) -> World {
    World::with(FleetConfig { balance, ..FleetConfig::default() }, 7, count)
}

#[test]
fn a_pause_of_one_endpoint_does_not_delay_a_retry_at_another() {
    for balance in BALANCES {
        let (mut world, mut call) = (with(balance, 3), CallAttempts::default());
        let first = attempt(&mut world, &mut call);
        let after = refuse(&mut world, &mut call, first, 5_000);
        // Only the jitter of the first retry: at most 25 ms.
        let AfterAttempt::Retry(pause) = after else { panic!("{balance:?}: {after:?}") };
        assert!(pause <= Duration::from_millis(25), "{balance:?}: {pause:?}");
        assert_ne!(attempt(&mut world, &mut call), first, "{balance:?}");
    }
}

#[test]
fn a_pause_longer_than_calls_wait_does_not_end_a_call_that_another_endpoint_takes() {
    let (mut world, mut call) = (with(Balance::P2c, 2), CallAttempts::default());
    let first = attempt(&mut world, &mut call);
    assert!(matches!(refuse(&mut world, &mut call, first, 3_600_000), AfterAttempt::Retry(_)));
    let second = attempt(&mut world, &mut call);
    assert_ne!(second, first);
    // The last one asks for as much: there is none to wait for.
    assert_eq!(refuse(&mut world, &mut call, second, 3_600_000), AfterAttempt::End);
}

#[test]
fn when_all_ask_for_a_pause_the_call_waits_for_the_shortest() {
    for balance in BALANCES {
        let (mut world, mut call) = (with(balance, 2), CallAttempts::default());
        let first = attempt(&mut world, &mut call);
        assert!(matches!(refuse(&mut world, &mut call, first, 400), AfterAttempt::Retry(_)));
        world.after(Duration::from_millis(100));
        let second = attempt(&mut world, &mut call);
        let after = refuse(&mut world, &mut call, second, 5_000);
        let AfterAttempt::Retry(pause) = after else { panic!("{balance:?}: {after:?}") };
        // What is left of the first one's pause, and up to a quarter of it.
        let (least, most) = (Duration::from_millis(300), Duration::from_millis(375));
        assert!(least <= pause && pause <= most, "{balance:?}: {pause:?}");
        world.after(pause);
        assert_eq!(attempt(&mut world, &mut call), first, "{balance:?}: its pause is over");
    }
}

#[test]
fn new_calls_avoid_an_endpoint_until_its_pause_is_over() {
    for balance in BALANCES {
        let mut world = with(balance, 3);
        let mut call = CallAttempts::default();
        let paused = attempt(&mut world, &mut call);
        refuse(&mut world, &mut call, paused, 1_000);
        world.after(Duration::from_millis(999));
        for key in 0..200 {
            let endpoint =
                if balance == Balance::ConsistentHash { world.pick_for(key << 50) } else { world.pick() };
            assert_ne!(endpoint, paused, "{balance:?}");
            world.end(endpoint, Outcome::Success, 100);
        }
        world.after(Duration::from_millis(1));
        let is_used = (0..200_u64).any(|key| {
            let endpoint =
                if balance == Balance::ConsistentHash { world.pick_for(key << 50) } else { world.pick() };
            world.end(endpoint, Outcome::Success, 100);
            endpoint == paused
        });
        assert!(is_used, "{balance:?}");
    }
}

#[test]
fn calls_are_made_though_every_endpoint_has_asked_for_a_pause() {
    for balance in BALANCES {
        let mut world = with(balance, 2);
        for id in world.ids() {
            let mut call = CallAttempts::default();
            while attempt(&mut world, &mut call) != id {
                call.tried.pop();
            }
            refuse(&mut world, &mut call, id, 5_000);
        }
        let picked: Vec<EndpointId> = (0..100).map(|_| world.pick()).collect();
        assert!(counts(&world.ids(), &picked).iter().all(|count| *count > 0), "{balance:?}");
    }
}

#[test]
fn a_new_call_does_not_leave_its_zone_for_a_pause_and_a_retry_does() {
    let config = FleetConfig { zone: Some("a".to_owned()), ..FleetConfig::default() };
    let instances = [Instance::new("1").zone("a"), Instance::new("2").zone("b")];
    let mut world = World::of(config, 7, &instances);
    let [near, far] = world.ids()[..] else { panic!("two endpoints") };
    let mut call = CallAttempts::default();
    assert_eq!(attempt(&mut world, &mut call), near);
    assert!(matches!(refuse(&mut world, &mut call, near, 1_000), AfterAttempt::Retry(_)));
    assert_eq!(attempt(&mut world, &mut call), far);
    assert_eq!(attempt(&mut world, &mut CallAttempts::default()), near);
}
