//! Fair queueing: the order in which waiting calls are started, so that a source with many calls does not delay the
//! calls of others.
//!
//! Deficit round robin (Shreedhar and Varghese, 1995) in units of estimated time, with the two lists of FQ-CoDel
//! (RFC 8290): a source that begins to wait is served before those that have been waiting. The estimate is charged when
//! a call leaves the queue, and corrected when its time is known, so a source whose calls take longer than estimated
//! pays for it afterwards. Calls have a level; a level is served while no higher one waits.

use std::time::{Duration, Instant};

use slab::Slab;

/// The number of levels; level 0 is served first.
pub const LEVELS: usize = 4;

const NONE: u32 = u32::MAX;
/// A measured time changes a source's estimate by at most this factor: one call that was interrupted for long says
/// little about the next.
const SAMPLE_FACTOR_MAX: u64 = 8;
/// A source's estimate is forgotten if no call of the source has ended for this long: its next calls may be of another
/// kind. It is kept while the source has no call for a moment, as between calls that were refused: otherwise the next one
/// would have the estimate of the method, which other sources determine.
const MEAN_KEPT: Duration = Duration::from_millis(250);

/// A source of calls: a connection, or whatever calls are shared between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceId(u32);

impl SourceId {
    /// Stands for no source.
    pub const NONE: SourceId = SourceId(NONE);
}

/// A call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ItemId(pub u32);

/// What a source was charged for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The source, or [`SourceId::NONE`] for a call that did not wait.
    pub source: SourceId,
    /// The level of the call.
    pub level: u8,
    /// Nanoseconds.
    pub estimate_ns: u32,
}

#[derive(Debug)]
struct FairItem<T> {
    value: T,
    cost_ns: u32,
    flow: u32,
    previous: u32,
    next: u32,
}

/// The state of a source at one level.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// The first and the last item.
    head: u32,
    tail: u32,
    /// The next flow in the list that this one is in.
    next: u32,
    is_listed: bool,
    /// The time that the flow may use before it is the next one's turn; negative if it has used more.
    deficit_ns: i64,
    queued_ns: u64,
    /// The level's clock and epoch when the flow left its list.
    left_at: u64,
    epoch: u32,
}

const IDLE: Flow = Flow {
    head: NONE,
    tail: NONE,
    next: NONE,
    is_listed: false,
    deficit_ns: 0,
    queued_ns: 0,
    left_at: 0,
    epoch: 0,
};

#[derive(Debug)]
struct Source {
    flows: [Flow; LEVELS],
    /// The connections of the source.
    holders: u32,
    /// Calls that have left the queue and whose time is not known yet.
    running: u32,
    /// The recent mean time of this source's calls of one method, and that method.
    mean_ns: u32,
    method: u32,
    /// When the last of them ended.
    mean_at: Option<Instant>,
}

impl Source {
    /// Returns the recent mean time of the source's calls of a method.
    fn mean_of(&self, method: u32, now: Instant) -> Option<u32> {
        let is_recent = self.mean_at.is_some_and(|at| now.saturating_duration_since(at) <= MEAN_KEPT);
        (is_recent && self.method == method && self.mean_ns > 0).then_some(self.mean_ns)
    }
}

/// A list of flows, linked through [`Flow::next`].
#[derive(Debug)]
struct FlowList {
    head: u32,
    tail: u32,
}

const EMPTY_LIST: FlowList = FlowList { head: NONE, tail: NONE };

#[derive(Debug)]
struct Level {
    fresh: FlowList,
    waiting: FlowList,
    /// Calls, and the sum of their costs.
    queued: usize,
    queued_ns: u64,
    /// Flows with calls.
    active: u32,
    /// The time that each flow with calls has been served, were it served evenly.
    clock_ns: u64,
    /// How often the level has become empty.
    epoch: u32,
}

/// Waiting calls in a fair order.
#[derive(Debug)]
pub struct FairQueue<T> {
    items: Slab<FairItem<T>>,
    sources: Slab<Source>,
    levels: [Level; LEVELS],
    quantum_ns: i64,
}

impl<T> FairQueue<T> {
    /// Creates an empty queue, in which a source starts calls for `quantum_ns` nanoseconds in its turn.
    pub fn new(quantum_ns: u32) -> FairQueue<T> {
        let level = || Level {
            fresh: EMPTY_LIST,
            waiting: EMPTY_LIST,
            queued: 0,
            queued_ns: 0,
            active: 0,
            clock_ns: 0,
            epoch: 0,
        };
        FairQueue {
            items: Slab::new(),
            sources: Slab::new(),
            levels: [level(), level(), level(), level()],
            quantum_ns: i64::from(quantum_ns.max(1)),
        }
    }

    /// Returns the number of waiting calls.
    #[inline]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether no call waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns whether no source has more than one waiting call: then any order of them is fair.
    #[inline]
    pub fn is_flat(&self) -> bool {
        let active: usize = self.levels.iter().map(|level| level.active as usize).sum();
        active == self.len()
    }

    /// Returns the estimated nanoseconds of the waiting calls of this level and the levels before it.
    pub fn queued_ns(&self, level: u8) -> u64 {
        self.levels[..=usize::from(level)].iter().map(|level| level.queued_ns).sum()
    }

    /// Returns the number of sources that are known.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Adds a source with one connection.
    pub fn add_source(&mut self) -> SourceId {
        let flows = [IDLE; LEVELS];
        let source = Source { flows, holders: 1, running: 0, mean_ns: 0, method: NONE, mean_at: None };
        SourceId(self.sources.insert(source) as u32)
    }

    /// Adds a connection to a source.
    pub fn join(&mut self, source: SourceId) {
        self.sources[source.0 as usize].holders += 1;
    }

    /// Removes a connection from a source. Returns true if the source has gone: it is forgotten once its calls have
    /// ended.
    pub fn leave(&mut self, source: SourceId) -> bool {
        let entry = &mut self.sources[source.0 as usize];
        entry.holders -= 1;
        let is_last = entry.holders == 0;
        self.forget_if_gone(source.0);
        is_last
    }

    /// Returns the recent mean time of the source's calls of that method in nanoseconds, if it is known.
    pub fn mean_ns(&self, source: SourceId, method: u32, now: Instant) -> Option<u32> {
        self.sources.get(source.0 as usize)?.mean_of(method, now)
    }

    /// Adds a call to the end of its source's calls of that level.
    pub fn push(&mut self, charge: Charge, value: T) -> ItemId {
        let Charge { source, level, estimate_ns } = charge;
        let level = usize::from(level);
        let index = source.0 * LEVELS as u32 + level as u32;
        let previous = self.flow(index).tail;
        let item = FairItem { value, cost_ns: estimate_ns, flow: index, previous, next: NONE };
        let id = self.items.insert(item) as u32;
        if previous == NONE {
            self.flow_mut(index).head = id;
            self.activate(index);
        } else {
            self.items[previous as usize].next = id;
        }
        let flow = self.flow_mut(index);
        flow.tail = id;
        flow.queued_ns += u64::from(estimate_ns);
        let level = &mut self.levels[level];
        level.queued += 1;
        level.queued_ns += u64::from(estimate_ns);
        ItemId(id)
    }

    /// Returns a waiting call.
    pub fn get(&self, id: ItemId) -> Option<&T> {
        self.items.get(id.0 as usize).map(|item| &item.value)
    }

    /// Removes a call before its turn, without a charge.
    pub fn remove(&mut self, id: ItemId) -> Option<T> {
        if !self.items.contains(id.0 as usize) {
            return None;
        }
        let flow = self.items[id.0 as usize].flow;
        let item = self.take(id.0);
        self.forget_if_gone(flow / LEVELS as u32);
        Some(item.value)
    }

    /// Removes the next call, and charges its source. The caller must pass the charge to
    /// [`FairQueue::settle`] when the call has ended.
    pub fn pop(&mut self) -> Option<(Charge, T)> {
        let level = self.levels.iter().position(|level| level.queued > 0)?;
        let mut passed = 0;
        loop {
            let is_fresh = self.levels[level].fresh.head != NONE;
            let list = if is_fresh { &self.levels[level].fresh } else { &self.levels[level].waiting };
            let index = list.head;
            debug_assert!(index != NONE, "a waiting call is in a flow of a list");
            let Flow { head, deficit_ns, .. } = *self.flow(index);
            if head == NONE {
                self.pop_flow(level, is_fresh);
                // A flow that was served once waits for a round before it counts as fresh again.
                if is_fresh && self.levels[level].waiting.head != NONE {
                    self.append_flow(level, index);
                } else {
                    self.deactivate(index);
                }
                continue;
            }
            if deficit_ns <= 0 {
                self.pop_flow(level, is_fresh);
                self.flow_mut(index).deficit_ns += self.quantum_ns;
                self.append_flow(level, index);
                passed += 1;
                if passed > self.levels[level].active {
                    self.skip_rounds(level);
                    passed = 0;
                }
                continue;
            }
            let cost_ns = self.items[head as usize].cost_ns;
            self.flow_mut(index).deficit_ns -= i64::from(cost_ns);
            let active = u64::from(self.levels[level].active);
            self.levels[level].clock_ns += u64::from(cost_ns) / active;
            let source = SourceId(index / LEVELS as u32);
            self.sources[source.0 as usize].running += 1;
            let item = self.take(head);
            return Some((Charge { source, level: level as u8, estimate_ns: cost_ns }, item.value));
        }
    }

    /// Charges a source for a call that did not have to wait. The caller must pass the charge to
    /// [`FairQueue::settle`] when the call has ended.
    pub fn charge(&mut self, charge: Charge) {
        let Charge { source, level, estimate_ns } = charge;
        let at = usize::from(level);
        let index = source.0 * LEVELS as u32 + u32::from(level);
        if !self.flow(index).is_listed {
            let debt_ns = self.debt_ns(at, self.flow(index));
            let (clock_ns, epoch) = (self.levels[at].clock_ns, self.levels[at].epoch);
            let flow = self.flow_mut(index);
            flow.deficit_ns = -(debt_ns.min(i64::MAX as u64) as i64);
            (flow.left_at, flow.epoch) = (clock_ns, epoch);
        }
        let flow = self.flow_mut(index);
        flow.deficit_ns = flow.deficit_ns.saturating_sub(i64::from(estimate_ns));
        self.sources[source.0 as usize].running += 1;
    }

    /// Raises a charge whose estimate was not known when the call was added.
    pub fn raise(&mut self, charge: &mut Charge, estimate_ns: u32) {
        let index = charge.source.0 * LEVELS as u32 + u32::from(charge.level);
        self.flow_mut(index).deficit_ns -= i64::from(estimate_ns) - i64::from(charge.estimate_ns);
        charge.estimate_ns = estimate_ns;
    }

    /// Corrects a charge by the measured time; `None` if the call did not run. A charge to [`SourceId::NONE`] is ignored.
    pub fn settle(&mut self, charge: Charge, method: u32, took_ns: Option<u32>, now: Instant) {
        let Charge { source, level, estimate_ns } = charge;
        let quantum_ns = self.quantum_ns;
        let Some(entry) = self.sources.get_mut(source.0 as usize) else { return };
        entry.running -= 1;
        let flow = &mut entry.flows[usize::from(level)];
        let difference = i64::from(took_ns.unwrap_or(0)) - i64::from(estimate_ns);
        flow.deficit_ns = (flow.deficit_ns - difference).min(quantum_ns);
        if let Some(took_ns) = took_ns {
            if let Some(mean_ns) = entry.mean_of(method, now) {
                let mean = u64::from(mean_ns);
                let sample = u64::from(took_ns).min(mean.saturating_mul(SAMPLE_FACTOR_MAX));
                entry.mean_ns = ((3 * mean + sample).div_ceil(4)).min(u64::from(u32::MAX)) as u32;
            } else {
                (entry.method, entry.mean_ns) = (method, took_ns);
            }
            entry.mean_at = Some(now);
        }
        self.forget_if_gone(source.0);
    }

    /// Returns the nanoseconds of work that come before a further call of a source: its own share of the work that
    /// waits, at most all of it, and all of the levels before.
    pub fn before_ns(&self, source: SourceId, level: u8) -> u64 {
        let at = usize::from(level);
        let before: u64 = self.levels[..at].iter().map(|level| level.queued_ns).sum();
        let level = &self.levels[at];
        let Some(entry) = self.sources.get(source.0 as usize) else { return before };
        let flow = &entry.flows[at];
        let debt_ns =
            if flow.is_listed { flow.deficit_ns.min(0).unsigned_abs() } else { self.debt_ns(at, flow) };
        let active = u64::from(level.active) + u64::from(flow.head == NONE);
        let own_ns = flow.queued_ns + debt_ns;
        before + own_ns.saturating_mul(active).min(level.queued_ns)
    }

    // Flows.

    fn flow(&self, index: u32) -> &Flow {
        &self.sources[index as usize / LEVELS].flows[index as usize % LEVELS]
    }

    fn flow_mut(&mut self, index: u32) -> &mut Flow {
        &mut self.sources[index as usize / LEVELS].flows[index as usize % LEVELS]
    }

    /// Returns what a flow that is in no list still owes: others have been served meanwhile.
    fn debt_ns(&self, level: usize, flow: &Flow) -> u64 {
        let level = &self.levels[level];
        if flow.epoch != level.epoch {
            return 0;
        }
        flow.deficit_ns.min(0).unsigned_abs().saturating_sub(level.clock_ns - flow.left_at)
    }

    /// Takes note that a flow has its first call.
    fn activate(&mut self, index: u32) {
        let at = index as usize % LEVELS;
        self.levels[at].active += 1;
        let flow = *self.flow(index);
        if flow.is_listed {
            return;
        }
        let debt_ns = self.debt_ns(at, &flow);
        let quantum_ns = self.quantum_ns;
        let flow = self.flow_mut(index);
        flow.is_listed = true;
        if debt_ns > 0 {
            flow.deficit_ns = -(debt_ns.min(i64::MAX as u64) as i64);
            self.append_flow(at, index);
        } else {
            flow.deficit_ns = quantum_ns;
            flow.next = NONE;
            let list = &mut self.levels[at].fresh;
            let tail = std::mem::replace(&mut list.tail, index);
            if tail == NONE {
                list.head = index;
            } else {
                self.flow_mut(tail).next = index;
            }
        }
    }

    /// Takes note that a flow has left its list.
    fn deactivate(&mut self, index: u32) {
        let (clock_ns, epoch) = {
            let level = &self.levels[index as usize % LEVELS];
            (level.clock_ns, level.epoch)
        };
        let flow = self.flow_mut(index);
        flow.is_listed = false;
        flow.deficit_ns = flow.deficit_ns.min(0);
        (flow.left_at, flow.epoch) = (clock_ns, epoch);
        self.forget_if_gone(index / LEVELS as u32);
    }

    fn pop_flow(&mut self, level: usize, is_fresh: bool) {
        let head = if is_fresh { self.levels[level].fresh.head } else { self.levels[level].waiting.head };
        let next = self.flow(head).next;
        let list = if is_fresh { &mut self.levels[level].fresh } else { &mut self.levels[level].waiting };
        list.head = next;
        if next == NONE {
            list.tail = NONE;
        }
    }

    /// Adds a flow to the end of the list of those that have been served.
    fn append_flow(&mut self, level: usize, index: u32) {
        self.flow_mut(index).next = NONE;
        let list = &mut self.levels[level].waiting;
        let tail = std::mem::replace(&mut list.tail, index);
        if tail == NONE {
            list.head = index;
        } else {
            self.flow_mut(tail).next = index;
        }
    }

    /// Lets rounds pass in which no flow could start a call, all at once.
    fn skip_rounds(&mut self, level: usize) {
        let mut least_ns = i64::MAX;
        let mut index = self.levels[level].waiting.head;
        while index != NONE {
            let flow = self.flow(index);
            if flow.head != NONE {
                least_ns = least_ns.min(flow.deficit_ns.min(0).saturating_neg());
            }
            index = flow.next;
        }
        let quantum_ns = self.quantum_ns;
        let passed_ns = least_ns / quantum_ns * quantum_ns;
        let mut index = self.levels[level].waiting.head;
        while index != NONE {
            let flow = self.flow_mut(index);
            flow.deficit_ns = (flow.deficit_ns + passed_ns).min(quantum_ns);
            index = flow.next;
        }
    }

    /// Unlinks an item.
    fn take(&mut self, id: u32) -> FairItem<T> {
        let item = self.items.remove(id as usize);
        let FairItem { cost_ns, flow: index, previous, next, .. } = item;
        if previous != NONE {
            self.items[previous as usize].next = next;
        }
        if next != NONE {
            self.items[next as usize].previous = previous;
        }
        let flow = self.flow_mut(index);
        if previous == NONE {
            flow.head = next;
        }
        if next == NONE {
            flow.tail = previous;
        }
        flow.queued_ns -= u64::from(cost_ns);
        let is_empty = flow.head == NONE;
        let level = &mut self.levels[index as usize % LEVELS];
        level.queued -= 1;
        level.queued_ns -= u64::from(cost_ns);
        level.active -= u32::from(is_empty);
        if level.queued == 0 {
            self.empty(index as usize % LEVELS);
        }
        item
    }

    /// Takes note that no call of a level waits: what the sources have used does not matter any more.
    fn empty(&mut self, level: usize) {
        self.levels[level].epoch = self.levels[level].epoch.wrapping_add(1);
        for is_fresh in [true, false] {
            loop {
                let list = if is_fresh { &self.levels[level].fresh } else { &self.levels[level].waiting };
                let index = list.head;
                if index == NONE {
                    break;
                }
                self.pop_flow(level, is_fresh);
                self.flow_mut(index).deficit_ns = 0;
                self.deactivate(index);
            }
        }
    }

    fn forget_if_gone(&mut self, source: u32) {
        let Some(entry) = self.sources.get_mut(source as usize) else { return };
        if entry.running > 0 || entry.flows.iter().any(|flow| flow.is_listed) {
            return;
        }
        if entry.holders == 0 {
            self.sources.remove(source as usize);
        }
    }
}

#[cfg(test)]
mod tests;
