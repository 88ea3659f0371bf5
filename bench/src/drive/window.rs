//! The phases of a run: warm-up, the measured window, then no new calls until all calls are answered.

use std::io;
use std::time::Instant;

use super::Outcome;
use crate::histogram::Histogram;
use crate::process::{self, CpuClock};

/// Time to wait for outstanding answers at the end.
const DRAIN_NS: u64 = 5_000_000_000;

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Calls are made and not counted.
    WarmUp,
    /// Calls count.
    Measured,
    /// No new calls.
    Draining,
    /// Calls that have no answer yet will get none.
    Over,
}

/// The phase, and the counts of the measured window.
pub struct Window {
    began: Instant,
    length_ns: u64,
    watch: Option<u32>,
    phase: Phase,
    /// When the current phase ends.
    phase_end_ns: u64,
    opened: Option<Marks>,
    closed: Option<Marks>,
    latencies: Histogram,
    calls_in_all: u64,
    errors: u64,
    first_error: Option<String>,
}

/// Readings taken at both ends of the measured window.
#[derive(Clone, Copy)]
struct Marks {
    at_ns: u64,
    waited_ns: u64,
    own_cpu_ns: u64,
    server_cpu_ns: Option<u64>,
    server_system_ns: Option<u64>,
}

impl Window {
    /// Creates a timeline that begins with [`start`](Window::start).
    pub fn new(warmup_s: f64, length_s: f64, watch: Option<u32>) -> Window {
        let warmup_ns = (warmup_s * 1e9) as u64;
        Window {
            began: Instant::now(),
            length_ns: (length_s * 1e9) as u64,
            watch,
            phase: Phase::WarmUp,
            phase_end_ns: warmup_ns,
            opened: None,
            closed: None,
            latencies: Histogram::default(),
            calls_in_all: 0,
            errors: 0,
            first_error: None,
        }
    }

    /// Starts the clock, once the connections are open.
    pub fn start(&mut self) {
        self.began = Instant::now();
    }

    /// Returns nanoseconds since the start.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Advances the phase; called once per turn of the client's loop.
    pub fn turn(&mut self) -> io::Result<Phase> {
        if self.now_ns() < self.phase_end_ns {
            return Ok(self.phase);
        }
        match self.phase {
            Phase::WarmUp => {
                let opened = self.marks()?;
                self.opened = Some(opened);
                self.phase_end_ns = opened.at_ns + self.length_ns;
                self.phase = Phase::Measured;
            }
            Phase::Measured => {
                let closed = self.marks()?;
                self.closed = Some(closed);
                self.phase_end_ns = closed.at_ns + DRAIN_NS;
                self.phase = Phase::Draining;
            }
            Phase::Draining | Phase::Over => self.phase = Phase::Over,
        }
        Ok(self.phase)
    }

    /// Returns milliseconds until the phase ends, rounded up.
    pub fn left_ms(&self) -> i32 {
        self.phase_end_ns.saturating_sub(self.now_ns()).div_ceil(1_000_000).min(i32::MAX as u64) as i32
    }

    /// Returns whether new calls are to be made.
    #[inline]
    pub fn wants_calls(&self) -> bool {
        matches!(self.phase, Phase::WarmUp | Phase::Measured)
    }

    /// Records an answered call.
    #[inline]
    pub fn on_reply(&mut self, latency_ns: u64, verdict: Result<(), String>) {
        self.calls_in_all += 1;
        if self.phase == Phase::Measured {
            self.latencies.record(latency_ns);
        }
        if let Err(why) = verdict {
            self.on_lost(why, 1);
        }
    }

    /// Records calls that other threads counted: the latencies of those in the window, and the number of all.
    pub fn on_counted(&mut self, latencies: &Histogram, calls_in_all: u64) {
        self.latencies.add(latencies);
        self.calls_in_all += calls_in_all;
    }

    /// Records failed calls, and why they failed.
    #[cold]
    pub fn on_lost(&mut self, why: String, calls: u64) {
        self.errors += calls.max(1);
        self.first_error.get_or_insert(why);
    }

    fn marks(&self) -> io::Result<Marks> {
        // The client's clock is read next to the server's, so that both cover the same time.
        let server_system_ns = self.watch.map(process::system_ns).transpose()?;
        let waited_ns = process::waited_ns()?;
        let own_cpu_ns = CpuClock::of(std::process::id())?.now_ns()?;
        let server_cpu_ns = self.watch.map(process::tree::cpu_ns).transpose()?;
        Ok(Marks { at_ns: self.now_ns(), waited_ns, own_cpu_ns, server_cpu_ns, server_system_ns })
    }

    /// Returns the result, once the run is over.
    pub fn outcome(self, connections: u32, depth: u32) -> Result<Outcome, String> {
        let (Some(opened), Some(closed)) = (self.opened, self.closed) else {
            return Err(self.first_error.unwrap_or("ended before the window did".into()));
        };
        let length_ns = (closed.at_ns - opened.at_ns).max(1) as f64;
        let calls = self.latencies.count();
        let quantile_us = |quantile| self.latencies.quantile(quantile) as f64 / 1e3;
        let difference = |closed: Option<u64>, opened: Option<u64>| Some(closed?.saturating_sub(opened?));
        Ok(Outcome {
            connections,
            depth,
            calls,
            seconds: length_ns / 1e9,
            calls_per_s: calls as f64 * 1e9 / length_ns,
            p50_us: quantile_us(0.5),
            p99_us: quantile_us(0.99),
            p999_us: quantile_us(0.999),
            max_us: self.latencies.max() as f64 / 1e3,
            errors: self.errors,
            first_error: self.first_error,
            calls_in_all: self.calls_in_all,
            client_waited_share: closed.waited_ns.saturating_sub(opened.waited_ns) as f64 / length_ns,
            client_cpu_ns: closed.own_cpu_ns.saturating_sub(opened.own_cpu_ns),
            server_cpu_ns: difference(closed.server_cpu_ns, opened.server_cpu_ns),
            server_system_ns: difference(closed.server_system_ns, opened.server_system_ns),
            late_p99_us: None,
            left_over: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_phase_counts() {
        let mut window = Window::new(0.0, 0.0, Some(std::process::id()));
        window.start();
        window.on_reply(5_000, Ok(()));
        assert_eq!(window.turn().expect("marks"), Phase::Measured);
        window.on_reply(7_000, Err("wrong".into()));
        assert_eq!(window.turn().expect("marks"), Phase::Draining);
        assert!(!window.wants_calls());
        window.on_reply(9_000, Ok(()));
        assert_eq!(window.turn().expect("marks"), Phase::Draining, "until the drain time has passed");
        let outcome = window.outcome(1, 1).expect("both ends");
        assert_eq!((outcome.calls, outcome.calls_in_all, outcome.errors), (1, 3, 1));
        assert_eq!(outcome.max_us, 7.0);
        assert!(outcome.server_cpu_ns.is_some());
    }

    #[test]
    fn a_run_that_ends_early_reports_why() {
        let mut window = Window::new(60.0, 1.0, None);
        window.on_lost("refused".into(), 1);
        assert_eq!(window.outcome(1, 1).err(), Some("refused".into()));
    }
}
