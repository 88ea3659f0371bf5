use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;
use crate::agent::{Agent, AgentAction, AgentRig, LinkId};
use crate::discovery::{RegistrationEvent, Target};

struct Rig {
    agent: Keeper<EtcdSteps>,
    rig: AgentRig,
    events: Arc<Mutex<Vec<RegistrationEvent>>>,
    link: Option<LinkId>,
}

impl Rig {
    fn new() -> Rig {
        let access = EtcdAccess::of(&Target::parse("etcd://127.0.0.1:2379/s").unwrap()).unwrap();
        let all = Arc::new(Mutex::new(Vec::new()));
        let into = all.clone();
        let events = RegistrationEvents::new(move |event| into.lock().unwrap().push(event));
        let settings = RegisterSettings { access, ttl: Duration::from_millis(8500) };
        let agent = agent(settings, &Instance::new("h:1").zone("a"), events);
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
        let path = head.strip_prefix("POST ").unwrap().split(' ').next().unwrap();
        (path.to_owned(), serde_json::from_str(body).unwrap())
    }

    fn begin(&mut self) -> (String, Value) {
        let actions = self.rig.run(|cx| self.agent.begin(cx));
        self.request(&actions)
    }

    fn answer(&mut self, status: u16, body: &str) -> Vec<AgentAction> {
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let link = self.link.unwrap();
        self.rig.run(|cx| self.agent.on_bytes(link, answer.as_bytes(), cx))
    }

    /// Answers, and returns the request that follows at once.
    fn answer_and_go_on(&mut self, body: &str) -> (String, Value) {
        let actions = self.answer(200, body);
        self.request(&actions)
    }

    /// Returns the request that follows after a pause.
    fn next(&mut self) -> (String, Value) {
        let actions = self.rig.run_timer(&mut self.agent);
        self.request(&actions)
    }

    fn events(&self) -> Vec<RegistrationEvent> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    /// Registers with this lease.
    fn register(&mut self) {
        self.begin();
        self.answer_and_go_on(r#"{"ID":"77","TTL":"9"}"#);
        self.answer(200, "{}");
        assert_eq!(self.events(), [RegistrationEvent::Registered]);
    }
}

#[test]
fn a_key_with_a_lease_is_kept_alive() {
    let mut rig = Rig::new();
    assert_eq!(rig.begin(), ("/v3/lease/grant".to_owned(), json!({ "TTL": "9" })));
    let (path, put) = rig.answer_and_go_on(r#"{"ID":"77","TTL":"9"}"#);
    assert_eq!(path, "/v3/kv/put");
    let value = encode(br#"{"address":"h:1","weight":1,"zone":"a"}"#);
    assert_eq!(put, json!({ "key": encode(b"s/h:1"), "value": value, "lease": "77" }));
    assert_eq!(rig.answer(200, "{}"), []);
    assert_eq!(rig.events(), [RegistrationEvent::Registered]);
    for _ in 0..3 {
        assert_eq!(rig.next(), ("/v3/lease/keepalive".to_owned(), json!({ "ID": "77" })));
        rig.answer(200, "{\"result\":{\"ID\":\"77\",\"TTL\":\"9\"}}\n");
    }
    assert_eq!(rig.events(), []);
}

#[test]
fn an_expired_lease_is_replaced() {
    let mut rig = Rig::new();
    rig.register();
    rig.next();
    rig.answer(200, "{\"result\":{\"ID\":\"77\"}}\n");
    let why = "etcd at 127.0.0.1:2379: the lease has expired".to_owned();
    assert_eq!(rig.events(), [RegistrationEvent::Failed(why)]);
    assert_eq!(rig.next().0, "/v3/lease/grant");
    assert_eq!(rig.answer_and_go_on(r#"{"ID":"78"}"#).1["lease"], "78");
    rig.answer(200, "{}");
    assert_eq!(rig.events(), [RegistrationEvent::Registered]);
}

#[test]
fn a_put_that_fails_gets_another_lease() {
    let mut rig = Rig::new();
    rig.begin();
    rig.answer_and_go_on(r#"{"ID":"77"}"#);
    rig.answer(404, "no lease");
    let why = "etcd at 127.0.0.1:2379: status 404: no lease".to_owned();
    assert_eq!(rig.events(), [RegistrationEvent::Failed(why)]);
    assert_eq!(rig.next().0, "/v3/lease/grant");
    rig.answer(200, "not JSON");
    assert!(matches!(&rig.events()[..], [RegistrationEvent::Failed(why)] if why.contains("expected JSON")));
}

#[test]
fn the_end_revokes_the_lease_if_there_is_one() {
    let mut rig = Rig::new();
    rig.register();
    let actions = rig.rig.run(|cx| rig.agent.on_end(cx));
    assert_eq!(rig.request(&actions), ("/v3/lease/revoke".to_owned(), json!({ "ID": "77" })));
    assert_eq!(rig.answer(200, "{}").last(), Some(&AgentAction::End));
    // While the lease is being granted, its id is awaited.
    let mut rig = Rig::new();
    rig.begin();
    assert_eq!(rig.rig.run(|cx| rig.agent.on_end(cx)), []);
    assert_eq!(rig.answer_and_go_on(r#"{"ID":"79"}"#).1, json!({ "ID": "79" }));
    // Without an answer there is nothing to revoke.
    let mut rig = Rig::new();
    rig.begin();
    rig.rig.run(|cx| rig.agent.on_end(cx));
    assert_eq!(rig.answer(503, "").last(), Some(&AgentAction::End));
}
