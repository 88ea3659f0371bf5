//! Programs in processes of their own, which end when their input does: servers of this binary, and peers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::config::TraceConfig;
use coreloop::service::Kind;
use coreloop::trace::Tracer;
use coreloop::{Context, Server, Status};
use serde::{Deserialize, Serialize};

use super::PATIENCE;

/// The variable that has the name of the server's method, and then the next server's method and address if it calls one.
const METHODS: &str = "CORELOOP_TEST_METHODS";

/// What the last program of a chain has received, which the others pass on.
#[derive(Serialize, Deserialize)]
struct Seen {
    number: i64,
    baggage: BTreeMap<String, String>,
    state: String,
}

/// A running program, which is killed if the test ends before it.
pub struct Program {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts a program that exports under this name.
    pub fn start(mut command: Command, service: &str, collector: &str) -> Program {
        let mut child = exporting(&mut command, service, collector)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Program { child, lines }
    }

    /// Returns the rest of the next line that begins so.
    #[track_caller]
    pub fn line(&mut self, prefix: &str) -> String {
        loop {
            let line = self.lines.next().unwrap_or_else(|| panic!("no line begins with {prefix:?}")).unwrap();
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
    }

    /// Returns its resident memory in bytes.
    pub fn resident_bytes(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    /// Ends it, which exports its last spans.
    #[track_caller]
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return assert!(status.success(), "{status}");
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sets the variables of OpenTelemetry, the same for every SDK.
pub fn exporting<'a>(command: &'a mut Command, service: &str, collector: &str) -> &'a mut Command {
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        .env("OTEL_SERVICE_NAME", service)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
}

/// Returns the command of a server with one method, which doubles a number, or calls the method of the next server.
pub fn server(method: &str, next: Option<(&str, &str)>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process::serve", "--ignored", "--nocapture", "--test-threads=1"]);
    let (next_method, address) = next.unwrap_or_default();
    command.env(METHODS, format!("{method} {next_method} {address}"));
    command
}

#[test]
#[ignore = "a server process of the other tests"]
fn serve() {
    let Ok(methods) = std::env::var(METHODS) else { return };
    let [method, next_method, address] = methods.split(' ').collect::<Vec<_>>()[..] else { panic!() };
    let mut builder = Server::builder()
        .cores(2)
        .workers(1)
        .listen("127.0.0.1:0")
        .configure(|config| config.admin.listen = "127.0.0.1:0".to_owned());
    if address.is_empty() {
        let double = |_cx: &Context<'_>, number: i64| Ok(2 * number);
        builder = builder.method_of_kind(method, Kind::Inline, double);
    } else {
        let mut config = TraceConfig::default();
        config.send_b3 = true;
        let tracer = Tracer::new(&config);
        let client = Client::builder(address).tracer(&tracer).build().unwrap();
        let next_method = next_method.to_owned();
        let call = move |cx: &Context<'_>, number: i64| -> Result<Seen, Status> {
            let argument = number.to_string();
            let reply = cx.client(&client).call_bytes(&next_method, Codec::Json, argument.as_bytes())?;
            serde_json::from_slice(&reply).map_err(|error| Status::internal(error.to_string()))
        };
        builder = builder.tracer(tracer).method_of_kind(method, Kind::Blocking, call);
    }
    let server = builder.start().unwrap();
    println!("\nlistening on {}", server.addresses()[0]);
    println!("admin on {}", server.admin_address().unwrap());
    // Until the end of the input.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    server.shutdown();
}
