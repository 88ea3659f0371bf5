//! Names, asked for by DNS on the reactor.
//!
//! [`look_up_host`] looks up the addresses of one host for a connection (`host.rs`); what watches a name uses
//! [`NameLookup`] itself (`lookup.rs`). A lookup asks the name servers (`ask.rs`), whose messages `message.rs` writes and
//! reads. `system.rs` reads the system's configuration, and `config_reader.rs` keeps it for the agents of an app.

mod ask;
mod config_reader;
mod host;
mod lookup;
mod message;
mod system;
#[cfg(test)]
#[path = "tests/server.rs"]
pub(crate) mod testing;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

pub(super) use self::config_reader::{ConfigReader, ConfigState};
pub(super) use self::host::HostAgent;
pub(crate) use self::lookup::{ADDRESSES, LookupEnd, LookupStart, NameLookup, SERVICES};
pub(crate) use self::message::{DnsAnswer, ServiceRecord};
pub(crate) use self::system::NameConfig;
use super::{AgentGuard, AgentHandle};

/// Looks up an address `host:port` on the reactor until then, and passes its numbers to the function. The lookup ends when
/// the guard is dropped.
///
/// # Errors
///
/// The address is not valid, the reactor has ended, or it runs as many agents as it may.
pub(crate) fn look_up_host(
    address: &str,
    until: Instant,
    on: &AgentHandle,
    found: impl FnOnce(Result<Vec<SocketAddr>, String>) + Send + 'static,
) -> io::Result<AgentGuard> {
    let agent = HostAgent::new(address, until, Box::new(found));
    on.run(agent.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?)
}

/// Leaves out the addresses of a family that the system has no route to, if others remain: a host with both kinds of
/// addresses is common where the client has only IPv4.
pub(crate) fn usable(addresses: Vec<IpAddr>, has_route: fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|ip| ip.is_ipv4());
    let (Some(first_v4), Some(first_v6)) = (v4.first(), v6.first()) else { return addresses };
    match (has_route(*first_v4), has_route(*first_v6)) {
        (true, false) => v4,
        (false, true) => v6,
        (true, true) | (false, false) => addresses,
    }
}

/// Returns whether the system has a route to an address. Nothing is sent for that.
pub(crate) fn has_route(ip: IpAddr) -> bool {
    let any: SocketAddr = if ip.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let connected: io::Result<()> = UdpSocket::bind(any).and_then(|socket| socket.connect((ip, 9)));
    connected.is_ok()
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
