//! Calls of methods that have interceptors, and calls that have a trace: their admission, and what it attaches to them.
//!
//! What was attached is kept by the dispatcher while the request is dispatched, then by the call in flight and by its
//! work.

use std::any::Any;
use std::sync::Arc;

use super::end::{CallEnd, EndingCall};
use super::streams::FRAME_HEADER_BYTES;
use super::traced::TraceStart;
use super::{Cx, Dispatcher, deadline_of, duplicate_id};
use crate::context::Peer;
use crate::extensions::{CallExtensions, Extensions};
use crate::message::trailers::TRAILER_BYTES_MAX;
use crate::message::{Metadata, ReplyExtras, Request};
use crate::service::interceptor::EndPlace;
use crate::service::interceptor::chain::{Admission, AdmitParts};
use crate::service::{CallShape, Kind, Method, Registry};
use crate::status::Code;
use crate::workers::batch::CallNote;

/// What interceptors have attached to the request that is being dispatched.
#[derive(Default)]
pub(super) struct DispatchedExtensions {
    extensions: Option<Arc<CallExtensions>>,
    /// The admission of the call goes on on a worker: it is run there.
    pub(super) is_pending: bool,
    /// Why the call gets a trace, until it has one.
    pub(super) trace: Option<TraceStart>,
    /// The peer of the request, if a proxy has forwarded it.
    pub(super) forwarded: Option<Peer>,
    /// The call has a trace.
    has_trace: bool,
}

impl DispatchedExtensions {
    /// Returns what is kept with a call of a method.
    #[inline]
    pub(super) fn of(&self, method: &Method) -> Option<Arc<CallExtensions>> {
        if method.is_observed() { self.extensions.clone() } else { None }
    }

    /// Attaches a value of the server's own.
    pub(super) fn attach_value(&mut self, value: impl Any + Send + Sync) {
        CallExtensions::attach(&mut self.extensions, value);
    }

    #[cfg(feature = "trace")]
    fn attach(&mut self, trace: super::traced::CallTrace) {
        CallExtensions::attach(&mut self.extensions, trace);
        self.has_trace = true;
    }

    #[cfg(not(feature = "trace"))]
    fn attach(&mut self, trace: super::traced::CallTrace) {
        match trace {}
    }

    /// Returns what is attached to the request.
    #[inline]
    pub(super) fn get(&self) -> Option<&Arc<CallExtensions>> {
        self.extensions.as_ref()
    }
}

impl Dispatcher {
    /// Returns whether a request for an observed method has interceptors, a trace, or a client that a proxy names.
    #[inline(always)]
    pub(super) fn is_dispatched_slow(&mut self, cx: &Cx<'_>, request: &Request, method: &Method) -> bool {
        self.begins_trace(cx, request)
            || method.is_intercepted()
            || (self.forwarding.is_some() && self.is_from_proxy(cx))
    }

    /// Handles a request for a method that has interceptors, or that has a trace, or that a proxy has forwarded.
    #[inline(never)]
    pub(super) fn on_intercepted(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        is_open: bool,
    ) {
        if self.forwarding.is_none() {
            return self.on_admission(registry, cx, request, index, method, is_open);
        }
        self.with_client(cx, request, |dispatcher, cx| {
            dispatcher.on_admission(registry, cx, request, index, method, is_open);
        });
    }

    /// Passes a request to its interceptors, and dispatches or refuses it. They decide before anything else: a caller without
    /// credentials learns nothing of the method.
    fn on_admission(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        is_open: bool,
    ) {
        let parts = AdmitParts {
            method: method.name(),
            shape: method.shape(),
            metadata: Metadata::checked_before(cx.bytes(request.metadata)),
            peer: cx.peer(),
            protocol: cx.protocol().id(),
            body_bytes: request.body.len(),
            one_way: request.one_way,
            deadline: deadline_of(request, cx.now()),
            now: cx.now(),
            is_on_worker: false,
            attached: Extensions::default(),
        };
        let (admission, extensions) = method.interceptors().admit(parts);
        self.attached.extensions = extensions;
        self.attached.is_pending = matches!(admission, Admission::Pending);
        self.attach_client();
        self.attach_trace(cx, request);
        match admission {
            Admission::Admitted | Admission::Pending => {
                self.dispatch_intercepted(registry, cx, request, index, method, is_open);
            }
            Admission::Refused(status) => {
                // A refusal is no success.
                let code = if status.code == Code::Ok { Code::Unknown } else { status.code };
                let extras = ReplyExtras::of_status(&status);
                let extra_bytes = extras.as_ref().map_or(0, |extras| TRAILER_BYTES_MAX + extras.bytes());
                let bytes = FRAME_HEADER_BYTES + extra_bytes + status.message.len();
                let early = CallEnd::early(EndPlace::Refused, code, &status.message);
                let ended = CallEnd { extras: extras.as_deref(), ..early };
                let call = EndingCall::of_request(request, Some(index)).with(self.attached.get());
                self.ends.end(cx, call, ended);
                cx.note_refusal(bytes);
            }
            Admission::Panicked(status) => {
                self.ends.count_work(CallNote::Panicked);
                self.refuse_at(cx, request, Some(index), EndPlace::Refused, &status);
            }
        }
        self.attached = DispatchedExtensions::default();
    }

    /// Attaches the trace that the call gets, if it gets one.
    pub(super) fn attach_trace(&mut self, cx: &Cx<'_>, request: &Request) {
        let Some(start) = self.attached.trace.take() else { return };
        let metadata = Metadata::checked_before(cx.bytes(request.metadata));
        if let Some(trace) = self.ends.tracing.begin(start, metadata, cx.now()) {
            self.attached.attach(trace);
        }
    }

    /// Runs or queues a call that was admitted, unless the method or the connection does not accept it.
    fn dispatch_intercepted(
        &mut self,
        registry: &Registry,
        cx: &mut Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        is_open: bool,
    ) {
        if let Err(status) = super::admit(method, request, cx) {
            return self.refuse_at(cx, request, Some(index), EndPlace::Refused, &status);
        }
        if cx.session.calls.contains(request.id) && (is_open || !request.one_way) {
            let status = duplicate_id(request.id);
            return self.refuse_at(cx, request, Some(index), EndPlace::Refused, &status);
        }
        if is_open || method.shape() != CallShape::Unary {
            return self.begin_streaming(registry, cx, request, index, method, is_open);
        }
        self.observe_admitted(cx, request, index, method, false);
        match method.runs() {
            Kind::Inline | Kind::Pooled if self.attached.is_pending => {
                self.gather(cx, request, index, method)
            }
            Kind::Inline if method.may_defer() => {
                self.run_inline_deferring(registry, cx, request, index, method);
            }
            Kind::Inline => {
                let is_quick = self.ends.timing.is_quick(index, request);
                if is_quick && !self.attached.has_trace && !method.interceptors().observes_ends() {
                    self.run_quick(registry, cx, request, index, method);
                } else {
                    self.run_inline(registry, cx, request, index, method);
                }
            }
            Kind::Pooled => self.gather(cx, request, index, method),
            Kind::Async => self.spawn(registry, cx, request, index, method),
            Kind::Blocking => self.hand_over_one(cx, request, index, method),
        }
    }

    /// Passes a call that was admitted to the interceptors that observe such calls.
    pub(super) fn observe_admitted(
        &mut self,
        cx: &Cx<'_>,
        request: &Request,
        index: u32,
        method: &Method,
        argument_follows: bool,
    ) {
        if method.interceptors().observes_admitted() {
            self.ends.observe_admitted(cx, request, index, self.attached.get(), argument_follows);
        }
    }
}
