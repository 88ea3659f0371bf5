//! `loadgen replay`: sends what a server recorded again, at the recorded intervals.
//!
//! It is an open loop over a list (`worker/listed.rs`): latency counts from when a call was due, and calls that
//! shared a connection share one again. `file` reads the recording.

mod file;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use self::file::{Recording, Unusable};
use super::headers::HeaderOptions;
use super::link::IN_FLIGHT_MAX;
use super::mix::{Call, Content};
use super::outcome::Outcome;
use super::protocol::gob;
use super::run::{Live, Plan};
use super::schedule::{Arrivals, Entry};
use super::speech::{AddressProtocol, Speech};
use super::target::Target;
use super::tls::TlsOptions;
use super::{Ending, cut_before_anything, ending_of, page, preflight, progress, text, units, watch_signals};
use crate::console;
use crate::frame::BODY_BYTES_MAX;
use crate::output::OutputFile;
use crate::request::{Expect, Request};

/// Maximum connections by default, however many were recorded.
const CONNECTIONS_USUAL: u64 = 1000;
/// Margin after the last call, so that it is within the window.
const TAIL: Duration = Duration::from_millis(1);

/// What is replayed, to which server, and how fast.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A recording, as coreloop serve --record writes it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Address of the server, as for a run. JSON arguments can be sent over native:, http: and jsonrpc:, gob arguments over
    /// native: and gob:, all others over native: only.
    #[arg(value_name = "ADDR")]
    pub address: String,
    /// Factor of the recorded speed: 2 sends twice as fast.
    #[arg(long, default_value = "1", value_parser = speed)]
    pub speed: f64,
    /// Number of connections; recorded connections beyond it share them. Default: as recorded, at most 1000.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: Option<u32>,
    /// The entries sent with every call.
    #[command(flatten)]
    pub headers: HeaderOptions,
    /// The TLS of the connections.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Threads of the generator; the connections are distributed over them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// How long to wait at the end for answers that are still missing.
    #[arg(long, default_value = "5s", value_parser = units::duration)]
    pub drain: Duration,
    /// Process ID of the server: report its CPU time per call.
    #[arg(long, value_name = "PID")]
    pub watch: Option<u32>,
    /// Write all figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots to this file, as HTML.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Show no progress line.
    #[arg(long)]
    pub quiet: bool,
}

/// Parses a factor between a thousandth and a thousand.
fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (0.001..=1000.0).contains(speed));
    speed.ok_or_else(|| format!("a speed is a number between 0.001 and 1000, not {text:?}"))
}

/// The description of the replay in the record.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// The recording's path.
    pub file: String,
    /// The speed factor.
    pub speed: f64,
    /// Number of calls of the file to send.
    pub calls: u64,
    /// Number of calls whose body the file lacks, and which are not sent.
    pub left_out: u64,
    /// One in this many requests was recorded.
    pub sample: u64,
    /// Whether the file's last line was incomplete.
    pub is_cut: bool,
}

/// The results.
#[derive(Debug, Serialize)]
pub struct Replay {
    /// The outcome, as of any run.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What was replayed.
    pub replay: Source,
}

/// Runs the replay, prints the result and writes the files.
pub fn run(options: &Options) -> Result<Ending, String> {
    let recording = Recording::read(&options.file).map_err(|unusable| unusable.to_string())?;
    let [json, report] = OutputFile::open_all([options.json.as_deref(), options.report.as_deref()])?;
    let stop = Arc::new(AtomicBool::new(false));
    let _signals = watch_signals(&stop)?;
    let line = progress::Line::new(length(&recording, options.speed), options.quiet, "calls");
    let measured = measure_recording(options, recording, &stop, &mut |live| line.show(live));
    drop(line);
    let replay = match measured {
        Err(why) if stop.load(Ordering::Relaxed) => return Ok(cut_before_anything(&why)),
        result => result?,
    };
    console::out(&text::render(&replay.outcome))?;
    if let Some(json) = json {
        let text = serde_json::to_string_pretty(&replay).map_err(|error| error.to_string())?;
        json.write(&(text + "\n"))?;
    }
    if let Some(report) = report {
        report.write(&page::render(&replay.outcome, None, &[])?)?;
    }
    Ok(ending_of(&replay.outcome))
}

/// Reads the file, sends the calls and measures. An error is one line of text.
pub fn measure(
    options: &Options,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Live),
) -> Result<Replay, String> {
    let recording = Recording::read(&options.file).map_err(|unusable| unusable.to_string())?;
    measure_recording(options, recording, stop, progress)
}

fn measure_recording(
    options: &Options,
    recording: Recording,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Live),
) -> Result<Replay, String> {
    let (speaks, target) = Target::of(&options.address, &options.tls)?;
    let requests = requests(options, speaks, &recording).map_err(|unusable| unusable.to_string())?;
    let recorded =
        recording.calls.iter().map(|call| call.connection).max().map_or(1, |last| last.saturating_add(1));
    // Both operands are below 60 000.
    let connections = options.connections.unwrap_or(recorded.min(CONNECTIONS_USUAL) as u32);
    crate::process::raise_files_limit().map_err(|error| error.to_string())?;
    let duration = length(&recording, options.speed);
    let plan = Plan {
        speaks,
        target,
        weights: recording.methods.iter().map(|(_, _, calls)| *calls).collect(),
        connections,
        depth: IN_FLIGHT_MAX,
        rate: Some(recording.calls.len() as f64 / duration.as_secs_f64()),
        arrivals: Arrivals::Recorded,
        warmup: Duration::ZERO,
        duration,
        drain: options.drain,
        deadlines_ns: deadlines_ns(&requests),
        threads: options.threads as usize,
        cores: Vec::new(),
        spin: false,
        seed: 0,
        watch: options.watch,
        trace_one_in: 0,
        calls_first: false,
        deadline_steps: 0,
        list: Some(entries(&recording, options.speed, connections)),
    };
    if matches!(speaks, AddressProtocol::Gob | AddressProtocol::GobHttp) {
        refuse_mixed_types(options, &recording, &requests, connections)
            .map_err(|unusable| unusable.to_string())?;
    }
    let entries = options.headers.entries(speaks)?;
    let speech = Speech::new(speaks, &requests, &plan.target, &entries)?;
    let names = recording.methods.iter().map(|(name, ..)| name.as_str());
    preflight::check_methods(speaks, &plan.target, &entries, names)?;
    let methods: Vec<Call> = recording.methods.iter().map(counted).collect();
    let measured = speech.measure(&plan, stop, progress)?;
    let mut outcome = Outcome::new(&plan, &methods, false, 0, &measured);
    outcome.verdict.remarks.extend(remarks(&recording));
    let replay = Source {
        file: options.file.display().to_string(),
        speed: options.speed,
        calls: recording.calls.len() as u64,
        left_out: recording.left_out,
        sample: recording.head.sample,
        is_cut: recording.is_cut,
    };
    Ok(Replay { outcome, replay })
}

/// Returns the time from the first call to just after the last.
fn length(recording: &Recording, speed: f64) -> Duration {
    let (first, last) = (&recording.calls[0], &recording.calls[recording.calls.len() - 1]);
    Duration::from_secs_f64((last.at_us - first.at_us) as f64 / 1e6 / speed) + TAIL
}

/// Returns the deadlines that were recorded with the requests; empty if there were none.
fn deadlines_ns(requests: &[Call]) -> Arc<[u64]> {
    if requests.iter().all(|call| call.time_left_us == 0) {
        return Arc::from([]);
    }
    let deadline_ns = |call: &Call| match call.time_left_us {
        0 => u64::MAX,
        us => u64::from(us) * 1000,
    };
    requests.iter().map(deadline_ns).collect()
}

/// Returns the calls in the form that the workers take.
fn entries(recording: &Recording, speed: f64, connections: u32) -> Arc<[Entry]> {
    let first_us = recording.calls[0].at_us;
    let entry = |call: &file::Recorded| Entry {
        due_ns: ((call.at_us - first_us) as f64 * 1e3 / speed) as u64,
        link: (call.connection % u64::from(connections)) as u32,
        request: call.request,
        method: recording.requests[call.request as usize].0.method,
    };
    recording.calls.iter().map(entry).collect()
}

/// Returns each distinct request, encoded for the protocol; an error names the line of one that the protocol cannot
/// carry.
fn requests(
    options: &Options,
    speaks: AddressProtocol,
    recording: &Recording,
) -> Result<Vec<Call>, Unusable> {
    let made = recording.requests.iter().map(|(request, line)| {
        let (method, codec, _) = &recording.methods[usize::from(request.method)];
        let wrong = |what: String| Unusable::Line { file: options.file.clone(), line: *line, what };
        let body = request.body.clone();
        if let Some(only) = speaks.codec().filter(|only| only != codec) {
            return Err(wrong(format!("{speaks}: carries {only} and no {codec}: replay this over native:")));
        }
        if body.len() > BODY_BYTES_MAX - 64 {
            return Err(wrong("the body is too large".into()));
        }
        let content = match speaks {
            AddressProtocol::Native => {
                let request_of =
                    Request::new(method, codec, Some(body), Some(Expect::Any)).map_err(&wrong)?;
                Content::Frame(request_of.with_time_left_us(request.time_left_us))
            }
            AddressProtocol::Gob | AddressProtocol::GobHttp if body.is_empty() => {
                return Err(wrong("gob: has no word for a call without an argument".into()));
            }
            // The body is embedded into a JSON text, which invalid JSON would corrupt.
            AddressProtocol::JsonRpc
                if !body.is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() =>
            {
                return Err(wrong("the body is no JSON".into()));
            }
            AddressProtocol::Gob
            | AddressProtocol::GobHttp
            | AddressProtocol::JsonRpc
            | AddressProtocol::Http
            | AddressProtocol::Grpc => Content::Body(body),
        };
        let (method, codec, time_left_us) = (method.clone(), codec.clone(), request.time_left_us);
        let call = Call { method, codec, weight: 1, content, time_left_us };
        // These protocols validate a body when they split it; each is tried separately, to know its line.
        if matches!(speaks, AddressProtocol::Gob | AddressProtocol::GobHttp) {
            gob::check(&call).map_err(wrong)?;
        }
        Ok(call)
    });
    made.collect()
}

/// In gob each process numbers its types itself: recorded connections whose types differ cannot share one.
fn refuse_mixed_types(
    options: &Options,
    recording: &Recording,
    requests: &[Call],
    connections: u32,
) -> Result<(), Unusable> {
    let mut links: HashMap<u64, (gob::Ids, HashSet<u32>)> = HashMap::new();
    for call in &recording.calls {
        let (ids, seen) = links.entry(call.connection % u64::from(connections)).or_default();
        if seen.insert(call.request) && !ids.take(&requests[call.request as usize]) {
            let what = "gob: another connection's types are in the way of this one's: give --connections as many as were \
                        recorded";
            let (file, line) = (options.file.clone(), recording.requests[call.request as usize].1);
            return Err(Unusable::Line { file, line, what: what.into() });
        }
    }
    Ok(())
}

/// Returns a method as it appears in the result.
fn counted((method, codec, calls): &(String, String, u32)) -> Call {
    Call {
        method: method.clone(),
        codec: codec.clone(),
        weight: *calls,
        content: Content::Body(Vec::new()),
        time_left_us: 0,
    }
}

fn remarks(recording: &Recording) -> Vec<String> {
    let mut remarks = Vec::new();
    let count = |number: u64| units::count(number as f64);
    if recording.is_cut {
        remarks.push("The recording's last line is not whole: it was read up to there.".into());
    }
    if recording.left_out > 0 {
        remarks
            .push(format!("{} recorded requests have no body and were not sent.", count(recording.left_out)));
    }
    if recording.one_way > 0 {
        remarks.push(format!(
            "{} one-way requests were sent as calls with an answer.",
            count(recording.one_way)
        ));
    }
    if recording.head.sample > 1 {
        remarks.push(format!(
            "One request in {} was recorded: the rate is that of the sample.",
            count(recording.head.sample)
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_bounded() {
        assert_eq!((speed("2"), speed("0.5")), (Ok(2.0), Ok(0.5)));
        for wrong in ["", "0", "-1", "1001", "NaN", "inf", "fast"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }
}
