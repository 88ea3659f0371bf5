//! A native connection at its limit of calls: calls with a deadline are received and refused, others wait unread.

use super::*;
use crate::message::OutgoingCall;
use crate::wire::native::ping;

fn frame(id: u64, time_left_us: u32, one_way: bool) -> Vec<u8> {
    let call = OutgoingCall {
        name: "",
        id,
        method: 1,
        codec: 0,
        compressed: false,
        one_way,
        schema: 0,
        time_left_us,
        metadata: &[],
        body: SendBody::Bytes(b"argument"),
    };
    [&request_header(&call)[..], b"argument"].concat()
}

/// What happened to the messages of a connection that admits four calls.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log {
    begun: Vec<u64>,
    refused: Vec<u64>,
    others: usize,
}

impl ConnBench<NativeServer> {
    /// Takes what is buffered, as the app of a server does: a call begins, or is refused with an answer of 40 bytes.
    fn serve(&mut self, log: &mut Log) {
        loop {
            match self.conn.next_message(&mut self.pool, self.now, &self.limits) {
                NextMessage::Message { message: Message::Request(request), consumed } => {
                    if self.conn.is_saturated() {
                        log.refused.push(request.id);
                        self.answer(request.id);
                    } else {
                        log.begun.push(request.id);
                        self.conn.begin_call(8, &self.limits);
                    }
                    self.conn.consume(consumed);
                }
                NextMessage::Message { consumed, .. } => {
                    log.others += 1;
                    self.conn.consume(consumed);
                }
                NextMessage::Answered | NextMessage::Unread => {}
                NextMessage::Nothing => break,
            }
            self.conn.check(&self.limits);
        }
        self.conn.settle(&mut self.pool, self.now);
    }

    fn answer(&mut self, id: u64) {
        let reply = OutgoingReply {
            id,
            codec: 0,
            compressed: false,
            code: Code::ResourceExhausted,
            queue_us: 0,
            handler_us: 0,
            extras: None,
            body: SendBody::Bytes(b"too many"),
        };
        self.conn.send(Outgoing::Reply(reply), &mut self.pool, self.now, &self.limits);
        self.conn.note_refusal(40, &self.limits);
    }
}

fn native() -> ConnBench<NativeServer> {
    let mut bench = ConnBench::new(NativeServer::new(1000));
    bench.limits.write_queue_high_bytes = 10_000;
    bench.limits.write_queue_low_bytes = 1000;
    bench.at(1);
    bench
}

#[test]
fn calls_with_a_deadline_are_refused_at_the_limit_and_others_wait_at_every_split() {
    let mut input = Vec::new();
    (0..6).for_each(|id| input.extend(frame(id, 1000, false)));
    input.extend(ping(77));
    input.extend(frame(6, 1000, true));
    input.extend(frame(7, 0, false));
    input.extend(frame(8, 1000, false));
    for cut in 0..=input.len() {
        let (mut bench, mut log) = (native(), Log::default());
        bench.arrive(&input[..cut]);
        bench.serve(&mut log);
        if bench.conn.wants_read() {
            bench.arrive(&input[cut..]);
            bench.serve(&mut log);
        } else {
            assert!(
                cut >= input.len() - 48,
                "stopped at {cut}, before the header of the call without a deadline"
            );
        }
        let expected = Log { begun: vec![0, 1, 2, 3], refused: vec![4, 5, 6], others: 1 };
        assert_eq!(log, expected, "split at {cut}");
        assert!(bench.conn.is_paused() && !bench.conn.wants_read(), "split at {cut}");
        bench.write(10_000);
        assert!(!bench.end(8) && bench.conn.is_paused(), "three of four calls");
        assert!(bench.end(8) && bench.conn.wants_read(), "half of the calls");
        if !bench.conn.has_undecoded() || cut < input.len() {
            let arrived = if cut >= input.len() - 48 { cut } else { input.len() };
            bench.arrive(&input[arrived..]);
        }
        bench.serve(&mut log);
        assert_eq!((&log.begun[4..], log.refused.len()), (&[7, 8][..], 3), "split at {cut}");
    }
}

#[test]
fn a_call_with_a_deadline_is_admitted_as_soon_as_another_has_ended() {
    let (mut bench, mut log) = (native(), Log::default());
    (0..5).for_each(|id| bench.arrive(&frame(id, 1000, false)));
    bench.serve(&mut log);
    assert_eq!((log.begun.len(), log.refused.len(), bench.conn.is_paused()), (4, 1, false));
    assert!(bench.end(8) && !bench.conn.is_saturated());
    (5..7).for_each(|id| bench.arrive(&frame(id, 1000, false)));
    bench.serve(&mut log);
    assert_eq!((&log.begun[4..], &log.refused[1..]), (&[5][..], &[6][..]));
}

#[test]
fn the_limit_of_bytes_refuses_too() {
    let (mut bench, mut log) = (native(), Log::default());
    bench.limits.in_flight_bytes_max = 16;
    (0..5).for_each(|id| bench.arrive(&frame(id, 1000, false)));
    bench.serve(&mut log);
    assert_eq!((log.begun, log.refused), (vec![0, 1], vec![2, 3, 4]));
}

#[test]
fn unwritten_refusals_stop_the_reading_until_half_of_them_are_written() {
    let (mut bench, mut log) = (native(), Log::default());
    bench.limits.refusal_bytes_max = 400;
    (0..100).for_each(|id| bench.arrive(&frame(id, 1000, false)));
    bench.serve(&mut log);
    assert_eq!((log.begun.len(), log.refused.len()), (4, 11), "440 bytes of refusals wait");
    assert!(bench.conn.is_paused() && bench.conn.is_saturated());
    bench.write(239);
    assert!(bench.conn.is_paused(), "201 bytes wait");
    bench.write(1);
    assert!(
        !bench.conn.is_paused() && bench.conn.is_saturated(),
        "200 bytes wait, and four calls are in flight"
    );
    bench.serve(&mut log);
    assert_eq!((log.begun.len(), log.refused.len()), (4, 17));
}

#[test]
fn one_way_calls_are_refused_without_bytes_that_wait() {
    let (mut bench, mut log) = (native(), Log::default());
    bench.limits.refusal_bytes_max = 100;
    (0..4).for_each(|id| bench.arrive(&frame(id, 1000, false)));
    bench.serve(&mut log);
    (0..1000).for_each(|_| bench.conn.note_refusal(40, &bench.limits));
    assert!(!bench.conn.is_paused() && bench.conn.wants_read());
}

#[test]
fn a_stream_that_ends_leaves_the_refusals_to_the_calls_in_flight() {
    let (mut bench, mut log) = (native(), Log::default());
    bench.conn.begin_stream();
    (0..5).for_each(|id| bench.arrive(&frame(id, 0, false)));
    bench.serve(&mut log);
    assert_eq!((log.begun.len(), &log.refused[..]), (4, &[4][..]), "with a stream nothing waits unread");
    bench.conn.end_stream(bench.now, &bench.limits);
    assert!(bench.conn.is_saturated() && bench.conn.wants_read());
    bench.arrive(&frame(5, 1000, false));
    bench.arrive(&frame(6, 0, false));
    bench.serve(&mut log);
    assert_eq!((log.begun.len(), &log.refused[..]), (4, &[4, 5][..]));
    assert!(bench.conn.is_paused(), "the last one waits unread");
}

#[test]
fn bytes_of_no_frame_do_not_wait() {
    let (mut bench, mut log) = (native(), Log::default());
    (0..4).for_each(|id| bench.arrive(&frame(id, 0, false)));
    bench.serve(&mut log);
    let mut foreign = frame(4, 0, false);
    foreign[0] = 0;
    bench.arrive(&foreign);
    bench.serve(&mut log);
    assert!(matches!(bench.conn.state, ConnState::Finishing(CloseReason::Broken(Broken::Magic(_)))));
}
