//! A reactor that lives on another one's thread.
//!
//! A server's handlers call other services: their client's connections can be driven by the server's own reactor, with
//! no thread and no hop in between. The two stay strangers. A [`Guest`] has its own poller, table and timers; its host
//! watches the guest's poller like a socket, and gives it a turn when that has something to report, when a letter has
//! come for it, or when a time that it named has come.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_poller::{Key, Poller};

use super::app::App;
use super::remote::{ReactorCommand, Remote};
use super::{Reactor, ReactorState};

/// Passes of a guest in one turn of its host: more wait for the next turn, so that the host's own peers have theirs.
const PASSES_MAX: usize = 4;

/// When a guest wants its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTurn {
    /// In the host's next turn, without a sleep before it.
    AtOnce,
    /// When something happens to it, and by that time at the latest.
    By(Option<Instant>),
    /// Never: it has ended.
    Over,
}

/// Whatever can live on a reactor's thread beside the reactor's own connections: any other [`Reactor`].
pub trait Guest: Send {
    /// Has the host's poller watch the guest's. It is on the thread of its host from here on.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn move_in(&mut self, poller: &mut Poller, key: Key) -> io::Result<()>;

    /// Does what there is to do, without waiting.
    ///
    /// # Errors
    ///
    /// The guest's own wait fails; it is let go then.
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
            // What the kernel still holds back gives no new edge: it must be fetched now.
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

/// A way to bring a guest to a reactor, from any thread.
#[derive(Clone)]
pub struct Host(Arc<TakeIn>);

type TakeIn = dyn Fn(Box<dyn Guest>) -> Result<(), Box<dyn Guest>> + Send + Sync;

impl Host {
    /// Brings the guest; it comes back if the reactor has ended. It ends with its host at the latest.
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
    /// The reactor as a host for others.
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
                    unreachable!("the letter that was sent")
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
    /// A room that was left stays empty: guests are few, and come once.
    rooms: Vec<Option<Tenant>>,
}

impl Guests {
    /// Takes one in; it has its first turn in this one.
    pub(super) fn add(&mut self, mut guest: Box<dyn Guest>, poller: &mut Poller, generation: u32) {
        let room = self.rooms.iter().position(Option::is_none).unwrap_or(self.rooms.len());
        if room == self.rooms.len() {
            self.rooms.push(None);
        }
        // Without a place in the poller it cannot live here: dropped, it tells those who wait for it.
        if guest.move_in(poller, Key::new(room as u32, generation)).is_ok() {
            self.rooms[room] = Some(Tenant { guest, next: NextTurn::AtOnce });
        }
    }

    /// Nobody has ever moved in.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// The kernel said that one has something to do.
    pub(super) fn on_ready(&mut self, room: usize) {
        if let Some(Some(tenant)) = self.rooms.get_mut(room) {
            tenant.next = NextTurn::AtOnce;
        }
    }

    /// Gives a turn to each whose time it is.
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

    /// One of them wants a turn without a sleep before it.
    #[inline]
    pub(super) fn wants_turn(&self) -> bool {
        !self.rooms.is_empty()
            && self.rooms.iter().flatten().any(|tenant| matches!(tenant.next, NextTurn::AtOnce))
    }

    /// The first time that one of them named.
    #[inline]
    pub(super) fn next_at(&self) -> Option<Instant> {
        let by = |tenant: &Tenant| match tenant.next {
            NextTurn::By(at) => at,
            NextTurn::AtOnce | NextTurn::Over => None,
        };
        self.rooms.iter().flatten().filter_map(by).min()
    }
}
