//! `loadgen diff`: what changed between two records, beyond the noise that is within them.
//!
//! `record` reads the files; what can be compared and what a change is, is said here. No sockets, no clocks.

mod record;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use record::Unusable;
use record::{Record, Run};

/// The two files.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The record from before; a file may hold a list of records, of several rounds of the same run.
    #[arg(value_name = "OLD.json")]
    pub old: PathBuf,
    /// The record to hold against it.
    #[arg(value_name = "NEW.json")]
    pub new: PathBuf,
}

/// How the comparison came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing got worse beyond the noise.
    AsGood,
    /// Something did.
    Worse,
    /// The runs were not of the same.
    NotComparable,
}

/// Reads both, compares them, prints what there is to say.
pub fn run(options: &Options) -> Result<Ending, Unusable> {
    let (old, new) = (Record::read(&options.old)?, Record::read(&options.new)?);
    let different = differences(&old, &new);
    for line in &different {
        println!("! {line}");
    }
    Ok(if different.is_empty() { Ending::AsGood } else { Ending::NotComparable })
}

/// What is not the same in all runs of both, though it must be.
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
