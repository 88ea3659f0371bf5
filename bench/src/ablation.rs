//! Measures what each part of the server contributes: the same calls go to the same server with one feature disabled
//! at a time, in interleaved rounds.
//!
//! `sets` lists what is disabled, `serve` is the measured server (this program, started again), `report` and
//! `picture` show the figures. `flames` profiles the server with perf. The server runs on the first allowed core, the
//! load generator on the last.

pub mod allocations;
pub mod flames;
mod folded;
mod picture;
mod report;
pub mod serve;
mod sets;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, thread};

use serde::Serialize;

use crate::loadgen::progress::Line;
use crate::loadgen::{Ask, Outcome};
use crate::machine::Machine;
use crate::output::OutputFile;
use crate::process::{self, Server};
use crate::syscalls::Counting;
use crate::versus::in_turn;
use report::Row;
use serve::Counts;
use sets::{ALWAYS, Group, SETS, Set, Variant};

/// The minimum number of calls for a per-call count; fewer calls make the quotient meaningless.
const CALLS_MIN: u64 = 1000;
const ATTEMPTS: u32 = 5;

/// What to disable, and how thoroughly to measure it.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Sets: protocols, pool, batching, steps. Default: all.
    #[arg(value_name = "SET", value_parser = set)]
    sets: Vec<String>,
    /// Rounds; the figures are medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of each measured window, in seconds.
    #[arg(long, default_value_t = 0.7)]
    seconds: f64,
    /// Length of the warm-up before it, in seconds.
    #[arg(long, default_value_t = 0.2)]
    warmup: f64,
    /// Skip the runs that count system calls with strace.
    #[arg(long)]
    no_strace: bool,
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

/// One measurement.
#[derive(Clone, Debug, Serialize)]
struct Run {
    set: &'static str,
    group: &'static str,
    variant: &'static str,
    round: u32,
    calls_per_s: f64,
    p50_us: f64,
    cpu_us_per_call: f64,
    client_us_per_call: f64,
    /// Cores that the server kept busy; below 1 the client was the bottleneck.
    cores_used: f64,
    remarks: Vec<String>,
}

/// Counts from a separate run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counted {
    allocations_per_call: f64,
    allocations_per_s: f64,
    /// `None` if they were not counted.
    syscalls_per_call: Option<f64>,
}

#[derive(Serialize)]
struct Record {
    command: Vec<String>,
    machine: Machine,
    server_core: usize,
    client_core: usize,
    rounds: u32,
    rows: Vec<Row>,
    runs: Vec<Run>,
}

/// Measures, prints Markdown, and draws the pictures.
pub fn run(options: &Options) -> Result<(), String> {
    let bench = Bench::new(options.quiet)?;
    let wanted = |set: &&Set| options.sets.is_empty() || options.sets.iter().any(|name| name == set.name);
    let open_picture = |set: &Set| -> Result<Option<OutputFile>, String> {
        let folder = options.images.as_deref();
        folder.map(|folder| OutputFile::open_in(folder, &format!("ablation-{}.svg", set.name))).transpose()
    };
    let json = options.json.as_deref().map(OutputFile::open).transpose()?;
    let pictures = SETS.iter().filter(wanted).map(open_picture).collect::<Result<Vec<_>, _>>()?;
    let (mut rows, mut runs) = (Vec::new(), Vec::new());
    for (set, picture_file) in SETS.iter().filter(wanted).zip(pictures) {
        let set_runs = bench.rounds(set, options)?;
        let mut set_rows = Vec::new();
        for group in set.groups {
            for variant in group.variants {
                let counted = bench.count(group, variant, options)?;
                set_rows.extend(Row::of(set, group, variant, &set_runs, counted));
            }
        }
        println!("{}", report::markdown(set, &set_rows));
        if let Some(file) = picture_file {
            let svg = picture::draw(set, &set_rows).map_err(|error| format!("cannot draw: {error}"))?;
            file.write(&svg)?;
        }
        rows.extend(set_rows);
        runs.extend(set_runs);
    }
    if let Some(file) = json {
        let record = Record {
            command: env::args().collect(),
            machine: Machine::here(),
            server_core: bench.server_core,
            client_core: bench.client_core,
            rounds: options.rounds,
            rows,
            runs,
        };
        let text = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
        file.write(&(text + "\n"))?;
    }
    Ok(())
}

/// Starts the servers and the load.
struct Bench {
    own: PathBuf,
    server_core: usize,
    client_core: usize,
    quiet: bool,
}

impl Bench {
    fn new(quiet: bool) -> Result<Bench, String> {
        process::raise_files_limit().map_err(|error| error.to_string())?;
        let own = env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
        let cores = process::allowed_cores().map_err(|error| error.to_string())?;
        let (Some(first), Some(last)) = (cores.first(), cores.last()) else { return Err("no core?".into()) };
        if first == last {
            eprintln!("only one core: server and client share it, and the rates say little");
        }
        Ok(Bench { own, server_core: *first, client_core: *last, quiet })
    }

    fn start(&self, settings: &[&str], counts: bool) -> Result<Server, String> {
        let mut command = Command::new(&self.own);
        command.arg("serve");
        command.args(ALWAYS.iter().chain(settings).flat_map(|pair| ["--set", pair]));
        if counts {
            command.arg("--count");
        }
        Server::start(command, &[self.server_core])
    }

    fn load(
        &self,
        group: &Group,
        variant: &Variant,
        server: &Server,
        warmup_s: f64,
        seconds: f64,
    ) -> Result<Outcome, String> {
        let mix = format!("{}=1", group.method);
        let ask = Ask {
            speaks: variant.speaks,
            codec: variant.codec,
            connections: group.connections,
            depth: Some(group.depth),
            warmup_s,
            seconds,
            core: Some(self.client_core),
            watch: Some(server.pid()),
            ..Ask::of(server.address, &mix)
        };
        let line = Line::new(Duration::from_secs_f64(warmup_s + seconds), self.quiet, "calls");
        let outcome = ask.run(&mut |live| line.show(live))?;
        match outcome.total.errors + outcome.total.unanswered {
            0 => Ok(outcome),
            // CPU time divided by failed calls is not the cost of a call.
            errors => Err(format!("{}, {}: {errors} calls failed", group.name, variant.name)),
        }
    }

    /// Measures one window on a fresh server. Returns `None` if no call was answered.
    fn measure(
        &self,
        group: &Group,
        variant: &Variant,
        options: &Options,
    ) -> Result<Option<Outcome>, String> {
        let server = self.start(variant.settings, false)?;
        let outcome = self.load(group, variant, &server, options.warmup, options.seconds)?;
        Ok(Some(outcome).filter(|outcome| outcome.calls_per_s > 0.0))
    }

    fn rounds(&self, set: &Set, options: &Options) -> Result<Vec<Run>, String> {
        let of_round: usize = set.groups.iter().map(|group| group.variants.len()).sum();
        let all = of_round * options.rounds as usize;
        let mut runs: Vec<Run> = Vec::with_capacity(all);
        for round in 1..=options.rounds {
            for group in set.groups {
                for variant in in_turn(group.variants, round) {
                    let outcome = persist(|| self.measure(group, &variant, options))?;
                    let run = Run::of(set, group, &variant, round, &outcome);
                    if !self.quiet {
                        eprintln!("{}/{all}  {}", runs.len() + 1, run.line());
                    }
                    runs.push(run);
                }
            }
        }
        Ok(runs)
    }

    /// Counts on separate servers, because counting adds to the cost that `measure` reads.
    fn count(&self, group: &Group, variant: &Variant, options: &Options) -> Result<Counted, String> {
        let (allocations_per_call, allocations_per_s) =
            persist(|| self.count_allocations(group, variant, options))?;
        let syscalls_per_call = match options.no_strace {
            true => None,
            false => Some(persist(|| self.count_syscalls(group, variant, options))?),
        };
        Ok(Counted { allocations_per_call, allocations_per_s, syscalls_per_call })
    }

    /// Returns allocations per call and per second, or `None` if there were too few calls.
    fn count_allocations(
        &self,
        group: &Group,
        variant: &Variant,
        options: &Options,
    ) -> Result<Option<(f64, f64)>, String> {
        let seconds = options.seconds.clamp(0.3, 0.5);
        let server = self.start(variant.settings, true)?;
        let address = server.address.to_string();
        // The first `Counts.Read` sets up state that later reads reuse; the next two show what one read allocates.
        let [_, earlier, later] = [Counts::read(&address)?, Counts::read(&address)?, Counts::read(&address)?];
        let asking = later.allocations - earlier.allocations;
        let (loaded, stretch) = thread::scope(|scope| {
            let load = scope.spawn(|| self.load(group, variant, &server, options.warmup, seconds));
            // Both readings fall within the load, after its connections are open.
            thread::sleep(Duration::from_secs_f64(options.warmup + 0.2 * seconds));
            let first = Counts::read(&address);
            thread::sleep(Duration::from_secs_f64(0.5 * seconds));
            let last = Counts::read(&address);
            (load.join(), first.and_then(|first| Ok(last?.since(first, asking))))
        });
        loaded.map_err(|_| "the load generator panicked")??;
        stretch
    }

    /// Returns system calls per call. The whole run counts, from before the first connection, so strace's own start
    /// is not included.
    fn count_syscalls(
        &self,
        group: &Group,
        variant: &Variant,
        options: &Options,
    ) -> Result<Option<f64>, String> {
        let server = self.start(variant.settings, false)?;
        let counting = Counting::start(server.pid())?;
        let calls = self.load(group, variant, &server, 0.0, options.seconds.min(0.5))?.answers_in_all;
        let counts = counting.stop()?;
        let all: u64 = counts.iter().map(|(_, count)| count).sum();
        Ok((calls >= CALLS_MIN).then(|| all as f64 / calls as f64))
    }
}

/// Retries when a short window on a busy machine contains too few calls.
fn persist<T>(mut attempt: impl FnMut() -> Result<Option<T>, String>) -> Result<T, String> {
    for _ in 0..ATTEMPTS {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
    }
    Err("too few calls were answered: give it longer windows, or a machine that has time".into())
}

impl Run {
    fn of(set: &Set, group: &Group, variant: &Variant, round: u32, outcome: &Outcome) -> Run {
        let server = outcome.server.as_ref();
        Run {
            set: set.name,
            group: group.name,
            variant: variant.name,
            round,
            calls_per_s: outcome.calls_per_s,
            p50_us: outcome.total.latency.at(50.0).unwrap_or(0) as f64 / 1e3,
            cpu_us_per_call: server.map_or(0.0, |server| server.cpu_ns_per_call / 1e3),
            client_us_per_call: outcome.generator.cpu_ns_per_call / 1e3,
            cores_used: server.map_or(0.0, |server| server.cpu_share),
            remarks: outcome.verdict.remarks.clone(),
        }
    }

    fn line(&self) -> String {
        format!(
            "{} {}, {}  round {}  {:.3} µs CPU/call  {:.0} calls/s",
            self.set, self.group, self.variant, self.round, self.cpu_us_per_call, self.calls_per_s
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_set_is_an_error_that_lists_the_known_ones() {
        assert!(set("pool").is_ok());
        assert!(set("colour").expect_err("no such").contains("batching"));
    }
}
