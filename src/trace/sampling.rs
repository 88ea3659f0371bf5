//! Which calls get a span: one in many, and slow and failed ones within a budget. Pure, and for one thread.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::{SpanId, TraceId};
use crate::random::Random;

/// Makes the ids of traces and spans.
#[derive(Debug)]
pub(crate) struct TraceIds(Random);

impl TraceIds {
    /// Creates a source whose ids differ from those of other sources and processes.
    pub(crate) fn new() -> TraceIds {
        // The keys of the hasher come from the system's random numbers.
        TraceIds(Random::new(RandomState::new().hash_one(0)))
    }

    pub(crate) fn trace_id(&mut self) -> TraceId {
        loop {
            let bits = u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64());
            if let Some(id) = TraceId::new(bits) {
                return id;
            }
        }
    }

    pub(crate) fn span_id(&mut self) -> SpanId {
        loop {
            if let Some(id) = SpanId::new(self.0.next_u64()) {
                return id;
            }
        }
    }
}

/// Selects one call in `every`. The first one is random, so that the reactors of many processes do not select the same
/// calls of a regular load.
#[derive(Debug)]
pub(crate) struct CallSampler {
    every: u64,
    /// Calls up to the next that is selected: at least 1.
    left: u64,
}

impl CallSampler {
    /// Creates a sampler; with 0 it selects none.
    pub(crate) fn new(every: u64) -> CallSampler {
        let first = RandomState::new().hash_one(1);
        CallSampler { every, left: if every == 0 { u64::MAX } else { 1 + first % every } }
    }

    /// Returns whether the next call is selected.
    #[inline]
    pub(crate) fn select(&mut self) -> bool {
        self.left -= 1;
        self.left == 0 && self.restart()
    }

    #[cold]
    fn restart(&mut self) -> bool {
        self.left = if self.every == 0 { u64::MAX } else { self.every };
        self.every != 0
    }
}

/// Bounds the spans of each second that are kept although their calls were not sampled.
#[derive(Debug)]
pub(crate) struct KeepBudget {
    per_second_max: u64,
    /// The begin of the second.
    since: Option<Instant>,
    kept: u64,
}

impl KeepBudget {
    pub(crate) fn new(per_second_max: u64) -> KeepBudget {
        KeepBudget { per_second_max, since: None, kept: 0 }
    }

    /// Returns whether one more may be kept, and counts it.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let is_over = |since| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.since.is_none_or(is_over) {
            (self.since, self.kept) = (Some(now), 0);
        }
        let may_keep = self.kept < self.per_second_max;
        self.kept += u64::from(may_keep);
        may_keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_many_is_selected() {
        for every in [1, 2, 10] {
            let mut sampler = CallSampler::new(every);
            let selected: Vec<u64> = (0..100).filter(|_| sampler.select()).collect();
            assert_eq!(selected.len() as u64, 100 / every);
            assert!(selected.windows(2).all(|pair| pair[1] - pair[0] == every));
        }
        let mut none = CallSampler::new(0);
        assert!((0..1000).all(|_| !none.select()));
        none.left = 1;
        assert!(!none.select() && none.left == u64::MAX);
    }

    #[test]
    fn the_first_selected_call_differs() {
        let firsts: std::collections::BTreeSet<u64> =
            (0..50).map(|_| CallSampler::new(1 << 40).left).collect();
        assert!(firsts.len() > 40, "{firsts:?}");
    }

    #[test]
    fn the_budget_is_that_of_each_second() {
        let start = Instant::now();
        let mut budget = KeepBudget::new(2);
        let mut at = |ms| budget.take(start + Duration::from_millis(ms));
        assert_eq!([0, 10, 20, 999].map(&mut at), [true, true, false, false]);
        assert_eq!([1000, 1001, 1999].map(&mut at), [true, true, false]);
        // The clock of another thread may be behind.
        assert!(!at(5));
        assert!(!KeepBudget::new(0).take(start));
    }

    #[test]
    fn ids_are_not_repeated() {
        let (mut first, mut second) = (TraceIds::new(), TraceIds::new());
        let ids: std::collections::BTreeSet<TraceId> =
            (0..100).flat_map(|_| [first.trace_id(), second.trace_id()]).collect();
        assert_eq!(ids.len(), 200);
        assert_ne!(first.span_id(), first.span_id());
    }
}
