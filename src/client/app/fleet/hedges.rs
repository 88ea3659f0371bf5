//! Hedged calls: a second attempt at another server when the first one takes long; the first answer counts.
//!
//! The caller's promise stays here. Each attempt is a copy of the call, with a slot of its own, so that the tables of
//! connections know nothing of hedging. Calls of methods that are not hedged are not copied.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::ClientApp;
use super::super::session::cancel;
use super::attempts::{KeptAttempt, LastEnd};
use crate::client::CallError;
use crate::client::call_slot::{CallSlot, Promise};
use crate::client::pending::PendingLookup;
use crate::policy::fleet::{AfterAttempt, CallAttempts, EndpointId, FailedAttempt, Outcome};
use crate::reactor::Conns;

/// The bit of a slot's id that marks a hedged call; the other bits are its number.
const HEDGED: u64 = 1 << 63;

/// A call that may be hedged.
pub(super) struct HedgedCall {
    promise: Promise,
    /// Over all its attempts.
    attempts: CallAttempts,
    may_have_run: bool,
    running: Vec<RunningAttempt>,
}

/// An attempt of a hedged call that has an endpoint.
struct RunningAttempt {
    call_slot: Arc<CallSlot>,
    line: u64,
    is_hedge: bool,
}

impl ClientApp {
    /// Starts a call that is hedged after that time.
    pub(super) fn start_hedged(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        mut promise: Promise,
        hedge_after: Duration,
    ) {
        let now = conns.now();
        let Some(fleet) = self.fleets.get_mut(&promise.endpoint().number) else { return };
        fleet.last_hedged += 1;
        let number = fleet.last_hedged;
        promise.call_slot().id.store(HEDGED | number, Ordering::Relaxed);
        let attempts = promise.fleet_call().map(|call| call.attempts.clone()).unwrap_or_default();
        let copy = promise.copy_of(number, attempts.clone(), now);
        fleet
            .hedged
            .insert(number, HedgedCall { promise, attempts, may_have_run: false, running: Vec::new() });
        if let Some(at) = now.checked_add(hedge_after) {
            fleet.hedge_times.insert((at, number));
            self.look_by(at);
        }
        self.attempt(conns, copy, None);
    }

    /// Takes note of the endpoint of a hedged call's attempt.
    pub(super) fn on_hedged_attempt(
        &mut self,
        fleet: u64,
        number: u64,
        copy: &Promise,
        at: (EndpointId, u64),
    ) {
        let hedged = self.fleets.get_mut(&fleet).and_then(|fleet| fleet.hedged.get_mut(&number));
        if let Some(hedged) = hedged {
            let (id, line) = at;
            let is_hedge = !hedged.running.is_empty();
            hedged.attempts.tried.push(id);
            hedged.running.push(RunningAttempt { call_slot: copy.call_slot().clone(), line, is_hedge });
        }
    }

    /// Makes the hedges whose time has come.
    pub(super) fn make_due_hedges(&mut self, conns: &mut Conns<'_, ClientApp>, fleet_number: u64) {
        let now = conns.now();
        while let Some(fleet) = self.fleets.get_mut(&fleet_number)
            && fleet.hedge_times.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, number)) = fleet.hedge_times.pop_first()
        {
            let Some(hedged) = fleet.hedged.get_mut(&number) else { continue };
            if hedged.running.len() == 1 && fleet.policies.try_hedge(now, &mut hedged.attempts) {
                let copy = hedged.promise.copy_of(number, hedged.attempts.clone(), now);
                self.attempt(conns, copy, None);
            }
        }
    }

    /// Returns whether other attempts of a hedged call run.
    pub(super) fn has_other_attempts(&self, fleet: u64, number: u64) -> bool {
        let hedged = self.fleets.get(&fleet).and_then(|fleet| fleet.hedged.get(&number));
        hedged.is_some_and(|hedged| !hedged.running.is_empty())
    }

    /// Handles the end of an attempt of a hedged call.
    pub(super) fn on_hedged_end(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        number: u64,
        mut copy: Promise,
        failed: FailedAttempt,
        last: LastEnd,
    ) {
        let (fleet_number, now) = (copy.endpoint().number, conns.now());
        let Some(fleet) = self.fleets.get_mut(&fleet_number) else { return copy.discard() };
        let Some(hedged) = fleet.hedged.get_mut(&number) else {
            // Another attempt was faster, or the caller has given up.
            return copy.discard();
        };
        let index =
            hedged.running.iter().position(|running| Arc::ptr_eq(&running.call_slot, copy.call_slot()));
        let ended = index.map(|index| hedged.running.swap_remove(index));
        hedged.may_have_run |= failed.may_have_run;
        let is_answer = last.is_answer() && matches!(failed.outcome, Outcome::Success | Outcome::Cancelled);
        if is_answer {
            if ended.is_some_and(|ended| ended.is_hedge) {
                fleet.policies.on_hedge_won();
            }
            return self.end_hedged(conns, number, copy, last);
        }
        if !hedged.running.is_empty() {
            return copy.discard();
        }
        if failed.outcome == Outcome::Cancelled {
            return self.end_hedged(conns, number, copy, last);
        }
        match fleet.policies.after_attempt(now, &mut hedged.attempts, &failed) {
            AfterAttempt::End => self.end_hedged(conns, number, copy, last),
            AfterAttempt::Retry(pause) => {
                if let Some(call) = copy.fleet_call() {
                    call.attempts = hedged.attempts.clone();
                }
                let at = now + pause;
                fleet.last_retry += 1;
                fleet.retries.insert((at, fleet.last_retry), KeptAttempt { promise: copy, end: last });
                self.look_by(at);
            }
        }
    }

    /// Ends a hedged call with the end of one of its attempts, and cancels the others.
    pub(super) fn end_hedged(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        number: u64,
        copy: Promise,
        last: LastEnd,
    ) {
        let fleet = self.fleets.get_mut(&copy.endpoint().number);
        let Some(hedged) = fleet.and_then(|fleet| fleet.hedged.remove(&number)) else {
            return copy.discard();
        };
        for running in hedged.running {
            self.cancel_attempt(conns, &running);
        }
        let mut promise = hedged.promise;
        promise.take_headers_of(&copy);
        copy.discard();
        if let Some(call) = promise.fleet_call() {
            call.may_have_run = hedged.may_have_run;
        }
        self.end_fleet_call(conns, promise, last);
    }

    /// Cancels a hedged call that its caller has given up. Returns whether the id is that of one.
    pub(in crate::client::app) fn cancel_hedged(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        fleet: u64,
        id: u64,
    ) -> bool {
        if id & HEDGED == 0 {
            return false;
        }
        let fleet = self.fleets.get_mut(&fleet);
        if let Some(hedged) = fleet.and_then(|fleet| fleet.hedged.remove(&(id & !HEDGED))) {
            for running in hedged.running {
                self.cancel_attempt(conns, &running);
            }
            self.stats().cancelled.add(1);
            hedged.promise.fail(CallError::Cancelled { may_have_run: true });
        }
        true
    }

    /// Cancels an attempt, at its server if that has it.
    fn cancel_attempt(&mut self, conns: &mut Conns<'_, ClientApp>, attempt: &RunningAttempt) {
        let is_attempt = |promise: &Promise| Arc::ptr_eq(promise.call_slot(), &attempt.call_slot);
        let id = attempt.call_slot.id.load(Ordering::Relaxed);
        if id == 0 {
            let Some(line) = self.lines.get_mut(&attempt.line) else { return };
            if let Some(index) = line.waiting.iter().position(is_attempt)
                && let Some(copy) = line.waiting.remove(index)
            {
                self.waiting -= 1;
                copy.fail(CallError::Cancelled { may_have_run: false });
            }
            return;
        }
        for at in 0..self.keys.len() {
            let key = self.keys[at];
            if conns.session(key).is_none_or(|session| session.line != attempt.line) {
                continue;
            }
            conns.with(key, |cx| {
                if cx.session.pending.at_mut(id).is_some_and(|promise| is_attempt(promise))
                    && let PendingLookup::Call(copy) = cx.session.pending.take(id)
                {
                    cancel(cx, id);
                    copy.fail(CallError::Cancelled { may_have_run: true });
                    self.after_end(cx);
                }
            });
        }
    }

    /// Returns the first time at which a call may be hedged.
    pub(super) fn next_hedge_at(&self, fleet: u64) -> Option<Instant> {
        self.fleets.get(&fleet)?.hedge_times.first().map(|(at, _)| *at)
    }
}
