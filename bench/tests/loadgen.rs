//! The load generator as a program: against servers that serve, stall, vanish, stay silent or send invalid data.

#![cfg(target_os = "linux")]

mod support;

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coreloop::{Server, demo};
use coreloop_bench::process::{self, CpuClock};
use serde_json::Value;
use support::{Fake, Run, loadgen, spawn};

const PERCENTILES: [&str; 6] = ["latency", "uncorrected", "error_latency", "wire", "queue", "handler"];

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

/// Returns the value at one of the shown percentiles, in ns.
fn at(distribution: &Value, percent: f64) -> f64 {
    let steps = distribution["percentiles"].as_array().expect("a list");
    let step = steps.iter().find(|step| step[0].as_f64() == Some(percent));
    step.and_then(|step| step[1].as_f64()).unwrap_or_else(|| panic!("no p{percent} in {distribution}"))
}

/// Returns the smallest listed value that at least this share of the calls does not exceed.
fn at_least(distribution: &Value, percent: f64) -> f64 {
    let steps = distribution["percentiles"].as_array().expect("a list");
    let step = steps.iter().rfind(|step| step[0].as_f64().is_some_and(|known| known <= percent));
    step.and_then(|step| step[1].as_f64()).expect("it begins with 0")
}

#[test]
fn a_stall_shows_in_latency_but_not_in_uncorrected() {
    const WINDOW_S: f64 = 4.0;
    let server = floor();
    let pid = server.pid();
    let clock = CpuClock::of(pid).expect("its clock");
    let idle_ns = clock.now_ns().expect("its time");
    let address = server.address.to_string();
    let arguments = "--rate 400 --connections 4 --depth 1 --warmup 0 --duration 4 --drain 20s";
    let run = spawn(&address, arguments);
    // The run has begun once the server has done more work than accepting four connections.
    while clock.now_ns().expect("its time") < idle_ns + 1_000_000 {
        std::thread::yield_now();
    }
    let signal = |number| {
        // SAFETY: no pointers; the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(pid as libc::pid_t, number) }, 0);
    };
    signal(libc::SIGSTOP);
    let stopped = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let stopped_s = stopped.elapsed().as_secs_f64();
    signal(libc::SIGCONT);
    let run = run.finish();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let total = &run.json["total"];
    assert_eq!(total["ok"], 1600, "every call of the schedule was made: {}", run.stdout);
    // The calls due in the first 5 % of the window's length after the stop waited for the rest of it: they alone
    // determine the p95. The bound allows for one step of the list, of the histogram and of the schedule.
    let bound_ns = (stopped_s - 0.06 * WINDOW_S) * 1e9 * 0.99 - 5e6;
    let corrected_ns = at_least(&total["latency"], 95.0);
    assert!(corrected_ns >= bound_ns, "{corrected_ns} < {bound_ns}\n{}", run.stdout);
    // Measured from the time of sending, only the four calls in flight waited: 4 of 1600 do not affect the p95.
    let uncorrected_ns = at_least(&total["uncorrected"], 95.0);
    assert!(uncorrected_ns < bound_ns / 2.0, "{uncorrected_ns} for {bound_ns}\n{}", run.stdout);
    let held = run.json["generator"]["held"].as_f64().expect("a count");
    assert!(held >= (stopped_s * 400.0 - 5.0).floor(), "{held} calls waited for a connection");
}

#[test]
fn the_json_has_every_figure_and_the_page_is_standalone() {
    let server = demo_server();
    let run = loadgen(
        &address_of(&server),
        "--rate 2k --arrivals poisson --seed 9 --connections 8 --duration 0.5 --warmup 0.1 --timeout 5s",
    );
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let json = &run.json;
    for part in PERCENTILES {
        for field in ["count", "mean_ns", "max_ns", "percentiles"] {
            assert!(!json["total"][part][field].is_null(), "{part}.{field}");
        }
    }
    for percent in [50.0, 90.0, 99.0, 99.9, 99.99, 100.0] {
        at(&json["total"]["latency"], percent);
    }
    assert_eq!(json["total"]["latency"]["count"], json["total"]["ok"]);
    for field in ["cpu", "cores", "kernel", "unix_time_s"] {
        assert!(!json["machine"][field].is_null(), "{field}");
    }
    for field in ["late", "saturated", "disturbed", "rate_missed", "cut_short", "all_failed", "remarks"] {
        assert!(!json["verdict"][field].is_null(), "{field}");
    }
    assert_eq!(json["settings"]["seed"], 9);
    assert_eq!(json["settings"]["rate"], 2000.0);
    assert_eq!(json["settings"]["arrivals"], "poisson");
    assert_eq!(json["settings"]["time_left_us"], 5_000_000);
    assert!(json["version"].is_string() && json["command"].as_array().is_some_and(|words| words.len() > 10));
    assert!(json["generator"]["cpu_ns_per_call"].as_f64().is_some_and(|ns| ns > 0.0));
    assert!(json["generator"]["threads"][0]["cpu_share"].as_f64().is_some());
    assert_eq!(json["generator"]["late"]["count"], json["total"]["ok"]);
    let series = json["series"].as_array().expect("a list");
    assert_eq!(series.len(), 5);
    let due: u64 = series.iter().filter_map(|point| point["due"].as_u64()).sum();
    assert_eq!(Some(due), json["total"]["ok"].as_u64(), "what was due was answered");
    support::assert_stands_alone(&run.page);
    for title in
        ["Latency by percentile", "Latency over time", "Calls per second over time", "Where the time went"]
    {
        assert!(run.page.contains(title), "{title}");
    }
}

#[test]
fn closed_loop_over_a_unix_socket_with_two_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = format!("unix:{}/socket", folder.path().display());
    let server = demo::services(Server::builder()).cores(1).listen(&address).start().expect("it starts");
    let arguments =
        "--connections 6 --depth 4 --threads 2 --duration 0.3 --warmup 0.1 --method Arith.Multiply";
    let run = loadgen(&format!("native:{address}"), arguments);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.json["total"]["errors"], 0);
    assert!(run.json["total"]["ok"].as_u64() > Some(24));
    assert_eq!(run.json["connections"]["opened"], 6);
    assert_eq!(run.json["generator"]["threads"].as_array().map(Vec::len), Some(2));
    server.shutdown();
}

#[test]
fn without_an_address_it_runs_its_own_server() {
    let run =
        Run::of(&["--mix", "Arith.AddFixed=9,Echo.Sleep:5=1", "--connections", "4", "--duration", "0.4"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("the demo server runs in this process"), "{}", run.stderr);
    assert!(run.stdout.contains("by method") && run.stdout.contains("Echo.Sleep"), "{}", run.stdout);
    let methods = run.json["methods"].as_array().expect("a list");
    // The method sleeps for five milliseconds, so every machine needs at least that.
    assert!(at(&methods[1]["latency"], 50.0) >= 5e6);
    assert!(run.json["server"]["cpu_ns"].as_u64() > Some(0));
    assert_eq!(run.json["settings"]["own_server"], true);
}

#[test]
fn an_unreachable_server_is_an_error_of_one_line() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
    let cases = [
        (format!("127.0.0.1:{port}"), "refused"),
        ("no-such-host.invalid:1".into(), "cannot find no-such-host.invalid"),
        ("unix:/nowhere/at/all".into(), "cannot connect"),
        (format!("gob:127.0.0.1:{port}"), "refused"),
        ("http://127.0.0.1/".into(), "is no address"),
        ("127.0.0.1".into(), "is no address"),
    ];
    for (address, want) in cases {
        let run = loadgen(&address, "--duration 0.2");
        assert_eq!(run.code, Some(1), "{address}");
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(want), "{}", run.stderr);
        assert!(run.page.is_empty() && run.json.is_null() && run.stdout.is_empty());
    }
}

#[test]
fn an_unwritable_file_is_an_error_before_connecting() {
    // Nothing listens there: the file is checked first.
    let address = "127.0.0.1:1";
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("record");
    let head = r#"{"coreloop_record":1,"sample":1,"began_unix_ms":0,"version":"0","bytes_max":1,"blank":[]}"#;
    let call = r#"{"at_us":0,"method":"Arith.Add","codec":"json","connection":0,"time_left_us":0,"one_way":false,"body":"e30="}"#;
    std::fs::write(&record, format!("{head}\n{call}\n")).expect("written");
    let record = record.to_str().expect("text");
    for arguments in [
        &[address, "--json", "/no/such/a.json"][..],
        &[address, "--report", "/no/such/a.json"],
        &["idle", address, "--connections", "1", "--json", "/no/such/a.json"],
        &["replay", record, address, "--json", "/no/such/a.json"],
        &["replay", record, address, "--report", "/no/such/a.json"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command.args(arguments).current_dir(folder.path()).output().expect("it runs");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(
            stderr.starts_with("loadgen: cannot write /no/such/a.json: No such file"),
            "{arguments:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1, "no file is left behind");
}

#[test]
fn a_report_beyond_the_file_size_limit_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("page.html");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -f 1; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_loadgen"),
        "--duration",
        "0.1",
    ]);
    let output = command.args(["--quiet", "--report"]).arg(&report).output().expect("it runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("{}: File too large", report.display())), "{stderr}");
}

#[test]
fn wrong_options_are_errors_before_the_run() {
    for (arguments, want) in [
        ("--duration 0", "more than 0"),
        ("--duration soon", "no unit of time"),
        ("--duration s", "no length of time"),
        ("--rate fast", "no rate"),
        ("--find-max", "--slo"),
        ("--header nothing", "expected NAME: VALUE"),
        ("--metadata nothing", "expected NAME=VALUE"),
        ("--report a --no-report", "cannot be used"),
        ("--find-max --slo p99", "write p99=2ms"),
        ("--connections 0", "1..=60000"),
    ] {
        let run = loadgen("127.0.0.1:1", arguments);
        assert_eq!(run.code, Some(2), "{arguments}");
        assert!(run.stderr.contains(want), "{arguments}: {}", run.stderr);
    }
    for (arguments, want) in
        [("--mix Arith.Add", "no weight"), ("--pin 1000", "may run on"), ("--body {", "no JSON")]
    {
        let run = loadgen("127.0.0.1:1", arguments);
        assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(want), "{arguments}: {}", run.stderr);
    }
}

#[test]
fn errors_alone_are_not_reported_as_fast() {
    let server = demo_server();
    let run = loadgen(
        &address_of(&server),
        "--mix Arith.Divide:{\"A\":1,\"B\":0}=1 --connections 2 --duration 0.3 --warmup 0",
    );
    assert_eq!(run.code, Some(1));
    assert_eq!((&run.json["total"]["ok"], &run.json["calls_per_s"]), (&0.into(), &0.0.into()));
    let errors = run.json["total"]["errors"].as_u64();
    assert!(errors > Some(0));
    assert_eq!(run.json["total"]["errors_by_status"]["invalid_argument"].as_u64(), errors);
    assert_eq!(run.json["total"]["error_latency"]["count"].as_u64(), errors);
    assert_eq!(run.json["verdict"]["all_failed"], true);
    assert!(
        run.stdout.contains("Not one call succeeded") && run.stdout.contains("latency of failed calls"),
        "{}",
        run.stdout
    );
}

#[test]
fn lost_connections_are_counted_and_reopened() {
    let fake = Fake::start(|mut connection| connection.answer(50));
    for arguments in ["--depth 3", "--rate 1k"] {
        let run = loadgen(&fake.address, &format!("{arguments} --connections 2 --duration 0.6 --warmup 0"));
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let connections = &run.json["connections"];
        let lost = connections["lost"].as_u64().expect("a count");
        assert!(lost > 0 && connections["reopened"].as_u64() > Some(0), "{connections}");
        assert!(run.json["total"]["ok"].as_u64() > Some(50), "it went on after the first loss");
        // A connection without calls in flight loses no call when it is lost.
        let unavailable = run.json["total"]["errors_by_status"]["unavailable"].as_u64();
        assert_eq!(run.json["total"]["lost"].as_u64(), Some(unavailable.unwrap_or(0)), "{}", run.stdout);
        assert!(run.stdout.contains("connections were lost on the way"), "{}", run.stdout);
    }
}

#[test]
fn a_silent_server_does_not_block_the_end() {
    let fake = Fake::start(|mut connection| connection.swallow());
    let run = loadgen(&fake.address, "--rate 100 --connections 2 --duration 0.3 --warmup 0 --drain 200ms");
    assert_eq!(run.code, Some(1));
    assert_eq!(run.json["total"]["unanswered"], 30);
    assert!(run.stdout.contains("Not one call succeeded") && run.stdout.contains("30 without an answer"));
    // Each call waited for at least the drain.
    assert!(at(&run.json["total"]["latency"], 0.0) >= 200e6 * 0.99);
    assert_eq!(run.json["verdict"]["rate_missed"], true);
}

#[test]
fn invalid_replies_are_reported() {
    let fake = Fake::start(|mut connection| connection.say(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let run = loadgen(&fake.address, "--connections 2 --duration 0.2 --warmup 0 --drain 0");
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("does not speak native frames"), "{}", run.stdout);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

#[test]
fn an_interrupted_run_reports_its_results() {
    let fake = Fake::start(|mut connection| connection.answer(u64::MAX));
    let run = spawn(&fake.address, "--connections 2 --duration 600 --warmup 0");
    fake.wait_for_calls(1000);
    run.interrupt();
    let run = run.finish();
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert_eq!(run.json["verdict"]["cut_short"], true);
    assert!(run.json["total"]["ok"].as_u64() > Some(0));
    assert!(run.stdout.contains("cut short"), "{}", run.stdout);
    support::assert_stands_alone(&run.page);
}

#[test]
fn a_run_interrupted_before_measuring_prints_one_line() {
    for arguments in ["--warmup 600", "--find-max --slo p99=1s --rate 500 --warmup 600"] {
        // A fresh server for each run: calls that an earlier run made must not count for this one.
        let fake = Fake::start(|mut connection| connection.answer(u64::MAX));
        let run = spawn(&fake.address, arguments);
        fake.wait_for_calls(100);
        run.interrupt();
        let run = run.finish();
        assert_eq!(run.code, Some(130), "{}", run.stderr);
        assert_eq!(
            run.stderr.trim_end(),
            "loadgen: stopped before the warm-up was over: nothing was measured"
        );
        assert!(run.page.is_empty() && run.json.is_null() && run.stdout.is_empty());
    }
}

#[test]
fn five_thousand_connections_are_used() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through the call, which only fills it.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    if limit.rlim_max < 5100 {
        eprintln!("SKIPPED: this process may have {} descriptors only", limit.rlim_max);
        return;
    }
    let server = floor();
    let arguments = "--connections 5000 --rate 10k --duration 1 --warmup 0 --drain 60s";
    let run = loadgen(&server.address.to_string(), arguments);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let connections = &run.json["connections"];
    assert_eq!((&connections["opened"], &connections["lost"]), (&5000.into(), &0.into()), "{}", run.stdout);
    assert_eq!((&run.json["total"]["ok"], &run.json["total"]["errors"]), (&10_000.into(), &0.into()));
}

#[test]
fn a_terminal_shows_a_progress_line_until_the_end() {
    let fake = Fake::start(|mut connection| connection.answer(u64::MAX));
    let folder = tempfile::tempdir().expect("a folder");
    let command = format!(
        "'{}' {} --connections 2 --duration 0.5 --warmup 0.2",
        env!("CARGO_BIN_EXE_loadgen"),
        fake.address
    );
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).current_dir(folder.path()).stdin(Stdio::null());
    let output = match script.output() {
        Ok(output) => output,
        Err(error) if std::env::var_os("CI").is_none() => {
            return eprintln!("SKIPPED: no terminal without the program script ({error})");
        }
        Err(error) => panic!("script: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    // A terminal of unknown width cuts the line; its beginning is always present.
    assert!(text.contains("warm-up: ") && text.contains(" calls/s, 2 in flight"), "{text:?}");
    let (live, result) = text.rsplit_once("\u{1b}[2K").expect("the line is wiped");
    assert!(live.contains("in flight") && !result.contains("in flight, p99 so far"), "{result:?}");
    assert!(result.contains("latency") && result.contains("generator:"), "{result:?}");
}

#[test]
fn a_search_without_result_reports_that() {
    let server = demo_server();
    let arguments = "--find-max --slo p50=1us --rate 10 --connections 1 --duration 0.5 --warmup 0";
    let run = loadgen(&address_of(&server), arguments);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("no rate that was tried met the objective"), "{}", run.stdout);
    let probes = run.json["probes"].as_array().expect("a list");
    // 10 and 2.5 calls/s, each tried twice; the next would be below one call per second.
    assert_eq!(
        probes.iter().filter_map(|probe| probe["rate"].as_f64()).collect::<Vec<_>>(),
        [10.0, 10.0, 2.5, 2.5]
    );
    assert!(run.page.contains("The search") && run.page.contains("Latency against rate"));
}

#[test]
fn program_says_its_version() {
    let program = env!("CARGO_BIN_EXE_loadgen");
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().expect("it runs");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("loadgen "));
}
