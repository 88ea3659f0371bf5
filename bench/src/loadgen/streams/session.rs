//! The streams of one native connection, seen from the caller: what is sent, what arrives, and the windows of both
//! directions (docs/wire.md, "Streams"). No sockets and no clocks here.

use std::collections::VecDeque;
use std::sync::Arc;

use super::counts::{Now, StreamCounts};
use super::frames::{self, append, hello_windows, id_of, window};
use super::{Shape, StreamCall};
use crate::frame::{self, HEADER_BYTES, Header, Next};
use crate::loadgen::protocol::Reply;
use crate::loadgen::tally::{Call, STATUSES, Tally};

/// The windows with which each direction starts, for a stream and for the connection.
const STREAM_WINDOW: i64 = 65_536;
const CONNECTION_WINDOW: i64 = 1 << 20;
/// The windows that the generator grants: those of the library's client.
const STREAM_GRANT: i64 = 256 << 10;
const CONNECTION_GRANT: i64 = 16 << 20;
/// The largest window that a peer may grant.
const WINDOW_MAX: i64 = (1 << 31) - 1;
/// A connection with this many unsent bytes takes no further messages.
pub const UNSENT_BYTES_MAX: usize = 256 << 10;

/// The statuses of a call that is failed here, and of one with a number that has no name.
const INTERNAL: u32 = 13;
const UNKNOWN: usize = 2;

/// The state of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no call.
    Closed,
    /// The caller may send, or, where the argument is no stream, only the result is outstanding.
    Open,
    /// The caller has sent its end.
    Ended,
    /// The caller has cancelled: what still arrives is dropped.
    Cancelled,
}

/// Whether a stream can send a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It can.
    Yes,
    /// It cannot, until an event of the stream itself.
    Stream,
    /// It cannot, until the connection has room again; see [`Session::unblock`].
    Connection,
}

struct Slot {
    state: State,
    uses: u64,
    send_window: i64,
    /// Bytes that the server may still send.
    receive_window: i64,
    /// Bytes taken and not granted again.
    due_bytes: i64,
    /// Messages that are not confirmed yet, oldest first.
    outstanding: VecDeque<Call>,
    /// Messages sent in this call, and in the current round of `--read-after-send`.
    sent: u64,
    round: u64,
    /// Sizes of the messages that have arrived in this round and are not taken yet.
    held: Vec<u32>,
    /// When the call was opened or, where the result is a stream, the last message arrived.
    last_ns: u64,
    has_headers: bool,
    has_data: bool,
    /// Whether the server has broken a rule in this call.
    is_broken: bool,
    /// Whether the place is in the worker's ring, and in the list of those that wait for the connection.
    in_ring: bool,
    is_blocked: bool,
}

/// A stream that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedStream {
    /// Its place.
    pub place: u32,
    /// Whether the next one in its place may begin at once; otherwise after a pause, because this one failed.
    pub is_ok: bool,
}

/// The streams of one connection.
pub struct Session {
    call: Arc<StreamCall>,
    slots: Vec<Slot>,
    /// The window of the connection for messages of the caller.
    send_window: i64,
    /// What the server grants to a new stream.
    send_stream_window: i64,
    receive_window: i64,
    due_bytes: i64,
    /// Places that could not send because the connection had no room.
    blocked: Vec<u32>,
    /// Places whose room may have changed.
    changed: Vec<u32>,
    ended: Vec<EndedStream>,
    open: u32,
    outstanding: u64,
    is_first_frame: bool,
    /// Whether the server has asked for no further calls.
    is_draining: bool,
    /// Bytes that are not written to the socket yet.
    pub out: Vec<u8>,
}

impl Session {
    /// Creates a session with places for this number of streams.
    pub fn new(call: Arc<StreamCall>, streams: u32) -> Session {
        let slot = || Slot {
            state: State::Closed,
            uses: 0,
            send_window: 0,
            receive_window: 0,
            due_bytes: 0,
            outstanding: VecDeque::new(),
            sent: 0,
            round: 0,
            held: Vec::new(),
            last_ns: 0,
            has_headers: false,
            has_data: false,
            is_broken: false,
            in_ring: false,
            is_blocked: false,
        };
        let mut session = Session {
            call,
            slots: (0..streams).map(|_| slot()).collect(),
            send_window: 0,
            send_stream_window: 0,
            receive_window: 0,
            due_bytes: 0,
            blocked: Vec::new(),
            changed: Vec::new(),
            ended: Vec::new(),
            open: 0,
            outstanding: 0,
            is_first_frame: true,
            is_draining: false,
            out: Vec::new(),
        };
        session.reset();
        session
    }

    /// Begins a new connection: the windows are the initial ones, and the generator's is enlarged at once.
    pub fn reset(&mut self) {
        self.send_window = CONNECTION_WINDOW;
        self.send_stream_window = STREAM_WINDOW;
        self.receive_window = CONNECTION_GRANT;
        self.due_bytes = 0;
        self.blocked.clear();
        self.slots.iter_mut().for_each(|slot| slot.is_blocked = false);
        self.changed.clear();
        self.ended.clear();
        self.is_first_frame = true;
        self.is_draining = false;
        self.out.clear();
        if self.call.shape.result_streams() {
            window(&mut self.out, 0, CONNECTION_GRANT - CONNECTION_WINDOW);
        }
    }

    /// Returns the number of places.
    pub fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Returns the number of calls that have not ended.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Returns the number of messages that are not confirmed.
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Returns whether the server has asked for no further calls.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Opens a stream in a place without one.
    pub fn open_stream(&mut self, place: u32, now_ns: u64, counts: &mut StreamCounts) {
        let shape = self.call.shape;
        let slot = &mut self.slots[place as usize];
        if slot.state != State::Closed || self.is_draining {
            return;
        }
        slot.uses += 1;
        slot.state = State::Open;
        slot.send_window = self.send_stream_window;
        slot.receive_window = STREAM_GRANT;
        (slot.due_bytes, slot.sent, slot.round, slot.last_ns) = (0, 0, 0, now_ns);
        (slot.has_headers, slot.has_data, slot.is_broken) = (false, false, false);
        let id = id_of(place, slot.uses);
        append(&mut self.out, &self.call.request, id);
        if shape.result_streams() {
            window(&mut self.out, id, STREAM_GRANT - STREAM_WINDOW);
        }
        self.open += 1;
        counts.opened += 1;
        if shape.argument_streams() {
            self.changed.push(place);
        }
    }

    /// Returns whether a stream can send a message now.
    #[inline]
    pub fn room(&mut self, place: u32) -> Room {
        let call = &*self.call;
        let slot = &self.slots[place as usize];
        let is_full = match call.shape {
            Shape::ServerStreaming => true,
            Shape::ClientStreaming => false,
            Shape::Bidirectional if call.read_after_send => slot.round >= u64::from(call.depth),
            Shape::Bidirectional => slot.outstanding.len() >= call.depth as usize,
        };
        if slot.state != State::Open || is_full || slot.send_window <= 0 {
            return Room::Stream;
        }
        if self.send_window <= 0 || self.out.len() >= UNSENT_BYTES_MAX {
            if !std::mem::replace(&mut self.slots[place as usize].is_blocked, true) {
                self.blocked.push(place);
            }
            return Room::Connection;
        }
        Room::Yes
    }

    /// Sends a message on a stream that has room, and the end after the stream's last message.
    #[inline]
    pub fn send(&mut self, place: u32, message: Call, counts: &mut StreamCounts) {
        let call = &*self.call;
        let slot = &mut self.slots[place as usize];
        let id = id_of(place, slot.uses);
        append(&mut self.out, &call.message, id);
        let bytes = call.message.len() as i64;
        slot.send_window -= bytes;
        self.send_window -= bytes;
        slot.outstanding.push_back(message);
        slot.sent += 1;
        slot.round += 1;
        self.outstanding += 1;
        if message.counts {
            counts.messages_sent += 1;
            counts.bytes_sent += (call.message.len() - HEADER_BYTES) as u64;
        }
        if call.messages > 0 && slot.sent >= call.messages {
            self.end_argument(place);
        }
    }

    fn end_argument(&mut self, place: u32) {
        let slot = &mut self.slots[place as usize];
        if slot.state == State::Open && self.call.shape.argument_streams() {
            slot.state = State::Ended;
            let header = frames::header(frame::END, self.call.codec, id_of(place, slot.uses), 0);
            self.out.extend_from_slice(&header.to_bytes());
        }
    }

    /// Ends the caller's side of all streams: by their end where the argument streams, else by a cancel. Streams in the
    /// middle of a round of `--read-after-send` go on until it is sent.
    pub fn finish(&mut self) {
        for place in 0..self.places() {
            if !self.is_mid_round(place) {
                self.finish_stream(place);
            }
        }
    }

    /// Returns whether a stream has sent a part of a round of `--read-after-send`.
    pub fn is_mid_round(&self, place: u32) -> bool {
        let slot = &self.slots[place as usize];
        let depth = u64::from(self.call.depth);
        self.call.read_after_send && slot.state == State::Open && (1..depth).contains(&slot.round)
    }

    /// Ends the caller's side of one stream, as [`finish`](Session::finish) does.
    pub fn finish_stream(&mut self, place: u32) {
        match self.call.shape {
            Shape::ServerStreaming => self.cancel(place),
            Shape::ClientStreaming | Shape::Bidirectional => self.end_argument(place),
        }
    }

    fn cancel(&mut self, place: u32) {
        let slot = &mut self.slots[place as usize];
        if matches!(slot.state, State::Open | State::Ended) {
            slot.state = State::Cancelled;
            let header = frames::header(frame::CANCEL, 0, id_of(place, slot.uses), 0);
            self.out.extend_from_slice(&header.to_bytes());
        }
    }

    /// Takes a place whose room may have changed.
    pub fn take_changed(&mut self) -> Option<u32> {
        self.changed.pop()
    }

    /// Takes a stream that has ended.
    pub fn take_ended(&mut self) -> Option<EndedStream> {
        self.ended.pop()
    }

    /// Sets whether a place is in the ring; returns whether it was.
    pub fn set_in_ring(&mut self, place: u32, is_in: bool) -> bool {
        std::mem::replace(&mut self.slots[place as usize].in_ring, is_in)
    }

    /// Lets the streams that waited for the connection try again, if it has room.
    pub fn unblock(&mut self) {
        if self.send_window > 0 && self.out.len() < UNSENT_BYTES_MAX {
            for place in self.blocked.drain(..) {
                self.slots[place as usize].is_blocked = false;
                self.changed.push(place);
            }
        }
    }

    /// Takes the frames at the front of `bytes`, and returns how many bytes they are. An error ends the connection.
    pub fn receive(&mut self, bytes: &[u8], now: Now, tally: &mut Tally) -> Result<usize, &'static str> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let (header, body, len) = match frame::next(rest) {
                Next::Frame { header, body, len } if frame::is_native(rest) => (header, body, len),
                Next::Short { .. } if frame::may_be_native(rest) => return Ok(used),
                Next::Broken if frame::is_native(rest) => return Err("a frame larger than 16 MiB"),
                _ => return Err("the server does not speak native frames"),
            };
            let is_first = std::mem::replace(&mut self.is_first_frame, false);
            match header.kind {
                frame::DATA => self.on_data(&header, len as i64, now, tally),
                frame::WINDOW => self.on_window(header.call, body, tally)?,
                frame::REPLY => self.on_reply(&header, body, now, tally)?,
                frame::HEADERS => self.on_headers(header.call, tally),
                frame::PING => {
                    let pong = frames::header(frame::PONG, 0, header.call, 0);
                    self.out.extend_from_slice(&pong.to_bytes());
                }
                frame::HELLO if is_first => {
                    let metadata = &rest[HEADER_BYTES..HEADER_BYTES + usize::from(header.metadata_bytes)];
                    let (stream, connection) = hello_windows(metadata);
                    self.send_stream_window = stream.clamp(STREAM_WINDOW, WINDOW_MAX);
                    self.send_window += connection.clamp(CONNECTION_WINDOW, WINDOW_MAX) - CONNECTION_WINDOW;
                }
                frame::DRAIN => {
                    self.is_draining = true;
                    self.finish();
                }
                frame::HELLO | frame::PONG | 128.. => {}
                _ => return Err("a frame that a server does not send"),
            }
            used += len;
        }
    }

    /// Returns how many bytes the frame at the front of `bytes` has at least.
    pub fn needed(bytes: &[u8]) -> usize {
        match frame::next(bytes) {
            Next::Short { need } => need,
            _ => bytes.len(),
        }
    }

    #[inline]
    fn place_of(&self, id: u64) -> Option<u32> {
        let place = frames::place_of(id)?;
        let slot = self.slots.get(place as usize)?;
        (slot.state != State::Closed && id_of(place as u32, slot.uses) == id).then_some(place as u32)
    }

    #[inline]
    fn on_data(&mut self, header: &Header, len: i64, now: Now, tally: &mut Tally) {
        let connection_had = self.receive_window;
        self.receive_window -= len;
        let place = self.place_of(header.call);
        let Some(place) = place.filter(|place| self.slots[*place as usize].state != State::Cancelled) else {
            // It has crossed the end of its call: dropped, and its bytes returned.
            return self.take_bytes(len);
        };
        let slot = &mut self.slots[place as usize];
        let had = slot.receive_window;
        slot.receive_window -= len;
        slot.has_data = true;
        let broken = if !self.call.shape.result_streams() {
            Some("a message for a call whose result is no stream")
        } else if had <= 0 || connection_had <= 0 {
            Some("a message beyond a window")
        } else if header.codec != self.call.codec {
            Some("a message in another codec than the request's")
        } else {
            None
        };
        if let Some(rule) = broken {
            self.take_bytes(len);
            return self.break_call(place, rule, tally);
        }
        if now.is_measured {
            tally.streams.messages_received += 1;
            tally.streams.bytes_received += u64::from(header.body_bytes);
        }
        if self.call.read_after_send && slot.state == State::Open && slot.round < u64::from(self.call.depth) {
            slot.held.push(len as u32);
            return;
        }
        self.take_message(place, len, now, tally);
    }

    /// Takes one message of the server: what it confirms is counted, and its bytes are returned.
    #[inline]
    fn take_message(&mut self, place: u32, len: i64, now: Now, tally: &mut Tally) {
        let slot = &mut self.slots[place as usize];
        slot.due_bytes += len;
        if slot.due_bytes >= STREAM_GRANT / 2 && slot.state != State::Cancelled {
            let bytes = std::mem::take(&mut slot.due_bytes);
            slot.receive_window += bytes;
            window(&mut self.out, id_of(place, slot.uses), bytes);
        }
        if self.call.shape == Shape::ServerStreaming {
            // The time since the message before, or since the stream was opened.
            let before_ns = std::mem::replace(&mut slot.last_ns, now.ns);
            tally.on_sent(1);
            tally.on_reply(&now.call_since(before_ns), &OK, now.ns);
        } else if let Some(call) = slot.outstanding.pop_front() {
            self.outstanding -= 1;
            tally.on_reply(&call, &OK, now.ns);
            if self.call.read_after_send && slot.outstanding.is_empty() && slot.held.is_empty() {
                slot.round = 0;
            }
            self.changed.push(place);
        } else {
            tally.streams.unasked += 1;
        }
        self.take_bytes(len);
    }

    /// Takes the messages that were held until the stream had sent its round.
    pub fn take_held(&mut self, place: u32, now: Now, tally: &mut Tally) {
        let slot = &mut self.slots[place as usize];
        if slot.held.is_empty() || (slot.state == State::Open && slot.round < u64::from(self.call.depth)) {
            return;
        }
        for len in std::mem::take(&mut slot.held) {
            self.take_message(place, i64::from(len), now, tally);
        }
        let slot = &mut self.slots[place as usize];
        if slot.outstanding.is_empty() {
            slot.round = 0;
        }
    }

    /// Returns bytes to the window of the connection.
    #[inline]
    fn take_bytes(&mut self, len: i64) {
        self.due_bytes += len;
        if self.due_bytes >= CONNECTION_GRANT / 2 {
            let bytes = std::mem::take(&mut self.due_bytes);
            self.receive_window += bytes;
            window(&mut self.out, 0, bytes);
        }
    }

    fn on_window(&mut self, id: u64, body: &[u8], tally: &mut Tally) -> Result<(), &'static str> {
        let bytes = body.try_into().map(u32::from_le_bytes).map(i64::from);
        if id == 0 {
            let bytes = bytes.map_err(|_| "a window frame whose body is not 4 bytes")?;
            self.send_window += bytes;
            if self.send_window > WINDOW_MAX {
                return Err("a window of the connection over 2^31 - 1 bytes");
            }
            self.unblock();
            return Ok(());
        }
        let Some(place) = self.place_of(id) else { return Ok(()) };
        let slot = &mut self.slots[place as usize];
        match bytes {
            Err(_) => self.break_call(place, "a window frame whose body is not 4 bytes", tally),
            // A window for a direction that does not stream, or has ended, says nothing.
            Ok(_) if slot.state != State::Open || !self.call.shape.argument_streams() => {}
            Ok(bytes) => {
                slot.send_window += bytes;
                if slot.send_window > WINDOW_MAX {
                    self.break_call(place, "a window of a stream over 2^31 - 1 bytes", tally);
                } else {
                    self.changed.push(place);
                }
            }
        }
        Ok(())
    }

    fn on_headers(&mut self, id: u64, tally: &mut Tally) {
        let Some(place) = self.place_of(id) else { return };
        let slot = &mut self.slots[place as usize];
        if slot.state == State::Cancelled {
            return;
        }
        if slot.has_headers || slot.has_data {
            return self.break_call(place, "headers twice, or after a message", tally);
        }
        slot.has_headers = true;
    }

    /// Fails a call whose server has broken a rule, and cancels it.
    #[cold]
    fn break_call(&mut self, place: u32, rule: &'static str, tally: &mut Tally) {
        tally.streams.rules_broken += 1;
        tally.streams.first_broken_rule.get_or_insert(rule);
        self.slots[place as usize].is_broken = true;
        self.cancel(place);
    }

    fn on_reply(
        &mut self,
        header: &Header,
        body: &[u8],
        now: Now,
        tally: &mut Tally,
    ) -> Result<(), &'static str> {
        let Some(place) = self.place_of(header.call) else {
            return Err("a reply to no call in flight");
        };
        let shape = self.call.shape;
        let is_cancelled = self.slots[place as usize].state == State::Cancelled;
        if header.word == 0 && shape.result_streams() && !body.is_empty() && !is_cancelled {
            self.break_call(place, "an ok reply with a body, where the result is a stream", tally);
        }
        let slot = &mut self.slots[place as usize];
        let state = std::mem::replace(&mut slot.state, State::Closed);
        let held = std::mem::take(&mut slot.held);
        let outstanding = std::mem::take(&mut slot.outstanding);
        let (opened_ns, is_broken) = (slot.last_ns, slot.is_broken);
        self.outstanding -= outstanding.len() as u64;
        self.open -= 1;
        held.into_iter().for_each(|len| self.take_bytes(i64::from(len)));
        let status = if is_broken { INTERNAL } else { header.word };
        let named = usize::try_from(status).ok().filter(|status| *status < STATUSES).unwrap_or(UNKNOWN);
        tally.streams.ended[named] += 1;
        let is_early = state == State::Open && shape.argument_streams();
        tally.streams.ended_early += u64::from(is_early);
        // A cancel of the generator's own ends its stream as it should, whatever the reply says.
        let is_ok = status == 0 || is_cancelled && !is_broken;
        self.ended.push(EndedStream { place, is_ok });
        if is_ok && shape == Shape::ClientStreaming && !is_early {
            outstanding.iter().for_each(|call| tally.on_reply(call, &OK, now.ns));
        } else if is_ok {
            // The stream has ended well without confirming them: they are lost with it.
            outstanding.iter().for_each(|call| tally.on_lost(call, now.ns));
        } else {
            let reply = Reply { status, body, ..OK };
            outstanding.iter().for_each(|call| tally.on_reply(call, &reply, now.ns));
            if outstanding.is_empty() {
                // A stream that fails by itself counts as one message.
                tally.on_reply(&now.call_since(opened_ns), &reply, now.ns);
            }
        }
        Ok(())
    }

    /// Ends all streams because the connection is lost or the run is over; calls `on_message` for each message that is
    /// not confirmed. Returns how many streams had not ended, and how many of them had not sent their round.
    pub fn close(&mut self, mut on_message: impl FnMut(&Call)) -> (u64, u64) {
        let (mut open, mut mid_round) = (0, 0);
        for place in 0..self.places() {
            mid_round += u64::from(self.is_mid_round(place));
            let slot = &mut self.slots[place as usize];
            open += u64::from(slot.state != State::Closed);
            slot.state = State::Closed;
            slot.held.clear();
            slot.outstanding.drain(..).for_each(|call| on_message(&call));
        }
        (self.open, self.outstanding) = (0, 0);
        self.out.clear();
        (open, mid_round)
    }
}

/// What a message that is confirmed counts as.
const OK: Reply<'static> = Reply { id: 0, status: 0, queue_us: 0, handler_us: 0, body: &[], len: 0 };

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
