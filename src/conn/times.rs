//! When a connection is late, and what becomes of it then.
//!
//! Every time is counted from something that happened; [`Conn`] is told the time and never asks for it.

use std::time::{Duration, Instant};

use coreloop_bufpool::Pool;

use super::{CloseReason, Conn, State};
use crate::config::Limits;
use crate::wire::{Out, Wire};

/// After the last word the peer gets this long to close its side, so that a reset does not eat that word.
const LINGER: Duration = Duration::from_secs(1);
/// A draining connection with nothing in flight is closed once its peer has been silent this long: requests
/// that crossed the drain notice are still served.
const DRAIN_QUIET: Duration = Duration::from_millis(100);

impl<W: Wire> Conn<W> {
    /// The earliest time at which [`Conn::on_timer`] may have something to do.
    pub fn next_deadline(&self, limits: &Limits) -> Option<Instant> {
        let ms = Duration::from_millis;
        let stall = (self.out_len() > 0).then(|| self.last_written + ms(limits.write_stall_ms));
        let frame = self.frame_deadline(limits);
        let of_state = match self.state {
            State::Opening { heard } => Some(self.first_bytes_deadline(heard, limits)),
            State::Serving if self.is_resting() => {
                Some(self.last_heard.max(self.last_written) + ms(limits.idle_ms))
            }
            State::Serving => None,
            State::Draining if self.is_resting() => Some(self.last_heard.max(self.since) + DRAIN_QUIET),
            State::Draining => None,
            State::HalfClosed => None,
            State::Finishing(_) => Some(self.since + ms(limits.drain_ms)),
            State::Lingering(_) => Some(self.since + LINGER),
            State::Closed(_) => None,
        };
        [stall, frame, of_state].into_iter().flatten().min()
    }

    /// When a peer that has decided nothing is late. One that may be silent at first has its time from its first byte on,
    /// and until then that of a connection that rests: which costs no more than one that has made a single call.
    fn first_bytes_deadline(&self, heard: Option<Instant>, limits: &Limits) -> Instant {
        let ms = Duration::from_millis;
        match heard {
            None if self.wire.may_be_silent() => self.since + ms(limits.idle_ms),
            Some(at) if self.wire.may_be_silent() => at + ms(limits.first_bytes_ms),
            None | Some(_) => self.since + ms(limits.first_bytes_ms),
        }
    }

    /// When the frame that has begun is late. It has all its time while the peer is kept waiting.
    fn frame_deadline(&self, limits: &Limits) -> Option<Instant> {
        let began = self.frame_began.filter(|_| !self.is_paused && !self.is_finishing())?;
        let ms = if self.wire.is_in_head() { limits.head_ms } else { limits.frame_ms };
        Some(began + Duration::from_millis(ms))
    }

    /// Nothing is in flight, at hand, or waiting to be written.
    fn is_resting(&self) -> bool {
        self.in_flight == 0 && self.out_len() == 0 && self.recv.is_empty() && !self.wire.is_inside_message()
    }

    /// Time has passed: what is late ends the connection.
    pub fn on_timer(&mut self, now: Instant, pool: &mut Pool, limits: &Limits) {
        if self.next_deadline(limits).is_none_or(|at| at > now) {
            return;
        }
        self.is_easy = false;
        let ms = Duration::from_millis;
        if self.out_len() > 0 && self.last_written + ms(limits.write_stall_ms) <= now {
            self.state = State::Closed(CloseReason::WriteStalled);
            return;
        }
        match &self.state {
            State::Opening { heard: None } if self.wire.may_be_silent() => {
                self.finish(CloseReason::Idle, now);
            }
            State::Opening { .. } => self.finish(CloseReason::FirstBytesLate, now),
            State::Serving | State::Draining | State::HalfClosed
                if self.frame_deadline(limits).is_some_and(|at| at <= now) =>
            {
                self.frame_began = None;
                if self.out_len() == 0 {
                    self.last_written = now;
                }
                self.wire.encode_late(&mut Out { queue: &mut self.out, pool });
                self.finish(CloseReason::FrameLate, now);
            }
            State::Serving => {
                if self.out_len() == 0 {
                    self.last_written = now;
                }
                self.wire.encode_drain(&mut Out { queue: &mut self.out, pool });
                self.finish(CloseReason::Idle, now);
            }
            State::Draining => self.finish(CloseReason::Drained, now),
            State::HalfClosed => {}
            State::Finishing(why) | State::Lingering(why) => self.state = State::Closed(why.clone()),
            State::Closed(_) => {}
        }
    }
}
