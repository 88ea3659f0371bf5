//! `loadgen --trace` and `--metrics`: what travels with the calls, and what the server says of itself beside their latency.

#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coreloop::interceptor::{Admit, AdmitCall, Hooks, Interceptor};
use coreloop::{Server, demo};
use support::{loadgen, spawn};

/// Keeps the `traceparent` of each call, and how many calls there were.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(u64, Vec<String>)>>);

impl Interceptor for Seen {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        if call.method().starts_with("Arith.") {
            let mut seen = self.0.lock().expect("no panic");
            seen.0 += 1;
            if let Some(value) = call.metadata().find("traceparent") {
                seen.1.push(String::from_utf8(value.to_vec()).expect("text"));
            }
        }
        Admit::Continue
    }
}

#[test]
fn one_call_in_n_carries_a_trace_of_its_own_and_the_slowest_are_listed() {
    for (protocol, load) in [
        ("native:", "--depth 4 --connections 3 --method Arith.AddFixed"),
        ("native:", "--rate 2k --connections 3 --mix Arith.Multiply=1,Arith.Add=1"),
        ("http:", "--connections 3 --method Arith.Multiply"),
        ("grpc:", "--depth 4 --connections 3 --method Arith.Multiply"),
    ] {
        let seen = Seen::default();
        let server =
            demo::services(Server::builder()).cores(1).interceptor(seen.clone()).listen("127.0.0.1:0");
        let server = server.start().expect("it starts");
        let address = format!("{protocol}{}", server.addresses()[0]);
        let run = loadgen(&address, &format!("{load} --trace 1/10 --warmup 0 --duration 0.5"));
        assert_eq!(run.code, Some(0), "{load}: {}{}", run.stdout, run.stderr);
        server.shutdown();
        let (calls, traces) = seen.0.lock().expect("no panic").clone();
        assert_eq!(traces.len() as u64, calls / 10, "{protocol} {load}");
        let ids: BTreeSet<&str> = traces.iter().filter_map(|value| value.split('-').nth(1)).collect();
        assert_eq!(ids.len(), traces.len(), "each trace has an id of its own");
        for value in &traces {
            let parts: Vec<&str> = value.split('-').collect();
            assert_eq!((parts.len(), parts[0], parts[3]), (4, "00", "01"), "{value}");
            assert_eq!((parts[1].len(), parts[2].len()), (32, 16), "{value}");
        }
        let slowest = run.json["traces"]["slowest"].as_array().expect("a list");
        assert!(!slowest.is_empty(), "{}", run.stdout);
        for trace in slowest {
            let id = trace["trace_id"].as_str().expect("text");
            assert!(
                ids.contains(id) && run.stdout.contains(id) && run.page.contains(id),
                "{id}: {}",
                run.stdout
            );
            assert_eq!(trace["status"], "ok");
            assert!(trace["method"].as_str().expect("text").starts_with("Arith."));
        }
        let latencies: Vec<u64> = slowest.iter().filter_map(|trace| trace["latency_ns"].as_u64()).collect();
        assert!(latencies.is_sorted_by(|one, next| one >= next), "{latencies:?}");
        let max = run.json["total"]["latency"]["max_ns"].as_u64().expect("a number");
        assert!(latencies[0] <= max, "{latencies:?} {max}");
    }
}

/// Starts a server with an admin listener at the returned address, and with a short queue for one worker.
fn observed_server() -> (Server, String) {
    // Another process may take the port meanwhile: then the next one is tried.
    for _ in 0..10 {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a port");
        let admin = probe.local_addr().expect("its address").to_string();
        drop(probe);
        let server =
            demo::services(Server::builder()).cores(1).workers(1).listen("127.0.0.1:0").configure(|config| {
                config.admin.listen.clone_from(&admin);
                config.trace.enabled = true;
                config.limits.run_queue_max = 16;
            });
        if let Ok(server) = server.start() {
            return (server, admin);
        }
    }
    panic!("no free port for the admin listener");
}

#[test]
fn the_servers_own_numbers_are_beside_the_latency() {
    let (server, admin) = observed_server();
    let address = server.addresses()[0].to_string();
    let load =
        "--method Users.List --body 200 --connections 4 --depth 64 --warmup 0 --duration 1 --trace 1/10";
    let run = loadgen(&address, &format!("{load} --metrics http://{admin}/"));
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let scraped = &run.json["scraped"];
    let number = |name: &str| scraped[name].as_u64().unwrap_or_else(|| panic!("{name} in {scraped}"));
    // The server counts what its callers saw; the last answers come after the last scrape.
    let refused = run.json["total"]["errors_by_status"]["resource_exhausted"]
        .as_u64()
        .expect("some calls were refused");
    assert!((1..=refused).contains(&number("sheds")), "{refused} were refused: {scraped}");
    assert!(number("lag_p99_ns") > 0 && number("lag_p99_ns") <= number("lag_max_ns"), "{scraped}");
    assert!(number("queue_max") <= 16 + 1024, "{scraped}");
    assert_eq!(number("failed"), 0, "{scraped}");
    let series = scraped["series"].as_array().expect("a list");
    assert!(!series.is_empty(), "{scraped}");
    let sheds: u64 = series.iter().filter_map(|point| point["sheds"].as_u64()).sum();
    assert_eq!(sheds, number("sheds"), "{scraped}");
    assert!(run.stdout.contains("metrics:   reactor lag p99 ≤ "), "{}", run.stdout);
    for heading in ["Latency beside the lag of the server", "Run queue and shed calls of the server"] {
        assert!(run.page.contains(heading), "{heading}");
    }
    let slowest = run.json["traces"]["slowest"][0]["trace_id"].as_str().expect("a trace");
    let link = format!("href=\"http://{admin}/traces?id={slowest}\"");
    assert!(run.page.contains(&link), "{link}");
    server.shutdown();
}

#[test]
fn an_admin_listener_that_goes_away_is_a_remark() {
    let (server, admin) = observed_server();
    let other = demo::services(Server::builder()).cores(1).listen("127.0.0.1:0").start().expect("it starts");
    let address = other.addresses()[0].to_string();
    let run = spawn(&address, &format!("--connections 1 --warmup 0 --duration 1 --metrics {admin}"));
    // The first scrape was answered once the load has begun.
    let until = Instant::now() + Duration::from_secs(30);
    while other.stats().reactors.iter().map(|reactor| reactor.accepted).sum::<u64>() < 2 {
        assert!(Instant::now() < until, "the load has not begun");
        std::thread::yield_now();
    }
    server.shutdown();
    let run = run.finish();
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.json["scraped"]["failed"].as_u64() > Some(0), "{}", run.stdout);
    assert!(run.stdout.contains(&format!("scrapes of {admin} failed")), "{}", run.stdout);
    assert!(run.page.contains(&format!("scrapes of {admin} failed")));
}

#[test]
fn what_cannot_be_traced_or_scraped_is_refused() {
    let server = demo::services(Server::builder()).cores(1).listen("127.0.0.1:0").start().expect("it starts");
    let address = server.addresses()[0].to_string();
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("an address");
    for (target, arguments, code, want) in [
        (
            format!("gob:{address}"),
            "--trace 1/10 --method Arith.Multiply".to_owned(),
            1,
            "cannot carry --trace",
        ),
        (address.clone(), "--trace 1/10 --metadata traceparent=x".into(), 1, "sends traceparent itself"),
        (address.clone(), "--trace 10".into(), 2, "1/N"),
        (address.clone(), format!("--metrics {gone}"), 1, "refused"),
        // The address of the calls instead of the admin listener.
        (address.clone(), format!("--metrics {address}"), 1, "is this the admin listener?"),
        (format!("static:{address}"), "--trace 1/10".into(), 1, "not a resolver URL"),
    ] {
        let run = loadgen(&target, &format!("{arguments} --duration 0.2 --warmup 0"));
        assert_eq!(run.code, Some(code), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(want), "{arguments}: {}", run.stderr);
    }
}
