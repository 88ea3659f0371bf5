//! `coreloop serve --record`, and `loadgen replay` of the recording to another server.

#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use coreloop_bench::loadgen::Ask;
use coreloop_bench::loadgen::replay::{self, Replay};
use serde_json::Value;
use tempfile::TempDir;

use common::{PATIENCE, Served, run};

const MIX: &str = r#"Arith.Add:{"A":1,"B":2}=3,Echo.Echo:"geheim"=2,Arith.Multiply:{"A":5,"B":6}=1"#;
const CALLS: usize = 200;

/// The arguments, parsed as the program does.
#[derive(Parser)]
struct ReplayArguments {
    #[command(flatten)]
    options: replay::Options,
}

fn replay(file: &Path, address: &str, arguments: &str) -> Result<Replay, String> {
    let words = ["replay", file.to_str().expect("text"), address].into_iter();
    let words = words.chain(arguments.split_whitespace());
    let options = ReplayArguments::try_parse_from(words).expect("well-formed").options;
    replay::measure(&options, &Arc::default(), &mut |_| ())
}

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A server that records every request.
    fn serve(&self, name: &str, arguments: &[&str]) -> Served {
        let path = self.path(name);
        let record = ["--record", path.to_str().expect("text"), "--record-sample", "1/1"];
        Served::start(&[&record, arguments].concat())
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).expect("it was recorded");
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The requests without other lines.
    fn requests(&self, name: &str) -> Vec<Value> {
        // The load generator reads the list of methods before it sends its own calls.
        let is_call = |line: &Value| line.get("method").is_some_and(|method| method != "Meta.Methods");
        self.lines(name).into_iter().filter(is_call).collect()
    }
}

/// Makes exactly the calls that the tests expect.
fn make_calls(address: &str) {
    let address = address.parse().expect("an address");
    let ask = Ask { connections: 5, rate: Some(400.0), seconds: 0.5, ..Ask::of(address, MIX) };
    let outcome = ask.run(&mut |_| ()).expect("it runs");
    assert_eq!((outcome.total.ok, outcome.total.errors), (CALLS as u64, 0));
}

/// How often each method was called with each body.
fn counts(requests: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(format!("{} {}", request["method"], request["body"])).or_default() += 1;
    }
    counts
}

/// The number of calls on each connection.
fn by_connection(requests: &[Value]) -> Vec<usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(request["connection"].as_u64().expect("a number")).or_insert(0) += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable();
    counts
}

#[test]
fn a_recording_is_replayed_in_full() {
    let files = Files::new();
    let served = files.serve("first", &[]);
    make_calls(served.address());
    let ran = served.stop();
    assert!(ran.stderr.contains("recorded 200 requests in "), "{}", ran.stderr);
    assert!(ran.stderr.contains("0 without their body, 0 dropped, 0 beyond"), "{}", ran.stderr);
    assert_eq!(fs::metadata(files.path("first")).expect("it is there").permissions().mode() & 0o777, 0o600);
    let recorded = files.requests("first");
    assert_eq!(recorded.len(), CALLS);
    let times: Vec<u64> = recorded.iter().map(|request| request["at_us"].as_u64().expect("a time")).collect();
    let (first, last) = (times.iter().min().expect("some"), times.iter().max().expect("some"));
    for protocol in ["native", "http", "jsonrpc"] {
        let second = files.serve(protocol, &["--cores", "1"]);
        let address = format!("{protocol}:{}", second.address());
        let replayed = replay(&files.path("first"), &address, "--speed 4 --threads 2").expect("it is sent");
        let outcome = &replayed.outcome;
        assert_eq!((outcome.total.ok, outcome.total.errors), (CALLS as u64, 0), "{protocol}");
        assert_eq!((replayed.replay.calls, outcome.settings.connections), (CALLS as u64, 5));
        // As long as the recording, divided by the speed; a millisecond behind the last call.
        let length_s = (last - first) as f64 / 1e6 / 4.0 + 0.001;
        assert!((outcome.settings.duration_s - length_s).abs() < 1e-6, "{protocol}");
        let names: BTreeMap<&str, u64> =
            outcome.methods.iter().map(|method| (method.name.as_str(), method.ok)).collect();
        for name in ["Arith.Add", "Echo.Echo", "Arith.Multiply"] {
            let sent = recorded.iter().filter(|request| request["method"] == name).count();
            assert_eq!(names[name], sent as u64, "{protocol} {name}");
        }
        second.stop();
        let again = files.requests(protocol);
        assert_eq!(counts(&again), counts(&recorded), "{protocol}");
        assert_eq!(by_connection(&again), by_connection(&recorded), "{protocol}");
        assert!(again.iter().all(|request| request["protocol"] == protocol), "{protocol}");
    }
    let why = replay(&files.path("first"), "gob:127.0.0.1:1", "").expect_err("it is JSON");
    assert!(why.contains("first:2: gob: carries gob and no json"), "{why}");
}

#[test]
fn a_truncated_file_is_replayed_to_its_last_line() {
    let files = Files::new();
    let served = files.serve("record", &[]);
    make_calls(served.address());
    let began = Instant::now();
    while fs::read_to_string(files.path("record")).expect("it is there").lines().count() < CALLS + 1 {
        assert!(began.elapsed() < PATIENCE, "what was recorded is written when nothing else comes");
        std::thread::yield_now();
    }
    served.signal("KILL");
    served.wait();
    let whole = fs::read(files.path("record")).expect("it is there");
    assert!(!String::from_utf8_lossy(&whole).contains("\"end\""));
    // As if the end of the file had not reached the disk.
    fs::write(files.path("cut"), &whole[..whole.len() - 9]).expect("written");
    let second = Served::start(&[]);
    let replayed =
        replay(&files.path("cut"), second.address(), "--speed 10 --connections 2").expect("it is sent");
    assert_eq!((replayed.outcome.total.ok, replayed.replay.is_cut), (CALLS as u64 - 1, true));
    assert!(replayed.outcome.verdict.remarks.iter().any(|remark| remark.contains("last line is not whole")));
    assert_eq!(replayed.outcome.connections.opened, 2);
    let mut text = String::from_utf8(whole).expect("text");
    text.insert_str(text.find('\n').expect("a head") + 1, "{]\n");
    fs::write(files.path("bad"), text).expect("written");
    let why = replay(&files.path("bad"), second.address(), "").expect_err("a line is bad");
    assert!(why.contains("bad:2: "), "{why}");
}

#[test]
fn secrets_are_not_in_the_file_in_any_protocol() {
    let files = Files::new();
    let served = files.serve("record", &["--record-blank", "a,name"]);
    let address = served.address().to_owned();
    for protocol in ["native", "gob", "jsonrpc", "http"] {
        let to = format!("{protocol}:{address}");
        let ran = run(&["call", &to, "Arith.Multiply", r#"{"A":48879,"B":7}"#]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    let with = [
        "call",
        "--metadata",
        "authorization=geheim",
        "--metadata",
        "other=geheim",
        &address,
        "Echo.Echo",
        "\"x\"",
    ];
    let ran = run(&with);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // A raw body, and one of fixed layout: its type has a field of that name.
    let fixed = Ask {
        rate: Some(100.0),
        seconds: 0.01,
        ..Ask::of(address.parse().expect("one"), "Arith.AddFixed=1")
    };
    fixed.run(&mut |_| ()).expect("it runs");
    let raw =
        Ask { rate: Some(100.0), seconds: 0.01, ..Ask::of(address.parse().expect("one"), "Echo.Bytes=1") };
    raw.run(&mut |_| ()).expect("it runs");
    let ran = served.stop();
    assert!(
        // For native calls the command line asks for the method's streams first.
        ran.stderr.contains("recorded 9 requests in ") && ran.stderr.contains("2 without their body"),
        "{}",
        ran.stderr
    );
    let text = fs::read_to_string(files.path("record")).expect("it was recorded");
    assert!(!text.contains("geheim") && !text.contains("authorization"), "{text}");
    let requests = files.requests("record");
    let of = |method: &str| requests.iter().filter(|request| request["method"] == method).collect::<Vec<_>>();
    let mut protocols = Vec::new();
    for request in of("Arith.Multiply") {
        let body = coreloop_bench::base64::decode(request["body"].as_str().expect("a body").as_bytes());
        let body = body.expect("base64");
        let argument = match request["codec"].as_str() {
            Some("gob") => coreloop::codec::gob::dynamic::decode_json(&body).expect("gob"),
            _ => serde_json::from_slice(&body).expect("JSON"),
        };
        assert_eq!(argument, serde_json::json!({"A": 0, "B": 7}), "{request}");
        protocols.push(request["protocol"].as_str().expect("a name").to_owned());
    }
    assert_eq!(protocols, ["native", "gob", "jsonrpc", "http"]);
    for method in ["Arith.AddFixed", "Echo.Bytes"] {
        assert_eq!(of(method)[0]["left_out"], "opaque", "{method}");
    }
}

#[test]
fn gob_bodies_are_replayed_over_gob() {
    let files = Files::new();
    let served = files.serve("record", &[]);
    let to = format!("gob:{}", served.address());
    for b in 1..=3 {
        let ran = run(&["call", &to, "Arith.Multiply", &format!("{{\"A\":{b},\"B\":7}}")]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    served.stop();
    let second = files.serve("second", &[]);
    let replayed =
        replay(&files.path("record"), &format!("gob:{}", second.address()), "--speed 1000 --connections 1");
    let outcome = replayed.expect("it is sent").outcome;
    assert_eq!((outcome.total.ok, outcome.total.errors), (3, 0), "{:?}", outcome.messages);
    second.stop();
    let bodies = |name: &str| {
        let body = |request: &Value| {
            let body = coreloop_bench::base64::decode(request["body"].as_str().expect("a body").as_bytes());
            coreloop::codec::gob::dynamic::decode_json(&body.expect("base64")).expect("gob").to_string()
        };
        files.requests(name).iter().map(body).collect::<Vec<_>>()
    };
    assert_eq!(bodies("second"), bodies("record"));
}

#[test]
fn recording_into_an_existing_file_is_refused() {
    let files = Files::new();
    fs::write(files.path("mine"), "precious").expect("written");
    let path = files.path("mine");
    let ran = run(&["serve", "--listen", "127.0.0.1:0", "--record", path.to_str().expect("text")]);
    assert!(ran.code == Some(1) && ran.stderr.contains("the file exists"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
}

/// Serves under a shell that first runs a command, such as one that sets a limit.
fn serve_under(before: &str, record: &std::path::Path) -> common::Served {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("{before}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_coreloop"), "serve"]);
    command.args(["--listen", "127.0.0.1:0", "--record-sample", "1/1", "--record"]).arg(record);
    common::Served::start_command(command, 1)
}

/// Calls until the recording stops, and checks that the server answers all calls and keeps a valid file.
fn assert_recording_stops_and_server_continues(served: common::Served, record: &std::path::Path, why: &str) {
    let argument = format!("\"{}\"", "x".repeat(40_000));
    let address = format!("http:{}", served.address());
    for _ in 0..8 {
        assert_eq!(run(&["call", &address, "Echo.Echo", &argument]).code, Some(0));
    }
    let ended = served.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.summary("calls"), 8, "{ended:?}");
    let text = fs::read_to_string(record).expect("the record");
    assert!(text.ends_with('\n'), "it ends after a whole line");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let recorded = lines.len() - 1;
    assert!((1..8).contains(&recorded), "{recorded}");
    let stopped = format!(
        "coreloop: recording stopped: cannot write to {}: {why}; {recorded} requests are in the file; the server goes on",
        record.display()
    );
    assert!(
        ended.stderr.lines().any(|line| line.starts_with(&stopped)),
        "{stopped}\nis not in\n{}",
        ended.stderr
    );
    let summary = format!("recorded {recorded} requests in {} bytes to ", text.len());
    let dropped = format!(" 0 without their body, {} dropped, 0 beyond the size", 8 - recorded);
    assert!(ended.stderr.contains(&summary) && ended.stderr.contains(&dropped), "{}", ended.stderr);
}

#[test]
fn the_file_size_limit_ends_only_the_recording() {
    let files = Files::new();
    let record = files.path("record");
    // In units of 512 bytes in dash and of 1024 in bash: 125 or 250 KiB, two to four of the eight requests.
    let served = serve_under("ulimit -f 250", &record);
    assert_recording_stops_and_server_continues(served, &record, "File too large (os error 27)");
}

#[test]
fn a_full_disk_ends_only_the_recording() {
    let files = Files::new();
    let folder = files.path("disk");
    fs::create_dir(&folder).expect("a folder");
    let folder_text = folder.to_str().expect("text");
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=200k", "coreloop-test", folder_text]);
    if !mount.output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: a file system cannot be mounted here (that needs root)");
        return;
    }
    let unmount = Unmount(folder_text.to_owned());
    let record = folder.join("record");
    let served = serve_under("true", &record);
    assert_recording_stops_and_server_continues(served, &record, "No space left on device (os error 28)");
    drop(unmount);
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn an_unwritable_file_is_an_error_at_the_start() {
    let files = Files::new();
    let record = files.path("record");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 0; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_coreloop"), "serve"]);
    command.args(["--listen", "127.0.0.1:0", "--record"]).arg(&record);
    let ran: common::Ran = command.output().expect("it runs").into();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let expected = format!("coreloop: cannot record into {}: File too large", record.display());
    assert!(ran.stderr.starts_with(&expected), "{ran:?}");
    assert!(!record.exists());
}
