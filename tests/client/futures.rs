//! A call's handle as a future: on tokio, on smol, and on a minimal executor. The last waker is woken, once; a
//! future that is dropped before it is ready cancels its call, at the server too.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use crate::common::raw_server::{RawServer, Side, assert_works, connected, end, start};
use crate::common::{PATIENCE, eventually, kind, rig};
use coreloop::client::{CallError, Client};
use coreloop::codec::Codec;
use coreloop::reactor::Address;

/// Makes calls that are sent together and awaited one after the other; some of them occupy a worker at the server.
async fn many_calls(client: Client, from: i64) -> i64 {
    let calls: Vec<_> = (from..from + 100)
        .map(|number| {
            let method = ["Inline.Double", "Pooled.Double", "Blocking.Double"][number as usize % 3];
            (number, client.start_bytes(method, Codec::Json, number.to_string().as_bytes()))
        })
        .collect();
    let mut sum = 0;
    for (number, call) in calls {
        let reply = call.await.unwrap();
        assert_eq!(reply, (number * 2).to_string().as_bytes());
        sum += number;
    }
    sum
}

fn client_of(address: &Address) -> Client {
    Client::connect(address.to_string()).unwrap()
}

/// The sum of the results of eight tasks of [`many_calls`].
const SUM: i64 = 799 * 800 / 2;

#[test]
fn handles_are_awaited_on_tokio_with_several_threads() {
    let rig = rig(|_| {});
    let client = client_of(&rig.address);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let sum = runtime.block_on(async {
        let tasks: Vec<_> = (0..8).map(|task| tokio::spawn(many_calls(client.clone(), task * 100))).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!((sum, client.stats().connects), (SUM, 1));
}

#[test]
fn handles_are_awaited_on_tokio_with_one_thread() {
    let rig = rig(|_| {});
    let client = client_of(&rig.address);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sum = runtime.block_on(async {
        let tasks: Vec<_> = (0..8).map(|task| tokio::spawn(many_calls(client.clone(), task * 100))).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!((sum, client.stats().connects), (SUM, 1));
}

#[test]
fn handles_are_awaited_on_smol() {
    let rig = rig(|_| {});
    let client = client_of(&rig.address);
    let sum = smol::block_on(async {
        let tasks: Vec<_> = (0..8).map(|task| smol::spawn(many_calls(client.clone(), task * 100))).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    });
    assert_eq!((sum, client.stats().connects), (SUM, 1));
}

// A minimal executor.

/// Wakes a thread and counts the wake-ups.
struct Alarm {
    thread: Thread,
    rings: AtomicU32,
}

impl Alarm {
    fn new() -> Arc<Alarm> {
        Arc::new(Alarm { thread: std::thread::current(), rings: AtomicU32::new(0) })
    }

    fn rings(&self) -> u32 {
        self.rings.load(Ordering::SeqCst)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Runs a future to completion on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let alarm = Alarm::new();
    let waker = Waker::from(alarm.clone());
    let mut polls = 0;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        polls += 1;
        while alarm.rings() < polls {
            std::thread::park();
        }
    }
}

fn poll_with<F: Future + Unpin>(future: &mut F, alarm: &Arc<Alarm>) -> Poll<F::Output> {
    let waker = Waker::from(alarm.clone());
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

fn pair() -> (RawServer, Client, Side) {
    let server = RawServer::start();
    let client = server.client();
    let side = connected(&client, &server);
    (server, client, side)
}

#[test]
fn handles_are_awaited_on_an_executor_by_hand() {
    let rig = rig(|_| {});
    let client = client_of(&rig.address);
    let sum: i64 = (0..8).map(|task| block_on(many_calls(client.clone(), task * 100))).sum();
    assert_eq!((sum, client.stats().connects), (SUM, 1));
}

#[test]
fn only_the_last_waker_is_woken() {
    let (_server, client, mut side) = pair();
    let mut call = start(&client, "who?");
    let request = side.request();
    let (first, last) = (Alarm::new(), Alarm::new());
    assert!(poll_with(&mut call, &first).is_pending());
    assert!(poll_with(&mut call, &first).is_pending());
    assert!(poll_with(&mut call, &last).is_pending());
    assert_eq!(Arc::strong_count(&first), 1, "it is let go of when another one takes its place");
    side.peer.send(&request.reply("you"));
    eventually("the last one is woken", || last.rings() > 0);
    let Poll::Ready(reply) = poll_with(&mut call, &first) else { panic!("woken for nothing") };
    assert_eq!(reply.unwrap(), b"you");
    assert_works(&client, &mut side);
    assert_eq!((first.rings(), last.rings()), (0, 1));
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&last)), (1, 1), "no cell keeps a waker");
}

#[test]
fn a_handle_may_be_polled_and_then_waited_for() {
    let (_server, client, mut side) = pair();
    let mut call = start(&client, "both");
    let request = side.request();
    let alarm = Alarm::new();
    assert!(poll_with(&mut call, &alarm).is_pending());
    assert!(call.wait_timeout(Duration::from_millis(1)).is_none());
    side.peer.send(&request.reply("ways"));
    assert_eq!(end(call).unwrap(), b"ways");
    assert_eq!(Arc::strong_count(&alarm), 1);
}

#[test]
fn a_future_dropped_before_it_is_ready_cancels_its_call() {
    let (_server, client, mut side) = pair();
    let mut call = start(&client, "never mind");
    let request = side.request();
    let alarm = Alarm::new();
    assert!(poll_with(&mut call, &alarm).is_pending());
    drop(call);
    side.expect_cancel(request.id);
    eventually("its waker is let go of", || Arc::strong_count(&alarm) == 1);
    assert_eq!((alarm.rings(), client.in_flight()), (0, 0), "nobody is woken for what nobody waits for");
    assert_works(&client, &mut side);
    assert_eq!(client.stats().cancelled, 1);
}

#[test]
fn a_failed_future_returns_its_error() {
    let (server, client, mut side) = pair();
    let call = start(&client, "lost");
    side.request();
    side.reset();
    let error = block_on(call).unwrap_err();
    assert!(matches!(error, CallError::Lost { may_have_run: true, .. }), "{error:?}");
    drop(server);
    let error = block_on(start(&client, "refused")).unwrap_err();
    assert!(matches!(error, CallError::Connect(_)), "{error:?}");
    let large = vec![0; coreloop::config::Limits::default().frame_bytes_max + 1];
    let error = block_on(client.start_bytes("Raw.Echo", Codec::Raw, &large)).unwrap_err();
    assert!(matches!(error, CallError::TooLarge { .. }), "{error:?}");
}

#[test]
fn a_batch_s_handle_may_be_awaited_before_the_batch_is_sent() {
    let (_server, client, mut side) = pair();
    let batch = client.batch();
    let mut call = batch.start_bytes("Raw.Echo", Codec::Raw, b"later");
    let alarm = Alarm::new();
    assert!(poll_with(&mut call, &alarm).is_pending());
    batch.send();
    side.echo();
    assert_eq!(block_on(call).unwrap(), b"later");

    let batch = client.batch();
    let mut call = batch.start_bytes("Raw.Echo", Codec::Raw, b"never");
    assert!(poll_with(&mut call, &alarm).is_pending());
    drop(batch);
    let error = block_on(call).unwrap_err();
    assert!(!error.may_have_run(), "{error:?}");
    assert_works(&client, &mut side);
}

// Cancellation by the executor's own means.

#[test]
fn tokio_s_timeout_of_a_slow_call_cancels_it_at_the_server() {
    let rig = rig(|_| {});
    let client = client_of(&rig.address);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let call = client.start_bytes("Blocking.Sleep", Codec::Json, b"60000");
        // The handler starts before the timeout: a call that is cancelled in the queue would report nothing.
        poll_fn(|_| {
            rig.wait_for_runs(1);
            Poll::Ready(())
        })
        .await;
        assert!(tokio::time::timeout(Duration::from_millis(10), call).await.is_err());
    });
    eventually("the handler was told", || rig.cancelled.load(Ordering::SeqCst) == 1);
    eventually("nothing is left of it", || client.in_flight() == 0);
}

#[test]
fn the_loser_of_a_race_on_smol_is_cancelled_at_the_server() {
    let (_server, client, mut side) = pair();
    let (slow, quick) = (start(&client, "slow"), start(&client, "quick"));
    let (of_slow, of_quick) = (side.request(), side.request());
    side.peer.send(&of_quick.reply("first"));
    let winner = smol::block_on(smol::future::or(slow, quick)).unwrap();
    assert_eq!(winner, b"first");
    side.expect_cancel(of_slow.id);
    assert_works(&client, &mut side);
}

#[test]
fn a_task_that_is_aborted_cancels_its_calls() {
    let (_server, client, mut side) = pair();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let of_task = client.clone();
    let task = runtime.spawn(async move { start(&of_task, "in a task").await });
    let request = side.request();
    task.abort();
    let error = runtime.block_on(task).unwrap_err();
    assert!(error.is_cancelled());
    side.expect_cancel(request.id);
    assert_works(&client, &mut side);
    // The runtime ends first; the client's thread continues.
    runtime.shutdown_timeout(PATIENCE);
    assert_works(&client, &mut side);
    assert_ne!(request.kind, kind::ONE_WAY);
}
