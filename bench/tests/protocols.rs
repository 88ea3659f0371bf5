//! The load generator in every protocol: against our own server, against Go's, and against minimal fake servers.

#![cfg(target_os = "linux")]

mod support;

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use coreloop::wire::Scheme;
use coreloop::{Server, demo};
use coreloop_bench::process::Guarded;
use support::{Fake, loadgen};

/// Protocols of our own server, as far as this build has them.
fn schemes() -> Vec<&'static str> {
    let schemes: Vec<_> =
        Scheme::ALL.iter().map(|scheme| scheme.name()).filter(|name| *name != "native").collect();
    assert!(schemes.contains(&"http") && schemes.contains(&"jsonrpc"), "{schemes:?}");
    schemes
}

fn demo_server() -> Server {
    demo::services(Server::builder()).cores(1).listen("127.0.0.1:0").start().expect("it starts")
}

fn address_of(scheme: &str, server: &Server) -> String {
    format!("{scheme}:{}", server.addresses()[0])
}

/// Checks what every protocol supports, with our server and with Go's.
fn answers_both_loops_and_a_mix(address: &str) {
    let run =
        loadgen(address, "--method Arith.Multiply --connections 4 --depth 8 --duration 0.4 --warmup 0.1");
    assert_eq!(run.code, Some(0), "{address}: {}{}", run.stderr, run.stdout);
    assert_eq!(
        (&run.json["total"]["errors"], &run.json["connections"]["lost"]),
        (&0.into(), &0.into()),
        "{}",
        run.stdout
    );
    assert!(run.json["total"]["ok"].as_u64() > Some(100), "{}", run.stdout);
    let protocol = address.split(':').next();
    assert_eq!(run.json["settings"]["protocol"].as_str(), protocol);

    let mix = r#"Arith.Add=3,Echo.Echo:"é世"=2,Arith.Divide=1,Echo.Bytes=1,Users.Get=1,Users.List:20=1"#;
    let run = loadgen(address, &format!("--rate 1k --connections 3 --duration 0.5 --warmup 0 --mix {mix}"));
    assert_eq!(run.code, Some(0), "{address}: {}{}", run.stderr, run.stdout);
    assert_eq!(run.json["total"]["ok"], 500, "every call of the schedule was answered: {}", run.stdout);
    let methods = run.json["methods"].as_array().expect("a list");
    assert_eq!(methods.len(), 6);
    assert!(methods.iter().all(|method| method["ok"].as_u64() > Some(0)), "{}", run.stdout);
}

/// Checks that errors are counted as such, each with its status.
/// `unknown` is a method that the server lacks; a server that lists its methods is not sent one.
fn counts_errors(address: &str, by_zero: &str, unknown: Option<&str>) {
    let mix = r#"Arith.Add=1,Arith.Divide:{"A":1,"B":0}=1"#;
    let mix = unknown.map_or(mix.to_owned(), |method| format!("{mix},{method}:1=1"));
    let run = loadgen(address, &format!("--rate 600 --connections 2 --duration 0.5 --warmup 0 --mix {mix}"));
    assert_eq!(run.code, Some(0), "{address}: {}{}", run.stderr, run.stdout);
    let methods = run.json["methods"].as_array().expect("a list");
    assert_eq!(methods[0]["errors"], 0, "{}", run.stdout);
    for (method, status) in [(1, by_zero), (2, "unimplemented")].into_iter().take(methods.len() - 1) {
        let (method, errors) = (&methods[method], methods[method]["errors"].as_u64());
        assert!(method["ok"] == 0 && errors > Some(0), "{}", run.stdout);
        assert_eq!(method["errors_by_status"][status].as_u64(), errors, "{address} {method}");
    }
    assert!(run.stdout.contains("divide by zero"), "{}", run.stdout);
    assert_eq!(run.json["connections"]["lost"], 0);
}

#[test]
fn our_server_answers_in_every_protocol() {
    let server = demo_server();
    for scheme in schemes() {
        answers_both_loops_and_a_mix(&address_of(scheme, &server));
    }
    server.shutdown();
}

#[test]
fn errors_of_our_server_are_counted() {
    let server = demo_server();
    for scheme in schemes() {
        // Go's error is a text without a code.
        let by_zero = if scheme == "http" { "invalid_argument" } else { "unknown" };
        counts_errors(&address_of(scheme, &server), by_zero, None);
    }
    server.shutdown();
}

#[test]
fn http_has_server_times_and_deadlines() {
    let server = demo_server();
    let arguments = "--mix Echo.Sleep:5=1 --connections 2 --duration 0.4 --warmup 0 --timeout 10s";
    let run = loadgen(&address_of("http", &server), arguments);
    assert_eq!(run.code, Some(0), "{}{}", run.stderr, run.stdout);
    let slept = run.json["total"]["handler"]["percentiles"][0][1].as_f64();
    assert!(slept >= Some(5e6 * 0.99), "{slept:?}");
    // A late answer has the status deadline_exceeded.
    let arguments = "--mix Echo.Sleep:10000=1 --connections 1 --duration 0.4 --warmup 0 --timeout 20ms";
    let run = loadgen(&address_of("http", &server), arguments);
    let errors = run.json["total"]["errors"].as_u64();
    assert!(errors > Some(0), "{}", run.stdout);
    assert_eq!(run.json["total"]["errors_by_status"]["deadline_exceeded"].as_u64(), errors, "{}", run.stdout);
    server.shutdown();
}

#[test]
fn grpc_keeps_the_servers_limit_of_streams_and_states_deadlines() {
    let server = demo_server();
    let address = address_of("grpc", &server);
    answers_both_loops_and_a_mix(&address);
    // The server allows 128 streams, so of 400 calls of 200 ms at most 384 are sent in 0.4 s. None of them is refused.
    let arguments = "--method Echo.Sleep --body 200 --rate 1k --connections 1 --duration 0.4 --warmup 0";
    let run = loadgen(&address, arguments);
    let [ok, errors, never_sent] =
        ["ok", "errors", "never_sent"].map(|field| run.json["total"][field].as_u64().expect("a count"));
    assert_eq!((run.code, errors, ok + never_sent), (Some(4), 0, 400), "{}", run.stdout);
    assert!(ok > 0 && never_sent > 0, "{}", run.stdout);
    for (arguments, status) in [
        ("--method Echo.Sleep --body 10000 --timeout 20ms", "deadline_exceeded"),
        ("--method Arith.Divide --body-hex 0801", "invalid_argument"),
        ("--method No.Method --body 1", "unimplemented"),
    ] {
        let run = loadgen(&address, &format!("{arguments} --connections 1 --duration 0.4 --warmup 0"));
        let errors = run.json["total"]["errors"].as_u64();
        assert!(errors > Some(0) && run.json["total"]["ok"] == 0, "{arguments}: {}", run.stdout);
        assert_eq!(run.json["total"]["errors_by_status"][status].as_u64(), errors, "{}", run.stdout);
    }
    server.shutdown();
}

#[test]
fn large_bodies_are_sent_and_answered() {
    let server = demo_server();
    for scheme in schemes() {
        let arguments = "--method Echo.Bytes --body-bytes 300000 --connections 2 --duration 0.4 --warmup 0";
        let run = loadgen(&address_of(scheme, &server), arguments);
        assert_eq!(run.code, Some(0), "{scheme}: {}{}", run.stderr, run.stdout);
        assert_eq!(run.json["total"]["errors"], 0, "{}", run.stdout);
    }
    server.shutdown();
}

#[test]
fn a_large_body_comes_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        file.display().to_string()
    };
    // The kernel accepts no argument of more than 128 KiB (execve(2), "Limits on size of arguments").
    let text = write("text.json", format!("\"{}\"\n", "A".repeat(300_000)).as_bytes());
    let bytes = write("bytes", &[0xff; 300_000]);
    let server = demo_server();
    for scheme in schemes().into_iter().chain(["native"]) {
        let (file, codec) = if scheme == "native" { (&bytes, " --codec raw") } else { (&text, "") };
        let method = if scheme.starts_with("gob") { "Echo.Echo" } else { "Echo.Bytes" };
        let arguments =
            format!("--method {method} --body-file {file}{codec} --connections 2 --duration 0.4 --warmup 0");
        let run = loadgen(&address_of(scheme, &server), &arguments);
        assert_eq!(run.code, Some(0), "{scheme}: {}{}", run.stderr, run.stdout);
        assert_eq!(run.json["total"]["errors"], 0, "{}", run.stdout);
    }
    server.shutdown();
    let large = write("large", &vec![b' '; (16 << 20) + 1]);
    let no_json = write("no.json", b"{");
    for (file, why) in [
        ("missing", "--body-file missing: No such file"),
        (&*large, "at most 16777216 bytes"),
        (&*bytes, "no JSON: invalid utf-8"),
        (&*no_json, "no JSON"),
        (&*folder.path().display().to_string(), "Is a directory"),
    ] {
        let run = loadgen("http:127.0.0.1:1", &format!("--method Echo.Echo --body-file {file}"));
        assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{}", run.stderr);
        assert!(run.stderr.contains(why), "{}", run.stderr);
    }
}

#[test]
fn an_unsupported_option_is_an_error_before_the_run() {
    for (address, arguments, why) in [
        ("jsonrpc:127.0.0.1:1", "--timeout 1s", "cannot carry a deadline"),
        ("gob:127.0.0.1:1", "--timeout 1s", "cannot carry a deadline"),
        ("gob-http:127.0.0.1:1", "--timeout 1s", "cannot carry a deadline"),
        ("http:127.0.0.1:1", "--codec gob", "the codec json and no other"),
        ("http:127.0.0.1:1", "--body-hex 00", "not --body-hex"),
        ("gob:127.0.0.1:1", "--body [1,true]", "holds an int and a bool"),
        ("grpc:127.0.0.1:1", "--method S.M --body [1]", "a whole number or a string"),
        ("grpc:127.0.0.1:1", "--method Echo.Bytes --body-bytes 1000", "at most 256 bytes"),
    ] {
        let run = loadgen(address, arguments);
        assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{}", run.stderr);
        assert!(run.stderr.contains(why), "{}", run.stderr);
    }
}

#[test]
fn a_close_after_each_http_answer_loses_no_call() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n42";
    let fake = Fake::start(move |mut connection| connection.answer_once(br#"{"A":6,"B":7}"#, answer));
    let run = loadgen(&format!("http:{}", fake.address), "--connections 2 --duration 0.5 --warmup 0");
    assert_eq!(run.code, Some(0), "{}{}", run.stderr, run.stdout);
    let connections = &run.json["connections"];
    assert!(connections["drained"].as_u64() > Some(1) && connections["lost"] == 0, "{connections}");
    assert_eq!(run.json["total"]["errors"], 0, "{}", run.stdout);
}

#[test]
fn an_http_answer_may_end_with_the_connection() {
    let fake = Fake::start(|mut connection| {
        connection
            .answer_once(br#"{"A":6,"B":7}"#, b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n13")
    });
    let run = loadgen(&format!("http:{}", fake.address), "--connections 2 --duration 0.5 --warmup 0");
    assert_eq!(run.code, Some(0), "{}{}", run.stderr, run.stdout);
    let connections = &run.json["connections"];
    assert!(connections["drained"].as_u64() > Some(1) && connections["lost"] == 0, "{connections}");
    assert!(run.json["total"]["ok"].as_u64() > Some(1) && run.json["total"]["errors"] == 0, "{}", run.stdout);
}

#[test]
fn invalid_replies_are_reported_in_every_protocol() {
    let fake = Fake::start(|mut connection| {
        connection.say(b"220 smtp.example.org ESMTP, at your service for a while\r\n")
    });
    for scheme in ["http", "jsonrpc", "gob", "gob-http"] {
        let address = format!("{scheme}:{}", fake.address);
        let run = loadgen(&address, "--connections 2 --duration 0.2 --warmup 0 --drain 0");
        assert_eq!(run.code, Some(1), "{}", run.stdout);
        // A failed greeting means that no connection opens, so there is no run.
        let report = if scheme == "gob-http" { &run.stderr } else { &run.stdout };
        assert!(report.contains("does not speak"), "{scheme}: {report}");
    }
}

/// Starts Go's own net/rpc server and returns its address. Without Go the test reports that and passes, except where
/// `CI` is set.
fn go_server(protocol: &str) -> Option<(Guarded, String)> {
    if Command::new("go").arg("version").output().is_err() {
        assert!(env::var_os("CI").is_none(), "Go is not installed, and its servers are what this is about");
        eprintln!("SKIPPED: Go is not installed");
        return None;
    }
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/go/interop");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("interop-{protocol}"));
    let build = Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(source).output();
    let build = build.expect("go runs");
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let child = Command::new(program).args(["serve", protocol]).stdout(Stdio::piped()).spawn();
    let mut child = Guarded(child.expect("it starts"));
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.trim_end().strip_prefix("listening on ").expect("its address");
    let scheme = if protocol == "dialhttp" { "gob-http" } else { protocol };
    Some((child, format!("{scheme}:{address}")))
}

#[test]
fn gos_servers_answer_in_gob_and_in_jsonrpc() {
    for protocol in ["gob", "dialhttp", "jsonrpc"] {
        let Some((_server, address)) = go_server(protocol) else { return };
        answers_both_loops_and_a_mix(&address);
        counts_errors(&address, "unknown", Some("Arith.Modulo"));
    }
}

#[test]
fn types_defined_within_an_answer_are_read() {
    let Some((_server, address)) = go_server("gob") else { return };
    let run = loadgen(
        &address,
        "--mix Shapes.Any:7=3,Arith.Divide:{\"A\":1,\"B\":0}=1,Arith.Add=1 --connections 3 --depth 8 --duration 0.4 --warmup 0.1",
    );
    assert_eq!(run.code, Some(0), "{}{}", run.stderr, run.stdout);
    let methods = run.json["methods"].as_array().expect("a list");
    for (method, fails) in methods.iter().zip([false, true, false]) {
        let of = |name: &str| method[name].as_u64().expect("a count");
        assert_eq!((of("errors") > 0, of("ok") > 0), (fails, !fails), "{method}");
    }
    assert_eq!(run.json["connections"]["lost"], 0, "{}", run.stdout);
    assert_eq!(run.json["total"]["unanswered"], 0, "{}", run.stdout);
}
