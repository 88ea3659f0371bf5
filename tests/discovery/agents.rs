//! Agents on a real reactor: connections, timers, ends.

use coreloop::discovery::{DiscoveryHandle, Target, Update, Updates, builtin};

use crate::common::{Reactor, Scripted, health};

#[test]
fn a_watch_follows_its_registry_over_one_connection() {
    let (reactor, consul) = (Reactor::start(), Scripted::start());
    let watched = reactor.watch(&format!("consul://{}/orders", consul.address()));
    let mut connection = consul.accept();
    assert!(connection.request().starts_with("GET /v1/health/service/orders?passing=1 HTTP/1.1\r\n"));
    connection.answer("X-Consul-Index: 4\r\n", &health(&[1]));
    watched.until_addresses(&["127.0.0.1:1"]);
    assert!(connection.request().contains("&index=4&wait=60000ms"));
    // Larger than one read.
    let ports: Vec<u16> = (1..=2000).collect();
    connection.answer("X-Consul-Index: 5\r\n", &health(&ports));
    watched.until("2000 instances", |update| matches!(update, Update::Instances(all) if all.len() == 2000));
    assert!(connection.request().contains("&index=5&"));
    // The end of the watch ends the query.
    drop(watched);
    assert!(connection.has_ended());
}

#[test]
fn a_registry_that_is_away_is_tried_again() {
    let reactor = Reactor::start();
    let consul = Scripted::start();
    let address = consul.address();
    drop(consul);
    let watched = reactor.watch(&format!("consul://{address}/orders"));
    for _ in 0..3 {
        let why = watched.until_failed();
        assert!(why.starts_with(&format!("Consul at {address}: ")) && why.contains("refused"), "{why}");
    }
    let consul = std::net::TcpListener::bind(&address).unwrap();
    let (stream, _) = consul.accept().unwrap();
    let mut connection = crate::common::ScriptedConnection { stream };
    connection.request();
    connection.answer("X-Consul-Index: 1\r\n", &health(&[7]));
    watched.until_addresses(&["127.0.0.1:7"]);
}

#[test]
fn names_of_registries_are_resolved() {
    let (reactor, consul) = (Reactor::start(), Scripted::start());
    let port = consul.address().rsplit_once(':').unwrap().1.to_owned();
    let watched = reactor.watch(&format!("consul://localhost:{port}/orders"));
    let mut connection = consul.accept();
    assert!(connection.request().contains(&format!("Host: localhost:{port}\r\n")));
    connection.answer("X-Consul-Index: 1\r\n", &health(&[7]));
    watched.until_addresses(&["127.0.0.1:7"]);
    let unknown = reactor.watch("consul://no-such-host.invalid:8500/orders");
    let why = unknown.until_failed();
    assert!(why.contains("no-such-host.invalid"), "{why}");
}

#[test]
fn many_watches_share_one_reactor() {
    let (reactor, consul) = (Reactor::start(), Scripted::start());
    let url = format!("consul://{}/orders", consul.address());
    let watches: Vec<_> = (0..50).map(|_| reactor.watch(&url)).collect();
    let mut connections: Vec<_> = (0..50).map(|_| consul.accept()).collect();
    for connection in &mut connections {
        connection.request();
        connection.answer("X-Consul-Index: 1\r\n", &health(&[7]));
    }
    watches.iter().for_each(|watched| drop(watched.until_addresses(&["127.0.0.1:7"])));
    drop(watches);
    // Each has either a query running, or ended between two.
    assert!(connections.iter_mut().all(|connection| {
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut connection.stream, &mut rest).is_ok() || rest.starts_with(b"GET ")
    }));
}

#[test]
fn a_reactor_that_has_ended_is_an_error() {
    let handle = {
        let server = coreloop::Server::in_memory().cores(1).start().unwrap();
        let handle = DiscoveryHandle::new(server.reactors().remove(0));
        server.shutdown();
        handle
    };
    let target = Target::parse("consul://127.0.0.1:1/orders").unwrap();
    let error = builtin("consul").unwrap().watch(&target, Updates::new(drop), &handle).unwrap_err();
    assert_eq!(error.to_string(), "discovery cannot begin: the reactor has ended");
}
