//! Answers to the questions of operators: what the reactor has in flight. Each answer is bounded in entries and time.

use std::time::{Duration, Instant};

use super::forwarded::peer_of;
use super::{RpcApp, ServerSession};
use crate::conn::calls::{ConnCall, WorkPlace};
use crate::reactor::Conns;
use crate::server::live::{
    ENTRIES_MAX, INSPECT_MAX, InspectRequest, Listed, LiveCall, LiveCallId, LiveConnection, QueueState,
};
use crate::service::interceptor::EndPlace;
use crate::status::Status;
use crate::wire::{Protocol, ProtocolId, ServerProtocol};
use crate::workers::WorkPool;

/// The clock is read once for this many connections.
const CONNECTIONS_PER_CHECK: usize = 64;

impl RpcApp {
    #[cold]
    pub(super) fn inspect(&mut self, conns: &mut Conns<'_, RpcApp>, request: InspectRequest) {
        // If the page has given up, its channel is closed.
        match request {
            InspectRequest::Calls(answer) => drop(answer.try_send(self.live_calls(conns))),
            InspectRequest::Connections(answer) => drop(answer.try_send(live_connections(conns))),
            InspectRequest::Queue(answer) => drop(answer.try_send(self.queue_state())),
            InspectRequest::Cancel(call, answer) => drop(answer.try_send(self.cancel_call(conns, call))),
        }
    }

    fn live_calls(&self, conns: &Conns<'_, RpcApp>) -> Listed<LiveCall> {
        // A turn may be long: its begin would make everything look younger.
        let now = Instant::now();
        let mut listed = Listed::new();
        for (index, view) in conns.views().enumerate() {
            if listed.entries.len() >= ENTRIES_MAX || is_late(index, now) {
                listed.is_cut = true;
                break;
            }
            for (slot, call) in view.session.calls.slots() {
                if listed.entries.len() >= ENTRIES_MAX {
                    listed.is_cut = true;
                    break;
                }
                listed.entries.push(LiveCall {
                    call: LiveCallId { connection: view.key, slot, id: call.id },
                    method: self.registry.method(call.method).name().to_owned(),
                    peer: peer_of(call.extensions.as_deref(), view.peer),
                    protocol: name_of(view.conn.protocol()),
                    age: call.begun.map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun)),
                    stage: stage_of(view.session, call),
                    time_left: call.deadline.map(|deadline| deadline.saturating_duration_since(now)),
                    argument_bytes: call.body_bytes,
                    one_way: call.one_way,
                });
            }
        }
        listed
    }

    fn queue_state(&self) -> QueueState {
        let queue = &self.dispatcher.run_queue;
        let pools = [WorkPool::Cpu, WorkPool::Blocking];
        QueueState {
            waiting: pools.map(|pool| queue.waiting(pool)),
            waiting_max: self.dispatcher.side.limits.run_queue_max,
            running: pools.map(|pool| queue.running(pool)),
            work_ns: pools.map(|pool| queue.work_ns(pool)),
            load_ns: queue.load_ns(),
            limit: queue.adaptive_limit(),
        }
    }

    fn cancel_call(&mut self, conns: &mut Conns<'_, RpcApp>, call: LiveCallId) -> bool {
        let dispatcher = &mut self.dispatcher;
        let cancelled = conns.with(call.connection, |cx| {
            let is_same = cx.session.calls.get(call.slot).is_some_and(|found| found.id == call.id);
            if !is_same {
                return false;
            }
            let Some(found) = cx.session.calls.answer_by_id(call.id).cloned() else { return false };
            let status = Status::cancelled("an operator cancelled the call");
            dispatcher.end_early(cx, &found, EndPlace::Cancelled, &status);
            true
        });
        cancelled == Some(true)
    }
}

fn live_connections(conns: &Conns<'_, RpcApp>) -> Listed<LiveConnection> {
    let now = Instant::now();
    let mut listed = Listed { is_cut: conns.len() > ENTRIES_MAX, ..Listed::new() };
    for (index, view) in conns.views().take(ENTRIES_MAX).enumerate() {
        if is_late(index, now) {
            listed.is_cut = true;
            break;
        }
        let conn = view.conn;
        listed.entries.push(LiveConnection {
            connection: view.key,
            peer: view.peer,
            protocol: name_of(conn.protocol()),
            state: conn.state_name(),
            age: now.saturating_duration_since(conn.since()),
            silent: now.saturating_duration_since(conn.last_heard()),
            in_flight: conn.in_flight(),
            streams: conn.streams(),
            unwritten_bytes: conn.out_len() + conn.protocol().held_bytes(),
        });
    }
    listed
}

fn is_late(index: usize, began: Instant) -> bool {
    index % CONNECTIONS_PER_CHECK == CONNECTIONS_PER_CHECK - 1 && began.elapsed() >= INSPECT_MAX
}

fn name_of(protocol: &ServerProtocol) -> &'static str {
    protocol.id().map_or("", ProtocolId::name)
}

fn stage_of(session: &ServerSession, call: &ConnCall) -> &'static str {
    if call.is_answered() {
        return "ended";
    }
    if matches!(call.work, WorkPlace::Waiting { .. }) {
        return "queued";
    }
    if !call.is_streaming() {
        return "running";
    }
    let is_writing = session.streams.as_ref().is_some_and(|streams| {
        let state = streams.table.find(call.id).and_then(|key| streams.table.get(key));
        state.is_some_and(|(_, state)| state.answer.is_some())
    });
    if is_writing { "writing" } else { "streaming" }
}
