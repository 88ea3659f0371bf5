//! Faults that begin and end, and the registry with its resolvers.

use coreloop::policy::fleet::Instance;

use super::scenario::{FaultKind, MS, Ns};
use super::world::{Actor, Event, Sabotage, World, trace};

/// From one loss of all connections to a server to the next, while a fault lasts.
const LOSE_EVERY: Ns = 300 * MS;
/// A client's first resolution takes up to this.
const FIRST_RESOLUTION: Ns = 800 * MS;

/// An update that a resolver delivers: the instances, or `None` if it has failed.
#[derive(Debug)]
pub struct Update {
    pub instances: Option<Vec<Instance>>,
}

/// Faults that have begun and not ended, beside those of a server or link.
#[derive(Debug)]
pub struct ActiveFaults {
    pub cancels: u32,
    pub impatient: u32,
    loads: Vec<u32>,
    pub delay_ms: Vec<u64>,
    /// Servers that are not in the registry.
    deregistered: Vec<u32>,
    empty: u32,
    fails: u32,
    stale: u32,
}

impl ActiveFaults {
    pub fn new(servers: usize) -> ActiveFaults {
        ActiveFaults {
            cancels: 0,
            impatient: 0,
            loads: Vec::new(),
            delay_ms: vec![0; servers],
            deregistered: vec![0; servers],
            empty: 0,
            fails: 0,
            stale: 0,
        }
    }
}

fn address(server: usize, generation: u32) -> String {
    format!("server-{server}:{generation}")
}

/// Returns the server of an address, and its generation.
pub fn server_of(address: &str) -> (usize, u32) {
    let parts = address.strip_prefix("server-").and_then(|rest| rest.split_once(':'));
    let (server, generation) = parts.expect("an address of the simulation");
    (server.parse().expect("a number"), generation.parse().expect("a number"))
}

/// Adds one to a count when a fault begins, and takes it when it ends. Returns whether it is the first or the last.
fn count(faults: &mut u32, begins: bool) -> bool {
    if begins {
        *faults += 1;
        *faults == 1
    } else {
        *faults -= 1;
        *faults == 0
    }
}

impl World {
    pub fn schedule_faults(&mut self) {
        for (number, fault) in self.scenario.faults.clone().into_iter().enumerate() {
            self.at(fault.at, Event::FaultBegins(number));
            self.at(fault.until, Event::FaultEnds(number));
        }
        // Before the first update, a resolver may fail or find nothing.
        for client in 0..self.clients.len() {
            for _ in 0..self.rng.below(3) {
                let nothing = self.rng.one_in(2).then(Vec::new);
                self.deliver(client, nothing, FIRST_RESOLUTION / 4);
            }
            let all = self.registered();
            self.deliver(client, Some(all), FIRST_RESOLUTION);
        }
    }

    /// The share of the fleet's capacity that is offered now.
    pub fn load(&self) -> f64 {
        let load = self.scenario.load(self.now);
        match self.active.loads.last() {
            Some(percent) if self.now < self.scenario.faults_end => f64::from(*percent) / 100.0,
            _ => load,
        }
    }

    pub fn on_fault(&mut self, number: usize, begins: bool) {
        let kind = self.scenario.faults[number].kind;
        trace!(self, Actor::World, "{kind:?} {}", if begins { "begins" } else { "ends" });
        match kind {
            FaultKind::Pause(server) => {
                if count(&mut self.servers[server].paused, begins) {
                    if begins { self.pause(server) } else { self.resume(server) }
                }
            }
            FaultKind::Crash(server) => self.take_down(server, begins),
            FaultKind::CrashAll => {
                (0..self.servers.len()).for_each(|server| self.take_down(server, begins));
            }
            FaultKind::Replace(server) => {
                self.take_down(server, begins);
                if begins {
                    self.servers[server].generation += 1;
                    self.resolve_all();
                }
            }
            FaultKind::Slow(server) => {
                if begins || self.sabotage != Sabotage::StaysSlow {
                    count(&mut self.servers[server].slow, begins);
                }
            }
            FaultKind::FailFast(server) => drop(count(&mut self.servers[server].fails_fast, begins)),
            FaultKind::Refuse(server) => drop(count(&mut self.servers[server].refuses, begins)),
            FaultKind::Flaky(server, one_in) => {
                self.servers[server].flaky_one_in = if begins { one_in } else { 0 };
            }
            FaultKind::Drop(client, server) if begins => {
                for conn in self.open_conns(Some(client), server) {
                    self.lose(conn);
                }
            }
            FaultKind::Drop(..) => {}
            FaultKind::Lossy(_) if begins => self.on_lose(number),
            FaultKind::Lossy(_) => {}
            FaultKind::Partition { client, server, up, down } => {
                for number in 0..self.clients.len() {
                    if client.is_some_and(|client| client != number) {
                        continue;
                    }
                    let link = &mut self.links[number][server];
                    let mut is_last = up && count(&mut link.up_blocked, begins);
                    is_last |= down && count(&mut link.down_blocked, begins);
                    if is_last && !begins {
                        self.on_heal(number, server);
                    }
                }
            }
            FaultKind::Delay { server, ms } => {
                self.active.delay_ms[server] = if begins { ms } else { 0 };
            }
            FaultKind::Deregister(server) => {
                count(&mut self.active.deregistered[server], begins);
                self.resolve_all();
            }
            FaultKind::ResolveEmpty => drop(count(&mut self.active.empty, begins)),
            FaultKind::ResolveFails => drop(count(&mut self.active.fails, begins)),
            FaultKind::ResolveStale => drop(count(&mut self.active.stale, begins)),
            FaultKind::Load(percent) if begins => self.active.loads.push(percent),
            FaultKind::Load(_) => drop(self.active.loads.pop()),
            FaultKind::Cancels => drop(count(&mut self.active.cancels, begins)),
            FaultKind::Impatient => drop(count(&mut self.active.impatient, begins)),
        }
        if matches!(kind, FaultKind::ResolveEmpty | FaultKind::ResolveFails | FaultKind::ResolveStale) {
            self.resolve_all();
        }
    }

    fn take_down(&mut self, server: usize, begins: bool) {
        if count(&mut self.servers[server].down, begins) {
            if begins {
                self.crash(server);
            } else {
                trace!(self, Actor::Server(server), "starts");
            }
        }
    }

    /// Every connection to the server of a fault is lost, again and again until the fault ends.
    pub fn on_lose(&mut self, number: usize) {
        let fault = self.scenario.faults[number];
        let FaultKind::Lossy(server) = fault.kind else { return };
        for conn in self.open_conns(None, server) {
            self.lose(conn);
        }
        if self.now + LOSE_EVERY < fault.until {
            self.at(self.now + LOSE_EVERY, Event::Lose(number));
        }
    }

    /// The instances in the registry.
    fn registered(&self) -> Vec<Instance> {
        let is_registered = |server: &usize| self.active.deregistered[*server] == 0;
        let servers = (0..self.servers.len()).filter(is_registered);
        let instances = servers.map(|server| {
            let spec = &self.scenario.servers[server];
            let instance = Instance::new(address(server, self.servers[server].generation));
            let instance = instance.id(format!("server-{server}")).weight(spec.workers);
            match spec.zone {
                Some(zone) => instance.zone(zone),
                None => instance,
            }
        });
        instances.collect()
    }

    /// Every client's resolver delivers what it finds now.
    fn resolve_all(&mut self) {
        let mut found = self.registered();
        if self.active.stale > 0 {
            found.truncate(1);
        }
        if self.active.empty > 0 {
            found.clear();
        }
        for client in 0..self.clients.len() {
            let found = (self.active.fails == 0).then(|| found.clone());
            self.deliver(client, found, self.scenario.resolver_delay);
        }
    }

    fn deliver(&mut self, client: usize, instances: Option<Vec<Instance>>, delay_max: Ns) {
        self.updates.push(Update { instances });
        let update = self.updates.len() - 1;
        // Updates keep their order: a later one does not arrive before this one.
        let at = self.now + self.rng.below(delay_max as usize) as Ns;
        let latest = &mut self.clients[client].resolved_at;
        *latest = at.max(*latest + 1);
        let at = *latest;
        self.at(at, Event::Resolved(client, update));
    }
}
