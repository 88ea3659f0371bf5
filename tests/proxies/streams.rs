//! Streams, and calls of gRPC, behind proxies: handlers see the client, not the proxy, as handlers of ordinary calls do.

use std::io::{Read, Write};
use std::process::Command;

use coreloop::codec::Plain;
use coreloop::config::Config;
use coreloop::route::{HttpMethod, RouteResponse};
use coreloop::service::{Kind, Method};
use coreloop::{Code, Context, Server, Sink};

use crate::common::{Frame, Peer, eventually, kind, shared};
use crate::served::{CLIENT, NotedPeers, V1, V2, builder, connect};

const KINDS: [(&str, Kind); 3] =
    [("Inline", Kind::Inline), ("Pooled", Kind::Pooled), ("Blocking", Kind::Blocking)];

/// Starts a server whose streams send the peer of their call.
fn streaming(noted: &NotedPeers, change: impl FnOnce(&mut Config)) -> Server {
    let mut builder = builder(change).interceptor(noted.clone());
    for (name, kind) in KINDS {
        let send = |cx: &Context<'_>, _: i64, sink: Sink<String>| Ok(sink.try_send(&cx.peer().to_string())?);
        let results = Method::server_stream::<Plain<i64>, Plain<String>>(format!("{name}.Results"), send);
        let take = Method::client_stream_deferring::<Plain<i64>, Plain<String>>(
            format!("{name}.Arguments"),
            |cx, _numbers, reply| reply.send(Ok(cx.peer().to_string())),
        );
        let chat =
            Method::bidirectional::<Plain<i64>, Plain<String>>(format!("{name}.Both"), |cx, _, sink| {
                Ok(sink.try_send(&cx.peer().to_string())?)
            });
        builder = builder.method_of(results.unwrap().kind(kind).idempotent());
        for method in [take, chat] {
            builder = builder.method_of(method.unwrap().kind(kind));
        }
    }
    builder
        .route_stream(HttpMethod::Get, "/peer", |cx, request, sink| {
            sink.begin(RouteResponse::event_stream())?;
            sink.send_event("context", &cx.peer().to_string())?;
            Ok(sink.send_event("request", &request.peer().to_string())?)
        })
        .start()
        .unwrap()
}

/// Asserts that interceptors have seen the client at the admission and at the end of one call.
#[track_caller]
fn has_noted(noted: &NotedPeers, client: &str) {
    eventually("the call has ended", || noted.len() == 2);
    assert_eq!(noted.take(), [client; 2]);
}

#[test]
fn streams_behind_a_header_have_its_client() {
    let _turn = shared();
    let noted = NotedPeers::default();
    let server = streaming(&noted, |config| config.proxy_protocol.from = vec!["127.0.0.1".to_owned()]);
    for header in [V1, V2] {
        let mut stream = connect(&server);
        stream.write_all(header).unwrap();
        let mut peer = Peer::of_tcp(stream);
        for (at, (name, _)) in KINDS.into_iter().enumerate() {
            for (more, method) in ["Results", "Arguments", "Both"].into_iter().enumerate() {
                let mut call = Frame::call((at * 3 + more) as u64 + 1, &format!("{name}.{method}"), 1);
                if method != "Results" {
                    // The argument is a stream.
                    (call.flags, call.body) = (2, Vec::new());
                }
                peer.send(&call);
                let mut found = Vec::new();
                let status = loop {
                    let answer = peer.answer();
                    if !answer.body.is_empty() && answer.kind != kind::WINDOW {
                        found.push(answer.text().trim_matches('"').to_owned());
                    }
                    if answer.kind == kind::REPLY {
                        break answer.code();
                    }
                };
                assert_eq!((status, found), (Code::Ok, vec![CLIENT.to_owned()]), "{name}.{method}");
                has_noted(&noted, CLIENT);
            }
        }
    }
}

/// Makes a request whose answer ends with the connection; returns the body without the sizes of its chunks.
fn body_of(server: &Server, request: &str) -> (String, Vec<String>) {
    let mut stream = connect(server);
    let proxy = stream.local_addr().unwrap().to_string();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("chunked"), "{answer}");
    let lines = body.lines().filter(|line| line.contains(':')).map(|line| line.trim_matches('"').to_owned());
    (proxy, lines.collect())
}

#[test]
fn streams_over_http_have_the_client_that_a_field_names() {
    let _turn = shared();
    let noted = NotedPeers::default();
    let server = streaming(&noted, |config| config.http.forwarded_from = vec!["127.0.0.1".to_owned()]);
    for field in ["X-Forwarded-For: 192.0.2.1\r\n", ""] {
        let ask = |line: &str| {
            let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n");
            let (proxy, lines) = body_of(&server, &request);
            let client = if field.is_empty() { proxy } else { "192.0.2.1:0".to_owned() };
            has_noted(&noted, &client);
            (client, lines)
        };
        for (name, _) in KINDS {
            let (client, lines) = ask(&format!("GET /{name}/Results?message=1"));
            assert_eq!(lines, [client], "{name}");
        }
        let (client, lines) = ask("GET /peer");
        let expected =
            ["event: context", &format!("data: {client}"), "event: request", &format!("data: {client}")];
        assert_eq!(lines, expected);
    }
}

#[test]
fn calls_of_grpc_have_the_client_that_a_field_names() {
    let _turn = shared();
    if !cfg!(feature = "grpc") || Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is not installed");
        return eprintln!("skipped: curl is not installed");
    }
    let noted = NotedPeers::default();
    let server = streaming(&noted, |config| config.http.forwarded_from = vec!["127.0.0.1".to_owned()]);
    let folder = tempfile::tempdir().unwrap();
    let message = folder.path().join("message");
    std::fs::write(&message, b"\0\0\0\0\x011").unwrap();
    let address = &server.addresses()[0];
    for method in ["Peer/Inline", "Peer/Pooled", "Peer/Blocking"] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "50", "--http2-prior-knowledge"])
            .args(["--header", "Content-Type: application/grpc+json", "--header", "TE: trailers"])
            .args(["--header", "X-Forwarded-For: 203.0.113.9, 192.0.2.1", "--data-binary"])
            .arg(format!("@{}", message.display()))
            .arg(format!("http://{address}/{method}"))
            .output()
            .unwrap();
        let body = output.stdout.get(5..).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(body), "\"192.0.2.1:0\"", "{method}: {output:?}");
        has_noted(&noted, "192.0.2.1:0");
    }
}
