//! The open streams of one connection, and the credit that bounds what both sides buffer for them.
//!
//! Pure bookkeeping: it neither reads nor writes, and knows no protocol. The rules are those of the native protocol
//! (`docs/wire.md`, "Credit"): each direction of a stream and of the connection has a window in bytes of data frames.
//! A message may be sent while both windows are positive, and may make them negative. Every byte of a data frame
//! returns to the connection's window exactly once: when the application takes the message, or when the receiver
//! discards it.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;

use coreloop_bufpool::Chunk;
use slab::Slab;

use crate::message::Metadata;
use crate::status::Status;

/// The window of a new stream, in bytes.
pub const STREAM_WINDOW_BYTES: u32 = 65_536;
/// The window of a new connection, in bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// The largest window, in bytes.
pub const WINDOW_BYTES_MAX: u32 = i32::MAX as u32;
/// The list of streams that wait for credit keeps at most this many that have ended, and one for each stream: a peer
/// that grants nothing may open and cancel streams without end.
const ENDED_WAITING_MAX: usize = 64;
/// The bytes of a data frame that precede its body.
const FRAME_HEADER_BYTES: usize = 32;

/// Identifies a stream of a connection: a slot that is used again, and a number that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    slot: u32,
    generation: u32,
}

/// The windows that this side grants, in bytes. Smaller values than the initial windows have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamWindows {
    /// For each stream.
    pub stream_bytes: u32,
    /// For all streams of the connection together.
    pub connection_bytes: u32,
}

impl StreamWindows {
    /// The windows at the start of each connection and stream.
    pub const DEFAULT: StreamWindows =
        StreamWindows { stream_bytes: STREAM_WINDOW_BYTES, connection_bytes: CONNECTION_WINDOW_BYTES };

    /// Reads the windows from the metadata of a hello. An entry that is missing or not a number in decimal digits
    /// counts as the default.
    pub fn of_hello(metadata: Metadata<'_>) -> StreamWindows {
        let bytes = |key: &str| {
            let text = std::str::from_utf8(metadata.find(key)?).ok()?;
            text.parse::<u32>().ok()
        };
        StreamWindows {
            stream_bytes: bytes("stream-window").unwrap_or(STREAM_WINDOW_BYTES),
            connection_bytes: bytes("connection-window").unwrap_or(CONNECTION_WINDOW_BYTES),
        }
    }
}

/// The bytes of a message: of its own, or shared by several streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamBody {
    /// Bytes of this message. Their memory is used again once they are sent.
    Owned(Vec<u8>),
    /// Shared bytes.
    Shared(Chunk),
}

impl Deref for StreamBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            StreamBody::Owned(bytes) => bytes,
            StreamBody::Shared(chunk) => chunk,
        }
    }
}

/// An encoded message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMessage {
    /// The body of its data frame.
    pub body: StreamBody,
    /// The body is compressed.
    pub compressed: bool,
}

impl StreamMessage {
    /// Returns the bytes that the message takes from the windows.
    pub fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.body.len()
    }
}

/// Credit to send to the peer, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreditDue {
    /// For the stream.
    pub stream: Option<u32>,
    /// For the connection.
    pub connection: Option<u32>,
}

/// What to do with a message that has arrived.
#[derive(Debug, PartialEq)]
pub enum DataVerdict {
    /// Pass it to the application, which reports with [`StreamTable::taken`] when it takes the message.
    Deliver(StreamKey),
    /// Drop it: its call has ended.
    Discard {
        /// Credit for the connection, if it is due.
        connection: Option<u32>,
    },
    /// Drop it, and end its call.
    Break {
        /// The stream of the call.
        key: StreamKey,
        /// How the call ends.
        status: Status,
        /// Credit for the connection, if it is due.
        connection: Option<u32>,
    },
}

/// The effect of credit from the peer.
#[derive(Debug, PartialEq)]
pub enum CreditVerdict {
    /// A stream may send more. Send what [`StreamTable::next_sendable`] returns.
    Stream(StreamKey),
    /// The connection may send more. Send what [`StreamTable::next_sendable`] returns.
    Connection,
    /// The call has ended, or does not send.
    Ignored,
    /// The window is too large: end the call.
    StreamTooLarge(StreamKey, Status),
    /// The window is too large: close the connection.
    ConnectionTooLarge(Status),
}

/// The receiving side of a window.
#[derive(Clone, Copy, Debug)]
struct ReceiveWindow {
    /// The full window.
    size: u32,
    /// Bytes that the peer may still send; negative by at most one message.
    left: i64,
    /// Bytes taken or discarded, and not granted again.
    unreturned: u64,
}

impl ReceiveWindow {
    /// Creates a window, and returns the credit that enlarges it from its initial size.
    fn new(initial: u32, wanted: u32) -> (ReceiveWindow, Option<u32>) {
        let size = wanted.clamp(initial, WINDOW_BYTES_MAX);
        let credit = size - initial;
        (ReceiveWindow { size, left: i64::from(size), unreturned: 0 }, (credit > 0).then_some(credit))
    }

    /// Takes note of bytes that are no longer buffered. Returns credit once half the window is due, or whenever any
    /// is due if `is_short` and the peer has less than half the window left.
    fn give_back(&mut self, bytes: u64, is_short: bool) -> Option<u32> {
        self.unreturned += bytes;
        let half = self.size / 2;
        let is_due = self.unreturned >= u64::from(half) || is_short && self.left < i64::from(half);
        if !is_due || self.unreturned == 0 {
            return None;
        }
        // A message that made the window negative may be larger than the largest window: the rest is due later.
        let credit = self.unreturned.min(u64::from(WINDOW_BYTES_MAX)) as u32;
        self.unreturned -= u64::from(credit);
        self.left += i64::from(credit);
        Some(credit)
    }
}

/// The direction of a stream that is received.
#[derive(Debug)]
struct Receiving {
    window: ReceiveWindow,
    /// Bytes delivered and not taken.
    untaken: u64,
    /// The peer sends no more.
    has_ended: bool,
}

/// The direction of a stream that is sent.
#[derive(Debug)]
struct Sending {
    /// Bytes that may still be sent.
    window: i64,
    /// Messages that wait for credit.
    held: VecDeque<StreamMessage>,
    /// The stream is in the list of those that wait.
    is_waiting: bool,
}

#[derive(Debug)]
struct StreamEntry<T> {
    /// 0 once the call has ended: what is left is to be taken.
    id: u64,
    generation: u32,
    data: T,
    receiving: Option<Receiving>,
    sending: Option<Sending>,
}

/// The open streams of one connection. `T` is the application's data of a stream.
#[derive(Debug)]
pub struct StreamTable<T> {
    entries: Slab<StreamEntry<T>>,
    /// The peer may choose the ids: the map has a keyed hasher.
    slots: HashMap<u64, u32>,
    generation: u32,
    stream_bytes: u32,
    connection: ReceiveWindow,
    /// Credit that enlarges the connection's window from its initial size, until it is sent.
    enlarge: Option<u32>,
    /// Bytes that the peer grants for a new stream.
    send_stream_bytes: u32,
    /// Messages are sent without windows: the peer grants no credit.
    has_no_send_windows: bool,
    /// Bytes that may still be sent on the connection.
    send_window: i64,
    held_bytes: usize,
    /// Streams with held messages, each once, in the order in which they send next; and some that have ended since,
    /// whose number is bounded (`forget_ended`).
    waiting: VecDeque<StreamKey>,
}

impl<T> StreamTable<T> {
    /// Creates the table of a connection without streams.
    pub fn new(windows: StreamWindows) -> StreamTable<T> {
        let wanted = windows.connection_bytes.clamp(CONNECTION_WINDOW_BYTES, WINDOW_BYTES_MAX);
        let (connection, _) = ReceiveWindow::new(CONNECTION_WINDOW_BYTES, CONNECTION_WINDOW_BYTES);
        let enlarge = (wanted > CONNECTION_WINDOW_BYTES).then(|| wanted - CONNECTION_WINDOW_BYTES);
        StreamTable {
            entries: Slab::new(),
            slots: HashMap::new(),
            generation: 0,
            stream_bytes: windows.stream_bytes,
            connection,
            enlarge,
            send_stream_bytes: STREAM_WINDOW_BYTES,
            has_no_send_windows: false,
            send_window: i64::from(CONNECTION_WINDOW_BYTES),
            held_bytes: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Takes note of the windows that the peer grants, in bytes, where they are larger than the defaults. It does so once,
    /// and streams that are open already have the larger window, too: returns what is added for each.
    pub fn on_hello(&mut self, windows: StreamWindows) -> u32 {
        let stream_bytes = windows.stream_bytes.clamp(STREAM_WINDOW_BYTES, WINDOW_BYTES_MAX);
        let added = stream_bytes - STREAM_WINDOW_BYTES;
        self.send_stream_bytes = stream_bytes;
        for (slot, entry) in &mut self.entries {
            let Some(sending) = entry.sending.as_mut().filter(|_| added > 0) else { continue };
            sending.window += i64::from(added);
            if !sending.held.is_empty() && !std::mem::replace(&mut sending.is_waiting, true) {
                self.waiting.push_back(StreamKey { slot: slot as u32, generation: entry.generation });
            }
        }
        let connection_bytes = windows.connection_bytes.clamp(CONNECTION_WINDOW_BYTES, WINDOW_BYTES_MAX);
        self.send_window += i64::from(connection_bytes - CONNECTION_WINDOW_BYTES);
        added
    }

    /// Returns the bytes that the peer grants for a new stream.
    pub fn send_stream_bytes(&self) -> u32 {
        self.send_stream_bytes
    }

    /// Sends messages without windows, for a protocol whose peers grant no credit.
    #[must_use]
    pub fn without_send_windows(self) -> StreamTable<T> {
        StreamTable { has_no_send_windows: true, ..self }
    }

    /// Opens the stream of a call, whose id no open stream has. Returns its key and the credit to send at once.
    pub fn open(
        &mut self,
        id: u64,
        receives: bool,
        sends: bool,
        data: impl FnOnce(StreamKey) -> T,
    ) -> (StreamKey, CreditDue) {
        let connection = if receives { self.enlarge.take() } else { None };
        if let Some(bytes) = connection {
            self.connection.size += bytes;
            self.connection.left += i64::from(bytes);
        }
        let mut credit = CreditDue { stream: None, connection };
        let receiving = receives.then(|| {
            let (window, stream) = ReceiveWindow::new(STREAM_WINDOW_BYTES, self.stream_bytes);
            credit.stream = stream;
            Receiving { window, untaken: 0, has_ended: false }
        });
        let sending = sends.then(|| Sending {
            window: i64::from(self.send_stream_bytes),
            held: VecDeque::new(),
            is_waiting: false,
        });
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let vacant = self.entries.vacant_entry();
        let slot = vacant.key() as u32;
        let data = data(StreamKey { slot, generation });
        vacant.insert(StreamEntry { id, generation, data, receiving, sending });
        let before = self.slots.insert(id, slot);
        debug_assert!(before.is_none(), "two open streams with the id {id}");
        (StreamKey { slot, generation }, credit)
    }

    fn entry(&self, key: StreamKey) -> Option<&StreamEntry<T>> {
        self.entries.get(key.slot as usize).filter(|entry| entry.generation == key.generation)
    }

    fn entry_mut(&mut self, key: StreamKey) -> Option<&mut StreamEntry<T>> {
        self.entries.get_mut(key.slot as usize).filter(|entry| entry.generation == key.generation)
    }

    /// Returns the stream of the call with this id.
    pub fn find(&self, id: u64) -> Option<StreamKey> {
        let slot = *self.slots.get(&id)?;
        self.entries.get(slot as usize).map(|entry| StreamKey { slot, generation: entry.generation })
    }

    /// Returns the id of a stream's call, and the application's data.
    pub fn get(&self, key: StreamKey) -> Option<(u64, &T)> {
        self.entry(key).map(|entry| (entry.id, &entry.data))
    }

    /// Returns the application's data of a stream.
    pub fn data_mut(&mut self, key: StreamKey) -> Option<&mut T> {
        self.entry_mut(key).map(|entry| &mut entry.data)
    }

    /// Iterates over all open streams, with the application's data.
    pub fn iter(&self) -> impl Iterator<Item = (StreamKey, &T)> {
        self.entries
            .iter()
            .map(|(slot, entry)| (StreamKey { slot: slot as u32, generation: entry.generation }, &entry.data))
    }

    /// Returns the number of streams, including those of ended calls whose messages are not taken.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no stream.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    // Messages from the peer.

    /// Takes note of a message that has arrived; `frame_bytes` count against the windows.
    pub fn on_data(&mut self, id: u64, frame_bytes: u32) -> DataVerdict {
        let is_over = self.connection.left <= 0;
        self.connection.left -= i64::from(frame_bytes);
        let size = self.connection.size;
        let Some(key) = self.find(id) else {
            return DataVerdict::Discard { connection: self.discard(frame_bytes) };
        };
        let status = match self.entry_mut(key).and_then(|entry| entry.receiving.as_mut()) {
            None => Status::invalid_argument("a data frame for a call whose argument is complete"),
            Some(Receiving { has_ended: true, .. }) => {
                Status::invalid_argument("a data frame after the end frame of its call")
            }
            Some(_) if is_over => Status::resource_exhausted(format!(
                "a data frame beyond the connection's window of {size} bytes (connection_window_bytes)"
            )),
            Some(Receiving { window, .. }) if window.left <= 0 => Status::resource_exhausted(format!(
                "a data frame beyond its stream's window of {} bytes (stream_window_bytes)",
                window.size
            )),
            Some(receiving) => {
                receiving.window.left -= i64::from(frame_bytes);
                receiving.untaken += u64::from(frame_bytes);
                return DataVerdict::Deliver(key);
            }
        };
        DataVerdict::Break { key, status, connection: self.discard(frame_bytes) }
    }

    /// Takes note of bytes that arrived and are dropped unseen. Returns credit for the connection, if it is due.
    pub fn on_dropped(&mut self, frame_bytes: u32) -> Option<u32> {
        self.connection.left -= i64::from(frame_bytes);
        self.discard(frame_bytes)
    }

    fn discard(&mut self, frame_bytes: u32) -> Option<u32> {
        self.connection.give_back(u64::from(frame_bytes), true)
    }

    /// Takes note of the end of the peer's messages for a call. `None`: the call has ended before, or has no stream.
    ///
    /// # Errors
    ///
    /// The argument was complete already: the call ends with the status.
    pub fn on_end(&mut self, id: u64) -> Option<Result<StreamKey, (StreamKey, Status)>> {
        let key = self.find(id)?;
        Some(match self.entry_mut(key)?.receiving.as_mut() {
            Some(receiving) if !receiving.has_ended => {
                receiving.has_ended = true;
                Ok(key)
            }
            Some(_) => Err((key, Status::invalid_argument("a second end frame for one call"))),
            None => {
                Err((key, Status::invalid_argument("an end frame for a call whose argument is complete")))
            }
        })
    }

    /// Returns whether the peer may still send messages for this stream.
    pub fn is_receiving(&self, key: StreamKey) -> bool {
        let receiving = self.entry(key).and_then(|entry| entry.receiving.as_ref());
        receiving.is_some_and(|receiving| !receiving.has_ended)
    }

    /// Takes note that the application has taken messages of `frame_bytes` bytes. For a stream that has closed, its
    /// bytes were returned then.
    pub fn taken(&mut self, key: StreamKey, frame_bytes: u64) -> CreditDue {
        let Some(receiving) = self.entry_mut(key).and_then(|entry| entry.receiving.as_mut()) else {
            return CreditDue::default();
        };
        let bytes = frame_bytes.min(receiving.untaken);
        receiving.untaken -= bytes;
        let is_all = receiving.untaken == 0;
        let stream = if receiving.has_ended { None } else { receiving.window.give_back(bytes, false) };
        if is_all && self.entry(key).is_some_and(|entry| entry.id == 0) {
            self.entries.remove(key.slot as usize);
        }
        CreditDue { stream, connection: self.connection.give_back(bytes, true) }
    }

    // Messages to the peer.

    /// Adds credit from the peer; the id 0 is the connection.
    pub fn on_credit(&mut self, id: u64, bytes: u32) -> CreditVerdict {
        let too_large = |what: &str| {
            Status::resource_exhausted(format!("the {what}'s window is over {WINDOW_BYTES_MAX} bytes"))
        };
        if id == 0 {
            self.send_window += i64::from(bytes);
            if self.send_window > i64::from(WINDOW_BYTES_MAX) {
                return CreditVerdict::ConnectionTooLarge(too_large("connection"));
            }
            return CreditVerdict::Connection;
        }
        let Some(key) = self.find(id) else { return CreditVerdict::Ignored };
        let Some(sending) = self.entry_mut(key).and_then(|entry| entry.sending.as_mut()) else {
            return CreditVerdict::Ignored;
        };
        sending.window += i64::from(bytes);
        if sending.window > i64::from(WINDOW_BYTES_MAX) {
            return CreditVerdict::StreamTooLarge(key, too_large("stream"));
        }
        if !sending.held.is_empty() && !std::mem::replace(&mut sending.is_waiting, true) {
            self.waiting.push_back(key);
        }
        CreditVerdict::Stream(key)
    }

    /// Sends a message: returns it if it may be written now, and holds it otherwise. A message for a stream that has
    /// closed is dropped.
    pub fn send(&mut self, key: StreamKey, message: StreamMessage) -> Option<StreamMessage> {
        let (may_send, is_unbounded) = (self.send_window > 0, self.has_no_send_windows);
        let bytes = message.frame_bytes();
        let sending = self.entry_mut(key)?.sending.as_mut()?;
        if is_unbounded {
            return Some(message);
        }
        if may_send && sending.window > 0 && sending.held.is_empty() {
            sending.window -= bytes as i64;
            self.send_window -= bytes as i64;
            return Some(message);
        }
        sending.held.push_back(message);
        if sending.window > 0 && !std::mem::replace(&mut sending.is_waiting, true) {
            self.waiting.push_back(key);
        }
        self.held_bytes += bytes;
        None
    }

    /// Returns a held message that may be written now. Streams take turns.
    pub fn next_sendable(&mut self) -> Option<(StreamKey, StreamMessage)> {
        while self.send_window > 0 {
            let key = self.waiting.pop_front()?;
            let Some(sending) = self.entry_mut(key).and_then(|entry| entry.sending.as_mut()) else {
                continue;
            };
            sending.is_waiting = false;
            if sending.window <= 0 {
                continue;
            }
            let Some(message) = sending.held.pop_front() else { continue };
            let bytes = message.frame_bytes();
            sending.window -= bytes as i64;
            let goes_on = !sending.held.is_empty() && sending.window > 0;
            sending.is_waiting = goes_on;
            if goes_on {
                self.waiting.push_back(key);
            }
            self.send_window -= bytes as i64;
            self.held_bytes -= bytes;
            return Some((key, message));
        }
        None
    }

    /// Returns whether messages of this stream wait for credit.
    pub fn is_holding(&self, key: StreamKey) -> bool {
        let sending = self.entry(key).and_then(|entry| entry.sending.as_ref());
        sending.is_some_and(|sending| !sending.held.is_empty())
    }

    /// Returns the bytes of all messages that wait for credit.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Releases the id of a call that has ended. Held messages are dropped; what has arrived can still be taken.
    pub fn release(&mut self, key: StreamKey) {
        let Some(entry) = self.entry_mut(key) else { return };
        let id = std::mem::take(&mut entry.id);
        let held = entry.sending.take().into_iter().flat_map(|sending| sending.held);
        let held_bytes = held.map(|message| message.frame_bytes()).sum::<usize>();
        let is_taken = entry.receiving.as_mut().is_none_or(|receiving| {
            receiving.has_ended = true;
            receiving.untaken == 0
        });
        self.held_bytes -= held_bytes;
        self.slots.remove(&id);
        if is_taken {
            self.entries.remove(key.slot as usize);
        }
        self.forget_ended();
    }

    /// Closes a stream: held messages are dropped, and what the application has not taken counts as discarded.
    /// Returns the application's data and credit for the connection, if it is due.
    pub fn close(&mut self, key: StreamKey) -> Option<(T, Option<u32>)> {
        self.entry(key)?;
        let entry = self.entries.remove(key.slot as usize);
        self.slots.remove(&entry.id);
        let held = entry.sending.iter().flat_map(|sending| &sending.held);
        self.held_bytes -= held.map(StreamMessage::frame_bytes).sum::<usize>();
        let untaken = entry.receiving.map_or(0, |receiving| receiving.untaken);
        let connection = self.connection.give_back(untaken, true);
        self.forget_ended();
        Some((entry.data, connection))
    }

    /// Removes streams that have ended from those that wait, once there are many of them.
    fn forget_ended(&mut self) {
        if self.waiting.len() > self.entries.len() * 2 + ENDED_WAITING_MAX {
            let entries = &self.entries;
            self.waiting.retain(|key| {
                let entry = entries.get(key.slot as usize);
                entry.is_some_and(|entry| entry.generation == key.generation && entry.sending.is_some())
            });
        }
    }

    /// Asserts that every byte of the connection's window is in one place.
    pub fn check(&self) {
        let untaken: u64 = self
            .entries
            .iter()
            .filter_map(|(_, entry)| entry.receiving.as_ref())
            .map(|side| side.untaken)
            .sum();
        debug_assert_eq!(
            self.connection.left + self.connection.unreturned as i64 + untaken as i64,
            i64::from(self.connection.size)
        );
        let held = self.entries.iter().filter_map(|(_, entry)| entry.sending.as_ref());
        let held: usize = held.flat_map(|sending| &sending.held).map(StreamMessage::frame_bytes).sum();
        debug_assert_eq!(self.held_bytes, held);
        let with_id = self.entries.iter().filter(|(_, entry)| entry.id != 0).count();
        debug_assert_eq!(self.slots.len(), with_id);
        debug_assert!(self.waiting.len() <= self.entries.len() * 2 + ENDED_WAITING_MAX);
    }
}

#[cfg(test)]
#[path = "streams/tests.rs"]
mod tests;
