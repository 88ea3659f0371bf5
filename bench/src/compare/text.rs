//! Renders the record as text tables: one per load, then the other sections.

use std::fmt::Write;

use super::record::{Cell, Limit, Pair, Record, Run, State, against, errors};
use crate::table::{Spread, Table};

/// Renders all tables.
pub fn render(record: &Record) -> String {
    let (machine, settings) = (&record.machine, &record.settings);
    let mut text = format!(
        "\n{}; {}, {} cores, {} MiB, Linux {}\n{} rounds of {} s after {} s; server on cores {:?}, client on {:?}, \
         shared {:?}; median [least–most], ratios within a round\n",
        record.began,
        machine.cpu,
        machine.cores,
        machine.memory_mib,
        machine.kernel,
        settings.rounds,
        settings.seconds,
        settings.warmup_s,
        settings.server_cores,
        settings.client_cores,
        settings.shared_cores,
    );
    if record.state == State::Cut {
        text += "! The comparison was cut short: what had been measured until then follows.\n";
    }
    for section in [capacity, tails, memory, syscalls, wrk, article, pairs, overload, peers] {
        text += &section(record);
    }
    for note in &record.notes {
        let _ = writeln!(text, "\n{note}");
    }
    text + &left_out(record)
}

pub(super) fn title<'a>(record: &'a Record, name: &'a str) -> &'a str {
    record.peer(name).map_or(name, |peer| &peer.title)
}

/// Formats a spread; a single round has none.
pub(super) fn spread(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or(String::new(), |spread| match spread.min == spread.max {
        true => format!("{:.decimals$}", spread.median),
        false => spread.text(decimals),
    })
}

pub(super) fn mib(kib: Option<u64>) -> String {
    kib.map_or(String::new(), |kib| format!("{:.1}", kib as f64 / 1024.0))
}

/// Returns whether another process used the client's core, or a hypervisor the machine's cores, in one of these
/// windows.
pub(super) fn is_disturbed(runs: &[Run]) -> bool {
    runs.iter().flat_map(|run| &run.against).any(|word| word == "disturbed" || word == "stolen")
}

/// Returns what qualifies a row: the bottleneck, and the generator's own caveats.
pub(super) fn doubts(limit: Limit, runs: &[Run]) -> String {
    let mut words: Vec<String> =
        against(runs).into_iter().map(|(word, rounds)| format!("{word} {rounds}/{}", runs.len())).collect();
    if limit == Limit::Client {
        words.insert(0, "client".into());
    }
    words.join(", ")
}

fn row(record: &Record, cell: &Cell, ratio: Option<Spread>) -> Vec<String> {
    vec![
        title(record, &cell.peer).into(),
        spread(cell.server_us_per_call(), 2),
        spread(ratio, 2),
        spread(cell.calls_per_s(), 0),
        spread(cell.p50_us(), 1),
        spread(cell.p99_us(), 1),
        spread(cell.p999_us(), 1),
        spread(cell.client_us_per_call(), 2),
        mib(cell.peak_kib()),
        cell.errors().to_string(),
        doubts(cell.limit(), &cell.runs),
    ]
}

fn headings(first: &str) -> Table {
    Table::new(&[
        first,
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
    ])
}

fn capacity(record: &Record) -> String {
    let mut text = String::new();
    for (setting, call, load) in record.loads() {
        let mut table = headings(&format!("{call} {load}, {}", setting.name()));
        let mut is_empty = true;
        for peer in &record.peers {
            let Some(cell) = record.cell(&peer.name, setting, &call, &load) else { continue };
            if cell.runs.is_empty() {
                continue;
            }
            is_empty = false;
            let base = record.base_of(peer);
            let ratio = if peer.name == base { None } else { record.cpu_ratio(cell, base) };
            table.row(row(record, cell, ratio));
        }
        if !is_empty {
            let _ = write!(text, "\n{}", table.render());
        }
    }
    text
}

fn wrk(record: &Record) -> String {
    let mut text = String::new();
    for together in record.wrk.chunk_by(|one, next| one.connections == next.connections) {
        let mut table = headings(&format!("wrk -t1 -c{}", together[0].connections));
        let cells = together.iter().filter(|cell| !cell.runs.is_empty());
        for cell in cells {
            let base = together.iter().find(|other| other.peer == "coreloop-http" && other.peer != cell.peer);
            table.row(row(record, cell, base.and_then(|base| cell.cpu_ratio(base))));
        }
        let _ = write!(text, "\n{}", table.render());
    }
    text
}

fn tails(record: &Record) -> String {
    let mut text = String::new();
    let mut shares: Vec<f64> = Vec::new();
    for point in record.tails.iter().flat_map(|tail| &tail.points) {
        if !shares.contains(&point.share) {
            shares.push(point.share);
        }
    }
    for share in shares {
        let heading = format!("open loop at {:.0} % of its capacity", share * 100.0);
        let mut table =
            Table::new(&[&heading, "calls/s", "p50 µs", "p99 µs", "p99.9 µs", "errors", "the client was"]);
        for tail in &record.tails {
            let Some(point) = tail.at(share).filter(|point| !point.runs.is_empty()) else { continue };
            table.row(vec![
                title(record, &tail.peer).into(),
                format!("{:.0}", point.rate),
                spread(point.p50_us(), 1),
                spread(point.p99_us(), 1),
                spread(point.p999_us(), 1),
                errors(&point.runs).to_string(),
                doubts(Limit::Between, &point.runs),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    text
}

/// Returns the headings and rows of the goodput under overload: for each server one row for each way of calling it.
pub(super) fn overload_rows(record: &Record) -> (Vec<String>, Vec<Vec<String>>) {
    let factors = record.overload_factors();
    let first =
        ["in time, % of the capacity", "protocol", "deadline", "capacity, calls/s"].map(ToOwned::to_owned);
    let headings = first.into_iter().chain(factors.iter().map(|factor| format!("at {factor}×"))).collect();
    let mut rows = Vec::new();
    for row in &record.overload {
        for states_deadline in [true, false] {
            let cells: Vec<String> = factors
                .iter()
                .map(|factor| {
                    row.at(*factor, states_deadline).map_or(String::new(), |point| {
                        let doubtful = if point.is_doubtful() { " ?" } else { "" };
                        spread(point.goodput_percent(), 1) + doubtful
                    })
                })
                .collect();
            if cells.iter().all(String::is_empty) {
                continue;
            }
            let first = [
                title(record, &row.peer).to_owned(),
                row.protocol.clone(),
                if states_deadline { "stated" } else { "not stated" }.to_owned(),
                spread(Spread::of(row.capacity.iter().copied()), 0),
            ];
            rows.push(first.into_iter().chain(cells).collect());
        }
    }
    (headings, rows)
}

/// What a mark in the rows means.
pub(super) const DOUBTFUL: &str = "? The generator or the machine may have determined this figure in a run.";

fn overload(record: &Record) -> String {
    let (headings, rows) = overload_rows(record);
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    let is_doubtful = rows.iter().flatten().any(|cell| cell.ends_with('?'));
    rows.into_iter().for_each(|row| table.row(row));
    let note = if is_doubtful { format!("{DOUBTFUL}\n") } else { String::new() };
    format!("\n{}{note}", table.render())
}

fn memory(record: &Record) -> String {
    if record.memory.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["memory", "MiB at start", "idle", "bytes each", "peak MiB at 400x1"]);
    for memory in &record.memory {
        table.row(vec![
            title(record, &memory.peer).into(),
            mib(memory.start_kib),
            memory.idle_connections.to_string(),
            memory.bytes_per_idle().map_or(String::new(), |bytes| format!("{bytes:.0}")),
            mib(memory.peak_kib),
        ]);
    }
    format!("\n{}", table.render())
}

fn syscalls(record: &Record) -> String {
    if record.syscalls.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["system calls per call", "load", "all", "of which"]);
    for counted in &record.syscalls {
        let most: Vec<String> =
            counted.per_call.iter().take(5).map(|(name, count)| format!("{name} {count:.4}")).collect();
        table.row(vec![
            title(record, &counted.peer).into(),
            format!("{}x{}", counted.connections, counted.depth),
            format!("{:.3}", counted.total()),
            most.join(", "),
        ]);
    }
    format!("\n{}", table.render())
}

fn article(record: &Record) -> String {
    if record.article.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(&["the article", "by", "calls/s", "mean ms", "peak MiB", "µs CPU/call", "errors"]);
    for row in &record.article {
        table.row(vec![
            title(record, &row.name).into(),
            row.by.clone(),
            spread(row.calls_per_s(), 0),
            spread(row.mean_ms(), 2),
            mib(row.peak_kib()),
            spread(row.server_us_per_call(), 2),
            row.errors().to_string(),
        ]);
    }
    format!("\n{}", table.render())
}

fn pairs(record: &Record) -> String {
    let pairs: Vec<&Pair> = record.slow_mix.iter().chain(&record.beside_big).collect();
    let mut text = String::new();
    for together in pairs.chunk_by(|one, next| one.company == next.company) {
        let mut table = Table::new(&[
            &together[0].company,
            "calls/s",
            "p99 µs alone",
            "p99 µs with them",
            "ratio",
            "errors",
            "the client was",
        ]);
        for pair in together.iter().filter(|pair| !pair.together.is_empty()) {
            table.row(vec![
                title(record, &pair.peer).into(),
                format!("{:.0}", pair.rate),
                spread(pair.alone_p99_us(), 1),
                spread(pair.together_p99_us(), 1),
                spread(pair.p99_ratio(), 2),
                (errors(&pair.alone) + errors(&pair.together)).to_string(),
                doubts(Limit::Between, &pair.together),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    text
}

fn peers(record: &Record) -> String {
    let mut table = Table::new(&["server", "language", "protocol", "called by", "version"]);
    for peer in &record.peers {
        table.row(vec![
            peer.title.clone(),
            peer.language.clone(),
            peer.protocol.clone(),
            peer.client.clone(),
            beginning(&peer.version),
        ]);
    }
    let mut text = format!("\n{}", table.render());
    for peer in record.peers.iter().filter(|peer| !peer.differs.is_empty()) {
        let _ = writeln!(text, "{}: {}", peer.title, peer.differs);
    }
    text
}

/// Returns the beginning of a version; some programs print a whole line.
fn beginning(version: &str) -> String {
    const CHARS: usize = 40;
    match version.char_indices().nth(CHARS) {
        Some((at, _)) => format!("{}…", &version[..at]),
        None => version.into(),
    }
}

fn left_out(record: &Record) -> String {
    if record.left_out.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nNot measured:\n");
    for left_out in &record.left_out {
        let _ = write!(text, "  {}, {}: {}", left_out.peer, left_out.what, left_out.why);
        let _ = match &left_out.install {
            Some(command) => writeln!(text, " (to install it: {command})"),
            None => writeln!(text),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::record::sample::sample;
    use super::*;

    #[test]
    fn every_section_has_its_table() {
        let text = render(&sample());
        for want in [
            "add 64x1, apart",
            "20.00 [10.00–30.00]",
            "5.00",
            "open loop at 50 %",
            "bytes each",
            "205",
            "read 1.0000, write 1.0000",
            "wrk -t1 -c64",
            "the article",
            "1 % slow",
            "2.00",
            "No deadlines.",
            "nginx, all: no program nginx (to install it: apt-get install nginx)",
            "\nA note.\n",
        ] {
            assert!(text.contains(want), "{want} in {text}");
        }
    }

    #[test]
    fn client_bottlenecks_and_cut_runs_are_shown() {
        let mut record = sample();
        record.state = State::Cut;
        record.capacity[1].runs.iter_mut().for_each(|run| run.server_share = Some(0.4));
        let text = render(&record);
        assert!(text.contains("cut short"), "{text}");
        let row = text.lines().find(|line| line.starts_with("other <1.0>")).expect("its row");
        assert!(row.ends_with(" client"), "{row}");
    }

    #[test]
    fn goodput_has_a_row_for_each_way_of_calling() {
        let mut record = sample();
        let text = render(&record);
        assert!(
            text.contains("native") && text.contains("at 2×") && text.contains("84.0 [82.0–86.0]"),
            "{text}"
        );
        assert!(!text.contains(DOUBTFUL), "{text}");
        record.overload[0].points[0].runs[0].doubts = vec!["disturbed".into()];
        let text = render(&record);
        assert!(text.contains("84.0 [82.0–86.0] ?") && text.contains(DOUBTFUL), "{text}");
        record.overload.clear();
        assert!(!render(&record).contains("at 2×"));
    }

    #[test]
    fn an_empty_record_has_no_tables() {
        let mut record = sample();
        record.overload.clear();
        (record.capacity, record.tails, record.memory) = Default::default();
        (record.syscalls, record.wrk, record.article) = Default::default();
        (record.slow_mix, record.beside_big) = Default::default();
        assert!(record.is_empty());
        assert!(!render(&record).contains("µs CPU/call"));
    }
}
