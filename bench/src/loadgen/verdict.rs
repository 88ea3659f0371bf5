//! Checks whether a result is trustworthy: the generator's caveats, about itself and about the rate.

use serde::Serialize;

use super::run::{Measured, Plan, Point};
use super::units;

/// The generator is late if its own p99 delay exceeds this share of the measured p99 …
const LATE_SHARE: f64 = 0.25;
/// … and is at least this long.
const LATE_NS_MIN: f64 = 50_000.0;
/// A thread that used this share of its core had no CPU time to spare.
pub const SATURATED_SHARE: f64 = 0.9;
/// A thread that had to wait for this share of the time was disturbed.
const WAITED_SHARE: f64 = 0.05;
/// If a hypervisor withheld this share of the cores' time, the highest percentiles are unreliable.
const STOLEN_SHARE: f64 = 0.005;
/// If the backlog grew by more than this share of the calls in the second half, the rate was not reached.
const BEHIND_SHARE: f64 = 0.01;

/// The caveats of a result, as flags and in words.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// The generator itself sent calls so late that it shows in the latency.
    pub late: bool,
    /// A thread of the generator had no CPU time to spare, so the generator measured itself.
    pub saturated: bool,
    /// A thread of the generator had to wait for its core.
    pub disturbed: bool,
    /// A hypervisor withheld cores that had work to do.
    pub stolen: bool,
    /// The requested rate was not reached.
    pub rate_missed: bool,
    /// The server was unreachable when the run ended.
    pub server_gone: bool,
    /// The server was unreachable at the end, or calls had no answer or were never sent.
    pub incomplete: bool,
    /// The run was stopped before its end.
    pub cut_short: bool,
    /// No call succeeded.
    pub all_failed: bool,
    /// These and further caveats, in sentences.
    pub remarks: Vec<String>,
}

impl Verdict {
    /// Returns whether the generator or the machine, and not the server, may have determined the figures.
    pub fn is_doubtful(&self) -> bool {
        self.late || self.saturated || self.disturbed || self.stolen
    }

    /// Judges the measurements.
    pub fn of(plan: &Plan, measured: &Measured) -> Verdict {
        let mut verdict = Verdict { cut_short: measured.is_cut, ..Verdict::default() };
        let sum = |of: fn(&super::tally::MethodTally) -> u64| measured.methods.iter().map(of).sum::<u64>();
        let (ok, errors) = (sum(|method| method.statuses[0]), sum(|method| method.errors()));
        let (unanswered, never_sent) = (sum(|method| method.unanswered), sum(|method| method.never_sent));
        if measured.is_cut {
            verdict.say("The run was cut short: the figures are of what was measured until then.".into());
        }
        verdict.all_failed = ok == 0 && measured.ok_in_window == 0;
        if ok == 0 && measured.ok_in_window > 0 {
            verdict.say(
                "No call that was due in the measured window was answered: what was answered in it had been due \
                 before."
                    .into(),
            );
        } else if ok == 0 && errors + unanswered + never_sent == 0 {
            verdict.say("No call was made in the measured window.".into());
        } else if ok == 0 {
            verdict.say(format!(
                "Not one call succeeded: {} errors, {} without an answer. There is no latency to speak of.",
                units::count(errors as f64),
                units::count((unanswered + never_sent) as f64)
            ));
        } else if errors > 0 {
            verdict.say(format!(
                "{} of all calls that ended failed; their times are not in the latency.",
                units::percent(errors as f64 / (ok + errors) as f64)
            ));
        }
        if unanswered + never_sent > 0 && ok > 0 {
            verdict.say(format!(
                "{} calls had no answer when the run ended and {} were never sent: they count in the latency with \
                 as long as they had waited, so its upper percentiles are lower bounds.",
                units::count(unanswered as f64),
                units::count(never_sent as f64)
            ));
        }
        if let Some(why) = &measured.server_gone {
            verdict.server_gone = true;
            verdict.say(format!(
                "The server at {} could not be reached when the run ended: {why}.",
                plan.target
            ));
        }
        verdict.incomplete = verdict.server_gone || unanswered + never_sent > 0;
        verdict.judge_rate(plan, measured);
        verdict.judge_generator(plan, measured);
        verdict.judge_machine(measured.stolen_share);
        verdict.judge_connections(measured);
        verdict
    }

    fn judge_rate(&mut self, plan: &Plan, measured: &Measured) {
        let Some(rate) = plan.rate else { return };
        if let Some(behind) = behind(&measured.series) {
            self.rate_missed = true;
            self.say(format!(
                "The rate of {} calls/s was not reached: {} of the calls due in the second half were not answered \
                 in it, and the backlog was still growing. The latency is that of a queue without end; it says \
                 how long the run was, not how fast the server is.",
                units::count(rate),
                units::percent(behind)
            ));
        }
        if measured.held > 0 {
            self.say(format!(
                "{} calls waited in the generator for a connection with room; their latency counts from when they \
                 were due.",
                units::count(measured.held as f64)
            ));
        }
    }

    fn judge_generator(&mut self, plan: &Plan, measured: &Measured) {
        let late_ns = measured.late.quantile(0.99);
        let p99_ns = p99_ns(measured);
        if plan.rate.is_some() && is_late(late_ns as f64, p99_ns as f64) {
            self.late = true;
            self.say(format!(
                "The generator was late by itself: 1 call of 100 left {} or more after it was due, beside a p99 of \
                 {}. That is in the latency and is not the server's doing.",
                units::time(late_ns as f64),
                units::time(p99_ns as f64)
            ));
        }
        let busiest = measured.threads.iter().map(|used| used.cpu_share).fold(0.0, f64::max);
        if busiest >= SATURATED_SHARE && !plan.spin {
            self.saturated = true;
            self.say(format!(
                "The generator was saturated: a thread of it used {} of its core. {}",
                units::percent(busiest),
                match plan.rate {
                    Some(_) => "The latency holds its own queueing.",
                    None => "The rate may be the generator's limit, not the server's.",
                }
            ));
        }
        let waited = measured.threads.iter().map(|used| used.waited_share).fold(0.0, f64::max);
        if waited >= WAITED_SHARE {
            self.disturbed = true;
            self.say(format!(
                "The generator waited for its core in {} of the time: something else ran there.",
                units::percent(waited)
            ));
        }
    }

    fn judge_machine(&mut self, stolen_share: f64) {
        if stolen_share >= STOLEN_SHARE {
            self.stolen = true;
            self.say(format!(
                "The hypervisor kept {} of all cores' time (steal): it stops servers and generators alike, and the \
                 slowest calls are those that it stopped.",
                units::percent(stolen_share)
            ));
        }
    }

    fn judge_connections(&mut self, measured: &Measured) {
        let connections = &measured.connections;
        let trouble = connections.first_trouble.as_deref().unwrap_or("no reason known");
        if connections.opened < connections.wanted {
            self.say(format!(
                "{} of {} connections were not open when the run began: {trouble}.",
                connections.wanted - connections.opened,
                connections.wanted
            ));
        }
        if connections.lost + connections.drained > 0 {
            let (unanswered, at_rest) = (connections.lost_unanswered, connections.lost_at_rest);
            let stages = match unanswered + at_rest {
                0 => String::new(),
                _ => {
                    format!(" ({unanswered} before a first answer, {at_rest} later without a call in flight)")
                }
            };
            self.say(format!(
                "{} connections were lost on the way{stages}, {} left because the server asked for it; {} were made again, \
                 {} attempts failed ({trouble}).",
                connections.lost, connections.drained, connections.reopened, connections.attempts_failed
            ));
        }
    }

    fn say(&mut self, remark: String) {
        self.remarks.push(remark);
    }
}

/// Returns whether a delay with this p99 shows in a latency with that p99.
pub fn is_late(late_ns: f64, p99_ns: f64) -> bool {
    late_ns >= LATE_NS_MIN && late_ns >= LATE_SHARE * p99_ns
}

/// Returns the p99 over all methods.
fn p99_ns(measured: &Measured) -> u64 {
    let mut all = crate::histogram::Histogram::default();
    for method in &measured.methods {
        all.add(&method.latency);
        all.add(&method.waited);
    }
    all.quantile(0.99)
}

/// Returns the growth of the backlog in the window's second half, as a share of the calls due in it, if it is too
/// large.
///
/// Only growth counts: a server that takes a second for each call has many in flight and still keeps up.
fn behind(series: &[Point]) -> Option<f64> {
    let second_half = &series[series.len() / 2..];
    let due: u64 = second_half.iter().map(|point| point.due).sum();
    let ended: u64 = second_half.iter().map(|point| point.ok + point.failed).sum();
    let share = due.saturating_sub(ended) as f64 / due.max(1) as f64;
    // A few calls in flight at the end are not a backlog.
    (share > BEHIND_SHARE && due - ended > 10).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(due: u64, ok: u64) -> Point {
        Point { due, ok, ..Point::default() }
    }

    #[test]
    fn a_growing_backlog_misses_the_rate() {
        let steady: Vec<Point> = (0..10).map(|_| point(1000, 1000)).collect();
        assert_eq!(behind(&steady), None);
        let falling_behind: Vec<Point> = (0..10).map(|_| point(1000, 900)).collect();
        assert!(behind(&falling_behind).is_some_and(|share| (share - 0.1).abs() < 1e-9));
    }

    #[test]
    fn stolen_cores_are_said() {
        let mut verdict = Verdict::default();
        verdict.judge_machine(0.004);
        assert!(!verdict.is_doubtful() && verdict.remarks.is_empty());
        verdict.judge_machine(0.031);
        assert!(verdict.stolen && verdict.is_doubtful());
        assert!(verdict.remarks[0].contains("3.1 %"), "{:?}", verdict.remarks);
    }

    #[test]
    fn slow_answers_do_not_miss_the_rate() {
        // No answers for the first four intervals, then as many as are due: four intervals' worth is always in
        // flight.
        let slow: Vec<Point> = (0..10).map(|at| point(1000, if at < 4 { 0 } else { 1000 })).collect();
        assert_eq!(behind(&slow), None);
        assert_eq!(behind(&[]), None);
        assert_eq!(behind(&[point(5, 0)]), None, "a handful");
    }
}
