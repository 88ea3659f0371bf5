//! A batch: the requests that one turn hands over together, and their results.
//!
//! ```text
//!   requests                                      the requests ([`requests`](super::requests))
//!   out    |reply 0|reply 1| …                    replies, written by the worker
//!   done   [{ends into out} …]
//! ```
//!
//! The batch travels to a worker and back to the reactor that created it, so in the steady state it costs no
//! allocation.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_bufpool::Chunk;
use coreloop_poller::Key;

use super::requests::{BatchRequests, ReturnBatch, SharedRequests};
pub use super::requests::{Job, JobParts};
use super::{RunCall, RunMethod, WorkPool};
use crate::context::{
    CompletionSink, Context, ContextParts, Deferral, HandlerSpan, Outcome, SCOPE_PLACES, Scope,
};
use crate::error_text::panic_text;
use crate::log_events::log_event;
use crate::message::{Metadata, ReplyExtras};
use crate::policy::run_queue::{CallCost, ShedReason};
use crate::stats::{Paces, micros};
use crate::status::{Code, Status};

/// The largest argument that is copied into the batch; larger arguments are shared as chunks. Copying up to about
/// forty cache lines is cheaper than two cores that count references.
pub const COPY_BYTES_MAX: usize = 2048;
/// The size above which a batch's buffers are released instead of kept, after a burst.
const KEEP_BYTES_MAX: usize = 256 * 1024;
/// The buffer of a batch's replies does not grow beyond this by more than one reply.
const OUT_BYTES_MAX: usize = if cfg!(test) { 1 << 16 } else { 1 << 30 };

/// The result of a request.
#[derive(Debug)]
pub struct FinishedCall {
    /// The connection of the request.
    pub key: Key,
    /// The call's slot on the connection.
    pub slot: u32,
    /// The status of the call; `None` if the answer is deferred.
    pub code: Option<Code>,
    /// What stopped the call, if that has its own counter.
    pub note: CallNote,
    /// Microseconds that the call was queued.
    pub queue_us: u32,
    /// Microseconds that the handler took.
    pub handler_us: u32,
    /// Nanoseconds that the worker took, saturating: a mean, if the call was timed with others.
    pub took_ns: u32,
    /// The method's index.
    pub method: u32,
    /// What was expected of the call.
    pub cost: CallCost,
    /// The answer's body is compressed.
    pub compressed: bool,
    /// The batch has extras of the answer.
    has_extras: bool,
    out: Range<u32>,
    chunk: Option<Chunk>,
}

/// Ends of a request that have their own counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallNote {
    /// None of the others.
    Ran,
    /// The call was cancelled before it started.
    Removed,
    /// The call's deadline had passed before it started.
    LateAtDequeue,
    /// The call had waited, and would probably have ended after its deadline.
    TooLateToStart,
    /// The handler panicked.
    Panicked,
    /// No thread took the call.
    NotTaken,
}

/// Requests that were handed over together, and their results.
pub struct WorkBatch {
    /// The reactor's number for the group of requests; every [`FinishedCall`] is counted against it.
    pub number: u32,
    /// The results of the group's requests that this batch returns: all of them, unless the batch was shared.
    pub done: Vec<FinishedCall>,
    /// The batch returns results of another thread, or early results: the batch itself is still outstanding.
    pub is_part: bool,
    /// The reactor watches whether a worker is stuck with this batch.
    pub is_watched: bool,
    /// The pool that runs the batch.
    pub pool: WorkPool,
    /// Nanoseconds that all requests are expected to take.
    pub estimate_ns: u64,
    /// When the last of the results was ready.
    pub ended: Instant,
    /// The requests, until they are run.
    requests: BatchRequests,
    /// The requests while they are run; kept for reuse.
    shared: Option<Arc<SharedRequests>>,
    out: Vec<u8>,
    /// The extras of the few answers that have any, by the index in [`WorkBatch::done`].
    extras: Vec<(usize, Box<ReplyExtras>)>,
    sink: Arc<dyn CompletionSink>,
    back: ReturnBatch,
}

impl WorkBatch {
    /// Creates an empty batch whose answers go to `sink`, and which itself is returned by `back`.
    pub fn new(
        sink: Arc<dyn CompletionSink>,
        back: Arc<dyn Fn(Box<WorkBatch>) + Send + Sync>,
    ) -> Box<WorkBatch> {
        Box::new(WorkBatch {
            number: 0,
            done: Vec::new(),
            is_part: false,
            is_watched: false,
            pool: WorkPool::Cpu,
            estimate_ns: 0,
            ended: Instant::now(),
            requests: BatchRequests::new(),
            shared: None,
            out: Vec::new(),
            extras: Vec::new(),
            sink,
            back,
        })
    }

    /// Prepares the batch for a group with that number and scope, handed over to that pool at `now`.
    pub fn begin(&mut self, number: u32, scope: Arc<Scope>, pool: WorkPool, now: Instant) {
        debug_assert!(self.requests.jobs.is_empty() && self.done.is_empty());
        self.number = number;
        self.requests.number = number;
        (self.pool, self.requests.pool) = (pool, pool);
        self.requests.scope = scope;
        self.requests.queued_at = now;
    }

    /// Adds a request and returns its place in the scope.
    #[inline]
    pub fn push(&mut self, parts: JobParts<'_>) -> u8 {
        let BatchRequests { jobs, bytes, .. } = &mut self.requests;
        let place = jobs.len();
        debug_assert!(place < SCOPE_PLACES);
        let metadata_start = bytes.len() as u32;
        bytes.extend_from_slice(parts.metadata);
        let body_start = bytes.len() as u32;
        if parts.chunk.is_none() {
            bytes.extend_from_slice(parts.body);
        }
        let JobParts { key, slot, method, codec, compressed, deadline, peer, waited_us, cost, .. } = parts;
        let JobParts { chunk, extensions, .. } = parts;
        self.estimate_ns += u64::from(cost.charge.estimate_ns);
        let (metadata, body) = (metadata_start..body_start, body_start..bytes.len() as u32);
        jobs.push(Job {
            key,
            slot,
            method,
            codec,
            compressed,
            deadline,
            peer,
            waited_us,
            cost,
            metadata,
            body,
            chunk,
            extensions,
        });
        place as u8
    }

    /// Returns the number of requests that no thread has begun to run.
    #[inline]
    pub fn len(&self) -> usize {
        self.requests.jobs.len()
    }

    /// Returns whether the batch holds no requests.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.requests.jobs.is_empty()
    }

    /// Returns the bytes of the small arguments.
    pub fn bytes_len(&self) -> usize {
        self.requests.bytes.len()
    }

    /// Returns the bytes that the buffers occupy, full or empty.
    pub fn capacity_bytes(&self) -> usize {
        self.requests.jobs.capacity() * size_of::<Job>()
            + self.done.capacity() * size_of::<FinishedCall>()
            + self.requests.bytes.capacity()
            + self.out.capacity()
    }

    /// Returns the body of an answer.
    #[inline]
    pub fn body_of(&self, done: &FinishedCall) -> &[u8] {
        &self.out[done.out.start as usize..done.out.end as usize]
    }

    /// Takes the chunk that is the body of the answer at that index, if it is a chunk.
    #[inline]
    pub fn take_chunk_of(&mut self, index: usize) -> Option<Chunk> {
        self.done[index].chunk.take()
    }

    /// Returns the extras of the answer at that index.
    #[inline]
    pub fn extras_of(&self, index: usize) -> Option<&ReplyExtras> {
        if self.done[index].has_extras { self.find_extras(index) } else { None }
    }

    #[cold]
    fn find_extras(&self, index: usize) -> Option<&ReplyExtras> {
        let at = self.extras.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(&self.extras[at].1)
    }

    /// Sends the batch back to its reactor.
    pub fn send_back(self: Box<Self>) {
        let back = self.back.clone();
        back(self);
    }

    /// Makes the requests claimable, by this thread and, if `is_open`, by invited threads.
    pub(super) fn lay_out(&mut self, is_open: bool) -> &Arc<SharedRequests> {
        let WorkBatch { shared, requests, sink, back, .. } = self;
        // A helping thread may still hold the previous ones.
        if shared.as_mut().is_none_or(|shared| Arc::get_mut(shared).is_none()) {
            *shared = None;
        }
        let shared = shared.get_or_insert_with(|| Arc::new(SharedRequests::new(sink.clone(), back.clone())));
        if let Some(shared) = Arc::get_mut(shared) {
            shared.exchange(requests, is_open);
        }
        shared
    }

    /// Returns the requests that were laid out.
    pub(super) fn shared(&self) -> Option<&Arc<SharedRequests>> {
        self.shared.as_ref()
    }

    /// Creates a batch that returns the results of a helping thread for another batch's requests.
    pub(super) fn helping(shared: Arc<SharedRequests>) -> Box<WorkBatch> {
        let mut batch = WorkBatch::new(shared.sink.clone(), shared.back.clone());
        batch.number = shared.requests.number;
        batch.pool = shared.requests.pool;
        batch.is_part = true;
        batch.shared = Some(shared);
        batch
    }

    /// Runs claimable requests until none is left. `is_enough` is called with the time after each claim; the run ends
    /// when it returns true. Returns true if there may be more requests.
    pub(super) fn run(
        &mut self,
        run: &dyn RunMethod,
        paces: &mut Paces,
        mut is_enough: impl FnMut(Instant) -> bool,
    ) -> bool {
        let WorkBatch { shared: Some(shared), done, out, extras, ended, .. } = self else { return false };
        let mut now = Instant::now();
        while let Some(claim) = shared.claim(paces, now) {
            let began = now;
            let done_before = done.len();
            let (mut next, mut count) = (claim.first, Some(claim.count));
            while let Some(claimed) = count {
                for index in next..next + claimed {
                    run_one(run, shared, index, began, out, done, extras);
                }
                next += claimed;
                count = shared.claim_next(claim, next);
            }
            now = Instant::now();
            *ended = now;
            let count = (done.len() - done_before) as u32;
            let took = now.duration_since(began);
            paces.note_ran(took);
            let mean = took / count;
            let Job { method, cost, .. } = shared.requests.jobs[claim.first];
            let expected_ns = u64::from(cost.charge.estimate_ns) * u64::from(count);
            let own = paces.own_time(took, Duration::from_nanos(expected_ns));
            let own = if own == took { mean } else { own / count };
            let own_ns = u32::try_from(own.as_nanos()).unwrap_or(u32::MAX);
            for done in &mut done[done_before..] {
                (done.handler_us, done.took_ns) = (micros(mean), own_ns);
            }
            if claim.quick > 0 {
                paces.note_mean(method, mean);
            } else {
                paces.note_exact(method, mean);
            }
            if shared.has_more() && is_enough(now) {
                return true;
            }
        }
        false
    }

    /// Takes the results so far as a batch, to be returned before the rest.
    pub(super) fn take_done(&mut self) -> Box<WorkBatch> {
        let mut part = WorkBatch::new(self.sink.clone(), self.back.clone());
        part.number = self.number;
        part.pool = self.pool;
        part.ended = self.ended;
        part.is_part = true;
        std::mem::swap(&mut part.done, &mut self.done);
        std::mem::swap(&mut part.out, &mut self.out);
        std::mem::swap(&mut part.extras, &mut self.extras);
        part
    }

    /// Answers every request with this status, because no thread will run it.
    pub fn refuse(&mut self, status: &Status) {
        for job in self.requests.jobs.drain(..) {
            let start = self.out.len() as u32;
            self.out.extend_from_slice(status.message.as_bytes());
            self.done.push(FinishedCall {
                key: job.key,
                slot: job.slot,
                code: Some(status.code),
                note: CallNote::NotTaken,
                queue_us: 0,
                handler_us: 0,
                took_ns: 0,
                method: job.method,
                cost: job.cost,
                compressed: false,
                has_extras: false,
                out: start..self.out.len() as u32,
                chunk: None,
            });
        }
    }

    /// Empties the batch for reuse.
    pub fn recycle(&mut self) {
        self.is_part = false;
        self.is_watched = false;
        self.estimate_ns = 0;
        self.done.clear();
        self.requests.jobs.clear();
        self.requests.bytes.clear();
        self.out.clear();
        self.extras.clear();
        if self.requests.bytes.capacity() > KEEP_BYTES_MAX {
            self.requests.bytes = Vec::new();
        }
        if self.out.capacity() > KEEP_BYTES_MAX {
            self.out = Vec::new();
        }
    }

    /// Drops the arguments, which are no longer needed: large ones are returned to their pool now, not when the batch
    /// is. Requests that another thread still runs are dropped by the last such thread.
    pub(super) fn drop_arguments(&mut self) {
        let WorkBatch { shared, requests, .. } = self;
        match shared.as_mut().and_then(Arc::get_mut) {
            Some(shared) => {
                shared.exchange(requests, false);
                requests.jobs.clear();
            }
            None => *shared = None,
        }
    }
}

/// Runs one request.
fn run_one(
    run: &dyn RunMethod,
    shared: &SharedRequests,
    index: usize,
    began: Instant,
    out: &mut Vec<u8>,
    done: &mut Vec<FinishedCall>,
    extras: &mut Vec<(usize, Box<ReplyExtras>)>,
) {
    let SharedRequests {
        requests: BatchRequests { number, scope, queued_at, jobs, bytes, .. }, sink, ..
    } = shared;
    let job = &jobs[index];
    let place = index as u8;
    let queue_us = job.waited_us.saturating_add(micros(began.saturating_duration_since(*queued_at)));
    let start = out.len() as u32;
    let (outcome, note) = if scope.is_cancelled(place) {
        (Outcome::failed(Status::cancelled("the call was cancelled before it started")), CallNote::Removed)
    } else if job.deadline.is_some_and(|deadline| deadline <= began) {
        let status = Status::deadline_exceeded("the deadline passed while the call was queued");
        (Outcome::failed(status), CallNote::LateAtDequeue)
    } else if job.is_too_late(began) {
        (
            Outcome::failed(Status::resource_exhausted(ShedReason::TooLateToStart.message())),
            CallNote::TooLateToStart,
        )
    } else {
        let metadata =
            Metadata::checked_before(&bytes[job.metadata.start as usize..job.metadata.end as usize]);
        let deferral =
            Deferral { sink, key: job.key, slot: job.slot, batch: *number, codec: job.codec, queue_us };
        let cx = Context::new(ContextParts {
            method: run.name_of(job.method),
            began,
            deadline: job.deadline,
            metadata,
            peer: &job.peer,
            scope,
            place,
            deferral: Some(&deferral),
            extensions: job.extensions.as_ref(),
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
    let SettledCall { code, mut chunk, compressed, extras: own } = settle(outcome, out, start as usize);
    let has_extras = own.is_some();
    extras.extend(own.map(|own| (done.len(), own)));
    if out.len() > OUT_BYTES_MAX {
        // Offsets of replies are 32 bits wide; many large ones do not share the buffer.
        chunk = chunk.or_else(|| Some(Chunk::from(out.split_off(start as usize))));
        out.truncate(start as usize);
    }
    done.push(FinishedCall {
        key: job.key,
        slot: job.slot,
        code,
        note,
        queue_us,
        handler_us: 0,
        took_ns: 0,
        method: job.method,
        cost: job.cost,
        compressed,
        has_extras,
        out: start..out.len() as u32,
        chunk,
    });
}

/// Runs the handler. A panic fails this one call with `internal` and affects nothing else.
#[inline(always)]
pub fn guarded<R: RunMethod + ?Sized>(
    run: &R,
    call: &RunCall<'_>,
    cx: &Context<'_>,
    out: &mut Vec<u8>,
) -> (Outcome, CallNote) {
    let start = out.len();
    // State that the handler shares with other threads is behind its own locks, which poison; `out` is truncated
    // below.
    let span = HandlerSpan::new(cx.method(), cx.call_extensions());
    let result = catch_unwind(AssertUnwindSafe(|| span.in_scope(|| run.run(call, cx, out))));
    match result {
        Ok(Outcome::Answer) if out.len() - start <= run.reply_bytes_max() && !cx.has_extras() => {
            (Outcome::Answer, CallNote::Ran)
        }
        Ok(other) => {
            let limited = other.limit_reply(run.reply_bytes_max(), cx.method(), out, start);
            (if cx.has_extras() { cx.extended(limited) } else { limited }, CallNote::Ran)
        }
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
) -> (Outcome, CallNote) {
    out.truncate(start);
    let text = panic_text(payload);
    log_event!(HandlerPanicked { method: cx.method().to_owned(), text: text.clone() });
    if cx.is_deferred() {
        // The ticket answers, whether the panic dropped it or another thread holds it.
        return (Outcome::Deferred, CallNote::Panicked);
    }
    let failed = Outcome::failed(Status::internal(format!("the handler panicked: {text}")));
    (cx.extended(failed), CallNote::Panicked)
}

/// The parts of an outcome. A body that is no chunk is in the buffer of the handler.
pub struct SettledCall {
    /// The code; `None` if the answer is deferred.
    pub code: Option<Code>,
    /// The body, if it is a chunk.
    pub chunk: Option<Chunk>,
    /// The body is compressed.
    pub compressed: bool,
    /// Headers, trailers, and what a status carries.
    pub extras: Option<Box<ReplyExtras>>,
}

/// Returns the parts of an outcome. A body that is no chunk is in `out` from `start` on.
#[inline]
pub fn settle(outcome: Outcome, out: &mut Vec<u8>, start: usize) -> SettledCall {
    let ok = SettledCall { code: Some(Code::Ok), chunk: None, compressed: false, extras: None };
    match outcome {
        Outcome::Answer => ok,
        Outcome::Compressed => SettledCall { compressed: true, ..ok },
        Outcome::Shared(chunk) => SettledCall { chunk: Some(*chunk), ..ok },
        other => settle_slow(other, out, start),
    }
}

#[cold]
#[inline(never)]
fn settle_slow(outcome: Outcome, out: &mut Vec<u8>, start: usize) -> SettledCall {
    let without_body = |code, extras| SettledCall { code, chunk: None, compressed: false, extras };
    match outcome {
        Outcome::Failed(status) => {
            out.truncate(start);
            out.extend_from_slice(status.message.as_bytes());
            // A handler that fails cannot report success.
            let code = if status.code == Code::Ok { Code::Unknown } else { status.code };
            without_body(Some(code), ReplyExtras::of_status(&status))
        }
        Outcome::Extended(both) => {
            let (inner, mut extras) = *both;
            if let Outcome::Failed(status) = &inner {
                extras.add_status(status);
            }
            SettledCall { extras: Some(extras), ..settle(inner, out, start) }
        }
        Outcome::Deferred => {
            out.truncate(start);
            without_body(None, None)
        }
        quick => settle(quick, out, start),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::context::{DeferredReply, Peer};
    use crate::policy::estimate::SizeClass;
    use crate::policy::fair::{Charge, SourceId};

    struct Nowhere;

    impl CompletionSink for Nowhere {
        fn late(&self, _late: DeferredReply) {}
    }

    /// Answers with its metadata and its body; panics for method 13, and defers its answer for 14.
    struct EchoCall(Mutex<Vec<crate::context::Ticket>>);

    impl RunMethod for EchoCall {
        fn name_of(&self, _method: u32) -> &str {
            "EchoCall.It"
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

    fn batch(methods: &[u32]) -> Box<WorkBatch> {
        batch_of(methods, &[])
    }

    /// A batch whose calls are expected to take these times; 0 is unknown.
    fn batch_of(methods: &[u32], estimates_ns: &[u32]) -> Box<WorkBatch> {
        let mut batch = WorkBatch::new(Arc::new(Nowhere), Arc::new(|_| {}));
        batch.begin(7, Arc::new(Scope::default()), WorkPool::Cpu, Instant::now());
        for (index, method) in methods.iter().enumerate() {
            let mut metadata = crate::message::MetadataBuf::new();
            metadata.push("k", &[b"abcdefghijklmnopqrstuvwxyz"[index % 26]]).unwrap();
            let body = vec![b"0123456789"[index % 10]; index];
            let place = batch.push(JobParts {
                key: Key::new(1, 1),
                slot: index as u32,
                method: *method,
                waited_us: 0,
                cost: CallCost {
                    charge: Charge {
                        source: SourceId::NONE,
                        level: 0,
                        estimate_ns: estimates_ns.get(index).copied().unwrap_or(0),
                    },
                    class: SizeClass::of(0),
                    is_probe: false,
                },
                codec: 2,
                compressed: false,
                deadline: None,
                peer: Peer::Unix,
                metadata: metadata.as_bytes(),
                body: if index == 3 { &[] } else { &body },
                chunk: (index == 3).then(|| Chunk::from(body.clone())),
                extensions: None,
            });
            assert_eq!(usize::from(place), index);
        }
        batch
    }

    fn laid_out(methods: &[u32]) -> Box<WorkBatch> {
        let mut batch = batch(methods);
        batch.lay_out(true);
        batch
    }

    fn quick_paces() -> Paces {
        let mut paces = Paces::default();
        while !paces.is_quick(1) {
            paces.note_exact(1, Duration::from_nanos(100));
        }
        paces
    }

    fn results_of(batch: &WorkBatch) -> Vec<(u32, String)> {
        let text = |done: &FinishedCall| String::from_utf8(batch.body_of(done).to_vec()).unwrap();
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
        let mut batch = laid_out(&[1; 5]);
        let run = EchoCall(Mutex::default());
        assert!(batch.run(&run, &mut Paces::default(), |_| true), "there is more");
        assert_eq!(results_of(&batch), all()[..1]);
        assert!(!batch.run(&run, &mut Paces::default(), |_| false));
        assert_eq!(results_of(&batch), all());
    }

    /// Answers with 30,000 bytes that hold the number of the method, and with one more for method 9.
    struct LargeReplies;

    impl RunMethod for LargeReplies {
        fn name_of(&self, _method: u32) -> &str {
            "Large.Reply"
        }

        fn run(&self, call: &RunCall<'_>, _cx: &Context<'_>, out: &mut Vec<u8>) -> Outcome {
            let bytes = if call.method == 9 { 30_001 } else { 30_000 };
            out.resize(out.len() + bytes, call.method as u8);
            Outcome::Answer
        }

        fn reply_bytes_max(&self) -> usize {
            30_000
        }
    }

    #[test]
    fn replies_beyond_the_buffer_of_a_batch_and_beyond_the_limit_of_a_reply() {
        let mut batch = laid_out(&[1, 2, 3, 9, 4, 5]);
        assert!(!batch.run(&LargeReplies, &mut Paces::default(), |_| false));
        for done in &batch.done {
            let body = done.chunk.as_deref().unwrap_or_else(|| batch.body_of(done));
            match done.slot {
                3 => {
                    let text =
                        "the reply of Large.Reply has 30001 bytes, over the limit of 30000 (reply_bytes_max)";
                    assert_eq!((done.code, body), (Some(Code::ResourceExhausted), text.as_bytes()));
                }
                slot => {
                    let number = [1, 2, 3, 9, 4, 5][slot as usize];
                    assert!(body.len() == 30_000 && body.iter().all(|byte| *byte == number), "{slot}");
                }
            }
        }
        let chunks = batch.done.iter().filter(|done| done.chunk.is_some()).count();
        assert!(chunks >= 3, "two replies fit the buffer; {chunks} have one of their own");
    }

    #[test]
    fn a_shared_batch_has_the_same_results() {
        for cut in 1..5 {
            let mut batch = laid_out(&[1; 5]);
            let run = EchoCall(Mutex::default());
            let mut ran = 0;
            let is_cut = batch.run(&run, &mut Paces::default(), |_| {
                ran += 1;
                ran == cut
            });
            assert!(is_cut);
            let early = batch.take_done();
            let shared = batch.shared().unwrap().clone();
            shared.requests.scope.cancel(4);
            let mut helper = WorkBatch::helping(shared);
            assert!(!helper.run(&run, &mut Paces::default(), |_| false));
            assert!(!batch.run(&run, &mut Paces::default(), |_| false));
            assert!(batch.done.is_empty(), "all was claimed");
            assert_eq!(results_of(&early), all()[..cut]);
            assert_eq!(results_of(&helper)[..4 - cut], all()[cut..4], "cut at {cut}");
            assert_eq!(
                helper.done.last().map(|done| done.note),
                Some(CallNote::Removed),
                "its place went with it"
            );
            assert!(early.is_part && helper.is_part && !batch.is_part, "only the batch stands for itself");
            assert_eq!((early.number, helper.number, batch.number), (7, 7, 7));
        }
    }

    #[test]
    fn threads_that_share_a_batch_run_each_request_once() {
        let methods = [1; SCOPE_PLACES];
        for round in 0..200 {
            let mut batch = laid_out(&methods);
            let helpers: Vec<_> =
                (0..2).map(|_| WorkBatch::helping(batch.shared().unwrap().clone())).collect();
            let mut all = std::thread::scope(|scope| {
                let helpers: Vec<_> = helpers
                    .into_iter()
                    .map(|mut helper| {
                        scope.spawn(move || {
                            helper.run(&EchoCall(Mutex::default()), &mut Paces::default(), |_| false);
                            results_of(&helper)
                        })
                    })
                    .collect();
                batch.run(&EchoCall(Mutex::default()), &mut quick_paces(), |_| false);
                let mut all = results_of(&batch);
                helpers.into_iter().for_each(|helper| all.extend(helper.join().unwrap()));
                all
            });
            all.sort_unstable_by_key(|(slot, _)| *slot);
            let slots = all.iter().map(|(slot, _)| *slot);
            assert!(slots.eq(0..SCOPE_PLACES as u32), "round {round}: {all:?}");
            assert!(all.iter().all(|(slot, text)| text.len() == 1 + *slot as usize));
        }
    }

    #[test]
    fn the_last_holder_drops_the_requests() {
        let mut batch = laid_out(&[1; 5]);
        let chunk = batch.shared().unwrap().requests.jobs[3].chunk.clone();
        let helper = WorkBatch::helping(batch.shared().unwrap().clone());
        batch.drop_arguments();
        assert!(batch.is_empty() && batch.shared().is_none());
        assert_eq!(helper.shared().unwrap().requests.jobs.len(), 5, "a helper still reads them");
        drop(helper);
        assert_eq!(chunk.as_deref(), Some(&b"333"[..]));
        // And with one thread, the next time.
        batch.recycle();
        batch.begin(8, Arc::new(Scope::default()), WorkPool::Cpu, Instant::now());
        batch.lay_out(false);
        assert!(!batch.run(&EchoCall(Mutex::default()), &mut Paces::default(), |_| false));
    }

    #[test]
    fn quick_requests_timed_together_are_each_answered() {
        for is_open in [false, true] {
            let mut batch = batch(&[1, 1, 2, 1, 1]);
            batch.lay_out(is_open);
            assert!(!batch.run(&EchoCall(Mutex::default()), &mut quick_paces(), |_| false));
            assert_eq!(results_of(&batch), all());
        }
    }

    #[test]
    fn a_panic_or_deferral_does_not_affect_other_requests() {
        let mut batch = laid_out(&[1, 13, 14, 1, 1]);
        let run = EchoCall(Mutex::default());
        batch.run(&run, &mut Paces::default(), |_| false);
        let codes: Vec<Option<Code>> = batch.done.iter().map(|done| done.code).collect();
        assert_eq!(codes, [Some(Code::Ok), Some(Code::Internal), None, Some(Code::Ok), Some(Code::Ok)]);
        assert_eq!(results_of(&batch)[1].1, "the handler panicked: thirteen");
        assert_eq!(results_of(&batch)[3].1, "d333");
        assert_eq!(run.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_call_that_is_expected_to_take_long_is_not_timed_with_quick_ones() {
        let paces = quick_paces();
        let estimates_ns = [500, 500, 5_000_000, 500];
        let batch = batch_of(&[1; 4], &estimates_ns);
        let runs: Vec<usize> =
            (0..4).map(|first| batch.requests.quick_run(&paces, first, Instant::now())).collect();
        assert_eq!(runs, [2, 1, 0, 1]);
    }
}
