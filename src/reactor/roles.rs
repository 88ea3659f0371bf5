//! Further roles of a reactor, beside its main app: several apps share one thread, one poller and one wait.
//!
//! A server's handlers call other services: the server's own reactor drives the connections of their client, with no
//! extra thread and no hop in between. Each role has connections, timers, limits and a mailbox of its own
//! (`app_role.rs`); the reactor runs each one that has something to do once per turn.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_poller::{Bell, Key, Poller, Ready};

/// The bit of a key's slot that marks the keys of further roles. The main app's keys never have it.
const ROLE_BIT: u32 = 1 << 31;
/// The number of bits for a connection's slot in the keys of further roles; the index of the role is above them.
const SLOT_BITS: u32 = 20;
/// The most connections of a further role.
pub(super) const ROLE_SLOTS_MAX: usize = 1 << SLOT_BITS;
/// The most further roles of one reactor.
const ROLES_MAX: usize = (ROLE_BIT >> SLOT_BITS) as usize;

/// Returns whether an event belongs to a further role, not to the main app.
#[inline]
pub(super) fn is_of_role(key: Key) -> bool {
    key.slot() as u32 & ROLE_BIT != 0
}

/// What a role needs for one turn.
pub(super) struct RoleTurn<'a> {
    pub(super) poller: &'a mut Poller,
    pub(super) now: Instant,
    /// The time for which the thread did not run before this turn, if it was long enough to misjudge peers.
    pub(super) stopped: Duration,
    /// Roles that were added through this one.
    pub(super) added: &'a mut Vec<Box<dyn Role>>,
}

/// A further role, whatever its app is.
pub(super) trait Role: Send {
    /// Called once on the reactor's thread, before anything else. The poller knows the role's keys with `tag` in
    /// their slots.
    fn begin(&mut self, tag: u32);

    /// Takes note of an event for a connection; the key is without the tag.
    fn on_ready(&mut self, key: Key, ready: Ready, now: Instant);

    /// Does all pending work. Returns false when the role has ended.
    fn turn(&mut self, turn: &mut RoleTurn<'_>) -> bool;

    /// Returns whether a message waits.
    fn has_mail(&self) -> bool;

    /// Returns whether there is work that no event reports.
    fn wants_turn(&self) -> bool;

    /// Returns the earliest time at which there is something to do.
    fn next_at(&self) -> Option<Instant>;

    /// Begins to end the role: what is queued is written, and the connections close.
    fn drain(&mut self, now: Instant);

    /// Closes all connections.
    fn close(&mut self, poller: &mut Poller);
}

/// A handle that adds roles to a reactor, from any thread: [`RoleHandle::add`], or a client's
/// [`Driver::on`](crate::client::Driver::on).
#[derive(Clone)]
pub struct RoleHandle {
    bell: Bell,
    send: Arc<SendRole>,
}

type SendRole = dyn Fn(Box<dyn Role>) -> bool + Send + Sync;

impl RoleHandle {
    /// Creates the handle from the reactor's bell and what sends a role to the reactor (false if it has ended).
    pub(super) fn new(
        bell: Bell,
        send: impl Fn(Box<dyn Role>) -> bool + Send + Sync + 'static,
    ) -> RoleHandle {
        RoleHandle { bell, send: Arc::new(send) }
    }

    /// Returns the bell that wakes the reactor, for the mailbox of a new role.
    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Sends a role to the reactor. Returns false if the reactor has ended.
    pub(super) fn send(&self, role: Box<dyn Role>) -> bool {
        (self.send)(role)
    }
}

impl fmt::Debug for RoleHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleHandle").finish_non_exhaustive()
    }
}

/// A role and when it needs its next turn.
struct Scheduled {
    role: Box<dyn Role>,
    /// The role has work for the current or the next turn.
    is_due: bool,
    next_at: Option<Instant>,
}

/// The further roles of one reactor, by index.
#[derive(Default)]
pub(super) struct Roles {
    /// An index that became free stays empty until the next role: roles are few, and added once.
    roles: Vec<Option<Scheduled>>,
}

impl Roles {
    /// Adds a role; it runs in the next [`Roles::turn`]. A role beyond the maximum is dropped, which its users see as
    /// the end of the reactor.
    #[cold]
    pub(super) fn add(&mut self, mut role: Box<dyn Role>) {
        let index = self.roles.iter().position(Option::is_none).unwrap_or(self.roles.len());
        if index >= ROLES_MAX {
            return;
        }
        role.begin(ROLE_BIT | (index as u32) << SLOT_BITS);
        let scheduled = Some(Scheduled { role, is_due: true, next_at: None });
        match self.roles.get_mut(index) {
            Some(free) => *free = scheduled,
            None => self.roles.push(scheduled),
        }
    }

    /// Returns whether there is no role.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.roles.is_empty()
    }

    /// Takes note of an event for a connection of a role.
    pub(super) fn on_ready(&mut self, key: Key, ready: Ready, now: Instant) {
        let slot = key.slot() as u32 & !ROLE_BIT;
        if let Some(Some(scheduled)) = self.roles.get_mut((slot >> SLOT_BITS) as usize) {
            let slot = slot & (ROLE_SLOTS_MAX as u32 - 1);
            scheduled.role.on_ready(Key::new(slot, key.generation()), ready, now);
            scheduled.is_due = true;
        }
    }

    /// Runs a turn of each role that has something to do.
    #[inline]
    pub(super) fn turn(&mut self, poller: &mut Poller, now: Instant, stopped: Duration) {
        if !self.roles.is_empty() {
            self.turn_due(poller, now, stopped);
        }
    }

    fn turn_due(&mut self, poller: &mut Poller, now: Instant, stopped: Duration) {
        let mut added = Vec::new();
        for entry in &mut self.roles {
            let Some(scheduled) = entry else { continue };
            let is_late = scheduled.next_at.is_some_and(|at| at <= now);
            if !(scheduled.is_due || is_late || scheduled.role.has_mail()) {
                continue;
            }
            if scheduled.role.turn(&mut RoleTurn { poller, now, stopped, added: &mut added }) {
                scheduled.is_due = scheduled.role.wants_turn();
                scheduled.next_at = scheduled.role.next_at();
            } else {
                scheduled.role.close(poller);
                *entry = None;
            }
        }
        while self.roles.last().is_some_and(Option::is_none) {
            self.roles.pop();
        }
        added.into_iter().for_each(|role| self.add(role));
    }

    /// Returns whether a message waits for a role.
    #[inline]
    pub(super) fn has_mail(&self) -> bool {
        !self.roles.is_empty() && self.scheduled().any(|scheduled| scheduled.role.has_mail())
    }

    /// Returns whether a role has work that no event reports.
    #[inline]
    pub(super) fn wants_turn(&self) -> bool {
        !self.roles.is_empty() && self.scheduled().any(|scheduled| scheduled.is_due)
    }

    /// Returns the earliest time at which a role has something to do.
    #[inline]
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.scheduled().filter_map(|scheduled| scheduled.next_at).min()
    }

    /// Begins to end all roles.
    pub(super) fn drain(&mut self, now: Instant) {
        for scheduled in self.roles.iter_mut().flatten() {
            scheduled.role.drain(now);
            scheduled.is_due = true;
        }
    }

    /// Ends all roles at once.
    pub(super) fn close(&mut self, poller: &mut Poller) {
        for mut scheduled in self.roles.drain(..).flatten() {
            scheduled.role.close(poller);
        }
    }

    fn scheduled(&self) -> impl Iterator<Item = &Scheduled> {
        self.roles.iter().flatten()
    }
}

#[cfg(test)]
mod tests;
