//! Draws one picture per set: a column for each load; above, the figure that the load is designed for; below, the
//! server's cost per call. Bars are medians; the whiskers span the rounds' minimum and maximum.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Row;
use super::sets::{Set, Shown};
use crate::loadgen::plots::{count, time};
use crate::loadgen::units;
use crate::table::Spread;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Value = fn(&Row) -> Spread;
type Label = fn(&f64) -> String;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const INK: RGBColor = RGBColor(0x1c, 0x24, 0x30);
const GRID: RGBColor = RGBColor(0xdf, 0xe4, 0xea);
const FIGURE: RGBColor = RGBColor(0x1f, 0x6f, 0xeb);
const COST: RGBColor = RGBColor(0xc2, 0x57, 0x0c);

const PANEL: (u32, u32) = (300, 210);

/// The contents of one panel.
struct Panel<'a> {
    title: String,
    bars: Vec<(&'a str, Spread)>,
    color: RGBColor,
    label: Label,
    /// Formats the same value with three significant digits.
    exact: fn(f64) -> String,
}

/// Draws the picture as SVG, on white because pages with a light or a dark theme show it.
pub fn draw(set: &Set, rows: &[Row]) -> Result<String> {
    let mut panels = Vec::new();
    for (of_cost, color) in [(false, FIGURE), (true, COST)] {
        for trial in set.trials {
            let (what, value, label): (_, Value, Label) = match (of_cost, trial.shows) {
                (true, _) => ("server CPU a call", |row| row.cpu_us_per_call, time),
                (false, Shown::Rate) => ("calls/s", |row| row.calls_per_s, count),
                (false, Shown::P50) => ("p50", |row| row.p50_us, time),
                (false, Shown::P99) => ("p99", |row| row.p99_us, time),
            };
            let of_trial = rows.iter().filter(|row| row.trial == trial.name);
            let bars = of_trial.map(|row| (row.setting, value(row))).collect();
            let title = if of_cost { what.into() } else { format!("{}: {what}", trial.name) };
            let exact: fn(f64) -> String =
                if what == "calls/s" { |rate| count(&rate) } else { |us| units::time(us * 1e3) };
            panels.push(Panel { title, bars, color, label, exact });
        }
    }
    let columns = set.trials.len();
    let mut svg = String::new();
    {
        let size = (PANEL.0 * columns as u32, PANEL.1 * 2 + 24);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (grid, foot) = root.split_vertically(PANEL.1 * 2);
        for (area, panel) in grid.split_evenly((2, columns)).iter().zip(&panels) {
            draw_panel(area, panel)?;
        }
        let style = font(13).pos(Pos::new(HPos::Center, VPos::Top));
        foot.draw_text(set.keys, &style, (size.0 as i32 / 2, 2))?;
        root.present()?;
    }
    Ok(svg)
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn draw_panel(area: &Area<'_>, panel: &Panel<'_>) -> Result<()> {
    let top = panel.bars.iter().map(|(_, spread)| spread.max).fold(0.0, f64::max).max(1e-3) * 1.2;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .caption(&panel.title, font(13))
        .x_label_area_size(22)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..panel.bars.len().max(1) as f64, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_labels(4)
        .y_label_formatter(&panel.label)
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(font(12))
        .draw()?;
    chart.draw_series(panel.bars.iter().enumerate().map(|(at, (_, spread))| {
        let left = at as f64 + 0.2;
        Rectangle::new([(left, 0.0), (left + 0.6, spread.median)], panel.color.mix(0.75).filled())
    }))?;
    chart.draw_series(panel.bars.iter().enumerate().map(|(at, (_, spread))| {
        let middle = at as f64 + 0.5;
        PathElement::new([(middle, spread.min), (middle, spread.max)], INK.stroke_width(2))
    }))?;
    for (at, (name, spread)) in panel.bars.iter().enumerate() {
        let middle = at as f64 + 0.5;
        let (x, y) = chart.backend_coord(&(middle, 0.0));
        area_text(area, name, 12, (x, y + 6), VPos::Top)?;
        let (x, y) = chart.backend_coord(&(middle, spread.max));
        area_text(area, &(panel.exact)(spread.median), 12, (x, y - 3), VPos::Bottom)?;
    }
    Ok(())
}

/// Draws text at a position of the whole picture, the coordinate system of a chart's points.
fn area_text(area: &Area<'_>, text: &str, size: u32, at: (i32, i32), anchor: VPos) -> Result<()> {
    let (left, top) = area.get_base_pixel();
    let style = font(size).pos(Pos::new(HPos::Center, anchor));
    area.draw_text(text, &style, (at.0 - left, at.1 - top))?;
    Ok(())
}
