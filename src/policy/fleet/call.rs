//! What passes between a fleet and the calls on it: the choice of an endpoint, the end of an attempt, the next attempt.

use std::time::Duration;

use crate::status::Code;

/// Identifies an endpoint of a [`Fleet`](super::Fleet). It is not used again after the endpoint is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);

/// What the choice of an endpoint depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickFor<'a> {
    /// The hash of the method.
    pub method: u32,
    /// The hash of the call's key, for consistent hashing; `None` if it has none.
    pub key: Option<u64>,
    /// Endpoints that earlier attempts of the call have used: others are preferred while there are any.
    pub tried: &'a [EndpointId],
}

/// Why there is no endpoint for an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoEndpoint {
    /// No update of the instances has come yet: the call waits for one.
    NotResolved,
    /// There are instances, but none where calls must stay: in the region of
    /// [`FleetConfig::must_stay_in`](super::FleetConfig::must_stay_in), or in the client's zone without
    /// [`FleetConfig::spill_over`](super::FleetConfig::spill_over).
    OutsideRegion {
        /// The region, or the zone.
        region: String,
    },
    /// Every endpoint has an open circuit breaker or is unhealthy, and none admits a probe now. It happens only if
    /// [`BreakerConfig::ejected_max_percent`](super::BreakerConfig::ejected_max_percent) is 100; with less, some stay in
    /// use.
    AllOpen,
}

/// How an attempt ended, as far as the endpoint is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The server answered, with success or with an error that is the caller's (such as `not_found`).
    Success,
    /// A failure of the endpoint: `unavailable`, `internal`, `unknown`, `data_loss`, a lost connection, no answer before
    /// the deadline.
    Failure,
    /// A limit refused the call (`resource_exhausted`): neither a success nor a failure.
    Refused,
    /// The caller gave the attempt up, or another attempt was faster: neither.
    Cancelled,
}

impl Outcome {
    /// Returns what a status code says about the endpoint that answered with it.
    pub fn of(code: Code) -> Outcome {
        match code {
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Outcome::Success,
            Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::DataLoss => {
                Outcome::Failure
            }
            Code::ResourceExhausted => Outcome::Refused,
            Code::Cancelled => Outcome::Cancelled,
        }
    }
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct AttemptEnd {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The hash of the method.
    pub method: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The time since it was picked.
    pub took: Duration,
    /// The microseconds that a new call would wait at the server, if it said so.
    pub load_us: Option<u32>,
    /// The time for which a server that refused the call asks for no more (`retry-after-ms`): until then other endpoints
    /// are preferred.
    pub retry_after: Option<Duration>,
}

/// The state of a call over all its attempts. It lives with the call.
#[derive(Clone, Debug, Default)]
pub struct CallAttempts {
    /// The endpoints that were used, the first attempt first.
    pub tried: Vec<EndpointId>,
    /// Attempts that failed.
    pub failed: u8,
    /// The call is an attempt of a caller further up, which repeats it: it is not repeated here.
    pub is_attempt: bool,
}

impl CallAttempts {
    /// Returns the number of attempts that were made.
    pub fn count(&self) -> u32 {
        u32::from(self.failed).max(u32::try_from(self.tried.len()).unwrap_or(u32::MAX))
    }
}

/// A failed attempt, and what allows the call to be attempted again.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt {
    /// How it ended.
    pub outcome: Outcome,
    /// The server may have run the call.
    pub may_have_run: bool,
    /// The method may run twice.
    pub is_idempotent: bool,
    /// The status or error is one that another attempt may not meet again (`unavailable`, `resource_exhausted`, a lost or
    /// refused connection).
    pub is_retryable: bool,
    /// What the server asked for with `retry-after-ms`. It delays the next attempt only if no other endpoint takes it
    /// earlier.
    pub retry_after: Option<Duration>,
    /// The time that is left until the call's deadline.
    pub left: Option<Duration>,
}

/// What happens to a call after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAttempt {
    /// The call ends with the attempt's error.
    End,
    /// The call is attempted again after this time.
    Retry(Duration),
}
