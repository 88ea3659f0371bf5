//! Every call ends once: each way in which a call can end, as an interceptor of the server receives it, and as its span
//! has it.

mod futures;
mod shed;
mod streams;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::common::rig::{rig_with, tracer_of_all};
use crate::common::{Frame, PATIENCE, Peer, Rig, eventually, kind, shared};
use coreloop::codec::Codec;
use coreloop::config::Config;
use coreloop::interceptor::{AdmittedCall, EndPlace, EndedCall, Hooks, Interceptor, ShedReason};
use coreloop::service::{Kind, Method};
use coreloop::stats::Snapshot;
use coreloop::trace::Tracer;
use coreloop::{Code, Context, Status};

pub use streams::with_streams;

/// Keeps everything that it observes.
#[derive(Default)]
struct Ledger {
    observed: Mutex<Observed>,
    ignores_ends: bool,
}

#[derive(Default)]
struct Observed {
    methods: Vec<String>,
    /// The ids of the requests that passed admission.
    requests: Vec<u64>,
    ends: Vec<End>,
    finished: u32,
}

#[derive(Debug)]
struct End {
    id: u64,
    method: Option<u32>,
    place: EndPlace,
    code: Code,
}

impl Interceptor for Ledger {
    fn hooks(&self) -> Hooks {
        if self.ignores_ends { Hooks::ON_ADMITTED } else { Hooks::ON_ADMITTED | Hooks::ON_END }
    }

    fn start(&self, methods: &[Method]) -> std::io::Result<()> {
        self.observed.lock().unwrap().methods =
            methods.iter().map(|method| method.name().to_owned()).collect();
        Ok(())
    }

    fn on_admitted(&self, call: &AdmittedCall<'_>) {
        self.observed.lock().unwrap().requests.push(call.id);
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        let EndedCall { id, method, place, code, .. } = *end;
        self.observed.lock().unwrap().ends.push(End { id, method, place, code });
    }

    fn finish(&self) {
        self.observed.lock().unwrap().finished += 1;
    }
}

/// A server with a ledger, and one connection.
struct Scene {
    rig: Rig,
    peer: Peer,
    /// Connections that stay open.
    others: Vec<Peer>,
    ledger: Arc<Ledger>,
    tracer: Tracer,
    /// Ends one call of `Inline.Wait`, which blocks the reactor.
    release: mpsc::Sender<()>,
    /// Requests sent.
    sent: usize,
    /// The executor drops futures.
    drops: Arc<AtomicBool>,
}

fn scene(change: impl FnOnce(&mut Config), ledger: Ledger) -> Scene {
    let ledger = Arc::new(ledger);
    // Without sampling, quick calls are timed together.
    let tracer = tracer_of_all(if ledger.ignores_ends { 0 } else { 1 });
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let wait = move |_cx: &Context<'_>, n: i64| {
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        Ok::<i64, Status>(n)
    };
    let fail = |_cx: &Context<'_>, n: i64| Err::<i64, Status>(Status::new(Code::Aborted, n.to_string()));
    let late = |_cx: &Context<'_>, _n: i64| Err::<i64, Status>(Status::deadline_exceeded("of a nested call"));
    let drops = Arc::default();
    let rig = rig_with(&["127.0.0.1:0"], change, |builder| {
        futures::with_futures(shed::with_slow(streams::with_streams(builder)), &drops)
            .interceptor(ledger.clone())
            .tracer(tracer.clone())
            .method_of_kind("Inline.Wait", Kind::Inline, wait)
            .method_of_kind("Inline.Fail", Kind::Inline, fail)
            .method_of_kind("Pooled.Fail", Kind::Pooled, fail)
            .method_of_kind("Pooled.Late", Kind::Pooled, late)
    });
    let peer = rig.peer();
    Scene { rig, peer, others: Vec::new(), ledger, tracer, release, sent: 0, drops }
}

impl Scene {
    fn send(&mut self, frame: &Frame) {
        self.sent += 1;
        self.peer.send(frame);
    }

    fn call(&mut self, id: u64, method: &str) {
        self.send(&Frame::call(id, method, 1));
    }

    /// Sends a call and waits for its answer, with that code.
    #[track_caller]
    fn ask(&mut self, frame: &Frame, code: Code) {
        self.send(frame);
        self.peer.answer().is(frame.id, code, "");
    }

    fn occupy_worker(&mut self, id: u64) {
        let begun = self.rig.gate.begun();
        self.call(id, "Pooled.Gate");
        self.rig.gate.wait_for(begun + 1);
    }
}

/// A way to end, and what the interceptor must receive: id, place and code of each call, in any order.
struct Case {
    name: &'static str,
    change: fn(&mut Config),
    run: fn(&mut Scene),
    ends: &'static [(u64, EndPlace, Code)],
}

fn one_worker(config: &mut Config) {
    (config.workers, config.blocking_threads) = (1, 1);
}

const TEN_MS: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_secs(60);

const CASES: &[Case] = &[
    Case {
        name: "ok",
        change: |_| {},
        run: |scene| {
            for (id, method) in ["Inline.Double", "Pooled.Double", "Blocking.Double"].into_iter().enumerate()
            {
                scene.ask(&Frame::call(id as u64, method, 4), Code::Ok);
            }
        },
        ends: &[
            (0, EndPlace::Inline, Code::Ok),
            (1, EndPlace::Worker, Code::Ok),
            (2, EndPlace::Worker, Code::Ok),
        ],
    },
    Case {
        name: "error",
        change: |_| {},
        run: |scene| {
            scene.ask(&Frame::call(1, "Inline.Fail", 4), Code::Aborted);
            scene.ask(&Frame::call(2, "Pooled.Fail", 4), Code::Aborted);
            scene.ask(&Frame::request(3, "Pooled.Double", Codec::Json, "no"), Code::InvalidArgument);
        },
        ends: &[
            (1, EndPlace::Inline, Code::Aborted),
            (2, EndPlace::Worker, Code::Aborted),
            (3, EndPlace::Worker, Code::InvalidArgument),
        ],
    },
    Case {
        name: "panic",
        change: |_| {},
        run: |scene| {
            for (id, service) in ["Inline", "Pooled", "Blocking"].into_iter().enumerate() {
                scene.ask(&Frame::call(id as u64, &format!("{service}.Panic"), 0), Code::Internal);
            }
        },
        ends: &[
            (0, EndPlace::Inline, Code::Internal),
            (1, EndPlace::Worker, Code::Internal),
            (2, EndPlace::Worker, Code::Internal),
        ],
    },
    Case {
        name: "refused",
        change: |config| config.limits.frame_bytes_max = 1 << 12,
        run: |scene| {
            scene.ask(&Frame::call(1, "No.Method", 0), Code::Unimplemented);
            let mut unknown_codec = Frame::call(2, "Inline.Double", 0);
            unknown_codec.codec = 99;
            scene.ask(&unknown_codec, Code::Unimplemented);
            scene.ask(
                &Frame::request(3, "Pooled.Bytes", Codec::Raw, vec![1; 1 << 13]),
                Code::ResourceExhausted,
            );
            scene.send(&Frame::call(4, "No.Method", 0).one_way());
            scene.peer.ping();
        },
        ends: &[
            (1, EndPlace::Refused, Code::Unimplemented),
            (2, EndPlace::Refused, Code::Unimplemented),
            (3, EndPlace::Refused, Code::ResourceExhausted),
            (4, EndPlace::Refused, Code::Unimplemented),
        ],
    },
    Case {
        name: "an id that is in flight",
        change: |_| {},
        run: |scene| {
            scene.call(1, "Blocking.Gate");
            scene.rig.gate.wait_for(1);
            scene.ask(&Frame::call(1, "Pooled.Double", 4), Code::InvalidArgument);
            scene.rig.gate.open();
            scene.peer.answer().is(1, Code::Ok, "");
        },
        ends: &[(1, EndPlace::Refused, Code::InvalidArgument), (1, EndPlace::Worker, Code::Ok)],
    },
    Case {
        name: "a full queue",
        change: |config| {
            one_worker(config);
            config.limits.run_queue_max = 1;
        },
        run: |scene| {
            scene.occupy_worker(0);
            // One call waits at the worker, one in the queue.
            scene.call(1, "Pooled.Double");
            scene.call(2, "Pooled.Double");
            scene.ask(&Frame::call(3, "Pooled.Double", 1), Code::ResourceExhausted);
            scene.rig.gate.open();
            (0..3).for_each(|_| assert_eq!(scene.peer.answer().code(), Code::Ok));
        },
        ends: &[
            (0, EndPlace::Worker, Code::Ok),
            (1, EndPlace::Worker, Code::Ok),
            (2, EndPlace::Worker, Code::Ok),
            (3, EndPlace::Shed(ShedReason::QueueFull), Code::ResourceExhausted),
        ],
    },
    Case {
        name: "late at decode",
        change: |_| {},
        run: |scene| {
            // The second call is decoded in the turn of the first, which takes longer than the second may wait.
            let second = Frame::call(2, "Inline.Double", 1).time_left(TEN_MS);
            let third = Frame::call(3, "Inline.AnswerNow", 1).time_left(TEN_MS);
            scene.peer.send_all([&Frame::call(1, "Inline.Wait", 1), &second, &third]);
            scene.sent += 3;
            std::thread::sleep(2 * TEN_MS);
            scene.release.send(()).unwrap();
            (0..3).for_each(|_| drop(scene.peer.answer()));
        },
        ends: &[
            (1, EndPlace::Inline, Code::Ok),
            (2, EndPlace::LateAtDecode, Code::DeadlineExceeded),
            (3, EndPlace::LateAtDecode, Code::DeadlineExceeded),
        ],
    },
    Case {
        name: "late at dequeue",
        change: |config| (config.workers, config.blocking_threads) = (2, 1),
        run: |scene| {
            scene.occupy_worker(0);
            scene.occupy_worker(4);
            scene.send(&Frame::call(1, "Pooled.Double", 1).time_left(5 * TEN_MS));
            scene.peer.ping();
            scene.call(2, "Pooled.Gate");
            scene.peer.ping();
            // The reactor cannot answer the call at its deadline, because it is busy. A worker that runs the last
            // gate's call has sent back the late one.
            scene.call(3, "Inline.Wait");
            std::thread::sleep(10 * TEN_MS);
            scene.rig.gate.admit(1);
            scene.rig.gate.wait_for(3);
            scene.release.send(()).unwrap();
            scene.rig.gate.open();
            (0..5).for_each(|_| drop(scene.peer.answer()));
        },
        ends: &[
            (0, EndPlace::Worker, Code::Ok),
            (1, EndPlace::LateAtDequeue, Code::DeadlineExceeded),
            (2, EndPlace::Worker, Code::Ok),
            (3, EndPlace::Inline, Code::Ok),
            (4, EndPlace::Worker, Code::Ok),
        ],
    },
    Case {
        name: "late at the answer",
        change: |_| {},
        run: |scene| {
            scene.ask(&Frame::call(1, "Blocking.Gate", 1).time_left(TEN_MS), Code::DeadlineExceeded);
            scene.ask(&Frame::call(2, "Pooled.Hold", 1).time_left(TEN_MS), Code::DeadlineExceeded);
            scene.ask(&Frame::call(3, "Pooled.Late", 1), Code::DeadlineExceeded);
            // A one-way call ends at its deadline too, without an answer.
            scene.send(&Frame::call(4, "Blocking.Gate", 1).one_way().time_left(TEN_MS));
            eventually("its deadline has passed", || scene.rig.stats().deadlines[2] == 4);
            scene.rig.gate.open();
            scene.rig.held.lock().unwrap().clear();
        },
        ends: &[
            (1, EndPlace::LateAtAnswer, Code::DeadlineExceeded),
            (2, EndPlace::LateAtAnswer, Code::DeadlineExceeded),
            (3, EndPlace::Worker, Code::DeadlineExceeded),
            (4, EndPlace::LateAtAnswer, Code::DeadlineExceeded),
        ],
    },
    Case {
        name: "cancelled",
        change: one_worker,
        run: |scene| {
            scene.occupy_worker(0);
            scene.call(1, "Pooled.Double");
            scene.call(2, "Inline.Hold");
            for id in 0..3 {
                scene.peer.ask(&Frame::of_kind(kind::CANCEL, id)).is(id, Code::Cancelled, "");
                // A second cancel names no call in flight.
                scene.peer.send(&Frame::of_kind(kind::CANCEL, id));
            }
            scene.rig.gate.open();
            scene.rig.held.lock().unwrap().clear();
            eventually("all work has ended", || scene.rig.stats().late == 3);
        },
        ends: &[
            (0, EndPlace::Cancelled, Code::Cancelled),
            (1, EndPlace::Cancelled, Code::Cancelled),
            (2, EndPlace::Cancelled, Code::Cancelled),
        ],
    },
    Case {
        name: "a broken rule",
        change: |_| {},
        run: |scene| {
            scene.call(1, "Blocking.Gate");
            scene.peer.ask(&Frame::of_kind(kind::END, 1)).is(1, Code::InvalidArgument, "an end frame");
            scene.rig.gate.open();
        },
        ends: &[(1, EndPlace::Broken, Code::InvalidArgument)],
    },
    Case {
        name: "a closed connection",
        change: one_worker,
        run: |scene| {
            scene.occupy_worker(0);
            scene.call(1, "Pooled.Double");
            scene.call(2, "Pooled.Hold");
            scene.call(3, "Inline.Hold");
            scene.send(&Frame::call(4, "Pooled.Double", 1).one_way());
            scene.peer.ping();
            let next = scene.rig.peer();
            std::mem::replace(&mut scene.peer, next).reset();
            scene.rig.wait_for_closed("reset", 1);
            scene.rig.gate.open();
            eventually("the work has ended", || scene.rig.stats().removed == 3);
            scene.rig.held.lock().unwrap().clear();
        },
        ends: &[
            (0, EndPlace::Dropped, Code::Cancelled),
            (1, EndPlace::Dropped, Code::Cancelled),
            (2, EndPlace::Dropped, Code::Cancelled),
            (3, EndPlace::Dropped, Code::Cancelled),
            (4, EndPlace::Dropped, Code::Cancelled),
        ],
    },
    Case {
        name: "an aborted drain",
        change: |config| config.limits.drain_ms = 50,
        run: |scene| {
            scene.call(1, "Blocking.Gate");
            scene.call(2, "Pooled.Hold");
            scene.send(&Frame::call(3, "Blocking.Sleep", MINUTE.as_millis() as i64).one_way());
            scene.rig.gate.wait_for(1);
            scene.rig.wait_for_runs(1);
            eventually("it is held", || scene.rig.held.lock().unwrap().len() == 1);
        },
        ends: &[
            (1, EndPlace::Drained, Code::Unavailable),
            (2, EndPlace::Drained, Code::Unavailable),
            (3, EndPlace::Drained, Code::Unavailable),
        ],
    },
    Case {
        name: "deferred",
        change: |_| {},
        run: |scene| {
            scene.ask(&Frame::call(1, "Inline.AnswerElsewhere", 1), Code::Ok);
            scene.ask(&Frame::call(2, "Pooled.AnswerNow", 1), Code::Ok);
            scene.ask(&Frame::call(3, "Blocking.Drop", 1), Code::Internal);
            scene.ask(&Frame::call(4, "Inline.TakeAndPanic", 1), Code::Internal);
            scene.ask(&Frame::call(5, "Pooled.TakeAndPanic", 1), Code::Internal);
        },
        ends: &[
            (1, EndPlace::Deferred, Code::Ok),
            (2, EndPlace::Deferred, Code::Ok),
            (3, EndPlace::Deferred, Code::Internal),
            (4, EndPlace::Deferred, Code::Internal),
            (5, EndPlace::Deferred, Code::Internal),
        ],
    },
    Case {
        name: "one-way",
        change: |_| {},
        run: |scene| {
            for (id, method) in ["Inline.Double", "Pooled.Fail", "Inline.AnswerNow"].into_iter().enumerate() {
                scene.send(&Frame::call(id as u64, method, 1).one_way());
                eventually("it has ended", || scene.rig.calls(method) == 1);
            }
        },
        ends: &[
            (0, EndPlace::Inline, Code::Ok),
            (1, EndPlace::Worker, Code::Aborted),
            (2, EndPlace::Deferred, Code::Ok),
        ],
    },
];

/// Returns how many calls the counters of a server hold.
fn counted(last: &Snapshot) -> u64 {
    let refused: u64 = last.refused.iter().map(|(_, count)| *count).sum();
    last.methods.iter().map(|method| method.calls).sum::<u64>() + refused + last.dropped
}

/// Ends the server; asserts that each request has one end, and that the counters agree with the interceptor.
#[track_caller]
fn settle(name: &str, mut scene: Scene) -> Vec<End> {
    // A connection without calls ends now, and not after the peer's time for late calls.
    scene.peer.half_close();
    let last = scene.rig.take_server().shutdown();
    let observed = std::mem::take(&mut *scene.ledger.observed.lock().unwrap());
    assert_eq!(observed.ends.len(), scene.sent, "{name}: {:?}", observed.ends);
    assert_eq!(counted(&last), scene.sent as u64, "{name}: {last:?}");
    assert_eq!(observed.finished, 1, "{name}");
    let mut spans: Vec<_> = scene
        .tracer
        .recent()
        .iter()
        .map(|span| (span.end_place, span.code as u8, span.name.clone()))
        .collect();
    let name_of = |method: Option<u32>| match method {
        Some(index) => observed.methods[index as usize].as_str().into(),
        None => "unknown method".into(),
    };
    let mut ends: Vec<_> =
        observed.ends.iter().map(|end| (end.place.name(), end.code as u8, name_of(end.method))).collect();
    spans.sort_unstable();
    ends.sort_unstable();
    assert_eq!(spans, ends, "{name}: one span for each call");
    let mut admitted: Vec<u64> =
        observed.ends.iter().filter(|end| end.place != EndPlace::Refused).map(|end| end.id).collect();
    let mut requests = observed.requests;
    admitted.sort_unstable();
    requests.sort_unstable();
    assert_eq!(admitted, requests, "{name}");
    for end in &observed.ends {
        let method = end.method.map(|index| &observed.methods[index as usize]);
        assert!(method.is_some() || end.place == EndPlace::Refused, "{name}: {end:?}");
    }
    observed.ends
}

fn assert_ends<'a>(cases: impl Iterator<Item = &'a Case>) {
    let _turn = shared();
    for case in cases {
        let mut scene = scene(case.change, Ledger::default());
        (case.run)(&mut scene);
        let mut ends: Vec<_> =
            settle(case.name, scene).iter().map(|end| (end.id, end.place, end.code)).collect();
        ends.sort_by_key(|(id, place, _)| (*id, *place != EndPlace::Refused));
        assert_eq!(ends, case.ends, "{}", case.name);
    }
}

#[test]
fn every_call_ends_once_however_it_ends() {
    assert_ends(CASES.iter().chain(streams::CASES).chain(shed::CASES));
}

#[test]
fn every_call_of_an_async_method_ends_once() {
    assert_ends(futures::CASES.iter());
}

#[test]
fn each_call_of_a_batch_has_its_own_end() {
    let _turn = shared();
    let mut scene = scene(|_| {}, Ledger::default());
    const CALLS: u64 = 1_000;
    for method in ["Pooled.Note", "Pooled.Double", "Inline.Double", "Inline.Fail"] {
        let frames: Vec<Frame> = (0..CALLS).map(|id| Frame::call(id, method, id as i64)).collect();
        let mut sender = scene.peer.duplicate();
        let sending = std::thread::spawn(move || sender.send_all(&frames));
        let mut seen: Vec<u64> = (0..CALLS).map(|_| scene.peer.answer().id).collect();
        sending.join().unwrap();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..CALLS));
        scene.sent += CALLS as usize;
    }
    let ends = settle("batches", scene);
    let of = |place, code| ends.iter().filter(|end| (end.place, end.code) == (place, code)).count() as u64;
    assert_eq!(of(EndPlace::Worker, Code::InvalidArgument), CALLS, "a number is no note");
    assert_eq!(of(EndPlace::Worker, Code::Ok), CALLS);
    assert_eq!(of(EndPlace::Inline, Code::Ok), CALLS);
    assert_eq!(of(EndPlace::Inline, Code::Aborted), CALLS);
}

#[test]
fn quick_calls_are_counted_alike_if_no_interceptor_receives_ends() {
    let _turn = shared();
    let mut scene = scene(|_| {}, Ledger { ignores_ends: true, ..Ledger::default() });
    const CALLS: u64 = 1_000;
    for method in ["Inline.Double", "Inline.Fail"] {
        for id in 0..CALLS {
            scene.call(id, method);
            assert_eq!(scene.peer.answer().id, id);
        }
    }
    scene.send(&Frame::call(1, "Inline.Panic", 1));
    assert_eq!(scene.peer.answer().code(), Code::Internal);
    let last = scene.rig.take_server().shutdown();
    assert_eq!(counted(&last), scene.sent as u64);
    assert_eq!(last.method("Inline.Double").unwrap().answered(Code::Ok), CALLS);
    let failed = last.method("Inline.Fail").unwrap();
    assert_eq!((failed.answered(Code::Aborted), failed.handler_us.count()), (CALLS, CALLS));
    let observed = scene.ledger.observed.lock().unwrap();
    assert_eq!((observed.requests.len(), observed.ends.len()), (scene.sent, 0));
    let stats = scene.tracer.stats();
    assert_eq!(
        (stats.spans, stats.kept_failed, stats.sampled),
        (CALLS + 1, CALLS + 1, 0),
        "of the failed calls"
    );
}

#[test]
fn an_interceptor_that_cannot_start_prevents_the_start() {
    struct Failing;
    impl Interceptor for Failing {
        fn start(&self, _methods: &[Method]) -> std::io::Result<()> {
            Err(std::io::Error::other("no room for it"))
        }
    }
    let _turn = shared();
    let ledger = Arc::new(Ledger::default());
    let builder = coreloop::Server::builder().listen("127.0.0.1:0").interceptor(ledger.clone());
    let error = builder.interceptor(Failing).start().err().unwrap();
    assert_eq!(error.to_string(), "no room for it");
    assert_eq!(ledger.observed.lock().unwrap().finished, 1, "the one that had started was finished");
}
