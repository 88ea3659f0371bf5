//! The commands over TLS: each ends its session with a close_notify before its process ends, after a failure too.

#![cfg(target_os = "linux")]

#[path = "../../tests/tls/authority.rs"]
#[allow(dead_code, reason = "the tests of TLS use the rest")]
mod authority;
mod common;

use authority::{Authority, Wanted, text};
use common::{Ran, run, run_with_input};
use coreloop::{Server, demo};

#[test]
fn each_command_ends_its_session() {
    let authority = Authority::new();
    let (pair, ca) = (authority.server(), text(&authority.ca()));
    let server = demo::services(Server::builder()).cores(1).configure(|config| {
        config.listen = vec!["127.0.0.1:0".to_owned()];
        config.tls.certificate = vec![text(&pair.certificate)];
        config.tls.key = vec![text(&pair.key)];
    });
    let server = server.start().unwrap();
    let address = server.addresses()[0].to_string();
    let ended = |ran: Ran, code: i32| {
        let tls = server.stats().tls.unwrap();
        assert_eq!((ran.code, tls.failures.iter().sum::<u64>()), (Some(code), 0), "{ran:?}, {tls:?}");
        assert!(tls.full_handshakes > 0);
    };
    for scheme in ["native+tls", "https", "jsonrpc+tls", "gob+tls"] {
        let url = format!("{scheme}:{address}");
        ended(run(&["call", "--ca", &ca, &url, "Arith.Add", r#"{"A":1,"B":2}"#]), 0);
        ended(run(&["call", "--ca", &ca, &url, "Arith.Missing", "1"]), 1);
        ended(run(&["list", "--ca", &ca, &url]), 0);
        ended(run(&["health", "--ca", &ca, &url]), 0);
        ended(run(&["endpoints", "--ca", &ca, &format!("{scheme}:static:{address}")]), 0);
    }
    let url = format!("native+tls:{address}");
    ended(run_with_input(&["call", "--ca", &ca, &url, "Echo.Chat", "-"], "\"a\"\n\"b\"\n"), 0);
    ended(run_with_input(&["call", "--ca", &ca, &url, "Echo.Chat", "-"], "\"a\"\nno JSON\n"), 1);
    server.shutdown();
}

#[test]
fn endpoints_are_shown_over_tls_with_a_certificate_and_a_name() {
    let authority = Authority::new();
    let shop = authority.issue("shop", &Wanted { names: &["shop.example"], ..Wanted::default() });
    let client = authority.issue("client", &Wanted::default());
    let ca = text(&authority.ca());
    let server = demo::services(Server::builder()).cores(1).configure(|config| {
        config.listen = vec!["127.0.0.1:0".to_owned()];
        config.tls.certificate = vec![text(&shop.certificate)];
        config.tls.key = vec![text(&shop.key)];
        config.tls.client_ca = ca.clone();
    });
    let server = server.start().unwrap();
    let url = format!("native+tls:static:{}", server.addresses()[0]);
    let connected = |options: &[&str]| {
        let ran = run(&[&["endpoints", "--json", &url], options].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let views: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        views[0]["connected"].as_bool()
    };
    let (certificate, key) = (text(&client.certificate), text(&client.key));
    let own = ["--cert", &certificate, "--key", &key, "--server-name", "shop.example"];
    assert_eq!(connected(&[&own[..], &["--ca", &ca]].concat()), Some(true));
    // A server that got no certificate, or one that it does not trust, would have ended the session.
    assert_eq!(server.stats().tls.unwrap().failures.iter().sum::<u64>(), 0);
    assert_eq!(connected(&own), Some(false), "the authority of the certificate is not one of the system's");
    assert_eq!(connected(&["--ca", &ca]), Some(false), "the certificate is not for the address");
    let ran = run(&["endpoints", "--ca", &ca, "static:127.0.0.1:1"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("expected an address with TLS"), "{ran:?}");
    server.shutdown();
}
