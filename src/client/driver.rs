//! The thread that drives a client's connections: one of its own, or a reactor's that runs already.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use super::app::{ClientApp, ClientCommand};
use crate::config::Limits;
use crate::reactor::{Guest, Host, Reactor, ReactorConfig, Remote};
use crate::stats::Counter;

/// Longer than any process lives, and still adds up with any time.
const FOR_EVER_MS: u64 = 1_000 * 86_400 * 3_650;

/// How the thread of a [`Driver`] runs, and what it expects of every connection. Times are in milliseconds, where the
/// name does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverConfig {
    /// Microseconds that it polls without sleeping when there is nothing to do. Default 0. More: an answer is seen at
    /// once, at the price of a core.
    pub busy_poll_us: u64,
    /// The core that it runs on. Default: any.
    pub core: Option<usize>,
    /// Time for a whole reply once it began, in total. Default 30 000, at least 1. At the limit: the connection is given
    /// up and its calls fail. Too small: large replies over slow links never arrive. Too large: a server that stops in
    /// the middle of one is noticed late.
    pub frame_ms: u64,
    /// With something to write, the server has taken nothing for so long: the connection is given up. Default 30 000, at
    /// least 1. Too small: a server that is stopped for a moment loses its calls. Too large: calls without a deadline
    /// wait long for one that reads no more.
    pub write_stall_ms: u64,
}

impl Default for DriverConfig {
    fn default() -> DriverConfig {
        let Limits { frame_ms, write_stall_ms, .. } = Limits::default();
        DriverConfig { busy_poll_us: 0, core: None, frame_ms, write_stall_ms }
    }
}

/// What drives the connections of clients. Several clients may share one; it ends when the last of them has gone.
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
    remote: Remote<ClientCommand>,
    shared: Arc<DriverShared>,
    numbers: AtomicU64,
}

/// What the app and those who ask it share.
#[derive(Default)]
pub(super) struct DriverShared {
    pub(super) thread: OnceLock<ThreadId>,
    pub(super) stats: DriverCounters,
}

/// What a driver counts; the driver's thread alone writes.
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

/// What a driver has counted, over all clients that it drives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Connections made.
    pub connects: u64,
    /// Tries to connect that failed.
    pub connect_failures: u64,
    /// Connections that ended with calls in flight.
    pub lost: u64,
    /// Drain notices from servers.
    pub drains: u64,
    /// Calls written.
    pub sent: u64,
    /// Calls answered, with whatever status.
    pub answered: u64,
    /// Calls given up by their callers.
    pub cancelled: u64,
    /// Calls whose deadline passed here.
    pub late: u64,
    /// Replies to calls that were over: given up, late, or answered before.
    pub late_replies: u64,
    /// Replies to calls that never were.
    pub unknown_replies: u64,
}

impl Driver {
    /// Starts a thread that drives.
    ///
    /// # Errors
    ///
    /// The system gives no thread or no event queue.
    pub fn spawn() -> io::Result<Driver> {
        Driver::spawn_with(&DriverConfig::default())
    }

    /// The same, as configured.
    ///
    /// # Errors
    ///
    /// A time that cannot be; or the system gives no thread or no event queue.
    pub fn spawn_with(config: &DriverConfig) -> io::Result<Driver> {
        let (mut reactor, driver) = build(config)?;
        crate::threads::detached("coreloop-client", move || {
            // Ended by itself, it drops its promises: every caller hears of it.
            let _ = reactor.run();
        })?;
        Ok(driver)
    }

    /// Has a reactor that runs already drive: a server's ([`Server::hosts`](crate::server::Server::hosts)), for calls
    /// from its handlers. It ends with that reactor at the latest.
    ///
    /// # Errors
    ///
    /// The system gives no event queue, or the reactor has ended.
    pub fn on(host: &Host) -> io::Result<Driver> {
        let (driver, guest) = Driver::guest()?;
        host.take_in(guest)
            .map_err(|_| io::Error::new(io::ErrorKind::NotConnected, "the reactor has ended"))?;
        Ok(driver)
    }

    /// A driver whose thread is still to be found: bring the guest to a server with
    /// [`ClientBuilder::guest`](crate::server::ServerBuilder::guest), for services that call others from its own reactors. Calls
    /// wait until then; if the guest is dropped, they fail.
    ///
    /// # Errors
    ///
    /// The system gives no event queue.
    pub fn guest() -> io::Result<(Driver, Box<dyn Guest>)> {
        let (reactor, driver) = build(&DriverConfig::default())?;
        Ok((driver, Box::new(reactor)))
    }

    /// What it has counted.
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

    pub(super) fn mail(&self, letter: ClientCommand) -> Result<(), ClientCommand> {
        self.inner.remote.mail(letter)
    }

    pub(super) fn remote(&self) -> &Remote<ClientCommand> {
        &self.inner.remote
    }

    pub(super) fn is_this_thread(&self) -> bool {
        self.inner.shared.thread.get().is_some_and(|thread| *thread == std::thread::current().id())
    }
}

impl Drop for DriverInner {
    fn drop(&mut self) {
        // Each line has closed before: what is left is to write what was said, and to end.
        self.remote.drain();
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn build(config: &DriverConfig) -> io::Result<(Reactor<ClientApp>, Driver)> {
    for (name, ms) in [("frame_ms", config.frame_ms), ("write_stall_ms", config.write_stall_ms)] {
        if !(1..=FOR_EVER_MS).contains(&ms) {
            let error = format!("{name}: expected a value from 1 to {FOR_EVER_MS}; found {ms}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
    }
    let limits = Limits {
        // A client's connections are bounded by its calls (`ClientConfig`), and it never stops reading: a server that
        // waits to be read while it is not read from would wait for ever.
        write_queue_high_bytes: usize::MAX >> 1,
        write_queue_low_bytes: usize::MAX >> 2,
        in_flight_max: usize::MAX,
        in_flight_bytes_max: usize::MAX,
        // A server speaks when it is spoken to; the app looks after idle connections by itself.
        first_bytes_ms: FOR_EVER_MS,
        idle_ms: FOR_EVER_MS,
        frame_ms: config.frame_ms,
        write_stall_ms: config.write_stall_ms,
        ..Limits::default()
    };
    let reactor_config = ReactorConfig {
        limits,
        busy_poll: Duration::from_micros(config.busy_poll_us),
        core: config.core,
        ..ReactorConfig::default()
    };
    let shared = Arc::new(DriverShared::default());
    let of_app = shared.clone();
    let reactor = Reactor::with_app(reactor_config, |remote| ClientApp::new(remote, of_app))?;
    let remote = reactor.remote();
    Ok((reactor, Driver { inner: Arc::new(DriverInner { remote, shared, numbers: AtomicU64::new(1) }) }))
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
    fn every_number_has_its_place_in_the_docs() {
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
