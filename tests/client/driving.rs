//! Which thread drives a client: a caller that makes one call after the other, or the driver's thread as soon as anything
//! else is awaited. No call is left alone when the reactor changes hands.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use coreloop::Code;
use coreloop::client::{
    CallError, Client, ClientInterceptor, Driver, DriverConfig, EndedClientCall, MethodId, Starter,
};
use coreloop::codec::{Codec, Plain};

use crate::common::{PATIENCE, Rig, eventually, rig, shared};

static DOUBLE: MethodId = MethodId::new("Inline.Double");

/// More calls than any caller needs to become the one that drives.
const CALLS_MAX: u32 = 100_000;

/// Keeps the threads on which calls end, which are those that drive.
#[derive(Default)]
struct Ends {
    last: Mutex<Option<ThreadId>>,
    /// Made in the interceptor, once, by the thread that drives.
    nested: OnceLock<Client>,
    refused: AtomicU64,
    makes_nested: AtomicBool,
}

impl ClientInterceptor for Ends {
    fn on_end(&self, _end: &EndedClientCall<'_>) {
        *self.last.lock().unwrap() = Some(thread::current().id());
        if self.makes_nested.swap(false, Ordering::SeqCst)
            && let Some(client) = self.nested.get()
            && let Err(CallError::OnReactor) = double(client, 1)
        {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn double(client: &Client, number: i64) -> Result<i64, CallError> {
    let reply = client.call_bytes("Inline.Double", Codec::Json, number.to_string().as_bytes())?;
    Ok(std::str::from_utf8(&reply).unwrap().parse().unwrap())
}

fn watched(rig: &Rig) -> (Client, Arc<Ends>) {
    let ends = Arc::new(Ends::default());
    let client = Client::builder(rig.address.to_string()).interceptor(ends.clone()).connect().unwrap();
    (client, ends)
}

/// Calls until this thread drives.
fn drive(client: &Client, ends: &Ends) {
    for number in 0..CALLS_MAX {
        assert_eq!(double(client, i64::from(number)).unwrap(), i64::from(number) * 2);
        if *ends.last.lock().unwrap() == Some(thread::current().id()) {
            return;
        }
    }
    panic!("after {CALLS_MAX} calls the caller did not drive");
}

#[test]
fn a_single_caller_drives_the_client() {
    let _turn = shared();
    let rig = rig(|_| {});
    let (client, ends) = watched(&rig);
    drive(&client, &ends);
}

#[test]
fn a_driver_with_a_core_of_its_own_is_never_replaced() {
    let _turn = shared();
    let rig = rig(|_| {});
    let mut config = DriverConfig::default();
    config.busy_poll_us = 1;
    let driver = Driver::spawn_with(&config).unwrap();
    let ends = Arc::new(Ends::default());
    let client =
        Client::builder(rig.address.to_string()).on(&driver).interceptor(ends.clone()).connect().unwrap();
    for number in 0..1_000 {
        assert_eq!(double(&client, number).unwrap(), number * 2);
        assert_ne!(*ends.last.lock().unwrap(), Some(thread::current().id()));
    }
}

#[test]
fn a_blocking_call_in_a_turn_of_a_caller_fails() {
    let _turn = shared();
    let rig = rig(|_| {});
    let (client, ends) = watched(&rig);
    assert!(ends.nested.set(client.clone()).is_ok());
    // The caller may have lost the reactor to the driver's thread in between; the answer is the same there.
    drive(&client, &ends);
    ends.makes_nested.store(true, Ordering::SeqCst);
    assert_eq!(double(&client, 4).unwrap(), 8);
    assert_eq!(ends.refused.load(Ordering::SeqCst), 1);
    assert_eq!(double(&client, 5).unwrap(), 10, "the caller drives on, or the driver's thread does");
}

#[test]
fn callbacks_run_on_the_drivers_thread() {
    let _turn = shared();
    let rig = rig(|_| {});
    let (client, ends) = watched(&rig);
    for number in 0..50 {
        drive(&client, &ends);
        let (tx, rx) = mpsc::channel();
        client.start_then::<Plain<i64>, Plain<i64>>(&DOUBLE, &number, move |result| {
            tx.send((result.unwrap(), thread::current().name().map(str::to_owned))).unwrap();
        });
        // A blocking call beside it, whose caller must leave the callback to the driver's thread.
        assert_eq!(double(&client, number).unwrap(), number * 2);
        let (reply, thread) = rx.recv_timeout(PATIENCE).unwrap();
        assert_eq!((reply, thread.as_deref()), (number * 2, Some("coreloop-client")));
    }
}

#[test]
fn what_is_sent_without_a_wait_arrives() {
    let _turn = shared();
    let rig = rig(|_| {});
    let (client, ends) = watched(&rig);
    for round in 1..=20 {
        drive(&client, &ends);
        for number in 0..10 {
            client.send_bytes("Pooled.Count", Codec::Json, number.to_string().as_bytes()).unwrap();
        }
        eventually("the one-way calls arrive", || rig.counted.load(Ordering::SeqCst) == round * 10);
    }
}

#[test]
fn a_handle_that_is_only_asked_completes() {
    let _turn = shared();
    let rig = rig(|_| {});
    let (client, ends) = watched(&rig);
    for number in 0..20_i64 {
        drive(&client, &ends);
        let mut call = client.start_bytes("Inline.Double", Codec::Json, number.to_string().as_bytes());
        eventually("the reply is read though no thread waits", || call.is_done());
        assert_eq!(call.try_take().unwrap().unwrap(), (number * 2).to_string().as_bytes());
    }
}

#[test]
fn a_call_that_does_not_end_is_cancelled_by_its_deadline_while_its_caller_drives() {
    let _turn = shared();
    let rig = rig(|_| {});
    let (client, ends) = watched(&rig);
    drive(&client, &ends);
    let late = client.with_timeout(Duration::from_millis(30));
    let result = late.call_bytes("Blocking.Sleep", Codec::Json, b"20000");
    // The server may notice it first.
    assert_eq!(result.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(double(&client, 3).unwrap(), 6);
}

#[test]
fn every_kind_of_wait_ends_beside_every_other() {
    const ROUNDS: i64 = 1_500;
    let _turn = shared();
    let rig = rig(|_| {});
    let (client, _ends) = watched(&rig);
    let text = |number: i64| number.to_string().into_bytes();
    let start = |number: i64| client.start_bytes("Inline.Double", Codec::Json, &text(number));
    thread::scope(|scope| {
        // Blocking calls, alone for most of the time.
        scope.spawn(|| {
            (0..ROUNDS * 4).for_each(|number| assert_eq!(double(&client, number).unwrap(), number * 2))
        });
        // Several calls in flight, and a pause in which others are alone.
        scope.spawn(|| {
            for number in 0..ROUNDS {
                let calls = [start(number), start(number), start(number)];
                for call in calls {
                    assert_eq!(call.wait().unwrap(), text(number * 2));
                }
                if number % 64 == 0 {
                    thread::sleep(Duration::from_millis(3));
                }
            }
        });
        // Futures.
        scope.spawn(|| {
            (0..ROUNDS / 4).for_each(|number| {
                assert_eq!(smol::block_on(start(number)).unwrap(), text(number * 2));
                if number % 16 == 0 {
                    thread::sleep(Duration::from_millis(2));
                }
            });
        });
        // Callbacks, handles that are dropped, and waits with a limit.
        scope.spawn(|| {
            for number in 0..ROUNDS / 4 {
                let (tx, rx) = mpsc::channel();
                client.start_then::<Plain<i64>, Plain<i64>>(&DOUBLE, &number, move |result| {
                    tx.send(result.unwrap()).unwrap();
                });
                assert_eq!(rx.recv_timeout(PATIENCE).unwrap(), number * 2);
                drop(start(number));
                assert_eq!(start(number).wait_timeout(PATIENCE).unwrap().unwrap(), text(number * 2));
                if number % 16 == 0 {
                    thread::sleep(Duration::from_millis(4));
                }
            }
        });
    });
    eventually("no call is left", || client.in_flight() == 0);
}
