//! What a seed decides before its run: the servers, the clients, the methods, the network, and which faults happen when.

use coreloop::policy::fleet::{Balance, FleetConfig};

use crate::rng::Rng;

/// Nanoseconds, or nanoseconds since the run began.
pub type Ns = u64;

pub const MS: Ns = 1_000_000;
pub const SECOND: Ns = 1_000 * MS;

/// Faults begin this long after the start.
const WARM_UP: Ns = 3 * SECOND;
/// From the end of the faults to the first window in which goodput is measured, and the length of the windows.
const RECOVERY: Ns = 5 * SECOND;
const WINDOW: Ns = 8 * SECOND;
/// From the end of the faults until every breaker is closed.
const BREAKERS_CLOSED: Ns = 75 * SECOND;
/// The share of the fleet's capacity that is offered between the windows: enough calls for every probe.
const QUIET_LOAD: f64 = 0.08;
/// The load of the half of the servers that is left when the other half is ejected, if it has few workers: by chance the
/// load of some seconds is far more than the mean then.
const FEW_WORKERS: u32 = 5;
const FEW_WORKERS_LOAD: f64 = 0.6;
/// The load when everything has recovered, in hundredths of the capacity. Less if the balancing does not look at load: at
/// 80 % of all, some of the servers have more than they can do for seconds.
const FULL_LOAD: u32 = 80;
const FULL_LOAD_WEIGHTED: u32 = 65;
const FULL_LOAD_BY_KEY: u32 = 45;
/// The share of its load that a server with further limits takes: they refuse calls that it has the workers for.
const LIMITED_LOAD: f64 = 0.6;

pub const METHODS: [MethodSpec; 4] = [
    MethodSpec { name: "Quick", mean: 6 * MS, is_idempotent: true, share: 40, deadline: 800 * MS },
    MethodSpec { name: "Slow", mean: 60 * MS, is_idempotent: true, share: 20, deadline: 2_500 * MS },
    MethodSpec { name: "QuickOnce", mean: 6 * MS, is_idempotent: false, share: 25, deadline: 800 * MS },
    MethodSpec { name: "SlowOnce", mean: 60 * MS, is_idempotent: false, share: 15, deadline: 2_500 * MS },
];

/// A method: its handler's mean time, how many of a hundred calls are of it, and the time that callers wait.
#[derive(Clone, Copy, Debug)]
pub struct MethodSpec {
    pub name: &'static str,
    pub mean: Ns,
    pub is_idempotent: bool,
    pub share: u32,
    pub deadline: Ns,
}

/// The mean time of a handler over all methods.
fn handler_mean() -> f64 {
    METHODS.iter().map(|method| method.mean as f64 * f64::from(method.share)).sum::<f64>() / 100.0
}

#[derive(Clone, Debug)]
pub struct ServerSpec {
    pub zone: Option<&'static str>,
    pub workers: u32,
    pub queue_max: usize,
    pub queue_target_ms: Option<u64>,
    pub is_adaptive: bool,
    /// The most calls in progress of the slow methods.
    pub slow_max: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct ClientSpec {
    pub config: FleetConfig,
    /// Calls per second at full load.
    pub rate: f64,
    /// Calls have keys.
    pub has_keys: bool,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The process is stopped and continued; its connections stay.
    Pause(usize),
    /// The process ends, and another one begins.
    Crash(usize),
    /// All processes end.
    CrashAll,
    /// A new process with another address replaces the old one.
    Replace(usize),
    /// Handlers take ten times as long.
    Slow(usize),
    /// Handlers fail with `internal` after 50 µs.
    FailFast(usize),
    /// Every call is refused with `resource_exhausted`.
    Refuse(usize),
    /// A share of the handlers fails: one in this many.
    Flaky(usize, usize),
    /// The connections between a client and a server are lost, once.
    Drop(usize, usize),
    /// Every connection to a server is lost each 300 ms.
    Lossy(usize),
    /// Nothing passes from clients to a server, from it to them, or both. `None`: all clients.
    Partition {
        client: Option<usize>,
        server: usize,
        up: bool,
        down: bool,
    },
    /// Messages are delayed by this many milliseconds more.
    Delay {
        server: usize,
        ms: u64,
    },
    /// A server is taken from the registry, and added again.
    Deregister(usize),
    /// Resolvers find nothing, fail, or find only the first instance.
    ResolveEmpty,
    ResolveFails,
    ResolveStale,
    /// This many hundredths of the fleet's capacity are offered.
    Load(u32),
    /// Callers give up a third of their calls.
    Cancels,
    /// Callers wait only 20 ms for one call in twenty.
    Impatient,
}

#[derive(Clone, Copy, Debug)]
pub struct FaultSpec {
    pub at: Ns,
    pub until: Ns,
    pub kind: FaultKind,
}

/// When goodput is measured: the calls that begin in the window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from: Ns,
    pub until: Ns,
    pub load: f64,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub servers: Vec<ServerSpec>,
    pub clients: Vec<ClientSpec>,
    pub faults: Vec<FaultSpec>,
    pub faults_end: Ns,
    /// The load while faults happen.
    pub fault_load: f64,
    pub windows: [Window; 2],
    /// The delay of a message: the least, and the mean of what is added.
    pub delay: (Ns, Ns),
    /// Calls come in bursts until the faults have ended.
    pub is_bursty: bool,
    /// The longest time from a change of the registry to a resolver's update.
    pub resolver_delay: Ns,
}

impl Scenario {
    pub fn new(seed: u64) -> Scenario {
        let mut rng = Rng::new(seed);
        let rng = &mut rng;
        let zones: &[&'static str] =
            [&[][..], &[], &["eu-a", "eu-b"], &["eu-a", "eu-b", "us-a"]][rng.below(4)];
        // A zone has at least two servers.
        let per_zone = 2 + rng.below(3);
        let count = if zones.is_empty() { 3 + rng.below(5) } else { zones.len() * per_zone };
        // With few workers in all, chance alone would make the load of some seconds far more than the mean.
        let sharers = if zones.is_empty() { count } else { per_zone };
        let workers_min = if sharers > 3 { 1 } else { 2 };
        let workers = workers_min + rng.below(2) as u32;
        let are_equal = rng.below(10) < 7;
        let is_limited = rng.one_in(3);
        let servers: Vec<ServerSpec> = (0..count)
            .map(|index| ServerSpec {
                zone: (!zones.is_empty()).then(|| zones[index % zones.len()]),
                workers: if are_equal { workers } else { workers_min + rng.below(2) as u32 },
                queue_max: if is_limited { [16, 64, 256][rng.below(3)] } else { 16_384 },
                queue_target_ms: (is_limited && rng.one_in(3)).then_some(100),
                is_adaptive: is_limited && rng.one_in(4),
                slow_max: (is_limited && rng.one_in(4)).then(|| 8 + rng.below(30) as u32),
            })
            .collect();
        let clients = clients(rng, &servers, zones);
        let full = match clients[0].config.balance {
            Balance::Weighted | Balance::RoundRobin => FULL_LOAD_WEIGHTED,
            Balance::ConsistentHash => FULL_LOAD_BY_KEY,
            _ => FULL_LOAD,
        };
        let limited = if is_limited { LIMITED_LOAD } else { 1.0 };
        let half = half_load(&servers, zones, f64::from(full) / 100.0);
        let faults = faults(rng, servers.len(), clients.len());
        let faults_end = faults.iter().map(|fault| fault.until).max().unwrap_or(WARM_UP);
        let first = faults_end + RECOVERY;
        let second = faults_end + BREAKERS_CLOSED;
        Scenario {
            fault_load: [0.15, 0.3, 0.5, 0.7][rng.below(4)],
            windows: [
                Window { from: first, until: first + WINDOW, load: half * limited },
                Window { from: second, until: second + WINDOW, load: f64::from(full) / 100.0 * limited },
            ],
            delay: ([50_000, 500_000, 5 * MS][rng.below(3)], [10_000, 100_000, 2 * MS][rng.below(3)]),
            is_bursty: rng.one_in(3),
            resolver_delay: [10 * MS, 500 * MS, 2 * SECOND][rng.below(3)],
            servers,
            clients,
            faults,
            faults_end,
        }
    }

    /// The share of the fleet's capacity that is offered at a time, without the faults that change it.
    pub fn load(&self, now: Ns) -> f64 {
        let [first, second] = self.windows;
        match now {
            _ if now < self.faults_end => self.fault_load,
            _ if now < first.until => first.load,
            _ if now < second.from => QUIET_LOAD,
            _ if now < second.until => second.load,
            _ => 0.0,
        }
    }
}

/// Calls per second that servers can answer.
fn capacity<'a>(servers: impl Iterator<Item = &'a ServerSpec>) -> f64 {
    servers.map(|server| f64::from(server.workers)).sum::<f64>() * SECOND as f64 / handler_mean()
}

/// Two fifths of the capacity, or less if the half of the servers that is not ejected has less than a half of it.
fn half_load(servers: &[ServerSpec], zones: &[&'static str], full: f64) -> f64 {
    let share_of = |zone: Option<&'static str>| {
        let mut workers: Vec<u32> =
            servers.iter().filter(|server| server.zone == zone).map(|server| server.workers).collect();
        workers.sort_unstable();
        let all: u32 = workers.iter().sum();
        let half: u32 = workers[..workers.len().div_ceil(2)].iter().sum();
        let load = if half < FEW_WORKERS { full.min(FEW_WORKERS_LOAD) } else { full };
        load * f64::from(half) / f64::from(all)
    };
    let least = if zones.is_empty() {
        share_of(None)
    } else {
        zones.iter().map(|zone| share_of(Some(zone))).fold(1.0, f64::min)
    };
    least.min(0.4)
}

fn clients(rng: &mut Rng, servers: &[ServerSpec], zones: &[&'static str]) -> Vec<ClientSpec> {
    let count = 1 + rng.below(4);
    let count = count.max(zones.len());
    let is_resident = rng.one_in(2);
    let is_hedged = rng.one_in(3);
    let others = [Balance::RoundRobin, Balance::Weighted, Balance::LeastLoaded, Balance::ConsistentHash];
    let balance = if rng.one_in(2) { Balance::P2c } else { others[rng.below(4)] };
    (0..count)
        .map(|index| {
            let mut config = FleetConfig::default();
            config.balance = balance;
            config.hedge.is_on = is_hedged;
            let (near, sharers) = if zones.is_empty() {
                (capacity(servers.iter()), count)
            } else {
                let zone = zones[index % zones.len()];
                config.zone = Some(zone.to_owned());
                config.must_stay_in = is_resident.then(|| zone[..2].to_owned());
                let near = servers.iter().filter(|server| server.zone == Some(zone));
                (
                    capacity(near),
                    (0..count).filter(|other| other % zones.len() == index % zones.len()).count(),
                )
            };
            ClientSpec { config, rate: near / sharers as f64, has_keys: balance == Balance::ConsistentHash }
        })
        .collect()
}

fn faults(rng: &mut Rng, servers: usize, clients: usize) -> Vec<FaultSpec> {
    let span = 4 + rng.below(18) as u64;
    (0..rng.below(9))
        .map(|_| {
            let server = rng.below(servers);
            let client = rng.below(clients);
            let one = rng.one_in(2).then_some(client);
            let kind = match rng.below(22) {
                0 | 1 => FaultKind::Pause(server),
                2 | 3 => FaultKind::Crash(server),
                4 => FaultKind::CrashAll,
                5 => FaultKind::Replace(server),
                6 | 7 => FaultKind::Slow(server),
                8 | 9 => FaultKind::FailFast(server),
                10 => FaultKind::Refuse(server),
                11 => FaultKind::Flaky(server, [3, 10, 100][rng.below(3)]),
                12 => FaultKind::Drop(client, server),
                13 => FaultKind::Lossy(server),
                14 | 15 => {
                    let (up, down) = [(true, false), (false, true), (true, true)][rng.below(3)];
                    FaultKind::Partition { client: one, server, up, down }
                }
                16 => FaultKind::Delay { server, ms: rng.between(5, 300) },
                17 => FaultKind::Deregister(server),
                18 => [FaultKind::ResolveEmpty, FaultKind::ResolveFails][rng.below(2)],
                19 => FaultKind::ResolveStale,
                20 => FaultKind::Load([90, 150, 300][rng.below(3)]),
                _ => [FaultKind::Cancels, FaultKind::Impatient][rng.below(2)],
            };
            let at = WARM_UP + rng.between(0, span * SECOND);
            let until = at + rng.between(50, 1_000 * (span / 2).max(1)) * MS;
            FaultSpec { at, until, kind }
        })
        .collect()
}
