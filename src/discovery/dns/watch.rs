//! The watch of a name: looks it up again when its records have expired, and passes on what has changed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::target::DnsTarget;
use crate::agent::dns::{
    ADDRESSES, DnsAnswer, LookupEnd, LookupStart, NameConfig, NameLookup, SERVICES, ServiceRecord, usable,
};
use crate::agent::{Agent, AgentCx, LinkId};
use crate::discovery::changes::Changes;
use crate::discovery::{Instance, Updates};
use crate::policy::backoff::Backoff;

/// The bounds of the time for which records are used, in seconds. Records that are valid for less would be asked for all
/// the time; with much longer ones a changed name would be noticed too late.
const TTL_S: (u32, u32) = (1, 300);
/// The same for the answer that there are none: a name that appears is to be found soon.
const ABSENT_TTL_S: (u32, u32) = (1, 30);
/// The time for that if no server says one.
const ABSENT_TTL_DEFAULT_S: u32 = 5;
/// Part of the time that is added at random, so that clients do not ask all at once: a tenth.
const JITTER_DIVISOR: u64 = 10;
/// The delays after failures, with full jitter, and the least one.
const BACKOFF: Backoff = Backoff { base_ms: 1_000, max_ms: 30_000 };
const DELAY_MIN: Duration = Duration::from_millis(100);
/// The most instances; further ones are left out.
const INSTANCES_MAX: usize = 4096;
/// The hosts of services that are looked up at a time.
const HOSTS_AT_A_TIME: usize = 16;

/// The watch of one name.
pub(super) struct DnsWatch {
    target: DnsTarget,
    config: Arc<NameConfig>,
    updates: Changes,
    /// Returns whether the system has a route to an address.
    has_route: fn(IpAddr) -> bool,
    stage: WatchStage,
    /// Instances were passed on.
    has_found: bool,
    /// Failures in a row.
    failures: u32,
}

enum WatchStage {
    /// Until the records have expired.
    Waiting(Instant),
    /// The name is being looked up.
    Name(NameLookup),
    /// The hosts of the services are being looked up.
    Hosts(HostLookups),
}

/// The lookups of the hosts of services.
struct HostLookups {
    services: Vec<ServiceRecord>,
    ttl: Option<u32>,
    found: BTreeMap<String, Vec<IpAddr>>,
    waiting: Vec<String>,
    running: Vec<(String, NameLookup)>,
    /// Why a host could not be looked up.
    missing: Option<String>,
}

impl DnsWatch {
    pub(super) fn new(
        target: DnsTarget,
        config: NameConfig,
        updates: Updates,
        has_route: fn(IpAddr) -> bool,
        now: Instant,
    ) -> DnsWatch {
        DnsWatch {
            target,
            config: Arc::new(config),
            updates: Changes::new(updates),
            has_route,
            stage: WatchStage::Waiting(now),
            has_found: false,
            failures: 0,
        }
    }

    fn look_up(&mut self, cx: &mut AgentCx<'_>) {
        let kinds = if self.target.port.is_some() { ADDRESSES } else { SERVICES };
        match NameLookup::begin(&self.target.name, kinds, self.config.clone(), cx) {
            LookupStart::Running(lookup) => self.stage = WatchStage::Name(lookup),
            LookupStart::Ended(end) => self.on_name_end(end, cx),
        }
    }

    fn on_name_end(&mut self, end: LookupEnd, cx: &mut AgentCx<'_>) {
        match end {
            LookupEnd::Found { answer, missing } => match self.target.port {
                Some(port) => {
                    let addresses = usable(answer.addresses, self.has_route);
                    let instances = addresses.into_iter().map(|ip| self.instance(ip, port)).collect();
                    self.on_found(instances, missing, answer.ttl, cx);
                }
                None => self.look_up_hosts(answer, cx),
            },
            LookupEnd::Absent(ttl) => {
                let records = if self.target.port.is_some() { "address" } else { "SRV record" };
                self.fail(format!("{} has no {records}", self.target.name));
                self.wait(ttl.unwrap_or(ABSENT_TTL_DEFAULT_S).clamp(ABSENT_TTL_S.0, ABSENT_TTL_S.1), cx);
            }
            LookupEnd::Failed(why) => self.on_failed(why, cx),
        }
    }

    fn look_up_hosts(&mut self, answer: DnsAnswer, cx: &mut AgentCx<'_>) {
        let DnsAnswer { mut services, added, ttl, .. } = answer;
        // A service at the root is decidedly not available (RFC 2782).
        services.retain(|service| !service.host.is_empty());
        services.sort_unstable();
        services.dedup();
        services.truncate(INSTANCES_MAX);
        let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (host, ip) in added {
            found.entry(host).or_default().push(ip);
        }
        let mut waiting: Vec<String> = services.iter().map(|service| service.host.clone()).collect();
        waiting.sort_unstable();
        waiting.dedup();
        waiting.retain(|host| !found.contains_key(host));
        let running = Vec::new();
        self.stage = WatchStage::Hosts(HostLookups { services, ttl, found, waiting, running, missing: None });
        self.go_on_with_hosts(cx);
    }

    /// Looks up further hosts, or ends when all are known.
    fn go_on_with_hosts(&mut self, cx: &mut AgentCx<'_>) {
        let WatchStage::Hosts(hosts) = &mut self.stage else { return };
        while hosts.running.len() < HOSTS_AT_A_TIME
            && let Some(host) = hosts.waiting.pop()
        {
            // A full name: the search list does not apply to it.
            match NameLookup::begin(&format!("{host}."), ADDRESSES, self.config.clone(), cx) {
                LookupStart::Running(lookup) => hosts.running.push((host, lookup)),
                LookupStart::Ended(end) => hosts.on_host_end(host, end),
            }
        }
        if !hosts.running.is_empty() {
            return;
        }
        let WatchStage::Hosts(hosts) = std::mem::replace(&mut self.stage, WatchStage::Waiting(cx.now)) else {
            return;
        };
        let first = hosts.services.iter().map(|service| service.priority).min();
        let mut instances = Vec::new();
        for service in &hosts.services {
            let addresses = hosts.found.get(&service.host).cloned().unwrap_or_default();
            for ip in usable(addresses, self.has_route) {
                // Those of a later priority are used while none of the first can be.
                let weight =
                    if Some(service.priority) == first { u32::from(service.weight).max(1) } else { 0 };
                let instance = self.instance(ip, service.port).weight(weight);
                instances.push(instance.label("host", &service.host));
            }
        }
        if instances.is_empty() && hosts.missing.is_none() {
            self.fail(format!("no host of the services of {} has an address", self.target.name));
            return self
                .wait(hosts.ttl.unwrap_or(ABSENT_TTL_DEFAULT_S).clamp(ABSENT_TTL_S.0, ABSENT_TTL_S.1), cx);
        }
        self.on_found(instances, hosts.missing, hosts.ttl, cx);
    }

    /// Passes on the instances, unless some are missing and there are earlier ones.
    fn on_found(
        &mut self,
        mut instances: Vec<Instance>,
        missing: Option<String>,
        ttl: Option<u32>,
        cx: &mut AgentCx<'_>,
    ) {
        if let Some(why) = missing
            && (self.has_found || instances.is_empty())
        {
            return self.on_failed(why, cx);
        }
        instances.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        instances.dedup_by(|one, other| one.id == other.id);
        instances.truncate(INSTANCES_MAX);
        self.failures = 0;
        self.has_found = true;
        self.updates.set(instances);
        self.wait(ttl.unwrap_or(TTL_S.1).clamp(TTL_S.0, TTL_S.1), cx);
    }

    fn on_failed(&mut self, why: String, cx: &mut AgentCx<'_>) {
        self.fail(why);
        let delay = BACKOFF.delay(self.failures, cx.random.next_u64()).max(DELAY_MIN);
        self.stage = WatchStage::Waiting(cx.now + delay);
    }

    fn fail(&mut self, why: String) {
        self.failures = self.failures.saturating_add(1);
        self.updates.failed(why);
    }

    /// Waits for the seconds and up to a tenth more.
    fn wait(&mut self, seconds: u32, cx: &mut AgentCx<'_>) {
        let ms = u64::from(seconds) * 1000;
        let jitter = cx.random.next_u64() % (ms / JITTER_DIVISOR).max(1);
        self.stage = WatchStage::Waiting(cx.now + Duration::from_millis(ms + jitter));
    }

    fn instance(&self, ip: IpAddr, port: u16) -> Instance {
        let address = SocketAddr::new(ip, port);
        match &self.target.scheme {
            Some(scheme) => Instance::new(format!("{scheme}:{address}")),
            None => Instance::new(address.to_string()),
        }
    }
}

impl HostLookups {
    fn on_host_end(&mut self, host: String, end: LookupEnd) {
        let ttl = match end {
            LookupEnd::Found { answer, missing } => {
                self.found.insert(host, answer.addresses);
                self.missing = self.missing.take().or(missing);
                answer.ttl
            }
            LookupEnd::Absent(ttl) => ttl,
            LookupEnd::Failed(why) => {
                self.missing = Some(why);
                None
            }
        };
        self.ttl = [self.ttl, ttl].into_iter().flatten().min();
    }

    /// Passes an event to the lookups that it concerns, and takes their ends.
    fn each(&mut self, mut handle: impl FnMut(&mut NameLookup) -> Option<LookupEnd>) {
        let mut at = 0;
        while at < self.running.len() {
            match handle(&mut self.running[at].1) {
                None => at += 1,
                Some(end) => {
                    let (host, _) = self.running.swap_remove(at);
                    self.on_host_end(host, end);
                }
            }
        }
    }
}

impl Agent for DnsWatch {
    fn begin(&mut self, cx: &mut AgentCx<'_>) {
        self.look_up(cx);
    }

    fn on_bytes(&mut self, link: LinkId, bytes: &[u8], cx: &mut AgentCx<'_>) {
        match &mut self.stage {
            WatchStage::Waiting(_) => {}
            WatchStage::Name(lookup) => {
                if let Some(end) = lookup.on_bytes(link, bytes, cx) {
                    self.on_name_end(end, cx);
                }
            }
            WatchStage::Hosts(hosts) => {
                hosts.each(|lookup| lookup.has(link).then(|| lookup.on_bytes(link, bytes, cx)).flatten());
                self.go_on_with_hosts(cx);
            }
        }
    }

    fn on_closed(&mut self, link: LinkId, why: &str, cx: &mut AgentCx<'_>) {
        match &mut self.stage {
            WatchStage::Waiting(_) => {}
            WatchStage::Name(lookup) => {
                if let Some(end) = lookup.on_closed(link, why, cx) {
                    self.on_name_end(end, cx);
                }
            }
            WatchStage::Hosts(hosts) => {
                hosts.each(|lookup| lookup.has(link).then(|| lookup.on_closed(link, why, cx)).flatten());
                self.go_on_with_hosts(cx);
            }
        }
    }

    fn next_at(&self) -> Option<Instant> {
        match &self.stage {
            WatchStage::Waiting(at) => Some(*at),
            WatchStage::Name(lookup) => lookup.next_at(),
            WatchStage::Hosts(hosts) => hosts.running.iter().filter_map(|(_, one)| one.next_at()).min(),
        }
    }

    fn on_time(&mut self, cx: &mut AgentCx<'_>) {
        match &mut self.stage {
            WatchStage::Waiting(at) if *at <= cx.now => self.look_up(cx),
            WatchStage::Waiting(_) => {}
            WatchStage::Name(lookup) => {
                if let Some(end) = lookup.on_time(cx) {
                    self.on_name_end(end, cx);
                }
            }
            WatchStage::Hosts(hosts) => {
                hosts.each(|lookup| lookup.on_time(cx));
                self.go_on_with_hosts(cx);
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/watch.rs"]
mod tests;
