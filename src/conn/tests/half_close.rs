//! A peer that has closed its sending half: what it is still owed.

use super::*;

#[test]
fn a_peer_that_half_closes_gets_every_answer_it_is_owed() {
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

/// A call of a method that is not there, as the protocol has it.
#[cfg(all(feature = "netrpc", feature = "jsonrpc"))]
fn call_in(protocol: ProtocolId) -> Vec<u8> {
    use crate::wire::NetRpcClient;

    if protocol == ProtocolId::JsonRpc {
        return br#"{"method":"A.B","params":[1],"id":1}"#.to_vec();
    }
    let (mut client, mut body) = (ConnBench::new(NetRpcClient::new(100)), Vec::new());
    crate::codec::gob::encode(&1_i64, &mut body).unwrap();
    client.conn.encode(
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
fn the_end_of_gos_client_in_gob_is_the_end_of_its_calls() {
    let in_mid_call = |protocol| {
        let mut bench = kept_to(protocol);
        let call = call_in(protocol);
        assert_eq!(bench.hear(&call).len(), 1);
        bench.begin(0);
        // The beginning of a next one.
        bench.hear(&call[..3]);
        bench
    };
    let mut gob = in_mid_call(ProtocolId::NetRpc);
    gob.eof();
    assert_eq!((gob.conn.in_flight(), gob.due_ms()), (1, None));
    gob.assert_closed(CloseReason::PeerClosed);

    // Drained or not, with answers that were not taken or without.
    let mut gob = in_mid_call(ProtocolId::NetRpc);
    gob.conn.drain(&mut gob.pool, gob.now, &gob.limits);
    gob.eof();
    gob.assert_closed(CloseReason::PeerClosed);

    // The reason for which it ended before stays.
    let mut gob = in_mid_call(ProtocolId::NetRpc);
    gob.conn.finish(CloseReason::FrameLate, gob.now);
    gob.eof();
    gob.assert_closed(CloseReason::FrameLate);

    // Of JSON-RPC and whatever has not said what it is, the end is half a close: `nc` asks so, and reads.
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
fn an_end_inside_a_skipped_message_leaves_the_answers_their_time() {
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
