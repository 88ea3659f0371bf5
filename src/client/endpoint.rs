//! What callers and the reactor share for one address: the mailbox of the reactor, and the count of open calls.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::CallError;
use super::app::ClientCommand;
use super::call_slot::{CallSlot, Promise};
use super::config::{ClientConfig, WhenFull};
use super::driver::{Driver, DriverShared};
use super::fleet::{FleetShared, FleetWatch};
use super::interceptor::{ClientInterceptor, ClientInterceptors};
use super::port::ClientPort;
use super::traced::ClientTracing;
use crate::reactor::Address;
use crate::status::Status;
use crate::transport::TlsClient;
use crate::wire::Scheme;

/// Where the calls of a client go.
pub(super) enum EndpointTarget {
    /// To one address.
    One(Address),
    /// To the instances that a resolver finds.
    Fleet(FleetWatch),
}

/// Held by whatever a closed endpoint has left on the reactor. A client that is closed waits until all are dropped.
pub(super) type EndSignal = Sender<Infallible>;

/// The address of a client. It lives as long as the client or one of its calls does.
pub(super) struct Endpoint {
    driver: Driver,
    /// Identifies the endpoint to the reactor.
    pub(super) number: u64,
    pub(super) scheme: Scheme,
    pub(super) address: String,
    target: EndpointTarget,
    pub(super) config: Arc<ClientConfig>,
    interceptors: ClientInterceptors,
    /// Set if connections have TLS.
    tls: Option<TlsClient>,
    /// Set if calls are traced.
    tracing: Option<Arc<ClientTracing>>,
    /// Calls started and not ended, without streaming calls: in flight, or waiting.
    under_way: AtomicUsize,
    /// Streaming calls started and not ended.
    streams: AtomicUsize,
    /// Microseconds that a new call would wait at the server, as it last reported; [`NO_LOAD`] before.
    load_us: AtomicU64,
    /// Those that wait for its end.
    end_signals: Mutex<Vec<EndSignal>>,
}

/// More than any load that a server can report.
const NO_LOAD: u64 = u64::MAX;

impl Endpoint {
    pub(super) fn new(
        driver: Driver,
        scheme: Scheme,
        address: String,
        target: EndpointTarget,
        config: Arc<ClientConfig>,
        interceptors: ClientInterceptors,
    ) -> Endpoint {
        let number = driver.take_number();
        Endpoint {
            driver,
            number,
            scheme,
            address,
            target,
            config,
            interceptors,
            tls: None,
            tracing: None,
            under_way: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            load_us: AtomicU64::new(NO_LOAD),
            end_signals: Mutex::default(),
        }
    }

    /// Sets that calls are traced.
    pub(super) fn traced(mut self, tracing: Option<Arc<ClientTracing>>) -> Endpoint {
        self.tracing = tracing;
        self
    }

    /// Sets the TLS of the connections.
    pub(super) fn secured(mut self, tls: Option<TlsClient>) -> Endpoint {
        self.tls = tls;
        self
    }

    pub(super) fn tls(&self) -> Option<&TlsClient> {
        self.tls.as_ref()
    }

    pub(super) fn tracing(&self) -> Option<&Arc<ClientTracing>> {
        self.tracing.as_ref()
    }

    /// Returns the address, or the fleet in place of one.
    #[inline]
    pub(super) fn target(&self) -> &EndpointTarget {
        &self.target
    }

    /// Returns the fleet, if the client has one.
    pub(super) fn fleet(&self) -> Option<&Arc<FleetShared>> {
        match &self.target {
            EndpointTarget::One(_) => None,
            EndpointTarget::Fleet(watch) => Some(watch.fleet()),
        }
    }

    /// Returns the state of the driver's thread.
    pub(super) fn driver_shared(&self) -> &DriverShared {
        self.driver.shared()
    }

    /// Passes a command to the reactor.
    pub(super) fn mail(&self, command: ClientCommand) {
        self.driver.mail(command);
    }

    pub(super) fn interceptors(&self) -> &[Arc<dyn ClientInterceptor>] {
        &self.interceptors
    }

    pub(super) fn in_flight(&self) -> usize {
        self.under_way.load(Ordering::Relaxed) + self.streams.load(Ordering::Relaxed)
    }

    /// Takes note of the load that the server has reported. Only the reactor does.
    pub(super) fn set_load(&self, us: u32) {
        self.load_us.store(u64::from(us), Ordering::Relaxed);
    }

    /// Returns the load that the server has last reported, in microseconds.
    pub(super) fn load_us(&self) -> Option<u32> {
        u32::try_from(self.load_us.load(Ordering::Relaxed)).ok()
    }

    pub(super) fn port(&self) -> Arc<ClientPort> {
        self.driver.port().clone()
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

    /// Counts a new streaming call, if there may be one more. Each success is matched by one call of
    /// [`Endpoint::leave_stream`].
    pub(super) fn enter_stream(&self) -> Result<(), CallError> {
        let max = self.config.streams_max;
        if self.streams.fetch_add(1, Ordering::Relaxed) < max {
            return Ok(());
        }
        self.leave_stream();
        let text = format!("the client has {max} streaming calls to the address (streams_max)");
        Err(CallError::Status(Status::resource_exhausted(text)))
    }

    pub(super) fn leave_stream(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns whether this thread drives the endpoint: it must not wait for a reply of it.
    pub(super) fn is_driven_here(&self) -> bool {
        self.driver.is_this_thread()
    }

    /// Returns a channel that disconnects when the endpoint has been dropped and its connections have ended.
    pub(super) fn watch_end(&self) -> Receiver<Infallible> {
        let (signal, watch) = channel();
        self.end_signals.lock().unwrap_or_else(PoisonError::into_inner).push(signal);
        watch
    }

    /// Passes a call to the reactor.
    pub(super) fn start(&self, mut promise: Promise) {
        promise.mark_sent();
        // If the reactor has ended, the promise is returned, and dropping it fails the call.
        self.driver.send(ClientCommand::Start(promise));
    }

    /// Passes many calls to the reactor at once: they are sent in one write.
    pub(super) fn start_all(&self, mut promises: Vec<Promise>) {
        promises.iter_mut().for_each(Promise::mark_sent);
        self.driver.send(ClientCommand::StartAll(promises));
    }

    /// Cancels a call whose handle was dropped.
    pub(super) fn cancel(&self, call_slot: Arc<CallSlot>) {
        self.driver.mail(ClientCommand::Cancel { line: self.number, call_slot });
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let signals = self.end_signals.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.driver.mail(ClientCommand::Close { line: self.number, signals: std::mem::take(signals) });
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}
