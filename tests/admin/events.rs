//! The events of pages that change.

use std::io::BufReader;

use coreloop::client::Client;
use coreloop::codec::Codec;

use crate::common::{eventually, shared};
use crate::rig::{Rig, chunk, head, open, rig};

fn events(rig: &Rig, page: &str) -> (String, BufReader<std::net::TcpStream>) {
    let path = format!("/events?page={page}");
    let mut stream = BufReader::new(open(&rig.admin(), "GET", &path, &[], ""));
    (head(&mut stream), stream)
}

#[test]
fn a_page_is_sent_again_when_it_has_changed() {
    let _turn = shared();
    let rig = rig(|builder| builder);
    let (head, mut stream) = events(&rig, "/calls");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Type: text/event-stream"), "{head}");
    assert!(head.contains("Content-Security-Policy: "), "{head}");
    let first = chunk(&mut stream).unwrap();
    assert!(first.starts_with("event: region\ndata: ") && first.contains("No call is in flight."), "{first}");
    let client = Client::connect(&rig.server.addresses()[0]).unwrap();
    let waiting = client.start_bytes("Slow.Blocking", Codec::Json, b"null");
    let second = chunk(&mut stream).unwrap();
    assert!(second.contains("Slow.Blocking") && second.contains("running"), "{second}");
    rig.door.open();
    waiting.wait().unwrap();
    // The age of the call may have changed before it has ended.
    while !chunk(&mut stream).unwrap().contains("No call is in flight.") {}
}

#[test]
fn open_event_streams_are_limited_and_leave_room_for_pages() {
    let _turn = shared();
    let rig = rig(|builder| builder);
    let mut held = Vec::new();
    for number in 0..16 {
        let (head, stream) = events(&rig, "/");
        assert!(head.starts_with("HTTP/1.1 200 "), "stream {number}: {head}");
        held.push(stream);
    }
    let (refused, _) = events(&rig, "/");
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert_eq!(rig.get("/calls", &[]).status, 200);
    assert_eq!(rig.json("/queues")["silent_reactors"], serde_json::json!([]));
    drop(held.pop());
    eventually("there is a place again", || events(&rig, "/").0.starts_with("HTTP/1.1 200 "));
    for page in ["/config", "/methods", "/nothing"] {
        assert!(events(&rig, page).0.starts_with("HTTP/1.1 404 "), "{page}");
    }
}
