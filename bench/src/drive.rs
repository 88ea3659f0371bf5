//! The bare closed-loop client: one thread, one epoll, a fixed number of calls in flight on each connection.
//!
//! Every reply is checked. All requests that follow from the replies of one read leave in one write. The client
//! serves the floors and comparisons with them: it has no rates and no reports. With `--by`, the library's clients or
//! the load generator make the same calls and are measured in the same way.

mod blocking;
mod generator;
mod library;
mod link;
mod window;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use serde::{Deserialize, Serialize};

use crate::epoll::Epoll;
use crate::request::{Expect, Request, from_hex};
use link::Link;
use window::{Phase, Window};

/// Which calls to make, how many at once, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address of the server.
    pub address: SocketAddr,
    /// Number of connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: u32,
    /// Calls in flight on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub depth: u32,
    /// Length of the measured window.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// Length of the warm-up before it.
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    pub warmup: f64,
    /// Full name of the method.
    #[arg(long, default_value = "Arith.AddFixed")]
    pub method: String,
    /// The body's codec: raw, fixed, json, gob, compact, messagepack or protobuf.
    #[arg(long, default_value = "fixed")]
    pub codec: String,
    /// The body, as text (in the given codec).
    #[arg(long, conflicts_with = "body_hex")]
    pub json: Option<String>,
    /// The body, in hexadecimal.
    #[arg(long, value_parser = hex)]
    pub body_hex: Option<Hex>,
    /// Expected replies: `sum`, `any` or hexadecimal bytes. Default: the known answer of the method.
    #[arg(long, value_parser = expect)]
    pub expect: Option<Expect>,
    /// Poll without sleeping, so that latency does not include the client's own wake-ups.
    #[arg(long)]
    pub spin: bool,
    /// One connection, one call at a time, plain blocking write and read: the direct client's floor.
    #[arg(long, conflicts_with = "spin")]
    pub blocking: bool,
    /// The client that makes the calls. All but the bare client call `Arith.AddFixed`.
    #[arg(long, value_enum, default_value = "bare", conflicts_with_all = ["spin", "blocking"])]
    pub by: By,
    /// Begin when standard input ends, so that a tracer can be attached to this process first.
    #[arg(long)]
    pub hold: bool,
    /// Also read the CPU time of this process at both ends of the window.
    #[arg(long, value_name = "PID")]
    pub watch: Option<u32>,
}

/// A client whose cost is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The bare client of this program.
    Bare,
    /// The library's direct client, on one connection, one call at a time.
    Direct,
    /// The library's shared client, on one connection: --connections is the number of calling threads, --depth the
    /// calls that each keeps in flight.
    Shared,
    /// The load generator, in a closed loop.
    Loadgen,
}

/// Bytes given in hexadecimal.
#[derive(Clone, Debug)]
pub struct Hex(pub Vec<u8>);

fn hex(text: &str) -> Result<Hex, String> {
    from_hex(text).map(Hex).ok_or("not pairs of hexadecimal digits".into())
}

fn expect(text: &str) -> Result<Expect, String> {
    match text {
        "sum" => Ok(Expect::Sum),
        "any" => Ok(Expect::Any),
        _ => hex(text).map(|Hex(bytes)| Expect::Bytes(bytes)),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().map_err(|_| "not a number")?;
    if (0.0..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("between 0 and 86400".into()) }
}

/// The results of a run, printed as one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Number of connections.
    pub connections: u32,
    /// Calls in flight on each connection.
    pub depth: u32,
    /// Replies within the window.
    pub calls: u64,
    /// Measured length of the window, in seconds.
    pub seconds: f64,
    /// `calls` divided by `seconds`.
    pub calls_per_s: f64,
    /// Median latency within the window; the other quantiles likewise.
    pub p50_us: f64,
    /// 99th percentile of the latency.
    pub p99_us: f64,
    /// 99.9th percentile of the latency.
    pub p999_us: f64,
    /// Maximum latency.
    pub max_us: f64,
    /// Replies with an unexpected status or body, lost connections, and calls never answered; also outside the
    /// window.
    pub errors: u64,
    /// The first error.
    pub first_error: Option<String>,
    /// Replies in the whole run, including the warm-up.
    pub calls_in_all: u64,
    /// Share of the window in which the client was ready to run but another process had its core.
    pub client_waited_share: f64,
    /// The client's own CPU time within the window, in ns: all its threads, kernel time included.
    pub client_cpu_ns: u64,
    /// CPU time of the watched process within the window, in ns.
    pub server_cpu_ns: Option<u64>,
    /// The kernel's part of `server_cpu_ns`, in steps of 10 ms.
    pub server_system_ns: Option<u64>,
    /// In an open loop (of a peer's own client): the 99th percentile of the delay between when a call was due and
    /// when it was handed to its connection. The client causes this delay.
    #[serde(default)]
    pub late_p99_us: Option<f64>,
    /// In an open loop: calls that were due and had no answer at the end, or were never made.
    #[serde(default)]
    pub left_over: u64,
}

/// Runs to the end and returns the measurements.
pub fn run(options: &Options) -> Result<Outcome, String> {
    let is_simple = options.method == "Arith.AddFixed"
        && options.codec == "fixed"
        && options.expect.is_none()
        && options.json.is_none()
        && options.body_hex.is_none();
    if options.by != By::Bare && !is_simple {
        return Err("only the bare client can call anything but Arith.AddFixed in the codec fixed".into());
    }
    let text = options.json.as_ref().map(|json| json.clone().into_bytes());
    let body = text.or_else(|| options.body_hex.as_ref().map(|Hex(bytes)| bytes.clone()));
    let request = Request::new(&options.method, &options.codec, body, options.expect.clone())?;
    crate::process::raise_files_limit().map_err(error_text)?;
    if options.hold {
        io::stdin().read_to_end(&mut Vec::new()).map_err(error_text)?;
    }
    let window = Window::new(options.warmup, options.seconds, options.watch);
    let one = (options.connections, options.depth) == (1, 1);
    let window = match options.by {
        By::Loadgen => return generator::run(options),
        By::Direct if !one => {
            return Err("the direct client is one connection with one call in flight".into());
        }
        By::Direct => library::run_direct(options.address, window)?,
        By::Shared => library::run_shared(options, window)?,
        By::Bare if options.blocking && !one => {
            return Err("--blocking is one connection with one call in flight".into());
        }
        By::Bare if options.blocking => {
            blocking::run(options.address, &request, window).map_err(error_text)?
        }
        By::Bare => run_epoll(options, &request, window).map_err(error_text)?,
    };
    window.outcome(options.connections, options.depth)
}

fn error_text(error: io::Error) -> String {
    error.to_string()
}

fn run_epoll(options: &Options, request: &Request, mut window: Window) -> io::Result<Window> {
    let mut epoll = Epoll::new()?;
    let mut links = Vec::with_capacity(options.connections as usize);
    for token in 0..u64::from(options.connections) {
        let link = Link::connect(options.address, options.depth)?;
        epoll.add(link.as_raw_fd(), token)?;
        links.push(link);
    }
    window.start();
    for link in &mut links {
        if let Err(error) = link.begin(request, window.now_ns()) {
            window.on_lost(error.to_string(), link.close());
        }
    }
    let mut open = links.len();
    let mut input = vec![0; link::READ_BYTES];
    let mut out = Vec::new();
    loop {
        let phase = window.turn()?;
        let in_flight: u64 =
            if phase == Phase::Draining { links.iter().map(Link::in_flight).sum() } else { 1 };
        if phase == Phase::Over || open == 0 || in_flight == 0 {
            let lost = links.iter_mut().map(Link::close).sum();
            if lost > 0 {
                window.on_lost("calls without an answer".into(), lost);
            }
            return Ok(window);
        }
        let count = epoll.wait(if options.spin { 0 } else { window.left_ms() })?;
        for at in 0..count {
            let event = epoll.event(at);
            let link = &mut links[event.token as usize];
            if !link.is_open() {
                continue;
            }
            if let Err(error) = link.on_event(event, request, &mut window, &mut input, &mut out) {
                open -= 1;
                window.on_lost(error.to_string(), link.close());
            }
        }
    }
}
