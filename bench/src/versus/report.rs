//! Reports the runs: a line for each as it ends, and a table for each load.

use std::fmt::Write;

use serde::Serialize;

use super::{Record, Run, Subject, open};
use crate::table::{Spread, Table};

/// Above this share of waiting, other processes used the client's core enough to affect the figures.
const WAITED_SHARE_MAX: f64 = 0.03;

/// The medians over the rounds of one subject under one load.
#[derive(Serialize)]
pub struct Summary {
    load: String,
    subject: &'static str,
    cpu_us_per_call: Spread,
    /// Ratio to the subject's floor, within each round.
    cpu_ratio: Option<Spread>,
    p50_ratio: Option<Spread>,
    rate_ratio: Option<Spread>,
    calls_per_s: Spread,
    p50_us: Spread,
    p99_us: Spread,
    client_us_per_call: Spread,
    client_ratio: Option<Spread>,
    /// The maximum of all rounds.
    peak_kib: u64,
    errors: u64,
}

/// Formats the line for a run that just ended.
pub fn progress(run: &Run) -> String {
    let outcome = &run.outcome;
    let mut line = format!(
        "{:>6}  round {}  {:<18}  {:>7.3} µs CPU/call  {:>9.0} calls/s  p50 {:>8.1} µs",
        run.load, run.round, run.subject, run.cpu_us_per_call, outcome.calls_per_s, outcome.p50_us
    );
    if outcome.errors > 0 {
        let first = outcome.first_error.as_deref().unwrap_or("?");
        let _ = write!(line, "  {} ERRORS, the first: {first}", outcome.errors);
    }
    if outcome.client_waited_share > WAITED_SHARE_MAX {
        let _ =
            write!(line, "  (the client waited {:.0} % for its core)", outcome.client_waited_share * 100.0);
    }
    line
}

/// Returns the medians over the rounds under one load, in the order of the table.
pub fn summaries(load: &str, subjects: &[&Subject], runs: &[Run]) -> Vec<Summary> {
    let summary = |subject: &&Subject| {
        let of = |name| runs.iter().filter(move |run| run.load == load && run.subject == name);
        let own: Vec<&Run> = of(subject.name).collect();
        let floors: Vec<&Run> = subject.floor.map(|floor| of(floor).collect()).unwrap_or_default();
        let spread = |value: fn(&Run) -> f64| Spread::of(own.iter().map(|run| value(run)));
        let ratio = |value: fn(&Run) -> f64| {
            Spread::of(own.iter().filter_map(|run| {
                let floor = floors.iter().find(|floor| floor.round == run.round)?;
                Some(value(run) / value(floor))
            }))
        };
        Some(Summary {
            load: load.to_owned(),
            subject: subject.name,
            cpu_us_per_call: spread(|run| run.cpu_us_per_call)?,
            cpu_ratio: ratio(|run| run.cpu_us_per_call),
            p50_ratio: ratio(|run| run.outcome.p50_us),
            rate_ratio: ratio(|run| run.outcome.calls_per_s),
            calls_per_s: spread(|run| run.outcome.calls_per_s)?,
            p50_us: spread(|run| run.outcome.p50_us)?,
            p99_us: spread(|run| run.outcome.p99_us)?,
            client_us_per_call: spread(|run| run.client_us_per_call)?,
            client_ratio: ratio(|run| run.client_us_per_call),
            peak_kib: own.iter().map(|run| run.peak_kib).max()?,
            errors: own.iter().map(|run| run.outcome.errors).sum(),
        })
    };
    subjects.iter().filter_map(summary).collect()
}

/// Renders all tables with their notes.
pub fn text(record: &Record) -> String {
    let machine = &record.machine;
    let mut text = format!(
        "{}, {} cores, Linux {}; server on core {}, client on core {}; median [least–most] of {} rounds, \
         ratios within a round\n",
        machine.cpu, machine.cores, machine.kernel, record.server_core, record.client_core, record.rounds
    );
    let mut loads: Vec<&str> = record.summaries.iter().map(|summary| summary.load.as_str()).collect();
    loads.dedup();
    for load in loads {
        let mut table = Table::new(&[
            load,
            "µs CPU/call",
            "× floor",
            "calls/s",
            "× floor",
            "p50 µs",
            "× floor",
            "p99 µs",
            "client µs",
            "× floor",
            "peak MiB",
            "errors",
        ]);
        for summary in record.summaries.iter().filter(|summary| summary.load == load) {
            let ratio = |ratio: Option<Spread>| ratio.map_or(String::new(), |ratio| ratio.text(2));
            let median =
                |ratio: Option<Spread>| ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.median));
            table.row(vec![
                summary.subject.into(),
                summary.cpu_us_per_call.text(3),
                ratio(summary.cpu_ratio),
                format!("{:.0}", summary.calls_per_s.median),
                median(summary.rate_ratio),
                format!("{:.1}", summary.p50_us.median),
                ratio(summary.p50_ratio),
                format!("{:.1}", summary.p99_us.median),
                format!("{:.3}", summary.client_us_per_call.median),
                median(summary.client_ratio),
                format!("{:.1}", summary.peak_kib as f64 / 1024.0),
                summary.errors.to_string(),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    for note in &record.notes {
        let _ = writeln!(text, "\n{note}");
    }
    text += &open::text(&record.open_summaries);
    if !record.syscalls_per_call.is_empty() {
        let mut table = Table::new(&["system calls per call", "all", "of which"]);
        for (subject, counts) in &record.syscalls_per_call {
            let mut rows: Vec<_> = counts.iter().collect();
            rows.sort_by(|a, b| b.1.total_cmp(a.1));
            let most: Vec<String> =
                rows.iter().take(5).map(|(name, count)| format!("{name} {count:.4}")).collect();
            table.row(vec![subject.clone(), format!("{:.3}", counts.values().sum::<f64>()), most.join(", ")]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    if record.runs.iter().any(|run| run.outcome.client_waited_share > WAITED_SHARE_MAX) {
        text += "\nThe machine was busy with other work during some runs: read these figures with care.\n";
    }
    text
}
