//! Streaming calls of a client against the crate's server: each shape, each way to wait, each way to end.

use std::pin::pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;

use coreloop::client::{CallError, Client, Driver, MethodId, StreamCaller};
use coreloop::codec::{Codec, Plain};
use coreloop::config::Limits;
use coreloop::service::{Kind, Method};
use coreloop::stream::{Broadcast, Sink, SinkError, SlowSubscriber, Stream, StreamEvent};
use coreloop::{Code, Context, Server, Status};

use crate::common::raw_server::unused_address;
use crate::common::{PATIENCE, eventually};

static COUNT: MethodId = MethodId::new("Stream.Count");
static SUM: MethodId = MethodId::new("Stream.Sum");
static CHAT: MethodId = MethodId::new("Stream.Chat");
static WATCH: MethodId = MethodId::new("Stream.Watch");
static TAKE_ONE: MethodId = MethodId::new("Stream.TakeOne");
static HOLD: MethodId = MethodId::new("Stream.Hold");

type Numbers = Plain<i64>;
type Text = Plain<String>;

/// Sends each message back.
fn echo(_cx: &Context<'_>, messages: Stream<String>, sink: Sink<String>) -> Result<(), Status> {
    messages.for_each_message_into(sink, |sink, event| match event {
        StreamEvent::Message(text) => {
            if let Err(error) = sink.try_send(&text) {
                sink.finish(Err(error.into()));
            }
        }
        StreamEvent::End(result) => sink.finish(result),
    });
    Ok(())
}

struct StreamServer {
    server: Server,
    /// How each call of `Watch` and `Hold` was seen to end by its handler.
    ends: Receiver<Status>,
}

impl StreamServer {
    fn start(change: impl FnOnce(&mut Limits)) -> StreamServer {
        let (ends_tx, ends) = mpsc::channel();
        let hold_ends = ends_tx.clone();
        let count = Method::server_stream::<Numbers, Numbers>("Stream.Count", |_cx, to, sink| {
            for number in 1..=to.abs() {
                sink.send(&number)?;
            }
            if to < 0 { Err(Status::out_of_range("n out of range")) } else { Ok(()) }
        });
        let sum = Method::client_stream::<Numbers, Numbers>("Stream.Sum", |_cx, numbers| numbers.sum());
        let chat = Method::bidirectional::<Text, Text>("Stream.Chat", echo);
        let watch = Method::server_stream::<Numbers, Numbers>("Stream.Watch", move |_cx, first, sink| {
            watch(first, Arc::new(sink), ends_tx.clone())
        });
        let take_one = Method::client_stream::<Numbers, Numbers>("Stream.TakeOne", |_cx, mut numbers| {
            numbers.next().unwrap_or(Ok(0))
        });
        // Takes nothing until the caller has ended.
        let hold = Method::client_stream_deferring::<Numbers, Numbers>("Stream.Hold", {
            move |_cx, numbers, reply| {
                let (ends, mut reply) = (hold_ends.clone(), Some(reply));
                numbers.for_each_message(move |event| {
                    if let StreamEvent::End(result) = event {
                        let _ = ends.send(result.err().unwrap_or_else(|| Status::new(Code::Ok, "")));
                        drop(reply.take());
                    }
                });
            }
        });
        let server = Server::builder()
            .cores(1)
            .workers(1)
            .configure(|config| change(&mut config.limits))
            .method_of(count.unwrap().kind(Kind::Blocking))
            .method_of(sum.unwrap().kind(Kind::Blocking))
            .method_of(chat.unwrap().kind(Kind::Inline))
            .method_of(watch.unwrap().kind(Kind::Inline))
            .method_of(take_one.unwrap().kind(Kind::Blocking))
            .method_of(hold.unwrap().kind(Kind::Inline))
            .method("Unary.Double", |_cx: &Context<'_>, n: i64| Ok(n * 2))
            .listen("127.0.0.1:0")
            .start()
            .unwrap();
        StreamServer { server, ends }
    }

    fn address(&self) -> String {
        self.server.addresses()[0].to_string()
    }

    fn client(&self) -> Client {
        Client::connect(self.address()).unwrap()
    }
}

/// Sends one number and keeps the stream open.
fn watch(first: i64, sink: Arc<Sink<i64>>, ends: Sender<Status>) -> Result<(), Status> {
    sink.try_send(&first)?;
    let held = sink.clone();
    sink.on_cancel(move || {
        let _ = ends.send(held.ended().unwrap());
    });
    Ok(())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(PATIENCE),
        }
    }
}

#[test]
fn each_shape_works_with_threads_that_wait() {
    let rig = StreamServer::start(|_| {});
    let client = rig.client();
    let numbers = client.server_stream::<Numbers, Numbers>(&COUNT, &50_000).unwrap();
    let numbers: Vec<i64> = numbers.collect::<Result<_, _>>().unwrap();
    assert!(numbers.len() == 50_000 && numbers.iter().zip(1..).all(|(number, expected)| *number == expected));

    let upload = client.client_stream::<Numbers, Numbers>(&SUM).unwrap();
    for number in 1..=50_000 {
        upload.messages().send(&number).unwrap();
    }
    assert_eq!(upload.finish().unwrap(), 50_000 * 50_001 / 2);

    let (sink, replies) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..20_000 {
                sink.send(&number.to_string()).unwrap();
            }
            sink.finish(Ok(()));
        });
        let mut next = 0;
        for text in replies {
            assert_eq!(text.unwrap(), next.to_string());
            next += 1;
        }
        assert_eq!(next, 20_000);
    });
    assert_eq!((client.in_flight(), client.stats().connects), (0, 1));
}

#[test]
fn each_codec_and_compression_carry_streams() {
    let rig = StreamServer::start(|_| {});
    let long = "a long text, ".repeat(1000);
    for codec in [Codec::Json, Codec::Compact, Codec::MessagePack, Codec::Gob] {
        for compresses in [false, true] {
            if !codec.is_compiled_in() || compresses && !cfg!(feature = "lz4") {
                continue;
            }
            let client = rig.client().with_codec(codec).with_compression(compresses);
            let mut chat = client.bidirectional::<Text, Text>(&CHAT).unwrap();
            for text in ["", "é世", &long] {
                chat.messages().send(&text.to_owned()).unwrap();
                assert_eq!(chat.replies().next().unwrap().unwrap(), text, "{codec} {compresses}");
            }
            chat.messages().finish(Ok(()));
            assert_eq!(chat.replies().next(), None);
            let upload = client.client_stream::<Numbers, Numbers>(&SUM).unwrap();
            upload.messages().send(&7).unwrap();
            assert_eq!(upload.finish().unwrap(), 7);
        }
    }
}

#[test]
fn callbacks_run_on_the_thread_of_the_client() {
    let rig = StreamServer::start(|_| {});
    let client = rig.client();
    let (sink, replies) = client.bidirectional::<Numbers, Numbers>(&CHAT_NUMBERS).unwrap().split();
    drop((sink, replies));
    let (sink, replies) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
    let (seen_tx, seen) = mpsc::channel();
    // Sends the next number when the echo of the one before has come, then ends.
    let sink = Arc::new(sink);
    let sender = sink.clone();
    replies.for_each_message(move |event| match event {
        StreamEvent::Message(text) => {
            assert_eq!(std::thread::current().name(), Some("coreloop-client"));
            // A callback must not wait.
            assert_eq!(sender.send(&text), Err(SinkError::MustNotBlock));
            match text.parse::<u32>().unwrap() {
                1000 => sender.finish(Ok(())),
                number => sender.try_send(&(number + 1).to_string()).unwrap(),
            }
        }
        StreamEvent::End(result) => seen_tx.send(result).unwrap(),
    });
    let first = sink.clone();
    sink.on_ready(move || first.try_send(&"1".to_owned()).unwrap());
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), Ok(()));
}

/// No such method: the call ends with an error, whatever its caller does.
static CHAT_NUMBERS: MethodId = MethodId::new("Stream.Missing");

#[test]
fn a_future_waits_for_messages_and_for_readiness() {
    let rig = StreamServer::start(|_| {});
    let client = rig.client();
    block_on(async {
        let (sink, mut replies) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
        let text = "x".repeat(10_000);
        let mut sent = 0;
        for taken in 0..200 {
            // Never more than eight ahead of what was taken.
            while sent < 200 && sent < taken + 8 {
                match sink.try_send(&text) {
                    Ok(()) => sent += 1,
                    Err(SinkError::NotReady) => sink.ready().await,
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(replies.next_message().await.unwrap().unwrap().len(), 10_000);
        }
        sink.finish(Ok(()));
        assert!(replies.next_message().await.is_none());
    });
}

#[test]
fn messages_before_an_error_are_delivered_before_it() {
    let rig = StreamServer::start(|_| {});
    let client = rig.client();
    let items: Vec<_> = client.server_stream::<Numbers, Numbers>(&COUNT, &-3).unwrap().collect();
    let status = Status::out_of_range("n out of range");
    assert_eq!(items, [Ok(1), Ok(2), Ok(3), Err(status)]);
    let missing: Vec<_> = client.server_stream::<Numbers, Numbers>(&CHAT_NUMBERS, &1).unwrap().collect();
    let [Err(status)] = &missing[..] else { panic!("{missing:?}") };
    assert_eq!(status.code, Code::Unimplemented);
    // A unary method does not take a stream, and a streaming one no unary call.
    let upload = client.client_stream_bytes("Unary.Double", Codec::Json).unwrap();
    assert_eq!(upload.finish().unwrap_err().code(), Code::InvalidArgument);
    let error = client.call_bytes("Stream.Sum", Codec::Json, b"1").unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    // A unary call of a method that sends a stream gets messages that it does not expect.
    let error = client.call_bytes("Stream.Count", Codec::Json, b"1").unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error}");
    assert_eq!(client.call_bytes("Unary.Double", Codec::Json, b"4").unwrap(), b"8");
}

#[test]
fn an_early_reply_ends_the_sink() {
    let rig = StreamServer::start(|_| {});
    let client = rig.client();
    let (sink, reply) = client.client_stream::<Numbers, Numbers>(&TAKE_ONE).unwrap().split();
    sink.send(&5).unwrap();
    assert_eq!(reply.wait().unwrap(), 5);
    let error = sink.send(&6).unwrap_err();
    let SinkError::Ended(status) = error else { panic!("{error}") };
    assert_eq!(status, Status::failed_precondition("the server has answered the call"));
    // Ending the messages of a call that is over changes nothing.
    sink.finish(Ok(()));
    assert_eq!(client.stats().cancelled, 0);
}

#[test]
fn dropping_an_end_cancels_the_call() {
    let rig = StreamServer::start(|_| {});
    let client = rig.client();
    // A stream that was not read to its end.
    let mut numbers = client.server_stream::<Numbers, Numbers>(&WATCH, &1).unwrap();
    assert_eq!(numbers.next(), Some(Ok(1)));
    drop(numbers);
    assert_eq!(rig.ends.recv_timeout(PATIENCE).unwrap().code, Code::Cancelled);
    // A sink that was not finished, while another thread waits for the result.
    let (sink, reply) = client.client_stream::<Numbers, Numbers>(&HOLD).unwrap().split();
    sink.send(&1).unwrap();
    drop(sink);
    let error = reply.wait().unwrap_err();
    assert!(matches!(error, CallError::Cancelled { may_have_run: true }), "{error}");
    assert_eq!(rig.ends.recv_timeout(PATIENCE).unwrap().code, Code::Cancelled);
    // A sink that was finished with an error.
    let (sink, reply) = client.client_stream::<Numbers, Numbers>(&HOLD).unwrap().split();
    sink.finish(Err(Status::data_loss("the source failed")));
    assert!(matches!(reply.wait(), Err(CallError::Cancelled { .. })));
    // A handle of the result.
    let (sink, reply) = client.client_stream::<Numbers, Numbers>(&HOLD).unwrap().split();
    sink.send(&1).unwrap();
    drop(reply);
    eventually("the sink ends", || sink.ended().is_some());
    assert_eq!(sink.ended().unwrap().code, Code::Cancelled);
    // Both ends of a chat at once.
    drop(client.bidirectional::<Text, Text>(&CHAT).unwrap());
    eventually("all calls end", || client.in_flight() == 0);
    assert_eq!(client.call_bytes("Unary.Double", Codec::Json, b"4").unwrap(), b"8");
}

#[test]
fn a_deadline_ends_a_stream_on_both_sides() {
    let rig = StreamServer::start(|_| {});
    let client = rig.client().with_timeout(std::time::Duration::from_millis(50));
    let items: Vec<_> = client.server_stream::<Numbers, Numbers>(&WATCH, &1).unwrap().collect();
    assert_eq!(items.len(), 2);
    assert_eq!(items[1].as_ref().unwrap_err().code, Code::DeadlineExceeded);
    let end = rig.ends.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(end.code, Code::Cancelled | Code::DeadlineExceeded), "{end}");
}

#[test]
fn a_server_that_ends_ends_its_streams() {
    let rig = StreamServer::start(|_| {});
    let client = rig.client();
    let mut numbers = client.server_stream::<Numbers, Numbers>(&WATCH, &1).unwrap();
    let (sink, reply) = client.client_stream::<Numbers, Numbers>(&HOLD).unwrap().split();
    sink.send(&1).unwrap();
    assert_eq!(numbers.next(), Some(Ok(1)));
    drop(rig.server);
    let status = numbers.next().unwrap().unwrap_err();
    assert!(matches!(status.code, Code::Unavailable | Code::Cancelled), "{status}");
    assert_eq!(numbers.next(), None);
    reply.wait().unwrap_err();
    assert!(matches!(sink.send(&2), Err(SinkError::Ended(_))));
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn a_call_to_an_address_without_a_server_ends_its_streams() {
    let client = Client::builder(unused_address()).build().unwrap();
    let (sink, reply) = client.client_stream::<Numbers, Numbers>(&SUM).unwrap().split();
    // Never ready: the call waits for the connection, and then fails.
    assert!(matches!(sink.try_send(&1), Err(SinkError::NotReady | SinkError::Ended(_))));
    assert!(matches!(reply.wait(), Err(CallError::Connect(_))));
    assert_eq!(sink.ended().unwrap().code, Code::Unavailable);
    let items: Vec<_> = client.server_stream::<Numbers, Numbers>(&COUNT, &1).unwrap().collect();
    assert_eq!(items[0].as_ref().unwrap_err().code, Code::Unavailable);
}

#[test]
fn messages_may_end_before_the_call_is_sent() {
    let rig = StreamServer::start(|_| {});
    // The client is not connected yet.
    let client = Client::builder(rig.address()).build().unwrap();
    let upload = client.client_stream::<Numbers, Numbers>(&SUM).unwrap();
    assert_eq!(upload.finish().unwrap(), 0);
    let (sink, mut replies) =
        Client::builder(rig.address()).build().unwrap().bidirectional::<Text, Text>(&CHAT).unwrap().split();
    sink.finish(Ok(()));
    assert_eq!(replies.next(), None);
}

#[test]
fn streams_have_a_limit_of_their_own() {
    let rig = StreamServer::start(|_| {});
    let configured = Client::builder(rig.address());
    let client = configured.configure(|c| (c.streams_max, c.in_flight_max) = (2, 1)).connect().unwrap();
    let mut first = client.server_stream::<Numbers, Numbers>(&WATCH, &1).unwrap();
    let second = client.server_stream::<Numbers, Numbers>(&WATCH, &2).unwrap();
    let error = client.server_stream::<Numbers, Numbers>(&WATCH, &3).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.to_string().contains("2 streaming calls to the address (streams_max)"), "{error}");
    // Open streams leave room for unary calls.
    assert_eq!(client.call_bytes("Unary.Double", Codec::Json, b"4").unwrap(), b"8");
    assert_eq!(first.next(), Some(Ok(1)));
    drop(second);
    eventually("there is room", || client.server_stream::<Numbers, Numbers>(&WATCH, &3).is_ok());
    // The server has a limit, too.
    let rig = StreamServer::start(|limits| limits.streams_max = 1);
    let client = rig.client();
    let mut first = client.server_stream::<Numbers, Numbers>(&WATCH, &1).unwrap();
    assert_eq!(first.next(), Some(Ok(1)));
    let items: Vec<_> = client.server_stream::<Numbers, Numbers>(&WATCH, &1).unwrap().collect();
    assert_eq!(items[0].as_ref().unwrap_err().code, Code::ResourceExhausted);
}

#[test]
fn other_protocols_carry_no_streams_of_the_client() {
    for scheme in ["http", "jsonrpc", "gob"] {
        let Ok(client) = Client::builder(format!("{scheme}:{}", unused_address())).build() else { continue };
        if client.call_bytes("A.B", Codec::Json, b"1").is_err_and(|error| error.code() == Code::NotFound) {
            continue;
        }
        let error = client.server_stream::<Numbers, Numbers>(&COUNT, &1).unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented, "{error}");
        assert!(error.to_string().contains(scheme), "{error}");
    }
}

/// 96 MiB in 1,024 chats on one connection, which is more than all windows and queues hold: what the caller does not take
/// stops the server, and what the server does not take stops the caller. A unary call still has an answer.
#[test]
fn a_thousand_chats_wait_for_credit_and_complete() {
    const CHATS: usize = 1024;
    const MESSAGES: usize = 12;
    let rig = StreamServer::start(|_| {});
    let client = rig.client();
    let text = "x".repeat(8 << 10);
    let (done_tx, done) = mpsc::channel();
    let mut replies = Vec::new();
    for _ in 0..CHATS {
        let (sink, stream) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
        replies.push(stream);
        send_when_ready(Arc::new(sink), text.clone(), Arc::new(Mutex::new(0)), MESSAGES, done_tx.clone());
    }
    // The server may refuse it while its answers wait to be written.
    eventually("a unary call has an answer", || {
        client.call_bytes("Unary.Double", Codec::Json, b"4").is_ok_and(|reply| reply == b"8")
    });
    let waits = CHATS - done.try_iter().count();
    assert!(waits > 0, "the windows let everything through");
    let mut open: Vec<_> = replies.into_iter().map(|stream| (stream, 0)).collect();
    while !open.is_empty() {
        open.retain_mut(|(stream, taken)| {
            loop {
                match stream.try_next() {
                    Poll::Ready(Some(item)) => {
                        assert_eq!(item.unwrap(), format!("{taken} {text}"));
                        *taken += 1;
                    }
                    Poll::Ready(None) => {
                        assert_eq!(*taken, MESSAGES);
                        return false;
                    }
                    Poll::Pending => return true,
                }
            }
        });
        std::thread::yield_now();
    }
    eventually("all calls end", || client.in_flight() == 0);
    assert_eq!(client.stats().connects, 1);
}

/// Sends numbered messages, from `next` to `count`: on this thread while the sink is ready, and then by callbacks.
fn send_when_ready(
    sink: Arc<Sink<String>>,
    text: String,
    next: Arc<Mutex<usize>>,
    count: usize,
    done: Sender<()>,
) {
    let mut number = next.lock().unwrap();
    while *number < count {
        match sink.try_send(&format!("{number} {text}")) {
            Ok(()) => *number += 1,
            Err(SinkError::NotReady) => {
                drop(number);
                let again = sink.clone();
                return sink.on_ready(move || send_when_ready(again, text, next, count, done));
            }
            Err(error) => panic!("{error}"),
        }
    }
    sink.finish(Ok(()));
    let _ = done.send(());
}

/// A thread begins, and callbacks on the reactor go on: what the thread has sent is still in the mailbox then.
#[test]
fn messages_of_a_thread_and_of_later_callbacks_keep_their_order() {
    const MESSAGES: usize = 3000;
    let (done_tx, done) = mpsc::channel();
    let of_method = done_tx.clone();
    let watch = Method::server_stream::<Numbers, Text>("Stream.Watch", move |_cx, _, sink| {
        let done = of_method.clone();
        std::thread::spawn(move || {
            send_when_ready(Arc::new(sink), "x".repeat(300), Arc::default(), MESSAGES, done);
        });
        Ok(())
    });
    let chat = Method::bidirectional::<Text, Text>("Stream.Chat", echo);
    let server = Server::builder()
        .cores(1)
        .method_of(watch.unwrap().kind(Kind::Inline))
        .method_of(chat.unwrap().kind(Kind::Inline))
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    for _ in 0..20 {
        let watched = client.server_stream::<Numbers, Text>(&WATCH_TEXT, &1).unwrap();
        let (sink, replies) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
        send_when_ready(Arc::new(sink), "x".repeat(300), Arc::default(), MESSAGES, done_tx.clone());
        for stream in [watched, replies] {
            let mut expected = 0;
            for item in stream {
                assert_eq!(item.unwrap().split(' ').next(), Some(&*expected.to_string()));
                expected += 1;
            }
            assert_eq!(expected, MESSAGES);
        }
        for _ in 0..2 {
            done.recv_timeout(PATIENCE).unwrap();
        }
    }
}

#[test]
fn a_stream_that_is_not_read_does_not_delay_others() {
    let rig = StreamServer::start(|_| {});
    let client = rig.client();
    let idle = client.server_stream::<Numbers, Numbers>(&COUNT, &10_000_000).unwrap();
    let numbers = client.server_stream::<Numbers, Numbers>(&WATCH, &1).unwrap();
    drop(numbers);
    assert_eq!(client.call_bytes("Unary.Double", Codec::Json, b"4").unwrap(), b"8");
    let chat = client.bidirectional::<Text, Text>(&CHAT).unwrap();
    chat.messages().send(&"hello".to_owned()).unwrap();
    let (sink, mut replies) = chat.split();
    assert_eq!(replies.next().unwrap().unwrap(), "hello");
    sink.finish(Ok(()));
    drop(idle);
}

#[test]
fn streams_live_on_a_driver_of_a_servers_reactor() {
    let rig = StreamServer::start(|_| {});
    let front = Server::builder().cores(1).listen("127.0.0.1:0").start().unwrap();
    let driver = Driver::on(&front.reactors()[0]).unwrap();
    let client = Client::builder(rig.address()).on(&driver).connect().unwrap();
    let numbers = client.server_stream::<Numbers, Numbers>(&COUNT, &5000).unwrap();
    assert_eq!(numbers.map(Result::unwrap).sum::<i64>(), 5000 * 5001 / 2);
}

static WATCH_TEXT: MethodId = MethodId::new("Stream.Watch");

/// Items that exceed what a sink may have on its way to the reactor are held by the broadcast, and keep their order.
#[test]
fn large_items_of_a_broadcast_arrive_in_order() {
    let broadcast = Arc::new(Broadcast::new(SlowSubscriber::DropOldest(10_000)));
    let subscribers = broadcast.clone();
    let watch = Method::server_stream::<Numbers, Text>("Stream.Watch", move |_cx, _, sink| {
        subscribers.subscribe(sink);
        Ok(())
    });
    let watch = watch.unwrap().kind(Kind::Inline);
    let server = Server::builder().cores(1).method_of(watch).listen("127.0.0.1:0").start().unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    let streams: Vec<_> =
        (0..4).map(|_| client.server_stream::<Numbers, Text>(&WATCH_TEXT, &1).unwrap()).collect();
    eventually("all subscribe", || broadcast.subscribers() == 4);
    let padding = "x".repeat(20_000);
    for number in 0..400 {
        broadcast.send(&format!("{number} {padding}")).unwrap();
    }
    for mut stream in streams {
        for expected in 0..400 {
            let text = stream.next().unwrap().unwrap();
            assert_eq!(text.split(' ').next(), Some(&*expected.to_string()));
        }
    }
}
