//! An application's server over HTTP and the other protocols on its port: metadata, other origins, first bytes,
//! listeners.

use std::io::{Read, Write};

use crate::common::{Frame, Peer, eventually};
use coreloop::codec::Codec;
use coreloop::message::Metadata;
use coreloop::wire::{ProtocolId, ProtocolSet};
use coreloop::{Server, Status};

/// Returns a server whose one method answers with the metadata of its call.
fn builder() -> coreloop::server::ServerBuilder {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let all = move |metadata: Metadata<'_>| -> Vec<(String, String)> {
        metadata.iter().map(|(name, value)| (name.to_owned(), text(value))).collect()
    };
    Server::builder()
        .method("Tell.Metadata", move |cx, _: ()| Ok::<_, Status>(all(cx.metadata())))
        .method("Tell.Twice", |_, number: i64| Ok::<_, Status>(number * 2))
        .cores(1)
}

fn ask(peer: &mut Peer, request: &str, end: &str) -> String {
    peer.send_bytes(request.as_bytes());
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let mut byte = [0];
        peer.tcp().read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {answer:?}"));
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

fn post(method: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /Tell/{method} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn trace_headers_reach_the_handler() {
    let _turn = crate::common::shared();
    let server = builder().listen("127.0.0.1:0").start().unwrap();
    let mut peer = Peer::connect(&server.addresses()[0]);
    let fields = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nb3: 80f198ee56343ba8-e457b5a2e4d86bd1-1\r\n\
        X-B3-TraceId: 80f198ee56343ba8\r\nX-B3-SpanId: e457b5a2e4d86bd1\r\nX-B3-Sampled: 1\r\nAuthorization: Bearer t\r\n\
        Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\n";
    let answer = ask(&mut peer, &post("Metadata", fields, "null"), "]]");
    let expected = r#"[["traceparent","00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],["b3","80f198ee56343ba8-e457b5a2e4d86bd1-1"],["x-b3-traceid","80f198ee56343ba8"],["x-b3-spanid","e457b5a2e4d86bd1"],["x-b3-sampled","1"],["authorization","Bearer t"]]"#;
    assert_eq!(answer.rsplit_once("\r\n\r\n").unwrap().1, expected);
    server.shutdown();
}

#[test]
fn pages_of_the_configured_origins_may_call() {
    let _turn = crate::common::shared();
    let origin = "Origin: https://app.example\r\n";
    for (origins, allowed, varies) in [
        (&[][..], None, false),
        (&["https://other.example"], None, true),
        (&["https://other.example", "https://app.example"], Some("https://app.example"), true),
        (&["*"], Some("*"), false),
    ] {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let builder = builder().configure(|config| config.http.cors_origins = origins);
        let server = builder.listen("127.0.0.1:0").start().unwrap();
        let mut peer = Peer::connect(&server.addresses()[0]);
        let preflight = ask(
            &mut peer,
            &format!(
                "OPTIONS /Tell/Twice HTTP/1.1\r\nHost: a\r\n{origin}Access-Control-Request-Method: POST\r\n\r\n"
            ),
            "\r\n\r\n",
        );
        let called = ask(&mut peer, &post("Twice", origin, "21"), "\r\n\r\n42");
        for answer in [&preflight, &called] {
            let line = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name));
            assert_eq!(line("Access-Control-Allow-Origin: "), allowed, "{answer}");
            assert_eq!(line("Vary: ").is_some(), varies, "{answer}");
        }
        let methods = preflight.contains("Access-Control-Allow-Methods: ");
        assert_eq!(methods, allowed.is_some(), "{preflight}");
        server.shutdown();
    }
    let wrong = builder().configure(|config| config.http.cors_origins = vec!["app.example".into()]).start();
    assert!(wrong.err().unwrap().to_string().contains("http.cors_origins"));
}

/// Returns what a client of each protocol sends, and how the answer ends.
fn greetings() -> Vec<(ProtocolId, Vec<u8>, &'static [u8])> {
    let native = Frame::request(1, "Tell.Twice", Codec::Json, "21").bytes();
    let json = br#" {"jsonrpc":"2.0","id":1,"method":"Tell.Twice","params":[21]}"#.to_vec();
    vec![
        (ProtocolId::Native, native, b"42"),
        (ProtocolId::Http, post("Twice", "", "21").into_bytes(), b"\r\n\r\n42"),
        #[cfg(feature = "jsonrpc")]
        (ProtocolId::JsonRpc, json, b"42"),
    ]
}

/// Sends the bytes one at a time and reads up to `end`; returns false if the connection ends before.
fn greets(mut stream: impl Read + Write, hello: &[u8], end: &[u8]) -> bool {
    for byte in hello {
        if stream.write_all(&[*byte]).is_err() {
            return false;
        }
    }
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.windows(end.len()).any(|window| window == end) {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => return false,
        }
    }
    true
}

#[test]
fn every_protocol_is_detected_from_single_bytes() {
    let _turn = crate::common::shared();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix = format!("unix:{}", path.display());
    let server = builder().listen("127.0.0.1:0").listen(&unix).start().unwrap();
    for (protocol, hello, end) in greetings() {
        let tcp = Peer::connect(&server.addresses()[0]);
        assert!(greets(tcp.tcp(), &hello, end), "{protocol:?} over TCP");
        let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        assert!(greets(&stream, &hello, end), "{protocol:?} over a Unix socket");
    }
    server.shutdown();
}

#[test]
fn a_listener_serves_only_its_protocols() {
    let _turn = crate::common::shared();
    let greetings = greetings();
    for (allowed, _, _) in &greetings {
        let builder = builder()
            .listen(&format!("{}:127.0.0.1:0", allowed.name()))
            .listen_for("127.0.0.1:0", ProtocolSet::only(*allowed))
            .listen("127.0.0.1:0");
        let server = builder.start().unwrap();
        for (protocol, hello, end) in &greetings {
            let served: Vec<bool> = server
                .addresses()
                .iter()
                .map(|address| greets(Peer::connect(address).tcp(), hello, end))
                .collect();
            let is_it = protocol == allowed;
            assert_eq!(served, [is_it, is_it, true], "{protocol:?} where {allowed:?} is allowed");
        }
        let turned_away = 2 * (greetings.len() as u64 - 1);
        eventually("who was turned away is counted", || broken(&server) == turned_away);
        server.shutdown();
    }
}

fn broken(server: &Server) -> u64 {
    server.stats().closed("broken")
}

#[test]
fn unknown_protocols_are_closed_and_counted() {
    let _turn = crate::common::shared();
    let server = builder().listen("127.0.0.1:0").start().unwrap();
    for stranger in [&b"SSH-2.0-x"[..], b"\x16\x03\x01", b"HELP\r\n", b"\0"] {
        let mut peer = Peer::connect(&server.addresses()[0]);
        peer.send_bytes(stranger);
        peer.ends();
    }
    eventually("strangers are counted", || broken(&server) == 4);
    server.shutdown();
}

/// Returns a request of JSON-RPC 2.0.
#[cfg(feature = "jsonrpc")]
fn json_rpc(method: &str, id: u32) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":[{id}],"id":{id}}}"#)
}

#[cfg(feature = "jsonrpc")]
#[test]
fn a_json_rpc_batch_waits_for_calls_in_flight_and_goes_on() {
    let _turn = crate::common::serial();
    let rig = crate::common::rig::rig(|config| config.limits.in_flight_max = 8);
    let mut witness = rig.witness();
    let batch: Vec<String> = (1..=8).map(|id| json_rpc("Blocking.Gate", id)).collect();
    let batch = format!("[{}]", batch.join(","));
    let head = "POST /rpc HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let with_length = format!("{head}Content-Length: {}\r\n\r\n{batch}", batch.len());
    let in_chunks =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{batch}\r\n0\r\n\r\n", batch.len());
    let results: Vec<String> =
        (1..=8).map(|id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{id}}}"#)).collect();
    let results = format!("[{}]", results.join(","));
    for (round, stream) in (0..).zip([with_length, in_chunks]) {
        let mut peer = rig.peer();
        // Reading pauses within the second batch, and resumes when half of the calls have ended.
        peer.send_bytes(stream.repeat(2).as_bytes());
        rig.gate.wait_for(16 * round + 8);
        rig.gate.admit(6);
        rig.gate.wait_for(16 * round + 12);
        rig.gate.admit(10);
        for _ in 0..2 {
            assert!(ask(&mut peer, "", "}]").ends_with(&results));
        }
        witness.is_unharmed();
        assert!(rig.gate.inside_max() <= 8);
    }
    witness.assert_all_released();
}

#[cfg(feature = "jsonrpc")]
#[test]
fn json_rpc_batches_end_with_their_deadline_or_connection() {
    let _turn = crate::common::serial();
    let rig = crate::common::rig::rig(|_| {});
    let witness = rig.witness();
    let batch = format!("[{},{}]", json_rpc("Blocking.Gate", 1), json_rpc("Inline.Double", 2));
    let post = |fields: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{batch}",
            batch.len()
        )
    };
    // The connection ends while a call waits: the call is dropped with it.
    let mut peer = rig.peer();
    peer.send_bytes(post("").as_bytes());
    rig.gate.wait_for(1);
    drop(peer);
    let mut peer = rig.peer();
    let answer = ask(&mut peer, &post("Connect-Timeout-Ms: 20\r\n"), "}]");
    let body: serde_json::Value = serde_json::from_str(answer.rsplit_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body[0]["error"]["code"], &body[1]["result"]), (&(-32004).into(), &4.into()), "{answer}");
    drop(peer);
    rig.gate.open();
    witness.assert_all_released();
}
