//! Accepting connections: how they are spread over reactors, and what happens when descriptors run out.
//!
//! When accept fails because no descriptor is free, an edge-triggered listener would never report the waiting
//! connection again, and a level-triggered one would spin a core. Therefore a spare descriptor is released to accept
//! and close the connection that has waited longest (its peer learns at once that it is refused), and accepting
//! pauses for a while.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_poller::{Key, Poller};

use super::app_role::{AppRole, LISTENER_GENERATION, Remote};
use super::loads::Loads;
use super::{App, Reactor};
use crate::context::Peer;
use crate::log_events::log_event;
use crate::transport::{
    Address, AddressError, BACKLOG, Listener, ReadinessSender, Transport, UnixSocketAccess,
};

/// How long accepting pauses when no descriptor is free.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a listener with TLS is looked at while too many handshakes are in progress. This reactor's own wake it.
const HANDSHAKES_PAUSE: Duration = Duration::from_millis(5);

/// One listener of a reactor.
struct Accepting {
    listener: Listener,
    /// The index among all listeners of the server.
    index: usize,
    /// The kernel has reported waiting connections, and no accept has returned would-block since.
    is_ready: bool,
}

impl Accepting {
    fn may_accept(&self) -> bool {
        self.is_ready && self.listener.has_room()
    }
}

/// The listeners of a reactor.
pub(super) struct Acceptor<M> {
    listeners: Vec<Accepting>,
    /// A spare descriptor, released when no other is free. Opened with the first listener.
    spare: Option<File>,
    paused_until: Option<Instant>,
    /// Connections wait for the end of other handshakes; they are looked at again then.
    handshakes_until: Option<Instant>,
    /// Set on the reactor that accepts for several.
    share: Option<AcceptorShare<M>>,
}

/// The result of accepting one connection.
enum Accepted {
    One(Transport, Peer, usize),
    /// No connection waits, or accepting is paused.
    None,
    /// The system had no descriptor or no memory for it; accepting is paused.
    Paused(io::Error),
}

impl<M> Acceptor<M> {
    pub(super) fn new() -> Acceptor<M> {
        Acceptor {
            listeners: Vec::new(),
            spare: None,
            paused_until: None,
            handshakes_until: None,
            share: None,
        }
    }

    /// Returns when accepting resumes, if it is paused.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until.or(self.handshakes_until)
    }

    fn add(
        &mut self,
        mut listener: Listener,
        index: usize,
        poller: &mut Poller,
        readiness: &ReadinessSender,
    ) -> io::Result<()> {
        let key = Key::new(self.listeners.len() as u32, LISTENER_GENERATION);
        listener.register(poller, key, readiness)?;
        if self.spare.is_none() {
            self.spare = File::open("/dev/null").ok();
        }
        self.listeners.push(Accepting { listener, index, is_ready: true });
        Ok(())
    }

    pub(super) fn on_ready(&mut self, slot: usize) {
        if let Some(accepting) = self.listeners.get_mut(slot) {
            accepting.is_ready = true;
        }
    }

    /// Returns whether connections may wait that no further event reports.
    pub(super) fn is_ready(&self) -> bool {
        self.paused_until.is_none() && self.listeners.iter().any(Accepting::may_accept)
    }

    /// Stops listening.
    pub(super) fn close(&mut self, poller: &mut Poller) {
        for mut accepting in self.listeners.drain(..) {
            accepting.listener.deregister(poller);
        }
    }

    /// Stops listening where another process listens too: what waits there is served by that process.
    fn close_shared(&mut self, poller: &mut Poller) {
        self.listeners.retain_mut(|accepting| {
            let is_ours = accepting.listener.is_ours();
            if !is_ours {
                accepting.listener.deregister(poller);
            }
            is_ours
        });
    }

    /// Lets no further connections arrive, and marks every listener as ready: an event may not have been read yet.
    fn begin_close(&mut self) {
        for accepting in &mut self.listeners {
            accepting.listener.ignore_attempts();
            accepting.is_ready = true;
        }
    }

    /// Accepts one connection, from any listener that is ready.
    fn accept(&mut self, now: Instant) -> Accepted {
        if self.paused_until.is_some_and(|until| until > now) {
            return Accepted::None;
        }
        (self.paused_until, self.handshakes_until) = (None, None);
        for accepting in &mut self.listeners {
            if accepting.is_ready && !accepting.listener.has_room() {
                self.handshakes_until = Some(now + HANDSHAKES_PAUSE);
            }
            while accepting.may_accept() {
                match accepting.listener.accept() {
                    Ok((stream, peer)) => return Accepted::One(stream, peer, accepting.index),
                    Err(error) if is_out_of_descriptors(&error) => {
                        // Refuse the connection that has waited longest, so that its peer does not hang.
                        self.spare = None;
                        drop(accepting.listener.accept());
                        self.spare = File::open("/dev/null").ok();
                        self.paused_until = Some(now + PAUSE);
                        return Accepted::Paused(error);
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => accepting.is_ready = false,
                        // The connection was gone before it was accepted, or there was a network error (accept(2)):
                        // try the next one.
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                        _ => {
                            self.paused_until = Some(now + PAUSE);
                            return Accepted::Paused(error);
                        }
                    },
                }
            }
        }
        Accepted::None
    }
}

impl<A: App> AppRole<A> {
    /// Accepts the connections that wait, up to the turn's budget.
    pub(super) fn accept(&mut self, poller: &mut Poller) {
        if !self.acceptor.is_ready() && self.acceptor.paused_until().is_none() {
            return;
        }
        for _ in 0..self.core.budget.accepts_max {
            match self.acceptor.accept(self.core.now) {
                Accepted::One(stream, peer, listener) => self.deal(poller, stream, peer, listener),
                Accepted::None => return,
                Accepted::Paused(error) => {
                    self.core.stats.accept_pauses.add(1);
                    log_event!(AcceptPaused { reactor: self.index, error: error.to_string() });
                    return;
                }
            }
        }
    }

    /// Passes a new connection to the reactor chosen for it.
    fn deal(&mut self, poller: &mut Poller, stream: Transport, peer: Peer, listener: usize) {
        let target =
            self.acceptor.share.as_ref().and_then(|share| share.next(listener)).unwrap_or(self.index);
        self.loads.add(target);
        match &self.acceptor.share {
            Some(share) if target != self.index => {
                if !share.remotes[target].adopt(stream, peer, listener) {
                    self.loads.sub(target);
                }
            }
            _ => self.open(poller, stream, peer, listener),
        }
    }

    /// Accepts the connections that wait, then stops listening: closing the listener would reset them. A backlog bounds
    /// their number; attempts to connect meanwhile are ignored, and are refused when they are repeated.
    pub(super) fn accept_last(&mut self, poller: &mut Poller) {
        self.acceptor.close_shared(poller);
        self.acceptor.begin_close();
        for _ in 0..BACKLOG {
            let Accepted::One(stream, peer, listener) = self.acceptor.accept(self.core.now) else { break };
            self.loads.add(self.index);
            self.open(poller, stream, peer, listener);
        }
        self.acceptor.close(poller);
    }
}

impl<A: App> Reactor<A> {
    /// Listens on `host:port`, `unix:PATH` or `memory:NAME`; returns the address with the actual port or name.
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
        let AppRole { acceptor, core, .. } = &mut self.main;
        acceptor.add(listener, index, &mut self.poller, &core.readiness)
    }

    /// Makes this one of several reactors: `index` is its position in the loads, and `deal`, given to the reactor
    /// that accepts, spreads new connections over all of them.
    pub fn share(&mut self, index: usize, loads: Arc<Loads>, deal: Option<AcceptorShare<A::Mail>>) {
        self.main.index = index;
        self.main.loads = loads;
        self.main.acceptor.share = deal;
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// How the accepting reactor assigns connections: each new one goes to the reactor with the fewest.
pub struct AcceptorShare<M> {
    /// The senders of all reactors, in the order of [`Loads`].
    pub remotes: Vec<Remote<M>>,
    /// The number of connections of each reactor.
    pub loads: Arc<Loads>,
    /// By listener index: whether its connections stay with the accepting reactor, since the kernel has already
    /// spread them.
    pub keeps: Vec<bool>,
}

impl<M> AcceptorShare<M> {
    /// Returns the reactor for the next connection from a listener; `None` keeps it on this reactor.
    pub(super) fn next(&self, listener: usize) -> Option<usize> {
        let is_kept = self.keeps.get(listener).copied().unwrap_or(false);
        (!is_kept).then(|| self.loads.least())
    }
}
