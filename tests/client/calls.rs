//! The shared client against real servers: many threads, handles, callbacks, batches, deadlines, cancellation.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use coreloop::client::{CallError, Client, Driver, Starter, WhenFull};
use coreloop::codec::Codec;
use coreloop::{Code, Context, Reply, Server, Status};

/// Longer than any test needs: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Math {
    /// The number of running calls of `Wait`, and a channel for those that observed their cancellation.
    running: Arc<AtomicU32>,
    cancelled: mpsc::Sender<()>,
    began: mpsc::Sender<()>,
}

#[coreloop::service]
impl Math {
    fn double(&self, _cx: &Context, number: i64) -> Result<i64, Status> {
        Ok(number.wrapping_mul(2))
    }

    #[rpc(inline)]
    fn triple(&self, _cx: &Context, number: i64) -> Result<i64, Status> {
        if number < 0 { Err(Status::out_of_range("negative")) } else { Ok(number.wrapping_mul(3)) }
    }

    /// Waits until it is cancelled.
    #[rpc(blocking)]
    fn wait(&self, cx: &Context) -> Result<u32, Status> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _ = self.began.send(());
        let result = cx.sleep(Duration::from_secs(60));
        self.running.fetch_sub(1, Ordering::SeqCst);
        let _ = self.cancelled.send(());
        result.map(|()| 1)
    }

    fn left_us(&self, cx: &Context) -> Result<u64, Status> {
        Ok(cx.time_left().map_or(0, |left| left.as_micros() as u64))
    }

    fn bytes(&self, _cx: &Context, len: u32) -> Result<Vec<u8>, Status> {
        Ok(vec![7; len as usize])
    }

    /// Answers from another thread.
    fn later(&self, _cx: &Context, number: i64, reply: Reply<i64>) {
        std::thread::spawn(move || reply.send(Ok(number + 1)));
    }
}

struct Rig {
    server: Server,
    address: String,
    running: Arc<AtomicU32>,
    cancelled: mpsc::Receiver<()>,
    began: mpsc::Receiver<()>,
}

fn rig() -> Rig {
    let (cancelled_tx, cancelled) = mpsc::channel();
    let (began_tx, began) = mpsc::channel();
    let running = Arc::new(AtomicU32::new(0));
    let math = Math { running: running.clone(), cancelled: cancelled_tx, began: began_tx };
    let server = Server::builder().cores(1).service(math).listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    Rig { server, address, running, cancelled, began }
}

#[test]
fn many_threads_share_one_connection() {
    let rig = rig();
    let math = MathClient::new(Client::connect(&rig.address).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let math = &math;
            scope.spawn(move || {
                for number in 0..500 {
                    assert_eq!(math.double(&(thread * 1000 + number)).unwrap(), 2 * (thread * 1000 + number));
                    assert_eq!(math.triple(&number).unwrap(), 3 * number);
                }
            });
        }
    });
    let stats = math.caller().stats();
    assert_eq!((stats.connects, stats.answered, stats.lost), (1, 8000, 0));
    assert_eq!((stats.late_replies, stats.unknown_replies), (0, 0));
    assert_eq!(math.caller().in_flight(), 0);
    let errors = math.triple(&-1).unwrap_err();
    assert_eq!(errors.code(), Code::OutOfRange);
}

#[test]
fn a_thousand_handles_are_in_flight_at_once_and_end_in_any_order() {
    let rig = rig();
    let math = MathClient::new(Client::connect(&rig.address).unwrap());
    let mut calls: Vec<_> = (0..1000).map(|number| (number, math.later_start(&number))).collect();
    calls.reverse();
    for (number, call) in calls {
        assert_eq!(call.wait().unwrap(), number + 1);
    }
}

#[test]
fn a_callback_runs_once_with_the_answer() {
    let rig = rig();
    let math = MathClient::new(Client::connect(&rig.address).unwrap());
    let (tx, rx) = mpsc::channel();
    for number in 0..100 {
        let tx = tx.clone();
        math.double_then(&number, move |result| tx.send(result.unwrap()).unwrap());
    }
    math.triple_then(&1, |_| panic!("its own affair"));
    let mut all: Vec<i64> = (0..100).map(|_| rx.recv_timeout(PATIENCE).unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..100).map(|number| number * 2).collect::<Vec<_>>());
    assert_eq!(math.double(&4).unwrap(), 8, "a callback that panicked took nobody with it");
}

#[test]
fn a_batch_is_sent_in_one_write() {
    let rig = rig();
    let client = Client::connect(&rig.address).unwrap();
    let batch = MathClient::new(client.batch());
    let early = batch.double_start(&1);
    assert!(matches!(early.wait(), Err(CallError::NotSent)));
    let calls: Vec<_> = (0..64).map(|number| batch.triple_start(&number)).collect();
    batch.triple_one_way(&5).unwrap();
    let reads_before = rig.server.stats().reactors[0].reads;
    batch.into_caller().send();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.wait().unwrap(), 3 * number as i64);
    }
    let reads = rig.server.stats().reactors[0].reads - reads_before;
    assert_eq!(reads, 1, "what left in one write came in one read");

    let dropped = MathClient::new(client.batch());
    let call = dropped.double_start(&1);
    drop(dropped);
    let error = call.wait().unwrap_err();
    assert!(!error.may_have_run(), "{error:?}");
}

#[test]
fn a_deadline_holds_at_the_client_and_the_server() {
    let rig = rig();
    let client = Client::connect(&rig.address).unwrap();
    let math = MathClient::new(client.with_timeout(Duration::from_millis(50)));
    let left_us = math.left_us().unwrap();
    assert!(left_us > 0 && left_us <= 50_000, "{left_us}");
    assert!(matches!(math.wait(), Err(CallError::DeadlineExceeded | CallError::Status(_))));
    rig.cancelled.recv_timeout(PATIENCE).expect("the handler was told");

    let past = MathClient::new(client.with_deadline(Instant::now()));
    let error = past.double(&1).unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let without = MathClient::new(client);
    assert_eq!(without.left_us().unwrap(), 0);
}

#[test]
fn a_handle_that_is_dropped_cancels_the_call_at_the_server() {
    let rig = rig();
    let math = MathClient::new(Client::connect(&rig.address).unwrap());
    let mut call = math.wait_start();
    rig.began.recv_timeout(PATIENCE).unwrap();
    assert!(call.wait_timeout(Duration::from_millis(1)).is_none());
    drop(call);
    rig.cancelled.recv_timeout(PATIENCE).expect("the handler was told");
    assert_eq!(rig.running.load(Ordering::SeqCst), 0);
    // The server answers the cancelled call with its code; the client counts a late reply that belongs to no call.
    assert_eq!(math.double(&1).unwrap(), 2);
    let stats = math.caller().stats();
    assert_eq!((stats.cancelled, stats.late_replies), (1, 1));
}

#[test]
fn more_calls_than_the_bound_wait_or_are_refused() {
    let rig = rig();
    let refusing = Client::builder(&rig.address).in_flight_max(2, WhenFull::Refuse).connect().unwrap();
    let math = MathClient::new(refusing);
    let (first, second) = (math.wait_start(), math.wait_start());
    let third = math.double(&1).unwrap_err();
    assert!(matches!(third, CallError::Full { calls_max: 2 }), "{third:?}");
    assert_eq!((third.code(), third.may_have_run()), (Code::ResourceExhausted, false));
    // Wait until both run: a call that is cancelled while it is queued never runs, and would report nothing.
    for _ in 0..2 {
        rig.began.recv_timeout(PATIENCE).unwrap();
    }
    drop((first, second));
    rig.cancelled.recv_timeout(PATIENCE).unwrap();

    let waiting = Client::builder(&rig.address)
        .in_flight_max(1, WhenFull::Wait)
        .configure(|config| config.waiting_max = 2)
        .connect()
        .unwrap();
    let math = MathClient::new(waiting);
    let running = math.wait_start();
    let (one, two) = (math.double_start(&1), math.double_start(&2));
    assert!(matches!(math.double(&3), Err(CallError::Full { calls_max: 3 })));
    drop(running);
    assert_eq!((one.wait().unwrap(), two.wait().unwrap()), (2, 4));
}

#[test]
fn ten_thousand_handles_dropped_at_once_leave_nothing_behind() {
    let rig = rig();
    let client = Client::connect(&rig.address).unwrap();
    let math = MathClient::new(client.clone());
    let calls: Vec<_> = (0..10_000).map(|number| math.later_start(&number)).collect();
    drop(calls);
    assert_eq!(math.double(&21).unwrap(), 42, "the connection lives");
    let until = Instant::now() + PATIENCE;
    while client.in_flight() > 0 {
        assert!(Instant::now() < until, "{} calls are still counted", client.in_flight());
        assert_eq!(math.double(&1).unwrap(), 2);
    }
    assert_eq!(client.stats().lost, 0);
}

#[test]
fn handles_outlive_their_dropped_client() {
    let rig = rig();
    let math = MathClient::new(Client::connect(&rig.address).unwrap());
    let call = math.later_start(&1);
    let held = math.wait_start();
    rig.began.recv_timeout(PATIENCE).unwrap();
    drop(math);
    assert_eq!(call.wait().unwrap(), 2);
    drop(held);
    rig.cancelled.recv_timeout(PATIENCE).expect("the last call was cancelled");
    // The connection closes with the last call.
    let until = Instant::now() + PATIENCE;
    while rig.server.stats().reactors[0].connections > 0 {
        assert!(Instant::now() < until, "the connection is still open");
        std::thread::yield_now();
    }
}

#[test]
fn closing_a_client_waits_for_its_calls_and_connections() {
    let rig = rig();
    let client = Client::connect(&rig.address).unwrap();
    let math = MathClient::new(client.clone());
    let held = math.wait_start();
    rig.began.recv_timeout(PATIENCE).unwrap();
    // A call and a clone are left.
    assert!(!client.close(Duration::from_millis(1)));
    let client = math.into_caller();
    let (closed_tx, closed) = mpsc::channel();
    let on_driver = client.clone();
    MathClient::new(client.clone()).double_then(&1, move |_| {
        closed_tx.send(on_driver.close(PATIENCE)).unwrap();
    });
    assert!(!closed.recv_timeout(PATIENCE).unwrap(), "the thread that drives the client cannot wait for it");
    for _ in 0..1000 {
        client.send_bytes("Math.Double", Codec::Json, b"1").unwrap();
    }
    drop(held);
    assert!(client.close(PATIENCE));
    // The server has closed the connection, and so has read all calls.
    let read_bytes: u64 = rig.server.stats().reactors.iter().map(|reactor| reactor.read_bytes).sum();
    assert!(read_bytes > 1000 * 16, "{read_bytes} bytes in place of 1,000 frames");
    // A client that has never connected has nothing to wait for.
    assert!(Client::builder(&rig.address).build().unwrap().close(PATIENCE));
}

#[test]
fn a_draining_server_is_disconnected_after_its_calls() {
    let rig = rig();
    let client = Client::connect(&rig.address).unwrap();
    let math = MathClient::new(client.clone());
    let call = math.wait_start();
    rig.began.recv_timeout(PATIENCE).unwrap();
    let stopper = rig.server.stopper();
    stopper.stop();
    let server = std::thread::spawn(move || rig.server.wait().unwrap());
    let until = Instant::now() + PATIENCE;
    while client.stats().drains == 0 {
        assert!(Instant::now() < until, "no notice came");
        std::thread::yield_now();
    }
    // New calls find no listener at the address; the call in flight is still served.
    let error = math.double(&1).unwrap_err();
    assert_eq!((error.code(), error.may_have_run()), (Code::Unavailable, false), "{error:?}");
    drop(call);
    rig.cancelled.recv_timeout(PATIENCE).unwrap();
    let snapshot = server.join().unwrap();
    assert_eq!(snapshot.drain_cancelled, 0, "nothing had to be given up");
}

#[test]
fn a_server_s_own_reactor_drives_the_client_of_its_handlers() {
    struct Front(MathClient<Client>);

    #[coreloop::service]
    impl Front {
        #[rpc(blocking)]
        fn ask(&self, cx: &Context, number: i64) -> Result<i64, Status> {
            Ok(MathClient::new(cx.client(self.0.caller())).double(&number)?)
        }

        /// Fails on the reactor itself, where it must not block.
        #[rpc(inline)]
        fn ask_inline(&self, _cx: &Context, number: i64) -> Result<i64, Status> {
            Ok(self.0.double(&number)?)
        }

        #[rpc(inline)]
        fn pass_on(&self, _cx: &Context, number: i64, reply: Reply<i64>) {
            self.0.double_then(&number, move |result| reply.send(result.map_err(Status::from)));
        }
    }

    let rig = rig();
    let mut front = Server::builder().cores(1);
    let driver = Driver::on(&front.reactor(0).unwrap()).unwrap();
    let back = Client::builder(&rig.address).on(&driver).build().unwrap();
    let front = front.service(Front(MathClient::new(back))).listen("127.0.0.1:0").start().unwrap();
    let client = Client::connect(front.addresses()[0].to_string()).unwrap();
    let front_client = FrontClient::new(client);
    // True for the first call already, since the client was attached before the reactor started.
    let error = front_client.ask_inline(&1).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
    for number in 0..200 {
        assert_eq!(front_client.ask(&number).unwrap(), 2 * number);
        assert_eq!(front_client.pass_on(&number).unwrap(), 2 * number);
    }
    let error = front_client.ask_inline(&1).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
    assert_eq!(driver.stats().connects, 1);
    front.shutdown();
}

#[test]
fn the_codecs_compression_and_large_bodies_travel() {
    let rig = rig();
    let client = Client::connect(&rig.address).unwrap();
    for codec in [Codec::Json, Codec::Compact, Codec::MessagePack] {
        let math = MathClient::new(client.with_codec(codec));
        assert_eq!(math.double(&-7).unwrap(), -14);
    }
    let math = MathClient::new(client.with_compression(true));
    assert_eq!(math.bytes(&300_000).unwrap(), vec![7; 300_000]);
    let plain = MathClient::new(client.clone());
    assert_eq!(plain.bytes(&2_000_000).unwrap().len(), 2_000_000);
    let small =
        Client::builder(&rig.address).configure(|config| config.frame_bytes_max = 1000).connect().unwrap();
    let math = MathClient::new(small.clone());
    let error = math.bytes(&1500).unwrap_err();
    assert!(matches!(error, CallError::ReplyRefused(_)), "{error:?}");
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(math.double(&1).unwrap(), 2, "the connection lives");
    let error = small.call_bytes("Math.Double", Codec::Json, &[b' '; 1001]).unwrap_err();
    assert!(matches!(error, CallError::TooLarge { bytes: 1001, bytes_max: 1000 }), "{error:?}");
    assert!(math.bytes(&100_000).unwrap_err().may_have_run());
    assert_eq!(math.double(&1).unwrap(), 2, "a new connection was made");
}

#[test]
fn calls_work_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("s").display());
    let server = Server::builder()
        .method("Math.Double", |_cx: &Context, number: i64| Ok(number * 2))
        .listen(&address)
        .start()
        .unwrap();
    let client = Client::connect(format!("native:{address}")).unwrap();
    assert_eq!(client.call_bytes("Math.Double", Codec::Json, b"4").unwrap(), b"8");
    assert_eq!(client.start_bytes("Math.Double", Codec::Json, b"5").wait().unwrap(), b"10");
    drop(client);
    server.shutdown();
}

#[test]
fn an_unknown_method_id_is_answered_by_the_server() {
    let rig = rig();
    let client = Client::connect(&rig.address).unwrap();
    static NOWHERE: coreloop::client::MethodId = coreloop::client::MethodId::new("Math.Nowhere");
    let call = client.start::<coreloop::codec::Plain<i64>, coreloop::codec::Plain<i64>>(&NOWHERE, &1);
    assert_eq!(call.wait().unwrap_err().code(), Code::Unimplemented);
}
