//! The shared state of sinks and broadcast: no notification is lost, credit is used once, every event is taken, and a
//! caller's messages end once.

#[path = "../../../src/stream/events.rs"]
mod events;
#[path = "../../../src/stream/gate.rs"]
mod gate;
#[path = "../../../src/stream/ready.rs"]
mod ready;
#[path = "../../../src/stream/rendezvous.rs"]
mod rendezvous;
#[path = "../../../src/stream/sync.rs"]
mod sync;
#[path = "../../../src/stream/wait.rs"]
mod wait;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use loom::thread;

use self::events::EventQueue;
use self::gate::Gate;
use self::ready::Readiness;
use self::rendezvous::Rendezvous;
use crate::model;

/// A sink and the gate of its connection; a waiter is a number.
struct TestSink {
    gate: std::sync::Arc<Gate>,
    ready: Readiness<u32>,
    /// Waiters that were notified.
    notified: AtomicUsize,
}

impl TestSink {
    fn new(credit: i64) -> Arc<TestSink> {
        let (gate, ready) = (std::sync::Arc::new(Gate::new()), Readiness::new(credit));
        ready.set_gate(gate.clone());
        Arc::new(TestSink { gate, ready, notified: AtomicUsize::new(0) })
    }

    fn notify(&self) {
        self.notified.fetch_add(self.ready.take_waiters().len(), Relaxed);
    }

    /// Registers; returns how many waiters are to be notified at once.
    fn wait(&self, waiter: u32) -> usize {
        self.ready.register(waiter, |new, earlier| new == earlier).len()
    }
}

/// A sink waits while another thread makes it ready: the waiter is notified exactly once.
fn becomes_ready(prepare: fn(&TestSink), make_ready: fn(&TestSink)) {
    loom::model(move || {
        let sink = TestSink::new(0);
        prepare(&sink);
        let reactor = thread::spawn({
            let sink = sink.clone();
            move || make_ready(&sink)
        });
        let at_once = sink.wait(1);
        reactor.join().unwrap();
        assert_eq!(at_once + sink.notified.load(Relaxed), 1);
        assert!(!sink.ready.is_waiting());
    });
}

#[test]
fn credit_is_never_missed() {
    becomes_ready(
        |_| {},
        |sink| {
            sink.ready.add_credit(1);
            sink.notify();
        },
    );
}

#[test]
fn an_opened_gate_is_never_missed() {
    becomes_ready(
        |sink| {
            sink.ready.add_credit(1);
            sink.gate.set_closed(true);
        },
        |sink| {
            if sink.gate.set_closed(false) {
                sink.notify();
            }
        },
    );
}

#[test]
fn the_reactors_progress_is_never_missed() {
    becomes_ready(
        |sink| {
            sink.ready.add_credit(1 << 20);
            assert!(sink.ready.reserve(70_000));
        },
        |sink| {
            if sink.ready.on_taken(70_000) {
                sink.notify();
            }
        },
    );
}

#[test]
fn an_end_is_never_missed() {
    becomes_ready(
        |_| {},
        |sink| {
            sink.ready.end();
            sink.notify();
        },
    );
}

#[test]
fn credit_and_end_notify_once() {
    model(3, || {
        let sink = TestSink::new(0);
        let threads = [0, 1].map(|at| {
            let sink = sink.clone();
            thread::spawn(move || {
                match at {
                    0 => sink.ready.add_credit(1),
                    _ => sink.ready.end(),
                }
                sink.notify();
            })
        });
        let at_once = sink.wait(1);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(at_once + sink.notified.load(Relaxed), 1);
    });
}

#[test]
fn several_threads_that_wait_are_all_notified() {
    model(3, || {
        let sink = TestSink::new(0);
        let waiter = thread::spawn({
            let sink = sink.clone();
            move || sink.wait(1)
        });
        let reactor = thread::spawn({
            let sink = sink.clone();
            move || {
                sink.ready.add_credit(1);
                sink.notify();
            }
        });
        let at_once = sink.wait(2) + waiter.join().unwrap();
        reactor.join().unwrap();
        assert_eq!(at_once + sink.notified.load(Relaxed), 2);
    });
}

#[test]
fn credit_is_exceeded_by_one_message_only() {
    loom::model(|| {
        let sink = TestSink::new(1);
        let other = thread::spawn({
            let sink = sink.clone();
            move || sink.ready.reserve(10)
        });
        let own = sink.ready.reserve(10);
        assert!(own != other.join().unwrap(), "one of the two");
    });
}

#[test]
fn every_event_is_taken_after_a_post() {
    model(3, || {
        let queue = Arc::new(EventQueue::new());
        let posts = Arc::new(AtomicUsize::new(0));
        let threads = [0, 1].map(|number| {
            let (queue, posts) = (queue.clone(), posts.clone());
            thread::spawn(move || {
                if queue.push(number, 1) {
                    posts.fetch_add(1, loom::sync::atomic::Ordering::AcqRel);
                }
            })
        });
        // The reactor takes all events for each post that it sees.
        let (mut taken, mut seen) = (0, 0);
        let mut react = |taken: &mut usize| {
            while seen < posts.load(loom::sync::atomic::Ordering::Acquire) {
                seen += 1;
                *taken += std::iter::from_fn(|| queue.pop()).count();
            }
        };
        react(&mut taken);
        for thread in threads {
            thread.join().unwrap();
        }
        react(&mut taken);
        assert_eq!(taken, 2);
    });
}

/// A caller's sink, as its reactor and its threads use it.
struct CallerSink {
    ready: Readiness<u32>,
    sent_and_finished: Rendezvous,
    /// Has the address of the stream, which is set before the first arrival of `open`.
    has_address: AtomicBool,
    /// Waiters that were notified, and ends that were posted.
    notified: AtomicUsize,
    ends: AtomicUsize,
}

impl CallerSink {
    fn new() -> Arc<CallerSink> {
        Arc::new(CallerSink {
            ready: Readiness::new(0),
            sent_and_finished: Rendezvous::new(),
            has_address: AtomicBool::new(false),
            notified: AtomicUsize::new(0),
            ends: AtomicUsize::new(0),
        })
    }

    fn notify(&self) {
        self.notified.fetch_add(self.ready.take_waiters().len(), Relaxed);
    }

    /// The reactor has sent the call.
    fn open(&self) {
        self.has_address.store(true, Relaxed);
        self.ready.set_gate(std::sync::Arc::new(Gate::new()));
        if self.sent_and_finished.arrive() {
            self.post_end();
        } else {
            self.ready.add_credit(1);
            self.notify();
        }
    }

    fn finish(&self) {
        self.ready.end();
        if self.sent_and_finished.arrive() {
            self.post_end();
        }
        self.notify();
    }

    fn post_end(&self) {
        assert!(self.has_address.load(Relaxed), "the end has an address");
        self.ends.fetch_add(1, Relaxed);
    }

    fn wait(&self, waiter: u32) -> usize {
        self.ready.register(waiter, |new, earlier| new == earlier).len()
    }
}

#[test]
fn a_call_that_is_sent_is_never_missed() {
    loom::model(|| {
        let sink = CallerSink::new();
        let reactor = thread::spawn({
            let sink = sink.clone();
            move || sink.open()
        });
        let at_once = sink.wait(1);
        reactor.join().unwrap();
        assert_eq!(at_once + sink.notified.load(Relaxed), 1);
        assert!(sink.ready.is_ready());
    });
}

#[test]
fn a_callers_messages_end_once() {
    loom::model(|| {
        let sink = CallerSink::new();
        let reactor = thread::spawn({
            let sink = sink.clone();
            move || sink.open()
        });
        sink.finish();
        reactor.join().unwrap();
        assert_eq!(sink.ends.load(Relaxed), 1);
    });
}

#[test]
fn a_thread_that_waits_while_the_call_is_sent_and_the_sink_is_finished_is_notified() {
    model(3, || {
        let sink = CallerSink::new();
        let threads = [CallerSink::open, CallerSink::finish].map(|act| {
            let sink = sink.clone();
            thread::spawn(move || act(&sink))
        });
        let at_once = sink.wait(1);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(at_once + sink.notified.load(Relaxed), 1);
        assert_eq!(sink.ends.load(Relaxed), 1);
    });
}
