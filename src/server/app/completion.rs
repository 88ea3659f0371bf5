//! Completion: how completed calls reach the reactor, and the answers of those that workers have run and handlers have
//! deferred, each call once.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use coreloop_bufpool::Chunk;
use coreloop_poller::Key;

use super::end::CallEnd;
use super::{Cx, Dispatcher, RpcApp, SPARE_MAX};
use crate::config::{Limits, TraceConfig};
use crate::context::{CompletionSink, DeferredReply, RunMethod, code_of, reply_too_large};
use crate::message::{ReplyExtras, SendBody};
use crate::policy::run_queue::ShedReason;
use crate::reactor::{Conns, Remote};
#[cfg(feature = "admin")]
use crate::server::live::InspectRequest;
use crate::service::Registry;
use crate::service::interceptor::EndPlace;
use crate::stats::micros;
use crate::stream::{CallStreams, Outbox, ReactorTask, StreamCommand, StreamPort};
use crate::workers::batch::CallNote;
use crate::workers::{Pools, WorkBatch, WorkPool};

/// What workers and handlers return to a server's reactor.
pub(crate) enum Completion {
    /// A batch whose requests were run.
    Done(Box<WorkBatch>),
    /// A deferred answer.
    Late(DeferredReply),
    /// A command of a sink or a stream.
    Stream(StreamCommand),
    /// A task that runs on the reactor's thread.
    Task(Arc<dyn ReactorTask>),
    /// Values of the configuration that have changed.
    Configure(Arc<LiveConfig>),
    /// A question of an operator.
    #[cfg(feature = "admin")]
    Inspect(Box<InspectRequest>),
    /// Nothing: what was sent at the end of a turn is written in the next.
    Nudge,
}

/// The values of the configuration that reactors can change.
pub(crate) struct LiveConfig {
    pub(crate) limits: Limits,
    /// If they have changed. A tracer of the program has settings of its own otherwise.
    pub(crate) trace: Option<TraceConfig>,
}

/// Completes through the mailbox of the reactor.
pub(super) struct MailCompletions {
    remote: Remote<Completion>,
    pools: Arc<Pools>,
    /// The streams of calls whose handlers have not taken them, by connection and slot. Handlers run on other threads.
    streams: Mutex<HashMap<(Key, u32), CallStreams>>,
}

impl MailCompletions {
    pub(super) fn new(remote: Remote<Completion>, pools: Arc<Pools>) -> MailCompletions {
        MailCompletions { remote, pools, streams: Mutex::default() }
    }

    /// Returns a number for the reactor, which other reactors of the process do not have.
    pub(super) fn owner(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<(Key, u32), CallStreams>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the streams of a call until its handler takes them.
    pub(super) fn keep(&self, key: Key, slot: u32, streams: CallStreams) {
        self.streams().insert((key, slot), streams);
    }

    /// Takes the streams of a call for its handler.
    pub(super) fn take(&self, key: Key, slot: u32) -> Option<CallStreams> {
        self.streams().remove(&(key, slot))
    }

    /// Drops the streams of a call whose handler did not run.
    pub(super) fn forget(&self, key: Key, slot: u32) {
        drop(self.take(key, slot));
    }

    /// Drops the streams of all calls of a connection whose handlers have not run.
    pub(super) fn forget_all(&self, key: Key) {
        let mut kept = self.streams();
        if !kept.is_empty() {
            kept.retain(|(connection, _), _| *connection != key);
        }
    }

    pub(super) fn nudge(&self) {
        let _ = self.remote.mail(Completion::Nudge);
    }
}

impl CompletionSink for MailCompletions {
    fn late(&self, late: DeferredReply) {
        // If the reactor has ended, so has the connection.
        let _ = self.remote.mail(Completion::Late(late));
    }

    fn take_attachment(&self, key: Key, slot: u32) -> Option<Box<dyn Any + Send>> {
        Some(Box::new(self.take(key, slot)?))
    }
}

impl StreamPort for MailCompletions {
    fn post(&self, command: StreamCommand) {
        // If the reactor has ended, so has the connection.
        let _ = self.remote.mail(Completion::Stream(command));
    }

    fn post_here(&self, command: StreamCommand) -> Result<(), StreamCommand> {
        Outbox::collect(self.owner(), command)
    }

    fn run_callback(&self, callback: Box<dyn FnOnce() + Send>) {
        self.pools.run_callback(callback);
    }

    fn run_task(&self, task: Arc<dyn ReactorTask>) {
        let _ = self.remote.mail(Completion::Task(task));
    }
}

impl Dispatcher {
    pub(super) fn on_done(&mut self, conns: &mut Conns<'_, RpcApp>, mut batch: Box<WorkBatch>) {
        // The batch itself is counted with its last part.
        let mut completed = u32::from(!batch.is_part);
        let now = conns.now();
        if !self.run_queue.is_empty() {
            self.run_queue.on_returned(batch.ended, Instant::now());
        }
        for index in 0..batch.done.len() {
            let chunk = batch.take_chunk_of(index);
            let done = &batch.done[index];
            self.ends.count_work(done.note);
            let ran = matches!(done.note, CallNote::Ran | CallNote::Panicked);
            let latency_ns = u64::from(done.queue_us) * 1000 + u64::from(done.took_ns);
            let took_ns = ran.then_some(done.took_ns);
            self.run_queue.on_ended(batch.pool, done.method, done.cost, took_ns, latency_ns, now);
            let Some(code) = done.code else { continue };
            completed += 1;
            let body = chunk.map_or_else(|| SendBody::Bytes(batch.body_of(done)), SendBody::Chunk);
            let place = match done.note {
                CallNote::Ran | CallNote::Panicked | CallNote::Removed => EndPlace::Worker,
                CallNote::LateAtDequeue => EndPlace::LateAtDequeue,
                CallNote::TooLateToStart => EndPlace::Shed(ShedReason::TooLateToStart),
                CallNote::NotTaken => EndPlace::Shed(ShedReason::QueueFull),
            };
            let ended = CallEnd {
                place,
                code,
                queue_us: done.queue_us,
                handler_us: done.handler_us,
                compressed: done.compressed,
                extras: batch.extras_of(index),
                body,
            };
            if let EndPlace::Shed(_) = place {
                self.end_shed(conns, batch.pool, done.key, done.slot, ended);
            } else {
                conns.with(done.key, |cx| self.end_work(cx, done.slot, ended));
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
        batch.begin(number, self.inline_scope.clone(), WorkPool::Cpu, now);
        // Kept for a later turn, within bounds.
        let spare_bytes = self.spare_bytes + batch.capacity_bytes();
        if self.spare_batches.len() < SPARE_MAX && spare_bytes <= self.spare_bytes_max {
            self.spare_bytes = spare_bytes;
            self.spare_batches.keep(batch);
        }
        if completed > 0 {
            self.complete(number, completed);
        }
    }

    /// Ends a call that was admitted and is shed: its answer says when to try again.
    #[cold]
    pub(super) fn end_shed(
        &mut self,
        conns: &mut Conns<'_, RpcApp>,
        pool: WorkPool,
        key: Key,
        slot: u32,
        ended: CallEnd<'_>,
    ) {
        let extras = ReplyExtras::retry_after(self.run_queue.retry_after_ms(pool));
        conns.with(key, |cx| self.end_work(cx, slot, CallEnd { extras: Some(&extras), ..ended }));
    }

    pub(super) fn on_deferred(
        &mut self,
        registry: &Registry,
        conns: &mut Conns<'_, RpcApp>,
        mut late: DeferredReply,
    ) {
        let bytes_max = registry.reply_bytes_max();
        let bytes = late.result.as_ref().map_or_else(|status| status.message.len(), |chunk| chunk.len());
        if bytes > bytes_max && !late.compressed {
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
        let mut extras = late.extras;
        if let Err(status) = &late.result
            && status.has_extras()
        {
            extras.get_or_insert_default().add_status(status);
        }
        let body = match late.result {
            Ok(chunk) => SendBody::Chunk(chunk),
            Err(status) => SendBody::Chunk(Chunk::from(status.message.into_bytes())),
        };
        let place = EndPlace::Deferred;
        let ended = CallEnd {
            place,
            code,
            queue_us: late.queue_us,
            handler_us,
            compressed: late.compressed,
            extras: extras.as_deref(),
            body,
        };
        self.end_work(cx, late.slot, ended);
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
                self.spare_scopes.keep(scope);
            }
        }
    }
}
