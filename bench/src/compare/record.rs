//! What a comparison found: everything that was measured, run by run, as the JSON holds it and the page shows it.
//!
//! Medians are not kept but computed, by the methods in `medians`, so that table, Markdown and page say the same. Nothing
//! here measures or prints.

mod medians;
#[cfg(test)]
pub(crate) mod sample;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

pub use medians::{against, errors, spread};

/// The version of this form of record; it changes when a reader must.
pub const FORMAT: u32 = 1;

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// As it was called.
    pub command: Vec<String>,
    /// When it began, in UTC: `2026-11-25 00:08:49`.
    pub began: String,
    /// How long it took, or has taken so far.
    pub took_s: f64,
    /// How it stands.
    pub state: State,
    /// Where it ran.
    pub machine: Machine,
    /// Which version of coreloop, as its program says.
    pub coreloop: String,
    /// How thoroughly.
    pub settings: Settings,
    /// Who took part, in the order of the tables; coreloop itself several times.
    pub peers: Vec<Peer>,
    /// Who did not, or not with everything, and why.
    pub left_out: Vec<LeftOut>,
    /// What must be known to read it, in sentences.
    pub notes: Vec<String>,
    /// Closed loops.
    pub capacity: Vec<Cell>,
    /// Open loops at shares of each server's own capacity.
    pub tails: Vec<Tail>,
    /// Memory, idle and busy.
    pub memory: Vec<Memory>,
    /// System calls per call.
    pub syscalls: Vec<Syscalls>,
    /// Under wrk, for who speaks HTTP.
    pub wrk: Vec<Cell>,
    /// As the article measured.
    pub article: Vec<ArticleRow>,
    /// Quick calls with slow ones among them, and without.
    pub slow_mix: Vec<Pair>,
    /// Small calls beside large ones on the same server, and without.
    pub beside_big: Vec<Pair>,
}

/// How a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Sections are still to come, or the program was lost.
    Running,
    /// As planned.
    Complete,
    /// A signal ended it.
    Cut,
}

/// How thoroughly it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Rounds, with the order of the peers reversed from one to the next.
    pub rounds: u32,
    /// Length of a measured window.
    pub seconds: f64,
    /// Length of the run-up before each.
    pub warmup_s: f64,
    /// The server's cores in the setting `apart`.
    pub server_cores: Vec<usize>,
    /// The client's.
    pub client_cores: Vec<usize>,
    /// Those of both in the setting `shared`.
    pub shared_cores: Vec<usize>,
    /// A smoke run: its figures say that it works, not how well.
    pub quick: bool,
    /// The sections that were asked for.
    pub sections: Vec<String>,
}

/// One who is measured: a peer, or coreloop with one of its kinds of call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// What it is called here: the folder's name. Rows refer to it.
    pub name: String,
    /// As it stands in tables.
    pub title: String,
    /// The language that it is written in.
    pub language: String,
    /// What it is not or does not do, beside the figures.
    pub differs: String,
    /// What is spoken: native, http, jsonrpc, gob, own.
    pub protocol: String,
    /// Who makes the calls: `loadgen`, `drive`, or the client that it brings.
    pub client: String,
    /// What it says of its version.
    pub version: String,
    /// Coreloop itself.
    pub is_coreloop: bool,
    /// A reference (a floor, a server of static bytes): a bound, not a rival.
    pub is_reference: bool,
}

/// Who or what could not be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The peer's name.
    pub peer: String,
    /// The whole of it, or a part: a call, a section.
    pub what: String,
    /// Why.
    pub why: String,
    /// The command that installs what is missing, where that is the reason.
    pub install: Option<String>,
}

/// Which cores server and client have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Each its own.
    Apart,
    /// Both the same two.
    Shared,
}

impl Setting {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Setting::Apart => "apart",
            Setting::Shared => "shared",
        }
    }
}

/// What kept a closed loop from being quicker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The server's cores: the rate is its capacity.
    Server,
    /// The client's: the server could have done more. Its CPU time per call stands.
    Client,
    /// Neither: the way between them, as with a lone caller, or a share that is not known.
    Between,
}

/// One measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// From 1.
    pub round: u32,
    /// Replies per second.
    pub calls_per_s: f64,
    /// Server CPU time per call, in µs: all threads and descendants. None: it could not be read.
    pub server_us_per_call: Option<f64>,
    /// The kernel's part of it, where the client tells.
    pub server_system_us_per_call: Option<f64>,
    /// The client's.
    pub client_us_per_call: Option<f64>,
    /// Used of the server's cores: 1 is all that it had.
    pub server_share: Option<f64>,
    /// Used of the client's.
    pub client_share: Option<f64>,
    /// Share of the window in which the client was ready to run and something else had its core.
    pub client_waited_share: Option<f64>,
    /// Latency, in µs; in an open loop from when a call was due. None: the client does not tell.
    pub p50_us: Option<f64>,
    /// As above.
    pub p99_us: Option<f64>,
    /// As above.
    pub p999_us: Option<f64>,
    /// As above.
    pub max_us: Option<f64>,
    /// The mean, where the client tells.
    pub mean_us: Option<f64>,
    /// Wrong answers, answers with an error, lost connections, calls without an answer.
    pub errors: u64,
    /// What the first of them was.
    pub first_error: Option<String>,
    /// The most memory that the server had in RAM until the window's end, descendants included.
    pub peak_kib: Option<u64>,
    /// What stands against the figures: `late`, `saturated`, `disturbed`, `stolen`, `rate missed`.
    pub against: Vec<String>,
}

/// The runs of one peer under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The peer's name.
    pub peer: String,
    /// Which cores.
    pub setting: Setting,
    /// add, echo-1k, users-100, echo-256k.
    pub call: String,
    /// Connections.
    pub connections: u32,
    /// Calls in flight on each.
    pub depth: u32,
    /// The client's threads: 1, or as many as wrk was told.
    pub client_threads: u32,
    /// Round by round. Empty: it failed, and is in `left_out`.
    pub runs: Vec<Run>,
}

/// Open loops of one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// The peer's name.
    pub peer: String,
    /// Connections.
    pub connections: u32,
    /// Calls in flight on each, at most.
    pub depth_max: u32,
    /// What the shares are of: its closed loop with so many connections and one call in flight on each.
    pub capacity: f64,
    /// From the lowest share to the highest.
    pub points: Vec<Point>,
}

/// One rate of an open loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Of the capacity: 0.1 to 0.9.
    pub share: f64,
    /// Calls per second that were due.
    pub rate: f64,
    /// Round by round.
    pub runs: Vec<Run>,
}

/// The memory of one peer's server, descendants included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The peer's name.
    pub peer: String,
    /// In RAM after its first answer.
    pub start_kib: Option<u64>,
    /// The idle connections that could be held open.
    pub idle_connections: u32,
    /// In RAM with them.
    pub idle_kib: Option<u64>,
    /// The most in RAM while 400 connections were busy.
    pub peak_kib: Option<u64>,
}

/// System calls of the server, by one peer and load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Syscalls {
    /// The peer's name.
    pub peer: String,
    /// Connections.
    pub connections: u32,
    /// Calls in flight on each.
    pub depth: u32,
    /// By name and number per call, the most frequent first.
    pub per_call: Vec<(String, f64)>,
}

/// A row of the article's table, measured here or as printed there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArticleRow {
    /// The peer's name, or the article's word for it.
    pub name: String,
    /// `wrk -t12 -c400`, `wrk -t1 -c400`, `loadgen`, `the article`.
    pub by: String,
    /// Round by round; the article's own figures are one.
    pub runs: Vec<Run>,
}

/// The same calls in an open loop, alone and with company.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The peer's name.
    pub peer: String,
    /// Calls per second.
    pub rate: f64,
    /// The company: `1 % Echo.Sleep of 20 ms`, `echo-256k, 4 at a time`.
    pub company: String,
    /// Without it.
    pub alone: Vec<Run>,
    /// With it: only the calls that are looked at.
    pub together: Vec<Run>,
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
