//! The calls of clients that have several servers: a [`FleetState`] is the reactor's side of one such client.
//!
//! The policies ([`Fleet`]) decide; this carries out. Each server is an [`EndpointState`] of its own, as if it were the
//! address of a client. `attempts.rs` makes the attempts of calls and handles their ends. All of it runs on the reactor's
//! thread.

mod attempts;
mod checks;
mod hedges;
mod warm;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use self::attempts::KeptAttempt;
use self::hedges::HedgedCall;
use super::ClientApp;
use super::endpoint::EndpointState;
use crate::client::CallError;
use crate::client::call_slot::{FleetCall, Promise};
use crate::client::config::ClientConfig;
use crate::client::endpoint::{EndSignal, Endpoint, EndpointTarget};
use crate::client::fleet::{FleetShared, FleetView, Found, ViewSender};
use crate::policy::fleet::{EndpointId, EndpointView, Fleet, FleetChange, Instance};
use crate::reactor::Conns;
use crate::transport::{Address, TlsClient};
use crate::wire::Scheme;

/// The numbers of the servers of fleets among the reactor's endpoints are above this; those of clients are below.
pub(super) const FLEET_LINES: u64 = 1 << 63;

/// The longest pause between attempts to connect to a server of a fleet, in milliseconds: others take its calls meanwhile, and
/// a server that is back must not be left out for long.
const PAUSE_MS_MAX: u64 = 2_000;

/// Ended calls whose memory a fleet keeps for its next ones.
const FREE_CALLS_MAX: usize = 256;

/// The servers of one client, and the calls that no server has.
pub(super) struct FleetState {
    policies: Fleet,
    /// The client, for the health checks that are calls.
    client: Weak<Endpoint>,
    shared: Arc<FleetShared>,
    scheme: Scheme,
    tls: Option<TlsClient>,
    config: Arc<ClientConfig>,
    /// The numbers of the servers' states.
    lines: BTreeMap<EndpointId, u64>,
    /// Servers that are gone, until their last call has ended.
    leaving: Vec<u64>,
    /// Calls that wait for the first instances; `Endpoint::enter` bounds them.
    unresolved: VecDeque<Promise>,
    /// Calls that wait until they are attempted again, by that time and a running number.
    retries: BTreeMap<(Instant, u64), KeptAttempt>,
    last_retry: u64,
    /// Calls that may be hedged, by their numbers. Each has an attempt that runs or waits; `Endpoint::enter` bounds them.
    hedged: BTreeMap<u64, HedgedCall>,
    last_hedged: u64,
    /// When they are hedged. Those that have ended stay until then.
    hedge_times: BTreeSet<(Instant, u64)>,
    /// When connections are opened ahead, if a server lacks one.
    warm_at: Option<Instant>,
    /// Chooses the servers to which they are opened.
    random: RandomState,
    /// Servers with a health check that is a call and has not ended.
    checking: BTreeSet<EndpointId>,
    /// Calls among those that were abandoned since they were last searched.
    abandoned: usize,
    /// The last error of the resolver.
    resolve_error: Option<String>,
    #[allow(clippy::vec_box, reason = "the boxes themselves are used again")]
    free: Vec<Box<FleetCall>>,
}

/// Returns the limits of a client, with pauses between attempts to connect that are at most [`PAUSE_MS_MAX`].
fn reconnecting_soon(config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = config.clone();
    if config.backoff.max_ms > PAUSE_MS_MAX {
        Arc::make_mut(&mut config).backoff.max_ms = PAUSE_MS_MAX;
    }
    config
}

impl FleetState {
    fn new(endpoint: &Arc<Endpoint>, shared: Arc<FleetShared>) -> FleetState {
        let seed = RandomState::new().hash_one(endpoint.number);
        FleetState {
            policies: shared.policies(endpoint.scheme, seed),
            client: Arc::downgrade(endpoint),
            shared,
            scheme: endpoint.scheme,
            tls: endpoint.tls().cloned(),
            config: reconnecting_soon(&endpoint.config),
            lines: BTreeMap::new(),
            leaving: Vec::new(),
            unresolved: VecDeque::new(),
            retries: BTreeMap::new(),
            last_retry: 0,
            hedged: BTreeMap::new(),
            last_hedged: 0,
            hedge_times: BTreeSet::new(),
            warm_at: None,
            random: RandomState::new(),
            checking: BTreeSet::new(),
            abandoned: 0,
            resolve_error: None,
            free: Vec::new(),
        }
    }

    /// Passes every call that waits here, and for which `is_over` returns true, to `end`.
    pub(super) fn take_over(&mut self, is_over: impl Fn(&Promise) -> bool, mut end: impl FnMut(Promise)) {
        if self.unresolved.iter().any(&is_over) {
            let (over, rest): (VecDeque<Promise>, _) =
                std::mem::take(&mut self.unresolved).into_iter().partition(&is_over);
            self.unresolved = rest;
            over.into_iter().for_each(&mut end);
        }
        if self.retries.values().any(|kept| is_over(&kept.promise)) {
            let (over, rest): (BTreeMap<_, _>, _) =
                std::mem::take(&mut self.retries).into_iter().partition(|(_, kept)| is_over(&kept.promise));
            self.retries = rest;
            over.into_values().for_each(|kept| end(kept.promise));
        }
    }

    /// Returns the calls that wait here.
    fn waiting(&self) -> usize {
        self.unresolved.len() + self.retries.len()
    }

    /// Reports what has happened to the program.
    fn report(&mut self) {
        let events = self.policies.take_events();
        if !events.is_empty() {
            self.shared.report(&events);
        }
    }

    /// Returns the address of an instance, or why it cannot be one of this client.
    fn address_of(&self, instance: &Instance) -> Result<Address, String> {
        let (scheme, is_secured, plain) = Scheme::split_tls(&instance.address);
        let is_named = plain.len() < instance.address.len();
        if is_named && (scheme, is_secured) != (self.scheme, self.tls.is_some()) {
            let tls = |is_secured: bool| if is_secured { "+tls" } else { "" };
            return Err(format!(
                "the instance {} uses the protocol {}{}; the client uses {}{}",
                instance.address,
                scheme.name(),
                tls(is_secured),
                self.scheme.name(),
                tls(self.tls.is_some())
            ));
        }
        plain.parse().map_err(|error| format!("the instance {}: {error}", instance.id))
    }
}

impl ClientApp {
    /// Creates the state of a client's fleet, unless it exists: the first message of the client does.
    fn open_fleet(&mut self, endpoint: &Arc<Endpoint>) {
        if let Some(shared) = endpoint.fleet() {
            let state = || FleetState::new(endpoint, shared.clone());
            self.fleets.entry(endpoint.number).or_insert_with(state);
        }
    }

    /// Handles what the resolver has found.
    pub(super) fn on_found(&mut self, conns: &mut Conns<'_, ClientApp>, endpoint: &Arc<Endpoint>) {
        self.open_fleet(endpoint);
        let (number, now) = (endpoint.number, conns.now());
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        let Found { instances, failed } = fleet.shared.take();
        if let Some(mut instances) = instances {
            let mut faults = Vec::new();
            instances.retain(|instance| fleet.address_of(instance).map_err(|why| faults.push(why)).is_ok());
            faults.iter().for_each(|why| fleet.policies.on_resolve_failed(why));
            fleet.resolve_error = faults.pop();
            let change = fleet.policies.set_instances(now, &instances);
            let waiting = std::mem::take(&mut fleet.unresolved);
            self.on_change(conns, number, change);
            for promise in waiting {
                self.attempt(conns, promise, None);
            }
        }
        if let Some(why) = failed
            && let Some(fleet) = self.fleets.get_mut(&number)
        {
            fleet.policies.on_resolve_failed(&why);
            fleet.resolve_error = Some(why);
        }
        self.look_by(now);
        self.handle_ended(conns);
        if let Some(fleet) = self.fleets.get_mut(&number) {
            fleet.report();
        }
    }

    /// Adds and removes servers.
    fn on_change(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64, change: FleetChange) {
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        for (id, instance) in change.added {
            // It was checked before.
            let Ok(address) = fleet.address_of(&instance) else { continue };
            self.last_fleet_line += 1;
            let line = EndpointState::of_fleet(
                fleet.scheme,
                fleet.tls.clone(),
                address,
                fleet.config.clone(),
                (number, id),
            );
            self.lines.insert(self.last_fleet_line, line);
            fleet.lines.insert(id, self.last_fleet_line);
        }
        for id in change.removed {
            let Some(fleet) = self.fleets.get_mut(&number) else { return };
            fleet.checking.remove(&id);
            let Some(line) = fleet.lines.remove(&id) else { continue };
            fleet.leaving.push(line);
            let Some(line) = self.lines.get_mut(&line) else { continue };
            line.keep_none();
            let waiting = std::mem::take(&mut line.waiting);
            self.waiting -= waiting.len();
            for promise in waiting {
                self.attempt_elsewhere(conns, promise);
            }
        }
        self.drop_leaving(conns, number);
        self.begin_warming(number, conns.now());
    }

    /// Closes the connections to servers that are gone and have no call any more.
    fn drop_leaving(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64) {
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        if fleet.leaving.is_empty() {
            return;
        }
        let mut leaving = std::mem::take(&mut fleet.leaving);
        leaving.retain(|line| {
            let waits = self.lines.get(line).is_some_and(|line| !line.waiting.is_empty());
            let is_used = waits || self.has_calls(conns, *line);
            if !is_used {
                self.on_line_closed(conns, *line, &[]);
            }
            is_used
        });
        if let Some(fleet) = self.fleets.get_mut(&number) {
            fleet.leaving = leaving;
        }
    }

    fn has_calls(&self, conns: &mut Conns<'_, ClientApp>, line: u64) -> bool {
        self.keys.iter().any(|key| {
            let session = conns.session(*key).filter(|session| session.line == line);
            session.is_some_and(|session| !session.pending.is_empty())
        })
    }

    /// Takes note that a server of a fleet has got its first connection, or lost its last one.
    pub(super) fn on_fleet_connection(&mut self, line: u64, now: Instant) {
        let Some(line) = self.lines.get(&line) else { return };
        if let Some((number, id)) = line.fleet
            && let Some(fleet) = self.fleets.get_mut(&number)
        {
            fleet.policies.on_connection(now, id, !line.connections.is_empty());
            // The health checks of a server begin with its first connection.
            let next = fleet.policies.next_at();
            next.into_iter().for_each(|at| self.look_by(at));
        }
    }

    /// Closes the fleet of a client that has no handle and no call any more.
    pub(super) fn on_fleet_closed(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        number: u64,
        signals: &[EndSignal],
    ) {
        let Some(fleet) = self.fleets.remove(&number) else { return };
        debug_assert_eq!(fleet.waiting(), 0, "a call keeps its fleet");
        for line in fleet.lines.into_values().chain(fleet.leaving) {
            self.on_line_closed(conns, line, signals);
        }
    }

    /// Drops calls of a fleet that wait and were abandoned, as [`ClientApp::drop_abandoned`] does.
    pub(super) fn drop_abandoned_of_fleet(&mut self, number: u64) {
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        let lines: Vec<u64> = fleet.lines.values().chain(&fleet.leaving).copied().collect();
        let waiting = fleet.waiting();
        let lines_waiting =
            lines.iter().filter_map(|line| self.lines.get(line)).map(|line| line.waiting.len());
        let waiting = waiting + lines_waiting.sum::<usize>();
        fleet.abandoned += 1;
        if fleet.abandoned * 2 < waiting {
            return;
        }
        fleet.abandoned = 0;
        let mut over = Vec::new();
        fleet.take_over(Promise::is_abandoned, |promise| over.push(promise));
        for line in lines {
            let Some(line) = self.lines.get_mut(&line) else { continue };
            let before = line.waiting.len();
            let (abandoned, rest): (VecDeque<Promise>, _) =
                std::mem::take(&mut line.waiting).into_iter().partition(Promise::is_abandoned);
            line.waiting = rest;
            self.waiting -= before - line.waiting.len();
            over.extend(abandoned);
        }
        self.stats().cancelled.add(over.len() as u64);
        for promise in over {
            let may_have_run = promise.is_sent;
            promise.fail(CallError::Cancelled { may_have_run });
        }
    }

    /// Does what is due in every fleet, and schedules the next check.
    pub(super) fn look_at_fleets(&mut self, conns: &mut Conns<'_, ClientApp>) {
        let now = conns.now();
        let numbers: Vec<u64> = self.fleets.keys().copied().collect();
        for number in numbers {
            self.make_due_retries(conns, number);
            self.make_due_hedges(conns, number);
            self.make_due_checks(conns, number);
            self.warm_up(conns, number);
            self.fail_unresolved(number, now);
            self.drop_leaving(conns, number);
            let Some(fleet) = self.fleets.get_mut(&number) else { continue };
            fleet.report();
            let retry = fleet.retries.first_key_value().map(|((at, _), _)| *at);
            let deadlines = fleet.unresolved.iter().filter_map(|promise| promise.deadline);
            let deadlines = deadlines.chain(fleet.retries.values().filter_map(|kept| kept.promise.deadline));
            let next =
                deadlines.min().into_iter().chain(retry).chain(fleet.policies.next_at()).chain(fleet.warm_at);
            let next = next.chain(fleet.fails_unresolved_at()).min();
            next.into_iter().chain(self.next_hedge_at(number)).for_each(|at| self.look_by(at));
        }
    }

    /// Fails the calls that have waited for the first instances for too long.
    fn fail_unresolved(&mut self, number: u64, now: Instant) {
        while let Some(fleet) = self.fleets.get_mut(&number)
            && fleet.fails_unresolved_at().is_some_and(|at| at <= now)
            && let Some(promise) = fleet.unresolved.pop_front()
        {
            let mut text = "no server of the client is known within connect_timeout_ms".to_owned();
            if let Some(why) = &fleet.resolve_error {
                text = format!("{text}: {why}");
            }
            promise.fail(CallError::Connect(io::Error::new(io::ErrorKind::TimedOut, text)));
        }
    }

    /// Answers what is known of the servers of a client.
    pub(super) fn on_view(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        endpoint: &Arc<Endpoint>,
        sender: &ViewSender,
    ) {
        self.open_fleet(endpoint);
        self.handle_ended(conns);
        let view = match (endpoint.target(), self.fleets.get(&endpoint.number)) {
            (EndpointTarget::Fleet(_), Some(fleet)) => {
                FleetView { endpoints: fleet.policies.view(conns.now()), stats: fleet.policies.stats() }
            }
            (EndpointTarget::Fleet(_), None) => FleetView::default(),
            (EndpointTarget::One(_), _) => {
                let line = self.lines.get(&endpoint.number);
                let endpoints = line.map(|line| view_of_one(endpoint, line)).into_iter().collect();
                FleetView { endpoints, ..FleetView::default() }
            }
        };
        // It may have been given up.
        let _ = sender.try_send(view);
    }
}

impl FleetState {
    /// Returns when the first of the calls that wait for the first instances fails.
    fn fails_unresolved_at(&mut self) -> Option<Instant> {
        if self.config.waits_for_connection {
            return None;
        }
        let timeout = Duration::from_millis(self.config.connect_timeout_ms);
        let since = self.unresolved.front_mut()?.fleet_call()?.since;
        Some(since + timeout)
    }
}

/// Returns what is known of the only server of a client without policies.
fn view_of_one(endpoint: &Endpoint, line: &EndpointState) -> EndpointView {
    EndpointView {
        id: EndpointId(0),
        instance: Instance::new(endpoint.address.clone()),
        is_connected: !line.connections.is_empty(),
        breaker: "closed",
        is_healthy: true,
        is_ejected: false,
        is_in_zone: true,
        in_flight: u32::try_from(endpoint.in_flight()).unwrap_or(u32::MAX),
        latency_us: 0,
        load_us: endpoint.load_us().unwrap_or(0),
        growth_percent: 100,
        ended: [0; 4],
    }
}
