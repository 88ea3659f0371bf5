use super::*;
use crate::agent::{Agent, AgentAction};
use crate::discovery::consul::Consul;
use crate::discovery::registry::rig::{RegistryRig, watch};
use crate::discovery::registry::{PAUSE_MIN, WATCH_BACKOFF};

fn new_rig() -> RegistryRig<ConsulWatch> {
    watch::<Consul>("consul://127.0.0.1:8500/orders?tag=a%20b")
}

/// Answers the last request, in two pieces.
fn answer(rig: &mut RegistryRig<ConsulWatch>, status: u16, index: &str, ports: &[u16]) {
    let one = |port| format!(r#"{{"Node":{{"Address":"h"}},"Service":{{"Port":{port}}}}}"#);
    let body = format!("[{}]", ports.iter().map(one).collect::<Vec<_>>().join(","));
    let answer = format!("HTTP/1.1 {status} X\r\n{index}Content-Length: {}\r\n\r\n{body}", body.len());
    let (first, second) = answer.split_at(answer.len() / 2);
    rig.send(first);
    rig.send(second);
}

const FIRST: &str = "GET /v1/health/service/orders?passing=1&tag=a%20b";

fn blocking(index: u64) -> String {
    format!("GET /v1/health/service/orders?passing=1&tag=a%20b&index={index}&wait=60000ms")
}

#[test]
fn queries_block_on_the_index_and_pass_on_changes_only() {
    let mut rig = new_rig();
    assert_eq!(rig.begin().0, FIRST);
    answer(&mut rig, 200, "X-Consul-Index: 7\r\n", &[1, 2]);
    assert_eq!(rig.reports(), ["h:1 h:2"]);
    let (request, _, after) = rig.next();
    assert_eq!(request, blocking(7));
    assert!((INTERVAL..=2 * INTERVAL).contains(&after), "{after:?}");
    // Another index without a change, and another order.
    answer(&mut rig, 200, "X-Consul-Index: 9\r\n", &[2, 1]);
    assert_eq!(rig.reports(), [""; 0]);
    assert_eq!(rig.next().0, blocking(9));
    answer(&mut rig, 200, "X-Consul-Index: 11\r\n", &[]);
    assert_eq!(rig.reports(), [""]);
}

#[test]
fn an_index_that_goes_back_or_is_missing_starts_over() {
    let mut rig = new_rig();
    rig.begin();
    answer(&mut rig, 200, "X-Consul-Index: 700\r\n", &[1]);
    rig.next();
    answer(&mut rig, 200, "X-Consul-Index: 5\r\n", &[2]);
    assert_eq!(rig.reports(), ["h:1", "h:2"]);
    assert_eq!(rig.next().0, FIRST);
    for index in ["X-Consul-Index: 0\r\n", "X-Consul-Index: x\r\n", ""] {
        answer(&mut rig, 200, index, &[2]);
        let (request, _, after) = rig.next();
        assert_eq!(request, FIRST);
        assert!(after >= POLL_INTERVAL, "{after:?}");
    }
    assert_eq!(rig.reports(), [""; 0]);
}

#[test]
fn failures_are_passed_on_and_start_over_with_a_growing_pause() {
    let mut rig = new_rig();
    rig.begin();
    answer(&mut rig, 200, "X-Consul-Index: 7\r\n", &[1]);
    rig.next();
    answer(&mut rig, 500, "", &[]);
    assert_eq!(rig.reports(), ["h:1", "Consul at 127.0.0.1:8500: status 500: []"]);
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        let (request, _, after) = rig.next();
        assert_eq!(request, FIRST);
        assert!(after >= PAUSE_MIN && after <= PAUSE_MIN + Duration::from_millis(WATCH_BACKOFF.max_ms));
        longest = longest.max(after);
        rig.refuse();
    }
    assert!(longest > Duration::from_secs(1), "{longest:?}");
    assert_eq!(rig.reports().last().unwrap(), "Consul at 127.0.0.1:8500: connection refused");
    // The same instances are passed on again after a failure.
    rig.next();
    answer(&mut rig, 200, "X-Consul-Index: 3\r\n", &[1]);
    assert_eq!(rig.reports(), ["h:1"]);
}

#[test]
fn a_silent_query_is_given_up_after_its_wait() {
    let mut rig = new_rig();
    rig.begin();
    answer(&mut rig, 200, "X-Consul-Index: 7\r\n", &[1]);
    rig.next();
    let wait = rig.agent.next_at().unwrap() - rig.rig.now;
    assert_eq!(wait, Duration::from_millis(60_000 + 3_750 + 5_000));
    let actions = rig.rig.run_timer(&mut rig.agent);
    assert_eq!(actions, [AgentAction::Close(rig.link.unwrap())]);
    assert_eq!(rig.reports(), ["h:1", "Consul at 127.0.0.1:8500: no answer within 68.75s"]);
    assert_eq!(rig.next().0, FIRST);
}

#[test]
fn a_body_that_is_no_list_is_a_failure() {
    let mut rig = watch::<Consul>("consul://127.0.0.1:8500/orders?dc=west%20one");
    let (request, _) = rig.begin();
    assert!(request.ends_with("&dc=west%20one"), "{request}");
    rig.send("HTTP/1.1 200 OK\r\nX-Consul-Index: 1\r\nContent-Length: 2\r\n\r\n{}");
    let found = rig.reports();
    assert_eq!(found, ["Consul at 127.0.0.1:8500: expected a JSON array of services"]);
}
