//! In place of `restart` in a build without that feature: no sockets are passed.

use std::io;

use super::{Error, Server, ServerBuilder};
use crate::config::ValidConfig;
use crate::reactor::{Address, Listener};

/// No sockets.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketStore;

impl SocketStore {
    pub(crate) fn take(&self, _address: &Address) -> io::Result<Vec<Listener>> {
        Ok(Vec::new())
    }

    pub(crate) fn add(&self, _these: &mut Vec<Listener>, _count: usize) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn note(&self, _address: &Address, _listeners: &[Listener]) -> io::Result<()> {
        Ok(())
    }
}

impl ServerBuilder {
    #[cfg(feature = "admin")]
    pub(crate) fn sharing_sockets(self, _sockets: SocketStore) -> ServerBuilder {
        self
    }

    pub(super) fn take_passed_sockets(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// No takeover.
pub(super) struct PlannedRestart;

impl PlannedRestart {
    pub(super) fn begin(_config: &ValidConfig, _sockets: &SocketStore) -> Result<PlannedRestart, Error> {
        Ok(PlannedRestart)
    }

    #[cfg(feature = "tls-core")]
    pub(super) fn take_ticket_state(&mut self) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn complete(self, _server: &Server) -> Result<RunningRestart, Error> {
        Ok(RunningRestart)
    }
}

/// Nothing that runs.
#[derive(Default)]
pub(super) struct RunningRestart;

impl RunningRestart {
    pub(super) fn stop(&mut self) -> bool {
        false
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        std::iter::empty()
    }
}
