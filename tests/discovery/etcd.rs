//! Real etcd: watches, leases, and what a restart and a compaction do.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coreloop::discovery::{Instance, RegistrationEvent};

use crate::common::{PATIENCE, Reactor, free_port, get, post};

/// One etcd with its data in a temporary folder.
struct Etcd {
    folder: tempfile::TempDir,
    ports: [u16; 2],
    child: Child,
}

impl Etcd {
    /// Starts it. With `CI` set it must be installed; otherwise the test prints that it is skipped.
    fn start() -> Option<Etcd> {
        let found = Command::new("etcd").arg("--version").output().is_ok();
        assert!(found || std::env::var_os("CI").is_none(), "etcd is not installed");
        if !found {
            eprintln!("SKIPPED: etcd is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let ports = [(); 2].map(|()| free_port());
        let etcd = Etcd { child: spawn(&folder, ports), folder, ports };
        etcd.wait();
        Some(etcd)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    fn url(&self, rest: &str) -> String {
        format!("etcd://{}/{rest}", self.address())
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, with its data or without.
    fn restart(&mut self, keeps_data: bool) {
        if !keeps_data {
            self.folder = tempfile::tempdir().unwrap();
        }
        self.child = spawn(&self.folder, self.ports);
        self.wait();
    }

    fn wait(&self) {
        let until = Instant::now() + PATIENCE;
        while !get(&self.address(), "/health").is_some_and(|body| body.contains("true")) {
            assert!(Instant::now() < until, "etcd is not healthy");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn spawn(folder: &tempfile::TempDir, [client, peer]: [u16; 2]) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    Command::new("etcd")
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
        .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
    let (Some(etcd), reactor, dying) = (Etcd::start(), Reactor::start(), Reactor::start()) else { return };
    let watched = reactor.watch(&etcd.url("orders"));
    let kept = reactor.register(&etcd.url("orders?ttl=2s"), &Instance::new("127.0.0.1:1"));
    let lost = dying.register(&etcd.url("orders?ttl=2s"), &Instance::new("127.0.0.1:2"));
    watched.until_addresses(&["127.0.0.1:1", "127.0.0.1:2"]);
    dying.crash();
    watched.until_addresses(&["127.0.0.1:1"]);
    assert!(kept.events.try_iter().all(|event| event == RegistrationEvent::Registered));
    drop(lost);
    kept.end();
    watched.until_addresses(&[]);
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
