//! The work of one connection besides decoding: bytes in, a message out, an answer in, bytes out.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use coreloop::Code;
use coreloop::bufpool::{Pool, PoolConfig};
use coreloop::config::Limits;
use coreloop::conn::Conn;
use coreloop::message::{Message, Outgoing, OutgoingReply, SendBody};
use coreloop::wire::{ProtocolSet, Scheme, ServerContext, ServerProtocol};

use super::Case;
use super::wire::bytes_of;

pub(super) fn add(cases: &mut Vec<Case>) {
    for depth in [1, 16] {
        let case = Case::new(format!("conn/native/x{depth}"), move || {
            let (limits, now) = (Limits::default(), Instant::now());
            let side = Arc::new(ServerContext::bare(limits.clone()));
            let mut conn = Conn::new(ServerProtocol::undecided(ProtocolSet::SERVED, side), now);
            let mut pool = Pool::new(PoolConfig::default());
            let bytes = bytes_of(Scheme::Native);
            let input = bytes.request.repeat(depth);
            move || {
                conn.space(&mut pool)[..input.len()].copy_from_slice(black_box(&input));
                conn.on_bytes(input.len(), now);
                while let Some((message, consumed)) =
                    conn.try_fast_receive().or_else(|| slow(&mut conn, &mut pool, now, &limits))
                {
                    let Message::Request(request) = message else { panic!("a request, not {message:?}") };
                    black_box(conn.bytes_of(request.body));
                    let reply = OutgoingReply {
                        id: request.id,
                        codec: request.codec,
                        compressed: false,
                        code: Code::Ok,
                        queue_us: 0,
                        handler_us: 0,
                        extras: None,
                        body: SendBody::Bytes(black_box(&bytes.result)),
                    };
                    conn.send(Outgoing::Reply(reply), &mut pool, now, &limits);
                    conn.consume(consumed);
                }
                conn.settle(&mut pool, now);
                let written = conn.to_write().len();
                conn.on_written(written, &mut pool, now, &limits);
            }
        });
        cases.push(case.operations(depth as u64));
    }
}

/// The first message determines the protocol.
#[cold]
fn slow(
    conn: &mut Conn<ServerProtocol>,
    pool: &mut Pool,
    now: Instant,
    limits: &Limits,
) -> Option<(Message, usize)> {
    match conn.next_message(pool, now, limits) {
        coreloop::conn::NextMessage::Message { message, consumed } => Some((message, consumed)),
        coreloop::conn::NextMessage::Answered
        | coreloop::conn::NextMessage::Unread
        | coreloop::conn::NextMessage::Nothing => None,
    }
}
