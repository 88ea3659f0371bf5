//! The server: a builder, the reactors and workers that it starts, and their end.
//!
//! The role of its reactors is in `app`; this file starts them, joins them, and adds up their counters.

mod app;
mod auth;
mod bind;
mod builder;
mod configure;
#[cfg(feature = "bench-internals")]
mod detached;
mod directory;
mod executor;
#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "admin")]
pub(crate) mod live;
mod observe;
#[cfg(feature = "http")]
mod pages;
mod proxies;
mod reactor_thread;
mod registration;
mod reload;
#[cfg_attr(not(feature = "restart"), path = "no_restart.rs")]
mod restart;
#[cfg(feature = "http")]
mod routes;
mod started;
mod timing;
#[cfg(feature = "tls-core")]
mod tls;

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

pub use crate::service::builtin::Health;
pub use crate::stats::{
    HistogramSnapshot, MethodSnapshot, PoolSnapshot, ReactorSnapshot, Snapshot, WorkersSnapshot,
};
#[cfg(feature = "tls-core")]
pub use crate::transport::{TlsFileError, TlsFileFault};
pub use crate::wire::{ProtocolId, ProtocolSet};
pub(crate) use app::Completion;
pub use builder::ServerBuilder;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use detached::DetachedServer;
pub use observe::Inspector;
pub use reload::{ReloadError, Reloaded, Reloader};
#[cfg(all(feature = "restart", feature = "bench-internals"))]
#[doc(hidden)]
pub use restart::detached as detached_restart;

use self::app::AppStats;
use self::auth::Auth;
use self::observe::Observation;
use self::registration::Registrations;
use self::reload::Reloads;
#[cfg(feature = "restart")]
pub use self::restart::RestartError;
use self::restart::RunningRestart;
pub(crate) use self::restart::SocketStore;
use self::started::StartedInterceptors;
use crate::config::{ConfigError, ValidConfig};
use crate::discovery::DiscoveryError;
use crate::log_events::{self, log_event};
use crate::reactor::{Address, Remote, RoleHandle};
use crate::service::futures::AsyncCalls;
use crate::service::{RegisterError, Registry};
use crate::stats::ReactorStats;
use crate::wire::ServerContext;
use crate::workers::Pools;

/// The most time that a server which is dropped takes to deregister itself.
const DROP_DEREGISTER_MAX: Duration = Duration::from_millis(200);

/// Why a server could not start, or ended without a request to stop.
#[non_exhaustive]
pub enum Error {
    /// A method cannot be registered.
    Register(RegisterError),
    /// The configuration is invalid.
    Config(ConfigError),
    /// The system refused a socket, a thread, or an event queue.
    Io(io::Error),
    /// The server has an async method and no executor: call [`ServerBuilder::executor`].
    NoExecutor {
        /// The async method.
        method: String,
    },
    /// The server cannot register itself: a URL, or the address that it would register, is not valid.
    Discovery(DiscoveryError),
    /// The server cannot take over from the running process, or use what the service manager has passed.
    #[cfg(feature = "restart")]
    Restart(RestartError),
    /// A file of the TLS configuration cannot be used.
    #[cfg(feature = "tls-core")]
    Tls(TlsFileError),
    /// The export of spans and metrics cannot be set up: the URL of the collector is not valid.
    #[cfg(feature = "otlp")]
    Export(crate::otlp::ExportError),
    /// A reactor's thread panicked: a bug in coreloop, or in an inline handler's destructor.
    ReactorPanicked {
        /// The index of the reactor.
        reactor: usize,
    },
}

crate::error_text::debug_as_text!(Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Register(error) => error.fmt(f),
            Error::Config(error) => error.fmt(f),
            Error::Io(error) => error.fmt(f),
            Error::Discovery(error) => error.fmt(f),
            #[cfg(feature = "restart")]
            Error::Restart(error) => error.fmt(f),
            #[cfg(feature = "tls-core")]
            Error::Tls(error) => error.fmt(f),
            #[cfg(feature = "otlp")]
            Error::Export(error) => error.fmt(f),
            Error::NoExecutor { method } => write!(
                f,
                "{method} is async, and the server has no executor: call ServerBuilder::executor with a function \
                 that spawns futures"
            ),
            Error::ReactorPanicked { reactor } => write!(f, "the thread of reactor {reactor} panicked"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // This error's text includes theirs.
            Error::Register(error) => error.source(),
            Error::Config(error) => error.source(),
            Error::Io(error) => error.source(),
            Error::Discovery(error) => error.source(),
            #[cfg(feature = "restart")]
            Error::Restart(error) => error.source(),
            #[cfg(feature = "otlp")]
            Error::Export(error) => error.source(),
            #[cfg(feature = "tls-core")]
            Error::Tls(error) => error.source(),
            Error::NoExecutor { .. } | Error::ReactorPanicked { .. } => None,
        }
    }
}

impl From<RegisterError> for Error {
    fn from(error: RegisterError) -> Error {
        Error::Register(error)
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Error {
        Error::Config(error)
    }
}

impl From<DiscoveryError> for Error {
    fn from(error: DiscoveryError) -> Error {
        Error::Discovery(error)
    }
}

#[cfg(feature = "tls-core")]
impl From<TlsFileError> for Error {
    fn from(error: TlsFileError) -> Error {
        Error::Tls(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// Refuses a configuration with TLS in a build without it.
#[cfg(not(feature = "tls-core"))]
fn refuse_tls(config: &crate::config::Config) -> Result<(), Error> {
    use crate::config::{TlsMode, listener_tls};
    let is_asked = |listen: &String| listener_tls(listen) == Some(TlsMode::Required);
    if config.tls.certificate.is_empty() && !config.listen.iter().any(is_asked) {
        return Ok(());
    }
    let text =
        "TLS is configured (`tls.certificate`, or `+tls` at a listener), and not compiled in (feature `tls`)";
    Err(io::Error::new(io::ErrorKind::Unsupported, text).into())
}

/// An event for the thread that waits for the server.
enum ServerEvent {
    /// A signal or a [`Stopper`] requested a stop.
    Stop,
    /// A new process has taken over.
    #[cfg_attr(not(feature = "restart"), allow(dead_code))]
    HandedOver,
    /// A reactor has ended.
    Ended(usize, Result<(), Error>),
}

/// The server's state for one reactor.
struct ReactorThread {
    remote: Remote<Completion>,
    reactor: Arc<ReactorStats>,
    app: Arc<AppStats>,
}

/// The state that the server's owner shares with its handles.
struct ServerShared {
    registry: Arc<Registry>,
    parts: Vec<ReactorThread>,
    pools: Arc<Pools>,
    health: Arc<Health>,
    async_calls: Arc<AsyncCalls>,
    interceptors: StartedInterceptors,
    side: Arc<ServerContext>,
    observation: Observation,
    auth: Auth,
    reloads: Arc<Reloads>,
    #[cfg_attr(not(feature = "admin"), allow(dead_code))]
    sockets: SocketStore,
    /// When the end began.
    stopping: OnceLock<Instant>,
    #[cfg(feature = "tls-core")]
    tls: Option<Arc<crate::transport::TlsServer>>,
}

/// A running server. Dropping it stops it at once; [`Server::shutdown`] drains it.
///
/// ```
/// use coreloop::{Context, Server, Status};
///
/// # fn main() -> Result<(), coreloop::Error> {
/// let server = Server::builder()
///     .method("Greeter.Greet", |_cx: &Context, name: String| Ok(format!("hello, {name}")))
///     .listen("127.0.0.1:0")
///     .start()?;
/// println!("listening on {}", server.addresses()[0]);
/// server.shutdown();
/// # Ok(())
/// # }
/// ```
#[must_use = "a dropped server stops at once"]
pub struct Server {
    shared: Arc<ServerShared>,
    addresses: Vec<Address>,
    events: Receiver<ServerEvent>,
    stop: Sender<ServerEvent>,
    registrations: Registrations,
    restart: RunningRestart,
    /// The number of reactors that have not ended.
    running: usize,
    /// The admin listener.
    #[cfg(feature = "admin")]
    admin: Option<crate::admin::AdminServer>,
    /// The export of spans and metrics.
    #[cfg(feature = "otlp")]
    exporter: Option<crate::otlp::Exporter>,
}

/// A handle on a server for any thread: requests a stop, reads the numbers.
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<ServerShared>,
    stop: Sender<ServerEvent>,
}

impl Stopper {
    /// Requests a drain, as SIGTERM does; the thread that waits for the server carries it out.
    pub fn stop(&self) {
        // The waiting thread handles one stop at a time; further ones are redundant.
        let _ = self.stop.try_send(ServerEvent::Stop);
    }

    /// Returns the current numbers.
    pub fn stats(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Returns when the server began to end, if it has: because a stop was requested, or a new process has taken over.
    pub fn stopping_since(&self) -> Option<Instant> {
        self.shared.stopping.get().copied()
    }
}

impl Server {
    /// Returns a builder for a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Returns a builder for a server that listens in memory only, for clients in the same process
    /// ([`ServerBuilder::in_memory`]).
    ///
    /// ```
    /// use coreloop::client::Direct;
    /// use coreloop::{Context, Server};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::in_memory()
    ///     .method("Greeter.Greet", |_cx: &Context, name: String| Ok(format!("hello, {name}")))
    ///     .start()?;
    /// let mut direct = Direct::connect(&server.addresses()[0].to_string())?;
    /// # drop(direct);
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_memory() -> ServerBuilder {
        Server::builder().in_memory()
    }

    /// Returns the addresses that the server listens on, with actual ports and names, in the order of the configuration.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns one line for each method with a type that is not described, and is therefore incomplete in some codecs
    /// ([`Method::warning`](crate::service::Method::warning)), for each environment variable of the export that has no
    /// effect, for each certificate that expires within 14 days, and for each socket that was passed and has no listener. [`ServerBuilder::run`] prints them unless there is a
    /// logger (feature `log`), which receives them.
    pub fn warnings(&self) -> Vec<String> {
        let methods = self.shared.registry.methods().iter().filter_map(|method| method.warning());
        #[cfg(feature = "otlp")]
        let methods = methods.chain(self.shared.observation.export.warnings());
        #[cfg(feature = "tls-core")]
        let methods = methods.chain(self.shared.tls.iter().flat_map(|tls| tls.warnings()));
        methods.chain(self.restart.warnings()).collect()
    }

    /// Returns the current numbers: by method, by reactor, of the workers.
    pub fn stats(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Returns the health state, which sets whether a service is able to serve; `Health.Check` reports it.
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// Returns handles on the server's reactors, for further roles on their threads, such as a client's connections
    /// ([`Driver::on`](crate::client::Driver::on)).
    pub fn reactors(&self) -> Vec<RoleHandle> {
        self.shared.parts.iter().map(|part| part.remote.roles()).collect()
    }

    /// Returns a view of the server, for pages and exports.
    pub fn inspector(&self) -> Inspector {
        Inspector { shared: self.shared.clone() }
    }

    /// Returns the address of the admin listener (`admin.listen`), with the actual port.
    #[cfg(feature = "admin")]
    pub fn admin_address(&self) -> Option<&Address> {
        self.admin.as_ref().map(crate::admin::AdminServer::address)
    }

    /// Returns a handle for other threads.
    pub fn stopper(&self) -> Stopper {
        Stopper { shared: self.shared.clone(), stop: self.stop.clone() }
    }

    /// Returns the process from which this one has taken over ([`ServerBuilder::takeover`]), if it has, and if the system
    /// tells its number.
    #[cfg(feature = "restart")]
    pub fn predecessor(&self) -> Option<u32> {
        self.restart.predecessor()
    }

    /// Waits until a stop is requested or a new process has taken over, then drains and ends.
    ///
    /// # Errors
    ///
    /// A reactor ended by itself.
    pub fn wait(mut self) -> Result<Snapshot, Error> {
        match self.events.recv() {
            Ok(ServerEvent::Stop | ServerEvent::HandedOver) | Err(_) => Ok(self.end()),
            Ok(ServerEvent::Ended(index, result)) => {
                self.running -= 1;
                if let Err(Error::ReactorPanicked { reactor }) = result {
                    log_event!(ReactorPanicked { reactor });
                }
                result?;
                Err(Error::Io(io::Error::other(format!("reactor {index} ended unexpectedly"))))
            }
        }
    }

    /// Drains the server and ends it. It reports that it no longer serves, deregisters itself
    /// ([`ServerBuilder::register`]) and, after `drain_grace_ms`, stops accepting, sends drain notices to the peers, lets calls in flight finish within `drain_ms`, answers the rest
    /// with `unavailable` and counts them, exports the last spans within 2 s, and ends. Returns the final numbers.
    pub fn shutdown(mut self) -> Snapshot {
        self.end()
    }

    /// Emits the events of the start.
    fn log_started(&self, config: &ValidConfig) {
        log_event!(Started {
            addresses: self.addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(", "),
            reactors: config.cores,
            workers: config.workers,
        });
        for warning in self.warnings() {
            log_event!(ConfigWarning { warning });
        }
    }

    fn print_warnings_unless_logged(&self) {
        if !log_events::is_logged() {
            self.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
        }
    }

    fn end(&mut self) -> Snapshot {
        let began = Instant::now();
        let _ = self.shared.stopping.set(began);
        let [grace, drain] = self.shared.reloads.drain_ms().map(Duration::from_millis);
        log_event!(DrainBegun {
            connections: self.shared.snapshot().connections(),
            drain_ms: u64::try_from(drain.as_millis()).unwrap_or(u64::MAX),
        });
        if self.restart.stop() {
            // The service goes on in the new process, at the same addresses: it is healthy, and registered.
            self.registrations.abandon();
            #[cfg(feature = "admin")]
            if let Some(admin) = &self.admin {
                admin.drain();
            }
        } else {
            self.shared.health.go_down();
            self.deregister(self.registrations.end_max());
            if !grace.is_zero() {
                // Load balancers see the change before the port closes. Another request to stop ends the wait.
                self.join_until(Instant::now() + grace, true);
            }
        }
        self.begin_drain();
        if !self.join_until(Instant::now() + drain, true) {
            self.each(Remote::abort);
            // Only last answers and some bookkeeping remain; a handler that hangs on the reactor is left running.
            self.join_until(Instant::now() + Duration::from_secs(2), false);
            log_event!(DrainCut { calls: self.shared.snapshot().drain_cancelled });
        }
        self.shared.pools.stop(Duration::from_secs(1));
        self.shared.interceptors.finish();
        // Last, since until now calls have ended.
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter.take() {
            exporter.shutdown();
        }
        log_event!(Drained { took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX) });
        log_events::finish();
        self.shared.snapshot()
    }

    /// Deregisters the server, and waits for it for at most this time. A request to stop ends the wait.
    fn deregister(&mut self, wait: Duration) {
        let Some(done) = self.registrations.end() else { return };
        let until = Instant::now() + wait;
        loop {
            crossbeam_channel::select! {
                // One message for each registration, and the end of the channel after the last.
                recv(done) -> ended => if ended.is_err() { return },
                recv(self.events) -> event => match event {
                    Ok(ServerEvent::Ended(..)) => self.running -= 1,
                    Ok(ServerEvent::HandedOver) => {}
                    Ok(ServerEvent::Stop) | Err(_) => return,
                },
                default(until.saturating_duration_since(Instant::now())) => return,
            }
        }
    }

    /// Asks the reactors to drain, without waiting for their end.
    pub(crate) fn begin_drain(&self) {
        self.each(Remote::drain);
    }

    fn each(&self, tell: impl Fn(&Remote<Completion>)) {
        self.shared.parts.iter().for_each(|part| tell(&part.remote));
    }

    /// Waits for the reactors to end. A second request to stop ends the wait.
    fn join_until(&mut self, until: Instant, heeds_stop: bool) -> bool {
        while self.running > 0 {
            match self.events.recv_deadline(until) {
                Ok(ServerEvent::Ended(..)) => self.running -= 1,
                Ok(ServerEvent::Stop) if heeds_stop => return false,
                Ok(ServerEvent::Stop | ServerEvent::HandedOver) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running > 0 {
            self.deregister(self.registrations.end_max().min(DROP_DEREGISTER_MAX));
            self.each(Remote::stop);
            self.join_until(Instant::now() + Duration::from_secs(2), false);
            self.shared.pools.stop(Duration::from_millis(200));
            self.shared.interceptors.finish();
        }
    }
}

impl ServerShared {
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { workers: self.pools.snapshot(), ..Snapshot::default() };
        for part in &self.parts {
            snapshot.reactors.push(ReactorSnapshot::of(&part.reactor));
            snapshot.add_calls(&part.app.calls);
        }
        snapshot.panics += self.async_calls.panics();
        snapshot.async_in_flight = self.async_calls.in_flight();
        snapshot.protocols = self.side.connections.counts();
        snapshot.response_entries_dropped = self.side.entries_dropped.load(Ordering::Relaxed);
        #[cfg(feature = "tls-core")]
        if let Some(tls) = &self.tls {
            snapshot.tls = Some(tls.snapshot());
        }
        for (index, method) in self.registry.methods().iter().enumerate() {
            let parts = self.parts.iter().map(|part| &part.app.methods[index]);
            snapshot.methods.push(MethodSnapshot::of(method.name(), parts));
        }
        snapshot
    }
}
