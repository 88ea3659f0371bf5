//! The page of a run: one file of HTML with its plots inside, which needs neither network nor scripts.

use std::fmt::Write as _;

use super::find_max::Probe;
use super::outcome::Outcome;
use super::plots;
use super::text::{cells, costs, headings, headline, rows};
use super::units;
use crate::sheet::{self, escaped, plot, table};

/// The page; all text of others is escaped in here.
pub fn render(outcome: &Outcome, probes: &[Probe]) -> Result<String, String> {
    let mut page = sheet::head(&format!("loadgen: {}", outcome.settings.target), 900);
    let _ = writeln!(page, "<h1>{}</h1>", escaped(&headline(outcome)));
    figures(&mut page, outcome);
    if !outcome.verdict.remarks.is_empty() {
        page += "<ul class=\"remarks\">\n";
        for remark in &outcome.verdict.remarks {
            let _ = writeln!(page, "<li>{}</li>", escaped(remark));
        }
        page += "</ul>\n";
    }
    probe_table(&mut page, probes);
    latency_table(&mut page, outcome);
    let told = |error: Box<dyn std::error::Error>| format!("cannot draw: {error}");
    plot(&mut page, "Latency by percentile", &plots::percentiles(outcome).map_err(told)?);
    plot(&mut page, "Latency over time", &plots::latency_over_time(outcome).map_err(told)?);
    plot(&mut page, "Calls per second over time", &plots::rate_over_time(outcome).map_err(told)?);
    plot(&mut page, "Where the time went", &plots::parts(outcome).map_err(told)?);
    methods(&mut page, outcome);
    errors(&mut page, outcome);
    circumstances(&mut page, outcome);
    page += sheet::FOOT;
    Ok(page)
}

fn figures(page: &mut String, outcome: &Outcome) {
    let total = &outcome.total;
    let at = |percent| total.latency.at(percent).map_or("–".into(), |ns| units::time(ns as f64));
    let shown = [
        ("calls/s", units::count(outcome.calls_per_s.round())),
        ("p50", at(50.0)),
        ("p99", at(99.0)),
        ("p99.9", at(99.9)),
        ("errors", units::count(total.errors as f64)),
    ];
    *page += "<dl class=\"figures\">\n";
    for (name, value) in shown {
        let _ = writeln!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", escaped(&value));
    }
    *page += "</dl>\n";
}

fn probe_table(page: &mut String, probes: &[Probe]) {
    if probes.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = probes
        .iter()
        .map(|probe| {
            vec![
                units::count(probe.rate.round()),
                units::count(probe.calls_per_s.round()),
                probe.p99_ns.map_or("–".into(), |ns| units::time(ns as f64)),
                if probe.kept { "kept".into() } else { probe.why.join(", ") },
            ]
        })
        .collect();
    table(page, "The search", &["calls/s wanted", "answered", "p99", "the promise"].map(String::from), &rows);
}

fn latency_table(page: &mut String, outcome: &Outcome) {
    let headings = [vec![String::new()], headings()].concat();
    let rows: Vec<Vec<String>> = rows(outcome)
        .into_iter()
        .map(|(name, distribution)| [vec![name.to_owned()], cells(distribution)].concat())
        .collect();
    table(page, "Latency", &headings, &rows);
}

fn methods(page: &mut String, outcome: &Outcome) {
    if outcome.methods.len() < 2 {
        return;
    }
    let headings = [["", "calls", "errors"].map(String::from).to_vec(), headings()].concat();
    let row = |method: &super::outcome::Figures| {
        let first =
            vec![method.name.clone(), units::count(method.ok as f64), units::count(method.errors as f64)];
        [first, cells(&method.latency)].concat()
    };
    table(page, "By method", &headings, &outcome.methods.iter().map(row).collect::<Vec<_>>());
}

fn errors(page: &mut String, outcome: &Outcome) {
    let by_status = &outcome.total.errors_by_status;
    if by_status.is_empty() {
        return;
    }
    let row = |(name, calls): (&&'static str, &u64)| {
        vec![
            (*name).to_owned(),
            units::count(*calls as f64),
            outcome.messages.get(*name).cloned().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = by_status.iter().map(row).collect();
    table(page, "Errors", &["status", "calls", "the first one's message"].map(String::from), &rows);
}

fn circumstances(page: &mut String, outcome: &Outcome) {
    let machine = &outcome.machine;
    let mut rows = vec![
        vec!["command".into(), outcome.command.join(" ")],
        vec!["machine".into(), format!("{}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel)],
        vec!["made".into(), format!("{}, loadgen {}", date(machine.unix_time_s), outcome.version)],
        vec!["seed".into(), outcome.settings.seed.to_string()],
    ];
    for cost in costs(outcome) {
        if let Some((name, text)) = cost.split_once(':') {
            rows.push(vec![name.to_owned(), text.to_owned()]);
        }
    }
    table(page, "How it was measured", &[String::new(), String::new()], &rows);
}

/// A point in time as people read it, in UTC.
fn date(unix_s: u64) -> String {
    let (mut days, second) = (unix_s / 86_400, unix_s % 86_400);
    let mut year = 1970;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", days + 1, second / 3600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_leap_years_and_others() {
        let cases = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59 UTC"),
            (1_798_761_600, "2027-01-01 00:00 UTC"),
        ];
        for (unix_s, want) in cases {
            assert_eq!(date(unix_s), want);
        }
    }
}
