//! Observers: a program's own view of the requests that a server accepts and of the ends of its calls.
//!
//! A [`ServerObserver`] belongs to the server; it creates one [`CallObserver`] for each reactor, so that observing
//! needs no lock and shares no cache line. The calls to an observer are made in `app`.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::context::Peer;
use crate::message::Metadata;
pub use crate::policy::run_queue::ShedReason;
use crate::service::Method;
use crate::status::Code;
use crate::wire::ProtocolId;

/// Observes the calls of a server. Register it with
/// [`ServerBuilder::observer`](crate::server::ServerBuilder::observer).
pub trait ServerObserver: Send + Sync {
    /// Called once before the server accepts connections, when its listeners are bound. An observer names a method by
    /// its index in `methods`, which has the order of [`Snapshot::methods`](crate::stats::Snapshot::methods).
    ///
    /// # Errors
    ///
    /// The observer cannot work; the server does not start.
    fn start(&self, methods: &[Method]) -> io::Result<()> {
        let _ = methods;
        Ok(())
    }

    /// Creates the observer of the reactor with this index; called after [`ServerObserver::start`], once for each
    /// reactor.
    fn observe_reactor(&self, reactor: usize) -> Box<dyn CallObserver>;

    /// Called once when the reactors have ended. A reactor whose handler hangs is left running, and may still observe
    /// calls.
    fn finish(&self) {}
}

/// Observes the calls of one reactor, on the reactor's thread: it must not wait, and must not panic.
///
/// Every request has exactly one end. Without an observer of ends, quick inline calls are timed together (two clock
/// readings for all of them); with one, each call is timed.
pub trait CallObserver: Send {
    /// Called for a request that has passed admission, before it is run or queued.
    fn on_request(&mut self, request: &ObservedRequest<'_>) {
        let _ = request;
    }

    /// Whether [`CallObserver::on_end`] is to be called; asked once, when the reactor is created. Default: true.
    fn observes_ends(&self) -> bool {
        true
    }

    /// Called when a call has ended, before its answer is written. Requests that were refused have ends too
    /// ([`EndPlace::Refused`]), without an [`CallObserver::on_request`] before.
    fn on_end(&mut self, end: &EndedCall) {
        let _ = end;
    }
}

/// A request that has passed admission.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ObservedRequest<'a> {
    /// The time at which the reactor's turn began.
    pub at: Instant,
    /// The connection, as a number that is unique on its reactor.
    pub connection: u64,
    /// The peer.
    pub peer: Peer,
    /// The connection's protocol.
    pub protocol: Option<ProtocolId>,
    /// The caller's id of the call, unique among its unanswered calls on the connection unless it is one-way.
    pub id: u64,
    /// The index of the method.
    pub method: u32,
    /// The number of the body's codec in frames ([`Codec::from_number`](crate::codec::Codec::from_number)).
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The caller expects no answer.
    pub one_way: bool,
    /// The argument is a stream of messages, which follow the request.
    pub argument_follows: bool,
    /// Time left when the caller sent the request, in microseconds; 0 is no deadline.
    pub time_left_us: u32,
    /// The metadata. May hold credentials.
    pub metadata: Metadata<'a>,
    /// The body.
    pub body: &'a [u8],
}

/// The end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedCall {
    /// The connection, as in [`ObservedRequest::connection`].
    pub connection: u64,
    /// The caller's id of the call.
    pub id: u64,
    /// The index of the method; `None` if the request was refused before its method was known.
    pub method: Option<u32>,
    /// The caller expects no answer.
    pub one_way: bool,
    /// How the call ended. A call whose connection has closed is `cancelled`.
    pub code: Code,
    /// Where the call ended.
    pub place: EndPlace,
    /// Microseconds that the call was queued; 0 if it ended before its work did.
    pub queue_us: u32,
    /// Microseconds that the handler took; 0 if the call ended before its work did.
    pub handler_us: u32,
    /// Bytes of the argument, as received, without the messages of streams; 0 if the request was refused by the
    /// protocol.
    pub request_bytes: usize,
    /// Bytes of the reply's body, or of the message of a failure, without the messages of streams; 0 for a one-way
    /// call.
    pub reply_bytes: usize,
}

/// Where a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndPlace {
    /// Refused at admission: the protocol or the method does not accept it, or the server drains.
    Refused,
    /// Not run, so that other calls end in time.
    Shed(ShedReason),
    /// Not run, because its deadline had passed when it was decoded.
    LateAtDecode,
    /// Not run, because its deadline had passed when a worker took it.
    LateAtDequeue,
    /// A handler on the reactor's thread returned.
    Inline,
    /// A handler on a worker returned.
    Worker,
    /// The handler's deferred reply was sent or dropped.
    Deferred,
    /// Answered at its deadline; its work may go on.
    LateAtAnswer,
    /// The caller cancelled it.
    Cancelled,
    /// The caller broke a rule of the protocol in a frame of the call, or sent a message of a stream that cannot be
    /// decoded, or closed its sending half while the call needed more from it.
    Broken,
    /// Given up because the drain took too long.
    Drained,
    /// Its connection has closed.
    Dropped,
}

/// The observers of a server that is starting or running. They are finished when this is dropped, if not before.
#[derive(Default)]
pub(super) struct Observers {
    started: Vec<Arc<dyn ServerObserver>>,
    finished: OnceLock<()>,
}

impl Observers {
    /// Starts the observers; if one of them cannot start, those before it are finished.
    pub(super) fn start(
        observers: Vec<Arc<dyn ServerObserver>>,
        methods: &[Method],
    ) -> io::Result<Observers> {
        let mut all = Observers::default();
        for observer in observers {
            observer.start(methods)?;
            all.started.push(observer);
        }
        Ok(all)
    }

    /// Creates the observers of a reactor.
    pub(super) fn of_reactor(&self, reactor: usize) -> Vec<Box<dyn CallObserver>> {
        self.started.iter().map(|observer| observer.observe_reactor(reactor)).collect()
    }

    pub(super) fn finish(&self) {
        self.finished.get_or_init(|| self.started.iter().for_each(|observer| observer.finish()));
    }
}

impl Drop for Observers {
    fn drop(&mut self) {
        self.finish();
    }
}
