//! What operators see of a fleet.

use super::{EndpointId, Instance};

/// What is known of one endpoint, for operators.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointView {
    /// Identifies the endpoint.
    pub id: EndpointId,
    /// The instance.
    pub instance: Instance,
    /// Whether a connection exists.
    pub is_connected: bool,
    /// The state of the circuit breaker: `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    /// Whether the last health checks succeeded.
    pub is_healthy: bool,
    /// Whether the endpoint gets no calls but probes, because of its breaker or its health.
    pub is_ejected: bool,
    /// Whether it is in the client's zone; true if the client has no zone.
    pub is_in_zone: bool,
    /// Attempts in flight.
    pub in_flight: u32,
    /// The estimated latency of an attempt, in microseconds (peak EWMA); 0 before the first end.
    pub latency_us: u64,
    /// The microseconds that a new call would wait at the server, as it said last; 0 if it did not.
    pub load_us: u32,
    /// The share of its weight that the endpoint has now, in percent: below 100 during its slow start.
    pub growth_percent: u32,
    /// Attempts that ended with each [`Outcome`](super::Outcome): success, failure, refused, cancelled.
    pub ended: [u64; 4],
}

/// The counts of a fleet since it was created, and its present size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetStats {
    /// Calls that began.
    pub calls: u64,
    /// Attempts for which an endpoint was picked: first ones, retries and hedges.
    pub attempts: u64,
    /// Calls that were attempted again after a failure.
    pub retries: u64,
    /// Second attempts that were made because the first one was slow.
    pub hedges: u64,
    /// Hedges that were answered before the first attempt.
    pub hedge_wins: u64,
    /// Retries and hedges that were not made, since the budget was empty.
    pub budget_refusals: u64,
    /// Attempts that probed an endpoint with a half-open breaker.
    pub probes: u64,
    /// Attempts outside the client's zone.
    pub outside_zone: u64,
    /// Attempts for which there was no endpoint.
    pub no_endpoint: u64,
    /// Events that were dropped because they were not taken.
    pub events_dropped: u64,
    /// Endpoints now.
    pub endpoints: u32,
    /// Endpoints that are ejected now.
    pub ejected: u32,
    /// Instances that are ignored now, since they are outside the region in which calls must stay.
    pub outside_region: u32,
}
