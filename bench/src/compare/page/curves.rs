//! Latency against rate: for each peer a solid line of its p99 and a dashed one of its p50, up to its knee.

use std::fmt::Write as _;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::LOOK;
use super::axis::Axis;
use super::bars::{Look, Result};
use crate::compare::record::{Peer, Point, Record, Tail, against};
use crate::compare::text;
use crate::loadgen::plots::{count, time};
use crate::sheet::{self, LINES};

const HEIGHT: u32 = 380;
const LEFT_PX: i32 = 62;
const BOTTOM_PX: i32 = 330;
const RIGHT_PX: i32 = 20;
/// Caveats that mean the rate was not kept: the latency of such a point is that of a growing queue.
const BEYOND: [&str; 3] = ["saturated", "rate missed", "calls left over"];
/// A p99 above this multiple of the picture's median is an outlier.
const OUTLIER: f64 = 12.0;
/// The maximum number of curves per picture: one per distinguishable line style.
const CURVES_MAX: usize = LINES.len();

const NATIVE: &str = "Native frames, and protocols of their own";
const HTTP: &str = "HTTP";
const GO: &str = "Go's net/rpc and JSON-RPC";

/// Returns the picture that shows a peer.
fn picture_of(peer: &Peer) -> &'static str {
    match peer.protocol.as_str() {
        "http" => HTTP,
        "gob" | "jsonrpc" => GO,
        _ => NATIVE,
    }
}

/// Shows all tails; peers with the same protocol share a picture.
pub fn show(page: &mut String, record: &Record) -> Result<()> {
    if record.tails.is_empty() {
        return Ok(());
    }
    *page += "<h2 id=\"latency\">Latency against rate</h2>\n<p class=\"soft\">Open loops at shares of each server's own capacity.";
    // With one rate each, as in a smoke run, there is only the table.
    if record.tails.iter().all(|tail| curve(tail).len() < 2) {
        *page += "</p>\n";
        return Ok(());
    }
    *page += " The solid line is the p99, the dashed line the p50. A curve ends with the first rate that the server could not keep; a \
              triangle at the top edge is a value beyond the axis, and is in the table.</p>\n";
    for title in [NATIVE, HTTP, GO] {
        let of = |is_coreloop: bool| -> Vec<&Tail> {
            let tails = record.tails.iter().filter(|tail| {
                let peer = record.peer(&tail.peer);
                peer.is_some_and(|peer| picture_of(peer) == title && peer.is_coreloop == is_coreloop)
                    && !curve(tail).is_empty()
            });
            tails.collect()
        };
        // Coreloop appears in each picture, but with at most half of the curves.
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
            let names = shown.iter().map(|tail| text::title(record, &tail.peer));
            sheet::keys(page, names.zip(LINES));
        }
    }
    Ok(())
}

/// Returns the points up to and including the first whose rate was not kept; that one only if its latency is known.
fn curve(tail: &Tail) -> Vec<&Point> {
    let known = tail.points.iter().filter(|point| point.p99_us().is_some() && point.p50_us().is_some());
    let mut is_over = false;
    let kept = known.take_while(|point| !std::mem::replace(&mut is_over, is_beyond(point)));
    kept.collect()
}

/// Returns whether most rounds did not keep the rate.
fn is_beyond(point: &Point) -> bool {
    against(&point.runs)
        .iter()
        .any(|(word, rounds)| BEYOND.contains(&word.as_str()) && 2 * rounds > point.runs.len())
}

/// Returns the medians of p50 and p99, in µs.
fn latencies(point: &Point) -> [f64; 2] {
    [point.p50_us(), point.p99_us()].map(|spread| spread.map_or(0.0, |spread| spread.median))
}

/// Returns an axis up to the largest p99 that is not an outlier. Where a server falls behind, latency is that of a
/// growing queue: it depends on the length of the window and would flatten all other curves.
fn time_axis(points: &[&Point]) -> Axis {
    let mut kept: Vec<f64> =
        points.iter().filter(|point| !is_beyond(point)).map(|point| latencies(point)[1]).collect();
    kept.sort_by(f64::total_cmp);
    match (kept.get(kept.len() / 2), kept.last()) {
        (Some(middle), Some(most)) if *middle > 0.0 => Axis::of([most.min(middle * OUTLIER)]),
        _ => Axis::of(points.iter().flat_map(|point| latencies(point))),
    }
}

fn draw(tails: &[&Tail]) -> Result<String> {
    let points = || tails.iter().flat_map(|tail| curve(tail));
    let rates = Axis::of(points().map(|point| point.rate));
    let times = time_axis(&points().collect::<Vec<_>>());
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
            for (which, (points, radius)) in [(p50, 2), (p99, 3)].into_iter().enumerate() {
                for (place, point) in points.into_iter().zip(curve(tail)) {
                    if times.is_beyond(latencies(point)[which]) {
                        area.draw(&TriangleMarker::new(place, radius + 3, color.filled()))?;
                    } else {
                        area.draw(&Circle::new(place, radius, color.filled()))?;
                    }
                }
            }
        }
        area.present()?;
    }
    Ok(svg)
}

/// Splits a line into short pieces with gaps between them.
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
    fn a_curve_ends_at_the_first_missed_rate() {
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
    fn a_curve_needs_two_points() {
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
    fn the_time_axis_excludes_outliers_and_missed_rates() {
        let at = |p99_us, words: &[&str]| {
            let mut point = point(1.0, words);
            point.runs[0].p99_us = Some(p99_us);
            point
        };
        let all = [at(10.0, &[]), at(20.0, &[]), at(30.0, &[]), at(5000.0, &[]), at(100.0, &["rate missed"])];
        let axis = time_axis(&all.iter().collect::<Vec<_>>());
        assert!(axis.is_beyond(5000.0) && !axis.is_beyond(360.0));
        assert!(time_axis(&[&all[0], &all[4]]).is_beyond(100.0));
        assert!(!time_axis(&[&all[4]]).is_beyond(100.0), "there is nothing else to show");
    }

    #[test]
    fn dashes_start_with_the_line_and_leave_gaps() {
        let pieces = dashes(&[(0, 0), (100, 0)]);
        assert_eq!((pieces.len(), pieces[0].clone()), (10, vec![(0, 0), (5, 0)]));
        assert_eq!(dashes(&[(3, 3)]), Vec::<Vec<(i32, i32)>>::new());
    }
}
