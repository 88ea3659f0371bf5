//! The role of a reactor: an [`App`] handles events and answers through [`ConnCx`].
//!
//! An app never accesses a socket. It runs on the reactor's thread, so nothing in it may block.

use std::io;
use std::time::{Duration, Instant};

use coreloop_bufpool::{Chunk, Pool};
use coreloop_poller::{Key, Poller};

use super::core::Core;
use super::dials::DialId;
use super::loads::Loads;
use crate::config::Limits;
use crate::conn::{CloseReason, Conn};
use crate::context::Peer;
use crate::message::Span;
use crate::transport::Transport;
use crate::wire::Protocol;

/// What a reactor does with its connections.
pub trait App: Sized {
    /// The protocol of the connections.
    type Protocol: Protocol;
    /// The app's state for each connection.
    type Session;
    /// The messages that other threads can send to the app.
    type Mail: Send + 'static;

    /// Called once on the reactor's thread, before anything else happens there.
    fn begin_thread(&mut self) {}

    /// Handles a new connection on the listener with that index; returns its protocol and session.
    fn open(&mut self, key: Key, peer: Peer, listener: usize) -> (Self::Protocol, Self::Session);

    /// Handles a message. Its bytes are valid only during this call.
    fn on_message(&mut self, cx: &mut ConnCx<'_, Self>, message: <Self::Protocol as Protocol>::Message);

    /// Handles a message that arrived too long after the drain notice to be served; a call must be refused.
    fn on_message_after_drain(
        &mut self,
        cx: &mut ConnCx<'_, Self>,
        message: <Self::Protocol as Protocol>::Message,
    ) {
        self.on_message(cx, message);
    }

    /// Takes note of a message that was dropped: its peer sent it after reading had stopped for a drain that its
    /// protocol cannot announce.
    fn on_unread(&mut self) {}

    /// Handles a message while too many calls or answers wait on a connection: a call without streams must be refused.
    /// With open streams every message is passed on here, otherwise those that do not wait unread
    /// ([`Protocol::waits_unread`]).
    fn on_message_while_saturated(
        &mut self,
        cx: &mut ConnCx<'_, Self>,
        message: <Self::Protocol as Protocol>::Message,
    ) {
        self.on_message(cx, message);
    }

    /// Called when the open streams of a connection receive nothing more: its peer has closed its sending half, and
    /// all that it sent was handled or waits for the end of a stream, or the connection closes and reads no more. It
    /// may be called again.
    fn on_stream_input_end(&mut self, cx: &mut ConnCx<'_, Self>) {
        let _ = cx;
    }

    /// Whether code on the reactor's thread, outside the app's own turn, has left work for the app's next turn. Other
    /// threads send messages instead.
    fn has_posted(&self) -> bool {
        false
    }

    /// Returns for how long the reactor may nap at most before its next wait, if work waits for other threads: they take more
    /// of it only in the reactor's turns. `None` if no work waits.
    fn pause(&self) -> Option<Duration> {
        None
    }

    /// Whether the app requires a call of [`App::on_turn_end`].
    fn wants_turn_end(&self) -> bool {
        false
    }

    /// Called at the end of a turn, after all writes.
    fn on_turn_end(&mut self, conns: &mut Conns<'_, Self>) {
        let _ = conns;
    }

    /// Called when every buffered message of one connection has been passed to the app.
    fn on_read_end(&mut self) {}

    /// Handles a message from another thread.
    fn on_mail(&mut self, conns: &mut Conns<'_, Self>, mail: Self::Mail) {
        let _ = (conns, mail);
    }

    /// Called once in a turn, after everything that can admit or end a call: reading, messages from other threads,
    /// timers. Decides which of the waiting work is handed over to other threads now.
    fn schedule(&mut self, conns: &mut Conns<'_, Self>) {
        let _ = conns;
    }

    /// Returns the time of the next [`App::on_deadline`] for a connection.
    fn next_deadline(&self, session: &Self::Session) -> Option<Instant> {
        let _ = session;
        None
    }

    /// Called at the time that [`App::next_deadline`] returned.
    fn on_deadline(&mut self, cx: &mut ConnCx<'_, Self>) {
        let _ = cx;
    }

    /// Returns the time of the next [`App::on_time`], for work that belongs to no connection.
    fn next_at(&self) -> Option<Instant> {
        None
    }

    /// Whether [`App::on_time`] checks that peers have sent something in time. If so, everything that was readable
    /// when the turn began is read before the call.
    fn reads_before_time(&self) -> bool {
        false
    }

    /// Handles the end of an attempt to connect: a socket to be adopted ([`Conns::adopt`]), or why there is none.
    #[doc(hidden)]
    fn on_dialed(&mut self, conns: &mut Conns<'_, Self>, id: DialId, result: io::Result<(Transport, Peer)>) {
        let _ = (conns, id, result);
    }

    /// Called at the time that [`App::next_at`] returned.
    fn on_time(&mut self, conns: &mut Conns<'_, Self>) {
        let _ = conns;
    }

    /// Frees what the app keeps to use again and has not needed since the last call. Called about once a second while
    /// something is kept. Returns the number of bytes freed, and whether anything is still kept.
    #[doc(hidden)]
    fn release_unused(&mut self) -> (usize, bool) {
        (0, false)
    }

    /// Whether the app requires [`App::on_written`] calls when a connection has room for more.
    fn wants_written(&self) -> bool {
        false
    }

    /// Called when some or all of a connection's queued bytes were written. What the app adds is written at once.
    fn on_written(&mut self, cx: &mut ConnCx<'_, Self>) {
        let _ = cx;
    }

    /// Called when the drain has taken too long: the app must answer and give up every call in flight.
    fn on_abort(&mut self, cx: &mut ConnCx<'_, Self>) {
        let _ = cx;
    }

    /// Called when a connection has ended.
    fn on_close(&mut self, closed: ClosedConn<'_, Self>) {
        let _ = closed;
    }
}

/// A connection that has ended.
pub struct ClosedConn<'a, A: App> {
    /// Its key, which is not used again.
    pub key: Key,
    /// Its peer.
    pub peer: Peer,
    /// Its protocol.
    pub protocol: A::Protocol,
    /// The app's state for it.
    pub session: A::Session,
    /// Why it ended.
    pub why: &'a CloseReason,
}

/// The access that an app has to one connection.
pub struct ConnCx<'a, A: App> {
    pub(super) key: Key,
    pub(super) peer: Peer,
    pub(super) conn: &'a mut Conn<A::Protocol>,
    /// The app's state for the connection.
    pub session: &'a mut A::Session,
    pub(super) pool: &'a mut Pool,
    pub(super) limits: &'a Limits,
    pub(super) now: Instant,
}

impl<A: App> ConnCx<'_, A> {
    /// Returns the connection's key, which finds it later.
    #[inline]
    pub fn key(&self) -> Key {
        self.key
    }

    /// Returns the peer's address.
    #[inline]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Sets what [`ConnCx::peer`] returns, until this access ends.
    #[cfg(feature = "server")]
    pub(crate) fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }

    /// Returns the time at which the turn began.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Returns the limits.
    #[inline]
    pub fn limits(&self) -> &Limits {
        self.limits
    }

    /// Returns the protocol's state.
    #[inline]
    pub fn protocol(&self) -> &A::Protocol {
        self.conn.protocol()
    }

    /// Returns a part of the current message.
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.conn.bytes_of(span)
    }

    /// Returns a part of the current message as a chunk that may outlive this call and cross threads: shared, not
    /// copied.
    pub fn cut(&mut self, span: Span) -> Chunk {
        self.conn.cut(span)
    }

    /// Sends a message to the peer. It is written by the end of the turn, together with all other messages.
    #[inline(always)]
    pub fn send(&mut self, outgoing: <A::Protocol as Protocol>::Outgoing<'_>) {
        self.conn.send(outgoing, self.pool, self.now, self.limits);
    }

    /// Takes note that a message will be answered later; counts against the in-flight limits of the connection.
    #[inline]
    pub fn begin_call(&mut self, body_bytes: usize) {
        self.conn.begin_call(body_bytes, self.limits);
    }

    /// Takes note that the work for a message answered later has ended.
    #[inline]
    pub fn end_call(&mut self, body_bytes: usize) {
        self.conn.end_call(body_bytes, self.now, self.limits);
    }

    /// Takes note of a streaming call, which counts against other limits than a call without streams.
    pub fn begin_stream(&mut self) {
        self.conn.begin_stream();
    }

    /// Takes note of the end of a streaming call.
    pub fn end_stream(&mut self) {
        self.conn.end_stream(self.now, self.limits);
    }

    /// Takes note that a streaming call was answered; its work may go on.
    pub fn on_stream_answered(&mut self) {
        self.conn.on_stream_answered(self.now, self.limits);
    }

    /// Returns the number of streaming calls begun and not ended.
    pub fn streams(&self) -> usize {
        self.conn.streams()
    }

    /// Takes note of a refusal or a pong, whose bytes are bounded while streams are open or calls are refused.
    pub fn note_refusal(&mut self, bytes: usize) {
        self.conn.note_refusal(bytes, self.limits);
    }

    /// Returns whether neither end has begun to close: a message that is sent now can still be answered.
    pub fn is_open(&self) -> bool {
        self.conn.is_open()
    }

    /// Returns whether nothing more is sent.
    pub fn is_closed(&self) -> bool {
        self.conn.is_closed()
    }

    /// Returns the number of bytes that wait to be written.
    pub fn out_len(&self) -> usize {
        self.conn.out_len()
    }

    /// Returns the number of bytes that wait to be written, or in the protocol for earlier answers.
    pub fn waiting_bytes(&self) -> usize {
        self.conn.out_len() + self.conn.protocol().held_bytes()
    }

    /// Returns the time of the peer's last bytes, however few.
    pub fn last_heard(&self) -> Instant {
        self.conn.last_heard()
    }

    /// Returns the number of calls begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.conn.in_flight()
    }

    /// Ends the connection at once, for this reason; unwritten bytes are dropped.
    pub fn abort(&mut self, kind: io::ErrorKind) {
        self.conn.on_reset(kind);
    }

    /// Stops reading; the connection ends when all queued bytes are written and no call is in flight.
    pub fn close(&mut self) {
        self.conn.finish(CloseReason::App, self.now);
    }
}

/// The connections of a reactor, by key.
pub struct Conns<'a, A: App> {
    pub(super) core: &'a mut Core<A>,
    pub(super) poller: &'a mut Poller,
    pub(super) loads: &'a Loads,
    pub(super) index: usize,
}

impl<A: App> Conns<'_, A> {
    /// Calls `f` with a connection, if the key still refers to it.
    #[inline]
    pub fn with<R>(&mut self, key: Key, f: impl FnOnce(&mut ConnCx<'_, A>) -> R) -> Option<R> {
        let (mut cx, note) = self.core.conn_cx(key)?;
        let result = f(&mut cx);
        let waiting_bytes = cx.conn.out_len();
        if !*note {
            *note = true;
            self.core.touched.push(key);
        }
        if self.core.flush.is_full(waiting_bytes) {
            self.core.write_early(key);
        }
        Some(result)
    }

    /// Returns the app's state for a connection, if the key still refers to it. Nothing may be sent for it here:
    /// [`Conns::with`] does that.
    #[inline]
    pub fn session(&mut self, key: Key) -> Option<&mut A::Session> {
        self.core.slots.at_mut(key).map(|slot| &mut slot.session)
    }

    /// Adds a socket that is already connected, with the given protocol and session; [`App::open`] is not called.
    ///
    /// # Errors
    ///
    /// There are already `connections_max` connections, or the poller does not accept the socket. The socket is
    /// closed then.
    #[doc(hidden)]
    pub fn adopt(
        &mut self,
        mut stream: Transport,
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
        let key = self.core.register(&mut stream, self.poller)?;
        self.loads.add(self.index);
        self.core.open(key, stream, peer, protocol, session);
        Ok(key)
    }

    /// Takes over those limits that connections and the reactor read at each use. The times of a connection change with its
    /// next event.
    #[cfg(feature = "server")]
    pub(crate) fn set_limits(&mut self, limits: &Limits) {
        let own = &mut self.core.limits;
        own.connections_max = limits.connections_max;
        own.in_flight_max = limits.in_flight_max;
        own.in_flight_bytes_max = limits.in_flight_bytes_max;
        own.silent_connections_max = limits.silent_connections_max;
        own.first_bytes_ms = limits.first_bytes_ms;
        own.head_ms = limits.head_ms;
        own.frame_ms = limits.frame_ms;
        own.idle_ms = limits.idle_ms;
        own.connection_age_max_ms = limits.connection_age_max_ms;
        own.write_stall_ms = limits.write_stall_ms;
        own.stream_keepalive_ms = limits.stream_keepalive_ms;
        own.stream_keepalive_timeout_ms = limits.stream_keepalive_timeout_ms;
        own.tls_handshake_ms = limits.tls_handshake_ms;
        own.linger_ms = limits.linger_ms;
        own.drain_idle_ms = limits.drain_idle_ms;
        own.drain_ms = limits.drain_ms;
    }

    /// Returns the time at which the turn began.
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// Returns the number of connections.
    #[cfg(feature = "admin")]
    pub(crate) fn len(&self) -> usize {
        self.core.slots.len()
    }

    /// Iterates over the connections, for operators to look at.
    #[cfg(feature = "admin")]
    pub(crate) fn views(&self) -> impl Iterator<Item = ConnView<'_, A>> {
        self.core.slots.iter().map(|(key, slot)| ConnView {
            key,
            peer: slot.peer,
            conn: &slot.conn,
            session: &slot.session,
        })
    }
}

/// A connection, to look at.
#[cfg(feature = "admin")]
pub(crate) struct ConnView<'a, A: App> {
    /// Its key.
    pub(crate) key: Key,
    /// Its peer.
    pub(crate) peer: Peer,
    /// Its state.
    pub(crate) conn: &'a Conn<A::Protocol>,
    /// The app's state for it.
    pub(crate) session: &'a A::Session,
}
