//! Tests of the policies: each against a plain model, and all of them together.

mod balance;
mod breaker;
mod budget;
mod fleet;
mod pause;
mod small;
mod zone;

use std::time::{Duration, Instant};

use super::*;

/// A fleet with a clock of its own.
struct World {
    fleet: Fleet,
    now: Instant,
    random: Random,
}

impl World {
    fn new(config: FleetConfig, seed: u64) -> World {
        World { fleet: Fleet::new(config, seed), now: Instant::now(), random: Random::new(!seed) }
    }

    /// A fleet of connected instances `0`, `1` and so on.
    fn with(config: FleetConfig, seed: u64, count: usize) -> World {
        let instances: Vec<Instance> = (0..count).map(|n| Instance::new(n.to_string())).collect();
        World::of(config, seed, &instances)
    }

    /// A fleet of these connected instances.
    fn of(config: FleetConfig, seed: u64, instances: &[Instance]) -> World {
        let mut world = World::new(config, seed);
        world.set(instances);
        world
    }

    /// Sets the instances, and connects the new ones.
    fn set(&mut self, instances: &[Instance]) -> FleetChange {
        let change = self.fleet.set_instances(self.now, instances);
        for (id, _) in &change.added {
            self.fleet.on_connection(self.now, *id, true);
        }
        change
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
    }

    fn pick(&mut self) -> EndpointId {
        self.fleet.on_call(self.now);
        self.fleet.pick(self.now, PickFor::default()).unwrap()
    }

    fn pick_for(&mut self, key: u64) -> EndpointId {
        self.fleet.pick(self.now, PickFor { key: Some(key), ..PickFor::default() }).unwrap()
    }

    fn end(&mut self, endpoint: EndpointId, outcome: Outcome, took_us: u64) {
        let took = Duration::from_micros(took_us);
        let end = AttemptEnd { endpoint, method: 1, outcome, took, load_us: None, retry_after: None };
        self.fleet.on_attempt_end(self.now, &end);
    }

    /// Makes a call that ends at once, and returns the endpoint.
    fn call(&mut self, outcome: Outcome) -> EndpointId {
        let endpoint = self.pick();
        self.end(endpoint, outcome, 100);
        endpoint
    }

    fn view(&self, id: EndpointId) -> EndpointView {
        self.fleet.view(self.now).into_iter().find(|view| view.id == id).unwrap()
    }

    /// The ids, in the order of the instances of the first update.
    fn ids(&self) -> Vec<EndpointId> {
        let mut ids: Vec<EndpointId> = self.fleet.view(self.now).iter().map(|view| view.id).collect();
        ids.sort();
        ids
    }
}

/// Returns how often each was picked, in the order of `ids`.
fn counts(ids: &[EndpointId], picked: &[EndpointId]) -> Vec<usize> {
    ids.iter().map(|id| picked.iter().filter(|picked| *picked == id).count()).collect()
}
