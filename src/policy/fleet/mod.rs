//! The policies of a client that has several endpoints, as one state machine: which endpoint an attempt of a call
//! uses, what its end means for the endpoint, whether the call is attempted again, and when.
//!
//! It has no I/O, clock or randomness of its own. The client's reactor feeds it, and so does the deterministic
//! simulation; neither needs a lock. This file puts the policies together; each has a file of its own.

mod balance;
mod breaker;
mod budget;
mod call;
mod config;
mod ejection;
mod endpoint;
mod event;
mod health;
mod hedge;
mod instance;
mod load;
mod methods;
mod quantile;
mod retry;
mod selection;
mod slow_start;
#[cfg(test)]
mod tests;
mod update;
mod view;
mod zone;

use std::time::{Duration, Instant};

use crate::random::Random;
pub use balance::{Balance, Balancer, Candidate, Candidates};
pub use breaker::BreakerConfig;
use breaker::{BreakerChange, BreakerEvent};
use budget::Budget;
pub use budget::BudgetConfig;
pub use call::{
    AfterAttempt, AttemptEnd, CallAttempts, EndpointId, FailedAttempt, NoEndpoint, Outcome, PickFor,
};
pub use config::{FleetConfig, FleetConfigError};
use endpoint::{Endpoint, Table};
pub use event::FleetEvent;
use event::{EVENTS_MAX, Events};
use health::HealthChange;
pub use health::HealthConfig;
pub use hedge::HedgeConfig;
pub use instance::Instance;
use methods::Methods;
pub use retry::RetryConfig;
use selection::{ChoiceContext, Selection};
use slow_start::SlowStart;
pub use view::{EndpointView, FleetStats};

/// The endpoints of a fleet. Further instances are ignored.
pub const ENDPOINTS_MAX: usize = 4096;

/// What an update of the instances has changed.
#[derive(Clone, Debug, Default)]
pub struct FleetChange {
    /// The new endpoints, with what is known of them.
    pub added: Vec<(EndpointId, Instance)>,
    /// The endpoints that are gone: they get no more attempts; those that run may end.
    pub removed: Vec<EndpointId>,
}

/// The pause between two attempts that use an endpoint without a connection although others have one, in nanoseconds;
/// the first quarter to three halves of it is drawn.
const COLD_PAUSE_NS: u64 = 1_000_000_000;

/// The time between two looks at the health checks, in nanoseconds.
const CHECKS_EVERY_NS: u64 = 100_000_000;

/// The health checks that begin at once, at least: with many endpoints, twice what is due on average.
const CHECKS_AT_ONCE: usize = 8;

/// The endpoints of one client, and the policies over them.
#[derive(Debug)]
pub struct Fleet {
    config: FleetConfig,
    balancer: Option<Box<dyn Balancer>>,
    table: Table,
    selection: Selection,
    budget: Budget,
    methods: Methods,
    random: Random,
    clock: Clock,
    events: Events,
    stats: FleetStats,
    /// An update of the instances has been taken.
    is_resolved: bool,
    was_in_zone: bool,
    /// The next look at the health checks, in nanoseconds; `u64::MAX` if there is none.
    checks_ns: u64,
    last_checks_ns: u64,
}

/// Times as nanoseconds since the first one.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    base: Option<Instant>,
}

/// The first time: later than zero, which stands for "never".
const BEGIN_NS: u64 = 1_000_000_000;

impl Clock {
    #[inline]
    fn ns(&mut self, now: Instant) -> u64 {
        let base = *self.base.get_or_insert(now);
        Clock::read(base, now)
    }

    fn peek(&self, now: Instant) -> u64 {
        Clock::read(self.base.unwrap_or(now), now)
    }

    #[inline]
    fn read(base: Instant, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(base);
        elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos()) + BEGIN_NS
    }

    fn instant(&self, ns: u64) -> Option<Instant> {
        self.base?.checked_add(Duration::from_nanos(ns.saturating_sub(BEGIN_NS)))
    }
}

impl Fleet {
    /// Creates the state machine. `seed` is any random number; clients must not share it. The settings must have passed
    /// [`FleetConfig::check`].
    pub fn new(config: FleetConfig, seed: u64) -> Fleet {
        debug_assert_eq!(config.check(), Ok(()));
        Fleet {
            budget: Budget::new(&config.budget),
            config,
            balancer: None,
            table: Table::default(),
            selection: Selection::new(),
            methods: Methods::new(),
            random: Random::new(seed),
            clock: Clock::default(),
            events: Events::default(),
            stats: FleetStats::default(),
            is_resolved: false,
            was_in_zone: true,
            checks_ns: u64::MAX,
            last_checks_ns: 0,
        }
    }

    /// Uses a way of balancing of the program's own in place of [`FleetConfig::balance`].
    pub fn with_balancer(mut self, balancer: Box<dyn Balancer>) -> Fleet {
        self.balancer = Some(balancer);
        self
    }

    /// Takes note that the resolver has failed.
    pub fn on_resolve_failed(&mut self, why: &str) {
        self.events.push(FleetEvent::ResolveFailed(why.to_owned()));
    }

    /// Takes note of a call that begins: it adds to the budget of retries and hedges.
    #[inline]
    pub fn on_call(&mut self, _now: Instant) {
        self.stats.calls += 1;
        self.budget.on_call(&self.config.budget);
    }

    /// Picks the endpoint of an attempt, which is in flight until [`Fleet::on_attempt_end`].
    ///
    /// # Errors
    ///
    /// There is none. The call waits if the instances are not known yet, and fails otherwise.
    pub fn pick(&mut self, now: Instant, call: PickFor<'_>) -> Result<EndpointId, NoEndpoint> {
        let now_ns = self.clock.ns(now);
        if self.selection.is_due(now_ns) {
            self.refresh(now_ns);
        }
        let context = ChoiceContext { table: &self.table, call: &call, now_ns, config: &self.config };
        let Some(choice) = self.selection.choose(&context, self.balancer.as_deref_mut(), &mut self.random)
        else {
            self.stats.no_endpoint += 1;
            return Err(self.why_none());
        };
        let endpoint = self.table.at_mut(choice.slot);
        endpoint.in_flight += 1;
        self.stats.attempts += 1;
        self.stats.probes += u64::from(choice.is_probe);
        self.stats.outside_zone += u64::from(endpoint.tier);
        if !endpoint.is_connected {
            endpoint.cold_try_ns =
                now_ns + COLD_PAUSE_NS / 4 + u64::from(self.random.below((COLD_PAUSE_NS / 4 * 5) as u32));
        }
        if !endpoint.breaker.is_closed() {
            let (next, change) = endpoint.breaker.next(BreakerEvent::Picked, now_ns, &self.config.breaker);
            endpoint.breaker = next;
            if change.is_some() {
                self.selection.set_stale();
            }
        }
        Ok(endpoint.id)
    }

    #[cold]
    fn refresh(&mut self, now_ns: u64) {
        self.selection.refresh(&mut self.table, now_ns, &self.config, &mut self.random);
        let is_in_zone = self.selection.is_in_zone();
        if is_in_zone != self.was_in_zone && !self.table.is_empty() {
            self.was_in_zone = is_in_zone;
            self.events.push(if is_in_zone { FleetEvent::BackInZone } else { FleetEvent::SpilledOver });
        }
        self.check();
    }

    #[cold]
    fn why_none(&self) -> NoEndpoint {
        match (self.table.is_empty(), &self.config) {
            (false, _) => NoEndpoint::AllOpen,
            (true, _) if !self.is_resolved => NoEndpoint::NotResolved,
            (true, FleetConfig { must_stay_in: Some(region), .. }) => {
                NoEndpoint::OutsideRegion { region: region.clone() }
            }
            (true, FleetConfig { zone: Some(zone), .. }) => {
                NoEndpoint::OutsideRegion { region: zone.clone() }
            }
            (true, _) => NoEndpoint::NotResolved,
        }
    }

    /// Takes note of the end of an attempt, exactly once for each success of [`Fleet::pick`]. The endpoint may be gone.
    pub fn on_attempt_end(&mut self, now: Instant, end: &AttemptEnd) {
        let now_ns = self.clock.ns(now);
        if let Some(balancer) = &mut self.balancer {
            balancer.on_end(end);
        }
        let took_us = end.took.as_secs_f32() * 1e6;
        let usual_us = match end.outcome {
            Outcome::Success => self.methods.on_success(end.method, took_us, &self.config.hedge),
            Outcome::Failure => self.methods.usual_us(end.method),
            Outcome::Cancelled => {
                self.methods.on_cancelled(end.method, took_us, &self.config.hedge);
                0.0
            }
            Outcome::Refused => 0.0,
        };
        let Some(endpoint) = self.table.get_mut(end.endpoint) else { return };
        debug_assert!(endpoint.in_flight > 0, "an attempt ended twice");
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        endpoint.ended[end.outcome as usize] += 1;
        endpoint.load.on_end(now_ns, end.outcome, took_us, usual_us);
        if let Some(load_us) = end.load_us {
            endpoint.load.on_report(now_ns, load_us);
        }
        if let (Outcome::Refused, Some(asked)) = (end.outcome, end.retry_after) {
            endpoint.paused_until_ns = now_ns.saturating_add(self.config.retry.pause_ns(asked));
            self.selection.on_pause(endpoint.paused_until_ns);
        }
        let event = match end.outcome {
            Outcome::Success => BreakerEvent::Success,
            Outcome::Failure => BreakerEvent::Failure,
            Outcome::Refused | Outcome::Cancelled => BreakerEvent::Neither,
        };
        match end.outcome {
            Outcome::Success | Outcome::Refused => endpoint.health.on_answer(now_ns),
            Outcome::Failure if !endpoint.is_connected && !endpoint.is_down => {
                endpoint.is_down = true;
                self.selection.set_stale();
            }
            Outcome::Failure | Outcome::Cancelled => {}
        }
        let (next, change) = endpoint.breaker.next(event, now_ns, &self.config.breaker);
        endpoint.breaker = next;
        if let Some(change) = change {
            self.on_breaker_change(now_ns, end.endpoint, change);
        }
    }

    #[cold]
    fn on_breaker_change(&mut self, now_ns: u64, id: EndpointId, change: BreakerChange) {
        self.selection.set_stale();
        let Some(endpoint) = self.table.get_mut(id) else { return };
        let name = endpoint.instance.id.clone();
        match change {
            BreakerChange::Opened => self.events.push(FleetEvent::BreakerOpened(name)),
            BreakerChange::HalfOpened => {}
            BreakerChange::Closed => {
                endpoint.slow_start = SlowStart::begin(now_ns, self.config.slow_start_ms);
                self.events.push(FleetEvent::BreakerClosed(name));
            }
        }
    }

    /// Decides what happens after a failed attempt; a retry is taken from the budget at once.
    pub fn after_attempt(
        &mut self,
        now: Instant,
        call: &mut CallAttempts,
        failed: &FailedAttempt,
    ) -> AfterAttempt {
        let now_ns = self.clock.ns(now);
        call.failed = call.failed.saturating_add(1);
        let mut failed = *failed;
        if failed.retry_after.is_some() {
            if self.selection.is_due(now_ns) {
                self.refresh(now_ns);
            }
            // Another endpoint may take the call earlier.
            if let Some(pause_ns) = self.selection.shortest_pause_ns(&self.table, now_ns) {
                failed.retry_after = (pause_ns > 0).then(|| Duration::from_nanos(pause_ns));
            }
        }
        let decided = retry::after_attempt(&self.config.retry, call, &failed, self.random.next_u64());
        if decided == AfterAttempt::End || !self.take_from_budget(now_ns) {
            return AfterAttempt::End;
        }
        self.stats.retries += 1;
        decided
    }

    fn take_from_budget(&mut self, now_ns: u64) -> bool {
        match self.budget.take(now_ns, &self.config.budget) {
            Ok(()) => true,
            Err(empty) => {
                self.stats.budget_refusals += 1;
                if empty.is_first {
                    self.events.push(FleetEvent::BudgetEmpty);
                }
                false
            }
        }
    }

    /// Returns the time after which a call of the method is hedged, if it is: the method's own p95. The hedge is made
    /// with [`Fleet::try_hedge`] when the time has passed.
    pub fn hedge_after(&self, method: u32, is_idempotent: bool) -> Option<Duration> {
        hedge::hedge_after(&self.config.hedge, &self.methods, method, is_idempotent)
    }

    /// Takes a hedge from the budget. Returns whether it may be made: if so, the next [`Fleet::pick`] with the endpoints
    /// that the call has tried picks another one. A call that is an attempt of a caller further up is not hedged.
    pub fn try_hedge(&mut self, now: Instant, call: &mut CallAttempts) -> bool {
        let now_ns = self.clock.ns(now);
        if self.selection.is_due(now_ns) {
            self.refresh(now_ns);
        }
        let is_permitted = !call.is_attempt
            && call.count() < self.config.retry.attempts_max
            && self.selection.has_untried(&self.table, &call.tried, now_ns);
        if !is_permitted || !self.take_from_budget(now_ns) {
            return false;
        }
        self.stats.hedges += 1;
        true
    }

    /// Takes note that a hedge was answered first.
    pub fn on_hedge_won(&mut self) {
        self.stats.hedge_wins += 1;
    }

    /// Takes note that an endpoint has got its first connection, or has none any more; `false` for one that has none
    /// means that an attempt to connect failed.
    pub fn on_connection(&mut self, now: Instant, endpoint: EndpointId, is_connected: bool) {
        let now_ns = self.clock.ns(now);
        let Some(endpoint) = self.table.get_mut(endpoint) else { return };
        let before = (endpoint.is_connected, endpoint.is_down);
        if is_connected {
            if endpoint.is_down {
                endpoint.slow_start = SlowStart::begin(now_ns, self.config.slow_start_ms);
            }
            endpoint.is_down = false;
            endpoint.health.begin(now_ns, &self.config.health, &mut self.random);
            self.checks_ns = self.checks_ns.min(endpoint.health.due_ns());
        } else {
            endpoint.is_down |= !endpoint.is_connected;
            endpoint.health.end();
            if endpoint.is_down {
                endpoint.cold_try_ns =
                    now_ns + COLD_PAUSE_NS / 4 + u64::from(self.random.below((COLD_PAUSE_NS / 4 * 5) as u32));
            }
        }
        endpoint.is_connected = is_connected;
        if before != (endpoint.is_connected, endpoint.is_down) {
            self.selection.set_stale();
        }
    }

    /// Returns the endpoints whose health is to be checked now, and takes note that it is. With many endpoints, some of
    /// those that are due are left for the next time.
    pub fn take_due_checks(&mut self, now: Instant) -> Vec<EndpointId> {
        let now_ns = self.clock.ns(now);
        let mut due = Vec::new();
        if now_ns < self.next_checks_ns() {
            return due;
        }
        self.last_checks_ns = now_ns;
        self.checks_ns = u64::MAX;
        let each = u128::from(CHECKS_EVERY_NS) * 2 * self.table.len() as u128;
        let interval_ns = u128::from(self.config.health.interval_ms) * 1_000_000;
        let at_once = CHECKS_AT_ONCE.max((each / interval_ns.max(1)) as usize);
        for (_, endpoint) in self.table.iter_mut() {
            if endpoint.health.due_ns() <= now_ns && due.len() < at_once {
                let (is_due, change) =
                    endpoint.health.take_due(now_ns, &self.config.health, &mut self.random);
                if is_due {
                    due.push(endpoint.id);
                }
                if let Some(change) = change {
                    let events = &mut self.events;
                    on_health_change(now_ns, endpoint, change, &mut self.selection, events, &self.config);
                }
            }
            self.checks_ns = self.checks_ns.min(endpoint.health.due_ns());
        }
        due
    }

    /// Takes note of the result of a health check.
    pub fn on_check_end(&mut self, now: Instant, endpoint: EndpointId, is_healthy: bool) {
        let now_ns = self.clock.ns(now);
        let Some(endpoint) = self.table.get_mut(endpoint) else { return };
        if let Some(change) = endpoint.health.on_check_end(now_ns, &self.config.health, is_healthy) {
            on_health_change(now_ns, endpoint, change, &mut self.selection, &mut self.events, &self.config);
        }
    }

    /// Takes note that a health check was not made after all: it has no result.
    pub fn on_check_skipped(&mut self, endpoint: EndpointId) {
        if let Some(endpoint) = self.table.get_mut(endpoint) {
            endpoint.health.on_check_skipped();
        }
    }

    fn next_checks_ns(&self) -> u64 {
        match self.checks_ns {
            u64::MAX => u64::MAX,
            checks_ns => checks_ns.max(self.last_checks_ns.saturating_add(CHECKS_EVERY_NS)),
        }
    }

    /// Returns the time of the next health check. Nothing else changes by time alone.
    pub fn next_at(&self) -> Option<Instant> {
        match self.next_checks_ns() {
            u64::MAX => None,
            checks_ns => self.clock.instant(checks_ns),
        }
    }

    /// Takes the events since the last call. At most 1,024 are kept; [`FleetStats::events_dropped`] counts the others.
    pub fn take_events(&mut self) -> Vec<FleetEvent> {
        self.events.take()
    }

    /// Returns what is known of each endpoint.
    pub fn view(&self, now: Instant) -> Vec<EndpointView> {
        let now_ns = self.clock.peek(now);
        let view = |(_, endpoint): (u16, &Endpoint)| EndpointView {
            id: endpoint.id,
            instance: endpoint.instance.clone(),
            is_connected: endpoint.is_connected,
            breaker: endpoint.breaker.name(now_ns),
            is_healthy: endpoint.health.is_healthy(),
            is_ejected: endpoint.is_ejected,
            is_in_zone: self.config.zone.is_none() || endpoint.instance.zone == self.config.zone,
            in_flight: endpoint.in_flight,
            latency_us: endpoint.load.latency_us(),
            load_us: endpoint.load.reported_us(now_ns),
            growth_percent: (endpoint.slow_start.growth(now_ns) * 100.0).round() as u32,
            ended: endpoint.ended,
        };
        self.table.iter().map(view).collect()
    }

    /// Returns the counts.
    pub fn stats(&self) -> FleetStats {
        FleetStats {
            events_dropped: self.events.dropped,
            endpoints: self.table.len() as u32,
            ejected: self.selection.ejected,
            ..self.stats
        }
    }

    /// Returns whether an endpoint is in the client's zone; true if the client has none.
    pub fn is_in_zone(&self, endpoint: EndpointId) -> bool {
        let zone = self.config.zone.as_ref();
        zone.is_none_or(|zone| {
            self.table.get(endpoint).is_some_and(|endpoint| endpoint.instance.zone.as_ref() == Some(zone))
        })
    }

    /// Returns the settings.
    pub fn config(&self) -> &FleetConfig {
        &self.config
    }

    /// Asserts the invariants in debug builds: bounds are kept, and the lists match the endpoints.
    pub fn check(&self) {
        if cfg!(debug_assertions) {
            assert!(self.table.len() <= ENDPOINTS_MAX && self.events.len() <= EVENTS_MAX);
            self.budget.check(&self.config.budget);
            self.selection.check(&self.table, &self.config);
        }
    }
}

/// Does what a change of an endpoint's health requires.
fn on_health_change(
    now_ns: u64,
    endpoint: &mut Endpoint,
    change: HealthChange,
    selection: &mut Selection,
    events: &mut Events,
    config: &FleetConfig,
) {
    selection.set_stale();
    let name = endpoint.instance.id.clone();
    match change {
        HealthChange::Unhealthy => events.push(FleetEvent::Unhealthy(name)),
        HealthChange::Healthy => {
            endpoint.slow_start = SlowStart::begin(now_ns, config.slow_start_ms);
            events.push(FleetEvent::Healthy(name));
        }
    }
}
