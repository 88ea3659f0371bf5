//! Tests of sinks, streams and broadcast against a reactor that only keeps what is posted.

mod broadcast;
mod callers;
mod messages;
mod sinks;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use coreloop_poller::Key;

use super::sink::EncodeMessage;
use super::*;
use crate::codec::{ArgumentEncode, CodecError, Plain};
use crate::conn::streams::{STREAM_WINDOW_BYTES, StreamTable, StreamWindows};
use crate::context::{CompletionSink, Context, ContextParts, Deferral, DeferredReply, Peer, Scope};
use crate::message::Metadata;
use crate::threads::{ThreadRole, set_role};

/// A reactor that keeps what is posted to it.
#[derive(Default)]
struct TestPort {
    commands: Mutex<Vec<StreamCommand>>,
    tasks: Mutex<Vec<Arc<dyn ReactorTask>>>,
    callbacks: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    answers: Mutex<Vec<DeferredReply>>,
    tasks_posted: AtomicUsize,
}

impl StreamPort for TestPort {
    fn post(&self, command: StreamCommand) {
        self.commands.lock().unwrap().push(command);
    }

    fn post_here(&self, command: StreamCommand) -> Result<(), StreamCommand> {
        Err(command)
    }

    fn run_callback(&self, callback: Box<dyn FnOnce() + Send>) {
        self.callbacks.lock().unwrap().push(callback);
    }

    fn run_task(&self, task: Arc<dyn ReactorTask>) {
        self.tasks_posted.fetch_add(1, Ordering::Relaxed);
        self.tasks.lock().unwrap().push(task);
    }
}

/// A call that counts its cancellations.
#[derive(Default)]
struct CountedCancels(AtomicUsize);

impl CountedCancels {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl CallHandle for CountedCancels {
    fn cancel(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl CompletionSink for TestPort {
    fn late(&self, late: DeferredReply) {
        self.answers.lock().unwrap().push(late);
    }
}

impl TestPort {
    /// Runs the tasks of the reactor once each; returns the number.
    fn run_tasks_once(&self) -> usize {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        let count = tasks.len();
        for task in tasks {
            if task.clone().run() {
                self.tasks.lock().unwrap().push(task);
            }
        }
        count
    }

    /// Runs the callbacks of the pool; returns the number.
    fn run_callbacks(&self) -> usize {
        let callbacks = std::mem::take(&mut *self.callbacks.lock().unwrap());
        let count = callbacks.len();
        callbacks.into_iter().for_each(|callback| callback());
        count
    }

    /// Runs all tasks, and returns what was posted in words: connection, action; then the answers.
    fn told(&self) -> Vec<String> {
        while self.run_tasks_once() > 0 {}
        let mut told: Vec<String> = std::mem::take(&mut *self.commands.lock().unwrap())
            .into_iter()
            .map(|command| {
                let connection = command.address.connection.slot();
                match command.action {
                    StreamAction::Send(message) => {
                        let compressed = if message.compressed { " compressed" } else { "" };
                        format!("{connection} send {}{compressed}", String::from_utf8_lossy(&message.body))
                    }
                    StreamAction::Headers(headers) => format!("{connection} headers {:?}", headers.view()),
                    StreamAction::Taken(bytes) => format!("{connection} taken {bytes}"),
                    StreamAction::End => format!("{connection} end"),
                    StreamAction::Break(status) => format!("{connection} break {status}"),
                }
            })
            .collect();
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        told.extend(answers.into_iter().map(|answer| {
            let connection = answer.key.slot();
            match answer.result {
                Ok(_) => format!("{connection} ok"),
                Err(status) => format!("{connection} {status}"),
            }
        }));
        told
    }
}

fn encode_text(text: &String, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if codec == Codec::Raw {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    <Plain<String> as ArgumentEncode>::encode(text, codec, out)
}

fn decode_text(codec: Codec, body: &[u8]) -> Result<String, CodecError> {
    if codec == Codec::Raw {
        return Ok(String::from_utf8_lossy(body).into_owned());
    }
    crate::codec::decode(codec, body)
}

/// What a test decides about a call.
#[derive(Clone)]
struct TestCall {
    port: Arc<TestPort>,
    gate: Arc<Gate>,
    connection: u32,
    codec: Codec,
    compresses: bool,
    is_inline: bool,
    message_bytes_max: usize,
    report_bytes: u64,
}

impl TestCall {
    fn new() -> TestCall {
        TestCall::of(&Arc::default(), 1)
    }

    fn of(port: &Arc<TestPort>, connection: u32) -> TestCall {
        TestCall {
            port: port.clone(),
            gate: Arc::default(),
            connection,
            codec: Codec::Raw,
            compresses: false,
            is_inline: false,
            message_bytes_max: 1 << 20,
            report_bytes: 4096,
        }
    }

    fn inline() -> TestCall {
        TestCall { is_inline: true, ..TestCall::new() }
    }

    fn origin(&self) -> StreamOrigin {
        let mut table = StreamTable::new(StreamWindows { stream_bytes: 0, connection_bytes: 0 });
        let (stream, _) = table.open(1, true, true, |_| ());
        StreamOrigin {
            port: self.port.clone(),
            address: StreamAddress { connection: Key::new(self.connection, 1), stream }.into(),
            caller: None,
            codec: self.codec,
            rules: ValueRules::default(),
            compresses: self.compresses,
            message_bytes_max: self.message_bytes_max,
            report_bytes: self.report_bytes,
            is_inline: self.is_inline,
        }
    }

    /// A sink whose handler runs, with the given credit.
    fn sink(&self, credit: u32) -> (Sink<String>, Arc<SinkLink>, HandlerEnd) {
        let link = SinkLink::new(self.origin(), self.gate.clone(), STREAM_WINDOW_BYTES);
        let completions: Arc<dyn CompletionSink> = self.port.clone();
        let scope = Arc::new(Scope::default());
        let key = Key::new(self.connection, 1);
        let deferral = Deferral { sink: &completions, key, slot: 3, batch: 4, codec: 0, queue_us: 0 };
        let context = Context::new(ContextParts {
            method: "A.B",
            began: Instant::now(),
            deadline: None,
            metadata: Metadata::default(),
            peer: &Peer::Unix,
            scope: &scope,
            place: 0,
            deferral: Some(&deferral),
            extensions: None,
        });
        let ticket = context.take_ticket().unwrap();
        let (sink, end) = Sink::begin(link.clone(), ticket, encode_text as EncodeMessage<String>, false);
        link.set_balance(credit);
        (sink, link, end)
    }

    /// A sink whose handler has returned.
    fn open_sink(&self, credit: u32) -> (Sink<String>, Arc<SinkLink>) {
        let (sink, link, end) = self.sink(credit);
        end.returned(Ok(()));
        (sink, link)
    }

    /// Both ends of a caller's call that is not sent yet, and how often it was cancelled.
    #[allow(clippy::type_complexity, reason = "each test takes it apart")]
    fn for_caller(
        &self,
    ) -> (Sink<String>, Arc<SinkLink>, Stream<String>, Arc<IncomingLink>, Arc<CountedCancels>) {
        let call = Arc::new(CountedCancels::default());
        let origin = StreamOrigin { address: OnceLock::new(), caller: Some(call.clone()), ..self.origin() };
        let (link, incoming) = (SinkLink::for_caller(origin.clone()), IncomingLink::new(origin));
        let sink = Sink::for_caller(link.clone(), encode_text as EncodeMessage<String>);
        (sink, link, Stream::new(incoming.clone(), decode_text), incoming, call)
    }

    fn stream(&self) -> (Stream<String>, Arc<IncomingLink>) {
        let link = IncomingLink::new(self.origin());
        (Stream::new(link.clone(), decode_text), link)
    }
}

/// Runs the function as a reactor's thread does.
fn on_reactor<R>(run: impl FnOnce() -> R) -> R {
    set_role(ThreadRole::Reactor);
    let result = run();
    set_role(ThreadRole::Free);
    result
}

/// Pushes a message; returns the bytes that were taken at once.
fn push(link: &Arc<IncomingLink>, text: &str) -> u32 {
    let frame_bytes = text.len() as u32 + 32;
    match link.push(text.as_bytes(), false, frame_bytes) {
        Pushed::Queued => 0,
        Pushed::Taken => frame_bytes,
        Pushed::Broken(status) => panic!("{status}"),
    }
}

/// A list that callbacks write to.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}
