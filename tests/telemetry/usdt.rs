//! The probes at the begin and the end of calls, as tools of the kernel find them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use coreloop::service::Kind;
use coreloop::{Context, Server};

use crate::common::{Frame, PATIENCE, Peer};

#[test]
fn the_executable_describes_the_probes() {
    let executable = std::env::current_exe().unwrap();
    let output = Command::new("readelf").arg("-n").arg(executable).output().expect("readelf of binutils");
    let notes = String::from_utf8_lossy(&output.stdout);
    assert!(notes.contains("Provider: coreloop"), "{notes}");
    for (name, arguments) in [("call_begin", 3), ("call_end", 4)] {
        let probe = notes.split("Provider: coreloop").find(|note| note.contains(&format!("Name: {name}")));
        let probe = probe.unwrap_or_else(|| panic!("no probe {name}: {notes}"));
        let line = probe.lines().find(|line| line.contains("Arguments:")).unwrap();
        assert_eq!(line.matches('@').count(), arguments, "{line}");
    }
}

/// A running bpftrace, which is killed with the test.
struct Bpftrace {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Bpftrace {
    /// Attaches a program to this executable. `None` if bpftrace is not there, or the kernel does not let it run.
    fn start(program: &str) -> Option<Bpftrace> {
        let check = Command::new("bpftrace").args(["-e", "BEGIN { exit(); }"]).output();
        if !check.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: bpftrace is not available");
            return None;
        }
        let executable = std::env::current_exe().unwrap();
        let program = program.replace("usdt:", &format!("usdt:{}:", executable.display()));
        let mut child = Command::new("bpftrace")
            .args(["-B", "none", "-e", &program])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Some(Bpftrace { child, lines })
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ids of calls that no other test of this process has.
const FIRST_ID: u64 = 7_700_000;
const CALLS: u64 = 10;

#[test]
fn bpftrace_sees_each_call() {
    let Some(bpftrace) = Bpftrace::start(
        "usdt:coreloop:call_begin /arg0 >= 7700000 && arg0 < 7800000/ { printf(\"begin %d\\n\", arg0); } \
         usdt:coreloop:call_end /arg0 >= 7700000 && arg0 < 7800000/ { printf(\"end %d %d\\n\", arg0, arg1); }",
    ) else {
        return;
    };
    let server = Server::builder()
        .cores(1)
        .method_of_kind("Probed.Inline", Kind::Inline, |_cx: &Context<'_>, number: i64| Ok(number))
        .method_of_kind("Probed.Pooled", Kind::Pooled, |_cx: &Context<'_>, number: i64| Ok(number))
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let mut peer = Peer::connect(&server.addresses()[0]);
    // Until it has attached.
    let until = Instant::now() + PATIENCE;
    while bpftrace.lines.try_iter().all(|line| !line.starts_with("end ")) {
        assert!(Instant::now() < until, "bpftrace sees no call");
        assert_eq!(peer.ask(&Frame::call(FIRST_ID, "Probed.Inline", 7)).number(), 7);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut expected = Vec::new();
    for id in FIRST_ID + 1..=FIRST_ID + CALLS {
        let method = if id % 2 == 0 { "Probed.Inline" } else { "Probed.Pooled" };
        assert_eq!(peer.ask(&Frame::call(id, method, 7)).number(), 7);
        // The second number is the code.
        expected.extend([format!("begin {id}"), format!("end {id} 0")]);
    }
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let line = bpftrace.lines.recv_timeout(PATIENCE).expect("a line for each begin and end");
        let mut words = line.split(' ');
        if matches!(words.next(), Some("begin" | "end")) && words.next() != Some(&FIRST_ID.to_string()) {
            seen.push(line);
        }
    }
    // Calls on several threads: their lines may change places.
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    server.shutdown();
}
