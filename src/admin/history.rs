//! Numbers of the last minutes: a thread of its own reads the counters once a second.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::server::Inspector;
use crate::stats::{HistogramSnapshot, MethodSnapshot, STAGES, Snapshot};
use crate::status::Code;

/// The time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// The samples that are kept: five minutes.
const SAMPLES_MAX: usize = 300;
/// The counters of the methods are compared with those of at least this many samples before.
const METHODS_EVERY: usize = 5;
/// The least time of sampled turns that a share is taken of.
const SAMPLED_NS_MIN: u64 = 1_000_000;
/// The place of the wait in the stages of a turn.
const WAIT: usize = 0;

/// What happened in one second.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct HistorySample {
    /// Seconds since the Unix epoch.
    pub(super) unix_seconds: u64,
    pub(super) calls_per_second: f64,
    /// Of them, those with a status other than ok.
    pub(super) failed_per_second: f64,
    /// Calls that were shed or refused before they ran.
    pub(super) refused_per_second: f64,
    pub(super) handler_p50_us: u64,
    pub(super) handler_p99_us: u64,
    pub(super) queue_p99_us: u64,
    pub(super) lag_p50_us: u64,
    pub(super) lag_p99_us: u64,
    /// The share of the time in which the reactors did not wait, about: over the sampled turns.
    pub(super) utilisation: f64,
    pub(super) connections: u64,
    pub(super) queued: usize,
    pub(super) read_bytes_per_second: f64,
    pub(super) written_bytes_per_second: f64,
}

/// One reading of the counters.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) stats: Snapshot,
    pub(super) stage_ns: Vec<[u64; STAGES.len()]>,
}

impl Reading {
    pub(super) fn take(inspector: &Inspector) -> Reading {
        Reading { at: Instant::now(), stats: inspector.stats(), stage_ns: inspector.stage_ns() }
    }
}

#[derive(Default)]
struct HistoryState {
    samples: VecDeque<HistorySample>,
    last: Option<Reading>,
    /// Readings for the rates of single methods and reactors: the older one is compared with.
    bases: VecDeque<Reading>,
    is_stopped: bool,
}

/// The samples, and the thread that takes them.
pub(super) struct History {
    state: Mutex<HistoryState>,
    stopped: Condvar,
}

impl History {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system starts no thread.
    pub(super) fn start(inspector: Inspector) -> std::io::Result<Arc<History>> {
        let history = Arc::new(History { state: Mutex::default(), stopped: Condvar::new() });
        let thread = history.clone();
        crate::threads::detached("coreloop-admin-history", move || thread.run(&inspector))?;
        Ok(history)
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.state().is_stopped = true;
        self.stopped.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, HistoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, inspector: &Inspector) {
        let mut next = Instant::now();
        loop {
            let reading = Reading::take(inspector);
            let mut state = self.state();
            if let Some(before) = &state.last {
                let sample = sample(before, &reading);
                if state.samples.len() == SAMPLES_MAX {
                    state.samples.pop_front();
                }
                state.samples.push_back(sample);
            }
            if state.samples.len().is_multiple_of(METHODS_EVERY) || state.bases.is_empty() {
                if state.bases.len() == 2 {
                    state.bases.pop_front();
                }
                state.bases.push_back(reading.clone());
            }
            state.last = Some(reading);
            next = (next + SAMPLE_EVERY).max(Instant::now());
            while !state.is_stopped {
                let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                else {
                    break;
                };
                state = self.stopped.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.is_stopped {
                return;
            }
        }
    }

    /// Returns the samples, the oldest first.
    pub(super) fn samples(&self) -> Vec<HistorySample> {
        self.state().samples.iter().cloned().collect()
    }

    /// Returns a reading from some seconds before, to compare with.
    pub(super) fn base(&self) -> Option<Reading> {
        self.state().bases.front().cloned()
    }
}

fn sample(before: &Reading, now: &Reading) -> HistorySample {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
    let per_second =
        |of: &dyn Fn(&Snapshot) -> u64| of(&now.stats).saturating_sub(of(&before.stats)) as f64 / seconds;
    let quantile = |quantile: f64, of: fn(&MethodSnapshot) -> &HistogramSnapshot| {
        let all = |stats: &Snapshot| merged(stats.methods.iter().map(of));
        quantile_since(&all(&now.stats), &all(&before.stats), quantile)
    };
    let lag = |quantile: f64| {
        let all = |stats: &Snapshot| merged(stats.reactors.iter().map(|reactor| &reactor.lag_us));
        quantile_since(&all(&now.stats), &all(&before.stats), quantile)
    };
    HistorySample {
        unix_seconds: coreloop_poller::os::unix_seconds(),
        calls_per_second: per_second(&calls),
        failed_per_second: per_second(&failed),
        refused_per_second: per_second(&|stats| stats.refused.iter().map(|(_, count)| count).sum()),
        handler_p50_us: quantile(0.5, |method| &method.handler_us),
        handler_p99_us: quantile(0.99, |method| &method.handler_us),
        queue_p99_us: quantile(0.99, |method| &method.queue_us),
        lag_p50_us: lag(0.5),
        lag_p99_us: lag(0.99),
        utilisation: utilisation(&total(&now.stage_ns), &total(&before.stage_ns)),
        connections: now.stats.connections(),
        queued: now.stats.workers.queued,
        read_bytes_per_second: per_second(&|stats| stats.reactors.iter().map(|one| one.read_bytes).sum()),
        written_bytes_per_second: per_second(&|stats| {
            stats.reactors.iter().map(|one| one.written_bytes).sum()
        }),
    }
}

/// Returns the calls of all methods.
pub(super) fn calls(stats: &Snapshot) -> u64 {
    stats.methods.iter().map(|method| method.calls).sum()
}

/// Returns the calls that ended with a status other than ok.
pub(super) fn failed(stats: &Snapshot) -> u64 {
    stats.methods.iter().map(failed_of).sum()
}

/// Returns the calls of a method that ended with a status other than ok.
pub(super) fn failed_of(method: &MethodSnapshot) -> u64 {
    method.answers.iter().filter(|(name, _)| *name != Code::Ok.name()).map(|(_, count)| count).sum()
}

fn total(stages: &[[u64; STAGES.len()]]) -> [u64; STAGES.len()] {
    stages.iter().fold([0; STAGES.len()], |sum, one| std::array::from_fn(|at| sum[at] + one[at]))
}

/// Returns the share of the time between two readings of the stages in which the reactor did not wait.
pub(super) fn utilisation(now: &[u64; STAGES.len()], before: &[u64; STAGES.len()]) -> f64 {
    let stages: [u64; STAGES.len()] = std::array::from_fn(|at| now[at].saturating_sub(before[at]));
    let all: u64 = stages.iter().sum();
    // A single turn of an idle reactor says nothing.
    if all < SAMPLED_NS_MIN { 0.0 } else { (all - stages[WAIT]) as f64 / all as f64 }
}

/// Returns the buckets of several histograms in one list, ordered by their largest values.
pub(super) fn merged<'a>(histograms: impl Iterator<Item = &'a HistogramSnapshot>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = histograms.flat_map(HistogramSnapshot::buckets).collect();
    all.sort_unstable();
    all.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            kept.1 += next.1;
        }
        is_same
    });
    all
}

/// Returns the value that a share of the values does not exceed that came between two readings of a histogram; 0 if none
/// came.
pub(super) fn quantile_since(now: &[(u64, u64)], before: &[(u64, u64)], quantile: f64) -> u64 {
    let mut before = before.iter().peekable();
    let fresh: Vec<(u64, u64)> = now
        .iter()
        .map(|(top, count)| {
            while before.next_if(|(other, _)| other < top).is_some() {}
            let known = before.next_if(|(other, _)| other == top).map_or(0, |(_, count)| *count);
            (*top, count.saturating_sub(known))
        })
        .collect();
    let all: u64 = fresh.iter().map(|(_, count)| count).sum();
    let wanted = ((all as f64 * quantile).ceil() as u64).max(1);
    let mut seen = 0;
    for (top, count) in fresh {
        seen += count;
        if seen >= wanted {
            return top;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_that_of_the_new_values() {
        let before = [(1, 1000), (7, 10)];
        let now = [(1, 1000), (3, 98), (7, 10), (15, 2)];
        assert_eq!(quantile_since(&now, &before, 0.5), 3);
        assert_eq!(quantile_since(&now, &before, 0.99), 15);
        assert_eq!(quantile_since(&now, &now, 0.5), 0);
        assert_eq!(quantile_since(&now, &[], 0.5), 1);
    }

    #[test]
    fn waiting_is_no_work() {
        const MS: u64 = 1_000_000;
        assert_eq!(utilisation(&[30 * MS, 0, 10 * MS, 0, 0, 0, 0], &[0; 7]), 0.25);
        assert_eq!(utilisation(&[0, 5, 5, 5, 5, 5, 5], &[0; 7]), 0.0);
    }
}
