//! What must hold: at each step, once a second, when goodput is measured, and at the end of a run.

use coreloop::policy::fleet::EndpointId;

use super::scenario::{Ns, SECOND, Scenario, Window};
use super::world::{Actor, Event, World, trace};

/// The budget of retries and hedges: a share of the calls, a number per second, and what may be saved up.
const BUDGET_SHARE: f64 = 0.2;
const BUDGET_PER_SECOND: f64 = 10.0;
const BUDGET_BURST: f64 = 100.0;
/// The least share of the calls of a window that are answered in time, in thousandths.
const GOODPUT_MIN: u64 = 950;
/// An endpoint that should have had this many calls in a window had at least one.
const SHARE_CALLS_MIN: f64 = 60.0;

/// A token bucket that nothing refuses: by how much one of the windows that end now exceeds the budget.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    excess: f64,
    at: Ns,
}

impl Budget {
    /// Adds calls and attempts beside their first ones. The excess is that of the worst of all windows that end now:
    /// it is the excess of the worst window that ended before, with what has come since, or that of an empty one.
    fn add(&mut self, now: Ns, calls: f64, extra: f64) {
        let seconds = (now - self.at) as f64 / SECOND as f64;
        self.at = now;
        self.excess = (self.excess - BUDGET_PER_SECOND * seconds - BUDGET_SHARE * calls).max(0.0) + extra;
    }
}

pub struct Audit {
    windows: [Window; 2],
    budgets: Vec<Budget>,
    /// By window.
    offered: [u64; 2],
    good: [u64; 2],
    /// By window and client: the time that the handlers of its calls take.
    work: [Vec<Ns>; 2],
    /// By client and server: the attempts in the second window. By client: its calls in it.
    picks: Vec<Vec<u64>>,
    calls: Vec<u64>,
    extra: u64,
}

impl Audit {
    pub fn new(scenario: &Scenario) -> Audit {
        let clients = scenario.clients.len();
        Audit {
            windows: scenario.windows,
            budgets: vec![Budget::default(); clients],
            offered: [0; 2],
            good: [0; 2],
            work: [vec![0; clients], vec![0; clients]],
            picks: vec![vec![0; scenario.servers.len()]; clients],
            calls: vec![0; clients],
            extra: 0,
        }
    }

    fn window_of(&self, at: Ns) -> Option<usize> {
        self.windows.iter().position(|window| window.from <= at && at < window.until)
    }

    pub fn on_call(&mut self, client: usize, now: Ns, takes: Ns) {
        self.budgets[client].add(now, 1.0, 0.0);
        if let Some(window) = self.window_of(now) {
            self.offered[window] += 1;
            self.calls[client] += window as u64;
            self.work[window][client] += takes;
        }
    }

    pub fn on_call_end(&mut self, began: Ns, is_good: bool) {
        if let Some(window) = self.window_of(began) {
            self.good[window] += u64::from(is_good);
        }
    }

    /// Counts a retry or hedge. Returns what is wrong with it.
    pub fn on_extra_attempt(&mut self, client: usize, now: Ns) -> Option<String> {
        self.extra += 1;
        let budget = &mut self.budgets[client];
        budget.add(now, 0.0, 1.0);
        let excess = budget.excess;
        (excess > BUDGET_BURST + 1.0).then(|| {
            format!("client {client} has made {excess:.1} retries and hedges beyond its share, {BUDGET_BURST} may be saved up")
        })
    }
}

impl World {
    /// An attempt goes to an endpoint.
    pub fn check_pick(&mut self, client: usize, endpoint: EndpointId) {
        let sim = &self.clients[client];
        let Some(state) = sim.endpoints.get(&endpoint) else { return };
        if let Some(region) = &sim.spec.config.must_stay_in
            && state.zone.as_ref().is_none_or(|zone| !zone.starts_with(region.as_str()))
        {
            let text = format!("client {client} must stay in {region}, and uses {:?}", state.zone);
            return self.violate("calls stay in their region", text);
        }
        if self.audit.window_of(self.now) == Some(1) {
            let server = state.server;
            self.audit.picks[client][server] += 1;
        }
    }

    /// Once a second.
    pub fn on_audit(&mut self) {
        let next = self.now + SECOND;
        self.at(next, Event::Audit);
        for client in 0..self.clients.len() {
            self.check_view(client);
        }
        let second = self.scenario.windows[1];
        if self.now >= second.from && self.now < second.from + SECOND {
            self.check_breakers_closed();
        }
    }

    fn check_view(&mut self, client: usize) {
        let now = self.instant();
        let sim = &self.clients[client];
        let views = sim.fleet.view(now);
        let counted: u32 = views.iter().map(|view| view.in_flight).sum();
        let present = sim.endpoints.values().filter(|endpoint| !endpoint.is_removed);
        let real: u32 = present.map(|endpoint| endpoint.picked_in_flight).sum();
        if counted != real {
            let text =
                format!("client {client}: the fleet counts {counted} attempts in flight, there are {real}");
            self.violate("attempts in flight are counted", text);
        }
        let ejected = views.iter().filter(|view| view.is_ejected).count();
        if ejected > views.len() / 2 {
            let text = format!("client {client}: {ejected} of {} endpoints are ejected", views.len());
            self.violate("at most half of the endpoints are ejected", text);
        }
    }

    fn check_breakers_closed(&mut self) {
        let now = self.instant();
        for client in 0..self.clients.len() {
            let views = self.clients[client].fleet.view(now);
            for view in views.iter().filter(|view| view.breaker != "closed") {
                let (address, breaker) = (&view.instance.address, view.breaker);
                let text = format!("client {client}: the breaker of {address} is {breaker}");
                self.violate("75 s after the faults every breaker is closed", text);
            }
        }
    }

    pub fn check_end(&mut self) {
        for number in 0..self.calls.len() {
            if self.calls[number].end.is_none() {
                let text = format!("call {number} of client {} has no end", self.calls[number].client);
                self.violate("a call ends once", text);
            }
        }
        (0..self.clients.len()).for_each(|client| self.check_view(client));
        for client in 0..self.clients.len() {
            let sim = &self.clients[client];
            let (in_flight, left) = (sim.in_flight, sim.left());
            if in_flight != 0 || left.0 != 0 || left.1 != 0 {
                let text = format!(
                    "client {client} has {in_flight} calls, {left:?} attempts, waiting calls and checks"
                );
                self.violate("nothing is left", text);
            }
        }
        for server in 0..self.servers.len() {
            let left = self.servers[server].left();
            if left != (0, 0) {
                let text = format!("server {server} has {left:?} waiting and running calls");
                self.violate("nothing is left", text);
            }
        }
        self.check_goodput();
        self.check_shares();
        self.check_amplification();
    }

    fn check_goodput(&mut self) {
        let names = [
            "5 s after the faults, goodput is at least 95 %",
            "75 s after the faults, goodput is at least 95 %",
        ];
        for (window, name) in names.into_iter().enumerate() {
            let (offered, good) = (self.audit.offered[window], self.audit.good[window]);
            let goodput = (good * 1000).checked_div(offered).unwrap_or(0);
            self.outcome.goodput[window] = goodput;
            trace!(self, Actor::World, "window {window}: {good} of {offered} calls");
            let (load, real) = (self.scenario.windows[window].load, self.real_load(window));
            // By chance the calls of a window may be more work than their mean.
            if (goodput as f64) < GOODPUT_MIN as f64 * (load / real).min(1.0) {
                let text = format!("{good} of {offered} calls, at {real:.2} of the capacity");
                self.violate(name, text);
            }
        }
    }

    /// The share of the capacity that was offered in a window; of the zone where it was the most.
    fn real_load(&self, window: usize) -> f64 {
        let Window { from, until, .. } = self.scenario.windows[window];
        let zone_of = |client: usize| self.clients[client].spec.config.zone.as_deref();
        let load_of = |zone: Option<&str>| {
            let clients = (0..self.clients.len()).filter(|client| zone_of(*client) == zone);
            let work: Ns = clients.map(|client| self.audit.work[window][client]).sum();
            let near = self.scenario.servers.iter().filter(|server| server.zone == zone);
            let workers: u32 = near.map(|server| server.workers).sum();
            work as f64 / ((until - from) as f64 * f64::from(workers))
        };
        (0..self.clients.len()).map(|client| load_of(zone_of(client))).fold(0.0, f64::max)
    }

    /// Each endpoint that a client may use has had calls.
    fn check_shares(&mut self) {
        for client in 0..self.clients.len() {
            let zone = self.clients[client].spec.config.zone.clone();
            let is_near =
                |server: &usize| zone.is_none() || self.scenario.servers[*server].zone == zone.as_deref();
            let near: Vec<usize> = (0..self.servers.len()).filter(is_near).collect();
            let weights: u32 = near.iter().map(|server| self.scenario.servers[*server].workers).sum();
            for server in near {
                let share = f64::from(self.scenario.servers[server].workers) / f64::from(weights);
                let expected = self.audit.calls[client] as f64 * share;
                if expected >= SHARE_CALLS_MIN && self.audit.picks[client][server] == 0 {
                    let text =
                        format!("client {client} has used server {server} for none of {expected:.0} calls");
                    self.violate("no endpoint is starved", text);
                }
            }
        }
    }

    /// Counted at the servers, over the whole run.
    fn check_amplification(&mut self) {
        let arrived: u64 = self.servers.iter().map(|server| server.arrived).sum();
        let most = self.outcome.calls + self.audit.extra;
        if arrived > most {
            let text = format!("{arrived} calls have arrived, and clients have made {most} attempts");
            self.violate("servers get no more than the calls, retries and hedges", text);
        }
    }
}
