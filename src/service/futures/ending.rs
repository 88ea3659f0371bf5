//! The one end of a call of an async method, wherever its future ends.

use std::sync::Arc;
use std::time::Instant;

use super::limit::AsyncPermit;
use crate::context::{CallSignal, OwnedContext, Scope, Ticket};
use crate::status::Status;
use crate::stream::{EncodeMessage, HandlerEnd, HandlerStreams, Sink};

/// What ends the call.
enum CallOutcome {
    /// The call is answered through its ticket.
    Ticket(Ticket),
    /// The sink of the call has the ticket.
    Sink(HandlerEnd),
    Ended,
}

/// Ends a call once. Dropped before that, it ends the call with `internal`.
pub(crate) struct CallEnding {
    outcome: CallOutcome,
    /// Until the call ends: its future counts.
    permit: Option<AsyncPermit>,
    scope: Arc<Scope>,
    place: u8,
    /// Once the future has been polled.
    signal: Option<Arc<CallSignal>>,
    /// What the handler was given, for the headers and trailers that it sets.
    cx: Option<OwnedContext>,
}

impl CallEnding {
    pub(crate) fn new(ticket: Ticket, permit: AsyncPermit) -> CallEnding {
        let (scope, place) = ticket.cancellation();
        let scope = scope.clone();
        CallEnding {
            outcome: CallOutcome::Ticket(ticket),
            permit: Some(permit),
            scope,
            place,
            signal: None,
            cx: None,
        }
    }

    /// Takes note that the executor runs the call, and returns what its cancellation sets.
    pub(super) fn begin(&mut self, now: Instant) -> Arc<CallSignal> {
        if let CallOutcome::Ticket(ticket) = &mut self.outcome {
            ticket.begin(now);
        }
        self.signal.insert(CallSignal::of(&self.scope, self.place)).clone()
    }

    /// Keeps the context of the handler, for the headers and trailers of the answer.
    pub(super) fn attach(&mut self, cx: OwnedContext) {
        self.cx = Some(cx);
    }

    /// Returns the scope of the call's cancellation, and the place in it.
    pub(super) fn cancellation(&self) -> (&Arc<Scope>, u8) {
        (&self.scope, self.place)
    }

    /// Returns whether no caller waits for the call.
    pub(super) fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled(self.place)
    }

    /// Returns the sink of the call, through which it is answered from here on.
    pub(super) fn sink<T>(
        &mut self,
        streams: &mut HandlerStreams,
        encode: EncodeMessage<T>,
    ) -> Result<Sink<T>, Status> {
        match std::mem::replace(&mut self.outcome, CallOutcome::Ended) {
            CallOutcome::Ticket(ticket) => {
                let (sink, end) = streams.sink(ticket, encode, true)?;
                self.outcome = CallOutcome::Sink(end);
                Ok(sink)
            }
            other => {
                self.outcome = other;
                Err(Status::internal("the sink of the call was taken twice"))
            }
        }
    }

    /// Counts a panic of the future.
    pub(super) fn count_panic(&self) {
        if let Some(permit) = &self.permit {
            permit.count_panic();
        }
    }

    fn end(&mut self, answer: impl FnOnce(CallOutcome)) {
        // First, so that the caller may call again when it has the answer.
        self.permit = None;
        let mut outcome = std::mem::replace(&mut self.outcome, CallOutcome::Ended);
        if let (CallOutcome::Ticket(ticket), Some(cx)) = (&mut outcome, self.cx.take()) {
            ticket.set_extras(cx.take_extras());
        }
        answer(outcome);
        // If the call was cancelled, the signal is set where its callbacks may run.
        if let Some(signal) = self.signal.take().filter(|_| !self.is_cancelled()) {
            signal.set(false);
        }
    }

    /// Ends a call that has failed.
    pub(super) fn fail(&mut self, status: Status) {
        self.end(|outcome| match outcome {
            CallOutcome::Ticket(ticket) => ticket.answer(Err(status)),
            CallOutcome::Sink(end) => end.returned(Err(status)),
            CallOutcome::Ended => {}
        });
    }

    /// Ends the handler of a call that has a sink: the call ends with the sink, or now if that was dropped.
    pub(super) fn finish(&mut self) {
        self.end(|outcome| match outcome {
            CallOutcome::Sink(end) => end.returned(Ok(())),
            // Answers `internal`: the handler was not given its sink.
            CallOutcome::Ticket(ticket) => drop(ticket),
            CallOutcome::Ended => {}
        });
    }

    /// Answers the call through its ticket.
    pub(super) fn answer(&mut self, answer: impl FnOnce(Ticket)) {
        self.end(|outcome| {
            if let CallOutcome::Ticket(ticket) = outcome {
                answer(ticket);
            }
        });
    }
}

impl CallEnding {
    /// Ends a call whose future is dropped by the executor, unless it has ended.
    pub(super) fn abandon(&mut self) {
        if !matches!(self.outcome, CallOutcome::Ended) {
            self.fail(Status::internal(match self.signal {
                Some(_) => "the executor dropped the call's future before it was ready",
                None => "the executor dropped the call's future without running it",
            }));
        }
    }
}

impl Drop for CallEnding {
    fn drop(&mut self) {
        self.abandon();
    }
}
