//! The lines and tables of a load on a fleet.

use std::fmt::Write as _;

use super::Outcome;
use super::seconds::{EndpointRates, Figures, Second};
use crate::loadgen::units;
use crate::table::Table;

/// Endpoints that a line of a second shows; a table shows this many times five.
const SHOWN_MAX: usize = 6;

/// The line above those of the seconds.
pub fn heading(rate: Option<f64>, in_flight_max: usize) -> String {
    match rate {
        Some(rate) => {
            format!("open loop, {} calls/s, at most {in_flight_max} in flight\n", units::count(rate))
        }
        None => format!("closed loop, {in_flight_max} calls in flight\n"),
    }
}

/// The line of a second: what was offered, what succeeded and failed, the p99, and the rate of each endpoint.
pub fn second(second: &Second, endpoints: &[EndpointRates], is_warmup: bool) -> String {
    let per_s = |count: u64| units::count((count as f64 / second.length_s).round());
    let mut line = format!(
        "{:>5.0} s  offered {}/s  ok {}/s  failed {}/s",
        second.at_s,
        per_s(second.offered),
        per_s(second.ok),
        per_s(second.failures())
    );
    if !second.failed.is_empty() {
        let _ = write!(line, " ({})", codes(&second.failed));
    }
    if let Some(ns) = second.p99_ns() {
        let _ = write!(line, "  p99 {}", units::time(ns as f64));
    }
    for (index, endpoint) in endpoints.iter().take(SHOWN_MAX).enumerate() {
        let separator = if index == 0 { "  |" } else { "" };
        let _ = write!(line, "{separator}  {} {}/s", endpoint.address, units::count(endpoint.per_s.round()));
        if endpoint.breaker != "closed" {
            let _ = write!(line, " {}", endpoint.breaker);
        }
    }
    if endpoints.len() > SHOWN_MAX {
        let _ = write!(line, "  and {} more", endpoints.len() - SHOWN_MAX);
    }
    if is_warmup {
        line.push_str("  (warm-up)");
    }
    line
}

fn codes(failed: &std::collections::BTreeMap<&'static str, u64>) -> String {
    let words: Vec<String> =
        failed.iter().map(|(name, count)| format!("{name} {}", units::count(*count as f64))).collect();
    words.join(", ")
}

/// The result.
pub fn render(outcome: &Outcome) -> String {
    let Figures { offered, ok, failed, p50_ns, p99_ns, max_ns, messages, .. } = &outcome.total;
    let per_s = |count: u64| units::count((count as f64 / outcome.window_s).round());
    let mut text = format!(
        "\n{}: {:.1} s, {} calls, {} calls/s\nok       {}\n",
        outcome.target,
        outcome.window_s,
        units::count(*offered as f64),
        per_s(*offered),
        units::count(*ok as f64),
    );
    if !failed.is_empty() {
        let _ = writeln!(text, "failed   {}", codes(failed));
    }
    for (name, message) in messages {
        // Most messages begin with the name.
        let message = message.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message);
        let _ = writeln!(text, "  {name}: {}", message.replace(char::is_control, "\u{fffd}"));
    }
    if *ok > 0 {
        let [p50, p99, max] = [p50_ns, p99_ns, max_ns].map(|ns| units::time(*ns as f64));
        let _ = writeln!(
            text,
            "latency of the successes, from when they were due: p50 {p50}, p99 {p99}, max {max}"
        );
    }
    let fleet = &outcome.fleet;
    let _ = writeln!(
        text,
        "client: {} retries, {} hedges ({} were first), {} refused by the budget",
        units::count(fleet.retries as f64),
        units::count(fleet.hedges as f64),
        units::count(fleet.hedge_wins as f64),
        units::count(fleet.budget_refusals as f64),
    );
    text.push('\n');
    text += &endpoints(&outcome.endpoints);
    if outcome.unanswered > 0 {
        let _ = writeln!(text, "! {} calls had no end when the run ended.", outcome.unanswered);
    }
    if outcome.never_sent > 0 {
        let _ = writeln!(
            text,
            "! {} calls were due and never sent: all places were in use (--connections, --depth).",
            outcome.never_sent
        );
    }
    text
}

const HEADINGS: [&str; 10] = [
    "endpoint",
    "zone",
    "breaker",
    "healthy",
    "attempts/s",
    "ok",
    "failed",
    "refused",
    "cancelled",
    "latency",
];

/// Returns the table of the endpoints: its headings and rows.
pub fn endpoint_rows(rates: &[EndpointRates]) -> ([&'static str; 10], Vec<Vec<String>>) {
    let row = |endpoint: &EndpointRates| {
        let mut row = vec![
            endpoint.address.clone(),
            endpoint.zone.clone().unwrap_or_else(|| "-".to_owned()),
            endpoint.breaker.to_owned(),
            if endpoint.is_healthy { "yes" } else { "no" }.to_owned(),
            units::count(endpoint.per_s.round()),
        ];
        row.extend(endpoint.ended.iter().map(|count| units::count(*count as f64)));
        row.push(units::time(endpoint.latency_us as f64 * 1e3));
        row
    };
    (HEADINGS, rates.iter().map(row).collect())
}

fn endpoints(rates: &[EndpointRates]) -> String {
    let shown = SHOWN_MAX * 5;
    let (headings, rows) = endpoint_rows(&rates[..rates.len().min(shown)]);
    let mut table = Table::new(&headings);
    rows.into_iter().for_each(|row| table.row(row));
    let mut text = table.render();
    if rates.len() > shown {
        let _ = writeln!(text, "and {} more (--json has all)", rates.len() - shown);
    }
    text
}
