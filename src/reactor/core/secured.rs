//! The handshakes of TLS, and the headers of the PROXY protocol before them: their share of a turn, their deadline, and
//! what follows from their end.

use std::time::{Duration, Instant};

use coreloop_poller::Key;

use super::super::app::App;
use super::{ConnSlot, Core};

/// Handshakes are begun in a turn until they have taken this long: calls of other connections must not wait for many.
const TURN_MAX: Duration = Duration::from_millis(1);

/// The time that handshakes take in a turn.
#[derive(Debug)]
pub(super) struct HandshakeTime {
    /// The time of the turn.
    turn: Instant,
    spent: Duration,
    began: Option<Instant>,
}

impl HandshakeTime {
    pub(super) fn new(now: Instant) -> HandshakeTime {
        HandshakeTime { turn: now, spent: Duration::ZERO, began: None }
    }

    /// Begins a step of a handshake, unless this turn has had enough of them.
    #[cold]
    #[inline(never)]
    pub(super) fn begin(&mut self, turn: Instant) -> bool {
        if self.turn != turn {
            (self.turn, self.spent) = (turn, Duration::ZERO);
        }
        if self.spent >= TURN_MAX {
            return false;
        }
        self.began = Some(Instant::now());
        true
    }

    pub(super) fn end(&mut self) {
        if let Some(began) = self.began.take() {
            self.spent += began.elapsed();
        }
    }
}

impl<A: App> Core<A> {
    /// Ends a connection whose handshake was not complete in time.
    #[cold]
    pub(super) fn end_late_handshake(&mut self, key: Key) {
        let Some(slot) = self.slots.at_mut(key) else { return };
        if slot.stream.handshake_deadline().is_some_and(|at| at <= self.now)
            && let Some(error) = slot.stream.late_handshake()
        {
            slot.conn.on_error(&error);
            self.after(key);
        }
    }
}

impl<A: App> ConnSlot<A> {
    /// Takes note of the peer that a header has named, and of the end of the handshake, if they have just been complete.
    #[cold]
    #[inline(never)]
    pub(super) fn note_secured(&mut self, now: Instant) {
        if let Some(peer) = self.stream.take_source() {
            self.peer = peer;
        }
        if !self.stream.is_handshaking() {
            self.conn.end_handshake(now);
        }
        let Some(secured) = self.stream.take_secured(self.peer) else { return };
        if let Some(peer) = secured.peer {
            self.peer = peer;
        }
        if let Some(alpn) = secured.alpn {
            self.conn.on_negotiated(&alpn);
        }
        // What was written before waited for this, and no event reports it.
        self.is_writable = true;
    }
}
