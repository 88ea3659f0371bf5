//! One address: its connections, connecting, pausing after a failure, and the calls that wait meanwhile.
//!
//! A line has up to `connections_max` connections that take calls. Protocols whose replies name their call have one; by
//! HTTP/1.1, where a reply waits for those before it, there is a pool of them with one call on each. A call that no
//! connection has room for waits; while there are more calls that wait than connections being made, and fewer
//! connections than allowed, one more is made. After a failure there is a pause before the next try.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use coreloop_poller::Key;
use socket2::Socket;

use super::{ClientApp, ClientCommand, Session, call_error};
use crate::client::CallError;
use crate::client::call_slot::Promise;
use crate::client::config::ClientConfig;
use crate::conn::CloseReason;
use crate::context::Peer;
use crate::reactor::{Address, Conns, NetStream, dial};
#[cfg(feature = "netrpc")]
use crate::wire::netrpc::connect::ConnectError;
use crate::wire::{ClientProtocol, Scheme};

/// A try to connect, on a thread of its own.
#[derive(Clone, Copy, Debug)]
struct Dial {
    attempt: u64,
    /// What it brings after that time is not taken.
    until: Instant,
}

/// In which order replies come on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyOrder {
    /// In any: each names its call.
    Any,
    /// In that of the calls.
    AsCalled,
    /// The same, and there is no second call before the reply to the first.
    OneAtATime,
}

/// What one connection of a line may carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionBounds {
    /// Calls that wait for their replies.
    pub(super) calls_max: usize,
    /// With at least this many bytes of arguments, or bytes to be written, there is room for no call more.
    pub(super) bytes_max: usize,
}

pub(super) struct EndpointState {
    pub(super) scheme: Scheme,
    pub(super) address: Address,
    pub(super) config: Arc<ClientConfig>,
    pub(super) order: ReplyOrder,
    pub(super) bounds: ConnectionBounds,
    /// Connections that take calls, the oldest first. One that drains is not among them.
    pub(super) connections: Vec<Key>,
    connections_max: usize,
    dials: Vec<Dial>,
    /// The last try failed; there is no other before that time.
    pause_until: Option<Instant>,
    /// Calls without a connection, or beyond the bound of what may be in flight; `Lane::enter` bounds them.
    pub(super) waiting: VecDeque<Promise>,
    /// How many of them were given up since they were last gone through.
    pub(super) abandoned: usize,
    /// Tries that failed, in a row.
    pub(super) failures: u32,
    /// Why the last one did.
    error: Option<CallError>,
}

/// Connections in a row that an HTTP server may close without an answer before calls fail without a try: while it is
/// replaced by its successor, those in its accept queue are.
const DROPPED_MAX: u32 = 2;

impl EndpointState {
    pub(super) fn new(scheme: Scheme, address: Address, config: Arc<ClientConfig>) -> EndpointState {
        let ClientConfig { in_flight_max, in_flight_bytes_max: bytes_max, .. } = *config;
        let (order, connections_max, bounds) = if scheme.has_ordered_replies() {
            // Together they stay within `in_flight_max`.
            let connections_max = config.http_connections_max.min(in_flight_max);
            let calls_max = config.http_pipelined_max.min(in_flight_max / connections_max);
            if calls_max == 1 {
                // A call goes out only when nothing of the one before is left to be written.
                (ReplyOrder::OneAtATime, connections_max, ConnectionBounds { calls_max, bytes_max: 0 })
            } else {
                let bytes_max = bytes_max / connections_max;
                (ReplyOrder::AsCalled, connections_max, ConnectionBounds { calls_max, bytes_max })
            }
        } else {
            (ReplyOrder::Any, 1, ConnectionBounds { calls_max: in_flight_max, bytes_max })
        };
        EndpointState {
            scheme,
            address,
            config,
            order,
            bounds,
            connections: Vec::new(),
            connections_max,
            dials: Vec::new(),
            pause_until: None,
            waiting: VecDeque::new(),
            abandoned: 0,
            failures: 0,
            error: None,
        }
    }

    /// The connection takes no more calls. False if it did not before.
    pub(super) fn retire(&mut self, key: Key) -> bool {
        let before = self.connections.len();
        self.connections.retain(|other| *other != key);
        self.connections.len() < before
    }

    /// When this line has something to do by itself, as of now.
    fn next_at(&self, now: Instant) -> Option<Instant> {
        let pause = self.pause_until.filter(|until| *until > now && self.wants_connection());
        self.dials.iter().map(|dial| dial.until).chain(pause).min()
    }

    /// Calls wait for a connection that may be made and is not being made.
    fn wants_connection(&self) -> bool {
        self.connections.len() + self.dials.len() < self.connections_max
            && self.dials.len() < self.waiting.len()
    }

    /// In a pause, calls do not wait for the next try: there is no connection that could take them, and no hope.
    fn fails_at_once(&self) -> bool {
        let is_replaced = self.order != ReplyOrder::Any
            && matches!(self.error, Some(CallError::Lost { .. }))
            && self.failures <= DROPPED_MAX;
        self.connections.is_empty()
            && self.dials.is_empty()
            && !self.config.waits_for_connection
            && !is_replaced
    }

    /// Why there is no connection, for one more caller. A call that is to be sent again may have run before.
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

/// The same error for one more caller; what a server's answer was is kept, so that each can ask for it.
fn again(error: &io::Error) -> io::Error {
    #[cfg(feature = "netrpc")]
    if let Some(why) = error.get_ref().and_then(|why| why.downcast_ref::<ConnectError>()) {
        return io::Error::new(error.kind(), why.clone());
    }
    io::Error::new(error.kind(), error.to_string())
}

/// Says what stands in front of the protocol, where something does.
fn open(scheme: Scheme, socket: &Socket, until: Instant) -> io::Result<()> {
    #[cfg(feature = "netrpc")]
    if scheme.is_behind_http() {
        return super::behind_http::ask_for_gob(socket, until);
    }
    let _ = (scheme, socket, until);
    Ok(())
}

impl ClientApp {
    /// A call that cannot go out now waits, or fails where there is nothing to wait for.
    pub(super) fn wait_for_turn(&mut self, number: u64, promise: Promise, now: Instant) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        if line.pause_until.is_some_and(|until| until > now) && line.fails_at_once() {
            let error = line.unreachable(promise.is_sent);
            return promise.fail(error);
        }
        line.waiting.push_back(promise);
        self.waiting += 1;
        self.dial_for_waiting(number, now);
    }

    /// Calls that were on a connection which ended go out first on another.
    pub(super) fn send_again(&mut self, number: u64, promises: impl DoubleEndedIterator<Item = Promise>) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        for promise in promises.rev() {
            promise.call_slot().id.store(0, Ordering::Relaxed);
            line.waiting.push_front(promise);
            self.waiting += 1;
        }
    }

    /// Makes the connections that calls wait for, as far as the line may have more and does not pause.
    pub(super) fn dial_for_waiting(&mut self, number: u64, now: Instant) {
        while let Some(line) = self.lines.get(&number)
            && line.wants_connection()
        {
            match line.pause_until {
                Some(until) if until > now => return self.look_by(until),
                Some(_) | None => self.dial(number, now),
            }
        }
    }

    /// Connects, on a thread that may wait for names and for packets.
    fn dial(&mut self, number: u64, now: Instant) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        self.attempts += 1;
        let attempt = self.attempts;
        let timeout = Duration::from_millis(line.config.connect_timeout_ms);
        let until = now + timeout;
        line.dials.push(Dial { attempt, until });
        let (scheme, address, remote) = (line.scheme, line.address.clone(), self.remote.clone());
        let dialer = move || {
            let connect = || {
                let (socket, peer) = dial(&address, Some(timeout))?;
                open(scheme, &socket, until)?;
                Ok((NetStream::from_socket(socket, peer)?, peer))
            };
            let _ = remote.mail(ClientCommand::Dialed { line: number, attempt, result: connect() });
        };
        self.look_by(until);
        if let Err(error) = crate::threads::detached("coreloop-dial", dialer) {
            if let Some(line) = self.lines.get_mut(&number) {
                line.dials.retain(|dial| dial.attempt != attempt);
            }
            self.on_dial_failed(number, CallError::Connect(error), now);
        }
    }

    pub(super) fn on_dialed(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        number: u64,
        attempt: u64,
        result: io::Result<(NetStream, Peer)>,
    ) {
        let now = conns.now();
        let Some(line) = self.lines.get_mut(&number) else { return };
        let Some(at) = line.dials.iter().position(|dial| dial.attempt == attempt) else {
            // It was given up; the socket is closed here.
            return;
        };
        line.dials.swap_remove(at);
        let config = line.config.clone();
        let adopted = result.and_then(|(stream, peer)| {
            let wire = ClientProtocol::new(line.scheme, &line.address.to_string(), config.frame_bytes_max);
            conns.adopt(stream, peer, wire, Session::new(number, line.order, now))
        });
        match adopted {
            Err(error) => self.on_dial_failed(number, CallError::Connect(error), now),
            Ok(key) => {
                line.connections.push(key);
                line.pause_until = None;
                self.keys.push(key);
                self.shared.stats.connects.add(1);
                let silent_ms = [config.ping_ms, config.idle_ms].into_iter().filter(|ms| *ms > 0).min();
                if let Some(ms) = silent_ms {
                    self.look_by(now + Duration::from_millis(ms));
                }
                conns.with(key, |cx| self.refill(cx));
            }
        }
    }

    /// A connection could not be made, or was dropped before the server said a word: the next try waits a while. Calls
    /// that no other connection can take hear of it.
    fn on_dial_failed(&mut self, number: u64, error: CallError, now: Instant) {
        self.shared.stats.connect_failures.add(1);
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.error = Some(error);
        let until = match line.pause_until {
            // Several were tried at a time; they have failed once.
            Some(until) if until > now => until,
            Some(_) | None => {
                line.failures = line.failures.saturating_add(1);
                let random = RandomState::new().hash_one(line.failures);
                now + line.config.backoff.delay(line.failures, random)
            }
        };
        line.pause_until = Some(until);
        if !line.fails_at_once() {
            if !line.waiting.is_empty() {
                self.look_by(until);
            }
            return;
        }
        let waiting = std::mem::take(&mut line.waiting);
        self.waiting -= waiting.len();
        for promise in waiting {
            // Looked up each time: the caller's function may have closed the line.
            let line = self.lines.get(&number);
            let error = line.map_or(CallError::NotSent, |line| line.unreachable(promise.is_sent));
            promise.fail(error);
        }
    }

    pub(super) fn on_connection_ended(&mut self, key: Key, session: &Session, why: &CloseReason) {
        let now = Instant::now();
        let Some(line) = self.lines.get_mut(&session.line) else { return };
        let took_calls = line.retire(key);
        let is_ours = matches!(why, CloseReason::App | CloseReason::Drained | CloseReason::Idle);
        // A spare connection of a pool is dropped by its server some time, and that is no failure.
        let is_spare = line.order != ReplyOrder::Any && !session.has_sent;
        if took_calls && !session.is_heard && !is_ours && !is_spare {
            // A server that takes connections only to drop them is not connected to in a loop.
            let error = call_error(line, session, why, false);
            return self.on_dial_failed(session.line, error, now);
        }
        if !line.waiting.is_empty() {
            // Other connections may have room for what waits.
            self.look_by(now);
        }
    }

    /// What lines have to do by now.
    pub(super) fn look_at_lines(&mut self, now: Instant) {
        let numbers: Vec<u64> = self.lines.keys().copied().collect();
        for number in numbers {
            while let Some(line) = self.lines.get_mut(&number)
                && let Some(at) = line.dials.iter().position(|dial| dial.until <= now)
            {
                line.dials.swap_remove(at);
                let error =
                    io::Error::new(io::ErrorKind::TimedOut, "not connected within connect_timeout_ms");
                self.on_dial_failed(number, CallError::Connect(error), now);
            }
            self.dial_for_waiting(number, now);
            if let Some(line) = self.lines.get(&number) {
                let deadline = line.waiting.iter().filter_map(|promise| promise.deadline).min();
                line.next_at(now).into_iter().chain(deadline).for_each(|at| self.look_by(at));
            }
        }
    }

    /// Nobody calls there any more, and no call is under way.
    pub(super) fn on_line_closed(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64) {
        if let Some(line) = self.lines.remove(&number) {
            debug_assert!(line.waiting.is_empty(), "a call keeps its line");
            self.waiting -= line.waiting.len();
            for key in line.connections {
                conns.with(key, |cx| cx.close());
            }
        }
    }
}
