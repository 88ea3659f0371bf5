//! Real etcd: watches, leases, and what a restart and a compaction do.

use coreloop::discovery::Instance;

use crate::common::{Reactor, kept_alive_and_expires_without};
use crate::registries::{Etcd, Registry, post};

#[test]
fn a_registered_instance_is_seen_with_all_that_it_has_until_it_ends() {
    let (Some(etcd), reactor) = (Etcd::start(), Reactor::start()) else { return };
    let watched = reactor.watch(&etcd.url("services/orders?wait=1s"));
    watched.until_addresses(&[]);
    let instance = Instance::new("http:127.0.0.1:1").weight(3).zone("a").label("version", "2");
    let first = reactor.register(&etcd.url("services/orders"), &instance);
    first.until_registered();
    assert_eq!(watched.until_addresses(&["http:127.0.0.1:1"]), [instance]);
    let second = reactor.register(&etcd.url("services/orders"), &Instance::new("127.0.0.1:2"));
    // Another service, whose name begins with the same text.
    let other = reactor.register(&etcd.url("services/orders2"), &Instance::new("127.0.0.1:3"));
    other.until_registered();
    watched.until_addresses(&["127.0.0.1:2", "http:127.0.0.1:1"]);
    first.end();
    watched.until_addresses(&["127.0.0.1:2"]);
    second.end();
    watched.until_addresses(&[]);
    other.end();
}

#[test]
fn a_lease_is_kept_alive_and_expires_without() {
    let Some(etcd) = Etcd::start() else { return };
    kept_alive_and_expires_without(&etcd.url("orders"), &etcd.url("orders?ttl=2s"));
}

#[test]
fn a_restart_with_and_without_data_is_survived() {
    let (Some(mut etcd), reactor) = (Etcd::start(), Reactor::start()) else { return };
    let watched = reactor.watch(&etcd.url("orders"));
    let registered = reactor.register(&etcd.url("orders?ttl=2s"), &Instance::new("127.0.0.1:1"));
    registered.until_registered();
    watched.until_addresses(&["127.0.0.1:1"]);
    for keeps_data in [true, false] {
        etcd.stop();
        assert!(watched.until_failed().contains(&etcd.address()));
        etcd.restart(keeps_data);
        if !keeps_data {
            // Its lease is gone. With its data, etcd need not have been missed.
            registered.until_registered();
        }
        watched.until_addresses(&["127.0.0.1:1"]);
    }
}

#[test]
fn a_revision_that_was_compacted_is_read_again() {
    let (Some(etcd), reactor) = (Etcd::start(), Reactor::start()) else { return };
    let watched = reactor.watch(&etcd.url("orders?wait=1s"));
    watched.until_addresses(&[]);
    let one = reactor.register(&etcd.url("orders"), &Instance::new("127.0.0.1:1"));
    one.until_registered();
    watched.until_addresses(&["127.0.0.1:1"]);
    assert!(post(&etcd.address(), "/v3/kv/compaction", r#"{"revision":"2","physical":true}"#).is_some());
    let two = reactor.register(&etcd.url("orders"), &Instance::new("127.0.0.1:2"));
    watched.until_addresses(&["127.0.0.1:1", "127.0.0.1:2"]);
    one.end();
    watched.until_addresses(&["127.0.0.1:2"]);
    two.end();
}
