//! Accepting: how many in a turn, whom to give them to, and what to do when descriptors run out.
//!
//! With an edge-triggered listener a refusal for want of descriptors would never be heard of again, and with a
//! level-triggered one it would spin a core. So: a spare descriptor is given up to accept and close the one that
//! waits longest (it learns at once that there is no place), and accepting pauses for a while.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coreloop_poller::Poller;

use super::listener::Listener;
use super::socket::NetStream;
use super::{LISTENER_GENERATION, Remote};
use crate::context::Peer;

/// How long accepting rests when there is no descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

/// One listener of a reactor.
pub(super) struct Accepting {
    listener: Listener,
    /// Its number among all listeners of the server.
    pub(super) index: usize,
    /// The kernel said that somebody waits, and accept has not said otherwise since.
    is_ready: bool,
}

/// The listeners of a reactor.
pub(super) struct Acceptor {
    listeners: Vec<Accepting>,
    /// Held so that there is one to give up.
    spare: Option<File>,
    pub(super) paused_until: Option<Instant>,
}

/// What accepting one connection came to.
pub(super) enum Accepted {
    One(NetStream, Peer, usize),
    /// Nobody waits, or accepting is paused.
    None,
    /// There was no descriptor for it; accepting is paused.
    Paused,
}

impl Acceptor {
    pub(super) fn new() -> Acceptor {
        Acceptor { listeners: Vec::new(), spare: File::open("/dev/null").ok(), paused_until: None }
    }

    pub(super) fn add(
        &mut self,
        mut listener: Listener,
        index: usize,
        poller: &mut Poller,
    ) -> io::Result<()> {
        let key = coreloop_poller::Key::new(self.listeners.len() as u32, LISTENER_GENERATION);
        listener.register(poller, key)?;
        self.listeners.push(Accepting { listener, index, is_ready: true });
        Ok(())
    }

    pub(super) fn on_ready(&mut self, slot: usize) {
        if let Some(accepting) = self.listeners.get_mut(slot) {
            accepting.is_ready = true;
        }
    }

    /// Somebody may wait whom no event will tell of.
    pub(super) fn is_ready(&self) -> bool {
        self.paused_until.is_none() && self.listeners.iter().any(|accepting| accepting.is_ready)
    }

    /// Stops listening.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
    }

    /// Somebody may wait at any listener: the event may not have been seen yet.
    pub(super) fn on_all_ready(&mut self) {
        self.listeners.iter_mut().for_each(|accepting| accepting.is_ready = true);
    }

    /// Accepts one connection, from any listener where somebody waits.
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
                        // Refuse the one that waits longest, so that it does not hang.
                        self.spare = None;
                        drop(accepting.listener.accept());
                        self.spare = File::open("/dev/null").ok();
                        self.paused_until = Some(now + PAUSE);
                        return Accepted::Paused;
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => accepting.is_ready = false,
                        // Gone before it was accepted, or the network's own troubles (accept(2)): the next one.
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

/// How many connections each reactor of a server has: written when one is opened or closed, read by the one
/// that deals new ones out.
#[derive(Debug)]
pub struct Loads(Vec<AtomicUsize>);

impl Loads {
    /// For that many reactors, all without connections.
    pub fn new(reactors: usize) -> Loads {
        Loads((0..reactors).map(|_| AtomicUsize::new(0)).collect())
    }

    /// The reactor with the fewest; the first of several.
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

/// The acceptor's dealing: each new connection goes to the reactor with the fewest.
pub struct AcceptorShare<M> {
    /// The doors of all reactors, in the order of [`Loads`].
    pub remotes: Vec<Remote<M>>,
    /// How many connections each has.
    pub loads: Arc<Loads>,
    /// By the listener's number: its connections are not dealt, since the kernel has spread them already.
    pub keeps: Vec<bool>,
}

impl<M> AcceptorShare<M> {
    /// Which reactor the next connection from that listener goes to; `None` is to keep it.
    pub(super) fn next(&self, listener: usize) -> Option<usize> {
        let is_kept = self.keeps.get(listener).copied().unwrap_or(false);
        (!is_kept).then(|| self.loads.least())
    }
}
