//! Calls that end before their reply: cancelled by their callers, with the calls that they were made for, or late.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::ClientApp;
use super::session::cancel;
use crate::client::CallError;
use crate::client::call_slot::{CallSlot, Promise};
use crate::client::pending::PendingLookup;
use crate::reactor::Conns;

impl ClientApp {
    pub(super) fn on_cancel(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64, call_slot: &CallSlot) {
        let id = call_slot.id.load(Ordering::Relaxed);
        if id == 0 {
            // The call waits in a queue, unless it is over.
            return self.drop_abandoned(number);
        }
        let is_of_fleet = self.fleets.contains_key(&number);
        if is_of_fleet && self.cancel_hedged(conns, number, id) {
            return;
        }
        // It may be on the endpoint's active connection, or on one that drains.
        for at in 0..self.keys.len() {
            let is_found = conns.with(self.keys[at], |cx| {
                let promise = (is_of_fleet || cx.session.line == number)
                    .then(|| cx.session.pending.at_mut(id))
                    .flatten();
                if promise.is_none_or(|promise| !std::ptr::eq(promise.call_slot().as_ref(), call_slot)) {
                    return false;
                }
                if let PendingLookup::Call(promise) = cx.session.pending.take(id) {
                    cancel(cx, id);
                    promise.fail(CallError::Cancelled { may_have_run: true });
                }
                self.stats().cancelled.add(1);
                self.after_end(cx);
                true
            });
            if is_found == Some(true) {
                return;
            }
        }
    }

    /// Drops waiting calls that were abandoned. It searches the queue only when half of it is abandoned: a search for
    /// each cancellation would make the cost quadratic in the number of waiting calls.
    fn drop_abandoned(&mut self, number: u64) {
        if self.fleets.contains_key(&number) {
            return self.drop_abandoned_of_fleet(number);
        }
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.abandoned += 1;
        if line.abandoned * 2 < line.waiting.len() {
            return;
        }
        line.abandoned = 0;
        let before = line.waiting.len();
        let (over, rest): (VecDeque<Promise>, _) =
            std::mem::take(&mut line.waiting).into_iter().partition(Promise::is_abandoned);
        line.waiting = rest;
        self.waiting -= over.len();
        debug_assert_eq!(line.waiting.len() + over.len(), before);
        self.stats().cancelled.add(over.len() as u64);
        for promise in over {
            let may_have_run = promise.is_sent;
            promise.fail(CallError::Cancelled { may_have_run });
        }
    }

    pub(super) fn on_cancel_group(&mut self, conns: &mut Conns<'_, ClientApp>, group: u64) {
        let in_group =
            |promise: &Promise| promise.parent.as_ref().is_some_and(|parent| parent.group == group);
        let why = |is_sent| CallError::Cancelled { may_have_run: is_sent };
        let count = self.take_over(conns, in_group, why);
        self.stats().cancelled.add(count);
    }

    /// Ends every call for which `is_over` returns true, and sends a cancellation for those that were sent.
    pub(super) fn take_over(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        is_over: impl Fn(&Promise) -> bool,
        why: impl Fn(bool) -> CallError,
    ) -> u64 {
        let mut over = std::mem::take(&mut self.over);
        let mut count = 0;
        for at in 0..self.keys.len() {
            conns.with(self.keys[at], |cx| {
                cx.session.pending.take_if(&is_over, &mut over);
                for (id, promise) in over.drain(..) {
                    count += 1;
                    cancel(cx, id);
                    promise.fail(why(true));
                }
                self.after_end(cx);
            });
        }
        // Of a thousand servers of a fleet, each check would look at all.
        let lines = if self.waiting > 0 { Some(self.lines.values_mut()) } else { None };
        for line in lines.into_iter().flatten() {
            if line.waiting.iter().any(&is_over) {
                let all = std::mem::take(&mut line.waiting);
                self.waiting -= all.len();
                for promise in all {
                    if is_over(&promise) {
                        count += 1;
                        let error = why(promise.is_sent);
                        promise.fail(error);
                    } else {
                        line.waiting.push_back(promise);
                    }
                }
                self.waiting += line.waiting.len();
            }
        }
        for fleet in self.fleets.values_mut() {
            fleet.take_over(&is_over, |promise| {
                count += 1;
                let error = why(promise.is_sent);
                promise.fail(error);
            });
        }
        self.over = over;
        count
    }
}
