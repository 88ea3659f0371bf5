//! Reading the configuration again: on SIGHUP, on a change of a file, under load, and with files that cannot be used.

#[path = "../../tests/tls/authority.rs"]
#[allow(dead_code, reason = "the tests of TLS use the rest")]
mod authority;
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
        self.metric(&format!("coreloop_config_reloads_total{{outcome=\"{outcome}\"}} "))
    }

    /// Returns the value of a line of the metrics page.
    fn metric(&self, name: &str) -> u64 {
        let mut stream = UnixStream::connect(self.path("admin")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name));
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

#[test]
fn a_file_that_is_being_written_changes_nothing() {
    let files = Files::new();
    let tokens = files.path("tokens");
    let text = format!(
        "[auth]\ntokens_file = {tokens:?}\nallow = [\"Arith.*=role:admin\"]\n[limits]\nidle_ms = 5000\n"
    );
    files.put("server.toml", &text);
    let served = files.serve(&[]);
    let client = Client::connect(served.address()).unwrap();
    let is_as_it_was = || {
        assert_eq!(code(&client, "one"), Ok(()));
        assert_eq!(code(&client, "two"), Err(Code::PermissionDenied));
    };
    // In place, so that a reader finds what is written so far. Everything before the last rule is refused. The number of
    // lines of a kind in the log is limited.
    let rules_end = text.find("admin").unwrap();
    let cuts: Vec<usize> = (0..12).map(|nth| nth * rules_end / 11).collect();
    for cut in &cuts {
        std::fs::write(files.path("server.toml"), &text[..*cut]).unwrap();
        files.reload(&served, "failed");
        is_as_it_was();
    }
    std::fs::write(files.path("server.toml"), &text).unwrap();
    for torn in ["ann", "ann ", "ann one admin\nbob", "ann one admin more\n"] {
        std::fs::write(files.path("tokens"), torn).unwrap();
        files.reload(&served, "failed");
        is_as_it_was();
    }
    files.tokens("ann one admin\nbob two admin\n");
    files.reload(&served, "ok");
    assert_eq!(code(&client, "two"), Ok(()));
    assert_eq!(files.metric("coreloop_config_file_changes_total{files=\"tokens\"} "), 1);
    let ran = served.stop();
    let lines: Vec<&str> =
        ran.stderr.lines().filter(|line| line.contains("the configuration stays as it was")).collect();
    assert_eq!(lines.len(), cuts.len() + 4, "{}", ran.stderr);
    for line in lines {
        let says_why =
            ["server.toml line ", "these need a restart: `auth.", "tokens, line ", "`auth.allow`: expected"];
        assert!(says_why.iter().any(|part| line.contains(part)), "{line}");
    }
    assert!(
        ran.stderr.contains(&format!("configuration read again: {}", tokens.display())),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_folder_that_links_point_to_is_exchanged() {
    // As Kubernetes mounts a ConfigMap: a link to a link to a folder, which is replaced as a whole.
    let files = Files::new();
    let (config, tokens) = (files.path("mounted.toml"), files.path("mounted-tokens"));
    let fill = |version: &str, bob: &str| {
        let folder = files.path(version);
        std::fs::create_dir(&folder).unwrap();
        let text = format!("[auth]\ntokens_file = {tokens:?}\nallow = [\"Arith.*=role:admin\"]\n");
        std::fs::write(folder.join("mounted.toml"), text).unwrap();
        std::fs::write(folder.join("mounted-tokens"), format!("ann one\nbob {bob}\n")).unwrap();
        std::os::unix::fs::symlink(version, files.path("..new")).unwrap();
        std::fs::rename(files.path("..new"), files.path("..data")).unwrap();
    };
    fill("..2026_1", "two");
    for file in ["mounted.toml", "mounted-tokens"] {
        std::os::unix::fs::symlink(format!("..data/{file}"), files.path(file)).unwrap();
    }
    let served = Served::start(&[
        "--admin",
        &format!("unix:{}", files.path("admin").display()),
        "--config",
        config.to_str().unwrap(),
        "--reload-on-change",
    ]);
    let client = Client::connect(served.address()).unwrap();
    for (version, bob) in [("..2026_2", "two admin"), ("..2026_3", "three admin")] {
        fill(version, bob);
        let until = Instant::now() + PATIENCE;
        while code(&client, bob.split(' ').next().unwrap()) != Ok(()) {
            assert!(Instant::now() < until, "{version} is not read");
            thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(code(&client, "two"), Err(Code::Unauthenticated));
    let ran = served.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn limits_of_principals_change_and_cannot_be_switched_on() {
    let files = Files::new();
    let config = |limits: &str| {
        let tokens = files.path("tokens");
        let text = format!("[auth]\ntokens_file = {tokens:?}\nallow = [\"Arith.*=role:admin\"]\n{limits}\n");
        files.put("server.toml", &text);
    };
    config("calls_per_second = 1_000_000");
    let served = files.serve(&[]);
    let client = Client::connect(served.address()).unwrap();
    (0..10).for_each(|_| assert_eq!(code(&client, "one"), Ok(())));
    config("calls_per_second = 1");
    files.reload(&served, "ok");
    // Less than ten seconds pass for ten calls in any case: they would need nine.
    let refused = (0..10).filter(|_| code(&client, "one") == Err(Code::ResourceExhausted)).count();
    assert!(refused > 0);
    config("calls_per_second = 1_000_000");
    files.reload(&served, "ok");
    assert_eq!(code(&client, "one"), Ok(()));
    for limits in ["", "calls_per_second = 1\nin_progress_max = 2"] {
        config(limits);
        files.reload(&served, "failed");
    }
    let ran = served.stop();
    for key in ["auth.calls_per_second", "auth.in_progress_max"] {
        assert!(ran.stderr.contains(&format!("these need a restart: `{key}`")), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains("configuration read again: auth.calls_per_second"), "{}", ran.stderr);
}

#[test]
fn a_new_certificate_is_counted_and_named() {
    let files = Files::new();
    let authority = authority::Authority::new();
    let pair = authority.server();
    let settings = [
        ("certificate", &pair.certificate),
        ("key", &pair.key),
        ("client_ca", &authority.path("clients.pem")),
    ];
    std::fs::copy(authority.ca(), authority.path("clients.pem")).unwrap();
    let settings = settings.map(|(name, path)| format!("--set=tls.{name}={}", path.display()));
    let served = files.serve(&[&settings[0], &settings[1], &settings[2], "--set=tls.mode=optional"]);
    let count = || files.metric("coreloop_config_file_changes_total{files=\"tls\"} ");
    files.reload(&served, "ok");
    assert_eq!(count(), 0, "the files are as they were");
    authority.server();
    files.reload(&served, "ok");
    assert_eq!(count(), 1);
    let other = authority::Authority::new();
    std::fs::copy(other.ca(), authority.path("clients.pem")).unwrap();
    files.reload(&served, "ok");
    assert_eq!(count(), 2);
    // A key that is half written is refused, and not shown.
    let secret = std::fs::read_to_string(&pair.key).unwrap();
    std::fs::write(&pair.key, &secret[..secret.len() / 2]).unwrap();
    files.reload(&served, "failed");
    assert_eq!(count(), 2);
    let ran = served.stop();
    let read = |path: &std::path::Path| format!("configuration read again: {}", path.display());
    for line in [
        read(&pair.certificate),
        read(&authority.path("clients.pem")),
        "configuration read again: no value has changed".to_owned(),
    ] {
        assert!(ran.stderr.contains(&line), "{line}: {}", ran.stderr);
    }
    let refused = ran.stderr.lines().find(|line| line.contains("stays as it was")).unwrap();
    assert!(refused.contains(pair.key.to_str().unwrap()), "{refused}");
    let inside = secret.lines().nth(1).unwrap();
    assert!(!ran.stderr.contains(&inside[..20]), "{}", ran.stderr);
}
