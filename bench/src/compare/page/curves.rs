//! Latency against rate: for each peer a line of its p99 and a dashed one of its p50, up to its knee.

use std::fmt::Write as _;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::LOOK;
use super::axis::Axis;
use super::bars::{Look, Result};
use crate::compare::record::{Peer, Point, Record, Tail, against};
use crate::compare::text;
use crate::loadgen::plots::{count, time};
use crate::sheet::{self, LINES, escaped};

const HEIGHT: u32 = 380;
const LEFT_PX: i32 = 62;
const BOTTOM_PX: i32 = 330;
const RIGHT_PX: i32 = 20;
/// Words against a point that say that the rate was not kept: what it shows is a queue that grows.
const BEYOND: [&str; 3] = ["saturated", "rate missed", "calls left over"];
/// As many as can be told apart.
const CURVES_MAX: usize = LINES.len();

const NATIVE: &str = "Native frames, and protocols of their own";
const HTTP: &str = "HTTP";
const GO: &str = "Go's net/rpc and JSON-RPC";

/// In which picture a peer stands.
fn picture_of(peer: &Peer) -> &'static str {
    match peer.protocol.as_str() {
        "http" => HTTP,
        "gob" | "jsonrpc" => GO,
        _ => NATIVE,
    }
}

/// All tails, those that speak alike in one picture.
pub fn show(page: &mut String, record: &Record) -> Result<()> {
    if record.tails.is_empty() {
        return Ok(());
    }
    *page += "<h2>Latency against rate</h2>\n<p class=\"soft\">Open loops at shares of each server's own capacity.";
    // Of one rate each, as a smoke run has, there is only the table.
    if record.tails.iter().all(|tail| curve(tail).len() < 2) {
        *page += "</p>\n";
        return Ok(());
    }
    *page += " The line is the p99, the dashed one the p50. A curve ends at its knee, the first rate that was not kept.</p>\n";
    for title in [NATIVE, HTTP, GO] {
        let of = |is_coreloop: bool| -> Vec<&Tail> {
            let tails = record.tails.iter().filter(|tail| {
                let peer = record.peer(&tail.peer);
                peer.is_some_and(|peer| picture_of(peer) == title && peer.is_coreloop == is_coreloop)
                    && !curve(tail).is_empty()
            });
            tails.collect()
        };
        // Coreloop stands in each picture; of many kinds of it not all.
        let ours: Vec<&Tail> = of(true).into_iter().take(CURVES_MAX / 2).collect();
        let theirs = of(false);
        let mut parts: Vec<&[&Tail]> = theirs.chunks(CURVES_MAX - ours.len()).collect();
        if parts.is_empty() && !ours.is_empty() {
            parts.push(&[]);
        }
        for (at, part) in parts.iter().enumerate() {
            let shown: Vec<&Tail> = ours.iter().chain(*part).copied().collect();
            let number =
                if parts.len() > 1 { format!(", {} of {}", at + 1, parts.len()) } else { String::new() };
            let _ = writeln!(page, "<h3>{title}{number}</h3>");
            sheet::picture(page, &draw(&shown)?);
            keys(page, record, &shown);
        }
    }
    Ok(())
}

/// The points up to the first that was not kept, and that one if its latency is known.
fn curve(tail: &Tail) -> Vec<&Point> {
    let known = tail.points.iter().filter(|point| point.p99_us().is_some() && point.p50_us().is_some());
    let mut is_over = false;
    let kept = known.take_while(|point| !std::mem::replace(&mut is_over, is_beyond(point)));
    kept.collect()
}

/// Most rounds say so.
fn is_beyond(point: &Point) -> bool {
    against(&point.runs)
        .iter()
        .any(|(word, rounds)| BEYOND.contains(&word.as_str()) && 2 * rounds > point.runs.len())
}

fn draw(tails: &[&Tail]) -> Result<String> {
    let points = || tails.iter().flat_map(|tail| curve(tail));
    let rates = Axis::of_points(points().map(|point| point.rate));
    let latencies = |point: &Point| [point.p50_us(), point.p99_us()].map(|it| it.map_or(0.0, |it| it.median));
    let times = Axis::of_points(points().flat_map(latencies));
    let look = Look { label: count, ..LOOK };
    let (width, top) = (look.width as i32 - LEFT_PX - RIGHT_PX, 8);
    let x = |rate: f64| LEFT_PX + (rates.place(rate) * f64::from(width)) as i32;
    let y = |us: f64| BOTTOM_PX - (times.place(us) * f64::from(BOTTOM_PX - top)) as i32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (look.width, HEIGHT)).into_drawing_area();
        for tick in rates.ticks() {
            area.draw(&PathElement::new([(x(tick), top), (x(tick), BOTTOM_PX)], look.grid.stroke_width(1)))?;
            area.draw_text(&count(&tick), &look.font(12, HPos::Center), (x(tick), BOTTOM_PX + 14))?;
        }
        for tick in times.ticks() {
            let line = [(LEFT_PX, y(tick)), (look.width as i32 - RIGHT_PX, y(tick))];
            area.draw(&PathElement::new(line, look.grid.stroke_width(1)))?;
            area.draw_text(&time(&tick), &look.font(12, HPos::Right), (LEFT_PX - 6, y(tick)))?;
        }
        let middle = LEFT_PX + width / 2;
        area.draw_text("calls per second", &look.font(12, HPos::Center), (middle, BOTTOM_PX + 36))?;
        for (tail, color) in tails.iter().zip(LINES) {
            let of = |at: usize| -> Vec<(i32, i32)> {
                curve(tail).into_iter().map(|point| (x(point.rate), y(latencies(point)[at]))).collect()
            };
            let (p50, p99) = (of(0), of(1));
            for dash in dashes(&p50) {
                area.draw(&PathElement::new(dash, color.stroke_width(1)))?;
            }
            area.draw(&PathElement::new(p99.clone(), color.stroke_width(2)))?;
            for (points, radius) in [(p50, 2), (p99, 3)] {
                for point in points {
                    area.draw(&Circle::new(point, radius, color.filled()))?;
                }
            }
        }
        area.present()?;
    }
    Ok(svg)
}

/// A line as short pieces with gaps between them.
fn dashes(points: &[(i32, i32)]) -> Vec<Vec<(i32, i32)>> {
    const PIECE_PX: f64 = 5.0;
    let mut pieces = Vec::new();
    for pair in points.windows(2) {
        let ((x, y), (dx, dy)) = (pair[0], (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1));
        let count = (f64::from(dx).hypot(f64::from(dy)) / PIECE_PX).max(1.0) as i32;
        let at = |part: i32| (x + dx * part / count, y + dy * part / count);
        pieces.extend((0..count).step_by(2).map(|part| vec![at(part), at(part + 1)]));
    }
    pieces
}

fn keys(page: &mut String, record: &Record, tails: &[&Tail]) {
    *page += "<ul class=\"keys\">\n";
    for (tail, color) in tails.iter().zip(LINES) {
        let hex = format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2);
        let title = escaped(text::title(record, &tail.peer));
        let _ = writeln!(
            page,
            "<li><svg width=\"20\" height=\"8\"><line x1=\"0\" y1=\"4\" x2=\"20\" y2=\"4\" stroke=\"{hex}\" \
             stroke-width=\"3\"/></svg>{title}</li>"
        );
    }
    *page += "</ul>\n";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::record::Run;

    fn point(rate: f64, words: &[&str]) -> Point {
        let run = Run {
            p50_us: Some(1.0),
            p99_us: Some(2.0),
            against: words.iter().map(ToString::to_string).collect(),
            ..Run::default()
        };
        Point { share: 0.1, rate, runs: vec![run] }
    }

    #[test]
    fn curve_ends_with_the_first_rate_that_was_not_kept() {
        let mut tail = Tail {
            peer: "a".into(),
            connections: 64,
            depth_max: 1,
            capacity: 4.0,
            points: vec![point(1.0, &["late"]), point(2.0, &["saturated"]), point(3.0, &[])],
        };
        tail.points.insert(0, Point { share: 0.0, rate: 0.5, runs: Vec::new() });
        assert_eq!(curve(&tail).iter().map(|point| point.rate).collect::<Vec<_>>(), [1.0, 2.0]);
    }

    #[test]
    fn points_alone_are_no_curves_and_two_are() {
        let mut record = crate::compare::record::sample::sample();
        let mut page = String::new();
        show(&mut page, &record).expect("nothing to draw");
        assert!(page.contains("Latency against rate") && !page.contains("<svg"), "{page}");
        record.tails[0].points = vec![point(1e3, &[]), point(2e3, &[])];
        show(&mut page, &record).expect("drawn");
        assert!(page.contains(NATIVE) && page.contains("polyline"), "{page}");
        assert!(page.contains("coreloop-inline &lt;1.0&gt;") && !page.contains("<1.0>"), "{page}");
    }

    #[test]
    fn dashes_begin_where_the_line_does_and_leave_gaps() {
        let pieces = dashes(&[(0, 0), (100, 0)]);
        assert_eq!((pieces.len(), pieces[0].clone()), (10, vec![(0, 0), (5, 0)]));
        assert_eq!(dashes(&[(3, 3)]), Vec::<Vec<(i32, i32)>>::new());
    }
}
