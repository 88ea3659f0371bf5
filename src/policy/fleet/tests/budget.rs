//! The budget: over any window, what is taken is at most what calls and time add, and the burst.

use proptest::prelude::*;

use crate::policy::fleet::BudgetConfig;
use crate::policy::fleet::budget::Budget;

#[derive(Clone, Copy, Debug)]
enum Event {
    Call,
    Take,
    Pause(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let pause = prop_oneof![0..2_000_000_000_u64, 0..50_000_000_u64, 0..1_000_u64];
    let event = prop_oneof![Just(Event::Call), Just(Event::Take), pause.prop_map(Event::Pause)];
    proptest::collection::vec(event, 1..300)
}

proptest! {
    #[test]
    fn over_any_window_no_more_is_taken_than_the_bound(
        events in events(),
        percent in 0..=200_u32,
        per_second in 0..=50_u32,
        burst in 1..20_u32,
    ) {
        let config = BudgetConfig { percent, per_second, burst };
        let mut budget = Budget::new(&config);
        // The sums of calls and of tokens, and the time, before each event.
        let (mut now_ns, mut calls, mut taken) = (1_000_000_000_u64, 0_u64, 0_u64);
        let mut before = Vec::new();
        for event in events {
            before.push((now_ns, calls, taken));
            match event {
                Event::Call => {
                    budget.on_call(&config);
                    calls += 1;
                }
                Event::Take => taken += u64::from(budget.take(now_ns, &config).is_ok()),
                Event::Pause(ns) => now_ns += ns,
            }
            budget.check(&config);
            for (from_ns, calls_before, taken_before) in &before {
                let bound = (calls - calls_before) as f64 * f64::from(percent) / 100.0
                    + (now_ns - from_ns) as f64 / 1e9 * f64::from(per_second)
                    + f64::from(burst);
                let in_window = (taken - taken_before) as f64;
                // The burst may hold what time added before the window but was not counted yet: less than one token.
                prop_assert!(in_window <= bound + 1.0, "{in_window} of {bound}");
            }
        }
    }

    #[test]
    fn what_is_added_can_be_taken(calls in 0..500_u64, seconds in 0..50_u64) {
        let config = BudgetConfig { percent: 20, per_second: 10, burst: 1_000_000 };
        let mut budget = Budget::new(&BudgetConfig { burst: 1, ..config });
        let mut now_ns = 0;
        prop_assert!(budget.take(now_ns, &config).is_ok());
        for _ in 0..calls {
            budget.on_call(&config);
        }
        // In steps that are no multiple of the time for a token: none may be lost.
        let end_ns = seconds * 1_000_000_000;
        let mut taken = 0;
        while now_ns < end_ns {
            now_ns = (now_ns + 7_777_777).min(end_ns);
            taken += u64::from(budget.take(now_ns, &config).is_ok());
        }
        while budget.take(end_ns, &config).is_ok() {
            taken += 1;
        }
        prop_assert_eq!(taken, (calls * 20 + seconds * 1_000) / 100);
    }
}

#[test]
fn an_empty_budget_is_reported_once_until_it_is_full() {
    let config = BudgetConfig { percent: 100, per_second: 0, burst: 2 };
    let mut budget = Budget::new(&config);
    let mut firsts = || (0..4).map(|_| budget.take(0, &config).is_err_and(|empty| empty.is_first)).collect();
    let first: Vec<bool> = firsts();
    assert_eq!(first, [false, false, true, false]);
    budget.on_call(&config);
    assert!(budget.take(0, &config).is_ok());
    assert!(!budget.take(0, &config).unwrap_err().is_first, "it was not full");
    budget.on_call(&config);
    budget.on_call(&config);
    let again: Vec<bool> =
        (0..3).map(|_| budget.take(0, &config).is_err_and(|empty| empty.is_first)).collect();
    assert_eq!(again, [false, false, true]);
}
