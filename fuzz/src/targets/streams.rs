//! Streaming calls: frames and actions of the application in any order, against the server's and the client's end of a
//! connection. The input is a list of steps of four bytes.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use coreloop::client::{Client, Driver, InFlight, MethodId, StreamCaller};
use coreloop::codec::{Codec, Plain};
use coreloop::config::Limits;
use coreloop::context::Peer;
use coreloop::message::method_hash;
use coreloop::server::DetachedServer;
use coreloop::service::{Kind, Method, Reply};
use coreloop::stream::{Sink, Stream, StreamEvent};
use coreloop::transport::{
    Address, BlockingMemory, BlockingTransport, Listener, MemoryStream, Transport, UnixSocketAccess,
};
use coreloop::{Server, Status};

type Text = Plain<String>;

/// Sizes of messages and numbers of credit: around the windows, and beyond every limit.
const SIZES: [u32; 8] = [0, 1, 33, 4_000, 30_000, 65_536, 1 << 20, (1 << 31) - 1];
/// The largest body that is sent.
const BODY_MAX: u32 = 70_000;
const METHODS: [&str; 6] = ["F.Watch", "F.Upload", "F.Chat", "F.Echo", "F.Each", "No.Method"];

/// One step of an input.
#[derive(Clone, Copy)]
struct Step([u8; 4]);

impl Step {
    fn size(self) -> u32 {
        SIZES[usize::from(self.0[3] % 8)]
    }

    fn id(self) -> u64 {
        u64::from(self.0[1] % 6)
    }

    /// Returns the frame of a kind for this step. The last byte decides on what is wrong with it.
    fn frame(self, kind: u8, codec: Codec) -> Vec<u8> {
        let Step([_, id, what, _]) = self;
        let mut frame = [0; 32];
        frame[..4].copy_from_slice(&[0x19, 0x96, 1, kind]);
        frame[4] = codec.number();
        frame[8] = id % 6;
        let body = match kind {
            0 | 2 => {
                let method = METHODS[usize::from(what % 6)];
                frame[16..20].copy_from_slice(&method_hash(method).to_le_bytes());
                frame[5] =
                    if what & 0x40 == 0 { u8::from(!method.ends_with("Watch")) << 1 } else { what >> 6 };
                // Sometimes with a deadline, in microseconds.
                frame[24..28].copy_from_slice(&(u32::from(what >> 3 & 1) * 3_000_000).to_le_bytes());
                if frame[5] & 2 == 0 { b"\"\"".to_vec() } else { Vec::new() }
            }
            8 => {
                frame[5] = if what < 16 { what } else { 0 };
                let text = "x".repeat(self.size().min(BODY_MAX) as usize);
                if what == 255 { text.into_bytes() } else { format!("\"{text}\"").into_bytes() }
            }
            9 if what < 250 => self.size().to_le_bytes().to_vec(),
            7 => {
                // Entries of the metadata: a key of 13 bytes, and a number.
                let value = self.size().to_string();
                let mut metadata = vec![13];
                metadata.extend_from_slice(b"stream-window");
                metadata.extend_from_slice(&(value.len() as u16).to_le_bytes());
                metadata.extend_from_slice(value.as_bytes());
                metadata.resize(metadata.len().next_multiple_of(8), 0);
                frame[6] = metadata.len() as u8;
                return [&frame[..], &metadata].concat();
            }
            1 => {
                frame[16] = if what & 1 == 0 { 0 } else { what % 18 };
                if what & 2 == 0 { Vec::new() } else { b"\"r\"".to_vec() }
            }
            _ => vec![0; usize::from(what / 64)],
        };
        frame[28..].copy_from_slice(&(body.len() as u32).to_le_bytes());
        [&frame[..], &body].concat()
    }
}

/// What a handler has left for later steps, or what a caller has.
#[derive(Default)]
struct Ends {
    messages: Option<Stream<String>>,
    sink: Option<Sink<String>>,
    reply: Option<Reply<String>>,
    result: Option<InFlight<Vec<u8>>>,
}

impl Ends {
    /// Does what the step asks for.
    fn act(&mut self, step: Step) {
        match step.0[2] % 8 {
            0..3 => {
                if let Some(sink) = &self.sink {
                    let _ = sink.try_send(&"y".repeat(step.size().min(BODY_MAX) as usize));
                }
            }
            3 => {
                if let Some(sink) = self.sink.take() {
                    sink.finish(if step.0[3] & 1 == 0 { Ok(()) } else { Err(Status::aborted("a step")) });
                } else if let Some(reply) = self.reply.take() {
                    reply.send(Ok("done".to_owned()));
                }
            }
            4 => (self.sink, self.reply) = (None, None),
            5 => (self.messages, self.result) = (None, None),
            _ => {
                if let Some(messages) = &mut self.messages
                    && matches!(messages.try_next(), Poll::Ready(None | Some(Err(_))))
                {
                    assert_eq!(messages.try_next(), Poll::Ready(None), "the end comes once");
                    self.messages = None;
                }
                self.result.take_if(|result| result.try_take().is_some());
            }
        }
    }
}

/// A bare end of a connection, whose other end a reactor drives.
struct Wire {
    end: BlockingTransport,
    /// What the reactor's side has not taken yet.
    unsent: Vec<u8>,
    received: Vec<u8>,
    /// The window of the connection for the reactor's messages, with what was granted in addition.
    window: i64,
}

impl Wire {
    fn new(stream: MemoryStream) -> Wire {
        let mut end = BlockingTransport::Memory(BlockingMemory::new(stream));
        end.set_nonblocking(true).unwrap();
        Wire { end, unsent: Vec::new(), received: Vec::new(), window: 1 << 20 }
    }

    /// Does what the step asks of the peer; `kinds` are the frames that it sends most. Returns whether the reactor has
    /// a turn then.
    fn act(&mut self, step: Step, kinds: [u8; 4]) -> bool {
        let mut send = |kind, codec| {
            let frame = step.frame(kind, codec);
            if kind == 9 && step.id() == 0 && frame.len() == 36 {
                self.window += i64::from(step.size());
            }
            self.unsent.extend(frame);
        };
        match step.0[0] % 16 {
            at @ 0..4 => send(kinds[usize::from(at)], Codec::Json),
            4 | 5 => send(9, Codec::Json),
            7 => send(step.0[3] % 14, Codec::Gob),
            8 => self.write(usize::from(step.0[1]) + 1),
            9 => {
                self.write(usize::MAX);
                return true;
            }
            12 => {
                for (kind, _, bytes) in self.read() {
                    if kind == 8 {
                        assert!(self.window > 0, "a message beyond the window of the connection");
                        self.window -= bytes;
                    }
                }
            }
            14 if step.0[1] == 7 => self.end.shutdown_write(),
            _ => return true,
        }
        false
    }

    /// Writes at most this many bytes.
    fn write(&mut self, max: usize) {
        let part = &self.unsent[..self.unsent.len().min(max)];
        let n = if part.is_empty() { 0 } else { self.end.write(part).unwrap_or(0) };
        self.unsent.drain(..n);
    }

    /// Reads what has come, and returns its whole frames: kind, id and length.
    fn read(&mut self) -> Vec<(u8, u64, i64)> {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = self.end.read(&mut bytes) {
            self.received.extend_from_slice(&bytes[..n]);
        }
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(header) = self.received.get(at..at + 32) {
            assert_eq!(header[..3], [0x19, 0x96, 1], "a frame begins here");
            let body = u32::from_le_bytes(header[28..].try_into().unwrap()) as usize;
            let bytes = 32 + usize::from(u16::from_le_bytes([header[6], header[7]])) + body;
            if self.received.len() - at < bytes {
                break;
            }
            let id = u64::from_le_bytes(header[8..16].try_into().unwrap());
            frames.push((header[3], id, bytes as i64));
            at += bytes;
        }
        self.received.drain(..at);
        frames
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.frame_bytes_max = 40_000;
    limits.streams_max = 4;
    limits.held_bytes_max = 100_000;
    limits
}

type Handlers = Arc<Mutex<Vec<Ends>>>;

struct ServerBench {
    server: DetachedServer,
    handlers: Handlers,
    now: Instant,
}

impl ServerBench {
    fn new() -> ServerBench {
        let handlers = Handlers::default();
        let keep = |handlers: &Handlers| {
            let handlers = handlers.clone();
            move |ends| handlers.lock().unwrap().push(ends)
        };
        let (watch, upload, chat) = (keep(&handlers), keep(&handlers), keep(&handlers));
        let methods = [
            Method::server_stream::<Text, Text>("F.Watch", move |_cx, _, sink| {
                watch(Ends { sink: Some(sink), ..Ends::default() });
                Ok(())
            }),
            Method::client_stream_deferring::<Text, Text>("F.Upload", move |_cx, messages, reply| {
                upload(Ends { messages: Some(messages), reply: Some(reply), ..Ends::default() });
            }),
            Method::bidirectional::<Text, Text>("F.Chat", move |_cx, messages, sink| {
                chat(Ends { messages: Some(messages), sink: Some(sink), ..Ends::default() });
                Ok(())
            }),
            Method::bidirectional::<Text, Text>("F.Echo", |_cx, messages, sink| {
                messages.for_each_message_into(sink, |sink, event| match event {
                    StreamEvent::Message(text) => {
                        if let Err(error) = sink.try_send(&text) {
                            sink.finish(Err(error.into()));
                        }
                    }
                    StreamEvent::End(result) => sink.finish(result),
                });
                Ok(())
            }),
            Method::client_stream_deferring::<Text, Text>("F.Each", |_cx, messages, reply| {
                let mut reply = Some(reply);
                messages.for_each_message(move |event| {
                    if let StreamEvent::End(result) = event {
                        reply.take().expect("the end comes once").send(result.map(|()| String::new()));
                    }
                });
            }),
        ];
        let mut builder = Server::builder().cores(1).workers(1).configure(|config| config.limits = limits());
        for method in methods {
            builder = builder.method_of(method.unwrap().kind(Kind::Inline));
        }
        ServerBench { server: DetachedServer::new(builder).unwrap(), handlers, now: Instant::now() }
    }

    fn turn(&mut self) {
        self.server.turn_at(self.now).unwrap();
        self.server.check();
    }

    fn run(&mut self, steps: &[Step]) {
        let (near, far) = MemoryStream::pair();
        self.server.adopt_memory(far, Peer::Memory);
        let mut wire = Wire::new(near);
        for step in steps {
            match step.0[0] % 16 {
                6 => wire.unsent.extend(step.frame(3, Codec::Json)),
                10 | 11 => {
                    let mut handlers = std::mem::take(&mut *self.handlers.lock().unwrap());
                    if !handlers.is_empty() {
                        let at = usize::from(step.0[1]) % handlers.len();
                        handlers[at].act(*step);
                    }
                    // Callbacks may have begun others.
                    self.handlers.lock().unwrap().append(&mut handlers);
                }
                13 if step.0[1] == 7 => self.now += Duration::from_secs(u64::from(step.0[2] % 40)),
                _ if wire.act(*step, [0, 8, 8, 11]) => self.turn(),
                _ => {}
            }
        }
        wire.write(usize::MAX);
        self.turn();
        drop(wire);
        for round in 0.. {
            self.turn();
            let ends = std::mem::take(&mut *self.handlers.lock().unwrap());
            drop(ends);
            if self.server.held() == (0, 0) {
                break;
            }
            self.now += Duration::from_secs(1);
            assert!(round < 100, "the connection, or a buffer of it, stays");
        }
    }
}

struct ClientBench {
    /// The reactor that drives the client.
    reactor: DetachedServer,
    driver: Driver,
    now: Instant,
}

impl ClientBench {
    fn new() -> ClientBench {
        let reactor = DetachedServer::new(Server::builder().cores(1).workers(1)).unwrap();
        let driver = Driver::on(&reactor.roles()).unwrap();
        ClientBench { reactor, driver, now: Instant::now() }
    }

    fn turn(&mut self) {
        // The end of a connection reads the real clock, which must not be ahead.
        self.now = self.now.max(Instant::now());
        self.reactor.turn_at(self.now).unwrap();
    }

    fn call(client: &Client, shape: u8) -> Ends {
        let mut ends = Ends::default();
        match shape % 3 {
            0 => ends.messages = client.server_stream::<Text, Text>(&WATCH, &String::new()).ok(),
            1 => ends.result = Some(client.start_bytes("F.Unary", Codec::Json, b"\"\"")),
            _ => {
                if let Ok(chat) = client.bidirectional::<Text, Text>(&CHAT) {
                    let (sink, messages) = chat.split();
                    (ends.sink, ends.messages) = (Some(sink), Some(messages));
                }
            }
        }
        ends
    }

    fn run(&mut self, steps: &[Step]) {
        let listener =
            Listener::bind(&"memory:0".parse::<Address>().unwrap(), &UnixSocketAccess::default()).unwrap();
        let builder = Client::builder(listener.local().unwrap().to_string()).on(&self.driver);
        let builder = builder.configure(|config| {
            (config.streams_max, config.frame_bytes_max, config.held_bytes_max) = (4, 40_000, 100_000);
        });
        let client = builder.build().unwrap().with_codec(Codec::Json);
        let connects = self.driver.stats().connects;
        let mut calls = vec![ClientBench::call(&client, 2)];
        let near = loop {
            self.turn();
            match listener.accept() {
                Ok((Transport::Memory(near), _)) => break near,
                Ok(_) => unreachable!("the listener is in memory"),
                Err(_) => std::thread::yield_now(),
            }
        };
        // What dials again has an error.
        drop(listener);
        while self.driver.stats().connects == connects {
            self.turn();
        }
        let mut wire = Wire::new(*near);
        for step in steps {
            match step.0[0] % 16 {
                6 if calls.len() < 8 => calls.push(ClientBench::call(&client, step.0[1])),
                10 | 11 => {
                    let at = usize::from(step.0[1]) % calls.len();
                    calls[at].act(*step);
                }
                13 if step.0[1] == 7 => self.now += Duration::from_secs(u64::from(step.0[2] % 40)),
                _ if wire.act(*step, [1, 8, 8, 10]) => self.turn(),
                _ => {}
            }
        }
        wire.write(usize::MAX);
        self.turn();
        // Every call ends with its connection: its caller sees one end.
        drop(wire);
        for call in &mut calls {
            call.sink = None;
        }
        for round in 0.. {
            self.turn();
            for call in &mut calls {
                // Takes.
                call.act(Step([0, 0, 7, 0]));
            }
            if client.in_flight() == 0
                && calls.iter().all(|call| call.messages.is_none() && call.result.is_none())
            {
                break;
            }
            let ended: Vec<_> =
                calls.iter().map(|call| (call.messages.is_none(), call.result.is_none())).collect();
            assert!(round < 3000, "a call does not end: {} in flight, {ended:?}", client.in_flight());
            if round > 10 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        drop(client);
        (0..4).for_each(|_| self.turn());
    }
}

static WATCH: MethodId = MethodId::new("F.Watch");
static CHAT: MethodId = MethodId::new("F.Chat");

thread_local! {
    static SERVER: RefCell<Option<ServerBench>> = const { RefCell::new(None) };
    static CLIENT: RefCell<Option<ClientBench>> = const { RefCell::new(None) };
}

fn steps(input: &[u8]) -> Vec<Step> {
    input.chunks_exact(4).map(|step| Step([step[0], step[1], step[2], step[3]])).take(200).collect()
}

/// Frames of any kind to a server with streaming methods, and what its handlers do.
pub fn streams_server(input: &[u8]) {
    SERVER.with_borrow_mut(|bench| bench.get_or_insert_with(ServerBench::new).run(&steps(input)));
}

/// Frames of any kind to a client with streaming calls, and what its callers do.
pub fn streams_client(input: &[u8]) {
    CLIENT.with_borrow_mut(|bench| bench.get_or_insert_with(ClientBench::new).run(&steps(input)));
}
