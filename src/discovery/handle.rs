//! The handle of a reactor for resolvers: it adds the app of the built-in resolvers when it is needed first.

use std::fmt;
#[cfg(feature = "discovery")]
use std::io;
#[cfg(feature = "discovery")]
use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(feature = "discovery")]
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "discovery")]
use super::agent::{Agent, AgentId};
#[cfg(feature = "discovery")]
use super::app::{self, DiscoveryCommand};
#[cfg(feature = "discovery")]
use crate::reactor::Remote;
use crate::reactor::RoleHandle;

/// The most watches and registrations of one reactor.
#[cfg(feature = "discovery")]
const AGENTS_MAX: usize = 4096;

/// The reactor that watches and registrations run on: that of a client's driver, or a server's first one. Clones share
/// what the built-in resolvers have there.
#[derive(Clone)]
pub struct DiscoveryHandle {
    roles: RoleHandle,
    #[cfg(feature = "discovery")]
    app: Arc<Mutex<Option<Remote<DiscoveryCommand>>>>,
    /// The agents that were started and not given up.
    #[cfg(feature = "discovery")]
    agents: Arc<AtomicUsize>,
}

impl DiscoveryHandle {
    /// Creates a handle for a reactor. All watches and registrations of one reactor should share it: the built-in
    /// resolvers add one app to the reactor for each handle.
    pub fn new(roles: RoleHandle) -> DiscoveryHandle {
        DiscoveryHandle {
            roles,
            #[cfg(feature = "discovery")]
            app: Arc::default(),
            #[cfg(feature = "discovery")]
            agents: Arc::default(),
        }
    }

    /// Returns the handle that adds roles to the reactor, for resolvers that run on it.
    pub fn roles(&self) -> &RoleHandle {
        &self.roles
    }
}

#[cfg(feature = "discovery")]
impl DiscoveryHandle {
    /// Runs an agent on the reactor. It ends when the guard is dropped, at the latest with the reactor.
    ///
    /// # Errors
    ///
    /// The reactor has ended, or runs as many agents as it may.
    pub(crate) fn run(&self, agent: impl Agent + 'static) -> io::Result<AgentGuard> {
        let count = AgentCount::of(&self.agents)?;
        let mut app = self.app.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = DiscoveryCommand::Run(app::next_agent(), Box::new(agent));
        let DiscoveryCommand::Run(agent, _) = &command else { unreachable!("made above") };
        let agent = *agent;
        if let Some(remote) = &*app {
            match remote.mail(command) {
                Ok(()) => return Ok(AgentGuard { agent, remote: remote.clone(), _count: count }),
                // It has ended; the reactor may run on.
                Err(back) => command = back,
            }
        }
        let remote = app::add_to(&self.roles)?;
        *app = Some(remote.clone());
        match remote.mail(command) {
            Ok(()) => Ok(AgentGuard { agent, remote, _count: count }),
            Err(_) => Err(io::Error::new(io::ErrorKind::NotConnected, "the reactor has ended")),
        }
    }
}

impl fmt::Debug for DiscoveryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoveryHandle").finish_non_exhaustive()
    }
}

/// Ends an agent when it is dropped.
#[cfg(feature = "discovery")]
pub(crate) struct AgentGuard {
    agent: AgentId,
    remote: Remote<DiscoveryCommand>,
    _count: AgentCount,
}

/// One of at most [`AGENTS_MAX`] agents.
#[cfg(feature = "discovery")]
struct AgentCount(Arc<AtomicUsize>);

#[cfg(feature = "discovery")]
impl AgentCount {
    fn of(agents: &Arc<AtomicUsize>) -> io::Result<AgentCount> {
        let count = AgentCount(agents.clone());
        if count.0.fetch_add(1, Ordering::Relaxed) < AGENTS_MAX {
            Ok(count)
        } else {
            Err(io::Error::other(format!("a reactor runs at most {AGENTS_MAX} watches and registrations")))
        }
    }
}

#[cfg(feature = "discovery")]
impl Drop for AgentCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(feature = "discovery")]
impl AgentGuard {
    /// Ends the agent; the function is called when it has ended. It is dropped if the reactor has ended.
    pub(crate) fn end(self, done: Box<dyn FnOnce() + Send>) {
        drop(self.remote.mail(DiscoveryCommand::End(self.agent, Some(done))));
    }
}

#[cfg(feature = "discovery")]
impl Drop for AgentGuard {
    fn drop(&mut self) {
        // A second request to end it has no effect.
        drop(self.remote.mail(DiscoveryCommand::End(self.agent, None)));
    }
}
