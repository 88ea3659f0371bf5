//! The reactor's state of one address: its connections, dialing, the pause after a failure, and the calls that wait
//! meanwhile.
//!
//! An endpoint has up to `connections_max` connections that take calls. Protocols whose replies name their call have
//! one connection; HTTP/1.1, where a reply waits for those before it, has a pool of them with one call on each. A
//! call that no connection has room for waits. While more calls wait than connections are being made, and the
//! endpoint has fewer connections than allowed, it dials one more. After a failure it pauses before the next attempt.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use coreloop_poller::Key;

use super::{ClientApp, Cx, Session, call_error};
use crate::client::CallError;
use crate::client::call_slot::Promise;
use crate::client::config::ClientConfig;
use crate::client::endpoint::EndSignal;
use crate::conn::CloseReason;
use crate::conn::streams::StreamWindows;
use crate::context::Peer;
use crate::message::Outgoing;
use crate::policy::fleet::EndpointId;
use crate::reactor::{Conns, DialId, DialRequest};
use crate::tls::TlsFailure;
use crate::transport::{Address, DialTarget, Opening, TlsClient, TlsDial, Transport};
#[cfg(feature = "netrpc")]
use crate::wire::netrpc::connect::ConnectError;
use crate::wire::{ClientProtocol, Scheme};

/// One attempt to connect.
#[derive(Clone, Copy, Debug)]
struct DialAttempt {
    attempt: u64,
    /// When the attempt is given up.
    until: Instant,
    /// The name is being resolved; the reactor does not connect yet.
    is_resolving: bool,
}

/// The order in which replies arrive on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyOrder {
    /// In any order: each reply names its call.
    Any,
    /// In the order of the calls.
    AsCalled,
    /// In the order of the calls, and the next call is sent after the reply to the previous one.
    OneAtATime,
}

/// The limits of one connection of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionBounds {
    /// Calls that wait for their replies.
    pub(super) calls_max: usize,
    /// With at least this many bytes of arguments, or bytes to be written, the connection takes no more calls.
    pub(super) bytes_max: usize,
}

pub(super) struct EndpointState {
    pub(super) scheme: Scheme,
    tls: Option<TlsClient>,
    pub(super) address: Address,
    pub(super) config: Arc<ClientConfig>,
    pub(super) order: ReplyOrder,
    pub(super) bounds: ConnectionBounds,
    /// Connections that take calls, the oldest first. A draining connection is not among them.
    pub(super) connections: Vec<Key>,
    connections_max: usize,
    /// Connections that are made without a call that waits for one.
    kept: usize,
    /// They are made ahead of the first call, and stay without calls.
    pub(super) is_warm: bool,
    /// When the next of them may be made.
    redial_at: Option<Instant>,
    /// Connections in a row that ended without a message of the server.
    unheard: u32,
    dials: Vec<DialAttempt>,
    /// The last attempt failed; the next one does not start before this time.
    pause_until: Option<Instant>,
    /// Calls without a connection, or beyond the limit of calls in flight; `Endpoint::enter` bounds them.
    pub(super) waiting: VecDeque<Promise>,
    /// How many of them were abandoned since the queue was last searched.
    pub(super) abandoned: usize,
    /// Failed attempts in a row.
    pub(super) failures: u32,
    /// The error of the last failed attempt.
    error: Option<CallError>,
    /// The fleet that it is a server of, by the number of its client's endpoint, and its name there.
    pub(super) fleet: Option<(u64, EndpointId)>,
}

/// Connections in a row that an HTTP server may close without an answer before calls fail without an attempt: while a
/// server is replaced by its successor, the connections in its accept queue are closed.
const DROPPED_MAX: u32 = 2;

impl EndpointState {
    pub(super) fn new(
        scheme: Scheme,
        tls: Option<TlsClient>,
        address: Address,
        config: Arc<ClientConfig>,
    ) -> EndpointState {
        let ClientConfig { in_flight_max, in_flight_bytes_max: bytes_max, .. } = *config;
        let (order, connections_max, bounds) = if scheme.has_ordered_replies() {
            // Together the connections stay within `in_flight_max`.
            let connections_max = config.http_connections_max.min(in_flight_max);
            let calls_max = config.http_pipelined_max.min(in_flight_max / connections_max);
            if calls_max == 1 {
                // A call is sent only when the one before is written completely.
                (ReplyOrder::OneAtATime, connections_max, ConnectionBounds { calls_max, bytes_max: 0 })
            } else {
                let bytes_max = bytes_max / connections_max;
                (ReplyOrder::AsCalled, connections_max, ConnectionBounds { calls_max, bytes_max })
            }
        } else {
            let connections_max = config.connections_per_endpoint.min(in_flight_max);
            let (calls_max, bytes_max) = (in_flight_max / connections_max, bytes_max / connections_max);
            (ReplyOrder::Any, connections_max, ConnectionBounds { calls_max, bytes_max })
        };
        EndpointState {
            scheme,
            tls,
            address,
            config,
            order,
            bounds,
            connections: Vec::new(),
            connections_max,
            kept: 0,
            is_warm: false,
            redial_at: None,
            unheard: 0,
            dials: Vec::new(),
            pause_until: None,
            waiting: VecDeque::new(),
            abandoned: 0,
            failures: 0,
            error: None,
            fleet: None,
        }
    }

    /// Creates the state of a server of a fleet.
    pub(super) fn of_fleet(
        scheme: Scheme,
        tls: Option<TlsClient>,
        address: Address,
        config: Arc<ClientConfig>,
        fleet: (u64, EndpointId),
    ) -> EndpointState {
        EndpointState { fleet: Some(fleet), ..EndpointState::new(scheme, tls, address, config) }
    }

    /// Takes no more calls on the connection. Returns false if it took none before.
    pub(super) fn retire(&mut self, key: Key) -> bool {
        let before = self.connections.len();
        self.connections.retain(|other| *other != key);
        self.connections.len() < before
    }

    /// Returns the next time at which this endpoint has work of its own, as of `now`.
    fn next_at(&self, now: Instant) -> Option<Instant> {
        let pause = self.pause_until.filter(|until| *until > now && self.wants_connection(now));
        let redial = self.redials_at().filter(|at| *at > now);
        let resolving = self.dials.iter().filter(|dial| dial.is_resolving);
        resolving.map(|dial| dial.until).chain(pause).chain(redial).min()
    }

    /// Returns whether calls wait for a connection that may be made and is not being made, or one of those that are kept is
    /// missing.
    fn wants_connection(&self, now: Instant) -> bool {
        let is_due = || self.lacks_kept() && self.redial_at.is_none_or(|at| at <= now);
        self.connections.len() + self.dials.len() < self.connections_max
            && (self.dials.len() < self.waiting.len() || is_due())
    }

    /// Returns when a connection that is kept and missing may be made.
    pub(super) fn redials_at(&self) -> Option<Instant> {
        self.redial_at.filter(|_| self.lacks_kept())
    }

    fn lacks_kept(&self) -> bool {
        self.connections.len() + self.dials.len() < self.kept
    }

    /// Returns whether a check may find work here: calls wait, a connection is being made, or one is missing that is kept.
    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.dials.is_empty() || self.lacks_kept()
    }

    /// Returns whether a connection is being made.
    pub(super) fn is_dialing(&self) -> bool {
        !self.dials.is_empty()
    }

    /// Makes connections ahead of the first call, and keeps them.
    pub(super) fn keep_warm(&mut self) {
        self.is_warm = true;
        self.kept = if self.order == ReplyOrder::Any { self.connections_max } else { 1 };
    }

    /// Makes no more connections than calls need.
    pub(super) fn keep_none(&mut self) {
        (self.is_warm, self.kept) = (false, 0);
    }

    /// Takes no more calls on the connection of a server that drains.
    pub(super) fn replace_later(&mut self, key: Key, now: Instant) {
        if self.retire(key) && self.kept > 0 {
            self.schedule_redial(true, now);
        }
    }

    /// Draws the time at which a connection that ended is replaced.
    fn schedule_redial(&mut self, is_heard: bool, now: Instant) {
        self.unheard = if is_heard { 1 } else { self.unheard.saturating_add(1) };
        let random = RandomState::new().hash_one(self.unheard);
        self.redial_at = Some(now + self.config.backoff.delay(self.unheard, random));
    }

    /// Returns whether an attempt waits for the addresses of this name.
    fn is_resolving(&self, name: &str) -> bool {
        self.dials.iter().any(|dial| dial.is_resolving)
            && matches!(&self.address, Address::Tcp(address) if address == name)
    }

    /// Returns whether calls fail during a pause instead of waiting for the next attempt: no connection exists or is
    /// being made that could take them.
    fn fails_at_once(&self) -> bool {
        let is_replaced = self.order != ReplyOrder::Any
            && matches!(self.error, Some(CallError::Lost { .. }))
            && self.failures <= DROPPED_MAX;
        self.connections.is_empty()
            && self.dials.is_empty()
            && !self.config.waits_for_connection
            && !is_replaced
    }

    /// Returns the reason why there is no connection, for one more caller. A call that is to be sent again may have
    /// run before.
    fn unreachable(&self, may_have_run: bool) -> CallError {
        let error = match &self.error {
            Some(CallError::Connect(error)) if !may_have_run => return CallError::Connect(again(error)),
            Some(CallError::WrongProtocol(why)) if !may_have_run => {
                return CallError::WrongProtocol(why.clone());
            }
            Some(CallError::Connect(error) | CallError::Lost { error, .. }) => again(error),
            Some(other) => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
            None if !may_have_run => return CallError::Connect(io::ErrorKind::NotConnected.into()),
            None => io::ErrorKind::NotConnected.into(),
        };
        CallError::Lost { error, may_have_run }
    }
}

/// Copies the error for one more caller. A refusal of the server stays downcastable, so that each caller can inspect
/// it.
fn again(error: &io::Error) -> io::Error {
    #[cfg(feature = "netrpc")]
    if let Some(why) = error.get_ref().and_then(|why| why.downcast_ref::<ConnectError>()) {
        return io::Error::new(error.kind(), why.clone());
    }
    match TlsFailure::of(error) {
        Some(failure) => failure.clone().into_error(),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Returns the exchange that precedes the protocol, if the scheme has one.
fn opening(scheme: Scheme) -> Option<Opening> {
    #[cfg(feature = "netrpc")]
    if scheme.is_behind_http() {
        return Some(super::behind_http::OPENING);
    }
    let _ = scheme;
    None
}

/// The text of the error of an attempt that takes too long.
const LATE: &str = "not connected within connect_timeout_ms";

impl ClientApp {
    /// Queues a call that cannot be sent now, or fails it if there is nothing to wait for.
    pub(super) fn wait_for_turn(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64, promise: Promise) {
        let now = conns.now();
        let Some(line) = self.lines.get_mut(&number) else { return };
        if line.pause_until.is_some_and(|until| until > now) && line.fails_at_once() {
            let error = line.unreachable(promise.is_sent);
            return promise.fail(error);
        }
        if line.order == ReplyOrder::Any && line.connections_max > 1 {
            // A call needs one; the next calls are divided among all.
            line.kept = line.connections_max;
        }
        line.waiting.push_back(promise);
        self.waiting += 1;
        self.dial_for_waiting(conns, number);
    }

    /// Puts the calls of a connection that ended at the front of the queue, to be sent on another one.
    pub(super) fn send_again(&mut self, number: u64, promises: impl DoubleEndedIterator<Item = Promise>) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        for promise in promises.rev() {
            promise.call_slot().id.store(0, Ordering::Relaxed);
            line.waiting.push_front(promise);
            self.waiting += 1;
        }
    }

    /// Dials the connections that calls wait for, as far as the endpoint may have more and is not pausing.
    pub(super) fn dial_for_waiting(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64) {
        let now = conns.now();
        while let Some(line) = self.lines.get(&number)
            && line.wants_connection(now)
        {
            match line.pause_until {
                Some(until) if until > now => return self.look_by(until),
                Some(_) | None => self.dial(conns, number),
            }
        }
    }

    /// Begins to connect, or to resolve the name that the address has.
    fn dial(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64) {
        let now = conns.now();
        let Some(line) = self.lines.get_mut(&number) else { return };
        self.attempts += 1;
        let attempt = self.attempts;
        let until = now + Duration::from_millis(line.config.connect_timeout_ms);
        let target = DialTarget::of(&line.address);
        line.dials.push(DialAttempt { attempt, until, is_resolving: target.is_none() });
        match (target, &line.address) {
            (Some(target), _) => self.connect(conns, DialId { owner: number, attempt }, target),
            (None, address) => {
                let name = address.to_string();
                self.look_by(until);
                if let Err(error) = self.names.look_up(name, until, &self.shared, &self.remote) {
                    self.on_dial_ended(conns, DialId { owner: number, attempt }, Err(error));
                }
            }
        }
    }

    /// Connects for an attempt whose address is known.
    fn connect(&mut self, conns: &mut Conns<'_, ClientApp>, id: DialId, target: DialTarget) {
        let Some(line) = self.lines.get_mut(&id.owner) else { return };
        let Some(dial) = line.dials.iter_mut().find(|dial| dial.attempt == id.attempt) else { return };
        dial.is_resolving = false;
        let (until, opening) = (dial.until, opening(line.scheme));
        let tls = line.tls.as_ref().map(|tls| TlsDial::new(tls, &line.address, line.scheme.alpn()));
        if let Err(error) = conns.dial(DialRequest { id, target, tls, opening, until, late: LATE }) {
            self.on_dial_ended(conns, id, Err(error));
        }
    }

    /// Handles the addresses of a name: every attempt that waits for them goes on.
    pub(super) fn on_resolved(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        name: &str,
        result: &io::Result<Vec<SocketAddr>>,
    ) {
        // First: what follows may look up the name again.
        let lines = &self.lines;
        self.names.on_end(name, &self.remote, |name| lines.values().any(|line| line.is_resolving(name)));
        let waiting: Vec<DialId> = self
            .lines
            .iter()
            .filter(|(_, line)| line.is_resolving(name))
            .flat_map(|(number, line)| {
                let resolving = line.dials.iter().filter(|dial| dial.is_resolving);
                resolving.map(|dial| DialId { owner: *number, attempt: dial.attempt })
            })
            .collect();
        for id in waiting {
            match result {
                Ok(addresses) => self.connect(conns, id, DialTarget::Tcp(addresses.clone())),
                Err(error) => self.on_dial_ended(conns, id, Err(again(error))),
            }
        }
    }

    /// Handles the end of an attempt to connect.
    pub(super) fn on_dial_ended(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        id: DialId,
        result: io::Result<(Transport, Peer)>,
    ) {
        let DialId { owner: number, attempt } = id;
        let now = conns.now();
        let Some(line) = self.lines.get_mut(&number) else { return };
        let Some(at) = line.dials.iter().position(|dial| dial.attempt == attempt) else {
            // This attempt was given up; the socket is closed here.
            return;
        };
        line.dials.swap_remove(at);
        let config = line.config.clone();
        let adopted = result.and_then(|(stream, peer)| {
            let wire = ClientProtocol::new(line.scheme, &line.address.to_string(), config.frame_bytes_max);
            let window = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
            let windows = StreamWindows {
                stream_bytes: window(config.stream_window_bytes),
                connection_bytes: window(config.connection_window_bytes),
            };
            conns.adopt(stream, peer, wire, Session::new(number, line.order, windows, now))
        });
        match adopted {
            Err(error) => self.on_dial_failed(number, CallError::Connect(error), now),
            Ok(key) => {
                line.connections.push(key);
                line.pause_until = None;
                let is_ping_due = line.is_warm && line.waiting.is_empty() && line.scheme.can_ping();
                self.keys.push(key);
                self.shared.stats.connects.add(1);
                let silent_ms = [config.ping_ms, config.idle_ms].into_iter().filter(|ms| *ms > 0).min();
                if let Some(ms) = silent_ms {
                    self.look_by(now + Duration::from_millis(ms));
                }
                self.on_fleet_connection(number, now);
                if is_ping_due {
                    // A server closes connections on which nothing was ever sent first.
                    conns.with(key, |cx| cx.send(Outgoing::Ping { id: 0 }));
                }
                conns.with(key, |cx| self.refill(cx));
            }
        }
    }

    /// Handles a connection that could not be made, or that was closed before the server sent anything: the next
    /// attempt waits for the pause. Calls that no other connection can take fail.
    fn on_dial_failed(&mut self, number: u64, error: CallError, now: Instant) {
        self.shared.stats.connect_failures.add(1);
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.error = Some(error);
        let until = match line.pause_until {
            // Several attempts ran at a time; they count as one failure.
            Some(until) if until > now => until,
            Some(_) | None => {
                line.failures = line.failures.saturating_add(1);
                let random = RandomState::new().hash_one(line.failures);
                now + line.config.backoff.delay(line.failures, random)
            }
        };
        line.pause_until = Some(until);
        if line.is_warm {
            self.look_by(until);
        } else {
            line.kept = 0;
        }
        if self.lines.get(&number).is_some_and(|line| line.fleet.is_some()) {
            self.on_fleet_connection(number, now);
        }
        let Some(line) = self.lines.get_mut(&number) else { return };
        if !line.fails_at_once() {
            if !line.waiting.is_empty() {
                self.look_by(until);
            }
            return;
        }
        let waiting = std::mem::take(&mut line.waiting);
        self.waiting -= waiting.len();
        for promise in waiting {
            // Looked up each time: the caller's callback may have closed the endpoint.
            let line = self.lines.get(&number);
            let error = line.map_or(CallError::NotSent, |line| line.unreachable(promise.is_sent));
            promise.fail(error);
        }
    }

    pub(super) fn on_connection_ended(&mut self, key: Key, session: &Session, why: &CloseReason) {
        let now = Instant::now();
        let Some(line) = self.lines.get_mut(&session.line) else { return };
        let took_calls = line.retire(key);
        if line.fleet.is_some() {
            self.on_fleet_connection(session.line, now);
        }
        let Some(line) = self.lines.get_mut(&session.line) else { return };
        if took_calls && line.kept > 0 {
            line.schedule_redial(session.is_heard, now);
            line.redial_at.into_iter().for_each(|at| self.look_by(at));
        }
        let Some(line) = self.lines.get(&session.line) else { return };
        let is_ours = matches!(why, CloseReason::App | CloseReason::Drained | CloseReason::Idle);
        // A server may close a spare connection of a pool at any time; that is not a failure.
        let is_spare = line.order != ReplyOrder::Any && !session.has_sent;
        if took_calls && !session.is_heard && !is_ours && !is_spare {
            // A server that accepts connections only to close them must not be dialed in a loop.
            let error = call_error(line, session, why, false);
            return self.on_dial_failed(session.line, error, now);
        }
        if !line.waiting.is_empty() {
            // Other connections may have room for the calls that wait.
            self.look_by(now);
        }
    }

    /// Does what is due on every endpoint: ends late attempts, dials, and schedules the next check.
    pub(super) fn look_at_lines(&mut self, conns: &mut Conns<'_, ClientApp>) {
        let now = conns.now();
        // Of a thousand servers of a fleet few have any.
        let with_work = self.lines.iter().filter(|(_, line)| line.has_work());
        let numbers: Vec<u64> = with_work.map(|(number, _)| *number).collect();
        for number in numbers {
            while let Some(line) = self.lines.get_mut(&number)
                && let Some(at) = line.dials.iter().position(|dial| dial.is_resolving && dial.until <= now)
            {
                line.dials.swap_remove(at);
                let error = io::Error::new(io::ErrorKind::TimedOut, LATE);
                self.on_dial_failed(number, CallError::Connect(error), now);
            }
            self.dial_for_waiting(conns, number);
            if let Some(line) = self.lines.get(&number) {
                let deadline = line.waiting.iter().filter_map(|promise| promise.deadline).min();
                line.next_at(now).into_iter().chain(deadline).for_each(|at| self.look_by(at));
            }
        }
    }

    /// Closes an endpoint that has no client and no call in flight any more.
    pub(super) fn on_line_closed(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        number: u64,
        signals: &[EndSignal],
    ) {
        self.on_fleet_closed(conns, number, signals);
        if let Some(line) = self.lines.remove(&number) {
            debug_assert!(line.waiting.is_empty(), "a call keeps its line");
            self.waiting -= line.waiting.len();
            for key in line.connections {
                conns.with(key, |cx| cx.close());
            }
            if !signals.is_empty() {
                // Those that drain, too.
                let set = |cx: &mut Cx<'_>| {
                    if cx.session.line == number {
                        cx.session.end_signals = signals.to_vec();
                    }
                };
                self.keys.iter().for_each(|key| conns.with(*key, set).unwrap_or_default());
            }
        }
    }
}
