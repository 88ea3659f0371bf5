//! The streams of calls on one connection, as their caller has them: opening, messages, credit, and what breaks the
//! rules. The server's side is `server/app/streams.rs`.

use std::sync::Arc;

use coreloop_poller::Key;

use super::{ClientApp, Cx};
use crate::conn::streams::{
    CreditVerdict, DataVerdict, StreamKey, StreamMessage, StreamTable, StreamWindows,
};
use crate::message::{BrokenCall, IncomingData, Metadata, MetadataBuf, Outgoing, OutgoingCall, Span};
use crate::reactor::Conns;
use crate::status::Status;
use crate::stream::{
    CallStreams, Gate, IncomingLink, Pushed, ReactorTask, SinkLink, StreamAction, StreamAddress,
    StreamCommand, send_message,
};

/// The streams of one connection.
pub(super) struct CallerStreams {
    table: StreamTable<ClientStream>,
    gate: Arc<Gate>,
}

/// What the reactor keeps for the streams of a call.
pub(super) struct ClientStream {
    sink: Option<Arc<SinkLink>>,
    incoming: Option<Arc<IncomingLink>>,
    codec: u8,
    /// A message has arrived.
    has_messages: bool,
    /// The caller sends no more messages.
    is_ending: bool,
}

impl ClientStream {
    pub(super) fn of(streams: &CallStreams) -> ClientStream {
        ClientStream {
            sink: streams.sink.clone(),
            incoming: streams.incoming.clone(),
            codec: 0,
            has_messages: false,
            is_ending: false,
        }
    }
}

fn streams<'a>(cx: &'a mut Cx<'_>) -> &'a mut CallerStreams {
    let windows = cx.session.windows;
    cx.session.streams.get_or_insert_with(|| {
        Box::new(CallerStreams { table: StreamTable::new(windows), gate: Arc::new(Gate::new()) })
    })
}

/// Sends a streaming call, and lets its streams begin.
#[cold]
pub(super) fn open_streams(cx: &mut Cx<'_>, call: OutgoingCall<'_>, stream: ClientStream) {
    let (id, connection) = (call.id, cx.key());
    let (sink, incoming) = (stream.sink.clone(), stream.incoming.clone());
    let codec = call.codec;
    // The argument is a stream exactly where there is a sink.
    cx.send(if sink.is_some() { Outgoing::Open(call) } else { Outgoing::Request(call) });
    cx.begin_stream();
    let CallerStreams { table, gate } = streams(cx);
    let gate = gate.clone();
    let send_bytes = table.send_stream_bytes();
    let (stream, credit) =
        table.open(id, incoming.is_some(), sink.is_some(), |_| ClientStream { codec, ..stream });
    send_credit(cx, id, credit.stream);
    send_credit(cx, 0, credit.connection);
    let address = StreamAddress { connection, stream };
    if let Some(incoming) = incoming {
        incoming.open(address);
    }
    if let Some(sink) = sink {
        sink.open(address, gate, send_bytes);
    }
}

/// Releases the streams of a call that has ended or is given up.
#[inline]
pub(super) fn release_streams(cx: &mut Cx<'_>, id: u64) {
    if let Some(streams) = &mut cx.session.streams
        && let Some(key) = streams.table.find(id)
    {
        streams.table.release(key);
        if cfg!(debug_assertions) {
            streams.table.check();
        }
        cx.end_stream();
    }
}

/// Returns why a reply breaks the rules of a streaming call: where the result is a stream, an ok reply has no body.
pub(super) fn check_reply(streams: &CallStreams, is_ok: bool, body: Span) -> Result<(), Status> {
    if is_ok && streams.incoming.is_some() && !body.is_empty() {
        return Err(Status::internal(
            "the server sent a result in the reply of a call whose result is a stream",
        ));
    }
    Ok(())
}

fn send_credit(cx: &mut Cx<'_>, id: u64, credit: Option<u32>) {
    if let Some(bytes) = credit {
        cx.send(Outgoing::Credit { id, bytes });
    }
}

impl ClientApp {
    // Messages from the server.

    /// Handles a message of a stream.
    #[cold]
    pub(super) fn on_data(&mut self, cx: &mut Cx<'_>, data: &IncomingData) {
        match streams(cx).table.on_data(data.id, data.frame_bytes) {
            DataVerdict::Deliver(key) => self.deliver(cx, key, data),
            DataVerdict::Discard { connection } => {
                send_credit(cx, 0, connection);
                let text = "the server sent a data frame for a call without a stream";
                self.on_broken(cx, data.id, Status::internal(text));
            }
            DataVerdict::Break { status, connection, .. } => {
                send_credit(cx, 0, connection);
                let text = format!("the server broke a rule of the protocol: {}", status.message);
                self.on_broken(cx, data.id, Status::internal(text));
            }
        }
    }

    fn deliver(&mut self, cx: &mut Cx<'_>, key: StreamKey, data: &IncomingData) {
        let Some(stream) = streams(cx).table.data_mut(key) else { return };
        stream.has_messages = true;
        if data.codec != stream.codec {
            let (found, expected) = (data.codec, stream.codec);
            let status = Status::internal(format!(
                "the server sent a data frame in codec {found}; the request is in codec {expected}"
            ));
            on_taken(cx, key, u64::from(data.frame_bytes));
            return self.on_broken(cx, data.id, status);
        }
        let Some(incoming) = stream.incoming.clone() else { return };
        match incoming.push(cx.bytes(data.body), data.compressed, data.frame_bytes) {
            Pushed::Queued => {}
            Pushed::Taken => on_taken(cx, key, u64::from(data.frame_bytes)),
            Pushed::Broken(status) => {
                on_taken(cx, key, u64::from(data.frame_bytes));
                self.on_broken(cx, data.id, status);
            }
        }
    }

    /// Handles metadata before the first message of a call.
    #[cold]
    pub(super) fn on_headers(&mut self, cx: &mut Cx<'_>, id: u64, metadata: Span) {
        let has_messages = cx.session.streams.as_mut().is_some_and(|streams| {
            let key = streams.table.find(id);
            key.and_then(|key| streams.table.data_mut(key)).is_some_and(|stream| stream.has_messages)
        });
        let headers = MetadataBuf::of(Metadata::checked_before(cx.bytes(metadata)));
        let Some(promise) = cx.session.pending.at_mut(id) else { return };
        let text = match (std::mem::replace(&mut promise.has_headers, true), has_messages) {
            (true, _) => "the server sent headers twice",
            (false, true) => "the server sent headers after a message",
            (false, false) => return promise.keep_headers(headers),
        };
        self.on_broken(cx, id, Status::internal(text));
    }

    /// Handles the windows that the server grants.
    #[cold]
    pub(super) fn on_hello(&mut self, cx: &mut Cx<'_>, metadata: Span) {
        // The protocol has checked it.
        let windows = StreamWindows::of_hello(Metadata::checked_before(cx.bytes(metadata)));
        // The client opens streams before it knows the windows.
        let added = streams(cx).table.on_hello(windows);
        self.send_held(cx);
        let open = streams(cx).table.iter().filter_map(|(_, stream)| stream.sink.clone());
        let sinks: Vec<Arc<SinkLink>> = open.filter(|_| added > 0).collect();
        sinks.iter().for_each(|sink| sink.add_credit(added));
    }

    /// Handles credit from the server.
    #[cold]
    pub(super) fn on_credit(&mut self, cx: &mut Cx<'_>, id: u64, bytes: u32) {
        match streams(cx).table.on_credit(id, bytes) {
            CreditVerdict::Stream(key) => {
                self.send_held(cx);
                let sink = streams(cx).table.get(key).and_then(|(_, stream)| stream.sink.clone());
                if let Some(sink) = sink {
                    sink.add_credit(bytes);
                }
            }
            CreditVerdict::Connection => self.send_held(cx),
            CreditVerdict::Ignored => {}
            CreditVerdict::StreamTooLarge(_, status) => self.on_broken(cx, id, status),
            CreditVerdict::ConnectionTooLarge(_) => cx.abort(std::io::ErrorKind::InvalidData),
        }
    }

    /// Fails a call whose server broke a rule in one of its frames.
    #[cold]
    pub(super) fn on_call_broken(&mut self, cx: &mut Cx<'_>, broken: BrokenCall) {
        if broken.frame_bytes > 0 {
            let connection = streams(cx).table.on_dropped(broken.frame_bytes);
            send_credit(cx, 0, connection);
        }
        self.on_broken(cx, broken.id, Status::new(broken.code, broken.message));
    }

    // Commands of sinks and streams.

    /// Applies what callbacks on this thread have posted for the connection, and what that makes them post.
    #[cold]
    pub(super) fn apply_local(&mut self, cx: &mut Cx<'_>) {
        let mut elsewhere = Vec::new();
        while self.shared.local.has_any() {
            for command in self.shared.local.take() {
                if command.address.connection == cx.key() {
                    self.apply(cx, command);
                } else {
                    elsewhere.push(command);
                }
            }
        }
        self.shared.local.put_back(elsewhere);
    }

    /// Applies what callbacks on this thread have posted.
    pub(super) fn apply_all_local(&mut self, conns: &mut Conns<'_, ClientApp>) {
        while self.shared.local.has_any() {
            for command in self.shared.local.take() {
                conns.with(command.address.connection, |cx| self.apply(cx, command));
            }
        }
    }

    /// Handles a command from the mailbox.
    pub(super) fn on_stream_command(&mut self, conns: &mut Conns<'_, ClientApp>, command: StreamCommand) {
        conns.with(command.address.connection, |cx| {
            if matches!(command.action, StreamAction::Send(_) | StreamAction::End)
                && let Some((_, stream)) = streams(cx).table.get(command.address.stream)
                && let Some(sink) = &stream.sink
            {
                sink.left_mailbox();
            }
            self.apply(cx, command);
        });
    }

    /// Runs a task of this reactor.
    pub(super) fn run_task(&mut self, task: Arc<dyn ReactorTask>) {
        if task.clone().run() {
            // Other work comes first.
            let _ = self.remote.mail(super::ClientCommand::Task(task));
        }
    }

    fn apply(&mut self, cx: &mut Cx<'_>, command: StreamCommand) {
        let key = command.address.stream;
        match command.action {
            StreamAction::Send(message) => self.send_message(cx, key, message),
            StreamAction::Taken(bytes) => on_taken(cx, key, bytes),
            // A caller sends its metadata with the call.
            StreamAction::Headers(_) => {}
            StreamAction::End => {
                let Some(stream) = streams(cx).table.data_mut(key) else { return };
                stream.is_ending = true;
                end_messages(cx, key);
            }
            StreamAction::Break(status) => {
                if let Some(id) = streams(cx).table.get(key).map(|(id, _)| id) {
                    self.on_broken(cx, id, status);
                    self.after_end(cx);
                }
            }
        }
    }

    fn send_message(&mut self, cx: &mut Cx<'_>, key: StreamKey, message: StreamMessage) {
        let bytes = message.frame_bytes();
        let table = &mut streams(cx).table;
        let Some((id, stream)) = table.get(key) else { return };
        let codec = stream.codec;
        let sink = stream.sink.clone().filter(|sink| sink.on_taken(bytes));
        // Another thread may have ended the messages before.
        if !stream.is_ending
            && let Some(message) = table.send(key, message)
        {
            send_message(id, codec, message, |outgoing| cx.send(outgoing));
        }
        self.close_gate(cx);
        if let Some(sink) = sink {
            sink.notify();
        }
    }

    /// Sends messages that waited for credit.
    fn send_held(&mut self, cx: &mut Cx<'_>) {
        while let Some((key, message)) = streams(cx).table.next_sendable() {
            let Some((id, stream)) = streams(cx).table.get(key) else { continue };
            let codec = stream.codec;
            send_message(id, codec, message, |outgoing| cx.send(outgoing));
            end_messages(cx, key);
        }
        self.close_gate(cx);
    }

    /// Closes the gate of the connection's sinks while too many bytes wait.
    fn close_gate(&mut self, cx: &mut Cx<'_>) {
        let (key, out_len) = (cx.key(), cx.out_len());
        let Some(line) = self.lines.get(&cx.session.line) else { return };
        let (high, held_max) = (line.config.stream_queue_bytes_max, line.config.held_bytes_max);
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
    pub(super) fn open_gates(&mut self, conns: &mut Conns<'_, ClientApp>) {
        for key in std::mem::take(&mut self.gated) {
            conns.with(key, |cx| self.open_gate(cx, key));
        }
    }

    fn open_gate(&mut self, cx: &mut Cx<'_>, key: Key) {
        let out_len = cx.out_len();
        let Some(line) = self.lines.get(&cx.session.line) else { return };
        let (low, held_low) = (line.config.stream_queue_bytes_max / 2, line.config.held_bytes_max / 2);
        let Some(streams) = &cx.session.streams else { return };
        if out_len > low || streams.table.held_bytes() > held_low {
            return self.gated.push(key);
        }
        if streams.gate.set_closed(false) {
            let sinks: Vec<_> = streams.table.iter().filter_map(|(_, stream)| stream.sink.clone()).collect();
            sinks.iter().for_each(|sink| sink.notify());
        }
    }
}

fn on_taken(cx: &mut Cx<'_>, key: StreamKey, bytes: u64) {
    let table = &mut streams(cx).table;
    let id = table.get(key).map(|(id, _)| id);
    let credit = table.taken(key, bytes);
    // A call that has ended has no id, and gets no credit.
    if let Some(id) = id.filter(|id| *id != 0) {
        send_credit(cx, id, credit.stream);
    }
    send_credit(cx, 0, credit.connection);
}

/// Sends the end of a caller's messages, once all of them are sent.
fn end_messages(cx: &mut Cx<'_>, key: StreamKey) {
    let table = &mut streams(cx).table;
    let Some((id, stream)) = table.get(key) else { return };
    if id != 0 && stream.is_ending && !table.is_holding(key) {
        cx.send(Outgoing::End { id });
    }
}
