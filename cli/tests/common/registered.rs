//! Servers that register themselves, as a client's watch sees them.

use std::sync::mpsc::{self, Receiver};

use coreloop::Server;
use coreloop::discovery::{DiscoveryHandle, Instance, Target, Update, Updates, Watch, builtin};

use super::common::{PATIENCE, Served, coreloop};

/// A watch on a reactor of its own.
pub struct Watched {
    updates: Receiver<Update>,
    _watch: Watch,
    _server: Server,
}

impl Watched {
    pub fn of(url: &str) -> Watched {
        let server = Server::in_memory().cores(1).workers(1).start().expect("it starts");
        let (send, updates) = mpsc::channel();
        let target = Target::parse(url).expect("a URL");
        let resolver = builtin(target.scheme()).expect("a built-in resolver");
        let into = Updates::new(move |update| {
            let _ = send.send(update);
        });
        let handle = DiscoveryHandle::new(server.reactors().remove(0));
        let watch = resolver.watch(&target, into, &handle).expect("it begins");
        Watched { updates, _watch: watch, _server: server }
    }

    /// Waits until the instances have these addresses.
    pub fn until(&self, expected: &[&str]) -> Vec<Instance> {
        let mut seen = Vec::new();
        loop {
            match self.updates.recv_timeout(PATIENCE) {
                Ok(Update::Instances(all)) if all.iter().map(|one| &one.address).eq(expected) => return all,
                Ok(other) => seen.push(other),
                Err(_) => panic!("expected {expected:?}; found {seen:?}"),
            }
        }
    }
}

fn serve(listen: &str, arguments: &[&str]) -> Served {
    let mut command = coreloop(&["serve", "--listen", listen]);
    command.args(arguments);
    Served::start_command(command, 1)
}

/// Two servers; one is killed, and started again at its address.
pub fn killed_and_back(url: &str, watched: &Watched) {
    let all = ["--register", url, "--register-zone", "a", "--register-weight", "3"];
    let kept = serve("127.0.0.1:0", &all);
    let killed = serve("127.0.0.1:0", &all);
    let address = killed.address().to_owned();
    let mut both = [kept.address(), &address];
    both.sort_unstable();
    let found = watched.until(&both);
    assert!(found.iter().all(|one| one.zone.as_deref() == Some("a") && one.weight == 3), "{found:?}");
    killed.signal("KILL");
    assert_eq!(killed.wait().code, None);
    watched.until(&[kept.address()]);
    let back = serve(&address, &["--register", url]);
    watched.until(&both);
    let ran = back.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("coreloop: registered at {url}\n")), "{}", ran.stderr);
    watched.until(&[kept.address()]);
}

/// A server that is stopped is no longer registered when it has ended.
pub fn stopped(url: &str, watched: &Watched) {
    let server = serve("127.0.0.1:0", &["--register", url]);
    watched.until(&[server.address()]);
    assert_eq!(server.stop().code, Some(0));
    watched.until(&[]);
}

/// A server starts while its registry is away, and is seen when it is there.
#[allow(dead_code, reason = "some of the test files have another way")]
pub fn registers_later(url: &str, start: impl FnOnce() -> Watched) {
    let server = serve("127.0.0.1:0", &["--register", url]);
    let watched = start();
    watched.until(&[server.address()]);
    let ran = server.stop();
    assert!(ran.stderr.contains(&format!("coreloop: warning: not registered at {url}: ")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("coreloop: registered at {url}\n")), "{}", ran.stderr);
}
