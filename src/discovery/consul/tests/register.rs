use super::*;
use crate::agent::{Agent, AgentAction};
use crate::discovery::consul::Consul;
use crate::discovery::keeper::{END_MAX, Keeper};
use crate::discovery::registry::PAUSE_MIN;
use crate::discovery::registry::rig::{RegistryRig, keep};

const REGISTER: &str = "PUT /v1/agent/service/register?replace-existing-checks=true";
const PASS: &str = "PUT /v1/agent/check/pass/service%3Aorders-10.0.0.1%3A6550";
const DEREGISTER: &str = "PUT /v1/agent/service/deregister/orders-10.0.0.1%3A6550";

fn new_rig() -> RegistryRig<Keeper<ConsulSteps>> {
    let instance = Instance::new("10.0.0.1:6550").weight(3).zone("a").label("version", "2");
    keep::<Consul>("consul://127.0.0.1:8500/orders?tag=blue&ttl=9s", &instance)
}

#[test]
fn the_service_has_a_check_with_a_ttl() {
    let mut rig = new_rig();
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
    let mut rig = new_rig();
    rig.begin();
    rig.answer(200, "no");
    assert_eq!(rig.reports(), ["registered"]);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let (path, _, after) = rig.next();
        assert_eq!(path, PASS);
        assert!(after <= Duration::from_secs(3) && after >= Duration::from_millis(2250), "{after:?}");
        pauses.push(after);
        rig.answer(200, "no");
    }
    pauses.dedup();
    assert!(pauses.len() > 10, "no jitter: {pauses:?}");
    assert_eq!(rig.reports(), [""; 0]);
}

#[test]
fn an_agent_that_has_forgotten_the_service_gets_it_again() {
    for status in [404, 500] {
        let mut rig = new_rig();
        rig.begin();
        rig.answer(200, "no");
        rig.next();
        rig.answer(status, "no");
        assert_eq!(rig.next().0, REGISTER);
        rig.answer(200, "no");
        let why = format!("Consul at 127.0.0.1:8500: status {status}: no");
        assert_eq!(rig.reports(), ["registered", &why, "registered"]);
        assert_eq!(rig.next().0, PASS);
    }
}

#[test]
fn a_failed_request_is_tried_again_soon_and_reported_once() {
    let mut rig = new_rig();
    rig.begin();
    for _ in 0..10 {
        rig.refuse();
        let (path, _, after) = rig.next();
        assert_eq!(path, REGISTER);
        assert!(after >= PAUSE_MIN && after <= PAUSE_MIN + Duration::from_secs(3), "{after:?}");
    }
    assert_eq!(rig.reports(), ["Consul at 127.0.0.1:8500: connection refused"]);
    // A check that cannot be passed is tried again, too, without another registration.
    rig.answer(200, "no");
    rig.next();
    rig.answer(503, "no");
    assert_eq!(rig.next().0, PASS);
}

#[test]
fn the_end_deregisters_after_what_is_running() {
    let mut rig = new_rig();
    rig.begin();
    assert_eq!(rig.rig.run(|cx| rig.agent.on_end(cx)), []);
    let actions = rig.answer(200, "no");
    assert_eq!(rig.request(&actions).0, DEREGISTER);
    // An error is tried again.
    rig.answer(500, "no");
    assert_eq!(rig.next().0, DEREGISTER);
    let actions = rig.answer(200, "no");
    assert_eq!(actions.last(), Some(&AgentAction::End));
    assert_eq!(rig.reports(), [""; 0]);
}

#[test]
fn the_end_is_given_up_after_a_while() {
    let mut rig = new_rig();
    rig.begin();
    rig.answer(200, "no");
    let actions = rig.rig.run(|cx| rig.agent.on_end(cx));
    assert_eq!(rig.request(&actions).0, DEREGISTER);
    assert_eq!(rig.agent.next_at(), Some(rig.rig.now + END_MAX));
    let actions = rig.rig.run_timer(&mut rig.agent);
    assert_eq!(actions.last(), Some(&AgentAction::End));
}
