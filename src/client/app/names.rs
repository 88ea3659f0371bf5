//! Names in addresses, resolved by the system's resolver, which blocks: on a thread, one name after the other.
//!
//! The thread exists while a name is looked up. Addresses that are numbers, `localhost`, Unix sockets and in-memory
//! addresses need none.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::ClientCommand;
use crate::client::driver::DriverShared;
use crate::reactor::Remote;
use crate::transport;

/// The lookups of one driver.
#[derive(Default)]
pub(super) struct NameLookups {
    /// The name that the thread looks up.
    running: Option<String>,
    /// The names to be looked up next, each once: no more than the driver has endpoints.
    queue: VecDeque<String>,
}

impl NameLookups {
    /// Looks up a name (`host:port`). The result is sent as [`ClientCommand::Resolved`].
    ///
    /// # Errors
    ///
    /// The system provides no thread.
    pub(super) fn look_up(
        &mut self,
        name: String,
        _until: Instant,
        _shared: &DriverShared,
        remote: &Remote<ClientCommand>,
    ) -> io::Result<()> {
        if self.running.is_none() {
            return self.start(name, remote);
        }
        if self.running.as_ref() != Some(&name) && !self.queue.contains(&name) {
            self.queue.push_back(name);
        }
        Ok(())
    }

    /// Takes note of a result, and looks up the next name that is still needed.
    pub(super) fn on_end(
        &mut self,
        name: &str,
        remote: &Remote<ClientCommand>,
        is_needed: impl Fn(&str) -> bool,
    ) {
        if self.running.as_deref() != Some(name) {
            // An attempt that followed has begun the next lookup already.
            return;
        }
        self.running = None;
        while let Some(next) = self.queue.pop_front() {
            if is_needed(&next) && self.start(next, remote).is_ok() {
                return;
            }
            // Without a thread, the attempts that wait for this name end at their time limit.
        }
    }

    fn start(&mut self, name: String, remote: &Remote<ClientCommand>) -> io::Result<()> {
        let (lookup, remote) = (name.clone(), remote.clone());
        crate::threads::detached("coreloop-names", move || {
            let result = transport::resolve(&lookup);
            let _ = remote.mail(ClientCommand::Resolved { name: lookup, result });
        })?;
        self.running = Some(name);
        Ok(())
    }
}
