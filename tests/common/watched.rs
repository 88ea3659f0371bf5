//! A reactor for resolvers, and what their watches and registrations pass on.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use coreloop::Server;
use coreloop::discovery::{
    DiscoveryHandle, Instance, Registration, RegistrationEvent, RegistrationEvents, Target, Update, Updates,
    Watch, builtin,
};

/// Longer than anything here takes; a wait of this length has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A reactor that runs resolvers: that of a server without methods.
pub struct Reactor {
    pub handle: DiscoveryHandle,
    server: Server,
}

impl Reactor {
    pub fn start() -> Reactor {
        let server = Server::in_memory().cores(1).workers(1).start().unwrap();
        Reactor { handle: DiscoveryHandle::new(server.reactors().remove(0)), server }
    }

    /// Ends the reactor as a crash would: nothing is deregistered.
    pub fn crash(self) {
        drop(self.server);
    }

    /// Watches a URL.
    pub fn watch(&self, url: &str) -> Watched {
        let (send, updates) = mpsc::channel();
        let target = Target::parse(url).unwrap();
        let resolver = builtin(target.scheme()).unwrap();
        let into = Updates::new(move |update| {
            let _ = send.send(update);
        });
        Watched { updates, watch: Some(resolver.watch(&target, into, &self.handle).unwrap()) }
    }

    /// Registers an instance.
    pub fn register(&self, url: &str, instance: &Instance) -> Registered {
        let (send, events) = mpsc::channel();
        let target = Target::parse(url).unwrap();
        let resolver = builtin(target.scheme()).unwrap();
        let into = RegistrationEvents::new(move |event| {
            let _ = send.send(event);
        });
        let registration = resolver.register(&target, instance, into, &self.handle).unwrap();
        Registered { events, registration }
    }
}

/// A watch.
pub struct Watched {
    pub updates: Receiver<Update>,
    pub watch: Option<Watch>,
}

impl Watched {
    /// Waits for an update that passes the check; those before it are dropped.
    pub fn until(&self, what: &str, mut check: impl FnMut(&Update) -> bool) -> Update {
        let mut seen = Vec::new();
        loop {
            match self.updates.recv_timeout(PATIENCE) {
                Ok(update) if check(&update) => return update,
                Ok(update) => seen.push(update),
                Err(_) => panic!("expected {what}; found {seen:?}"),
            }
        }
    }

    /// Waits until the instances have these addresses.
    pub fn until_addresses(&self, expected: &[&str]) -> Vec<Instance> {
        let update = self.until(&format!("{expected:?}"), |update| {
            matches!(update, Update::Instances(all) if all.iter().map(|one| &one.address).eq(expected))
        });
        let Update::Instances(all) = update else { unreachable!("checked above") };
        all
    }

    /// Waits for a failure, and returns its reason.
    pub fn until_failed(&self) -> String {
        match self.until("a failure", |update| matches!(update, Update::Failed(_))) {
            Update::Failed(why) => why,
            other => unreachable!("{other:?}"),
        }
    }
}

/// A registration.
pub struct Registered {
    pub events: Receiver<RegistrationEvent>,
    pub registration: Registration,
}

impl Registered {
    pub fn until_registered(&self) {
        let mut seen = Vec::new();
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(RegistrationEvent::Registered) => return,
                Ok(other) => seen.push(other),
                Err(_) => panic!("not registered: {seen:?}"),
            }
        }
    }

    /// Deregisters, and waits until that is done.
    pub fn end(self) {
        let (send, done) = mpsc::channel();
        self.registration.end(move || {
            let _ = send.send(());
        });
        done.recv_timeout(PATIENCE).expect("the registration ends");
    }
}
