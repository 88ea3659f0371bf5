//! A peer that has closed its sending half still gets its answers.

use super::*;

#[test]
fn a_peer_that_half_closes_gets_every_answer() {
    let mut bench = ConnBench::serving();
    bench.hear(b"one\ntwo\n");
    bench.begin(0);
    bench.begin(0);
    bench.eof();
    assert!(!bench.conn.wants_read());
    assert_eq!(bench.conn.step(), SocketAction::Keep);
    assert_eq!(bench.due_ms(), None, "the work decides how long it takes");
    bench.end(0);
    bench.say(b"1");
    assert_eq!((bench.write(100), bench.conn.step()), (b"1\n".to_vec(), SocketAction::Keep));
    bench.end(0);
    bench.say(b"2");
    assert_eq!(bench.conn.step(), SocketAction::Keep, "not before the answer is written");
    bench.write(1);
    assert_eq!(bench.conn.step(), SocketAction::Keep);
    bench.write(1);
    bench.assert_closed(CloseReason::PeerClosed);
}

/// A call of a method that does not exist, in the given protocol.
#[cfg(all(feature = "netrpc", feature = "jsonrpc"))]
fn call_in(protocol: ProtocolId) -> Vec<u8> {
    use crate::wire::NetRpcClient;

    if protocol == ProtocolId::JsonRpc {
        return br#"{"method":"A.B","params":[1],"id":1}"#.to_vec();
    }
    let (mut client, mut body) = (ConnBench::new(NetRpcClient::new(100)), Vec::new());
    crate::codec::gob::encode(&1_i64, &mut body).unwrap();
    client.conn.send(
        Outgoing::Request(crate::message::OutgoingCall {
            id: 1,
            name: "A.B",
            method: 0,
            codec: 3,
            compressed: false,
            one_way: false,
            schema: 0,
            time_left_us: 0,
            metadata: &[],
            body: SendBody::Bytes(&body),
        }),
        &mut client.pool,
        client.now,
        &client.limits,
    );
    client.write(1000)
}

#[cfg(all(feature = "netrpc", feature = "jsonrpc"))]
#[test]
fn a_gob_client_that_closes_ends_its_calls() {
    let in_mid_call = |protocol| {
        let mut bench = kept_to(protocol);
        let call = call_in(protocol);
        assert_eq!(bench.hear(&call).len(), 1);
        bench.begin(0);
        // The beginning of another call.
        bench.hear(&call[..3]);
        bench
    };
    let mut gob = in_mid_call(ProtocolId::NetRpc);
    gob.eof();
    assert_eq!((gob.conn.in_flight(), gob.due_ms()), (1, None));
    gob.assert_closed(CloseReason::PeerClosed);

    // The same while draining, with unread answers.
    let mut gob = in_mid_call(ProtocolId::NetRpc);
    gob.conn.drain(&mut gob.pool, gob.now, &gob.limits);
    gob.eof();
    gob.assert_closed(CloseReason::PeerClosed);

    // An earlier reason for the end is kept.
    let mut gob = in_mid_call(ProtocolId::NetRpc);
    gob.conn.finish(CloseReason::FrameLate, gob.now);
    gob.eof();
    gob.assert_closed(CloseReason::FrameLate);

    // In JSON-RPC, and before the protocol is known, the end is a half-close: `nc` sends its request, closes, and
    // reads.
    let mut json = in_mid_call(ProtocolId::JsonRpc);
    json.eof();
    assert_eq!((json.conn.step(), json.conn.in_flight()), (SocketAction::Keep, 1));
    json.end(0);
    json.assert_closed(CloseReason::PeerClosed);
}

#[test]
fn a_half_message_at_the_end_is_dropped() {
    let mut bench = ConnBench::serving();
    bench.hear(b"one\ntw");
    bench.eof();
    bench.assert_closed(CloseReason::PeerClosed);
}

#[test]
fn an_end_inside_a_skipped_message_keeps_the_answers() {
    let mut bench = ConnBench::serving();
    bench.begin(0);
    bench.hear(b"skip and the rest never");
    bench.eof();
    assert_eq!(bench.due_ms(), None);
    bench.at(1000);
    bench.timer();
    bench.end(0);
    bench.say(b"1");
    assert_eq!(bench.write(100), b"1\n");
    bench.assert_closed(CloseReason::PeerClosed);
}

#[test]
fn a_peer_that_half_closes_and_never_reads_is_closed() {
    let mut bench = ConnBench::serving();
    bench.say(b"answer");
    bench.eof();
    assert_eq!(bench.due_ms(), Some(301));
    bench.at(301);
    bench.timer();
    bench.assert_closed(CloseReason::WriteStalled);
}
