//! How a connection ends: drained, finished, and what is to be done with the socket on the way.

use std::time::Instant;

use coreloop_bufpool::Pool;

use super::{CloseReason, Conn, State, Step};
use crate::config::Limits;
use crate::wire::{Out, Wire};

impl<W: Wire> Conn<W> {
    /// Stops reading; what is owed still goes out, for as long as a drain may take, then the connection ends for
    /// this reason.
    ///
    /// A caller whose peer has failed owes it nothing: it ends at once, and whoever waits for an answer hears of it.
    pub fn finish(&mut self, why: CloseReason, now: Instant) {
        self.is_easy = false;
        let is_for_nobody = self.wire.is_caller() && why.is_failure();
        match self.state {
            State::Opening { .. } | State::Serving | State::Draining | State::HalfClosed if is_for_nobody => {
                self.state = State::Closed(why);
            }
            State::Opening { .. } | State::Serving | State::Draining | State::HalfClosed => {
                self.since = now;
                self.state = State::Finishing(why);
            }
            State::Finishing(_) | State::Lingering(_) | State::Closed(_) => {}
        }
    }

    /// Asks the peer for no new requests; ends when it is quiet.
    pub fn drain(&mut self, pool: &mut Pool, now: Instant, limits: &Limits) {
        self.is_easy = false;
        match self.state {
            // Who has just connected may have a request on its way, too.
            State::Opening { .. } | State::Serving => {
                self.state = State::Draining;
                self.since = now;
                self.owes_notice = true;
                if self.wire.is_decided() {
                    self.say_drain(pool, now, limits);
                }
            }
            State::Draining
            | State::HalfClosed
            | State::Finishing(_)
            | State::Lingering(_)
            | State::Closed(_) => {}
        }
    }

    /// A notice waits for the peer's first message: to be asked with each, and said before it is answered.
    #[inline]
    pub fn owes_notice(&self) -> bool {
        self.owes_notice
    }

    /// Says that the connection drains.
    pub fn say_drain(&mut self, pool: &mut Pool, now: Instant, limits: &Limits) {
        self.owes_notice = false;
        if self.out_len() == 0 {
            self.last_written = now;
        }
        self.wire.encode_drain(&mut Out { queue: &mut self.out, pool });
        self.is_easy = false;
        self.is_paused |= self.out_len() >= limits.write_queue_high_bytes;
    }

    pub(super) fn is_finishing(&self) -> bool {
        match self.state {
            State::Finishing(_) | State::Lingering(_) | State::Closed(_) => true,
            State::Opening { .. } | State::Serving | State::Draining | State::HalfClosed => false,
        }
    }

    /// Neither end has begun to close: what is said now can still be answered.
    pub fn is_open(&self) -> bool {
        match self.state {
            State::Opening { .. } | State::Serving | State::Draining => true,
            State::HalfClosed | State::Finishing(_) | State::Lingering(_) | State::Closed(_) => false,
        }
    }

    /// What to do with the socket now.
    #[inline]
    pub fn step(&mut self) -> Step {
        match &self.state {
            State::Opening { .. } | State::Serving | State::Draining | State::Lingering(_) => Step::Keep,
            State::HalfClosed => {
                // Nobody answers what a caller still has to write.
                let is_said = self.out_len() == 0 || self.wire.is_caller();
                if self.in_flight == 0 && is_said && !(self.is_paused || self.has_undecoded()) {
                    self.is_easy = false;
                    self.state = State::Closed(CloseReason::PeerClosed);
                    return Step::Close(CloseReason::PeerClosed);
                }
                Step::Keep
            }
            State::Finishing(_) if self.in_flight == 0 && self.out_len() == 0 => Step::ShutdownWrite,
            State::Finishing(_) => Step::Keep,
            State::Closed(why) => Step::Close(why.clone()),
        }
    }
}
