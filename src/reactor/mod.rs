//! The event loop: one thread, its sockets, and the turn.
//!
//! A [`Reactor`] is generic over what it serves, an [`App`], and may have further apps beside it (`roles`). It handles
//! readiness, buffers and time, and knows nothing of methods. `app_role` does the work of each stage for one app,
//! `core` for one connection, `accept` for the listeners, `dials` for sockets that connect. `crate::transport` hides
//! what carries the bytes. Nothing here blocks except the wait.

#[cfg(feature = "server")]
mod accept;
#[cfg(not(feature = "server"))]
#[path = "no_accept.rs"]
mod accept;
mod app;
mod app_role;
mod config;
pub(crate) mod core;
mod dials;
mod loads;
mod roles;
#[cfg(feature = "client")]
mod shared_turns;
mod silent;
mod time;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_poller::{Poller, SpinBudget, os};

#[cfg(feature = "server")]
pub use accept::AcceptorShare;
pub use app::{App, ClosedConn, ConnCx, Conns};
pub use app_role::Remote;
pub use config::ReactorConfig;
#[doc(hidden)]
pub use dials::{DialId, DialRequest};
pub use loads::Loads;
pub use roles::RoleHandle;

use self::app_role::{AppRole, RoleMailbox, RoleState};
use self::roles::{Roles, is_of_role};
pub use crate::config::{Limits, TurnBudget};
pub use crate::conn::CloseReason;
pub use crate::policy::flush::FlushPolicy;
use crate::policy::gather::{Gather, TurnLoad};
use crate::stats::{ReactorStats, SAMPLE_TURNS, STAGES, micros};
use crate::threads::{self, ThreadRole};
#[cfg(not(feature = "bench-internals"))]
pub(crate) use crate::transport::Transport;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use crate::transport::Transport;
pub use crate::transport::{Address, AddressError};
#[cfg(feature = "server")]
pub use crate::transport::{Listener, UnixSocketAccess};
pub use crate::wire::proxy::ProxyHeaderError;
pub use coreloop_bufpool::PoolConfig;
pub use coreloop_poller::Key;

/// The most events taken from the kernel in one turn.
const EVENTS_MAX: usize = 1024;
/// A reactor that did not run for this long checks for events once more before it judges deadlines.
const STOPPED_MIN: Duration = Duration::from_millis(20);
/// The most time that the further roles of a drained reactor have to write what is queued.
const ROLES_DRAIN_MAX: Duration = Duration::from_millis(500);

/// One event loop: a single thread that owns its sockets.
///
/// ```
/// use coreloop::protocol::Chunk;
/// use coreloop::Peer;
/// use coreloop::reactor::Key;
/// use coreloop::reactor::{App, ConnCx, Reactor, ReactorConfig};
/// use coreloop::protocol::{Out, Protocol, Received};
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
    main: AppRole<A>,
    roles: Roles,
    poller: Poller,
    spin: SpinBudget,
    gather: Gather,
    pinned: Option<usize>,
    /// The time for which the reactor did not run before this turn, if it was long enough to misjudge peers.
    stopped: Duration,
    lap: Option<Instant>,
}

/// A reactor whose app does not exist yet: messages and roles can be sent to it already.
pub(crate) struct UnbuiltReactor<M> {
    poller: Poller,
    mailbox: RoleMailbox<M>,
}

impl<M: Send + 'static> UnbuiltReactor<M> {
    /// Creates the poller and the mailbox of a reactor.
    ///
    /// # Errors
    ///
    /// The system provides no event queue.
    pub fn new() -> io::Result<UnbuiltReactor<M>> {
        let poller = Poller::new(EVENTS_MAX)?;
        let mailbox = RoleMailbox::new(poller.bell());
        Ok(UnbuiltReactor { poller, mailbox })
    }

    /// Returns a handle on the reactor for other threads. If the reactor is never built, what was sent is dropped.
    pub fn remote(&self) -> Remote<M> {
        self.mailbox.remote()
    }

    /// Creates the reactor, without listeners.
    pub fn build<A: App<Mail = M>>(self, app: A, config: ReactorConfig) -> Reactor<A> {
        Reactor {
            spin: SpinBudget::new(config.busy_poll, os::allowed_cores().len()),
            gather: Gather::new(config.gather),
            pinned: config.core,
            main: AppRole::new(app, config, self.mailbox),
            roles: Roles::default(),
            poller: self.poller,
            stopped: Duration::ZERO,
            lap: None,
        }
    }
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
        let unbuilt = UnbuiltReactor::new()?;
        let app = app(unbuilt.remote());
        Ok(unbuilt.build(app, config))
    }

    /// Returns a handle on the reactor for other threads.
    pub fn remote(&self) -> Remote<A::Mail> {
        self.main.remote()
    }

    /// Returns the reactor's counters.
    #[doc(hidden)]
    pub fn stats(&self) -> Arc<ReactorStats> {
        self.main.core.stats.clone()
    }

    /// Returns the app.
    pub fn app_mut(&mut self) -> &mut A {
        &mut self.main.app
    }

    /// Runs turns until the reactor is stopped. A drained reactor then drains its further roles, for at most half a
    /// second.
    ///
    /// # Errors
    ///
    /// The thread cannot be bound to its core, or the wait itself fails. No peer can cause either.
    pub fn run(&mut self) -> io::Result<()> {
        self.begin()?;
        while !self.main.has_ended() {
            self.turn()?;
        }
        self.finish()
    }

    /// Prepares the current thread for the turns, before the first one.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        if let Some(core) = self.pinned {
            os::pin_current_thread(core)?;
        }
        threads::set_role(ThreadRole::Reactor);
        self.main.app.begin_thread();
        // Without this, a nap of 100 µs takes 150 µs.
        os::precise_sleep();
        // Roles that were added earlier run here from the first call on.
        self.read_mail();
        Ok(())
    }

    /// Closes what is left after the last turn.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.main.close_all(&mut self.poller);
        if self.main.state == RoleState::Drained && !self.roles.is_empty() {
            self.drain_roles()?;
        }
        self.roles.close(&mut self.poller);
        Ok(())
    }

    /// Runs one turn: wait, accept, read and decode, further roles, messages, timers, schedule, flush.
    ///
    /// # Errors
    ///
    /// The wait itself fails.
    pub fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        self.after_wait();
        Ok(())
    }

    pub(super) fn wait(&mut self) -> io::Result<()> {
        let is_sampled = self.main.core.stats.turns.value().is_multiple_of(SAMPLE_TURNS);
        // A client's calls must not wait so that more calls can gather, and the workers only while they have enough to do.
        let pause = if self.roles.is_empty() { self.main.app.pause() } else { Some(Duration::ZERO) };
        let may_gather = self.gather.is_on() && pause.is_none();
        let wants_turn = self.wants_turn();
        // One reading of the clock serves every use of the time between two turns; none is made if it is not needed.
        let ended = (is_sampled || may_gather || !wants_turn).then(Instant::now);
        let timeout = match ended {
            Some(ended) if !wants_turn => self.next_at().map(|at| at.saturating_duration_since(ended)),
            Some(_) | None => Some(Duration::ZERO),
        };
        if may_gather && let Some(ended) = ended {
            self.let_gather(ended, timeout);
        } else if let Some(pause) = pause {
            self.nap(pause.min(timeout.unwrap_or(Duration::MAX)));
        }
        let may_spin = timeout != Some(Duration::ZERO) && !self.spin.budget().is_zero();
        if !(may_spin && self.busy_poll(timeout)?) {
            let Reactor { main, roles, poller, .. } = self;
            poller.wait(timeout, || main.mailbox.has_mail() || roles.has_mail())?;
        }
        let before = self.main.core.now;
        self.main.core.now = Instant::now();
        if is_sampled && let Some(ended) = ended {
            let waited = self.main.core.now.duration_since(ended);
            self.main.core.stats.stage_ns[0].add(waited.as_nanos() as u64);
        }
        self.lap = is_sampled.then_some(self.main.core.now);
        self.note_events();
        if let Some(timeout) = timeout {
            let stopped = self.main.core.now.saturating_duration_since(before).saturating_sub(timeout);
            if stopped >= STOPPED_MIN {
                self.look_again(stopped)?;
            }
        }
        Ok(())
    }

    /// Handles a time for which the reactor did not run (a long call, a stopped process): events of that time may be
    /// missing although deadlines have passed.
    #[cold]
    fn look_again(&mut self, stopped: Duration) -> io::Result<()> {
        self.poller.wait(Some(Duration::ZERO), || false)?;
        self.note_events();
        self.stopped = stopped;
        Ok(())
    }

    pub(super) fn note_events(&mut self) {
        let Reactor { main, roles, poller, .. } = self;
        for index in 0..poller.len() {
            let (key, ready) = poller.event(index);
            if is_of_role(key) {
                roles.on_ready(key, ready, main.core.now);
            } else {
                main.take_event(key, ready);
            }
        }
    }

    /// Naps if that lets calls gather; never past the next deadline, and not while other work waits for a turn.
    #[inline]
    fn let_gather(&mut self, now: Instant, timeout: Option<Duration>) {
        let turn = TurnLoad {
            busy: now.saturating_duration_since(self.main.core.now),
            calls: std::mem::take(&mut self.main.core.taken),
            reads: std::mem::take(&mut self.main.core.taken_reads),
        };
        let nap = self.gather.on_turn(now, turn);
        if !nap.is_zero() {
            self.nap(nap.min(timeout.unwrap_or(Duration::MAX)));
        }
    }

    #[cold]
    fn nap(&mut self, nap: Duration) {
        if !nap.is_zero() && self.main.state == RoleState::Running {
            std::thread::sleep(nap);
            self.main.core.stats.naps.add(1);
        }
    }

    /// Returns whether there is work that no event reports.
    fn wants_turn(&self) -> bool {
        self.main.has_work() || self.roles.wants_turn()
    }

    /// Returns the earliest time at which there is something to do.
    fn next_at(&self) -> Option<Instant> {
        self.main.due_at().into_iter().chain(self.roles.next_at()).min()
    }

    /// Polls without sleeping for as long as the budget and the timeout allow. Returns true if there is something to
    /// do.
    fn busy_poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let budget = self.spin.budget();
        let until = Instant::now() + timeout.map_or(budget, |timeout| timeout.min(budget));
        loop {
            let events = self.poller.wait(Some(Duration::ZERO), || false)?;
            if events > 0 || self.main.mailbox.has_mail() || self.roles.has_mail() {
                self.spin.on_hit();
                return Ok(true);
            }
            if Instant::now() >= until {
                self.spin.on_empty();
                return Ok(false);
            }
        }
    }

    /// The steps of a turn after the wait.
    pub(super) fn after_wait(&mut self) {
        self.main.accept(&mut self.poller);
        self.end_stage(1);
        self.main.read();
        self.end_stage(2);
        let stopped = std::mem::take(&mut self.stopped);
        // Here the calls of inline handlers leave in the turn that made them, and the calls that a reply completes
        // are answered in the turn that read the reply.
        self.roles.turn(&mut self.poller, self.main.core.now, stopped);
        self.read_mail();
        self.end_stage(3);
        self.main.run_timers(&mut self.poller, stopped);
        self.end_stage(4);
        self.main.schedule(&mut self.poller);
        self.end_stage(5);
        self.main.flush(&mut self.poller);
        self.main.close_ended(&mut self.poller);
        self.end_stage(6);
        self.end_turn();
    }

    fn read_mail(&mut self) {
        let roles = &mut self.roles;
        self.main.read_mail(&mut self.poller, |role| roles.add(role));
    }

    /// Runs the further roles until they have ended, after the main app.
    fn drain_roles(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let until = now + ROLES_DRAIN_MAX;
        // Bounds the waits.
        self.main.abort_until = Some(until);
        self.roles.drain(now);
        while !self.roles.is_empty() && self.main.core.now < until {
            self.turn()?;
        }
        Ok(())
    }

    #[inline]
    fn end_stage(&mut self, stage: usize) {
        if let Some(began) = self.lap {
            let now = Instant::now();
            self.main.core.stats.stage_ns[stage].add(now.duration_since(began).as_nanos() as u64);
            self.lap = Some(now);
        }
    }

    #[inline]
    fn end_turn(&mut self) {
        let core = &self.main.core;
        core.stats.turns.add(1);
        core.stats.events.add(self.poller.len() as u64);
        self.main.collect(!self.poller.is_empty());
        if let Some(ended) = self.lap.take() {
            let core = &self.main.core;
            debug_assert_eq!(STAGES.len(), core.stats.stage_ns.len());
            core.stats.sampled_turns.add(1);
            core.stats.lag_us.record(micros(ended.duration_since(core.now)));
            self.main.note_pool();
        }
    }
}

#[cfg(test)]
mod tests;
