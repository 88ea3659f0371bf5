//! The network: connections with a delay in each direction and their order kept, and links that can be partitioned.
//!
//! Like TCP, a partition does not lose what was sent: it arrives after the partition, unless the connection was lost
//! meanwhile.

use std::collections::{BTreeSet, VecDeque};

use coreloop::policy::fleet::EndpointId;

use super::client::AttemptResult;
use super::scenario::{MS, Ns, SECOND};
use super::world::{Actor, Event, World, trace};

/// A dial that has come to no end is given up.
const CONNECT_TIMEOUT: Ns = 5 * SECOND;
/// A dial over a partitioned link looks again after this.
const SYN_AGAIN: Ns = 200 * MS;

/// From a client to a server.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    Call { attempt: usize, method: usize, left: Option<Ns> },
    Cancel { attempt: usize },
    Ping { check: u64 },
    Close,
}

/// From a server to a client.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    Answer { attempt: usize, result: AttemptResult, load_us: u32 },
    Pong { check: u64 },
    Reset,
}

/// The way between a client and a server.
#[derive(Debug)]
pub struct Link {
    /// The least delay, and the mean of what is added to it.
    least: Ns,
    added: Ns,
    /// Partitions of each direction that have begun and not ended.
    pub up_blocked: u32,
    pub down_blocked: u32,
}

impl Link {
    pub fn new(least: Ns, added: Ns) -> Link {
        Link { least, added, up_blocked: 0, down_blocked: 0 }
    }

    /// The least time to the server and back, without faults.
    pub fn round_trip_min(&self) -> Ns {
        2 * self.least
    }
}

#[derive(Debug)]
pub struct Direction<T> {
    queue: VecDeque<T>,
    /// The last message does not arrive before this.
    last_at: Ns,
    /// Messages whose time has come during a partition.
    stalled: u32,
}

impl<T> Direction<T> {
    fn new() -> Direction<T> {
        Direction { queue: VecDeque::new(), last_at: 0, stalled: 0 }
    }
}

#[derive(Debug)]
pub struct Conn {
    pub client: usize,
    pub endpoint: EndpointId,
    pub server: usize,
    pub up: Direction<Request>,
    pub down: Direction<Reply>,
    /// Whether each end has it open.
    pub at_client: bool,
    pub at_server: bool,
    /// Attempts that were sent and have no answer.
    pub in_flight: BTreeSet<usize>,
    /// When the client has received something, and whether it has pinged since.
    pub heard_at: Ns,
}

impl World {
    fn delay(&mut self, client: usize, server: usize) -> Ns {
        let Link { least, added, .. } = self.links[client][server];
        least + self.rng.spread(added) + self.active.delay_ms[server] * MS
    }

    pub fn send_up(&mut self, conn: usize, request: Request) {
        let (client, server) = (self.conns[conn].client, self.conns[conn].server);
        let at = self.now + self.delay(client, server);
        let up = &mut self.conns[conn].up;
        up.queue.push_back(request);
        up.last_at = up.last_at.max(at);
        let at = up.last_at;
        self.at(at, Event::Up(conn));
    }

    pub fn send_down(&mut self, conn: usize, reply: Reply) {
        let (client, server) = (self.conns[conn].client, self.conns[conn].server);
        let at = self.now + self.delay(client, server);
        let down = &mut self.conns[conn].down;
        down.queue.push_back(reply);
        down.last_at = down.last_at.max(at);
        let at = down.last_at;
        self.at(at, Event::Down(conn));
    }

    pub fn on_up(&mut self, conn: usize) {
        let Conn { client, server, .. } = self.conns[conn];
        if self.links[client][server].up_blocked > 0 {
            self.conns[conn].up.stalled += 1;
            return;
        }
        // The connection may have been lost with what it carried.
        if let Some(request) = self.conns[conn].up.queue.pop_front() {
            self.on_request(conn, request);
        }
    }

    pub fn on_down(&mut self, conn: usize) {
        let Conn { client, server, .. } = self.conns[conn];
        if self.links[client][server].down_blocked > 0 {
            self.conns[conn].down.stalled += 1;
            return;
        }
        if let Some(reply) = self.conns[conn].down.queue.pop_front() {
            self.on_reply(conn, reply);
        }
    }

    /// What a partition has held back arrives.
    pub fn on_heal(&mut self, client: usize, server: usize) {
        let Link { up_blocked, down_blocked, .. } = self.links[client][server];
        for number in 0..self.conns.len() {
            let conn = &mut self.conns[number];
            if (conn.client, conn.server) != (client, server) {
                continue;
            }
            let up = if up_blocked == 0 { std::mem::take(&mut conn.up.stalled) } else { 0 };
            let down = if down_blocked == 0 { std::mem::take(&mut conn.down.stalled) } else { 0 };
            (0..up).for_each(|_| self.at(self.now, Event::Up(number)));
            (0..down).for_each(|_| self.at(self.now, Event::Down(number)));
        }
    }

    /// A client begins to connect to an endpoint, unless it does so already.
    pub fn dial(&mut self, client: usize, endpoint: EndpointId) {
        let now = self.now;
        let Some(state) = self.clients[client].endpoints.get_mut(&endpoint) else { return };
        if state.is_removed || state.conn.is_some() || state.dialing_since.is_some() {
            return;
        }
        state.dialing_since = Some(now);
        state.pause_until = None;
        let server = state.server;
        let at = now + self.delay(client, server) + self.delay(client, server);
        self.at(at, Event::Dialed(client, endpoint));
    }

    pub fn on_dialed(&mut self, client: usize, endpoint: EndpointId) {
        let Some(state) = self.clients[client].endpoints.get_mut(&endpoint) else { return };
        let (server, generation) = (state.server, state.generation);
        let Some(since) = state.dialing_since else { return };
        let Link { up_blocked, down_blocked, .. } = self.links[client][server];
        if up_blocked + down_blocked > 0 {
            if self.now < since + CONNECT_TIMEOUT {
                self.at(self.now + SYN_AGAIN, Event::Dialed(client, endpoint));
            } else {
                self.on_dial_failed(client, endpoint);
            }
            return;
        }
        state.dialing_since = None;
        if !self.servers[server].is_listening(generation) {
            self.on_dial_failed(client, endpoint);
            return;
        }
        // A stopped process accepts too: its kernel does.
        let number = self.conns.len();
        self.conns.push(Conn {
            client,
            endpoint,
            server,
            up: Direction::new(),
            down: Direction::new(),
            at_client: true,
            at_server: true,
            in_flight: BTreeSet::new(),
            heard_at: self.now,
        });
        self.servers[server].accept(number);
        trace!(self, Actor::Client(client), "connected to server {server}");
        self.on_connected(client, endpoint, number);
    }

    /// A connection is lost at both ends at once, with what it carries.
    pub fn lose(&mut self, conn: usize) {
        self.conns[conn].up.queue.clear();
        self.conns[conn].down.queue.clear();
        self.close_at_server(conn);
        self.on_lost(conn);
    }

    /// The numbers of the connections between these that the client has open.
    pub fn open_conns(&self, client: Option<usize>, server: usize) -> Vec<usize> {
        let is_between = |conn: &Conn| {
            conn.server == server && conn.at_client && client.is_none_or(|client| conn.client == client)
        };
        (0..self.conns.len()).filter(|number| is_between(&self.conns[*number])).collect()
    }
}
