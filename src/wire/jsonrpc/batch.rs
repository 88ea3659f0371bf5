//! Batches of 2.0: an array of requests, answered by one array when all of them have ended.
//!
//! The requests of a batch go up one by one, as if each had come alone. Their answers wait here, in the order in
//! which they come, and go out in the order of the requests. What waits is bounded: in number by what may be in
//! flight, in bytes by the write queue's high mark.

use std::collections::VecDeque;
use std::ops::Range;

use slab::Slab;

use super::answer::put_answer;
use super::members::RequestMembers;
use super::outstanding::{Dialect, OutstandingReply};
use super::request::{JudgedRequest, RequestRefusal, judge};
use super::sink::ByteSink;
use crate::config::Limits;
use crate::json_text::{JsonFault, JsonReader};
use crate::message::SendBody;
use crate::status::Code;
use crate::wire::ServerContext;

/// Answers that the open batches of a connection may owe together, in multiples of what may be in flight.
const OWED_FACTOR: usize = 4;

/// A request of a batch, and the offset of its end in the batch.
#[derive(Debug)]
pub(super) struct BatchElement {
    pub(super) judged: JudgedRequest,
    pub(super) end: usize,
}

/// The requests of a batch that have not gone up yet.
pub(super) struct BatchRemainder {
    pub(super) elements: VecDeque<BatchElement>,
    /// Bytes of the batch that were consumed.
    pub(super) consumed: usize,
    /// Bytes of the batch.
    pub(super) len: usize,
    /// Its place among the open batches.
    pub(super) batch: u32,
    /// The place of the next answer.
    pub(super) place: u32,
}

/// Reads the requests of a batch, the bracket of which is next and which is complete in these bytes. The error is what
/// is answered in its place.
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
        // One that is too long is still read to its end: it may not be JSON.
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

/// A batch that was begun.
#[derive(Debug)]
struct OpenBatch {
    /// The answers that have come, one behind the other.
    text: Vec<u8>,
    /// Where each of them stands.
    places: Vec<Range<usize>>,
    /// How many are still to come; never 0.
    missing: usize,
    /// What [`Batches::begin`] was given with it.
    label: u64,
}

/// A batch of which every answer has come.
#[derive(Debug)]
pub(super) struct AnsweredBatch {
    /// The answers, in the order in which they came.
    text: Vec<u8>,
    /// Where each of them is, in the order of the requests.
    places: Vec<Range<usize>>,
    /// What [`Batches::begin`] was given with it.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "a plain connection has no use for it"))]
    pub(super) label: u64,
}

impl AnsweredBatch {
    /// Writes the array of the answers.
    pub(super) fn put(&self, sink: &mut impl ByteSink) {
        sink.put(b"[");
        for (place, range) in self.places.iter().enumerate() {
            sink.put(if place == 0 { b"" } else { b"," });
            sink.put(&self.text[range.clone()]);
        }
        sink.put(b"]");
    }

    /// The answer of a batch that has one request, without the array.
    #[cfg(feature = "http")]
    pub(super) fn into_only_answer(self) -> Vec<u8> {
        debug_assert_eq!(self.places.len(), 1, "a batch of one answer");
        self.text
    }
}

/// The batches of a connection that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: Slab<OpenBatch>,
    /// Answers that they owe, those that wait here included.
    outstanding: usize,
    /// Bytes of the answers that wait here.
    held_bytes: usize,
}

impl Batches {
    /// Begins a batch of this number of answers, at least one; `None` if that is too many. The label comes back with
    /// the answers.
    pub(super) fn begin(&mut self, answers: usize, label: u64, limits: &Limits) -> Option<u32> {
        if self.outstanding + answers > limits.in_flight_max.saturating_mul(OWED_FACTOR) {
            return None;
        }
        self.outstanding += answers;
        let open = OpenBatch { text: Vec::new(), places: vec![0..0; answers], missing: answers, label };
        Some(self.open.insert(open) as u32)
    }

    /// Begins a batch of one answer, whatever is owed: that of a refusal, which comes at once.
    #[cfg(feature = "http")]
    pub(super) fn begin_beyond(&mut self, label: u64) -> u32 {
        self.outstanding += 1;
        self.open.insert(OpenBatch { text: Vec::new(), places: vec![0..0; 1], missing: 1, label }) as u32
    }

    /// Takes an answer; with the last one the batch is complete.
    pub(super) fn answer(
        &mut self,
        (batch, place): (u32, u32),
        outstanding: &OutstandingReply,
        (code, body): (Code, SendBody<'_>),
        limits: &Limits,
    ) -> Option<AnsweredBatch> {
        let is_full = self.held_bytes >= limits.write_queue_high_bytes;
        let open = self.open.get_mut(batch as usize)?;
        let start = open.text.len();
        if is_full {
            let message = b"the answers to the batches of this connection are too large in total";
            put_answer(&mut open.text, outstanding, Code::ResourceExhausted, SendBody::Bytes(message));
        } else {
            put_answer(&mut open.text, outstanding, code, body);
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

    /// None is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
