//! The world: a clock, the events that are due, and everything that they happen to. What an event does is in the files
//! beside this one: [`client`](super::client), [`server`](super::server), [`network`](super::network),
//! [`faults`](super::faults); what must always hold is in [`audit`](super::audit).

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt::Arguments;
use std::time::{Duration, Instant};

use coreloop::policy::fleet::EndpointId;

use super::audit::Audit;
use super::client::{Attempt, Call, ClientSim};
use super::network::{Conn, Link};
use super::scenario::{MS, Ns, SECOND, Scenario};
use super::server::ServerSim;
use crate::rng::Rng;

/// More events than any run needs.
const EVENTS_MAX: u64 = 20_000_000;
/// Everything has ended this long after the last call began.
const LAST_CALLS: Ns = 60 * SECOND;

/// A deliberate fault of the simulated client or server, which the invariants must report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    /// Retries are made whatever the policy says, of idempotent methods.
    RetriesWithoutBudget,
    /// Calls of any method are repeated after a lost connection.
    RepeatsEverything,
    /// Some calls end twice.
    EndsTwice,
    /// The ends of some attempts are not reported to the policy.
    ForgetsEnds,
    /// An empty update removes all endpoints.
    EmptyUpdateEmpties,
    /// The fleet does not know of zones and regions.
    LeavesRegion,
    /// The last endpoint gets no calls.
    StarvesOneEndpoint,
    /// Servers stay slow after the faults.
    StaysSlow,
}

/// What a run has violated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub at: Ns,
    pub invariant: &'static str,
    pub text: String,
}

/// The counts of a run, for statistics and to compare two runs of a seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub events: u64,
    /// A checksum of the events and their times.
    pub order: u64,
    pub calls: u64,
    pub succeeded: u64,
    pub retries: u64,
    pub hedges: u64,
    pub hedges_won: u64,
    pub faults: u64,
    pub breakers_opened: u64,
    pub breakers_closed: u64,
    pub budgets_empty: u64,
    pub spilled_over: u64,
    /// Answers within the deadline, in thousandths of the calls of the windows.
    pub goodput: [u64; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client's next call.
    Arrive(usize),
    /// A call's deadline; its caller gives it up; its hedge is due; its retry is due.
    Deadline(usize),
    GivesUp(usize),
    Hedge(usize),
    Retry(usize),
    /// A dial has come to its end; the pause after a failed one has.
    Dialed(usize, EndpointId),
    Redial(usize, EndpointId),
    /// The next message of a connection arrives at the server, or at the client.
    Up(usize),
    Down(usize),
    /// A handler ends: the server, its process, and the job.
    HandlerEnds(usize, u32, u32),
    /// An update of the instances arrives at a client.
    Resolved(usize, usize),
    FaultBegins(usize),
    FaultEnds(usize),
    /// Every connection to the server of a fault is lost.
    Lose(usize),
    /// A client looks after its connections and health checks.
    Tick(usize),
    /// A health check has had no answer.
    CheckLate(usize, u64),
    Audit,
}

#[derive(Debug)]
struct Due {
    at: Ns,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

pub struct World {
    pub scenario: Scenario,
    pub rng: Rng,
    pub sabotage: Sabotage,
    base: Instant,
    pub now: Ns,
    due: BinaryHeap<Due>,
    next_event: u64,
    is_traced: bool,
    pub clients: Vec<ClientSim>,
    pub servers: Vec<ServerSim>,
    /// By client and server.
    pub links: Vec<Vec<Link>>,
    pub conns: Vec<Conn>,
    pub calls: Vec<Call>,
    pub attempts: Vec<Attempt>,
    /// The updates that resolvers have delivered or will deliver.
    pub updates: Vec<super::faults::Update>,
    pub active: super::faults::ActiveFaults,
    pub audit: Audit,
    pub outcome: Outcome,
    violation: Option<Violation>,
}

/// Prints a line of the trace: the time, the actor, and what happens.
macro_rules! trace {
    ($world:expr, $actor:expr, $($text:tt)*) => {
        if $world.is_traced() {
            $world.print($actor, format_args!($($text)*));
        }
    };
}
pub(super) use trace;

/// Whose event a line of the trace is.
#[derive(Clone, Copy, Debug)]
pub enum Actor {
    World,
    Client(usize),
    Server(usize),
}

impl World {
    pub fn new(seed: u64, sabotage: Sabotage, is_traced: bool) -> World {
        let scenario = Scenario::new(seed);
        let mut rng = Rng::new(!seed);
        let (least, added) = scenario.delay;
        let clients = scenario.clients.len();
        let link = |_| Link::new(least, added);
        World {
            servers: scenario.servers.iter().map(ServerSim::new).collect(),
            links: (0..clients).map(|_| (0..scenario.servers.len()).map(link).collect()).collect(),
            clients: scenario.clients.iter().map(|spec| ClientSim::new(spec, rng.next(), sabotage)).collect(),
            audit: Audit::new(&scenario),
            active: super::faults::ActiveFaults::new(scenario.servers.len()),
            scenario,
            rng,
            sabotage,
            base: Instant::now(),
            now: 0,
            due: BinaryHeap::new(),
            next_event: 0,
            is_traced,
            conns: Vec::new(),
            calls: Vec::new(),
            attempts: Vec::new(),
            updates: Vec::new(),
            outcome: Outcome::default(),
            violation: None,
        }
    }

    /// Runs to the end, or to the first violation.
    pub fn run(mut self) -> Result<Outcome, Violation> {
        trace!(self, Actor::World, "{:?}", self.scenario);
        self.outcome.faults = self.scenario.faults.len() as u64;
        self.schedule_faults();
        for client in 0..self.clients.len() {
            self.at(1 + client as Ns, Event::Arrive(client));
            self.at(MS, Event::Tick(client));
        }
        self.at(SECOND, Event::Audit);
        let end = self.scenario.windows[1].until + LAST_CALLS;
        while let Some(Due { at, number, event }) = self.due.pop() {
            if at > end {
                break;
            }
            debug_assert!(at >= self.now);
            self.now = at;
            let outcome = &mut self.outcome;
            outcome.events += 1;
            outcome.order = outcome.order.wrapping_mul(31).wrapping_add(at ^ (number << 1));
            if outcome.events > EVENTS_MAX {
                self.violate("a run ends", format!("{EVENTS_MAX} events"));
            }
            self.on_event(event);
            if let Some(violation) = self.violation.take() {
                trace!(self, Actor::World, "VIOLATED: {}: {}", violation.invariant, violation.text);
                return Err(violation);
            }
        }
        self.check_end();
        match self.violation.take() {
            Some(violation) => Err(violation),
            None => Ok(self.outcome),
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Arrive(client) => self.on_arrival(client),
            Event::Deadline(call) => self.on_deadline(call),
            Event::GivesUp(call) => self.on_gives_up(call),
            Event::Hedge(call) => self.on_hedge(call),
            Event::Retry(call) => self.on_retry(call),
            Event::Dialed(client, endpoint) => self.on_dialed(client, endpoint),
            Event::Redial(client, endpoint) => self.dial(client, endpoint),
            Event::Up(conn) => self.on_up(conn),
            Event::Down(conn) => self.on_down(conn),
            Event::HandlerEnds(server, process, job) => self.on_handler_ends(server, process, job),
            Event::Resolved(client, update) => self.on_resolved(client, update),
            Event::FaultBegins(fault) => self.on_fault(fault, true),
            Event::FaultEnds(fault) => self.on_fault(fault, false),
            Event::Lose(fault) => self.on_lose(fault),
            Event::Tick(client) => self.on_tick(client),
            Event::CheckLate(client, check) => self.on_check_late(client, check),
            Event::Audit => self.on_audit(),
        }
    }

    pub fn at(&mut self, at: Ns, event: Event) {
        self.next_event += 1;
        self.due.push(Due { at: at.max(self.now), number: self.next_event, event });
    }

    /// The time as the policies take it.
    pub fn instant(&self) -> Instant {
        self.base + Duration::from_nanos(self.now)
    }

    pub fn instant_at(&self, at: Ns) -> Instant {
        self.base + Duration::from_nanos(at)
    }

    pub fn since_start(&self, at: Instant) -> Ns {
        at.saturating_duration_since(self.base).as_nanos() as Ns
    }

    /// Takes note of what must not happen; the first is reported.
    pub fn violate(&mut self, invariant: &'static str, text: String) {
        self.violation.get_or_insert(Violation { at: self.now, invariant, text });
    }

    pub fn is_traced(&self) -> bool {
        self.is_traced
    }

    pub fn print(&self, actor: Actor, text: Arguments<'_>) {
        let seconds = self.now as f64 / SECOND as f64;
        match actor {
            Actor::World => println!("{seconds:>11.6}            {text}"),
            Actor::Client(number) => println!("{seconds:>11.6}  client {number:<3}{text}"),
            Actor::Server(number) => println!("{seconds:>11.6}  server {number:<3}{text}"),
        }
    }
}
