//! The connections of one reactor and all access to their sockets: reading, writing, closing.
//!
//! The reactor decides when; this file does the work for one connection at a time. It does not hold the app: closed
//! connections wait in a list until the reactor reports them to the app.

mod deadlines;
#[cfg(feature = "bench-internals")]
pub(crate) mod detached;
mod pass_on;
mod secured;

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use coreloop_bufpool::Pool;
use coreloop_poller::{Key, Poller, Ready, Slots, Timers};

use self::pass_on::take_message;
use self::secured::HandshakeTime;
use super::app::{App, ClosedConn, ConnCx};
use super::dials::Dials;
use super::silent::SilentConnections;
use crate::config::{Limits, TurnBudget};
use crate::conn::{CloseReason, Conn, SocketAction};
use crate::context::Peer;
use crate::policy::flush::FlushPolicy;
use crate::random::Random;
use crate::stats::ReactorStats;
use crate::transport::{ReadinessSender, Transport};

/// The most slices in one vectored write.
const SLICES: usize = 64;

/// A connection with its socket and the reactor's flags for it.
pub(super) struct ConnSlot<A: App> {
    pub(super) stream: Transport,
    pub(super) conn: Conn<A::Protocol>,
    pub(super) session: A::Session,
    pub(super) peer: Peer,
    /// The kernel has reported the socket as readable, and no read has returned would-block since.
    pub(super) is_readable: bool,
    /// The peer has closed or reset the connection: reads continue until one reports it.
    pub(super) is_ending: bool,
    /// The kernel has reported that the peer does not read any more.
    is_hung_up: bool,
    /// No write has returned would-block since the kernel last reported the socket as writable.
    is_writable: bool,
    /// A limit had stopped reading at the last check.
    was_paused: bool,
    /// The connection was accepted, has sent nothing yet, and is counted as silent.
    is_silent: bool,
    /// The connection is in `again`.
    is_again: bool,
    /// The connection is in `touched`.
    pub(super) is_touched: bool,
    /// The queued bytes were due before, and the socket took no more: no further delay applies.
    is_overdue: bool,
    /// Since when the connection has been in `dirty`, if it is.
    dirty_since: Option<Instant>,
    armed: Option<Instant>,
}

pub(super) struct Core<A: App> {
    /// Added to the slot in the keys that the poller knows, so that events find the role ([`Roles`](super::roles)).
    pub(super) tag: u32,
    pub(super) slots: Slots<ConnSlot<A>>,
    pub(super) timers: Timers,
    pub(super) pool: Pool,
    pub(super) limits: Limits,
    pub(super) budget: TurnBudget,
    pub(super) flush: FlushPolicy,
    pub(super) stats: Arc<ReactorStats>,
    /// Reports the readiness of connections that the poller does not watch.
    pub(super) readiness: ReadinessSender,
    /// The time at which the turn began.
    pub(super) now: Instant,
    /// Messages taken from connections, and the reads that received them, since the counters were last reset.
    pub(super) taken: u64,
    pub(super) taken_reads: u64,
    /// Connections to be read in the next turn without an event.
    pub(super) again: Vec<Key>,
    /// Connections with something to write.
    dirty: Vec<Key>,
    /// Connections that messages or timers touched.
    pub(super) touched: Vec<Key>,
    pub(super) closing: Vec<(Key, CloseReason)>,
    silent: SilentConnections,
    /// Spreads the ages at which connections end.
    random: Random,
    pub(super) dials: Dials,
    handshake_time: HandshakeTime,
    /// With a flush delay: when the first of the dirty connections is due.
    pub(super) flush_at: Option<Instant>,
}

impl<A: App> Core<A> {
    pub(super) fn new(
        pool: Pool,
        limits: Limits,
        budget: TurnBudget,
        flush: FlushPolicy,
        stats: Arc<ReactorStats>,
        readiness: ReadinessSender,
    ) -> Core<A> {
        let now = Instant::now();
        Core {
            tag: 0,
            slots: Slots::new(),
            timers: Timers::new(now),
            pool,
            limits,
            budget,
            flush,
            stats,
            readiness,
            now,
            taken: 0,
            taken_reads: 0,
            again: Vec::new(),
            dirty: Vec::new(),
            touched: Vec::new(),
            closing: Vec::new(),
            silent: SilentConnections::default(),
            random: Random::new(RandomState::new().hash_one(now)),
            dials: Dials::new(),
            handshake_time: HandshakeTime::new(now),
            flush_at: None,
        }
    }

    /// Registers a connection for readiness, under the key of the next connection.
    pub(super) fn register(&mut self, stream: &mut Transport, poller: &mut Poller) -> io::Result<Key> {
        let key = self.slots.next_key();
        let polled = Key::new(key.slot() as u32 | self.tag, key.generation());
        stream.register(poller, polled, key, &self.readiness)?;
        Ok(key)
    }

    /// Adds the socket that was registered last.
    pub(super) fn open(
        &mut self,
        key: Key,
        stream: Transport,
        peer: Peer,
        protocol: A::Protocol,
        session: A::Session,
    ) {
        let mut conn = Conn::new(protocol, self.now);
        if stream.is_handshaking() {
            conn.begin_handshake();
        }
        let slot = ConnSlot {
            // What was decoded already is not reported by an event.
            is_readable: stream.holds_input(),
            stream,
            conn,
            session,
            peer,
            is_ending: false,
            is_hung_up: false,
            is_writable: true,
            was_paused: false,
            is_silent: false,
            is_again: false,
            is_touched: false,
            is_overdue: false,
            dirty_since: None,
            armed: None,
        };
        let inserted = self.slots.insert(slot);
        debug_assert_eq!(inserted, key);
        self.stats.accepted.add(1);
        self.stats.connections.set(self.slots.len() as u64);
        self.after(key);
    }

    /// Counts an accepted (not adopted) connection as silent until it sends something: their number is bounded.
    pub(super) fn note_accepted(&mut self, key: Key) {
        let Some(slot) = self.slots.at_mut(key) else { return };
        slot.is_silent = true;
        slot.conn.set_age_share(self.random.next_u64() as u8);
        self.silent.add(key);
        let Core { slots, silent, limits, now, .. } = self;
        let is_silent = |key| slots.at(key).is_some_and(|slot| slot.is_silent);
        let Some(oldest) = silent.oldest_beyond(limits.silent_connections_max, is_silent) else { return };
        silent.remove_one();
        if let Some(slot) = slots.at_mut(oldest) {
            slot.is_silent = false;
            slot.conn.finish(CloseReason::TooManySilent, *now);
        }
        self.after(oldest);
    }

    /// Takes note of an event of the kernel for a connection.
    #[inline]
    pub(super) fn on_ready(&mut self, key: Key, ready: Ready) {
        let Some(slot) = self.slots.at_mut(key) else { return };
        if ready.is_readable() || ready.is_read_closed() || ready.is_error() {
            slot.is_readable = true;
            slot.is_ending |= ready.is_read_closed() || ready.is_error();
            slot.is_hung_up |= ready.is_write_closed() || ready.is_error();
            if !slot.is_again {
                slot.is_again = true;
                self.again.push(key);
            }
        }
        if ready.is_writable() && !slot.is_writable {
            slot.is_writable = true;
            slot.is_overdue = true;
            if slot.conn.out_len() > 0 && slot.dirty_since.is_none() {
                slot.dirty_since = Some(self.now);
                self.dirty.push(key);
            }
        }
        if ready.is_writable() && slot.stream.holds_output() {
            // An error is reported by the next read.
            let _ = slot.stream.flush();
        }
    }

    /// Reads and decodes one connection within its budget; passes every message to the app.
    pub(super) fn read(&mut self, key: Key, app: &mut A) {
        let Core { slots, pool, limits, now, stats, budget, handshake_time, again, .. } = self;
        let Some(slot) = slots.at_mut(key) else { return };
        let is_handshaking = slot.stream.is_handshaking();
        if is_handshaking && !handshake_time.begin(*now) {
            slot.is_again = true;
            return again.push(key);
        }
        slot.is_again = false;
        let (mut bytes, mut messages, mut reads) = (0, 0, 0);
        let mut is_over_budget = false;
        'reading: loop {
            // Buffered messages come first: reading more while requests wait would only move them into our memory.
            let ConnSlot { conn, session, peer, .. } = slot;
            let mut cx = ConnCx { key, peer: *peer, conn, session, pool: &mut *pool, limits, now: *now };
            let taken_before = messages;
            loop {
                if let Some((message, consumed)) = cx.conn.try_fast_receive() {
                    app.on_message(&mut cx, message);
                    cx.conn.consume(consumed);
                } else if !take_message(app, &mut cx) {
                    break;
                }
                messages += 1;
                if messages >= budget.messages_max {
                    is_over_budget = true;
                    break 'reading;
                }
                if self.flush.is_full(cx.conn.out_len()) {
                    break;
                }
            }
            if self.flush.is_full(slot.conn.out_len()) {
                write_out(slot, pool, *now, limits, stats);
                // Whether or not answers were written: while whole messages are buffered, nothing more is read.
                if messages > taken_before {
                    continue;
                }
            }
            if !slot.conn.wants_read() {
                if slot.is_hung_up && slot.conn.has_calls() {
                    // No peer waits for the calls in flight, and no read is going to report that.
                    slot.conn.on_reset(slot.stream.take_error());
                }
                break;
            }
            if !slot.is_readable {
                break;
            }
            if bytes >= budget.read_bytes_max {
                is_over_budget = true;
                break;
            }
            let space = slot.conn.space(pool);
            let space_len = space.len();
            reads += 1;
            let result = slot.stream.read(space);
            if is_handshaking {
                slot.note_secured(*now);
            }
            match result {
                Ok(0) => {
                    slot.is_readable = false;
                    slot.conn.on_eof(*now);
                }
                Ok(n) => {
                    bytes += n;
                    slot.conn.on_bytes(n, *now);
                    if n < space_len && !slot.is_ending && !slot.stream.holds_input() {
                        // A read that filled less than its buffer has drained the socket (epoll(7)); another read
                        // would only return would-block, at the cost of a system call.
                        slot.is_readable = false;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => slot.is_readable = false,
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        slot.is_readable = false;
                        slot.conn.on_error(&error);
                    }
                },
            }
        }
        app.on_read_end();
        if slot.conn.has_stream_input_ended(slot.is_ending) {
            let ConnSlot { conn, session, peer, .. } = slot;
            let pool = &mut *pool;
            app.on_stream_input_end(&mut ConnCx { key, peer: *peer, conn, session, pool, limits, now: *now });
        }
        slot.conn.settle(pool, *now);
        if slot.is_silent && !slot.conn.is_silent() {
            slot.is_silent = false;
            self.silent.remove_one();
        }
        let app_at = app.next_deadline(&slot.session);
        if is_handshaking {
            handshake_time.end();
        }
        self.taken += messages as u64;
        self.taken_reads += reads;
        stats.reads.add(reads);
        stats.read_bytes.add(bytes as u64);
        let out_len = slot.conn.out_len();
        if is_over_budget {
            slot.is_again = true;
            self.again.push(key);
        } else if out_len > 0
            && slot.is_writable
            && !slot.conn.has_calls()
            && self.flush.is_due(out_len, slot.dirty_since.unwrap_or(*now), *now)
        {
            // With nothing in flight no completion can add to the queued bytes, so they may be written at once, while
            // they are in the cache; otherwise they wait for the end of the turn.
            write_out(slot, pool, *now, limits, stats);
        }
        self.after(key);
        if let Some(at) = app_at {
            self.arm_for_app(key, at);
        }
    }

    /// Updates the reactor's flags for a connection to the connection's state.
    #[inline]
    pub(super) fn after(&mut self, key: Key) {
        let Some(slot) = self.slots.at_mut(key) else { return };
        slot.conn.check(&self.limits);
        if slot.conn.is_paused() != slot.was_paused {
            slot.was_paused = !slot.was_paused;
            self.stats.pauses.add(u64::from(slot.was_paused));
        }
        loop {
            match slot.conn.step() {
                SocketAction::Keep => break,
                SocketAction::ShutdownWrite => {
                    slot.stream.shutdown_write();
                    slot.conn.on_shutdown(self.now, &self.limits);
                    // What the peer still sends is read and dropped.
                    slot.is_readable = true;
                }
                SocketAction::FinishWhenRead(why) => {
                    let may_read = slot.is_readable || slot.is_again || slot.conn.has_undecoded();
                    if may_read || slot.conn.is_paused() {
                        break;
                    }
                    slot.conn.finish(why, self.now);
                }
                SocketAction::Close(why) => {
                    self.closing.push((key, why));
                    return;
                }
            }
        }
        if slot.conn.out_len() > 0 && slot.is_writable && slot.dirty_since.is_none() {
            slot.dirty_since = Some(self.now);
            self.dirty.push(key);
        }
        if !slot.is_again && slot.conn.wants_read() && (slot.is_readable || slot.conn.has_undecoded()) {
            slot.is_again = true;
            self.again.push(key);
        }
        // A timer that fires too early is armed again; only a timer that would fire too late must be re-armed now.
        let at =
            slot.conn.next_deadline(&self.limits).into_iter().chain(slot.stream.handshake_deadline()).min();
        if let Some(at) = at
            && slot.armed.is_none_or(|armed| at < armed)
        {
            slot.armed = Some(at);
            self.timers.arm(key, at);
        }
    }

    /// Arms the timer for the app's deadline.
    #[inline]
    pub(super) fn arm_for_app(&mut self, key: Key, at: Instant) {
        let Some(slot) = self.slots.at_mut(key) else { return };
        if slot.armed.is_none_or(|armed| at < armed) {
            slot.armed = Some(at);
            self.timers.arm(key, at);
        }
    }

    /// Lends the connection to the app, together with the flag that tells whether it is on the touched list.
    #[inline]
    pub(super) fn conn_cx(&mut self, key: Key) -> Option<(ConnCx<'_, A>, &mut bool)> {
        let slot = self.slots.at_mut(key)?;
        let ConnSlot { conn, session, peer, is_touched, .. } = slot;
        let cx = ConnCx {
            key,
            peer: *peer,
            conn,
            session,
            pool: &mut self.pool,
            limits: &self.limits,
            now: self.now,
        };
        Some((cx, is_touched))
    }

    /// Updates the connections that were touched, each once.
    pub(super) fn after_touched(&mut self, app: &A) {
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            if let Some(slot) = self.slots.at_mut(key) {
                slot.is_touched = false;
                let at = app.next_deadline(&slot.session);
                self.after(key);
                if let Some(at) = at {
                    self.arm_for_app(key, at);
                }
            }
        }
        self.touched = touched;
    }

    /// Handles a connection with more queued bytes than are kept until the end of the turn.
    #[cold]
    pub(super) fn write_early(&mut self, key: Key) {
        let Core { slots, pool, limits, now, stats, .. } = self;
        if let Some(slot) = slots.at_mut(key) {
            write_out(slot, pool, *now, limits, stats);
        }
    }

    /// Writes the queued bytes that are due.
    pub(super) fn flush(&mut self, app: &mut A) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut kept = std::mem::take(&mut self.dirty);
        self.flush_at = None;
        for key in dirty.drain(..) {
            let Core { slots, pool, limits, now, stats, .. } = self;
            let Some(slot) = slots.at_mut(key) else { continue };
            let out_len = slot.conn.out_len();
            let Some(since) = slot.dirty_since else { continue };
            let is_due = slot.is_overdue || self.flush.is_due(out_len, since, *now);
            if out_len > 0 && !is_due {
                let at = self.flush.due_at(since);
                self.flush_at = Some(self.flush_at.map_or(at, |first| first.min(at)));
                kept.push(key);
                continue;
            }
            slot.dirty_since = None;
            slot.is_overdue = false;
            write_out(slot, pool, *now, limits, stats);
            // Without this, bytes that the app adds would remain until the next event of this connection.
            while slot.is_writable && app.wants_written() {
                let ConnSlot { conn, session, peer, .. } = slot;
                let pool = &mut *pool;
                app.on_written(&mut ConnCx { key, peer: *peer, conn, session, pool, limits, now: *now });
                if slot.conn.out_len() == 0 {
                    break;
                }
                write_out(slot, pool, *now, limits, stats);
            }
            self.after(key);
        }
        // `after` may have put a connection on the list again, if its peer took some bytes but not all.
        kept.append(&mut self.dirty);
        self.dirty = kept;
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    /// Requests that the peer sends no new requests.
    pub(super) fn drain(&mut self, key: Key) {
        let Core { slots, pool, limits, now, .. } = self;
        if let Some(slot) = slots.at_mut(key) {
            slot.conn.drain(pool, *now, limits);
            // Bytes that were written before the drain began may have no event yet; they are read.
            slot.is_readable = true;
        }
        self.after(key);
    }

    /// Removes a connection and closes its socket; returns its session.
    pub(super) fn remove<'a>(
        &mut self,
        key: Key,
        why: &'a CloseReason,
        poller: &mut Poller,
    ) -> Option<ClosedConn<'a, A>> {
        let mut slot = self.slots.remove(key)?;
        self.timers.cancel(key);
        slot.stream.end();
        slot.stream.deregister(poller);
        if slot.is_silent {
            self.silent.remove_one();
        }
        slot.conn.release(&mut self.pool);
        self.stats.closed[why.index()].add(1);
        self.stats.connections.set(self.slots.len() as u64);
        let ConnSlot { peer, conn, session, .. } = slot;
        Some(ClosedConn { key, peer, protocol: conn.into_protocol(), session, why })
    }
}

/// Writes until the queue is empty or the socket takes no more.
fn write_out<A: App>(
    slot: &mut ConnSlot<A>,
    pool: &mut Pool,
    now: Instant,
    limits: &Limits,
    stats: &ReactorStats,
) {
    while slot.is_writable {
        let queue = slot.conn.to_write();
        let result = match queue.segments() {
            0 => return,
            1 => slot.stream.write(queue.first().unwrap_or_default()),
            _ => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = queue.slices(&mut slices);
                slot.stream.write_vectored(&slices[..count])
            }
        };
        match result {
            Ok(n) => {
                stats.writes.add(1);
                stats.written_bytes.add(n as u64);
                slot.conn.on_written(n, pool, now, limits);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => slot.is_writable = false,
                io::ErrorKind::Interrupted => {}
                _ => {
                    slot.is_writable = false;
                    slot.conn.on_error(&error);
                }
            },
        }
    }
}
