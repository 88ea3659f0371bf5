//! DNS: `dns:///orders.example:6550` and `dns:///_orders._tcp.example`, asked on the reactor.
//!
//! [`DnsResolver`] starts a `DnsWatch` (`watch.rs`), and `look_up_host` a single lookup for a connection (`host.rs`). Both look
//! up names (`lookup.rs`) by questions to the name servers (`ask.rs`), whose messages `message.rs` writes and reads.
//! `system.rs` reads the system's configuration.

mod ask;
#[cfg(feature = "client")]
mod host;
mod lookup;
mod message;
mod system;
mod target;
#[cfg(test)]
#[path = "tests/server.rs"]
mod testing;
mod watch;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
#[cfg(feature = "client")]
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "client")]
use self::host::HostAgent;
pub(crate) use self::system::NameConfig;
use self::target::DnsTarget;
use self::watch::DnsWatch;
use super::{DiscoveryError, DiscoveryHandle, Resolver, Target, Updates, Watch};
#[cfg(feature = "client")]
use crate::agent::AgentGuard;

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

/// Reads a message as the answer to a question about `a.example` that had the message's id. Returns the number of records
/// that are used. For the fuzz target.
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub fn records_of_answer(message: &[u8], kind: usize) -> usize {
    use self::message::{DnsQuestion, DnsReply, RecordKind, decode};
    let kind = [RecordKind::A, RecordKind::Aaaa, RecordKind::Srv][kind % 3];
    let id = message.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id));
    match decode(message, id, &DnsQuestion { name: "a.example".to_owned(), kind }) {
        DnsReply::Answer(answer) => answer.addresses.len() + answer.services.len() + answer.added.len(),
        DnsReply::Other | DnsReply::Truncated | DnsReply::Failed(_) => 0,
    }
}

/// Looks up the addresses of a host on the reactor until then, and passes them to the function. The lookup ends when the
/// guard is dropped.
///
/// # Errors
///
/// The reactor has ended, or runs as many agents as it may.
#[cfg(feature = "client")]
pub(crate) fn look_up_host(
    host: &str,
    config: Arc<NameConfig>,
    until: Instant,
    on: &DiscoveryHandle,
    found: impl FnOnce(Result<Vec<IpAddr>, String>) + Send + 'static,
) -> io::Result<AgentGuard> {
    on.agents().run(HostAgent::new(host.to_owned(), config, has_route, until, Box::new(found)))
}

/// Leaves out the addresses of a family that the system has no route to, if others remain: a host with both kinds of
/// addresses is common where the client has only IPv4.
fn usable(addresses: Vec<IpAddr>, has_route: fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|ip| ip.is_ipv4());
    let (Some(first_v4), Some(first_v6)) = (v4.first(), v6.first()) else { return addresses };
    match (has_route(*first_v4), has_route(*first_v6)) {
        (true, false) => v4,
        (false, true) => v6,
        (true, true) | (false, false) => addresses,
    }
}

/// Returns whether the system has a route to an address. Nothing is sent for that.
fn has_route(ip: IpAddr) -> bool {
    let any: SocketAddr = if ip.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let connected: io::Result<()> = UdpSocket::bind(any).and_then(|socket| socket.connect((ip, 9)));
    connected.is_ok()
}
