//! A server of HTTP whose answers the test writes, and the reactor of `tests/common/watched.rs`.
#![allow(dead_code, reason = "each set of features uses its part")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use coreloop::discovery::{Instance, RegistrationEvent};

pub use crate::watched::{PATIENCE, Reactor, Watched};

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

/// Two instances are registered with a short TTL; that of a reactor that ends as in a crash disappears, the other stays.
pub fn kept_alive_and_expires_without(watch: &str, register: &str) {
    let (reactor, dying) = (Reactor::start(), Reactor::start());
    let watched = reactor.watch(watch);
    let kept = reactor.register(register, &Instance::new("127.0.0.1:1"));
    let lost = dying.register(register, &Instance::new("127.0.0.1:2"));
    watched.until_addresses(&["127.0.0.1:1", "127.0.0.1:2"]);
    // The end of its reactor, without a deregistration, is what a crash looks like.
    dying.crash();
    watched.until_addresses(&["127.0.0.1:1"]);
    assert!(kept.events.try_iter().all(|event| event == RegistrationEvent::Registered));
    drop(lost);
    kept.end();
    watched.until_addresses(&[]);
}
