//! The served binary over HTTP, called with curl.

mod common;

use std::fs;
use std::process::Command;

use common::Served;
use common::http::{curl, curled, has_tool};

fn url(server: &Served, path: &str) -> String {
    format!("http://{}{path}", server.address())
}

/// Status and body of a POST of JSON.
fn call(server: &Served, path: &str, body: &str) -> (String, String) {
    let url = url(server, path);
    let json = "Content-Type: application/json";
    let text = curled(&["-d", body, "-H", json, "-w", "\n%{http_code}", &url]);
    let (body, status) = text.rsplit_once('\n').expect("the status is on a line of its own");
    (status.to_owned(), body.to_owned())
}

#[test]
fn the_shortest_curl_line_answers() {
    if !has_tool("curl", "--version") {
        return;
    }
    let server = Served::start(&[]);
    let multiply = url(&server, "/Arith/Multiply");
    assert_eq!(curled(&["-d", r#"{"A":6,"B":7}"#, &multiply]), "42");
    // The headers that a browser adds.
    for field in ["Origin: http://elsewhere.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let text = curled(&["-d", r#"{"A":6,"B":7}"#, "-H", field, "-w", " %{http_code}", &multiply]);
        assert!(text.contains("application/json") && text.ends_with(" 415"), "{text}");
    }
    assert_eq!(curled(&["--json", r#"{"A":6,"B":7}"#, "-H", "Origin: null", &multiply]), "42");
    // Refusals are answers, too.
    assert_eq!(server.stop().summary("calls"), 5);
}

#[test]
fn every_demo_method_answers() {
    if !has_tool("curl", "--version") {
        return;
    }
    let server = Served::start(&[]);
    for (path, argument, reply) in [
        ("/Arith/Add", r#"{"A":6,"B":7}"#, "13"),
        ("/Arith/Add", r#"{"A":9223372036854775807,"B":1}"#, "-9223372036854775808"),
        ("/Arith/AddFixed", r#"{"A":6,"B":7}"#, "13"),
        ("/Arith/Divide", r#"{"A":-7,"B":2}"#, r#"{"Quo":-3,"Rem":-1}"#),
        ("/Echo/Echo", r#""é世\n""#, r#""é世\n""#),
        ("/Echo/Bytes", r#""AAEC/w==""#, r#""AAEC/w==""#),
        ("/Echo/Sleep", "1", "1"),
        ("/Users/List", "0", "[]"),
        ("/Health/Check", r#""Arith""#, r#""serving""#),
    ] {
        assert_eq!(call(&server, path, argument), ("200".to_owned(), reply.to_owned()), "{path} {argument}");
    }
    let user = r#"{"ID":5,"Name":"user-5 é世","Age":5,"Email":"u5@example.com","Tags":["tag0"],"Scores":{"s0":2.5,"s1":2.8333333333333335}}"#;
    assert_eq!(call(&server, "/Users/Get", "5").1, user);
    let get = url(&server, "/Users/Get?connect=v1&encoding=json&message=5");
    assert_eq!(curled(&[&get]), user);
    assert_eq!(curled(&["-G", "--data-urlencode", "message=5", &url(&server, "/Users/Get")]), user);
    let methods = call(&server, "/Meta/Methods", r#""""#).1;
    assert!(methods.contains("Arith.Multiply") && methods.contains("Product of the two"), "{methods}");
}

#[test]
fn curl_reads_a_stream_line_by_line() {
    if !has_tool("curl", "--version") {
        return;
    }
    let server = Served::start(&[]);
    let watch = url(&server, "/Users/Watch");
    let text = curled(&["-N", "-d", "3", "-w", "%{http_code} %{content_type}", &watch]);
    let (users, status) = text.rsplit_once('\n').unwrap();
    assert_eq!(status, "200 application/x-ndjson");
    let users: Vec<&str> = users.lines().collect();
    assert_eq!(users.len(), 3);
    assert!(users[2].starts_with(r#"{"ID":3,"Name":"user-3 é世""#), "{}", users[2]);
    assert_eq!(curled(&["-N", "-d", "0", "-w", "%{http_code}", &watch]), "200");
    assert_eq!(call(&server, "/Users/Watch", "-1").0, "400");
    // The deadline passes within the stream: curl reports that the body is incomplete.
    let late = ["-N", "-s", "-d", "100000000", "-H", "Connect-Timeout-Ms: 300", "-o", "/dev/null", &watch];
    let output = curl(&late);
    assert_eq!(output.status.code(), Some(18), "CURLE_PARTIAL_FILE: {output:?}");
    // curl that goes away ends its stream: nothing is left to wait for when the server stops.
    let first = Command::new("sh")
        .args(["-c", &format!("curl -sN -d 100000000 {watch} | head -n 1")])
        .output()
        .unwrap();
    assert!(first.stdout.starts_with(br#"{"ID":1,"#));
    assert_eq!(server.stop().code, Some(0));
}

/// Requests of curl, libraries and probes in addition to the plain call.
#[test]
fn requests_of_common_clients_are_answered() {
    if !has_tool("curl", "--version") {
        return;
    }
    let server = Served::start(&["--set", "http.application_name=Shop"]);
    let status = |args: &[&str], path: &str| {
        let url = url(&server, path);
        let text = curled(&[args, &["-o", "/dev/null", "-w", "%{http_code} %{http_version}", &url]].concat());
        text.strip_suffix(" 1.1").map(str::to_owned).unwrap_or(text)
    };
    for (args, path, wanted) in [
        (&["-X", "BREW"][..], "/Users/Get", "501"),
        (&["-X", "PROPFIND"], "/", "501"),
        (&["-X", "PUT", "-d", "1"], "/Users/Get", "405"),
        (&["-X", "POST"], "/Users/Get", "400"),
        (&["-X", "POST"], "/Health/Check", "200"),
        (&[], "/Users/Get", "400"),
        (&[], "/Health/Check", "200"),
        (&["-I"], "/Health/Check", "200"),
        (&["-I"], "/readyz", "200"),
        (&[], "/livez", "200"),
        (&[], "/healthz", "200"),
        (&["--http2", "-d", "1"], "/Users/Get", "200"),
        (&["-d", "1", "-H", "Content-Type: application/json; charset=utf8"], "/Users/Get", "200"),
        (&["-d", "1"], "/Users.Get", "404"),
        (&["-d", "1"], "/Users/Get/", "404"),
        (&["-d", "1"], "/Users/%47et", "200"),
        (&["-X", "OPTIONS", "--request-target", "*"], "/", "204"),
    ] {
        assert_eq!(status(args, path), wanted, "{args:?} {path}");
    }
    assert!(curled(&[&url(&server, "/")]).contains("<title>Shop</title>"));
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn errors_have_the_status_of_their_code() {
    if !has_tool("curl", "--version") {
        return;
    }
    let server = Served::start(&[]);
    for (path, argument, status, code, message) in [
        ("/Arith/Divide", r#"{"A":1,"B":0}"#, "400", "invalid_argument", "divide by zero"),
        ("/Arith/Divide", r#"{"A":1}"#, "400", "invalid_argument", "B"),
        ("/Arith/Divide", "{", "400", "invalid_argument", ""),
        ("/Users/List", "-1", "400", "out_of_range", "n out of range"),
        ("/Echo/Sleep", "60001", "400", "out_of_range", "60001"),
        ("/Arith/Halve", "1", "404", "unimplemented", "Arith.Halve"),
        ("/Nobody/Home", "1", "404", "unimplemented", "Nobody"),
        ("/Arith", "1", "404", "unimplemented", "/Service/Method"),
    ] {
        let (came, body) = call(&server, path, argument);
        let error: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
        assert_eq!(
            (came.as_str(), error["code"].as_str()),
            (status, Some(code)),
            "{path} {argument}: {body}"
        );
        assert!(error["message"].as_str().expect("a message").contains(message), "{body}");
    }
    let late = curled(&[
        "-d",
        "60000",
        "-H",
        "Connect-Timeout-Ms: 30",
        "-w",
        " %{http_code}",
        &url(&server, "/Echo/Sleep"),
    ]);
    assert!(late.contains(r#""code":"deadline_exceeded""#) && late.ends_with(" 504"), "{late}");
}

#[test]
fn metadata_comes_back_as_headers_and_trailers_and_a_failure_has_a_detail() {
    if !has_tool("curl", "--version") {
        return;
    }
    let server = Served::start(&[]);
    let entries = ["-H", "Echo-A: 1", "-H", "Trail-B: 2", "-H", "Other: 3"];
    let json = ["-i", "-H", "Content-Type: application/json"];
    let answer = curled(&[&["-d", "\"x\""][..], &entries, &json, &[&url(&server, "/Echo/Meta")]].concat());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let fields: Vec<&str> =
        head.lines().filter(|line| line.contains("cho-") || line.contains("rail")).collect();
    assert_eq!((fields, body), (vec!["echo-a: 1", "Trailer-trail-b: 2"], "\"x\""), "{head}");
    let (status, body) = call(&server, "/Echo/Fail", r#"{"Code":5,"Message":"no tea"}"#);
    let detail = r#"{"type":"google.rpc.ErrorInfo","value":"CgZXQU5URUQSDWNvcmVsb29wLmRlbW8aEQoEY29kZRIJbm90X2ZvdW5k","debug":{"reason":"WANTED","domain":"coreloop.demo","metadata":{"code":"not_found"}}}"#;
    let expected = format!(r#"{{"code":"not_found","message":"no tea","details":[{detail}]}}"#);
    assert_eq!((&*status, body), ("404", expected));
    let (status, body) = call(&server, "/Echo/Fail", r#"{"Code":0,"Message":""}"#);
    assert!(status == "400" && body.contains("expected 1 to 16, found 0"), "{body}");
    let rpc = r#"{"jsonrpc":"2.0","method":"Echo.Fail","params":[{"Code":5,"Message":"no tea"}],"id":1}"#;
    let (_, body) = call(&server, "/rpc", rpc);
    assert!(body.contains(&format!(r#""data":{{"code":"not_found","details":[{detail}]}}"#)), "{body}");
}

#[test]
fn a_large_body_is_continued_and_echoed() {
    if !has_tool("curl", "--version") {
        return;
    }
    let server = Served::start(&["--set", "limits.frame_bytes_max=4MiB"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: usize| {
        let path = folder.path().join(name);
        fs::write(&path, format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
        format!("@{}", path.display())
    };
    let echo = url(&server, "/Echo/Echo");
    let (large, larger, largest) = (file("a", 3 << 20), file("b", (4 << 20) + 1), file("c", 9 << 20));
    // For bodies above a mebibyte curl sends `Expect: 100-continue` by itself.
    for more in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["-0"], &["-H", "Expect:"]] {
        let args = [&["-v", "--data-binary", &large, "-o", "-", &echo], more].concat();
        let output = curl(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{more:?}: {said}");
        assert!(output.stdout.len() == 3 << 20 && output.stdout.ends_with(b"x\""), "{more:?}");
        if more.is_empty() {
            assert!(said.contains("< HTTP/1.1 100 Continue"), "{said}");
        }
    }
    for body in [&larger, &largest] {
        for more in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect:"]] {
            // The answer must arrive, even if the body is not read to its end.
            let output = curl(&[&["--data-binary", body, "-w", " %{http_code}", &echo], more].concat());
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("resource_exhausted") && text.ends_with(" 413"), "{more:?}: {text}");
        }
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn connections_are_kept_or_closed_as_requested() {
    if !has_tool("curl", "--version") {
        return;
    }
    let server = Served::start(&[]);
    let add = url(&server, "/Arith/Add");
    let both = |more: &[&str]| {
        let one = ["-d", r#"{"A":1,"B":1}"#, "-w", " %{num_connects} %{http_version}\n", &add];
        curled(&[more, &one, &["--next", "-s"], more, &one].concat())
    };
    assert_eq!(both(&[]), "2 1 1.1\n2 0 1.1\n");
    assert_eq!(both(&["-H", "Connection: close"]), "2 1 1.1\n2 1 1.1\n");
    assert_eq!(both(&["-0"]), "2 1 1.1\n2 1 1.1\n");
    assert_eq!(both(&["-0", "-H", "Connection: keep-alive"]), "2 1 1.1\n2 0 1.1\n");
    let head = curled(&["-I", &url(&server, "/")]);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/html"), "{head}");
    assert!(curled(&[&url(&server, "/")]).contains("<title>"));
    let options = curled(&["-X", "OPTIONS", "-i", &add]);
    assert!(
        options.starts_with("HTTP/1.1 204 ") && options.contains("Allow: POST, OPTIONS\r\n"),
        "{options}"
    );
    // The page, with HEAD and with GET, counts too.
    assert_eq!(server.stop().summary("calls"), 10);
}

#[test]
fn unix_and_http_only_listeners_answer_curl() {
    if !has_tool("curl", "--version") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (socket, listen) = (path.to_str().unwrap(), format!("http:unix:{}", path.display()));
    let server = Served::start_command(common::coreloop(&["serve", "--listen", &listen]), 1);
    let answer =
        curled(&["--unix-socket", socket, "-d", r#"{"A":6,"B":7}"#, "http://localhost/Arith/Multiply"]);
    assert_eq!(answer, "42");
    assert_eq!(common::run(&["call", server.address(), "Arith.Add", r#"{"A":6,"B":7}"#]).code, Some(1));
    assert_eq!(server.stop().code, Some(0));
}
