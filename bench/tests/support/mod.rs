//! Runs `loadgen`, and provides minimal servers to run it against.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use coreloop_bench::frame::{self, Header, Next, REPLY};
use coreloop_bench::process::Guarded;
use serde_json::Value;
use tempfile::TempDir;

/// The results of a run.
pub struct Run {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// The output of `--json`, or null.
    pub json: Value,
    /// The output of `--report`, or empty.
    pub page: String,
}

/// A run in progress.
pub struct Running {
    child: Guarded,
    folder: TempDir,
    /// The standard output that [`Running::wait_for`] has read.
    seen: String,
}

/// Starts a run with separate output files.
pub fn start(arguments: &[&str]) -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments)
        .args(["--json", "figures.json", "--report", "page.html"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Running { child: Guarded(child.expect("it starts")), folder, seen: String::new() }
}

/// Starts a run against an address.
pub fn spawn(address: &str, arguments: &str) -> Running {
    start(&[address].into_iter().chain(arguments.split_whitespace()).collect::<Vec<_>>())
}

/// Runs it against an address, to its end.
pub fn loadgen(address: &str, arguments: &str) -> Run {
    spawn(address, arguments).finish()
}

impl Run {
    /// Runs it with these arguments, to its end.
    pub fn of(arguments: &[&str]) -> Run {
        start(arguments).finish()
    }
}

impl Running {
    /// Interrupts it, as Ctrl-C does.
    pub fn interrupt(&self) {
        // SAFETY: no pointers; the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.0.id() as libc::pid_t, libc::SIGINT) }, 0);
    }

    /// Waits until its standard output contains this text.
    pub fn wait_for(&mut self, text: &str) {
        let stdout = self.child.0.stdout.as_mut().expect("asked for a pipe");
        let mut bytes = Vec::new();
        while !self.seen.contains(text) {
            let mut chunk = [0; 512];
            let read = stdout.read(&mut chunk).expect("it can be read");
            assert!(read > 0, "it ended without {text}: {}", self.seen);
            bytes.extend_from_slice(&chunk[..read]);
            self.seen = String::from_utf8_lossy(&bytes).into_owned();
        }
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Run {
        let mut stderr = self.child.0.stderr.take().expect("asked for a pipe");
        let errors = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let mut stdout = std::mem::take(&mut self.seen);
        self.child.0.stdout.take().expect("asked for a pipe").read_to_string(&mut stdout).expect("text");
        let status = self.child.0.wait().expect("it ends");
        let file = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        Run {
            code: status.code(),
            stdout,
            stderr: errors.join().expect("no panic").expect("text"),
            json: serde_json::from_str(&file("figures.json")).unwrap_or(Value::Null),
            page: file("page.html"),
        }
    }
}

/// A server whose behaviour the test defines for each connection.
pub struct Fake {
    pub address: String,
    answered: Receiver<()>,
}

/// One connection of a [`Fake`].
pub struct Connection {
    stream: TcpStream,
    answered: Sender<()>,
}

impl Fake {
    /// Serves until the test ends; its threads end with the process.
    pub fn start(serve: impl Fn(Connection) + Clone + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let (sender, answered) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let connection = Connection { stream, answered: sender.clone() };
                let serve = serve.clone();
                thread::spawn(move || serve(connection));
            }
        });
        Fake { address, answered }
    }

    /// Waits until this many calls have been answered.
    pub fn wait_for_calls(&self, calls: usize) {
        assert_eq!(self.answered.iter().take(calls).count(), calls);
    }
}

impl Connection {
    /// Answers this number of calls, then closes.
    pub fn answer(&mut self, calls: u64) {
        self.answer_frames(calls, std::time::Duration::ZERO);
    }

    /// Answers this number of calls, each after a pause, one after the other.
    pub fn answer_frames(&mut self, calls: u64, pause: std::time::Duration) {
        let mut bytes = Vec::new();
        let mut left = calls;
        let mut chunk = [0; 4096];
        while left > 0 {
            match self.stream.read(&mut chunk) {
                Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
                _ => return,
            }
            let mut used = 0;
            while let Next::Frame { header, len, .. } = frame::next(&bytes[used..]) {
                let reply = Header { kind: REPLY, word: 0, body_bytes: 0, metadata_bytes: 0, ..header };
                if !pause.is_zero() {
                    thread::sleep(pause);
                }
                if left == 0 || self.stream.write_all(&reply.to_bytes()).is_err() {
                    return;
                }
                let _ = self.answered.send(());
                left -= 1;
                used += len;
            }
            bytes.drain(..used);
        }
    }

    /// Writes what `answer` makes of each frame's header; a single byte of it ends the connection.
    pub fn converse(&mut self, answer: &dyn Fn(&Header) -> Vec<u8>) {
        self.converse_by_frame(&|header, _| answer(header));
    }

    /// As [`Connection::converse`], with the bytes of the frame.
    pub fn converse_by_frame(&mut self, answer: &dyn Fn(&Header, &[u8]) -> Vec<u8>) {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
                _ => return,
            }
            let mut used = 0;
            while let Next::Frame { header, len, .. } = frame::next(&bytes[used..]) {
                let words = answer(&header, &bytes[used..used + len]);
                if words.len() == 1 || self.stream.write_all(&words).is_err() {
                    return;
                }
                used += len;
            }
            bytes.drain(..used);
        }
    }

    /// Reads up to the bytes `asked`, writes `words`, and closes.
    pub fn answer_once(&mut self, asked: &[u8], words: &[u8]) {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        while !bytes.ends_with(asked) {
            match self.stream.read(&mut chunk) {
                Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
                _ => return,
            }
        }
        let _ = self.stream.write_all(words);
    }

    /// Reads everything, and writes nothing.
    pub fn swallow(&mut self) {
        let _ = std::io::copy(&mut self.stream, &mut std::io::sink());
    }

    /// Writes this in response to any input, and continues to read.
    pub fn say(&mut self, words: &[u8]) {
        if self.stream.read(&mut [0; 64]).is_ok() && self.stream.write_all(words).is_ok() {
            self.swallow();
        }
    }
}

/// Asserts that all tags of the page are closed in order, and that nothing in it refers to another file.
pub fn assert_stands_alone(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    for outside in ["http://", "https://", "src=", "href=", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside} in the page");
    }
    let mut open = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap_or_default();
        if tag.starts_with('!') || tag.ends_with('/') {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes what it should");
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} are never closed");
}
