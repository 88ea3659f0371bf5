//! Completion: answers the calls that workers have run and handlers have deferred, each call once.

use std::sync::Arc;

use coreloop_bufpool::Chunk;

use super::{CallEnd, Cx, Dispatcher, RpcApp, SPARE_BYTES_MAX, SPARE_MAX, reply};
use crate::context::{DeferredReply, code_of};
use crate::context::{RunMethod, reply_too_large};
use crate::message::SendBody;
use crate::reactor::Conns;
use crate::service::Registry;
use crate::stats::micros;
use crate::status::{Code, Status};
use crate::workers::WorkBatch;
use crate::workers::batch::CallNote;

impl Dispatcher {
    pub(super) fn on_done(&mut self, conns: &mut Conns<'_, RpcApp>, mut batch: Box<WorkBatch>) {
        // The batch itself is counted with its last part.
        let mut completed = u32::from(!batch.is_part);
        for index in 0..batch.done.len() {
            let chunk = batch.take_chunk_of(index);
            let done = &batch.done[index];
            match done.note {
                CallNote::Ran => {}
                CallNote::Removed => self.stats.calls.removed.add(1),
                CallNote::LateAtDequeue => self.stats.calls.late_at_dequeue.add(1),
                CallNote::Panicked => self.stats.calls.panics.add(1),
            }
            let Some(code) = done.code else { continue };
            completed += 1;
            let body = chunk.map_or_else(|| SendBody::Bytes(batch.body_of(done)), SendBody::Chunk);
            let is_late = code == Code::DeadlineExceeded && done.note == CallNote::Ran;
            let ended = CallEnd {
                code,
                queue_us: done.queue_us,
                handler_us: done.handler_us,
                compressed: done.compressed,
                body,
            };
            let answered = conns.with(done.key, |cx| self.end_call(cx, done.slot, ended));
            if is_late && answered == Some(true) {
                self.stats.calls.late_at_answer.add(1);
            }
        }
        if batch.is_watched {
            self.watched -= 1;
            if self.watched == 0 {
                self.watch_at = None;
            }
        }
        let number = batch.number;
        batch.recycle();
        batch.begin(number, self.inline_scope.clone(), conns.now());
        self.keep(batch);
        if completed > 0 {
            self.complete(number, completed);
        }
    }

    /// Keeps an empty batch for a later turn, within bounds.
    fn keep(&mut self, batch: Box<WorkBatch>) {
        let bytes = self.spare_bytes + batch.capacity_bytes();
        if self.spare_batches.len() < SPARE_MAX && bytes <= SPARE_BYTES_MAX {
            self.spare_bytes = bytes;
            self.spare_batches.push(batch);
        }
    }

    pub(super) fn on_deferred(
        &mut self,
        registry: &Registry,
        conns: &mut Conns<'_, RpcApp>,
        mut late: DeferredReply,
    ) {
        let bytes_max = registry.reply_bytes_max();
        let bytes = late.result.as_ref().map_or_else(|status| status.message.len(), |chunk| chunk.len());
        if bytes > bytes_max {
            let method = conns.with(late.key, |cx| cx.session.calls.method_of(late.slot)).flatten();
            let name = method.map_or("a method", |method| registry.method(method).name());
            late.result = Err(reply_too_large(name, bytes, bytes_max));
        }
        let batch = late.batch;
        let ended = conns.with(late.key, |cx| match self.hold_answer(cx, late) {
            Some(late) => {
                self.end_deferred(cx, late);
                true
            }
            None => false,
        });
        if ended != Some(false) {
            self.complete(batch, 1);
        }
    }

    /// Ends a call whose answer was deferred.
    pub(super) fn end_deferred(&mut self, cx: &mut Cx<'_>, late: DeferredReply) {
        let code = code_of(&late.result);
        let handler_us = micros(cx.now().saturating_duration_since(late.began));
        let body = match late.result {
            Ok(chunk) => SendBody::Chunk(chunk),
            Err(status) => SendBody::Chunk(Chunk::from(status.message.into_bytes())),
        };
        let ended = CallEnd { code, queue_us: late.queue_us, handler_us, compressed: false, body };
        self.end_call(cx, late.slot, ended);
    }

    /// Takes note that `calls` of a group's outstanding items have completed: its calls, and the batch itself.
    pub(super) fn complete(&mut self, number: u32, calls: u32) {
        let group = &mut self.groups[number as usize];
        debug_assert!(group.left >= calls);
        group.left -= calls;
        if group.left == 0 {
            let mut scope = self.groups.remove(number as usize).scope;
            // A ticket that a handler keeps forever keeps its scope; a new one is created then.
            if self.spare_scopes.len() < SPARE_MAX
                && let Some(only) = Arc::get_mut(&mut scope)
            {
                only.reset();
                self.spare_scopes.push(scope);
            }
        }
    }

    /// Ends the work of a call, and answers the call unless it was answered before. Returns true if it was answered
    /// now.
    #[inline]
    pub(super) fn end_call(&mut self, cx: &mut Cx<'_>, slot: u32, ended: CallEnd<'_>) -> bool {
        let Some(call) = cx.session.calls.end(slot, &mut self.free_list) else {
            debug_assert!(false, "a call ends once");
            return false;
        };
        if call.is_streaming() {
            cx.end_stream();
            let status = Status::new(ended.code, "the call has ended");
            self.close_streams(cx, &call, slot, &status);
        } else {
            cx.end_call(call.body_bytes as usize);
        }
        if call.is_answered() {
            self.stats.calls.late.add(1);
            return false;
        }
        self.count(call.method, ended.code, ended.queue_us, ended.handler_us, call.one_way);
        if !call.one_way {
            reply(cx, call.id, call.codec, ended);
        }
        true
    }

    #[inline]
    pub(super) fn count(&self, method: u32, code: Code, queue_us: u32, handler_us: u32, one_way: bool) {
        let stats = &self.stats.methods[method as usize];
        if one_way {
            stats.one_way.add(1);
        } else {
            stats.answers[code as usize].add(1);
        }
        stats.queue_us.record(queue_us);
        stats.handler_us.record(handler_us);
    }
}
