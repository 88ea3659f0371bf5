//! The page: formats, methods, and a server that drains.

use coreloop::codec::Codec;

use super::{OPEN_METRICS, TEXT, builder, check_with_promtool, parse_strictly, request, scrape, sum};
use crate::common::rig::rig;
use crate::common::{Frame, Peer, eventually, kind};

#[test]
fn the_format_is_what_the_client_asks_for() {
    let _turn = crate::common::shared();
    let server = builder().start().unwrap();
    let admin = server.admin_address().unwrap();
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (fields, content_type) in [
        ("", text),
        ("Accept: */*\r\n", text),
        ("Accept: application/openmetrics-text; version=1.0.0\r\n", open),
        ("Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text\r\n", open),
        ("Accept: application/openmetrics-text;q=0.1, text/plain\r\n", text),
    ] {
        let (head, body) = request(admin, "GET", fields);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains(&format!("\r\nContent-Type: {content_type}\r\n")), "{fields}: {head}");
        assert_eq!(body.ends_with("\n# EOF\n"), content_type == open, "{fields}");
        let has_unit = body.contains("\n# UNIT coreloop_server_handler_seconds seconds\n");
        assert_eq!(has_unit, content_type == open, "{fields}");
    }
    server.shutdown();
}

#[test]
fn head_has_the_fields_and_no_body_and_other_methods_are_refused() {
    let _turn = crate::common::shared();
    let server = builder().start().unwrap();
    let admin = server.admin_address().unwrap();
    let (head, body) = request(admin, "HEAD", "");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    assert!(length.parse::<usize>().unwrap() > 1000 && body.is_empty(), "{head}");
    let (head, _) = request(admin, "POST", "Content-Length: 0\r\n");
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    server.shutdown();
}

#[test]
fn both_formats_pass_the_checks_of_prometheus() {
    let _turn = crate::common::shared();
    let server = builder().configure(|config| config.trace.enabled = true).start().unwrap();
    let mut peer = Peer::connect(&server.addresses()[0]);
    peer.ask(&Frame::request(1, "Arith.Add", Codec::Json, r#"{"A":1,"B":2}"#));
    peer.ask(&Frame::request(2, "Arith.Divide", Codec::Json, r#"{"A":1,"B":0}"#));
    check_with_promtool(&scrape(&server, TEXT));
    if let Some(samples) = parse_strictly(&scrape(&server, OPEN_METRICS)) {
        let build =
            samples.iter().find(|sample| sample["name"] == "coreloop_build_info").expect("build info");
        assert_eq!(build["labels"]["version"], env!("CARGO_PKG_VERSION"));
        let divided = samples.iter().find(|sample| sample["labels"]["code"] == "invalid_argument").unwrap();
        assert_eq!(
            (divided["labels"]["method"].as_str(), divided["value"].as_f64()),
            (Some("Arith.Divide"), Some(1.0))
        );
    }
    server.shutdown();
}

#[test]
fn metrics_are_served_while_the_server_drains() {
    let _turn = crate::common::shared();
    let mut rig = rig(|config| config.admin.listen = "127.0.0.1:0".to_owned());
    let server = rig.take_server();
    let (admin, stopper) = (server.admin_address().unwrap().clone(), server.stopper());
    let mut peer = Peer::connect(&server.addresses()[0]);
    peer.send(&Frame::call(1, "Pooled.Gate", 7));
    rig.gate.wait_for(1);
    let ended = std::thread::spawn(move || server.wait());
    stopper.stop();
    // The notice of the drain.
    assert_eq!(peer.answer().kind, kind::DRAIN);
    let text = request(&admin, "GET", "").1;
    assert_eq!(sum(&text, "coreloop_server_calls_in_flight", ""), 1, "{text}");
    assert_eq!(sum(&text, "coreloop_server_connections", "native"), 1, "{text}");
    rig.gate.open();
    assert_eq!(peer.answer().number(), 7);
    drop(peer);
    let stats = ended.join().unwrap().unwrap();
    assert_eq!((stats.in_flight, stats.streams), (0, 0));
    assert_eq!(stats.protocols, [("native", 1, 1)]);
    eventually("the admin listener has closed", || std::net::TcpStream::connect(admin.to_string()).is_err());
}

#[test]
fn calls_in_flight_are_counted_until_their_work_ends() {
    let _turn = crate::common::shared();
    let rig = rig(|_| ());
    let mut peer = rig.peer();
    let calls: Vec<Frame> = (1..=5).map(|id| Frame::call(id, "Pooled.Gate", 7)).collect();
    peer.send_all(&calls);
    // Two workers run two of them; the others wait.
    rig.gate.wait_for(2);
    eventually("five calls are in flight", || rig.stats().in_flight == 5);
    peer.send(&Frame::of_kind(kind::CANCEL, 5));
    assert_eq!(peer.answer().id, 5);
    eventually("a waiting call was cancelled", || rig.stats().in_flight == 4);
    rig.gate.admit(1);
    peer.answer();
    eventually("a call was answered", || rig.stats().in_flight == 3);
    // A peer that only closes its half still gets its answers.
    peer.reset();
    eventually("their connection has closed", || rig.stats().in_flight == 0);
    rig.gate.open();
    assert_eq!((rig.stats().in_flight, rig.stats().streams), (0, 0));
}

#[test]
fn streams_in_flight_are_counted_until_they_end() {
    let _turn = crate::common::shared();
    let server = builder().start().unwrap();
    let mut peer = Peer::connect(&server.addresses()[0]);
    let watch = |id, n: u32| Frame::request(id, "Users.Watch", Codec::Json, n.to_string());
    // Without credit for more than a window, it does not end.
    peer.send(&watch(1, 1_000_000_000));
    eventually("a stream is open", || server.stats().streams == 1);
    assert_eq!(sum(&scrape(&server, TEXT), "coreloop_server_streams_in_flight", ""), 1);
    peer.send(&watch(2, 0));
    eventually("a short one has ended", || server.stats().method("Users.Watch").unwrap().calls == 1);
    assert_eq!((server.stats().streams, server.stats().in_flight), (1, 0));
    drop(peer);
    eventually("the connection has closed", || server.stats().streams == 0);
    server.shutdown();
}
