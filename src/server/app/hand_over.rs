//! Hand-over to the pools: pooled requests are gathered in batches and wait in the run queue until the turn schedules
//! them; blocking ones are handed over one by one.

use std::time::Instant;

use super::{BATCH_BYTES_MAX, BatchGroup, Cx, Dispatcher, deadline_of};
use crate::conn::calls::ConnCall;
use crate::message::Request;
use crate::server::observer::EndPlace;
use crate::service::{CallShape, Method};
use crate::status::Status;
use crate::workers::batch::{COPY_BYTES_MAX, JobParts};
use crate::workers::{STUCK_AFTER, WorkBatch};

/// The message of a call that is refused because of the work queue.
const QUEUE_FULL: &str = "the work queue is full (work_queue_max)";

impl Dispatcher {
    /// Adds a request to the batch of this turn.
    pub(super) fn gather(&mut self, cx: &mut Cx<'_>, request: &Request, index: u32, method: &Method) {
        // The backlog counts what is in the run queue.
        let pending = self.gathering.as_ref().map_or(0, |batch| batch.len());
        if !self.pools.backlog.has_room(pending) {
            return self.refuse_full(cx, request, index);
        }
        let mut batch = match self.gathering.take() {
            Some(batch) => batch,
            None => self.begin_batch(cx.now()),
        };
        self.push(cx, request, index, method, &mut batch);
        let is_full = batch.len() >= self.batch_max || batch.bytes_len() >= BATCH_BYTES_MAX;
        if !is_full {
            self.gathering = Some(batch);
            return;
        }
        self.enqueue(batch);
        if self.wakes_early && self.pools.cpu.has_idle_worker() {
            self.hand_over_queued();
        }
    }

    /// Decides which of the waiting requests the workers get now: all of them, in the order of their arrival.
    pub(super) fn schedule(&mut self, now: Instant) {
        if let Some(batch) = self.gathering.take() {
            self.enqueue(batch);
        }
        if !self.run_queue.is_empty() {
            self.hand_over_queued();
        }
        if self.watched > 0 && self.watch_at.is_none() {
            self.watch_at = Some(now + STUCK_AFTER);
        }
    }

    fn enqueue(&mut self, batch: Box<WorkBatch>) {
        self.pools.backlog.add(batch.len());
        self.run_queue.push(batch);
    }

    /// Hands the batches of the run queue to the workers, and then wakes a worker for each.
    fn hand_over_queued(&mut self) {
        let mut sent = 0;
        let mut queue = std::mem::take(&mut self.run_queue);
        for mut batch in queue.drain(..) {
            if self.pools.cpu.can_help() {
                batch.is_watched = true;
                self.watched += 1;
            }
            match self.pools.cpu.send(batch) {
                Ok(()) => sent += 1,
                Err(batch) => self.take_back(batch),
            }
        }
        self.run_queue = queue;
        for _ in 0..sent {
            self.pools.cpu.wake();
        }
    }

    /// Hands one request to the blocking threads: in a batch, one request would wait for the other.
    pub(super) fn hand_over_one(&mut self, cx: &mut Cx<'_>, request: &Request, index: u32, method: &Method) {
        if !self.pools.backlog.has_room(0) {
            return self.refuse_full(cx, request, index);
        }
        let mut batch = self.begin_batch(cx.now());
        self.push(cx, request, index, method, &mut batch);
        self.pools.backlog.add(1);
        if let Err(batch) = self.pools.blocking.send(batch) {
            self.take_back(batch);
        }
    }

    #[cold]
    fn refuse_full(&mut self, cx: &mut Cx<'_>, request: &Request, index: u32) {
        let status = Status::resource_exhausted(QUEUE_FULL);
        self.refuse_at(cx, request, Some(index), EndPlace::QueueFull, &status);
    }

    pub(super) fn push(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        batch: &mut WorkBatch,
    ) {
        let deadline = deadline_of(request, cx.now());
        let place = (batch.number, batch.len() as u8);
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
            metadata: cx.bytes(request.metadata),
            body: cx.bytes(request.body),
            chunk,
        });
    }

    pub(super) fn begin_call(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        deadline: Option<Instant>,
        place: (u32, u8),
    ) -> (u32, usize) {
        let body_len = request.body.len();
        let Request { id, codec, one_way, compressed, .. } = *request;
        let call = ConnCall::new(id, deadline, place, codec, one_way, compressed, index, body_len as u32);
        self.groups[place.0 as usize].left += 1;
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

    pub(super) fn begin_group(&mut self) -> u32 {
        let scope = self.spare_scopes.pop().unwrap_or_default();
        self.groups.insert(BatchGroup { scope, left: 0 }) as u32
    }

    pub(super) fn begin_batch(&mut self, now: Instant) -> Box<WorkBatch> {
        let number = self.begin_group();
        // The batch itself counts too: a deferred answer may be completed before the batch is returned.
        self.groups[number as usize].left = 1;
        let mut batch = match self.spare_batches.pop() {
            Some(batch) => {
                self.spare_bytes -= batch.capacity_bytes();
                batch
            }
            None => WorkBatch::new(self.completions.clone(), self.back.clone()),
        };
        batch.begin(number, self.groups[number as usize].scope.clone(), now);
        batch
    }

    /// Checks for stuck workers; another check follows for as long as batches are outstanding.
    pub(super) fn look_after(&mut self, now: Instant) {
        self.watch_at = self.pools.cpu.relieve(now).then(|| now + STUCK_AFTER);
    }

    /// Answers the requests of a batch that the workers did not take: they have ended (the server is ending), or
    /// their queue is full. The answers go through the mailbox, since no connection may be borrowed here.
    #[cold]
    pub(super) fn take_back(&mut self, mut batch: Box<WorkBatch>) {
        self.pools.backlog.sub(batch.len());
        batch.refuse(&Status::resource_exhausted(QUEUE_FULL));
        batch.send_back();
    }
}
