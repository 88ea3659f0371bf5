//! The handle of a reactor for agents: it adds their app when it is needed first.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::app::{self, AgentCommand};
use super::{Agent, AgentId};
use crate::reactor::{Remote, RoleHandle};

/// The most agents of one reactor.
const AGENTS_MAX: usize = 4096;

/// The reactor that agents run on. Clones share the app.
#[derive(Clone)]
pub(crate) struct AgentHandle {
    roles: RoleHandle,
    app: Arc<Mutex<Option<Remote<AgentCommand>>>>,
    /// The agents that were started and not given up.
    agents: Arc<AtomicUsize>,
}

impl AgentHandle {
    /// Creates a handle for a reactor. The agents of each handle have one app.
    pub(crate) fn new(roles: RoleHandle) -> AgentHandle {
        AgentHandle { roles, app: Arc::default(), agents: Arc::default() }
    }

    /// Creates a handle for a reactor whose main app runs agents.
    pub(super) fn of_app(app: Remote<AgentCommand>) -> AgentHandle {
        let roles = app.roles();
        AgentHandle { roles, app: Arc::new(Mutex::new(Some(app))), agents: Arc::default() }
    }

    /// Runs an agent on the reactor. It ends when the guard is dropped, at the latest with the reactor.
    ///
    /// # Errors
    ///
    /// The reactor has ended, or runs as many agents as it may.
    pub(crate) fn run(&self, agent: impl Agent + 'static) -> io::Result<AgentGuard> {
        let count = AgentCount::of(&self.agents)?;
        let mut app = self.app.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = AgentCommand::Run(app::next_agent(), Box::new(agent));
        let AgentCommand::Run(agent, _) = &command else { unreachable!("made above") };
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

#[cfg(test)]
impl AgentHandle {
    /// Creates a handle whose agents look up names with this configuration, for as long as one is used.
    pub(super) fn with_name_config(roles: RoleHandle, config: super::NameConfig) -> AgentHandle {
        let remote = app::add_to(&roles).unwrap();
        assert!(remote.mail(AgentCommand::NameConfig(Arc::new(config))).is_ok());
        let handle = AgentHandle::new(roles);
        *handle.app.lock().unwrap() = Some(remote);
        handle
    }
}

/// Ends an agent when it is dropped.
pub(crate) struct AgentGuard {
    agent: AgentId,
    remote: Remote<AgentCommand>,
    _count: AgentCount,
}

/// One of at most [`AGENTS_MAX`] agents.
struct AgentCount(Arc<AtomicUsize>);

impl AgentCount {
    fn of(agents: &Arc<AtomicUsize>) -> io::Result<AgentCount> {
        let count = AgentCount(agents.clone());
        if count.0.fetch_add(1, Ordering::Relaxed) < AGENTS_MAX {
            Ok(count)
        } else {
            Err(io::Error::other(format!("a reactor runs at most {AGENTS_MAX} agents")))
        }
    }
}

impl Drop for AgentCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AgentGuard {
    /// Ends the agent; the function is called when it has ended. It is dropped if the reactor has ended.
    pub(crate) fn end(self, done: Box<dyn FnOnce() + Send>) {
        drop(self.remote.mail(AgentCommand::End(self.agent, Some(done))));
    }
}

impl Drop for AgentGuard {
    fn drop(&mut self) {
        // A second request to end it has no effect.
        drop(self.remote.mail(AgentCommand::End(self.agent, None)));
    }
}
