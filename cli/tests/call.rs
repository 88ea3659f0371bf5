//! `coreloop call` and `coreloop list` against a served binary: replies, errors, exit statuses.

mod common;

use common::{Served, run, run_with_input, run_with_open_input};
use coreloop::client::Scheme;

#[test]
fn every_demo_method_answers() {
    let server = Served::start(&[]);
    for (method, argument, reply) in [
        ("Arith.Add", r#"{"A":6,"B":7}"#, "13"),
        ("Arith.AddFixed", r#"{"A":-6,"B":7}"#, "1"),
        ("Arith.Multiply", r#"{"A":9223372036854775807,"B":2}"#, "-2"),
        ("Arith.Divide", r#"{"A":7,"B":2}"#, r#"{"Quo":3,"Rem":1}"#),
        ("Echo.Echo", r#""é世 \"""#, r#""é世 \"""#),
        ("Echo.Bytes", r#""aGk=""#, r#""aGk=""#),
        ("Echo.Sleep", "1", "1"),
        ("Users.List", "0", "[]"),
        ("Health.Check", r#""Arith""#, r#""serving""#),
    ] {
        let ran = run(&["call", server.address(), method, argument]);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(0), format!("{reply}\n").as_str()),
            "{method}: {ran:?}"
        );
    }
    let ran = run(&["call", server.address(), "Users.Get", "7"]);
    let user: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let tags = serde_json::json!(["tag0", "tag1", "tag2"]);
    assert_eq!(
        (&user["Name"], &user["Tags"], &user["Scores"]["s0"]),
        (&"user-7 é世".into(), &tags, &3.5.into())
    );
    // Native calls ask for the method's streams first.
    assert_eq!(server.stop().summary("calls"), 20);
}

#[test]
fn streams_are_lines() {
    let server = Served::start(&[]);
    let ran = run(&["call", server.address(), "Users.Watch", "3"]);
    let users: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(users.iter().map(|user| user["ID"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(ran.code == Some(0) && ran.stderr.ends_with(" us, 3 replies\n"), "{ran:?}");
    // What a server streams, it can import.
    let ran = run_with_input(&["call", server.address(), "Users.Import"], &ran.stdout);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "3\n"), "{ran:?}");
    let ran = run(&["call", server.address(), "Echo.Chat", "\"one\"\n\n\"two é世\""]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "\"one\"\n\"two é世\"\n"), "{ran:?}");
    let ran = run_with_input(&["call", server.address(), "Echo.Chat", "-"], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    let ran = run_with_input(&["call", "--codec", "gob", server.address(), "Echo.Chat"], "\"one\"\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "\"one\"\n"), "{ran:?}");

    for (arguments, input, error) in [
        (&["Users.Watch", "-1"][..], "", "out_of_range: n out of range"),
        (&["Users.Watch", "{"], "", "coreloop: the argument is not JSON: "),
        (&["Echo.Chat"], "\"one\"\n{\n", "coreloop: line 2: the argument is not JSON: "),
        (&["Users.Import"], "{}\n", "invalid_argument: "),
        (&["Users.Import"], "x\n", "coreloop: line 1: the argument is not JSON: "),
        (&["Users.Import", "7"], "", "invalid_argument: "),
        (&["--timeout", "50ms", "Echo.Chat", "-"], "never", "deadline_exceeded: "),
    ] {
        let mut all = vec!["call"];
        let at = arguments.iter().position(|word| word.contains('.')).unwrap();
        all.extend(&arguments[..at]);
        all.push(server.address());
        all.extend(&arguments[at..]);
        let ran = if input == "never" { run_with_open_input(&all) } else { run_with_input(&all, input) };
        assert!(ran.stderr.starts_with(error), "{arguments:?}: {ran:?}");
        assert_eq!(ran.code, Some(if arguments.contains(&"{") { 2 } else { 1 }), "{arguments:?}");
    }
}

#[test]
fn times_go_to_standard_error() {
    let server = Served::start(&[]);
    for scheme in ["native", "http"] {
        assert_times(&format!("{scheme}:{}", server.address()));
    }
    let ran = run(&["call", &format!("jsonrpc:{}", server.address()), "Echo.Sleep", "1"]);
    let total = ran.stderr.strip_prefix("total ").and_then(|rest| rest.strip_suffix(" us\n"));
    assert!(total.is_some_and(|us| us.parse::<u64>().is_ok_and(|us| us >= 1000)), "{ran:?}");
}

fn assert_times(address: &str) {
    let ran = run(&["call", address, "Echo.Sleep", "20"]);
    let words: Vec<&str> = ran.stderr.split([' ', ',', '\n']).filter(|word| !word.is_empty()).collect();
    let [_, total, "us", "wire", wire, "us", "queue", queue, "us", "handler", handler, "us"] = words[..]
    else {
        panic!("{}", ran.stderr)
    };
    let us = |text: &str| text.parse::<u64>().unwrap();
    assert_eq!(us(total), us(wire) + us(queue) + us(handler));
    assert!(us(handler) >= 20_000, "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1);
}

#[test]
fn the_argument_comes_from_standard_input_or_is_null() {
    let server = Served::start(&[]);
    let ran = run_with_input(&["call", server.address(), "Echo.Echo", "-"], "\"from\\nafar\"\n");
    assert_eq!(ran.stdout, "\"from\\nafar\"\n");
    let ran = run(&["call", server.address(), "Echo.Echo"]);
    assert!(ran.stderr.starts_with("invalid_argument: ") && ran.stderr.contains("null"), "{ran:?}");
}

#[test]
fn a_status_is_one_line_and_exit_status_1() {
    let server = Served::start(&[]);
    for (method, argument, line) in [
        ("Arith.Divide", r#"{"A":7,"B":0}"#, "invalid_argument: divide by zero"),
        ("Users.List", "100001", "out_of_range: n out of range"),
        ("Users.List", "-1", "out_of_range: n out of range"),
        ("Arith.Modulo", "1", "unimplemented: there is no method"),
        ("Arith.Add", "[]", "invalid_argument: argument of Arith.Add: malformed json body"),
        ("Echo.Sleep", "60001", "out_of_range: "),
        ("Health.Check", r#""Nope""#, "not_found: "),
    ] {
        let ran = run(&["call", server.address(), method, argument]);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().count()), (Some(1), "", 1), "{ran:?}");
        assert!(ran.stderr.starts_with(line), "{ran:?}");
    }
    let ended = server.stop();
    assert_eq!((ended.summary("calls"), ended.summary("errors")), (14, 7), "{ended:?}");
    assert_eq!((ended.summary("out_of_range"), ended.summary("connections")), (3, 7), "{ended:?}");
}

#[test]
fn a_call_ends_at_its_deadline() {
    let server = Served::start(&[]);
    let ran = run(&["call", "--timeout", "30ms", server.address(), "Echo.Sleep", "60000"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("deadline_exceeded: "), "{ran:?}");
}

#[test]
fn metadata_may_name_the_method() {
    let server = Served::start(&[]);
    let call =
        |pair| run(&["call", "--metadata", pair, "--metadata", "b3=1", server.address(), "Arith.Add", "{}"]);
    // Name and hash disagree, which shows that the metadata arrived.
    assert!(call("method=Arith.Multiply").stderr.contains("the name Arith.Multiply"));
    assert!(
        call("method=Arith.Add").stderr.starts_with("invalid_argument: argument of Arith.Add: missing field")
    );
}

#[test]
fn usage_errors_are_reported_before_connecting() {
    // Nothing listens there, which would be `unavailable` and exit status 1.
    let unused = "127.0.0.1:1";
    for args in [
        &["call", unused, "Arith.Add", "{\"A\":"][..],
        &["call", unused, "Arith"],
        &["call", "--timeout", "5", unused, "Arith.Add"],
        &["call", "--metadata", "novalue", unused, "Arith.Add"],
        &["call", "--codec", "yaml", unused, "Arith.Add"],
        &["call", "--codec", "gob", unused, "Echo.Echo", "[1,true]"],
        &["call", "--codec", "gob", "http:127.0.0.1:1", "Arith.Add"],
        &["call", "--metadata", "a=b", "jsonrpc:127.0.0.1:1", "Arith.Add"],
        &["call", "nowhere", "Arith.Add"],
        &["call", unused],
        &["frobnicate"],
        &["serve", "--frobnicate"],
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.stderr.lines().count()), (Some(2), 1), "{args:?}: {ran:?}");
        assert!(ran.stderr.starts_with("coreloop: "), "{args:?}: {ran:?}");
    }
    let ran = run(&["call", unused, "Arith.Add"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("unavailable: cannot connect"), "{ran:?}");
    for scheme in Scheme::ALL {
        let ran = run(&["list", &format!("{}:{unused}", scheme.name())]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (Some(1), 1), "{ran:?}");
        assert!(ran.stderr.starts_with("unavailable: "), "{ran:?}");
    }
}

#[test]
fn list_shows_methods_and_their_documentation() {
    let server = Served::start(&[]);
    let all = run(&["list", &format!("native:{}", server.address())]).stdout;
    let lines: Vec<&str> = all.lines().collect();
    let at =
        lines.iter().position(|line| *line == "Arith.Multiply  {A: i64, B: i64} -> i64   pooled").unwrap();
    assert!(lines[at + 1].starts_with("      ") && lines[at + 1].contains("roduct"), "{all}");
    let methods: Vec<&str> = lines.iter().filter(|line| line.contains(" -> ")).copied().collect();
    assert!(methods.is_sorted(), "{all}");
    assert!(methods.iter().any(|line| line.starts_with("Meta.Methods  ")), "{all}");
    assert!(
        methods.iter().any(|line| line.starts_with("Echo.Sleep  ") && line.ends_with("   blocking")),
        "{all}"
    );

    let users = run(&["list", server.address(), "Users"]).stdout;
    assert_eq!(users.lines().filter(|line| line.starts_with("Users.")).count(), 4, "{users}");
    assert!(users.contains("Users.Watch  i64 -> stream {ID: u64"), "{users}");
    assert!(users.contains("Users.Import  stream {ID: u64"), "{users}");
    assert!(!users.contains("Arith."), "{users}");
    let none = run(&["list", server.address(), "Nope"]);
    assert_eq!(
        (none.code, none.stderr.as_str()),
        (Some(1), "not_found: there is no service \"Nope\" here\n")
    );
}

#[test]
fn version_and_help_go_to_standard_output() {
    let version = run(&["--version"]);
    assert_eq!(
        (version.code, version.stdout),
        (Some(0), format!("coreloop {}\n", env!("CARGO_PKG_VERSION")))
    );
    for (args, word) in [
        (&["--help"][..], "serve"),
        (&["serve", "--help"], "--print-config"),
        (&["call", "--help"], "--timeout"),
        (&["list", "--help"], "SERVICE"),
    ] {
        let help = run(args);
        assert!(help.code == Some(0) && help.stdout.contains(word) && help.stderr.is_empty(), "{help:?}");
    }
}
