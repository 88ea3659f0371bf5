//! The application that a client's reactor runs: it turns commands of callers into requests, and replies into
//! results.
//!
//! An [`EndpointState`] is one address and its connections (`endpoint.rs`: dialing, back-off); a [`Session`] is one
//! connection and its calls (`session.rs`). When a server drains, its endpoint gets a new connection while the calls
//! on the old one are still being answered. `names.rs`, or `names_dns.rs`, resolves the names in addresses.

#[cfg(feature = "netrpc")]
mod behind_http;
mod cancel;
mod endpoint;
mod fleet;
#[cfg_attr(feature = "discovery", path = "names_dns.rs")]
mod names;
mod session;
mod silence;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use coreloop_bufpool::LINK_BYTES_MIN;
use coreloop_poller::Key;

use self::endpoint::{EndpointState, ReplyOrder};
use self::fleet::{FLEET_LINES, FleetState};
use self::names::NameLookups;
use self::session::{
    Session, call_error, cancel, drop_connection, give_up, has_room, may_repeat, note_round_trip, on_ping,
    send,
};
use self::silence::watch;
use self::streams::{check_reply, release_streams};
use super::CallError;
use super::call_slot::{CallSlot, EndedAttempt, Promise, guarded};
use super::config::ClientConfig;
use super::driver::{DriverCounters, DriverShared};
use super::endpoint::{EndSignal, Endpoint, EndpointTarget};
use super::fleet::ViewSender;
use super::pending::PendingLookup;
use super::reply::ReplyOutcome;
use crate::conn::streams::StreamWindows;
use crate::context::Peer;
use crate::message::{IncomingReply, Message, Metadata, Refusal};
use crate::reactor::{App, ClosedConn, ConnCx, Conns, DialId, Remote};
use crate::status::{Code, Status};
use crate::stream::{ReactorTask, StreamCommand};
use crate::transport::Transport;
use crate::wire::{ClientProtocol, Scheme};

/// The least time between two checks for what is late.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How often a call is sent, where each connection that carried it ended before the server sent anything on it.
const TRIES_MAX: u8 = 3;

/// The messages of callers to the reactor.
#[allow(clippy::large_enum_variant, reason = "the large one is the one that is sent all the time")]
pub(super) enum ClientCommand {
    /// One call.
    Start(Promise),
    /// Calls that are sent together.
    StartAll(Vec<Promise>),
    /// The caller of that call has abandoned it.
    Cancel { line: u64, call_slot: Arc<CallSlot> },
    /// The call that these calls were made for is cancelled.
    CancelGroup { group: u64 },
    /// The addresses of a name (`host:port`).
    Resolved { name: String, result: io::Result<Vec<SocketAddr>> },
    /// No client and no call uses that endpoint any more. The signals are kept until its connections have ended.
    Close { line: u64, signals: Vec<EndSignal> },
    /// A command of a sink or a stream.
    Stream(StreamCommand),
    /// Runs a callback of a sink or a stream on this thread.
    Callback(Box<dyn FnOnce() + Send>),
    /// Runs a task on this thread.
    Task(Arc<dyn ReactorTask>),
    /// The resolver of the endpoint's fleet has found something.
    Found(Arc<Endpoint>),
    /// Someone asks what is known of the endpoint's servers.
    View { endpoint: Arc<Endpoint>, sender: ViewSender },
    /// Nothing: what was sent at the end of a turn is written in the next.
    Nudge,
}

pub(super) struct ClientApp {
    remote: Remote<ClientCommand>,
    shared: Arc<DriverShared>,
    lines: BTreeMap<u64, EndpointState>,
    /// The fleets, by the numbers of their clients' endpoints. Each of their servers is one of `lines`.
    fleets: BTreeMap<u64, FleetState>,
    /// The last of the numbers that servers of fleets have among `lines`.
    last_fleet_line: u64,
    /// Ended attempts of fleets' calls, while they are handled. The memory is used again.
    ended: Vec<EndedAttempt>,
    /// Every open connection, including the draining ones.
    keys: Vec<Key>,
    /// Calls that wait for a free place or for a connection, over all endpoints.
    waiting: usize,
    /// The time of the next check for what is late. A check that comes too early costs only the check.
    look_at: Option<Instant>,
    attempts: u64,
    /// The names that are being resolved.
    names: NameLookups,
    over: Vec<(u64, Promise)>,
    /// Connections whose sinks wait for the write queue or for credit.
    gated: Vec<Key>,
    /// The wakers of the callers whose replies came in this read. They are called after the last reply: a caller that
    /// is woken for the first reply takes the core, finds that the second is missing, and sleeps again.
    wakers: Vec<Waker>,
}

type Cx<'a> = ConnCx<'a, ClientApp>;

impl ClientApp {
    pub(super) fn new(remote: Remote<ClientCommand>, shared: Arc<DriverShared>) -> ClientApp {
        ClientApp {
            remote,
            shared,
            lines: BTreeMap::new(),
            fleets: BTreeMap::new(),
            last_fleet_line: FLEET_LINES,
            ended: Vec::new(),
            keys: Vec::new(),
            waiting: 0,
            look_at: None,
            attempts: 0,
            names: NameLookups::default(),
            over: Vec::new(),
            gated: Vec::new(),
            wakers: Vec::new(),
        }
    }

    fn stats(&self) -> &DriverCounters {
        &self.shared.stats
    }

    fn look_by(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |look_at| look_at.min(at)));
    }

    // Sending calls.

    /// Handles a new call: sends it, queues it, or fails it.
    fn on_start(&mut self, conns: &mut Conns<'_, ClientApp>, promise: Promise) {
        if let Some(deadline) = promise.deadline {
            self.look_by(deadline);
        }
        if promise.is_given_up() {
            // Abandoned before this message was read: the cancellation came first and found no call.
            return give_up(&self.shared.stats, promise);
        }
        let endpoint = promise.endpoint();
        let EndpointTarget::One(address) = endpoint.target() else {
            return self.on_fleet_start(conns, promise);
        };
        let number = endpoint.number;
        // The first call of an endpoint creates its state, and the end of its last call removes it: no separate
        // message is guaranteed to be read before this one when the mailbox is full.
        let line = self.lines.entry(number).or_insert_with(|| {
            let (tls, config) = (endpoint.tls().cloned(), endpoint.config.clone());
            EndpointState::new(endpoint.scheme, tls, address.clone(), config)
        });
        if let Some(promise) = send_if_room(&self.shared.stats, conns, line, promise) {
            self.wait_for_turn(conns, number, promise);
        }
    }

    /// Sends waiting calls, as far as there is room.
    fn refill(&mut self, cx: &mut Cx<'_>) {
        let Some(line) = self.lines.get_mut(&cx.session.line) else { return };
        if cx.session.is_draining {
            return;
        }
        while line.waiting.front().is_some_and(|promise| has_room(cx, &line.bounds, promise))
            && let Some(promise) = line.waiting.pop_front()
        {
            self.waiting -= 1;
            send(&self.shared.stats, cx, promise);
        }
    }

    // Receiving replies.

    fn on_reply(&mut self, cx: &mut Cx<'_>, answered: &IncomingReply) {
        let promise = match cx.session.pending.take(answered.id) {
            PendingLookup::Call(promise) => promise,
            PendingLookup::Late => return self.stats().late_replies.add(1),
            PendingLookup::Unknown => return self.stats().unknown_replies.add(1),
        };
        self.stats().answered.add(1);
        if let Some(streams) = promise.streams() {
            let broken = check_reply(streams, answered.status == Code::Ok.number(), answered.body);
            if let Err(status) = broken {
                cancel(cx, answered.id);
                return promise.fail(CallError::ReplyRefused(status));
            }
            release_streams(cx, answered.id);
        }
        let mut answer = ReplyOutcome::of(answered, promise.endpoint().config.frame_bytes_max);
        note_round_trip(cx, &promise, answered);
        if !answered.metadata.is_empty() {
            let metadata = Metadata::checked_before(cx.bytes(answered.metadata));
            answer.read_metadata(metadata, promise.endpoint().scheme);
            if let Some(us) = answer.extras.as_ref().and_then(|extras| extras.load_us) {
                promise.endpoint().set_load(us);
            }
        }
        if answered.status != Code::Ok.number()
            && let Some(text) = promise.completed(answer.code(), cx.bytes(answered.body))
        {
            return self.wakers.extend(promise.complete(answer, text.as_bytes()));
        }
        if answered.body.len() >= LINK_BYTES_MIN {
            let chunk = cx.cut(answered.body);
            self.wakers.extend(promise.complete_shared(answer, chunk));
        } else {
            self.wakers.extend(promise.complete(answer, cx.bytes(answered.body)));
        }
    }

    /// Fails the call of a reply that the protocol refuses. The connection stays open.
    fn on_refused(&mut self, cx: &mut Cx<'_>, refusal: Refusal) {
        match cx.session.pending.take(refusal.id) {
            PendingLookup::Call(promise) => {
                release_streams(cx, refusal.id);
                promise.fail(CallError::ReplyRefused(Status::new(refusal.code, refusal.message)));
                // The rest of the reply would delay the next call.
                if cx.session.order == ReplyOrder::OneAtATime {
                    drop_connection(cx);
                }
            }
            PendingLookup::Late => self.stats().late_replies.add(1),
            PendingLookup::Unknown => self.stats().unknown_replies.add(1),
        }
    }

    /// Fails a call whose server broke a rule of the protocol, and cancels it. A frame for a call that has ended is
    /// dropped.
    #[cold]
    fn on_broken(&mut self, cx: &mut Cx<'_>, id: u64, status: Status) {
        if let PendingLookup::Call(promise) = cx.session.pending.take(id) {
            cancel(cx, id);
            promise.fail(CallError::ReplyRefused(status));
        }
    }

    /// After calls of a connection have ended: sends waiting calls, or closes a connection that has drained.
    fn after_end(&mut self, cx: &mut Cx<'_>) {
        if cx.session.is_draining {
            if cx.session.pending.is_empty() {
                cx.close();
            }
        } else if self.waiting > 0 {
            self.refill(cx);
        }
    }

    fn on_drain(&mut self, cx: &mut Cx<'_>) {
        self.stats().drains.add(1);
        cx.session.is_draining = true;
        let (number, now) = (cx.session.line, cx.now());
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.replace_later(cx.key(), now);
        let is_ordered = line.order != ReplyOrder::Any;
        self.on_fleet_connection(number, now);
        if is_ordered {
            self.on_last_reply(cx);
        }
        self.look_by_if_waiting(number, now);
        let redial_at = self.lines.get(&number).and_then(EndpointState::redials_at);
        redial_at.into_iter().for_each(|at| self.look_by(at));
    }

    /// Takes back the calls that the server does not answer: it has answered its last call on this connection, and
    /// what was written after that call was not run (RFC 9112 section 9.6). They are sent on another connection.
    fn on_last_reply(&mut self, cx: &mut Cx<'_>) {
        let mut over = std::mem::take(&mut self.over);
        cx.session.pending.take_if(|_| true, &mut over);
        over.sort_unstable_by_key(|(id, _)| *id);
        let is_progress = cx.session.is_heard;
        let mut again = Vec::new();
        for (_, mut promise) in over.drain(..) {
            // A call that was sent before on another connection may have run there.
            promise.is_sent = promise.tries > 1;
            if is_progress || promise.tries < TRIES_MAX {
                again.push(promise);
            } else {
                let text = "the server closed the connection before it had read the call";
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, text);
                promise.fail(CallError::Lost { error, may_have_run: false });
            }
        }
        self.send_again(cx.session.line, again.into_iter());
        self.over = over;
    }

    /// Schedules a check if calls wait: they may be sent on another connection.
    fn look_by_if_waiting(&mut self, number: u64, now: Instant) {
        if self.lines.get(&number).is_some_and(|line| !line.waiting.is_empty()) {
            self.look_by(now);
        }
    }

    // Timers.

    /// Checks everything that can be late, and schedules the next check.
    fn look(&mut self, conns: &mut Conns<'_, ClientApp>) {
        let now = conns.now();
        self.look_at = None;
        let is_late = |promise: &Promise| promise.deadline.is_some_and(|deadline| deadline <= now);
        let late = self.take_over(conns, is_late, |_| CallError::DeadlineExceeded);
        self.stats().late.add(late);
        for at in 0..self.keys.len() {
            conns.with(self.keys[at], |cx| {
                let Some(line) = self.lines.get_mut(&cx.session.line) else { return };
                let next = watch(cx, line);
                let deadline = cx.session.pending.iter().filter_map(|promise| promise.deadline).min();
                next.into_iter().chain(deadline).for_each(|at| self.look_by(at));
                if self.waiting > 0 {
                    self.refill(cx);
                }
            });
        }
        self.look_at_lines(conns);
        self.look_at_fleets(conns);
        // Each check visits all calls: calls that become late shortly after each other are found together.
        self.look_at = self.look_at.map(|at| at.max(now + LOOK_EVERY));
    }
}

/// Sends the call on a connection of the line that has room, or returns it.
#[inline]
fn send_if_room(
    stats: &DriverCounters,
    conns: &mut Conns<'_, ClientApp>,
    line: &EndpointState,
    promise: Promise,
) -> Option<Promise> {
    let mut rest = Some(promise);
    if line.waiting.is_empty() {
        let several = line.order == ReplyOrder::Any && line.connections.len() > 1;
        let first = if several { least_busy(conns, &line.connections) } else { 0 };
        let (before, after) = line.connections.split_at(first);
        for &key in after.iter().chain(before) {
            conns.with(key, |cx| {
                // A connection that ends in this turn has no room; then the call waits.
                if let Some(promise) = rest.take_if(|promise| has_room(cx, &line.bounds, promise)) {
                    send(stats, cx, promise);
                }
            });
            if rest.is_none() {
                break;
            }
        }
    }
    rest
}

/// Returns the index of the connection with the fewest calls.
#[cold]
fn least_busy(conns: &mut Conns<'_, ClientApp>, connections: &[Key]) -> usize {
    let mut calls = |key: Key| conns.session(key).map_or(usize::MAX, |session| session.pending.len());
    (0..connections.len()).min_by_key(|index| calls(connections[*index])).unwrap_or(0)
}

impl Drop for ClientApp {
    /// Ends the calls whose last attempt has ended with the reactor.
    fn drop(&mut self) {
        // Another thread may have the mark of this one later.
        self.shared.thread.store(0, Ordering::Relaxed);
        let mut ended = Vec::new();
        while self.shared.ended.has_any() {
            self.shared.ended.swap(&mut ended);
            ended.drain(..).for_each(EndedAttempt::end_call);
        }
    }
}

impl App for ClientApp {
    type Protocol = ClientProtocol;
    type Session = Session;
    type Mail = ClientCommand;

    fn begin_thread(&mut self) {
        self.shared.set_thread();
    }

    /// Never called for a socket of the client: a client's reactor has no listener. A connection that arrives here
    /// has a session that belongs to no endpoint.
    fn open(&mut self, _key: Key, _peer: Peer, _listener: usize) -> (ClientProtocol, Session) {
        (
            ClientProtocol::new(Scheme::Native, "", ClientConfig::default().frame_bytes_max),
            Session::new(0, ReplyOrder::Any, StreamWindows::DEFAULT, Instant::now()),
        )
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, message: Message) {
        if !cx.session.is_heard && message != Message::Drain {
            cx.session.is_heard = true;
            if let Some(line) = self.lines.get_mut(&cx.session.line) {
                line.failures = 0;
            }
        }
        match message {
            Message::Reply(answered) => {
                cx.session.last_used = cx.now();
                self.on_reply(cx, &answered);
                self.after_end(cx);
            }
            Message::Refused(refusal) => {
                self.on_refused(cx, refusal);
                self.after_end(cx);
            }
            Message::Drain => {
                self.on_drain(cx);
                self.after_end(cx);
            }
            Message::Ping { id } => on_ping(cx, id),
            Message::Pong { .. } => self.on_pong(cx),
            Message::Data(data) => {
                self.on_data(cx, &data);
                self.after_end(cx);
            }
            Message::Headers { id, metadata } => {
                self.on_headers(cx, id, metadata);
                self.after_end(cx);
            }
            Message::CallBroken(broken) => {
                self.on_call_broken(cx, broken);
                self.after_end(cx);
            }
            Message::Credit { id, bytes } => {
                self.on_credit(cx, id, bytes);
                self.after_end(cx);
            }
            Message::Hello { metadata } => self.on_hello(cx, metadata),
            // The protocol passes none of these on to a client.
            Message::Request(_) | Message::Open(_) | Message::End { .. } | Message::Cancel { .. } => {}
        }
        if self.shared.local.has_any() {
            self.apply_local(cx);
        }
    }

    fn on_read_end(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    fn on_mail(&mut self, conns: &mut Conns<'_, ClientApp>, command: ClientCommand) {
        if self.shared.local.has_any() {
            // They were posted before.
            self.apply_all_local(conns);
        }
        match command {
            ClientCommand::Start(promise) => self.on_start(conns, promise),
            ClientCommand::StartAll(promises) => {
                promises.into_iter().for_each(|promise| self.on_start(conns, promise));
            }
            ClientCommand::Cancel { line, call_slot } => self.on_cancel(conns, line, &call_slot),
            ClientCommand::CancelGroup { group } => self.on_cancel_group(conns, group),
            ClientCommand::Resolved { name, result } => self.on_resolved(conns, &name, &result),
            ClientCommand::Close { line, signals } => self.on_line_closed(conns, line, &signals),
            ClientCommand::Stream(command) => self.on_stream_command(conns, command),
            // A panic of the user's is reported by the panic hook.
            ClientCommand::Callback(callback) => guarded(callback),
            ClientCommand::Task(task) => self.run_task(task),
            ClientCommand::Found(endpoint) => self.on_found(conns, &endpoint),
            ClientCommand::View { endpoint, sender } => self.on_view(conns, &endpoint, &sender),
            ClientCommand::Nudge => {}
        }
        if self.shared.local.has_any() {
            self.apply_all_local(conns);
        }
    }

    /// A handler of the reactor's main app may send on a stream of this client, and so may a callback at the end of a
    /// connection, after the last look of a turn.
    fn has_posted(&self) -> bool {
        self.shared.local.has_any() || self.shared.ended.has_any()
    }

    fn wants_turn_end(&self) -> bool {
        !self.gated.is_empty() || self.shared.local.has_any() || self.shared.ended.has_any()
    }

    fn on_turn_end(&mut self, conns: &mut Conns<'_, ClientApp>) {
        self.open_gates(conns);
        let mut has_sent = self.handle_ended(conns);
        if self.shared.local.has_any() {
            self.apply_all_local(conns);
            has_sent = true;
        }
        if has_sent {
            // What was sent now is written in the next turn.
            let _ = self.remote.mail(ClientCommand::Nudge);
        }
    }

    fn on_dialed(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        id: DialId,
        result: io::Result<(Transport, Peer)>,
    ) {
        self.on_dial_ended(conns, id, result);
        if self.shared.local.has_any() {
            self.apply_all_local(conns);
        }
    }

    fn next_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// A reply that waits to be read is not late, and it shows that the server is alive.
    fn reads_before_time(&self) -> bool {
        true
    }

    fn wants_written(&self) -> bool {
        self.waiting > 0
    }

    fn on_written(&mut self, cx: &mut Cx<'_>) {
        self.refill(cx);
    }

    fn on_time(&mut self, conns: &mut Conns<'_, ClientApp>) {
        self.look(conns);
    }

    fn on_close(&mut self, closed: ClosedConn<'_, ClientApp>) {
        let ClosedConn { key, mut session, why, peer, .. } = closed;
        if let Some(line) = self.lines.get(&session.line) {
            why.log(peer, line.scheme.name());
        }
        self.keys.retain(|other| *other != key);
        let mut over = std::mem::take(&mut self.over);
        session.pending.take_if(|_| true, &mut over);
        self.stats().lost.add(u64::from(!over.is_empty()));
        if session.order != ReplyOrder::Any {
            over.sort_unstable_by_key(|(id, _)| *id);
            let (again, failed): (Vec<_>, Vec<_>) =
                over.drain(..).partition(|(_, promise)| may_repeat(&session, promise, why));
            self.send_again(session.line, again.into_iter().map(|(_, promise)| promise));
            over = failed;
        }
        self.on_connection_ended(key, &session, why);
        for (_, promise) in over.drain(..) {
            let line = self.lines.get(&session.line);
            let error = line.map_or(CallError::NotSent, |line| call_error(line, &session, why, true));
            promise.fail(error);
        }
        self.over = over;
    }
}
