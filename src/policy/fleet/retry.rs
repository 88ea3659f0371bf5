//! Whether a call is attempted again after a failed attempt, and when.

use std::time::Duration;

use super::call::{AfterAttempt, CallAttempts, FailedAttempt, Outcome};
use crate::policy::backoff::Backoff;

/// The settings of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// Attempts of a call, the first and hedges included. Default 3, from 1 to 16; 1 disables retries and hedges. Too
    /// small: a call fails when two endpoints are down. Too large: a call that cannot succeed takes its time.
    pub attempts_max: u32,

    /// The pauses before retries; they are drawn with full jitter. Default: up to 25 ms before the first, doubling up to
    /// 1 s.
    pub backoff: Backoff,

    /// The longest pause that a call waits for when every server has asked for one, in milliseconds. Default 10 000. At the
    /// limit: the call is not attempted again. Too small: calls fail that would have succeeded later. Too large: calls
    /// without a deadline wait that long. A server that asks for a pause is avoided for no longer than this.
    pub retry_after_max_ms: u64,
}

impl Default for RetryConfig {
    fn default() -> RetryConfig {
        RetryConfig {
            attempts_max: 3,
            backoff: Backoff { base_ms: 25, max_ms: 1_000 },
            retry_after_max_ms: 10_000,
        }
    }
}

impl RetryConfig {
    /// Returns how long an endpoint is avoided that asks for a pause, in nanoseconds. A pause that no call waits for stays
    /// one, and does not exclude the endpoint for long.
    pub(super) fn pause_ns(&self, asked: Duration) -> u64 {
        let longest = Duration::from_millis(self.retry_after_max_ms.saturating_add(1));
        u64::try_from(asked.min(longest).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Decides what happens after a failed attempt, the budget aside.
pub(super) fn after_attempt(
    config: &RetryConfig,
    call: &CallAttempts,
    failed: &FailedAttempt,
    random: u64,
) -> AfterAttempt {
    let is_done = call.count() >= config.attempts_max;
    let is_permitted = failed.is_retryable && (failed.is_idempotent || !failed.may_have_run);
    // A caller further up repeats its attempts itself. Only those that reached no server multiply no load.
    let reached_no_server = failed.outcome == Outcome::Failure && !failed.may_have_run;
    if is_done || !is_permitted || (call.is_attempt && !reached_no_server) {
        return AfterAttempt::End;
    }
    let delay = match failed.retry_after {
        None => config.backoff.delay(u32::from(call.failed).max(1), random),
        Some(asked) if asked > Duration::from_millis(config.retry_after_max_ms) => return AfterAttempt::End,
        // Up to a quarter is added, so that the refused calls do not return at the same time.
        Some(asked) => asked + fraction_of(asked / 4, random),
    };
    if failed.left.is_some_and(|left| delay >= left) { AfterAttempt::End } else { AfterAttempt::Retry(delay) }
}

/// Returns a time from zero to `longest`.
fn fraction_of(longest: Duration, random: u64) -> Duration {
    let ns = (longest.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}
