//! In place of `names.rs` with the feature `discovery`: names in addresses, asked for by DNS on the reactor.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use super::ClientCommand;
use crate::agent::AgentGuard;
use crate::agent::dns::look_up_host;
use crate::client::driver::DriverShared;
use crate::reactor::Remote;

/// The lookups of one driver.
#[derive(Default)]
pub(super) struct NameLookups {
    /// The lookups, by name; a lookup ends with its guard. No more than the driver has endpoints.
    running: BTreeMap<String, AgentGuard>,
}

impl NameLookups {
    /// Looks up a name (`host:port`) until then. The result is sent as [`ClientCommand::Resolved`].
    ///
    /// # Errors
    ///
    /// The address is not valid, or the reactor ends.
    pub(super) fn look_up(
        &mut self,
        name: String,
        until: Instant,
        shared: &DriverShared,
        remote: &Remote<ClientCommand>,
    ) -> io::Result<()> {
        if self.running.contains_key(&name) {
            return Ok(());
        }
        let (found_name, found_remote) = (name.clone(), remote.clone());
        let guard = look_up_host(&name, until, shared.discovery(remote).agents(), move |found| {
            let result = found.map_err(|why| io::Error::new(io::ErrorKind::NotFound, why));
            let _ = found_remote.mail(ClientCommand::Resolved { name: found_name, result });
        })?;
        self.running.insert(name, guard);
        Ok(())
    }

    /// Takes note of a result.
    pub(super) fn on_end(
        &mut self,
        name: &str,
        _remote: &Remote<ClientCommand>,
        _is_needed: impl Fn(&str) -> bool,
    ) {
        self.running.remove(name);
    }
}
