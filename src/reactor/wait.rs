//! The beginning of a turn: the wait, what may precede it (a nap, a poll), and what bounds it.

use std::io;
use std::time::{Duration, Instant};

use super::app::App;
use super::{GUEST_GENERATION, LISTENER_GENERATION, Reactor, ReactorState};
use crate::policy::gather::TurnLoad;
use crate::stats::SAMPLE_TURNS;

/// A reactor that did not run for this long checks for events once more before it judges deadlines.
const STOPPED_MIN: Duration = Duration::from_millis(20);

impl<A: App> Reactor<A> {
    pub(super) fn wait(&mut self, wait_max: Option<Duration>) -> io::Result<()> {
        let is_sampled = self.core.stats.turns.value().is_multiple_of(SAMPLE_TURNS);
        // A guest's calls must not wait so that more calls can gather.
        let may_gather = self.gather.is_on() && self.guests.is_empty();
        // The host of a guest decides when the guest runs, so the waiting time means nothing.
        let is_guest = wait_max.is_some();
        let wait_max = wait_max.or_else(|| self.wants_turn().then_some(Duration::ZERO));
        // One reading of the clock serves every use of the time between two turns; none is made if it is not needed.
        let ended = (is_sampled || may_gather || wait_max.is_none()).then(Instant::now);
        let timeout = match (wait_max, ended) {
            (None, Some(ended)) => self.next_at().map(|at| at.saturating_duration_since(ended)),
            (known, _) => known,
        };
        if may_gather && let Some(ended) = ended {
            self.let_gather(ended, timeout);
        }
        let may_spin = timeout != Some(Duration::ZERO) && !self.spin.budget().is_zero();
        if !(may_spin && self.busy_poll(timeout)?) {
            let mailbox = &self.mailbox;
            self.core.poller.wait(timeout, || mailbox.has_mail())?;
        }
        let before = self.core.now;
        self.core.now = Instant::now();
        if is_sampled && let Some(ended) = ended {
            let waited = self.core.now.duration_since(ended);
            self.core.stats.stage_ns[0].add(waited.as_nanos() as u64);
        }
        self.lap = is_sampled.then_some(self.core.now);
        self.note_events();
        if let Some(timeout) = timeout
            && !is_guest
        {
            let stopped = self.core.now.saturating_duration_since(before).saturating_sub(timeout);
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
        self.core.poller.wait(Some(Duration::ZERO), || false)?;
        self.note_events();
        self.stopped = stopped;
        Ok(())
    }

    fn note_events(&mut self) {
        let Reactor { core, acceptor, guests, .. } = self;
        for index in 0..core.poller.len() {
            let (key, ready) = core.poller.event(index);
            match key.generation() {
                LISTENER_GENERATION => acceptor.on_ready(key.slot()),
                GUEST_GENERATION => guests.on_ready(key.slot()),
                _ => core.on_ready(key, ready),
            }
        }
    }

    /// Naps if that lets calls gather; never past the next deadline, and not while other work waits for a turn.
    #[inline]
    fn let_gather(&mut self, now: Instant, timeout: Option<Duration>) {
        let turn = TurnLoad {
            busy: now.saturating_duration_since(self.core.now),
            calls: std::mem::take(&mut self.core.taken),
            reads: std::mem::take(&mut self.core.taken_reads),
        };
        let nap = self.gather.on_turn(now, turn);
        if !nap.is_zero() {
            self.nap(nap.min(timeout.unwrap_or(Duration::MAX)));
        }
    }

    #[cold]
    fn nap(&mut self, nap: Duration) {
        if !nap.is_zero() && self.state == ReactorState::Running {
            std::thread::sleep(nap);
            self.core.stats.naps.add(1);
        }
    }

    /// Returns whether there is work that no event reports.
    pub(super) fn wants_turn(&self) -> bool {
        !self.core.again.is_empty() || self.acceptor.is_ready() || self.guests.wants_turn()
    }

    /// Returns the earliest time at which there is something to do.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let core = &self.core;
        [
            core.timers.next_at(),
            core.flush_at,
            self.shrink_at,
            self.acceptor.paused_until,
            self.abort_until,
            self.app.next_at(),
            self.guests.next_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Polls without sleeping for as long as the budget and the timeout allow. Returns true if there is something to
    /// do.
    fn busy_poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let budget = self.spin.budget();
        let until = Instant::now() + timeout.map_or(budget, |timeout| timeout.min(budget));
        loop {
            let events = self.core.poller.wait(Some(Duration::ZERO), || false)?;
            if events > 0 || self.mailbox.has_mail() {
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
