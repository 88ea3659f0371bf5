//! The app that runs agents on a reactor: their sockets, timers and names.
//!
//! Agents decide (`agent/mod.rs`), this file acts. What an agent wants is carried out at once where connections can be
//! opened, and otherwise in a turn that follows at once. A name is looked up by an agent of its own (`dns/host.rs`), and
//! the reactor connects (`reactor/dials.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coreloop_poller::Key;

use super::dns::{ConfigReader, ConfigState, HostAgent, NameConfig};
use super::links::{LinkProtocol, OutgoingBytes, ReceivedBytes};
use super::{Agent, AgentAction, AgentCx, AgentId, LinkId, LinkTarget};
use crate::config::Limits;
use crate::context::Peer;
use crate::random::Random;
use crate::reactor::{
    App, CloseReason, ClosedConn, ConnCx, Conns, DialId, DialRequest, Reactor, ReactorConfig, Remote,
    RoleHandle, Transport,
};
use crate::transport::{Address, Datagrams, DialTarget, TlsDial};

/// The most connections of one app, the ones that wait for their names included.
const LINKS_MAX: usize = 8192;
/// What a server is offered over TLS (ALPN): the agents with TLS are clients of HTTP.
const ALPN: &[&[u8]] = &[b"http/1.1"];
/// The most bytes that may wait to be written to one connection, or to be sent when its name is resolved: more than any
/// request has. Beyond that it is closed.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// The time without progress of a write after which a connection is closed.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// Ten years, in effect forever; adding it to any time does not overflow. Agents have their own time-outs.
const FOR_EVER_MS: u64 = 1_000 * 86_400 * 3_650;

/// A message to the app.
pub(crate) enum AgentCommand {
    /// Runs an agent.
    Run(AgentId, Box<dyn Agent>),
    /// Ends an agent; calls the function then.
    End(AgentId, Option<Box<dyn FnOnce() + Send>>),
    /// The addresses of the name that a connection leads to.
    Resolved(LinkId, Result<Vec<SocketAddr>, String>),
    /// The system's configuration of names was read.
    NameConfig(Arc<NameConfig>),
}

/// Returns the id of a new agent.
pub(super) fn next_agent() -> AgentId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    AgentId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Adds an app to a reactor.
pub(super) fn add_to(roles: &RoleHandle) -> io::Result<Remote<AgentCommand>> {
    roles.add(config(), AgentApp::new)
}

/// Creates a reactor that runs agents only.
pub(super) fn reactor() -> io::Result<Reactor<AgentApp>> {
    Reactor::with_app(config(), AgentApp::new)
}

fn config() -> ReactorConfig {
    let limits = Limits {
        first_bytes_ms: FOR_EVER_MS,
        idle_ms: FOR_EVER_MS,
        frame_ms: FOR_EVER_MS,
        write_stall_ms: WRITE_STALL.as_millis() as u64,
        write_queue_high_bytes: usize::MAX >> 1,
        write_queue_low_bytes: usize::MAX >> 2,
        connections_max: LINKS_MAX,
        ..Limits::default()
    };
    ReactorConfig { limits, ..ReactorConfig::default() }
}

/// The app.
pub(crate) struct AgentApp {
    remote: Remote<AgentCommand>,
    agents: BTreeMap<AgentId, RunningAgent>,
    links: BTreeMap<LinkId, Link>,
    /// What agents want, until connections can be opened.
    actions: VecDeque<(AgentId, AgentAction)>,
    name_config: ConfigReader,
    random: Random,
    next_link: u64,
    /// A time that has passed: the next turn is to follow at once.
    begun: Instant,
}

/// An agent and its end.
struct RunningAgent {
    agent: Box<dyn Agent>,
    is_ending: bool,
    done: Vec<Box<dyn FnOnce() + Send>>,
}

/// A connection of an agent.
struct Link {
    agent: AgentId,
    state: LinkState,
}

enum LinkState {
    /// It has no socket yet; what is to be sent waits.
    Connecting {
        attempt: u32,
        until: Instant,
        tls: Option<TlsDial>,
        /// The agent that looks up the name.
        lookup: Option<AgentId>,
        waiting: Vec<u8>,
    },
    /// It has a socket.
    Open(Key),
}

impl AgentApp {
    fn new(remote: Remote<AgentCommand>) -> AgentApp {
        let now = Instant::now();
        AgentApp {
            remote,
            agents: BTreeMap::new(),
            links: BTreeMap::new(),
            actions: VecDeque::new(),
            name_config: ConfigReader::default(),
            random: Random::new(RandomState::new().hash_one(now)),
            next_link: 1,
            begun: now,
        }
    }

    /// Lets an agent handle an event; what it wants is queued.
    fn with(&mut self, id: AgentId, now: Instant, handle: impl FnOnce(&mut dyn Agent, &mut AgentCx<'_>)) {
        let Some(running) = self.agents.get_mut(&id) else { return };
        let mut actions = Vec::new();
        let AgentApp { random, next_link, .. } = self;
        handle(&mut *running.agent, &mut AgentCx { now, random, next_link, actions: &mut actions });
        self.actions.extend(actions.into_iter().map(|action| (id, action)));
    }

    /// Carries out what agents want, and what they want because of that.
    fn act(&mut self, conns: &mut Conns<'_, AgentApp>) {
        while let Some((agent, action)) = self.actions.pop_front() {
            if !self.agents.contains_key(&agent) {
                continue;
            }
            match action {
                AgentAction::Connect(link, target) => self.connect(agent, link, target, conns),
                AgentAction::Send(link, bytes) => self.send(link, &bytes, conns),
                AgentAction::Close(link) => self.close(link, conns),
                AgentAction::ReadNameConfig => self.read_name_config(agent, conns.now()),
                AgentAction::End => self.end(agent, conns),
            }
        }
    }

    fn run(&mut self, id: AgentId, agent: Box<dyn Agent>, now: Instant) {
        self.agents.insert(id, RunningAgent { agent, is_ending: false, done: Vec::new() });
        self.with(id, now, |agent, cx| agent.begin(cx));
    }

    fn read_name_config(&mut self, agent: AgentId, now: Instant) {
        let remote = self.remote.clone();
        let pass = move |config| drop(remote.mail(AgentCommand::NameConfig(config)));
        let config = match self.name_config.get(agent, now, pass) {
            ConfigState::Known(config) => Ok(config),
            ConfigState::Failed(why) => Err(why),
            ConfigState::Reading => return,
        };
        self.with(agent, now, |agent, cx| agent.on_name_config(config, cx));
    }

    /// Tells the agent that a connection has failed that has no socket.
    fn fail(&mut self, agent: AgentId, link: LinkId, why: &str, conns: &Conns<'_, AgentApp>) {
        self.links.remove(&link);
        self.with(agent, conns.now(), |agent, cx| agent.on_closed(link, why, cx));
    }

    fn connect(&mut self, agent: AgentId, link: LinkId, target: LinkTarget, conns: &mut Conns<'_, AgentApp>) {
        if self.links.len() >= LINKS_MAX {
            let why = format!("the agents of the reactor have {LINKS_MAX} connections");
            return self.fail(agent, link, &why, conns);
        }
        match target {
            LinkTarget::Udp(address) => {
                let socket = Datagrams::connect(address).map(|socket| Transport::Udp(Box::new(socket)));
                let adopted = socket.and_then(|socket| {
                    conns.adopt(socket, Peer::Tcp(address), LinkProtocol::datagrams(), (agent, link))
                });
                match adopted {
                    Ok(key) => drop(self.links.insert(link, Link { agent, state: LinkState::Open(key) })),
                    Err(error) => self.fail(agent, link, &cannot_connect(&error), conns),
                }
            }
            LinkTarget::Tcp { address, attempt, until, tls } => {
                let parsed = Address::Tcp(address.clone());
                let known = DialTarget::of(&parsed);
                let tls = tls.map(|client| TlsDial::new(&client, &parsed, ALPN));
                let lookup = match &known {
                    Some(_) => None,
                    None => match self.look_up(link, &address, until, conns.now()) {
                        Ok(lookup) => Some(lookup),
                        Err(why) => return self.fail(agent, link, &why, conns),
                    },
                };
                let state = LinkState::Connecting { attempt, until, tls, lookup, waiting: Vec::new() };
                self.links.insert(link, Link { agent, state });
                if let Some(target) = known {
                    self.dial(link, target, conns);
                }
            }
        }
    }

    /// Looks up the address of a connection. The result is sent as [`AgentCommand::Resolved`].
    fn look_up(
        &mut self,
        link: LinkId,
        address: &str,
        until: Instant,
        now: Instant,
    ) -> Result<AgentId, String> {
        let remote = self.remote.clone();
        let found = Box::new(move |found| drop(remote.mail(AgentCommand::Resolved(link, found))));
        let lookup = HostAgent::new(address, until, found)?;
        let id = next_agent();
        self.run(id, Box::new(lookup), now);
        Ok(id)
    }

    /// Begins to connect to the addresses. The end is passed to [`App::on_dialed`].
    fn dial(&mut self, link: LinkId, mut target: DialTarget, conns: &mut Conns<'_, AgentApp>) {
        let Some(Link { agent, state: LinkState::Connecting { attempt, until, tls, .. } }) =
            self.links.get(&link)
        else {
            return;
        };
        if let DialTarget::Tcp(addresses) = &mut target {
            let first = *attempt as usize % addresses.len().max(1);
            addresses.rotate_left(first);
        }
        let id = DialId { owner: link.0, attempt: 0 };
        let request = DialRequest {
            id,
            target,
            tls: tls.clone(),
            opening: None,
            until: *until,
            late: "no connection in time",
        };
        if let Err(error) = conns.dial(request) {
            let (agent, why) = (*agent, cannot_connect(&error));
            self.fail(agent, link, &why, conns);
        }
    }

    fn send(&mut self, link: LinkId, bytes: &[u8], conns: &mut Conns<'_, AgentApp>) {
        let is_over = match self.links.get_mut(&link) {
            None => return,
            Some(Link { state: LinkState::Connecting { waiting, .. }, .. }) => {
                waiting.extend_from_slice(bytes);
                waiting.len() > WAITING_BYTES_MAX
            }
            Some(Link { state: LinkState::Open(key), .. }) => conns
                .with(*key, |cx| {
                    cx.send(OutgoingBytes(bytes));
                    cx.out_len() > WAITING_BYTES_MAX
                })
                .unwrap_or(false),
        };
        if is_over {
            let Some(Link { agent, .. }) = self.links.get(&link) else { return };
            let agent = *agent;
            self.close(link, conns);
            let why = format!("over {WAITING_BYTES_MAX} bytes wait to be sent");
            self.with(agent, conns.now(), |agent, cx| agent.on_closed(link, &why, cx));
        }
    }

    fn close(&mut self, link: LinkId, conns: &mut Conns<'_, AgentApp>) {
        match self.links.remove(&link).map(|link| link.state) {
            Some(LinkState::Open(key)) => {
                conns.with(key, |cx| cx.abort(io::ErrorKind::ConnectionAborted));
            }
            // A dial goes on until it ends, and finds no link then.
            Some(LinkState::Connecting { lookup, .. }) => {
                lookup.into_iter().for_each(|lookup| self.end(lookup, conns));
            }
            None => {}
        }
    }

    fn end(&mut self, agent: AgentId, conns: &mut Conns<'_, AgentApp>) {
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.agent == agent).map(|(link, _)| *link).collect();
        links.into_iter().for_each(|link| self.close(link, conns));
        if let Some(running) = self.agents.remove(&agent) {
            running.done.into_iter().for_each(|done| done());
        }
    }

    fn on_resolved(
        &mut self,
        link: LinkId,
        found: Result<Vec<SocketAddr>, String>,
        conns: &mut Conns<'_, AgentApp>,
    ) {
        let Some(Link { agent, state: LinkState::Connecting { lookup, .. } }) = self.links.get_mut(&link)
        else {
            return;
        };
        *lookup = None;
        let agent = *agent;
        match found {
            Ok(addresses) => self.dial(link, DialTarget::Tcp(addresses), conns),
            Err(why) => self.fail(agent, link, &why, conns),
        }
    }
}

fn cannot_connect(error: &io::Error) -> String {
    format!("cannot connect: {error}")
}

impl App for AgentApp {
    type Protocol = LinkProtocol;
    type Session = (AgentId, LinkId);
    type Mail = AgentCommand;

    fn open(&mut self, _key: Key, _peer: Peer, _listener: usize) -> (LinkProtocol, (AgentId, LinkId)) {
        // It has no listeners: connections are only adopted.
        (LinkProtocol::stream(), (AgentId(0), LinkId(0)))
    }

    fn on_message(&mut self, cx: &mut ConnCx<'_, Self>, message: ReceivedBytes) {
        let (agent, link) = *cx.session;
        if self.links.contains_key(&link) {
            self.with(agent, cx.now(), |agent, agent_cx| {
                agent.on_bytes(link, cx.bytes(message.0), agent_cx);
            });
        }
    }

    fn on_mail(&mut self, conns: &mut Conns<'_, Self>, mail: AgentCommand) {
        match mail {
            AgentCommand::Run(id, agent) => self.run(id, agent, conns.now()),
            AgentCommand::End(id, done) => match self.agents.get_mut(&id) {
                None => done.into_iter().for_each(|done| done()),
                Some(running) => {
                    running.done.extend(done);
                    if !std::mem::replace(&mut running.is_ending, true) {
                        self.with(id, conns.now(), |agent, cx| agent.on_end(cx));
                    }
                }
            },
            AgentCommand::Resolved(link, found) => self.on_resolved(link, found, conns),
            AgentCommand::NameConfig(config) => {
                for id in self.name_config.on_read(config.clone(), conns.now()) {
                    self.with(id, conns.now(), |agent, cx| agent.on_name_config(Ok(config.clone()), cx));
                }
            }
        }
        self.act(conns);
    }

    fn on_dialed(&mut self, conns: &mut Conns<'_, Self>, id: DialId, result: io::Result<(Transport, Peer)>) {
        let link = LinkId(id.owner);
        // One that was given up is closed here.
        let Some(Link { agent, state: LinkState::Connecting { waiting, .. } }) = self.links.get_mut(&link)
        else {
            return;
        };
        let (agent, waiting) = (*agent, std::mem::take(waiting));
        let adopted = result
            .and_then(|(stream, peer)| conns.adopt(stream, peer, LinkProtocol::stream(), (agent, link)));
        match adopted {
            Ok(key) => {
                self.links.insert(link, Link { agent, state: LinkState::Open(key) });
                self.send(link, &waiting, conns);
            }
            Err(error) => {
                let why = cannot_connect(&error);
                self.fail(agent, link, &why, conns);
            }
        }
        self.act(conns);
    }

    fn next_at(&self) -> Option<Instant> {
        if !self.actions.is_empty() {
            return Some(self.begun);
        }
        self.agents.values().filter_map(|running| running.agent.next_at()).min()
    }

    fn on_time(&mut self, conns: &mut Conns<'_, Self>) {
        let now = conns.now();
        let is_due = |running: &RunningAgent| running.agent.next_at().is_some_and(|at| at <= now);
        let due: Vec<AgentId> =
            self.agents.iter().filter(|(_, running)| is_due(running)).map(|(id, _)| *id).collect();
        for id in due {
            self.with(id, now, |agent, cx| agent.on_time(cx));
        }
        self.act(conns);
    }

    fn reads_before_time(&self) -> bool {
        // A process that was stopped has answers that arrived in time.
        true
    }

    fn on_close(&mut self, closed: ClosedConn<'_, Self>) {
        let (agent, link) = closed.session;
        if self.links.remove(&link).is_some() {
            let why = match closed.why {
                CloseReason::Reset(kind) => kind.to_string(),
                why => format!("the connection has ended ({why})"),
            };
            // The time of the turn is not available here.
            self.with(agent, Instant::now(), |agent, cx| agent.on_closed(link, &why, cx));
        }
    }
}
