//! Reading stops at a limit and resumes at the lower mark.

use super::*;

#[test]
fn reading_stops_at_in_flight_max_and_resumes_at_half() {
    let mut bench = ConnBench::serving();
    (0..3).for_each(|_| bench.begin(1));
    assert!(bench.conn.wants_read());
    bench.begin(1);
    assert!(!bench.conn.wants_read());
    bench.arrive(b"waits\n");
    assert!(bench.take().is_empty(), "what is at hand waits, too");
    assert!(!bench.end(1) && !bench.conn.wants_read());
    assert!(bench.end(1) && bench.conn.wants_read());
    assert!(bench.conn.has_undecoded());
    assert_eq!(bench.take().len(), 1);
}

#[test]
fn reading_stops_at_in_flight_bytes_max_and_resumes_at_half() {
    let mut bench = ConnBench::serving();
    bench.begin(999);
    assert!(bench.conn.wants_read());
    bench.begin(500);
    assert!(!bench.conn.wants_read());
    assert!(bench.end(999));
    assert!(bench.conn.wants_read());
}

#[test]
fn a_limit_of_one_call_admits_one_call() {
    let mut bench = ConnBench::serving();
    bench.limits.in_flight_max = 1;
    bench.begin(0);
    assert!(!bench.conn.wants_read());
    assert!(bench.end(0) && bench.conn.wants_read());
}

#[test]
fn reading_stops_and_resumes_at_the_queue_marks() {
    let mut bench = ConnBench::serving();
    bench.say(&[b'x'; 98]);
    assert!(bench.conn.wants_read(), "99 bytes wait");
    bench.say(b"");
    assert!(!bench.conn.wants_read(), "100 bytes wait");
    bench.write(79);
    assert!(!bench.conn.wants_read(), "21 bytes wait");
    bench.write(1);
    assert!(bench.conn.wants_read(), "20 bytes wait");
}

#[test]
fn reading_resumes_when_calls_and_queue_are_low() {
    let mut bench = ConnBench::serving();
    (0..4).for_each(|_| bench.begin(0));
    bench.say(&[b'x'; 100]);
    assert!(!bench.end(0) && !bench.end(0) && !bench.end(0) && !bench.end(0));
    bench.write(200);
    assert!(bench.conn.wants_read());
}

#[test]
fn a_drain_notice_that_fills_the_queue_stops_reading() {
    let mut bench = ConnBench::serving();
    bench.say(&[b'x'; 97]);
    bench.drain();
    assert!(!bench.conn.wants_read());
    bench.write(102);
    assert!(bench.conn.wants_read());
}
