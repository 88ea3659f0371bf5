//! How connections end: drained, broken, lingering; and that no memory is left behind.

use super::*;

#[test]
fn a_drained_connection_serves_what_crossed_the_notice_and_ends_when_it_is_quiet() {
    let mut bench = Bench::serving();
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
    assert_eq!(bench.conn.step(), Step::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Drained);
}

#[test]
fn a_drain_ends_a_connection_that_has_said_nothing_once_it_is_quiet() {
    let mut bench = Bench::lines();
    bench.drain();
    assert_eq!(bench.conn.step(), Step::Keep, "its first request may be on its way");
    bench.write(1000);
    bench.now = bench.conn.next_deadline(&bench.limits).unwrap();
    bench.conn.on_timer(bench.now, &mut bench.pool, &bench.limits);
    assert_eq!((bench.conn.step(), bench.conn.out_len()), (Step::ShutdownWrite, 0));
    bench.conn.on_shutdown(bench.now, &bench.limits);
    bench.eof();
    bench.assert_closed(CloseReason::Drained);
}

#[test]
fn nothing_is_read_after_a_broken_byte_and_what_is_owed_goes_out() {
    let mut bench = Bench::serving();
    bench.begin(0);
    assert_eq!(bench.hear_lines(b"one\n!two\nthree\n"), ["one\n"]);
    assert!(!bench.conn.wants_read());
    assert_eq!(bench.conn.step(), Step::Keep);
    bench.end(0);
    bench.say(b"owed");
    assert_eq!(bench.conn.step(), Step::Keep);
    assert_eq!(bench.write(100), b"owed\n");
    assert_eq!(bench.conn.step(), Step::ShutdownWrite);
    bench.conn.on_shutdown(bench.now, &bench.limits);
    assert!(bench.conn.wants_read(), "what still comes is read, so that no reset eats the last word");
    assert!(bench.hear_lines(b"four\n").is_empty());
    assert_eq!(bench.conn.step(), Step::Keep);
    bench.eof();
    bench.assert_closed(CloseReason::Broken(Broken::Other("no shouting".into())));
}

#[test]
fn what_is_owed_has_its_time_from_the_end_of_reading_on() {
    let mut bench = Bench::serving();
    bench.begin(0);
    bench.at(5000);
    bench.conn.finish(CloseReason::App, bench.now);
    assert_eq!(bench.due_ms(), Some(5100));
    bench.at(5099);
    bench.timer();
    assert_eq!(bench.conn.step(), Step::Keep);
    bench.at(5100);
    bench.timer();
    bench.assert_closed(CloseReason::App);
}

#[test]
fn a_lingering_connection_drops_what_comes_and_holds_no_memory() {
    let mut bench = Bench::serving();
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
fn buffers_come_home_whatever_was_under_way() {
    let mut bench = Bench::serving();
    bench.arrive(b"whole\nand half");
    let Next::Message { message, consumed } = bench.conn.next_message() else { panic!("a line") };
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
fn a_connection_with_nothing_at_hand_holds_no_memory() {
    let mut bench = Bench::serving();
    assert_eq!(bench.pool.stats().outstanding, 0);
    bench.hear(b"ha");
    assert_eq!(bench.pool.stats().outstanding, 1);
    bench.hear(b"lf\n");
    assert_eq!(bench.pool.stats().outstanding, 0);
}
