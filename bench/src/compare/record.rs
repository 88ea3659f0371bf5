//! The results of a comparison: every measured run, as the JSON holds it and the page shows it.
//!
//! Medians are not stored but computed, by the methods in `medians`, so that text, Markdown and page agree. Nothing
//! here measures or prints.

mod medians;
#[cfg(test)]
pub(crate) mod sample;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

pub use medians::{against, errors, spread};

/// The version of the record format; it changes when readers must change.
pub const FORMAT: u32 = 1;

/// All results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// The command line.
    pub command: Vec<String>,
    /// The start time in UTC: `2026-11-25 00:08:49`.
    pub began: String,
    /// The duration, or the time elapsed so far, in seconds.
    pub took_s: f64,
    /// Whether the comparison is running, complete or cut short.
    pub state: State,
    /// The machine it ran on.
    pub machine: Machine,
    /// The version of coreloop, as its program reports it.
    pub coreloop: String,
    /// How thoroughly it was measured.
    pub settings: Settings,
    /// The servers that took part, in the order of the tables; coreloop itself several times.
    pub peers: Vec<Peer>,
    /// The servers, calls or sections that were left out, with the reasons.
    pub left_out: Vec<LeftOut>,
    /// Notes that a reader must know, in sentences.
    pub notes: Vec<String>,
    /// The closed loops.
    pub capacity: Vec<Cell>,
    /// The open loops at shares of each server's own capacity.
    pub tails: Vec<Tail>,
    /// Memory, idle and busy.
    pub memory: Vec<Memory>,
    /// System calls per call.
    pub syscalls: Vec<Syscalls>,
    /// HTTP under wrk, for the servers of HTTP.
    pub wrk: Vec<Cell>,
    /// The article's measurement.
    pub article: Vec<ArticleRow>,
    /// Fast calls with and without slow ones among them.
    pub slow_mix: Vec<Pair>,
    /// Small calls with and without large ones on the same server.
    pub beside_big: Vec<Pair>,
    /// Goodput at multiples of the capacity. Records of earlier versions have none.
    #[serde(default)]
    pub overload: Vec<OverloadRow>,
}

/// The state of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Sections are outstanding, or the program was killed.
    Running,
    /// All sections ran as planned.
    Complete,
    /// A signal ended the run.
    Cut,
}

/// How thoroughly it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Number of rounds; the order of the peers alternates.
    pub rounds: u32,
    /// Length of a measured window, in seconds.
    pub seconds: f64,
    /// Length of the warm-up before each window, in seconds.
    pub warmup_s: f64,
    /// The server's cores in the setting `apart`.
    pub server_cores: Vec<usize>,
    /// The client's cores in the setting `apart`.
    pub client_cores: Vec<usize>,
    /// The cores of both in the setting `shared`.
    pub shared_cores: Vec<usize>,
    /// A smoke run: its figures show that the measurement works, and are not accurate.
    pub quick: bool,
    /// The requested sections.
    pub sections: Vec<String>,
}

/// A measured server: a peer, or coreloop with one of its kinds of call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name in this record: the folder's name. Rows refer to it.
    pub name: String,
    /// Its name in tables.
    pub title: String,
    /// Its programming language.
    pub language: String,
    /// What it lacks or does differently.
    pub differs: String,
    /// Its protocol: native, http, jsonrpc, gob, own.
    pub protocol: String,
    /// The client that makes the calls: `loadgen`, `drive`, or the peer's own.
    pub client: String,
    /// The version that it reports.
    pub version: String,
    /// Whether it is coreloop itself.
    pub is_coreloop: bool,
    /// Whether it is a reference (a floor, a server of static bytes): a bound, not a competitor.
    pub is_reference: bool,
}

/// A peer, or a part of its measurements, that was left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The peer's name.
    pub peer: String,
    /// All of it, or a part: a call, a section.
    pub what: String,
    /// The reason.
    pub why: String,
    /// The command that installs what is missing, if that is the reason.
    pub install: Option<String>,
}

/// How cores are assigned to server and client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Server and client have separate cores.
    Apart,
    /// Server and client share two cores.
    Shared,
}

impl Setting {
    /// Returns the name of the setting.
    pub fn name(self) -> &'static str {
        match self {
            Setting::Apart => "apart",
            Setting::Shared => "shared",
        }
    }
}

/// What limited the rate of a closed loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The server's cores: the rate is the server's capacity.
    Server,
    /// The client's cores: the server could answer more calls. Its CPU time per call is still valid.
    Client,
    /// Neither: the latency between them, as with one call at a time, or an unknown share.
    Between,
}

/// One measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The round, from 1.
    pub round: u32,
    /// Replies per second.
    pub calls_per_s: f64,
    /// Server CPU time per call, in µs, over all threads and descendants. `None`: it could not be read.
    pub server_us_per_call: Option<f64>,
    /// The kernel's part of it, if the client reports it.
    pub server_system_us_per_call: Option<f64>,
    /// Client CPU time per call, in µs.
    pub client_us_per_call: Option<f64>,
    /// The used share of the server's cores; 1 is all of them.
    pub server_share: Option<f64>,
    /// The used share of the client's cores.
    pub client_share: Option<f64>,
    /// Share of the window in which the client was ready to run but another process used its core.
    pub client_waited_share: Option<f64>,
    /// Median latency, in µs; in an open loop from when a call was due. `None`: the client does not report it.
    pub p50_us: Option<f64>,
    /// 99th percentile of the latency, in µs.
    pub p99_us: Option<f64>,
    /// 99.9th percentile of the latency, in µs.
    pub p999_us: Option<f64>,
    /// Maximum latency, in µs.
    pub max_us: Option<f64>,
    /// Mean latency, in µs, if the client reports it.
    pub mean_us: Option<f64>,
    /// Wrong answers, answers with an error, lost connections, calls without an answer.
    pub errors: u64,
    /// The first error.
    pub first_error: Option<String>,
    /// The server's peak memory in RAM until the window's end, in KiB, including descendants.
    pub peak_kib: Option<u64>,
    /// Caveats: `late`, `saturated`, `disturbed`, `stolen`, `rate missed`.
    pub against: Vec<String>,
}

/// The runs of one peer under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The peer's name.
    pub peer: String,
    /// How cores are assigned.
    pub setting: Setting,
    /// The call: add, echo-1k, users-100, echo-256k.
    pub call: String,
    /// Number of connections.
    pub connections: u32,
    /// Calls in flight on each connection.
    pub depth: u32,
    /// The client's threads: 1, or wrk's setting.
    pub client_threads: u32,
    /// The runs, by round. Empty: it failed, and is listed in `left_out`.
    pub runs: Vec<Run>,
}

/// Open loops of one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// The peer's name.
    pub peer: String,
    /// Number of connections.
    pub connections: u32,
    /// Maximum calls in flight on each connection.
    pub depth_max: u32,
    /// The rate that the shares refer to: its closed loop with the same connections and one call in flight on each.
    pub capacity: f64,
    /// The points in ascending order of share.
    pub points: Vec<Point>,
}

/// One rate of an open loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The share of the capacity: 0.1 to 0.9.
    pub share: f64,
    /// Calls per second that were due.
    pub rate: f64,
    /// The runs, by round.
    pub runs: Vec<Run>,
}

/// The memory of one peer's server, including descendants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The peer's name.
    pub peer: String,
    /// Memory in RAM after its first answer.
    pub start_kib: Option<u64>,
    /// Number of idle connections that could be held open.
    pub idle_connections: u32,
    /// Memory in RAM with these connections.
    pub idle_kib: Option<u64>,
    /// Peak memory in RAM while 400 connections were busy.
    pub peak_kib: Option<u64>,
}

/// System calls of the server for one peer and load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Syscalls {
    /// The peer's name.
    pub peer: String,
    /// Number of connections.
    pub connections: u32,
    /// Calls in flight on each connection.
    pub depth: u32,
    /// Names with their number per call, the most frequent first.
    pub per_call: Vec<(String, f64)>,
}

/// A row of the article's table, measured here or as published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArticleRow {
    /// The peer's name, or the article's name for it.
    pub name: String,
    /// The client: `wrk -t12 -c400`, `wrk -t1 -c400`, `loadgen`, `the article`.
    pub by: String,
    /// The runs, by round; the article's own figures are one run.
    pub runs: Vec<Run>,
}

/// The same calls in an open loop, alone and beside other calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The peer's name.
    pub peer: String,
    /// Calls per second.
    pub rate: f64,
    /// The other calls: `1 % Echo.Sleep of 20 ms`, `echo-256k, 4 at a time`.
    pub company: String,
    /// The runs without the other calls.
    pub alone: Vec<Run>,
    /// The runs with the other calls; only the measured calls count.
    pub together: Vec<Run>,
}

/// The goodput of one peer at multiples of its capacity: `Users.List` of 100 users, a deadline of 50 ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverloadRow {
    /// The peer's name.
    pub peer: String,
    /// The protocol in which the load generator called it.
    pub protocol: String,
    /// Its capacity in calls per second, by round.
    pub capacity: Vec<f64>,
    /// The loads, first those that stated the deadline.
    pub points: Vec<OverloadPoint>,
}

/// One load of an [`OverloadRow`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverloadPoint {
    /// The offered load as a multiple of the capacity.
    pub factor: f64,
    /// Whether the calls stated the deadline to the server.
    pub states_deadline: bool,
    /// The runs, by round.
    pub runs: Vec<OverloadRun>,
}

/// One window of an [`OverloadPoint`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverloadRun {
    /// The round, from 1.
    pub round: u32,
    /// Answers in time, as a share of the capacity.
    pub goodput: f64,
    /// The most that is possible, given what a refusal costs this server; `None` if it is not known.
    pub ceiling: Option<f64>,
    /// 99th percentile of the latency of ok answers, in µs, from when the calls were due.
    pub p99_us: Option<f64>,
    /// Caveats: `late`, `saturated`, `disturbed`, `stolen`.
    pub doubts: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::sample::sample;
    use super::*;

    #[test]
    fn record_survives_its_json() {
        let record = sample();
        let text = serde_json::to_string(&record).expect("plain values");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("as written"), record);
    }

    #[test]
    fn cells_are_found_and_compared() {
        let record = sample();
        assert_eq!(record.loads(), [(Setting::Apart, "add".into(), "64x1".into())]);
        let other = record.cell("other", Setting::Apart, "add", "64x1").expect("it is there");
        assert_eq!(record.cpu_ratio(other, "coreloop-inline").map(|ratio| ratio.median), Some(5.0));
        assert_eq!(record.cpu_ratio(other, "nobody"), None);
        assert_eq!(record.peer("other").map(|peer| peer.is_coreloop), Some(false));
    }
}
