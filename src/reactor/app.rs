//! The role that a reactor plays: an [`App`] is told what happened and answers through [`ConnCx`].
//!
//! An app never sees a socket. It runs on the reactor's thread, so nothing in it may wait.

use std::io;
use std::time::Instant;

use coreloop_bufpool::{Chunk, Pool};
use coreloop_poller::Key;

use super::accept::Loads;
use super::core::Core;
use super::socket::NetStream;
use crate::config::Limits;
use crate::conn::{CloseReason, Conn};
use crate::context::Peer;
use crate::message::Span;
use crate::wire::Protocol;

/// What a reactor does with its connections.
pub trait App: Sized {
    /// The protocol.
    type Protocol: Protocol;
    /// What the app keeps for each connection.
    type Session;
    /// What other threads may tell the app.
    type Mail: Send + 'static;

    /// The reactor lives on this thread from here on; it is told before anything else happens there.
    fn begin_thread(&mut self) {}

    /// A connection was opened, on the listener with that index.
    fn open(&mut self, key: Key, peer: Peer, listener: usize) -> (Self::Protocol, Self::Session);

    /// A message has come. Its bytes are valid during this call only.
    fn on_message(&mut self, cx: &mut ConnCx<'_, Self>, message: <Self::Protocol as Protocol>::Message);

    /// A message has come after the time for which calls that cross a drain notice are served: a call is to be refused.
    fn on_message_after_drain(
        &mut self,
        cx: &mut ConnCx<'_, Self>,
        message: <Self::Protocol as Protocol>::Message,
    ) {
        self.on_message(cx, message);
    }

    /// The messages of one connection that were at hand have all been given.
    fn on_read_end(&mut self) {}

    /// Every connection that was readable has been read: what was gathered for other threads goes now.
    fn hand_off(&mut self, now: Instant) {
        let _ = now;
    }

    /// A letter from another thread.
    fn on_mail(&mut self, conns: &mut Conns<'_, Self>, mail: Self::Mail) {
        let _ = (conns, mail);
    }

    /// When the app wants to hear of a connection again.
    fn next_deadline(&self, session: &Self::Session) -> Option<Instant> {
        let _ = session;
        None
    }

    /// The time that [`App::next_deadline`] gave has come.
    fn on_deadline(&mut self, cx: &mut ConnCx<'_, Self>) {
        let _ = cx;
    }

    /// When the app wants a turn for something that is no connection's.
    fn next_at(&self) -> Option<Instant> {
        None
    }

    /// Whether [`App::on_time`] judges what peers have sent in time: everything that was ready to be read when the turn
    /// began is read before it is called.
    fn reads_before_time(&self) -> bool {
        false
    }

    /// The time that [`App::next_at`] gave has come.
    fn on_time(&mut self, conns: &mut Conns<'_, Self>) {
        let _ = conns;
    }

    /// Whether the app wants to hear that a connection has room for more ([`App::on_written`]).
    fn wants_written(&self) -> bool {
        false
    }

    /// What a connection had to say was written, or some of it. What the app adds leaves at once.
    fn on_written(&mut self, cx: &mut ConnCx<'_, Self>) {
        let _ = cx;
    }

    /// The drain has taken too long: what is still in flight must be given up, with an answer.
    fn on_abort(&mut self, cx: &mut ConnCx<'_, Self>) {
        let _ = cx;
    }

    /// A connection has ended.
    fn on_close(&mut self, key: Key, session: Self::Session, why: &CloseReason) {
        let _ = (key, session, why);
    }
}

/// One connection, as its app may touch it.
pub struct ConnCx<'a, A: App> {
    pub(super) key: Key,
    pub(super) peer: Peer,
    pub(super) conn: &'a mut Conn<A::Protocol>,
    /// What the app keeps for the connection.
    pub session: &'a mut A::Session,
    pub(super) pool: &'a mut Pool,
    pub(super) limits: &'a Limits,
    pub(super) now: Instant,
}

impl<A: App> ConnCx<'_, A> {
    /// The connection's key, by which it can be found later.
    #[inline]
    pub fn key(&self) -> Key {
        self.key
    }

    /// Who is on the other end.
    #[inline]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The time at which the turn began.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The limits.
    #[inline]
    pub fn limits(&self) -> &Limits {
        self.limits
    }

    /// The protocol's own state.
    #[inline]
    pub fn protocol(&self) -> &A::Protocol {
        self.conn.protocol()
    }

    /// A part of the message at hand.
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.conn.bytes_of(span)
    }

    /// A part of the message at hand as a chunk that may outlive this call and cross threads: shared, not copied.
    pub fn cut(&mut self, span: Span) -> Chunk {
        self.conn.cut(span)
    }

    /// Says something to the peer. It is written by the end of the turn, with everything else that was said.
    #[inline(always)]
    pub fn send(&mut self, outgoing: <A::Protocol as Protocol>::Outgoing<'_>) {
        self.conn.encode(outgoing, self.pool, self.now, self.limits);
    }

    /// A message will be answered later: counts against what may be in flight on the connection.
    #[inline]
    pub fn begin_call(&mut self, body_bytes: usize) {
        self.conn.begin_call(body_bytes, self.limits);
    }

    /// The work for a message that was answered later has ended.
    #[inline]
    pub fn end_call(&mut self, body_bytes: usize) {
        self.conn.end_call(body_bytes, self.now, self.limits);
    }

    /// Neither end has begun to close: what is said now can still be answered.
    pub fn is_open(&self) -> bool {
        self.conn.is_open()
    }

    /// Bytes that wait to be written.
    pub fn out_len(&self) -> usize {
        self.conn.out_len()
    }

    /// When the peer was last heard: any byte counts.
    pub fn last_heard(&self) -> Instant {
        self.conn.last_heard()
    }

    /// Calls begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.conn.in_flight()
    }

    /// Ends the connection at once, for this reason: what waits to be written is dropped.
    pub fn abort(&mut self, kind: io::ErrorKind) {
        self.conn.on_reset(kind);
    }

    /// Stops reading; ends the connection when what was said has been written and what is in flight has ended.
    pub fn close(&mut self) {
        self.conn.finish(CloseReason::App, self.now);
    }
}

/// The connections of a reactor, found by key.
pub struct Conns<'a, A: App> {
    pub(super) core: &'a mut Core<A>,
    pub(super) loads: &'a Loads,
    pub(super) index: usize,
}

impl<A: App> Conns<'_, A> {
    /// Does something with a connection, if it still is the one that the key was made for.
    #[inline]
    pub fn with<R>(&mut self, key: Key, f: impl FnOnce(&mut ConnCx<'_, A>) -> R) -> Option<R> {
        let (mut cx, note) = self.core.conn_cx(key)?;
        let result = f(&mut cx);
        let waiting_bytes = cx.conn.out_len();
        if !*note {
            *note = true;
            self.core.note_touched(key);
        }
        if self.core.flush.is_full(waiting_bytes) {
            self.core.write_early(key);
        }
        Some(result)
    }

    /// Takes in a socket that is connected already; what the app knows of it is given, [`App::open`] is not asked.
    ///
    /// # Errors
    ///
    /// There are `connections_max` of them, or the poller does not take it. The socket is closed then.
    pub fn adopt(
        &mut self,
        mut stream: NetStream,
        peer: Peer,
        protocol: A::Protocol,
        session: A::Session,
    ) -> io::Result<Key> {
        if self.core.slots.len() >= self.core.limits.connections_max {
            let connections_max = self.core.limits.connections_max;
            return Err(io::Error::other(format!(
                "the reactor has {connections_max} connections (connections_max)"
            )));
        }
        let key = self.core.register(&mut stream)?;
        self.loads.add(self.index);
        self.core.open(key, stream, peer, protocol, session);
        Ok(key)
    }

    /// The time at which the turn began.
    pub fn now(&self) -> Instant {
        self.core.now
    }
}
