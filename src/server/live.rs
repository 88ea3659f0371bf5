//! What operators see of a server at work: its calls, its connections and its queues at one moment.
//!
//! The data belong to the reactors' threads. A request travels to each reactor through its mailbox, and is answered in its
//! next turn with at most [`ENTRIES_MAX`] entries, within about [`INSPECT_MAX`]. A reactor that does not answer within
//! [`ANSWER_WAIT`] is reported as such.

use std::io;
use std::time::{Duration, Instant};

use coreloop_poller::Key;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Completion, Error, Inspector, Server};
use crate::context::Peer;
use crate::log_events::log_event;
use crate::service::Method;
use crate::stats::{Counter, STAGES};

/// The most entries that one reactor returns.
pub(crate) const ENTRIES_MAX: usize = 1000;
/// The most time that one reactor takes for an answer.
pub(crate) const INSPECT_MAX: Duration = Duration::from_millis(1);
/// For how long the answers of the reactors are waited for, in all.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// What is asked of a reactor.
pub(crate) enum InspectRequest {
    /// The calls in flight.
    Calls(Sender<Listed<LiveCall>>),
    /// The connections.
    Connections(Sender<Listed<LiveConnection>>),
    /// The run queue.
    Queue(Sender<QueueState>),
    /// Cancel a call. Answers whether it was in flight.
    Cancel(LiveCallId, Sender<bool>),
}

/// Entries of a reactor, and how many there are in all.
#[derive(Clone, Debug)]
pub(crate) struct Listed<T> {
    /// At most [`ENTRIES_MAX`].
    pub(crate) entries: Vec<T>,
    /// There may be more: a limit was reached.
    pub(crate) is_cut: bool,
}

impl<T> Listed<T> {
    pub(crate) fn new() -> Listed<T> {
        Listed { entries: Vec::new(), is_cut: false }
    }
}

/// Identifies a call in flight of a reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveCallId {
    /// The connection.
    pub(crate) connection: Key,
    /// The slot of the call.
    pub(crate) slot: u32,
    /// The peer's id of the call.
    pub(crate) id: u64,
}

/// A call in flight.
#[derive(Clone, Debug)]
pub(crate) struct LiveCall {
    pub(crate) call: LiveCallId,
    /// `Service.Method`, or the route.
    pub(crate) method: String,
    pub(crate) peer: Peer,
    /// The protocol of the connection.
    pub(crate) protocol: &'static str,
    /// Since the call was admitted.
    pub(crate) age: Duration,
    /// `queued`, `running`, `streaming`, `writing`, or `ended` (it was answered and its handler still runs).
    pub(crate) stage: &'static str,
    /// Until the deadline; zero if it has passed.
    pub(crate) time_left: Option<Duration>,
    pub(crate) argument_bytes: u32,
    pub(crate) one_way: bool,
}

/// A connection.
#[derive(Clone, Debug)]
pub(crate) struct LiveConnection {
    pub(crate) connection: Key,
    pub(crate) peer: Peer,
    pub(crate) protocol: &'static str,
    pub(crate) state: &'static str,
    pub(crate) age: Duration,
    /// Since the peer's last byte.
    pub(crate) silent: Duration,
    /// Calls without streams that have not ended.
    pub(crate) in_flight: usize,
    pub(crate) streams: usize,
    /// Bytes that wait to be written.
    pub(crate) unwritten_bytes: usize,
}

/// The run queue of a reactor; of each pair, the first is for the workers, the second for the blocking threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueState {
    pub(crate) waiting: [usize; 2],
    pub(crate) waiting_max: usize,
    pub(crate) running: [u32; 2],
    /// Estimated nanoseconds of the calls that wait or run.
    pub(crate) work_ns: [u64; 2],
    /// Nanoseconds that a new call would wait for a worker.
    pub(crate) load_ns: u64,
    /// The adaptive limit on calls in progress.
    pub(crate) limit: Option<u32>,
}

impl Inspector {
    /// Asks every reactor, and returns the answers in their order; `None` for one that has not answered.
    pub(crate) fn ask<T>(&self, request: impl Fn(Sender<T>) -> InspectRequest) -> Vec<Option<T>> {
        let parts = 0..self.shared.parts.len();
        let asked: Vec<Receiver<T>> = parts.map(|reactor| self.ask_one(reactor, &request)).collect();
        let until = Instant::now() + ANSWER_WAIT;
        asked.into_iter().map(|answer| answer.recv_deadline(until).ok()).collect()
    }

    fn ask_one<T>(&self, reactor: usize, request: impl Fn(Sender<T>) -> InspectRequest) -> Receiver<T> {
        let (sender, receiver) = bounded(1);
        // If the reactor has ended, the sender is dropped, and the receiver learns that at once.
        let _ = self.shared.parts[reactor].remote.mail(Completion::Inspect(Box::new(request(sender))));
        receiver
    }

    /// Returns the nanoseconds in each stage ([`STAGES`](crate::stats::STAGES)) over the sampled turns, of each reactor.
    pub(crate) fn stage_ns(&self) -> Vec<[u64; STAGES.len()]> {
        self.shared.parts.iter().map(|part| part.reactor.stage_ns.each_ref().map(Counter::value)).collect()
    }

    /// Returns the methods, and the routes, of the server.
    pub(crate) fn methods(&self) -> &[Method] {
        self.shared.registry.methods()
    }

    /// Returns the descriptions of the methods that the console shows a form for.
    pub(crate) fn described_methods(&self) -> serde_json::Value {
        super::pages::openapi::described(self.shared.registry.methods())
    }

    /// Returns whether the server serves; otherwise why not.
    pub(crate) fn not_ready(&self) -> Option<String> {
        self.shared.health.reason_not_ready()
    }

    /// Cancels a call of a reactor. Returns whether it was in flight; `None` if the reactor has not answered.
    pub(crate) fn cancel(&self, reactor: usize, call: LiveCallId) -> Option<bool> {
        if reactor >= self.shared.parts.len() {
            return Some(false);
        }
        let answer = self.ask_one(reactor, |sender| InspectRequest::Cancel(call, sender));
        answer.recv_timeout(ANSWER_WAIT).ok()
    }
}

impl Server {
    /// Starts the admin listener that the configuration names.
    pub(super) fn start_admin(&mut self) -> Result<(), Error> {
        let inspector = self.inspector();
        let is_optional = inspector.admin().is_optional;
        let listen = inspector.config().admin.listen.clone();
        let sockets = self.shared.sockets.clone();
        self.admin = match crate::admin::start(&listen, inspector, &self.addresses, sockets) {
            Err(Error::Io(error)) if is_optional && error.kind() == io::ErrorKind::AddrInUse => {
                log_event!(AdminSkipped { address: listen });
                None
            }
            admin => Some(admin?),
        };
        Ok(())
    }
}
