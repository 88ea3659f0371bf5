//! The command line, and the plan made from it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::headers::HeaderOptions;
use super::link::IN_FLIGHT_MAX;
use super::mix::{self, Body, Call};
use super::run::Plan;
use super::schedule::Arrivals;
use super::speech::AddressProtocol;
use super::streams::options::StreamOptions;
use super::target::Target;
use super::tls::TlsOptions;
use super::trace;
use super::units::{self, Promise};
use crate::frame::BODY_BYTES_MAX;
use crate::request::from_hex;

/// Maximum calls in flight, over all connections, of an open loop without `--depth`: some 50 MB of the generator's
/// memory. Further calls wait in the schedule, which needs no memory.
const OPEN_IN_FLIGHT_MAX: u32 = 1_000_000;

/// Which calls to make, how often, and what to write about them.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address of the server: host:port or unix:PATH, with the protocol in front. Or the URL of a resolver.
    ///
    /// With a resolver URL (static:a:1,b:2, consul://…, dns://…, file://…, etcd://…) the load goes through the library's
    /// client to all servers that it names: --connections times --depth calls are in flight, and each second has a line.
    ///
    /// Protocols: native: (default), http:, jsonrpc:, grpc:, gob: (Go's net/rpc), gob-http: (net/rpc behind
    /// rpc.HandleHTTP).
    /// `+tls` behind a protocol asks for TLS (native+tls:localhost:6550), and https: is http+tls:.
    /// Without an address the demo server runs in this process.
    #[arg(value_name = "ADDR")]
    pub address: Option<String>,
    /// Full name of the method.
    #[arg(long, default_value = "Arith.AddFixed", conflicts_with = "mix", help_heading = "Calls")]
    pub method: String,
    /// Argument of the call, as JSON.
    ///
    /// For gob it is converted to gob. {"$uint": 7}, {"$float": 1}, {"$bytes": "base64"} and {"$map": {…}} are values
    /// that JSON has no form for.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["body_bytes", "body_hex", "mix"], help_heading = "Calls")]
    pub body: Option<String>,
    /// A generated argument of N bytes.
    #[arg(long, value_name = "N", conflicts_with_all = ["body_hex", "mix"], help_heading = "Calls")]
    pub body_bytes: Option<usize>,
    /// Encoded argument in hexadecimal. Native frames and grpc only.
    #[arg(long, value_name = "HEX", conflicts_with = "mix", help_heading = "Calls")]
    pub body_hex: Option<String>,
    /// Argument from a file: encoded bytes if --codec names a codec other than json, otherwise JSON.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["body", "body_bytes", "body_hex", "mix"],
        help_heading = "Calls"
    )]
    pub body_file: Option<PathBuf>,
    /// Codec of the argument in native frames: raw, fixed, json, compact, messagepack. Default: the method's usual one.
    #[arg(long, help_heading = "Calls")]
    pub codec: Option<String>,
    /// Several methods by weight: `METHOD[:JSON]=WEIGHT`,… as in Arith.AddFixed=99,Echo.Sleep:20=1.
    #[arg(long, help_heading = "Calls")]
    pub mix: Option<String>,
    /// The entries sent with every call.
    #[command(flatten, next_help_heading = "Calls")]
    pub headers: HeaderOptions,
    /// Deadline stated with each call. Native, http and grpc only.
    ///
    /// The server answers deadline_exceeded after it. Answers that arrive after it, counted from when the call was
    /// due, are reported separately.
    #[arg(long, value_name = "TIME", value_parser = units::some_duration, help_heading = "Calls")]
    pub timeout: Option<Duration>,
    /// Calls may run twice: the client may repeat and hedge them. Resolver URLs only.
    #[arg(long, help_heading = "Calls")]
    pub idempotent: bool,
    /// The TLS of the connections.
    #[command(flatten, next_help_heading = "TLS")]
    pub tls: TlsOptions,
    /// The streams to open, if the method has streams.
    #[command(flatten, next_help_heading = "Streams")]
    pub streams: StreamOptions,
    /// Number of connections; with --streams the default is 1.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        default_value_if("streams", clap::builder::ArgPredicate::IsPresent, "1"),
        value_parser = clap::value_parser!(u32).range(1..=60_000),
        help_heading = "Load"
    )]
    pub connections: u32,
    /// Calls in flight on each connection, or messages on each stream. Closed loop: always this many (default 1). With
    /// --rate: at most.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(IN_FLIGHT_MAX)),
        help_heading = "Load"
    )]
    pub depth: Option<u32>,
    /// Open loop with this many calls per second (200, 50k, 1.5M).
    #[arg(long, value_name = "RATE", value_parser = units::rate, help_heading = "Load")]
    pub rate: Option<f64>,
    /// Spacing of the calls of an open loop.
    #[arg(long, value_enum, default_value = "fixed", help_heading = "Load")]
    pub arrivals: Arrivals,
    /// Length of the measured window (10, 10s, 500ms, 2m). With --find-max: of each probe.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        value_parser = units::some_duration,
        help_heading = "Load"
    )]
    pub duration: Duration,
    /// Length of the warm-up before it, which is not measured.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::duration, help_heading = "Load")]
    pub warmup: Duration,
    /// How long to wait at the end for answers that are still missing.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration, help_heading = "Load")]
    pub drain: Duration,
    /// Seed of Poisson gaps and of the order of a mix.
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    pub seed: u64,
    /// Service level objective: p99=2ms, or several as in p50=500us,p99.9=5ms,errors=0.1%.
    ///
    /// If the run misses it, the exit status is 3 and the report shows by how much. Calls that fail, have no answer,
    /// are never sent or are answered after --timeout count as errors; without errors=… none is allowed.
    #[arg(long, help_heading = "Objective")]
    pub slo: Option<Promise>,
    /// Search for the highest rate that meets --slo. --rate is where the search begins.
    #[arg(long, requires = "slo", conflicts_with = "depth", help_heading = "Objective")]
    pub find_max: bool,
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
    /// Poll instead of sleeping: calls leave on time, and each thread uses a whole core.
    #[arg(long, help_heading = "Generator")]
    pub spin: bool,
    /// Trace one call of N: send a sampled traceparent with it, and list the slowest of these calls with their trace ids.
    ///
    /// Over native:, http: and grpc:, without streams.
    #[arg(long, value_name = "1/N", value_parser = trace::share, conflicts_with = "streams", help_heading = "Server")]
    pub trace: Option<u64>,
    /// Address of the server's admin listener: scrape its metrics during the run.
    ///
    /// Reactor lag, run queue and sheds are shown beside the latency, and the traces of --trace link to the console.
    #[arg(long, value_name = "ADMIN_ADDR", help_heading = "Server")]
    pub metrics: Option<String>,
    /// Process ID of the server: report its CPU time per call.
    #[arg(long, value_name = "PID", help_heading = "Generator")]
    pub watch: Option<u32>,
    /// Write all figures to this file, as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub json: Option<PathBuf>,
    /// Write a page with plots to this file, as HTML. With a resolver URL and a name that ends in `.svg`: the plot of the
    /// servers' rates alone.
    #[arg(long, value_name = "FILE", conflicts_with = "no_report", help_heading = "Results")]
    pub report: Option<PathBuf>,
    /// Accepted for older scripts: no page is written unless --report names a file.
    #[arg(long, hide = true)]
    pub no_report: bool,
    /// Show no progress line.
    #[arg(long, help_heading = "Results")]
    pub quiet: bool,
}

impl Options {
    /// Returns the calls of the mix.
    pub fn calls(&self, speaks: AddressProtocol) -> Result<Vec<Call>, String> {
        if self.timeout.is_some() && !speaks.carries_deadlines() {
            return Err(format!("{speaks}: cannot carry a deadline: leave --timeout out"));
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
                let is_text = speaks != AddressProtocol::Native || codec.is_none_or(|codec| codec == "json");
                body_of(file, is_text).map_err(|why| format!("--body-file {}: {why}", file.display()))?
            }
            (None, None, None, None) => Body::Usual,
        };
        Ok(vec![Call::new(speaks, &self.method, 1, codec, &body, self.time_left_us())?])
    }

    /// Returns the deadline in the protocol's unit, µs.
    pub fn time_left_us(&self) -> u32 {
        // A deadline beyond the field's range, 71 minutes, does not expire during a run.
        self.timeout.map_or(0, |timeout| u32::try_from(timeout.as_micros()).unwrap_or(u32::MAX).max(1))
    }

    /// Returns the plan of the run.
    pub fn plan(&self, speaks: AddressProtocol, target: Target, calls: &[Call]) -> Result<Plan, String> {
        check_pins(&self.pin)?;
        let shared_by = self.streams.streams.unwrap_or(self.connections);
        let depth = depth_of(self.depth, self.rate.is_some() || self.find_max, shared_by);
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
            deadlines_ns: match self.time_left_us() {
                0 => Arc::from([]),
                // The requests of traced calls follow the others.
                us => calls.iter().chain(calls).map(|_| u64::from(us) * 1000).collect(),
            },
            threads: self.threads as usize,
            cores: self.pin.clone(),
            spin: self.spin,
            seed: self.seed,
            watch: self.watch,
            trace_one_in: self.trace.unwrap_or(0),
            calls_first: false,
            deadline_steps: 0,
            list: None,
        })
    }
}

/// Returns an error if this process may not run on one of these cores.
pub fn check_pins(pins: &[usize]) -> Result<(), String> {
    let cores = crate::process::allowed_cores().map_err(|error| error.to_string())?;
    match pins.iter().find(|core| !cores.contains(core)) {
        Some(core) => Err(format!("--pin {core}: this process may run on the cores {cores:?} only")),
        None => Ok(()),
    }
}

/// Reads a body from a file, at most up to the maximum body size.
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

/// Returns the calls in flight on each connection: the given number; by default one in a closed loop, and in an open
/// loop far more than are ever due at once.
pub fn depth_of(said: Option<u32>, is_open: bool, connections: u32) -> u32 {
    match said {
        Some(depth) => depth,
        None if is_open => (OPEN_IN_FLIGHT_MAX / connections).clamp(16, IN_FLIGHT_MAX),
        None => 1,
    }
}
