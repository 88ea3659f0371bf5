use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::thread;

use super::*;

fn echo(call: &TestCall, credit: u32) -> (Arc<IncomingLink>, Arc<SinkLink>) {
    let (sink, sink_link) = call.open_sink(credit);
    let (stream, link) = call.stream();
    stream.for_each_message_into(sink, |sink, event| match event {
        StreamEvent::Message(text) => sink.try_send(&text).unwrap(),
        StreamEvent::End(result) => sink.finish(result),
    });
    (link, sink_link)
}

#[test]
fn messages_into_a_sink_wait_while_it_is_not_ready() {
    for is_inline in [true, false] {
        let call = TestCall { is_inline, ..TestCall::new() };
        let (link, sink_link) = echo(&call, 37);
        let mut taken = 0;
        on_reactor(|| {
            for text in ["first", "second", "third"] {
                taken += push(&link, text);
            }
            link.end(Ok(()));
        });
        call.port.run_callbacks();
        let mut told = call.port.told();
        told.retain(|told| !told.contains("taken"));
        assert_eq!(told, ["1 send first"]);
        for (credit, expected) in
            [(0, vec![]), (1, vec!["1 send second"]), (38, vec!["1 send third", "1 ok"])]
        {
            on_reactor(|| sink_link.add_credit(credit));
            call.port.run_callbacks();
            let mut told = call.port.told();
            told.retain(|told| !told.contains("taken"));
            assert_eq!(told, expected, "inline: {is_inline}");
        }
        assert_eq!(taken, if is_inline { 37 } else { 0 });
    }
}

#[test]
fn a_message_into_a_sink_has_room_even_if_the_gate_closes_meanwhile() {
    let call = TestCall::inline();
    let (sink, _sink_link) = call.open_sink(1000);
    let (stream, link) = call.stream();
    let gate = call.gate.clone();
    stream.for_each_message_into(sink, move |sink, event| {
        if let StreamEvent::Message(text) = event {
            gate.set_closed(true);
            sink.try_send(&text).unwrap();
            assert_eq!(sink.try_send(&text), Err(SinkError::NotReady), "one message only");
        }
    });
    assert_eq!(on_reactor(|| (push(&link, "first"), push(&link, "second"))), (37, 0));
    assert_eq!(call.port.told(), ["1 send first"]);
}

#[test]
fn a_handler_that_waits_for_its_sink_learns_the_end_at_once() {
    for is_inline in [true, false] {
        let call = TestCall { is_inline, ..TestCall::new() };
        let log = Log::default();
        let (sink, sink_link) = call.open_sink(0);
        let (stream, link) = call.stream();
        let seen = log.clone();
        stream.for_each_message_into(sink, move |sink, event| match event {
            StreamEvent::Message(text) => seen.add(format!("{:?}", sink.try_send(&text))),
            StreamEvent::End(result) => seen.add(format!("{result:?}")),
        });
        on_reactor(|| push(&link, "first"));
        call.port.run_callbacks();
        assert!(log.take().is_empty());
        on_reactor(|| link.end(Err(Status::cancelled("over"))));
        call.port.run_callbacks();
        assert_eq!(log.take(), ["Err(cancelled: over)"]);
        drop(sink_link);
        assert_eq!(Arc::strong_count(&link), 1, "nothing keeps the stream");
    }
}

#[test]
fn a_cancelled_sink_lets_the_rest_of_its_messages_through() {
    let call = TestCall::inline();
    let log = Log::default();
    let (sink, sink_link) = call.open_sink(0);
    let (stream, link) = call.stream();
    let seen = log.clone();
    stream.for_each_message_into(sink, move |sink, event| match event {
        StreamEvent::Message(text) => seen.add(format!("{:?}", sink.try_send(&text))),
        StreamEvent::End(result) => seen.add(format!("{result:?}")),
    });
    on_reactor(|| {
        assert_eq!(push(&link, "first"), 0);
        sink_link.end(&Status::cancelled("over"));
    });
    assert_eq!(log.take(), ["Err(the stream has ended: cancelled: over)"]);
}

#[test]
fn a_pools_handler_loses_no_message_against_the_reactor() {
    const MESSAGES: usize = 20_000;
    let call = TestCall::new();
    let (link, sink_link) = echo(&call, 1);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    if call.port.run_callbacks() == 0 {
                        thread::yield_now();
                    }
                }
            });
        }
        let (mut pushed, mut sent) = (0, 0);
        while sent <= MESSAGES {
            if pushed < MESSAGES {
                push(&link, &pushed.to_string());
                pushed += 1;
                if pushed == MESSAGES {
                    link.end(Ok(()));
                }
            }
            for told in call.port.told() {
                if let Some(number) = told.strip_prefix("1 send ") {
                    assert_eq!(number, sent.to_string());
                    sent += 1;
                    let bytes = 32 + number.len();
                    sink_link.on_taken(bytes);
                    sink_link.add_credit(bytes as u32);
                } else if told == "1 ok" {
                    assert_eq!(sent, MESSAGES);
                    sent += 1;
                }
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn taken_bytes_are_reported_in_shares_and_when_nothing_is_left() {
    let call = TestCall { report_bytes: 80, ..TestCall::new() };
    let (mut stream, link) = call.stream();
    for text in ["1", "2", "3", "4"] {
        push(&link, text);
    }
    let mut told = Vec::new();
    for _ in 0..4 {
        assert!(matches!(stream.try_next(), Poll::Ready(Some(Ok(_)))));
        told.push(call.port.told());
    }
    assert_eq!(told, [vec![], vec![], vec![text("1 taken 99")], vec![]]);
    assert_eq!(stream.try_next(), Poll::Pending);
    assert_eq!(call.port.told(), ["1 taken 33"]);
    push(&link, "5");
    drop(stream);
    assert_eq!(call.port.told(), ["1 taken 33"], "what was not taken returns");
}
