//! How connections end: drained, broken, lingering; and that no memory leaks.

use super::*;

#[test]
fn a_drained_connection_serves_late_calls_until_it_is_quiet() {
    let mut bench = ConnBench::serving();
    bench.begin(0);
    bench.at(50);
    bench.drain();
    assert_eq!(bench.write(100), b"bye\n");
    assert_eq!(bench.due_ms(), None, "a call is in flight");
    bench.at(80);
    assert_eq!(bench.hear_lines(b"crossed\n"), ["crossed\n"]);
    bench.at(90);
    bench.end(0);
    assert_eq!(bench.due_ms(), Some(180), "100 ms of silence");
    bench.at(180);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Drained);
}

#[test]
fn a_drain_ends_a_silent_connection() {
    let mut bench = ConnBench::lines();
    bench.drain();
    assert_eq!(bench.conn.step(), SocketAction::Keep, "its first request may be on its way");
    bench.write(1000);
    bench.now = bench.conn.next_deadline(&bench.limits).unwrap();
    bench.conn.on_timer(bench.now, &mut bench.pool, &bench.limits);
    assert_eq!((bench.conn.step(), bench.conn.out_len()), (SocketAction::ShutdownWrite, 0));
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Drained);
}

#[test]
fn a_broken_byte_ends_reading_but_not_writing() {
    let mut bench = ConnBench::serving();
    bench.begin(0);
    assert_eq!(bench.hear_lines(b"one\n!two\nthree\n"), ["one\n"]);
    assert!(!bench.conn.wants_read());
    assert_eq!(bench.conn.step(), SocketAction::Keep);
    bench.end(0);
    bench.say(b"owed");
    assert_eq!(bench.conn.step(), SocketAction::Keep);
    assert_eq!(bench.write(100), b"owed\n");
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    assert!(bench.conn.wants_read(), "what still comes is read, so that no reset eats the last word");
    assert!(bench.hear_lines(b"four\n").is_empty());
    assert_eq!(bench.conn.step(), SocketAction::Keep);
    bench.eof();
    bench.assert_closed(CloseReason::Broken(Broken::Other("no shouting".into())));
}

#[test]
fn outstanding_answers_have_time_after_reading_ends() {
    let mut bench = ConnBench::serving();
    bench.begin(0);
    bench.at(5000);
    bench.conn.finish(CloseReason::App, bench.now);
    assert_eq!(bench.due_ms(), Some(5100));
    bench.at(5099);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::Keep);
    bench.at(5100);
    bench.timer();
    bench.assert_closed(CloseReason::App);
}

#[test]
fn a_lingering_connection_drops_input_and_holds_no_memory() {
    let mut bench = ConnBench::serving();
    bench.conn.finish(CloseReason::App, bench.now);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    for _ in 0..100 {
        bench.hear(&[b'x'; 1000]);
        assert_eq!(bench.pool.stats().outstanding, 0);
    }
    bench.at(1001);
    bench.timer();
    bench.assert_closed(CloseReason::App);
}

#[test]
fn buffers_are_returned_in_every_state() {
    let mut bench = ConnBench::serving();
    bench.arrive(b"whole\nand half");
    let NextMessage::Message { message, consumed } =
        bench.conn.next_message(&mut bench.pool, bench.now, &bench.limits)
    else {
        panic!("a line")
    };
    let chunk = bench.conn.cut(message);
    bench.conn.consume(consumed);
    bench.conn.settle(&mut bench.pool, bench.now);
    bench.say(b"unwritten");
    assert_eq!(&*chunk, b"whole");
    bench.conn.on_reset(ErrorKind::BrokenPipe);
    drop(chunk);
    bench.assert_closed(CloseReason::Reset(ErrorKind::BrokenPipe));
}

#[test]
fn a_connection_without_buffered_bytes_holds_no_memory() {
    let mut bench = ConnBench::serving();
    assert_eq!(bench.pool.stats().outstanding, 0);
    bench.hear(b"ha");
    assert_eq!(bench.pool.stats().outstanding, 1);
    bench.hear(b"lf\n");
    assert_eq!(bench.pool.stats().outstanding, 0);
}

#[test]
fn a_lingering_connection_reads_no_more_than_its_limit() {
    let mut bench = ConnBench::serving();
    bench.conn.finish(CloseReason::App, bench.now);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    let mut read = 0;
    while bench.conn.wants_read() {
        bench.hear(&[b'x'; 1000]);
        read += 1000;
    }
    assert_eq!(read, bench.limits.linger_bytes_max);
    bench.assert_closed(CloseReason::App);
}

#[test]
fn a_peer_that_ignores_the_notice_is_refused_then_closed() {
    let mut bench = ConnBench::serving();
    bench.at(50);
    bench.drain();
    bench.write(100);
    for ms in (60..1050).step_by(90) {
        bench.at(ms);
        bench.hear_lines(b"call\n");
        assert!(!bench.conn.refuses_calls(bench.now), "at {ms}");
        bench.timer();
    }
    for ms in (1050..2050).step_by(90) {
        bench.at(ms);
        bench.hear_lines(b"call\n");
        assert!(bench.conn.refuses_calls(bench.now), "at {ms}");
        bench.timer();
        assert_eq!(bench.conn.step(), SocketAction::Keep);
    }
    assert_eq!(bench.due_ms(), Some(2050));
    bench.at(2050);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
}

#[test]
fn abandoned_calls_do_not_delay_the_end() {
    let mut bench = ConnBench::serving();
    bench.begin(0);
    bench.drain();
    bench.say(b"unavailable");
    bench.conn.give_up(CloseReason::Drained, bench.now);
    assert_eq!(bench.conn.step(), SocketAction::Keep, "the answer is to be written");
    bench.write(100);
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.end(0);
    bench.eof();
    bench.assert_closed(CloseReason::Drained);
}

#[cfg(feature = "jsonrpc")]
#[test]
fn without_a_notice_a_drain_reads_only_earlier_bytes() {
    let mut bench = kept_to(ProtocolId::JsonRpc);
    let call = br#"{"method":"A.B","params":[1],"id":1}"#;
    bench.hear(call);
    bench.at(50);
    bench.drain();
    assert_eq!(bench.conn.step(), SocketAction::FinishWhenRead(CloseReason::Drained));
    assert_eq!(bench.hear(call).len(), 1, "it was written before");
    bench.begin(0);
    assert_eq!(bench.due_ms(), Some(1050), "what a peer goes on to write has an end");
    bench.at(1050);
    bench.timer();
    assert!(!bench.conn.wants_read());
    assert_eq!(bench.conn.step(), SocketAction::Keep, "the call is answered");
    assert_eq!(bench.due_ms(), None);
    bench.end(0);
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
}

#[cfg(feature = "http")]
#[test]
fn a_drain_keeps_an_idle_http_connection_briefly() {
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut bench = kept_to(ProtocolId::Http);
    bench.limits.drain_idle_ms = 70;
    assert_eq!(bench.hear(get).len(), 1);
    assert!(!reply(&mut bench, 0).contains("Connection: close"));
    bench.at(20);
    bench.drain();
    assert_eq!(bench.due_ms(), Some(90));
    bench.at(80);
    bench.timer();
    assert_eq!((bench.conn.step(), bench.hear(get).len()), (SocketAction::Keep, 1));
    assert!(reply(&mut bench, 1).contains("Connection: close"));
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Drained);
}

#[test]
fn a_handshake_that_a_drain_finds_is_completed_and_its_call_is_served() {
    let mut bench = ConnBench::new(LineProtocol::default());
    bench.conn.begin_handshake();
    bench.drain();
    assert_eq!(bench.write(100), b"bye\n");
    assert_eq!(bench.due_ms(), Some(2000), "the peer is not quiet, it cannot speak yet");
    bench.at(700);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::Keep);
    bench.conn.end_handshake(bench.now);
    assert_eq!(bench.due_ms(), Some(800));
    bench.at(790);
    assert_eq!(bench.hear(b"c1\n").len(), 1);
    // A peer that never completes it is not waited for longer.
    let mut bench = ConnBench::new(LineProtocol::default());
    bench.conn.begin_handshake();
    bench.drain();
    assert_eq!(bench.write(100), b"bye\n");
    bench.at(2000);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
}

#[test]
fn a_drain_does_not_wait_for_a_quiet_peer_to_close() {
    let mut bench = ConnBench::serving();
    bench.drain();
    bench.write(100);
    bench.at(101);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    assert_eq!(bench.due_ms(), Some(601));
    bench.at(500);
    bench.hear_lines(b"late\n");
    assert_eq!(bench.due_ms(), Some(1000), "what still comes is read");
    bench.at(1000);
    bench.hear_lines(b"late\n");
    assert_eq!(bench.due_ms(), Some(1101), "for no longer than linger_ms");
    bench.at(1101);
    bench.timer();
    bench.assert_closed(CloseReason::Drained);
}

#[cfg(feature = "jsonrpc")]
#[test]
fn a_drain_before_the_first_byte_waits_for_the_whole_first_request() {
    let mut bench = kept_to(ProtocolId::JsonRpc);
    bench.drain();
    let request = br#"{"method":"A.B","params":[1],"id":7}"#;
    let (first, rest) = request.split_at(10);
    assert!(bench.hear(first).is_empty());
    assert_eq!(bench.conn.step(), SocketAction::Keep, "reading goes on");
    assert_eq!(bench.hear(rest).len(), 1);
    assert_eq!(bench.conn.step(), SocketAction::FinishWhenRead(CloseReason::Drained));
}

#[cfg(feature = "http")]
#[test]
fn each_request_that_the_protocol_answers_counts_against_the_budget_of_a_turn() {
    let mut bench = kept_to(ProtocolId::Http);
    bench.arrive(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..2 {
        let next = bench.conn.next_message(&mut bench.pool, bench.now, &bench.limits);
        assert!(matches!(next, NextMessage::Answered), "{next:?}");
    }
    let next = bench.conn.next_message(&mut bench.pool, bench.now, &bench.limits);
    assert!(matches!(next, NextMessage::Nothing), "{next:?}");
    assert!(!bench.write(10_000).is_empty());
}
