//! Connections that have become too old drain as if the server did, but nothing in flight is cut off; and the count of
//! what arrives after reading has stopped.

use super::*;

fn aged(protocol: ProtocolId) -> ConnBench<ServerProtocol> {
    let mut bench = kept_to(protocol);
    bench.limits.connection_age_max_ms = 1000;
    bench.limits.idle_ms = 5000;
    bench
}

#[test]
fn the_age_is_spread_by_a_tenth_to_either_side() {
    for (share, due) in [(0, 900), (128, 1000), (255, 1100)] {
        let mut bench = ConnBench::serving();
        bench.limits.connection_age_max_ms = 1000;
        bench.limits.idle_ms = 5000;
        bench.conn.set_age_share(share);
        assert_eq!(bench.due_ms(), Some(due));
    }
}

#[test]
fn no_limit_on_the_age_is_no_deadline() {
    let mut bench = ConnBench::serving();
    assert_eq!(bench.due_ms(), Some(601), "only idle_ms");
    bench.begin(0);
    assert_eq!(bench.due_ms(), None);
}

#[test]
fn an_old_connection_gets_a_notice_and_its_calls_finish() {
    let mut bench = ConnBench::serving();
    bench.limits.connection_age_max_ms = 500;
    bench.begin(0);
    assert_eq!(bench.due_ms(), Some(450));
    bench.at(450);
    bench.timer();
    assert_eq!(bench.write(100), b"bye\n");
    assert_eq!(bench.hear_lines(b"crossed\n"), ["crossed\n"]);
    assert_eq!(bench.due_ms(), None, "a call has any time");
    bench.at(90_000);
    bench.end(0);
    bench.at(90_100);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Aged);
}

#[test]
fn an_idle_connection_ends_for_being_idle() {
    let mut bench = ConnBench::serving();
    bench.limits.connection_age_max_ms = 10_000;
    bench.at(601);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::Keep, "the notice is written");
    bench.write(100);
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Idle);
}

#[test]
fn a_drain_of_the_reactor_takes_over_from_age() {
    let mut bench = ConnBench::serving();
    bench.limits.connection_age_max_ms = 100;
    bench.at(90);
    bench.timer();
    assert_eq!(bench.write(100), b"bye\n");
    bench.drain();
    assert_eq!(bench.conn.out_len(), 0, "one notice is enough");
    bench.at(300);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Drained);
}

#[cfg(feature = "http")]
#[test]
fn an_old_http_connection_waits_for_its_next_request() {
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut bench = aged(ProtocolId::Http);
    bench.limits.drain_idle_ms = 10;
    assert_eq!(bench.hear(get).len(), 1);
    assert!(!reply(&mut bench, 0).contains("Connection: close"));
    bench.at(900);
    bench.timer();
    assert_eq!((bench.conn.step(), bench.conn.out_len()), (SocketAction::Keep, 0));
    assert_eq!(bench.due_ms(), Some(5900), "it is idle, as any other");
    bench.at(5899);
    assert_eq!(bench.hear(get).len(), 1);
    assert!(reply(&mut bench, 1).contains("Connection: close"));
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Aged);
}

/// Counts what `next_message` drops.
fn unread<W: Protocol>(bench: &mut ConnBench<W>) -> usize {
    let mut count = 0;
    loop {
        match bench.conn.next_message(&mut bench.pool, bench.now, &bench.limits) {
            NextMessage::Unread => count += 1,
            NextMessage::Answered | NextMessage::Message { .. } => panic!("nothing is served any more"),
            NextMessage::Nothing => break,
        }
    }
    bench.conn.settle(&mut bench.pool, bench.now);
    bench.conn.check(&bench.limits);
    count
}

#[cfg(feature = "jsonrpc")]
#[test]
fn without_a_notice_what_arrives_late_is_counted_wherever_it_is_split() {
    let call = br#"{"method":"A.B","params":[1],"id":1}"#;
    let late = [&call[..], b"\n", &call[..], b"{\"method\":"].concat();
    for split in 0..=late.len() {
        let mut bench = aged(ProtocolId::JsonRpc);
        assert_eq!(bench.hear(call).len(), 1);
        bench.begin(0);
        bench.at(900);
        bench.timer();
        assert_eq!(bench.conn.step(), SocketAction::FinishWhenRead(CloseReason::Aged));
        bench.conn.finish(CloseReason::Aged, bench.now);
        assert_eq!(bench.conn.step(), SocketAction::Keep, "the call in flight is answered");
        assert!(!bench.conn.wants_read());
        bench.end(0);
        assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
        bench.conn.on_shutdown(bench.now, &bench.limits);
        let mut count = 0;
        for part in [&late[..split], &late[split..]] {
            bench.arrive(part);
            count += unread(&mut bench);
        }
        assert_eq!((count, bench.conn.out_len()), (2, 0), "split at {split}");
        bench.eof();
        bench.assert_closed(CloseReason::Aged);
    }
}

#[test]
fn with_a_notice_nothing_is_counted() {
    let mut bench = ConnBench::serving();
    bench.drain();
    bench.write(100);
    bench.at(101);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.arrive(b"late\nlater\n");
    assert_eq!(unread(&mut bench), 0);
    bench.eof();
    bench.assert_closed(CloseReason::Drained);
}
