//! The thread that drives a client's connections: one of its own, or that of a server's reactor. `driving.rs` decides
//! when a caller drives instead.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::app::{ClientApp, ClientCommand};
use super::call_slot::EndedAttempts;
use super::driving::{DrivenReactor, Handover};
use super::port::{ClientPort, LocalCommands};
use crate::config::Limits;
use crate::discovery::DiscoveryHandle;
use crate::reactor::{Reactor, ReactorConfig, Remote, RoleHandle};
use crate::stats::Counter;
use crate::threads;

/// Ten years, in effect forever; adding it to any time does not overflow.
const FOR_EVER_MS: u64 = 1_000 * 86_400 * 3_650;

/// The settings of a [`Driver`]: how its thread runs, and its timeouts for every connection. Times are in
/// milliseconds, unless the name has another unit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverConfig {
    /// Microseconds for which the thread polls without sleeping when it is idle. Default 0. More: a reply is seen at
    /// once, at the cost of a core, and callers never drive the client themselves.
    pub busy_poll_us: u64,
    /// The core that the thread runs on. Default: any. If it is set, callers never drive the client themselves.
    pub core: Option<usize>,
    /// Time for a whole reply, from its first byte. Default 30 000, at least 1. At the limit: the connection is
    /// closed and its calls fail. Too small: large replies over slow links never arrive. Too large: a server that
    /// stops in the middle of a reply is noticed late.
    pub frame_ms: u64,
    /// Time without progress while bytes wait to be written. Default 30 000, at least 1. At the limit: the connection
    /// is closed and its calls fail. Too small: a server that stops for a moment loses its calls. Too large: calls
    /// without a deadline wait long for a server that has stopped reading.
    pub write_stall_ms: u64,
}

impl Default for DriverConfig {
    fn default() -> DriverConfig {
        let Limits { frame_ms, write_stall_ms, .. } = Limits::default();
        DriverConfig { busy_poll_us: 0, core: None, frame_ms, write_stall_ms }
    }
}

/// Drives the connections of clients. Several clients may share one driver; it ends when the last of them is dropped.
///
/// ```
/// use coreloop::client::{Client, Driver};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = coreloop::Server::builder().listen("127.0.0.1:0").start()?;
/// # let address = server.addresses()[0].to_string();
/// let driver = Driver::spawn()?;
/// let one = Client::builder(&address).on(&driver).connect()?;
/// let other = Client::builder(&address).on(&driver).connect()?; // no second thread
/// # drop((one, other));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Driver {
    inner: Arc<DriverInner>,
}

struct DriverInner {
    /// The mailbox, also for sinks and streams.
    port: Arc<ClientPort>,
    shared: Arc<DriverShared>,
    numbers: AtomicU64,
}

/// The state that the driver's thread and its handles share.
#[derive(Default)]
pub(super) struct DriverShared {
    /// The mark of the thread, if it is that of a server's reactor; 0 before it runs.
    pub(super) thread: AtomicUsize,
    /// The reactor, if the driver has one of its own.
    pub(super) handover: Option<Handover<DrivenReactor>>,
    /// Waits that have ended; the reactor writes it.
    pub(super) waits: Counter,
    /// The wait that has ended last, as [`DriverShared::end_wait`] says; the reactor writes it.
    pub(super) last_wait: AtomicUsize,
    pub(super) stats: DriverCounters,
    /// What sinks and streams post on the driver's thread.
    pub(super) local: LocalCommands,
    /// The attempts of fleets' calls that have ended.
    pub(super) ended: EndedAttempts,
    /// The reactor, for resolvers and names; set by the first use.
    discovery: OnceLock<DiscoveryHandle>,
}

impl DriverShared {
    pub(super) fn discovery(&self, remote: &Remote<ClientCommand>) -> &DiscoveryHandle {
        self.discovery.get_or_init(|| DiscoveryHandle::new(remote.roles()))
    }

    pub(super) fn is_this_thread(&self) -> bool {
        match &self.handover {
            Some(handover) => handover.is_with(threads::mark()),
            None => self.thread.load(Ordering::Relaxed) == threads::mark(),
        }
    }

    /// Takes note of the thread that runs the app, which has no reactor of its own.
    pub(super) fn set_thread(&self) {
        self.thread.store(threads::mark(), Ordering::Relaxed);
    }

    /// Takes note that a call is awaited otherwise than by driving the reactor. [`DriverShared::end_wait`] ends it.
    pub(super) fn begin_wait(&self) {
        if let Some(handover) = &self.handover {
            handover.begin_wait();
        }
    }

    /// Takes note of the end of a wait: of a thread, given by its mark, that could have driven the reactor, or
    /// [`OTHER_WAIT`](super::driving::OTHER_WAIT).
    pub(super) fn end_wait(&self, awaited_by: usize) {
        if let Some(handover) = &self.handover {
            self.waits.add(1);
            self.last_wait.store(awaited_by, Ordering::Relaxed);
            handover.end_wait();
        }
    }
}

/// The counters of a driver; only the driver's thread writes them.
#[derive(Default)]
pub(super) struct DriverCounters {
    pub(super) connects: Counter,
    pub(super) connect_failures: Counter,
    pub(super) lost: Counter,
    pub(super) drains: Counter,
    pub(super) sent: Counter,
    pub(super) answered: Counter,
    pub(super) cancelled: Counter,
    pub(super) late: Counter,
    pub(super) late_replies: Counter,
    pub(super) unknown_replies: Counter,
}

/// The counters of a driver, over all clients that it drives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Connections made.
    pub connects: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Connections that ended with calls in flight.
    pub lost: u64,
    /// Drain notices from servers.
    pub drains: u64,
    /// Calls written.
    pub sent: u64,
    /// Calls answered, with any status.
    pub answered: u64,
    /// Calls cancelled by their callers.
    pub cancelled: u64,
    /// Calls whose deadline passed on this side.
    pub late: u64,
    /// Replies to calls that were over: cancelled, late, or answered before.
    pub late_replies: u64,
    /// Replies to calls that never existed.
    pub unknown_replies: u64,
}

impl Driver {
    /// Starts a driver on a thread of its own.
    ///
    /// # Errors
    ///
    /// The system provides no thread or no event queue.
    pub fn spawn() -> io::Result<Driver> {
        Driver::spawn_with(&DriverConfig::default())
    }

    /// Starts a driver on a thread of its own, with these settings.
    ///
    /// # Errors
    ///
    /// A time is out of range, or the system provides no thread or no event queue.
    pub fn spawn_with(config: &DriverConfig) -> io::Result<Driver> {
        let handover = Some(Handover::new());
        let shared = Arc::new(DriverShared { handover, ..DriverShared::default() });
        let of_app = shared.clone();
        let reactor = Reactor::with_app(reactor_config(config)?, |remote| ClientApp::new(remote, of_app))?;
        let driver = Driver::new(reactor.remote(), shared.clone());
        // A driver that polls without sleeping, or has a core to itself, is meant to be a thread.
        let callers_drive = config.busy_poll_us == 0 && config.core.is_none();
        let of_thread = shared.clone();
        if let Some(handover) = &shared.handover {
            handover.set(DrivenReactor::new(reactor));
        }
        let started = threads::detached("coreloop-client", move || of_thread.run_driver(callers_drive));
        if let (Err(_), Some(handover)) = (&started, &shared.handover) {
            handover.discard();
        }
        started?;
        Ok(driver)
    }

    /// Starts a driver on a server's reactor, for calls from the server's handlers, with the default settings:
    /// a reactor of a running server ([`Server::reactors`](crate::server::Server::reactors)) or, for services that
    /// receive their client when they are constructed, of one that will be started
    /// ([`ServerBuilder::reactor`](crate::server::ServerBuilder::reactor)); then calls wait until the start. The driver
    /// ends with that reactor at the latest. A server that drains ends first, so that its handlers can finish; what
    /// their clients have queued is written, and calls that are still in flight fail.
    ///
    /// # Errors
    ///
    /// The reactor has ended.
    pub fn on(reactor: &RoleHandle) -> io::Result<Driver> {
        let shared = Arc::new(DriverShared::default());
        let of_app = shared.clone();
        let config = reactor_config(&DriverConfig::default())?;
        let remote = reactor.add(config, |remote| ClientApp::new(remote, of_app))?;
        Ok(Driver::new(remote, shared))
    }

    fn new(remote: Remote<ClientCommand>, shared: Arc<DriverShared>) -> Driver {
        let port = Arc::new(ClientPort::new(remote, shared.clone()));
        Driver { inner: Arc::new(DriverInner { port, shared, numbers: AtomicU64::new(1) }) }
    }

    /// Returns the counters.
    pub fn stats(&self) -> ClientStats {
        let stats = &self.inner.shared.stats;
        ClientStats {
            connects: stats.connects.value(),
            connect_failures: stats.connect_failures.value(),
            lost: stats.lost.value(),
            drains: stats.drains.value(),
            sent: stats.sent.value(),
            answered: stats.answered.value(),
            cancelled: stats.cancelled.value(),
            late: stats.late.value(),
            late_replies: stats.late_replies.value(),
            unknown_replies: stats.unknown_replies.value(),
        }
    }

    pub(super) fn take_number(&self) -> u64 {
        self.inner.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Passes a command to the reactor. If that has ended, the command is dropped, which fails its calls.
    pub(super) fn mail(&self, command: ClientCommand) {
        drop(self.remote().mail(command));
    }

    /// Passes a call to the reactor. If that has ended, the call fails.
    pub(super) fn send(&self, command: ClientCommand) {
        self.shared().send(self.remote(), command);
    }

    pub(super) fn remote(&self) -> &Remote<ClientCommand> {
        self.inner.port.remote()
    }

    pub(super) fn shared(&self) -> &DriverShared {
        &self.inner.shared
    }

    /// Returns the handle of the reactor for resolvers.
    pub(super) fn discovery(&self) -> &DiscoveryHandle {
        self.inner.shared.discovery(self.remote())
    }

    pub(super) fn port(&self) -> &Arc<ClientPort> {
        &self.inner.port
    }

    pub(super) fn is_this_thread(&self) -> bool {
        self.inner.shared.is_this_thread()
    }
}

impl Drop for DriverInner {
    fn drop(&mut self) {
        // Every endpoint is closed by now: the reactor writes what is queued, and ends.
        self.port.remote().drain();
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Checks the settings, and returns the configuration of a reactor for a client.
fn reactor_config(config: &DriverConfig) -> io::Result<ReactorConfig> {
    for (name, ms) in [("frame_ms", config.frame_ms), ("write_stall_ms", config.write_stall_ms)] {
        if !(1..=FOR_EVER_MS).contains(&ms) {
            let error = format!("{name}: expected a value from 1 to {FOR_EVER_MS}; found {ms}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
    }
    let limits = Limits {
        // The calls of a client bound its connections (`ClientConfig`), and it never stops reading: if the server
        // stopped reading until its own output is read, both sides would wait forever.
        write_queue_high_bytes: usize::MAX >> 1,
        write_queue_low_bytes: usize::MAX >> 2,
        in_flight_max: usize::MAX,
        in_flight_bytes_max: usize::MAX,
        // A server sends nothing before it is called, and the application handles idle connections itself.
        first_bytes_ms: FOR_EVER_MS,
        idle_ms: FOR_EVER_MS,
        frame_ms: config.frame_ms,
        write_stall_ms: config.write_stall_ms,
        ..Limits::default()
    };
    Ok(ReactorConfig {
        limits,
        busy_poll: Duration::from_micros(config.busy_poll_us),
        core: config.core,
        ..ReactorConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_row_in_the_docs() {
        let docs = include_str!("../../docs/client.md");
        for line in format!("{:#?}", DriverConfig::default()).lines() {
            if let Some((name, value)) = line.trim().trim_end_matches(',').split_once(": ") {
                let row = format!("| `{name}` | {value} | ");
                assert!(docs.contains(&row), "docs/client.md lacks the row {row}");
            }
        }
    }

    #[test]
    fn every_counter_is_in_the_docs() {
        let docs = include_str!("../../docs/client.md");
        let table = docs.split("| field of `ClientStats` |").nth(1).unwrap().split("\n\n").next().unwrap();
        let numbers = format!("{:#?}", ClientStats::default());
        let names: Vec<&str> =
            numbers.lines().filter_map(|line| Some(line.trim().split_once(':')?.0)).collect();
        for name in &names {
            assert!(table.contains(&format!("`{name}`")), "docs/client.md lacks {name}");
        }
        let quoted = table.matches('`').count() / 2;
        assert_eq!(quoted, names.len(), "docs/client.md has numbers that are gone");
    }
}
