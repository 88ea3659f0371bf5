//! Turns a checked request into a message, and keeps what its answer needs.

use std::ops::Range;

use super::CODEC_JSON;
use super::outstanding::{Dialect, OutstandingReplies, OutstandingReply};
use super::request::{CalledArgument, JudgedRequest, RequestAction, RequestRefusal};
use crate::message::{JsonDialect, Message, Refusal, Request, Span};

/// The data of a call beside its JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallDetails {
    /// Microseconds until the caller's deadline; 0 without one.
    pub(super) time_left_us: u32,
    /// The metadata of the call.
    pub(super) metadata: Span,
}

/// Returns the message of a request. `in_place` maps an argument's range to its span.
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
        RequestAction::Call { method, argument: CalledArgument { body, has_positions } } => {
            Message::Request(Request {
                id,
                method: method.hash,
                // The directory has already compared the name.
                name: None,
                codec: match (dialect, has_positions) {
                    (Dialect::One, false) => JsonDialect::GoRpc.codec_number(),
                    (Dialect::One, true) => JsonDialect::GoRpcPositions.codec_number(),
                    (Dialect::Two, false) => CODEC_JSON,
                    (Dialect::Two, true) => JsonDialect::Positions.codec_number(),
                },
                compressed: false,
                one_way,
                schema: 0,
                time_left_us,
                metadata,
                body: if body.is_empty() { Span::default() } else { in_place(body) },
            })
        }
        RequestAction::Refuse(RequestRefusal { code, message, .. }) => {
            Message::Refused(Refusal { id, codec: CODEC_JSON, one_way, code, message })
        }
    }
}
