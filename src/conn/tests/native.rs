//! The native protocol on a connection, with bytes split anywhere.

use super::*;

fn request(id: u64, body: &[u8]) -> Vec<u8> {
    let call = crate::message::OutgoingCall {
        name: "",
        id,
        method: 1,
        codec: 0,
        compressed: false,
        one_way: false,
        schema: 0,
        time_left_us: 0,
        metadata: &[],
        body: SendBody::Bytes(body),
    };
    [&request_header(&call)[..], body].concat()
}

#[test]
fn memory_grows_with_received_not_announced_bytes() {
    let mut bench = ConnBench::new(NativeServer::new(16 << 20));
    bench.at(1);
    let large = request(1, &vec![7; 8 << 20]);
    bench.hear(&large[..100]);
    assert!(bench.pool.stats().outstanding_bytes < 4096);
    let mut at = 100;
    while at < large.len() {
        let n = (large.len() - at).min(10_000);
        bench.arrive(&large[at..at + n]);
        at += n;
        let taken = bench.take().len();
        assert_eq!(taken, usize::from(at == large.len()));
        let held = bench.pool.stats().outstanding_bytes as usize;
        assert!(held <= 4 * at.max(READ_BYTES), "{held} bytes for {at} received");
    }
    bench.conn.on_reset(ErrorKind::ConnectionReset);
    bench.assert_closed(CloseReason::Reset(ErrorKind::ConnectionReset));
}

#[test]
fn another_version_is_answered_before_the_end() {
    let mut bench = ConnBench::new(NativeServer::new(100));
    bench.at(1);
    let mut frame = request(5, b"");
    frame[2] = 9;
    let received = bench.hear(&frame);
    let Message::Refused(refusal) = &received[0].0 else { panic!("{received:?}") };
    assert_eq!(refusal.id, 5);
    bench.conn.send(
        Outgoing::Reply(OutgoingReply {
            id: refusal.id,
            codec: refusal.codec,
            compressed: false,
            code: Code::Unimplemented,
            queue_us: 0,
            handler_us: 0,
            extras: None,
            body: SendBody::Bytes(refusal.message.as_bytes()),
        }),
        &mut bench.pool,
        bench.now,
        &bench.limits,
    );
    assert!(bench.write(1000).len() > 32);
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Broken(Broken::Version(9)));
}

proptest! {
    #[test]
    fn requests_split_anywhere_arrive_whole_and_in_order(
        sizes in proptest::collection::vec(0..200usize, 1..20),
        steps in proptest::collection::vec(1..300usize, 1..20),
    ) {
        let mut bench = ConnBench::new(undecided(1000));
        let frames: Vec<Vec<u8>> =
            sizes.iter().zip(0..).map(|(size, id)| request(id, &vec![id as u8; *size])).collect();
        let stream = frames.concat();
        let (mut received, mut rest, mut steps) = (Vec::new(), &stream[..], steps.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*steps.next().unwrap()));
            received.extend(bench.hear(piece).into_iter().map(|(_, bytes)| bytes));
            rest = after;
        }
        prop_assert_eq!(received, frames);
        bench.eof();
        bench.assert_closed(CloseReason::PeerClosed);
    }
}
