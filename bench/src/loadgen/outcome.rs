//! The result of a run in its stored form: `--json` writes it, the table and the page show it.

use std::collections::BTreeMap;

use coreloop::Code;
use serde::Serialize;

use super::headers;
use super::mix::Call;
use super::objective::ObjectiveResult;
use super::run::{Measured, Plan, Point, ThreadUse};
use super::schedule::Arrivals;
use super::scrape::ScrapeFigures;
use super::speech::AddressProtocol;
use super::streams::counts::StreamFigures;
use super::tally::{Connections, MethodTally};
use super::trace::TraceFigures;
use super::verdict::Verdict;
use crate::histogram::Histogram;
use crate::machine::Machine;

/// The displayed percentiles; the JSON has more.
pub const SHOWN: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];
/// Number of percentile steps of the JSON and the plot for each halving of the distance to 100.
const STEPS_PER_HALVING: u32 = 5;

/// A distribution of times, in ns.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Distribution {
    /// Number of values.
    pub count: u64,
    /// The exact mean.
    pub mean_ns: f64,
    /// The exact maximum.
    pub max_ns: u64,
    /// Percentile and value; the steps get finer towards 100. Each value is accurate to 0.8 %.
    pub percentiles: Vec<(f64, u64)>,
}

impl Distribution {
    /// Computes the distribution of a histogram.
    pub fn of(histogram: &Histogram) -> Distribution {
        let mut wanted: Vec<f64> = SHOWN.to_vec();
        // Continues until less than one value is above the step.
        let halvings = 64 - histogram.count().leading_zeros();
        for step in 0..=halvings * STEPS_PER_HALVING {
            wanted.push(100.0 - 100.0 * 0.5_f64.powf(f64::from(step) / f64::from(STEPS_PER_HALVING)));
        }
        wanted.push(100.0);
        wanted.sort_by(f64::total_cmp);
        wanted.dedup();
        let percentiles = match histogram.count() {
            0 => Vec::new(),
            _ => wanted.iter().map(|percent| (*percent, histogram.quantile(percent / 100.0))).collect(),
        };
        Distribution {
            count: histogram.count(),
            mean_ns: histogram.mean(),
            max_ns: histogram.max(),
            percentiles,
        }
    }

    /// Returns the value at a percentile, one of [`SHOWN`]; `None` without values.
    pub fn at(&self, percent: f64) -> Option<u64> {
        self.percentiles.iter().find(|(known, _)| *known == percent).map(|(_, ns)| *ns)
    }
}

/// The figures of one method, or of all methods.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The method's name.
    pub name: String,
    /// The method's codec.
    pub codec: String,
    /// The method's weight in the mix.
    pub weight: u32,
    /// Calls due in the window that were answered with ok.
    pub ok: u64,
    /// Ok answers within the call's deadline, counted from when it was due. `None` without a deadline.
    pub in_time: Option<u64>,
    /// Ok answers after that deadline. `None` without a deadline.
    pub after_deadline: Option<u64>,
    /// Calls that were answered with an error or lost.
    pub errors: u64,
    /// The errors that were lost with their connection.
    pub lost: u64,
    /// Calls without an answer when the run ended.
    pub unanswered: u64,
    /// Calls that were due and never sent.
    pub never_sent: u64,
    /// Number of errors by status name.
    pub errors_by_status: BTreeMap<&'static str, u64>,
    /// Latency from the intended time; a call that is never answered counts with the time that it waited.
    pub latency: Distribution,
    /// Latency from the time of sending. In a closed loop the same.
    pub uncorrected: Distribution,
    /// Latency of errors, from the intended time.
    pub error_latency: Distribution,
    /// Time from sending to the answer, without queue and handler.
    pub wire: Distribution,
    /// Time in the server's queue, as the server reports it.
    pub queue: Distribution,
    /// Time in the handler, as the server reports it.
    pub handler: Distribution,
}

impl Figures {
    fn of(
        name: String,
        codec: String,
        weight: u32,
        tally: &MethodTally,
        open_loop: bool,
        has_deadline: bool,
    ) -> Figures {
        let latency = Distribution::of(&tally.latency_with_waiting());
        let names = Code::ALL.iter().map(|code| code.name()).zip(tally.statuses);
        Figures {
            name,
            codec,
            weight,
            ok: tally.statuses[0],
            in_time: has_deadline.then_some(tally.in_time),
            after_deadline: has_deadline.then(|| tally.statuses[0] - tally.in_time),
            errors: tally.errors(),
            lost: tally.lost,
            unanswered: tally.unanswered,
            never_sent: tally.never_sent,
            errors_by_status: names.skip(1).filter(|(_, count)| *count > 0).collect(),
            uncorrected: if open_loop { Distribution::of(&tally.uncorrected) } else { latency.clone() },
            latency,
            error_latency: Distribution::of(&tally.failed),
            wire: Distribution::of(&tally.wire),
            queue: Distribution::of(&tally.queue),
            handler: Distribution::of(&tally.handler),
        }
    }
}

/// The cost of the generator, and how late it sent calls.
#[derive(Clone, Debug, Serialize)]
pub struct Generator {
    /// Its own CPU time per answer within the window, in ns.
    pub cpu_ns_per_call: f64,
    /// The threads' CPU time.
    pub threads: Vec<ThreadUse>,
    /// Delay between when calls were due and when they left, as far as the generator caused it.
    pub late: Distribution,
    /// Calls that waited for a connection with room.
    pub held: u64,
}

/// The cost of the server.
#[derive(Clone, Debug, Serialize)]
pub struct ServerCost {
    /// CPU time of its process within the window, in ns.
    pub cpu_ns: u64,
    /// CPU time per answer, in ns.
    pub cpu_ns_per_call: f64,
    /// CPU time as a share of the window; 1 is a whole core.
    pub cpu_share: f64,
    /// The source of the figure.
    pub source: String,
}

/// The effective options of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// The protocol.
    pub protocol: AddressProtocol,
    /// Whether the connections have TLS.
    pub tls: bool,
    /// Address of the server.
    pub target: String,
    /// Whether the server ran in the generator's own process.
    pub own_server: bool,
    /// Number of connections.
    pub connections: u32,
    /// Calls in flight on each connection; in an open loop the maximum.
    pub depth: u32,
    /// The requested calls per second; `None` in a closed loop.
    pub rate: Option<f64>,
    /// The spacing of the calls.
    pub arrivals: Option<Arrivals>,
    /// Length of the warm-up, in seconds.
    pub warmup_s: f64,
    /// Length of the measured window, in seconds.
    pub duration_s: f64,
    /// Threads of the generator.
    pub threads: usize,
    /// The threads' cores, if they were pinned.
    pub cores: Vec<usize>,
    /// Whether the threads polled instead of sleeping.
    pub spin: bool,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The deadline stated with each call, in µs; 0 for none.
    pub time_left_us: u32,
}

/// The results of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// This program's version.
    pub version: &'static str,
    /// The command line.
    pub command: Vec<String>,
    /// The machine, and the time of the run.
    pub machine: Machine,
    /// The options.
    pub settings: Settings,
    /// The caveats of the result.
    pub verdict: Verdict,
    /// Measured length of the window.
    pub window_s: f64,
    /// Ok answers within the window, per second.
    pub calls_per_s: f64,
    /// Ok answers within the window and within their deadline, per second. `None` without a deadline.
    pub in_time_per_s: Option<f64>,
    /// Errors within the window, per second.
    pub errors_per_s: f64,
    /// Answers in the whole run, including the warm-up.
    pub answers_in_all: u64,
    /// All methods together.
    pub total: Figures,
    /// Each method of a mix.
    pub methods: Vec<Figures>,
    /// The figures of streams; the calls above are then their messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<StreamFigures>,
    /// The first message of each status.
    pub messages: BTreeMap<&'static str, String>,
    /// The connection counts.
    pub connections: Connections,
    /// The generator's cost.
    pub generator: Generator,
    /// The server's cost, if its process is known.
    pub server: Option<ServerCost>,
    /// The intervals of the window.
    pub series: Vec<Point>,
    /// The traced calls, with `--trace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces: Option<TraceFigures>,
    /// The server's own numbers, with `--metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scraped: Option<ScrapeFigures>,
    /// The objective of `--slo`, and whether it was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<ObjectiveResult>,
}

impl Outcome {
    /// Returns what is counted, in the plural.
    pub fn unit(&self) -> &'static str {
        if self.streams.is_some() { "messages" } else { "calls" }
    }

    /// Combines the plan and the measurements into a result.
    pub fn new(
        plan: &Plan,
        calls: &[Call],
        own_server: bool,
        time_left_us: u32,
        measured: &Measured,
    ) -> Outcome {
        let (open_loop, has_deadline) = (plan.rate.is_some(), !plan.deadlines_ns.is_empty());
        let mut all = MethodTally::default();
        for method in &measured.methods {
            all.add(method);
        }
        let figures = |(call, tally): (&Call, &MethodTally)| {
            Figures::of(call.label(calls), call.codec.clone(), call.weight, tally, open_loop, has_deadline)
        };
        let methods: Vec<Figures> = calls.iter().zip(&measured.methods).map(figures).collect();
        let (name, codec) = match calls {
            [only] => (only.method.clone(), only.codec.clone()),
            _ => ("all".into(), "mixed".into()),
        };
        let ended = (measured.ok_in_window + measured.failed_in_window).max(1) as f64;
        let generator_ns: u64 = measured.threads.iter().map(|used| used.cpu_ns).sum();
        let mut verdict = Verdict::of(plan, measured);
        if own_server {
            verdict.remarks.push("Generator and server were one process and shared its cores.".into());
        }
        let messages = Code::ALL.iter().map(|code| code.name()).zip(measured.messages.iter());
        let cost = |cpu_ns: u64, source: String| ServerCost {
            cpu_ns,
            cpu_ns_per_call: cpu_ns as f64 / ended,
            cpu_share: cpu_ns as f64 / 1e9 / measured.window_s,
            source,
        };
        let server = match (&measured.watched_cpu_ns, plan.watch) {
            (Some(Ok(cpu_ns)), Some(pid)) => Some(cost(*cpu_ns, format!("process {pid}"))),
            (Some(Err(why)), _) => {
                verdict
                    .remarks
                    .push(format!("The CPU time of the watched process could not be read: {why}."));
                None
            }
            _ if own_server => Some(cost(
                measured.own_cpu_ns.saturating_sub(generator_ns),
                "this process without the generator's threads".into(),
            )),
            _ => None,
        };
        Outcome {
            version: env!("CARGO_PKG_VERSION"),
            command: headers::redacted(std::env::args()),
            machine: Machine::here(),
            settings: Settings {
                protocol: plan.speaks,
                tls: plan.target.tls.is_some(),
                target: plan.target.to_string(),
                own_server,
                connections: plan.connections,
                depth: plan.depth,
                rate: plan.rate,
                arrivals: open_loop.then_some(plan.arrivals),
                warmup_s: plan.warmup.as_secs_f64(),
                duration_s: plan.duration.as_secs_f64(),
                threads: measured.threads.len(),
                cores: plan.cores.clone(),
                spin: plan.spin,
                seed: plan.seed,
                time_left_us,
            },
            window_s: measured.window_s,
            calls_per_s: measured.ok_in_window as f64 / measured.window_s,
            in_time_per_s: has_deadline.then(|| measured.in_time_in_window as f64 / measured.window_s),
            errors_per_s: measured.failed_in_window as f64 / measured.window_s,
            answers_in_all: measured.answers_in_all,
            total: Figures::of(name, codec, 1, &all, open_loop, has_deadline),
            methods,
            streams: None,
            messages: messages.filter_map(|(name, message)| Some((name, message.clone()?))).collect(),
            connections: measured.connections.clone(),
            generator: Generator {
                cpu_ns_per_call: generator_ns as f64 / ended,
                threads: measured.threads.clone(),
                late: Distribution::of(&measured.late),
                held: measured.held,
            },
            server,
            series: measured.series.clone(),
            traces: None,
            scraped: None,
            slo: None,
            verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distribution_has_the_shown_percentiles_and_ends_with_the_maximum() {
        let mut histogram = Histogram::default();
        assert_eq!(Distribution::of(&histogram).at(50.0), None);
        for value in 1..=10_000 {
            histogram.record(value);
        }
        let distribution = Distribution::of(&histogram);
        for percent in SHOWN {
            let want = percent * 100.0;
            let value = distribution.at(percent).expect("there are values") as f64;
            assert!((value / want - 1.0).abs() < 0.01, "p{percent}: {value}");
        }
        assert_eq!(distribution.percentiles.last(), Some(&(100.0, 10_000)));
        assert!(distribution.percentiles.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
    }
}
