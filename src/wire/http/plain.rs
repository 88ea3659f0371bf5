//! The answer that nearly every call gets: 200, a length, the times, and the connection goes on.
//!
//! Its head is two texts that are known beforehand, with places for the date, the length and the times. They are copied to
//! where they go out from, and the places filled in there. All other answers are `reply.rs`'s, and so would these be: a
//! test holds the two ways to the same bytes.

use std::ops::Range;

use super::reply::{AllowedMethods, PendingResponse};
use crate::message::SendBody;
use crate::wire::{Out, ServerContext};

/// Up to the digits of the length.
const BEFORE: &[u8; 102] = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: ";
/// Behind them.
const AFTER: &[u8; 55] = b"\r\nServer-Timing: queue;dur=0.000, handler;dur=0.000\r\n\r\n";
/// Where the date stands in the first.
const DATE: Range<usize> = 23..52;
/// Where the times stand in the second.
const QUEUE: Range<usize> = 27..32;
const HANDLER: Range<usize> = 46..51;
/// The first time that has a digit more than there is room for.
const TIME_US_END: u32 = 10_000;
/// A length has twenty digits at the most.
const HEAD_BYTES_MAX: usize = BEFORE.len() + 20 + AFTER.len();

/// Whether an answer of 200 with these times has this form.
#[inline]
pub(super) fn fits(
    side: &ServerContext,
    pending: &PendingResponse,
    (queue_us, handler_us): (u32, u32),
) -> bool {
    // Where there are origins, each answer says for whom it is.
    side.cors_origins.is_empty()
        && pending.allow == AllowedMethods::Nothing
        && !pending.is_head
        && !pending.is_http_10
        && !pending.closes
        && queue_us < TIME_US_END
        && handler_us < TIME_US_END
}

/// Writes an answer that [`fits`].
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

/// The answer does not fit into the rest of a buffer, or into any.
#[inline(never)]
fn write_across(head_bytes: usize, fill: impl Fn(&mut [u8]), body: SendBody<'_>, out: &mut Out<'_>) {
    let mut head = [0; HEAD_BYTES_MAX];
    let head = &mut head[..head_bytes];
    fill(head);
    out.frame(head, body);
}

/// A time of less than ten milliseconds, where zero stands.
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

    /// What is written, behind so many bytes that wait already.
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
        fn it_says_what_the_longer_way_says(
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
                    write_with_any_head(&side, &pending, Code::Ok, (queue_us, handler_us), body(), out);
                });
                prop_assert_eq!(short.escape_ascii().to_string(), long.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn an_answer_of_another_form_is_left_to_the_longer_way() {
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
