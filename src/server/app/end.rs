//! The end of a call: every call ends here, once, wherever it ends.
//!
//! The end is counted, passed to the interceptors, and answered. It has two compiled forms. [`CallEnds::end_quick`] is for
//! inline calls that are timed together: no interceptor receives their ends, the calls of a group are counted
//! together, and every value stays in a register. [`CallEnds::end`] is for all others.
//!
//! The work of a call may go on after its end (cancelled, late, drained); [`Dispatcher::end_work`] ends the work.

use std::sync::Arc;
use std::time::Instant;

use coreloop_poller::{Key, probes};

use super::forwarded::peer_of;
use super::traced::CallTracing;
use super::{AppStats, Cx, Dispatcher};
use crate::conn::calls::ConnCall;
use crate::context::Peer;
use crate::extensions::{CallExtensions, Extensions};
use crate::message::trailers::WANT_LOAD;
use crate::message::{JsonDialect, Metadata, Outgoing, OutgoingReply, ReplyExtras, Request, SendBody};
use crate::server::timing::Timing;
use crate::service::Registry;
use crate::service::interceptor::{AdmittedCall, EndPlace, EndedCall};
use crate::status::{Code, Status};
use crate::wire::ProtocolId;
use crate::workers::batch::CallNote;

/// What is known of the connection of a call that ends.
pub(super) type CallConn = (Key, Peer, Option<ProtocolId>);

/// A call that ends, for its span.
#[cfg_attr(not(feature = "trace"), allow(dead_code, reason = "no span is written"))]
pub(super) struct EndedSpan<'a> {
    /// Empty if it is not known.
    pub(super) name: &'a str,
    pub(super) peer: Option<Peer>,
    pub(super) protocol: &'static str,
    pub(super) place: EndPlace,
    pub(super) code: Code,
    pub(super) queue_us: u32,
    pub(super) handler_us: u32,
    pub(super) request_bytes: usize,
    pub(super) reply_bytes: usize,
    /// The reply, or the text of a failure.
    pub(super) body: &'a SendBody<'a>,
}

/// The call that ends.
#[derive(Clone, Copy)]
pub(super) struct EndingCall<'a> {
    pub(super) id: u64,
    pub(super) codec: u8,
    pub(super) one_way: bool,
    /// `None` if the request was refused before its method was known.
    pub(super) method: Option<u32>,
    pub(super) request_bytes: usize,
    /// What interceptors have attached to it.
    pub(super) extensions: Option<&'a CallExtensions>,
}

impl<'a> EndingCall<'a> {
    /// A call that is not in flight.
    #[inline]
    pub(super) fn of_request(request: &Request, method: Option<u32>) -> EndingCall<'a> {
        let Request { id, codec, one_way, body, .. } = *request;
        EndingCall { id, codec, one_way, method, request_bytes: body.len(), extensions: None }
    }

    /// Adds what interceptors have attached to it.
    #[inline]
    pub(super) fn with(self, extensions: Option<&'a Arc<CallExtensions>>) -> EndingCall<'a> {
        EndingCall { extensions: extensions.map(|extensions| &**extensions), ..self }
    }

    /// A call that is in flight.
    #[inline]
    pub(super) fn in_flight(call: &'a ConnCall) -> EndingCall<'a> {
        let ConnCall { id, codec, one_way, method, body_bytes, ref extensions, .. } = *call;
        let extensions = extensions.as_deref();
        EndingCall {
            id,
            codec,
            one_way,
            method: Some(method),
            request_bytes: body_bytes as usize,
            extensions,
        }
    }
}

/// How and where a call ends.
pub(super) struct CallEnd<'a> {
    pub(super) place: EndPlace,
    pub(super) code: Code,
    pub(super) queue_us: u32,
    pub(super) handler_us: u32,
    pub(super) compressed: bool,
    /// What the answer carries besides its body.
    pub(super) extras: Option<&'a ReplyExtras>,
    pub(super) body: SendBody<'a>,
}

impl<'a> CallEnd<'a> {
    /// Creates the end of a call that ends before its work does, or without any.
    pub(super) fn early(place: EndPlace, code: Code, message: &'a str) -> CallEnd<'a> {
        CallEnd {
            place,
            code,
            queue_us: 0,
            handler_us: 0,
            compressed: false,
            extras: None,
            body: SendBody::Bytes(message.as_bytes()),
        }
    }

    /// Creates the end of a call with a status, and with what that carries, before or without its work.
    pub(super) fn of_status(
        place: EndPlace,
        status: &'a Status,
        extras: Option<&'a ReplyExtras>,
    ) -> CallEnd<'a> {
        CallEnd { extras, ..CallEnd::early(place, status.code, &status.message) }
    }
}

/// What the end of a call needs: the counters, the group of calls that are timed together, and the interceptors.
pub(super) struct CallEnds {
    stats: Arc<AppStats>,
    pub(super) timing: Timing,
    registry: Arc<Registry>,
    /// Some interceptor receives ends, or calls are traced.
    observes_ends: bool,
    /// Calls may have another peer than their connections.
    is_behind_proxies: bool,
    pub(super) tracing: CallTracing,
    reactor: usize,
}

impl CallEnds {
    pub(super) fn new(
        stats: Arc<AppStats>,
        registry: Arc<Registry>,
        reactor: usize,
        tracing: CallTracing,
        is_behind_proxies: bool,
    ) -> CallEnds {
        let timing = Timing::new(registry.methods().len());
        let observes_ends = registry.observes_ends() || tracing.is_on();
        CallEnds { stats, timing, registry, observes_ends, is_behind_proxies, tracing, reactor }
    }

    fn peer_of(&self, extensions: Option<&CallExtensions>, of_connection: Peer) -> Peer {
        if self.is_behind_proxies { peer_of(extensions, of_connection) } else { of_connection }
    }

    /// Ends an inline call that is timed together with others and has succeeded. Its times are counted at the end of
    /// the group ([`CallEnds::end_group`]).
    #[inline(always)]
    pub(super) fn end_quick(&mut self, cx: &mut Cx<'_>, request: &Request, queue_us: u32, body: &[u8]) {
        debug_assert!(!request.one_way, "such calls are timed individually");
        probes::call_end(request.id, Code::Ok as u32, queue_us, 0);
        self.timing.calls += 1;
        self.timing.ok += 1;
        // Built in place: a body or an end that is passed on costs a copy through memory.
        cx.send(Outgoing::Reply(OutgoingReply {
            id: request.id,
            codec: request.codec,
            compressed: false,
            code: Code::Ok,
            queue_us,
            handler_us: 0,
            extras: None,
            body: SendBody::Bytes(body),
        }));
    }

    /// Ends an inline call that is timed together with others, and that has failed or whose body is no plain bytes.
    #[cold]
    pub(super) fn end_quick_slow(
        &mut self,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        ended: CallEnd<'_>,
    ) {
        let CallEnd { code, queue_us, handler_us, compressed, extras, body, .. } = ended;
        probes::call_end(request.id, code as u32, queue_us, handler_us);
        self.timing.calls += 1;
        match code {
            Code::Ok => self.timing.ok += 1,
            _ => self.stats.methods[index as usize].answers[code as usize].add(1),
        }
        if code != Code::Ok && self.tracing.is_on() {
            let call = EndingCall::of_request(request, Some(index));
            let conn = (cx.key(), cx.peer(), cx.protocol().id());
            self.trace_end(conn, &call, EndPlace::Inline, code, (queue_us, handler_us), &body);
        }
        let Request { id, codec, .. } = *request;
        cx.send(Outgoing::Reply(OutgoingReply {
            id,
            codec,
            compressed,
            code,
            queue_us,
            handler_us,
            extras,
            body,
        }));
    }

    /// Counts the inline calls that were timed together.
    pub(super) fn end_group(&mut self) {
        if self.timing.calls > 0 {
            let (method, now) = (self.timing.method, Instant::now());
            if self.tracing.is_on() {
                let name = self.registry.method(method).name();
                self.tracing.end_group(name, self.timing.calls, self.timing.began, now);
            }
            self.timing.end(now, &self.stats.methods[method as usize]);
        }
    }

    /// Ends a call.
    #[inline]
    pub(super) fn end(&mut self, cx: &mut Cx<'_>, call: EndingCall<'_>, ended: CallEnd<'_>) {
        let CallEnd { place, code, queue_us, handler_us, compressed, extras, body } = ended;
        self.count(&call, place, code, queue_us, handler_us);
        if self.observes_ends {
            let conn = (cx.key(), cx.peer(), cx.protocol().id());
            self.observe_end(conn, &call, place, code, (queue_us, handler_us), &body);
        }
        if !call.one_way {
            let EndingCall { id, codec, .. } = call;
            cx.send(Outgoing::Reply(OutgoingReply {
                id,
                codec,
                compressed,
                code,
                queue_us,
                handler_us,
                extras,
                body,
            }));
        }
    }

    /// Ends a call whose answer tells the load.
    #[cold]
    pub(super) fn end_with_load(
        &mut self,
        cx: &mut Cx<'_>,
        call: EndingCall<'_>,
        ended: CallEnd<'_>,
        load_ns: u64,
    ) {
        let mut extras = ended.extras.cloned().unwrap_or_default();
        extras.load_us = Some(load_us(load_ns));
        self.end(cx, call, CallEnd { extras: Some(&extras), ..ended });
    }

    /// Ends a call whose connection has closed: it has no answer.
    pub(super) fn end_dropped(&mut self, conn: CallConn, call: &ConnCall) {
        let call = EndingCall::in_flight(call);
        self.count(&call, EndPlace::Dropped, Code::Cancelled, 0, 0);
        if self.observes_ends {
            let body = SendBody::Bytes(&[]);
            self.observe_end(conn, &call, EndPlace::Dropped, Code::Cancelled, (0, 0), &body);
        }
    }

    #[inline]
    fn count(&self, call: &EndingCall<'_>, place: EndPlace, code: Code, queue_us: u32, handler_us: u32) {
        probes::call_end(call.id, code as u32, queue_us, handler_us);
        let calls = &self.stats.calls;
        match place {
            EndPlace::Worker if code == Code::DeadlineExceeded => calls.late_at_answer.add(1),
            EndPlace::Inline | EndPlace::Worker | EndPlace::Deferred | EndPlace::Broken => {}
            // Counted with the work: the call may have ended before.
            EndPlace::LateAtDequeue => {}
            EndPlace::LateAtAnswer => calls.late_at_answer.add(1),
            EndPlace::Cancelled => calls.cancelled.add(1),
            EndPlace::Drained => calls.drain_cancelled.add(1),
            EndPlace::Dropped => return calls.dropped.add(1),
            EndPlace::Shed(reason) => {
                if let Some(method) = call.method {
                    self.stats.methods[method as usize].shed[reason as usize].add(1);
                }
                return calls.refused[code as usize].add(1);
            }
            EndPlace::Refused | EndPlace::LateAtDecode => {
                if place == EndPlace::LateAtDecode {
                    calls.late_at_decode.add(1);
                }
                return calls.refused[code as usize].add(1);
            }
        }
        let Some(method) = call.method else { return };
        let stats = &self.stats.methods[method as usize];
        if call.one_way {
            stats.one_way.add(1);
        } else {
            stats.answers[code as usize].add(1);
        }
        stats.queue_us.record(queue_us);
        stats.handler_us.record(handler_us);
    }

    /// Counts a call that is not answered at once.
    #[inline]
    pub(super) fn note_begun(&self, is_streaming: bool) {
        let calls = &self.stats.calls;
        if is_streaming { &calls.streams } else { &calls.in_flight }.add(1);
    }

    /// Counts the end of the work of such a call.
    #[inline]
    pub(super) fn note_over(&self, is_streaming: bool) {
        let calls = &self.stats.calls;
        if is_streaming { &calls.streams } else { &calls.in_flight }.subtract(1);
    }

    /// Counts a call that was not read, because its connection drains.
    pub(super) fn note_unread(&self) {
        self.stats.calls.drain_unread.add(1);
    }

    /// Counts what happened to the work of a call, whether or not the call had ended before.
    #[inline]
    pub(super) fn count_work(&self, note: CallNote) {
        match note {
            CallNote::Ran | CallNote::NotTaken | CallNote::TooLateToStart => {}
            CallNote::Removed => self.stats.calls.removed.add(1),
            CallNote::LateAtDequeue => self.stats.calls.late_at_dequeue.add(1),
            CallNote::Panicked => self.stats.calls.panics.add(1),
        }
    }

    // Interceptors.

    /// Passes a call that was admitted to the interceptors.
    #[inline(never)]
    pub(super) fn observe_admitted(
        &mut self,
        cx: &Cx<'_>,
        request: &Request,
        method: u32,
        extensions: Option<&Arc<CallExtensions>>,
        argument_follows: bool,
    ) {
        let Request { id, codec, compressed, one_way, time_left_us, .. } = *request;
        let admitted = AdmittedCall {
            reactor: self.reactor,
            at: cx.now(),
            connection: cx.key().to_bits(),
            peer: cx.peer(),
            protocol: cx.protocol().id(),
            id,
            method,
            method_name: self.registry.method(method).name(),
            codec: JsonDialect::split(codec).0,
            compressed,
            one_way,
            argument_follows,
            time_left_us,
            metadata: Metadata::checked_before(cx.bytes(request.metadata)),
            body: cx.bytes(request.body),
            extensions: Extensions::of(extensions.map(|extensions| &**extensions)),
        };
        let panics = &self.stats.calls.panics;
        self.registry.method(method).interceptors().on_admitted(&admitted, || panics.add(1));
    }

    /// Makes the span of a call, if it gets one.
    fn trace_end(
        &mut self,
        (_, peer, protocol): CallConn,
        call: &EndingCall<'_>,
        place: EndPlace,
        code: Code,
        (queue_us, handler_us): (u32, u32),
        body: &SendBody<'_>,
    ) {
        let EndingCall { one_way, method, request_bytes, extensions, .. } = *call;
        let ended = EndedSpan {
            name: method.map_or("", |method| self.registry.method(method).name()),
            peer: Some(self.peer_of(extensions, peer)),
            protocol: protocol.map_or("", ProtocolId::name),
            place,
            code,
            queue_us,
            handler_us,
            request_bytes,
            reply_bytes: if one_way { 0 } else { body.len() },
            body,
        };
        self.tracing.end(&ended, extensions);
    }

    /// Passes the end of a call to its trace and to the interceptors.
    #[inline(never)]
    fn observe_end(
        &mut self,
        conn: CallConn,
        call: &EndingCall<'_>,
        place: EndPlace,
        code: Code,
        (queue_us, handler_us): (u32, u32),
        body: &SendBody<'_>,
    ) {
        if self.tracing.is_on() {
            self.trace_end(conn, call, place, code, (queue_us, handler_us), body);
        }
        let (key, peer, protocol) = conn;
        let EndingCall { id, one_way, method, request_bytes, extensions, .. } = *call;
        let reply_bytes = if one_way { 0 } else { body.len() };
        let interceptors = self.registry.interceptors(method);
        if !interceptors.observes_ends() {
            return;
        }
        let end = EndedCall {
            reactor: self.reactor,
            connection: key.to_bits(),
            peer: self.peer_of(extensions, peer),
            protocol,
            id,
            method,
            method_name: method.map(|method| self.registry.method(method).name()),
            one_way,
            code,
            place,
            queue_us,
            handler_us,
            request_bytes,
            reply_bytes,
            extensions: Extensions::of(extensions),
        };
        let panics = &self.stats.calls.panics;
        interceptors.on_end(&end, || panics.add(1));
    }
}

impl Dispatcher {
    /// Ends the work of a call in flight, and with it the call, unless the call has ended before.
    #[inline]
    pub(super) fn end_work(&mut self, cx: &mut Cx<'_>, slot: u32, ended: CallEnd<'_>) {
        let Some(call) = cx.session.calls.end(slot, &mut self.free_list) else {
            debug_assert!(false, "the work of a call ends once");
            return;
        };
        self.ends.note_over(call.is_streaming());
        if call.is_streaming() {
            cx.end_stream();
            let status = Status::new(ended.code, "the call has ended");
            self.close_streams(cx, &call, slot, &status);
        } else {
            cx.end_call(call.body_bytes as usize);
        }
        if call.is_answered() {
            return self.ends.stats.calls.late.add(1);
        }
        let ending = EndingCall::in_flight(&call);
        if call.wants_load() {
            self.ends.end_with_load(cx, ending, ended, self.run_queue.load_ns());
        } else {
            self.ends.end(cx, ending, ended);
        }
        if call.is_streaming() {
            cx.on_stream_answered();
        }
    }
}

/// Converts a load to microseconds, rounded up.
pub(super) fn load_us(load_ns: u64) -> u32 {
    load_ns.div_ceil(1000).min(u64::from(u32::MAX)) as u32
}

/// Returns whether the caller asks for the load of the server.
#[inline]
pub(super) fn wants_load(cx: &Cx<'_>, request: &Request) -> bool {
    !request.metadata.is_empty() && asks_for_load(cx, request)
}

#[cold]
fn asks_for_load(cx: &Cx<'_>, request: &Request) -> bool {
    Metadata::checked_before(cx.bytes(request.metadata)).find(WANT_LOAD).is_some()
}
