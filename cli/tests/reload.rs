//! Reading the configuration again: on SIGHUP, on a change of a file, under load, and with files that cannot be used.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Served};
use coreloop::Code;
use coreloop::client::Client;
use coreloop::codec::Codec;

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let files = Files { folder: tempfile::tempdir().unwrap() };
        files.tokens("ann one admin\nbob two\n");
        files.config(&["Arith.*=role:admin"], "");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file at once, so that no reader finds a part of it.
    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn tokens(&self, text: &str) {
        self.put("tokens", text);
    }

    fn config(&self, allow: &[&str], more: &str) {
        let tokens = self.path("tokens");
        self.put("server.toml", &format!("{more}\n[auth]\ntokens_file = {tokens:?}\nallow = {allow:?}\n"));
    }

    fn serve(&self, more: &[&str]) -> Served {
        let (config, admin) = (self.path("server.toml"), format!("unix:{}", self.path("admin").display()));
        Served::start(&[&["--admin", &admin, "--config", config.to_str().unwrap()], more].concat())
    }

    /// Returns how many reloads have had this outcome.
    fn reloads(&self, outcome: &str) -> u64 {
        let mut stream = UnixStream::connect(self.path("admin")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let name = format!("coreloop_config_reloads_total{{outcome=\"{outcome}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Sends SIGHUP and waits for this many more reloads with the outcome.
    #[track_caller]
    fn reload(&self, served: &Served, outcome: &str) {
        let before = self.reloads(outcome);
        served.signal("HUP");
        let until = Instant::now() + PATIENCE;
        while self.reloads(outcome) == before {
            assert!(Instant::now() < until, "no reload with the outcome {outcome}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn code(client: &Client, token: &str) -> Result<(), Code> {
    let value = format!("Bearer {token}");
    let client = client.with_metadata("authorization", value.as_bytes()).unwrap();
    let reply = client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A":6,"B":7}"#);
    reply.map(|body| assert_eq!(body, b"42")).map_err(|error| error.code())
}

#[test]
fn a_signal_puts_rules_and_tokens_into_force() {
    let files = Files::new();
    let served = files.serve(&[]);
    let client = Client::connect(served.address()).unwrap();
    assert_eq!(code(&client, "one"), Ok(()));
    assert_eq!(code(&client, "two"), Err(Code::PermissionDenied));
    files.config(&["Arith.*=bob", "Health.*=anyone"], "[limits]\nidle_ms = 5000");
    files.tokens("ann one\nbob three\n");
    files.reload(&served, "ok");
    assert_eq!(code(&client, "three"), Ok(()));
    assert_eq!(code(&client, "one"), Err(Code::PermissionDenied));
    assert_eq!(code(&client, "two"), Err(Code::Unauthenticated));
    let ran = served.stop();
    let line = "coreloop: configuration read again: auth.allow, limits.idle_ms";
    assert!(ran.stderr.contains(line), "{}", ran.stderr);
    assert!(!ran.stderr.contains("three"), "no token is printed");
}

#[test]
fn what_cannot_be_used_changes_nothing_and_is_named() {
    let files = Files::new();
    let served = files.serve(&[]);
    let client = Client::connect(served.address()).unwrap();
    let expected: [(&dyn Fn(), &str); 7] = [
        (&|| files.put("server.toml", "[auth]\nalow = []\n"), "`auth.alow`"),
        (&|| files.put("server.toml", "[auth\n"), "server.toml"),
        (&|| files.config(&["Arith.*"], ""), "expected rules like"),
        (&|| files.config(&["Arth.*=ann"], ""), "\"Arth.*\" matches none"),
        (&|| files.config(&["Arith.*=ann"], "workers = 3"), "these need a restart: `workers`"),
        (&|| files.config(&[], ""), "these need a restart: `auth.allow`"),
        (
            &|| {
                // Together with a good change of the other file, which has no effect then.
                files.config(&["Arith.*=bob"], "");
                files.tokens("ann\n");
            },
            "tokens, line 1: expected `NAME TOKEN`",
        ),
    ];
    for (change, _) in &expected {
        change();
        files.reload(&served, "failed");
        assert_eq!(code(&client, "one"), Ok(()));
        assert_eq!(code(&client, "two"), Err(Code::PermissionDenied));
    }
    let ran = served.stop();
    for (_, part) in expected {
        let named = |line: &str| line.contains("the configuration stays as it was") && line.contains(part);
        assert!(ran.stderr.lines().any(named), "{part}: {}", ran.stderr);
    }
}

#[test]
fn a_hundred_signals_under_load_fail_no_call() {
    let files = Files::new();
    let served = files.serve(&[]);
    let client = Client::connect(served.address()).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        assert_eq!(code(&client, "one"), Ok(()));
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for round in 0..100 {
            match round % 4 {
                0 => files.config(&["Arith.*=role:admin", "Echo.*=anyone"], "[limits]\nidle_ms = 9000"),
                1 => files.put("server.toml", "[auth]\nallow = [\"Ari"),
                2 => files.tokens("ann one admin\nbob two\ncarl "),
                _ => {
                    files.tokens("ann one admin\nbob two\n");
                    files.config(&["Arith.*=role:admin"], "");
                }
            }
            // While the calls go on, and without waiting for the reload.
            served.signal("HUP");
        }
        files.reload(&served, "ok");
        is_over.store(true, Ordering::Relaxed);
        for caller in callers {
            assert!(caller.join().unwrap() > 0);
        }
    });
    let ran = served.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_changed_file_is_read_without_a_signal() {
    let files = Files::new();
    let served = files.serve(&["--reload-on-change"]);
    let client = Client::connect(served.address()).unwrap();
    assert_eq!(code(&client, "two"), Err(Code::PermissionDenied));
    files.tokens("ann one\nbob two admin\n");
    let until = Instant::now() + PATIENCE;
    while code(&client, "two") != Ok(()) {
        assert!(Instant::now() < until, "the file is not read");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(code(&client, "one"), Err(Code::PermissionDenied));
    let ran = served.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}
