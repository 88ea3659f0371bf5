//! The role of a server's reactor: finds the method, admits or refuses, runs or hands over, and answers.
//!
//! Everything here runs on the reactor's thread. Pooled work goes out in batches that gather over a turn; a group
//! of calls that went out together shares one scope for their cancellation, and is forgotten when the last of
//! them has come home.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_bufpool::{Chunk, LINK_BYTES_MIN};
use coreloop_poller::Key;
use slab::Slab;

use crate::codec::Codec;
use crate::conn::CloseReason;
use crate::conn::calls::{Call, Calls, Stock};
use crate::context::{Context, Deferral, Home, Late, Outcome, Parts, Peer, Scope, code_of};
use crate::message::{Message, Metadata, Outgoing, Refusal, Reply, Request, SendBody};
use crate::reactor::{App, ConnCx, Conns, Remote};
use crate::server::timing::Timing;
use crate::service::{Kind, Method, Registry};
use crate::stats::{CallStats, MethodStats, micros};
use crate::status::{Code, Status};
use crate::wire::{Protocols, Speaks};
use crate::workers::batch::{COPY_BYTES_MAX, JobParts, Note, guarded, settle};
use crate::workers::{Batch, Pools, RunCall};

/// Batches and scopes kept for the next turn.
const SPARE_MAX: usize = 64;
/// A turn's batch is handed over early when its small arguments have grown to this.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// What comes home to a server's reactor.
pub enum Mail {
    /// A batch whose requests were run.
    Done(Box<Batch>),
    /// An answer that was put off.
    Late(Late),
}

/// What a server's reactor counts of its calls.
pub(super) struct AppStats {
    pub(super) methods: Vec<MethodStats>,
    pub(super) calls: CallStats,
}

impl AppStats {
    pub(super) fn new(methods: usize) -> AppStats {
        AppStats { methods: (0..methods).map(|_| MethodStats::new()).collect(), calls: CallStats::default() }
    }
}

/// The way home from the workers: the reactor's door.
struct WayHome(Remote<Mail>);

impl Home for WayHome {
    fn late(&self, late: Late) {
        // Without a reactor there is no connection either.
        let _ = self.0.mail(Mail::Late(late));
    }
}

/// Calls that went out together.
struct Group {
    scope: Arc<Scope>,
    /// How many of them have not come home, their batch among them.
    left: u32,
}

/// How a call ended, for its answer.
struct Ended<'a> {
    code: Code,
    queue_us: u32,
    handler_us: u32,
    compressed: bool,
    body: SendBody<'a>,
}

impl<'a> Ended<'a> {
    /// It ended before it began.
    fn early(code: Code, message: &'a str) -> Ended<'a> {
        Ended {
            code,
            queue_us: 0,
            handler_us: 0,
            compressed: false,
            body: SendBody::Bytes(message.as_bytes()),
        }
    }
}

/// Says how a call ended.
#[inline(always)]
fn reply(cx: &mut Cx<'_>, id: u64, codec: u8, ended: Ended<'_>) {
    let Ended { code, queue_us, handler_us, compressed, body } = ended;
    cx.send(Outgoing::Reply(Reply { id, codec, compressed, code, queue_us, handler_us, body }));
}

/// The app of a server's reactor.
pub(super) struct RpcApp {
    /// Beside the desk, so that a method can be held while the desk works on its call.
    registry: Arc<Registry>,
    desk: Desk,
}

/// Everything of the app but the methods.
struct Desk {
    pools: Arc<Pools>,
    stats: Arc<AppStats>,
    frame_bytes_max: usize,
    /// What each listener speaks.
    protocols: Vec<Protocols>,
    batch_max: usize,
    home: Arc<dyn Home>,
    back: Arc<dyn Fn(Box<Batch>) + Send + Sync>,
    groups: Slab<Group>,
    /// The batch that gathers this turn's pooled requests.
    gathering: Option<Box<Batch>>,
    #[allow(clippy::vec_box, reason = "a batch travels in its box, here too")]
    spare_batches: Vec<Box<Batch>>,
    spare_scopes: Vec<Arc<Scope>>,
    /// Tables of calls for connections that have none in flight.
    stock: Stock,
    /// For inline calls, which nobody can cancel while they run.
    inline_scope: Arc<Scope>,
    /// The reply of an inline call, before it is written.
    out: Vec<u8>,
    /// The end of the last inline call, which is the beginning of the next; `None` when a read came between.
    clock: Option<Instant>,
    timing: Timing,
    answered: Vec<Call>,
    /// Batches sent for which nobody has been woken.
    unannounced: u32,
    /// A worker may start while this thread still reads: it has a core of its own. On a shared one it would only
    /// push this thread aside.
    wakes_early: bool,
}

/// What an [`RpcApp`] is made of.
pub(super) struct AppParts {
    pub(super) registry: Arc<Registry>,
    pub(super) pools: Arc<Pools>,
    pub(super) stats: Arc<AppStats>,
    pub(super) frame_bytes_max: usize,
    pub(super) protocols: Vec<Protocols>,
    pub(super) batch_max: usize,
    pub(super) remote: Remote<Mail>,
}

impl RpcApp {
    pub(super) fn new(parts: AppParts) -> RpcApp {
        let AppParts { registry, pools, stats, frame_bytes_max, protocols, batch_max, remote } = parts;
        let back = {
            let remote = remote.clone();
            move |batch: Box<Batch>| {
                let _ = remote.mail(Mail::Done(batch));
            }
        };
        let timing = Timing::new(registry.methods().len());
        let desk = Desk {
            pools,
            stats,
            frame_bytes_max,
            protocols,
            batch_max,
            home: Arc::new(WayHome(remote)),
            back: Arc::new(back),
            groups: Slab::new(),
            gathering: None,
            spare_batches: Vec::new(),
            spare_scopes: Vec::new(),
            stock: Stock::new(),
            inline_scope: Arc::new(Scope::default()),
            out: Vec::new(),
            clock: None,
            timing,
            answered: Vec::new(),
            unannounced: 0,
            wakes_early: coreloop_poller::os::allowed_cores().len() > 1,
        };
        RpcApp { registry, desk }
    }
}

type Cx<'a> = ConnCx<'a, RpcApp>;

impl Desk {
    // Requests.

    #[inline(always)]
    fn on_request(&mut self, registry: &Registry, cx: &mut Cx<'_>, request: Request) {
        let Some(index) = registry.index_of(request.method) else {
            return self.refuse_unknown(cx, &request);
        };
        let method = registry.method(index);
        if let Err(status) = admit(method, &request, cx) {
            return self.refuse(cx, &request, &status);
        }
        if cx.session.contains(request.id) && !request.one_way {
            let status =
                Status::invalid_argument(format!("call {} is in flight on this connection", request.id));
            return self.refuse(cx, &request, &status);
        }
        match method.runs() {
            Kind::Inline if method.may_defer() => {
                self.run_inline_deferring(registry, cx, &request, index, method)
            }
            Kind::Inline if self.timing.is_quick(index, &request) => {
                self.run_quick(registry, cx, &request, index, method)
            }
            Kind::Inline => self.run_inline(registry, cx, &request, index, method),
            Kind::Pooled => self.gather(cx, &request, index),
            Kind::Blocking => self.hand_over_one(cx, &request, index),
        }
    }

    #[cold]
    fn refuse_unknown(&mut self, cx: &mut Cx<'_>, request: &Request) {
        let message = match request.name.map(|name| String::from_utf8_lossy(cx.bytes(name)).into_owned()) {
            Some(name) => format!("there is no method {name} here"),
            None => format!("there is no method with the hash {:#010x} here", request.method),
        };
        self.refuse(cx, request, &Status::unimplemented(message));
    }

    #[cold]
    fn refuse(&mut self, cx: &mut Cx<'_>, request: &Request, status: &Status) {
        self.stats.calls.refused[status.code as usize].add(1);
        if !request.one_way {
            let body = SendBody::Bytes(status.message.as_bytes());
            let Request { id, codec, .. } = *request;
            let (queue_us, handler_us) = (0, 0);
            cx.send(Outgoing::Reply(Reply {
                id,
                codec,
                compressed: false,
                code: status.code,
                queue_us,
                handler_us,
                body,
            }));
        }
    }

    #[cold]
    fn on_refusal(&mut self, cx: &mut Cx<'_>, refusal: &Refusal) {
        self.stats.calls.refused[refusal.code as usize].add(1);
        if !refusal.one_way {
            reply(cx, refusal.id, refusal.codec, Ended::early(refusal.code, &refusal.message));
        }
    }

    // Inline.

    /// Runs a method that is known to take less than a microsecond: timed with its like, not one by one.
    #[inline(always)]
    fn run_quick(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
    ) {
        if !self.timing.is_timing(index) {
            self.end_timing();
            self.timing.begin(index, Instant::now(), cx.now());
        }
        let began = self.timing.began;
        let queue_us = self.timing.queue_us;
        let deadline = deadline_of(request, cx.now());
        let (outcome, note) = self.run_here(registry, cx, request, index, method, began, deadline);
        self.timing.calls += 1;
        if let Outcome::Answer = outcome {
            self.timing.ok += 1;
            let body = SendBody::Bytes(&self.out);
            let ended = Ended { code: Code::Ok, queue_us, handler_us: 0, compressed: false, body };
            return reply(cx, request.id, request.codec, ended);
        }
        let times =
            Ended { code: Code::Ok, queue_us, handler_us: 0, compressed: false, body: SendBody::Bytes(&[]) };
        self.settle_inline(cx, request, index, outcome, note, times);
    }

    /// Everything but the plain end of a quick call.
    #[cold]
    #[inline(never)]
    fn settle_inline(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        outcome: Outcome,
        note: Note,
        times: Ended<'_>,
    ) {
        if note == Note::Panicked {
            self.stats.calls.panics.add(1);
        }
        let compressed = matches!(outcome, Outcome::Compressed);
        let (code, chunk) = settle(outcome, &mut self.out, 0);
        // An inline method that does not say that it defers has no ticket to take.
        let code = code.unwrap_or(Code::Internal);
        let stats = &self.stats.methods[index as usize];
        if request.one_way {
            stats.one_way.add(1);
        } else {
            stats.answers[code as usize].add(1);
            let body = chunk.map_or(SendBody::Bytes(&self.out), SendBody::Chunk);
            reply(cx, request.id, request.codec, Ended { code, compressed, body, ..times });
        }
    }

    /// The calls that were timed together are counted.
    fn end_timing(&mut self) {
        if self.timing.calls > 0 {
            let stats = &self.stats.methods[self.timing.method as usize];
            self.timing.end(Instant::now(), stats);
        }
    }

    #[inline(never)]
    fn run_inline(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
    ) {
        self.end_timing();
        let began = self.clock.unwrap_or_else(Instant::now);
        let deadline = deadline_of(request, cx.now());
        let queue_us = micros(began.saturating_duration_since(cx.now()));
        if deadline.is_some_and(|deadline| deadline <= began) {
            self.clock = Some(began);
            self.stats.calls.late_at_decode.add(1);
            return self.refuse(
                cx,
                request,
                &Status::deadline_exceeded("the deadline passed before the call began"),
            );
        }
        let (outcome, note) = self.run_here(registry, cx, request, index, method, began, deadline);
        let ended = Instant::now();
        self.clock = Some(ended);
        self.timing.note_exact(index, ended.duration_since(began));
        let handler_us = micros(ended.duration_since(began));
        let stats = &self.stats.methods[index as usize];
        stats.queue_us.record(queue_us);
        stats.handler_us.record(handler_us);
        let times =
            Ended { code: Code::Ok, queue_us, handler_us, compressed: false, body: SendBody::Bytes(&[]) };
        self.settle_inline(cx, request, index, outcome, note, times);
    }

    /// Runs an inline method on the reactor's thread; its reply stands in `out`.
    #[inline(always)]
    #[allow(
        clippy::too_many_arguments,
        reason = "the one place where all that is known of a call comes together"
    )]
    fn run_here(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        began: Instant,
        deadline: Option<Instant>,
    ) -> (Outcome, Note) {
        let chunk = shared_body(cx, request, method);
        self.out.clear();
        let metadata = Metadata::checked_before(cx.bytes(request.metadata));
        let peer = cx.peer();
        let context = Context::new(Parts {
            method: method.name(),
            began,
            deadline,
            metadata,
            peer: &peer,
            scope: &self.inline_scope,
            place: 0,
            deferral: None,
        });
        let call = run_call(request, index, metadata, cx.bytes(request.body), chunk.as_ref());
        guarded(registry, &call, &context, &mut self.out)
    }

    /// An inline method that may take its reply away is in flight from before it runs.
    fn run_inline_deferring(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
    ) {
        let began = Instant::now();
        self.clock = None;
        let deadline = deadline_of(request, cx.now());
        let number = self.begin_group();
        let (slot, _) = self.begin_call(cx, request, index, deadline, (number, 0));
        let chunk = shared_body(cx, request, method);
        let scope = self.groups[number as usize].scope.clone();
        let queue_us = micros(began.saturating_duration_since(cx.now()));
        self.out.clear();
        let (outcome, note) = {
            let metadata = Metadata::checked_before(cx.bytes(request.metadata));
            let deferral = Deferral {
                home: &self.home,
                key: cx.key(),
                slot,
                batch: number,
                codec: request.codec,
                queue_us,
            };
            let peer = cx.peer();
            let context = Context::new(Parts {
                method: method.name(),
                began,
                deadline,
                metadata,
                peer: &peer,
                scope: &scope,
                place: 0,
                deferral: Some(&deferral),
            });
            let call = run_call(request, index, metadata, cx.bytes(request.body), chunk.as_ref());
            guarded(registry, &call, &context, &mut self.out)
        };
        if note == Note::Panicked {
            self.stats.calls.panics.add(1);
        }
        let compressed = matches!(outcome, Outcome::Compressed);
        let mut out = std::mem::take(&mut self.out);
        if let (Some(code), chunk) = settle(outcome, &mut out, 0) {
            let body = chunk.map_or(SendBody::Bytes(&out), SendBody::Chunk);
            let handler_us = micros(began.elapsed());
            self.end_call(cx, slot, Ended { code, queue_us, handler_us, compressed, body });
            drop(scope);
            self.come_home(number, 1);
        }
        self.out = out;
    }

    // Handing over.

    /// Puts a request into the batch that this turn gathers.
    fn gather(&mut self, cx: &mut Cx<'_>, request: &Request, index: u32) {
        let pending = self.gathering.as_ref().map_or(0, |batch| batch.len());
        if !self.pools.backlog().has_room(pending) {
            return self.refuse_full(cx, request);
        }
        let mut batch = match self.gathering.take() {
            Some(batch) => batch,
            None => self.begin_batch(cx.now()),
        };
        self.push(cx, request, index, &mut batch);
        let is_full = batch.len() >= self.batch_max || batch.bytes_len() >= BATCH_BYTES_MAX;
        self.gathering = Some(batch);
        if is_full {
            self.send_gathered();
            if self.wakes_early {
                self.announce();
            }
        }
    }

    /// Hands one request to the blocking threads: a batch would make one wait for the other.
    fn hand_over_one(&mut self, cx: &mut Cx<'_>, request: &Request, index: u32) {
        if !self.pools.backlog().has_room(0) {
            return self.refuse_full(cx, request);
        }
        let mut batch = self.begin_batch(cx.now());
        self.push(cx, request, index, &mut batch);
        self.pools.backlog().add(1);
        if let Err(batch) = self.pools.send_blocking(batch) {
            self.take_back(batch);
        }
    }

    #[cold]
    fn refuse_full(&mut self, cx: &mut Cx<'_>, request: &Request) {
        self.stats.calls.queue_full.add(1);
        self.refuse(cx, request, &Status::resource_exhausted("the work queue is full (work_queue_max)"));
    }

    fn push(&mut self, cx: &mut Cx<'_>, request: &Request, index: u32, batch: &mut Batch) {
        let deadline = deadline_of(request, cx.now());
        let place = (batch.number, batch.len() as u8);
        let (slot, body_len) = self.begin_call(cx, request, index, deadline, place);
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

    fn begin_call(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        deadline: Option<Instant>,
        place: (u32, u8),
    ) -> (u32, usize) {
        let body_len = request.body.len();
        let Request { id, codec, one_way, compressed, .. } = *request;
        let call = Call::new(id, deadline, place, codec, one_way, compressed, index, body_len as u32);
        let slot = cx.session.begin(call, &mut self.stock);
        cx.begin_call(body_len);
        self.groups[place.0 as usize].left += 1;
        (slot, body_len)
    }

    fn begin_group(&mut self) -> u32 {
        let scope = self.spare_scopes.pop().unwrap_or_default();
        self.groups.insert(Group { scope, left: 0 }) as u32
    }

    fn begin_batch(&mut self, now: Instant) -> Box<Batch> {
        let number = self.begin_group();
        // The batch itself is one more: a deferred answer may come home before the batch that it went out with.
        self.groups[number as usize].left = 1;
        let mut batch =
            self.spare_batches.pop().unwrap_or_else(|| Batch::new(self.home.clone(), self.back.clone()));
        batch.begin(number, self.groups[number as usize].scope.clone(), now);
        batch
    }

    fn send_gathered(&mut self) {
        if let Some(batch) = self.gathering.take() {
            self.pools.backlog().add(batch.len());
            match self.pools.send_cpu(batch) {
                Ok(()) => self.unannounced += 1,
                Err(batch) => self.take_back(batch),
            }
        }
    }

    /// Wakes a worker for each batch that was sent.
    fn announce(&mut self) {
        for _ in 0..std::mem::take(&mut self.unannounced) {
            self.pools.wake_cpu();
        }
    }

    /// The workers have gone (the server is ending), or their queue is full: the requests are answered all the
    /// same, by way of the mailbox, since there may be no connection at hand.
    #[cold]
    fn take_back(&mut self, mut batch: Box<Batch>) {
        self.pools.backlog().sub(batch.len());
        self.stats.calls.queue_full.add(batch.len() as u64);
        batch.refuse(&Status::resource_exhausted("the work queue is full (work_queue_max)"));
        batch.send_back();
    }

    // Coming home.

    fn on_done(&mut self, conns: &mut Conns<'_, RpcApp>, mut batch: Box<Batch>) {
        // The batch itself, with its last part.
        let mut home = u32::from(!batch.is_part);
        for index in 0..batch.done.len() {
            let chunk = batch.take_chunk_of(index);
            let done = &batch.done[index];
            match done.note {
                Note::Ran => {}
                Note::Removed => self.stats.calls.removed.add(1),
                Note::LateAtDequeue => self.stats.calls.late_at_dequeue.add(1),
                Note::Panicked => self.stats.calls.panics.add(1),
            }
            let Some(code) = done.code else { continue };
            home += 1;
            let body = chunk.map_or_else(|| SendBody::Bytes(batch.body_of(done)), SendBody::Chunk);
            let is_late = code == Code::DeadlineExceeded && done.note == Note::Ran;
            let ended = Ended {
                code,
                queue_us: done.queue_us,
                handler_us: done.handler_us,
                compressed: done.compressed,
                body,
            };
            let answered = conns.with(done.key, |cx| self.end_call(cx, done.slot, ended));
            if is_late && answered == Some(true) {
                self.stats.calls.late_at_answer.add(1);
            }
        }
        let number = batch.number;
        batch.recycle();
        batch.begin(number, self.inline_scope.clone(), conns.now());
        if self.spare_batches.len() < SPARE_MAX {
            self.spare_batches.push(batch);
        }
        if home > 0 {
            self.come_home(number, home);
        }
    }

    fn on_late(&mut self, conns: &mut Conns<'_, RpcApp>, late: Late) {
        let code = code_of(&late.result);
        let handler_us = micros(conns.now().saturating_duration_since(late.began));
        let body = match late.result {
            Ok(chunk) => SendBody::Chunk(chunk),
            Err(status) => SendBody::Chunk(Chunk::from(status.message.into_bytes())),
        };
        let ended = Ended { code, queue_us: late.queue_us, handler_us, compressed: false, body };
        conns.with(late.key, |cx| self.end_call(cx, late.slot, ended));
        self.come_home(late.batch, 1);
    }

    /// So many of a group have come home: calls, and the batch that they went out with.
    fn come_home(&mut self, number: u32, calls: u32) {
        let group = &mut self.groups[number as usize];
        debug_assert!(group.left >= calls);
        group.left -= calls;
        if group.left == 0 {
            let mut scope = self.groups.remove(number as usize).scope;
            // A ticket that a handler keeps for ever keeps its scope; then there is a new one.
            if self.spare_scopes.len() < SPARE_MAX
                && let Some(only) = Arc::get_mut(&mut scope)
            {
                only.reset();
                self.spare_scopes.push(scope);
            }
        }
    }

    /// The work of a call has ended: it is answered, unless it has been before. True if it was answered now.
    #[inline]
    fn end_call(&mut self, cx: &mut Cx<'_>, slot: u32, ended: Ended<'_>) -> bool {
        let Some(call) = cx.session.end(slot, &mut self.stock) else {
            debug_assert!(false, "a call ends once");
            return false;
        };
        cx.end_call(call.body_bytes as usize);
        if call.is_answered() {
            self.stats.calls.late.add(1);
            return false;
        }
        self.count(call.method, ended.code, ended.queue_us, ended.handler_us, call.one_way);
        if !call.one_way {
            reply(cx, call.id, call.codec, ended);
        }
        true
    }

    #[inline]
    fn count(&self, method: u32, code: Code, queue_us: u32, handler_us: u32, one_way: bool) {
        let stats = &self.stats.methods[method as usize];
        if one_way {
            stats.one_way.add(1);
        } else {
            stats.answers[code as usize].add(1);
        }
        stats.queue_us.record(queue_us);
        stats.handler_us.record(handler_us);
    }

    // Giving up.

    /// Tells the work of a call that nobody waits for it.
    fn cancel_work(&self, call: &Call) {
        let scope = &self.groups[call.batch as usize].scope;
        if scope.cancel(call.place) {
            let (scope, place) = (scope.clone(), call.place);
            // A handler may hold the lock that this takes, so it is not the reactor that runs the callbacks.
            self.pools.run_callback(Box::new(move || scope.run_callbacks(place)));
        }
    }

    /// Answers a call before its work has ended.
    fn answer_early(&self, cx: &mut Cx<'_>, call: &Call, status: &Status) {
        self.cancel_work(call);
        if call.one_way {
            return;
        }
        self.count(call.method, status.code, 0, 0, false);
        reply(cx, call.id, call.codec, Ended::early(status.code, &status.message));
    }

    /// Answers every call whose deadline has passed, whether its work has ended or not.
    fn answer_late(&mut self, cx: &mut Cx<'_>) {
        let mut answered = std::mem::take(&mut self.answered);
        let now = cx.now();
        cx.session.answer_late(now, |call| answered.push(call.clone()));
        let status = Status::deadline_exceeded("the deadline passed while the call was under way");
        for call in answered.drain(..) {
            self.stats.calls.late_at_answer.add(1);
            self.answer_early(cx, &call, &status);
        }
        self.answered = answered;
    }

    /// Answers every call that waits, since the server will not any longer.
    fn give_up(&mut self, cx: &mut Cx<'_>) {
        let mut answered = std::mem::take(&mut self.answered);
        cx.session.answer_all(|call| answered.push(call.clone()));
        let status = Status::cancelled("the server drained and the call took too long");
        for call in answered.drain(..) {
            self.stats.calls.drain_cancelled.add(1);
            self.answer_early(cx, &call, &status);
        }
        self.answered = answered;
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_>, id: u64) {
        if let Some(call) = cx.session.answer_by_id(id).cloned() {
            self.stats.calls.cancelled.add(1);
            self.answer_early(cx, &call, &Status::cancelled("the caller gave the call up"));
        }
    }
}

/// Whether a request fits the method that it names.
#[inline]
fn admit(method: &Method, request: &Request, cx: &Cx<'_>) -> Result<(), Status> {
    let codec = Codec::from_number(request.codec);
    let is_accepted = codec.is_some_and(|codec| method.accepts_codec(codec));
    let is_same = request.schema == 0 || request.schema == method.schema();
    if is_accepted && is_same && request.name.is_none() {
        return Ok(());
    }
    admit_slowly(method, request, codec, is_accepted, cx)
}

#[cold]
fn admit_slowly(
    method: &Method,
    request: &Request,
    codec: Option<Codec>,
    is_accepted: bool,
    cx: &Cx<'_>,
) -> Result<(), Status> {
    if let Some(name) = request.name
        && cx.bytes(name) != method.name().as_bytes()
    {
        let name = String::from_utf8_lossy(cx.bytes(name));
        return Err(Status::unimplemented(format!("there is no method {name} here")));
    }
    let Some(codec) = codec else {
        return Err(Status::unimplemented(format!("codec {} is not known", request.codec)));
    };
    if !is_accepted {
        let takes: Vec<&str> = method.codecs().map(Codec::name).collect();
        let (name, takes) = (method.name(), takes.join(", "));
        return Err(Status::unimplemented(format!("{name} takes {takes}, not {}", codec.name())));
    }
    if request.schema != 0 && request.schema != method.schema() && !codec.is_self_describing() {
        return Err(Status::failed_precondition(format!(
            "the caller's types of {} have the fingerprint {:#010x}, here they are {} with {:#010x}",
            method.name(),
            request.schema,
            method.signature(),
            method.schema()
        )));
    }
    Ok(())
}

#[inline]
fn deadline_of(request: &Request, arrived: Instant) -> Option<Instant> {
    (request.time_left_us != 0).then(|| arrived + Duration::from_micros(u64::from(request.time_left_us)))
}

/// The body as a chunk, for a method that wants to keep it, where it is large enough that sharing beats copying.
#[inline]
fn shared_body(cx: &mut Cx<'_>, request: &Request, method: &Method) -> Option<Chunk> {
    (method.shares_body() && request.body.len() >= LINK_BYTES_MIN).then(|| cx.cut(request.body))
}

#[inline]
fn run_call<'a>(
    request: &Request,
    method: u32,
    metadata: Metadata<'a>,
    body: &'a [u8],
    chunk: Option<&'a Chunk>,
) -> RunCall<'a> {
    let Request { codec, compressed, .. } = *request;
    RunCall { method, codec, compressed, metadata, body, chunk }
}

impl App for RpcApp {
    type Wire = Speaks;
    type Session = Calls;
    type Mail = Mail;

    fn open(&mut self, _key: Key, _peer: Peer, listener: usize) -> (Speaks, Calls) {
        let allowed = self.desk.protocols.get(listener).copied().unwrap_or(Protocols::SERVED);
        (Speaks::undecided(allowed, self.desk.frame_bytes_max), Calls::new())
    }

    #[inline(always)]
    fn on_message(&mut self, cx: &mut Cx<'_>, message: Message) {
        let RpcApp { registry, desk } = self;
        match message {
            Message::Request(request) => desk.on_request(registry, cx, request),
            Message::Refused(refusal) => desk.on_refusal(cx, &refusal),
            Message::Cancel { id } => desk.on_cancel(cx, id),
            Message::Ping { id } => cx.send(Outgoing::Pong { id }),
            // The wire lets none of these through to a server.
            Message::Reply(_) | Message::Pong { .. } | Message::Drain => {}
        }
    }

    #[inline]
    fn on_read_end(&mut self) {
        self.desk.end_timing();
        self.desk.clock = None;
    }

    fn hand_off(&mut self, _now: Instant) {
        self.desk.send_gathered();
        self.desk.announce();
    }

    fn on_mail(&mut self, conns: &mut Conns<'_, RpcApp>, mail: Mail) {
        match mail {
            Mail::Done(batch) => self.desk.on_done(conns, batch),
            Mail::Late(late) => self.desk.on_late(conns, late),
        }
    }

    #[inline]
    fn next_deadline(&self, calls: &Calls) -> Option<Instant> {
        calls.next_deadline()
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        self.desk.answer_late(cx);
    }

    fn on_abort(&mut self, cx: &mut Cx<'_>) {
        self.desk.give_up(cx);
    }

    fn on_close(&mut self, _key: Key, calls: Calls, _why: &CloseReason) {
        for call in calls.iter() {
            if !call.is_answered() {
                self.desk.stats.calls.dropped.add(1);
            }
            self.desk.cancel_work(call);
        }
    }
}
