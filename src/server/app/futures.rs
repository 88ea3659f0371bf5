//! Async methods: a call is admitted, and its future passed to the executor. No worker runs it, and it never waits in the
//! run queue.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Cx, Dispatcher, deadline_of};
use crate::conn::calls::WorkPlace;
use crate::context::{Deferral, Ticket};
use crate::error_text::panic_text;
use crate::log_events::log_event;
use crate::message::Request;
use crate::service::futures::{AsyncBody, AsyncParts};
use crate::service::{CallShape, Method, Registry};
use crate::workers::WorkPool;
use crate::workers::batch::{COPY_BYTES_MAX, CallNote};

impl Dispatcher {
    /// Spawns the future of a call, unless there are too many.
    #[inline(never)]
    pub(super) fn spawn(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
    ) {
        let permit = match self.async_limits.admit(index) {
            Ok(permit) => permit,
            Err(reason) => {
                self.refuse_shed(cx, request, Some(index), WorkPool::Cpu, reason);
                return;
            }
        };
        let (now, deadline) = (cx.now(), deadline_of(request, cx.now()));
        let number = self.begin_group(1);
        let work = WorkPlace::Batch { number, place: 0 };
        let (slot, body_len) = self.begin_call(cx, request, index, method, deadline, work);
        let (key, scope) = (cx.key(), self.groups[number as usize].scope.clone());
        let Request { codec, compressed, .. } = *request;
        let deferral = Deferral { sink: &self.completions, key, slot, batch: number, codec, queue_us: 0 };
        let parts = AsyncParts {
            deadline,
            metadata: cx.bytes(request.metadata).into(),
            peer: cx.peer(),
            codec,
            compressed,
            body: match body_len > COPY_BYTES_MAX {
                true => AsyncBody::Chunk(cx.cut(request.body)),
                false => AsyncBody::Owned(cx.bytes(request.body).to_vec()),
            },
            streams: match method.shape() {
                CallShape::Unary => None,
                _ => self.sink.take(key, slot),
            },
            extensions: self.attached.of(method),
            ticket: Ticket::of(&deferral, scope, 0, now),
            permit,
        };
        // What is not spawned is dropped, and with it the ticket, which answers.
        let (Some(future), Some(executor)) = (registry.start(method, parts), &self.executor) else { return };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| executor(future))) {
            let text = panic_text(payload);
            log_event!(Panicked { what: "the executor", text });
            self.ends.count_work(CallNote::Panicked);
        }
        // The executor took time.
        self.clock = None;
    }
}
