//! The plots of the page, as SVG, in the placeholder colours of its style sheet.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::outcome::{Distribution, Outcome};
use super::run::Point;
use crate::sheet::{GRID, INK, LINES};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 860;
const HEIGHT: u32 = 320;
/// A long run has more points than a plot can show: neighbours are put together.
const POINTS_MAX: usize = 400;

/// One line of a plot.
struct Series<'a> {
    name: &'a str,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Latency by percentile: each step to the right is one more nine.
pub fn percentiles(outcome: &Outcome) -> Result<String> {
    let total = &outcome.total;
    let mut lines = vec![("latency", LINES[0], &total.latency)];
    if outcome.settings.rate.is_some() {
        lines = vec![
            ("from the intended time", LINES[0], &total.latency),
            ("from sending (uncorrected)", LINES[1], &total.uncorrected),
        ];
    }
    if total.errors > 0 {
        lines.push(("errors", LINES[3], &total.error_latency));
    }
    let lines = lines.into_iter().map(|(name, color, distribution)| Series {
        name,
        color,
        points: nines(distribution),
    });
    let label = |nines: &f64| {
        let percent = 100.0 - 100.0 * 0.1_f64.powf(*nines);
        // As many decimals as there are nines behind the point.
        format!("{percent:.*} %", (*nines - 2.0).max(0.0).round() as usize)
    };
    draw(&lines.collect::<Vec<_>>(), &label, true)
}

/// A percentile as the number of its nines: 0 % is 0, 90 % is 1, 99 % is 2.
fn nines(distribution: &Distribution) -> Vec<(f64, f64)> {
    let all = distribution.percentiles.iter().filter(|(percent, _)| *percent < 100.0);
    all.map(|(percent, ns)| (-(1.0 - percent / 100.0).log10(), us(*ns))).collect()
}

/// Latency over time.
pub fn latency_over_time(outcome: &Outcome) -> Result<String> {
    let of = |value: fn(&Point) -> Option<u64>| -> Vec<(f64, f64)> {
        // The slowest of neighbours stands for them: a stall must not be thinned out.
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
    draw(&lines, &seconds, true)
}

/// Calls per second over time: due, done, failed.
pub fn rate_over_time(outcome: &Outcome) -> Result<String> {
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
    if outcome.series.iter().any(|point| point.failed > 0) {
        lines.push(Series { name: "failed", color: LINES[3], points: of(|point| point.failed) });
    }
    draw(&lines, &seconds, false)
}

fn seconds(at: &f64) -> String {
    format!("{at} s")
}

/// Where the time went: each part by percentile. What is below half a microsecond has no bar.
pub fn parts(outcome: &Outcome) -> Result<String> {
    let total = &outcome.total;
    let names = ["p50", "p90", "p99", "p99.9", "p99.99"];
    let parts = [
        ("wire", LINES[0], &total.wire),
        ("queue", LINES[1], &total.queue),
        ("handler", LINES[2], &total.handler),
    ];
    let value =
        |distribution: &Distribution, at: usize| us(distribution.at(super::outcome::SHOWN[at]).unwrap_or(0));
    let bottom = 0.5;
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
        for (place, (label, color, part)) in parts.iter().enumerate() {
            let bars = (0..names.len()).map(|at| {
                let left = at as f64 + 0.14 + 0.24 * place as f64;
                Rectangle::new([(left, bottom), (left + 0.21, value(part, at).max(bottom))], color.filled())
            });
            let color = *color;
            chart
                .draw_series(bars)?
                .label(*label)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], color.filled()));
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
        legend(&mut chart)?;
        area.present()?;
    }
    Ok(svg)
}

fn grouped(series: &[Point]) -> impl Iterator<Item = &[Point]> {
    series.chunks(series.len().div_ceil(POINTS_MAX).max(1))
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// A label for so many microseconds.
pub fn time(us: &f64) -> String {
    match *us {
        us if us < 0.95 => format!("{:.0} ns", us * 1e3),
        us if us < 1e3 => format!("{} µs", short(us)),
        us if us < 1e6 => format!("{} ms", short(us / 1e3)),
        us => format!("{} s", short(us / 1e6)),
    }
}

/// A label for a number.
pub fn count(value: &f64) -> String {
    match *value {
        value if value < 1e3 => short(value),
        value if value < 1e6 => format!("{}k", short(value / 1e3)),
        value => format!("{}M", short(value / 1e6)),
    }
}

/// Without decimals that are zero.
fn short(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn framed<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).margin_right(28).x_label_area_size(34).y_label_area_size(72);
    builder
}

/// Lines over one axis; latencies on a logarithmic axis, rates from zero.
fn draw(lines: &[Series<'_>], x_label: &dyn Fn(&f64) -> String, is_latency: bool) -> Result<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max).max(1e-3);
    let x_min =
        if is_latency { 0.0 } else { points().map(|(x, _)| *x).fold(x_max, f64::min).min(x_max * 0.5) };
    let low = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1.0);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        macro_rules! chart {
            ($y:expr, $format:expr) => {{
                let mut chart = framed(&area).build_cartesian_2d(x_min..x_max, $y)?;
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
                    chart
                        .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
                        .label(line.name)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
                }
                legend(&mut chart)?;
            }};
        }
        if is_latency {
            let low = if low.is_finite() { low.max(0.1) } else { 1.0 };
            chart!((low * 0.8..(high * 4.0).max(low * 10.0)).log_scale(), &time);
        } else {
            chart!(0.0..high * 1.4, &count);
        }
        area.present()?;
    }
    Ok(svg)
}

fn legend<'a, C>(chart: &mut ChartContext<'a, SVGBackend<'a>, C>) -> Result<()>
where
    C: CoordTranslate,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(8)
        .legend_area_size(22)
        .label_font(("sans-serif", 14).into_font().color(&INK))
        .draw()?;
    Ok(())
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
    fn thinning_keeps_the_ends() {
        let series: Vec<Point> =
            (0..1001).map(|at| Point { end_s: f64::from(at), ..Point::default() }).collect();
        let groups: Vec<_> = grouped(&series).collect();
        assert!(groups.len() <= POINTS_MAX);
        assert_eq!(groups.last().and_then(|group| group.last()).map(|point| point.end_s), Some(1000.0));
        assert_eq!(grouped(&[]).count(), 0);
    }
}
