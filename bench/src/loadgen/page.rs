//! The page of a run: one HTML file that contains its plots and requires neither network nor scripts.

use std::fmt::Write as _;

use super::find_max::Probe;
use super::outcome::Outcome;
use super::plots::{self, Plot};
use super::text::{cells, costs, headings, headline, method_rows, rows, stream_lines};
use super::units::{self, Promise};
use crate::sheet::{self, escaped, table};

/// Renders the page. All text from outside is escaped here.
pub fn render(outcome: &Outcome, objective: Option<&Promise>, probes: &[Probe]) -> Result<String, String> {
    let mut page = sheet::head(&format!("loadgen: {}", outcome.settings.target), 1080);
    let _ = writeln!(page, "<h1>{}</h1>", escaped(&headline(outcome)));
    figures(&mut page, outcome);
    let lines = outcome.slo.iter().flat_map(|slo| slo.lines());
    let lines: Vec<String> = lines.chain(outcome.verdict.remarks.iter().cloned()).collect();
    if !lines.is_empty() {
        page += "<ul class=\"remarks\">\n";
        for line in lines {
            let _ = writeln!(page, "<li>{}</li>", escaped(&line));
        }
        page += "</ul>\n";
    }
    let error_text = |error: Box<dyn std::error::Error>| format!("cannot draw: {error}");
    let show = |page: &mut String, title: &str, plot: Plot| {
        let _ = writeln!(page, "<h2>{}</h2>", escaped(title));
        sheet::keys(page, plot.keys);
        sheet::picture(page, &plot.svg);
    };
    if let Some(objective) = objective.filter(|_| !probes.is_empty()) {
        show(
            &mut page,
            "Latency against rate, every probe",
            plots::search(objective, probes).map_err(error_text)?,
        );
        probe_table(&mut page, probes);
    }
    latency_table(&mut page, outcome);
    show(&mut page, "Latency by percentile", plots::percentiles(outcome).map_err(error_text)?);
    show(&mut page, "Latency over time", plots::latency_over_time(outcome).map_err(error_text)?);
    if let Some(scraped) = &outcome.scraped {
        let plot = plots::lag_over_time(outcome, scraped).map_err(error_text)?;
        show(&mut page, "Latency beside the lag of the server's reactors", plot);
        let plot = plots::queue_over_time(scraped).map_err(error_text)?;
        show(&mut page, "Run queue and shed calls of the server", plot);
    }
    let rate = if outcome.streams.is_some() { "Messages" } else { "Calls" };
    let rate_plot = plots::rate_over_time(outcome).map_err(error_text)?;
    show(&mut page, &format!("{rate} per second over time"), rate_plot);
    match &outcome.streams {
        None => show(&mut page, "Where the time went", plots::parts(outcome).map_err(error_text)?),
        Some(streams) => {
            let rows = stream_lines(streams).into_iter().map(|(name, line)| vec![name.to_owned(), line]);
            table(&mut page, "Streams", &[String::new(), String::new()], &rows.collect::<Vec<_>>());
        }
    }
    methods(&mut page, outcome);
    errors(&mut page, outcome);
    traces(&mut page, outcome);
    circumstances(&mut page, outcome);
    page += sheet::FOOT;
    Ok(page)
}

fn figures(page: &mut String, outcome: &Outcome) {
    let total = &outcome.total;
    let at = |percent| total.latency.at(percent).map_or("–".into(), |ns| units::latency(ns as f64));
    let mut shown = vec![(
        if outcome.streams.is_some() { "messages/s" } else { "calls/s" },
        units::count(outcome.calls_per_s.round()),
    )];
    if let (Some(in_time_per_s), Some(late)) = (outcome.in_time_per_s, total.after_deadline) {
        shown.push(("in time/s", units::count(in_time_per_s.round())));
        shown.push(("after deadline", units::count(late as f64)));
    }
    shown.extend([
        ("p50", at(50.0)),
        ("p99", at(99.0)),
        ("p99.9", at(99.9)),
        ("errors", units::count(total.errors as f64)),
    ]);
    if let Some(slo) = &outcome.slo {
        shown.push(("SLO", if slo.met { "met".into() } else { "missed".into() }));
    }
    *page += "<dl class=\"figures\">\n";
    for (name, value) in shown {
        let _ = writeln!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", escaped(&value));
    }
    *page += "</dl>\n";
}

fn probe_table(page: &mut String, probes: &[Probe]) {
    let time = |ns: Option<u64>| ns.map_or("–".into(), |ns| units::latency(ns as f64));
    let rows: Vec<Vec<String>> = probes
        .iter()
        .map(|probe| {
            vec![
                units::count(probe.rate.round()),
                units::count(probe.calls_per_s.round()),
                time(probe.p50_ns),
                time(probe.p99_ns),
                if probe.kept { "met".into() } else { format!("missed: {}", probe.why.join(", ")) },
            ]
        })
        .collect();
    let names = ["calls/s wanted", "answered", "p50", "p99", "objective"];
    *page += "<h2>The search</h2>\n";
    sheet::grid(page, "worded", &names.map(String::from), &rows);
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
    let (names, rows) = method_rows(&outcome.methods, "");
    table(page, "By method", &names, &rows);
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
    *page += "<h2>Errors</h2>\n";
    sheet::grid(page, "worded", &["status", "calls", "first message"].map(String::from), &rows);
}

/// Lists the slowest traced calls, with links to the console if its address is known.
fn traces(page: &mut String, outcome: &Outcome) {
    let Some(traces) = outcome.traces.as_ref().filter(|traces| !traces.slowest.is_empty()) else { return };
    let (headings, rows) = traces.rows();
    let _ = write!(
        page,
        "<h2>Slowest of {} traced calls</h2>\n<div class=\"wide worded\"><table>\n<tr>",
        units::count(traces.ended as f64)
    );
    let headings = ["trace"].into_iter().chain(headings.into_iter().skip(1));
    for heading in headings {
        let _ = write!(page, "<th>{heading}</th>");
    }
    *page += "</tr>\n";
    for (trace, row) in traces.slowest.iter().zip(rows) {
        *page += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let cell = escaped(cell);
            let _ = match traces.link(trace).filter(|_| column == 0) {
                Some(link) => write!(page, "<td><a href=\"{}\">{cell}</a></td>", escaped(&link)),
                None => write!(page, "<td>{cell}</td>"),
            };
        }
        *page += "</tr>\n";
    }
    *page += "</table></div>\n";
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

/// Formats a point in time for people, in UTC.
pub fn date(unix_s: u64) -> String {
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
