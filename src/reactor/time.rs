//! Work that is due at a time: the deadlines of connections and of the app, and the release of memory.

use std::time::Duration;

use coreloop_poller::{Poller, os};

use super::app::{App, Conns};
use super::app_role::{AppRole, SHRINK_EVERY};

/// The number of bytes freed at once from which the allocator is requested to return memory to the system.
const TRIM_BYTES: usize = 1 << 20;

/// The most further reads before one [`App::on_time`]: they read what one turn leaves in the sockets' buffers.
const REST_READS_MAX: usize = 32;

impl<A: App> AppRole<A> {
    /// Does the work that is due. `stopped` is the time for which the thread did not run before this turn, if it was
    /// long enough to misjudge peers.
    pub(super) fn run_timers(&mut self, poller: &mut Poller, stopped: Duration) {
        // A connection that was made in time is not late.
        self.run_dials(poller);
        let mut expired = std::mem::take(&mut self.expired);
        self.core.timers.expire(self.core.now, &mut expired);
        for key in expired.drain(..) {
            self.core.on_timer(key, &mut self.app, stopped);
            let now = self.core.now;
            let Some(slot) = self.core.slots.at_mut(key) else { continue };
            let app_at = self.app.next_deadline(&slot.session);
            if app_at.is_some_and(|at| at <= now)
                && let Some((mut cx, _)) = self.core.conn_cx(key)
            {
                self.app.on_deadline(&mut cx);
            }
            self.core.after(key);
            if let Some(slot) = self.core.slots.at_mut(key)
                && let Some(at) = self.app.next_deadline(&slot.session)
            {
                self.core.arm_for_app(key, at);
            }
        }
        self.expired = expired;
        if self.app.next_at().is_some_and(|at| at <= self.core.now) {
            self.on_time(poller);
        }
        if self.shrink_at.is_some_and(|at| at <= self.core.now) {
            self.shrink();
        }
    }

    fn on_time(&mut self, poller: &mut Poller) {
        if self.app.reads_before_time() {
            for _ in 0..REST_READS_MAX {
                if self.core.again.is_empty() {
                    break;
                }
                self.read();
            }
        }
        let AppRole { app, core, loads, index, .. } = self;
        app.on_time(&mut Conns { core, poller, loads, index: *index });
        self.core.after_touched(&self.app);
    }

    /// Releases the memory that a burst has left unused.
    fn shrink(&mut self) {
        // Buffers that were returned after the last busy turn would otherwise be neither freed nor counted.
        self.core.pool.collect();
        let (freed_by_app, is_app_holding) = self.app.release_unused();
        let freed = self.core.pool.shrink(self.core.now) + freed_by_app;
        // An idle reactor has few turns; without this, its numbers would remain those of the last busy turn.
        self.note_pool();
        if freed >= TRIM_BYTES {
            os::trim_heap();
        }
        if self.core.slots.is_empty() {
            self.core.slots.shrink();
            self.core.timers.shrink();
        }
        // Repeats as long as there is memory to release; after that an idle reactor sleeps without a timeout.
        let is_holding = is_app_holding || self.core.pool.stats().retained_bytes > 0;
        self.shrink_at = is_holding.then(|| self.core.now + SHRINK_EVERY);
    }
}
