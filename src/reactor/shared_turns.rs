//! The turns of a reactor that several threads run, one at a time: what the thread that passes it on must know, and a
//! turn that only sends. `client/driving.rs` decides which thread runs it.

use std::time::Instant;

use super::{App, Reactor, STOPPED_MIN};

impl<A: App> Reactor<A> {
    /// Sends what the messages of other threads ask for, without a wait and without reading: the messages and the
    /// flush of a turn. Returns false, having done nothing, if the reactor has not run for so long that only a whole
    /// turn can judge what is late.
    pub(crate) fn send_mail(&mut self) -> bool {
        let now = Instant::now();
        if now.saturating_duration_since(self.main.core.now) >= STOPPED_MIN {
            return false;
        }
        self.main.core.now = now;
        self.read_mail();
        self.main.flush(&mut self.poller);
        self.main.close_ended(&mut self.poller);
        self.main.collect(false);
        true
    }

    /// Returns whether there is work for another turn that no event and no timer reports.
    pub(crate) fn has_more_work(&self) -> bool {
        self.wants_turn() || self.main.mailbox.has_mail() || self.roles.has_mail()
    }

    /// Returns whether the reactor has ended, so that no turn may follow.
    pub(crate) fn has_ended(&self) -> bool {
        self.main.has_ended()
    }

    /// Returns the time at which the last turn began.
    pub(crate) fn turn_began(&self) -> Instant {
        self.main.core.now
    }
}
