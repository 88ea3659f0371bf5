//! The role that a client's reactor plays: letters from callers become requests, replies become answers.
//!
//! A [`Line`] is one address and where it stands (`line.rs`: connecting, back-off); a [`Session`] is one connection and
//! its calls. When a server drains, its line has a new connection while the old one is still being answered.

mod line;
mod silence;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use coreloop_bufpool::LINK_BYTES_MIN;
use coreloop_poller::Key;

use self::line::{Line, State};
use self::silence::watch;
use super::CallError;
use super::config::ClientConfig;
use super::driver::{Shared, Stats};
use super::flight::{Flight, Promise, What};
use super::pending::{Found, Pending};
use super::reply::Answer;
use crate::conn::CloseReason;
use crate::context::Peer;
use crate::message::{Answered, Call, Message, Outgoing, Refusal, SendBody, time_left_us};
use crate::reactor::{Address, App, ConnCx, Conns, Remote, Stream};
use crate::status::Status;
use crate::wire::{Asks, Scheme};

/// Looks for what is late are at least this far apart.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What callers tell the reactor.
#[allow(clippy::large_enum_variant, reason = "the large one is the one that is sent all the time")]
pub(super) enum Letter {
    /// There is a new address.
    Open { line: u64, scheme: Scheme, address: Address, config: Arc<ClientConfig> },
    /// A call.
    Start(Promise),
    /// Calls that leave together.
    StartAll(Vec<Promise>),
    /// Nobody waits for that call.
    Cancel { line: u64, flight: Arc<Flight> },
    /// The call that these were made for is cancelled.
    CancelGroup { group: u64 },
    /// A try to connect has ended.
    Dialed { line: u64, attempt: u64, result: io::Result<(Stream, Peer)> },
    /// Nobody calls there any more.
    Close { line: u64 },
}

/// One connection: the calls on it, and when it was last of use.
pub(super) struct Session {
    line: u64,
    pending: Pending,
    /// The server wants no new requests here.
    is_draining: bool,
    /// The server has said something.
    is_heard: bool,
    /// It was asked for a sign of life since it was last heard.
    is_pinged: bool,
    last_heard: Instant,
    last_used: Instant,
}

pub(super) struct ClientApp {
    remote: Remote<Letter>,
    shared: Arc<Shared>,
    lines: BTreeMap<u64, Line>,
    /// Every open connection, the draining ones too.
    keys: Vec<Key>,
    /// Calls that wait for their turn or for a connection, over all lines.
    waiting: usize,
    /// When to look for what is late. Too early costs a look.
    look_at: Option<Instant>,
    attempts: u64,
    over: Vec<(u64, Promise)>,
    /// Those who wait for answers of this read. They are woken after the last of them: a caller who is woken for the
    /// first one takes the core, sees that the second is not there, and sleeps again.
    wakers: Vec<Waker>,
}

type Cx<'a> = ConnCx<'a, ClientApp>;

impl ClientApp {
    pub(super) fn new(remote: Remote<Letter>, shared: Arc<Shared>) -> ClientApp {
        ClientApp {
            remote,
            shared,
            lines: BTreeMap::new(),
            keys: Vec::new(),
            waiting: 0,
            look_at: None,
            attempts: 0,
            over: Vec::new(),
            wakers: Vec::new(),
        }
    }

    fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    fn look_by(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |look_at| look_at.min(at)));
    }

    // Calls out.

    /// A call has come: it goes out, or waits, or fails.
    fn on_start(&mut self, conns: &mut Conns<'_, ClientApp>, promise: Promise) {
        if let Some(deadline) = promise.deadline {
            self.look_by(deadline);
        }
        let number = promise.lane().number;
        let Some(line) = self.lines.get_mut(&number) else {
            // Dropped, it says that the client has ended.
            return;
        };
        let mut rest = Some(promise);
        if let State::Open(key) = line.state {
            conns.with(key, |cx| {
                let is_first = line.waiting.is_empty();
                if is_first
                    && has_room(cx, &line.config)
                    && let Some(promise) = rest.take()
                {
                    send(&self.shared.stats, cx, promise);
                }
            });
        }
        if let Some(promise) = rest {
            self.wait_for_turn(number, promise, conns.now());
        }
    }

    /// Sends what has waited, as far as there is room.
    fn refill(&mut self, cx: &mut Cx<'_>) {
        let Some(line) = self.lines.get_mut(&cx.session.line) else { return };
        if line.state != State::Open(cx.key()) {
            return;
        }
        while has_room(cx, &line.config)
            && let Some(promise) = line.waiting.pop_front()
        {
            self.waiting -= 1;
            send(&self.shared.stats, cx, promise);
        }
    }

    // Answers in.

    fn on_reply(&mut self, cx: &mut Cx<'_>, answered: &Answered) {
        let promise = match cx.session.pending.take(answered.id) {
            Found::Call(promise) => promise,
            Found::Late => return self.stats().late_replies.add(1),
            Found::Unknown => return self.stats().unknown_replies.add(1),
        };
        self.stats().answered.add(1);
        let answer = Answer::of(answered, promise.lane().config.frame_bytes_max);
        if answered.body.len() >= LINK_BYTES_MIN {
            let chunk = cx.cut(answered.body);
            self.wakers.extend(promise.land_shared(answer, chunk));
        } else {
            self.wakers.extend(promise.land(answer, cx.bytes(answered.body)));
        }
    }

    /// A reply that the wire does not take: its call fails, the connection lives.
    fn on_refused(&mut self, cx: &mut Cx<'_>, refusal: Refusal) {
        match cx.session.pending.take(refusal.id) {
            Found::Call(promise) => {
                promise.fail(CallError::ReplyRefused(Status::new(refusal.code, refusal.message)));
            }
            Found::Late => self.stats().late_replies.add(1),
            Found::Unknown => self.stats().unknown_replies.add(1),
        }
    }

    /// After calls of a connection have ended: others have their turn, or a drained connection is done.
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
        let (number, key, now) = (cx.session.line, cx.key(), cx.now());
        if let Some(line) = self.lines.get_mut(&number)
            && line.state == State::Open(key)
        {
            line.state = State::Idle;
            if !line.waiting.is_empty() {
                self.dial(number, now);
            }
        }
    }

    // Calls given up.

    fn on_cancel(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64, flight: &Flight) {
        let id = flight.id.load(Ordering::Relaxed);
        if id == 0 {
            // It waits in a queue, if it is not over.
            return self.drop_abandoned(number);
        }
        // It may be on the line's connection, or on one that drains.
        for at in 0..self.keys.len() {
            let is_found = conns.with(self.keys[at], |cx| {
                let promise = (cx.session.line == number).then(|| cx.session.pending.at_mut(id)).flatten();
                if promise.is_none_or(|promise| !std::ptr::eq(promise.flight().as_ref(), flight)) {
                    return false;
                }
                if let Found::Call(promise) = cx.session.pending.take(id) {
                    cx.send(Outgoing::Cancel { id });
                    promise.fail(CallError::Cancelled { may_have_run: true });
                }
                self.stats().cancelled.add(1);
                self.after_end(cx);
                true
            });
            if is_found == Some(true) {
                return;
            }
        }
    }

    /// Lets go of waiting calls that nobody waits for: not at each, or ten thousand of them would cost a square.
    fn drop_abandoned(&mut self, number: u64) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.abandoned += 1;
        if line.abandoned * 2 < line.waiting.len() {
            return;
        }
        line.abandoned = 0;
        let before = line.waiting.len();
        let (over, rest): (VecDeque<Promise>, _) =
            std::mem::take(&mut line.waiting).into_iter().partition(Promise::is_abandoned);
        line.waiting = rest;
        self.waiting -= over.len();
        debug_assert_eq!(line.waiting.len() + over.len(), before);
        self.stats().cancelled.add(over.len() as u64);
        over.into_iter().for_each(|promise| promise.fail(CallError::Cancelled { may_have_run: false }));
    }

    fn on_cancel_group(&mut self, conns: &mut Conns<'_, ClientApp>, group: u64) {
        let in_group =
            |promise: &Promise| promise.parent.as_ref().is_some_and(|parent| parent.group == group);
        self.take_over(conns, in_group, |is_sent| CallError::Cancelled { may_have_run: is_sent });
    }

    /// Ends every call for which `is_over` says so; the server is told of those that it has.
    fn take_over(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        is_over: impl Fn(&Promise) -> bool,
        why: impl Fn(bool) -> CallError,
    ) -> u64 {
        let mut over = std::mem::take(&mut self.over);
        let mut count = 0;
        for at in 0..self.keys.len() {
            conns.with(self.keys[at], |cx| {
                cx.session.pending.take_if(&is_over, &mut over);
                for (id, promise) in over.drain(..) {
                    count += 1;
                    cx.send(Outgoing::Cancel { id });
                    promise.fail(why(true));
                }
                self.after_end(cx);
            });
        }
        for line in self.lines.values_mut() {
            if line.waiting.iter().any(&is_over) {
                let all = std::mem::take(&mut line.waiting);
                self.waiting -= all.len();
                for promise in all {
                    if is_over(&promise) {
                        count += 1;
                        promise.fail(why(false));
                    } else {
                        line.waiting.push_back(promise);
                    }
                }
                self.waiting += line.waiting.len();
            }
        }
        self.over = over;
        count
    }

    // Time.

    /// Looks at everything that can be late, and when the next thing will be.
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
            });
        }
        self.look_at_lines(now);
        // Each look goes through all calls: those that are late one after the other are found together.
        self.look_at = self.look_at.map(|at| at.max(now + LOOK_EVERY));
    }
}

/// Whether one more call may go out. What was said and not written counts as well: one-way calls and those that were
/// given up are in flight no more, but their bytes lie here as long as the server takes none.
fn has_room(cx: &Cx<'_>, config: &ClientConfig) -> bool {
    let (calls, bytes) = (cx.session.pending.len(), cx.session.pending.bytes().max(cx.out_len()));
    calls < config.in_flight_max && (bytes < config.in_flight_bytes_max || calls == 0 && cx.out_len() == 0)
}

/// Sends a call that has its turn, unless it is over already.
fn send(stats: &Stats, cx: &mut Cx<'_>, mut promise: Promise) {
    if promise.is_abandoned() {
        return promise.fail(CallError::Cancelled { may_have_run: false });
    }
    if promise.parent.as_ref().is_some_and(|parent| parent.scope.is_cancelled(parent.place)) {
        return promise.fail(CallError::Cancelled { may_have_run: false });
    }
    let left = promise.deadline.map(|deadline| deadline.saturating_duration_since(cx.now()));
    if left.is_some_and(|left| left.is_zero()) {
        return promise.fail(CallError::DeadlineExceeded);
    }
    let What::Call { ref name, method, schema, codec, compressed, one_way } = promise.what else {
        return promise.land(Answer::empty(), &[]).into_iter().for_each(Waker::wake);
    };
    let name = name.clone();
    promise.is_sent = true;
    let now = cx.now();
    cx.session.last_used = now;
    if cx.session.pending.is_empty() {
        // Nothing was owed before; the time to the next word counts from here.
        cx.session.last_heard = now;
    }
    let (body, metadata) = (promise.take_body(), promise.metadata.take());
    let (waits, id) = if one_way { (Some(promise), 0) } else { (None, cx.session.enter(promise)) };
    cx.send(Outgoing::Request(Call {
        id,
        name: name.as_ref().map_or("", |name| name.as_str()),
        method,
        codec: codec.number(),
        compressed,
        one_way,
        schema,
        time_left_us: time_left_us(left),
        metadata: metadata.as_ref().map_or(&[], |metadata| metadata.as_bytes()),
        body: SendBody::Bytes(&body),
    }));
    stats.sent.add(1);
    match waits {
        Some(promise) => promise.land(Answer::empty(), &[]).into_iter().for_each(Waker::wake),
        None => {
            if let Some(promise) = cx.session.pending.at_mut(id) {
                promise.put_body(body);
            }
        }
    }
}

impl Session {
    fn new(line: u64, now: Instant) -> Session {
        Session {
            line,
            pending: Pending::default(),
            is_draining: false,
            is_heard: false,
            is_pinged: false,
            last_heard: now,
            last_used: now,
        }
    }

    /// The call waits for its reply; gives its id.
    fn enter(&mut self, promise: Promise) -> u64 {
        let flight = promise.flight().clone();
        let id = self.pending.insert(promise);
        flight.id.store(id, Ordering::Relaxed);
        id
    }
}

impl App for ClientApp {
    type Wire = Asks;
    type Session = Session;
    type Mail = Letter;

    fn begin_thread(&mut self) {
        self.shared.thread.get_or_init(|| std::thread::current().id());
    }

    /// A client's reactor listens nowhere: whoever brings it a socket that it did not ask for, has it for nothing.
    fn open(&mut self, _key: Key, _peer: Peer, _listener: usize) -> (Asks, Session) {
        (
            Asks::new(Scheme::Native, "", ClientConfig::default().frame_bytes_max),
            Session::new(0, Instant::now()),
        )
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, message: Message) {
        let now = cx.now();
        let session = &mut *cx.session;
        (session.last_heard, session.is_heard, session.is_pinged) = (now, true, false);
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
            Message::Ping { id } => cx.send(Outgoing::Pong { id }),
            Message::Pong { .. } => {}
            // The wire lets none of these through to a client.
            Message::Request(_) | Message::Cancel { .. } | Message::Prepared { .. } => {}
        }
    }

    fn on_read_end(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    fn on_mail(&mut self, conns: &mut Conns<'_, ClientApp>, letter: Letter) {
        match letter {
            Letter::Start(promise) => self.on_start(conns, promise),
            Letter::StartAll(promises) => {
                promises.into_iter().for_each(|promise| self.on_start(conns, promise));
            }
            Letter::Cancel { line, flight } => self.on_cancel(conns, line, &flight),
            Letter::CancelGroup { group } => self.on_cancel_group(conns, group),
            Letter::Open { line, scheme, address, config } => {
                self.lines.insert(line, Line::new(scheme, address, config));
            }
            Letter::Dialed { line, attempt, result } => self.on_dialed(conns, line, attempt, result),
            Letter::Close { line } => self.on_line_closed(conns, line),
        }
    }

    fn next_at(&self) -> Option<Instant> {
        self.look_at
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

    fn on_close(&mut self, key: Key, mut session: Session, why: &CloseReason) {
        self.keys.retain(|other| *other != key);
        let mut over = std::mem::take(&mut self.over);
        session.pending.take_if(|_| true, &mut over);
        self.stats().lost.add(u64::from(!over.is_empty()));
        self.on_connection_ended(key, &session, why);
        for (_, promise) in over.drain(..) {
            promise.fail(lost(why, true));
        }
        self.over = over;
    }
}

/// What the callers of a connection that ended are told.
fn lost(why: &CloseReason, may_have_run: bool) -> CallError {
    let kind = match why {
        CloseReason::Broken(why) => return CallError::Broken(why.clone()),
        CloseReason::PeerClosed => io::ErrorKind::UnexpectedEof,
        CloseReason::Reset(kind) => *kind,
        CloseReason::FrameLate | CloseReason::WriteStalled => io::ErrorKind::TimedOut,
        CloseReason::FirstBytesLate | CloseReason::Idle | CloseReason::Drained | CloseReason::App => {
            io::ErrorKind::ConnectionAborted
        }
    };
    let text = match why {
        CloseReason::PeerClosed => "the server closed the connection".to_owned(),
        CloseReason::Reset(io::ErrorKind::TimedOut) => "the server gave no sign of life".to_owned(),
        why => format!("the connection ended: {why}"),
    };
    CallError::Lost { error: io::Error::new(kind, text), may_have_run }
}
