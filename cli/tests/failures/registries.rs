//! Servers that register themselves in real registries, under load: killed, drained, and a registry that loses its data.

#[path = "../../../tests/common/registries.rs"]
mod real;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coreloop::client::{Client, FleetEvent};

use self::real::{Consul, Etcd, Registry, get, get_header, put};
use crate::crashes::assert_ran_once;
use crate::load::{Load, Shape, wait_until};
use crate::processes::Servers;

/// The servers that Consul has, and that pass their checks.
const PASSING: &str = "/v1/health/service/work?passing";

/// Callers whose calls must not run twice, and callers whose calls may.
const BOTH: Shape = Shape { place: 8, price: 8, us: 1_000, every: Duration::ZERO };

/// Kills one of three registered servers under load, waits until the registry has forgotten it, and starts it again.
fn one_is_killed_forgotten_and_back(servers: &mut Servers, client: &Client, load: &Load) {
    wait_until("every server has run calls", || servers.all.iter().all(|server| server.runs().len() > 50));
    servers.all[0].kill();
    wait_until("its lease or check ends", || client.endpoints().len() == 2);
    load.wait_for_ok(200);
    let before = servers.all[0].runs().len();
    servers.all[0].start_again();
    wait_until("it is found again", || {
        client.endpoints().len() == 3 && servers.all[0].runs().len() > before + 20
    });
}

#[test]
fn servers_in_consul_are_killed_and_drained_and_consul_loses_its_data() {
    let Some(mut consul) = Consul::start() else { return };
    let url = consul.url("work?ttl=1s");
    let mut servers = Servers::start_registered(3, &url);
    let ignored = Arc::new(AtomicUsize::new(0));
    let counted = ignored.clone();
    let client = Client::builder(&url)
        .fleet(|config| config.breaker.open_ms = 200)
        .on_fleet_event(move |event| {
            if *event == FleetEvent::EmptyUpdateIgnored {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    wait_until("all are found", || client.endpoints().len() == 3);
    let load = Load::start(&client, BOTH);
    one_is_killed_forgotten_and_back(&mut servers, &client, &load);
    let failed_by_the_kill = load.failed();

    // Deregistered first, then drained: no call fails.
    servers.all[1].drain();
    wait_until("it is not found any more", || client.endpoints().len() == 2);
    let before = servers.all[1].runs().len();
    servers.all[1].start_again();
    wait_until("it is found again", || servers.all[1].runs().len() > before + 20);

    // It keeps nothing: at first its list is empty, and its index begins at 1 again.
    consul.stop();
    load.wait_for_ok(200);
    consul.restart();
    wait_until("all have registered again", || passing(&consul) >= 3);
    load.wait_for_ok(200);
    wait_until("all are in use", || client.endpoints().len() == 3);
    let ended = load.end();
    assert_eq!(ended.failed.len(), failed_by_the_kill, "{:?}", ended.failed.last());
    assert_eq!(ended.needless().len(), 0, "{:?}", ended.needless());
    assert!(ended.failed.len() <= BOTH.place, "{:?}", ended.failed);
    eprintln!("{} empty updates were ignored", ignored.load(Ordering::Relaxed));
    assert_ran_once(&servers);
}

/// Returns the number of the servers in [`PASSING`].
fn passing(consul: &Consul) -> usize {
    get(&consul.address(), PASSING).map_or(0, |body| body.matches("\"ServiceID\"").count())
}

/// Returns the index of Consul's list of the servers, with which clients wait for its next change.
fn consul_index(consul: &Consul) -> u64 {
    let index = get_header(&consul.address(), PASSING, "x-consul-index");
    index.and_then(|index| index.parse().ok()).expect("Consul has an index")
}

#[test]
#[ignore = "a long form: Consul's index goes back"]
fn long_consuls_index_goes_back_under_load_and_the_next_change_is_found() {
    let Some(mut consul) = Consul::start() else { return };
    let url = consul.url("work?ttl=1s");
    // Each change of the list raises the index: it must be well above what Consul begins with.
    let other =
        r#"{"Name": "work", "ID": "other", "Port": 1, "Check": {"TTL": "60s", "Status": "critical"}}"#;
    for _ in 0..200 {
        put(&consul.address(), "/v1/agent/service/register", other).expect("it is registered");
        put(&consul.address(), "/v1/agent/service/deregister/other", "").expect("it is deregistered");
    }
    let servers = Servers::start_registered(3, &url);
    let client = Client::builder(&url).build().unwrap();
    wait_until("all are found", || client.endpoints().len() == 3);
    let load = Load::start(&client, BOTH);
    load.wait_for_ok(500);
    let high = consul_index(&consul);
    consul.stop();
    load.wait_for_ok(200);
    consul.restart();
    // The servers register again by themselves; until then the list is empty, and the last set stays.
    wait_until("all have registered again", || {
        assert_eq!(client.endpoints().len(), 3, "the last good set stays");
        passing(&consul) >= 3
    });
    let low = consul_index(&consul);
    assert!(0 < low && low < high, "the index was {high} and is {low}");
    // A client that waited for an index above the old one would not find the next change.
    let fourth = Servers::start_registered(1, &url);
    wait_until("the fourth is found", || client.endpoints().len() == 4);
    let found = consul_index(&consul);
    assert!(found < high, "the index was {high} and is {found}: nothing has gone back any more");
    wait_until("it is used", || !fourth.all[0].runs().is_empty());
    let ended = load.end();
    eprintln!(
        "the index was {high}, {low} after the restart, {found} when the fourth server was found; {} calls",
        ended.calls
    );
    assert_eq!(ended.failed.len(), 0, "{:?}", ended.failed.first());
    assert_ran_once(&servers);
}

#[test]
fn a_server_in_etcd_is_forgotten_when_its_lease_expires() {
    let Some(mut etcd) = Etcd::start() else { return };
    let url = etcd.url("work?ttl=2s");
    let mut servers = Servers::start_registered(3, &url);
    let client = Client::builder(&url).fleet(|config| config.breaker.open_ms = 200).build().unwrap();
    wait_until("all are found", || client.endpoints().len() == 3);
    let load = Load::start(&client, BOTH);
    one_is_killed_forgotten_and_back(&mut servers, &client, &load);
    let failed_by_the_kill = load.failed();
    etcd.stop();
    load.wait_for_ok(200);
    etcd.restart(true);
    load.wait_for_ok(200);
    let ended = load.end();
    assert_eq!(ended.failed.len(), failed_by_the_kill, "{:?}", ended.failed.last());
    assert_eq!(ended.needless().len(), 0, "{:?}", ended.needless());
    assert!(ended.failed.len() <= BOTH.place, "{:?}", ended.failed);
    assert_ran_once(&servers);
}
