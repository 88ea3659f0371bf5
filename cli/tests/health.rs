//! `coreloop health`: the exit status that the health check of a container uses.

mod common;

use common::{Served, run};
use coreloop::{Server, demo};

#[test]
fn a_server_that_serves_is_exit_status_0() {
    let server = Served::start(&[]);
    for arguments in [&["health", server.address()][..], &["health", server.address(), "Arith"]] {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "serving\n"), "{ran:?}");
    }
    let ran = run(&["health", &format!("http:{}", server.address())]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "serving\n"), "{ran:?}");
    let ran = run(&["health", server.address(), "Nope"]);
    assert!(ran.code == Some(1) && ran.stderr.starts_with("not_found: "), "{ran:?}");
}

#[test]
fn a_service_that_does_not_serve_is_exit_status_1() {
    let server = demo::services(Server::builder()).listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    server.health().set("Arith", false);
    let ran = run(&["health", &address, "Arith"]);
    assert_eq!(ran.stderr, "coreloop: Arith is not_serving, not serving\n", "{ran:?}");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    // The server as a whole serves until it drains.
    for arguments in [&["health", &*address][..], &["health", &address, "Echo"]] {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "serving\n"), "{ran:?}");
    }
}

#[test]
fn a_server_that_is_gone_is_exit_status_1() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ran = run(&["health", "--timeout", "1s", &gone]);
    assert!(ran.code == Some(1) && ran.stderr.starts_with("unavailable: "), "{ran:?}");
}
