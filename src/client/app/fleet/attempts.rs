//! The attempts of a fleet's calls: each goes to the endpoint that the policies pick, and what its end means is theirs to
//! decide, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{ClientApp, send_if_room};
use super::{FREE_CALLS_MAX, FleetState};
use crate::client::CallError;
use crate::client::call_slot::{
    EndedAttempt, FleetCall, Promise, PromiseKind, ReplyBody, load_of, outcome_of,
};
use crate::client::fleet::ATTEMPT;
use crate::client::reply::ReplyOutcome;
use crate::policy::fleet::{AfterAttempt, AttemptEnd, NoEndpoint, Outcome, PickFor};
use crate::reactor::Conns;

/// A call that is to be attempted again, and the end of its last attempt: that of the call, if there is no other.
pub(super) struct KeptAttempt {
    pub(super) promise: Promise,
    pub(super) end: LastEnd,
}

/// The end of an attempt.
pub(super) struct LastEnd {
    outcome: Result<ReplyOutcome, CallError>,
    body: ReplyBody,
}

impl LastEnd {
    /// Returns whether the server has answered.
    pub(super) fn is_answer(&self) -> bool {
        self.outcome.is_ok()
    }
}

impl ClientApp {
    /// Handles a new call of a fleet.
    #[inline(never)]
    pub(in crate::client::app) fn on_fleet_start(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        mut promise: Promise,
    ) {
        // The choice depends on what has ended.
        self.handle_ended(conns);
        let now = conns.now();
        self.open_fleet(promise.endpoint());
        let Some(fleet) = self.fleets.get_mut(&promise.endpoint().number) else { return };
        let mut call = fleet.take_call(now);
        call.key = promise.key();
        if let PromiseKind::Call { method, .. } = promise.what {
            call.method = method;
            fleet.policies.on_call(now);
            // A caller further up repeats the call.
            call.attempts.is_attempt =
                promise.metadata.as_ref().is_some_and(|metadata| metadata.view().find(ATTEMPT).is_some());
        }
        promise.begin_attempts(call);
        if promise.deadline.is_some_and(|deadline| deadline <= now) {
            self.stats().late.add(1);
            return promise.fail(CallError::DeadlineExceeded);
        }
        let hedge_after = match promise.what {
            PromiseKind::Call { method, idempotent, one_way: false, .. } if promise.streams().is_none() => {
                fleet.policies.hedge_after(method, idempotent)
            }
            _ => None,
        };
        match hedge_after {
            None => self.attempt(conns, promise, None),
            Some(hedge_after) => self.start_hedged(conns, promise, hedge_after),
        }
    }

    /// Makes an attempt of a call. `last` is how its last one has ended.
    pub(super) fn attempt(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        mut promise: Promise,
        last: Option<LastEnd>,
    ) {
        let (number, now) = (promise.endpoint().number, conns.now());
        if promise.is_given_up() {
            self.stats().cancelled.add(1);
            let may_have_run = promise.is_sent;
            return promise.fail(CallError::Cancelled { may_have_run });
        }
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        let Some(call) = promise.fleet_call() else { return };
        let wanted = PickFor { method: call.method, key: call.key, tried: &call.attempts.tried };
        let id = match fleet.policies.pick(now, wanted) {
            Ok(id) => id,
            Err(why) => return self.on_no_endpoint(conns, promise, why, last),
        };
        (call.endpoint, call.since) = (Some(id), now);
        call.attempts.tried.push(id);
        let (attempt, may_have_run, hedged) = (call.attempts.tried.len(), call.may_have_run, call.hedged);
        promise.begin_attempt(may_have_run);
        if attempt > 1 {
            mark_attempt(&mut promise, attempt);
        }
        promise.begin_span(attempt - 1);
        let line_number = fleet.lines.get(&id).copied().unwrap_or_default();
        if let Some(hedged) = hedged {
            self.on_hedged_attempt(number, hedged, &promise, (id, line_number));
        }
        let Some(line) = self.lines.get_mut(&line_number) else {
            debug_assert!(false, "each endpoint has a state");
            return;
        };
        if let Some(promise) = send_if_room(&self.shared.stats, conns, line, promise) {
            self.wait_for_turn(conns, line_number, promise);
        }
    }

    /// Keeps a call for which there is no endpoint yet, or ends it.
    fn on_no_endpoint(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        mut promise: Promise,
        why: NoEndpoint,
        last: Option<LastEnd>,
    ) {
        let fleet = promise.endpoint().number;
        let hedged = promise.fleet_call().and_then(|call| call.hedged);
        if hedged.is_some_and(|number| self.has_other_attempts(fleet, number)) {
            // It is a hedge.
            return promise.discard();
        }
        match (why, last) {
            (_, Some(last)) => self.end_fleet_call(conns, promise, last),
            (NoEndpoint::NotResolved, None) => {
                let Some(fleet) = self.fleets.get_mut(&promise.endpoint().number) else { return };
                fleet.unresolved.push_back(promise);
                if let Some(at) = fleet.fails_unresolved_at() {
                    self.look_by(at);
                }
            }
            (why, None) => {
                let last = LastEnd { outcome: Err(CallError::NoEndpoint(why)), body: ReplyBody::None };
                self.end_fleet_call(conns, promise, last);
            }
        }
    }

    /// Makes the attempt of a call again whose server is gone before the call was sent to it.
    pub(super) fn attempt_elsewhere(&mut self, conns: &mut Conns<'_, ClientApp>, mut promise: Promise) {
        let now = conns.now();
        if promise.fleet_call().is_some_and(|call| call.is_check) {
            // Another server's health is another check.
            return promise.discard();
        }
        if let Some(fleet) = self.fleets.get_mut(&promise.endpoint().number)
            && let Some(call) = promise.fleet_call()
        {
            fleet.end_attempt(now, call, Outcome::Cancelled, None, None);
        }
        self.attempt(conns, promise, None);
    }

    /// Handles the attempts that have ended: their calls end, or are attempted again. Returns whether one may have been
    /// sent.
    #[inline]
    pub(in crate::client::app) fn handle_ended(&mut self, conns: &mut Conns<'_, ClientApp>) -> bool {
        self.shared.ended.has_any() && self.handle_all_ended(conns)
    }

    #[inline(never)]
    fn handle_all_ended(&mut self, conns: &mut Conns<'_, ClientApp>) -> bool {
        let mut has_sent = false;
        let mut ended = std::mem::take(&mut self.ended);
        // Each call has a bounded number of attempts.
        while self.shared.ended.has_any() {
            self.shared.ended.swap(&mut ended);
            for attempt in ended.drain(..) {
                has_sent |= matches!(attempt, EndedAttempt::Open { .. });
                self.on_attempt_end(conns, attempt);
            }
        }
        self.ended = ended;
        let numbers: Vec<u64> = self.fleets.keys().copied().collect();
        for number in numbers {
            self.drop_leaving(conns, number);
            if let Some(fleet) = self.fleets.get_mut(&number) {
                fleet.report();
            }
        }
        has_sent
    }

    fn on_attempt_end(&mut self, conns: &mut Conns<'_, ClientApp>, attempt: EndedAttempt) {
        let now = conns.now();
        let (mut promise, outcome, body) = match attempt {
            EndedAttempt::Done { number, mut call, outcome, load_us } => {
                if let Some(fleet) = self.fleets.get_mut(&number) {
                    fleet.end_attempt(now, &mut call, outcome, load_us, None);
                    fleet.put_call(call);
                }
                return;
            }
            EndedAttempt::Open { promise, outcome, body } => (promise, outcome, body),
        };
        if promise.fleet_call().is_some_and(|call| call.is_check) {
            return self.on_check_ended(now, promise, &outcome, &body);
        }
        let failed = promise.failed_attempt(&outcome, now);
        let last = LastEnd { outcome, body };
        let can_repeat = promise.can_repeat();
        let Some(fleet) = self.fleets.get_mut(&promise.endpoint().number) else {
            return self.end_fleet_call(conns, promise, last);
        };
        let load_us = load_of(&last.outcome);
        let Some(call) = promise.fleet_call() else { return };
        let was_attempted = fleet.end_attempt(now, call, failed.outcome, load_us, failed.retry_after);
        call.may_have_run |= failed.may_have_run;
        if let Some(number) = call.hedged {
            return self.on_hedged_end(conns, number, promise, failed, last);
        }
        if !was_attempted || !can_repeat || failed.outcome == Outcome::Cancelled {
            return self.end_fleet_call(conns, promise, last);
        }
        match fleet.policies.after_attempt(now, &mut call.attempts, &failed) {
            AfterAttempt::End => self.end_fleet_call(conns, promise, last),
            AfterAttempt::Retry(Duration::ZERO) => self.attempt(conns, promise, Some(last)),
            AfterAttempt::Retry(pause) => {
                let at = now + pause;
                fleet.last_retry += 1;
                fleet.retries.insert((at, fleet.last_retry), KeptAttempt { promise, end: last });
                self.look_by(at);
            }
        }
    }

    /// Makes the attempts whose time has come.
    pub(super) fn make_due_retries(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64) {
        let now = conns.now();
        while let Some(fleet) = self.fleets.get_mut(&number)
            && let Some(first) = fleet.retries.first_entry()
            && first.key().0 <= now
        {
            let KeptAttempt { promise, end } = first.remove();
            self.attempt(conns, promise, Some(end));
        }
    }

    /// Ends a call with the end of its last attempt, or with the program's own answer in its place.
    pub(super) fn end_fleet_call(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        mut promise: Promise,
        last: LastEnd,
    ) {
        if let Some(number) = promise.fleet_call().and_then(|call| call.hedged) {
            return self.end_hedged(conns, number, promise, last);
        }
        let LastEnd { outcome, body } = last;
        let outcome_of = outcome_of(&outcome, promise.is_sent);
        if matches!(outcome_of, Outcome::Failure | Outcome::Refused)
            && let Some(on_unavailable) =
                promise.endpoint().fleet().and_then(|fleet| fleet.on_unavailable.clone())
            && let Some((answer, bytes)) = promise.answer_instead(&outcome, body.as_bytes(), &*on_unavailable)
        {
            return promise.end_call(Ok(answer), ReplyBody::Bytes(bytes));
        }
        promise.end_call(outcome, body);
    }
}

impl FleetState {
    fn take_call(&mut self, now: Instant) -> Box<FleetCall> {
        match self.free.pop() {
            Some(mut call) => {
                call.reset(now);
                call
            }
            None => Box::new(FleetCall::new(now)),
        }
    }

    fn put_call(&mut self, call: Box<FleetCall>) {
        if self.free.len() < FREE_CALLS_MAX {
            self.free.push(call);
        }
    }

    /// Reports the end of a call's attempt to the policies. Returns whether there was one.
    fn end_attempt(
        &mut self,
        now: Instant,
        call: &mut FleetCall,
        outcome: Outcome,
        load_us: Option<u32>,
        retry_after: Option<Duration>,
    ) -> bool {
        let Some(endpoint) = call.endpoint.take() else { return false };
        let took = now.saturating_duration_since(call.since);
        let end = AttemptEnd { endpoint, method: call.method, outcome, took, load_us, retry_after };
        self.policies.on_attempt_end(now, &end);
        true
    }
}

/// Tells the server that the call was attempted before, so that it does not repeat the calls that it makes for it.
fn mark_attempt(promise: &mut Promise, attempt: usize) {
    if promise.endpoint().scheme.carries_metadata() {
        let metadata = Arc::make_mut(promise.metadata.get_or_insert_default());
        // Without room for it the call is not marked.
        let _ = metadata.set(ATTEMPT, attempt.to_string().as_bytes());
    }
}
