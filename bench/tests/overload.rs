//! `loadgen overload` as a program: short steps against a real server, and servers that refuse, answer late or vanish.

#![cfg(target_os = "linux")]

mod support;

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use coreloop::{Server, demo};
use coreloop_bench::frame::{Header, REPLY};
use coreloop_bench::process;
use serde_json::Value;
use support::{Fake, Run, assert_stands_alone};

const SHORT: &str = "--warmup 100ms --duration 300ms";

fn overload(address: &str, arguments: &str) -> Run {
    let words = ["overload", address].into_iter().chain(arguments.split_whitespace());
    Run::of(&words.collect::<Vec<_>>())
}

fn demo_server() -> (Server, String) {
    let server = demo::services(Server::builder()).cores(1).listen("127.0.0.1:0").start().expect("it starts");
    let address = server.addresses()[0].to_string();
    (server, address)
}

fn steps(run: &Run) -> &[Value] {
    run.json["steps"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn count(step: &Value, field: &str) -> u64 {
    step["counts"][field].as_u64().unwrap_or_else(|| panic!("{field} in {step}"))
}

/// Asserts that every call that was due is counted exactly once. `offered` and `sent` are counted where calls are due
/// and sent, the others where they end.
fn assert_complete(step: &Value) {
    const ENDS: [&str; 6] = ["in_time", "late", "refused", "deadline_exceeded", "other_errors", "unanswered"];
    let ends: u64 = ENDS.iter().map(|field| count(step, field)).sum();
    assert_eq!(count(step, "sent"), ends, "{step}");
    assert_eq!(count(step, "offered"), ends + count(step, "never_sent"), "{step}");
}

#[test]
fn every_call_of_every_step_is_counted_once() {
    let (server, address) = demo_server();
    let arguments = format!("{SHORT} --factors 0.5,3 --connections 4 --watch {}", std::process::id());
    for protocol in ["native", "http", "grpc"] {
        let run = overload(&format!("{protocol}:{address}"), &arguments);
        assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
        let loads: Vec<_> =
            steps(&run).iter().map(|step| (&step["factor"], &step["states_deadline"])).collect();
        assert_eq!(
            format!("{loads:?}"),
            format!(
                "{:?}",
                [
                    (Value::from(0.5), Value::from(true)),
                    (Value::from(3.0), Value::from(true)),
                    (Value::from(0.5), Value::from(false)),
                    (Value::from(3.0), Value::from(false)),
                ]
                .iter()
                .map(|(factor, stated)| (factor, stated))
                .collect::<Vec<_>>()
            )
        );
        for step in steps(&run) {
            assert!(count(step, "offered") > 0 && step["server"]["cpu_ns"].is_u64(), "{step}");
            assert_complete(step);
        }
        assert_eq!(run.json["capacity"]["windows"].as_array().map(Vec::len), Some(3));
        assert_eq!(run.json["settings"]["method"], "Users.List");
        for text in ["capacity of Users.List: ", "With the deadline stated", "Without a stated deadline"] {
            assert!(run.stdout.contains(text), "{text}: {}", run.stdout);
        }
        assert_stands_alone(&run.page);
        assert!(run.page.contains("Goodput against offered load"));
    }
    server.shutdown();
}

#[test]
fn a_given_capacity_sets_the_offered_load() {
    let (server, address) = demo_server();
    let arguments = format!("{SHORT} --factors 1,2 --capacity 100 --state-deadline no --threads 2");
    for arrivals in ["fixed", "poisson"] {
        let run = overload(&address, &format!("{arguments} --arrivals {arrivals}"));
        assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
        assert!(steps(&run).iter().all(|step| step["states_deadline"] == false));
        steps(&run).iter().for_each(assert_complete);
        if arrivals == "fixed" {
            let offered: Vec<u64> = steps(&run).iter().map(|step| count(step, "offered")).collect();
            assert_eq!(offered, [30, 60], "100 and 200 calls/s for 0.3 s");
        }
        assert!(run.stdout.contains("100 calls/s (given)"), "{}", run.stdout);
        let no_ceiling = run.json["no_ceiling"].as_str().unwrap_or_default();
        assert!(no_ceiling.contains("--watch"), "{no_ceiling}");
        assert!(run.stdout.contains("ceiling:  unknown"), "{}", run.stdout);
    }
    server.shutdown();
}

#[test]
fn a_protocol_without_deadlines_makes_the_other_pass_only() {
    let (server, address) = demo_server();
    for protocol in ["gob", "jsonrpc"] {
        let arguments = format!("{SHORT} --factors 1 --capacity 100");
        let run = overload(&format!("{protocol}:{address}"), &arguments);
        assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
        assert_eq!(steps(&run).len(), 1);
        assert_eq!(steps(&run)[0]["states_deadline"], false);
        assert_complete(&steps(&run)[0]);
        assert!(run.stdout.contains("cannot carry a deadline"), "{}", run.stdout);
        let run = overload(&format!("{protocol}:{address}"), &format!("{arguments} --state-deadline yes"));
        assert_eq!(run.code, Some(1), "{}", run.stdout);
        assert!(run.stderr.contains("cannot carry a deadline"), "{}", run.stderr);
    }
    server.shutdown();
}

/// Answers every third call with `resource_exhausted` and every fifth with `deadline_exceeded`.
fn refuse_some(header: &Header) -> Vec<u8> {
    let word = match header.call {
        call if call % 3 == 0 => 8,
        call if call % 5 == 0 => 4,
        _ => 0,
    };
    Header { kind: REPLY, word, body_bytes: 0, metadata_bytes: 0, ..*header }.to_bytes().to_vec()
}

#[test]
fn refusals_and_missed_deadlines_are_counted_apart() {
    let fake = Fake::start(|mut connection| connection.converse(&refuse_some));
    // A call's id is its slot and how often the slot was used, so with one call in flight ids are multiples of 2^20.
    let arguments = format!("{SHORT} --factors 1 --capacity 500 --connections 1 --depth 1 --deadline 1m");
    let run = overload(&fake.address, &arguments);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    for step in steps(&run) {
        assert_complete(step);
        let [in_time, refused, exceeded] =
            ["in_time", "refused", "deadline_exceeded"].map(|field| count(step, field));
        assert_eq!((count(step, "late"), count(step, "other_errors"), count(step, "unanswered")), (0, 0, 0));
        // Of 15 calls in turn 5 are refused, 2 have missed their deadline and 8 are ok.
        assert!(
            refused.abs_diff(50) <= 2 && exceeded.abs_diff(20) <= 2 && in_time.abs_diff(80) <= 3,
            "{step}"
        );
        assert!(step["refusal_latency"]["p50_ns"].as_u64() > Some(0));
    }
}

#[test]
fn a_call_that_waited_states_what_is_left_of_its_deadline_or_is_not_sent() {
    // One call in flight, each answered after 20 ms, and 500 due per second: nearly all wait in the generator.
    let (sender, times_left) = mpsc::channel();
    let fake = Fake::start(move |mut connection| {
        connection.converse_by_frame(&|header, frame| {
            std::thread::sleep(Duration::from_millis(20));
            let _ = sender.send(u32::from_le_bytes(frame[24..28].try_into().expect("four bytes")));
            Header { kind: REPLY, word: 0, body_bytes: 0, metadata_bytes: 0, ..*header }.to_bytes().to_vec()
        });
    });
    let arguments = "--warmup 0 --duration 400ms --factors 1 --capacity 500 --connections 1 --depth 1 \
                     --deadline 200ms";
    let run = overload(&fake.address, arguments);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let [stated, unstated] = steps(&run) else { panic!("{}", run.stdout) };
    steps(&run).iter().for_each(assert_complete);
    assert!(count(stated, "never_sent") > 0 && count(stated, "sent") > 0, "{stated}");
    assert!(count(unstated, "sent") > 0, "{unstated}");
    // Without the request for the methods, which has a longer deadline, and calls that state none.
    let times_left: Vec<u32> =
        times_left.try_iter().filter(|time_left| (1..=200_000).contains(time_left)).collect();
    // In steps of 4 ms; the first call did not wait, and later ones did.
    assert!(times_left.iter().all(|time_left| time_left % 4000 == 0), "{times_left:?}");
    assert_eq!(times_left.iter().max(), Some(&200_000), "{times_left:?}");
    assert!(times_left.iter().min() < Some(&196_000), "{times_left:?}");
    assert_eq!(times_left.len() as u64, count(stated, "sent"), "{times_left:?}");
}

#[test]
fn late_and_missing_answers_are_not_in_time() {
    // 25 answers per second on one connection, each later than the deadline; at the end calls are still in flight.
    let fake = Fake::start(|mut connection| connection.answer_frames(u64::MAX, Duration::from_millis(40)));
    let arguments = "--warmup 0 --duration 300ms --factors 1 --capacity 200 --connections 1 --deadline 10ms \
                     --state-deadline no";
    let run = overload(&fake.address, arguments);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let step = &steps(&run)[0];
    assert_complete(step);
    assert_eq!((count(step, "offered"), count(step, "in_time")), (60, 0), "{step}");
    assert!(count(step, "late") > 0 && count(step, "unanswered") > 0, "{step}");
    assert_eq!(step["goodput"], 0.0);
}

#[test]
fn a_server_that_vanishes_ends_the_run_with_status_4() {
    let cores = process::allowed_cores().expect("affinity");
    let server = process::Server::start(Command::new(env!("CARGO_BIN_EXE_floor")), &cores[..1]);
    let server = server.expect("the floor starts");
    let factors = ["1"; 60].join(",");
    let arguments = format!("{SHORT} --method Arith.AddFixed --factors {factors} --capacity 100");
    let mut run = support::spawn("overload", &format!("{} {arguments}", server.address));
    run.wait_for("1× with the deadline stated");
    drop(server);
    let run = run.finish();
    assert_eq!(run.code, Some(4), "{}{}", run.stdout, run.stderr);
    assert!((1..120).contains(&steps(&run).len()), "{}", run.stdout);
    assert!(run.stdout.contains("The run ended early"), "{}", run.stdout);
}

#[test]
fn an_interrupted_run_reports_the_finished_steps() {
    let (server, address) = demo_server();
    let factors = ["1"; 60].join(",");
    let arguments = format!("{SHORT} --factors {factors} --capacity 100");
    let mut run = support::spawn("overload", &format!("{address} {arguments}"));
    run.wait_for("1× with the deadline stated");
    run.interrupt();
    let run = run.finish();
    assert_eq!(run.code, Some(130), "{}{}", run.stdout, run.stderr);
    assert!((1..120).contains(&steps(&run).len()), "{}", run.stdout);
    assert!(run.stdout.contains("cut short"), "{}", run.stdout);
    steps(&run).iter().for_each(assert_complete);
    server.shutdown();
}

#[test]
fn wrong_arguments_are_errors_at_once() {
    for (arguments, code, want) in [
        ("127.0.0.1:1 --factors 0", 2, "is no factor"),
        ("127.0.0.1:1 --factors x", 2, "is no factor"),
        ("127.0.0.1:1 --body-hex zz", 1, "hexadecimal"),
        ("127.0.0.1:1 --pin 4000", 1, "may run on the cores"),
        ("127.0.0.1:1", 1, "cannot connect"),
        ("nowhere", 1, "is no address"),
    ] {
        let words: Vec<&str> = ["overload"].into_iter().chain(arguments.split_whitespace()).collect();
        let run = Run::of(&words);
        assert_eq!(run.code, Some(code), "{arguments}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(want), "{arguments}: {}", run.stderr);
    }
}
