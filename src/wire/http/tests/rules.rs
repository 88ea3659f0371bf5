//! One request, one answer: all rules that do not concern framing.

use super::*;
use crate::message::time_left_us;
use crate::wire::testing::Decode;

#[test]
fn an_http_connection_is_one_pointer_wide() {
    assert_eq!((size_of::<Http>(), size_of::<HttpClient>()), (8, 8));
    assert!(size_of::<HttpServerInner>() <= 400, "{}", size_of::<HttpServerInner>());
}

#[test]
fn a_call_is_answered_in_full() {
    let (answers, ended) = ask(post("", r#"{"A":6}"#));
    let head = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
        Content-Length: 7\r\nServer-Timing: queue;dur=0.012, handler;dur=34.567\r\n\r\n";
    assert_eq!(answers, [TestAnswer { status: 200, head: head.into(), body: r#"{"A":6}"#.into() }]);
    assert!(!ended);
}

#[test]
fn a_call_reads_its_body_in_place() {
    let mut http = Http::server(side_with(&[]));
    let stream = post("X-Team: Blue\r\nConnect-Timeout-Ms: 250\r\nB3: 0\r\nTraceparent:  00-1 \r\n", "[1]");
    let Received::Message { message: Message::Request(request), consumed } = http.decode(stream.as_bytes())
    else {
        panic!("a request is whole")
    };
    assert_eq!(consumed, stream.len());
    assert!(!request.body.is_scratch() && request.metadata.is_scratch());
    assert_eq!(&stream.as_bytes()[request.body.range()], b"[1]");
    assert_eq!((request.id, request.method, request.codec), (0, method_hash("Arith.Multiply"), JSON));
    assert_eq!((request.time_left_us, request.one_way, request.schema), (250_000, false, 0));
    let metadata = Metadata::check(&http.scratch()[request.metadata.range()]).unwrap();
    let expected = [("x-team", &b"Blue"[..]), ("b3", b"0"), ("traceparent", b"00-1")];
    assert_eq!(metadata.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn metadata_exclude_hop_by_hop_fields() {
    let fields = "Authorization: Bearer x\r\nX-Hop: 1\r\nConnection: keep-alive, x-hop\r\nTE: trailers\r\nKeep-Alive: 5\r\n";
    let mut rig = server();
    rig.feed(post(fields, "1").as_bytes());
    let metadata = Metadata::check(&rig.received[0].metadata).unwrap();
    assert_eq!(metadata.iter().collect::<Vec<_>>(), [("authorization", &b"Bearer x"[..])]);
}

#[test]
fn a_body_in_chunks_or_split_is_the_same_call() {
    let chunked = "POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\nX-A: b\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\n\r\n3;x=y\r\n[1,\r\n2\r\n2]\r\n0\r\nX-Trailer: no\r\n\r\n";
    let mut rig = server();
    rig.feed(chunked.as_bytes());
    rig.feed(post("X-A: b\r\n", "[1,2]").as_bytes());
    let [first, second] = &rig.received[..] else { panic!("{:?}", rig.received) };
    assert_eq!((&first.metadata, &first.body), (&second.metadata, &second.body));
    assert_eq!(first.body, b"[1,2]");
}

#[test]
fn each_invalid_request_has_its_status() {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let with = |method: &str, target: &str| format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let typed = |content_type: &str| post("", "1").replace("application/json", content_type);
    for (request, status, is_ended) in [
        (post("", "1"), 200, false),
        (post("", ""), 200, false),
        (post("", "").replace("Content-Type: application/json\r\n", ""), 200, false),
        ("POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200, false),
        ("POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\r\n".to_owned(), 415, false),
        (
            "POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n\r\n".to_owned(),
            415,
            false,
        ),
        (typed("application/json; charset=utf8"), 200, false),
        (typed("application/json; charset=\"UTF8\""), 200, false),
        (typed("application/json;CHARSET=Utf-8"), 200, false),
        (typed("application/json; charset=\"utf-8"), 415, false),
        (typed("application/json; charset=utf-16"), 415, false),
        (typed("Application/JSON ; charset=UTF-8"), 200, false),
        (typed("application/json;charset=\"utf-8\""), 200, false),
        (typed("application/json; x=y"), 200, false),
        (typed("application/json; charset=latin1"), 415, false),
        (typed("application/jsonx"), 415, false),
        (typed("application/proto"), 415, false),
        (typed("application/x-www-form-urlencoded; charset=utf-8"), 415, false),
        (typed("multipart/form-data"), 415, false),
        (typed("text/plain"), 415, false),
        (post("", "1").replace("Content-Type: application/json\r\n", ""), 415, false),
        (post("Content-Type: text/plain\r\n", "1"), 400, true),
        (post("Content-Encoding: identity\r\n", "1"), 200, false),
        (post("Content-Encoding: gzip\r\n", "1"), 415, false),
        (post("Connect-Protocol-Version: 1\r\n", "1"), 200, false),
        (post("Connect-Protocol-Version: 2\r\n", "1"), 400, false),
        (post("Connect-Timeout-Ms: 9999999999\r\n", "1"), 200, false),
        (post("Connect-Timeout-Ms: 99999999999\r\n", "1"), 400, false),
        (post("Connect-Timeout-Ms: -1\r\n", "1"), 400, false),
        (post("Connect-Timeout-Ms: +1\r\n", "1"), 400, false),
        (post("Connect-Timeout-Ms: 1.5\r\n", "1"), 400, false),
        (post("Connect-Timeout-Ms:\r\n", "1"), 400, false),
        (post("Expect: 200-ok\r\n", "1"), 417, true),
        (post("", "1").replace("/Multiply ", "/Multiply?a=b&a=b "), 200, false),
        (post("", "1").replace("Multiply", "Halve"), 404, false),
        (post("", "1").replace("/Arith/", "/"), 404, false),
        (post("", "1").replace("/Arith/", "/Nobody/"), 404, false),
        (post("", "1").replace("/Arith/", "//Arith/"), 404, false),
        (post("", "1").replace("/Arith/Multiply", "/a.b.C/Do"), 200, false),
        (post("", "1").replace("POST", "PUT"), 405, false),
        (post("", "1").replace("POST", "DELETE").replace("Multiply", "Halve"), 404, false),
        (post("", "1").replace("POST", "BREW"), 501, false),
        (post("", "1").replace("POST", "post"), 501, false),
        (post("", "1").replace("HTTP/1.1", "HTTP/2.0"), 505, true),
        (post("", "1").replace("HTTP/1.1", "HTTP/1.2"), 505, true),
        (post("", "1").replace("HTTP/1.1", "HTTP/0.9"), 505, true),
        (post("", "1").replace("HTTP/1.1", "HTTP/1.10"), 505, true),
        (post("", "1").replace("HTTP/1.1", "HTTP/3"), 505, true),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, true),
        (post("", "1").replace("HTTP/1.1", "HTTP/x"), 400, true),
        (post("", "1").replace("HTTP/1.1", "HTTP/1."), 400, true),
        (post("", "1").replace("HTTP/1.1", "HTTP/.1"), 400, true),
        (post("", "1").replace("HTTP/1.1", "http/1.1"), 400, true),
        (post("", "1").replace(" HTTP/1.1", ""), 400, true),
        (post("", "1").replace(" HTTP/1.1", " HTTP/1.1 "), 400, true),
        (post("", "1").replace("POST ", "POST  "), 400, true),
        (post("", "1").replace("POST ", " POST "), 400, true),
        (post("", "1").replace("POST ", "PO(ST "), 400, true),
        (post("", "1").replace("/Arith/Multiply", "/a.b.C/%44o"), 200, false),
        (post("", "1").replace("/Arith/Multiply", "/a%2eb%2EC/Do"), 200, false),
        (post("", "1").replace("/Arith/Multiply", "/a.b/C.Do"), 404, false),
        (post("", "1").replace("/Arith/Multiply", "/a/b.C.Do"), 404, false),
        (post("", "1").replace("/Arith/Multiply", "/a.b/C%2EDo"), 404, false),
        (post("", "1").replace("/Arith/Multiply", "/a.b.C%2FDo"), 404, false),
        (post("", "1").replace("/Arith/Multiply", "/a.b.C/Do/"), 404, false),
        (post("", "1").replace("/Arith/Multiply", "/a.b.C.Do"), 404, false),
        (post("", "1").replace("/Arith/Multiply", "/A.B.c/dO"), 404, false),
        (post("", "1").replace("/Arith/Multiply", "/W%C3%B6rter/Z%c3%a4hlen"), 200, false),
        (post("", "1").replace("/Arith/Multiply", "/W\u{f6}rter/Z\u{e4}hlen"), 400, true),
        (post("", "1").replace("/Arith/Multiply", "http://a/Arith/Multiply"), 200, false),
        (post("", "1").replace("/Arith/Multiply", "HTTP://a:80/Arith/Multiply?x"), 200, false),
        (post("", "1").replace("/Arith/Multiply", "Arith/Multiply"), 400, true),
        (
            post(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAI\r\n",
                "1",
            ),
            200,
            false,
        ),
        (post("", &"1".repeat(BODY_MAX)), 200, false),
        (post("", &"1".repeat(BODY_MAX + 1)), 413, false),
        (post("", &"1".repeat(2 * BODY_MAX)), 413, false),
        (post("", &"1".repeat(2 * BODY_MAX + 1)), 413, true),
        (get("/Users/Get"), 200, false),
        (get("/Users/Get?message=%5B1%5D&encoding=json&connect=v1"), 200, false),
        (get("/Users/Get?message=%5"), 400, false),
        (get("/Users/Get?message=1&encoding=proto"), 415, false),
        (get("/Users/Get?message=1&compression=gzip"), 415, false),
        (get(&format!("/Users/Get?message={}", "1".repeat(BODY_MAX + 1))), 413, true),
        (get("/Users/Get").replace("Host", "Content-Length: 1\r\nHost") + "1", 400, true),
        (get("/Users/Get").replace("Host", "Connect-Timeout-Ms: x\r\nHost"), 400, false),
        (get("/Arith/Multiply"), 405, false),
        (get("/Nobody/Get"), 404, false),
        (get("/page"), 200, false),
        (get("/page?x"), 200, false),
        (get("/pages"), 404, false),
        (with("POST", "/page"), 405, false),
        (with("TRACE", "/page"), 405, false),
        (with("OPTIONS", "/page"), 204, false),
        (with("OPTIONS", "/pages"), 404, false),
        (with("OPTIONS", "/"), 204, false),
        (with("OPTIONS", "http://a"), 204, false),
        (with("PROPFIND", "/page"), 501, false),
        (with("PROPFIND", "/none"), 501, false),
        ("OPTIONS / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(), 204, false),
        (with("OPTIONS", "/Arith/Multiply"), 204, false),
        (with("OPTIONS", "*"), 204, false),
        (with("CONNECT", "a:80"), 405, true),
        (with("GET", "/_goRPC_"), 405, false),
        (with("POST", "/_goRPC_"), 405, false),
    ] {
        let next = get("/page");
        let (statuses, ended) = statuses(format!("{request}{next}"));
        assert_eq!((statuses[0], ended), (status, is_ended), "{request}");
        assert_eq!(
            statuses.len(),
            if ended { 1 } else { 2 },
            "what follows is taken for what it is: {request}"
        );
    }
}

#[test]
fn the_type_of_curl_is_json_but_not_from_a_page() {
    let form =
        |fields: &str| post(fields, "[6,7]").replace("application/json", "application/x-www-form-urlencoded");
    let mut rig = server();
    rig.feed(form("").as_bytes());
    assert_eq!(rig.received[0].body, b"[6,7]");
    // A browser sends one of these with every POST, from any page.
    for fields in
        ["Origin: http://a\r\n", "origin: null\r\n", "Origin:\r\n", "Sec-Fetch-Site: same-origin\r\n"]
    {
        assert_eq!(statuses(form(fields)), (vec![415], false), "{fields}");
        assert_eq!(statuses(post(fields, "1")), (vec![200], false), "{fields}");
    }
}

#[test]
fn a_405_names_the_allowed_methods() {
    for (line, status, allow) in [
        ("PUT /Arith/Multiply", 405, Some("POST, OPTIONS")),
        ("GET /Arith/Multiply", 405, Some("POST, OPTIONS")),
        ("PUT /Users/Get", 405, Some("GET, HEAD, POST, OPTIONS")),
        ("PUT /page", 405, Some("GET, HEAD, OPTIONS")),
        ("PUT /Arith/Halve", 404, None),
        ("OPTIONS /Users/Get", 204, Some("GET, HEAD, POST, OPTIONS")),
        ("OPTIONS *", 204, Some("GET, HEAD, POST, OPTIONS")),
        // JSON-RPC is served there; without it, any method may be.
        (
            "OPTIONS /",
            204,
            Some(if cfg!(feature = "jsonrpc") { "POST, OPTIONS" } else { "GET, HEAD, POST, OPTIONS" }),
        ),
        ("PUT /_goRPC_", 405, Some("CONNECT")),
    ] {
        let (answers, _) = ask(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((answers[0].status, answers[0].field("Allow")), (status, allow), "{line}");
    }
    let (answers, _) = ask("PUT /_goRPC_ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answers[0].body, "405 must CONNECT\n");
}

#[test]
fn an_error_has_the_form_of_connect() {
    let mut rig = server();
    rig.held.extend_from_slice(post("", "1").repeat(3).as_bytes());
    while rig.next().is_some() {}
    rig.write_response(reply(0, Code::Cancelled, b"given up"));
    rig.write_response(reply(1, Code::NotFound, b"no \"user\" 7\n\xff"));
    rig.write_response(reply(2, Code::Internal, b""));
    let answers = rig.answers();
    let seen: Vec<_> = answers.iter().map(|answer| (answer.status, &answer.body[..])).collect();
    assert_eq!(
        seen,
        [
            (499, r#"{"code":"canceled","message":"given up"}"#),
            (404, "{\"code\":\"not_found\",\"message\":\"no \\\"user\\\" 7\\n\u{fffd}\"}"),
            (500, r#"{"code":"internal","message":""}"#),
        ]
    );
    assert!(answers.iter().all(|answer| answer.field("Content-Type") == Some("application/json")));
    let (answers, _) = ask(post("", "1").replace("Multiply", "Halve"));
    let body = r#"{"code":"unimplemented","message":"there is no method Arith.Halve here"}"#;
    assert_eq!(answers[0].body, body);
}

#[test]
fn the_time_left_is_read_from_connect() {
    let left = |millis: &str| {
        let mut rig = server();
        rig.feed(post(&format!("Connect-Timeout-Ms: {millis}\r\n"), "1").as_bytes());
        match &rig.received[0].message {
            Message::Request(request) => request.time_left_us,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((left("1"), left("0000000020")), (1000, 20_000));
    assert_eq!(left("0"), 1, "no time is not no deadline");
    assert_eq!(left("9999999999"), time_left_us(None), "what a call cannot state, it goes without");
}

#[test]
fn get_takes_its_argument_from_the_query() {
    let mut rig = server();
    for query in ["message=%7B%7D", "message=e30&base64=1&encoding=json&connect=v1", "", "other=1"] {
        rig.feed(format!("GET /Users/Get?{query} HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n").as_bytes());
    }
    let bodies: Vec<_> = rig.received.iter().map(|received| &received.body[..]).collect();
    assert_eq!(bodies, [&b"{}"[..], b"{}", b"", b""]);
    for received in &rig.received {
        assert_eq!(Metadata::check(&received.metadata).unwrap().find("x-a"), Some(&b"b"[..]));
    }
}

#[test]
fn head_is_get_without_the_body() {
    let mut rig = server();
    rig.feed(b"HEAD /Users/Get?message=%5B1%5D HTTP/1.1\r\nHost: a\r\n\r\n");
    let get = "GET /Users/Get?message=%5B1%5D HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = String::from_utf8(rig.written()).unwrap();
    assert_eq!(head, ask(get).0[0].head);
    assert!(head.contains("\r\nContent-Length: 3\r\n"));
    rig.feed(b"HEAD /page HTTP/1.1\r\nHost: a\r\n\r\nHEAD /none HTTP/1.1\r\nHost: a\r\n\r\n");
    let heads = String::from_utf8(rig.written()).unwrap();
    assert!(!heads.contains("# page") && !heads.contains("unimplemented"), "{heads}");
}

/// A client of HTTP/0.9 sends one line and waits.
#[test]
fn a_malformed_first_line_is_answered_at_once() {
    for (line, status) in [
        ("GET /\r\n", 400),
        ("GET\r\n", 400),
        ("GET /page HTTP/2\r\n", 505),
        ("GET /page HTTP/1.1\n", 400),
        ("hello world\r\n", 400),
        ("\r\nGET /\r\n", 400),
        // These do not need the end of a line.
        ("{\"id\":1", 400),
        ("\u{16}\u{3}\u{1}", 400),
        ("G\u{7f}", 400),
        (" ", 400),
    ] {
        assert_eq!(statuses(line), (vec![status], true), "{line:?}");
    }
    assert_eq!(statuses("GET /page HTTP/1.1\r\n"), (vec![], false));
}

#[test]
fn a_head_request_has_the_status_of_the_page() {
    let mut rig = server();
    rig.feed(b"HEAD /down HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = String::from_utf8(rig.written()).unwrap();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(ask("GET /down HTTP/1.1\r\nHost: a\r\n\r\n").0[0].body, "# page");
}

#[test]
fn http_10_closes_unless_keep_alive() {
    let post_10 = |fields: &str| post(fields, "1").replace("HTTP/1.1", "HTTP/1.0").replace("Host: a\r\n", "");
    let (answers, ended) = ask(post_10(""));
    assert!(ended && answers[0].closes());
    let (answers, ended) = ask(post_10("Connection: Keep-Alive\r\n"));
    assert_eq!((answers[0].field("Connection"), ended), (Some("keep-alive"), false));
    let (answers, ended) = ask(post_10("").replace("Content-Length: 1\r\n", ""));
    assert_eq!((answers[0].status, ended), (411, true));
    // An expectation has no meaning in HTTP/1.0.
    assert_eq!(statuses(post_10("Expect: x\r\nConnection: keep-alive\r\n")).0, [417]);
}

#[test]
fn connection_close_ends_after_its_answer() {
    let (answers, ended) = ask(post("Connection: close\r\n", "1") + &post("", "2"));
    assert!(ended && answers.len() == 1 && answers[0].closes());
}

#[test]
fn a_long_head_is_431_and_a_long_target_414() {
    let long = |bytes: usize| format!("GET /page HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(bytes));
    let rest = 400 - long(0).len();
    assert_eq!(statuses(long(rest)), (vec![200], false));
    assert_eq!(statuses(long(rest + 1)), (vec![431], true));
    let many = |count: usize| format!("GET /page HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(statuses(many(7)), (vec![200], false));
    assert_eq!(statuses(many(8)), (vec![431], true));
    assert_eq!(statuses(format!("GET /{} HTTP/1.1\r\n", "x".repeat(400))), (vec![414], true));
    let name = "x".repeat(256);
    assert_eq!(statuses(format!("GET /page HTTP/1.1\r\nHost: a\r\n{name}: y\r\n\r\n")), (vec![431], true));
}

#[test]
fn more_fields_than_the_stack_table_are_read() {
    let limits = Limits { http_headers_max: 500, ..Limits::default() };
    let side = Arc::new(ServerContext { site: Box::new(HttpTestDirectory), ..ServerContext::bare(limits) });
    let mut rig = Rig::new(Http::server(side));
    for count in [63, 64, 65, 300] {
        rig.feed(format!("GET /page HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1)).as_bytes());
        assert_eq!(rig.answers()[0].status, 200, "{count}");
    }
    rig.feed(format!("GET /page HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(500)).as_bytes());
    assert_eq!(rig.answers()[0].status, 431);
}

#[test]
fn continue_is_sent_only_for_a_missing_body() {
    let stream = post("Expect: 100-Continue\r\n", "[1]");
    let head = &stream.as_bytes()[..stream.len() - 3];
    let mut rig = server();
    rig.feed(head);
    assert_eq!(rig.written(), b"HTTP/1.1 100 Continue\r\n\r\n");
    rig.feed(b"[1]");
    assert_eq!(rig.answers()[0].body, "[1]");
    // The body has arrived, all of it or in part.
    assert_eq!(statuses(&stream), (vec![200], false));
    rig.feed(&stream.as_bytes()[..stream.len() - 1]);
    assert_eq!(rig.written(), b"");
    rig.feed(b"]");
    assert_eq!(rig.answers().len(), 1);
    // No body follows.
    assert_eq!(statuses(post("Expect: 100-continue\r\n", "")), (vec![200], false));
    // It is refused: the next bytes could be its body, or a request.
    let refused = [
        (post("Expect: 100-continue\r\n", "1").replace("Multiply", "Halve"), 404),
        (post("Expect: 100-continue\r\n", &"1".repeat(BODY_MAX + 1)), 413),
    ];
    for (stream, status) in refused {
        assert_eq!(statuses(&stream[..stream.find("\r\n\r\n").unwrap() + 4]), (vec![status], true));
    }
}

#[test]
fn configured_origins_may_call() {
    let field = |answer: &TestAnswer, name| answer.field(name).map(str::to_owned);
    let ask = |origins: &[&str], request: &str| {
        let mut rig = Rig::new(Http::server(side_with(origins)));
        rig.feed(request.as_bytes());
        rig.answers().remove(0)
    };
    let preflight = "OPTIONS /Arith/Multiply HTTP/1.1\r\nHost: a\r\nOrigin: http://x\r\nAccess-Control-Request-Method: POST\r\n\r\n";
    let call = post("Origin: http://x\r\n", "1");
    let allowed = "Access-Control-Allow-Origin";
    let off = ask(&[], preflight);
    assert_eq!((off.status, field(&off, allowed), field(&off, "Vary")), (204, None, None));
    let on = ask(&["http://y", "http://x"], preflight);
    assert_eq!(field(&on, allowed).as_deref(), Some("http://x"));
    assert_eq!(field(&on, "Access-Control-Max-Age").as_deref(), Some("7200"));
    assert!(field(&on, "Access-Control-Allow-Methods").unwrap().contains("POST"));
    assert!(field(&on, "Access-Control-Allow-Headers").unwrap().contains("Connect-Timeout-Ms"));
    let called = ask(&["http://y", "http://x"], &call);
    assert_eq!(field(&called, allowed).as_deref(), Some("http://x"));
    assert_eq!(field(&called, "Vary").as_deref(), Some("Origin"));
    let stranger = ask(&["http://y"], &call);
    assert_eq!((field(&stranger, allowed), field(&stranger, "Vary").as_deref()), (None, Some("Origin")));
    let stranger = ask(&["http://y"], preflight);
    assert_eq!((stranger.status, field(&stranger, "Access-Control-Max-Age")), (204, None));
    let all = ask(&["*"], &call);
    assert_eq!((field(&all, allowed).as_deref(), field(&all, "Vary")), (Some("*"), None));
    // A name longer than the room for a head.
    let long = format!("http://{}", "x".repeat(300));
    let called =
        ask(&[&long], &post(&format!("Origin: {long}\r\n"), "1").replace("Host: a\r\n", "Host:\r\n"));
    assert_eq!((field(&called, allowed), called.body.as_str()), (None, called.body.as_str()));
}
