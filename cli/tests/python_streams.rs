//! The client in Python for methods with streams, which was written from `docs/wire.md` alone, against a served binary.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Ran, Served};

/// Runs the client with this text on standard input.
fn streams(args: &[&str], input: &str) -> Ran {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/streams.py");
    let mut command = Command::new("python3");
    // The compiled form of the script that it imports stays out of the sources.
    command.arg("-B").arg(script).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("python3 is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    // Apart, since the client prints what it receives while it still reads.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let ran = child.wait_with_output().expect("it ends").into();
    writer.join().expect("it does not panic");
    ran
}

#[test]
fn a_chat_goes_beyond_every_window() {
    let server = Served::start(&[]);
    // 3 MB each way: more than the windows of a stream and of the connection at their start.
    let lines: Vec<String> = (0..3_000).map(|at| format!("\"{at} {}\"", "x".repeat(1_000))).collect();
    let ran = streams(&[server.address(), "Echo.Chat"], &lines.join("\n"));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.lines().eq(&lines), "{} lines came back", ran.stdout.lines().count());
    // No message at all.
    let ran = streams(&[server.address(), "Echo.Chat"], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_watch_sends_what_a_list_has_and_can_be_cancelled() {
    let server = Served::start(&[]);
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    // 6,000 users are more than 600 KB.
    let ran = streams(&[server.address(), "Users.Watch", "6000"], "");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let list = common::run(&["call", server.address(), "Users.List", "6000"]);
    let watched: Vec<_> = ran.stdout.lines().map(parse).collect();
    assert_eq!(serde_json::Value::Array(watched), parse(&list.stdout));
    let ran = streams(&[server.address(), "Users.Watch", "1000000000", "--take", "3000"], "");
    assert_eq!((ran.code, ran.stderr.trim_end(), ran.stdout.lines().count()), (Some(1), "cancelled", 3_000));
    let ran = streams(&[server.address(), "Users.Watch", "-1"], "");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "out_of_range: n out of range\n"));
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn an_import_has_one_result_and_ends_with_the_first_error() {
    let server = Served::start(&[]);
    let user = |id: usize| {
        format!(r#"{{"ID":{id},"Name":"n","Age":1,"Email":"{}","Tags":[],"Scores":{{}}}}"#, "e".repeat(500))
    };
    let users: Vec<String> = (0..4_000).map(user).collect();
    let ran = streams(&[server.address(), "Users.Import"], &users.join("\n"));
    assert_eq!((ran.code, ran.stdout.trim_end(), ran.stderr.as_str()), (Some(0), "4000", ""));
    // A message that is no user ends the call, whatever follows.
    let ran =
        streams(&[server.address(), "Users.Import"], &format!("{}\n7\n{}", users[0], users[1..].join("\n")));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.starts_with("invalid_argument: "), "{}", ran.stderr);
    // Neither form of the argument fits the other method.
    let ran = streams(&[server.address(), "Users.Import", "7"], "");
    assert!(ran.stderr.starts_with("invalid_argument: "), "{}", ran.stderr);
    let ran = streams(&[server.address(), "Users.Watch"], "7\n");
    assert!(ran.stderr.starts_with("invalid_argument: "), "{}", ran.stderr);
    assert_eq!(server.stop().code, Some(0));
}
