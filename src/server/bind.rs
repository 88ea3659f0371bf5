//! Binding the listeners of a server that starts.

use std::io;

use coreloop_poller::os;

use super::Error;
use crate::config::{AcceptMode, Config, SocketMode, ValidConfig, split_listen};
use crate::reactor::{Address, Listener, UnixSocketAccess};

/// The listeners of a reactor, each with its index among all listeners of the server.
pub(super) type NumberedListeners = Vec<(usize, Listener)>;

/// Binds the listeners of each reactor: its own sockets on shared ports, or all with the first reactor.
pub(super) fn bind(
    config: &ValidConfig,
    reactors: usize,
) -> Result<(Vec<NumberedListeners>, Vec<Address>), Error> {
    let mut of_reactor: Vec<NumberedListeners> = (0..reactors).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for (index, text) in config.listen.iter().enumerate() {
        let address: Address =
            split_listen(text).1.parse().map_err(|error: crate::reactor::AddressError| {
                io::Error::new(io::ErrorKind::InvalidInput, error)
            })?;
        let is_shared = reactors > 1 && config.accept == AcceptMode::ReusePort;
        let first = match &address {
            Address::Tcp(text) => {
                let mut listeners =
                    Listener::bind_shared(text, if is_shared { reactors } else { 1 })?.into_iter();
                let first = listeners.next().expect("at least one");
                for (of_reactor, listener) in of_reactor[1..].iter_mut().zip(listeners) {
                    of_reactor.push((index, listener));
                }
                first
            }
            Address::Memory(_) => Listener::bind(&address, &UnixSocketAccess::default())?,
            Address::Unix(_) => {
                let access = unix_socket_access(config).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
                })?;
                Listener::bind(&address, &access)?
            }
        };
        let local = first.local()?;
        of_reactor[0].push((index, first));
        addresses.push(local);
    }
    Ok((of_reactor, addresses))
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
