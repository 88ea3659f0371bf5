//! The server: a builder, the reactors and workers that it starts, and their end.
//!
//! The role that its reactors play is in `app`; this file starts them, joins them, and adds up what they count.

mod app;
mod builder;
#[cfg(feature = "bench-internals")]
mod detached;
mod directory;
#[cfg(feature = "http")]
mod pages;
#[cfg(feature = "record")]
mod record;
mod timing;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

pub use app::Completion;
pub use builder::ServerBuilder;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use detached::DetachedServer;
#[cfg(feature = "record")]
pub use record::{RecordError, Recording};

use self::app::AppStats;
use crate::config::ConfigError;
use crate::reactor::{Address, Host, Remote};
use crate::service::builtin::Health;
use crate::service::{RegisterError, Registry};
use crate::stats::{MethodSnapshot, ReactorSnapshot, ReactorStats, Snapshot};
use crate::workers::Pools;

/// Why a server could not start, or ended before it was told to.
#[non_exhaustive]
pub enum Error {
    /// A method cannot be registered.
    Register(RegisterError),
    /// The configuration cannot be.
    Config(ConfigError),
    /// The system refused a socket, a thread, or an event queue.
    Io(io::Error),
    /// The file to record into could not be made.
    #[cfg(feature = "record")]
    Record(RecordError),
    /// A reactor's thread ended in a panic: a bug in coreloop, or in an inline handler's destructor.
    ReactorPanicked {
        /// Which reactor.
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
            #[cfg(feature = "record")]
            Error::Record(error) => error.fmt(f),
            Error::ReactorPanicked { reactor } => write!(f, "the thread of reactor {reactor} panicked"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Their text is this error's own.
            Error::Register(error) => error.source(),
            Error::Config(error) => error.source(),
            Error::Io(error) => error.source(),
            #[cfg(feature = "record")]
            Error::Record(error) => error.source(),
            Error::ReactorPanicked { .. } => None,
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

#[cfg(feature = "record")]
impl From<RecordError> for Error {
    fn from(error: RecordError) -> Error {
        Error::Record(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// What wakes the one who waits for the server.
enum ServerEvent {
    /// Asked to stop, by a signal or a [`Stopper`].
    Stop,
    /// A reactor has ended.
    Ended(usize, Result<(), Error>),
}

/// One reactor, as its server knows it.
struct ReactorThread {
    remote: Remote<Completion>,
    reactor: Arc<ReactorStats>,
    app: Arc<AppStats>,
}

/// What is shared between the server's owner and those who only look.
struct ServerShared {
    registry: Arc<Registry>,
    parts: Vec<ReactorThread>,
    pools: Arc<Pools>,
    health: Arc<Health>,
    #[cfg(feature = "record")]
    recorder: Option<record::Recorder>,
}

/// A running server. Dropped, it stops at once; [`Server::shutdown`] drains.
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
pub struct Server {
    shared: Arc<ServerShared>,
    addresses: Vec<Address>,
    events: Receiver<ServerEvent>,
    stop: Sender<ServerEvent>,
    grace: Duration,
    drain: Duration,
    /// Reactors that have not ended.
    running: usize,
}

/// A hand on a server from any thread: asks it to stop, reads its numbers.
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<ServerShared>,
    stop: Sender<ServerEvent>,
}

impl Stopper {
    /// Asks for a drain, as SIGTERM does; whoever waits for the server carries it out.
    pub fn stop(&self) {
        // The one who waits takes one stop at a time; more would say the same.
        let _ = self.stop.try_send(ServerEvent::Stop);
    }

    /// The numbers now.
    pub fn stats(&self) -> Snapshot {
        self.shared.snapshot()
    }
}

impl Server {
    /// A server to be built.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Where it listens, with real ports, in the order of the configuration.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What callers in some codecs miss: one line for each method with a type that is not described
    /// ([`Method::warning`](crate::service::Method::warning)). [`ServerBuilder::run`] prints them.
    pub fn warnings(&self) -> Vec<String> {
        self.shared.registry.methods().iter().filter_map(|method| method.warning()).collect()
    }

    /// The numbers now: by method, by reactor, of the workers.
    pub fn stats(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Says whether a service is able to serve; `Health.Check` tells others.
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// Its reactors, as hosts for others: for a client's connections
    /// ([`Driver::on`](crate::client::Driver::on)).
    pub fn hosts(&self) -> Vec<Host> {
        self.shared.parts.iter().map(|part| part.remote.host()).collect()
    }

    /// A hand on it for other threads.
    pub fn stopper(&self) -> Stopper {
        Stopper { shared: self.shared.clone(), stop: self.stop.clone() }
    }

    /// Waits until it is asked to stop, then drains and ends.
    ///
    /// # Errors
    ///
    /// A reactor ended by itself.
    pub fn wait(mut self) -> Result<Snapshot, Error> {
        match self.events.recv() {
            Ok(ServerEvent::Stop) | Err(_) => Ok(self.end()),
            Ok(ServerEvent::Ended(index, result)) => {
                self.running -= 1;
                result?;
                Err(Error::Io(io::Error::other(format!("reactor {index} ended unexpectedly"))))
            }
        }
    }

    /// Says that it does not serve any longer and, after `drain_grace_ms`, stops accepting, tells peers, lets what is in
    /// flight finish within `drain_ms`, answers `unavailable` to what is left and counts it, and ends. Gives the last
    /// numbers.
    pub fn shutdown(mut self) -> Snapshot {
        self.end()
    }

    fn end(&mut self) -> Snapshot {
        self.shared.health.go_down();
        if !self.grace.is_zero() {
            // Load balancers see it before the port closes. Another request to stop ends the wait.
            self.join_until(Instant::now() + self.grace, true);
        }
        self.each(Remote::drain);
        if !self.join_until(Instant::now() + self.drain, true) {
            self.each(Remote::abort);
            // What is left are last answers and some bookkeeping; a handler on the reactor that hangs is left behind.
            self.join_until(Instant::now() + Duration::from_secs(2), false);
        }
        self.shared.pools.stop(Duration::from_secs(1));
        #[cfg(feature = "record")]
        self.shared.recorder.iter().for_each(record::Recorder::finish);
        self.shared.snapshot()
    }

    fn each(&self, tell: impl Fn(&Remote<Completion>)) {
        self.shared.parts.iter().for_each(|part| tell(&part.remote));
    }

    /// Waits for the reactors to end. A second request to stop ends the patience.
    fn join_until(&mut self, until: Instant, heeds_stop: bool) -> bool {
        while self.running > 0 {
            match self.events.recv_deadline(until) {
                Ok(ServerEvent::Ended(..)) => self.running -= 1,
                Ok(ServerEvent::Stop) if heeds_stop => return false,
                Ok(ServerEvent::Stop) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running > 0 {
            self.each(Remote::stop);
            self.join_until(Instant::now() + Duration::from_secs(2), false);
            self.shared.pools.stop(Duration::from_millis(200));
            #[cfg(feature = "record")]
            self.shared.recorder.iter().for_each(record::Recorder::finish);
        }
    }
}

impl ServerShared {
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { workers: self.pools.snapshot(), ..Snapshot::default() };
        #[cfg(feature = "record")]
        {
            snapshot.record = self.recorder.as_ref().map(record::Recorder::snapshot);
        }
        for part in &self.parts {
            snapshot.reactors.push(ReactorSnapshot::of(&part.reactor));
            snapshot.add_calls(&part.app.calls);
        }
        for (index, method) in self.registry.methods().iter().enumerate() {
            let parts = self.parts.iter().map(|part| &part.app.methods[index]);
            snapshot.methods.push(MethodSnapshot::of(method.name(), parts));
        }
        snapshot
    }
}
