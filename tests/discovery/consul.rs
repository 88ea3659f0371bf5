//! Real Consul 1.8.7: what it answers, and what a restart does.

use coreloop::discovery::{Instance, RegistrationEvent, Update};

use crate::common::{PATIENCE, Reactor, kept_alive_and_expires_without};
use crate::registries::{Consul, Registry};

#[test]
fn a_registered_instance_is_seen_with_all_that_it_has_until_it_ends() {
    let (Some(consul), reactor) = (Consul::start(), Reactor::start()) else { return };
    let watched = reactor.watch(&consul.url("orders"));
    let other = reactor.watch(&consul.url("others"));
    watched.until_addresses(&[]);
    other.until_addresses(&[]);
    let instance = Instance::new("127.0.0.1:6551").weight(3).zone("a").label("version", "2");
    let first = reactor.register(&consul.url("orders?ttl=2s"), &instance);
    first.until_registered();
    let found = watched.until_addresses(&["127.0.0.1:6551"]);
    assert_eq!(found, [instance.clone().id("test/orders-127.0.0.1:6551")]);
    let http = reactor.register(&consul.url("orders"), &Instance::new("http:127.0.0.1:6552").weight(0));
    let found = watched.until("two", |update| matches!(update, Update::Instances(all) if all.len() == 2));
    let Update::Instances(found) = found else { unreachable!("checked above") };
    assert_eq!((found[1].address.as_str(), found[1].weight), ("http:127.0.0.1:6552", 0));
    first.end();
    watched.until_addresses(&["http:127.0.0.1:6552"]);
    http.end();
    watched.until_addresses(&[]);
    assert!(other.updates.try_recv().is_err(), "another service has no updates");
}

#[test]
fn a_check_is_kept_passing_and_expires_without() {
    let Some(consul) = Consul::start() else { return };
    kept_alive_and_expires_without(&consul.url("orders?wait=1s"), &consul.url("orders?ttl=1s"));
}

#[test]
fn a_consul_that_restarts_is_watched_again_and_gets_the_instance_again() {
    let (Some(mut consul), reactor) = (Consul::start(), Reactor::start()) else { return };
    let watched = reactor.watch(&consul.url("orders"));
    let registered = reactor.register(&consul.url("orders?ttl=1s"), &Instance::new("127.0.0.1:1"));
    registered.until_registered();
    watched.until_addresses(&["127.0.0.1:1"]);
    consul.stop();
    assert!(watched.until_failed().contains(&consul.address()));
    let event = registered.events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(event, RegistrationEvent::Failed(_)), "{event:?}");
    // It begins with an empty catalogue and a low index.
    consul.restart();
    registered.until_registered();
    watched.until_addresses(&["127.0.0.1:1"]);
    // The registration that was made again is kept alive, too.
    let second = reactor.register(&consul.url("orders?ttl=1s"), &Instance::new("127.0.0.1:2"));
    watched.until_addresses(&["127.0.0.1:1", "127.0.0.1:2"]);
    second.end();
    watched.until_addresses(&["127.0.0.1:1"]);
}

#[test]
fn what_consul_refuses_is_reported() {
    let (Some(consul), reactor) = (Consul::start(), Reactor::start()) else { return };
    let watched = reactor.watch(&consul.url("orders?dc=nowhere"));
    let why = watched.until_failed();
    assert!(
        why.starts_with(&format!("Consul at {}: status 500: No path to datacenter", consul.address())),
        "{why}"
    );
}
