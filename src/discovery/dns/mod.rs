//! DNS: `dns:///orders.example:6550` and `dns:///_orders._tcp.example`, asked on the reactor.
//!
//! [`DnsResolver`] starts a `DnsWatch` (`watch.rs`) of what the URL has (`target.rs`). Names are looked up by `agent/dns`.

mod target;
mod watch;

use std::time::Instant;

use self::target::DnsTarget;
use self::watch::DnsWatch;
use super::{DiscoveryError, DiscoveryHandle, Resolver, Target, TargetError, Updates, Watch};
use crate::agent::dns::{NameConfig, has_route};

/// The resolver of `dns://` URLs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DnsResolver;

impl Resolver for DnsResolver {
    fn scheme(&self) -> &str {
        "dns"
    }

    fn watch(
        &self,
        target: &Target,
        updates: Updates,
        on: &DiscoveryHandle,
    ) -> Result<Watch, DiscoveryError> {
        let target = DnsTarget::parse(target)?;
        let config = target.configure(NameConfig::read());
        let watch = DnsWatch::new(target, config, updates, has_route, Instant::now());
        let guard = on.agents().run(watch).map_err(DiscoveryError::System)?;
        Ok(Watch::new(guard))
    }
}

/// Reads a URL.
#[cfg(feature = "bench-internals")]
pub(super) fn check(target: &Target) -> Result<(), TargetError> {
    DnsTarget::parse(target).map(|_| ())
}
