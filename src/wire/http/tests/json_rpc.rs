//! JSON-RPC by POST: one body in, one response out, for any split of the bytes and any order of completion.

use proptest::prelude::*;

use super::*;

/// Limits for bodies of several requests.
fn roomy() -> Limits {
    Limits { frame_bytes_max: 4096, in_flight_max: 8, http_head_bytes_max: 8192, ..limits() }
}

fn rig_with(limits: Limits) -> Rig<Http> {
    let side = ServerContext { site: Box::new(HttpTestDirectory), ..ServerContext::bare(limits) };
    Rig::new(Http::server(Arc::new(side)))
}

fn at(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    )
}

fn rpc(body: &str) -> String {
    at("/rpc", "", body)
}

fn chunked(body: &str, chunk_bytes: usize) -> String {
    let head = rpc("").replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let chunk = |chunk: &[u8]| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap());
    let chunks: String = body.as_bytes().chunks(chunk_bytes).map(chunk).collect();
    format!("{head}{chunks}0\r\n\r\n")
}

fn two(id: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"Arith.Multiply","params":{params},"id":{id}}}"#)
}

const NOTIFICATION: &str = r#"{"jsonrpc":"2.0","method":"Arith.Multiply","params":[7]}"#;

/// The status and body of each response to these bytes.
fn answers_to(stream: &str) -> Vec<(u16, String)> {
    let mut rig = rig_with(roomy());
    rig.feed(stream.as_bytes());
    assert!(rig.broken.is_none() && rig.held.is_empty(), "{:?} is left", rig.held.escape_ascii().to_string());
    rig.answers().into_iter().map(|answer| (answer.status, answer.body)).collect()
}

fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

#[test]
fn each_body_has_one_response() {
    let batch = format!("[{},{NOTIFICATION}, 7 ,{}]", two("\"x\"", "[[1]]"), two("2", "{\"A\":1}"));
    let invalid =
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"invalid request: not an object"}}"#;
    let both = format!("[{},{invalid},{}]", result("\"x\"", "[1]"), result("2", "{\"A\":1}"));
    for (body, status, response) in [
        (two("1", "[6]"), 200, result("1", "6")),
        (format!(" \r\n{}\n\t", two("1", "[6]")), 200, result("1", "6")),
        (batch, 200, both),
        (format!("[{}]", two("1", "[6]")), 200, format!("[{}]", result("1", "6"))),
        (NOTIFICATION.into(), 200, String::new()),
        (format!("[{NOTIFICATION},{NOTIFICATION}]"), 200, String::new()),
        (
            r#"{"method":"Arith.Multiply","params":[6],"id":1}"#.into(),
            200,
            r#"{"id":1,"result":6,"error":null}"#.into(),
        ),
        (
            r#"{"jsonrpc":"1.0","method":"Arith.Multiply","params":[6],"id":[1]}"#.into(),
            200,
            r#"{"id":[1],"result":6,"error":null}"#.into(),
        ),
    ] {
        for path in ["/", "/rpc", "/rpc?a=b", "http://a"] {
            assert_eq!(answers_to(&at(path, "", &body)), [(status, response.clone())], "{body}");
        }
        for chunk_bytes in [1, 5, 1000] {
            assert_eq!(answers_to(&chunked(&body, chunk_bytes)), [(status, response.clone())], "{body}");
        }
    }
}

#[test]
fn a_fault_in_the_json_is_an_error_object() {
    let deep = "[".repeat(200);
    for (body, number, message) in [
        ("", -32700, "parse error: expected a value at byte 0"),
        ("{", -32700, "parse error: expected a member's name at byte 1"),
        ("{}{}", -32700, "parse error: expected the end of the text at byte 2"),
        ("[1", -32700, "parse error: expected `,` or the closing bracket at byte 2"),
        (&deep, -32700, "parse error: nested deeper than 128 (depth_max)"),
        ("\u{c}{}", -32700, "parse error: expected a value at byte 0"),
        ("7", -32600, "invalid request: a message is an object or an array"),
        ("[]", -32600, "invalid request: an empty batch"),
        ("{}", -32600, "jsonrpc"),
        ("[1,2,3,4,5,6,7,8,9]", -32008, "a batch of 9 requests is over the limit of 8"),
    ] {
        for stream in [rpc(body), chunked(body, 3)] {
            let [(200, response)] = &answers_to(&stream)[..] else { panic!("{body}") };
            let response: serde_json::Value = serde_json::from_str(response).unwrap();
            if body == "{}" {
                // Without a version it is 1.0.
                assert!(response["error"].is_string() && response["id"].is_null());
                continue;
            }
            assert_eq!(response["error"]["code"], number, "{body}");
            assert_eq!(response["error"]["message"], message, "{body}");
            assert!(response["id"].is_null());
        }
    }
}

#[test]
fn the_calls_of_a_body_carry_its_time_and_metadata() {
    let fields = "Connect-Timeout-Ms: 250\r\nX-Trace: b\r\n";
    let batch = format!("[{},{}]", two("1", "[6]"), two("2", "[7]"));
    let chunked = chunked(&batch, 9).replace("Host: a\r\n", &format!("Host: a\r\n{fields}"));
    for stream in [at("/", fields, &batch), chunked] {
        let mut rig = rig_with(roomy());
        rig.feed(stream.repeat(2).as_bytes());
        assert_eq!(rig.received.len(), 4);
        for (received, body) in rig.received.iter().zip(["6", "7"].repeat(2)) {
            let Message::Request(request) = &received.message else { panic!("{received:?}") };
            assert_eq!((request.time_left_us, &received.body[..]), (250_000, body.as_bytes()));
            let mut metadata = Metadata::checked_before(&received.metadata).iter();
            assert!(metadata.any(|entry| entry == ("x-trace", &b"b"[..])));
        }
    }
}

#[test]
fn responses_keep_the_order_of_requests() {
    let mut rig = rig_with(roomy());
    let batch = format!("[{},{}]", two("1", "[6]"), two("2", "[7]"));
    let stream = [at("/Arith/Multiply", "", "5"), rpc(&batch), rpc(&two("3", "[8]"))].concat();
    rig.held.extend_from_slice(stream.as_bytes());
    let received: Vec<_> = std::iter::from_fn(|| rig.next()).collect();
    let ids: Vec<u64> = received
        .iter()
        .map(|received| match &received.message {
            Message::Request(request) => request.id,
            other => panic!("{other:?}"),
        })
        .collect();
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), 4);
    for at in [3, 2, 1] {
        rig.write_response(reply(ids[at], Code::Ok, &received[at].body));
        // A second answer belongs to no request.
        rig.write_response(reply(ids[at], Code::Ok, b"0"));
        assert!(rig.queue.is_empty());
    }
    assert!(rig.wire.held_bytes() > 0, "what waits is counted");
    rig.write_response(reply(ids[0], Code::Ok, b"5"));
    let bodies: Vec<_> = rig.answers().into_iter().map(|answer| answer.body).collect();
    let both = format!("[{},{}]", result("1", "6"), result("2", "7"));
    assert_eq!(bodies, ["5".to_owned(), both, result("3", "8")]);
    assert_eq!(rig.wire.held_bytes(), 0);
}

#[test]
fn a_drain_during_a_batch_loses_nothing() {
    let batch = format!("[{},{},{}]", two("1", "[6]"), two("2", "[7]"), two("3", "[8]"));
    let all = format!("[{},{},{}]", result("1", "6"), result("2", "7"), result("3", "8"));
    for stream in [rpc(&batch), chunked(&batch, 7)] {
        let mut rig = rig_with(roomy());
        rig.held.extend_from_slice((stream.clone() + &rpc(&two("9", "[9]"))).as_bytes());
        let first = rig.next().unwrap();
        rig.write_response(Outgoing::Drain);
        let rest: Vec<_> = std::iter::from_fn(|| rig.next()).collect();
        assert_eq!(rest.len(), 2, "what comes behind the last response is not taken");
        assert!(rig.ended);
        for received in std::iter::once(first).chain(rest) {
            let Message::Request(request) = &received.message else { panic!("{received:?}") };
            rig.write_response(reply(request.id, Code::Ok, &received.body));
        }
        let answers = rig.answers();
        assert_eq!(answers.len(), 1);
        assert!(answers[0].closes() && answers[0].body == all, "{answers:?}");
    }
    // A drain before the request: its response closes the connection.
    for body in [two("1", "[6]"), NOTIFICATION.to_owned()] {
        let mut rig = rig_with(roomy());
        rig.write_response(Outgoing::Drain);
        rig.feed(rpc(&body).as_bytes());
        let answers = rig.answers();
        assert!(answers[0].status == 200 && answers[0].closes() && rig.ended, "{answers:?}");
    }
}

#[test]
fn answers_that_are_too_large_together_are_errors() {
    let limits = Limits { write_queue_high_bytes: 1024, ..roomy() };
    let mut rig = rig_with(limits);
    let large = format!("[\"{}\"]", "x".repeat(900));
    rig.feed(rpc(&format!("[{},{},{}]", two("1", &large), two("2", &large), two("3", &large))).as_bytes());
    let answers = rig.answers();
    let body: serde_json::Value = serde_json::from_str(&answers[0].body).unwrap();
    assert!(body[0]["result"].is_string() && body[1]["result"].is_string());
    assert_eq!(body[2]["error"]["code"], -32008, "{}", answers[0].body);
}

#[test]
fn each_request_fault_has_its_status() {
    let body = two("1", "[6]");
    let typed = |media: &str, fields: &str| {
        let stream = at("/", fields, &body).replace("Content-Type: application/json\r\n", media);
        answers_to(&stream)[0].0
    };
    for media in [
        "application/json; charset=utf-8",
        "application/json-rpc",
        "Application/JsonRequest",
        "text/plain;a=b",
    ] {
        assert_eq!(typed(&format!("Content-Type: {media}\r\n"), ""), 200, "{media}");
    }
    assert_eq!(typed("Content-Type: application/x-www-form-urlencoded\r\n", ""), 200, "the type of curl -d");
    // A browser page may send these types to any site without a preflight.
    for media in ["text/plain", "application/x-www-form-urlencoded"] {
        for field in ["Origin: http://b\r\n", "Sec-Fetch-Site: none\r\n"] {
            assert_eq!(typed(&format!("Content-Type: {media}\r\n"), field), 415, "{media}");
        }
    }
    for media in ["application/xml", "text/html", "application/json; charset=latin1"] {
        assert_eq!(typed(&format!("Content-Type: {media}\r\n"), ""), 415, "{media}");
    }
    for (method, path, status, allow) in [
        ("GET", "/rpc", 405, "POST, OPTIONS"),
        ("PUT", "/", 405, "POST, OPTIONS"),
        ("OPTIONS", "/rpc", 204, "POST, OPTIONS"),
    ] {
        let mut rig = rig_with(roomy());
        rig.feed(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let answers = rig.answers();
        assert_eq!((answers[0].status, answers[0].field("Allow")), (status, Some(allow)), "{method} {path}");
    }
    for path in ["/rpc/", "//", "/RPC", "/rpc/x"] {
        assert_eq!(answers_to(&at(path, "", &body))[0].0, 404, "{path}");
    }
    assert_eq!(statuses(rpc(&"1".repeat(BODY_MAX + 1))), (vec![413], false));
}

#[test]
fn a_client_may_wait_for_100_continue() {
    let mut rig = rig_with(roomy());
    let stream = at("/rpc", "Expect: 100-continue\r\n", &two("1", "[6]"));
    let (head, body) = stream.split_once("\r\n\r\n").unwrap();
    rig.feed(format!("{head}\r\n\r\n").as_bytes());
    assert_eq!(rig.written(), b"HTTP/1.1 100 Continue\r\n\r\n");
    rig.feed(body.as_bytes());
    assert_eq!(rig.answers()[0].body, result("1", "6"));
}

/// Bodies that are often nearly valid.
fn body() -> impl Strategy<Value = String> {
    let parts = [
        two("1", "[6]"),
        two("\"x\"", "[\"[}\\\"\"]"),
        NOTIFICATION.to_owned(),
        r#"{"method":"Arith.Multiply","params":[6],"id":1e999}"#.to_owned(),
        "[".to_owned(),
        "]".to_owned(),
        ",".to_owned(),
        " ".to_owned(),
        "7".to_owned(),
        "{".to_owned(),
    ];
    let joined = |with: &'static str| move |parts: Vec<String>| parts.join(with);
    let part = || proptest::sample::select(parts.to_vec());
    prop_oneof![
        proptest::collection::vec(part(), 1..5).prop_map(joined(",")).prop_map(|list| format!("[{list}]")),
        proptest::collection::vec(part(), 0..4).prop_map(joined("")),
    ]
}

proptest! {
    #[test]
    fn the_answer_does_not_depend_on_the_split(
        bodies in proptest::collection::vec((body(), 0..3_usize, 1..20_usize), 1..4),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let streams = bodies.iter().map(|(body, how, chunk_bytes)| match how {
            0 => rpc(body),
            1 => at("/", "X-A: b\r\n", body),
            _ => chunked(body, *chunk_bytes),
        });
        let stream = streams.collect::<String>();
        let response = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut rig = rig_with(roomy());
            pieces.for_each(|piece| rig.feed(piece));
            assert!(rig.wire.held_bytes() == 0 && rig.broken.is_none());
            (rig.answers(), rig.received.len(), rig.ended)
        };
        let whole = response(&mut [stream.as_bytes()].into_iter());
        prop_assert_eq!(whole.0.len(), bodies.len());
        for answer in &whole.0 {
            let is_json = serde_json::from_str::<serde_json::Value>(&answer.body).is_ok();
            prop_assert!(answer.status == 200 && (is_json || answer.body.is_empty()));
        }
        prop_assert_eq!(&response(&mut stream.as_bytes().chunks(1)), &whole);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        prop_assert_eq!(&response(&mut at.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]])), &whole);
    }
}
