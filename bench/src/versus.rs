//! The server beside its floor, in one command: CPU time per call, rate and latency, in paired rounds.
//!
//! Each measurement has a server process of its own, on one core, and a client process on another. The
//! subjects take turns within a round, and the order is reversed from round to round, so that a drift of
//! the machine falls on all of them; ratios are taken within a round.

mod idle;
mod report;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::{env, fs};

use serde::Serialize;

use crate::drive::Outcome;
use crate::machine::Machine;
use crate::process::{self, Guarded, Server};
use crate::syscalls::Counting;

/// What to compare, and how thoroughly.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Rounds; the figures are medians over them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Length of each measured window, in seconds.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Length of the run-up before each window, in seconds.
    #[arg(long, default_value_t = 0.5)]
    pub warmup: f64,
    /// Connections by calls in flight on each.
    #[arg(long, value_delimiter = ',', default_value = "1x1,64x1,64x16")]
    pub loads: Vec<Load>,
    /// Only the subjects whose name contains one of these: `floor`, `inline`, `hand-off`, `coreloop` …
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// The server's program; by default `coreloop` beside this one.
    #[arg(long)]
    pub coreloop: Option<PathBuf>,
    /// The client polls in place of sleeping.
    #[arg(long)]
    pub spin: bool,
    /// At 1x1 the client is a plain blocking one.
    #[arg(long, conflicts_with = "spin")]
    pub blocking: bool,
    /// The floor's worker sleeps without yielding first: a stricter floor for the hand-off.
    #[arg(long)]
    pub park: bool,
    /// After the rounds, count system calls per call with strace, in a short run for each subject and load.
    #[arg(long)]
    pub strace: bool,
    /// In place of the rounds: the memory of so many idle connections.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub idle: Option<u32>,
    /// Also write every figure, the machine and the command to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// So many connections with so many calls in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    connections: u32,
    depth: u32,
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Load, String> {
        let parsed = text.split_once('x').and_then(|(connections, depth)| {
            Some(Load { connections: connections.parse().ok()?, depth: depth.parse().ok()? })
        });
        let sane = parsed.filter(|load| load.connections > 0 && load.depth > 0);
        sane.ok_or("a load is CONNECTIONSxDEPTH, as in 64x16".into())
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.connections, self.depth)
    }
}

/// One of the servers, with the call it is asked for.
struct Subject {
    name: &'static str,
    /// The one that its figures are divided by.
    floor: Option<&'static str>,
    is_coreloop: bool,
    server: &'static [&'static str],
    call: &'static [&'static str],
}

const ADD_FIXED: &[&str] = &["--method", "Arith.AddFixed", "--codec", "fixed"];
const MULTIPLY: &[&str] = &["--method", "Arith.Multiply", "--codec", "compact"];
const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0", "--cores", "1", "--workers", "1"];

const SUBJECTS: &[Subject] = &[
    Subject { name: "floor", floor: None, is_coreloop: false, server: &["floor"], call: ADD_FIXED },
    Subject {
        name: "coreloop-inline",
        floor: Some("floor"),
        is_coreloop: true,
        server: SERVE,
        call: ADD_FIXED,
    },
    Subject {
        name: "floor-hand-off",
        floor: None,
        is_coreloop: false,
        server: &["floor", "--hand-off"],
        call: ADD_FIXED,
    },
    Subject {
        name: "coreloop-pooled",
        floor: Some("floor-hand-off"),
        is_coreloop: true,
        server: SERVE,
        call: MULTIPLY,
    },
];

/// One measurement.
#[derive(Serialize)]
struct Run {
    load: String,
    round: u32,
    subject: &'static str,
    cpu_us_per_call: f64,
    system_us_per_call: f64,
    outcome: Outcome,
}

/// Everything that a run of the comparison found.
#[derive(Serialize)]
struct Record {
    command: Vec<String>,
    machine: Machine,
    server_core: usize,
    client_core: usize,
    rounds: u32,
    runs: Vec<Run>,
    summaries: Vec<report::Summary>,
    /// By load and subject: the calls of each name per RPC, when they were counted.
    syscalls_per_call: BTreeMap<String, BTreeMap<String, f64>>,
}

/// What every measurement needs to know.
struct Bench<'a> {
    options: &'a Options,
    own: PathBuf,
    coreloop: PathBuf,
    server_core: usize,
    client_core: usize,
}

/// Compares, and prints as it goes.
pub fn run(options: &Options) -> Result<(), String> {
    process::raise_files_limit().map_err(|error| error.to_string())?;
    let own = env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let cores = process::allowed_cores().map_err(|error| error.to_string())?;
    let (Some(&server_core), Some(&client_core)) = (cores.first(), cores.get(1).or(cores.first())) else {
        return Err("no core to run on".into());
    };
    if server_core == client_core {
        println!("only one core: server and client share it, and the latencies say little");
    }
    let coreloop = options.coreloop.clone().unwrap_or_else(|| own.with_file_name("coreloop"));
    let bench = Bench { options, own, coreloop, server_core, client_core };
    let wanted = |subject: &&Subject| {
        options.only.is_empty() || options.only.iter().any(|part| subject.name.contains(part.as_str()))
    };
    let subjects: Vec<&Subject> = SUBJECTS.iter().filter(wanted).collect();
    if subjects.is_empty() {
        return Err("--only leaves nothing: no subject has such a name".into());
    }
    if subjects.iter().any(|subject| subject.is_coreloop) && !bench.coreloop.is_file() {
        return Err(format!(
            "no server at {}: build it with `cargo build --release -p coreloop-cli`, name another with \
             --coreloop, or compare the floors alone with --only floor",
            bench.coreloop.display()
        ));
    }
    match options.idle {
        Some(connections) => idle::run(&bench, &subjects, connections),
        None => bench.compare(&subjects),
    }
}

impl Bench<'_> {
    fn compare(&self, subjects: &[&Subject]) -> Result<(), String> {
        let options = self.options;
        let mut runs = Vec::new();
        for &load in &options.loads {
            for round in 1..=options.rounds {
                let mut order = subjects.to_vec();
                if round % 2 == 0 {
                    order.reverse();
                }
                for subject in order {
                    let run = self.measure(subject, load, round)?;
                    println!("{}", report::progress(&run));
                    runs.push(run);
                }
            }
        }
        let mut record = Record {
            command: env::args().collect(),
            machine: Machine::here(),
            server_core: self.server_core,
            client_core: self.client_core,
            rounds: options.rounds,
            summaries: report::summaries(&options.loads, subjects, &runs),
            runs,
            syscalls_per_call: BTreeMap::new(),
        };
        if options.strace {
            for &load in &options.loads {
                for subject in subjects {
                    match self.count_syscalls(subject, load) {
                        Ok(counts) => {
                            record.syscalls_per_call.insert(format!("{load} {}", subject.name), counts);
                        }
                        Err(why) => println!("no system calls counted for {}: {why}", subject.name),
                    }
                }
            }
        }
        print!("\n{}", report::text(&record));
        if let Some(path) = &options.json {
            let text = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
            fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    fn start(&self, subject: &Subject) -> Result<Server, String> {
        let mut command = Command::new(if subject.is_coreloop { &self.coreloop } else { &self.own });
        command.args(subject.server);
        if self.options.park && subject.server.contains(&"--hand-off") {
            command.arg("--park");
        }
        Server::start(command, self.server_core)
    }

    fn measure(&self, subject: &Subject, load: Load, round: u32) -> Result<Run, String> {
        let server = self.start(subject)?;
        let outcome = self.drive(subject, load, &server, self.options.seconds)?;
        let per_call = |ns: Option<u64>| ns.unwrap_or(0) as f64 / 1e3 / outcome.calls.max(1) as f64;
        Ok(Run {
            load: load.to_string(),
            round,
            subject: subject.name,
            cpu_us_per_call: per_call(outcome.server_cpu_ns),
            system_us_per_call: per_call(outcome.server_system_ns),
            outcome,
        })
    }

    fn drive(&self, subject: &Subject, load: Load, server: &Server, seconds: f64) -> Result<Outcome, String> {
        let mut command = Command::new(&self.own);
        command.arg("drive").arg(server.address.to_string()).args(subject.call);
        let numbers = [
            ("--connections", load.connections.to_string()),
            ("--depth", load.depth.to_string()),
            ("--seconds", seconds.to_string()),
            ("--warmup", self.options.warmup.to_string()),
            ("--watch", server.pid().to_string()),
        ];
        command.args(numbers.iter().flat_map(|(name, value)| [OsString::from(name), value.into()]));
        if self.options.spin {
            command.arg("--spin");
        }
        if self.options.blocking && (load.connections, load.depth) == (1, 1) {
            command.arg("--blocking");
        }
        process::confine(&mut command, self.client_core);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = Guarded(child.map_err(|error| format!("cannot start the client: {error}"))?);
        let stdout = child.0.stdout.take().expect("asked for a pipe above");
        // A run that ended early has said why on standard error.
        serde_json::from_reader(stdout).map_err(|_| format!("{} at {load}: no measurement", subject.name))
    }

    /// The whole run counts, from before the first connection: strace's own start is not in it.
    fn count_syscalls(&self, subject: &Subject, load: Load) -> Result<BTreeMap<String, f64>, String> {
        let server = self.start(subject)?;
        let counting = Counting::start(server.pid())?;
        let outcome = self.drive(subject, load, &server, 1.0)?;
        let calls = outcome.calls_in_all.max(1) as f64;
        let counts = counting.stop()?;
        Ok(counts.into_iter().map(|(name, count)| (name, count as f64 / calls)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_two_numbers() {
        assert_eq!("64x16".parse(), Ok(Load { connections: 64, depth: 16 }));
        for wrong in ["64", "x", "0x1", "1x0", "1x1x1", "-1x1"] {
            assert!(wrong.parse::<Load>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_ratio_has_its_floor_in_the_list() {
        for subject in SUBJECTS {
            assert_eq!(subject.floor.is_some(), subject.is_coreloop);
            if let Some(floor) = subject.floor {
                assert!(SUBJECTS.iter().any(|other| other.name == floor));
            }
        }
    }
}
