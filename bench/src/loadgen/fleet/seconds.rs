//! The counts of a load on a fleet: of each second, of the whole window, and of each endpoint.

use std::collections::BTreeMap;

use coreloop::Code;
use coreloop::client::{CallError, EndpointView};
use serde::Serialize;

use crate::histogram::Histogram;

/// The counts of a second, or of another stretch.
#[derive(Clone, Default)]
pub struct Second {
    /// When it ended, in seconds from the start.
    pub at_s: f64,
    /// Its length.
    pub length_s: f64,
    /// Calls that were started.
    pub offered: u64,
    /// Calls that succeeded.
    pub ok: u64,
    /// Calls that failed, by code.
    pub failed: BTreeMap<&'static str, u64>,
    /// The times of those that succeeded, in ns from when they were due.
    latency: Histogram,
}

/// A [`Second`] in its stored form.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// When it ended, in seconds from the start.
    pub at_s: f64,
    /// Calls that were started.
    pub offered: u64,
    /// Calls that succeeded.
    pub ok: u64,
    /// Calls that failed, by code.
    pub failed: BTreeMap<&'static str, u64>,
    /// The median and the 99th percentile of those that succeeded, in ns from when they were due; 0 if there are none.
    pub p50_ns: u64,
    /// See `p50_ns`.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The first error of each code, in the total.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub messages: BTreeMap<&'static str, String>,
}

impl Second {
    /// Counts the end of a call: its code if it failed, and the time since it was due.
    pub fn end(&mut self, failed: Option<Code>, ns: u64) {
        match failed {
            None => {
                self.ok += 1;
                self.latency.record(ns);
            }
            Some(code) => *self.failed.entry(code.name()).or_default() += 1,
        }
    }

    /// Returns how many calls failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Returns the 99th percentile of the successes, if there are any.
    pub fn p99_ns(&self) -> Option<u64> {
        (self.ok > 0).then(|| self.latency.quantile(0.99))
    }

    /// Returns the stored form.
    pub fn figures(&self) -> Figures {
        let quantile = |share| if self.ok > 0 { self.latency.quantile(share) } else { 0 };
        Figures {
            at_s: self.at_s,
            offered: self.offered,
            ok: self.ok,
            failed: self.failed.clone(),
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            max_ns: self.latency.max(),
            messages: BTreeMap::new(),
        }
    }
}

/// The counts of the whole window.
#[derive(Default)]
pub struct Totals {
    /// The counts.
    pub second: Second,
    /// The length of the window.
    pub length_s: f64,
    messages: BTreeMap<&'static str, String>,
}

impl Totals {
    /// Keeps the error if it is the first of its code.
    pub fn note(&mut self, error: &CallError) {
        self.messages.entry(error.code().name()).or_insert_with(|| error.to_string());
    }

    /// Returns the length of the window.
    pub fn seconds(&self) -> f64 {
        self.length_s
    }

    /// Returns the stored form.
    pub fn figures(&self) -> Figures {
        Figures { at_s: self.length_s, messages: self.messages.clone(), ..self.second.figures() }
    }
}

/// The attempts per second of each server in one second, by address.
#[derive(Clone, Debug, Serialize)]
pub struct ServerRates {
    /// When the second ended, in seconds from the start.
    pub at_s: f64,
    /// Attempts that ended, per second.
    pub per_s: BTreeMap<String, f64>,
}

/// What one endpoint did over a stretch, and its state at the end.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointRates {
    /// The address.
    pub address: String,
    /// The zone, if it has one.
    pub zone: Option<String>,
    /// The weight.
    pub weight: u32,
    /// Whether a connection exists.
    pub is_connected: bool,
    /// Whether the last health checks succeeded.
    pub is_healthy: bool,
    /// The state of the circuit breaker.
    pub breaker: &'static str,
    /// Attempts that ended, per second.
    pub per_s: f64,
    /// Attempts that ended with success, failure, a refusal by a limit, cancelled.
    pub ended: [u64; 4],
    /// The estimated latency of an attempt.
    pub latency_us: u64,
}

impl EndpointRates {
    /// Returns the rates between two views of the endpoints, `seconds` apart. An endpoint that is gone is left out.
    pub fn of(before: &[EndpointView], after: &[EndpointView], seconds: f64) -> Vec<EndpointRates> {
        let earlier: BTreeMap<(&str, &str), [u64; 4]> = before
            .iter()
            .map(|view| ((view.instance.address.as_str(), view.instance.id.as_str()), view.ended))
            .collect();
        let rates = |view: &EndpointView| {
            let key = (view.instance.address.as_str(), view.instance.id.as_str());
            let earlier = earlier.get(&key).copied().unwrap_or_default();
            let mut ended = view.ended;
            for (now, before) in ended.iter_mut().zip(earlier) {
                // Smaller if the endpoint was gone in between and its counts began again.
                *now = now.saturating_sub(before);
            }
            EndpointRates {
                address: view.instance.address.clone(),
                zone: view.instance.zone.clone(),
                weight: view.instance.weight,
                is_connected: view.is_connected,
                is_healthy: view.is_healthy,
                breaker: view.breaker,
                per_s: ended.iter().sum::<u64>() as f64 / seconds,
                ended,
                latency_us: view.latency_us,
            }
        };
        after.iter().map(rates).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_counts_ends_by_code_and_times_the_successes() {
        let mut second = Second::default();
        for ns in 1..=100 {
            second.end(None, ns * 1_000);
        }
        second.end(Some(Code::Unavailable), 5_000_000);
        second.end(Some(Code::Unavailable), 5_000_000);
        second.end(Some(Code::Internal), 5_000_000);
        assert_eq!((second.ok, second.failures()), (100, 3));
        let figures = second.figures();
        assert_eq!(figures.failed, BTreeMap::from([("unavailable", 2), ("internal", 1)]));
        assert!(figures.p99_ns >= 99_000 && figures.max_ns == 100_000, "{figures:?}");
        assert_eq!(Second::default().p99_ns(), None);
    }
}
