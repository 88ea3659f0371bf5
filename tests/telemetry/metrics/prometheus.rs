//! A real Prometheus that scrapes a server.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coreloop::Server;
use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::config::TraceConfig;
use coreloop::trace::{FinishedSpan, SpanId, SpanKind, TraceContext, TraceId, Tracer};
use serde_json::Value;
use tempfile::TempDir;

use super::{builder, is_there};

/// Longer than Prometheus takes to start and to scrape on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running Prometheus.
struct Prometheus {
    child: Child,
    address: String,
    folder: TempDir,
}

impl Prometheus {
    /// Starts Prometheus, which scrapes the server's admin listener. `None` without Prometheus.
    fn start(server: &Server, interval: &str) -> Option<Prometheus> {
        if !is_there("prometheus", Command::new("prometheus").arg("--version")) {
            return None;
        }
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let target = server.admin_address().unwrap();
        let config = format!(
            "global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\nscrape_configs:\n- job_name: coreloop\n  static_configs:\n  - targets: ['{target}']\n"
        );
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        // The port may be taken between here and the start; then Prometheus ends, and the test says so.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--enable-feature=exemplar-storage", "--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Prometheus { child, address, folder })
    }

    /// Waits until a query of the API returns something that is accepted, and returns it.
    fn wait<T>(&mut self, path: &str, mut accept: impl FnMut(&Value) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.get(path);
            if let Some(accepted) = found.as_ref().and_then(|value| accept(&value["data"])) {
                return accepted;
            }
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(self.child.try_wait().unwrap().is_none(), "Prometheus has ended: {}", log());
            assert!(Instant::now() < until, "{path}: {found:?}; {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the sum of a query's values is what is expected.
    fn wait_for_value(&mut self, query: &str, expected: f64) {
        self.wait(&format!("query?query={}", encoded(query)), |data| {
            let values = data["result"].as_array()?.iter();
            let sum: f64 =
                values.map(|value| value["value"][1].as_str().unwrap().parse::<f64>().unwrap()).sum();
            (sum == expected).then_some(())
        });
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        // Without chunks.
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\nHost: a\r\n\r\n").ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        serde_json::from_str(response.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn multiply(client: &Client) {
    client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A":6,"B":7}"#).unwrap();
}

#[test]
fn prometheus_scrapes_what_was_counted() {
    let _turn = crate::common::shared();
    let tracer = Tracer::new(&TraceConfig::default());
    let server = builder().tracer(tracer.clone()).start().unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    (0..100).for_each(|_| multiply(&client));
    for _ in 0..7 {
        client.call_bytes("Echo.Fail", Codec::Json, br#"{"Code":5,"Message":"m"}"#).unwrap_err();
    }
    let context = TraceContext::new(TraceId::new(0xabc).unwrap(), SpanId::new(0xdef).unwrap(), true);
    let mut span = FinishedSpan::new(context, SpanKind::Server, "Arith.Multiply");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    (span.handler_us, span.start_unix_ns) = (1_000_000_000, now.as_nanos() as u64);
    tracer.writer().write(span);
    let Some(mut prometheus) = Prometheus::start(&server, "1s") else { return };
    prometheus.wait_for_value("coreloop_server_calls_total{method=\"Arith.Multiply\",code=\"ok\"}", 100.0);
    prometheus.wait_for_value("coreloop_server_calls_total{method=\"Echo.Fail\",code=\"not_found\"}", 7.0);
    prometheus.wait_for_value("sum(coreloop_server_handler_seconds_count)", 107.0);
    prometheus
        .wait_for_value("coreloop_server_handler_seconds_bucket{method=\"Echo.Fail\",le=\"+Inf\"}", 7.0);
    prometheus.wait_for_value("sum(coreloop_server_connections{protocol=\"native\"})", 1.0);
    prometheus.wait_for_value("coreloop_build_info", 1.0);
    prometheus.wait_for_value("up", 1.0);
    let kind = prometheus.wait("metadata?metric=coreloop_server_handler_seconds", |data| {
        let found = &data["coreloop_server_handler_seconds"][0];
        Some((found["type"].as_str()?.to_owned(), found["unit"].as_str()?.to_owned()))
    });
    // It has asked for OpenMetrics, the only one of the formats with units and exemplars.
    assert_eq!(kind, ("histogram".to_owned(), "seconds".to_owned()));
    let seconds = now.as_secs();
    let query = format!(
        "query_exemplars?query={}&start={}&end={}",
        encoded("coreloop_server_handler_seconds_bucket"),
        seconds - 60,
        seconds + 600
    );
    let trace = prometheus
        .wait(&query, |data| Some(data[0]["exemplars"][0]["labels"]["trace_id"].as_str()?.to_owned()));
    assert_eq!(trace, format!("{:032x}", 0xabc));
    drop(prometheus);
    server.shutdown();
}

#[test]
fn no_call_fails_while_prometheus_scrapes_a_hundred_times_a_second() {
    let _turn = crate::common::shared();
    let server = builder().start().unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    let Some(mut prometheus) = Prometheus::start(&server, "10ms") else { return };
    let mut calls = 0u64;
    // On a busy machine a scrape may exceed its 10 ms; it is among those made.
    prometheus.wait(&format!("query?query={}", encoded("count_over_time(up[10m])")), |data| {
        (0..100).for_each(|_| multiply(&client));
        calls += 100;
        let scrapes: f64 = data["result"][0]["value"][1].as_str()?.parse().unwrap();
        (scrapes >= 100.0).then_some(())
    });
    drop(prometheus);
    let stats = server.shutdown();
    let method = stats.method("Arith.Multiply").unwrap();
    assert_eq!((method.calls, method.answered(coreloop::Code::Ok)), (calls, calls));
}
