//! Real Consul 1.8.7 in its development mode: what it answers, and what a restart does.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use coreloop::discovery::{Instance, RegistrationEvent, Update};

use crate::common::{PATIENCE, Reactor, free_port, get};

/// Returns the binary. With `CI` set it must be there; otherwise the test prints that it is skipped.
fn binary() -> Option<PathBuf> {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = BINARY.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/consul.sh");
        let output = Command::new(script).output().ok()?;
        let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        (output.status.success() && path.exists()).then_some(path)
    });
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "Consul is not available");
    if found.is_none() {
        eprintln!("SKIPPED: Consul is not available");
    }
    found.clone()
}

/// A Consul agent and server without a disk, on free ports of the loopback address.
struct Consul {
    binary: PathBuf,
    ports: [u16; 5],
    child: Child,
}

impl Consul {
    fn start() -> Option<Consul> {
        let binary = binary()?;
        let ports = [(); 5].map(|()| free_port());
        Some(Consul { child: spawn(&binary, ports), binary, ports }).inspect(Consul::wait)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same ports. It has lost everything.
    fn restart(&mut self) {
        self.child = spawn(&self.binary, self.ports);
        self.wait();
    }

    /// Waits until it has a leader.
    fn wait(&self) {
        let until = Instant::now() + PATIENCE;
        while !get(&self.address(), "/v1/status/leader").is_some_and(|body| body.contains("127.0.0.1")) {
            assert!(Instant::now() < until, "Consul has no leader");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn url(&self, rest: &str) -> String {
        format!("consul://{}/{rest}", self.address())
    }
}

fn spawn(binary: &PathBuf, [http, serf_lan, serf_wan, server, dns]: [u16; 5]) -> Child {
    Command::new(binary)
        .args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-node=test", "-log-level=err"])
        .arg(format!("-http-port={http}"))
        .arg(format!("-serf-lan-port={serf_lan}"))
        .arg(format!("-serf-wan-port={serf_wan}"))
        .arg(format!("-server-port={server}"))
        .arg(format!("-dns-port={dns}"))
        .args(["-grpc-port=-1", "-hcl=disable_update_check=true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
    let (Some(consul), reactor, dying) = (Consul::start(), Reactor::start(), Reactor::start()) else {
        return;
    };
    let watched = reactor.watch(&consul.url("orders?wait=1s"));
    let kept = reactor.register(&consul.url("orders?ttl=1s"), &Instance::new("127.0.0.1:1"));
    let lost = dying.register(&consul.url("orders?ttl=1s"), &Instance::new("127.0.0.1:2"));
    watched.until_addresses(&["127.0.0.1:1", "127.0.0.1:2"]);
    // The end of its reactor, without a deregistration, is what a crash looks like.
    dying.crash();
    watched.until_addresses(&["127.0.0.1:1"]);
    assert!(kept.events.try_iter().all(|event| event == RegistrationEvent::Registered));
    drop(lost);
    kept.end();
    watched.until_addresses(&[]);
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
