//! Routes: plain HTTP requests beside calls, on real sockets and by curl.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coreloop::codec::Codec;
use coreloop::interceptor::{Admit, AdmitCall, EndPlace, EndedCall, Hooks, Interceptor};
use coreloop::protocol::Chunk;
use coreloop::route::{HttpMethod, RouteRequest, RouteResponse};
use coreloop::server::ServerBuilder;
use coreloop::service::Kind;
use coreloop::{Code, Context, Peer, Server, Status};

use crate::common::{Frame, Peer as RawPeer, shared};

const BODY_BYTES_MAX: usize = 64 << 10;

/// Answers with everything that it has received.
fn echo(cx: &Context<'_>, request: RouteRequest<'_>) -> Result<RouteResponse, Status> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |name| request.header(name).map(text).unwrap_or_default();
    assert!(matches!(request.peer(), Peer::Tcp(_)) && cx.method().contains(' '));
    Ok(RouteResponse::text(format!(
        "{} {} name={} rest={} query={} a={} type={} x={} host={} head={} body={}\n",
        request.method(),
        request.path(),
        request.capture("name").unwrap_or("-"),
        request.capture("rest").unwrap_or("-"),
        request.query(),
        request.query_value("a").unwrap_or_default(),
        header("Content-Type"),
        header("x-name"),
        header("host"),
        request.is_head(),
        text(request.body()),
    )))
}

fn builder() -> ServerBuilder {
    let large = Chunk::from(vec![b'l'; 200_000]);
    Server::builder()
        .method("Arith.Double", |_: &Context<'_>, number: i64| Ok::<_, Status>(number * 2))
        .route(HttpMethod::Post, "/hooks/{name}", echo)
        .route_of_kind(HttpMethod::Get, "/inline/{name}", Kind::Inline, echo)
        .route_of_kind(HttpMethod::Get, "/static/{rest..}", Kind::Blocking, echo)
        .route_of_kind(HttpMethod::Delete, "/static/{rest..}", Kind::Blocking, echo)
        .route(HttpMethod::Get, "/large", move |_, _| {
            Ok(RouteResponse::new(200)?.header("Content-Type", "x/large")?.body(large.clone()))
        })
        .route(HttpMethod::Get, "/moved", |_, _| {
            Ok(RouteResponse::new(308)?
                .header("Location", "/large")?
                .header("X-Two", "1")?
                .header("X-Two", "2")?)
        })
        .route(HttpMethod::Get, "/unchanged", |cx, _| {
            cx.set_header("etag", "\"1\"")?;
            Ok(RouteResponse::new(304)?)
        })
        .route(HttpMethod::Get, "/odd", |_, _| Ok(RouteResponse::text("odd").status(299)?))
        .route(HttpMethod::Get, "/refused", |_, _| Err(Status::permission_denied("not for you")))
        .route(HttpMethod::Get, "/panics", |_, _| panic!("{}", crate::common::rig::ON_PURPOSE))
        .route(HttpMethod::Get, "/split", |_, request| {
            let name = request.query_value("name").unwrap_or_default();
            Ok(RouteResponse::no_content().header("X-Name", name.as_bytes())?)
        })
        .route_of_kind(HttpMethod::Get, "/waits", Kind::Blocking, |cx, _| {
            cx.sleep(Duration::from_secs(30))?;
            Ok(RouteResponse::no_content())
        })
        .configure(|config| config.limits.frame_bytes_max = BODY_BYTES_MAX)
        .cores(1)
        .listen("127.0.0.1:0")
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.addresses()[0].to_string()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Reads a head, and the body that its length announces unless the response has none.
fn next(stream: &mut TcpStream, has_body: bool) -> (String, Vec<u8>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after {:?}", head.escape_ascii()));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.filter(|_| has_body).map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// Sends a request without a body, and returns status line and body.
fn get(server: &Server, line: &str) -> (String, String) {
    let mut stream = connect(server);
    stream.write_all(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let (head, body) = next(&mut stream, !line.starts_with("HEAD"));
    let status = head.lines().next().unwrap().to_owned();
    (status, String::from_utf8(body).unwrap())
}

const HOOK: &str =
    "POST /hooks/git%20hub?a=1+2&b=%C3%A4 HTTP/1.1\r\nHost: h:1\r\nContent-Type: x/y\r\nX-Name: n\r\n";
const HOOK_ANSWER: &str = "POST /hooks/git%20hub name=git hub rest=- query=a=1+2&b=%C3%A4 a=1 2 type=x/y x=n host=h:1 \
    head=false body=some bytes\n";

#[test]
fn a_request_reaches_its_route_however_its_bytes_are_split() {
    let _turn = shared();
    let server = builder().start().unwrap();
    let requests = [
        format!("{HOOK}Content-Length: 10\r\n\r\nsome bytes"),
        format!("{HOOK}Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n6\r\n bytes\r\n0\r\n\r\n"),
    ];
    let mut stream = connect(&server);
    for request in &requests {
        // The same head twice: the second one is recognized without being parsed.
        for _ in 0..2 {
            stream.write_all(request.as_bytes()).unwrap();
            let (head, body) = next(&mut stream, true);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"), "{head}");
            assert_eq!(String::from_utf8(body).unwrap(), HOOK_ANSWER);
        }
        for byte in request.as_bytes() {
            stream.write_all(&[*byte]).unwrap();
        }
        assert_eq!(String::from_utf8(next(&mut stream, true).1).unwrap(), HOOK_ANSWER);
    }
    // A target with scheme and host.
    stream.write_all(b"GET http://h/inline/b?a=2 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let body = String::from_utf8(next(&mut stream, true).1).unwrap();
    assert!(body.starts_with("GET /inline/b name=b rest=- query=a=2 a=2 "), "{body}");
    let stats = server.shutdown();
    let of = |name: &str| stats.methods.iter().find(|method| method.name == name).unwrap().answers.clone();
    assert_eq!(of("POST /hooks/{name}"), [("ok", 6)]);
    assert_eq!(of("GET /inline/{name}"), [("ok", 1)]);
}

#[test]
fn routes_calls_and_pages_are_pipelined_on_one_connection() {
    let _turn = shared();
    let server = builder().start().unwrap();
    let mut stream = connect(&server);
    let call = "POST /Arith/Double HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n21";
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let all = [
        get("/static/a"),
        call.to_owned(),
        get("/inline/b"),
        format!("{HOOK}Content-Length: 10\r\n\r\nsome bytes"),
        get("/livez"),
        get("/nothing"),
        "HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        get("/unchanged"),
        get("/large"),
        call.to_owned(),
    ];
    for _ in 0..3 {
        stream.write_all(all.concat().as_bytes()).unwrap();
        let mut body = |status: &str| {
            let (head, body) = next(&mut stream, true);
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
            String::from_utf8(body).unwrap()
        };
        assert!(body("200 OK").starts_with("GET /static/a name=- rest=a "));
        assert_eq!(body("200 OK"), "42");
        assert!(body("200 OK").starts_with("GET /inline/b name=b "));
        assert_eq!(body("200 OK"), HOOK_ANSWER);
        assert_eq!(body("200 OK"), "ok\n");
        assert!(body("404 Not Found").contains("unimplemented"));
        let (head, _) = next(&mut stream, false);
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Length: 200000\r\n"),
            "{head}"
        );
        let (head, _) = next(&mut stream, false);
        assert!(
            head.starts_with("HTTP/1.1 304 Not Modified\r\n") && head.contains("\r\netag: \"1\"\r\n"),
            "{head}"
        );
        assert!(!head.contains("Content-Length"), "{head}");
        let (head, body) = next(&mut stream, true);
        assert!(head.contains("\r\nContent-Type: x/large\r\n") && body == [b'l'; 200_000], "{head}");
        assert_eq!(next(&mut stream, true).1, b"42");
    }
    server.shutdown();
}

#[test]
fn other_methods_are_405_and_options_lists_those_of_the_path() {
    let _turn = shared();
    let server = builder().configure(|config| config.http.cors_origins = vec!["*".into()]).start().unwrap();
    let mut stream = connect(&server);
    let mut ask = |request: &str, has_body| {
        stream.write_all(format!("{request}Host: a\r\n\r\n").as_bytes()).unwrap();
        next(&mut stream, has_body).0
    };
    for (method, allow) in [
        ("PUT /static/a", "GET, HEAD, DELETE, OPTIONS"),
        ("TRACE /static/a", "GET, HEAD, DELETE, OPTIONS"),
        ("POST /large", "GET, HEAD, OPTIONS"),
        ("GET /hooks/a", "POST, OPTIONS"),
        ("HEAD /hooks/a", "POST, OPTIONS"),
    ] {
        let head = ask(&format!("{method} HTTP/1.1\r\n"), !method.starts_with("HEAD"));
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{method}: {head}");
        assert!(head.contains(&format!("\r\nAllow: {allow}\r\n")), "{method}: {head}");
    }
    let head = ask("DELETE /static/a HTTP/1.1\r\n", true);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let head = ask("OPTIONS /static/a HTTP/1.1\r\n", true);
    assert!(head.starts_with("HTTP/1.1 204 No Content\r\n"), "{head}");
    assert!(head.contains("\r\nAllow: GET, HEAD, DELETE, OPTIONS\r\n"), "{head}");
    let preflight =
        "OPTIONS /static/a HTTP/1.1\r\nOrigin: https://b\r\nAccess-Control-Request-Method: DELETE\r\n";
    let head = ask(preflight, true);
    assert!(head.contains("\r\nAccess-Control-Allow-Methods: GET, HEAD, DELETE\r\n"), "{head}");
    server.shutdown();
}

#[test]
fn only_one_spelling_of_a_path_is_served_and_none_leaves_its_folder() {
    let _turn = shared();
    let server = builder().start().unwrap();
    for path in [
        "/static",
        "/static/../secret",
        "/static/..",
        "/static/a/../../secret",
        "/static/%2e%2e/secret",
        "/static/..%2fsecret",
        "/static/a%5cb",
        "/static/a\\b",
        "/static//a",
        "/static/./a",
        "/static/%00",
        "/static/%ff",
        "/static/%",
        "/statiC/a",
        "/static%2Fa",
        "/inline/",
        "/inline/a/b",
        "/inline/a%2Fb",
        "//inline/a",
    ] {
        assert_eq!(get(&server, &format!("GET {path}")).0, "HTTP/1.1 404 Not Found", "{path}");
    }
    for (path, rest) in [
        ("/static/", ""),
        ("/%73tatic/a%20b/c.txt", "a b/c.txt"),
        ("/static/a/", "a/"),
        ("/static/..a", "..a"),
    ] {
        let (status, body) = get(&server, &format!("GET {path}"));
        assert!(
            status.ends_with("200 OK") && body.contains(&format!(" rest={rest} query=")),
            "{path}: {body}"
        );
    }
    server.shutdown();
}

#[test]
fn limits_are_those_of_calls() {
    let _turn = shared();
    let server = builder().configure(|config| config.limits.reply_bytes_max = 100_000).start().unwrap();
    let mut stream = connect(&server);
    for (bytes, status) in
        [(BODY_BYTES_MAX, "200 OK"), (BODY_BYTES_MAX + 1, "413 Content Too Large"), (1, "200 OK")]
    {
        let body = "b".repeat(bytes);
        let request = format!("POST /hooks/a HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let (head, _) = next(&mut stream, true);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{bytes}: {head}");
    }
    // A chunked body is refused where it passes the limit.
    let chunk = format!("{:x}\r\n{}\r\n", 40_000, "b".repeat(40_000));
    let chunked =
        format!("POST /hooks/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}");
    stream.write_all(chunked.as_bytes()).unwrap();
    assert!(next(&mut stream, true).0.starts_with("HTTP/1.1 413 "));
    assert_eq!(get(&server, "GET /large").0, "HTTP/1.1 429 Too Many Requests");
    // A body of a GET can hide a request from a recipient that ignores it.
    let mut stream = connect(&server);
    stream.write_all(b"GET /inline/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nb").unwrap();
    assert!(next(&mut stream, true).0.starts_with("HTTP/1.1 400 "));
    // In HTTP/1.0 a POST has a length, and the end of the connection is the default.
    let mut stream = connect(&server);
    stream.write_all(b"POST /hooks/a HTTP/1.0\r\n\r\n").unwrap();
    assert!(next(&mut stream, true).0.starts_with("HTTP/1.1 411 "));
    // Another expectation.
    let mut stream = connect(&server);
    stream
        .write_all(b"POST /hooks/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: more\r\n\r\n")
        .unwrap();
    assert!(next(&mut stream, true).0.starts_with("HTTP/1.1 417 "));
    let mut stream = connect(&server);
    let expects = b"POST /hooks/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(expects).unwrap();
    assert_eq!(next(&mut stream, false).0, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"b").unwrap();
    assert!(next(&mut stream, true).0.starts_with("HTTP/1.1 200 "));
    server.shutdown();
}

#[test]
fn failures_are_those_of_calls_and_no_value_splits_a_response() {
    let _turn = shared();
    let server = builder().start().unwrap();
    let (status, body) = get(&server, "GET /refused");
    let json = r#"{"code":"permission_denied","message":"not for you"}"#;
    assert_eq!((&*status, &*body), ("HTTP/1.1 403 Forbidden", json));
    assert_eq!(get(&server, "GET /panics").0, "HTTP/1.1 500 Internal Server Error");
    assert_eq!(get(&server, "GET /odd"), ("HTTP/1.1 299 ".to_owned(), "odd".to_owned()));
    let mut stream = connect(&server);
    stream.write_all(b"GET /moved HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (head, _) = next(&mut stream, true);
    assert!(head.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{head}");
    assert!(head.contains("\r\nLocation: /large\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 0\r\n"), "{head}");
    for (name, status) in [("plain", "204 No Content"), ("a%0d%0aX-Own:%20b", "500 Internal Server Error")] {
        stream.write_all(format!("GET /split?name={name} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let (head, body) = next(&mut stream, true);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")) && !head.contains("\r\nX-Own"), "{head}");
        assert_eq!(body.is_empty(), name == "plain");
    }
    // The deadline of the caller ends the wait.
    stream.write_all(b"GET /waits HTTP/1.1\r\nHost: a\r\nConnect-Timeout-Ms: 20\r\n\r\n").unwrap();
    assert!(next(&mut stream, true).0.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"));
    let stats = server.shutdown();
    assert_eq!((stats.panics, stats.response_entries_dropped), (1, 0));
}

#[test]
fn only_http_reaches_a_route() {
    let _turn = shared();
    let server = builder().start().unwrap();
    let mut peer = RawPeer::connect(&server.addresses()[0]);
    for codec in [Codec::Raw, Codec::Json] {
        let frame = Frame::request(1, "GET /inline/{name}", codec, "");
        let frame = frame.with(":method", b"GET").with(":path", b"/inline/a");
        peer.ask(&frame).is(1, Code::Unimplemented, "there is no method");
        peer.ask(&frame.named(b"GET /inline/{name}")).is(1, Code::Unimplemented, "there is no method");
    }
    let mut stream = connect(&server);
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"GET /inline/{name}","params":[]}"#;
    let length = text.len();
    let request = format!(
        "POST /rpc HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let answer = String::from_utf8(next(&mut stream, true).1).unwrap();
    assert!(answer.contains("-32601"), "{answer}");
    // The lists of methods do not have it.
    let (_, methods) = get(&server, "GET /Meta/Methods");
    assert!(methods.contains("Arith.Double") && !methods.contains("/inline/"), "{methods}");
    let (_, document) = get(&server, "GET /openapi.json");
    assert!(document.contains("/Arith/Double") && !document.contains("/inline/"), "{document}");
    server.shutdown();
}

/// Refuses requests without a token, and notes the ends.
struct Guard(Mutex<Vec<(String, Code, EndPlace)>>);

impl Interceptor for Guard {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT | Hooks::ON_END
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        assert!(call.metadata().find(":path").is_some_and(|path| path.starts_with(b"/static/")));
        match call.metadata().find("authorization") {
            Some(b"Bearer t") => Admit::Continue,
            _ => Admit::Refuse(Status::unauthenticated("no token")),
        }
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        let name = end.method_name.unwrap_or_default().to_owned();
        self.0.lock().unwrap().push((name, end.code, end.place));
    }
}

#[test]
fn interceptors_see_the_requests_of_routes() {
    let _turn = shared();
    let guard = Arc::new(Guard(Mutex::default()));
    let server = builder().interceptor_for("GET /static/*", guard.clone()).start().unwrap();
    let mut stream = connect(&server);
    for (fields, status) in [("", "401 Unauthorized"), ("Authorization: Bearer t\r\n", "200 OK")] {
        stream.write_all(format!("GET /static/a HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        let (head, _) = next(&mut stream, true);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
    }
    assert!(get(&server, "GET /inline/a").0.ends_with("200 OK"));
    server.shutdown();
    let name = || "GET /static/{rest..}".to_owned();
    let ends = [(name(), Code::Unauthenticated, EndPlace::Refused), (name(), Code::Ok, EndPlace::Worker)];
    assert_eq!(*guard.0.lock().unwrap(), ends);
}

#[test]
fn routes_that_cannot_be_served_are_errors_at_the_start() {
    let nothing = |_: &Context<'_>, _: RouteRequest<'_>| Ok(RouteResponse::no_content());
    let error = |routes: &[&str]| {
        let builder =
            routes.iter().fold(builder(), |builder, path| builder.route(HttpMethod::Get, path, nothing));
        builder.start().err().unwrap().to_string()
    };
    for (routes, parts) in [
        (&["/a/{b}/c", "/a/b/{c}"][..], &["GET /a/{b}/c", "GET /a/b/{c}"][..]),
        (&["/large"], &["GET /large"]),
        (&["/Arith/Double"], &["GET /Arith/Double", "Arith.Double"]),
        (&["/livez"], &["GET /livez", "built-in page /livez"]),
        (&["/"], &["GET /", "built-in page /"]),
        (&["/a/../b"], &["GET /a/../b", "`..`"]),
    ] {
        let text = error(routes);
        assert!(parts.iter().all(|part| text.contains(part)), "{routes:?}: {text}");
    }
    let text = builder()
        .route_of_kind(HttpMethod::Get, "/a", Kind::Async, nothing)
        .start()
        .err()
        .unwrap()
        .to_string();
    assert!(text.contains("GET /a") && text.contains("async"), "{text}");
    // Without the console the first page is free.
    let server = builder().console(false).route(HttpMethod::Get, "/", nothing).start().unwrap();
    assert_eq!(get(&server, "GET /").0, "HTTP/1.1 204 No Content");
    let mut stream = connect(&server);
    stream.write_all(b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let head = next(&mut stream, true).0;
    assert!(head.contains("\r\nAllow: GET, HEAD, POST, OPTIONS\r\n"), "{head}");
    server.shutdown();
}

#[test]
fn curl_posts_a_webhook_and_gets_a_file() {
    let _turn = shared();
    let server = builder().start().unwrap();
    let address = server.addresses()[0].to_string();
    let curl = |args: &[&str], path: &str| {
        let url = format!("http://{address}{path}");
        let out = Command::new("curl").args(["-sS", "--max-time", "30"]).args(args).arg(url).output();
        let out = out.expect("curl is installed");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let body = curl(&["-d", "some bytes"], "/hooks/a?a=b");
    assert!(body.contains("name=a rest=- query=a=b a=b type=application/x-www-form-urlencoded"), "{body}");
    assert!(body.ends_with("body=some bytes\n"), "{body}");
    assert_eq!(curl(&[], "/large").len(), 200_000);
    let head = curl(&["-I"], "/large");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("Content-Length: 200000"), "{head}");
    assert_eq!(curl(&["-L"], "/moved").len(), 200_000);
    assert!(curl(&["-i", "--path-as-is"], "/static/../large").starts_with("HTTP/1.1 404"));
    assert!(curl(&["-i", "-X", "PATCH"], "/large").starts_with("HTTP/1.1 405"));
    server.shutdown();
}
