use super::*;
use crate::agent::{Agent, AgentAction};
use crate::discovery::etcd::Etcd;
use crate::discovery::keeper::Keeper;
use crate::discovery::registry::rig::{RegistryRig, keep};

fn new_rig() -> RegistryRig<Keeper<EtcdSteps>> {
    keep::<Etcd>("etcd://127.0.0.1:2379/s?ttl=8500ms", &Instance::new("h:1").zone("a"))
}

/// Registers with a lease.
fn register(rig: &mut RegistryRig<Keeper<EtcdSteps>>) {
    rig.begin();
    rig.answer_and_go_on(r#"{"ID":"77","TTL":"9"}"#);
    rig.answer(200, "{}");
    assert_eq!(rig.reports(), ["registered"]);
}

#[test]
fn a_key_with_a_lease_is_kept_alive() {
    let mut rig = new_rig();
    assert_eq!(rig.begin(), ("POST /v3/lease/grant".to_owned(), json!({ "TTL": "9" })));
    let (path, put) = rig.answer_and_go_on(r#"{"ID":"77","TTL":"9"}"#);
    assert_eq!(path, "POST /v3/kv/put");
    let value = encode(br#"{"address":"h:1","weight":1,"zone":"a"}"#);
    assert_eq!(put, json!({ "key": encode(b"s/h:1"), "value": value, "lease": "77" }));
    assert_eq!(rig.answer(200, "{}"), []);
    assert_eq!(rig.reports(), ["registered"]);
    for _ in 0..3 {
        let (path, body, _) = rig.next();
        assert_eq!((path.as_str(), body), ("POST /v3/lease/keepalive", json!({ "ID": "77" })));
        rig.answer(200, "{\"result\":{\"ID\":\"77\",\"TTL\":\"9\"}}\n");
    }
    assert_eq!(rig.reports(), [""; 0]);
}

#[test]
fn an_expired_lease_is_replaced() {
    let mut rig = new_rig();
    register(&mut rig);
    rig.next();
    rig.answer(200, "{\"result\":{\"ID\":\"77\"}}\n");
    assert_eq!(rig.reports(), ["etcd at 127.0.0.1:2379: the lease has expired"]);
    assert_eq!(rig.next().0, "POST /v3/lease/grant");
    assert_eq!(rig.answer_and_go_on(r#"{"ID":"78"}"#).1["lease"], "78");
    rig.answer(200, "{}");
    assert_eq!(rig.reports(), ["registered"]);
}

#[test]
fn a_put_that_fails_gets_another_lease() {
    let mut rig = new_rig();
    rig.begin();
    rig.answer_and_go_on(r#"{"ID":"77"}"#);
    rig.answer(404, "no lease");
    assert_eq!(rig.reports(), ["etcd at 127.0.0.1:2379: status 404: no lease"]);
    assert_eq!(rig.next().0, "POST /v3/lease/grant");
    rig.answer(200, "not JSON");
    let reports = rig.reports();
    assert!(matches!(&reports[..], [why] if why.contains("expected JSON")), "{reports:?}");
}

#[test]
fn the_end_revokes_the_lease_if_there_is_one() {
    let mut rig = new_rig();
    register(&mut rig);
    let actions = rig.rig.run(|cx| rig.agent.on_end(cx));
    assert_eq!(rig.request(&actions), ("POST /v3/lease/revoke".to_owned(), json!({ "ID": "77" })));
    assert_eq!(rig.answer(200, "{}").last(), Some(&AgentAction::End));
    // While the lease is being granted, its id is awaited.
    let mut rig = new_rig();
    rig.begin();
    assert_eq!(rig.rig.run(|cx| rig.agent.on_end(cx)), []);
    assert_eq!(rig.answer_and_go_on(r#"{"ID":"79"}"#).1, json!({ "ID": "79" }));
    // Without an answer there is nothing to revoke.
    let mut rig = new_rig();
    rig.begin();
    rig.rig.run(|cx| rig.agent.on_end(cx));
    assert_eq!(rig.answer(503, "").last(), Some(&AgentAction::End));
}
