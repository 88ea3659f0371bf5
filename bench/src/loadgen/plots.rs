//! The plots of the page, as SVG, in the placeholder colours of its style sheet.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::find_max::Probe;
use super::outcome::{Distribution, Outcome};
use super::run::Point;
use super::scrape::ScrapeFigures;
use super::text::has_server_times;
use super::units::Promise;
use crate::sheet::{GRID, INK, LINES};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 860;
const HEIGHT: u32 = 320;
/// Width and height of a plot, in pixels.
pub const SIZE: (u32, u32) = (WIDTH, HEIGHT);
/// Maximum points of a plot; in a longer run neighbouring points are merged.
const POINTS_MAX: usize = 400;

/// A plot, and the names of its lines or bars for the legend beside it.
pub struct Plot {
    /// The picture.
    pub svg: String,
    /// Name and colour.
    pub keys: Vec<(&'static str, RGBColor)>,
}

/// One line of a plot.
pub struct Series {
    /// The name in the legend.
    pub name: &'static str,
    /// The colour.
    pub color: RGBColor,
    /// The points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// The vertical axis of a plot.
#[derive(Clone, Copy, PartialEq)]
pub enum Vertical {
    /// Times in µs, on a logarithmic scale.
    Latency,
    /// Calls per second, from zero.
    Rate,
    /// Shares (1 is 100 %), from zero.
    Share,
}

/// Up to this number, points are marked individually, because a line through one point would be invisible.
const MARKED_POINTS_MAX: usize = 60;

/// Plots latency by percentile: each step to the right adds one nine.
pub fn percentiles(outcome: &Outcome) -> Result<Plot> {
    let total = &outcome.total;
    let mut lines = vec![("latency", LINES[0], &total.latency)];
    if outcome.settings.rate.is_some() {
        lines = vec![
            ("from the intended time", LINES[0], &total.latency),
            ("from sending (uncorrected)", LINES[1], &total.uncorrected),
        ];
    }
    if total.errors > 0 {
        lines.push(("failed calls", LINES[3], &total.error_latency));
    }
    let lines = lines.into_iter().map(|(name, color, distribution)| Series {
        name,
        color,
        points: nines(distribution),
    });
    let label = |nines: &f64| {
        let percent = 100.0 - 100.0 * 0.1_f64.powf(*nines);
        // As many decimals as the percentile has nines after the point.
        format!("{percent:.*} %", (*nines - 2.0).max(0.0).round() as usize)
    };
    draw(&lines.collect::<Vec<_>>(), &label, Vertical::Latency)
}

/// Converts a percentile to its number of nines: 0 % is 0, 90 % is 1, 99 % is 2.
fn nines(distribution: &Distribution) -> Vec<(f64, f64)> {
    let all = distribution.percentiles.iter().filter(|(percent, _)| *percent < 100.0);
    all.map(|(percent, ns)| (-(1.0 - percent / 100.0).log10(), us(*ns))).collect()
}

/// Plots latency over time.
pub fn latency_over_time(outcome: &Outcome) -> Result<Plot> {
    let of = |value: fn(&Point) -> Option<u64>| -> Vec<(f64, f64)> {
        // Merged points show the slowest of them, so that a stall stays visible.
        let groups = grouped(&outcome.series);
        groups
            .filter_map(|group| Some((group.last()?.end_s, us(group.iter().filter_map(value).max()?))))
            .collect()
    };
    let lines = [
        Series { name: "max", color: LINES[2], points: of(|point| point.max_ns) },
        Series { name: "p99", color: LINES[1], points: of(|point| point.p99_ns) },
        Series { name: "p50", color: LINES[0], points: of(|point| point.p50_ns) },
    ];
    draw(&lines, &seconds, Vertical::Latency)
}

/// Plots the latency of the callers and the lag of the server's reactors, over time.
pub fn lag_over_time(outcome: &Outcome, scraped: &ScrapeFigures) -> Result<Plot> {
    let latency = grouped(&outcome.series).filter_map(|group| {
        Some((group.last()?.end_s, us(group.iter().filter_map(|point| point.p99_ns).max()?)))
    });
    let lag = scraped.series.chunks(scraped.series.len().div_ceil(POINTS_MAX).max(1)).filter_map(|group| {
        Some((group.last()?.end_s, us(group.iter().filter_map(|point| point.lag_p99_ns).max()?)))
    });
    let lines = [
        Series { name: "p99 of the latency", color: LINES[1], points: latency.collect() },
        Series { name: "p99 of the reactors' lag (upper bound)", color: LINES[0], points: lag.collect() },
    ];
    draw(&lines, &seconds, Vertical::Latency)
}

/// Plots the length of the server's run queues, and the calls that it shed per second, over time.
pub fn queue_over_time(scraped: &ScrapeFigures) -> Result<Plot> {
    let groups = || scraped.series.chunks(scraped.series.len().div_ceil(POINTS_MAX).max(1));
    let queue = groups()
        .filter_map(|group| Some((group.last()?.end_s, group.iter().map(|point| point.queue).max()? as f64)));
    let sheds = groups().filter_map(|group| {
        let length_s: f64 = group.iter().map(|point| point.length_s).sum();
        let sheds: u64 = group.iter().map(|point| point.sheds).sum();
        Some((group.last()?.end_s, sheds as f64 / length_s.max(1e-9)))
    });
    let lines = [
        Series { name: "calls in run queues", color: LINES[0], points: queue.collect() },
        Series { name: "shed calls per second", color: LINES[3], points: sheds.collect() },
    ];
    draw(&lines, &seconds, Vertical::Rate)
}

/// Plots calls per second over time: due, done, failed.
pub fn rate_over_time(outcome: &Outcome) -> Result<Plot> {
    let of = |value: fn(&Point) -> u64| -> Vec<(f64, f64)> {
        let groups = grouped(&outcome.series);
        let per_second = |group: &[Point]| {
            let length_s: f64 = group.iter().map(|point| point.length_s).sum();
            Some((group.last()?.end_s, group.iter().map(value).sum::<u64>() as f64 / length_s))
        };
        groups.filter_map(per_second).collect()
    };
    let due = if outcome.settings.rate.is_some() { "due" } else { "sent" };
    let mut lines = vec![
        Series { name: due, color: LINES[2], points: of(|point| point.due) },
        Series { name: "answered", color: LINES[0], points: of(|point| point.ok) },
    ];
    if outcome.in_time_per_s.is_some() {
        lines.push(Series { name: "in time", color: LINES[4], points: of(|point| point.in_time) });
    }
    if outcome.series.iter().any(|point| point.failed > 0) {
        lines.push(Series { name: "failed", color: LINES[3], points: of(|point| point.failed) });
    }
    draw(&lines, &seconds, Vertical::Rate)
}

/// Plots lines over time, in seconds.
pub fn over_time(lines: &[Series], vertical: Vertical) -> Result<Plot> {
    draw(lines, &seconds, vertical)
}

fn seconds(at: &f64) -> String {
    format!("{} s", short(*at))
}

/// Plots each part of the latency by percentile. A part below a microsecond has no bar.
pub fn parts(outcome: &Outcome) -> Result<Plot> {
    let total = &outcome.total;
    let names = ["p50", "p90", "p99", "p99.9", "p99.99"];
    let mut parts = vec![("wire", LINES[0], &total.wire)];
    if has_server_times(outcome) {
        parts.extend([("queue", LINES[1], &total.queue), ("handler", LINES[2], &total.handler)]);
    }
    let value =
        |distribution: &Distribution, at: usize| us(distribution.at(super::outcome::SHOWN[at]).unwrap_or(0));
    let bottom = 1.0;
    let top = parts.iter().map(|(_, _, part)| value(part, 4)).fold(10.0, f64::max) * 1.5;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        let mut chart =
            framed(&area).build_cartesian_2d(0.0..names.len() as f64, (bottom..top).log_scale())?;
        let name = |at: &f64| {
            names.get((at - 0.5).round() as usize).map_or(String::new(), |name| (*name).to_owned())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(6)
            .y_label_formatter(&time)
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        for (place, (_, color, part)) in parts.iter().enumerate() {
            let bars = (0..names.len()).map(|at| {
                let left = at as f64 + 0.14 + 0.24 * place as f64;
                Rectangle::new([(left, bottom), (left + 0.21, value(part, at).max(bottom))], color.filled())
            });
            chart.draw_series(bars)?;
        }
        for at in 0..names.len() {
            let (x, y) = chart.backend_coord(&(at as f64 + 0.5, bottom));
            let style =
                ("sans-serif", 14).into_font().color(&INK).pos(plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Center,
                    plotters::style::text_anchor::VPos::Top,
                ));
            area.draw_text(&name(&(at as f64 + 0.5)), &style, (x, y + 8))?;
        }
        area.present()?;
    }
    Ok(Plot { svg, keys: parts.iter().map(|(name, color, _)| (*name, *color)).collect() })
}

/// Plots rate against latency: every probe of a search, with the limit of the p99 if the objective has one.
pub fn search(objective: &Promise, probes: &[Probe]) -> Result<Plot> {
    let of = |is_shown: fn(&Probe) -> bool, value: fn(&Probe) -> Option<u64>| -> Vec<(f64, f64)> {
        let shown = probes.iter().filter(|probe| is_shown(probe));
        let mut points: Vec<_> =
            shown.filter_map(|probe| Some((probe.rate, us(value(probe)?.max(1000))))).collect();
        points.sort_by(|one, next| one.0.total_cmp(&next.0).then(one.1.total_cmp(&next.1)));
        points
    };
    let mut lines = vec![
        Series { name: "p99", color: LINES[1], points: of(|_| true, |probe| probe.p99_ns) },
        Series { name: "p50", color: LINES[0], points: of(|_| true, |probe| probe.p50_ns) },
    ];
    let rate_max = probes.iter().map(|probe| probe.rate).fold(0.0, f64::max);
    if let Some((_, limit_ns)) = objective.bounds.iter().find(|(quantile, _)| *quantile == 0.99) {
        let points = vec![(0.0, us(*limit_ns)), (rate_max, us(*limit_ns))];
        lines.push(Series { name: "limit of the p99", color: LINES[4], points });
    }
    let missed = of(|probe| !probe.kept, |probe| probe.p99_ns);
    let mut plot = draw_with(&lines, &count, Vertical::Latency, &missed)?;
    if !missed.is_empty() {
        plot.keys.push(("objective missed", LINES[3]));
    }
    Ok(plot)
}

/// Plots lines against the offered load, in multiples of the capacity.
pub fn against_load(lines: &[Series], vertical: Vertical) -> Result<Plot> {
    draw(lines, &|factor| format!("{}×", short(*factor)), vertical)
}

fn grouped(series: &[Point]) -> impl Iterator<Item = &[Point]> {
    series.chunks(series.len().div_ceil(POINTS_MAX).max(1))
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// Formats a tick label in microseconds.
pub fn time(us: &f64) -> String {
    match *us {
        0.0 => "0".into(),
        us if us < 0.95 => format!("{:.0} ns", us * 1e3),
        us if us < 1e3 => format!("{} µs", short(us)),
        us if us < 1e6 => format!("{} ms", short(us / 1e3)),
        us => format!("{} s", short(us / 1e6)),
    }
}

/// Formats a tick label of a number.
pub fn count(value: &f64) -> String {
    match *value {
        value if value < 1e3 => short(value),
        value if value < 1e6 => format!("{}k", short(value / 1e3)),
        value => format!("{}M", short(value / 1e6)),
    }
}

/// Formats a number with at most two decimals, without trailing zeros.
pub fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        "-0" => "0".into(),
        text => text.into(),
    }
}

fn framed<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).margin_right(28).x_label_area_size(34).y_label_area_size(72);
    builder
}

fn draw(lines: &[Series], x_label: &dyn Fn(&f64) -> String, vertical: Vertical) -> Result<Plot> {
    draw_with(lines, x_label, vertical, &[])
}

/// Draws lines over an axis from zero; `crosses` are marked on top of them.
fn draw_with(
    lines: &[Series],
    x_label: &dyn Fn(&f64) -> String,
    vertical: Vertical,
    crosses: &[(f64, f64)],
) -> Result<Plot> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max).max(1e-3);
    let low = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1.0);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        macro_rules! chart {
            ($y:expr, $format:expr) => {{
                let mut chart = framed(&area).build_cartesian_2d(0.0..x_max * 1.01, $y)?;
                chart
                    .configure_mesh()
                    .x_labels(8)
                    .y_labels(6)
                    .x_label_formatter(x_label)
                    .y_label_formatter($format)
                    .axis_style(INK)
                    .bold_line_style(GRID)
                    .light_line_style(TRANSPARENT)
                    .label_style(("sans-serif", 14).into_font().color(&INK))
                    .draw()?;
                for line in lines {
                    let color = line.color;
                    chart.draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?;
                    if line.points.len() <= MARKED_POINTS_MAX {
                        chart.draw_series(
                            line.points.iter().map(|point| Circle::new(*point, 3, color.filled())),
                        )?;
                    }
                }
                chart.draw_series(
                    crosses.iter().map(|point| Cross::new(*point, 6, LINES[3].stroke_width(2))),
                )?;
            }};
        }
        match vertical {
            Vertical::Latency => {
                let low = if low.is_finite() { low.max(1.0) } else { 1.0 };
                chart!((low * 0.8..(high * 1.4).max(low * 10.0)).log_scale(), &time);
            }
            Vertical::Rate => chart!(0.0..high * 1.1, &count),
            Vertical::Share => {
                chart!(0.0..high * 1.1, &|share: &f64| format!("{} %", short(share * 100.0)));
            }
        }
        area.present()?;
    }
    Ok(Plot { svg, keys: lines.iter().map(|line| (line.name, line.color)).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        assert_eq!([0.5, 20.0, 1500.0, 2e6].map(|us| time(&us)), ["500 ns", "20 µs", "1.5 ms", "2 s"]);
        assert_eq!([0.0, 950.0, 2500.0, 1e6].map(|value| count(&value)), ["0", "950", "2.5k", "1M"]);
    }

    #[test]
    fn labels_have_no_rounding_noise() {
        assert_eq!(seconds(&(0.1 + 0.2)), "0.3 s");
        assert_eq!((time(&(3.0 * 0.1)), count(&(3.0 * 0.1))), ("300 ns".into(), "0.3".into()));
        assert_eq!(short(-0.0001), "0");
    }

    #[test]
    fn a_search_plot_shows_probes_limit_and_misses() {
        let probe = |rate, p99_ns, kept| Probe {
            rate,
            calls_per_s: rate,
            in_time_per_s: None,
            p50_ns: Some(100_000),
            p99_ns,
            kept,
            why: Vec::new(),
            doubtful: false,
        };
        let objective: Promise = "p99=2ms".parse().expect("well-formed");
        let probes = [probe(1000.0, Some(900_000), true), probe(2000.0, Some(9_000_000), false)];
        let names = |plot: &Plot| plot.keys.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let plot = search(&objective, &probes).expect("drawn");
        assert_eq!(names(&plot), ["p99", "p50", "limit of the p99", "objective missed"]);
        assert!(plot.svg.contains("1k") && plot.svg.contains("2k"), "{}", plot.svg);
        let none = search(&"max=1s".parse().expect("well-formed"), &[probe(1.0, None, true)]).expect("drawn");
        assert_eq!(names(&none), ["p99", "p50"]);
    }

    #[test]
    fn thinning_keeps_the_ends() {
        let series: Vec<Point> =
            (0..1001).map(|at| Point { end_s: f64::from(at), ..Point::default() }).collect();
        let groups: Vec<_> = grouped(&series).collect();
        assert!(groups.len() <= POINTS_MAX);
        assert_eq!(groups.last().and_then(|group| group.last()).map(|point| point.end_s), Some(1000.0));
        assert_eq!(grouped(&[]).count(), 0);
    }
}
