//! The attempts of a fleet's call. Each end of an attempt is queued for the reactor, which decides whether the call ends
//! with it or is attempted again (`app/fleet/`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use coreloop_bufpool::Chunk;

use super::{Promise, PromiseKind, guarded};
use crate::client::CallError;
use crate::client::endpoint::Endpoint;
use crate::client::fleet::{OnUnavailable, Unavailable};
use crate::client::reply::ReplyOutcome;
use crate::codec::{Codec, compress};
use crate::message::method_hash;
use crate::policy::fleet::{CallAttempts, EndpointId, FailedAttempt, Outcome};
use crate::status::Code;

/// What the reactor keeps for a call of a fleet.
#[derive(Debug)]
pub(in crate::client) struct FleetCall {
    pub(in crate::client) attempts: CallAttempts,
    /// The hash of the method.
    pub(in crate::client) method: u32,
    /// The hash of the call's key.
    pub(in crate::client) key: Option<u64>,
    /// The endpoint of the attempt that runs.
    pub(in crate::client) endpoint: Option<EndpointId>,
    /// When that was picked; before, when the call began to wait for one.
    pub(in crate::client) since: Instant,
    /// An attempt that has ended may have run the call.
    pub(in crate::client) may_have_run: bool,
    /// The number of the hedged call that this is an attempt of.
    pub(in crate::client) hedged: Option<u64>,
    /// It is a health check of the endpoint: no caller waits for it.
    pub(in crate::client) is_check: bool,
}

impl FleetCall {
    pub(in crate::client) fn new(now: Instant) -> FleetCall {
        FleetCall {
            attempts: CallAttempts::default(),
            method: 0,
            key: None,
            endpoint: None,
            since: now,
            may_have_run: false,
            hedged: None,
            is_check: false,
        }
    }

    /// Makes it that of a new call, and keeps its memory.
    pub(in crate::client) fn reset(&mut self, now: Instant) {
        let FleetCall { attempts, .. } = self;
        let mut tried = std::mem::take(&mut attempts.tried);
        tried.clear();
        *self =
            FleetCall { attempts: CallAttempts { tried, ..CallAttempts::default() }, ..FleetCall::new(now) };
    }
}

/// The body of a reply, kept until it is decided whether the call ends with it.
#[derive(Debug)]
pub(in crate::client) enum ReplyBody {
    /// There is no reply.
    None,
    Bytes(Vec<u8>),
    Shared(Chunk),
}

impl ReplyBody {
    pub(in crate::client) fn as_bytes(&self) -> &[u8] {
        match self {
            ReplyBody::None => &[],
            ReplyBody::Bytes(bytes) => bytes,
            ReplyBody::Shared(chunk) => chunk,
        }
    }
}

/// The end of an attempt.
#[allow(clippy::large_enum_variant, reason = "each moves once, into a list that is used again")]
pub(in crate::client) enum EndedAttempt {
    /// The call has ended with it.
    Done {
        /// The number of the client's endpoint.
        number: u64,
        call: Box<FleetCall>,
        outcome: Outcome,
        load_us: Option<u32>,
    },
    /// The call has not ended.
    Open { promise: Promise, outcome: Result<ReplyOutcome, CallError>, body: ReplyBody },
}

impl EndedAttempt {
    /// Ends the call, if it has not ended.
    pub(in crate::client) fn end_call(self) {
        if let EndedAttempt::Open { promise, outcome, body } = self {
            promise.end_call(outcome, body);
        }
    }
}

/// The ends of attempts that the reactor has not handled yet. Only the driver's thread uses it.
#[derive(Default)]
pub(in crate::client) struct EndedAttempts {
    has_any: AtomicBool,
    /// Bounded by the calls in flight.
    ended: Mutex<Vec<EndedAttempt>>,
}

impl EndedAttempts {
    fn push(&self, ended: EndedAttempt) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
        self.has_any.store(true, Ordering::Relaxed);
    }

    /// Returns whether there are any.
    #[inline]
    pub(in crate::client) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Relaxed)
    }

    /// Exchanges the ended attempts for an empty list, whose memory is used again.
    pub(in crate::client) fn swap(&self, empty: &mut Vec<EndedAttempt>) {
        debug_assert!(empty.is_empty());
        self.has_any.store(false, Ordering::Relaxed);
        std::mem::swap(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner), empty);
    }
}

/// Returns what the end of an attempt means for its endpoint.
pub(in crate::client) fn outcome_of(end: &Result<ReplyOutcome, CallError>, is_sent: bool) -> Outcome {
    match end {
        Ok(answer) => match Outcome::of(answer.code()) {
            // A server that drains, or is too busy, works as it should.
            Outcome::Failure if retry_after_of(end).is_some() => Outcome::Refused,
            outcome => outcome,
        },
        // The caller left too little time to send it.
        Err(CallError::DeadlineExceeded) if !is_sent => Outcome::Cancelled,
        Err(CallError::WrongProtocol(_) | CallError::Broken(_)) => Outcome::Failure,
        Err(CallError::NotSent) => Outcome::Cancelled,
        Err(error) => Outcome::of(error.code()),
    }
}

/// Returns whether another attempt may end otherwise.
fn is_retryable(end: &Result<ReplyOutcome, CallError>) -> bool {
    match end {
        Ok(answer) => matches!(answer.code(), Code::Unavailable | Code::ResourceExhausted),
        Err(error) => matches!(
            error,
            CallError::Connect(_)
                | CallError::Lost { .. }
                | CallError::Broken(_)
                | CallError::WrongProtocol(_)
                | CallError::Draining
        ),
    }
}

impl Promise {
    /// Takes note of the call's attempts, before its first one.
    pub(in crate::client) fn begin_attempts(&mut self, call: Box<FleetCall>) {
        self.fleet_call = Some(call);
    }

    /// Returns the attempts of the call.
    pub(in crate::client) fn fleet_call(&mut self) -> Option<&mut FleetCall> {
        self.fleet_call.as_deref_mut()
    }

    /// Makes the call one that was not sent to the endpoint of its next attempt.
    pub(in crate::client) fn begin_attempt(&mut self, may_have_run: bool) {
        (self.is_sent, self.tries, self.has_headers) = (may_have_run, 0, false);
        self.call_slot().id.store(0, Ordering::Relaxed);
    }

    /// Returns whether the call may be attempted again, as far as this side knows: nothing of its streams was sent.
    pub(in crate::client) fn can_repeat(&self) -> bool {
        let is_one_way = matches!(self.what, PromiseKind::Call { one_way: true, .. });
        !(self.is_sent && (self.streams.is_some() || is_one_way))
    }

    /// Returns the hash of the call's key.
    pub(in crate::client) fn key(&self) -> Option<u64> {
        self.call_slot().inside().key
    }

    /// Ends an attempt. A reply that the call ends with in any case ends it at once; all else is decided later.
    #[inline(never)]
    pub(super) fn end_attempt(
        mut self,
        outcome: Result<ReplyOutcome, CallError>,
        bytes: Option<&[u8]>,
        chunk: Option<Chunk>,
    ) -> Option<Waker> {
        if self.trace.is_open() {
            self.end_span(&outcome, chunk.as_deref().or(bytes));
        }
        let endpoint = self.endpoint.clone();
        let ended = &endpoint.driver_shared().ended;
        let means = match self.what {
            PromiseKind::Call { .. } => outcome_of(&outcome, self.is_sent),
            // The time to connect is not that of a call.
            PromiseKind::Reach if outcome.is_ok() => Outcome::Cancelled,
            PromiseKind::Reach => outcome_of(&outcome, true),
        };
        let is_final = outcome.is_ok() && matches!(means, Outcome::Success | Outcome::Cancelled);
        if is_final
            && !self.is_copy()
            && let Some(call) = self.fleet_call.take()
        {
            let load_us = load_of(&outcome);
            ended.push(EndedAttempt::Done { number: endpoint.number, call, outcome: means, load_us });
            return self.end(outcome, bytes, chunk);
        }
        let body = match (bytes, chunk) {
            (_, Some(chunk)) => ReplyBody::Shared(chunk),
            (Some(bytes), None) => ReplyBody::Bytes(bytes.to_vec()),
            (None, None) => ReplyBody::None,
        };
        ended.push(EndedAttempt::Open { promise: self, outcome, body });
        None
    }

    /// Ends the call with the end of its last attempt.
    pub(in crate::client) fn end_call(
        mut self,
        mut outcome: Result<ReplyOutcome, CallError>,
        body: ReplyBody,
    ) {
        if self.is_copy() {
            return self.discard();
        }
        if self.fleet_call.take().is_some_and(|call| call.may_have_run) {
            outcome = outcome.map_err(after_another);
        }
        let waker = match body {
            ReplyBody::None => self.end(outcome, None, None),
            ReplyBody::Bytes(bytes) => self.end(outcome, Some(&bytes), None),
            ReplyBody::Shared(chunk) => self.end(outcome, None, Some(chunk)),
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Returns a copy of a hedged call for one of its attempts.
    pub(in crate::client) fn copy_of(
        &mut self,
        number: u64,
        attempts: CallAttempts,
        now: Instant,
    ) -> Promise {
        // If the reactor ends, the server may have run the call.
        self.is_sent = true;
        let mut call = Box::new(FleetCall::new(now));
        (call.attempts, call.hedged) = (attempts, Some(number));
        if let Some(own) = &self.fleet_call {
            (call.method, call.key) = (own.method, own.key);
        }
        let mut metadata = self.metadata.clone();
        let trace = self.trace.copy(call.attempts.tried.len(), &mut metadata);
        let (call_slot, ()) = super::take_slot(|inside| {
            let own = self.call_slot().inside();
            inside.body.extend_from_slice(&own.body);
            inside.method_name.clear();
            inside.method_name.push_str(&own.method_name);
            inside.headers = None;
        });
        Promise {
            call_slot: Some(call_slot),
            endpoint: self.endpoint.clone(),
            then: None,
            what: self.what.clone(),
            deadline: self.deadline,
            metadata,
            parent: self.parent.clone(),
            body_bytes: self.body_bytes,
            is_sent: false,
            tries: 0,
            left_us: 0,
            has_headers: false,
            streams: None,
            is_awaited: false,
            fleet_call: Some(call),
            trace,
        }
    }

    /// Returns a health check of an endpoint: the call of `Health.Check`.
    pub(in crate::client) fn check_of(
        endpoint: &Arc<Endpoint>,
        id: EndpointId,
        now: Instant,
        deadline: Instant,
    ) -> Promise {
        const METHOD: &str = "Health.Check";
        let mut call = Box::new(FleetCall::new(now));
        (call.endpoint, call.is_check) = (Some(id), true);
        let (call_slot, body_bytes) = super::take_slot(|inside| {
            inside.body.extend_from_slice(b"\"\"");
            inside.method_name.clear();
            inside.method_name.push_str(METHOD);
            inside.headers = None;
            inside.body.len()
        });
        Promise {
            call_slot: Some(call_slot),
            endpoint: endpoint.clone(),
            then: None,
            what: PromiseKind::Call {
                name: Some(Arc::new(METHOD.to_owned())),
                method: method_hash(METHOD),
                schema: 0,
                codec: Codec::Json,
                compressed: false,
                one_way: false,
                idempotent: true,
            },
            deadline: Some(deadline),
            metadata: None,
            parent: None,
            body_bytes,
            is_sent: false,
            tries: 0,
            left_us: 0,
            has_headers: false,
            streams: None,
            is_awaited: false,
            fleet_call: Some(call),
            trace: Default::default(),
        }
    }

    /// Returns whether it is a copy of a hedged call, or a health check: its end is not that of a caller's call.
    pub(super) fn is_copy(&self) -> bool {
        self.fleet_call.as_ref().is_some_and(|call| call.hedged.is_some() || call.is_check)
    }

    /// Drops a copy of a hedged call, or a health check.
    pub(in crate::client) fn discard(mut self) {
        debug_assert!(self.is_copy());
        if let Some(call_slot) = self.call_slot.take() {
            super::put_back(call_slot, None);
        }
    }

    /// Takes the headers that a copy of the call has received.
    pub(in crate::client) fn take_headers_of(&self, copy: &Promise) {
        let headers = copy.call_slot().inside().headers.take();
        self.call_slot().inside().headers = headers;
    }

    /// Asks the program's function for an answer in place of the end of the call.
    #[cold]
    pub(in crate::client) fn answer_instead(
        &self,
        end: &Result<ReplyOutcome, CallError>,
        body: &[u8],
        on_unavailable: &OnUnavailable,
    ) -> Option<(ReplyOutcome, Vec<u8>)> {
        let PromiseKind::Call { codec, compressed, one_way: false, .. } = self.what else { return None };
        if self.streams.is_some() {
            return None;
        }
        let (argument, method) = {
            let inside = self.call_slot().inside();
            (inside.body.clone(), inside.method_name.clone())
        };
        let argument = if compressed {
            let mut plain = Vec::new();
            compress::decompress(&argument, self.endpoint.config.frame_bytes_max, &mut plain).ok()?;
            plain
        } else {
            argument
        };
        let status = match end {
            Ok(answer) => answer.status(body).err()?,
            Err(error) => error.to_status(),
        };
        let call = Unavailable { method: &method, codec, argument: &argument, status: &status };
        let mut answer = None;
        guarded(|| answer = on_unavailable(&call));
        Some((ReplyOutcome::local(codec), answer?))
    }

    /// Returns what allows the call to be attempted again.
    pub(in crate::client) fn failed_attempt(
        &self,
        end: &Result<ReplyOutcome, CallError>,
        now: Instant,
    ) -> FailedAttempt {
        let retry_after_ms = retry_after_of(end);
        let may_have_run = match end {
            // A server states a time for calls that it refuses before they run.
            Ok(_) => retry_after_ms.is_none(),
            Err(error) => error.may_have_run(),
        };
        FailedAttempt {
            outcome: outcome_of(end, self.is_sent),
            may_have_run,
            is_idempotent: self.what.is_idempotent(),
            is_retryable: is_retryable(end),
            retry_after: retry_after_ms.map(|ms| Duration::from_millis(u64::from(ms))),
            left: self.deadline.map(|deadline| deadline.saturating_duration_since(now)),
        }
    }
}

/// Returns the error of a call's last attempt, where an earlier one may have run the call.
fn after_another(error: CallError) -> CallError {
    match error {
        CallError::Connect(error) | CallError::Lost { error, may_have_run: false } => {
            CallError::Lost { error, may_have_run: true }
        }
        CallError::Cancelled { .. } => CallError::Cancelled { may_have_run: true },
        other => other,
    }
}

/// Returns the milliseconds after which the server takes the call, if it has refused it.
fn retry_after_of(end: &Result<ReplyOutcome, CallError>) -> Option<u32> {
    end.as_ref().ok()?.extras.as_ref()?.retry_after_ms
}

/// Returns the load that came with a reply.
pub(in crate::client) fn load_of(end: &Result<ReplyOutcome, CallError>) -> Option<u32> {
    end.as_ref().ok()?.extras.as_ref()?.load_us
}
