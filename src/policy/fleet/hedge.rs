//! When a call that takes long is attempted at a second endpoint (Dean and Barroso, "The Tail at Scale", 2013).

use std::time::Duration;

use super::methods::Methods;

/// The settings of hedging: a call of an idempotent method that takes longer than most is attempted at another endpoint
/// too, and the first answer counts. Hedges are paid from the budget of the retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeConfig {
    /// Whether calls are hedged. Default: no. Only methods that are declared idempotent are.
    pub is_on: bool,

    /// The percentile of the method's own latency after which a hedge is made. Default 95, from 50 to 99: about 5 % of the
    /// calls are hedged. Too small: many calls run twice. Too large: hedges come too late to help.
    pub percentile: u32,

    /// Calls of a method before it is hedged. Default 100, from 10 to 1000. Too small: the percentile is a guess. Too
    /// large: methods that are called rarely are never hedged.
    pub samples_min: u32,

    /// The shortest time before a hedge, in milliseconds. Default 1. Too small: quick methods are hedged because of the
    /// jitter of a thread. Too large: quick methods are never hedged.
    pub delay_min_ms: u64,
}

impl Default for HedgeConfig {
    fn default() -> HedgeConfig {
        HedgeConfig { is_on: false, percentile: 95, samples_min: 100, delay_min_ms: 1 }
    }
}

/// Returns the time after which a call of the method is hedged, if it is.
pub(super) fn hedge_after(
    config: &HedgeConfig,
    methods: &Methods,
    method: u32,
    is_idempotent: bool,
) -> Option<Duration> {
    if !config.is_on || !is_idempotent {
        return None;
    }
    let quantile = Duration::from_micros(methods.quantile_us(method, config)?);
    Some(quantile.max(Duration::from_millis(config.delay_min_ms)))
}
