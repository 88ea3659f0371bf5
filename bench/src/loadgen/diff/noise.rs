//! Detects changes: compares figures of two records, each with the noise that the records themselves show.
//!
//! The noise of a figure has up to three parts: its variation from interval to interval, its variation between the
//! runs of a file, and the uncertainty of few calls. Ratios are compared by their logarithms, so that the judgement
//! is the same in either direction.

use super::record::{Method, Point, Record, Run};
use crate::table::Spread;

/// A change counts from this multiple of the two records' standard deviation.
const DEVIATIONS: f64 = 2.0;
/// Smaller changes never count: the histogram's steps alone are 0.8 %.
const NOISE_MIN: f64 = 0.01;
/// The minimum where a file has a single run. The variation between runs is then unknown, and on a shared machine it
/// exceeds the variation within a run.
const NOISE_ALONE: f64 = 0.1;
/// With fewer intervals in a file, the variation of its figures is unknown.
const INTERVALS_MIN: usize = 5;
/// A percentile is compared only if at least this many calls are beyond it.
const CALLS_BEYOND: f64 = 10.0;
/// Converts the median absolute deviation of normally distributed values into the standard deviation.
const NORMAL: f64 = 1.4826;
/// Shares of failed calls differ from this multiple of a share's deviation.
const SHARE_DEVIATIONS: f64 = 3.0;

/// The percentiles that are compared.
const PERCENTILES: [(f64, &str); 4] = [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9")];

/// The judgement of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The difference is within the noise.
    Same,
    /// Better beyond the noise.
    Better,
    /// Worse beyond the noise.
    Worse,
    /// The records do not show how much the figure varies by itself.
    Unknown,
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Count per second.
    Rate,
    /// Nanoseconds.
    Time,
    /// Share of 1.
    Share,
}

/// One figure in both records.
#[derive(Clone, Debug)]
pub struct Change {
    /// The method, or the total.
    pub method: String,
    /// The figure's name.
    pub figure: &'static str,
    /// The figure's unit.
    pub unit: Unit,
    /// The old value.
    pub old: f64,
    /// The new value.
    pub new: f64,
    /// The smallest difference that counts, relative (of a share: absolute); `None` if the records do not show it.
    pub noise: Option<f64>,
    /// The judgement.
    pub judgement: Judgement,
}

/// Returns every figure that both records have. Their methods must be the same, in the same order.
pub fn changes(old: &Record, new: &Record) -> Vec<Change> {
    let mut changes = Vec::new();
    let both = [old, new];
    for at in 0..old.runs[0].methods.len() {
        let of = |run: &Run| run.methods.get(at).cloned();
        let [before, after] = both.map(|record| record.runs.iter().filter_map(of).collect::<Vec<_>>());
        let name = before[0].name.clone();
        let spread = both.map(|record| unrest(record, |point| Some(point.calls_per_s)));
        let rates = [&before, &after].map(|runs| Figure {
            values: runs.iter().map(|method| method.calls_per_s).collect(),
            few: few_calls(runs),
        });
        changes.extend(ratio(&name, "calls/s", Unit::Rate, rates, spread));
        for (percent, figure) in PERCENTILES {
            let spread = both.map(|record| percentile_unrest(record, percent));
            let times = [&before, &after].map(|runs| Figure {
                values: runs.iter().filter_map(|method| at_percent(method, percent)).collect(),
                few: runs.iter().filter_map(|method| percentile_spread(method, percent)).fold(0.0, f64::max),
            });
            changes.extend(ratio(&name, figure, Unit::Time, times, spread));
        }
        changes.push(failures(&name, &before, &after));
    }
    let spread = both.map(|record| unrest(record, |point| point.server_cpu_ns));
    let costs = both.map(|record| Figure {
        values: record.runs.iter().filter_map(|run| run.server_cpu_ns).collect(),
        few: 0.0,
    });
    changes.extend(ratio("server", "CPU a call", Unit::Time, costs, spread));
    changes
}

/// One figure in the runs of a record, and its relative uncertainty due to few calls.
struct Figure {
    values: Vec<f64>,
    few: f64,
}

fn ratio(
    method: &str,
    figure: &'static str,
    unit: Unit,
    figures: [Figure; 2],
    spread: [Option<f64>; 2],
) -> Option<Change> {
    let noise_of = |at: usize| {
        let Spread { median, min, max } = Spread::of(figures[at].values.iter().copied())?;
        let apart = if median > 0.0 { (max - min) / 2.0 / median } else { 0.0 };
        Some(spread[at]?.hypot(apart).hypot(figures[at].few))
    };
    let middle = |at: usize| Spread::of(figures[at].values.iter().copied()).map(|spread| spread.median);
    let (old, new) = (middle(0)?, middle(1)?);
    let is_alone = figures.iter().any(|figure| figure.values.len() == 1);
    let least = if is_alone { NOISE_ALONE } else { NOISE_MIN };
    let noise = noise_of(0).zip(noise_of(1)).map(|(old, new)| {
        let usual = (old.powi(2) + new.powi(2)) / 2.0;
        (DEVIATIONS * usual.sqrt()).max(least)
    });
    let judgement = match noise {
        None => Judgement::Unknown,
        // The ratio of two zeros has no logarithm; there is no change.
        Some(noise) => match (new / old).ln() {
            gain if gain.is_nan() || gain.abs() <= noise.ln_1p() => Judgement::Same,
            gain if (gain > 0.0) == (unit == Unit::Rate) => Judgement::Better,
            _ => Judgement::Worse,
        },
    };
    Some(Change { method: method.into(), figure, unit, old, new, noise, judgement })
}

/// Compares the shares of failed calls, over all runs, as two proportions of independent calls.
fn failures(name: &str, before: &[Method], after: &[Method]) -> Change {
    let sums = |runs: &[Method]| {
        let failed: f64 = runs.iter().map(|method| method.failed).sum();
        (failed, failed + runs.iter().map(|method| method.ok).sum::<f64>())
    };
    let ((old_failed, old_all), (new_failed, new_all)) = (sums(before), sums(after));
    let (old, new) = (old_failed / old_all.max(1.0), new_failed / new_all.max(1.0));
    let both = (old_failed + new_failed) / (old_all + new_all).max(1.0);
    let deviation = (both * (1.0 - both) * (1.0 / old_all.max(1.0) + 1.0 / new_all.max(1.0))).sqrt();
    let noise = SHARE_DEVIATIONS * deviation;
    let judgement = match new - old {
        change if change.abs() <= noise => Judgement::Same,
        change if change < 0.0 => Judgement::Better,
        _ => Judgement::Worse,
    };
    Change {
        method: name.into(),
        figure: "failed",
        unit: Unit::Share,
        old,
        new,
        noise: Some(noise),
        judgement,
    }
}

/// Returns the variation of a figure from interval to interval, over all runs: a deviation, relative to the median.
fn unrest(record: &Record, of: impl Fn(&Point) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = record.runs.iter().flat_map(|run| run.points.iter().filter_map(&of)).collect();
    if values.len() < INTERVALS_MIN {
        return None;
    }
    let middle = Spread::of(values.iter().copied())?.median;
    let deviation = Spread::of(values.iter().map(|value| (value - middle).abs()))?.median;
    Some(if middle > 0.0 { NORMAL * deviation / middle } else { 0.0 })
}

/// Returns the same for a percentile. The intervals record p50 and p99; for the percentiles between them the larger
/// variation counts.
fn percentile_unrest(record: &Record, percent: f64) -> Option<f64> {
    let (low, high) = (unrest(record, |point| point.p50_ns), unrest(record, |point| point.p99_ns));
    match percent {
        percent if percent < 75.0 => low,
        percent if percent < 95.0 => low.zip(high).map(|(low, high)| low.max(high)),
        _ => high,
    }
}

/// Counts of independent events have a standard deviation of their square root.
fn few_calls(runs: &[Method]) -> f64 {
    let calls = runs.iter().map(|method| method.ok).sum::<f64>();
    if calls > 0.0 { 1.0 / calls.sqrt() } else { 0.0 }
}

/// Returns the value at a percentile, if enough calls are beyond it.
fn at_percent(method: &Method, percent: f64) -> Option<f64> {
    let beyond = method.ok * (1.0 - percent / 100.0);
    let known = method.latency.iter().find(|(known, _)| *known == percent);
    known.filter(|_| beyond >= CALLS_BEYOND).map(|(_, ns)| *ns)
}

/// Returns the uncertainty of a percentile due to few calls: the values one deviation of its rank below and above it.
fn percentile_spread(method: &Method, percent: f64) -> Option<f64> {
    let middle = at_percent(method, percent).filter(|ns| *ns > 0.0)?;
    let share = percent / 100.0;
    let rank_deviation = 100.0 * (share * (1.0 - share) / method.ok).sqrt();
    let last_up_to = |percent| method.latency.iter().rfind(move |(known, _)| *known <= percent);
    let first_from = |percent| method.latency.iter().find(move |(known, _)| *known >= percent);
    let (below, above) = (last_up_to(percent - rank_deviation)?, first_from(percent + rank_deviation)?);
    Some((above.1 - below.1) / 2.0 / middle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::loadgen::schedule::Random;

    /// Twenty seconds at this rate in calls/s, varying by up to 5 %, with this number of failures.
    fn run(seed: u64, rate: f64, p99_ns: f64, failed: f64) -> Run {
        let mut random = Random::new(seed);
        let mut about = |middle: f64| middle * (0.95 + 0.1 * (random.draw() % 1001) as f64 / 1000.0);
        let points = (0..100).map(|_| Point {
            calls_per_s: about(rate),
            p50_ns: Some(about(p99_ns / 4.0)),
            p99_ns: Some(about(p99_ns)),
            server_cpu_ns: Some(about(1e9 / rate)),
        });
        let points: Vec<Point> = points.collect();
        let mean = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
        let calls_per_s = mean(|point| point.calls_per_s);
        let steps =
            [0.0, 25.0, 49.0, 50.0, 51.0, 89.0, 90.0, 91.0, 98.0, 98.9, 99.0, 99.1, 99.5, 99.9, 100.0];
        let latency = steps.map(|percent| (percent, p99_ns / 4.0 * (1.0 + 3.0 * percent / 99.0)));
        let method = Method {
            name: "S.M".into(),
            calls_per_s,
            ok: calls_per_s * 20.0,
            failed,
            latency: latency.to_vec(),
        };
        let server_cpu_ns = Some(mean(|point| point.server_cpu_ns.unwrap_or(0.0)));
        let settings = BTreeMap::new();
        Run { settings, methods: vec![method], server_cpu_ns, points, doubts: Vec::new() }
    }

    fn record(runs: Vec<Run>) -> Record {
        Record { runs }
    }

    fn judged(old: &Record, new: &Record) -> Vec<(&'static str, Judgement)> {
        changes(old, new).iter().map(|change| (change.figure, change.judgement)).collect()
    }

    #[test]
    fn two_equal_runs_show_no_change() {
        for seed in 0..200 {
            let old = record(vec![run(2 * seed, 1000.0, 2e6, 5.0)]);
            let new = record(vec![run(2 * seed + 1, 1000.0, 2e6, 7.0)]);
            let all = judged(&old, &new);
            assert_eq!(all.len(), 7, "{all:?}");
            assert!(all.iter().all(|(_, judgement)| *judgement == Judgement::Same), "{seed}: {all:?}");
        }
    }

    #[test]
    fn changes_beyond_the_noise_have_a_direction() {
        let old = record(vec![run(1, 1000.0, 2e6, 5.0)]);
        let new = record(vec![run(2, 800.0, 3e6, 500.0)]);
        for (figure, judgement) in judged(&old, &new) {
            assert_eq!(judgement, Judgement::Worse, "{figure}");
        }
        for (figure, judgement) in judged(&new, &old) {
            assert_eq!(judgement, Judgement::Better, "{figure}");
        }
    }

    #[test]
    fn differing_runs_increase_the_noise() {
        let steady = record(vec![run(1, 1000.0, 2e6, 0.0)]);
        let slower = record(vec![run(2, 850.0, 2e6, 0.0)]);
        assert_eq!(judged(&steady, &slower)[0], ("calls/s", Judgement::Worse));
        let uneven = record(vec![run(3, 850.0, 2e6, 0.0), run(4, 700.0, 2e6, 0.0), run(5, 1000.0, 2e6, 0.0)]);
        assert_eq!(judged(&steady, &uneven)[0], ("calls/s", Judgement::Same));
    }

    #[test]
    fn a_single_run_shows_no_variation_between_runs() {
        let [old, new] = [(1, 1000.0), (2, 915.0)].map(|(seed, rate)| run(seed, rate, 2e6, 0.0));
        let [one, other] = [&old, &new].map(|run| record(vec![run.clone()]));
        assert_eq!(judged(&one, &other)[0], ("calls/s", Judgement::Same), "a twelfth, of one run each");
        let three = |run: &Run| record(vec![run.clone(), run.clone(), run.clone()]);
        assert_eq!(judged(&three(&old), &three(&new))[0], ("calls/s", Judgement::Worse));
        assert_eq!(judged(&three(&old), &other)[0], ("calls/s", Judgement::Same), "one side will do");
    }

    #[test]
    fn without_intervals_nothing_is_claimed() {
        let mut short = run(1, 1000.0, 2e6, 0.0);
        short.points.truncate(4);
        let all = judged(&record(vec![short]), &record(vec![run(2, 500.0, 9e6, 0.0)]));
        let unknown = all.iter().filter(|(_, judgement)| *judgement == Judgement::Unknown).count();
        assert_eq!(unknown, all.len() - 1, "all but the share of failures: {all:?}");
    }

    #[test]
    fn a_rate_of_zero_is_worse() {
        let old = record(vec![run(1, 1000.0, 2e6, 0.0)]);
        let mut none = run(2, 1000.0, 2e6, 10_000.0);
        none.methods[0] =
            Method { calls_per_s: 0.0, ok: 0.0, latency: Vec::new(), ..none.methods[0].clone() };
        for point in &mut none.points {
            *point = Point { calls_per_s: 0.0, p50_ns: None, p99_ns: None, server_cpu_ns: None };
        }
        let none = record(vec![none]);
        let all = changes(&old, &none);
        assert!(all.iter().all(|change| !change.noise.is_some_and(f64::is_nan)), "{all:?}");
        assert_eq!(judged(&old, &none)[..2], [("calls/s", Judgement::Worse), ("failed", Judgement::Worse)]);
        assert_eq!(judged(&none, &old)[0], ("calls/s", Judgement::Better));
        assert_eq!(judged(&none, &none)[0], ("calls/s", Judgement::Same));
    }

    #[test]
    fn percentile_with_few_calls_beyond_it_is_left_out() {
        let mut few = run(1, 1000.0, 2e6, 0.0);
        few.methods[0].ok = 500.0;
        let all = judged(&record(vec![few.clone()]), &record(vec![few]));
        let named: Vec<_> = all.iter().map(|(figure, _)| *figure).collect();
        assert_eq!(named, ["calls/s", "p50", "p90", "failed", "CPU a call"]);
    }
}
