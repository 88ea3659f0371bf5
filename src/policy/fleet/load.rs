//! What is known of the load of one endpoint: its latency relative to others, its failures, what it reports itself.
//!
//! The latency is a peak EWMA, as in Finagle and linkerd: it rises at once and falls slowly. It is relative to the usual
//! latency of the same method, so that an endpoint that has run a slow method is not taken for a slow endpoint. Failures
//! never make an endpoint look faster; their share is a penalty of its own, so that a server that fails quickly attracts
//! no load.

use super::call::Outcome;

/// The time in which an observation fades to about a third.
const FADE_NS: u64 = 3_000_000_000;

/// The shortest time over which values fade: less is lost in the rounding of [`fade`].
const FADE_STEP_NS: u64 = 1_000_000;

/// The largest relative latency that counts: one stalled call must not exclude an endpoint for long.
const RELATIVE_MAX: f32 = 16.0;

/// The factor by which only failures raise the cost of an endpoint, less one.
const FAILURE_PENALTY: f32 = 50.0;

/// The weight of an attempt in the share of failures.
const FAILURE_STEP: f32 = 1.0 / 16.0;

/// The time for which a report of the server counts.
const REPORT_NS: u64 = 5_000_000_000;

/// Returns how much of an observation is left after a time: 1 at first, 0 in the end. It is close to an exponential
/// function, and needs no call.
#[inline]
fn fade(elapsed_ns: u64) -> f32 {
    let part = (1.0 - elapsed_ns as f32 * (1.0 / (8.0 * FADE_NS as f32))).max(0.0);
    let square = part * part;
    let fourth = square * square;
    fourth * fourth
}

/// The load of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// When the values were updated, in nanoseconds.
    at_ns: u64,
    /// The latency relative to that of the methods, 1 if it is the usual one.
    relative: f32,
    /// The latency in microseconds; 0 before the first end.
    latency_us: f32,
    /// The share of failures, from 0 to 1.
    failures: f32,
    /// What the server reported last, in microseconds, and when.
    reported_us: u32,
    reported_at_ns: u64,
}

impl Load {
    /// Creates the load of an endpoint of which nothing is known: the usual one.
    pub fn new() -> Load {
        Load { at_ns: 0, relative: 1.0, latency_us: 0.0, failures: 0.0, reported_us: 0, reported_at_ns: 0 }
    }

    /// Takes note of the end of an attempt; `usual_us` is the usual latency of its method, 0 if it is not known.
    #[inline]
    pub fn on_end(&mut self, now_ns: u64, outcome: Outcome, took_us: f32, usual_us: f32) {
        let (is_success, is_failure) = match outcome {
            Outcome::Success => (true, false),
            Outcome::Failure => (false, true),
            Outcome::Refused | Outcome::Cancelled => return,
        };
        let elapsed_ns = now_ns.saturating_sub(self.at_ns);
        if elapsed_ns >= FADE_STEP_NS {
            self.fade_to(now_ns, elapsed_ns, is_success.then_some(took_us), usual_us);
        }
        let relative = if usual_us > 0.0 { (took_us / usual_us).min(RELATIVE_MAX) } else { 1.0 };
        if relative > self.relative {
            self.relative += (relative - self.relative) * 0.5;
        }
        if self.latency_us == 0.0 {
            self.latency_us = took_us;
        } else if took_us > self.latency_us {
            self.latency_us += (took_us - self.latency_us) * 0.5;
        }
        self.failures += (f32::from(u8::from(is_failure)) - self.failures) * FAILURE_STEP;
    }

    /// Brings the values up to a time: they fall towards the latency of a success, or towards the usual one if the attempt
    /// failed.
    fn fade_to(&mut self, now_ns: u64, elapsed_ns: u64, took_us: Option<f32>, usual_us: f32) {
        let kept = fade(elapsed_ns);
        self.at_ns = now_ns;
        self.failures *= kept;
        let relative = took_us.filter(|_| usual_us > 0.0).map_or(1.0, |took_us| took_us / usual_us);
        // A rise is not slow: it is taken at once, by the caller.
        if relative < self.relative || took_us.is_none() {
            self.relative = relative + (self.relative - relative) * kept;
        }
        if let Some(took_us) = took_us.filter(|took_us| *took_us < self.latency_us) {
            self.latency_us = took_us + (self.latency_us - took_us) * kept;
        }
    }

    /// Takes note of what the server reported.
    #[inline]
    pub fn on_report(&mut self, now_ns: u64, load_us: u32) {
        self.reported_us = load_us;
        self.reported_at_ns = now_ns;
    }

    /// Returns the estimated latency in microseconds; 0 before the first end.
    pub fn latency_us(&self) -> u64 {
        self.latency_us as u64
    }

    /// Returns what the server reported last, 0 if that was long ago.
    pub fn reported_us(&self, now_ns: u64) -> u32 {
        if now_ns.saturating_sub(self.reported_at_ns) < REPORT_NS { self.reported_us } else { 0 }
    }

    #[inline]
    fn penalty(&self, kept: f32) -> f32 {
        1.0 + FAILURE_PENALTY * self.failures * kept
    }

    /// Returns the cost by latency of one more attempt, when `in_flight` run at an endpoint of this weight relative to the
    /// others.
    #[inline]
    pub fn cost_by_latency(&self, now_ns: u64, in_flight: u32, weight: f32) -> f32 {
        let kept = fade(now_ns.saturating_sub(self.at_ns));
        let relative = 1.0 + (self.relative - 1.0) * kept;
        relative * (1.0 + in_flight as f32 / weight) * self.penalty(kept)
    }

    /// Returns the cost by load: the attempts in flight, and what waits at the server by its own report.
    #[inline]
    pub fn cost_by_load(&self, now_ns: u64, in_flight: u32, weight: f32) -> f32 {
        let kept = fade(now_ns.saturating_sub(self.at_ns));
        let reported = self.reported_us(now_ns) as f32;
        let queued = if reported > 0.0 { reported / self.latency_us.max(1.0) } else { 0.0 };
        (1.0 + (in_flight as f32 + queued) / weight) * self.penalty(kept)
    }
}
