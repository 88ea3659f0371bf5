use std::sync::{Arc, Mutex};

use super::*;
use crate::agent::{AgentAction, AgentRig};
use crate::discovery::{Target, Update};

/// A watch and what it has passed on.
struct Rig {
    agent: ConsulWatch,
    rig: AgentRig,
    found: Arc<Mutex<Vec<String>>>,
    /// The connection of the last request.
    link: Option<LinkId>,
}

/// Updates as texts: the addresses, or the reason of a failure.
fn updates() -> (Updates, Arc<Mutex<Vec<String>>>) {
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
    (updates, found)
}

impl Rig {
    fn new(url: &str) -> Rig {
        let target = Target::parse(url).unwrap();
        let access = ConsulAccess::of(&target).unwrap();
        let (updates, found) = updates();
        let settings = WatchSettings { access, tags: vec!["a b".to_owned()], wait: Duration::from_secs(60) };
        Rig { agent: ConsulWatch::new(settings, updates), rig: AgentRig::new(), found, link: None }
    }

    /// Returns the first line of the request among the actions.
    fn request(&mut self, actions: &[AgentAction]) -> String {
        let sent = actions.iter().find_map(|action| match action {
            AgentAction::Send(link, bytes) => Some((*link, bytes)),
            _ => None,
        });
        let (link, bytes) = sent.unwrap_or_else(|| panic!("no request in {actions:?}"));
        self.link = Some(link);
        String::from_utf8_lossy(bytes).lines().next().unwrap().to_owned()
    }

    fn begin(&mut self) -> String {
        let actions = self.rig.run(|cx| self.agent.begin(cx));
        self.request(&actions)
    }

    /// Answers the last request, in two pieces.
    fn answer(&mut self, status: u16, index: &str, ports: &[u16]) {
        let entries: Vec<String> = ports
            .iter()
            .map(|port| format!(r#"{{"Node":{{"Address":"h"}},"Service":{{"Port":{port}}}}}"#))
            .collect();
        let body = format!("[{}]", entries.join(","));
        let answer = format!("HTTP/1.1 {status} X\r\n{index}Content-Length: {}\r\n\r\n{body}", body.len());
        let link = self.link.unwrap();
        let (first, second) = answer.as_bytes().split_at(answer.len() / 2);
        self.rig.run(|cx| self.agent.on_bytes(link, first, cx));
        self.rig.run(|cx| self.agent.on_bytes(link, second, cx));
    }

    /// Returns the next request and the time until it.
    fn next(&mut self) -> (String, Duration) {
        let before = self.rig.now;
        let actions = self.rig.run_timer(&mut self.agent);
        (self.request(&actions), self.rig.now - before)
    }

    /// Closes the connection, and the one that replaces it if it was used before.
    fn refuse(&mut self) {
        for _ in 0..2 {
            let link = self.link.unwrap();
            let why = "connection refused";
            let actions = self.rig.run(|cx| self.agent.on_closed(link, why, cx));
            if actions.is_empty() {
                return;
            }
            self.request(&actions);
        }
    }

    fn found(&self) -> Vec<String> {
        std::mem::take(&mut self.found.lock().unwrap())
    }
}

const FIRST: &str = "GET /v1/health/service/orders?passing=1&tag=a%20b HTTP/1.1";

fn blocking(index: u64) -> String {
    format!("GET /v1/health/service/orders?passing=1&tag=a%20b&index={index}&wait=60000ms HTTP/1.1")
}

#[test]
fn queries_block_on_the_index_and_pass_on_changes_only() {
    let mut rig = Rig::new("consul://127.0.0.1:8500/orders");
    assert_eq!(rig.begin(), FIRST);
    rig.answer(200, "X-Consul-Index: 7\r\n", &[1, 2]);
    assert_eq!(rig.found(), ["h:1 h:2"]);
    let (request, after) = rig.next();
    assert_eq!(request, blocking(7));
    assert!((INTERVAL..=2 * INTERVAL).contains(&after), "{after:?}");
    // Another index without a change, and another order.
    rig.answer(200, "X-Consul-Index: 9\r\n", &[2, 1]);
    assert_eq!(rig.found(), [""; 0]);
    assert_eq!(rig.next().0, blocking(9));
    rig.answer(200, "X-Consul-Index: 11\r\n", &[]);
    assert_eq!(rig.found(), [""]);
}

#[test]
fn an_index_that_goes_back_or_is_missing_starts_over() {
    let mut rig = Rig::new("consul://127.0.0.1:8500/orders");
    rig.begin();
    rig.answer(200, "X-Consul-Index: 700\r\n", &[1]);
    rig.next();
    rig.answer(200, "X-Consul-Index: 5\r\n", &[2]);
    assert_eq!(rig.found(), ["h:1", "h:2"]);
    assert_eq!(rig.next().0, FIRST);
    for index in ["X-Consul-Index: 0\r\n", "X-Consul-Index: x\r\n", ""] {
        rig.answer(200, index, &[2]);
        let (request, after) = rig.next();
        assert_eq!(request, FIRST);
        assert!(after >= POLL_INTERVAL, "{after:?}");
    }
    assert_eq!(rig.found(), [""; 0]);
}

#[test]
fn failures_are_passed_on_and_start_over_with_a_growing_pause() {
    let mut rig = Rig::new("consul://127.0.0.1:8500/orders");
    rig.begin();
    rig.answer(200, "X-Consul-Index: 7\r\n", &[1]);
    rig.next();
    rig.answer(500, "", &[]);
    assert_eq!(rig.found(), ["h:1", "Consul at 127.0.0.1:8500: status 500: []"]);
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        let (request, after) = rig.next();
        assert_eq!(request, FIRST);
        assert!(after >= PAUSE_MIN && after <= PAUSE_MIN + Duration::from_millis(BACKOFF.max_ms));
        longest = longest.max(after);
        rig.refuse();
    }
    assert!(longest > Duration::from_secs(1), "{longest:?}");
    assert_eq!(rig.found().last().unwrap(), "Consul at 127.0.0.1:8500: connection refused");
    // The same instances are passed on again after a failure.
    rig.next();
    rig.answer(200, "X-Consul-Index: 3\r\n", &[1]);
    assert_eq!(rig.found(), ["h:1"]);
}

#[test]
fn a_silent_query_is_given_up_after_its_wait() {
    let mut rig = Rig::new("consul://127.0.0.1:8500/orders");
    rig.begin();
    rig.answer(200, "X-Consul-Index: 7\r\n", &[1]);
    rig.next();
    let wait = rig.agent.next_at().unwrap() - rig.rig.now;
    assert_eq!(wait, Duration::from_millis(60_000 + 3_750 + 5_000));
    let actions = rig.rig.run_timer(&mut rig.agent);
    assert_eq!(actions, [AgentAction::Close(rig.link.unwrap())]);
    assert_eq!(rig.found(), ["h:1", "Consul at 127.0.0.1:8500: no answer within 68.75s"]);
    assert_eq!(rig.next().0, FIRST);
}

#[test]
fn a_body_that_is_no_list_is_a_failure() {
    let mut rig = Rig::new("consul://127.0.0.1:8500/orders?dc=west");
    let actions = rig.rig.run(|cx| rig.agent.begin(cx));
    assert!(rig.request(&actions).contains("&dc=west"));
    let link = rig.link.unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 1\r\nContent-Length: 2\r\n\r\n{}";
    rig.rig.run(|cx| rig.agent.on_bytes(link, answer, cx));
    let found = rig.found();
    assert_eq!(found, ["Consul at 127.0.0.1:8500: expected a JSON array of services"]);
}
