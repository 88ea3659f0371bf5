//! More calls than the workers can run: which start, which wait, which are refused, and in which order.
//!
//! Handlers wait at gates, so that the state of the queue does not depend on time. Where a call is expected to take
//! long, its method has taken that long before.

mod many;
mod order;
mod waiting;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use coreloop::codec::{Argument, Plain, RawBytes};
use coreloop::config::Config;
use coreloop::interceptor::{AdmittedCall, EndedCall, Hooks, Interceptor};
use coreloop::server::ServerBuilder;
use coreloop::service::{Kind, Method, finish};
use coreloop::stats::Snapshot;
use coreloop::stream::StreamEvent;
use coreloop::{Code, Context, Server};

use crate::common::rig::{Gate, rig_with};
use crate::common::{Frame, Peer, Rig, eventually, shared};

/// The time that `Take` is measured to take, at least.
const LONG: Duration = Duration::from_millis(400);

/// The kinds of methods whose calls can wait.
const POOLS: [&str; 2] = ["Pooled", "Blocking"];

/// Requests and ends, by connection and id.
#[derive(Default)]
struct Ledger(Mutex<HashMap<(u64, u64), Lives>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lives {
    requests: u32,
    ends: u32,
}

impl Interceptor for Ledger {
    fn hooks(&self) -> Hooks {
        Hooks::ON_ADMITTED | Hooks::ON_END
    }

    fn on_admitted(&self, call: &AdmittedCall<'_>) {
        self.0.lock().unwrap().entry((call.connection, call.id)).or_default().requests += 1;
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        self.0.lock().unwrap().entry((end.connection, end.id)).or_default().ends += 1;
    }
}

/// A server whose calls are observed. Ids are used once on each connection.
struct Scene {
    rig: Rig,
    /// The gate of `Step`.
    steps: Arc<Gate>,
    /// The arguments of `Step` in the order of the handlers' starts, and the threads.
    started: Arc<Mutex<Vec<(i64, ThreadId)>>>,
    /// Starts of the other handlers.
    starts: Arc<AtomicU64>,
    ledger: Arc<Ledger>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.steps.open();
    }
}

fn one_thread(config: &mut Config) {
    (config.workers, config.blocking_threads) = (1, 1);
}

/// Starts a server with one worker and one blocking thread, with a changed configuration.
fn scene(change: impl FnOnce(&mut Config)) -> Scene {
    let (steps, starts) = (Arc::new(Gate::default()), Arc::new(AtomicU64::new(0)));
    let (started, ledger) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Ledger::default()));
    let change = |config: &mut Config| {
        one_thread(config);
        change(config);
    };
    let rig = rig_with(&["127.0.0.1:0"], change, |mut builder| {
        for (service, kind) in [("Pooled", Kind::Pooled), ("Blocking", Kind::Blocking)] {
            let (gate, order) = (steps.clone(), started.clone());
            let step = move |_cx: &Context<'_>, n: i64| {
                order.lock().unwrap().push((n, std::thread::current().id()));
                gate.pass();
                Ok(n)
            };
            builder = builder.method_of_kind(&format!("{service}.Step"), kind, step);
            builder = with_counted(builder, service, kind, &starts);
        }
        builder.interceptor(ledger.clone())
    });
    Scene { rig, steps, started, starts, ledger }
}

/// Adds methods that count the starts of their handlers.
fn with_counted(builder: ServerBuilder, service: &str, kind: Kind, starts: &Arc<AtomicU64>) -> ServerBuilder {
    let counter = || {
        let starts = starts.clone();
        move || {
            starts.fetch_add(1, Ordering::SeqCst);
        }
    };
    let name = |method: &str| format!("{service}.{method}");
    let count = counter();
    let take = move |_cx: &Context<'_>, ms: i64| {
        count();
        std::thread::sleep(Duration::from_millis(ms as u64));
        Ok(ms)
    };
    let count = counter();
    let swallow = Method::new::<RawBytes, RawBytes>(
        name("Swallow"),
        Box::new(move |cx, codec, body, out| {
            count();
            let result = <RawBytes as Argument>::decode(codec, body);
            finish::<RawBytes>(cx, codec, result.map_err(Into::into), out)
        }),
    );
    let count = counter();
    let send = Method::server_stream::<Plain<i64>, Plain<i64>>(name("Send"), move |_cx, n, sink| {
        count();
        Ok(sink.try_send(&n)?)
    });
    let count = counter();
    let sum =
        Method::client_stream_deferring::<Plain<i64>, Plain<i64>>(name("Sum"), move |_cx, numbers, reply| {
            count();
            let mut reply = Some(reply);
            numbers.for_each_message(move |event| {
                if let StreamEvent::End(result) = event
                    && let Some(reply) = reply.take()
                {
                    reply.send(result.map(|()| 0));
                }
            });
        });
    builder
        .method_of_kind(&name("Take"), kind, take)
        .method_of(swallow.unwrap().kind(kind))
        .method_of(send.unwrap().kind(kind))
        .method_of(sum.unwrap().kind(kind))
}

/// The calls that a pool with one thread is given: further ones wait.
fn handed_over(service: &str) -> u64 {
    match service {
        "Pooled" => 2,
        _ => 1,
    }
}

impl Scene {
    /// Occupies the only thread of a pool, and the place ahead of it, until the rig's gate admits the handlers.
    #[track_caller]
    fn occupy(&self, service: &str) -> Peer {
        let mut peer = self.rig.peer();
        let begun = self.rig.gate.begun();
        for id in 0..handed_over(service) {
            peer.send(&Frame::call(id, &format!("{service}.Gate"), id as i64));
            self.rig.gate.wait_for(begun + 1);
        }
        peer.ping();
        peer
    }

    #[track_caller]
    fn wait_for_queued(&self, calls: usize) {
        eventually("the calls wait", || self.rig.stats().workers.queued == calls);
    }

    fn starts(&self) -> u64 {
        self.starts.load(Ordering::SeqCst)
    }

    /// Returns the arguments of `Step`, in the order in which the handlers started.
    fn order(&self) -> Vec<i64> {
        self.started.lock().unwrap().iter().map(|(n, _)| *n).collect()
    }

    fn shed(&self, method: &str, reason: &str) -> u64 {
        self.rig.stats().method(method).unwrap().shed(reason)
    }

    /// Calls `Take`, which takes at least [`LONG`].
    #[track_caller]
    fn measure(&self, service: &str) {
        let take = Frame::call(0, &format!("{service}.Take"), LONG.as_millis() as i64);
        self.rig.peer().ask(&take).is(0, Code::Ok, "");
    }

    /// Ends the server; asserts that each request has one end.
    #[track_caller]
    fn finish(mut self) -> Snapshot {
        self.steps.open();
        self.rig.gate.open();
        let last = self.rig.take_server().shutdown();
        let lives = self.ledger.0.lock().unwrap();
        assert!(!lives.is_empty(), "calls were observed");
        for (call, life) in lives.iter() {
            assert_eq!(*life, Lives { requests: 1, ends: 1 }, "{call:?}");
        }
        let refused: u64 = last.refused.iter().map(|(_, count)| *count).sum();
        let counted = last.methods.iter().map(|method| method.calls).sum::<u64>() + refused + last.dropped;
        assert_eq!(counted, lives.len() as u64, "{last:?}");
        last
    }
}

#[track_caller]
fn is_shed(peer: &mut Peer, ids: std::ops::Range<u64>, text: &str) {
    let answer = peer.answer();
    answer.is(answer.id, Code::ResourceExhausted, text);
    assert!(ids.contains(&answer.id), "{} is not in {ids:?}", answer.id);
    assert!(answer.trailer("retry-after-ms").is_some_and(|ms| ms > 0), "{answer:?}");
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let _turn = shared();
    for service in POOLS {
        let scene = scene(|_| {});
        scene.measure(service);
        let mut holder = scene.occupy(service);
        let take = format!("{service}.Take");
        let frames: Vec<Frame> = (0..20).map(|id| Frame::call(id, &take, 0).time_left(LONG / 2)).collect();
        let mut peer = scene.rig.peer();
        peer.send_all(&frames);
        // The gate is closed: these answers do not wait for a worker. One call may pass as a probe, if the last one was
        // measured a while ago.
        (0..19).for_each(|_| is_shed(&mut peer, 0..20, "would end after its deadline"));
        assert!(scene.shed(&take, "expected_late") >= 19);
        assert_eq!((scene.rig.gate.begun(), scene.starts()), (1, 1));
        let last = peer.answer();
        assert!([Code::ResourceExhausted, Code::DeadlineExceeded].contains(&last.code()), "{last:?}");
        // Calls that can be met wait, and so do those without a deadline.
        peer.send_all(&[
            Frame::call(20, &take, 0),
            Frame::call(21, &take, 0).time_left(crate::common::PATIENCE),
        ]);
        scene.wait_for_queued(2);
        scene.rig.gate.open();
        (0..2).for_each(|_| assert_eq!(peer.answer().number(), 0));
        (0..handed_over(service)).for_each(|_| assert_eq!(holder.answer().code(), Code::Ok));
        let last = scene.finish();
        assert_eq!(last.refused, [("resource_exhausted", last.method(&take).unwrap().shed("expected_late"))]);
    }
}

#[test]
fn a_call_that_finds_an_idle_thread_starts_whatever_its_deadline() {
    let _turn = shared();
    for service in POOLS {
        let scene = scene(|_| {});
        scene.measure(service);
        let mut peer = scene.rig.peer();
        // It is expected to take longer than it may.
        let answer = peer.ask(&Frame::call(0, &format!("{service}.Take"), 0).time_left(LONG / 2));
        assert_ne!(answer.code(), Code::ResourceExhausted);
        eventually("it has started", || scene.starts() == 2);
        scene.finish();
    }
}

#[test]
fn a_method_that_was_never_seen_is_not_refused_for_its_deadline() {
    let _turn = shared();
    for service in POOLS {
        let scene = scene(|_| {});
        let _holder = scene.occupy(service);
        let mut peer = scene.rig.peer();
        peer.send(&Frame::call(0, &format!("{service}.Take"), 0).time_left(crate::common::PATIENCE));
        scene.wait_for_queued(1);
        scene.rig.gate.open();
        assert_eq!(peer.answer().number(), 0);
        assert_eq!(scene.finish().refused, []);
    }
}

#[test]
fn an_answer_does_not_wait_for_a_call_of_unknown_cost_that_came_with_it() {
    let _turn = shared();
    let scene = scene(|_| {});
    let mut peer = scene.rig.peer();
    assert_eq!(peer.ask(&Frame::call(0, "Pooled.Double", 1)).number(), 2);
    // They arrive in one turn; the only worker then waits in the second.
    peer.send_all(&[Frame::call(1, "Pooled.Double", 2), Frame::call(2, "Pooled.Step", 3)]);
    assert_eq!(peer.answer().number(), 4);
    scene.steps.open();
    assert_eq!(peer.answer().number(), 3);
    scene.finish();
}

#[test]
fn a_method_limit_counts_the_calls_that_wait_and_run() {
    let _turn = shared();
    let scene = scene(|config| config.method_limits = vec!["Pooled.Step=3".to_owned()]);
    let mut peer = scene.rig.peer();
    let step = |id: u64| Frame::call(id, "Pooled.Step", id as i64);
    // One runs, one is ahead of the worker, one waits.
    peer.send_all(&[step(1), step(2), step(3)]);
    scene.wait_for_queued(1);
    peer.send(&step(4));
    is_shed(&mut peer, 4..5, "method_limits");
    // Other methods are not limited, and inline ones do not wait.
    peer.send(&Frame::call(5, "Pooled.Double", 1));
    scene.wait_for_queued(2);
    assert_eq!(peer.ask(&Frame::call(6, "Inline.Double", 1)).number(), 2);
    // A waiting call that is cancelled makes room at once.
    peer.ask(&Frame::of_kind(crate::common::kind::CANCEL, 3)).is(3, Code::Cancelled, "");
    peer.send(&step(7));
    scene.wait_for_queued(2);
    peer.send(&step(8));
    is_shed(&mut peer, 8..9, "method_limits");
    // So does one whose connection has closed.
    peer.reset();
    scene.rig.wait_for_closed("reset", 1);
    let mut next = scene.rig.peer();
    next.send(&step(1));
    scene.wait_for_queued(1);
    next.send(&step(2));
    is_shed(&mut next, 2..3, "method_limits");
    scene.steps.open();
    assert_eq!(next.answer().number(), 1);
    // All have ended, so three may begin again.
    next.send_all(&[step(11), step(12), step(13)]);
    (0..3).for_each(|_| assert_eq!(next.answer().code(), Code::Ok));
    assert_eq!(scene.finish().method("Pooled.Step").unwrap().shed, [("method_limit", 3)]);
}

#[test]
fn a_method_limit_that_cannot_hold_prevents_the_start() {
    let _turn = shared();
    for (limits, part) in [
        (&["No.Method=1"][..], "No.Method"),
        (&["Arith.Double"], "Arith.Double"),
        (&["Arith.Double=0"], "Arith.Double=0"),
        (&["Arith.Double=-1"], "Arith.Double=-1"),
        (&["Arith.Double=many"], "Arith.Double=many"),
        (&["Arith.Double=4294967296"], "Arith.Double=4294967296"),
        (&["=1"], "=1"),
        (&["Arith.Double=1", "Arith.Double=2"], "Arith.Double"),
    ] {
        let builder = Server::builder()
            .listen("127.0.0.1:0")
            .method("Arith.Double", |_cx: &Context<'_>, n: i64| Ok(2 * n))
            .configure(|config| config.method_limits = limits.iter().map(|text| text.to_string()).collect());
        let Err(error) = builder.start() else { panic!("{limits:?} are no limits") };
        let text = error.to_string();
        assert!(text.contains("method_limits") && text.contains(part), "{text}");
    }
}

#[test]
fn calls_that_wait_longer_than_the_target_are_shed_until_the_queue_is_short() {
    let _turn = shared();
    for service in POOLS {
        let scene = scene(|config| config.limits.queue_target_ms = 1);
        let _holder = scene.occupy(service);
        let mut peer = scene.rig.peer();
        let step = format!("{service}.Step");
        let frames: Vec<Frame> = (0..5).map(|id| Frame::call(id, &step, id as i64)).collect();
        peer.send_all(&frames);
        scene.wait_for_queued(5);
        // Longer than the interval of the target, 100 ms.
        std::thread::sleep(Duration::from_millis(150));
        scene.rig.gate.admit(1);
        (0..5).for_each(|_| is_shed(&mut peer, 0..5, "queue_target_ms"));
        assert_eq!((scene.order(), scene.shed(&step, "queue_delay")), (vec![], 5));
        scene.rig.gate.open();
        scene.steps.open();
        assert_eq!(peer.ask(&Frame::call(5, &step, 5)).number(), 5);
        assert_eq!(scene.finish().method(&step).unwrap().shed, [("queue_delay", 5)]);
    }
}

#[test]
fn the_adaptive_limit_refuses_what_is_over_it_and_low_priorities_first() {
    let _turn = shared();
    let scene = scene(|config| {
        config.workers = 2;
        config.limits.adaptive_concurrency = true;
    });
    let mut peer = scene.rig.peer();
    // The limit begins at two calls for each worker; half of it is open to the lowest priority, and three quarters to
    // the one before.
    let step = |id: u64| Frame::call(id, "Pooled.Step", id as i64);
    let (low, lowest) = (|id| step(id).with("priority", b"2"), |id| step(id).with("priority", b"3"));
    let over = "too many calls";
    peer.send_all(&[step(0), lowest(1)]);
    peer.send(&lowest(2));
    is_shed(&mut peer, 2..3, over);
    peer.send_all(&[low(3), low(4)]);
    is_shed(&mut peer, 4..5, over);
    peer.send_all(&[step(5), step(6)]);
    is_shed(&mut peer, 6..7, over);
    scene.steps.open();
    (0..4).for_each(|_| assert_eq!(peer.answer().code(), Code::Ok));
    assert_eq!(peer.ask(&lowest(7)).number(), 7);
    assert_eq!(scene.finish().method("Pooled.Step").unwrap().shed, [("concurrency", 3)]);
}

#[test]
fn the_load_is_reported_when_it_is_asked_for() {
    let _turn = shared();
    let scene = scene(|_| {});
    let mut peer = scene.rig.peer();
    let asking = |id: u64, method: &str| Frame::call(id, method, 1).with("want-load", b"1");
    let methods = ["Inline.Double", "Inline.AnswerNow", "Pooled.Double", "Blocking.Double"];
    for (id, method) in (0..).zip(methods) {
        assert_eq!(peer.ask(&asking(id, method)).trailer("load"), Some(0), "{method}: the server is idle");
        assert_eq!(peer.ask(&Frame::call(id + 10, method, 1)).trailers, [], "{method}: it was not asked");
    }
    let _holder = scene.occupy("Pooled");
    let mut other = scene.rig.peer();
    other.send(&asking(0, "Pooled.Double"));
    let frames: Vec<Frame> = (1..6).map(|id| Frame::call(id, "Pooled.Step", 0)).collect();
    other.send_all(&frames);
    scene.wait_for_queued(6);
    for (id, method) in (20..).zip(["Inline.Double", "Inline.AnswerNow", "Blocking.Double"]) {
        let load = peer.ask(&asking(id, method)).trailer("load");
        assert!(load.is_some_and(|us| us > 0), "{method}: {load:?} while calls wait");
    }
    // A call that has waited itself, while others wait behind it.
    scene.rig.gate.open();
    let answer = other.answer();
    assert_eq!((answer.id, answer.number()), (0, 2));
    assert!(answer.trailer("load").is_some_and(|us| us > 0), "{answer:?}");
    scene.steps.open();
    (0..5).for_each(|_| assert_eq!(other.answer().code(), Code::Ok));
    assert_eq!(peer.ask(&asking(30, "Inline.Double")).trailer("load"), Some(0));
    scene.finish();
}
