//! The requests of a batch, and how the threads that work on it share them.
//!
//! ```text
//!   bytes  |meta 0|body 0|meta 1|body 1| …        small arguments, copied together
//!   jobs   [{ends into bytes} {…, chunk} …]       large arguments stay where they were read
//!                      ▲ next: the thread that advances it has claimed what it passed
//! ```
//!
//! A worker claims a request when it reaches it, quick ones a few at a time. So the requests behind a slow one are
//! unclaimed: another invited thread claims from the same position.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coreloop_bufpool::Chunk;
use coreloop_poller::Key;

use super::WorkPool;
use crate::context::{CompletionSink, Peer, Scope};
use crate::extensions::CallExtensions;
use crate::policy::run_queue::CallCost;
use crate::stats::Paces;

/// The most calls of quick methods that share one reading of the clock.
const TIMED_TOGETHER_MAX: usize = 16;
/// How many of these are claimed at once: each claim costs about 6 ns, and any of the calls may be slow for once,
/// with the rest of the claim behind it.
const CLAIMED_TOGETHER_MAX: usize = 4;
/// A call that is expected to take longer than this is timed individually, although its method is quick: calls of a
/// method can differ by their arguments, and the mean of a group that holds such a call would be charged to the sources
/// of all others.
const TIMED_TOGETHER_NS_MAX: u32 = 4_000;
/// A call whose deadline is nearer than this is checked individually: quick calls before it could use up that time.
const NEAR: Duration = Duration::from_millis(10);

/// One request in a batch.
#[derive(Debug)]
pub struct Job {
    /// The connection of the request.
    pub key: Key,
    /// The call's slot on the connection.
    pub slot: u32,
    /// The method's index.
    pub method: u32,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The time at which the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The peer that sent the request.
    pub peer: Peer,
    /// Microseconds that the call waited before its batch was made.
    pub waited_us: u32,
    /// What is expected of the call.
    pub cost: CallCost,
    /// The range of the metadata in the batch's bytes.
    pub(super) metadata: Range<u32>,
    /// The range of the body in the batch's bytes, unless it is a chunk.
    pub(super) body: Range<u32>,
    pub(super) chunk: Option<Chunk>,
    /// What interceptors have attached to the call.
    pub(super) extensions: Option<Arc<CallExtensions>>,
}

impl Job {
    /// Returns whether the call has waited, and is expected to end after its deadline if it begins at `now`.
    #[inline]
    pub(super) fn is_too_late(&self, now: Instant) -> bool {
        self.waited_us > 0
            && !self.cost.is_probe
            && self.deadline.is_some_and(|deadline| {
                deadline < now + Duration::from_nanos(u64::from(self.cost.charge.estimate_ns))
            })
    }
}

/// A request to be added to a batch.
pub struct JobParts<'a> {
    /// The connection of the request.
    pub key: Key,
    /// The call's slot on the connection.
    pub slot: u32,
    /// The method's index.
    pub method: u32,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The time at which the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The peer that sent the request.
    pub peer: Peer,
    /// Microseconds that the call waited before its batch was made.
    pub waited_us: u32,
    /// What is expected of the call.
    pub cost: CallCost,
    /// The metadata.
    pub metadata: &'a [u8],
    /// The body, which is copied unless there is a chunk.
    pub body: &'a [u8],
    /// The body, shared.
    pub chunk: Option<Chunk>,
    /// What interceptors have attached to the call.
    pub extensions: Option<Arc<CallExtensions>>,
}

/// The requests of a batch.
pub(super) struct BatchRequests {
    /// The reactor's number for the group.
    pub(super) number: u32,
    /// The pool that runs the batch.
    pub(super) pool: WorkPool,
    pub(super) scope: Arc<Scope>,
    pub(super) queued_at: Instant,
    pub(super) jobs: Vec<Job>,
    pub(super) bytes: Vec<u8>,
}

impl BatchRequests {
    /// Creates an empty set of requests.
    pub(super) fn new() -> BatchRequests {
        BatchRequests {
            number: 0,
            pool: WorkPool::Cpu,
            scope: Arc::new(Scope::default()),
            queued_at: Instant::now(),
            jobs: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Returns how many requests from `first` on are of one method that is known to be quick, so that they can be
    /// timed together; requests with a near deadline are excluded, and those that are expected to take long.
    pub(super) fn quick_run(&self, paces: &Paces, first: usize, now: Instant) -> usize {
        let method = self.jobs[first].method;
        if !paces.is_quick(method) {
            return 0;
        }
        let soon = now + NEAR;
        let fits = |job: &&Job| {
            job.method == method
                && job.cost.charge.estimate_ns <= TIMED_TOGETHER_NS_MAX
                && job.deadline.is_none_or(|deadline| deadline > soon)
        };
        self.jobs[first..].iter().take(TIMED_TOGETHER_MAX).take_while(fits).count()
    }
}

/// The requests of a batch that is being run, by one thread or by several.
pub(super) struct SharedRequests {
    pub(super) requests: BatchRequests,
    /// The index of the first unclaimed request. It only decides which thread runs a request, so no memory ordering
    /// is needed.
    next: AtomicUsize,
    /// Other threads may be invited. If not, all requests that are timed together are also claimed together.
    is_open: bool,
    pub(super) sink: Arc<dyn CompletionSink>,
    pub(super) back: ReturnBatch,
}

/// The function that returns a finished batch.
pub(super) type ReturnBatch = Arc<dyn Fn(Box<super::WorkBatch>) + Send + Sync>;

/// Requests that a thread has claimed, and what it may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The index of the first claimed request.
    pub(super) first: usize,
    /// The number of claimed requests.
    pub(super) count: usize,
    /// The number of requests from the first on that are of one quick method, to be timed together; the unclaimed ones
    /// among them can be claimed when these are done. 0: the request is timed individually.
    pub(super) quick: usize,
}

impl SharedRequests {
    pub(super) fn new(sink: Arc<dyn CompletionSink>, back: ReturnBatch) -> SharedRequests {
        SharedRequests {
            requests: BatchRequests::new(),
            next: AtomicUsize::new(0),
            is_open: false,
            sink,
            back,
        }
    }

    /// Exchanges the requests; none of the new ones is claimed.
    pub(super) fn exchange(&mut self, requests: &mut BatchRequests, is_open: bool) {
        std::mem::swap(&mut self.requests, requests);
        *self.next.get_mut() = 0;
        self.is_open = is_open;
    }

    /// Claims the requests to run next.
    #[inline]
    pub(super) fn claim(&self, paces: &Paces, now: Instant) -> Option<Claim> {
        let mut first = self.claimed();
        while first < self.requests.jobs.len() {
            let quick = self.requests.quick_run(paces, first, now);
            let count_max = if self.is_open { CLAIMED_TOGETHER_MAX } else { TIMED_TOGETHER_MAX };
            let count = quick.clamp(1, count_max);
            match self.next.compare_exchange(first, first + count, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(Claim { first, count, quick }),
                Err(other) => first = other,
            }
        }
        None
    }

    /// Claims, from `next` on, more of the requests that are timed together, when the first are done. `None` if there
    /// are no more, or another thread has claimed.
    #[inline]
    pub(super) fn claim_next(&self, claim: Claim, next: usize) -> Option<usize> {
        let count = (claim.first + claim.quick).saturating_sub(next).min(CLAIMED_TOGETHER_MAX);
        let is_mine = count > 0
            && self.next.compare_exchange(next, next + count, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_mine.then_some(count)
    }

    /// Returns the number of claimed requests.
    #[inline]
    pub(super) fn claimed(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Returns whether there are unclaimed requests.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        self.claimed() < self.requests.jobs.len()
    }
}
