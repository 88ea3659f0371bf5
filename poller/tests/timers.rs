//! Compares the timing wheel with a simple model: a map of deadlines.

#![cfg(not(loom))]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use coreloop_poller::{Key, Timers};

const TICK: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
enum Step {
    Arm {
        slot: u32,
        after: Duration,
    },
    Cancel {
        slot: u32,
    },
    /// The entry is removed; its timer remains if `cancel` is false.
    Replace {
        slot: u32,
        cancel: bool,
    },
    /// A key of an earlier entry is used.
    StaleCancel {
        slot: u32,
    },
    StaleArm {
        slot: u32,
        after: Duration,
    },
    Pass {
        time: Duration,
    },
    /// Advance exactly to the wheel's next deadline.
    PassToNext,
    Shrink,
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => 0..5_000_000u64,
        3 => 0..200_000_000u64,
        2 => 0..10_000_000_000u64,
        2 => 0..3_600_000_000_000u64,
        // Around the boundaries of the levels, and of the wheel.
        2 => (0..25u32, 0..4_000_000u64).prop_map(|(shift, rest)| (1_000_000u64 << shift) + rest - 2_000_000u64.min(1_000_000 << shift)),
        1 => 0..100 * 86_400_000_000_000u64,
    ]
    .prop_map(Duration::from_nanos)
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..20u32;
    prop_oneof![
        8 => (slot.clone(), duration()).prop_map(|(slot, after)| Step::Arm { slot, after }),
        2 => slot.clone().prop_map(|slot| Step::Cancel { slot }),
        1 => (slot.clone(), any::<bool>()).prop_map(|(slot, cancel)| Step::Replace { slot, cancel }),
        1 => slot.clone().prop_map(|slot| Step::StaleCancel { slot }),
        1 => (slot, duration()).prop_map(|(slot, after)| Step::StaleArm { slot, after }),
        5 => duration().prop_map(|time| Step::Pass { time }),
        5 => Just(Step::PassToNext),
        1 => Just(Step::Shrink),
    ]
}

struct Twin {
    now: Instant,
    wheel: Timers,
    /// By slot: the key that armed the timer, and its deadline.
    map: BTreeMap<u32, (Key, Instant)>,
    generations: [u32; 20],
}

impl Twin {
    fn key(&self, slot: u32) -> Key {
        Key::new(slot, self.generations[slot as usize])
    }

    fn arm(&mut self, key: Key, after: Duration) {
        self.wheel.arm(key, self.now + after);
        self.map.insert(key.slot() as u32, (key, self.now + after));
    }

    fn cancel(&mut self, key: Key) {
        self.wheel.cancel(key);
        if self.map.get(&(key.slot() as u32)).is_some_and(|(armed, _)| *armed == key) {
            self.map.remove(&(key.slot() as u32));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Arm { slot, after } => self.arm(self.key(slot), after),
            Step::Cancel { slot } => self.cancel(self.key(slot)),
            Step::Replace { slot, cancel } => {
                if cancel {
                    self.cancel(self.key(slot));
                }
                let generation = &mut self.generations[slot as usize];
                *generation = generation.wrapping_add(1);
            }
            Step::StaleCancel { slot } => {
                let stale = Key::new(slot, self.generations[slot as usize].wrapping_sub(1));
                self.cancel(stale);
            }
            Step::StaleArm { slot, after } => {
                // Ignored if the timer of the slot's current entry is set; otherwise the key cannot be recognised as
                // stale.
                let stale = Key::new(slot, self.generations[slot as usize].wrapping_sub(1));
                if self.map.get(&slot).is_some_and(|(armed, _)| *armed == self.key(slot)) {
                    self.wheel.arm(stale, self.now + after);
                } else {
                    self.arm(stale, after);
                }
            }
            Step::Pass { time } => self.pass(self.now + time),
            Step::PassToNext => {
                if let Some(next) = self.wheel.next_at() {
                    self.pass(next.max(self.now));
                }
            }
            Step::Shrink => self.wheel.shrink(),
        }
        self.check();
    }

    fn pass(&mut self, to: Instant) {
        self.now = to;
        let mut fired = Vec::new();
        self.wheel.expire(to, &mut fired);
        for key in fired {
            let (armed, at) = self.map.remove(&(key.slot() as u32)).expect("fired, but was not armed");
            assert_eq!(armed, key, "fired for the wrong entry");
            assert!(at <= to, "{key} fired early");
        }
        for (key, at) in self.map.values() {
            assert!(*at + TICK > to, "{key} is late by a tick or more");
        }
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.map.len());
        for (slot, generation) in self.generations.iter().enumerate() {
            for generation in [*generation, generation.wrapping_sub(1)] {
                let key = Key::new(slot as u32, generation);
                let expected =
                    self.map.get(&(slot as u32)).filter(|(armed, _)| *armed == key).map(|(_, at)| *at);
                assert_eq!(self.wheel.armed_at(key), expected);
            }
        }
        let earliest = self.map.values().map(|(_, at)| *at).min();
        match (self.wheel.next_at(), earliest) {
            (None, None) => {}
            (Some(next), Some(earliest)) => {
                assert!(next < earliest.max(self.now) + TICK, "would sleep too long")
            }
            (next, earliest) => panic!("next {next:?}, but earliest {earliest:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wheel_agrees_with_a_map(steps in prop::collection::vec(step(), 1..200), odd_ns in 0..3_000_000u64) {
        let start = Instant::now();
        let mut twin = Twin {
            now: start,
            wheel: Timers::new(start),
            map: BTreeMap::new(),
            generations: std::array::from_fn(|slot| if slot % 3 == 0 { u32::MAX - 1 } else { 0 }),
        };
        twin.pass(start + Duration::from_nanos(odd_ns));
        for step in steps {
            twin.take(step);
        }
        // None is lost: the remaining timers expire at their time.
        let last = twin.map.values().map(|(_, at)| *at).max().unwrap_or(twin.now);
        twin.pass(last.max(twin.now) + TICK);
        prop_assert!(twin.map.is_empty());
        prop_assert!(twin.wheel.is_empty());
        prop_assert_eq!(twin.wheel.next_at(), None);
    }
}

#[test]
fn long_pause_costs_what_its_timers_cost() {
    // A century of ticks: if each of them were visited, this test would not end.
    let start = Instant::now();
    let mut timers = Timers::new(start);
    for slot in 0..1000u32 {
        timers.arm(Key::new(slot, 0), start + Duration::from_secs(u64::from(slot) * 3_000_000));
    }
    let mut fired = Vec::new();
    timers.expire(start + Duration::from_secs(100 * 365 * 86_400), &mut fired);
    assert_eq!(fired.len(), 1000);
    assert!(timers.is_empty());
}
