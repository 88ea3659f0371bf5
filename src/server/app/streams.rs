//! Streaming calls: opening them, their messages in both directions, credit, and calls whose peer broke a rule.
//!
//! A streaming call is a call of the session's table, as every call; while it is not answered, its streams are in the
//! session's [`StreamTable`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_poller::{Key, probes};

use super::{Cx, Dispatcher, RpcApp};
use crate::codec::Codec;
use crate::conn::calls::Calls;
use crate::conn::streams::{
    CreditVerdict, DataVerdict, StreamKey, StreamMessage, StreamTable, StreamWindows,
};
use crate::context::DeferredReply;
use crate::message::{
    BrokenCall, IncomingData, JsonDialect, Metadata, Outgoing, OutgoingReply, Request, SendBody, Span,
};
use crate::policy::fair::SourceId;
use crate::reactor::Conns;
use crate::service::interceptor::EndPlace;
use crate::service::{Kind, Method, Registry};
use crate::status::Status;
use crate::stream::{
    CallStreams, Gate, IncomingLink, Pushed, ReactorTask, SinkLink, StreamAction, StreamAddress,
    StreamCommand, StreamOrigin, StreamPort, report_bytes, send_message,
};
use crate::wire::{Protocol, StreamSupport};
use crate::workers::WorkPool;

/// The bytes of a reply or a pong without its body.
pub(super) const FRAME_HEADER_BYTES: usize = 32;

/// What the server keeps for the streams of a call.
pub(super) struct StreamState {
    sink: Option<Arc<SinkLink>>,
    incoming: Option<Arc<IncomingLink>>,
    codec: u8,
    /// The answer of the call, which waits until its messages are sent.
    pub(super) answer: Option<DeferredReply>,
}

impl StreamState {
    pub(super) fn end(&self, status: &Status) {
        if let Some(sink) = &self.sink {
            sink.end(status);
        }
        if let Some(incoming) = &self.incoming {
            incoming.end(Err(status.clone()));
        }
    }
}

/// The calls of one connection of a server.
pub(in crate::server) struct ServerSession {
    /// The calls in flight.
    pub(in crate::server) calls: Calls,
    /// Absent until the first frame of a stream.
    pub(super) streams: Option<Box<SessionStreams>>,
    /// The sources of its calls in the run queue, by pool, once a call has had to wait.
    pub(super) sources: [SourceId; WorkPool::ALL.len()],
}

pub(super) struct SessionStreams {
    pub(super) table: StreamTable<StreamState>,
    gate: Arc<Gate>,
    /// The time of the next look at the peer's silence, while streams are open.
    pub(super) keepalive_at: Option<Instant>,
    /// When a ping was sent that is not answered.
    pub(super) pinged_at: Option<Instant>,
}

impl ServerSession {
    pub(super) const fn new() -> ServerSession {
        ServerSession { calls: Calls::new(), streams: None, sources: [SourceId::NONE; WorkPool::ALL.len()] }
    }

    /// Checks the credit of the streams, and returns their number.
    #[cfg(feature = "bench-internals")]
    pub(in crate::server) fn check_streams(&self) -> usize {
        let Some(streams) = &self.streams else { return 0 };
        streams.table.check();
        streams.table.len()
    }

    /// Returns the next time at which something is due for a call or for the open streams.
    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let call = self.calls.next_deadline();
        match &self.streams {
            None => call,
            Some(streams) => [call, streams.keepalive_at].into_iter().flatten().min(),
        }
    }
}

pub(super) fn table<'a>(cx: &'a mut Cx<'_>) -> &'a mut SessionStreams {
    let (limits, has_credit) = (cx.limits(), has_credit(cx));
    let windows = StreamWindows {
        stream_bytes: u32::try_from(limits.stream_window_bytes).unwrap_or(u32::MAX),
        connection_bytes: u32::try_from(limits.connection_window_bytes).unwrap_or(u32::MAX),
    };
    cx.session.streams.get_or_insert_with(|| {
        let table = StreamTable::new(windows);
        Box::new(SessionStreams {
            table: if has_credit { table } else { table.without_send_windows() },
            gate: Arc::new(Gate::default()),
            keepalive_at: None,
            pinged_at: None,
        })
    })
}

/// Why a stream is cancelled that needs more from its caller.
const INPUT_ENDED: &str = "the connection receives nothing more from the caller";

/// Whether the peer grants credit for what it receives, and answers pings. Otherwise sinks send while not too many bytes
/// wait to be written, which is what the gate says.
fn has_credit(cx: &Cx<'_>) -> bool {
    cx.protocol().stream_support() == StreamSupport::Both
}

impl Dispatcher {
    // Opening.

    /// Handles a call whose argument follows in data frames.
    #[cold]
    pub(super) fn on_open(&mut self, registry: &Registry, cx: &mut Cx<'_>, request: &Request) {
        probes::call_begin(request.id, request.method, cx.key().to_bits());
        let Some(index) = registry.index_of(request.method) else {
            return self.refuse_unknown(cx, request);
        };
        let method = registry.method(index);
        if method.is_observed() && self.is_dispatched_slow(cx, request, method) {
            return self.on_intercepted(registry, cx, request, index, method, true);
        }
        if let Err(status) = super::admit(method, request, cx) {
            return self.refuse_at(cx, request, Some(index), EndPlace::Refused, &status);
        }
        if cx.session.calls.contains(request.id) {
            let status = super::duplicate_id(request.id);
            return self.refuse_at(cx, request, Some(index), EndPlace::Refused, &status);
        }
        self.begin_streaming(registry, cx, request, index, method, true);
    }

    /// Begins a call of a method with streams, unless its connection or its request does not allow them. Its request
    /// was admitted otherwise, and is passed to the interceptors here.
    #[inline(never)]
    pub(super) fn begin_streaming(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        is_open: bool,
    ) {
        let (name, shape) = (method.name(), method.shape());
        let is_carried = match cx.protocol().stream_support() {
            StreamSupport::Unary => false,
            StreamSupport::ResultOnly => !shape.receives(),
            StreamSupport::Both => true,
        };
        let refusal = if !is_carried {
            Some(Status::unimplemented(format!("{name} has a stream, which this protocol does not carry")))
        } else if request.one_way {
            Some(Status::invalid_argument(format!("{name} has a stream, and cannot be called one-way")))
        } else if request.id == 0 && has_credit(cx) {
            // In credit, 0 is the connection.
            Some(Status::invalid_argument("a streaming call has an id other than 0"))
        } else if is_open && !shape.receives() {
            Some(Status::invalid_argument(format!(
                "the argument of {name} is one message in the request, not a stream of data frames"
            )))
        } else if shape.receives() && !is_open {
            Some(Status::invalid_argument(format!(
                "the argument of {name} is a stream of data frames, and the request has no flag that says so"
            )))
        } else if cx.streams() >= cx.limits().streams_max {
            let max = cx.limits().streams_max;
            Some(Status::resource_exhausted(format!("the connection has {max} open streams (streams_max)")))
        } else {
            None
        };
        if let Some(status) = refusal {
            return self.refuse_at(cx, request, Some(index), EndPlace::Refused, &status);
        }
        self.observe_admitted(cx, request, index, method, is_open);
        match method.runs() {
            Kind::Inline if self.attached.is_pending => self.gather(cx, request, index, method),
            Kind::Inline => self.run_inline_deferring(registry, cx, request, index, method),
            Kind::Pooled => self.gather(cx, request, index, method),
            Kind::Blocking => self.hand_over_one(cx, request, index, method),
            Kind::Async => self.spawn(registry, cx, request, index, method),
        }
    }

    /// Opens the streams of a call that has been given its slot, and keeps them for the handler.
    pub(super) fn open_streams(&mut self, cx: &mut Cx<'_>, request: &Request, slot: u32, method: &Method) {
        let shape = method.shape();
        let (connection, port) = (cx.key(), self.sink.clone());
        let message_bytes_max = cx.limits().frame_bytes_max;
        let limits = cx.limits();
        let report_bytes =
            report_bytes(limits.connection_window_bytes, limits.stream_window_bytes, limits.streams_max);
        let keepalive_at = cx.now() + Duration::from_millis(cx.limits().stream_keepalive_ms);
        let has_credit = has_credit(cx);
        let streams = table(cx);
        let gate = streams.gate.clone();
        let credit_bytes = streams.table.send_stream_bytes();
        if has_credit {
            streams.keepalive_at.get_or_insert(keepalive_at);
        }
        let (codec, dialect) = JsonDialect::split(request.codec);
        let mut links = None;
        let (key, credit) = streams.table.open(request.id, shape.receives(), shape.sends(), |stream| {
            let origin = StreamOrigin {
                port,
                address: StreamAddress { connection, stream }.into(),
                caller: None,
                // The codec was checked on admission.
                codec: Codec::from_number(codec).unwrap_or(Codec::Raw),
                rules: method.value_rules(dialect),
                compresses: request.compressed,
                message_bytes_max,
                report_bytes,
                is_inline: method.runs() == Kind::Inline,
            };
            let incoming = shape.receives().then(|| IncomingLink::new(origin.clone()));
            let sink = shape.sends().then(|| SinkLink::new(origin, gate, credit_bytes));
            if let Some(sink) = sink.as_ref().filter(|_| !has_credit) {
                sink.lift_credit();
            }
            links = Some(CallStreams { sink: sink.clone(), incoming: incoming.clone() });
            StreamState { sink, incoming, codec, answer: None }
        });
        debug_assert!(self.streams_of(cx, request.id) == Some(key));
        if let Some(links) = links {
            self.sink.keep(connection, slot, links);
        }
        send_credit(cx, request.id, credit.stream);
        send_credit(cx, 0, credit.connection);
    }

    /// Handles the windows that the caller grants.
    #[cold]
    pub(super) fn on_hello(&mut self, cx: &mut Cx<'_>, metadata: Span) {
        // The protocol has checked it.
        let windows = StreamWindows::of_hello(Metadata::checked_before(cx.bytes(metadata)));
        table(cx).table.on_hello(windows);
    }

    fn streams_of(&self, cx: &Cx<'_>, id: u64) -> Option<StreamKey> {
        cx.session.streams.as_ref()?.table.find(id)
    }

    // Messages from the peer.

    /// Handles a message of a stream.
    pub(super) fn on_data(&mut self, cx: &mut Cx<'_>, data: &IncomingData) {
        match table(cx).table.on_data(data.id, data.frame_bytes) {
            DataVerdict::Deliver(key) => self.deliver(cx, key, data),
            DataVerdict::Discard { connection } => {
                send_credit(cx, 0, connection);
                let text = "a data frame for a call whose argument is complete";
                self.break_call(cx, data.id, &Status::invalid_argument(text));
            }
            DataVerdict::Break { status, connection, .. } => {
                send_credit(cx, 0, connection);
                self.break_call(cx, data.id, &status);
            }
        }
    }

    fn deliver(&mut self, cx: &mut Cx<'_>, key: StreamKey, data: &IncomingData) {
        let streams = table(cx);
        let Some((_, state)) = streams.table.get(key) else { return };
        if data.codec != state.codec {
            let status = Status::invalid_argument(format!(
                "a data frame in codec {}; the request is in codec {}",
                data.codec, state.codec
            ));
            return self.break_call(cx, data.id, &status);
        }
        let Some(incoming) = state.incoming.clone() else { return };
        let (owner, body) = (self.owner(), cx.bytes(data.body));
        let (pushed, commands) =
            self.outbox.scope(owner, || incoming.push(body, data.compressed, data.frame_bytes));
        self.apply_all(cx, commands);
        match pushed {
            Pushed::Queued => {}
            Pushed::Taken => self.on_taken(cx, key, u64::from(data.frame_bytes)),
            Pushed::Broken(status) => self.break_call(cx, data.id, &status),
        }
    }

    /// Handles the end of a caller's messages.
    pub(super) fn on_end(&mut self, cx: &mut Cx<'_>, id: u64) {
        match table(cx).table.on_end(id) {
            Some(Ok(key)) => {
                let incoming = table(cx).table.get(key).and_then(|(_, state)| state.incoming.clone());
                if let Some(incoming) = incoming {
                    let ((), commands) = self.outbox.scope(self.sink.owner(), || incoming.end(Ok(())));
                    self.apply_all(cx, commands);
                }
            }
            Some(Err((_, status))) => self.break_call(cx, id, &status),
            None => {
                let text = "an end frame for a call whose argument is complete";
                self.break_call(cx, id, &Status::invalid_argument(text));
            }
        }
    }

    /// Handles credit from the peer.
    pub(super) fn on_credit(&mut self, cx: &mut Cx<'_>, id: u64, bytes: u32) {
        match table(cx).table.on_credit(id, bytes) {
            CreditVerdict::Stream(key) => {
                self.send_held(cx);
                let sink = table(cx).table.get(key).and_then(|(_, state)| state.sink.clone());
                if let Some(sink) = sink {
                    let ((), commands) = self.outbox.scope(self.sink.owner(), || sink.add_credit(bytes));
                    self.apply_all(cx, commands);
                }
            }
            CreditVerdict::Connection => self.send_held(cx),
            CreditVerdict::Ignored => {}
            CreditVerdict::StreamTooLarge(_, status) => self.break_call(cx, id, &status),
            CreditVerdict::ConnectionTooLarge(status) => {
                // No call ends with this answer: it is the connection's.
                cx.send(Outgoing::Reply(OutgoingReply {
                    id: 0,
                    codec: 0,
                    compressed: false,
                    code: status.code,
                    queue_us: 0,
                    handler_us: 0,
                    extras: None,
                    body: SendBody::Bytes(status.message.as_bytes()),
                }));
                cx.close();
            }
        }
    }

    /// Ends a call whose peer broke a rule in a frame of the call.
    #[cold]
    pub(super) fn on_call_broken(&mut self, cx: &mut Cx<'_>, broken: BrokenCall) {
        if broken.frame_bytes > 0 {
            let connection = table(cx).table.on_dropped(broken.frame_bytes);
            send_credit(cx, 0, connection);
        }
        self.break_call(cx, broken.id, &Status::new(broken.code, broken.message));
    }

    /// Answers the call with this id, if it is in flight. Otherwise the frame has crossed the answer.
    fn break_call(&mut self, cx: &mut Cx<'_>, id: u64, status: &Status) {
        if let Some(call) = cx.session.calls.answer_by_id(id).cloned() {
            self.end_early(cx, &call, EndPlace::Broken, status);
        }
    }

    /// Answers a ping. While messages are received that no other limit stops, unwritten pongs are bounded.
    pub(super) fn on_ping(&mut self, cx: &mut Cx<'_>, id: u64) {
        cx.send(Outgoing::Pong { id });
        cx.note_refusal(FRAME_HEADER_BYTES);
    }

    /// Cancels what cannot go on when nothing more is received: calls whose argument has not ended, and those that
    /// need more credit. A peer that grants none has no other way to give up: its stream is cancelled.
    pub(super) fn on_stream_input_end(&mut self, cx: &mut Cx<'_>) {
        let has_credit = has_credit(cx);
        let Some(streams) = &cx.session.streams else { return };
        let needs_credit = |state: &StreamState| state.sink.as_ref().is_some_and(|sink| sink.close_credit());
        let is_over = |key| streams.table.is_receiving(key) || streams.table.is_holding(key);
        let over: Vec<u64> = streams
            .table
            .iter()
            .filter(|(key, state)| !has_credit || is_over(*key) | needs_credit(state))
            .filter_map(|(key, _)| streams.table.get(key).map(|(id, _)| id))
            .collect();
        for id in over {
            self.break_call(cx, id, &Status::cancelled(INPUT_ENDED));
        }
    }

    // Commands of sinks and streams.

    fn owner(&self) -> usize {
        self.sink.owner()
    }

    /// Handles a command from the mailbox.
    pub(super) fn on_stream_command(&mut self, conns: &mut Conns<'_, RpcApp>, command: StreamCommand) {
        conns.with(command.address.connection, |cx| {
            if let StreamAction::Send(_) | StreamAction::Headers(_) = command.action
                && let Some((_, state)) = table(cx).table.get(command.address.stream)
                && let Some(sink) = &state.sink
            {
                sink.left_mailbox();
            }
            self.apply(cx, command);
        });
    }

    /// Handles the commands that callbacks have posted for other connections than their own.
    pub(super) fn apply_deferred(&mut self, conns: &mut Conns<'_, RpcApp>) {
        while let Some(command) = self.deferred.pop_front() {
            conns.with(command.address.connection, |cx| self.apply(cx, command));
        }
    }

    /// Runs a task of this reactor, and applies what it has posted.
    pub(super) fn run_task(&mut self, conns: &mut Conns<'_, RpcApp>, task: Arc<dyn ReactorTask>) {
        let (again, mut commands) = self.outbox.scope(self.sink.owner(), || task.clone().run());
        self.posted.extend(commands.drain(..));
        self.outbox.recycle(commands);
        self.is_applying = true;
        self.is_applying_all = true;
        while let Some(command) = self.posted.pop_front() {
            conns.with(command.address.connection, |cx| self.apply(cx, command));
        }
        self.is_applying = false;
        self.is_applying_all = false;
        if again {
            // Other work comes first.
            self.sink.run_task(task);
        }
    }

    /// Handles the commands that callbacks have posted on this thread, and those that they cause, in order. The latter
    /// come here too, and wait for their turn: each message of a stream may cause the next.
    pub(super) fn apply_all(&mut self, cx: &mut Cx<'_>, mut commands: Vec<StreamCommand>) {
        let is_nested = self.is_applying;
        for command in commands.drain(..) {
            // For another connection of this reactor it waits, and so does what is posted after it.
            let is_for_here = self.is_applying_all || command.address.connection == cx.key();
            let list =
                if is_for_here && self.deferred.is_empty() { &mut self.posted } else { &mut self.deferred };
            list.push_back(command);
        }
        self.outbox.recycle(commands);
        if is_nested || self.posted.is_empty() {
            return;
        }
        self.is_applying = true;
        while let Some(command) = self.posted.pop_front() {
            self.apply(cx, command);
        }
        self.is_applying = false;
    }

    fn apply(&mut self, cx: &mut Cx<'_>, command: StreamCommand) {
        let key = command.address.stream;
        match command.action {
            StreamAction::Send(message) => self.send_message(cx, key, message),
            StreamAction::Headers(headers) => {
                if let Some((id, state)) = table(cx).table.get(key) {
                    let codec = state.codec;
                    cx.send(Outgoing::Headers { id, codec, metadata: headers.as_bytes() });
                }
            }
            StreamAction::Taken(bytes) => self.on_taken(cx, key, bytes),
            // A handler's sink ends the call with its answer.
            StreamAction::End => {}
            StreamAction::Break(status) => {
                if let Some(id) = table(cx).table.get(key).map(|(id, _)| id) {
                    self.break_call(cx, id, &status);
                }
            }
        }
    }

    fn on_taken(&mut self, cx: &mut Cx<'_>, key: StreamKey, bytes: u64) {
        let table = &mut table(cx).table;
        let credit = table.taken(key, bytes);
        let id = table.get(key).map(|(id, _)| id);
        if let Some(id) = id {
            send_credit(cx, id, credit.stream);
        }
        send_credit(cx, 0, credit.connection);
    }

    fn send_message(&mut self, cx: &mut Cx<'_>, key: StreamKey, message: StreamMessage) {
        let bytes = message.frame_bytes();
        let streams = table(cx);
        let Some((id, state)) = streams.table.get(key) else { return };
        let codec = state.codec;
        let may_be_ready = state.sink.as_ref().is_some_and(|sink| sink.on_taken(bytes));
        let waits = may_be_ready.then(|| state.sink.clone()).flatten();
        match streams.table.send(key, message) {
            Some(message) => send_message(id, codec, message, |outgoing| cx.send(outgoing)),
            None if !cx.is_open() => {
                return self.break_call(cx, id, &Status::cancelled(INPUT_ENDED));
            }
            None => {}
        }
        self.close_gate(cx);
        // What is sent on a closed connection is dropped, and would never close the gate.
        if let Some(sink) = waits.filter(|_| !cx.is_closed()) {
            let ((), commands) = self.outbox.scope(self.sink.owner(), || sink.notify());
            self.apply_all(cx, commands);
        }
    }

    /// Sends messages that waited for credit, and then the answers that waited for them.
    fn send_held(&mut self, cx: &mut Cx<'_>) {
        while let Some((key, message)) = table(cx).table.next_sendable() {
            let streams = table(cx);
            let Some((id, state)) = streams.table.get(key) else { continue };
            let codec = state.codec;
            send_message(id, codec, message, |outgoing| cx.send(outgoing));
            let streams = table(cx);
            if !streams.table.is_holding(key)
                && let Some(answer) = streams.table.data_mut(key).and_then(|state| state.answer.take())
            {
                let batch = answer.batch;
                self.end_deferred(cx, answer);
                self.complete(batch, 1);
            }
        }
        self.close_gate(cx);
    }

    /// Closes the gate of the connection's sinks while too many bytes wait.
    fn close_gate(&mut self, cx: &mut Cx<'_>) {
        let (limits, out_len) = (cx.limits(), cx.waiting_bytes());
        let (high, held_max) = (limits.write_queue_high_bytes, limits.held_bytes_max);
        let key = cx.key();
        let Some(streams) = &cx.session.streams else { return };
        if out_len < high && streams.table.held_bytes() < held_max {
            return;
        }
        streams.gate.set_closed(true);
        if !self.gated.contains(&key) {
            self.gated.push(key);
        }
    }

    /// Opens the gates of connections whose bytes have left.
    pub(super) fn open_gates(&mut self, conns: &mut Conns<'_, RpcApp>) {
        let gated = std::mem::take(&mut self.gated);
        for key in gated {
            conns.with(key, |cx| self.open_gate(cx, key));
        }
    }

    fn open_gate(&mut self, cx: &mut Cx<'_>, key: Key) {
        let (limits, out_len) = (cx.limits(), cx.waiting_bytes());
        let (low, held_low) = (limits.write_queue_low_bytes, limits.held_bytes_max / 2);
        let Some(streams) = &cx.session.streams else { return };
        if out_len > low || streams.table.held_bytes() > held_low {
            self.gated.push(key);
            return;
        }
        if streams.gate.set_closed(false) {
            let sinks: Vec<Arc<SinkLink>> =
                streams.table.iter().filter_map(|(_, state)| state.sink.clone()).collect();
            let ((), commands) = self.outbox.scope(self.sink.owner(), || {
                for sink in &sinks {
                    sink.notify();
                }
            });
            self.apply_all(cx, commands);
            // What was sent now is written in the next turn.
            self.sink.nudge();
        }
    }
}

pub(super) fn send_credit(cx: &mut Cx<'_>, id: u64, credit: Option<u32>) {
    if let Some(bytes) = credit {
        cx.send(Outgoing::Credit { id, bytes });
    }
}
