//! Servers that register themselves, as a client's watch sees them.

use super::common::{Served, coreloop};
use super::registries::Registry;
use super::watched::{Reactor, Watched};

/// Watches the service `demo`; the reactor must be kept.
fn watch(registry: &impl Registry) -> (Reactor, Watched) {
    let reactor = Reactor::start();
    let watched = reactor.watch(&registry.url("demo"));
    (reactor, watched)
}

fn serve(listen: &str, arguments: &[&str]) -> Served {
    let mut command = coreloop(&["serve", "--listen", listen]);
    command.args(arguments);
    Served::start_command(command, 1)
}

/// Two servers with this TTL; one is killed, and started again at its address.
pub fn killed_and_back(registry: &impl Registry, ttl: &str) {
    let (url, (_reactor, watched)) = (registry.url(&format!("demo?ttl={ttl}")), watch(registry));
    let all = ["--register", &url, "--register-zone", "a", "--register-weight", "3"];
    let kept = serve("127.0.0.1:0", &all);
    let killed = serve("127.0.0.1:0", &all);
    let address = killed.address().to_owned();
    let mut both = [kept.address(), &address];
    both.sort_unstable();
    let found = watched.until_addresses(&both);
    assert!(found.iter().all(|one| one.zone.as_deref() == Some("a") && one.weight == 3), "{found:?}");
    killed.signal("KILL");
    assert_eq!(killed.wait().code, None);
    watched.until_addresses(&[kept.address()]);
    let back = serve(&address, &["--register", &url]);
    watched.until_addresses(&both);
    let ran = back.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("coreloop: registered at {url}\n")), "{}", ran.stderr);
    watched.until_addresses(&[kept.address()]);
}

/// A server that is stopped is no longer registered when it has ended.
pub fn stopped(registry: &impl Registry) {
    // With this TTL only a deregistration can make it disappear in time.
    let (url, (_reactor, watched)) = (registry.url("demo?ttl=60m"), watch(registry));
    let server = serve("127.0.0.1:0", &["--register", &url]);
    watched.until_addresses(&[server.address()]);
    assert_eq!(server.stop().code, Some(0));
    watched.until_addresses(&[]);
}

/// A server starts while its registry is away, and is seen when it is there.
#[allow(dead_code, reason = "some of the test files have another way")]
pub fn registers_later<R: Registry>(registry: &mut R, start: impl FnOnce(&mut R)) {
    let url = registry.url("demo?ttl=1s");
    let server = serve("127.0.0.1:0", &["--register", &url]);
    start(registry);
    let (_reactor, watched) = watch(registry);
    watched.until_addresses(&[server.address()]);
    let ran = server.stop();
    assert!(ran.stderr.contains(&format!("coreloop: warning: not registered at {url}: ")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("coreloop: registered at {url}\n")), "{}", ran.stderr);
}
