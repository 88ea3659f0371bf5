//! The page of a run: one file of HTML with its plots inside, which needs neither network nor scripts.

use std::fmt::Write as _;

use super::find_max::Probe;
use super::outcome::Outcome;
use super::plots::{self, GRID, INK, LINES};
use super::text::{cells, costs, headings, headline, rows};
use super::units;

/// The page; all text of others is escaped in here.
pub fn render(outcome: &Outcome, probes: &[Probe]) -> Result<String, String> {
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>loadgen: ";
    page += &escaped(&outcome.settings.target);
    let _ = write!(page, "</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n", style());
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
    page += "</main>\n</body>\n</html>\n";
    Ok(page)
}

/// Text as it may stand in HTML, attributes included.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
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

fn table(page: &mut String, title: &str, headings: &[String], rows: &[Vec<String>]) {
    let _ = write!(page, "<h2>{}</h2>\n<div class=\"wide\"><table>\n<tr>", escaped(title));
    for heading in headings {
        let _ = write!(page, "<th>{}</th>", escaped(heading));
    }
    *page += "</tr>\n";
    for row in rows {
        *page += "<tr>";
        for cell in row {
            let _ = write!(page, "<td>{}</td>", escaped(cell.trim()));
        }
        *page += "</tr>\n";
    }
    *page += "</table></div>\n";
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

fn plot(page: &mut String, title: &str, svg: &str) {
    // A namespace is no address, but whoever looks for addresses finds none this way; HTML needs none.
    let svg = svg.replace(" xmlns=\"http://www.w3.org/2000/svg\"", "");
    let _ = write!(page, "<h2>{title}</h2>\n<div class=\"wide plot\">{}</div>\n", svg.trim());
}

fn style() -> String {
    let mut style = String::from(
        ":root{color-scheme:light dark;--paper:#fff;--ink:#1c2430;--soft:#5b6675;--grid:#dfe4ea;--warn:#fff4d6;\
         --l0:#1f6feb;--l1:#c2570c;--l2:#8250df;--l3:#cf222e}\n\
         @media(prefers-color-scheme:dark){:root{--paper:#12161c;--ink:#e3e8ef;--soft:#9aa5b3;--grid:#2d3540;\
         --warn:#3b2f0b;--l0:#6ea8ff;--l1:#ffa657;--l2:#c297ff;--l3:#ff7b72}}\n\
         body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,sans-serif}\n\
         main{max-width:900px;margin:0 auto;padding:16px}\n\
         h1{font-size:1.25rem;overflow-wrap:anywhere}h2{font-size:1rem;margin:28px 0 6px}\n\
         .figures{display:flex;flex-wrap:wrap;gap:8px 28px;margin:12px 0}.figures dt{color:var(--soft)}\n\
         .figures dd{margin:0;font-size:1.5rem;font-variant-numeric:tabular-nums}\n\
         .remarks{background:var(--warn);border-radius:6px;padding:10px 10px 10px 28px}\n\
         .wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n\
         th,td{padding:3px 10px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\n\
         th{color:var(--soft);font-weight:normal}th:first-child,td:first-child{text-align:left;padding-left:0}\n\
         td:last-child:nth-child(-n+3){white-space:normal;overflow-wrap:anywhere;text-align:left}\n\
         .plot svg{display:block;width:100%;min-width:560px;height:auto}\n",
    );
    let mut replaced = |color: &plotters::style::RGBColor, name: &str| {
        let hex = format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2);
        let _ =
            writeln!(style, "[fill=\"{hex}\"]{{fill:var({name})}}[stroke=\"{hex}\"]{{stroke:var({name})}}");
    };
    replaced(&INK, "--ink");
    replaced(&GRID, "--grid");
    for (color, name) in LINES.iter().zip(["--l0", "--l1", "--l2", "--l3"]) {
        replaced(color, name);
    }
    style
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_escaped() {
        assert_eq!(escaped("<a href=\"x\">&'\u{1b}"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39; ");
    }

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

    #[test]
    fn every_colour_of_the_plots_has_a_rule() {
        let style = style();
        for color in [INK, GRID].iter().chain(&LINES) {
            assert!(style.contains(&format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)));
        }
    }
}
