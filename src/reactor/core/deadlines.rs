//! The timer of a connection: what is done before its deadlines are judged.

use std::time::{Duration, Instant};

use coreloop_poller::Key;

use super::super::app::App;
use super::{Core, write_out};

impl<A: App> Core<A> {
    /// Handles a timer that has fired: the connection checks its own deadlines.
    ///
    /// The process may have been stopped while the peer was not. So the socket is read and queued bytes are written
    /// before any deadline is judged. If there is more input than one turn reads, the check waits for the next turn (the
    /// limits on messages bound how often). `stopped` is the time for which this reactor did not run, if noticeable.
    pub(in crate::reactor) fn on_timer(&mut self, key: Key, app: &mut A, stopped: Duration) {
        let Some(slot) = self.slots.at_mut(key) else { return };
        slot.armed = None;
        let is_late = |at: Option<Instant>| at.is_some_and(|at| at <= self.now);
        let is_handshake_late = is_late(slot.stream.handshake_deadline());
        let is_conn_late = is_late(slot.conn.next_deadline(&self.limits));
        if !is_conn_late && !is_handshake_late && !is_late(app.next_deadline(&slot.session)) {
            return;
        }
        self.catch_up(key, app);
        if is_handshake_late {
            self.end_late_handshake(key);
        }
        let Some(slot) = self.slots.at_mut(key) else { return };
        if !(slot.is_readable && slot.conn.wants_read()) {
            if !stopped.is_zero() {
                slot.conn.forgive(stopped, self.now);
            }
            slot.conn.on_timer(self.now, &mut self.pool, &self.limits);
            if slot.conn.has_stream_input_ended(slot.is_ending)
                && let Some((mut cx, _)) = self.conn_cx(key)
            {
                app.on_stream_input_end(&mut cx);
            }
        }
    }

    /// Reads and writes as much as the socket allows now, whether or not an event has reported it.
    #[cold]
    fn catch_up(&mut self, key: Key, app: &mut A) {
        let Core { slots, pool, limits, now, stats, .. } = self;
        let Some(slot) = slots.at_mut(key) else { return };
        if slot.conn.out_len() > 0 {
            slot.is_writable = true;
            write_out(slot, pool, *now, limits, stats);
        }
        slot.is_readable = true;
        let was_again = slot.is_again;
        self.read(key, app);
        if was_again && let Some(slot) = self.slots.at_mut(key) {
            // The connection was on the list already; the read may have added it a second time.
            if slot.is_again {
                self.again.pop();
            }
            slot.is_again = true;
        }
    }
}
