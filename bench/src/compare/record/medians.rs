//! Values derived from the runs of a record: medians with their spread, ratios within a round, the bottleneck.

use super::{
    ArticleRow, Cell, Limit, Memory, OverloadPoint, OverloadRow, Pair, Peer, Point, Record, Run, Setting,
    Syscalls, Tail,
};
use crate::table::Spread;

/// From this share of its core the client has no CPU time to spare.
pub const CLIENT_SHARE_MAX: f64 = 0.95;
/// Below this share of its cores the server is not at its limit.
pub const SERVER_SHARE_MIN: f64 = 0.90;

/// Returns median, minimum and maximum of a figure over the rounds; `None` if no round has it.
pub fn spread(runs: &[Run], figure: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
    Spread::of(runs.iter().filter_map(figure))
}

/// Returns the errors of all runs.
pub fn errors(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.errors).sum()
}

/// Returns the caveats of these runs, each with the number of rounds that have it.
pub fn against(runs: &[Run]) -> Vec<(String, usize)> {
    let mut seen: Vec<(String, usize)> = Vec::new();
    for word in runs.iter().flat_map(|run| &run.against) {
        match seen.iter_mut().find(|(known, _)| known == word) {
            Some((_, rounds)) => *rounds += 1,
            None => seen.push((word.clone(), 1)),
        }
    }
    seen
}

impl Cell {
    /// Returns the load in the form `64x16`.
    pub fn load(&self) -> String {
        format!("{}x{}", self.connections, self.depth)
    }

    /// Returns the replies per second.
    pub fn calls_per_s(&self) -> Option<Spread> {
        spread(&self.runs, |run| Some(run.calls_per_s))
    }

    /// Returns the server CPU time per call, in µs.
    pub fn server_us_per_call(&self) -> Option<Spread> {
        spread(&self.runs, |run| run.server_us_per_call)
    }

    /// Returns the client CPU time per call, in µs.
    pub fn client_us_per_call(&self) -> Option<Spread> {
        spread(&self.runs, |run| run.client_us_per_call)
    }

    /// Returns the median latency, in µs.
    pub fn p50_us(&self) -> Option<Spread> {
        spread(&self.runs, |run| run.p50_us)
    }

    /// Returns the 99th percentile of the latency, in µs.
    pub fn p99_us(&self) -> Option<Spread> {
        spread(&self.runs, |run| run.p99_us)
    }

    /// Returns the 99.9th percentile of the latency, in µs.
    pub fn p999_us(&self) -> Option<Spread> {
        spread(&self.runs, |run| run.p999_us)
    }

    /// Returns the ratio of the server CPU time per call to another cell's, within each round.
    pub fn cpu_ratio(&self, base: &Cell) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| {
            let other = base.runs.iter().find(|other| other.round == run.round)?;
            Some(run.server_us_per_call? / other.server_us_per_call?)
        }))
    }

    /// Returns the errors of all rounds.
    pub fn errors(&self) -> u64 {
        errors(&self.runs)
    }

    /// Returns the peak memory of all rounds, in KiB.
    pub fn peak_kib(&self) -> Option<u64> {
        self.runs.iter().filter_map(|run| run.peak_kib).max()
    }

    /// Returns the limit of most rounds; see [`Run::limit`].
    pub fn limit(&self) -> Limit {
        let of = |limit| self.runs.iter().filter(|run| self.limit_of(run) == limit).count();
        match self.runs.len() / 2 {
            half if of(Limit::Client) > half => Limit::Client,
            half if of(Limit::Server) > half => Limit::Server,
            _ => Limit::Between,
        }
    }

    fn limit_of(&self, run: &Run) -> Limit {
        // A single call in flight waits for its own answer; with shared cores, the CPU shares are shared too.
        if self.connections * self.depth == 1 || self.setting == Setting::Shared {
            return Limit::Between;
        }
        run.limit()
    }
}

impl Run {
    /// Returns the bottleneck: the client, if it has no CPU time to spare or if the server has some.
    pub fn limit(&self) -> Limit {
        match (self.client_share, self.server_share) {
            (_, Some(server)) if server >= SERVER_SHARE_MIN => Limit::Server,
            (Some(client), _) if client >= CLIENT_SHARE_MAX => Limit::Client,
            (_, Some(_)) => Limit::Client,
            _ => Limit::Between,
        }
    }
}

impl ArticleRow {
    /// Returns the calls per second.
    pub fn calls_per_s(&self) -> Option<Spread> {
        spread(&self.runs, |run| Some(run.calls_per_s))
    }

    /// Returns the mean latency, in milliseconds.
    pub fn mean_ms(&self) -> Option<Spread> {
        spread(&self.runs, |run| Some(run.mean_us? / 1e3))
    }

    /// Returns the peak memory of a round, in KiB.
    pub fn peak_kib(&self) -> Option<u64> {
        spread(&self.runs, |run| Some(run.peak_kib? as f64)).map(|peak| peak.median as u64)
    }

    /// Returns the server CPU time per call; `None` in the article's rows.
    pub fn server_us_per_call(&self) -> Option<Spread> {
        spread(&self.runs, |run| run.server_us_per_call)
    }

    /// Returns the errors of all rounds; the article does not report its own.
    pub fn errors(&self) -> u64 {
        errors(&self.runs)
    }
}

impl Tail {
    /// Returns the point with this share (to a thousandth).
    pub fn at(&self, share: f64) -> Option<&Point> {
        self.points.iter().find(|point| (point.share - share).abs() < 1e-3)
    }
}

impl Point {
    /// Returns the median latency, in µs.
    pub fn p50_us(&self) -> Option<Spread> {
        spread(&self.runs, |run| run.p50_us)
    }

    /// Returns the 99th percentile of the latency, in µs.
    pub fn p99_us(&self) -> Option<Spread> {
        spread(&self.runs, |run| run.p99_us)
    }

    /// Returns the 99.9th percentile of the latency, in µs.
    pub fn p999_us(&self) -> Option<Spread> {
        spread(&self.runs, |run| run.p999_us)
    }
}

impl Memory {
    /// Returns the memory that one idle connection adds, in bytes.
    pub fn bytes_per_idle(&self) -> Option<f64> {
        let added = self.idle_kib?.saturating_sub(self.start_kib?);
        (self.idle_connections > 0).then(|| added as f64 * 1024.0 / f64::from(self.idle_connections))
    }
}

impl Syscalls {
    /// Returns the number of all system calls per call.
    pub fn total(&self) -> f64 {
        self.per_call.iter().map(|(_, count)| count).sum()
    }
}

impl Pair {
    /// Returns the p99 of the calls alone.
    pub fn alone_p99_us(&self) -> Option<Spread> {
        spread(&self.alone, |run| run.p99_us)
    }

    /// Returns the p99 of the same calls beside the other calls.
    pub fn together_p99_us(&self) -> Option<Spread> {
        spread(&self.together, |run| run.p99_us)
    }

    /// Returns the ratio of the two p99 values, within each round.
    pub fn p99_ratio(&self) -> Option<Spread> {
        Spread::of(self.together.iter().filter_map(|together| {
            let alone = self.alone.iter().find(|alone| alone.round == together.round)?;
            Some(together.p99_us? / alone.p99_us?)
        }))
    }
}

impl OverloadRow {
    /// Returns the point of this load.
    pub fn at(&self, factor: f64, states_deadline: bool) -> Option<&OverloadPoint> {
        self.points.iter().find(|point| point.is(factor, states_deadline))
    }

    /// The same, to add runs.
    pub fn at_mut(&mut self, factor: f64, states_deadline: bool) -> Option<&mut OverloadPoint> {
        self.points.iter_mut().find(|point| point.is(factor, states_deadline))
    }
}

impl OverloadPoint {
    fn is(&self, factor: f64, states_deadline: bool) -> bool {
        self.factor == factor && self.states_deadline == states_deadline
    }

    /// Returns the goodput, in percent of the capacity.
    pub fn goodput_percent(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|run| run.goodput * 100.0))
    }

    /// Returns whether the generator or the machine, and not the server, may have determined a run.
    pub fn is_doubtful(&self) -> bool {
        self.runs.iter().any(|run| !run.doubts.is_empty())
    }
}

impl Record {
    /// Returns the loads of the section overload, in ascending order.
    pub fn overload_factors(&self) -> Vec<f64> {
        let points = self.overload.iter().flat_map(|row| &row.points);
        let mut factors: Vec<f64> = points.map(|point| point.factor).collect();
        factors.sort_by(f64::total_cmp);
        factors.dedup();
        factors
    }

    /// Returns the peer with this name.
    pub fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.name == name)
    }

    /// Returns whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        let cells = self.capacity.iter().chain(&self.wrk).all(|cell| cell.runs.is_empty());
        let tails = self.tails.iter().flat_map(|tail| &tail.points).all(|point| point.runs.is_empty());
        let pairs = self.slow_mix.iter().chain(&self.beside_big).all(|pair| pair.together.is_empty());
        let rows = self.article.iter().all(|row| self.peer(&row.name).is_none());
        let overload = self.overload.is_empty();
        cells && tails && pairs && rows && overload && self.memory.is_empty() && self.syscalls.is_empty()
    }

    /// Returns the kind of coreloop that a peer is compared with: the one that is called the same way.
    pub fn base_of(&self, peer: &Peer) -> &'static str {
        let like = match peer.protocol.as_str() {
            "http" => "coreloop-http",
            "gob" => "coreloop-gob-go",
            "jsonrpc" => "coreloop-jsonrpc-go",
            // Their clients encode and decode values, unlike the fixed layout.
            "own" => "coreloop-serde",
            _ => "coreloop-inline",
        };
        if self.peer(like).is_some() { like } else { "coreloop-inline" }
    }

    /// Returns a cell of the closed loops.
    pub fn cell(&self, peer: &str, setting: Setting, call: &str, load: &str) -> Option<&Cell> {
        self.capacity.iter().find(|cell| {
            cell.peer == peer && cell.setting == setting && cell.call == call && cell.load() == load
        })
    }

    /// Returns the settings, calls and loads of the closed loops, in the order in which they were measured.
    pub fn loads(&self) -> Vec<(Setting, String, String)> {
        let mut loads = Vec::new();
        for cell in &self.capacity {
            let load = (cell.setting, cell.call.clone(), cell.load());
            if !loads.contains(&load) {
                loads.push(load);
            }
        }
        loads
    }

    /// Returns the ratio of the cell's server CPU time per call to that of `base` in the same round; `None` without a
    /// common round.
    pub fn cpu_ratio(&self, cell: &Cell, base: &str) -> Option<Spread> {
        cell.cpu_ratio(self.cell(base, cell.setting, &cell.call, &cell.load())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(round: u32, server_us: f64, p99_us: f64) -> Run {
        Run { round, server_us_per_call: Some(server_us), p99_us: Some(p99_us), ..Run::default() }
    }

    fn cell(peer: &str, runs: Vec<Run>) -> Cell {
        Cell {
            peer: peer.into(),
            setting: Setting::Apart,
            call: "add".into(),
            connections: 64,
            depth: 16,
            client_threads: 1,
            runs,
        }
    }

    #[test]
    fn medians_skip_rounds_without_the_figure() {
        let mut cell = cell("a", vec![run(1, 3.0, 9.0), run(2, 1.0, 7.0), run(3, 2.0, 8.0)]);
        cell.runs[0].p99_us = None;
        assert_eq!(cell.server_us_per_call(), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(cell.p99_us(), Some(Spread { median: 7.5, min: 7.0, max: 8.0 }));
        assert_eq!(cell.p50_us(), None);
        assert_eq!(cell.load(), "64x16");
    }

    #[test]
    fn the_client_is_the_bottleneck_if_the_server_is_not() {
        let shares = |client, server| Run { client_share: client, server_share: server, ..Run::default() };
        for (client, server, want) in [
            (Some(0.6), Some(0.97), Limit::Server),
            (Some(0.99), Some(0.97), Limit::Server),
            (Some(0.99), Some(0.7), Limit::Client),
            (Some(0.8), Some(0.85), Limit::Client),
            (Some(0.99), None, Limit::Client),
            (Some(0.5), None, Limit::Between),
        ] {
            assert_eq!(shares(client, server).limit(), want, "{client:?} {server:?}");
        }
        let mut lone = cell("a", vec![shares(Some(0.3), Some(0.3))]);
        assert_eq!(lone.limit(), Limit::Client);
        (lone.connections, lone.depth) = (1, 1);
        assert_eq!(lone.limit(), Limit::Between, "a lone caller waits for its call");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let pair = Pair {
            peer: "a".into(),
            rate: 1.0,
            company: String::new(),
            alone: vec![run(1, 1.0, 10.0), run(2, 1.0, 100.0)],
            together: vec![run(2, 1.0, 50.0), run(1, 1.0, 20.0), run(3, 1.0, 1.0)],
        };
        assert_eq!(pair.p99_ratio(), Spread::of([2.0, 0.5]));
        let memory = Memory {
            peer: "a".into(),
            start_kib: Some(1000),
            idle_connections: 5000,
            idle_kib: Some(6000),
            peak_kib: None,
        };
        assert_eq!(memory.bytes_per_idle(), Some(1024.0));
    }

    #[test]
    fn caveats_of_runs_are_counted() {
        let said = |words: &[&str]| Run {
            against: words.iter().map(ToString::to_string).collect(),
            ..Run::default()
        };
        let runs = [said(&["late"]), said(&[]), said(&["late", "disturbed"])];
        assert_eq!(against(&runs), [("late".into(), 2), ("disturbed".into(), 1)]);
    }
}
