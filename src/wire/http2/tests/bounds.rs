//! Floods, resets and memory.

use std::time::{Duration, Instant};

use super::*;

/// Sends a frame until the connection fails, and returns how many were accepted.
fn flood(peer: &mut Peer, mut next: impl FnMut(&mut Peer, u32)) -> u32 {
    for i in 0..100_000 {
        next(peer, i);
        peer.sent();
        if let Some(fault) = peer.failed {
            assert!(
                matches!(fault, Http2Fault::Connection { code: Http2Code::ENHANCE_YOUR_CALM, .. }),
                "{fault}"
            );
            return i;
        }
    }
    panic!("100000 frames were accepted")
}

#[test]
fn floods_end_the_connection_within_the_budget() {
    let priority = StreamPriority { depends_on: 0, is_exclusive: false, weight: 1 };
    for frame in [
        Http2Frame::Ping { is_ack: false, payload: [0; 8] },
        Http2Frame::Ping { is_ack: true, payload: [0; 8] },
        empty_settings(),
        Http2Frame::SettingsAck,
        Http2Frame::Priority { stream: 7, priority },
        Http2Frame::Data { stream: 1, data: b"", padding: None, is_last: false },
        Http2Frame::Data { stream: 1, data: b"", padding: Some(9), is_last: false },
        Http2Frame::WindowUpdate { stream: 0, increment: 1 },
        Http2Frame::WindowUpdate { stream: 1, increment: 1 },
        Http2Frame::GoAway { last_stream: 0, code: Http2Code::NO_ERROR, debug: b"" },
        Http2Frame::Unknown { kind: 99 },
    ] {
        let mut peer = Peer::new();
        peer.open(1, false);
        let bytes = print(&[frame]);
        let accepted = flood(&mut peer, |peer, _| drop(peer.feed(&bytes)));
        assert!((990..=1000).contains(&accepted), "{frame:?}: {accepted}");
    }
}

#[test]
fn resets_received_and_provoked_are_counted() {
    let received = flood(&mut Peer::new(), |peer, i| {
        let stream = 2 * i + 1;
        peer.headers(stream, &REQUEST, true);
        peer.frames(&[Http2Frame::Reset { stream, code: Http2Code::CANCEL }]);
        peer.connection.close(stream);
    });
    assert!((990..=1000).contains(&received), "{received}");
    let provoked = flood(&mut Peer::new(), |peer, i| {
        let stream = 2 * i + 1;
        peer.headers(stream, &REQUEST, true);
        peer.data(stream, b"x", false);
        peer.connection.close(stream);
    });
    assert!((990..=1000).contains(&provoked), "{provoked}");
    let malformed = flood(&mut Peer::new(), |peer, i| {
        peer.headers(2 * i + 1, &[("a", "b")], true);
    });
    assert!((990..=1000).contains(&malformed), "{malformed}");
}

#[test]
fn a_reset_stream_counts_until_its_call_has_ended() {
    let mut peer = Peer::new();
    for i in 0..128 {
        let stream = 2 * i + 1;
        peer.open(stream, true);
        let events = peer.frames(&[Http2Frame::Reset { stream, code: Http2Code::CANCEL }]);
        assert_eq!(events, [Http2Event::Reset { stream, code: Http2Code::CANCEL, is_by_peer: true }]);
    }
    assert_eq!(peer.connection.streams(), 128);
    assert_eq!(peer.headers(301, &REQUEST, true), []);
    peer.assert_reset(301, Http2Code::REFUSED_STREAM);
    // The answers of reset streams are not written, and end them.
    peer.answer(1, b"late");
    peer.connection.close(3);
    assert!(peer.sent().is_empty());
    assert_eq!(peer.connection.streams(), 126);
    peer.open(303, true);
}

#[test]
fn more_streams_than_announced_are_refused() {
    let mut peer = Peer::with(Http2Limits { streams_max: 2, ..Http2Limits::default() });
    peer.open(1, false);
    peer.open(3, false);
    assert_eq!(peer.headers(5, &REQUEST, false), []);
    peer.assert_reset(5, Http2Code::REFUSED_STREAM);
    // Its data was on its way.
    assert_eq!(peer.data(5, b"x", true), []);
    peer.assert_continues();
    peer.answer(1, b"");
    peer.open(7, true);
}

#[test]
fn pings_and_small_credit_for_answers_are_no_flood() {
    let mut peer = Peer::new();
    for i in 0..20_000 {
        let stream = 2 * i + 1;
        peer.open(stream, true);
        peer.answer(stream, b"bytes");
        peer.frames(&[
            Http2Frame::Ping { is_ack: false, payload: [0; 8] },
            Http2Frame::WindowUpdate { stream: 0, increment: 5 },
            Http2Frame::WindowUpdate { stream, increment: 5 },
        ]);
        peer.sent();
    }
    assert_eq!(peer.failed, None);
}

#[test]
fn time_refills_the_budget() {
    let (mut peer, now) = (Peer::new(), Instant::now());
    for tenths in 0..100 {
        let now = now + Duration::from_millis(100 * tenths);
        peer.with_out(|connection, out| connection.on_time(now, Duration::from_secs(30), out));
        for _ in 0..100 {
            peer.frames(&[empty_settings()]);
            peer.sent();
        }
    }
    assert_eq!(peer.failed, None);
}

fn begin(stream: u32, fragment: &[u8]) -> Http2Frame<'_> {
    Http2Frame::Headers {
        stream,
        priority: None,
        fragment,
        padding: None,
        is_last: true,
        is_end_of_block: false,
    }
}

#[test]
fn continuations_are_bounded_in_number_and_bytes() {
    let empty = Http2Frame::Continuation { stream: 1, fragment: b"", is_end_of_block: false };
    let mut peer = Peer::new();
    peer.frames(&[begin(1, b"")]);
    let accepted = flood(&mut peer, |peer, _| drop(peer.frames(&[empty])));
    assert!(accepted < 40, "{accepted}");
    let large = [0x82; 16_000];
    let mut peer = Peer::new();
    peer.frames(&[begin(1, &large)]);
    let more = Http2Frame::Continuation { stream: 1, fragment: &large, is_end_of_block: false };
    let accepted = flood(&mut peer, |peer, _| drop(peer.frames(&[more])));
    assert!(accepted < 3, "{accepted}");
    // The budget counts them over all blocks.
    let mut peer = Peer::new();
    flood(&mut peer, |peer, i| {
        let stream = 2 * i + 1;
        let block = peer.block(&REQUEST);
        peer.frames(&[
            begin(stream, &block),
            Http2Frame::Continuation { stream, fragment: b"", is_end_of_block: true },
        ]);
        peer.answer(stream, b"");
    });
}

#[test]
fn an_idle_connection_is_small() {
    let mut peer = Peer::new();
    for i in 0..200 {
        let stream = 2 * i + 1;
        let mut fields = REQUEST.to_vec();
        let large = "x".repeat(8000);
        if i % 3 == 0 {
            fields.push(("x-large", &large));
        }
        peer.headers(stream, &fields, true);
        peer.answer(stream, b"");
        peer.sent();
    }
    peer.open(1001, true);
    peer.answer(1001, b"");
    let bytes = peer.connection.allocated_bytes();
    assert!(bytes <= 2500, "{bytes}");
    assert!(size_of::<Http2Connection>() <= 700, "{}", size_of::<Http2Connection>());
}

#[test]
fn reset_streams_with_held_answers_leave_nothing_behind() {
    let mut peer = Peer::with(Http2Limits { nuisances_per_second: 1_000_000, ..Http2Limits::default() });
    for i in 0..2000 {
        let stream = 2 * i + 1;
        peer.open(stream, true);
        peer.answer(stream, &[0; 70_000]);
        peer.frames(&[Http2Frame::Reset { stream, code: Http2Code::CANCEL }]);
        peer.sent();
    }
    assert_eq!((peer.connection.held_bytes(), peer.connection.streams()), (0, 0));
    assert!(peer.connection.allocated_bytes() < 8000, "{}", peer.connection.allocated_bytes());
}
