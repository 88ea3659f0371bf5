//! A simulation of one worker that shares its core with the reactor: each turn of the reactor preempts the worker, so the
//! measured times of handlers are longer than their work, and calls that are answered come back with the next turn.

use std::collections::VecDeque;

use super::*;

/// The time of a turn of the reactor, apart from its calls.
const TURN_NS: u64 = 5_000;
/// Calls whose estimates are below this are timed together.
const QUICK_NS: u32 = 10_000;
/// The bounds of a batch.
const BATCH_NS: u64 = 100_000;
const BATCH_CALLS: usize = 64;

/// The calls of some connections, all of one method.
#[derive(Clone, Copy, Debug)]
struct Load {
    connections: usize,
    /// The mean time between the calls of all these connections, and the work of each.
    every_ns: u64,
    work_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct CoreCall {
    load: usize,
    arrived: u64,
    deadline: Instant,
}

/// A call that was handed over.
type Job = (CallCost, CoreCall);

/// The batch that the worker runs.
struct RunningBatch {
    jobs: Vec<Job>,
    /// The job that runs, and what is left of its work.
    at: usize,
    left_ns: u64,
    /// The first of the jobs that are timed together, and the time at which it began.
    group: usize,
    group_began: u64,
    took_ns: Vec<u32>,
}

struct SharedCore {
    queue: RunQueue<CoreCall>,
    loads: Vec<Load>,
    sources: Vec<Vec<SourceId>>,
    rng: Rng,
    began: Instant,
    now: u64,
    /// The time that the reactor takes for each call that arrives or is answered.
    call_ns: u64,
    next_arrival: Vec<u64>,
    handed_over: VecDeque<Vec<Job>>,
    running: Option<RunningBatch>,
    returned: Option<RunningBatch>,
    counts: Vec<Counts>,
}

impl SharedCore {
    fn new(loads: &[Load], call_ns: u64, seed: u64) -> SharedCore {
        let mut queue = RunQueue::new(&config());
        let mut add = |load: &Load| (0..load.connections).map(|_| queue.add_source(CPU)).collect();
        let sources = loads.iter().map(&mut add).collect();
        let mut rng = Rng(seed);
        SharedCore {
            sources,
            loads: loads.to_vec(),
            next_arrival: loads.iter().map(|load| rng.spread(load.every_ns)).collect(),
            rng,
            queue,
            began: Instant::now(),
            now: 0,
            call_ns,
            handed_over: VecDeque::new(),
            running: None,
            returned: None,
            counts: vec![Counts::default(); loads.len()],
        }
    }

    fn run(&mut self, until: u64) {
        while self.now < until {
            let next = self.next_arrival.iter().copied().min().unwrap_or(until);
            if next <= self.now || self.returned.is_some() {
                self.turn();
            } else {
                self.work(next);
            }
        }
    }

    fn instant(&self) -> Instant {
        self.began + Duration::from_nanos(self.now)
    }

    /// A turn of the reactor. The worker does not run meanwhile.
    fn turn(&mut self) {
        let (began, now) = (self.now, self.instant());
        let mut started: Vec<Job> = Vec::new();
        let mut calls = 0;
        for load in 0..self.loads.len() {
            while self.next_arrival[load] <= began {
                calls += 1;
                started.extend(self.arrive(load, now));
            }
        }
        if let Some(batch) = self.returned.take() {
            calls += batch.jobs.len() as u64;
            self.answer(&batch, now);
        }
        while let Some(next) = self.queue.next(CPU, false, now) {
            match next {
                Next::Start(cost, _, call) => started.push((cost, call)),
                Next::Shed(_, _, call) => self.counts[call.load].shed += 1,
            }
        }
        self.hand_over(started);
        self.now += TURN_NS + calls * self.call_ns;
    }

    /// Returns the next call of a load if it starts at once.
    fn arrive(&mut self, load: usize, now: Instant) -> Option<Job> {
        let arrived = self.next_arrival[load];
        self.next_arrival[load] += self.rng.spread(self.loads[load].every_ns).max(1);
        self.counts[load].offered += 1;
        let deadline = now + us(50_000);
        let call = CoreCall { load, arrived, deadline };
        let arrival = arrival(0, Some(deadline));
        if let Some(cost) = self.queue.start_at_once(CPU, 0, arrival.class, false, false) {
            return Some((cost, call));
        }
        let source = self.rng.next() as usize % self.sources[load].len();
        match self.queue.admit(&arrival, self.sources[load][source], false, now) {
            Verdict::Start(cost) => return Some((cost, call)),
            Verdict::Wait(cost) => drop(self.queue.push(&arrival, cost, now, call)),
            Verdict::Refuse(_) => self.counts[load].shed += 1,
        }
        None
    }

    fn answer(&mut self, batch: &RunningBatch, now: Instant) {
        if !self.queue.is_empty() {
            self.queue.on_returned(self.began + Duration::from_nanos(batch.group_began), now);
        }
        for ((cost, call), took_ns) in batch.jobs.iter().zip(&batch.took_ns) {
            let latency_ns = self.now - call.arrived;
            self.queue.on_ended(CPU, 0, *cost, Some(*took_ns), latency_ns, now);
            let counts = &mut self.counts[call.load];
            *if now > call.deadline { &mut counts.late } else { &mut counts.in_time } += 1;
        }
    }

    /// Hands over in batches, as the reactor does.
    fn hand_over(&mut self, started: Vec<Job>) {
        let (mut batch, mut batch_ns) = (Vec::new(), 0);
        for job in started {
            let estimate_ns = u64::from(job.0.charge.estimate_ns);
            let fits = estimate_ns > 0 && batch_ns + estimate_ns <= BATCH_NS && batch.len() < BATCH_CALLS;
            if !fits && !batch.is_empty() {
                self.handed_over.push_back(std::mem::take(&mut batch));
                batch_ns = 0;
            }
            batch_ns += estimate_ns;
            batch.push(job);
        }
        if !batch.is_empty() {
            self.handed_over.push_back(batch);
        }
    }

    /// The worker runs until the next arrival, or until it returns a batch.
    fn work(&mut self, until: u64) {
        if self.running.is_none() {
            let Some(jobs) = self.handed_over.pop_front() else {
                self.now = until;
                return;
            };
            let left_ns = self.loads[jobs[0].1.load].work_ns;
            let (group_began, took_ns) = (self.now, Vec::new());
            self.running = Some(RunningBatch { jobs, at: 0, left_ns, group: 0, group_began, took_ns });
        }
        while let Some(batch) = &mut self.running {
            if self.now + batch.left_ns > until {
                batch.left_ns -= until - self.now;
                self.now = until;
                return;
            }
            self.now += batch.left_ns;
            let is_quick = |job: &Job| (1..QUICK_NS).contains(&job.0.charge.estimate_ns);
            let next = batch.jobs.get(batch.at + 1);
            if !is_quick(&batch.jobs[batch.at]) || !next.is_some_and(is_quick) {
                let timed = (batch.at + 1 - batch.group) as u64;
                let took_ns = ((self.now - batch.group_began) / timed) as u32;
                batch.took_ns.resize(batch.at + 1, took_ns);
                (batch.group, batch.group_began) = (batch.at + 1, self.now);
            }
            batch.at += 1;
            match batch.jobs.get(batch.at) {
                Some((_, call)) => batch.left_ns = self.loads[call.load].work_ns,
                None => self.returned = self.running.take(),
            }
        }
    }
}

#[test]
fn cheap_calls_pass_expensive_ones_of_their_method_beside_a_reactor_on_the_same_core() {
    for (work_ns, call_ns, seed) in [(3_000, 8_000, 1), (3_000, 8_000, 2), (10_000, 8_000, 3)] {
        let cheap = Load { connections: 16, every_ns: 50_000, work_ns };
        // 1.8 times of what the core could do without the cheap calls.
        let expensive = Load { connections: 4, every_ns: 2_427_000, work_ns: 4_400_000 };
        let mut core = SharedCore::new(&[cheap, expensive], call_ns, seed);
        core.run(10 * SECOND);
        let Counts { offered, in_time, .. } = core.counts[0];
        assert!(in_time as f64 >= 0.95 * offered as f64, "{work_ns} ns, seed {seed}: {:?}", core.counts);
        // What the cheap calls leave of the core is used.
        assert!(core.counts[1].in_time > 700, "{work_ns} ns, seed {seed}: {:?}", core.counts);
    }
}
