//! How a connection ends: draining, finishing, and the resulting actions on the socket.

use std::time::Instant;

use coreloop_bufpool::Pool;

use super::times::DRAIN_SERVE;
use super::{CloseReason, Conn, ConnState, NextMessage, SocketAction};
use crate::config::Limits;
use crate::tls::TlsFailure;
use crate::wire::proxy::ProxyHeaderError;
use crate::wire::{DrainNotice, Out, Protocol, Received};

/// Why a connection drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainCause {
    /// The reactor drains.
    Reactor,
    /// The connection has reached its greatest age (`connection_age_max_ms`).
    Age,
}

impl DrainCause {
    pub(super) fn reason(self) -> CloseReason {
        match self {
            DrainCause::Reactor => CloseReason::Drained,
            DrainCause::Age => CloseReason::Aged,
        }
    }
}

impl<W: Protocol> Conn<W> {
    /// Handles an error of the socket, or of what is over it (TLS, the PROXY protocol): nothing more can be written.
    #[cold]
    pub fn on_error(&mut self, error: &std::io::Error) {
        self.on_failure(match (TlsFailure::of(error), ProxyHeaderError::of(error)) {
            (Some(failure), _) => CloseReason::Tls(failure.clone()),
            (None, Some(error)) => CloseReason::ProxyHeader(error.clone()),
            (None, None) => CloseReason::Reset(error.kind()),
        });
    }

    /// Handles a socket failure: nothing more can be written.
    pub fn on_reset(&mut self, kind: std::io::ErrorKind) {
        self.on_failure(CloseReason::Reset(kind));
    }

    fn on_failure(&mut self, failure: CloseReason) {
        self.fast_path = false;
        match self.state {
            ConnState::Lingering { ref why, .. } => self.state = ConnState::Closed(why.clone()),
            ConnState::Closed(_) => {}
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining(_)
            | ConnState::HalfClosed
            | ConnState::Finishing(_) => {
                self.state = ConnState::Closed(failure);
            }
        }
    }

    /// Stops reading. Outstanding answers are still written, for as long as a drain may take; then the connection
    /// ends for this reason.
    ///
    /// A client connection whose peer has failed has nothing left to write: it ends at once, and its pending calls
    /// fail.
    pub fn finish(&mut self, why: CloseReason, now: Instant) {
        self.fast_path = false;
        let is_client_failure = self.protocol.is_caller() && why.is_failure();
        match self.state {
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining(_)
            | ConnState::HalfClosed
                if is_client_failure =>
            {
                self.state = ConnState::Closed(why);
            }
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining(_)
            | ConnState::HalfClosed => {
                self.since = now;
                self.state = ConnState::Finishing(why);
            }
            ConnState::Finishing(_) | ConnState::Lingering { .. } | ConnState::Closed(_) => {}
        }
    }

    /// Returns the reason for the end of a connection whose protocol takes no more input.
    pub(super) fn end_of_input(&self) -> CloseReason {
        match self.state {
            ConnState::Draining(cause) => cause.reason(),
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::HalfClosed
            | ConnState::Finishing(_)
            | ConnState::Lingering { .. }
            | ConnState::Closed(_) => CloseReason::PeerClosed,
        }
    }

    /// Ends the connection for this reason without waiting for the work of its calls, all of which were answered.
    /// Bytes that are already queued are still written.
    pub fn give_up(&mut self, why: CloseReason, now: Instant) {
        self.is_given_up = true;
        self.finish(why, now);
    }

    /// Requests that the peer sends no new requests; the connection ends when the peer is quiet. If the protocol has
    /// no such notice ([`DrainNotice::None`]), the connection ends when everything that the peer has written so far
    /// is read and answered.
    pub fn drain(&mut self, pool: &mut Pool, now: Instant, limits: &Limits) {
        self.begin_drain(DrainCause::Reactor, pool, now, limits);
    }

    pub(super) fn begin_drain(&mut self, cause: DrainCause, pool: &mut Pool, now: Instant, limits: &Limits) {
        self.fast_path = false;
        match self.state {
            // A peer that has just connected may have a request on its way, too.
            ConnState::Opening { .. } | ConnState::Serving => {
                self.state = ConnState::Draining(cause);
                self.since = now;
                self.owes_drain_notice = true;
                if self.protocol.is_decided() {
                    self.write_drain_notice(pool, now, limits);
                }
            }
            // Its peer has the notice already.
            ConnState::Draining(DrainCause::Age) => {
                self.state = ConnState::Draining(cause);
                self.since = now;
            }
            ConnState::Draining(DrainCause::Reactor)
            | ConnState::HalfClosed
            | ConnState::Finishing(_)
            | ConnState::Lingering { .. }
            | ConnState::Closed(_) => {}
        }
    }

    /// Returns whether new calls are refused: the drain notice was sent long enough ago.
    pub fn refuses_calls(&self, now: Instant) -> bool {
        matches!(self.state, ConnState::Draining(_))
            && self.protocol.drain_notice() == DrainNotice::Message
            && now >= self.since + DRAIN_SERVE
    }

    /// Returns whether the messages are counted that arrive after reading has stopped for a drain: the protocol could
    /// not ask the peer to send no more.
    pub(super) fn counts_unread(&self) -> bool {
        let is_drained = match &self.state {
            ConnState::Finishing(why) | ConnState::Lingering { why, .. } => {
                matches!(why, CloseReason::Drained | CloseReason::Aged)
            }
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining(_)
            | ConnState::HalfClosed
            | ConnState::Closed(_) => false,
        };
        is_drained && self.protocol.drain_notice() == DrainNotice::None && !self.protocol.is_caller()
    }

    /// Returns whether messages that arrived after reading had stopped are decoded, to be counted.
    #[cold]
    pub(super) fn reads_unread(&self) -> bool {
        matches!(self.state, ConnState::Lingering { .. })
            && self.counts_unread()
            && !self.recv.is_empty()
            && self.recv.len() >= self.bytes_min
    }

    /// Drops such a message; on `None`, decode again. What the protocol has written is dropped too: our sending half is
    /// closed.
    #[cold]
    #[inline(never)]
    pub(super) fn on_unread(
        &mut self,
        received: Received<W::Message>,
        pool: &mut Pool,
    ) -> Option<NextMessage<W::Message>> {
        self.out.clear(pool);
        self.bytes_min = 1;
        match received {
            Received::Message { consumed, .. } => {
                self.recv.consume(consumed);
                return Some(NextMessage::Unread);
            }
            Received::Skip { consumed } => {
                self.recv.consume(consumed);
                return None;
            }
            Received::NeedMore { bytes_min } => self.bytes_min = bytes_min,
            Received::Broken(_) | Received::End => self.recv.consume(self.recv.len()),
        }
        Some(NextMessage::Nothing)
    }

    /// Writes the drain notice, which waited for the protocol to be known.
    pub(super) fn write_drain_notice(&mut self, pool: &mut Pool, now: Instant, limits: &Limits) {
        self.owes_drain_notice = false;
        if self.out_len() == 0 {
            self.last_written = now;
        }
        self.protocol.send_drain(&mut Out { queue: &mut self.out, pool });
        // The notice may have made an answer in flight the last one: the protocol reports that in its next `receive`.
        self.bytes_min = 0;
        self.fast_path = false;
        self.is_paused |= self.out_len() >= limits.write_queue_high_bytes;
    }

    pub(super) fn is_finishing(&self) -> bool {
        match self.state {
            ConnState::Finishing(_) | ConnState::Lingering { .. } | ConnState::Closed(_) => true,
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining(_)
            | ConnState::HalfClosed => false,
        }
    }

    /// Returns whether requests may take the fast path. While the connection drains, each request needs a check.
    pub(super) fn is_fast_state(&self) -> bool {
        match self.state {
            ConnState::Opening { .. } | ConnState::Serving | ConnState::HalfClosed => true,
            ConnState::Draining(_)
            | ConnState::Finishing(_)
            | ConnState::Lingering { .. }
            | ConnState::Closed(_) => false,
        }
    }

    /// Returns whether neither end has begun to close: a message that is sent now can still be answered.
    pub fn is_open(&self) -> bool {
        match self.state {
            ConnState::Opening { .. } | ConnState::Serving | ConnState::Draining(_) => true,
            ConnState::HalfClosed
            | ConnState::Finishing(_)
            | ConnState::Lingering { .. }
            | ConnState::Closed(_) => false,
        }
    }

    /// Returns whether nothing more is sent: what is passed to [`Conn::send`] is dropped.
    #[inline]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, ConnState::Lingering { .. } | ConnState::Closed(_))
    }

    /// Returns whether calls are in flight whose answers are written here. The open streams of a caller end with the
    /// connection.
    pub(super) fn owes_answers(&self) -> bool {
        self.has_calls() && !self.protocol.is_caller()
    }

    /// Returns what to do with the socket now.
    #[inline]
    pub fn step(&mut self) -> SocketAction {
        match &self.state {
            ConnState::Draining(cause)
                if !self.owes_drain_notice && self.protocol.drain_notice() == DrainNotice::None =>
            {
                SocketAction::FinishWhenRead(cause.reason())
            }
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining(_)
            | ConnState::Lingering { .. } => SocketAction::Keep,
            ConnState::HalfClosed => {
                // No answer follows to what a client still has to write.
                let is_written = self.out_len() == 0 || self.protocol.is_caller();
                if !self.owes_answers() && is_written && !(self.is_paused || self.has_undecoded()) {
                    self.fast_path = false;
                    self.state = ConnState::Closed(CloseReason::PeerClosed);
                    return SocketAction::Close(CloseReason::PeerClosed);
                }
                SocketAction::Keep
            }
            ConnState::Finishing(_) if (!self.owes_answers() || self.is_given_up) && self.out_len() == 0 => {
                SocketAction::ShutdownWrite
            }
            ConnState::Finishing(_) => SocketAction::Keep,
            ConnState::Closed(why) => SocketAction::Close(why.clone()),
        }
    }
}
