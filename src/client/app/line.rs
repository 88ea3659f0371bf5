//! One address: connecting to it, pausing after a failure, and the calls that wait meanwhile.
//!
//! ```text
//!            a call             connected
//!   Idle ───────────▶ Dialing ───────────▶ Open
//!    ▲ ▲                │ ▲                 │ │
//!    │ │         failed │ │ a call, later   │ │ ended before the server said a word
//!    │ │                ▼ │                 │ │
//!    │ │               Pause ◀──────────────┼─┘
//!    │ └────────────────────────────────────┘ ended, or the server drains
//!    └ the first state
//! ```

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop_poller::Key;
use socket2::Socket;

use super::{ClientApp, Letter, Session, lost};
use crate::client::CallError;
use crate::client::config::ClientConfig;
use crate::client::flight::Promise;
use crate::conn::CloseReason;
use crate::context::Peer;
use crate::reactor::{Address, Conns, Stream, dial};
#[cfg(feature = "netrpc")]
use crate::wire::netrpc::connect::ConnectError;
use crate::wire::{Asks, Scheme};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No connection, and nobody asks for one.
    Idle,
    /// A thread connects; what it brings after that time is not taken.
    Dialing { attempt: u64, until: Instant },
    /// Calls go out here.
    Open(Key),
    /// The last try failed; there is no other before that time.
    Pause { until: Instant },
}

pub(super) struct Line {
    pub(super) scheme: Scheme,
    pub(super) address: Address,
    pub(super) config: Arc<ClientConfig>,
    pub(super) state: State,
    /// Calls without a connection, or beyond the bound of what may be in flight; `Lane::enter` bounds them.
    pub(super) waiting: VecDeque<Promise>,
    /// How many of them were given up since they were last gone through.
    pub(super) abandoned: usize,
    /// Tries that failed, in a row.
    failures: u32,
    /// Why the last one did.
    error: Option<CallError>,
}

impl Line {
    pub(super) fn new(scheme: Scheme, address: Address, config: Arc<ClientConfig>) -> Line {
        let waiting = VecDeque::new();
        Line { scheme, address, config, state: State::Idle, waiting, abandoned: 0, failures: 0, error: None }
    }

    /// When this line has something to do by itself.
    fn next_at(&self) -> Option<Instant> {
        match self.state {
            State::Idle | State::Open(_) => None,
            State::Dialing { until, .. } => Some(until),
            State::Pause { until } => (!self.waiting.is_empty()).then_some(until),
        }
    }

    /// Why there is no connection, for one more caller.
    fn unreachable(&self) -> CallError {
        match &self.error {
            Some(CallError::Connect(error)) => CallError::Connect(again(error)),
            Some(CallError::Lost { error, .. }) => {
                let error = io::Error::new(error.kind(), error.to_string());
                CallError::Lost { error, may_have_run: false }
            }
            Some(CallError::Broken(why)) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, why.to_string());
                CallError::Lost { error, may_have_run: false }
            }
            _ => CallError::Connect(io::ErrorKind::NotConnected.into()),
        }
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
        let dials = match line.state {
            State::Open(_) | State::Dialing { .. } => false,
            State::Idle => true,
            State::Pause { until } if until <= now => true,
            State::Pause { .. } if !line.config.waits_for_connection => {
                let error = line.unreachable();
                return promise.fail(error);
            }
            State::Pause { until } => {
                line.waiting.push_back(promise);
                self.waiting += 1;
                return self.look_by(until);
            }
        };
        line.waiting.push_back(promise);
        self.waiting += 1;
        if dials {
            self.dial(number, now);
        }
    }

    /// Connects, on a thread that may wait for names and for packets.
    pub(super) fn dial(&mut self, number: u64, now: Instant) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        self.attempts += 1;
        let attempt = self.attempts;
        let timeout = Duration::from_millis(line.config.connect_timeout_ms);
        let until = now + timeout;
        line.state = State::Dialing { attempt, until };
        let (scheme, address, remote) = (line.scheme, line.address.clone(), self.remote.clone());
        let dialer = move || {
            let connect = || {
                let (socket, peer) = dial(&address, Some(timeout))?;
                open(scheme, &socket, until)?;
                Ok((Stream::from_socket(socket, peer)?, peer))
            };
            let _ = remote.mail(Letter::Dialed { line: number, attempt, result: connect() });
        };
        self.look_by(until);
        if let Err(error) = crate::threads::detached("coreloop-dial", dialer) {
            self.on_dial_failed(number, CallError::Connect(error), now);
        }
    }

    pub(super) fn on_dialed(
        &mut self,
        conns: &mut Conns<'_, ClientApp>,
        number: u64,
        attempt: u64,
        result: io::Result<(Stream, Peer)>,
    ) {
        let now = conns.now();
        let Some(line) = self.lines.get_mut(&number) else { return };
        if !matches!(line.state, State::Dialing { attempt: awaited, .. } if awaited == attempt) {
            // It was given up; the socket is closed here.
            return;
        }
        let config = line.config.clone();
        let adopted = result.and_then(|(stream, peer)| {
            let wire = Asks::new(line.scheme, &line.address.to_string(), config.frame_bytes_max);
            conns.adopt(stream, peer, wire, Session::new(number, now))
        });
        match adopted {
            Err(error) => self.on_dial_failed(number, CallError::Connect(error), now),
            Ok(key) => {
                line.state = State::Open(key);
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

    /// There is no connection, for this reason: whoever waits hears of it, and the next try waits a while.
    fn on_dial_failed(&mut self, number: u64, error: CallError, now: Instant) {
        self.shared.stats.connect_failures.add(1);
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.failures = line.failures.saturating_add(1);
        let random = RandomState::new().hash_one(line.failures);
        let until = now + line.config.backoff.delay(line.failures, random);
        line.state = State::Pause { until };
        line.error = Some(error);
        if line.config.waits_for_connection {
            if !line.waiting.is_empty() {
                self.look_by(until);
            }
            return;
        }
        let waiting = std::mem::take(&mut line.waiting);
        self.waiting -= waiting.len();
        for promise in waiting {
            // Looked up each time: the caller's function may have closed the line.
            let error = self.lines.get(&number).map_or(CallError::NotSent, Line::unreachable);
            promise.fail(error);
        }
    }

    pub(super) fn on_connection_ended(&mut self, key: Key, session: &Session, why: &CloseReason) {
        let now = Instant::now();
        let Some(line) = self.lines.get_mut(&session.line) else { return };
        if session.is_heard {
            line.failures = 0;
        }
        if line.state != State::Open(key) {
            return;
        }
        let is_ours = matches!(why, CloseReason::App | CloseReason::Drained | CloseReason::Idle);
        if !session.is_heard && !is_ours {
            // A server that takes connections only to drop them is not connected to in a loop.
            return self.on_dial_failed(session.line, lost(why, false), now);
        }
        line.state = State::Idle;
        if !line.waiting.is_empty() {
            self.dial(session.line, now);
        }
    }

    /// What lines have to do by now.
    pub(super) fn look_at_lines(&mut self, now: Instant) {
        let numbers: Vec<u64> = self.lines.keys().copied().collect();
        for number in numbers {
            let Some(line) = self.lines.get(&number) else { continue };
            match line.state {
                State::Dialing { until, .. } if until <= now => {
                    let error =
                        io::Error::new(io::ErrorKind::TimedOut, "not connected within connect_timeout_ms");
                    self.on_dial_failed(number, CallError::Connect(error), now);
                }
                State::Pause { until } if until <= now && !line.waiting.is_empty() => {
                    self.dial(number, now);
                }
                State::Idle | State::Dialing { .. } | State::Open(_) | State::Pause { .. } => {}
            }
            if let Some(line) = self.lines.get(&number) {
                let deadline = line.waiting.iter().filter_map(|promise| promise.deadline).min();
                line.next_at().into_iter().chain(deadline).for_each(|at| self.look_by(at));
            }
        }
    }

    /// Nobody calls there any more, and no call is under way.
    pub(super) fn on_line_closed(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64) {
        if let Some(line) = self.lines.remove(&number) {
            debug_assert!(line.waiting.is_empty(), "a call keeps its line");
            self.waiting -= line.waiting.len();
            if let State::Open(key) = line.state {
                conns.with(key, |cx| cx.close());
            }
        }
    }
}
