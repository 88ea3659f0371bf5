//! Receivers of an export, which write what they receive to a file: a real OpenTelemetry Collector, and a program that decodes
//! it strictly with the official definitions.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;

pub struct Collector {
    program: Program,
    port: u16,
    folder: TempDir,
    child: Option<Child>,
}

enum Program {
    /// The binary of an OpenTelemetry Collector.
    Real(PathBuf),
    /// `tests/python/otlp_receiver.py`.
    Strict,
}

impl Collector {
    /// Starts a Collector, if it was built (`tests/peers/collector.sh`); otherwise the strict receiver.
    pub fn start() -> Option<Collector> {
        Collector::prepare().map(Collector::started)
    }

    /// Starts the receiver that refuses what breaks a rule of the official definitions.
    pub fn start_strict() -> Option<Collector> {
        Collector::prepare_strict().map(Collector::started)
    }

    fn started(mut self) -> Collector {
        // Another process may take the port meanwhile.
        for _ in 0..5 {
            self.port = free_port();
            if self.run() {
                return self;
            }
        }
        panic!("the collector does not start: {}", self.log());
    }

    /// Chooses a port and starts nothing.
    pub fn prepare() -> Option<Collector> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/collector.sh");
        // Building it takes minutes.
        let output = Command::new(script).arg("--if-built").output().unwrap();
        if !output.status.success() {
            return Collector::prepare_strict();
        }
        let binary = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        Some(Collector::of(Program::Real(binary)))
    }

    fn prepare_strict() -> Option<Collector> {
        has_python("google.protobuf, opentelemetry.proto").then(|| Collector::of(Program::Strict))
    }

    fn of(program: Program) -> Collector {
        Collector { program, port: free_port(), folder: TempDir::new().unwrap(), child: None }
    }

    /// Starts the process. Returns false if it has ended.
    pub fn run(&mut self) -> bool {
        let (port, path) = (self.port, self.folder.path().join("received"));
        let mut command = match &self.program {
            Program::Real(binary) => {
                let config = format!(
                    "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}}}, exporters: {{file: {{path: '{}'}}}}, service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}, metrics: {{receivers: [otlp], exporters: [file]}}}}}}}}",
                    path.display()
                );
                let mut command = Command::new(binary);
                command.args(["--config", &config]);
                command
            }
            Program::Strict => {
                let mut command = python("otlp_receiver.py");
                command.arg(port.to_string()).arg(&path);
                command
            }
        };
        let log = File::create(self.folder.path().join("log")).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
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

    /// Returns the requests that were received: the collector's own JSON of them. Fails the test if one breaks a rule.
    pub fn received(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("received")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let requests: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let faults: Vec<_> = requests.iter().filter(|request| !request["faults"].is_null()).collect();
        assert!(faults.is_empty(), "{faults:#?}");
        requests
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

/// Returns a command that runs a program of `tests/python`.
pub fn python(program: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(program));
    command
}

/// Returns whether Python has these modules. With `CI` set it must; otherwise the test prints that it is skipped.
pub fn has_python(modules: &str) -> bool {
    let output = Command::new("python3").args(["-c", &format!("import {modules}")]).output();
    let is_there = output.is_ok_and(|output| output.status.success());
    assert!(is_there || std::env::var_os("CI").is_none(), "python3 has not all of: {modules}");
    if !is_there {
        eprintln!("SKIPPED: python3 has not all of: {modules}");
    }
    is_there
}

/// Returns the program of `tests/go/otel`, built once for the whole run. With `CI` set there must be Go; otherwise the test prints
/// that it is skipped.
pub fn go_program() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let program = BUILT.get_or_init(|| {
        if Command::new("go").arg("version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "Go is not installed");
            return None;
        }
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("otel");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go/otel");
        let build =
            Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source).output();
        let build = build.unwrap();
        assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        Some(program)
    });
    if program.is_none() {
        eprintln!("SKIPPED: Go is not installed");
    }
    program.clone()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
