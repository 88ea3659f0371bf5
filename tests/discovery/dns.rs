//! Names in a real name server, dnsmasq: its records change, it goes away and comes back, and its answers are cut.

use std::time::Instant;

use coreloop::client::{Caller, Client, MethodId};
use coreloop::codec::Plain;
use coreloop::discovery::Instance;
use coreloop::{Context, Server};

use crate::common::{PATIENCE, Reactor, Watched};
use crate::dnsmasq::{Dnsmasq, free_port, hosts};

impl Dnsmasq {
    /// Watches a name at this server; a question takes a short time only.
    pub fn watch(&self, reactor: &Reactor, name: &str) -> Watched {
        let more = if name.contains('?') { '&' } else { '?' };
        reactor.watch(&format!("dns://127.0.0.1:{}/{name}{more}timeout=500ms", self.port))
    }
}

#[test]
fn a_name_follows_its_records() {
    let Some(mut server) = Dnsmasq::start(&hosts("orders.test", &["127.0.0.1", "127.0.0.2"])) else { return };
    let reactor = Reactor::start();
    let watched = server.watch(&reactor, "orders.test:6550");
    watched.until_addresses(&["127.0.0.1:6550", "127.0.0.2:6550"]);
    server.restart(&hosts("orders.test", &["127.0.0.3"]));
    watched.until_addresses(&["127.0.0.3:6550"]);
    // An alias of the name has the same addresses.
    let mut options = hosts("orders.test", &["127.0.0.4"]);
    options.push("--cname=shop.test,orders.test".to_owned());
    server.restart(&options);
    server.watch(&reactor, "shop.test:80?scheme=http").until_addresses(&["http:127.0.0.4:80"]);
}

#[test]
fn services_have_ports_weights_and_hosts() {
    let mut options = hosts("a.test", &["127.0.0.1"]);
    options.extend(hosts("b.test", &["127.0.0.2"]));
    options.push("--srv-host=_orders._tcp.test,a.test,6550,1,7".to_owned());
    options.push("--srv-host=_orders._tcp.test,b.test,6551,2,9".to_owned());
    let Some(mut server) = Dnsmasq::start(&options) else { return };
    let reactor = Reactor::start();
    let watched = server.watch(&reactor, "_orders._tcp.test");
    let found = watched.until_addresses(&["127.0.0.1:6550", "127.0.0.2:6551"]);
    let weights: Vec<(u32, &str)> = found.iter().map(|one| (one.weight, host(one))).collect();
    // The one of the later priority takes no calls while the other can.
    assert_eq!(weights, [(7, "a.test"), (0, "b.test")]);
    options.pop();
    server.restart(&options);
    watched.until_addresses(&["127.0.0.1:6550"]);
}

fn host(instance: &Instance) -> &str {
    &instance.metadata["host"]
}

#[test]
fn a_server_that_is_away_is_asked_again() {
    let options = hosts("orders.test", &["127.0.0.1"]);
    let Some(mut server) = Dnsmasq::start(&options) else { return };
    let reactor = Reactor::start();
    let watched = server.watch(&reactor, "orders.test:6550");
    watched.until_addresses(&["127.0.0.1:6550"]);
    server.stop();
    let why = watched.until_failed();
    assert!(why.starts_with("cannot resolve orders.test: orders.test"), "{why}");
    assert!(why.contains(&format!("server 127.0.0.1:{}: ", server.port)), "{why}");
    server.restart(&options);
    // The same instances end the failure.
    watched.until_addresses(&["127.0.0.1:6550"]);
}

#[test]
fn a_name_that_does_not_exist_is_found_when_it_does() {
    let Some(mut server) = Dnsmasq::start(&[]) else { return };
    let reactor = Reactor::start();
    // The server says for how long its answer holds: not at all.
    let watched = server.watch(&reactor, "orders.test.:6550");
    assert_eq!(watched.until_failed(), "orders.test. has no address");
    server.restart(&hosts("orders.test", &["127.0.0.1"]));
    watched.until_addresses(&["127.0.0.1:6550"]);
}

#[test]
fn an_answer_too_large_for_a_datagram_comes_over_tcp() {
    let addresses: Vec<String> = (1..=250).map(|last| format!("127.0.1.{last}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let Some(server) = Dnsmasq::start(&hosts("orders.test", &addresses)) else { return };
    let reactor = Reactor::start();
    let mut expected: Vec<String> = addresses.iter().map(|address| format!("{address}:6550")).collect();
    expected.sort_unstable();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    server.watch(&reactor, "orders.test:6550").until_addresses(&expected);
}

/// Returns a server at this address that answers with its name.
fn named(address: &str, name: &'static str) -> Server {
    let method = move |_: &Context<'_>, _: i64| Ok(name.to_owned());
    Server::builder().method("Any.Name", method).listen(address).start().unwrap()
}

#[test]
fn a_client_follows_a_name_to_another_server() {
    static NAME: MethodId = MethodId::new("Any.Name");
    let Some(mut server) = Dnsmasq::start(&hosts("orders.test", &["127.0.0.1"])) else { return };
    let one = named("127.0.0.1:0", "one");
    let address = one.addresses()[0].to_string();
    let (_, port) = address.rsplit_once(':').unwrap();
    let other = named(&format!("127.0.0.2:{port}"), "other");
    let url = format!("dns://127.0.0.1:{}/orders.test:{port}?timeout=500ms", server.port);
    let client = Client::connect(&url).unwrap();
    let name = || client.call::<Plain<i64>, Plain<String>>(&NAME, &1).unwrap();
    assert_eq!(name(), "one");
    // The server at the new address is called as soon as the record has expired, and no call fails.
    server.restart(&hosts("orders.test", &["127.0.0.2"]));
    let until = Instant::now() + PATIENCE;
    while name() != "other" {
        assert!(Instant::now() < until, "the client stays with the old address");
    }
    // Nothing changes while the name server is away.
    server.stop();
    drop(one);
    assert_eq!(name(), "other");
    drop(other);
}

#[test]
fn a_port_without_a_server_is_named() {
    let reactor = Reactor::start();
    let port = free_port();
    let watched = reactor.watch(&format!("dns://127.0.0.1:{port}/orders.test:6550?timeout=100ms&attempts=1"));
    let why = watched.until_failed();
    assert!(why.contains(&format!("server 127.0.0.1:{port}: ")), "{why}");
}
