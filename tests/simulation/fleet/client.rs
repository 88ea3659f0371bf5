//! A client: a [`Fleet`] with all its policies, a connection to each endpoint, and the calls. It does what the client's
//! reactor does with the fleet's answers.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use coreloop::policy::fleet::{
    AfterAttempt, AttemptEnd, CallAttempts, EndpointId, FailedAttempt, Fleet, NoEndpoint, Outcome, PickFor,
};

use super::endpoints::Endpoint;
use super::network::Request;
use super::scenario::{ClientSpec, METHODS, MS, MethodSpec, Ns, SECOND};
use super::world::{Actor, Event, Sabotage, World, trace};
use crate::rng::Rng;

/// The most calls of a burst.
const BURST_MAX: usize = 24;
/// Handlers take at most this many times the mean.
const HANDLER_FACTOR_MAX: u64 = 6;
const KEYS: usize = 1_000;

/// How an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    Ok,
    /// An error that is the caller's, such as `not_found`.
    CallersError,
    Internal,
    Exhausted {
        retry_after_ms: u32,
    },
    /// The server has answered `deadline_exceeded`.
    TooLate,
    /// The connection was lost.
    Lost {
        was_sent: bool,
    },
    /// There is no connection, and the next attempt to connect is not due.
    NotConnected,
    /// The call's deadline has passed.
    Deadline,
    Cancelled,
}

impl AttemptResult {
    fn outcome(self) -> Outcome {
        match self {
            AttemptResult::Ok | AttemptResult::CallersError => Outcome::Success,
            AttemptResult::Internal
            | AttemptResult::TooLate
            | AttemptResult::Lost { .. }
            | AttemptResult::NotConnected
            | AttemptResult::Deadline => Outcome::Failure,
            AttemptResult::Exhausted { .. } => Outcome::Refused,
            AttemptResult::Cancelled => Outcome::Cancelled,
        }
    }

    fn may_have_run(self) -> bool {
        !matches!(
            self,
            AttemptResult::Exhausted { .. }
                | AttemptResult::TooLate
                | AttemptResult::NotConnected
                | AttemptResult::Lost { was_sent: false }
        )
    }

    fn is_retryable(self) -> bool {
        let is_transient = matches!(self, AttemptResult::Exhausted { .. } | AttemptResult::NotConnected);
        is_transient || matches!(self, AttemptResult::Lost { .. })
    }
}

/// How a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    Attempt(AttemptResult),
    NoEndpoint,
}

#[derive(Debug)]
pub struct Call {
    pub client: usize,
    pub method: usize,
    key: Option<u64>,
    pub began: Ns,
    /// How long a handler takes for it.
    pub takes: Ns,
    deadline: Option<Ns>,
    state: CallAttempts,
    /// Attempts that have not ended.
    live: Vec<usize>,
    pub end: Option<CallEnd>,
    /// The handlers that have begun for it: what the servers know, and the client does not.
    pub runs: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub call: usize,
    /// The endpoint that the fleet has picked.
    picked: EndpointId,
    /// The endpoint that is used: another one if a deliberate fault has it so.
    endpoint: EndpointId,
    conn: Option<usize>,
    picked_at: Ns,
    is_hedge: bool,
    pub is_live: bool,
}

pub struct ClientSim {
    pub fleet: Fleet,
    pub spec: ClientSpec,
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
    /// Calls that wait for the first resolution.
    pub unresolved: VecDeque<usize>,
    /// Health checks without a result.
    pub checks: BTreeMap<u64, EndpointId>,
    pub next_check: u64,
    /// When the last update arrives.
    pub resolved_at: Ns,
    pub calls: u64,
    pub in_flight: u64,
}

impl ClientSim {
    pub fn new(spec: &ClientSpec, seed: u64, sabotage: Sabotage) -> ClientSim {
        let mut config = spec.config.clone();
        if sabotage == Sabotage::LeavesRegion {
            (config.zone, config.must_stay_in) = (None, None);
        }
        ClientSim {
            fleet: Fleet::new(config, seed),
            spec: spec.clone(),
            endpoints: BTreeMap::new(),
            unresolved: VecDeque::new(),
            checks: BTreeMap::new(),
            next_check: 0,
            resolved_at: 0,
            calls: 0,
            in_flight: 0,
        }
    }

    /// Attempts, waiting calls and health checks that have not ended.
    pub fn left(&self) -> (u32, usize, usize) {
        let attempts = self.endpoints.values().map(|endpoint| endpoint.in_flight).sum();
        (attempts, self.unresolved.len(), self.checks.len())
    }
}

impl World {
    // Calls.

    pub fn on_arrival(&mut self, client: usize) {
        let rate = self.clients[client].spec.rate * self.load();
        if rate <= 0.0 {
            return;
        }
        let is_bursty = self.scenario.is_bursty && self.now < self.scenario.faults_end;
        let count = if is_bursty && self.rng.one_in(4) { 1 + self.rng.below(BURST_MAX) } else { 1 };
        let mean = (SECOND as f64 / rate) as Ns * count as Ns;
        let next = self.now + self.rng.spread(mean);
        self.at(next, Event::Arrive(client));
        (0..count).for_each(|_| self.begin_call(client));
    }

    fn begin_call(&mut self, client: usize) {
        let now = self.instant();
        let number = self.calls.len();
        let mut share = self.rng.below(100) as u32;
        let is_this = |spec: &MethodSpec| {
            let is_this = share < spec.share;
            share = share.wrapping_sub(spec.share);
            is_this
        };
        let method = METHODS.iter().position(is_this).expect("the shares add up to 100");
        let mut wait = Some(METHODS[method].deadline);
        if self.active.impatient > 0 && self.rng.one_in(20) {
            wait = Some(20 * MS);
        } else if self.now < self.scenario.faults_end && self.rng.one_in(20) {
            wait = None;
        }
        let deadline = wait.map(|wait| self.now + wait);
        let mean = METHODS[method].mean;
        let takes = self.rng.spread(mean).clamp(1_000, HANDLER_FACTOR_MAX * mean);
        let key = self.clients[client].spec.has_keys.then(|| Rng::new(self.rng.below(KEYS) as u64).next());
        self.calls.push(Call {
            client,
            method,
            key,
            began: self.now,
            takes,
            deadline,
            state: CallAttempts::default(),
            live: Vec::new(),
            end: None,
            runs: 0,
        });
        let sim = &mut self.clients[client];
        sim.calls += 1;
        sim.in_flight += 1;
        sim.fleet.on_call(now);
        self.audit.on_call(client, self.now, takes);
        if let Some(at) = deadline {
            self.at(at, Event::Deadline(number));
        }
        if self.active.cancels > 0 && self.rng.one_in(3) {
            let at = self.now + self.rng.spread(30 * MS);
            self.at(at, Event::GivesUp(number));
        }
        let MethodSpec { name, is_idempotent, .. } = METHODS[method];
        trace!(self, Actor::Client(client), "call {number} {name} begins");
        self.start_attempt(number, false);
        let hedge_after = self.clients[client].fleet.hedge_after(method as u32, is_idempotent);
        if let Some(after) = hedge_after {
            self.at(self.now + after.as_nanos() as Ns, Event::Hedge(number));
        }
    }

    pub fn on_deadline(&mut self, call: usize) {
        if self.calls[call].end.is_none() {
            self.end_call(call, CallEnd::Attempt(AttemptResult::Deadline));
        }
    }

    pub fn on_gives_up(&mut self, call: usize) {
        if self.calls[call].end.is_none() {
            self.end_call(call, CallEnd::Attempt(AttemptResult::Cancelled));
        }
    }

    pub fn on_retry(&mut self, call: usize) {
        if self.calls[call].end.is_none() {
            self.start_attempt(call, false);
        }
    }

    pub fn on_hedge(&mut self, call: usize) {
        let now = self.instant();
        let Call { client, end, ref live, .. } = self.calls[call];
        // Only an attempt that is on its way is hedged.
        if end.is_some() || live.len() != 1 {
            return;
        }
        if self.clients[client].fleet.try_hedge(now, &mut self.calls[call].state) {
            self.outcome.hedges += 1;
            self.count_extra(client);
            self.start_attempt(call, true);
        }
    }

    fn count_extra(&mut self, client: usize) {
        if let Some(text) = self.audit.on_extra_attempt(client, self.now) {
            self.violate("retries and hedges stay within the budget", text);
        }
    }

    /// Ends a call, with the attempts that still run.
    fn end_call(&mut self, number: usize, end: CallEnd) {
        let call = &mut self.calls[number];
        let client = call.client;
        trace!(self, Actor::Client(client), "call {number} ends: {end:?}");
        let call = &mut self.calls[number];
        if let Some(before) = call.end.replace(end) {
            self.violate("a call ends once", format!("call {number} ended with {before:?}, and now {end:?}"));
            return;
        }
        self.clients[client].in_flight -= 1;
        let result = match end {
            CallEnd::Attempt(AttemptResult::Deadline) => AttemptResult::Deadline,
            CallEnd::Attempt(_) | CallEnd::NoEndpoint => AttemptResult::Cancelled,
        };
        let live = std::mem::take(&mut self.calls[number].live);
        for attempt in live {
            if let Some(conn) = self.attempts[attempt].conn {
                self.send_up(conn, Request::Cancel { attempt });
            }
            self.close_attempt(attempt, result, None);
        }
        self.outcome.calls += 1;
        let is_good = matches!(end, CallEnd::Attempt(AttemptResult::Ok | AttemptResult::CallersError));
        self.outcome.succeeded += u64::from(is_good);
        self.audit.on_call_end(self.calls[number].began, is_good);
        if self.sabotage == Sabotage::EndsTwice && self.rng.one_in(50) {
            self.end_call(number, end);
        }
    }

    // Attempts.

    pub fn start_attempt(&mut self, number: usize, is_hedge: bool) {
        let now = self.instant();
        let Call { client, method, key, ref state, .. } = self.calls[number];
        let pick = PickFor { method: method as u32, key, tried: &state.tried };
        let picked = match self.clients[client].fleet.pick(now, pick) {
            Ok(picked) => picked,
            Err(_) if is_hedge => return,
            Err(NoEndpoint::NotResolved) => {
                self.clients[client].unresolved.push_back(number);
                return;
            }
            Err(why) => {
                trace!(self, Actor::Client(client), "call {number} has no endpoint: {why:?}");
                return self.end_call(number, CallEnd::NoEndpoint);
            }
        };
        let endpoint = self.divert(client, picked);
        let attempt = self.attempts.len();
        self.attempts.push(Attempt {
            call: number,
            picked,
            endpoint,
            conn: None,
            picked_at: self.now,
            is_hedge,
            is_live: true,
        });
        self.calls[number].live.push(attempt);
        self.calls[number].state.tried.push(picked);
        self.check_pick(client, endpoint);
        if let Some(state) = self.clients[client].endpoints.get_mut(&picked) {
            state.picked_in_flight += 1;
        }
        let Some(state) = self.clients[client].endpoints.get_mut(&endpoint) else {
            let text = format!("call {number} goes to {endpoint:?}, which the client does not have");
            return self.violate("an endpoint that is picked exists", text);
        };
        state.in_flight += 1;
        let (server, conn, is_dialing) = (state.server, state.conn, state.dialing_since.is_some());
        let what = if is_hedge { "hedge" } else { "attempt" };
        trace!(self, Actor::Client(client), "call {number} has {what} {attempt} at server {server}");
        match conn {
            Some(conn) => self.send_attempt(attempt, conn),
            None if is_dialing => self.wait_for_connection(attempt),
            None if self.is_pausing(client, endpoint) => {
                self.fail(attempt, AttemptResult::NotConnected, None)
            }
            None => {
                self.wait_for_connection(attempt);
                self.dial(client, endpoint);
            }
        }
    }

    fn is_pausing(&self, client: usize, endpoint: EndpointId) -> bool {
        let state = &self.clients[client].endpoints[&endpoint];
        state.is_removed || state.pause_until.is_some_and(|until| until > self.now)
    }

    fn wait_for_connection(&mut self, attempt: usize) {
        let Attempt { call, endpoint, .. } = self.attempts[attempt];
        let client = self.calls[call].client;
        if let Some(state) = self.clients[client].endpoints.get_mut(&endpoint) {
            state.waiting.push(attempt);
        }
    }

    pub fn send_attempt(&mut self, number: usize, conn: usize) {
        self.attempts[number].conn = Some(conn);
        let call = &self.calls[self.attempts[number].call];
        let (client, method) = (call.client, call.method);
        let round_trip = self.links[client][self.conns[conn].server].round_trip_min();
        let left = call.deadline.map(|at| at.saturating_sub(self.now).saturating_sub(round_trip).max(1_000));
        if self.conns[conn].in_flight.is_empty() {
            self.conns[conn].heard_at = self.now;
        }
        self.conns[conn].in_flight.insert(number);
        self.send_up(conn, Request::Call { attempt: number, method, left });
    }

    /// Takes note of the end of an attempt, for the connection, the endpoint and the fleet.
    fn close_attempt(&mut self, number: usize, result: AttemptResult, load_us: Option<u32>) {
        let now = self.instant();
        let attempt = &mut self.attempts[number];
        if !std::mem::take(&mut attempt.is_live) {
            return self.violate("an attempt ends once", format!("attempt {number} ends again: {result:?}"));
        }
        let Attempt { call, picked, endpoint, conn, picked_at, .. } = *attempt;
        let Call { client, method, .. } = self.calls[call];
        if let Some(conn) = conn {
            self.conns[conn].in_flight.remove(&number);
        }
        let sim = &mut self.clients[client];
        if let Some(state) = sim.endpoints.get_mut(&endpoint) {
            state.in_flight -= 1;
            state.waiting.retain(|waiting| *waiting != number);
        }
        let end = AttemptEnd {
            endpoint: picked,
            method: method as u32,
            outcome: result.outcome(),
            took: Duration::from_nanos(self.now - picked_at),
            load_us,
            retry_after: match result {
                AttemptResult::Exhausted { retry_after_ms } => {
                    Some(Duration::from_millis(retry_after_ms.into()))
                }
                _ => None,
            },
        };
        if let Some(state) = sim.endpoints.get_mut(&picked) {
            state.picked_in_flight -= 1;
        }
        let is_forgotten = self.sabotage == Sabotage::ForgetsEnds && self.rng.one_in(100);
        if !is_forgotten {
            self.clients[client].fleet.on_attempt_end(now, &end);
        }
        self.release_endpoint(client, endpoint);
    }

    /// An attempt has failed, or has an answer.
    pub fn fail(&mut self, number: usize, result: AttemptResult, load_us: Option<u32>) {
        let now = self.instant();
        let call = self.attempts[number].call;
        self.calls[call].live.retain(|live| *live != number);
        self.close_attempt(number, result, load_us);
        let Call { client, method, deadline, ref live, end, .. } = self.calls[call];
        if end.is_some() {
            return;
        }
        if result.outcome() == Outcome::Success {
            if self.attempts[number].is_hedge {
                self.outcome.hedges_won += 1;
                self.clients[client].fleet.on_hedge_won();
            }
            return self.end_call(call, CallEnd::Attempt(result));
        }
        trace!(self, Actor::Client(client), "call {call} has a failed attempt {number}: {result:?}");
        if !live.is_empty() {
            // The other attempt may still succeed.
            return;
        }
        let retry_after = match result {
            AttemptResult::Exhausted { retry_after_ms } => Some(Duration::from_millis(retry_after_ms.into())),
            _ => None,
        };
        let failed = FailedAttempt {
            outcome: result.outcome(),
            may_have_run: result.may_have_run(),
            is_idempotent: METHODS[method].is_idempotent,
            is_retryable: result.is_retryable(),
            retry_after,
            left: deadline.map(|at| Duration::from_nanos(at.saturating_sub(self.now))),
        };
        let after = self.clients[client].fleet.after_attempt(now, &mut self.calls[call].state, &failed);
        match self.overrule(after, &failed) {
            AfterAttempt::Retry(pause) => {
                self.outcome.retries += 1;
                self.count_extra(client);
                self.at(self.now + pause.as_nanos() as Ns, Event::Retry(call));
            }
            AfterAttempt::End => self.end_call(call, CallEnd::Attempt(result)),
        }
    }

    /// A handler begins to run an attempt.
    pub fn on_run(&mut self, attempt: usize) {
        let number = self.attempts[attempt].call;
        let call = &mut self.calls[number];
        call.runs += 1;
        let (runs, method) = (call.runs, &METHODS[call.method]);
        if runs > 1 && !method.is_idempotent {
            let text = format!("call {number} of {} runs {runs} times", method.name);
            self.violate("a call that may not be repeated runs once", text);
        }
    }

    // Deliberate faults.

    fn divert(&mut self, client: usize, picked: EndpointId) -> EndpointId {
        let mut all = self.clients[client].endpoints.iter().filter(|(_, state)| !state.is_removed);
        match self.sabotage {
            // The calls of the last go to the first.
            Sabotage::StarvesOneEndpoint => match (all.next(), all.next_back()) {
                (Some((first, _)), Some((last, _))) if picked == *last => *first,
                _ => picked,
            },
            _ => picked,
        }
    }

    fn overrule(&self, after: AfterAttempt, failed: &FailedAttempt) -> AfterAttempt {
        let has_time = failed.left.is_none_or(|left| left > Duration::from_millis(20));
        let overrules = match self.sabotage {
            Sabotage::RetriesWithoutBudget => failed.is_idempotent && failed.outcome != Outcome::Cancelled,
            Sabotage::RepeatsEverything => failed.may_have_run,
            _ => false,
        };
        if overrules && has_time { AfterAttempt::Retry(Duration::from_millis(10)) } else { after }
    }
}
