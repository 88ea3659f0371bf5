//! Keeps an instance registered, whatever the registry: the order of requests, pauses, the end.
//!
//! A registry adds its requests and what their answers mean ([`RegistrySteps`]).

use std::time::{Duration, Instant};

use super::RegistrationEvents;
use super::registry::{PAUSE_MIN, RegistryAccess};
use crate::agent::AgentCx;
use crate::agent::http::HttpRequest;
use crate::agent::http_agent::HttpAgent;
use crate::agent::http_client::{AgentHttp, HttpEvent, HttpResponse};
use crate::policy::backoff::Backoff;

/// The time that the end of a registration may take, over all requests.
pub(super) const END_MAX: Duration = Duration::from_secs(2);
/// The back-off after failures. Within the TTL there is always another try: it is a third of it at most.
const BACKOFF: Backoff = Backoff { base_ms: 100, max_ms: 10_000 };

/// A request of a step.
pub(super) struct StepRequest {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) body: Vec<u8>,
}

/// What follows after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterStep {
    /// The next step, at once.
    Next,
    /// The instance is registered. The next step, which keeps it, within a third of the TTL.
    Kept,
    /// The instance is deregistered.
    Ended,
}

/// The requests of a registry, as a state machine that is always in one step.
pub(super) trait RegistrySteps: Send {
    /// The name of the registry, for texts.
    const NAME: &'static str;

    /// Returns the request of the step.
    fn request(&self) -> StepRequest;

    /// Returns what every request has.
    fn access(&self) -> &RegistryAccess;

    /// Handles the answer and moves on to the step that follows; after an error that may be the same step.
    fn on_response(&mut self, response: &HttpResponse) -> Result<AfterStep, String>;

    /// Moves on to the first step of the end. Returns false if there is nothing to undo.
    fn begin_end(&mut self) -> bool;
}

/// The agent.
pub(super) struct Keeper<S> {
    steps: S,
    events: RegistrationEvents,
    http: AgentHttp,
    ttl: Duration,
    /// When the step's request starts, while none is running.
    start_at: Option<Instant>,
    failures: u32,
    /// When the end is given up.
    end_by: Option<Instant>,
    /// The steps are those of the end.
    is_undoing: bool,
    /// What was reported last: registered, or the reason of a failure.
    reported: Option<Result<(), String>>,
}

impl<S: RegistrySteps> Keeper<S> {
    pub(super) fn new(steps: S, ttl: Duration, events: RegistrationEvents) -> Keeper<S> {
        Keeper {
            http: steps.access().http(),
            steps,
            events,
            ttl,
            start_at: None,
            failures: 0,
            end_by: None,
            is_undoing: false,
            reported: None,
        }
    }

    /// Starts the request of the step.
    fn run_step(&mut self, cx: &mut AgentCx<'_>) {
        self.start_at = None;
        let access = self.steps.access();
        let left = self.end_by.map(|end_by| end_by.saturating_duration_since(cx.now));
        let time = left.map_or(access.request_timeout, |left| left.min(access.request_timeout));
        let StepRequest { method, target, body } = self.steps.request();
        self.http.start(HttpRequest::json(method, &target, &access.fields(), &body), time, cx);
    }

    /// Goes on after a request that was running when the end began, or after one of the end.
    fn go_on_ending(&mut self, outcome: Result<AfterStep, String>, cx: &mut AgentCx<'_>) {
        match outcome {
            _ if self.end_by.is_some_and(|at| at <= cx.now) => cx.end(),
            _ if !self.is_undoing => self.undo(cx),
            Ok(AfterStep::Ended) => cx.end(),
            Ok(AfterStep::Next | AfterStep::Kept) => self.run_step(cx),
            Err(_) => self.start_at = Some(cx.now + PAUSE_MIN),
        }
    }

    fn undo(&mut self, cx: &mut AgentCx<'_>) {
        self.is_undoing = true;
        if self.steps.begin_end() {
            self.run_step(cx);
        } else {
            cx.end();
        }
    }

    /// Reports a change.
    fn report(&mut self, outcome: Result<(), String>) {
        if self.reported.as_ref() != Some(&outcome) {
            match &outcome {
                Ok(()) => self.events.registered(),
                Err(why) => self.events.failed(why.clone()),
            }
            self.reported = Some(outcome);
        }
    }
}

impl<S: RegistrySteps> HttpAgent for Keeper<S> {
    fn http(&self) -> &AgentHttp {
        &self.http
    }

    fn http_mut(&mut self) -> &mut AgentHttp {
        &mut self.http
    }

    fn start(&mut self, cx: &mut AgentCx<'_>) {
        self.run_step(cx);
    }

    fn on_event(&mut self, event: HttpEvent, cx: &mut AgentCx<'_>) {
        let outcome = match event {
            HttpEvent::Response(response) => {
                let address = self.http.address();
                self.steps.on_response(&response).map_err(|why| format!("{} at {address}: {why}", S::NAME))
            }
            HttpEvent::Failed(why) => Err(format!("{} at {why}", S::NAME)),
            // Only streams have pieces.
            HttpEvent::Piece(_) => return,
        };
        if self.end_by.is_some() {
            return self.go_on_ending(outcome, cx);
        }
        match outcome {
            Ok(AfterStep::Next) => self.run_step(cx),
            Ok(AfterStep::Kept) => {
                self.failures = 0;
                let third = self.ttl / 3;
                // Spread over the last quarter of the interval, so that the servers of a fleet do not come together.
                self.start_at = Some(cx.now + third - cx.jitter(third / 4));
                self.report(Ok(()));
            }
            Ok(AfterStep::Ended) => cx.end(),
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                let delay = BACKOFF.delay(self.failures, cx.random.next_u64()).min(self.ttl / 3);
                self.start_at = Some(cx.now + PAUSE_MIN + delay);
                self.report(Err(why));
            }
        }
    }

    fn timer_at(&self) -> Option<Instant> {
        [self.start_at, self.end_by].into_iter().flatten().min()
    }

    fn on_timer(&mut self, cx: &mut AgentCx<'_>) {
        if self.end_by.is_some_and(|at| at <= cx.now) {
            self.http.cancel(cx);
            cx.end();
        } else {
            self.run_step(cx);
        }
    }

    fn stop(&mut self, cx: &mut AgentCx<'_>) {
        self.end_by = Some(cx.now + END_MAX);
        self.start_at = None;
        // A request that is on its way could be carried out after the end's: its answer is awaited.
        if !self.http.is_busy() {
            self.undo(cx);
        }
    }
}
