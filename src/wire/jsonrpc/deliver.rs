//! A request that was judged becomes the message that goes up, and what its answer needs is kept.

use std::ops::Range;

use super::CODEC_JSON;
use super::outstanding::{Dialect, OutstandingReplies, OutstandingReply};
use super::request::{JudgedRequest, RequestAction, RequestRefusal};
use crate::message::{JsonDialect, Message, Refusal, Request, Span};

/// What belongs to a call beside its JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallDetails {
    /// Microseconds until the caller stops waiting; 0 without a deadline.
    pub(super) time_left_us: u32,
    /// The metadata of the call.
    pub(super) metadata: Span,
}

/// The message of a request. `in_place` gives the span of an argument's range.
#[inline]
pub(super) fn message(
    pending: &mut OutstandingReplies,
    judged: JudgedRequest,
    batch: Option<(u32, u32)>,
    CallDetails { time_left_us, metadata }: CallDetails,
    in_place: impl FnOnce(Range<usize>) -> Span,
) -> Message {
    let JudgedRequest { dialect, id, what } = judged;
    let one_way = id.is_none();
    let number = match &what {
        RequestAction::Refuse(refused) => refused.number,
        RequestAction::Call { .. } => None,
    };
    let id = match id {
        Some(id) => pending.begin(OutstandingReply { id, dialect, number, batch }),
        None => pending.next_one_way(),
    };
    match what {
        RequestAction::Call { method, body } => Message::Request(Request {
            id,
            method,
            // The site has compared the name.
            name: None,
            codec: match dialect {
                Dialect::One => JsonDialect::GoRpc.codec_number(),
                Dialect::Two => CODEC_JSON,
            },
            compressed: false,
            one_way,
            schema: 0,
            time_left_us,
            metadata,
            body: if body.is_empty() { Span::default() } else { in_place(body) },
        }),
        RequestAction::Refuse(RequestRefusal { code, message, .. }) => {
            Message::Refused(Refusal { id, codec: CODEC_JSON, one_way, code, message })
        }
    }
}
