//! `loadgen overload`: offers a server multiples of its capacity, and measures its goodput: the answers per second that
//! reach the caller within a deadline.
//!
//! The capacity is that of a closed loop. Each multiple is one open loop, run by the workers of an ordinary run.
//! `figures` computes, `text` and `page` show the result.

pub mod figures;

mod page;
mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::headers::{self, HeaderOptions};
use super::link::IN_FLIGHT_MAX;
use super::mix::{Body, Call};
use super::options::{check_pins, depth_of};
use super::run::{Measured, Plan};
use super::schedule::Arrivals;
use super::speech::{AddressProtocol, Speech};
use super::target::Target;
use super::tls::TlsOptions;
use super::verdict::Verdict;
use super::{Ending, cut_before_anything, preflight, progress, units, watch_signals};
use crate::console;
use crate::machine::Machine;
use crate::output::OutputFile;
use crate::request::from_hex;
use figures::{Capacity, Costs, Step};

/// Number of windows whose median is the capacity.
const CAPACITY_WINDOWS: usize = 3;
/// Calls in flight on all connections together while the capacity is measured, without `--depth`.
const CAPACITY_IN_FLIGHT: u32 = 256;
/// How long a step waits at its end for missing answers, unless twice the deadline is longer.
const DRAIN_MIN: Duration = Duration::from_secs(1);
/// A call that waited in the generator states what is left of its deadline, in steps of this part of it.
const DEADLINE_STEPS: u32 = 50;
/// Length of a measurement of a lone caller's latency, which shows whether the server still works off a backlog.
const LONE_CALLER: Duration = Duration::from_millis(200);
/// The server is idle again if a lone caller's median is at most twice that of the beginning, plus this.
const IDLE_MARGIN_NS: u64 = 500_000;
/// How long a step waits for that.
const IDLE_WAIT_MAX: Duration = Duration::from_secs(30);
/// A server that uses a smaller share of a core than this is not at its limit.
const IDLE_SERVER_SHARE: f64 = 0.9;
/// The largest number of factors, and the largest factor.
const FACTORS_MAX: usize = 64;
const FACTOR_MAX: f64 = 1000.0;

/// Which server, which call, which loads.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address of the server, as for a run: host:port or unix:PATH, with the protocol in front.
    #[arg(value_name = "ADDR")]
    pub address: String,
    /// Full name of the method.
    #[arg(long, default_value = "Users.List", help_heading = "Calls")]
    pub method: String,
    /// Argument of the call, as JSON. Default for Users.List: 100.
    #[arg(long, value_name = "JSON", conflicts_with = "body_hex", help_heading = "Calls")]
    pub body: Option<String>,
    /// Encoded argument in hexadecimal. Native frames and grpc only.
    #[arg(long, value_name = "HEX", help_heading = "Calls")]
    pub body_hex: Option<String>,
    /// Codec of the argument in native frames. Default: the method's usual one; with --body-hex raw.
    #[arg(long, help_heading = "Calls")]
    pub codec: Option<String>,
    /// The entries sent with every call.
    #[command(flatten, next_help_heading = "Calls")]
    pub headers: HeaderOptions,
    /// The TLS of the connections.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// An answer is in time if it arrives within this time, counted from when its call was due.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "50ms",
        value_parser = units::some_duration,
        help_heading = "Calls"
    )]
    pub deadline: Duration,
    /// Whether the calls state the deadline to the server: yes, no, or both, one after the other. gob and jsonrpc
    /// cannot carry a deadline.
    #[arg(long, value_enum, default_value = "both", help_heading = "Calls")]
    pub state_deadline: StateDeadline,
    /// The offered loads, as multiples of the capacity.
    #[arg(
        long,
        value_name = "FACTOR,…",
        value_delimiter = ',',
        default_value = "0.5,0.8,1,1.3,2,3,5,6",
        value_parser = factor,
        help_heading = "Load"
    )]
    pub factors: Vec<f64>,
    /// The capacity in calls per second (200, 50k), in place of measuring it.
    #[arg(long, value_name = "RATE", value_parser = units::rate, help_heading = "Load")]
    pub capacity: Option<f64>,
    /// Number of connections.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=60_000),
        help_heading = "Load"
    )]
    pub connections: u32,
    /// Calls in flight on each connection: exactly this many while the capacity is measured, at most in the steps.
    ///
    /// Default: 256 on all connections together while the capacity is measured, and about a million in the steps. With
    /// a protocol that answers in order (http) set it to 1, and --connections high.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(IN_FLIGHT_MAX)),
        help_heading = "Load"
    )]
    pub depth: Option<u32>,
    /// Spacing of the calls.
    #[arg(long, value_enum, default_value = "fixed", help_heading = "Load")]
    pub arrivals: Arrivals,
    /// Length of the measured window of each step.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5s",
        value_parser = units::some_duration,
        help_heading = "Load"
    )]
    pub duration: Duration,
    /// Length of the warm-up before it, at the same load.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration, help_heading = "Load")]
    pub warmup: Duration,
    /// Seed of Poisson gaps.
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    pub seed: u64,
    /// Threads of the generator; the connections are distributed over them.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=256),
        help_heading = "Generator"
    )]
    pub threads: u32,
    /// Pin the threads to these cores, in turn.
    #[arg(long, value_name = "CORE", value_delimiter = ',', help_heading = "Generator")]
    pub pin: Vec<usize>,
    /// Process ID of the server: measure what handling and refusing a call costs it, and draw the ceiling.
    #[arg(long, value_name = "PID", help_heading = "Generator")]
    pub watch: Option<u32>,
    /// Write all figures to this file, as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub json: Option<PathBuf>,
    /// Write a page with plots to this file, as HTML.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub report: Option<PathBuf>,
    /// Write the plot of goodput to this file, as SVG.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub picture: Option<PathBuf>,
    /// Show no progress line.
    #[arg(long, help_heading = "Results")]
    pub quiet: bool,
}

/// Whether the calls state the deadline to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StateDeadline {
    /// First all loads with the deadline, then all without.
    Both,
    /// The server knows the deadline.
    Yes,
    /// Only the caller knows the deadline.
    No,
}

/// The effective options.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// The protocol.
    pub protocol: AddressProtocol,
    /// Whether the connections have TLS.
    pub tls: bool,
    /// Address of the server.
    pub target: String,
    /// The method.
    pub method: String,
    /// The codec of its argument.
    pub codec: String,
    /// The deadline, in ns.
    pub deadline_ns: u64,
    /// Number of connections.
    pub connections: u32,
    /// Maximum calls in flight on each connection in the steps.
    pub depth: u32,
    /// Calls in flight on each connection while the capacity was measured.
    pub capacity_depth: u32,
    /// The spacing of the calls.
    pub arrivals: Arrivals,
    /// Length of the warm-up of each step, in seconds.
    pub warmup_s: f64,
    /// Length of the window of each step, in seconds.
    pub duration_s: f64,
    /// Threads of the generator.
    pub threads: usize,
    /// The threads' cores, if they were pinned.
    pub cores: Vec<usize>,
    /// The seed.
    pub seed: u64,
    /// The server's process, if it was watched.
    pub watch: Option<u32>,
}

/// The results.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    /// This program's version.
    pub version: &'static str,
    /// The command line.
    pub command: Vec<String>,
    /// The machine, and the time of the run.
    pub machine: Machine,
    /// The options.
    pub settings: Settings,
    /// The capacity.
    pub capacity: Capacity,
    /// The server's CPU time for a call, if it is known.
    pub costs: Option<Costs>,
    /// Why there is no ceiling.
    pub no_ceiling: Option<String>,
    /// The steps, in the order in which they were made.
    pub steps: Vec<Step>,
    /// The caveats, in sentences.
    pub remarks: Vec<String>,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.trim().parse::<f64>().ok().filter(|factor| (0.001..=FACTOR_MAX).contains(factor));
    factor.ok_or_else(|| format!("`{text}` is no factor: a number between 0.001 and {FACTOR_MAX}"))
}

/// Runs it, prints the result and writes the files. An error is one line of text.
pub fn run(options: &Options) -> Result<Ending, String> {
    let files = [&options.json, &options.report, &options.picture].map(|path| path.as_deref());
    let [json, report, picture] = OutputFile::open_all(files)?;
    let stop = Arc::new(AtomicBool::new(false));
    let _signals = watch_signals(&stop)?;
    let mut trial = Trial::new(options, &stop)?;
    let (overload, ending) = match trial.measure() {
        Err(why) if trial.is_stopped() => return Ok(cut_before_anything(&why)),
        result => result?,
    };
    let shown = console::out(&text::render(&overload));
    if let Some(json) = json {
        let text = serde_json::to_string_pretty(&overload).map_err(|error| error.to_string())?;
        json.write(&(text + "\n"))?;
    }
    if let Some(report) = report {
        let path = report.path().to_owned();
        report.write(&page::render(&overload)?)?;
        console::note(&format!("report: {}", path.display()));
    }
    if let Some(picture) = picture {
        picture.write(&page::picture(&overload)?)?;
    }
    shown?;
    Ok(ending)
}

/// The measurements of one server.
struct Trial<'a> {
    options: &'a Options,
    stop: Arc<AtomicBool>,
    /// The calls that state the deadline; `None` if no step makes them.
    stated: Option<Speech>,
    /// The calls that do not.
    unstated: Speech,
    codec: String,
    plan: Plan,
    remarks: Vec<String>,
}

impl<'a> Trial<'a> {
    fn new(options: &'a Options, stop: &Arc<AtomicBool>) -> Result<Trial<'a>, String> {
        if options.factors.len() > FACTORS_MAX {
            return Err(format!("--factors: at most {FACTORS_MAX}, and it has {}", options.factors.len()));
        }
        check_pins(&options.pin)?;
        crate::process::raise_files_limit().map_err(|error| error.to_string())?;
        let (speaks, target) = Target::of(&options.address, &options.tls)?;
        let entries = options.headers.entries(speaks)?;
        let body = options.body()?;
        let speech = |times_left_us: &[u32]| {
            let codec = options.codec.as_deref();
            let call =
                |time_left_us: &u32| Call::new(speaks, &options.method, 1, codec, &body, *time_left_us);
            let calls: Vec<Call> = times_left_us.iter().map(call).collect::<Result<_, String>>()?;
            let codec = calls.first().map_or(String::new(), |call| call.codec.clone());
            Ok::<_, String>((Speech::new(speaks, &calls, &target, &entries)?, codec))
        };
        let mut remarks = Vec::new();
        let is_able = speaks.carries_deadlines();
        let stated = match options.state_deadline {
            StateDeadline::Yes if !is_able => {
                return Err(format!("{speaks}: cannot carry a deadline: leave --state-deadline out"));
            }
            StateDeadline::Both if !is_able => {
                remarks.push(format!("{speaks} cannot carry a deadline: only the caller knew it."));
                None
            }
            StateDeadline::Both | StateDeadline::Yes => Some(speech(&options.times_left_us())?.0),
            StateDeadline::No => None,
        };
        let (unstated, codec) = speech(&[0])?;
        let result = preflight::check_methods(speaks, &target, &entries, [options.method.as_str()]);
        result.or_else(|why| if stop.load(Ordering::Relaxed) { Ok(()) } else { Err(why) })?;
        let plan = options.plan(speaks, target);
        Ok(Trial { options, stop: stop.clone(), stated, unstated, codec, plan, remarks })
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Measures the capacity and all steps. An error means that nothing was measured.
    fn measure(&mut self) -> Result<(Overload, Ending), String> {
        let idle_ns = self.lone_caller_ns()?;
        let capacity = match self.options.capacity {
            Some(rate) => Capacity::given(rate),
            None => self.capacity()?,
        };
        console::out(&text::capacity(&capacity, &self.options.method))?;
        let mut ending = Ending::Complete;
        let mut steps = Vec::new();
        let of_all = [self.stated.is_some(), false];
        let passes = match self.options.state_deadline {
            StateDeadline::Yes => &of_all[..1],
            StateDeadline::Both if self.stated.is_some() => &of_all[..],
            StateDeadline::Both | StateDeadline::No => &of_all[1..],
        };
        let loads = passes.iter().flat_map(|pass| self.options.factors.iter().map(|factor| (*pass, *factor)));
        for (states_deadline, factor) in loads {
            if let Err(why) = self.settle(idle_ns) {
                ending = self.ended_early(&why);
                break;
            }
            match self.step(factor, capacity.calls_per_s, states_deadline) {
                Ok((step, verdict)) => {
                    if verdict.cut_short {
                        ending = Ending::Cut;
                        break;
                    }
                    console::out(&text::step_line(&step))?;
                    steps.push(step);
                    if verdict.server_gone {
                        ending = self.ended_early("the server could not be reached any more");
                        break;
                    }
                }
                Err(why) => {
                    ending = self.ended_early(&why);
                    break;
                }
            }
        }
        if ending == Ending::Cut {
            self.remarks.push("The run was cut short: only the finished steps are shown.".into());
        }
        if ending == Ending::Complete && steps.iter().all(|step| step.ok_latency.is_none()) {
            ending = Ending::AllFailed;
        }
        Ok((self.overload(capacity, steps), ending))
    }

    /// Combines the measurements, with the ceiling of each step.
    fn overload(&mut self, capacity: Capacity, mut steps: Vec<Step>) -> Overload {
        let costs = Costs::of(&capacity, &steps);
        if let Ok(costs) = &costs {
            steps.iter_mut().for_each(|step| step.ceiling = Some(costs.ceiling(step.factor)));
        }
        if capacity.failed_share > 0.0 {
            let share = units::percent(capacity.failed_share);
            self.remarks.push(format!("{share} of the answers were errors while the capacity was measured."));
        }
        if capacity.generator_share >= super::verdict::SATURATED_SHARE {
            self.remarks.push(format!(
                "The generator was saturated while the capacity was measured (a thread used {} of its core): the \
                 capacity may be the generator's limit.",
                units::percent(capacity.generator_share)
            ));
        }
        if let Some(share) = capacity.server_share().filter(|share| *share < IDLE_SERVER_SHARE) {
            self.remarks.push(format!(
                "The server used {} of a core while the capacity was measured, so something else limited it: the \
                 ceiling applies only if the server's CPU is the limit.",
                units::percent(share)
            ));
        }
        self.remarks.extend(text::doubts(&steps));
        Overload {
            version: env!("CARGO_PKG_VERSION"),
            command: headers::redacted(std::env::args()),
            machine: Machine::here(),
            settings: self.settings(),
            no_ceiling: costs.as_ref().err().cloned(),
            costs: costs.ok(),
            capacity,
            steps,
            remarks: std::mem::take(&mut self.remarks),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            protocol: self.plan.speaks,
            tls: self.plan.target.tls.is_some(),
            target: self.plan.target.to_string(),
            method: self.options.method.clone(),
            codec: self.codec.clone(),
            deadline_ns: self.options.deadline.as_nanos() as u64,
            connections: self.plan.connections,
            depth: self.plan.depth,
            capacity_depth: self.options.capacity_depth(),
            arrivals: self.plan.arrivals,
            warmup_s: self.plan.warmup.as_secs_f64(),
            duration_s: self.plan.duration.as_secs_f64(),
            threads: self.plan.threads.min(self.plan.connections as usize),
            cores: self.plan.cores.clone(),
            seed: self.plan.seed,
            watch: self.plan.watch,
        }
    }

    fn ended_early(&mut self, why: &str) -> Ending {
        if self.is_stopped() {
            return Ending::Cut;
        }
        self.remarks.push(format!("The run ended early: {why}."));
        Ending::Incomplete
    }

    fn capacity(&mut self) -> Result<Capacity, String> {
        let plan = Plan { depth: self.options.capacity_depth(), rate: None, ..self.plan.clone() };
        let mut windows = Vec::new();
        for _ in 0..CAPACITY_WINDOWS {
            let window = self.run(&self.unstated, &plan)?;
            if window.is_cut {
                return Err("stopped while the capacity was measured".into());
            }
            windows.push(window);
        }
        Capacity::of(&windows).ok_or_else(|| {
            let messages = windows.iter().flat_map(|window| window.messages.iter().flatten());
            let first = messages.into_iter().next().map_or(String::new(), |message| format!(": {message}"));
            format!("no call succeeded while the capacity was measured{first}")
        })
    }

    fn step(&self, factor: f64, capacity: f64, states_deadline: bool) -> Result<(Step, Verdict), String> {
        let deadline_ns = self.options.deadline.as_nanos() as u64;
        let deadline_steps = if states_deadline { DEADLINE_STEPS } else { 0 };
        let plan = Plan {
            rate: Some(factor * capacity),
            deadlines_ns: vec![deadline_ns; deadline_steps.max(1) as usize].into(),
            deadline_steps,
            ..self.plan.clone()
        };
        let speech = self.stated.as_ref().filter(|_| states_deadline).unwrap_or(&self.unstated);
        let measured = self.run(speech, &plan)?;
        let verdict = Verdict::of(&plan, &measured);
        let mut step = Step::of(factor, capacity, states_deadline, &measured);
        step.judge(&verdict, self.options.deadline);
        Ok((step, verdict))
    }

    /// Waits until the server has worked off the backlog of the step before.
    fn settle(&mut self, idle_ns: u64) -> Result<(), String> {
        let until = Instant::now() + IDLE_WAIT_MAX;
        loop {
            let now_ns = self.lone_caller_ns()?;
            if now_ns <= 2 * idle_ns + IDLE_MARGIN_NS {
                return Ok(());
            }
            if Instant::now() >= until {
                self.remarks.push(format!(
                    "The server was still busy {} after a step: a lone caller waited {}, and {} at the beginning. \
                     The next step began with its backlog.",
                    units::time(IDLE_WAIT_MAX.as_nanos() as f64),
                    units::time(now_ns as f64),
                    units::time(idle_ns as f64)
                ));
                return Ok(());
            }
        }
    }

    /// Returns the median latency of one caller with one call in flight.
    fn lone_caller_ns(&self) -> Result<u64, String> {
        let plan = Plan {
            connections: 1,
            depth: 1,
            rate: None,
            warmup: Duration::ZERO,
            duration: LONE_CALLER,
            watch: None,
            ..self.plan.clone()
        };
        let measured = self.run(&self.unstated, &plan)?;
        Ok(measured.methods.first().map_or(0, |method| method.latency_with_waiting().quantile(0.5)))
    }

    fn run(&self, speech: &Speech, plan: &Plan) -> Result<Measured, String> {
        let line = progress::Line::new(plan.warmup + plan.duration, self.options.quiet, "calls");
        speech.measure(plan, &self.stop, &mut |live| line.show(live))
    }
}

impl Options {
    /// Returns the source of the argument.
    fn body(&self) -> Result<Body, String> {
        Ok(match (&self.body, &self.body_hex) {
            (Some(json), _) => Body::Json(json.clone()),
            (None, Some(hex)) => {
                Body::Bytes(from_hex(hex).ok_or("--body-hex: not pairs of hexadecimal digits")?)
            }
            (None, None) if self.method == "Users.List" => Body::Json("100".into()),
            (None, None) => Body::Usual,
        })
    }

    /// Returns what is left of the deadline after each of its steps, in the protocol's unit, µs.
    fn times_left_us(&self) -> Vec<u32> {
        let whole = self.deadline.as_micros();
        let left = |step| whole * u128::from(DEADLINE_STEPS - step) / u128::from(DEADLINE_STEPS);
        (0..DEADLINE_STEPS).map(|step| u32::try_from(left(step)).unwrap_or(u32::MAX).max(1)).collect()
    }

    /// Returns the calls in flight on each connection while the capacity is measured.
    fn capacity_depth(&self) -> u32 {
        self.depth.unwrap_or(CAPACITY_IN_FLIGHT.div_ceil(self.connections))
    }

    /// Returns the plan of a step, without its rate.
    fn plan(&self, speaks: AddressProtocol, target: Target) -> Plan {
        Plan {
            speaks,
            target,
            weights: vec![1],
            connections: self.connections,
            depth: depth_of(self.depth, true, self.connections),
            rate: None,
            arrivals: self.arrivals,
            warmup: self.warmup,
            duration: self.duration,
            drain: DRAIN_MIN.max(2 * self.deadline),
            deadlines_ns: Arc::from([]),
            deadline_steps: 0,
            threads: self.threads as usize,
            cores: self.pin.clone(),
            spin: false,
            seed: self.seed,
            watch: self.watch,
            trace_one_in: 0,
            calls_first: false,
            list: None,
        }
    }
}
