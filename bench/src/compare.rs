//! Measures coreloop and its peers, one after the other on this machine, in interleaved rounds: `loadgen compare`.
//!
//! `subject` lists the servers, `peer` parses a peer's description, `prepare` checks which can run. `run` executes
//! the sections (`capacity`, `tails`, `memory`, `kernel`, `wrk`, `article`, `mix`, `overload`), which measure through `ground`
//! and `load` and fill the `record`; `text`, `markdown` and the page show it. bench/README.md explains the results.

mod article;
mod capacity;
mod clock;
mod ground;
mod keep;
mod kernel;
mod load;
mod markdown;
mod memory;
mod mix;
mod overload;
mod page;
pub mod peer;
mod prepare;
mod probe;
pub mod record;
mod run;
mod screen;
pub mod subject;
mod tails;
mod text;
mod wrk;

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coreloop::signals;

use crate::console;
use crate::loadgen::Ending;
use crate::loadgen::units;
use crate::machine::Machine;
use crate::process;
use crate::versus::Load;
use ground::Ground;
use record::{FORMAT, Record, Settings, State};
use subject::{Found, Subject};

/// Default loads of the small call.
const LOADS: [Load; 4] = [
    Load { connections: 1, depth: 1 },
    Load { connections: 64, depth: 1 },
    Load { connections: 64, depth: 16 },
    Load { connections: 400, depth: 1 },
];
const LOADS_QUICK: [Load; 2] = [LOADS[1], LOADS[2]];

/// Which servers are compared, in which sections, and how thoroughly. By default all sections but the article: more
/// than an hour. --quick is a smoke run of a minute or two. No file is written unless --record, --json, --report or
/// --markdown names one.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Measure only the servers whose name begins with one of these: coreloop, go-, gin …
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub only: Vec<String>,
    /// Skip the servers whose name begins with one of these.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub skip: Vec<String>,
    /// The sections to measure.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SECTIONS")]
    pub sections: Vec<Section>,
    /// Also repeat the article's measurement: wrk with 12 threads and 400 connections.
    #[arg(long)]
    pub article: bool,
    /// Length of each of the article's runs, in seconds.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub article_seconds: Option<u64>,
    /// Also run the closed loops with server and client on the same two cores.
    #[arg(long)]
    pub shared: bool,
    /// Number of rounds, each in the reverse order of the previous one; figures are medians over them. Default 3,
    /// with --quick 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
    /// Length of each measured window, in seconds. Default 2, with --quick 0.5.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Length of the warm-up before each window, in seconds. Default 0.5, with --quick 0.2.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub warmup: Option<f64>,
    /// Loads of the small call: connections x calls in flight on each. Default 1x1,64x1,64x16,400x1.
    #[arg(long, value_delimiter = ',')]
    pub loads: Vec<Load>,
    /// Rate of the small calls in the section mix. At much lower rates the cores of a virtual machine sleep between
    /// calls, and the wake-up time dominates the result.
    #[arg(long, value_parser = units::rate, default_value = "40k")]
    pub mix_rate: f64,
    /// A smoke run: few sections, short windows, one round.
    #[arg(long)]
    pub quick: bool,
    /// The folder of the peers. Default: bench/peers of the repository.
    #[arg(long, value_name = "DIR")]
    pub peers: Option<PathBuf>,
    /// Coreloop's program. Default: build it.
    #[arg(long, value_name = "FILE")]
    pub coreloop: Option<PathBuf>,
    /// Write record, page and picture into this folder, with the date as file name.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "report"])]
    pub record: Option<PathBuf>,
    /// Write the record to this file, as JSON. It is rewritten after each section.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the page to this file, as HTML. It is rewritten after each section.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the table for a README to this file.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Measure nothing: write the page and the picture of this earlier record, beside it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["record", "json", "report", "sections", "quick"])]
    pub from: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
}

/// A part of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Section {
    /// Closed loops: CPU time per call, rate, latency.
    Capacity,
    /// Open loops at shares of each server's capacity.
    Tails,
    /// Memory at start, per idle connection, and at the peak.
    Memory,
    /// System calls per call.
    Syscalls,
    /// HTTP under wrk.
    Wrk,
    /// The article's measurement.
    Article,
    /// Fast calls mixed with slow ones, small calls beside large ones.
    Mix,
    /// Answers in time when more than the capacity is offered.
    Overload,
}

impl Section {
    const USUAL: [Section; 7] = [
        Section::Capacity,
        Section::Memory,
        Section::Syscalls,
        Section::Tails,
        Section::Wrk,
        Section::Mix,
        Section::Overload,
    ];
    const QUICK: [Section; 3] = [Section::Capacity, Section::Memory, Section::Tails];

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.01..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("between 0.01 and 3600".into()) }
}

impl Options {
    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 0.5 } else { 2.0 })
    }

    fn warmup(&self) -> f64 {
        self.warmup.unwrap_or(if self.quick { 0.2 } else { 0.5 })
    }

    fn article_seconds(&self) -> u64 {
        self.article_seconds.unwrap_or(if self.quick { 2 } else { 30 })
    }

    fn loads(&self) -> Vec<Load> {
        match (self.loads.is_empty(), self.quick) {
            (false, _) => self.loads.clone(),
            (true, false) => LOADS.to_vec(),
            (true, true) => LOADS_QUICK.to_vec(),
        }
    }

    fn sections(&self) -> Vec<Section> {
        let mut sections = match (self.sections.is_empty(), self.quick) {
            (false, _) => self.sections.clone(),
            (true, false) => Section::USUAL.to_vec(),
            (true, true) => Section::QUICK.to_vec(),
        };
        if self.article && !sections.contains(&Section::Article) {
            sections.push(Section::Article);
        }
        sections
    }
}

/// Runs the comparison, shows its progress, and writes the results.
pub fn run(options: &Options) -> Result<Ending, String> {
    if let Some(record) = &options.from {
        let files = keep::Files::again(record, options.markdown.as_deref())?;
        let written: String = files.written().map(|file| format!("{}\n", file.display())).collect();
        console::out(&written)?;
        return Ok(Ending::Complete);
    }
    let limit = process::raise_files_limit().map_err(|error| error.to_string())?;
    let own = env::current_exe().map_err(|error| format!("cannot find the path of this program: {error}"))?;
    let cores = ground::cores_here()?;
    if let Some(coreloop) = options.coreloop.as_ref().filter(|coreloop| !coreloop.is_file()) {
        return Err(format!("no program at {}", coreloop.display()));
    }
    let wanted = wanted(options, &own)?;
    let mut notes = Vec::new();
    if cores.all.len() < 2 {
        notes.push(
            "There is only one core: server and client took turns on it, so these figures cannot be compared with \
             those of other machines, and the latencies say little."
                .to_owned(),
        );
    }
    if limit < 12_000 {
        notes.push(format!("A process may have {limit} files open here: idle connections may not be had."));
    }
    let machine = Machine::here();
    let began = clock::utc(machine.unix_time_s);
    let record = Record {
        format: FORMAT,
        command: env::args().collect(),
        began: began.clone(),
        took_s: 0.0,
        state: State::Running,
        machine,
        coreloop: String::new(),
        settings: Settings {
            rounds: options.rounds(),
            seconds: options.seconds(),
            warmup_s: options.warmup(),
            server_cores: cores.server.clone(),
            client_cores: cores.client.clone(),
            shared_cores: cores.shared.clone(),
            quick: options.quick,
            sections: options.sections().into_iter().map(Section::name).collect(),
        },
        peers: Vec::new(),
        left_out: Vec::new(),
        notes,
        capacity: Vec::new(),
        tails: Vec::new(),
        memory: Vec::new(),
        syscalls: Vec::new(),
        wrk: Vec::new(),
        article: Vec::new(),
        slow_mix: Vec::new(),
        beside_big: Vec::new(),
        overload: Vec::new(),
    };
    let date = began.split(' ').next().unwrap_or_default();
    let names = keep::Names {
        folder: options.record.as_deref(),
        json: options.json.as_deref(),
        page: options.report.as_deref(),
        markdown: options.markdown.as_deref(),
    };
    let files = keep::Files::new(names, date)?;
    let stop = Arc::new(AtomicBool::new(false));
    let _signals = {
        let stop = stop.clone();
        signals::on_stop(move |_| on_signal(&stop))
            .map_err(|error| format!("cannot watch for signals: {error}"))?
    };
    let ground = Ground {
        own,
        cores,
        stop,
        screen: screen::Screen::new(options.quiet),
        seconds: options.seconds(),
        warmup_s: options.warmup(),
    };
    if files.is_empty() {
        ground.screen.say("no file is written: name one with --record, --json, --report or --markdown");
    }
    for note in &record.notes {
        ground.screen.say(&format!("! {note}"));
    }
    run::Comparison::new(options, ground, record, files).run(wanted)
}

/// Handles a signal: the first ends the comparison, the second the process and all its children.
fn on_signal(stop: &AtomicBool) {
    if stop.swap(true, Ordering::Relaxed) {
        process::end_all();
        // SAFETY: no pointers; this process does nothing after the call.
        unsafe { libc::_exit(130) };
    }
    console::note("\nstopping: what was measured is kept; a second signal ends the program at once");
}

/// Returns the requested subjects: coreloop first, then the peers by name.
fn wanted(options: &Options, own: &Path) -> Result<Vec<Found>, String> {
    let folder = options.peers.clone().unwrap_or_else(peers_here);
    let peers = subject::peers(&folder)?;
    let fit: Vec<Subject> = peers.iter().filter_map(|found| found.as_ref().ok()).cloned().collect();
    let coreloop = subject::coreloop(&run::coreloop_at(options, own), &fit);
    let all: Vec<Found> = coreloop.into_iter().map(Ok).chain(peers).collect();
    let name = |found: &Found| match found {
        Ok(subject) => subject.name.clone(),
        Err((name, _)) => name.clone(),
    };
    let known: Vec<String> = all.iter().map(name).collect();
    for part in options.only.iter().chain(&options.skip) {
        if !known.iter().any(|known| known.starts_with(part.as_str())) {
            return Err(format!("no server's name begins with {part:?}; known: {}", known.join(", ")));
        }
    }
    let has = |parts: &[String], name: &str| parts.iter().any(|part| name.starts_with(part.as_str()));
    let is_wanted = |found: &Found| {
        let name = name(found);
        (options.only.is_empty() || has(&options.only, &name)) && !has(&options.skip, &name)
    };
    let wanted: Vec<Found> = all.into_iter().filter(is_wanted).collect();
    if wanted.is_empty() { Err("--only and --skip leave no server".into()) } else { Ok(wanted) }
}

/// Returns the repository's root: from the location of this crate if cargo provides it, otherwise the current folder.
fn workspace() -> Option<PathBuf> {
    let by_cargo = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let by_cargo = by_cargo.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let here = env::current_dir().ok();
    by_cargo.into_iter().chain(here).find(|home| home.join("cli/Cargo.toml").is_file())
}

fn peers_here() -> PathBuf {
    workspace().unwrap_or_default().join("bench/peers")
}
