//! Streaming calls: how they end, and how a silent peer is found.

use std::time::Duration;

use coreloop_poller::Key;

use super::streams::{ServerSession, send_credit};
use super::{Cx, Dispatcher};
use crate::conn::calls::ConnCall;
use crate::context::DeferredReply;
use crate::message::Outgoing;
use crate::status::Status;

impl Dispatcher {
    /// Keeps the answer of a streaming call whose messages wait for credit. Returns it if none wait.
    pub(super) fn hold_answer(&mut self, cx: &mut Cx<'_>, answer: DeferredReply) -> Option<DeferredReply> {
        let Some(call) = cx.session.calls.get(answer.slot).filter(|call| !call.is_answered()) else {
            return Some(answer);
        };
        let id = call.id;
        let Some(streams) = &mut cx.session.streams else { return Some(answer) };
        let Some(key) = streams.table.find(id).filter(|key| streams.table.is_holding(*key)) else {
            return Some(answer);
        };
        if let Some(state) = streams.table.data_mut(key) {
            state.answer = Some(answer);
        }
        None
    }

    /// Closes the streams of a call that ends with its handler.
    pub(super) fn close_streams(&mut self, cx: &mut Cx<'_>, call: &ConnCall, slot: u32, status: &Status) {
        self.sink.forget(cx.key(), slot);
        if !call.is_answered() {
            self.end_streams(cx, call.id, status);
        }
    }

    /// Ends the streams of a call: held messages are dropped, and what was not taken returns as credit. If its answer
    /// waited for messages, the work of the call ends, too.
    pub(super) fn end_streams(&mut self, cx: &mut Cx<'_>, id: u64, status: &Status) {
        let Some(streams) = &mut cx.session.streams else { return };
        let Some(key) = streams.table.find(id) else { return };
        let Some((state, connection)) = streams.table.close(key) else { return };
        if streams.table.is_empty() {
            streams.keepalive_at = None;
            streams.pinged_at = None;
        }
        send_credit(cx, 0, connection);
        let ((), commands) = self.outbox.scope(self.sink.owner(), || state.end(status));
        self.apply_all(cx, commands);
        if let Some(answer) = state.answer {
            if cx.session.calls.end(answer.slot, &mut self.free_list).is_some() {
                self.ends.note_over(true);
                cx.end_stream();
            }
            self.complete(answer.batch, 1);
        }
    }

    /// Ends the streams of a connection that has closed.
    pub(super) fn end_all_streams(&mut self, key: Key, session: &mut ServerSession) {
        self.gated.retain(|gated| *gated != key);
        let Some(streams) = session.streams.take() else { return };
        self.sink.forget_all(key);
        let status = Status::cancelled("the connection of the caller has closed");
        let mut waiting = Vec::new();
        let ((), mut commands) = self.outbox.scope(self.sink.owner(), || {
            for (_, state) in streams.table.iter() {
                state.end(&status);
                waiting.extend(state.answer.as_ref().map(|answer| answer.batch));
            }
        });
        // The connection is gone, and so is what its streams asked for.
        commands.retain(|command| command.address.connection != key);
        self.deferred.extend(commands.drain(..));
        self.outbox.recycle(commands);
        for batch in waiting {
            self.complete(batch, 1);
        }
    }

    /// Pings a peer that has been silent for long while streams are open, and closes its connection if it does not
    /// answer.
    pub(super) fn look_after_peer(&mut self, cx: &mut Cx<'_>) {
        let (now, heard, is_open, limits) = (cx.now(), cx.last_heard(), cx.is_open(), cx.limits());
        let silence = Duration::from_millis(limits.stream_keepalive_ms);
        let patience = Duration::from_millis(limits.stream_keepalive_timeout_ms);
        let Some(streams) = &mut cx.session.streams else { return };
        if streams.keepalive_at.is_none_or(|at| at > now) {
            return;
        }
        match streams.pinged_at.filter(|at| heard <= *at) {
            Some(at) if now >= at + patience => cx.abort(std::io::ErrorKind::TimedOut),
            Some(at) => streams.keepalive_at = Some(at + patience),
            None if now < heard + silence => {
                streams.pinged_at = None;
                streams.keepalive_at = Some(heard + silence);
            }
            // A peer that has closed its sending half cannot answer.
            None if !is_open => streams.keepalive_at = None,
            None => {
                streams.pinged_at = Some(now);
                streams.keepalive_at = Some(now + patience);
                cx.send(Outgoing::Ping { id: 0 });
            }
        }
    }
}
