//! Open loops: the load generator makes calls at a fixed rate, from a separate core, and reports caveats with each
//! figure.
//!
//! The rate is half of what a closed loop reaches. With one call in flight on each connection the servers read and
//! write once per call, as they do in an open loop that they keep up with. With 16 they handle many calls per read
//! and write, and half of that rate can be more than they reach one by one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::subjects::{FLOOR, HAND_OFF, INLINE, POOLED, Subject};
use super::{Bench, in_turn};
use crate::loadgen::{Ask, Outcome};
use crate::table::{Spread, Table};

/// Number of connections of the mix with slow calls.
const CONNECTIONS: u32 = 64;

/// Cases that alternate within a round.
pub struct Group {
    name: String,
    rate: f64,
    connections: u32,
    cases: Vec<Case>,
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// The case whose p99 is the divisor of this one's.
    floor: Option<&'static str>,
    server: &'static Subject,
    /// The methods by weight; only the first is reported.
    mix: &'static str,
    codec: Option<&'static str>,
}

/// One measurement. Times are in microseconds, from when a call was due.
#[derive(Serialize)]
pub struct Run {
    group: String,
    round: u32,
    subject: &'static str,
    rate: f64,
    calls_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    cpu_us_per_call: f64,
    late_p99_us: f64,
    errors: u64,
    /// The generator's caveats.
    against: Vec<&'static str>,
    remarks: Vec<String>,
}

/// The medians over the rounds of one case.
#[derive(Serialize)]
pub struct Summary {
    group: String,
    subject: &'static str,
    rate: f64,
    p50_us: Spread,
    p99_us: Spread,
    p999_us: Spread,
    p50_ratio: Option<Spread>,
    p99_ratio: Option<Spread>,
    cpu_us_per_call: Spread,
    late_p99_us: Spread,
    errors: u64,
    rounds: u32,
    /// Caveats, with the number of rounds that have them.
    against: BTreeMap<&'static str, u32>,
}

/// Returns the requested groups; measures their maximum rates.
pub fn groups(bench: &Bench<'_>) -> Result<Vec<Group>, String> {
    const ADD: &str = "Arith.AddFixed=1";
    const MULTIPLY: &str = "Arith.Multiply=1";
    let mut groups = Vec::new();
    let floor = Case { name: FLOOR.name, floor: None, server: &FLOOR, mix: ADD, codec: None };
    for &load in &bench.options.open {
        let pairs = [
            [floor, Case { name: INLINE.name, floor: Some(FLOOR.name), server: &INLINE, ..floor }],
            [
                Case { name: HAND_OFF.name, server: &HAND_OFF, ..floor },
                Case {
                    name: POOLED.name,
                    floor: Some(HAND_OFF.name),
                    server: &POOLED,
                    mix: MULTIPLY,
                    codec: Some("compact"),
                },
            ],
        ];
        for pair in pairs {
            let mut least = f64::INFINITY;
            for case in pair {
                // A polling client takes the answers one by one, and reaches a lower rate.
                let sleeping = Subject { client: &["--by", "bare"], ..*case.server };
                let run = bench.measure(&sleeping, load, format!("{load}, its maximum"), 0)?;
                println!("{}", super::report::progress(&run));
                least = least.min(run.outcome.calls_per_s);
            }
            // Two significant digits, for a readable rate.
            let rate = round_rate(least / 2.0);
            let name = format!("half of {load}");
            groups.push(Group { name, rate, connections: load.connections, cases: pair.to_vec() });
        }
    }
    if bench.options.slow_mix {
        let alone = Case { name: "inline alone", server: &INLINE, ..floor };
        let pooled = Case { name: "pooled alone", mix: MULTIPLY, ..alone };
        let cases = [
            alone,
            Case {
                name: "inline, 1 % slow",
                floor: Some(alone.name),
                mix: "Arith.AddFixed=99,Echo.Sleep:20=1",
                ..alone
            },
            pooled,
            Case {
                name: "pooled, 1 % slow",
                floor: Some(pooled.name),
                mix: "Arith.Multiply=99,Echo.Sleep:20=1",
                ..pooled
            },
        ];
        let rate = bench.options.slow_mix_rate;
        let name = "slow mix, the quick calls".into();
        groups.push(Group { name, rate, connections: CONNECTIONS, cases: cases.to_vec() });
    }
    Ok(groups)
}

fn round_rate(rate: f64) -> f64 {
    let unit = 10_f64.powf(rate.max(1.0).log10().floor() - 1.0);
    (rate / unit).round() * unit
}

/// Measures each case in each round.
pub fn rounds(bench: &Bench<'_>, group: &Group) -> Result<Vec<Run>, String> {
    let mut runs = Vec::new();
    for round in 1..=bench.options.rounds {
        for case in in_turn(&group.cases, round) {
            let server = bench.start(case.server)?;
            let ask = Ask {
                codec: case.codec,
                connections: group.connections,
                rate: Some(group.rate),
                warmup_s: bench.options.warmup,
                seconds: bench.options.seconds,
                core: Some(bench.client_core),
                spin: bench.options.spin,
                watch: Some(server.pid()),
                ..Ask::of(server.address, case.mix)
            };
            let run = Run::of(group, case.name, round, &ask.run(&mut |_| {})?);
            println!("{}", run.line());
            runs.push(run);
        }
    }
    Ok(runs)
}

impl Run {
    fn of(group: &Group, subject: &'static str, round: u32, outcome: &Outcome) -> Run {
        let figures = outcome.methods.first().unwrap_or(&outcome.total);
        let us = |percent| figures.latency.at(percent).unwrap_or(0) as f64 / 1e3;
        let verdict = &outcome.verdict;
        let flags = [
            (verdict.late, "late"),
            (verdict.saturated, "saturated"),
            (verdict.disturbed, "disturbed"),
            (verdict.stolen, "stolen"),
            (verdict.rate_missed, "rate missed"),
        ];
        Run {
            group: group.name.clone(),
            round,
            subject,
            rate: group.rate,
            calls_per_s: outcome.calls_per_s,
            p50_us: us(50.0),
            p99_us: us(99.0),
            p999_us: us(99.9),
            max_us: figures.latency.max_ns as f64 / 1e3,
            cpu_us_per_call: outcome.server.as_ref().map_or(0.0, |server| server.cpu_ns_per_call / 1e3),
            late_p99_us: outcome.generator.late.at(99.0).unwrap_or(0) as f64 / 1e3,
            errors: outcome.total.errors + outcome.total.unanswered,
            against: flags.into_iter().filter_map(|(is_so, word)| is_so.then_some(word)).collect(),
            remarks: verdict.remarks.clone(),
        }
    }

    fn line(&self) -> String {
        let mut line = format!(
            "{}  round {}  {:<16}  {:>7.0} calls/s  p50 {:>7.1}  p99 {:>8.1}  p99.9 {:>8.1} µs  {}",
            self.group,
            self.round,
            self.subject,
            self.calls_per_s,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.against.join(", ")
        );
        if self.errors > 0 {
            line += &format!("  {} ERRORS", self.errors);
        }
        line.trim_end().to_owned()
    }
}

/// Medians over the rounds.
pub fn summaries(group: &Group, runs: &[Run]) -> Vec<Summary> {
    let summary = |case: &Case| {
        let of = |name| runs.iter().filter(move |run| run.subject == name);
        let spread = |value: fn(&Run) -> f64| Spread::of(of(case.name).map(value));
        let ratio = |value: fn(&Run) -> f64| {
            let floors: Vec<&Run> = case.floor.map(|floor| of(floor).collect()).unwrap_or_default();
            Spread::of(of(case.name).filter_map(|run| {
                let floor = floors.iter().find(|floor| floor.round == run.round)?;
                Some(value(run) / value(floor))
            }))
        };
        let mut against = BTreeMap::new();
        for word in of(case.name).flat_map(|run| &run.against) {
            *against.entry(*word).or_default() += 1;
        }
        Some(Summary {
            group: group.name.clone(),
            subject: case.name,
            rate: group.rate,
            p50_us: spread(|run| run.p50_us)?,
            p99_us: spread(|run| run.p99_us)?,
            p999_us: spread(|run| run.p999_us)?,
            p50_ratio: ratio(|run| run.p50_us),
            p99_ratio: ratio(|run| run.p99_us),
            cpu_us_per_call: spread(|run| run.cpu_us_per_call)?,
            late_p99_us: spread(|run| run.late_p99_us)?,
            errors: of(case.name).map(|run| run.errors).sum(),
            rounds: of(case.name).count() as u32,
            against,
        })
    };
    group.cases.iter().filter_map(summary).collect()
}

/// Renders a table for each group and rate.
pub fn text(summaries: &[Summary]) -> String {
    let mut text = String::new();
    for together in summaries.chunk_by(|one, next| one.group == next.group && one.rate == next.rate) {
        let heading = format!("{}: {:.0} calls/s", together[0].group, together[0].rate);
        let mut table = Table::new(&[
            &heading,
            "p50 µs",
            "× first",
            "p99 µs",
            "× first",
            "p99.9 µs",
            "µs CPU/call",
            "sent late p99 µs",
            "errors",
            "the generator was",
        ]);
        for summary in together {
            let ratio = |ratio: Option<Spread>| ratio.map_or(String::new(), |ratio| ratio.text(2));
            let against =
                summary.against.iter().map(|(word, rounds)| format!("{word} {rounds}/{}", summary.rounds));
            let against = against.collect::<Vec<_>>().join(", ");
            table.row(vec![
                summary.subject.into(),
                format!("{:.1}", summary.p50_us.median),
                ratio(summary.p50_ratio),
                summary.p99_us.text(1),
                ratio(summary.p99_ratio),
                format!("{:.1}", summary.p999_us.median),
                summary.cpu_us_per_call.text(2),
                format!("{:.1}", summary.late_p99_us.median),
                summary.errors.to_string(),
                if against.is_empty() { "fine".into() } else { against },
            ]);
        }
        text += &format!("\n{}", table.render());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_two_significant_digits() {
        assert_eq!([123_456.0, 99_900.0, 47.3, 0.4].map(round_rate), [120_000.0, 100_000.0, 47.0, 0.4]);
    }

    #[test]
    fn ratios_are_within_a_round_and_caveats_are_counted() {
        let run = |subject, round, p99_us, against: &[&'static str]| Run {
            group: "g".into(),
            round,
            subject,
            rate: 1.0,
            calls_per_s: 1.0,
            p50_us: 1.0,
            p99_us,
            p999_us: 1.0,
            max_us: 1.0,
            cpu_us_per_call: 1.0,
            late_p99_us: 1.0,
            errors: 0,
            against: against.to_vec(),
            remarks: Vec::new(),
        };
        let case = |name, floor| Case { name, floor, server: &FLOOR, mix: "", codec: None };
        let group = Group {
            name: "g".into(),
            rate: 1.0,
            connections: 1,
            cases: vec![case("a", None), case("b", Some("a"))],
        };
        let runs = [
            run("a", 1, 10.0, &[]),
            run("b", 1, 20.0, &["late"]),
            run("b", 2, 50.0, &["late"]),
            run("a", 2, 100.0, &[]),
        ];
        let summaries = summaries(&group, &runs);
        assert_eq!(summaries[0].p99_ratio, None);
        assert_eq!(summaries[1].p99_ratio, Spread::of([2.0, 0.5]));
        assert!(text(&summaries).contains("late 2/2"), "{}", text(&summaries));
        assert!(text(&summaries).contains("fine"));
    }
}
