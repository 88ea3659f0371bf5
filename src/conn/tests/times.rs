//! The time limit of a frame, and peers that do not read.

use super::*;

#[test]
fn a_frame_is_timed_from_its_first_byte() {
    let mut bench = ConnBench::serving();
    bench.at(100);
    bench.hear(b"w");
    assert_eq!(bench.due_ms(), Some(130));
    for ms in 101..130 {
        bench.at(ms);
        bench.hear(b"x");
        bench.timer();
        assert_eq!(bench.due_ms(), Some(130), "one byte at a time fools nobody");
    }
    bench.at(130);
    bench.begin(0);
    bench.timer();
    assert_eq!(bench.conn.step(), SocketAction::Keep, "what is in flight is still answered");
    bench.end(0);
    assert_eq!(bench.conn.step(), SocketAction::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::FrameLate);
}

#[test]
fn the_next_frame_has_its_own_limit() {
    let mut bench = ConnBench::serving();
    bench.at(100);
    bench.hear(b"w");
    bench.at(120);
    bench.hear(b"hole\nand ha");
    assert_eq!(bench.due_ms(), Some(150));
    bench.at(130);
    bench.hear(b"lf\n");
    assert_eq!(bench.due_ms(), Some(730), "nothing has begun");
}

#[test]
fn a_skipped_frame_and_the_next_have_separate_limits() {
    let mut bench = ConnBench::serving();
    bench.at(100);
    bench.hear(b"skip");
    bench.at(110);
    bench.hear(b" this");
    assert_eq!(bench.due_ms(), Some(130));
    bench.at(120);
    bench.hear(b"\nand ha");
    assert_eq!(bench.due_ms(), Some(150));
}

#[test]
fn a_frame_is_not_late_while_reading_is_paused() {
    let mut bench = ConnBench::serving();
    bench.at(100);
    bench.hear(b"half");
    bench.say(&[b'x'; 200]);
    assert!(bench.take().is_empty());
    assert_eq!(bench.due_ms(), Some(400), "the queue has its time, the frame has none");
    bench.at(200);
    bench.timer();
    assert_eq!(bench.write(200).len(), 200);
    bench.write(1);
    assert_eq!(bench.due_ms(), Some(230), "it goes on where reading does");
    bench.hear(b" and half\n");
    assert_eq!(bench.conn.step(), SocketAction::Keep);

    // The same if calls stop the reading.
    bench.hear(b"half");
    (0..4).for_each(|_| bench.begin(0));
    assert_eq!(bench.due_ms(), None);
    bench.at(1000);
    assert!(!bench.end(0) && bench.end(0));
    assert_eq!(bench.due_ms(), Some(1030));
}

#[test]
fn only_a_peer_that_reads_nothing_is_closed() {
    let mut bench = ConnBench::serving();
    bench.at(1000);
    bench.say(&[b'x'; 10]);
    for ms in [1299, 1598, 1897] {
        bench.at(ms);
        bench.timer();
        assert_eq!(bench.write(1).len(), 1);
    }
    bench.say(b"more to read is no progress");
    assert_eq!(bench.due_ms(), Some(2197));
    bench.at(2197);
    bench.timer();
    bench.assert_closed(CloseReason::WriteStalled);
}

#[test]
fn time_while_the_process_is_stopped_does_not_count() {
    let mut bench = ConnBench::serving();
    bench.at(100);
    bench.hear(b"half");
    bench.at(5000);
    bench.conn.forgive(Duration::from_millis(4890), bench.now);
    assert_eq!(bench.due_ms(), Some(5020), "it had 20 ms left");
    bench.conn.forgive(Duration::from_millis(60_000), bench.now);
    assert_eq!(bench.due_ms(), Some(5030), "and never has more than its time");

    let mut bench = ConnBench::serving();
    bench.at(100);
    bench.say(b"never read");
    bench.at(5000);
    bench.conn.forgive(Duration::from_millis(4890), bench.now);
    assert_eq!(bench.due_ms(), Some(5290), "a peer that could not read what was not written has not stalled");

    let mut bench = ConnBench::new(undecided(100));
    bench.at(5);
    bench.hear(b"\x19");
    bench.at(5000);
    bench.conn.forgive(Duration::from_millis(4990), bench.now);
    assert_eq!(bench.due_ms(), Some(5005));
}
