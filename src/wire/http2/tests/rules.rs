//! The states of streams and of the connection: each rule broken once.

use super::super::frame::kind;
use super::*;

const RULE: Http2Code = Http2Code::PROTOCOL_ERROR;

#[test]
fn settings_are_the_first_frame_and_are_acknowledged() {
    let mut peer = Peer::fresh(Http2Limits::default());
    peer.feed(PREFACE);
    let sent = peer.sent();
    let Http2Frame::Settings(entries) = sent[0].frame() else { panic!("{sent:?}") };
    assert_eq!(entries.iter().collect::<Vec<_>>(), [(1, 1024), (3, 128), (4, 262_144), (6, 16_384)]);
    peer.frames(&[Http2Frame::Ping { is_ack: false, payload: [0; 8] }]);
    peer.assert_failed(RULE);
    let mut peer = Peer::fresh(Http2Limits::default());
    peer.feed(PREFACE);
    peer.frames(&[Http2Frame::SettingsAck]);
    peer.assert_failed(RULE);
}

#[test]
fn another_preface_fails_without_an_answer() {
    let mut peer = Peer::fresh(Http2Limits::default());
    peer.feed(b"PRI * HTTP/2.0\r\n\r\nXX");
    assert!(peer.failed.is_some());
    assert!(peer.sent().is_empty());
}

#[test]
fn a_request_is_answered() {
    let mut peer = Peer::new();
    peer.open(1, false);
    let events = peer.data(1, b"hello", true);
    assert_eq!(events, [Http2Event::Data { stream: 1, start: 9, bytes: 5, is_last: true }]);
    peer.answer(1, b"bye");
    let sent = peer.sent();
    let [Http2Frame::Headers { fragment: head, is_last: false, .. }, data, trailers] =
        [sent[0].frame(), sent[1].frame(), sent[2].frame()]
    else {
        panic!("{sent:?}")
    };
    assert_eq!(peer.fields(head), [(":status".to_owned(), "200".to_owned())]);
    assert_eq!(data, Http2Frame::Data { stream: 1, data: b"bye", padding: None, is_last: false });
    let Http2Frame::Headers { fragment, is_last: true, .. } = trailers else { panic!("{trailers:?}") };
    assert_eq!(peer.fields(fragment), [("grpc-status".to_owned(), "0".to_owned())]);
    assert_eq!(peer.connection.streams(), 0);
    assert_eq!(sent.len(), 3);
}

#[test]
fn an_answer_before_the_end_of_the_request_stops_the_rest() {
    let mut peer = Peer::new();
    peer.open(1, false);
    peer.with_out(|connection, out| connection.send_head(1, &[field(":status", "415")], true, out));
    let sent = peer.sent();
    assert_eq!(sent[1].frame(), Http2Frame::Reset { stream: 1, code: Http2Code::NO_ERROR });
    // What was on its way is no fault, and no event.
    assert_eq!(peer.data(1, &[0; 100], true), []);
    peer.assert_continues();
    assert_eq!(peer.connection.streams(), 0);
}

#[test]
fn frames_on_idle_streams_end_the_connection() {
    for frame in [
        Http2Frame::Data { stream: 1, data: b"x", padding: None, is_last: true },
        Http2Frame::Reset { stream: 1, code: Http2Code::CANCEL },
        Http2Frame::WindowUpdate { stream: 1, increment: 1 },
        Http2Frame::Data { stream: 2, data: b"x", padding: None, is_last: true },
    ] {
        let mut peer = Peer::new();
        peer.frames(&[frame]);
        peer.assert_failed(RULE);
    }
}

#[test]
fn stream_ids_are_odd_and_ascend() {
    let mut peer = Peer::new();
    assert_eq!(peer.headers(2, &REQUEST, true), []);
    peer.assert_failed(RULE);
    let mut peer = Peer::new();
    peer.open(5, true);
    assert_eq!(peer.headers(3, &REQUEST, true), []);
    peer.assert_failed(Http2Code::STREAM_CLOSED);
}

#[test]
fn nothing_follows_the_end_of_a_stream() {
    let mut peer = Peer::new();
    peer.open(1, true);
    let events = peer.data(1, b"x", false);
    let reset = Http2Event::Reset { stream: 1, code: Http2Code::STREAM_CLOSED, is_by_peer: false };
    assert_eq!(events, [reset]);
    peer.assert_reset(1, Http2Code::STREAM_CLOSED);
    let mut peer = Peer::new();
    peer.open(1, true);
    peer.headers(1, &[("a", "b")], true);
    peer.assert_reset(1, Http2Code::STREAM_CLOSED);
}

#[test]
fn frames_on_answered_streams() {
    let mut peer = Peer::new();
    peer.open(1, true);
    peer.answer(1, b"");
    // These may have been on their way.
    peer.frames(&[
        Http2Frame::WindowUpdate { stream: 1, increment: 1 },
        Http2Frame::Reset { stream: 1, code: Http2Code::CANCEL },
    ]);
    peer.sent();
    peer.assert_continues();
    peer.data(1, b"x", true);
    peer.assert_reset(1, Http2Code::STREAM_CLOSED);
    let mut peer = Peer::new();
    peer.open(1, true);
    peer.answer(1, b"");
    peer.headers(1, &REQUEST, true);
    peer.assert_failed(Http2Code::STREAM_CLOSED);
}

#[test]
fn a_block_is_not_interrupted() {
    let continuation = Http2Frame::Continuation { stream: 1, fragment: b"", is_end_of_block: true };
    let mut peer = Peer::new();
    peer.frames(&[continuation]);
    peer.assert_failed(RULE);
    for frame in [
        Http2Frame::Ping { is_ack: false, payload: [0; 8] },
        Http2Frame::Continuation { stream: 3, fragment: b"", is_end_of_block: true },
        Http2Frame::Data { stream: 1, data: b"", padding: None, is_last: true },
    ] {
        let mut peer = Peer::new();
        let block = peer.block(&REQUEST);
        peer.frames(&[
            Http2Frame::Headers {
                stream: 1,
                priority: None,
                fragment: &block,
                padding: None,
                is_last: true,
                is_end_of_block: false,
            },
            frame,
        ]);
        peer.assert_failed(RULE);
    }
}

#[test]
fn a_second_head_without_an_end_is_malformed() {
    let mut peer = Peer::new();
    peer.open(1, false);
    peer.headers(1, &[("a", "b")], false);
    peer.assert_reset(1, RULE);
}

#[test]
fn streams_that_depend_on_themselves_are_reset() {
    let priority = StreamPriority { depends_on: 1, is_exclusive: true, weight: 0 };
    let mut peer = Peer::new();
    let block = peer.block(&REQUEST);
    peer.frames(&[Http2Frame::Headers {
        stream: 1,
        priority: Some(priority),
        fragment: &block,
        padding: None,
        is_last: true,
        is_end_of_block: true,
    }]);
    peer.assert_reset(1, RULE);
    let mut peer = Peer::new();
    peer.open(1, true);
    peer.frames(&[Http2Frame::Priority { stream: 1, priority }]);
    peer.assert_reset(1, RULE);
}

#[test]
fn frames_over_the_limit_and_pushes_end_the_connection() {
    let mut peer = Peer::new();
    peer.feed(&FrameHead { length: 16_385, kind: kind::DATA, flags: 0, stream: 1 }.to_bytes());
    peer.assert_failed(Http2Code::FRAME_SIZE_ERROR);
    let mut peer = Peer::new();
    peer.frames(&[Http2Frame::PushPromise {
        stream: 1,
        promised: 2,
        fragment: b"",
        padding: None,
        is_end_of_block: true,
    }]);
    peer.assert_failed(RULE);
}

#[test]
fn unknown_frames_and_settings_are_ignored() {
    let mut peer = Peer::new();
    let mut unknown = FrameHead { length: 3, kind: 0xbe, flags: 0xff, stream: 77 }.to_bytes().to_vec();
    unknown.extend(b"abc");
    peer.feed(&unknown);
    let entries = super::super::settings::payload_of([(0x99, 7), (8, u32::MAX)]);
    peer.frames(&[Http2Frame::Settings(SettingEntries::new(&entries).unwrap())]);
    assert_eq!(peer.sent()[0].frame(), Http2Frame::SettingsAck);
    peer.assert_continues();
}

#[test]
fn invalid_settings_end_the_connection() {
    for (number, value, code) in
        [(2, 2, RULE), (4, 1 << 31, Http2Code::FLOW_CONTROL_ERROR), (5, 16_383, RULE), (5, 1 << 24, RULE)]
    {
        let mut peer = Peer::new();
        let entries = super::super::settings::payload_of([(number, value)]);
        peer.frames(&[Http2Frame::Settings(SettingEntries::new(&entries).unwrap())]);
        peer.assert_failed(code);
    }
}

#[test]
fn a_drain_names_the_last_stream_once_the_peer_has_read_the_notice() {
    let mut peer = Peer::new();
    peer.open(1, true);
    peer.with_out(|connection, out| {
        connection.drain(out);
        connection.drain(out);
    });
    let sent = peer.sent();
    let no_error = Http2Code::NO_ERROR;
    assert_eq!(
        sent[0].frame(),
        Http2Frame::GoAway { last_stream: (1 << 31) - 1, code: no_error, debug: b"" }
    );
    let Http2Frame::Ping { is_ack: false, payload } = sent[1].frame() else { panic!("{sent:?}") };
    // A stream that crosses the notice is served.
    peer.open(3, true);
    peer.frames(&[Http2Frame::Ping { is_ack: true, payload }]);
    let sent = peer.sent();
    assert_eq!(sent[0].frame(), Http2Frame::GoAway { last_stream: 3, code: no_error, debug: b"" });
    assert_eq!(peer.headers(5, &REQUEST, true), []);
    peer.assert_reset(5, Http2Code::REFUSED_STREAM);
    peer.answer(1, b"one");
    assert!(!peer.connection.is_drained());
    peer.answer(3, b"three");
    assert!(peer.connection.is_drained());
}

#[test]
fn the_goaway_of_a_client_changes_nothing_for_its_streams() {
    let mut peer = Peer::new();
    peer.open(1, true);
    peer.frames(&[Http2Frame::GoAway { last_stream: 0, code: Http2Code::NO_ERROR, debug: b"bye" }]);
    peer.answer(1, b"one");
    assert_eq!(peer.sent().len(), 3);
}
