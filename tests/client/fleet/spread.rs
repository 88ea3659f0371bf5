//! How calls are divided, counted at real servers: by keys, by the program's own balancing, one-way calls, and the servers
//! to which connections are opened ahead.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Numbered, Told, call_times, url_of, which};
use crate::common::eventually;
use coreloop::client::{AttemptEnd, Balance, Balancer, Candidates, Client, PickFor};
use coreloop::codec::Codec;
use coreloop::discovery::Instance;

/// Returns the server that has answered each key.
fn by_key(client: &Client) -> BTreeMap<u32, u32> {
    (0..200_u32).map(|key| (key, which(&client.with_key(key.to_le_bytes())).unwrap())).collect()
}

#[test]
fn a_key_stays_with_its_server_and_only_the_keys_of_one_that_leaves_move() {
    let servers: Vec<Numbered> = (0..4).map(Numbered::start).collect();
    let all: Vec<&Numbered> = servers.iter().collect();
    let resolver = Told::default();
    let client = resolver
        .builder()
        .fleet(|fleet| {
            fleet.balance = Balance::ConsistentHash;
            fleet.slow_start_ms = 0;
        })
        .build()
        .unwrap();
    resolver.set(&all);
    let first = by_key(&client);
    let used: std::collections::BTreeSet<u32> = first.values().copied().collect();
    assert_eq!(used.len(), 4, "every server has keys");
    assert_eq!(by_key(&client), first);

    resolver.set(&all[..3]);
    eventually("the last one has left", || client.endpoints().len() == 3);
    let without = by_key(&client);
    for (key, server) in &first {
        match *server {
            3 => assert_ne!(without[key], 3, "key {key}"),
            stays => assert_eq!(without[key], stays, "key {key} was not the last one's"),
        }
    }
    let moved: std::collections::BTreeSet<u32> =
        first.iter().filter(|(_, server)| **server == 3).map(|(key, _)| without[key]).collect();
    assert!(moved.len() > 1, "its keys are divided among the others: {moved:?}");

    resolver.set(&all);
    eventually("it is back", || client.endpoints().len() == 4);
    assert_eq!(by_key(&client), first);
}

/// Uses the endpoint with the largest address, and notes what it is asked and told.
#[derive(Clone, Debug, Default)]
struct Largest {
    picks: Arc<AtomicUsize>,
    ends: Arc<AtomicUsize>,
    keys: Arc<Mutex<Vec<Option<u64>>>>,
}

impl Balancer for Largest {
    fn pick(&mut self, call: &PickFor<'_>, candidates: &Candidates<'_>) -> usize {
        self.picks.fetch_add(1, Ordering::SeqCst);
        self.keys.lock().unwrap().push(call.key);
        let largest =
            candidates.iter().enumerate().max_by_key(|(_, candidate)| candidate.instance.address.clone());
        largest.unwrap().0
    }

    fn on_end(&mut self, _end: &AttemptEnd) {
        self.ends.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_programs_own_balancing_decides_and_learns_the_ends() {
    let mut servers: Vec<Numbered> = (0..3).map(Numbered::start).collect();
    servers.sort_by(|a, b| a.address.cmp(&b.address));
    let balancer = Largest::default();
    let client = Client::builder(url_of(&servers.iter().collect::<Vec<_>>()))
        .balancer(balancer.clone())
        .build()
        .unwrap();
    let connected = || client.endpoints().iter().filter(|endpoint| endpoint.is_connected).count();
    eventually("each server has a connection", || connected() == 3);
    let (picks, ends) = (balancer.picks.load(Ordering::SeqCst), balancer.ends.load(Ordering::SeqCst));
    call_times(&client, 100);
    assert_eq!(servers.iter().map(Numbered::calls).collect::<Vec<_>>(), [0, 0, 100]);
    // The end of the last one may be told after its caller has the answer.
    eventually("it learns every end", || balancer.ends.load(Ordering::SeqCst) == ends + 100);
    assert_eq!(balancer.picks.load(Ordering::SeqCst), picks + 100);

    which(&client.with_key("customer 7")).unwrap();
    let keys = balancer.keys.lock().unwrap().clone();
    assert!(keys.last().unwrap().is_some() && keys[..keys.len() - 1].iter().all(Option::is_none));

    // The one that it prefers is not a candidate any more.
    servers.pop().unwrap().server.shutdown();
    call_times(&client, 100);
    assert_eq!(servers[1].calls(), 100);
}

#[test]
fn one_way_calls_arrive_once_at_servers_that_run() {
    let mut servers: Vec<Numbered> = (0..3).map(Numbered::start).collect();
    let client = Client::builder(url_of(&servers.iter().collect::<Vec<_>>())).build().unwrap();
    let send = |count: usize| {
        for _ in 0..count {
            client.send_bytes("Which.Server", Codec::Json, b"0").unwrap();
        }
    };
    let connected = || client.endpoints().iter().filter(|endpoint| endpoint.is_connected).count();
    eventually("each server has a connection", || connected() == 3);
    send(300);
    let calls = |servers: &[Numbered]| servers.iter().map(Numbered::calls).collect::<Vec<_>>();
    eventually("all have arrived", || calls(&servers).iter().sum::<usize>() == 300);
    assert!(calls(&servers).iter().all(|calls| *calls > 0), "{:?}", calls(&servers));
    assert_eq!(client.in_flight(), 0);

    servers.pop().unwrap().server.shutdown();
    eventually("its connection has ended", || connected() == 2);
    let before: usize = calls(&servers).iter().sum();
    send(200);
    eventually("all have arrived", || calls(&servers).iter().sum::<usize>() == before + 200);
    // A call with an answer on each connection comes after all that were sent before.
    call_times(&client, 50);
    assert_eq!(calls(&servers).iter().sum::<usize>(), before + 250);
    assert_eq!(client.fleet_stats().hedges, 0);
}

/// Returns instances of these servers in a zone.
fn in_zone<'a>(servers: &'a [Numbered], zone: &'a str) -> impl Iterator<Item = Instance> + use<'a> {
    servers.iter().map(move |server| Instance::new(&server.address).zone(zone))
}

#[test]
fn connections_are_opened_ahead_in_the_clients_zone_first() {
    let servers: Vec<Numbered> = (0..6).map(Numbered::start).collect();
    let (far, near) = servers.split_at(3);
    let resolver = Told::default();
    let client = resolver
        .builder()
        .fleet(|fleet| fleet.zone = Some("near".to_owned()))
        .configure(|config| config.warm_endpoints_max = 3)
        .build()
        .unwrap();
    resolver.set_instances(in_zone(far, "far").chain(in_zone(near, "near")).collect());
    let connected = |zone: &str| {
        let all = client.endpoints();
        let is_near =
            |endpoint: &&coreloop::client::EndpointView| endpoint.instance.zone.as_deref() == Some(zone);
        all.iter().filter(|endpoint| endpoint.is_connected).filter(is_near).count()
    };
    eventually("the zone is connected", || connected("near") == 3);
    assert_eq!((connected("far"), client.stats().connects), (0, 3));
}

#[test]
fn servers_of_the_zone_that_come_later_are_connected_though_others_are() {
    let servers: Vec<Numbered> = (0..4).map(Numbered::start).collect();
    let (far, near) = servers.split_at(2);
    let resolver = Told::default();
    let client = resolver
        .builder()
        .fleet(|fleet| fleet.zone = Some("near".to_owned()))
        .configure(|config| config.warm_endpoints_max = 2)
        .build()
        .unwrap();
    resolver.set_instances(in_zone(far, "far").collect());
    eventually("the others are connected", || client.stats().connects == 2);
    resolver.set_instances(in_zone(far, "far").chain(in_zone(near, "near")).collect());
    eventually("the zone is connected, too", || {
        client.endpoints().iter().filter(|endpoint| endpoint.is_in_zone && endpoint.is_connected).count() == 2
    });
    assert_eq!(servers.iter().map(Numbered::calls).sum::<usize>(), 0, "without any call");
}
