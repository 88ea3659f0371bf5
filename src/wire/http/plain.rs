//! The fast path for the most common answer: status 200, a length, the times, and the connection stays open.
//!
//! The head consists of two constant texts with places for the date, the length and the times. They are copied into
//! the write queue and the places are filled in there. `reply.rs` writes all other answers and could write these too:
//! a test checks that both produce the same bytes.

use std::ops::Range;

use super::reply::{AllowedMethods, PendingResponse};
use crate::message::SendBody;
use crate::wire::{Out, ServerContext};

/// The head up to the digits of the length.
const BEFORE: &[u8; 102] = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: ";
/// The head after them.
const AFTER: &[u8; 55] = b"\r\nServer-Timing: queue;dur=0.000, handler;dur=0.000\r\n\r\n";
/// The place of the date in `BEFORE`.
const DATE: Range<usize> = 23..52;
/// The places of the times in `AFTER`.
const QUEUE: Range<usize> = 27..32;
const HANDLER: Range<usize> = 46..51;
/// The least time that has too many digits for its place.
const TIME_US_END: u32 = 10_000;
/// A length has at most twenty digits.
const HEAD_BYTES_MAX: usize = BEFORE.len() + 20 + AFTER.len();

/// Whether an answer of 200 with these times has this form.
#[inline]
pub(super) fn fits(
    side: &ServerContext,
    pending: &PendingResponse,
    (queue_us, handler_us): (u32, u32),
) -> bool {
    // With configured origins, each answer names the origin that may read it.
    side.cors_origins.is_empty()
        && pending.allow == AllowedMethods::Nothing
        && !pending.is_head
        && !pending.is_http_10
        && !pending.closes
        && queue_us < TIME_US_END
        && handler_us < TIME_US_END
}

/// Writes an answer for which [`fits`] is true.
#[inline]
pub(super) fn write_response(
    side: &ServerContext,
    (queue_us, handler_us): (u32, u32),
    body: SendBody<'_>,
    out: &mut Out<'_>,
) {
    let bytes = body.len();
    let digits = bytes.checked_ilog10().unwrap_or(0) as usize + 1;
    let head_bytes = BEFORE.len() + digits + AFTER.len();
    let fill = |head: &mut [u8]| {
        let (before, rest) = head.split_at_mut(BEFORE.len());
        let (length, after) = rest.split_at_mut(digits);
        before.copy_from_slice(BEFORE);
        before[DATE].copy_from_slice(&side.site.date());
        let mut left = bytes;
        for digit in length.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        after.copy_from_slice(AFTER);
        put_millis(&mut after[QUEUE], queue_us);
        put_millis(&mut after[HANDLER], handler_us);
    };
    let body = match body {
        SendBody::Bytes(body) => {
            if let Some(room) = out.room(head_bytes + body.len()) {
                let (head, rest) = room.split_at_mut(head_bytes);
                fill(head);
                return rest.copy_from_slice(body);
            }
            SendBody::Bytes(body)
        }
        SendBody::Chunk(body) => {
            if let Some(room) = out.room(head_bytes) {
                fill(room);
                return out.link(body);
            }
            SendBody::Chunk(body)
        }
    };
    write_across(head_bytes, fill, body, out);
}

/// Writes an answer that does not fit into the rest of a buffer, or into any buffer.
#[inline(never)]
fn write_across(head_bytes: usize, fill: impl Fn(&mut [u8]), body: SendBody<'_>, out: &mut Out<'_>) {
    let mut head = [0; HEAD_BYTES_MAX];
    let head = &mut head[..head_bytes];
    fill(head);
    out.frame(head, body);
}

/// Writes a time of less than ten milliseconds over the zeros of its place.
#[inline]
fn put_millis(room: &mut [u8], us: u32) {
    if us > 0 {
        let digit = |value: u32| b'0' + (value % 10) as u8;
        room.copy_from_slice(&[digit(us / 1000), b'.', digit(us / 100), digit(us / 10), digit(us)]);
    }
}

#[cfg(test)]
mod tests {
    use coreloop_bufpool::{Chunk, Pool, PoolConfig, WriteQueue};
    use proptest::prelude::*;

    use super::super::reply::write_with_any_head;
    use super::*;
    use crate::config::Limits;
    use crate::status::Code;

    /// Returns the bytes written after `before` queued bytes.
    fn written(before: usize, write: impl FnOnce(&mut Out<'_>)) -> Vec<u8> {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        queue.put(&mut pool, &vec![b'-'; before]);
        write(&mut Out { queue: &mut queue, pool: &mut pool });
        let mut bytes = Vec::new();
        while let Some(first) = queue.first() {
            let n = first.len();
            bytes.extend_from_slice(first);
            queue.written(&mut pool, n);
        }
        bytes.split_off(before)
    }

    proptest! {
        #[test]
        fn fast_and_slow_path_write_the_same_bytes(
            len in prop_oneof![0..12_usize, 90..110_usize, 900..1100_usize, 4000..4200_usize, Just(123_456)],
            (queue_us, handler_us) in (0..11_000_u32, prop_oneof![Just(0_u32), 0..11_000_u32]),
            is_chunk in any::<bool>(),
            before in prop_oneof![Just(0_usize), 0..4096_usize],
        ) {
            let (side, pending) = (ServerContext::bare(Limits::default()), PendingResponse::default());
            let fits = fits(&side, &pending, (queue_us, handler_us));
            prop_assert_eq!(fits, queue_us < 10_000 && handler_us < 10_000);
            if fits {
                let text = vec![b'7'; len];
                let body = || if is_chunk { SendBody::Chunk(Chunk::from(text.clone())) } else { SendBody::Bytes(&text) };
                let short = written(before, |out| write_response(&side, (queue_us, handler_us), body(), out));
                let long = written(before, |out| {
                    write_with_any_head(&side, &pending, Code::Ok, (queue_us, handler_us), None, body(), out);
                });
                prop_assert_eq!(short.escape_ascii().to_string(), long.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn another_form_takes_the_slow_path() {
        let bare = ServerContext::bare(Limits::default());
        let of = |pending: &PendingResponse| fits(&bare, pending, (0, 0));
        assert!(of(&PendingResponse::default()));
        assert!(!of(&PendingResponse { closes: true, ..PendingResponse::default() }));
        assert!(!of(&PendingResponse { is_head: true, ..PendingResponse::default() }));
        assert!(!of(&PendingResponse { is_http_10: true, ..PendingResponse::default() }));
        assert!(!of(&PendingResponse { allow: AllowedMethods::Post, ..PendingResponse::default() }));
        let shared =
            ServerContext { cors_origins: vec!["*".into()], ..ServerContext::bare(Limits::default()) };
        assert!(!fits(&shared, &PendingResponse::default(), (0, 0)));
    }
}
