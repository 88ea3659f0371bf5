//! The comparison's Go programs: their own tests, and Go's clients with every call at Go's servers and at ours.
//!
//! Without Go they report that and pass, except where `CI` is set.

#![cfg(target_os = "linux")]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coreloop::{Server, demo};
use coreloop_bench::drive::Outcome;
use coreloop_bench::process::Guarded;
use tempfile::TempDir;

const PROTOCOLS: [&str; 2] = ["gob", "jsonrpc"];
const CALLS: [&str; 5] = ["add", "echo-1k", "users-100", "echo-256k", "sleep"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/go")
}

fn has_go() -> bool {
    let has = Command::new("go").arg("version").output().is_ok();
    assert!(has || env::var_os("CI").is_none(), "Go is not installed, and it is what this is held to");
    if !has {
        eprintln!("SKIPPED: Go is not installed");
    }
    has
}

/// Runs `go` with these arguments in the module of the peers.
fn go(arguments: &[&str]) {
    let run = Command::new("go").args(arguments).current_dir(source()).output().expect("it is here");
    let text = [run.stdout, run.stderr].concat();
    assert!(run.status.success(), "go {arguments:?}: {}", String::from_utf8_lossy(&text));
}

/// Builds the programs into a folder, which must outlive them.
fn built() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let out = format!("{}/", folder.path().display());
    go(&["build", "-o", &out, "./rpcserver", "./rpcclient"]);
    folder
}

/// Runs Go's client with a call for a short time, and checks its report.
fn call(programs: &TempDir, protocol: &str, address: &str, what: &str, more: &[&str]) {
    let usual = ["--connections", "2", "--depth", "3", "--seconds", "0.1", "--warmup", "0"];
    let run = Command::new(programs.path().join("rpcclient"))
        .args([protocol, address, "--call", what, "--watch", &std::process::id().to_string()])
        .args(usual)
        .args(more)
        .output()
        .expect("it runs");
    let told = format!("{protocol} {what} {more:?}: {}", String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{told}");
    let outcome: Outcome = serde_json::from_slice(&run.stdout).expect(&told);
    assert_eq!((outcome.errors, outcome.first_error), (0, None), "{told}");
    assert!(outcome.calls_in_all > 0 && outcome.calls_in_all >= outcome.calls, "{told}");
    assert_eq!((outcome.connections, outcome.depth), (2, 3), "{told}");
    assert!(outcome.server_cpu_ns.is_some() && outcome.client_cpu_ns > 0, "{told}");
}

#[test]
fn go_programs_pass_their_own_tests() {
    if has_go() {
        go(&["vet", "./..."]);
        go(&["test", "./..."]);
    }
}

#[test]
fn both_servers_answer_every_call_of_gos_clients() {
    if !has_go() {
        return;
    }
    let programs = built();
    let ours = demo::services(Server::builder()).cores(1).listen("127.0.0.1:0").start().expect("it starts");
    let ours_at = ours.addresses().first().expect("it listens").to_string();
    for protocol in PROTOCOLS {
        let theirs = Command::new(programs.path().join("rpcserver"))
            .args([protocol, "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn();
        let mut theirs = Guarded(theirs.expect("it starts"));
        let mut line = String::new();
        let stdout = theirs.0.stdout.take().expect("asked for a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("text");
        let theirs_at = line.trim().strip_prefix("listening on ").expect("it says where");
        for address in [ours_at.as_str(), theirs_at] {
            for what in CALLS {
                call(&programs, protocol, address, what, &[]);
            }
            call(&programs, protocol, address, "add", &["--rate", "500"]);
        }
    }
}

#[test]
fn the_client_reports_a_servers_errors() {
    if !has_go() {
        return;
    }
    let programs = built();
    // The server uses JSON, the client gob.
    let theirs = Command::new(programs.path().join("rpcserver"))
        .args(["jsonrpc", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut theirs = Guarded(theirs.expect("it starts"));
    let mut line = String::new();
    BufReader::new(theirs.0.stdout.take().expect("asked for a pipe")).read_line(&mut line).expect("text");
    let address = line.trim().strip_prefix("listening on ").expect("it says where");
    let client = Command::new(programs.path().join("rpcclient"))
        .args(["gob", address, "--seconds", "60"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&client.stderr);
    assert!(!client.status.success() && text.contains("every connection was lost"), "{text}");
}
