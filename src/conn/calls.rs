//! The calls of one connection that are in flight: each was accepted and not answered at once. [`Calls`] knows each one;
//! the connection itself only counts them, to decide whether it reads on.
//!
//! A call keeps its slot until its work ends, even when it is answered earlier (cancelled, or past its deadline), so
//! that work cannot outlive the count of work. The peer chooses the ids; they are only compared, never hashed: a scan
//! of at most `in_flight_max` numbers is faster than a keyed hash unless that limit is raised considerably.

use std::sync::Arc;
use std::time::Instant;

use super::{Conn, ConnState};
use crate::config::Limits;
use crate::extensions::CallExtensions;
use crate::policy::work_pool::WorkPool;
use crate::wire::{Protocol, StreamSupport};

/// The state bit of a call that was answered before its work ended.
const ANSWERED: u8 = 1;
/// The state bit of a call that has streams.
const STREAMING: u8 = 2;
/// The state bit of a call whose answer tells the load.
const WANTS_LOAD: u8 = 4;

/// Where the work of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkPlace {
    /// Not decided yet.
    Nowhere,
    /// In the run queue.
    Waiting {
        /// The pool that will run it.
        pool: WorkPool,
        /// The item in the queue.
        item: u32,
    },
    /// In a batch that was handed over, or in a group of its own.
    Batch {
        /// The number of the group.
        number: u32,
        /// The position in the batch.
        place: u8,
    },
}

/// A call in flight.
#[derive(Clone, Debug)]
pub struct ConnCall {
    /// The peer's id.
    pub id: u64,
    /// The time at which the peer stops waiting.
    pub deadline: Option<Instant>,
    /// Where the work is that has to be cancelled with the call.
    pub work: WorkPlace,
    /// The number of the body's codec, used for the answer.
    pub codec: u8,
    /// The peer expects no answer.
    pub one_way: bool,
    /// The request was compressed, so the answer may be compressed too.
    pub compressed: bool,
    /// The method's index.
    pub method: u32,
    /// Bytes held for the argument.
    pub body_bytes: u32,
    /// What interceptors have attached to it.
    pub extensions: Option<Arc<CallExtensions>>,
    /// When the call was admitted, if that is known.
    pub begun: Option<Instant>,
    state: u8,
}

impl ConnCall {
    /// Creates a call that is not answered yet.
    #[allow(
        clippy::too_many_arguments,
        reason = "one call, one place; a builder would only repeat the names"
    )]
    pub fn new(
        id: u64,
        deadline: Option<Instant>,
        work: WorkPlace,
        codec: u8,
        one_way: bool,
        compressed: bool,
        method: u32,
        body_bytes: u32,
    ) -> ConnCall {
        ConnCall {
            id,
            deadline,
            work,
            codec,
            one_way,
            compressed,
            method,
            body_bytes,
            extensions: None,
            begun: None,
            state: 0,
        }
    }

    /// Sets when the call was admitted.
    #[inline]
    pub fn begun(mut self, at: Instant) -> ConnCall {
        self.begun = Some(at);
        self
    }

    /// Marks a call that has streams.
    pub fn streaming(mut self) -> ConnCall {
        self.state |= STREAMING;
        self
    }

    /// Marks a call whose answer tells the load.
    pub fn wanting_load(mut self) -> ConnCall {
        self.state |= WANTS_LOAD;
        self
    }

    /// Returns whether the answer tells the load.
    #[inline]
    pub fn wants_load(&self) -> bool {
        self.state & WANTS_LOAD != 0
    }

    /// Returns whether the call has streams.
    #[inline]
    pub fn is_streaming(&self) -> bool {
        self.state & STREAMING != 0
    }

    /// Returns whether the call has been answered and only its work continues.
    pub fn is_answered(&self) -> bool {
        self.state & ANSWERED != 0
    }
}

/// The calls of one connection that are in flight.
#[derive(Debug, Default)]
pub struct Calls {
    /// Present while there are calls: an idle connection holds no table.
    table: Option<Box<CallTable>>,
    /// The largest id begun since the table was last empty. A larger id cannot be a duplicate.
    id_max: u64,
    /// The earliest deadline of the unanswered calls; may be too early after calls have ended, never too late.
    deadline_min: Option<Instant>,
}

#[derive(Debug, Default)]
struct CallTable {
    entries: Vec<Option<ConnCall>>,
    free: Vec<u32>,
}

/// Unused call tables, for the next connections that have calls. Without them, a connection whose calls come one at a
/// time would allocate a table for each call.
#[derive(Debug, Default)]
pub struct FreeList {
    #[allow(clippy::vec_box, reason = "the table moves between here and a connection in its box")]
    tables: Vec<Box<CallTable>>,
}

/// The most tables that are kept, and the capacity of the largest table that is kept.
const FREE_TABLES_MAX: usize = 64;
const FREE_TABLE_ENTRIES_MAX: usize = 1024;

impl FreeList {
    /// Creates an empty free list.
    pub fn new() -> FreeList {
        FreeList::default()
    }

    fn put(&mut self, mut table: Box<CallTable>) {
        if self.tables.len() < FREE_TABLES_MAX && table.entries.capacity() <= FREE_TABLE_ENTRIES_MAX {
            table.entries.clear();
            table.free.clear();
            self.tables.push(table);
        }
    }
}

impl Calls {
    /// Creates an empty set of calls, which holds no memory.
    pub const fn new() -> Calls {
        Calls { table: None, id_max: 0, deadline_min: None }
    }

    /// Returns the number of calls in flight, answered or not.
    #[inline]
    pub fn len(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.entries.len() - table.free.len())
    }

    /// Returns whether no call is in flight.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.table.is_none()
    }

    /// Returns whether an unanswered call has this id.
    #[inline(always)]
    pub fn contains(&self, id: u64) -> bool {
        !self.is_empty() && id <= self.id_max && self.slot_of(id).is_some()
    }

    fn slot_of(&self, id: u64) -> Option<u32> {
        let waits = |call: &Option<ConnCall>| {
            call.as_ref().is_some_and(|call| call.id == id && !call.one_way && !call.is_answered())
        };
        self.table.as_ref()?.entries.iter().position(waits).map(|slot| slot as u32)
    }

    /// Adds a call and returns its slot.
    pub fn begin(&mut self, call: ConnCall, free_list: &mut FreeList) -> u32 {
        self.id_max = if self.is_empty() { call.id } else { self.id_max.max(call.id) };
        if let Some(deadline) = call.deadline {
            self.deadline_min = Some(self.deadline_min.map_or(deadline, |min| min.min(deadline)));
        }
        let table = self.table.get_or_insert_with(|| free_list.tables.pop().unwrap_or_default());
        if let Some(slot) = table.free.pop() {
            table.entries[slot as usize] = Some(call);
            return slot;
        }
        if table.entries.capacity() == 0 {
            // Most connections have one call at a time; a vector would begin with four.
            table.entries.reserve_exact(1);
        }
        table.entries.push(Some(call));
        (table.entries.len() - 1) as u32
    }

    /// Removes a call whose work has ended, and frees its slot.
    pub fn end(&mut self, slot: u32, free_list: &mut FreeList) -> Option<ConnCall> {
        let table = self.table.as_mut()?;
        let call = table.entries.get_mut(slot as usize)?.take()?;
        if table.free.len() + 1 < table.entries.len() {
            table.free.push(slot);
        } else {
            self.deadline_min = None;
            self.table.take().into_iter().for_each(|table| free_list.put(table));
        }
        Some(call)
    }

    /// Sets the place of a call's work.
    #[inline]
    pub fn set_work(&mut self, slot: u32, work: WorkPlace) {
        let entry = self.table.as_mut().and_then(|table| table.entries.get_mut(slot as usize));
        if let Some(Some(call)) = entry {
            call.work = work;
        }
    }

    /// Returns the call in a slot.
    pub fn get(&self, slot: u32) -> Option<&ConnCall> {
        self.table.as_ref()?.entries.get(slot as usize)?.as_ref()
    }

    /// Returns the method index of the call in a slot.
    pub fn method_of(&self, slot: u32) -> Option<u32> {
        let call = self.table.as_ref()?.entries.get(slot as usize)?;
        call.as_ref().map(|call| call.method)
    }

    fn calls_mut(&mut self) -> impl Iterator<Item = &mut ConnCall> {
        self.table.iter_mut().flat_map(|table| table.entries.iter_mut().flatten())
    }

    /// Marks the unanswered call with this id as answered and returns it. The caller must answer it.
    pub fn answer_by_id(&mut self, id: u64) -> Option<&ConnCall> {
        let slot = if id <= self.id_max { self.slot_of(id)? } else { return None };
        let call = self.table.as_mut()?.entries[slot as usize].as_mut()?;
        call.state |= ANSWERED;
        Some(call)
    }

    /// Marks each unanswered call whose deadline has passed as answered, and passes it to `late`.
    pub fn answer_late(&mut self, now: Instant, mut late: impl FnMut(&ConnCall)) {
        if self.deadline_min.is_none_or(|min| min > now) {
            return;
        }
        let mut min = None;
        for call in self.calls_mut().filter(|call| !call.is_answered()) {
            match call.deadline {
                Some(deadline) if deadline <= now => {
                    call.state |= ANSWERED;
                    late(call);
                }
                Some(deadline) => min = Some(min.map_or(deadline, |min: Instant| min.min(deadline))),
                None => {}
            }
        }
        self.deadline_min = min;
    }

    /// Marks each unanswered call as answered, and passes it to `each`.
    pub fn answer_all(&mut self, mut each: impl FnMut(&ConnCall)) {
        for call in self.calls_mut().filter(|call| !call.is_answered()) {
            call.state |= ANSWERED;
            each(call);
        }
    }

    /// Iterates over the calls in flight with their slots, answered or not.
    #[cfg(feature = "admin")]
    pub fn slots(&self) -> impl Iterator<Item = (u32, &ConnCall)> {
        let entries = self.table.iter().flat_map(|table| table.entries.iter().enumerate());
        entries.filter_map(|(slot, call)| Some((slot as u32, call.as_ref()?)))
    }

    /// Iterates over the calls in flight, answered or not.
    pub fn iter(&self) -> impl Iterator<Item = &ConnCall> {
        self.table.iter().flat_map(|table| table.entries.iter().flatten())
    }

    /// Returns the time of the next check for calls past their deadline.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline_min
    }
}

// The calls as numbers: how many have begun and not ended, and whether more may begin.

impl<W: Protocol> Conn<W> {
    /// Takes note of a call that ends later; `body_bytes` are held for it.
    #[inline]
    pub fn begin_call(&mut self, body_bytes: usize, limits: &Limits) {
        self.in_flight += 1;
        self.in_flight_bytes += body_bytes;
        if self.in_flight as usize >= limits.in_flight_max
            || self.in_flight_bytes >= limits.in_flight_bytes_max
        {
            self.saturate();
        }
    }

    /// Takes note of the end of a call. Returns true if reading may resume because of it.
    #[inline]
    pub fn end_call(&mut self, body_bytes: usize, now: Instant, limits: &Limits) -> bool {
        debug_assert!(self.in_flight > 0 && self.in_flight_bytes >= body_bytes);
        self.in_flight -= 1;
        self.in_flight_bytes -= body_bytes;
        (self.is_paused || self.is_saturated) && self.try_resume(now, limits)
    }

    /// Takes note of a streaming call, before its protocol is given anything to send for it.
    pub fn begin_stream(&mut self) {
        self.streams += 1;
        if self.protocol.stream_support() == StreamSupport::ResultOnly {
            // Requests that follow wait unread: nothing that the peer sends could help this call.
            self.is_paused = true;
            self.fast_path = false;
            return;
        }
        self.is_saturated |= self.is_paused;
        self.is_paused = false;
    }

    /// Takes note that a streaming call was answered; its work may go on.
    pub fn on_stream_answered(&mut self, now: Instant, limits: &Limits) {
        if self.is_paused {
            self.try_resume(now, limits);
        }
    }

    /// Takes note of the end of a streaming call.
    pub fn end_stream(&mut self, now: Instant, limits: &Limits) {
        debug_assert!(self.streams > 0);
        self.streams -= 1;
        if self.streams == 0 && self.is_saturated {
            self.is_paused = true;
            self.is_saturated = !self.protocol.waits_unread(&[]);
        }
        if self.is_paused {
            self.try_resume(now, limits);
        }
    }

    /// Returns whether there are open streams that get nothing more from the peer: it has closed its sending half, and
    /// all that it sent was handled; or nothing more is read. While requests wait unread for the end of a stream,
    /// `is_ending` is all that is known.
    #[inline]
    pub fn has_stream_input_ended(&self, is_ending: bool) -> bool {
        if self.streams == 0 {
            return false;
        }
        match self.protocol.stream_support() {
            StreamSupport::ResultOnly => {
                (is_ending || self.is_eof) && !matches!(self.state, ConnState::Closed(_))
            }
            StreamSupport::Unary => self.is_eof && !self.has_undecoded(),
            StreamSupport::Both => {
                self.is_eof && !self.has_undecoded() || matches!(self.state, ConnState::Finishing(_))
            }
        }
    }

    /// Returns the number of streaming calls begun and not ended.
    pub fn streams(&self) -> usize {
        self.streams as usize
    }

    /// Returns whether calls without streams are refused, because too many calls or answers wait. While no stream is open,
    /// only those are received that do not wait unread ([`Protocol::waits_unread`]).
    pub fn is_saturated(&self) -> bool {
        self.is_saturated
    }

    /// Takes note of a refusal or pong of that size. Reading stops while too many of them wait.
    pub fn note_refusal(&mut self, bytes: usize, limits: &Limits) {
        // A one-way call is refused without an answer.
        self.refusal_bytes = (self.refusal_bytes + bytes).min(self.out.len());
        if (self.streams > 0 || self.is_saturated) && self.refusal_bytes > limits.refusal_bytes_max {
            self.is_paused = true;
            self.fast_path = false;
        }
    }

    /// Stops the admission of calls without streams, because too many are in flight. Without open streams, reading goes on
    /// to the first message that waits unread.
    #[cold]
    fn saturate(&mut self) {
        self.fast_path = false;
        if self.streams == 0 && self.protocol.waits_unread(&[]) {
            self.is_paused = true;
        } else {
            self.is_saturated = true;
        }
    }

    /// Stops reading if the next message waits unread until calls have ended.
    pub(super) fn pause_if_next_waits(&mut self) {
        if self.is_saturated && self.streams == 0 && self.protocol.waits_unread(self.recv.bytes()) {
            self.is_saturated = false;
            self.is_paused = true;
        }
    }

    /// Stops reading or, while a stream is open, the admission of other calls.
    #[cold]
    pub(super) fn pause(&mut self) {
        self.fast_path = false;
        if self.streams > 0 {
            self.is_saturated = true;
        } else {
            self.is_paused = true;
        }
    }

    pub(super) fn try_resume(&mut self, now: Instant, limits: &Limits) -> bool {
        // A request that waits unread goes on at half, so that reading stops seldom. One that would be refused is admitted
        // as soon as there is room for it.
        let (calls_max, bytes_max) = match self.is_saturated {
            true => (limits.in_flight_max.saturating_sub(1), limits.in_flight_bytes_max.saturating_sub(1)),
            false => (limits.in_flight_max / 2, limits.in_flight_bytes_max / 2),
        };
        let has_room = self.in_flight as usize <= calls_max && self.in_flight_bytes <= bytes_max;
        let is_out_low = self.out_len() + self.protocol.held_bytes() <= limits.write_queue_low_bytes;
        let was_paused = self.is_paused;
        if has_room && is_out_low {
            self.is_saturated = false;
            self.is_paused = self.protocol.stream_support() == StreamSupport::ResultOnly;
            if self.protocol.has_ended() {
                // Its end was not reported while reading was stopped.
                self.give_up(self.end_of_input(), now);
            }
        } else if self.is_saturated && self.refusal_bytes <= limits.refusal_bytes_max / 2 {
            // The calls that are refused are read on.
            self.is_paused &= match self.streams {
                0 => !is_out_low,
                _ => self.protocol.stream_support() == StreamSupport::ResultOnly,
            };
        }
        if was_paused && !self.is_paused {
            // The frame's clock did not run while reading was paused.
            self.frame_began = self.frame_began.map(|_| now);
        }
        !self.is_paused
    }

    /// Returns whether a limit has stopped reading.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns the number of calls begun and not ended, without streaming calls.
    pub fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    /// Returns whether a call has begun and not ended, of any kind.
    #[inline]
    pub fn has_calls(&self) -> bool {
        self.in_flight > 0 || self.streams > 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn call(id: u64, deadline: Option<Instant>) -> ConnCall {
        ConnCall::new(id, deadline, WorkPlace::Nowhere, 0, false, false, 0, 0)
    }

    #[test]
    fn an_id_is_in_flight_until_it_is_answered() {
        let (mut calls, mut free_list) = (Calls::new(), FreeList::new());
        let nine = calls.begin(call(9, None), &mut free_list);
        calls.begin(call(3, None), &mut free_list);
        assert!(calls.contains(9) && calls.contains(3) && !calls.contains(4) && !calls.contains(10));
        assert_eq!(calls.answer_by_id(9).unwrap().id, 9);
        assert!(!calls.contains(9), "the peer may use an id again once it was answered");
        assert!(calls.answer_by_id(9).is_none(), "only one answer");
        assert_eq!(calls.len(), 2, "the work goes on and counts");
        assert!(calls.end(nine, &mut free_list).unwrap().is_answered());
        assert!(calls.end(nine, &mut free_list).is_none());
        assert_eq!(calls.len(), 1);
    }

    #[test]
    fn late_calls_are_answered_once() {
        let t0 = Instant::now();
        let at = |ms| Some(t0 + Duration::from_millis(ms));
        let (mut calls, mut free_list) = (Calls::new(), FreeList::new());
        for (id, deadline) in [(1, at(30)), (2, at(10)), (3, None), (4, at(20))] {
            calls.begin(call(id, deadline), &mut free_list);
        }
        assert_eq!(calls.next_deadline(), at(10));
        let mut late = Vec::new();
        calls.answer_late(t0 + Duration::from_millis(20), |call| late.push(call.id));
        assert_eq!(late, [2, 4]);
        assert_eq!(calls.next_deadline(), at(30));
        calls.answer_late(t0 + Duration::from_millis(25), |_| panic!("none is due"));
    }

    #[test]
    fn an_empty_table_holds_no_memory() {
        let (mut calls, mut free_list) = (Calls::new(), FreeList::new());
        let slots: Vec<u32> = (0..100).map(|id| calls.begin(call(id, None), &mut free_list)).collect();
        for slot in slots {
            calls.end(slot, &mut free_list);
        }
        assert!(calls.is_empty() && calls.table.is_none());
        assert_eq!(free_list.tables.len(), 1, "the next connection with a call has it");
        calls.begin(call(1, None), &mut free_list);
        assert!(free_list.tables.is_empty());
    }
}
