//! The role of a server's reactor: finds the method, admits or refuses, runs or hands over, and answers.
//!
//! Everything here runs on the reactor's thread. Pooled work is gathered in batches over a turn and handed over; what the
//! workers cannot begin soon waits in the run queue.
//! A group of calls that were handed over together shares one scope for cancellation; the group is removed when the
//! last of them has completed.

mod completion;
mod end;
mod forwarded;
mod futures;
mod give_up;
mod hand_over;
mod inline;
#[cfg(feature = "admin")]
mod inspect;
mod intercept;
mod sources;
mod spares;
mod stream_ends;
mod streams;
#[cfg_attr(not(feature = "trace"), path = "untraced.rs")]
mod traced;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_poller::{Key, probes};
use slab::Slab;

use self::completion::MailCompletions;
pub(crate) use self::completion::{Completion, LiveConfig};
use self::end::{CallEnd, CallEnds, EndingCall};
pub(super) use self::forwarded::Forwarding;
use self::hand_over::WaitingCall;
use self::intercept::DispatchedExtensions;
use self::sources::CallSources;
use self::spares::Spares;
use self::streams::{FRAME_HEADER_BYTES, ServerSession};
pub(super) use self::traced::CallTracing;
use crate::codec::Codec;
use crate::config::FairBy;
use crate::conn::calls::{ConnCall, FreeList};
use crate::context::{CompletionSink, Peer, Scope};
use crate::error_text::{TYPES_TEXT_BYTES_MAX, shortened};
use crate::message::{JsonDialect, Message, Refusal, ReplyExtras, Request};
use crate::policy::run_queue::{RunQueue, RunQueueConfig};
use crate::reactor::{App, ClosedConn, ConnCx, Conns, Remote};
#[cfg(feature = "bench-internals")]
use crate::server::timing::Timing;
use crate::service::futures::{AsyncLimits, Executor};
use crate::service::interceptor::EndPlace;
use crate::service::{CallShape, Kind, Method, Registry};
use crate::stats::{CallStats, MethodStats};
use crate::status::Status;
use crate::stream::{Outbox, StreamCommand};
use crate::wire::{ProtocolId, ProtocolSet, ServerContext, ServerProtocol};
use crate::workers::{Pools, WorkBatch, WorkPool};

/// The most batches and scopes kept for later turns: with batches of one request, as many are outstanding as calls.
const SPARE_MAX: usize = 2048;
/// A batch is full when its small arguments reach this size.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// The counters of a server's reactor for its calls.
pub(super) struct AppStats {
    pub(super) methods: Vec<MethodStats>,
    pub(super) calls: CallStats,
}

impl AppStats {
    pub(super) fn new(methods: usize) -> AppStats {
        AppStats { methods: (0..methods).map(|_| MethodStats::new()).collect(), calls: CallStats::default() }
    }
}

/// Calls that were handed over together.
struct BatchGroup {
    scope: Arc<Scope>,
    /// How many of the calls, and of their batch, have not been completed.
    left: u32,
}

/// The app of a server's reactor.
pub(super) struct RpcApp {
    /// Next to the dispatcher, so that a method can be borrowed while the dispatcher works on its call.
    registry: Arc<Registry>,
    dispatcher: Dispatcher,
}

/// Everything of the app except the methods.
struct Dispatcher {
    pools: Arc<Pools>,
    side: Arc<ServerContext>,
    /// The protocols that each listener accepts.
    protocols: Vec<ProtocolSet>,
    batch_max: usize,
    sink: Arc<MailCompletions>,
    /// The same, for handlers.
    completions: Arc<dyn CompletionSink>,
    /// What callbacks of streams post on this thread.
    outbox: Outbox,
    /// What they have posted for the current connection and was not applied yet.
    posted: VecDeque<StreamCommand>,
    /// Commands in `posted` are being applied.
    is_applying: bool,
    /// They are applied to any connection, not only to the current one.
    is_applying_all: bool,
    /// What they have posted for other connections.
    deferred: VecDeque<StreamCommand>,
    /// Connections whose sinks wait for the write queue.
    gated: Vec<Key>,
    back: Arc<dyn Fn(Box<WorkBatch>) + Send + Sync>,
    groups: Slab<BatchGroup>,
    /// Which reactor of the server this is.
    reactor: usize,
    /// The calls that wait for a worker.
    run_queue: RunQueue<WaitingCall>,
    sources: CallSources,
    /// What runs the futures of async methods; present if there are any.
    executor: Option<Executor>,
    async_limits: Arc<AsyncLimits>,
    /// Which proxies are believed, if any are.
    forwarding: Option<Arc<Forwarding>>,
    /// The highest priority that callers can claim.
    level_min: u8,
    /// Buffers for the arguments of waiting calls.
    spare_arguments: Spares<Vec<u8>>,
    /// The batch that is being filled with pooled requests.
    gathering: Option<Box<WorkBatch>>,
    /// Batches that are handed over by the end of the turn.
    #[allow(clippy::vec_box, reason = "a batch travels in its box, here too")]
    ready: Vec<Box<WorkBatch>>,
    spare_batches: Spares<Box<WorkBatch>>,
    /// The bytes that they hold, at most `spare_bytes_max`.
    spare_bytes: usize,
    spare_bytes_max: usize,
    spare_scopes: Spares<Arc<Scope>>,
    /// Call tables for connections that have no calls in flight.
    free_list: FreeList,
    /// For inline calls, which cannot be cancelled while they run.
    inline_scope: Arc<Scope>,
    /// The scratch buffer for the reply of an inline call.
    out: Vec<u8>,
    /// The end of the last inline call, which is the beginning of the next; `None` if a read came between.
    clock: Option<Instant>,
    ends: CallEnds,
    attached: DispatchedExtensions,
    answered: Vec<ConnCall>,
    /// The number of batches with the workers, if workers could help each other. `watch_at` is the time of the next
    /// check for stuck workers.
    watched: u32,
    watch_at: Option<Instant>,
    /// A worker may start while this thread still reads, because it has its own core. On a shared core it would only
    /// preempt this thread.
    wakes_early: bool,
}

/// The parts of an [`RpcApp`].
pub(super) struct AppParts {
    pub(super) registry: Arc<Registry>,
    pub(super) pools: Arc<Pools>,
    pub(super) stats: Arc<AppStats>,
    pub(super) side: Arc<ServerContext>,
    pub(super) protocols: Vec<ProtocolSet>,
    pub(super) batch_max: usize,
    pub(super) remote: Remote<Completion>,
    pub(super) reactor: usize,
    pub(super) run_queue: RunQueueConfig,
    pub(super) executor: Option<Executor>,
    pub(super) async_limits: Arc<AsyncLimits>,
    pub(super) fair_by: FairBy,
    pub(super) level_min: u8,
    pub(super) tracing: CallTracing,
    pub(super) forwarding: Option<Arc<Forwarding>>,
}

impl RpcApp {
    pub(super) fn new(parts: AppParts) -> RpcApp {
        let AppParts { registry, pools, stats, side, protocols, batch_max, remote, .. } = parts;
        let AppParts { reactor, run_queue, executor, async_limits, fair_by, level_min, tracing, .. } = parts;
        let forwarding = parts.forwarding;
        let back = {
            let remote = remote.clone();
            move |batch: Box<WorkBatch>| {
                let _ = remote.mail(Completion::Done(batch));
            }
        };
        let ends = CallEnds::new(stats, registry.clone(), reactor, tracing, forwarding.is_some());
        let sink = Arc::new(MailCompletions::new(remote, pools.clone()));
        let spare_bytes_max = spares::bytes_max(&side.limits);
        let dispatcher = Dispatcher {
            pools,
            side,
            protocols,
            batch_max,
            completions: sink.clone(),
            sink,
            outbox: Outbox::default(),
            posted: VecDeque::new(),
            is_applying: false,
            is_applying_all: false,
            deferred: VecDeque::new(),
            gated: Vec::new(),
            back: Arc::new(back),
            groups: Slab::new(),
            reactor,
            forwarding,
            level_min,
            run_queue: RunQueue::new(&run_queue),
            sources: CallSources::new(fair_by),
            executor,
            async_limits,
            spare_arguments: Spares::new(),
            gathering: None,
            ready: Vec::new(),
            spare_batches: Spares::new(),
            spare_bytes: 0,
            spare_bytes_max,
            spare_scopes: Spares::new(),
            free_list: FreeList::new(),
            inline_scope: Arc::new(Scope::default()),
            out: Vec::new(),
            clock: None,
            ends,
            attached: DispatchedExtensions::default(),
            answered: Vec::new(),
            watched: 0,
            watch_at: None,
            wakes_early: coreloop_poller::os::allowed_cores().len() > 1,
        };
        RpcApp { registry, dispatcher }
    }
}

impl RpcApp {
    /// Returns whether a hash is that of a built-in page.
    fn is_page(&self, hash: u32) -> bool {
        self.registry.index_of(hash).is_some_and(|index| self.registry.method(index).is_page())
    }
}

#[cfg(feature = "bench-internals")]
impl RpcApp {
    pub(super) fn timing_mut(&mut self) -> &mut Timing {
        &mut self.dispatcher.ends.timing
    }
}

type Cx<'a> = ConnCx<'a, RpcApp>;

impl Dispatcher {
    // Requests.

    #[inline(always)]
    fn on_request(&mut self, registry: &Registry, cx: &mut Cx<'_>, request: Request) {
        probes::call_begin(request.id, request.method, cx.key().to_bits());
        let Some(index) = registry.index_of(request.method) else {
            return self.refuse_unknown(cx, &request);
        };
        let method = registry.method(index);
        if method.is_observed() && self.is_dispatched_slow(cx, &request, method) {
            return self.on_intercepted(registry, cx, &request, index, method, false);
        }
        if !admits_fast(method, &request, cx)
            && let Err(status) = admit(method, &request, cx)
        {
            return self.refuse_at(cx, &request, Some(index), EndPlace::Refused, &status);
        }
        if cx.session.calls.contains(request.id) && !request.one_way {
            let status = duplicate_id(request.id);
            return self.refuse_at(cx, &request, Some(index), EndPlace::Refused, &status);
        }
        match method.runs() {
            Kind::Inline if !method.may_defer() => {
                if self.ends.timing.is_quick(index, &request) {
                    self.run_quick(registry, cx, &request, index, method);
                } else {
                    self.run_inline(registry, cx, &request, index, method);
                }
            }
            _ if method.shape() != CallShape::Unary => {
                self.begin_streaming(registry, cx, &request, index, method, false);
            }
            Kind::Inline => self.run_inline_deferring(registry, cx, &request, index, method),
            Kind::Pooled => self.gather(cx, &request, index, method),
            Kind::Blocking => self.hand_over_one(cx, &request, index, method),
            Kind::Async => self.spawn(registry, cx, &request, index, method),
        }
    }

    /// Decides whether the call gets a trace.
    #[inline(always)]
    fn begins_trace(&mut self, cx: &Cx<'_>, request: &Request) -> bool {
        self.attached.trace = self.ends.tracing.look(cx.bytes(request.metadata));
        self.attached.trace.is_some()
    }

    /// Refuses a call before anything else is known of it; it has a trace, as all others.
    #[cold]
    fn refuse_traced(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        refuse: impl FnOnce(&mut Dispatcher, &mut Cx<'_>),
    ) {
        let is_traced = self.begins_trace(cx, request);
        self.with_client(cx, request, |dispatcher, cx| {
            if is_traced {
                dispatcher.attach_trace(cx, request);
            }
            refuse(dispatcher, cx);
        });
        self.attached = DispatchedExtensions::default();
    }

    #[cold]
    fn refuse_unknown(&mut self, cx: &mut Cx<'_>, request: &Request) {
        let message = match request.name.map(|name| String::from_utf8_lossy(cx.bytes(name)).into_owned()) {
            Some(name) => format!("there is no method {name} here"),
            None => format!("there is no method with the hash {:#010x} here", request.method),
        };
        let status = Status::unimplemented(message);
        self.refuse_traced(cx, request, |dispatcher, cx| dispatcher.refuse(cx, request, &status));
    }

    /// Refuses a request whose method is unknown or was not looked up.
    #[cold]
    fn refuse(&mut self, cx: &mut Cx<'_>, request: &Request, status: &Status) {
        self.refuse_at(cx, request, None, EndPlace::Refused, status);
    }

    #[cold]
    fn refuse_at(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        method: Option<u32>,
        place: EndPlace,
        status: &Status,
    ) {
        let extras = ReplyExtras::of_status(status);
        let ended = CallEnd::of_status(place, status, extras.as_deref());
        self.ends.end(cx, EndingCall::of_request(request, method).with(self.attached.get()), ended);
    }

    #[cold]
    fn on_refusal(&mut self, cx: &mut Cx<'_>, refusal: &Refusal) {
        let Refusal { id, codec, one_way, code, ref message } = *refusal;
        let call = EndingCall { id, codec, one_way, method: None, request_bytes: 0, extensions: None };
        self.ends.end(cx, call, CallEnd::early(EndPlace::Refused, code, message));
        cx.note_refusal(FRAME_HEADER_BYTES + message.len());
    }
}

/// Returns whether a request certainly fits the method that it names; if not, [`admit`] decides.
#[inline(always)]
fn admits_fast(method: &Method, request: &Request, cx: &Cx<'_>) -> bool {
    if request.name.is_some() {
        return false;
    }
    let is_same = request.schema == 0 || request.schema == method.schema();
    if method.accepts_number(request.codec) && is_same {
        return true;
    }
    // The number of a JSON dialect. A native frame cannot carry it.
    JsonDialect::split(request.codec).1 != JsonDialect::Serde
        && method.accepts_codec(Codec::Json)
        && cx.protocol().id() != Some(ProtocolId::Native)
}

/// Checks whether a request fits the method that it names.
#[inline(never)]
fn admit(method: &Method, request: &Request, cx: &Cx<'_>) -> Result<(), Status> {
    if method.is_route() {
        return admit_route(method, request, cx);
    }
    let number = match cx.protocol().id() {
        Some(ProtocolId::Native) => request.codec,
        _ => JsonDialect::split(request.codec).0,
    };
    let codec = Codec::from_number(number);
    if let Some(name) = request.name
        && cx.bytes(name) != method.name().as_bytes()
    {
        let name = String::from_utf8_lossy(cx.bytes(name));
        return Err(Status::unimplemented(format!("there is no method {name} here")));
    }
    let Some(codec) = codec else {
        return Err(Status::unimplemented(format!("codec {} is not known", request.codec)));
    };
    if !method.accepts_codec(codec) {
        let takes: Vec<&str> = method.codec_names().collect();
        let (name, takes) = (method.name(), takes.join(", "));
        let why = method.warning().map(|warning| format!(" ({warning})")).unwrap_or_default();
        return Err(Status::unimplemented(format!("{name} takes {takes}, not {}{why}", codec.name())));
    }
    if request.schema != 0 && request.schema != method.schema() && !method.is_self_describing(codec) {
        return Err(Status::failed_precondition(format!(
            "the caller's types of {} have the fingerprint {:#010x}; the server expects {} ({:#010x})",
            method.name(),
            request.schema,
            shortened(&method.signature(), TYPES_TEXT_BYTES_MAX),
            method.schema()
        )));
    }
    Ok(())
}

/// Checks that a call of a route was made from an HTTP request: no other protocol can call it, by its hash or name. gRPC's
/// connections pass on requests for pages.
fn admit_route(method: &Method, request: &Request, cx: &Cx<'_>) -> Result<(), Status> {
    let protocol = cx.protocol().id().map(ProtocolId::name);
    if protocol == Some("http") || protocol == Some("grpc") && method.is_page() {
        return Ok(());
    }
    Err(Status::unimplemented(format!("there is no method with the hash {:#010x} here", request.method)))
}

#[cold]
fn duplicate_id(id: u64) -> Status {
    Status::invalid_argument(format!("the call id {id} is already in flight on this connection"))
}

#[inline]
fn deadline_of(request: &Request, arrived: Instant) -> Option<Instant> {
    (request.time_left_us != 0).then(|| arrived + Duration::from_micros(u64::from(request.time_left_us)))
}

impl App for RpcApp {
    type Protocol = ServerProtocol;
    type Session = ServerSession;
    type Mail = Completion;

    fn open(&mut self, _key: Key, _peer: Peer, listener: usize) -> (ServerProtocol, ServerSession) {
        let allowed = self.dispatcher.protocols.get(listener).copied().unwrap_or(ProtocolSet::SERVED);
        (ServerProtocol::undecided(allowed, self.dispatcher.side.clone()), ServerSession::new())
    }

    #[inline(always)]
    fn on_message(&mut self, cx: &mut Cx<'_>, message: Message) {
        let RpcApp { registry, dispatcher } = self;
        match message {
            Message::Request(request) => dispatcher.on_request(registry, cx, request),
            Message::Refused(refusal) => dispatcher.on_refusal(cx, &refusal),
            Message::Cancel { id } => dispatcher.on_cancel(cx, id),
            Message::Ping { id } => dispatcher.on_ping(cx, id),
            Message::Open(request) => dispatcher.on_open(registry, cx, &request),
            Message::Data(data) => dispatcher.on_data(cx, &data),
            Message::End { id } => dispatcher.on_end(cx, id),
            Message::Credit { id, bytes } => dispatcher.on_credit(cx, id, bytes),
            Message::CallBroken(broken) => dispatcher.on_call_broken(cx, broken),
            Message::Hello { metadata } => dispatcher.on_hello(cx, metadata),
            Message::Pong { .. } => {}
            // The protocol passes none of these to a server.
            Message::Reply(_) | Message::Headers { .. } | Message::Drain => {}
        }
    }

    fn on_message_after_drain(&mut self, cx: &mut Cx<'_>, message: Message) {
        match message {
            // Probes are answered to the end.
            Message::Request(Request { method, .. }) if self.is_page(method) => self.on_message(cx, message),
            Message::Request(request) | Message::Open(request) => {
                // The time states that the call was not run: it may be repeated at once, elsewhere.
                let status = Status::unavailable("the server drains the connection: the call was not run")
                    .with_retry_after(Duration::ZERO);
                self.dispatcher.refuse_traced(cx, &request, |dispatcher, cx| {
                    dispatcher.refuse(cx, &request, &status);
                });
            }
            other => self.on_message(cx, other),
        }
    }

    fn on_unread(&mut self) {
        self.dispatcher.ends.note_unread();
    }

    fn release_unused(&mut self) -> (usize, bool) {
        self.dispatcher.release_spares()
    }

    #[inline]
    fn on_read_end(&mut self) {
        self.dispatcher.ends.end_group();
        self.dispatcher.clock = None;
    }

    fn on_mail(&mut self, conns: &mut Conns<'_, RpcApp>, mail: Completion) {
        if !self.dispatcher.deferred.is_empty() {
            // It was posted before.
            self.dispatcher.apply_deferred(conns);
        }
        match mail {
            Completion::Done(batch) => self.dispatcher.on_done(conns, batch),
            Completion::Late(late) => self.dispatcher.on_deferred(&self.registry, conns, late),
            Completion::Stream(command) => self.dispatcher.on_stream_command(conns, command),
            Completion::Task(task) => self.dispatcher.run_task(conns, task),
            Completion::Configure(config) => {
                conns.set_limits(&config.limits);
                if let Some(trace) = &config.trace {
                    self.dispatcher.ends.tracing.configure(trace);
                }
            }
            #[cfg(feature = "admin")]
            Completion::Inspect(request) => self.inspect(conns, *request),
            Completion::Nudge => {}
        }
    }

    fn schedule(&mut self, conns: &mut Conns<'_, RpcApp>) {
        self.dispatcher.schedule(conns);
    }

    #[inline]
    fn next_deadline(&self, session: &ServerSession) -> Option<Instant> {
        session.next_deadline()
    }

    #[inline]
    fn next_at(&self) -> Option<Instant> {
        self.dispatcher.watch_at
    }

    fn on_time(&mut self, conns: &mut Conns<'_, RpcApp>) {
        self.dispatcher.look_after(conns.now());
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        self.dispatcher.answer_late(cx);
        self.dispatcher.look_after_peer(cx);
    }

    fn on_abort(&mut self, cx: &mut Cx<'_>) {
        self.dispatcher.give_up(cx);
    }

    fn on_message_while_saturated(&mut self, cx: &mut Cx<'_>, message: Message) {
        let Message::Request(request) = &message else { return self.on_message(cx, message) };
        let index = self.registry.index_of(request.method);
        let (shape, runs) = index.map_or((CallShape::Unary, Kind::Pooled), |index| {
            let method = self.registry.method(index);
            (method.shape(), method.runs())
        });
        if shape != CallShape::Unary {
            return self.on_message(cx, message);
        }
        let pool = if runs == Kind::Blocking { WorkPool::Blocking } else { WorkPool::Cpu };
        self.dispatcher.refuse_traced(cx, request, |dispatcher, cx| {
            dispatcher.refuse_saturated(cx, request, index, pool);
        });
    }

    fn on_stream_input_end(&mut self, cx: &mut Cx<'_>) {
        self.dispatcher.on_stream_input_end(cx);
    }

    #[inline]
    fn pause(&self) -> Option<Duration> {
        (!self.dispatcher.run_queue.is_empty()).then(|| self.dispatcher.run_queue.pause())
    }

    #[inline]
    fn wants_turn_end(&self) -> bool {
        !self.dispatcher.gated.is_empty() || !self.dispatcher.deferred.is_empty()
    }

    fn on_turn_end(&mut self, conns: &mut Conns<'_, RpcApp>) {
        self.dispatcher.open_gates(conns);
        if !self.dispatcher.deferred.is_empty() {
            self.dispatcher.apply_deferred(conns);
            // What was sent now is written in the next turn.
            self.dispatcher.sink.nudge();
        }
    }

    fn on_close(&mut self, closed: ClosedConn<'_, RpcApp>) {
        let ClosedConn { key, peer, protocol, mut session, why } = closed;
        if let Some(protocol) = protocol.id() {
            self.dispatcher.side.connections.end(protocol);
        }
        why.log(peer, protocol.id().map_or("unknown", ProtocolId::name));
        for call in session.calls.iter() {
            if !call.is_answered() {
                self.dispatcher.ends.end_dropped((key, peer, protocol.id()), call);
            }
            self.dispatcher.ends.note_over(call.is_streaming());
            self.dispatcher.cancel_work(call);
        }
        self.dispatcher.leave_sources(session.sources);
        self.dispatcher.end_all_streams(key, &mut session);
    }
}
