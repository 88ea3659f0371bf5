//! `loadgen idle`: measures what many mostly idle connections cost the server.
//!
//! It is an open loop over a list. Each connection makes a first call when it is opened, before further ones are, because a
//! server may close connections that have sent nothing, and then one call per period. In addition it reads the server's
//! memory before the connections, when each has made its first call, and at the end.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::headers::HeaderOptions;
use super::mix::{Body, Call};
use super::outcome::Outcome;
use super::run::{Live, Plan};
use super::schedule::{Arrivals, Entry};
use super::speech::{AddressProtocol, Speech};
use super::tally::Connections;
use super::target::Target;
use super::tls::TlsOptions;
use super::{Ending, cut_before_anything, ending_of, preflight, progress, text, units, watch_signals};
use crate::output::OutputFile;
use crate::{console, process};

/// Descriptors of this process that are not connections: its output, epolls, what the library opens.
const DESCRIPTORS_ELSE: u64 = 64;
/// Maximum calls of a run, because their list is in memory.
const CALLS_MAX: f64 = 20e6;

/// How many connections, and how rarely each makes a call.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address of the server, as for a run: host:port or unix:PATH, with the protocol in front.
    #[arg(value_name = "ADDR")]
    pub address: String,
    /// Number of connections. Over TCP the local ports limit it to about 28 000 for one address; over a Unix socket only the
    /// limit of open files applies.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Each connection makes one call in this time; the calls of all connections are spread evenly over it.
    #[arg(long, default_value = "30s", value_parser = units::some_duration)]
    pub every: Duration,
    /// How long the connections are kept open after each has been opened and has made a first call, which is not measured.
    #[arg(long, default_value = "60s", value_parser = units::some_duration)]
    pub duration: Duration,
    /// Process ID of the server: report its memory per connection and its CPU time.
    #[arg(long, value_name = "PID")]
    pub watch: Option<u32>,
    /// Full name of the method.
    #[arg(long, default_value = "Arith.AddFixed")]
    pub method: String,
    /// Argument of the call, as JSON.
    #[arg(long, value_name = "JSON")]
    pub body: Option<String>,
    /// Codec of the argument in native frames. Default: the method's usual one.
    #[arg(long)]
    pub codec: Option<String>,
    /// The entries sent with every call.
    #[command(flatten)]
    pub headers: HeaderOptions,
    /// The TLS of the connections.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Threads of the generator; the connections are distributed over them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Write all figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Show no progress line.
    #[arg(long)]
    pub quiet: bool,
}

/// The watched process's memory in RAM, in KiB: the total, and its private part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The total.
    pub resident_kib: u64,
    /// The part that is not mapped from files.
    pub own_kib: u64,
}

/// The memory of the server, and the cost per connection.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Growth {
    /// Before the first connection.
    pub before: Memory,
    /// When all were connected and had made their first call.
    pub connected: Memory,
    /// At the end, with all connections still open.
    pub end: Memory,
    /// Bytes per connection added since `before`, when all were connected.
    pub bytes_each_connected: f64,
    /// Bytes per connection added since `before`, at the end.
    pub bytes_each: f64,
    /// The private part of `bytes_each`.
    pub own_bytes_each: f64,
}

/// The results.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// The outcome, as of any run.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The period of each connection's calls, in seconds.
    pub every_s: f64,
    /// The server's memory, if it was watched and could be read.
    pub memory: Option<Growth>,
}

/// Runs it, prints the result and writes the file.
pub fn run(options: &Options) -> Result<Ending, String> {
    let [json] = OutputFile::open_all([options.json.as_deref()])?;
    let stop = Arc::new(AtomicBool::new(false));
    let _signals = watch_signals(&stop)?;
    let line = progress::Line::new(options.duration, options.quiet, "calls");
    let measured = measure(options, &stop, &mut |live| line.show(live));
    drop(line);
    let idle = match measured {
        Err(why) if stop.load(Ordering::Relaxed) => return Ok(cut_before_anything(&why)),
        result => result?,
    };
    console::out(&idle.render())?;
    if let Some(json) = json {
        let text = serde_json::to_string_pretty(&idle).map_err(|error| error.to_string())?;
        json.write(&(text + "\n"))?;
    }
    Ok(ending_of(&idle.outcome))
}

/// Connects, holds the connections and measures. An error is one line of text.
pub fn measure(
    options: &Options,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Live),
) -> Result<Idle, String> {
    let files = process::raise_files_limit().map_err(|error| error.to_string())?;
    let room = files.saturating_sub(DESCRIPTORS_ELSE);
    if u64::from(options.connections) > room {
        return Err(format!(
            "--connections {}: this process may open {files} files, so at most {room} connections",
            options.connections
        ));
    }
    let (speaks, target) = Target::of(&options.address, &options.tls)?;
    let body = options.body.clone().map_or(Body::Usual, Body::Json);
    let calls = [Call::new(speaks, &options.method, 1, options.codec.as_deref(), &body, 0)?];
    let plan = options.plan(speaks, target)?;
    let entries = options.headers.entries(speaks)?;
    let speech = Speech::new(speaks, &calls, &plan.target, &entries)?;
    preflight::check_methods(speaks, &plan.target, &entries, [options.method.as_str()])?;
    let mut memory = options.watch.map(Watched::begin);
    let measured = speech.measure(&plan, stop, &mut |live| {
        if live.connecting.is_none() {
            memory.iter_mut().for_each(Watched::read);
        }
        progress(live);
    })?;
    let mut outcome = Outcome::new(&plan, &calls, false, 0, &measured);
    if options.duration < options.every && !measured.is_cut {
        outcome.verdict.remarks.push(format!(
            "It takes {} for all connections to make a call, and the run was shorter: after their first, some made none.",
            units::time(options.every.as_nanos() as f64)
        ));
    }
    outcome.verdict.remarks.extend(losses(&outcome.connections));
    let memory = match memory.map(|watched| watched.growth(outcome.connections.opened)) {
        Some(Err(why)) => {
            outcome.verdict.remarks.push(format!("The watched process's memory could not be read: {why}."));
            None
        }
        Some(Ok(growth)) => Some(growth),
        None => None,
    };
    Ok(Idle { outcome, every_s: options.every.as_secs_f64(), memory })
}

impl Options {
    /// Returns one round of calls per period. The first calls are not among them.
    fn entries(&self) -> Result<Arc<[Entry]>, String> {
        let (each, all) = (f64::from(self.connections), self.duration.as_secs_f64());
        if each * (all / self.every.as_secs_f64()).max(1.0) > CALLS_MAX {
            return Err(format!(
                "that is more than {} calls: idle connections make fewer",
                units::count(CALLS_MAX)
            ));
        }
        let (every_ns, end_ns) = (self.every.as_nanos() as f64, self.duration.as_nanos() as f64);
        let rounds = (0_u32..).flat_map(|round| (0..self.connections).map(move |link| (round, link)));
        let calls = rounds.map(|(round, link)| {
            let due_ns = every_ns * (f64::from(round) + f64::from(link) / each);
            Entry { due_ns: due_ns as u64, link, request: 0, method: 0 }
        });
        Ok(calls.take_while(|entry| (entry.due_ns as f64) < end_ns).collect())
    }

    fn plan(&self, speaks: AddressProtocol, target: Target) -> Result<Plan, String> {
        Ok(Plan {
            speaks,
            target,
            weights: vec![1],
            connections: self.connections,
            // A connection has at most one call in flight.
            depth: 1,
            rate: Some(f64::from(self.connections) / self.every.as_secs_f64()),
            arrivals: Arrivals::Fixed,
            warmup: Duration::ZERO,
            duration: self.duration,
            drain: Duration::from_secs(5),
            deadlines_ns: Arc::from([]),
            threads: self.threads as usize,
            cores: Vec::new(),
            spin: false,
            seed: 1,
            watch: self.watch,
            trace_one_in: 0,
            calls_first: true,
            deadline_steps: 0,
            list: Some(self.entries()?),
        })
    }
}

/// Returns at which stage connections were lost, and which limits of a server close them then.
fn losses(connections: &Connections) -> Vec<String> {
    let (unanswered, at_rest) =
        (connections.lost_unanswered + connections.attempts_failed, connections.lost_at_rest);
    let mut remarks = Vec::new();
    if unanswered > 0 {
        remarks.push(format!(
            "{unanswered} times a connection was refused, or closed before its first call had an answer: servers limit \
             connections (coreloop: limits.connections_max), and those that have sent nothing yet \
             (limits.silent_connections_max)."
        ));
    }
    if at_rest > 0 {
        remarks.push(format!(
            "{at_rest} times a connection was closed after its first call, without a call in flight: servers close \
             connections that send nothing for a time (coreloop: limits.idle_ms), which must be longer than --every."
        ));
    }
    remarks
}

/// Reads a process's memory while connections or streams are held; keeps the first error.
pub struct Watched {
    pid: u32,
    before: Memory,
    connected: Option<Memory>,
    end: Memory,
    trouble: Option<String>,
}

impl Watched {
    /// Begins with a reading before anything is held.
    pub fn begin(pid: u32) -> Watched {
        let mut watched = Watched {
            pid,
            before: Memory::default(),
            connected: None,
            end: Memory::default(),
            trouble: None,
        };
        watched.read();
        // The first reading is taken before there is any connection.
        (watched.before, watched.connected) = (watched.end, None);
        watched
    }

    /// Reads; the first reading is that with everything connected, the latest that of the end.
    pub fn read(&mut self) {
        match process::resident_kib(self.pid) {
            Ok((resident_kib, own_kib)) => {
                self.end = Memory { resident_kib, own_kib };
                self.connected.get_or_insert(self.end);
            }
            Err(error) => {
                self.trouble.get_or_insert_with(|| format!("process {}: {error}", self.pid));
            }
        }
    }

    /// Returns the growth for each of this number of connections or streams, or why it is unknown.
    pub fn growth(self, connections: u64) -> Result<Growth, String> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        let connected = self.connected.unwrap_or(self.end);
        let each =
            |now: u64, before: u64| now.saturating_sub(before) as f64 * 1024.0 / connections.max(1) as f64;
        Ok(Growth {
            before: self.before,
            connected,
            end: self.end,
            bytes_each_connected: each(connected.resident_kib, self.before.resident_kib),
            bytes_each: each(self.end.resident_kib, self.before.resident_kib),
            own_bytes_each: each(self.end.own_kib, self.before.own_kib),
        })
    }
}

impl Idle {
    /// Renders the result as text for a terminal.
    pub fn render(&self) -> String {
        let connections = &self.outcome.connections;
        let mut text = text::render(&self.outcome);
        let _ = writeln!(
            text,
            "\nconnections: {} of {} opened, {} lost, each with a call every {}",
            units::count(connections.opened as f64),
            units::count(connections.wanted as f64),
            units::count((connections.lost + connections.drained) as f64),
            units::time(self.every_s * 1e9)
        );
        if let Some(memory) = &self.memory {
            let kib = |kib: u64| format!("{} KiB", units::count(kib as f64));
            let _ = writeln!(
                text,
                "memory:      {} before, {} with all connected, {} at the end",
                kib(memory.before.resident_kib),
                kib(memory.connected.resident_kib),
                kib(memory.end.resident_kib)
            );
            let bytes = |bytes: f64| units::count(bytes.round());
            let _ = writeln!(
                text,
                "             {} bytes a connection at the end ({} of them its own), {} once connected",
                bytes(memory.bytes_each),
                bytes(memory.own_bytes_each),
                bytes(memory.bytes_each_connected)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_per_connection_and_never_negative() {
        let memory = |resident_kib, own_kib| Memory { resident_kib, own_kib };
        let watched = |end| Watched {
            pid: 1,
            before: memory(1000, 500),
            connected: Some(memory(1100, 560)),
            end,
            trouble: None,
        };
        let growth = watched(memory(1200, 600)).growth(100).expect("it was read");
        assert_eq!((growth.bytes_each, growth.own_bytes_each), (2048.0, 1024.0));
        assert_eq!(growth.bytes_each_connected, 1024.0);
        let less = watched(memory(900, 400)).growth(0).expect("it was read");
        assert_eq!((less.bytes_each, less.own_bytes_each), (0.0, 0.0));
    }

    #[test]
    fn each_connection_calls_once_per_period() {
        let options = Options {
            address: String::new(),
            connections: 4,
            every: Duration::from_secs(2),
            duration: Duration::from_secs(5),
            watch: None,
            method: String::new(),
            body: None,
            codec: None,
            headers: HeaderOptions::default(),
            tls: TlsOptions::default(),
            threads: 1,
            json: None,
            quiet: true,
        };
        let entries = options.entries().expect("not so many");
        assert!(entries.is_sorted_by_key(|entry| entry.due_ns));
        let times: Vec<u64> =
            entries.iter().filter(|entry| entry.link == 1).map(|entry| entry.due_ns / 1_000_000).collect();
        assert_eq!(times, [500, 2500, 4500]);
        let last = entries.last().expect("some");
        assert_eq!((entries.len(), last.link, last.due_ns), (10, 1, 4_500_000_000));
        let many = Options { connections: 1_000_000, every: Duration::from_millis(1), ..options };
        assert!(many.entries().is_err());
    }

    #[test]
    fn a_missing_process_is_an_error() {
        let watched = Watched::begin(1 << 22);
        assert!(watched.growth(1).expect_err("beyond the largest number").contains("process 4194304"));
    }
}
