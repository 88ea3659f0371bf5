//! What happens on one connection: bytes in, messages out, answers in, bytes out, and when the connection must end.
//!
//! [`Conn`] has no socket and no clock: the reactor reports events to it and queries the next action, so a test can
//! drive it with bytes alone. It never accesses another connection. The state of each call in flight is in [`calls`];
//! TLS belongs to the transport, below this.

pub mod calls;
mod ending;
mod reason;
pub mod streams;
mod times;

use std::time::Instant;

use coreloop_bufpool::{Chunk, Pool, RecvBuf, WriteQueue};

use crate::config::Limits;
use crate::conn::ending::DrainCause;
pub use crate::conn::reason::CloseReason;
use crate::message::Span;
use crate::wire::{DrainNotice, Out, Protocol, Received};

/// The size of one read when nothing is known about the frame: the size of a reactor's hot buffer.
pub const READ_BYTES: usize = 64 * 1024;

/// The state of a connection. Each event is one `match` over the states, without a catch-all arm.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ConnState {
    /// No byte that determines the protocol has arrived yet.
    Opening {
        /// The time of the first byte.
        heard: Option<Instant>,
    },
    /// Requests are read and answered.
    Serving,
    /// The peer is requested to send no new requests; those that arrive are still served until the peer is quiet.
    Draining(DrainCause),
    /// The peer has closed its sending half and still expects answers.
    HalfClosed,
    /// Nothing more is read; outstanding answers are written, then our sending half closes.
    Finishing(CloseReason),
    /// Our sending half is closed; what the peer still sends is read and dropped, within `linger_ms` and
    /// `linger_bytes_max`.
    Lingering {
        /// The reason for the end of the connection.
        why: CloseReason,
        /// The number of bytes that may still be read.
        bytes_left: usize,
    },
    /// The connection is over.
    Closed(CloseReason),
}

/// What the reactor must do with the socket now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAction {
    /// Continue.
    Keep,
    /// Close the sending half, then call [`Conn::on_shutdown`].
    ShutdownWrite,
    /// Read what the peer has written so far, then call [`Conn::finish`] with this reason.
    FinishWhenRead(CloseReason),
    /// Close the socket.
    Close(CloseReason),
}

/// The result of [`Conn::next_message`].
#[derive(Debug, PartialEq, Eq)]
pub enum NextMessage<M> {
    /// A message. Call [`Conn::consume`] when its bytes are no longer needed.
    Message {
        /// The message; read its spans with [`Conn::bytes_of`].
        message: M,
        /// The number of bytes that the message occupies.
        consumed: usize,
    },
    /// The protocol has answered a request itself. There may be more.
    Answered,
    /// A message that was written after reading had stopped for a drain; it is dropped. There may be more.
    Unread,
    /// No whole message is buffered, or reading is stopped.
    Nothing,
}

/// One connection, without its socket.
pub struct Conn<W> {
    protocol: W,
    recv: RecvBuf,
    out: WriteQueue,
    state: ConnState,
    /// Reading is stopped until the peer reads its answers or calls end. Set at the high-water mark, cleared at the
    /// low-water mark.
    is_paused: bool,
    /// Messages are decoded and answers are written as usual: the state is open and not paused.
    /// The fast path of a request checks only this; `check` verifies it against the full condition.
    fast_path: bool,
    /// The peer has closed its sending half.
    is_eof: bool,
    /// A message was completed since the last [`Conn::settle`].
    is_progress: bool,
    /// The connection drains, but no notice could be sent yet: the peer's protocol was unknown.
    owes_drain_notice: bool,
    /// The peer is still in its handshake (TLS): it cannot send a call yet.
    is_securing: bool,
    /// Every call has been answered, although its work may continue: the end does not wait for that work.
    is_given_up: bool,
    /// The share of the spread of `connection_age_max_ms` that this connection has, of 255.
    age_share: u8,
    /// Calls begun and not ended, answered or not: work counts until it ends.
    in_flight: u32,
    /// Bytes of the arguments of these calls.
    in_flight_bytes: usize,
    /// Streaming calls begun and not ended. While there are any, reading is not stopped for other calls or for
    /// answers: the peer could not return the credit that streams wait for.
    streams: u32,
    /// More calls or answers wait than may, and reading goes on, for the open streams or to refuse calls whose deadlines
    /// would pass unread. If reading is stopped too, it goes on in this state when enough refusals are written.
    is_saturated: bool,
    /// Bytes of refusals and pongs that wait to be written.
    refusal_bytes: usize,
    /// The number of buffered bytes below which decoding cannot succeed.
    bytes_min: usize,
    /// The largest message that was completed here: a peer that has sent such a message may get space for another at
    /// once.
    proven_bytes: usize,
    since: Instant,
    frame_began: Option<Instant>,
    last_heard: Instant,
    last_written: Instant,
}

impl<W: Protocol> Conn<W> {
    /// Creates a connection that has just been opened.
    pub fn new(protocol: W, now: Instant) -> Conn<W> {
        Conn {
            protocol,
            recv: RecvBuf::new(),
            out: WriteQueue::new(),
            state: ConnState::Opening { heard: None },
            is_paused: false,
            fast_path: true,
            is_eof: false,
            is_progress: false,
            owes_drain_notice: false,
            is_securing: false,
            is_given_up: false,
            age_share: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            streams: 0,
            is_saturated: false,
            refusal_bytes: 0,
            bytes_min: 1,
            proven_bytes: 0,
            since: now,
            frame_began: None,
            last_heard: now,
            last_written: now,
        }
    }

    // Bytes in.

    /// Returns whether the peer's next bytes may be read now.
    #[inline]
    pub fn wants_read(&self) -> bool {
        match self.state {
            ConnState::Opening { .. } | ConnState::Serving | ConnState::Draining(_) => {
                !self.is_paused && !self.is_eof
            }
            ConnState::Lingering { .. } => true,
            ConnState::HalfClosed | ConnState::Finishing(_) | ConnState::Closed(_) => false,
        }
    }

    /// Returns the space for the next read. It grows with what has arrived (or with the largest message that this
    /// peer has sent), never with the length that a frame announces.
    #[inline]
    pub fn space(&mut self, pool: &mut Pool) -> &mut [u8] {
        if self.bytes_min <= READ_BYTES {
            // The frame fits the hot buffer together with the part that is buffered already.
            return self.recv.read_space(pool, READ_BYTES);
        }
        let held = self.recv.len();
        let missing = self.bytes_min.saturating_sub(held).max(1);
        let wanted = missing.min(held.max(self.proven_bytes).max(READ_BYTES));
        self.recv.space(pool, wanted)
    }

    /// Takes note of `n` more bytes that were read into [`Conn::space`].
    #[inline]
    pub fn on_bytes(&mut self, n: usize, now: Instant) {
        self.last_heard = now;
        self.recv.filled(n);
        let counts_unread = self.counts_unread();
        match &mut self.state {
            ConnState::Lingering { why, bytes_left } => {
                if !counts_unread {
                    self.recv.consume(self.recv.len());
                }
                *bytes_left = bytes_left.saturating_sub(n);
                if *bytes_left == 0 {
                    self.state = ConnState::Closed(why.clone());
                }
            }
            ConnState::Closed(_) => self.recv.consume(self.recv.len()),
            ConnState::Opening { heard } => *heard = heard.or(Some(now)),
            ConnState::Serving | ConnState::Draining(_) | ConnState::HalfClosed | ConnState::Finishing(_) => {
            }
        }
    }

    /// Handles the close of the peer's sending half.
    pub fn on_eof(&mut self, now: Instant) {
        self.is_eof = true;
        self.last_heard = now;
        if self.protocol.on_end() {
            self.bytes_min = 0;
        }
        if self.protocol.is_end_of_reading() {
            // Every whole message has been taken, and no peer is left to read an answer.
            self.fast_path = false;
            self.state = match std::mem::replace(&mut self.state, ConnState::HalfClosed) {
                ConnState::Opening { .. }
                | ConnState::Serving
                | ConnState::Draining(_)
                | ConnState::HalfClosed => ConnState::Closed(CloseReason::PeerClosed),
                ConnState::Finishing(why) | ConnState::Lingering { why, .. } | ConnState::Closed(why) => {
                    ConnState::Closed(why)
                }
            };
            return;
        }
        match std::mem::replace(&mut self.state, ConnState::HalfClosed) {
            // Buffered bytes are still decoded by `next_message`, which checks `is_eof`.
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining(_)
            | ConnState::HalfClosed => {
                self.state = ConnState::HalfClosed;
            }
            ConnState::Finishing(why) => self.state = ConnState::Finishing(why),
            ConnState::Lingering { why, .. } => self.state = ConnState::Closed(why),
            ConnState::Closed(why) => self.state = ConnState::Closed(why),
        }
    }

    /// Returns whether the peer has closed its sending half.
    pub fn is_eof(&self) -> bool {
        self.is_eof
    }

    /// Returns the next message if it is of the most common kind; on `None`, call [`Conn::next_message`].
    #[inline(always)]
    pub fn try_fast_receive(&mut self) -> Option<(W::Message, usize)> {
        if !self.fast_path {
            return None;
        }
        let (message, consumed) = self.protocol.try_fast_receive(self.recv.bytes())?;
        self.on_progress(consumed);
        // A protocol that has a message to report without further bytes never returns one from the fast path.
        self.bytes_min = 1;
        Some((message, consumed))
    }

    /// Returns whether messages are decoded and answered as usual: the connection does not drain or end, and no limit
    /// has stopped reading or restricted what is admitted. May be false for a while after that has become true again.
    #[inline]
    pub fn is_fast_path(&self) -> bool {
        self.fast_path
    }

    /// Returns the next whole message in the buffered bytes.
    pub fn next_message(
        &mut self,
        pool: &mut Pool,
        now: Instant,
        limits: &Limits,
    ) -> NextMessage<W::Message> {
        loop {
            let mut is_unread = false;
            if !self.fast_path {
                self.pause_if_next_waits();
                is_unread = self.is_finishing();
                if if is_unread { !self.reads_unread() } else { self.is_paused } {
                    return NextMessage::Nothing;
                }
                if self.owes_drain_notice && self.protocol.drain_notice() == DrainNotice::NextAnswer {
                    // The protocol may answer the first request itself.
                    self.write_drain_notice(pool, now, limits);
                }
            }
            let input = self.recv.bytes();
            if input.len() < self.bytes_min {
                return NextMessage::Nothing;
            }
            let out_before = self.out.len();
            let mut out = Out { queue: &mut self.out, pool: &mut *pool };
            self.protocol.on_time(now, limits, &mut out);
            let received = self.protocol.receive(input, &mut out);
            let has_written = self.out.len() != out_before;
            if has_written && out_before == 0 {
                self.last_written = now;
            }
            self.pause_if_full(limits);
            if is_unread {
                match self.on_unread(received, pool) {
                    Some(next) => return next,
                    None => continue,
                }
            }
            match received {
                Received::Message { message, consumed } => {
                    if self.owes_drain_notice {
                        // It precedes the answer to the first message.
                        self.write_drain_notice(pool, now, limits);
                    }
                    self.on_progress(consumed);
                    return NextMessage::Message { message, consumed };
                }
                other => {
                    if let Some(next) = self.on_no_message(other) {
                        return next;
                    }
                    if has_written {
                        // It counts against the budget of a turn, as a message does.
                        return NextMessage::Answered;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn on_progress(&mut self, consumed: usize) {
        self.is_progress = true;
        // A protocol that ends the connection after this message reports that in its next `receive`, with or without
        // more bytes.
        self.bytes_min = 0;
        self.proven_bytes = self.proven_bytes.max(consumed);
    }

    /// Handles bytes that are not a whole message; on `None`, decode again.
    #[inline(never)]
    fn on_no_message(&mut self, decoded: Received<W::Message>) -> Option<NextMessage<W::Message>> {
        match decoded {
            Received::Message { message, consumed } => {
                return Some(NextMessage::Message { message, consumed });
            }
            Received::Skip { consumed } => {
                self.recv.consume(consumed);
                // The protocol may have answered a request itself, and end the connection after it.
                self.bytes_min = 0;
                // The next frame has its own deadline.
                self.is_progress |= !self.protocol.is_inside_message();
                return None;
            }
            Received::NeedMore { bytes_min } => {
                debug_assert!(bytes_min > self.recv.len(), "asked for bytes that were already received");
                self.bytes_min = bytes_min;
            }
            Received::Broken(why) => {
                self.finish(CloseReason::Broken(why), self.last_heard.max(self.last_written));
            }
            Received::End => {
                self.finish(self.end_of_input(), self.last_heard.max(self.last_written));
            }
        }
        Some(NextMessage::Nothing)
    }

    /// Returns the bytes of the current message and everything after it: spans count from their start.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.recv.bytes()
    }

    /// Returns a part of the current message.
    #[inline]
    pub fn bytes_of(&self, span: Span) -> &[u8] {
        if span.is_scratch() {
            &self.protocol.scratch()[span.range()]
        } else {
            &self.recv.bytes()[span.range()]
        }
    }

    /// Returns a part of the current message as a chunk that may outlive the buffer: shared, not copied.
    pub fn cut(&mut self, span: Span) -> Chunk {
        if span.is_scratch() {
            // The protocol needs its scratch buffer for the next message.
            return Chunk::from(self.protocol.scratch()[span.range()].to_vec());
        }
        self.recv.cut(span.range())
    }

    /// Releases the bytes of the current message.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.recv.consume(n);
    }

    /// Takes note of the protocol that was negotiated (ALPN), before any byte of it is read.
    #[cold]
    pub fn on_negotiated(&mut self, alpn: &[u8]) {
        self.protocol.on_negotiated(alpn);
    }

    /// Ends reading for this turn: releases memory that is not needed, and notes how much of a message is missing.
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
            self.fast_path = !self.is_paused && !self.is_saturated && self.is_fast_state();
        }
        if let ConnState::Opening { heard: Some(_) } = self.state
            && self.protocol.is_decided()
        {
            self.state = ConnState::Serving;
        }
    }

    fn settle_partial(&mut self, pool: &mut Pool, now: Instant) {
        if self.is_eof && !self.is_paused && !self.is_finishing() && !self.has_undecoded() {
            // An incomplete message: no more bytes follow. Complete messages may remain if the budget of the turn is
            // exhausted.
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

    /// Returns whether whole messages may be buffered that were not taken yet (a budget ended, or reading was
    /// stopped).
    #[inline]
    pub fn has_undecoded(&self) -> bool {
        !self.recv.is_empty() && self.recv.len() >= self.bytes_min
    }

    // Bytes out.

    /// Writes a message for the peer into the write queue.
    #[inline(always)]
    pub fn send(&mut self, outgoing: W::Outgoing<'_>, pool: &mut Pool, now: Instant, limits: &Limits) {
        if !self.fast_path && self.is_closed() {
            return;
        }
        if self.out.is_empty() {
            // Time without anything to write is not a stall.
            self.last_written = now;
        }
        self.protocol.send(outgoing, &mut Out { queue: &mut self.out, pool });
        self.pause_if_full(limits);
    }

    /// Stops reading while too many bytes wait for the peer, in the write queue or in the protocol.
    #[inline(always)]
    fn pause_if_full(&mut self, limits: &Limits) {
        if self.out.len() + self.protocol.held_bytes() >= limits.write_queue_high_bytes {
            self.pause();
        }
    }

    /// Returns the number of bytes that wait to be written.
    #[inline]
    pub fn out_len(&self) -> usize {
        self.out.len()
    }

    /// Returns the queue of bytes for the socket.
    #[inline]
    pub fn to_write(&self) -> &WriteQueue {
        &self.out
    }

    /// Takes note of `n` written bytes. Returns true if reading may resume because of it.
    #[inline]
    pub fn on_written(&mut self, n: usize, pool: &mut Pool, now: Instant, limits: &Limits) -> bool {
        self.out.written(pool, n);
        self.last_written = now;
        self.refusal_bytes = self.refusal_bytes.min(self.out.len());
        (self.is_paused || self.is_saturated) && self.try_resume(now, limits)
    }

    /// Handles the close of our sending half.
    pub fn on_shutdown(&mut self, now: Instant, limits: &Limits) {
        let counts_unread = self.counts_unread();
        match std::mem::replace(&mut self.state, ConnState::HalfClosed) {
            ConnState::Finishing(why) if self.is_eof => self.state = ConnState::Closed(why),
            ConnState::Finishing(why) => {
                self.since = now;
                if !counts_unread {
                    self.recv.consume(self.recv.len());
                }
                self.bytes_min = 1;
                self.state = ConnState::Lingering { why, bytes_left: limits.linger_bytes_max };
            }
            // Only requested in `Finishing`.
            ConnState::Lingering { why, bytes_left } => self.state = ConnState::Lingering { why, bytes_left },
            ConnState::Closed(why) => self.state = ConnState::Closed(why),
            ConnState::Opening { .. }
            | ConnState::Serving
            | ConnState::Draining(_)
            | ConnState::HalfClosed => {
                self.state = ConnState::HalfClosed;
            }
        }
    }

    /// Returns the time of the peer's last bytes, however few.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Returns whether the peer has not sent a byte yet.
    pub fn is_silent(&self) -> bool {
        matches!(self.state, ConnState::Opening { heard: None })
    }

    /// Returns every buffer to the pool. The connection is over.
    pub fn release(&mut self, pool: &mut Pool) {
        self.out.clear(pool);
        self.recv.consume(self.recv.len());
        self.recv.settle(pool, 0);
    }

    /// Ends the connection and returns the protocol's state.
    pub fn into_protocol(self) -> W {
        self.protocol
    }

    /// Returns the time at which the connection was opened.
    #[cfg(feature = "admin")]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Returns the name of the connection's state, for operators.
    #[cfg(feature = "admin")]
    pub fn state_name(&self) -> &'static str {
        match self.state {
            ConnState::Opening { .. } => "opening",
            ConnState::Serving if self.is_paused => "paused",
            ConnState::Serving => "serving",
            ConnState::Draining(_) => "draining",
            ConnState::HalfClosed => "half-closed",
            ConnState::Finishing(_) => "finishing",
            ConnState::Lingering { .. } => "lingering",
            ConnState::Closed(_) => "closed",
        }
    }

    /// Returns the protocol's state.
    pub fn protocol(&self) -> &W {
        &self.protocol
    }

    /// Asserts what must hold whenever the reactor turns to another connection.
    pub fn check(&self, limits: &Limits) {
        debug_assert!(self.in_flight > 0 || self.in_flight_bytes == 0);
        debug_assert!(!self.fast_path || !self.is_paused && !self.is_saturated && self.is_fast_state());
        debug_assert!(
            self.out.len() < limits.write_queue_high_bytes
                || self.is_paused
                || self.is_saturated
                || self.is_finishing()
                || self.is_eof,
            "a full write queue stops the reading"
        );
    }
}

#[cfg(test)]
mod tests;
