//! Calls as they should be: in any pieces, with metadata, deadlines, cancellation and drain.

use super::*;

fn text(pairs: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    pairs.iter().map(|(key, value)| (key.as_str(), &value[..])).collect()
}

#[test]
fn a_call_is_answered_with_a_head_a_message_and_trailers() {
    let mut rig = Rig::new();
    rig.call(1, b"hello");
    let Message::Request(request) = rig.last().message else { panic!("{:?}", rig.last()) };
    assert_eq!((request.id, request.method, request.codec), (1, method_hash("Echo.Echo"), 6));
    assert_eq!((request.time_left_us, request.one_way, request.compressed), (0, false, false));
    assert!(!request.body.is_scratch(), "the message is read in place");
    assert_eq!(rig.last().body, b"hello");
    rig.ok(1, b"world");
    let answer = rig.answer(1);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(answer.head, [pair(":status", "200"), pair("content-type", "application/grpc")]);
    assert_eq!(answer.data, message(b"world"));
    assert_eq!(answer.trailers, [pair("grpc-status", "0")]);
    assert_eq!((answer.is_ended, answer.reset), (true, None));
    // An empty message is a message.
    rig.call(3, b"");
    assert_eq!(rig.last().body, b"");
    rig.ok(3, b"");
    assert_eq!(rig.answer(3).data, message(b""));
}

#[test]
fn errors_are_trailers_only() {
    let mut rig = Rig::new();
    rig.call(1, b"x");
    rig.reply(1, 6, Code::NotFound, "no 100 % é".as_bytes());
    let answer = rig.answer(1);
    assert!(answer.is_ended && answer.data.is_empty() && answer.trailers.is_empty());
    assert_eq!((answer.status(), answer.field("grpc-message")), (Some("5"), Some("no 100 %25 %C3%A9")));
    assert_eq!(answer.field(":status"), Some("200"));
    for (i, code) in Code::ALL.into_iter().enumerate().skip(1) {
        let stream = 2 * i as u32 + 1;
        rig.call(stream, b"x");
        rig.reply(u64::from(stream), 6, code, b"");
        let answer = rig.answer(stream);
        assert_eq!((answer.status(), answer.field("grpc-message")), (Some(i.to_string().as_str()), None));
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn entries_of_a_reply_are_trailers_with_and_without_a_message() {
    let mut extras = ReplyExtras { load_us: Some(7), ..ReplyExtras::retry_after(250) };
    for (key, value) in [("x-bin", &b"\0\xff"[..]), ("te", b"x"), ("X", b"x"), ("y", b"\n"), (":path", b"/")]
    {
        extras.set_trailer(key, value).unwrap();
    }
    let expected = [
        pair("x-bin", "AP8"),
        pair("retry-after-ms", "250"),
        pair("grpc-retry-pushback-ms", "250"),
        pair("load", "7"),
    ];
    let mut rig = Rig::new();
    rig.call(1, b"x");
    rig.reply_with(1, 6, Code::ResourceExhausted, Some(&extras), b"full");
    let answer = rig.answer(1);
    assert_eq!((answer.status(), answer.field("grpc-message")), (Some("8"), Some("full")));
    assert_eq!(answer.head[answer.head.len() - 4..], expected);
    rig.call(3, b"x");
    rig.reply_with(3, 6, Code::Ok, Some(&extras), b"y");
    let answer = rig.answer(3);
    assert_eq!((&answer.data, answer.is_ended), (&message(b"y"), true));
    assert_eq!(answer.trailers, [&[pair("grpc-status", "0")], &expected[..]].concat());
    // A number that gRPC's clients could not read is limited.
    rig.call(5, b"x");
    rig.reply_with(5, 6, Code::Unavailable, Some(&ReplyExtras::retry_after(u32::MAX)), b"");
    assert_eq!(rig.answer(5).field("grpc-retry-pushback-ms"), Some("2147483647"));
}

#[test]
fn headers_of_a_reply_precede_its_message_or_its_status() {
    let mut extras = ReplyExtras::default();
    for (key, value) in [("h", &b"1"[..]), ("h-bin", b"\xff"), ("connection", b"close"), ("grpc-x", b"1")] {
        extras.set_header(key, value).unwrap();
    }
    extras.set_trailer("t", b"2").unwrap();
    let mut rig = Rig::new();
    for (stream, code, body) in [(1, Code::Ok, &b"y"[..]), (3, Code::NotFound, b"no")] {
        rig.call(stream, b"x");
        rig.reply_with(u64::from(stream), 6, code, Some(&extras), body);
        let answer = rig.answer(stream);
        assert!(answer.is_ended);
        assert_eq!(answer.head[answer.head.len() - 2..], [pair("h", "1"), pair("h-bin", "/w")]);
        assert_eq!(answer.trailers.last(), Some(&pair("t", "2")));
        assert_eq!(answer.status(), Some(&*code.number().to_string()));
        assert_eq!(answer.data.is_empty(), code != Code::Ok);
    }
}

#[test]
fn details_that_are_messages_are_a_status_of_google() {
    let error = |details: Vec<Detail>| {
        let extras = ReplyExtras { details, ..ReplyExtras::default() };
        let mut rig = Rig::new();
        rig.call(1, b"x");
        rig.reply_with(1, 6, Code::NotFound, Some(&extras), b"no");
        rig.answer(1).field("grpc-status-details-bin").map(str::to_owned)
    };
    let both = Detail::new("a.B").form(2, b"{}".to_vec()).form(6, vec![8, 1]);
    // { code: 5, message: "no", details: [{ type_url: "type.googleapis.com/a.B", value: "\x08\x01" }] }
    let expected = "CAUSAm5vGh0KF3R5cGUuZ29vZ2xlYXBpcy5jb20vYS5CEgIIAQ";
    assert_eq!(error(vec![both.clone()]).as_deref(), Some(expected));
    let json_only = Detail::new("c").form(2, b"{}".to_vec());
    assert_eq!(error(vec![json_only.clone(), both]).as_deref(), Some(expected));
    assert_eq!(error(vec![json_only]), None);
    let large = Detail::new("d").form(6, vec![0; 5000]);
    assert_eq!(error(vec![large]), None, "a client would refuse the head");
}

#[test]
fn json_is_a_codec_of_its_own_with_its_own_content_type() {
    let mut rig = Rig::new();
    let head = rig.head(1, &with("content-type", "application/grpc+json"), false);
    rig.feed(&head);
    rig.feed(&print(&[data(1, &message(b"{}"), true)]));
    let Message::Request(request) = rig.last().message else { panic!("{:?}", rig.last()) };
    assert_eq!(request.codec, 129);
    rig.reply(1, request.codec, Code::Ok, b"{}");
    assert_eq!(rig.answer(1).field("content-type"), Some("application/grpc+json"));
}

#[test]
fn the_result_does_not_depend_on_how_the_bytes_were_split() {
    // Two calls at once, of which one comes in pieces; a refused one; a cancelled one; a page; trailers.
    let mut client = Rig::fresh(limits());
    let mut bytes = Rig::opening();
    let long = vec![7; 1000];
    let mut add = |part: Vec<u8>| bytes.extend_from_slice(&part);
    add(client.head(1, &with("x-key", "value"), false));
    add(print(&[data(1, &message(&long)[..3], false), data(1, &message(&long)[3..700], false)]));
    add(client.head(3, &with("grpc-timeout", "5S"), false));
    add(print(&[data(3, &message(b"short"), true), data(1, &message(&long)[700..], false)]));
    add(print(&[data(1, b"", true)]));
    add(client.head(5, &with(":path", "/Echo/Nothing"), true));
    add(client.head(7, &CALL, false));
    add(print(&[data(7, &message(b"x")[..2], false)]));
    add(print(&[Http2Frame::Reset { stream: 7, code: Http2Code::CANCEL }]));
    add(client.head(9, &CALL, false));
    add(print(&[data(9, &message(b"y"), true)]));
    add(print(&[Http2Frame::Reset { stream: 9, code: Http2Code::CANCEL }]));
    add(client.head(11, &[(":method", "GET"), (":scheme", "http"), (":path", "/healthz")], true));
    add(client.head(13, &CALL, false));
    add(print(&[data(13, &message(b"z"), false)]));
    add(client.head(13, &[("x-trailer", "t")], true));

    // Spans differ with the pieces, and what they refer to does not.
    let comparable = |rig: &mut Rig| {
        let received = std::mem::take(&mut rig.received);
        let received: Vec<_> = received
            .into_iter()
            .map(|mut found| {
                if let Message::Request(request) = &mut found.message {
                    (request.body, request.metadata) = Default::default();
                }
                found
            })
            .collect();
        (received, rig.sent_bytes())
    };
    let mut whole = Rig::fresh(limits());
    whole.feed(&bytes);
    let whole = comparable(&mut whole);
    let kinds: Vec<_> = whole.0.iter().map(|found| std::mem::discriminant(&found.message)).collect();
    assert_eq!(kinds.len(), 7, "{:?}", whole.0);
    assert_eq!(whole.0[6].body, b"z");
    for cut in 0..bytes.len() {
        let mut rig = Rig::fresh(limits());
        rig.feed(&bytes[..cut]);
        rig.feed(&bytes[cut..]);
        assert_eq!(comparable(&mut rig), whole, "cut at {cut}");
    }
    let mut rig = Rig::fresh(limits());
    bytes.iter().for_each(|byte| rig.feed(&[*byte]));
    assert_eq!(comparable(&mut rig), whole);
}

#[test]
fn metadata_is_passed_in_without_what_belongs_to_the_protocol() {
    let mut rig = Rig::new();
    let mut fields = with("x-key", "value");
    fields.extend([
        ("user-agent", "test/1"),
        ("x-key", "second"),
        ("raw-bin", "AP8"),
        ("grpc-accept-encoding", "gzip"),
        ("grpc-encoding", "identity"),
        ("grpc-previous-rpc-attempts", "1"),
        ("authorization", "Bearer t"),
    ]);
    let head = rig.head(1, &fields, false);
    rig.feed(&head);
    rig.feed(&print(&[data(1, &message(b"x"), true)]));
    assert_eq!(
        text(&rig.last().metadata),
        [
            ("x-key", &b"value"[..]),
            ("user-agent", b"test/1"),
            ("x-key", b"second"),
            ("raw-bin", &[0, 255]),
            ("authorization", b"Bearer t"),
        ]
    );
}

#[test]
fn metadata_is_sent_before_the_answer() {
    let mut metadata = crate::message::MetadataBuf::new();
    metadata.push("x-key", b"value").unwrap();
    metadata.push("raw-bin", &[0, 255]).unwrap();
    metadata.push("grpc-status", b"0").unwrap();
    metadata.push("x-control", b"\n").unwrap();
    let mut rig = Rig::new();
    for (stream, code) in [(1, Code::Ok), (3, Code::Aborted)] {
        rig.call(stream, b"x");
        let headers = Outgoing::Headers { id: u64::from(stream), codec: 6, metadata: metadata.as_bytes() };
        rig.with_out(|wire, out| wire.send(headers, out));
        rig.reply(u64::from(stream), 6, code, b"text");
        let answer = rig.answer(stream);
        let found: Vec<_> = answer.head.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            found,
            [
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("x-key", "value"),
                ("raw-bin", "AP8")
            ]
        );
        assert_eq!(answer.status(), Some((code as u32).to_string().as_str()));
        assert_eq!(answer.data.is_empty(), code != Code::Ok);
    }
    rig.assert_serves(5);
}

#[test]
fn the_time_left_counts_from_the_head() {
    let mut rig = Rig::new();
    let head = rig.head(1, &with("grpc-timeout", "100m"), false);
    rig.feed(&head);
    rig.pass(Duration::from_millis(30));
    rig.feed(&print(&[data(1, &message(b"x"), true)]));
    let Message::Request(request) = rig.last().message else { panic!("{:?}", rig.last()) };
    assert_eq!(request.time_left_us, 70_000);
    let head = rig.head(3, &with("grpc-timeout", "100m"), false);
    rig.feed(&head);
    rig.pass(Duration::from_secs(3));
    rig.feed(&print(&[data(3, &message(b"x"), true)]));
    let Message::Request(request) = rig.last().message else { panic!("{:?}", rig.last()) };
    assert_eq!(request.time_left_us, 1, "late, and not without a deadline");
}

#[test]
fn a_reset_cancels_its_call_and_nothing_is_written_for_it() {
    let mut rig = Rig::new();
    rig.call(1, b"x");
    rig.feed(&print(&[Http2Frame::Reset { stream: 1, code: Http2Code::CANCEL }]));
    assert_eq!(rig.last().message, Message::Cancel { id: 1 });
    rig.reply(1, 6, Code::Cancelled, b"cancelled");
    assert!(rig.sent().is_empty());
    // In the middle of its message, the application does not know of it.
    let head = rig.head(3, &CALL, false);
    rig.feed(&head);
    rig.feed(&print(&[data(3, &message(b"xy")[..6], false)]));
    assert!(rig.wire.is_inside_message());
    rig.feed(&print(&[Http2Frame::Reset { stream: 3, code: Http2Code::CANCEL }]));
    assert_eq!(rig.received.len(), 2);
    assert!(!rig.wire.is_inside_message());
    rig.assert_serves(5);
}

#[test]
fn a_drain_names_the_last_call_and_serves_those_that_cross_it() {
    let mut rig = Rig::new();
    rig.call(1, b"x");
    rig.with_out(|wire, out| wire.send_drain(out));
    let sent = rig.sent();
    let frames: Vec<_> =
        sent.iter().map(|(head, payload)| Http2Frame::parse(*head, payload).unwrap()).collect();
    let Http2Frame::GoAway { last_stream: 0x7fff_ffff, code: Http2Code::NO_ERROR, .. } = frames[0] else {
        panic!("{frames:?}")
    };
    let Http2Frame::Ping { is_ack: false, payload } = frames[1] else { panic!("{frames:?}") };
    rig.call(3, b"crosses");
    assert_eq!(rig.last().body, b"crosses");
    rig.feed(&print(&[Http2Frame::Ping { is_ack: true, payload }]));
    let sent = rig.sent();
    let frame = Http2Frame::parse(sent[0].0, &sent[0].1).unwrap();
    assert!(
        matches!(frame, Http2Frame::GoAway { last_stream: 3, code: Http2Code::NO_ERROR, .. }),
        "{frame:?}"
    );
    rig.call(5, b"late");
    assert_eq!(rig.answer(5).reset, Some(Http2Code::REFUSED_STREAM));
    assert_eq!(rig.received.len(), 2);
    for stream in [3, 1] {
        rig.ok(stream, b"done");
        assert_eq!(rig.answer(stream).status(), Some("0"));
    }
}

#[test]
fn a_drain_before_the_first_byte_is_announced_after_it() {
    let mut rig = Rig::fresh(limits());
    rig.with_out(|wire, out| wire.send_drain(out));
    assert!(rig.sent().is_empty());
    rig.feed(&Rig::opening());
    let kinds: Vec<_> = rig.sent().iter().map(|(head, _)| head.kind).collect();
    assert!(kinds.contains(&7), "{kinds:?}");
    // The last notice comes without the answer to the ping.
    rig.with_out(|wire, out| wire.send_last(out));
    let kinds: Vec<_> = rig.sent().iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [7]);
}

#[test]
fn what_is_not_grpc_is_answered_with_http() {
    let mut rig = Rig::new();
    let get = |path| [(":method", "GET"), (":scheme", "http"), (":path", path)];
    let bare = rig.exchange(1, &get("/healthz"), b"");
    assert_eq!((bare.field(":status"), &bare.data[..]), (Some("401"), &b"no token"[..]));
    assert_eq!((bare.field("www-authenticate"), bare.status()), (Some("Bearer"), None));
    assert_eq!(rig.exchange(3, &get("/nothing"), b"").field(":status"), Some("404"));
    let get_method = rig.exchange(7, &get("/Echo/Echo"), b"");
    assert_eq!((get_method.field(":status"), get_method.field("allow")), (Some("405"), Some("POST")));
    assert_eq!(rig.exchange(9, &with(":method", "GET"), b"").field(":status"), Some("405"));
    assert_eq!(rig.exchange(11, &with(":method", "PUT"), b"x").field(":status"), Some("405"));
    for (stream, content_type) in [(13, "application/json"), (15, "application/grpc-web"), (17, "text/plain")]
    {
        let answer = rig.exchange(stream, &with("content-type", content_type), b"{}");
        assert_eq!((answer.field(":status"), answer.status(), answer.reset), (Some("415"), None, None));
        assert!(String::from_utf8(answer.data).unwrap().contains(content_type));
    }
    let connect = rig.exchange(19, &[(":method", "CONNECT"), (":authority", "localhost:1")], b"");
    assert_eq!(connect.field(":status"), Some("405"));
    // The answer waits for the body, up to `linger_bytes_max`.
    let head = rig.head(25, &with("content-type", "text/plain"), false);
    rig.feed(&head);
    for _ in 0..64 {
        rig.feed(&print(&[data(25, &[b'x'; 16_384], false)]));
        let answer = rig.answer(25);
        assert_eq!((answer.is_ended, answer.reset), (false, None));
    }
    rig.feed(&print(&[data(25, b"x", false)]));
    let answer = rig.answer(25);
    assert_eq!((answer.field(":status"), answer.reset), (Some("415"), Some(Http2Code::NO_ERROR)));
    let large = "x".repeat(17_000);
    let answer = rig.exchange(27, &with("x-large", &large), b"");
    assert_eq!(answer.field(":status"), Some("431"));
    rig.assert_serves(29);
}

#[test]
fn a_page_is_a_call_with_the_fields_of_its_request() {
    let mut rig = Rig::new();
    let fields = |method| {
        let head = [(":method", method), (":scheme", "http"), (":path", "/healthz?verbose")];
        [&head[..], &[(":authority", "a:1"), ("authorization", "Bearer t"), ("x-a", "b")]].concat()
    };
    let page = rig.exchange(1, &fields("GET"), b"");
    assert_eq!((page.field(":status"), &page.data[..]), (Some("200"), &b"well"[..]));
    assert_eq!((page.field("content-type"), page.field("content-length")), (Some("text/plain"), Some("4")));
    assert_eq!((page.field("x-odd"), page.is_ended), (Some("a: b"), true));
    let metadata = rig.last().metadata.clone();
    let expected = [
        ("authorization", "Bearer t"),
        ("x-a", "b"),
        ("host", "a:1"),
        (":method", "GET"),
        (":path", "/healthz?verbose"),
    ];
    assert_eq!(text(&metadata), expected.map(|(key, value)| (key, value.as_bytes())));
    let head = rig.exchange(3, &fields("HEAD"), b"");
    assert_eq!((head.field("content-length"), head.data.len(), head.is_ended), (Some("4"), 0, true));
    // A body is skipped.
    let skipped = rig.exchange(5, &fields("GET"), b"body");
    assert_eq!((skipped.field(":status"), &skipped.data[..]), (Some("200"), &b"well"[..]));
    // A value that cannot be read.
    let odd = [&fields("GET")[..], &[("x-bin", "a*")]].concat();
    assert_eq!(rig.exchange(7, &odd, b"").field(":status"), Some("400"));
    // Reset before its body has ended: it is not called.
    let calls = rig.received.len();
    let begun = rig.head(9, &fields("GET"), false);
    rig.feed(&begun);
    rig.feed(&print(&[Http2Frame::Reset { stream: 9, code: Http2Code::CANCEL }]));
    assert_eq!(rig.received.len(), calls);
    rig.assert_serves(11);
}

#[test]
fn repeated_heads_mean_what_they_say_whatever_the_table_has_become() {
    let mut rig = Rig::new();
    let heads = [
        with("x-key", "a"),
        with("x-key", "b"),
        with(":path", "/Echo/Other"),
        with("grpc-timeout", "7S"),
        with("x-long", "a value that evicts others from the table of the peer, since it is a long one"),
    ];
    let mut stream = 1;
    for turn in [0, 0, 0, 1, 0, 0, 2, 2, 2, 0, 3, 3, 4, 3, 3, 3, 1, 1, 4, 4, 4, 0, 0, 2, 1, 0, 0] {
        let fields = &heads[turn];
        let head = rig.head(stream, fields, false);
        rig.feed(&head);
        // Trailers use the table too.
        if stream % 3 == 0 {
            rig.feed(&print(&[data(stream, &message(b"x"), false)]));
            let trailers = rig.head(stream, &[("x-trailer", &stream.to_string())], true);
            rig.feed(&trailers);
        } else {
            rig.feed(&print(&[data(stream, &message(b"x"), true)]));
        }
        let found = rig.last().clone();
        let Message::Request(request) = found.message else { panic!("{found:?}") };
        let value = |name: &str| fields.iter().find(|field| field.0 == name).map(|field| field.1);
        let method = value(":path").unwrap().trim_start_matches('/').replace('/', ".");
        assert_eq!(request.method, method_hash(&method));
        assert_eq!(request.time_left_us, if value("grpc-timeout").is_some() { 7_000_000 } else { 0 });
        let expected: Vec<_> = ["x-key", "x-long"]
            .into_iter()
            .filter_map(|name| Some((name, value(name)?.as_bytes())))
            .collect();
        assert_eq!(text(&found.metadata), expected, "call {stream}");
        rig.ok(stream, b"");
        rig.answer(stream);
        stream += 2;
    }
}
