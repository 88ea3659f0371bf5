//! A resolver of the program's own: servers register with a board in memory, and a client finds them there: `resolver`.
//!
//! A real one would ask a registry on the network, on a thread of its own or on the reactor that it is given. What it
//! finds it passes to `Updates`, as often as it changes; the client does the rest.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, Weak};

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::discovery::{
    DiscoveryError, DiscoveryHandle, Instance, Registration, RegistrationEvents, Resolver, Target, Updates,
    Watch,
};
use coreloop::{Context, Server};

/// The instances of each service, and what watches them.
#[derive(Default)]
struct Board {
    services: BTreeMap<String, Vec<Instance>>,
    watches: Vec<(String, Weak<Updates>)>,
}

impl Board {
    /// Changes the instances of a service, and passes them on.
    fn change(&mut self, service: &str, change: impl FnOnce(&mut Vec<Instance>)) {
        let instances = self.services.entry(service.to_owned()).or_default();
        change(instances);
        self.watches.retain(|(_, updates)| updates.strong_count() > 0);
        let watches = self.watches.iter().filter(|(watched, _)| watched == service);
        for updates in watches.filter_map(|(_, updates)| updates.upgrade()) {
            updates.set(instances.clone());
        }
    }
}

/// The resolver of `board:///SERVICE`.
#[derive(Clone, Default)]
struct BoardResolver(Arc<Mutex<Board>>);

impl Resolver for BoardResolver {
    fn scheme(&self) -> &str {
        "board"
    }

    fn watch(
        &self,
        target: &Target,
        updates: Updates,
        _on: &DiscoveryHandle,
    ) -> Result<Watch, DiscoveryError> {
        let updates = Arc::new(updates);
        let mut board = self.0.lock().unwrap();
        board.watches.push((target.path().to_owned(), Arc::downgrade(&updates)));
        board.change(target.path(), |_| {});
        // The watch ends when this is dropped.
        Ok(Watch::new(updates))
    }

    fn register(
        &self,
        target: &Target,
        instance: &Instance,
        events: RegistrationEvents,
        _on: &DiscoveryHandle,
    ) -> Result<Registration, DiscoveryError> {
        let (board, service, instance) = (self.0.clone(), target.path().to_owned(), instance.clone());
        board.lock().unwrap().change(&service, |instances| instances.push(instance.clone()));
        events.registered();
        Ok(Registration::new(move |done| {
            let is_other = |other: &Instance| other.id != instance.id;
            board.lock().unwrap().change(&service, |instances| instances.retain(is_other));
            done();
        }))
    }
}

fn start(name: &'static str) -> Result<Server, Box<dyn Error>> {
    let server = Server::builder()
        .method("Which.Server", move |_cx: &Context, _argument: u32| Ok(name.to_owned()))
        .listen("127.0.0.1:0")
        .start()?;
    Ok(server)
}

/// Calls until each of this many servers has answered, and prints their names.
fn print_servers(client: &Client, count: usize) -> Result<(), Box<dyn Error>> {
    let mut names = BTreeMap::new();
    while names.len() < count {
        let name = String::from_utf8(client.call_bytes("Which.Server", Codec::Json, b"0")?)?;
        *names.entry(name).or_insert(0) += 1;
    }
    println!("answers come from {}", names.into_keys().collect::<Vec<_>>().join(" and "));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let resolver = BoardResolver::default();
    let target = Target::parse("board:///which")?;
    let (one, two) = (start("one")?, start("two")?);
    let register = |server: &Server| {
        let instance = Instance::new(server.addresses()[0].to_string());
        let events = RegistrationEvents::new(|event| println!("registration: {event:?}"));
        resolver.register(&target, &instance, events, &DiscoveryHandle::new(server.reactors()[0].clone()))
    };
    let registration = register(&one)?;
    let _other = register(&two)?;

    let client = Client::builder(target.to_string()).resolver(resolver.clone()).connect()?;
    print_servers(&client, 2)?;

    // A server deregisters before it ends: its last calls finish, and no new ones come.
    registration.end(|| println!("one has deregistered"));
    one.shutdown();
    print_servers(&client, 1)?;
    Ok(())
}
