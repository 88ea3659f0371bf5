//! The reactor that threads hand over: one thread at a time has it, and a call that is counted is never left alone.
//!
//! The handover is that of the client. The reactor of the models is not locked: two threads that have it at once, or one
//! that has not seen what the last one did, fail the model; a lost wake-up leaves the driver's thread parked forever.

#[path = "../../../src/client/driving/handover.rs"]
mod handover;
#[path = "../../../src/client/call_slot/sync.rs"]
#[allow(unused_imports, reason = "the handover needs a part of it")]
mod sync;

use std::task::Waker;

use loom::sync::Arc;
use loom::thread;

use self::handover::{Handover, TakenReactor};
use crate::call::Parking;
use crate::model;

/// The number of the turns that were run.
type Turns = u32;

const DRIVER: usize = 1;

/// A handover whose driver's thread has released the reactor to callers, and the parking place of that thread.
fn released() -> (Arc<Handover<Turns>>, std::sync::Arc<Parking>) {
    let handover = Handover::new();
    handover.set(0);
    let parking = std::sync::Arc::new(Parking::default());
    drop(handover.begin(DRIVER, Waker::from(parking.clone())));
    (Arc::new(handover), parking)
}

/// A caller runs a turn, if it gets the reactor.
fn turn_of_caller(handover: &Handover<Turns>, mark: usize) -> u32 {
    match handover.take_for_caller(mark) {
        Some(mut taken) => {
            assert!(handover.is_with(mark));
            *taken.reactor().unwrap() += 1;
            1
        }
        None => 0,
    }
}

/// The driver's thread takes the reactor as soon as it may.
fn take_for_driver(handover: &Handover<Turns>, parking: &Parking) -> Turns {
    loop {
        if let Some(mut taken) = handover.take(DRIVER) {
            return *taken.reactor().unwrap();
        }
        if handover.claim() {
            parking.park();
        }
    }
}

#[test]
fn one_thread_at_a_time_has_the_reactor() {
    model(3, || {
        let (handover, _) = released();
        let callers = [2, 3].map(|mark| {
            let handover = handover.clone();
            thread::spawn(move || turn_of_caller(&handover, mark) + turn_of_caller(&handover, mark))
        });
        let turns: u32 = callers.map(|caller| caller.join().unwrap()).iter().sum();
        let mut taken = handover.take(DRIVER).unwrap();
        assert_eq!(taken.reactor().copied(), Some(turns));
        assert!(turns >= 2, "a caller that comes when no thread has it gets it");
    });
}

#[test]
fn a_counted_call_gets_the_drivers_thread() {
    model(3, || {
        let (handover, parking) = released();
        let caller = thread::spawn({
            let handover = handover.clone();
            move || turn_of_caller(&handover, 2)
        });
        let waiter = thread::spawn({
            let handover = handover.clone();
            move || handover.begin_wait()
        });
        // Nothing but the two threads wakes it.
        parking.park();
        take_for_driver(&handover, &parking);
        assert!(handover.take_for_caller(3).is_none());
        handover.end_wait();
        caller.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn a_claim_gets_the_reactor_at_its_release() {
    model(3, || {
        let (handover, parking) = released();
        let callers = [2, 3].map(|mark| {
            let handover = handover.clone();
            thread::spawn(move || turn_of_caller(&handover, mark))
        });
        take_for_driver(&handover, &parking);
        for caller in callers {
            caller.join().unwrap();
        }
        let mut taken: TakenReactor<'_, Turns> = handover.take(DRIVER).unwrap();
        assert!(taken.end().is_some_and(|turns| turns <= 2));
    });
}

#[test]
fn a_release_that_needs_the_drivers_thread_wakes_it() {
    model(3, || {
        let (handover, parking) = released();
        let caller = thread::spawn({
            let handover = handover.clone();
            move || {
                let mut taken = handover.take_for_caller(2).unwrap();
                taken.needs_driver = true;
            }
        });
        parking.park();
        take_for_driver(&handover, &parking);
        caller.join().unwrap();
    });
}
