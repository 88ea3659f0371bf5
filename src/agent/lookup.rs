//! The addresses of a registry: numbers at once, names by the system's resolver on a thread of its own.
//!
//! The thread starts with the first name and ends when no name waits. Registries mostly have one name for a whole
//! client, so one thread is enough.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use crossbeam_channel::{Sender, TrySendError, bounded};

use super::app::AgentCommand;
use crate::reactor::Remote;
use crate::threads;

/// The most names that wait for the thread; a further one fails, and its agent tries again later.
const NAMES_MAX: usize = 64;

/// Identifies a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LookupId(u64);

/// What is known of an address at once.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The addresses.
    Known(Vec<SocketAddr>),
    /// The thread resolves the name, and sends [`AgentCommand::Resolved`].
    Begun(LookupId),
    /// The address is not valid, or the name cannot be resolved now.
    Failed(String),
}

/// The lookups of one app.
pub(super) struct Lookups {
    remote: Remote<AgentCommand>,
    thread: Option<Sender<(LookupId, String)>>,
    /// Lookups without a result.
    outstanding: usize,
    next: u64,
}

impl Lookups {
    pub(super) fn new(remote: Remote<AgentCommand>) -> Lookups {
        Lookups { remote, thread: None, outstanding: 0, next: 1 }
    }

    /// Begins to resolve `host:port`.
    pub(super) fn begin(&mut self, address: &str) -> Lookup {
        match parse(address) {
            None => return Lookup::Failed(format!("expected an address host:port; found {address:?}")),
            Some(Some(address)) => return Lookup::Known(vec![address]),
            Some(None) => {}
        }
        let id = LookupId(self.next);
        let sender = match self.thread.take() {
            Some(sender) => sender,
            None => match self.start() {
                Ok(sender) => sender,
                Err(error) => return Lookup::Failed(format!("no thread resolves {address}: {error}")),
            },
        };
        match sender.try_send((id, address.to_owned())) {
            Ok(()) => {
                self.thread = Some(sender);
                self.next += 1;
                self.outstanding += 1;
                Lookup::Begun(id)
            }
            Err(TrySendError::Full(_)) => {
                self.thread = Some(sender);
                Lookup::Failed(format!("{NAMES_MAX} names wait to be resolved before {address}"))
            }
            Err(TrySendError::Disconnected(_)) => {
                Lookup::Failed(format!("the thread that resolves {address} has ended"))
            }
        }
    }

    /// Takes note of a result. The thread ends after the last one.
    pub(super) fn end(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if self.outstanding == 0 {
            self.thread = None;
        }
    }

    fn start(&self) -> io::Result<Sender<(LookupId, String)>> {
        let (sender, names) = bounded::<(LookupId, String)>(NAMES_MAX);
        let remote = self.remote.clone();
        threads::detached("coreloop-names", move || {
            for (id, address) in names {
                let found = address.to_socket_addrs().map(Iterator::collect).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot resolve {address}: {error}"))
                });
                if remote.mail(AgentCommand::Resolved(id, found)).is_err() {
                    break;
                }
            }
        })?;
        Ok(sender)
    }
}

/// Parses `host:port`: `Some(None)` is a name, `None` is not valid.
fn parse(address: &str) -> Option<Option<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Some(Some(address));
    }
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|_| !port.starts_with('+'))?;
    if host.is_empty() || host.contains([':', '[', ']', '/', ' ']) {
        return None;
    }
    let is_local = host.eq_ignore_ascii_case("localhost");
    Some(is_local.then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_no_lookup() {
        assert_eq!(parse("127.0.0.1:80"), Some(Some(([127, 0, 0, 1], 80).into())));
        assert_eq!(parse("[::1]:80"), Some(Some(SocketAddr::new("::1".parse().unwrap(), 80))));
        assert_eq!(parse("LocalHost:80"), Some(Some(([127, 0, 0, 1], 80).into())));
        assert_eq!(parse("consul.internal:8500"), Some(None));
        for text in ["", "consul", ":80", "consul:", "consul:+1", "consul:65536", "::1:80x", "a b:1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
