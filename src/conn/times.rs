//! The deadlines of a connection, and what happens when one passes.
//!
//! Every deadline counts from an event; [`Conn`] receives the time as an argument and never reads a clock.

use std::time::{Duration, Instant};

use coreloop_bufpool::Pool;

use super::ending::DrainCause;
use super::{CloseReason, Conn, ConnState};
use crate::config::Limits;
use crate::wire::{DrainNotice, Out, Protocol};

/// The silence after which a draining connection with nothing in flight is closed. Requests that crossed the drain
/// notice are still served until then.
const DRAIN_QUIET: Duration = Duration::from_millis(100);
/// The silence after the last answer of a drain after which the server does not wait for the peer to close: such a
/// peer has nothing on its way that could cause a reset.
const DRAIN_LINGER_QUIET: Duration = Duration::from_millis(500);
/// The time after the beginning of a drain from which calls are refused; with a protocol without a drain notice,
/// reading stops then.
pub(super) const DRAIN_SERVE: Duration = Duration::from_secs(1);
/// The time after which the connection of a peer that ignores the notice ends. Until then its calls are refused.
const DRAIN_END: Duration = Duration::from_secs(2);

impl<W: Protocol> Conn<W> {
    /// Returns the earliest time at which [`Conn::on_timer`] may have something to do.
    pub fn next_deadline(&self, limits: &Limits) -> Option<Instant> {
        let ms = Duration::from_millis;
        let stall = (self.out_len() > 0).then(|| self.last_written + ms(limits.write_stall_ms));
        let frame = self.frame_deadline(limits);
        let of_state = match self.state {
            ConnState::Opening { heard } => Some(self.first_bytes_deadline(heard, limits)),
            ConnState::Serving => {
                let idle = self.is_resting().then(|| self.idle_deadline(limits));
                [idle, self.age_deadline(limits)].into_iter().flatten().min()
            }
            ConnState::Draining(cause) => self.drain_deadline(cause, limits),
            ConnState::HalfClosed => None,
            // The reactor that drains gives up the calls after their time (`App::on_abort`); a connection that has
            // become too old waits for its calls.
            ConnState::Finishing(CloseReason::Drained | CloseReason::Aged)
                if self.owes_answers() && !self.is_given_up =>
            {
                None
            }
            ConnState::Finishing(_) => Some(self.since + ms(limits.drain_ms)),
            ConnState::Lingering { ref why, .. } => {
                let end = self.since + ms(limits.linger_ms);
                let is_drained = matches!(why, CloseReason::Drained | CloseReason::Aged);
                Some(if is_drained {
                    end.min(self.last_heard.max(self.since) + DRAIN_LINGER_QUIET)
                } else {
                    end
                })
            }
            ConnState::Closed(_) => None,
        };
        let earliest = [stall, frame, of_state].into_iter().flatten().min();
        match self.protocol.next_time() {
            None => earliest,
            Some(at) => Some(earliest.map_or(at, |earliest| earliest.min(at))),
        }
    }

    /// Returns the deadline for a peer whose protocol is unknown. The limit for first bytes counts from the first
    /// byte; before that the idle limit applies, since clients connect ahead of their first call.
    fn first_bytes_deadline(&self, heard: Option<Instant>, limits: &Limits) -> Instant {
        let ms = Duration::from_millis;
        match heard {
            None => self.since + ms(limits.idle_ms),
            Some(at) => at + ms(limits.first_bytes_ms),
        }
    }

    /// Returns the time at which a connection without calls is idle for too long.
    fn idle_deadline(&self, limits: &Limits) -> Instant {
        self.last_heard.max(self.last_written) + Duration::from_millis(limits.idle_ms)
    }

    /// Returns the time at which the connection is too old, if there is a limit: 90 % to 110 % of it, so that
    /// connections which began together do not end together.
    fn age_deadline(&self, limits: &Limits) -> Option<Instant> {
        let max_ms = limits.connection_age_max_ms;
        // At most a week in milliseconds: the product fits.
        (max_ms > 0).then(|| {
            let share = u64::from(self.age_share);
            self.since + Duration::from_millis(max_ms - max_ms / 10 + max_ms / 5 * share / 255)
        })
    }

    /// Sets where within the spread of `connection_age_max_ms` this connection ends: a random number.
    pub fn set_age_share(&mut self, share: u8) {
        self.age_share = share;
    }

    /// Takes note that the connection begins with a handshake, of which nothing arrives here.
    pub fn begin_handshake(&mut self) {
        self.is_securing = true;
    }

    /// Takes note that the handshake is complete. A call may be on its way.
    pub fn end_handshake(&mut self, now: Instant) {
        self.is_securing = false;
        self.last_heard = now;
    }

    /// Returns the time at which a draining connection ends, unless its peer closes it earlier.
    fn drain_deadline(&self, cause: DrainCause, limits: &Limits) -> Option<Instant> {
        if self.is_securing {
            // It is not quiet: its peer may send a call as soon as it can.
            return Some(self.since + DRAIN_END);
        }
        match self.protocol.drain_notice() {
            DrainNotice::Message if self.is_resting() => {
                Some((self.last_heard.max(self.since) + DRAIN_QUIET).min(self.since + DRAIN_END))
            }
            DrainNotice::Message => (!self.has_calls()).then(|| self.since + DRAIN_END),
            DrainNotice::NextAnswer => self.is_resting().then(|| match cause {
                DrainCause::Reactor => self.since + Duration::from_millis(limits.drain_idle_ms),
                // Nothing is urgent: closing now could cross the next request.
                DrainCause::Age => self.idle_deadline(limits),
            }),
            DrainNotice::None => Some(self.since + DRAIN_SERVE),
        }
    }

    /// Returns the deadline of the frame that has begun. The clock does not run while reading is paused.
    fn frame_deadline(&self, limits: &Limits) -> Option<Instant> {
        let began = self.frame_began.filter(|_| !self.is_paused && !self.is_finishing())?;
        let ms = match (self.protocol.is_in_head(), self.protocol.is_lingering()) {
            (true, _) => limits.head_ms,
            (false, true) => limits.linger_ms,
            (false, false) => limits.frame_ms,
        };
        Some(began + Duration::from_millis(ms))
    }

    /// Returns whether nothing is in flight, buffered, or waiting to be written.
    fn is_resting(&self) -> bool {
        !self.has_calls()
            && self.out_len() == 0
            && self.recv.is_empty()
            && !self.protocol.is_inside_message()
            && self.protocol.next_time().is_none()
    }

    /// Excludes a time for which the process did not run (it was stopped, or the machine slept) from all deadlines.
    /// Peers could not make progress meanwhile, and what was read and written right after it carries the time of a
    /// turn that began before.
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

    /// Ends the connection if a deadline has passed.
    pub fn on_timer(&mut self, now: Instant, pool: &mut Pool, limits: &Limits) {
        if self.next_deadline(limits).is_none_or(|at| at > now) {
            return;
        }
        if self.protocol.next_time().is_some_and(|at| at <= now) {
            if self.out_len() == 0 {
                self.last_written = now;
            }
            self.protocol.on_time(now, limits, &mut Out { queue: &mut self.out, pool: &mut *pool });
            if self.next_deadline(limits).is_none_or(|at| at > now) {
                return;
            }
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
            ConnState::Serving | ConnState::Draining(_) | ConnState::HalfClosed
                if self.frame_deadline(limits).is_some_and(|at| at <= now) =>
            {
                self.frame_began = None;
                if self.out_len() == 0 {
                    self.last_written = now;
                }
                self.protocol.send_late(&mut Out { queue: &mut self.out, pool });
                self.finish(CloseReason::FrameLate, now);
            }
            ConnState::Serving if !self.is_resting() || self.idle_deadline(limits) > now => {
                self.begin_drain(DrainCause::Age, pool, now, limits);
            }
            ConnState::Serving => {
                if self.out_len() == 0 {
                    self.last_written = now;
                }
                let mut out = Out { queue: &mut self.out, pool };
                self.protocol.send_drain(&mut out);
                self.protocol.send_last(&mut out);
                self.finish(CloseReason::Idle, now);
            }
            ConnState::Draining(cause) => {
                let why = cause.reason();
                if self.out_len() == 0 {
                    self.last_written = now;
                }
                self.protocol.send_last(&mut Out { queue: &mut self.out, pool });
                self.finish(why, now);
            }
            ConnState::HalfClosed => {}
            ConnState::Finishing(why) | ConnState::Lingering { why, .. } => {
                self.state = ConnState::Closed(why.clone())
            }
            ConnState::Closed(_) => {}
        }
    }
}
