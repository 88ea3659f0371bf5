//! Frames: round trips, sizes, padding, and every split of a conversation.

use proptest::prelude::*;

use super::super::frame::kind;
use super::*;

fn priority() -> impl Strategy<Value = StreamPriority> {
    (0u32..1 << 31, any::<bool>(), any::<u8>())
        .prop_map(|(depends_on, is_exclusive, weight)| StreamPriority { depends_on, is_exclusive, weight })
}

fn parts(bytes: &[u8]) -> (FrameHead, &[u8]) {
    let (head, payload) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>().unwrap();
    (FrameHead::read(head), payload)
}

proptest! {
    #[test]
    fn printed_frames_are_parsed(
        stream in 1u32..1 << 31, word in 0u32..1 << 31, data in proptest::collection::vec(any::<u8>(), 0..100),
        padding in proptest::option::of(any::<u8>()), priority in proptest::option::of(priority()),
        is_last in any::<bool>(), is_end_of_block in any::<bool>(), payload in any::<[u8; 8]>(),
    ) {
        let (data, code) = (&data[..], Http2Code(word));
        let whole = &data[..data.len() / 6 * 6];
        for frame in [
            Http2Frame::Data { stream, data, padding, is_last },
            Http2Frame::Headers { stream, priority, fragment: data, padding, is_last, is_end_of_block },
            Http2Frame::Reset { stream, code },
            Http2Frame::Settings(SettingEntries::new(whole).unwrap()),
            Http2Frame::SettingsAck,
            Http2Frame::PushPromise { stream, promised: word, fragment: data, padding, is_end_of_block },
            Http2Frame::Ping { is_ack: is_last, payload },
            Http2Frame::GoAway { last_stream: word, code, debug: data },
            Http2Frame::WindowUpdate { stream: word, increment: stream },
            Http2Frame::Continuation { stream, fragment: data, is_end_of_block },
            Http2Frame::Unknown { kind: 10 },
        ] {
            let bytes = print(&[frame]);
            let (head, payload) = parts(&bytes);
            prop_assert_eq!(head.length as usize, payload.len());
            prop_assert_eq!(Http2Frame::parse(head, payload), Ok(frame));
        }
        if let Some(priority) = priority {
            let frame = Http2Frame::Priority { stream, priority };
            let bytes = print(&[frame]);
            let (head, payload) = parts(&bytes);
            prop_assert_eq!(Http2Frame::parse(head, payload), Ok(frame));
        }
    }

    #[test]
    fn any_payload_is_parsed_without_a_panic(
        kind in 0u8..12, flags in any::<u8>(), stream in 0u32..3, payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let head = FrameHead { length: payload.len() as u32, kind, flags, stream };
        let _ = Http2Frame::parse(head, &payload);
    }
}

#[test]
fn sizes_and_streams_are_checked() {
    const SIZE: Http2Code = Http2Code::FRAME_SIZE_ERROR;
    const RULE: Http2Code = Http2Code::PROTOCOL_ERROR;
    for (kind, flags, stream, payload, code) in [
        (kind::DATA, 0, 0, &b"x"[..], RULE),
        (kind::DATA, 8, 1, b"", SIZE),
        (kind::DATA, 8, 1, b"\x02x", RULE),
        (kind::HEADERS, 4, 0, b"", RULE),
        (kind::HEADERS, 0x24, 1, b"1234", SIZE),
        (kind::HEADERS, 0x0c, 1, b"\x01", RULE),
        (kind::PRIORITY, 0, 0, b"12345", RULE),
        (kind::RST_STREAM, 0, 0, b"1234", RULE),
        (kind::RST_STREAM, 0, 1, b"123", SIZE),
        (kind::SETTINGS, 0, 1, b"", RULE),
        (kind::SETTINGS, 1, 0, b"123456", SIZE),
        (kind::SETTINGS, 0, 0, b"12345", SIZE),
        (kind::PUSH_PROMISE, 4, 0, b"1234", RULE),
        (kind::PUSH_PROMISE, 4, 1, b"123", SIZE),
        (kind::PING, 0, 1, b"12345678", RULE),
        (kind::PING, 0, 0, b"1234567", SIZE),
        (kind::GOAWAY, 0, 1, b"12345678", RULE),
        (kind::GOAWAY, 0, 0, b"1234567", SIZE),
        (kind::WINDOW_UPDATE, 0, 0, b"123", SIZE),
        (kind::WINDOW_UPDATE, 0, 0, b"\x80\0\0\0", RULE),
        (kind::CONTINUATION, 4, 0, b"", RULE),
    ] {
        let head = FrameHead { length: payload.len() as u32, kind, flags, stream };
        match Http2Frame::parse(head, payload) {
            Err(Http2Fault::Connection { code: found, .. }) => assert_eq!(found, code, "{head:?}"),
            other => panic!("{head:?}: {other:?}"),
        }
    }
    for (kind, payload, code) in
        [(kind::PRIORITY, &b"1234"[..], SIZE), (kind::WINDOW_UPDATE, b"\0\0\0\0", RULE)]
    {
        let head = FrameHead { length: payload.len() as u32, kind, flags: 0, stream: 3 };
        match Http2Frame::parse(head, payload) {
            Err(Http2Fault::Stream { stream: 3, code: found, .. }) => assert_eq!(found, code, "{head:?}"),
            other => panic!("{head:?}: {other:?}"),
        }
    }
}

/// A conversation with a request, data in two frames, trailers, a split block, and a fault at its end.
fn conversation() -> Vec<u8> {
    let mut peer = Peer::new();
    let first = peer.block(&REQUEST);
    let trailers = peer.block(&[("x-sum", "1")]);
    let second = peer.block(&REQUEST);
    let (begin, end) = second.split_at(10);
    let mut bytes = PREFACE.to_vec();
    bytes.extend(print(&[
        empty_settings(),
        headers(1, &first, false),
        Http2Frame::Data { stream: 1, data: b"hello", padding: Some(3), is_last: false },
        Http2Frame::Ping { is_ack: false, payload: *b"12345678" },
        Http2Frame::Data { stream: 1, data: b" you", padding: None, is_last: false },
        headers(1, &trailers, true),
        Http2Frame::WindowUpdate { stream: 1, increment: 9 },
        Http2Frame::Headers {
            stream: 3,
            priority: Some(StreamPriority { depends_on: 0, is_exclusive: false, weight: 15 }),
            fragment: begin,
            padding: Some(0),
            is_last: true,
            is_end_of_block: false,
        },
        Http2Frame::Continuation { stream: 3, fragment: end, is_end_of_block: true },
        Http2Frame::Reset { stream: 3, code: Http2Code::CANCEL },
        Http2Frame::Data { stream: 4, data: b"", padding: None, is_last: true },
    ]));
    bytes
}

type RunResult = (Vec<(Http2Event, Vec<u8>)>, Vec<Sent>, Option<Http2Fault>);

/// Passes bytes in pieces. Returns the events with the data that they refer to, what was written, and the fault.
fn run(bytes: &[u8], cuts: &[usize]) -> RunResult {
    let mut peer = Peer::fresh(Http2Limits::default());
    let (mut events, mut failed, mut held) = (Vec::new(), None, Vec::new());
    let mut from = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        held.extend_from_slice(&bytes[from..cut]);
        from = cut;
        loop {
            match peer.with_out(|connection, out| connection.receive(&held, out)) {
                Http2Step::Event { event, consumed } => {
                    let mut data = Vec::new();
                    let mut event = event;
                    if let Http2Event::Data { start, bytes, .. } = &mut event {
                        data.extend_from_slice(&held[*start..*start + *bytes]);
                    }
                    events.push((event, data));
                    held.drain(..consumed);
                }
                Http2Step::Skip { consumed } => drop(held.drain(..consumed)),
                Http2Step::NeedMore { bytes_min } => {
                    assert!(bytes_min > held.len());
                    break;
                }
                Http2Step::Failed(fault) => {
                    failed = Some(fault);
                    break;
                }
            }
        }
    }
    (events, peer.sent(), failed)
}

#[test]
fn every_split_gives_the_same_result() {
    let bytes = conversation();
    let whole = run(&bytes, &[]);
    assert_eq!(whole.0.len(), 6, "{:?}", whole.0);
    assert!(whole.2.is_some());
    let every: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(run(&bytes, &every), whole);
    for cut in 0..bytes.len() {
        assert_eq!(run(&bytes, &[cut]), whole, "cut at {cut}");
    }
}
