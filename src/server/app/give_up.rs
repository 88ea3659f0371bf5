//! Giving up: a call that is cancelled, late, or left over is answered at once, and its work is cancelled.

use super::end::{CallEnd, EndingCall};
use super::{Cx, Dispatcher};
use crate::conn::calls::{ConnCall, WorkPlace};
use crate::message::ReplyExtras;
use crate::service::interceptor::EndPlace;
use crate::status::Status;
use crate::workers::batch::CallNote;

impl Dispatcher {
    /// Cancels the work of a call, because no caller waits for it. If the call has waited for a worker, returns its
    /// slot: its work ends here.
    pub(super) fn cancel_work(&mut self, call: &ConnCall) -> Option<u32> {
        let (number, place) = match call.work {
            WorkPlace::Batch { number, place } => (number, place),
            WorkPlace::Waiting { pool, item } => {
                self.ends.count_work(CallNote::Removed);
                return self.withdraw(pool, item);
            }
            WorkPlace::Nowhere => return None,
        };
        let scope = &self.groups[number as usize].scope;
        if scope.cancel(place) {
            let scope = scope.clone();
            // A handler may hold the lock that the callbacks need, so the reactor does not run them.
            self.pools.run_callback(Box::new(move || scope.run_callbacks(place)));
        }
        None
    }

    /// Ends a call before its work has ended.
    pub(super) fn end_early(&mut self, cx: &mut Cx<'_>, call: &ConnCall, place: EndPlace, status: &Status) {
        let waited = self.cancel_work(call);
        if call.is_streaming() {
            self.end_streams(cx, call.id, status);
        }
        let extras = ReplyExtras::of_status(status);
        let ended = CallEnd::of_status(place, status, extras.as_deref());
        self.ends.end(cx, EndingCall::in_flight(call), ended);
        if call.is_streaming() {
            cx.on_stream_answered();
        }
        if let Some(slot) = waited {
            self.end_waiting(cx, call, slot);
        }
    }

    /// Takes note of the end of the work of a call that was answered while it waited.
    fn end_waiting(&mut self, cx: &mut Cx<'_>, call: &ConnCall, slot: u32) {
        cx.session.calls.end(slot, &mut self.free_list);
        self.ends.note_over(call.is_streaming());
        if call.is_streaming() {
            cx.end_stream();
            self.sink.forget(cx.key(), slot);
        } else {
            cx.end_call(call.body_bytes as usize);
        }
    }

    /// Answers every call whose deadline has passed, whether its work has ended or not.
    pub(super) fn answer_late(&mut self, cx: &mut Cx<'_>) {
        let mut answered = std::mem::take(&mut self.answered);
        let now = cx.now();
        cx.session.calls.answer_late(now, |call| answered.push(call.clone()));
        let status = Status::deadline_exceeded("the deadline passed while the call was running");
        for call in answered.drain(..) {
            self.end_early(cx, &call, EndPlace::LateAtAnswer, &status);
        }
        self.answered = answered;
    }

    /// Answers every pending call, because the server waits no longer for its work.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_>) {
        let mut answered = std::mem::take(&mut self.answered);
        cx.session.calls.answer_all(|call| answered.push(call.clone()));
        let status = Status::unavailable("the server drains, and the call did not end within drain_ms");
        for call in answered.drain(..) {
            self.end_early(cx, &call, EndPlace::Drained, &status);
        }
        self.answered = answered;
    }

    pub(super) fn on_cancel(&mut self, cx: &mut Cx<'_>, id: u64) {
        if let Some(call) = cx.session.calls.answer_by_id(id).cloned() {
            let status = Status::cancelled("the caller cancelled the call");
            self.end_early(cx, &call, EndPlace::Cancelled, &status);
        }
    }
}
