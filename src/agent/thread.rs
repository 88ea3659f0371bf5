//! A thread whose reactor runs agents only: for what must outlive the reactors of a server, or would take too much of their
//! time.

use std::io;

use super::AgentHandle;
use super::app::{self, AgentCommand};
use crate::reactor::Remote;
use crate::threads;

/// The thread. It ends when this is dropped, and its agents with it.
pub(crate) struct AgentThread {
    remote: Remote<AgentCommand>,
    agents: AgentHandle,
}

impl AgentThread {
    /// Starts a thread with that name.
    ///
    /// # Errors
    ///
    /// The system provides no event queue, or no thread.
    pub(crate) fn start(name: &str) -> io::Result<AgentThread> {
        let mut reactor = app::reactor()?;
        let remote = reactor.remote();
        threads::detached(name, move || {
            // If it ends early, with an error or a panic, so do its agents, and the ends of them that are awaited.
            drop(reactor.run());
        })?;
        Ok(AgentThread { agents: AgentHandle::of_app(remote.clone()), remote })
    }

    /// Returns the handle to run agents with.
    pub(crate) fn agents(&self) -> &AgentHandle {
        &self.agents
    }
}

impl Drop for AgentThread {
    fn drop(&mut self) {
        self.remote.stop();
    }
}
