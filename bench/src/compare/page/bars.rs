//! Horizontal bars, one below the other, each with its name on the left, its spread as whiskers, and its figure on
//! the right.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use crate::table::Spread;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const ROW_PX: i32 = 22;
const BAR_PX: i32 = 14;
const TICKS_PX: i32 = 26;
/// The approximate width of a character in names; SVG does not report the width of rendered text.
const LETTER_PX: f64 = 6.6;
const NAME_PX_MAX: i32 = 300;
/// The approximate width of the shortest figure.
const FIGURE_PX_MIN: i32 = 40;

/// One bar.
pub struct Bar {
    pub name: String,
    /// `None`: not measured, so there is no bar.
    pub spread: Option<Spread>,
    /// The text after the bar.
    pub figure: String,
    pub color: RGBColor,
}

/// The look that all bars share.
#[derive(Clone, Copy)]
pub struct Look {
    pub ink: RGBColor,
    pub grid: RGBColor,
    pub width: u32,
    /// Formats a tick.
    pub label: fn(&f64) -> String,
    /// Draws a line across at this value.
    pub mark: Option<f64>,
}

impl Look {
    /// Returns the style of text of this size and alignment.
    pub fn font(&self, px: u32, at: HPos) -> TextStyle<'static> {
        ("sans-serif", px).into_font().color(&self.ink).pos(Pos::new(at, VPos::Center))
    }
}

/// Returns the height of a picture with this number of bars.
pub fn height(bars: usize) -> u32 {
    (bars as i32 * ROW_PX + TICKS_PX + 8) as u32
}

/// Returns the width that these names require.
pub fn name_px<'a>(names: impl Iterator<Item = &'a str>) -> i32 {
    let letters = names.map(|name| name.chars().count()).max().unwrap_or(0);
    ((letters as f64 * LETTER_PX) as i32 + 12).min(NAME_PX_MAX)
}

/// Returns the width that the figures after the bars require.
fn figure_px(bars: &[Bar]) -> i32 {
    name_px(bars.iter().map(|bar| bar.figure.as_str()))
}

/// Returns the values that the axis must include.
fn ends(bars: &[Bar]) -> impl Iterator<Item = f64> {
    bars.iter().filter_map(|bar| bar.spread).flat_map(|spread| [spread.min, spread.max])
}

/// Draws the bars as a separate picture.
pub fn draw(bars: &[Bar], look: &Look) -> Result<String> {
    let axis = Axis::of(ends(bars).chain(look.mark));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (look.width, height(bars.len()))).into_drawing_area();
        let names_px = name_px(bars.iter().map(|bar| bar.name.as_str()));
        panel(&area, bars, look, axis, names_px)?;
        area.present()?;
    }
    Ok(svg)
}

/// Draws the bars in an area as wide as the look requires; without names if there is no room for them.
pub fn panel(area: &Area<'_>, bars: &[Bar], look: &Look, axis: Axis, names_px: i32) -> Result<()> {
    let (left, right) = (names_px.max(8), look.width as i32 - figure_px(bars));
    let bottom = bars.len() as i32 * ROW_PX;
    let x = |value: f64| left + (axis.place(value) * f64::from(right - left)).round() as i32;
    // Places the mark's label first; a tick whose label would overlap another is left out with its line.
    let mut taken: Vec<(i32, i32)> = Vec::new();
    for tick in look.mark.into_iter().chain(axis.ticks()) {
        let (at, label) = (x(tick), (look.label)(&tick));
        let half = (label.chars().count() as f64 * LETTER_PX / 2.0) as i32 + 3;
        if taken.iter().any(|(from, to)| at - half < *to && at + half > *from) {
            continue;
        }
        taken.push((at - half, at + half));
        area.draw(&PathElement::new([(at, 0), (at, bottom + 4)], look.grid.stroke_width(1)))?;
        area.draw_text(&label, &look.font(12, HPos::Center), (at, bottom + 14))?;
    }
    let mark = look.mark.map(x);
    for (row, bar) in (0..).zip(bars) {
        let middle = row * ROW_PX + ROW_PX / 2;
        if names_px > 0 {
            area.draw_text(&shortened(&bar.name), &look.font(13, HPos::Right), (left - 6, middle))?;
        }
        let Some(spread) = bar.spread else {
            area.draw_text("–", &look.font(12, HPos::Left), (left + 6, middle))?;
            continue;
        };
        let corners = [(left, middle - BAR_PX / 2), (x(spread.median), middle + BAR_PX / 2)];
        area.draw(&Rectangle::new(corners, bar.color.mix(0.75).filled()))?;
        let (min, max) = (x(spread.min), x(spread.max));
        if spread.min < spread.max {
            for (from, to) in [((min, 0), (max, 0)), ((min, -3), (min, 3)), ((max, -3), (max, 3))] {
                let line = [(from.0, middle + from.1), (to.0, middle + to.1)];
                area.draw(&PathElement::new(line, look.ink.stroke_width(1)))?;
            }
        }
        // Beside the mark, so that they do not overlap.
        let end = mark.filter(|mark| (max..max + FIGURE_PX_MIN).contains(mark)).unwrap_or(max);
        area.draw_text(&bar.figure, &look.font(12, HPos::Left), (end + 6, middle))?;
    }
    if let Some(mark) = mark {
        area.draw(&PathElement::new([(mark, 0), (mark, bottom)], look.ink.stroke_width(1)))?;
    }
    Ok(())
}

/// Shortens a name that is too long for its space.
pub fn shortened(name: &str) -> String {
    let most = (f64::from(NAME_PX_MAX) / LETTER_PX) as usize - 2;
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_long_ones_cut() {
        let bar = |name: &str, median| Bar {
            name: name.into(),
            spread: Some(Spread { median, min: median, max: 2.0 * median }),
            figure: "5 < 6".into(),
            color: RED,
        };
        let look =
            Look { ink: BLACK, grid: WHITE, width: 800, label: crate::loadgen::plots::time, mark: Some(1.0) };
        let svg = draw(&[bar("<b>&", 1.0), bar(&"é".repeat(200), 100.0)], &look).expect("drawn");
        assert!(svg.contains("&lt;b&gt;&amp;") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("5 &lt; 6") && svg.contains("é…") && !svg.contains(&"é".repeat(60)), "{svg}");
        assert!(draw(&[], &look).is_ok());
    }
}
