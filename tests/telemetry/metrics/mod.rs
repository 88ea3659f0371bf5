//! `/metrics`: the page, what it counts, and the programs that read it.

mod bounds;
mod documents;
mod page;
mod prometheus;
mod scrapes;
mod sources;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use coreloop::demo;
use coreloop::reactor::Address;
use coreloop::server::{Server, ServerBuilder};
use serde_json::Value;

use crate::common::PATIENCE;

/// What Prometheus sends.
const OPEN_METRICS: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const TEXT: &str = "text/plain;version=0.0.4";

/// Returns a server of the demo services with an admin listener.
fn builder() -> ServerBuilder {
    demo::services(Server::builder())
        .listen("127.0.0.1:0")
        .configure(|config| config.admin.listen = "127.0.0.1:0".to_owned())
        .cores(1)
        .workers(1)
}

/// Sends a request, and returns the head and the body of the response.
fn request(address: &Address, method: &str, fields: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address.to_string()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{method} /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect("a response");
    (head.to_owned(), body.to_owned())
}

/// Returns the metrics of a server.
fn scrape(server: &Server, accept: &str) -> String {
    let (head, body) = request(server.admin_address().unwrap(), "GET", &format!("Accept: {accept}\r\n"));
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body
}

/// Returns the sum of the samples with that name whose labels include this text.
fn sum(text: &str, name: &str, label: &str) -> u64 {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let lines = text.lines().filter(of_name).filter(|line| line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

/// Returns whether a program is there. With `CI` set it must be; otherwise the test prints that it is skipped.
fn is_there(what: &str, check: &mut Command) -> bool {
    let check = check.stdout(Stdio::null()).stderr(Stdio::null());
    let is_found = check.status().is_ok_and(|status| status.success());
    assert!(is_found || std::env::var_os("CI").is_none(), "{what} is not available");
    if !is_found {
        eprintln!("SKIPPED: {what} is not available");
    }
    is_found
}

/// Runs a command with this text as its input.
fn run(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // The command may write before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

/// Has promtool check metrics in Prometheus's text format; it must find nothing.
fn check_with_promtool(text: &str) {
    if is_there("promtool", Command::new("promtool").arg("--version")) {
        let output = run(Command::new("promtool").args(["check", "metrics"]), text);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    }
}

/// Has the strict parser read OpenMetrics; returns its samples. `None` without the parser.
fn parse_strictly(text: &str) -> Option<Vec<Value>> {
    let found = &mut Command::new("python3");
    if !is_there("prometheus_client", found.args(["-c", "import prometheus_client.openmetrics.parser"])) {
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/openmetrics.py");
    let output = run(Command::new("python3").arg(script), text);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    Some(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}
