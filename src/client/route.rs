//! Routing among several addresses: the endpoint that a call takes, and how the call ended there.
//!
//! Balancing, discovery and circuit breakers are built on this trait; the client itself has none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use crate::status::{Code, Status};

/// The endpoints of a client, as a [`Route`] sees them.
#[derive(Clone, Copy)]
pub struct Endpoints<'a> {
    pub(super) endpoints: &'a [Arc<Endpoint>],
}

impl Endpoints<'_> {
    /// Returns the number of endpoints; at least one.
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Returns the address of an endpoint, as it was given.
    ///
    /// # Panics
    ///
    /// If there is no such endpoint.
    pub fn address(&self, line: usize) -> &str {
        &self.endpoints[line].address
    }

    /// Returns the number of calls started on an endpoint and not ended, as of now.
    ///
    /// # Panics
    ///
    /// If there is no such endpoint.
    pub fn in_flight(&self, line: usize) -> usize {
        self.endpoints[line].in_flight()
    }

    /// Returns the load that the server at an endpoint last reported ([`Client::load`](super::Client::load)).
    ///
    /// # Panics
    ///
    /// If there is no such endpoint.
    pub fn load(&self, line: usize) -> Option<Duration> {
        self.endpoints[line].load()
    }
}

impl fmt::Debug for Endpoints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |line| (self.address(line), self.in_flight(line));
        f.debug_map().entries((0..self.len()).map(line)).finish()
    }
}

/// Picks the endpoint of each call, and is notified how the call ended.
pub trait Route: Send + Sync + 'static {
    /// Returns the index of the endpoint for the next call of the method (its hash; 0 for
    /// [`Client::ready`](super::Client::ready)). Runs on the caller's thread. An index out of range fails the call
    /// with `CallError::Connect`.
    ///
    /// # Errors
    ///
    /// The call fails with that status and nothing is sent: no endpoint is usable.
    fn pick(&self, method: u32, lines: Endpoints<'_>) -> Result<usize, Status>;

    /// Reports that a call on that endpoint has ended, with its status code and duration; called once for each call
    /// that was started there. Usually runs on the driver's thread: it must not wait. A panic is printed and
    /// contained.
    fn on_end(&self, line: usize, code: Code, took: Duration) {
        let _ = (line, code, took);
    }
}
