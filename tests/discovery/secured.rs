//! Real registries behind TLS that require certificates of their clients.

use std::path::PathBuf;

use coreloop::discovery::{DiscoveryError, Instance, Target, Updates, builtin};

use crate::authority::{Authority, text};
use crate::common::Reactor;
use crate::registries::{Consul, Etcd, Registry, RegistryFiles};

fn files(authority: &Authority) -> RegistryFiles {
    let pair = authority.server();
    RegistryFiles { ca: authority.ca(), certificate: pair.certificate, key: pair.key }
}

#[test]
fn an_etcd_over_tls_is_watched_and_registered_at() {
    let authority = Authority::new();
    let Some(etcd) = Etcd::start_secured(files(&authority)) else { return };
    watched_and_registered(&format!("etcd+tls://{}/services/orders", etcd.address()), &authority);
}

#[test]
fn a_consul_over_tls_is_watched_and_registered_at() {
    let authority = Authority::new();
    let Some(consul) = Consul::start_secured(files(&authority)) else { return };
    watched_and_registered(&format!("consul+tls://{}/orders", consul.secured_address()), &authority);
}

fn watched_and_registered(url: &str, authority: &Authority) {
    let reactor = Reactor::start();
    let client = authority.client();
    let [ca, certificate, key] = [authority.ca(), client.certificate, client.key].map(|path| text(&path));
    let url = format!("{url}?ca={ca}&cert={certificate}&key={key}");
    let watched = reactor.watch(&format!("{url}&wait=1s"));
    watched.until_addresses(&[]);
    let registered = reactor.register(&url, &Instance::new("127.0.0.1:1"));
    registered.until_registered();
    watched.until_addresses(&["127.0.0.1:1"]);
    registered.end();
    watched.until_addresses(&[]);
}

#[test]
fn a_registry_that_is_not_trusted_or_refuses_the_client_is_a_failure_that_says_why() {
    let authority = Authority::new();
    let (etcd, consul) = (Etcd::start_secured(files(&authority)), Consul::start_secured(files(&authority)));
    let (Some(etcd), Some(consul)) = (etcd, consul) else { return };
    let (reactor, stranger) = (Reactor::start(), Authority::new());
    for url in [
        format!("etcd+tls://{}/services/orders", etcd.address()),
        format!("consul+tls://{}/orders", consul.secured_address()),
    ] {
        let watch = |ca: PathBuf| reactor.watch(&format!("{url}?ca={}", text(&ca))).until_failed();
        let why = watch(stranger.ca());
        assert!(
            why.contains("TLS: invalid peer certificate: UnknownIssuer (sent the alert unknown_ca)"),
            "{why}"
        );
        let why = watch(authority.ca());
        assert!(why.contains("the peer sent the alert"), "{why}");
    }
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
