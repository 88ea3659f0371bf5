//! The binary under test: run to its end, or served until it is stopped.
//!
//! Nothing here waits for a fixed time; every wait is for a line, a frame or an end, with a bound that fails the
//! test.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod http;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longer than any operation here takes; a wait of this length has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary with these arguments, and without `CORELOOP_` variables in its environment.
pub fn coreloop(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coreloop"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CORELOOP_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// The result of a finished run.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is text");
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs the binary to its end.
pub fn run(args: &[&str]) -> Ran {
    coreloop(args).output().expect("the binary runs").into()
}

/// Runs the binary with this text on standard input.
pub fn run_with_input(args: &[&str], input: &str) -> Ran {
    let command = &mut coreloop(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads its input");
    child.wait_with_output().expect("it ends").into()
}

/// Runs the binary with a standard input that stays open and has nothing to read.
pub fn run_with_open_input(args: &[&str]) -> Ran {
    let command = &mut coreloop(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let input = child.stdin.take();
    let ran = child.wait_with_output().expect("it ends").into();
    drop(input);
    ran
}

/// A server in a separate process, killed if the test ends before it.
pub struct Served {
    pub pid: u32,
    pub addresses: Vec<String>,
    ended: mpsc::Receiver<ExitStatus>,
    has_ended: bool,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Served {
    /// Serves on a free port of this machine.
    pub fn start(args: &[&str]) -> Served {
        let mut command = coreloop(&["serve", "--listen", "127.0.0.1:0"]);
        command.args(args);
        Served::start_command(command, 1)
    }

    /// Starts the command and waits until this many listeners are ready.
    pub fn start_command(mut command: Command, listeners: usize) -> Served {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let stderr = thread::spawn(move || read_to_end(stderr));
        let mut stdout = BufReader::new(stdout);
        let mut addresses = Vec::new();
        for _ in 0..listeners {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("standard output is text");
            match line.strip_prefix("listening on ") {
                Some(address) => addresses.push(address.trim_end().to_owned()),
                None => {
                    let _ = child.kill();
                    panic!("expected `listening on ADDR`, got {line:?}; {}", stderr.join().expect("read"));
                }
            }
        }
        let stdout = thread::spawn(move || read_to_end(stdout));
        let (pid, ended) = (child.id(), on_end(child));
        Served { pid, addresses, ended, has_ended: false, stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// Returns the first address on which it listens.
    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid.to_string()]).status();
        assert!(status.expect("kill runs").success(), "cannot signal {}", self.pid);
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ran {
        let status = self.ended.recv_timeout(PATIENCE).expect("the server ends");
        self.has_ended = true;
        let text =
            |thread: Option<JoinHandle<String>>| thread.expect("waited for once").join().expect("read");
        Ran { code: status.code(), stdout: text(self.stdout.take()), stderr: text(self.stderr.take()) }
    }

    /// Requests a stop and waits for the end.
    pub fn stop(self) -> Ran {
        // A server that has already ended cannot be signalled; `wait` reports the reason.
        let _ = Command::new("kill").args(["-s", "TERM", &self.pid.to_string()]).status();
        self.wait()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !self.has_ended && self.ended.try_recv().is_err() {
            let _ = Command::new("kill").args(["-s", "KILL", &self.pid.to_string()]).status();
        }
    }
}

impl Ran {
    /// Returns a number of the summary that a server prints at its end.
    pub fn summary(&self, name: &str) -> u64 {
        let line = self.stderr.lines().find(|line| line.starts_with("coreloop: drained in "));
        let line = line.unwrap_or_else(|| panic!("there is no summary in {}", self.stderr));
        let after = line.split([' ', ',', '(', ')']).skip_while(|word| *word != name).nth(1);
        after.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
    }
}

fn on_end(mut child: Child) -> mpsc::Receiver<ExitStatus> {
    let (send, ended) = mpsc::channel();
    thread::spawn(move || {
        // The test may have ended before.
        let _ = send.send(child.wait().expect("it was not waited for"));
    });
    ended
}

fn read_to_end(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("the output is text");
    text
}
