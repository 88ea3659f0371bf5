//! The results that `loadgen` derives from a run: exit status, objective, answers in time, headers, the check of the
//! method, files.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use coreloop::config::Limits;
use coreloop::{Server, Status, demo};
use coreloop_bench::process::{self, CpuClock};
use serde_json::Value;
use support::{Fake, loadgen, spawn};

const PROTOCOLS: [&str; 4] = ["native", "http", "jsonrpc", "gob"];

fn demo_server() -> Server {
    demo::services(Server::builder()).cores(1).listen("127.0.0.1:0").start().expect("it starts")
}

fn address_of(server: &Server) -> String {
    server.addresses()[0].to_string()
}

fn floor() -> process::Server {
    let cores = process::allowed_cores().expect("affinity");
    process::Server::start(Command::new(env!("CARGO_BIN_EXE_floor")), &cores[..1]).expect("the floor starts")
}

#[test]
fn a_server_that_dies_is_exit_status_4() {
    for arguments in ["--rate 1k", "--depth 2"] {
        let server = floor();
        let clock = CpuClock::of(server.pid()).expect("its clock");
        let idle_ns = clock.now_ns().expect("its time");
        let run = spawn(
            &server.address.to_string(),
            &format!("{arguments} --connections 4 --warmup 0 --duration 3 --drain 0"),
        );
        // The run has begun once the server has done more work than accepting four connections.
        while clock.now_ns().expect("its time") < idle_ns + 5_000_000 {
            thread::yield_now();
        }
        drop(server);
        let run = run.finish();
        assert_eq!(run.code, Some(4), "{arguments}: {}{}", run.stdout, run.stderr);
        assert!(run.json["total"]["ok"].as_u64() > Some(0), "{}", run.stdout);
        assert_eq!(run.json["verdict"]["server_gone"], true);
        assert!(run.stdout.contains("could not be reached when the run ended"), "{}", run.stdout);
        assert!(run.page.contains("could not be reached"));
    }
}

#[test]
fn unsent_or_unanswered_calls_are_exit_status_4() {
    // One call is answered, then none: the calls after it are never sent, or stay unanswered.
    for (arguments, field) in [("--rate 200 --depth 1", "never_sent"), ("--rate 200", "unanswered")] {
        let fake = Fake::start(|mut connection| {
            connection.answer_frames(3, Duration::ZERO);
            connection.swallow();
        });
        let run = loadgen(
            &fake.address,
            &format!("{arguments} --connections 2 --warmup 0 --duration 0.5 --drain 100ms"),
        );
        assert_eq!(run.code, Some(4), "{}{}", run.stdout, run.stderr);
        assert!(run.json["total"][field].as_u64() > Some(0), "{}", run.stdout);
        assert_eq!(run.json["verdict"]["incomplete"], true);
    }
}

#[test]
fn a_missed_objective_is_reported_with_the_difference() {
    let server = demo_server();
    let arguments = "--connections 2 --rate 200 --duration 0.4 --warmup 0";
    let run = loadgen(&address_of(&server), &format!("{arguments} --slo p50=1m,p99=1m,errors=100%"));
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert_eq!(run.json["slo"]["met"], true);
    assert_eq!(run.json["slo"]["objective"], "p50=1m,p99=1m,errors=100%");
    assert!(run.stdout.contains("SLO met: p50 "), "{}", run.stdout);

    let run = loadgen(&address_of(&server), &format!("{arguments} --slo max=1us"));
    assert_eq!(run.code, Some(3), "{}{}", run.stdout, run.stderr);
    let found_ns = run.json["slo"]["bounds"][0]["found_ns"].as_u64().expect("measured");
    assert_eq!(Some(found_ns), run.json["total"]["latency"]["max_ns"].as_u64());
    assert!(run.stdout.contains("SLO missed: max is ") && run.stdout.contains(" over"), "{}", run.stdout);
    assert!(run.page.contains("SLO missed: max is"));

    // An objective applies to a closed loop too, and failed calls miss it.
    let fails = r#"--mix Arith.Add=1,Arith.Divide:{"A":1,"B":0}=1 --slo p99=1m --connections 1 --duration 0.3 --warmup 0"#;
    let run = loadgen(&address_of(&server), fails);
    assert_eq!(run.code, Some(3), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("percentage points over"), "{}", run.stdout);
}

#[test]
fn answers_after_the_deadline_are_counted_separately() {
    const PAUSE: Duration = Duration::from_millis(40);
    for (timeout, is_in_time) in [("10ms", false), ("1m", true)] {
        let fake = Fake::start(|mut connection| connection.answer_frames(u64::MAX, PAUSE));
        let arguments = format!("--connections 2 --depth 1 --duration 0.6 --warmup 0 --timeout {timeout}");
        let run = loadgen(&fake.address, &arguments);
        assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
        let total = &run.json["total"];
        let (all, late) =
            if is_in_time { ("in_time", "after_deadline") } else { ("after_deadline", "in_time") };
        assert_eq!((&total[all], &total[late]), (&total["ok"], &0.into()), "{}", run.stdout);
        assert_eq!(run.json["in_time_per_s"].as_f64() > Some(0.0), is_in_time);
        for text in ["in time", "after deadline"] {
            assert!(run.stdout.contains(text) && run.page.contains(text), "{text}: {}", run.stdout);
        }
        let series = run.json["series"].as_array().expect("a list");
        assert_eq!(series.iter().any(|point| point["in_time"].as_u64() > Some(0)), is_in_time);
    }
    // Without a deadline no answer is in time or late.
    let run = loadgen(&floor().address.to_string(), "--connections 1 --duration 0.2 --warmup 0");
    assert!(run.json["total"]["in_time"].is_null() && !run.stdout.contains("in time"), "{}", run.stdout);
}

#[test]
fn in_time_counts_from_the_intended_time() {
    // 100 calls/s are due and 25 are answered: each answer is fast once its call is sent, but later than it was due.
    let fake = Fake::start(|mut connection| connection.answer_frames(u64::MAX, Duration::from_millis(40)));
    let arguments =
        "--rate 100 --connections 1 --depth 1 --duration 1 --warmup 0 --drain 30s --timeout 200ms";
    let run = loadgen(&fake.address, arguments);
    let total = &run.json["total"];
    assert!(total["in_time"].as_u64() > Some(0), "{}", run.stdout);
    assert!(total["after_deadline"].as_u64() > total["in_time"].as_u64(), "{}", run.stdout);
}

#[test]
fn a_missing_method_is_an_error_before_any_load() {
    let server = demo_server();
    let address = address_of(&server);
    for protocol in PROTOCOLS {
        let run =
            loadgen(&format!("{protocol}:{address}"), "--method Arith.Mutliply --body {} --duration 60");
        assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{protocol}: {}", run.stderr);
        assert!(run.stderr.contains("no method Arith.Mutliply; nearest: Arith.Multiply"), "{}", run.stderr);
        assert!(run.stdout.is_empty() && run.json.is_null() && run.page.is_empty());
    }
    for arguments in ["--mix Arith.Add=1,Echo.Eco:1=1", "--method Echo.Eco --body 1"] {
        let run = loadgen(&address, arguments);
        assert!(run.code == Some(1) && run.stderr.contains("Echo.Echo"), "{}", run.stderr);
    }
    let idle = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["idle", &address, "--method", "Echo.Eco", "--body", "1"])
        .output()
        .expect("it runs");
    assert!(String::from_utf8_lossy(&idle.stderr).contains("nearest: Echo.Echo"), "{idle:?}");
}

/// Runs `loadgen idle` with 200 connections against a server with the limits; returns what it prints, and its figures.
fn idle(limits: impl FnOnce(&mut Limits), address_of: impl Fn(&Server) -> String) -> (String, Value, Server) {
    let server = demo::services(Server::builder()).cores(1).listen("127.0.0.1:0");
    let server = server.configure(|config| limits(&mut config.limits)).start().expect("it starts");
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("idle.json");
    let ran = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["idle", &address_of(&server), "--connections", "200", "--threads", "2", "--every", "1s"])
        .args(["--duration", "1s", "--quiet", "--json"])
        .arg(&json)
        .output()
        .expect("it runs");
    let figures = fs::read_to_string(json).expect("it is written");
    let text = String::from_utf8(ran.stdout).expect("text");
    (text, serde_json::from_str(&figures).expect("JSON"), server)
}

#[test]
fn idle_connections_do_not_exceed_the_limit_of_silent_ones() {
    for protocol in ["native", "http", "jsonrpc", "gob", "gob-http"] {
        let (text, figures, server) = idle(
            |limits| limits.silent_connections_max = 16,
            |server| format!("{protocol}:{}", address_of(server)),
        );
        let connections = &figures["connections"];
        assert_eq!((&connections["opened"], &connections["lost"]), (&200.into(), &0.into()), "{text}");
        assert_eq!(figures["total"]["ok"], 200, "{text}");
        assert_eq!(server.stats().closed("too_many_silent"), 0, "{protocol}");
        server.shutdown();
    }
}

#[test]
fn idle_connections_that_the_server_closes_are_reported_with_the_limit() {
    let (text, figures, _server) = idle(|limits| limits.connections_max = 100, address_of);
    let connections = &figures["connections"];
    assert!(connections["opened"].as_u64() <= Some(100), "{text}");
    let refused = connections["lost_unanswered"].as_u64().zip(connections["attempts_failed"].as_u64());
    let (unanswered, failed) = refused.expect("counts");
    assert!(unanswered + failed >= 100 && connections["lost_at_rest"] == 0, "{text}");
    let hint =
        format!("{} times a connection was refused, or closed before its first call", unanswered + failed);
    assert!(text.contains(&hint) && text.contains("limits.connections_max"), "{text}");
    // A server that answers the method list on its first connection, and two calls on each other one; then it closes.
    let seen = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |mut connection| {
        let is_first = seen.fetch_add(1, Ordering::Relaxed) == 0;
        connection.answer(if is_first { u64::MAX } else { 2 });
    });
    let ran = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["idle", &fake.address, "--connections", "4", "--every", "1s", "--duration", "1s", "--quiet"])
        .output()
        .expect("it runs");
    let text = String::from_utf8(ran.stdout).expect("text");
    assert!(ran.stderr.is_empty(), "{:?}", String::from_utf8(ran.stderr));
    assert!(text.contains("closed after its first call, without a call in flight"), "{text}");
    assert!(text.contains("limits.idle_ms"), "{text}");
}

#[test]
fn a_server_without_method_list_is_accepted() {
    // The floor answers every method with a sum, which is not a list.
    let run = loadgen(
        &floor().address.to_string(),
        "--method No.Such --body 1 --connections 1 --duration 0.2 --warmup 0",
    );
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
}

#[test]
fn headers_and_metadata_reach_the_handler() {
    let (seen, heard) = mpsc::channel();
    let seen = Mutex::new(seen);
    let server = Server::builder()
        .method("Tell.Token", move |cx, _: i64| {
            let value = cx.metadata().find("authorization").map(<[u8]>::to_vec);
            let _ = seen.lock().expect("no panic").send(value);
            Ok::<_, Status>(1_i64)
        })
        .cores(1)
        .listen("127.0.0.1:0")
        .start()
        .expect("it starts");
    let address = address_of(&server);
    let arguments = "--method Tell.Token --body 1 --connections 1 --duration 0.1 --warmup 0";
    for protocol in ["native", "http"] {
        for option in ["--header=authorization:Bearer-x", "--metadata=authorization=Bearer-x"] {
            let run = loadgen(&format!("{protocol}:{address}"), &format!("{arguments} {option}"));
            assert_eq!(run.code, Some(0), "{protocol} {option}: {}{}", run.stdout, run.stderr);
            let seen: Vec<_> = heard.try_iter().collect();
            assert!(
                !seen.is_empty() && seen.iter().all(|value| value.as_deref() == Some(b"Bearer-x")),
                "{seen:?}"
            );
            // Results are shared, so the values of headers must not appear in them.
            assert!(!run.json.to_string().contains("Bearer-x") && !run.page.contains("Bearer-x"));
        }
    }
    for protocol in ["jsonrpc", "gob", "gob-http"] {
        let run = loadgen(&format!("{protocol}:{address}"), &format!("{arguments} --header a:b"));
        assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{}", run.stderr);
        assert!(run.stderr.contains("cannot carry --header"), "{}", run.stderr);
    }
    server.shutdown();
}

#[test]
fn only_named_files_are_written_and_paths_checked_early() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = demo_server();
    let run = |arguments: &str| {
        Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .arg(address_of(&server))
            .args(arguments.split_whitespace())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    };
    let plain = run("--connections 1 --duration 0.1 --warmup 0");
    assert!(plain.status.success(), "{plain:?}");
    for late in ["--report none/page.html", "--json none/figures.json", "--json a --report a"] {
        let output = run(&format!("--duration 600 {late}"));
        assert_eq!(output.status.code(), Some(1), "{late}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

#[test]
fn a_closed_pipe_does_not_end_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = demo_server();
    for arguments in ["", "--find-max --slo p50=1m --rate 100M"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .arg(address_of(&server))
            .args("--connections 1 --duration 0.2 --warmup 0 --json figures.json".split(' '))
            .args(arguments.split_whitespace())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        drop((child.stdout.take(), child.stderr.take()));
        let status = child.wait().expect("it ends");
        assert!(status.code().is_some_and(|code| code < 100), "{status:?}");
        let text = fs::read_to_string(folder.path().join("figures.json")).expect("the result");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        if !arguments.is_empty() {
            break;
        }
        fs::remove_file(folder.path().join("figures.json")).expect("it was there");
    }
}

#[test]
fn missing_and_small_server_times_are_shown() {
    let server = demo_server();
    let address = address_of(&server);
    let arguments = "--method Arith.Multiply --connections 1 --duration 0.2 --warmup 0";
    let run = loadgen(&format!("gob:{address}"), arguments);
    assert!(!run.stdout.contains("queue") && run.stdout.contains("wire"), "{}", run.stdout);
    let run = loadgen(&floor().address.to_string(), "--connections 1 --duration 0.2 --warmup 0");
    // The floor reports zero for both.
    assert!(run.stdout.contains("< 1 µs") && !run.stdout.contains(" 0 ns"), "{}", run.stdout);
}

#[test]
fn the_help_lists_the_exit_statuses() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("--help").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    for status in ["  0  ", "  1  ", "  2  ", "  3  ", "  4  ", "  130  "] {
        assert!(text.contains(status), "{status}: {text}");
    }
}

#[test]
fn replay_uses_the_recorded_deadlines() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("traffic.jsonl");
    let call = |at_us: u64, time_left_us: u64| {
        format!(
            r#"{{"at_us":{at_us},"body":"MQ==","codec":"json","connection":{at_us},"method":"A.B","one_way":false,"protocol":"native","time_left_us":{time_left_us}}}"#
        )
    };
    let head =
        r#"{"began_unix_ms":0,"blank":[],"bytes_max":1000,"coreloop_record":1,"sample":1,"version":"0.1.0"}"#;
    let lines = [head.into(), call(0, 5_000), call(1, 60_000_000), call(2, 0)];
    fs::write(&file, lines.join("\n") + "\n").expect("written");
    let fake = Fake::start(|mut connection| connection.answer_frames(u64::MAX, Duration::from_millis(40)));
    let json = folder.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("replay")
        .arg(&file)
        .arg(&fake.address)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("it runs");
    let text = fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let result: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let total = &result["total"];
    assert_eq!((&total["in_time"], &total["after_deadline"]), (&2.into(), &1.into()), "{output:?}");
}
