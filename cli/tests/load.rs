//! The load generator against a served binary: a server in a separate process, whose memory can be measured.

#![cfg(target_os = "linux")]

mod common;

use std::sync::Arc;

use clap::Parser;
use coreloop_bench::loadgen::idle::{self, Idle};

use common::Served;

/// The arguments, parsed as the program does.
#[derive(Parser)]
struct IdleArguments {
    #[command(flatten)]
    options: idle::Options,
}

fn idle(address: &str, arguments: &str) -> Result<Idle, String> {
    let words = ["idle", address].into_iter().chain(arguments.split_whitespace());
    let options = IdleArguments::try_parse_from(words).expect("well-formed").options;
    idle::measure(&options, &Arc::default(), &mut |_| ())
}

#[test]
fn idle_connections_are_held_in_every_protocol() {
    let served = Served::start(&["--cores", "1"]);
    for protocol in ["native", "gob", "jsonrpc", "http"] {
        let address = format!("{protocol}:{}", served.address());
        let arguments = format!(
            "--connections 500 --every 1s --duration 1s --threads 2 --method Arith.Multiply --watch {}",
            served.pid
        );
        let idle = idle(&address, &arguments).expect("it is held");
        let outcome = &idle.outcome;
        assert_eq!((outcome.connections.opened, outcome.connections.lost), (500, 0), "{protocol}");
        // Each connection once, because the time allows one call on each.
        assert_eq!((outcome.total.ok, outcome.total.errors), (500, 0), "{protocol}");
        assert_eq!(outcome.settings.rate, Some(500.0));
        let memory = idle.memory.expect("it is watched");
        assert!(
            memory.before.resident_kib > 0 && memory.end.resident_kib >= memory.end.own_kib,
            "{memory:?}"
        );
        assert!(outcome.server.as_ref().is_some_and(|server| server.cpu_share > 0.0), "{protocol}");
        let text = idle.render();
        assert!(text.contains("500 of 500 opened, 0 lost") && text.contains("bytes a connection"), "{text}");
    }
    let ran = served.stop();
    // In addition to the five hundred, one connection for each protocol, which reads the list of methods.
    assert_eq!(ran.summary("connections"), 2004, "{}", ran.stderr);
}

#[test]
fn more_connections_than_files_are_refused_before_the_first() {
    let why = idle("127.0.0.1:1", "--connections 1000000").expect_err("so many files?");
    assert!(why.contains("at most") && why.contains("files"), "{why}");
    let why = idle("127.0.0.1:1", "--connections 3").expect_err("nobody is there");
    assert!(why.contains("cannot connect"), "{why}");
}
