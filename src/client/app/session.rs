//! One connection and the calls on it: how a call is sent, and which error its callers get when the connection ends.
//! `mod.rs` and `endpoint.rs` choose the connection of a call; `silence.rs` handles idle connections and pings.

use std::io;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Instant;

use super::endpoint::{ConnectionBounds, EndpointState, ReplyOrder};
use super::streams::{CallerStreams, ClientStream, open_streams, release_streams};
use super::{Cx, TRIES_MAX};
use crate::client::CallError;
use crate::client::call_slot::{Promise, PromiseKind};
use crate::client::driver::DriverCounters;
use crate::client::endpoint::EndSignal;
use crate::client::error::closed;
use crate::client::pending::PendingCalls;
use crate::client::reply::ReplyOutcome;
use crate::conn::CloseReason;
use crate::conn::streams::StreamWindows;
use crate::message::{IncomingReply, Outgoing, OutgoingCall, SendBody, time_left_us};
use crate::policy::round_trip::MinRoundTrip;
use crate::stats::micros;
use crate::status::Code;
use crate::tls::TlsFailureKind;
use crate::wire::Scheme;

/// The most pongs that may wait for a server to read them.
const PONGS_MAX: u32 = 1024;

/// One connection: the calls on it, and when it was last used.
pub(in crate::client) struct Session {
    pub(super) line: u64,
    pub(super) pending: PendingCalls,
    /// The server takes no new requests here.
    pub(super) is_draining: bool,
    /// The server has sent a message other than a drain notice.
    pub(super) is_heard: bool,
    /// A call was sent here.
    pub(super) has_sent: bool,
    pub(super) order: ReplyOrder,
    /// When the connection was pinged, if nothing was received since.
    pub(super) pinged_at: Option<Instant>,
    /// When the first of the calls in flight was sent: before, no reply was outstanding.
    pub(super) owed_since: Instant,
    pub(super) last_used: Instant,
    /// Pongs that wait to be written, as of the last check.
    pongs: u32,
    /// What the calls with a deadline have measured.
    round_trip: MinRoundTrip,
    /// The windows that this side grants.
    pub(super) windows: StreamWindows,
    /// Absent until the first streaming call.
    pub(super) streams: Option<Box<CallerStreams>>,
    /// Dropped with the connection, after its client was closed.
    pub(super) end_signals: Vec<EndSignal>,
}

impl Session {
    pub(super) fn new(line: u64, order: ReplyOrder, windows: StreamWindows, now: Instant) -> Session {
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
            round_trip: MinRoundTrip::new(now),
            windows,
            streams: None,
            end_signals: Vec::new(),
        }
    }

    /// Adds the call to those that wait for a reply.
    fn enter(&mut self, promise: Promise) {
        promise.call_slot().id.store(self.pending.next_id(), Ordering::Relaxed);
        self.pending.insert(promise);
    }
}

/// Returns whether this call may be sent, too: a streaming call does not count as a call in flight. Bytes that are not written yet count as well: one-way calls and
/// abandoned calls are not in flight any more, but their bytes stay in memory as long as the server reads none.
pub(super) fn has_room(cx: &Cx<'_>, bounds: &ConnectionBounds, promise: &Promise) -> bool {
    let calls = cx.session.pending.len() - cx.streams();
    let bytes = cx.session.pending.bytes().max(cx.out_len());
    cx.is_open()
        && cx.protocol().takes_calls()
        && (calls < bounds.calls_max || promise.streams().is_some())
        && (bytes < bounds.bytes_max || calls == 0 && cx.out_len() == 0)
}

/// Sends the next call, unless it is over already.
pub(super) fn send(stats: &DriverCounters, cx: &mut Cx<'_>, mut promise: Promise) {
    if promise.is_given_up() {
        return give_up(stats, promise);
    }
    // Reads the clock instead of the turn's start time: the server must never be given more time than is left.
    let left = promise.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left.is_some_and(|left| left.is_zero()) {
        stats.late.add(1);
        return promise.fail(CallError::DeadlineExceeded);
    }
    let PromiseKind::Call { method, schema, codec, compressed, one_way, .. } = promise.what else {
        return promise.complete(ReplyOutcome::empty(), &[]).into_iter().for_each(Waker::wake);
    };
    if promise.tries > 0 {
        promise.repeat_span();
    }
    promise.trace.set_peer(|| cx.peer());
    promise.is_sent = true;
    promise.tries = promise.tries.saturating_add(1);
    cx.session.has_sent = true;
    // Where replies come in order, a one-way call has a reply too, which the next call waits for.
    let one_way = one_way && cx.session.order == ReplyOrder::Any;
    let now = cx.now();
    cx.session.last_used = now;
    if cx.session.pending.is_empty() {
        // No reply was outstanding before; the time to the next ping counts from here.
        cx.session.owed_since = now;
    }
    let mut time_left_us = time_left_us(left);
    // Only native replies report the server's own time, without which a round trip is not known.
    if time_left_us > 0 && !one_way && promise.endpoint().scheme == Scheme::Native {
        if promise.streams().is_none() {
            promise.left_us = time_left_us;
        }
        time_left_us = cx.session.round_trip.time_left_us(now, time_left_us);
    }
    let id = if one_way { 0 } else { cx.session.pending.next_id() };
    promise.with_body(|body| {
        let call = OutgoingCall {
            id,
            name: promise.what.name(),
            method,
            codec: codec.number(),
            compressed,
            one_way,
            schema,
            time_left_us,
            metadata: promise.metadata.as_ref().map_or(&[], |metadata| metadata.as_bytes()),
            body: SendBody::Bytes(body),
        };
        match promise.streams() {
            None => cx.send(Outgoing::Request(call)),
            Some(streams) => open_streams(cx, call, ClientStream::of(streams)),
        }
    });
    stats.sent.add(1);
    if one_way {
        promise.complete(ReplyOutcome::empty(), &[]).into_iter().for_each(Waker::wake);
    } else {
        cx.session.enter(promise);
    }
}

/// Takes note of the round trip of a call that was sent with a deadline and has succeeded. Other replies may omit the
/// time for which the call was queued.
#[inline]
pub(super) fn note_round_trip(cx: &mut Cx<'_>, promise: &Promise, answered: &IncomingReply) {
    let (left_us @ 1.., Some(deadline)) = (promise.left_us, promise.deadline) else { return };
    let now = cx.now();
    // The turn may have begun before the call was sent, or the deadline may have passed: then the time is not known.
    let took_us =
        deadline.checked_duration_since(now).and_then(|left_now| left_us.checked_sub(micros(left_now)));
    if answered.status == Code::Ok.number()
        && let Some(took_us) = took_us
    {
        let server_us = answered.queue_us.saturating_add(answered.handler_us);
        cx.session.round_trip.record(now, took_us, server_us);
    }
}

/// Ends a call that was abandoned and not sent.
pub(super) fn give_up(stats: &DriverCounters, promise: Promise) {
    stats.cancelled.add(1);
    promise.fail(CallError::Cancelled { may_have_run: false });
}

/// Answers a ping. The number of unwritten pongs is bounded, for a peer that sends pings and reads nothing.
pub(super) fn on_ping(cx: &mut Cx<'_>, id: u64) {
    if cx.out_len() == 0 {
        cx.session.pongs = 0;
    }
    if cx.session.pongs < PONGS_MAX {
        cx.session.pongs += 1;
        cx.send(Outgoing::Pong { id });
    }
}

/// Cancels a call that the server has, and that waits for no reply any more. HTTP/1.1 has no message for that: the connection is closed instead.
pub(super) fn cancel(cx: &mut Cx<'_>, id: u64) {
    release_streams(cx, id);
    match cx.session.order {
        ReplyOrder::Any | ReplyOrder::AsCalled => cx.send(Outgoing::Cancel { id }),
        ReplyOrder::OneAtATime => drop_connection(cx),
    }
}

/// Closes a connection whose only call is over.
pub(super) fn drop_connection(cx: &mut Cx<'_>) {
    cx.session.is_draining = true;
    cx.abort(io::ErrorKind::ConnectionAborted);
}

/// Returns whether a call without a reply is sent again after its connection ended: it is idempotent, its protocol
/// lets a server close a connection at any time, and it has tries left.
pub(super) fn may_repeat(session: &Session, promise: &Promise, why: &CloseReason) -> bool {
    let is_closed = match why {
        CloseReason::PeerClosed | CloseReason::Reset(_) => true,
        CloseReason::Tls(failure) => failure.kind() == TlsFailureKind::Truncated,
        _ => false,
    };
    session.order != ReplyOrder::Any
        && is_closed
        && promise.what.is_idempotent()
        && promise.tries < TRIES_MAX
        && !promise.is_given_up()
}

/// Returns the error for the callers of a connection that ended.
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
        CloseReason::Tls(failure) => {
            return CallError::Lost { error: failure.clone().into_error(), may_have_run };
        }
        CloseReason::FrameLate | CloseReason::WriteStalled => io::ErrorKind::TimedOut,
        CloseReason::FirstBytesLate
        | CloseReason::Idle
        | CloseReason::Drained
        | CloseReason::App
        | CloseReason::TooManySilent
        | CloseReason::Aged
        // Only a server's listener expects the header.
        | CloseReason::ProxyHeader(_) => io::ErrorKind::ConnectionAborted,
    };
    let text = match why {
        CloseReason::Reset(io::ErrorKind::TimedOut) => {
            "the server did not answer a ping within ping_ms".to_owned()
        }
        why => format!("the connection ended: {why}"),
    };
    CallError::Lost { error: io::Error::new(kind, text), may_have_run }
}
