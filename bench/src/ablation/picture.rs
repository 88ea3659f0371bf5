//! Draws one picture per set: a panel for each group, a bar for each variant. Bars are medians; the whiskers span the
//! rounds' minimum and maximum.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::Row;
use super::sets::Set;
use crate::loadgen::units;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const INK: RGBColor = RGBColor(0x1c, 0x24, 0x30);
const WHOLE: RGBColor = RGBColor(0x1f, 0x6f, 0xeb);
const WITHOUT: RGBColor = RGBColor(0xc2, 0x57, 0x0c);

const COLUMNS: usize = 2;
const PANEL_WIDTH: i32 = 470;
const HEAD: i32 = 30;
const BAR: i32 = 22;
const FOOT: i32 = 12;
const MARGIN: i32 = 12;
/// Where bars begin, and where the longest ends: names are to the left, figures to the right.
const BARS: (i32, i32) = (176, 350);

/// Draws the picture as SVG, on white because pages with a light or a dark theme show it.
pub fn draw(set: &Set, rows: &[Row]) -> Result<String> {
    let heights: Vec<i32> = set
        .groups
        .chunks(COLUMNS)
        .map(|groups| {
            let bars = groups.iter().map(|group| group.variants.len()).max().unwrap_or(0) as i32;
            HEAD + BAR * bars + FOOT
        })
        .collect();
    let mut svg = String::new();
    {
        let columns = COLUMNS.min(set.groups.len()) as i32;
        let size = ((PANEL_WIDTH * columns) as u32, (HEAD + heights.iter().sum::<i32>()) as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let title = font(15).pos(Pos::new(HPos::Center, VPos::Center));
        root.draw_text(set.title, &title, (PANEL_WIDTH * columns / 2, HEAD / 2))?;
        let mut top = HEAD;
        for (groups, height) in set.groups.chunks(COLUMNS).zip(&heights) {
            for (column, group) in groups.iter().enumerate() {
                let own: Vec<&Row> = rows.iter().filter(|row| row.group == group.name).collect();
                draw_panel(&root, (column as i32 * PANEL_WIDTH, top), group.name, &own)?;
            }
            top += height;
        }
        root.present()?;
    }
    Ok(svg)
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn draw_panel(area: &Area<'_>, (left, top): (i32, i32), name: &str, rows: &[&Row]) -> Result<()> {
    let most = rows.iter().map(|row| row.cpu_us_per_call.max).fold(0.0, f64::max).max(1e-6);
    let x = |us: f64| left + BARS.0 + (f64::from(BARS.1 - BARS.0) * us / most).round() as i32;
    area.draw_text(name, &font(14).pos(Pos::new(HPos::Left, VPos::Center)), (left + MARGIN, top + HEAD / 2))?;
    for (at, row) in rows.iter().enumerate() {
        let upper = top + HEAD + BAR * at as i32;
        let middle = upper + BAR / 2;
        let cost = row.cpu_us_per_call;
        let color = if at == 0 { WHOLE } else { WITHOUT };
        let bar = [(x(0.0), upper + 3), (x(cost.median), upper + BAR - 3)];
        area.draw(&Rectangle::new(bar, color.mix(0.75).filled()))?;
        area.draw(&PathElement::new([(x(cost.min), middle), (x(cost.max), middle)], INK.stroke_width(2)))?;
        let name = font(12).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw_text(row.variant, &name, (left + BARS.0 - 6, middle))?;
        let mut figure = units::time(cost.median * 1e3);
        if at > 0 {
            figure += &format!(", × {:.2}", row.cpu_ratio.median);
        }
        let style = font(12).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(&figure, &style, (x(cost.max) + 6, middle))?;
    }
    Ok(())
}
