use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;
use crate::agent::{Agent, AgentAction, AgentRig, LinkId};
use crate::discovery::keeper::{END_MAX, PAUSE_MIN};
use crate::discovery::{RegistrationEvent, Target};

struct Rig {
    agent: Keeper<ConsulSteps>,
    rig: AgentRig,
    events: Arc<Mutex<Vec<RegistrationEvent>>>,
    link: Option<LinkId>,
}

impl Rig {
    fn new(instance: &Instance) -> Rig {
        let access = ConsulAccess::of(&Target::parse("consul://127.0.0.1:8500/orders").unwrap()).unwrap();
        let settings = RegisterSettings {
            access,
            tags: vec!["blue".to_owned()],
            ttl: Duration::from_secs(9),
            deregister_after: Duration::from_secs(60),
        };
        let all = Arc::new(Mutex::new(Vec::new()));
        let into = all.clone();
        let events = RegistrationEvents::new(move |event| into.lock().unwrap().push(event));
        let agent = agent(settings, instance, events).unwrap();
        Rig { agent, rig: AgentRig::new(), events: all, link: None }
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
        let path = head.split(' ').nth(1).unwrap().to_owned();
        assert!(head.starts_with("PUT "), "{head}");
        (path, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn begin(&mut self) -> (String, Value) {
        let actions = self.rig.run(|cx| self.agent.begin(cx));
        self.request(&actions)
    }

    fn answer(&mut self, status: u16) -> Vec<AgentAction> {
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nno");
        let link = self.link.unwrap();
        self.rig.run(|cx| self.agent.on_bytes(link, answer.as_bytes(), cx))
    }

    /// Returns the path of the next request and the time until it.
    fn next(&mut self) -> (String, Duration) {
        let before = self.rig.now;
        let actions = self.rig.run_timer(&mut self.agent);
        (self.request(&actions).0, self.rig.now - before)
    }

    fn events(&self) -> Vec<RegistrationEvent> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

const REGISTER: &str = "/v1/agent/service/register?replace-existing-checks=true";
const PASS: &str = "/v1/agent/check/pass/service%3Aorders-10.0.0.1%3A6550";
const DEREGISTER: &str = "/v1/agent/service/deregister/orders-10.0.0.1%3A6550";

fn instance() -> Instance {
    Instance::new("10.0.0.1:6550").weight(3).zone("a").label("version", "2")
}

#[test]
fn the_service_has_a_check_with_a_ttl() {
    let mut rig = Rig::new(&instance());
    let (path, body) = rig.begin();
    assert_eq!(path, REGISTER);
    let expected = json!({
        "ID": "orders-10.0.0.1:6550", "Name": "orders", "Tags": ["blue"], "Address": "10.0.0.1", "Port": 6550,
        "Meta": {"zone": "a", "version": "2"}, "Weights": {"Passing": 3, "Warning": 1},
        "Check": {"CheckID": "service:orders-10.0.0.1:6550", "Name": "kept alive by the server", "TTL": "9000ms",
            "Status": "passing", "DeregisterCriticalServiceAfter": "60s"},
    });
    assert_eq!(body, expected);
}

#[test]
fn addresses_are_split_into_what_consul_has() {
    assert_eq!(split("10.0.0.1:6550"), Ok((None, "10.0.0.1", 6550)));
    assert_eq!(split("http:10.0.0.1:80"), Ok((Some("http"), "10.0.0.1", 80)));
    assert_eq!(split("[fd00::1]:80"), Ok((None, "fd00::1", 80)));
    assert_eq!(split("http:[fd00::1]:80"), Ok((Some("http"), "fd00::1", 80)));
    for address in ["", "a", "a:", "a:0", ":1", "unix:/a:1", "unix:/a", "memory:a:1"] {
        assert!(split(address).is_err(), "{address}");
    }
}

#[test]
fn the_check_is_kept_passing_within_a_third_of_the_ttl() {
    let mut rig = Rig::new(&instance());
    rig.begin();
    rig.answer(200);
    assert_eq!(rig.events(), [RegistrationEvent::Registered]);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let (path, after) = rig.next();
        assert_eq!(path, PASS);
        assert!(after <= Duration::from_secs(3) && after >= Duration::from_millis(2250), "{after:?}");
        pauses.push(after);
        rig.answer(200);
    }
    pauses.dedup();
    assert!(pauses.len() > 10, "no jitter: {pauses:?}");
    assert_eq!(rig.events(), []);
}

#[test]
fn an_agent_that_has_forgotten_the_service_gets_it_again() {
    for status in [404, 500] {
        let mut rig = Rig::new(&instance());
        rig.begin();
        rig.answer(200);
        rig.next();
        rig.answer(status);
        assert_eq!(rig.next().0, REGISTER);
        rig.answer(200);
        let why = format!("Consul at 127.0.0.1:8500: status {status}: no");
        assert_eq!(
            rig.events(),
            [RegistrationEvent::Registered, RegistrationEvent::Failed(why), RegistrationEvent::Registered]
        );
        assert_eq!(rig.next().0, PASS);
    }
}

#[test]
fn a_failed_request_is_tried_again_soon_and_reported_once() {
    let mut rig = Rig::new(&instance());
    rig.begin();
    for _ in 0..10 {
        let link = rig.link.unwrap();
        rig.rig.run(|cx| rig.agent.on_closed(link, "connection refused", cx));
        let (path, after) = rig.next();
        assert_eq!(path, REGISTER);
        assert!(after >= PAUSE_MIN && after <= PAUSE_MIN + Duration::from_secs(3), "{after:?}");
    }
    let refused = "Consul at 127.0.0.1:8500: connection refused".to_owned();
    assert_eq!(rig.events(), [RegistrationEvent::Failed(refused)]);
    // A check that cannot be passed is tried again, too, without another registration.
    rig.answer(200);
    rig.next();
    rig.answer(503);
    assert_eq!(rig.next().0, PASS);
}

#[test]
fn the_end_deregisters_after_what_is_running() {
    let mut rig = Rig::new(&instance());
    rig.begin();
    assert_eq!(rig.rig.run(|cx| rig.agent.on_end(cx)), []);
    let actions = rig.answer(200);
    assert_eq!(rig.request(&actions).0, DEREGISTER);
    // An error is tried again.
    rig.answer(500);
    assert_eq!(rig.next().0, DEREGISTER);
    let actions = rig.answer(200);
    assert_eq!(actions.last(), Some(&AgentAction::End));
    assert_eq!(rig.events(), []);
}

#[test]
fn the_end_is_given_up_after_a_while() {
    let mut rig = Rig::new(&instance());
    rig.begin();
    rig.answer(200);
    let actions = rig.rig.run(|cx| rig.agent.on_end(cx));
    assert_eq!(rig.request(&actions).0, DEREGISTER);
    assert_eq!(rig.agent.next_at(), Some(rig.rig.now + END_MAX));
    let actions = rig.rig.run_timer(&mut rig.agent);
    assert_eq!(actions.last(), Some(&AgentAction::End));
}
