//! A reactor for resolvers, and what their watches pass on.
#![allow(dead_code, reason = "each set of features uses its part")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};

use coreloop::Server;
use coreloop::discovery::{
    DiscoveryHandle, Instance, Registration, RegistrationEvent, RegistrationEvents, Target, Update, Updates,
    Watch, builtin,
};

pub use crate::registries::PATIENCE;

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

/// A server of HTTP whose answers the test writes.
pub struct Scripted {
    listener: TcpListener,
}

impl Scripted {
    pub fn start() -> Scripted {
        Scripted { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    pub fn accept(&self) -> ScriptedConnection {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ScriptedConnection { stream }
    }
}

/// A connection of a [`Scripted`].
pub struct ScriptedConnection {
    pub stream: TcpStream,
}

impl ScriptedConnection {
    /// Returns the head of the next request; its body is read too.
    pub fn request(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut body).unwrap();
        head
    }

    pub fn answer(&mut self, fields: &str, body: &str) {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
        self.stream.write_all(answer.as_bytes()).unwrap();
    }

    /// Returns whether the peer has closed the connection, once it has.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// An answer of Consul's health endpoint.
pub fn health(ports: &[u16]) -> String {
    let entries: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                r#"{{"Node":{{"Node":"n","Address":"127.0.0.1"}},"Service":{{"ID":"{port}","Port":{port}}}}}"#
            )
        })
        .collect();
    format!("[{}]", entries.join(","))
}
