//! Tests of single rules, and a simulation: seeded arrivals, a pool of workers, a clock of its own.

mod shared_core;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use proptest::prelude::*;

use super::*;

const CPU: WorkPool = WorkPool::Cpu;

fn config() -> RunQueueConfig {
    RunQueueConfig {
        methods: 4,
        workers: [1, 8],
        look_ahead_ns: 100_000,
        queue_max: 16_384,
        queue_target: None,
        is_adaptive: false,
        method_limits: Vec::new(),
    }
}

fn arrival(method: u32, deadline: Option<Instant>) -> Arrival {
    Arrival { pool: CPU, method, class: SizeClass::of(0), level: 1, deadline }
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// Runs calls of a method until its time is known.
fn teach(queue: &mut RunQueue<u32>, method: u32, took_ns: u32, now: Instant) {
    for _ in 0..16 {
        let cost = queue.start_at_once(CPU, method, SizeClass::of(0), false, false).unwrap();
        queue.on_ended(CPU, method, cost, Some(took_ns), 0, now);
        // Calls that were timed together are one sample.
        queue.sample.2 = 0;
    }
}

#[test]
fn two_calls_per_worker_start_and_quick_ones_up_to_the_look_ahead() {
    let now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    let class = SizeClass::of(0);
    for _ in 0..2 {
        assert!(queue.start_at_once(CPU, 0, class, false, false).is_some());
    }
    assert!(queue.start_at_once(CPU, 0, class, false, false).is_none(), "nothing is known about them");
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    teach(&mut queue, 0, 1_000, now);
    let started = std::iter::from_fn(|| queue.start_at_once(CPU, 0, class, false, false)).count();
    assert_eq!(started, 100);
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    teach(&mut queue, 1, 90_000, now);
    let started = std::iter::from_fn(|| queue.start_at_once(CPU, 1, class, false, false)).count();
    assert_eq!(started, 2);
}

#[test]
fn calls_that_are_alone_at_their_sources_exceed_the_look_ahead() {
    let now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    let class = SizeClass::of(0);
    let unknown = std::iter::from_fn(|| queue.start_at_once(CPU, 1, class, false, true)).count();
    assert_eq!(unknown, 2, "nothing is known about them");
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    teach(&mut queue, 0, 1_000, now);
    let started: Vec<CallCost> =
        std::iter::from_fn(|| queue.start_at_once(CPU, 0, class, false, true)).collect();
    assert_eq!(started.len(), 400);
    // All others wait. While each source has one call, they are handed over up to the same bound.
    let sources: Vec<SourceId> = (0..500).map(|_| queue.add_source(CPU)).collect();
    let push = |queue: &mut RunQueue<u32>, source: SourceId| {
        let Verdict::Wait(cost) = queue.admit(&arrival(0, None), source, false, now) else {
            panic!("no room")
        };
        queue.push(&arrival(0, None), cost, now, 0);
    };
    sources.iter().for_each(|source| push(&mut queue, *source));
    let next = |queue: &mut RunQueue<u32>| std::iter::from_fn(|| queue.next(CPU, false, now)).count();
    let end = |queue: &mut RunQueue<u32>, costs: &[CallCost]| {
        costs.iter().for_each(|cost| queue.on_ended(CPU, 0, *cost, Some(1_000), 0, now));
    };
    assert_eq!(next(&mut queue), 0);
    end(&mut queue, &started[..50]);
    assert_eq!(next(&mut queue), 50);
    // A source with two calls: the others must not wait for more of its calls than the look-ahead holds.
    push(&mut queue, sources[499]);
    end(&mut queue, &started[50..100]);
    assert_eq!(next(&mut queue), 0);
    end(&mut queue, &started[100..360]);
    assert_eq!(next(&mut queue), 10, "90 of them run");
}

#[test]
fn the_look_ahead_grows_with_the_work_that_waits() {
    let now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    teach(&mut queue, 0, 50_000, now);
    let source = queue.add_source(CPU);
    let handed_over = |queue: &mut RunQueue<u32>, waiting: usize| {
        while queue.len() < waiting {
            match queue.admit(&arrival(0, None), source, false, now) {
                Verdict::Start(_) => {}
                Verdict::Wait(cost) => drop(queue.push(&arrival(0, None), cost, now, 0)),
                Verdict::Refuse(reason) => panic!("{reason:?}"),
            }
        }
        while queue.next(CPU, false, now).is_some() {}
        u64::from(queue.running(CPU)) * 50
    };
    // 2.5 ms wait: the look-ahead is as configured, and the reactor does not pause.
    assert_eq!(handed_over(&mut queue, 50), 100);
    assert_eq!((queue.batch_ns(), queue.pause()), (100_000, Duration::ZERO));
    // 9.6 ms: a thirty-second of it, and a pause of half as long.
    assert_eq!(handed_over(&mut queue, 192 + 4), 300);
    assert_eq!(queue.pause(), us(150));
    // 50 ms: the limit.
    assert_eq!(handed_over(&mut queue, 1_000), 500);
    assert_eq!((queue.batch_ns(), queue.pause()), (250_000, us(250)));
}

#[test]
fn a_share_is_exceeded_only_while_a_worker_sleeps() {
    let mut queue: RunQueue<u32> = RunQueue::new(&RunQueueConfig { workers: [2, 8], ..config() });
    let class = SizeClass::of(0);
    queue.set_others(CPU, 1, 1_000_000);
    let started = std::iter::from_fn(|| queue.start_at_once(CPU, 0, class, false, false)).count();
    assert_eq!(started, 2, "half of four");
    let started = std::iter::from_fn(|| queue.start_at_once(CPU, 0, class, true, false)).count();
    assert_eq!(started, 2);
    queue.set_others(CPU, 0, 0);
    assert!(queue.start_at_once(CPU, 0, class, false, false).is_none(), "all of four");
}

#[test]
fn a_call_that_would_end_too_late_is_refused_unless_it_is_a_probe() {
    let now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    teach(&mut queue, 0, 1_000_000, now);
    let source = queue.add_source(CPU);
    let offer = |queue: &mut RunQueue<u32>, deadline_us: u64, now: Instant| {
        let arrival = arrival(0, Some(now + us(deadline_us)));
        let verdict = queue.admit(&arrival, source, false, now);
        if let Verdict::Wait(cost) = verdict {
            queue.push(&arrival, cost, now, 0);
        }
        verdict
    };
    // An idle worker takes anything.
    assert!(matches!(offer(&mut queue, 1, now), Verdict::Start(_)));
    assert!(matches!(offer(&mut queue, 1, now), Verdict::Start(_)));
    // Two calls run or wait at the worker.
    assert_eq!(offer(&mut queue, 3_400, now), Verdict::Refuse(ShedReason::ExpectedLate));
    assert!(matches!(offer(&mut queue, 3_600, now), Verdict::Wait(_)));
    assert_eq!(offer(&mut queue, 4_700, now), Verdict::Refuse(ShedReason::ExpectedLate));
    assert!(matches!(offer(&mut queue, 4_800, now), Verdict::Wait(_)));
    assert_eq!(queue.retry_after_ms(CPU), 4);
    let later = now + Duration::from_millis(300);
    assert!(matches!(offer(&mut queue, 10, later), Verdict::Wait(_)), "a probe");
    assert_eq!(offer(&mut queue, 10, later), Verdict::Refuse(ShedReason::ExpectedLate));
}

#[test]
fn a_call_that_has_waited_too_long_is_not_started() {
    let now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    teach(&mut queue, 0, 1_000_000, now);
    let source = queue.add_source(CPU);
    let costs: Vec<CallCost> =
        (0..2).map(|_| queue.start_at_once(CPU, 0, SizeClass::of(0), false, false).unwrap()).collect();
    for number in 0..2 {
        let arrival = arrival(0, Some(now + us(5_500)));
        let Verdict::Wait(cost) = queue.admit(&arrival, source, false, now) else { panic!("there is time") };
        queue.push(&arrival, cost, now, number);
    }
    assert!(queue.next(CPU, false, now).is_none(), "no room");
    // The first two took longer than expected.
    let later = now + us(3_000);
    queue.on_ended(CPU, 0, costs[0], Some(3_000_000), 0, later);
    assert!(matches!(queue.next(CPU, false, later), Some(Next::Start(_, _, 0))));
    queue.on_ended(CPU, 0, costs[1], Some(3_000_000), 0, later + us(1_000));
    let shed = queue.next(CPU, false, later + us(1_000));
    assert!(
        matches!(shed, Some(Next::Shed(ShedReason::TooLateToStart, since, 1)) if since == now),
        "{shed:?}"
    );
}

/// A burst of calls of unknown cost waits for long: that says nothing about the calls that come later.
#[test]
fn calls_of_unknown_cost_do_not_change_the_stretch() {
    let mut now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    let source = queue.add_source(CPU);
    let arrival = arrival(0, None);
    let mut running = std::collections::VecDeque::new();
    for number in 0..100 {
        match queue.admit(&arrival, source, false, now) {
            Verdict::Start(cost) => running.push_back(cost),
            Verdict::Wait(cost) => drop(queue.push(&arrival, cost, now, number)),
            Verdict::Refuse(reason) => panic!("{reason:?}"),
        }
    }
    while let Some(cost) = running.pop_front() {
        now += us(5_000);
        queue.on_ended(CPU, 0, cost, Some(5_000_000), 0, now);
        while let Some(Next::Start(cost, _, _)) = queue.next(CPU, false, now) {
            running.push_back(cost);
        }
    }
    let lane = &queue.lanes[CPU as usize];
    assert_eq!((queue.len(), lane.running, lane.unknown), (0, 0, 0));
    assert_eq!(lane.stretch.of(1_000), 1_000);
}

#[test]
fn the_stretch_returns_to_one_without_waits() {
    let now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    teach(&mut queue, 0, 1_000_000, now);
    let source = queue.add_source(CPU);
    let lane = &mut queue.lanes[CPU as usize];
    (0..1_000).for_each(|_| lane.stretch.note_wait(1_000_000, us(20_000), now));
    assert!(lane.stretch.of(100) > 1_900, "{:?}", lane.stretch);
    let costs: Vec<CallCost> =
        (0..2).map(|_| queue.start_at_once(CPU, 0, SizeClass::of(0), false, false).unwrap()).collect();
    let mut offer = |now: Instant| queue.admit(&arrival(0, Some(now + us(6_000))), source, false, now);
    // The first is a probe.
    assert!(matches!(offer(now + us(300_000)), Verdict::Wait(cost) if cost.is_probe));
    assert_eq!(offer(now + us(400_000)), Verdict::Refuse(ShedReason::ExpectedLate));
    assert!(matches!(offer(now + us(5_000_000)), Verdict::Wait(cost) if !cost.is_probe));
    drop(costs);
}

#[test]
fn a_method_limit_counts_waiting_and_running_calls() {
    let now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&RunQueueConfig { method_limits: vec![(1, 3)], ..config() });
    let source = queue.add_source(CPU);
    let mut costs = Vec::new();
    let mut items = Vec::new();
    for _ in 0..3 {
        match queue.admit(&arrival(1, None), source, false, now) {
            Verdict::Start(cost) => costs.push(cost),
            Verdict::Wait(cost) => items.push(queue.push(&arrival(1, None), cost, now, 0)),
            Verdict::Refuse(reason) => panic!("{reason:?}"),
        }
    }
    assert_eq!((costs.len(), items.len()), (2, 1));
    let refused = Verdict::Refuse(ShedReason::MethodLimit);
    assert_eq!(queue.admit(&arrival(1, None), source, false, now), refused);
    assert!(matches!(queue.admit(&arrival(0, None), source, false, now), Verdict::Wait(_)), "another method");
    assert_eq!(queue.remove(CPU, items[0]), Some(0));
    let Verdict::Wait(cost) = queue.admit(&arrival(1, None), source, false, now) else {
        panic!("one has left")
    };
    queue.push(&arrival(1, None), cost, now, 0);
    queue.on_ended(CPU, 1, costs[0], Some(10), 0, now);
    assert!(matches!(queue.admit(&arrival(1, None), source, false, now), Verdict::Wait(_)));
}

#[test]
fn a_full_queue_refuses() {
    let now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&RunQueueConfig { queue_max: 1, ..config() });
    let source = queue.add_source(CPU);
    for _ in 0..2 {
        assert!(matches!(queue.admit(&arrival(0, None), source, false, now), Verdict::Start(_)));
    }
    let Verdict::Wait(cost) = queue.admit(&arrival(0, None), source, false, now) else {
        panic!("one may wait")
    };
    queue.push(&arrival(0, None), cost, now, 0);
    assert_eq!(queue.admit(&arrival(0, None), source, false, now), Verdict::Refuse(ShedReason::QueueFull));
}

/// A kind of call in the simulation.
#[derive(Clone, Copy, Debug)]
struct Kind {
    method: u32,
    source: usize,
    /// Mean time between arrivals, and of the handler.
    every_ns: u64,
    takes_ns: u64,
    deadline: Option<Duration>,
    level: u8,
}

/// What became of the calls of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    offered: u64,
    in_time: u64,
    late: u64,
    shed: u64,
}

/// A generator of numbers (SplitMix64, Steele and others, 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An exponentially distributed number with this mean.
    fn spread(&mut self, mean: u64) -> u64 {
        let unit = ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        (-unit.ln() * mean as f64) as u64
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Ended(usize),
}

#[derive(Clone, Copy, Debug)]
struct SimCall {
    kind: usize,
    arrived: u64,
    takes_ns: u64,
}

/// The reactor and its workers: calls arrive, run one after the other on each worker, and end.
struct Sim {
    queue: RunQueue<SimCall>,
    kinds: Vec<Kind>,
    sources: Vec<SourceId>,
    rng: Rng,
    began: Instant,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    /// Calls handed over that have not begun.
    channel: std::collections::VecDeque<(CallCost, SimCall)>,
    running: HashMap<usize, (CallCost, SimCall)>,
    next_call: usize,
    idle_workers: u32,
    counts: Vec<Counts>,
    /// The times of handlers differ from call to call.
    handlers_differ: bool,
}

impl Sim {
    fn new(config: &RunQueueConfig, kinds: &[Kind], seed: u64) -> Sim {
        let mut queue = RunQueue::new(config);
        let sources = (0..=kinds.iter().map(|kind| kind.source).max().unwrap_or(0))
            .map(|_| queue.add_source(CPU))
            .collect();
        let mut sim = Sim {
            queue,
            kinds: kinds.to_vec(),
            sources,
            rng: Rng(seed),
            began: Instant::now(),
            events: BinaryHeap::new(),
            sequence: 0,
            channel: Default::default(),
            running: HashMap::new(),
            next_call: 0,
            idle_workers: config.workers[0],
            counts: vec![Counts::default(); kinds.len()],
            handlers_differ: true,
        };
        for (index, kind) in kinds.iter().enumerate() {
            let at = sim.rng.spread(kind.every_ns);
            sim.at(at, Event::Arrive(index));
        }
        sim
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn instant(&self, at: u64) -> Instant {
        self.began + Duration::from_nanos(at)
    }

    fn run(&mut self, until: u64) {
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at < until
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            let now = self.instant(at);
            match event {
                Event::Arrive(kind) => self.arrive(kind, at, now),
                Event::Ended(call) => self.ended(call, at, now),
            }
            self.schedule(at, now);
        }
    }

    fn arrive(&mut self, kind: usize, at: u64, now: Instant) {
        let Kind { method, source, every_ns, takes_ns, deadline, level } = self.kinds[kind];
        let next = at + self.rng.spread(every_ns);
        self.at(next, Event::Arrive(kind));
        self.counts[kind].offered += 1;
        let takes_ns = if self.handlers_differ { self.rng.spread(takes_ns).max(1) } else { takes_ns };
        let call = SimCall { kind, arrived: at, takes_ns };
        let deadline = deadline.map(|deadline| now + deadline);
        let arrival = Arrival { pool: CPU, method, class: SizeClass::of(0), level, deadline };
        match self.queue.admit(&arrival, self.sources[source], false, now) {
            Verdict::Start(cost) => self.channel.push_back((cost, call)),
            Verdict::Wait(cost) => drop(self.queue.push(&arrival, cost, now, call)),
            Verdict::Refuse(_) => self.counts[kind].shed += 1,
        }
    }

    fn schedule(&mut self, at: u64, now: Instant) {
        while let Some(next) = self.queue.next(CPU, false, now) {
            match next {
                Next::Start(cost, _, call) => self.channel.push_back((cost, call)),
                Next::Shed(_, _, call) => self.counts[call.kind].shed += 1,
            }
        }
        while self.idle_workers > 0
            && let Some((cost, call)) = self.channel.pop_front()
        {
            self.idle_workers -= 1;
            let number = self.next_call;
            self.next_call += 1;
            self.running.insert(number, (cost, call));
            self.at(at + call.takes_ns, Event::Ended(number));
        }
    }

    fn ended(&mut self, number: usize, at: u64, now: Instant) {
        let (cost, call) = self.running.remove(&number).unwrap();
        self.idle_workers += 1;
        let Kind { method, deadline, .. } = self.kinds[call.kind];
        let took_ns = u32::try_from(call.takes_ns).unwrap();
        self.queue.on_ended(CPU, method, cost, Some(took_ns), at - call.arrived, now);
        let is_late = deadline.is_some_and(|deadline| at - call.arrived > deadline.as_nanos() as u64);
        let counts = &mut self.counts[call.kind];
        *if is_late { &mut counts.late } else { &mut counts.in_time } += 1;
    }

    /// Every call has ended once, or is still there.
    fn check(&self) {
        let ended: u64 = self.counts.iter().map(|counts| counts.in_time + counts.late + counts.shed).sum();
        let offered: u64 = self.counts.iter().map(|counts| counts.offered).sum();
        let there = self.queue.len() + self.channel.len() + self.running.len();
        assert_eq!(offered, ended + there as u64);
        assert_eq!(self.queue.running(CPU) as usize, self.channel.len() + self.running.len());
    }
}

const SECOND: u64 = 1_000_000_000;

/// One kind of call with this load, as a multiple of what the workers can do.
fn one_kind(load: f64, workers: u32, takes_ns: u64) -> Kind {
    let every_ns = (takes_ns as f64 / f64::from(workers) / load) as u64;
    Kind { method: 0, source: 0, every_ns, takes_ns, deadline: Some(us(50_000)), level: 1 }
}

#[test]
fn under_overload_nearly_all_that_the_workers_can_do_ends_in_time() {
    for (load, workers, seed) in [(1.3, 1, 1), (2.0, 1, 2), (5.0, 1, 3), (1.3, 4, 4), (5.0, 2, 5)] {
        let kind = one_kind(load, workers, 64_000);
        let mut sim = Sim::new(&RunQueueConfig { workers: [workers, 8], ..config() }, &[kind], seed);
        sim.run(5 * SECOND);
        sim.check();
        let possible = 5.0 * SECOND as f64 / 64_000.0 * f64::from(workers);
        let share = sim.counts[0].in_time as f64 / possible;
        assert!(share > 0.96, "{load} × capacity of {workers}: {share}, {:?}", sim.counts);
    }
}

#[test]
fn after_an_overload_everything_is_answered_again() {
    let mut sim = Sim::new(&config(), &[one_kind(5.0, 1, 64_000)], 7);
    sim.run(10 * SECOND);
    sim.kinds[0].every_ns *= 10;
    // The last arrival of the overload was already scheduled.
    sim.run(10 * SECOND + SECOND / 10);
    let before = sim.counts[0];
    sim.run(15 * SECOND);
    sim.check();
    let after = sim.counts[0];
    assert!(after.offered - before.offered > 30_000);
    assert_eq!((after.shed, after.late), (before.shed, before.late));
}

#[test]
fn cheap_calls_of_one_source_pass_the_expensive_calls_of_another() {
    // One method: calls of the first source take 3 µs, those of the other 6 ms.
    let deadline = Some(us(50_000));
    let cheap = Kind { method: 0, source: 0, every_ns: 15_000, takes_ns: 3_000, deadline, level: 1 };
    let expensive =
        Kind { method: 0, source: 1, every_ns: 3_333_000, takes_ns: 6_000_000, deadline, level: 1 };
    let mut sim = Sim::new(&config(), &[cheap, expensive], 11);
    sim.run(10 * SECOND);
    sim.check();
    let Counts { offered, in_time, .. } = sim.counts[0];
    assert!(in_time as f64 >= 0.95 * offered as f64, "{:?}", sim.counts);
    assert!(sim.counts[1].in_time > 700, "{:?}", sim.counts);
}

#[test]
fn a_method_that_becomes_a_hundred_times_slower_and_quick_again_is_followed() {
    let mut sim = Sim::new(&config(), &[one_kind(0.9, 1, 64_000)], 13);
    sim.run(SECOND);
    sim.kinds[0].takes_ns *= 100;
    sim.run(2 * SECOND);
    // Those that came before the change was known wait with a wrong estimate, for one deadline.
    let before = sim.counts[0];
    sim.run(4 * SECOND);
    let after = sim.counts[0];
    let done = (after.in_time - before.in_time) as f64;
    assert!(done > 0.7 * 2.0 * SECOND as f64 / 6_400_000.0, "{done} of 312");
    sim.kinds[0].takes_ns /= 100;
    sim.run(5 * SECOND);
    let before = sim.counts[0];
    sim.run(6 * SECOND);
    sim.check();
    let after = sim.counts[0];
    assert_eq!(after.shed, before.shed, "no refusals once the calls are quick again");
}

#[test]
fn lower_priorities_are_shed_first() {
    let kind = |level: u8, source| Kind { level, source, ..one_kind(0.5, 1, 64_000) };
    let mut sim = Sim::new(&config(), &[kind(0, 0), kind(1, 1), kind(2, 2), kind(3, 3)], 17);
    sim.run(5 * SECOND);
    sim.check();
    let shares: Vec<f64> =
        sim.counts.iter().map(|counts| counts.in_time as f64 / counts.offered as f64).collect();
    assert!(shares[0] > 0.999 && shares[1] > 0.9 && shares[3] < 0.05, "{shares:?}");
}

#[test]
fn without_deadlines_a_target_bounds_the_wait() {
    let queue_target = Some(Duration::from_millis(5));
    let kind = Kind { deadline: None, ..one_kind(1.5, 1, 64_000) };
    let mut sim = Sim::new(&RunQueueConfig { queue_target, ..config() }, &[kind], 19);
    sim.run(20 * SECOND);
    let waiting_ns = sim.queue.work_ns(CPU);
    assert!(waiting_ns < 100_000_000, "{waiting_ns} ns of work wait");
    sim.check();
}

#[test]
fn without_deadlines_an_adaptive_limit_bounds_the_wait() {
    let kind = Kind { deadline: None, ..one_kind(1.5, 2, 64_000) };
    let config = RunQueueConfig { is_adaptive: true, workers: [2, 8], ..config() };
    let mut sim = Sim::new(&config, &[kind], 23);
    sim.run(10 * SECOND);
    sim.check();
    let Counts { in_time, .. } = sim.counts[0];
    let possible = 10 * SECOND / 32_000;
    assert!(in_time as f64 > 0.9 * possible as f64, "{in_time} of {possible}");
    assert!(sim.queue.len() < 200, "{} wait", sim.queue.len());
}

proptest! {
    /// Whatever arrives and however long it takes: every call ends once, and the sums stay right.
    #[test]
    fn every_call_ends_once(
        seed in any::<u64>(),
        kinds in proptest::collection::vec((0..4u32, 0..3usize, 2_000..2_000_000u64, 1_000..5_000_000u64, any::<bool>(), 0..4u8), 1..5),
        workers in 1..4u32,
        queue_max in prop_oneof![Just(16_384usize), 1..50usize],
        is_adaptive in any::<bool>(),
        has_target in any::<bool>(),
    ) {
        let kinds: Vec<Kind> = kinds
            .into_iter()
            .map(|(method, source, every_ns, takes_ns, has_deadline, level)| Kind {
                method, source, every_ns, takes_ns, deadline: has_deadline.then(|| us(20_000)), level,
            })
            .collect();
        let config = RunQueueConfig {
            workers: [workers, 8],
            queue_max,
            is_adaptive,
            queue_target: has_target.then(|| Duration::from_millis(2)),
            ..config()
        };
        let mut sim = Sim::new(&config, &kinds, seed);
        sim.run(SECOND / 5);
        sim.check();
        prop_assert!(sim.queue.len() <= queue_max);
    }
}

#[test]
fn a_probe_that_was_let_in_is_started() {
    let mut now = Instant::now();
    let mut queue: RunQueue<u32> = RunQueue::new(&config());
    let source = queue.add_source(CPU);
    let class = SizeClass::of(0);
    // Its estimate is 1 s, which no deadline allows, and which no later call has confirmed.
    teach(&mut queue, 1, 1_000_000_000, now);
    let costs: Vec<CallCost> =
        (0..2).map(|_| queue.start_at_once(CPU, 0, class, false, false).unwrap()).collect();
    now += crate::policy::estimate::PROBE_AFTER;
    let probe = arrival(1, Some(now + us(100_000)));
    let Verdict::Wait(cost) = queue.admit(&probe, source, false, now) else { panic!("a probe is due") };
    queue.push(&probe, cost, now, 7);
    assert_eq!(queue.admit(&probe, source, false, now), Verdict::Refuse(ShedReason::ExpectedLate));
    now += us(1_000);
    queue.on_ended(CPU, 0, costs[0], Some(1_000_000), 0, now);
    let next = queue.next(CPU, false, now);
    assert!(matches!(next, Some(Next::Start(_, _, 7))), "{next:?}");
}
