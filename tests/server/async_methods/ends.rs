//! How calls of async methods end: each once, and none leaves a future behind.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use coreloop::Code;
use coreloop::service::CallFuture;

use super::{Executor, MINUTE, executors, scene, tokio_threads};
use crate::common::{Frame, PATIENCE, eventually, kind, serial, shared};

const TEN_MS: Duration = Duration::from_millis(10);

#[test]
fn cancelling_a_call_drops_its_future() {
    let _turn = shared();
    for executor in executors() {
        let scene = scene(executor, |_| {});
        let mut peer = scene.peer();
        peer.send_all(&[Frame::call(1, "Async.Hold", 1), Frame::call(2, "Async.Hold", 1)]);
        scene.alive.wait_for(2);
        peer.send(&Frame::of_kind(kind::CANCEL, 1));
        peer.answer().is(1, Code::Cancelled, "the caller cancelled the call");
        scene.alive.wait_for(1);
        scene.wait_for_in_flight(1);
        // The connection is lost.
        peer.reset();
        scene.alive.wait_for(0);
        scene.wait_for_in_flight(0);
        eventually("both calls have ended", || {
            let stats = scene.server().stats();
            (stats.dropped, stats.cancelled, stats.late) == (1, 1, 1)
        });
    }
}

#[test]
fn the_deadline_drops_the_future() {
    let _turn = shared();
    for executor in executors() {
        let scene = scene(executor, |_| {});
        let mut peer = scene.peer();
        peer.send(&Frame::call(1, "Async.Hold", 1).time_left(TEN_MS));
        peer.answer().is(1, Code::DeadlineExceeded, "the deadline passed while the call was running");
        scene.alive.wait_for(0);
        scene.wait_for_in_flight(0);
        // The id is free again, and so is the slot.
        assert_eq!(peer.ask(&Frame::call(1, "Async.Double", 4)).number(), 8);
    }
}

#[test]
fn a_panic_ends_one_call() {
    let _turn = shared();
    for executor in executors() {
        let scene = scene(executor, |_| {});
        let mut peer = scene.peer();
        for (how, text) in ["in the function", "at once", "later", "in a destructor"].iter().enumerate() {
            let answer = peer.ask(&Frame::call(how as u64, "Async.Panic", how as i64));
            // The panic of an assertion that shows the text would be kept out of the output.
            let is_as_expected = answer.text() == format!("the handler panicked: on purpose {text}");
            assert_eq!((answer.code(), is_as_expected), (Code::Internal, true), "{how}");
        }
        assert_eq!(peer.ask(&Frame::call(9, "Async.Panic", 9)).number(), 9);
        assert_eq!(peer.ask(&Frame::call(1, "Async.Double", 4)).number(), 8);
        scene.wait_for_in_flight(0);
        assert_eq!(scene.server().stats().panics, 4);
    }
}

#[test]
fn a_drain_waits_for_futures_and_then_drops_them() {
    let _turn = shared();
    for executor in executors() {
        let mut scene = scene(executor, |config| config.limits.drain_ms = 5_000);
        let mut peer = scene.peer();
        peer.send(&Frame::call(1, "Async.Gate", 5));
        scene.alive.wait_for(1);
        let server = scene.server.take().unwrap();
        let draining = std::thread::spawn(move || server.shutdown());
        assert_eq!(peer.answer().kind, kind::DRAIN);
        drop(scene.gate.take());
        assert_eq!(peer.answer().number(), 5);
        let stats = draining.join().unwrap();
        assert_eq!((stats.drain_cancelled, stats.async_in_flight), (0, 0));
        scene.alive.wait_for(0);
    }
    for executor in executors() {
        let mut scene = scene(executor, |config| config.limits.drain_ms = 20);
        let mut peer = scene.peer();
        peer.send(&Frame::call(1, "Async.Hold", 5));
        scene.alive.wait_for(1);
        let stats = scene.server.take().unwrap().shutdown();
        assert_eq!(peer.answer().kind, kind::DRAIN);
        peer.answer().is(1, Code::Unavailable, "drain_ms");
        assert_eq!(stats.drain_cancelled, 1);
        scene.alive.wait_for(0);
    }
}

fn by_hand(spawn: impl Fn(CallFuture) + Send + Sync + 'static) -> Executor {
    Executor { name: "by hand", spawn: Arc::new(spawn), _runtime: Box::new(()) }
}

#[test]
fn an_executor_that_drops_futures_ends_their_calls() {
    let _turn = shared();
    let not_run = "the executor dropped the call's future without running it";
    let scene = scene(by_hand(drop), |_| {});
    let mut peer = scene.peer();
    for id in 0..3 {
        peer.ask(&Frame::call(id, "Async.Double", 1)).is(id, Code::Internal, not_run);
    }
    assert_eq!((scene.in_flight(), scene.ended("Async.Double", Code::Internal)), (0, 3));
    // An executor that panics: the reactor lives.
    drop(peer);
    drop(scene);
    let scene = super::scene(by_hand(|_| panic!("{}", crate::common::rig::ON_PURPOSE)), |_| {});
    let mut peer = scene.peer();
    peer.ask(&Frame::call(1, "Async.Double", 1)).is(1, Code::Internal, not_run);
    assert_eq!(peer.ask(&Frame::call(2, "Pooled.Double", 1)).number(), 2);
    assert_eq!((scene.in_flight(), scene.server().stats().panics), (0, 1));
}

#[test]
fn an_executor_that_stops_ends_the_calls_that_it_has_begun() {
    let _turn = shared();
    let (sender, futures) = mpsc::channel::<CallFuture>();
    let sender = Mutex::new(sender);
    let scene = scene(by_hand(move |future| sender.lock().unwrap().send(future).unwrap()), |_| {});
    let mut peer = scene.peer();
    peer.send(&Frame::call(1, "Async.Hold", 1));
    let mut future = futures.recv_timeout(PATIENCE).unwrap();
    assert!(smol::block_on(smol::future::poll_once(&mut future)).is_none());
    assert_eq!(scene.alive.count(), 1);
    drop(future);
    peer.answer().is(1, Code::Internal, "the executor dropped the call's future before it was ready");
    assert_eq!((scene.alive.count(), scene.in_flight()), (0, 0));
}

#[test]
fn an_executor_that_never_runs_a_future_does_not_hold_its_caller() {
    let _turn = shared();
    let held: Arc<Mutex<Vec<CallFuture>>> = Arc::default();
    let hold = held.clone();
    let mut scene = scene(by_hand(move |future| hold.lock().unwrap().push(future)), |config| {
        config.limits.drain_ms = 20;
    });
    let mut peer = scene.peer();
    peer.send(&Frame::call(1, "Async.Double", 1).time_left(TEN_MS));
    peer.answer().is(1, Code::DeadlineExceeded, "deadline");
    peer.send(&Frame::call(2, "Async.Double", 1));
    peer.send(&Frame::of_kind(kind::CANCEL, 2));
    peer.answer().is(2, Code::Cancelled, "cancelled");
    assert_eq!(scene.in_flight(), 2, "the futures exist, and count");
    peer.send(&Frame::call(3, "Async.Double", 1).time_left(MINUTE));
    eventually("three are held", || held.lock().unwrap().len() == 3);
    // Run at last, the first two do not call their handlers.
    let mut futures = std::mem::take(&mut *held.lock().unwrap());
    let third = futures.pop().unwrap();
    futures.into_iter().for_each(smol::block_on);
    eventually("the work of both has ended", || scene.server().stats().late == 2);
    assert_eq!(scene.in_flight(), 1);
    let stats = scene.server.take().unwrap().shutdown();
    assert_eq!(peer.answer().kind, kind::DRAIN);
    peer.answer().is(3, Code::Unavailable, "drain_ms");
    assert_eq!(stats.drain_cancelled, 1);
    drop(third);
}

#[test]
fn a_future_that_is_late_does_not_begin() {
    let _turn = shared();
    let (sender, futures) = mpsc::channel::<CallFuture>();
    let sender = Mutex::new(sender);
    let scene = scene(by_hand(move |future| sender.lock().unwrap().send(future).unwrap()), |_| {});
    let mut peer = scene.peer();
    peer.send(&Frame::call(1, "Async.Hold", 1).time_left(TEN_MS));
    let future = futures.recv_timeout(PATIENCE).unwrap();
    peer.answer().is(1, Code::DeadlineExceeded, "");
    // It is ready at once: a handler that had begun would wait forever.
    smol::block_on(future);
    assert_eq!(scene.in_flight(), 0);
}

#[test]
fn ten_thousand_calls_wait_without_a_thread_each() {
    let _turn = serial();
    let mut scene = scene(tokio_threads(), |config| config.limits.in_flight_max = 2_000);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let mut peers: Vec<_> = (0..10).map(|_| scene.peer()).collect();
    for peer in &mut peers {
        let calls: Vec<Frame> = (0..1_000).map(|id| Frame::call(id, "Async.Gate", id as i64)).collect();
        peer.send_all(&calls);
    }
    scene.alive.wait_for(10_000);
    assert_eq!((scene.in_flight(), threads()), (10_000, before));
    drop(scene.gate.take());
    for peer in &mut peers {
        let mut ids: Vec<i64> = (0..1_000).map(|_| peer.answer().number()).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..1_000));
    }
    scene.wait_for_in_flight(0);
}
