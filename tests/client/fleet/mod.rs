//! Clients that have several servers: calls spread over them, survive the end of some of them, and follow what the
//! resolver finds.

mod failures;
#[cfg(feature = "http")]
mod health_http;
mod repeats;
mod slow;
mod spread;
mod updates;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::eventually;
use coreloop::client::{BuildError, CallError, CallOptions, Client, ClientBuilder, FleetEvent};
use coreloop::codec::Codec;
use coreloop::discovery::{DiscoveryError, DiscoveryHandle, Instance, Resolver, Target, Updates, Watch};
use coreloop::{Context, Server};

/// A server whose only method returns the server's number and counts its calls.
pub struct Numbered {
    pub server: Server,
    pub address: String,
    calls: Arc<AtomicUsize>,
}

impl Numbered {
    pub fn start(number: u32) -> Numbered {
        Numbered::start_at(number, "127.0.0.1:0")
    }

    pub fn start_at(number: u32, address: &str) -> Numbered {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        let server = Server::builder()
            .method("Which.Server", move |_cx: &Context, _argument: u32| {
                counter.fetch_add(1, Ordering::Relaxed);
                Ok(number)
            })
            .listen(address)
            .start()
            .unwrap();
        Numbered { address: server.addresses()[0].to_string(), server, calls }
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Returns the number of the server that has answered a call.
pub fn which(client: &Client) -> Result<u32, CallError> {
    let reply = client.call_bytes("Which.Server", Codec::Json, b"0")?;
    Ok(String::from_utf8(reply).unwrap().parse().unwrap())
}

/// Makes this number of calls, one after the other.
pub fn call_times(client: &Client, count: usize) {
    for _ in 0..count {
        which(client).unwrap();
    }
}

/// Makes calls until each of these servers has answered one. A server whose first call was slow gets no further one
/// until the others look as slow or time has passed, so no count of calls is enough.
///
/// # Panics
///
/// If a call fails, or another server answers.
pub fn call_each_of(client: &Client, expected: &[u32]) {
    let mut answered = BTreeSet::new();
    eventually("each server answers", || {
        let number = which(client).unwrap();
        assert!(expected.contains(&number), "{number} has answered, expected {expected:?}");
        answered.insert(number);
        answered.len() == expected.len()
    });
}

pub fn url_of(servers: &[&Numbered]) -> String {
    let addresses: Vec<&str> = servers.iter().map(|server| server.address.as_str()).collect();
    format!("static:{}", addresses.join(","))
}

/// A resolver that finds what the test says.
#[derive(Clone, Default)]
pub struct Told {
    pub updates: Arc<Mutex<Option<Updates>>>,
    pub watches: Arc<AtomicUsize>,
}

/// Counts the watches that are open.
struct OpenWatch(Arc<AtomicUsize>);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Resolver for Told {
    fn scheme(&self) -> &str {
        "told"
    }

    fn watch(
        &self,
        target: &Target,
        updates: Updates,
        _on: &DiscoveryHandle,
    ) -> Result<Watch, DiscoveryError> {
        assert_eq!((target.authority(), target.path()), ("registry", "which"));
        *self.updates.lock().unwrap() = Some(updates);
        self.watches.fetch_add(1, Ordering::SeqCst);
        Ok(Watch::new(OpenWatch(self.watches.clone())))
    }
}

impl Told {
    pub fn builder(&self) -> ClientBuilder {
        Client::builder("told://registry/which").resolver(self.clone())
    }

    pub fn set(&self, servers: &[&Numbered]) {
        let instances = servers.iter().map(|server| Instance::new(&server.address)).collect();
        self.set_instances(instances);
    }

    pub fn set_instances(&self, instances: Vec<Instance>) {
        self.updates.lock().unwrap().as_ref().unwrap().set(instances);
    }

    pub fn open_watches(&self) -> usize {
        self.watches.load(Ordering::SeqCst)
    }
}

/// The events of a client.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<FleetEvent>>>);

impl Events {
    pub fn listen(&self, builder: ClientBuilder) -> ClientBuilder {
        let events = self.0.clone();
        builder.on_fleet_event(move |event| events.lock().unwrap().push(event.clone()))
    }

    pub fn count(&self, is_meant: impl Fn(&FleetEvent) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|event| is_meant(event)).count()
    }
}

#[test]
fn calls_go_to_every_server_of_a_list() {
    let servers = [Numbered::start(0), Numbered::start(1), Numbered::start(2)];
    let client = Client::connect(url_of(&servers.each_ref())).unwrap();
    call_each_of(&client, &[0, 1, 2]);
    let before: usize = servers.iter().map(Numbered::calls).sum();
    call_times(&client, 300);
    assert_eq!(servers.iter().map(Numbered::calls).sum::<usize>(), before + 300);
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn batches_and_callbacks_go_to_several_servers_too() {
    let servers = [Numbered::start(0), Numbered::start(1)];
    let client = Client::connect(url_of(&servers.each_ref())).unwrap();
    let batch = client.batch();
    let calls: Vec<_> = (0..100).map(|_| batch.start_bytes("Which.Server", Codec::Json, b"0")).collect();
    batch.send();
    for call in calls {
        call.wait().unwrap();
    }
    assert!(servers.iter().all(|server| server.calls() > 0));
}

#[cfg(feature = "http")]
#[test]
fn the_protocol_stands_before_the_list_or_before_each_address() {
    let servers = [Numbered::start(0), Numbered::start(1)];
    let [one, two] = servers.each_ref().map(|server| &server.address);
    for url in [format!("http:static:{one},{two}"), format!("static:http:{one},http:{two}")] {
        let client = Client::connect(&url).unwrap();
        call_each_of(&client, &[0, 1]);
    }
    let mixed = Client::builder(format!("static:http:{one},{two}")).build().unwrap_err();
    assert!(matches!(mixed, BuildError::Protocols { .. }), "{mixed:?}");
}

#[test]
fn a_url_that_is_not_valid_is_refused_with_its_reason() {
    for (url, expected) in [
        ("static:", "expected addresses separated by commas"),
        ("static:127.0.0.1:1;weight=x", "expected weight=NUMBER"),
        ("static:nothing", "nothing"),
        ("nowhere://registry/which", "no resolver handles the scheme \"nowhere\""),
    ] {
        let error = Client::builder(url).build().unwrap_err();
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
    // A host may be named as a scheme.
    assert!(Client::builder("static:80").build().is_ok());
}

#[test]
fn one_address_can_have_the_policies_of_a_fleet() {
    let server = Numbered::start(7);
    let events = Events::default();
    let client = events.listen(Client::builder(&server.address)).connect().unwrap();
    assert_eq!(which(&client).unwrap(), 7);
    assert_eq!(events.count(|event| matches!(event, FleetEvent::Appeared(_))), 1);
    let endpoints = client.endpoints();
    assert_eq!((endpoints.len(), endpoints[0].is_connected), (1, true));
    assert_eq!(endpoints[0].ended[0], 1);
}

#[test]
fn a_client_of_one_address_has_one_endpoint_to_show() {
    let server = Numbered::start(7);
    let client = Client::connect(&server.address).unwrap();
    let endpoints = client.endpoints();
    assert_eq!(endpoints.len(), 1);
    assert!(endpoints[0].is_connected);
    assert_eq!(endpoints[0].instance.address, server.address);
}

#[test]
fn options_and_clones_have_keys() {
    let servers = [Numbered::start(0), Numbered::start(1)];
    let client = Client::connect(url_of(&servers.each_ref())).unwrap();
    which(&client.with_key("customer 7")).unwrap();
    which(&client.with_options(&CallOptions::new().key(7_u64.to_le_bytes()))).unwrap();
}
