//! `coreloop endpoints` and `coreloop call` with the URL of a resolver.

mod common;

use common::{Served, run};

#[test]
fn each_server_has_a_line_with_its_state() {
    let servers = [Served::start(&[]), Served::start(&[])];
    // A listener that is gone: nothing accepts there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let url = format!("static:{};zone=a,{};weight=2,{gone}", servers[0].address(), servers[1].address());
    let ran = run(&["endpoints", &url]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<Vec<&str>> = ran.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 4, "{ran:?}");
    assert_eq!(lines[1][..6], [servers[0].address(), "a", "1", "yes", "yes", "closed"]);
    assert_eq!(lines[2][..6], [servers[1].address(), "-", "2", "yes", "yes", "closed"]);
    assert_eq!(lines[3][..4], [gone.as_str(), "-", "1", "no"]);
    let ran = run(&["endpoints", "--json", &url]);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let connected = |index: usize| found[index]["connected"].as_bool();
    assert_eq!([0, 1, 2].map(connected), [Some(true), Some(true), Some(false)], "{found}");
    let ran = run(&["call", &url, "Arith.Multiply", r#"{"A":6,"B":7}"#]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "42\n"), "{ran:?}");
}

#[test]
fn what_cannot_be_resolved_is_an_error_that_says_why() {
    let ran = run(&["endpoints", "zk://127.0.0.1/orders"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("no resolver handles the scheme \"zk\""), "{ran:?}");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = run(&["endpoints", "--timeout", "1s", &format!("consul://{gone}/orders")]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("named no endpoint within 1s: ") && ran.stderr.contains("refused"),
        "{ran:?}"
    );
}
