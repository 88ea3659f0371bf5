//! Accepting connections: how they are spread over reactors, and what happens when descriptors run out.
//!
//! When accept fails because no descriptor is free, an edge-triggered listener would never report the waiting
//! connection again, and a level-triggered one would spin a core. Therefore a spare descriptor is released to accept
//! and close the connection that has waited longest (its peer learns at once that it is refused), and accepting
//! pauses for a while.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coreloop_poller::{Key, Poller};

use super::app_role::Remote;
use crate::context::Peer;
use crate::transport::{Listener, ReadinessSender, Transport};

/// How long accepting pauses when no descriptor is free.
const PAUSE: Duration = Duration::from_millis(50);

/// The generation of listener keys; the generations of connections start at the other end.
pub(super) const LISTENER_GENERATION: u32 = u32::MAX - 1;

/// One listener of a reactor.
pub(super) struct Accepting {
    listener: Listener,
    /// The index among all listeners of the server.
    pub(super) index: usize,
    /// The kernel has reported waiting connections, and no accept has returned would-block since.
    is_ready: bool,
}

/// The listeners of a reactor.
pub(super) struct Acceptor {
    listeners: Vec<Accepting>,
    /// A spare descriptor, released when no other is free. Opened with the first listener.
    spare: Option<File>,
    pub(super) paused_until: Option<Instant>,
}

/// The result of accepting one connection.
pub(super) enum Accepted {
    One(Transport, Peer, usize),
    /// No connection waits, or accepting is paused.
    None,
    /// No descriptor was free; accepting is paused.
    Paused,
}

impl Acceptor {
    pub(super) fn new() -> Acceptor {
        Acceptor { listeners: Vec::new(), spare: None, paused_until: None }
    }

    pub(super) fn add(
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
        self.paused_until.is_none() && self.listeners.iter().any(|accepting| accepting.is_ready)
    }

    /// Stops listening.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
    }

    /// Marks every listener as ready: an event may not have been read yet.
    pub(super) fn on_all_ready(&mut self) {
        self.listeners.iter_mut().for_each(|accepting| accepting.is_ready = true);
    }

    /// Accepts one connection, from any listener that is ready.
    pub(super) fn accept(&mut self, now: Instant) -> Accepted {
        if self.paused_until.is_some_and(|until| until > now) {
            return Accepted::None;
        }
        self.paused_until = None;
        for accepting in &mut self.listeners {
            while accepting.is_ready {
                match accepting.listener.accept() {
                    Ok((stream, peer)) => return Accepted::One(stream, peer, accepting.index),
                    Err(error) if is_out_of_descriptors(&error) => {
                        // Refuse the connection that has waited longest, so that its peer does not hang.
                        self.spare = None;
                        drop(accepting.listener.accept());
                        self.spare = File::open("/dev/null").ok();
                        self.paused_until = Some(now + PAUSE);
                        return Accepted::Paused;
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => accepting.is_ready = false,
                        // The connection was gone before it was accepted, or there was a network error (accept(2)):
                        // try the next one.
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                        _ => {
                            self.paused_until = Some(now + PAUSE);
                            return Accepted::Paused;
                        }
                    },
                }
            }
        }
        Accepted::None
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// The number of connections of each reactor of a server. Each reactor writes its own count; the one that assigns new
/// connections reads all of them.
#[derive(Debug)]
pub struct Loads(Vec<AtomicUsize>);

impl Loads {
    /// Creates the counts for `reactors` reactors, all without connections.
    pub fn new(reactors: usize) -> Loads {
        Loads((0..reactors).map(|_| AtomicUsize::new(0)).collect())
    }

    /// Returns the reactor with the fewest connections; of several, the first.
    fn least(&self) -> usize {
        let loads = self.0.iter().map(|load| load.load(Ordering::Relaxed));
        loads.enumerate().min_by_key(|(_, load)| *load).map_or(0, |(index, _)| index)
    }

    pub(super) fn add(&self, reactor: usize) {
        self.0[reactor].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, reactor: usize) {
        self.0[reactor].fetch_sub(1, Ordering::Relaxed);
    }
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
