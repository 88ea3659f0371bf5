//! The seam for several addresses: which line a call takes, and how it ended there.
//!
//! Balancing, discovery and circuit breakers are built on this one trait; the client itself has none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use crate::status::{Code, Status};

/// The lines of a client, as a [`Route`] sees them.
#[derive(Clone, Copy)]
pub struct Endpoints<'a> {
    pub(super) endpoints: &'a [Arc<Endpoint>],
}

impl Endpoints<'_> {
    /// How many there are; at least one.
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// The address of one, as it was given.
    ///
    /// # Panics
    ///
    /// There is no such line.
    pub fn address(&self, line: usize) -> &str {
        &self.endpoints[line].address
    }

    /// Calls begun there and not ended, as of now.
    ///
    /// # Panics
    ///
    /// There is no such line.
    pub fn in_flight(&self, line: usize) -> usize {
        self.endpoints[line].in_flight()
    }
}

impl fmt::Debug for Endpoints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |line| (self.address(line), self.in_flight(line));
        f.debug_map().entries((0..self.len()).map(line)).finish()
    }
}

/// Picks the line for each call, and hears how it ended.
pub trait Route: Send + Sync + 'static {
    /// The index of the line that the next call of the method (its hash; 0 for [`Client::ready`](super::Client::ready))
    /// takes. Runs on the caller's thread. With an index that is not there the call fails with `CallError::Connect`.
    ///
    /// # Errors
    ///
    /// The call fails with that status, and nothing is sent: no line is fit to be used.
    fn pick(&self, method: u32, lines: Endpoints<'_>) -> Result<usize, Status>;

    /// A call on that line has ended so, after so long; called once for each that was begun there. Runs on the driver's
    /// thread as a rule: it must not wait. A panic is printed and goes no further.
    fn on_end(&self, line: usize, code: Code, took: Duration) {
        let _ = (line, code, took);
    }
}
