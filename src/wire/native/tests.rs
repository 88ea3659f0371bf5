//! The native frame: every kind in both directions, every split, every false length.

use coreloop_bufpool::{Chunk, Pool, PoolConfig, WriteQueue};
use proptest::prelude::*;

use super::*;
use crate::message::{MetadataBuf, OutgoingCall, OutgoingData, OutgoingReply, ReplyExtras, SendBody};
use crate::wire::testing::Decode;

/// The largest body of these tests.
const BODY_MAX: usize = 100;

/// A message, and the bytes of its spans.
#[derive(Clone, Debug, PartialEq)]
struct NativeMessage {
    message: Message,
    name: Vec<u8>,
    metadata: Vec<u8>,
    body: Vec<u8>,
}

/// The result of decoding a stream, without skipped bytes.
#[derive(Clone, Debug, Default, PartialEq)]
struct NativeTrace {
    received: Vec<NativeMessage>,
    broken: Option<Broken>,
    /// Bytes that were neither consumed nor skipped.
    left: usize,
}

fn received(message: Message, input: &[u8]) -> NativeMessage {
    let of = |span: Span| input[span.range()].to_vec();
    let (name, metadata, body) = match &message {
        Message::Request(request) => {
            (request.name.map(of).unwrap_or_default(), of(request.metadata), of(request.body))
        }
        Message::Reply(reply) => (Vec::new(), of(reply.metadata), of(reply.body)),
        Message::Open(request) => {
            (request.name.map(of).unwrap_or_default(), of(request.metadata), of(request.body))
        }
        Message::Data(data) => (Vec::new(), Vec::new(), of(data.body)),
        Message::Headers { metadata, .. } | Message::Hello { metadata } => {
            (Vec::new(), of(*metadata), Vec::new())
        }
        Message::Refused(_)
        | Message::CallBroken(_)
        | Message::End { .. }
        | Message::Credit { .. }
        | Message::Cancel { .. }
        | Message::Ping { .. }
        | Message::Pong { .. }
        | Message::Drain => Default::default(),
    };
    NativeMessage { message, name, metadata, body }
}

/// Either end.
trait TestEnd {
    fn read(&mut self, input: &[u8]) -> Received<Message>;
}

impl<const S: bool> TestEnd for NativeEnd<S> {
    fn read(&mut self, input: &[u8]) -> Received<Message> {
        self.decode(input)
    }
}

const ENDS: [fn() -> Box<dyn TestEnd>; 2] = [|| Box::new(server()), || Box::new(client())];

/// Decodes a stream in pieces. As in a connection, decoding never sees fewer bytes than it requested.
fn decode_pieces<'a>(native: &mut dyn TestEnd, pieces: impl IntoIterator<Item = &'a [u8]>) -> NativeTrace {
    let (mut trace, mut held, mut bytes_min) = (NativeTrace::default(), Vec::new(), 0);
    for piece in pieces {
        held.extend_from_slice(piece);
        while trace.broken.is_none() && held.len() >= bytes_min {
            match native.read(&held) {
                Received::Message { message, consumed } => {
                    trace.received.push(received(message, &held));
                    held.drain(..consumed);
                    bytes_min = 0;
                }
                Received::Skip { consumed } => {
                    assert!(consumed > 0, "a skip goes on");
                    held.drain(..consumed);
                    bytes_min = 0;
                }
                Received::NeedMore { bytes_min: needed } => {
                    assert!(needed > held.len(), "asked for bytes that were already received");
                    bytes_min = needed;
                }
                Received::Broken(why) => trace.broken = Some(why),
                Received::End => unreachable!("the native protocol has no last word"),
            }
        }
    }
    if trace.broken.is_none() {
        trace.left = held.len();
    }
    trace
}

fn decode_whole(native: &mut dyn TestEnd, stream: &[u8]) -> NativeTrace {
    decode_pieces(native, [stream])
}

/// A header with its fields, which may be false.
#[derive(Clone, Debug)]
struct TestFrame {
    version: u8,
    kind: u8,
    codec: u8,
    flags: u8,
    id: u64,
    words: [u32; 3],
    metadata: Vec<u8>,
    body: Vec<u8>,
    /// Announced body bytes, if not the body's length.
    announced: Option<u32>,
}

impl Default for TestFrame {
    fn default() -> TestFrame {
        TestFrame {
            version: VERSION,
            kind: kind::REQUEST,
            codec: 2,
            flags: 0,
            id: 7,
            words: [0x1234_5678, 0, 0],
            metadata: Vec::new(),
            body: Vec::new(),
            announced: None,
        }
    }
}

impl TestFrame {
    fn of(kind: u8) -> TestFrame {
        TestFrame { kind, ..TestFrame::default() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0x19, 0x96, self.version, self.kind, self.codec, self.flags];
        out.extend_from_slice(&(self.metadata.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        for word in self.words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.announced.unwrap_or(self.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.metadata);
        out.extend_from_slice(&self.body);
        out
    }
}

fn metadata(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut metadata = MetadataBuf::new();
    for (key, value) in entries {
        metadata.push(key, value).unwrap();
    }
    metadata.as_bytes().to_vec()
}

fn server() -> NativeServer {
    NativeServer::new(BODY_MAX)
}

fn client() -> NativeClient {
    NativeClient::new(BODY_MAX)
}

fn request_of(trace: &NativeTrace, at: usize) -> Request {
    match trace.received[at].message {
        Message::Request(request) => request,
        ref other => panic!("a request was expected, not {other:?}"),
    }
}

fn refusal_of(trace: &NativeTrace, at: usize) -> &Refusal {
    match &trace.received[at].message {
        Message::Refused(refusal) => refusal,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

fn encoded(outgoing: Vec<Outgoing<'_>>) -> Vec<u8> {
    let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
    let mut bytes = Vec::new();
    for each in outgoing {
        server().send(each, &mut Out { queue: &mut queue, pool: &mut pool });
    }
    while let Some(first) = queue.first() {
        let len = first.len();
        bytes.extend_from_slice(first);
        queue.written(&mut pool, len);
    }
    assert_eq!(pool.stats().outstanding, 0);
    bytes
}

// Every kind, both directions.

#[test]
fn a_request_has_the_documented_layout() {
    let frame = encoded(vec![Outgoing::Request(OutgoingCall {
        name: "",
        id: 0x0102_0304_0506_0708,
        method: 0xa1a2_a3a4,
        codec: 5,
        compressed: true,
        one_way: true,
        schema: 0xb1b2_b3b4,
        time_left_us: 0xc1c2_c3c4,
        metadata: b"\x01k\x01\0v\0\0\0",
        body: SendBody::Bytes(b"body"),
    })]);
    let expected =
        b"\x19\x96\x01\x02\x05\x01\x08\0\x08\x07\x06\x05\x04\x03\x02\x01\xa4\xa3\xa2\xa1\xb4\xb3\xb2\xb1\
                     \xc4\xc3\xc2\xc1\x04\0\0\0\x01k\x01\0v\0\0\0body";
    assert_eq!(frame, expected);
}

#[test]
fn a_reply_has_the_documented_layout() {
    let frame = encoded(vec![Outgoing::Reply(OutgoingReply {
        id: 9,
        codec: 2,
        compressed: false,
        code: Code::NotFound,
        queue_us: 3,
        handler_us: 0x0405,
        extras: None,
        body: SendBody::Bytes(b"no"),
    })]);
    assert_eq!(
        frame,
        b"\x19\x96\x01\x01\x02\0\0\0\x09\0\0\0\0\0\0\0\x05\0\0\0\x03\0\0\0\x05\x04\0\0\x02\0\0\0no"
    );
}

#[test]
fn trailers_of_a_reply_precede_its_body() {
    let extras = ReplyExtras::retry_after(250);
    let reply = |body| OutgoingReply {
        id: 9,
        codec: 2,
        compressed: false,
        code: Code::ResourceExhausted,
        queue_us: 3,
        handler_us: 4,
        extras: Some(&extras),
        body,
    };
    let chunk = Chunk::from(b"full".to_vec());
    for body in [SendBody::Bytes(b"full"), SendBody::Chunk(chunk)] {
        let frame = encoded(vec![Outgoing::Reply(reply(body)), Outgoing::Pong { id: 1 }]);
        assert_eq!(
            frame[..60],
            b"\x19\x96\x01\x01\x02\0\x18\0\x09\0\0\0\0\0\0\0\x08\0\0\0\x03\0\0\0\x04\0\0\0\x04\0\0\0\
              \x0eretry-after-ms\x03\x00250\0\0\0\0full"[..]
        );
        let trace = decode_whole(&mut client(), &frame);
        assert_eq!(
            (&trace.received[0].metadata[..], &trace.received[0].body[..]),
            (&frame[32..56], &b"full"[..])
        );
        assert_eq!((&trace.received[1].message, trace.left), (&Message::Pong { id: 1 }, 0));
    }
}

#[test]
fn headers_of_a_reply_are_a_frame_before_it() {
    let mut extras = ReplyExtras::default();
    extras.set_header("h", b"1").unwrap();
    extras.set_trailer("t", b"2").unwrap();
    let reply = |code, body: &'static [u8]| OutgoingReply {
        id: 9,
        codec: 2,
        compressed: false,
        code,
        queue_us: 0,
        handler_us: 0,
        extras: Some(&extras),
        body: SendBody::Bytes(body),
    };
    for (code, body) in [(Code::Ok, &b"[1]"[..]), (Code::NotFound, b"no")] {
        let trace = decode_whole(&mut client(), &encoded(vec![Outgoing::Reply(reply(code, body))]));
        let [headers, answer] = &trace.received[..] else { panic!("{trace:?}") };
        let Message::Headers { id: 9, .. } = headers.message else { panic!("{headers:?}") };
        let Message::Reply(IncomingReply { id: 9, status, .. }) = answer.message else {
            panic!("{answer:?}")
        };
        assert_eq!((status, &answer.body[..]), (code.number(), body));
        assert_eq!(headers.metadata, extras.headers.as_bytes());
        assert_eq!(answer.metadata, extras.trailers.as_bytes());
    }
}

#[test]
fn a_server_decodes_a_clients_frames() {
    let chunk = Chunk::from(vec![5; 60]);
    let call = |id, body| OutgoingCall {
        name: "",
        id,
        method: 11,
        codec: 4,
        compressed: id == 2,
        one_way: id == 2,
        schema: 12,
        time_left_us: 13,
        metadata: &[],
        body,
    };
    let stream = encoded(vec![
        Outgoing::Request(call(1, SendBody::Bytes(b"first"))),
        Outgoing::Ping { id: 90 },
        Outgoing::Request(call(2, SendBody::Chunk(chunk))),
        Outgoing::Cancel { id: 1 },
    ]);
    let trace = decode_whole(&mut server(), &stream);
    let request = request_of(&trace, 0);
    assert_eq!((request.id, request.method, request.codec, request.name), (1, 11, 4, None));
    assert_eq!(
        (request.schema, request.time_left_us, request.compressed, request.one_way),
        (12, 13, false, false)
    );
    assert_eq!(trace.received[0].body, b"first");
    assert_eq!(trace.received[1].message, Message::Ping { id: 90 });
    assert!(request_of(&trace, 2).compressed && request_of(&trace, 2).one_way);
    assert_eq!(trace.received[2].body, [5; 60]);
    assert_eq!(trace.received[3].message, Message::Cancel { id: 1 });
    assert_eq!((trace.received.len(), trace.left, trace.broken), (4, 0, None));
}

#[test]
fn a_client_decodes_a_servers_frames() {
    let reply = |id, code, body| OutgoingReply {
        id,
        codec: 3,
        compressed: id == 2,
        code,
        queue_us: 4,
        handler_us: 5,
        extras: None,
        body,
    };
    let stream = encoded(vec![
        Outgoing::Reply(reply(1, Code::Ok, SendBody::Bytes(b"result"))),
        Outgoing::Pong { id: 90 },
        Outgoing::Drain,
        Outgoing::Reply(reply(2, Code::Aborted, SendBody::Bytes(b""))),
        Outgoing::Ping { id: 91 },
    ]);
    let trace = decode_whole(&mut client(), &stream);
    let Message::Reply(first) = trace.received[0].message else { panic!("{trace:?}") };
    assert_eq!((first.id, first.codec, first.compressed, first.status), (1, 3, false, 0));
    assert_eq!((first.queue_us, first.handler_us, &trace.received[0].body[..]), (4, 5, &b"result"[..]));
    assert_eq!(trace.received[1].message, Message::Pong { id: 90 });
    assert_eq!(trace.received[2].message, Message::Drain);
    assert!(matches!(
        trace.received[3].message,
        Message::Reply(IncomingReply { id: 2, compressed: true, status: 10, .. })
    ));
    assert_eq!(trace.received[4].message, Message::Ping { id: 91 });
    assert_eq!((trace.received.len(), trace.left, trace.broken), (5, 0, None));
}

#[test]
fn a_wrong_direction_is_answered_and_ends_a_server() {
    for kind in [kind::REPLY, kind::DRAIN, kind::HEADERS] {
        let stream = [TestFrame::of(kind).bytes(), TestFrame::default().bytes()].concat();
        let trace = decode_whole(&mut server(), &stream);
        assert_eq!((refusal_of(&trace, 0).id, refusal_of(&trace, 0).code), (7, Code::InvalidArgument));
        assert_eq!((trace.received.len(), &trace.broken), (1, &Some(Broken::WrongDirection(kind))));
    }
}

#[test]
fn a_wrong_direction_ends_a_client_without_an_answer() {
    for kind in [kind::REQUEST, kind::ONE_WAY, kind::CANCEL, kind::END] {
        let trace = decode_whole(&mut client(), &TestFrame::of(kind).bytes());
        assert_eq!((trace.received.len(), &trace.broken), (0, &Some(Broken::WrongDirection(kind))));
    }
}

// Lengths.

/// One frame for each possible result in a server, with the least bytes that decide it.
fn frames_of_every_result() -> Vec<(Vec<u8>, usize)> {
    let whole = |frame: TestFrame| {
        let bytes = frame.bytes();
        let len = bytes.len();
        (bytes, len)
    };
    let early = |frame: TestFrame| (frame.bytes(), HEADER_BYTES);
    vec![
        whole(TestFrame::default()),
        whole(TestFrame { body: vec![1; BODY_MAX], ..TestFrame::default() }),
        whole(TestFrame { metadata: metadata(&[("b3", b"1")]), body: vec![2; 3], ..TestFrame::default() }),
        whole(TestFrame { metadata: b"\x09b3\0\0\0\0\0".to_vec(), body: vec![2; 3], ..TestFrame::default() }),
        whole(TestFrame { kind: kind::CANCEL, body: vec![2; 3], ..TestFrame::default() }),
        whole(TestFrame { kind: 13, body: vec![2; 3], ..TestFrame::default() }),
        whole(TestFrame { kind: kind::PONG, body: vec![2; 3], ..TestFrame::default() }),
        early(TestFrame { flags: 4, body: vec![2; 3], ..TestFrame::default() }),
        early(TestFrame { metadata: vec![0; 7], body: vec![2; 3], ..TestFrame::default() }),
        early(TestFrame { body: vec![2; BODY_MAX + 1], ..TestFrame::default() }),
        early(TestFrame { announced: Some(u32::MAX), ..TestFrame::default() }),
        early(TestFrame { version: 2, ..TestFrame::default() }),
        (b"\x19\x97".to_vec(), 2),
        (b"\x18\x96".to_vec(), 2),
    ]
}

#[test]
fn exactly_the_missing_bytes_are_requested() {
    for (frame, enough) in frames_of_every_result() {
        for side in ENDS {
            let mut requested = Vec::new();
            for cut in 0..enough.min(frame.len()) {
                match side().read(&frame[..cut]) {
                    Received::NeedMore { bytes_min } => {
                        assert!(
                            bytes_min > cut && bytes_min <= enough.max(HEADER_BYTES),
                            "{frame:x?} at {cut}"
                        );
                        requested.push(bytes_min);
                    }
                    // A client refuses fewer frames, so it may decide earlier.
                    other => panic!("{frame:x?} at {cut}: {other:?}"),
                }
            }
            // Each requested number changes the result: the request is neither too small nor too large.
            for bytes_min in requested {
                if bytes_min <= enough && bytes_min < frame.len() {
                    let now = side().read(&frame[..bytes_min]);
                    assert!(
                        !matches!(now, Received::NeedMore { bytes_min: again } if again == bytes_min),
                        "{frame:x?}: {bytes_min} bytes were requested and decided nothing"
                    );
                }
            }
            let decoded = side().read(&frame[..enough]);
            assert!(!matches!(decoded, Received::NeedMore { .. }), "{frame:x?}: {decoded:?}");
        }
    }
}

#[test]
fn the_header_is_requested_first() {
    let mut native = server();
    assert_eq!(native.decode(b""), Received::NeedMore { bytes_min: 2 });
    assert_eq!(native.decode(b"\x19\x96"), Received::NeedMore { bytes_min: HEADER_BYTES });
    let frame = TestFrame { announced: Some(BODY_MAX as u32), ..TestFrame::default() }.bytes();
    assert_eq!(native.decode(&frame), Received::NeedMore { bytes_min: HEADER_BYTES + BODY_MAX });
}

#[test]
fn a_body_over_the_limit_is_refused_and_skipped() {
    for body_bytes in [BODY_MAX + 1, 2 * BODY_MAX] {
        let large =
            TestFrame { id: 1, metadata: vec![9; 24], body: vec![0x19; body_bytes], ..TestFrame::default() };
        let stream = [large.bytes(), TestFrame { id: 2, ..TestFrame::default() }.bytes()].concat();
        let trace = decode_whole(&mut server(), &stream);
        assert_eq!((refusal_of(&trace, 0).id, refusal_of(&trace, 0).code), (1, Code::ResourceExhausted));
        assert_eq!((request_of(&trace, 1).id, trace.left, trace.broken), (2, 0, None));
    }
}

#[test]
fn a_body_far_over_the_limit_ends_the_connection() {
    for announced in [2 * BODY_MAX as u32 + 1, u32::MAX] {
        let stream = TestFrame { id: 1, announced: Some(announced), ..TestFrame::default() }.bytes();
        let trace = decode_whole(&mut server(), &stream);
        assert_eq!((refusal_of(&trace, 0).id, refusal_of(&trace, 0).code), (1, Code::ResourceExhausted));
        let why = Broken::TooLarge { bytes: u64::from(announced), bytes_max: BODY_MAX as u64 };
        assert_eq!((trace.received.len(), trace.broken), (1, Some(why)));
    }
}

#[test]
fn the_largest_lengths_do_not_overflow() {
    let mut frame = TestFrame { announced: Some(u32::MAX), ..TestFrame::default() }.bytes();
    frame[6..8].fill(0xff);
    let trace = decode_whole(&mut server(), &frame);
    assert!(matches!(trace.broken, Some(Broken::TooLarge { .. })));
    assert!(matches!(decode_whole(&mut client(), &frame).broken, Some(Broken::TooLarge { .. })));
}

#[test]
fn an_answer_over_the_limit_fails_only_its_call() {
    for bytes in [BODY_MAX + 1, 2 * BODY_MAX + 1, 100 * BODY_MAX] {
        let over = TestFrame { kind: kind::REPLY, body: vec![0; bytes], ..TestFrame::default() };
        let stream =
            [over.bytes(), TestFrame { kind: kind::REPLY, id: 8, ..TestFrame::default() }.bytes()].concat();
        let trace = decode_whole(&mut client(), &stream);
        assert_eq!((refusal_of(&trace, 0).id, refusal_of(&trace, 0).code), (7, Code::ResourceExhausted));
        let is_next = matches!(trace.received[1].message, Message::Reply(IncomingReply { id: 8, .. }));
        assert!(is_next, "the connection lives");
        assert_eq!((trace.left, trace.broken), (0, None));
    }
}

// Refusals.

#[test]
fn a_refused_frame_is_skipped_to_its_last_byte() {
    let refused = [
        (TestFrame { kind: 13, body: vec![0x19; 40], ..TestFrame::default() }, Code::Unimplemented),
        (TestFrame { flags: 0x80, body: vec![0x19; 40], ..TestFrame::default() }, Code::Unimplemented),
        (
            TestFrame { metadata: vec![0x19; 9], body: vec![0x19; 40], ..TestFrame::default() },
            Code::InvalidArgument,
        ),
        (
            TestFrame { metadata: b"\x02b3\xff\xff\0\0\0".to_vec(), ..TestFrame::default() },
            Code::InvalidArgument,
        ),
    ];
    for (frame, code) in refused {
        let stream = [frame.bytes(), TestFrame { id: 8, ..TestFrame::default() }.bytes()].concat();
        let trace = decode_whole(&mut server(), &stream);
        assert_eq!((refusal_of(&trace, 0).id, refusal_of(&trace, 0).codec), (7, 2));
        assert_eq!(refusal_of(&trace, 0).code, code, "{frame:?}");
        assert_eq!((request_of(&trace, 1).id, trace.left, trace.broken), (8, 0, None));
    }
}

#[test]
fn a_refusal_is_marked_one_way_if_unanswered() {
    let refused = |kind| {
        let trace =
            decode_whole(&mut server(), &TestFrame { kind, flags: 4, ..TestFrame::default() }.bytes());
        refusal_of(&trace, 0).one_way
    };
    assert!(refused(kind::ONE_WAY));
    assert!(refused(kind::CANCEL), "an answer would be taken for that of the call that it names");
    assert!(!refused(kind::REQUEST) && !refused(kind::PING) && !refused(13));
}

#[test]
fn a_client_fails_the_call_of_an_unreadable_reply() {
    let stream = [
        TestFrame { kind: 13, body: vec![0x19; 40], ..TestFrame::default() }.bytes(),
        TestFrame { kind: kind::REPLY, flags: 4, body: vec![0x19; 40], ..TestFrame::default() }.bytes(),
        TestFrame { kind: kind::REPLY, id: 5, metadata: vec![0; 9], ..TestFrame::default() }.bytes(),
        TestFrame { kind: kind::REPLY, id: 3, ..TestFrame::default() }.bytes(),
    ]
    .concat();
    let trace = decode_whole(&mut client(), &stream);
    // Otherwise its call would wait forever.
    assert_eq!((refusal_of(&trace, 0).id, refusal_of(&trace, 0).code), (7, Code::Unimplemented));
    assert_eq!((refusal_of(&trace, 1).id, refusal_of(&trace, 1).code), (5, Code::InvalidArgument));
    assert!(matches!(trace.received[2].message, Message::Reply(IncomingReply { id: 3, .. })));
    assert_eq!(trace.received.len(), 3);
    assert_eq!((trace.left, trace.broken), (0, None));
}

#[test]
fn another_version_is_answered_once_and_ends_the_connection() {
    let stream =
        [TestFrame { version: 2, ..TestFrame::default() }.bytes(), TestFrame::default().bytes()].concat();
    let mut native = server();
    let trace = decode_whole(&mut native, &stream);
    assert_eq!((refusal_of(&trace, 0).id, refusal_of(&trace, 0).code), (7, Code::Unimplemented));
    assert_eq!((trace.received.len(), &trace.broken), (1, &Some(Broken::Version(2))));
    // The result stays the same, with bytes and without.
    assert_eq!(native.decode(b""), Received::Broken(Broken::Version(2)));
    assert_eq!(native.decode(&TestFrame::default().bytes()), Received::Broken(Broken::Version(2)));
    assert_eq!(decode_whole(&mut client(), &stream).broken, Some(Broken::Version(2)));
}

#[test]
fn foreign_bytes_end_the_connection_at_once() {
    assert_eq!(server().decode(b"SSH-2.0"), Received::Broken(Broken::Magic(*b"SS")));
    assert_eq!(server().decode(b"\x19\x97"), Received::Broken(Broken::Magic([0x19, 0x97])));
}

#[test]
fn the_rest_of_a_refused_frame_is_inside_a_message() {
    let frame = TestFrame { flags: 4, body: vec![0; 10], ..TestFrame::default() }.bytes();
    let mut native = server();
    assert!(matches!(native.decode(&frame[..34]), Received::Message { consumed: HEADER_BYTES, .. }));
    assert!(native.is_inside_message());
    assert_eq!(native.decode(&frame[32..34]), Received::Skip { consumed: 2 });
    assert_eq!(native.decode(b""), Received::NeedMore { bytes_min: 1 });
    assert_eq!(native.decode(&[0; 100]), Received::Skip { consumed: 8 });
    assert!(!native.is_inside_message());
}

// Metadata.

#[test]
fn a_method_may_come_by_name() {
    let frame = TestFrame {
        words: [0; 3],
        metadata: metadata(&[("b3", b"1"), ("method", b"Arith.Multiply")]),
        body: b"x".to_vec(),
        ..TestFrame::default()
    };
    let trace = decode_whole(&mut server(), &frame.bytes());
    assert_eq!(request_of(&trace, 0).method, 0xfb82_3841);
    assert_eq!(
        (&trace.received[0].name[..], &trace.received[0].body[..]),
        (&b"Arith.Multiply"[..], &b"x"[..])
    );
    let both = TestFrame { words: [0xfb82_3841, 0, 0], ..frame.clone() };
    assert_eq!(request_of(&decode_whole(&mut server(), &both.bytes()), 0).method, 0xfb82_3841);
    let lie = TestFrame { words: [0xfb82_3842, 0, 0], ..frame.clone() };
    assert_eq!(refusal_of(&decode_whole(&mut server(), &lie.bytes()), 0).code, Code::InvalidArgument);
    let not_utf8 = TestFrame { metadata: metadata(&[("method", b"\xff")]), ..frame };
    assert_eq!(refusal_of(&decode_whole(&mut server(), &not_utf8.bytes()), 0).code, Code::InvalidArgument);
}

#[test]
fn metadata_lie_within_their_frame() {
    // The entry's value extends into the body, which would complete it.
    let frame =
        TestFrame { metadata: b"\x01k\x08\0abc\0".to_vec(), body: vec![b'd'; 16], ..TestFrame::default() };
    let trace = decode_whole(&mut server(), &frame.bytes());
    assert_eq!(refusal_of(&trace, 0).code, Code::InvalidArgument);
    assert_eq!((trace.left, trace.broken), (0, None));
}

// Any bytes, any split.

/// Valid, refused and broken frames, and arbitrary bytes.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let entries = prop_oneof![
        4 => Just(Vec::new()),
        1 => Just(metadata(&[("method", b"A.B")])),
        1 => Just(metadata(&[("b3", b"1"), ("k", &[0; 30])])),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let frame = (
        prop_oneof![20 => Just(VERSION), 1 => any::<u8>()],
        prop_oneof![8 => Just(kind::REQUEST), 4 => 1..7u8, 1 => any::<u8>()],
        prop_oneof![8 => Just(0u8), 2 => Just(1u8), 1 => any::<u8>()],
        any::<(u8, u64)>(),
        prop_oneof![4 => Just(0u32), 1 => Just(method_hash("A.B")), 1 => any::<u32>()],
        entries,
        proptest::collection::vec(any::<u8>(), 0..BODY_MAX * 2 + 20),
        prop_oneof![20 => Just(None), 1 => any::<u32>().prop_map(Some)],
    );
    let frame = frame.prop_map(|(version, kind, flags, (codec, id), method, metadata, body, announced)| {
        let words = [method, codec.into(), 3];
        TestFrame { version, kind, codec, flags, id, words, metadata, body, announced }.bytes()
    });
    prop_oneof![20 => frame, 1 => proptest::collection::vec(any::<u8>(), 1..40)]
}

fn split_at<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let mut from = 0;
    cuts.into_iter().map(|cut| &stream[std::mem::replace(&mut from, cut)..cut]).collect()
}

#[test]
fn every_frame_decodes_the_same_at_every_split() {
    let after = TestFrame { id: 99, body: vec![1; 4], ..TestFrame::default() }.bytes();
    for (frame, _) in frames_of_every_result() {
        let stream = [&after[..], &frame, &after].concat();
        for side in ENDS {
            let whole = decode_whole(&mut *side(), &stream);
            for cut in 0..=stream.len() {
                let (one, other) = stream.split_at(cut);
                assert_eq!(decode_pieces(&mut *side(), [one, other]), whole, "{stream:x?} cut at {cut}");
            }
            assert_eq!(decode_pieces(&mut *side(), stream.chunks(1)), whole, "{stream:x?} byte by byte");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_frames_in_any_split_give_one_result(
        frames in proptest::collection::vec(any_frame(), 1..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let stream = frames.concat();
        for side in ENDS {
            let whole = decode_whole(&mut *side(), &stream);
            prop_assert_eq!(&decode_pieces(&mut *side(), split_at(&stream, &cuts)), &whole);
            prop_assert_eq!(&decode_pieces(&mut *side(), stream.chunks(1)), &whole);
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(stream in proptest::collection::vec(any::<u8>(), 0..300), magic: bool) {
        let mut stream = stream;
        if magic && stream.len() > 3 {
            stream[..3].copy_from_slice(&[0x19, 0x96, 1]);
        }
        for side in ENDS {
            let trace = decode_whole(&mut *side(), &stream);
            prop_assert!(trace.received.len() <= stream.len() / HEADER_BYTES);
            prop_assert_eq!(&decode_pieces(&mut *side(), stream.chunks(1)), &trace);
        }
    }

    #[test]
    fn the_fast_path_agrees_with_the_slow_path(
        mut header: [u8; HEADER_BYTES],
        plain: [bool; 4],
        body_bytes in 0..2 * BODY_MAX as u32,
        rest in proptest::collection::vec(any::<u8>(), 0..2 * BODY_MAX),
    ) {
        // Random bytes are hardly ever a request; each part is made valid with probability one half.
        let right: [(std::ops::Range<usize>, &[u8]); 4] =
            [(0..4, &[0x19, 0x96, 1, 0]), (5..6, &[1]), (6..8, &[0, 0]), (28..32, &body_bytes.to_le_bytes())];
        for ((range, bytes), is_right) in right.into_iter().zip(plain) {
            if is_right {
                header[range].copy_from_slice(bytes);
            }
        }
        let input = [&header[..], &rest].concat();
        if let Some((message, consumed)) = server().try_fast_receive(&input) {
            prop_assert_eq!(server().decode(&input), Received::Message { message, consumed });
        }
        prop_assert_eq!(NativeClient::new(BODY_MAX).try_fast_receive(&input), None);
    }

    #[test]
    fn every_plain_request_takes_the_fast_path(id: u64, method: u32, body in proptest::collection::vec(any::<u8>(), 0..BODY_MAX)) {
        let call = OutgoingCall {
            name: "",
        id, method, codec: 1, compressed: false, one_way: false, schema: 0, time_left_us: 5,
            metadata: &[], body: SendBody::Bytes(&body),
        };
        let frame = encoded(vec![Outgoing::Request(call)]);
        prop_assert!(server().try_fast_receive(&frame).is_some());
        prop_assert!(server().try_fast_receive(&frame[..frame.len() - 1]).is_none(), "not whole");
    }

    #[test]
    fn encoded_frames_round_trip(
        id: u64, method: u32, codec: u8, compressed: bool, one_way: bool, schema: u32, time_left_us: u32,
        body in proptest::collection::vec(any::<u8>(), 0..BODY_MAX),
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4),
    ) {
        let mut entries = MetadataBuf::new();
        for value in &values {
            entries.push("key", value).unwrap();
        }
        let call = OutgoingCall {
            name: "",
        id, method, codec, compressed, one_way, schema, time_left_us,
            metadata: entries.as_bytes(), body: SendBody::Bytes(&body),
        };
        let trace = decode_whole(&mut server(), &encoded(vec![Outgoing::Request(call)]));
        let request = request_of(&trace, 0);
        prop_assert_eq!(
            (request.id, request.method, request.codec, request.compressed, request.one_way),
            (id, method, codec, compressed, one_way)
        );
        prop_assert_eq!((request.schema, request.time_left_us), (schema, time_left_us));
        prop_assert_eq!((&trace.received[0].metadata[..], &trace.received[0].body), (entries.as_bytes(), &body));

        let extras = ReplyExtras { trailers: entries.clone(), ..ReplyExtras::default() };
        let reply = OutgoingReply {
            id, codec, compressed, code: Code::ALL[schema as usize % 17], queue_us: method, handler_us: time_left_us,
            extras: Some(&extras),
            body: SendBody::Bytes(&body),
        };
        let trace = decode_whole(&mut client(), &encoded(vec![Outgoing::Reply(reply)]));
        let Message::Reply(answered) = trace.received[0].message else { panic!("{trace:?}") };
        prop_assert_eq!((answered.id, answered.codec, answered.compressed), (id, codec, compressed));
        prop_assert_eq!(
            (answered.status, answered.queue_us, answered.handler_us),
            (schema % 17, method, time_left_us)
        );
        prop_assert_eq!((&trace.received[0].metadata[..], &trace.received[0].body), (entries.as_bytes(), &body));
    }
}

// Streams.

/// The call that a frame breaks, with the bytes that count against the connection's window.
fn broken_call<const S: bool>(native: &mut NativeEnd<S>, frame: &TestFrame) -> (u64, Code, String, u32) {
    let after = TestFrame { kind: kind::PING, id: 99, ..TestFrame::default() };
    let trace = decode_whole(native, &[frame.bytes(), after.bytes()].concat());
    let [NativeMessage { message: Message::CallBroken(broken), .. }, last] = &trace.received[..] else {
        panic!("{frame:?}: {trace:?}")
    };
    assert_eq!((&last.message, trace.broken, trace.left), (&Message::Ping { id: 99 }, None, 0));
    (broken.id, broken.code, broken.message.clone(), broken.frame_bytes)
}

#[test]
fn frames_of_streams_round_trip() {
    let entries = metadata(&[("stream-window", b"1000000")]);
    let call = OutgoingCall {
        id: 5,
        name: "",
        method: 77,
        codec: 2,
        compressed: false,
        one_way: false,
        schema: 3,
        time_left_us: 4,
        metadata: &entries,
        body: SendBody::Bytes(b""),
    };
    let data =
        |id| Outgoing::Data(OutgoingData { id, codec: 2, compressed: true, body: SendBody::Bytes(b"body") });
    let to_server = encoded(vec![
        Outgoing::Hello { metadata: &entries },
        Outgoing::Open(call),
        data(5),
        Outgoing::Credit { id: 0, bytes: 1 << 20 },
        Outgoing::Credit { id: 5, bytes: 7 },
        Outgoing::End { id: 5 },
    ]);
    let trace = decode_pieces(&mut server(), to_server.chunks(7));
    let [hello, open, message, connection, stream, end] = &trace.received[..] else { panic!("{trace:?}") };
    assert!(matches!(hello.message, Message::Hello { .. }) && hello.metadata == entries);
    let Message::Open(request) = open.message else { panic!("{open:?}") };
    assert_eq!((request.id, request.method, request.schema, request.time_left_us), (5, 77, 3, 4));
    assert_eq!((&open.metadata, request.body.len(), request.one_way), (&entries, 0, false));
    let Message::Data(received) = message.message else { panic!("{message:?}") };
    assert_eq!((received.id, received.codec, received.compressed, received.frame_bytes), (5, 2, true, 36));
    assert_eq!(message.body, b"body");
    assert_eq!(connection.message, Message::Credit { id: 0, bytes: 1 << 20 });
    assert_eq!(stream.message, Message::Credit { id: 5, bytes: 7 });
    assert_eq!(end.message, Message::End { id: 5 });

    let to_client = encoded(vec![
        Outgoing::Hello { metadata: &entries },
        Outgoing::Headers { id: 5, codec: 2, metadata: &entries },
        data(5),
        Outgoing::Credit { id: 5, bytes: 9 },
    ]);
    let trace = decode_pieces(&mut client(), to_client.chunks(5));
    let [hello, headers, message, credit] = &trace.received[..] else { panic!("{trace:?}") };
    assert!(matches!(hello.message, Message::Hello { .. }) && hello.metadata == entries);
    assert!(matches!(headers.message, Message::Headers { id: 5, .. }) && headers.metadata == entries);
    assert!(matches!(message.message, Message::Data(_)) && message.body == b"body");
    assert_eq!(credit.message, Message::Credit { id: 5, bytes: 9 });
}

#[test]
fn a_frame_of_a_call_that_breaks_a_rule_ends_only_that_call() {
    let data = TestFrame { kind: kind::DATA, body: b"12".to_vec(), ..TestFrame::default() };
    fn check<const S: bool>(side: fn() -> NativeEnd<S>, invalid: Code, data: &TestFrame) {
        let flags = TestFrame { flags: 2, ..data.clone() };
        let text = "unknown flags 0x02 in version 1".to_owned();
        assert_eq!(broken_call(&mut side(), &flags), (7, invalid, text, 34));
        let long = TestFrame { body: vec![0; BODY_MAX + 1], ..data.clone() };
        let text = "a body of 101 bytes is over the limit of 100 (frame_bytes_max)".to_owned();
        assert_eq!(broken_call(&mut side(), &long), (7, Code::ResourceExhausted, text, 133));
        let odd = TestFrame { metadata: vec![0; 9], ..data.clone() };
        let text = "9 bytes of metadata are not a multiple of 8".to_owned();
        assert_eq!(broken_call(&mut side(), &odd), (7, invalid, text, 34));
        let window = TestFrame { kind: kind::WINDOW, body: vec![0; 5], ..TestFrame::default() };
        let text = "a window frame has a body of 4 bytes, not 5".to_owned();
        assert_eq!(broken_call(&mut side(), &window), (7, invalid, text, 0));
    }
    check(server, Code::InvalidArgument, &data);
    check(client, Code::Internal, &data);
    let end = TestFrame { kind: kind::END, body: vec![0; 3], ..TestFrame::default() };
    let text = "an end frame has no body; this one has 3 bytes".to_owned();
    assert_eq!(broken_call(&mut server(), &end), (7, Code::InvalidArgument, text, 0));
    let headers = TestFrame { kind: kind::HEADERS, metadata: vec![1; 8], ..TestFrame::default() };
    let (id, code, text, _) = broken_call(&mut client(), &headers);
    assert_eq!((id, code), (7, Code::Internal), "{text}");
}

#[test]
fn the_window_of_the_connection_must_be_readable() {
    let frame = TestFrame { kind: kind::WINDOW, id: 0, body: vec![0; 3], ..TestFrame::default() }.bytes();
    let why = Broken::Other("a window frame has a body of 4 bytes, not 3".into());
    let trace = decode_whole(&mut server(), &frame);
    assert_eq!((refusal_of(&trace, 0).id, refusal_of(&trace, 0).code), (0, Code::InvalidArgument));
    assert_eq!(trace.broken.as_ref(), Some(&why));
    let trace = decode_whole(&mut client(), &frame);
    assert_eq!((trace.received.len(), trace.broken), (0, Some(why)));
}

#[test]
fn a_request_whose_argument_follows_has_rules_of_its_own() {
    let refused = |frame: TestFrame| {
        let trace = decode_whole(&mut server(), &frame.bytes());
        let refusal = refusal_of(&trace, 0).clone();
        assert_eq!((refusal.code, trace.left), (Code::InvalidArgument, 0));
        (refusal.message, refusal.one_way)
    };
    let open = TestFrame { flags: 2, ..TestFrame::default() };
    let with_body = refused(TestFrame { body: vec![1], ..open.clone() });
    assert_eq!(with_body, ("a request whose argument follows in data frames has no body".into(), false));
    let one_way = refused(TestFrame { kind: kind::ONE_WAY, ..open.clone() });
    assert_eq!(one_way, ("a one-way call has its argument in the request".into(), true));
    let without_id = refused(TestFrame { id: 0, ..open });
    assert_eq!(without_id.0, "a call whose argument follows in data frames has an id other than 0");
}

#[test]
fn a_hello_is_the_first_frame_or_says_nothing() {
    let hello = TestFrame { kind: kind::HELLO, id: 0, ..TestFrame::default() }.bytes();
    for side in ENDS {
        let stream = [&hello[..], &hello, &TestFrame::of(kind::PING).bytes(), &hello].concat();
        for step in [1, 31, 200] {
            let trace = decode_pieces(&mut *side(), stream.chunks(step));
            let received: Vec<_> = trace.received.iter().map(|received| &received.message).collect();
            assert!(matches!(received[..], [Message::Hello { .. }, Message::Ping { id: 7 }]), "{received:?}");
        }
    }
}

#[test]
fn optional_kinds_are_skipped_whatever_they_hold() {
    for kind in [128, 200, 255] {
        let frames = [
            TestFrame { kind, flags: 0xff, body: vec![0x19; 10], ..TestFrame::default() },
            TestFrame { kind, body: vec![0x19; BODY_MAX + 1], metadata: vec![1; 9], ..TestFrame::default() },
        ];
        for (frame, mut side) in frames.iter().flat_map(|frame| ENDS.map(|end| (frame, end()))) {
            let stream = [frame.bytes(), TestFrame::of(kind::PING).bytes()].concat();
            let trace = decode_pieces(&mut *side, stream.chunks(3));
            assert_eq!(trace.received.len(), 1, "{frame:?}");
            assert_eq!((trace.left, trace.broken), (0, None));
        }
    }
}
