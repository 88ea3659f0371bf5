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
use std::time::{Duration, Instant};

use coreloop_bufpool::Chunk;
use coreloop_poller::Key;

use super::{Run, RunCall};
use crate::context::{Context, Deferral, Home, Outcome, Parts, Peer, SCOPE_PLACES, Scope};
use crate::message::Metadata;
use crate::stats::{Paces, micros};
use crate::status::{Code, Status};

/// Arguments up to this size are copied into the batch; larger ones are shared as chunks. Copying a cache line
/// or forty is cheaper than two cores counting references.
pub const COPY_BYTES_MAX: usize = 2048;
/// A batch's buffers are let go when a burst has made them larger than this.
const KEEP_BYTES_MAX: usize = 256 * 1024;

/// Calls of quick methods that share a reading of the clock.
const TIMED_TOGETHER_MAX: usize = 16;
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

    /// Runs the requests. `stop_early` is asked now and then with the time; the number of those run is returned.
    pub(super) fn run(
        &mut self,
        run: &dyn Run,
        paces: &mut Paces,
        mut stop_early: impl FnMut(Instant) -> bool,
    ) -> usize {
        let mut now = Instant::now();
        let mut index = 0;
        while index < self.jobs.len() {
            let quick = self.quick_run(paces, index, now);
            let began = now;
            for next in index..index + quick {
                self.run_one(run, next, began);
            }
            let method = self.jobs[index].method;
            if quick == 0 {
                self.run_one(run, index, began);
            }
            now = Instant::now();
            let ran = quick.max(1);
            let mean = now.duration_since(began) / ran as u32;
            for done in &mut self.done[index..index + ran] {
                done.handler_us = micros(mean);
            }
            if quick == 0 {
                paces.note_exact(method, mean);
            } else {
                paces.note_mean(method, mean);
            }
            index += ran;
            if index < self.jobs.len() && stop_early(now) {
                break;
            }
        }
        index
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

    /// Runs one request.
    fn run_one(&mut self, run: &dyn Run, index: usize, began: Instant) {
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
        let compressed = matches!(outcome, Outcome::Compressed);
        let (code, chunk) = settle(outcome, out, start as usize);
        done.push(Done {
            key: job.key,
            slot: job.slot,
            code,
            note,
            queue_us,
            handler_us: 0,
            compressed,
            out: start..out.len() as u32,
            chunk,
        });
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::context::Late;

    struct Nowhere;

    impl Home for Nowhere {
        fn late(&self, _late: Late) {}
    }

    /// Says its metadata, its body and its method; panics for method 13, and takes its answer away for 14.
    struct Say(Mutex<Vec<crate::context::Ticket>>);

    impl Run for Say {
        fn name_of(&self, _method: u32) -> &str {
            "Say.It"
        }

        fn run(&self, call: &RunCall<'_>, cx: &Context<'_>, out: &mut Vec<u8>) -> Outcome {
            out.extend_from_slice(cx.metadata().find("k").unwrap_or(b"-"));
            out.extend_from_slice(call.body);
            match call.method {
                13 => panic!("thirteen"),
                14 => {
                    self.0.lock().unwrap().extend(cx.take_ticket());
                    Outcome::Deferred
                }
                _ => Outcome::Answer,
            }
        }
    }

    fn batch(methods: &[u32]) -> Box<Batch> {
        let mut batch = Batch::new(Arc::new(Nowhere), Arc::new(|_| {}));
        batch.begin(7, Arc::new(Scope::default()), Instant::now());
        for (index, method) in methods.iter().enumerate() {
            let mut metadata = crate::message::MetadataBuf::new();
            metadata.push("k", &[b'a' + index as u8]).unwrap();
            let body = vec![b'0' + index as u8; index];
            let place = batch.push(JobParts {
                key: Key::new(1, 1),
                slot: index as u32,
                method: *method,
                codec: 2,
                compressed: false,
                deadline: None,
                peer: Peer::Unix,
                metadata: metadata.as_bytes(),
                body: if index == 3 { &[] } else { &body },
                chunk: (index == 3).then(|| Chunk::from(body.clone())),
            });
            assert_eq!(usize::from(place), index);
        }
        batch
    }

    fn told(batch: &Batch) -> Vec<(u32, String)> {
        let text = |done: &Done| String::from_utf8(batch.body_of(done).to_vec()).unwrap();
        batch.done.iter().map(|done| (done.slot, text(done))).collect()
    }

    fn all() -> Vec<(u32, String)> {
        ["a", "b1", "c22", "d333", "e4444"]
            .iter()
            .zip(0..)
            .map(|(text, slot)| (slot, text.to_string()))
            .collect()
    }

    #[test]
    fn each_request_is_answered_with_its_own_bytes() {
        let mut batch = batch(&[1; 5]);
        let run = Say(Mutex::default());
        assert_eq!(batch.run(&run, &mut Paces::default(), |_| true), 1, "stopped after the first");
        let mut batch = self::batch(&[1; 5]);
        assert_eq!(batch.run(&run, &mut Paces::default(), |_| false), 5);
        assert_eq!(told(&batch), all());
    }

    #[test]
    fn a_batch_that_is_split_anywhere_says_the_same_and_counts_once() {
        for cut in 1..5 {
            let mut first = batch(&[1; 5]);
            let run = Say(Mutex::default());
            let mut ran = 0;
            assert_eq!(
                first.run(&run, &mut Paces::default(), |_| {
                    ran += 1;
                    ran == cut
                }),
                cut
            );
            let scope = first.scope.clone();
            scope.cancel(4);
            let sibling = first.sibling();
            let mut rest = first.split_off(cut, sibling);
            assert_eq!(rest.run(&run, &mut Paces::default(), |_| false), 5 - cut);
            let mut both = told(&first);
            both.extend(told(&rest));
            assert_eq!(both[..4], all()[..4], "cut at {cut}");
            assert_eq!(rest.done.last().map(|done| done.note), Some(Note::Removed), "its place went with it");
            assert!(first.is_part && !rest.is_part, "only the last part stands for the batch");
            assert_eq!((first.number, rest.number), (7, 7));
        }
    }

    #[test]
    fn quick_requests_are_timed_together_and_still_answered_each() {
        let mut paces = Paces::default();
        while !paces.is_quick(1) {
            paces.note_exact(1, Duration::from_nanos(100));
        }
        let mut batch = batch(&[1, 1, 2, 1, 1]);
        assert_eq!(batch.run(&Say(Mutex::default()), &mut paces, |_| false), 5);
        assert_eq!(told(&batch), all());
    }

    #[test]
    fn a_panic_and_a_deferral_leave_the_neighbours_alone() {
        let mut batch = batch(&[1, 13, 14, 1, 1]);
        let run = Say(Mutex::default());
        batch.run(&run, &mut Paces::default(), |_| false);
        let codes: Vec<Option<Code>> = batch.done.iter().map(|done| done.code).collect();
        assert_eq!(codes, [Some(Code::Ok), Some(Code::Internal), None, Some(Code::Ok), Some(Code::Ok)]);
        assert_eq!(told(&batch)[1].1, "the handler panicked: thirteen");
        assert_eq!(told(&batch)[3].1, "d333");
        assert_eq!(run.0.lock().unwrap().len(), 1);
    }
}
