//! What a batch asks for, and how the threads that work on it share it out.
//!
//! ```text
//!   bytes  |meta 0|body 0|meta 1|body 1| …        small arguments, copied together
//!   jobs   [{ends into bytes} {…, chunk} …]       large arguments stay where they were read
//!                      ▲ next: whoever moves it on has claimed what it passed
//! ```
//!
//! A worker claims a request when it comes to it, quick ones a few at a time. So what stands behind a slow one is
//! nobody's: another thread that is invited claims from the same place.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coreloop_bufpool::Chunk;
use coreloop_poller::Key;

use crate::context::{CompletionSink, Peer, SCOPE_PLACES, Scope};
use crate::stats::Paces;

/// Calls of quick methods that share a reading of the clock.
const TIMED_TOGETHER_MAX: usize = 16;
/// Of these so many are claimed at once: each claim costs some 6 ns, and any of them may for once be slow, with the rest
/// of the claim behind it.
const CLAIMED_TOGETHER_MAX: usize = 4;
/// A call whose deadline is nearer than this is looked at by itself: quick calls before it could use that up.
const NEAR: Duration = Duration::from_millis(10);

/// One request in a batch.
#[derive(Debug)]
pub struct Job {
    /// The connection that asked.
    pub key: Key,
    /// The call's slot there.
    pub slot: u32,
    /// The method's index.
    pub method: u32,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Who asked.
    pub peer: Peer,
    /// Where the metadata stand in the batch's bytes.
    pub(super) metadata: Range<u32>,
    /// Where the body stands in the batch's bytes, unless it is a chunk.
    pub(super) body: Range<u32>,
    pub(super) chunk: Option<Chunk>,
}

/// An argument on its way into a batch.
pub struct JobParts<'a> {
    /// The connection that asks.
    pub key: Key,
    /// The call's slot there.
    pub slot: u32,
    /// The method's index.
    pub method: u32,
    /// The number of the body's codec.
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Who asks.
    pub peer: Peer,
    /// The metadata.
    pub metadata: &'a [u8],
    /// The body: copied, unless there is a chunk.
    pub body: &'a [u8],
    /// The body, shared.
    pub chunk: Option<Chunk>,
}

/// The requests of a batch.
pub(super) struct BatchRequests {
    /// The reactor's number for the group.
    pub(super) number: u32,
    pub(super) scope: Arc<Scope>,
    pub(super) queued_at: Instant,
    pub(super) jobs: Vec<Job>,
    pub(super) bytes: Vec<u8>,
}

impl BatchRequests {
    /// None yet.
    pub(super) fn new() -> BatchRequests {
        BatchRequests {
            number: 0,
            scope: Arc::new(Scope::default()),
            queued_at: Instant::now(),
            jobs: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Adds a request; gives its place in the scope.
    #[inline]
    pub(super) fn push(&mut self, parts: JobParts<'_>) -> u8 {
        let place = self.jobs.len();
        debug_assert!(place < SCOPE_PLACES);
        let metadata_start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(parts.metadata);
        let body_start = self.bytes.len() as u32;
        if parts.chunk.is_none() {
            self.bytes.extend_from_slice(parts.body);
        }
        let JobParts { key, slot, method, codec, compressed, deadline, peer, chunk, .. } = parts;
        let (metadata, body) = (metadata_start..body_start, body_start..self.bytes.len() as u32);
        self.jobs.push(Job { key, slot, method, codec, compressed, deadline, peer, metadata, body, chunk });
        place as u8
    }

    /// How many requests from `first` on are of one method that is known to be quick, so that they can be timed
    /// together; none with a deadline that is near.
    fn quick_run(&self, paces: &Paces, first: usize, now: Instant) -> usize {
        let method = self.jobs[first].method;
        if !paces.is_quick(method) {
            return 0;
        }
        let soon = now + NEAR;
        let fits = |job: &&Job| job.method == method && job.deadline.is_none_or(|deadline| deadline > soon);
        self.jobs[first..].iter().take(TIMED_TOGETHER_MAX).take_while(fits).count()
    }
}

/// The requests of a batch that is being run, by one thread or by several.
pub(super) struct SharedRequests {
    pub(super) requests: BatchRequests,
    /// The first request that nobody has claimed. Only who does what hangs on it, so no order is needed.
    next: AtomicUsize,
    /// Others may be invited. If not, all requests that are timed together are claimed together, too.
    is_open: bool,
    pub(super) home: Arc<dyn CompletionSink>,
    pub(super) back: ReturnBatch,
}

/// Where a batch goes when it is done.
pub(super) type ReturnBatch = Arc<dyn Fn(Box<super::WorkBatch>) + Send + Sync>;

/// Requests that a thread has claimed, and what it may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The first of them.
    pub(super) first: usize,
    /// How many they are.
    pub(super) count: usize,
    /// So many from the first on are of one quick method, to be timed together: the others can be claimed when these
    /// are done. 0: it is timed by itself.
    pub(super) quick: usize,
}

impl SharedRequests {
    pub(super) fn new(home: Arc<dyn CompletionSink>, back: ReturnBatch) -> SharedRequests {
        SharedRequests {
            requests: BatchRequests::new(),
            next: AtomicUsize::new(0),
            is_open: false,
            home,
            back,
        }
    }

    /// Exchanges the requests; none of the new ones is claimed.
    pub(super) fn exchange(&mut self, requests: &mut BatchRequests, is_open: bool) {
        std::mem::swap(&mut self.requests, requests);
        *self.next.get_mut() = 0;
        self.is_open = is_open;
    }

    /// Claims what is to be run next.
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

    /// Claims the next of those that are timed together, from `next` on, when the first are done. None if there are no
    /// more, or somebody else was there.
    #[inline]
    pub(super) fn claim_next(&self, claim: Claim, next: usize) -> Option<usize> {
        let count = (claim.first + claim.quick).saturating_sub(next).min(CLAIMED_TOGETHER_MAX);
        let is_mine = count > 0
            && self.next.compare_exchange(next, next + count, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_mine.then_some(count)
    }

    /// How many are claimed.
    #[inline]
    pub(super) fn claimed(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Some are not.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        self.claimed() < self.requests.jobs.len()
    }
}
