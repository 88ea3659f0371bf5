//! Answers: heads, bodies and trailers, and what waits because a window forbids it.
//!
//! Held bodies keep their chunks; held trailers are encoded when they are written, since the order of the header
//! blocks on the wire is the order in which the peer's table changes.

use coreloop_bufpool::Chunk;

use super::Http2Connection;
use crate::message::SendBody;
use crate::wire::Out;
use crate::wire::http2::fault::Http2Code;
use crate::wire::http2::frame::{FRAME_BYTES_DEFAULT, FRAME_HEAD_BYTES, FrameHead, flag, kind};
use crate::wire::http2::hpack::Indexing;
use crate::wire::http2::streams::{HeldEnd, HeldOutput, Http2StreamState, OwnedField};

/// The largest payload that is sent, whatever the peer accepts: streams of a connection take turns.
const SENT_BYTES_MAX: u32 = 2 * FRAME_BYTES_DEFAULT;
/// The buffer of encoded blocks is freed if it has grown beyond this.
const SCRATCH_BYTES_MAX: usize = 512;

/// A field of an answer.
#[derive(Clone, Copy, Debug)]
pub struct OutField<'a> {
    /// The name, in lower case.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// What the tables do with it.
    pub indexing: Indexing,
}

/// A part of an answer's body: a short prefix and the bytes after it, in the same frame.
#[derive(Debug)]
pub struct BodyPart<'a> {
    /// Bytes in front, for example the length of a message.
    pub prefix: &'a [u8],
    /// The bytes.
    pub body: SendBody<'a>,
}

impl Http2Connection {
    /// Whether the stream may still be answered; false after it was reset.
    pub fn is_open(&mut self, stream: u32) -> bool {
        self.streams
            .get(stream)
            .is_some_and(|found| found.state != Http2StreamState::GivenUp && !found.is_answered())
    }

    /// Writes the head of an answer. With `is_last` it is the whole answer. Ignored if the stream has ended.
    pub fn send_head(&mut self, stream: u32, fields: &[OutField<'_>], is_last: bool, out: &mut Out<'_>) {
        if !self.is_open(stream) {
            return self.close_if(is_last, stream);
        }
        self.write_block(stream, fields, is_last, out);
        if is_last {
            self.on_sent_end(stream, out);
        }
    }

    /// Writes a part of the body, or holds it until the windows allow it. Ignored if the stream has ended. If
    /// `held_bytes_max` is exceeded already, the stream is reset instead.
    pub fn send_data(&mut self, id: u32, part: BodyPart<'_>, is_last: bool, out: &mut Out<'_>) {
        if !self.is_open(id) {
            if let SendBody::Chunk(chunk) = part.body {
                out.pool.give_back_chunk(chunk);
            }
            return self.close_if(is_last, id);
        }
        let frame_max = self.frame_bytes_max();
        let connection = self.send.available();
        let Some(stream) = self.streams.get(id) else { return };
        let bytes = part.prefix.len() + part.body.len();
        if stream.held.is_none() && bytes <= frame_max.min(connection).min(stream.send.available()) {
            stream.send.take(bytes);
            self.send.take(bytes);
            let head = data_head(id, bytes, is_last);
            let mut both = [0; FRAME_HEAD_BYTES + PREFIX_BYTES_MAX];
            match both.get_mut(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + part.prefix.len()) {
                Some(room) => {
                    room.copy_from_slice(part.prefix);
                    both[..FRAME_HEAD_BYTES].copy_from_slice(&head);
                    out.frame(&both[..FRAME_HEAD_BYTES + part.prefix.len()], part.body);
                }
                None => {
                    out.put(&head);
                    out.frame(part.prefix, part.body);
                }
            }
            if is_last {
                self.on_sent_end(id, out);
            }
            return;
        }
        if self.held_bytes > self.limits.held_bytes_max {
            // The limit is passed by one answer at the most.
            if let SendBody::Chunk(chunk) = part.body {
                out.pool.give_back_chunk(chunk);
            }
            return self.reset(id, Http2Code::ENHANCE_YOUR_CALM, out);
        }
        let held = stream.held.get_or_insert_default();
        match part.body {
            SendBody::Bytes(body) => {
                let copied = [part.prefix, body].concat();
                held.body.push_back(Chunk::from(copied));
            }
            SendBody::Chunk(chunk) => {
                if !part.prefix.is_empty() {
                    held.body.push_back(Chunk::from(part.prefix.to_vec()));
                }
                held.body.push_back(chunk);
            }
        }
        held.bytes += bytes;
        held.has_progress = true;
        if is_last {
            held.end = HeldEnd::WithBody;
        }
        self.held_bytes += bytes;
        self.queue_if_held(id);
        self.flush_held(out);
    }

    /// Writes trailers, which end the answer, once the body is written. Ignored if the stream has ended.
    pub fn send_trailers(&mut self, id: u32, fields: &[OutField<'_>], out: &mut Out<'_>) {
        if !self.is_open(id) {
            return self.close_if(true, id);
        }
        let Some(stream) = self.streams.get(id) else { return };
        if let Some(held) = &mut stream.held {
            let owned = |field: &OutField<'_>| OwnedField {
                name: field.name.into(),
                value: field.value.into(),
                indexing: field.indexing,
            };
            held.end = HeldEnd::Trailers(fields.iter().map(owned).collect());
            return;
        }
        self.write_block(id, fields, true, out);
        self.on_sent_end(id, out);
    }

    /// Ends a stream without an answer, or with the rest of one: writes RST_STREAM if the peer still waits.
    pub fn reset(&mut self, id: u32, code: Http2Code, out: &mut Out<'_>) {
        let Some(stream) = self.streams.remove(id) else { return };
        self.drop_held(id, stream.held, out);
        if stream.state != Http2StreamState::GivenUp {
            self.write_reset(id, code, out);
        }
    }

    /// Frees held output, and forgets its place in the queue.
    pub(super) fn drop_held(&mut self, id: u32, held: Option<Box<HeldOutput>>, out: &mut Out<'_>) {
        let Some(held) = held else { return };
        self.held_bytes -= held.bytes;
        if held.is_queued {
            self.queue.retain(|queued| *queued != id);
        }
        held.body.into_iter().for_each(|chunk| out.pool.give_back_chunk(chunk));
    }

    /// The call of a stream that was reset has ended. Otherwise this does nothing.
    pub fn close(&mut self, id: u32) {
        if self.streams.get(id).is_some_and(|stream| stream.state == Http2StreamState::GivenUp) {
            self.streams.remove(id);
        }
    }

    fn close_if(&mut self, is_last: bool, id: u32) {
        if is_last {
            self.close(id);
        }
    }

    fn frame_bytes_max(&self) -> usize {
        self.peer.frame_bytes_max.min(SENT_BYTES_MAX) as usize
    }

    /// Writes a header block, in as many frames as the peer's limit requires.
    fn write_block(&mut self, id: u32, fields: &[OutField<'_>], is_last: bool, out: &mut Out<'_>) {
        let mut block = std::mem::take(&mut self.scratch);
        block.clear();
        self.encoder.begin(&mut block);
        for field in fields {
            self.encoder.field(field.name, field.value, field.indexing, &mut block);
        }
        let (mut rest, mut frame_kind) = (&block[..], kind::HEADERS);
        let mut flags = if is_last { flag::END_STREAM } else { 0 };
        loop {
            let (fragment, after) = rest.split_at(rest.len().min(self.frame_bytes_max()));
            if after.is_empty() {
                flags |= flag::END_HEADERS;
            }
            let length = fragment.len() as u32;
            let head = FrameHead { length, kind: frame_kind, flags, stream: id }.to_bytes();
            out.frame(&head, SendBody::Bytes(fragment));
            if after.is_empty() {
                break;
            }
            (rest, frame_kind, flags) = (after, kind::CONTINUATION, 0);
        }
        if block.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = block;
        }
    }

    /// This side has ended the stream.
    #[inline]
    fn on_sent_end(&mut self, id: u32, out: &mut Out<'_>) {
        self.budget.on_answer();
        let Some(stream) = self.streams.remove(id) else { return };
        if stream.state == Http2StreamState::Open {
            // The rest of the request is not needed (RFC 9113 section 8.1).
            self.write_reset(id, Http2Code::NO_ERROR, out);
        }
    }

    /// Queues a stream whose own window allows something of what it holds.
    pub(super) fn queue_if_held(&mut self, id: u32) {
        if let Some(stream) = self.streams.get(id)
            && let Some(held) = &mut stream.held
            && !held.is_queued
            && (stream.send.available() > 0 || held.bytes == 0)
        {
            held.is_queued = true;
            self.queue.push_back(id);
        }
    }

    /// Queues all streams that hold output, after their windows have grown.
    pub(super) fn queue_all(&mut self, out: &mut Out<'_>) {
        let mut holding: Vec<u32> = Vec::new();
        for (id, stream) in self.streams.iter_mut() {
            if stream.held.is_some() {
                holding.push(id);
            }
        }
        // The order of a hash table is not the order of the streams.
        holding.sort_unstable();
        holding.into_iter().for_each(|id| self.queue_if_held(id));
        self.flush_held(out);
    }

    /// Writes what the windows allow, a frame of each stream in turn.
    pub(super) fn flush_held(&mut self, out: &mut Out<'_>) {
        while let Some(&id) = self.queue.front() {
            let frame_max = self.frame_bytes_max();
            let connection = self.send.available();
            let Some(stream) = self.streams.get(id) else {
                self.queue.pop_front();
                continue;
            };
            let Some(held) = &mut stream.held else {
                self.queue.pop_front();
                continue;
            };
            let bytes = held.bytes.min(frame_max).min(stream.send.available());
            if bytes.min(connection) == 0 && held.bytes > 0 {
                if bytes == 0 {
                    held.is_queued = false;
                    self.queue.pop_front();
                    continue;
                }
                // The connection's window is used up: all wait.
                return;
            }
            let bytes = bytes.min(connection);
            let is_all = bytes == held.bytes;
            let is_last = is_all && matches!(held.end, HeldEnd::WithBody);
            stream.send.take(bytes);
            self.send.take(bytes);
            self.held_bytes -= bytes;
            held.bytes -= bytes;
            held.has_progress = true;
            held.is_queued = false;
            self.queue.pop_front();
            out.put(&data_head(id, bytes, is_last));
            let mut left = bytes;
            while left > 0 {
                let Some(chunk) = held.body.pop_front() else { break };
                if chunk.len() > left {
                    out.link(chunk.slice(0..left));
                    held.body.push_front(chunk.slice(left..chunk.len()));
                    break;
                }
                left -= chunk.len();
                out.link(chunk);
            }
            if is_all {
                let end = stream.held.take().map(|held| held.end).unwrap_or_default();
                self.write_held_end(id, end, out);
            } else {
                self.queue_if_held(id);
            }
        }
        if self.queue.capacity() > QUEUE_KEPT_MAX {
            self.queue = Default::default();
        }
    }

    fn write_held_end(&mut self, id: u32, end: HeldEnd, out: &mut Out<'_>) {
        match end {
            HeldEnd::Open => {}
            HeldEnd::WithBody => self.on_sent_end(id, out),
            HeldEnd::Trailers(owned) => {
                let fields: Vec<OutField<'_>> = owned
                    .iter()
                    .map(|field| OutField {
                        name: &field.name,
                        value: &field.value,
                        indexing: field.indexing,
                    })
                    .collect();
                self.write_block(id, &fields, true, out);
                self.on_sent_end(id, out);
            }
        }
    }
}

/// Prefixes up to this length are joined with the frame's head.
const PREFIX_BYTES_MAX: usize = 7;
/// An empty queue with more room than this is freed.
const QUEUE_KEPT_MAX: usize = 16;

fn data_head(stream: u32, bytes: usize, is_last: bool) -> [u8; FRAME_HEAD_BYTES] {
    let flags = if is_last { flag::END_STREAM } else { 0 };
    // At most `SENT_BYTES_MAX`.
    FrameHead { length: bytes as u32, kind: kind::DATA, flags, stream }.to_bytes()
}
