//! Listening sockets that other processes have too: taken from one, to be passed to one, and whether they belong to this
//! process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a listening socket belongs to this process alone. If not, the process closes it without accepting what waits
/// there, since that is served by another, and leaves the file of a Unix socket in place.
#[derive(Clone, Debug)]
pub(crate) struct Ownership(Arc<AtomicBool>);

impl Default for Ownership {
    fn default() -> Ownership {
        Ownership(Arc::new(AtomicBool::new(true)))
    }
}

impl Ownership {
    pub(super) fn is_ours(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(feature = "restart")]
mod passing {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};

    use socket2::SockRef;

    use super::Ownership;
    use crate::transport::Address;
    use crate::transport::listener::{Listener, ListenerKind, bind_another, into_mio, with_address};
    use crate::transport::unix_file::UnixSocketFile;

    impl Ownership {
        /// The ownership of a socket that another process has.
        pub(crate) fn of_another() -> Ownership {
            let ownership = Ownership::default();
            ownership.set(false);
            ownership
        }

        /// Sets whether the socket is this process's.
        pub(crate) fn set(&self, is_ours: bool) {
            self.0.store(is_ours, std::sync::atomic::Ordering::Release);
        }
    }

    impl Listener {
        /// Takes a socket that listens at this address. Its file is not touched.
        ///
        /// # Errors
        ///
        /// It is another kind of socket than the address has, or the file of a Unix socket is gone.
        pub(crate) fn adopt(
            socket: OwnedFd,
            address: &Address,
            ownership: Ownership,
        ) -> io::Result<Listener> {
            let adopt = || {
                let local = SockRef::from(&socket).local_addr()?;
                let is_of_kind = match address {
                    Address::Tcp(_) => local.as_socket().is_some(),
                    Address::Unix(_) => local.is_unix(),
                    Address::Memory(_) => false,
                };
                if !is_of_kind {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "the socket that was passed is of another kind",
                    ));
                }
                SockRef::from(&socket).set_nonblocking(true)?;
                Ok(match address {
                    Address::Unix(path) => {
                        let file = UnixSocketFile::adopt(path)?;
                        let socket = std::os::unix::net::UnixListener::from(socket);
                        ListenerKind::Unix(mio::net::UnixListener::from_std(socket), file)
                    }
                    Address::Tcp(_) | Address::Memory(_) => ListenerKind::Tcp(into_mio(socket.into())),
                })
            };
            let kind = adopt().map_err(|error| with_address(address, &error))?;
            Ok(Listener::new(kind, ownership))
        }

        /// Creates `count` further listeners that share the port of these.
        ///
        /// # Errors
        ///
        /// The system's error, with the address.
        pub(crate) fn bind_further(these: &[Listener], count: usize) -> io::Result<Vec<Listener>> {
            let mut local = None;
            for listener in these {
                let ListenerKind::Tcp(socket) = &listener.kind else { continue };
                SockRef::from(socket).set_reuse_port(true)?;
                local = Some((socket.local_addr()?, &listener.ownership));
            }
            let Some((local, ownership)) = local else { return Ok(Vec::new()) };
            let bind = || {
                let socket = bind_another(local)
                    .map_err(|error| with_address(&Address::Tcp(local.to_string()), &error))?;
                Ok(Listener::new(ListenerKind::Tcp(into_mio(socket)), ownership.clone()))
            };
            (0..count).map(|_| bind()).collect()
        }

        /// Returns a duplicate of the socket, to be passed to another process; `None` if it listens in memory.
        pub(crate) fn duplicate(&self) -> io::Result<Option<OwnedFd>> {
            match &self.kind {
                ListenerKind::Tcp(socket) => socket.as_fd().try_clone_to_owned().map(Some),
                ListenerKind::Unix(socket, _) => socket.as_fd().try_clone_to_owned().map(Some),
                ListenerKind::Memory(_) => Ok(None),
            }
        }

        /// Returns the ownership, which all sockets of the address share.
        pub(crate) fn ownership(&self) -> &Ownership {
            &self.ownership
        }
    }
}
