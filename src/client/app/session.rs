//! One connection and the calls on it: how a call goes out, what keeps the connection alive, and what its callers are
//! told when it ends. Which connection a call takes is not decided here: `mod.rs` does that, and `line.rs`.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Cx;
use super::line::{Line, State};
use crate::client::CallError;
use crate::client::config::ClientConfig;
use crate::client::driver::Stats;
use crate::client::flight::{Promise, What};
use crate::client::pending::Pending;
use crate::client::reply::Answer;
use crate::conn::CloseReason;
use crate::message::{Call, Outgoing, SendBody, time_left_us};

/// Answers to pings that may wait for a server to read them.
const PONGS_MAX: u32 = 1024;

/// One connection: the calls on it, and when it was last of use.
pub(in crate::client) struct Session {
    pub(super) line: u64,
    pub(super) pending: Pending,
    /// The server wants no new requests here.
    pub(super) is_draining: bool,
    /// The server has said something.
    pub(super) is_heard: bool,
    /// When it was asked for a sign of life, if nothing was heard since.
    pinged_at: Option<Instant>,
    /// When the first of the calls in flight came: before, nothing was owed.
    owed_since: Instant,
    pub(super) last_used: Instant,
    /// Answers to pings that wait to be written, or did when it was last looked.
    pongs: u32,
}

impl Session {
    pub(super) fn new(line: u64, now: Instant) -> Session {
        Session {
            line,
            pending: Pending::default(),
            is_draining: false,
            is_heard: false,
            pinged_at: None,
            owed_since: now,
            last_used: now,
            pongs: 0,
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

/// Whether one more call may go out.
pub(super) fn has_room(cx: &Cx<'_>, config: &ClientConfig) -> bool {
    let pending = &cx.session.pending;
    pending.len() < config.in_flight_max
        && (pending.bytes() < config.in_flight_bytes_max || pending.is_empty())
        && !is_behind(cx, config)
}

/// Whether what was said must be written before more is. Calls that want no answer, and those that were given up, are
/// in flight no more, and would gather without bound for a server that does not read.
pub(super) fn is_behind(cx: &Cx<'_>, config: &ClientConfig) -> bool {
    cx.out_len() >= config.in_flight_bytes_max
}

/// Sends a call that has its turn, unless it is over already.
pub(super) fn send(stats: &Stats, cx: &mut Cx<'_>, mut promise: Promise) {
    if promise.is_given_up() {
        return give_up(stats, promise);
    }
    // Of now, and not of the turn's beginning: the server is never told of more time than there is.
    let left = promise.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left.is_some_and(|left| left.is_zero()) {
        stats.late.add(1);
        return promise.fail(CallError::DeadlineExceeded);
    }
    let What::Call { method, schema, codec, compressed, one_way } = promise.what else {
        return promise.land(Answer::empty(), &[]);
    };
    promise.is_sent = true;
    let now = cx.now();
    cx.session.last_used = now;
    if cx.session.pending.is_empty() {
        // Nothing was owed before; the time to the next word counts from here.
        cx.session.owed_since = now;
    }
    let (body, metadata) = (promise.take_body(), promise.metadata.take());
    let (waits, id) = if one_way { (Some(promise), 0) } else { (None, cx.session.enter(promise)) };
    cx.send(Outgoing::Request(Call {
        id,
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
        Some(promise) => promise.land(Answer::empty(), &[]),
        None => {
            if let Some(promise) = cx.session.pending.at_mut(id) {
                promise.put_body(body);
            }
        }
    }
}

/// Ends a call that nobody waits for and that was not sent.
pub(super) fn give_up(stats: &Stats, promise: Promise) {
    stats.cancelled.add(1);
    promise.fail(CallError::Cancelled { may_have_run: false });
}

/// Shows the server that somebody lives here; not without end, if it asks and does not read.
pub(super) fn on_ping(cx: &mut Cx<'_>, id: u64) {
    if cx.out_len() == 0 {
        cx.session.pongs = 0;
    }
    if cx.session.pongs < PONGS_MAX {
        cx.session.pongs += 1;
        cx.send(Outgoing::Pong { id });
    }
}

/// Looks after a connection that is silent: one that owes answers is asked for a sign of life, one that nobody uses is
/// closed. Gives the time of the next look.
pub(super) fn watch(cx: &mut Cx<'_>, line: &mut Line) -> Option<Instant> {
    let ms = Duration::from_millis;
    let ClientConfig { ping_ms, idle_ms, .. } = *line.config;
    let now = cx.now();
    if cx.session.pending.is_empty() {
        cx.session.pending.shrink();
        if cx.session.is_draining {
            // It closes, and will not be idle again.
            return None;
        }
        let idle_at = (idle_ms > 0).then(|| cx.session.last_used + ms(idle_ms));
        if idle_at.is_some_and(|at| at <= now) {
            if line.state == State::Open(cx.key()) {
                line.state = State::Idle;
            }
            cx.session.is_draining = true;
            cx.close();
            return None;
        }
        // A call may begin in between, and fall silent.
        let ping_at = (ping_ms > 0).then(|| now + ms(ping_ms));
        return idle_at.into_iter().chain(ping_at).min();
    }
    if ping_ms == 0 {
        return None;
    }
    // Any byte is a sign of life: a large reply on a slow link is one all the time that it takes.
    let heard_at = cx.last_heard().max(cx.session.owed_since);
    if let Some(pinged_at) = cx.session.pinged_at.filter(|pinged_at| *pinged_at >= heard_at) {
        // Counted from the question: this thread may have been stopped before it asked, and the server not.
        let dead_at = pinged_at + ms(ping_ms);
        if dead_at <= now {
            cx.abort(io::ErrorKind::TimedOut);
            return None;
        }
        return Some(dead_at);
    }
    let ping_at = heard_at + ms(ping_ms);
    if ping_at > now {
        return Some(ping_at);
    }
    cx.session.pinged_at = Some(now);
    cx.send(Outgoing::Ping { id: 0 });
    Some(now + ms(ping_ms))
}

/// What the callers of a connection that ended are told.
pub(super) fn lost(why: &CloseReason, may_have_run: bool) -> CallError {
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
