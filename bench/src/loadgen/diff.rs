//! `loadgen diff`: reports the changes between two records that exceed the noise within them.
//!
//! `record` reads the files and `noise` decides what counts as a change. This file checks whether the two can be
//! compared at all, and renders the table. It uses neither sockets nor clocks.

mod noise;
mod record;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use noise::{Change, Judgement, Unit, changes};
pub use record::Unusable;
use record::{Record, Run};

use super::units::{count, percent, time};
use crate::console;
use crate::table::Table;

/// The two files to compare.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The earlier record, as --json wrote it. A file may also hold a list of records: rounds of the same run.
    #[arg(value_name = "OLD.json")]
    pub old: PathBuf,
    /// The record to compare with it.
    #[arg(value_name = "NEW.json")]
    pub new: PathBuf,
    /// Compare even if settings or machine differ.
    #[arg(long)]
    pub anyway: bool,
}

/// The result of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing got worse beyond the noise.
    AsGood,
    /// At least one figure got worse beyond the noise.
    Worse,
    /// The runs differ in settings or machine.
    NotComparable,
}

/// Reads and compares both files, and prints the result.
pub fn run(options: &Options) -> Result<Ending, Unusable> {
    let (old, new) = (Record::read(&options.old)?, Record::read(&options.new)?);
    let (text, ending) = compare(&old, &new, options.anyway);
    // The exit status reports the result even if the table cannot be printed.
    let _ = console::out(&text);
    Ok(ending)
}

fn compare(old: &Record, new: &Record, anyway: bool) -> (String, Ending) {
    let different = differences(old, new);
    let mut changes = if has_same_methods(old, new) { changes(old, new) } else { Vec::new() };
    let is_judged = different.is_empty() || anyway && !changes.is_empty();
    if !is_judged {
        changes.iter_mut().for_each(|change| change.judgement = Judgement::Unknown);
    }
    let mut text = table(&changes, is_judged);
    for line in &different {
        let _ = writeln!(text, "! {line}");
    }
    if changes.is_empty() {
        text += "! The methods differ: there is nothing to hold against each other.\n";
    } else if !is_judged {
        text += "! So the figures are not comparable, and nothing is judged; --anyway does.\n";
    }
    for line in doubts(old, "old").into_iter().chain(doubts(new, "new")) {
        let _ = writeln!(text, "! {line}");
    }
    let is_watched = |record: &Record| record.runs.iter().any(|run| run.server_cpu_ns.is_some());
    if is_watched(old) != is_watched(new) {
        text += "! Only one of the records has the server's CPU time (--watch): it is not compared.\n";
    }
    if is_judged && [old, new].iter().any(|record| record.runs.len() == 1) {
        text += "! A file has a single run: how far runs lie apart is not known, so nothing below 10 % is judged. \
                 Several rounds in each file find less.\n";
    }
    let told = |judgement| changes.iter().filter(|change| change.judgement == judgement).count();
    if is_judged {
        let (worse, better) = (told(Judgement::Worse), told(Judgement::Better));
        let _ = writeln!(
            text,
            "{worse} worse, {better} better beyond the noise, of {} figures",
            changes.len() - told(Judgement::Unknown)
        );
    }
    let ending = match (is_judged, told(Judgement::Worse)) {
        (false, _) => Ending::NotComparable,
        (true, 0) => Ending::AsGood,
        (true, _) => Ending::Worse,
    };
    (text, ending)
}

fn table(changes: &[Change], is_judged: bool) -> String {
    let mut table = Table::new(&["", "figure", "old", "new", "change", "noise", ""]);
    for change in changes {
        let shown = |value: f64| match change.unit {
            Unit::Rate => count(value.round()),
            Unit::Time => time(value),
            Unit::Share => percent(value),
        };
        let difference = match change.unit {
            Unit::Share => format!("{:+.2} points", 100.0 * (change.new - change.old)),
            _ if change.old == 0.0 => "–".into(),
            _ => format!("{:+.1} %", 100.0 * (change.new / change.old - 1.0)),
        };
        let noise = match (change.noise, change.unit) {
            (None, _) => "unknown".into(),
            (Some(noise), Unit::Share) => format!("±{:.2}", 100.0 * noise),
            (Some(noise), _) => format!("±{:.1} %", 100.0 * noise),
        };
        let word = match change.judgement {
            _ if !is_judged => "",
            Judgement::Same => "same",
            Judgement::Better => "better",
            Judgement::Worse => "WORSE",
            Judgement::Unknown => "not judged",
        };
        table.row(vec![
            change.method.clone(),
            change.figure.into(),
            shown(change.old),
            shown(change.new),
            difference,
            noise,
            word.into(),
        ]);
    }
    table.render()
}

/// Returns the caveats of a record's runs, each once.
fn doubts(record: &Record, which: &str) -> Vec<String> {
    let all: BTreeSet<&str> = record.runs.iter().flat_map(|run| run.doubts.iter().copied()).collect();
    all.iter().map(|doubt| format!("In the {which} record {doubt}: its figures are to be doubted.")).collect()
}

fn has_same_methods(old: &Record, new: &Record) -> bool {
    let names = |run: &Run| run.methods.iter().map(|method| method.name.clone()).collect::<Vec<_>>();
    let first = names(&old.runs[0]);
    old.runs.iter().chain(&new.runs).all(|run| names(run) == first)
}

/// Returns the settings that differ between the runs, though they must be equal.
fn differences(old: &Record, new: &Record) -> Vec<String> {
    let first = &old.runs[0];
    let mut lines = Vec::new();
    let runs = old.runs[1..].iter().map(|run| ("in another run of that file", run));
    let runs = runs.chain(new.runs.iter().map(|run| ("in the new file", run)));
    for (whose, run) in runs {
        for line in against(first, run, whose) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

fn against(first: &Run, run: &Run, whose: &str) -> Vec<String> {
    let names: BTreeSet<&String> = first.settings.keys().chain(run.settings.keys()).collect();
    let shown = |of: &Run, name: &str| of.settings.get(name).map_or("not there", String::as_str).to_owned();
    let line = |name: &&String| {
        let (old, new) = (shown(first, name), shown(run, name));
        (old != new).then(|| format!("{name}: {old} in the old file, {new} {whose}"))
    };
    names.iter().filter_map(line).collect()
}
