//! The handle of a reactor for resolvers.

use std::fmt;

#[cfg(feature = "discovery")]
use crate::agent::AgentHandle;
use crate::reactor::RoleHandle;

/// The reactor that watches and registrations run on: that of a client's driver, or a server's first one. Clones share
/// what the built-in resolvers have there.
#[derive(Clone)]
pub struct DiscoveryHandle {
    roles: RoleHandle,
    #[cfg(feature = "discovery")]
    agents: AgentHandle,
}

impl DiscoveryHandle {
    /// Creates a handle for a reactor. All watches and registrations of one reactor should share it: the built-in
    /// resolvers add one app to the reactor for each handle.
    pub fn new(roles: RoleHandle) -> DiscoveryHandle {
        DiscoveryHandle {
            #[cfg(feature = "discovery")]
            agents: AgentHandle::new(roles.clone()),
            roles,
        }
    }

    /// Returns the handle that adds roles to the reactor, for resolvers that run on it.
    pub fn roles(&self) -> &RoleHandle {
        &self.roles
    }

    /// Returns the handle that runs agents on the reactor.
    #[cfg(feature = "discovery")]
    pub(crate) fn agents(&self) -> &AgentHandle {
        &self.agents
    }
}

impl fmt::Debug for DiscoveryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoveryHandle").finish_non_exhaustive()
    }
}
