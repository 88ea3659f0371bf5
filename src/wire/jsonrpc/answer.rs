//! How an answer is written, in each dialect. Nothing is allocated: its pieces go where the answer goes.

use super::escape::put_string;
use super::outstanding::{Dialect, OutstandingReply};
use super::sink::ByteSink;
use crate::json_text::trim;
use crate::message::SendBody;
use crate::status::Code;
use crate::wire::Out;

/// Writes an answer: the result as it is, or an error with the message.
#[inline]
pub(super) fn put_answer(
    sink: &mut impl ByteSink,
    outstanding: &OutstandingReply,
    code: Code,
    body: SendBody<'_>,
) {
    match (outstanding.dialect, code) {
        (Dialect::One, Code::Ok) => {
            sink.put(b"{\"id\":");
            sink.put(outstanding.id.text());
            sink.put(b",\"result\":");
            if is_null(&body) {
                // Go's client takes a null for a broken answer and ends the connection (net/rpc/jsonrpc client.go,
                // ReadResponseHeader). It reads an empty object into most of what a caller may have for a reply, and
                // passes the other member over, by which ours knows what was meant.
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
            // All of them are below zero.
            sink.put_number(u64::from(number.unsigned_abs()));
            sink.put(b",\"message\":");
            put_message(sink, code, body);
            if outstanding.number.is_none() {
                sink.put(b",\"data\":\"");
                sink.put(code.name().as_bytes());
                sink.put(b"\"");
            }
            sink.put(b"}}");
        }
    }
}

#[inline]
fn put_result(sink: &mut impl ByteSink, body: SendBody<'_>) {
    if body.is_empty() {
        sink.put(b"null");
    } else {
        sink.put_body(body);
    }
}

/// Writes a result, and the line's end, where they end up: as [`put_answer`] does it, if there is room in one piece.
/// False if nothing was written.
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

/// The result is nothing.
#[inline]
fn is_null(body: &SendBody<'_>) -> bool {
    match body {
        SendBody::Bytes(bytes) => is_nothing(bytes),
        SendBody::Chunk(chunk) => is_nothing(chunk),
    }
}

#[inline]
fn is_nothing(text: &[u8]) -> bool {
    // The commonest are told by their first byte.
    match text.first() {
        None => true,
        Some(b'n' | b' ' | b'\t' | b'\r' | b'\n') => matches!(trim(text), b"null" | b""),
        Some(_) => false,
    }
}

/// An empty message would be no error to a client of 1.0.
fn put_message(sink: &mut impl ByteSink, code: Code, body: SendBody<'_>) {
    match &body {
        SendBody::Bytes([]) => put_string(sink, code.name().as_bytes()),
        SendBody::Bytes(bytes) => put_string(sink, bytes),
        SendBody::Chunk(chunk) if chunk.is_empty() => put_string(sink, code.name().as_bytes()),
        SendBody::Chunk(chunk) => put_string(sink, chunk),
    }
}
