//! Windows in both directions, held answers, credit.

use std::time::{Duration, Instant};

use coreloop_bufpool::Chunk;

use super::super::settings::{payload_of, setting};
use super::*;

fn settings(peer: &mut Peer, number: u16, value: u32) {
    let entries = payload_of([(number, value)]);
    peer.frames(&[Http2Frame::Settings(SettingEntries::new(&entries).unwrap())]);
}

/// The bytes of DATA among the frames, and whether the last frame ends the stream.
fn data_of(sent: &[Sent], stream: u32) -> (usize, bool) {
    let of_stream = || sent.iter().filter(|sent| sent.head.stream == stream);
    let bytes = of_stream().filter(|sent| sent.head.kind == 0).map(|sent| sent.payload.len()).sum();
    (
        bytes,
        of_stream()
            .next_back()
            .is_some_and(|sent| matches!(sent.head.kind, 0 | 1) && sent.head.flags & 1 != 0),
    )
}

#[test]
fn an_answer_waits_for_credit_and_its_trailers_wait_with_it() {
    let mut peer = Peer::new();
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 10);
    peer.open(1, true);
    peer.open(3, true);
    peer.sent();
    peer.answer(1, &[1; 25]);
    peer.answer(3, &[3; 10]);
    let sent = peer.sent();
    assert_eq!(data_of(&sent, 1), (10, false));
    assert_eq!(data_of(&sent, 3), (10, true));
    assert_eq!(peer.connection.held_bytes(), 15);
    peer.frames(&[Http2Frame::WindowUpdate { stream: 1, increment: 14 }]);
    assert_eq!(data_of(&peer.sent(), 1), (14, false));
    peer.frames(&[Http2Frame::WindowUpdate { stream: 1, increment: 1 }]);
    let sent = peer.sent();
    assert_eq!(data_of(&sent, 1), (1, true));
    assert_eq!(peer.connection.held_bytes(), 0);
    assert_eq!(peer.connection.streams(), 0);
}

#[test]
fn an_answer_that_fills_the_window_is_not_held() {
    let mut peer = Peer::new();
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 10);
    peer.open(1, true);
    peer.answer(1, &[1; 10]);
    assert_eq!(data_of(&peer.sent(), 1), (10, true));
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 0);
    peer.open(3, true);
    peer.answer(3, b"");
    assert_eq!(data_of(&peer.sent(), 3), (0, true));
}

#[test]
fn the_connection_window_is_shared_in_turn() {
    let mut peer = Peer::new();
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 1 << 20);
    for stream in [1, 3, 5] {
        peer.open(stream, true);
        peer.answer(stream, &[7; 100_000]);
    }
    let sent = peer.sent();
    assert_eq!(data_of(&sent, 1), (65_535, false));
    assert_eq!(data_of(&sent, 3), (0, false));
    peer.frames(&[Http2Frame::WindowUpdate { stream: 0, increment: 3 * 16_384 }]);
    let sent = peer.sent();
    for stream in [1, 3, 5] {
        assert_eq!(data_of(&sent, stream), (16_384, false), "{stream}");
    }
    peer.frames(&[Http2Frame::WindowUpdate { stream: 0, increment: 1 << 20 }]);
    let sent = peer.sent();
    let left = [1, 3, 5].map(|stream| data_of(&sent, stream));
    assert_eq!(left, [(100_000 - 65_535 - 16_384, true), (83_616, true), (83_616, true)]);
    assert_eq!((peer.connection.held_bytes(), peer.connection.streams()), (0, 0));
}

#[test]
fn a_large_chunk_is_cut_into_frames_without_a_copy_of_the_rest() {
    let mut peer = Peer::new();
    peer.open(1, true);
    let body: Vec<u8> = (0..40_000u32).map(|i| i as u8).collect();
    let chunk = Chunk::from(body.clone());
    peer.with_out(|connection, out| {
        connection.send_head(1, &[field(":status", "200")], false, out);
        let part = BodyPart { prefix: b"12345", body: SendBody::Chunk(chunk) };
        connection.send_data(1, part, true, out);
    });
    let sent = peer.sent();
    let data: Vec<u8> = sent[1..].iter().flat_map(|sent| sent.payload.clone()).collect();
    assert_eq!(data, [&b"12345"[..], &body].concat());
    assert_eq!(sent[1..].iter().map(|sent| sent.head.length).collect::<Vec<_>>(), [16_384, 16_384, 7_237]);
    assert_eq!(data_of(&sent, 1), (40_005, true));
}

#[test]
fn lowered_initial_windows_are_negative_until_repaid() {
    let mut peer = Peer::new();
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 100);
    peer.open(1, true);
    peer.answer(1, &[1; 200]);
    assert_eq!(data_of(&peer.sent(), 1), (100, false));
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 40);
    peer.frames(&[Http2Frame::WindowUpdate { stream: 1, increment: 60 }]);
    assert_eq!(data_of(&peer.sent(), 1), (0, false));
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 90);
    assert_eq!(data_of(&peer.sent(), 1), (50, false));
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 1000);
    assert_eq!(data_of(&peer.sent(), 1), (50, true));
}

#[test]
fn windows_do_not_overflow() {
    let most = (1 << 31) - 1;
    let mut peer = Peer::new();
    peer.frames(&[Http2Frame::WindowUpdate { stream: 0, increment: most }]);
    peer.assert_failed(Http2Code::FLOW_CONTROL_ERROR);
    let mut peer = Peer::new();
    peer.open(1, true);
    let events = peer.frames(&[Http2Frame::WindowUpdate { stream: 1, increment: most }]);
    assert!(matches!(events[..], [Http2Event::Reset { stream: 1, is_by_peer: false, .. }]));
    peer.assert_reset(1, Http2Code::FLOW_CONTROL_ERROR);
    let mut peer = Peer::new();
    peer.open(1, true);
    peer.frames(&[Http2Frame::WindowUpdate { stream: 1, increment: most - 65_535 }]);
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 65_536);
    peer.assert_failed(Http2Code::FLOW_CONTROL_ERROR);
}

#[test]
fn zero_increments_are_faults() {
    let mut peer = Peer::new();
    peer.open(1, true);
    let zero = |stream| {
        let mut bytes = FrameHead { length: 4, kind: 8, flags: 0, stream }.to_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes
    };
    peer.feed(&zero(1));
    peer.assert_reset(1, Http2Code::PROTOCOL_ERROR);
    peer.feed(&zero(0));
    peer.assert_failed(Http2Code::PROTOCOL_ERROR);
}

#[test]
fn data_beyond_a_window_is_a_fault() {
    let limits = Http2Limits { stream_window_bytes: 100, ..Http2Limits::default() };
    let mut peer = Peer::with(limits);
    peer.open(1, false);
    assert_eq!(peer.data(1, &[0; 100], false).len(), 1);
    peer.data(1, &[0; 1], false);
    peer.assert_reset(1, Http2Code::FLOW_CONTROL_ERROR);
    // The connection's window: nothing is consumed on five streams whose windows are large.
    let limits = Http2Limits { connection_window_bytes: 0, ..Http2Limits::default() };
    let mut peer = Peer::fresh(limits);
    peer.feed(PREFACE);
    peer.frames(&[empty_settings()]);
    for stream in [1, 3, 5, 7, 9] {
        peer.open(stream, false);
        peer.data(stream, &[0; 16_000], false);
    }
    peer.assert_failed(Http2Code::FLOW_CONTROL_ERROR);
}

#[test]
fn consumed_bytes_are_granted_again_in_large_steps() {
    let mut peer = Peer::new();
    peer.open(1, false);
    let mut granted = [0u64; 2];
    for _ in 0..2000 {
        assert_eq!(peer.data(1, &[0; 16_384], false).len(), 1);
        peer.with_out(|connection, out| connection.consume(1, 16_384, out));
        for sent in peer.sent() {
            let Http2Frame::WindowUpdate { stream, increment } = sent.frame() else { panic!("{sent:?}") };
            assert!(increment >= 128 << 10);
            granted[stream as usize] += u64::from(increment);
        }
    }
    assert!(granted.iter().all(|&bytes| bytes > 1 << 24), "{granted:?}");
}

#[test]
fn padding_and_data_on_closed_streams_are_granted_again_at_once() {
    let limits = Http2Limits { connection_window_bytes: 65_535, ..Http2Limits::default() };
    let mut peer = Peer::fresh(limits);
    peer.feed(PREFACE);
    peer.frames(&[empty_settings(), Http2Frame::SettingsAck]);
    peer.encoder.set_peer_max(1024, 1024);
    peer.open(1, false);
    for _ in 0..500 {
        peer.frames(&[Http2Frame::Data { stream: 1, data: b"", padding: Some(255), is_last: false }]);
    }
    assert_eq!(peer.failed, None);
    peer.with_out(|connection, out| connection.send_head(1, &[field(":status", "200")], true, out));
    for _ in 0..20 {
        assert_eq!(peer.data(1, &[0; 16_384], false), []);
    }
    assert_eq!(peer.failed, None);
}

#[test]
fn a_stream_without_credit_is_reset_after_the_stall() {
    let (mut peer, now, stall) = (Peer::new(), Instant::now(), Duration::from_secs(30));
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 0);
    peer.open(1, true);
    peer.answer(1, &[1; 50]);
    peer.sent();
    let at = |peer: &mut Peer, seconds| {
        peer.with_out(|connection, out| connection.on_time(now + Duration::from_secs(seconds), stall, out));
    };
    at(&mut peer, 0);
    at(&mut peer, 20);
    peer.frames(&[Http2Frame::WindowUpdate { stream: 1, increment: 1 }]);
    at(&mut peer, 40);
    at(&mut peer, 69);
    assert_eq!(data_of(&peer.sent(), 1), (1, false));
    at(&mut peer, 70);
    peer.assert_reset(1, Http2Code::CANCEL);
    assert_eq!((peer.connection.held_bytes(), peer.connection.streams()), (0, 0));
}

#[test]
fn held_answers_are_bounded() {
    let limits = Http2Limits { held_bytes_max: 1000, ..Http2Limits::default() };
    let mut peer = Peer::with(limits);
    settings(&mut peer, setting::INITIAL_WINDOW_SIZE, 0);
    for stream in [1, 3, 5] {
        peer.open(stream, true);
    }
    peer.answer(1, &[0; 600]);
    peer.answer(3, &[0; 600]);
    peer.sent();
    peer.answer(5, &[0; 600]);
    peer.assert_reset(5, Http2Code::ENHANCE_YOUR_CALM);
    assert_eq!(peer.connection.held_bytes(), 1200);
    assert_eq!(peer.headers(7, &REQUEST, true), []);
    peer.assert_reset(7, Http2Code::REFUSED_STREAM);
    // A reset frees what was held.
    peer.frames(&[Http2Frame::Reset { stream: 1, code: Http2Code::CANCEL }]);
    assert_eq!(peer.connection.held_bytes(), 600);
    peer.open(9, true);
}
