//! Writes answers in each dialect. Nothing is allocated: the pieces are written directly to the sink.

use super::escape::put_string;
use super::outstanding::{Dialect, OutstandingReply};
use super::sink::ByteSink;
use crate::json_text::trim;
use crate::message::{ReplyExtras, SendBody};
use crate::status::Code;
use crate::wire::{Out, ServerContext, details};

/// Writes an answer: the result as it is, or an error with its message.
#[inline]
pub(super) fn put_answer(
    sink: &mut impl ByteSink,
    outstanding: &OutstandingReply,
    code: Code,
    extras: Option<&ReplyExtras>,
    body: SendBody<'_>,
) {
    match (outstanding.dialect, code) {
        (Dialect::One, Code::Ok) => {
            sink.put(b"{\"id\":");
            sink.put(outstanding.id.text());
            sink.put(b",\"result\":");
            if is_null(&body) {
                // Go's client takes a null for a broken answer and closes the connection (net/rpc/jsonrpc client.go,
                // ReadResponseHeader). It accepts an empty object for most types of replies, and skips the additional
                // member, from which our client recognizes null.
                sink.put(b"{},\"error\":null,\"null\":true}");
                return;
            }
            sink.put_body(body);
            sink.put(b",\"error\":null}");
        }
        (Dialect::Two, Code::Ok) => {
            sink.put(b"{\"jsonrpc\":\"2.0\",\"id\":");
            sink.put(outstanding.id.text());
            sink.put(b",\"result\":");
            put_result(sink, body);
            sink.put(b"}");
        }
        (Dialect::One, code) => {
            sink.put(b"{\"id\":");
            sink.put(outstanding.id.text());
            sink.put(b",\"result\":null,\"error\":");
            put_message(sink, code, body);
            sink.put(b"}");
        }
        (Dialect::Two, code) => {
            let number = outstanding.number.unwrap_or(code.jsonrpc_number());
            sink.put(b"{\"jsonrpc\":\"2.0\",\"id\":");
            sink.put(outstanding.id.text());
            sink.put(b",\"error\":{\"code\":-");
            // All of them are negative.
            sink.put_number(u64::from(number.unsigned_abs()));
            sink.put(b",\"message\":");
            put_message(sink, code, body);
            if outstanding.number.is_none() {
                put_data(sink, code, extras);
            }
            sink.put(b"}}");
        }
    }
}

/// Writes the data of an error: the name of its code, when the call may be repeated, and the details of the status.
#[cold]
fn put_data(sink: &mut impl ByteSink, code: Code, extras: Option<&ReplyExtras>) {
    sink.put(b",\"data\":{\"code\":\"");
    sink.put(code.name().as_bytes());
    sink.put(b"\"");
    if let Some(extras) = extras {
        if let Some(ms) = extras.retry_after_ms {
            sink.put(b",\"retry_after_ms\":");
            sink.put_number(u64::from(ms));
        }
        if !extras.details.is_empty() {
            let mut text = Vec::new();
            details::write(&extras.details, &mut text);
            sink.put(b",\"details\":");
            sink.put(&text);
        }
    }
    sink.put(b"}");
}

/// Counts what an answer has no place for: headers and trailers, and in 1.0 all else.
#[inline]
pub(super) fn note_dropped(
    side: &ServerContext,
    outstanding: &OutstandingReply,
    extras: Option<&ReplyExtras>,
) {
    if let Some(extras) = extras {
        note_dropped_of(side, outstanding, extras);
    }
}

#[cold]
fn note_dropped_of(side: &ServerContext, outstanding: &OutstandingReply, extras: &ReplyExtras) {
    let is_placed = outstanding.dialect == Dialect::Two && outstanding.number.is_none();
    let others = if is_placed { 0 } else { extras.details.len() };
    side.note_dropped(extras.entries() + others);
}

#[inline]
fn put_result(sink: &mut impl ByteSink, body: SendBody<'_>) {
    if body.is_empty() {
        sink.put(b"null");
    } else {
        sink.put_body(body);
    }
}

/// Writes a result and the line's end in place, with the same bytes as [`put_answer`], if there is contiguous room.
/// Returns false if nothing was written.
#[inline]
pub(super) fn put_result_line(outstanding: &OutstandingReply, result: &[u8], out: &mut Out<'_>) -> bool {
    if is_nothing(result) {
        return false;
    }
    match outstanding.dialect {
        Dialect::One => put_pieces(b"{\"id\":", outstanding, result, b",\"error\":null}\n", out),
        Dialect::Two => put_pieces(b"{\"jsonrpc\":\"2.0\",\"id\":", outstanding, result, b"}\n", out),
    }
}

#[inline(always)]
fn put_pieces<const N: usize, const M: usize>(
    before: &[u8; N],
    outstanding: &OutstandingReply,
    result: &[u8],
    after: &[u8; M],
    out: &mut Out<'_>,
) -> bool {
    const BETWEEN: &[u8; 10] = b",\"result\":";
    let id = outstanding.id.text();
    let Some(room) = out.room(N + id.len() + BETWEEN.len() + result.len() + M) else { return false };
    let (room, rest) = room.split_at_mut(N);
    room.copy_from_slice(before);
    let (room, rest) = rest.split_at_mut(id.len());
    room.copy_from_slice(id);
    let (room, rest) = rest.split_at_mut(BETWEEN.len());
    room.copy_from_slice(BETWEEN);
    let (room, rest) = rest.split_at_mut(result.len());
    room.copy_from_slice(result);
    rest.copy_from_slice(after);
    true
}

/// Whether the result is null or empty.
#[inline]
fn is_null(body: &SendBody<'_>) -> bool {
    match body {
        SendBody::Bytes(bytes) => is_nothing(bytes),
        SendBody::Chunk(chunk) => is_nothing(chunk),
    }
}

#[inline]
fn is_nothing(text: &[u8]) -> bool {
    // The first byte decides the most common cases.
    match text.first() {
        None => true,
        Some(b'n' | b' ' | b'\t' | b'\r' | b'\n') => matches!(trim(text), b"null" | b""),
        Some(_) => false,
    }
}

/// Writes an error's message. An empty one becomes the name of the code, since a client of 1.0 does not take an empty
/// message for an error.
fn put_message(sink: &mut impl ByteSink, code: Code, body: SendBody<'_>) {
    match &body {
        SendBody::Bytes([]) => put_string(sink, code.name().as_bytes()),
        SendBody::Bytes(bytes) => put_string(sink, bytes),
        SendBody::Chunk(chunk) if chunk.is_empty() => put_string(sink, code.name().as_bytes()),
        SendBody::Chunk(chunk) => put_string(sink, chunk),
    }
}
