//! The cell of a call: one side at a time owns its contents, no wake-up is lost, and what it held is freed.
//!
//! The cells of the models are those of the client; the contents are not locked, so an access that the phase of the
//! call does not order fails the model.

#[path = "../../../src/client/call_slot/cell.rs"]
mod cell;
#[path = "../../../src/client/call_slot/sync.rs"]
#[allow(unused_imports, reason = "the cell needs a part of it")]
mod sync;

use std::task::{Wake, Waker};

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use self::cell::{AbandonedCall, CallCell};
use crate::model;

/// The argument, then the result.
#[derive(Default)]
struct Contents {
    argument: u32,
    result: Option<u32>,
    /// What the contents hold, to observe that it is freed.
    held: Option<std::sync::Arc<()>>,
}

/// A call that is passed to the reactor.
fn sent(argument: u32) -> Arc<CallCell<Contents>> {
    let cell = CallCell::<Contents>::new();
    cell.contents().argument = argument;
    cell.mark_sent();
    Arc::new(cell)
}

/// The reactor reads the argument, and completes the call with it; the caller is woken.
fn complete(cell: &CallCell<Contents>) {
    let argument = cell.contents().argument;
    let waker = cell.complete(|contents| contents.result = Some(argument));
    waker.into_iter().for_each(Waker::wake);
}

/// Starts a reactor's thread that completes the call and releases the cell.
fn reactor(cell: &Arc<CallCell<Contents>>) -> thread::JoinHandle<()> {
    let cell = cell.clone();
    thread::spawn(move || complete(&cell))
}

/// A thread that parks. Loom's own would also return from a `join` when it is unparked.
#[derive(Default)]
pub(crate) struct Parking {
    is_unparked: Mutex<bool>,
    unparked: Condvar,
}

impl Parking {
    pub(crate) fn park(&self) {
        let mut is_unparked = self.is_unparked.lock().unwrap();
        while !std::mem::take(&mut *is_unparked) {
            is_unparked = self.unparked.wait(is_unparked).unwrap();
        }
    }
}

impl Wake for Parking {
    fn wake(self: std::sync::Arc<Self>) {
        *self.is_unparked.lock().unwrap() = true;
        self.unparked.notify_one();
    }
}

/// Waits for the result, as a handle does. Loom reports a thread that nothing wakes.
fn wait(cell: &CallCell<Contents>) -> Option<u32> {
    let parking = std::sync::Arc::new(Parking::default());
    let waker = Waker::from(parking.clone());
    while !cell.is_done() {
        if !cell.register(&waker) {
            parking.park();
        }
    }
    cell.drop_waker();
    cell.contents().result.take()
}

/// A task of an executor.
#[derive(Default)]
struct Task {
    is_woken: AtomicBool,
}

impl Wake for Task {
    fn wake(self: std::sync::Arc<Self>) {
        self.is_woken.store(true, Relaxed);
    }
}

#[test]
fn a_thread_that_waits_gets_the_result() {
    loom::model(|| {
        let cell = sent(7);
        let reactor = reactor(&cell);
        assert_eq!(wait(&cell), Some(7));
        reactor.join().unwrap();
    });
}

#[test]
fn a_task_is_woken_after_its_last_poll() {
    loom::model(|| {
        let cell = sent(7);
        let reactor = reactor(&cell);
        let tasks = [(); 2].map(|()| std::sync::Arc::new(Task::default()));
        // A future that moves from one task to another.
        let is_ready = tasks.iter().map(|task| cell.register(&task.clone().into())).last().unwrap();
        reactor.join().unwrap();
        assert!(is_ready || tasks[1].is_woken.load(Relaxed), "the last task is woken");
        assert_eq!(cell.contents().result, Some(7));
        cell.drop_waker();
        assert!(tasks.iter().all(|task| std::sync::Arc::strong_count(task) == 1), "the tasks are released");
    });
}

#[test]
fn a_call_that_is_abandoned_frees_its_contents() {
    loom::model(|| {
        let cell = sent(7);
        let held = std::sync::Arc::new(());
        let reactor = thread::spawn({
            let (cell, held) = (cell.clone(), held.clone());
            move || drop(cell.complete(|contents| contents.held = Some(held)))
        });
        match cell.abandon() {
            // As a slot returns to its free list.
            AbandonedCall::Done => cell.contents().held = None,
            AbandonedCall::InFlight => {}
            AbandonedCall::Unsent => panic!("the call was sent"),
        }
        reactor.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    });
}

#[test]
fn a_call_whose_handle_has_waited_and_is_dropped_wakes_nothing_twice() {
    loom::model(|| {
        let cell = sent(7);
        let reactor = reactor(&cell);
        let task = std::sync::Arc::new(Task::default());
        let is_ready = cell.register(&task.clone().into());
        let abandoned = cell.abandon();
        assert!(!is_ready || abandoned == AbandonedCall::Done, "a call that is done stays done");
        reactor.join().unwrap();
        if abandoned == AbandonedCall::InFlight {
            assert!(cell.contents().result.is_none(), "the contents were freed");
            assert!(!task.is_woken.load(Relaxed), "nothing waits any more");
        }
        drop(cell);
        assert_eq!(std::sync::Arc::strong_count(&task), 1, "the task is released");
    });
}

#[test]
fn a_slot_is_used_again_once_the_reactor_has_released_it() {
    model(3, || {
        let mut cell = sent(7);
        let first = reactor(&cell);
        assert_eq!(wait(&cell), Some(7));
        // The reactor may still be about to take the waker of the first call.
        let is_free = match Arc::get_mut(&mut cell) {
            Some(free) => {
                free.reset().argument = 8;
                free.mark_sent();
                true
            }
            None => false,
        };
        if is_free {
            let second = reactor(&cell);
            assert_eq!(wait(&cell), Some(8));
            second.join().unwrap();
        }
        first.join().unwrap();
    });
}

#[test]
fn a_cancel_by_a_stream_reaches_the_reactor_or_finds_the_call_done() {
    model(3, || {
        let cell = sent(7);
        // The reactor's mailbox: how many cancels it has.
        let cancels = Arc::new(AtomicUsize::new(0));
        let stream = thread::spawn({
            let (cell, cancels) = (cell.clone(), cancels.clone());
            move || cancels.fetch_add(usize::from(cell.give_up()), Relaxed)
        });
        let reactor = reactor(&cell);
        assert_eq!(wait(&cell), Some(7), "the handle gets its result");
        stream.join().unwrap();
        reactor.join().unwrap();
        assert!(cell.is_abandoned() && cancels.load(Relaxed) <= 1);
    });
}

#[test]
fn a_batch_is_sent_while_a_handle_is_dropped() {
    loom::model(|| {
        let cell = Arc::new(CallCell::<Contents>::new());
        let held = std::sync::Arc::new(());
        cell.contents().held = Some(held.clone());
        // One thread has the batch, another one the handle.
        let batch = thread::spawn({
            let cell = cell.clone();
            move || {
                cell.mark_sent();
                let is_given_up = cell.is_abandoned();
                drop(cell.complete(|_| {}));
                is_given_up
            }
        });
        let abandoned = cell.abandon();
        let is_given_up = batch.join().unwrap();
        match abandoned {
            AbandonedCall::Unsent => assert!(is_given_up, "the batch finds the call abandoned"),
            AbandonedCall::InFlight => {}
            AbandonedCall::Done => cell.contents().held = None,
        }
        assert_eq!(std::sync::Arc::strong_count(&held), 1, "the contents are freed");
    });
}
