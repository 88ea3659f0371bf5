//! Compares a result with the objective of `--slo`, and reports by how much it is missed.

use serde::Serialize;

use super::outcome::Outcome;
use super::units::{self, Promise};

/// A result compared with its objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectiveResult {
    /// The objective as given: `p99=2ms,errors=0.1%`.
    pub objective: String,
    /// Whether every part is met.
    pub met: bool,
    /// Each percentile with its limit.
    pub bounds: Vec<BoundResult>,
    /// Share of the calls (0 to 1) that failed, had no answer, were never sent, or were answered after the deadline.
    pub errors_share: f64,
    /// The largest allowed share.
    pub errors_share_max: f64,
    /// Whether an open loop reached its rate; true for a closed one.
    pub rate_reached: bool,
    /// The missed parts and by how much, in words.
    pub missed: Vec<String>,
    /// The same in short form.
    #[serde(skip)]
    pub missed_short: Vec<String>,
}

/// A percentile compared with its limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BoundResult {
    /// `p99` or `max`.
    pub name: String,
    /// The limit, in ns.
    pub limit_ns: u64,
    /// The percentile of the run, in ns; `None` if no call succeeded.
    pub found_ns: Option<u64>,
}

impl ObjectiveResult {
    /// Compares an outcome with the objective.
    pub fn of(objective: &Promise, outcome: &Outcome) -> ObjectiveResult {
        let total = &outcome.total;
        let bound = |&(quantile, limit_ns): &(f64, u64)| {
            let name = match quantile {
                1.0 => "max".to_owned(),
                quantile => format!("p{}", (quantile * 1e5).round() / 1e3),
            };
            // The first listed percentile that is not below the requested one: an upper bound.
            let steps = &total.latency.percentiles;
            let step = steps.iter().find(|(percent, _)| *percent >= quantile * 100.0 - 1e-9);
            BoundResult { name, limit_ns, found_ns: step.map(|(_, ns)| *ns) }
        };
        let ended = total.ok + total.errors + total.unanswered + total.never_sent;
        let failed = ended - total.ok + total.after_deadline.unwrap_or(0);
        let mut result = ObjectiveResult {
            objective: objective.text.clone(),
            met: false,
            bounds: objective.bounds.iter().map(bound).collect(),
            errors_share: failed as f64 / ended.max(1) as f64,
            errors_share_max: objective.errors_max,
            rate_reached: !outcome.verdict.rate_missed,
            missed: Vec::new(),
            missed_short: Vec::new(),
        };
        result.compare();
        result
    }

    fn compare(&mut self) {
        for BoundResult { name, limit_ns, found_ns } in &self.bounds {
            let limit = units::time(*limit_ns as f64);
            match found_ns {
                Some(found_ns) if found_ns <= limit_ns => {}
                Some(found_ns) => {
                    let (found, over_ns) = (units::latency(*found_ns as f64), (found_ns - limit_ns) as f64);
                    self.missed_short.push(format!("{name} {found}"));
                    self.missed.push(format!(
                        "{name} is {found}, limit {limit}: {} ({}) over",
                        units::time(over_ns),
                        units::percent(over_ns / *limit_ns as f64)
                    ));
                }
                None => {
                    self.missed_short.push(format!("{name} unknown: no call succeeded"));
                    self.missed.push(format!("{name} is unknown, limit {limit}: no call succeeded"));
                }
            }
        }
        if self.errors_share > self.errors_share_max {
            let share = units::percent(self.errors_share);
            self.missed_short.push(format!("{share} failed or late"));
            self.missed.push(format!(
                "{share} of the calls failed or were late, limit {}: {} percentage points over",
                units::percent(self.errors_share_max),
                units::percent(self.errors_share - self.errors_share_max).trim_end_matches(" %")
            ));
        }
        if !self.rate_reached {
            self.missed_short.push("rate not reached".into());
            self.missed.push("the rate was not reached".into());
        }
        self.met = self.missed.is_empty();
    }

    /// Returns the result as lines of text.
    pub fn lines(&self) -> Vec<String> {
        if !self.met {
            return self.missed.iter().map(|missed| format!("SLO missed: {missed}")).collect();
        }
        let bound = |bound: &BoundResult| {
            let found = bound.found_ns.map_or("–".into(), |ns| units::latency(ns as f64));
            format!("{} {found} (limit {})", bound.name, units::time(bound.limit_ns as f64))
        };
        vec![format!("SLO met: {}", self.bounds.iter().map(bound).collect::<Vec<_>>().join(", "))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_reports_value_limit_and_difference() {
        let bound = |name: &str, limit_ns, found_ns| BoundResult { name: name.into(), limit_ns, found_ns };
        let mut result = ObjectiveResult {
            objective: String::new(),
            met: false,
            bounds: vec![
                bound("p50", 2_000_000, Some(2_000_000)),
                bound("p99", 2_000_000, Some(3_000_000)),
                bound("max", 5_000_000, None),
            ],
            errors_share: 0.03,
            errors_share_max: 0.01,
            rate_reached: false,
            missed: Vec::new(),
            missed_short: Vec::new(),
        };
        result.compare();
        assert!(!result.met);
        assert_eq!(
            result.missed,
            [
                "p99 is 3.00 ms, limit 2.00 ms: 1.00 ms (50.0 %) over",
                "max is unknown, limit 5.00 ms: no call succeeded",
                "3.0 % of the calls failed or were late, limit 1.0 %: 2.0 percentage points over",
                "the rate was not reached",
            ]
        );
        result.bounds.truncate(1);
        (result.errors_share, result.rate_reached) = (0.0, true);
        (result.missed, result.missed_short) = Default::default();
        result.compare();
        assert!(result.met);
        assert_eq!(result.lines(), ["SLO met: p50 2.00 ms (limit 2.00 ms)"]);
    }
}
