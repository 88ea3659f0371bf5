//! Binding the listeners of a server that starts.

use std::io;

use coreloop_poller::os;

use super::Error;
use super::restart::SocketStore;
use crate::config::{AcceptMode, Config, SocketMode, ValidConfig, split_listen};
use crate::reactor::{Address, Listener, UnixSocketAccess};
use crate::wire::{ProtocolId, ProtocolSet};

/// The listeners of a reactor, each with its index among all listeners of the server.
pub(super) type NumberedListeners = Vec<(usize, Listener)>;

/// The listeners of a server.
pub(super) struct BoundListeners {
    /// Those of each reactor.
    pub(super) listeners: Vec<NumberedListeners>,
    /// The address of each listener, with the actual port.
    pub(super) addresses: Vec<Address>,
    /// For each address, whether the kernel spreads its connections: every reactor listens there.
    pub(super) spread: Vec<bool>,
}

/// Binds the listeners of each reactor: its own sockets on shared ports, or all with the first reactor. Sockets that were
/// passed by another process are used as they are, all of them.
pub(super) fn bind(
    config: &ValidConfig,
    reactors: usize,
    sockets: &SocketStore,
) -> Result<BoundListeners, Error> {
    let mut bound = BoundListeners {
        listeners: (0..reactors).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
        spread: Vec::new(),
    };
    for (index, text) in config.listen.iter().enumerate() {
        let address: Address =
            split_listen(text).1.parse().map_err(|error: crate::reactor::AddressError| {
                io::Error::new(io::ErrorKind::InvalidInput, error)
            })?;
        let is_shared =
            reactors > 1 && config.accept == AcceptMode::ReusePort && matches!(address, Address::Tcp(_));
        let mut listeners = sockets.take(&address)?;
        if listeners.is_empty() {
            listeners = bind_new(config, &address, if is_shared { reactors } else { 1 })?;
        } else if is_shared && listeners.len() < reactors {
            sockets.add(&mut listeners, reactors)?;
        }
        sockets.note(&address, &listeners)?;
        bound.addresses.push(listeners[0].local()?);
        let is_spread = is_shared && listeners.len() >= reactors;
        bound.spread.push(is_spread);
        for (number, listener) in listeners.into_iter().enumerate() {
            let reactor = if is_spread { number % reactors } else { 0 };
            bound.listeners[reactor].push((index, listener));
        }
    }
    Ok(bound)
}

/// Creates listeners: `count` of them on a TCP port, otherwise one.
fn bind_new(config: &ValidConfig, address: &Address, count: usize) -> Result<Vec<Listener>, Error> {
    Ok(match address {
        Address::Tcp(text) => Listener::bind_shared(text, count)?,
        Address::Memory(_) => vec![Listener::bind(address, &UnixSocketAccess::default())?],
        Address::Unix(_) => {
            let access = unix_socket_access(config).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            })?;
            vec![Listener::bind(address, &access)?]
        }
    })
}

/// Binds a further listener, in memory, with the first reactor: calls from the console of the admin listener arrive there,
/// whatever the other listeners serve.
#[cfg(feature = "admin")]
pub(super) fn bind_in_memory(config: &Config, listeners: &mut [NumberedListeners]) -> Result<Address, Error> {
    let listener = Listener::bind(&Address::Memory("0".to_owned()), &UnixSocketAccess::default())?;
    let address = listener.local()?;
    listeners[0].push((config.listen.len(), listener));
    Ok(address)
}

/// Returns the access to the Unix sockets; user and group names are resolved now.
fn unix_socket_access(config: &Config) -> io::Result<UnixSocketAccess> {
    let number = |key: &str, what: &str, name: &str, look_up: fn(&str) -> io::Result<Option<u32>>| {
        if name.is_empty() {
            return Ok(None);
        }
        // A name takes precedence over a number, as in chown(1).
        let found = look_up(name).map_err(|error| {
            io::Error::new(error.kind(), format!("`{key}`: cannot look up {name:?}: {error}"))
        })?;
        // The system interprets the largest number as "leave unchanged".
        let as_number = || name.parse::<u32>().ok().filter(|number| *number != u32::MAX);
        found.or_else(as_number).map(Some).ok_or_else(|| {
            let message =
                format!("`{key}`: expected the name or the number of a {what} of this system; got {name:?}");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })
    };
    Ok(UnixSocketAccess {
        mode: (config.unix_mode != SocketMode::UMASK).then_some(config.unix_mode.bits()),
        user: number("unix_user", "user", &config.unix_user, os::user_number)?,
        group: number("unix_group", "group", &config.unix_group, os::group_number)?,
    })
}

/// Returns the protocols of each listener: the one named before its address, else those from the program, else all.
pub(super) fn allowed(listen: &[String], from_program: &[ProtocolSet]) -> Vec<ProtocolSet> {
    let named = |text: &String| {
        let name = split_listen(text).0?;
        let protocol = ProtocolId::ALL.iter().find(|protocol| protocol.name() == name)?;
        Some(ProtocolSet::only(*protocol))
    };
    let from_program = from_program.iter().copied().chain(std::iter::repeat(ProtocolSet::SERVED));
    listen.iter().zip(from_program).map(|(text, from_program)| named(text).unwrap_or(from_program)).collect()
}
