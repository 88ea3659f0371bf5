use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const QUANTUM_NS: u32 = 100_000;

fn charge(source: SourceId, level: u8, estimate_ns: u32) -> Charge {
    Charge { source, level, estimate_ns }
}

#[test]
fn a_source_that_begins_to_wait_is_served_next() {
    let mut queue = FairQueue::new(QUANTUM_NS);
    let (many, one) = (queue.add_source(), queue.add_source());
    for call in 0..1000 {
        queue.push(charge(many, 0, 64_000), call);
    }
    for _ in 0..10 {
        assert_eq!(queue.pop().unwrap().0.source, many);
    }
    queue.push(charge(one, 0, 64_000), 1000);
    assert_eq!(queue.before_ns(one, 0), 2 * 64_000, "its own share of the work");
    assert_eq!(queue.pop().unwrap().0.source, one);
    assert_eq!(queue.before_ns(many, 0), 990 * 64_000);
}

#[test]
fn a_higher_level_is_served_first() {
    let mut queue = FairQueue::new(QUANTUM_NS);
    let source = queue.add_source();
    for level in [3, 1, 0, 2, 1] {
        queue.push(charge(source, level, 1000), level);
    }
    assert_eq!((queue.queued_ns(0), queue.queued_ns(1), queue.queued_ns(3)), (1000, 3000, 5000));
    assert_eq!((queue.before_ns(source, 1), queue.before_ns(source, 3)), (3000, 5000));
    let order: Vec<u8> = std::iter::from_fn(|| queue.pop()).map(|(_, level)| level).collect();
    assert_eq!(order, [0, 1, 1, 2, 3]);
}

/// Serves calls from two sources that always wait, for `calls` calls; the first source's calls take `factor` times the
/// estimate. Returns the time of each source.
fn share_of_time(calls: usize, factor: u32) -> [u64; 2] {
    let mut queue = FairQueue::new(QUANTUM_NS);
    let sources = [queue.add_source(), queue.add_source()];
    let mut used = [0; 2];
    for source in sources {
        (0..100).for_each(|_| _ = queue.push(charge(source, 0, 3_000), ()));
    }
    for _ in 0..calls {
        let (charged, ()) = queue.pop().unwrap();
        let at = usize::from(charged.source == sources[1]);
        let took_ns = if at == 0 { 3_000 * factor } else { 3_000 };
        used[at] += u64::from(took_ns);
        queue.settle(charged, 7, Some(took_ns), Instant::now());
        queue.push(charged, ());
    }
    used
}

#[test]
fn a_source_pays_for_calls_that_took_longer_than_estimated() {
    let [even, other] = share_of_time(10_000, 1);
    assert!(even.abs_diff(other) <= u64::from(QUANTUM_NS) + 3_000, "{even} and {other}");
    let [slow, other] = share_of_time(100_000, 2000);
    assert!(slow.abs_diff(other) <= 2 * (u64::from(QUANTUM_NS) + 6_000_000), "{slow} and {other}");
}

#[test]
fn the_mean_of_a_source_follows_its_calls() {
    let mut queue = FairQueue::new(QUANTUM_NS);
    let (source, now) = (queue.add_source(), Instant::now());
    queue.push(charge(source, 3, 10), ());
    let mut run = |took_ns| {
        queue.push(charge(source, 0, 10), ());
        let (charge, ()) = queue.pop().unwrap();
        queue.settle(charge, 7, Some(took_ns), now);
        assert_eq!(queue.mean_ns(source, 8, now), None, "of another method");
        queue.mean_ns(source, 7, now).unwrap()
    };
    assert_eq!(run(3_000), 3_000);
    assert_eq!(run(6_000_000), 8_250, "one call says little");
    for _ in 0..16 {
        run(6_000_000);
    }
    assert!(run(6_000_000).abs_diff(6_000_000) < 1_000_000);
    let (last, ()) = queue.pop().unwrap();
    queue.settle(last, 7, Some(1), now);
    // It has no call now.
    assert!(queue.mean_ns(source, 7, now + MEAN_KEPT).is_some());
    let later = now + MEAN_KEPT + Duration::from_nanos(1);
    assert_eq!(queue.mean_ns(source, 7, later), None, "its next calls may be others");
    queue.push(charge(source, 0, 10), ());
    let (first, ()) = queue.pop().unwrap();
    queue.settle(first, 7, Some(50), later);
    assert_eq!(queue.mean_ns(source, 7, later), Some(50), "what was forgotten does not count");
}

#[test]
fn a_call_that_did_not_run_costs_nothing() {
    let mut queue = FairQueue::new(QUANTUM_NS);
    let (source, other) = (queue.add_source(), queue.add_source());
    queue.push(charge(other, 0, 1), 0);
    queue.push(charge(source, 0, 50 * QUANTUM_NS), 1);
    queue.push(charge(source, 0, 1), 2);
    queue.push(charge(other, 0, 1), 3);
    queue.pop().unwrap();
    let (charged, call) = queue.pop().unwrap();
    assert_eq!(call, 3);
    queue.settle(charged, 7, Some(1), Instant::now());
    queue.push(charge(other, 0, 1), 4);
    let (charged, call) = queue.pop().unwrap();
    assert_eq!(call, 4, "a source keeps its turn");
    queue.settle(charged, 7, Some(QUANTUM_NS), Instant::now());
    let (charged, call) = queue.pop().unwrap();
    assert_eq!(call, 1);
    queue.settle(charged, 7, None, Instant::now());
    assert_eq!(queue.pop().unwrap().1, 2);
}

#[test]
fn a_source_is_forgotten_with_its_last_call() {
    let mut queue = FairQueue::new(QUANTUM_NS);
    let source = queue.add_source();
    queue.join(source);
    queue.push(charge(source, 0, 5), 1);
    let removed = queue.push(charge(source, 2, 5), 2);
    assert!(!queue.leave(source));
    assert!(queue.leave(source), "the last connection");
    assert_eq!(queue.remove(removed), Some(2));
    assert_eq!(queue.remove(removed), None);
    let (charged, _) = queue.pop().unwrap();
    assert_eq!(queue.sources(), 1);
    queue.settle(charged, 7, Some(5), Instant::now());
    assert_eq!(queue.sources(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Push { source: usize, level: u8, cost_ns: u32 },
    Pop { took_ns: Option<u32> },
    Remove { nth: usize },
    Leave { source: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..5usize, 0..4u8, 0..300_000u32)
            .prop_map(|(source, level, cost_ns)| Step::Push { source, level, cost_ns }),
        4 => proptest::option::of(0..2_000_000u32).prop_map(|took_ns| Step::Pop { took_ns }),
        1 => (0..50usize).prop_map(|nth| Step::Remove { nth }),
        1 => (0..5usize).prop_map(|source| Step::Leave { source }),
    ]
}

proptest! {
    /// Against a plain model: every call leaves once; calls of one source and level leave in their order; no call
    /// leaves before one of a higher level; the sums are those of the waiting calls; nothing is left at the end.
    #[test]
    fn calls_leave_once_and_in_order(steps in proptest::collection::vec(step(), 1..300)) {
        let mut queue = FairQueue::new(QUANTUM_NS);
        let mut sources: Vec<SourceId> = (0..5).map(|_| queue.add_source()).collect();
        let mut waiting: VecDeque<(ItemId, SourceId, u8, u32, usize)> = VecDeque::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { source, level, cost_ns } => {
                    let source = sources[source];
                    let id = queue.push(charge(source, level, cost_ns), number);
                    waiting.push_back((id, source, level, cost_ns, number));
                }
                Step::Pop { took_ns } => {
                    let Some((charged, number)) = queue.pop() else {
                        prop_assert!(waiting.is_empty());
                        continue;
                    };
                    let highest = waiting.iter().map(|call| call.2).min();
                    prop_assert_eq!(Some(charged.level), highest);
                    let first = waiting
                        .iter()
                        .position(|call| call.1 == charged.source && call.2 == charged.level)
                        .unwrap();
                    let call = waiting.remove(first).unwrap();
                    prop_assert_eq!((call.3, call.4), (charged.estimate_ns, number));
                    queue.settle(charged, number as u32 % 3, took_ns, Instant::now());
                }
                Step::Remove { nth } => {
                    if let Some(call) = waiting.remove(nth) {
                        prop_assert_eq!(queue.remove(call.0), Some(call.4));
                    }
                }
                Step::Leave { source } => {
                    prop_assert!(queue.leave(sources[source]));
                    sources[source] = queue.add_source();
                }
            }
            prop_assert_eq!(queue.len(), waiting.len());
            for level in 0..4 {
                let sum: u64 =
                    waiting.iter().filter(|call| call.2 <= level).map(|call| u64::from(call.3)).sum();
                prop_assert_eq!(queue.queued_ns(level), sum);
                for source in &sources {
                    prop_assert!(queue.before_ns(*source, level) <= sum);
                }
            }
        }
        while let Some((charged, _)) = queue.pop() {
            queue.settle(charged, 0, None, Instant::now());
        }
        sources.into_iter().for_each(|source| _ = queue.leave(source));
        prop_assert_eq!(queue.sources(), 0);
    }

    /// Sources that always wait get equal time, within one quantum, one call and the error of the estimates that are
    /// not settled yet, whatever their calls cost and whatever was estimated.
    #[test]
    fn time_is_shared_evenly(
        costs in proptest::collection::vec((1_000..200_000u32, 1_000..200_000u32), 2..6),
        rounds in 500..3000usize,
    ) {
        let mut queue = FairQueue::new(QUANTUM_NS);
        let sources: Vec<SourceId> = costs.iter().map(|_| queue.add_source()).collect();
        for (source, (estimate_ns, _)) in sources.iter().zip(&costs) {
            (0..3).for_each(|_| _ = queue.push(charge(*source, 1, *estimate_ns), ()));
        }
        let mut used = vec![0u64; costs.len()];
        for _ in 0..rounds {
            let (charged, ()) = queue.pop().unwrap();
            let at = sources.iter().position(|source| *source == charged.source).unwrap();
            used[at] += u64::from(costs[at].1);
            queue.settle(charged, 0, Some(costs[at].1), Instant::now());
            queue.push(charged, ());
        }
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        prop_assert!(most - least <= 2 * u64::from(QUANTUM_NS) + 2 * 200_000, "{:?}", used);
    }
}
