//! The settings of a fleet, each with what happens at its limit.

use std::fmt;

use super::balance::Balance;
use super::breaker::BreakerConfig;
use super::budget::BudgetConfig;
use super::health::HealthConfig;
use super::hedge::HedgeConfig;
use super::retry::RetryConfig;
use super::zone::is_in_region;

/// The settings of a client that has several endpoints: balancing, zones, circuit breakers, health checks, retries and
/// hedges. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FleetConfig {
    /// How calls are divided among the endpoints. Default [`Balance::P2c`].
    pub balance: Balance,

    /// The zone of the client. Calls stay in it while enough of its endpoints are usable. Default: none; zones play no
    /// part.
    pub zone: Option<String>,

    /// Whether calls leave the client's zone when too few of its endpoints are usable. Default: they do. If not, they fail
    /// when the zone has no instance.
    pub spill_over: bool,

    /// The share of the weight of the client's zone, in percent, that must be usable so that all calls stay in it. Default
    /// 70, from 0 to 100. Below, calls leave it in proportion: at half of this share, half of them do. Too small: the last
    /// endpoints of a zone are overloaded. Too large: calls travel far because of one endpoint.
    pub zone_usable_min_percent: u32,

    /// Calls never leave this region: they fail rather than use an instance whose zone is another. A zone is in the region
    /// if it is equal to it or begins with it and a `-` or `/`; an instance without a zone is in none. Default: none.
    pub must_stay_in: Option<String>,

    /// The time in which the share of an endpoint grows to its weight, from a tenth of it, when the endpoint appears (after
    /// the first update) or recovers. Default 10 000; 0 disables it. With [`Balance::ConsistentHash`], the keys of the
    /// endpoint come to it in this time. Too small: a server that has just started gets all its calls at once. Too large:
    /// the others carry its share for long.
    pub slow_start_ms: u64,

    /// The circuit breakers.
    pub breaker: BreakerConfig,

    /// The health checks.
    pub health: HealthConfig,

    /// The retries.
    pub retry: RetryConfig,

    /// The budget of retries and hedges.
    pub budget: BudgetConfig,

    /// The hedges. Default: none.
    pub hedge: HedgeConfig,
}

impl Default for FleetConfig {
    fn default() -> FleetConfig {
        FleetConfig {
            balance: Balance::default(),
            zone: None,
            spill_over: true,
            zone_usable_min_percent: 70,
            must_stay_in: None,
            slow_start_ms: 10_000,
            breaker: BreakerConfig::default(),
            health: HealthConfig::default(),
            retry: RetryConfig::default(),
            budget: BudgetConfig::default(),
            hedge: HedgeConfig::default(),
        }
    }
}

/// A setting of a fleet that is not valid.
#[derive(Clone, PartialEq, Eq)]
pub struct FleetConfigError {
    /// The name of the field, such as `breaker.window_ms`.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What was expected.
    pub expected: String,
}

crate::error_text::debug_as_text!(FleetConfigError);

impl fmt::Display for FleetConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FleetConfigError { field, value, expected } = self;
        write!(f, "{field}: expected {expected}; found {value}")
    }
}

impl std::error::Error for FleetConfigError {}

/// Ten years, in effect forever; adding it to any time does not overflow.
const MS_MAX: u64 = 1_000 * 86_400 * 3_650;

impl FleetConfig {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// The first setting that is not.
    pub fn check(&self) -> Result<(), FleetConfigError> {
        let FleetConfig { breaker, health, retry, budget, hedge, .. } = self;
        let fields = [
            ("zone_usable_min_percent", u64::from(self.zone_usable_min_percent), (0, 100)),
            ("slow_start_ms", self.slow_start_ms, (0, MS_MAX)),
            ("breaker.failures_min", u64::from(breaker.failures_min), (0, u64::from(u32::MAX))),
            ("breaker.window_ms", breaker.window_ms, (100, 3_600_000)),
            ("breaker.success_min_percent", u64::from(breaker.success_min_percent), (0, 101)),
            ("breaker.open_ms", breaker.open_ms, (1, MS_MAX)),
            ("breaker.open_jitter_percent", u64::from(breaker.open_jitter_percent), (0, 100)),
            ("breaker.successes_to_close", u64::from(breaker.successes_to_close), (1, 1_000)),
            ("breaker.probe_timeout_ms", breaker.probe_timeout_ms, (1, MS_MAX)),
            ("breaker.ejected_max_percent", u64::from(breaker.ejected_max_percent), (0, 100)),
            ("health.interval_ms", health.interval_ms, (0, MS_MAX)),
            ("health.timeout_ms", health.timeout_ms, (1, MS_MAX)),
            ("health.unhealthy_after", u64::from(health.unhealthy_after), (1, 1_000)),
            ("health.healthy_after", u64::from(health.healthy_after), (1, 1_000)),
            ("retry.attempts_max", u64::from(retry.attempts_max), (1, 16)),
            ("retry.backoff.base_ms", retry.backoff.base_ms, (0, MS_MAX)),
            ("retry.backoff.max_ms", retry.backoff.max_ms, (retry.backoff.base_ms, MS_MAX)),
            ("retry.retry_after_max_ms", retry.retry_after_max_ms, (0, MS_MAX)),
            ("budget.percent", u64::from(budget.percent), (0, 1_000)),
            ("budget.per_second", u64::from(budget.per_second), (0, 1_000_000)),
            ("budget.burst", u64::from(budget.burst), (1, 1_000_000)),
            ("hedge.percentile", u64::from(hedge.percentile), (50, 99)),
            ("hedge.samples_min", u64::from(hedge.samples_min), (10, 1_000)),
            ("hedge.delay_min_ms", hedge.delay_min_ms, (0, MS_MAX)),
        ];
        for (field, value, (least, most)) in fields {
            if value < least || value > most {
                let expected = format!("a value from {least} to {most}");
                return Err(FleetConfigError { field, value: value.to_string(), expected });
            }
        }
        for (field, name) in [("zone", &self.zone), ("must_stay_in", &self.must_stay_in)] {
            if name.as_deref() == Some("") {
                let (value, expected) = ("an empty one".to_owned(), "a name".to_owned());
                return Err(FleetConfigError { field, value, expected });
            }
        }
        match (&self.zone, &self.must_stay_in) {
            (Some(zone), Some(region)) if !is_in_region(Some(zone), region) => Err(FleetConfigError {
                field: "zone",
                value: zone.clone(),
                expected: format!("a zone of the region {region} (must_stay_in)"),
            }),
            _ => Ok(()),
        }
    }
}
