//! The endpoints of a client: connections that are made, lost and made again, updates of the instances, and health
//! checks.

use coreloop::policy::backoff::Backoff;
use coreloop::policy::fleet::{EndpointId, FleetEvent};

use super::client::AttemptResult;
use super::network::{Reply, Request};
use super::scenario::{MS, Ns, SECOND};
use super::world::{Actor, Event, Sabotage, World, trace};

/// With calls in flight and nothing received for this time the client pings, and for twice this time it closes the
/// connection.
const PING: Ns = 3 * SECOND;

/// The pauses between attempts to connect.
const RECONNECT: Backoff = Backoff { base_ms: 50, max_ms: 2_000 };

/// What the client has of an endpoint.
#[derive(Debug)]
pub struct Endpoint {
    pub server: usize,
    pub generation: u32,
    pub zone: Option<String>,
    pub conn: Option<usize>,
    pub dialing_since: Option<Ns>,
    pub pause_until: Option<Ns>,
    failures: u32,
    /// Attempts that wait for the connection.
    pub waiting: Vec<usize>,
    pub in_flight: u32,
    /// Attempts for which the fleet has picked it, and that have not ended.
    pub picked_in_flight: u32,
    pub is_removed: bool,
}

impl World {
    // Connections.

    pub fn on_reply(&mut self, conn: usize, reply: Reply) {
        if !self.conns[conn].at_client {
            return;
        }
        self.conns[conn].heard_at = self.now;
        match reply {
            Reply::Answer { attempt, result, load_us } => {
                if self.attempts[attempt].is_live {
                    self.fail(attempt, result, Some(load_us));
                }
            }
            Reply::Pong { check } => self.on_check_end(self.conns[conn].client, check, true),
            Reply::Reset => self.on_lost(conn),
        }
    }

    pub fn on_connected(&mut self, client: usize, endpoint: EndpointId, conn: usize) {
        let now = self.instant();
        let sim = &mut self.clients[client];
        sim.fleet.on_connection(now, endpoint, true);
        let Some(state) = sim.endpoints.get_mut(&endpoint) else { return };
        state.conn = Some(conn);
        state.failures = 0;
        let waiting = std::mem::take(&mut state.waiting);
        waiting.into_iter().for_each(|attempt| self.send_attempt(attempt, conn));
        self.release_endpoint(client, endpoint);
    }

    pub fn on_dial_failed(&mut self, client: usize, endpoint: EndpointId) {
        let random = self.rng.next();
        let now = self.instant();
        self.clients[client].fleet.on_connection(now, endpoint, false);
        let Some(state) = self.clients[client].endpoints.get_mut(&endpoint) else { return };
        state.dialing_since = None;
        state.failures += 1;
        let until = self.now + RECONNECT.delay(state.failures, random).as_nanos() as Ns;
        state.pause_until = Some(until);
        let waiting = std::mem::take(&mut state.waiting);
        trace!(self, Actor::Client(client), "cannot connect to {endpoint:?}");
        self.at(until, Event::Redial(client, endpoint));
        waiting.into_iter().for_each(|attempt| self.fail(attempt, AttemptResult::NotConnected, None));
        self.release_endpoint(client, endpoint);
    }

    /// The client has lost a connection.
    pub fn on_lost(&mut self, conn: usize) {
        let now = self.instant();
        if !std::mem::take(&mut self.conns[conn].at_client) {
            return;
        }
        let (client, endpoint) = (self.conns[conn].client, self.conns[conn].endpoint);
        trace!(self, Actor::Client(client), "loses the connection to server {}", self.conns[conn].server);
        let sim = &mut self.clients[client];
        if let Some(state) = sim.endpoints.get_mut(&endpoint) {
            state.conn = None;
            sim.fleet.on_connection(now, endpoint, false);
        }
        let in_flight = std::mem::take(&mut self.conns[conn].in_flight);
        for attempt in in_flight {
            self.fail(attempt, AttemptResult::Lost { was_sent: true }, None);
        }
        self.dial(client, endpoint);
        self.release_endpoint(client, endpoint);
    }

    /// Drops an endpoint that was removed, once nothing uses it.
    pub fn release_endpoint(&mut self, client: usize, endpoint: EndpointId) {
        let Some(state) = self.clients[client].endpoints.get(&endpoint) else { return };
        if !state.is_removed || state.in_flight + state.picked_in_flight > 0 {
            return;
        }
        let conn = state.conn;
        self.clients[client].endpoints.remove(&endpoint);
        if let Some(conn) = conn {
            self.conns[conn].at_client = false;
            self.send_up(conn, Request::Close);
        }
    }

    // Endpoints.

    /// Takes an update of the instances, or the resolver's failure.
    pub fn on_resolved(&mut self, client: usize, update: usize) {
        let now = self.instant();
        let Some(instances) = self.updates[update].instances.clone() else {
            trace!(self, Actor::Client(client), "the resolver has failed");
            self.clients[client].fleet.on_resolve_failed("the resolver has failed");
            return;
        };
        trace!(self, Actor::Client(client), "resolves {} instances", instances.len());
        let sim = &mut self.clients[client];
        let before = sim.fleet.view(now).len();
        let change = sim.fleet.set_instances(now, &instances);
        let mut after = sim.fleet.view(now).len();
        if instances.is_empty() && self.sabotage == Sabotage::EmptyUpdateEmpties {
            after = 0;
        }
        if instances.is_empty() && before > 0 && after == 0 {
            let text = format!("client {client} had {before} endpoints, and has none");
            self.violate("an empty update never empties a working set", text);
        }
        for (id, instance) in change.added {
            let (server, generation) = super::faults::server_of(&instance.address);
            let state = Endpoint {
                server,
                generation,
                zone: instance.zone,
                conn: None,
                dialing_since: None,
                pause_until: None,
                failures: 0,
                waiting: Vec::new(),
                in_flight: 0,
                picked_in_flight: 0,
                is_removed: false,
            };
            self.clients[client].endpoints.insert(id, state);
            self.dial(client, id);
        }
        for id in change.removed {
            if let Some(state) = self.clients[client].endpoints.get_mut(&id) {
                state.is_removed = true;
                self.release_endpoint(client, id);
            }
        }
        let unresolved = std::mem::take(&mut self.clients[client].unresolved);
        for call in unresolved {
            if self.calls[call].end.is_none() {
                self.start_attempt(call, false);
            }
        }
    }

    /// What the reactor does when the fleet's time has come, and at least once a second.
    pub fn on_tick(&mut self, client: usize) {
        let now = self.instant();
        for endpoint in self.clients[client].fleet.take_due_checks(now) {
            self.check_health(client, endpoint);
        }
        let conns: Vec<usize> =
            self.clients[client].endpoints.values().filter_map(|endpoint| endpoint.conn).collect();
        for conn in conns {
            if self.conns[conn].in_flight.is_empty() {
                continue;
            }
            match self.now - self.conns[conn].heard_at {
                silent if silent >= 2 * PING => {
                    self.send_up(conn, Request::Close);
                    self.on_lost(conn);
                }
                silent if silent >= PING => self.send_up(conn, Request::Ping { check: 0 }),
                _ => {}
            }
        }
        self.take_events(client);
        let next = self.clients[client].fleet.next_at().map_or(Ns::MAX, |at| self.since_start(at));
        self.at(next.clamp(self.now + MS, self.now + SECOND), Event::Tick(client));
    }

    fn take_events(&mut self, client: usize) {
        for event in self.clients[client].fleet.take_events() {
            trace!(self, Actor::Client(client), "{event:?}");
            match event {
                FleetEvent::BreakerOpened(_) => self.outcome.breakers_opened += 1,
                FleetEvent::BreakerClosed(_) => self.outcome.breakers_closed += 1,
                FleetEvent::BudgetEmpty => self.outcome.budgets_empty += 1,
                FleetEvent::SpilledOver => self.outcome.spilled_over += 1,
                _ => {}
            }
        }
    }

    fn check_health(&mut self, client: usize, endpoint: EndpointId) {
        let sim = &mut self.clients[client];
        sim.next_check += 1;
        let check = sim.next_check;
        sim.checks.insert(check, endpoint);
        match sim.endpoints.get(&endpoint).and_then(|state| state.conn) {
            Some(conn) => {
                self.send_up(conn, Request::Ping { check });
                let timeout = self.clients[client].spec.config.health.timeout_ms * MS;
                self.at(self.now + timeout, Event::CheckLate(client, check));
            }
            None => self.on_check_end(client, check, false),
        }
    }

    fn on_check_end(&mut self, client: usize, check: u64, is_healthy: bool) {
        let now = self.instant();
        if let Some(endpoint) = self.clients[client].checks.remove(&check) {
            trace!(self, Actor::Client(client), "health of {endpoint:?}: {is_healthy}");
            self.clients[client].fleet.on_check_end(now, endpoint, is_healthy);
        }
    }

    pub fn on_check_late(&mut self, client: usize, check: u64) {
        self.on_check_end(client, check, false);
    }
}
