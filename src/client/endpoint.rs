//! What callers and the reactor share of one address: the way to the reactor, and the count of what is under way.

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
    /// By which the reactor knows it.
    pub(super) number: u64,
    /// The place among the client's lines.
    pub(super) index: usize,
    pub(super) scheme: Scheme,
    pub(super) address: String,
    /// The same, read.
    pub(super) target: Address,
    pub(super) config: Arc<ClientConfig>,
    route: Option<Arc<dyn Route>>,
    /// Calls begun and not ended: on their way, with the server, or waiting for their turn.
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

    /// A call begins, if there is room for one more. Each that has entered leaves once.
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

    /// Whether this is the thread that brings this line's answers: it must not wait for one.
    pub(super) fn is_driven_here(&self) -> bool {
        self.driver.is_this_thread()
    }

    /// Hands a call to the reactor.
    pub(super) fn start(&self, promise: Promise) {
        promise.mark_sent();
        // If the reactor has ended, the promise comes back, and says so to its caller.
        drop(self.driver.mail(ClientCommand::Start(promise)));
    }

    /// Hands over many at once: they leave in one write.
    pub(super) fn start_all(&self, promises: Vec<Promise>) {
        promises.iter().for_each(Promise::mark_sent);
        drop(self.driver.mail(ClientCommand::StartAll(promises)));
    }

    /// Nobody waits for that call any more.
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
        f.debug_struct("Lane").field("address", &self.address).finish_non_exhaustive()
    }
}
