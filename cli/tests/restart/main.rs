//! Restarts of the served binary: takeovers under load and on bad days, and what systemd passes.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

#[path = "../../../tests/tls/authority.rs"]
#[allow(dead_code, reason = "the tests of TLS use the rest")]
mod authority;
#[path = "../common/mod.rs"]
mod common;

mod killed;
mod load;
mod partner;
mod partners;
mod systemd;
mod takeover;
mod tls;
mod users;
mod watchdog;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, Served, coreloop};
use coreloop::client::Direct;
use coreloop::codec::Codec;

/// A folder with the socket for takeovers.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("takeover")
    }

    /// Returns the command of a server that takes over here, at any port.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = coreloop(&["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--takeover"]);
        command.arg(self.path()).args(args);
        command
    }

    fn start(&self, args: &[&str]) -> Served {
        Served::start_command(self.command(args), 1)
    }

    /// Runs a server that must not start; returns what it says.
    fn fail(&self, args: &[&str]) -> String {
        let ran: common::Ran = self.command(args).output().expect("the binary runs").into();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        ran.stderr
    }
}

/// Makes a call on a new connection.
fn call(address: &str) {
    let mut client = Direct::connect(address).expect("it listens");
    client.set_timeout(Some(PATIENCE));
    let product = client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A":6,"B":7}"#);
    assert_eq!(product.expect("it answers"), b"42");
}

/// Waits until the condition holds.
#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
