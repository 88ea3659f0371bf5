//! A batch: the requests that one turn hands over together, and what becomes of them.
//!
//! ```text
//!   bytes  |meta 0|body 0|meta 1|body 1| …        small arguments, copied together
//!   jobs   [{ends into bytes} {…, chunk} …]       large arguments stay where they were read
//!   out    |reply 0|reply 1| …                    replies, written by the worker
//!   done   [{ends into out} …]
//! ```
//!
//! The batch travels to a worker and back to the reactor that made it, so in the steady state nothing is
//! allocated on the way.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use coreloop_bufpool::Chunk;
use coreloop_poller::Key;

use super::{Run, RunCall};
use crate::context::{Context, Deferral, Home, Outcome, Parts, Peer, SCOPE_PLACES, Scope};
use crate::message::Metadata;
use crate::stats::micros;
use crate::status::{Code, Status};

/// Arguments up to this size are copied into the batch; larger ones are shared as chunks. Copying a cache line
/// or forty is cheaper than two cores counting references.
pub const COPY_BYTES_MAX: usize = 2048;
/// A batch's buffers are let go when a burst has made them larger than this.
const KEEP_BYTES_MAX: usize = 256 * 1024;

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
    metadata: Range<u32>,
    /// Where the body stands in the batch's bytes, unless it is a chunk.
    body: Range<u32>,
    chunk: Option<Chunk>,
}

/// What became of a request.
#[derive(Debug)]
pub struct Done {
    /// The connection that asked.
    pub key: Key,
    /// The call's slot there.
    pub slot: u32,
    /// How it ended; `None` if the answer was put off.
    pub code: Option<Code>,
    /// What stopped it, where that is worth a count of its own.
    pub note: Note,
    /// Microseconds that it was queued.
    pub queue_us: u32,
    /// Microseconds that the handler took.
    pub handler_us: u32,
    /// The answer's body is compressed.
    pub compressed: bool,
    out: Range<u32>,
    chunk: Option<Chunk>,
}

/// What is worth a count of its own in how a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    Ran,
    /// It was cancelled before it started.
    Removed,
    /// Its deadline had passed before it started.
    LateAtDequeue,
    /// The handler panicked.
    Panicked,
}

/// Requests handed over together, and what became of them.
pub struct Batch {
    /// The reactor's number for the group; every [`Done`] of it is counted against that.
    pub number: u32,
    /// How many of the group's calls this batch brings home: all of them, but for one that was split.
    pub done: Vec<Done>,
    /// The rest of the group's calls come home with another batch: this one was split.
    pub is_part: bool,
    jobs: Vec<Job>,
    bytes: Vec<u8>,
    out: Vec<u8>,
    scope: Arc<Scope>,
    /// The place in the scope of the first job: not 0 in the second half of a batch that was split.
    place_first: u8,
    queued_at: Instant,
    home: Arc<dyn Home>,
    /// Where the batch goes when it is done.
    back: Arc<dyn Fn(Box<Batch>) + Send + Sync>,
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

impl Batch {
    /// An empty batch whose answers go to `home`, and which itself goes `back`.
    pub fn new(home: Arc<dyn Home>, back: Arc<dyn Fn(Box<Batch>) + Send + Sync>) -> Box<Batch> {
        Box::new(Batch {
            number: 0,
            done: Vec::new(),
            is_part: false,
            jobs: Vec::new(),
            bytes: Vec::new(),
            out: Vec::new(),
            scope: Arc::new(Scope::default()),
            place_first: 0,
            queued_at: Instant::now(),
            home,
            back,
        })
    }

    /// Makes the batch ready for a group with that number and scope, handed over at `now`.
    pub fn begin(&mut self, number: u32, scope: Arc<Scope>, now: Instant) {
        debug_assert!(self.jobs.is_empty() && self.done.is_empty());
        self.number = number;
        self.scope = scope;
        self.place_first = 0;
        self.queued_at = now;
    }

    /// Adds a request; gives its place in the scope.
    #[inline]
    pub fn push(&mut self, parts: JobParts<'_>) -> u8 {
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

    /// How many requests it holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// It holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Bytes of small arguments.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The body of an answer.
    #[inline]
    pub fn body_of(&self, done: &Done) -> &[u8] {
        &self.out[done.out.start as usize..done.out.end as usize]
    }

    /// Takes the chunk that is the body of the answer at that index, if it is one.
    #[inline]
    pub fn take_chunk_of(&mut self, index: usize) -> Option<Chunk> {
        self.done[index].chunk.take()
    }

    /// Sends the batch back to its reactor.
    pub fn send_back(self: Box<Self>) {
        let back = self.back.clone();
        back(self);
    }

    /// Runs every request from `first` on. `stop_early` is asked after each with the time that has passed since
    /// the start; the number of those run is returned.
    pub(super) fn run(&mut self, run: &dyn Run, mut stop_early: impl FnMut(Instant) -> bool) -> usize {
        let mut now = Instant::now();
        for index in 0..self.jobs.len() {
            now = self.run_one(run, index, now);
            if index + 1 < self.jobs.len() && stop_early(now) {
                return index + 1;
            }
        }
        self.jobs.len()
    }

    /// Runs one request; the time after it is the time before the next.
    fn run_one(&mut self, run: &dyn Run, index: usize, began: Instant) -> Instant {
        let Batch { jobs, bytes, out, scope, place_first, queued_at, home, number, done, .. } = self;
        let job = &jobs[index];
        let place = *place_first + index as u8;
        let queue_us = micros(began.saturating_duration_since(*queued_at));
        let start = out.len() as u32;
        let (outcome, note) = if scope.is_cancelled(place) {
            (Outcome::failed(Status::cancelled("the call was given up before it started")), Note::Removed)
        } else if job.deadline.is_some_and(|deadline| deadline <= began) {
            let status = Status::deadline_exceeded("the deadline passed while the call was queued");
            (Outcome::failed(status), Note::LateAtDequeue)
        } else {
            let metadata =
                Metadata::checked_before(&bytes[job.metadata.start as usize..job.metadata.end as usize]);
            let deferral =
                Deferral { home, key: job.key, slot: job.slot, batch: *number, codec: job.codec, queue_us };
            let cx = Context::new(Parts {
                method: run.name_of(job.method),
                began,
                deadline: job.deadline,
                metadata,
                peer: &job.peer,
                scope,
                place,
                deferral: Some(&deferral),
            });
            let body = match &job.chunk {
                Some(chunk) => &chunk[..],
                None => &bytes[job.body.start as usize..job.body.end as usize],
            };
            let call = RunCall {
                method: job.method,
                codec: job.codec,
                compressed: job.compressed,
                metadata,
                body,
                chunk: job.chunk.as_ref(),
            };
            guarded(run, &call, &cx, out)
        };
        let ended = Instant::now();
        let compressed = matches!(outcome, Outcome::Compressed);
        let (code, chunk) = settle(outcome, out, start as usize);
        done.push(Done {
            key: job.key,
            slot: job.slot,
            code,
            note,
            queue_us,
            handler_us: micros(ended.duration_since(began)),
            compressed,
            out: start..out.len() as u32,
            chunk,
        });
        ended
    }

    /// Splits off the requests from `first` on, into a batch that the caller provides.
    pub(super) fn split_off(&mut self, first: usize, mut rest: Box<Batch>) -> Box<Batch> {
        self.is_part = true;
        rest.number = self.number;
        rest.scope = self.scope.clone();
        rest.place_first = self.place_first + first as u8;
        rest.queued_at = self.queued_at;
        let bytes_first = self.jobs[first].metadata.start;
        rest.bytes.extend_from_slice(&self.bytes[bytes_first as usize..]);
        let moved = |range: Range<u32>| range.start - bytes_first..range.end - bytes_first;
        rest.jobs.extend(self.jobs.drain(first..).map(|job| Job {
            metadata: moved(job.metadata.clone()),
            body: moved(job.body.clone()),
            ..job
        }));
        rest
    }

    /// Answers every request with that failure, for want of anybody to run it.
    pub fn refuse(&mut self, status: &Status) {
        for job in self.jobs.drain(..) {
            let start = self.out.len() as u32;
            self.out.extend_from_slice(status.message.as_bytes());
            self.done.push(Done {
                key: job.key,
                slot: job.slot,
                code: Some(status.code),
                note: Note::Ran,
                queue_us: 0,
                handler_us: 0,
                compressed: false,
                out: start..self.out.len() as u32,
                chunk: None,
            });
        }
    }

    /// An empty batch with the same home.
    pub(super) fn sibling(&self) -> Box<Batch> {
        Batch::new(self.home.clone(), self.back.clone())
    }

    /// Empties the batch, to be used again.
    pub fn recycle(&mut self) {
        self.is_part = false;
        self.jobs.clear();
        self.done.clear();
        self.bytes.clear();
        self.out.clear();
        if self.bytes.capacity() > KEEP_BYTES_MAX {
            self.bytes = Vec::new();
        }
        if self.out.capacity() > KEEP_BYTES_MAX {
            self.out = Vec::new();
        }
    }

    /// The arguments are not needed any more: large ones go home to their pool now, not when the batch does.
    pub(super) fn drop_arguments(&mut self) {
        self.jobs.clear();
    }
}

/// Runs the handler; a panic costs this one call an `internal`, and nothing else.
#[inline(always)]
pub fn guarded<R: Run + ?Sized>(
    run: &R,
    call: &RunCall<'_>,
    cx: &Context<'_>,
    out: &mut Vec<u8>,
) -> (Outcome, Note) {
    let start = out.len();
    // What the handler shares with others is behind its own locks, and they poison; `out` is cut back below.
    let result = catch_unwind(AssertUnwindSafe(|| run.run(call, cx, out)));
    match result {
        Ok(outcome) => (outcome, Note::Ran),
        Err(payload) => after_panic(payload, cx, out, start),
    }
}

#[cold]
#[inline(never)]
fn after_panic(
    payload: Box<dyn Any + Send>,
    cx: &Context<'_>,
    out: &mut Vec<u8>,
    start: usize,
) -> (Outcome, Note) {
    out.truncate(start);
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    // A payload may panic as it is dropped, and that one nobody catches.
    std::mem::forget(payload);
    if cx.is_deferred() {
        // The ticket, dropped by the panic or alive in another thread, answers.
        return (Outcome::Deferred, Note::Panicked);
    }
    (Outcome::failed(Status::internal(format!("the handler panicked: {text}"))), Note::Panicked)
}

/// Turns an outcome into a code and the bytes that stand in `out` from `start` on.
pub fn settle(outcome: Outcome, out: &mut Vec<u8>, start: usize) -> (Option<Code>, Option<Chunk>) {
    match outcome {
        Outcome::Answer | Outcome::Compressed => (Some(Code::Ok), None),
        Outcome::Shared(chunk) => (Some(Code::Ok), Some(*chunk)),
        Outcome::Deferred => {
            out.truncate(start);
            (None, None)
        }
        Outcome::Failed(status) => {
            out.truncate(start);
            out.extend_from_slice(status.message.as_bytes());
            // A handler may fail, but not with success.
            (Some(if status.code == Code::Ok { Code::Unknown } else { status.code }), None)
        }
    }
}
