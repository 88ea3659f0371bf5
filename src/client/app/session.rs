//! One connection and the calls on it: how a call goes out, and what its callers are told when it ends. Which connection
//! a call takes is not decided here: `mod.rs` does that, and `line.rs`. What is done in silence is in `silence.rs`.

use std::io;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Instant;

use super::endpoint::{ConnectionBounds, EndpointState, ReplyOrder};
use super::{Cx, TRIES_MAX};
use crate::client::CallError;
use crate::client::call_slot::{Promise, PromiseKind};
use crate::client::driver::DriverCounters;
use crate::client::error::closed;
use crate::client::pending::PendingCalls;
use crate::client::reply::ReplyOutcome;
use crate::conn::CloseReason;
use crate::message::{Outgoing, OutgoingCall, SendBody, time_left_us};

/// Answers to pings that may wait for a server to read them.
const PONGS_MAX: u32 = 1024;

/// One connection: the calls on it, and when it was last of use.
pub(in crate::client) struct Session {
    pub(super) line: u64,
    pub(super) pending: PendingCalls,
    /// The server wants no new requests here.
    pub(super) is_draining: bool,
    /// The server has said something, besides that it wants no new requests.
    pub(super) is_heard: bool,
    /// A call went out here.
    pub(super) has_sent: bool,
    pub(super) order: ReplyOrder,
    /// When it was asked for a sign of life, if nothing was heard since.
    pub(super) pinged_at: Option<Instant>,
    /// When the first of the calls in flight came: before, nothing was owed.
    pub(super) owed_since: Instant,
    pub(super) last_used: Instant,
    /// Answers to pings that wait to be written, or did when it was last looked.
    pongs: u32,
}

impl Session {
    pub(super) fn new(line: u64, order: ReplyOrder, now: Instant) -> Session {
        Session {
            line,
            pending: PendingCalls::default(),
            is_draining: false,
            is_heard: false,
            has_sent: false,
            order,
            pinged_at: None,
            owed_since: now,
            last_used: now,
            pongs: 0,
        }
    }

    /// The call waits for its reply; gives its id.
    fn enter(&mut self, promise: Promise) -> u64 {
        let call_slot = promise.call_slot().clone();
        let id = self.pending.insert(promise);
        call_slot.id.store(id, Ordering::Relaxed);
        id
    }
}

/// Whether one more call may go out. What was said and not written counts as well: one-way calls and those that were
/// given up are in flight no more, but their bytes lie here as long as the server takes none.
pub(super) fn has_room(cx: &Cx<'_>, bounds: &ConnectionBounds) -> bool {
    let (calls, bytes) = (cx.session.pending.len(), cx.session.pending.bytes().max(cx.out_len()));
    cx.is_open()
        && cx.protocol().takes_calls()
        && calls < bounds.calls_max
        && (bytes < bounds.bytes_max || calls == 0 && cx.out_len() == 0)
}

/// Sends a call that has its turn, unless it is over already.
pub(super) fn send(stats: &DriverCounters, cx: &mut Cx<'_>, mut promise: Promise) {
    if promise.is_given_up() {
        return give_up(stats, promise);
    }
    // Of now, and not of the turn's beginning: the server is never told of more time than there is.
    let left = promise.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left.is_some_and(|left| left.is_zero()) {
        stats.late.add(1);
        return promise.fail(CallError::DeadlineExceeded);
    }
    let PromiseKind::Call { ref name, method, schema, codec, compressed, one_way, .. } = promise.what else {
        return promise.complete(ReplyOutcome::empty(), &[]).into_iter().for_each(Waker::wake);
    };
    let name = name.clone();
    promise.is_sent = true;
    promise.tries = promise.tries.saturating_add(1);
    cx.session.has_sent = true;
    // Where replies come in order, a call that wants no reply has one all the same, which the next call waits for.
    let one_way = one_way && cx.session.order == ReplyOrder::Any;
    let now = cx.now();
    cx.session.last_used = now;
    if cx.session.pending.is_empty() {
        // Nothing was owed before; the time to the next word counts from here.
        cx.session.owed_since = now;
    }
    let (body, metadata) = (promise.take_body(), promise.metadata.clone());
    let (waits, id) = if one_way { (Some(promise), 0) } else { (None, cx.session.enter(promise)) };
    cx.send(Outgoing::Request(OutgoingCall {
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
        Some(promise) => promise.complete(ReplyOutcome::empty(), &[]).into_iter().for_each(Waker::wake),
        None => {
            if let Some(promise) = cx.session.pending.at_mut(id) {
                promise.put_body(body);
            }
        }
    }
}

/// Ends a call that nobody waits for and that was not sent.
pub(super) fn give_up(stats: &DriverCounters, promise: Promise) {
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

/// Has the server give up a call that it has. By HTTP/1.1 it is the end of the connection that says so.
pub(super) fn cancel(cx: &mut Cx<'_>, id: u64) {
    match cx.session.order {
        ReplyOrder::Any | ReplyOrder::AsCalled => cx.send(Outgoing::Cancel { id }),
        ReplyOrder::OneAtATime => drop_connection(cx),
    }
}

/// Closes a connection whose only call is over here.
pub(super) fn drop_connection(cx: &mut Cx<'_>) {
    cx.session.is_draining = true;
    cx.abort(io::ErrorKind::ConnectionAborted);
}

/// Whether a call that had no answer when its connection ended is sent again: it may run twice, its server may close a
/// connection at any time, and it has not gone out too often.
pub(super) fn may_repeat(session: &Session, promise: &Promise, why: &CloseReason) -> bool {
    let is_closed = matches!(why, CloseReason::PeerClosed | CloseReason::Reset(_));
    session.order != ReplyOrder::Any
        && is_closed
        && promise.what.is_idempotent()
        && promise.tries < TRIES_MAX
        && !promise.is_given_up()
}

/// What the callers of a connection that ended are told.
pub(super) fn call_error(
    line: &EndpointState,
    session: &Session,
    why: &CloseReason,
    may_have_run: bool,
) -> CallError {
    let kind = match why {
        CloseReason::Broken(why) => {
            return CallError::broken(why.clone(), line.scheme, &line.address.to_string());
        }
        CloseReason::PeerClosed => {
            let error = closed(session.is_heard, line.scheme, &line.address.to_string());
            return CallError::Lost { error, may_have_run };
        }
        CloseReason::Reset(kind) => *kind,
        CloseReason::FrameLate | CloseReason::WriteStalled => io::ErrorKind::TimedOut,
        CloseReason::FirstBytesLate
        | CloseReason::Idle
        | CloseReason::Drained
        | CloseReason::App
        | CloseReason::TooManySilent => io::ErrorKind::ConnectionAborted,
    };
    let text = match why {
        CloseReason::Reset(io::ErrorKind::TimedOut) => {
            "the server did not answer a ping within ping_ms".to_owned()
        }
        why => format!("the connection ended: {why}"),
    };
    CallError::Lost { error: io::Error::new(kind, text), may_have_run }
}
