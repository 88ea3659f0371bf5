//! The frames that are sent.

use super::frame::kind;
use super::{FLAG_STREAMS, HEADER_BYTES, PLAIN_REQUEST, send_frame};
use crate::message::{Outgoing, OutgoingCall, OutgoingReply, SendBody};
use crate::wire::Out;

/// Returns the header as four little-endian words.
#[inline(always)]
fn words(
    kind: u8,
    codec: u8,
    flags: u8,
    metadata_bytes: usize,
    id: u64,
    fields: [u32; 3],
    body_bytes: usize,
) -> [u64; 4] {
    let first = PLAIN_REQUEST
        | u64::from(kind) << 24
        | u64::from(codec) << 32
        | u64::from(flags) << 40
        | (metadata_bytes as u64) << 48;
    let third = u64::from(fields[0]) | u64::from(fields[1]) << 32;
    let last = u64::from(fields[2]) | (body_bytes as u64) << 32;
    [first, id, third, last]
}

/// Returns a frame that consists of its header.
fn bare(kind: u8, id: u64) -> [u8; HEADER_BYTES] {
    to_bytes(words(kind, 0, 0, 0, id, [0; 3], 0))
}

/// Returns the header of a call, for a caller that writes metadata and body itself.
///
/// The lengths must fit their fields: at most 65 528 bytes of metadata and `u32::MAX` of body, which
/// [`crate::message::MetadataBuf`] and `frame_bytes_max` ensure.
pub fn request_header(call: &OutgoingCall<'_>) -> [u8; HEADER_BYTES] {
    to_bytes(words(
        if call.one_way { kind::ONE_WAY } else { kind::REQUEST },
        call.codec,
        u8::from(call.compressed),
        call.metadata.len(),
        call.id,
        [call.method, call.schema, call.time_left_us],
        call.body.len(),
    ))
}

#[inline(always)]
pub(super) fn reply_words(reply: &OutgoingReply<'_>, metadata_bytes: usize) -> [u64; 4] {
    words(
        kind::REPLY,
        reply.codec,
        u8::from(reply.compressed),
        metadata_bytes,
        reply.id,
        [reply.code.number(), reply.queue_us, reply.handler_us],
        reply.body.len(),
    )
}

/// The slow path: every message but a reply without extras.
#[inline(never)]
pub(super) fn send_other(outgoing: Outgoing<'_>, out: &mut Out<'_>) {
    match outgoing {
        Outgoing::Reply(reply) => reply_with_extras(reply, out),
        Outgoing::Request(call) => {
            let header = request_header(&call);
            frame(&header, call.metadata, call.body, out);
        }
        Outgoing::Pong { id } => out.put(&bare(kind::PONG, id)),
        Outgoing::Ping { id } => out.put(&bare(kind::PING, id)),
        Outgoing::Cancel { id } => out.put(&bare(kind::CANCEL, id)),
        Outgoing::Drain => out.put(&bare(kind::DRAIN, 0)),
        Outgoing::Open(call) => {
            debug_assert!(call.body.is_empty() && !call.one_way && call.id != 0);
            let mut header = request_header(&call);
            header[5] |= FLAG_STREAMS;
            out.frame(&header, SendBody::Bytes(call.metadata));
        }
        Outgoing::Data(data) => {
            let (flags, bytes) = (u8::from(data.compressed), data.body.len());
            let words = words(kind::DATA, data.codec, flags, 0, data.id, [0; 3], bytes);
            send_frame(words, data.body, out);
        }
        Outgoing::End { id } => out.put(&bare(kind::END, id)),
        Outgoing::Credit { id, bytes } => {
            let header = to_bytes(words(kind::WINDOW, 0, 0, 0, id, [0; 3], 4));
            out.frame(&header, SendBody::Bytes(&bytes.to_le_bytes()));
        }
        Outgoing::Headers { id, codec, metadata } => {
            let header = to_bytes(words(kind::HEADERS, codec, 0, metadata.len(), id, [0; 3], 0));
            out.frame(&header, SendBody::Bytes(metadata));
        }
        Outgoing::Hello { metadata } => {
            let header = to_bytes(words(kind::HELLO, 0, 0, metadata.len(), 0, [0; 3], 0));
            out.frame(&header, SendBody::Bytes(metadata));
        }
    }
}

/// Writes headers as a frame of their own, and the other extras as the metadata of the reply.
#[cold]
fn reply_with_extras(reply: OutgoingReply<'_>, out: &mut Out<'_>) {
    let Some(extras) = reply.extras else {
        return frame(&to_bytes(reply_words(&reply, 0)), &[], reply.body, out);
    };
    if !extras.headers.is_empty() {
        let headers = extras.headers.as_bytes();
        let words = words(kind::HEADERS, reply.codec, 0, headers.len(), reply.id, [0; 3], 0);
        out.frame(&to_bytes(words), SendBody::Bytes(headers));
    }
    extras.with_native(|metadata| {
        let header = to_bytes(reply_words(&reply, metadata.len()));
        frame(&header, metadata, reply.body, out);
    });
}

/// Writes a header, metadata and a body.
fn frame(header: &[u8], metadata: &[u8], body: SendBody<'_>, out: &mut Out<'_>) {
    out.frame(header, SendBody::Bytes(metadata));
    match body {
        SendBody::Bytes(bytes) => out.put(bytes),
        SendBody::Chunk(chunk) => out.link(chunk),
    }
}

pub(super) fn to_bytes(words: [u64; 4]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    for (room, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *room = word.to_le_bytes();
    }
    bytes
}

/// Returns a ping frame, for a caller that writes it itself.
pub fn ping(id: u64) -> [u8; HEADER_BYTES] {
    bare(kind::PING, id)
}
