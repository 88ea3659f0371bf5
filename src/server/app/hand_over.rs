//! Hand-over to the pools. A call that finds room goes into the batch of the turn; all others wait in the run queue,
//! which gives them up when there is room, or refuses them.

use std::sync::Arc;
use std::time::Instant;

use coreloop_bufpool::Chunk;
use coreloop_poller::Key;

use super::end::{CallEnd, EndingCall, load_us, wants_load};
use super::streams::FRAME_HEADER_BYTES;
use super::{BATCH_BYTES_MAX, BatchGroup, Cx, Dispatcher, RpcApp, deadline_of};
use crate::conn::calls::{ConnCall, WorkPlace};
use crate::context::Peer;
use crate::extensions::CallExtensions;
use crate::message::trailers::TRAILER_BYTES_MAX;
use crate::message::{Metadata, Priority, ReplyExtras, Request, SendBody};
use crate::policy::estimate::SizeClass;
use crate::policy::fair::{ItemId, SourceId};
use crate::policy::run_queue::{Arrival, CallCost, Next, ShedReason, Verdict};
use crate::reactor::Conns;
use crate::service::interceptor::EndPlace;
use crate::service::{CallShape, Method};
use crate::stats::micros;
use crate::status::{Code, Status};
use crate::workers::batch::{COPY_BYTES_MAX, JobParts};
use crate::workers::{STUCK_AFTER, WorkBatch, WorkPool};

/// The most buffers for arguments of waiting calls that are kept for later ones, and the capacity of the largest.
const SPARE_ARGUMENTS_MAX: usize = 1024;
const SPARE_ARGUMENT_BYTES_MAX: usize = 4096;

/// A call that waits in the run queue.
#[derive(Debug)]
pub(super) struct WaitingCall {
    key: Key,
    slot: u32,
    method: u32,
    codec: u8,
    compressed: bool,
    deadline: Option<Instant>,
    peer: Peer,
    /// The metadata, and the body unless it is a chunk.
    bytes: Vec<u8>,
    metadata_len: usize,
    chunk: Option<Chunk>,
    extensions: Option<Arc<CallExtensions>>,
    /// The source of its own that the call keeps while it waits.
    source: Option<SourceId>,
}

impl Dispatcher {
    /// Hands a pooled request over in the batch of this turn, unless it has to wait.
    #[inline]
    pub(super) fn gather(&mut self, cx: &mut Cx<'_>, request: &Request, index: u32, method: &Method) {
        let class = SizeClass::of(request.body.len());
        let is_any_asleep = self.is_any_asleep();
        let is_only = self.is_only(cx);
        match self.run_queue.start_at_once(WorkPool::Cpu, index, class, is_any_asleep, is_only) {
            Some(cost) => self.start(cx, request, index, method, WorkPool::Cpu, cost),
            None => self.admit_or_refuse(cx, request, index, method, WorkPool::Cpu),
        }
    }

    /// Hands one request to the blocking threads, unless it has to wait: in a batch, one request would wait for the
    /// other.
    pub(super) fn hand_over_one(&mut self, cx: &mut Cx<'_>, request: &Request, index: u32, method: &Method) {
        let class = SizeClass::of(request.body.len());
        match self.run_queue.start_at_once(WorkPool::Blocking, index, class, false, false) {
            Some(cost) => self.start(cx, request, index, method, WorkPool::Blocking, cost),
            None => self.admit_or_refuse(cx, request, index, method, WorkPool::Blocking),
        }
    }

    /// Whether a call is the only one of its source; asked before it is in flight.
    #[inline]
    fn is_only(&self, cx: &Cx<'_>) -> bool {
        cx.session.calls.is_empty() && self.sources.is_by_connection()
    }

    /// Whether a worker sleeps, if other reactors have shares of the workers.
    #[inline]
    fn is_any_asleep(&self) -> bool {
        self.pools.is_shared() && self.pools.cpu.is_anyone_asleep()
    }

    /// Decides about a call while others wait, or limits apply.
    #[inline(never)]
    fn admit_or_refuse(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        pool: WorkPool,
    ) {
        let deadline = deadline_of(request, cx.now());
        let class = SizeClass::of(request.body.len());
        let level = self.level_of(cx, request);
        let arrival = Arrival { pool, method: index, class, level, deadline };
        let of_call = self.source_of_call(pool);
        let source = of_call.unwrap_or_else(|| self.source_of_connection(cx, pool));
        match self.run_queue.admit(&arrival, source, self.is_any_asleep(), cx.now()) {
            Verdict::Wait(cost) => return self.wait(cx, request, method, &arrival, cost, of_call),
            Verdict::Start(cost) => self.start(cx, request, index, method, pool, cost),
            Verdict::Refuse(reason) => {
                self.refuse_shed(cx, request, Some(index), pool, reason);
            }
        }
        self.leave_source_of_call(pool, of_call);
    }

    /// Refuses a call so that others end in time. Returns the bytes of the refusal.
    pub(super) fn refuse_shed(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        method: Option<u32>,
        pool: WorkPool,
        reason: ShedReason,
    ) -> usize {
        let mut extras = ReplyExtras::retry_after(self.run_queue.retry_after_ms(pool));
        extras.load_us = wants_load(cx, request).then(|| load_us(self.run_queue.load_ns()));
        let ended = CallEnd::early(EndPlace::Shed(reason), Code::ResourceExhausted, reason.message());
        let call = EndingCall::of_request(request, method).with(self.attached.get());
        self.ends.end(cx, call, CallEnd { extras: Some(&extras), ..ended });
        FRAME_HEADER_BYTES + TRAILER_BYTES_MAX + reason.message().len()
    }

    /// Refuses a call because too many calls or answers wait on its connection.
    pub(super) fn refuse_saturated(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        method: Option<u32>,
        pool: WorkPool,
    ) {
        let bytes = self.refuse_shed(cx, request, method, pool, ShedReason::ConnectionLimit);
        cx.note_refusal(bytes);
    }

    /// Puts a call into the run queue.
    fn wait(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        method: &Method,
        arrival: &Arrival,
        cost: CallCost,
        source: Option<SourceId>,
    ) {
        let Arrival { pool, method: index, deadline, .. } = *arrival;
        let (slot, body_len) = self.begin_call(cx, request, index, method, deadline, WorkPlace::Nowhere);
        let chunk = (body_len > COPY_BYTES_MAX).then(|| cx.cut(request.body));
        let mut bytes = self.spare_arguments.take().unwrap_or_default();
        bytes.extend_from_slice(cx.bytes(request.metadata));
        let metadata_len = bytes.len();
        if chunk.is_none() {
            bytes.extend_from_slice(cx.bytes(request.body));
        }
        let Request { codec, compressed, .. } = *request;
        let (key, peer) = (cx.key(), cx.peer());
        let waiting = WaitingCall {
            key,
            slot,
            method: index,
            codec,
            compressed,
            deadline,
            peer,
            bytes,
            metadata_len,
            chunk,
            extensions: self.attached.of(method),
            source,
        };
        let item = self.run_queue.push(arrival, cost, cx.now(), waiting);
        cx.session.calls.set_work(slot, WorkPlace::Waiting { pool, item: item.0 });
    }

    /// Removes a call from the run queue, and returns its slot.
    pub(super) fn withdraw(&mut self, pool: WorkPool, item: u32) -> Option<u32> {
        let waiting = self.run_queue.remove(pool, ItemId(item))?;
        let slot = waiting.slot;
        self.recycle(pool, waiting);
        Some(slot)
    }

    fn recycle(&mut self, pool: WorkPool, waiting: WaitingCall) {
        let WaitingCall { mut bytes, source, .. } = waiting;
        self.leave_source_of_call(pool, source);
        if self.spare_arguments.len() < SPARE_ARGUMENTS_MAX && bytes.capacity() <= SPARE_ARGUMENT_BYTES_MAX {
            bytes.clear();
            self.spare_arguments.keep(bytes);
        }
    }

    /// Hands over what the pools have room for; of the calls that wait, the next in the fair order. Sheds those that
    /// would end too late.
    pub(super) fn schedule(&mut self, conns: &mut Conns<'_, RpcApp>) {
        let now = conns.now();
        if self.pools.is_shared() {
            for pool in WorkPool::ALL {
                let (reactors, work_ns) = self.pools.other_work(self.reactor, pool);
                self.run_queue.set_others(pool, reactors, work_ns);
            }
        }
        if !self.run_queue.is_empty() {
            for pool in WorkPool::ALL {
                while let Some(next) = self.run_queue.next(pool, self.is_any_asleep(), now) {
                    self.leave_queue(conns, pool, next);
                }
            }
        }
        if let Some(batch) = self.gathering.take() {
            self.ready.push(batch);
        }
        if !self.ready.is_empty() {
            self.hand_over_ready();
        }
        let load = self.pools.load(self.reactor);
        load.set_queued(self.run_queue.len());
        if self.pools.is_shared() {
            WorkPool::ALL.into_iter().for_each(|pool| load.set_work(pool, self.run_queue.work_ns(pool)));
        }
        if self.watched > 0 && self.watch_at.is_none() {
            self.watch_at = Some(now + STUCK_AFTER);
        }
    }

    fn leave_queue(&mut self, conns: &mut Conns<'_, RpcApp>, pool: WorkPool, next: Next<WaitingCall>) {
        let now = conns.now();
        match next {
            Next::Start(cost, since, mut waiting) => {
                let mut batch = self.batch_for(pool, cost, now);
                let place = self.place_in(&batch);
                if let Some(session) = conns.session(waiting.key) {
                    session.calls.set_work(waiting.slot, place);
                }
                let (metadata, body) = waiting.bytes.split_at(waiting.metadata_len);
                batch.push(JobParts {
                    key: waiting.key,
                    slot: waiting.slot,
                    method: waiting.method,
                    codec: waiting.codec,
                    compressed: waiting.compressed,
                    deadline: waiting.deadline,
                    peer: waiting.peer,
                    // At least one microsecond: the call has waited.
                    waited_us: micros(now.saturating_duration_since(since)).max(1),
                    cost,
                    metadata,
                    body,
                    chunk: waiting.chunk.take(),
                    extensions: waiting.extensions.take(),
                });
                self.recycle(pool, waiting);
                self.put_back(batch);
            }
            Next::Shed(reason, since, waiting) => {
                let ended = CallEnd {
                    place: EndPlace::Shed(reason),
                    code: Code::ResourceExhausted,
                    queue_us: micros(now.saturating_duration_since(since)),
                    handler_us: 0,
                    compressed: false,
                    extras: None,
                    body: SendBody::Bytes(reason.message().as_bytes()),
                };
                self.end_shed(conns, pool, waiting.key, waiting.slot, ended);
                self.recycle(pool, waiting);
            }
        }
    }

    // Batches.

    /// Adds a call to the batch of this turn, or to one of its own for a blocking thread.
    #[inline]
    fn start(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        pool: WorkPool,
        cost: CallCost,
    ) {
        let mut batch = self.batch_for(pool, cost, cx.now());
        self.push(cx, request, index, method, cost, &mut batch);
        self.put_back(batch);
    }

    /// Returns the batch to which a call is added.
    #[inline]
    fn batch_for(&mut self, pool: WorkPool, cost: CallCost, now: Instant) -> Box<WorkBatch> {
        if pool == WorkPool::Cpu
            && let Some(batch) = self.gathering.take()
        {
            // A call of unknown cost begins a batch: with one worker, finished calls are returned when it has ended.
            let estimate_ns = cost.charge.estimate_ns;
            let fits = batch.estimate_ns + u64::from(estimate_ns) <= self.run_queue.batch_ns();
            if fits && estimate_ns > 0 {
                return batch;
            }
            self.ready.push(batch);
        }
        self.begin_batch(pool, now)
    }

    /// Keeps a batch until it is full, or until the end of the turn.
    #[inline]
    fn put_back(&mut self, batch: Box<WorkBatch>) {
        if batch.pool == WorkPool::Blocking {
            if let Err(batch) = self.pools.blocking.send(batch) {
                self.take_back(batch);
            }
            return;
        }
        let is_full = batch.len() >= self.batch_max || batch.bytes_len() >= BATCH_BYTES_MAX;
        if !is_full {
            self.gathering = Some(batch);
            return;
        }
        self.ready.push(batch);
        if self.wakes_early && self.pools.cpu.has_idle_worker() {
            self.hand_over_ready();
        }
    }

    /// Hands the ready batches to the workers, and then wakes a worker for each.
    fn hand_over_ready(&mut self) {
        let mut sent = 0;
        let mut ready = std::mem::take(&mut self.ready);
        for mut batch in ready.drain(..) {
            if self.pools.cpu.can_help() {
                batch.is_watched = true;
                self.watched += 1;
            }
            match self.pools.cpu.send(batch) {
                Ok(()) => sent += 1,
                Err(batch) => self.take_back(batch),
            }
        }
        self.ready = ready;
        for _ in 0..sent {
            self.pools.cpu.wake();
        }
    }

    /// Returns the place of the next call of a batch, and counts it.
    #[inline]
    fn place_in(&mut self, batch: &WorkBatch) -> WorkPlace {
        self.groups[batch.number as usize].left += 1;
        WorkPlace::Batch { number: batch.number, place: batch.len() as u8 }
    }

    #[inline]
    fn push(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        cost: CallCost,
        batch: &mut WorkBatch,
    ) {
        let deadline = deadline_of(request, cx.now());
        let place = self.place_in(batch);
        let (slot, body_len) = self.begin_call(cx, request, index, method, deadline, place);
        let chunk = (body_len > COPY_BYTES_MAX).then(|| cx.cut(request.body));
        batch.push(JobParts {
            key: cx.key(),
            slot,
            method: index,
            codec: request.codec,
            compressed: request.compressed,
            deadline,
            peer: cx.peer(),
            waited_us: 0,
            cost,
            metadata: cx.bytes(request.metadata),
            body: cx.bytes(request.body),
            chunk,
            extensions: self.attached.of(method),
        });
    }

    #[inline]
    pub(super) fn begin_call(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        deadline: Option<Instant>,
        work: WorkPlace,
    ) -> (u32, usize) {
        let body_len = request.body.len();
        let Request { id, codec, one_way, compressed, .. } = *request;
        let call = ConnCall::new(id, deadline, work, codec, one_way, compressed, index, body_len as u32);
        let mut call = call.begun(cx.now());
        if wants_load(cx, request) {
            call = call.wanting_load();
        }
        if method.is_observed() {
            call.extensions = self.attached.of(method);
        }
        self.ends.note_begun(method.shape() != CallShape::Unary);
        if method.shape() != CallShape::Unary {
            let slot = cx.session.calls.begin(call.streaming(), &mut self.free_list);
            cx.begin_stream();
            self.open_streams(cx, request, slot, method);
            return (slot, body_len);
        }
        let slot = cx.session.calls.begin(call, &mut self.free_list);
        cx.begin_call(body_len);
        (slot, body_len)
    }

    /// Makes a group for one call.
    pub(super) fn begin_group(&mut self, calls: u32) -> u32 {
        let scope = self.spare_scopes.take().unwrap_or_default();
        self.groups.insert(BatchGroup { scope, left: calls }) as u32
    }

    fn begin_batch(&mut self, pool: WorkPool, now: Instant) -> Box<WorkBatch> {
        // The batch itself counts too: a deferred answer may be completed before the batch is returned.
        let number = self.begin_group(1);
        let mut batch = match self.spare_batches.take() {
            Some(batch) => {
                self.spare_bytes -= batch.capacity_bytes();
                batch
            }
            None => WorkBatch::new(self.completions.clone(), self.back.clone()),
        };
        batch.begin(number, self.groups[number as usize].scope.clone(), pool, now);
        batch
    }

    /// Checks for stuck workers; another check follows for as long as batches are outstanding.
    pub(super) fn look_after(&mut self, now: Instant) {
        self.watch_at = self.pools.cpu.relieve(now).then(|| now + STUCK_AFTER);
    }

    /// Answers the requests of a batch that the workers did not take: they have ended (the server is ending), or
    /// their queue is full. The answers go through the mailbox, since no connection may be borrowed here.
    #[cold]
    fn take_back(&mut self, mut batch: Box<WorkBatch>) {
        batch.refuse(&Status::resource_exhausted(ShedReason::QueueFull.message()));
        batch.send_back();
    }

    /// Returns the priority of a call: 0 is the highest.
    #[inline]
    fn level_of(&self, cx: &Cx<'_>, request: &Request) -> u8 {
        let metadata = Metadata::checked_before(cx.bytes(request.metadata));
        Priority::of(metadata).level().max(self.level_min)
    }
}
