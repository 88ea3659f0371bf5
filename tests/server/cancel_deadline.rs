//! Calls whose caller no longer waits: cancelled, past their deadline, or on a closed connection. The answer is
//! sent at once; running work is notified and queued work never begins.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::rig::KINDS;
use crate::common::{Frame, Rig, eventually, kind, rig, serial};
use coreloop::Code;

fn plain() -> Rig {
    rig(|_| {})
}

const SHORT: Duration = Duration::from_millis(100);
/// A minute: longer than any test waits.
const LONG_MS: i64 = 60_000;

#[test]
fn queued_work_that_is_cancelled_never_begins() {
    let _turn = serial();
    let rig = rig(|config| (config.workers, config.blocking_threads) = (1, 1));
    let witness = rig.witness();
    for (round, service) in [(1, "Pooled"), (2, "Blocking")] {
        let mut peer = rig.peer();
        let gate = format!("{service}.Gate");
        peer.send(&Frame::call(0, &gate, 0));
        rig.gate.wait_for(round);
        for id in 1..=5 {
            peer.send(&Frame::call(id, &gate, 0));
        }
        peer.ping();
        for id in 1..=5 {
            peer.ask(&Frame::of_kind(kind::CANCEL, id)).is(id, Code::Cancelled, "cancelled the call");
        }
        rig.gate.admit(1);
        assert_eq!(peer.answer().id, 0);
        eventually("the queue is empty", || rig.stats().removed == 5 * round);
        assert_eq!(rig.gate.begun(), round);
        peer.ping();
        peer.half_close();
        peer.ends();
    }
    let stats = rig.stats();
    // One of them had been handed over to the worker.
    assert_eq!((stats.cancelled, stats.late, stats.dropped), (10, 1, 0));
    witness.assert_all_released();
}

#[test]
fn a_cancelled_sleep_wakes_and_its_callback_runs() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for id in 0..10 {
        peer.send(&Frame::call(id, "Blocking.Sleep", LONG_MS));
    }
    rig.wait_for_runs(10);
    for id in 0..10 {
        peer.ask(&Frame::of_kind(kind::CANCEL, id)).is(id, Code::Cancelled, "cancelled the call");
    }
    eventually("all of them have ended", || rig.stats().late == 10);
    assert_eq!(rig.cancelled.load(Ordering::SeqCst), 10);
    // Each call has one answer only: the next frame is the pong.
    peer.ping();
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_cancelled_sleep_wakes_when_every_blocking_thread_sleeps() {
    let _turn = serial();
    let rig = rig(|config| (config.blocking_threads, config.limits.run_queue_max) = (2, 4));
    let witness = rig.witness();
    let mut peer = rig.peer();
    for id in 0..2 {
        peer.send(&Frame::call(id, "Blocking.Sleep", LONG_MS));
        rig.wait_for_runs(id + 1);
    }
    // The queue behind them is full as well.
    for id in 2..6 {
        peer.send(&Frame::call(id, "Blocking.Sleep", LONG_MS));
    }
    peer.ping();
    // The queued calls first, because a thread that wakes takes the next one.
    for id in (0..6).rev() {
        peer.ask(&Frame::of_kind(kind::CANCEL, id)).is(id, Code::Cancelled, "cancelled the call");
    }
    eventually("the work of all has ended", || rig.stats().late == 2);
    assert_eq!(rig.stats().removed, 4);
    assert_eq!(rig.cancelled.load(Ordering::SeqCst), 2);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_cancel_for_nothing_is_ignored() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    peer.send(&Frame::of_kind(kind::CANCEL, 99));
    assert_eq!(peer.ask(&Frame::call(1, "Pooled.Double", 1)).number(), 2);
    peer.send(&Frame::of_kind(kind::CANCEL, 1));
    peer.send(&Frame::call(2, "Blocking.Gate", 1));
    rig.gate.wait_for(1);
    peer.send(&Frame::of_kind(kind::CANCEL, 3));
    peer.ask(&Frame::of_kind(kind::CANCEL, 2)).is(2, Code::Cancelled, "");
    peer.send(&Frame::of_kind(kind::CANCEL, 2));
    rig.gate.open();
    peer.ping();
    assert_eq!(rig.stats().cancelled, 1);
    eventually("its late result is counted", || rig.stats().late == 1);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_cancelled_id_may_be_used_again_while_its_work_goes_on() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for round in 1..=5 {
        peer.send(&Frame::call(7, "Blocking.Gate", round));
        rig.gate.wait_for(round as u64);
        peer.ask(&Frame::of_kind(kind::CANCEL, 7)).is(7, Code::Cancelled, "");
    }
    peer.send(&Frame::call(7, "Blocking.Gate", 6));
    rig.gate.open();
    assert_eq!(peer.answer().number(), 6);
    peer.ping();
    eventually("the others are counted", || rig.stats().late == 5);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_handler_that_overruns_its_deadline_is_answered_at_the_deadline() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for (count, service) in [(1, "Pooled"), (2, "Blocking")] {
        peer.send(&Frame::call(5, &format!("{service}.Gate"), 1).time_left(SHORT));
        // The handler is still running.
        peer.answer().is(5, Code::DeadlineExceeded, "while the call was running");
        rig.gate.wait_for(count);
        rig.gate.admit(1);
        eventually("the late result is counted", || rig.stats().late == count);
        peer.ping();
    }
    let stats = rig.stats();
    assert_eq!((stats.deadlines, stats.late, stats.removed), ([0, 0, 2], 2, 0));
    // A handler that checks its deadline itself ends at the deadline, whether it or the server notices first: no
    // thread stays blocked.
    peer.ask(&Frame::call(6, "Blocking.Sleep", LONG_MS).time_left(SHORT)).is(6, Code::DeadlineExceeded, "");
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_held_reply_is_answered_at_its_deadline() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for (count, (service, _)) in KINDS.into_iter().enumerate() {
        peer.ask(&Frame::call(5, &format!("{service}.Hold"), 1).time_left(SHORT)).is(
            5,
            Code::DeadlineExceeded,
            "was running",
        );
        let (_, reply) = rig.held.lock().unwrap().pop().unwrap();
        assert!(reply.is_cancelled());
        reply.send(Ok(1));
        eventually("it is counted as late", || rig.stats().late == count as u64 + 1);
        peer.ping();
    }
    assert_eq!(rig.stats().deadlines, [0, 0, 3]);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_call_whose_deadline_passes_while_it_is_queued_never_begins() {
    let _turn = serial();
    let rig = rig(|config| (config.workers, config.blocking_threads) = (1, 1));
    let witness = rig.witness();
    for (round, service) in [(1, "Pooled"), (2, "Blocking")] {
        let mut peer = rig.peer();
        let gate = format!("{service}.Gate");
        peer.send(&Frame::call(0, &gate, 0));
        rig.gate.wait_for(round);
        for id in 1..=5 {
            peer.send(&Frame::call(id, &gate, 0).time_left(SHORT));
        }
        let mut late: Vec<u64> = (0..5)
            .map(|_| {
                let answer = peer.answer();
                assert_eq!(answer.code(), Code::DeadlineExceeded);
                answer.id
            })
            .collect();
        late.sort_unstable();
        assert_eq!(late, [1, 2, 3, 4, 5]);
        rig.gate.admit(1);
        assert_eq!(peer.answer().id, 0);
        eventually("the queue is empty", || rig.stats().removed == 5 * round);
        assert_eq!(rig.gate.begun(), round);
        peer.half_close();
        peer.ends();
    }
    assert_eq!(rig.stats().deadlines[2], 10, "each is counted once");
    witness.assert_all_released();
}

#[test]
fn queued_work_of_a_closed_connection_never_begins() {
    let _turn = serial();
    let rig = rig(|config| (config.workers, config.blocking_threads) = (1, 1));
    let mut witness = rig.witness();
    for (round, service) in [(1, "Pooled"), (2, "Blocking")] {
        let mut peer = rig.peer();
        let gate = format!("{service}.Gate");
        peer.send(&Frame::call(0, &gate, 0));
        rig.gate.wait_for(round);
        for id in 1..=5 {
            peer.send(&Frame::call(id, &gate, 0));
        }
        peer.ping();
        peer.reset();
        rig.wait_for_closed("reset", round);
        assert_eq!(rig.stats().dropped, 6 * round);
        rig.gate.admit(1);
        eventually("the queue is empty", || rig.stats().removed == 5 * round);
        assert_eq!(rig.gate.begun(), round);
        witness.is_unharmed();
    }
    witness.assert_all_released();
}

#[test]
fn a_sleep_wakes_when_its_caller_goes_away() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for id in 0..5 {
        peer.send(&Frame::call(id, "Blocking.Sleep", LONG_MS));
    }
    rig.wait_for_runs(5);
    peer.reset();
    eventually("all of them have heard of it", || rig.cancelled.load(Ordering::SeqCst) == 5);
    witness.assert_all_released();
}

#[test]
fn a_reset_is_noticed_while_reading_is_stopped() {
    let _turn = serial();
    let rig = rig(|config| config.limits.in_flight_max = 3);
    let witness = rig.witness();
    let mut peer = rig.peer();
    let frames: Vec<Frame> = (0..10).map(|id| Frame::call(id, "Blocking.Sleep", LONG_MS)).collect();
    peer.send_all(&frames);
    rig.wait_for_runs(3);
    rig.wait_for_pauses(1);
    peer.reset();
    rig.wait_for_closed("reset", 1);
    eventually("the sleepers have heard of it", || rig.cancelled.load(Ordering::SeqCst) == 3);
    witness.assert_all_released();
}

#[test]
fn a_reset_after_a_half_close_is_noticed() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for id in 0..3 {
        peer.send(&Frame::call(id, "Blocking.Sleep", LONG_MS));
    }
    peer.half_close();
    rig.wait_for_runs(3);
    peer.reset();
    rig.wait_for_closed("reset", 1);
    eventually("the sleepers have heard of it", || rig.cancelled.load(Ordering::SeqCst) == 3);
    witness.assert_all_released();
}
