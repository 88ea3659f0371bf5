//! Passes bytes through a connection, as a reactor does.

use std::time::Instant;

use coreloop::bufpool::{Pool, PoolConfig};
use coreloop::config::Limits;
use coreloop::conn::{Conn, NextMessage};
use coreloop::message::{Message, Outgoing, OutgoingReply, SendBody, Span};
use coreloop::status::Code;
use coreloop::wire::Protocol;

use super::BODY_MAX;

/// Returns the spans of a message.
pub fn spans_of(message: &Message) -> Vec<Span> {
    match message {
        Message::Request(request) | Message::Open(request) => {
            [Some(request.metadata), Some(request.body), request.name].into_iter().flatten().collect()
        }
        Message::Reply(reply) => vec![reply.metadata, reply.body],
        Message::Data(data) => vec![data.body],
        Message::Headers { metadata, .. } | Message::Hello { metadata } => vec![*metadata],
        _ => Vec::new(),
    }
}

/// Returns limits that are reached soon.
pub fn small_limits() -> Limits {
    let mut limits = Limits::default();
    limits.frame_bytes_max = BODY_MAX;
    limits.in_flight_max = 4;
    limits
}

/// An answer: the id, the code, the body.
pub type Answer = (u64, Code, Vec<u8>);

/// Passes bytes through a connection and calls `answer` for each message. Asserts that memory stays within bounds and
/// is returned. Returns the written bytes, and whether the connection is still open.
pub fn connection<'a, W>(
    wire: W,
    pieces: impl Iterator<Item = &'a [u8]>,
    answer: impl Fn((Message, Vec<u8>)) -> Option<Answer>,
) -> (Vec<u8>, bool)
where
    W: for<'b> Protocol<Message = Message, Outgoing<'b> = Outgoing<'b>>,
{
    let now = Instant::now();
    let limits = small_limits();
    let mut pool = Pool::new(PoolConfig::default());
    let mut conn = Conn::new(wire, now);
    let (mut arrived, mut written) = (0, Vec::new());
    for mut piece in pieces {
        arrived += piece.len();
        while !piece.is_empty() {
            let space = conn.space(&mut pool);
            let n = space.len().min(piece.len());
            space[..n].copy_from_slice(&piece[..n]);
            conn.on_bytes(n, now);
            piece = &piece[n..];
        }
        loop {
            let (message, consumed) = match conn.next_message(&mut pool, now, &limits) {
                NextMessage::Message { message, consumed } => (message, consumed),
                NextMessage::Answered | NextMessage::Unread => continue,
                NextMessage::Nothing => break,
            };
            let body = spans_of(&message).into_iter().flat_map(|span| conn.bytes_of(span)).copied().collect();
            conn.consume(consumed);
            if let Some((id, code, body)) = answer((message, body)) {
                let (compressed, queue_us, handler_us) = (false, 0, 0);
                let body = SendBody::Bytes(&body);
                let reply = OutgoingReply {
                    id,
                    codec: 2,
                    compressed,
                    code,
                    queue_us,
                    handler_us,
                    extras: None,
                    body,
                };
                conn.send(Outgoing::Reply(reply), &mut pool, now, &limits);
            }
        }
        conn.settle(&mut pool, now);
        conn.check(&limits);
        while let Some(first) = conn.to_write().first().map(<[u8]>::to_vec) {
            conn.on_written(first.len(), &mut pool, now, &limits);
            written.extend(first);
        }
        assert!(pool.stats().outstanding_bytes as usize <= 4 * arrived + 1024);
    }
    let goes_on = conn.wants_read();
    conn.release(&mut pool);
    assert_eq!(pool.stats().outstanding, 0);
    (written, goes_on)
}
