//! Streaming calls of the real client to the real server, on one thread and under a fake clock: both are driven turn by
//! turn, and [`Relay`] carries the bytes between them. What callers and handlers do, and what happens to the connection,
//! comes from a seeded generator; so do the windows of both ends, whether an end says hello, and whether a method is
//! inline, pooled or blocking. The pools have no threads: what waits in them runs at a later step. So a pooled or blocking
//! handler begins after messages, cancels and deadlines of its call have come; but it does not wait for a message inside.
//!
//! In each run every call ends exactly once on both sides; messages arrive in order, and all of them before a clean end;
//! what was cut off never ends cleanly; no window is exceeded, and credit is conserved; streams of a peer that has fallen
//! silent end in time; every buffer returns. `SIM_SEEDS` is the number of seeds (300), `SIM_SEED` a single one.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use coreloop::client::{Client, Driver, InFlight, MethodId, StreamCaller};
use coreloop::codec::Plain;
use coreloop::config::Limits;
use coreloop::context::Peer;
use coreloop::server::{DetachedServer, ServerBuilder};
use coreloop::service::{Kind, Method, Reply};
use coreloop::stream::{Sink, SinkError, Stream, StreamEvent};
use coreloop::transport::{
    Address, BlockingMemory, BlockingTransport, Listener, MemoryStream, Transport, UnixSocketAccess,
};
use coreloop::workers::detached::DetachedWorkers;
use coreloop::{Context, Server, Status};

use crate::frames::{FrameFault, FrameFaultKind};
use crate::number;
use crate::relay::{CONNECTION_WINDOW, Grant, Relay, STREAM_WINDOW};
use crate::rng::Rng;

type Text = Plain<String>;
type Count = Plain<u64>;

static WATCH: MethodId = MethodId::new("Sim.Watch");
static UPLOAD: MethodId = MethodId::new("Sim.Upload");
static CHAT: MethodId = MethodId::new("Sim.Chat");
static ECHO: MethodId = MethodId::new("Sim.Echo");

/// How one side has ended something: `Ok`, or with an error.
type End = Result<(), Status>;

/// What both sides know of one call.
#[derive(Debug, Default)]
struct CallRecord {
    /// Messages sent and received, by the caller and by the handler.
    caller_sent: u64,
    caller_received: u64,
    handler_sent: u64,
    handler_received: u64,
    /// The caller has ended its messages cleanly.
    has_finished: bool,
    /// How the handler has answered, if it has.
    answer: Option<End>,
    /// The messages that it had received then.
    answer_count: u64,
    /// How the caller's and the handler's messages have ended, as seen by their receivers.
    caller_saw: Option<End>,
    handler_saw: Option<End>,
}

/// The handler's ends of a call.
struct HandlerSide {
    number: usize,
    messages: Option<Stream<String>>,
    sink: Option<Sink<String>>,
    reply: Option<Reply<u64>>,
}

/// What handlers leave for the simulation to play.
#[derive(Clone, Default)]
struct Handlers(Arc<Mutex<Vec<HandlerSide>>>);

impl Handlers {
    fn add(
        &self,
        cx: &Context<'_>,
        messages: Option<Stream<String>>,
        sink: Option<Sink<String>>,
        reply: Option<Reply<u64>>,
    ) {
        let number = cx.metadata().find("call").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let number = number.expect("the metadata of the simulation");
        self.0.lock().unwrap().push(HandlerSide { number, messages, sink, reply });
    }
}

fn server(handlers: &Handlers, limits: Limits, mut kind: impl FnMut() -> Kind) -> ServerBuilder {
    let [watch, upload, chat] = [(); 3].map(|()| handlers.clone());
    let watch = Method::server_stream::<Text, Text>("Sim.Watch", move |cx, _, sink| {
        watch.add(cx, None, Some(sink), None);
        Ok(())
    });
    let upload = Method::client_stream_deferring::<Text, Count>("Sim.Upload", move |cx, messages, reply| {
        upload.add(cx, Some(messages), None, Some(reply));
    });
    let chat = Method::bidirectional::<Text, Text>("Sim.Chat", move |cx, messages, sink| {
        chat.add(cx, Some(messages), Some(sink), None);
        Ok(())
    });
    let echo = Method::bidirectional::<Text, Text>("Sim.Echo", |_cx, messages, sink| {
        messages.for_each_message_into(sink, |sink, event| match event {
            StreamEvent::Message(text) => {
                if let Err(error) = sink.try_send(&text) {
                    sink.finish(Err(error.into()));
                }
            }
            StreamEvent::End(result) => sink.finish(result),
        });
        Ok(())
    });
    let mut builder = Server::builder().cores(1).workers(1).configure(|config| config.limits = limits);
    for method in [watch, upload, chat, echo] {
        builder = builder.method_of(method.unwrap().kind(kind()));
    }
    builder
}

/// The caller's ends of a call.
struct CallerSide {
    is_echo: bool,
    sink: Option<Sink<String>>,
    messages: Option<Stream<String>>,
    reply: Option<InFlight<u64>>,
    /// The caller has given up the call, or it has a deadline.
    is_given_up: bool,
}

impl CallerSide {
    fn is_over(&self) -> bool {
        self.messages.is_none() && self.reply.is_none() && self.sink.is_none()
    }
}

fn message(number: usize, at: u64, rng: &mut Rng) -> String {
    let len = match rng.below(30) {
        0 => 90_000,
        1..5 => rng.below(9_000),
        _ => rng.below(100),
    };
    format!("{number} {at} {}", "x".repeat(len))
}

#[track_caller]
fn assert_message(text: &str, number: usize, at: &mut u64) {
    assert!(text.starts_with(&format!("{number} {at} ")), "call {number} has message {at}, not {text:.20}");
    *at += 1;
}

/// How long each side may be left without a byte.
struct Patience {
    /// The server's: until it pings, and until it closes after that.
    keepalive_ms: u64,
    keepalive_timeout_ms: u64,
    /// The client's: until it pings, and the same again.
    ping_ms: u64,
}

impl Patience {
    fn new(rng: &mut Rng) -> Patience {
        if rng.one_in(2) {
            return Patience { keepalive_ms: 30_000, keepalive_timeout_ms: 10_000, ping_ms: 30_000 };
        }
        let mut ms = || 300 + rng.below(3_000) as u64;
        Patience { keepalive_ms: ms(), keepalive_timeout_ms: ms(), ping_ms: ms() }
    }
}

/// Chooses what an end grants. The connection's window is at most twice its initial size: what is not returned is missed
/// soon.
fn grant(rng: &mut Rng) -> Grant {
    let stream = [STREAM_WINDOW, 256 << 10, STREAM_WINDOW + rng.below(1 << 20) as u32][rng.below(3)];
    let connection = [CONNECTION_WINDOW, CONNECTION_WINDOW + rng.below(1 << 20) as u32][rng.below(2)];
    Grant { stream, connection, is_hello: rng.one_in(2) }
}

struct Simulation {
    patience: Patience,
    rng: Rng,
    now: Instant,
    server: DetachedServer,
    handlers: Handlers,
    playing: Vec<HandlerSide>,
    client: Option<Client>,
    relay: Relay,
    calls: Vec<CallerSide>,
    records: Vec<CallRecord>,
    /// A deliberate fault: a message in this many is counted and not sent.
    loses_one_in: Option<usize>,
}

fn memory(stream: MemoryStream) -> BlockingTransport {
    let mut stream = BlockingTransport::Memory(BlockingMemory::new(stream));
    stream.set_nonblocking(true).unwrap();
    stream
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut rng = Rng::new(seed);
        let now = Instant::now();
        let handlers = Handlers::default();
        let grants = [(); 2].map(|()| grant(&mut rng));
        let [client_grant, server_grant] = grants;
        let patience = Patience::new(&mut rng);
        let mut limits = Limits::default();
        limits.stream_window_bytes = server_grant.stream as usize;
        limits.connection_window_bytes = server_grant.connection as usize;
        limits.stream_keepalive_ms = patience.keepalive_ms;
        limits.stream_keepalive_timeout_ms = patience.keepalive_timeout_ms;
        limits.write_queue_high_bytes = [20_000, 4 << 20][rng.below(2)];
        limits.write_queue_low_bytes = 10_000;
        let kind = || [Kind::Inline, Kind::Inline, Kind::Pooled, Kind::Blocking][rng.below(4)];
        let mut server = DetachedServer::without_threads(server(&handlers, limits, kind)).unwrap();
        let listener =
            Listener::bind(&"memory:0".parse::<Address>().unwrap(), &UnixSocketAccess::default()).unwrap();
        let driver = Driver::on(&server.roles()).unwrap();
        let builder = Client::builder(listener.local().unwrap().to_string()).on(&driver);
        let client = builder.configure(|config| {
            config.stream_window_bytes = client_grant.stream as usize;
            config.connection_window_bytes = client_grant.connection as usize;
            config.ping_ms = patience.ping_ms;
        });
        let client = client.build().unwrap();
        // Connects: the only thing that happens on another thread.
        let reach = client.start_bytes("Health.Check", coreloop::codec::Codec::Json, b"\"\"");
        let near = loop {
            server.turn_at(now).unwrap();
            match listener.accept() {
                Ok((Transport::Memory(near), _)) => break near,
                Ok(_) => unreachable!("the listener is in memory"),
                Err(_) => std::thread::yield_now(),
            }
        };
        while client.stats().connects == 0 {
            server.turn_at(now).unwrap();
        }
        let (far, server_end) = MemoryStream::pair();
        server.adopt_memory(server_end, Peer::Memory);
        let held_max = [3_000, 300_000][rng.below(2)];
        let mut simulation = Simulation {
            patience,
            rng,
            now,
            server,
            handlers,
            playing: Vec::new(),
            client: Some(client),
            relay: Relay::new(memory(*near), memory(far), held_max, grants),
            calls: Vec::new(),
            records: Vec::new(),
            loses_one_in: None,
        };
        while !reach.is_done() {
            simulation.turn(None);
        }
        simulation
    }

    /// One turn of both ends, and what the relay delivers and the pools do before it.
    fn turn(&mut self, mut rng: Option<&mut Rng>) {
        self.relay.step(rng.as_deref_mut());
        let workers = self.server.workers();
        let queues =
            [DetachedWorkers::run_pooled, DetachedWorkers::run_blocking, DetachedWorkers::run_callback];
        for run_next in queues {
            while rng.as_deref_mut().is_none_or(|rng| rng.one_in(3)) && run_next(workers) {}
        }
        self.server.turn_at(self.now).unwrap();
        self.server.check();
        self.playing.append(&mut self.handlers.0.lock().unwrap());
    }

    fn begin_call(&mut self) {
        let number = self.calls.len();
        let client = self.client.as_ref().expect("it is there until the end");
        let mut client = client.with_metadata("call", number.to_string().as_bytes()).unwrap();
        let has_deadline = self.rng.one_in(8);
        if has_deadline {
            // Half a second beside the steps of the clock, so that the time that a run takes decides nothing.
            client = client
                .with_deadline(self.now + Duration::from_millis(2_500 + 1_000 * self.rng.below(20) as u64));
        }
        let mut call =
            CallerSide { is_echo: false, sink: None, messages: None, reply: None, is_given_up: has_deadline };
        match self.rng.below(4) {
            0 => call.messages = client.server_stream::<Text, Text>(&WATCH, &String::new()).ok(),
            1 => {
                let (sink, reply) = client.client_stream::<Text, Count>(&UPLOAD).unwrap().split();
                (call.sink, call.reply) = (Some(sink), Some(reply));
            }
            is_echo => {
                call.is_echo = is_echo == 2;
                let method = if call.is_echo { &ECHO } else { &CHAT };
                let (sink, messages) = client.bidirectional::<Text, Text>(method).unwrap().split();
                (call.sink, call.messages) = (Some(sink), Some(messages));
            }
        }
        self.calls.push(call);
        self.records.push(CallRecord::default());
    }

    /// The caller of a call does something. In the end it only ends its messages, and takes what has come.
    fn play_caller(&mut self, number: usize, is_end: bool) {
        let (call, record) = (&mut self.calls[number], &mut self.records[number]);
        let what = if is_end { 20 + self.rng.below(3) } else { self.rng.below(24) };
        match what {
            0..9 => {
                let Some(sink) = &call.sink else { return };
                let text = message(number, record.caller_sent, &mut self.rng);
                match sink.try_send(&text) {
                    Ok(()) => record.caller_sent += 1,
                    Err(SinkError::NotReady) => {}
                    Err(SinkError::Ended(_)) => call.sink = None,
                    Err(error) => panic!("{error}"),
                }
            }
            // Now and then the caller gives up, in one way or another.
            9 if self.rng.one_in(6) => {
                call.is_given_up |= call.sink.take().is_some_and(|sink| sink.ended().is_none());
            }
            10 if self.rng.one_in(6) => {
                if let Some(sink) = call.sink.take() {
                    call.is_given_up = true;
                    sink.finish(Err(Status::aborted("the source has failed")));
                }
            }
            11 if self.rng.one_in(6) && (call.messages.is_some() || call.reply.is_some()) => {
                call.is_given_up = true;
                (call.messages, call.reply) = (None, None);
            }
            // Ends its messages.
            20 => {
                if let Some(sink) = call.sink.take_if(|_| is_end || self.rng.one_in(3)) {
                    record.has_finished = sink.ended().is_none();
                    sink.finish(Ok(()));
                }
            }
            // Takes messages and the result.
            _ => {
                if let Some(messages) = &mut call.messages {
                    match messages.try_next() {
                        Poll::Pending => {}
                        Poll::Ready(Some(Ok(text))) => {
                            assert_message(&text, number, &mut record.caller_received)
                        }
                        Poll::Ready(end) => {
                            let end = end.map_or(Ok(()), |error| Err(error.unwrap_err()));
                            assert!(record.caller_saw.replace(end).is_none(), "call {number} ends once");
                            call.messages = None;
                        }
                    }
                }
                if let Some(result) = call.reply.as_mut().and_then(InFlight::try_take) {
                    if let Ok(count) = result {
                        assert_eq!(count, record.answer_count, "the result of call {number}");
                    }
                    let end = result.map(drop).map_err(|error| Status::new(error.code(), error.to_string()));
                    assert!(record.caller_saw.replace(end).is_none(), "call {number} ends once");
                    call.reply = None;
                }
            }
        }
    }

    /// The handler of a call does something. In the end it takes what has come, and answers.
    fn play_handler(&mut self, at: usize, is_end: bool) {
        let handler = &mut self.playing[at];
        let number = handler.number;
        let record = &mut self.records[number];
        let what = if is_end { 12 + self.rng.below(9) } else { self.rng.below(24) };
        match what {
            0..9 => {
                let Some(sink) = &handler.sink else { return };
                let text = message(number, record.handler_sent, &mut self.rng);
                let is_lost = self.loses_one_in.is_some_and(|times| self.rng.one_in(times));
                match if is_lost { Ok(()) } else { sink.try_send(&text) } {
                    Ok(()) => record.handler_sent += 1,
                    Err(SinkError::NotReady) => {}
                    Err(SinkError::Ended(_)) => handler.sink = None,
                    Err(error) => panic!("{error}"),
                }
            }
            // Leaves without an answer, or does not want to know the rest.
            9 if self.rng.one_in(6) => {
                if handler.sink.take().is_some() || handler.reply.take().is_some() {
                    record.answer.get_or_insert(Err(Status::internal("dropped")));
                }
            }
            10 if self.rng.one_in(6) => handler.messages = None,
            11 if self.rng.one_in(6) => {
                answer(handler, record, Err(Status::out_of_range("the handler fails")))
            }
            20 if is_end || self.rng.one_in(4) => {
                // Waits for the caller's end, most of the time.
                if handler.messages.is_none() || !is_end && self.rng.one_in(8) {
                    answer(handler, record, Ok(()));
                }
            }
            _ => {
                let Some(messages) = &mut handler.messages else { return };
                match messages.try_next() {
                    Poll::Pending => {}
                    Poll::Ready(Some(Ok(text))) => {
                        assert_message(&text, number, &mut record.handler_received)
                    }
                    Poll::Ready(end) => {
                        let end = end.map_or(Ok(()), |error| Err(error.unwrap_err()));
                        if end.is_ok() {
                            assert!(record.has_finished, "call {number} was cut off, and looks complete");
                            let received = record.handler_received;
                            assert_eq!(received, record.caller_sent, "call {number} has lost messages");
                        }
                        assert!(record.handler_saw.replace(end).is_none(), "call {number} ends once");
                        handler.messages = None;
                    }
                }
            }
        }
    }

    /// Checks that streams end in time after their peer has fallen silent, and that a closed connection keeps nothing.
    fn check_silence(&mut self, since: Instant) {
        // Two steps of the clock: one until the ping, one until the close.
        let is_due = |ms: u64| self.now >= since + Duration::from_millis(ms + 20);
        let Patience { keepalive_ms, keepalive_timeout_ms, ping_ms } = self.patience;
        if is_due(2 * ping_ms) {
            let in_flight = self.client.as_ref().map_or(0, Client::in_flight);
            assert_eq!(in_flight, 0, "the calls of a silent server");
        }
        if is_due(keepalive_ms + keepalive_timeout_ms) {
            let (_, streams) = self.server.check();
            assert_eq!(streams, 0, "the streams of a silent client");
            let (connections, buffers) = self.server.held();
            assert!(connections > 0 || buffers == 0, "{buffers} buffers of a silent client");
        }
    }

    /// Checks a call that has ended for its caller.
    fn check_end(&self, number: usize, is_healthy: bool) {
        let (call, record) = (&self.calls[number], &self.records[number]);
        let Some(end) = &record.caller_saw else {
            assert!(call.is_given_up, "call {number} has no end");
            return;
        };
        match end {
            Ok(()) if call.is_echo => {
                assert!(record.has_finished, "call {number} was cut off, and looks complete");
                assert_eq!(record.caller_received, record.caller_sent, "call {number} has lost messages");
            }
            Ok(()) => {
                assert_eq!(record.answer, Some(Ok(())), "call {number} has succeeded");
                assert_eq!(record.caller_received, record.handler_sent, "call {number} has lost messages");
            }
            Err(_) if call.is_given_up || !is_healthy => {}
            // Without a fault only a handler makes a call fail.
            Err(status) => {
                let answer = record.answer.as_ref().and_then(|answer| answer.as_ref().err());
                assert_eq!(answer.map(|answer| answer.code), Some(status.code), "call {number}: {status}");
            }
        }
    }
}

/// The handler answers its call.
fn answer(handler: &mut HandlerSide, record: &mut CallRecord, end: End) {
    if let Some(sink) = handler.sink.take() {
        record.answer.get_or_insert(end.clone());
        sink.finish(end);
    } else if let Some(reply) = handler.reply.take() {
        record.answer.get_or_insert(end.clone());
        record.answer_count = record.handler_received;
        reply.send(end.map(|()| record.answer_count));
    }
}

/// The result of a run, for statistics and to compare two runs of a seed.
#[derive(Debug, PartialEq)]
struct Outcome {
    calls: usize,
    clean: usize,
    messages: u64,
    fault: &'static str,
    /// The server has closed the connection because its peer was silent.
    is_silence_noticed: bool,
    passed: u64,
}

const FAULTS: [&str; 14] = [
    "none",
    "none",
    "none",
    "none",
    "lost",
    "half closed",
    "drained",
    "aborted",
    "jumps",
    "silent",
    "frame delayed",
    "frame lost",
    "frame cut",
    "frame twice",
];

/// Returns what happens to a frame.
fn frame_fault(fault: &str, rng: &mut Rng) -> Option<FrameFault> {
    let kind = match fault {
        "frame delayed" => FrameFaultKind::Delayed(1 + rng.below(300)),
        "frame lost" => FrameFaultKind::Lost,
        "frame cut" => FrameFaultKind::Cut,
        "frame twice" => FrameFaultKind::Twice,
        _ => return None,
    };
    Some(FrameFault::new(kind, rng))
}

fn run(seed: u64, loses_one_in: Option<usize>) -> Outcome {
    let mut simulation = Simulation::new(seed);
    simulation.loses_one_in = loses_one_in;
    let sim = &mut simulation;
    // The generator of the connection, apart from that of the ends.
    let mut rng = Rng::new(!seed);
    let steps = 100 + rng.below(1_200);
    let fault = FAULTS[rng.below(FAULTS.len())];
    let fault_at = rng.below(steps);
    if let Some(fault) = frame_fault(fault, &mut rng) {
        sim.relay.set_fault(fault);
    }
    let calls_max = 1 + rng.below(30);
    let mut may_call = true;
    let mut silent_since = None;
    for step in 0..steps {
        if may_call && sim.calls.len() < calls_max && rng.one_in(6) {
            sim.begin_call();
        }
        for _ in 0..1 + rng.below(6) {
            if !sim.calls.is_empty() {
                let number = rng.below(sim.calls.len());
                sim.play_caller(number, false);
            }
            if !sim.playing.is_empty() {
                let at = rng.below(sim.playing.len());
                sim.play_handler(at, false);
            }
        }
        if rng.one_in(20) {
            sim.now += Duration::from_millis(1);
        }
        match fault {
            "jumps" if rng.one_in(100) => sim.now += Duration::from_secs([1, 12, 31][rng.below(3)]),
            "lost" if step == fault_at => sim.relay.lose(),
            "half closed" if step == fault_at => sim.relay.close_half(),
            "silent" if step == fault_at => {
                sim.relay.fall_silent();
                silent_since = Some(sim.now);
            }
            "drained" | "aborted" if step == fault_at => {
                sim.server.drain();
                may_call = false;
            }
            "aborted" if step == fault_at + 50 => sim.server.abort(),
            _ => {}
        }
        may_call &= !(sim.relay.is_cut() || fault == "half closed" && step >= fault_at);
        sim.turn(Some(&mut rng));
        // Another connection would be made on another thread: none is needed.
        may_call &= sim.server.held().0 == 1;
    }
    // Everything comes to its end, and nothing new begins.
    for round in 0.. {
        if round == 20_000 {
            let waits = sim.calls.iter().enumerate().filter(|(_, call)| !call.is_over());
            let waits: Vec<_> =
                waits.map(|(number, call)| (number, &sim.records[number], call.is_echo)).collect();
            let held = (sim.relay.is_lost(), sim.relay.held(), sim.server.check(), sim.server.held());
            panic!("the run does not end: {fault}, {held:?}, {waits:?}");
        }
        sim.turn(None);
        for number in 0..sim.calls.len() {
            sim.play_caller(number, true);
        }
        for at in 0..sim.playing.len() {
            sim.play_handler(at, true);
        }
        // Ends of calls that have failed.
        for call in &mut sim.calls {
            call.sink.take_if(|sink| sink.ended().is_some());
        }
        let is_over = sim.calls.iter().all(CallerSide::is_over);
        let in_flight = sim.client.as_ref().map_or(0, Client::in_flight);
        if let Some(since) = silent_since {
            sim.check_silence(since);
        }
        if is_over
            && in_flight == 0
            && sim.relay.is_empty()
            && (sim.relay.is_lost() || sim.server.check() == (0, 0))
        {
            break;
        }
        if fault != "none" {
            // A connection that has failed reads no more, and gives its calls some time.
            sim.now += Duration::from_millis(10);
        }
        if sim.relay.is_lost() {
            // A client that connects again does so on another thread: the calls that wait fail when it has failed.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // What has been sent meanwhile arrives.
    (0..8).for_each(|_| sim.turn(None));
    let is_silence_noticed = silent_since.is_some() && sim.server.held().0 == 0;
    // A frame that is late is no fault.
    let is_healthy = matches!(fault, "none" | "frame delayed");
    (0..sim.calls.len()).for_each(|number| sim.check_end(number, is_healthy));
    if is_healthy {
        assert!(!sim.relay.is_lost() && sim.server.held().0 == 1, "the connection lives");
        sim.relay.observer.assert_all_answered();
    }
    // The connection ends, and what it held returns. Handlers keep nothing.
    sim.playing.clear();
    let outcome = Outcome {
        calls: sim.calls.len(),
        clean: sim.records.iter().filter(|record| record.caller_saw == Some(Ok(()))).count(),
        messages: sim.records.iter().map(|record| record.caller_received + record.handler_received).sum(),
        fault,
        is_silence_noticed,
        passed: sim.relay.passed,
    };
    if silent_since.is_some() {
        // What the ends may keep for a peer that is silent, and has no streams.
        sim.relay.lose();
    }
    sim.client = None;
    for round in 0.. {
        assert!(round < 10_000, "the connection does not end");
        sim.turn(None);
        if sim.server.held() == (0, 0) {
            break;
        }
        sim.now += Duration::from_secs(1);
    }
    outcome
}

#[test]
fn streams_end_once_and_lose_nothing() {
    if let Some(seed) = number("SIM_SEED") {
        println!("seed {seed}: {:?}", run(seed, None));
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(300);
    let (mut calls, mut clean, mut messages) = (0, 0, 0);
    let (mut silent, mut noticed) = (0, 0);
    for seed in 0..seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, None))) {
            Ok(outcome) => {
                calls += outcome.calls;
                clean += outcome.clean;
                messages += outcome.messages;
                silent += u64::from(outcome.fault == "silent");
                noticed += u64::from(outcome.is_silence_noticed);
            }
            Err(panic) => {
                eprintln!(
                    "seed {seed} fails; alone: SIM_SEED={seed} cargo test --test simulation streams -- --nocapture"
                );
                resume_unwind(panic);
            }
        }
    }
    println!("{seeds} seeds: {calls} calls, {clean} of them ok, {messages} messages");
    println!("{silent} peers fell silent; {noticed} of their connections had streams and were closed");
    if seeds >= 300 {
        assert!(clean * 5 > calls && clean * 10 < calls * 9, "{clean} of {calls} calls end cleanly");
        assert!(noticed * 5 > silent, "{noticed} of {silent} silent peers were noticed");
    }
}

#[test]
fn the_same_seed_gives_the_same_streams() {
    for seed in 0..20 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
}

#[test]
fn a_message_that_is_lost_is_noticed() {
    let caught = (0..30).filter(|seed| catch_unwind(|| run(*seed, Some(10))).is_err()).count();
    assert!(caught > 10, "{caught} of 30 runs noticed");
}
