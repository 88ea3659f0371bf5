//! The result as text for a terminal.

use std::fmt::Write as _;

use super::outcome::{Distribution, Figures, Outcome, SHOWN};
use super::speech::AddressProtocol;
use super::streams::Shape;
use super::streams::counts::StreamFigures;
use super::units::{count, latency, percent, time};
use crate::table::Table;

/// Renders the whole result.
pub fn render(outcome: &Outcome) -> String {
    let mut text = String::new();
    let total = &outcome.total;
    let _ = writeln!(text, "{}\n", headline(outcome));
    let (headings, cells) = rates(outcome);
    let names: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = Table::new(&names);
    table.row(cells);
    text += &table.render();
    text.push('\n');
    text += &latencies(outcome);
    if let Some(streams) = &outcome.streams {
        text.push('\n');
        for (name, line) in stream_lines(streams) {
            let _ = writeln!(text, "{:<10} {line}", format!("{name}:"));
        }
    }
    if outcome.methods.len() > 1 {
        text.push('\n');
        text += &by_method(&outcome.methods);
    }
    if total.errors > 0 {
        text.push('\n');
        text += &errors(outcome);
    }
    if let Some(traces) = outcome.traces.as_ref().filter(|traces| !traces.slowest.is_empty()) {
        let (headings, rows) = traces.rows();
        let mut table = Table::new(&headings);
        rows.into_iter().for_each(|row| table.row(row.to_vec()));
        let _ = write!(text, "\n{}", table.render());
        if let Some(link) = traces.slowest.first().and_then(|slowest| traces.link(slowest)) {
            let _ = writeln!(text, "the slowest: {link}");
        }
    }
    text.push('\n');
    for line in costs(outcome) {
        let _ = writeln!(text, "{line}");
    }
    for line in outcome.slo.iter().flat_map(|slo| slo.lines()) {
        let _ = writeln!(text, "{line}");
    }
    for remark in &outcome.verdict.remarks {
        let _ = writeln!(text, "! {remark}");
    }
    text
}

/// Returns headings and cells of calls and errors with their rates, and of the answers in time if a deadline is
/// stated.
pub fn rates(outcome: &Outcome) -> (Vec<String>, Vec<String>) {
    let total = &outcome.total;
    let mut columns = vec![
        ("", total.name.clone()),
        (outcome.unit(), count(total.ok as f64)),
        (
            if outcome.streams.is_some() { "messages/s" } else { "calls/s" },
            count(outcome.calls_per_s.round()),
        ),
    ];
    if let (Some(in_time), Some(late)) = (total.in_time, total.after_deadline) {
        columns.push(("in time", count(in_time as f64)));
        columns.push(("in time/s", count(outcome.in_time_per_s.unwrap_or(0.0).round())));
        columns.push(("after deadline", count(late as f64)));
    }
    columns.push(("errors", count(total.errors as f64)));
    columns.push(("errors/s", count(outcome.errors_per_s.round())));
    columns.into_iter().map(|(heading, cell)| (heading.to_owned(), cell)).unzip()
}

/// Returns the settings of the run in one line.
pub fn headline(outcome: &Outcome) -> String {
    let settings = &outcome.settings;
    let calls = match (settings.rate, &outcome.streams) {
        (Some(rate), _) => format!("open loop at {} {}/s", count(rate), outcome.unit()),
        (None, Some(streams)) if streams.shape == Shape::Bidirectional => {
            format!(
                "closed loop, {} messages in flight on each of {} streams",
                settings.depth, streams.streams
            )
        }
        (None, Some(streams)) => format!("{} streams", streams.streams),
        (None, None) => format!("closed loop, {} in flight on each", settings.depth),
    };
    let what = match outcome.methods.as_slice() {
        [only] => match &outcome.streams {
            Some(streams) => format!("{} ({}, {})", only.name, only.codec, streams.shape.name()),
            None => format!("{} ({})", only.name, only.codec),
        },
        several => format!("a mix of {} methods", several.len()),
    };
    format!(
        "{what} at {}{}:{}: {calls}, {} connections, {:.1} s after {:.1} s of warm-up",
        settings.protocol,
        if settings.tls { "+tls" } else { "" },
        settings.target,
        settings.connections,
        outcome.window_s,
        settings.warmup_s
    )
}

/// Returns each distribution to show, with its name.
pub fn rows(outcome: &Outcome) -> Vec<(&'static str, &Distribution)> {
    let total = &outcome.total;
    let mut rows = Vec::new();
    if outcome.settings.rate.is_some() {
        rows.push(("latency (from intended time)", &total.latency));
        rows.push(("uncorrected (from sending)", &total.uncorrected));
    } else {
        let name = outcome.streams.as_ref().map_or("latency", |streams| match streams.shape {
            Shape::ServerStreaming => "between messages",
            Shape::ClientStreaming => "until the reply",
            Shape::Bidirectional => "latency",
        });
        rows.push((name, &total.latency));
    }
    // The parts are those of calls: messages do not say how long they took in the server.
    if outcome.streams.is_none() {
        rows.push(("  wire", &total.wire));
    }
    if has_server_times(outcome) {
        rows.extend([("  queue", &total.queue), ("  handler", &total.handler)]);
    }
    if total.errors > 0 {
        let name = if outcome.streams.is_some() { "latency of failed" } else { "latency of failed calls" };
        rows.push((name, &total.error_latency));
    }
    if outcome.settings.rate.is_some() {
        rows.push(("generator late by", &outcome.generator.late));
    }
    rows
}

/// Returns whether the server reports how long a call was queued and in its handler. Native replies always do.
pub fn has_server_times(outcome: &Outcome) -> bool {
    let total = &outcome.total;
    let is_native = outcome.settings.protocol == AddressProtocol::Native && outcome.streams.is_none();
    is_native || total.queue.max_ns > 0 || total.handler.max_ns > 0
}

/// Returns the cells of one distribution: mean, percentiles, maximum.
pub fn cells(distribution: &Distribution) -> Vec<String> {
    if distribution.count == 0 {
        return vec!["–".into(); SHOWN.len() + 2];
    }
    let mut cells = vec![latency(distribution.mean_ns)];
    cells.extend(SHOWN.map(|percent| distribution.at(percent).map_or("–".into(), |ns| latency(ns as f64))));
    cells.push(latency(distribution.max_ns as f64));
    cells
}

/// Returns the headings of [`cells`].
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
    let (names, rows) = method_rows(methods, "by method");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut table = Table::new(&names);
    rows.into_iter().for_each(|row| table.row(row));
    table.render()
}

/// Returns headings and rows of each method of a mix, with an additional row for its failed calls, if any.
pub fn method_rows(methods: &[Figures], first: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let has_deadline = methods.iter().any(|method| method.in_time.is_some());
    let mut names = vec![first.to_owned(), "calls".into()];
    if has_deadline {
        names.extend(["in time".into(), "after deadline".into()]);
    }
    names.push("errors".into());
    names.extend(headings());
    let mut rows = Vec::new();
    for method in methods {
        let mut row = vec![method.name.clone(), count(method.ok as f64)];
        if has_deadline {
            row.extend([method.in_time, method.after_deadline].map(|calls| count(calls.unwrap_or(0) as f64)));
        }
        row.push(count(method.errors as f64));
        row.extend(cells(&method.latency));
        rows.push(row);
        if method.errors > 0 {
            let mut row = vec![format!("{}, failed calls", method.name)];
            row.resize(names.len() - SHOWN.len() - 2, String::new());
            row.extend(cells(&method.error_latency));
            rows.push(row);
        }
    }
    (names, rows)
}

fn errors(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (name, calls) in &outcome.total.errors_by_status {
        let message = outcome.messages.get(name).map_or(String::new(), |message| format!(": {message}"));
        let _ = writeln!(text, "{:>12} {name}{message}", count(*calls as f64));
    }
    if outcome.total.lost > 0 {
        let _ = writeln!(
            text,
            "{:>12} of these were lost with their connection",
            count(outcome.total.lost as f64)
        );
    }
    text
}

/// Returns what is to be said about streams beside their messages: a name, and a line of text.
pub fn stream_lines(streams: &StreamFigures) -> Vec<(&'static str, String)> {
    let rate =
        |messages: f64, bytes: f64| format!("{} messages/s, {}B/s", count(messages.round()), scaled(bytes));
    let ended: Vec<String> = streams
        .ended_by_status
        .iter()
        .map(|(name, ended)| format!("{} {name}", count(*ended as f64)))
        .collect();
    let mut lines = vec![(
        "streams",
        format!(
            "{} at a time, {} opened, ended: {}{}",
            count(f64::from(streams.streams)),
            count(streams.opened as f64),
            if ended.is_empty() { "none".into() } else { ended.join(", ") },
            match streams.lost + streams.unfinished {
                0 => String::new(),
                _ => format!(
                    "; {} lost with their connection, {} without an end",
                    count(streams.lost as f64),
                    count(streams.unfinished as f64)
                ),
            }
        ),
    )];
    if streams.shape.argument_streams() {
        lines.push(("sent", rate(streams.sent_per_s, streams.bytes_sent_per_s)));
    }
    if streams.shape.result_streams() {
        lines.push(("received", rate(streams.received_per_s, streams.bytes_received_per_s)));
    }
    if let Some(memory) = &streams.memory {
        lines.push((
            "memory",
            format!(
                "{} KiB before, {} KiB at the end: {} bytes a stream",
                count(memory.before.resident_kib as f64),
                count(memory.end.resident_kib as f64),
                count(memory.bytes_each.round())
            ),
        ));
    }
    lines
}

/// Formats a number with a prefix of its unit: `12.3 M`.
fn scaled(number: f64) -> String {
    match number {
        number if number >= 1e9 => format!("{:.2} G", number / 1e9),
        number if number >= 1e6 => format!("{:.1} M", number / 1e6),
        number if number >= 1e3 => format!("{:.1} k", number / 1e3),
        number => format!("{number:.0} "),
    }
}

/// Returns the costs of generator and server.
pub fn costs(outcome: &Outcome) -> Vec<String> {
    let generator = &outcome.generator;
    let busiest = generator.threads.iter().map(|used| used.cpu_share).fold(0.0, f64::max);
    let unit = if outcome.streams.is_some() { "message" } else { "call" };
    let waited = generator.threads.iter().map(|used| used.waited_share).fold(0.0, f64::max);
    let mut lines = vec![format!(
        "generator: {} of CPU per {unit}, {} of a core{}, waited for it {} of the time",
        time(generator.cpu_ns_per_call),
        percent(busiest),
        if generator.threads.len() > 1 { " (the busiest thread)" } else { "" },
        percent(waited)
    )];
    if let Some(server) = &outcome.server {
        lines.push(format!(
            "server:    {} of CPU per {unit}, {} of a core ({})",
            time(server.cpu_ns_per_call),
            percent(server.cpu_share),
            server.source
        ));
    }
    if let Some(scraped) = &outcome.scraped {
        lines.push(format!("metrics:   {} (of {})", scraped.line(), scraped.address));
    }
    lines
}
