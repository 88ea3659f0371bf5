use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;
use crate::agent::{AgentAction, AgentRig};
use crate::discovery::{Target, Update};

struct Rig {
    agent: EtcdWatch,
    rig: AgentRig,
    found: Arc<Mutex<Vec<String>>>,
    link: Option<LinkId>,
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

impl Rig {
    fn new() -> Rig {
        let found = Arc::new(Mutex::new(Vec::new()));
        let into = found.clone();
        let updates = Updates::new(move |update| {
            into.lock().unwrap().push(match update {
                Update::Instances(all) => {
                    all.iter().map(|one| one.address.as_str()).collect::<Vec<_>>().join(" ")
                }
                Update::Failed(why) => why,
            });
        });
        let access = EtcdAccess::of(&Target::parse("etcd://127.0.0.1:2379/s").unwrap()).unwrap();
        let agent = EtcdWatch::new(access, Duration::from_secs(60), updates);
        Rig { agent, rig: AgentRig::new(), found, link: None }
    }

    /// Returns the path and the body of the request among the actions.
    fn request(&mut self, actions: &[AgentAction]) -> (String, Value) {
        let sent = actions.iter().find_map(|action| match action {
            AgentAction::Send(link, bytes) => Some((*link, bytes)),
            _ => None,
        });
        let (link, bytes) = sent.unwrap_or_else(|| panic!("no request in {actions:?}"));
        self.link = Some(link);
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let path = head.strip_prefix("POST ").unwrap().split(' ').next().unwrap();
        (path.to_owned(), serde_json::from_str(body).unwrap())
    }

    fn send(&mut self, bytes: &str) -> Vec<AgentAction> {
        let link = self.link.unwrap();
        self.rig.run(|cx| self.agent.on_bytes(link, bytes.as_bytes(), cx))
    }

    /// Begins, and answers the read with these instances.
    fn follow(&mut self, ports: &[u16]) -> Value {
        let actions = self.rig.run(|cx| self.agent.begin(cx));
        assert_eq!(self.request(&actions).0, "/v3/kv/range");
        self.read(ports)
    }

    fn read(&mut self, ports: &[u16]) -> Value {
        let keys: Vec<String> = ports.iter().map(|port| kv(*port)).collect();
        let body = format!(r#"{{"header":{{"revision":"7"}},"kvs":[{}]}}"#, keys.join(","));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let actions = self.send(&answer);
        let (path, body) = self.request(&actions);
        assert_eq!(path, "/v3/watch");
        let created = format!("{HEAD}{}", chunk("{\"result\":{\"created\":true}}\n"));
        assert_eq!(self.send(&created), []);
        body
    }

    fn found(&self) -> Vec<String> {
        std::mem::take(&mut self.found.lock().unwrap())
    }
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
        let mut rig = Rig::new();
        let create = rig.follow(&[1]);
        assert_eq!(create["create_request"]["start_revision"], "8");
        assert_eq!(create["create_request"]["key"], encode(b"s/"));
        assert_eq!(create["create_request"]["range_end"], encode(b"s0"));
        rig.send(&stream[..split]);
        rig.send(&stream[split..]);
        assert_eq!(rig.found(), ["h:1", "h:1 h:2", "h:2"]);
    }
}

#[test]
fn silence_replaces_the_watch_without_a_failure() {
    let mut rig = Rig::new();
    rig.follow(&[1]);
    let before = rig.rig.now;
    let actions = rig.rig.run_timer(&mut rig.agent);
    assert_eq!(rig.rig.now - before, Duration::from_secs(60));
    assert_eq!(rig.request(&actions).0, "/v3/kv/range");
    rig.read(&[1]);
    assert_eq!(rig.found(), ["h:1"]);
}

#[test]
fn a_compaction_or_an_end_starts_over_after_a_pause() {
    for end in [
        chunk("{\"result\":{\"canceled\":true,\"compact_revision\":\"9\"}}\n"),
        chunk("{\"error\":{\"message\":\"etcdserver: no leader\"}}\n"),
        "0\r\n\r\n".to_owned(),
    ] {
        let mut rig = Rig::new();
        rig.follow(&[1]);
        rig.send(&end);
        let before = rig.rig.now;
        let actions = rig.rig.run_timer(&mut rig.agent);
        assert!(rig.rig.now - before >= PAUSE_MIN);
        assert_eq!(rig.request(&actions).0, "/v3/kv/range");
        // What has changed meanwhile is found.
        rig.read(&[2]);
        assert_eq!(rig.found(), ["h:1", "h:2"]);
    }
}

#[test]
fn what_is_not_a_watch_is_a_failure() {
    let mut rig = Rig::new();
    rig.follow(&[1]);
    rig.send(&chunk("nonsense\n"));
    let found = rig.found();
    assert!(found[1].starts_with("etcd at 127.0.0.1:2379: expected JSON"), "{found:?}");
    // A lost connection, and a read that fails.
    let actions = rig.rig.run_timer(&mut rig.agent);
    rig.request(&actions);
    let link = rig.link.unwrap();
    rig.rig.run(|cx| rig.agent.on_closed(link, "connection refused", cx));
    assert_eq!(rig.found(), ["etcd at 127.0.0.1:2379: connection refused"]);
    let actions = rig.rig.run_timer(&mut rig.agent);
    rig.request(&actions);
    rig.send("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(rig.found(), ["etcd at 127.0.0.1:2379: status 401: no"]);
}

#[test]
fn a_watch_that_is_not_created_is_a_failure() {
    let mut rig = Rig::new();
    let actions = rig.rig.run(|cx| rig.agent.begin(cx));
    rig.request(&actions);
    let body = r#"{"header":{"revision":"7"}}"#;
    rig.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let before = rig.rig.now;
    rig.rig.run_timer(&mut rig.agent);
    assert_eq!(rig.rig.now - before, Duration::from_secs(5));
    assert_eq!(rig.found(), ["", "etcd at 127.0.0.1:2379: no watch within 5s"]);
}

#[test]
fn a_line_has_a_limit() {
    let mut rig = Rig::new();
    rig.follow(&[]);
    let piece = chunk(&"x".repeat(1 << 20));
    for _ in 0..9 {
        rig.send(&piece);
    }
    let found = rig.found();
    assert!(found[1].contains("a line over 8388608 bytes"), "{found:?}");
}
