//! The page: formats, methods, and a server that drains.

use super::{OPEN_METRICS, TEXT, builder, check_with_promtool, parse_strictly, request, scrape, sum};
use crate::common::rig::rig;
use crate::common::{Frame, Peer, eventually};

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
    peer.ask(&Frame::request(1, "Arith.Add", coreloop::codec::Codec::Json, r#"{"A":1,"B":2}"#));
    peer.ask(&Frame::request(2, "Arith.Divide", coreloop::codec::Codec::Json, r#"{"A":1,"B":0}"#));
    check_with_promtool(&scrape(&server, TEXT));
    if let Some(samples) = parse_strictly(&scrape(&server, OPEN_METRICS)) {
        let build = samples.iter().find(|sample| sample["name"] == "coreloop_build_info").expect("build info");
        assert_eq!(build["labels"]["version"], env!("CARGO_PKG_VERSION"));
        let divided = samples.iter().find(|sample| sample["labels"]["code"] == "invalid_argument").unwrap();
        assert_eq!((&divided["labels"]["method"], &divided["value"]), (&"Arith.Divide".into(), &1.0.into()));
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
    assert_eq!(peer.answer().kind, crate::common::kind::DRAIN);
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
