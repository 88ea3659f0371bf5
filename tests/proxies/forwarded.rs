//! Requests that HTTP proxies have forwarded: the peer of each is the client that the proxy names.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};

use coreloop::config::{Config, FairBy, ForwardedField};
use coreloop::service::Kind;
use coreloop::{Context, Server};

use crate::common::{Frame, Peer, eventually, shared};
use crate::served::{NotedPeers, V1, behind, builder, connect, http_call, http_result, server};

fn believing(change: impl FnOnce(&mut Config)) -> Server {
    server(|config| {
        config.http.forwarded_from = vec!["127.0.0.1".to_owned(), "10.0.0.0/8".to_owned()];
        change(config);
    })
}

fn ask(stream: &TcpStream, method: &str, fields: &str) -> String {
    (&mut &*stream).write_all(&http_call(method, fields)).unwrap();
    http_result(stream)
}

const KINDS: [&str; 3] = ["Peer.Inline", "Peer.Pooled", "Peer.Blocking"];

#[test]
fn each_request_of_a_connection_has_the_client_that_the_proxy_names() {
    let _turn = shared();
    let server = believing(|_| {});
    let stream = connect(&server);
    let proxy = stream.local_addr().unwrap().to_string();
    for method in KINDS {
        assert_eq!(ask(&stream, method, "X-Forwarded-For: 192.0.2.1\r\n"), "192.0.2.1:0");
        assert_eq!(
            ask(&stream, method, "x-forwarded-for: 1.2.3.4, [2001:db8::1]:81, 10.0.0.7\r\n"),
            "[2001:db8::1]:81"
        );
        assert_eq!(
            ask(&stream, method, "X-Forwarded-For: 192.0.2.2\r\nX-Forwarded-For: 10.0.0.7\r\n"),
            "192.0.2.2:0"
        );
        // The next request without the field is the proxy's own.
        assert_eq!(ask(&stream, method, ""), proxy);
        assert_eq!(ask(&stream, method, "X-Forwarded-For: 192.0.2.1, unknown\r\n"), proxy);
        // A client cannot name the field as one of the connection.
        assert_eq!(
            ask(&stream, method, "Connection: X-Forwarded-For\r\nX-Forwarded-For: 192.0.2.3\r\n"),
            "192.0.2.3:0"
        );
        // The proxy writes the other field.
        assert_eq!(ask(&stream, method, "Forwarded: for=192.0.2.9\r\n"), proxy);
    }
}

#[test]
fn requests_in_a_pipeline_keep_their_clients() {
    let _turn = shared();
    let server = believing(|_| {});
    let mut stream = connect(&server);
    let clients: Vec<String> = (0..60).map(|at| format!("192.0.2.{at}")).collect();
    let requests = clients
        .iter()
        .enumerate()
        .flat_map(|(at, client)| http_call(KINDS[at % 3], &format!("X-Forwarded-For: {client}\r\n")));
    stream.write_all(&requests.collect::<Vec<u8>>()).unwrap();
    for client in clients {
        assert_eq!(http_result(&stream), format!("{client}:0"));
    }
}

#[test]
fn the_field_of_rfc_7239_is_read_where_it_is_chosen() {
    let _turn = shared();
    let server = believing(|config| config.http.forwarded_field = ForwardedField::Forwarded);
    let stream = connect(&server);
    let fields = "Forwarded: for=\"x\r\nForwarded: for=\"[2001:db8::1]:81\";proto=https, for=10.0.0.7\r\n";
    assert_eq!(ask(&stream, "Peer.Pooled", fields), "[2001:db8::1]:81");
    let proxy = stream.local_addr().unwrap().to_string();
    assert_eq!(ask(&stream, "Peer.Pooled", "X-Forwarded-For: 192.0.2.1\r\n"), proxy);
    assert_eq!(ask(&stream, "Peer.Inline", "Forwarded: for=_hidden\r\n"), proxy);
}

#[test]
fn other_peers_and_other_protocols_are_not_believed() {
    let _turn = shared();
    let field = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n";
    for server in
        [server(|_| {}), server(|config| config.http.forwarded_from = vec!["10.0.0.0/8".to_owned()])]
    {
        let stream = connect(&server);
        assert_eq!(ask(&stream, "Peer.Pooled", field), stream.local_addr().unwrap().to_string());
    }
    let server = believing(|_| {});
    let stream = connect(&server);
    let mut native = Peer::of_tcp(stream.try_clone().unwrap());
    let answer = native.ask(&Frame::call(1, "Peer.Inline", 1).with("x-forwarded-for", b"192.0.2.1"));
    assert_eq!(answer.text().trim_matches('"'), stream.local_addr().unwrap().to_string());
}

#[test]
fn behind_both_kinds_of_proxies_the_header_names_the_nearer_one() {
    let _turn = shared();
    let server = behind(|config| config.http.forwarded_from = vec!["192.0.2.1".to_owned()]);
    let mut stream = connect(&server);
    stream.write_all(V1).unwrap();
    assert_eq!(ask(&stream, "Peer.Pooled", "X-Forwarded-For: 203.0.113.9\r\n"), "203.0.113.9:0");
    assert_eq!(ask(&stream, "Peer.Pooled", ""), crate::served::CLIENT);
}

#[test]
fn interceptors_see_the_client_at_the_admission_and_at_the_end() {
    let _turn = shared();
    let noted = NotedPeers::default();
    let server = builder(|config| config.http.forwarded_from = vec!["127.0.0.1".to_owned()])
        .interceptor(noted.clone())
        .start()
        .unwrap();
    let stream = connect(&server);
    let proxy = stream.local_addr().unwrap().to_string();
    for method in KINDS {
        ask(&stream, method, "X-Forwarded-For: 192.0.2.1\r\n");
        eventually("the call has ended", || noted.len() == 2);
        assert_eq!(noted.take(), ["192.0.2.1:0"; 2], "{method}");
        ask(&stream, method, "");
        eventually("the call has ended", || noted.len() == 2);
        assert_eq!(noted.take(), [&*proxy; 2], "{method}");
    }
}

#[test]
fn requests_over_http_2_have_their_clients_too() {
    let _turn = shared();
    if !cfg!(feature = "grpc") || Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is not installed");
        return eprintln!("skipped: curl is not installed");
    }
    let noted = NotedPeers::default();
    let server = builder(|config| config.http.forwarded_from = vec!["127.0.0.1".to_owned()])
        .interceptor(noted.clone())
        .start()
        .unwrap();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "50", "--http2-prior-knowledge"])
        .args(["--header", "X-Forwarded-For: 192.0.2.1", "--write-out", "%{http_version} %{http_code}"])
        .arg(format!("http://{}/readyz", server.addresses()[0]))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("2 200"), "{text}");
    eventually("the call has ended", || noted.len() == 2);
    assert_eq!(noted.take(), ["192.0.2.1:0"; 2]);
}

/// With `fair_by = "peer_ip"` the clients of a proxy take turns, although all have the same connection.
#[test]
fn clients_of_one_proxy_take_turns_by_their_addresses() {
    let _turn = shared();
    let (release, gate) = mpsc::channel::<()>();
    let (gate, order) = (Mutex::new(gate), Arc::new(Mutex::new(Vec::new())));
    let begun = order.clone();
    let server = Server::builder()
        .configure(|config| {
            config.listen = vec!["127.0.0.1:0".to_owned()];
            (config.cores, config.workers, config.batch_max) = (1, 1, 1);
            config.fair_by = FairBy::PeerIp;
            config.limits.look_ahead_us = 1;
            config.http.forwarded_from = vec!["127.0.0.1".to_owned()];
        })
        .method_of_kind("Gate.Hold", Kind::Pooled, move |cx: &Context<'_>, n: i64| {
            begun.lock().unwrap().push(cx.peer().to_string());
            let _ = gate.lock().unwrap().recv();
            Ok(n)
        })
        .start()
        .unwrap();
    let call = |client: &str| http_call("Gate.Hold", &format!("X-Forwarded-For: {client}\r\n"));
    // One connection of the proxy, whose answers come in the order of the requests.
    let stream = connect(&server);
    for _ in 0..20 {
        (&mut &stream).write_all(&call("192.0.2.1")).unwrap();
    }
    let waiting = |count: u64| {
        eventually("the calls have arrived", || server.stats().in_flight == count);
    };
    waiting(20);
    (&mut &stream).write_all(&call("192.0.2.2")).unwrap();
    waiting(21);
    for _ in 0..21 {
        release.send(()).unwrap();
    }
    for _ in 0..21 {
        assert_eq!(http_result(&stream), "1");
    }
    let order = order.lock().unwrap().clone();
    let at = order.iter().position(|peer| peer == "192.0.2.2:0").expect("it was run");
    assert!(at < 5, "{order:?}");
}
