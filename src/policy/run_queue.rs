//! The run queue: which calls start, which wait for a worker, and which are refused.
//!
//! A reactor hands over to the workers only what they can begin soon: calls whose estimated times add up to the
//! look-ahead of each worker, and at least two calls for each, of which one runs and one waits. All other calls wait
//! here, in a fair order ([`FairQueue`]), where they can still be removed, overtaken and refused.
//!
//! - A call that finds room is started at once, whatever is expected of it.
//! - A call that must wait, and that is expected to end after its deadline, is refused at once: an overloaded queue that
//!   keeps everything answers everything too late. If its estimate has not been confirmed for a while, it passes as a
//!   probe.
//! - A call that has waited is not started if it is expected to end after its deadline.
//! - Without deadlines, and if configured: a delay target (CoDel), an adaptive limit on concurrency, a fixed limit for a
//!   method. Calls of lower priority are refused first.
//!
//! The ideas: refusing early by the expected wait is from "Overload Control for Scaling WeChat Microservices" (Zhou et
//! al., 2018) and from Breakwater (Cho et al., OSDI 2020); the order of sources is in [`fair`](super::fair).

mod shed_reason;
mod stretch;

use std::time::{Duration, Instant};

pub use shed_reason::ShedReason;

use super::codel::CoDel;
use super::delay::DelayEstimate;
use super::estimate::{Estimates, SizeClass};
use super::fair::{Charge, FairQueue, ItemId, LEVELS, SourceId};
use super::gradient::GradientLimit;
pub use super::work_pool::WorkPool;
use stretch::Stretch;

/// The time over which CoDel observes the queue before it sheds: the interval of RFC 8289.
const QUEUE_TARGET_INTERVAL: Duration = Duration::from_millis(100);
/// The least adaptive limit on concurrency, for each worker.
const ADAPTIVE_LIMIT_MIN: u32 = 2;
/// The most calls in progress per worker without waiting behind the look-ahead.
const CALLS_PER_WORKER: u32 = 2;
/// The expected wait is increased by this fraction of it (a quarter): otherwise the calls of a full queue all end close to
/// their deadlines, and a small error of the estimates makes them late.
const WAIT_RESERVE: u64 = 4;
/// How many times the look-ahead may be exceeded while no source has more than one call: any order of such calls is
/// fair, and each that waits costs more than one that is handed over at once.
const FLAT_FACTOR: u64 = 4;
/// The mean time of calls for which the look-ahead may be exceeded: of others few fit into it, and waiting costs little
/// beside them.
const FLAT_CALL_NS_MAX: u64 = 10_000;
/// While calls wait, the look-ahead is at least this fraction of the work that waits (1/32), up to the limit below: a call
/// that waits for 30 ms may as well wait 1 ms behind work that was handed over, and the reactor has to wake up less often.
const LOADED_AHEAD_FRACTION: u64 = 32;
const LOADED_AHEAD_NS_MAX: u64 = 500_000;
/// At least this number of mean calls fits into it; otherwise it is not used.
const LOADED_AHEAD_CALLS_MIN: u64 = 4;
/// The longest advice on when to try again, in milliseconds.
const RETRY_AFTER_MS_MAX: u64 = 60_000;

/// The settings of a run queue.
#[derive(Clone, Debug)]
pub struct RunQueueConfig {
    /// The number of methods.
    pub methods: usize,
    /// The threads of each pool.
    pub workers: [u32; WorkPool::ALL.len()],
    /// Nanoseconds of work that each worker of the pool for CPU work is given ahead.
    pub look_ahead_ns: u32,
    /// The most calls that wait.
    pub queue_max: usize,
    /// The time that calls may wait continuously before some are shed; `None`: any time.
    pub queue_target: Option<Duration>,
    /// The number of calls in progress is limited by their latency.
    pub is_adaptive: bool,
    /// The most calls in progress of some methods, by index.
    pub method_limits: Vec<(u32, u32)>,
}

/// What a call is expected to cost, and the source that it is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallCost {
    /// The source of the call, and the estimate of its time; 0 if it is unknown.
    pub charge: Charge,
    /// The size class of the argument.
    pub class: SizeClass,
    /// The call is started whatever is expected of it, to learn how long it takes.
    pub is_probe: bool,
}

/// A call that arrives.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The pool in which the method runs.
    pub pool: WorkPool,
    /// The method's index.
    pub method: u32,
    /// The size class of the argument.
    pub class: SizeClass,
    /// The priority: 0 is the highest.
    pub level: u8,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

/// What happens to a call that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It starts: the caller hands it over, and reports its end with [`RunQueue::on_ended`].
    Start(CallCost),
    /// It waits: the caller adds it with [`RunQueue::push`].
    Wait(CallCost),
    /// It is refused.
    Refuse(ShedReason),
}

/// A call that leaves the queue.
#[derive(Debug)]
pub enum Next<T> {
    /// It starts, after it has waited since the given time.
    Start(CallCost, Instant, T),
    /// It is answered instead.
    Shed(ShedReason, Instant, T),
}

#[derive(Debug)]
struct Waiting<T> {
    method: u32,
    class: SizeClass,
    deadline: Option<Instant>,
    since: Instant,
    /// Nanoseconds of work that came before it; 0 if that was not known.
    before_ns: u64,
    /// Its own cost was not known when it was added.
    is_unknown: bool,
    is_probe: bool,
    value: T,
}

/// The calls of one pool.
#[derive(Debug)]
struct Lane<T> {
    queue: FairQueue<Waiting<T>>,
    workers: u32,
    look_ahead_ns: u32,
    /// Calls that were handed over and have not ended, and the sum of their estimates.
    running: u32,
    running_ns: u64,
    /// Calls that wait or run and whose cost was not known: the work before a further call is not known then either.
    unknown: u32,
    /// What this reactor may hand over, while other reactors have work for the pool, or none does.
    share_calls: u32,
    share_ns: u64,
    sharers: u32,
    /// The work of other reactors.
    others_ns: u64,
    stretch: Stretch,
    codel: Option<CoDel>,
}

impl<T> Lane<T> {
    fn new(workers: u32, look_ahead_ns: u32, codel: Option<CoDel>) -> Lane<T> {
        let mut lane = Lane {
            queue: FairQueue::new(look_ahead_ns.max(1)),
            workers: workers.max(1),
            look_ahead_ns,
            running: 0,
            running_ns: 0,
            unknown: 0,
            share_calls: 0,
            share_ns: 0,
            sharers: 1,
            others_ns: 0,
            stretch: Stretch::default(),
            codel,
        };
        lane.set_others(0, 0);
        lane
    }

    fn set_others(&mut self, reactors: u32, work_ns: u64) {
        let sharers = reactors + 1;
        self.sharers = sharers;
        self.others_ns = work_ns;
        self.share_calls = (self.most_calls() / sharers).max(1);
        self.share_ns = self.most_ns() / u64::from(sharers);
    }

    /// The elastic pool has a thread for each call.
    fn most_calls(&self) -> u32 {
        if self.look_ahead_ns == 0 { self.workers } else { self.workers.saturating_mul(CALLS_PER_WORKER) }
    }

    fn most_ns(&self) -> u64 {
        u64::from(self.workers) * u64::from(self.look_ahead_ns)
    }

    /// A call of unknown cost counts as the whole look-ahead of a worker.
    #[inline]
    fn weight_ns(&self, estimate_ns: u32) -> u64 {
        u64::from(if estimate_ns == 0 { self.look_ahead_ns.max(1) } else { estimate_ns })
    }

    /// Returns whether the pool takes one more call. While a worker sleeps, the shares of others are not used.
    #[inline]
    fn has_room(&self, weight_ns: u64, is_any_asleep: bool) -> bool {
        if self.running < self.share_calls || self.running_ns + weight_ns <= self.share_ns {
            return true;
        }
        is_any_asleep && (self.running < self.most_calls() || self.running_ns + weight_ns <= self.most_ns())
    }

    /// The same; up to [`FLAT_FACTOR`] times the look-ahead if no source has more than one call, and the calls that were
    /// handed over are known to be quick.
    #[inline]
    fn has_room_if(&self, weight_ns: u64, is_any_asleep: bool, is_flat: bool) -> bool {
        self.has_room(weight_ns, is_any_asleep)
            || is_flat
                && self.running_ns + weight_ns <= self.share_ns * FLAT_FACTOR
                && self.running_ns <= u64::from(self.running) * FLAT_CALL_NS_MAX
    }

    /// Returns the nanoseconds of work that each worker is given ahead while calls wait; less than the look-ahead if little
    /// work waits. The calls that wait are short beside it: a long one would be handed over in their place.
    fn loaded_ahead_ns(&self) -> u64 {
        if self.look_ahead_ns == 0 {
            return 0;
        }
        let queued_ns = self.queue.queued_ns(LEVELS as u8 - 1);
        let ahead_ns = (queued_ns / u64::from(self.workers) / LOADED_AHEAD_FRACTION).min(LOADED_AHEAD_NS_MAX);
        let is_of_short_calls = queued_ns * LOADED_AHEAD_CALLS_MIN <= ahead_ns * self.queue.len() as u64;
        if is_of_short_calls { ahead_ns } else { 0 }
    }

    /// Returns whether the pool takes one more of the calls that wait.
    fn takes_next(&self, is_any_asleep: bool) -> bool {
        self.has_room_if(1, is_any_asleep, self.queue.is_flat())
            || self.running_ns * u64::from(self.sharers) < self.loaded_ahead_ns() * u64::from(self.workers)
    }

    #[inline]
    fn begin(&mut self, estimate_ns: u32) {
        self.running += 1;
        self.running_ns += self.weight_ns(estimate_ns);
        self.unknown += u32::from(estimate_ns == 0);
    }

    /// Returns the nanoseconds of work for each worker before a further call of a source begins.
    fn before_ns(&self, source: SourceId, level: u8) -> u64 {
        (self.queue.before_ns(source, level) + self.running_ns + self.others_ns) / u64::from(self.workers)
    }
}

/// The calls of a reactor that wait for a worker.
#[derive(Debug)]
pub struct RunQueue<T> {
    lanes: [Lane<T>; WorkPool::ALL.len()],
    estimates: Estimates,
    /// From the end of a call to its answer, in nanoseconds.
    delay: DelayEstimate,
    queue_max: usize,
    adaptive: Option<GradientLimit>,
    /// By method: calls in progress, and the most of them. Empty without such limits.
    in_progress: Box<[(u32, u32)]>,
    /// A limit on calls in progress applies to some.
    is_limited: bool,
    /// The last sample, which the calls that were timed with it share.
    sample: (u32, SizeClass, u32),
}

impl<T> RunQueue<T> {
    /// Creates an empty queue.
    pub fn new(config: &RunQueueConfig) -> RunQueue<T> {
        let RunQueueConfig { methods, workers, look_ahead_ns, queue_max, queue_target, is_adaptive, .. } =
            *config;
        let codel = || queue_target.map(|target| CoDel::new(target, QUEUE_TARGET_INTERVAL));
        let mut in_progress: Box<[(u32, u32)]> = Box::default();
        if !config.method_limits.is_empty() {
            in_progress = vec![(0, u32::MAX); methods].into();
            for (method, most) in &config.method_limits {
                in_progress[*method as usize].1 = *most;
            }
        }
        let threads = workers[0].saturating_add(workers[1]);
        RunQueue {
            lanes: [Lane::new(workers[0], look_ahead_ns.max(1), codel()), Lane::new(workers[1], 0, codel())],
            estimates: Estimates::new(methods),
            delay: DelayEstimate::default(),
            queue_max,
            adaptive: is_adaptive.then(|| {
                let most = u32::try_from(queue_max).unwrap_or(u32::MAX).saturating_add(threads);
                GradientLimit::new(workers[0].saturating_mul(ADAPTIVE_LIMIT_MIN).min(most), most)
            }),
            is_limited: is_adaptive || !in_progress.is_empty(),
            in_progress,
            sample: (u32::MAX, SizeClass::of(0), 0),
        }
    }

    /// Returns the number of waiting calls.
    #[inline]
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.queue.len()).sum()
    }

    /// Returns whether no call waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.queue.is_empty())
    }

    /// Returns the number of calls that wait for a pool.
    #[cfg(feature = "admin")]
    pub fn waiting(&self, pool: WorkPool) -> usize {
        self.lanes[pool as usize].queue.len()
    }

    /// Returns the limit on the calls in progress that adapts to how long calls take, if there is one.
    #[cfg(feature = "admin")]
    pub fn adaptive_limit(&self) -> Option<u32> {
        self.adaptive.as_ref().map(GradientLimit::limit)
    }

    /// Returns the number of calls that were handed over to a pool and have not ended.
    pub fn running(&self, pool: WorkPool) -> u32 {
        self.lanes[pool as usize].running
    }

    /// Returns the estimated nanoseconds of the calls that wait or run; at least 1 if there are any.
    pub fn work_ns(&self, pool: WorkPool) -> u64 {
        let lane = &self.lanes[pool as usize];
        let work_ns = lane.queue.queued_ns(LEVELS as u8 - 1) + lane.running_ns;
        work_ns.max(u64::from(lane.running > 0 || !lane.queue.is_empty()))
    }

    /// Returns the nanoseconds of work that a batch for the pool for CPU work may have: several batches are in a look-ahead,
    /// so that the first of them returns before the last has begun.
    pub fn batch_ns(&self) -> u64 {
        let lane = &self.lanes[WorkPool::Cpu as usize];
        u64::from(lane.look_ahead_ns).max(lane.loaded_ahead_ns() / 2)
    }

    /// Returns for how long the reactor may leave the workers alone: they have work for twice that time, and any call that
    /// arrives meanwhile has to wait longer. Zero if little work waits.
    pub fn pause(&self) -> Duration {
        let lane = &self.lanes[WorkPool::Cpu as usize];
        if lane.loaded_ahead_ns() <= u64::from(lane.look_ahead_ns) {
            return Duration::ZERO;
        }
        let ahead_ns = lane.running_ns / u64::from(lane.workers);
        Duration::from_nanos(ahead_ns.min(LOADED_AHEAD_NS_MAX) / 2)
    }

    /// Takes note of what other reactors have for a pool: how many of them have work, and how much.
    pub fn set_others(&mut self, pool: WorkPool, reactors: u32, work_ns: u64) {
        self.lanes[pool as usize].set_others(reactors, work_ns);
    }

    /// Returns the nanoseconds that a new call would wait for a worker of the pool for CPU work; at least 1 if it would
    /// wait, even if nothing is known of the calls before it.
    pub fn load_ns(&self) -> u64 {
        let lane = &self.lanes[WorkPool::Cpu as usize];
        if lane.queue.is_empty() && lane.has_room(0, false) {
            return 0;
        }
        lane.stretch.of((self.work_ns(WorkPool::Cpu) + lane.others_ns) / u64::from(lane.workers)).max(1)
    }

    // Sources.

    /// Adds a source with one connection, for the calls of one pool.
    pub fn add_source(&mut self, pool: WorkPool) -> SourceId {
        self.lanes[pool as usize].queue.add_source()
    }

    /// Adds a connection to a source.
    pub fn join_source(&mut self, pool: WorkPool, source: SourceId) {
        self.lanes[pool as usize].queue.join(source);
    }

    /// Removes a connection from a source. Returns true if it was the last.
    pub fn leave_source(&mut self, pool: WorkPool, source: SourceId) -> bool {
        self.lanes[pool as usize].queue.leave(source)
    }

    // Calls.

    /// Starts a call if no call waits, there is room, and no limit could refuse it: the common case, which needs no
    /// source. `is_only` states that its source has no other call.
    #[inline]
    pub fn start_at_once(
        &mut self,
        pool: WorkPool,
        method: u32,
        class: SizeClass,
        is_any_asleep: bool,
        is_only: bool,
    ) -> Option<CallCost> {
        let estimate_ns = self.estimates.estimate_ns(method, class);
        let lane = &mut self.lanes[pool as usize];
        if self.is_limited
            || !lane.queue.is_empty()
            || !lane.has_room_if(lane.weight_ns(estimate_ns), is_any_asleep, is_only && estimate_ns > 0)
        {
            return None;
        }
        lane.begin(estimate_ns);
        Some(CallCost {
            charge: Charge { source: SourceId::NONE, level: 0, estimate_ns },
            class,
            is_probe: false,
        })
    }

    /// Decides what happens to a call of a source.
    pub fn admit(&mut self, call: &Arrival, source: SourceId, is_any_asleep: bool, now: Instant) -> Verdict {
        let Arrival { pool, method, class, level, deadline } = *call;
        if let Some(reason) = self.over_limit(call) {
            return Verdict::Refuse(reason);
        }
        let queued = self.len();
        let lane = &mut self.lanes[pool as usize];
        let estimate_ns = match lane.queue.mean_ns(source, method, now) {
            Some(mean_ns) => mean_ns,
            None => self.estimates.estimate_ns(method, class),
        };
        let mut cost = CallCost { charge: Charge { source, level, estimate_ns }, class, is_probe: false };
        if lane.queue.is_empty() && lane.has_room(lane.weight_ns(estimate_ns), is_any_asleep) {
            lane.begin(estimate_ns);
            self.count_begun(method);
            self.lanes[pool as usize].queue.charge(cost.charge);
            return Verdict::Start(cost);
        }
        if queued >= self.queue_max {
            return Verdict::Refuse(ShedReason::QueueFull);
        }
        if let Some(deadline) = deadline {
            lane.stretch.relax(now);
            let wait_ns = lane.stretch.of(lane.before_ns(source, level));
            let runs_ns = lane.stretch.of(u64::from(estimate_ns));
            let ends_ns = wait_ns + wait_ns / WAIT_RESERVE + runs_ns + self.delay.bound_ns();
            let is_late = now + Duration::from_nanos(ends_ns) > deadline;
            cost.is_probe = is_late && self.estimates.take_probe(method, class, now);
            if is_late && !cost.is_probe {
                return Verdict::Refuse(ShedReason::ExpectedLate);
            }
        }
        self.count_begun(method);
        Verdict::Wait(cost)
    }

    /// Adds a call for which [`RunQueue::admit`] returned [`Verdict::Wait`].
    pub fn push(&mut self, call: &Arrival, cost: CallCost, now: Instant, value: T) -> ItemId {
        let Arrival { pool, method, class, deadline, .. } = *call;
        let lane = &mut self.lanes[pool as usize];
        let before_ns = match lane.unknown {
            0 => lane.before_ns(cost.charge.source, cost.charge.level),
            _ => 0,
        };
        let is_unknown = cost.charge.estimate_ns == 0;
        lane.unknown += u32::from(is_unknown);
        let is_probe = cost.is_probe;
        let waiting = Waiting { method, class, deadline, since: now, before_ns, is_unknown, is_probe, value };
        lane.queue.push(cost.charge, waiting)
    }

    /// Removes a waiting call, which has ended otherwise.
    pub fn remove(&mut self, pool: WorkPool, id: ItemId) -> Option<T> {
        let lane = &mut self.lanes[pool as usize];
        let waiting = lane.queue.remove(id)?;
        lane.unknown -= u32::from(waiting.is_unknown);
        self.count_ended(waiting.method);
        Some(waiting.value)
    }

    /// Returns the next call that leaves the queue, if there is room for one.
    pub fn next(&mut self, pool: WorkPool, is_any_asleep: bool, now: Instant) -> Option<Next<T>> {
        let lane = &mut self.lanes[pool as usize];
        if lane.queue.is_empty() || !lane.takes_next(is_any_asleep) {
            return None;
        }
        let (mut charge, waiting) = lane.queue.pop()?;
        let Waiting { method, class, deadline, since, before_ns, is_unknown, is_probe, value } = waiting;
        lane.unknown -= u32::from(is_unknown);
        lane.stretch.note_wait(before_ns, now.saturating_duration_since(since), now);
        if charge.estimate_ns == 0 {
            lane.queue.raise(&mut charge, self.estimates.estimate_ns(method, class));
        }
        let ahead_ns = lane.running_ns / u64::from(lane.workers) + u64::from(charge.estimate_ns);
        let ends_ns = lane.stretch.of(ahead_ns) + self.delay.mean_ns();
        let is_late = deadline.is_some_and(|deadline| now + Duration::from_nanos(ends_ns) > deadline);
        let is_last = lane.queue.is_empty();
        let is_probe = is_probe || is_late && self.estimates.take_probe(method, class, now);
        let shed = if is_late && !is_probe {
            Some(ShedReason::TooLateToStart)
        } else if let Some(codel) = &mut lane.codel
            && codel.on_dequeue(now, now.saturating_duration_since(since), is_last)
        {
            Some(ShedReason::QueueDelay)
        } else {
            None
        };
        if let Some(reason) = shed {
            lane.queue.settle(charge, method, None, now);
            self.count_ended(method);
            return Some(Next::Shed(reason, since, value));
        }
        lane.begin(charge.estimate_ns);
        Some(Next::Start(CallCost { charge, class, is_probe }, since, value))
    }

    /// Takes note that a call that was handed over has ended: it ran for `took_ns`, or did not run. `latency_ns` is from
    /// its arrival to its end.
    #[inline]
    pub fn on_ended(
        &mut self,
        pool: WorkPool,
        method: u32,
        cost: CallCost,
        took_ns: Option<u32>,
        latency_ns: u64,
        now: Instant,
    ) {
        let lane = &mut self.lanes[pool as usize];
        lane.running -= 1;
        lane.running_ns -= lane.weight_ns(cost.charge.estimate_ns);
        lane.unknown -= u32::from(cost.charge.estimate_ns == 0);
        if cost.charge.source != SourceId::NONE {
            lane.queue.settle(cost.charge, method, took_ns, now);
        }
        if let Some(took_ns) = took_ns {
            let sample = (method, cost.class, took_ns);
            if self.sample != sample {
                self.sample = sample;
                self.estimates.note(method, cost.class, took_ns.max(1), now);
            }
        }
        if self.is_limited {
            self.count_ended(method);
            let in_progress = self.in_progress();
            if let Some(adaptive) = &mut self.adaptive
                && took_ns.is_some()
            {
                adaptive.on_end(Duration::from_nanos(latency_ns), in_progress);
            }
        }
    }

    /// Takes note that the calls of a batch, which the workers have ended at `ended`, are answered now.
    #[inline]
    pub fn on_returned(&mut self, ended: Instant, now: Instant) {
        self.delay.note(now.saturating_duration_since(ended).as_nanos() as u64);
    }

    /// Returns after how many milliseconds a refused caller should try again: when what waits now has ended.
    pub fn retry_after_ms(&self, pool: WorkPool) -> u32 {
        let lane = &self.lanes[pool as usize];
        let wait_ns = lane.stretch.of((self.work_ns(pool) + lane.others_ns) / u64::from(lane.workers));
        (wait_ns / 1_000_000).clamp(1, RETRY_AFTER_MS_MAX) as u32
    }

    // Limits on calls in progress.

    fn in_progress(&self) -> u32 {
        let lanes = self.lanes.iter().map(|lane| lane.running + lane.queue.len() as u32);
        lanes.sum()
    }

    /// Returns the limit that a call exceeds.
    fn over_limit(&self, call: &Arrival) -> Option<ShedReason> {
        if !self.is_limited {
            return None;
        }
        if let Some((count, most)) = self.in_progress.get(call.method as usize)
            && count >= most
        {
            return Some(ShedReason::MethodLimit);
        }
        let limit = self.adaptive.as_ref()?.limit();
        // Of the two lower levels, less is let in.
        let quarters = 4 - u64::from(call.level.saturating_sub(1));
        let limit = (u64::from(limit) * quarters / 4).max(1);
        (u64::from(self.in_progress()) >= limit).then_some(ShedReason::Concurrency)
    }

    fn count_begun(&mut self, method: u32) {
        if let Some((count, _)) = self.in_progress.get_mut(method as usize) {
            *count += 1;
        }
    }

    fn count_ended(&mut self, method: u32) {
        if let Some((count, _)) = self.in_progress.get_mut(method as usize) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
