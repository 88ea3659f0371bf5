//! The beginning of a turn: the wait, what may precede it (a nap, a poll), and what bounds it.

use std::io;
use std::time::{Duration, Instant};

use super::Reactor;
use super::app::App;
use super::app_role::RoleState;
use super::roles::is_of_role;
use crate::policy::gather::TurnLoad;
use crate::stats::SAMPLE_TURNS;

/// A reactor that did not run for this long checks for events once more before it judges deadlines.
const STOPPED_MIN: Duration = Duration::from_millis(20);

impl<A: App> Reactor<A> {
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let is_sampled = self.main.core.stats.turns.value().is_multiple_of(SAMPLE_TURNS);
        // A client's calls must not wait so that more calls can gather.
        let may_gather = self.gather.is_on() && self.roles.is_empty();
        let wants_turn = self.wants_turn();
        // One reading of the clock serves every use of the time between two turns; none is made if it is not needed.
        let ended = (is_sampled || may_gather || !wants_turn).then(Instant::now);
        let timeout = match ended {
            Some(ended) if !wants_turn => self.next_at().map(|at| at.saturating_duration_since(ended)),
            Some(_) | None => Some(Duration::ZERO),
        };
        if may_gather && let Some(ended) = ended {
            self.let_gather(ended, timeout);
        }
        let may_spin = timeout != Some(Duration::ZERO) && !self.spin.budget().is_zero();
        if !(may_spin && self.busy_poll(timeout)?) {
            let Reactor { main, roles, poller, .. } = self;
            poller.wait(timeout, || main.mailbox.has_mail() || roles.has_mail())?;
        }
        let before = self.main.core.now;
        self.main.core.now = Instant::now();
        if is_sampled && let Some(ended) = ended {
            let waited = self.main.core.now.duration_since(ended);
            self.main.core.stats.stage_ns[0].add(waited.as_nanos() as u64);
        }
        self.lap = is_sampled.then_some(self.main.core.now);
        self.note_events();
        if let Some(timeout) = timeout {
            let stopped = self.main.core.now.saturating_duration_since(before).saturating_sub(timeout);
            if stopped >= STOPPED_MIN {
                self.look_again(stopped)?;
            }
        }
        Ok(())
    }

    /// Handles a time for which the reactor did not run (a long call, a stopped process): events of that time may be
    /// missing although deadlines have passed.
    #[cold]
    fn look_again(&mut self, stopped: Duration) -> io::Result<()> {
        self.poller.wait(Some(Duration::ZERO), || false)?;
        self.note_events();
        self.stopped = stopped;
        Ok(())
    }

    pub(super) fn note_events(&mut self) {
        let Reactor { main, roles, poller, .. } = self;
        for index in 0..poller.len() {
            let (key, ready) = poller.event(index);
            if is_of_role(key) {
                roles.on_ready(key, ready, main.core.now);
            } else {
                main.take_event(key, ready);
            }
        }
    }

    /// Naps if that lets calls gather; never past the next deadline, and not while other work waits for a turn.
    #[inline]
    fn let_gather(&mut self, now: Instant, timeout: Option<Duration>) {
        let turn = TurnLoad {
            busy: now.saturating_duration_since(self.main.core.now),
            calls: std::mem::take(&mut self.main.core.taken),
            reads: std::mem::take(&mut self.main.core.taken_reads),
        };
        let nap = self.gather.on_turn(now, turn);
        if !nap.is_zero() {
            self.nap(nap.min(timeout.unwrap_or(Duration::MAX)));
        }
    }

    #[cold]
    fn nap(&mut self, nap: Duration) {
        if !nap.is_zero() && self.main.state == RoleState::Running {
            std::thread::sleep(nap);
            self.main.core.stats.naps.add(1);
        }
    }

    /// Returns whether there is work that no event reports.
    fn wants_turn(&self) -> bool {
        self.main.has_work() || self.roles.wants_turn()
    }

    /// Returns the earliest time at which there is something to do.
    fn next_at(&self) -> Option<Instant> {
        self.main.due_at().into_iter().chain(self.roles.next_at()).min()
    }

    /// Polls without sleeping for as long as the budget and the timeout allow. Returns true if there is something to
    /// do.
    fn busy_poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let budget = self.spin.budget();
        let until = Instant::now() + timeout.map_or(budget, |timeout| timeout.min(budget));
        loop {
            let events = self.poller.wait(Some(Duration::ZERO), || false)?;
            if events > 0 || self.main.mailbox.has_mail() || self.roles.has_mail() {
                self.spin.on_hit();
                return Ok(true);
            }
            if Instant::now() >= until {
                self.spin.on_empty();
                return Ok(false);
            }
        }
    }
}
