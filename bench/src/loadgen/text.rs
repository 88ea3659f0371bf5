//! The result as text for a terminal.

use std::fmt::Write as _;

use super::outcome::{Distribution, Figures, Outcome, SHOWN};
use super::units::{count, percent, time};
use crate::table::Table;

/// The whole result.
pub fn render(outcome: &Outcome) -> String {
    let mut text = String::new();
    let total = &outcome.total;
    let _ = writeln!(text, "{}\n", headline(outcome));
    let mut table = Table::new(&["", "calls", "calls/s", "errors", "errors/s"]);
    table.row(vec![
        total.name.clone(),
        count(total.ok as f64),
        count(outcome.calls_per_s.round()),
        count(total.errors as f64),
        count(outcome.errors_per_s.round()),
    ]);
    text += &table.render();
    text.push('\n');
    text += &latencies(outcome);
    if outcome.methods.len() > 1 {
        text.push('\n');
        text += &by_method(&outcome.methods);
    }
    if total.errors > 0 {
        text.push('\n');
        text += &errors(outcome);
    }
    text.push('\n');
    for line in costs(outcome) {
        let _ = writeln!(text, "{line}");
    }
    for remark in &outcome.verdict.remarks {
        let _ = writeln!(text, "! {remark}");
    }
    text
}

/// What was run, in one line.
pub fn headline(outcome: &Outcome) -> String {
    let settings = &outcome.settings;
    let calls = match settings.rate {
        Some(rate) => format!("open loop at {} calls/s", count(rate)),
        None => format!("closed loop, {} in flight on each", settings.depth),
    };
    let what = match outcome.methods.as_slice() {
        [only] => format!("{} ({})", only.name, only.codec),
        several => format!("a mix of {} methods", several.len()),
    };
    format!(
        "{what} at {}:{}: {calls}, {} connections, {:.1} s after {:.1} s of warm-up",
        settings.protocol, settings.target, settings.connections, outcome.window_s, settings.warmup_s
    )
}

/// Each distribution that is shown, with its name.
pub fn rows(outcome: &Outcome) -> Vec<(&'static str, &Distribution)> {
    let total = &outcome.total;
    let mut rows = Vec::new();
    if outcome.settings.rate.is_some() {
        rows.push(("latency (from intended time)", &total.latency));
        rows.push(("uncorrected (from sending)", &total.uncorrected));
    } else {
        rows.push(("latency", &total.latency));
    }
    rows.extend([("  wire", &total.wire), ("  queue", &total.queue), ("  handler", &total.handler)]);
    if total.errors > 0 {
        rows.push(("latency of errors", &total.error_latency));
    }
    if outcome.settings.rate.is_some() {
        rows.push(("generator late by", &outcome.generator.late));
    }
    rows
}

/// The cells of one distribution: mean, percentiles, maximum.
pub fn cells(distribution: &Distribution) -> Vec<String> {
    if distribution.count == 0 {
        return vec!["–".into(); SHOWN.len() + 2];
    }
    let mut cells = vec![time(distribution.mean_ns)];
    cells.extend(SHOWN.map(|percent| distribution.at(percent).map_or("–".into(), |ns| time(ns as f64))));
    cells.push(time(distribution.max_ns as f64));
    cells
}

/// The headings of [`cells`].
pub fn headings() -> Vec<String> {
    let percentiles = SHOWN.iter().map(|percent| format!("p{percent}"));
    ["mean".to_owned()].into_iter().chain(percentiles).chain(["max".to_owned()]).collect()
}

fn latencies(outcome: &Outcome) -> String {
    let headings = headings();
    let mut names = vec![""];
    names.extend(headings.iter().map(String::as_str));
    let mut table = Table::new(&names);
    for (name, distribution) in rows(outcome) {
        table.row([vec![name.to_owned()], cells(distribution)].concat());
    }
    table.render()
}

fn by_method(methods: &[Figures]) -> String {
    let headings = headings();
    let mut names = vec!["by method", "calls", "errors"];
    names.extend(headings.iter().map(String::as_str));
    let mut table = Table::new(&names);
    for method in methods {
        let first = vec![method.name.clone(), count(method.ok as f64), count(method.errors as f64)];
        table.row([first, cells(&method.latency)].concat());
    }
    table.render()
}

fn errors(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (name, calls) in &outcome.total.errors_by_status {
        let message = outcome.messages.get(name).map_or(String::new(), |message| format!(": {message}"));
        let _ = writeln!(text, "{:>12} {name}{message}", count(*calls as f64));
    }
    if outcome.total.lost > 0 {
        let _ = writeln!(text, "{:>12} of them lost with their connection", count(outcome.total.lost as f64));
    }
    text
}

/// What generator and server cost.
pub fn costs(outcome: &Outcome) -> Vec<String> {
    let generator = &outcome.generator;
    let busiest = generator.threads.iter().map(|used| used.cpu_share).fold(0.0, f64::max);
    let waited = generator.threads.iter().map(|used| used.waited_share).fold(0.0, f64::max);
    let mut lines = vec![format!(
        "generator: {} of CPU a call, {} of a core{}, waited for it {} of the time",
        time(generator.cpu_ns_per_call),
        percent(busiest),
        if generator.threads.len() > 1 { " (the busiest thread)" } else { "" },
        percent(waited)
    )];
    if let Some(server) = &outcome.server {
        lines.push(format!(
            "server:    {} of CPU a call, {} of a core ({})",
            time(server.cpu_ns_per_call),
            percent(server.cpu_share),
            server.source
        ));
    }
    lines
}
