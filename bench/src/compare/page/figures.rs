//! The sections of the page, each with its table, most with bars: CPU time, memory, system calls and others.

use std::fmt::Write as _;

use plotters::style::RGBColor;

use super::LOOK;
use super::bars::{self, Bar, Look, Result};
use crate::compare::record::{Cell, Limit, Memory, Pair, Peer, Point, Record, Run, Setting, errors};
use crate::compare::text::{self, doubts, mib};
use crate::loadgen::plots::count;
use crate::loadgen::units;
use crate::sheet::{self, LINES, escaped};
use crate::table::Spread;

const OURS: RGBColor = LINES[0];
const RIVAL: RGBColor = LINES[1];
const REFERENCE: RGBColor = LINES[5];
/// The maximum number of system calls listed by name.
const NAMES_MAX: usize = 6;

fn headings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn color(peer: Option<&Peer>) -> RGBColor {
    match peer {
        Some(peer) if peer.is_coreloop => OURS,
        Some(peer) if peer.is_reference => REFERENCE,
        _ => RIVAL,
    }
}

/// Formats a value with three significant digits.
pub fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Formats the median, with minimum and maximum if the rounds differ.
fn ranged(spread: Option<Spread>) -> String {
    spread.map_or(String::new(), |Spread { median, min, max }| {
        let range = if min < max { format!(" [{}–{}]", digits(min), digits(max)) } else { String::new() };
        digits(median) + &range
    })
}

/// Formats calls per second the same way, as integers in groups of three digits; a single figure appears once.
fn rates(spread: Option<Spread>) -> String {
    let whole = |value: f64| units::count(value.round());
    spread.map_or(String::new(), |Spread { median, min, max }| match min == max {
        true => whole(median),
        false => format!("{} [{}–{}]", whole(median), whole(min), whole(max)),
    })
}

fn exact(value: f64) -> Spread {
    Spread { median: value, min: value, max: value }
}

/// Returns a peer's ratio to the kind of coreloop that is called the same way; `None` for that kind itself.
fn ratio(record: &Record, cell: &Cell) -> Option<Spread> {
    let base = record.base_of(record.peer(&cell.peer)?);
    if base == cell.peer { None } else { record.cpu_ratio(cell, base) }
}

/// Appends bars in ascending order, under a third-level heading.
fn picture(page: &mut String, title: &str, mut bars: Vec<Bar>, look: &Look) -> Result<()> {
    let key = |bar: &Bar| bar.spread.map_or(0.0, |spread| spread.median);
    bars.sort_by(|one, next| key(one).total_cmp(&key(next)));
    if !bars.is_empty() {
        let _ = writeln!(page, "<h3>{}</h3>", escaped(title));
        sheet::picture(page, &bars::draw(&bars, look)?);
    }
    Ok(())
}

/// Appends one row per peer, with its differences beside its figures.
pub fn overview(page: &mut String, record: &Record) {
    let all = record.loads().into_iter();
    let loads: Vec<String> = all
        .filter(|(setting, call, _)| *setting == Setting::Apart && call == "add")
        .map(|(.., load)| load)
        .collect();
    let rows: Vec<Vec<String>> = record
        .peers
        .iter()
        .filter_map(|peer| {
            let cell = |load: &String| {
                let cell = record.cell(&peer.name, Setting::Apart, "add", load)?;
                let cost = digits(cell.server_us_per_call()?.median);
                let client = if cell.limit() == Limit::Client && cell.depth > 1 { " ¹" } else { "" };
                let disturbed = disturbed(&cell.runs);
                Some(match ratio(record, cell) {
                    Some(ratio) => format!("{cost} ({} ×){client}{disturbed}", digits(ratio.median)),
                    None => cost + client + disturbed,
                })
            };
            let cells: Vec<Option<String>> = loads.iter().map(cell).collect();
            cells.iter().any(Option::is_some).then(|| {
                let cells = cells.into_iter().map(Option::unwrap_or_default);
                [peer.title.clone()].into_iter().chain(cells).chain([peer.differs.clone()]).collect()
            })
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    *page += "<h2 id=\"cpu\">Server CPU time per call</h2>\n<p class=\"soft\">Two integers added; in µs, medians, at connections x \
              calls in flight on each. In brackets the ratio to coreloop called in the same way.</p>\n";
    let first = ["server".to_owned()].into_iter();
    let names: Vec<String> = first.chain(loads).chain(["what differs".to_owned()]).collect();
    sheet::grid(page, "said", &names, &rows);
    if rows.iter().flatten().any(|cell| cell.contains(" ¹")) {
        *page += "<p class=\"soft\">¹ The client was the bottleneck: the server was not full, and a full one does more for \
                  each wake-up.</p>\n";
    }
    note_disturbed(page, &rows);
}

/// Returns the mark for figures of windows that other load disturbed.
fn disturbed(runs: &[Run]) -> &'static str {
    if text::is_disturbed(runs) { " ²" } else { "" }
}

/// Appends the footnote of that mark, if it is used.
fn note_disturbed(page: &mut String, rows: &[Vec<String>]) {
    if rows.iter().flatten().any(|cell| cell.ends_with(" ²")) {
        *page += "<p class=\"soft\">² Disturbed in at least one round: something else ran on the client's core, or the hypervisor \
                  took the cores.</p>\n";
    }
}

/// Appends the bars of every closed loop; the small call's first, the others folded.
pub fn cpu(page: &mut String, record: &Record) -> Result<()> {
    let is_first = |setting: Setting, call: &str| setting == Setting::Apart && call == "add";
    for folds in [false, true] {
        let loads: Vec<_> = record
            .loads()
            .into_iter()
            .filter(|(setting, call, _)| is_first(*setting, call) != folds)
            .collect();
        if loads.is_empty() {
            continue;
        }
        *page += if folds { "<details><summary>Other calls and settings</summary>\n" } else { KEYS };
        for (setting, call, load) in loads {
            let cells = record.capacity.iter();
            let cells =
                cells.filter(|cell| cell.setting == setting && cell.call == call && cell.load() == load);
            let bars = cells.filter_map(|cell| bar(record, cell)).collect();
            picture(page, &format!("{call} {load}, {}", cores(setting)), bars, &LOOK)?;
        }
        if folds {
            *page += "</details>\n";
        }
    }
    Ok(())
}

/// The legend of the bar colours.
const KEYS: &str = "<ul class=\"keys\">\
    <li><svg width=\"14\" height=\"12\"><rect width=\"14\" height=\"12\" fill=\"#0B0001\"/></svg>coreloop</li>\
    <li><svg width=\"14\" height=\"12\"><rect width=\"14\" height=\"12\" fill=\"#0C0002\"/></svg>the others</li>\
    <li><svg width=\"14\" height=\"12\"><rect width=\"14\" height=\"12\" fill=\"#100006\"/></svg>floors and \
    references</li><li>whiskers: least and largest of the rounds</li></ul>\n";

fn cores(setting: Setting) -> &'static str {
    match setting {
        Setting::Apart => "server and client each on cores of their own",
        Setting::Shared => "server and client on the same cores",
    }
}

fn cost_and_ratio(cost: Spread, ratio: Option<Spread>) -> String {
    let cost = units::time(cost.median * 1e3);
    ratio.map_or(cost.clone(), |ratio| format!("{cost} ({} ×)", digits(ratio.median)))
}

fn bar(record: &Record, cell: &Cell) -> Option<Bar> {
    let cost = cell.server_us_per_call()?;
    let figure = cost_and_ratio(cost, ratio(record, cell));
    let color = color(record.peer(&cell.peer));
    Some(Bar { name: text::title(record, &cell.peer).into(), spread: Some(cost), figure, color })
}

/// A percentile of an open loop.
type Percentile = fn(&Point) -> Option<Spread>;

/// Appends the figures of the curves: a row for each percentile of each server.
pub fn tails(page: &mut String, record: &Record) {
    let mut shares: Vec<f64> =
        record.tails.iter().flat_map(|tail| &tail.points).map(|point| point.share).collect();
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    let percentiles: [(&str, Percentile); 2] = [("p50", Point::p50_us), ("p99", Point::p99_us)];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for tail in &record.tails {
        for (name, percentile) in percentiles {
            let at = |share: &f64| {
                let point = tail.at(*share).and_then(|point| Some((percentile(point)?, point)));
                point.map_or(String::new(), |(spread, point)| {
                    let wrong = if errors(&point.runs) > 0 { " !" } else { "" };
                    ranged(Some(spread)) + wrong + disturbed(&point.runs)
                })
            };
            // The name appears once for both rows.
            let first = match name {
                "p50" => [text::title(record, &tail.peer).to_owned(), units::count(tail.capacity.round())],
                _ => Default::default(),
            };
            let first = first.into_iter().chain([name.to_owned()]);
            rows.push(first.chain(shares.iter().map(at)).collect());
        }
    }
    if rows.is_empty() {
        return;
    }
    let first = headings(&["µs, median [least–most]", "capacity, calls/s", ""]).into_iter();
    let names: Vec<String> =
        first.chain(shares.iter().map(|share| format!("at {:.0} %", share * 100.0))).collect();
    sheet::grid(page, "", &names, &rows);
    if rows.iter().flatten().any(|cell| cell.contains(" !")) {
        *page += "<p class=\"soft\">! Some calls failed.</p>\n";
    }
    note_disturbed(page, &rows);
}

/// Appends the goodput when more than the capacity is offered.
pub fn overload(page: &mut String, record: &Record) {
    let (headings, rows) = text::overload_rows(record);
    if rows.is_empty() {
        return;
    }
    *page += "<h2 id=\"overload\">Overload</h2>\n<p>A list of 100 users, with a deadline of 50 ms: answers in time, when multiples of \
        what the server answers in a closed loop are offered in an open one.</p>\n";
    sheet::grid(page, "", &headings, &rows);
    if rows.iter().flatten().any(|cell| cell.ends_with('?')) {
        let _ = writeln!(page, "<p class=\"soft\">{}</p>", text::DOUBTFUL);
    }
}

/// A figure of a server's memory.
type Figure = fn(&Memory) -> Option<f64>;

fn in_mib(kib: Option<u64>) -> Option<f64> {
    kib.map(|kib| kib as f64 / 1024.0)
}

/// Appends idle memory, peak memory, and memory per idle connection.
pub fn memory(page: &mut String, record: &Record) -> Result<()> {
    if record.memory.is_empty() {
        return Ok(());
    }
    *page += "<h2 id=\"memory\">Memory</h2>\n";
    for (title, value) in [
        ("KiB for each idle connection", (|memory| Some(memory.bytes_per_idle()? / 1024.0)) as Figure),
        ("Peak MiB, with 400 connections busy", |memory| in_mib(memory.peak_kib)),
        ("MiB after its first answer", |memory| in_mib(memory.start_kib)),
    ] {
        let bar = |memory: &Memory| {
            let value = value(memory)?;
            Some(Bar {
                name: text::title(record, &memory.peer).into(),
                spread: Some(exact(value)),
                figure: digits(value),
                color: color(record.peer(&memory.peer)),
            })
        };
        let bars = record.memory.iter().filter_map(bar).collect();
        picture(page, title, bars, &Look { label: count, ..LOOK })?;
    }
    let row = |memory: &Memory| {
        vec![
            text::title(record, &memory.peer).into(),
            mib(memory.start_kib),
            units::count(f64::from(memory.idle_connections)),
            mib(memory.idle_kib),
            memory.bytes_per_idle().map_or(String::new(), |bytes| units::count(bytes.round())),
            mib(memory.peak_kib),
        ]
    };
    let rows: Vec<_> = record.memory.iter().map(row).collect();
    let names = ["MiB", "at start", "idle connections", "with them", "bytes each", "peak at 400x1"];
    sheet::grid(page, "named", &headings(&names), &rows);
    Ok(())
}

/// Appends the number of system calls per call, by name.
pub fn syscalls(page: &mut String, record: &Record) -> Result<()> {
    let mut loads: Vec<(u32, u32)> = Vec::new();
    for counted in &record.syscalls {
        if !loads.contains(&(counted.connections, counted.depth)) {
            loads.push((counted.connections, counted.depth));
        }
    }
    if !loads.is_empty() {
        *page += "<h2 id=\"syscalls\">System calls per call</h2>\n";
    }
    for load in loads {
        let of = || record.syscalls.iter().filter(|counted| (counted.connections, counted.depth) == load);
        let bars = of().map(|counted| Bar {
            name: text::title(record, &counted.peer).into(),
            spread: Some(exact(counted.total())),
            figure: digits(counted.total()),
            color: color(record.peer(&counted.peer)),
        });
        picture(page, &format!("{}x{}", load.0, load.1), bars.collect(), &Look { label: count, ..LOOK })?;
        let rows: Vec<Vec<String>> = of()
            .map(|counted| {
                // Calls made only at start and end are not part of a call.
                let names = counted.per_call.iter().filter(|(_, count)| *count >= 5e-4).take(NAMES_MAX);
                let names: Vec<String> = names.map(|(name, count)| format!("{name} {count:.3}")).collect();
                vec![
                    text::title(record, &counted.peer).into(),
                    format!("{:.3}", counted.total()),
                    names.join(", "),
                ]
            })
            .collect();
        sheet::grid(page, "said", &headings(&["server", "all", "of which"]), &rows);
    }
    Ok(())
}

/// Appends the figures of HTTP under wrk.
pub fn wrk(page: &mut String, record: &Record) -> Result<()> {
    if record.wrk.iter().all(|cell| cell.runs.is_empty()) {
        return Ok(());
    }
    *page += "<h2 id=\"wrk\">HTTP under wrk</h2>\n";
    let mut loads: Vec<(u32, u32)> = Vec::new();
    for cell in &record.wrk {
        if !loads.contains(&(cell.client_threads, cell.connections)) {
            loads.push((cell.client_threads, cell.connections));
        }
    }
    for load in loads {
        let of = || record.wrk.iter().filter(|cell| (cell.client_threads, cell.connections) == load);
        let ratio = |cell: &Cell| {
            let base = record.base_of(record.peer(&cell.peer)?);
            let base = of().find(|other| other.peer == base && base != cell.peer)?;
            cell.cpu_ratio(base)
        };
        let bar = |cell: &Cell| {
            let cost = cell.server_us_per_call()?;
            Some(Bar {
                name: text::title(record, &cell.peer).into(),
                spread: Some(cost),
                figure: cost_and_ratio(cost, ratio(cell)),
                color: color(record.peer(&cell.peer)),
            })
        };
        let title = format!("wrk -t{} -c{}", load.0, load.1);
        picture(page, &title, of().filter_map(bar).collect(), &LOOK)?;
        let cells = of().filter(|cell| !cell.runs.is_empty());
        let rows: Vec<_> = cells.map(|cell| row(record, cell, ratio(cell))).collect();
        sheet::grid(page, "named", &headings(&CLOSED), &rows);
        note_disturbed(page, &rows);
    }
    Ok(())
}

/// Appends the article's own rows beside those measured the same way.
pub fn article(page: &mut String, record: &Record) {
    if record.article.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = record
        .article
        .iter()
        .map(|row| {
            vec![
                text::title(record, &row.name).into(),
                row.by.clone(),
                rates(row.calls_per_s()),
                text::spread(row.mean_ms(), 2),
                text::mib(row.peak_kib()),
                ranged(row.server_us_per_call()),
                // The article reports no errors.
                record.peer(&row.name).map_or(String::new(), |_| units::count(row.errors() as f64)),
            ]
        })
        .collect();
    *page += "<h2 id=\"article\">The article's table</h2>\n<p class=\"soft\">Its own figures are of another machine: between its rows and the \
              measured ones only ratios of rows of the same kind can be compared.</p>\n";
    let names = ["", "by", "calls/s", "mean ms", "peak MiB", "µs CPU/call", "errors"];
    sheet::grid(page, "named", &headings(&names), &rows);
}

/// Appends fast calls mixed with slow ones, and small calls beside large ones.
pub fn pairs(page: &mut String, record: &Record) -> Result<()> {
    let pairs: Vec<&Pair> = record.slow_mix.iter().chain(&record.beside_big).collect();
    let pairs: Vec<&Pair> = pairs.into_iter().filter(|pair| !pair.together.is_empty()).collect();
    if pairs.is_empty() {
        return Ok(());
    }
    *page += "<h2 id=\"mix\">Mixed loads</h2>\n<p class=\"soft\">The p99 of small calls in an open loop: alone, and with other calls on the same \
              server.</p>\n";
    for together in pairs.chunk_by(|one, next| one.company == next.company) {
        let bar = |pair: &&Pair| {
            let p99 = pair.together_p99_us()?;
            let ratio = pair
                .p99_ratio()
                .map_or(String::new(), |ratio| format!(" ({} × alone)", digits(ratio.median)));
            Some(Bar {
                name: text::title(record, &pair.peer).into(),
                spread: Some(p99),
                figure: units::time(p99.median * 1e3) + &ratio,
                color: color(record.peer(&pair.peer)),
            })
        };
        let bars = together.iter().filter_map(bar).collect();
        picture(page, &format!("p99 with {}", together[0].company), bars, &LOOK)?;
        let row = |pair: &&Pair| {
            vec![
                text::title(record, &pair.peer).into(),
                units::count(pair.rate.round()),
                ranged(pair.alone_p99_us()) + disturbed(&pair.alone),
                ranged(pair.together_p99_us()) + disturbed(&pair.together),
                ranged(pair.p99_ratio()),
                units::count((errors(&pair.alone) + errors(&pair.together)) as f64),
                doubts(Limit::Between, &pair.together),
            ]
        };
        let rows: Vec<_> = together.iter().map(row).collect();
        let names = ["server", "calls/s", "p99 µs alone", "with them", "ratio", "errors", "the client was"];
        sheet::grid(page, "named", &headings(&names), &rows);
        note_disturbed(page, &rows);
    }
    Ok(())
}

const CLOSED: [&str; 11] = [
    "server",
    "µs CPU/call",
    "× coreloop's",
    "calls/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "client µs",
    "peak MiB",
    "errors",
    "limited by",
];

fn row(record: &Record, cell: &Cell, ratio: Option<Spread>) -> Vec<String> {
    let latency = |spread: Option<Spread>| match spread {
        None => String::new(),
        spread => ranged(spread) + disturbed(&cell.runs),
    };
    vec![
        text::title(record, &cell.peer).into(),
        ranged(cell.server_us_per_call()) + disturbed(&cell.runs),
        ranged(ratio),
        rates(cell.calls_per_s()),
        latency(cell.p50_us()),
        latency(cell.p99_us()),
        latency(cell.p999_us()),
        ranged(cell.client_us_per_call()),
        mib(cell.peak_kib()),
        units::count(cell.errors() as f64),
        doubts(cell.limit(), &cell.runs),
    ]
}

/// Appends every closed loop with all its figures, folded.
pub fn details(page: &mut String, record: &Record) {
    if record.capacity.is_empty() {
        return;
    }
    *page += "<h2 id=\"closed-loops\">Closed loops in full</h2>\n<p class=\"soft\">Median [least–most] of the rounds; ratios are taken within a \
              round.</p>\n";
    for (setting, call, load) in record.loads() {
        let cells = record.peers.iter().filter_map(|peer| record.cell(&peer.name, setting, &call, &load));
        let rows: Vec<_> = cells
            .filter(|cell| !cell.runs.is_empty())
            .map(|cell| row(record, cell, ratio(record, cell)))
            .collect();
        let title = escaped(&format!("{call} {load}, {}", cores(setting)));
        let _ = writeln!(page, "<details><summary>{title}</summary>");
        sheet::grid(page, "named", &headings(&CLOSED), &rows);
        note_disturbed(page, &rows);
        *page += "</details>\n";
    }
}
