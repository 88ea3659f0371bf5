//! The calls of a connection as numbers: how many have begun and not ended, and whether more may begin.

use std::time::Instant;

use super::{Conn, ConnState};
use crate::config::Limits;
use crate::wire::{Protocol, StreamSupport};

impl<W: Protocol> Conn<W> {
    /// Takes note of a call that ends later; `body_bytes` are held for it.
    #[inline]
    pub fn begin_call(&mut self, body_bytes: usize, limits: &Limits) {
        self.in_flight += 1;
        self.in_flight_bytes += body_bytes;
        if self.in_flight as usize >= limits.in_flight_max
            || self.in_flight_bytes >= limits.in_flight_bytes_max
        {
            self.pause();
        }
    }

    /// Takes note of the end of a call. Returns true if reading may resume because of it.
    #[inline]
    pub fn end_call(&mut self, body_bytes: usize, now: Instant, limits: &Limits) -> bool {
        debug_assert!(self.in_flight > 0 && self.in_flight_bytes >= body_bytes);
        self.in_flight -= 1;
        self.in_flight_bytes -= body_bytes;
        (self.is_paused || self.is_saturated) && self.try_resume(now, limits)
    }

    /// Takes note of a streaming call, before its protocol is given anything to send for it.
    pub fn begin_stream(&mut self) {
        self.streams += 1;
        if self.protocol.stream_support() == StreamSupport::ResultOnly {
            // Requests that follow wait unread: nothing that the peer sends could help this call.
            self.is_paused = true;
            self.fast_path = false;
            return;
        }
        self.is_saturated |= self.is_paused;
        self.is_paused = false;
    }

    /// Takes note that a streaming call was answered; its work may go on.
    pub fn on_stream_answered(&mut self, now: Instant, limits: &Limits) {
        if self.is_paused {
            self.try_resume(now, limits);
        }
    }

    /// Takes note of the end of a streaming call.
    pub fn end_stream(&mut self, now: Instant, limits: &Limits) {
        debug_assert!(self.streams > 0);
        self.streams -= 1;
        if self.streams == 0 && std::mem::take(&mut self.is_saturated) {
            self.is_paused = true;
        }
        if self.is_paused {
            self.try_resume(now, limits);
        }
    }

    /// Returns whether there are open streams that get nothing more from the peer: it has closed its sending half, and
    /// all that it sent was handled; or nothing more is read. While requests wait unread for the end of a stream,
    /// `is_ending` is all that is known.
    #[inline]
    pub fn has_stream_input_ended(&self, is_ending: bool) -> bool {
        if self.streams == 0 {
            return false;
        }
        match self.protocol.stream_support() {
            StreamSupport::ResultOnly => {
                (is_ending || self.is_eof) && !matches!(self.state, ConnState::Closed(_))
            }
            StreamSupport::Unary => self.is_eof && !self.has_undecoded(),
            StreamSupport::Both => {
                self.is_eof && !self.has_undecoded() || matches!(self.state, ConnState::Finishing(_))
            }
        }
    }

    /// Returns the number of streaming calls begun and not ended.
    pub fn streams(&self) -> usize {
        self.streams as usize
    }

    /// Returns whether calls without streams are refused, because too many calls or answers wait.
    pub fn is_saturated(&self) -> bool {
        self.is_saturated
    }

    /// Takes note of a refusal or pong of that size. Reading stops while too many of them wait.
    pub fn note_refusal(&mut self, bytes: usize, limits: &Limits) {
        self.refusal_bytes += bytes;
        if self.streams > 0 && self.refusal_bytes > limits.refusal_bytes_max {
            self.is_paused = true;
            self.fast_path = false;
        }
    }

    /// Stops reading or, while a stream is open, the admission of other calls.
    #[cold]
    pub(super) fn pause(&mut self) {
        self.fast_path = false;
        if self.streams > 0 {
            self.is_saturated = true;
        } else {
            self.is_paused = true;
        }
    }

    pub(super) fn try_resume(&mut self, now: Instant, limits: &Limits) -> bool {
        let calls_low = (self.in_flight as usize) <= limits.in_flight_max / 2
            && self.in_flight_bytes <= limits.in_flight_bytes_max / 2;
        if calls_low && self.out_len() + self.protocol.held_bytes() <= limits.write_queue_low_bytes {
            self.is_saturated = false;
            self.is_paused = self.protocol.stream_support() == StreamSupport::ResultOnly;
            if self.protocol.has_ended() {
                // Its end was not reported while reading was stopped.
                self.give_up(self.end_of_input(), now);
            }
            // The frame's clock did not run while reading was paused.
            self.frame_began = self.frame_began.map(|_| now);
        }
        !self.is_paused
    }

    /// Returns whether a limit has stopped reading.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns the number of calls begun and not ended, without streaming calls.
    pub fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    /// Returns whether a call has begun and not ended, of any kind.
    #[inline]
    pub fn has_calls(&self) -> bool {
        self.in_flight > 0 || self.streams > 0
    }
}
