//! A real OpenTelemetry Collector, which writes what it receives to a file.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;

pub struct Collector {
    binary: PathBuf,
    port: u16,
    folder: TempDir,
    child: Option<Child>,
}

impl Collector {
    /// Starts it, if it was built (`tests/peers/collector.sh`).
    pub fn start() -> Option<Collector> {
        let mut collector = Collector::prepare()?;
        // Another process may take the port meanwhile.
        for _ in 0..5 {
            collector.port = free_port();
            if collector.run() {
                return Some(collector);
            }
        }
        panic!("the collector does not start: {}", collector.log());
    }

    /// Chooses a port and starts nothing.
    pub fn prepare() -> Option<Collector> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/collector.sh");
        // Building it takes minutes.
        let output = Command::new(script).arg("--if-built").output().unwrap();
        if !output.status.success() {
            eprintln!("SKIPPED: no collector; tests/peers/collector.sh builds it");
            return None;
        }
        let binary = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        Some(Collector { binary, port: free_port(), folder: TempDir::new().unwrap(), child: None })
    }

    /// Starts the process. Returns false if it has ended.
    pub fn run(&mut self) -> bool {
        let (port, path) = (self.port, self.folder.path().join("received"));
        let config = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}}}, exporters: {{file: {{path: '{}'}}}}, service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}, metrics: {{receivers: [otlp], exporters: [file]}}}}}}}}",
            path.display()
        );
        let log = File::create(self.folder.path().join("log")).unwrap();
        let child = Command::new(&self.binary)
            .args(["--config", &config])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < until, "the collector does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Ends it, which writes all that was received.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.child.take().unwrap().wait().unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Returns the requests that were received: the collector's own JSON of them.
    pub fn received(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("received")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the spans that were received, each with its resource.
    pub fn spans(&self) -> Vec<(Value, Value)> {
        let mut spans = Vec::new();
        for request in self.received() {
            for resource in request["resourceSpans"].as_array().into_iter().flatten() {
                for scope in resource["scopeSpans"].as_array().unwrap() {
                    let all = scope["spans"].as_array().unwrap().iter();
                    spans.extend(all.map(|span| (resource["resource"].clone(), span.clone())));
                }
            }
        }
        spans
    }

    /// Returns the metrics that were received.
    pub fn metrics(&self) -> Vec<Value> {
        let requests = self.received();
        let resources = requests.iter().filter_map(|request| request["resourceMetrics"].as_array()).flatten();
        let scopes = resources.flat_map(|resource| resource["scopeMetrics"].as_array().unwrap());
        scopes.flat_map(|scope| scope["metrics"].as_array().unwrap().clone()).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns the value of an attribute of a span or a resource.
pub fn attribute<'a>(of: &'a Value, key: &str) -> &'a Value {
    let found = of["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == key);
    found.map_or(&Value::Null, |attribute| attribute["value"].as_object().unwrap().values().next().unwrap())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
