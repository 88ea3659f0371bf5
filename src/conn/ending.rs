//! How a connection ends: draining, finishing, and the resulting actions on the socket.

use std::time::Instant;

use coreloop_bufpool::Pool;

use super::times::DRAIN_SERVE;
use super::{CloseReason, Conn, ConnState, SocketAction};
use crate::config::Limits;
use crate::wire::{DrainNotice, Out, Protocol};

impl<W: Protocol> Conn<W> {
    /// Stops reading. Outstanding answers are still written, for as long as a drain may take; then the connection
    /// ends for this reason.
    ///
    /// A client connection whose peer has failed has nothing left to write: it ends at once, and its pending calls
    /// fail.
    pub fn finish(&mut self, why: CloseReason, now: Instant) {
        self.fast_path = false;
        let is_client_failure = self.protocol.is_caller() && why.is_failure();
        match self.state {
            ConnState::Opening { .. } | ConnState::Serving | ConnState::Draining | ConnState::HalfClosed
                if is_client_failure =>
            {
                self.state = ConnState::Closed(why);
            }
            ConnState::Opening { .. } | ConnState::Serving | ConnState::Draining | ConnState::HalfClosed => {
                self.since = now;
                self.state = ConnState::Finishing(why);
            }
            ConnState::Finishing(_) | ConnState::Lingering { .. } | ConnState::Closed(_) => {}
        }
    }

    /// Returns the reason for the end of a connection whose protocol takes no more input.
    pub(super) fn end_of_input(&self) -> CloseReason {
        if self.state == ConnState::Draining { CloseReason::Drained } else { CloseReason::PeerClosed }
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
        self.fast_path = false;
        match self.state {
            // A peer that has just connected may have a request on its way, too.
            ConnState::Opening { .. } | ConnState::Serving => {
                self.state = ConnState::Draining;
                self.since = now;
                self.owes_drain_notice = true;
                if self.protocol.is_decided() {
                    self.write_drain_notice(pool, now, limits);
                }
            }
            ConnState::Draining
            | ConnState::HalfClosed
            | ConnState::Finishing(_)
            | ConnState::Lingering { .. }
            | ConnState::Closed(_) => {}
        }
    }

    /// Returns whether new calls are refused: the drain notice was sent long enough ago.
    pub fn refuses_calls(&self, now: Instant) -> bool {
        self.state == ConnState::Draining
            && self.protocol.drain_notice() == DrainNotice::Message
            && now >= self.since + DRAIN_SERVE
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
            ConnState::Opening { .. } | ConnState::Serving | ConnState::Draining | ConnState::HalfClosed => {
                false
            }
        }
    }

    /// Returns whether requests may take the fast path. While the connection drains, each request needs a check.
    pub(super) fn is_fast_state(&self) -> bool {
        match self.state {
            ConnState::Opening { .. } | ConnState::Serving | ConnState::HalfClosed => true,
            ConnState::Draining
            | ConnState::Finishing(_)
            | ConnState::Lingering { .. }
            | ConnState::Closed(_) => false,
        }
    }

    /// Returns whether neither end has begun to close: a message that is sent now can still be answered.
    pub fn is_open(&self) -> bool {
        match self.state {
            ConnState::Opening { .. } | ConnState::Serving | ConnState::Draining => true,
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
            ConnState::Draining
                if !self.owes_drain_notice && self.protocol.drain_notice() == DrainNotice::None =>
            {
                SocketAction::FinishWhenRead
            }
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining
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
