//! How streaming calls end: each fault at each step of each shape, as the caller and the handler see it.

use std::any::Any;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use coreloop::client::{Client, InFlight, MethodId, StreamCaller};
use coreloop::codec::{Codec, Plain};
use coreloop::service::{Kind, Method};
use coreloop::stream::{Sink, SinkError, Stream};
use coreloop::{Code, Context, Server};

use crate::common::{PATIENCE, eventually};

type Text = Plain<String>;

static WATCH: MethodId = MethodId::new("Ends.Watch");
static UPLOAD: MethodId = MethodId::new("Ends.Upload");
static CHAT: MethodId = MethodId::new("Ends.Chat");

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Watch,
    Upload,
    Chat,
}

/// How far the call is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Its handler has begun.
    Begun,
    /// Each side that sends has sent a message.
    Sent,
    /// The caller has ended its messages.
    Ended,
    /// Each side that sends waits for credit.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Cancel,
    Deadline,
    Drain,
    Reset,
}

/// The code that the caller gets.
const fn code_of(fault: Fault) -> Code {
    match fault {
        Fault::Cancel => Code::Cancelled,
        Fault::Deadline => Code::DeadlineExceeded,
        Fault::Drain | Fault::Reset => Code::Unavailable,
    }
}

/// Sends until the peer takes no more.
fn fill(sink: &Sink<String>) {
    let text = "x".repeat(30_000);
    loop {
        match sink.try_send(&text) {
            Ok(()) => {}
            Err(SinkError::NotReady) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A server whose handlers keep what they get, and report that their calls have ended.
struct Holder {
    server: Server,
    begun: Receiver<()>,
    ended: Receiver<Option<Code>>,
}

impl Holder {
    fn start(step: Step) -> Holder {
        let (begun_tx, begun) = mpsc::channel();
        let (ended_tx, ended) = mpsc::channel();
        let kept: Arc<Mutex<Vec<Box<dyn Any + Send>>>> = Arc::default();
        let hold = {
            let (begun, ended, kept) = (begun_tx.clone(), ended_tx.clone(), kept.clone());
            move |sink: Sink<String>, messages: Option<Stream<String>>| {
                match step {
                    Step::Begun => {}
                    Step::Sent | Step::Ended => sink.try_send(&"first".to_owned())?,
                    Step::Full => fill(&sink),
                }
                let sink = Arc::new(sink);
                let (held, ended) = (sink.clone(), ended.clone());
                sink.on_cancel(move || {
                    let _ = ended.send(held.ended().map(|status| status.code));
                });
                kept.lock().unwrap().push(Box::new((sink, messages)));
                let _ = begun.send(());
                Ok(())
            }
        };
        let hold_chat = hold.clone();
        let watch = Method::server_stream::<Text, Text>("Ends.Watch", move |_cx, _, sink| hold(sink, None));
        let chat = Method::bidirectional::<Text, Text>("Ends.Chat", move |_cx, messages, sink| {
            hold_chat(sink, Some(messages))
        });
        let upload =
            Method::client_stream_deferring::<Text, Text>("Ends.Upload", move |_cx, messages, reply| {
                let ended = ended_tx.clone();
                reply.on_cancel(move || {
                    let _ = ended.send(None);
                });
                kept.lock().unwrap().push(Box::new((messages, reply)));
                let _ = begun_tx.send(());
            });
        let mut builder = Server::builder()
            .cores(1)
            .workers(1)
            .configure(|config| config.limits.drain_ms = 50)
            .method("Unary.Double", |_cx: &Context<'_>, n: i64| Ok(n * 2));
        for method in [watch, upload, chat] {
            builder = builder.method_of(method.unwrap().kind(Kind::Inline));
        }
        Holder { server: builder.listen("127.0.0.1:0").start().unwrap(), begun, ended }
    }
}

/// Forwards one connection until it is cut.
struct Proxy {
    address: String,
    sockets: Receiver<([TcpStream; 2], [JoinHandle<()>; 2])>,
}

impl Proxy {
    fn start(to: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sockets_tx, sockets) = mpsc::channel();
        thread::spawn(move || {
            let (near, _) = listener.accept().unwrap();
            let far = TcpStream::connect(to).unwrap();
            let threads = [(&near, &far), (&far, &near)].map(|(from, to)| {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(n @ 1..) = from.read(&mut bytes) {
                        if to.write_all(&bytes[..n]).is_err() {
                            return;
                        }
                    }
                })
            });
            let _ = sockets_tx.send(([near, far], threads));
        });
        Proxy { address, sockets }
    }

    /// Resets the connection on both sides.
    fn reset(&self) {
        let (sockets, threads) = self.sockets.recv_timeout(PATIENCE).unwrap();
        for socket in &sockets {
            socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
            // Ends the thread that reads it, and says nothing to the peer.
            let _ = socket.shutdown(Shutdown::Read);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(sockets);
    }
}

struct Ends {
    sink: Option<Sink<String>>,
    messages: Option<Stream<String>>,
    reply: Option<InFlight<String>>,
}

fn begin(client: &Client, shape: Shape) -> Ends {
    match shape {
        Shape::Watch => {
            let messages = client.server_stream::<Text, Text>(&WATCH, &String::new()).unwrap();
            Ends { sink: None, messages: Some(messages), reply: None }
        }
        Shape::Upload => {
            let (sink, reply) = client.client_stream::<Text, Text>(&UPLOAD).unwrap().split();
            Ends { sink: Some(sink), messages: None, reply: Some(reply) }
        }
        Shape::Chat => {
            let (sink, messages) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
            Ends { sink: Some(sink), messages: Some(messages), reply: None }
        }
    }
}

fn check(shape: Shape, step: Step, fault: Fault) {
    let case = format!("{shape:?}, {step:?}, {fault:?}");
    let holder = Holder::start(step);
    let address = holder.server.addresses()[0].to_string();
    let proxy = (fault == Fault::Reset).then(|| Proxy::start(address.clone()));
    let plain = Client::connect(proxy.as_ref().map_or(&address, |proxy| &proxy.address)).unwrap();
    let client = match fault {
        // Long enough for what precedes it, on a busy machine, too.
        Fault::Deadline => plain.with_timeout(Duration::from_secs(1)),
        Fault::Cancel | Fault::Drain | Fault::Reset => plain.clone(),
    };
    let mut ends = begin(&client, shape);
    holder.begun.recv_timeout(PATIENCE).expect(&case);
    if let Some(sink) = &ends.sink {
        match step {
            Step::Begun => {}
            Step::Sent => sink.try_send(&"one".to_owned()).expect(&case),
            Step::Ended => sink.finish(Ok(())),
            Step::Full => fill(sink),
        }
    }
    let is_answered_by_stream = step != Step::Begun && ends.messages.is_some();
    if is_answered_by_stream && step != Step::Full {
        assert_eq!(ends.messages.as_mut().unwrap().next(), Some(Ok("first".to_owned())), "{case}");
    }
    let mut server = Some(holder.server);
    match fault {
        Fault::Cancel => (ends.messages, ends.reply) = (None, None),
        Fault::Deadline => {}
        Fault::Drain => drop(server.take().unwrap().shutdown()),
        Fault::Reset => proxy.iter().for_each(Proxy::reset),
    }
    // The caller: one end, with an error, after what was received before.
    if let Some(messages) = &mut ends.messages {
        let end = messages.by_ref().find_map(Result::err).unwrap_or_else(|| panic!("{case}: a clean end"));
        assert_eq!(end.code, code_of(fault), "{case}: {end}");
        assert_eq!(messages.next(), None, "{case}");
    }
    if let Some(reply) = &mut ends.reply {
        let error = reply.wait_timeout(PATIENCE).expect(&case).unwrap_err();
        assert_eq!(error.code(), code_of(fault), "{case}: {error}");
    }
    if let Some(sink) = &ends.sink {
        eventually(&case, || sink.ended().is_some());
        let error = sink.try_send(&"late".to_owned()).unwrap_err();
        let SinkError::Ended(status) = error else { panic!("{case}: {error}") };
        let expected = if step == Step::Ended { Code::FailedPrecondition } else { code_of(fault) };
        assert_eq!(status.code, expected, "{case}: {status}");
    }
    // The handler: once.
    let seen = holder.ended.recv_timeout(PATIENCE).expect(&case);
    match (seen, fault) {
        // The caller's own deadline may come before the server's.
        (Some(code), Fault::Deadline) => {
            assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{case}: {code:?}");
        }
        (Some(code), Fault::Drain) => assert_eq!(code, Code::Unavailable, "{case}"),
        (Some(code), Fault::Cancel | Fault::Reset) => assert_eq!(code, Code::Cancelled, "{case}"),
        (None, _) => assert_eq!(shape, Shape::Upload, "{case}"),
    }
    eventually(&case, || client.in_flight() == 0);
    assert!(holder.ended.try_recv().is_err(), "{case}: a handler learns one end");
    if server.is_some() && fault != Fault::Reset {
        assert_eq!(plain.call_bytes("Unary.Double", Codec::Json, b"4").unwrap(), b"8", "{case}");
        assert_eq!(plain.stats().connects, 1, "{case}");
    }
}

const SHAPES: [Shape; 3] = [Shape::Watch, Shape::Upload, Shape::Chat];
const STEPS: [Step; 4] = [Step::Begun, Step::Sent, Step::Ended, Step::Full];

fn check_all(fault: Fault) {
    thread::scope(|scope| {
        for shape in SHAPES {
            scope.spawn(move || STEPS.into_iter().for_each(|step| check(shape, step, fault)));
        }
    });
}

#[test]
fn a_cancelled_call_ends_at_each_step() {
    check_all(Fault::Cancel);
}

#[test]
fn a_late_call_ends_at_each_step() {
    check_all(Fault::Deadline);
}

#[test]
fn a_call_ends_with_the_drain_at_each_step() {
    check_all(Fault::Drain);
}

#[test]
fn a_call_ends_with_its_connection_at_each_step() {
    check_all(Fault::Reset);
}
