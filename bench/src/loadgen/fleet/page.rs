//! The page of a load on a fleet: rates and latency by second, the tables, the circumstances.

use std::fmt::Write as _;

use super::Outcome;
use super::seconds::{Figures, ServerRates};
use super::text::endpoint_rows;
use crate::loadgen::plots::{self, Plot, Series, Vertical};
use crate::loadgen::{page, units};
use crate::sheet::{self, LINES, escaped};

type Drawn = Result<Plot, Box<dyn std::error::Error>>;

/// Renders the page. All text from outside is escaped here.
pub fn render(outcome: &Outcome) -> Result<String, String> {
    let mut page = sheet::head(&format!("load: {}", outcome.target), 1080);
    let _ = writeln!(page, "<h1>{}</h1>", escaped(&outcome.target));
    for (title, plot) in [
        ("Calls per second", rates(outcome)),
        ("Attempts per second at each server, in the order of the table", servers(outcome)),
        ("Latency of the calls that succeeded", latency(outcome)),
    ] {
        let plot = plot.map_err(|error| format!("cannot draw: {error}"))?;
        let _ = writeln!(page, "<h2>{title}</h2>");
        sheet::keys(&mut page, plot.keys);
        sheet::picture(&mut page, &plot.svg);
    }
    let (headings, rows) = endpoint_rows(&outcome.endpoints);
    let headings: Vec<String> = headings.iter().map(|text| (*text).to_owned()).collect();
    sheet::table(&mut page, "Servers", &headings, &rows);
    let (machine, fleet) = (&outcome.machine, &outcome.fleet);
    let rows = vec![
        vec!["command".into(), outcome.command.join(" ")],
        vec!["machine".into(), format!("{}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel)],
        vec!["made".into(), format!("{}, loadgen {}", page::date(machine.unix_time_s), outcome.version)],
        vec!["retries".into(), units::count(fleet.retries as f64)],
        vec![
            "hedges".into(),
            format!(
                "{} ({} were first)",
                units::count(fleet.hedges as f64),
                units::count(fleet.hedge_wins as f64)
            ),
        ],
        vec!["refused by the budget".into(), units::count(fleet.budget_refusals as f64)],
    ];
    sheet::table(&mut page, "How it was measured", &[String::new(), String::new()], &rows);
    page += sheet::FOOT;
    Ok(page)
}

/// Renders the plot of the servers' rates alone, as SVG.
pub fn picture(outcome: &Outcome) -> Result<String, String> {
    let plot = servers(outcome).map_err(|error| format!("cannot draw: {error}"))?;
    Ok(sheet::alone(&plot.svg, plots::SIZE, &plot.keys))
}

fn rates(outcome: &Outcome) -> Drawn {
    let of = |value: fn(&Figures) -> u64| {
        let mut began_s = 0.0;
        let mut point = |second: &Figures| {
            let length_s = (second.at_s - began_s).max(f64::EPSILON);
            began_s = second.at_s;
            (second.at_s, value(second) as f64 / length_s)
        };
        outcome.seconds.iter().map(&mut point).collect()
    };
    plots::over_time(
        &[
            Series { name: "offered", color: LINES[2], points: of(|second| second.offered) },
            Series { name: "ok", color: LINES[0], points: of(|second| second.ok) },
            Series { name: "failed", color: LINES[3], points: of(|second| second.failed.values().sum()) },
        ],
        Vertical::Rate,
    )
}

/// The servers that have a line of their own, in the order of the table.
const SERVERS: [&str; 6] = ["server 1", "server 2", "server 3", "server 4", "server 5", "server 6"];

/// Plots the attempts at each server, and the calls that failed.
fn servers(outcome: &Outcome) -> Drawn {
    let shown = outcome.endpoints.iter().zip(SERVERS).zip(LINES);
    let mut lines: Vec<Series> = shown
        .map(|((endpoint, name), color)| {
            let rate = |second: &ServerRates| second.per_s.get(&endpoint.address).copied().unwrap_or(0.0);
            let points = outcome.servers.iter().map(|second| (second.at_s, rate(second))).collect();
            Series { name, color, points }
        })
        .collect();
    let failed = |second: &Figures| (second.at_s, second.failed.values().sum::<u64>() as f64);
    lines.push(Series {
        name: "failed calls",
        color: LINES[7],
        points: outcome.seconds.iter().map(failed).collect(),
    });
    plots::over_time(&lines, Vertical::Rate)
}

fn latency(outcome: &Outcome) -> Drawn {
    let of = |value: fn(&Figures) -> u64| {
        let answered = outcome.seconds.iter().filter(|second| second.ok > 0);
        answered.map(|second| (second.at_s, value(second) as f64 / 1e3)).collect()
    };
    plots::over_time(
        &[
            Series { name: "max", color: LINES[2], points: of(|second| second.max_ns) },
            Series { name: "p99", color: LINES[1], points: of(|second| second.p99_ns) },
            Series { name: "p50", color: LINES[0], points: of(|second| second.p50_ns) },
        ],
        Vertical::Latency,
    )
}
