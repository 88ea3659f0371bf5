//! The listening sockets that a server has been given, and those that it can pass on.
//!
//! The server and its admin listener share one store: both take their sockets from it, and both add theirs to it.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::SockRef;

use crate::reactor::{Address, Listener};
use crate::transport::Ownership;

/// A socket that can be passed on.
#[derive(Debug)]
pub(super) struct PassedOn {
    /// The address with which it is configured.
    pub(super) name: String,
    /// A duplicate of the listener's.
    pub(super) socket: OwnedFd,
    /// The ownership of the listener.
    pub(super) ownership: Ownership,
    /// The process that has the socket removes the file of a Unix socket in the end.
    pub(super) is_owned: bool,
}

/// A socket that was given, and has no listener yet.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) socket: OwnedFd,
    pub(super) is_owned: bool,
}

/// The sockets of an address that were taken.
#[derive(Debug)]
struct Taken {
    /// The address of the listener.
    address: String,
    /// The name under which they were given.
    name: String,
    is_owned: bool,
}

#[derive(Debug, Default)]
struct Sockets {
    given: Vec<Given>,
    /// What was taken of it.
    taken: Vec<Taken>,
    passed_on: Vec<PassedOn>,
    /// A new process may take over.
    is_passing: bool,
    /// The process that the sockets come from keeps those that it has, and no others: a server adds none.
    is_fixed: bool,
}

/// The sockets, shared by a server and its admin listener.
#[derive(Clone, Default)]
pub(crate) struct SocketStore(Arc<Mutex<Sockets>>);

impl SocketStore {
    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds sockets to take.
    pub(super) fn give(&self, given: Vec<Given>) {
        let mut sockets = self.sockets();
        sockets.is_fixed |= given.iter().any(|given| !given.is_owned);
        sockets.given.extend(given);
    }

    /// Keeps duplicates of all sockets, to pass them on.
    pub(super) fn pass_on(&self) {
        self.sockets().is_passing = true;
    }

    /// Returns listeners for the sockets that were given for an address: none if there are none.
    ///
    /// # Errors
    ///
    /// A socket is of another kind than the address.
    pub(crate) fn take(&self, address: &Address) -> io::Result<Vec<Listener>> {
        let mut sockets = self.sockets();
        let name = address.to_string();
        let (taken, left) = std::mem::take(&mut sockets.given).into_iter().partition::<Vec<_>, _>(|given| {
            let local = || SockRef::from(&given.socket).local_addr().ok()?.as_socket();
            given.name == name || local().is_some_and(|local| local.to_string() == name)
        });
        sockets.given = left;
        sockets.taken.extend(taken.iter().map(|given| Taken {
            address: name.clone(),
            name: given.name.clone(),
            is_owned: given.is_owned,
        }));
        let ownership = Ownership::of_another();
        let adopt = |given: Given| Listener::adopt(given.socket, address, ownership.clone());
        taken.into_iter().map(adopt).collect()
    }

    /// Adds listeners on the port of these until there are `count`, unless their number is fixed.
    pub(crate) fn add(&self, these: &mut Vec<Listener>, count: usize) -> io::Result<()> {
        if !self.sockets().is_fixed {
            let further = Listener::bind_further(these, count.saturating_sub(these.len()))?;
            these.extend(further);
        }
        Ok(())
    }

    /// Notes the listeners of an address, so that they can be passed on.
    pub(crate) fn note(&self, address: &Address, listeners: &[Listener]) -> io::Result<()> {
        let mut sockets = self.sockets();
        if !sockets.is_passing {
            return Ok(());
        }
        let name = address.to_string();
        let taken = sockets.taken.iter().find(|taken| taken.address == name);
        let is_owned = taken.is_none_or(|taken| taken.is_owned);
        for listener in listeners {
            if let Some(socket) = listener.duplicate()? {
                let ownership = listener.ownership().clone();
                sockets.passed_on.push(PassedOn { name: name.clone(), socket, ownership, is_owned });
            }
        }
        Ok(())
    }

    /// Returns the names of the sockets that were taken.
    pub(super) fn taken(&self) -> Vec<String> {
        let mut taken: Vec<String> = self.sockets().taken.iter().map(|taken| taken.name.clone()).collect();
        taken.sort();
        taken.dedup();
        taken
    }

    /// Returns the sockets to pass on. Those that were taken are this process's now.
    pub(super) fn passed_on(&self) -> Vec<PassedOn> {
        let mut sockets = self.sockets();
        let passed_on = std::mem::take(&mut sockets.passed_on);
        passed_on.iter().filter(|socket| socket.is_owned).for_each(|socket| socket.ownership.set(true));
        passed_on
    }

    /// Closes the sockets that were given and not taken; returns their names.
    pub(super) fn close_rest(&self) -> Vec<String> {
        std::mem::take(&mut self.sockets().given).into_iter().map(|given| given.name).collect()
    }
}

impl fmt::Debug for SocketStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketStore").finish_non_exhaustive()
    }
}
