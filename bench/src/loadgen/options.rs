//! The command line, and the plan that it makes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::link::IN_FLIGHT_MAX;
use super::mix::{self, Body, Call};
use super::run::Plan;
use super::schedule::Arrivals;
use super::speech::Speaks;
use super::target::Target;
use super::units::{self, Promise};
use crate::frame::BODY_BYTES_MAX;
use crate::request::from_hex;

/// Calls in flight, on all connections together, that an open loop without `--depth` allows: some 50 MB of the
/// generator's memory. Beyond it calls wait in the schedule, which needs none.
const OPEN_IN_FLIGHT_MAX: u32 = 1_000_000;

/// What to call, how often, and what to write about it.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The server: host:port or unix:PATH; in front of it what it speaks: `native:` (or nothing), `gob:` (Go's net/rpc),
    /// `gob-http:` (the same behind Go's rpc.HandleHTTP), `jsonrpc:` or `http:`. Without an address the demo server is started in this process.
    #[arg(value_name = "ADDR")]
    pub address: Option<String>,
    /// Full name of the method.
    #[arg(long, default_value = "Arith.AddFixed", conflicts_with = "mix")]
    pub method: String,
    /// The body, as JSON. For gob: it is turned into gob ({"$uint": 7}, {"$float": 1}, {"$bytes": "base64"} and
    /// {"$map": {…}} are what JSON has no word for).
    #[arg(long, value_name = "JSON", conflicts_with_all = ["body_bytes", "body_hex", "mix"])]
    pub body: Option<String>,
    /// A body of so many bytes.
    #[arg(long, value_name = "N", conflicts_with_all = ["body_hex", "mix"])]
    pub body_bytes: Option<usize>,
    /// The body in hexadecimal, for any codec of native frames.
    #[arg(long, value_name = "HEX", conflicts_with = "mix")]
    pub body_hex: Option<String>,
    /// The body from a file: the bytes of any codec of native frames, where --codec names one other than json;
    /// otherwise JSON, as with --body. For what is too long for a command line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body", "body_bytes", "body_hex", "mix"])]
    pub body_file: Option<PathBuf>,
    /// The body's codec in native frames: raw, fixed, json, compact, messagepack. Default: the method's usual one.
    #[arg(long)]
    pub codec: Option<String>,
    /// Several methods by weight, as in `Arith.AddFixed=99,Echo.Sleep:20=1`: `method[:JSON]=weight`.
    #[arg(long)]
    pub mix: Option<String>,
    /// Connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: u32,
    /// Calls in flight on each connection: in a closed loop always so many (default 1), with --rate at most.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(IN_FLIGHT_MAX)))]
    pub depth: Option<u32>,
    /// Calls per second (200, 50k, 1.5M): an open loop, whose latency counts from when a call was due.
    #[arg(long, value_parser = units::rate)]
    pub rate: Option<f64>,
    /// How the calls of an open loop arrive.
    #[arg(long, value_enum, default_value = "fixed")]
    pub arrivals: Arrivals,
    /// Length of the measured window (10, 10s, 500ms, 2m); of each probe with --find-max.
    #[arg(long, default_value = "10s", value_parser = units::some_duration)]
    pub duration: Duration,
    /// Length of the run-up before it, which does not count.
    #[arg(long, default_value = "2s", value_parser = units::duration)]
    pub warmup: Duration,
    /// Deadline stated with each call (native: and http: can); the server answers deadline_exceeded after it.
    #[arg(long, value_parser = units::some_duration)]
    pub timeout: Option<Duration>,
    /// How long the answers still owed at the end are waited for.
    #[arg(long, default_value = "5s", value_parser = units::duration)]
    pub drain: Duration,
    /// Threads of the generator, each with its share of the connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Pin the threads to these cores, in turn.
    #[arg(long, value_name = "CORE", value_delimiter = ',')]
    pub pin: Vec<usize>,
    /// Poll in place of sleeping: calls leave on time, at the price of a core for each thread.
    #[arg(long)]
    pub spin: bool,
    /// Also say what this process, the server, used of CPU time for a call.
    #[arg(long, value_name = "PID")]
    pub watch: Option<u32>,
    /// Seed of Poisson gaps and of the order of a mix.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Search for the highest rate at which the promise of --slo is kept; --rate is where the search begins.
    #[arg(long, requires = "slo", conflicts_with = "depth")]
    pub find_max: bool,
    /// The promise: p99=2ms, or several, as in p50=500us,p99.9=5ms,errors=0.1% (errors: 0 if not said).
    #[arg(long, requires = "find_max")]
    pub slo: Option<Promise>,
    /// Write every figure to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the page of plots to this file.
    #[arg(long, value_name = "FILE.html", default_value = "loadgen.html", conflicts_with = "no_report")]
    pub report: PathBuf,
    /// Write no page.
    #[arg(long)]
    pub no_report: bool,
    /// No progress while it runs.
    #[arg(long)]
    pub quiet: bool,
}

impl Options {
    /// What is called.
    pub fn calls(&self, speaks: Speaks) -> Result<Vec<Call>, String> {
        if self.timeout.is_some() && matches!(speaks, Speaks::Gob | Speaks::GobHttp | Speaks::JsonRpc) {
            return Err(format!("{speaks}: has no word for a deadline: leave --timeout out"));
        }
        let codec = self.codec.as_deref();
        if let Some(mix) = &self.mix {
            return mix::parse(speaks, mix, codec, self.time_left_us());
        }
        let body = match (&self.body, self.body_bytes, &self.body_hex, &self.body_file) {
            (Some(json), ..) => Body::Json(json.clone()),
            (None, Some(bytes), ..) => Body::Size(bytes),
            (None, None, Some(hex), _) => {
                Body::Bytes(from_hex(hex).ok_or("--body-hex: not pairs of hexadecimal digits")?)
            }
            (None, None, None, Some(file)) => {
                let is_text = speaks != Speaks::Native || codec.is_none_or(|codec| codec == "json");
                body_of(file, is_text).map_err(|why| format!("--body-file {}: {why}", file.display()))?
            }
            (None, None, None, None) => Body::Usual,
        };
        Ok(vec![Call::new(speaks, &self.method, 1, codec, &body, self.time_left_us())?])
    }

    /// The deadline as it goes over the wire.
    pub fn time_left_us(&self) -> u32 {
        // What the wire cannot state, 71 minutes, is no deadline that a run would see pass.
        self.timeout.map_or(0, |timeout| u32::try_from(timeout.as_micros()).unwrap_or(u32::MAX).max(1))
    }

    /// How it is run.
    pub fn plan(&self, speaks: Speaks, target: Target, calls: &[Call]) -> Result<Plan, String> {
        let cores = crate::process::allowed_cores().map_err(|error| error.to_string())?;
        if let Some(core) = self.pin.iter().find(|core| !cores.contains(core)) {
            return Err(format!("--pin {core}: this process may run on the cores {cores:?} only"));
        }
        let depth = depth_of(self.depth, self.rate.is_some() || self.find_max, self.connections);
        Ok(Plan {
            speaks,
            target,
            weights: calls.iter().map(|call| call.weight).collect(),
            connections: self.connections,
            depth,
            rate: self.rate,
            arrivals: self.arrivals,
            warmup: self.warmup,
            duration: self.duration,
            drain: self.drain,
            threads: self.threads as usize,
            cores: self.pin.clone(),
            spin: self.spin,
            seed: self.seed,
            watch: self.watch,
            list: None,
        })
    }
}

/// What is in a file, read no further than a body may be long.
fn body_of(file: &Path, is_text: bool) -> Result<Body, String> {
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|error| error.to_string())?;
    opened.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > BODY_BYTES_MAX {
        return Err(format!("a body is at most {BODY_BYTES_MAX} bytes, and it has more"));
    }
    if !is_text {
        return Ok(Body::Bytes(bytes));
    }
    let text = String::from_utf8(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
    Ok(Body::Json(text.trim().to_owned()))
}

/// Calls in flight on each connection: as said, otherwise one in a closed loop and far more than are ever due at once
/// in an open one.
pub fn depth_of(said: Option<u32>, is_open: bool, connections: u32) -> u32 {
    match said {
        Some(depth) => depth,
        None if is_open => (OPEN_IN_FLIGHT_MAX / connections).clamp(16, IN_FLIGHT_MAX),
        None => 1,
    }
}
