//! Measures what each setting of the server costs and gains: runs `coreloop serve` with one setting changed, under
//! the load generator, in interleaved rounds.
//!
//! `sets` lists the settings, `picture` draws the results. The generator is pinned to the last core but may share it:
//! the server may run on every core, since several of the settings have no effect on one.

mod picture;
mod sets;

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::loadgen::progress::Line;
use crate::loadgen::{Ask, Outcome};
use crate::machine::Machine;
use crate::output::OutputFile;
use crate::process::{self, Server};
use crate::table::Spread;
use sets::{SETS, Set, Setting, Trial};

/// Which settings to measure, and how thoroughly.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Sets: cores, workers, pin, busy-poll, spin, flush, high-mark, batch, blocking. Default: all.
    #[arg(value_name = "SET", value_parser = set)]
    sets: Vec<String>,
    /// Rounds; the figures are medians over them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of each measured window, in seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Length of the warm-up before it, in seconds.
    #[arg(long, default_value_t = 0.3)]
    warmup: f64,
    /// The server's program. Default: `coreloop` beside this one.
    #[arg(long)]
    coreloop: Option<PathBuf>,
    /// Write the pictures into this folder.
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
    /// Write all figures, the machine and the command to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

fn set(name: &str) -> Result<String, String> {
    if SETS.iter().any(|set| set.name == name) {
        return Ok(name.to_owned());
    }
    Err(format!("one of {}", SETS.map(|set| set.name).join(", ")))
}

/// One measurement. Times are in microseconds.
#[derive(Serialize)]
struct Run {
    set: &'static str,
    setting: &'static str,
    trial: &'static str,
    round: u32,
    calls_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us_per_call: f64,
    /// Cores that the server kept busy.
    cores_used: f64,
    errors: u64,
    remarks: Vec<String>,
}

/// The medians over the rounds of one setting under one load.
#[derive(Clone, Serialize)]
struct Row {
    set: &'static str,
    setting: &'static str,
    trial: &'static str,
    calls_per_s: Spread,
    p50_us: Spread,
    p99_us: Spread,
    cpu_us_per_call: Spread,
    cores_used: Spread,
    errors: u64,
    /// Rounds in which the generator or the machine may have determined the figures, or the rate was not reached.
    doubtful: u32,
}

#[derive(Serialize)]
struct Record {
    command: Vec<String>,
    machine: Machine,
    rounds: u32,
    rows: Vec<Row>,
    runs: Vec<Run>,
}

/// Measures, prints Markdown, and draws the pictures.
pub fn run(options: &Options) -> Result<(), String> {
    process::raise_files_limit().map_err(|error| error.to_string())?;
    let own = env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let coreloop = options.coreloop.clone().unwrap_or_else(|| own.with_file_name("coreloop"));
    if !coreloop.is_file() {
        return Err(format!(
            "no server at {}: build it with `cargo build --release -p coreloop-cli`, or name another with --coreloop",
            coreloop.display()
        ));
    }
    let cores = process::allowed_cores().map_err(|error| error.to_string())?;
    let wanted = |set: &&Set| options.sets.is_empty() || options.sets.iter().any(|name| name == set.name);
    let open_picture = |set: &Set| -> Result<Option<OutputFile>, String> {
        let folder = options.images.as_deref();
        folder.map(|folder| OutputFile::open_in(folder, &format!("tuning-{}.svg", set.name))).transpose()
    };
    let json = options.json.as_deref().map(OutputFile::open).transpose()?;
    let pictures = SETS.iter().filter(wanted).map(open_picture).collect::<Result<Vec<_>, _>>()?;
    let bench = Bench { options, coreloop, cores };
    let (mut rows, mut runs) = (Vec::new(), Vec::new());
    for (set, picture_file) in SETS.iter().filter(wanted).zip(pictures) {
        let (set_rows, set_runs) = bench.measure_set(set)?;
        println!("{}", markdown(set, &set_rows));
        if let Some(file) = picture_file {
            let svg = picture::draw(set, &set_rows).map_err(|error| format!("cannot draw: {error}"))?;
            file.write(&svg)?;
        }
        rows.extend(set_rows);
        runs.extend(set_runs);
    }
    if let Some(file) = json {
        let command = env::args().collect();
        let record = Record { command, machine: Machine::here(), rounds: options.rounds, rows, runs };
        let text = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
        file.write(&(text + "\n"))?;
    }
    Ok(())
}

struct Bench<'a> {
    options: &'a Options,
    coreloop: PathBuf,
    cores: Vec<usize>,
}

impl Bench<'_> {
    fn measure_set(&self, set: &Set) -> Result<(Vec<Row>, Vec<Run>), String> {
        let of_round = set.trials.len() * set.settings.len();
        let all = of_round * self.options.rounds as usize;
        let mut runs: Vec<(Run, bool)> = Vec::with_capacity(all);
        for round in 1..=self.options.rounds {
            for trial in set.trials {
                let mut settings: Vec<&Setting> = set.settings.iter().collect();
                if round.is_multiple_of(2) {
                    settings.reverse();
                }
                for setting in settings {
                    let outcome = self.measure(set, setting, trial)?;
                    let run = Run::of(set, setting, trial, round, &outcome);
                    if !self.options.quiet {
                        eprintln!("{}/{all}  {}", runs.len() + 1, run.line());
                    }
                    runs.push((run, outcome.verdict.is_doubtful() || outcome.verdict.rate_missed));
                }
            }
        }
        let rows = set.trials.iter().flat_map(|trial| {
            set.settings.iter().filter_map(|setting| {
                Row::of(runs.iter().filter(|(run, _)| run.setting == setting.name && run.trial == trial.name))
            })
        });
        Ok((rows.collect(), runs.into_iter().map(|(run, _)| run).collect()))
    }

    fn measure(&self, set: &Set, setting: &Setting, trial: &Trial) -> Result<Outcome, String> {
        let mut command = Command::new(&self.coreloop);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(set.args).args(setting.args);
        let server = Server::start(command, &self.cores)?;
        let ask = Ask {
            codec: trial.codec,
            connections: trial.connections,
            depth: trial.depth,
            rate: trial.rate,
            warmup_s: self.options.warmup,
            seconds: self.options.seconds,
            core: self.cores.last().copied(),
            watch: Some(server.pid()),
            ..Ask::of(server.address, trial.mix)
        };
        let total = Duration::from_secs_f64(self.options.warmup + self.options.seconds);
        let line = Line::new(total, self.options.quiet, "calls");
        ask.run(&mut |live| line.show(live))
    }
}

impl Run {
    fn of(set: &Set, setting: &Setting, trial: &Trial, round: u32, outcome: &Outcome) -> Run {
        let total = &outcome.total;
        let us = |percent| total.latency.at(percent).unwrap_or(0) as f64 / 1e3;
        let server = outcome.server.as_ref();
        Run {
            set: set.name,
            setting: setting.name,
            trial: trial.name,
            round,
            calls_per_s: outcome.calls_per_s,
            p50_us: us(50.0),
            p99_us: us(99.0),
            cpu_us_per_call: server.map_or(0.0, |server| server.cpu_ns_per_call / 1e3),
            cores_used: server.map_or(0.0, |server| server.cpu_share),
            errors: total.errors + total.unanswered,
            remarks: outcome.verdict.remarks.clone(),
        }
    }

    fn line(&self) -> String {
        let mut line = format!(
            "{} {}  {}  round {}  {:.0} calls/s  p50 {:.1} µs  p99 {:.1} µs  {:.2} µs CPU/call",
            self.set,
            self.setting,
            self.trial,
            self.round,
            self.calls_per_s,
            self.p50_us,
            self.p99_us,
            self.cpu_us_per_call
        );
        if self.errors > 0 {
            line += &format!("  {} ERRORS", self.errors);
        }
        line
    }
}

impl Row {
    fn of<'a>(runs: impl Iterator<Item = &'a (Run, bool)> + Clone) -> Option<Row> {
        let spread = |value: fn(&Run) -> f64| Spread::of(runs.clone().map(|(run, _)| value(run)));
        let (first, _) = runs.clone().next()?;
        Some(Row {
            set: first.set,
            setting: first.setting,
            trial: first.trial,
            calls_per_s: spread(|run| run.calls_per_s)?,
            p50_us: spread(|run| run.p50_us)?,
            p99_us: spread(|run| run.p99_us)?,
            cpu_us_per_call: spread(|run| run.cpu_us_per_call)?,
            cores_used: spread(|run| run.cores_used)?,
            errors: runs.clone().map(|(run, _)| run.errors).sum(),
            doubtful: runs.filter(|(_, doubtful)| *doubtful).count() as u32,
        })
    }
}

/// Formats the median with three significant digits, followed by minimum and maximum.
fn cell(spread: &Spread) -> String {
    let size = spread.median.abs();
    let decimals = if size >= 100.0 { 0 } else { 2 - size.max(1.0).log10().floor() as usize };
    spread.text(decimals)
}

fn markdown(set: &Set, rows: &[Row]) -> String {
    let mut text = format!(
        "### `{}`\n\n| load | {} | calls/s | p50 µs | p99 µs | server CPU, µs a call | cores in use |\n\
         |---|---|---|---|---|---|---|\n",
        set.name, set.keys
    );
    for row in rows {
        let mark = if row.doubtful > 0 { "\\*" } else { "" };
        let errors = if row.errors > 0 { format!(", {} errors", row.errors) } else { String::new() };
        text += &format!(
            "| {}{mark} | {} | {}{errors} | {} | {} | {} | {:.2} |\n",
            row.trial,
            row.setting,
            row.calls_per_s.text(0),
            cell(&row.p50_us),
            cell(&row.p99_us),
            cell(&row.cpu_us_per_call),
            row.cores_used.median
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(setting: &'static str, calls_per_s: f64, errors: u64) -> Run {
        Run {
            set: SETS[0].name,
            setting,
            trial: SETS[0].trials[0].name,
            round: 1,
            calls_per_s,
            p50_us: 40.25,
            p99_us: 1234.5,
            cpu_us_per_call: 0.4321,
            cores_used: 0.5,
            errors,
            remarks: Vec::new(),
        }
    }

    #[test]
    fn rows_are_medians_with_caveats() {
        let runs = [(run("1", 10.0, 0), false), (run("1", 30.0, 2), true), (run("1", 20.0, 0), false)];
        let row = Row::of(runs.iter()).expect("three runs");
        assert_eq!((row.calls_per_s.median, row.doubtful, row.errors), (20.0, 1, 2));
        let text = markdown(&SETS[0], std::slice::from_ref(&row));
        let want = "| a lone caller, 1x1\\* | 1 | 20 [10–30], 2 errors | 40.2 [40.2–40.2] | 1234 [1234–1234] | \
                    0.43 [0.43–0.43] | 0.50 |";
        assert!(text.contains(want), "{text}");
        assert!(Row::of(runs[..0].iter()).is_none());
    }

    #[test]
    fn the_picture_of_every_set_is_complete() {
        for set in &SETS {
            let rows = set.trials.iter().flat_map(|trial| {
                set.settings.iter().enumerate().filter_map(move |(at, setting)| {
                    let run = Run { trial: trial.name, ..run(setting.name, 1e5 * (at + 1) as f64, 0) };
                    Row::of([(run, false)].iter())
                })
            });
            let svg = picture::draw(set, &rows.collect::<Vec<_>>()).expect("it draws");
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            for name in set.settings.iter().map(|setting| setting.name) {
                assert!(svg.contains(name), "{name}");
            }
            assert!(!svg.contains("href") && !svg.contains("NaN"), "{}", set.name);
        }
    }

    #[test]
    fn an_unknown_set_is_an_error_that_lists_the_known_ones() {
        assert!(set("cores").is_ok());
        assert!(set("colour").expect_err("no such").contains("busy-poll"));
    }
}
