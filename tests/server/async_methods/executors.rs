//! What an executor runs, and what a handler learns of its call.

use std::time::{Duration, Instant};

use coreloop::client::{Client, MethodId, Starter};
use coreloop::codec::{Codec, Plain};
use coreloop::message::Priority;
use coreloop::service::{Kind, Method};
use coreloop::{Code, OwnedContext, Server};

use super::{MINUTE, executors, scene, scene_with, smol, tokio_threads};
use crate::common::{Frame, eventually, kind, shared};

#[test]
fn each_executor_runs_calls() {
    let _turn = shared();
    for executor in executors() {
        let name = executor.name;
        let scene = scene(executor, |_| {});
        let mut peer = scene.peer();
        let calls: Vec<Frame> = (0..200).map(|id| Frame::call(id, "Async.Double", id as i64)).collect();
        peer.send_all(&calls);
        let mut answers: Vec<(u64, i64)> =
            (0..200).map(|_| peer.answer()).map(|it| (it.id, it.number())).collect();
        answers.sort_unstable();
        assert_eq!(answers, (0..200).map(|id| (id, id as i64 * 2)).collect::<Vec<_>>(), "{name}");
        peer.ask(&Frame::call(1, "Async.Fail", 7)).is(1, Code::Aborted, "7");
        peer.ask(&Frame::request(2, "Async.Double", Codec::Json, "no")).is(
            2,
            Code::InvalidArgument,
            "argument of Async.Double",
        );
        peer.send(&Frame::call(3, "Async.Double", 4).one_way());
        peer.ping();
        scene.wait_for_in_flight(0);
        let stats = scene.server().stats();
        let method = stats.method("Async.Double").unwrap();
        assert_eq!(method.answers, [("ok", 200), ("invalid_argument", 1)]);
        eventually("the one-way call has ended", || {
            scene.server().stats().method("Async.Double").unwrap().calls == 202
        });
    }
}

#[test]
fn the_context_has_what_the_caller_sent() {
    let _turn = shared();
    let scene = scene(tokio_threads(), |config| config.priority_highest = 0);
    let mut peer = scene.peer();
    let before = Instant::now();
    peer.ask(&Frame::call(1, "Async.Report", 3).with("priority", b"0").time_left(MINUTE)).number();
    let cx = scene.report();
    assert_eq!((cx.method(), cx.metadata().find("priority")), ("Async.Report", Some(&b"0"[..])));
    assert_eq!(cx.priority(), Priority::of(cx.metadata()));
    assert_eq!(cx.peer().to_string(), peer.tcp().local_addr().unwrap().to_string());
    assert!(cx.began() >= before && cx.time_left().unwrap() <= MINUTE);
    assert!(!cx.is_cancelled() && cx.check(Instant::now()).is_ok());
    peer.ask(&Frame::call(1, "Async.Report", 3)).number();
    let cx = scene.report();
    assert_eq!((cx.deadline(), cx.time_left(), cx.metadata().is_empty()), (None, None, true));
    // Both contexts outlive their calls.
    smol::block_on(async {
        cx.cancelled().await;
        assert!(!cx.expired().await);
    });
}

#[test]
fn the_queue_time_is_that_in_the_executor() {
    let _turn = shared();
    // Runs nothing until the test lets it.
    let (queue, queued) = std::sync::mpsc::channel();
    let executor = super::Executor {
        name: "by hand",
        spawn: std::sync::Arc::new(move |future| queue.send(future).unwrap()),
        _runtime: Box::new(()),
    };
    let scene = scene(executor, |_| {});
    let mut peer = scene.peer();
    peer.send(&Frame::call(1, "Async.Double", 2));
    let future = queued.recv().unwrap();
    let waits = Instant::now();
    while waits.elapsed() < Duration::from_millis(3) {
        std::hint::spin_loop();
    }
    smol::block_on(future);
    assert_eq!(peer.answer().number(), 4);
    let stats = scene.server().stats();
    assert!(stats.method("Async.Double").unwrap().queue_us.mean() >= 2_900.0);
}

#[test]
fn a_task_of_the_handler_learns_the_deadline_and_the_cancellation() {
    let _turn = shared();
    let (told, tells) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let scene = scene_with(
        smol(),
        |_| {},
        |builder| {
            builder.async_method("Async.Tasks", move |cx: OwnedContext, n: i64| {
                let (told, expired, cancelled) = (told.lock().unwrap().clone(), cx.expired(), cx.cancelled());
                let on_cancel = told.clone();
                cx.on_cancel(move || on_cancel.send("callback").unwrap());
                smol::spawn(async move {
                    let is_expired = expired.await;
                    cancelled.await;
                    told.send(if is_expired { "expired" } else { "ended" }).unwrap();
                })
                .detach();
                async move {
                    match n {
                        0 => std::future::pending().await,
                        n => Ok(n),
                    }
                }
            })
        },
    );
    let mut peer = scene.peer();
    let told = |count: usize| {
        let mut told: Vec<&str> =
            (0..count).map(|_| tells.recv_timeout(crate::common::PATIENCE).unwrap()).collect();
        told.sort_unstable();
        told
    };
    // Long enough that the future runs before the deadline on a machine that is busy.
    peer.send(&Frame::call(1, "Async.Tasks", 0).time_left(Duration::from_secs(1)));
    peer.answer().is(1, Code::DeadlineExceeded, "deadline");
    assert_eq!(told(2), ["callback", "expired"]);
    peer.send(&Frame::call(2, "Async.Tasks", 0).time_left(MINUTE));
    peer.send(&Frame::of_kind(kind::CANCEL, 2));
    peer.answer().is(2, Code::Cancelled, "cancelled");
    // A call that was cancelled before its future ran has started no task.
    peer.ask(&Frame::call(3, "Async.Tasks", 5)).number();
    let mut rest = vec![tells.recv_timeout(crate::common::PATIENCE).unwrap()];
    rest.extend(tells.try_iter());
    assert!(rest.contains(&"ended"), "{rest:?}");
}

#[test]
fn nested_calls_inherit_the_deadline_and_the_cancellation() {
    let _turn = shared();
    let back = scene(tokio_threads(), |_| {});
    let client = Client::connect(back.server().addresses()[0].to_string()).unwrap();
    let front = scene_with(
        tokio_threads(),
        |_| {},
        |builder| {
            let (report, hold) = (client.clone(), client.clone());
            builder
                .async_method("Front.Report", move |cx: OwnedContext, n: i64| {
                    let client = cx.client(&report);
                    async move { Ok(client.start::<Plain<i64>, Plain<i64>>(&REPORT, &n).await?) }
                })
                .async_method("Front.Hold", move |cx: OwnedContext, n: i64| {
                    let client = cx.client(&hold);
                    async move { Ok(client.start::<Plain<i64>, Plain<i64>>(&HOLD, &n).await?) }
                })
        },
    );
    let mut peer = front.peer();
    assert_eq!(peer.ask(&Frame::call(1, "Front.Report", 6).with("k", b"v").time_left(MINUTE)).number(), 6);
    let cx = back.report();
    assert!(cx.time_left().is_some_and(|left| left <= MINUTE));
    assert_eq!(cx.metadata().find("k"), Some(&b"v"[..]));
    peer.send(&Frame::call(2, "Front.Hold", 6));
    back.alive.wait_for(1);
    peer.send(&Frame::of_kind(kind::CANCEL, 2));
    peer.answer().is(2, Code::Cancelled, "cancelled");
    back.alive.wait_for(0);
    front.wait_for_in_flight(0);
    back.wait_for_in_flight(0);
}

static REPORT: MethodId = MethodId::new("Async.Report");
static HOLD: MethodId = MethodId::new("Async.Hold");

#[test]
fn a_server_with_async_methods_needs_an_executor() {
    let _turn = shared();
    let error = Server::builder()
        .async_method("Async.Double", |_cx, n: i64| async move { Ok(n) })
        .listen("127.0.0.1:0")
        .start()
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "Async.Double is async, and the server has no executor: call ServerBuilder::executor with a function that \
         spawns futures"
    );
    // Without async methods none is needed, and one that is there is not used.
    let builder = Server::builder().executor(|_| unreachable!()).method("A.B", |_cx, n: i64| Ok(n));
    drop(builder.listen("127.0.0.1:0").start().unwrap());
    let not_async =
        Method::new::<Plain<i64>, Plain<i64>>("A.B", Box::new(|_, _, _, _| unreachable!())).unwrap();
    let error =
        Server::builder().executor(|_| {}).method_of(not_async.kind(Kind::Async)).start().err().unwrap();
    assert_eq!(error.to_string(), "A.B has the kind async, but its handler returns no future");
    let is_async = Method::async_unary::<Plain<i64>, Plain<i64>, _, _>("A.B", |_cx, n| async move { Ok(n) });
    assert_eq!(is_async.unwrap().kind(Kind::Inline).runs(), Kind::Async);
}

#[test]
fn a_name_that_is_not_valid_is_refused() {
    let _turn = shared();
    let builder =
        Server::builder().executor(|_| {}).async_method("no dot", |_cx, n: i64| async move { Ok(n) });
    let error = builder.start().err().unwrap().to_string();
    assert!(error.contains("no dot"), "{error}");
}
