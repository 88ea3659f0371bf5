use std::future::Future;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;

use super::*;

#[test]
fn a_sink_is_ready_while_it_has_credit_and_its_gate_is_open() {
    let call = TestCall::new();
    let (sink, link) = call.open_sink(37);
    assert!(sink.is_ready());
    sink.try_send(&text("first")).unwrap();
    assert_eq!(sink.try_send(&text("second")), Err(SinkError::NotReady));
    link.add_credit(1);
    sink.try_send(&text("second")).unwrap();
    link.add_credit(1000);
    call.gate.set_closed(true);
    assert_eq!(sink.try_send(&text("third")), Err(SinkError::NotReady));
    assert!(call.gate.set_closed(false) && sink.is_ready());
    assert_eq!(call.port.told(), ["1 send first", "1 send second"]);
}

#[test]
fn what_is_on_its_way_to_the_reactor_is_bounded() {
    let call = TestCall::new();
    let (sink, link) = call.open_sink(1 << 20);
    let large = text(&"x".repeat(40_000));
    sink.try_send(&large).unwrap();
    sink.try_send(&large).unwrap();
    assert_eq!(sink.try_send(&large), Err(SinkError::NotReady));
    assert!(link.on_taken(40_032) && sink.is_ready());
    assert!(!link.on_taken(40_032), "it was ready before");
}

#[test]
fn callbacks_run_where_those_of_the_method_do() {
    for is_inline in [true, false] {
        let call = TestCall { is_inline, ..TestCall::new() };
        let log = Log::default();
        let (sink, link) = call.open_sink(0);
        for name in ["replaced", "ready"] {
            let seen = log.clone();
            sink.on_ready(move || seen.add(name));
        }
        on_reactor(|| link.add_credit(1));
        assert_eq!(log.take().len(), usize::from(is_inline));
        assert_eq!(call.port.run_callbacks(), usize::from(!is_inline));
        let seen = log.clone();
        sink.on_ready(move || seen.add("at once"));
        call.port.run_callbacks();
        assert!(log.take().ends_with(&[text("at once")]));
    }
}

#[test]
fn a_future_completes_when_the_sink_is_ready_or_has_ended() {
    let call = TestCall::new();
    let (sink, link) = call.open_sink(0);
    let mut cx = TaskContext::from_waker(Waker::noop());
    assert_eq!(pin!(sink.ready()).poll(&mut cx), Poll::Pending);
    link.add_credit(1);
    assert_eq!(pin!(sink.ready()).poll(&mut cx), Poll::Ready(()));
    sink.try_send(&text("x")).unwrap();
    assert_eq!(pin!(sink.ready()).poll(&mut cx), Poll::Pending);
    link.end(&Status::cancelled("gone"));
    assert_eq!(pin!(sink.ready()).poll(&mut cx), Poll::Ready(()));
    assert_eq!(sink.try_send(&text("y")), Err(SinkError::Ended(Status::cancelled("gone"))));
}

#[test]
fn several_threads_send_through_one_sink_and_wait_for_credit() {
    let call = TestCall::new();
    let (sink, link) = call.open_sink(1);
    let sent = thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| (0..50).for_each(|number| sink.send(&number.to_string()).unwrap())))
            .collect();
        let mut sent = 0;
        while sent < 150 {
            sent += call.port.told().len();
            link.add_credit(34);
            thread::yield_now();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        sent
    });
    assert_eq!(sent, 150);
}

#[test]
fn a_blocked_send_ends_with_the_stream() {
    let call = TestCall::new();
    let (sink, link) = call.open_sink(0);
    let sender = thread::spawn(move || sink.send(&text("x")));
    while !link.is_waiting() {
        thread::yield_now();
    }
    link.end(&Status::unavailable("lost"));
    assert_eq!(sender.join().unwrap(), Err(SinkError::Ended(Status::unavailable("lost"))));
}

#[test]
fn a_cancelled_sink_says_so_once() {
    let call = TestCall::inline();
    let log = Log::default();
    let (sink, link) = call.open_sink(1000);
    for name in ["replaced", "cancelled"] {
        let seen = log.clone();
        sink.on_cancel(move || seen.add(name));
    }
    assert!(!sink.is_cancelled());
    on_reactor(|| link.end(&Status::cancelled("the caller gave up")));
    on_reactor(|| link.end(&Status::unavailable("again")));
    assert!(sink.is_cancelled());
    assert_eq!(
        (sink.ended(), log.take()),
        (Some(Status::cancelled("the caller gave up")), vec![text("cancelled")])
    );
    let seen = log.clone();
    on_reactor(|| sink.on_cancel(move || seen.add("late")));
    assert_eq!(log.take(), ["late"]);
}

#[test]
fn on_cancel_is_not_called_after_finish() {
    let call = TestCall::inline();
    let log = Log::default();
    let (sink, link) = call.open_sink(1000);
    let seen = log.clone();
    sink.on_cancel(move || seen.add("cancelled"));
    sink.finish(Ok(()));
    on_reactor(|| link.end(&Status::cancelled("late")));
    let seen = log.clone();
    on_reactor(|| sink.on_cancel(move || seen.add("later")));
    assert!(log.take().is_empty() && !sink.is_cancelled());
    assert_eq!(call.port.told(), ["1 ok"]);
}

/// Runs a handler's body with a sink, and returns what was answered.
fn handler(
    result: Result<(), Status>,
    body: impl FnOnce(Sink<String>) -> Option<Sink<String>>,
) -> Vec<String> {
    let call = TestCall::new();
    let (sink, _link, end) = call.sink(1000);
    let alive = body(sink);
    end.returned(result);
    let told = call.port.told();
    if let Some(sink) = alive {
        sink.finish(Ok(()));
        assert_eq!(call.port.told().len(), usize::from(told.is_empty()), "one end");
    }
    told
}

#[test]
fn a_stream_ends_as_its_sink_is_left() {
    let failed = || Err(Status::not_found("no"));
    let elsewhere = |sink: Sink<String>| {
        thread::spawn(move || drop(sink)).join().unwrap();
        None
    };
    let finish = |sink: Sink<String>| {
        sink.finish(Err(Status::aborted("own")));
        None
    };
    let internal = "1 internal: the sink was dropped before the stream was finished";
    assert_eq!(handler(Ok(()), |_sink| None), ["1 ok"]);
    assert_eq!(handler(failed(), |_sink| None), ["1 not_found: no"]);
    assert_eq!(handler(Ok(()), Some), [""; 0]);
    assert_eq!(handler(failed(), Some), ["1 not_found: no"]);
    assert_eq!(handler(Ok(()), finish), ["1 aborted: own"]);
    assert_eq!(handler(Ok(()), elsewhere), [internal]);
    assert_eq!(handler(failed(), elsewhere), [internal]);

    let call = TestCall::new();
    let (sink, _link) = call.open_sink(1000);
    drop(sink);
    assert_eq!(call.port.told(), [internal], "the same thread, but after the return");
    let (sink, _link, end) = call.sink(1000);
    drop(sink);
    drop(end);
    assert_eq!(call.port.told(), ["1 internal: the handler panicked"]);
}

#[test]
fn messages_that_are_too_large_are_refused_and_the_stream_goes_on() {
    let call = TestCall { message_bytes_max: 100, ..TestCall::new() };
    let (sink, _link) = call.open_sink(1000);
    let error = sink.try_send(&"x".repeat(101)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "message too large: expected at most 100 bytes (frame_bytes_max), found 101"
    );
    sink.try_send(&"x".repeat(100)).unwrap();
}

#[cfg(feature = "lz4")]
#[test]
fn messages_are_compressed_where_the_call_is_and_that_makes_them_smaller() {
    let call = TestCall { compresses: true, ..TestCall::new() };
    let (sink, _sink_link) = call.open_sink(100_000);
    let long = "long ".repeat(1000);
    sink.try_send(&long).unwrap();
    sink.try_send(&text("short")).unwrap();
    let (mut stream, link) = call.stream();
    let mut compressed = Vec::new();
    for command in std::mem::take(&mut *call.port.commands.lock().unwrap()) {
        let StreamAction::Send(message) = command.action else { panic!("{:?}", command.action) };
        compressed.push(message.compressed);
        let pushed = link.push(&message.body, message.compressed, message.frame_bytes() as u32);
        assert!(matches!(pushed, Pushed::Queued));
    }
    assert_eq!(compressed, [true, false]);
    assert_eq!(stream.try_next(), Poll::Ready(Some(Ok(long))));
    assert_eq!(stream.try_next(), Poll::Ready(Some(Ok(text("short")))));
}
