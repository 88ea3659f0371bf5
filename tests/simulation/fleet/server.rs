//! A server: the run queue, with workers that take what it hands over. It counts which calls run.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use coreloop::policy::estimate::SizeClass;
use coreloop::policy::fair::{ItemId, SourceId};
use coreloop::policy::run_queue::{Arrival, CallCost, Next, RunQueue, RunQueueConfig, Verdict, WorkPool};

use super::client::AttemptResult;
use super::network::{Reply, Request};
use super::scenario::{METHODS, MS, Ns, ServerSpec};
use super::world::{Actor, Event, World, trace};

const CPU: WorkPool = WorkPool::Cpu;
/// A broken handler fails after this.
const FAIL_FAST: Ns = 50_000;
const SLOW_FACTOR: u64 = 10;
/// One answer in this many is an error that is the caller's.
const CALLERS_ERROR_ONE_IN: usize = 50;
/// What a server that refuses every call asks for.
const REFUSED_RETRY_AFTER_MS: u32 = 100;

/// A call at a server.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    attempt: usize,
    conn: usize,
    method: usize,
    arrived: Ns,
    deadline: Option<Ns>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    cost: CallCost,
    job: Job,
    began: Ns,
    ends_at: Ns,
}

pub struct ServerSim {
    spec: ServerSpec,
    /// The process: it changes with each start. The address: it changes with each replacement.
    pub process: u32,
    pub generation: u32,
    /// Faults that have begun and not ended.
    pub down: u32,
    pub paused: u32,
    pub slow: u32,
    pub fails_fast: u32,
    pub refuses: u32,
    /// One handler in this many fails; 0 is none.
    pub flaky_one_in: usize,
    paused_at: Ns,
    queue: RunQueue<Job>,
    /// Handed over to the workers, and not begun.
    channel: VecDeque<(CallCost, Job)>,
    running: BTreeMap<u32, Running>,
    next_job: u32,
    idle: u32,
    /// The open connections, and the calls that wait in the queue, by connection and attempt.
    sources: BTreeMap<usize, SourceId>,
    waiting: BTreeMap<(usize, usize), ItemId>,
    /// What has arrived at a stopped process.
    inbox: VecDeque<(usize, Request)>,
    /// Calls that have arrived, and handlers that have begun.
    pub arrived: u64,
    pub began: u64,
}

fn queue_of(spec: &ServerSpec) -> RunQueue<Job> {
    let slow = METHODS.iter().enumerate().filter(|(_, method)| method.mean > 10 * MS);
    let limits = spec.slow_max.iter().flat_map(|max| slow.clone().map(|(index, _)| (index as u32, *max)));
    RunQueue::new(&RunQueueConfig {
        methods: METHODS.len(),
        workers: [spec.workers, 1],
        look_ahead_ns: 100_000,
        queue_max: spec.queue_max,
        queue_target: spec.queue_target_ms.map(Duration::from_millis),
        is_adaptive: spec.is_adaptive,
        method_limits: limits.collect(),
    })
}

impl ServerSim {
    pub fn new(spec: &ServerSpec) -> ServerSim {
        ServerSim {
            process: 0,
            generation: 0,
            down: 0,
            paused: 0,
            slow: 0,
            fails_fast: 0,
            refuses: 0,
            flaky_one_in: 0,
            paused_at: 0,
            queue: queue_of(spec),
            channel: VecDeque::new(),
            running: BTreeMap::new(),
            next_job: 0,
            idle: spec.workers,
            sources: BTreeMap::new(),
            waiting: BTreeMap::new(),
            inbox: VecDeque::new(),
            arrived: 0,
            began: 0,
            spec: spec.clone(),
        }
    }

    pub fn is_listening(&self, generation: u32) -> bool {
        self.down == 0 && self.generation == generation
    }

    pub fn accept(&mut self, conn: usize) {
        let source = self.queue.add_source(CPU);
        self.sources.insert(conn, source);
    }

    /// Removes a call that has not begun.
    fn cancel(&mut self, conn: usize, attempt: usize, now: Instant) {
        if let Some(item) = self.waiting.remove(&(conn, attempt)) {
            self.queue.remove(CPU, item);
        } else if let Some(at) = self.channel.iter().position(|(_, job)| job.attempt == attempt)
            && let Some((cost, job)) = self.channel.remove(at)
        {
            self.queue.on_ended(CPU, job.method as u32, cost, None, 0, now);
        }
    }

    /// What the server still has: calls in the queue, at the workers, and connections.
    pub fn left(&self) -> (usize, usize) {
        (self.queue.len(), self.channel.len() + self.running.len() + self.queue.running(CPU) as usize)
    }
}

impl World {
    pub fn on_request(&mut self, conn: usize, request: Request) {
        if !self.conns[conn].at_server {
            return;
        }
        let number = self.conns[conn].server;
        if self.servers[number].paused > 0 {
            self.servers[number].inbox.push_back((conn, request));
            return;
        }
        let now = self.instant();
        match request {
            Request::Call { attempt, method, left } => self.on_call(conn, attempt, method, left),
            Request::Cancel { attempt } => {
                trace!(self, Actor::Server(number), "attempt {attempt} is cancelled");
                self.servers[number].cancel(conn, attempt, now);
            }
            Request::Ping { check } => self.send_down(conn, Reply::Pong { check }),
            Request::Close => self.close_at_server(conn),
        }
        self.work(number);
    }

    fn on_call(&mut self, conn: usize, attempt: usize, method: usize, left: Option<Ns>) {
        let now = self.instant();
        let number = self.conns[conn].server;
        let deadline = left.map(|left| self.now + left);
        let deadline_at = deadline.map(|at| self.instant_at(at));
        let server = &mut self.servers[number];
        server.arrived += 1;
        if server.refuses > 0 {
            self.answer(conn, attempt, AttemptResult::Exhausted { retry_after_ms: REFUSED_RETRY_AFTER_MS });
            return;
        }
        let arrival = Arrival {
            pool: CPU,
            method: method as u32,
            class: SizeClass::of(0),
            level: 1,
            deadline: deadline_at,
        };
        let job = Job { attempt, conn, method, arrived: self.now, deadline };
        match server.queue.admit(&arrival, server.sources[&conn], false, now) {
            Verdict::Start(cost) => server.channel.push_back((cost, job)),
            Verdict::Wait(cost) => {
                let item = server.queue.push(&arrival, cost, now, job);
                server.waiting.insert((conn, attempt), item);
            }
            Verdict::Refuse(reason) => {
                let retry_after_ms = server.queue.retry_after_ms(CPU);
                trace!(self, Actor::Server(number), "refuses attempt {attempt}: {reason:?}");
                self.answer(conn, attempt, AttemptResult::Exhausted { retry_after_ms });
            }
        }
    }

    fn answer(&mut self, conn: usize, attempt: usize, result: AttemptResult) {
        let Self { conns, servers, .. } = self;
        if conns[conn].at_server {
            let load_us =
                (servers[conns[conn].server].queue.load_ns() / 1000).min(u64::from(u32::MAX)) as u32;
            self.send_down(conn, Reply::Answer { attempt, result, load_us });
        }
    }

    /// Hands over what the workers have room for, and begins what they are idle for.
    fn work(&mut self, number: usize) {
        let now = self.instant();
        loop {
            let server = &mut self.servers[number];
            match server.queue.next(CPU, false, now) {
                Some(Next::Start(cost, _, job)) => {
                    server.waiting.remove(&(job.conn, job.attempt));
                    server.channel.push_back((cost, job));
                }
                Some(Next::Shed(reason, _, job)) => {
                    server.waiting.remove(&(job.conn, job.attempt));
                    let retry_after_ms = server.queue.retry_after_ms(CPU);
                    trace!(self, Actor::Server(number), "sheds attempt {}: {reason:?}", job.attempt);
                    self.answer(job.conn, job.attempt, AttemptResult::Exhausted { retry_after_ms });
                }
                None if server.idle > 0 && !server.channel.is_empty() => {
                    let Some((cost, job)) = server.channel.pop_front() else { return };
                    if job.deadline.is_some_and(|deadline| deadline <= self.now)
                        || !self.conns[job.conn].at_server
                    {
                        server.queue.on_ended(CPU, job.method as u32, cost, None, 0, now);
                        self.answer(job.conn, job.attempt, AttemptResult::TooLate);
                        continue;
                    }
                    self.begin(number, cost, job);
                }
                None => return,
            }
        }
    }

    fn begin(&mut self, number: usize, cost: CallCost, job: Job) {
        let mut takes = self.calls[self.attempts[job.attempt].call].takes;
        let server = &mut self.servers[number];
        if server.fails_fast > 0 {
            takes = FAIL_FAST;
        } else if server.slow > 0 {
            takes *= SLOW_FACTOR;
        }
        server.idle -= 1;
        server.began += 1;
        server.next_job += 1;
        let ends_at = self.now + takes;
        server.running.insert(server.next_job, Running { cost, job, began: self.now, ends_at });
        let event = Event::HandlerEnds(number, server.process, server.next_job);
        self.at(ends_at, event);
        self.on_run(job.attempt);
    }

    pub fn on_handler_ends(&mut self, number: usize, process: u32, job_number: u32) {
        let now = self.instant();
        let server = &mut self.servers[number];
        // The process may be another one, or be stopped, or the handler ends later since it was stopped.
        let is_now = server.process == process
            && server.paused == 0
            && server.running.get(&job_number).is_some_and(|running| running.ends_at == self.now);
        if !is_now {
            return;
        }
        let Some(Running { cost, job, began, .. }) = server.running.remove(&job_number) else { return };
        server.idle += 1;
        let took_ns = (self.now - began).min(u64::from(u32::MAX)) as u32;
        let latency = self.now - job.arrived;
        server.queue.on_ended(CPU, job.method as u32, cost, Some(took_ns), latency, now);
        let fails_fast = server.fails_fast > 0;
        let is_flaky = server.flaky_one_in > 0 && self.rng.one_in(server.flaky_one_in);
        let result = if fails_fast || is_flaky {
            AttemptResult::Internal
        } else if self.rng.one_in(CALLERS_ERROR_ONE_IN) {
            AttemptResult::CallersError
        } else {
            AttemptResult::Ok
        };
        self.answer(job.conn, job.attempt, result);
        self.work(number);
    }

    /// The server takes note that a connection is closed: its calls that wait are dropped.
    pub fn close_at_server(&mut self, conn: usize) {
        if !mem::take(&mut self.conns[conn].at_server) {
            return;
        }
        let server = &mut self.servers[self.conns[conn].server];
        let waiting: Vec<(usize, usize)> =
            server.waiting.range((conn, 0)..=(conn, usize::MAX)).map(|(key, _)| *key).collect();
        for key in waiting {
            if let Some(item) = server.waiting.remove(&key) {
                server.queue.remove(CPU, item);
            }
        }
        if let Some(source) = server.sources.remove(&conn) {
            server.queue.leave_source(CPU, source);
        }
    }

    /// The process ends: its connections are reset, its calls are gone.
    pub fn crash(&mut self, number: usize) {
        trace!(self, Actor::Server(number), "crashes");
        for conn in 0..self.conns.len() {
            if self.conns[conn].server == number && self.conns[conn].at_server {
                self.conns[conn].at_server = false;
                self.send_down(conn, Reply::Reset);
            }
        }
        let server = &mut self.servers[number];
        server.process += 1;
        server.queue = queue_of(&server.spec);
        server.idle = server.spec.workers;
        server.channel.clear();
        server.running.clear();
        server.sources.clear();
        server.waiting.clear();
        server.inbox.clear();
    }

    pub fn pause(&mut self, number: usize) {
        trace!(self, Actor::Server(number), "is stopped");
        self.servers[number].paused_at = self.now;
    }

    /// The process runs again: its handlers go on, and it reads what has arrived.
    pub fn resume(&mut self, number: usize) {
        trace!(self, Actor::Server(number), "continues");
        let server = &mut self.servers[number];
        let paused_for = self.now - server.paused_at;
        let process = server.process;
        let mut ends = Vec::new();
        for (job, running) in &mut server.running {
            running.ends_at += paused_for;
            ends.push((running.ends_at, Event::HandlerEnds(number, process, *job)));
        }
        ends.into_iter().for_each(|(at, event)| self.at(at, event));
        let inbox = mem::take(&mut self.servers[number].inbox);
        inbox.into_iter().for_each(|(conn, request)| self.on_request(conn, request));
    }
}
