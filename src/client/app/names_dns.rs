//! In place of `names.rs` with the feature `discovery`: names in addresses, asked for by DNS on the reactor.
//!
//! `/etc/resolv.conf` and `/etc/hosts` are read on a thread that exists only for that, at most once a minute while names are
//! looked up.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ClientCommand;
use crate::agent::AgentGuard;
use crate::client::driver::DriverShared;
use crate::discovery::{DiscoveryHandle, NameConfig, look_up_host};
use crate::reactor::Remote;

/// The time for which the system's configuration is used.
const CONFIG_TIME: Duration = Duration::from_secs(60);

/// The lookups of one driver.
#[derive(Default)]
pub(super) struct NameLookups {
    config: Option<(Arc<NameConfig>, Instant)>,
    /// The thread reads the configuration.
    is_reading: bool,
    /// The names that wait for it, each once, and until when: no more than the driver has endpoints.
    waiting: BTreeMap<String, Instant>,
    /// The lookups, by name; a lookup ends with its guard.
    running: BTreeMap<String, AgentGuard>,
}

impl NameLookups {
    /// Looks up a name (`host:port`) until then. The result is sent as [`ClientCommand::Resolved`].
    ///
    /// # Errors
    ///
    /// The system provides no thread, or the reactor ends.
    pub(super) fn look_up(
        &mut self,
        name: String,
        until: Instant,
        shared: &DriverShared,
        remote: &Remote<ClientCommand>,
    ) -> io::Result<()> {
        if self.running.contains_key(&name) || self.waiting.contains_key(&name) {
            return Ok(());
        }
        let now = Instant::now();
        if let Some((config, read_at)) = &self.config
            && now.saturating_duration_since(*read_at) < CONFIG_TIME
        {
            let guard = start(&name, config.clone(), until, shared.discovery(remote), remote)?;
            self.running.insert(name, guard);
            return Ok(());
        }
        if !self.is_reading {
            let remote = remote.clone();
            crate::threads::detached("coreloop-names", move || {
                let config = Arc::new(NameConfig::read());
                let _ = remote.mail(ClientCommand::NameConfig(config));
            })?;
            self.is_reading = true;
        }
        self.waiting.insert(name, until);
        Ok(())
    }

    /// Takes the configuration that was read, and begins the lookups that wait for it. Returns those that cannot begin.
    pub(super) fn on_config(
        &mut self,
        config: &Arc<NameConfig>,
        shared: &DriverShared,
        remote: &Remote<ClientCommand>,
    ) -> Vec<(String, io::Error)> {
        self.is_reading = false;
        self.config = Some((config.clone(), Instant::now()));
        let mut failed = Vec::new();
        for (name, until) in std::mem::take(&mut self.waiting) {
            match start(&name, config.clone(), until, shared.discovery(remote), remote) {
                Ok(guard) => drop(self.running.insert(name, guard)),
                Err(error) => failed.push((name, error)),
            }
        }
        failed
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

fn start(
    name: &str,
    config: Arc<NameConfig>,
    until: Instant,
    on: &DiscoveryHandle,
    remote: &Remote<ClientCommand>,
) -> io::Result<AgentGuard> {
    let (host, port) = name.rsplit_once(':').unwrap_or((name, "0"));
    let port: u16 = port.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let (name, remote) = (name.to_owned(), remote.clone());
    look_up_host(host, config, until, on, move |found| {
        let result = match found {
            Ok(addresses) => Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
            Err(why) => Err(io::Error::new(io::ErrorKind::NotFound, why)),
        };
        let _ = remote.mail(ClientCommand::Resolved { name, result });
    })
}
