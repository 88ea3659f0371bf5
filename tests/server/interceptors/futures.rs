//! Interceptors of async methods.

use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use coreloop::codec::Plain;
use coreloop::interceptor::{EndPlace, Faults};
use coreloop::server::ServerBuilder;
use coreloop::service::Method;
use coreloop::{Code, OwnedContext, Status};

use super::{Lucky, Names, Number, Panics, named, rig_of};
use crate::common::rig::ON_PURPOSE;
use crate::common::{Frame, eventually, shared};
use crate::streams::{data, end, next, open};

fn who(cx: &OwnedContext) -> String {
    let number = cx.extensions().get::<Number>().map_or(0, |number| number.0);
    format!("{} {number}", cx.principal().unwrap_or("nobody"))
}

fn with_async(builder: ServerBuilder, threads: &Arc<Mutex<Vec<ThreadId>>>) -> ServerBuilder {
    let threads = threads.clone();
    let sum = Method::async_client_stream::<Plain<i64>, Plain<i64>, _>(
        "Async.Sum",
        |_cx, mut numbers| async move {
            let mut sum = 0;
            while let Some(number) = numbers.next_message().await {
                sum += number?;
            }
            Ok(sum)
        },
    );
    let send = Method::async_server_stream::<Plain<i64>, Plain<i64>, _, _>(
        "Async.Send",
        |_cx, n, sink| async move { sink.try_send(&n).map_err(Status::from) },
    );
    builder
        .executor(|future| smol::spawn(future).detach())
        .async_method("Async.Who", move |cx: OwnedContext, _n: i64| {
            threads.lock().unwrap().push(std::thread::current().id());
            async move { Ok(who(&cx)) }
        })
        .async_method("Async.Run", |_cx: OwnedContext, n: i64| async move { Ok(n) })
        .method_of(sum.unwrap())
        .method_of(send.unwrap())
}

#[test]
fn an_async_handler_has_what_was_attached_wherever_it_was_admitted() {
    let _turn = shared();
    for on_worker in [false, true] {
        let names = Arc::new(Names { on_worker, ..Names::default() });
        let handlers = Arc::new(Mutex::new(Vec::new()));
        let rig = rig_of(|builder| with_async(builder, &handlers).interceptor(names.clone()));
        let mut peer = rig.peer();
        assert_eq!(peer.ask(&named(Frame::call(1, "Async.Who", 1))).text(), "\"ann 3\"");
        peer.ask(&Frame::call(2, "Async.Who", 1)).is(2, Code::Unauthenticated, "no name");
        peer.send(&named(open(3, "Async.Sum")));
        peer.send_all([&data(3, "1"), &data(3, "2"), &end(3)]);
        let answer = next(&mut peer);
        assert_eq!((answer.code(), answer.text().as_str()), (Code::Ok, "3"));
        peer.send(&Frame::call(4, "Async.Send", 1));
        next(&mut peer).is(4, Code::Unauthenticated, "no name");
        assert_eq!(handlers.lock().unwrap().len(), 1, "a call that was refused did not begin");
        let ends = names.ends.lock().unwrap();
        let refused = if on_worker { EndPlace::Deferred } else { EndPlace::Refused };
        let expected = [EndPlace::Deferred, refused, EndPlace::Deferred, refused];
        assert_eq!(ends.iter().map(|(.., place)| *place).collect::<Vec<_>>(), expected);
        assert_eq!(ends[0].1.as_deref(), Some("ann"));
        assert!(names.threads.lock().unwrap().iter().all(|(_, is_on_worker)| *is_on_worker == on_worker));
    }
}

#[test]
fn an_executor_that_runs_on_the_reactor_does_not_admit_there() {
    let _turn = shared();
    let names = Arc::new(Names { on_worker: true, ..Names::default() });
    let rig = rig_of(|builder| {
        builder
            .executor(smol::block_on)
            .async_method("Async.Now", |_cx: OwnedContext, n: i64| async move { Ok(n) })
            .interceptor_for("Async.*", names.clone())
    });
    let mut peer = rig.peer();
    peer.ask(&named(Frame::call(1, "Async.Now", 1))).is(1, Code::Internal, "on the reactor's thread");
    assert!(names.threads.lock().unwrap().is_empty());
}

#[test]
fn an_interceptor_answers_or_fails_an_async_call() {
    let _turn = shared();
    let rig = rig_of(|builder| with_async(builder, &Arc::default()).interceptor(Lucky));
    let mut peer = rig.peer();
    assert_eq!(peer.ask(&Frame::call(1, "Async.Run", 5)).number(), 5);
    assert_eq!(peer.ask(&Frame::call(2, "Async.Run", 7)).number(), 777);
    assert_eq!(peer.ask(&Frame::call(3, "Async.Run", 6)).number(), 666);
    peer.ask(&Frame::call(4, "Async.Run", 8)).is(4, Code::Aborted, "on second thought");
    peer.send(&Frame::call(5, "Async.Send", 7));
    next(&mut peer).is(5, Code::Internal, "its result is a stream");
}

#[test]
fn a_panic_around_an_async_handler_ends_its_call() {
    let _turn = shared();
    let rig = rig_of(|builder| {
        with_async(builder, &Arc::default())
            .interceptor_for("Async.Run", Panics(coreloop::interceptor::Hooks::AROUND))
    });
    let mut peer = rig.peer();
    peer.ask(&Frame::call(1, "Async.Run", 5)).is(1, Code::Internal, ON_PURPOSE);
    assert_eq!(peer.ask(&Frame::call(2, "Async.Who", 5)).text(), "\"nobody 0\"");
    eventually("it is counted", || rig.stats().panics == 1);
}

#[test]
fn faults_of_async_methods() {
    let _turn = shared();
    let late = Duration::from_millis(20);
    let rig = rig_of(|builder| {
        with_async(builder, &Arc::default())
            .interceptor_for("Async.Run", Faults::new(1).delay(1.0, late))
            .interceptor_for("Async.Who", Faults::new(1).drop(1.0))
    });
    let mut peer = rig.peer();
    let began = std::time::Instant::now();
    assert_eq!(peer.ask(&Frame::call(1, "Async.Run", 5)).number(), 5);
    assert!(began.elapsed() >= late, "a call cannot end before its delay has passed");
    peer.ask(&Frame::call(2, "Async.Who", 5)).is(2, Code::Unavailable, "on purpose");
}
