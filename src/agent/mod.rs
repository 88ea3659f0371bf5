//! Agents: what watches a service, keeps a registration alive or exports telemetry, as a state machine without I/O.
//!
//! An agent handles one event after the other and answers with actions ([`AgentAction`]) through its [`AgentCx`]. The
//! sockets and the clock belong to `app.rs`, which is a role of a reactor. Tests drive an agent by hand.

mod app;
pub(crate) mod dns;
mod handle;
pub(crate) mod http;
pub(crate) mod http_agent;
pub(crate) mod http_client;
mod links;
mod thread;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::dns::NameConfig;
pub(crate) use self::handle::{AgentGuard, AgentHandle};
pub(crate) use self::thread::AgentThread;
use crate::random::Random;
use crate::transport::TlsClient;

/// Identifies an agent of an app. It is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AgentId(u64);

/// Identifies a connection of an agent. It is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(u64);

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkTarget {
    /// A TCP connection to `host:port`. A name is looked up; all of its addresses are tried.
    Tcp {
        /// The host, by name or number, and the port.
        address: String,
        /// The number of earlier attempts. It selects the address that is tried first, in turns.
        attempt: u32,
        /// When the attempt is given up.
        until: Instant,
        /// The TLS of the connection, which carries HTTP then. The handshake is a part of the attempt.
        tls: Option<TlsClient>,
    },
    /// A connected UDP socket.
    Udp(SocketAddr),
}

/// What an agent wants to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AgentAction {
    /// Connect. Bytes may be sent at once: they are written when the connection is made.
    Connect(LinkId, LinkTarget),
    /// Send bytes: one datagram on a UDP socket.
    Send(LinkId, Vec<u8>),
    /// Close a connection. Its events end with this.
    Close(LinkId),
    /// Pass on the system's configuration of names ([`Agent::on_name_config`]).
    ReadNameConfig,
    /// Remove the agent and close its connections.
    End,
}

/// The access of an agent to its surroundings while it handles an event.
pub(crate) struct AgentCx<'a> {
    /// The time of the event.
    pub(crate) now: Instant,
    /// Random numbers.
    pub(crate) random: &'a mut Random,
    next_link: &'a mut u64,
    actions: &'a mut Vec<AgentAction>,
}

impl AgentCx<'_> {
    /// Opens a connection. It either delivers bytes, or ends with [`Agent::on_closed`].
    pub(crate) fn connect(&mut self, target: LinkTarget) -> LinkId {
        let link = LinkId(*self.next_link);
        *self.next_link += 1;
        self.actions.push(AgentAction::Connect(link, target));
        link
    }

    /// Sends bytes, or one datagram.
    pub(crate) fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.actions.push(AgentAction::Send(link, bytes));
    }

    /// Closes a connection; no event of it follows.
    pub(crate) fn close(&mut self, link: LinkId) {
        self.actions.push(AgentAction::Close(link));
    }

    /// Asks for the system's configuration of names, which [`Agent::on_name_config`] gets.
    pub(crate) fn read_name_config(&mut self) {
        self.actions.push(AgentAction::ReadNameConfig);
    }

    /// Returns a random part of a duration.
    pub(crate) fn jitter(&mut self, most: Duration) -> Duration {
        most.mul_f64((self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// Removes the agent, and closes its connections.
    pub(crate) fn end(&mut self) {
        self.actions.push(AgentAction::End);
    }
}

/// A state machine that uses connections and timers, and reports to the function that it was created with.
pub(crate) trait Agent: Send {
    /// Called once, first.
    fn begin(&mut self, cx: &mut AgentCx<'_>);

    /// Handles bytes from a connection, or one datagram.
    fn on_bytes(&mut self, link: LinkId, bytes: &[u8], cx: &mut AgentCx<'_>);

    /// Handles the end of a connection that the agent has not closed itself, or the failure to connect.
    fn on_closed(&mut self, link: LinkId, why: &str, cx: &mut AgentCx<'_>);

    /// Returns the time of the next [`Agent::on_time`].
    fn next_at(&self) -> Option<Instant>;

    /// Called at the time that [`Agent::next_at`] returned, or later.
    fn on_time(&mut self, cx: &mut AgentCx<'_>);

    /// Handles the system's configuration of names, if the agent has asked for it, or why it cannot be read.
    fn on_name_config(&mut self, _config: Result<Arc<NameConfig>, String>, _cx: &mut AgentCx<'_>) {}

    /// Begins to end the agent, which ends itself ([`AgentCx::end`]) as soon as it can.
    fn on_end(&mut self, cx: &mut AgentCx<'_>) {
        cx.end();
    }
}

/// Runs agents in tests: keeps their actions.
#[cfg(test)]
pub(crate) struct AgentRig {
    pub(crate) now: Instant,
    pub(crate) actions: Vec<AgentAction>,
    random: Random,
    next_link: u64,
}

#[cfg(test)]
impl AgentRig {
    pub(crate) fn new() -> AgentRig {
        AgentRig { now: Instant::now(), actions: Vec::new(), random: Random::new(7), next_link: 1 }
    }

    /// Calls the function with a context, and returns the actions that it has caused.
    pub(crate) fn run(&mut self, run: impl FnOnce(&mut AgentCx<'_>)) -> Vec<AgentAction> {
        let AgentRig { now, actions, random, next_link } = self;
        run(&mut AgentCx { now: *now, random, next_link, actions });
        std::mem::take(actions)
    }

    /// Advances the clock to the agent's next time and calls it.
    pub(crate) fn run_timer(&mut self, agent: &mut impl Agent) -> Vec<AgentAction> {
        self.now = self.now.max(agent.next_at().expect("the agent has a timer"));
        self.run(|cx| agent.on_time(cx))
    }
}

#[cfg(test)]
mod tests;
