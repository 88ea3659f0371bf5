//! The first bytes of a connection, and the time limits on silence.

use super::*;

#[test]
fn a_silent_connection_ends() {
    let protocols = [ProtocolId::Native, ProtocolId::Http, ProtocolId::NetRpc, ProtocolId::JsonRpc];
    let benches = protocols.into_iter().map(kept_to).chain([ConnBench::new(undecided(100))]);
    for mut bench in benches {
        assert_eq!(bench.due_ms(), Some(600), "it is idle, and not slow");
        bench.at(599);
        bench.timer();
        assert_eq!(bench.conn.step(), SocketAction::Keep);
        bench.at(600);
        bench.timer();
        assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
        bench.conn.on_shutdown(bench.now, &bench.limits);
        bench.eof();
        bench.assert_closed(CloseReason::Idle);
    }
}

#[test]
fn undecided_bytes_do_not_stop_the_first_bytes_clock() {
    let mut bench = ConnBench::new(undecided(100));
    for ms in 1..10 {
        bench.at(ms);
        assert!(bench.hear(if ms == 1 { b"\x19" } else { b"" }).is_empty());
        assert_eq!(bench.due_ms(), Some(11));
    }
    bench.at(10);
    bench.hear(b"\x96");
    assert_eq!(bench.conn.state, ConnState::Serving);
}

#[test]
fn the_first_bytes_clock_starts_after_a_silence() {
    // White space may precede JSON; the length of a gob message does not determine the protocol.
    for (protocol, bytes) in [(ProtocolId::JsonRpc, b" "), (ProtocolId::NetRpc, b"\x40")] {
        let mut bench = kept_to(protocol);
        bench.at(500);
        assert!(bench.hear(bytes).is_empty());
        assert_eq!(bench.due_ms(), Some(510), "{protocol:?}");
        // More bytes do not stop that clock.
        bench.at(509);
        bench.hear(if protocol == ProtocolId::JsonRpc { b" " } else { b"" });
        assert_eq!(bench.due_ms(), Some(510));
        bench.at(510);
        bench.timer();
        bench.conn.step();
        bench.conn.on_shutdown(bench.now, &bench.limits);
        bench.eof();
        bench.assert_closed(CloseReason::FirstBytesLate);
    }
}

#[cfg(feature = "jsonrpc")]
#[test]
fn a_late_first_call_has_the_frame_limit() {
    let mut bench = kept_to(ProtocolId::JsonRpc);
    bench.at(500);
    assert!(bench.hear(br#"{"method":"#).is_empty());
    assert_eq!((&bench.conn.state, bench.due_ms()), (&ConnState::Serving, Some(530)));
    assert_eq!(bench.hear(br#""A.B","params":[1],"id":1}"#).len(), 1);
    assert_eq!(bench.conn.state, ConnState::Serving);
}

#[test]
fn bytes_at_the_instant_of_opening_are_served() {
    let mut bench = ConnBench::lines();
    assert_eq!(bench.hear_lines(b"hello\n"), ["hello\n"]);
    assert_eq!(bench.conn.state, ConnState::Serving);
}

#[test]
fn a_foreign_protocol_is_not_answered_and_ends() {
    let mut bench = ConnBench::new(undecided(100));
    bench.hear(b"\x16\x03\x01\x02\x00");
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    assert_eq!(bench.conn.out_len(), 0);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Broken(Broken::NotSpoken("tls")));
}

#[test]
fn an_idle_connection_ends_after_a_notice() {
    let mut bench = ConnBench::serving();
    assert_eq!(bench.due_ms(), Some(601));
    bench.at(601);
    bench.timer();
    assert_eq!(bench.write(100), b"bye\n");
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    assert_eq!(bench.due_ms(), Some(1601), "lingers for a bounded time");
    bench.at(1601);
    bench.timer();
    bench.assert_closed(CloseReason::Idle);
}

#[test]
fn a_connection_with_work_in_flight_is_not_idle() {
    let mut bench = ConnBench::serving();
    bench.begin(0);
    assert_eq!(bench.due_ms(), None);
    bench.at(10_000);
    bench.timer();
    assert_eq!(bench.conn.state, ConnState::Serving);
    bench.end(0);
    bench.say(b"done");
    bench.write(100);
    assert_eq!(bench.due_ms(), Some(10_600), "idle from its last answer on");
}

#[test]
fn a_reset_ends_a_connection_in_every_state() {
    let drained = || {
        let mut bench = ConnBench::serving();
        bench.drain();
        bench
    };
    let half_closed = || {
        let mut bench = ConnBench::serving();
        bench.begin(0);
        bench.eof();
        bench
    };
    for make in [ConnBench::lines, ConnBench::serving, drained, half_closed] {
        let mut bench = make();
        bench.say(b"never read");
        bench.conn.on_reset(ErrorKind::ConnectionReset);
        bench.say(b"nor this");
        bench.assert_closed(CloseReason::Reset(ErrorKind::ConnectionReset));
    }
}

/// A protocol of single bytes, decoded on the fast path; `decode` never sees an empty input.
struct Quick;

impl Protocol for Quick {
    type Message = Span;
    type Outgoing<'a> = &'a [u8];

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Span> {
        assert!(!input.is_empty(), "there is nothing to decode");
        Received::Message { message: Span::new(0, 1), consumed: 1 }
    }

    fn try_fast_receive(&mut self, input: &[u8]) -> Option<(Span, usize)> {
        (!input.is_empty()).then_some((Span::new(0, 1), 1))
    }

    fn send(&mut self, _: &[u8], _: &mut Out<'_>) {}
}

#[test]
fn nothing_is_decoded_after_the_last_fast_message() {
    let (mut pool, now) = (Pool::new(PoolConfig::default()), Instant::now());
    let mut conn = Conn::new(Quick, now);
    conn.space(&mut pool)[..2].copy_from_slice(b"ab");
    conn.on_bytes(2, now);
    for byte in [b"a", b"b"] {
        let (span, consumed) = conn.try_fast_receive().unwrap();
        assert_eq!(conn.bytes_of(span), byte);
        conn.consume(consumed);
    }
    assert_eq!(conn.try_fast_receive(), None);
    assert_eq!(conn.next_message(&mut pool, now, &Limits::default()), NextMessage::Nothing);
}
