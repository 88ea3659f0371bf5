//! Frames of streams that name calls without a stream: each breaks its call or is dropped, and the connection lives.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Frame, Peer, Rig, eventually, kind, rig, serial, shared};
use coreloop::codec::Plain;
use coreloop::service::Method;
use coreloop::{Code, Server};

fn plain() -> Rig {
    rig(|_| {})
}

fn data(id: u64, bytes: usize) -> Frame {
    let mut frame = Frame::of_kind(kind::DATA, id);
    frame.body = vec![b'1'; bytes];
    frame
}

fn window(id: u64, body: &[u8]) -> Frame {
    let mut frame = Frame::of_kind(kind::WINDOW, id);
    frame.body = body.to_vec();
    frame
}

/// Asserts that a blocking call, while it is in flight, ends with this status when the frame arrives.
#[track_caller]
fn ends_call(peer: &mut Peer, frame: &Frame, code: Code, part_of_text: &str) {
    peer.send(&Frame::call(frame.id, "Blocking.Sleep", 60_000));
    peer.send(frame);
    peer.answer().is(frame.id, code, part_of_text);
    assert_eq!(peer.ask(&Frame::call(1_000, "Inline.Double", 4)).number(), 8, "the connection lives");
}

#[test]
fn frames_of_a_call_whose_argument_is_complete_end_it() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    ends_call(
        &mut peer,
        &data(1, 3),
        Code::InvalidArgument,
        "a data frame for a call whose argument is complete",
    );
    let end = Frame::of_kind(kind::END, 2);
    ends_call(&mut peer, &end, Code::InvalidArgument, "an end frame for a call whose argument is complete");
    let mut long = Frame::of_kind(kind::END, 3);
    long.body = vec![1; 5];
    ends_call(&mut peer, &long, Code::InvalidArgument, "an end frame has no body");
    ends_call(&mut peer, &window(4, b"12345"), Code::InvalidArgument, "a body of 4 bytes, not 5");
    let mut flags = data(5, 3);
    flags.flags = 2;
    ends_call(&mut peer, &flags, Code::InvalidArgument, "unknown flags 0x02");
    drop(peer);
    witness.assert_all_released();
}

/// A peer with an open stream is not paused for what waits to be written; what it makes the protocol refuse is bounded by
/// `refusal_bytes_max`.
#[test]
fn refusals_by_the_protocol_stop_the_reading_of_a_peer_with_a_stream_that_reads_nothing() {
    let _turn = shared();
    let (sinks, held) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (keep, count) = (sinks.clone(), held.clone());
    let hold = Method::server_stream::<Plain<i64>, Plain<i64>>("Lines.Hold", move |_cx, _, sink| {
        keep.lock().unwrap().push(sink);
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let server = Server::builder()
        .method_of(hold.unwrap())
        .cores(1)
        .configure(|config| {
            config.limits.refusal_bytes_max = 64 << 10;
            config.limits.write_queue_high_bytes = 32 << 10;
            config.limits.write_queue_low_bytes = 16 << 10;
            config.limits.write_stall_ms = 600_000;
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let mut peer = Peer::connect(&server.addresses()[0]);
    peer.send(&Frame::call(1, "Lines.Hold", 1));
    eventually("the stream is open", || held.load(Ordering::SeqCst) == 1);
    // The frame of a call with a flag that no version has; its refusal repeats the flag.
    let mut refused = Frame::call(2, "Lines.Hold", 1);
    refused.flags = 0x80;
    let mut writer = peer.duplicate();
    let flood = std::thread::spawn(move || {
        let bytes = refused.bytes().repeat(1000);
        // It ends when the connection does.
        while writer.try_send(&bytes).is_ok() {}
    });
    let pauses = || server.stats().reactors.iter().map(|reactor| reactor.pauses).sum::<u64>();
    eventually("reading is stopped", || pauses() >= 1);
    drop(server);
    flood.join().unwrap();
}

#[test]
fn frames_of_no_call_are_dropped_without_an_answer() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    let mut long_end = Frame::of_kind(kind::END, 9);
    long_end.body = vec![0; 3];
    for id in [0, 9] {
        peer.send_all([&data(id, 100), &Frame::of_kind(kind::END, id)]);
    }
    peer.send_all([
        &window(9, &7_u32.to_le_bytes()),
        &window(9, b"123"),
        &window(0, &0_u32.to_le_bytes()),
        &long_end,
    ]);
    let mut optional = Frame::of_kind(200, 9);
    optional.body = vec![0x19; 500];
    peer.send(&optional);
    peer.send(&Frame::of_kind(kind::PONG, 9));
    // The next answer is that of the next request.
    assert_eq!(peer.ask(&Frame::call(1_000, "Inline.Double", 4)).number(), 8);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn the_bytes_of_dropped_messages_return_to_the_connections_window() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for _ in 0..100 {
        peer.send(&data(9, 30_000));
    }
    peer.send(&Frame::call(1_000, "Inline.Double", 4));
    let mut granted = 0;
    loop {
        let answer = peer.answer();
        if answer.kind == kind::REPLY {
            assert_eq!(answer.number(), 8);
            break;
        }
        assert_eq!((answer.kind, answer.id, answer.body.len()), (kind::WINDOW, 0, 4));
        granted += u32::from_le_bytes(answer.body.try_into().unwrap());
    }
    // At most half of the window of 1 MiB is not returned yet.
    assert!((100 * 30_032 - (1 << 19)..=100 * 30_032).contains(&granted), "{granted} bytes were returned");
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_streamed_argument_is_refused_by_a_method_with_one_message() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    let mut open = Frame::call(7, "Inline.Double", 1);
    open.flags = 2;
    peer.ask(&open).is(7, Code::InvalidArgument, "has no body");
    open.body.clear();
    peer.ask(&open).is(7, Code::InvalidArgument, "the argument of Inline.Double is one message");
    // What the caller had sent before it read the answer is late.
    peer.send_all([&data(7, 10), &Frame::of_kind(kind::END, 7)]);
    let mut unknown = open.clone();
    unknown.words[0] = 1;
    peer.ask(&unknown).is(7, Code::Unimplemented, "no method");
    open.kind = kind::ONE_WAY;
    peer.send(&open);
    assert_eq!(peer.ask(&Frame::call(1_000, "Inline.Double", 4)).number(), 8);
    assert_eq!(rig.refused("invalid_argument"), 3);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_window_that_says_nothing_about_the_connection_closes_it() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    peer.ask(&window(0, b"123")).is(0, Code::InvalidArgument, "a body of 4 bytes, not 3");
    peer.ends();
    drop(peer);
    let mut peer = rig.peer();
    peer.ask(&window(0, &u32::MAX.to_le_bytes())).is(0, Code::ResourceExhausted, "over 2147483647 bytes");
    peer.ends();
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_hello_comes_first_and_is_accepted_in_silence() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    let hello = Frame::of_kind(kind::HELLO, 0);
    peer.send_all([&hello, &hello]);
    assert_eq!(peer.ask(&Frame::call(1_000, "Inline.Double", 4)).number(), 8);
    peer.ask(&Frame::call(8, "Inline.Double", 4).time_left(Duration::from_secs(60))).is(8, Code::Ok, "");
    drop(peer);
    witness.assert_all_released();
}
