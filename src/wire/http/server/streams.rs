//! Answers that are streams of messages: newline-delimited JSON in a chunked body, one message in a chunk. Those of routes
//! are bytes of any kind.
//!
//! No input is taken before such an answer is written, so there is at most one at a time, and it is the last in the order
//! of the answers. Only the last chunk says that the stream is complete. After an error the body ends without it; if
//! nothing was written yet, the error is an ordinary answer.

use std::borrow::Cow;

use coreloop_bufpool::Chunk;

use super::{HttpServerInner, RequestState};
use crate::message::{ReplyExtras, SendBody};
use crate::wire::http::reply::{ServerResponse, write_stream_head};
use crate::wire::order::OrderTicket;
use crate::wire::{Out, StreamSupport};

/// The chunk of size 0 without trailers, which ends a body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How far the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamProgress {
    /// Nothing is written: there is no message, or it is not the answer's turn.
    Waiting,
    /// The head is written, and messages are written as they come.
    Begun,
    /// The answer is complete, and waits for its turn.
    Complete,
}

/// What an answer holds before its turn.
#[derive(Debug, Default)]
pub(super) struct HeldStream {
    /// Metadata for the head.
    fields: Vec<u8>,
    /// Messages as they will be written.
    chunks: Vec<u8>,
    /// Messages are bytes as they are.
    pub(super) is_raw: bool,
}

impl HttpServerInner {
    pub(in crate::wire::http) fn stream_support(&self) -> StreamSupport {
        match self.state {
            RequestState::Stream { .. } => StreamSupport::ResultOnly,
            _ => StreamSupport::Unary,
        }
    }

    pub(in crate::wire::http) fn has_ended(&self) -> bool {
        matches!(self.state, RequestState::Ended) && self.order.is_empty()
    }

    /// Keeps metadata for the head of a stream's answer.
    pub(in crate::wire::http) fn stream_headers(&mut self, id: u64, metadata: &[u8]) {
        // There is one set of headers for a call.
        if self.progress_of(id) == Some(StreamProgress::Waiting) && self.held_stream.fields.is_empty() {
            self.held_bytes += metadata.len();
            self.held_stream.fields.extend_from_slice(metadata);
        }
    }

    /// Takes the headers of a stream that ends without a message; its trailers have no place.
    #[cold]
    pub(super) fn note_stream_extras(&mut self, id: u64, extras: Option<&ReplyExtras>) {
        let Some(extras) = extras else { return };
        if !extras.headers.is_empty() {
            self.stream_headers(id, extras.headers.as_bytes());
        }
        let dropped = extras.trailers.view().iter().count();
        if dropped > 0 {
            self.side.note_dropped(dropped);
        }
    }

    /// Writes a message, or holds it before its turn.
    pub(in crate::wire::http) fn stream_message(&mut self, id: u64, body: SendBody<'_>, out: &mut Out<'_>) {
        let is_raw = self.held_stream.is_raw;
        if is_raw && body.is_empty() {
            // A chunk of size 0 would end the body.
            return;
        }
        match self.progress_of(id) {
            Some(StreamProgress::Begun) => write_chunk(body, is_raw, out),
            Some(StreamProgress::Waiting) if self.begin_stream(id, out) => write_chunk(body, is_raw, out),
            Some(StreamProgress::Waiting) => {
                let chunks = &mut self.held_stream.chunks;
                let before = chunks.len();
                match &body {
                    SendBody::Bytes(bytes) => put_chunk(bytes, is_raw, |part| chunks.extend_from_slice(part)),
                    SendBody::Chunk(chunk) => put_chunk(chunk, is_raw, |part| chunks.extend_from_slice(part)),
                }
                self.held_bytes += chunks.len() - before;
            }
            Some(StreamProgress::Complete) | None => {}
        }
    }

    fn progress_of(&self, id: u64) -> Option<StreamProgress> {
        match self.state {
            RequestState::Stream { id: stream, progress } if stream == id => Some(progress),
            _ => None,
        }
    }

    /// Writes the head, if it is the answer's turn.
    fn begin_stream(&mut self, id: u64, out: &mut Out<'_>) -> bool {
        let Some(pending) = self.order.turn(OrderTicket::of(id)) else { return false };
        let fields = std::mem::take(&mut self.held_stream.fields);
        self.held_bytes -= fields.len();
        write_stream_head(&self.side, pending, &fields, out);
        self.state = RequestState::Stream { id, progress: StreamProgress::Begun };
        true
    }

    /// Writes what an answer with messages has held, if its turn has come.
    pub(super) fn begin_held_stream(&mut self, id: u64, out: &mut Out<'_>) {
        if !self.held_stream.chunks.is_empty() && self.begin_stream(id, out) {
            let chunks = std::mem::take(&mut self.held_stream.chunks);
            self.held_bytes -= chunks.len();
            out.link(Chunk::from(chunks));
        }
    }

    /// Ends a stream's answer: as complete, or with an error, which has no place once the head is written.
    #[cold]
    pub(super) fn end_stream(
        &mut self,
        id: u64,
        progress: StreamProgress,
        error: Option<ServerResponse<'static>>,
        out: &mut Out<'_>,
    ) {
        match progress {
            StreamProgress::Waiting => {
                let HeldStream { fields, mut chunks, .. } = std::mem::take(&mut self.held_stream);
                self.held_bytes -= fields.len() + chunks.len();
                let response = error.unwrap_or_else(|| {
                    chunks.extend_from_slice(LAST_CHUNK);
                    ServerResponse::Stream { fields, body: Chunk::from(chunks) }
                });
                self.state = RequestState::Stream { id, progress: StreamProgress::Complete };
                self.keep(id, response);
                self.write_ready(out);
            }
            StreamProgress::Begun => {
                let closes = self.order.take_turn(OrderTicket::of(id)).is_none_or(|pending| pending.closes);
                if error.is_none() {
                    out.put(LAST_CHUNK);
                }
                self.after_stream(closes || error.is_some());
            }
            // A second answer.
            StreamProgress::Complete => {}
        }
    }

    /// Goes on once a stream's answer is written.
    pub(super) fn after_stream(&mut self, closes: bool) {
        self.state = if closes { RequestState::Ended } else { RequestState::Head };
    }
}

/// Writes a message as a chunk: bytes as they are if `is_raw`, otherwise a line.
fn write_chunk(body: SendBody<'_>, is_raw: bool, out: &mut Out<'_>) {
    match body {
        SendBody::Chunk(chunk) if is_raw || !chunk.contains(&b'\n') => {
            put_size(chunk.len() + usize::from(!is_raw), |size| out.put(size));
            out.link(chunk);
            out.put(chunk_end(is_raw));
        }
        SendBody::Chunk(chunk) => put_chunk(&chunk, is_raw, |part| out.put(part)),
        SendBody::Bytes(bytes) => put_chunk(bytes, is_raw, |part| out.put(part)),
    }
}

fn put_chunk(message: &[u8], is_raw: bool, mut put: impl FnMut(&[u8])) {
    put_size(message.len() + usize::from(!is_raw), &mut put);
    if is_raw {
        put(message)
    } else {
        put(&one_line(message))
    }
    put(chunk_end(is_raw));
}

/// Returns the end of a message and of its chunk.
fn chunk_end(is_raw: bool) -> &'static [u8] {
    if is_raw { b"\r\n" } else { b"\n\r\n" }
}

/// Puts the size of a chunk of `bytes` bytes, at least 1.
fn put_size(bytes: usize, put: impl FnOnce(&[u8])) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let (mut text, mut at, mut rest) = ([0; 18], 16, bytes);
    text[16..].copy_from_slice(b"\r\n");
    while rest > 0 {
        at -= 1;
        text[at] = DIGITS[rest % 16];
        rest /= 16;
    }
    put(&text[at..]);
}

/// Returns the message without line feeds. In JSON they occur only between tokens (RFC 8259 section 2), where a space
/// means the same; the codec writes none, but raw JSON text of a handler may contain them.
fn one_line(message: &[u8]) -> Cow<'_, [u8]> {
    if !message.contains(&b'\n') {
        return Cow::Borrowed(message);
    }
    let space = |byte: &u8| if *byte == b'\n' { b' ' } else { *byte };
    Cow::Owned(message.iter().map(space).collect())
}
