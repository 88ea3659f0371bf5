//! A server that registers itself, with a resolver of the program's own.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coreloop::Server;
use coreloop::discovery::{
    DiscoveryError, DiscoveryHandle, Instance, Registration, RegistrationEvent, RegistrationEvents, Resolver,
    Target, Updates, Watch,
};

use crate::common::PATIENCE;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Registered(String, Instance),
    /// Whether the server's port was open then.
    Deregistered {
        was_open: bool,
    },
}

/// Called when a registration has ended.
type Done = Box<dyn FnOnce() + Send>;

/// A registry in memory, which completes the end of registrations or never does.
struct Registry {
    events: Sender<Event>,
    completes: bool,
    /// The ends that never complete.
    kept: Arc<Mutex<Vec<Done>>>,
}

impl Resolver for Registry {
    fn scheme(&self) -> &str {
        "mine"
    }

    fn watch(&self, _: &Target, _: Updates, _: &DiscoveryHandle) -> Result<Watch, DiscoveryError> {
        Ok(Watch::new(()))
    }

    fn register(
        &self,
        target: &Target,
        instance: &Instance,
        events: RegistrationEvents,
        _on: &DiscoveryHandle,
    ) -> Result<Registration, DiscoveryError> {
        let _ = self.events.send(Event::Registered(target.to_string(), instance.clone()));
        events.registered();
        let (send, address) = (self.events.clone(), instance.address.clone());
        let (completes, kept) = (self.completes, self.kept.clone());
        Ok(Registration::new(move |done| {
            let was_open = std::net::TcpStream::connect(&address).is_ok();
            let _ = send.send(Event::Deregistered { was_open });
            if completes {
                done();
            } else {
                kept.lock().unwrap().push(done);
            }
        }))
    }
}

fn registry(completes: bool) -> (Registry, mpsc::Receiver<Event>) {
    let (events, seen) = mpsc::channel();
    (Registry { events, completes, kept: Arc::default() }, seen)
}

#[test]
fn a_server_is_registered_when_it_serves_and_deregistered_first() {
    let (registry, seen) = registry(true);
    let (send, reported) = mpsc::channel();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.register.zone = "a".to_owned())
        .register_with(registry, "mine://here/orders")
        .on_registration(move |url, event| {
            let _ = send.send((url.to_owned(), event.clone()));
        })
        .start()
        .unwrap();
    let address = server.addresses()[0].to_string();
    let expected = Event::Registered("mine://here/orders".to_owned(), Instance::new(&address).zone("a"));
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), expected);
    let report = reported.recv_timeout(PATIENCE).unwrap();
    assert_eq!(report, ("mine://here/orders".to_owned(), RegistrationEvent::Registered));
    assert!(seen.try_recv().is_err());
    server.shutdown();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [Event::Deregistered { was_open: true }]);
}

#[test]
fn a_registry_that_does_not_answer_does_not_hold_the_end() {
    let (registry, seen) = registry(false);
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.register.deregister_ms = 50)
        .register_with(registry, "mine://here/orders")
        .start()
        .unwrap();
    server.shutdown();
    assert_eq!(seen.try_iter().count(), 2);
}

#[test]
fn a_dropped_server_deregisters_too() {
    let (registry, seen) = registry(true);
    let builder = Server::builder().listen("127.0.0.1:0");
    drop(builder.register_with(registry, "mine://here/orders").start().unwrap());
    assert_eq!(seen.try_iter().count(), 2);
}

#[test]
fn a_registration_that_cannot_begin_keeps_the_server_from_starting() {
    let refused = |listen: &str, url: &str| {
        let error = Server::builder().listen(listen).register(url).start().map(drop).unwrap_err();
        error.to_string()
    };
    let error = refused("0.0.0.0:0", "consul://127.0.0.1:8500/orders");
    assert!(error.starts_with("the listener 0.0.0.0:") && error.contains("register.address"), "{error}");
    let error = refused("127.0.0.1:0", "nothing://here");
    assert!(error.starts_with("no resolver handles the scheme \"nothing\""), "{error}");
    let error = refused("127.0.0.1:0", "127.0.0.1:8500");
    assert!(error.contains("SCHEME://AUTHORITY/PATH"), "{error}");
    let error = refused("127.0.0.1:0", "consul://127.0.0.1:8500/orders?tll=3s");
    assert!(error.contains("one of the parameters") && error.contains("\"tll\""), "{error}");
}

#[test]
fn a_registry_that_is_away_is_reported_and_the_server_runs_and_ends() {
    let (send, reported) = mpsc::channel();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.register.deregister_ms = 10)
        .register("consul://127.0.0.1:1/orders")
        .on_registration(move |_, event| {
            let _ = send.send(event.clone());
        })
        .start()
        .unwrap();
    let event = reported.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(&event, RegistrationEvent::Failed(why) if why.contains("127.0.0.1:1")), "{event:?}");
    assert!(std::net::TcpStream::connect(server.addresses()[0].to_string()).is_ok());
    server.shutdown();
    // Failures of the same kind are reported once.
    assert!(reported.recv_timeout(Duration::ZERO).is_err());
}
