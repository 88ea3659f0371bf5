//! Health checks: which endpoints are checked when, and what their results mean.
//!
//! Calls tell more than checks do: only endpoints without answers in the last interval are checked.

use crate::random::Random;

/// The settings of health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthConfig {
    /// The time without an answer after which a connected endpoint is checked, in milliseconds; each time a random value
    /// from three to five quarters of it. Default 5 000; 0 disables checks. Too small: idle clients cost servers work. Too
    /// large: the first calls after a pause meet endpoints that are gone.
    pub interval_ms: u64,

    /// The time after which a check without an answer has failed, in milliseconds. Default 2 000. Too small: a pause of
    /// the server fails the check. Too large: an endpoint that hangs is found late.
    pub timeout_ms: u64,

    /// Failed checks in a row after which an endpoint is unhealthy. Default 2, at least 1.
    pub unhealthy_after: u32,

    /// Successful checks in a row after which it is healthy again. Default 1, at least 1.
    pub healthy_after: u32,
}

impl Default for HealthConfig {
    fn default() -> HealthConfig {
        HealthConfig { interval_ms: 5_000, timeout_ms: 2_000, unhealthy_after: 2, healthy_after: 1 }
    }
}

const NS_PER_MS: u64 = 1_000_000;

/// A change of the health of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthChange {
    Unhealthy,
    Healthy,
}

/// The health of one endpoint. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Health {
    is_healthy: bool,
    /// Checks in a row with a result other than the state.
    contrary: u32,
    /// The next check is due; `u64::MAX` if there is none.
    due_ns: u64,
    /// The check in flight began.
    began_ns: Option<u64>,
    /// The last answer to a call or check.
    answered_ns: u64,
}

impl Health {
    /// Creates the health of an endpoint that is taken for healthy and is not checked yet.
    pub fn new() -> Health {
        Health { is_healthy: true, contrary: 0, due_ns: u64::MAX, began_ns: None, answered_ns: 0 }
    }

    pub fn is_healthy(&self) -> bool {
        self.is_healthy
    }

    /// Returns when the endpoint is to be looked at; `u64::MAX` if it is not.
    pub fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Takes note of an answer to a call.
    #[inline]
    pub fn on_answer(&mut self, now_ns: u64) {
        self.answered_ns = now_ns;
    }

    /// Begins the checks of an endpoint that is connected now: spread over an interval.
    pub fn begin(&mut self, now_ns: u64, config: &HealthConfig, random: &mut Random) {
        if config.interval_ms != 0 && self.due_ns == u64::MAX {
            let wait_ns = config.interval_ms as f64 * NS_PER_MS as f64 * f64::from(random.fraction());
            self.due_ns = now_ns.saturating_add(wait_ns as u64);
        }
    }

    /// Ends the checks of an endpoint that has no connection; one that is unhealthy is checked on.
    pub fn end(&mut self) {
        if self.is_healthy {
            self.due_ns = u64::MAX;
            self.began_ns = None;
            self.contrary = 0;
        }
    }

    /// Returns whether the endpoint is to be checked now, and what the lack of an answer to the last check has changed.
    /// It is to be called when the time of [`Health::due_ns`] has come.
    pub fn take_due(
        &mut self,
        now_ns: u64,
        config: &HealthConfig,
        random: &mut Random,
    ) -> (bool, Option<HealthChange>) {
        let interval_ns = config.interval_ms * NS_PER_MS;
        let mut change = None;
        if let Some(began_ns) = self.began_ns {
            let timeout_ns = began_ns.saturating_add(config.timeout_ms * NS_PER_MS);
            if now_ns < timeout_ns {
                self.due_ns = timeout_ns;
                return (false, None);
            }
            change = self.on_check_end(now_ns, config, false);
        }
        let quiet_ns = now_ns.saturating_sub(self.answered_ns);
        if self.is_healthy && self.answered_ns != 0 && quiet_ns < interval_ns {
            self.due_ns = self.answered_ns.saturating_add(jittered(interval_ns, random)).max(now_ns + 1);
            return (false, change);
        }
        self.began_ns = Some(now_ns);
        self.due_ns = now_ns.saturating_add(jittered(interval_ns, random));
        (true, change)
    }

    /// Takes note that the check in flight was not made.
    pub fn on_check_skipped(&mut self) {
        self.began_ns = None;
    }

    /// Takes note of the result of a check. Without a check in flight it is that of one that was given up.
    pub fn on_check_end(
        &mut self,
        now_ns: u64,
        config: &HealthConfig,
        is_success: bool,
    ) -> Option<HealthChange> {
        self.began_ns.take()?;
        if is_success {
            self.answered_ns = now_ns;
        }
        if is_success == self.is_healthy {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        let needed = if is_success { config.healthy_after } else { config.unhealthy_after };
        if self.contrary < needed {
            return None;
        }
        self.contrary = 0;
        self.is_healthy = is_success;
        Some(if is_success { HealthChange::Healthy } else { HealthChange::Unhealthy })
    }
}

/// Returns from three to five quarters of a time.
fn jittered(interval_ns: u64, random: &mut Random) -> u64 {
    (interval_ns as f64 * (0.75 + 0.5 * f64::from(random.fraction()))) as u64
}
