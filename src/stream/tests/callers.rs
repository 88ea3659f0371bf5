//! The ends of a caller's call: before and after it is sent, and how they give it up.

use super::*;

fn address(call: &TestCall) -> StreamAddress {
    *call.origin().address.get().unwrap()
}

#[test]
fn a_callers_sink_waits_until_its_call_is_sent() {
    let call = TestCall::new();
    let (sink, link, _stream, incoming, cancels) = call.for_caller();
    let log = Log::default();
    let seen = log.clone();
    sink.on_ready(move || seen.add("ready"));
    assert_eq!(sink.try_send(&text("early")), Err(SinkError::NotReady));
    on_reactor(|| {
        incoming.open(address(&call));
        link.open(address(&call), call.gate.clone(), 100);
    });
    call.port.run_callbacks();
    assert_eq!(log.take(), ["ready"]);
    sink.try_send(&text("one")).unwrap();
    sink.finish(Ok(()));
    assert!(matches!(sink.try_send(&text("late")), Err(SinkError::Ended(_))));
    sink.finish(Err(Status::aborted("too late")));
    drop(sink);
    assert_eq!(call.port.told(), ["1 send one", "1 end"]);
    assert_eq!(cancels.take(), 0);
}

#[test]
fn an_end_before_the_call_is_sent_is_posted_then() {
    let call = TestCall::new();
    let (sink, link, stream, ..) = call.for_caller();
    sink.finish(Ok(()));
    drop(sink);
    assert!(call.port.told().is_empty());
    link.open(address(&call), call.gate.clone(), 100);
    assert_eq!(call.port.told(), ["1 end"]);
    drop(stream);
}

#[test]
fn ends_that_are_dropped_cancel_the_call_once_it_is_not_over() {
    let call = TestCall::new();
    let (sink, _link, stream, _incoming, cancels) = call.for_caller();
    drop(sink);
    assert_eq!(cancels.take(), 1);
    drop(stream);
    assert_eq!(cancels.take(), 1);
    let (sink, ..) = call.for_caller();
    sink.finish(Err(Status::aborted("no")));
    assert_eq!(sink.ended(), Some(Status::aborted("no")));
    // After the end of the call there is nothing to cancel.
    let (sink, link, stream, incoming, cancels) = call.for_caller();
    link.end(&Status::unavailable("gone"));
    incoming.end(Err(Status::unavailable("gone")));
    assert!(sink.is_cancelled());
    drop((sink, stream));
    assert_eq!(cancels.take(), 0);
    assert!(call.port.told().is_empty());
}

#[test]
fn a_caller_takes_what_arrived_before_an_error() {
    let call = TestCall::new();
    let (_sink, _link, mut stream, incoming, cancels) = call.for_caller();
    incoming.open(address(&call));
    incoming.push(b"one", false, 35);
    incoming.end(Err(Status::aborted("the source failed")));
    incoming.end(Ok(()));
    assert_eq!(stream.next(), Some(Ok(text("one"))));
    assert_eq!(stream.next(), Some(Err(Status::aborted("the source failed"))));
    assert_eq!(stream.next(), None);
    drop(stream);
    assert_eq!(cancels.take(), 0);
    assert_eq!(call.port.told(), ["1 taken 35"]);
}
