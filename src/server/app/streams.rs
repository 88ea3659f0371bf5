//! Frames of streams: messages, ends and credit from the peer, and calls whose peer broke a rule.

use super::{Cx, Dispatcher};
use crate::conn::calls::Calls;
use crate::conn::streams::{CreditVerdict, DataVerdict, StreamTable, StreamWindows};
use crate::message::{BrokenCall, IncomingData, Outgoing, OutgoingReply, Request, SendBody};
use crate::server::observer::EndPlace;
use crate::service::Registry;
use crate::status::Status;

/// The calls of one connection of a server.
#[derive(Debug)]
pub(in crate::server) struct ServerSession {
    /// The calls in flight.
    pub(in crate::server) calls: Calls,
    /// The windows; absent until the first frame of a stream.
    streams: Option<Box<StreamTable<()>>>,
}

impl ServerSession {
    pub(super) const fn new() -> ServerSession {
        ServerSession { calls: Calls::new(), streams: None }
    }

    fn streams(&mut self) -> &mut StreamTable<()> {
        // Nothing is granted beyond the initial windows.
        let windows = StreamWindows { stream_bytes: 0, connection_bytes: 0 };
        self.streams.get_or_insert_with(|| Box::new(StreamTable::new(windows)))
    }
}

impl Dispatcher {
    /// Refuses a call whose argument follows: the argument of every method is one message.
    #[cold]
    pub(super) fn on_open(&mut self, registry: &Registry, cx: &mut Cx<'_>, request: &Request) {
        let Some(index) = registry.index_of(request.method) else {
            return self.refuse_unknown(cx, request);
        };
        let name = registry.method(index).name();
        let status = Status::invalid_argument(format!(
            "the argument of {name} is one message in the request, not a stream of data frames"
        ));
        self.refuse(cx, request, &status);
    }

    /// Handles a message of a stream. Its bytes return to the connection's window.
    #[cold]
    pub(super) fn on_data(&mut self, cx: &mut Cx<'_>, data: &IncomingData) {
        match cx.session.streams().on_data(data.id, data.frame_bytes) {
            DataVerdict::Discard { connection } => {
                send_credit(cx, connection);
                let text = "a data frame for a call whose argument is complete";
                self.break_call(cx, data.id, &Status::invalid_argument(text));
            }
            DataVerdict::Deliver(_) | DataVerdict::Break { .. } => {
                debug_assert!(false, "no stream is open");
            }
        }
    }

    /// Handles the end of a caller's messages.
    #[cold]
    pub(super) fn on_end(&mut self, cx: &mut Cx<'_>, id: u64) {
        let text = "an end frame for a call whose argument is complete";
        self.break_call(cx, id, &Status::invalid_argument(text));
    }

    /// Handles credit. Only the size of the connection's window is judged, while nothing is sent in data frames.
    #[cold]
    pub(super) fn on_credit(&mut self, cx: &mut Cx<'_>, id: u64, bytes: u32) {
        if let CreditVerdict::ConnectionTooLarge(status) = cx.session.streams().on_credit(id, bytes) {
            // No call ends with this answer: it is the connection's.
            cx.send(Outgoing::Reply(OutgoingReply {
                id: 0,
                codec: 0,
                compressed: false,
                code: status.code,
                queue_us: 0,
                handler_us: 0,
                body: SendBody::Bytes(status.message.as_bytes()),
            }));
            cx.close();
        }
    }

    /// Ends a call whose peer broke a rule in a frame of the call.
    #[cold]
    pub(super) fn on_call_broken(&mut self, cx: &mut Cx<'_>, broken: BrokenCall) {
        if broken.frame_bytes > 0 {
            let connection = cx.session.streams().on_dropped(broken.frame_bytes);
            send_credit(cx, connection);
        }
        self.break_call(cx, broken.id, &Status::new(broken.code, broken.message));
    }

    /// Answers the call with this id, if it is in flight. Otherwise the frame has crossed the answer.
    fn break_call(&mut self, cx: &mut Cx<'_>, id: u64, status: &Status) {
        if let Some(call) = cx.session.calls.answer_by_id(id).cloned() {
            self.end_early(cx, &call, EndPlace::Broken, status);
        }
    }
}

fn send_credit(cx: &mut Cx<'_>, connection: Option<u32>) {
    if let Some(bytes) = connection {
        cx.send(Outgoing::Credit { id: 0, bytes });
    }
}
