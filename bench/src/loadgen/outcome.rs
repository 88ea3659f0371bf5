//! The result of a run in the form in which it is kept: what `--json` writes and the table and the page show.

use std::collections::BTreeMap;

use coreloop::Code;
use serde::Serialize;

use super::headers;
use super::mix::Call;
use super::objective::ObjectiveResult;
use super::run::{Measured, Plan, Point, ThreadUse};
use super::schedule::Arrivals;
use super::speech::Speaks;
use super::tally::{Connections, MethodTally};
use super::verdict::Verdict;
use crate::histogram::Histogram;
use crate::machine::Machine;

/// The percentiles that are shown; the JSON has more.
pub const SHOWN: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];
/// The percentiles of the JSON and the plot have so many steps for each halving of what is left to 100.
const STEPS_PER_HALVING: u32 = 5;

/// One distribution of times, in ns.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Distribution {
    /// Values.
    pub count: u64,
    /// The mean, exactly.
    pub mean_ns: f64,
    /// The largest, exactly.
    pub max_ns: u64,
    /// Percentile and value; the steps get finer towards 100. Each value is right to 0.8 %.
    pub percentiles: Vec<(f64, u64)>,
}

impl Distribution {
    /// Of a histogram.
    pub fn of(histogram: &Histogram) -> Distribution {
        let mut wanted: Vec<f64> = SHOWN.to_vec();
        // Until what is left above is less than one value.
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

    /// The value at a percentile, one of [`SHOWN`]; `None` if there are no values.
    pub fn at(&self, percent: f64) -> Option<u64> {
        self.percentiles.iter().find(|(known, _)| *known == percent).map(|(_, ns)| *ns)
    }
}

/// What was measured of one method, or of all.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The method.
    pub name: String,
    /// Its codec.
    pub codec: String,
    /// Its weight in the mix.
    pub weight: u32,
    /// Calls due in the window that were answered with ok.
    pub ok: u64,
    /// Of those, answered within the deadline that the call states, from when it was due. None without a deadline.
    pub in_time: Option<u64>,
    /// Answered with ok after that deadline. None without a deadline.
    pub after_deadline: Option<u64>,
    /// Those that were answered with an error or lost.
    pub errors: u64,
    /// Of the errors, those lost with their connection.
    pub lost: u64,
    /// Without an answer when the run ended.
    pub unanswered: u64,
    /// Due and never sent.
    pub never_sent: u64,
    /// Errors by the status's name.
    pub errors_by_status: BTreeMap<&'static str, u64>,
    /// From the intended time, with what is never answered as long as it waited.
    pub latency: Distribution,
    /// From the time they were sent. In a closed loop the same.
    pub uncorrected: Distribution,
    /// Latency of errors, from the intended time.
    pub error_latency: Distribution,
    /// From sending to the answer, without queue and handler.
    pub wire: Distribution,
    /// In the server's queue, as it says.
    pub queue: Distribution,
    /// In the handler, as the server says.
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
        let latency = Distribution::of(&tally.latency);
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

/// What the generator cost, and how late it was.
#[derive(Clone, Debug, Serialize)]
pub struct Generator {
    /// Its own CPU time per answer within the window, in ns.
    pub cpu_ns_per_call: f64,
    /// Thread by thread.
    pub threads: Vec<ThreadUse>,
    /// How long after they were due calls left, where the generator was the reason.
    pub late: Distribution,
    /// Calls that waited for a connection with room.
    pub held: u64,
}

/// What the server cost.
#[derive(Clone, Debug, Serialize)]
pub struct ServerCost {
    /// CPU time of its process within the window, in ns.
    pub cpu_ns: u64,
    /// By answer.
    pub cpu_ns_per_call: f64,
    /// Its share of the window; 1 is a whole core.
    pub cpu_share: f64,
    /// Where the figure comes from.
    pub source: String,
}

/// The options as they were understood.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// What it speaks.
    pub protocol: Speaks,
    /// The server.
    pub target: String,
    /// Whether the server was in the generator's own process.
    pub own_server: bool,
    /// Connections.
    pub connections: u32,
    /// Calls in flight on each; in an open loop at most.
    pub depth: u32,
    /// Calls per second asked for; nothing in a closed loop.
    pub rate: Option<f64>,
    /// How they arrived.
    pub arrivals: Option<Arrivals>,
    /// Seconds before the measured window.
    pub warmup_s: f64,
    /// Its length in seconds.
    pub duration_s: f64,
    /// Threads of the generator.
    pub threads: usize,
    /// Their cores, if they were pinned.
    pub cores: Vec<usize>,
    /// Whether they polled in place of sleeping.
    pub spin: bool,
    /// The seed of all that is drawn.
    pub seed: u64,
    /// The deadline stated with each call, in µs; 0 is none.
    pub time_left_us: u32,
}

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// This program's version.
    pub version: &'static str,
    /// The command line.
    pub command: Vec<String>,
    /// The machine, and when.
    pub machine: Machine,
    /// The options.
    pub settings: Settings,
    /// What is to be said of the result.
    pub verdict: Verdict,
    /// Length of the window as it came out.
    pub window_s: f64,
    /// Answers with ok within the window, per second.
    pub calls_per_s: f64,
    /// Answers with ok within the window and within their deadline, per second. None without a deadline.
    pub in_time_per_s: Option<f64>,
    /// Errors within the window, per second.
    pub errors_per_s: f64,
    /// Answers in the whole run, those of the warm-up too.
    pub answers_in_all: u64,
    /// All methods together.
    pub total: Figures,
    /// Each method of a mix.
    pub methods: Vec<Figures>,
    /// The first message that came with a status.
    pub messages: BTreeMap<&'static str, String>,
    /// Connections.
    pub connections: Connections,
    /// The generator.
    pub generator: Generator,
    /// The server, if its process is known.
    pub server: Option<ServerCost>,
    /// The window, interval by interval.
    pub series: Vec<Point>,
    /// The objective of `--slo`, and whether it was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<ObjectiveResult>,
}

impl Outcome {
    /// Puts it together.
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
