//! JSON-RPC in the bodies of another protocol: one text in, with a message or a batch, and one text out.
//!
//! The requests of a text are returned one by one, like those of a batch on a plain stream; their answers are
//! collected in the same table and sent together. The other protocol delimits the text and transports its answer.

use std::collections::VecDeque;
use std::ops::Range;

use super::batch::{self, BatchElement, Batches};
use super::deliver::{CallDetails, message};
use super::members::RequestMembers;
use super::outstanding::{Dialect, OutstandingReplies};
use super::request::{JudgedRequest, RequestRefusal, judge};
use crate::json_text::ContainerStack;
use crate::json_text::{JsonFault, JsonReader};
use crate::message::{Message, ReplyExtras, SendBody, Span};
use crate::status::Code;
use crate::wire::ServerContext;

/// The outstanding calls of one connection that arrived in texts.
#[derive(Debug)]
pub(in crate::wire) struct CarriedCalls {
    pending: OutstandingReplies,
    batches: Batches,
}

/// The requests of one text that are still to be returned.
#[derive(Debug)]
pub(in crate::wire) struct CarriedMessages {
    elements: VecDeque<BatchElement>,
    is_array: bool,
    /// The batch that collects the answers, and the place of the next one.
    batch: u32,
    place: u32,
}

/// The bit in a batch's label that marks a text that is an array.
const IS_ARRAY: u64 = 1 << 63;

impl CarriedCalls {
    /// Creates an empty table.
    pub(in crate::wire) fn new() -> CarriedCalls {
        CarriedCalls { pending: OutstandingReplies::new(), batches: Batches::default() }
    }

    /// Begins the calls of a text. `label`, below 2^63, is returned with their answers.
    pub(in crate::wire) fn begin(
        &mut self,
        messages: &mut CarriedMessages,
        label: u64,
        side: &ServerContext,
    ) {
        let answers = messages.answers();
        if answers == 0 {
            return;
        }
        let label = if messages.is_array { label | IS_ARRAY } else { label };
        messages.batch = match self.batches.begin(answers, label, &side.limits) {
            Some(batch) => batch,
            None => {
                let message = "the unanswered batches of this connection contain too many requests";
                *messages = CarriedMessages::refused(RequestRefusal::new(Code::ResourceExhausted, message));
                self.batches.begin_beyond(label & !IS_ARRAY)
            }
        };
    }

    /// Returns the next request, and the offset of its end in the text. Its id is below 2^63.
    pub(in crate::wire) fn next(
        &mut self,
        messages: &mut CarriedMessages,
        (time_left_us, metadata): (u32, Span),
        in_place: impl FnOnce(Range<usize>) -> Span,
    ) -> Option<(Message, usize)> {
        let BatchElement { judged, end } = messages.elements.pop_front()?;
        let batch = judged.id.is_some().then(|| {
            messages.place += 1;
            (messages.batch, messages.place - 1)
        });
        let details = CallDetails { time_left_us, metadata };
        Some((message(&mut self.pending, judged, batch, details, in_place), end))
    }

    /// Stores the answer to a call. The last one of a text returns the text of all answers and the label.
    pub(in crate::wire) fn answer(
        &mut self,
        id: u64,
        answer: (Code, Option<&ReplyExtras>, SendBody<'_>),
        side: &ServerContext,
    ) -> Option<(u64, Vec<u8>)> {
        let outstanding = self.pending.end(id)?;
        let answered = self.batches.answer(outstanding.batch?, &outstanding, answer, side)?;
        let label = answered.label & !IS_ARRAY;
        let text = if answered.label & IS_ARRAY != 0 {
            let mut text = Vec::new();
            answered.put(&mut text);
            text
        } else {
            answered.into_only_answer()
        };
        Some((label, text))
    }
}

impl CarriedMessages {
    /// Reads a text. A text that is not JSON, or is no request, becomes one refused request.
    pub(in crate::wire) fn read(text: &[u8], side: &ServerContext) -> CarriedMessages {
        let mut reader = JsonReader::new(text, ContainerStack::depth_max(side.limits.depth_max));
        match CarriedMessages::read_all(&mut reader, text, side) {
            Ok(messages) => messages,
            Err(fault) => {
                CarriedMessages::refused(RequestRefusal::parse(fault.message(side.limits.depth_max)))
            }
        }
    }

    fn read_all(
        reader: &mut JsonReader<'_>,
        text: &[u8],
        side: &ServerContext,
    ) -> Result<CarriedMessages, JsonFault> {
        let (elements, is_array) = match reader.next() {
            Some(b'[') => (batch::read(reader, text, side)?, true),
            Some(b'{') => {
                let members = RequestMembers::read(reader)?;
                (
                    Ok(VecDeque::from([BatchElement {
                        judged: judge(&members, text, side, false),
                        end: text.len(),
                    }])),
                    false,
                )
            }
            _ => {
                reader.value()?;
                (Err(RequestRefusal::invalid("invalid request: a message is an object or an array")), false)
            }
        };
        reader.end()?;
        Ok(match elements {
            Ok(elements) => CarriedMessages { elements, is_array, batch: 0, place: 0 },
            Err(refused) => CarriedMessages::refused(refused),
        })
    }

    fn refused(refused: RequestRefusal) -> CarriedMessages {
        let judged = refused.judged_in(Dialect::Two);
        CarriedMessages {
            elements: VecDeque::from([BatchElement { judged, end: 0 }]),
            is_array: false,
            batch: 0,
            place: 0,
        }
    }

    fn answers(&self) -> usize {
        let is_answered =
            |element: &&BatchElement| matches!(element.judged, JudgedRequest { id: Some(_), .. });
        self.elements.iter().filter(is_answered).count()
    }

    /// Whether only notifications remain, so that the text gets no answer.
    pub(in crate::wire) fn are_notifications(&self) -> bool {
        self.answers() == 0
    }

    /// Whether all requests were returned.
    pub(in crate::wire) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }
}
