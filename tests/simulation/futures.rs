//! Async methods under a fake clock: a real server whose reactor is driven turn by turn, and an executor that the seed
//! drives. It polls futures when they are woken and when they are not, drops some, and leaves others; meanwhile the caller
//! cancels, deadlines pass, and the connection is lost.
//!
//! In each run every call is answered exactly once, no future of a handler outlives its call for long, and no future is
//! counted at the end. At the end only what was woken is polled: a wake-up that is missing leaves a call behind.
//! `SIM_SEEDS` is the number of seeds (500), `SIM_SEED` a single one.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use coreloop::codec::{Codec, Plain};
use coreloop::context::Peer;
use coreloop::message::method_hash;
use coreloop::server::DetachedServer;
use coreloop::service::{CallFuture, Method};
use coreloop::transport::{BlockingMemory, BlockingTransport, MemoryStream};
use coreloop::{Code, Server, Status};

use crate::number;
use crate::rng::Rng;

/// The text of intentional panics.
const ON_PURPOSE: &str = "on purpose";
const IN_FLIGHT_MAX: usize = 16;
const REPLY: u8 = 1;
const CANCEL: u8 = 3;
const DATA: u8 = 8;

/// How the handler of a call is to end.
#[derive(Clone, Copy)]
enum Outcome {
    Answer,
    Fail,
    Panic,
}

/// What the handlers share with the simulation, by the number of the call.
#[derive(Default)]
struct Handlers {
    /// The calls whose handlers have futures.
    alive: Mutex<BTreeSet<u64>>,
    outcomes: Mutex<BTreeMap<u64, Outcome>>,
    wakers: Mutex<BTreeMap<u64, Waker>>,
}

impl Handlers {
    fn decide(&self, call: u64, outcome: Outcome) {
        self.outcomes.lock().unwrap().entry(call).or_insert(outcome);
        if let Some(waker) = self.wakers.lock().unwrap().remove(&call) {
            waker.wake();
        }
    }
}

/// The future of a handler: waits until the simulation decides.
struct Decision {
    handlers: Arc<Handlers>,
    call: u64,
}

impl Decision {
    fn new(handlers: &Arc<Handlers>, call: u64) -> Decision {
        handlers.alive.lock().unwrap().insert(call);
        Decision { handlers: handlers.clone(), call }
    }
}

impl Future for Decision {
    type Output = Result<u64, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<u64, Status>> {
        let outcome = self.handlers.outcomes.lock().unwrap().get(&self.call).copied();
        match outcome {
            Some(Outcome::Answer) => Poll::Ready(Ok(self.call)),
            Some(Outcome::Fail) => Poll::Ready(Err(Status::aborted("the handler fails"))),
            Some(Outcome::Panic) => panic!("{ON_PURPOSE}"),
            None => {
                self.handlers.wakers.lock().unwrap().insert(self.call, cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Decision {
    fn drop(&mut self) {
        self.handlers.alive.lock().unwrap().remove(&self.call);
    }
}

/// A future that the executor holds.
struct Task {
    future: CallFuture,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn frame(kind: u8, id: u64, method: &str, time_left_ms: u64, body: &str) -> Vec<u8> {
    let mut frame = vec![0x19, 0x96, 1, kind, Codec::Json.number(), 0, 0, 0];
    frame.extend(id.to_le_bytes());
    let hash = if method.is_empty() { 0 } else { method_hash(method) };
    frame.extend([hash, 0, time_left_ms as u32 * 1_000, body.len() as u32].map(u32::to_le_bytes).concat());
    frame.extend(body.as_bytes());
    frame
}

struct Simulation {
    rng: Rng,
    now: Instant,
    server: DetachedServer,
    handlers: Arc<Handlers>,
    spawned: Arc<Mutex<Vec<CallFuture>>>,
    tasks: Vec<Task>,
    /// Absent once it is lost.
    client: Option<BlockingTransport>,
    received: Vec<u8>,
    calls: u64,
    /// The codes of the replies, by call.
    replies: BTreeMap<u64, Code>,
    is_one_way: Vec<bool>,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let handlers = Arc::<Handlers>::default();
        let spawned = Arc::<Mutex<Vec<CallFuture>>>::default();
        let (unary, stream, queue) = (handlers.clone(), handlers.clone(), spawned.clone());
        let stream = Method::async_server_stream::<Plain<u64>, Plain<u64>, _, _>(
            "Sim.Stream",
            move |_cx, call, sink| {
                let decision = Decision::new(&stream, call);
                async move {
                    sink.send_message(&call).await?;
                    let call = decision.await?;
                    sink.send_message(&call).await?;
                    Ok(())
                }
            },
        );
        let builder = Server::builder()
            .cores(1)
            .workers(1)
            .configure(|config| {
                config.limits.async_in_flight_max = IN_FLIGHT_MAX;
                // The peer is silent for long.
                config.limits.idle_ms = 24 * 3_600_000;
                config.limits.stream_keepalive_ms = 24 * 3_600_000;
            })
            .executor(move |future| queue.lock().unwrap().push(future))
            .async_method("Sim.Wait", move |_cx, call: u64| Decision::new(&unary, call))
            .method_of(stream.unwrap());
        let mut server = DetachedServer::without_threads(builder).unwrap();
        let (near, far) = MemoryStream::pair();
        server.adopt_memory(far, Peer::Memory);
        let mut client = BlockingTransport::Memory(BlockingMemory::new(near));
        client.set_nonblocking(true).unwrap();
        Simulation {
            rng: Rng::new(seed),
            now: Instant::now(),
            server,
            handlers,
            spawned,
            tasks: Vec::new(),
            client: Some(client),
            received: Vec::new(),
            calls: 0,
            replies: BTreeMap::new(),
            is_one_way: Vec::new(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(client) = &mut self.client {
            // The pipe has room: frames are small, and the server reads each turn.
            assert_eq!(client.write(bytes).unwrap(), bytes.len());
        }
    }

    fn call(&mut self) {
        let id = self.calls;
        self.calls += 1;
        // Half a second beside the steps of the clock, so that the time that a run takes decides nothing.
        let time_left_ms = if self.rng.one_in(3) { 1_500 + 1_000 * self.rng.below(20) as u64 } else { 0 };
        let is_stream = self.rng.one_in(3);
        let is_one_way = !is_stream && self.rng.one_in(8);
        self.is_one_way.push(is_one_way);
        let method = if is_stream { "Sim.Stream" } else { "Sim.Wait" };
        // Id 0 is the connection.
        self.send(&frame(if is_one_way { 2 } else { 0 }, id + 1, method, time_left_ms, &id.to_string()));
    }

    fn turn(&mut self) {
        self.server.turn_at(self.now).unwrap();
        self.server.check();
        for future in self.spawned.lock().unwrap().drain(..) {
            self.tasks.push(Task { future, woken: Arc::new(Woken(AtomicBool::new(true))) });
        }
        assert!(self.tasks.len() <= IN_FLIGHT_MAX, "{} futures", self.tasks.len());
        self.receive();
    }

    fn receive(&mut self) {
        let Some(client) = &mut self.client else { return };
        let mut bytes = [0; 4096];
        loop {
            match client.read(&mut bytes) {
                Ok(0) => break,
                Ok(n) => self.received.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        while self.received.len() >= 32 {
            let word = |at: usize| u32::from_le_bytes(self.received[at..at + 4].try_into().unwrap()) as usize;
            let metadata = usize::from(u16::from_le_bytes([self.received[6], self.received[7]]));
            let all = 32 + metadata + word(28);
            if self.received.len() < all {
                break;
            }
            let id = u64::from_le_bytes(self.received[8..16].try_into().unwrap());
            match self.received[3] {
                REPLY => {
                    let code = Code::from_number(word(16) as u32).unwrap();
                    let earlier = self.replies.insert(id - 1, code);
                    assert_eq!(earlier, None, "a second reply to {id}");
                }
                DATA => assert!(!self.replies.contains_key(&(id - 1)), "a message after the reply to {id}"),
                other => panic!("a frame of kind {other}"),
            }
            self.received.drain(..all);
        }
    }

    /// Polls a task, and drops it when it is ready.
    fn poll(&mut self, at: usize) {
        let Task { future, woken } = &mut self.tasks[at];
        woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(woken.clone());
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(self.tasks.swap_remove(at));
        }
    }

    fn step(&mut self) {
        let tasks = self.tasks.len();
        match self.rng.below(16) {
            0..2 => self.call(),
            2..4 if self.calls > 0 => {
                let id = 1 + self.rng.below(self.calls as usize) as u64;
                self.send(&frame(CANCEL, id, "", 0, ""));
            }
            4..8 if tasks > 0 => {
                let at = self.rng.below(tasks);
                self.poll(at);
            }
            8 if tasks > 0 && self.rng.one_in(6) => {
                let at = self.rng.below(tasks);
                drop(self.tasks.swap_remove(at));
            }
            9..11 if self.calls > 0 => {
                let call = self.rng.below(self.calls as usize) as u64;
                let outcome = [Outcome::Answer, Outcome::Answer, Outcome::Fail, Outcome::Panic];
                let outcome = outcome[self.rng.below(4)];
                self.handlers.decide(call, outcome);
            }
            11 => drop(self.server.workers().run_callback()),
            12 => self.now += Duration::from_secs(self.rng.below(4) as u64),
            13 if self.rng.one_in(60) => self.client = None,
            _ => self.turn(),
        }
    }

    /// Runs what is woken until nothing is.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 4 {
            self.turn();
            let mut is_quiet = !self.server.workers().run_callback();
            let is_woken = |task: &Task| task.woken.0.load(Ordering::SeqCst);
            while let Some(at) = self.tasks.iter().position(is_woken) {
                is_quiet = false;
                self.poll(at);
            }
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
    }

    fn finish(mut self) -> BTreeMap<u64, Code> {
        self.settle();
        self.now += Duration::from_secs(30);
        self.settle();
        // Calls that are over have no future of a handler any more: each was woken by the end of its call.
        let alive = self.handlers.alive.lock().unwrap().clone();
        let is_over = |call: &u64| self.client.is_none() || self.replies.contains_key(call);
        let left: Vec<u64> = alive.into_iter().filter(is_over).collect();
        assert_eq!(left, [0; 0], "calls that are over have futures");
        (0..self.calls).for_each(|call| self.handlers.decide(call, Outcome::Answer));
        self.settle();
        let alive = self.handlers.alive.lock().unwrap().len();
        assert_eq!((self.tasks.len(), alive), (0, 0), "futures are left");
        assert_eq!(self.server.check(), (0, 0), "calls and streams are left");
        if self.client.is_some() {
            for (call, is_one_way) in self.is_one_way.iter().enumerate() {
                let reply = self.replies.get(&(call as u64));
                assert_eq!(reply.is_none(), *is_one_way, "call {call}: {reply:?}");
            }
            // None of them counts any more.
            for _ in 0..IN_FLIGHT_MAX {
                let id = self.calls;
                self.calls += 1;
                self.send(&frame(0, id + 1, "Sim.Wait", 0, &id.to_string()));
            }
            (0..4).for_each(|_| self.turn());
            assert_eq!(self.tasks.len(), IN_FLIGHT_MAX, "futures are counted that do not exist");
        }
        self.replies
    }
}

fn run(seed: u64) -> BTreeMap<u64, Code> {
    let mut simulation = Simulation::new(seed);
    let steps = 50 + simulation.rng.below(800);
    (0..steps).for_each(|_| simulation.step());
    simulation.finish()
}

#[test]
fn every_call_of_an_async_method_ends_once() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>().map(String::as_str);
            if text.or(info.payload().downcast_ref::<&str>().copied()) != Some(ON_PURPOSE) {
                usual(info);
            }
        }));
    });
    if let Some(seed) = number("SIM_SEED") {
        println!("seed {seed}: {:?}", run(seed));
        return;
    }
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..number("SIM_SEEDS").unwrap_or(500) {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(replies) => replies.values().for_each(|code| *ends.entry(code.name()).or_default() += 1),
            Err(panic) => {
                eprintln!(
                    "seed {seed} fails; alone: SIM_SEED={seed} cargo test --test simulation -- futures"
                );
                resume_unwind(panic);
            }
        }
    }
    println!("{ends:?}");
    for name in ["ok", "aborted", "internal", "cancelled", "deadline_exceeded", "resource_exhausted"] {
        assert!(ends.get(name).is_some_and(|count| *count > 20), "few calls ended with {name}: {ends:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_ends() {
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed));
    }
}
