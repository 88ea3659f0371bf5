//! HTTP helpers of tests: answers of a raw connection, and external tools.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;

use super::{PATIENCE, Served};

/// An answer, delimited by its Content-Length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Returns the value of the field with that name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A connection that sends the given bytes unchanged.
pub struct Raw<S = TcpStream>(pub S);

impl Raw {
    pub fn connect(server: &Served) -> Raw {
        Raw::to(server.address())
    }

    pub fn to(address: &str) -> Raw {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        stream.set_nodelay(true).expect("a socket has the option");
        Raw(stream)
    }
}

impl<S: Read + Write> Raw<S> {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).expect("it reads");
    }

    /// Returns the next answer. `is_bodiless`: it answers a HEAD.
    pub fn next(&mut self, is_bodiless: bool) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {head:?}"));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("a head is text");
        let status = head[9..12].parse().expect("a status");
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.field("Content-Length").map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; if is_bodiless { 0 } else { length }];
        self.0.read_exact(&mut body).expect("its body comes");
        answer.body = String::from_utf8(body).expect("a body is text");
        answer
    }

    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.next(false)
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.read(&mut [0]).expect("the end comes") == 0
    }
}

/// A POST of JSON with additional fields, each with its CRLF.
pub fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Returns whether a tool is installed. With `CI` set it must be; otherwise the test prints that it is skipped.
pub fn has_tool(program: &str, version: &str) -> bool {
    let found = Command::new(program).arg(version).output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is not installed");
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// Runs curl, with `-s` and a time limit.
pub fn curl(args: &[&str]) -> Output {
    let limit = Duration::as_secs(&PATIENCE).to_string();
    Command::new("curl").args(["-s", "-S", "--max-time", &limit]).args(args).output().expect("curl runs")
}

/// Returns curl's output.
pub fn curled(args: &[&str]) -> String {
    let output = curl(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
