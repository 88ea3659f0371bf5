//! When a connection is late, and what becomes of it then.
//!
//! Every time is counted from something that happened; [`Conn`] is told the time and never asks for it.

use std::time::{Duration, Instant};

use coreloop_bufpool::Pool;

use super::{CloseReason, Conn, ConnState};
use crate::config::Limits;
use crate::wire::{DrainNotice, Out, Protocol};

/// A draining connection with nothing in flight is closed once its peer has been silent this long: requests
/// that crossed the drain notice are still served.
const DRAIN_QUIET: Duration = Duration::from_millis(100);
/// After the last answer of a drain a peer that sends nothing for so long has nothing on its way that could cause a reset:
/// the server does not wait for it to close.
const DRAIN_LINGER_QUIET: Duration = Duration::from_millis(500);
/// Calls that come later than this after the drain began are refused; a protocol without a drain notice is not read any
/// more.
pub(super) const DRAIN_SERVE: Duration = Duration::from_secs(1);
/// A peer that does not heed the notice is refused until then; afterwards its connection ends.
const DRAIN_END: Duration = Duration::from_secs(2);

impl<W: Protocol> Conn<W> {
    /// The earliest time at which [`Conn::on_timer`] may have something to do.
    pub fn next_deadline(&self, limits: &Limits) -> Option<Instant> {
        let ms = Duration::from_millis;
        let stall = (self.out_len() > 0).then(|| self.last_written + ms(limits.write_stall_ms));
        let frame = self.frame_deadline(limits);
        let of_state = match self.state {
            ConnState::Opening { heard } => Some(self.first_bytes_deadline(heard, limits)),
            ConnState::Serving if self.is_resting() => {
                Some(self.last_heard.max(self.last_written) + ms(limits.idle_ms))
            }
            ConnState::Serving => None,
            ConnState::Draining => self.drain_deadline(limits),
            ConnState::HalfClosed => None,
            // Whoever drains gives the calls up when their time has passed (`App::on_abort`).
            ConnState::Finishing(CloseReason::Drained) if self.in_flight > 0 && !self.is_given_up => None,
            ConnState::Finishing(_) => Some(self.since + ms(limits.drain_ms)),
            ConnState::Lingering { ref why, .. } => {
                let end = self.since + ms(limits.linger_ms);
                let is_drained = *why == CloseReason::Drained;
                Some(if is_drained {
                    end.min(self.last_heard.max(self.since) + DRAIN_LINGER_QUIET)
                } else {
                    end
                })
            }
            ConnState::Closed(_) => None,
        };
        [stall, frame, of_state].into_iter().flatten().min()
    }

    /// When a peer that has decided nothing is late: from its first byte on it has the time of first bytes, and until
    /// then it is idle like any other, since clients connect ahead of their first call.
    fn first_bytes_deadline(&self, heard: Option<Instant>, limits: &Limits) -> Instant {
        let ms = Duration::from_millis;
        match heard {
            None => self.since + ms(limits.idle_ms),
            Some(at) => at + ms(limits.first_bytes_ms),
        }
    }

    /// When a connection that drains ends, unless its peer closes it before.
    fn drain_deadline(&self, limits: &Limits) -> Option<Instant> {
        match self.protocol.drain_notice() {
            DrainNotice::Message if self.is_resting() => {
                Some((self.last_heard.max(self.since) + DRAIN_QUIET).min(self.since + DRAIN_END))
            }
            DrainNotice::Message => (self.in_flight == 0).then(|| self.since + DRAIN_END),
            DrainNotice::NextAnswer => {
                self.is_resting().then(|| self.since + Duration::from_millis(limits.drain_idle_ms))
            }
            DrainNotice::None => Some(self.since + DRAIN_SERVE),
        }
    }

    /// When the frame that has begun is late. It has all its time while the peer is kept waiting.
    fn frame_deadline(&self, limits: &Limits) -> Option<Instant> {
        let began = self.frame_began.filter(|_| !self.is_paused && !self.is_finishing())?;
        let ms = match (self.protocol.is_in_head(), self.protocol.is_lingering()) {
            (true, _) => limits.head_ms,
            (false, true) => limits.linger_ms,
            (false, false) => limits.frame_ms,
        };
        Some(began + Duration::from_millis(ms))
    }

    /// Nothing is in flight, at hand, or waiting to be written.
    fn is_resting(&self) -> bool {
        self.in_flight == 0
            && self.out_len() == 0
            && self.recv.is_empty()
            && !self.protocol.is_inside_message()
    }

    /// The process did not run for that long (it was stopped, or the machine slept): that time does not count. Peers
    /// could not go on meanwhile, and what was read and written right after it carries the time of a turn that began
    /// before.
    pub fn forgive(&mut self, stopped: Duration, now: Instant) {
        let later = |at: Instant| (at + stopped).min(now);
        self.frame_began = self.frame_began.map(later);
        if let ConnState::Opening { heard: Some(at) } = &mut self.state {
            *at = later(*at);
        }
        for at in [&mut self.since, &mut self.last_heard, &mut self.last_written] {
            *at = later(*at);
        }
    }

    /// Time has passed: what is late ends the connection.
    pub fn on_timer(&mut self, now: Instant, pool: &mut Pool, limits: &Limits) {
        if self.next_deadline(limits).is_none_or(|at| at > now) {
            return;
        }
        self.fast_path = false;
        let ms = Duration::from_millis;
        if self.out_len() > 0 && self.last_written + ms(limits.write_stall_ms) <= now {
            self.state = ConnState::Closed(CloseReason::WriteStalled);
            return;
        }
        match &self.state {
            ConnState::Opening { heard: None } => self.finish(CloseReason::Idle, now),
            ConnState::Opening { heard: Some(_) } => self.finish(CloseReason::FirstBytesLate, now),
            ConnState::Serving | ConnState::Draining | ConnState::HalfClosed
                if self.frame_deadline(limits).is_some_and(|at| at <= now) =>
            {
                self.frame_began = None;
                if self.out_len() == 0 {
                    self.last_written = now;
                }
                self.protocol.encode_late(&mut Out { queue: &mut self.out, pool });
                self.finish(CloseReason::FrameLate, now);
            }
            ConnState::Serving => {
                if self.out_len() == 0 {
                    self.last_written = now;
                }
                self.protocol.encode_drain(&mut Out { queue: &mut self.out, pool });
                self.finish(CloseReason::Idle, now);
            }
            ConnState::Draining => self.finish(CloseReason::Drained, now),
            ConnState::HalfClosed => {}
            ConnState::Finishing(why) | ConnState::Lingering { why, .. } => {
                self.state = ConnState::Closed(why.clone())
            }
            ConnState::Closed(_) => {}
        }
    }
}
