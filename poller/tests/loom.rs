//! The wake-up protocol in every interleaving and with every stale read that the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p coreloop-poller --release --test loom`. A lost wake-up shows as a
//! deadlock: the sleeper sleeps, and no thread is left to wake it. Without either fence, or without the second check
//! of the queue, four of the five fail.

#![cfg(loom)]

use std::sync::Arc;

use loom::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use coreloop_poller::{Doorbell, Wake};

/// A model of an eventfd: wake-ups are kept until a sleep takes them, all at once.
#[derive(Default)]
struct Eventfd {
    pending: Mutex<bool>,
    changed: Condvar,
    wakes: AtomicUsize,
}

impl Eventfd {
    fn wait(&self) {
        let mut pending = self.pending.lock().unwrap();
        while !*pending {
            pending = self.changed.wait(pending).unwrap();
        }
        *pending = false;
    }
}

struct Waker(Arc<Eventfd>);

impl Wake for Waker {
    fn wake(&self) -> bool {
        self.0.wakes.fetch_add(1, Relaxed);
        *self.0.pending.lock().unwrap() = true;
        self.0.changed.notify_one();
        true
    }
}

/// Each ringer pushes and rings `rings` times; the sleeper takes all messages and ends.
fn deliver(ringers: usize, rings: usize) {
    let eventfd = Arc::new(Eventfd::default());
    let door = Arc::new(Doorbell::new(Waker(eventfd.clone())));
    // The weakest possible queue: relaxed. The protocol's own fences must be enough.
    let mail = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..ringers)
        .map(|_| {
            let (door, mail) = (door.clone(), mail.clone());
            thread::spawn(move || {
                for _ in 0..rings {
                    mail.fetch_add(1, Relaxed);
                    door.ring();
                }
            })
        })
        .collect();

    let (mut taken, mut sleeps) = (0, 0);
    while taken < ringers * rings {
        door.sleep(
            || mail.load(Relaxed) > 0,
            |may_sleep| {
                if may_sleep {
                    sleeps += 1;
                    eventfd.wait();
                }
            },
        );
        taken += mail.swap(0, Relaxed);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    // Merged: at most one wake-up per ring, and no sleep without its wake-up.
    assert!(eventfd.wakes.load(Relaxed) <= ringers * rings);
    assert!(sleeps <= eventfd.wakes.load(Relaxed), "a sleep ended without a wake-up");
}

fn model(preemptions: usize, test: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

#[test]
fn one_ringer_is_never_missed() {
    loom::model(|| deliver(1, 1));
}

#[test]
fn rings_in_a_row_are_never_missed() {
    model(4, || deliver(1, 3));
}

#[test]
fn two_ringers_are_never_missed() {
    model(3, || deliver(2, 1));
}

#[test]
fn a_sleeper_that_others_wake_too_is_never_missed() {
    // The socket side of the poller: a sleep can end without the bell, and the flag is then still set.
    model(3, || {
        let eventfd = Arc::new(Eventfd::default());
        let door = Arc::new(Doorbell::new(Waker(eventfd.clone())));
        let mail = Arc::new(AtomicUsize::new(0));
        let socket = thread::spawn({
            let eventfd = eventfd.clone();
            move || Waker(eventfd).wake()
        });
        let ringer = thread::spawn({
            let (door, mail) = (door.clone(), mail.clone());
            move || {
                mail.fetch_add(1, Relaxed);
                door.ring();
            }
        });
        while mail.swap(0, Relaxed) == 0 {
            door.sleep(
                || mail.load(Relaxed) > 0,
                |may_sleep| {
                    if may_sleep {
                        eventfd.wait()
                    }
                },
            );
        }
        socket.join().unwrap();
        ringer.join().unwrap();
    });
}

#[test]
fn an_awake_sleeper_costs_no_wake_up() {
    loom::model(|| {
        let eventfd = Arc::new(Eventfd::default());
        let door = Arc::new(Doorbell::new(Waker(eventfd.clone())));
        let ringer = thread::spawn({
            let door = door.clone();
            move || door.ring()
        });
        let rang = door.ring() | ringer.join().unwrap();
        assert!(!rang && eventfd.wakes.load(Relaxed) == 0);
    });
}
