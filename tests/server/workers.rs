//! Where handlers run, and what happens when they panic, wait, or defer their reply.

use crate::common::rig::KINDS;
use crate::common::{Frame, Rig, rig, serial, shared};
use coreloop::Code;
use coreloop::codec::Codec;

fn plain() -> Rig {
    rig(|_| {})
}

#[test]
fn a_panic_costs_one_reply_wherever_the_handler_runs() {
    let _turn = serial();
    let rig = rig(|config| config.workers = 1);
    let mut witness = rig.witness();
    let mut peer = rig.peer();
    let mut panics = 0;
    for (service, _) in KINDS {
        for how in [0, 1, 2] {
            let answer = peer.ask(&Frame::call(5, &format!("{service}.Panic"), how));
            answer.is(
                5,
                Code::Internal,
                ["panicked: on purpose", "on purpose with 1", "no message"][how as usize],
            );
            panics += 1;
            // The connection and the only worker still work.
            assert_eq!(peer.ask(&Frame::call(6, &format!("{service}.Double"), 4)).number(), 8);
        }
    }
    // Within a batch, the neighbours are answered as usual.
    let frames: Vec<Frame> = (0..30)
        .map(|id| Frame::call(id, if id % 3 == 0 { "Pooled.Panic" } else { "Pooled.Double" }, 2))
        .collect();
    peer.send_all(&frames);
    let mut codes: Vec<(u64, Code)> = (0..30).map(|_| peer.answer()).map(|a| (a.id, a.code())).collect();
    codes.sort_unstable();
    for (id, code) in codes {
        assert_eq!(code, if id % 3 == 0 { Code::Internal } else { Code::Ok });
    }
    panics += 10;
    assert_eq!(rig.stats().panics, panics);
    assert_eq!(rig.stats().method("Inline.Panic").unwrap().answered(Code::Internal), 3);
    witness.is_unharmed();
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_one_way_call_runs_is_counted_and_has_no_answer() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for id in 0..100 {
        // Also with a repeated id, and with a handler that panics.
        peer.send(&Frame::call(id % 3, "Pooled.Count", 1).one_way());
    }
    for (service, _) in KINDS {
        for method in ["Panic", "Drop", "AnswerNow", "AnswerElsewhere", "TakeAndPanic"] {
            peer.send(&Frame::call(1, &format!("{service}.{method}"), 0).one_way());
        }
    }
    crate::common::eventually("all have run", || rig.calls("Pooled.Count") == 100);
    assert_eq!(rig.counted.load(std::sync::atomic::Ordering::SeqCst), 100);
    let others = || -> u64 {
        let stats = rig.stats();
        let is_other =
            |name: &str| name.ends_with("Panic") || name.contains("Answer") || name.ends_with("Drop");
        stats.methods.iter().filter(|method| is_other(&method.name)).map(|method| method.calls).sum()
    };
    crate::common::eventually("the others have ended too", || others() == 15);
    // An answer to any of them would arrive before the pong.
    peer.ping();
    peer.half_close();
    peer.ends();
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_deferred_reply_may_be_sent_from_any_thread() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for (service, _) in KINDS {
        for method in ["AnswerNow", "AnswerElsewhere"] {
            let method = format!("{service}.{method}");
            for round in 0..50 {
                assert_eq!(peer.ask(&Frame::call(1, &method, round)).number(), round);
            }
            // Many at once: answers are sent before, with and after the batch that they belong to.
            let frames: Vec<Frame> = (0..200).map(|id| Frame::call(id, &method, id as i64)).collect();
            peer.send_all(&frames);
            let mut seen: Vec<u64> = (0..200)
                .map(|_| {
                    let answer = peer.answer();
                    assert_eq!(answer.number(), answer.id as i64);
                    answer.id
                })
                .collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..200));
        }
    }
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn held_replies_do_not_delay_others() {
    let _turn = serial();
    let rig = rig(|config| config.workers = 1);
    let mut witness = rig.witness();
    let mut peer = rig.peer();
    for (service, _) in KINDS {
        let frames: Vec<Frame> =
            (0..20).map(|id| Frame::call(id, &format!("{service}.Hold"), id as i64)).collect();
        peer.send_all(&frames);
        crate::common::eventually("all are held", || rig.held.lock().unwrap().len() == 20);
        witness.is_unharmed();
        peer.ping();
        // In reverse order, which is then the order of the answers.
        let held: Vec<_> = rig.held.lock().unwrap().drain(..).collect();
        for (number, reply) in held.into_iter().rev() {
            reply.send(Ok(number + 1));
            let answer = peer.answer();
            assert_eq!(answer.number(), answer.id as i64 + 1);
            assert_eq!(answer.number(), number + 1);
        }
    }
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_reply_that_is_dropped_answers_internal() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for (service, _) in KINDS {
        let answer = peer.ask(&Frame::call(5, &format!("{service}.Drop"), 0));
        answer.is(5, Code::Internal, "dropped its reply");
        let answer = peer.ask(&Frame::call(6, &format!("{service}.TakeAndPanic"), 0));
        answer.is(6, Code::Internal, "dropped its reply");
        peer.send(&Frame::call(7, &format!("{service}.Hold"), 0));
        crate::common::eventually("it is held", || rig.held.lock().unwrap().len() == 1);
        rig.held.lock().unwrap().clear();
        peer.answer().is(7, Code::Internal, "dropped its reply");
    }
    assert_eq!(rig.stats().panics, 3);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn replies_of_closed_connections_are_dropped() {
    let _turn = serial();
    let rig = plain();
    let mut witness = rig.witness();
    for (service, _) in KINDS {
        let mut peer = rig.peer();
        for id in 0..10 {
            peer.send(&Frame::call(id, &format!("{service}.Hold"), 0));
        }
        crate::common::eventually("all are held", || rig.held.lock().unwrap().len() == 10);
        peer.reset();
        crate::common::eventually("nobody waits any more", || {
            rig.held.lock().unwrap().iter().all(|(_, reply)| reply.is_cancelled())
        });
        for (number, reply) in rig.held.lock().unwrap().drain(..) {
            if number % 2 == 0 { reply.send(Ok(1)) } else { drop(reply) }
        }
        witness.is_unharmed();
    }
    assert_eq!(rig.stats().dropped, 30);
    witness.assert_all_released();
}

#[test]
fn slow_calls_do_not_delay_quick_ones() {
    let _turn = serial();
    let rig = rig(|config| config.workers = 2);
    let mut witness = rig.witness();
    let mut peer = rig.peer();
    // Fifty handlers that wait, on the elastic pool; and one on a worker that blocks although its kind forbids it.
    for id in 0..50 {
        peer.send(&Frame::call(id, "Blocking.Gate", id as i64));
    }
    rig.gate.wait_for(50);
    peer.send(&Frame::call(50, "Pooled.Gate", 50));
    rig.gate.wait_for(51);
    for id in 100..200 {
        assert_eq!(peer.ask(&Frame::call(id, "Pooled.Double", id as i64)).number(), 2 * id as i64);
        assert_eq!(peer.ask(&Frame::call(id, "Blocking.Double", id as i64)).number(), 2 * id as i64);
    }
    witness.is_unharmed();
    rig.gate.open();
    let mut seen: Vec<i64> = (0..=50).map(|_| peer.answer().number()).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..=50));
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn calls_behind_a_blocked_call_run_on_other_workers() {
    let _turn = serial();
    for stuck in [1, 2] {
        let rig = rig(|config| config.workers = stuck + 1);
        let mut witness = rig.witness();
        let mut peer = rig.peer();
        // One write, one turn, one batch; the blocked calls come first and all others wait behind them.
        for first in [0, 100, 200] {
            let frames: Vec<Frame> = (first..first + 30)
                .map(|id| {
                    let is_stuck = id - first < stuck as u64;
                    Frame::call(id, if is_stuck { "Pooled.Gate" } else { "Pooled.Double" }, id as i64)
                })
                .collect();
            peer.send_all(&frames);
            let mut seen: Vec<u64> = (0..30 - stuck).map(|_| peer.answer().id).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(first + stuck as u64..first + 30), "while {stuck} are stuck");
            witness.is_unharmed();
            rig.gate.admit(stuck);
            let mut seen: Vec<u64> = (0..stuck).map(|_| peer.answer().id).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(first..first + stuck as u64));
        }
        drop(peer);
        witness.assert_all_released();
    }
}

#[test]
fn large_arguments_behind_a_blocked_call_are_released() {
    let _turn = serial();
    let rig = rig(|config| config.workers = 2);
    let witness = rig.witness();
    let mut peer = rig.peer();
    let mut frames = vec![Frame::call(0, "Pooled.Gate", 0)];
    let body = |id: u64| vec![id as u8; 3_000];
    frames.extend((1..6).map(|id| Frame::request(id, "Pooled.Bytes", Codec::Raw, body(id))));
    peer.send_all(&frames);
    let mut seen: Vec<u64> = (1..6)
        .map(|_| {
            let answer = peer.answer();
            assert_eq!(answer.body, body(answer.id));
            answer.id
        })
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..6));
    rig.gate.open();
    assert_eq!(peer.answer().id, 0);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn the_elastic_pool_stops_growing_at_its_bound_and_the_rest_waits() {
    let _turn = serial();
    let rig = rig(|config| config.blocking_threads = 3);
    let witness = rig.witness();
    let mut peer = rig.peer();
    for id in 0..20 {
        peer.send(&Frame::call(id, "Blocking.Gate", id as i64));
    }
    rig.gate.wait_for(3);
    crate::common::eventually("the others are queued", || rig.stats().workers.queued == 17);
    assert_eq!(rig.gate.begun(), 3);
    rig.gate.open();
    let mut seen: Vec<i64> = (0..20).map(|_| peer.answer().number()).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..20));
    assert_eq!(rig.gate.inside_max(), 3);
    assert_eq!(rig.stats().workers.blocking_threads_peak, 3);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn cancellation_callbacks_are_dropped_with_their_call() {
    let _turn = shared();
    let token = std::sync::Arc::new(());
    let mut builder = coreloop::Server::builder().cores(1).workers(2).listen("127.0.0.1:0");
    for (service, kind) in KINDS {
        let token = token.clone();
        let wait = move |cx: &coreloop::Context<'_>, n: i64| {
            let token = token.clone();
            cx.on_cancel(move || drop(token));
            Ok(n)
        };
        builder = builder.method_of_kind(&format!("{service}.Wait"), kind, wait);
    }
    let server = builder.start().unwrap();
    let mut peer = crate::common::Peer::connect(&server.addresses()[0]);
    for (service, _) in KINDS {
        let frames: Vec<Frame> = (0..500).map(|id| Frame::call(id, &format!("{service}.Wait"), 1)).collect();
        peer.send_all(&frames);
        (0..500).for_each(|_| assert_eq!(peer.answer().number(), 1));
        // One reference here, and one in each of the handlers.
        crate::common::eventually("all are let go", || std::sync::Arc::strong_count(&token) == 4);
    }
}
