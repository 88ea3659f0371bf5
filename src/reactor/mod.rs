//! The event loop: one thread, its sockets, and the turn.
//!
//! A [`Reactor`] is generic over what it serves, an [`App`]. It handles readiness, buffers and time, and knows
//! nothing of methods. `core` does the work for one connection, `accept` for the listeners; `socket` hides the kind
//! of a socket. Nothing here blocks except the wait.

mod accept;
mod app;
mod config;
pub(crate) mod core;
mod dial;
mod guest;
mod listener;
mod remote;
mod silent;
mod socket;
mod time;
mod unix_file;
mod wait;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_bufpool::Pool;
use coreloop_poller::{Key, Poller, SpinBudget, os};

pub use accept::{AcceptorShare, Loads};
pub use app::{App, ConnCx, Conns};
pub use config::ReactorConfig;
pub use dial::dial;
pub use guest::{Guest, Host, NextTurn};
pub use listener::Listener;
pub use remote::Remote;
pub use socket::{Address, AddressError, NetStream};
pub use unix_file::UnixSocketAccess;

use self::accept::{Accepted, Acceptor};
use self::core::Core;
use self::guest::Guests;
use self::remote::ReactorCommand;
use crate::conn::CloseReason;
use crate::context::Peer;
use crate::mailbox::{Mailbox, ReactorSender, mailbox};
use crate::policy::gather::Gather;
use crate::stats::{ReactorStats, STAGES, micros};
use crate::threads::{self, ThreadRole};

/// The most events taken from the kernel in one turn.
const EVENTS_MAX: usize = 1024;
/// The capacity of the mailbox's channel; more messages go to its overflow.
const COMMANDS_MAX: usize = 4096;
/// The most messages read in one turn.
const COMMANDS_PER_TURN: usize = 1024;
/// The interval of checks for unused buffers, while there may be some.
const SHRINK_EVERY: Duration = Duration::from_secs(1);
/// The number of bytes freed at once from which the allocator is requested to return memory to the system.
const TRIM_BYTES: usize = 1 << 20;
/// The most time that an aborted reactor gives its connections to write last answers and to see their peers close.
const ABORT_MAX: Duration = Duration::from_secs(1);
/// The generation of listener keys; the generations of connections start at the other end.
const LISTENER_GENERATION: u32 = u32::MAX - 1;
/// The generation of guest keys, likewise.
const GUEST_GENERATION: u32 = u32::MAX - 2;

/// One event loop: a single thread that owns its sockets.
///
/// ```
/// use coreloop::bufpool::Chunk;
/// use coreloop::context::Peer;
/// use coreloop::poller::Key;
/// use coreloop::reactor::{App, ConnCx, Reactor, ReactorConfig};
/// use coreloop::wire::{Received, Out, Protocol};
///
/// /// Lines in, the same lines out.
/// struct Lines;
///
/// impl Protocol for Lines {
///     type Message = Vec<u8>;
///     type Outgoing<'a> = Vec<u8>;
///
///     fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Vec<u8>> {
///         match input.iter().position(|byte| *byte == b'\n') {
///             Some(at) => Received::Message { message: input[..=at].to_vec(), consumed: at + 1 },
///             None => Received::NeedMore { bytes_min: input.len() + 1 },
///         }
///     }
///
///     fn send(&mut self, line: Vec<u8>, out: &mut Out<'_>) {
///         out.put(&line);
///     }
/// }
///
/// struct Echo;
///
/// impl App for Echo {
///     type Protocol = Lines;
///     type Session = ();
///     type Mail = ();
///
///     fn open(&mut self, _key: Key, _peer: Peer, _listener: usize) -> (Lines, ()) {
///         (Lines, ())
///     }
///
///     fn on_message(&mut self, cx: &mut ConnCx<'_, Self>, line: Vec<u8>) {
///         cx.send(line);
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// use std::io::{Read, Write};
///
/// let mut reactor = Reactor::new(Echo, ReactorConfig::default())?;
/// let address = reactor.listen("127.0.0.1:0")?.to_string();
/// let remote = reactor.remote();
/// let thread = std::thread::spawn(move || reactor.run());
///
/// let mut stream = std::net::TcpStream::connect(address)?;
/// stream.write_all(b"hello\n")?;
/// let mut line = [0; 6];
/// stream.read_exact(&mut line)?;
/// assert_eq!(&line, b"hello\n");
///
/// remote.stop();
/// thread.join().unwrap()
/// # }
/// ```
pub struct Reactor<A: App> {
    app: A,
    core: Core<A>,
    acceptor: Acceptor,
    mailbox: Mailbox<ReactorCommand<A::Mail>>,
    sender: ReactorSender<ReactorCommand<A::Mail>>,
    deal: Option<AcceptorShare<A::Mail>>,
    loads: Arc<Loads>,
    index: usize,
    guests: Guests,
    spin: SpinBudget,
    gather: Gather,
    pinned: Option<usize>,
    connections_max: usize,
    state: ReactorState,
    /// When the reactor ends even if connections are left, once it aborts.
    abort_until: Option<Instant>,
    /// The time for which the reactor did not run before this turn, if it was long enough to misjudge peers.
    stopped: Duration,
    /// Connections to be read in this turn.
    reading: Vec<Key>,
    expired: Vec<Key>,
    shrink_at: Option<Instant>,
    lap: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReactorState {
    Running,
    Draining,
    Aborting,
    Stopped,
}

impl<A: App> Reactor<A> {
    /// Creates a reactor without listeners.
    ///
    /// # Errors
    ///
    /// The system provides no event queue.
    pub fn new(app: A, config: ReactorConfig) -> io::Result<Reactor<A>> {
        Reactor::with_app(config, |_| app)
    }

    /// Creates a reactor for an app that needs a handle on its own reactor.
    ///
    /// # Errors
    ///
    /// The system provides no event queue.
    pub fn with_app(config: ReactorConfig, app: impl FnOnce(Remote<A::Mail>) -> A) -> io::Result<Reactor<A>> {
        let poller = Poller::new(EVENTS_MAX)?;
        let (mailbox, sender) = mailbox(COMMANDS_MAX, poller.bell());
        let app = app(Remote { sender: sender.clone() });
        let cores = os::allowed_cores().len();
        let connections_max = config.limits.connections_max;
        let ReactorConfig { limits, flush, turn, busy_poll, gather, core, pool } = config;
        Ok(Reactor {
            app,
            core: Core::new(poller, Pool::new(pool), limits, turn, flush, Arc::new(ReactorStats::new())),
            acceptor: Acceptor::new(),
            mailbox,
            sender,
            deal: None,
            loads: Arc::new(Loads::new(1)),
            index: 0,
            guests: Guests::default(),
            spin: SpinBudget::new(busy_poll, cores),
            gather: Gather::new(gather),
            pinned: core,
            connections_max,
            state: ReactorState::Running,
            abort_until: None,
            stopped: Duration::ZERO,
            reading: Vec::new(),
            expired: Vec::new(),
            shrink_at: None,
            lap: None,
        })
    }

    /// Listens on `host:port` or `unix:PATH`; returns the address with the actual port.
    ///
    /// # Errors
    ///
    /// The address cannot be parsed, or listening fails.
    pub fn listen(&mut self, address: &str) -> io::Result<Address> {
        let address: Address = address
            .parse()
            .map_err(|error: AddressError| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = Listener::bind(&address, &UnixSocketAccess::default())?;
        let local = listener.local()?;
        self.add_listener(listener, 0)?;
        Ok(local)
    }

    /// Adds a listener; the app receives `index` with each connection from it.
    ///
    /// # Errors
    ///
    /// The poller does not accept the listener.
    pub fn add_listener(&mut self, listener: Listener, index: usize) -> io::Result<()> {
        self.acceptor.add(listener, index, &mut self.core.poller)
    }

    /// Makes this one of several reactors: `index` is its position in the loads, and `deal`, given to the reactor
    /// that accepts, spreads new connections over all of them.
    pub fn share(&mut self, index: usize, loads: Arc<Loads>, deal: Option<AcceptorShare<A::Mail>>) {
        self.index = index;
        self.loads = loads;
        self.deal = deal;
    }

    /// Returns a handle on the reactor for other threads.
    pub fn remote(&self) -> Remote<A::Mail> {
        Remote { sender: self.sender.clone() }
    }

    /// Returns the reactor's counters.
    pub fn stats(&self) -> Arc<ReactorStats> {
        self.core.stats.clone()
    }

    /// Returns the app.
    pub fn app_mut(&mut self) -> &mut A {
        &mut self.app
    }

    /// Runs turns until the reactor is stopped.
    ///
    /// # Errors
    ///
    /// The thread cannot be bound to its core, or the wait itself fails. No peer can cause either.
    pub fn run(&mut self) -> io::Result<()> {
        if let Some(core) = self.pinned {
            os::pin_current_thread(core)?;
        }
        threads::set_role(ThreadRole::Reactor);
        self.app.begin_thread();
        if self.gather.is_on() {
            // Without this, a nap of 100 µs takes 150 µs.
            os::precise_sleep();
        }
        // Guests that were added earlier run here from the first call on.
        self.read_mail();
        while self.state != ReactorState::Stopped {
            self.turn()?;
        }
        self.close_all();
        Ok(())
    }

    /// Runs one turn: wait, accept, read and decode, hand off, messages, timers, flush.
    ///
    /// # Errors
    ///
    /// The wait itself fails.
    pub fn turn(&mut self) -> io::Result<()> {
        self.pass(None)
    }

    /// Runs one turn that waits at most `wait_max`.
    fn pass(&mut self, wait_max: Option<Duration>) -> io::Result<()> {
        self.wait(wait_max)?;
        self.accept();
        self.end_stage(1);
        self.read();
        self.end_stage(2);
        self.app.hand_off(self.core.now);
        self.end_stage(3);
        self.read_mail();
        self.end_stage(4);
        self.run_timers();
        self.guests.turn(self.core.now);
        self.end_stage(5);
        self.core.flush(&mut self.app);
        if self.app.wants_turn_end() {
            let Reactor { app, core, loads, index, .. } = self;
            app.on_turn_end(&mut Conns { core, loads, index: *index });
        }
        self.close_ended();
        self.end_stage(6);
        self.end_turn();
        Ok(())
    }

    // Accept.

    fn accept(&mut self) {
        if !self.acceptor.is_ready() && self.acceptor.paused_until.is_none() {
            return;
        }
        for _ in 0..self.core.budget.accepts_max {
            match self.acceptor.accept(self.core.now) {
                Accepted::One(stream, peer, listener) => self.deal(stream, peer, listener),
                Accepted::None => return,
                Accepted::Paused => {
                    self.core.stats.accept_pauses.add(1);
                    return;
                }
            }
        }
    }

    /// Passes a new connection to the reactor chosen for it.
    fn deal(&mut self, stream: NetStream, peer: Peer, listener: usize) {
        let target = self.deal.as_ref().and_then(|deal| deal.next(listener)).unwrap_or(self.index);
        self.loads.add(target);
        match &self.deal {
            Some(deal) if target != self.index => {
                if !deal.remotes[target].adopt(stream, peer, listener) {
                    self.loads.sub(target);
                }
            }
            _ => self.open(stream, peer, listener),
        }
    }

    fn open(&mut self, mut stream: NetStream, peer: Peer, listener: usize) {
        let is_over = self.core.slots.len() >= self.connections_max;
        if is_over || matches!(self.state, ReactorState::Aborting | ReactorState::Stopped) {
            self.core.stats.refused.add(u64::from(is_over));
            self.loads.sub(self.index);
            return;
        }
        let Ok(key) = self.core.register(&mut stream) else {
            // The poller has no room for it (epoll's max_user_watches): treated like a missing descriptor.
            self.core.stats.refused.add(1);
            self.loads.sub(self.index);
            return;
        };
        let (protocol, session) = self.app.open(key, peer, listener);
        let app_at = self.app.next_deadline(&session);
        self.core.open(key, stream, peer, protocol, session);
        self.core.note_accepted(key);
        if let Some(at) = app_at {
            self.core.arm_for_app(key, at);
        }
        if self.state == ReactorState::Draining {
            // The connection was accepted before the drain began, by this reactor or another.
            self.core.drain(key);
        }
    }

    // Read and decode.

    fn read(&mut self) {
        std::mem::swap(&mut self.reading, &mut self.core.again);
        for index in 0..self.reading.len() {
            self.core.read(self.reading[index], &mut self.app);
        }
        self.reading.clear();
    }

    // Messages from other threads.

    fn read_mail(&mut self) {
        let mut messages = 0;
        while messages < COMMANDS_PER_TURN
            && let Some(command) = self.mailbox.take()
        {
            messages += 1;
            match command {
                ReactorCommand::App(mail) => {
                    let Reactor { app, core, loads, index, .. } = self;
                    app.on_mail(&mut Conns { core, loads, index: *index }, mail);
                }
                ReactorCommand::Guest(guest) => {
                    self.guests.add(guest, &mut self.core.poller, GUEST_GENERATION)
                }
                ReactorCommand::Adopt(stream, peer, listener) => self.open(stream, peer, listener),
                ReactorCommand::Drain => self.begin_drain(),
                ReactorCommand::Abort => self.begin_abort(),
                ReactorCommand::Stop => self.state = ReactorState::Stopped,
            }
        }
        self.core.stats.letters.add(messages as u64);
        if messages > 0 && self.shrink_at.is_none() {
            // A message may return the last buffers of a burst when all connections have ended already.
            self.shrink_at = Some(self.core.now + SHRINK_EVERY);
        }
        self.core.after_touched(&self.app);
    }

    fn begin_drain(&mut self) {
        if self.state != ReactorState::Running {
            return;
        }
        self.state = ReactorState::Draining;
        self.for_each_conn(|core, _, key| core.drain(key));
        // Closing the listener would reset the connections that wait to be accepted. A backlog bounds their number;
        // connections that arrive while they are accepted are refused.
        self.acceptor.on_all_ready();
        for _ in 0..listener::BACKLOG {
            let Accepted::One(stream, peer, listener) = self.acceptor.accept(self.core.now) else { break };
            self.loads.add(self.index);
            self.open(stream, peer, listener);
        }
        self.acceptor.close();
    }

    fn begin_abort(&mut self) {
        self.acceptor.close();
        self.for_each_conn(|core, app, key| {
            if let Some((mut cx, _)) = core.conn_cx(key) {
                app.on_abort(&mut cx);
                cx.conn.give_up(CloseReason::Drained, cx.now);
            }
            core.after(key);
        });
        self.state = ReactorState::Aborting;
        let linger = Duration::from_millis(self.core.limits.linger_ms);
        self.abort_until.get_or_insert(self.core.now + linger.min(ABORT_MAX));
    }

    fn for_each_conn(&mut self, mut f: impl FnMut(&mut Core<A>, &mut A, Key)) {
        let mut keys = Vec::with_capacity(self.core.slots.len());
        self.core.slots.keys_into(&mut keys);
        for key in keys {
            f(&mut self.core, &mut self.app, key);
        }
    }

    // The end of a turn.

    fn close_ended(&mut self) {
        while let Some((key, why)) = self.core.closing.pop() {
            if let Some(session) = self.core.remove(key, &why) {
                self.loads.sub(self.index);
                self.app.on_close(key, session, &why);
            }
        }
        match self.state {
            ReactorState::Draining | ReactorState::Aborting if self.core.slots.is_empty() => {
                self.state = ReactorState::Stopped
            }
            // Peers had a moment to read their last answers.
            ReactorState::Aborting if self.abort_until.is_none_or(|at| at <= self.core.now) => {
                self.state = ReactorState::Stopped;
            }
            ReactorState::Running
            | ReactorState::Draining
            | ReactorState::Aborting
            | ReactorState::Stopped => {}
        }
    }

    fn close_all(&mut self) {
        let mut keys = Vec::new();
        self.core.slots.keys_into(&mut keys);
        self.core.closing.extend(keys.into_iter().map(|key| (key, CloseReason::Drained)));
        self.close_ended();
        self.acceptor.close();
    }

    #[inline]
    fn end_stage(&mut self, stage: usize) {
        if let Some(began) = self.lap {
            let now = Instant::now();
            self.core.stats.stage_ns[stage].add(now.duration_since(began).as_nanos() as u64);
            self.lap = Some(now);
        }
    }

    fn note_pool(&self) {
        let gauges = &self.core.stats.pool;
        let pool = self.core.pool.stats();
        gauges.hits.set(pool.hits);
        gauges.misses.set(pool.misses);
        gauges.outstanding.set(pool.outstanding);
        gauges.retained_bytes.set(pool.retained_bytes);
    }

    #[inline]
    fn end_turn(&mut self) {
        let stats = &self.core.stats;
        stats.turns.add(1);
        stats.events.add(self.core.poller.len() as u64);
        self.core.pool.collect();
        if self.shrink_at.is_none() && !self.core.poller.is_empty() {
            self.shrink_at = Some(self.core.now + SHRINK_EVERY);
        }
        if let Some(ended) = self.lap.take() {
            debug_assert_eq!(STAGES.len(), stats.stage_ns.len());
            stats.sampled_turns.add(1);
            stats.lag_us.record(micros(ended.duration_since(self.core.now)));
            self.note_pool();
        }
    }
}
