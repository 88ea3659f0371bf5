//! What happens on one connection: bytes in, messages out, answers in, bytes out, and when it must end.
//!
//! [`Conn`] has no socket and no clock: the reactor tells it what happened and asks what to do, so a test can
//! drive it with bytes alone. It never looks at another connection. What is in flight per call is in [`calls`];
//! [`filter`] is the seam for TLS.

pub mod calls;
mod ending;
pub mod filter;
mod reason;
mod times;

use std::time::Instant;

use coreloop_bufpool::{Chunk, Pool, RecvBuf, WriteQueue};

use crate::config::Limits;
use crate::conn::filter::{Filter, Filtered};
pub use crate::conn::reason::CloseReason;
use crate::message::Span;
use crate::wire::{Decoded, Out, Protocol};

/// What one read asks for when nothing is known about the frame: a reactor's hot buffer.
pub const READ_BYTES: usize = 64 * 1024;

/// Where a connection is in its life. Each event is one `match` over these, without a catch-all arm.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ConnState {
    /// Nothing has been said yet that decides anything.
    Opening {
        /// When the first byte came.
        heard: Option<Instant>,
    },
    /// Requests come and are answered.
    Serving,
    /// Asked to send nothing new; what comes is still served until it is quiet.
    Draining,
    /// The peer has closed its sending half and is owed answers.
    HalfClosed,
    /// Nothing more is read; what is owed goes out, then our sending half closes.
    Finishing(CloseReason),
    /// Our sending half is closed; what the peer still sends is read and dropped, within `linger_ms` and
    /// `linger_bytes_max`.
    Lingering {
        /// Why the connection ends.
        why: CloseReason,
        /// Bytes that may still be read.
        bytes_left: usize,
    },
    /// Over.
    Closed(CloseReason),
}

/// What the reactor is to do with the socket now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAction {
    /// Go on.
    Keep,
    /// Close the sending half, then say so with [`Conn::on_shutdown`].
    ShutdownWrite,
    /// Read what the peer has written so far, then [`Conn::finish`].
    FinishWhenRead,
    /// Close the socket.
    Close(CloseReason),
}

/// What [`Conn::next_message`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum NextMessage<M> {
    /// A message; [`Conn::consume`] its bytes when they are not needed any more.
    Message {
        /// The message; its spans are read with [`Conn::bytes`].
        message: M,
        /// The bytes that it took.
        consumed: usize,
    },
    /// Nothing whole is at hand, or reading is stopped.
    Nothing,
}

/// One connection without its socket.
pub struct Conn<W> {
    protocol: W,
    recv: RecvBuf,
    out: WriteQueue,
    filtered: Option<Box<Filtered>>,
    state: ConnState,
    /// Reading is stopped until the peer takes its answers or calls end. Set at the high, cleared at the low mark.
    is_paused: bool,
    /// Messages are taken and answers are written as usual: an open state, not paused, no filter. The short way
    /// of a request asks for this alone; `check` holds it to what it stands for.
    fast_path: bool,
    /// The peer has closed its sending half.
    is_eof: bool,
    /// A message was completed since the last [`Conn::settle`].
    is_progress: bool,
    /// It drains, which could not be said yet: the peer had not shown what it speaks.
    owes_drain_notice: bool,
    /// Every call has been answered, although its work may go on: the end does not wait for that work.
    is_given_up: bool,
    /// Calls begun and not ended, answered or not: work counts until it ends.
    in_flight: u32,
    /// Bytes of their arguments.
    in_flight_bytes: usize,
    /// With fewer bytes than this at hand, decoding is not worth trying.
    bytes_min: usize,
    /// The largest message that was completed here: a peer that has sent such may be given room for one at once.
    proven_bytes: usize,
    since: Instant,
    frame_began: Option<Instant>,
    last_heard: Instant,
    last_written: Instant,
}

impl<W: Protocol> Conn<W> {
    /// A connection that has just been opened.
    pub fn new(protocol: W, now: Instant) -> Conn<W> {
        Conn {
            protocol,
            recv: RecvBuf::new(),
            out: WriteQueue::new(),
            filtered: None,
            state: ConnState::Opening { heard: None },
            is_paused: false,
            fast_path: true,
            is_eof: false,
            is_progress: false,
            owes_drain_notice: false,
            is_given_up: false,
            in_flight: 0,
            in_flight_bytes: 0,
            bytes_min: 1,
            proven_bytes: 0,
            since: now,
            frame_began: None,
            last_heard: now,
            last_written: now,
        }
    }

    /// The same connection behind a filter; only before its first byte.
    pub fn with_filter(mut self, filter: Box<dyn Filter>) -> Conn<W> {
        debug_assert!(self.state == ConnState::Opening { heard: None } && self.recv.is_empty());
        self.filtered = Some(Box::new(Filtered::new(filter)));
        self.fast_path = false;
        self
    }

    // Bytes in.

    /// Whether the next bytes of the peer may be read now.
    #[inline]
    pub fn wants_read(&self) -> bool {
        match self.state {
            ConnState::Opening { .. } | ConnState::Serving | ConnState::Draining => {
                !self.is_paused && !self.is_eof
            }
            ConnState::Lingering { .. } => true,
            ConnState::HalfClosed | ConnState::Finishing(_) | ConnState::Closed(_) => false,
        }
    }

    /// Where the next read goes. It grows with what has arrived (or with what this peer has shown to send), never
    /// with what a frame announces.
    #[inline]
    pub fn space(&mut self, pool: &mut Pool) -> &mut [u8] {
        if let Some(filtered) = &mut self.filtered {
            return filtered.sealed_in.space(pool, READ_BYTES);
        }
        if self.bytes_min <= READ_BYTES {
            // The frame fits the hot buffer together with what is held of it.
            return self.recv.read_space(pool, READ_BYTES);
        }
        let held = self.recv.len();
        let missing = self.bytes_min.saturating_sub(held).max(1);
        let wanted = missing.min(held.max(self.proven_bytes).max(READ_BYTES));
        self.recv.space(pool, wanted)
    }

    /// `n` more bytes were read into [`Conn::space`].
    #[inline]
    pub fn on_bytes(&mut self, n: usize, pool: &mut Pool, now: Instant) {
        self.last_heard = now;
        match &mut self.filtered {
            None => self.recv.filled(n),
            Some(filtered) => {
                filtered.sealed_in.filled(n);
                if let Err(why) = filtered.open(&mut self.recv, pool) {
                    self.finish(CloseReason::Broken(why), now);
                }
            }
        }
        match &mut self.state {
            ConnState::Lingering { why, bytes_left } => {
                self.recv.consume(self.recv.len());
                *bytes_left = bytes_left.saturating_sub(n);
                if *bytes_left == 0 {
                    self.state = ConnState::Closed(why.clone());
                }
            }
            ConnState::Closed(_) => self.recv.consume(self.recv.len()),
            ConnState::Opening { heard } => *heard = heard.or(Some(now)),
            ConnState::Serving | ConnState::Draining | ConnState::HalfClosed | ConnState::Finishing(_) => {}
        }
    }

    /// The peer closed its sending half.
    pub fn on_eof(&mut self, now: Instant) {
        self.is_eof = true;
        self.last_heard = now;
        if self.protocol.on_end() {
            self.bytes_min = 0;
        }
        if self.protocol.is_end_of_reading() {
            // Every whole message has been taken, and nobody is left to hear of it.
            self.fast_path = false;
            self.state = match std::mem::replace(&mut self.state, ConnState::HalfClosed) {
                ConnState::Opening { .. }
                | ConnState::Serving
                | ConnState::Draining
                | ConnState::HalfClosed => ConnState::Closed(CloseReason::PeerClosed),
                ConnState::Finishing(why) | ConnState::Lingering { why, .. } | ConnState::Closed(why) => {
                    ConnState::Closed(why)
                }
            };
            return;
        }
        match std::mem::replace(&mut self.state, ConnState::HalfClosed) {
            // What is at hand is still decoded by `next_message`, which sees `is_eof`.
            ConnState::Opening { .. } | ConnState::Serving | ConnState::Draining | ConnState::HalfClosed => {
                self.state = ConnState::HalfClosed;
            }
            ConnState::Finishing(why) => self.state = ConnState::Finishing(why),
            ConnState::Lingering { why, .. } => self.state = ConnState::Closed(why),
            ConnState::Closed(why) => self.state = ConnState::Closed(why),
        }
    }

    /// The socket failed: nothing can be said any more.
    pub fn on_reset(&mut self, kind: std::io::ErrorKind) {
        self.fast_path = false;
        match self.state {
            ConnState::Lingering { ref why, .. } => self.state = ConnState::Closed(why.clone()),
            ConnState::Closed(_) => {}
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining
            | ConnState::HalfClosed
            | ConnState::Finishing(_) => {
                self.state = ConnState::Closed(CloseReason::Reset(kind));
            }
        }
    }

    /// The next message, if it is of the commonest kind; `None` is to ask [`Conn::next_message`].
    #[inline(always)]
    pub fn try_fast_decode(&mut self) -> Option<(W::Message, usize)> {
        if !self.fast_path {
            return None;
        }
        let (message, consumed) = self.protocol.try_fast_decode(self.recv.bytes())?;
        self.on_progress(consumed);
        // A wire that has something to say without bytes does not answer quickly.
        self.bytes_min = 1;
        Some((message, consumed))
    }

    /// The next whole message of the bytes at hand.
    pub fn next_message(&mut self) -> NextMessage<W::Message> {
        loop {
            if !self.fast_path && (self.is_paused || self.is_finishing()) {
                return NextMessage::Nothing;
            }
            let input = self.recv.bytes();
            if input.len() < self.bytes_min {
                return NextMessage::Nothing;
            }
            match self.protocol.decode(input) {
                Decoded::Message { message, consumed } => {
                    self.on_progress(consumed);
                    return NextMessage::Message { message, consumed };
                }
                other => {
                    if let Some(next) = self.on_no_message(other) {
                        return next;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn on_progress(&mut self, consumed: usize) {
        self.is_progress = true;
        // A wire that ends the connection after this message says so on its next look, with bytes or without.
        self.bytes_min = 0;
        self.proven_bytes = self.proven_bytes.max(consumed);
    }

    /// What to do about bytes that are no whole message; `None` is to look again.
    #[inline(never)]
    fn on_no_message(&mut self, decoded: Decoded<W::Message>) -> Option<NextMessage<W::Message>> {
        match decoded {
            Decoded::Message { message, consumed } => {
                return Some(NextMessage::Message { message, consumed });
            }
            Decoded::Skip { consumed } => {
                debug_assert!(consumed > 0);
                self.recv.consume(consumed);
                self.bytes_min = 1;
                // What comes next has a time of its own.
                self.is_progress |= !self.protocol.is_inside_message();
                return None;
            }
            Decoded::NeedMore { bytes_min } => {
                debug_assert!(bytes_min > self.recv.len(), "asked for bytes that were already received");
                self.bytes_min = bytes_min;
            }
            Decoded::Broken(why) => {
                self.finish(CloseReason::Broken(why), self.last_heard.max(self.last_written));
            }
            Decoded::End => {
                let is_draining = self.state == ConnState::Draining;
                let why = if is_draining { CloseReason::Drained } else { CloseReason::PeerClosed };
                self.finish(why, self.last_heard.max(self.last_written));
            }
        }
        Some(NextMessage::Nothing)
    }

    /// The bytes of the message at hand, and what follows it: spans count from their start.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.recv.bytes()
    }

    /// A part of the message at hand.
    #[inline]
    pub fn bytes_of(&self, span: Span) -> &[u8] {
        if span.is_scratch() {
            &self.protocol.aside()[span.range()]
        } else {
            &self.recv.bytes()[span.range()]
        }
    }

    /// A part of the message at hand as a chunk that may outlive the buffer: not copied, shared.
    pub fn cut(&mut self, span: Span) -> Chunk {
        if span.is_scratch() {
            // The wire needs its room for the next message.
            return Chunk::from(self.protocol.aside()[span.range()].to_vec());
        }
        self.recv.cut(span.range())
    }

    /// The message at hand is done with.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.recv.consume(n);
    }

    /// Reading is over for this turn: lets go of the memory that is not needed, notes what is still missing.
    #[inline]
    pub fn settle(&mut self, pool: &mut Pool, now: Instant) {
        if self.recv.is_empty() && !self.protocol.is_inside_message() {
            self.frame_began = None;
            self.bytes_min = self.bytes_min.max(1);
            self.recv.settle(pool, 0);
        } else {
            self.settle_partial(pool, now);
        }
        self.is_progress = false;
        if !self.fast_path {
            self.fast_path = !self.is_paused && self.is_fast_state() && self.filtered.is_none();
        }
        if let ConnState::Opening { heard: Some(_) } = self.state
            && self.protocol.is_decided()
        {
            self.state = ConnState::Serving;
        }
    }

    fn settle_partial(&mut self, pool: &mut Pool, now: Instant) {
        if self.is_eof && !self.is_paused && !self.is_finishing() && !self.has_undecoded() {
            // An incomplete message: no more bytes follow. Complete ones may wait behind the budget of a turn.
            self.recv.consume(self.recv.len());
        }
        let is_inside = !self.recv.is_empty() || self.protocol.is_inside_message();
        if !is_inside || self.is_eof {
            self.frame_began = None;
        } else if self.is_progress || self.frame_began.is_none() {
            self.frame_began = Some(now);
        }
        let expected = if self.bytes_min <= READ_BYTES { 0 } else { self.bytes_min.min(self.proven_bytes) };
        self.recv.settle(pool, expected);
    }

    /// Whole messages may be at hand that were not taken yet (a budget ended, or reading was stopped).
    #[inline]
    pub fn has_undecoded(&self) -> bool {
        !self.recv.is_empty() && self.recv.len() >= self.bytes_min
    }

    // Calls.

    /// A call was begun that will end later; `body_bytes` are held for it.
    #[inline]
    pub fn begin_call(&mut self, body_bytes: usize, limits: &Limits) {
        self.in_flight += 1;
        self.in_flight_bytes += body_bytes;
        if self.in_flight as usize >= limits.in_flight_max
            || self.in_flight_bytes >= limits.in_flight_bytes_max
        {
            self.is_paused = true;
            self.fast_path = false;
        }
    }

    /// A call ended. True if reading may go on because of it.
    #[inline]
    pub fn end_call(&mut self, body_bytes: usize, now: Instant, limits: &Limits) -> bool {
        debug_assert!(self.in_flight > 0 && self.in_flight_bytes >= body_bytes);
        self.in_flight -= 1;
        self.in_flight_bytes -= body_bytes;
        self.is_paused && self.try_resume(now, limits)
    }

    fn try_resume(&mut self, now: Instant, limits: &Limits) -> bool {
        let calls_low = (self.in_flight as usize) <= limits.in_flight_max / 2
            && self.in_flight_bytes <= limits.in_flight_bytes_max / 2;
        if calls_low && self.out_len() + self.protocol.held_bytes() <= limits.write_queue_low_bytes {
            self.is_paused = false;
            // Its clock stood while the peer was kept waiting.
            self.frame_began = self.frame_began.map(|_| now);
        }
        !self.is_paused
    }

    /// Reading is stopped by a limit.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Calls begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    // Bytes out.

    /// Says something to the peer.
    #[inline(always)]
    pub fn encode(&mut self, outgoing: W::Outgoing<'_>, pool: &mut Pool, now: Instant, limits: &Limits) {
        if !self.fast_path && matches!(self.state, ConnState::Lingering { .. } | ConnState::Closed(_)) {
            return;
        }
        // Where it is easy there is no filter, and nothing sealed to count.
        if self.out.is_empty() && (self.fast_path || self.out_len() == 0) {
            // Time spent with nothing to write is no stall.
            self.last_written = now;
        }
        self.protocol.encode(outgoing, &mut Out { queue: &mut self.out, pool });
        if self.out.len() + self.protocol.held_bytes() >= limits.write_queue_high_bytes
            || !self.fast_path && self.out_len() >= limits.write_queue_high_bytes
        {
            self.is_paused = true;
            self.fast_path = false;
        }
    }

    /// Bytes that wait to be written.
    #[inline]
    pub fn out_len(&self) -> usize {
        self.out.len() + self.filtered.as_ref().map_or(0, |filtered| filtered.sealed_out.len())
    }

    /// What waits to be written to the socket; sealed first, where there is a filter.
    #[inline]
    pub fn to_write(&mut self, pool: &mut Pool) -> &WriteQueue {
        match &mut self.filtered {
            None => &self.out,
            Some(filtered) => {
                filtered.seal(&mut self.out, pool);
                &filtered.sealed_out
            }
        }
    }

    /// `n` bytes were written. True if reading may go on because of it.
    #[inline]
    pub fn on_written(&mut self, n: usize, pool: &mut Pool, now: Instant, limits: &Limits) -> bool {
        match &mut self.filtered {
            None => self.out.written(pool, n),
            Some(filtered) => filtered.sealed_out.written(pool, n),
        }
        self.last_written = now;
        self.is_paused && self.try_resume(now, limits)
    }

    /// Our sending half is closed.
    pub fn on_shutdown(&mut self, now: Instant, limits: &Limits) {
        match std::mem::replace(&mut self.state, ConnState::HalfClosed) {
            ConnState::Finishing(why) if self.is_eof => self.state = ConnState::Closed(why),
            ConnState::Finishing(why) => {
                self.since = now;
                self.recv.consume(self.recv.len());
                self.bytes_min = 1;
                self.state = ConnState::Lingering { why, bytes_left: limits.linger_bytes_max };
            }
            // Asked for in `Finishing` only.
            ConnState::Lingering { why, bytes_left } => self.state = ConnState::Lingering { why, bytes_left },
            ConnState::Closed(why) => self.state = ConnState::Closed(why),
            ConnState::Opening { .. } | ConnState::Serving | ConnState::Draining | ConnState::HalfClosed => {
                self.state = ConnState::HalfClosed;
            }
        }
    }

    /// When the peer was last heard: any byte counts.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// The peer has not sent a byte yet.
    pub fn is_silent(&self) -> bool {
        matches!(self.state, ConnState::Opening { heard: None })
    }

    /// Gives back every buffer. The connection is over.
    pub fn release(&mut self, pool: &mut Pool) {
        self.out.clear(pool);
        self.recv.consume(self.recv.len());
        self.recv.settle(pool, 0);
        if let Some(mut filtered) = self.filtered.take() {
            filtered.sealed_out.clear(pool);
            filtered.sealed_in.consume(filtered.sealed_in.len());
            filtered.sealed_in.settle(pool, 0);
        }
    }

    /// The protocol's own state.
    pub fn protocol(&self) -> &W {
        &self.protocol
    }

    /// What must hold whenever the reactor turns to another connection.
    pub fn check(&self, limits: &Limits) {
        debug_assert!(self.in_flight > 0 || self.in_flight_bytes == 0);
        debug_assert!(!self.fast_path || !self.is_paused && self.is_fast_state() && self.filtered.is_none());
        debug_assert!(
            self.out.len() < limits.write_queue_high_bytes
                || self.is_paused
                || self.is_finishing()
                || self.is_eof,
            "a full write queue stops the reading"
        );
    }
}

#[cfg(test)]
mod tests;
