//! Searches for the highest rate that meets an objective: doubles the rate until it fails, then halves the gap. It
//! uses neither clocks nor sockets: it returns a rate to try and receives the result.

use serde::Serialize;

use super::objective::ObjectiveResult;
use super::outcome::Outcome;
use super::units::{self, Promise};

/// The search ends when the ratio of failed to kept rate is at most this.
const CLOSE_ENOUGH: f64 = 1.05;
/// The maximum number of probes.
const PROBES_MAX: u32 = 24;
/// A search whose first rates fail gives up below this rate.
const RATE_MIN: f64 = 1.0;

/// The state of a search.
#[derive(Clone, Debug)]
pub struct Search {
    rate: f64,
    kept: Option<f64>,
    broken: Option<f64>,
    /// The current rate has failed once. It gets a second try, because machines have hiccups.
    is_second_try: bool,
    probes: u32,
}

impl Search {
    /// Creates a search that begins with this rate.
    pub fn new(rate: f64) -> Search {
        Search { rate, kept: None, broken: None, is_second_try: false, probes: 0 }
    }

    /// Returns the next rate to try; `None` when the search is over.
    pub fn next_rate(&self) -> Option<f64> {
        let is_close = self.kept.zip(self.broken).is_some_and(|(kept, broken)| broken / kept <= CLOSE_ENOUGH);
        (!is_close && self.probes < PROBES_MAX && self.rate >= RATE_MIN).then_some(self.rate)
    }

    /// Records the result for the rate of [`next_rate`](Search::next_rate).
    pub fn on_probe(&mut self, is_kept: bool) {
        self.probes += 1;
        if !is_kept && !std::mem::replace(&mut self.is_second_try, true) {
            return;
        }
        self.is_second_try = false;
        match is_kept {
            true => self.kept = Some(self.rate),
            false => self.broken = Some(self.rate),
        }
        self.rate = match (self.kept, self.broken) {
            (Some(kept), Some(broken)) => (kept * broken).sqrt(),
            (Some(kept), None) => kept * 2.0,
            (None, Some(broken)) => broken / 4.0,
            (None, None) => self.rate,
        };
    }

    /// Returns the highest rate that was kept.
    pub fn found(&self) -> Option<f64> {
        self.kept
    }
}

/// One probe, as listed in the results.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// The requested calls per second.
    pub rate: f64,
    /// Ok answers per second.
    pub calls_per_s: f64,
    /// Ok answers within their deadline, per second. `None` without a deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_time_per_s: Option<f64>,
    /// Median latency from the intended time, in ns.
    pub p50_ns: Option<u64>,
    /// 99th percentile of the latency from the intended time, in ns.
    pub p99_ns: Option<u64>,
    /// Whether the objective was met.
    pub kept: bool,
    /// The parts of the objective that were missed.
    pub why: Vec<String>,
    /// Whether the generator or the machine, and not the server, may be the reason.
    pub doubtful: bool,
}

impl Probe {
    /// Compares a result with the objective.
    pub fn of(promise: &Promise, rate: f64, outcome: &Outcome) -> Probe {
        let result = ObjectiveResult::of(promise, outcome);
        let latency = &outcome.total.latency;
        Probe {
            rate,
            calls_per_s: outcome.calls_per_s,
            in_time_per_s: outcome.in_time_per_s,
            p50_ns: latency.at(50.0),
            p99_ns: latency.at(99.0),
            kept: result.met,
            why: result.missed_short,
            doubtful: outcome.verdict.is_doubtful(),
        }
    }

    /// Returns the probe as one line of text.
    pub fn line(&self) -> String {
        format!(
            "{:>12} calls/s  p99 {:>9}  {}{}",
            units::count(self.rate.round()),
            self.p99_ns.map_or("–".into(), |ns| units::latency(ns as f64)),
            if self.kept { "met".to_owned() } else { format!("missed: {}", self.why.join(", ")) },
            if self.doubtful {
                "  (generator late, saturated or disturbed, or its cores stolen)"
            } else {
                ""
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search against a model of a server that meets the objective up to `bound`.
    fn search(bound: f64, start: f64) -> (Search, u32) {
        let mut search = Search::new(start);
        let mut probes = 0;
        while let Some(rate) = search.next_rate() {
            probes += 1;
            search.on_probe(rate <= bound);
        }
        (search, probes)
    }

    #[test]
    fn search_ends_just_below_the_bound() {
        for bound in [10.0, 999.0, 1000.0, 47_300.0, 1_900_000.0] {
            let (search, probes) = search(bound, 1000.0);
            let found = search.found().expect("kept somewhere");
            assert!(found <= bound && bound / found <= CLOSE_ENOUGH, "{bound}: {found}");
            assert!(probes <= PROBES_MAX);
        }
    }

    #[test]
    fn a_single_failure_is_retried() {
        let mut search = Search::new(1000.0);
        let mut is_first = true;
        while let Some(rate) = search.next_rate() {
            let hiccup = rate > 3000.0 && std::mem::take(&mut is_first);
            search.on_probe(rate <= 50_000.0 && !hiccup);
        }
        assert!(search.found().is_some_and(|found| found > 47_000.0));
    }

    #[test]
    fn the_search_ends_without_a_bound() {
        assert_eq!(search(0.0, 1000.0).0.found(), None);
        let (endless, probes) = search(f64::INFINITY, 1000.0);
        assert_eq!(probes, PROBES_MAX);
        assert!(endless.found().is_some());
    }
}
