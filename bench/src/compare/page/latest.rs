//! The picture of a README: the other servers' CPU time per call, as multiples of coreloop's.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::bars::{self, Bar, Look, Result};
use crate::compare::record::{Cell, Record, Setting};
use crate::loadgen::plots::short;
use crate::table::Spread;

// On white, because pages with a light or a dark theme show it.
const INK: RGBColor = RGBColor(0x1c, 0x24, 0x30);
const GRID: RGBColor = RGBColor(0xdf, 0xe4, 0xea);
const RIVAL: RGBColor = RGBColor(0x1f, 0x6f, 0xeb);
const REFERENCE: RGBColor = RGBColor(0x8b, 0x94, 0x9e);

const LOADS: [(&str, &str); 2] = [
    ("64x16", "64 connections, 16 calls in flight on each"),
    ("64x1", "64 connections, 1 call in flight on each"),
];
const PANEL_PX: u32 = 330;
const HEAD_PX: u32 = 60;

/// Renders the picture as SVG; `None` if the record has nothing to show.
pub fn render(record: &Record) -> Result<Option<String>> {
    let ratio = |cell: &Cell| record.cpu_ratio(cell, record.base_of(record.peer(&cell.peer)?));
    let of = |peer: &str, load: &str| record.cell(peer, Setting::Apart, "add", load).and_then(ratio);
    let mut rows: Vec<_> = record
        .peers
        .iter()
        .filter(|peer| !peer.is_coreloop)
        .map(|peer| (peer, LOADS.map(|(load, _)| of(&peer.name, load))))
        .filter(|(_, ratios)| ratios.iter().any(Option::is_some))
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let key = |ratios: &[Option<Spread>; 2]| ratios.iter().flatten().next().map_or(0.0, |ratio| ratio.median);
    rows.sort_by(|(_, one), (_, next)| key(one).total_cmp(&key(next)));
    let names_px = bars::name_px(rows.iter().map(|(peer, _)| peer.title.as_str()));
    let width = names_px as u32 + 2 * PANEL_PX + 24;
    let look = Look {
        ink: INK,
        grid: GRID,
        width: PANEL_PX,
        label: |value| format!("{} ×", short(*value)),
        mark: Some(1.0),
    };
    let values = rows.iter().flat_map(|(_, ratios)| ratios.iter().flatten());
    let axis = Axis::of(values.flat_map(|ratio| [ratio.min, ratio.max]).chain([1.0]));
    let mut svg = String::new();
    {
        let size = (width, HEAD_PX + bars::height(rows.len()) + 26);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let heading =
            "Server CPU time per call, two integers added: times that of coreloop, called in the same way";
        root.draw_text(heading, &look.font(15, HPos::Center), (width as i32 / 2, 18))?;
        let (_, below) = root.split_vertically(HEAD_PX);
        let (names, panels) = below.split_horizontally(names_px as u32 + 8);
        for (row, (peer, _)) in rows.iter().enumerate() {
            let middle = (bars::height(row) as i32 - bars::height(0) as i32) + 11;
            let name = bars::shortened(&peer.title);
            names.draw_text(&name, &look.font(13, HPos::Right), (names_px + 2, middle))?;
        }
        for (at, (area, (_, title))) in panels.split_evenly((1, 2)).iter().zip(LOADS).enumerate() {
            let bars: Vec<Bar> = rows
                .iter()
                .map(|(peer, ratios)| Bar {
                    name: String::new(),
                    spread: ratios[at],
                    figure: ratios[at].map_or(String::new(), |ratio| format!("{:.1} ×", ratio.median)),
                    color: if peer.is_reference { REFERENCE } else { RIVAL },
                })
                .collect();
            let place = (names_px + 8 + at as i32 * (PANEL_PX as i32 + 4) + 12, HEAD_PX as i32 - 16);
            root.draw_text(title, &look.font(12, HPos::Left), place)?;
            bars::panel(area, &bars, &look, axis, 0)?;
        }
        let machine = &record.machine;
        let foot = format!(
            "{}, {} cores, Linux {}; {}; {} {}{}. Grey: floors and servers of fixed answers.",
            machine.cpu,
            machine.cores,
            machine.kernel,
            record.began.split(' ').next().unwrap_or_default(),
            record.settings.rounds,
            if record.settings.rounds == 1 { "round" } else { "rounds, medians" },
            if record.settings.quick { ", a smoke run" } else { "" },
        );
        root.draw_text(&foot, &look.font(11, HPos::Left), (10, size.1 as i32 - 12))?;
        root.present()?;
    }
    Ok(Some(svg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::record::sample::sample;

    #[test]
    fn coreloop_itself_has_no_bar() {
        let svg = render(&sample()).expect("drawn").expect("there is something");
        assert!(svg.contains("other &lt;1.0&gt;") && svg.contains("5.0 ×"), "{svg}");
        assert!(!svg.contains("coreloop-inline"), "{svg}");
        let mut record = sample();
        record.capacity.clear();
        assert_eq!(render(&record).expect("nothing to draw"), None);
    }
}
