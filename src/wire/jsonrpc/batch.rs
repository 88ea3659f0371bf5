//! Batches of 2.0: an array of requests, answered by one array when all of them have ended.
//!
//! The requests of a batch go up one by one, as if each had come alone. Their answers wait here, in the order in
//! which they come, and go out in the order of the requests. What waits is bounded: in number by what may be in
//! flight, in bytes by the write queue's high mark.

use std::collections::VecDeque;
use std::ops::Range;

use slab::Slab;

use super::members::Asked;
use super::pending::Dialect;
use super::reader::{Fault, Reader};
use super::request::{Heard, Refused, judge};
use super::sink::Sink;
use crate::config::Limits;
use crate::status::Code;
use crate::wire::ServerSide;

/// Answers that the open batches of a connection may owe together, in multiples of what may be in flight.
const OWED_FACTOR: usize = 4;

/// A request of a batch, and the offset of its end in the batch.
pub(super) struct Element {
    pub(super) heard: Heard,
    pub(super) end: usize,
}

/// The requests of a batch that have not gone up yet.
pub(super) struct Gathered {
    pub(super) elements: VecDeque<Element>,
    /// Bytes of the batch that were consumed.
    pub(super) consumed: usize,
    /// Bytes of the batch.
    pub(super) len: usize,
    /// Its place among the open batches.
    pub(super) batch: u32,
    /// The place of the next answer.
    pub(super) place: u32,
}

/// Reads the requests of a batch, which stands whole in these bytes. The error is what is answered in its place.
pub(super) fn read(
    bytes: &[u8],
    depth_max: usize,
    side: &ServerSide,
) -> Result<Result<VecDeque<Element>, Refused>, Fault> {
    let mut reader = Reader::new(bytes, depth_max);
    let (mut elements, mut count) = (VecDeque::new(), 0_usize);
    let mut goes_on = reader.opens(b'[', b']')?;
    while goes_on {
        let heard = if reader.next() == Some(b'{') {
            let asked = Asked::read(&mut reader)?;
            (count < side.limits.in_flight_max).then(|| judge(&asked, bytes, side, true))
        } else {
            reader.value()?;
            Some(Refused::invalid("invalid request: not an object").heard_in(Dialect::Two))
        };
        // One that is too long is still read to its end: it may not be JSON.
        if count < side.limits.in_flight_max {
            elements.extend(heard.map(|heard| Element { heard, end: reader.at() }));
        }
        count += 1;
        goes_on = reader.goes_on(b']')?;
    }
    Ok(if count == 0 {
        Err(Refused::invalid("invalid request: an empty batch"))
    } else if count > elements.len() {
        let message = format!("a batch of {count} requests is over the limit of {}", elements.len());
        Err(Refused::new(Code::ResourceExhausted, message))
    } else {
        Ok(elements)
    })
}

/// A batch that was begun.
#[derive(Debug)]
struct Open {
    /// The answers that have come, one behind the other.
    text: Vec<u8>,
    /// Where each of them stands.
    places: Vec<Range<usize>>,
    /// How many are still to come; never 0.
    missing: usize,
}

/// The batches of a connection that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: Slab<Open>,
    /// Answers that they owe, those that wait here included.
    owed: usize,
    /// Bytes of the answers that wait here.
    held_bytes: usize,
}

impl Batches {
    /// Begins a batch that is owed so many answers, at least one; `None` if that is too many.
    pub(super) fn begin(&mut self, answers: usize, limits: &Limits) -> Option<u32> {
        if self.owed + answers > limits.in_flight_max.saturating_mul(OWED_FACTOR) {
            return None;
        }
        self.owed += answers;
        let open = Open { text: Vec::new(), places: vec![0..0; answers], missing: answers };
        Some(self.open.insert(open) as u32)
    }

    /// The answers that wait are as many bytes as may be: the next is to be a short one.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.held_bytes >= limits.write_queue_high_bytes
    }

    /// Takes an answer; the last one sends all of them off.
    pub(super) fn answer(
        &mut self,
        (batch, place): (u32, u32),
        sink: &mut impl Sink,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(open) = self.open.get_mut(batch as usize) else { return };
        let start = open.text.len();
        write(&mut open.text);
        open.places[place as usize] = start..open.text.len();
        open.missing -= 1;
        self.held_bytes += open.text.len() - start;
        if open.missing > 0 {
            return;
        }
        let done = self.open.remove(batch as usize);
        self.owed -= done.places.len();
        self.held_bytes -= done.text.len();
        sink.put(b"[");
        for (place, range) in done.places.into_iter().enumerate() {
            sink.put(if place == 0 { b"" } else { b"," });
            sink.put(&done.text[range]);
        }
        sink.put(b"]\n");
    }

    /// None is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
