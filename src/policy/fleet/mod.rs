//! The policies of a client that has several endpoints, as one state machine: which endpoint an attempt of a call
//! uses, what its end means for the endpoint, whether the call is attempted again, and when.
//!
//! It has no I/O, clock or randomness of its own. The client's reactor feeds it, and so does the deterministic
//! simulation; neither needs a lock.

mod instance;

use std::time::{Duration, Instant};

pub use instance::Instance;

/// Identifies an endpoint of a [`Fleet`]. It is not used again after the endpoint is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);

/// What an update of the instances has changed.
#[derive(Clone, Debug, Default)]
pub struct FleetChange {
    /// The new endpoints, with what is known of them.
    pub added: Vec<(EndpointId, Instance)>,
    /// The endpoints that are gone: they get no more attempts; those that run may end.
    pub removed: Vec<EndpointId>,
}

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
    /// There are endpoints, but none in the region of `must_stay_in`.
    OutsideRegion {
        /// The region.
        region: String,
    },
    /// Every endpoint has an open circuit breaker, and none admits a probe now.
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
    /// What the server asked for with `retry-after-ms`.
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

/// A change that operators want to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FleetEvent {
    /// An endpoint was added.
    Appeared(String),
    /// An endpoint is gone.
    Gone(String),
    /// The circuit breaker of an endpoint opened.
    BreakerOpened(String),
    /// It closed.
    BreakerClosed(String),
    /// Health checks failed: the endpoint gets no calls while others can take them.
    Unhealthy(String),
    /// They succeed again.
    Healthy(String),
    /// An empty update was ignored, since it would empty a working set.
    EmptyUpdateIgnored,
    /// The resolver failed; the last set stays.
    ResolveFailed(String),
    /// A retry or hedge was not made, since the budget is empty. Reported once until it has refilled.
    BudgetEmpty,
    /// Calls leave their zone, since too few endpoints in it are usable.
    SpilledOver,
    /// Calls stay in their zone again.
    BackInZone,
}

/// What is known of one endpoint, for operators.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointView {
    /// The instance.
    pub instance: Instance,
    /// Whether a connection exists.
    pub is_connected: bool,
    /// The state of the circuit breaker: `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    /// Whether the last health checks succeeded.
    pub is_healthy: bool,
    /// Attempts in flight.
    pub in_flight: u32,
    /// The estimated latency of an attempt, in microseconds (peak EWMA); 0 before the first end.
    pub latency_us: u64,
    /// Attempts that ended with each [`Outcome`]: success, failure, refused, cancelled.
    pub ended: [u64; 4],
}

/// The settings. `client::FleetConfig` is this type.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FleetConfig {
    /// The zone of the client. Calls stay in it while enough of its endpoints are usable.
    pub zone: Option<String>,
    /// Calls never leave this region: they fail rather than use an endpoint whose zone is another. A zone is in the region
    /// if it is equal to it or begins with it and a `-` or `/`.
    pub must_stay_in: Option<String>,
}

/// The endpoints of one client, and the policies over them.
#[derive(Debug)]
pub struct Fleet {
    config: FleetConfig,
    endpoints: Vec<(EndpointId, Instance, EndpointCounts)>,
    next_id: u64,
    turn: usize,
    events: Vec<FleetEvent>,
}

#[derive(Debug, Default)]
struct EndpointCounts {
    is_connected: bool,
    in_flight: u32,
    ended: [u64; 4],
}

impl Fleet {
    /// Creates the state machine. `seed` is any random number; clients must not share it.
    pub fn new(config: FleetConfig, seed: u64) -> Fleet {
        Fleet { config, endpoints: Vec::new(), next_id: 1, turn: seed as usize % 64, events: Vec::new() }
    }

    /// Takes the instances that a resolver has found. An empty list is ignored if there are endpoints. An instance whose
    /// address changes is a new endpoint; one whose weight, zone or labels change is the same.
    pub fn set_instances(&mut self, _now: Instant, instances: &[Instance]) -> FleetChange {
        let mut change = FleetChange::default();
        if instances.is_empty() {
            self.events.push(FleetEvent::EmptyUpdateIgnored);
            return change;
        }
        self.endpoints.retain(|(id, known, _)| {
            let stays = instances.iter().any(|new| new.address == known.address && new.id == known.id);
            if !stays {
                change.removed.push(*id);
            }
            stays
        });
        for new in instances {
            let same = |known: &Instance| new.address == known.address && new.id == known.id;
            if let Some((_, known, _)) = self.endpoints.iter_mut().find(|(_, known, _)| same(known)) {
                *known = new.clone();
                continue;
            }
            let id = EndpointId(self.next_id);
            self.next_id += 1;
            self.endpoints.push((id, new.clone(), EndpointCounts::default()));
            change.added.push((id, new.clone()));
        }
        change
    }

    /// Takes note that the resolver has failed.
    pub fn on_resolve_failed(&mut self, why: &str) {
        self.events.push(FleetEvent::ResolveFailed(why.to_owned()));
    }

    /// Takes note of a call that begins: it adds to the budget of retries and hedges.
    pub fn on_call(&mut self, _now: Instant) {}

    /// Picks the endpoint of an attempt, which is in flight until [`Fleet::on_attempt_end`].
    ///
    /// # Errors
    ///
    /// There is none. The call waits if the instances are not known yet, and fails otherwise.
    pub fn pick(&mut self, _now: Instant, call: PickFor<'_>) -> Result<EndpointId, NoEndpoint> {
        if self.endpoints.is_empty() {
            return Err(NoEndpoint::NotResolved);
        }
        self.turn = self.turn.wrapping_add(1);
        let count = self.endpoints.len();
        let index = (0..count)
            .map(|step| (self.turn + step) % count)
            .find(|index| !call.tried.contains(&self.endpoints[*index].0))
            .unwrap_or(self.turn % count);
        self.endpoints[index].2.in_flight += 1;
        Ok(self.endpoints[index].0)
    }

    /// Takes note of the end of an attempt, exactly once for each success of [`Fleet::pick`]. The endpoint may be gone.
    pub fn on_attempt_end(&mut self, _now: Instant, end: &AttemptEnd) {
        if let Some((_, _, counts)) = self.endpoints.iter_mut().find(|(id, ..)| *id == end.endpoint) {
            counts.in_flight -= 1;
            counts.ended[end.outcome as usize] += 1;
        }
    }

    /// Decides what happens after a failed attempt; a retry is taken from the budget at once.
    pub fn after_attempt(
        &mut self,
        _now: Instant,
        call: &mut CallAttempts,
        failed: &FailedAttempt,
    ) -> AfterAttempt {
        call.failed += 1;
        if failed.is_retryable && !failed.may_have_run && call.failed < 3 {
            AfterAttempt::Retry(Duration::ZERO)
        } else {
            AfterAttempt::End
        }
    }

    /// Returns the time after which a call of the method is hedged, if it is: the method's own p95. The hedge is made
    /// with [`Fleet::try_hedge`] when the time has passed.
    pub fn hedge_after(&self, _method: u32, _is_idempotent: bool) -> Option<Duration> {
        None
    }

    /// Takes a hedge from the budget. Returns whether it may be made.
    pub fn try_hedge(&mut self, _now: Instant, _call: &mut CallAttempts) -> bool {
        false
    }

    /// Takes note that an endpoint has got its first connection, or lost its last one.
    pub fn on_connection(&mut self, _now: Instant, endpoint: EndpointId, is_connected: bool) {
        if let Some((_, _, counts)) = self.endpoints.iter_mut().find(|(id, ..)| *id == endpoint) {
            counts.is_connected = is_connected;
        }
    }

    /// Returns the endpoints whose health is to be checked now, and takes note that it is.
    pub fn take_due_checks(&mut self, _now: Instant) -> Vec<EndpointId> {
        Vec::new()
    }

    /// Takes note of the result of a health check.
    pub fn on_check_end(&mut self, _now: Instant, _endpoint: EndpointId, _is_healthy: bool) {}

    /// Returns the time of the next health check, or other change by time alone.
    pub fn next_at(&self) -> Option<Instant> {
        None
    }

    /// Takes the events since the last call. At most 1,024 are kept.
    pub fn take_events(&mut self) -> Vec<FleetEvent> {
        std::mem::take(&mut self.events)
    }

    /// Returns what is known of each endpoint.
    pub fn view(&self, _now: Instant) -> Vec<EndpointView> {
        let view = |(_, instance, counts): &(EndpointId, Instance, EndpointCounts)| EndpointView {
            instance: instance.clone(),
            is_connected: counts.is_connected,
            breaker: "closed",
            is_healthy: true,
            in_flight: counts.in_flight,
            latency_us: 0,
            ended: counts.ended,
        };
        self.endpoints.iter().map(view).collect()
    }

    /// Returns the settings.
    pub fn config(&self) -> &FleetConfig {
        &self.config
    }
}
