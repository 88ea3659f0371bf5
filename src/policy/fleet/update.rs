//! Taking an update of the instances.

use std::time::Instant;

use super::balance::ring::hash_text;
use super::breaker::Breaker;
use super::endpoint::Endpoint;
use super::health::Health;
use super::load::Load;
use super::slow_start::SlowStart;
use super::zone::is_in_region;
use super::{ENDPOINTS_MAX, EndpointId, Fleet, FleetChange, FleetConfig, FleetEvent, Instance};

/// Returns what identifies an instance from one update to the next.
fn key(instance: &Instance) -> (&str, &str) {
    (&instance.id, &instance.address)
}

/// Returns where an instance is in a list sorted by keys.
fn position(listed: &[(usize, &Instance)], instance: &Instance) -> Option<usize> {
    listed.binary_search_by(|(_, other)| key(other).cmp(&key(instance))).ok()
}

impl FleetConfig {
    /// Returns whether calls may ever use an instance.
    fn permits(&self, instance: &Instance) -> bool {
        let zone = instance.zone.as_deref();
        let is_in_region = self.must_stay_in.as_deref().is_none_or(|region| is_in_region(zone, region));
        is_in_region && (self.spill_over || self.zone.is_none() || self.zone.as_deref() == zone)
    }
}

impl Fleet {
    /// Takes the instances that a resolver has found. An empty list is ignored: the last set stays. An instance whose
    /// address changes is a new endpoint; one whose weight, zone or labels change is the same. An instance that is outside
    /// the region in which calls must stay is no endpoint at all.
    pub fn set_instances(&mut self, now: Instant, instances: &[Instance]) -> FleetChange {
        let now_ns = self.clock.ns(now);
        let mut change = FleetChange::default();
        if instances.is_empty() {
            self.events.push(FleetEvent::EmptyUpdateIgnored);
            return change;
        }
        let listed = self.list(instances);
        self.remove_unlisted(&listed, &mut change);
        let mut is_known = vec![false; instances.len()];
        for (_, endpoint) in self.table.iter_mut() {
            // Those that are not listed are gone.
            if let Some(index) = position(&listed, &endpoint.instance) {
                let (number, instance) = listed[index];
                is_known[number] = true;
                if endpoint.instance != *instance {
                    endpoint.instance = instance.clone();
                    self.selection.set_ring_stale();
                }
            }
        }
        let mut new: Vec<(usize, &Instance)> =
            listed.into_iter().filter(|(number, _)| !is_known[*number]).collect();
        new.sort_unstable_by_key(|(number, _)| *number);
        for (_, instance) in new {
            let id = self.add(now_ns, instance);
            change.added.push((id, instance.clone()));
        }
        self.is_resolved = true;
        if !change.added.is_empty() || !change.removed.is_empty() {
            self.selection.set_ring_stale();
            // Views show which endpoints of the new set are ejected, not which of the old one were.
            self.refresh(now_ns);
        }
        change
    }

    /// Returns the instances that calls may use, each once, with their numbers in the update, sorted by their keys.
    fn list<'a>(&mut self, instances: &'a [Instance]) -> Vec<(usize, &'a Instance)> {
        let permitted = instances.iter().enumerate().filter(|(_, instance)| self.config.permits(instance));
        let mut listed: Vec<(usize, &Instance)> = permitted.collect();
        self.stats.outside_region = (instances.len() - listed.len()) as u32;
        listed.sort_by(|(_, a), (_, b)| key(a).cmp(&key(b)));
        listed.dedup_by(|(_, a), (_, b)| key(a) == key(b));
        if listed.len() > ENDPOINTS_MAX {
            self.events.push(FleetEvent::TooManyInstances(listed.len() - ENDPOINTS_MAX));
            listed.truncate(ENDPOINTS_MAX);
        }
        listed
    }

    fn remove_unlisted(&mut self, listed: &[(usize, &Instance)], change: &mut FleetChange) {
        let is_gone = |endpoint: &Endpoint| position(listed, &endpoint.instance).is_none();
        let gone: Vec<u16> =
            self.table.iter().filter(|(_, endpoint)| is_gone(endpoint)).map(|(slot, _)| slot).collect();
        for slot in gone {
            if let Some(endpoint) = self.table.remove(slot) {
                change.removed.push(endpoint.id);
                self.events.push(FleetEvent::Gone(endpoint.instance.id));
            }
        }
    }

    fn add(&mut self, now_ns: u64, instance: &Instance) -> EndpointId {
        let slow_start = if self.is_resolved {
            SlowStart::begin(now_ns, self.config.slow_start_ms)
        } else {
            SlowStart::default()
        };
        let seed = self.random.next_u64();
        self.events.push(FleetEvent::Appeared(instance.id.clone()));
        self.table.insert(|id| Endpoint {
            id,
            hash: hash_text(&instance.id),
            instance: instance.clone(),
            is_connected: false,
            is_down: false,
            cold_try_ns: 0,
            paused_until_ns: 0,
            in_flight: 0,
            ended: [0; 4],
            load: Load::new(),
            breaker: Breaker::new(seed),
            health: Health::new(),
            slow_start,
            is_ejected: false,
            is_listed: false,
            tier: 0,
            turn_wait: None,
        })
    }
}
