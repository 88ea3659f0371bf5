//! Batches of 2.0: an array of requests, answered by one array when all of them have completed.
//!
//! The requests of a batch are returned one by one, like single requests. Their answers are collected here in order
//! of completion, and written in the order of the requests. Waiting answers are bounded: in number by the maximum in
//! flight, in bytes by the write queue's high mark.

use std::collections::VecDeque;
use std::ops::Range;

use slab::Slab;

use super::answer::{note_dropped, put_answer};
use super::members::RequestMembers;
use super::outstanding::{Dialect, OutstandingReply};
use super::request::{JudgedRequest, RequestRefusal, judge};
use super::sink::ByteSink;
use crate::config::Limits;
use crate::json_text::{JsonFault, JsonReader};
use crate::message::{ReplyExtras, SendBody};
use crate::status::Code;
use crate::wire::ServerContext;

/// The maximum number of outstanding answers of all open batches of a connection, in multiples of the maximum in
/// flight.
const OWED_FACTOR: usize = 4;

/// A request of a batch, and the offset of its end in the batch.
#[derive(Debug)]
pub(super) struct BatchElement {
    pub(super) judged: JudgedRequest,
    pub(super) end: usize,
}

/// The requests of a batch that are still to be returned.
pub(super) struct BatchRemainder {
    pub(super) elements: VecDeque<BatchElement>,
    /// Consumed bytes of the batch.
    pub(super) consumed: usize,
    /// Total bytes of the batch.
    pub(super) len: usize,
    /// The index of the batch among the open ones.
    pub(super) batch: u32,
    /// The place of the next answer.
    pub(super) place: u32,
}

/// Reads the requests of a complete batch, whose bracket is next. An error is answered in place of the batch.
pub(super) fn read(
    reader: &mut JsonReader<'_>,
    bytes: &[u8],
    side: &ServerContext,
) -> Result<Result<VecDeque<BatchElement>, RequestRefusal>, JsonFault> {
    let (mut elements, mut count) = (VecDeque::new(), 0_usize);
    let mut goes_on = reader.opens(b'[', b']')?;
    while goes_on {
        let judged = if reader.next() == Some(b'{') {
            let members = RequestMembers::read(reader)?;
            (count < side.limits.in_flight_max).then(|| judge(&members, bytes, side, true))
        } else {
            reader.value()?;
            Some(RequestRefusal::invalid("invalid request: not an object").judged_in(Dialect::Two))
        };
        // A batch that is too long is still read to its end, to check that it is JSON.
        if count < side.limits.in_flight_max {
            elements.extend(judged.map(|judged| BatchElement { judged, end: reader.at() }));
        }
        count += 1;
        goes_on = reader.goes_on(b']')?;
    }
    Ok(if count == 0 {
        Err(RequestRefusal::invalid("invalid request: an empty batch"))
    } else if count > elements.len() {
        let message = format!("a batch of {count} requests is over the limit of {}", elements.len());
        Err(RequestRefusal::new(Code::ResourceExhausted, message))
    } else {
        Ok(elements)
    })
}

/// A batch with outstanding answers.
#[derive(Debug)]
struct OpenBatch {
    /// The answers so far, concatenated.
    text: Vec<u8>,
    /// The range of each answer in `text`.
    places: Vec<Range<usize>>,
    /// The number of outstanding answers; never 0.
    missing: usize,
    /// The label passed to [`Batches::begin`].
    label: u64,
}

/// A batch with all its answers.
#[derive(Debug)]
pub(super) struct AnsweredBatch {
    /// The answers, in order of completion.
    text: Vec<u8>,
    /// The range of each answer, in the order of the requests.
    places: Vec<Range<usize>>,
    /// The label passed to [`Batches::begin`].
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "a plain connection has no use for it"))]
    pub(super) label: u64,
}

impl AnsweredBatch {
    /// Writes the array of answers.
    pub(super) fn put(&self, sink: &mut impl ByteSink) {
        sink.put(b"[");
        for (place, range) in self.places.iter().enumerate() {
            sink.put(if place == 0 { b"" } else { b"," });
            sink.put(&self.text[range.clone()]);
        }
        sink.put(b"]");
    }

    /// Returns the answer of a batch of one request, without the array.
    #[cfg(feature = "http")]
    pub(super) fn into_only_answer(self) -> Vec<u8> {
        debug_assert_eq!(self.places.len(), 1, "a batch of one answer");
        self.text
    }
}

/// The open batches of a connection.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: Slab<OpenBatch>,
    /// Outstanding answers of all batches, including those that wait here.
    outstanding: usize,
    /// Bytes of the answers that wait here.
    held_bytes: usize,
}

impl Batches {
    /// Begins a batch with this number of answers, at least one. Returns `None` if the limit on outstanding answers
    /// is exceeded. The label is returned with the answers.
    pub(super) fn begin(&mut self, answers: usize, label: u64, limits: &Limits) -> Option<u32> {
        if self.outstanding + answers > limits.in_flight_max.saturating_mul(OWED_FACTOR) {
            return None;
        }
        self.outstanding += answers;
        let open = OpenBatch { text: Vec::new(), places: vec![0..0; answers], missing: answers, label };
        Some(self.open.insert(open) as u32)
    }

    /// Begins a batch of one answer regardless of the limit: a refusal, which is answered at once.
    #[cfg(feature = "http")]
    pub(super) fn begin_beyond(&mut self, label: u64) -> u32 {
        self.outstanding += 1;
        self.open.insert(OpenBatch { text: Vec::new(), places: vec![0..0; 1], missing: 1, label }) as u32
    }

    /// Stores an answer; the last one completes the batch.
    pub(super) fn answer(
        &mut self,
        (batch, place): (u32, u32),
        outstanding: &OutstandingReply,
        (code, extras, body): (Code, Option<&ReplyExtras>, SendBody<'_>),
        side: &ServerContext,
    ) -> Option<AnsweredBatch> {
        let is_full = self.held_bytes >= side.limits.write_queue_high_bytes;
        let open = self.open.get_mut(batch as usize)?;
        let start = open.text.len();
        if is_full {
            let message = b"the answers to the batches of this connection are too large in total";
            put_answer(&mut open.text, outstanding, Code::ResourceExhausted, None, SendBody::Bytes(message));
        } else {
            note_dropped(side, outstanding, extras);
            put_answer(&mut open.text, outstanding, code, extras, body);
        }
        open.places[place as usize] = start..open.text.len();
        open.missing -= 1;
        self.held_bytes += open.text.len() - start;
        if open.missing > 0 {
            return None;
        }
        let OpenBatch { text, places, missing: _, label } = self.open.remove(batch as usize);
        self.outstanding -= places.len();
        self.held_bytes -= text.len();
        Some(AnsweredBatch { text, places, label })
    }

    /// Whether no batch is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
