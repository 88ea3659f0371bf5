//! One role of a reactor: an app, its connections, listeners and mailbox, and what it does in each stage of a turn; and
//! [`Remote`], its handle for other threads, which only sends messages.
//!
//! The reactor has one for its main app, which it calls without indirection, and one behind [`Role`] for each
//! further role. It waits for nothing: the reactor does.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_bufpool::Pool;
use coreloop_poller::{Bell, Key, Poller, Ready};

use super::accept::Acceptor;
use super::app::{App, Conns};
use super::config::ReactorConfig;
use super::core::Core;
use super::dials::DIAL_GENERATION;
use super::loads::Loads;
use super::roles::{ROLE_SLOTS_MAX, Role, RoleHandle, RoleTurn};
use crate::conn::CloseReason;
use crate::context::Peer;
use crate::log_events::log_event;
use crate::mailbox::{Mailbox, ReactorSender, mailbox};
use crate::stats::ReactorStats;
use crate::transport::{ReadinessSender, Transport};

/// The generation of listener keys; the generations of connections start at the other end.
pub(super) const LISTENER_GENERATION: u32 = u32::MAX - 1;
/// The capacity of the mailbox's channel; more messages go to its overflow.
const COMMANDS_MAX: usize = 4096;
/// The most messages read in one turn.
const COMMANDS_PER_TURN: usize = 1024;
/// Messages wait for the next turn once they have touched this many connections: each has a buffer with its answer until
/// the end of the turn.
const TOUCHED_PER_TURN: usize = 128;
/// The interval of checks for unused buffers, while there may be some.
pub(super) const SHRINK_EVERY: Duration = Duration::from_secs(1);
/// The most time that an aborted role gives its connections to write last answers and to see their peers close.
const ABORT_MAX: Duration = Duration::from_secs(1);

/// A message to a role of a reactor.
pub(super) enum ReactorCommand<M> {
    App(M),
    Adopt(Transport, Peer, usize),
    /// A connection or a listener that no poller watches is ready.
    Ready(Key, Ready),
    /// Adds a further role to the reactor.
    Add(Box<dyn Role>),
    Drain,
    Abort,
    Stop,
}

impl<M> ReactorCommand<M> {
    /// Returns the message to the app that this command is.
    fn into_mail(self) -> M {
        match self {
            ReactorCommand::App(mail) => mail,
            ReactorCommand::Adopt(..)
            | ReactorCommand::Ready(..)
            | ReactorCommand::Add(_)
            | ReactorCommand::Drain
            | ReactorCommand::Abort
            | ReactorCommand::Stop => unreachable!("the message that was sent"),
        }
    }
}

/// A handle on a reactor, usable from any thread.
pub struct Remote<M> {
    pub(super) sender: ReactorSender<ReactorCommand<M>>,
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Remote { sender: self.sender.clone() }
    }
}

impl<M> Remote<M> {
    /// Sends a message to the app. Returns the message if the reactor has ended.
    pub fn mail(&self, mail: M) -> Result<(), M> {
        self.sender.send(ReactorCommand::App(mail)).map_err(ReactorCommand::into_mail)
    }

    /// Sends a message to the app without waking the reactor: the sender then runs the reactor itself, or rings its
    /// bell. Returns the message if the reactor has ended.
    #[cfg(feature = "client")]
    pub(crate) fn mail_silently(&self, mail: M) -> Result<(), M> {
        self.sender.send_silently(ReactorCommand::App(mail)).map_err(ReactorCommand::into_mail)
    }

    /// Returns the bell that wakes the reactor.
    #[cfg(feature = "client")]
    pub(crate) fn bell(&self) -> &Bell {
        self.sender.bell()
    }

    /// Gives the reactor a connection; the app receives `listener` as the listener index. A client's connection
    /// is served in the same way as an accepted one. Returns false if the reactor has ended.
    #[doc(hidden)]
    pub fn adopt(&self, stream: Transport, peer: Peer, listener: usize) -> bool {
        self.sender.send(ReactorCommand::Adopt(stream, peer, listener)).is_ok()
    }

    /// Stops accepting, requests that peers send no new requests, and ends the reactor when all connections are done.
    pub fn drain(&self) {
        let _ = self.sender.send(ReactorCommand::Drain);
    }

    /// Answers and gives up the calls in flight, and ends the reactor.
    pub fn abort(&self) {
        let _ = self.sender.send(ReactorCommand::Abort);
    }

    /// Ends the reactor at once.
    pub fn stop(&self) {
        let _ = self.sender.send(ReactorCommand::Stop);
    }
}

impl<M: Send + 'static> Remote<M> {
    /// Returns a handle that adds further roles to the reactor.
    pub fn roles(&self) -> RoleHandle {
        let sender = self.sender.clone();
        RoleHandle::new(self.sender.bell().clone(), move |role| {
            sender.send(ReactorCommand::Add(role)).is_ok()
        })
    }
}

/// The mailbox of a role, and its sender.
pub(super) struct RoleMailbox<M> {
    mailbox: Mailbox<ReactorCommand<M>>,
    sender: ReactorSender<ReactorCommand<M>>,
}

impl<M> RoleMailbox<M> {
    pub(super) fn new(bell: Bell) -> RoleMailbox<M> {
        let (mailbox, sender) = mailbox(COMMANDS_MAX, bell);
        RoleMailbox { mailbox, sender }
    }

    pub(super) fn remote(&self) -> Remote<M> {
        Remote { sender: self.sender.clone() }
    }
}

/// An app with everything that belongs to it alone.
pub(super) struct AppRole<A: App> {
    pub(super) app: A,
    pub(super) core: Core<A>,
    pub(super) acceptor: Acceptor<A::Mail>,
    pub(super) mailbox: Mailbox<ReactorCommand<A::Mail>>,
    sender: ReactorSender<ReactorCommand<A::Mail>>,
    pub(super) loads: Arc<Loads>,
    pub(super) index: usize,
    connections_max: usize,
    pub(super) state: RoleState,
    /// When the role ends even if connections are left, once it aborts.
    pub(super) abort_until: Option<Instant>,
    /// Connections to be read in this turn.
    reading: Vec<Key>,
    pub(super) expired: Vec<Key>,
    pub(super) shrink_at: Option<Instant>,
}

/// The course of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoleState {
    Running,
    Draining,
    Aborting,
    /// Ended after a drain or an abort.
    Drained,
    /// Ended at once.
    Stopped,
}

impl<A: App> AppRole<A> {
    /// Creates a role without listeners. `config` is used without the parts that concern the thread.
    pub(super) fn new(app: A, config: ReactorConfig, mailbox: RoleMailbox<A::Mail>) -> AppRole<A> {
        let ReactorConfig { limits, flush, turn, pool, .. } = config;
        let RoleMailbox { mailbox, sender } = mailbox;
        let to_self = sender.clone();
        let readiness = ReadinessSender::new(move |key, ready| {
            // If the reactor has ended, its connections have too.
            let _ = to_self.send(ReactorCommand::Ready(key, ready));
        });
        AppRole {
            app,
            connections_max: limits.connections_max,
            core: Core::new(Pool::new(pool), limits, turn, flush, Arc::new(ReactorStats::new()), readiness),
            acceptor: Acceptor::new(),
            mailbox,
            sender,
            loads: Arc::new(Loads::new(1)),
            index: 0,
            state: RoleState::Running,
            abort_until: None,
            reading: Vec::new(),
            expired: Vec::new(),
            shrink_at: None,
        }
    }

    pub(super) fn remote(&self) -> Remote<A::Mail> {
        Remote { sender: self.sender.clone() }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, RoleState::Drained | RoleState::Stopped)
    }

    /// Takes note of an event for a connection or a listener.
    #[inline]
    pub(super) fn take_event(&mut self, key: Key, ready: Ready) {
        if key.generation() >= DIAL_GENERATION {
            self.take_other_event(key);
        } else {
            self.core.on_ready(key, ready);
        }
    }

    /// Takes note of an event for a listener, or for a socket that connects.
    #[cold]
    fn take_other_event(&mut self, key: Key) {
        match key.generation() {
            LISTENER_GENERATION => self.acceptor.on_ready(key.slot()),
            _ => self.core.dials.on_ready(key.slot()),
        }
    }

    /// Returns whether there is work that no event reports.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        !self.core.again.is_empty()
            || self.acceptor.is_ready()
            || self.core.dials.is_ready()
            || self.app.has_posted()
    }

    /// Returns the earliest time at which there is something to do.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let core = &self.core;
        [
            core.timers.next_at(),
            core.flush_at,
            self.shrink_at,
            self.acceptor.paused_until(),
            self.abort_until,
            core.dials.next_at(),
            self.app.next_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // Accept.

    pub(super) fn open(&mut self, poller: &mut Poller, mut stream: Transport, peer: Peer, listener: usize) {
        let is_over = self.core.slots.len() >= self.connections_max;
        if is_over || matches!(self.state, RoleState::Aborting) || self.has_ended() {
            self.core.stats.refused.add(u64::from(is_over));
            if is_over {
                log_event!(ConnectionsFull { reactor: self.index, connections_max: self.connections_max });
            }
            self.loads.sub(self.index);
            return;
        }
        let Ok(key) = self.core.register(&mut stream, poller) else {
            // The poller has no room for it (epoll's max_user_watches): treated like a missing descriptor.
            self.core.stats.refused.add(1);
            self.loads.sub(self.index);
            return;
        };
        let (protocol, session) = self.app.open(key, peer, listener);
        let app_at = self.app.next_deadline(&session);
        if stream.is_handshaking() {
            stream.set_handshake_deadline(self.core.now, &self.core.limits);
        }
        self.core.open(key, stream, peer, protocol, session);
        self.core.note_accepted(key);
        if let Some(at) = app_at {
            self.core.arm_for_app(key, at);
        }
        if self.state == RoleState::Draining {
            // The connection was accepted before the drain began, by this reactor or another.
            self.core.drain(key);
        }
    }

    // Read and decode.

    pub(super) fn read(&mut self) {
        std::mem::swap(&mut self.reading, &mut self.core.again);
        for index in 0..self.reading.len() {
            self.core.read(self.reading[index], &mut self.app);
        }
        self.reading.clear();
    }

    // Messages from other threads.

    /// Handles the messages; `add` receives further roles for the reactor.
    pub(super) fn read_mail(&mut self, poller: &mut Poller, mut add: impl FnMut(Box<dyn Role>)) {
        let mut messages = 0;
        while messages < COMMANDS_PER_TURN
            && self.core.touched.len() < TOUCHED_PER_TURN
            && let Some(command) = self.mailbox.take()
        {
            messages += 1;
            match command {
                ReactorCommand::App(mail) => {
                    let AppRole { app, core, loads, index, .. } = self;
                    app.on_mail(&mut Conns { core, poller, loads, index: *index }, mail);
                }
                ReactorCommand::Add(role) => add(role),
                ReactorCommand::Adopt(stream, peer, listener) => self.open(poller, stream, peer, listener),
                ReactorCommand::Ready(key, ready) => self.take_event(key, ready),
                ReactorCommand::Drain => self.begin_drain(poller),
                ReactorCommand::Abort => self.begin_abort(poller),
                ReactorCommand::Stop => self.state = RoleState::Stopped,
            }
        }
        self.core.stats.letters.add(messages as u64);
        if messages > 0 && self.shrink_at.is_none() {
            // A message may return the last buffers of a burst when all connections have ended already.
            self.shrink_at = Some(self.core.now + SHRINK_EVERY);
        }
        self.core.after_touched(&self.app);
    }

    fn begin_drain(&mut self, poller: &mut Poller) {
        if self.state != RoleState::Running {
            return;
        }
        self.drain_connections();
        self.accept_last(poller);
    }

    fn drain_connections(&mut self) {
        self.state = RoleState::Draining;
        self.core.dials.close();
        self.for_each_conn(|core, _, key| core.drain(key));
    }

    fn begin_abort(&mut self, poller: &mut Poller) {
        self.acceptor.close(poller);
        self.core.dials.close();
        self.for_each_conn(|core, app, key| {
            if let Some((mut cx, _)) = core.conn_cx(key) {
                app.on_abort(&mut cx);
                cx.conn.give_up(CloseReason::Drained, cx.now);
            }
            core.after(key);
        });
        self.state = RoleState::Aborting;
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

    pub(super) fn schedule(&mut self, poller: &mut Poller) {
        let AppRole { app, core, loads, index, .. } = self;
        app.schedule(&mut Conns { core, poller, loads, index: *index });
    }

    // The end of a turn.

    pub(super) fn flush(&mut self, poller: &mut Poller) {
        self.core.flush(&mut self.app);
        if self.app.wants_turn_end() {
            let AppRole { app, core, loads, index, .. } = self;
            app.on_turn_end(&mut Conns { core, poller, loads, index: *index });
        }
    }

    pub(super) fn close_ended(&mut self, poller: &mut Poller) {
        while let Some((key, why)) = self.core.closing.pop() {
            if let Some(closed) = self.core.remove(key, &why, poller) {
                self.loads.sub(self.index);
                self.app.on_close(closed);
                // Its buffers are idle now. A turn that has only closed late connections is not a busy one.
                self.shrink_at = self.shrink_at.or(Some(self.core.now + SHRINK_EVERY));
            }
        }
        match self.state {
            RoleState::Draining | RoleState::Aborting if self.core.slots.is_empty() => {
                self.state = RoleState::Drained
            }
            // Peers had a moment to read their last answers.
            RoleState::Aborting if self.abort_until.is_none_or(|at| at <= self.core.now) => {
                self.state = RoleState::Drained;
            }
            RoleState::Running
            | RoleState::Draining
            | RoleState::Aborting
            | RoleState::Drained
            | RoleState::Stopped => {}
        }
    }

    pub(super) fn close_all(&mut self, poller: &mut Poller) {
        let mut keys = Vec::new();
        self.core.slots.keys_into(&mut keys);
        self.core.closing.extend(keys.into_iter().map(|key| (key, CloseReason::Drained)));
        self.close_ended(poller);
        self.acceptor.close(poller);
    }

    /// Takes back returned buffers, and schedules a check for unused ones if the turn was a busy one.
    #[inline]
    pub(super) fn collect(&mut self, is_busy: bool) {
        self.core.pool.collect();
        if self.shrink_at.is_none() && is_busy {
            self.shrink_at = Some(self.core.now + SHRINK_EVERY);
        }
    }

    pub(super) fn note_pool(&self) {
        let gauges = &self.core.stats.pool;
        let pool = self.core.pool.stats();
        gauges.hits.set(pool.hits);
        gauges.misses.set(pool.misses);
        gauges.outstanding.set(pool.outstanding);
        gauges.retained_bytes.set(pool.retained_bytes);
    }
}

impl<A> Role for AppRole<A>
where
    A: App + Send,
    A::Protocol: Send,
    A::Session: Send,
{
    fn begin(&mut self, tag: u32) {
        self.core.tag = tag;
        self.app.begin_thread();
    }

    fn on_ready(&mut self, key: Key, ready: Ready, now: Instant) {
        self.core.now = now;
        self.take_event(key, ready);
    }

    fn turn(&mut self, turn: &mut RoleTurn<'_>) -> bool {
        let RoleTurn { poller, now, stopped, added } = turn;
        self.core.now = *now;
        let is_busy = self.has_work();
        self.read();
        self.read_mail(poller, |role| added.push(role));
        self.run_timers(poller, *stopped);
        self.schedule(poller);
        self.flush(poller);
        self.close_ended(poller);
        self.collect(is_busy);
        self.core.stats.turns.add(1);
        !self.has_ended()
    }

    fn has_mail(&self) -> bool {
        self.mailbox.has_mail() || self.app.has_posted()
    }

    fn wants_turn(&self) -> bool {
        self.has_work()
    }

    fn next_at(&self) -> Option<Instant> {
        self.due_at()
    }

    fn drain(&mut self, now: Instant) {
        self.core.now = now;
        if self.state == RoleState::Running {
            self.drain_connections();
        }
    }

    fn close(&mut self, poller: &mut Poller) {
        self.close_all(poller);
    }
}

impl RoleHandle {
    /// Adds an app to the reactor, beside its main app, and returns the handle on it. The app shares the reactor's
    /// thread and its waits; its connections, timers, limits and mailbox are its own. It ends when its handle says so
    /// ([`Remote::drain`], [`Remote::stop`]), and with its reactor: a reactor that drains first ends its main app, and
    /// then drains the others.
    ///
    /// `busy_poll`, `gather` and `core` of `config` have no effect: they are the reactor's. `connections_max` is at
    /// most 2²⁰. A reactor has room for 2,048 apps; one more ends at once.
    ///
    /// # Errors
    ///
    /// `NotConnected`: the reactor has ended.
    pub fn add<A>(
        &self,
        mut config: ReactorConfig,
        app: impl FnOnce(Remote<A::Mail>) -> A,
    ) -> io::Result<Remote<A::Mail>>
    where
        A: App + Send + 'static,
        A::Protocol: Send,
        A::Session: Send,
    {
        let connections_max = &mut config.limits.connections_max;
        *connections_max = (*connections_max).min(ROLE_SLOTS_MAX);
        let mailbox = RoleMailbox::new(self.bell());
        let remote = mailbox.remote();
        let app = app(remote.clone());
        if self.send(Box::new(AppRole::new(app, config, mailbox))) {
            Ok(remote)
        } else {
            Err(io::Error::new(io::ErrorKind::NotConnected, "the reactor has ended"))
        }
    }
}
