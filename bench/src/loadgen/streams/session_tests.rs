use std::sync::Arc;

use super::super::{StreamCall, StreamSettings};
use super::*;
use crate::loadgen::mix::{self, Body};
use crate::loadgen::speech::AddressProtocol;

const NOW: Now = Now { ns: 5_000, is_measured: true };

fn session_of(shape: Shape, depth: u32, messages: u64, read_after_send: bool) -> Session {
    let method = match shape {
        Shape::ServerStreaming => "Users.Watch",
        Shape::ClientStreaming => "Users.Import",
        Shape::Bidirectional => "Echo.Chat",
    };
    let body = if shape == Shape::Bidirectional { Body::Size(1000) } else { Body::Usual };
    let call = mix::Call::new(AddressProtocol::Native, method, 1, None, &body, 0).expect("known");
    let settings = StreamSettings { shape, streams_each: 2, messages, depth, read_after_send };
    let call = StreamCall::new(&call, &[], settings).expect("native");
    Session::new(Arc::new(call), 2)
}

fn tally() -> Tally {
    Tally::new(1, false, Arc::from([]))
}

fn frame_of(kind: u8, id: u64, word: u32, body: &[u8]) -> Vec<u8> {
    let header = Header { kind, codec: 2, metadata_bytes: 0, call: id, word, body_bytes: body.len() as u32 };
    [&header.to_bytes(), body].concat()
}

/// Returns the frames in a buffer as `kind:id:body bytes`, windows as `window:id:bytes granted`.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut seen = Vec::new();
    while let Next::Frame { header, body, len } = frame::next(bytes) {
        let (place, uses) = (header.call & 0xf_ffff, header.call >> 20);
        seen.push(match header.kind {
            frame::WINDOW => {
                format!("window:{place}:{}", u32::from_le_bytes(body.try_into().expect("4 bytes")))
            }
            kind => format!("{kind}:{place}.{uses}:{}", body.len()),
        });
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty());
    seen
}

/// Sends as much as a stream has room for.
fn fill(session: &mut Session, place: u32, tally: &mut Tally) -> u32 {
    let mut sent = 0;
    while session.room(place) == Room::Yes {
        session.send(place, Call { counts: true, ..Call::default() }, &mut tally.streams);
        sent += 1;
    }
    sent
}

#[test]
fn a_stream_opens_sends_ends_and_opens_again_with_another_id() {
    let (mut session, mut tally) = (session_of(Shape::Bidirectional, 4, 2, false), tally());
    session.open_stream(1, 0, &mut tally.streams);
    assert_eq!(fill(&mut session, 1, &mut tally), 2);
    let sent = frames(&session.out);
    let granted = format!("window:0:{}", (16 << 20) - (1 << 20));
    let stream = format!("window:2:{}", (256 << 10) - 65_536);
    assert_eq!(
        sent,
        [granted, "0:2.1:0".into(), stream, "8:2.1:1002".into(), "8:2.1:1002".into(), "11:2.1:0".into()]
    );
    let request = &session.out[36..68];
    assert_eq!((request[5], &request[16..20]), (2, &frame::method_hash("Echo.Chat").to_le_bytes()[..]));
    let id = id_of(1, 1);
    let echoes = [frame_of(frame::DATA, id, 0, b"\"x\""), frame_of(frame::DATA, id, 0, b"\"x\"")].concat();
    let all = [echoes, frame_of(frame::REPLY, id, 0, b"")].concat();
    assert_eq!(session.receive(&all, NOW, &mut tally), Ok(all.len()));
    assert_eq!((tally.methods[0].statuses[0], tally.streams.ended[0], tally.streams.ended_early), (2, 1, 0));
    assert_eq!((session.open(), session.outstanding()), (0, 0));
    assert_eq!(session.take_ended(), Some(EndedStream { place: 1, is_ok: true }));
    session.out.clear();
    session.open_stream(1, 0, &mut tally.streams);
    assert_eq!(frames(&session.out)[0], "0:2.2:0");
    // What crosses the reply is dropped.
    let late = frame_of(frame::DATA, id, 0, b"\"x\"");
    assert_eq!(session.receive(&late, NOW, &mut tally), Ok(late.len()));
    assert_eq!(tally.streams.unasked + tally.streams.rules_broken, 0);
}

#[test]
fn frames_split_at_every_byte_are_the_same() {
    let id = id_of(0, 1);
    let bytes = [
        frame_of(frame::PING, 77, 0, b""),
        frame_of(frame::HEADERS, id, 0, b""),
        frame_of(frame::DATA, id, 0, b"\"x\""),
        frame_of(200, id, 0, b"unknown"),
        frame_of(frame::WINDOW, id, 0, &9_u32.to_le_bytes()),
        frame_of(frame::WINDOW, 0, 0, &9_u32.to_le_bytes()),
        frame_of(frame::DATA, id, 0, b"\"y\""),
        frame_of(frame::REPLY, id, 5, b"gone"),
    ]
    .concat();
    for cut in 0..=bytes.len() {
        let (mut session, mut tally) = (session_of(Shape::Bidirectional, 3, 0, false), tally());
        session.open_stream(0, 0, &mut tally.streams);
        assert_eq!(fill(&mut session, 0, &mut tally), 3);
        session.out.clear();
        let used = session.receive(&bytes[..cut], NOW, &mut tally).expect("valid");
        let rest = session.receive(&bytes[used..], NOW, &mut tally).expect("valid");
        assert_eq!(used + rest, bytes.len(), "cut at {cut}");
        let statuses = &tally.methods[0].statuses;
        assert_eq!(
            (statuses[0], statuses[5], tally.streams.ended[5], tally.streams.ended_early),
            (2, 1, 1, 1)
        );
        assert_eq!(tally.messages[5].as_deref(), Some("gone"));
        assert_eq!(frames(&session.out), ["5:77.0:0"]);
    }
}

#[test]
fn a_message_is_sent_while_both_windows_are_positive() {
    let (mut session, mut tally) = (session_of(Shape::Bidirectional, 10_000, 0, false), tally());
    session.open_stream(0, 0, &mut tally.streams);
    // 65 536 bytes are 63 messages of 1034 and a part: the last one makes the window negative.
    assert_eq!(fill(&mut session, 0, &mut tally), 64);
    let id = id_of(0, 1);
    let credit = |session: &mut Session, tally: &mut Tally, id, bytes: u32| {
        session.receive(&frame_of(frame::WINDOW, id, 0, &bytes.to_le_bytes()), NOW, tally)
    };
    let owed = 64 * 1034 - 65_536;
    credit(&mut session, &mut tally, id, owed).expect("valid");
    assert_eq!(session.room(0), Room::Stream, "a window of 0 is not positive");
    credit(&mut session, &mut tally, id, 1).expect("valid");
    assert_eq!(fill(&mut session, 0, &mut tally), 1);
    // The connection's window holds for all streams together.
    credit(&mut session, &mut tally, id, 1 << 30).expect("valid");
    let mut all = 65;
    loop {
        let sent = fill(&mut session, 0, &mut tally);
        session.out.clear();
        session.unblock();
        if sent == 0 {
            break;
        }
        all += sent;
    }
    assert_eq!(u64::from(all), (1_u64 << 20).div_ceil(1034));
    assert_eq!(session.room(0), Room::Connection);
    while session.take_changed().is_some() {}
    credit(&mut session, &mut tally, 0, 5_000).expect("valid");
    assert_eq!(session.take_changed(), Some(0), "the streams that waited for the connection try again");
    assert_eq!(session.room(0), Room::Yes);
    assert!(credit(&mut session, &mut tally, 0, u32::MAX).is_err());
}

#[test]
fn what_is_taken_is_returned_to_both_windows() {
    let (mut session, mut tally) = (session_of(Shape::ServerStreaming, 1, 0, false), tally());
    session.open_stream(0, 1_000, &mut tally.streams);
    session.out.clear();
    let id = id_of(0, 1);
    let message = frame_of(frame::DATA, id, 0, &[b'1'; 992]);
    let mut granted = [0_u64; 2];
    for _ in 0..20_000 {
        session.receive(&message, NOW, &mut tally).expect("valid");
        for frame in frames(&session.out) {
            let (place, bytes) =
                frame.strip_prefix("window:").and_then(|rest| rest.split_once(':')).expect("a window");
            granted[usize::from(place == "0")] += bytes.parse::<u64>().expect("a number");
        }
        session.out.clear();
    }
    assert_eq!((tally.streams.rules_broken, tally.methods[0].statuses[0]), (0, 20_000));
    let all = 20_000 * 1024;
    assert!(all - granted[0] < 128 << 10 && all - granted[1] < 8 << 20, "{granted:?}");
    assert_eq!(tally.methods[0].latency.max(), 4_000, "the first message counts from the opening");
}

#[test]
fn a_server_that_breaks_a_rule_fails_its_call() {
    let id = id_of(0, 1);
    let broken: [(&str, Shape, Vec<u8>); 6] = [
        (
            "headers twice",
            Shape::ServerStreaming,
            [frame_of(frame::HEADERS, id, 0, b""), frame_of(frame::HEADERS, id, 0, b"")].concat(),
        ),
        ("no stream", Shape::ClientStreaming, frame_of(frame::DATA, id, 0, b"1")),
        ("beyond a window", Shape::Bidirectional, frame_of(frame::DATA, id, 0, &[0; 262_144]).repeat(2)),
        ("another codec", Shape::ServerStreaming, {
            let mut bytes = frame_of(frame::DATA, id, 0, b"1");
            bytes[4] = 4;
            bytes
        }),
        ("not 4 bytes", Shape::Bidirectional, frame_of(frame::WINDOW, id, 0, b"123")),
        ("over 2^31 - 1", Shape::Bidirectional, frame_of(frame::WINDOW, id, 0, &u32::MAX.to_le_bytes())),
    ];
    for (words, shape, bytes) in broken {
        // Where the round is not sent, nothing is taken, and so nothing is granted.
        let (mut session, mut tally) = (session_of(shape, 1, 0, shape == Shape::Bidirectional), tally());
        session.open_stream(0, 0, &mut tally.streams);
        session.out.clear();
        session.receive(&bytes, NOW, &mut tally).expect("the connection lives");
        let rule = tally.streams.first_broken_rule.unwrap_or_else(|| panic!("{words}"));
        assert!(rule.contains(words), "{words}: {rule}");
        assert!(frames(&session.out).contains(&"3:1.1:0".into()), "{words}: cancelled");
        session.receive(&frame_of(frame::REPLY, id, 1, b"cancelled"), NOW, &mut tally).expect("valid");
        assert_eq!(
            (tally.streams.ended[13], tally.methods[0].errors()),
            (1, 1),
            "{words}: failed as internal"
        );
        assert_eq!(session.take_ended(), Some(EndedStream { place: 0, is_ok: false }));
    }
    for bytes in [
        frame_of(frame::REPLY, id_of(1, 1), 0, b""),
        frame_of(frame::REQUEST, id, 0, b""),
        b"HTTP/1.1 400".to_vec(),
    ] {
        let (mut session, mut tally) = (session_of(Shape::Bidirectional, 1, 0, false), tally());
        session.open_stream(0, 0, &mut tally.streams);
        assert!(session.receive(&bytes, NOW, &mut tally).is_err());
    }
}

#[test]
fn an_ok_reply_confirms_the_messages_of_a_client_stream() {
    for (messages, status, counted) in [(3, 0, [3, 0]), (3, 8, [0, 3]), (4, 0, [0, 3])] {
        let (mut session, mut tally) = (session_of(Shape::ClientStreaming, 1, messages, false), tally());
        session.open_stream(0, 0, &mut tally.streams);
        for _ in 0..3 {
            assert_eq!(session.room(0), Room::Yes);
            session.send(0, Call { counts: true, ..Call::default() }, &mut tally.streams);
        }
        session.receive(&frame_of(frame::REPLY, id_of(0, 1), status, b"3"), NOW, &mut tally).expect("valid");
        assert_eq!([tally.methods[0].statuses[0], tally.methods[0].errors()], counted, "{messages} {status}");
        assert_eq!(tally.streams.ended_early, u64::from(messages == 4));
    }
}

#[test]
fn nothing_is_taken_before_a_round_is_sent() {
    let (mut session, mut tally) = (session_of(Shape::Bidirectional, 100, 0, true), tally());
    session.open_stream(0, 0, &mut tally.streams);
    assert_eq!(fill(&mut session, 0, &mut tally), 64);
    session.out.clear();
    let id = id_of(0, 1);
    let echo = frame_of(frame::DATA, id, 0, &[b'1'; 1002]);
    session.receive(&echo.repeat(64), NOW, &mut tally).expect("valid");
    session.take_held(0, NOW, &mut tally);
    assert_eq!((tally.methods[0].statuses[0], session.outstanding(), session.is_mid_round(0)), (0, 64, true));
    session.finish();
    assert_eq!(frames(&session.out), [""; 0], "a round is sent to its end");
    session
        .receive(&frame_of(frame::WINDOW, id, 0, &100_000_u32.to_le_bytes()), NOW, &mut tally)
        .expect("valid");
    assert_eq!(fill(&mut session, 0, &mut tally), 36);
    session.take_held(0, NOW, &mut tally);
    assert_eq!((tally.methods[0].statuses[0], session.outstanding()), (64, 36));
    session.receive(&echo.repeat(36), NOW, &mut tally).expect("valid");
    assert_eq!((tally.methods[0].statuses[0], session.outstanding()), (100, 0));
    assert_eq!(fill(&mut session, 0, &mut tally), 61, "the next round, as far as the window reaches");
    let (open, mid_round) = session.close(|call| tally.on_unanswered(call, 9_000));
    assert_eq!((open, mid_round, tally.methods[0].unanswered), (1, 1, 61));
}

#[test]
fn the_windows_of_a_hello_hold_for_new_streams() {
    let (mut session, mut tally) = (session_of(Shape::Bidirectional, 10_000, 0, false), tally());
    let mut entries = Vec::new();
    for (key, value) in [("stream-window", "131072"), ("connection-window", "-1"), ("features", "x")] {
        entries.push(key.len() as u8);
        entries.extend_from_slice(key.as_bytes());
        entries.extend_from_slice(&(value.len() as u16).to_le_bytes());
        entries.extend_from_slice(value.as_bytes());
    }
    entries.resize(entries.len().next_multiple_of(8), 0);
    let header = Header {
        kind: frame::HELLO,
        codec: 0,
        metadata_bytes: entries.len() as u16,
        call: 0,
        word: 0,
        body_bytes: 0,
    };
    let hello = [&header.to_bytes(), &entries[..]].concat();
    session.receive(&hello, NOW, &mut tally).expect("valid");
    session.open_stream(0, 0, &mut tally.streams);
    assert_eq!(fill(&mut session, 0, &mut tally), 131_072_u32.div_ceil(1034));
}
