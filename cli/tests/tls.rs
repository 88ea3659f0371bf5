//! The commands over TLS: each ends its session with a close_notify before its process ends, after a failure too.

#![cfg(target_os = "linux")]

#[path = "../../tests/tls/authority.rs"]
#[allow(dead_code, reason = "the tests of TLS use the rest")]
mod authority;
mod common;

use authority::{Authority, text};
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
    }
    let url = format!("native+tls:{address}");
    ended(run_with_input(&["call", "--ca", &ca, &url, "Echo.Chat", "-"], "\"a\"\n\"b\"\n"), 0);
    ended(run_with_input(&["call", "--ca", &ca, &url, "Echo.Chat", "-"], "\"a\"\nno JSON\n"), 1);
    server.shutdown();
}
