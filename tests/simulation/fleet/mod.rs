//! One world of clients, resolvers, servers and a network between them, under a fake clock, from a seed: the real
//! [`Fleet`](coreloop::policy::fleet::Fleet) of each client with all its policies, and the real run queue of each server.
//! Servers stop, crash, are replaced, get slow, fail fast and refuse; connections are lost; the network delays messages
//! and is partitioned; resolvers are late, fail, and find nothing or too little.
//!
//! After the faults have ended, the clients must recover by themselves. What must hold is in [`audit`].
//!
//! | variable | meaning |
//! |---|---|
//! | `SIM_SEEDS` | the number of seeds (default 100) |
//! | `SIM_FIRST` | the first of them (default 0) |
//! | `SIM_SEED` | this seed alone, with a trace: the time in seconds, the actor, and what happens |
//!
//! ```text
//! SIM_SEEDS=10000 cargo test --release -p coreloop --test simulation fleet -- --nocapture
//! ```

mod audit;
mod client;
mod endpoints;
mod faults;
mod network;
mod scenario;
mod server;
mod world;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use scenario::SECOND;
use world::{Outcome, Sabotage, Violation, World};

use crate::number;

/// Seeds of a run without `SIM_SEEDS`.
const SEEDS: u64 = 100;
/// With more seeds than this, a line is printed for each tenth of them.
const SEEDS_QUIET_MAX: u64 = 1_000;

/// Runs a seed. A panic of the policies is a violation too.
fn run(seed: u64, sabotage: Sabotage, is_traced: bool) -> Result<Outcome, Violation> {
    let result = catch_unwind(AssertUnwindSafe(|| World::new(seed, sabotage, is_traced).run()));
    result
        .unwrap_or_else(|panic| Err(Violation { at: 0, invariant: "nothing panics", text: text_of(&*panic) }))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// What some seeds have come to.
#[derive(Default)]
struct Sums {
    seeds: u64,
    sum: Outcome,
    goodput_min: [u64; 2],
    violations: BTreeMap<u64, Violation>,
}

impl Sums {
    fn add(&mut self, seed: u64, result: Result<Outcome, Violation>) {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(violation) => return drop(self.violations.insert(seed, violation)),
        };
        if self.seeds == 0 {
            self.goodput_min = [1_000; 2];
        }
        self.seeds += 1;
        let sum = &mut self.sum;
        let pairs = [
            (&mut sum.events, outcome.events),
            (&mut sum.calls, outcome.calls),
            (&mut sum.succeeded, outcome.succeeded),
            (&mut sum.retries, outcome.retries),
            (&mut sum.hedges, outcome.hedges),
            (&mut sum.hedges_won, outcome.hedges_won),
            (&mut sum.faults, outcome.faults),
            (&mut sum.breakers_opened, outcome.breakers_opened),
            (&mut sum.breakers_closed, outcome.breakers_closed),
            (&mut sum.budgets_empty, outcome.budgets_empty),
            (&mut sum.spilled_over, outcome.spilled_over),
        ];
        pairs.into_iter().for_each(|(sum, count)| *sum += count);
        for (least, goodput) in self.goodput_min.iter_mut().zip(outcome.goodput) {
            *least = goodput.min(*least);
        }
    }
}

/// Runs seeds on all cores.
fn run_all(first: u64, count: u64) -> Sums {
    let next = AtomicU64::new(0);
    let sums = Mutex::new(Sums::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let result = run(first + index, Sabotage::None, false);
                    sums.lock().unwrap().add(first + index, result);
                    if count > SEEDS_QUIET_MAX && (index + 1).is_multiple_of(count / 10) {
                        let violations = sums.lock().unwrap().violations.len();
                        println!("{} seeds of {count}, {violations} with violations", index + 1);
                    }
                }
            });
        }
    });
    sums.into_inner().unwrap()
}

#[test]
fn a_fleet_recovers_from_every_fault() {
    if let Some(seed) = number("SIM_SEED") {
        let outcome = run(seed, Sabotage::None, true);
        println!("seed {seed}: {outcome:?}");
        assert!(outcome.is_ok(), "seed {seed}");
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let sums = run_all(number("SIM_FIRST").unwrap_or(0), seeds);
    println!("{} seeds: {:?}, least goodput {:?}", sums.seeds, sums.sum, sums.goodput_min);
    for (seed, violation) in &sums.violations {
        let Violation { at, invariant, text } = violation;
        let at = *at as f64 / SECOND as f64;
        println!("seed {seed} at {at:.3} s: {invariant}: {text}");
    }
    if let Some((seed, violation)) = sums.violations.first_key_value() {
        panic!(
            "{} of {seeds} seeds violate an invariant, the first is {seed}: {}; alone, with a trace: \
             SIM_SEED={seed} cargo test -p coreloop --test simulation a_fleet_recovers -- --nocapture",
            sums.violations.len(),
            violation.invariant
        );
    }
    if seeds >= SEEDS {
        let Outcome { retries, breakers_opened, budgets_empty, spilled_over, .. } = sums.sum;
        for (name, count) in [
            ("retries", retries),
            ("breakers", breakers_opened),
            ("budgets", budgets_empty),
            ("zones", spilled_over),
        ] {
            assert!(count > 0, "no seed has had to do with {name}");
        }
    }
}

/// These have violated an invariant before the policies were mended.
#[test]
fn seeds_that_have_found_a_fault_pass() {
    for seed in [5_908, 9_847] {
        assert_eq!(run(seed, Sabotage::None, false).err(), None, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 0..4 {
        assert_eq!(run(seed, Sabotage::None, false), run(seed, Sabotage::None, false), "seed {seed}");
    }
}

/// The world notices what it is there to notice.
#[test]
fn a_client_or_server_that_breaks_a_rule_is_noticed() {
    let cases = [
        (Sabotage::RetriesWithoutBudget, "retries and hedges stay within the budget"),
        (Sabotage::RepeatsEverything, "a call that may not be repeated runs once"),
        (Sabotage::EndsTwice, "a call ends once"),
        (Sabotage::ForgetsEnds, "attempts in flight are counted"),
        (Sabotage::EmptyUpdateEmpties, "an empty update never empties a working set"),
        (Sabotage::LeavesRegion, "calls stay in their region"),
        (Sabotage::StarvesOneEndpoint, "no endpoint is starved"),
        (Sabotage::StaysSlow, "75 s after the faults, goodput is at least 95 %"),
    ];
    for (sabotage, invariant) in cases {
        let notices =
            |seed: &u64| run(*seed, sabotage, false).is_err_and(|violation| violation.invariant == invariant);
        let seed = (0..200).find(notices);
        assert!(seed.is_some(), "{sabotage:?} is not reported as {invariant:?}");
    }
}
