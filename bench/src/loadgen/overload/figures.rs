//! What became of the calls of each step, what handling and refusing a call costs the server, and the ceiling of
//! goodput that follows. No clocks and no sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use coreloop::Code;
use serde::Serialize;

use crate::histogram::Histogram;
use crate::loadgen::run::Measured;
use crate::loadgen::tally::{DEADLINE_EXCEEDED, MethodTally, RESOURCE_EXHAUSTED};
use crate::loadgen::verdict::Verdict;
use crate::table::Spread;

/// The generator limits a step if 1 call of 100 left later than this share of the deadline after it was due.
pub const LAG_SHARE: f64 = 0.05;

/// What became of the calls that were due in the window of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls that were due: `sent` and `never_sent`.
    pub offered: u64,
    /// Calls that were sent: the sum of the six fields below.
    pub sent: u64,
    /// Ok answers that arrived within the deadline, counted from when the call was due.
    pub in_time: u64,
    /// Ok answers that arrived later.
    pub late: u64,
    /// Calls answered with `resource_exhausted`.
    pub refused: u64,
    /// Calls answered with `deadline_exceeded`.
    pub deadline_exceeded: u64,
    /// Calls that ended with another error or were lost with their connection.
    pub other_errors: u64,
    /// Calls without an answer when the step ended.
    pub unanswered: u64,
    /// Calls that found no connection with room until the end.
    pub never_sent: u64,
}

impl Counts {
    fn of(measured: &Measured, tally: &MethodTally) -> Counts {
        let (refused, exceeded) = (tally.statuses[RESOURCE_EXHAUSTED], tally.statuses[DEADLINE_EXCEEDED]);
        Counts {
            // Both are counted where calls are due and sent, and not derived from the answers.
            offered: measured.series.iter().map(|point| point.due).sum(),
            sent: measured.late.count(),
            in_time: tally.in_time,
            late: tally.statuses[0] - tally.in_time,
            refused,
            deadline_exceeded: exceeded,
            other_errors: tally.errors() - refused - exceeded,
            unanswered: tally.unanswered,
            never_sent: tally.never_sent,
        }
    }
}

/// Median, 99th percentile and maximum of some times, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Times {
    /// The median.
    pub p50_ns: u64,
    /// The 99th percentile.
    pub p99_ns: u64,
    /// The maximum.
    pub max_ns: u64,
}

impl Times {
    /// Returns `None` without values.
    pub fn of(histogram: &Histogram) -> Option<Times> {
        (histogram.count() > 0).then(|| Times {
            p50_ns: histogram.quantile(0.5),
            p99_ns: histogram.quantile(0.99),
            max_ns: histogram.max(),
        })
    }
}

/// What the server did within a window, and the CPU time that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// CPU time of the server's process, in ns.
    pub cpu_ns: u64,
    /// Ok answers.
    pub ok: u64,
    /// Other answers: calls that were refused or given up.
    pub failed: u64,
}

impl Work {
    /// Returns `None` if the server's CPU time is not known.
    pub fn of(measured: &Measured) -> Option<Work> {
        let cpu_ns = *measured.watched_cpu_ns.as_ref()?.as_ref().ok()?;
        Some(Work { cpu_ns, ok: measured.ok_in_window, failed: measured.failed_in_window })
    }
}

/// One open loop at a multiple of the capacity.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The offered load as a multiple of the capacity.
    pub factor: f64,
    /// The offered load, in calls per second.
    pub rate: f64,
    /// Whether the calls stated the deadline to the server.
    pub states_deadline: bool,
    /// Length of the window, in seconds.
    pub window_s: f64,
    /// What became of the calls.
    pub counts: Counts,
    /// Number of `other_errors` by status name.
    pub other_errors_by_status: BTreeMap<&'static str, u64>,
    /// Answers in time per second.
    pub goodput_per_s: f64,
    /// Answers in time per second, as a share of the capacity.
    pub goodput: f64,
    /// The ceiling of `goodput` at this load, if the costs are known.
    pub ceiling: Option<f64>,
    /// Latency of ok answers, from when the calls were due.
    pub ok_latency: Option<Times>,
    /// Latency of refusals (`resource_exhausted`), from when the calls were due.
    pub refusal_latency: Option<Times>,
    /// What the server did in the window.
    pub server: Option<Work>,
    /// Delay between when calls were due and when they left, as far as the generator caused it.
    pub lag: Option<Times>,
    /// The largest share of a core that a thread of the generator used.
    pub generator_share: f64,
    /// The largest share of the time that a thread of the generator waited for its core.
    pub generator_waited: f64,
    /// Why the generator or the machine, and not the server, may have determined the goodput.
    pub doubts: Vec<Doubt>,
}

/// A reason for which a step may say less of the server than of the generator or the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Doubt {
    /// The generator itself sent calls too late for the deadline.
    Late,
    /// A thread of the generator had no CPU time to spare.
    Saturated,
    /// A thread of the generator had to wait for its core.
    Disturbed,
    /// A hypervisor withheld cores that had work.
    Stolen,
}

impl Doubt {
    /// All of them.
    pub const ALL: [Doubt; 4] = [Doubt::Late, Doubt::Saturated, Doubt::Disturbed, Doubt::Stolen];
}

impl Step {
    /// Combines a plan's load with what was measured. `capacity` is in calls per second.
    pub fn of(factor: f64, capacity: f64, states_deadline: bool, measured: &Measured) -> Step {
        let mut tally = MethodTally::default();
        measured.methods.iter().for_each(|method| tally.add(method));
        let counts = Counts::of(measured, &tally);
        let goodput_per_s = counts.in_time as f64 / measured.window_s;
        let is_other = |at: usize| ![0, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED].contains(&at);
        let by_status = Code::ALL.iter().map(|code| code.name()).zip(tally.statuses).enumerate();
        let other = by_status.filter(|(at, (_, count))| is_other(*at) && *count > 0);
        let busiest = |share: fn(&crate::loadgen::run::ThreadUse) -> f64| {
            measured.threads.iter().map(share).fold(0.0, f64::max)
        };
        Step {
            factor,
            rate: factor * capacity,
            states_deadline,
            window_s: measured.window_s,
            other_errors_by_status: other.map(|(_, named)| named).collect(),
            goodput_per_s,
            goodput: goodput_per_s / capacity,
            ceiling: None,
            ok_latency: Times::of(&tally.latency),
            refusal_latency: Times::of(&tally.refused),
            server: Work::of(measured),
            lag: Times::of(&measured.late),
            generator_share: busiest(|used| used.cpu_share),
            generator_waited: busiest(|used| used.waited_share),
            doubts: Vec::new(),
            counts,
        }
    }

    /// Records what may have been the generator's or the machine's doing.
    pub fn judge(&mut self, verdict: &Verdict, deadline: Duration) {
        let lag_max_ns = LAG_SHARE * deadline.as_nanos() as f64;
        let is_late = self.lag.is_some_and(|lag| lag.p99_ns as f64 > lag_max_ns);
        let found = [is_late, verdict.saturated, verdict.disturbed, verdict.stolen];
        self.doubts =
            Doubt::ALL.into_iter().zip(found).filter(|(_, found)| *found).map(|(doubt, _)| doubt).collect();
    }

    /// Returns the share of a core that the server used.
    pub fn server_share(&self) -> Option<f64> {
        self.server.map(|work| work.cpu_ns as f64 / 1e9 / self.window_s)
    }
}

/// The rate of ok answers in a closed loop, without deadlines.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    /// The median of the windows, or the given rate, in calls per second.
    pub calls_per_s: f64,
    /// Each window's rate of ok answers. Empty if the rate was given.
    pub windows: Vec<f64>,
    /// Each window's work of the server. Empty if it was not watched or the rate was given.
    pub server: Vec<Work>,
    /// Share of the answers that were errors.
    pub failed_share: f64,
    /// Length of all windows together, in seconds.
    pub window_s: f64,
    /// The largest share of a core that a thread of the generator used.
    pub generator_share: f64,
}

impl Capacity {
    /// A capacity that was not measured.
    pub fn given(calls_per_s: f64) -> Capacity {
        Capacity {
            calls_per_s,
            windows: Vec::new(),
            server: Vec::new(),
            failed_share: 0.0,
            window_s: 0.0,
            generator_share: 0.0,
        }
    }

    /// Returns `None` if no call was answered with ok.
    pub fn of(windows: &[Measured]) -> Option<Capacity> {
        let rates: Vec<f64> =
            windows.iter().map(|window| window.ok_in_window as f64 / window.window_s).collect();
        let median = Spread::of(rates.iter().copied())?.median;
        let failed: u64 = windows.iter().map(|window| window.failed_in_window).sum();
        let ok: u64 = windows.iter().map(|window| window.ok_in_window).sum();
        let threads = windows.iter().flat_map(|window| &window.threads);
        (median > 0.0).then(|| Capacity {
            calls_per_s: median,
            windows: rates,
            server: windows.iter().filter_map(Work::of).collect(),
            failed_share: failed as f64 / (failed + ok) as f64,
            window_s: windows.iter().map(|window| window.window_s).sum(),
            generator_share: threads.map(|used| used.cpu_share).fold(0.0, f64::max),
        })
    }

    /// Returns the share of a core that the server used, if it was watched.
    pub fn server_share(&self) -> Option<f64> {
        let cpu_ns: u64 = self.server.iter().map(|work| work.cpu_ns).sum();
        (!self.server.is_empty()).then(|| cpu_ns as f64 / 1e9 / self.window_s)
    }
}

/// The server's CPU time for a call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// For a call that is answered with ok (h), in ns.
    pub handle_ns: f64,
    /// For a call that is refused or given up (r), in ns.
    pub refuse_ns: f64,
    /// r / h.
    pub ratio: f64,
}

impl Costs {
    /// Computes the costs; an error says in one line why they are unknown.
    ///
    /// h is the CPU time for each ok answer in the windows of the capacity, or, if that was given, in the steps
    /// nearest below it. r is the least squares fit of `cpu = h · ok + r · failed` over the steps above it: those with
    /// the most refusals count most, and there an error of h matters least.
    pub fn of(capacity: &Capacity, steps: &[Step]) -> Result<Costs, String> {
        if capacity.server.is_empty() && steps.iter().all(|step| step.server.is_none()) {
            return Err("the CPU time of the server is not known (--watch PID)".into());
        }
        let below = steps.iter().filter(|step| step.factor <= 1.0);
        let nearest = below.clone().map(|step| step.factor).fold(0.0, f64::max);
        let at_capacity: Vec<Work> = match capacity.server.as_slice() {
            [] => below.filter(|step| step.factor == nearest).filter_map(|step| step.server).collect(),
            windows => windows.to_vec(),
        };
        let (cpu_ns, ok) =
            at_capacity.iter().fold((0, 0), |(cpu, ok), work| (cpu + work.cpu_ns, ok + work.ok));
        if cpu_ns == 0 || ok == 0 {
            return Err("no step at or below the capacity shows what a call costs".into());
        }
        let handle_ns = cpu_ns as f64 / ok as f64;
        let above = steps.iter().filter(|step| step.factor > 1.0).filter_map(|step| step.server);
        let (mut products, mut squares) = (0.0, 0.0);
        for work in above {
            let failed = work.failed as f64;
            products += failed * (work.cpu_ns as f64 - handle_ns * work.ok as f64);
            squares += failed * failed;
        }
        if squares == 0.0 {
            return Err("no call was refused or given up in any step above the capacity".into());
        }
        let refuse_ns = products / squares;
        if refuse_ns <= 0.0 {
            return Err("the cost of a refusal is too small to be measured beside that of handling".into());
        }
        Ok(Costs { handle_ns, refuse_ns, ratio: refuse_ns / handle_ns })
    }

    /// Returns the largest possible goodput at a multiple of the capacity, as a share of the capacity.
    pub fn ceiling(&self, factor: f64) -> f64 {
        factor.min((1.0 - (factor - 1.0) * self.ratio).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(factor: f64, server: Option<Work>) -> Step {
        Step {
            factor,
            rate: factor * 1000.0,
            states_deadline: true,
            window_s: 2.0,
            counts: Counts::default(),
            other_errors_by_status: BTreeMap::new(),
            goodput_per_s: 0.0,
            goodput: 0.0,
            ceiling: None,
            ok_latency: None,
            refusal_latency: None,
            server,
            lag: Some(Times { p50_ns: 0, p99_ns: 2_000_000, max_ns: 9_000_000 }),
            generator_share: 0.5,
            generator_waited: 0.0,
            doubts: Vec::new(),
        }
    }

    fn work(cpu_ns: u64, ok: u64, failed: u64) -> Option<Work> {
        Some(Work { cpu_ns, ok, failed })
    }

    #[test]
    fn costs_are_found_in_exact_figures() {
        // 100 µs for a call, 5 µs for a refusal.
        let steps = [
            step(0.5, work(90_000_000, 500, 0)),
            step(1.0, work(100_000_000, 1000, 0)),
            step(2.0, work(95_000_000 + 5_250_000, 950, 1050)),
            step(6.0, work(75_000_000 + 26_250_000, 750, 5250)),
        ];
        let costs = Costs::of(&Capacity::given(1000.0), &steps).expect("the server was watched");
        assert!((costs.handle_ns - 100_000.0).abs() < 1e-6, "{costs:?}");
        assert!((costs.refuse_ns - 5_000.0).abs() < 1e-6, "{costs:?}");
        assert!((costs.ratio - 0.05).abs() < 1e-9);
        // The windows of the capacity take precedence over the steps below it.
        let capacity =
            Capacity { server: vec![work(80_000_000, 1000, 0).expect("some")], ..Capacity::given(1e3) };
        assert_eq!(Costs::of(&capacity, &steps).map(|costs| costs.handle_ns), Ok(80_000.0));
    }

    #[test]
    fn unknown_costs_have_a_reason() {
        let why = |steps: &[Step]| Costs::of(&Capacity::given(1e3), steps).expect_err("unknown");
        assert!(why(&[step(1.0, None), step(2.0, None)]).contains("--watch"));
        assert!(why(&[step(2.0, work(1000, 10, 10))]).contains("at or below"));
        assert!(
            why(&[step(1.0, work(1000, 10, 0)), step(2.0, work(1000, 10, 0))])
                .contains("no call was refused")
        );
        assert!(why(&[step(1.0, work(1000, 10, 0)), step(2.0, work(900, 10, 5))]).contains("too small"));
    }

    #[test]
    fn the_ceiling_falls_by_the_ratio_for_each_capacity_beyond_the_first() {
        let costs = Costs { handle_ns: 100.0, refuse_ns: 5.0, ratio: 0.05 };
        let near = |factor: f64, want: f64| (costs.ceiling(factor) - want).abs() < 1e-9;
        assert!(near(0.5, 0.5) && near(1.0, 1.0) && near(2.0, 0.95) && near(5.0, 0.8));
        assert_eq!(costs.ceiling(30.0), 0.0);
    }

    #[test]
    fn a_step_is_doubted_if_the_generator_was_late_for_its_deadline() {
        let mut step = step(1.0, work(1_500_000_000, 1, 0));
        let verdict = Verdict::default();
        step.judge(&verdict, Duration::from_millis(50));
        assert_eq!(step.doubts, [], "the p99 is 2 ms");
        step.judge(&Verdict { stolen: true, ..verdict }, Duration::from_millis(20));
        assert_eq!(step.doubts, [Doubt::Late, Doubt::Stolen]);
        assert_eq!(step.server_share(), Some(0.75));
    }

    #[test]
    fn times_of_nothing_are_none() {
        let mut histogram = Histogram::default();
        assert_eq!(Times::of(&histogram), None);
        histogram.record(7);
        assert_eq!(Times::of(&histogram), Some(Times { p50_ns: 7, p99_ns: 7, max_ns: 7 }));
    }
}
