//! The load generator: closed and open loops against a server. Latency counts from when a call was due.
//!
//! `options` makes a plan, `run` executes it with one or more threads (`worker`, `link`), which count (`tally`).
//! `outcome` is the result, `verdict` its caveats; `text` and `page` show it. `schedule`, `protocol` and `find_max`
//! use neither clocks nor sockets. docs/load-testing.md explains the usage.

pub mod diff;
pub mod find_max;
pub mod fleet;
pub mod idle;
pub mod mix;
pub mod outcome;
pub mod overload;
pub mod protocol;
pub mod replay;
pub mod schedule;
pub mod speech;
pub mod streams;
pub mod units;

mod ask;
mod command;
mod headers;
mod job;
mod link;
mod load;
mod objective;
mod options;
mod page;
pub(crate) mod plots;
mod preflight;
pub(crate) mod progress;
pub(crate) mod run;
mod scrape;
mod socket;
mod tally;
mod target;
mod text;
mod tls;
mod trace;
mod usage;
pub(crate) mod verdict;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coreloop::signals;
use coreloop::{Server, demo};
use serde::Serialize;

use find_max::{Probe, Search};
use headers::Entry;
use idle::Watched;
use mix::Call;
use objective::ObjectiveResult;
use run::Plan;
use scrape::Scraper;
use speech::{AddressProtocol, Speech};
use streams::StreamCall;
use streams::counts::StreamFigures;
use target::Target;
use tls::TlsOptions;
use units::Promise;

use crate::console;
use crate::output::OutputFile;

pub use ask::Ask;
pub use command::{Command, exit_code};
pub use options::Options;
pub use outcome::{Figures, Outcome};
pub use schedule::Arrivals;

/// The exit statuses, as `--help` lists them.
pub const EXIT_STATUS_HELP: &str = "\
Exit status:
  0    the run is complete, and --slo (if given) is met
  1    the run failed: no connection, no such method, no call succeeded, no rate met --slo, a file cannot be written,
       an option does not fit the protocol or the machine
  2    the arguments cannot be read
  3    --slo is missed
  4    the run is incomplete: the server was gone at the end, calls had no answer or were never sent, or streams had
       no end
  130  a signal ended the run; what had been measured is reported";

/// The first rate of a search without `--rate`.
const FIRST_RATE: f64 = 1000.0;

/// Timeout of the connection attempt to a server that does not list its methods.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// How a run ended; determines the program's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The run ended as planned. Exit status 0.
    Complete,
    /// No call succeeded, or no rate met the objective. Exit status 1.
    AllFailed,
    /// The objective of `--slo` was missed. Exit status 3.
    ObjectiveMissed,
    /// The server was unreachable at the end, or calls had no answer or were never sent. Exit status 4.
    Incomplete,
    /// A signal ended the run. Exit status 130.
    Cut,
}

/// The contents of `--json`: the result, and the probes of a search.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    #[serde(skip_serializing_if = "<[Probe]>::is_empty")]
    probes: &'a [Probe],
    #[serde(skip_serializing_if = "Option::is_none")]
    found_rate: Option<f64>,
}

/// Runs as the options specify, prints the result and writes the files. An error is one line of text.
pub fn run(options: &Options) -> Result<Ending, String> {
    if let Some(url) = options.address.as_deref().filter(|address| AddressProtocol::is_resolver_url(address))
    {
        let stop = Arc::new(AtomicBool::new(false));
        let _signals = watch_signals(&stop)?;
        if options.trace.is_some() || options.metrics.is_some() {
            return Err("--trace and --metrics: need the address of one server, not a resolver URL".into());
        }
        return fleet::run(options, url, &stop);
    }
    if options.idempotent {
        return Err("--idempotent: only a resolver URL's client repeats calls".into());
    }
    if options.metrics.is_some() && options.address.is_none() {
        return Err(
            "--metrics: the demo server of this process has no admin listener: give an address".into()
        );
    }
    let speaks =
        options.address.as_deref().map(|address| AddressProtocol::split(address).0).unwrap_or_default();
    if options.streams.streams.is_some() && speaks != AddressProtocol::Native {
        return Err(format!("{speaks}: has no streams here: use native:"));
    }
    let calls = options.calls(speaks)?;
    let entries = options.headers.entries(speaks)?;
    let target = match options.address.as_deref() {
        Some(address) => Some(Target::of(address, &options.tls)?.1),
        None => {
            options.tls.refuse("the demo server of this process")?;
            None
        }
    };
    crate::process::raise_files_limit().map_err(|error| error.to_string())?;
    let [json, report] = OutputFile::open_all([options.json.as_deref(), options.report.as_deref()])?;
    let stop = Arc::new(AtomicBool::new(false));
    let _signals = watch_signals(&stop)?;
    let (target, own_server) = match target {
        Some(target) => (target, None),
        None => {
            let (target, server) = start_demo()?;
            (target, Some(server))
        }
    };
    let plan = options.plan(speaks, target, &calls)?;
    let speech = match options.streams.streams {
        Some(streams) => {
            Speech::Streams(Arc::new(stream_call(options, &plan, &entries, &calls[0], streams)?))
        }
        None => {
            check_methods(&plan, &entries, &calls, &stop)?;
            match options.trace {
                Some(_) => Speech::with_traces(speaks, &calls, &plan.target, &entries)?,
                None => Speech::new(speaks, &calls, &plan.target, &entries)?,
            }
        }
    };
    let load = Load {
        speech,
        plan,
        calls,
        own_server: own_server.is_some(),
        options,
        stop,
        files: ResultFiles { json, report },
    };
    let ending = match &options.slo {
        Some(objective) if options.find_max => load.search(objective),
        _ => load.once(),
    };
    if let Some(server) = own_server {
        server.shutdown();
    }
    ending
}

/// Encodes the streams that the options specify. Their shape is the server's own description of the method.
fn stream_call(
    options: &Options,
    plan: &Plan,
    entries: &[Entry],
    call: &Call,
    streams: u32,
) -> Result<StreamCall, String> {
    let listed = preflight::shape_of(&plan.target, entries, &call.method)?;
    let shape = match (options.streams.shape, listed) {
        (Some(given), Some(listed)) if given != listed => {
            return Err(format!("--shape: the server lists {} as {}", call.method, listed.name()));
        }
        (Some(shape), _) | (None, Some(shape)) => shape,
        (None, None) => {
            let reached = plan.target.connect_once(CONNECT_PATIENCE);
            reached.map_err(|error| format!("cannot connect to {}: {error}", plan.target))?;
            return Err(
                "the server does not list its methods: give --shape server, client or bidirectional".into()
            );
        }
    };
    let is_open_loop = plan.rate.is_some() || options.find_max;
    let settings = options.streams.settings(shape, streams, plan.connections, plan.depth, is_open_loop)?;
    StreamCall::new(call, entries, settings)
}

/// Checks the methods, see [`preflight`]. After a signal the run itself reports that it was stopped.
fn check_methods(plan: &Plan, entries: &[Entry], calls: &[Call], stop: &AtomicBool) -> Result<(), String> {
    let methods = calls.iter().map(|call| call.method.as_str());
    match preflight::check_methods(plan.speaks, &plan.target, entries, methods) {
        Err(_) if stop.load(Ordering::Relaxed) => Ok(()),
        result => result,
    }
}

/// Lets signals stop the run as long as the returned value lives.
fn watch_signals(stop: &Arc<AtomicBool>) -> Result<signals::WatchedSignals, String> {
    let stop = stop.clone();
    signals::on_stop(move |_| on_signal(&stop)).map_err(|error| format!("cannot watch for signals: {error}"))
}

/// Handles a signal: the first ends the run, the second the process.
fn on_signal(stop: &AtomicBool) {
    if stop.swap(true, Ordering::Relaxed) {
        // SAFETY: no pointers; this process does nothing after the call.
        unsafe { libc::_exit(130) };
    }
}

fn start_demo() -> Result<(Target, Server), String> {
    let server = demo::services(Server::builder()).listen("127.0.0.1:0").start();
    let server = server.map_err(|error| format!("cannot start the demo server: {error}"))?;
    let address =
        server.addresses().first().map(ToString::to_string).ok_or("the demo server listens nowhere")?;
    console::note(&format!(
        "no address given: the demo server runs in this process, at {address}; it and the generator share cores"
    ));
    Ok((Target::of(&address, &TlsOptions::default())?.1, server))
}

/// The open output files that the options name.
struct ResultFiles {
    json: Option<OutputFile>,
    report: Option<OutputFile>,
}

struct Load<'a> {
    options: &'a Options,
    plan: Plan,
    calls: Vec<Call>,
    speech: Speech,
    own_server: bool,
    stop: Arc<AtomicBool>,
    files: ResultFiles,
}

impl Load<'_> {
    fn measure(&self, plan: &Plan) -> Result<Outcome, String> {
        let unit = if self.options.streams.streams.is_some() { "messages" } else { "calls" };
        let line = progress::Line::new(plan.warmup + plan.duration, self.options.quiet, unit);
        // What a stream takes of the server's memory is of interest; that of calls is `idle`'s subject.
        let is_streams = matches!(self.speech, Speech::Streams(_));
        let mut memory = plan.watch.filter(|_| is_streams).map(Watched::begin);
        let scraper = self.options.metrics.as_deref().map(Scraper::start).transpose()?;
        let measured = self.speech.measure(plan, &self.stop, &mut |live| {
            if let Some(scraper) = scraper.as_ref().filter(|_| live.connecting.is_none()) {
                scraper.on_interval(live.elapsed_s - plan.warmup.as_secs_f64());
            }
            if live.is_measured {
                memory.iter_mut().for_each(Watched::read);
            }
            line.show(live);
        })?;
        let time_left_us = self.options.time_left_us();
        let mut outcome = Outcome::new(plan, &self.calls, self.own_server, time_left_us, &measured);
        if let Speech::Streams(call) = &self.speech {
            let mut streams = StreamFigures::of(call, plan, &measured, &mut outcome.verdict);
            // An unreadable process is remarked with its CPU time.
            streams.memory = memory.and_then(|watched| watched.growth(u64::from(streams.streams)).ok());
            outcome.streams = Some(streams);
        }
        if let Some(one_in) = self.options.trace {
            let console = self.options.metrics.as_deref();
            outcome.traces = Some(measured.traces.figures(&self.calls, one_in, measured.from_ns, console));
        }
        if let Some(scraper) = scraper {
            let scraped = scraper.finish()?;
            outcome.verdict.remarks.extend(scraped.remark());
            outcome.scraped = Some(scraped);
        }
        outcome.slo = self.options.slo.as_ref().map(|objective| ObjectiveResult::of(objective, &outcome));
        Ok(outcome)
    }

    fn once(self) -> Result<Ending, String> {
        let outcome = match self.measure(&self.plan) {
            Err(why) if self.stop.load(Ordering::Relaxed) => return Ok(cut_before_anything(&why)),
            result => result?,
        };
        let shown = console::out(&text::render(&outcome));
        self.files.write(&outcome, None, &[], None)?;
        shown?;
        Ok(ending_of(&outcome))
    }

    fn search(self, objective: &Promise) -> Result<Ending, String> {
        let mut search = Search::new(self.plan.rate.unwrap_or(FIRST_RATE));
        let mut probes = Vec::new();
        let (mut best, mut last) = (None, None);
        let mut trouble = None;
        while let Some(rate) = search.next_rate() {
            let plan = Plan { rate: Some(rate), ..self.plan.clone() };
            let outcome = match self.measure(&plan) {
                // The run was stopped, or the server was gone, before this probe measured anything: the earlier
                // probes count.
                Err(why) if !probes.is_empty() => {
                    trouble = Some(why).filter(|_| !self.stop.load(Ordering::Relaxed));
                    break;
                }
                Err(why) if self.stop.load(Ordering::Relaxed) => return Ok(cut_before_anything(&why)),
                result => result?,
            };
            let probe = Probe::of(objective, rate, &outcome);
            if outcome.verdict.cut_short {
                last.get_or_insert(outcome);
                break;
            }
            console::out(&(probe.line() + "\n"))?;
            search.on_probe(probe.kept);
            let (kept, gone) = (probe.kept, outcome.verdict.server_gone);
            probes.push(probe);
            if kept && best.as_ref().is_none_or(|best: &Outcome| best.settings.rate < Some(rate)) {
                best = Some(outcome);
            } else {
                last = Some(outcome);
            }
            if gone {
                trouble = Some("the server could not be reached any more".into());
                break;
            }
        }
        let is_cut = self.stop.load(Ordering::Relaxed);
        let found = search.found();
        let mut text = match found {
            Some(rate) => {
                format!("\nhighest rate that met the objective: {} calls/s\n", units::count(rate.round()))
            }
            None => "\nno rate that was tried met the objective\n".into(),
        };
        if is_cut {
            text += "! The search was cut short.\n";
        }
        if let Some(why) = &trouble {
            text += &format!("! The search ended early: {why}.\n");
        }
        if probes.iter().any(|probe| !probe.kept && probe.doubtful) {
            text += "! In some probes that missed it the generator was at its own limit or was disturbed: the server \
                     may do more.\n";
        }
        let shown = best.or(last);
        if let Some(outcome) = &shown {
            text += &format!("\n{}", text::render(outcome));
        }
        let printed = console::out(&text);
        if let Some(outcome) = &shown {
            self.files.write(outcome, Some(objective), &probes, found)?;
        }
        printed?;
        Ok(match (is_cut, found, trouble) {
            (true, ..) => Ending::Cut,
            (false, None, _) => Ending::AllFailed,
            (false, Some(_), Some(_)) => Ending::Incomplete,
            (false, Some(_), None) => Ending::Complete,
        })
    }
}

impl ResultFiles {
    fn write(
        self,
        outcome: &Outcome,
        objective: Option<&Promise>,
        probes: &[Probe],
        found_rate: Option<f64>,
    ) -> Result<(), String> {
        if let Some(json) = self.json {
            let record = Record { outcome, probes, found_rate };
            let text = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
            json.write(&(text + "\n"))?;
        }
        if let Some(report) = self.report {
            let path = report.path().to_owned();
            report.write(&page::render(outcome, objective, probes)?)?;
            console::note(&format!("report: {}", path.display()));
        }
        Ok(())
    }
}

/// Returns how the run ended; the most severe condition wins.
fn ending_of(outcome: &Outcome) -> Ending {
    let verdict = &outcome.verdict;
    let is_slo_missed = outcome.slo.as_ref().is_some_and(|slo| !slo.met);
    if verdict.cut_short {
        Ending::Cut
    } else if verdict.all_failed {
        Ending::AllFailed
    } else if verdict.incomplete {
        Ending::Incomplete
    } else if is_slo_missed {
        Ending::ObjectiveMissed
    } else {
        Ending::Complete
    }
}

/// Reports a run that was stopped before anything was measured. Returns the ending of a cut run.
fn cut_before_anything(why: &str) -> Ending {
    console::note(&format!("loadgen: {why}"));
    Ending::Cut
}
