//! A reactor that runs on the thread of another reactor.
//!
//! A server's handlers call other services: the server's own reactor can drive the connections of their client, with
//! no extra thread and no hop in between. The two remain separate. A [`Guest`] has its own poller, table and timers;
//! its host watches the guest's poller like a socket, and runs a turn of the guest when the poller has something to
//! report, when a message has arrived for the guest, or at a time that the guest has returned.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_poller::{Key, Poller};

use super::app::App;
use super::remote::{ReactorCommand, Remote};
use super::{Reactor, ReactorState};

/// Passes of a guest in one turn of its host. Further passes wait for the next turn, so that the host's own peers are
/// served.
const PASSES_MAX: usize = 4;

/// When a guest needs its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTurn {
    /// In the host's next turn, without a sleep before it.
    AtOnce,
    /// At the guest's next event, and by that time at the latest.
    By(Option<Instant>),
    /// Never: the guest has ended.
    Over,
}

/// A task that can run on a reactor's thread beside the reactor's own connections: any other [`Reactor`].
pub trait Guest: Send {
    /// Registers the guest's poller with the host's poller. From here on the guest is on the host's thread.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn move_in(&mut self, poller: &mut Poller, key: Key) -> io::Result<()>;

    /// Does all pending work, without blocking.
    ///
    /// # Errors
    ///
    /// The guest's own wait fails; the host drops the guest then.
    fn turn(&mut self) -> io::Result<NextTurn>;
}

impl<A> Guest for Reactor<A>
where
    A: App + Send,
    A::Protocol: Send,
    A::Session: Send,
{
    fn move_in(&mut self, poller: &mut Poller, key: Key) -> io::Result<()> {
        self.app.begin_thread();
        poller.watch(&self.core.poller, key)
    }

    fn turn(&mut self) -> io::Result<NextTurn> {
        self.core.poller.rouse();
        for _ in 0..PASSES_MAX {
            self.pass(Some(Duration::ZERO))?;
            if self.state == ReactorState::Stopped {
                self.close_all();
                return Ok(NextTurn::Over);
            }
            // Events that the kernel still holds cause no new edge: they must be fetched now.
            let is_drained = self.core.poller.len() < super::EVENTS_MAX;
            let next = self.next_at();
            let is_idle = is_drained && !self.wants_turn() && next.is_none_or(|at| at > self.core.now);
            let mailbox = &self.mailbox;
            if is_idle && self.core.poller.doze(|| mailbox.has_mail()) {
                return Ok(NextTurn::By(next));
            }
        }
        Ok(NextTurn::AtOnce)
    }
}

/// A handle that adds guests to a reactor, from any thread.
#[derive(Clone)]
pub struct Host(Arc<TakeIn>);

type TakeIn = dyn Fn(Box<dyn Guest>) -> Result<(), Box<dyn Guest>> + Send + Sync;

impl Host {
    /// Adds a guest, which ends with its host at the latest. Returns the guest if the reactor has ended.
    pub fn take_in(&self, guest: Box<dyn Guest>) -> Result<(), Box<dyn Guest>> {
        (self.0)(guest)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

impl<M: Send + 'static> Remote<M> {
    /// Returns the reactor as a host for guests.
    pub fn host(&self) -> Host {
        let remote = self.clone();
        Host(Arc::new(move |guest| {
            remote.sender.send(ReactorCommand::Guest(guest)).map_err(|command| match command {
                ReactorCommand::Guest(guest) => guest,
                ReactorCommand::App(_)
                | ReactorCommand::Adopt(..)
                | ReactorCommand::Drain
                | ReactorCommand::Abort
                | ReactorCommand::Stop => {
                    unreachable!("the message that was sent")
                }
            })
        }))
    }
}

struct Tenant {
    guest: Box<dyn Guest>,
    next: NextTurn,
}

/// The guests of one reactor.
#[derive(Default)]
pub(super) struct Guests {
    /// A free slot stays empty until the next guest: guests are few, and added once.
    rooms: Vec<Option<Tenant>>,
}

impl Guests {
    /// Adds a guest; its first turn is in the current turn.
    pub(super) fn add(&mut self, mut guest: Box<dyn Guest>, poller: &mut Poller, generation: u32) {
        let room = self.rooms.iter().position(Option::is_none).unwrap_or(self.rooms.len());
        if room == self.rooms.len() {
            self.rooms.push(None);
        }
        // A guest that cannot be registered with the poller cannot run here. Dropping it notifies the callers that
        // wait for it.
        if guest.move_in(poller, Key::new(room as u32, generation)).is_ok() {
            self.rooms[room] = Some(Tenant { guest, next: NextTurn::AtOnce });
        }
    }

    /// Returns whether no guest was ever added.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Takes note of an event for a guest.
    pub(super) fn on_ready(&mut self, room: usize) {
        if let Some(Some(tenant)) = self.rooms.get_mut(room) {
            tenant.next = NextTurn::AtOnce;
        }
    }

    /// Runs a turn of each guest that is due.
    #[inline]
    pub(super) fn turn(&mut self, now: Instant) {
        if !self.rooms.is_empty() {
            self.turn_due(now);
        }
    }

    fn turn_due(&mut self, now: Instant) {
        for room in &mut self.rooms {
            let Some(tenant) = room else { continue };
            let is_due = match tenant.next {
                NextTurn::AtOnce => true,
                NextTurn::By(at) => at.is_some_and(|at| at <= now),
                NextTurn::Over => false,
            };
            if is_due {
                tenant.next = tenant.guest.turn().unwrap_or(NextTurn::Over);
                if tenant.next == NextTurn::Over {
                    *room = None;
                }
            }
        }
    }

    /// Returns whether a guest needs a turn without a sleep before it.
    #[inline]
    pub(super) fn wants_turn(&self) -> bool {
        !self.rooms.is_empty()
            && self.rooms.iter().flatten().any(|tenant| matches!(tenant.next, NextTurn::AtOnce))
    }

    /// Returns the earliest time at which a guest needs a turn.
    #[inline]
    pub(super) fn next_at(&self) -> Option<Instant> {
        let by = |tenant: &Tenant| match tenant.next {
            NextTurn::By(at) => at,
            NextTurn::AtOnce | NextTurn::Over => None,
        };
        self.rooms.iter().flatten().filter_map(by).min()
    }
}
