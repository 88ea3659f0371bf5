//! `loadgen` with the URL of a resolver: a load on several servers through the client, while one of them ends.

#![cfg(target_os = "linux")]

mod support;

use coreloop::{Server, demo};
use support::spawn;

fn server() -> Server {
    demo::services(Server::builder()).cores(1).listen("127.0.0.1:0").start().expect("it starts")
}

#[test]
fn a_server_that_drains_during_the_run_fails_no_call() {
    let (stays, goes) = (server(), server());
    let (first, second) = (stays.addresses()[0].to_string(), goes.addresses()[0].to_string());
    let mut run = spawn(
        &format!("static:{first},{second}"),
        "--rate 500 --method Arith.Multiply --connections 8 --warmup 0 --duration 4 --timeout 5s",
    );
    // The line of the first second.
    run.wait_for("offered");
    goes.shutdown();
    let run = run.finish();
    // 4: on a busy machine a call that is due at the very end may not be sent.
    assert!(matches!(run.code, Some(0 | 4)), "{}{}", run.stdout, run.stderr);
    let (total, servers) = (&run.json["total"], run.json["endpoints"].as_array().expect("a list"));
    assert_eq!(total["failed"].as_object().map(|failed| failed.len()), Some(0), "{total}");
    assert!(total["ok"].as_u64() >= Some(1950), "{total}");
    assert_eq!(servers.len(), 2);
    for server in servers {
        assert!(server["ended"][0].as_u64() > Some(0), "{servers:?}");
    }
    assert!(run.json["servers"][0]["per_s"][&first].as_f64().is_some(), "{}", run.json["servers"]);
    assert!(run.page.contains(&first) && run.page.contains("<svg"), "the page has the servers and the plots");
    assert_eq!(stays.shutdown().panics, 0);
}
