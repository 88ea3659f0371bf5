//! The load generator: closed and open loops against a server, with latency counted from when a call was due.
//!
//! `options` makes a plan, `run` carries it out with one or more threads (`worker`, `link`), which count
//! (`tally`); `outcome` is the result, `verdict` what stands against it, `text` and `page` show it. `schedule`,
//! `protocol` and `find_max` know neither clocks nor sockets. See docs/load-testing.md for how to use it.

pub mod diff;
pub mod find_max;
pub mod idle;
pub mod mix;
pub mod outcome;
pub mod protocol;
pub mod replay;
pub mod schedule;
pub mod speech;
pub mod units;

mod ask;
mod command;
mod job;
mod link;
mod options;
mod page;
pub(crate) mod plots;
pub(crate) mod progress;
pub(crate) mod run;
mod tally;
mod target;
mod text;
mod usage;
pub(crate) mod verdict;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coreloop::poller::signals;
use coreloop::{Server, demo};
use serde::Serialize;

use find_max::{Probe, Search};
use mix::Call;
use run::Plan;
use speech::{Speaks, Speech};
use target::Target;

use crate::output::OutputFile;

pub use ask::Ask;
pub use command::{Command, exit_code};
pub use options::Options;
pub use outcome::{Figures, Outcome};
pub use schedule::Arrivals;

/// Where a search begins if `--rate` does not say.
const FIRST_RATE: f64 = 1000.0;

/// How a run ended; the program's exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As planned.
    Complete,
    /// Not one call succeeded, or no rate kept the promise.
    AllFailed,
    /// A signal ended it.
    Cut,
}

/// What `--json` writes: the result, and the probes of a search.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    #[serde(skip_serializing_if = "<[Probe]>::is_empty")]
    probes: &'a [Probe],
    #[serde(skip_serializing_if = "Option::is_none")]
    found_rate: Option<f64>,
}

/// Runs as the options say, prints the result and writes the files. What is wrong comes as one line.
pub fn run(options: &Options) -> Result<Ending, String> {
    let (speaks, address) = options.address.as_deref().map(Speaks::split).unzip();
    let speaks = speaks.unwrap_or_default();
    let calls = options.calls(speaks)?;
    let target = address.map(Target::resolve).transpose()?;
    let files = OutputFiles::open(options)?;
    crate::process::raise_files_limit().map_err(|error| error.to_string())?;
    let stop = Arc::new(AtomicBool::new(false));
    let _signals = watch_signals(&stop)?;
    let (target, own_server) = match target {
        Some(target) => (target, None),
        None => {
            let (target, server) = start_demo()?;
            (target, Some(server))
        }
    };
    let load = Load {
        speech: Speech::new(speaks, &calls, &target)?,
        plan: options.plan(speaks, target, &calls)?,
        calls,
        own_server: own_server.is_some(),
        options,
        stop,
    };
    let ending = if options.find_max { load.search(files) } else { load.once(files) };
    if let Some(server) = own_server {
        server.shutdown();
    }
    ending
}

/// Has signals stop the run for as long as the result lives.
fn watch_signals(stop: &Arc<AtomicBool>) -> Result<signals::StopSignals, String> {
    let stop = stop.clone();
    signals::on_stop(move |_| on_signal(&stop)).map_err(|error| format!("cannot watch for signals: {error}"))
}

/// The first one ends the run, a second one the process.
fn on_signal(stop: &AtomicBool) {
    if stop.swap(true, Ordering::Relaxed) {
        // SAFETY: no pointers; nothing of this process is wanted any more.
        unsafe { libc::_exit(130) };
    }
}

fn start_demo() -> Result<(Target, Server), String> {
    let server = demo::services(Server::builder()).listen("127.0.0.1:0").start();
    let server = server.map_err(|error| format!("cannot start the demo server: {error}"))?;
    let address =
        server.addresses().first().map(ToString::to_string).ok_or("the demo server listens nowhere")?;
    eprintln!(
        "no address given: the demo server runs in this process, at {address}; it and the generator share cores"
    );
    Ok((Target::resolve(&address)?, server))
}

struct Load<'a> {
    options: &'a Options,
    plan: Plan,
    calls: Vec<Call>,
    speech: Speech,
    own_server: bool,
    stop: Arc<AtomicBool>,
}

/// The files that the result goes into.
struct OutputFiles {
    json: Option<OutputFile>,
    report: Option<OutputFile>,
}

impl OutputFiles {
    fn open(options: &Options) -> Result<OutputFiles, String> {
        let report = Some(&options.report).filter(|_| !options.no_report);
        Ok(OutputFiles {
            json: options.json.as_deref().map(OutputFile::open).transpose()?,
            report: report.map(|path| OutputFile::open(path)).transpose()?,
        })
    }

    fn write(self, outcome: &Outcome, probes: &[Probe], found_rate: Option<f64>) -> Result<(), String> {
        if let Some(file) = self.json {
            let record = Record { outcome, probes, found_rate };
            let text = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
            file.write(&(text + "\n"))?;
        }
        if let Some(file) = self.report {
            let path = file.path().to_owned();
            file.write(&page::render(outcome, probes)?)?;
            eprintln!("page of plots: {}", path.display());
        }
        Ok(())
    }
}

impl Load<'_> {
    fn measure(&self, plan: &Plan) -> Result<Outcome, String> {
        let line = progress::Line::new(plan.warmup + plan.duration, self.options.quiet);
        let measured = self.speech.measure(plan, &self.stop, &mut |live| line.show(live))?;
        Ok(Outcome::new(plan, &self.calls, self.own_server, self.options.time_left_us(), &measured))
    }

    fn once(&self, files: OutputFiles) -> Result<Ending, String> {
        let outcome = match self.measure(&self.plan) {
            Err(why) if self.stop.load(Ordering::Relaxed) => return Ok(cut_before_anything(&why)),
            result => result?,
        };
        print!("{}", text::render(&outcome));
        files.write(&outcome, &[], None)?;
        Ok(ending_of(&outcome))
    }

    fn search(&self, files: OutputFiles) -> Result<Ending, String> {
        let promise = self.options.slo.as_ref().ok_or("--find-max needs a promise: --slo p99=2ms")?;
        let mut search = Search::new(self.plan.rate.unwrap_or(FIRST_RATE));
        let mut probes = Vec::new();
        let (mut best, mut last) = (None, None);
        let mut trouble = None;
        while let Some(rate) = search.next_rate() {
            let plan = Plan { rate: Some(rate), ..self.plan.clone() };
            let outcome = match self.measure(&plan) {
                // Stopped, or the server has gone, before this probe had measured anything: those before it count.
                Err(why) if !probes.is_empty() => {
                    trouble = Some(why).filter(|_| !self.stop.load(Ordering::Relaxed));
                    break;
                }
                Err(why) if self.stop.load(Ordering::Relaxed) => return Ok(cut_before_anything(&why)),
                result => result?,
            };
            let probe = Probe::of(promise, rate, &outcome);
            if outcome.verdict.cut_short {
                last.get_or_insert(outcome);
                break;
            }
            println!("{}", probe.line());
            search.on_probe(probe.kept);
            let kept = probe.kept;
            probes.push(probe);
            if kept && best.as_ref().is_none_or(|best: &Outcome| best.settings.rate < Some(rate)) {
                best = Some(outcome);
            } else {
                last = Some(outcome);
            }
        }
        let is_cut = self.stop.load(Ordering::Relaxed);
        let found = search.found();
        match found {
            Some(rate) => {
                println!("\nhighest rate that kept the promise: {} calls/s", units::count(rate.round()))
            }
            None => println!("\nno rate that was tried kept the promise"),
        }
        if is_cut {
            println!("! The search was cut short.");
        }
        if let Some(why) = &trouble {
            println!("! The search ended early: {why}.");
        }
        if probes.iter().any(|probe| !probe.kept && probe.doubtful) {
            println!(
                "! In some probes that broke it the generator was at its own limit or was disturbed: the server may do more."
            );
        }
        if let Some(outcome) = best.or(last) {
            print!("\n{}", text::render(&outcome));
            files.write(&outcome, &probes, found)?;
        }
        Ok(match (is_cut, found) {
            (true, _) => Ending::Cut,
            (false, Some(_)) if trouble.is_none() => Ending::Complete,
            (false, _) => Ending::AllFailed,
        })
    }
}

fn ending_of(outcome: &Outcome) -> Ending {
    match (outcome.verdict.cut_short, outcome.verdict.all_failed) {
        (true, _) => Ending::Cut,
        (false, true) => Ending::AllFailed,
        (false, false) => Ending::Complete,
    }
}

/// A run that was ended before there was anything to tell: a line, and the exit code of one that was.
fn cut_before_anything(why: &str) -> Ending {
    eprintln!("loadgen: {why}");
    Ending::Cut
}
