//! The page: goodput and latency against the offered load, the tables, the circumstances.

use std::fmt::Write as _;

use super::text::{costs, counts, figures, headline, passes};
use super::{Overload, Step};
use crate::loadgen::plots::{self, Plot, Series, Vertical};
use crate::loadgen::{page, units};
use crate::sheet::{self, LINES, escaped};

/// Renders the page. All text from outside is escaped here.
pub fn render(overload: &Overload) -> Result<String, String> {
    let mut page = sheet::head(&format!("overload: {}", overload.settings.target), 1080);
    let _ = writeln!(page, "<h1>{}</h1>", escaped(&headline(overload)));
    summary(&mut page, overload);
    if !overload.remarks.is_empty() {
        page += "<ul class=\"remarks\">\n";
        for remark in &overload.remarks {
            let _ = writeln!(page, "<li>{}</li>", escaped(remark));
        }
        page += "</ul>\n";
    }
    let plots = [
        ("Goodput against offered load, in shares of the capacity", goodput(overload)),
        ("Latency of ok answers against offered load", latency(overload)),
    ];
    for (title, plot) in plots {
        let plot = plot.map_err(|error| format!("cannot draw: {error}"))?;
        let _ = writeln!(page, "<h2>{title}</h2>");
        sheet::keys(&mut page, plot.keys);
        sheet::picture(&mut page, &plot.svg);
    }
    for (title, steps) in passes(overload) {
        let owned = |headings: Vec<&str>| headings.into_iter().map(String::from).collect::<Vec<_>>();
        let (headings, rows) = counts(&steps);
        sheet::table(&mut page, &title, &owned(headings), &rows);
        page += "<h3>Goodput, latency and CPU</h3>\n";
        let (headings, rows) = figures(&steps);
        sheet::grid(&mut page, "", &owned(headings), &rows);
    }
    circumstances(&mut page, overload);
    page += sheet::FOOT;
    Ok(page)
}

/// Renders the plot of goodput alone.
pub fn picture(overload: &Overload) -> Result<String, String> {
    let plot = goodput(overload).map_err(|error| format!("cannot draw: {error}"))?;
    Ok(sheet::alone(&plot.svg, plots::SIZE, &plot.keys))
}

fn summary(page: &mut String, overload: &Overload) {
    let mut shown = vec![
        ("capacity", format!("{} calls/s", units::count(overload.capacity.calls_per_s.round()))),
        ("deadline", units::time(overload.settings.deadline_ns as f64)),
    ];
    if let Some(costs) = &overload.costs {
        shown.push(("to handle a call (h)", units::time(costs.handle_ns)));
        shown.push(("to refuse a call (r)", units::time(costs.refuse_ns)));
        shown.push(("r/h", format!("{:.4}", costs.ratio)));
    }
    *page += "<dl class=\"figures\">\n";
    for (name, value) in shown {
        let _ = writeln!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", escaped(&value));
    }
    *page += "</dl>\n";
}

/// Returns the points of one pass, by offered load.
fn points(
    overload: &Overload,
    states_deadline: bool,
    value: impl Fn(&Step) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let steps = overload.steps.iter().filter(|step| step.states_deadline == states_deadline);
    let mut points: Vec<_> = steps.filter_map(|step| Some((step.factor, value(step)?))).collect();
    points.sort_by(|one, next| one.0.total_cmp(&next.0));
    points
}

type Drawn = Result<Plot, Box<dyn std::error::Error>>;

fn goodput(overload: &Overload) -> Drawn {
    let goodput = |states_deadline| points(overload, states_deadline, |step| Some(step.goodput));
    let last = overload.steps.iter().map(|step| step.factor).fold(1.0, f64::max);
    // The ceiling bends at the capacity and, where it meets zero, at its end.
    let (name, bound) = match &overload.costs {
        Some(costs) => ("ceiling 1 − (k − 1)·r/h", costs.ceiling(last)),
        None => ("capacity", 1.0),
    };
    let zero = overload.costs.map_or(last, |costs| (1.0 + 1.0 / costs.ratio).min(last));
    let mut lines = vec![Series {
        name,
        color: LINES[4],
        points: vec![(0.0, 0.0), (1.0, 1.0), (zero, bound), (last, bound)],
    }];
    for (states_deadline, name, color) in [(true, STATED, LINES[0]), (false, UNSTATED, LINES[1])] {
        lines.push(Series { name, color, points: goodput(states_deadline) });
    }
    lines.retain(|line| !line.points.is_empty());
    plots::against_load(&lines, Vertical::Share)
}

const STATED: &str = "in time, deadline stated";
const UNSTATED: &str = "in time, deadline not stated";

fn latency(overload: &Overload) -> Drawn {
    let us = |ns: u64| ns as f64 / 1e3;
    let p50 = |step: &Step| step.ok_latency.map(|times| us(times.p50_ns));
    let p99 = |step: &Step| step.ok_latency.map(|times| us(times.p99_ns));
    let last = overload.steps.iter().map(|step| step.factor).fold(1.0, f64::max);
    let deadline = us(overload.settings.deadline_ns);
    let mut lines = vec![
        Series { name: "the deadline", color: LINES[3], points: vec![(0.0, deadline), (last, deadline)] },
        Series { name: "p99, deadline stated", color: LINES[0], points: points(overload, true, p99) },
        Series { name: "p50, deadline stated", color: LINES[2], points: points(overload, true, p50) },
        Series { name: "p99, deadline not stated", color: LINES[1], points: points(overload, false, p99) },
        Series { name: "p50, deadline not stated", color: LINES[7], points: points(overload, false, p50) },
    ];
    lines.retain(|line| !line.points.is_empty());
    plots::against_load(&lines, Vertical::Latency)
}

fn circumstances(page: &mut String, overload: &Overload) {
    let (machine, settings) = (&overload.machine, &overload.settings);
    let mut rows = vec![
        vec!["command".into(), overload.command.join(" ")],
        vec!["machine".into(), format!("{}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel)],
        vec!["made".into(), format!("{}, loadgen {}", page::date(machine.unix_time_s), overload.version)],
        vec!["seed".into(), settings.seed.to_string()],
    ];
    for line in costs(overload) {
        if let Some((name, text)) = line.split_once(':') {
            rows.push(vec![name.to_owned(), text.trim().to_owned()]);
        }
    }
    sheet::table(page, "How it was measured", &[String::new(), String::new()], &rows);
}
