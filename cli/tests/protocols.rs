//! `coreloop call` and `coreloop list` in every protocol, against a served binary and against Go's servers.

mod common;

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use common::{Ran, Served, run};
use coreloop::client::Scheme;
use serde_json::{Value, json};

/// Addresses of one server in every protocol that this build supports.
fn addresses(plain: &str) -> Vec<String> {
    let addresses: Vec<String> =
        Scheme::ALL.iter().map(|scheme| format!("{}:{plain}", scheme.name())).collect();
    assert!(addresses.len() >= 3, "{addresses:?}");
    addresses
}

fn has_gob() -> bool {
    Scheme::ALL.iter().any(|scheme| scheme.name() == "gob")
}

fn reply(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// An argument in the form of a protocol: gob distinguishes unsigned integers and byte strings from other values.
fn marked(address: &str, mark: &str, argument: &str) -> String {
    if address.starts_with("gob") { format!("{{\"{mark}\":{argument}}}") } else { argument.to_owned() }
}

#[test]
fn every_protocol_gives_the_same_replies() {
    let server = Served::start(&[]);
    for address in addresses(server.address()) {
        for (method, argument, answer) in [
            ("Arith.Add", r#"{"A":6,"B":7}"#.to_owned(), json!(13)),
            ("Arith.AddFixed", r#"{"A":-6,"B":7}"#.to_owned(), json!(1)),
            ("Arith.Divide", r#"{"A":7,"B":-2}"#.to_owned(), json!({"Quo": -3, "Rem": 1})),
            ("Echo.Echo", r#""é世 \"""#.to_owned(), json!("é世 \"")),
            ("Echo.Bytes", marked(&address, "$bytes", "\"aGk=\""), json!("aGk=")),
            ("Echo.Sleep", "1".to_owned(), json!(1)),
            ("Users.List", "0".to_owned(), json!([])),
            ("Health.Check", "\"Arith\"".to_owned(), json!("serving")),
        ] {
            let ran = run(&["call", &address, method, &argument]);
            assert_eq!(reply(&ran), answer, "{address} {method}");
        }
        let user = reply(&run(&["call", &address, "Users.Get", &marked(&address, "$uint", "7")]));
        assert_eq!((&user["ID"], &user["Scores"]["s0"]), (&json!(7), &json!(3.5)), "{address}");
        assert_eq!(user["Tags"], json!(["tag0", "tag1", "tag2"]), "{address}");
    }
}

#[test]
fn every_protocol_reports_errors_in_one_line() {
    let server = Served::start(&[]);
    for address in addresses(server.address()) {
        for (method, argument, said) in [
            ("Arith.Divide", r#"{"A":7,"B":0}"#, "divide by zero"),
            ("Users.List", "100001", "n out of range"),
            ("Arith.Modulo", "1", "unimplemented: "),
            ("Arith.Add", "[1]", ""),
        ] {
            let ran = run(&["call", &address, method, argument]);
            let lines = (ran.stdout.as_str(), ran.stderr.lines().count());
            assert_eq!((ran.code, lines), (Some(1), ("", 1)), "{address} {ran:?}");
            assert!(ran.stderr.contains(said), "{address} {ran:?}");
            let name = ran.stderr.split(": ").next().unwrap_or_default();
            assert!(coreloop::Code::ALL.iter().any(|code| code.name() == name), "{address} {ran:?}");
        }
    }
    // HTTP has every status, like the native protocol.
    let ran = run(&["call", &format!("http:{}", server.address()), "Users.List", "100001"]);
    assert_eq!(ran.stderr, "out_of_range: n out of range\n");
}

#[test]
fn gob_works_in_native_frames() {
    let server = Served::start(&[]);
    let call = |method, argument| run(&["call", "--codec", "gob", server.address(), method, argument]);
    assert_eq!(reply(&call("Arith.Multiply", r#"{"A":6,"B":7}"#)), json!(42));
    assert_eq!(reply(&call("Echo.Bytes", r#"{"$bytes":"aGk="}"#)), json!("aGk="));
    let users = reply(&call("Users.List", "3"));
    assert_eq!((&users[0]["Tags"], &users[2]["ID"]), (&json!(["tag0"]), &json!(3)), "{users}");
    // No argument is a struct without fields.
    assert!(
        run(&["call", "--codec", "gob", server.address(), "Echo.Echo"])
            .stderr
            .starts_with("invalid_argument: ")
    );
    // A whole number is signed unless it is marked otherwise, as in Go.
    let ran = call("Users.Get", "7");
    assert!(ran.stderr.starts_with("invalid_argument: ") && ran.stderr.contains("unsigned"), "{ran:?}");
}

#[test]
fn a_call_ends_at_its_deadline_in_every_protocol() {
    let server = Served::start(&["--set", "limits.drain_ms=100"]);
    for address in addresses(server.address()) {
        let ran = run(&["call", "--timeout", "30ms", &address, "Echo.Sleep", "60000"]);
        assert_eq!(ran.code, Some(1), "{address} {ran:?}");
        assert!(ran.stderr.starts_with("deadline_exceeded: "), "{address} {ran:?}");
    }
}

#[test]
fn list_is_the_same_in_every_protocol() {
    let server = Served::start(&[]);
    let native = run(&["list", server.address()]).stdout;
    assert!(native.contains("Arith.Multiply  {A: i64, B: i64} -> i64   pooled\n"), "{native}");
    for address in addresses(server.address()) {
        let ran = run(&["list", &address]);
        assert_eq!((ran.code, &ran.stdout), (Some(0), &native), "{address} {ran:?}");
        let none = run(&["list", &address, "Nope"]);
        assert_eq!(none.stderr, "not_found: there is no service \"Nope\" here\n", "{address}");
    }
}

#[test]
fn browser_and_unix_addresses_are_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = format!("unix:{}/socket", folder.path().display());
    let server = Served::start_command(
        common::coreloop(&["serve", "--listen", "127.0.0.1:0", "--listen", &socket]),
        2,
    );
    let url = format!("http://{}/", server.address());
    for address in [url, format!("http:{socket}"), format!("jsonrpc:{socket}")] {
        assert_eq!(reply(&run(&["call", &address, "Arith.Add", r#"{"A":1,"B":2}"#])), json!(3), "{address}");
    }
}

/// Go's own net/rpc server, killed at the end of the test.
struct GoServer {
    child: Child,
    address: String,
}

impl GoServer {
    /// Without Go a test prints that it is skipped and passes, unless `CI` is set.
    fn start(protocol: &str) -> Option<GoServer> {
        if Command::new("go").arg("version").output().is_err() {
            assert!(
                env::var_os("CI").is_none(),
                "Go is not installed, and its servers are what this is about"
            );
            eprintln!("SKIPPED: Go is not installed");
            return None;
        }
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/go/interop");
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("interop-cli-{protocol}"));
        let build =
            Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(source).output();
        let build = build.expect("go runs");
        assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        let mut child = Command::new(program)
            .args(["serve", protocol])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim_end().strip_prefix("listening on ").expect("its address");
        Some(GoServer { address: format!("{protocol}:{address}"), child })
    }
}

impl Drop for GoServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn calls_gos_server(protocol: &str) {
    let Some(server) = GoServer::start(protocol) else { return };
    let address = server.address.as_str();
    assert_eq!(reply(&run(&["call", address, "Arith.Multiply", r#"{"A":6,"B":7}"#])), json!(42));
    assert_eq!(reply(&run(&["call", address, "Echo.Echo", "\"é世\""])), json!("é世"));
    let user = reply(&run(&["call", address, "Users.Get", &marked(address, "$uint", "7")]));
    assert_eq!((&user["Name"], &user["Scores"]["s0"]), (&json!("user-7 é世"), &json!(3.5)), "{user}");
    let ran = run(&["call", address, "Arith.Divide", r#"{"A":7,"B":0}"#]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "unknown: divide by zero\n"));
    let ran = run(&["call", address, "Arith.Modulo", r#"{"A":7,"B":0}"#]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("rpc: can't find method Arith.Modulo"), "{ran:?}");
    let ran = run(&["list", address]);
    let line = "unimplemented: the server has no method Meta.Methods, which `list` calls\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), line));
}

#[test]
fn gos_jsonrpc_server_is_called() {
    calls_gos_server("jsonrpc");
}

#[test]
fn gos_gob_server_is_called() {
    if has_gob() {
        calls_gos_server("gob");
    }
}
