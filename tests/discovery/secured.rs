//! A real etcd behind TLS that requires certificates of its clients.

use coreloop::discovery::{DiscoveryError, Instance, Target, Updates, builtin};

use crate::authority::{Authority, text};
use crate::common::Reactor;
use crate::registries::{Etcd, Registry, SecuredEtcd};

fn start(authority: &Authority) -> Option<Etcd> {
    let pair = authority.server();
    Etcd::start_secured(SecuredEtcd { ca: authority.ca(), certificate: pair.certificate, key: pair.key })
}

#[test]
fn an_etcd_over_tls_is_watched_and_registered_at() {
    let authority = Authority::new();
    let (Some(etcd), reactor) = (start(&authority), Reactor::start()) else { return };
    let client = authority.client();
    let files = [authority.ca(), client.certificate, client.key].map(|path| text(&path));
    let url = |more: &str| {
        let [ca, certificate, key] = &files;
        format!("etcd+tls://{}/services/orders?ca={ca}&cert={certificate}&key={key}{more}", etcd.address())
    };
    let watched = reactor.watch(&url("&wait=1s"));
    watched.until_addresses(&[]);
    let registered = reactor.register(&url(""), &Instance::new("127.0.0.1:1"));
    registered.until_registered();
    watched.until_addresses(&["127.0.0.1:1"]);
    registered.end();
    watched.until_addresses(&[]);
}

#[test]
fn an_etcd_that_is_not_trusted_or_refuses_the_client_is_a_failure_that_says_why() {
    let authority = Authority::new();
    let (Some(etcd), reactor) = (start(&authority), Reactor::start()) else { return };
    let stranger = Authority::new();
    let url = |ca: &str| format!("etcd+tls://{}/services/orders?ca={ca}", etcd.address());
    let why = reactor.watch(&url(&text(&stranger.ca()))).until_failed();
    assert!(
        why.contains("TLS: invalid peer certificate: UnknownIssuer (sent the alert unknown_ca)"),
        "{why}"
    );
    let why = reactor.watch(&url(&text(&authority.ca()))).until_failed();
    assert!(why.contains("the peer sent the alert"), "{why}");
    // Without TLS there is no answer that could be used.
    assert!(!reactor.watch(&etcd.url("services/orders")).until_failed().is_empty());
}

#[test]
fn files_that_cannot_be_used_are_an_error_at_once() {
    let reactor = Reactor::start();
    for scheme in ["etcd+tls", "consul+tls"] {
        let target = Target::parse(&format!("{scheme}://127.0.0.1:1/orders?ca=/no/such/ca.pem")).unwrap();
        let resolver = builtin(scheme).unwrap();
        assert_eq!(resolver.scheme(), scheme);
        let error = resolver.watch(&target, Updates::new(drop), &reactor.handle).unwrap_err();
        assert!(matches!(error, DiscoveryError::Target(_)), "{error}");
        assert!(error.to_string().contains("/no/such/ca.pem"), "{error}");
    }
}
