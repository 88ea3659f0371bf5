use serde_json::Value;

use super::*;
use crate::agent::AgentAction;
use crate::discovery::etcd::Etcd;
use crate::discovery::registry::PAUSE_MIN;
use crate::discovery::registry::rig::{RegistryRig, watch};

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn new_rig() -> RegistryRig<EtcdWatch> {
    watch::<Etcd>("etcd://127.0.0.1:2379/s")
}

/// Begins, and answers the read with these instances.
fn follow(rig: &mut RegistryRig<EtcdWatch>, ports: &[u16]) -> Value {
    assert_eq!(rig.begin().0, "POST /v3/kv/range");
    read(rig, ports)
}

/// Answers the read with these instances, and creates the watch. Returns the request for it.
fn read(rig: &mut RegistryRig<EtcdWatch>, ports: &[u16]) -> Value {
    let keys: Vec<String> = ports.iter().map(|port| kv(*port)).collect();
    let answer = format!(r#"{{"header":{{"revision":"7"}},"kvs":[{}]}}"#, keys.join(","));
    let (path, body) = rig.answer_and_go_on(&answer);
    assert_eq!(path, "POST /v3/watch");
    let created = format!("{HEAD}{}", chunk("{\"result\":{\"created\":true}}\n"));
    assert_eq!(rig.send(&created), [] as [AgentAction; 0]);
    body
}

fn kv(port: u16) -> String {
    let (key, value) = (format!("s/{port}"), format!(r#"{{"address":"h:{port}"}}"#));
    format!(r#"{{"key":"{}","value":"{}"}}"#, encode(key.as_bytes()), encode(value.as_bytes()))
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn change(kind: &str, port: u16) -> String {
    format!("{{\"result\":{{\"events\":[{{\"type\":\"{kind}\",\"kv\":{}}}]}}}}\n", kv(port))
}

#[test]
fn changes_after_the_read_are_followed_at_every_split() {
    let lines = [change("PUT", 2), change("DELETE", 1), change("PUT", 2), change("DELETE", 3)].concat();
    let stream = chunk(&lines);
    for split in 0..stream.len() {
        let mut rig = new_rig();
        let create = follow(&mut rig, &[1]);
        assert_eq!(create["create_request"]["start_revision"], "8");
        assert_eq!(create["create_request"]["key"], encode(b"s/"));
        assert_eq!(create["create_request"]["range_end"], encode(b"s0"));
        rig.send(&stream[..split]);
        rig.send(&stream[split..]);
        assert_eq!(rig.reports(), ["h:1", "h:1 h:2", "h:2"]);
    }
}

#[test]
fn silence_replaces_the_watch_without_a_failure() {
    let mut rig = new_rig();
    follow(&mut rig, &[1]);
    let (path, _, after) = rig.next();
    assert_eq!((path.as_str(), after), ("POST /v3/kv/range", Duration::from_secs(60)));
    read(&mut rig, &[1]);
    assert_eq!(rig.reports(), ["h:1"]);
}

#[test]
fn a_compaction_or_an_end_starts_over_after_a_pause() {
    for end in [
        chunk("{\"result\":{\"canceled\":true,\"compact_revision\":\"9\"}}\n"),
        chunk("{\"error\":{\"message\":\"etcdserver: no leader\"}}\n"),
        "0\r\n\r\n".to_owned(),
    ] {
        let mut rig = new_rig();
        follow(&mut rig, &[1]);
        rig.send(&end);
        let (path, _, after) = rig.next();
        assert_eq!(path, "POST /v3/kv/range");
        assert!(after >= PAUSE_MIN);
        // What has changed meanwhile is found.
        read(&mut rig, &[2]);
        assert_eq!(rig.reports(), ["h:1", "h:2"]);
    }
}

#[test]
fn what_is_not_a_watch_is_a_failure() {
    let mut rig = new_rig();
    follow(&mut rig, &[1]);
    rig.send(&chunk("nonsense\n"));
    let found = rig.reports();
    assert!(found[1].starts_with("etcd at 127.0.0.1:2379: expected JSON"), "{found:?}");
    // A lost connection, and a read that fails.
    rig.next();
    rig.refuse();
    assert_eq!(rig.reports(), ["etcd at 127.0.0.1:2379: connection refused"]);
    rig.next();
    rig.answer(401, "no");
    assert_eq!(rig.reports(), ["etcd at 127.0.0.1:2379: status 401: no"]);
}

#[test]
fn a_watch_that_is_not_created_is_a_failure() {
    let mut rig = new_rig();
    rig.begin();
    rig.answer(200, r#"{"header":{"revision":"7"}}"#);
    let before = rig.rig.now;
    rig.rig.run_timer(&mut rig.agent);
    assert_eq!(rig.rig.now - before, Duration::from_secs(5));
    assert_eq!(rig.reports(), ["", "etcd at 127.0.0.1:2379: no watch within 5s"]);
}

#[test]
fn a_line_has_a_limit() {
    let mut rig = new_rig();
    follow(&mut rig, &[]);
    let piece = chunk(&"x".repeat(1 << 20));
    for _ in 0..9 {
        rig.send(&piece);
    }
    let found = rig.reports();
    assert!(found[1].contains("a line over 8388608 bytes"), "{found:?}");
}
