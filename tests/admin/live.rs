//! What is in flight: the stages of calls, cancellation, a reactor that hangs, and calls from the console.

use std::io::BufReader;
use std::time::{Duration, Instant};

use coreloop::Code;
use coreloop::client::Client;
use coreloop::codec::Codec;
use serde_json::{Value, json};

use crate::common::{eventually, shared};
use crate::rig::{Rig, chunk, head, open, request, rig};

impl Rig {
    fn client(&self) -> Client {
        Client::connect(&self.server.addresses()[0]).unwrap()
    }

    fn live_calls(&self) -> Vec<Value> {
        self.json("/calls")["calls"].as_array().unwrap().clone()
    }

    fn cancel(&self, call: &Value) -> u16 {
        let form = format!(
            "reactor={}&connection={}&slot={}&id={}",
            call["reactor"],
            call["connection"].as_str().unwrap(),
            call["slot"],
            call["id"]
        );
        self.post("/calls/cancel", &[("Content-Type", "application/x-www-form-urlencoded")], &form).status
    }
}

fn stages(calls: &[Value]) -> Vec<(String, String)> {
    let text = |call: &Value, key: &str| call[key].as_str().unwrap().to_owned();
    let mut stages: Vec<_> = calls.iter().map(|call| (text(call, "method"), text(call, "stage"))).collect();
    stages.sort();
    stages
}

fn pair(method: &str, stage: &str) -> (String, String) {
    (method.to_owned(), stage.to_owned())
}

#[test]
fn each_call_has_a_stage_and_can_be_cancelled() {
    let _turn = shared();
    // One call is given to the worker ahead of the one that it runs; the next waits in the run queue.
    let rig = rig(|builder| builder.configure(|config| config.limits.look_ahead_us = 1));
    let client = rig.client();
    let null = || client.start_bytes("Slow.Pooled", Codec::Json, b"null");
    let mut pooled = vec![null()];
    eventually("the first call is handed over", || rig.live_calls().len() == 1);
    pooled.extend([null(), null(), null()]);
    let limited = client.with_timeout(Duration::from_secs(500));
    let sleeping = limited.start_bytes("Slow.Sleep", Codec::Json, b"null");
    let mut stream = client.server_stream_bytes("Slow.Stream", Codec::Json, b"2").unwrap();
    assert_eq!(stream.next().unwrap().unwrap(), b"0");
    eventually("all calls are listed", || rig.live_calls().len() == 6);
    let calls = rig.live_calls();
    let found = stages(&calls);
    assert!(found.contains(&pair("Slow.Pooled", "queued")), "{found:?}");
    assert!(found.contains(&pair("Slow.Pooled", "running")), "{found:?}");
    assert!(found.contains(&pair("Slow.Sleep", "running")), "{found:?}");
    assert!(found.contains(&pair("Slow.Stream", "streaming")), "{found:?}");
    let sleep = calls.iter().find(|call| call["method"] == "Slow.Sleep").unwrap();
    let left = sleep["time_left_us"].as_u64().unwrap();
    assert!((400_000_000..500_000_000).contains(&left), "{left}");
    assert!(calls[0]["time_left_us"].is_null() && sleep["protocol"] == "native", "{sleep}");
    let ages: Vec<u64> = calls.iter().map(|call| call["age_us"].as_u64().unwrap()).collect();
    assert!(ages.is_sorted_by(|one, other| one >= other), "the oldest first: {ages:?}");
    // Filters.
    let of = |query: &str| rig.json(&format!("/calls?{query}"))["calls"].as_array().unwrap().len();
    assert_eq!(
        (of("method=Sleep"), of("stage=streaming"), of("peer=127.0.0.1"), of("peer=10.")),
        (1, 1, 6, 0)
    );

    // A call that sleeps, one that waits, one that streams.
    assert_eq!(rig.cancel(sleep), 200);
    assert_eq!(sleeping.wait().unwrap_err().code(), Code::Cancelled);
    eventually("its work ends", || of("method=Sleep") == 0);
    assert_eq!(rig.cancel(sleep), 404, "the call has ended");
    let queued = calls.iter().find(|call| call["stage"] == "queued").unwrap();
    assert_eq!(rig.cancel(queued), 200);
    let streaming = calls.iter().find(|call| call["stage"] == "streaming").unwrap();
    assert_eq!(rig.cancel(streaming), 200);
    let status = stream.find_map(Result::err).unwrap();
    assert!(status.code == Code::Cancelled && status.message.contains("operator"), "{status:?}");
    // A handler that does not look: its call is answered, and its work goes on.
    let running =
        calls.iter().find(|call| call["stage"] == "running" && call["method"] == "Slow.Pooled").unwrap();
    assert_eq!(rig.cancel(running), 200);
    eventually("the call was answered", || stages(&rig.live_calls()).contains(&pair("Slow.Pooled", "ended")));
    assert_eq!(rig.cancel(running), 404);
    rig.door.open();
    let results: Vec<bool> = pooled.into_iter().map(|call| call.wait().is_ok()).collect();
    assert_eq!(results.iter().filter(|is_ok| **is_ok).count(), 2, "two of four were cancelled: {results:?}");
    eventually("nothing is in flight", || rig.live_calls().is_empty());
    let stats = rig.server.stats();
    assert_eq!(stats.cancelled, 4);
}

#[test]
fn a_reactor_that_hangs_is_named_and_does_not_hang_the_page() {
    let _turn = shared();
    let rig = rig(|builder| builder);
    let client = rig.client();
    let hanging = client.start_bytes("Slow.Inline", Codec::Json, b"null");
    eventually("the reactor hangs", || rig.json("/calls")["silent_reactors"] == json!([0]));
    for path in ["/connections", "/queues"] {
        assert_eq!(rig.json(path)["silent_reactors"], json!([0]), "{path}");
        let text = rig.get(path, &[]).body;
        assert!(text.contains("Not answered within 1 s: reactor 0"), "{text}");
    }
    // These do not need it.
    for path in ["/", "/reactors", "/config", "/methods", "/traces", "/metrics"] {
        assert_eq!(rig.get(path, &[]).status, 200, "{path}");
    }
    rig.door.open();
    hanging.wait().unwrap();
    assert_eq!(rig.json("/calls")["silent_reactors"], json!([]));
}

#[test]
fn connections_reactors_and_queues_show_what_the_server_does() {
    let _turn = shared();
    let rig = rig(|builder| builder);
    let client = rig.client();
    for _ in 0..1_000 {
        assert_eq!(client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A":6,"B":7}"#).unwrap(), b"42");
    }
    let waiting = client.start_bytes("Slow.Blocking", Codec::Json, b"null");
    eventually("the call is in flight", || rig.json("/connections")["connections"][0]["in_flight"] == 1);
    let connections = rig.json("/connections");
    let one = &connections["connections"][0];
    assert_eq!((one["protocol"].as_str(), one["state"].as_str()), (Some("native"), Some("serving")));
    assert!(
        one["peer"].as_str().unwrap().starts_with("127.0.0.1:") && connections["open"] == 1,
        "{connections}"
    );
    assert_eq!(rig.json("/connections?protocol=grpc")["connections"], json!([]));
    let queues = rig.json("/queues");
    let blocking =
        queues["queues"].as_array().unwrap().iter().find(|queue| queue["pool"] == "blocking").unwrap();
    assert_eq!((blocking["running"].as_u64(), blocking["waiting"].as_u64()), (Some(1), Some(0)));
    let overview = rig.json("/");
    let multiply =
        overview["methods"].as_array().unwrap().iter().find(|one| one["name"] == "Arith.Multiply").unwrap();
    assert_eq!(multiply["calls"], 1_000);
    eventually("a second passes", || !rig.json("/")["history"].as_array().unwrap().is_empty());
    let reactor = &rig.json("/reactors")["reactors"][0];
    let shares: f64 =
        reactor["stages"].as_array().unwrap().iter().map(|stage| stage[1].as_f64().unwrap()).sum();
    assert!((0.99..1.01).contains(&shares) || shares == 0.0, "{reactor}");
    rig.door.open();
    waiting.wait().unwrap();
}

/// Calls through the console, and returns its lines.
fn console_call(rig: &Rig, order: &Value) -> Vec<Value> {
    let answer = rig.post("/call", &[("Content-Type", "application/json")], &order.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_console_calls_methods_of_every_shape() {
    let _turn = shared();
    // None of the listeners serves native frames or JSON.
    let rig = rig(|builder| builder.configure(|_| {}));
    let order = |method: &str, arguments: &[&str]| json!({ "method": method, "arguments": arguments });
    let lines = console_call(&rig, &order("Arith.Multiply", &["{\"A\":6,\"B\":7}"]));
    assert_eq!((lines.len(), &lines[0]), (2, &json!({ "message": "42" })));
    let end = &lines[1]["end"];
    assert!(end["code"] == "ok" && end["handler_us"].is_u64() && end["total_us"].as_u64() > Some(0), "{end}");
    // Numbers keep their digits.
    let large = "{\"A\":9007199254740993,\"B\":1}";
    assert_eq!(console_call(&rig, &order("Arith.Multiply", &[large]))[0]["message"], "9007199254740993");
    let text = "\"<b>\\\" \\n \u{20ac}\"";
    assert_eq!(console_call(&rig, &order("Echo.Echo", &[text]))[0]["message"], text);
    let failed = console_call(&rig, &order("Arith.Divide", &["{\"A\":1,\"B\":0}"]));
    assert_eq!(failed[0]["end"]["code"], "invalid_argument");
    assert!(failed[0]["end"]["text"].as_str().unwrap().contains("divide by zero"));
    let stream = console_call(&rig, &order("Users.Watch", &["3"]));
    assert_eq!((stream.len(), &stream[3]["end"]["code"]), (4, &json!("ok")));
    let sum = console_call(&rig, &order("Many.Sum", &["1", "2", "39"]));
    assert_eq!(sum[0]["message"], "42");
    let late = json!({ "method": "Slow.Sleep", "arguments": ["null"], "timeout_ms": 20 });
    assert_eq!(console_call(&rig, &late)[0]["end"]["code"], "deadline_exceeded");
    let unknown = rig.post("/call", &[], &order("No.Such", &["null"]).to_string());
    assert!(unknown.status == 404 && unknown.body.contains("No.Such"), "{}", unknown.body);
    for (body, part) in
        [("", "EOF"), ("{}", "method"), ("{\"method\":\"Echo.Echo\",\"arguments\":[\"{\"]}", "not JSON")]
    {
        let refused = rig.post("/call", &[], body);
        assert!(refused.status == 400 && refused.body.contains(part), "{body}: {}", refused.body);
    }
}

#[test]
fn a_console_that_leaves_cancels_its_call() {
    let _turn = shared();
    let rig = rig(|builder| builder);
    for (method, argument) in [("Slow.Sleep", "null"), ("Slow.Stream", "1")] {
        let body = json!({ "method": method, "arguments": [argument], "timeout_ms": 600_000 }).to_string();
        let stream = open(&rig.admin(), "POST", "/call", &[], &body);
        eventually("the call is in flight", || {
            rig.live_calls().iter().any(|call| call["method"] == method && call["peer"] == "memory")
        });
        drop(stream);
        eventually("the call has ended", || rig.live_calls().is_empty());
    }
}

#[test]
fn messages_reach_the_console_as_they_are_sent() {
    let _turn = shared();
    let rig = rig(|builder| builder);
    let body = json!({ "method": "Slow.Stream", "arguments": ["2"] }).to_string();
    let mut stream = BufReader::new(open(&rig.admin(), "POST", "/call", &[], &body));
    assert!(head(&mut stream).contains("application/x-ndjson"));
    // The handler sleeps after these.
    assert_eq!(chunk(&mut stream).unwrap(), "{\"message\":\"0\"}\n");
    assert_eq!(chunk(&mut stream).unwrap(), "{\"message\":\"1\"}\n");
}

#[test]
fn pages_and_metrics_are_served_while_the_server_drains() {
    let _turn = shared();
    let rig = rig(|builder| builder.configure(|config| config.limits.drain_ms = 60_000));
    let (admin, client) = (rig.admin(), rig.client());
    let waiting = client.start_bytes("Slow.Blocking", Codec::Json, b"null");
    eventually("the call is in flight", || rig.live_calls().len() == 1);
    let (stopper, door) = (rig.server.stopper(), rig.door.clone());
    let get = |path: &str| request(&admin, "GET", path, &[], "");
    std::thread::scope(|scope| {
        let mut rig = rig;
        let server =
            std::mem::replace(&mut rig.server, coreloop::Server::builder().in_memory().start().unwrap());
        let ended = scope.spawn(move || server.wait().unwrap());
        stopper.stop();
        eventually("the overview says that the server drains", || get("/").body.contains("draining"));
        let metrics = get("/metrics");
        assert!(metrics.status == 200 && metrics.body.contains("# HELP"), "{}", metrics.body);
        let calls = get("/calls?format=json").json();
        assert_eq!(calls["calls"][0]["method"], "Slow.Blocking");
        door.open();
        waiting.wait().unwrap();
        let began = Instant::now();
        ended.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "the console does not hold up the drain");
    });
}

#[test]
fn no_call_fails_on_400_connections_while_pages_are_open() {
    let _turn = shared();
    const CONNECTIONS: usize = 400;
    const CALLS_EACH: usize = 25;
    let rig = rig(|builder| builder);
    let (admin, address) = (rig.admin(), rig.server.addresses()[0].to_string());
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let console = scope.spawn(|| {
            let mut looks = 0;
            let mut events = BufReader::new(open(&admin, "GET", "/events?page=/connections", &[], ""));
            head(&mut events);
            assert!(chunk(&mut events).unwrap().contains("event: region"));
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) || looks == 0 {
                for path in ["/", "/calls", "/connections", "/queues", "/reactors", "/methods", "/metrics"] {
                    let answer = request(&admin, "GET", path, &[("Accept", "text/html")], "");
                    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
                    looks += 1;
                }
            }
            looks
        });
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let address = &address;
                scope.spawn(move || {
                    let connect = || coreloop::client::Direct::connect(address).unwrap();
                    let mut clients: Vec<_> = (0..CONNECTIONS / 8).map(|_| connect()).collect();
                    for _ in 0..CALLS_EACH {
                        for client in &mut clients {
                            let reply = client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A":6,"B":7}"#);
                            assert_eq!(reply.unwrap(), b"42");
                        }
                    }
                    clients
                })
            })
            .collect();
        let clients: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        eventually("all connections are listed", || {
            rig.json("/connections")["connections"].as_array().unwrap().len() >= CONNECTIONS
        });
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        drop(clients);
        console.join().unwrap()
    });
    assert!(looks >= 7);
    let stats = rig.server.stats();
    let multiply = stats.method("Arith.Multiply").unwrap();
    assert_eq!(multiply.answered(Code::Ok), (CONNECTIONS * CALLS_EACH) as u64);
    assert!(stats.refused.is_empty() && stats.dropped == 0, "{stats:?}");
}
