//! What callers and the reactor share for one address: the mailbox of the reactor, and the count of open calls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::app::ClientCommand;
use super::call_slot::{CallSlot, Promise};
use super::config::{ClientConfig, WhenFull};
use super::driver::Driver;
use super::{CallError, Route};
use crate::reactor::Address;
use crate::wire::Scheme;

/// One address of a client. It lives as long as the client or one of its calls does.
pub(super) struct Endpoint {
    driver: Driver,
    /// Identifies the endpoint to the reactor.
    pub(super) number: u64,
    /// The index among the client's endpoints.
    pub(super) index: usize,
    pub(super) scheme: Scheme,
    pub(super) address: String,
    /// The address, parsed.
    pub(super) target: Address,
    pub(super) config: Arc<ClientConfig>,
    route: Option<Arc<dyn Route>>,
    /// Calls started and not ended: in flight, or waiting.
    under_way: AtomicUsize,
}

impl Endpoint {
    pub(super) fn new(
        driver: Driver,
        index: usize,
        scheme: Scheme,
        address: (String, Address),
        config: Arc<ClientConfig>,
        route: Option<Arc<dyn Route>>,
    ) -> Endpoint {
        let number = driver.take_number();
        let (address, target) = address;
        Endpoint {
            driver,
            number,
            index,
            scheme,
            address,
            target,
            config,
            route,
            under_way: AtomicUsize::new(0),
        }
    }

    pub(super) fn route(&self) -> Option<&Arc<dyn Route>> {
        self.route.as_ref()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Counts a new call, if there is room for it. Each success is matched by one call of [`Endpoint::leave`].
    pub(super) fn enter(&self) -> Result<(), CallError> {
        let ClientConfig { in_flight_max, waiting_max, when_full, .. } = *self.config;
        let max = match when_full {
            WhenFull::Wait => in_flight_max + waiting_max,
            WhenFull::Refuse => in_flight_max,
        };
        if self.under_way.fetch_add(1, Ordering::Relaxed) < max {
            return Ok(());
        }
        self.leave();
        Err(CallError::Full { calls_max: max })
    }

    pub(super) fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns whether this thread drives the endpoint: it must not wait for a reply of it.
    pub(super) fn is_driven_here(&self) -> bool {
        self.driver.is_this_thread()
    }

    /// Passes a call to the reactor.
    pub(super) fn start(&self, promise: Promise) {
        promise.mark_sent();
        // If the reactor has ended, the promise is returned, and dropping it fails the call.
        drop(self.driver.mail(ClientCommand::Start(promise)));
    }

    /// Passes many calls to the reactor at once: they are sent in one write.
    pub(super) fn start_all(&self, promises: Vec<Promise>) {
        promises.iter().for_each(Promise::mark_sent);
        drop(self.driver.mail(ClientCommand::StartAll(promises)));
    }

    /// Cancels a call whose handle was dropped.
    pub(super) fn cancel(&self, call_slot: Arc<CallSlot>) {
        drop(self.driver.mail(ClientCommand::Cancel { line: self.number, call_slot }));
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.driver.mail(ClientCommand::Close { line: self.number }));
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}
