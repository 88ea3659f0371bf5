//! Compares the server with its floor, in one command: CPU time per call, rate and latency, in paired rounds.
//!
//! Each measurement has a separate server process on one core, and a client process on another. The subjects
//! alternate within a round, and the order is reversed from round to round, so that a drift of the machine affects
//! all of them equally; ratios are taken within a round. `subjects` lists the comparisons, `open` those in an open
//! loop, under the load generator.

mod idle;
mod open;
mod report;
mod subjects;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::drive::Outcome;
use crate::machine::Machine;
use crate::output::OutputFile;
use crate::process::{self, Guarded, Server};
use crate::syscalls::Counting;
use subjects::{Place, Set, Subject};

pub use subjects::Load;

/// Default loads, if no other comparison is requested.
const LOADS: [&str; 3] = ["1x1", "64x1", "64x16"];

/// What to compare, and how thoroughly. Without any of --direct, --open, --slow-mix, --reactors, --clients and
/// --loads it compares the server and its floors at 1x1, 64x1 and 64x16.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Rounds; the figures are medians over them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Length of each measured window, in seconds.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Length of the warm-up before each window, in seconds.
    #[arg(long, default_value_t = 0.5)]
    pub warmup: f64,
    /// Loads: connections x calls in flight on each.
    #[arg(long, value_delimiter = ',')]
    pub loads: Vec<Load>,
    /// One call at a time at 1x1: the library's direct client compared with a plain blocking one.
    #[arg(long)]
    pub direct: bool,
    /// Open loops under the load generator, at half the rate that a closed loop with these loads reaches.
    #[arg(
        long,
        value_name = "LOADS",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = "64x16,64x1"
    )]
    pub open: Vec<Load>,
    /// Fast calls with 1 % of slow blocking ones among them, in an open loop.
    #[arg(long)]
    pub slow_mix: bool,
    /// Calls per second for --slow-mix.
    #[arg(long, value_parser = crate::loadgen::units::rate, default_value = "10k")]
    pub slow_mix_rate: f64,
    /// Two reactors compared with one.
    #[arg(long)]
    pub reactors: bool,
    /// The clients compared with each other: what a call costs its caller.
    #[arg(long)]
    pub clients: bool,
    /// Only the subjects whose name contains one of these: `floor`, `inline`, `hand-off`, `coreloop` …
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// The server's program. Default: `coreloop` beside this one.
    #[arg(long)]
    pub coreloop: Option<PathBuf>,
    /// The client polls instead of sleeping.
    #[arg(long)]
    pub spin: bool,
    /// Use a plain blocking client at 1x1.
    #[arg(long, conflicts_with = "spin")]
    pub blocking: bool,
    /// The floor's worker sleeps without yielding first: a stricter floor for the hand-off.
    #[arg(long)]
    pub park: bool,
    /// After the rounds, count system calls per call with strace, in a short run for each subject and load.
    #[arg(long)]
    pub strace: bool,
    /// Instead of the rounds, measure the memory of this many idle connections.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub idle: Option<u32>,
    /// Also write all figures, the machine and the command to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// One measurement.
#[derive(Serialize)]
struct Run {
    load: String,
    round: u32,
    subject: &'static str,
    cpu_us_per_call: f64,
    system_us_per_call: f64,
    client_us_per_call: f64,
    /// The server's peak memory in RAM, its program's text included.
    peak_kib: u64,
    outcome: Outcome,
}

/// All results of a comparison.
#[derive(Serialize)]
struct Record {
    command: Vec<String>,
    machine: Machine,
    server_core: usize,
    client_core: usize,
    rounds: u32,
    runs: Vec<Run>,
    summaries: Vec<report::Summary>,
    open_runs: Vec<open::Run>,
    open_summaries: Vec<open::Summary>,
    notes: Vec<&'static str>,
    /// System calls per RPC by name, for each load and subject, if they were counted. They are the server's, or the
    /// client's where clients are compared.
    syscalls_per_call: BTreeMap<String, BTreeMap<String, f64>>,
}

/// State that every measurement needs.
struct Bench<'a> {
    options: &'a Options,
    own: PathBuf,
    coreloop: PathBuf,
    cores: Vec<usize>,
    server_core: usize,
    client_core: usize,
}

/// Runs the comparison and prints the results as they arrive.
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
    let bench = Bench { options, own, coreloop, cores, server_core, client_core };
    let mut sets = bench.sets()?;
    let only = |subject: &&Subject| {
        options.only.is_empty() || options.only.iter().any(|part| subject.name.contains(part.as_str()))
    };
    for set in &mut sets {
        set.subjects.retain(only);
    }
    let subjects = || sets.iter().flat_map(|set| set.subjects.iter().copied());
    let is_open = !options.open.is_empty() || options.slow_mix;
    if subjects().next().is_none() && !is_open {
        return Err("--only leaves nothing: no subject has such a name".into());
    }
    if (subjects().any(|subject| subject.is_coreloop) || is_open) && !bench.coreloop.is_file() {
        return Err(format!(
            "no server at {}: build it with `cargo build --release -p coreloop-cli`, name another with \
             --coreloop, or compare the floors alone with --only floor",
            bench.coreloop.display()
        ));
    }
    let json = options.json.as_deref().map(OutputFile::open).transpose()?;
    match options.idle {
        Some(connections) => idle::run(&bench, &subjects().collect::<Vec<_>>(), connections),
        None => bench.compare(&sets, json),
    }
}

/// A set with its loads, and the subjects selected from it.
struct Chosen {
    set: &'static Set,
    loads: Vec<Load>,
    subjects: Vec<&'static Subject>,
}

impl Chosen {
    fn label(&self, load: Load) -> String {
        format!("{load}{}", self.set.name)
    }
}

impl Bench<'_> {
    fn sets(&self) -> Result<Vec<Chosen>, String> {
        let options = self.options;
        let mut sets = Vec::new();
        let mut choose = |set: &'static Set, loads: &[Load]| {
            let loads = set.loads.unwrap_or(loads).to_vec();
            sets.push(Chosen { set, loads, subjects: set.subjects.iter().collect() });
        };
        let is_special = options.direct
            || !options.open.is_empty()
            || options.slow_mix
            || options.reactors
            || options.clients;
        if !options.loads.is_empty() {
            choose(&subjects::MAIN, &options.loads);
        } else if !is_special {
            choose(&subjects::MAIN, &LOADS.map(|load| load.parse().expect("loads as in the test")));
        }
        if options.direct {
            choose(&subjects::LONE, &[]);
        }
        if options.reactors {
            if self.cores.len() < 2 {
                return Err("--reactors needs two cores".into());
            }
            choose(&subjects::REACTORS, &[]);
        }
        if options.clients {
            subjects::CLIENTS.iter().for_each(|set| choose(set, &[]));
        }
        Ok(sets)
    }

    fn compare(&self, sets: &[Chosen], json: Option<OutputFile>) -> Result<(), String> {
        let options = self.options;
        let mut runs = Vec::new();
        for chosen in sets {
            for &load in &chosen.loads {
                for round in 1..=options.rounds {
                    for subject in in_turn(&chosen.subjects, round) {
                        let run = self.measure(subject, load, chosen.label(load), round)?;
                        println!("{}", report::progress(&run));
                        runs.push(run);
                    }
                }
            }
        }
        let summaries = sets
            .iter()
            .flat_map(|chosen| chosen.loads.iter().map(move |load| (chosen.label(*load), &chosen.subjects)))
            .flat_map(|(label, subjects)| report::summaries(&label, subjects, &runs));
        let mut record = Record {
            command: env::args().collect(),
            machine: Machine::here(),
            server_core: self.server_core,
            client_core: self.client_core,
            rounds: options.rounds,
            summaries: summaries.collect(),
            runs,
            open_runs: Vec::new(),
            open_summaries: Vec::new(),
            notes: sets.iter().filter_map(|chosen| chosen.set.note).collect(),
            syscalls_per_call: BTreeMap::new(),
        };
        for group in open::groups(self)? {
            let runs = open::rounds(self, &group)?;
            record.open_summaries.extend(open::summaries(&group, &runs));
            record.open_runs.extend(runs);
        }
        if options.strace {
            for chosen in sets {
                for &load in &chosen.loads {
                    for subject in &chosen.subjects {
                        match self.count_syscalls(subject, load, chosen.set.is_of_clients) {
                            Ok(counts) => {
                                let name = format!("{} {}", chosen.label(load), subject.name);
                                record.syscalls_per_call.insert(name, counts);
                            }
                            Err(why) => println!("no system calls counted for {}: {why}", subject.name),
                        }
                    }
                }
            }
        }
        print!("\n{}", report::text(&record));
        if let Some(file) = json {
            let text = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
            file.write(&(text + "\n"))?;
        }
        Ok(())
    }

    fn start(&self, subject: &Subject) -> Result<Server, String> {
        let mut command = Command::new(if subject.is_coreloop { &self.coreloop } else { &self.own });
        command.args(subject.server);
        if self.options.park && subject.server.contains(&"--hand-off") {
            command.arg("--park");
        }
        match subject.place {
            Place::Apart => Server::start(command, &[self.server_core]),
            Place::Shared(cores) => Server::start(command, &self.cores[..cores.min(self.cores.len())]),
        }
    }

    fn measure(&self, subject: &Subject, load: Load, label: String, round: u32) -> Result<Run, String> {
        let server = self.start(subject)?;
        let outcome = self.client(subject, load, &server, self.options.seconds, false)?.outcome()?;
        let per_call = |ns: Option<u64>| ns.unwrap_or(0) as f64 / 1e3 / outcome.calls.max(1) as f64;
        Ok(Run {
            load: label,
            round,
            subject: subject.name,
            cpu_us_per_call: per_call(outcome.server_cpu_ns),
            system_us_per_call: per_call(outcome.server_system_ns),
            client_us_per_call: per_call(Some(outcome.client_cpu_ns)),
            peak_kib: process::peak_kib(server.pid()).map_err(|error| error.to_string())?,
            outcome,
        })
    }

    fn client(
        &self,
        subject: &Subject,
        load: Load,
        server: &Server,
        seconds: f64,
        holds: bool,
    ) -> Result<Client, String> {
        let mut command = Command::new(&self.own);
        command.arg("drive").arg(server.address.to_string()).args(subject.call).args(subject.client);
        let numbers = [
            ("--connections", load.connections.to_string()),
            ("--depth", load.depth.to_string()),
            ("--seconds", seconds.to_string()),
            ("--warmup", self.options.warmup.to_string()),
            ("--watch", server.pid().to_string()),
        ];
        command.args(numbers.iter().flat_map(|(name, value)| [OsString::from(name), value.into()]));
        let is_usual = subject.client.is_empty();
        if self.options.spin && is_usual {
            command.arg("--spin");
        }
        if self.options.blocking && is_usual && (load.connections, load.depth) == (1, 1) {
            command.arg("--blocking");
        }
        if holds {
            command.arg("--hold").stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        match subject.place {
            Place::Apart => process::confine(&mut command, &[self.client_core]),
            Place::Shared(_) => process::confine(&mut command, &self.cores),
        }
        let child = command.stdout(Stdio::piped()).spawn();
        let child = Guarded(child.map_err(|error| format!("cannot start the client: {error}"))?);
        Ok(Client { child, what: format!("{} at {load}", subject.name) })
    }

    /// The whole run counts, from before the first connection, so strace's own start is not included.
    fn count_syscalls(
        &self,
        subject: &Subject,
        load: Load,
        of_client: bool,
    ) -> Result<BTreeMap<String, f64>, String> {
        let server = self.start(subject)?;
        let mut client = self.client(subject, load, &server, 1.0, true)?;
        let counting = Counting::start(if of_client { client.child.0.id() } else { server.pid() })?;
        drop(client.child.0.stdin.take());
        let outcome = client.outcome()?;
        let calls = outcome.calls_in_all.max(1) as f64;
        let counts = counting.stop()?;
        Ok(counts.into_iter().map(|(name, count)| (name, count as f64 / calls)).collect())
    }
}

/// Returns the subjects of a round; every second round has the reverse order.
pub(crate) fn in_turn<T: Copy>(subjects: &[T], round: u32) -> Vec<T> {
    let mut order = subjects.to_vec();
    if round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// A running client.
struct Client {
    child: Guarded,
    what: String,
}

impl Client {
    /// Waits for its results.
    fn outcome(mut self) -> Result<Outcome, String> {
        let stdout = self.child.0.stdout.take().expect("asked for a pipe when it was started");
        // A client that ended early has reported the reason on standard error.
        serde_json::from_reader(stdout).map_err(|_| format!("{}: no measurement", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_loads_are_loads() {
        assert!(LOADS.iter().all(|load| load.parse::<Load>().is_ok()));
    }

    #[test]
    fn every_second_round_has_the_reverse_order() {
        assert_eq!([1, 2, 3].map(|round| in_turn(&['a', 'b'], round)), [['a', 'b'], ['b', 'a'], ['a', 'b']]);
    }
}
